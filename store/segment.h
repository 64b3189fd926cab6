/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One segment file of a log: its making, loading, writing, end. Private to store/.
 *
 *   "new.tmp" --segment_create: filled, synced, renamed--> "<number>.seg" --segment_unlink--> gone
 *
 * A segment holds a table per partition and the numbers that stood when it was made (base): its
 * rows are those after its own base up to the base of the next segment.
 *
 * Ownership   struct segment is heap, free() ends it.
 * Threads     one at a time.
 * Errors      E_CONFIG: other number of partitions, or a newer format; E_CORRUPT: not a segment.
 */
#ifndef STORE_SEGMENT_H
#define STORE_SEGMENT_H

#include <sqlite3.h>

#include "base/err.h"
#include "base/span.h"
#include "store/lite.h"

struct seg_base {
    uint64_t seq; /* the last one given before; 0: none */
    int64_t ts;   /* its enqueued time */
};

struct segment {
    uint64_t number;
    uint64_t bytes;         /* of the file, once it is not written any more */
    struct seg_base base[]; /* one for each partition */
};

/* Which files, and how many tables in each. */
struct seg_place {
    const char *dir;
    const char *vfs;
    unsigned partitions;
};

#define SEG_NAME_DIGITS 20
#define SEG_SUFFIX ".seg"
#define SEG_TMP "new.tmp"

struct segment *segment_new(const struct seg_place *at, uint64_t number,
                            const struct seg_base *base);
/* The file stands under its name when this returns OK; the caller syncs the folder before anything
 * in it is acknowledged. After an error there is none. */
MUST_USE enum err segment_create(const struct seg_place *at, const struct segment *seg,
                                 struct err_info *info);
MUST_USE enum err segment_load(const struct seg_place *at, uint64_t number, struct segment **ret,
                               struct err_info *info);
uint64_t segment_file_bytes(const struct seg_place *at, uint64_t number);
void segment_unlink(const struct seg_place *at, uint64_t number);
/* False when it does not fit. */
bool segment_path(const struct seg_place *at, uint64_t number, char *dst, size_t n);

struct seg_writer {
    struct lite_writer w; /* w.h NULL: closed */
    sqlite3_stmt **insert;
    unsigned partitions;
};
/* Also reads, into ret_last[], the last number and time of each partition, and when the first row
 * was enqueued (0: there is none). Must not move while open. */
MUST_USE enum err seg_writer_open(struct seg_writer *sw, const struct seg_place *at,
                                  const struct segment *seg, struct seg_base *ret_last,
                                  int64_t *ret_first_ts, struct err_info *info);
/* Inside a transaction of sw->w. */
MUST_USE enum err seg_writer_add(struct seg_writer *sw, unsigned partition, uint64_t seq,
                                 int64_t ts, struct span meta, struct span body);
/* See lite_writer_cut. */
MUST_USE enum err seg_writer_cut(struct seg_writer *sw, struct err_info *info);
void seg_writer_close(struct seg_writer *sw);

#endif
