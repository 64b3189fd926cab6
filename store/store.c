/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "store/backup.h"
#include "store/db.h"
#include "store/disk.h"
#include "store/lite.h"
#include "store/scan.h"

/* Bulk operations in one commit: a quarter of what others have in it, at least 8, and when nobody
 * else is there so many that the next to come waits some milliseconds at most. */
#define BULK_PART 4u
#define BULK_MIN 8u
#define BULK_ALONE 256u
/* Urgent operations may still enter when the queue is full for others. */
#define URGENT_EXTRA_OPS (LIMIT_STORE_QUEUE_OPS / 8)
#define URGENT_EXTRA_BYTES (LIMIT_STORE_QUEUE_BYTES / 8)

struct op_list {
    struct store_op *head, **tail;
    size_t n;
    size_t bytes;
};

struct store {
    struct store_config cfg; /* path and modules point to the two below */
    char *path;
    const struct store_module *modules[STORE_MODULES];
    struct disk disk;
    struct scan_pool *scans;
    uint64_t boot;
    pthread_t thread;
    bool started;

    pthread_mutex_t mu;
    pthread_cond_t work;
    pthread_cond_t idle;
    struct op_list normal, bulk; /* from here on under mu */
    size_t n_queued;             /* waiting and being written */
    size_t bytes_queued;
    bool sleeping, draining, stopping;

    struct lite_writer w; /* from here on the writer thread's */
    struct db *db;        /* NULL: the file could not be opened again yet */
    bool broken;
    uint64_t tried_ms;

    atomic_uint_fast64_t ops, commits, failed_commits, reopened, sync_us;
};

/* --- queue --------------------------------------------------------------------------------- */

static void list_clear(struct op_list *l)
{
    *l = (struct op_list){.tail = &l->head};
}

static void list_push(struct op_list *l, struct store_op *op)
{
    op->next = NULL;
    *l->tail = op;
    l->tail = &op->next;
    l->n++;
    l->bytes += op->bytes;
}

/* Moves at most max operations from the front of one to the end of another. */
static void list_move(struct op_list *to, struct op_list *from, size_t max)
{
    while (from->head != NULL && max-- > 0) {
        struct store_op *op = from->head;
        from->head = op->next;
        from->n--;
        from->bytes -= op->bytes;
        list_push(to, op);
    }
    if (from->head == NULL) {
        from->tail = &from->head;
    }
}

static void take_batch(struct store *s, struct op_list *batch)
{
    size_t share = s->bulk.n == 0 ? 0 : BULK_ALONE;

    list_clear(batch);
    list_move(batch, &s->normal, LIMIT_STORE_BATCH - share);
    if (batch->n != 0) {
        share = MAX(BULK_MIN, MIN(share, batch->n / BULK_PART));
    }
    list_move(batch, &s->bulk, share);
}

static bool is_full(const struct store *s, const struct store_op *op)
{
    size_t max_ops = LIMIT_STORE_QUEUE_OPS;
    size_t max_bytes = LIMIT_STORE_QUEUE_BYTES;

    if (op->urgent) {
        max_ops += URGENT_EXTRA_OPS;
        max_bytes += URGENT_EXTRA_BYTES;
    } else if (op->bulk) {
        max_ops /= 2; /* never the reason why others are refused */
        max_bytes /= 2;
    }
    return s->n_queued >= max_ops || s->bytes_queued + op->bytes > max_bytes;
}

enum err store_submit(struct store *s, struct store_op *op)
{
    enum err e = OK;

    if (!op->urgent && disk_is_low(&s->disk)) {
        return E_DISK_FULL;
    }
    (void)pthread_mutex_lock(&s->mu);
    if (s->draining) {
        e = E_DRAINING;
    } else if (is_full(s, op)) {
        e = E_BUSY;
    } else {
        op->notices = NULL;
        op->refused = false;
        s->n_queued++;
        s->bytes_queued += op->bytes;
        list_push(op->bulk ? &s->bulk : &s->normal, op);
        if (s->sleeping) {
            s->sleeping = false;
            (void)pthread_cond_signal(&s->work);
        }
    }
    (void)pthread_mutex_unlock(&s->mu);
    return e;
}

/* --- the file after a failed sync ---------------------------------------------------------- */

static enum err open_writer(struct store *s, struct err_info *info)
{
    enum err e = lite_writer_open(&s->w, s->cfg.path, s->cfg.vfs, info);

    if (e != OK) {
        return e;
    }
    e = db_new(s->w.h, s->modules, s->cfg.n_modules, false, &s->db, info);
    if (e != OK) {
        lite_writer_close(&s->w);
    }
    return e;
}

static void close_writer(struct store *s)
{
    db_free(s->db);
    s->db = NULL;
    lite_writer_close(&s->w);
}

/* Cuts off what is in doubt, closes, opens again. Tried a few times a second until it works; the
 * scan threads keep the file's WAL index alive meanwhile. */
static void try_recover(struct store *s)
{
    uint64_t now = clock_mono_ms(clock_system());
    struct err_info info = {.err = OK};
    enum err e = OK;

    if (s->tried_ms != 0 && now - s->tried_ms < DISK_POLL_MS - 50) {
        return;
    }
    if (s->w.h != NULL) {
        db_free(s->db); /* its statements hold the connection */
        s->db = NULL;
        e = lite_writer_cut(&s->w, &info);
    }
    if (e == OK) {
        e = open_writer(s, &info);
    }
    if (e != OK) {
        s->tried_ms = now == 0 ? 1 : now;
        LOG_ERROR("store.reopen_failed", L_STR("database", s->cfg.path), L_ERR(e), L_WHY(&info, e));
        return;
    }
    s->tried_ms = 0;
    s->broken = false;
    atomic_fetch_add(&s->reopened, 1);
    LOG_WARN("store.reopened", L_STR("database", s->cfg.path));
}

/* --- one transaction ----------------------------------------------------------------------- */

void store_tx_notify(struct store_tx *tx, struct store_notice *n)
{
    n->next = NULL;
    *tx->notices_tail = n;
    tx->notices_tail = &n->next;
}

static void drop_notices(struct store_notice *n)
{
    while (n != NULL) {
        struct store_notice *next = n->next;
        n->drop(n);
        n = next;
    }
}

/* Runs one operation in its savepoint. Afterwards lite_in_tx() says whether the transaction lives.
 */
static void run_op(struct store *s, struct store_tx *tx, struct store_op *op)
{
    struct lite_writer *w = &s->w;
    enum err e = lite_do(w, LITE_SAVE);

    tx->notices = NULL;
    tx->notices_tail = &tx->notices;
    if (e == OK) {
        e = op->tx(tx, op);
        if (e == OK && lite_in_tx(w)) {
            e = lite_do(w, LITE_RELEASE);
        }
        if (e != OK && lite_in_tx(w) &&
            (lite_do(w, LITE_UNDO) != OK || lite_do(w, LITE_RELEASE) != OK)) {
            (void)!lite_do(w, LITE_ROLLBACK); /* what it did cannot be told from the rest */
        }
    }
    if (e == OK && !lite_in_tx(w)) {
        e = E_DB; /* it hid the error that ended the transaction */
    }
    op->result = e;
    if (e == OK) {
        op->notices = tx->notices;
    } else {
        drop_notices(tx->notices);
        op->notices = NULL;
    }
}

static void forget(struct store_op *op)
{
    drop_notices(op->notices);
    op->notices = NULL;
}

static void set_all(struct op_list *batch, enum err e)
{
    for (struct store_op *op = batch->head; op != NULL; op = op->next) {
        if (!op->refused) {
            forget(op);
            op->result = e;
        }
    }
}

/* Runs the operations from `from` up to `end` in one transaction. LITE_FAILED: nothing of it is
 * there; *ret_err says why when it was not one operation's fault. */
static enum lite_outcome run_tx(struct store *s, struct store_op *from, struct store_op *end,
                                enum err *ret_err)
{
    struct store_tx tx = {.db = s->db, .now_us = clock_wall_us(s->cfg.clock)};
    struct err_info info = {.err = OK};
    enum lite_outcome outcome;
    int64_t t0;

    if ((*ret_err = lite_do(&s->w, LITE_BEGIN)) != OK) {
        return LITE_FAILED;
    }
    for (struct store_op *op = from; op != end; op = op->next) {
        if (op->refused) {
            continue;
        }
        run_op(s, &tx, op);
        if (!lite_in_tx(&s->w)) {
            *ret_err = op->result;
            return LITE_FAILED;
        }
    }
    t0 = clock_wall_us(clock_system());
    outcome = lite_commit(&s->w, ret_err, &info);
    atomic_fetch_add(&s->sync_us, (uint64_t)MAX(0, clock_wall_us(clock_system()) - t0));
    if (outcome == LITE_DONE) {
        atomic_fetch_add(&s->commits, 1);
    } else {
        atomic_fetch_add(&s->failed_commits, 1);
        LOG_ERROR("store.commit_failed", L_STR("database", s->cfg.path), L_ERR(*ret_err),
                  L_BOOL("in_doubt", outcome == LITE_IN_DOUBT), L_WHY(&info, *ret_err));
    }
    return outcome;
}

/* The batch died as a whole: each operation gets a transaction, and so a verdict, of its own. */
static void run_alone(struct store *s, struct op_list *batch)
{
    for (struct store_op *op = batch->head; op != NULL; op = op->next) {
        enum err e = OK;
        enum lite_outcome outcome;

        if (op->refused) {
            continue;
        }
        forget(op);
        if (s->broken) { /* an operation before it was left in doubt */
            try_recover(s);
        }
        if (s->broken) {
            op->result = E_IO;
            continue;
        }
        outcome = run_tx(s, op, op->next, &e);
        if (outcome == LITE_DONE) {
            continue;
        }
        forget(op);
        op->result = outcome == LITE_FAILED ? e : E_UNKNOWN;
        s->broken = outcome == LITE_IN_DOUBT;
    }
}

static void run_batch(struct store *s, struct op_list *batch)
{
    enum err e = OK;

    switch (run_tx(s, batch->head, NULL, &e)) {
    case LITE_DONE:
        return;
    case LITE_IN_DOUBT:
        set_all(batch, E_UNKNOWN); /* also refusals: they may rest on what is in doubt */
        s->broken = true;
        return;
    case LITE_FAILED:
        break;
    }
    if (batch->n == 1 || e == E_BUSY) { /* locked by another process: each would wait in vain */
        set_all(batch, e);
        return;
    }
    if (e == E_DISK_FULL) {
        (void)!lite_checkpoint(s->w.h, true, NULL); /* an empty WAL makes room; best effort */
    }
    run_alone(s, batch);
}

/* --- writer thread ------------------------------------------------------------------------- */

static void finish_op(struct store_op *op)
{
    struct store_notice *n = op->notices;

    op->notices = NULL;
    while (n != NULL) {
        struct store_notice *next = n->next;
        n->run(n);
        n = next;
    }
    if (op->home != NULL) {
        mailbox_post(op->home, &op->msg);
    } else {
        op->msg.run(&op->msg);
    }
}

static void refuse_while_low(struct op_list *batch)
{
    for (struct store_op *op = batch->head; op != NULL; op = op->next) {
        if (!op->urgent) {
            op->refused = true;
            op->result = E_DISK_FULL;
        }
    }
}

/* Writes one batch, tells about it, then tidies up. */
static void write_batch(struct store *s, struct op_list *batch)
{
    struct err_info info = {.err = OK};
    size_t n = batch->n;
    enum err e;

    disk_refresh(&s->disk);
    if (disk_is_low(&s->disk)) {
        refuse_while_low(batch);
    }
    if (s->broken) {
        try_recover(s);
    }
    if (s->broken) {
        set_all(batch, E_IO);
    } else {
        run_batch(s, batch);
    }
    for (struct store_op *op = batch->head; op != NULL;) {
        struct store_op *next = op->next; /* op is gone once it is home */
        finish_op(op);
        op = next;
    }
    atomic_fetch_add(&s->ops, n);
    if (s->broken) {
        try_recover(s);
    } else if ((e = lite_writer_tidy(&s->w, &info)) != OK) {
        LOG_ERROR("store.checkpoint_failed", L_STR("database", s->cfg.path), L_ERR(e),
                  L_WHY(&info, e));
    }
}

/* Waits for work; while something is wrong it looks now and then whether it still is. Called and
 * returns with mu held. */
static void wait_for_work(struct store *s)
{
    bool is_ill = s->broken || disk_is_low(&s->disk);

    s->sleeping = true;
    if (!is_ill) {
        (void)pthread_cond_wait(&s->work, &s->mu);
        s->sleeping = false;
        return;
    }
    lite_cond_wait_ms(&s->work, &s->mu, DISK_POLL_MS);
    s->sleeping = false;
    (void)pthread_mutex_unlock(&s->mu);
    disk_refresh(&s->disk);
    if (s->broken) {
        try_recover(s);
    }
    (void)pthread_mutex_lock(&s->mu);
}

static void *writer_main(void *arg)
{
    struct store *s = arg;

    (void)pthread_mutex_lock(&s->mu);
    for (;;) {
        struct op_list batch;
        size_t n, bytes;

        if (s->normal.head == NULL && s->bulk.head == NULL) {
            if (s->stopping) {
                break;
            }
            wait_for_work(s);
            continue;
        }
        take_batch(s, &batch);
        n = batch.n;
        bytes = batch.bytes;
        (void)pthread_mutex_unlock(&s->mu);
        write_batch(s, &batch);
        (void)pthread_mutex_lock(&s->mu);
        s->n_queued -= n;
        s->bytes_queued -= bytes;
        if (s->n_queued == 0) {
            (void)pthread_cond_broadcast(&s->idle);
        }
    }
    (void)pthread_mutex_unlock(&s->mu);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------- */

static enum err copy_config(struct store *s, const struct store_config *cfg, struct err_info *info)
{
    const char *slash = strrchr(cfg->path, '/');
    const char *dir = slash == NULL ? "." : cfg->path;
    size_t dir_len = slash == NULL ? 1 : slash == cfg->path ? 1 : (size_t)(slash - cfg->path);
    enum err e = db_check_modules(cfg->modules, cfg->n_modules, info);

    if (e != OK) {
        return e;
    }
    s->cfg = *cfg;
    for (size_t i = 0; i < cfg->n_modules; i++) {
        s->modules[i] = cfg->modules[i];
    }
    s->cfg.modules = s->modules;
    s->cfg.path = s->path = span_dup(span_str(cfg->path));
    if (s->path == NULL || disk_init(&s->disk, dir, dir_len, cfg->reserve_bytes, cfg->free_bytes,
                                     cfg->free_arg) != OK) {
        return err_set(info, E_NOMEM, "no memory for the store");
    }
    return OK;
}

/* In this order: nothing is read before the WAL is on disk, nothing prepared before the tables are
 * what the statements expect. */
static enum err open_file(struct store *s, struct err_info *info)
{
    enum err e;

    if ((e = lite_create_file(s->cfg.path, info)) != OK ||
        (e = lite_writer_open(&s->w, s->cfg.path, s->cfg.vfs, info)) != OK ||
        (e = db_migrate(s->w.h, s->modules, s->cfg.n_modules, info)) != OK ||
        (e = db_count_boot(s->w.h, &s->boot, info)) != OK ||
        (e = db_new(s->w.h, s->modules, s->cfg.n_modules, false, &s->db, info)) != OK ||
        (e = scan_pool_new(&s->cfg, &s->scans, info)) != OK) {
        if (e == E_BUSY) {
            e = err_set(info, E_IN_USE, "\"%s\" is locked by another process", s->cfg.path);
        }
        return e;
    }
    return OK;
}

AUTO_FREE_FN(struct store, store_close)

enum err store_open(const struct store_config *cfg, struct store **ret, struct err_info *info)
{
    AUTO(store_close_p) struct store *s = NEW(struct store);
    enum err e;

    if (s == NULL) {
        return err_set(info, E_NOMEM, "no memory for the store");
    }
    (void)pthread_mutex_init(&s->mu, NULL); /* cannot fail with default attributes */
    (void)pthread_cond_init(&s->idle, NULL);
    lite_cond_init(&s->work);
    list_clear(&s->normal);
    list_clear(&s->bulk);
    if ((e = copy_config(s, cfg, info)) != OK || (e = open_file(s, info)) != OK) {
        return e;
    }
    if ((e = lite_thread_start(&s->thread, "store-writer", writer_main, s)) != OK) {
        return err_set(info, e, "cannot start the writer thread");
    }
    s->started = true;
    *ret = TAKE(s);
    return OK;
}

void store_drain(struct store *s)
{
    (void)pthread_mutex_lock(&s->mu);
    s->draining = true;
    while (s->n_queued != 0) {
        (void)pthread_cond_wait(&s->idle, &s->mu);
    }
    (void)pthread_mutex_unlock(&s->mu);
    if (s->scans != NULL) {
        scan_pool_drain(s->scans);
    }
}

void store_close(struct store *s)
{
    if (s == NULL) {
        return;
    }
    if (s->started) {
        store_drain(s);
        (void)pthread_mutex_lock(&s->mu);
        s->stopping = true;
        (void)pthread_cond_signal(&s->work);
        (void)pthread_mutex_unlock(&s->mu);
        (void)pthread_join(s->thread, NULL); /* cannot fail: it was started */
    }
    if (s->w.h != NULL && !s->broken) {
        (void)!lite_checkpoint(s->w.h, true, NULL); /* spares the next start; else it does it */
    }
    scan_pool_free(s->scans);
    close_writer(s);
    disk_done(&s->disk);
    free(s->path);
    (void)pthread_cond_destroy(&s->work);
    (void)pthread_cond_destroy(&s->idle);
    (void)pthread_mutex_destroy(&s->mu);
    free(s);
}

/* --- the rest ------------------------------------------------------------------------------ */

uint64_t store_boot(const struct store *s)
{
    return s->boot;
}

enum err store_reader_open(struct store *s, struct db **ret, struct err_info *info)
{
    return db_open_reader(s->cfg.path, s->cfg.vfs, s->modules, s->cfg.n_modules, ret, info);
}

void store_reader_close(struct db *db)
{
    db_free(db);
}

enum err store_scan(struct store *s, struct store_scan *scan)
{
    return scan_pool_add(s->scans, scan);
}

enum err store_backup(struct store *s, const char *path, struct err_info *info)
{
    return backup_file(s->cfg.path, s->cfg.vfs, path, info);
}

void store_stats(struct store *s, struct store_stats *ret)
{
    *ret = (struct store_stats){
        .ops = atomic_load(&s->ops),
        .commits = atomic_load(&s->commits),
        .failed_commits = atomic_load(&s->failed_commits),
        .reopened = atomic_load(&s->reopened),
        .sync_us_total = atomic_load(&s->sync_us),
        .low_disk = disk_is_low(&s->disk),
    };
    (void)pthread_mutex_lock(&s->mu);
    ret->queued_ops = s->n_queued;
    ret->queued_bytes = s->bytes_queued;
    (void)pthread_mutex_unlock(&s->mu);
}
