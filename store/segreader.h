/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that reads one segment. Private to store/.
 *
 * Ownership   segreader_open gives it to the caller; segreader_free ends it, NULL is fine.
 * Threads     one at a time; it may move between threads.
 */
#ifndef STORE_SEGREADER_H
#define STORE_SEGREADER_H

#include "store/seglog.h"
#include "store/segment.h"

enum { SEGREADER_ROWS, SEGREADER_TIME, SEGREADER_STMTS };

struct segreader {
    struct segreader *next; /* for who keeps it */
    uint64_t number;        /* of the segment */
    sqlite3 *h;
    unsigned partitions;
    sqlite3_stmt *stmt[]; /* SEGREADER_STMTS for each partition, prepared when first used */
};

/* A range of numbers of one partition that is in one segment. */
struct slice {
    uint64_t number; /* of the segment */
    uint64_t lo, hi;
};

/* What somebody wants to read; from, max_rows and max_bytes go on with each row. */
struct seg_read {
    unsigned partition;
    uint64_t from, mark; /* rows after mark do not exist */
    size_t max_rows, max_bytes;
    seglog_row_fn fn;
    void *arg;
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
