/* SPDX-License-Identifier: Apache-2.0 */
/* Which keys and signatures are worth looking at (threat N7; dps-service-rest.md C2 rule 1). */
#include "certs/cert_int.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>

/* The cost of one RSA verification grows with the exponent; all that is in use is 65537 or 3. */
#define RSA_E_BITS_MAX 64

static enum err check_rsa(const EVP_PKEY *k, struct err_info *info)
{
    BIGNUM *exponent = NULL;
    int bits = EVP_PKEY_get_bits(k);
    if (bits < (int)LIMIT_RSA_BITS_MIN || bits > (int)LIMIT_RSA_BITS_MAX) {
        return err_set(info, E_CERT, "RSA key of %d bits; %u to %u allowed", bits,
                       LIMIT_RSA_BITS_MIN, LIMIT_RSA_BITS_MAX);
    }
    bool ok = EVP_PKEY_get_bn_param(k, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
              BN_num_bits(exponent) <= RSA_E_BITS_MAX;
    BN_free(exponent);
    return ok ? OK : err_set(info, E_CERT, "RSA exponent over %d bits", RSA_E_BITS_MAX);
}

static enum err check_ec(const EVP_PKEY *k, struct err_info *info)
{
    static const char *const curves[] = {SN_X9_62_prime256v1, SN_secp384r1, SN_secp521r1};
    char group[64] = "";
    size_t n = 0;
    int is_explicit = 0;
    if (EVP_PKEY_get_int_param(k, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &is_explicit) !=
            1 ||
        is_explicit != 0) {
        return err_set(info, E_CERT, "elliptic curve with explicit parameters");
    }
    if (EVP_PKEY_get_group_name(k, group, sizeof(group), &n) == 1) {
        for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
            if (span_is(span_str(group), curves[i])) {
                return OK;
            }
        }
    }
    return err_set(info, E_CERT, "elliptic curve \"%s\"; P-256, P-384, P-521 allowed", group);
}

enum err pkey_check(const EVP_PKEY *k, struct err_info *info)
{
    enum err e;
    switch (k != NULL ? EVP_PKEY_get_base_id(k) : NID_undef) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        e = check_rsa(k, info);
        break;
    case EVP_PKEY_EC:
        e = check_ec(k, info);
        break;
    default:
        e = err_set(info, E_CERT, "public key is neither RSA nor on a known curve");
    }
    ERR_clear_error();
    return e;
}

static bool digest_is_strong(int md)
{
    return md == NID_sha256 || md == NID_sha384 || md == NID_sha512;
}

enum err cert_check_strength(const struct cert *c, struct err_info *info)
{
    int md = NID_undef;
    if (X509_get_signature_info(c->x, &md, NULL, NULL, NULL) != 1 || !digest_is_strong(md)) {
        ERR_clear_error();
        return err_set(info, E_CERT, "signed with %s; SHA-256, SHA-384, SHA-512 allowed",
                       OBJ_nid2sn(md != NID_undef ? md : X509_get_signature_nid(c->x)));
    }
    return pkey_check(cert_key(c), info);
}
