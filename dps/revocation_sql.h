/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed functions over dps/sql.def for what concerns revoked devices. No rules here.
 *
 * Ownership   what is read is copied into the arena given, or borrowed for the call of fn; what is written is borrowed for the call.
 * Threads     that of the struct db.
 * Errors      E_NOT_FOUND for a key that is not there, E_NOMEM over the arena's cap, else as store/store.h.
 */
#ifndef DPS_REVOCATION_SQL_H
#define DPS_REVOCATION_SQL_H

#include "dps/dps_sql.h"

struct revocation_row {
    struct span fold, rid;
    int64_t at_us;
    bool was_made; /* the disabled individual enrollment: there was none before */
};
MUST_USE enum err sql_revocation_get(struct db *db, struct arena *a, struct span fold,
                                     struct revocation_row *ret);
MUST_USE enum err sql_revocation_put(struct db *db, const struct revocation_row *row);

/* What came of it at one hub. */
enum revocation_state {
    REVOCATION_PENDING,
    REVOCATION_DONE,    /* disabled there */
    REVOCATION_ABSENT,  /* the hub has no such device */
    REVOCATION_REFUSED, /* the hub said no: http_status */
    REVOCATION_UNLINKED,
    REVOCATION_STATES
};
struct revocation_hub_row {
    struct span fold, hub, device_id;
    enum revocation_state state;
    unsigned http_status; /* 0: none */
};
MUST_USE enum err sql_revocation_hub_put(struct db *db, const struct revocation_hub_row *row);
/* Forgets what came of an earlier revocation. */
MUST_USE enum err sql_revocation_hub_del_of(struct db *db, struct span fold);
typedef enum err (*sql_revocation_hub_fn)(void *arg, const struct revocation_hub_row *row);
MUST_USE enum err sql_revocation_hub_each(struct db *db, struct span fold, sql_revocation_hub_fn fn,
                                          void *arg);

#endif
