/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request of a device, judged the same whatever the transport: how often it may ask, then who it is; and when it should come back.
 *
 * Who fails again and again with one id from one address waits longer each time, and is not looked at meanwhile. Work of devices that
 * proved who they are is not limited by address: fleets stand behind one (threat N3). A registration is taken in as long as its
 * intent can be stored, and its device told to wait for its place; only above max-backlog is it told to come back.
 *
 * Refusals    RULE_THROTTLED, RULE_THROTTLED_FAILURES, RULE_BACKLOG; else those of attestation_check().
 * Threads     the worker's.   Spec  docs/protocol/limits.md 4; dps-device.md D33.
 */
#ifndef DPS_ADMISSION_H
#define DPS_ADMISSION_H

#include "dps/attestation.h"
#include "dps/throttle.h"
#include "dps/tpm_attestation.h"

struct device_ask {
    enum throttle_what what; /* THROTTLE_REGISTER or THROTTLE_POLL */
    struct span rid, fold;
    const struct credential *cred;
    struct span peer; /* address */
};
MUST_USE enum rule admission_check(struct dps_worker *dw, struct arena *a,
                                   const struct device_ask *ask, struct attested *ret,
                                   struct verdict *v);
/* A register without a token that shows a TPM: *ret is the enrollment that admits it. ask->cred is not looked at. A TPM that is not
 * admitted costs no work on keys, and one that is has a rate of its own (threat N12). */
MUST_USE enum rule admission_challenge(struct dps_worker *dw, struct arena *a,
                                       const struct device_ask *ask, const struct tpm_show *show,
                                       struct enr_row *ret, struct verdict *v);
/* The rate alone. */
MUST_USE enum rule admission_rate(struct dps_worker *dw, enum throttle_what what, struct span fold,
                                  struct verdict *v);
/* Retry-After of a 202 (and of the errors that ask to come back): of the operation, or of one that would begin now. */
unsigned admission_wait_s(struct dps_worker *dw, struct span op_id);
/* On the first worker: watches how fast registrations end. */
void admission_start(struct dps_worker *dw);
/* rid in lower case; dst has LIMIT_ID + 1 bytes. rid is a valid id. */
struct span admission_fold(struct span rid, char *dst);

#endif
