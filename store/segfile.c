/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segfile.h"

#include <endian.h>

#include "base/crc32c.h"
#include "base/limits.h"

#define MAGIC "BERTHSEG"
#define FORMAT 2u /* 1 was a SQLite database */
#define SQLITE_MAGIC "SQLite format 3"

/* Places in the head. */
enum { H_FORMAT = 8, H_PARTITIONS = 12, H_NUMBER = 16, H_SALT = 24, H_PREV_END = 32, H_BASE = 40 };
#define BASE_BYTES 16u
_Static_assert(H_BASE + BASE_BYTES * LIMIT_LOG_PARTITIONS + 4 <= SEG_HEAD_BYTES,
               "the head has room");

/* Places in a record's head. */
enum {
    R_CRC = 0,
    R_DATA_CRC = 4,
    R_SEQ = 8,
    R_TS = 16,
    R_DATA_N = 24,
    R_META_N = 28,
    R_PARTITION = 32,
    R_FLAGS = 34
};

void seg_put_u16(uint8_t *p, uint16_t v)
{
    v = htole16(v);
    (void)memcpy(p, &v, sizeof(v));
}

void seg_put_u32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    (void)memcpy(p, &v, sizeof(v));
}

void seg_put_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    (void)memcpy(p, &v, sizeof(v));
}

uint16_t seg_get_u16(const uint8_t *p)
{
    uint16_t v;

    (void)memcpy(&v, p, sizeof(v));
    return le16toh(v);
}

uint32_t seg_get_u32(const uint8_t *p)
{
    uint32_t v;

    (void)memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

uint64_t seg_get_u64(const uint8_t *p)
{
    uint64_t v;

    (void)memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

void seg_head_write(uint8_t *dst, const struct seg_head *h, const struct seg_base *base)
{
    size_t n = H_BASE + (size_t)h->partitions * BASE_BYTES;

    ASSERT(h->partitions <= LIMIT_LOG_PARTITIONS);
    (void)memset(dst, 0, SEG_HEAD_BYTES);
    (void)memcpy(dst, MAGIC, 8);
    seg_put_u32(dst + H_FORMAT, FORMAT);
    seg_put_u32(dst + H_PARTITIONS, h->partitions);
    seg_put_u64(dst + H_NUMBER, h->number);
    seg_put_u64(dst + H_SALT, h->salt);
    seg_put_u64(dst + H_PREV_END, h->prev_end);
    for (unsigned p = 0; p < h->partitions; p++) {
        seg_put_u64(dst + H_BASE + (size_t)p * BASE_BYTES, base[p].seq);
        seg_put_u64(dst + H_BASE + (size_t)p * BASE_BYTES + 8, (uint64_t)base[p].ts);
    }
    seg_put_u32(dst + n, crc32c(0, dst, n));
}

enum err seg_head_read(const uint8_t *src, struct seg_head *ret, struct seg_base *ret_base,
                       unsigned max, struct err_info *info)
{
    uint32_t partitions = seg_get_u32(src + H_PARTITIONS);
    size_t n;

    if (span_starts(span_of(src, SEG_HEAD_BYTES), SPAN_LIT(SQLITE_MAGIC))) {
        return err_set(info, E_CONFIG,
                       "an earlier version kept the log in SQLite files: read what is needed with"
                       " that version, then move the folder away");
    }
    if (!span_starts(span_of(src, SEG_HEAD_BYTES), SPAN_LIT(MAGIC))) {
        return err_set(info, E_CORRUPT, "not a segment of a log");
    }
    if (seg_get_u32(src + H_FORMAT) != FORMAT) {
        return err_set(info, E_CONFIG, "the log is of a newer format: install the newer program");
    }
    n = H_BASE + (size_t)MIN(partitions, LIMIT_LOG_PARTITIONS) * BASE_BYTES;
    if (partitions == 0 || partitions > MIN(max, LIMIT_LOG_PARTITIONS) ||
        crc32c(0, src, n) != seg_get_u32(src + n)) {
        return err_set(info, E_CORRUPT, "its head is damaged");
    }
    ret->partitions = partitions;
    ret->number = seg_get_u64(src + H_NUMBER);
    ret->salt = seg_get_u64(src + H_SALT);
    ret->prev_end = seg_get_u64(src + H_PREV_END);
    for (unsigned p = 0; p < partitions; p++) {
        ret_base[p].seq = seg_get_u64(src + H_BASE + (size_t)p * BASE_BYTES);
        ret_base[p].ts = (int64_t)seg_get_u64(src + H_BASE + (size_t)p * BASE_BYTES + 8);
    }
    return OK;
}

static uint32_t head_crc(const uint8_t *src, uint64_t salt, uint64_t at)
{
    uint8_t where[16];

    seg_put_u64(where, salt);
    seg_put_u64(where + 8, at);
    return crc32c(crc32c(0, where, sizeof(where)), src + R_DATA_CRC, SEG_REC_BYTES - R_DATA_CRC);
}

void seg_rec_write(uint8_t *dst, const struct seg_rec *r, uint64_t salt, uint64_t at)
{
    seg_put_u32(dst + R_DATA_CRC, r->data_crc);
    seg_put_u64(dst + R_SEQ, r->seq);
    seg_put_u64(dst + R_TS, (uint64_t)r->ts);
    seg_put_u32(dst + R_DATA_N, r->data_n);
    seg_put_u32(dst + R_META_N, r->meta_n);
    seg_put_u16(dst + R_PARTITION, r->partition);
    seg_put_u16(dst + R_FLAGS, r->flags);
    seg_put_u32(dst + R_CRC, head_crc(dst, salt, at));
}

bool seg_rec_read(const uint8_t *src, uint64_t salt, uint64_t at, unsigned partitions,
                  struct seg_rec *ret)
{
    struct seg_rec r = {
        .seq = seg_get_u64(src + R_SEQ),
        .ts = (int64_t)seg_get_u64(src + R_TS),
        .data_n = seg_get_u32(src + R_DATA_N),
        .meta_n = seg_get_u32(src + R_META_N),
        .data_crc = seg_get_u32(src + R_DATA_CRC),
        .partition = seg_get_u16(src + R_PARTITION),
        .flags = seg_get_u16(src + R_FLAGS),
    };

    /* The cheap questions first: this is asked for every byte behind a damaged place. */
    if (r.partition >= partitions || r.flags > SEG_FLAGS || r.data_n > SEG_DATA_MAX ||
        r.meta_n > r.data_n || head_crc(src, salt, at) != seg_get_u32(src + R_CRC)) {
        return false;
    }
    *ret = r;
    return true;
}
