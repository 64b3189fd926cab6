/* SPDX-License-Identifier: Apache-2.0 */
#include "tpm/public.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <tss2/tss2_tpm2_types.h>

#include "base/rd.h"
#include "tpm/prim.h"

#define POLICY_MAX 64u /* the longest digest */

static enum err bad(struct err_info *info, enum tpm_use use, const char *why)
{
    return err_set(info, E_MALFORMED, "%s: %s", use == TPM_EK ? "EK" : "SRK", why);
}

static const char *judge_attributes(uint32_t a, enum tpm_use use)
{
    const uint32_t ek = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT | TPMA_OBJECT_FIXEDTPM |
                        TPMA_OBJECT_FIXEDPARENT;
    const uint32_t srk = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    if (use == TPM_SRK) {
        return (a & srk) == srk ? NULL : "not a storage key (restricted, decrypt)";
    }
    if ((a & TPMA_OBJECT_SIGN_ENCRYPT) != 0) {
        return "a key that signs is no endorsement key";
    }
    return (a & ek) == ek ? NULL : "not restricted, decrypt, fixedTPM and fixedParent";
}

static const char *read_rsa(struct rd *r, struct tpm_public *p)
{
    p->bits = rd_be16(r);
    uint32_t exponent = rd_be32(r);
    p->modulus = rd_lv16(r);
    if (rd_end(r) != OK) {
        return "the area ends too early or has bytes behind it";
    }
    if (p->bits != 2048 && p->bits != 3072 && p->bits != 4096) {
        return "RSA key of another size than 2048, 3072 or 4096 bits";
    }
    if (exponent != 0 && exponent != 65537) {
        return "RSA exponent is not 65537";
    }
    if (p->modulus.n != p->bits / 8 || (p->modulus.p[0] & 0x80) == 0 ||
        (p->modulus.p[p->modulus.n - 1] & 1) == 0) {
        return "RSA modulus is not one of so many bits";
    }
    return NULL;
}

static const char *read_ecc(struct rd *r, struct tpm_public *p)
{
    unsigned curve = rd_be16(r), kdf = rd_be16(r);
    p->x = rd_lv16(r);
    p->y = rd_lv16(r);
    if (rd_end(r) != OK) {
        return "the area ends too early or has bytes behind it";
    }
    p->bits = curve == TPM2_ECC_NIST_P256 ? 256 : curve == TPM2_ECC_NIST_P384 ? 384 : 0;
    if (p->bits == 0) {
        return "curve is neither P-256 nor P-384";
    }
    if (kdf != TPM2_ALG_NULL) {
        return "a key derivation scheme is set";
    }
    if (p->x.n != p->bits / 8 || p->y.n != p->bits / 8) {
        return "coordinates are not as long as the field";
    }
    return NULL;
}

static const char *read_area(struct span area, enum tpm_use use, struct tpm_public *p)
{
    struct rd r = rd_init(area);
    const char *why;
    unsigned type = rd_be16(&r), hash = rd_be16(&r);
    uint32_t attributes = rd_be32(&r);
    struct span policy = rd_lv16(&r);
    unsigned cipher = rd_be16(&r), cipher_bits = rd_be16(&r), mode = rd_be16(&r);
    unsigned scheme = rd_be16(&r);
    if (rd_err(&r) != OK) {
        return "the area ends too early";
    }
    if (type != TPM2_ALG_RSA && type != TPM2_ALG_ECC) {
        return "neither an RSA nor an ECC key";
    }
    p->type = type == TPM2_ALG_RSA ? TPM_RSA : TPM_ECC;
    p->suite = tpm_suite_of((uint16_t)hash, (uint16_t)cipher_bits);
    if (cipher != TPM2_ALG_AES || mode != TPM2_ALG_CFB || p->suite == NULL) {
        return "name algorithm and cipher are neither SHA-256 with AES-128-CFB nor SHA-384 with "
               "AES-256-CFB";
    }
    if ((why = judge_attributes(attributes, use)) != NULL) {
        return why;
    }
    if (policy.n > POLICY_MAX) {
        return "policy is longer than a digest";
    }
    if (scheme != TPM2_ALG_NULL) {
        return "a scheme is set";
    }
    return p->type == TPM_RSA ? read_rsa(&r, p) : read_ecc(&r, p);
}

enum err tpm_public_read(struct span b, enum tpm_use use, struct tpm_public *ret,
                         struct err_info *info)
{
    struct rd r = rd_init(b);
    struct tpm_public p = {.area = rd_lv16(&r)};
    EVP_PKEY *key = NULL;
    if (b.n > TPM_PUBLIC_MAX || rd_end(&r) != OK) {
        return bad(info, use, "its size field does not say how many bytes follow");
    }
    const char *why = read_area(p.area, use, &p);
    if (why != NULL) {
        return bad(info, use, why);
    }
    if (p.type == TPM_ECC) {
        enum err e = tpm_public_load(&p, &key);
        EVP_PKEY_free(key);
        if (e != OK) {
            return e == E_MALFORMED ? bad(info, use, "the point is not on the curve") : e;
        }
    }
    *ret = p;
    return OK;
}

enum err tpm_public_whole(struct span b, uint8_t dst[TPM_PUBLIC_MAX], struct span *ret)
{
    if (b.n < 2 || b.n > TPM_PUBLIC_MAX - 2) {
        return E_MALFORMED;
    }
    size_t size = (size_t)(b.p[0] << 8 | b.p[1]), skip = 0;
    /* No area begins like the size of itself: types are 0001 and 0023, areas are longer. */
    if (size != b.n - 2 && (size == TPM2_ALG_RSA || size == TPM2_ALG_ECC)) {
        dst[0] = (uint8_t)(b.n >> 8);
        dst[1] = (uint8_t)b.n;
        skip = 2;
    }
    memcpy(dst + skip, b.p, b.n);
    *ret = span_of(dst, b.n + skip);
    return OK;
}

enum err tpm_public_name(const struct tpm_public *p, struct tpm_name *ret)
{
    struct tpm_name n = {.n = 2 + p->suite->hash_n};
    n.b[0] = (uint8_t)(p->suite->hash_alg >> 8);
    n.b[1] = (uint8_t)p->suite->hash_alg;
    enum err e = tpm_hash(p->suite, &p->area, 1, n.b + 2);
    if (e == OK) {
        *ret = n;
    }
    return e;
}

enum err tpm_registration_id(struct span tpm2b, char dst[TPM_RID_SIZE])
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t hash[TPM_HASH_MAX] = {0}; /* the last digit takes bits behind the digest: zeros */
    enum err e = tpm_hash(tpm_suite_plain(), &tpm2b, 1, hash);
    if (e != OK) {
        return e;
    }
    for (size_t i = 0; i < TPM_RID_SIZE - 1; i++) {
        size_t at = i * 5;
        unsigned two = (unsigned)(hash[at / 8] << 8 | hash[at / 8 + 1]);
        dst[i] = digits[two >> (11 - at % 8) & 31];
    }
    dst[TPM_RID_SIZE - 1] = '\0';
    return OK;
}

bool tpm_public_is_key(const struct tpm_public *p, struct span spki_der)
{
    const uint8_t *at = spki_der.p;
    EVP_PKEY *mine = NULL;
    EVP_PKEY *theirs = spki_der.n > 4096 ? NULL : d2i_PUBKEY(NULL, &at, (long)spki_der.n);
    bool same = theirs != NULL && at == spki_der.p + spki_der.n &&
                tpm_public_load(p, &mine) == OK && EVP_PKEY_eq(mine, theirs) == 1;
    EVP_PKEY_free(mine);
    EVP_PKEY_free(theirs);
    ERR_clear_error();
    return same;
}
