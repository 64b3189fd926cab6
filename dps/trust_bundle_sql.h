/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed functions over dps/sql.def for trust bundles. No rules here.
 *
 * Ownership   what is read is copied into the arena given; what is written is borrowed for the call.
 * Threads     that of the struct db.
 * Errors      E_NOT_FOUND for a key that is not there, E_NOMEM over the arena's cap, else as store/store.h.
 */
#ifndef DPS_TRUST_BUNDLE_SQL_H
#define DPS_TRUST_BUNDLE_SQL_H

#include "base/arena.h"
#include "store/store.h"

struct trust_bundle_row {
    int64_t id;
    struct span name, fold;
    uint64_t etag;
    struct span certificates; /* JSON text of an array, as it is told */
    int64_t created_us, updated_us;
};
MUST_USE enum err sql_trust_bundle_get(struct db *db, struct arena *a, struct span fold,
                                       struct trust_bundle_row *ret);
/* That of an enrollment; E_NOT_FOUND also when there is no such enrollment. */
MUST_USE enum err sql_trust_bundle_of(struct db *db, struct arena *a, int64_t enrollment,
                                      struct trust_bundle_row *ret);
/* The next by fold behind `after`. */
MUST_USE enum err sql_trust_bundle_next(struct db *db, struct arena *a, struct span after,
                                        struct trust_bundle_row *ret);
MUST_USE enum err sql_trust_bundle_count(struct db *db, int64_t *ret);
/* id 0: inserts and sets it. */
MUST_USE enum err sql_trust_bundle_put(struct db *db, struct trust_bundle_row *row);
MUST_USE enum err sql_trust_bundle_del(struct db *db, int64_t id);

#endif
