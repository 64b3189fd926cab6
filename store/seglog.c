/* SPDX-License-Identifier: Apache-2.0 */
#include "store/seglog.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/limits.h"
#include "store/disk.h"
#include "store/gather.h"
#include "store/lite.h"
#include "store/logwriter.h"
#include "store/segtable.h"

/* How long the writer sleeps at most when nobody appends: retention by age goes on. */
#define IDLE_MS 5000u

struct seglog {
    struct seglog_config cfg; /* dir points to the copy below */
    char *dir;
    struct seg_place at;
    int lock_fd; /* -1: not held */
    struct disk disk;
    struct seg_table *table;
    struct marks marks;
    pthread_t thread;
    bool started;

    pthread_mutex_t mu;
    pthread_cond_t work;
    pthread_cond_t idle;
    struct seglog_op *head, **tail; /* from here on under mu */
    size_t n_queued;                /* waiting and being written, not yet answered */
    size_t bytes_queued;
    bool writing; /* a batch is being written, answered, tidied up after */
    bool sleeping, draining, stopping;
    size_t wake_at; /* the writer waits for so many rows; 0: it does not */

    struct logwriter writer; /* the writer thread's, as gather is */
    struct gather gather;
};

struct batch {
    struct seglog_op *head;
    size_t n;
    size_t bytes;
};

/* --- queue --------------------------------------------------------------------------------- */

static size_t op_bytes(const struct seglog_op *op)
{
    return op->meta.n + op->body.n;
}

enum err seglog_append_batch(struct seglog *l, struct seglog_op *first, size_t n)
{
    struct seglog_op *last = first;
    size_t bytes = 0;
    enum err e = OK;

    if (n == 0 || n > LIMIT_STORE_BATCH) {
        return n == 0 ? E_ARG : E_LIMIT;
    }
    if (disk_is_low(&l->disk)) {
        return E_DISK_FULL;
    }
    for (size_t i = 0; i < n; i++) {
        last = i == 0 ? first : last->next;
        if (last->partition >= l->at.partitions) {
            return E_ARG;
        }
        bytes += op_bytes(last);
        last->more = i + 1 < n;
    }
    (void)pthread_mutex_lock(&l->mu);
    if (l->draining) {
        e = E_DRAINING;
    } else if (l->n_queued + n > LIMIT_STORE_QUEUE_OPS ||
               l->bytes_queued + bytes > LIMIT_STORE_QUEUE_BYTES) {
        e = E_BUSY;
    } else {
        last->next = NULL;
        *l->tail = first;
        l->tail = &last->next;
        l->n_queued += n;
        l->bytes_queued += bytes;
        if (l->sleeping || (l->wake_at != 0 && l->n_queued >= l->wake_at)) {
            l->sleeping = false;
            l->wake_at = 0;
            (void)pthread_cond_signal(&l->work);
        }
    }
    (void)pthread_mutex_unlock(&l->mu);
    return e;
}

enum err seglog_append(struct seglog *l, struct seglog_op *op)
{
    return seglog_append_batch(l, op, 1);
}

/* The whole queue, up to LIMIT_STORE_BATCH rows; a batch is never parted. Under mu. */
static void take_batch(struct seglog *l, struct batch *b)
{
    struct seglog_op **link = &b->head;

    *b = (struct batch){.head = l->head};
    while (*link != NULL) {
        size_t n = 0, bytes = 0;
        struct seglog_op **end = link;
        bool more = true;

        for (; more; end = &(*end)->next) {
            more = (*end)->more;
            bytes += op_bytes(*end);
            n++;
        }
        if (b->n != 0 && b->n + n > LIMIT_STORE_BATCH) {
            break;
        }
        b->n += n;
        b->bytes += bytes;
        link = end;
    }
    l->head = *link;
    if (l->head == NULL) {
        l->tail = &l->head;
    }
    *link = NULL;
}

/* --- reading ------------------------------------------------------------------------------- */

uint64_t seglog_last(struct seglog *l, unsigned partition, int64_t *ret_enqueued_us)
{
    struct seg_base last;

    ASSERT(partition < l->at.partitions);
    if (ret_enqueued_us == NULL) {
        return marks_seq(&l->marks, partition);
    }
    last = marks_get(&l->marks, partition);
    *ret_enqueued_us = last.ts;
    return last.seq;
}

uint64_t seglog_first(struct seglog *l, unsigned partition)
{
    ASSERT(partition < l->at.partitions);
    return seg_table_base(l->table, partition) + 1;
}

void seglog_watch(struct seglog *l, struct seglog_watch *w)
{
    marks_watch(&l->marks, w);
}

bool seglog_unwatch(struct seglog *l, struct seglog_watch *w)
{
    return marks_unwatch(&l->marks, w);
}

enum err seglog_find_time(struct seglog *l, unsigned partition, int64_t t_us, uint64_t *ret_seq)
{
    return partition < l->at.partitions
               ? seg_table_find_time(l->table, partition, t_us, seglog_last(l, partition, NULL),
                                     ret_seq)
               : E_ARG;
}

enum err seglog_read(struct seglog *l, unsigned partition, uint64_t from, size_t max_rows,
                     size_t max_bytes, seglog_row_fn fn, void *arg, uint64_t *ret_next)
{
    struct seg_read r = {partition, from, 0, max_rows, max_bytes, fn, arg};

    if (partition >= l->at.partitions) {
        return E_ARG;
    }
    r.mark = seglog_last(l, partition, NULL);
    return seg_table_read(l->table, &r, ret_next);
}

/* --- writer thread ------------------------------------------------------------------------- */

/* What goes to one mailbox, in order: posted at once, so that a worker is woken once for a commit. */
struct parcel {
    struct mailbox *home;
    struct msg *first, *last;
};
#define PARCELS 8u /* workers that are told apart; more of them are woken more often */

static void post(struct parcel *p)
{
    if (p->last != NULL) {
        mailbox_post_list(p->home, p->last, p->first);
    }
    *p = (struct parcel){NULL, NULL, NULL};
}

/* The parcel of this mailbox; when there is none, one that was empty or is posted first. */
static struct parcel *parcel_of(struct parcel *v, struct mailbox *home)
{
    struct parcel *p = &v[0];

    for (size_t i = 0; i < PARCELS; i++) {
        if (v[i].home == home) {
            return &v[i];
        }
        p = v[i].home == NULL ? &v[i] : p;
    }
    post(p);
    p->home = home;
    return p;
}

static void answer(const struct batch *b, enum err e)
{
    struct parcel parcels[PARCELS] = {{NULL, NULL, NULL}};
    struct seglog_op *op = b->head;

    while (op != NULL) {
        struct seglog_op *next = op->next; /* op is gone once it is home */
        op->result = e;
        if (e != OK) {
            op->seq = 0;
            op->enqueued_us = 0;
        }
        if (!op->more && op->home == NULL) {
            op->msg.run(&op->msg);
        } else if (!op->more) {
            struct parcel *p = parcel_of(parcels, op->home);
            op->msg.next = p->last;
            p->first = p->last == NULL ? &op->msg : p->first;
            p->last = &op->msg;
        }
        op = next;
    }
    for (size_t i = 0; i < PARCELS; i++) {
        post(&parcels[i]);
    }
}

/* Waits for company when that is worth it (store/gather.h). Called and returns with mu held. */
static void wait_for_company(struct seglog *l)
{
    size_t before = l->n_queued;
    uint64_t t0;
    unsigned slice_us;

    if (l->draining || !gather_begin(&l->gather, before)) {
        return;
    }
    t0 = lite_mono_us();
    while ((slice_us = gather_slice_us(&l->gather, lite_mono_us() - t0)) != 0) {
        size_t had = l->n_queued;
        l->wake_at = GATHER_ROWS;
        lite_cond_wait_us(&l->work, &l->mu, slice_us);
        if (l->n_queued >= GATHER_ROWS || l->n_queued == had || l->draining) {
            break;
        }
    }
    l->wake_at = 0;
    gather_end(&l->gather, l->n_queued - before);
}

/* Writes one batch, answers it, then tidies up. Called and returns with mu held. */
static void write_batch(struct seglog *l)
{
    struct batch b;
    int64_t now_us;
    enum err e;

    wait_for_company(l);
    take_batch(l, &b);
    gather_taken(&l->gather, b.n, lite_mono_us());
    l->writing = true;
    (void)pthread_mutex_unlock(&l->mu);
    now_us = clock_wall_us(l->cfg.clock);
    disk_refresh(&l->disk);
    e = disk_is_low(&l->disk) ? E_DISK_FULL
                              : logwriter_write(&l->writer, b.head, b.n, b.bytes, now_us);
    (void)pthread_mutex_lock(&l->mu); /* before the answers: who hears one may append the next */
    l->n_queued -= b.n;
    l->bytes_queued -= b.bytes;
    (void)pthread_mutex_unlock(&l->mu);
    answer(&b, e);
    logwriter_tidy(&l->writer, now_us);
    (void)pthread_mutex_lock(&l->mu);
    l->writing = false;
    if (l->n_queued == 0) {
        (void)pthread_cond_broadcast(&l->idle);
    }
}

/* Waits for work; while something is wrong it looks often whether it still is, else now and then
 * after retention. Called and returns with mu held. */
static void wait_for_work(struct seglog *l)
{
    bool is_ill = l->writer.is_broken || disk_is_low(&l->disk);

    l->sleeping = true;
    lite_cond_wait_us(&l->work, &l->mu, 1000u * (is_ill ? DISK_POLL_MS : IDLE_MS));
    l->sleeping = false;
    if (l->head != NULL || l->stopping) {
        return;
    }
    (void)pthread_mutex_unlock(&l->mu);
    disk_refresh(&l->disk);
    logwriter_tidy(&l->writer, clock_wall_us(l->cfg.clock));
    (void)pthread_mutex_lock(&l->mu);
}

static void *writer_main(void *arg)
{
    struct seglog *l = arg;

    (void)pthread_mutex_lock(&l->mu);
    for (;;) {
        if (l->head != NULL) {
            write_batch(l);
        } else if (l->stopping) {
            break;
        } else {
            wait_for_work(l);
        }
    }
    (void)pthread_mutex_unlock(&l->mu);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------- */

static enum err copy_config(struct seglog *l, const struct seglog_config *cfg,
                            struct err_info *info)
{
    if (cfg->partitions == 0 || cfg->partitions > LIMIT_LOG_PARTITIONS || cfg->segment_bytes == 0) {
        return err_set(info, E_CONFIG, "a log has 1 to %u partitions and segments of some bytes",
                       LIMIT_LOG_PARTITIONS);
    }
    l->cfg = *cfg;
    l->dir = span_dup(span_str(cfg->dir));
    l->cfg.dir = l->dir;
    l->at =
        (struct seg_place){l->dir, cfg->io != NULL ? cfg->io : fileio_system(), cfg->partitions};
    if (l->dir == NULL || marks_init(&l->marks, cfg->partitions) != OK ||
        disk_init(&l->disk, l->dir, strlen(l->dir), cfg->reserve_bytes, cfg->free_bytes,
                  cfg->free_arg) != OK) {
        return err_set(info, E_NOMEM, "no memory for the log");
    }
    return OK;
}

static enum err open_files(struct seglog *l, struct err_info *info)
{
    enum err e;

    if ((e = fs_private_dir(l->dir, info)) != OK ||
        (e = fs_lock_dir(l->dir, &l->lock_fd, info)) != OK ||
        (e = seg_table_new(&l->at, seg_index_step(l->cfg.segment_bytes), &l->table, info)) != OK) {
        return e;
    }
    return logwriter_open(&l->writer, &l->cfg, &l->at, l->table, &l->marks, info);
}

AUTO_FREE_FN(struct seglog, seglog_close)

enum err seglog_open(const struct seglog_config *cfg, struct seglog **ret, struct err_info *info)
{
    AUTO(seglog_close_p) struct seglog *l = NEW(struct seglog);
    enum err e;

    if (l == NULL) {
        return err_set(info, E_NOMEM, "no memory for the log");
    }
    (void)pthread_mutex_init(&l->mu, NULL); /* cannot fail with default attributes */
    (void)pthread_cond_init(&l->idle, NULL);
    lite_cond_init(&l->work);
    l->tail = &l->head;
    l->lock_fd = -1;
    l->gather.max_us = cfg->gather_us;
    if ((e = copy_config(l, cfg, info)) != OK || (e = open_files(l, info)) != OK) {
        return e;
    }
    if ((e = lite_thread_start(&l->thread, "log-writer", writer_main, l)) != OK) {
        return err_set(info, e, "cannot start the writer thread of the log");
    }
    l->started = true;
    *ret = TAKE(l);
    return OK;
}

void seglog_drain(struct seglog *l)
{
    (void)pthread_mutex_lock(&l->mu);
    l->draining = true;
    (void)pthread_cond_signal(&l->work); /* it may wait for company */
    while (l->n_queued != 0 || l->writing) {
        (void)pthread_cond_wait(&l->idle, &l->mu);
    }
    (void)pthread_mutex_unlock(&l->mu);
}

void seglog_close(struct seglog *l)
{
    if (l == NULL) {
        return;
    }
    if (l->started) {
        seglog_drain(l);
        (void)pthread_mutex_lock(&l->mu);
        l->stopping = true;
        (void)pthread_cond_signal(&l->work);
        (void)pthread_mutex_unlock(&l->mu);
        (void)pthread_join(l->thread, NULL); /* cannot fail: it was started */
    }
    logwriter_close(&l->writer);
    seg_table_free(l->table);
    fileio_close(&l->lock_fd);
    disk_done(&l->disk);
    marks_done(&l->marks);
    free(l->dir);
    (void)pthread_cond_destroy(&l->work);
    (void)pthread_cond_destroy(&l->idle);
    (void)pthread_mutex_destroy(&l->mu);
    free(l);
}

void seglog_stats(struct seglog *l, struct seglog_stats *ret)
{
    *ret = (struct seglog_stats){
        .appended = atomic_load(&l->writer.appended),
        .commits = atomic_load(&l->writer.commits),
        .failed_commits = atomic_load(&l->writer.failed_commits),
        .bytes_on_disk = seg_table_sealed_bytes(l->table) + atomic_load(&l->writer.newest_bytes),
        .segments = seg_table_count(l->table),
        .sync_us_total = atomic_load(&l->writer.sync_us),
        .low_disk = disk_is_low(&l->disk),
    };
    (void)pthread_mutex_lock(&l->mu);
    ret->queued_ops = l->n_queued;
    ret->queued_bytes = l->bytes_queued;
    ret->writing = l->writing;
    (void)pthread_mutex_unlock(&l->mu);
}
