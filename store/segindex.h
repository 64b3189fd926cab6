/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sparse index of a segment: at some places of the file, the last number and time of each partition
 * before it. A reader goes to the last place that is still before what it looks for, and reads on from there.
 * Private to store/.
 *
 * Ownership   the caller's storage; seg_index_done ends it.
 * Threads     one at a time.
 * Limits      a place every `step` bytes at most, see seg_index_step; when memory is short there are fewer
 *             places, which costs time only.
 */
#ifndef STORE_SEGINDEX_H
#define STORE_SEGINDEX_H

#include "base/buf.h"
#include "store/segfile.h"

struct seg_index {
    unsigned partitions;
    uint64_t step;
    size_t n, cap;
    uint64_t *off;
    struct seg_base *last; /* n times partitions */
};
/* About 256 places in a segment, but not more than one in 64 KiB. */
static inline uint64_t seg_index_step(uint64_t segment_bytes)
{
    return MAX(segment_bytes / 256, UINT64_C(65536));
}
void seg_index_init(struct seg_index *ix, unsigned partitions, uint64_t step);
void seg_index_done(struct seg_index *ix);
void seg_index_clear(struct seg_index *ix);
/* True when a place at off is due. */
static inline bool seg_index_is_due(const struct seg_index *ix, uint64_t off)
{
    return ix->n == 0 || off - ix->off[ix->n - 1] >= ix->step;
}
/* Adds it if it is due. */
void seg_index_note(struct seg_index *ix, uint64_t off, const struct seg_base *last);
/* Where to begin to read for the first record of the partition whose number (time) is at least this;
 * SEG_HEAD_BYTES when no place is before it. */
uint64_t seg_index_find_seq(const struct seg_index *ix, unsigned partition, uint64_t seq);
uint64_t seg_index_find_time(const struct seg_index *ix, unsigned partition, int64_t ts);

/* The data of a SEG_SEAL record that stands at `end`: the index, the last numbers of the segment, and end again,
 * so that the record is found from the end of the file. */
void seg_index_write(const struct seg_index *ix, const struct seg_base *last, uint64_t end,
                     struct buf *b);
/* ret_ix is initialised and empty, ret_last has partitions entries. E_CORRUPT: not what seg_index_write writes
 * (both may be half filled then). */
MUST_USE enum err seg_index_read(struct span s, uint64_t end, struct seg_index *ret_ix,
                                 struct seg_base *ret_last);
#define SEG_SEAL_TAIL 8u /* bytes of `end` at the end */

#endif
