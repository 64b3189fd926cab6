/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What store and seglog share of SQLite: connections with our settings, one error mapping, and the
 * one place that judges what a failed COMMIT means. Private to store/.
 *
 *   CLOSED --lite_writer_open--> OPEN --begin--> IN TRANSACTION --commit: done, failed--> OPEN
 *   IN TRANSACTION --commit: in doubt--> IN DOUBT --lite_writer_cut--> CLOSED
 *
 * A failed COMMIT is one of two things. FAILED: no valid commit record can be in the WAL (the
 * transaction is still open, or a frame was not written for lack of room). IN DOUBT: the record may
 * be there, but is not known to be on disk; SQLite has forgotten it, yet a restart may find it.
 * What follows is then: cut the WAL with a checkpoint on this very connection, which still knows
 * where the durable part ends (a new first connection would replay the rest), and open again.
 *
 * Ownership   handles are the caller's; close with lite_close, lite_writer_close.
 * Threads     a handle belongs to one thread at a time (opened without SQLite's mutex).
 * Errors      lite_err maps every result code; lite_fail adds SQLite's text.
 */
#ifndef STORE_LITE_H
#define STORE_LITE_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Pages in the WAL after which the writer checkpoints (4000 * 4 KiB). */
#define LITE_WAL_PAGES 4000

enum err lite_err(int rc);
/* Sets info to SQLite's text and what it was about; returns the mapped error. */
enum err lite_fail(sqlite3 *h, int rc, const char *what, struct err_info *info);

/* Makes sure that path is a regular file of mode 0600 (SQLite would use the umask). Only before the
 * first connection: closing the descriptor drops the POSIX locks that this process has on it. */
MUST_USE enum err lite_create_file(const char *path, struct err_info *info);
/* Syncs the folder that path is in. */
MUST_USE enum err lite_sync_parent(const char *path, struct err_info *info);
/* Removes path and the files that SQLite keeps beside it; absent ones are fine. */
void lite_unlink(const char *path);

enum lite_mode {
    LITE_WRITER,  /* WAL, synchronous=FULL, foreign keys on */
    LITE_READER,  /* read-only, query_only */
    LITE_OFFLINE, /* rollback journal, for a file that is not in use yet */
};
MUST_USE enum err lite_open(const char *path, const char *vfs, enum lite_mode mode, sqlite3 **ret,
                            struct err_info *info);
void lite_close(sqlite3 *h);
MUST_USE enum err lite_exec(sqlite3 *h, const char *sql, struct err_info *info);
/* Exactly one statement. */
MUST_USE enum err lite_prepare(sqlite3 *h, const char *sql, sqlite3_stmt **ret,
                               struct err_info *info);
/* First column of the first row, or dflt when there is no row or it is NULL. */
MUST_USE enum err lite_get_i64(sqlite3 *h, const char *sql, int64_t dflt, int64_t *ret,
                               struct err_info *info);
/* Passive, or until the WAL is empty (E_BUSY when a reader is in the way). */
MUST_USE enum err lite_checkpoint(sqlite3 *h, bool truncate, struct err_info *info);

/* --- the writing connection ---------------------------------------------------------------- */

enum lite_verb { LITE_BEGIN, LITE_COMMIT, LITE_ROLLBACK, LITE_SAVE, LITE_RELEASE, LITE_UNDO };
#define LITE_VERBS 6u

struct lite_writer {
    sqlite3 *h; /* NULL: closed */
    sqlite3_stmt *verb[LITE_VERBS];
    int wal_pages; /* in the WAL after the last commit */
    int due_pages; /* when to checkpoint next */
};
/* Opens and empties the WAL, so that nothing is read that is not on disk. Must not move while open.
 */
MUST_USE enum err lite_writer_open(struct lite_writer *w, const char *path, const char *vfs,
                                   struct err_info *info);
void lite_writer_close(struct lite_writer *w);
MUST_USE enum err lite_do(struct lite_writer *w, enum lite_verb verb);
/* True while BEGIN stands: SQLITE_FULL and I/O errors end the whole transaction by themselves. */
static inline bool lite_in_tx(const struct lite_writer *w)
{
    return sqlite3_get_autocommit(w->h) == 0;
}
enum lite_outcome { LITE_DONE, LITE_FAILED, LITE_IN_DOUBT };
/* *ret_err says why when not DONE. After it no transaction is open. */
MUST_USE enum lite_outcome lite_commit(struct lite_writer *w, enum err *ret_err,
                                       struct err_info *info);
/* After IN DOUBT: cuts the WAL and closes. On failure the connection stays open and forgets
 * nothing; call again later. */
MUST_USE enum err lite_writer_cut(struct lite_writer *w, struct err_info *info);
/* Checkpoints after each LITE_WAL_PAGES that the WAL has grown; call it after the answers have
 * left. Waits for readers only when the WAL is very long, and then not for long. */
MUST_USE enum err lite_writer_tidy(struct lite_writer *w, struct err_info *info);

/* pthread_create with all signals blocked (they are the main thread's) and a name. */
MUST_USE enum err lite_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *),
                                    void *arg);
/* A condition that waits on the monotonic clock, a wait of at most us, and that clock. */
void lite_cond_init(pthread_cond_t *c);
void lite_cond_wait_us(pthread_cond_t *c, pthread_mutex_t *mu, unsigned us);
uint64_t lite_mono_us(void);

#endif
