/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing and describing; the CN tricks of threat C1 in hand-made DER; the texts of dps-service-rest.md B2. */
#include "certs/cert.h"

#include "base/text.h"
#include "certs/keyring.h"
#include "certs/zoo.h"
#include "tests/unit.h"

#define Z (&f->zoo)
#define MAKE(...) zoo_make(Z, &(struct zoo_spec){__VA_ARGS__})

struct fixture {
    struct zoo zoo;
    const struct zoo_id *root, *leaf;
};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    f->root = zoo_root(Z, "Root");
    f->leaf = zoo_leaf(Z, "dev-1", f->root);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    zoo_free(Z);
    free(f);
    return 0;
}

/* --- names in DER ------------------------------------------------------------------------------- */

static void add_tlv(struct buf *b, uint8_t tag, struct span v)
{
    buf_add_u8(b, tag);
    if (v.n >= 0x80) {
        buf_add_u8(b, 0x81);
    }
    assert_true(v.n < 256);
    buf_add_u8(b, (uint8_t)v.n);
    buf_add(b, v);
}

/* One AttributeTypeAndValue of X.520: 2.5.4.attr. */
static void add_atv(struct buf *b, uint8_t attr, uint8_t tag, struct span v)
{
    AUTO(buf_done) struct buf in = BUF_INIT(512);
    const uint8_t oid[] = {0x55, 0x04, attr};
    add_tlv(&in, 0x06, span_of(oid, sizeof(oid)));
    add_tlv(&in, tag, v);
    add_tlv(b, 0x30, buf_span(&in));
}

#define CN 3
#define ORG 10
#define UTF8 0x0c
#define NUMERIC 0x12
#define PRINTABLE 0x13
#define T61 0x14
#define IA5 0x16
#define UNIVERSAL 0x1c
#define BMP 0x1e
#define CN64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* clang-format off */
static const struct {
    const char *name;
    struct {
        uint8_t attr, tag;
        struct span v;
        bool same_rdn; /* as the one before */
    } part[3];
    enum err want;
    struct span cn; /* SPAN_NONE: the first part's */
    bool is_rid;    /* and passes for a registration id */
} names[] = {
    { "UTF-8",                  {{ CN, UTF8, SPAN_LIT("dev-1"), false }}, OK, SPAN_NONE, true },
    { "printable",              {{ CN, PRINTABLE, SPAN_LIT("dev-1"), false }}, OK, SPAN_NONE, true },
    { "IA5",                    {{ CN, IA5, SPAN_LIT("dev-1"), false }}, OK, SPAN_NONE, true },
    { "64 bytes",               {{ CN, UTF8, SPAN_LIT(CN64), false }}, OK, SPAN_NONE, true },
    { "65 bytes",               {{ CN, UTF8, SPAN_LIT(CN64 "x"), false }}, E_CERT, SPAN_NONE, false },
    { "empty",                  {{ CN, UTF8, SPAN_LIT(""), false }}, E_CERT, SPAN_NONE, false },
    { "zero inside",            {{ CN, UTF8, SPAN_LIT("dev-1\0.evil"), false }}, E_CERT, SPAN_NONE, false },
    { "zero inside, IA5",       {{ CN, IA5, SPAN_LIT("dev-1\0.evil"), false }}, E_CERT, SPAN_NONE, false },
    { "zero at the end",        {{ CN, PRINTABLE, SPAN_LIT("dev-1\0"), false }}, E_CERT, SPAN_NONE, false },
    { "line end",               {{ CN, UTF8, SPAN_LIT("dev-1\n"), false }}, E_CERT, SPAN_NONE, false },
    { "escape",                 {{ CN, IA5, SPAN_LIT("\x1b[2J"), false }}, E_CERT, SPAN_NONE, false },
    { "delete",                 {{ CN, UTF8, SPAN_LIT("dev\x7f"), false }}, E_CERT, SPAN_NONE, false },
    { "high bytes in IA5",      {{ CN, IA5, SPAN_LIT("d\xc3\xa9v"), false }}, E_CERT, SPAN_NONE, false },
    { "BMP",                    {{ CN, BMP, SPAN_LIT("\0d\0e\0v"), false }}, E_CERT, SPAN_NONE, false },
    { "T61",                    {{ CN, T61, SPAN_LIT("dev-1"), false }}, E_CERT, SPAN_NONE, false },
    { "universal",              {{ CN, UNIVERSAL, SPAN_LIT("\0\0\0d"), false }}, E_CERT, SPAN_NONE, false },
    { "numeric",                {{ CN, NUMERIC, SPAN_LIT("12"), false }}, E_CERT, SPAN_NONE, false },
    { "no CN",                  {{ ORG, UTF8, SPAN_LIT("dev-1"), false }}, E_CERT, SPAN_NONE, false },
    { "CN within another",      {{ ORG, UTF8, SPAN_LIT("x/CN=dev-1,CN=dev-1"), false }}, E_CERT, SPAN_NONE, false },
    { "empty subject",          {{ 0, 0, SPAN_NONE, false }}, E_CERT, SPAN_NONE, false },
    { "two CNs",                {{ CN, UTF8, SPAN_LIT("dev-1"), false }, { CN, UTF8, SPAN_LIT("dev-2"), false }}, E_CERT, SPAN_NONE, false },
    { "the same CN twice",      {{ CN, UTF8, SPAN_LIT("dev-1"), false }, { CN, UTF8, SPAN_LIT("dev-1"), false }}, E_CERT, SPAN_NONE, false },
    { "two CNs in one RDN",     {{ CN, UTF8, SPAN_LIT("dev-1"), false }, { CN, UTF8, SPAN_LIT("dev-2"), true }}, E_CERT, SPAN_NONE, false },
    { "two CNs, others between", {{ CN, UTF8, SPAN_LIT("dev-1"), false }, { ORG, UTF8, SPAN_LIT("O"), false }, { CN, BMP, SPAN_LIT("\0d"), false }}, E_CERT, SPAN_NONE, false },
    { "CN before O",            {{ CN, UTF8, SPAN_LIT("dev-1"), false }, { ORG, UTF8, SPAN_LIT("O"), false }}, OK, SPAN_NONE, true },
    { "CN after O",             {{ ORG, UTF8, SPAN_LIT("O"), false }, { CN, UTF8, SPAN_LIT("dev-1"), false }}, OK, SPAN_LIT("dev-1"), true },
    { "CN and O in one RDN",    {{ CN, UTF8, SPAN_LIT("dev-1"), false }, { ORG, UTF8, SPAN_LIT("O"), true }}, OK, SPAN_NONE, true },
    /* a CA may be called so; no id alphabet takes it */
    { "blank inside",           {{ CN, UTF8, SPAN_LIT("dev 1"), false }}, OK, SPAN_NONE, false },
    { "blank in front",         {{ CN, PRINTABLE, SPAN_LIT(" dev-1"), false }}, OK, SPAN_NONE, false },
    { "blank behind",           {{ CN, IA5, SPAN_LIT("dev-1 "), false }}, OK, SPAN_NONE, false },
    { "wildcard",               {{ CN, IA5, SPAN_LIT("*"), false }}, OK, SPAN_NONE, false },
    { "letters beyond ASCII",   {{ CN, UTF8, SPAN_LIT("d\xc3\xa9v"), false }}, OK, SPAN_NONE, false },
    { "look-alike",             {{ CN, UTF8, SPAN_LIT("\xd0\xb5-1"), false }}, OK, SPAN_NONE, false },
};
/* clang-format on */

static void make_name(size_t row, struct buf *ret)
{
    AUTO(buf_done) struct buf all = BUF_INIT(1024), rdn = BUF_INIT(1024);
    for (size_t i = 0; i < 3 && names[row].part[i].attr != 0; i++) {
        if (i > 0 && !names[row].part[i].same_rdn) {
            add_tlv(&all, 0x31, buf_span(&rdn));
            buf_reset(&rdn);
        }
        add_atv(&rdn, names[row].part[i].attr, names[row].part[i].tag, names[row].part[i].v);
    }
    if (rdn.n != 0) {
        add_tlv(&all, 0x31, buf_span(&rdn));
    }
    add_tlv(ret, 0x30, buf_span(&all));
}

static void test_cn(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO(buf_done) struct buf der = BUF_INIT(1024);
        struct span cn = SPAN_LIT("untouched");
        struct err_info info = {0};
        make_name(i, &der);
        f->zoo.n = 2; /* each row's certificate replaces the one before */
        const struct zoo_id *id =
            MAKE(.subject_der = buf_span(&der), .issuer = f->root, .same_key = f->leaf);
        enum err e = cert_cn(id->cert, &cn, &info);
        struct span want = names[i].cn.n != 0 ? names[i].cn : names[i].part[0].v;
        want = e == OK ? want : SPAN_LIT("untouched");
        if (e != names[i].want || !span_eq(cn, want) ||
            (e == OK && id_registration_ok(cn) != names[i].is_rid)) {
            print_error("row \"%s\": %s %s\n", names[i].name, err_name(e), info.why);
            fail();
        }
        AUTO(buf_done) struct buf shown = BUF_INIT(4096);
        cert_add_subject(id->cert, &shown);
        assert_true(span_is_utf8(buf_span(&shown)) || shown.n == 0);
        assert_null(memchr(shown.n != 0 ? shown.p : (const uint8_t *)"", '\n', shown.n));
        cert_free(f->zoo.id[2].cert);
        EVP_PKEY_free(f->zoo.id[2].key);
    }
    f->zoo.n = 2;
}

/* OpenSSL does not read most of these as a name at all, so they are patched into a certificate. */
static void test_cn_patched(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t tag;
        const char *text;
    } rows[] = {
        {UTF8, "\xff\xfe"},    {UTF8, "\xc0\xaf"}, {UTF8, "\xed\xa0\x80"},
        {UTF8, "\xc3"},        {0x1a, "dev-1"}, /* visible */
        {0x1b, "dev-1"},                        /* general */
        {0x04, "dev-1"},                        /* octets */
        {0x03, "dev-1"},                        /* bits */
        {0x30, "\x04\x03-1x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(buf_done) struct buf der = BUF_INIT(4096);
        AUTO(cert_free_p) struct cert *c = NULL;
        struct span cn;
        buf_add(&der, cert_der(f->leaf->cert));
        uint8_t *at = memmem(der.p, der.n, "dev-1", 5);
        assert_non_null(at);
        memcpy(at, rows[i].text, strlen(rows[i].text));
        at[-2] = rows[i].tag;
        enum err e = cert_from_der(buf_span(&der), &c, NULL);
        assert_true(e == E_MALFORMED || cert_cn(c, &cn, NULL) == E_CERT);
    }
}

/* --- DER ------------------------------------------------------------------------------------------ */

static void test_der_cuts(void **state)
{
    struct fixture *f = *state;
    struct span der = cert_der(f->leaf->cert);
    for (size_t n = 0; n < der.n; n++) {
        struct cert *c = NULL;
        assert_err(cert_from_der(span_sub(der, 0, n), &c, NULL), E_MALFORMED);
        assert_null(c);
    }
}

static void test_der_refusals(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_CERT_DER + 1);
    struct cert *c = NULL;
    buf_add(&b, cert_der(f->leaf->cert));
    buf_add_u8(&b, 0);
    assert_err(cert_from_der(buf_span(&b), &c, NULL), E_MALFORMED); /* a byte behind */
    /* indefinite length instead of 82 xx xx: BER, one more thumbprint for one certificate */
    buf_reset(&b);
    buf_add(&b, SPAN_LIT("\x30\x80"));
    buf_add(&b, span_from(cert_der(f->leaf->cert), 4));
    buf_add(&b, SPAN_LIT("\0\0"));
    assert_err(cert_from_der(buf_span(&b), &c, NULL), E_MALFORMED);
    buf_reset(&b);
    while (b.n <= LIMIT_CERT_DER) {
        buf_add_u8(&b, 0x30);
    }
    assert_err(cert_from_der(buf_span(&b), &c, NULL), E_TOO_LARGE);
    assert_err(cert_from_der(span_sub(buf_span(&b), 0, LIMIT_CERT_DER), &c, NULL), E_MALFORMED);
    assert_null(c);
}

static void test_describe(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf b = BUF_INIT(512);
    uint8_t digest[CERT_SHA256];
    sha256(cert_der(f->leaf->cert), digest);
    assert_memory_equal(cert_sha256(f->leaf->cert), digest, sizeof(digest));
    assert_int_equal(cert_not_before_us(f->leaf->cert), ZOO_NOW_US - ZOO_DAY_US);
    assert_int_equal(cert_not_after_us(f->leaf->cert), ZOO_NOW_US + 365 * ZOO_DAY_US);
    cert_add_subject(f->leaf->cert, &b);
    buf_add_u8(&b, '|');
    cert_add_issuer(f->leaf->cert, &b);
    assert_span(buf_span(&b), SPAN_LIT("CN=dev-1|CN=Root"));
    assert_true(cert_same_key(f->leaf->cert, f->leaf->cert));
    assert_false(cert_same_key(f->leaf->cert, f->root->cert));
    assert_true(cert_issued_by(f->leaf->cert, f->root->cert));
    assert_false(cert_issued_by(f->root->cert, f->leaf->cert));
    struct cert *again = cert_ref(f->leaf->cert);
    assert_ptr_equal(again, f->leaf->cert);
    cert_free(again);
    cert_free(NULL);
}

/* The thumbprint of dps-service-rest.md B2 against a second opinion. */
static void test_thumbprints(void **state)
{
    struct fixture *f = *state;
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n;
    assert_int_equal(X509_digest(f->leaf->cert->x, EVP_sha1(), md, &n), 1);
    assert_memory_equal(cert_sha1(f->leaf->cert), md, CERT_SHA1);
    assert_int_equal(X509_digest(f->leaf->cert->x, EVP_sha256(), md, &n), 1);
    assert_memory_equal(cert_sha256(f->leaf->cert), md, CERT_SHA256);
}

/* --- texts ---------------------------------------------------------------------------------------- */

static void add_crlf(struct buf *b, struct span pem)
{
    for (size_t i = 0; i < pem.n; i++) {
        if (pem.p[i] == '\n') {
            buf_add_u8(b, '\r');
        }
        buf_add_u8(b, pem.p[i]);
    }
}

static void test_texts(void **state)
{
    struct fixture *f = *state;
    enum { PEM, PEM_CRLF, PEM_B64, PEM_CRLF_B64, DER_B64, TWO_PEMS, REMARKS, BLANKS, N };
    AUTO(buf_done) struct buf pem = BUF_INIT(4096);
    struct buf t[N];
    cert_add_pem(f->leaf->cert, &pem);
    for (size_t i = 0; i < N; i++) {
        t[i] = (struct buf)BUF_INIT(16384);
    }
    buf_add(&t[PEM], buf_span(&pem));
    add_crlf(&t[PEM_CRLF], buf_span(&pem));
    base64_add(&t[PEM_B64], buf_span(&pem));
    base64_add(&t[PEM_CRLF_B64], buf_span(&t[PEM_CRLF]));
    base64_add(&t[DER_B64], cert_der(f->leaf->cert));
    buf_add(&t[TWO_PEMS], buf_span(&pem));
    cert_add_pem(f->root->cert, &t[TWO_PEMS]);
    buf_add_str(&t[REMARKS], "Bag Attributes\n  friendlyName: x\nsubject=CN = dev-1\n");
    buf_add(&t[REMARKS], buf_span(&pem));
    buf_add_str(&t[BLANKS], " \r\n");
    add_crlf(&t[BLANKS], buf_span(&t[DER_B64]));
    buf_add_str(&t[BLANKS], "\n ");
    for (size_t i = 0; i < N; i++) {
        AUTO(cert_free_p) struct cert *c = NULL;
        assert_ok(cert_from_text(buf_span(&t[i]), &c, NULL));
        assert_span(cert_der(c), cert_der(f->leaf->cert));
        buf_done(&t[i]);
    }
}

static void test_text_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span text;
        enum err want;
    } rows[] = {
        {"empty", SPAN_LIT(""), E_MALFORMED},
        {"blanks", SPAN_LIT(" \r\n\t"), E_MALFORMED},
        {"words", SPAN_LIT("not a certificate"), E_MALFORMED},
        {"base64 of nothing", SPAN_LIT("AAAA"), E_MALFORMED},
        {"another block",
         SPAN_LIT("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), E_MALFORMED},
        {"no end", SPAN_LIT("-----BEGIN CERTIFICATE-----\nAAAA\n"), E_MALFORMED},
        {"nothing inside", SPAN_LIT("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
         E_MALFORMED},
        {"bad base64", SPAN_LIT("-----BEGIN CERTIFICATE-----\nA*AA\n-----END CERTIFICATE-----\n"),
         E_MALFORMED},
        {"zero inside", SPAN_LIT("MII\0AAAA"), E_MALFORMED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cert *c = NULL;
        struct err_info info = {0};
        enum err e = cert_from_text(rows[i].text, &c, &info);
        if (e != rows[i].want || c != NULL) {
            fail_msg("row \"%s\": %s", rows[i].name, err_name(e));
        }
    }
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_FILE_SMALL + 1);
    struct cert *c = NULL;
    while (b.n <= LIMIT_FILE_SMALL) {
        buf_add_u8(&b, 'A');
    }
    assert_err(cert_from_text(buf_span(&b), &c, NULL), E_TOO_LARGE);
    assert_err(cert_from_text(span_sub(buf_span(&b), 0, 40000), &c, NULL), E_TOO_LARGE);
}

static void test_list(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf b = BUF_INIT(16384);
    struct cert *c[2] = {NULL, NULL};
    size_t n = 7;
    assert_err(cert_list_from_pem(SPAN_LIT("nothing"), c, 2, &n, NULL), E_MALFORMED);
    cert_add_pem(f->leaf->cert, &b);
    cert_add_pem(f->root->cert, &b);
    assert_ok(cert_list_from_pem(buf_span(&b), c, 2, &n, NULL));
    assert_int_equal(n, 2);
    assert_span(cert_der(c[0]), cert_der(f->leaf->cert));
    assert_span(cert_der(c[1]), cert_der(f->root->cert));
    cert_free(TAKE(c[0]));
    cert_free(TAKE(c[1]));
    cert_add_pem(f->root->cert, &b);
    assert_err(cert_list_from_pem(buf_span(&b), c, 2, &n, NULL), E_LIMIT);
    assert_true(c[0] == NULL && c[1] == NULL && n == 2);
    b.p[b.n / 2] = '!';
    assert_err(cert_list_from_pem(buf_span(&b), c, 2, &n, NULL), E_MALFORMED);
    assert_true(c[0] == NULL && c[1] == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cn_patched, setup, teardown),
        cmocka_unit_test_setup_teardown(test_der_cuts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_der_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_describe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_thumbprints, setup, teardown),
        cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
        cmocka_unit_test(test_text_refusals),
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
