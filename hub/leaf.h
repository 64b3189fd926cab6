/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validity dates of a certificate without building it: parsing one whole costs more than all the rest of a connect (measured 146 us
 * against 60), and a thumbprint already says which certificate it is.
 *
 * Errors      E_CERT when the DER does not have the shape of RFC 5280 4.1. Never trusts a length that it did not check.
 * Threads     any; pure.
 */
#ifndef HUB_LEAF_H
#define HUB_LEAF_H

#include "base/err.h"
#include "base/span.h"

/* Seconds since 1970, both ends included. */
MUST_USE enum err leaf_dates(struct span der, int64_t *ret_not_before_s, int64_t *ret_not_after_s);

#endif
