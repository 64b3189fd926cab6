/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the caller the device that it says, and which enrollment admits it?
 *
 * An individual enrollment of that registration id always decides, whatever the groups say; else the group whose derived key signs,
 * or whose certificate is nearest to the leaf on a path that verified up to a CA of the instance. A disabled enrollment stops the
 * search too: the device hears `disabled`, but only if its credential is right.
 *
 * Refusals    the rule that was broken (dps/rule.def), reason and facts in the verdict; RULE_FAILURE is our own.
 * Time        an unknown id and a wrong key cost the same work (dps-device.md D12).
 * Threads     the worker's.
 * Spec        docs/protocol/dps-device.md 6; docs/protocol/sas.md 4.2, 6. TPMs: dps/tpm_attestation.h.
 */
#ifndef DPS_ATTESTATION_H
#define DPS_ATTESTATION_H

#include "certs/cert.h"
#include "dps/challenge.h"
#include "dps/rule.h"
#include "dps/snapshot.h"
#include "wire/sas.h"

struct credential {
    bool has_token;
    bool
        takes_tpm; /* the transport has the steps of a TPM's attestation: HTTPS (MQTT never, dps-tpm.md 1) */
    struct sas_token token; /* judged already but for its key: attestation_token() */
    struct cert_peer peer;
};
struct attested {
    struct enr_row enr; /* in the arena */
    uint8_t thumb[CERT_SHA256];
    bool has_thumb; /* X.509: of the leaf that was presented */
    bool has_anchor;
    uint8_t anchor[CERT_SHA256]; /* of the CA certificate at which the chain ended */
    struct span
        key_id; /* symmetric group: the form of the id from which the device derived its keys; borrowed from rid or fold */
    uint64_t challenge; /* TPM: serial of the one that was answered; else 0 */
    uint8_t tpm_keys[CHALLENGE_KEYS];
};

/* Form, expiry and scope of a device's token, without looking at any enrollment. Spans of ret point into text. */
MUST_USE enum rule attestation_token(struct dps_worker *dw, struct span text, struct span rid,
                                     struct sas_token *ret, struct verdict *v);
/* fold is rid in lower case. */
MUST_USE enum rule attestation_check(struct dps_worker *dw, struct arena *a, struct span rid,
                                     struct span fold, const struct credential *c,
                                     struct attested *ret, struct verdict *v);

/* Where an enrollment's key is sealed. */
struct enr_place {
    char row[LIMIT_ID + 3];
};
struct seal_place enr_key_place(struct enr_place *storage, enum enr_kind kind, struct span fold,
                                unsigned which);

#endif
