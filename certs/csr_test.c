/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two ways to read a request (certs/csr_plain.c and X509_REQ) never differ: same verdict, same name, same key, same certificate. Over
 * requests as tools make them, over ones that are strange in every place, and over all that one changed byte can make of one, signed anew.
 */
#include "certs/signer_int.h"

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/crypto_lib.h"
#include "certs/zoo.h"
#include "tests/unit.h"

struct bench {
    struct crypto_lib *lib;
    struct signer_key *ca_key;
    struct cert *ca;
    EVP_PKEY *key;        /* P-256 */
    size_t n_ok, n_plain; /* of all that was compared: taken, and taken by the short way */
};

static struct cert_request profile(enum cert_profile p, const char *cn, int64_t days)
{
    return (struct cert_request){.profile = p,
                                 .cn = span_str(cn),
                                 .not_before_us = ZOO_NOW_US,
                                 .not_after_us = ZOO_NOW_US + days * ZOO_DAY_US};
}

static int setup(void **state)
{
    struct bench *b = NEW(struct bench);
    struct cert_request rq = profile(PROFILE_ROOT_CA, "Example Root", 300);
    assert_non_null(b);
    assert_ok(crypto_lib_new(&b->lib, NULL));
    assert_ok(signer_key_generate(KEY_P256, &b->ca_key));
    assert_ok(signer_issue_now(b->ca_key, NULL, NULL, NULL, &rq, &b->ca, NULL));
    b->key = EVP_EC_gen("P-256");
    assert_non_null(b->key);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    cert_free(b->ca);
    signer_key_free(b->ca_key);
    EVP_PKEY_free(b->key);
    crypto_lib_unref(b->lib);
    free(b);
    return 0;
}

/* --- comparing ---------------------------------------------------------------------------------- */

static void same_certificate(struct bench *b, const struct csr *x, const struct csr *y)
{
    AUTO(cert_free_p) struct cert *cx = NULL, *cy = NULL;
    AUTO(buf_done) struct buf sx = BUF_INIT(LIMIT_CERT_DER), sy = BUF_INIT(LIMIT_CERT_DER);
    const struct cert_request rq = profile(PROFILE_DEVICE, "dev-1", 30);
    assert_ok(signer_issue_now(b->ca_key, b->ca, x, NULL, &rq, &cx, NULL));
    assert_ok(signer_issue_now(b->ca_key, b->ca, y, NULL, &rq, &cy, NULL));
    cert_add_spki(cx, &sx);
    cert_add_spki(cy, &sy);
    assert_span(buf_span(&sx), buf_span(&sy));
    assert_true(cert_same_key(cx, cy) && csr_fits(x, cy) && csr_fits(y, cx));
    assert_int_equal(
        ASN1_OCTET_STRING_cmp(X509_get0_subject_key_id(cx->x), X509_get0_subject_key_id(cy->x)), 0);
}

static void same(struct bench *b, const struct csr *x, const struct csr *y)
{
    struct span nx = SPAN_NONE, ny = SPAN_NONE;
    enum err ex = csr_cn(x, &nx, NULL), ey = csr_cn(y, &ny, NULL);
    assert_err(ex, ey);
    assert_span(nx, ny);
    assert_int_equal(X509_NAME_cmp(x->subject, y->subject), 0);
    assert_int_equal(csr_key_type(x), csr_key_type(y));
    assert_int_equal(EVP_PKEY_eq(x->key, y->key), 1);
    same_certificate(b, x, y);
}

/* The verdict of both ways, in both contexts. */
static enum err compare(struct bench *b, struct span der)
{
    struct crypto_lib *const libs[] = {NULL, b->lib};
    enum err want = OK;
    for (size_t i = 0; i < ARRAY_LEN(libs); i++) {
        AUTO(csr_free_p) struct csr *x = NULL, *y = NULL;
        enum err e = csr_from_der_whole(libs[i], der, &y, NULL);
        assert_true(i == 0 || e == want);
        want = e;
        assert_err(csr_from_der_in(libs[i], der, &x, NULL), want);
        assert_true((x != NULL) == (want == OK) && (y != NULL) == (want == OK));
        if (want == OK) {
            assert_null(y->plain);
            same(b, x, y);
            b->n_ok++;
            b->n_plain += x->plain != NULL ? 1 : 0;
        }
    }
    return want;
}

/* --- requests as tools make them ------------------------------------------------------------------ */

static void add_extensions(X509_REQ *rq)
{
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    (void)sk_X509_EXTENSION_push(
        exts, X509V3_EXT_nconf_nid(NULL, NULL, NID_subject_alt_name, "DNS:hub1.example.net"));
    assert_int_equal(X509_REQ_add_extensions(rq, exts), 1);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
}

static struct span made(EVP_PKEY *key, const EVP_MD *md, bool has_extensions)
{
    X509_REQ *rq = X509_REQ_new();
    unsigned char *der = NULL;
    assert_true(name_put(X509_REQ_get_subject_name(rq), NID_organizationName, SPAN_LIT("Example")));
    assert_true(name_put(X509_REQ_get_subject_name(rq), NID_commonName, SPAN_LIT("dev-1")));
    assert_int_equal(X509_REQ_set_pubkey(rq, key), 1);
    if (has_extensions) {
        add_extensions(rq);
    }
    assert_true(X509_REQ_sign(rq, key, md) > 0);
    int n = i2d_X509_REQ(rq, &der);
    assert_true(n > 0);
    X509_REQ_free(rq);
    return span_of(der, (size_t)n);
}

static EVP_PKEY *ec_written(const char *curve, const char *param, const char *value)
{
    EVP_PKEY *k = EVP_EC_gen(curve);
    assert_non_null(k);
    assert_true(param == NULL || EVP_PKEY_set_utf8_string_param(k, param, value) == 1);
    return k;
}

static void every_kind_of_key(void **state)
{
    static const char form[] = OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT;
    struct bench *b = *state;
    const struct {
        EVP_PKEY *key;
        const EVP_MD *md;
        bool is_plain;
        enum err want;
    } rows[] = {
        /* clang-format off */
        {ec_written("P-256", NULL, NULL),                          EVP_sha256(), true,  OK},
        {ec_written("P-256", NULL, NULL),                          EVP_sha384(), true,  OK},
        {ec_written("P-256", form, "compressed"),                  EVP_sha256(), false, OK},
        {ec_written("P-256", form, "hybrid"),                      EVP_sha256(), false, OK},
        {ec_written("P-256", OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PKEY_EC_ENCODING_EXPLICIT), EVP_sha256(), false, E_CERT},
        {ec_written("P-384", NULL, NULL),                          EVP_sha384(), false, OK},
        {ec_written("P-521", NULL, NULL),                          EVP_sha512(), false, OK},
        {ec_written("secp256k1", NULL, NULL),                      EVP_sha256(), false, E_CERT},
        {EVP_RSA_gen(2048),                                        EVP_sha256(), false, OK},
        {EVP_RSA_gen(1024),                                        EVP_sha256(), false, E_CERT},
        {EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),                 NULL,         false, E_CERT},
        /* clang-format on */
    };
    for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
        struct span der = made(rows[i / 2].key, rows[i / 2].md, i % 2 == 1);
        size_t before = b->n_plain;
        assert_err(compare(b, der), rows[i / 2].want);
        assert_int_equal(b->n_plain != before, rows[i / 2].is_plain);
        OPENSSL_free((void *)(uintptr_t)der.p);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        EVP_PKEY_free(rows[i].key);
    }
}

/* --- requests by hand --------------------------------------------------------------------------------- */

#define P256_HEAD                                                                                  \
    "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07" \
    "\x03\x42\x00"
#define SUBJECT                                                                                    \
    "\x30\x10\x31\x0e\x30\x0c\x06\x03\x55\x04\x03\x0c\x05"                                         \
    "dev-1"
#define V1 "\x02\x01\x00"
#define ATTRIBUTES "\xa0\x00"
#define BY_SHA256 "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"

static void put(struct buf *b, uint8_t tag, struct span content)
{
    buf_add_u8(b, tag);
    if (content.n >= 0x80) {
        buf_add_u8(b, 0x82);
        buf_add_be16(b, (uint16_t)content.n);
    } else {
        buf_add_u8(b, (uint8_t)content.n);
    }
    buf_add(b, content);
}

/* Whatever it says, with a good signature behind it. */
static enum err signed_anew(struct bench *b, struct span info, struct span algorithm)
{
    AUTO(buf_done) struct buf in = BUF_INIT(4096), out = BUF_INIT(4096), bits = BUF_INIT(256);
    uint8_t sig[128];
    size_t n = sizeof(sig);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, b->key), 1);
    assert_int_equal(EVP_DigestSign(md, sig, &n, info.p, info.n), 1);
    EVP_MD_CTX_free(md);
    buf_add_u8(&bits, 0);
    buf_add(&bits, span_of(sig, n));
    buf_add(&in, info);
    buf_add(&in, algorithm);
    put(&in, 0x03, buf_span(&bits));
    put(&out, 0x30, buf_span(&in));
    assert_ok(buf_err(&out));
    return compare(b, buf_span(&out));
}

static struct span point_of(struct bench *b, uint8_t ret[65])
{
    size_t n = 0;
    assert_int_equal(EVP_PKEY_get_octet_string_param(b->key, OSSL_PKEY_PARAM_PUB_KEY, ret, 65, &n),
                     1);
    assert_int_equal(n, 65);
    return span_of(ret, n);
}

static void info_of(struct buf *out, struct span version, struct span subject, struct span spki,
                    struct span attributes)
{
    AUTO(buf_done) struct buf in = BUF_INIT(4096);
    buf_add(&in, version);
    buf_add(&in, subject);
    buf_add(&in, spki);
    buf_add(&in, attributes);
    buf_reset(out);
    put(out, 0x30, buf_span(&in));
}

static void strange_in_one_place(void **state)
{
    struct bench *b = *state;
    AUTO(buf_done) struct buf info = BUF_INIT(4096), spki = BUF_INIT(256);
    uint8_t point[65];
    buf_add(&spki, SPAN_LIT(P256_HEAD));
    buf_add(&spki, point_of(b, point));
    const struct {
        struct span version, subject, attributes, algorithm;
        enum err want;
    } rows[] = {
        /* clang-format off */
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT(BY_SHA256), OK },
        { SPAN_LIT("\2\1\1"), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT(BY_SHA256), OK },
        { SPAN_LIT("\2\2\0\0"), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT(BY_SHA256), E_MALFORMED },
        { SPAN_LIT("\2\0"), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT(BY_SHA256), E_MALFORMED },
        { SPAN_NONE, SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT(BY_SHA256), E_MALFORMED },
        { SPAN_LIT(V1), SPAN_LIT("\x30\0"), SPAN_LIT(ATTRIBUTES), SPAN_LIT(BY_SHA256), OK },
        { SPAN_LIT(V1), SPAN_LIT("\x31\0"), SPAN_LIT(ATTRIBUTES), SPAN_LIT(BY_SHA256), E_MALFORMED },
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_NONE, SPAN_LIT(BY_SHA256), OK },
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_LIT("\xa1\0"), SPAN_LIT(BY_SHA256), E_MALFORMED },
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_LIT("\xa0\2\x30\0"), SPAN_LIT(BY_SHA256), E_MALFORMED },
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES "\5\0"), SPAN_LIT(BY_SHA256), E_MALFORMED },
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT("\x30\x0c\6\x08\x2a\x86\x48\xce\x3d\4\3\2\5\0"), OK },
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT("\x30\x0a\6\x08\x2a\x86\x48\xce\x3d\4\3\3"), E_CERT },
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT("\x30\x0d\6\x09\x2a\x86\x48\x86\xf7\x0d\1\1\x0b\5\0"), E_CERT },
        { SPAN_LIT(V1), SPAN_LIT(SUBJECT), SPAN_LIT(ATTRIBUTES), SPAN_LIT("\x30\0"), E_MALFORMED },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        info_of(&info, rows[i].version, rows[i].subject, buf_span(&spki), rows[i].attributes);
        enum err e = signed_anew(b, buf_span(&info), rows[i].algorithm);
        if (e != rows[i].want) {
            print_error("row %zu: %s\n", i, err_name(e));
            fail();
        }
    }
}

/* The same key, written in every way that some reader might take; and what is no key. What either way makes of them is the same. */
static void keys_written_strangely(void **state)
{
    static const struct {
        struct span head, tail; /* around the 64 bytes of x and y */
    } rows[] = {
        /* clang-format off */
        { SPAN_LIT("\x30\x81\x59" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x42\0\4"), SPAN_NONE },
        { SPAN_LIT("\x30\x80" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x42\0\4"), SPAN_LIT("\0\0") },
        { SPAN_LIT("\x30\x5b" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x42\0\4"), SPAN_LIT("\5\0") },
        { SPAN_LIT("\x30\x59" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x42\1\4"), SPAN_NONE },
        { SPAN_LIT("\x30\x59" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\4\x42\0\4"), SPAN_NONE },
        { SPAN_LIT("\x30\x59" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x42\0\6"), SPAN_NONE },
        { SPAN_LIT("\x30\x59" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\1\3\x42\0\4"), SPAN_NONE },
        { SPAN_LIT("\x30\x51" "\x30\x0b\6\7\x2a\x86\x48\xce\x3d\2\1\5\0\3\x42\0\4"), SPAN_NONE },
        { SPAN_LIT("\x30\x4f" "\x30\x09\6\7\x2a\x86\x48\xce\x3d\2\1\3\x42\0\4"), SPAN_NONE },
        { SPAN_LIT("\x30\x57" "\x30\x11\6\5\x2b\x81\4\1\x0c\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x42\0\4"), SPAN_NONE },
        { SPAN_LIT("\x31\x59" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x42\0\4"), SPAN_NONE },
        { SPAN_LIT("\x30\x5a" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x43\0\4"), SPAN_LIT("\0") },
        { SPAN_LIT("\x30\x5a" "\x30\x13\6\7\x2a\x86\x48\xce\x3d\2\1\6\x08\x2a\x86\x48\xce\x3d\3\1\7\3\x81\x42\0\4"), SPAN_NONE },
        /* clang-format on */
    };
    struct bench *b = *state;
    AUTO(buf_done) struct buf info = BUF_INIT(4096), spki = BUF_INIT(256);
    uint8_t point[65];
    struct span xy = span_from(point_of(b, point), 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&spki);
        buf_add(&spki, rows[i].head);
        buf_add(&spki, xy);
        buf_add(&spki, rows[i].tail);
        info_of(&info, SPAN_LIT(V1), SPAN_LIT(SUBJECT), buf_span(&spki), SPAN_LIT(ATTRIBUTES));
        (void)signed_anew(b, buf_span(&info), SPAN_LIT(BY_SHA256));
    }
    /* no point of the curve; the point at infinity */
    static const uint8_t zeros[65] = {4};
    struct span bad[] = {span_of(zeros, sizeof(zeros)), SPAN_LIT("\0")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        buf_reset(&spki);
        buf_add(&spki, SPAN_LIT(P256_HEAD));
        buf_add(&spki, bad[i]);
        spki.p[1] = (uint8_t)(spki.n - 2);
        spki.p[24] = (uint8_t)(bad[i].n + 1);
        info_of(&info, SPAN_LIT(V1), SPAN_LIT(SUBJECT), buf_span(&spki), SPAN_LIT(ATTRIBUTES));
        assert_err(signed_anew(b, buf_span(&info), SPAN_LIT(BY_SHA256)), E_CERT);
    }
}

/* Every byte of what is signed changed, with a signature that fits; every byte of the request changed; every length. */
static void one_byte_changed(void **state)
{
    static const uint8_t by[] = {0x01, 0xa4};
    struct bench *b = *state;
    AUTO(buf_done) struct buf info = BUF_INIT(4096), spki = BUF_INIT(256);
    uint8_t point[65];
    buf_add(&spki, SPAN_LIT(P256_HEAD));
    buf_add(&spki, point_of(b, point));
    info_of(&info, SPAN_LIT(V1), SPAN_LIT(SUBJECT), buf_span(&spki), SPAN_LIT(ATTRIBUTES));
    size_t ok = b->n_ok, plain = b->n_plain;
    for (size_t i = 0; i < info.n * ARRAY_LEN(by); i++) {
        uint8_t *at = &info.p[i / ARRAY_LEN(by)], was = *at;
        *at ^= by[i % ARRAY_LEN(by)];
        (void)signed_anew(b, buf_span(&info), SPAN_LIT(BY_SHA256));
        *at = was;
    }
    assert_true(b->n_ok > ok + 20 && b->n_plain > plain + 20); /* else nothing was compared */
    struct span der = made(b->key, EVP_sha256(), true);
    uint8_t *p = (uint8_t *)(uintptr_t)der.p;
    for (size_t i = 0; i < der.n; i++) {
        p[i] ^= by[i % ARRAY_LEN(by)];
        (void)compare(b, der);
        p[i] ^= by[i % ARRAY_LEN(by)];
    }
    for (size_t n = 0; n < der.n; n++) {
        assert_err(compare(b, span_sub(der, 0, n)), E_MALFORMED);
    }
    assert_ok(compare(b, der));
    buf_reset(&info);
    buf_add(&info, der);
    buf_add_u8(&info, 0); /* behind it */
    assert_err(compare(b, buf_span(&info)), E_MALFORMED);
    OPENSSL_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_of_key, setup, teardown),
        cmocka_unit_test_setup_teardown(strange_in_one_place, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_written_strangely, setup, teardown),
        cmocka_unit_test_setup_teardown(one_byte_changed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
