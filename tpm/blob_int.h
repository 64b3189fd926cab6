/* SPDX-License-Identifier: Apache-2.0 */
/* The deterministic halves of tpm/blob.c, for its test vectors (docs/protocol/dps-tpm.md 9.1). */
#ifndef TPM_BLOB_INT_H
#define TPM_BLOB_INT_H

#include "tpm/blob.h"
#include "tpm/prim.h"

#define IDKEY_AREA 48u
#define OBF_SIZE 32u
#define INNER_SIZE 16u

/* What was drawn for one blob. */
struct blob_draw {
    uint8_t obf[OBF_SIZE], inner[INNER_SIZE];
};
/* 4.2: TPMT_PUBLIC and name of the identity key. */
MUST_USE enum err blob_idkey(struct span key, const struct blob_draw *d, uint8_t area[IDKEY_AREA],
                             struct tpm_name *ret);
/* 4.3: field 3, appended. */
MUST_USE enum err blob_duplicate(const struct tpm_suite *parent, struct span seed, struct span key,
                                 const struct blob_draw *d, const struct tpm_name *idkey,
                                 struct buf *b);
/* 4.4: field 1, appended. */
MUST_USE enum err blob_credential(const struct tpm_suite *ek, struct span seed,
                                  const struct blob_draw *d, const struct tpm_name *srk,
                                  struct buf *b);

#endif
