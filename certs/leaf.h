/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Name and dates of a device certificate without building it: parsing one whole costs more than all the rest of a registration.
 * Judges nothing but the shape; signatures are server/trust.h's matter.
 *
 * Errors      E_CERT when the DER does not have the shape of RFC 5280 4.1, or the subject has not exactly one CN that is a printable,
 *             UTF8 or IA5 text of at most 64 bytes without NUL (docs/protocol/dps-device.md 6.4).
 * Threads     any; pure.
 */
#ifndef CERTS_LEAF_H
#define CERTS_LEAF_H

#include "base/err.h"
#include "base/span.h"

struct leaf {
    int64_t not_before_s, not_after_s; /* seconds since 1970, both ends included */
    struct span cn;                    /* borrowed */
};
MUST_USE enum err leaf_read(struct span der, struct leaf *ret, struct err_info *info);
/* The dates alone, whatever the subject is (thumbprint devices). */
MUST_USE enum err leaf_dates(struct span der, int64_t *ret_not_before_s, int64_t *ret_not_after_s);

#endif
