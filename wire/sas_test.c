/* SPDX-License-Identifier: Apache-2.0 */
/* Names V1..V10 and S1..S30 are those of docs/protocol/sas.md 10 and 12. */
#include "tests/unit.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/buf.h"
#include "base/secret.h"
#include "base/text.h"
#include "wire/sas.h"

#define S(x) SPAN_LIT(x)
#define K1 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define K2                                                                                         \
    "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+fw=="
#define SE ((uint64_t)4102444800)
#define SCHEME "SharedAccessSignature "
#define V1_SIG "yRhEVesrc2zNiibYV1tvBxjTqCTKQhhhsRaN8ZR2MYw%3D"
#define V1_SR "hub1.example.net%2Fdevices%2Fdev-1"
#define V1 SCHEME "sr=" V1_SR "&sig=" V1_SIG "&se=4102444800"
#define V5_SIG "pfKM0waaFdUnR7nRCQK8oLyqlaaxro2QYWQGuAZ3yQ0%3D"
#define V7_SIG "VwrDvvf21GF4OCrWTcP509TxUsnOjJwnt6MKyCpN4L8%3D"
#define V7 SCHEME "sr=0ne00000A1B%2Fregistrations%2Freg-1&sig=" V7_SIG "&se=4102444800"

static void mac(struct span key, struct span text, uint8_t ret[SAS_SIG_SIZE])
{
    unsigned n = SAS_SIG_SIZE;
    assert_non_null(HMAC(EVP_sha256(), key.p, (int)key.n, text.p, text.n, ret, &n));
}

static void key_bytes(const char *base64, struct secret *ret)
{
    assert_ok(secret_from_base64(ret, span_str(base64)));
}

static bool sig_fits(const char *token, struct span key)
{
    struct sas_token t;
    struct buf b = BUF_INIT(SAS_TO_SIGN_MAX);
    uint8_t want[SAS_SIG_SIZE];
    assert_ok(sas_parse(span_str(token), &t, NULL));
    sas_to_sign(&t, &b);
    assert_ok(buf_err(&b));
    mac(key, buf_span(&b), want);
    buf_done(&b);
    return mem_equal_ct(span_of(want, sizeof(want)), span_of(t.sig, sizeof(t.sig)));
}

static bool verifies(const char *token, const char *key_base64)
{
    struct secret k = {.n = 0};
    key_bytes(key_base64, &k);
    return sig_fits(token, secret_span(&k));
}

static void derived(const char *group_key, const char *rid, struct secret *ret)
{
    struct secret k = {.n = 0};
    uint8_t d[SAS_SIG_SIZE];
    key_bytes(group_key, &k);
    mac(secret_span(&k), span_str(rid), d);
    assert_ok(secret_set(ret, span_of(d, sizeof(d))));
}

static bool covers(const char *token, unsigned flags, size_t n, const char *const *path)
{
    const struct span hosts[] = {S("hub1.example.net"), S("alias.example.net")};
    struct span segments[8];
    struct sas_token t;
    for (size_t i = 0; i < n; i++) {
        segments[i] = span_str(path[i]);
    }
    assert_ok(sas_parse(span_str(token), &t, NULL));
    return sas_scope_covers(&t, hosts, 2, segments, n, flags);
}
#define COVERS(token, ...)                                                                         \
    covers((token), SAS_SCOPE_PLAIN, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *),       \
           (const char *[]){__VA_ARGS__})
#define TOKEN(sr) SCHEME "sr=" sr "&sig=" V1_SIG "&se=4102444800"

/* --- vectors ------------------------------------------------------------------------------ */
static const struct {
    const char *name;
    const char *key; /* NULL: derived from K2 for reg-1 */
    const char *token;
    const char *skn; /* NULL: no field */
} vectors[] = {
    /* clang-format off */
    { "V1",  K1, V1, NULL },
    { "V1j", K1, SCHEME "sig=" V1_SIG "&se=4102444800&sr=" V1_SR, NULL },
    { "V2",  K1, SCHEME "sr=hub1.example.net%2fdevices%2fdev-1&sig=bO%2bErrpXFO%2buBThb909oVCo1fd5fHtgxroPfKjg%2fyr8%3d&se=4102444800", NULL },
    { "V3",  K1, SCHEME "sr=hub1.example.net/devices/dev-1&sig=Kd4smsDOBUYZyONFZc2bNqP6w%2f%2bF2ZGkNrMLrDQAoyk%3d&se=4102444800", NULL },
    { "V4",  K1, SCHEME "sr=hub1.example.net%2Fdevices%2Fdev-1%2Fmodules%2Fmod.A&sig=8LUT5m1Jj9M3lenl7%2BlxMq43lyL4uRCaoOxdlTCNfjw%3D&se=4102444800", NULL },
    { "V5",  K2, SCHEME "sr=hub1.example.net&sig=" V5_SIG "&skn=iothubowner&se=4102444800", "iothubowner" },
    { "V6",  K1, SCHEME "sr=0ne00000A1B/registrations/reg-1&sig=bcaDqhEWEJNYhnLvClv8G63YtP3sKFO%2Ba0iavGEI%2B6k%3D&skn=registration&se=4102444800", "registration" },
    { "V7",  K1, V7 "&skn=registration", "registration" },
    { "V7j", K1, V7 "&skn=", "" },
    { "V7p", K1, V7, NULL },
    { "V8",  NULL, SCHEME "sr=0ne00000A1B%2Fregistrations%2Freg-1&sig=2yy2x5k20DcY7qf1EVXhhkJVJncsgy%2FTMich%2FtY7r%2Bw%3D&skn=registration&se=4102444800", "registration" },
    { "V9",  K2, SCHEME "sr=dps1.example.net&sig=I0P6BiE6dW%2BsJ4rz8qqzW1ZCeRWOrXwf%2BXjFm27O4E0%3D&skn=provisioningserviceowner&se=4102444800", "provisioningserviceowner" },
    { "V10", K1, SCHEME "sr=hub1.example.net%2Fdevices%2Fa%2ab%27c%28d%29&sig=%2B58vGZK7T7EMH5%2FiKai65uGyE1jQGZoJceqimV4dy3s%3D&se=4102444800", NULL },
    /* clang-format on */
};

static void test_vectors_S1_S2(void **state)
{
    (void)state;
    struct secret reg1 = {.n = 0};
    derived(K2, "reg-1", &reg1);
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        struct sas_token t;
        print_message("%s\n", vectors[i].name);
        assert_true(vectors[i].key != NULL ? verifies(vectors[i].token, vectors[i].key)
                                           : sig_fits(vectors[i].token, secret_span(&reg1)));
        assert_ok(sas_parse(span_str(vectors[i].token), &t, NULL));
        assert_int_equal(t.has_skn, vectors[i].skn != NULL);
        assert_span(sas_skn(&t), span_str(vectors[i].skn));
        assert_int_equal(t.expires_s, SE);
    }
}

static void test_vector_derived_keys(void **state)
{
    (void)state;
    struct secret got = {.n = 0};
    struct secret want = {.n = 0};
    derived(K2, "reg-1", &got);
    key_bytes("SgJlgPd8ME3ojfFLhLuxLKbiv0ov9XOCEwx3+29X8V0=", &want);
    assert_span(secret_span(&got), secret_span(&want));
    derived(
        "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==",
        "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6", &got);
    key_bytes("Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=", &want);
    assert_span(secret_span(&got), secret_span(&want));
}

/* --- what is signed ----------------------------------------------------------------------- */
static void test_S3_raw_text_is_signed(void **state)
{
    (void)state;
    assert_false(
        verifies(SCHEME "sr=hub1.example.net%2fdevices%2fdev-1&sig=" V1_SIG "&se=4102444800", K1));
    assert_false(verifies(SCHEME "sr=" V1_SR "&sig=" V1_SIG "&se=04102444800", K1));
}

static void test_S4_S5_sig_spellings(void **state)
{
    (void)state;
#define V2_SR "hub1.example.net%2fdevices%2fdev-1"
    assert_true(verifies(SCHEME "sr=" V2_SR
                                "&sig=bO%2BErrpXFO%2BuBThb909oVCo1fd5fHtgxroPfKjg%2Fyr8%3D"
                                "&se=4102444800",
                         K1));
    assert_true(verifies(SCHEME "sr=" V2_SR "&sig=bO+ErrpXFO+uBThb909oVCo1fd5fHtgxroPfKjg/yr8="
                                "&se=4102444800",
                         K1));
}

static void test_S6_every_order(void **state)
{
    (void)state;
    static const char *const fields[] = {"sr=hub1.example.net", ("sig=" V5_SIG), "se=4102444800",
                                         "skn=iothubowner"};
    unsigned orders = 0;
    for (unsigned k = 0; k < 256; k++) {
        unsigned at[4] = {k & 3u, k >> 2 & 3u, k >> 4 & 3u, k >> 6 & 3u};
        if ((1u << at[0] | 1u << at[1] | 1u << at[2] | 1u << at[3]) != 15) {
            continue;
        }
        struct buf b = BUF_INIT(1000);
        buf_addf(&b, SCHEME "%s&%s&%s&%s", fields[at[0]], fields[at[1]], fields[at[2]],
                 fields[at[3]]);
        char *text = buf_take_str(&b);
        assert_true(verifies(text, K2));
        mem_free_p(&text);
        orders++;
    }
    assert_int_equal(orders, 24);
}

/* --- grammar ------------------------------------------------------------------------------ */
static void test_grammar(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span text;
        enum err want;
    } rows[] = {
        /* clang-format off */
        { "S7 names without case", S(SCHEME "SR=a&Sig=" V1_SIG "&SE=1&SKN=x"), OK },
        { "S8 scheme in lower case", S("sharedaccesssignature sr=a&sig=" V1_SIG "&se=1"), E_TOKEN },
        { "S9 two spaces", S("SharedAccessSignature  sr=a&sig=" V1_SIG "&se=1"), OK },
        { "S9 tab", S("SharedAccessSignature\tsr=a&sig=" V1_SIG "&se=1"), OK },
        { "S9 three words", S(SCHEME "sr=a&sig=" V1_SIG " &se=1"), E_TOKEN },
        { "trailing white space", S(SCHEME "sr=a&sig=" V1_SIG "&se=1 \r\n"), OK },
        { "leading white space", S(" " SCHEME "sr=a&sig=" V1_SIG "&se=1"), E_TOKEN },
        { "S10 no sr", S(SCHEME "sig=" V1_SIG "&se=1"), E_TOKEN },
        { "S10 empty sr", S(SCHEME "sr=&sig=" V1_SIG "&se=1"), E_TOKEN },
        { "S10 no sig", S(SCHEME "sr=a&se=1"), E_TOKEN },
        { "S10 no se", S(SCHEME "sr=a&sig=" V1_SIG), E_TOKEN },
        { "S11 se empty", S(SCHEME "sr=a&sig=" V1_SIG "&se="), E_TOKEN },
        { "S11 se -1", S(SCHEME "sr=a&sig=" V1_SIG "&se=-1"), E_TOKEN },
        { "S11 se 12x", S(SCHEME "sr=a&sig=" V1_SIG "&se=12x"), E_TOKEN },
        { "S11 se of 25 digits", S(SCHEME "sr=a&sig=" V1_SIG "&se=1234567890123456789012345"), E_TOKEN },
        { "se of 20 digits", S(SCHEME "sr=a&sig=" V1_SIG "&se=00000000000000000001"), E_TOKEN },
        { "se of 19 digits", S(SCHEME "sr=a&sig=" V1_SIG "&se=9999999999999999999"), OK },
        { "se 1e10", S(SCHEME "sr=a&sig=" V1_SIG "&se=1e10"), E_TOKEN },
        { "S24 NUL", S(SCHEME "sr=a\0&sig=" V1_SIG "&se=1"), E_TOKEN },
        { "S24 CR", S(SCHEME "sr=a\r&sig=" V1_SIG "&se=1"), E_TOKEN },
        { "S24 LF", S(SCHEME "sr=a\n&sig=" V1_SIG "&se=1"), E_TOKEN },
        { "S26 sig of 31 bytes", S(SCHEME "sr=a&sig=yRhEVesrc2zNiibYV1tvBxjTqCTKQhhhsRaN8ZR2MQ%3D%3D&se=1"), E_TOKEN },
        { "S26 sig of 33 bytes", S(SCHEME "sr=a&sig=yRhEVesrc2zNiibYV1tvBxjTqCTKQhhhsRaN8ZR2MYyM&se=1"), E_TOKEN },
        { "S26 sig url-safe", S(SCHEME "sr=a&sig=yRhEVesrc2zNiibYV1tvBxjTqCTKQhhhsRaN8ZR2MY_%3D&se=1"), E_TOKEN },
        { "sig bad escape", S(SCHEME "sr=a&sig=yRhEVesrc2zNiibYV1tvBxjTqCTKQhhhsRaN8ZR2MYw%3&se=1"), E_TOKEN },
        { "sig without padding", S(SCHEME "sr=a&sig=yRhEVesrc2zNiibYV1tvBxjTqCTKQhhhsRaN8ZR2MYw&se=1"), E_TOKEN },
        { "S30 sr twice", S(SCHEME "sr=a&sig=" V1_SIG "&se=1&sr=a"), E_TOKEN },
        { "sig twice", S(SCHEME "sr=a&sig=" V1_SIG "&se=1&SIG=" V1_SIG), E_TOKEN },
        { "skn twice", S(SCHEME "sr=a&sig=" V1_SIG "&se=1&skn=&skn="), E_TOKEN },
        { "empty fields", S(SCHEME "&&sr=a&&sig=" V1_SIG "&se=1&"), OK },
        { "unknown field", S(SCHEME "sr=a&x=y&z&sig=" V1_SIG "&se=1"), OK },
        { "field without =", S(SCHEME "sr&sig=" V1_SIG "&se=1"), E_TOKEN },
        { "skn escaped zero", S(SCHEME "sr=a&sig=" V1_SIG "&se=1&skn=%00"), E_TOKEN },
        { "skn bad escape", S(SCHEME "sr=a&sig=" V1_SIG "&se=1&skn=%4"), E_TOKEN },
        { "scheme only", S("SharedAccessSignature"), E_TOKEN },
        { "scheme and space", S(SCHEME), E_TOKEN },
        { "nothing", { NULL, 0 }, E_TOKEN },
        { "C client's placeholder", S(" "), E_TOKEN },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sas_token t = {.expires_s = -7};
        print_message("%s\n", rows[i].name);
        assert_err(sas_parse(rows[i].text, &t, NULL), rows[i].want);
        assert_true(rows[i].want == OK ? t.expires_s > 0 : t.expires_s == -7);
    }
}

static void test_every_cut(void **state)
{
    (void)state;
    const struct span whole = S(SCHEME "sr=" V1_SR "&se=4102444800&skn=device&sig=" V1_SIG);
    for (size_t n = 0; n < whole.n; n++) {
        struct sas_token t = {.expires_s = -7};
        assert_err(sas_parse(span_sub(whole, 0, n), &t, NULL), E_TOKEN);
        assert_int_equal(t.expires_s, -7);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(100000);
    struct sas_token t;
    buf_add_str(&b, SCHEME "sig=" V1_SIG "&se=1&sr=");
    while (b.n < LIMIT_SAS_TOKEN) {
        buf_add_u8(&b, 'a');
    }
    assert_ok(sas_parse(buf_span(&b), &t, NULL));
    buf_add_u8(&b, 'a');
    assert_err(sas_parse(buf_span(&b), &t, NULL), E_TOO_LARGE); /* one past it, and S25 */
    buf_done(&b);

    char text[400];
    char name[LIMIT_ADMIN_NAME + 2] = {0};
    memset(name, 'n', LIMIT_ADMIN_NAME);
    (void)snprintf(text, sizeof(text), "%s&skn=%s", V1, name);
    assert_ok(sas_parse(span_str(text), &t, NULL));
    assert_int_equal(sas_skn(&t).n, LIMIT_ADMIN_NAME);
    name[LIMIT_ADMIN_NAME] = 'n';
    (void)snprintf(text, sizeof(text), "%s&skn=%s", V1, name);
    assert_err(sas_parse(span_str(text), &t, NULL), E_TOKEN);
}

static void test_reason_has_no_signature(void **state)
{
    (void)state;
    struct sas_token t;
    struct err_info info = {.err = OK};
    assert_err(sas_parse(S(SCHEME "sr=a&sig=SECRETSECRET&se=1"), &t, &info), E_TOKEN);
    assert_null(strstr(info.why, "SECRET"));
}

/* --- clock -------------------------------------------------------------------------------- */
static void test_S12_S13_expiry(void **state)
{
    (void)state;
    struct sas_token t;
    assert_ok(sas_parse(S(SCHEME "sr=a&sig=" V1_SIG "&se=1000"), &t, NULL));
    assert_false(sas_is_expired(&t, 1299, 300));
    assert_false(sas_is_expired(&t, 1300, 300));
    assert_true(sas_is_expired(&t, 1301, 300));
    assert_true(sas_is_expired(&t, 1001, 0));
    assert_ok(sas_parse(S(SCHEME "sr=a&sig=" V1_SIG "&se=1767225600000"), &t, NULL));
    assert_int_equal(t.expires_s, INT64_C(1767225600000));
    assert_false(sas_is_expired(&t, INT64_C(4102444800), 300));
    assert_ok(sas_parse(S(SCHEME "sr=a&sig=" V1_SIG "&se=9999999999999999999"), &t, NULL));
    assert_int_equal(t.expires_s, INT64_MAX);
    assert_false(sas_is_expired(&t, INT64_MAX, 300));
    assert_ok(sas_parse(S(SCHEME "sr=a&sig=" V1_SIG "&se=9223372036854775807"), &t, NULL));
    assert_false(sas_is_expired(&t, INT64_MAX, 300));
}

/* --- scope -------------------------------------------------------------------------------- */
static void test_S16_S17_segments(void **state)
{
    (void)state;
    assert_true(COVERS(V1, "devices", "dev-1"));
    assert_false(COVERS(V1, "devices", "dev-10"));
    assert_false(COVERS(V1, "devices", "dev"));
    assert_true(COVERS(V1, "devices", "dev-1", "messages", "events"));
    /* by the prefix rule a device token reaches its modules; the key rule refuses it (4.1) */
    assert_true(COVERS(V1, "devices", "dev-1", "modules", "m"));
    assert_false(COVERS(TOKEN("hub1.example.net%2Fdevices%2Fdev"), "devices", "dev-1"));
    assert_false(COVERS(V1, "devices"));
}

static void test_S18_whole_hub_and_all_devices(void **state)
{
    (void)state;
    assert_true(COVERS(TOKEN("hub1.example.net/devices"), "devices", "dev-1"));
    assert_true(COVERS(TOKEN("hub1.example.net/devices//"), "devices", "dev-1"));
    assert_true(COVERS(TOKEN("hub1.example.net"), "devices", "dev-1"));
    assert_true(COVERS(TOKEN("hub1.example.net%2f"), "twins", "x"));
    assert_false(COVERS(TOKEN("hub1.example.net/devices"), "twins", "x"));
    assert_true(covers(TOKEN("hub1.example.net"), SAS_SCOPE_PLAIN, 0, NULL));
    assert_false(covers(TOKEN("hub1.example.net/devices"), SAS_SCOPE_PLAIN, 0, NULL));
}

static void test_S22_S23_hosts(void **state)
{
    (void)state;
    assert_true(COVERS(TOKEN("HUB1.example.net%2FDevices%2FDEV-1"), "devices", "dev-1"));
    assert_true(COVERS(TOKEN("alias.example.net"), "devices", "dev-1"));
    assert_false(COVERS(TOKEN("hub2.example.net%2Fdevices%2Fdev-1"), "devices", "dev-1"));
    assert_false(COVERS(TOKEN("hub1.example.net.evil%2Fdevices%2Fdev-1"), "devices", "dev-1"));
    assert_false(COVERS(TOKEN("%2Fhub1.example.net%2Fdevices%2Fdev-1"), "devices", "dev-1"));
    assert_false(COVERS(TOKEN("hub1.example.net%2F%2Fdevices"), "devices", "dev-1"));
    assert_false(COVERS(TOKEN("%2F"), "devices", "dev-1"));
}

static void test_S29_api_version_tail(void **state)
{
    (void)state;
    const char *const path[] = {"devices", "dev-1"};
    const char *t = TOKEN("hub1.example.net%2Fdevices%2Fdev-1%2Fapi-version%3D2016-11-14");
    assert_true(covers(t, SAS_API_VERSION_TAIL, 2, path));
    assert_false(covers(t, SAS_SCOPE_PLAIN, 2, path));
    assert_true(covers(TOKEN("hub1.example.net/devices/dev-1/api-version=2016-11-14"),
                       SAS_API_VERSION_TAIL, 2, path));
    assert_false(covers(TOKEN("hub1.example.net/devices/dev-1/api-version=1/x"),
                        SAS_API_VERSION_TAIL, 2, path));
    assert_false(
        covers(TOKEN("hub1.example.net/devices/dev-1/modules"), SAS_API_VERSION_TAIL, 2, path));
    assert_false(covers(TOKEN("hub1.example.net/api-version=1"), SAS_API_VERSION_TAIL, 2, path));
}

static void test_raw_and_decoded(void **state)
{
    (void)state;
    /* section 11: '%', '=' and '+' may stand in an id, raw in the C client's sr */
    assert_true(COVERS(TOKEN("hub1.example.net/devices/a%b=c+d"), "devices", "a%b=c+d"));
    assert_true(COVERS(TOKEN("hub1.example.net/devices/a%41"), "devices", "a%41"));
    assert_true(COVERS(TOKEN("hub1.example.net/devices/a%41"), "devices", "aA"));
    assert_true(COVERS(TOKEN("hub1.example.net%2Fdevices%2Fa%2541"), "devices", "a%41"));
    assert_false(COVERS(TOKEN("hub1.example.net%2Fdevices%2Fa%2541"), "devices", "aA"));
    assert_false(COVERS(TOKEN("hub1.example.net/devices/a+b"), "devices", "a b"));
}

static void test_dps_scope(void **state)
{
    (void)state;
    const struct span path[] = {S("0ne00000A1B"), S("registrations"), S("reg-1")};
    struct sas_token t;
    assert_ok(sas_parse(S(V7), &t, NULL));
    assert_true(sas_scope_covers(&t, NULL, 0, path, 3, SAS_SCOPE_PLAIN));
    const struct span other[] = {S("0ne00000A1C"), S("registrations"), S("reg-1")};
    assert_false(sas_scope_covers(&t, NULL, 0, other, 3, SAS_SCOPE_PLAIN));
    const struct span rid[] = {S("0ne00000A1B"), S("registrations"), S("reg-2")};
    assert_false(sas_scope_covers(&t, NULL, 0, rid, 3, SAS_SCOPE_PLAIN));
}

static void test_event_hub(void **state)
{
    (void)state;
    struct sas_token t;
    assert_ok(sas_parse(S(TOKEN("sb%3A%2f%2Fhub1.example.net%2Fx")), &t, NULL));
    assert_true(sas_is_event_hub(&t));
    assert_ok(sas_parse(S(TOKEN("sb://hub1")), &t, NULL));
    assert_true(sas_is_event_hub(&t));
    assert_ok(sas_parse(S(V1), &t, NULL));
    assert_false(sas_is_event_hub(&t));
}

/* --- S14, S27, S28: which key ------------------------------------------------------------- */
static void test_S14_S27_S28_keys(void **state)
{
    (void)state;
    assert_false(verifies(V1, K2));
    assert_true(verifies(V1, K1)); /* either key of an identity is tried with the same text */
    const char *v8 = vectors[10].token;
    assert_string_equal(vectors[10].name, "V8");
    assert_false(verifies(v8, K2)); /* the group key itself */
    struct secret reg2 = {.n = 0};
    derived(K2, "reg-2", &reg2);
    assert_false(sig_fits(v8, secret_span(&reg2)));
}

/* --- writer ------------------------------------------------------------------------------- */
static void test_writer(void **state)
{
    (void)state;
    const struct span segments[] = {S("hub1.example.net"), S("devices"), S("dev-1")};
    struct secret k = {.n = 0};
    struct buf sr = BUF_INIT(300);
    struct buf text = BUF_INIT(1000);
    uint8_t sig[SAS_SIG_SIZE];
    key_bytes(K1, &k);
    sas_sr_write(&sr, segments, 3);
    sas_to_sign_write(&text, buf_span(&sr), SE);
    mac(secret_span(&k), buf_span(&text), sig);
    buf_reset(&text);
    sas_write(&text, buf_span(&sr), sig, SE, SPAN_NONE);
    assert_span(buf_span(&text), S(V1));
    buf_reset(&text);
    sas_write(&text, buf_span(&sr), sig, SE, S("a b"));
    assert_span(buf_span(&text), S(V1 "&skn=a%20b"));
    struct sas_token t;
    assert_ok(sas_parse(buf_span(&text), &t, NULL));
    assert_span(sas_skn(&t), S("a b"));
    buf_done(&sr);
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_S1_S2),
        cmocka_unit_test(test_vector_derived_keys),
        cmocka_unit_test(test_S3_raw_text_is_signed),
        cmocka_unit_test(test_S4_S5_sig_spellings),
        cmocka_unit_test(test_S6_every_order),
        cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_reason_has_no_signature),
        cmocka_unit_test(test_S12_S13_expiry),
        cmocka_unit_test(test_S16_S17_segments),
        cmocka_unit_test(test_S18_whole_hub_and_all_devices),
        cmocka_unit_test(test_S22_S23_hosts),
        cmocka_unit_test(test_S29_api_version_tail),
        cmocka_unit_test(test_raw_and_decoded),
        cmocka_unit_test(test_dps_scope),
        cmocka_unit_test(test_event_hub),
        cmocka_unit_test(test_S14_S27_S28_keys),
        cmocka_unit_test(test_writer),
    };
    return cmocka_run_group_tests_name("wire/sas", tests, NULL, NULL);
}
