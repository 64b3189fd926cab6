/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trust bundles: CA certificates under a name. A device whose enrollment names one is told it with its assignment, to know an upstream
 * gateway by; Berth itself trusts nothing for it.
 *
 * A device is told the bundle as it is when it asks, not as it was when it registered: one that was replaced reaches the devices at
 * their next registration or poll, and no copy is kept for each of them.
 *
 * Ownership   what is read lives in the arena given.
 * Threads     any; those with a struct db or a tx: theirs.
 * Errors      E_ARG, E_ARG_NULL, E_JSON name the member; E_CERT a certificate that is none of a CA, or too weak; E_LIMIT.
 *             E_NOT_FOUND, E_ETAG; E_CONFLICT an enrollment names it.
 * Limits      LIMIT_TRUST_BUNDLES; of one LIMIT_TRUST_BUNDLE_CERTS certificates and LIMIT_TRUST_BUNDLE bytes as they are told.
 * Spec        docs/protocol/dps-service-rest.md A11; docs/protocol/dps-device.md 10.
 */
#ifndef DPS_TRUST_BUNDLE_H
#define DPS_TRUST_BUNDLE_H

#include "dps/enrollment.h"
#include "dps/trust_bundle_sql.h"

#define TRUST_BUNDLE_MEMBER "trustBundleId"

/* certificates of the body, checked: the text that is kept. */
MUST_USE enum err trust_bundle_read(const struct json *body, struct arena *a, struct span *ret,
                                    struct err_info *info);
/* The object. with_pem false: the certificates are only described. */
MUST_USE enum err trust_bundle_write(struct buf *b, const struct trust_bundle_row *row,
                                     bool with_pem);
/* As a device of that enrollment is told it; empty when it names none (any more). */
MUST_USE enum err trust_bundle_tell(struct db *db, struct arena *a, int64_t enrollment,
                                    struct span *ret);
/* If-Match as the object's etag has it, or in the form of the other etags of this plane. */
uint64_t trust_bundle_etag_read(struct span text);

/* --- on the writer -------------------------------------------------------------------------------- */
/* row: name, fold, certificates; the rest is set. Without If-Match it is made or replaced. */
MUST_USE enum err trust_bundle_tx_put(struct store_tx *tx, struct trust_bundle_row *row,
                                      const struct enr_match *match, struct err_info *info);
MUST_USE enum err trust_bundle_tx_delete(struct store_tx *tx, struct span fold,
                                         const struct enr_match *match, struct err_info *info);

#endif
