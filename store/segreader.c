/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segreader.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/limits.h"

void segreader_free(struct segreader *r)
{
    if (r == NULL) {
        return;
    }
    segscan_done(&r->scan);
    seg_index_done(&r->index);
    fileio_close(&r->fd);
    free(r);
}

AUTO_FREE_FN(struct segreader, segreader_free)

void segreader_free_list(struct segreader *r)
{
    while (r != NULL) {
        struct segreader *next = r->next;
        segreader_free(r);
        r = next;
    }
}

enum err segreader_open(const struct seg_place *at, uint64_t number, struct segreader **ret)
{
    AUTO(segreader_free_p)
    struct segreader *r = mem_new(sizeof(*r) + at->partitions * sizeof(r->cursor[0]));
    uint8_t head[SEG_HEAD_BYTES];
    struct seg_base base[LIMIT_LOG_PARTITIONS];
    struct seg_head h;
    enum err e;

    if (r == NULL) {
        return E_NOMEM;
    }
    r->fd = -1;
    r->number = number;
    r->partitions = at->partitions;
    if ((e = segment_open(at, number, O_RDONLY, &r->fd)) != OK) {
        return e;
    }
    e = fileio_read(at->io, r->fd, head, sizeof(head), 0);
    if (e != OK) {
        return e == E_TRUNCATED ? E_CORRUPT : e;
    }
    if ((e = seg_head_read(head, &h, base, LIMIT_LOG_PARTITIONS, NULL)) != OK) {
        return e;
    }
    if (h.number != number || h.partitions != at->partitions) {
        return E_CORRUPT;
    }
    segscan_init(&r->scan, at->io, r->fd, at->partitions, h.salt);
    seg_index_init(&r->index, at->partitions, UINT64_C(1) << 20);
    *ret = TAKE(r);
    return OK;
}

/* --- the index ----------------------------------------------------------------------------- */

/* The seal behind the records. E_CORRUPT: there is none. */
static enum err read_seal(struct segreader *reader, uint64_t end)
{
    struct seg_base last[LIMIT_LOG_PARTITIONS];
    uint64_t size = 0;
    struct seg_rec r;
    struct span data;
    enum err e = fileio_size(reader->fd, &size);

    if (e != OK) {
        return e;
    }
    if (size < end) {
        return E_CORRUPT;
    }
    segscan_set(&reader->scan, end, size);
    if ((e = segscan_head(&reader->scan, &r)) != OK) {
        return e;
    }
    if ((r.flags & SEG_SEAL) == 0) {
        return E_CORRUPT;
    }
    if ((e = segscan_data(&reader->scan, &r, &data)) != OK) {
        return e;
    }
    seg_index_clear(&reader->index);
    return seg_index_read(data, end, &reader->index, last);
}

/* A segment that a crash or a failed sync ended has no seal: made from the heads of its records. */
static enum err make_index(struct segreader *reader, uint64_t end)
{
    struct seg_base last[LIMIT_LOG_PARTITIONS] = {0};
    struct segscan *s = &reader->scan;
    struct seg_rec r;

    seg_index_clear(&reader->index);
    segscan_set(s, SEG_HEAD_BYTES, end);
    while (s->off < end) {
        enum err e = segscan_head(s, &r);
        if (e != OK) {
            return e;
        }
        segscan_next(s, &r);
        last[r.partition] = (struct seg_base){r.seq, r.ts};
        if ((r.flags & SEG_LAST) != 0) {
            seg_index_note(&reader->index, s->off, last);
        }
    }
    return OK;
}

static enum err need_index(struct segreader *reader, const struct slice *s)
{
    enum err e;

    if (s->is_newest || reader->has_index) {
        return OK;
    }
    e = read_seal(reader, s->end);
    if (e == E_CORRUPT) {
        e = make_index(reader, s->end);
    }
    reader->has_index = e == OK;
    return e;
}

/* --- reading ------------------------------------------------------------------------------- */

/* Sets the scan to a place that is not behind row s.lo. */
static enum err seek(struct segreader *reader, unsigned partition, const struct slice *s)
{
    const struct seg_cursor *c = &reader->cursor[partition];
    uint64_t off = MAX(s->start, SEG_HEAD_BYTES);
    enum err e;

    if (c->off != 0 && c->seq == s->lo) {
        off = MAX(off, c->off);
    } else {
        if ((e = need_index(reader, s)) != OK) {
            return e;
        }
        if (reader->has_index) {
            off = MAX(off, seg_index_find_seq(&reader->index, partition, s->lo));
        }
    }
    segscan_set(&reader->scan, off, s->end);
    return OK;
}

static struct seglog_row row_of(const struct seg_rec *r, struct span data)
{
    struct seglog_row row = {r->seq, r->ts, span_sub(data, 0, r->meta_n),
                             span_from(data, r->meta_n)};

    if ((r->flags & SEG_NO_META) != 0) {
        row.meta = SPAN_NONE;
    }
    if ((r->flags & SEG_NO_BODY) != 0) {
        row.body = SPAN_NONE;
    }
    return row;
}

static void hand_out(struct seg_read *r, const struct seg_rec *rec, struct span data)
{
    struct seglog_row row = row_of(rec, data);

    r->from = row.seq + 1;
    r->max_rows--;
    r->max_bytes -= MIN(r->max_bytes, data.n);
    if (!r->fn(r->arg, &row)) {
        r->max_rows = 0;
    }
}

/* The next record of the partition with a number from `seq` on; none is left out. */
static enum err next_of(struct segscan *s, unsigned partition, uint64_t seq, struct seg_rec *ret)
{
    for (;;) {
        enum err e = s->off < s->end ? segscan_head(s, ret) : E_CORRUPT;

        if (e != OK) {
            return e;
        }
        if ((ret->flags & SEG_SEAL) != 0) {
            return E_CORRUPT;
        }
        if (ret->partition == partition && ret->seq >= seq) {
            return ret->seq == seq ? OK : E_CORRUPT;
        }
        segscan_next(s, ret);
    }
}

enum err segreader_read(struct segreader *reader, struct slice s, struct seg_read *r)
{
    struct segscan *scan = &reader->scan;
    struct seg_cursor *c = &reader->cursor[r->partition];
    enum err e = seek(reader, r->partition, &s);

    for (uint64_t seq = s.lo; e == OK && seq <= s.hi && r->max_rows != 0 && r->max_bytes != 0;
         seq++) {
        struct seg_rec rec;
        struct span data;

        if ((e = next_of(scan, r->partition, seq, &rec)) == OK &&
            (e = segscan_data(scan, &rec, &data)) == OK) {
            segscan_next(scan, &rec);
            *c = (struct seg_cursor){seq + 1, scan->off};
            hand_out(r, &rec, data);
        }
    }
    segscan_trim(scan);
    return e;
}

/* Times never go backwards, so the index says where to begin, and the first that is late enough is it. */
enum err segreader_find_time(struct segreader *reader, unsigned partition, struct slice s,
                             int64_t ts, uint64_t *ret_seq)
{
    struct segscan *scan = &reader->scan;
    uint64_t found = s.hi + 1;
    uint64_t off = MAX(s.start, SEG_HEAD_BYTES);
    enum err e = need_index(reader, &s);

    if (e != OK) {
        return e;
    }
    if (reader->has_index) {
        off = MAX(off, seg_index_find_time(&reader->index, partition, ts));
    }
    segscan_set(scan, off, s.end);
    while (scan->off < s.end) {
        struct seg_rec rec;

        if ((e = segscan_head(scan, &rec)) != OK) {
            return e;
        }
        if (rec.partition == partition && (rec.flags & SEG_SEAL) == 0 && rec.seq >= s.lo &&
            rec.ts >= ts) {
            found = MIN(rec.seq, found);
            break;
        }
        segscan_next(scan, &rec);
    }
    *ret_seq = found;
    return OK;
}
