/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attestation by a TPM: the device shows its endorsement key and storage root key, is sent a key K1 that only the TPM with both can
 * open, and comes back with a token signed by it. Then it gets K2, with which it speaks to its hub, in the same way.
 *
 *   register, no token -> admission_challenge() -> 401 with a blob   | no enrollment, other EK, disabled: 401 without one
 *   register, token    -> attestation_check() -> tpm_begin() -> registration_begin(wish with K2)
 *   poll, lookup       -> attestation_check()
 *
 * An enrollment admits its EK, byte for byte, and may want the EK's certificate too. A group (a thing that Berth has beyond the cloud's
 * service) admits any EK whose certificate leads to an EK root that it names; then the registration id must be the one that the EK
 * gives, so that no TPM, of the same maker even, can take another's name (threat C5).
 * Cost        all that can be refused is refused before the two public operations of a blob (threat N12).
 * Ownership   spans lie in the arena given.   Threads  the worker's.
 * Spec        docs/protocol/dps-tpm.md 5; docs/protocol/sas.md 4.2. AMQP brings the same parts by its own frames (section 6).
 */
#ifndef DPS_TPM_ATTESTATION_H
#define DPS_TPM_ATTESTATION_H

#include "dps/attestation.h"
#include "dps/challenge.h"
#include "tpm/blob.h"
#include "wire/json.h"

/* What a device shows of its TPM. */
struct tpm_show {
    struct span ek, srk; /* TPM2B_PUBLIC */
    struct tpm_public ek_key, srk_key;
    struct cert_peer
        ek_cert; /* Berth: the EK's certificate and what stands above it; leaf_der empty: not shown */
};
/* Member `tpm` of a registration's body. */
MUST_USE enum rule tpm_show_read(struct arena *a, struct span body, struct tpm_show *ret,
                                 struct verdict *v);
/* Which enrollment admits this TPM, before it has proven anything. *ret: in the arena. */
MUST_USE enum rule tpm_admits(struct dps_worker *dw, struct arena *a, struct span fold,
                              const struct tpm_show *show, struct enr_row *ret, struct verdict *v);
/* A new challenge in the place of an old one; the blob is appended to b. */
MUST_USE enum rule tpm_challenge(struct dps_worker *dw, struct span fold, const struct enr_row *enr,
                                 const struct tpm_show *show, struct buf *b, struct verdict *v);

/* Is the token signed by the key of this id's challenge? Part of attestation_check(); no reason is noted when it is not. */
bool tpm_signed(struct dps_worker *dw, struct span fold, const struct sas_token *tok,
                struct challenge *ret);
/* Was it sent for this individual enrollment, with the EK that it has now? */
bool tpm_is_of(const struct challenge *c, const struct enr_row *own);

/* What a registration gives the TPM. */
struct tpm_grant {
    struct span blob, sealed_key;
};
/* Uses the challenge that `who` answered up and makes K2. */
MUST_USE enum rule tpm_begin(struct dps_worker *dw, struct arena *a, struct span fold,
                             const struct attested *who, const struct tpm_show *show,
                             struct tpm_grant *ret, struct verdict *v);
/* The registration did not begin. */
void tpm_give_back(struct dps_worker *dw, struct span fold, uint64_t challenge);

/* The pair of keys for the hub, K2 and another. */
#define TPM_PAIR (2u * TPM_KEY_SIZE)
struct seal_place tpm_key_place(struct span fold);

/* Members of the enrollment's attestation. */
MUST_USE enum err tpm_read_key(struct arena *a, struct span text, enum tpm_use use,
                               struct span *ret, struct err_info *info);

#endif
