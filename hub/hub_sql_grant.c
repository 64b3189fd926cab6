/* SPDX-License-Identifier: Apache-2.0 */
/* Grants: part of hub/hub_sql.h. */
#include "hub/hub_sql_int.h"

#include "hub/stream_grant.h"

static enum err take_grant(struct q *q, struct stream_grant *ret)
{
    struct span key = q_col(q, 9);
    *ret = (struct stream_grant){.id = q_col_i64(q, 0),
                                 .etag = (uint64_t)q_col_i64(q, 1),
                                 .is_prefix = q_col_i64(q, 4) != 0,
                                 .created_us = q_col_i64(q, 7),
                                 .expires_s = q_col_i64(q, 8),
                                 .sealed_n = key.n};
    if (key.n > sizeof(ret->sealed) || !span_to_cstr(q_col(q, 2), ret->name, sizeof(ret->name)) ||
        !span_to_cstr(q_col(q, 3), ret->device, sizeof(ret->device)) ||
        !span_to_cstr(q_col(q, 5), ret->stream, sizeof(ret->stream)) ||
        !span_to_cstr(q_col(q, 6), ret->made_by, sizeof(ret->made_by))) {
        return E_CORRUPT;
    }
    if (key.n > 0) {
        memcpy(ret->sealed, key.p, key.n);
    }
    return OK;
}

enum err hub_sql_grant_by_name(struct db *db, struct span name, struct stream_grant *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_GRANT_BY_NAME);
    q_text(&q, 1, name);
    enum err e = sql_one_row(&q);
    return e != OK ? e : take_grant(&q, ret);
}

enum err hub_sql_grant_expired(struct db *db, int64_t now_s, struct stream_grant *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_GRANT_EXPIRED);
    q_i64(&q, 1, now_s);
    enum err e = sql_one_row(&q);
    return e != OK ? e : take_grant(&q, ret);
}

enum err hub_sql_grant_until(struct db *db, int64_t id, int64_t *ret_s)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_GRANT_UNTIL);
    q_i64(&q, 1, id);
    enum err e = sql_one_row(&q);
    *ret_s = e == OK ? q_col_i64(&q, 0) : *ret_s;
    return e;
}

enum err hub_sql_grant_count(struct db *db, uint64_t *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_GRANT_COUNT);
    enum err e = sql_one_row(&q);
    *ret = e == OK ? (uint64_t)q_col_i64(&q, 0) : *ret;
    return e;
}

enum err hub_sql_grant_each(struct db *db, hub_sql_grant_fn fn, void *arg)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_GRANT_ALL);
    enum err e = OK;
    while (e == OK && q_step(&q)) {
        struct stream_grant g;
        if ((e = take_grant(&q, &g)) == OK) {
            e = fn(arg, &g);
        }
    }
    return e != OK ? e : q_err(&q);
}

enum err hub_sql_grant_add(struct db *db, struct stream_grant *g)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_GRANT_ADD);
    q_i64(&q, 1, (int64_t)g->etag);
    q_text(&q, 2, span_str(g->name));
    q_text(&q, 3, span_str(g->device));
    q_i64(&q, 4, g->is_prefix ? 1 : 0);
    q_text(&q, 5, span_str(g->stream));
    q_text(&q, 6, span_str(g->made_by));
    q_i64(&q, 7, g->created_us);
    q_i64(&q, 8, g->expires_s);
    enum err e = q_run(&q, NULL);
    g->id = e == OK ? q_last_id(db) : g->id;
    return e;
}

enum err hub_sql_grant_set_key(struct db *db, int64_t id, struct span sealed)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_GRANT_SET_KEY);
    q_i64(&q, 1, id);
    q_blob(&q, 2, sealed);
    return q_run(&q, NULL);
}

enum err hub_sql_grant_del(struct db *db, int64_t id)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_GRANT_DELETE);
    q_i64(&q, 1, id);
    return q_run(&q, NULL);
}
