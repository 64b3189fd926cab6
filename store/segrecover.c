/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segrecover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "store/segscan.h"

/* One look through the file. */
struct walk {
    struct segscan scan;
    struct seg_index *ix;
    struct seg_base *staged; /* of the commit that is being read */
    struct seg_base *last;   /* of the last whole one */
    uint64_t begin, end;     /* of the last whole one */
    bool is_sealed;
    uint64_t cut;
};

static enum err damaged(struct err_info *info, uint64_t off, const char *how)
{
    return err_set(info, E_CORRUPT, "damaged at byte %" PRIu64 ": %s", off, how);
}

/* --- by the seal --------------------------------------------------------------------------- */

/* E_CORRUPT: the file does not end with one. */
static enum err read_seal(struct walk *w, const struct segment *seg, uint64_t size)
{
    struct segscan *s = &w->scan;
    const uint8_t *tail = NULL;
    struct seg_rec r;
    struct span data;
    uint64_t end;
    enum err e;

    if (size < SEG_HEAD_BYTES + SEG_REC_BYTES + SEG_SEAL_TAIL) {
        return E_CORRUPT;
    }
    segscan_set(s, size - SEG_SEAL_TAIL, size);
    if ((e = segscan_bytes(s, s->off, SEG_SEAL_TAIL, &tail)) != OK) {
        return e;
    }
    end = seg_get_u64(tail);
    if (end < SEG_HEAD_BYTES || end > size - SEG_REC_BYTES) {
        return E_CORRUPT;
    }
    segscan_set(s, end, size);
    if ((e = segscan_head(s, &r)) != OK) {
        return e;
    }
    if ((r.flags & SEG_SEAL) == 0 || end + SEG_REC_BYTES + r.data_n != size) {
        return E_CORRUPT;
    }
    if ((e = segscan_data(s, &r, &data)) != OK ||
        (e = seg_index_read(data, end, w->ix, w->last)) != OK) {
        return e;
    }
    for (unsigned p = 0; p < seg->head.partitions; p++) {
        if (w->last[p].seq < seg->base[p].seq || w->last[p].ts < seg->base[p].ts) {
            return E_CORRUPT;
        }
    }
    w->end = end;
    w->is_sealed = true;
    return OK;
}

/* --- by the records ------------------------------------------------------------------------ */

/* Looks behind the damaged place for the begin of a later commit, and for how far there are bytes at all. */
static enum err look_behind(struct walk *w, uint64_t bad, struct err_info *info)
{
    struct segscan *s = &w->scan;
    uint64_t used = w->end;

    for (uint64_t off = bad + 1; s->end - off >= SEG_REC_BYTES && off < s->end;) {
        size_t n = (size_t)MIN(s->end - off, UINT64_C(65536));
        const uint8_t *p = NULL;
        struct seg_rec r;
        enum err e = segscan_bytes(s, off, n, &p);

        if (e != OK) {
            return e;
        }
        for (size_t i = 0; i + SEG_REC_BYTES <= n; i++) {
            used = p[i] != 0 ? off + i + 1 : used;
            if (seg_rec_may_be_first(p + i) &&
                seg_rec_read(p + i, s->salt, off + i, s->partitions, &r)) {
                return damaged(info, bad, "acknowledged rows, for later ones stand behind them");
            }
        }
        off += n - SEG_REC_BYTES + 1;
    }
    w->cut = used - w->end;
    return OK;
}

static enum err take_record(struct walk *w, const struct seg_rec *r, uint64_t *commit,
                            struct err_info *info)
{
    struct seg_base *at = &w->staged[r->partition];
    const size_t bytes = w->scan.partitions * sizeof(*at);

    if (((r->flags & SEG_FIRST) != 0) != (w->scan.off == *commit) || r->seq != at->seq + 1 ||
        r->ts < at->ts) {
        return damaged(info, w->scan.off, "this is not the row that comes next");
    }
    at->seq = r->seq;
    at->ts = r->ts;
    segscan_next(&w->scan, r);
    if ((r->flags & SEG_LAST) != 0) {
        (void)memcpy(w->last, w->staged, bytes);
        w->begin = *commit;
        w->end = *commit = w->scan.off;
        seg_index_note(w->ix, w->end, w->last);
    }
    return OK;
}

static enum err read_through(struct walk *w, const struct segment *seg, uint64_t size,
                             struct err_info *info)
{
    const size_t bytes = seg->head.partitions * sizeof(seg->base[0]);
    uint64_t commit = SEG_HEAD_BYTES;
    struct seg_rec r;
    struct span data;
    enum err e = OK;

    (void)memcpy(w->last, seg->base, bytes);
    (void)memcpy(w->staged, seg->base, bytes);
    w->begin = w->end = SEG_HEAD_BYTES;
    seg_index_clear(w->ix);
    seg_index_note(w->ix, SEG_HEAD_BYTES, w->last);
    segscan_set(&w->scan, SEG_HEAD_BYTES, size);
    while (w->scan.off < size && (e = segscan_head(&w->scan, &r)) == OK) {
        if ((r.flags & SEG_SEAL) != 0) {
            break; /* something stands behind a seal: it was to be cut off, and the rows before it are whole */
        }
        if ((e = segscan_data(&w->scan, &r, &data)) != OK) {
            break;
        }
        if ((e = take_record(w, &r, &commit, info)) != OK) {
            return e;
        }
    }
    if (e != OK && e != E_CORRUPT) {
        return e;
    }
    return w->scan.off < size ? look_behind(w, w->scan.off, info) : OK;
}

/* --- making it good ------------------------------------------------------------------------ */

static enum err write_again(const struct fileio *io, int fd, uint64_t from, uint64_t end)
{
    uint8_t b[16384];

    while (from < end) {
        size_t n = (size_t)MIN(end - from, sizeof(b));
        enum err e;
        if ((e = fileio_read(io, fd, b, n, from)) != OK ||
            (e = fileio_write(io, fd, span_of(b, n), from)) != OK) {
            return e;
        }
        from += n;
    }
    return OK;
}

static enum err settle(const struct walk *w, const struct fileio *io, int fd, struct err_info *info)
{
    enum err e = w->is_sealed ? OK : write_again(io, fd, w->begin, w->end);

    if (e != OK) {
        return err_set(info, e, "its last rows cannot be written again: %s", err_text(e));
    }
    if (io->ftruncate(fd, (off_t)w->end) != 0 || io->fdatasync(fd) != 0) {
        return err_set_errno(info, errno, "cannot be cut to its end");
    }
    return OK;
}

static enum err first_row(struct walk *w, int64_t *ret_ts, struct err_info *info)
{
    struct seg_rec r;
    enum err e;

    *ret_ts = 0;
    if (w->end == SEG_HEAD_BYTES) {
        return OK;
    }
    segscan_set(&w->scan, SEG_HEAD_BYTES, w->end);
    if ((e = segscan_head(&w->scan, &r)) != OK) {
        return e == E_CORRUPT ? damaged(info, SEG_HEAD_BYTES, "no row begins there")
                              : err_set(info, e, "cannot be read: %s", err_text(e));
    }
    *ret_ts = r.ts;
    return OK;
}

static enum err recover(struct walk *w, const struct seg_place *at, const struct segment *seg,
                        struct seg_found *ret, struct err_info *info)
{
    AUTO(fileio_close) int fd = -1;
    struct seg_found f = {.fd = -1};
    uint64_t size = 0;
    enum err e;

    if ((e = segment_open(at, seg->head.number, O_RDWR, &fd)) != OK ||
        (e = fileio_size(fd, &size)) != OK) {
        return err_set(info, e, "cannot be opened: %s", err_text(e));
    }
    segscan_init(&w->scan, at->io, fd, at->partitions, seg->head.salt);
    e = read_seal(w, seg, size);
    if (e == E_CORRUPT) {
        e = read_through(w, seg, size, info);
    }
    if (e != OK && e != E_CORRUPT) {
        return err_set(info, e, "cannot be read: %s", err_text(e));
    }
    if (e != OK || (e = first_row(w, &f.first_ts, info)) != OK ||
        (e = settle(w, at->io, fd, info)) != OK) {
        return e;
    }
    f.fd = fd;
    f.end = w->end;
    f.cut = w->cut;
    fd = -1;
    *ret = f;
    return OK;
}

enum err seg_recover(const struct seg_place *at, const struct segment *seg, struct seg_index *ix,
                     struct seg_base *ret_last, struct seg_found *ret, struct err_info *info)
{
    struct walk w = {.ix = ix, .last = ret_last};
    enum err e;

    seg_index_clear(ix);
    if ((w.staged = mem_new(at->partitions * sizeof(*w.staged))) == NULL) {
        return err_set(info, E_NOMEM, "no memory for numbers");
    }
    e = recover(&w, at, seg, ret, info);
    segscan_done(&w.scan);
    free(w.staged);
    return e == OK ? OK
                   : err_wrap(info, e, "segment \"%s/%0*" PRIu64 SEG_SUFFIX "\"", at->dir,
                              SEG_NAME_DIGITS, seg->head.number);
}
