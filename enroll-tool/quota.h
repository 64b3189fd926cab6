/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many units a station may make, as the office has signed it: one line of JSON.
 *
 *   {"berthQuota":1,"id":"...","station":"line-1","units":1000,"notBefore":"...","notAfter":"...","signature":"<base64>"}
 *
 * The signature (certs/statement.h) covers the line up to its own member, and is checked before anything of the line is read. Units are
 * counted in the station's ledger, by the id: a quota that was used up stays so, whatever is done with the file.
 * Ownership   quota_done.
 * Errors      E_MALFORMED; E_SIGNATURE changed, or of another office; quota_may_burn: E_SCOPE another station, E_EXPIRED, E_QUOTA used up.
 * Limits      QUOTA_LINE bytes.   Threads  one.   Spec  threat S1
 */
#ifndef ENROLL_TOOL_QUOTA_H
#define ENROLL_TOOL_QUOTA_H

#include "base/buf.h"
#include "base/clock.h"
#include "certs/signer.h"

#define QUOTA_LINE 4096u
#define QUOTA_UNITS_MAX 1000000000u

struct quota {
    char *id, *station;
    uint64_t units;
    int64_t not_before_us, not_after_us;
};
void quota_done(struct quota *q);
/* The whole line, signed; q->id is the caller's. */
MUST_USE enum err quota_write(const struct quota *q, const struct signer_key *office,
                              struct buf *ret, struct err_info *info);
MUST_USE enum err quota_read(struct span text, const struct cert *office, struct quota *ret,
                             struct err_info *info);
/* The members alone, of a text whose signature is good. */
MUST_USE enum err quota_parse(struct span line, struct quota *ret, struct err_info *info);
/* May one more unit be made, when `used` were? */
MUST_USE enum err quota_may_burn(const struct quota *q, const char *station, uint64_t used,
                                 int64_t now_us, struct err_info *info);

#endif
