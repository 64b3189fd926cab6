/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of a TPM as keys of OpenSSL, and how a seed is told to their owner. */
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include "base/buf.h"
#include "tpm/prim.h"

static void pkey_free_p(EVP_PKEY **p)
{
    EVP_PKEY_free(*p);
}
static void ctx_free_p(EVP_PKEY_CTX **p)
{
    EVP_PKEY_CTX_free(*p);
}
static void bn_free_p(BIGNUM **p)
{
    BN_free(*p);
}
static void bld_free_p(OSSL_PARAM_BLD **p)
{
    OSSL_PARAM_BLD_free(*p);
}
static void params_free_p(OSSL_PARAM **p)
{
    OSSL_PARAM_free(*p);
}

static enum err from_params(const char *type, OSSL_PARAM *params, EVP_PKEY **ret)
{
    EVP_PKEY *key = NULL;
    AUTO(ctx_free_p) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    ERR_clear_error();
    if (ctx == NULL || params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        int why = ERR_GET_REASON(ERR_peek_error());
        ERR_clear_error();
        return why == EC_R_POINT_IS_NOT_ON_CURVE || why == EC_R_INVALID_COMPRESSED_POINT ||
                       why == EC_R_INVALID_ENCODING || why == EC_R_COORDINATES_OUT_OF_RANGE
                   ? E_MALFORMED
                   : E_CRYPTO;
    }
    *ret = key;
    return OK;
}

static enum err load_rsa(const struct tpm_public *p, EVP_PKEY **ret)
{
    AUTO(bn_free_p) BIGNUM *n = BN_bin2bn(p->modulus.p, (int)p->modulus.n, NULL);
    AUTO(bld_free_p) OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    if (n == NULL || b == NULL || OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
        OSSL_PARAM_BLD_push_uint32(b, OSSL_PKEY_PARAM_RSA_E, 65537) != 1) {
        return E_CRYPTO;
    }
    AUTO(params_free_p) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
    return from_params("RSA", params, ret);
}

static const char *curve_of(const struct tpm_public *p)
{
    return p->bits == 256 ? "P-256" : "P-384";
}

static enum err load_ecc(const struct tpm_public *p, EVP_PKEY **ret)
{
    uint8_t point[1 + 2 * TPM_COORD_MAX] = {POINT_CONVERSION_UNCOMPRESSED};
    char curve[8];
    ASSERT(p->x.n <= TPM_COORD_MAX && p->y.n == p->x.n);
    memcpy(point + 1, p->x.p, p->x.n);
    memcpy(point + 1 + p->x.n, p->y.p, p->y.n);
    (void)!span_to_cstr(span_str(curve_of(p)), curve, sizeof(curve)); /* it fits */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * p->x.n),
        OSSL_PARAM_construct_end(),
    };
    return from_params("EC", params, ret);
}

enum err tpm_public_load(const struct tpm_public *p, EVP_PKEY **ret)
{
    return p->type == TPM_RSA ? load_rsa(p, ret) : load_ecc(p, ret);
}

/* Part 1, B.4: the label goes in with its zero byte, the hash is the receiving key's name algorithm, for the mask too. */
static bool oaep_setup(EVP_PKEY_CTX *ctx, const struct tpm_suite *s, struct span label)
{
    if (ctx == NULL || EVP_PKEY_encrypt_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx, s->md()) != 1 ||
        EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, s->md()) != 1) {
        return false;
    }
    uint8_t *copy = OPENSSL_memdup(label.p, label.n);
    if (copy == NULL || EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, copy, (int)label.n) != 1) {
        OPENSSL_free(copy);
        return false;
    }
    return true;
}

static enum err share_rsa(const struct tpm_public *to, EVP_PKEY *key, struct span label,
                          struct secret *seed, struct buf *b)
{
    enum err e = secret_random(seed, to->suite->hash_n);
    if (e != OK) {
        return e;
    }
    AUTO(ctx_free_p) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    size_t n = to->modulus.n;
    buf_add_be16(b, (uint16_t)n);
    uint8_t *out = buf_reserve(b, n);
    if (out == NULL) {
        return buf_err(b);
    }
    if (!oaep_setup(ctx, to->suite, label) ||
        EVP_PKEY_encrypt(ctx, out, &n, seed->b, seed->n) != 1 || n != to->modulus.n) {
        return E_CRYPTO;
    }
    b->n += n;
    return OK;
}

/* The ephemeral key's point, without its form byte. */
static bool get_point(EVP_PKEY *own, uint8_t *point, size_t want)
{
    uint8_t raw[1 + 2 * TPM_COORD_MAX];
    size_t n = 0;
    if (EVP_PKEY_get_octet_string_param(own, OSSL_PKEY_PARAM_PUB_KEY, raw, sizeof(raw), &n) != 1 ||
        n != 1 + want || raw[0] != POINT_CONVERSION_UNCOMPRESSED) {
        return false;
    }
    memcpy(point, raw + 1, want);
    return true;
}

/* Part 1, C.6: seed = KDFe(Z.x, label, ephemeral.x, static.x); coordinates are padded to the field (C.8), as OpenSSL gives them. */
static enum err share_ecc(const struct tpm_public *to, EVP_PKEY *key, struct span label,
                          struct secret *seed, struct buf *b)
{
    uint8_t point[2 * TPM_COORD_MAX], hash[TPM_HASH_MAX];
    AUTO(secret_done) struct secret z = {.n = TPM_COORD_MAX};
    size_t f = to->x.n;
    AUTO(pkey_free_p) EVP_PKEY *own = EVP_EC_gen(curve_of(to));
    if (own == NULL || !get_point(own, point, 2 * f)) {
        return E_CRYPTO;
    }
    AUTO(ctx_free_p) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
    if (ctx == NULL || EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer(ctx, key) != 1 ||
        EVP_PKEY_derive(ctx, z.b, &z.n) != 1 || z.n != f) {
        return E_CRYPTO;
    }
    enum err e = tpm_kdfe(to->suite, secret_span(&z), label, span_of(point, f), to->x, hash);
    if (e == OK) {
        e = secret_set(seed, span_of(hash, to->suite->hash_n));
    }
    mem_wipe(hash, sizeof(hash));
    buf_add_be16(b, (uint16_t)(2 * (2 + f)));
    for (unsigned i = 0; i < 2; i++) {
        buf_add_be16(b, (uint16_t)f);
        buf_add(b, span_of(point + i * f, f));
    }
    return e != OK ? e : buf_err(b);
}

enum err tpm_share(const struct tpm_public *to, struct span label, struct secret *ret_seed,
                   struct buf *b)
{
    AUTO(pkey_free_p) EVP_PKEY *key = NULL;
    enum err e = tpm_public_load(to, &key);
    if (e == OK) {
        e = to->type == TPM_RSA ? share_rsa(to, key, label, ret_seed, b)
                                : share_ecc(to, key, label, ret_seed, b);
    }
    ERR_clear_error();
    return e;
}
