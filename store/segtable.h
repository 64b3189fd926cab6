/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segments of a log in order, and the connections that read them. Private to store/.
 *
 * Ownership   the table owns its segments; seg_table_free ends all.
 * Threads     the writer adds and drops; anybody reads. One mutex, never held while the disk is
 *             waited for.
 * Limits      SEG_IDLE_READERS connections are kept open between reads.
 */
#ifndef STORE_SEGTABLE_H
#define STORE_SEGTABLE_H

#include "store/segreader.h"

#define SEG_IDLE_READERS 16u

struct seg_table;
/* Loads what is in the folder (at is borrowed for life) and removes leftovers of interrupted work.
 */
MUST_USE enum err seg_table_new(const struct seg_place *at, struct seg_table **ret,
                                struct err_info *info);
void seg_table_free(struct seg_table *t);

size_t seg_table_count(struct seg_table *t);
/* Bytes of all segments but the newest. */
uint64_t seg_table_sealed_bytes(struct seg_table *t);
/* Writer only; valid until it is dropped. NULL when empty. */
struct segment *seg_table_newest(struct seg_table *t);
/* Room for one more, so that seg_table_add cannot fail. */
MUST_USE enum err seg_table_reserve(struct seg_table *t);
/* Takes seg; sealed_bytes are those of the one that was the newest. */
void seg_table_add(struct seg_table *t, struct segment *seg, uint64_t sealed_bytes);
/* The time of the last row in the oldest segment, if it is not also the newest. */
bool seg_table_oldest_end(struct seg_table *t, int64_t *ret_ts);
/* Removes the oldest segment and its file. Writer only. */
void seg_table_drop_oldest(struct seg_table *t);

/* The number before the first that is kept. */
uint64_t seg_table_base(struct seg_table *t, unsigned partition);
/* As seglog_read and seglog_find_time. */
MUST_USE enum err seg_table_read(struct seg_table *t, struct seg_read *r, uint64_t *ret_next);
MUST_USE enum err seg_table_find_time(struct seg_table *t, unsigned partition, int64_t ts,
                                      uint64_t mark, uint64_t *ret_seq);

#endif
