/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment file of the log with foreign or damaged bytes: opened, recovered, read. The first byte says what the rest is:
 *   bit 0   records whose checksums are made right, so that the fuzzer gets behind them
 *   bit 1   the head as well (else a good head is put before it)
 * What must hold: recovering again changes nothing; what was read through is read again whole, from the beginning, by the index and
 * by a time.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "store/segreader.h"
#include "store/segrecover.h"

#define PARTS 2u
#define SALT 7u
#define FILE_MAX (1u << 20)

static int mem = -1; /* the file, in memory */

static int mem_open(const char *path, int flags, mode_t mode)
{
    (void)path;
    (void)flags;
    (void)mode;
    return dup(mem);
}

static int mem_sync(int fd)
{
    (void)fd;
    return 0;
}

static void repair(uint8_t *p, size_t n)
{
    for (size_t at = SEG_HEAD_BYTES; at + SEG_REC_BYTES <= n;) {
        size_t left = n - at - SEG_REC_BYTES;
        struct seg_rec r = {
            .seq = seg_get_u64(p + at + 8),
            .ts = (int64_t)seg_get_u64(p + at + 16),
            .data_n = (uint32_t)(seg_get_u32(p + at + 24) % (left + 1)),
            .meta_n = seg_get_u32(p + at + 28),
            .partition = seg_get_u16(p + at + 32),
            .flags = seg_get_u16(p + at + 34),
        };
        r.data_crc = crc32c(0, p + at + SEG_REC_BYTES, r.data_n);
        seg_rec_write(p + at, &r, SALT, at);
        at += SEG_REC_BYTES + r.data_n;
    }
}

struct seen {
    uint64_t next;
    uint64_t rows;
};

static bool on_row(void *arg, const struct seglog_row *row)
{
    struct seen *s = arg;
    ASSERT(row->seq == s->next);
    s->next++;
    s->rows++;
    fuzz_touch(row->meta);
    fuzz_touch(row->body);
    return true;
}

static void read_rows(const struct seg_place *at, const struct segment *seg,
                      const struct seg_base *last, uint64_t end, bool is_checked)
{
    for (unsigned i = 0; i < 2 * PARTS; i++) {
        unsigned p = i / 2;
        struct slice s = {1, seg->base[p].seq + 1, last[p].seq, 0, end, i % 2 == 0};
        struct seen seen = {.next = s.lo};
        struct seg_read r = {p, s.lo, s.hi, SIZE_MAX, SIZE_MAX, on_row, &seen};
        struct segreader *reader = NULL;
        uint64_t found = 0;
        if (s.lo > s.hi || s.hi == UINT64_MAX) {
            continue;
        }
        if (segreader_open(at, 1, &reader) != OK) {
            abort();
        }
        enum err e = segreader_read(reader, s, &r);
        ASSERT(!is_checked || (e == OK && seen.rows == s.hi - s.lo + 1));
        e = segreader_find_time(reader, p, s, last[p].ts, &found);
        ASSERT(!is_checked || (e == OK && found >= s.lo && found <= s.hi));
        s.lo = s.hi;
        seen.next = r.from = s.lo;
        e = segreader_read(reader, s, &r);
        ASSERT(!is_checked || e == OK);
        segreader_free(reader);
    }
}

/* True when the file does not end with a seal that was believed. */
static bool recover(const struct seg_place *at, const struct segment *seg, struct seg_base *last,
                    struct seg_found *found)
{
    struct seg_index ix;
    seg_index_init(&ix, PARTS, 64);
    *found = (struct seg_found){.fd = -1};
    enum err e = seg_recover(at, seg, &ix, last, found, NULL);
    seg_index_done(&ix);
    fileio_close(&found->fd);
    return e == OK;
}

static void try_file(const struct seg_place *at)
{
    AUTO(mem_free_p) struct segment *seg = NULL;
    struct seg_base last[PARTS], again[PARTS];
    struct seg_found f, g;
    if (segment_load(at, 1, &seg, NULL) != OK || !recover(at, seg, last, &f)) {
        return;
    }
    read_rows(at, seg, last, f.end,
              false); /* a seal is believed: then the rows were not looked at */
    bool same = recover(at, seg, again, &g); /* the seal is cut off now, so they are */
    ASSERT(!same || (g.end <= f.end && g.cut <= f.end));
    if (same) {
        read_rows(at, seg, again, g.end, true);
        ASSERT(recover(at, seg, last, &f) && f.end == g.end && f.cut == 0);
        ASSERT(last[0].seq == again[0].seq && last[1].seq == again[1].seq);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct seg_head head = {.number = 1, .salt = SALT, .partitions = PARTS};
    static const struct seg_base base[PARTS] = {{5, 100}, {0, 0}};
    struct fileio io = *fileio_system();
    const struct seg_place at = {"mem", &io, PARTS};
    if (n == 0 || n > FILE_MAX) {
        return 0;
    }
    if (mem < 0) {
        mem = memfd_create("segment", MFD_CLOEXEC);
        ASSERT(mem >= 0);
    }
    io.open = mem_open;
    io.fdatasync = mem_sync;
    size_t from = (data[0] & 2) != 0 ? 0 : SEG_HEAD_BYTES;
    AUTO(mem_free_p) uint8_t *p = mem_new(from + n);
    ASSERT(p != NULL);
    memcpy(p + from, data + 1, n - 1);
    if (from != 0) {
        seg_head_write(p, &head, base);
    }
    if ((data[0] & 1) != 0) {
        repair(p, from + n - 1);
    }
    ASSERT(ftruncate(mem, 0) == 0 && fileio_write(&io, mem, span_of(p, from + n - 1), 0) == OK);
    try_file(&at);
    return 0;
}
