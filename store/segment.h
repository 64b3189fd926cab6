/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One segment file of a log: its making, loading, end. Private to store/.
 *
 *   "new.tmp" --segment_create: head written, synced, renamed, folder synced--> "<number>.seg"
 *   --segment_unlink--> gone
 *
 * A segment's rows are those after its own base numbers up to those of the next segment.
 *
 * Ownership   struct segment is heap, free() ends it.
 * Threads     one at a time.
 * Errors      E_CONFIG: other number of partitions, or another format; E_CORRUPT: not a segment.
 */
#ifndef STORE_SEGMENT_H
#define STORE_SEGMENT_H

#include "store/fileio.h"
#include "store/segfile.h"

struct segment {
    struct seg_head head;
    uint64_t end;           /* of its records, once it is not written any more */
    uint64_t bytes;         /* of the file, once it is not written any more */
    struct seg_base base[]; /* one for each partition */
};

/* Which files, and how many partitions in each. */
struct seg_place {
    const char *dir;
    const struct fileio *io;
    unsigned partitions;
};

#define SEG_NAME_DIGITS 20
#define SEG_SUFFIX ".seg"
#define SEG_TMP "new.tmp"

struct segment *segment_new(const struct seg_place *at, uint64_t number, uint64_t prev_end,
                            const struct seg_base *base);
/* The descriptor is for reading and writing. *ret_stands: the file has its name, also when the folder could
 * not be synced then, and what is appended to the segment before might be lost. */
MUST_USE enum err segment_create(const struct seg_place *at, const struct segment *seg, int *ret_fd,
                                 bool *ret_stands, struct err_info *info);
MUST_USE enum err segment_load(const struct seg_place *at, uint64_t number, struct segment **ret,
                               struct err_info *info);
/* flags as of open(2). */
MUST_USE enum err segment_open(const struct seg_place *at, uint64_t number, int flags, int *ret_fd);
MUST_USE enum err segment_unlink(const struct seg_place *at, uint64_t number);
/* The numbers of the files that are there, in order; heap. */
MUST_USE enum err segment_list(const struct seg_place *at, uint64_t **ret, size_t *ret_n,
                               struct err_info *info);
/* b comes next after a in the folder: is it the one that was begun next, and is a whole? E_CORRUPT. */
MUST_USE enum err segment_follows(const struct seg_place *at, const struct segment *a,
                                  const struct segment *b, struct err_info *info);
/* False when it does not fit. */
bool segment_path(const struct seg_place *at, uint64_t number, char *dst, size_t n);

#endif
