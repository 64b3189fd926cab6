/* SPDX-License-Identifier: Apache-2.0 */
#include "store/logwriter.h"

#include <errno.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "store/disk.h"
#include "store/segrecover.h"

/* Retention looks at most this often, and a new segment that failed is tried again after it. */
#define KEEP_US 1000000
/* A segment is at most this part of retention_s long. */
#define AGE_PARTS 8u

/* --- new segments, old segments ------------------------------------------------------------ */

static void log_failure(const struct logwriter *lw, const char *event, enum err e,
                        const struct err_info *info)
{
    LOG_ERROR(event, L_STR("folder", lw->at->dir), L_ERR(e), L_WHY(info, e));
}

static void note_bytes(struct logwriter *lw)
{
    atomic_store_explicit(&lw->newest_bytes, lw->sw.room, memory_order_relaxed);
}

/* Begins the segment after the newest, or, when nothing was ever committed to that, its successor under the same
 * number. *ret_made: from then on nothing may be appended to the one before. ret_old: the writer that
 * has the old one, to be sealed and closed; its fd is -1 when there is none. */
static enum err make_segment(struct logwriter *lw, struct seg_writer *ret_old, bool *ret_made,
                             struct err_info *info)
{
    const struct segment *newest = seg_table_newest(lw->table);
    bool again = newest != NULL && lw->end == SEG_HEAD_BYTES;
    AUTO(mem_free_p) struct segment *seg = NULL;
    int fd = -1;
    enum err e;

    if (newest == NULL) {
        seg = segment_new(lw->at, 1, 0, lw->last);
    } else if (again) {
        seg = segment_new(lw->at, newest->head.number, newest->head.prev_end, newest->base);
    } else {
        seg = segment_new(lw->at, newest->head.number + 1, lw->end, lw->last);
    }
    if (seg == NULL || seg_table_reserve(lw->table) != OK) {
        return err_set(info, E_NOMEM, "no memory for a segment");
    }
    e = segment_create(lw->at, seg, &fd, ret_made, info);
    if (!*ret_made) {
        return e;
    }
    *ret_old = lw->sw;
    lw->sw.fd = -1;
    lw->born_us = 0;
    lw->end = SEG_HEAD_BYTES;
    if (again) {
        seg_table_replace(lw->table, seg);
        fileio_close(&ret_old->fd);
    } else {
        seg_table_add(lw->table, seg);
    }
    seg_writer_start(&lw->sw, fd, seg->head.salt, SEG_HEAD_BYTES);
    seg = NULL; /* the table's */
    note_bytes(lw);
    return e;
}

/* Ends the old file as it should be: sealed when that helps, else only as long as it is. */
static void end_segment(struct logwriter *lw, struct seg_writer *old, const struct buf *seal)
{
    if (old->fd < 0) {
        return;
    }
    if (seal != NULL && buf_err(seal) == OK) {
        seg_writer_seal(old, buf_span(seal));
    } else {
        (void)!seg_writer_undo(old); /* what is behind the end is not read */
    }
    seg_table_set_sealed_bytes(lw->table, old->room);
    fileio_close(&old->fd);
}

static void roll(struct logwriter *lw, int64_t now_us)
{
    AUTO(buf_done) struct buf seal = BUF_INIT(SEG_DATA_MAX);
    struct err_info info = {.err = OK};
    struct seg_writer old = {.fd = -1};
    bool made = false;
    enum err e;

    seg_index_write(seg_table_index(lw->table), lw->last, lw->end, &seal);
    e = make_segment(lw, &old, &made, &info);
    if (e != OK) {
        log_failure(lw, "seglog.roll_failed", e, &info);
    }
    if (!made) { /* go on with the old one, which only grows */
        lw->roll_us = now_us + KEEP_US;
        return;
    }
    lw->is_broken = e != OK;
    end_segment(lw, &old, &seal);
}

static bool may_age(const struct logwriter *lw)
{
    return lw->cfg->retention_s != 0 &&
           (lw->cfg->trusts_clock == NULL || lw->cfg->trusts_clock(lw->cfg->trusts_arg));
}

static bool is_time_to_roll(const struct logwriter *lw, int64_t now_us)
{
    uint64_t age_s = lw->cfg->retention_s / AGE_PARTS;

    if (lw->born_us == 0 || (lw->roll_us != 0 && now_us < lw->roll_us)) {
        return false;
    }
    if (lw->end - SEG_HEAD_BYTES >= lw->cfg->segment_bytes) {
        return true;
    }
    return may_age(lw) && now_us > lw->born_us &&
           (uint64_t)(now_us - lw->born_us) / 1000000 > age_s;
}

static void drop_old(struct logwriter *lw, int64_t now_us)
{
    int64_t end_us;

    while (seg_table_oldest_end(lw->table, &end_us)) {
        bool is_old = may_age(lw) && now_us > end_us &&
                      (uint64_t)(now_us - end_us) / 1000000 > lw->cfg->retention_s;
        bool is_much = lw->cfg->retention_bytes != 0 &&
                       seg_table_sealed_bytes(lw->table) + lw->sw.room > lw->cfg->retention_bytes;
        enum err e;

        if (!is_old && !is_much) {
            break;
        }
        if ((e = seg_table_drop_oldest(lw->table)) != OK) {
            log_failure(lw, "seglog.roll_failed", e, NULL);
            break;
        }
    }
}

/* Begins another segment, behind what is committed. Tried a few times a second until it works. */
static void try_recover(struct logwriter *lw)
{
    uint64_t now = clock_mono_ms(clock_system());
    struct seg_writer old = {.fd = -1};
    struct err_info info = {.err = OK};
    bool made = false;
    enum err e;

    if (lw->tried_ms != 0 && now - lw->tried_ms < DISK_POLL_MS - 50) {
        return;
    }
    e = make_segment(lw, &old, &made, &info);
    end_segment(lw, &old, NULL);
    if (e != OK) {
        lw->tried_ms = now == 0 ? 1 : now;
        log_failure(lw, "seglog.reopen_failed", e, &info);
        return;
    }
    lw->tried_ms = 0;
    lw->is_broken = false;
    LOG_WARN("seglog.reopened", L_STR("folder", lw->at->dir));
}

void logwriter_tidy(struct logwriter *lw, int64_t now_us)
{
    bool is_due = now_us < lw->kept_us || now_us - lw->kept_us >= KEEP_US;

    if (lw->is_broken) {
        try_recover(lw);
    }
    if (lw->is_broken) {
        return;
    }
    if (is_time_to_roll(lw, now_us)) {
        roll(lw, now_us);
        is_due = true;
    }
    if (is_due) {
        drop_old(lw, now_us);
        lw->kept_us = now_us;
    }
    note_bytes(lw);
}

/* --- writing ------------------------------------------------------------------------------- */

/* Numbers and writes all; on an error the caller undoes it. */
static enum err write_rows(struct logwriter *lw, struct seglog_op *ops, size_t n, size_t bytes,
                           int64_t now_us)
{
    enum err e = OK;

    seg_writer_begin(&lw->sw, n, bytes);
    (void)memcpy(lw->staged, lw->last, lw->at->partitions * sizeof(*lw->staged));
    for (struct seglog_op *op = ops; op != NULL && e == OK; op = op->next) {
        struct seg_base *at = &lw->staged[op->partition];
        at->seq++;
        at->ts = MAX(at->ts, now_us); /* the wall clock may go back */
        op->seq = at->seq;
        op->enqueued_us = at->ts;
        e = seg_writer_add(&lw->sw, op->partition, *at, op->meta, op->body, op->next == NULL);
    }
    return e != OK ? e : seg_writer_flush(&lw->sw);
}

static enum err give_up_rows(struct logwriter *lw, enum err why)
{
    enum err e;

    log_failure(lw, "seglog.append_failed", why, NULL);
    if ((e = seg_writer_undo(&lw->sw)) != OK) {
        lw->is_broken = true; /* they may not stand where the next commit goes */
        log_failure(lw, "seglog.append_failed", e, NULL);
    }
    return why;
}

enum err logwriter_write(struct logwriter *lw, struct seglog_op *ops, size_t n, size_t bytes,
                         int64_t now_us)
{
    int64_t t0;
    enum err e;

    if (lw->is_broken) {
        try_recover(lw);
    }
    if (lw->is_broken) {
        return E_IO;
    }
    if ((e = write_rows(lw, ops, n, bytes, now_us)) != OK) {
        return give_up_rows(lw, e);
    }
    t0 = clock_wall_us(clock_system());
    e = seg_writer_sync(&lw->sw);
    atomic_fetch_add(&lw->sync_us, (uint64_t)MAX(0, clock_wall_us(clock_system()) - t0));
    if (e != OK) {
        atomic_fetch_add(&lw->failed_commits, 1);
        log_failure(lw, "seglog.commit_failed", e, NULL);
        lw->is_broken = true;
        return E_UNKNOWN;
    }
    atomic_fetch_add(&lw->commits, 1);
    atomic_fetch_add(&lw->appended, n);
    (void)memcpy(lw->last, lw->staged, lw->at->partitions * sizeof(*lw->last));
    lw->end = lw->sw.end;
    lw->born_us = lw->born_us != 0 ? lw->born_us : ops->enqueued_us;
    seg_table_commit(lw->table, lw->end, lw->last);
    marks_publish(lw->marks, lw->last);
    return OK;
}

/* --- life ---------------------------------------------------------------------------------- */

/* Goes on where the newest segment ends. */
static enum err open_newest(struct logwriter *lw, const struct segment *seg, struct err_info *info)
{
    struct seg_found found;
    enum err e;

    if (lw->at->io->sync_dir(lw->at->dir) != 0) { /* or power loss takes it away by its name */
        return err_set_errno(info, errno, "cannot sync \"%s\"", lw->at->dir);
    }
    if ((e = seg_recover(lw->at, seg, seg_table_index(lw->table), lw->last, &found, info)) != OK) {
        return e;
    }
    seg_writer_start(&lw->sw, found.fd, seg->head.salt, found.end);
    lw->end = found.end;
    lw->born_us = found.first_ts;
    if (found.cut != 0) {
        LOG_WARN("seglog.tail_cut", L_STR("folder", lw->at->dir),
                 L_U64("segment", seg->head.number), L_U64("bytes", found.cut));
    }
    return OK;
}

enum err logwriter_open(struct logwriter *lw, const struct seglog_config *cfg,
                        const struct seg_place *at, struct seg_table *table, struct marks *marks,
                        struct err_info *info)
{
    const struct segment *newest = seg_table_newest(table);
    struct seg_writer none = {.fd = -1};
    bool made = false;
    enum err e;

    lw->cfg = cfg;
    lw->at = at;
    lw->table = table;
    lw->marks = marks;
    lw->last = mem_new(at->partitions * sizeof(*lw->last));
    lw->staged = mem_new(at->partitions * sizeof(*lw->staged));
    if (lw->last == NULL || lw->staged == NULL ||
        seg_writer_init(&lw->sw, at->io, cfg->segment_bytes) != OK) {
        return err_set(info, E_NOMEM, "no memory for the log");
    }
    e = newest == NULL ? make_segment(lw, &none, &made, info) : open_newest(lw, newest, info);
    if (e != OK) {
        return e;
    }
    seg_table_commit(table, lw->end, lw->last);
    marks_publish(marks, lw->last);
    note_bytes(lw);
    return OK;
}

void logwriter_close(struct logwriter *lw)
{
    AUTO(buf_done) struct buf seal = BUF_INIT(SEG_DATA_MAX);

    if (lw->sw.io != NULL && lw->sw.fd >= 0 &&
        !lw->is_broken) { /* spares the next start to read it through */
        seg_index_write(seg_table_index(lw->table), lw->last, lw->end, &seal);
        if (buf_err(&seal) == OK) {
            seg_writer_seal(&lw->sw, buf_span(&seal));
        }
    }
    seg_writer_done(&lw->sw);
    free(lw->last);
    free(lw->staged);
    lw->last = lw->staged = NULL;
}
