/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segments of a log in order, how far the newest may be read, and the descriptors that read
 * them. Private to store/.
 *
 * Ownership   the table owns its segments; seg_table_free ends all.
 * Threads     the writer adds and drops; anybody reads. One mutex, held for a look into the table
 *             and never while the disk is waited for; the end of the newest segment is atomic.
 * Limits      SEG_IDLE_READERS descriptors are kept open between reads.
 */
#ifndef STORE_SEGTABLE_H
#define STORE_SEGTABLE_H

#include "store/segreader.h"

#define SEG_IDLE_READERS 16u

struct seg_table;
/* Loads what is in the folder (at is borrowed for life) and removes leftovers of interrupted work.
 * E_CORRUPT also when a segment is missing between two others, or is shorter than the next one says.
 * index_step: see segindex.h, of the newest segment. */
MUST_USE enum err seg_table_new(const struct seg_place *at, uint64_t index_step,
                                struct seg_table **ret, struct err_info *info);
void seg_table_free(struct seg_table *t);

size_t seg_table_count(struct seg_table *t);
/* Bytes of all segments but the newest. */
uint64_t seg_table_sealed_bytes(struct seg_table *t);
/* Writer only; valid until it is dropped. NULL when empty. */
struct segment *seg_table_newest(struct seg_table *t);
/* Room for one more, so that seg_table_add cannot fail. */
MUST_USE enum err seg_table_reserve(struct seg_table *t);
/* Takes seg, in which nothing is yet. The one that was the newest ends where seg says. */
void seg_table_add(struct seg_table *t, struct segment *seg);
/* Takes seg in the place of the newest, which has its number and in which nothing was ever committed. */
void seg_table_replace(struct seg_table *t, struct segment *seg);
/* What the file of the one before the newest takes, now that it is not written any more. */
void seg_table_set_sealed_bytes(struct seg_table *t, uint64_t bytes);
/* The newest may be read up to `end`; last: the numbers there. */
void seg_table_commit(struct seg_table *t, uint64_t end, const struct seg_base *last);
/* The index of the newest. Writer only, and seg_table_commit after it was changed. */
struct seg_index *seg_table_index(struct seg_table *t);
/* The time of the last row in the oldest segment, if it is not also the newest. */
bool seg_table_oldest_end(struct seg_table *t, int64_t *ret_ts);
/* Removes the oldest segment and its file; when the file stays, the segment does too. Writer only. */
MUST_USE enum err seg_table_drop_oldest(struct seg_table *t);

/* The number before the first that is kept. */
uint64_t seg_table_base(struct seg_table *t, unsigned partition);
/* As seglog_read and seglog_find_time. */
MUST_USE enum err seg_table_read(struct seg_table *t, struct seg_read *r, uint64_t *ret_next);
MUST_USE enum err seg_table_find_time(struct seg_table *t, unsigned partition, int64_t ts,
                                      uint64_t mark, uint64_t *ret_seq);

#endif
