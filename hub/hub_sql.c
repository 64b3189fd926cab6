/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/hub_sql_int.h"

#include "hub/twin.h"

static const char *const sql_texts[] = {
#define SQL(name, text) text,
#include "hub/sql.def"
#undef SQL
};
_Static_assert(ARRAY_LEN(sql_texts) == SQL_COUNT, "one text each");
static const char *const migrations[] = {
#define MIGRATION(version, text) [(version)-1] = text,
#include "hub/migrations.def"
#undef MIGRATION
};
const struct store_module hub_module = {
    .name = "hub",
    .slot = 1,
    .migrations = migrations,
    .n_migrations = ARRAY_LEN(migrations),
    .sql = sql_texts,
    .n_sql = SQL_COUNT,
};

/* --- columns ------------------------------------------------------------------------------- */

/* Copies a column; a failed copy shows in *ok. NULL columns stay NULL spans. */
static struct span take_span(struct q *q, int col, struct arena *a, bool *ok)
{
    struct span s = q_col(q, col);
    if (s.p == NULL || a == NULL) {
        return s;
    }
    struct span copy = arena_span(a, s);
    *ok = *ok && copy.p != NULL;
    return copy;
}

enum err sql_take_device(struct q *q, struct arena *a, struct device *ret)
{
    bool ok = true;
    struct device d = {
        .identity = q_col_i64(q, 0),
        .id = take_span(q, 1, a, &ok),
        .generation_id = take_span(q, 2, a, &ok),
        .created_us = q_col_i64(q, 3),
        .etag = (uint64_t)q_col_i64(q, 4),
        .cred_gen = (uint64_t)q_col_i64(q, 5),
        .slot_gen = {(uint64_t)q_col_i64(q, 6), (uint64_t)q_col_i64(q, 7)},
        .is_enabled = q_col_i64(q, 8) != 0,
        .status_reason = take_span(q, 9, a, &ok),
        .status_updated_us = q_col_i64(q, 10),
        .auth = (enum auth_type)q_col_i64(q, 11),
        .sealed_key = {take_span(q, 12, a, &ok), take_span(q, 13, a, &ok)},
        .thumbprint = {take_span(q, 14, a, &ok), take_span(q, 15, a, &ok)},
        .pin = {take_span(q, 16, a, &ok), take_span(q, 17, a, &ok)},
        .is_edge = q_col_i64(q, 18) != 0,
        .model_id = take_span(q, 19, a, &ok),
        .owner = take_span(q, 20, a, &ok),
        .parent = q_col_i64(q, 21),
        .module_id = take_span(q, 22, a, &ok),
        .managed_by = take_span(q, 23, a, &ok),
    };
    if (!ok) {
        return E_NOMEM;
    }
    *ret = d;
    return OK;
}

static void bind_or_null(struct q *q, int i, struct span s, bool is_blob)
{
    if (s.p == NULL) {
        q_null(q, i);
    } else if (is_blob) {
        q_blob(q, i, s);
    } else {
        q_text(q, i, s);
    }
}

/* An empty span is stored as NULL: the columns that mean "none" by it. */
static void bind_some(struct q *q, int i, struct span s, bool is_blob)
{
    bind_or_null(q, i, s.n == 0 ? SPAN_NONE : s, is_blob);
}

void sql_take_seen(struct q *q, struct device *d)
{
    d->state_updated_us = q_col_i64(q, 24);
    d->last_activity_us = q_col_i64(q, 25);
}

enum err sql_one_row(struct q *q)
{
    if (q_step(q)) {
        return OK;
    }
    return q_err(q) != OK ? q_err(q) : E_NOT_FOUND;
}

/* --- devices ------------------------------------------------------------------------------- */

enum err hub_sql_device_by_id(struct db *db, struct arena *a, struct span id, struct device *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_BY_ID);
    q_text(&q, 1, id);
    enum err e = sql_one_row(&q);
    return e != OK ? e : sql_take_device(&q, a, ret);
}

enum err hub_sql_device_by_identity(struct db *db, struct arena *a, int64_t identity,
                                    struct device *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_BY_IDENTITY);
    q_i64(&q, 1, identity);
    enum err e = sql_one_row(&q);
    return e != OK ? e : sql_take_device(&q, a, ret);
}

enum err hub_sql_device_alive(struct db *db, int64_t identity, int64_t *ret_created_us,
                              bool *ret_enabled)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_ALIVE);
    q_i64(&q, 1, identity);
    enum err e = sql_one_row(&q);
    if (e == OK) {
        *ret_created_us = q_col_i64(&q, 0);
        *ret_enabled = q_col_i64(&q, 1) != 0;
    }
    return e;
}

enum err hub_sql_seen_get(struct db *db, struct device *d)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_SEEN_GET);
    q_i64(&q, 1, d->identity);
    if (q_step(&q)) {
        d->state_updated_us = q_col_i64(&q, 0);
        d->last_activity_us = q_col_i64(&q, 1);
    }
    return q_err(&q);
}

enum err hub_sql_use_get(struct db *db, int64_t identity, int64_t *ret_day, uint64_t *ret_messages,
                         uint64_t *ret_bytes)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_USE_GET);
    q_i64(&q, 1, identity);
    enum err e = sql_one_row(&q);
    if (e == OK) {
        *ret_day = q_col_i64(&q, 0);
        *ret_messages = (uint64_t)q_col_i64(&q, 1);
        *ret_bytes = (uint64_t)q_col_i64(&q, 2);
    }
    return e;
}

enum err hub_sql_use_put(struct db *db, int64_t identity, int64_t day, uint64_t messages,
                         uint64_t bytes)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_USE_PUT);
    q_i64(&q, 1, identity);
    q_i64(&q, 2, day);
    q_i64(&q, 3, (int64_t)messages);
    q_i64(&q, 4, (int64_t)bytes);
    return q_run(&q, NULL);
}

enum err hub_sql_seen_put(struct db *db, int64_t identity, int64_t state_us, int64_t activity_us)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_SEEN_PUT);
    q_i64(&q, 1, identity);
    q_i64(&q, 2, state_us);
    q_i64(&q, 3, activity_us);
    return q_run(&q, NULL);
}

enum err hub_sql_device_list(struct db *db, size_t top, hub_sql_device_fn fn, void *arg)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_LIST);
    q_i64(&q, 1, (int64_t)top);
    while (q_step(&q)) {
        struct device d;
        enum err e = sql_take_device(&q, NULL, &d);
        if (e != OK) {
            return e;
        }
        sql_take_seen(&q, &d);
        if ((e = fn(arg, &d)) != OK) {
            return e;
        }
    }
    return q_err(&q);
}

enum err hub_sql_device_op_get(struct db *db, struct arena *a, int64_t identity,
                               struct device_op *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_OP);
    q_i64(&q, 1, identity);
    enum err e = sql_one_row(&q);
    if (e != OK) {
        return e;
    }
    bool ok = true;
    struct device_op op = {
        .id = take_span(&q, 0, a, &ok),
        .was_created = q_col_i64(&q, 1) != 0,
        .etag = (uint64_t)q_col_i64(&q, 2),
        .was_enabled = q_col_i64(&q, 3) != 0,
        .sequence = q_col_i64(&q, 4),
    };
    if (!ok) {
        return E_NOMEM;
    }
    *ret = op;
    return OK;
}

enum err hub_sql_device_op_set(struct db *db, int64_t identity, const struct device_op *op)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_SET_OP);
    q_i64(&q, 1, identity);
    bind_some(&q, 2, op->id, false);
    q_i64(&q, 3, op->was_created);
    q_i64(&q, 4, (int64_t)op->etag);
    q_i64(&q, 5, op->was_enabled);
    q_i64(&q, 6, op->sequence);
    return q_run(&q, NULL);
}

enum err hub_sql_device_insert(struct db *db, struct device *d, const struct device_op *op)
{
    static const struct device_op none;
    op = op != NULL ? op : &none;
    AUTO(buf_done) struct buf module_row = BUF_INIT(32 + LIMIT_ID);
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_INSERT);
    if (d->parent != 0) {
        buf_addf(&module_row, "%lld/%.*s", (long long)d->parent, SPAN_ARG(d->module_id));
        if (buf_err(&module_row) != OK) {
            return buf_err(&module_row);
        }
        q_i64(&q, 19, d->parent);
    } else {
        q_null(&q, 19);
    }
    q_text(&q, 1, d->parent != 0 ? buf_span(&module_row) : d->id);
    q_text(&q, 2, d->generation_id);
    q_i64(&q, 3, d->created_us);
    q_i64(&q, 4, (int64_t)d->etag);
    q_i64(&q, 5, d->is_enabled);
    bind_or_null(&q, 6, d->status_reason, false);
    q_i64(&q, 7, d->auth);
    bind_some(&q, 8, d->sealed_key[0], true);
    bind_some(&q, 9, d->sealed_key[1], true);
    bind_some(&q, 10, d->thumbprint[0], false);
    bind_some(&q, 11, d->thumbprint[1], false);
    q_i64(&q, 12, d->is_edge);
    bind_some(&q, 13, d->owner, false);
    bind_some(&q, 14, op->id, false);
    q_i64(&q, 15, op->was_created);
    q_i64(&q, 16, (int64_t)op->etag);
    q_i64(&q, 17, op->was_enabled);
    q_i64(&q, 18, op->sequence);
    bind_some(&q, 20, d->module_id, false);
    bind_or_null(&q, 21, d->managed_by, false);
    enum err e = q_run(&q, NULL);
    if (e == OK) {
        d->identity = q_last_id(db);
    }
    return e;
}

enum err hub_sql_device_update(struct db *db, const struct device *d)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_UPDATE);
    q_i64(&q, 1, d->identity);
    q_i64(&q, 2, (int64_t)d->etag);
    q_i64(&q, 3, (int64_t)d->cred_gen);
    q_i64(&q, 4, (int64_t)d->slot_gen[0]);
    q_i64(&q, 5, (int64_t)d->slot_gen[1]);
    q_i64(&q, 6, d->is_enabled);
    bind_or_null(&q, 7, d->status_reason, false);
    q_i64(&q, 8, d->status_updated_us);
    q_i64(&q, 9, d->auth);
    bind_some(&q, 10, d->sealed_key[0], true);
    bind_some(&q, 11, d->sealed_key[1], true);
    bind_some(&q, 12, d->thumbprint[0], false);
    bind_some(&q, 13, d->thumbprint[1], false);
    bind_some(&q, 14, d->pin[0], true);
    bind_some(&q, 15, d->pin[1], true);
    q_i64(&q, 16, d->is_edge);
    bind_some(&q, 17, d->owner, false);
    bind_or_null(&q, 18, d->managed_by, false);
    return q_run(&q, NULL);
}

enum err hub_sql_device_set_model(struct db *db, int64_t identity, struct span model)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_SET_MODEL);
    q_i64(&q, 1, identity);
    bind_some(&q, 2, model, false);
    return q_run(&q, NULL);
}

enum err hub_sql_device_set_pin(struct db *db, int64_t identity, uint64_t cred_gen,
                                struct span pin0, struct span pin1)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_DEVICE_SET_PIN);
    q_i64(&q, 1, identity);
    q_i64(&q, 2, (int64_t)cred_gen);
    bind_some(&q, 3, pin0, true);
    bind_some(&q, 4, pin1, true);
    return q_run(&q, NULL);
}

enum err hub_sql_device_delete(struct db *db, int64_t identity)
{
    static const unsigned each[] = {
        SQL_MODULE_TWINS_DELETE, SQL_MODULE_SEEN_DELETE, SQL_MODULE_SESSIONS_DELETE,
        SQL_MODULE_USE_DELETE,   SQL_MODULES_DELETE,     SQL_TWIN_DELETE,
        SQL_SEEN_DELETE,         SQL_USE_DELETE,         SQL_SESSION_DELETE,
        SQL_DEVICE_DELETE};
    for (size_t i = 0; i < ARRAY_LEN(each); i++) {
        AUTO(q_end) struct q q = q_begin(db, &hub_module, each[i]);
        q_i64(&q, 1, identity);
        enum err e = q_run(&q, NULL);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

/* --- fences -------------------------------------------------------------------------------- */

enum err hub_sql_fence_get(struct db *db, struct span id, struct span scope, int64_t after_us,
                           int64_t *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_FENCE_GET);
    q_text(&q, 1, id);
    q_text(&q, 2, scope);
    q_i64(&q, 3, after_us);
    enum err e = sql_one_row(&q);
    if (e == OK) {
        *ret = q_col_i64(&q, 0);
    }
    return e;
}

enum err hub_sql_fence_put(struct db *db, const struct fence_row *row)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_FENCE_PUT);
    q_text(&q, 1, row->id);
    q_text(&q, 2, row->scope);
    q_i64(&q, 3, row->sequence);
    q_i64(&q, 4, row->at_us);
    return q_run(&q, NULL);
}

enum err hub_sql_fence_trim(struct db *db, int64_t most, int64_t until_us)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_FENCE_TRIM);
    q_i64(&q, 1, most);
    q_i64(&q, 2, until_us);
    return q_run(&q, NULL);
}

enum err hub_sql_fence_is_over(struct db *db, int64_t most, bool *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_FENCE_IS_OVER);
    q_i64(&q, 1, most);
    enum err e = sql_one_row(&q);
    if (e == OK) {
        *ret = q_col_i64(&q, 0) != 0;
    }
    return e;
}

/* --- sessions ------------------------------------------------------------------------------ */

enum err hub_sql_session_get(struct db *db, int64_t identity, int64_t *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_SESSION_GET);
    q_i64(&q, 1, identity);
    enum err e = sql_one_row(&q);
    if (e == OK) {
        *ret = q_col_i64(&q, 0);
    }
    return e;
}

enum err hub_sql_session_put(struct db *db, int64_t identity, int64_t filters)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_SESSION_PUT);
    q_i64(&q, 1, identity);
    q_i64(&q, 2, filters);
    return q_run(&q, NULL);
}

enum err hub_sql_session_del(struct db *db, int64_t identity)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_SESSION_DELETE);
    q_i64(&q, 1, identity);
    return q_run(&q, NULL);
}

/* --- twins --------------------------------------------------------------------------------- */

enum err hub_sql_twin_get(struct db *db, struct arena *a, int64_t identity, struct twin *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_TWIN_GET);
    q_i64(&q, 1, identity);
    enum err e = sql_one_row(&q);
    if (e != OK) {
        return e;
    }
    bool ok = true;
    struct twin t = {
        .identity = identity,
        .etag = (uint64_t)q_col_i64(&q, 0),
        .version = (uint64_t)q_col_i64(&q, 1),
        .tags = take_span(&q, 2, a, &ok),
        .desired = {.json = take_span(&q, 3, a, &ok),
                    .meta = take_span(&q, 4, a, &ok),
                    .version = (uint64_t)q_col_i64(&q, 5)},
        .reported = {.json = take_span(&q, 6, a, &ok),
                     .meta = take_span(&q, 7, a, &ok),
                     .version = (uint64_t)q_col_i64(&q, 8)},
    };
    if (!ok) {
        return E_NOMEM;
    }
    *ret = t;
    return OK;
}

enum err hub_sql_twin_versions(struct db *db, int64_t identity, struct twin *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_TWIN_VERSIONS);
    q_i64(&q, 1, identity);
    enum err e = sql_one_row(&q);
    if (e != OK) {
        return e;
    }
    *ret = (struct twin){.identity = identity,
                         .etag = (uint64_t)q_col_i64(&q, 0),
                         .version = (uint64_t)q_col_i64(&q, 1),
                         .desired.version = (uint64_t)q_col_i64(&q, 2),
                         .reported.version = (uint64_t)q_col_i64(&q, 3)};
    return OK;
}

enum err hub_sql_twin_put(struct db *db, const struct twin *t)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_TWIN_PUT);
    q_i64(&q, 1, t->identity);
    q_i64(&q, 2, (int64_t)t->etag);
    q_i64(&q, 3, (int64_t)t->version);
    bind_or_null(&q, 4, t->tags, false);
    q_text(&q, 5, t->desired.json);
    q_text(&q, 6, t->desired.meta);
    q_i64(&q, 7, (int64_t)t->desired.version);
    q_text(&q, 8, t->reported.json);
    q_text(&q, 9, t->reported.meta);
    q_i64(&q, 10, (int64_t)t->reported.version);
    return q_run(&q, NULL);
}

enum err hub_sql_twin_set_service(struct db *db, const struct twin *t)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_TWIN_SET_SERVICE);
    q_i64(&q, 1, t->identity);
    q_i64(&q, 2, (int64_t)t->etag);
    q_i64(&q, 3, (int64_t)t->version);
    bind_or_null(&q, 4, t->tags, false);
    q_text(&q, 5, t->desired.json);
    q_text(&q, 6, t->desired.meta);
    q_i64(&q, 7, (int64_t)t->desired.version);
    return q_run(&q, NULL);
}

enum err hub_sql_twin_set_reported(struct db *db, const struct twin *t)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_TWIN_SET_REPORTED);
    q_i64(&q, 1, t->identity);
    q_i64(&q, 2, (int64_t)t->version);
    q_text(&q, 3, t->reported.json);
    q_text(&q, 4, t->reported.meta);
    q_i64(&q, 5, (int64_t)t->reported.version);
    return q_run(&q, NULL);
}
