/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, requests, profiles (threat C8), the pool, and proof of possession (threat C7; dps-service-rest.md C2, rows 31, 32, 34). */
#include "certs/signer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "base/crypto_lib.h"
#include "base/fs.h"
#include "base/text.h"
#include "certs/chain.h"
#include "certs/keyring.h"
#include "certs/proof.h"
#include "certs/signer_int.h"
#include "certs/signer_hard.h"
#include "certs/signer_pool.h"
#include "certs/zoo.h"
#include "tests/unit.h"

struct ca {
    struct signer_key *root_key, *int_key, *key;
    struct cert *root, *inter;
};

static struct cert_request request(enum cert_profile profile, const char *cn)
{
    return (struct cert_request){.profile = profile,
                                 .cn = span_str(cn),
                                 .not_before_us = ZOO_NOW_US,
                                 .not_after_us = ZOO_NOW_US + 30 * ZOO_DAY_US};
}

static int setup(void **state)
{
    struct ca *f = NEW(struct ca);
    struct cert_request rq = request(PROFILE_ROOT_CA, "Example Root");
    rq.not_after_us += 300 * ZOO_DAY_US;
    rq.organization = SPAN_LIT("Example");
    assert_ok(signer_key_generate(KEY_P384, &f->root_key));
    assert_ok(signer_key_generate(KEY_P256, &f->int_key));
    assert_ok(signer_key_generate(KEY_P256, &f->key));
    assert_ok(signer_issue_now(f->root_key, NULL, NULL, NULL, &rq, &f->root, NULL));
    rq.profile = PROFILE_INTERMEDIATE_CA;
    rq.cn = SPAN_LIT("Example Intermediate");
    assert_ok(signer_issue_now(f->root_key, f->root, NULL, f->int_key, &rq, &f->inter, NULL));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct ca *f = *state;
    signer_key_free(f->root_key);
    signer_key_free(f->int_key);
    signer_key_free(f->key);
    cert_free(f->root);
    cert_free(f->inter);
    free(f);
    return 0;
}

/* --- keys --------------------------------------------------------------------------------------- */

static void test_key_types(void **state)
{
    (void)state;
    static const enum key_type types[] = {KEY_P256, KEY_P384, KEY_RSA2048, KEY_RSA3072};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        AUTO(signer_key_free_p) struct signer_key *k = NULL;
        AUTO(cert_free_p) struct cert *c = NULL;
        struct cert_request rq = request(PROFILE_DEVICE, "dev-1");
        assert_ok(signer_key_generate(types[i], &k));
        assert_ok(signer_issue_now(k, NULL, NULL, NULL, &rq, &c, NULL));
        assert_ok(cert_check_strength(c, NULL));
        assert_true(signer_key_fits(k, c));
        assert_true(cert_issued_by(c, c));
    }
}

struct keyfile {
    char dir[64], path[96];
};

static void keyfile_begin(struct keyfile *f)
{
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/signer-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/key.pem", f->dir);
}

static void keyfile_end(struct keyfile *f)
{
    (void)unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0);
}

static void test_key_file(void **state)
{
    struct ca *ca = *state;
    struct keyfile f;
    struct stat st;
    AUTO(signer_key_free_p) struct signer_key *k = NULL;
    keyfile_begin(&f);
    assert_err(signer_key_load(f.path, &k, NULL), E_NOT_FOUND);
    assert_ok(signer_key_save(ca->int_key, f.path, NULL));
    assert_int_equal(stat(f.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_err(signer_key_save(ca->root_key, f.path, NULL), E_EXISTS);
    assert_ok(signer_key_load(f.path, &k, NULL));
    assert_true(signer_key_fits(k, ca->inter));
    assert_false(signer_key_fits(k, ca->root));
    keyfile_end(&f);
}

static void test_key_file_refusals(void **state)
{
    struct ca *ca = *state;
    struct keyfile f;
    struct signer_key *k = NULL;
    struct zoo z = {.n = 0};
    keyfile_begin(&f);
    assert_ok(signer_key_save(ca->int_key, f.path, NULL));
    assert_int_equal(chmod(f.path, 0644), 0);
    assert_err(signer_key_load(f.path, &k, NULL), E_PERM);
    assert_ok(fs_write_atomic(f.path, SPAN_LIT("-----BEGIN PRIVATE KEY-----\nAAAA\n"), 0600, NULL));
    assert_err(signer_key_load(f.path, &k, NULL), E_MALFORMED);
    assert_ok(fs_write_atomic(f.path, SPAN_NONE, 0600, NULL));
    assert_err(signer_key_load(f.path, &k, NULL), E_MALFORMED);
    /* encrypted: an error, no question on a terminal */
    FILE *out = fopen(f.path, "w");
    assert_int_equal(
        PEM_write_PKCS8PrivateKey(out, ca->int_key->pkey, EVP_aes_256_cbc(), "x", 1, NULL, NULL),
        1);
    assert_int_equal(fclose(out), 0);
    assert_err(signer_key_load(f.path, &k, NULL), E_MALFORMED);
    /* too weak */
    const struct zoo_id *weak = zoo_make(&z, &(struct zoo_spec){.cn = "x", .key = ZOO_RSA1024});
    struct signer_key weak_key = {.pkey = weak->key};
    assert_int_equal(unlink(f.path), 0);
    assert_ok(signer_key_save(&weak_key, f.path, NULL));
    assert_err(signer_key_load(f.path, &k, NULL), E_CERT);
    assert_null(k);
    zoo_free(&z);
    keyfile_end(&f);
}

/* As the DPS keeps keys of issuing CAs. */
static void test_key_der(void **state UNUSED)
{
    AUTO(buf_done) struct buf der = BUF_INIT(SEAL_BLOB_MAX);
    AUTO(buf_done) struct buf cut = BUF_INIT(SEAL_BLOB_MAX);
    for (unsigned t = KEY_P256; t < KEY_RSA4096; t++) {
        AUTO(signer_key_free_p) struct signer_key *k = NULL;
        AUTO(signer_key_free_p) struct signer_key *again = NULL;
        buf_reset(&der);
        assert_ok(signer_key_generate((enum key_type)t, &k));
        assert_int_equal(signer_key_type(k), t);
        assert_ok(signer_key_to_der(k, &der));
        assert_ok(signer_key_from_der(buf_span(&der), &again, NULL));
        assert_int_equal(EVP_PKEY_eq(k->pkey, again->pkey), 1);
    }
    struct signer_key *none = NULL;
    buf_add(&cut, buf_span(&der));
    buf_add_u8(&cut, 0);
    assert_err(signer_key_from_der(buf_span(&cut), &none, NULL), E_MALFORMED);
    for (size_t n = 0; n < 40; n++) {
        assert_err(signer_key_from_der(span_sub(buf_span(&der), 0, n), &none, NULL), E_MALFORMED);
    }
    assert_null(none);
}

/* Keys elsewhere: what is no reference, and what is one but to nothing here. */
static void test_hard_refs(void **state UNUSED)
{
    static const struct {
        const char *ref;
        bool is_tpm;
        enum err want;
    } rows[] = {
        {"pkcs11:token=t;object=o", false, OK},
        {"pkcs11:token=t;object=o?pin-value=1234", false, E_ARG},
        {"pkcs11:token=t;object=o?x=y&PIN-source=/etc/passwd", false, E_ARG},
        {"pkcs11:module-path=/tmp/evil.so;object=o", false, E_ARG},
        {"pkcs11:object=o?module-name=evil", false, E_ARG},
        {"pkcs11:token=a b", false, E_ARG},
        {"file:/etc/ssl/private/ca.key", false, E_ARG},
        {"", false, E_ARG},
        {"handle:0x81000001", true, OK},
        {"handle:0x80000001", true, E_ARG},
        {"handle:0x8100000", true, E_ARG},
        {"handle:0x81000001x", true, E_ARG},
        {"/etc/ssl/private/ca.key", true, E_ARG},
        {"-----BEGIN PRIVATE KEY-----\n", true, E_ARG},
        {"-----BEGIN TSS2 PRIVATE KEY-----\n", true, OK},
    };
    struct hard_keys *h = NULL;
    struct signer_key *k = NULL;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct span ref = span_str(rows[i].ref);
        enum err e = rows[i].is_tpm ? hard_tpm_check(ref, NULL) : hard_pkcs11_check(ref, NULL);
        assert_err(e, rows[i].want);
    }
    assert_ok(hard_keys_new(NULL, NULL, &h));
    assert_err(hard_pkcs11_open(h, span_str(rows[0].ref), &k, NULL), E_CONFIG);
    assert_null(k);
    hard_keys_free(h);
}

/* Certificates one behind the other. */
static void test_cut_der(void **state)
{
    struct ca *f = *state;
    AUTO(buf_done) struct buf both = BUF_INIT(2 * LIMIT_CERT_DER);
    struct cert *list[2] = {NULL, NULL};
    size_t n = 0;
    buf_add(&both, cert_der(f->inter));
    buf_add(&both, cert_der(f->root));
    struct span rest = buf_span(&both);
    assert_true(span_eq(cert_cut_der(&rest), cert_der(f->inter)));
    assert_true(span_eq(cert_cut_der(&rest), cert_der(f->root)));
    assert_int_equal(rest.n, 0);
    assert_int_equal(cert_cut_der(&rest).n, 0);
    assert_ok(cert_list_from_der(buf_span(&both), list, 2, &n, NULL));
    assert_int_equal(n, 2);
    cert_free(list[0]);
    cert_free(list[1]);
    list[0] = list[1] = NULL;
    assert_err(cert_list_from_der(buf_span(&both), list, 1, &n, NULL), E_LIMIT);
    for (size_t cut = 1; cut < both.n; cut++) {
        if (cut != cert_der(f->inter).n) {
            assert_true(cert_list_from_der(span_sub(buf_span(&both), 0, cut), list, 2, &n, NULL) !=
                        OK);
            assert_null(list[0]);
        }
    }
}

/* --- profiles ----------------------------------------------------------------------------------- */

static void test_ca_profiles(void **state)
{
    struct ca *f = *state;
    AUTO(buf_done) struct buf b = BUF_INIT(256);
    assert_true(cert_is_ca(f->root) && cert_is_self_issued(f->root));
    assert_true(cert_is_ca(f->inter) && !cert_is_self_issued(f->inter));
    assert_int_equal(X509_get_pathlen(f->root->x), -1);
    assert_int_equal(X509_get_pathlen(f->inter->x), 0);
    assert_int_equal(X509_get_key_usage(f->inter->x), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_true(cert_issued_by(f->inter, f->root));
    assert_false(cert_issued_by(f->root, f->inter));
    assert_int_equal(cert_version(f->inter), 3);
    cert_add_subject(f->root, &b);
    assert_span(buf_span(&b), SPAN_LIT("CN=Example Root, O=Example"));
    buf_reset(&b);
    cert_add_serial_hex(f->root, &b);
    assert_int_equal(b.n, 40);
    assert_true(b.p[0] < '8');
}

/* A CA that was cut out for one organization (threat S1), and what the verdict of the DPS says of what it issues. */
static void test_delegated_ca(void **state)
{
    struct ca *f = *state;
    AUTO(cert_free_p) struct cert *ca = NULL;
    AUTO(chain_anchors_free_p) struct chain_anchors *by_root = NULL, *by_ca = NULL;
    AUTO(buf_done) struct buf only = BUF_INIT(256);
    struct cert_request rq = request(PROFILE_INTERMEDIATE_CA, "line-1 CA");
    rq.only = SPAN_LIT("line-1");
    assert_ok(signer_issue_now(f->root_key, f->root, NULL, f->int_key, &rq, &ca, NULL));
    signer_ca_only(ca, &only);
    assert_true(span_is(buf_span(&only), "line-1"));
    assert_true(signer_ca_is_last(ca) && !signer_ca_is_last(f->root));
    only.n = 0;
    signer_ca_only(f->inter, &only);
    assert_int_equal(only.n, 0);
    assert_ok(chain_anchors_new(&f->root, 1, NULL, 0, &by_root));
    assert_ok(chain_anchors_new(&ca, 1, NULL, 0, &by_ca));
    static const struct {
        const char *organization;
        enum chain_verdict want;
    } rows[] = {
        {"line-1", CHAIN_OK}, {"line-2", CHAIN_NAME}, {"line-11", CHAIN_NAME}, {"", CHAIN_NAME}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(cert_free_p) struct cert *leaf = NULL;
        struct chain_path path;
        rq = request(PROFILE_DEVICE, "dev-1");
        rq.organization = span_str(rows[i].organization);
        assert_ok(signer_issue_now(f->int_key, ca, NULL, f->key, &rq, &leaf, NULL));
        struct cert_peer peer = {
            .leaf_der = cert_der(leaf), .chain_der = {cert_der(ca)}, .n_chain = 1};
        memcpy(peer.leaf_sha256, cert_sha256(leaf), CERT_SHA256);
        assert_int_equal(chain_verify(by_root, &peer, ZOO_NOW_US + ZOO_DAY_US, &path, NULL),
                         rows[i].want);
        peer.n_chain = 0;
        assert_int_equal(chain_verify(by_ca, &peer, ZOO_NOW_US + ZOO_DAY_US, &path, NULL),
                         rows[i].want);
    }
    /* It makes no further CA; and only a CA is for one organization. */
    rq = request(PROFILE_INTERMEDIATE_CA, "below");
    AUTO(cert_free_p) struct cert *none = NULL;
    assert_err(signer_issue_now(f->int_key, ca, NULL, f->key, &rq, &none, NULL), E_CERT);
    rq = request(PROFILE_DEVICE, "dev-1");
    rq.only = SPAN_LIT("line-1");
    assert_err(signer_issue_now(f->int_key, ca, NULL, f->key, &rq, &none, NULL), E_CERT);
}

static void test_device_profile(void **state)
{
    struct ca *f = *state;
    AUTO(cert_free_p) struct cert *c = NULL;
    struct chain_anchors *a = NULL;
    struct chain_path path;
    struct span cn;
    struct cert_request rq = request(PROFILE_DEVICE, "dev-1");
    assert_ok(signer_issue_now(f->int_key, f->inter, NULL, f->key, &rq, &c, NULL));
    assert_ok(cert_cn(c, &cn, NULL));
    assert_span(cn, SPAN_LIT("dev-1"));
    assert_false(cert_is_ca(c));
    assert_int_equal(X509_get_key_usage(c->x), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_get_extended_key_usage(c->x), XKU_SSL_CLIENT);
    assert_int_equal(cert_not_before_us(c), rq.not_before_us);
    assert_int_equal(cert_not_after_us(c), rq.not_after_us);
    assert_true(signer_key_fits(f->key, c));
    assert_ok(chain_anchors_new(&f->root, 1, NULL, 0, &a));
    struct cert_peer peer = {.leaf_der = cert_der(c), .n_chain = 1};
    peer.chain_der[0] = cert_der(f->inter);
    assert_int_equal(chain_verify(a, &peer, ZOO_NOW_US + 1000000, &path, NULL), CHAIN_OK);
    chain_anchors_free(a);
}

static void test_server_profile(void **state)
{
    struct ca *f = *state;
    static const char *const hosts[] = {"hub1.example.net", "*.example.net", "127.0.0.1", "::1"};
    AUTO(cert_free_p) struct cert *c = NULL;
    struct cert_request rq = request(PROFILE_SERVER, "hub1.example.net");
    rq.hosts = hosts;
    rq.n_hosts = ARRAY_LEN(hosts);
    assert_ok(signer_issue_now(f->int_key, f->inter, NULL, f->key, &rq, &c, NULL));
    assert_int_equal(X509_get_extended_key_usage(c->x), XKU_SSL_SERVER);
    assert_int_equal(X509_check_host(c->x, "hub1.example.net", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(c->x, "other.example.net", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(c->x, "example.com", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(c->x, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(c->x, "::1", 0), 1);
    assert_int_equal(X509_check_ip_asc(c->x, "127.0.0.2", 0), 0);
}

#define CN64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
static const char *const good_host[] = {"a.example"};
static const char *const bad_host[] = {"a.example,IP:1.2.3.4"};
static const char *const bad_host2[] = {""};
static const char *const bad_host3[] = {"a.*.example"};
static const char *const many_hosts[LIMIT_CERT_HOSTS + 1] = {"a.example"};

enum issuer_of { BY_NONE, BY_ROOT, BY_INT, BY_WRONG_KEY, BY_LEAF, BY_NONE_OTHER_KEY };
/* clang-format off */
static const struct {
    const char *name;
    enum cert_profile profile;
    enum issuer_of by;
    struct span cn;
    const char *const *hosts;
    size_t n_hosts;
    int64_t from_days, to_days;
    enum err want;
} issue_rows[] = {
    { "device",                    PROFILE_DEVICE,          BY_INT,       SPAN_LIT("dev-1"), NULL, 0, 0, 9, OK },
    { "device of 64 bytes",        PROFILE_DEVICE,          BY_INT,       SPAN_LIT(CN64), NULL, 0, 0, 9, OK },
    { "device of 65 bytes",        PROFILE_DEVICE,          BY_INT,       SPAN_LIT(CN64 "x"), NULL, 0, 0, 9, E_CERT },
    { "device without CN",         PROFILE_DEVICE,          BY_INT,       SPAN_NONE, NULL, 0, 0, 9, E_CERT },
    { "device with a blank",       PROFILE_DEVICE,          BY_INT,       SPAN_LIT("dev 1"), NULL, 0, 0, 9, E_CERT },
    { "device with a zero",        PROFILE_DEVICE,          BY_INT,       SPAN_LIT("dev\0001"), NULL, 0, 0, 9, E_CERT },
    { "device with hosts",         PROFILE_DEVICE,          BY_INT,       SPAN_LIT("dev-1"), good_host, 1, 0, 9, E_CERT },
    { "device alone",              PROFILE_DEVICE,          BY_NONE,      SPAN_LIT("dev-1"), NULL, 0, 0, 9, OK },
    { "alone for another key",     PROFILE_DEVICE,          BY_NONE_OTHER_KEY, SPAN_LIT("dev-1"), NULL, 0, 0, 9, E_CERT },
    { "ends before it begins",     PROFILE_DEVICE,          BY_INT,       SPAN_LIT("dev-1"), NULL, 0, 9, 9, E_CERT },
    { "outlives its issuer",       PROFILE_DEVICE,          BY_INT,       SPAN_LIT("dev-1"), NULL, 0, 0, 331, E_CERT },
    { "ends with its issuer",      PROFILE_DEVICE,          BY_INT,       SPAN_LIT("dev-1"), NULL, 0, 0, 330, OK },
    { "key is another's",          PROFILE_DEVICE,          BY_WRONG_KEY, SPAN_LIT("dev-1"), NULL, 0, 0, 9, E_CERT },
    { "issuer is a leaf",          PROFILE_DEVICE,          BY_LEAF,      SPAN_LIT("dev-2"), NULL, 0, 0, 9, E_CERT },
    { "CA under pathlen 0",        PROFILE_INTERMEDIATE_CA, BY_INT,       SPAN_LIT("Sub"), NULL, 0, 0, 9, E_CERT },
    { "intermediate alone",        PROFILE_INTERMEDIATE_CA, BY_NONE,      SPAN_LIT("Sub"), NULL, 0, 0, 9, E_CERT },
    { "root under a root",         PROFILE_ROOT_CA,         BY_ROOT,      SPAN_LIT("Sub"), NULL, 0, 0, 9, E_CERT },
    { "CN of bad UTF-8",           PROFILE_ROOT_CA,         BY_NONE,      SPAN_LIT("\xff\xfe"), NULL, 0, 0, 9, E_CERT },
    { "CN with a line end",        PROFILE_ROOT_CA,         BY_NONE,      SPAN_LIT("a\nb"), NULL, 0, 0, 9, E_CERT },
    { "proof",                     PROFILE_PROOF,           BY_ROOT,      SPAN_LIT("0A"), NULL, 0, 0, 9, OK },
    { "proof alone",               PROFILE_PROOF,           BY_NONE,      SPAN_LIT("0A"), NULL, 0, 0, 9, E_CERT },
    { "server",                    PROFILE_SERVER,          BY_INT,       SPAN_LIT("a.example"), good_host, 1, 0, 9, OK },
    { "server without hosts",      PROFILE_SERVER,          BY_INT,       SPAN_LIT("a.example"), NULL, 0, 0, 9, E_CERT },
    { "server, host with a comma", PROFILE_SERVER,          BY_INT,       SPAN_LIT("a.example"), bad_host, 1, 0, 9, E_CERT },
    { "server, empty host",        PROFILE_SERVER,          BY_INT,       SPAN_LIT("a.example"), bad_host2, 1, 0, 9, E_CERT },
    { "server, star inside",       PROFILE_SERVER,          BY_INT,       SPAN_LIT("a.example"), bad_host3, 1, 0, 9, E_CERT },
    { "server, too many hosts",    PROFILE_SERVER,          BY_INT,       SPAN_LIT("a.example"), many_hosts, LIMIT_CERT_HOSTS + 1, 0, 9, E_CERT },
};
/* clang-format on */

static enum err issue_row(struct ca *f, size_t i, struct cert *leaf, struct cert **ret,
                          struct err_info *info)
{
    struct cert_request rq = {.profile = issue_rows[i].profile,
                              .cn = issue_rows[i].cn,
                              .hosts = issue_rows[i].hosts,
                              .n_hosts = issue_rows[i].n_hosts,
                              .not_before_us = ZOO_NOW_US + issue_rows[i].from_days * ZOO_DAY_US,
                              .not_after_us = ZOO_NOW_US + issue_rows[i].to_days * ZOO_DAY_US};
    switch (issue_rows[i].by) {
    case BY_NONE:
        return signer_issue_now(f->key, NULL, NULL, NULL, &rq, ret, info);
    case BY_NONE_OTHER_KEY:
        return signer_issue_now(f->key, NULL, NULL, f->int_key, &rq, ret, info);
    case BY_ROOT:
        return signer_issue_now(f->root_key, f->root, NULL, f->key, &rq, ret, info);
    case BY_INT:
        return signer_issue_now(f->int_key, f->inter, NULL, f->key, &rq, ret, info);
    case BY_WRONG_KEY:
        return signer_issue_now(f->root_key, f->inter, NULL, f->key, &rq, ret, info);
    case BY_LEAF:
        return signer_issue_now(f->key, leaf, NULL, f->int_key, &rq, ret, info);
    }
    return E_BUG;
}

static void test_issue_rows(void **state)
{
    struct ca *f = *state;
    AUTO(cert_free_p) struct cert *leaf = NULL;
    struct cert_request rq = request(PROFILE_DEVICE, "dev-1");
    assert_ok(signer_issue_now(f->int_key, f->inter, NULL, f->key, &rq, &leaf, NULL));
    for (size_t i = 0; i < ARRAY_LEN(issue_rows); i++) {
        AUTO(cert_free_p) struct cert *c = NULL;
        struct err_info info = {0};
        enum err e = issue_row(f, i, leaf, &c, &info);
        if (e != issue_rows[i].want || (c != NULL) != (e == OK)) {
            print_error("row \"%s\": %s %s\n", issue_rows[i].name, err_name(e), info.why);
            fail();
        }
    }
}

/* --- requests ------------------------------------------------------------------------------------ */

static void test_csr(void **state)
{
    struct ca *f = *state;
    AUTO(buf_done)
    struct buf der = BUF_INIT(4096), pem = BUF_INIT(8192), b64 = BUF_INIT(8192),
               b64pem = BUF_INIT(16384);
    assert_ok(signer_make_csr(f->key, SPAN_LIT("dev-1"), &der, NULL));
    csr_add_pem(buf_span(&der), &pem);
    base64_add(&b64, buf_span(&der));
    base64_add(&b64pem, buf_span(&pem));
    const struct span texts[] = {buf_span(&pem), buf_span(&b64), buf_span(&b64pem)};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        AUTO(csr_free_p) struct csr *c = NULL;
        AUTO(cert_free_p) struct cert *cert = NULL;
        struct span cn;
        struct cert_request rq = request(PROFILE_DEVICE, "dev-1");
        assert_ok(csr_from_text(texts[i], &c, NULL));
        assert_ok(csr_cn(c, &cn, NULL));
        assert_span(cn, SPAN_LIT("dev-1"));
        assert_ok(signer_issue_now(f->int_key, f->inter, c, NULL, &rq, &cert, NULL));
        assert_true(signer_key_fits(f->key, cert));
        assert_err(signer_issue_now(f->int_key, NULL, c, NULL, &rq, &cert, NULL), E_CERT);
    }
    for (size_t n = 0; n < der.n; n++) {
        struct csr *c = NULL;
        assert_err(csr_from_der(span_sub(buf_span(&der), 0, n), &c, NULL), E_MALFORMED);
    }
}

/* D36 and C8: what a request may not be, and what of it is not taken over. */
static void test_csr_refusals(void **state)
{
    struct ca *f = *state;
    AUTO(buf_done) struct buf der = BUF_INIT(4096);
    struct zoo z = {.n = 0};
    struct csr *c = NULL;
    assert_err(csr_from_text(SPAN_LIT("garbage!"), &c, NULL), E_MALFORMED);
    assert_err(csr_from_text(SPAN_NONE, &c, NULL), E_MALFORMED);
    assert_err(
        csr_from_text(SPAN_LIT("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                      &c, NULL),
        E_MALFORMED);
    static const enum zoo_key weak[] = {ZOO_RSA1024, ZOO_SECP256K1, ZOO_P256_EXPLICIT, ZOO_ED25519};
    for (size_t i = 0; i < ARRAY_LEN(weak); i++) {
        const struct zoo_id *id = zoo_make(&z, &(struct zoo_spec){.cn = "x", .key = weak[i]});
        X509_REQ *rq = X509_to_X509_REQ(id->cert->x, NULL, NULL);
        unsigned char *p = NULL;
        (void)X509_REQ_sign(rq, id->key, weak[i] == ZOO_ED25519 ? NULL : EVP_sha256());
        int n = i2d_X509_REQ(rq, &p);
        assert_err(csr_from_der(span_of(p, (size_t)n), &c, NULL), E_CERT);
        OPENSSL_free(p);
        X509_REQ_free(rq);
    }
    assert_ok(signer_make_csr(f->key, SPAN_LIT("dev-1"), &der, NULL));
    der.p[der.n - 1] ^= 1; /* the proof that the sender holds the key */
    assert_err(csr_from_der(buf_span(&der), &c, NULL), E_CERT);
    der.p[der.n - 1] ^= 1;
    buf_add_u8(&der, 0);
    assert_err(csr_from_der(buf_span(&der), &c, NULL), E_MALFORMED);
    AUTO(buf_done) struct buf big = BUF_INIT(LIMIT_CERT_DER + 1);
    while (big.n <= LIMIT_CERT_DER) {
        buf_add_u8(&big, 0x30);
    }
    assert_err(csr_from_der(buf_span(&big), &c, NULL), E_TOO_LARGE);
    assert_null(c);
    buf_reset(&der);
    assert_err(signer_make_csr(f->key, SPAN_LIT(CN64 "x"), &der, NULL), E_CERT);
    assert_err(signer_make_csr(f->key, SPAN_NONE, &der, NULL), E_CERT);
    assert_int_equal(der.n, 0);
    zoo_free(&z);
}

static void test_csr_extensions_dropped(void **state)
{
    struct ca *f = *state;
    X509_REQ *rq = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    unsigned char *p = NULL;
    AUTO(csr_free_p) struct csr *c = NULL;
    AUTO(cert_free_p) struct cert *cert = NULL;
    (void)sk_X509_EXTENSION_push(
        exts, X509V3_EXT_nconf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE"));
    (void)sk_X509_EXTENSION_push(
        exts, X509V3_EXT_nconf_nid(NULL, NULL, NID_subject_alt_name, "DNS:hub1.example.net"));
    assert_true(name_put(X509_REQ_get_subject_name(rq), NID_commonName, SPAN_LIT("Root")));
    assert_int_equal(X509_REQ_add_extensions(rq, exts), 1);
    assert_int_equal(X509_REQ_set_pubkey(rq, f->key->pkey), 1);
    assert_true(X509_REQ_sign(rq, f->key->pkey, EVP_sha256()) > 0);
    int n = i2d_X509_REQ(rq, &p);
    assert_ok(csr_from_der(span_of(p, (size_t)n), &c, NULL));
    struct cert_request want = request(PROFILE_DEVICE, "dev-1");
    assert_ok(signer_issue_now(f->int_key, f->inter, c, NULL, &want, &cert, NULL));
    struct span cn;
    assert_ok(cert_cn(cert, &cn, NULL));
    assert_span(cn, SPAN_LIT("dev-1"));
    assert_false(cert_is_ca(cert));
    assert_int_equal(X509_get_ext_by_NID(cert->x, NID_subject_alt_name, -1), -1);
    assert_int_equal(X509_get_ext_count(cert->x), 5); /* bc, ku, eku, ski, aki */
    OPENSSL_free(p);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_REQ_free(rq);
}

/* What is issued for a request is not read again, its key copied where that is safe: it must be what reading would have made of it. */
static void test_made_as_read(void **state)
{
    struct ca *f = *state;
    static const enum key_type types[] = {KEY_P256, KEY_P384, KEY_RSA2048, KEY_P256};
    for (size_t i = 0; i < 2 * ARRAY_LEN(types); i++) {
        AUTO(signer_key_free_p) struct signer_key *key = NULL;
        AUTO(buf_done) struct buf der = BUF_INIT(4096), own = BUF_INIT(4096);
        AUTO(cert_free_p) struct cert *made = NULL, *read = NULL, *usual = NULL;
        AUTO(csr_free_p) struct csr *c = NULL;
        struct crypto_lib *lib = NULL;
        struct cert_request rq = request(PROFILE_DEVICE, "dev-1");
        assert_ok(signer_key_generate(types[i / 2], &key));
        if (i / 2 == 3) { /* its x alone */
            assert_int_equal(
                EVP_PKEY_set_utf8_string_param(key->pub, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                               "compressed"),
                1);
        }
        assert_ok(signer_make_csr(key, SPAN_LIT("dev-1"), &der, NULL));
        if (i % 2 != 0) {
            assert_ok(crypto_lib_new(&lib, NULL));
        }
        assert_ok(csr_from_der_in(lib, buf_span(&der), &c, NULL));
        assert_ok(signer_issue_now(f->int_key, f->inter, c, NULL, &rq, &made, NULL));
        assert_true(csr_fits(c, made));
        csr_free(TAKE(c));
        crypto_lib_unref(lib); /* the certificate keeps what it needs */
        assert_ok(cert_from_der(cert_der(made), &read, NULL));
        assert_memory_equal(cert_sha256(made), cert_sha256(read), CERT_SHA256);
        assert_true(cert_not_after_us(made) == cert_not_after_us(read));
        assert_true(cert_same_key(made, read));
        assert_true(signer_key_fits(key, made));
        assert_false(signer_key_fits(f->key, made));
        assert_true(cert_issued_by(made, f->inter));
        assert_ok(cert_check_strength(made, NULL));
        /* and the key is written as for one that comes with its key */
        assert_ok(signer_issue_now(f->int_key, f->inter, NULL, key, &rq, &usual, NULL));
        buf_reset(&der);
        cert_add_spki(made, &der);
        cert_add_spki(usual, &own);
        assert_span(buf_span(&der), buf_span(&own));
    }
}

/* --- the pool ------------------------------------------------------------------------------------ */

struct waiter {
    struct signer_job job;
    unsigned *n_home;
};

static void come_home(struct msg *m)
{
    struct waiter *w = CONTAINER_OF(m, struct waiter, job.done);
    ++*w->n_home;
}

static void wait_for(struct mailbox *mb, const unsigned *n, unsigned want)
{
    while (*n < want) {
        struct pollfd p = {.fd = mailbox_fd(mb), .events = POLLIN};
        assert_true(poll(&p, 1, 30000) == 1);
        (void)mailbox_run(mb);
    }
}

static void fill(struct waiter *w, struct ca *f, struct mailbox *home, unsigned *n_home, unsigned i)
{
    *w = (struct waiter){.n_home = n_home};
    w->job.done.run = come_home;
    w->job.home = home;
    w->job.key = f->int_key;
    w->job.issuer = f->inter;
    w->job.subject_key = f->key;
    w->job.rq = request(PROFILE_DEVICE, i % 2 == 0 ? "dev-1" : "no id");
}

static void test_pool(void **state)
{
    struct ca *f = *state;
    enum { N = 40 };
    struct waiter w[N];
    struct mailbox *home = NULL;
    struct signer_pool *p = NULL;
    unsigned n_home = 0;
    assert_ok(mailbox_new(&home));
    assert_ok(signer_pool_new(3, &p, NULL));
    for (unsigned i = 0; i < N; i++) {
        fill(&w[i], f, home, &n_home, i);
        assert_ok(signer_begin(p, &w[i].job));
    }
    wait_for(home, &n_home, N);
    for (unsigned i = 0; i < N; i++) {
        AUTO(cert_free_p) struct cert *c = NULL;
        struct err_info info = {0};
        assert_err(signer_finish(&w[i].job, &c, &info), i % 2 == 0 ? OK : E_CERT);
        assert_true(i % 2 == 0 ? cert_issued_by(c, f->inter) : info.why[0] != '\0');
    }
    signer_pool_free(p);
    mailbox_free(home);
}

/* Every job that was begun comes home, also when the pool ends first; the queue has an end. */
static void test_pool_ends(void **state)
{
    struct ca *f = *state;
    enum { N = LIMIT_SIGNER_QUEUE + 64 };
    struct waiter *w = calloc(N, sizeof(*w));
    struct mailbox *home = NULL;
    struct signer_pool *p = NULL;
    unsigned n_home = 0, n_begun = 0, n_full = 0, n_done = 0, n_drained = 0;
    assert_ok(mailbox_new(&home));
    assert_ok(signer_pool_new(1, &p, NULL));
    for (unsigned i = 0; i < N; i++) {
        fill(&w[i], f, home, &n_home, 0);
        enum err e = signer_begin(p, &w[i].job);
        assert_true(e == OK || e == E_QUEUE_FULL);
        n_begun += e == OK ? 1 : 0;
        n_full += e == OK ? 0 : 1;
        if (e != OK) {
            w[i].n_home = NULL;
        }
    }
    assert_true(n_full > 0);
    signer_pool_free(p);
    wait_for(home, &n_home, n_begun);
    for (unsigned i = 0; i < N; i++) {
        AUTO(cert_free_p) struct cert *c = NULL;
        if (w[i].n_home != NULL) {
            enum err e = signer_finish(&w[i].job, &c, NULL);
            assert_true(e == OK || e == E_DRAINING);
            n_done += e == OK ? 1 : 0;
            n_drained += e == OK ? 0 : 1;
        }
    }
    assert_int_equal(n_done + n_drained, n_begun);
    assert_true(n_drained > 0);
    mailbox_free(home);
    free(w);
}

/* --- proof of possession ------------------------------------------------------------------------- */

static void test_code(void **state)
{
    (void)state;
    char a[PROOF_CODE_SIZE], b[PROOF_CODE_SIZE];
    proof_code_new(a);
    proof_code_new(b);
    assert_int_equal(strlen(a), 48);
    assert_int_equal(strspn(a, "0123456789ABCDEF"), 48);
    assert_string_not_equal(a, b);
}

/* Row 31: a leaf, expired, SHA-1 signed; and what else rule 1 says. */
static void test_upload(void **state)
{
    (void)state;
    struct zoo z = {.n = 0};
    const struct zoo_id *root = zoo_root(&z, "Root");
    /* clang-format off */
    const struct {
        const char *name;
        struct zoo_spec spec;
        enum err want;
    } rows[] = {
        { "root",            { .cn = "CA", .constraints = "critical,CA:TRUE" }, OK },
        { "with keyUsage",   { .cn = "CA", .constraints = "CA:TRUE", .usage = "keyCertSign" }, OK },
        { "intermediate",    { .cn = "CA", .issuer = root, .constraints = "CA:TRUE" }, OK },
        { "not yet valid",   { .cn = "CA", .constraints = "CA:TRUE", .from_days = 1, .to_days = 9 }, OK },
        { "RSA",             { .cn = "CA", .constraints = "CA:TRUE", .key = ZOO_RSA2048 }, OK },
        { "leaf",            { .cn = "CA", .issuer = root, .constraints = "CA:FALSE" }, E_CERT },
        { "no constraints",  { .cn = "CA" }, E_CERT },
        { "version 1",       { .cn = "CA", .v1 = true }, E_CERT },
        { "no keyCertSign",  { .cn = "CA", .constraints = "CA:TRUE", .usage = "cRLSign" }, E_CERT },
        { "expired",         { .cn = "CA", .constraints = "CA:TRUE", .from_days = -9, .to_days = -1 }, E_CERT },
        { "SHA-1",           { .cn = "CA", .constraints = "CA:TRUE", .digest = "SHA1" }, E_CERT },
        { "MD5",             { .cn = "CA", .constraints = "CA:TRUE", .digest = "MD5", .key = ZOO_RSA2048 }, E_CERT },
        { "RSA-1024",        { .cn = "CA", .constraints = "CA:TRUE", .key = ZOO_RSA1024 }, E_CERT },
        { "explicit curve",  { .cn = "CA", .constraints = "CA:TRUE", .key = ZOO_P256_EXPLICIT }, E_CERT },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err_info info = {0};
        enum err e = proof_check_upload(zoo_make(&z, &rows[i].spec)->cert, ZOO_NOW_US, &info);
        if (e != rows[i].want) {
            print_error("row \"%s\": %s %s\n", rows[i].name, err_name(e), info.why);
            fail();
        }
    }
    zoo_free(&z);
}

#define CODE "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"
/* Row 32, and the rest of rule 3. */
static void test_proof(void **state)
{
    (void)state;
    struct zoo z = {.n = 0};
    const struct zoo_id *ca = zoo_root(&z, "Root");
    const struct zoo_id *other = zoo_root(&z, "Other");
    const struct zoo_id *rogue =
        zoo_make(&z, &(struct zoo_spec){.name_of = ca, .constraints = "CA:TRUE"});
    /* clang-format off */
    const struct {
        const char *name;
        struct zoo_spec spec;
        enum err want;
    } rows[] = {
        { "good",                   { .cn = CODE, .issuer = ca }, OK },
        { "good, RSA",              { .cn = CODE, .issuer = ca, .key = ZOO_RSA2048 }, OK },
        { "wrong CN",               { .cn = "1123456789ABCDEF0123456789ABCDEF0123456789ABCDEF", .issuer = ca }, E_CERT },
        { "code as a prefix",       { .cn = CODE "0", .issuer = ca }, E_CERT },
        { "prefix of the code",     { .cn = "0123456789ABCDEF", .issuer = ca }, E_CERT },
        { "lower case",             { .cn = "0123456789abcdef0123456789abcdef0123456789abcdef", .issuer = ca }, E_CERT },
        { "self-signed",            { .cn = CODE }, E_CERT },
        { "self-signed by CA's key", { .cn = CODE, .same_key = ca }, E_CERT },
        { "other CA",               { .cn = CODE, .issuer = other }, E_CERT },
        { "other CA of that name",  { .cn = CODE, .issuer = rogue }, E_CERT },
        { "damaged",                { .cn = CODE, .issuer = ca, .damage_signature = true }, E_CERT },
        { "expired",                { .cn = CODE, .issuer = ca, .from_days = -9, .to_days = -1 }, E_CERT },
        { "not yet valid",          { .cn = CODE, .issuer = ca, .from_days = 1, .to_days = 9 }, E_CERT },
        { "SHA-1",                  { .cn = CODE, .issuer = ca, .digest = "SHA1" }, E_CERT },
        { "the CA itself",          { .name_of = ca, .same_key = ca }, E_CERT },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err_info info = {0};
        const struct zoo_id *proof = zoo_make(&z, &rows[i].spec);
        enum err e = proof_verify(ca->cert, proof->cert, SPAN_LIT(CODE), ZOO_NOW_US, &info);
        if (e != rows[i].want) {
            print_error("row \"%s\": %s %s\n", rows[i].name, err_name(e), info.why);
            fail();
        }
        assert_null(strstr(info.why, CODE));
    }
    zoo_free(&z);
}

/* Row 34: no code; too late; too often. */
static void test_code_lives(void **state)
{
    (void)state;
    const int64_t until = ZOO_NOW_US + PROOF_CODE_LIFE_US;
    assert_err(proof_code_is_live(SPAN_NONE, 0, 0, ZOO_NOW_US, NULL), E_STATE);
    assert_err(proof_code_is_live(SPAN_LIT("0A"), until, 0, ZOO_NOW_US, NULL), E_STATE);
    assert_ok(proof_code_is_live(SPAN_LIT(CODE), until, 0, ZOO_NOW_US, NULL));
    assert_ok(proof_code_is_live(SPAN_LIT(CODE), until, PROOF_TRIES - 1, until - 1, NULL));
    assert_err(proof_code_is_live(SPAN_LIT(CODE), until, PROOF_TRIES, ZOO_NOW_US, NULL), E_STATE);
    assert_err(proof_code_is_live(SPAN_LIT(CODE), until, 0, until, NULL), E_STATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_types),
        cmocka_unit_test_setup_teardown(test_key_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_file_refusals, setup, teardown),
        cmocka_unit_test(test_key_der),
        cmocka_unit_test(test_hard_refs),
        cmocka_unit_test_setup_teardown(test_cut_der, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ca_profiles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delegated_ca, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device_profile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_profile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_issue_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_csr, setup, teardown),
        cmocka_unit_test_setup_teardown(test_csr_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_made_as_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_csr_extensions_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pool, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pool_ends, setup, teardown),
        cmocka_unit_test(test_code),
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_proof),
        cmocka_unit_test(test_code_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
