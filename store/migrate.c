/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "store/db.h"
#include "store/lite.h"

static const char own_tables[] =
    "CREATE TABLE IF NOT EXISTS store_schema(module TEXT PRIMARY KEY, version INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS store_meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "INSERT OR IGNORE INTO store_meta(key, value) VALUES('boot', 0)";

/* Runs `body` (NULL: none) between BEGIN and COMMIT; an open transaction is rolled back. */
static enum err exec_tx(sqlite3 *h, const char *body,
                        enum err (*more)(sqlite3 *, void *, struct err_info *), void *arg,
                        struct err_info *info)
{
    enum err e = lite_exec(h, "BEGIN IMMEDIATE", info);

    if (e != OK) {
        return e;
    }
    e = body != NULL ? lite_exec(h, body, info) : OK;
    if (e == OK && sqlite3_get_autocommit(h) != 0) {
        return err_set(info, E_BUG, "a migration ends its own transaction");
    }
    if (e == OK && more != NULL) {
        e = more(h, arg, info);
    }
    if (e == OK) {
        e = lite_exec(h, "COMMIT", info);
    }
    if (sqlite3_get_autocommit(h) == 0) {
        (void)!lite_exec(h, "ROLLBACK", NULL); /* e says what was wrong */
    }
    return e;
}

static enum err get_version(sqlite3 *h, const char *module, int64_t *ret, struct err_info *info)
{
    sqlite3_stmt *st = NULL;
    enum err e = lite_prepare(h, "SELECT version FROM store_schema WHERE module = ?1", &st, info);
    int rc;

    if (e != OK) {
        return e;
    }
    rc = sqlite3_bind_text(st, 1, module, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
    }
    if (rc == SQLITE_ROW) {
        *ret = sqlite3_column_int64(st, 0);
    } else if (rc == SQLITE_DONE) {
        *ret = 0;
    } else {
        e = lite_fail(h, rc, "store_schema", info);
    }
    (void)sqlite3_finalize(st); /* repeats the error of the step */
    return e;
}

struct step {
    const struct store_module *m;
    size_t version; /* that the step leads to */
};

static enum err finish_step(sqlite3 *h, void *arg, struct err_info *info)
{
    static const char sql[] = "INSERT INTO store_schema(module, version) VALUES(?1, ?2)"
                              " ON CONFLICT(module) DO UPDATE SET version = excluded.version";
    const struct step *step = arg;
    sqlite3_stmt *st = NULL;
    int64_t dangling = 0;
    enum err e;
    int rc;

    e = lite_get_i64(h, "SELECT count(*) FROM pragma_foreign_key_check", 0, &dangling, info);
    if (e != OK) {
        return e;
    }
    if (dangling != 0) {
        return err_set(info, E_CONFLICT, "rows left without the row they refer to");
    }
    if ((e = lite_prepare(h, sql, &st, info)) != OK) {
        return e;
    }
    if ((rc = sqlite3_bind_text(st, 1, step->m->name, -1, SQLITE_STATIC)) != SQLITE_OK ||
        (rc = sqlite3_bind_int64(st, 2, (int64_t)step->version)) != SQLITE_OK ||
        (rc = sqlite3_step(st)) != SQLITE_DONE) {
        e = lite_fail(h, rc, "store_schema", info);
    }
    (void)sqlite3_finalize(st); /* repeats the error of the step */
    return e;
}

static enum err migrate_module(sqlite3 *h, const struct store_module *m, struct err_info *info)
{
    int64_t version = 0;
    enum err e = get_version(h, m->name, &version, info);

    for (size_t v = (size_t)version; v < m->n_migrations && e == OK; v++) {
        struct step step = {m, v + 1};
        e = exec_tx(h, m->migrations[v], finish_step, &step, info);
        if (e != OK) {
            return err_wrap(info, e, "migration of \"%s\" to version %zu", m->name, v + 1);
        }
    }
    return e;
}

enum err db_migrate(sqlite3 *h, const struct store_module *const *modules, size_t n,
                    struct err_info *info)
{
    enum err e = exec_tx(h, own_tables, NULL, NULL, info);
    enum err on;

    if (e != OK) {
        return e;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t version = 0;
        if ((e = get_version(h, modules[i]->name, &version, info)) != OK) {
            return e;
        }
        if (version < 0 || (uint64_t)version > modules[i]->n_migrations) {
            return err_set(info, E_CONFIG,
                           "the database has version %lld of \"%s\", this program knows up to %zu:"
                           " install the newer program",
                           (long long)version, modules[i]->name, modules[i]->n_migrations);
        }
    }
    if ((e = lite_exec(h, "PRAGMA foreign_keys=OFF", info)) != OK) {
        return e;
    }
    for (size_t i = 0; i < n && e == OK; i++) {
        e = migrate_module(h, modules[i], info);
    }
    on = lite_exec(h, "PRAGMA foreign_keys=ON", e == OK ? info : NULL);
    return e != OK ? e : on;
}

enum err db_count_boot(sqlite3 *h, uint64_t *ret, struct err_info *info)
{
    int64_t n = 0;
    enum err e =
        exec_tx(h, "UPDATE store_meta SET value = value + 1 WHERE key = 'boot'", NULL, NULL, info);

    if (e == OK) {
        e = lite_get_i64(h, "SELECT value FROM store_meta WHERE key = 'boot'", 0, &n, info);
    }
    if (e != OK) {
        return e;
    }
    *ret = (uint64_t)n;
    return OK;
}
