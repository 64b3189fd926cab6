/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few primitives that the wrapping formulas of a TPM are made of. Inside tpm/ only.
 *
 * Labels are spans that hold their terminating zero byte (SPAN_LIT("STORAGE\0")).
 * Ownership   results into the caller's storage; secrets are the caller's to wipe.   Threads  any.
 * Errors      E_CRYPTO: the library failed, memory included.
 * Spec        TPM 2.0 Library part 1: 11.4.10 (KDFa, KDFe), 24 (credentials), 23 (duplication), annex B.4 (OAEP), C.6 (ECDH).
 */
#ifndef TPM_PRIM_H
#define TPM_PRIM_H

#include <openssl/evp.h>

#include "base/buf.h"
#include "base/secret.h"
#include "tpm/public.h"

#define TPM_HASH_MAX 48u
#define TPM_CAT_MAX 512u /* bytes of what is hashed in one piece */

/* A key's name algorithm, which is the hash of its wrappings, and the cipher that goes with it. */
struct tpm_suite {
    uint16_t hash_alg;
    uint16_t aes_bits;
    size_t hash_n;
    const EVP_MD *(*md)(void);
    const EVP_CIPHER *(*cfb)(void);
};
/* NULL: not one of ours. */
const struct tpm_suite *tpm_suite_of(uint16_t hash_alg, uint16_t aes_bits);
const struct tpm_suite *tpm_suite_plain(void); /* SHA-256 with AES-128 */

/* Parts one after the other, TPM_CAT_MAX in all but for a single part. ret holds suite->hash_n. */
MUST_USE enum err tpm_hash(const struct tpm_suite *s, const struct span *part, size_t n,
                           uint8_t *ret);
MUST_USE enum err tpm_hmac(const struct tpm_suite *s, struct span key, const struct span *part,
                           size_t n, uint8_t *ret);
/* One block: bits are a multiple of 8 and at most those of the hash. */
MUST_USE enum err tpm_kdfa(const struct tpm_suite *s, struct span key, struct span label,
                           struct span u, struct span v, unsigned bits, uint8_t *ret);
/* All bits of the hash. */
MUST_USE enum err tpm_kdfe(const struct tpm_suite *s, struct span z, struct span label,
                           struct span u, struct span v, uint8_t *ret);
/* Zero IV; key of suite->aes_bits; out is as long as in. */
MUST_USE enum err tpm_cfb(const struct tpm_suite *s, const uint8_t *key, struct span in,
                          uint8_t *out);

/* The key for OpenSSL. E_MALFORMED: a point that is not on the curve. */
MUST_USE enum err tpm_public_load(const struct tpm_public *p, EVP_PKEY **ret);
/*
 * A fresh seed, as long as the hash, and the TPM2B_ENCRYPTED_SECRET that tells it to the owner of `to`, appended: RSA-OAEP, or an
 * ephemeral ECDH key and KDFe.
 */
MUST_USE enum err tpm_share(const struct tpm_public *to, struct span label, struct secret *ret_seed,
                            struct buf *b);

#endif
