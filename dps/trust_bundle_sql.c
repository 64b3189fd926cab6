/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/trust_bundle_sql.h"

#include "dps/dps.h"
#include "dps/dps_sql_int.h"

static struct q begin(struct db *db, enum sql_id id)
{
    return q_begin(db, &dps_module, (unsigned)id);
}

static bool copy(struct arena *a, struct span s, struct span *ret)
{
    *ret = arena_span(a, s);
    return ret->p != NULL;
}

/* The one row; its absence is E_NOT_FOUND. */
static enum err read_row(struct q *q, struct arena *a, struct trust_bundle_row *ret)
{
    if (!q_step(q)) {
        return q_err(q) != OK ? q_err(q) : E_NOT_FOUND;
    }
    struct trust_bundle_row r = {
        .id = q_col_i64(q, 0),
        .etag = (uint64_t)q_col_i64(q, 3),
        .created_us = q_col_i64(q, 5),
        .updated_us = q_col_i64(q, 6),
    };
    if (!copy(a, q_col(q, 1), &r.name) || !copy(a, q_col(q, 2), &r.fold) ||
        !copy(a, q_col(q, 4), &r.certificates)) {
        return E_NOMEM;
    }
    *ret = r;
    return OK;
}

enum err sql_trust_bundle_get(struct db *db, struct arena *a, struct span fold,
                              struct trust_bundle_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_TRUST_BUNDLE_GET);
    q_text(&q, 1, fold);
    return read_row(&q, a, ret);
}

enum err sql_trust_bundle_of(struct db *db, struct arena *a, int64_t enrollment,
                             struct trust_bundle_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_TRUST_BUNDLE_OF);
    q_i64(&q, 1, enrollment);
    return read_row(&q, a, ret);
}

enum err sql_trust_bundle_next(struct db *db, struct arena *a, struct span after,
                               struct trust_bundle_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_TRUST_BUNDLE_NEXT);
    q_text(&q, 1, after);
    return read_row(&q, a, ret);
}

enum err sql_trust_bundle_count(struct db *db, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_TRUST_BUNDLE_COUNT);
    if (!q_step(&q)) {
        return q_err(&q) != OK ? q_err(&q) : E_CORRUPT;
    }
    *ret = q_col_i64(&q, 0);
    return OK;
}

static enum err bundle_add(struct db *db, struct trust_bundle_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_TRUST_BUNDLE_ADD);
    q_text(&q, 1, row->name);
    q_text(&q, 2, row->fold);
    q_i64(&q, 3, (int64_t)row->etag);
    q_text(&q, 4, row->certificates);
    q_i64(&q, 5, row->created_us);
    q_i64(&q, 6, row->updated_us);
    enum err e = q_run(&q, NULL);
    if (e == OK) {
        row->id = q_last_id(db);
    }
    return e;
}

enum err sql_trust_bundle_put(struct db *db, struct trust_bundle_row *row)
{
    if (row->id == 0) {
        return bundle_add(db, row);
    }
    AUTO(q_end) struct q q = begin(db, SQL_TRUST_BUNDLE_SET);
    q_i64(&q, 1, row->id);
    q_i64(&q, 2, (int64_t)row->etag);
    q_text(&q, 3, row->certificates);
    q_i64(&q, 4, row->updated_us);
    return q_run(&q, NULL);
}

enum err sql_trust_bundle_del(struct db *db, int64_t id)
{
    AUTO(q_end) struct q q = begin(db, SQL_TRUST_BUNDLE_DEL);
    q_i64(&q, 1, id);
    return q_run(&q, NULL);
}
