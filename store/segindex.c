/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segindex.h"

#include <stdlib.h>

#define PAIR_BYTES 16u

void seg_index_init(struct seg_index *ix, unsigned partitions, uint64_t step)
{
    *ix = (struct seg_index){.partitions = partitions, .step = step};
}

void seg_index_done(struct seg_index *ix)
{
    free(ix->off);
    free(ix->last);
    ix->off = NULL;
    ix->last = NULL;
    ix->n = ix->cap = 0;
}

void seg_index_clear(struct seg_index *ix)
{
    ix->n = 0;
}

static bool grow(struct seg_index *ix)
{
    size_t cap = ix->cap == 0 ? 16 : 2 * ix->cap;
    uint64_t *off = realloc(ix->off, cap * sizeof(*off));
    struct seg_base *last;

    if (off == NULL) {
        return false;
    }
    ix->off = off;
    if ((last = realloc(ix->last, cap * ix->partitions * sizeof(*last))) == NULL) {
        return false;
    }
    ix->last = last;
    ix->cap = cap;
    return true;
}

void seg_index_note(struct seg_index *ix, uint64_t off, const struct seg_base *last)
{
    if (!seg_index_is_due(ix, off) || (ix->n == ix->cap && !grow(ix))) {
        return;
    }
    ix->off[ix->n] = off;
    (void)memcpy(&ix->last[ix->n * ix->partitions], last, ix->partitions * sizeof(*last));
    ix->n++;
}

uint64_t seg_index_find_seq(const struct seg_index *ix, unsigned partition, uint64_t seq)
{
    size_t lo = 0, hi = ix->n;

    while (lo < hi) { /* lo: the first place that is too far */
        size_t mid = lo + (hi - lo) / 2;
        if (ix->last[mid * ix->partitions + partition].seq < seq) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo == 0 ? SEG_HEAD_BYTES : ix->off[lo - 1];
}

uint64_t seg_index_find_time(const struct seg_index *ix, unsigned partition, int64_t ts)
{
    size_t lo = 0, hi = ix->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ix->last[mid * ix->partitions + partition].ts < ts) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo == 0 ? SEG_HEAD_BYTES : ix->off[lo - 1];
}

static void write_u64(struct buf *b, uint64_t v)
{
    uint8_t le[8];

    seg_put_u64(le, v);
    buf_add(b, span_of(le, sizeof(le)));
}

static void write_pairs(struct buf *b, const struct seg_base *last, unsigned n)
{
    for (unsigned p = 0; p < n; p++) {
        write_u64(b, last[p].seq);
        write_u64(b, (uint64_t)last[p].ts);
    }
}

void seg_index_write(const struct seg_index *ix, const struct seg_base *last, uint64_t end,
                     struct buf *b)
{
    for (size_t i = 0; i < ix->n; i++) {
        write_u64(b, ix->off[i]);
        write_pairs(b, &ix->last[i * ix->partitions], ix->partitions);
    }
    write_pairs(b, last, ix->partitions);
    write_u64(b, end);
}

/* Reads one place, or the last numbers; false when anything goes back. */
static bool read_pairs(const uint8_t *p, unsigned n, const struct seg_base *before,
                       struct seg_base *ret)
{
    for (unsigned i = 0; i < n; i++) {
        ret[i].seq = seg_get_u64(p + (size_t)i * PAIR_BYTES);
        ret[i].ts = (int64_t)seg_get_u64(p + (size_t)i * PAIR_BYTES + 8);
        if (before != NULL && (ret[i].seq < before[i].seq || ret[i].ts < before[i].ts)) {
            return false;
        }
    }
    return true;
}

enum err seg_index_read(struct span s, uint64_t end, struct seg_index *ret_ix,
                        struct seg_base *ret_last)
{
    const size_t pairs = (size_t)ret_ix->partitions * PAIR_BYTES;
    const size_t place = 8 + pairs;
    uint64_t before = 0;
    size_t n;

    if (s.n < pairs + SEG_SEAL_TAIL || (s.n - pairs - SEG_SEAL_TAIL) % place != 0 ||
        seg_get_u64(s.p + s.n - SEG_SEAL_TAIL) != end) {
        return E_CORRUPT;
    }
    n = (s.n - pairs - SEG_SEAL_TAIL) / place;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = s.p + i * place;
        uint64_t off = seg_get_u64(p);
        const struct seg_base *last;

        if (off < SEG_HEAD_BYTES || off > end || (i != 0 && off <= before)) {
            return E_CORRUPT;
        }
        if (i == ret_ix->cap && !grow(ret_ix)) {
            return E_NOMEM;
        }
        last = i == 0 ? NULL : &ret_ix->last[(i - 1) * ret_ix->partitions];
        if (!read_pairs(p + 8, ret_ix->partitions, last, &ret_ix->last[i * ret_ix->partitions])) {
            return E_CORRUPT;
        }
        ret_ix->off[i] = before = off;
        ret_ix->n = i + 1;
    }
    return read_pairs(s.p + n * place, ret_ix->partitions,
                      n == 0 ? NULL : &ret_ix->last[(n - 1) * ret_ix->partitions], ret_last)
               ? OK
               : E_CORRUPT;
}
