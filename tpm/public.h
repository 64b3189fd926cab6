/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Public areas of the two keys that a TPM 2.0 shows: its endorsement key (EK) and its storage root key (SRK).
 *
 * tpm_public_read() takes only what can be a key of that use and what this room can encrypt for: RSA of 2048, 3072 or 4096 bits, ECC on
 * P-256 or P-384; name algorithm and cipher SHA-256 with AES-128, or SHA-384 with AES-256 (the larger keys of the TCG EK profile).
 *
 * Ownership   spans borrow from the bytes that were read.   Threads  any.
 * Errors      E_MALFORMED for every refusal, info says which rule.
 * Limits      TPM_PUBLIC_MAX bytes.
 * Spec        docs/protocol/dps-tpm.md 2.1, 3, 4.1; TPM 2.0 Library part 2, 12.2 (TPMT_PUBLIC) and part 1, 16 (names).
 *
 * The bytes come from anybody, so they are read by base/rd.h: the marshalling library writes to standard error when it refuses. Tests
 * and the fuzz target compare the two readers.
 */
#ifndef TPM_PUBLIC_H
#define TPM_PUBLIC_H

#include "base/err.h"
#include "base/span.h"

#define TPM_PUBLIC_MAX                                                                             \
    768u /* RSA 4096 with the longest policy is 598; dps-tpm.md bounds it by 1024 */
#define TPM_NAME_MAX 50u
#define TPM_COORD_MAX 48u
#define TPM_RID_SIZE 53u /* with the final zero */

enum tpm_use { TPM_EK, TPM_SRK };
enum tpm_type { TPM_RSA, TPM_ECC };
struct tpm_suite; /* tpm/prim.h */
struct tpm_public {
    enum tpm_type type;
    struct span area; /* TPMT_PUBLIC: without its size */
    const struct tpm_suite *suite;
    unsigned bits;       /* of the modulus, or of the curve's field */
    struct span modulus; /* RSA; the exponent is 65537 */
    struct span x, y;    /* ECC: a point on the curve, each as long as the field */
};
/* b: TPM2B_PUBLIC. */
MUST_USE enum err tpm_public_read(struct span b, enum tpm_use use, struct tpm_public *ret,
                                  struct err_info *info);
/* Some tools keep the area without its two size bytes: puts them before it. E_MALFORMED when it is neither form by length. */
MUST_USE enum err tpm_public_whole(struct span b, uint8_t dst[TPM_PUBLIC_MAX], struct span *ret);

struct tpm_name {
    uint8_t b[TPM_NAME_MAX];
    size_t n;
};
/* Algorithm, then its digest of the area. E_CRYPTO. */
MUST_USE enum err tpm_public_name(const struct tpm_public *p, struct tpm_name *ret);
/* What devices call themselves when nobody named them: base32 of the SHA-256 over size and area, in lower case. E_CRYPTO. */
MUST_USE enum err tpm_registration_id(struct span tpm2b, char dst[TPM_RID_SIZE]);
/* Is it this key that the certificate's SubjectPublicKeyInfo (DER) holds? */
bool tpm_public_is_key(const struct tpm_public *p, struct span spki_der);

#endif
