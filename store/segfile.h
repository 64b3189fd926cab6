/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a segment file of the log: its head and its records. Pure: no file, no clock.
 * Private to store/. Numbers are little endian.
 *
 *   head        SEG_HEAD_BYTES: magic, format, partitions, number, salt, prev_end, then {seq, ts} of each
 *               partition as they stood before this segment (base), CRC-32C of all that; zeros
 *   records     one after the other up to the end; behind it zeros, or whatever a crash left there
 *
 *   record      CRC-32C of the head's rest, CRC-32C of the data, seq, ts, bytes of data, bytes of meta, partition,
 *               flags: SEG_REC_BYTES; then the data: meta, body
 *
 * The records that were written and synced together are a commit: the first has SEG_FIRST, the last SEG_LAST.
 * A record with SEG_FIRST proves that all before it was on disk. The CRC of a record's head begins
 * with the segment's salt (random) and the record's place, so that no bytes that a device sent, and no record
 * of another place or file, are taken for a record.
 * SEG_SEAL is a record whose data are the index of the segment (segindex.h); it ends the segment.
 * What is behind a sealed segment's end (the prev_end of the next one) was never acknowledged.
 */
#ifndef STORE_SEGFILE_H
#define STORE_SEGFILE_H

#include "base/err.h"
#include "base/span.h"

#define SEG_HEAD_BYTES 4096u
#define SEG_REC_BYTES 36u
/* Bytes of meta and body that a record may have: more never fit into the queue. */
#define SEG_DATA_MAX (64u << 20)

struct seg_base {
    uint64_t seq; /* the last one given before; 0: none */
    int64_t ts;   /* its enqueued time */
};

struct seg_head {
    uint64_t number;
    uint64_t salt;
    uint64_t prev_end; /* where the segment before this one ends; 0 in the first */
    unsigned partitions;
};
/* dst has SEG_HEAD_BYTES; base one entry for each partition. */
void seg_head_write(uint8_t *dst, const struct seg_head *h, const struct seg_base *base);
/* E_CORRUPT: no head of a segment; E_CONFIG: of another format. ret_base has room for max partitions, of
 * which as many are filled as ret->partitions says (E_CORRUPT when that is more than max). */
MUST_USE enum err seg_head_read(const uint8_t *src, struct seg_head *ret, struct seg_base *ret_base,
                                unsigned max, struct err_info *info);

enum {
    SEG_FIRST = 1,
    SEG_LAST = 2,
    SEG_SEAL = 4,
    SEG_NO_META = 8, /* absent, which is not the same as empty */
    SEG_NO_BODY = 16,
    SEG_FLAGS = 31
};
struct seg_rec {
    uint64_t seq;
    int64_t ts;
    uint32_t data_n;
    uint32_t meta_n;
    uint32_t data_crc;
    uint16_t partition;
    uint16_t flags;
};
/* at: where in the file the record begins. */
void seg_rec_write(uint8_t *dst, const struct seg_rec *r, uint64_t salt, uint64_t at);
/* False: no record begins here. */
MUST_USE bool seg_rec_read(const uint8_t *src, uint64_t salt, uint64_t at, unsigned partitions,
                           struct seg_rec *ret);
/* A question that costs nothing, before seg_rec_read is asked: may this be the first of a commit? */
static inline bool seg_rec_may_be_first(const uint8_t *src)
{
    return (src[34] & SEG_FIRST) != 0 && src[35] == 0;
}

void seg_put_u16(uint8_t *p, uint16_t v);
void seg_put_u32(uint8_t *p, uint32_t v);
void seg_put_u64(uint8_t *p, uint64_t v);
uint16_t seg_get_u16(const uint8_t *p);
uint32_t seg_get_u32(const uint8_t *p);
uint64_t seg_get_u64(const uint8_t *p);

#endif
