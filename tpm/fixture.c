/* SPDX-License-Identifier: Apache-2.0 */
#include "tpm/fixture.h"

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "base/rd.h"
#include "base/text.h"

struct shape {
    bool is_rsa;
    unsigned bits;
    const char *curve;
    uint16_t curve_id;
    uint16_t hash_alg, aes_bits;
    const char *md, *cfb;
    size_t hash_n;
};
/* clang-format off */
static const struct shape shapes[FIX_KINDS] = {
    [FIX_RSA2048] = { true,  2048, NULL,    0, 0x000b, 128, "SHA256", "AES-128-CFB", 32 },
    [FIX_RSA3072] = { true,  3072, NULL,    0, 0x000c, 256, "SHA384", "AES-256-CFB", 48 },
    [FIX_P256]    = { false,  256, "P-256", 3, 0x000b, 128, "SHA256", "AES-128-CFB", 32 },
    [FIX_P384]    = { false,  384, "P-384", 4, 0x000c, 256, "SHA384", "AES-256-CFB", 48 },
};
/* clang-format on */

static void add_rsa(const struct fix_key *k, struct buf *b)
{
    BIGNUM *n = NULL;
    size_t size = shapes[k->kind].bits / 8;
    ASSERT(EVP_PKEY_get_bn_param(k->key, OSSL_PKEY_PARAM_RSA_N, &n) == 1);
    buf_add_be16(b, (uint16_t)shapes[k->kind].bits);
    buf_add_be32(b, 0);
    buf_add_be16(b, (uint16_t)size);
    uint8_t *at = buf_reserve(b, size);
    ASSERT(at != NULL && BN_bn2binpad(n, at, (int)size) == (int)size);
    b->n += size;
    BN_free(n);
}

static void add_ecc(const struct fix_key *k, struct buf *b)
{
    uint8_t point[97];
    size_t n = 0, f = shapes[k->kind].bits / 8;
    ASSERT(EVP_PKEY_get_octet_string_param(k->key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point),
                                           &n) == 1 &&
           n == 1 + 2 * f);
    buf_add_be16(b, shapes[k->kind].curve_id);
    buf_add_be16(b, 0x0010);
    for (unsigned i = 0; i < 2; i++) {
        buf_add_be16(b, (uint16_t)f);
        buf_add(b, span_of(point + 1 + i * f, f));
    }
}

void fix_key_new(struct fix_key *k, enum fix_kind kind, enum tpm_use use)
{
    const struct shape *s = &shapes[kind];
    AUTO(buf_done) struct buf b = BUF_INIT(TPM_PUBLIC_MAX);
    *k = (struct fix_key){.kind = kind};
    k->key = s->is_rsa ? EVP_RSA_gen(s->bits) : EVP_EC_gen(s->curve);
    ASSERT(k->key != NULL);
    buf_add_be16(&b, 0);
    buf_add_be16(&b, s->is_rsa ? 0x0001 : 0x0023);
    buf_add_be16(&b, s->hash_alg);
    buf_add_be32(&b, use == TPM_EK ? 0x000300b2 : 0x00030472);
    buf_add_be16(&b, use == TPM_EK ? (uint16_t)s->hash_n : 0);
    for (size_t i = 0; use == TPM_EK && i < s->hash_n; i++) {
        buf_add_u8(&b, 0x5a);
    }
    buf_add_be16(&b, 0x0006);
    buf_add_be16(&b, s->aes_bits);
    buf_add_be16(&b, 0x0043);
    buf_add_be16(&b, 0x0010);
    if (s->is_rsa) {
        add_rsa(k, &b);
    } else {
        add_ecc(k, &b);
    }
    ASSERT(buf_err(&b) == OK);
    memcpy(k->pub, b.p, b.n);
    k->pub[0] = (uint8_t)((b.n - 2) >> 8);
    k->pub[1] = (uint8_t)(b.n - 2);
    k->n = b.n;
}

void fix_key_done(struct fix_key *k)
{
    EVP_PKEY_free(k->key);
    k->key = NULL;
}

struct span fix_key_public(const struct fix_key *k)
{
    return span_of(k->pub, k->n);
}

void fix_key_spki(const struct fix_key *k, struct buf *b)
{
    uint8_t *der = NULL;
    int n = i2d_PUBKEY(k->key, &der);
    ASSERT(n > 0);
    buf_add(b, span_of(der, (size_t)n));
    OPENSSL_free(der);
}

/* --- opening ---------------------------------------------------------------------------------------- */

const char *fix_why;

static bool refuse(const char *why)
{
    fix_why = why;
    return false;
}

static bool open_oaep(const struct fix_key *k, struct span text, struct span label, uint8_t *seed)
{
    const EVP_MD *md = EVP_get_digestbyname(shapes[k->kind].md);
    uint8_t out[512];
    size_t n = sizeof(out);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(k->key, NULL);
    ASSERT(
        ctx != NULL && EVP_PKEY_decrypt_init(ctx) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) == 1 &&
        EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, OPENSSL_memdup(label.p, label.n), (int)label.n) == 1);
    bool ok = EVP_PKEY_decrypt(ctx, out, &n, text.p, text.n) == 1 && n == shapes[k->kind].hash_n;
    EVP_PKEY_CTX_free(ctx);
    if (ok) {
        memcpy(seed, out, n);
    }
    return ok;
}

/* KDFe by OpenSSL's one-step KDF of SP 800-56C, which has the same shape. */
static bool open_ecdh(const struct fix_key *k, struct span text, struct span label, uint8_t *seed)
{
    size_t f = shapes[k->kind].bits / 8, n = f;
    uint8_t point[97] = {4}, z[48], mine[97];
    char curve[8], md[8];
    struct rd r = rd_init(text);
    struct span x = rd_lv16(&r), y = rd_lv16(&r);
    if (rd_end(&r) != OK || x.n != f || y.n != f) {
        return refuse("ephemeral point of another size");
    }
    memcpy(point + 1, x.p, f);
    memcpy(point + 1 + f, y.p, f);
    ASSERT(span_to_cstr(span_str(shapes[k->kind].curve), curve, sizeof(curve)) &&
           span_to_cstr(span_str(shapes[k->kind].md), md, sizeof(md)));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * f),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *peer = NULL;
    EVP_PKEY_CTX *from = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(k->key, NULL);
    bool ok = EVP_PKEY_fromdata_init(from) == 1 &&
              EVP_PKEY_fromdata(from, &peer, EVP_PKEY_PUBLIC_KEY, params) == 1 &&
              EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, peer) == 1 &&
              EVP_PKEY_derive(ctx, z, &n) == 1;
    EVP_PKEY_CTX_free(from);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(peer);
    ASSERT(EVP_PKEY_get_octet_string_param(k->key, OSSL_PKEY_PARAM_PUB_KEY, mine, sizeof(mine),
                                           &n) == 1);
    AUTO(buf_done) struct buf other = BUF_INIT(256);
    buf_add(&other, label);
    buf_add(&other, x);
    buf_add(&other, span_of(mine + 1, f));
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "SSKDF", NULL);
    EVP_KDF_CTX *kctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM kp[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, md, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, z, f),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, other.p, other.n),
        OSSL_PARAM_construct_end(),
    };
    ok = ok && EVP_KDF_derive(kctx, seed, shapes[k->kind].hash_n, kp) == 1;
    EVP_KDF_CTX_free(kctx);
    EVP_KDF_free(kdf);
    return ok;
}

static bool open_seed(const struct fix_key *k, struct span text, struct span label, uint8_t *seed)
{
    return shapes[k->kind].is_rsa ? open_oaep(k, text, label, seed)
                                  : open_ecdh(k, text, label, seed);
}

/* KDFa by OpenSSL's SP 800-108 KDF in counter mode, with its own zero byte and length. */
static void kdfa(const struct shape *s, const uint8_t *seed, const char *label, struct span u,
                 uint8_t *out, size_t n)
{
    char mode[] = "counter", mac[] = "HMAC", md[8], text[16];
    ASSERT(span_to_cstr(span_str(s->md), md, sizeof(md)) &&
           span_to_cstr(span_str(label), text, sizeof(text)));
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "KBKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM p[7], *at = p;
    *at++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_MODE, mode, 0);
    *at++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_MAC, mac, 0);
    *at++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, md, 0);
    *at++ =
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)seed, s->hash_n);
    *at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, text, strlen(text));
    if (u.n != 0) {
        *at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)u.p, u.n);
    }
    *at = OSSL_PARAM_construct_end();
    ASSERT(ctx != NULL && EVP_KDF_derive(ctx, out, n, p) == 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

static void decrypt(const char *cfb, const uint8_t *key, struct span in, uint8_t *out)
{
    static const uint8_t iv[16] = {0};
    int n = 0;
    EVP_CIPHER *c = EVP_CIPHER_fetch(NULL, cfb, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    ASSERT(EVP_DecryptInit_ex2(ctx, c, key, iv, NULL) == 1 &&
           EVP_DecryptUpdate(ctx, out, &n, in.p, (int)in.n) == 1);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(c);
}

static void digest(const struct shape *s, struct span a, struct span b, uint8_t *out)
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    ASSERT(EVP_DigestInit_ex(c, EVP_get_digestbyname(s->md), NULL) == 1 &&
           EVP_DigestUpdate(c, a.p, a.n) == 1 && EVP_DigestUpdate(c, b.p, b.n) == 1 &&
           EVP_DigestFinal_ex(c, out, NULL) == 1);
    EVP_MD_CTX_free(c);
}

/* Integrity and content of what was wrapped under seed for an object of that name; its length, 0: refused. */
static size_t unwrap(const struct shape *s, const uint8_t *seed, struct span name, struct span text,
                     uint8_t *out)
{
    uint8_t key[48], mac[48];
    struct rd r = rd_init(text);
    struct span want = rd_lv16(&r), enc = rd_rest(&r);
    AUTO(buf_done) struct buf b = BUF_INIT(1024);
    unsigned n = 0;
    kdfa(s, seed, "INTEGRITY", SPAN_NONE, key, s->hash_n);
    buf_add(&b, enc);
    buf_add(&b, name);
    ASSERT(HMAC(EVP_get_digestbyname(s->md), key, (int)s->hash_n, b.p, b.n, mac, &n) != NULL);
    if (!span_eq(want, span_of(mac, n))) {
        (void)refuse("integrity of a wrapping");
        return 0;
    }
    kdfa(s, seed, "STORAGE", name, key, s->aes_bits / 8);
    decrypt(s->cfb, key, enc, out);
    return enc.n;
}

static struct span field(struct rd *r)
{
    return rd_lv16(r);
}

/* TPM2_Import behind the outer wrapper, then the checks of TPM2_Load. */
static bool open_private(const uint8_t *inner, struct span dup, struct span area, struct span name,
                         struct secret *ret)
{
    uint8_t clear[256], hash[32];
    const struct shape *plain = &shapes[FIX_RSA2048];
    decrypt("AES-128-CFB", inner, dup, clear);
    struct rd r = rd_init(span_of(clear, dup.n));
    struct span integrity = rd_lv16(&r), sens = rd_rest(&r);
    digest(plain, sens, name, hash);
    if (!span_eq(integrity, span_of(hash, sizeof(hash)))) {
        return refuse("integrity of the inner wrapper");
    }
    r = rd_init(sens);
    struct rd in = rd_init(rd_lv16(&r));
    unsigned type = rd_be16(&in);
    struct span auth = rd_lv16(&in), obf = rd_lv16(&in), key = rd_lv16(&in);
    if (rd_end(&r) != OK || rd_end(&in) != OK || type != 8 || auth.n != 0 || obf.n != 32) {
        return refuse("sensitive area");
    }
    digest(plain, obf, key, hash);
    static const uint8_t head[] = {0, 8, 0, 11, 0, 4, 4, 0x40, 0, 0, 0, 5, 0, 11, 0, 32};
    if (area.n != 48 || !span_starts(area, span_of(head, sizeof(head))) ||
        !span_eq(span_from(area, 16), span_of(hash, sizeof(hash)))) {
        return refuse("public area of the identity key");
    }
    return secret_set(ret, key) == OK;
}

bool fix_open(const struct fix_key *ek, const struct fix_key *srk, struct span blob,
              struct secret *ret)
{
    const struct shape *es = &shapes[ek->kind], *ss = &shapes[srk->kind];
    uint8_t seed[48], name[50] = {0, (uint8_t)ss->hash_alg}, id[34] = {0, 11}, out[512];
    struct rd r = rd_init(blob);
    struct span cred = field(&r), csecret = field(&r), dup = field(&r), dsecret = field(&r);
    struct span area = field(&r), uri = field(&r);
    if (rd_end(&r) != OK || uri.n != 0) {
        return refuse("not six fields");
    }
    digest(ss, span_of(srk->pub + 2, srk->n - 2), SPAN_NONE, name + 2);
    digest(&shapes[FIX_RSA2048], area, SPAN_NONE, id + 2);
    if (!open_seed(ek, csecret, SPAN_LIT("IDENTITY\0"), seed) ||
        unwrap(es, seed, span_of(name, 2 + ss->hash_n), cred, out) != 18 || out[1] != 16) {
        return refuse("credential");
    }
    uint8_t inner[16];
    memcpy(inner, out + 2, sizeof(inner));
    size_t n = 0;
    if (!open_seed(srk, dsecret, SPAN_LIT("DUPLICATE\0"), seed) ||
        (n = unwrap(ss, seed, span_of(id, sizeof(id)), dup, out)) == 0) {
        return refuse("duplicate");
    }
    return open_private(inner, span_of(out, n), area, span_of(id, sizeof(id)), ret);
}

/* --- certificates -------------------------------------------------------------------------------------- */

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ASSERT(e != NULL && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static X509 *new_cert(EVP_PKEY *key)
{
    static long serial = 1000;
    X509 *x = X509_new();
    ASSERT(x != NULL && X509_set_version(x, X509_VERSION_3) == 1 &&
           ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(x), -3600) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(x), 86400L * 3650) != NULL &&
           X509_set_pubkey(x, key) == 1);
    return x;
}

static void add_cn(X509_NAME *n, const char *cn)
{
    ASSERT(X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
                                      0) == 1);
}

void fix_ca_new(struct fix_ca *ca, const char *cn, const struct fix_ca *issuer)
{
    ca->key = EVP_EC_gen("P-256");
    ASSERT(ca->key != NULL);
    ca->cert = new_cert(ca->key);
    X509 *by = issuer != NULL ? issuer->cert : ca->cert;
    add_cn(X509_get_subject_name(ca->cert), cn);
    ASSERT(X509_set_issuer_name(ca->cert, X509_get_subject_name(by)) == 1);
    add_ext(ca->cert, by, NID_basic_constraints, "critical,CA:TRUE");
    add_ext(ca->cert, by, NID_key_usage, "critical,keyCertSign");
    add_ext(ca->cert, by, NID_subject_key_identifier, "hash");
    add_ext(ca->cert, by, NID_authority_key_identifier, "keyid");
    ASSERT(X509_sign(ca->cert, issuer != NULL ? issuer->key : ca->key, EVP_sha256()) > 0);
}

void fix_ca_done(struct fix_ca *ca)
{
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key);
}

static void add_der(X509 *x, struct buf *b)
{
    uint8_t *der = NULL;
    int n = i2d_X509(x, &der);
    ASSERT(n > 0);
    buf_add(b, span_of(der, (size_t)n));
    OPENSSL_free(der);
}

void fix_ca_der(const struct fix_ca *ca, struct buf *b)
{
    add_der(ca->cert, b);
}

void fix_ek_cert(const struct fix_ca *ca, const struct fix_key *ek, const char *eku, struct buf *b)
{
    X509 *x = new_cert(ek->key);
    GENERAL_NAME *gn = GENERAL_NAME_new();
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    X509_NAME *dir = X509_NAME_new();
    ASSERT(gn != NULL && names != NULL && dir != NULL);
    ASSERT(X509_NAME_add_entry_by_txt(dir, "O", MBSTRING_ASC, (const unsigned char *)"id:00001014",
                                      -1, -1, 0) == 1);
    GENERAL_NAME_set0_value(gn, GEN_DIRNAME, dir);
    ASSERT(sk_GENERAL_NAME_push(names, gn) == 1);
    ASSERT(X509_set_issuer_name(x, X509_get_subject_name(ca->cert)) == 1);
    ASSERT(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 1, 0) == 1);
    GENERAL_NAMES_free(names);
    add_ext(x, ca->cert, NID_basic_constraints, "critical,CA:FALSE");
    add_ext(x, ca->cert, NID_authority_key_identifier, "keyid");
    add_ext(x, ca->cert, NID_key_usage, "critical,keyEncipherment");
    if (eku != NULL) {
        add_ext(x, ca->cert, NID_ext_key_usage, eku);
    }
    ASSERT(X509_sign(x, ca->key, EVP_sha256()) > 0);
    add_der(x, b);
    X509_free(x);
}
