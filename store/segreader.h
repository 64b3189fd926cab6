/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor that reads one segment, with the segment's index. Private to store/.
 *
 * Nothing of it touches the writer: a reader is told up to where the file may be read.
 *
 * Ownership   segreader_open gives it to the caller; segreader_free ends it, NULL is fine.
 * Threads     one at a time; it may move between threads.
 * Errors      E_CORRUPT: the place of a row that must be there holds something else.
 */
#ifndef STORE_SEGREADER_H
#define STORE_SEGREADER_H

#include "store/seglog.h"
#include "store/segindex.h"
#include "store/segment.h"
#include "store/segscan.h"

/* A range of numbers of one partition that is in one segment, and the part of the file that has them. */
struct slice {
    uint64_t number; /* of the segment */
    uint64_t lo, hi;
    uint64_t start, end; /* start: what an index says; end: of the records */
    bool is_newest;      /* no index of its own yet */
};

/* What somebody wants to read; from, max_rows and max_bytes go on with each row. */
struct seg_read {
    unsigned partition;
    uint64_t from, mark; /* rows after mark do not exist */
    size_t max_rows, max_bytes;
    seglog_row_fn fn;
    void *arg;
};

/* Where the last read of a partition ended. */
struct seg_cursor {
    uint64_t seq; /* the row that comes next */
    uint64_t off; /* not behind it */
};
struct segreader {
    struct segreader *next; /* for who keeps it */
    uint64_t number;        /* of the segment */
    int fd;
    unsigned partitions;
    struct segscan scan;
    bool has_index; /* read or made; only when the segment is not written any more */
    struct seg_index index;
    struct seg_cursor cursor[]; /* one for each partition */
};

/* E_NOT_FOUND: there is no such file. */
MUST_USE enum err segreader_open(const struct seg_place *at, uint64_t number,
                                 struct segreader **ret);
void segreader_free(struct segreader *r);
/* Frees all that are linked by ->next. */
void segreader_free_list(struct segreader *r);
/* Hands out the rows of one slice; moves r->from on, to behind the slice when it is through. */
MUST_USE enum err segreader_read(struct segreader *reader, struct slice s, struct seg_read *r);
/* The first number in the slice whose time is >= ts, or the one after the slice. */
MUST_USE enum err segreader_find_time(struct segreader *reader, unsigned partition, struct slice s,
                                      int64_t ts, uint64_t *ret_seq);

#endif
