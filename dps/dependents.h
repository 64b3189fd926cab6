/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom a CA certificate of the instance admits, so that an administrator sees who would go before he deletes it (threat S2):
 *
 *   groups         that name it (caReferences), whose own certificate stands below it (signingCertificates), or whose devices came
 *                  through it as far as is known (registrations)
 *   registrations  whose chain ended at it when the device registered last. Each keeps that anchor; one look-up by index.
 *
 * Threads     dependents_read: a scan thread. dependents_tx_note: the writer.
 * Limits      a page of LIMIT_DEPENDENTS_PAGE; registrations are counted up to LIMIT_DEPENDENTS_COUNT.
 * Spec        docs/protocol/dps-service-rest.md C2 (Berth extension).
 */
#ifndef DPS_DEPENDENTS_H
#define DPS_DEPENDENTS_H

#include "certs/cert.h"
#include "dps/dps_sql.h"

/* Keeps through which CA the device of this registration came; anchor NULL: through none. */
MUST_USE enum err dependents_tx_note(struct store_tx *tx, struct span fold, int64_t enrollment,
                                     enum enr_att att, const uint8_t anchor[CERT_SHA256]);

struct dependents_page {
    uint64_t top;
    int64_t after_enrollment; /* behind this one */
    struct span after_fold;
};
/* Appends the members of the answer behind `name` to b. E_NOT_FOUND: no such CA certificate. */
MUST_USE enum err dependents_read(struct db *db, struct span name,
                                  const struct dependents_page *page, struct buf *b);

#endif
