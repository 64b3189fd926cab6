/* SPDX-License-Identifier: Apache-2.0 */
#include "store/db.h"

#include <stdlib.h>

#include "store/lite.h"

enum err db_check_modules(const struct store_module *const *modules, size_t n,
                          struct err_info *info)
{
    bool used[STORE_MODULES] = {false};

    if (n > STORE_MODULES) {
        return err_set(info, E_BUG, "more than %u store modules", STORE_MODULES);
    }
    for (size_t i = 0; i < n; i++) {
        if (modules[i]->slot >= STORE_MODULES || used[modules[i]->slot]) {
            return err_set(info, E_BUG, "store module \"%s\": slot %u is taken or out of range",
                           modules[i]->name, modules[i]->slot);
        }
        used[modules[i]->slot] = true;
    }
    return OK;
}

static enum err prepare_module(struct db *db, const struct store_module *m, bool only_reads,
                               struct err_info *info)
{
    struct db_stmts *s = &db->mod[m->slot];

    if (m->n_sql == 0) {
        return OK;
    }
    if ((s->v = mem_new(m->n_sql * sizeof(sqlite3_stmt *))) == NULL) {
        return err_set(info, E_NOMEM, "no memory for statements");
    }
    s->n = m->n_sql;
    for (size_t i = 0; i < m->n_sql; i++) {
        enum err e = lite_prepare(db->h, m->sql[i], &s->v[i], info);
        if (e != OK) {
            return err_wrap(info, e, "statement %zu of \"%s\"", i, m->name);
        }
        if (only_reads && sqlite3_stmt_readonly(s->v[i]) == 0) {
            (void)sqlite3_finalize(s->v[i]); /* was never run */
            s->v[i] = NULL;
        }
    }
    return OK;
}

enum err db_new(sqlite3 *h, const struct store_module *const *modules, size_t n, bool only_reads,
                struct db **ret, struct err_info *info)
{
    AUTO(db_free_p) struct db *db = NEW(struct db);

    if (db == NULL) {
        return err_set(info, E_NOMEM, "no memory for a connection");
    }
    db->h = h;
    for (size_t i = 0; i < n; i++) {
        enum err e = prepare_module(db, modules[i], only_reads, info);
        if (e != OK) {
            return e;
        }
    }
    *ret = TAKE(db);
    return OK;
}

enum err db_open_reader(const char *path, const char *vfs,
                        const struct store_module *const *modules, size_t n, struct db **ret,
                        struct err_info *info)
{
    sqlite3 *h = NULL;
    enum err e = lite_open(path, vfs, LITE_READER, &h, info);

    if (e != OK) {
        return e;
    }
    if ((e = db_new(h, modules, n, true, ret, info)) != OK) {
        lite_close(h);
        return e;
    }
    (*ret)->owns_h = true;
    return OK;
}

void db_free(struct db *db)
{
    if (db == NULL) {
        return;
    }
    for (size_t m = 0; m < STORE_MODULES; m++) {
        for (size_t i = 0; i < db->mod[m].n; i++) {
            (void)sqlite3_finalize(db->mod[m].v[i]); /* repeats the last error */
        }
        free(db->mod[m].v);
    }
    if (db->owns_h) {
        lite_close(db->h);
    }
    free(db);
}

/* --- use of a statement -------------------------------------------------------------------- */

struct q q_begin(struct db *db, const struct store_module *m, unsigned sql)
{
    struct q q = {.db = db};

    ASSERT(m->slot < STORE_MODULES && sql < db->mod[m->slot].n);
    q.stmt = db->mod[m->slot].v[sql];
    if (q.stmt == NULL) {
        q.err = E_BUG; /* a statement that writes, on a reader */
        return q;
    }
    ASSERT(sqlite3_stmt_busy(q.stmt) == 0);
    return q;
}

void q_end(struct q *q)
{
    if (q->stmt != NULL) {
        (void)sqlite3_reset(q->stmt);          /* repeats the error of the last step */
        (void)sqlite3_clear_bindings(q->stmt); /* cannot fail; no pointer of the caller stays */
        q->stmt = NULL;
    }
}

static void bound(struct q *q, int rc)
{
    if (rc != SQLITE_OK) {
        q->err = lite_err(rc);
    }
}

void q_text(struct q *q, int i, struct span s)
{
    if (q->err == OK) {
        bound(q,
              sqlite3_bind_text64(q->stmt, i, (const char *)s.p, s.n, SQLITE_STATIC, SQLITE_UTF8));
    }
}

void q_blob(struct q *q, int i, struct span s)
{
    if (q->err == OK) {
        bound(q, sqlite3_bind_blob64(q->stmt, i, s.p, s.n, SQLITE_STATIC));
    }
}

void q_i64(struct q *q, int i, int64_t v)
{
    if (q->err == OK) {
        bound(q, sqlite3_bind_int64(q->stmt, i, v));
    }
}

void q_null(struct q *q, int i)
{
    if (q->err == OK) {
        bound(q, sqlite3_bind_null(q->stmt, i));
    }
}

bool q_step(struct q *q)
{
    int rc;

    if (q->err != OK || q->done) {
        return false;
    }
    rc = sqlite3_step(q->stmt);
    if (rc == SQLITE_ROW) {
        return true;
    }
    q->done = true; /* one more step would run it again from the start */
    q->err = lite_err(rc);
    return false;
}

enum err q_err(const struct q *q)
{
    return q->err;
}

enum err q_run(struct q *q, int64_t *ret_changes)
{
    if (q_step(q)) {
        q->err = E_BUG; /* rows nobody looks at */
    }
    if (q->err == OK && ret_changes != NULL) {
        *ret_changes = sqlite3_changes64(q->db->h);
    }
    return q->err;
}

struct span q_col(struct q *q, int i)
{
    const void *p;
    int n;

    if (q->err != OK || q->done || sqlite3_column_type(q->stmt, i) == SQLITE_NULL) {
        return SPAN_NONE;
    }
    p = sqlite3_column_blob(q->stmt, i); /* first: it may convert */
    n = sqlite3_column_bytes(q->stmt, i);
    if (p == NULL && sqlite3_errcode(q->db->h) == SQLITE_NOMEM) {
        q->err = E_NOMEM;
        return SPAN_NONE;
    }
    return span_of(p != NULL ? p : "", (size_t)n); /* SQLite gives NULL for an empty blob */
}

int64_t q_col_i64(struct q *q, int i)
{
    return q->err != OK || q->done ? 0 : sqlite3_column_int64(q->stmt, i);
}

bool q_col_null(struct q *q, int i)
{
    return q->err != OK || q->done || sqlite3_column_type(q->stmt, i) == SQLITE_NULL;
}

int64_t q_last_id(struct db *db)
{
    return sqlite3_last_insert_rowid(db->h);
}
