/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/revocation_sql.h"

#include "dps/dps.h"
#include "dps/dps_sql_int.h"

static struct q begin(struct db *db, enum sql_id id)
{
    return q_begin(db, &dps_module, (unsigned)id);
}

enum err sql_revocation_get(struct db *db, struct arena *a, struct span fold,
                            struct revocation_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_REVOCATION_GET);
    q_text(&q, 1, fold);
    if (!q_step(&q)) {
        return q_err(&q) != OK ? q_err(&q) : E_NOT_FOUND;
    }
    struct revocation_row r = {.fold = arena_span(a, q_col(&q, 0)),
                               .rid = arena_span(a, q_col(&q, 1)),
                               .at_us = q_col_i64(&q, 2),
                               .was_made = q_col_i64(&q, 3) != 0};
    if (r.fold.p == NULL || r.rid.p == NULL) {
        return E_NOMEM;
    }
    *ret = r;
    return OK;
}

enum err sql_revocation_put(struct db *db, const struct revocation_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_REVOCATION_PUT);
    q_text(&q, 1, row->fold);
    q_text(&q, 2, row->rid);
    q_i64(&q, 3, row->at_us);
    q_i64(&q, 4, row->was_made ? 1 : 0);
    return q_run(&q, NULL);
}

enum err sql_revocation_hub_put(struct db *db, const struct revocation_hub_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_REVOCATION_HUB_PUT);
    q_text(&q, 1, row->fold);
    q_text(&q, 2, row->hub);
    q_text(&q, 3, row->device_id);
    q_i64(&q, 4, (int64_t)row->state);
    q_i64(&q, 5, (int64_t)row->http_status);
    return q_run(&q, NULL);
}

enum err sql_revocation_hub_del_of(struct db *db, struct span fold)
{
    AUTO(q_end) struct q q = begin(db, SQL_REVOCATION_HUB_DEL_OF);
    q_text(&q, 1, fold);
    return q_run(&q, NULL);
}

enum err sql_revocation_hub_each(struct db *db, struct span fold, sql_revocation_hub_fn fn,
                                 void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_REVOCATION_HUB_OF);
    enum err e = OK;
    q_text(&q, 1, fold);
    while (e == OK && q_step(&q)) {
        const struct revocation_hub_row row = {
            .fold = q_col(&q, 0),
            .hub = q_col(&q, 1),
            .device_id = q_col(&q, 2),
            .state = (enum revocation_state)q_col_i64(&q, 3),
            .http_status = (unsigned)q_col_i64(&q, 4),
        };
        e = row.state < REVOCATION_STATES ? fn(arg, &row) : E_CORRUPT;
    }
    return e != OK ? e : q_err(&q);
}
