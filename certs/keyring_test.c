/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing (threat S6), MACs and derived keys (docs/protocol/sas.md 2, 6, 10; threat N8). */
#include "certs/keyring.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/text.h"
#include "tests/unit.h"

#define K1 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define K2                                                                                         \
    "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+fw=="
#define K_GUIDE                                                                                    \
    "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
#define K2_REG_1 "SgJlgPd8ME3ojfFLhLuxLKbiv0ov9XOCEwx3+29X8V0="
#define FILE_HEAD "berth-master-keys 1\n"
#define FILE_KEY_1 "1 " K1 "\n"
#define FILE_KEY_7 "7 BwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"

static const struct seal_place here = {"device", "primary_key", SPAN_LIT("42")};

struct fixture {
    char dir[64];
    char path[96];
    struct keyring *k;
};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/keyring-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/master.key", f->dir);
    assert_ok(keyring_open(f->path, true, &f->k, NULL));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    keyring_free(f->k);
    (void)unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static void seal_text(const struct keyring *k, struct seal_place at, const char *base64,
                      struct buf *ret)
{
    struct secret s = {{0}, 0};
    assert_ok(secret_from_base64(&s, span_str(base64)));
    assert_ok(keyring_seal(k, at, secret_span(&s), ret));
    secret_done(&s);
}

/* --- the key file ----------------------------------------------------------------------------- */

static void test_file_is_made_once(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf before = BUF_INIT(4096), after = BUF_INIT(4096);
    AUTO(keyring_free_p) struct keyring *again = NULL;
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_ok(fs_read(f->path, &before, NULL));
    assert_ok(keyring_open(f->path, true, &again, NULL));
    assert_ok(fs_read(f->path, &after, NULL));
    assert_span(buf_span(&after), buf_span(&before));
}

static void test_file_absent(void **state)
{
    struct fixture *f = *state;
    struct keyring *k = NULL;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/none", f->dir);
    assert_err(keyring_open(path, false, &k, NULL), E_NOT_FOUND);
    assert_null(k);
    assert_false(fs_exists(path));
}

/* clang-format off */
static const struct {
    const char *name;
    const char *content;
    mode_t mode;
    enum err want;
} files[] = {
    { "one key",           FILE_HEAD FILE_KEY_1,             0600, OK },
    { "two keys",          FILE_HEAD FILE_KEY_1 FILE_KEY_7,  0600, OK },
    { "read only",         FILE_HEAD FILE_KEY_1,             0400, OK },
    { "group reads",       FILE_HEAD FILE_KEY_1,             0440, OK },
    { "others read",       FILE_HEAD FILE_KEY_1,             0604, E_PERM },
    { "group writes",      FILE_HEAD FILE_KEY_1,             0620, E_PERM },
    { "empty",             "",                               0600, E_CONFIG },
    { "no key",            FILE_HEAD,                        0600, E_CONFIG },
    { "another file",      "-----BEGIN PRIVATE KEY-----\n",  0600, E_CONFIG },
    { "numbers fall",      FILE_HEAD FILE_KEY_7 FILE_KEY_1,  0600, E_CONFIG },
    { "number twice",      FILE_HEAD FILE_KEY_1 FILE_KEY_1,  0600, E_CONFIG },
    { "number too large",  FILE_HEAD "4294967296 " K1 "\n",  0600, E_CONFIG },
    { "key too short",     FILE_HEAD "1 AAECAw==\n",         0600, E_CONFIG },
    { "key too long",      FILE_HEAD "1 " K2 "\n",           0600, E_CONFIG },
    { "key is no base64",  FILE_HEAD "1 !!!!\n",             0600, E_CONFIG },
    { "blank line",        FILE_HEAD "\n" FILE_KEY_1,        0600, E_CONFIG },
};
/* clang-format on */

static void test_files(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct keyring *k = NULL;
        struct err_info info = {0};
        assert_ok(fs_write_atomic(f->path, span_str(files[i].content), files[i].mode, NULL));
        enum err e = keyring_open(f->path, true, &k, &info);
        if (e != files[i].want) {
            print_error("row \"%s\": %s %s\n", files[i].name, err_name(e), info.why);
            fail();
        }
        assert_null(strstr(info.why, "AAEC")); /* no key in a message */
        keyring_free(k);
    }
}

static void test_too_many_keys(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf b = BUF_INIT(1 << 16);
    struct keyring *k = NULL;
    buf_add_str(&b, FILE_HEAD);
    for (unsigned i = 1; i <= 16; i++) {
        buf_addf(&b, "%u " K1 "\n", i);
    }
    assert_ok(fs_write_atomic(f->path, buf_span(&b), 0600, NULL));
    assert_ok(keyring_open(f->path, false, &k, NULL));
    keyring_free(k);
    k = NULL;
    buf_add_str(&b, "17 " K1 "\n");
    assert_ok(fs_write_atomic(f->path, buf_span(&b), 0600, NULL));
    assert_err(keyring_open(f->path, false, &k, NULL), E_CONFIG);
}

/* An older key still opens what it sealed; the newest seals; a key taken away opens nothing. */
static void test_rotation(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf old = BUF_INIT(256), new = BUF_INIT(256);
    AUTO(keyring_free_p) struct keyring *one = NULL, *both = NULL, *seven = NULL;
    struct secret s = {{0}, 0};
    assert_ok(fs_write_atomic(f->path, SPAN_LIT(FILE_HEAD FILE_KEY_1), 0600, NULL));
    assert_ok(keyring_open(f->path, false, &one, NULL));
    assert_ok(fs_write_atomic(f->path, SPAN_LIT(FILE_HEAD FILE_KEY_1 FILE_KEY_7), 0600, NULL));
    assert_ok(keyring_open(f->path, false, &both, NULL));
    assert_ok(fs_write_atomic(f->path, SPAN_LIT(FILE_HEAD FILE_KEY_7), 0600, NULL));
    assert_ok(keyring_open(f->path, false, &seven, NULL));
    assert_ok(keyring_seal(one, here, SPAN_LIT("a secret of 16 b"), &old));
    assert_ok(keyring_seal(both, here, SPAN_LIT("a secret of 16 b"), &new));
    assert_span(span_sub(buf_span(&old), 0, 5), SPAN_LIT("\x01\0\0\0\x01"));
    assert_span(span_sub(buf_span(&new), 0, 5), SPAN_LIT("\x01\0\0\0\x07"));
    assert_ok(keyring_unseal(both, here, buf_span(&old), &s));
    assert_span(secret_span(&s), SPAN_LIT("a secret of 16 b"));
    assert_err(keyring_unseal(one, here, buf_span(&new), &s), E_CORRUPT);
    assert_err(keyring_unseal(seven, here, buf_span(&old), &s), E_CORRUPT);
    secret_done(&s);
}

/* --- sealing ---------------------------------------------------------------------------------- */

static void test_seal_sizes(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[SECRET_MAX + 1] = {1, 2, 3};
    for (size_t n = 0; n <= SECRET_MAX; n++) {
        AUTO(buf_done) struct buf b = BUF_INIT(256);
        struct secret s = {{0}, 0};
        assert_ok(keyring_seal(f->k, here, span_of(bytes, n), &b));
        assert_int_equal(b.n, n + SEAL_OVERHEAD);
        assert_ok(keyring_unseal(f->k, here, buf_span(&b), &s));
        assert_span(secret_span(&s), span_of(bytes, n));
    }
    AUTO(buf_done) struct buf b = BUF_INIT(256);
    assert_err(keyring_seal(f->k, here, span_of(bytes, sizeof(bytes)), &b), E_TOO_LARGE);
    assert_int_equal(b.n, 0);
}

static void test_seal_is_fresh(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf a = BUF_INIT(256), b = BUF_INIT(256);
    seal_text(f->k, here, K1, &a);
    seal_text(f->k, here, K1, &b);
    assert_false(span_eq(buf_span(&a), buf_span(&b)));
    assert_null(memmem(a.p, a.n, "\x04\x05\x06\x07", 4));
}

/* S6: a sealed value moved to another row is refused. */
static void test_seal_moved(void **state)
{
    struct fixture *f = *state;
    static const struct seal_place places[] = {
        {"device", "primary_key", SPAN_LIT("43")},
        {"device", "primary_key", SPAN_LIT("4")},
        {"device", "primary_key", SPAN_LIT("")},
        {"device", "primary_key", SPAN_LIT("42\0")},
        {"device", "secondary_key", SPAN_LIT("42")},
        {"policy", "primary_key", SPAN_LIT("42")},
        {"devic", "eprimary_key", SPAN_LIT("42")},
        {"device", "primary_ke", SPAN_LIT("y42")},
        {"", "dummy", SPAN_LIT("")},
    };
    AUTO(buf_done) struct buf b = BUF_INIT(256);
    seal_text(f->k, here, K1, &b);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct secret s = {{9}, 1};
        assert_err(keyring_unseal(f->k, places[i], buf_span(&b), &s), E_CORRUPT);
        assert_true(s.n == 1 && s.b[0] == 9);
    }
}

/* What is longer than a secret: same seal, same refusals. */
static void test_seal_blob(void **state)
{
    struct fixture *f = *state;
    static uint8_t text[SEAL_BLOB_MAX + 1];
    AUTO(buf_done) struct buf sealed = BUF_INIT(2 * SEAL_BLOB_MAX), out = BUF_INIT(SEAL_BLOB_MAX);
    static const struct seal_place there = {"device", "primary_key", SPAN_LIT("43")};
    struct secret s = {{0}, 0};
    random_bytes(text, sizeof(text));
    assert_err(keyring_seal_blob(f->k, here, span_of(text, sizeof(text)), &sealed), E_TOO_LARGE);
    assert_ok(keyring_seal_blob(f->k, here, span_of(text, SEAL_BLOB_MAX), &sealed));
    assert_int_equal(sealed.n, SEAL_BLOB_MAX + SEAL_OVERHEAD);
    assert_ok(keyring_unseal_blob(f->k, here, buf_span(&sealed), &out));
    assert_true(span_eq(buf_span(&out), span_of(text, SEAL_BLOB_MAX)));
    assert_err(keyring_unseal_blob(f->k, there, buf_span(&sealed), &out), E_CORRUPT);
    assert_err(keyring_unseal(f->k, here, buf_span(&sealed), &s), E_CORRUPT);
    sealed.p[sealed.n / 2] ^= 1;
    assert_err(keyring_unseal_blob(f->k, here, buf_span(&sealed), &out), E_CORRUPT);
    assert_int_equal(out.n, 0);
}

static void test_seal_damaged(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf b = BUF_INIT(256);
    struct secret s = {{0}, 0};
    seal_text(f->k, here, K1, &b);
    for (size_t i = 0; i < b.n; i++) {
        b.p[i] ^= 0x10;
        assert_err(keyring_unseal(f->k, here, buf_span(&b), &s), E_CORRUPT);
        b.p[i] ^= 0x10;
        assert_err(keyring_unseal(f->k, here, span_sub(buf_span(&b), 0, i), &s), E_CORRUPT);
    }
    buf_add_u8(&b, 0);
    assert_err(keyring_unseal(f->k, here, buf_span(&b), &s), E_CORRUPT);
    b.n--;
    assert_ok(keyring_unseal(f->k, here, buf_span(&b), &s));
    secret_done(&s);
}

static void test_place_too_long(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf b = BUF_INIT(256);
    static uint8_t row[600];
    struct secret s = {{0}, 0};
    struct seal_place at = {"device", "primary_key", {row, sizeof(row)}};
    assert_err(keyring_seal(f->k, at, SPAN_LIT("x"), &b), E_TOO_LARGE);
    seal_text(f->k, here, K1, &b);
    assert_err(keyring_unseal(f->k, at, buf_span(&b), &s), E_CORRUPT);
}

/* --- MACs --------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name, *key, *sr, *sig;
} vectors[] = {
    { "V1",  K1, "hub1.example.net%2Fdevices%2Fdev-1", "yRhEVesrc2zNiibYV1tvBxjTqCTKQhhhsRaN8ZR2MYw=" },
    { "V2",  K1, "hub1.example.net%2fdevices%2fdev-1", "bO+ErrpXFO+uBThb909oVCo1fd5fHtgxroPfKjg/yr8=" },
    { "V3",  K1, "hub1.example.net/devices/dev-1", "Kd4smsDOBUYZyONFZc2bNqP6w/+F2ZGkNrMLrDQAoyk=" },
    { "V4",  K1, "hub1.example.net%2Fdevices%2Fdev-1%2Fmodules%2Fmod.A", "8LUT5m1Jj9M3lenl7+lxMq43lyL4uRCaoOxdlTCNfjw=" },
    { "V5",  K2, "hub1.example.net", "pfKM0waaFdUnR7nRCQK8oLyqlaaxro2QYWQGuAZ3yQ0=" },
    { "V6",  K1, "0ne00000A1B/registrations/reg-1", "bcaDqhEWEJNYhnLvClv8G63YtP3sKFO+a0iavGEI+6k=" },
    { "V7",  K1, "0ne00000A1B%2Fregistrations%2Freg-1", "VwrDvvf21GF4OCrWTcP509TxUsnOjJwnt6MKyCpN4L8=" },
    { "V8",  K2_REG_1, "0ne00000A1B%2Fregistrations%2Freg-1", "2yy2x5k20DcY7qf1EVXhhkJVJncsgy/TMich/tY7r+w=" },
    { "V9",  K2, "dps1.example.net", "I0P6BiE6dW+sJ4rz8qqzW1ZCeRWOrXwf+XjFm27O4E0=" },
    { "V10", K1, "hub1.example.net%2Fdevices%2Fa%2ab%27c%28d%29", "+58vGZK7T7EMH5/iKai65uGyE1jQGZoJceqimV4dy3s=" },
};
static const struct {
    const char *key, *id, *derived;
} derivations[] = {
    { K2,      "reg-1",                                  K2_REG_1 },
    { K_GUIDE, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6",   "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=" },
};
/* clang-format on */

static void test_vectors(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        AUTO(buf_done) struct buf sealed = BUF_INIT(256), text = BUF_INIT(256), sig = BUF_INIT(64);
        seal_text(f->k, here, vectors[i].key, &sealed);
        buf_addf(&text, "%s\n4102444800", vectors[i].sr);
        assert_ok(base64_decode(span_str(vectors[i].sig), &sig));
        if (!keyring_mac_matches(f->k, here, buf_span(&sealed), buf_span(&text), buf_span(&sig))) {
            fail_msg("%s", vectors[i].name);
        }
        text.p[text.n - 1] ^= 1;
        assert_false(
            keyring_mac_matches(f->k, here, buf_span(&sealed), buf_span(&text), buf_span(&sig)));
    }
}

static void test_derivations(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(derivations); i++) {
        AUTO(buf_done) struct buf sealed = BUF_INIT(256);
        struct secret want = {{0}, 0}, got = {{0}, 0};
        seal_text(f->k, here, derivations[i].key, &sealed);
        assert_ok(secret_from_base64(&want, span_str(derivations[i].derived)));
        assert_ok(keyring_derive(f->k, here, buf_span(&sealed), span_str(derivations[i].id), &got));
        assert_span(secret_span(&got), secret_span(&want));
        sealed.p[sealed.n - 1] ^= 1;
        assert_err(keyring_derive(f->k, here, buf_span(&sealed), SPAN_LIT("x"), &got), E_CORRUPT);
        assert_span(secret_span(&got), secret_span(&want));
    }
}

/* RFC 4231 test cases 1, 2, 6 (a key longer than a block), and an empty key. */
static void test_mac(void **state)
{
    (void)state;
    static const uint8_t aa[131] = {[0 ... 130] = 0xaa}, b20[20] = {[0 ... 19] = 0x0b};
    const struct {
        struct span key, text;
        const char *hex;
    } rows[] = {
        {{b20, 20},
         SPAN_LIT("Hi There"),
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {SPAN_LIT("Jefe"), SPAN_LIT("what do ya want for nothing?"),
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {{aa, 131},
         SPAN_LIT("Test Using Larger Than Block-Size Key - Hash Key First"),
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {SPAN_NONE, SPAN_NONE, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t mac[MAC_SIZE];
        char hex[2 * MAC_SIZE + 1];
        mac_sha256(rows[i].key, rows[i].text, mac);
        hex_to_cstr(span_of(mac, sizeof(mac)), false, hex);
        assert_string_equal(hex, rows[i].hex);
    }
    uint8_t digest[32];
    char hex[65];
    sha256(SPAN_LIT("abc"), digest);
    hex_to_cstr(span_of(digest, 32), false, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* N8: no key, a key of another row, a signature of another length: false, after the same work. */
static void test_mac_refusals(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf sealed = BUF_INIT(256);
    struct secret key = {{0}, 0};
    uint8_t mac[MAC_SIZE + 1] = {0}, empty_mac[MAC_SIZE];
    struct span text = SPAN_LIT("sr\n1"), sig = span_of(mac, MAC_SIZE);
    seal_text(f->k, here, K1, &sealed);
    assert_ok(secret_from_base64(&key, span_str(K1)));
    mac_sha256(secret_span(&key), text, mac);
    mac_sha256(SPAN_NONE, text, empty_mac);
    struct seal_place other = {"device", "primary_key", SPAN_LIT("43")};
    assert_true(keyring_mac_matches(f->k, here, buf_span(&sealed), text, sig));
    assert_false(keyring_mac_matches(f->k, other, buf_span(&sealed), text, sig));
    assert_false(keyring_mac_matches(f->k, here, SPAN_NONE, text, sig));
    assert_false(keyring_mac_matches(f->k, here, SPAN_NONE, text, span_of(empty_mac, MAC_SIZE)));
    assert_false(keyring_mac_matches(f->k, here, SPAN_NONE, text, SPAN_NONE));
    assert_false(keyring_mac_matches(f->k, here, buf_span(&sealed), text, SPAN_NONE));
    assert_false(keyring_mac_matches(f->k, here, buf_span(&sealed), text, span_of(mac, 31)));
    assert_false(keyring_mac_matches(f->k, here, buf_span(&sealed), text, span_of(mac, 33)));
    for (size_t i = 0; i < MAC_SIZE; i++) {
        mac[i] ^= 0x80;
        assert_false(keyring_mac_matches(f->k, here, buf_span(&sealed), text, sig));
        mac[i] ^= 0x80;
    }
}

static int64_t best_ns(const struct keyring *k, struct span sealed)
{
    static const uint8_t sig[MAC_SIZE];
    int64_t best = INT64_MAX;
    for (int batch = 0; batch < 100; batch++) {
        struct timespec from, to;
        (void)clock_gettime(CLOCK_MONOTONIC, &from);
        for (int i = 0; i < 50; i++) {
            assert_false(keyring_mac_matches(k, here, sealed, SPAN_LIT("sr\n1"), span_of(sig, 32)));
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &to);
        best = MIN(best, (to.tv_sec - from.tv_sec) * 1000000000 + (to.tv_nsec - from.tv_nsec));
    }
    return best;
}

/* N8: an unknown identity costs what a known one does. The best of many batches, so that a busy
 * machine does not count; without the dummy the times differ by a factor of three. */
static void test_mac_same_work(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf sealed = BUF_INIT(256);
    seal_text(f->k, here, K1, &sealed);
    int64_t known = best_ns(f->k, buf_span(&sealed));
    int64_t unknown = best_ns(f->k, SPAN_NONE);
    assert_true(unknown < 2 * known && known < 2 * unknown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_is_made_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seal_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seal_is_fresh, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seal_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seal_blob, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seal_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_place_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vectors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_derivations, setup, teardown),
        cmocka_unit_test(test_mac),
        cmocka_unit_test_setup_teardown(test_mac_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mac_same_work, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
