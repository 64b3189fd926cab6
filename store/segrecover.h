/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the end of the newest segment at a start, and makes sure that all up to it is on disk. Private to store/.
 *
 * A segment that was closed in order ends with a seal: its index and numbers are taken from there. Else it
 * is read through, and each record checked. What cannot be read behind the last whole commit is the rest of one
 * that a crash interrupted: it is cut off, for it was never acknowledged. Two things are not that: a damaged place
 * with a later commit behind it (that one was begun only when the damaged one was on disk), and numbers that
 * do not follow one another. Both are E_CORRUPT, and nothing is changed.
 * The last commit is written again before anybody may see it: after a sync that failed the page cache would show
 * what is not on disk, and would not write it a second time by itself.
 *
 * Threads     none yet. Blocks on the disk, for as long as reading the segment takes.
 */
#ifndef STORE_SEGRECOVER_H
#define STORE_SEGRECOVER_H

#include "store/segindex.h"
#include "store/segment.h"

struct seg_found {
    int fd;           /* open for reading and writing, now the caller's */
    uint64_t end;     /* of the last commit; the file ends there too */
    uint64_t cut;     /* bytes of an interrupted commit that were cut off */
    int64_t first_ts; /* of the first row; 0: there is none */
};
/* Fills ix (empty) and ret_last, one for each partition. */
MUST_USE enum err seg_recover(const struct seg_place *at, const struct segment *seg,
                              struct seg_index *ix, struct seg_base *ret_last,
                              struct seg_found *ret, struct err_info *info);

#endif
