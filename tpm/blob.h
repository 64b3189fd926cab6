/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key blob: an HMAC key wrapped so that only the TPM that owns both the endorsement key and the storage root key can import it.
 *
 * Six marshalled structures one after the other: credential blob, its seed for the EK, the wrapped identity key, its seed for the SRK,
 * the identity key's public area, an empty TPM2B_DATA. The inner wrapper's key travels in the credential, which the TPM opens only for
 * an object of the SRK's name: so EK and SRK are bound to one TPM.
 *
 * Ownership   the blob is appended to the caller's buf; it holds nothing secret. Keys are the caller's.   Threads  any.
 * Cost        two public operations, the dearest of a challenge.
 * Errors      make: E_ARG a key of another length; E_CRYPTO; E_NOMEM. read: E_MALFORMED, E_TRUNCATED.
 * Limits      TPM_BLOB_MAX; keys of 1 to TPM_KEY_MAX bytes.
 * Spec        docs/protocol/dps-tpm.md 4; TPM 2.0 Library part 1, 23 and 24.
 */
#ifndef TPM_BLOB_H
#define TPM_BLOB_H

#include "base/buf.h"
#include "tpm/public.h"

#define TPM_KEY_SIZE 32u /* of the keys that Berth makes */
#define TPM_KEY_MAX 64u
#define TPM_BLOB_MAX 2048u

MUST_USE enum err tpm_blob_make(const struct tpm_public *ek, const struct tpm_public *srk,
                                struct span key, struct buf *b);

/* Its parts, borrowed, each with its size bytes. What the device hands to its TPM. */
struct tpm_blob {
    struct span credential, credential_secret, duplicate, seed, area, uri;
};
MUST_USE enum err tpm_blob_read(struct span b, struct tpm_blob *ret);

#endif
