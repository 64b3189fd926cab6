/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct db: a connection and the prepared statements of all modules on it. Private to store/;
 * the use of the statements (q_*) is in store.h.
 *
 * Ownership   db_new borrows the connection, db_open_reader owns the one it opens; db_free.
 * Threads     one at a time.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <sqlite3.h>

#include "store/store.h"

struct db_stmts {
    sqlite3_stmt **v; /* NULL where the statement is not for this connection */
    size_t n;
};
struct db {
    sqlite3 *h;
    bool owns_h;
    struct db_stmts mod[STORE_MODULES];
};

/* Slots are in range and used once, at most STORE_MODULES. */
MUST_USE enum err db_check_modules(const struct store_module *const *modules, size_t n,
                                   struct err_info *info);
/* Prepares all statements; with only_reads those that write are left out. */
MUST_USE enum err db_new(sqlite3 *h, const struct store_module *const *modules, size_t n,
                         bool only_reads, struct db **ret, struct err_info *info);
MUST_USE enum err db_open_reader(const char *path, const char *vfs,
                                 const struct store_module *const *modules, size_t n,
                                 struct db **ret, struct err_info *info);
void db_free(struct db *db);
AUTO_FREE_FN(struct db, db_free)

/* Brings every module's tables to its last version, one transaction a step; E_CONFIG when the file
 * is newer than the program (nothing is changed then). Runs with foreign keys unenforced, so that
 * tables can be rebuilt, and checks them all before each COMMIT. */
MUST_USE enum err db_migrate(sqlite3 *h, const struct store_module *const *modules, size_t n,
                             struct err_info *info);
/* Adds one to the number of starts. */
MUST_USE enum err db_count_boot(sqlite3 *h, uint64_t *ret, struct err_info *info);

#endif
