/* SPDX-License-Identifier: Apache-2.0 */
#include "tpm/prim.h"

#include <openssl/hmac.h>
#include <tss2/tss2_tpm2_types.h>

/* clang-format off */
static const struct tpm_suite suites[] = {
    { TPM2_ALG_SHA256, 128, 32, EVP_sha256, EVP_aes_128_cfb128 },
    { TPM2_ALG_SHA384, 256, 48, EVP_sha384, EVP_aes_256_cfb128 },
};
/* clang-format on */

const struct tpm_suite *tpm_suite_of(uint16_t hash_alg, uint16_t aes_bits)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        if (suites[i].hash_alg == hash_alg && suites[i].aes_bits == aes_bits) {
            return &suites[i];
        }
    }
    return NULL;
}

const struct tpm_suite *tpm_suite_plain(void)
{
    return &suites[0];
}

struct cat {
    uint8_t b[TPM_CAT_MAX];
    size_t n;
};

static void cat_wipe(struct cat *c)
{
    mem_wipe(c, sizeof(*c));
}

static struct span cat_all(struct cat *c, const struct span *part, size_t n)
{
    if (n == 1) {
        return part[0];
    }
    for (size_t i = 0; i < n; i++) {
        ASSERT(part[i].n <= sizeof(c->b) - c->n);
        if (part[i].n != 0) {
            memcpy(c->b + c->n, part[i].p, part[i].n);
            c->n += part[i].n;
        }
    }
    return span_of(c->b, c->n);
}

enum err tpm_hash(const struct tpm_suite *s, const struct span *part, size_t n, uint8_t *ret)
{
    AUTO(cat_wipe) struct cat c = {.n = 0};
    struct span all = cat_all(&c, part, n);
    return EVP_Digest(all.p, all.n, ret, NULL, s->md(), NULL) == 1 ? OK : E_CRYPTO;
}

enum err tpm_hmac(const struct tpm_suite *s, struct span key, const struct span *part, size_t n,
                  uint8_t *ret)
{
    AUTO(cat_wipe) struct cat c = {.n = 0};
    struct span all = cat_all(&c, part, n);
    unsigned size = 0;
    return HMAC(s->md(), key.p, (int)key.n, all.p, all.n, ret, &size) != NULL && size == s->hash_n
               ? OK
               : E_CRYPTO;
}

enum err tpm_kdfa(const struct tpm_suite *s, struct span key, struct span label, struct span u,
                  struct span v, unsigned bits, uint8_t *ret)
{
    uint8_t block[TPM_HASH_MAX];
    const uint8_t count[4] = {0, 0, 0, 1};
    const uint8_t size[4] = {0, 0, (uint8_t)(bits >> 8), (uint8_t)bits};
    ASSERT(bits % 8 == 0 && bits / 8 <= s->hash_n);
    const struct span part[] = {span_of(count, sizeof(count)), label, u, v,
                                span_of(size, sizeof(size))};
    enum err e = tpm_hmac(s, key, part, ARRAY_LEN(part), block);
    if (e == OK) {
        memcpy(ret, block, bits / 8);
    }
    mem_wipe(block, sizeof(block));
    return e;
}

enum err tpm_kdfe(const struct tpm_suite *s, struct span z, struct span label, struct span u,
                  struct span v, uint8_t *ret)
{
    const uint8_t count[4] = {0, 0, 0, 1};
    const struct span part[] = {span_of(count, sizeof(count)), z, label, u, v};
    return tpm_hash(s, part, ARRAY_LEN(part), ret);
}

static void cipher_free_p(EVP_CIPHER_CTX **p)
{
    EVP_CIPHER_CTX_free(*p);
}

enum err tpm_cfb(const struct tpm_suite *s, const uint8_t *key, struct span in, uint8_t *out)
{
    static const uint8_t iv[16] = {0};
    AUTO(cipher_free_p) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n = 0;
    return c != NULL && EVP_EncryptInit_ex2(c, s->cfb(), key, iv, NULL) == 1 &&
                   EVP_EncryptUpdate(c, out, &n, in.p, (int)in.n) == 1 && (size_t)n == in.n
               ? OK
               : E_CRYPTO;
}
