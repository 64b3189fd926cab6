/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One SQLite database file with its one writer thread, its readers and its migrations. Knows no
 * table of dps or hub: each program hands over its modules (migrations and statements).
 *
 * A write is a function that the writer runs inside a savepoint of its own (store_op.tx). It sees
 * only its operation and the transaction: no side effect, no clock but tx->now_us, safe to run
 * twice, budget 50 us. The writer takes the whole queue (LIMIT_STORE_BATCH at most), commits once
 * with a sync (WAL, synchronous=FULL), then, in submission order: runs the notices of each
 * operation and posts its result home. Nothing is told before the commit is on disk.
 *
 *   worker: store_submit(op) ... writer: op->tx(); COMMIT; notices; post -> worker: op->msg.run()
 *
 * Errors      result of an operation: what tx returned (its savepoint is rolled back, the
 *             others stand), or for all of a batch: E_DISK_FULL, E_IO, E_DB, E_CORRUPT.
 *             SQLITE_FULL and I/O errors end the whole transaction; then each of the batch is
 *             run again alone. After a failed sync nobody is acknowledged: the result is
 *             E_UNKNOWN, the file is closed, reopened and checked (a checkpoint cuts off what
 *             is in doubt) before the next write; until that works, which is tried again and
 *             again, every result is E_IO. store_submit refuses with E_BUSY over the marks,
 *             E_DISK_FULL while the disk has less than the reserve (unless op->urgent:
 *             revoking must still work), E_DRAINING after store_drain. store_open: E_CONFIG
 *             when the file is of a newer program, E_IN_USE when another process has it
 *             locked, E_CORRUPT when it is no database. What the writer thread meets besides
 *             is logged: store.commit_failed, store.checkpoint_failed, store.reopen_failed,
 *             store.reopened, store.disk_low, store.disk_enough.
 * Ownership   the op belongs to the store from submit until msg.run; its memory is the
 *             caller's.
 * Threads     store_submit any; q_* on the thread that owns the struct db.
 * Limits      LIMIT_STORE_*. Bulk operations have half of the queue, and a quarter of a commit
 *             when others wait; urgent ones an eighth more than the queue.
 * Reads       a reader sees a commit only after its sync. Workers hold a reader each and read
 *             by key only; scans go to store_scan. No read transaction outlives one call or
 *             slice.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/clock.h"
#include "base/err.h"
#include "base/mailbox.h"
#include "base/span.h"

/* What a part of the program brings: slot is its fixed index (server 0, program 1). */
struct store_module {
    const char *name;              /* key of its schema version */
    unsigned slot;                 /* < STORE_MODULES */
    const char *const *migrations; /* text of version i + 1; each runs in one transaction */
    size_t n_migrations;
    const char *const *sql; /* prepared at open: a bad statement stops the program at once */
    size_t n_sql;
};
#define STORE_MODULES 4u

/* Bytes that dir's file system has free for us; false: not known. NULL in a config: ask the system.
 */
typedef bool (*store_free_fn)(void *arg, const char *dir, uint64_t *ret);

struct store_config {
    const char *path; /* database file, created 0600 */
    const struct store_module *const *modules;
    size_t n_modules;
    const struct clock *clock;
    const char *vfs;          /* NULL: the system's; tests inject one that fails */
    uint64_t reserve_bytes;   /* free disk below this: only urgent operations */
    unsigned scan_threads;    /* 1..LIMIT_STORE_SCAN_THREADS */
    store_free_fn free_bytes; /* tests set the disk */
    void *free_arg;
};

struct store;
struct db; /* one connection with its prepared statements */

MUST_USE enum err store_open(const struct store_config *cfg, struct store **ret,
                             struct err_info *info);
/* Refuses new work, finishes what is queued. Then store_close. */
void store_drain(struct store *s);
void store_close(struct store *s);
/* Counts starts of this file: a stored number that grows by one at each open. */
uint64_t store_boot(const struct store *s);

struct store_tx {
    struct db *db;
    int64_t now_us; /* wall clock, the same for the whole transaction */
    struct store_notice *notices;
    struct store_notice **notices_tail;
};

struct store_op {
    struct msg msg;       /* msg.run is called on home's thread when all is done */
    struct mailbox *home; /* NULL: msg.run is called on the writer thread */
    enum err (*tx)(struct store_tx *tx, struct store_op *op);
    enum err result;
    bool urgent;                  /* uses the disk reserve */
    bool bulk;                    /* own queue and a share of each commit */
    uint32_t bytes;               /* what it holds in memory, for the queue's mark */
    struct store_op *next;        /* the store's */
    struct store_notice *notices; /* the store's */
    bool refused;                 /* the store's */
};
MUST_USE enum err store_submit(struct store *s, struct store_op *op);

/* What others must hear once this operation is committed; told on the writer thread, in commit
 * order, before the result goes home. Dropped (drop is called) when the operation fails or is
 * run again, also when its outcome is E_UNKNOWN: who got that reads again. Keep it short: post to a
 * mailbox. */
struct store_notice {
    struct store_notice *next;
    void (*run)(struct store_notice *n);
    void (*drop)(struct store_notice *n);
};
void store_tx_notify(struct store_tx *tx, struct store_notice *n);

/* A reading connection of the calling thread. */
MUST_USE enum err store_reader_open(struct store *s, struct db **ret, struct err_info *info);
void store_reader_close(struct db *db);

/* A slow read: run(db, op) on a scan thread inside one read transaction, then msg.run at home.
 * The statement is interrupted at deadline_ms (mono): result E_TIMEOUT. */
struct store_scan {
    struct msg msg;
    struct mailbox *home;
    enum err (*run)(struct db *db, struct store_scan *scan);
    uint64_t deadline_ms;
    enum err result;
    struct store_scan *next;
};
MUST_USE enum err store_scan(struct store *s, struct store_scan *scan);

struct store_stats {
    uint64_t ops, commits, failed_commits, reopened;
    uint64_t queued_ops, queued_bytes;
    uint64_t sync_us_total;
    bool low_disk;
    bool writing; /* a batch is being written, answered or tidied up after */
};
void store_stats(struct store *s, struct store_stats *ret);
/* Online copy to path (VACUUM INTO or the backup API); blocks; not on a loop thread. */
MUST_USE enum err store_backup(struct store *s, const char *path, struct err_info *info);
/* The same for a file that another process may have open. made_s not 0: the copy keeps that it is a backup of that second. */
MUST_USE enum err store_backup_file(const char *from, const char *to, int64_t made_s,
                                    struct err_info *info);
/* Of a file that nobody has open: *ret_made_s 0, or the second of which it is a backup; confirm: from now on it is one no more. */
MUST_USE enum err store_backup_gate(const char *path, bool confirm, int64_t *ret_made_s,
                                    struct err_info *info);

/* --- statements ---------------------------------------------------------------------------- */

/* One use of a prepared statement: begin, bind, step..., end (resets). AUTO(q_end). Binding keeps
 * no copy: bound bytes must live until q_end. Parameters and columns count from 1 and 0, as SQLite.
 * A span with p NULL binds NULL. One use of a statement at a time: a second q_begin inside a loop
 * over its rows is a bug. A statement that writes is not there on a reader: E_BUG. */
struct q {
    struct db *db;
    void *stmt;
    enum err err; /* sticky */
    bool done;
};
struct q q_begin(struct db *db, const struct store_module *m, unsigned sql);
void q_end(struct q *q);
void q_text(struct q *q, int i, struct span s);
void q_blob(struct q *q, int i, struct span s);
void q_i64(struct q *q, int i, int64_t v);
void q_null(struct q *q, int i);
/* true: a row is there. false: done, or q->err says why not (E_EXISTS for a violated UNIQUE or
 * PRIMARY KEY, E_CONFLICT for another constraint, E_TIMEOUT interrupted, E_DISK_FULL, ...). */
bool q_step(struct q *q);
MUST_USE enum err q_err(const struct q *q);
/* Runs a statement that gives no row; ret_changes may be NULL. */
MUST_USE enum err q_run(struct q *q, int64_t *ret_changes);
/* Borrowed until the next q_step or q_end. NULL columns give an empty span with p NULL. */
struct span q_col(struct q *q, int i);
int64_t q_col_i64(struct q *q, int i);
bool q_col_null(struct q *q, int i);
/* Row id of the last insert. */
int64_t q_last_id(struct db *db);

#endif
