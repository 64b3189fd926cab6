/* SPDX-License-Identifier: Apache-2.0 */
/* TPMs against a running service, with the chip in software (tpm/fixture.h): docs/protocol/dps-tpm.md 11. With a TPM of its own:
 * tests/integration/34-tpm.sh. */
#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "dps/tests/bench.h"
#include "tpm/blob.h"
#include "tpm/fixture.h"
#include "tpm/samples.h"

#define API "?api-version=2021-06-01"
#define ADMIN "?api-version=2026-11-01-berth"

struct unit {
    struct fix_key ek, srk;
    char ek_text[1024], srk_text[1024];
    char rid[TPM_RID_SIZE];
};

static void text_of(struct span s, char *dst, size_t n)
{
    AUTO(buf_done) struct buf b = BUF_INIT(8192);
    base64_add(&b, s);
    assert_true(span_to_cstr(buf_span(&b), dst, n));
}

static void unit_new(struct unit *u, enum fix_kind kind)
{
    fix_key_new(&u->ek, kind, TPM_EK);
    fix_key_new(&u->srk, kind == FIX_P384 ? FIX_P256 : kind, TPM_SRK);
    text_of(fix_key_public(&u->ek), u->ek_text, sizeof(u->ek_text));
    text_of(fix_key_public(&u->srk), u->srk_text, sizeof(u->srk_text));
    assert_ok(tpm_registration_id(fix_key_public(&u->ek), u->rid));
}

static void unit_done(struct unit *u)
{
    fix_key_done(&u->ek);
    fix_key_done(&u->srk);
}

static void enroll(const char *rid, const struct unit *u, const char *more)
{
    char path[200], body[4096];
    (void)snprintf(path, sizeof(path), "/enrollments/%s", rid);
    (void)snprintf(body, sizeof(body),
                   "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"%s\"}}%s}",
                   u->ek_text, more);
    service("PUT", path, NULL, body, 200, 0);
}

static void unenroll(const char *rid)
{
    char path[200];
    (void)snprintf(path, sizeof(path), "/enrollments/%s", rid);
    service("DELETE", path, NULL, NULL, 204, 0);
}

/* more: further members of "tpm". */
static void put(const char *rid, const char *ek, const char *srk, const char *more,
                const char *token)
{
    char path[300], body[32768];
    (void)snprintf(path, sizeof(path), "/%s/registrations/%s/register" API, scope, rid);
    (void)snprintf(body, sizeof(body),
                   "{\"registrationId\":\"%s\",\"tpm\":{\"endorsementKey\":\"%s\","
                   "\"storageRootKey\":\"%s\"%s}}",
                   rid, ek, srk, more);
    const struct call c = {.method = "PUT", .path = path, .body = body, .token = token};
    call(&c);
}

static bool open_key(const struct unit *u, const char *path, char key[128])
{
    char text[4096];
    AUTO(buf_done) struct buf blob = BUF_INIT(4096);
    struct secret k = {.n = 0};
    got_str(path, text, sizeof(text));
    assert_ok(base64_decode(span_str(text), &blob));
    if (!fix_open(&u->ek, &u->srk, buf_span(&blob), &k)) {
        return false;
    }
    text_of(secret_span(&k), key, 128);
    assert_int_equal(k.n, TPM_KEY_SIZE);
    return true;
}

/* The first request; K1 as base64. */
static void challenge(const char *rid, const struct unit *u, const char *more, char key[128])
{
    put(rid, u->ek_text, u->srk_text, more, NULL);
    want("challenge", 401, 0);
    assert_true(open_key(u, "authenticationKey", key));
}

static void poll_to_end(const char *rid, const char *token)
{
    char path[512], op[100];
    got_str("operationId", op, sizeof(op));
    (void)snprintf(path, sizeof(path), "/%s/registrations/%s/operations/%s" API, scope, rid, op);
    const struct call c = {.method = "GET", .path = path, .token = token};
    do {
        call(&c);
    } while (got.status == 202);
}

static void seen(const char *device)
{
    char path[200];
    (void)snprintf(path, sizeof(path), "/seen/%s", device);
    const struct call c = {.method = "GET", .path = path, .at = &hub};
    call(&c);
}

/* All of it; K2 as base64. */
static void provision(const char *rid, const struct unit *u, const char *more, char key[128])
{
    char k1[128], token[512];
    challenge(rid, u, more, k1);
    put(rid, u->ek_text, u->srk_text, more, device_token(rid, k1, token));
    want("with the token", 202, 0);
    assert_true(got_has("\"status\":\"assigning\""));
    poll_to_end(rid, token);
    want("the end", 200, 0);
    assert_true(got_has("\"status\":\"assigned\""));
    assert_true(open_key(u, "registrationState.tpm.authenticationKey", key));
    assert_string_not_equal(key, k1);
}

/* dps-tpm:T1, T3, T4, T11, and ECC keys, which are Berth's own. */
static void test_flow(void **state UNUSED)
{
    for (size_t i = 0; i < FIX_KINDS; i++) {
        struct unit u;
        char rid[32], k2[128], again[128], more[256], token[512], path[300];
        unit_new(&u, (enum fix_kind)i);
        (void)snprintf(rid, sizeof(rid), "Tpm-%zu", i);
        enroll(rid, &u, "");
        put(rid, u.ek_text, u.srk_text, "", NULL);
        want("dps-tpm:T1", 401, 0);
        assert_false(got_has("\"status\""));
        assert_true(got_has("\"keyName\":\"registration\""));
        assert_true(got_has("\"message\":\"Authorization required.\""));
        provision(rid, &u, "", k2);
        seen(rid);
        (void)snprintf(more, sizeof(more), "\"primaryKey\":\"%s\"", k2);
        assert_true(got_has(more));
        assert_true(got_has("/individual/tpm-"));
        /* a new storage root key, as after an owner cleared the TPM */
        fix_key_done(&u.srk);
        fix_key_new(&u.srk, FIX_P256, TPM_SRK);
        text_of(fix_key_public(&u.srk), u.srk_text, sizeof(u.srk_text));
        provision(rid, &u, "", again);
        assert_string_not_equal(k2, again);
        seen(rid);
        (void)snprintf(more, sizeof(more), "\"primaryKey\":\"%s\"", again);
        assert_true(got_has(more));
        /* a look-up, with a new challenge's token, has the key too, and uses nothing up */
        challenge(rid, &u, "", k2);
        (void)snprintf(path, sizeof(path), "/%s/registrations/%s" API, scope, rid);
        const struct call c = {
            .method = "POST", .path = path, .body = "{}", .token = device_token(rid, k2, token)};
        call(&c);
        want("look-up", 200, 0);
        assert_true(open_key(&u, "tpm.authenticationKey", k2));
        assert_string_equal(k2, again);
        put(rid, u.ek_text, u.srk_text, "", token);
        want("the look-up's token", 202, 0);
        unit_done(&u);
    }
}

static const char *expired(const char *rid, const char *key, char token[512])
{
    char sr[300];
    (void)snprintf(sr, sizeof(sr), "%s%%2Fregistrations%%2F%s", scope, rid);
    return fix_token(sr, key, "registration", -3600, token);
}

/* dps-tpm:T5, T6, T7, T12, T20; threat N9. No refusal has a blob. */
static void test_refusals(void **state UNUSED)
{
    struct unit u, other;
    char k1[128], second[128], token[512], key[128];
    unit_new(&u, FIX_RSA2048);
    unit_new(&other, FIX_RSA2048);
    enroll("ref-1", &u, "");
    put("ref-1", other.ek_text, u.srk_text, "", NULL);
    want("dps-tpm:T6", 401, 401002);
    assert_false(got_has("authenticationKey"));
    put("ref-none", u.ek_text, u.srk_text, "", NULL);
    want("dps-tpm:T7 unknown", 401, 401002);
    assert_false(got_has("authenticationKey"));
    put("ref-1", u.ek_text, u.srk_text, "",
        device_token("ref-1", "MDEyMzQ1Njc4OWFiY2RlZg==", token));
    want("no challenge is pending", 401, 401002);
    challenge("ref-1", &u, "", k1);
    put("ref-1", u.ek_text, u.srk_text, "",
        device_token("ref-1", "MDEyMzQ1Njc4OWFiY2RlZg==", token));
    want("dps-tpm:T5 other key", 401, 401002);
    assert_false(got_has("authenticationKey"));
    put("ref-1", u.ek_text, u.srk_text, "", expired("ref-1", k1, token));
    want("dps-tpm:T5 expired", 401, 401002);
    put("ref-1", u.ek_text, other.srk_text, "", device_token("ref-1", k1, token));
    want("another SRK than was challenged", 401, 401002);
    challenge("ref-1", &u, "", second);
    put("ref-1", u.ek_text, u.srk_text, "", device_token("ref-1", k1, token));
    want("dps-tpm:T12", 401, 401002);
    put("ref-1", u.ek_text, u.srk_text, "", device_token("ref-1", second, token));
    want("the newer challenge", 202, 0);
    poll_to_end("ref-1", token);
    want("polls with the same token", 200, 0);
    put("ref-1", u.ek_text, u.srk_text, "", token);
    want("threat:N9 a challenge is good once", 401, 401002);
    /* dps-tpm:T10: the blob for an EK and the SRK of another TPM opens in neither */
    put("ref-1", u.ek_text, other.srk_text, "", NULL);
    want("dps-tpm:T10", 401, 0);
    assert_false(open_key(&u, "authenticationKey", key));
    assert_false(open_key(&other, "authenticationKey", key));
    challenge("ref-1", &u, "", k1);
    unenroll("ref-1");
    put("ref-1", u.ek_text, u.srk_text, "", device_token("ref-1", k1, token));
    want("dps-tpm:T20", 401, 401002);
    /* the enrollment got another EK meanwhile */
    enroll("ref-1", &u, "");
    challenge("ref-1", &u, "", k1);
    unenroll("ref-1");
    enroll("ref-1", &other, "");
    put("ref-1", u.ek_text, u.srk_text, "", device_token("ref-1", k1, token));
    want("another EK since", 401, 401002);
    unit_done(&u);
    unit_done(&other);
}

/* dps-tpm:T7; 5: disabled after the challenge, the operation says so. */
static void test_disabled(void **state UNUSED)
{
    struct unit u;
    char k1[128], token[512], body[4096];
    unit_new(&u, FIX_P256);
    enroll("dis-1", &u, "");
    challenge("dis-1", &u, "", k1);
    (void)snprintf(body, sizeof(body),
                   "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"%s\"}},"
                   "\"provisioningStatus\":\"disabled\"}",
                   u.ek_text);
    service("PUT", "/enrollments/dis-1", "*", body, 200, 0);
    put("dis-1", u.ek_text, u.srk_text, "", device_token("dis-1", k1, token));
    want("token", 202, 0);
    poll_to_end("dis-1", token);
    want("the end", 200, 0);
    assert_true(got_has("\"status\":\"disabled\""));
    assert_false(got_has("authenticationKey"));
    put("dis-1", u.ek_text, u.srk_text, "", NULL);
    want("dps-tpm:T7 disabled", 401, 401002);
    assert_false(got_has("authenticationKey"));
    unit_done(&u);
}

/* dps-tpm:T8, T9 */
static void test_malformed(void **state UNUSED)
{
    struct unit u;
    char ek[1200], srk[1200], path[300];
    uint8_t raw[512];
    size_t n = sizeof(raw);
    unit_new(&u, FIX_RSA2048);
    enroll("mal-1", &u, "");
    assert_ok(base64_decode_to(span_str(SAMPLE_EK), raw, &n));
    const struct {
        const char *name;
        size_t at;
        uint8_t with;
        size_t n;
    } rows[] = {
        {"size too large", 1, 0x3b, 316},
        {"trailing byte", 1, 0x3a, 317},
        {"cut", 1, 0x3a, 315},
        {"modulus of 255 bytes", 59, 0xff, 316},
        {"type ECC", 3, 0x23, 316},
        {"signs", 7, 0x07, 316},
        {"nothing", 1, 0x3a, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t bad[512] = {0};
        memcpy(bad, raw, n);
        bad[rows[i].at] = rows[i].with;
        text_of(span_of(bad, rows[i].n), ek, sizeof(ek));
        put("mal-1", ek, u.srk_text, "", NULL);
        want(rows[i].name, 400, 400201);
        put("mal-1", u.ek_text, ek, "", NULL);
        if (i != 5) { /* what signs may be an SRK by the rules, and the challenge is sent */
            want(rows[i].name, 400, 400201);
        }
    }
    put("mal-1", "not base64", u.srk_text, "", NULL);
    want("no base64", 400, 400201);
    memset(srk, 'A', 1028);
    srk[1028] = '\0';
    put("mal-1", u.ek_text, srk, "", NULL);
    want("over 1024", 400, 400201);
    (void)snprintf(path, sizeof(path), "/%s/registrations/mal-1/register" API, scope);
    char body[1200];
    (void)snprintf(body, sizeof(body), "{\"tpm\":{\"endorsementKey\":\"%s\"}}", u.ek_text);
    struct call c = {.method = "PUT", .path = path, .body = body};
    call(&c);
    want("dps-tpm:T9", 400, 400201);
    c.body = "{\"tpm\":null}";
    call(&c);
    want("no TPM and no credential", 401, 401002);
    c.body = "{";
    call(&c);
    want("no credential", 401, 401002);
    unit_done(&u);
}

/* dps-tpm:T13 */
static void test_mqtt(void **state UNUSED)
{
    struct unit u;
    char k1[128], token[512], user[300];
    int code = 0;
    unit_new(&u, FIX_P256);
    enroll("mq-tpm", &u, "");
    challenge("mq-tpm", &u, "", k1);
    (void)snprintf(user, sizeof(user), "%s/registrations/mq-tpm/api-version=2019-03-31", scope);
    struct mq *m = mq_open("mq-tpm", user, NULL, 4, &code);
    assert_int_equal(code, 5);
    mq_close(m);
    m = mq_open("mq-tpm", user, device_token("mq-tpm", k1, token), 4, &code);
    assert_int_equal(code, 0);
    assert_int_equal(mq_subscribe(m, "$dps/registrations/res/#", 1), 1);
    assert_int_equal(mq_register(m, "1", "{}"), 401);
    mq_close(m);
    unit_done(&u);
}

/* dps-service: an EK is told as it was given, with or without its size; what it may not be. */
static void test_enrollment(void **state UNUSED)
{
    struct unit u;
    char area[1024], k2[128], body[4096], want_text[1100];
    unit_new(&u, FIX_RSA2048);
    enroll("enr-1", &u, "");
    (void)snprintf(want_text, sizeof(want_text),
                   "\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"%s\"}}",
                   u.ek_text);
    assert_true(got_has(want_text));
    text_of(span_of(u.ek.pub + 2, u.ek.n - 2), area, sizeof(area));
    (void)snprintf(body, sizeof(body),
                   "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"%s\","
                   "\"storageRootKey\":\"%s\"}}}",
                   area, u.srk_text);
    service("PUT", "/enrollments/enr-2", NULL, body, 200, 0);
    assert_true(got_has(area));
    assert_true(got_has(u.srk_text));
    provision("enr-2", &u, "", k2);
    service("GET", "/enrollments/enr-2", NULL, NULL, 200, 0);
    assert_true(got_has(area));
    unit_done(&u);
}

/* --- certificates of endorsement keys --------------------------------------------------------------------- */

static void add_root(const char *name, const struct fix_ca *ca, const char *usage, long status)
{
    char path[100], body[8192], der[4096];
    AUTO(buf_done) struct buf b = BUF_INIT(4096);
    fix_ca_der(ca, &b);
    text_of(buf_span(&b), der, sizeof(der));
    (void)snprintf(path, sizeof(path), "/admin/certificates/%s" ADMIN, name);
    (void)snprintf(body, sizeof(body), "{\"properties\":{\"certificate\":\"%s\"%s}}", der, usage);
    service("PUT", path, NULL, body, status, 0);
}

/* Members for `put`: the EK's certificate, and above (NULL: none). */
static const char *certs_of(const struct unit *u, const struct fix_ca *ca, const char *eku,
                            const struct fix_ca *above, char dst[16384])
{
    char leaf[4096], text[4096] = "";
    AUTO(buf_done) struct buf b = BUF_INIT(4096), up = BUF_INIT(4096);
    fix_ek_cert(ca, &u->ek, eku, &b);
    text_of(buf_span(&b), leaf, sizeof(leaf));
    if (above != NULL) {
        fix_ca_der(above, &up);
        text_of(buf_span(&up), text, sizeof(text));
    }
    (void)snprintf(dst, 16384,
                   ",\"endorsementCertificate\":\"%s\",\"endorsementCertificateChain\":[%s%s%s]",
                   leaf, above != NULL ? "\"" : "", text, above != NULL ? "\"" : "");
    return dst;
}

#define EKU_EK "2.23.133.8.1"

/* threat:C5 and the rules of EK groups. */
static void test_group(void **state UNUSED)
{
    static char certs[16384];
    struct fix_ca root, mid, foreign;
    struct unit u, other;
    char k2[128];
    fix_ca_new(&root, "Maker Root", NULL);
    fix_ca_new(&mid, "Maker Intermediate", &root);
    fix_ca_new(&foreign, "Foreign Root", NULL);
    unit_new(&u, FIX_RSA2048);
    unit_new(&other, FIX_P384);
    put(u.rid, u.ek_text, u.srk_text, certs_of(&u, &mid, EKU_EK, &mid, certs), NULL);
    want("no group", 401, 401002);
    add_root("maker", &root, ",\"isVerified\":true,\"usage\":\"endorsementKey\"", 400);
    add_root("maker", &root, ",\"usage\":\"endorsementKey\"", 201);
    assert_true(got_has("\"usage\":\"endorsementKey\""));
    assert_true(got_has("\"isVerified\":false"));
    add_root("plain", &foreign, "", 201);
    service("POST", "/admin/certificates/maker/generateVerificationCode" ADMIN, "*", "{}", 400, 0);
    service(
        "PUT", "/enrollmentGroups/tpms", NULL,
        "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"caReferences\":{\"primary\":\"plain\"}}}}",
        400, 400004);
    service(
        "PUT", "/enrollmentGroups/x5", NULL,
        "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"caReferences\":{\"primary\":\"maker\"}}}}",
        400, 400004);
    service(
        "PUT", "/enrollmentGroups/tpms", NULL,
        "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"caReferences\":{\"primary\":\"maker\"}}}}",
        200, 0);
    assert_true(got_has("{\"type\":\"tpm\",\"tpm\":{\"caReferences\":{\"primary\":\"maker\"}}}"));
    service("DELETE", "/admin/certificates/maker" ADMIN, "*", NULL, 409, 0);

    provision(u.rid, &u, certs_of(&u, &mid, EKU_EK, &mid, certs), k2);
    assert_true(got_has("\"enrollmentGroupId\":\"tpms\""));
    provision(other.rid, &other, certs_of(&other, &root, EKU_EK, NULL, certs), k2);
    seen(other.rid);
    assert_true(got_has("/group/tpms\""));
    service("GET", "/admin/certificates/maker/dependents" ADMIN, NULL, NULL, 200,
            0); /* threat:S2 */
    assert_true(got_has("\"enrollmentGroupId\":\"tpms\",\"provisioningStatus\":\"enabled\",\"by\":"
                        "\"caReferences\",\"registrations\":2}"));

    put(other.rid, u.ek_text, u.srk_text, certs_of(&u, &mid, EKU_EK, &mid, certs), NULL);
    want("threat:C5 the second TPM of the maker under the first one's id", 401, 401002);
    put("any-name", u.ek_text, u.srk_text, certs, NULL);
    want("threat:C5 an id of one's own choice", 401, 401002);
    put(other.rid, other.ek_text, other.srk_text, certs, NULL);
    want("another EK's certificate", 401, 401002);
    put(u.rid, u.ek_text, u.srk_text, "", NULL);
    want("no certificate", 401, 401002);
    put(u.rid, u.ek_text, u.srk_text, certs_of(&u, &mid, EKU_EK, NULL, certs), NULL);
    want("the intermediate is missing", 401, 401002);
    put(u.rid, u.ek_text, u.srk_text, certs_of(&u, &foreign, EKU_EK, &foreign, certs), NULL);
    want("another maker", 401, 401002);
    put(u.rid, u.ek_text, u.srk_text, certs_of(&u, &mid, "clientAuth", &mid, certs), NULL);
    want("a certificate for something else", 401, 401002);
    put(u.rid, u.ek_text, u.srk_text, certs_of(&u, &mid, NULL, &mid, certs), NULL);
    want("a certificate that says nothing", 401, 401002);
    put(u.rid, u.ek_text, u.srk_text, ",\"endorsementCertificate\":\"AAAA\"", NULL);
    want("no certificate at all", 401, 401002);
    put(u.rid, u.ek_text, u.srk_text, ",\"endorsementCertificate\":\"!\"", NULL);
    want("no base64", 400, 400201);
    service("DELETE", "/enrollmentGroups/tpms", NULL, NULL, 204, 0);
    put(u.rid, u.ek_text, u.srk_text, certs_of(&u, &mid, EKU_EK, &mid, certs), NULL);
    want("the group is gone", 401, 401002);
    unit_done(&u);
    unit_done(&other);
    fix_ca_done(&root);
    fix_ca_done(&mid);
    fix_ca_done(&foreign);
}

/* An individual enrollment may want the certificate too; the CA of a maker admits no client certificate. */
static void test_own_certificate(void **state UNUSED)
{
    static char certs[16384];
    struct fix_ca root;
    struct unit u;
    char body[4096], k2[128];
    fix_ca_new(&root, "Own Maker", NULL);
    unit_new(&u, FIX_P256);
    add_root("own-maker", &root, ",\"usage\":\"endorsementKey\"", 201);
    (void)snprintf(body, sizeof(body),
                   "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"%s\","
                   "\"caReferences\":{\"primary\":\"own-maker\"}}}}",
                   u.ek_text);
    service("PUT", "/enrollments/cert-1", NULL, body, 200, 0);
    assert_true(got_has("\"caReferences\":{\"primary\":\"own-maker\"}"));
    put("cert-1", u.ek_text, u.srk_text, "", NULL);
    want("without its certificate", 401, 401002);
    provision("cert-1", &u, certs_of(&u, &root, EKU_EK, NULL, certs), k2);
    unit_done(&u);
    fix_ca_done(&root);
}

/* dps-tpm:T19; threat:N12 */
static void test_rate(void **state UNUSED)
{
    struct unit u, other;
    unsigned sent = 0, slowed = 0;
    char k2[128], token[512];
    unit_new(&u, FIX_P256);
    unit_new(&other, FIX_P256);
    enroll("rate-1", &u, "");
    enroll("rate-2", &other, "");
    assert_int_equal(fix_stop(&dps, SIGTERM), 0);
    bench_start_limited();
    for (unsigned i = 0; i < 100; i++) {
        put("rate-1", u.ek_text, u.srk_text, "", NULL);
        sent += got.status == 401 && got_has("authenticationKey");
        if (got.status == 429) {
            slowed++;
            assert_true(got.retry_after[0] != '\0');
        }
    }
    print_message("100 requests: %u challenges, %u told to wait\n", sent, slowed);
    assert_int_equal(sent + slowed, 100);
    assert_true(sent >= 1 && slowed >= 50);
    challenge("rate-2", &other, "", k2); /* another device is not slowed */
    put("rate-2", other.ek_text, other.srk_text, "", device_token("rate-2", k2, token));
    want("another device", 202, 0);
    assert_int_equal(fix_stop(&dps, SIGTERM), 0);
    bench_start_dps();
    unit_done(&u);
    unit_done(&other);
}

int main(int argc, char **argv)
{
    int rc = bench_server(argc, argv);
    if (rc >= 0) {
        return rc;
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flow),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_disabled), cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_mqtt),     cmocka_unit_test(test_enrollment),
        cmocka_unit_test(test_group),    cmocka_unit_test(test_own_certificate),
        cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
