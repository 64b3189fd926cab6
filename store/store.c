/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/limits.h"
#include "store/backup.h"
#include "store/batch.h"
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
    size_t n_queued;             /* waiting and being written, not yet answered */
    size_t bytes_queued;
    bool writing; /* a batch is being written, answered, tidied up after */
    bool sleeping, draining, stopping;

    struct batch batch; /* the writer thread's */
    atomic_uint_fast64_t ops;
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

/* Waits for work; while something is wrong it looks now and then whether it still is. Called and
 * returns with mu held. */
static void wait_for_work(struct store *s)
{
    s->sleeping = true;
    if (!s->batch.is_broken && !disk_is_low(&s->disk)) {
        (void)pthread_cond_wait(&s->work, &s->mu);
        s->sleeping = false;
        return;
    }
    lite_cond_wait_us(&s->work, &s->mu, 1000u * DISK_POLL_MS);
    s->sleeping = false;
    (void)pthread_mutex_unlock(&s->mu);
    disk_refresh(&s->disk);
    batch_tidy(&s->batch);
    (void)pthread_mutex_lock(&s->mu);
}

/* Writes one batch, tells about it, then tidies up. Called and returns with mu held. */
static void write_batch(struct store *s)
{
    struct op_list list;
    struct store_op *op;

    take_batch(s, &list);
    s->writing = true;
    (void)pthread_mutex_unlock(&s->mu);
    disk_refresh(&s->disk);
    if (disk_is_low(&s->disk)) {
        refuse_while_low(&list);
    }
    batch_run(&s->batch, list.head);
    atomic_fetch_add(&s->ops, list.n);
    (void)pthread_mutex_lock(&s->mu); /* before the answers: who hears one may submit the next */
    s->n_queued -= list.n;
    s->bytes_queued -= list.bytes;
    (void)pthread_mutex_unlock(&s->mu);
    for (op = list.head; op != NULL;) {
        struct store_op *next = op->next; /* op is gone once it is home */
        finish_op(op);
        op = next;
    }
    batch_tidy(&s->batch);
    (void)pthread_mutex_lock(&s->mu);
    s->writing = false;
    if (s->n_queued == 0) {
        (void)pthread_cond_broadcast(&s->idle);
    }
}

static void *writer_main(void *arg)
{
    struct store *s = arg;

    (void)pthread_mutex_lock(&s->mu);
    for (;;) {
        if (s->normal.head != NULL || s->bulk.head != NULL) {
            write_batch(s);
        } else if (s->stopping) {
            break;
        } else {
            wait_for_work(s);
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

static enum err open_file(struct store *s, struct err_info *info)
{
    enum err e = batch_open(&s->batch, &s->cfg, &s->boot, info);

    if (e == OK) {
        e = scan_pool_new(&s->cfg, &s->scans, info);
    }
    return e == E_BUSY ? err_set(info, E_IN_USE, "\"%s\" is locked by another process", s->path)
                       : e;
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
    while (s->n_queued != 0 || s->writing) {
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
    scan_pool_free(s->scans);
    batch_close(&s->batch);
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
    return backup_file(s->cfg.path, s->cfg.vfs, path, 0, info);
}

void store_stats(struct store *s, struct store_stats *ret)
{
    *ret = (struct store_stats){
        .ops = atomic_load(&s->ops),
        .commits = atomic_load(&s->batch.commits),
        .failed_commits = atomic_load(&s->batch.failed_commits),
        .reopened = atomic_load(&s->batch.reopened),
        .sync_us_total = atomic_load(&s->batch.sync_us),
        .low_disk = disk_is_low(&s->disk),
    };
    (void)pthread_mutex_lock(&s->mu);
    ret->queued_ops = s->n_queued;
    ret->queued_bytes = s->bytes_queued;
    ret->writing = s->writing;
    (void)pthread_mutex_unlock(&s->mu);
}
