/* SPDX-License-Identifier: Apache-2.0 */
#include "store/seglog.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/log.h"
#include "store/disk.h"
#include "store/lite.h"
#include "store/segtable.h"

/* What a row takes besides its bytes: cell header, key, time. A guess that decides only when a new
 * segment begins. */
#define ROW_OVERHEAD 24u
/* How long the writer sleeps at most when nobody appends: retention by age goes on. */
#define IDLE_MS 5000u
/* Retention looks at most this often. */
#define KEEP_US 1000000
#define AGE_PARTS 8u

struct part {
    _Atomic uint64_t seq; /* the committed mark; written under mark_mu */
    int64_t ts;           /* under mark_mu */
    struct seglog_watch *watches;
};

struct seglog {
    struct seglog_config cfg; /* dir and vfs as in `at` */
    char *dir;
    struct seg_place at;
    struct disk disk;
    struct seg_table *table;
    pthread_t thread;
    bool started;
    atomic_bool paused;

    /* Two locks, never held together: mu for the queue, mark_mu for marks and watches. */
    pthread_mutex_t mu;
    pthread_cond_t work;
    pthread_cond_t idle;
    struct seglog_op *head, **tail; /* from here on under mu */
    size_t n_queued;                /* waiting and being written */
    size_t bytes_queued;
    bool sleeping, draining, stopping;

    pthread_mutex_t mark_mu;
    struct part *part;

    struct seg_writer sw;    /* from here on the writer thread's */
    struct seg_base *last;   /* of what is committed */
    struct seg_base *staged; /* of the open transaction */
    bool broken;
    uint64_t tried_ms;  /* recovering */
    uint64_t row_bytes; /* about, in the newest segment */
    uint64_t bytes;     /* about, of its file */
    int64_t born_us;    /* its first row; 0: none */
    int64_t kept_us;    /* the last look of retention */
    int64_t roll_us;    /* no new segment before */

    atomic_uint_fast64_t appended, commits, failed_commits, sync_us, newest_bytes;
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
        if (l->sleeping) {
            l->sleeping = false;
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

/* --- marks and watches --------------------------------------------------------------------- */

static void fire(struct part *p, uint64_t mark)
{
    struct seglog_watch *w = p->watches;

    while (w != NULL) {
        struct seglog_watch *next = w->next;
        if (w->seq <= mark) {
            if (w->prev != NULL) {
                w->prev->next = next;
            } else {
                p->watches = next;
            }
            if (next != NULL) {
                next->prev = w->prev;
            }
            w->armed = false;
            mailbox_post(w->home, &w->msg); /* it may be gone from here on */
        }
        w = next;
    }
}

/* Readers may see what was committed. */
static void publish(struct seglog *l)
{
    (void)pthread_mutex_lock(&l->mark_mu);
    for (unsigned i = 0; i < l->at.partitions; i++) {
        struct part *p = &l->part[i];
        if (l->last[i].seq != atomic_load_explicit(&p->seq, memory_order_relaxed)) {
            p->ts = l->last[i].ts;
            atomic_store_explicit(&p->seq, l->last[i].seq, memory_order_release);
            fire(p, l->last[i].seq);
        }
    }
    (void)pthread_mutex_unlock(&l->mark_mu);
}

void seglog_watch(struct seglog *l, struct seglog_watch *w)
{
    struct part *p;

    ASSERT(w->partition < l->at.partitions && !w->armed);
    p = &l->part[w->partition];
    w->prev = w->next = NULL;
    (void)pthread_mutex_lock(&l->mark_mu);
    if (w->seq <= atomic_load_explicit(&p->seq, memory_order_relaxed)) {
        mailbox_post(w->home, &w->msg);
    } else {
        w->armed = true;
        w->next = p->watches;
        if (w->next != NULL) {
            w->next->prev = w;
        }
        p->watches = w;
    }
    (void)pthread_mutex_unlock(&l->mark_mu);
}

bool seglog_unwatch(struct seglog *l, struct seglog_watch *w)
{
    bool was_armed;

    ASSERT(w->partition < l->at.partitions);
    (void)pthread_mutex_lock(&l->mark_mu);
    was_armed = w->armed;
    if (was_armed) {
        if (w->prev != NULL) {
            w->prev->next = w->next;
        } else {
            l->part[w->partition].watches = w->next;
        }
        if (w->next != NULL) {
            w->next->prev = w->prev;
        }
        w->armed = false;
    }
    (void)pthread_mutex_unlock(&l->mark_mu);
    return was_armed;
}

/* --- reading ------------------------------------------------------------------------------- */

uint64_t seglog_last(struct seglog *l, unsigned partition, int64_t *ret_enqueued_us)
{
    struct part *p;
    uint64_t seq;

    ASSERT(partition < l->at.partitions);
    p = &l->part[partition];
    if (ret_enqueued_us == NULL) {
        return atomic_load_explicit(&p->seq, memory_order_acquire);
    }
    (void)pthread_mutex_lock(&l->mark_mu);
    seq = atomic_load_explicit(&p->seq, memory_order_relaxed);
    *ret_enqueued_us = p->ts;
    (void)pthread_mutex_unlock(&l->mark_mu);
    return seq;
}

uint64_t seglog_first(struct seglog *l, unsigned partition)
{
    ASSERT(partition < l->at.partitions);
    return seg_table_base(l->table, partition) + 1;
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

/* --- new segments, old segments ------------------------------------------------------------ */

static void log_failure(const struct seglog *l, const char *event, enum err e,
                        const struct err_info *info)
{
    LOG_ERROR(event, L_STR("folder", l->dir), L_ERR(e), L_WHY(info, e));
}

/* Makes the next segment. *ret_made: from then on nothing may be appended to the one before. */
static enum err make_segment(struct seglog *l, uint64_t number, bool *ret_made,
                             struct err_info *info)
{
    AUTO(mem_free_p) struct segment *seg = segment_new(&l->at, number, l->last);
    const struct segment *newest = seg_table_newest(l->table);
    uint64_t sealed = 0;
    enum err e;

    if (seg == NULL || seg_table_reserve(l->table) != OK) {
        return err_set(info, E_NOMEM, "no memory for a segment");
    }
    if ((e = segment_create(&l->at, seg, info)) != OK) {
        return e;
    }
    *ret_made = true;
    if (newest != NULL) {
        sealed = segment_file_bytes(&l->at, newest->number);
    }
    seg_table_add(l->table, TAKE(seg), sealed);
    return OK;
}

/* About what a segment without rows takes: a page for each table. */
static uint64_t empty_bytes(const struct seglog *l)
{
    return (l->at.partitions + 3ull) * 4096;
}

/* Opens the newest segment for writing, after which l->staged holds its last numbers. */
static enum err open_newest(struct seglog *l, struct err_info *info)
{
    const struct segment *seg = seg_table_newest(l->table);
    enum err e = fs_sync_dir(l->dir, info); /* or power loss takes the segment away by its name */

    if (e != OK) {
        return e;
    }
    e = seg_writer_open(&l->sw, &l->at, seg, l->staged, &l->born_us, info);
    for (unsigned p = 0; p < l->at.partitions && e == OK; p++) {
        if (l->staged[p].seq < l->last[p].seq) {
            e = err_set(info, E_CORRUPT,
                        "segment %" PRIu64 " of partition %u ends at %" PRIu64 ", acknowledged"
                        " was %" PRIu64,
                        seg->number, p, l->staged[p].seq, l->last[p].seq);
            seg_writer_close(&l->sw);
        }
    }
    if (e == OK) {
        /* Also what was in doubt and is there after all: never acknowledged, but on disk now. */
        (void)memcpy(l->last, l->staged, l->at.partitions * sizeof(*l->last));
        l->bytes = segment_file_bytes(&l->at, seg->number);
        l->row_bytes = l->born_us == 0 ? 0 : l->bytes - MIN(l->bytes, empty_bytes(l));
        publish(l);
    }
    return e;
}

static void roll(struct seglog *l, int64_t now_us)
{
    struct err_info info = {.err = OK};
    const struct segment *old = seg_table_newest(l->table);
    bool made = false;
    enum err e;

    /* The old one is emptied of its WAL first: what is in the file then is all there is. */
    if ((e = lite_checkpoint(l->sw.w.h, true, &info)) == OK || e == E_BUSY) {
        e = make_segment(l, old->number + 1, &made, &info);
    }
    if (!made) { /* go on with the old one, which only grows */
        l->roll_us = now_us + KEEP_US;
        log_failure(l, "seglog.roll_failed", e, &info);
        return;
    }
    seg_writer_close(&l->sw);
    if ((e = open_newest(l, &info)) != OK) {
        l->broken = true;
        log_failure(l, "seglog.roll_failed", e, &info);
    }
}

static bool is_time_to_roll(const struct seglog *l, int64_t now_us)
{
    uint64_t age_s = l->cfg.retention_s / AGE_PARTS;

    if (l->born_us == 0 || (l->roll_us != 0 && now_us < l->roll_us)) {
        return false;
    }
    if (l->row_bytes >= l->cfg.segment_bytes) {
        return true;
    }
    return l->cfg.retention_s != 0 && !atomic_load(&l->paused) && now_us > l->born_us &&
           (uint64_t)(now_us - l->born_us) / 1000000 > age_s;
}

static void drop_old(struct seglog *l, int64_t now_us)
{
    int64_t end_us;

    while (seg_table_oldest_end(l->table, &end_us)) {
        bool is_old = l->cfg.retention_s != 0 && !atomic_load(&l->paused) && now_us > end_us &&
                      (uint64_t)(now_us - end_us) / 1000000 > l->cfg.retention_s;
        bool is_much = l->cfg.retention_bytes != 0 &&
                       seg_table_sealed_bytes(l->table) + l->bytes > l->cfg.retention_bytes;
        if (!is_old && !is_much) {
            break;
        }
        seg_table_drop_oldest(l->table);
    }
}

/* After the answers have left: checkpoint, new segment, retention. */
static void tidy(struct seglog *l)
{
    struct err_info info = {.err = OK};
    int64_t now_us = clock_wall_us(l->cfg.clock);
    int64_t since_us = now_us - l->kept_us;
    enum err e;

    if (l->broken) {
        return;
    }
    if (is_time_to_roll(l, now_us)) {
        roll(l, now_us);
    } else if (since_us >= 0 && since_us < KEEP_US) {
        now_us = l->kept_us; /* not yet */
    }
    if (now_us != l->kept_us) {
        drop_old(l, now_us);
        l->kept_us = now_us;
    }
    if (!l->broken && (e = lite_writer_tidy(&l->sw.w, &info)) != OK) {
        log_failure(l, "seglog.checkpoint_failed", e, &info);
    }
    atomic_store(&l->newest_bytes, l->bytes);
}

/* Cuts off what is in doubt, closes, opens again. Tried a few times a second until it works. */
static void try_recover(struct seglog *l)
{
    uint64_t now = clock_mono_ms(clock_system());
    struct err_info info = {.err = OK};
    enum err e;

    if (l->tried_ms != 0 && now - l->tried_ms < DISK_POLL_MS - 50) {
        return;
    }
    if ((e = seg_writer_cut(&l->sw, &info)) != OK || (e = open_newest(l, &info)) != OK) {
        l->tried_ms = now == 0 ? 1 : now;
        log_failure(l, "seglog.reopen_failed", e, &info);
        return;
    }
    l->tried_ms = 0;
    l->broken = false;
    LOG_WARN("seglog.reopened", L_STR("folder", l->dir));
}

/* --- writing ------------------------------------------------------------------------------- */

/* Numbers and inserts all; on an error nothing of it stands. */
static enum err add_rows(struct seglog *l, const struct batch *b)
{
    int64_t now_us = clock_wall_us(l->cfg.clock);
    enum err e = lite_do(&l->sw.w, LITE_BEGIN);

    if (e != OK) {
        return e;
    }
    (void)memcpy(l->staged, l->last, l->at.partitions * sizeof(*l->staged));
    for (struct seglog_op *op = b->head; op != NULL && e == OK; op = op->next) {
        struct seg_base *at = &l->staged[op->partition];
        at->seq++;
        at->ts = MAX(at->ts, now_us); /* the wall clock may go back */
        op->seq = at->seq;
        op->enqueued_us = at->ts;
        e = seg_writer_add(&l->sw, op->partition, at->seq, at->ts, op->meta, op->body);
    }
    if (e != OK && lite_in_tx(&l->sw.w)) {
        (void)!lite_do(&l->sw.w, LITE_ROLLBACK); /* lite_commit would refuse: e is returned */
    }
    return e;
}

static enum err write_rows(struct seglog *l, const struct batch *b)
{
    struct err_info info = {.err = OK};
    enum err e = add_rows(l, b);
    enum lite_outcome outcome;
    int64_t t0;

    if (e != OK) {
        log_failure(l, "seglog.append_failed", e, NULL);
        return e;
    }
    t0 = clock_wall_us(clock_system());
    outcome = lite_commit(&l->sw.w, &e, &info);
    atomic_fetch_add(&l->sync_us, (uint64_t)MAX(0, clock_wall_us(clock_system()) - t0));
    if (outcome == LITE_DONE) {
        atomic_fetch_add(&l->commits, 1);
        atomic_fetch_add(&l->appended, b->n);
        (void)memcpy(l->last, l->staged, l->at.partitions * sizeof(*l->last));
        l->row_bytes += b->bytes + b->n * ROW_OVERHEAD;
        l->bytes += b->bytes + b->n * ROW_OVERHEAD;
        l->born_us = l->born_us != 0 ? l->born_us : b->head->enqueued_us;
        publish(l);
        return OK;
    }
    atomic_fetch_add(&l->failed_commits, 1);
    log_failure(l, "seglog.commit_failed", e, &info);
    l->broken = outcome == LITE_IN_DOUBT;
    return outcome == LITE_IN_DOUBT ? E_UNKNOWN : e;
}

static void answer(const struct batch *b, enum err e)
{
    struct seglog_op *op = b->head;

    while (op != NULL) {
        struct seglog_op *next = op->next; /* op is gone once it is home */
        op->result = e;
        if (e != OK) {
            op->seq = 0;
            op->enqueued_us = 0;
        }
        if (!op->more) {
            if (op->home != NULL) {
                mailbox_post(op->home, &op->msg);
            } else {
                op->msg.run(&op->msg);
            }
        }
        op = next;
    }
}

static void write_batch(struct seglog *l, const struct batch *b)
{
    enum err e = E_IO;

    disk_refresh(&l->disk);
    if (l->broken) {
        try_recover(l);
    }
    if (disk_is_low(&l->disk)) {
        e = E_DISK_FULL;
    } else if (!l->broken) {
        e = write_rows(l, b);
    }
    answer(b, e);
    if (l->broken) {
        try_recover(l);
    }
    tidy(l);
}

/* Waits for work; while something is wrong it looks often whether it still is, else now and then
 * after retention. Called and returns with mu held. */
static void wait_for_work(struct seglog *l)
{
    bool is_ill = l->broken || disk_is_low(&l->disk);

    l->sleeping = true;
    lite_cond_wait_ms(&l->work, &l->mu, is_ill ? DISK_POLL_MS : IDLE_MS);
    l->sleeping = false;
    if (l->head != NULL || l->stopping) {
        return;
    }
    (void)pthread_mutex_unlock(&l->mu);
    disk_refresh(&l->disk);
    if (l->broken) {
        try_recover(l);
    }
    tidy(l);
    (void)pthread_mutex_lock(&l->mu);
}

static void *writer_main(void *arg)
{
    struct seglog *l = arg;

    (void)pthread_mutex_lock(&l->mu);
    while (l->head != NULL || !l->stopping) {
        struct batch b;

        if (l->head == NULL) {
            wait_for_work(l);
            continue;
        }
        take_batch(l, &b);
        (void)pthread_mutex_unlock(&l->mu);
        write_batch(l, &b);
        (void)pthread_mutex_lock(&l->mu);
        l->n_queued -= b.n;
        l->bytes_queued -= b.bytes;
        if (l->n_queued == 0) {
            (void)pthread_cond_broadcast(&l->idle);
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
    l->at = (struct seg_place){l->dir, cfg->vfs, cfg->partitions};
    l->part = mem_new(cfg->partitions * sizeof(*l->part));
    l->last = mem_new(cfg->partitions * sizeof(*l->last));
    l->staged = mem_new(cfg->partitions * sizeof(*l->staged));
    if (l->dir == NULL || l->part == NULL || l->last == NULL || l->staged == NULL ||
        disk_init(&l->disk, l->dir, strlen(l->dir), cfg->reserve_bytes, cfg->free_bytes,
                  cfg->free_arg) != OK) {
        return err_set(info, E_NOMEM, "no memory for the log");
    }
    return OK;
}

static enum err open_files(struct seglog *l, struct err_info *info)
{
    const struct segment *newest;
    bool made = false;
    enum err e;

    if ((e = fs_private_dir(l->dir, info)) != OK ||
        (e = seg_table_new(&l->at, &l->table, info)) != OK) {
        return e;
    }
    newest = seg_table_newest(l->table);
    if (newest == NULL) {
        e = make_segment(l, 1, &made, info);
    } else {
        (void)memcpy(l->last, newest->base, l->at.partitions * sizeof(*l->last));
    }
    if (e == OK) {
        e = open_newest(l, info);
    }
    for (unsigned p = 0; p < l->at.partitions && e == OK; p++) {
        l->part[p].ts =
            l->last[p].ts; /* where the mark did not move there was nothing to publish */
    }
    return e;
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
    (void)pthread_mutex_init(&l->mark_mu, NULL);
    (void)pthread_cond_init(&l->idle, NULL);
    lite_cond_init(&l->work);
    l->tail = &l->head;
    if ((e = copy_config(l, cfg, info)) != OK) {
        return e;
    }
    if ((e = open_files(l, info)) != OK) {
        return e == E_BUSY ? err_wrap(info, E_IN_USE, "log \"%s\" is in use", cfg->dir) : e;
    }
    atomic_store(&l->newest_bytes, l->bytes);
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
    while (l->n_queued != 0) {
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
    if (l->sw.w.h != NULL) {
        (void)!lite_checkpoint(l->sw.w.h, true, NULL); /* spares the next start; else it does it */
    }
    seg_table_free(l->table);
    seg_writer_close(&l->sw);
    disk_done(&l->disk);
    free(l->part);
    free(l->last);
    free(l->staged);
    free(l->dir);
    (void)pthread_cond_destroy(&l->work);
    (void)pthread_cond_destroy(&l->idle);
    (void)pthread_mutex_destroy(&l->mark_mu);
    (void)pthread_mutex_destroy(&l->mu);
    free(l);
}

void seglog_pause_retention(struct seglog *l, bool pause)
{
    atomic_store(&l->paused, pause);
}

void seglog_stats(struct seglog *l, struct seglog_stats *ret)
{
    *ret = (struct seglog_stats){
        .appended = atomic_load(&l->appended),
        .commits = atomic_load(&l->commits),
        .failed_commits = atomic_load(&l->failed_commits),
        .bytes_on_disk = seg_table_sealed_bytes(l->table) + atomic_load(&l->newest_bytes),
        .segments = seg_table_count(l->table),
        .sync_us_total = atomic_load(&l->sync_us),
        .low_disk = disk_is_low(&l->disk),
    };
    (void)pthread_mutex_lock(&l->mu);
    ret->queued_ops = l->n_queued;
    ret->queued_bytes = l->bytes_queued;
    (void)pthread_mutex_unlock(&l->mu);
}
