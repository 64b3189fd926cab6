/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segscan.h"

#include <stdlib.h>

#include "base/crc32c.h"

/* What is read at once, and what stays allocated between reads. */
#define CHUNK (64u << 10)

void segscan_init(struct segscan *s, const struct fileio *io, int fd, unsigned partitions,
                  uint64_t salt)
{
    *s = (struct segscan){.io = io, .fd = fd, .partitions = partitions, .salt = salt};
}

void segscan_done(struct segscan *s)
{
    free(s->buf);
    s->buf = NULL;
    s->cap = s->buf_n = 0;
}

void segscan_set(struct segscan *s, uint64_t off, uint64_t end)
{
    s->off = off;
    s->end = end;
    s->buf_n = 0;
}

void segscan_trim(struct segscan *s)
{
    if (s->cap > CHUNK) {
        segscan_done(s);
    }
}

static enum err fill(struct segscan *s, uint64_t off, size_t n)
{
    size_t want = MAX(n, (size_t)MIN((uint64_t)CHUNK, s->end - off));
    enum err e;

    if (want > s->cap) {
        uint8_t *more = malloc(MAX(want, CHUNK));
        if (more == NULL) {
            return E_NOMEM;
        }
        free(s->buf);
        s->buf = more;
        s->cap = MAX(want, CHUNK);
    }
    s->buf_n = 0;
    if ((e = fileio_read(s->io, s->fd, s->buf, want, off)) != OK) {
        return e == E_TRUNCATED ? E_CORRUPT : e; /* the file is shorter than it was said to be */
    }
    s->buf_off = off;
    s->buf_n = want;
    return OK;
}

enum err segscan_bytes(struct segscan *s, uint64_t off, size_t n, const uint8_t **ret)
{
    if (off > s->end || n > s->end - off) {
        return E_CORRUPT;
    }
    if (off < s->buf_off || off - s->buf_off > s->buf_n || n > s->buf_n - (off - s->buf_off)) {
        enum err e = fill(s, off, n);
        if (e != OK) {
            return e;
        }
    }
    *ret = s->buf + (off - s->buf_off);
    return OK;
}

enum err segscan_head(struct segscan *s, struct seg_rec *ret)
{
    const uint8_t *p = NULL;
    struct seg_rec r;
    enum err e = segscan_bytes(s, s->off, SEG_REC_BYTES, &p);

    if (e != OK) {
        return e;
    }
    if (!seg_rec_read(p, s->salt, s->off, s->partitions, &r) ||
        r.data_n > s->end - s->off - SEG_REC_BYTES) {
        return E_CORRUPT;
    }
    *ret = r;
    return OK;
}

enum err segscan_data(struct segscan *s, const struct seg_rec *r, struct span *ret)
{
    const uint8_t *p = NULL;
    enum err e = segscan_bytes(s, s->off, SEG_REC_BYTES + (size_t)r->data_n, &p);

    if (e != OK) {
        return e;
    }
    p += SEG_REC_BYTES;
    if (crc32c(0, p, r->data_n) != r->data_crc) {
        return E_CORRUPT;
    }
    *ret = span_of(p, r->data_n);
    return OK;
}
