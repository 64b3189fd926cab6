/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Append-only log in partitions, kept as segment files in one folder: the telemetry log. Knows
 * bytes only: what is in meta and body is the caller's. segfile.h has the format.
 *
 * Only its own writer thread numbers: per partition, without gaps, enqueued time never backwards.
 * A segment opens with its base numbers, so numbers outlive retention (new file, fsync, rename,
 * fsync of the folder). Segments are numbered, not dated, and are opened only through the log.
 * An append is acknowledged (msg.run at home, result OK) only after fdatasync returned. The whole
 * queue goes into one commit: one write, one sync. A commit may wait up to gather_us for company, when the
 * last ones show that some will come (store/gather.h).
 *
 * Errors      seglog_open: E_CORRUPT when rows that were acknowledged are damaged or a segment is
 *             missing; E_CONFIG when the files are of another format or number of partitions;
 *             E_IN_USE. What a crash left unfinished at the end is cut off (seglog.tail_cut).
 *             appends: E_BUSY over the marks, E_DISK_FULL below the reserve (the log stops before
 *             the registry does) or when a write says so, E_IO when a write fails or until a new
 *             segment is durable after a failed sync, E_UNKNOWN of a sync that failed (never
 *             acknowledged; the segment ends before it, see logwriter.h). Room that returns is
 *             noticed without a restart.
 *             reading: E_CORRUPT when a row is damaged; it is never left out.
 *             What the writer thread meets besides is logged: seglog.append_failed,
 *             seglog.commit_failed, seglog.roll_failed, seglog.reopen_failed, seglog.reopened,
 *             store.disk_low, store.disk_enough.
 * Retention   whole segments, when all of a segment is older than retention_s (0: never), or, the
 *             oldest first, while the folder is over retention_bytes (0: never). So that no segment
 *             waits for ever to be old, a new one also begins after an eighth of retention_s.
 *             By age only while cfg.trusts_clock says so (not after the wall clock jumped).
 * Threads     seglog_append any; seglog_read, seglog_find_time any that may block on the disk.
 * Limits      LIMIT_STORE_QUEUE_OPS, _BYTES waiting; LIMIT_STORE_BATCH rows in one commit;
 *             LIMIT_LOG_PARTITIONS.
 */
#ifndef STORE_SEGLOG_H
#define STORE_SEGLOG_H

#include "base/clock.h"
#include "base/err.h"
#include "base/mailbox.h"
#include "base/span.h"
#include "store/store.h"

struct fileio;
struct seglog;
struct seglog_config {
    const char *dir;        /* created 0700 */
    unsigned partitions;    /* fixed when the log is made; another number later is E_CONFIG */
    uint64_t segment_bytes; /* a new segment after this many bytes of rows */
    uint64_t retention_s;
    uint64_t retention_bytes;
    uint64_t reserve_bytes; /* free disk below this: refuse */
    unsigned gather_us;     /* 0: no commit waits for another row */
    const struct clock *clock;
    /* Asked on the log's thread before anything goes for its age; NULL: always. */
    bool (*trusts_clock)(void *arg);
    void *trusts_arg;
    const struct fileio *io;  /* NULL: the system's; tests let calls fail (store/fileio.h) */
    store_free_fn free_bytes; /* NULL: the system's; tests set the disk */
    void *free_arg;
};
MUST_USE enum err seglog_open(const struct seglog_config *cfg, struct seglog **ret,
                              struct err_info *info);
void seglog_drain(struct seglog *l);
void seglog_close(struct seglog *l);

struct seglog_op {
    struct msg msg;
    struct mailbox *home;
    unsigned partition;
    struct span meta; /* live until msg.run */
    struct span body;
    enum err result;
    uint64_t seq;        /* given by the log, from 1 */
    int64_t enqueued_us; /* given by the log */
    struct seglog_op *next;
    bool more; /* the log's: the next one belongs to the same batch */
};
/* E_ARG: no such partition. */
MUST_USE enum err seglog_append(struct seglog *l, struct seglog_op *op);
/* All or nothing, one commit, numbers in list order (linked by ->next, NULL ends). Only the last
 * op's msg is run; results and numbers are set in all. At most LIMIT_STORE_BATCH (E_LIMIT). */
MUST_USE enum err seglog_append_batch(struct seglog *l, struct seglog_op *first, size_t n);

/* Committed mark: the highest sequence number that readers may see; 0 when empty. */
uint64_t seglog_last(struct seglog *l, unsigned partition, int64_t *ret_enqueued_us);
/* The lowest still kept (last + 1 when empty). */
uint64_t seglog_first(struct seglog *l, unsigned partition);
/* First sequence number whose enqueued time is >= t. */
MUST_USE enum err seglog_find_time(struct seglog *l, unsigned partition, int64_t t_us,
                                   uint64_t *ret_seq);

struct seglog_row {
    uint64_t seq;
    int64_t enqueued_us;
    struct span meta; /* borrowed for the call */
    struct span body;
};
/* Return false to stop; the row counts as taken all the same. */
typedef bool (*seglog_row_fn)(void *arg, const struct seglog_row *row);
/* Rows from `from` on, at most max_rows and about max_bytes (it stops after the row that reaches
 * them), in order; *ret_next is where to go on, after an error too if rows were handed out before.
 * A `from` older than what is kept starts at the first kept. Blocks on disk: scan thread only. */
MUST_USE enum err seglog_read(struct seglog *l, unsigned partition, uint64_t from, size_t max_rows,
                              size_t max_bytes, seglog_row_fn fn, void *arg, uint64_t *ret_next);

/* Wakes a reader: m is posted to home once when the committed mark of the partition is >= seq
 * (at once when it is already). One-shot. seglog_unwatch before the message may go away: true, it
 * was waiting and will not be posted; false, it was posted (and may still be in the mailbox) or
 * never set. */
struct seglog_watch {
    struct msg msg;
    struct mailbox *home;
    unsigned partition;
    uint64_t seq;
    struct seglog_watch *prev, *next; /* the log's */
    bool armed;
};
void seglog_watch(struct seglog *l, struct seglog_watch *w);
bool seglog_unwatch(struct seglog *l, struct seglog_watch *w);

struct seglog_stats {
    uint64_t appended, commits, failed_commits, queued_ops, queued_bytes, bytes_on_disk, segments;
    uint64_t sync_us_total;
    bool low_disk;
    bool writing; /* a batch is being written, answered or tidied up after */
};
void seglog_stats(struct seglog *l, struct seglog_stats *ret);

#endif
