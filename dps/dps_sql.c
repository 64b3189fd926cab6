/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: one short function for each statement of sql.def; splitting it would hide half of them. */
#include "dps/dps_sql.h"

#include "base/text.h"
#include "dps/dps.h"
#include "dps/dps_sql_int.h"

static const char *const sql_texts[SQL_COUNT] = {
#define SQL(name, text) [name] = text,
#include "dps/sql.def"
#undef SQL
};
static const char *const migrations[] = {
#define MIGRATION(version, text) [(version)-1] = text,
#include "dps/migrations.def"
#undef MIGRATION
};
const struct store_module dps_module = {
    .name = "dps",
    .slot = 1,
    .migrations = migrations,
    .n_migrations = ARRAY_LEN(migrations),
    .sql = sql_texts,
    .n_sql = ARRAY_LEN(sql_texts),
};

static struct q begin(struct db *db, enum sql_id id)
{
    return q_begin(db, &dps_module, (unsigned)id);
}

/* Empty is NULL in the tables. */
static void put_text(struct q *q, int i, struct span s)
{
    q_text(q, i, s.n != 0 ? s : SPAN_NONE);
}

static void put_blob(struct q *q, int i, struct span s)
{
    q_blob(q, i, s.n != 0 ? s : SPAN_NONE);
}

/* A row is expected: its absence is E_NOT_FOUND. */
static enum err need_row(struct q *q)
{
    if (q_step(q)) {
        return OK;
    }
    return q_err(q) != OK ? q_err(q) : E_NOT_FOUND;
}

/* Copies spans into an arena; remembers the first failure. A NULL arena borrows. */
struct copier {
    struct arena *a;
    enum err err;
};

static struct span copy(struct copier *c, struct span s)
{
    if (c->a == NULL || s.p == NULL) {
        return s;
    }
    struct span r = arena_span(c->a, s);
    if (r.p == NULL) {
        c->err = E_NOMEM;
    }
    return r;
}

static enum err one_int(struct q *q, int64_t *ret)
{
    enum err e = need_row(q);
    if (e == OK) {
        *ret = q_col_i64(q, 0);
    }
    return e;
}

/* --- settings ------------------------------------------------------------------------------- */

enum err sql_setting_get(struct db *db, struct arena *a, const char *name, struct span *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_SETTING_GET);
    struct copier c = {a, OK};
    q_text(&q, 1, span_str(name));
    enum err e = need_row(&q);
    if (e != OK) {
        return e;
    }
    struct span v = copy(&c, q_col(&q, 0));
    if (c.err == OK) {
        *ret = v;
    }
    return c.err;
}

enum err sql_setting_put(struct db *db, const char *name, struct span value)
{
    AUTO(q_end) struct q q = begin(db, SQL_SETTING_PUT);
    q_text(&q, 1, span_str(name));
    q_blob(&q, 2, value);
    return q_run(&q, NULL);
}

/* --- linked hubs ----------------------------------------------------------------------------- */

static enum err read_hub(struct q *q, struct arena *a, struct hub_row *ret)
{
    struct copier c = {a, OK};
    struct hub_row r = {
        .id = q_col_i64(q, 0),
        .host = copy(&c, q_col(q, 1)),
        .port = (uint16_t)q_col_i64(q, 2),
        .etag = (uint64_t)q_col_i64(q, 3),
        .policy = copy(&c, q_col(q, 4)),
        .key = copy(&c, q_col(q, 5)),
        .location = copy(&c, q_col(q, 6)),
        .applies = q_col_i64(q, 7) != 0,
        .weight = (uint16_t)q_col_i64(q, 8),
        .latency_ms = q_col_null(q, 9) ? -1 : q_col_i64(q, 9),
        .is_draining = q_col_i64(q, 10) != 0,
    };
    char *fold = arena_str(a, r.host);
    if (fold == NULL || c.err != OK) {
        return E_NOMEM;
    }
    text_lower(fold, r.host.n);
    r.fold = span_of(fold, r.host.n);
    *ret = r;
    return OK;
}

enum err sql_hub_get(struct db *db, struct arena *a, struct span fold, struct hub_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_HUB_GET);
    q_text(&q, 1, fold);
    enum err e = need_row(&q);
    return e != OK ? e : read_hub(&q, a, ret);
}

enum err sql_hub_all(struct db *db, struct arena *a, struct hub_row *ret, size_t *ret_n)
{
    AUTO(q_end) struct q q = begin(db, SQL_HUB_ALL);
    enum err e = OK;
    size_t n = 0;
    while (e == OK && n < LIMIT_DPS_LINKED_HUBS && q_step(&q)) {
        e = read_hub(&q, a, &ret[n++]);
    }
    e = e != OK ? e : q_err(&q);
    if (e == OK) {
        *ret_n = n;
    }
    return e;
}

enum err sql_hub_put(struct db *db, const struct hub_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_HUB_PUT);
    q_text(&q, 1, row->fold);
    q_text(&q, 2, row->host);
    q_i64(&q, 3, row->port);
    q_i64(&q, 4, (int64_t)row->etag);
    q_text(&q, 5, row->policy);
    q_blob(&q, 6, row->key);
    put_text(&q, 7, row->location);
    q_i64(&q, 8, row->applies);
    q_i64(&q, 9, row->weight);
    if (row->latency_ms >= 0) {
        q_i64(&q, 10, row->latency_ms);
    } else {
        q_null(&q, 10);
    }
    q_i64(&q, 11, row->is_draining);
    return q_run(&q, NULL);
}

enum err sql_hub_del(struct db *db, struct span fold)
{
    AUTO(q_end) struct q q = begin(db, SQL_HUB_DEL);
    q_text(&q, 1, fold);
    return q_run(&q, NULL);
}

enum err sql_hub_count(struct db *db, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_HUB_COUNT);
    return one_int(&q, ret);
}

enum err sql_hub_load(struct db *db, struct span host, struct hub_load *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_HUB_LOAD);
    q_text(&q, 1, host);
    enum err e = need_row(&q);
    if (e == OK) {
        *ret = (struct hub_load){q_col_i64(&q, 0), q_col_i64(&q, 1), q_col_i64(&q, 2)};
    }
    return e;
}

/* --- enrollments ------------------------------------------------------------------------------ */

static enum err read_enr(struct q *q, struct arena *a, struct enr_row *ret)
{
    struct copier c = {a, OK};
    struct enr_row r = {
        .id = q_col_i64(q, 0),
        .kind = (enum enr_kind)q_col_i64(q, 1),
        .name = copy(&c, q_col(q, 2)),
        .fold = copy(&c, q_col(q, 3)),
        .etag = (uint64_t)q_col_i64(q, 4),
        .is_enabled = q_col_i64(q, 5) != 0,
        .att = (enum enr_att)q_col_i64(q, 6),
        .key = {copy(&c, q_col(q, 7)), copy(&c, q_col(q, 8))},
        .cert = {copy(&c, q_col(q, 9)), copy(&c, q_col(q, 10))},
        .ca = {copy(&c, q_col(q, 11)), copy(&c, q_col(q, 12))},
        .device_id = copy(&c, q_col(q, 13)),
        .is_edge = q_col_i64(q, 14) != 0,
        .initial_twin = copy(&c, q_col(q, 15)),
        .reprovision = (unsigned)q_col_i64(q, 16),
        .alloc = (enum enr_alloc)q_col_i64(q, 17),
        .hubs = copy(&c, q_col(q, 18)),
        .hub_host = copy(&c, q_col(q, 19)),
        .doc = copy(&c, q_col(q, 20)),
        .created_us = q_col_i64(q, 21),
        .updated_us = q_col_i64(q, 22),
        .issuance = copy(&c, q_col(q, 23)),
        .ek = copy(&c, q_col(q, 24)),
        .srk = copy(&c, q_col(q, 25)),
        .trust_bundle = copy(&c, q_col(q, 26)),
    };
    if (c.err == OK) {
        *ret = r;
    }
    return c.err;
}

enum err sql_enr_get(struct db *db, struct arena *a, enum enr_kind kind, struct span fold,
                     struct enr_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_ENR_GET);
    q_i64(&q, 1, (int64_t)kind);
    q_text(&q, 2, fold);
    enum err e = need_row(&q);
    return e != OK ? e : read_enr(&q, a, ret);
}

enum err sql_enr_by_id(struct db *db, struct arena *a, int64_t id, struct enr_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_ENR_BY_ID);
    q_i64(&q, 1, id);
    enum err e = need_row(&q);
    return e != OK ? e : read_enr(&q, a, ret);
}

enum err sql_enr_range(struct db *db, enum enr_kind kind, const struct enr_range *range,
                       uint64_t limit, sql_enr_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_ENR_RANGE);
    struct span from = span_cmp(range->from, range->after) > 0 ? range->from : range->after;
    struct enr_row r;
    enum err e = OK;
    q_i64(&q, 1, (int64_t)kind);
    q_text(&q, 2, from.n != 0 ? from : SPAN_LIT(""));
    q_text(&q, 3, range->after.n != 0 ? range->after : SPAN_LIT(""));
    q_text(&q, 4, range->to.p != NULL ? range->to : SPAN_LIT("\xff")); /* behind every id */
    q_i64(&q, 5, (int64_t)limit);
    while (e == OK && q_step(&q)) {
        if ((e = read_enr(&q, NULL, &r)) == OK) {
            e = fn(arg, &r);
        }
    }
    return e != OK ? e : q_err(&q);
}

enum err sql_enr_page(struct db *db, enum enr_kind kind, struct span after, uint64_t limit,
                      sql_enr_fn fn, void *arg)
{
    const struct enr_range all = {.after = after};
    return sql_enr_range(db, kind, &all, limit, fn, arg);
}

enum err sql_enr_state(struct db *db, int64_t id, uint64_t *ret_etag, bool *ret_enabled)
{
    AUTO(q_end) struct q q = begin(db, SQL_ENR_STATE);
    q_i64(&q, 1, id);
    enum err e = need_row(&q);
    if (e == OK) {
        *ret_etag = (uint64_t)q_col_i64(&q, 0);
        *ret_enabled = q_col_i64(&q, 1) != 0;
    }
    return e;
}

enum err sql_enr_count(struct db *db, enum enr_kind kind, bool is_symmetric, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_ENR_COUNT);
    q_i64(&q, 1, (int64_t)kind);
    q_i64(&q, 2, is_symmetric ? 1 : 0);
    return one_int(&q, ret);
}

enum err sql_enr_put(struct db *db, struct enr_row *row)
{
    AUTO(q_end) struct q q = begin(db, row->id == 0 ? SQL_ENR_INSERT : SQL_ENR_UPDATE);
    q_i64(&q, 1, (int64_t)row->kind);
    q_text(&q, 2, row->name);
    q_text(&q, 3, row->fold);
    q_i64(&q, 4, (int64_t)row->etag);
    q_i64(&q, 5, row->is_enabled);
    q_i64(&q, 6, (int64_t)row->att);
    for (int i = 0; i < 2; i++) {
        put_blob(&q, 7 + i, row->key[i]);
        put_blob(&q, 9 + i, row->cert[i]);
        put_text(&q, 11 + i, row->ca[i]);
    }
    put_text(&q, 13, row->device_id);
    q_i64(&q, 14, row->is_edge);
    put_text(&q, 15, row->initial_twin);
    q_i64(&q, 16, (int64_t)row->reprovision);
    q_i64(&q, 17, (int64_t)row->alloc);
    put_text(&q, 18, row->hubs);
    put_text(&q, 19, row->hub_host);
    q_text(&q, 20, row->doc);
    q_i64(&q, 21, row->created_us);
    q_i64(&q, 22, row->updated_us);
    put_text(&q, 23, row->issuance);
    put_blob(&q, 24, row->ek);
    put_blob(&q, 25, row->srk);
    put_text(&q, 26, row->trust_bundle);
    if (row->id != 0) {
        q_i64(&q, 27, row->id);
        return q_run(&q, NULL);
    }
    enum err e = q_run(&q, NULL);
    if (e == OK) {
        row->id = q_last_id(db);
    }
    return e;
}

enum err sql_enr_del(struct db *db, int64_t id)
{
    AUTO(q_end) struct q q = begin(db, SQL_ENR_DEL);
    q_i64(&q, 1, id);
    return q_run(&q, NULL);
}

static enum err use_run(struct db *db, enum sql_id id, enum use_what what, struct span fold,
                        int64_t enrollment)
{
    AUTO(q_end) struct q q = begin(db, id);
    q_i64(&q, 1, (int64_t)what);
    q_text(&q, 2, fold);
    q_i64(&q, 3, enrollment);
    return q_run(&q, NULL);
}

/* --- when certificates end ------------------------------------------------------------------------ */

enum err sql_end_put(struct db *db, int64_t enrollment, int64_t until_us)
{
    AUTO(q_end) struct q q = begin(db, SQL_END_PUT);
    q_i64(&q, 1, enrollment);
    q_i64(&q, 2, until_us);
    return q_run(&q, NULL);
}

enum err sql_end_del(struct db *db, int64_t enrollment)
{
    AUTO(q_end) struct q q = begin(db, SQL_END_DEL);
    q_i64(&q, 1, enrollment);
    return q_run(&q, NULL);
}

enum err sql_end_count(struct db *db, int64_t until_us, uint64_t limit, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_END_COUNT);
    q_i64(&q, 1, until_us);
    q_i64(&q, 2, (int64_t)limit);
    return one_int(&q, ret);
}

enum err sql_end_next(struct db *db, int64_t after_us, char *ret_name, size_t n,
                      int64_t *ret_until_us)
{
    AUTO(q_end) struct q q = begin(db, SQL_END_NEXT);
    q_i64(&q, 1, after_us);
    enum err e = need_row(&q);
    if (e == OK && !span_to_cstr(q_col(&q, 0), ret_name, n)) {
        e = E_CORRUPT;
    }
    if (e == OK) {
        *ret_until_us = q_col_i64(&q, 1);
    }
    return e;
}

enum err sql_use_add(struct db *db, enum use_what what, struct span fold, int64_t enrollment)
{
    return use_run(db, SQL_USE_ADD, what, fold, enrollment);
}

enum err sql_use_del(struct db *db, enum use_what what, struct span fold, int64_t enrollment)
{
    return use_run(db, SQL_USE_DEL, what, fold, enrollment);
}

enum err sql_use_any(struct db *db, enum use_what what, struct span fold, bool *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_USE_ANY);
    q_i64(&q, 1, (int64_t)what);
    q_text(&q, 2, fold);
    bool found = q_step(&q);
    if (q_err(&q) == OK) {
        *ret = found;
    }
    return q_err(&q);
}

/* --- registrations ------------------------------------------------------------------------------ */

static enum err read_reg(struct q *q, struct arena *a, struct reg_row *ret)
{
    struct copier c = {a, OK};
    struct reg_row r = {
        .fold = copy(&c, q_col(q, 0)),
        .rid = copy(&c, q_col(q, 1)),
        .enrollment = q_col_i64(q, 2),
        .group_id = copy(&c, q_col(q, 3)),
        .att = (enum enr_att)q_col_i64(q, 4),
        .etag = (uint64_t)q_col_i64(q, 5),
        .created_us = q_col_i64(q, 6),
        .updated_us = q_col_i64(q, 7),
        .status = (enum reg_status)q_col_i64(q, 8),
        .substatus = (enum reg_substatus)q_col_i64(q, 9),
        .hub = copy(&c, q_col(q, 10)),
        .first_hub = copy(&c, q_col(q, 11)),
        .device_id = copy(&c, q_col(q, 12)),
        .error_code = (unsigned)q_col_i64(q, 13),
        .error_text = copy(&c, q_col(q, 14)),
        .op_id = copy(&c, q_col(q, 15)),
        .op_open = (enum reg_open)q_col_i64(q, 16),
        .op_hub = copy(&c, q_col(q, 17)),
        .op_device_id = copy(&c, q_col(q, 18)),
        .op_cred = copy(&c, q_col(q, 19)),
        .op_reset = q_col_i64(q, 20) != 0,
        .op_substatus = (enum reg_substatus)q_col_i64(q, 21),
        .op_todo = (unsigned)q_col_i64(q, 22),
        .op_flags = (unsigned)q_col_i64(q, 23),
        .op_from = copy(&c, q_col(q, 24)),
    };
    if (c.err != OK) {
        return c.err;
    }
    if (r.status >= REG_STATUSES || r.substatus >= REG_SUBSTATUSES ||
        r.op_substatus >= REG_SUBSTATUSES || r.op_open > OP_SETTLING) {
        return E_CORRUPT;
    }
    *ret = r;
    return OK;
}

enum err sql_reg_get(struct db *db, struct arena *a, struct span fold, struct reg_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_GET);
    q_text(&q, 1, fold);
    enum err e = need_row(&q);
    return e != OK ? e : read_reg(&q, a, ret);
}

static enum err reg_rows(struct q *q, sql_reg_fn fn, void *arg)
{
    struct reg_row r;
    enum err e = OK;
    while (e == OK && q_step(q)) {
        if ((e = read_reg(q, NULL, &r)) == OK) {
            e = fn(arg, &r);
        }
    }
    return e != OK ? e : q_err(q);
}

enum err sql_reg_page(struct db *db, int64_t enrollment, struct span after, uint64_t limit,
                      sql_reg_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_PAGE);
    q_i64(&q, 1, enrollment);
    q_text(&q, 2, after.n != 0 ? after : SPAN_LIT(""));
    q_i64(&q, 3, (int64_t)limit);
    return reg_rows(&q, fn, arg);
}

enum err sql_reg_open_page(struct db *db, int64_t after_us, struct span after, uint64_t limit,
                           sql_reg_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_OPEN_PAGE);
    q_i64(&q, 1, after_us);
    q_text(&q, 2, after.n != 0 ? after : SPAN_LIT(""));
    q_i64(&q, 3, (int64_t)limit);
    return reg_rows(&q, fn, arg);
}

enum err sql_reg_open_count(struct db *db, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_OPEN_COUNT);
    return one_int(&q, ret);
}

enum err sql_reg_moving(struct db *db, int64_t enrollment, sql_reg_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_MOVING);
    q_i64(&q, 1, enrollment);
    return reg_rows(&q, fn, arg);
}

enum err sql_reg_put(struct db *db, const struct reg_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_PUT);
    q_text(&q, 1, row->fold);
    q_text(&q, 2, row->rid);
    q_i64(&q, 3, row->enrollment);
    put_text(&q, 4, row->group_id);
    q_i64(&q, 5, (int64_t)row->att);
    q_i64(&q, 6, (int64_t)row->etag);
    q_i64(&q, 7, row->created_us);
    q_i64(&q, 8, row->updated_us);
    q_i64(&q, 9, (int64_t)row->status);
    q_i64(&q, 10, (int64_t)row->substatus);
    put_text(&q, 11, row->hub);
    put_text(&q, 12, row->first_hub);
    put_text(&q, 13, row->device_id);
    q_i64(&q, 14, row->error_code);
    put_text(&q, 15, row->error_text);
    q_text(&q, 16, row->op_id);
    q_i64(&q, 17, (int64_t)row->op_open);
    put_text(&q, 18, row->op_hub);
    put_text(&q, 19, row->op_device_id);
    put_blob(&q, 20, row->op_cred);
    q_i64(&q, 21, row->op_reset);
    q_i64(&q, 22, (int64_t)row->op_substatus);
    q_i64(&q, 23, row->op_todo);
    q_i64(&q, 24, row->op_flags);
    put_text(&q, 25, row->op_from);
    return q_run(&q, NULL);
}

enum err sql_reg_finish(struct db *db, const struct reg_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_FINISH);
    q_text(&q, 1, row->fold);
    q_i64(&q, 2, (int64_t)row->etag);
    q_i64(&q, 3, row->updated_us);
    q_i64(&q, 4, (int64_t)row->status);
    q_i64(&q, 5, (int64_t)row->substatus);
    put_text(&q, 6, row->hub);
    put_text(&q, 7, row->first_hub);
    put_text(&q, 8, row->device_id);
    q_i64(&q, 9, row->error_code);
    put_text(&q, 10, row->error_text);
    q_i64(&q, 11, row->op_flags & (REG_F_MORE | REG_F_ISSUED | REG_F_TRUST_BUNDLE));
    return q_run(&q, NULL);
}

enum err sql_reg_del(struct db *db, struct span fold)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_DEL);
    q_text(&q, 1, fold);
    return q_run(&q, NULL);
}

enum err sql_reg_del_of(struct db *db, int64_t enrollment, uint64_t limit, int64_t *ret_deleted)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_DEL_OF);
    q_i64(&q, 1, enrollment);
    q_i64(&q, 2, (int64_t)limit);
    return q_run(&q, ret_deleted);
}

/* --- what some registrations have besides ----------------------------------------------------------- */

enum err sql_more_get(struct db *db, struct arena *a, struct span fold, struct reg_more *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_MORE_GET);
    struct copier c = {a, OK};
    q_text(&q, 1, fold);
    enum err e = need_row(&q);
    if (e != OK) {
        return e;
    }
    struct reg_more m = {
        .payload = copy(&c, q_col(&q, 0)),
        .leaf = copy(&c, q_col(&q, 1)),
        .csr = copy(&c, q_col(&q, 2)),
        .csr_form = (unsigned)q_col_i64(&q, 3),
        .chain = copy(&c, q_col(&q, 4)),
        .twin = copy(&c, q_col(&q, 5)),
        .initial_twin = copy(&c, q_col(&q, 6)),
        .answer = copy(&c, q_col(&q, 7)),
        .tpm_srk = copy(&c, q_col(&q, 8)),
        .tpm_blob = copy(&c, q_col(&q, 9)),
        .tpm_key = copy(&c, q_col(&q, 10)),
    };
    if (c.err == OK) {
        *ret = m;
    }
    return c.err;
}

enum err sql_more_put(struct db *db, struct span fold, const struct reg_more *more)
{
    AUTO(q_end) struct q q = begin(db, SQL_MORE_PUT);
    q_text(&q, 1, fold);
    put_text(&q, 2, more->payload);
    put_blob(&q, 3, more->leaf);
    put_blob(&q, 4, more->csr);
    q_i64(&q, 5, more->csr_form);
    put_blob(&q, 6, more->chain);
    put_text(&q, 7, more->twin);
    put_text(&q, 8, more->initial_twin);
    put_text(&q, 9, more->answer);
    put_blob(&q, 10, more->tpm_srk);
    put_blob(&q, 11, more->tpm_blob);
    put_blob(&q, 12, more->tpm_key);
    return q_run(&q, NULL);
}

enum err sql_more_del(struct db *db, struct span fold)
{
    AUTO(q_end) struct q q = begin(db, SQL_MORE_DEL);
    q_text(&q, 1, fold);
    return q_run(&q, NULL);
}

/* --- calls owed to hubs ------------------------------------------------------------------------------ */

enum err sql_left_add(struct db *db, const struct left_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_LEFT_ADD);
    q_i64(&q, 1, (int64_t)row->what);
    q_text(&q, 2, row->rid);
    q_text(&q, 3, row->hub);
    q_text(&q, 4, row->device_id);
    q_text(&q, 5, row->owner);
    q_i64(&q, 6, row->sequence);
    return q_run(&q, NULL);
}

enum err sql_left_page(struct db *db, int64_t after, uint64_t limit, sql_left_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_LEFT_PAGE);
    enum err e = OK;
    q_i64(&q, 1, after);
    q_i64(&q, 2, (int64_t)limit);
    while (e == OK && q_step(&q)) {
        const struct left_row row = {
            .id = q_col_i64(&q, 0),
            .what = (enum left_what)q_col_i64(&q, 1),
            .rid = q_col(&q, 2),
            .hub = q_col(&q, 3),
            .device_id = q_col(&q, 4),
            .owner = q_col(&q, 5),
            .sequence = q_col_i64(&q, 6),
        };
        e = row.what < LEFT_WHATS ? fn(arg, &row) : E_CORRUPT;
    }
    return e != OK ? e : q_err(&q);
}

/* --- operations that were replaced, groups that were deleted --------------------------------------- */

enum err sql_reg_count(struct db *db, int64_t enrollment, uint64_t limit, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_REG_COUNT);
    q_i64(&q, 1, enrollment);
    q_i64(&q, 2, (int64_t)limit);
    return one_int(&q, ret);
}

/* --- through which CA ---------------------------------------------------------------------------- */

enum err sql_anchor_put(struct db *db, struct span fold, struct span ca, int64_t enrollment)
{
    AUTO(q_end) struct q q = begin(db, SQL_ANCHOR_PUT);
    q_text(&q, 1, fold);
    q_blob(&q, 2, ca);
    q_i64(&q, 3, enrollment);
    return q_run(&q, NULL);
}

enum err sql_anchor_del(struct db *db, struct span fold)
{
    AUTO(q_end) struct q q = begin(db, SQL_ANCHOR_DEL);
    q_text(&q, 1, fold);
    return q_run(&q, NULL);
}

enum err sql_anchor_count(struct db *db, struct span ca, uint64_t limit, sql_anchor_count_fn fn,
                          void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_ANCHOR_COUNT);
    enum err e = OK;
    q_blob(&q, 1, ca);
    q_i64(&q, 2, (int64_t)limit);
    while (e == OK && q_step(&q)) {
        e = fn(arg, q_col_i64(&q, 0), (enum enr_kind)q_col_i64(&q, 1), q_col_i64(&q, 2));
    }
    return e != OK ? e : q_err(&q);
}

enum err sql_anchor_page(struct db *db, struct span ca, int64_t after_enrollment,
                         struct span after_fold, uint64_t limit, sql_anchor_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_ANCHOR_PAGE);
    enum err e = OK;
    q_blob(&q, 1, ca);
    q_i64(&q, 2, after_enrollment);
    q_text(&q, 3, after_fold.n != 0 ? after_fold : SPAN_LIT(""));
    q_i64(&q, 4, (int64_t)limit);
    while (e == OK && q_step(&q)) {
        const struct anchor_row row = {.enrollment = q_col_i64(&q, 0),
                                       .fold = q_col(&q, 1),
                                       .rid = q_col(&q, 2),
                                       .group_id = q_col(&q, 3),
                                       .device_id = q_col(&q, 4),
                                       .hub = q_col(&q, 5),
                                       .status = (enum reg_status)q_col_i64(&q, 6)};
        e = fn(arg, &row);
    }
    return e != OK ? e : q_err(&q);
}

enum err sql_past_add(struct db *db, struct span id, struct span fold, struct span body,
                      int64_t until_us)
{
    AUTO(q_end) struct q q = begin(db, SQL_PAST_ADD);
    q_text(&q, 1, id);
    q_text(&q, 2, fold);
    q_text(&q, 3, body);
    q_i64(&q, 4, until_us);
    return q_run(&q, NULL);
}

enum err sql_past_get(struct db *db, struct arena *a, struct span id, struct span fold,
                      struct span *ret_body)
{
    AUTO(q_end) struct q q = begin(db, SQL_PAST_GET);
    struct copier c = {a, OK};
    q_text(&q, 1, id);
    q_text(&q, 2, fold);
    enum err e = need_row(&q);
    if (e != OK) {
        return e;
    }
    struct span body = copy(&c, q_col(&q, 0));
    if (c.err == OK) {
        *ret_body = body;
    }
    return c.err;
}

enum err sql_past_trim(struct db *db, int64_t now_us)
{
    AUTO(q_end) struct q q = begin(db, SQL_PAST_TRIM);
    q_i64(&q, 1, now_us);
    return q_run(&q, NULL);
}

static enum err by_id(struct db *db, enum sql_id sql, int64_t id)
{
    AUTO(q_end) struct q q = begin(db, sql);
    q_i64(&q, 1, id);
    return q_run(&q, NULL);
}

enum err sql_left_del(struct db *db, int64_t id)
{
    return by_id(db, SQL_LEFT_DEL, id);
}

enum err sql_dead_add(struct db *db, int64_t id)
{
    return by_id(db, SQL_DEAD_ADD, id);
}

enum err sql_dead_first(struct db *db, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_DEAD_FIRST);
    return one_int(&q, ret);
}

enum err sql_dead_del(struct db *db, int64_t id)
{
    return by_id(db, SQL_DEAD_DEL, id);
}

/* --- refusals ------------------------------------------------------------------------------------------- */

enum err sql_refusal_is_known(struct db *db, struct span fold, bool *ret)
{
    int64_t n = 0;
    AUTO(q_end) struct q q = begin(db, SQL_REFUSAL_IS_KNOWN);
    q_text(&q, 1, fold);
    enum err e = one_int(&q, &n);
    if (e == OK) {
        *ret = n != 0;
    }
    return e;
}

enum err sql_refusal_add(struct db *db, const struct refusal_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_REFUSAL_ADD);
    q_text(&q, 1, row->fold);
    q_text(&q, 2, row->rule);
    q_text(&q, 3, row->rid);
    q_i64(&q, 4, row->is_known ? 1 : 0);
    q_i64(&q, 5, row->count);
    q_i64(&q, 6, row->first_us);
    q_i64(&q, 7, row->last_us);
    put_text(&q, 8, row->peer);
    put_text(&q, 9, row->transport);
    put_text(&q, 10, row->api_version);
    put_text(&q, 11, row->why);
    put_text(&q, 12, row->facts);
    return q_run(&q, NULL);
}

enum err sql_refusal_trim(struct db *db, bool is_known, int64_t most)
{
    AUTO(q_end) struct q q = begin(db, SQL_REFUSAL_TRIM);
    q_i64(&q, 1, is_known ? 1 : 0);
    q_i64(&q, 2, most);
    return q_run(&q, NULL);
}

static enum err each_refusal(struct q *q, sql_refusal_fn fn, void *arg)
{
    enum err e = OK;
    while (e == OK && q_step(q)) {
        const struct refusal_row row = {
            .fold = q_col(q, 0),
            .rule = q_col(q, 1),
            .rid = q_col(q, 2),
            .is_known = q_col_i64(q, 3) != 0,
            .count = q_col_i64(q, 4),
            .first_us = q_col_i64(q, 5),
            .last_us = q_col_i64(q, 6),
            .peer = q_col(q, 7),
            .transport = q_col(q, 8),
            .api_version = q_col(q, 9),
            .why = q_col(q, 10),
            .facts = q_col(q, 11),
        };
        e = fn(arg, &row);
    }
    return e != OK ? e : q_err(q);
}

enum err sql_refusal_of(struct db *db, struct span fold, sql_refusal_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_REFUSAL_OF);
    q_text(&q, 1, fold);
    return each_refusal(&q, fn, arg);
}

enum err sql_refusal_page(struct db *db, struct span rule, int known, uint64_t skip, uint64_t top,
                          sql_refusal_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_REFUSAL_PAGE);
    put_text(&q, 1, rule);
    q_i64(&q, 2, known);
    q_i64(&q, 3, (int64_t)top);
    q_i64(&q, 4, (int64_t)skip);
    return each_refusal(&q, fn, arg);
}

enum err sql_refusal_del_of(struct db *db, struct span fold)
{
    AUTO(q_end) struct q q = begin(db, SQL_REFUSAL_DEL_OF);
    q_text(&q, 1, fold);
    return q_run(&q, NULL);
}
