/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/issuance_sql.h"

#include "dps/dps.h"
#include "dps/dps_sql_int.h"

static struct q begin(struct db *db, enum sql_id id)
{
    return q_begin(db, &dps_module, (unsigned)id);
}

/* A row is expected: its absence is E_NOT_FOUND. */
static enum err need_row(struct q *q)
{
    if (q_step(q)) {
        return OK;
    }
    return q_err(q) != OK ? q_err(q) : E_NOT_FOUND;
}

static bool copy(struct arena *a, struct span s, struct span *ret)
{
    *ret = s.p != NULL ? arena_span(a, s) : SPAN_NONE;
    return s.p == NULL || ret->p != NULL;
}

/* --- issuing CAs ------------------------------------------------------------------------------- */

static enum err read_issuer(struct q *q, struct arena *a, struct issuer_row *ret)
{
    struct issuer_row r = {
        .id = q_col_i64(q, 0),
        .etag = (uint64_t)q_col_i64(q, 3),
        .kind = (enum desk_kind)q_col_i64(q, 4),
        .created_us = q_col_i64(q, 8),
        .updated_us = q_col_i64(q, 9),
    };
    if (!copy(a, q_col(q, 1), &r.name) || !copy(a, q_col(q, 2), &r.fold) ||
        !copy(a, q_col(q, 5), &r.source) || !copy(a, q_col(q, 6), &r.csr) ||
        !copy(a, q_col(q, 7), &r.chain)) {
        return E_NOMEM;
    }
    if (r.kind >= DESK_KINDS) {
        return E_CORRUPT;
    }
    *ret = r;
    return OK;
}

enum err sql_issuer_get(struct db *db, struct arena *a, struct span fold, struct issuer_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_ISSUER_GET);
    q_text(&q, 1, fold);
    enum err e = need_row(&q);
    return e != OK ? e : read_issuer(&q, a, ret);
}

enum err sql_issuer_all(struct db *db, struct arena *a, struct issuer_row *ret, size_t *ret_n)
{
    AUTO(q_end) struct q q = begin(db, SQL_ISSUER_ALL);
    enum err e = OK;
    size_t n = 0;
    q_i64(&q, 1, LIMIT_ISSUING_CAS);
    while (e == OK && n < LIMIT_ISSUING_CAS && q_step(&q)) {
        e = read_issuer(&q, a, &ret[n++]);
    }
    e = e != OK ? e : q_err(&q);
    if (e == OK) {
        *ret_n = n;
    }
    return e;
}

enum err sql_issuer_count(struct db *db, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_ISSUER_COUNT);
    enum err e = need_row(&q);
    if (e == OK) {
        *ret = q_col_i64(&q, 0);
    }
    return e;
}

static enum err issuer_add(struct db *db, struct issuer_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_ISSUER_ADD);
    q_text(&q, 1, row->name);
    q_text(&q, 2, row->fold);
    q_i64(&q, 3, (int64_t)row->etag);
    q_i64(&q, 4, (int64_t)row->kind);
    q_blob(&q, 5, row->source);
    q_blob(&q, 6, row->csr);
    q_blob(&q, 7, row->chain.n != 0 ? row->chain : SPAN_NONE);
    q_i64(&q, 8, row->created_us);
    q_i64(&q, 9, row->updated_us);
    enum err e = q_run(&q, NULL);
    if (e == OK) {
        row->id = q_last_id(db);
    }
    return e;
}

enum err sql_issuer_put(struct db *db, struct issuer_row *row)
{
    if (row->id == 0) {
        return issuer_add(db, row);
    }
    AUTO(q_end) struct q q = begin(db, SQL_ISSUER_SET);
    q_i64(&q, 1, row->id);
    q_i64(&q, 2, (int64_t)row->etag);
    q_i64(&q, 3, (int64_t)row->kind);
    q_blob(&q, 4, row->source);
    q_blob(&q, 5, row->csr);
    q_blob(&q, 6, row->chain.n != 0 ? row->chain : SPAN_NONE);
    q_i64(&q, 7, row->updated_us);
    return q_run(&q, NULL);
}

enum err sql_issuer_del(struct db *db, int64_t id)
{
    AUTO(q_end) struct q q = begin(db, SQL_ISSUER_DEL);
    q_i64(&q, 1, id);
    return q_run(&q, NULL);
}

/* --- the issuance log ---------------------------------------------------------------------------- */

enum err sql_issued_add(struct db *db, const struct issued_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_ISSUED_ADD);
    q_text(&q, 1, row->serial);
    q_text(&q, 2, row->subject);
    q_text(&q, 3, row->ca);
    q_i64(&q, 4, row->not_before_us);
    q_i64(&q, 5, row->not_after_us);
    q_blob(&q, 6, row->sha256);
    q_text(&q, 7, row->fold);
    q_text(&q, 8, row->op_id);
    q_i64(&q, 9, row->at_us);
    return q_run(&q, NULL);
}

enum err sql_issued_page(struct db *db, int64_t from, struct span fold, uint64_t limit,
                         sql_issued_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, fold.n != 0 ? SQL_ISSUED_PAGE_OF : SQL_ISSUED_PAGE);
    enum err e = OK;
    q_i64(&q, 1, from);
    q_i64(&q, 2, (int64_t)limit);
    if (fold.n != 0) {
        q_text(&q, 3, fold);
    }
    while (e == OK && q_step(&q)) {
        const struct issued_row r = {
            .id = q_col_i64(&q, 0),
            .serial = q_col(&q, 1),
            .subject = q_col(&q, 2),
            .ca = q_col(&q, 3),
            .not_before_us = q_col_i64(&q, 4),
            .not_after_us = q_col_i64(&q, 5),
            .sha256 = q_col(&q, 6),
            .fold = q_col(&q, 7),
            .op_id = q_col(&q, 8),
            .at_us = q_col_i64(&q, 9),
        };
        e = fn(arg, &r);
    }
    return e != OK ? e : q_err(&q);
}

/* --- what devices were told ---------------------------------------------------------------------- */

enum err sql_credential_get(struct db *db, struct span fold, struct credential_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_CREDENTIAL_GET);
    q_text(&q, 1, fold);
    enum err e = need_row(&q);
    if (e != OK) {
        return e;
    }
    struct span digest = q_col(&q, 0);
    if (digest.n != sizeof(ret->sha256)) {
        return E_CORRUPT;
    }
    memcpy(ret->sha256, digest.p, digest.n);
    ret->not_after_us = q_col_i64(&q, 1);
    return OK;
}

enum err sql_credential_put(struct db *db, struct span fold, const struct credential_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_CREDENTIAL_PUT);
    q_text(&q, 1, fold);
    q_blob(&q, 2, span_of(row->sha256, sizeof(row->sha256)));
    q_i64(&q, 3, row->not_after_us);
    return q_run(&q, NULL);
}

enum err sql_credential_del(struct db *db, struct span fold)
{
    AUTO(q_end) struct q q = begin(db, SQL_CREDENTIAL_DEL);
    q_text(&q, 1, fold);
    return q_run(&q, NULL);
}
