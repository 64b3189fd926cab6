/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server_sql.h"

#include <stdlib.h>

enum sql_id {
#define SQL(name, text) name,
#include "server/sql.def"
#undef SQL
    SQL_COUNT
};

static const char *const sql_texts[SQL_COUNT] = {
#define SQL(name, text) [name] = text,
#include "server/sql.def"
#undef SQL
};

/* Numbered by position; a text is never changed once released. */
static const char *const migrations[] = {
    "CREATE TABLE server_state ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    /* AUTOINCREMENT: sessions keep the id of what admitted them, so none may ever come back. */
    "CREATE TABLE policy ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL UNIQUE COLLATE NOCASE,"
    " rights INTEGER NOT NULL,"
    " etag INTEGER NOT NULL,"
    " key1 BLOB NOT NULL, gen1 INTEGER NOT NULL,"
    " key2 BLOB NOT NULL, gen2 INTEGER NOT NULL) STRICT;"
    "CREATE TABLE ca_certificate ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL UNIQUE COLLATE NOCASE,"
    " etag INTEGER NOT NULL,"
    " der BLOB NOT NULL,"
    " is_verified INTEGER NOT NULL,"
    " created_us INTEGER NOT NULL,"
    " updated_us INTEGER NOT NULL,"
    " code TEXT,"
    " code_until_us INTEGER,"
    " code_failures INTEGER NOT NULL) STRICT;"
    "CREATE TABLE audit ("
    " seq INTEGER PRIMARY KEY,"
    " line TEXT NOT NULL,"
    " hash BLOB NOT NULL) STRICT;"
    "CREATE TRIGGER audit_keeps_update BEFORE UPDATE ON audit BEGIN"
    " SELECT RAISE(ABORT, 'the audit trail is append-only'); END;"
    "CREATE TRIGGER audit_keeps_delete BEFORE DELETE ON audit BEGIN"
    " SELECT RAISE(ABORT, 'the audit trail is append-only'); END;",
    "ALTER TABLE ca_certificate ADD COLUMN is_ek_root INTEGER NOT NULL DEFAULT 0;",
};

const struct store_module server_store_module = {
    .name = "server",
    .slot = 0,
    .migrations = migrations,
    .n_migrations = ARRAY_LEN(migrations),
    .sql = sql_texts,
    .n_sql = ARRAY_LEN(sql_texts),
};

static struct q begin(struct db *db, enum sql_id id)
{
    return q_begin(db, &server_store_module, (unsigned)id);
}

/* --- state ------------------------------------------------------------------------------------ */

enum err sql_state_get(struct db *db, const char *name, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_STATE_GET);
    q_text(&q, 1, span_str(name));
    int64_t v = q_step(&q) ? q_col_i64(&q, 0) : 0;
    if (q_err(&q) != OK) {
        return q_err(&q);
    }
    *ret = v;
    return OK;
}

enum err sql_state_set(struct db *db, const char *name, int64_t value)
{
    AUTO(q_end) struct q q = begin(db, SQL_STATE_SET);
    q_text(&q, 1, span_str(name));
    q_i64(&q, 2, value);
    return q_run(&q, NULL);
}

enum err sql_counter_next(struct db *db, uint64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_COUNTER_NEXT);
    if (!q_step(&q)) {
        return q_err(&q) != OK ? q_err(&q) : E_DB;
    }
    uint64_t v = (uint64_t)q_col_i64(&q, 0);
    /* The row of RETURNING comes before the statement is done. */
    if (q_step(&q) || q_err(&q) != OK) {
        return q_err(&q) != OK ? q_err(&q) : E_DB;
    }
    *ret = v;
    return OK;
}

/* --- policies --------------------------------------------------------------------------------- */

static bool read_key(struct q *q, int col, struct sealed_key *ret)
{
    struct span s = q_col(q, col);
    if (s.n > sizeof(ret->b)) {
        return false;
    }
    if (s.n != 0) {
        memcpy(ret->b, s.p, s.n);
    }
    ret->n = s.n;
    ret->gen = (uint64_t)q_col_i64(q, col + 1);
    return true;
}

static enum err read_policy(struct q *q, struct policy_row *ret)
{
    struct policy_row r = {.id = q_col_i64(q, 0),
                           .given = (uint32_t)q_col_i64(q, 2),
                           .etag = (uint64_t)q_col_i64(q, 3)};
    if (!span_to_cstr(q_col(q, 1), r.name, sizeof(r.name)) || !read_key(q, 4, &r.key[0]) ||
        !read_key(q, 6, &r.key[1])) {
        return E_CORRUPT;
    }
    *ret = r;
    return OK;
}

enum err sql_policy_get(struct db *db, struct span name, struct policy_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_POLICY_BY_NAME);
    q_text(&q, 1, name);
    if (!q_step(&q)) {
        return q_err(&q) != OK ? q_err(&q) : E_NOT_FOUND;
    }
    return read_policy(&q, ret);
}

enum err sql_policy_all(struct db *db, struct policy_row *ret, size_t *ret_n)
{
    AUTO(q_end) struct q q = begin(db, SQL_POLICY_ALL);
    size_t n = 0;
    while (q_step(&q)) {
        enum err e = n < LIMIT_POLICIES ? read_policy(&q, &ret[n]) : E_CORRUPT;
        if (e != OK) {
            return e;
        }
        n++;
    }
    if (q_err(&q) == OK) {
        *ret_n = n;
    }
    return q_err(&q);
}

static void bind_policy(struct q *q, int first, const struct policy_row *row)
{
    q_i64(q, first, row->given);
    q_i64(q, first + 1, (int64_t)row->etag);
    for (int i = 0; i < 2; i++) {
        q_blob(q, first + 2 + 2 * i, span_of(row->key[i].b, row->key[i].n));
        q_i64(q, first + 3 + 2 * i, (int64_t)row->key[i].gen);
    }
}

enum err sql_policy_add(struct db *db, struct policy_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_POLICY_ADD);
    q_text(&q, 1, span_str(row->name));
    bind_policy(&q, 2, row);
    enum err e = q_run(&q, NULL);
    if (e == OK) {
        row->id = q_last_id(db);
    }
    return e;
}

enum err sql_policy_set(struct db *db, const struct policy_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_POLICY_SET);
    q_i64(&q, 1, row->id);
    bind_policy(&q, 2, row);
    return q_run(&q, NULL);
}

enum err sql_policy_del(struct db *db, int64_t id)
{
    AUTO(q_end) struct q q = begin(db, SQL_POLICY_DEL);
    q_i64(&q, 1, id);
    return q_run(&q, NULL);
}

struct seal_place sql_policy_place(const struct policy_row *row, unsigned which)
{
    return (struct seal_place){"policy", which == 0 ? "key1" : "key2",
                               span_of(&row->id, sizeof(row->id))};
}

/* --- CA certificates -------------------------------------------------------------------------- */

void ca_row_done(struct ca_row *row)
{
    free(row->der);
    row->der = NULL;
    row->der_n = 0;
}

static enum err read_ca(struct q *q, struct ca_row *ret)
{
    struct ca_row r = {.id = q_col_i64(q, 0),
                       .etag = (uint64_t)q_col_i64(q, 2),
                       .is_verified = q_col_i64(q, 4) == 1,
                       .created_us = q_col_i64(q, 5),
                       .updated_us = q_col_i64(q, 6),
                       .code_until_us = q_col_i64(q, 8),
                       .code_failures = q_col_i64(q, 9),
                       .is_ek_root = q_col_i64(q, 10) == 1};
    struct span der = q_col(q, 3);
    if (!span_to_cstr(q_col(q, 1), r.name, sizeof(r.name)) ||
        !span_to_cstr(q_col(q, 7), r.code, sizeof(r.code)) || der.n == 0) {
        return E_CORRUPT;
    }
    if ((r.der = mem_new(der.n)) == NULL) {
        return E_NOMEM;
    }
    memcpy(r.der, der.p, der.n);
    r.der_n = der.n;
    *ret = r;
    return OK;
}

enum err sql_ca_get(struct db *db, struct span name, struct ca_row *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_CA_BY_NAME);
    q_text(&q, 1, name);
    if (!q_step(&q)) {
        return q_err(&q) != OK ? q_err(&q) : E_NOT_FOUND;
    }
    return read_ca(&q, ret);
}

enum err sql_ca_all(struct db *db, struct ca_row *ret, size_t *ret_n)
{
    AUTO(q_end) struct q q = begin(db, SQL_CA_ALL);
    size_t n = 0;
    enum err e = OK;
    while (e == OK && q_step(&q)) {
        e = n < LIMIT_CA_CERTS ? read_ca(&q, &ret[n]) : E_CORRUPT;
        n += e == OK;
    }
    e = e != OK ? e : q_err(&q);
    if (e != OK) {
        while (n > 0) {
            ca_row_done(&ret[--n]);
        }
        return e;
    }
    *ret_n = n;
    return OK;
}

enum err sql_ca_count(struct db *db, int64_t *ret)
{
    AUTO(q_end) struct q q = begin(db, SQL_CA_COUNT);
    if (!q_step(&q)) {
        return q_err(&q) != OK ? q_err(&q) : E_DB;
    }
    *ret = q_col_i64(&q, 0);
    return OK;
}

enum err sql_ca_add(struct db *db, const struct ca_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_CA_ADD);
    q_text(&q, 1, span_str(row->name));
    q_i64(&q, 2, (int64_t)row->etag);
    q_blob(&q, 3, span_of(row->der, row->der_n));
    q_i64(&q, 4, row->is_verified);
    q_i64(&q, 5, row->created_us);
    q_i64(&q, 6, row->updated_us);
    q_i64(&q, 7, row->is_ek_root);
    return q_run(&q, NULL);
}

enum err sql_ca_set(struct db *db, const struct ca_row *row)
{
    AUTO(q_end) struct q q = begin(db, SQL_CA_SET);
    q_i64(&q, 1, row->id);
    q_i64(&q, 2, (int64_t)row->etag);
    q_blob(&q, 3, span_of(row->der, row->der_n));
    q_i64(&q, 4, row->is_verified);
    q_i64(&q, 5, row->updated_us);
    if (row->code[0] != '\0') {
        q_text(&q, 6, span_str(row->code));
        q_i64(&q, 7, row->code_until_us);
    } else {
        q_null(&q, 6);
        q_null(&q, 7);
    }
    q_i64(&q, 8, row->code_failures);
    return q_run(&q, NULL);
}

enum err sql_ca_del(struct db *db, int64_t id)
{
    AUTO(q_end) struct q q = begin(db, SQL_CA_DEL);
    q_i64(&q, 1, id);
    return q_run(&q, NULL);
}

static enum err ca_says(struct db *db, struct span name, int column)
{
    AUTO(q_end) struct q q = begin(db, SQL_CA_VERIFIED);
    q_text(&q, 1, name);
    if (!q_step(&q)) {
        return q_err(&q) != OK ? q_err(&q) : E_NOT_FOUND;
    }
    return q_col_i64(&q, column) == 1 ? OK : E_STATE;
}

enum err sql_ca_is_verified(struct db *db, struct span name)
{
    return ca_says(db, name, 0);
}

enum err sql_ca_is_ek_root(struct db *db, struct span name)
{
    return ca_says(db, name, 1);
}

/* --- audit ------------------------------------------------------------------------------------ */

enum err sql_audit_last(struct db *db, int64_t *ret_seq, uint8_t ret_hash[AUDIT_HASH])
{
    AUTO(q_end) struct q q = begin(db, SQL_AUDIT_LAST);
    if (!q_step(&q)) {
        if (q_err(&q) == OK) {
            *ret_seq = 0;
            memset(ret_hash, 0, AUDIT_HASH);
        }
        return q_err(&q);
    }
    struct span hash = q_col(&q, 1);
    if (hash.n != AUDIT_HASH) {
        return E_CORRUPT;
    }
    *ret_seq = q_col_i64(&q, 0);
    memcpy(ret_hash, hash.p, AUDIT_HASH);
    return OK;
}

enum err sql_audit_add(struct db *db, int64_t seq, struct span line, const uint8_t hash[AUDIT_HASH])
{
    AUTO(q_end) struct q q = begin(db, SQL_AUDIT_ADD);
    q_i64(&q, 1, seq);
    q_text(&q, 2, line);
    q_blob(&q, 3, span_of(hash, AUDIT_HASH));
    return q_run(&q, NULL);
}

enum err sql_audit_each(struct db *db, int64_t from_seq, uint64_t limit, sql_audit_fn fn, void *arg)
{
    AUTO(q_end) struct q q = begin(db, SQL_AUDIT_FROM);
    q_i64(&q, 1, from_seq);
    q_i64(&q, 2, (int64_t)limit);
    while (q_step(&q)) {
        enum err e = fn(arg, q_col_i64(&q, 0), q_col(&q, 1), q_col(&q, 2));
        if (e != OK) {
            return e;
        }
    }
    return q_err(&q);
}
