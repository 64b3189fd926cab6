/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed functions over hub/sql.def: the only place of the hub that sees statements. No rules here.
 *
 * Ownership   what is read is copied into the arena given; what is written is borrowed for the call.
 * Threads     that of the struct db: a worker's reader, a scan, or the registry writer inside a transaction.
 * Errors      E_NOT_FOUND for a key that is not there, E_EXISTS for an id that is, E_NOMEM over the arena's cap, else as store/store.h.
 */
#ifndef HUB_HUB_SQL_H
#define HUB_HUB_SQL_H

#include "hub/registry.h"

MUST_USE enum err hub_sql_device_by_id(struct db *db, struct arena *a, struct span id,
                                       struct device *ret);
MUST_USE enum err hub_sql_device_by_identity(struct db *db, struct arena *a, int64_t identity,
                                             struct device *ret);
/* --- modules (hub/registry.h) ------------------------------------------------------------------ */
/* E_NOT_FOUND: no such device, or it has no such module. */
MUST_USE enum err hub_sql_module_by_name(struct db *db, struct arena *a, struct span device_id,
                                         struct span module_id, struct device *ret);
/* A device (module_id empty) or a module. E_NOT_FOUND: no such device; E_NO_MODULE: it has no such module. */
MUST_USE enum err hub_sql_identity_by_name(struct db *db, struct arena *a, struct span device_id,
                                           struct span module_id, struct device *ret);
MUST_USE enum err hub_sql_module_count(struct db *db, int64_t device, uint64_t *ret);
MUST_USE enum err hub_sql_module_identities(struct db *db, int64_t device,
                                            int64_t ret[LIMIT_MODULES], size_t *ret_n);

/* --- both -------------------------------------------------------------------------------------- */
/* Only what a twin write of the device itself must know. */
MUST_USE enum err hub_sql_device_alive(struct db *db, int64_t identity, int64_t *ret_created_us,
                                       bool *ret_enabled);
/* state_updated_us and last_activity_us; a device never seen keeps its zeros. */
MUST_USE enum err hub_sql_seen_get(struct db *db, struct device *d);
MUST_USE enum err hub_sql_seen_put(struct db *db, int64_t identity, int64_t state_us,
                                   int64_t activity_us);
/* What a device has sent on its last day (hub/allowance.h); E_NOT_FOUND: nothing was counted. A device that is gone gets no row. */
MUST_USE enum err hub_sql_use_get(struct db *db, int64_t identity, int64_t *ret_day,
                                  uint64_t *ret_messages, uint64_t *ret_bytes);
MUST_USE enum err hub_sql_use_put(struct db *db, int64_t identity, int64_t day, uint64_t messages,
                                  uint64_t bytes);
/* In order of id. fn returns an error to stop; the device is borrowed for the call, the arena is reset by the caller if it wants. */
typedef enum err (*hub_sql_device_fn)(void *arg, struct device *d);
MUST_USE enum err hub_sql_device_list(struct db *db, size_t top, hub_sql_device_fn fn, void *arg);
/* All modules of one device, likewise. */
MUST_USE enum err hub_sql_module_list(struct db *db, int64_t device, hub_sql_device_fn fn,
                                      void *arg);

/* The last provisioning operation of a device. */
struct device_op {
    struct span id; /* empty: none */
    bool was_created;
    uint64_t etag;
    bool was_enabled;
    int64_t sequence; /* the greatest that was told; 0: none */
};
MUST_USE enum err hub_sql_device_op_get(struct db *db, struct arena *a, int64_t identity,
                                        struct device_op *ret);
MUST_USE enum err hub_sql_device_op_set(struct db *db, int64_t identity,
                                        const struct device_op *op);

/* A device, or a module (parent, module_id). d->identity is given by the database; op may be NULL. */
MUST_USE enum err hub_sql_device_insert(struct db *db, struct device *d,
                                        const struct device_op *op);
/* Everything but id, generation, creation and model. */
MUST_USE enum err hub_sql_device_update(struct db *db, const struct device *d);
MUST_USE enum err hub_sql_device_set_model(struct db *db, int64_t identity, struct span model);
/* Fills pins that are empty, unless the credential has changed since. */
MUST_USE enum err hub_sql_device_set_pin(struct db *db, int64_t identity, uint64_t cred_gen,
                                         struct span pin0, struct span pin1);
/* Stored MQTT filters; E_NOT_FOUND: none. */
MUST_USE enum err hub_sql_session_get(struct db *db, int64_t identity, int64_t *ret);
MUST_USE enum err hub_sql_session_put(struct db *db, int64_t identity, int64_t filters);
MUST_USE enum err hub_sql_session_del(struct db *db, int64_t identity);
/* hub/fence.h */
struct fence_row {
    struct span id, scope;
    int64_t sequence, at_us;
};
/* Of rows younger than after_us. E_NOT_FOUND. */
MUST_USE enum err hub_sql_fence_get(struct db *db, struct span id, struct span scope,
                                    int64_t after_us, int64_t *ret);
/* The greatest sequence stays. */
MUST_USE enum err hub_sql_fence_put(struct db *db, const struct fence_row *row);
/* A few of the oldest, behind the newest `most`, go if they are that old. */
MUST_USE enum err hub_sql_fence_trim(struct db *db, int64_t most, int64_t until_us);
/* Are there rows behind the newest `most`? */
MUST_USE enum err hub_sql_fence_is_over(struct db *db, int64_t most, bool *ret);

/* With its modules, twins, stored filters and connection facts. */
MUST_USE enum err hub_sql_device_delete(struct db *db, int64_t identity);

/* One row of twin; hub/twin.h. E_NOT_FOUND: as created. */
struct twin;
MUST_USE enum err hub_sql_twin_get(struct db *db, struct arena *a, int64_t identity,
                                   struct twin *ret);
/* Counters only. */
MUST_USE enum err hub_sql_twin_versions(struct db *db, int64_t identity, struct twin *ret);
MUST_USE enum err hub_sql_twin_put(struct db *db, const struct twin *t);
MUST_USE enum err hub_sql_twin_set_service(struct db *db, const struct twin *t);
MUST_USE enum err hub_sql_twin_set_reported(struct db *db, const struct twin *t);

/* --- grants (hub/stream_grant.h): rows are copied out ------------------------------------------ */
struct stream_grant;
MUST_USE enum err hub_sql_grant_by_name(struct db *db, struct span name, struct stream_grant *ret);
/* Any whose time is over by then, the oldest first. */
MUST_USE enum err hub_sql_grant_expired(struct db *db, int64_t now_s, struct stream_grant *ret);
MUST_USE enum err hub_sql_grant_until(struct db *db, int64_t id, int64_t *ret_s);
MUST_USE enum err hub_sql_grant_count(struct db *db, uint64_t *ret);
/* By name. */
typedef enum err (*hub_sql_grant_fn)(void *arg, const struct stream_grant *g);
MUST_USE enum err hub_sql_grant_each(struct db *db, hub_sql_grant_fn fn, void *arg);
MUST_USE enum err hub_sql_grant_add(struct db *db, struct stream_grant *g); /* sets g->id */
MUST_USE enum err hub_sql_grant_set_key(struct db *db, int64_t id, struct span sealed);
MUST_USE enum err hub_sql_grant_del(struct db *db, int64_t id);

#endif
