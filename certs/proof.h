/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proof of possession of a CA's key: what may be uploaded, the verification code, and the certificate
 * that proves. Pure checks; the row with code, end and count of failures is the caller's.
 *
 *   uploaded --code generated--> waiting --proof with that CN, signed by the CA--> verified
 *
 * Errors      E_CERT, E_MALFORMED: not acceptable, info says why. E_STATE: no code is live.
 * Limits      a code lives PROOF_CODE_LIFE_US and survives PROOF_TRIES - 1 failures.
 * Threads     any.
 * Spec        docs/protocol/dps-service-rest.md C2; threat C7.
 */
#ifndef CERTS_PROOF_H
#define CERTS_PROOF_H

#include "certs/cert.h"

#define PROOF_CODE_SIZE 49u /* 48 upper-case hex characters of 24 random bytes, and a zero */
#define PROOF_CODE_LIFE_US (24LL * 3600 * 1000000)
#define PROOF_TRIES 10u

void proof_code_new(char dst[PROOF_CODE_SIZE]);

/* Rule 1: a CA certificate, strong enough, not expired. */
MUST_USE enum err proof_check_upload(const struct cert *ca, int64_t now_us, struct err_info *info);

/* Is there a code that may be answered now? code empty: none was generated. */
MUST_USE enum err proof_code_is_live(struct span code, int64_t until_us, uint64_t failures,
                                     int64_t now_us, struct err_info *info);

/* Rule 3: CN is the code, in full and in constant time; issued under the CA's name by the CA's key;
 * inside its dates. Nothing else is asked of it: it says one thing, in its CN. */
MUST_USE enum err proof_verify(const struct cert *ca, const struct cert *proof, struct span code,
                               int64_t now_us, struct err_info *info);

#endif
