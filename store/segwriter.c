/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segwriter.h"

#include <errno.h>
#include <stdlib.h>

#include "base/crc32c.h"

/* Bytes that are gathered into one write; a commit that is longer takes more of them. */
#define BUF_BYTES (256u << 10)
/* A body from this size on is not copied. */
#define BIG (64u << 10)
#define AHEAD_MAX (4u << 20)
#define AHEAD_MIN (64u << 10)

enum err seg_writer_init(struct seg_writer *w, const struct fileio *io, uint64_t segment_bytes)
{
    *w = (struct seg_writer){.io = io, .fd = -1};
    w->ahead = MIN(MAX(segment_bytes, AHEAD_MIN), AHEAD_MAX);
    w->buf = malloc(BUF_BYTES);
    return w->buf == NULL ? E_NOMEM : OK;
}

void seg_writer_done(struct seg_writer *w)
{
    if (w->io != NULL) {
        fileio_close(&w->fd);
    }
    free(w->buf);
    w->buf = NULL;
}

void seg_writer_start(struct seg_writer *w, int fd, uint64_t salt, uint64_t end)
{
    ASSERT(w->fd < 0);
    w->fd = fd;
    w->salt = salt;
    w->end = w->at = w->room = end;
    w->buf_n = 0;
}

void seg_writer_close(struct seg_writer *w)
{
    fileio_close(&w->fd);
}

void seg_writer_begin(struct seg_writer *w, size_t n, size_t bytes)
{
    uint64_t need = w->end + (uint64_t)n * SEG_REC_BYTES + bytes;

    w->at = w->buf_at = w->end;
    w->buf_n = 0;
    w->flags = SEG_FIRST;
    if (need > w->room) {
        uint64_t room = need + w->ahead;
        /* Without it a write is slower, or says itself that the disk is full. */
        if (w->io->allocate(w->fd, (off_t)w->room, (off_t)(room - w->room)) == 0) {
            w->room = room;
        }
    }
}

enum err seg_writer_flush(struct seg_writer *w)
{
    enum err e = fileio_write(w->io, w->fd, span_of(w->buf, w->buf_n), w->buf_at);

    w->buf_at += w->buf_n;
    w->buf_n = 0;
    w->room = MAX(w->room, w->buf_at);
    return e;
}

/* Into the buffer, or, when it is long, past it. */
static enum err stage(struct seg_writer *w, struct span s)
{
    enum err e;

    if (s.n > BUF_BYTES - w->buf_n && (e = seg_writer_flush(w)) != OK) {
        return e;
    }
    if (s.n >= BIG) {
        if ((e = seg_writer_flush(w)) != OK ||
            (e = fileio_write(w->io, w->fd, s, w->buf_at)) != OK) {
            return e;
        }
        w->buf_at += s.n;
        w->room = MAX(w->room, w->buf_at);
    } else if (s.n != 0) {
        (void)memcpy(w->buf + w->buf_n, s.p, s.n);
        w->buf_n += s.n;
    }
    w->at += s.n;
    return OK;
}

enum err seg_writer_add(struct seg_writer *w, unsigned partition, struct seg_base at,
                        struct span meta, struct span body, bool is_last)
{
    uint8_t head[SEG_REC_BYTES];
    struct seg_rec r = {
        .seq = at.seq,
        .ts = at.ts,
        .data_n = (uint32_t)(meta.n + body.n),
        .meta_n = (uint32_t)meta.n,
        .partition = (uint16_t)partition,
        .flags =
            (uint16_t)(w->flags | (is_last ? SEG_LAST : 0) | (meta.p == NULL ? SEG_NO_META : 0) |
                       (body.p == NULL ? SEG_NO_BODY : 0)),
    };
    enum err e;

    if (meta.n > SEG_DATA_MAX || body.n > SEG_DATA_MAX - meta.n) {
        return E_TOO_LARGE;
    }
    r.data_crc = crc32c(crc32c(0, meta.p, meta.n), body.p, body.n);
    seg_rec_write(head, &r, w->salt, w->at);
    w->flags = 0;
    if ((e = stage(w, span_of(head, sizeof(head)))) != OK || (e = stage(w, meta)) != OK) {
        return e;
    }
    return stage(w, body);
}

enum err seg_writer_sync(struct seg_writer *w)
{
    ASSERT(w->buf_n == 0);
    if (w->io->fdatasync(w->fd) != 0) {
        return err_from_errno(errno);
    }
    w->end = w->at;
    return OK;
}

enum err seg_writer_undo(struct seg_writer *w)
{
    if (w->io->ftruncate(w->fd, (off_t)w->end) != 0) {
        return err_from_errno(errno);
    }
    w->room = w->at = w->end;
    w->buf_n = 0;
    return OK;
}

void seg_writer_seal(struct seg_writer *w, struct span data)
{
    uint8_t head[SEG_REC_BYTES];
    const struct seg_rec r = {
        .data_n = (uint32_t)data.n,
        .data_crc = crc32c(0, data.p, data.n),
        .flags = SEG_FIRST | SEG_LAST | SEG_SEAL,
    };
    uint64_t end = w->end + SEG_REC_BYTES + data.n;

    if (data.n > SEG_DATA_MAX) {
        return;
    }
    seg_rec_write(head, &r, w->salt, w->end);
    if (w->io->ftruncate(w->fd, (off_t)w->end) == 0 &&
        fileio_write(w->io, w->fd, span_of(head, sizeof(head)), w->end) == OK &&
        fileio_write(w->io, w->fd, data, w->end + SEG_REC_BYTES) == OK) {
        (void)!w->io->fdatasync(w->fd); /* a seal that is not whole is no seal */
    }
    w->room = end;
}
