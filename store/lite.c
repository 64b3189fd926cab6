/* SPDX-License-Identifier: Apache-2.0 */
#include "store/lite.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"

/* How long a statement waits for a lock that somebody else has (a checkpoint, a backup, the shell).
 */
#define BUSY_MS 1000
/* The WAL restarts when no reader is in the way. If readers always are, it grows; from here on a
 * checkpoint waits for them, each time this long. */
#define WAL_PAGES_FORCE (16 * LITE_WAL_PAGES)
#define FORCE_MS 50

enum err lite_err(int rc)
{
    switch (rc) { /* extended codes that differ from their family */
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return E_EXISTS;
    case SQLITE_IOERR_NOMEM:
        return E_NOMEM;
    default:
        break;
    }
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return OK;
    case SQLITE_CONSTRAINT:
        return E_CONFLICT;
    case SQLITE_FULL:
        return E_DISK_FULL;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return E_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return E_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return E_BUSY;
    case SQLITE_INTERRUPT:
        return E_TIMEOUT;
    case SQLITE_NOMEM:
        return E_NOMEM;
    case SQLITE_TOOBIG:
        return E_TOO_LARGE;
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return E_PERM;
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
        return E_BUG;
    default:
        return E_DB;
    }
}

enum err lite_fail(sqlite3 *h, int rc, const char *what, struct err_info *info)
{
    const char *text =
        h != NULL && sqlite3_extended_errcode(h) == rc ? sqlite3_errmsg(h) : sqlite3_errstr(rc);

    return err_set(info, lite_err(rc), "%s (%d): %s", text, rc, what);
}

/* --- files --------------------------------------------------------------------------------- */

enum err lite_sync_parent(const char *path, struct err_info *info)
{
    const char *slash = strrchr(path, '/');
    char dir[PATH_MAX];

    if (slash == NULL || slash == path) {
        return fs_sync_dir(slash == NULL ? "." : "/", info);
    }
    if (!span_to_cstr(span_of(path, (size_t)(slash - path)), dir, sizeof(dir))) {
        return err_set(info, E_ARG, "path is too long");
    }
    return fs_sync_dir(dir, info);
}

enum err lite_create_file(const char *path, struct err_info *info)
{
    bool is_new = !fs_exists(path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct stat st;
    enum err e = OK;

    if (fd < 0) {
        return err_set(info, err_from_errno(errno), "cannot open \"%s\": %s", path,
                       strerror(errno));
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        e = err_set(info, E_IO, "\"%s\" is not a regular file", path);
    } else if ((st.st_mode & 07777) != 0600 && fchmod(fd, 0600) != 0) {
        e = err_set(info, err_from_errno(errno), "cannot make \"%s\" private: %s", path,
                    strerror(errno));
    }
    (void)!close(fd); /* nothing was written through it */
    return e == OK && is_new ? lite_sync_parent(path, info) : e;
}

void lite_unlink(const char *path)
{
    static const char *const suffixes[] = {"", "-journal", "-wal", "-shm"};
    char name[PATH_MAX];

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        int n = snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
        if (n > 0 && (size_t)n < sizeof(name)) {
            (void)!unlink(
                name); /* absent is the usual case; a leftover is removed at the next start */
        }
    }
}

/* --- connections --------------------------------------------------------------------------- */

static void setup_library(void)
{
    /* Memory statistics put one lock around every allocation of every connection. Refused when the
     * library is in use already, which costs speed only. */
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    (void)sqlite3_initialize();
}

#define READ_SETTINGS                                                                              \
    "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF; PRAGMA mmap_size=0;"                     \
    "PRAGMA cell_size_check=ON;"
#define WRITE_SETTINGS                                                                             \
    "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA wal_autocheckpoint=0;"                \
    "PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-16384;"

static const char *const settings[] = {
    [LITE_WRITER] = READ_SETTINGS WRITE_SETTINGS,
    [LITE_READER] = READ_SETTINGS "PRAGMA query_only=ON",
    [LITE_OFFLINE] = READ_SETTINGS "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL",
};

/* WAL is a property of the file; SQLite answers with the mode that it has now. */
static enum err set_wal(sqlite3 *h, const char *path, struct err_info *info)
{
    sqlite3_stmt *st = NULL;
    enum err e = lite_prepare(h, "PRAGMA journal_mode=WAL", &st, info);
    int rc;

    if (e != OK) {
        return err_wrap(info, e, "\"%s\"", path);
    }
    rc = sqlite3_step(st);
    if (rc != SQLITE_ROW) {
        e = lite_fail(h, rc, path, info);
    } else if (strcmp((const char *)sqlite3_column_text(st, 0), "wal") != 0) {
        e = err_set(info, E_IO, "\"%s\": the file system does not allow a write-ahead log", path);
    }
    (void)sqlite3_finalize(st); /* repeats the error of the step */
    return e;
}

enum err lite_open(const char *path, const char *vfs, enum lite_mode mode, sqlite3 **ret,
                   struct err_info *info)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_PRIVATECACHE |
                (mode == LITE_READER ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
    sqlite3 *h = NULL;
    enum err e = OK;
    int rc;

    (void)pthread_once(&once, setup_library);
    rc = sqlite3_open_v2(path, &h, flags, vfs);
    if (rc != SQLITE_OK) {
        e = lite_fail(h, rc, path, info);
    } else {
        (void)sqlite3_busy_timeout(h, BUSY_MS);
        (void)sqlite3_db_config(h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        e = mode == LITE_WRITER ? set_wal(h, path, info) : OK;
        if (e == OK && (e = lite_exec(h, settings[mode], info)) != OK) {
            e = err_wrap(info, e, "\"%s\"", path);
        }
    }
    if (e != OK) {
        lite_close(h);
        return e;
    }
    *ret = h;
    return OK;
}

void lite_close(sqlite3 *h)
{
    int rc = sqlite3_close(h); /* NULL is fine */

    ASSERT(rc == SQLITE_OK); /* a statement was not finalized */
}

enum err lite_exec(sqlite3 *h, const char *sql, struct err_info *info)
{
    int rc = sqlite3_exec(h, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? OK : lite_fail(h, rc, sql, info);
}

enum err lite_prepare(sqlite3 *h, const char *sql, sqlite3_stmt **ret, struct err_info *info)
{
    sqlite3_stmt *st = NULL;
    const char *tail = NULL;
    int rc = sqlite3_prepare_v3(h, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, &tail);

    if (rc != SQLITE_OK) {
        return lite_fail(h, rc, sql, info);
    }
    if (st == NULL || tail[strspn(tail, " \t\r\n;")] != '\0') {
        (void)sqlite3_finalize(st); /* was never run */
        return err_set(info, E_DB, "%s: not one statement", sql);
    }
    *ret = st;
    return OK;
}

enum err lite_get_i64(sqlite3 *h, const char *sql, int64_t dflt, int64_t *ret,
                      struct err_info *info)
{
    sqlite3_stmt *st = NULL;
    enum err e = lite_prepare(h, sql, &st, info);
    int rc;

    if (e != OK) {
        return e;
    }
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && sqlite3_column_type(st, 0) != SQLITE_NULL) {
        *ret = sqlite3_column_int64(st, 0);
    } else if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
        *ret = dflt;
    } else {
        e = lite_fail(h, rc, sql, info);
    }
    (void)sqlite3_finalize(st); /* repeats the error of the step */
    return e;
}

enum err lite_checkpoint(sqlite3 *h, bool truncate, struct err_info *info)
{
    int mode = truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    int rc = sqlite3_wal_checkpoint_v2(h, NULL, mode, NULL, NULL);

    return rc == SQLITE_OK ? OK : lite_fail(h, rc, "checkpoint", info);
}

/* --- the writing connection ---------------------------------------------------------------- */

static int on_commit(void *arg, sqlite3 *h, const char *name, int pages)
{
    struct lite_writer *w = arg;

    (void)h;
    (void)name;
    w->wal_pages = pages;
    return SQLITE_OK;
}

enum err lite_writer_open(struct lite_writer *w, const char *path, const char *vfs,
                          struct err_info *info)
{
    /* clang-format off */
    static const char *const verbs[LITE_VERBS] = {
        [LITE_BEGIN]    = "BEGIN IMMEDIATE",
        [LITE_COMMIT]   = "COMMIT",
        [LITE_ROLLBACK] = "ROLLBACK",
        [LITE_SAVE]     = "SAVEPOINT op",
        [LITE_RELEASE]  = "RELEASE op",
        [LITE_UNDO]     = "ROLLBACK TO op",
    };
    /* clang-format on */
    enum err e;

    *w = (struct lite_writer){0};
    if ((e = lite_open(path, vfs, LITE_WRITER, &w->h, info)) != OK) {
        return e;
    }
    /* A commit that died inside its sync is in the WAL, but perhaps only in the page cache. */
    e = lite_checkpoint(w->h, true, info);
    for (size_t i = 0; i < LITE_VERBS && e == OK; i++) {
        e = lite_prepare(w->h, verbs[i], &w->verb[i], info);
    }
    if (e != OK) {
        lite_writer_close(w);
        return e;
    }
    (void)sqlite3_wal_hook(w->h, on_commit, w); /* returns the hook that was there before */
    return OK;
}

void lite_writer_close(struct lite_writer *w)
{
    for (size_t i = 0; i < LITE_VERBS; i++) {
        (void)sqlite3_finalize(w->verb[i]); /* repeats the last error */
    }
    lite_close(w->h);
    *w = (struct lite_writer){0};
}

static int run_verb(struct lite_writer *w, enum lite_verb verb)
{
    int rc = sqlite3_step(w->verb[verb]);

    (void)sqlite3_reset(w->verb[verb]); /* repeats the error of the step */
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

enum err lite_do(struct lite_writer *w, enum lite_verb verb)
{
    return lite_err(run_verb(w, verb));
}

enum lite_outcome lite_commit(struct lite_writer *w, enum err *ret_err, struct err_info *info)
{
    int rc = run_verb(w, LITE_COMMIT);

    if (rc == SQLITE_OK) {
        return LITE_DONE;
    }
    *ret_err = lite_fail(w->h, rc, "COMMIT", info);
    if (lite_in_tx(w)) { /* refused before anything was written: locked, or a deferred constraint */
        (void)!lite_do(w, LITE_ROLLBACK); /* there is nothing else to try */
        return LITE_FAILED;
    }
    /* Lack of room is met while writing a frame, which then has no valid checksum, and so none
     * after it. Every other error may have come after the commit record was written. */
    return (rc & 0xff) == SQLITE_FULL ? LITE_FAILED : LITE_IN_DOUBT;
}

enum err lite_writer_cut(struct lite_writer *w, struct err_info *info)
{
    enum err e;

    if (w->h == NULL) {
        return OK;
    }
    if (lite_in_tx(w)) {
        (void)!lite_do(w, LITE_ROLLBACK); /* the checkpoint fails if this did */
    }
    e = lite_checkpoint(w->h, true, info);
    /* E_BUSY: a reader keeps the WAL as it is, and with it the index that says where it ends; the
     * next commit overwrites what lies behind. */
    if (e != OK && e != E_BUSY) {
        return e;
    }
    lite_writer_close(w);
    return OK;
}

enum err lite_writer_tidy(struct lite_writer *w, struct err_info *info)
{
    bool force = w->wal_pages >= WAL_PAGES_FORCE;
    enum err e;

    if (w->h == NULL || w->wal_pages < LITE_WAL_PAGES) {
        w->due_pages = LITE_WAL_PAGES; /* it has begun from the start */
        return OK;
    }
    if (w->wal_pages < w->due_pages) {
        return OK;
    }
    w->due_pages = w->wal_pages + LITE_WAL_PAGES;
    (void)sqlite3_busy_timeout(w->h, FORCE_MS); /* cannot fail */
    e = lite_checkpoint(w->h, force, info);
    (void)sqlite3_busy_timeout(w->h, BUSY_MS);
    return e == E_BUSY ? OK : e; /* a reader is in the way: next time */
}

/* --- threads ------------------------------------------------------------------------------- */

enum err lite_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
    sigset_t all, old;
    int rc;

    (void)sigfillset(&all); /* cannot fail */
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(ret, NULL, fn, arg);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        return err_from_errno(rc);
    }
    (void)pthread_setname_np(*ret, name); /* for ps and gdb only */
    return OK;
}

void lite_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t a;

    (void)pthread_condattr_init(&a); /* these three cannot fail with valid arguments */
    (void)pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    (void)pthread_cond_init(c, &a);
    (void)pthread_condattr_destroy(&a);
}

void lite_cond_wait_us(pthread_cond_t *c, pthread_mutex_t *mu, unsigned us)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
    t.tv_sec += (time_t)(us / 1000000);
    t.tv_nsec += (long)(us % 1000000) * 1000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    (void)pthread_cond_timedwait(c, mu, &t); /* the caller looks at its condition again */
}

uint64_t lite_mono_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}
