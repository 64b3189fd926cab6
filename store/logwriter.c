/* SPDX-License-Identifier: Apache-2.0 */
#include "store/logwriter.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/log.h"
#include "store/disk.h"

/* What a row takes besides its bytes: cell header, key, time. A guess that decides only when a new
 * segment begins. */
#define ROW_OVERHEAD 24u
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

/* Makes the next segment. *ret_made: from then on nothing may be appended to the one before. */
static enum err make_segment(struct logwriter *lw, uint64_t number, bool *ret_made,
                             struct err_info *info)
{
    AUTO(mem_free_p) struct segment *seg = segment_new(lw->at, number, lw->last);
    const struct segment *newest = seg_table_newest(lw->table);
    uint64_t sealed = 0;
    enum err e;

    if (seg == NULL || seg_table_reserve(lw->table) != OK) {
        return err_set(info, E_NOMEM, "no memory for a segment");
    }
    if ((e = segment_create(lw->at, seg, info)) != OK) {
        return e;
    }
    *ret_made = true;
    if (newest != NULL) {
        sealed = segment_file_bytes(lw->at, newest->number);
    }
    seg_table_add(lw->table, TAKE(seg), sealed);
    return OK;
}

/* About what a segment without rows takes: a page for each table. */
static uint64_t empty_bytes(const struct logwriter *lw)
{
    return (lw->at->partitions + 3ull) * 4096;
}

/* Opens the newest segment for writing, after which lw->staged holds its last numbers. */
static enum err open_newest(struct logwriter *lw, struct err_info *info)
{
    const struct segment *seg = seg_table_newest(lw->table);
    enum err e =
        fs_sync_dir(lw->at->dir, info); /* or power loss takes the segment away by its name */

    if (e != OK) {
        return e;
    }
    e = seg_writer_open(&lw->sw, lw->at, seg, lw->staged, &lw->born_us, info);
    for (unsigned p = 0; p < lw->at->partitions && e == OK; p++) {
        if (lw->staged[p].seq < lw->last[p].seq) {
            e = err_set(info, E_CORRUPT,
                        "segment %" PRIu64 " of partition %u ends at %" PRIu64 ", acknowledged"
                        " was %" PRIu64,
                        seg->number, p, lw->staged[p].seq, lw->last[p].seq);
            seg_writer_close(&lw->sw);
        }
    }
    if (e == OK) {
        /* Also what was in doubt and is there after all: never acknowledged, but on disk now. */
        (void)memcpy(lw->last, lw->staged, lw->at->partitions * sizeof(*lw->last));
        lw->bytes = segment_file_bytes(lw->at, seg->number);
        lw->row_bytes = lw->born_us == 0 ? 0 : lw->bytes - MIN(lw->bytes, empty_bytes(lw));
        marks_publish(lw->marks, lw->last);
    }
    return e;
}

static void roll(struct logwriter *lw, int64_t now_us)
{
    struct err_info info = {.err = OK};
    const struct segment *old = seg_table_newest(lw->table);
    bool made = false;
    enum err e;

    /* Little or nothing stays in the WAL of the old one. Readers are not waited for. */
    if ((e = lite_checkpoint(lw->sw.w.h, false, &info)) == OK) {
        e = make_segment(lw, old->number + 1, &made, &info);
    }
    if (!made) { /* go on with the old one, which only grows */
        lw->roll_us = now_us + KEEP_US;
        log_failure(lw, "seglog.roll_failed", e, &info);
        return;
    }
    seg_writer_close(&lw->sw);
    if ((e = open_newest(lw, &info)) != OK) {
        lw->is_broken = true;
        log_failure(lw, "seglog.roll_failed", e, &info);
    }
}

static bool is_time_to_roll(const struct logwriter *lw, int64_t now_us)
{
    uint64_t age_s = lw->cfg->retention_s / AGE_PARTS;

    if (lw->born_us == 0 || (lw->roll_us != 0 && now_us < lw->roll_us)) {
        return false;
    }
    if (lw->row_bytes >= lw->cfg->segment_bytes) {
        return true;
    }
    return lw->cfg->retention_s != 0 && !atomic_load(&lw->paused) && now_us > lw->born_us &&
           (uint64_t)(now_us - lw->born_us) / 1000000 > age_s;
}

static void drop_old(struct logwriter *lw, int64_t now_us)
{
    int64_t end_us;

    while (seg_table_oldest_end(lw->table, &end_us)) {
        bool is_old = lw->cfg->retention_s != 0 && !atomic_load(&lw->paused) && now_us > end_us &&
                      (uint64_t)(now_us - end_us) / 1000000 > lw->cfg->retention_s;
        bool is_much = lw->cfg->retention_bytes != 0 &&
                       seg_table_sealed_bytes(lw->table) + lw->bytes > lw->cfg->retention_bytes;
        if (!is_old && !is_much) {
            break;
        }
        seg_table_drop_oldest(lw->table);
    }
}

/* Cuts off what is in doubt, closes, opens again. Tried a few times a second until it works. */
static void try_recover(struct logwriter *lw)
{
    uint64_t now = clock_mono_ms(clock_system());
    struct err_info info = {.err = OK};
    enum err e;

    if (lw->tried_ms != 0 && now - lw->tried_ms < DISK_POLL_MS - 50) {
        return;
    }
    if ((e = seg_writer_cut(&lw->sw, &info)) != OK || (e = open_newest(lw, &info)) != OK) {
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
    struct err_info info = {.err = OK};
    bool is_due = now_us < lw->kept_us || now_us - lw->kept_us >= KEEP_US;
    enum err e;

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
    if (!lw->is_broken && (e = lite_writer_tidy(&lw->sw.w, &info)) != OK) {
        log_failure(lw, "seglog.checkpoint_failed", e, &info);
    }
    atomic_store(&lw->newest_bytes, lw->bytes);
}

/* --- writing ------------------------------------------------------------------------------- */

/* Numbers and inserts all; on an error nothing of it stands. */
static enum err add_rows(struct logwriter *lw, struct seglog_op *ops, int64_t now_us)
{
    enum err e = lite_do(&lw->sw.w, LITE_BEGIN);

    if (e != OK) {
        return e;
    }
    (void)memcpy(lw->staged, lw->last, lw->at->partitions * sizeof(*lw->staged));
    for (struct seglog_op *op = ops; op != NULL && e == OK; op = op->next) {
        struct seg_base *at = &lw->staged[op->partition];
        at->seq++;
        at->ts = MAX(at->ts, now_us); /* the wall clock may go back */
        op->seq = at->seq;
        op->enqueued_us = at->ts;
        e = seg_writer_add(&lw->sw, op->partition, at->seq, at->ts, op->meta, op->body);
    }
    if (e != OK && lite_in_tx(&lw->sw.w)) {
        (void)!lite_do(&lw->sw.w, LITE_ROLLBACK); /* lite_commit would refuse: e is returned */
    }
    return e;
}

enum err logwriter_write(struct logwriter *lw, struct seglog_op *ops, size_t n, size_t bytes,
                         int64_t now_us)
{
    struct err_info info = {.err = OK};
    enum lite_outcome outcome;
    int64_t t0;
    enum err e;

    if (lw->is_broken) {
        try_recover(lw);
    }
    if (lw->is_broken) {
        return E_IO;
    }
    if ((e = add_rows(lw, ops, now_us)) != OK) {
        log_failure(lw, "seglog.append_failed", e, NULL);
        return e;
    }
    t0 = clock_wall_us(clock_system());
    outcome = lite_commit(&lw->sw.w, &e, &info);
    atomic_fetch_add(&lw->sync_us, (uint64_t)MAX(0, clock_wall_us(clock_system()) - t0));
    if (outcome != LITE_DONE) {
        atomic_fetch_add(&lw->failed_commits, 1);
        log_failure(lw, "seglog.commit_failed", e, &info);
        lw->is_broken = outcome == LITE_IN_DOUBT;
        return outcome == LITE_IN_DOUBT ? E_UNKNOWN : e;
    }
    atomic_fetch_add(&lw->commits, 1);
    atomic_fetch_add(&lw->appended, n);
    (void)memcpy(lw->last, lw->staged, lw->at->partitions * sizeof(*lw->last));
    lw->row_bytes += bytes + n * ROW_OVERHEAD;
    lw->bytes += bytes + n * ROW_OVERHEAD;
    lw->born_us = lw->born_us != 0 ? lw->born_us : ops->enqueued_us;
    marks_publish(lw->marks, lw->last);
    return OK;
}

/* --- life ---------------------------------------------------------------------------------- */

enum err logwriter_open(struct logwriter *lw, const struct seglog_config *cfg,
                        const struct seg_place *at, struct seg_table *table, struct marks *marks,
                        struct err_info *info)
{
    const struct segment *newest = seg_table_newest(table);
    bool made = false;
    enum err e = OK;

    lw->cfg = cfg;
    lw->at = at;
    lw->table = table;
    lw->marks = marks;
    lw->last = mem_new(at->partitions * sizeof(*lw->last));
    lw->staged = mem_new(at->partitions * sizeof(*lw->staged));
    if (lw->last == NULL || lw->staged == NULL) {
        return err_set(info, E_NOMEM, "no memory for the log");
    }
    if (newest == NULL) {
        e = make_segment(lw, 1, &made, info);
    } else {
        (void)memcpy(lw->last, newest->base, at->partitions * sizeof(*lw->last));
    }
    if (e == OK) {
        e = open_newest(lw, info);
    }
    atomic_store(&lw->newest_bytes, lw->bytes);
    return e;
}

void logwriter_close(struct logwriter *lw)
{
    if (lw->sw.w.h != NULL && !lw->is_broken) {
        (void)!lite_checkpoint(lw->sw.w.h, true, NULL); /* spares the next start; else it does it */
    }
    seg_writer_close(&lw->sw);
    free(lw->last);
    free(lw->staged);
    lw->last = lw->staged = NULL;
}
