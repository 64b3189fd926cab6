/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

bool segment_path(const struct seg_place *at, uint64_t number, char *dst, size_t n)
{
    int len = snprintf(dst, n, "%s/%0*" PRIu64 SEG_SUFFIX, at->dir, SEG_NAME_DIGITS, number);

    return len > 0 && (size_t)len < n;
}

static enum err path_too_long(struct err_info *info)
{
    return err_set(info, E_CONFIG, "path of the log folder is too long");
}

struct segment *segment_new(const struct seg_place *at, uint64_t number, uint64_t prev_end,
                            const struct seg_base *base)
{
    struct segment *seg = mem_new(sizeof(*seg) + at->partitions * sizeof(seg->base[0]));

    if (seg != NULL) {
        seg->head =
            (struct seg_head){.number = number, .prev_end = prev_end, .partitions = at->partitions};
        random_bytes(&seg->head.salt, sizeof(seg->head.salt));
        (void)memcpy(seg->base, base, at->partitions * sizeof(seg->base[0]));
    }
    return seg;
}

/* --- making -------------------------------------------------------------------------------- */

static enum err write_head(const struct seg_place *at, const struct segment *seg, const char *tmp,
                           int *ret_fd, struct err_info *info)
{
    uint8_t head[SEG_HEAD_BYTES];
    AUTO(fileio_close)
    int fd = at->io->open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    enum err e;

    if (fd < 0) {
        return err_set_errno(info, errno, "cannot make \"%s\"", tmp);
    }
    seg_head_write(head, &seg->head, seg->base);
    if ((e = fileio_write(at->io, fd, span_of(head, sizeof(head)), 0)) != OK) {
        return err_set(info, e, "cannot write \"%s\": %s", tmp, err_text(e));
    }
    if (at->io->fdatasync(fd) != 0) {
        return err_set_errno(info, errno, "cannot sync \"%s\"", tmp);
    }
    *ret_fd = fd;
    fd = -1;
    return OK;
}

enum err segment_create(const struct seg_place *at, const struct segment *seg, int *ret_fd,
                        bool *ret_stands, struct err_info *info)
{
    char tmp[PATH_MAX], path[PATH_MAX];
    int n = snprintf(tmp, sizeof(tmp), "%s/" SEG_TMP, at->dir);
    int fd = -1;
    enum err e;

    if (n < 0 || (size_t)n >= sizeof(tmp) ||
        !segment_path(at, seg->head.number, path, sizeof(path))) {
        return path_too_long(info);
    }
    (void)unlink(tmp); /* of a making that was interrupted */
    if ((e = write_head(at, seg, tmp, &fd, info)) != OK) {
        (void)unlink(tmp); /* best effort: the next making does it too */
        return e;
    }
    if (at->io->rename(tmp, path) != 0) {
        e = err_set_errno(info, errno, "cannot make \"%s\"", path);
        fileio_close(&fd);
        (void)unlink(tmp); /* as above */
        return e;
    }
    *ret_stands = true;
    if (at->io->sync_dir(at->dir) != 0) {
        e = err_set_errno(info, errno, "cannot sync \"%s\"", at->dir);
        fileio_close(&fd);
        return e;
    }
    *ret_fd = fd;
    return OK;
}

enum err segment_unlink(const struct seg_place *at, uint64_t number)
{
    char path[PATH_MAX];

    if (!segment_path(at, number, path, sizeof(path))) {
        return E_CONFIG;
    }
    return unlink(path) == 0 || errno == ENOENT ? OK : err_from_errno(errno);
}

/* --- loading ------------------------------------------------------------------------------- */

enum err segment_open(const struct seg_place *at, uint64_t number, int flags, int *ret_fd)
{
    char path[PATH_MAX];
    int fd;

    if (!segment_path(at, number, path, sizeof(path))) {
        return E_CONFIG;
    }
    if ((fd = at->io->open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0)) < 0) {
        return errno == ENOENT ? E_NOT_FOUND : err_from_errno(errno);
    }
    *ret_fd = fd;
    return OK;
}

static enum err check_head(const struct seg_place *at, uint64_t number, const struct seg_head *h,
                           struct err_info *info)
{
    if (h->number != number) {
        return err_set(info, E_CORRUPT, "holds segment %" PRIu64, h->number);
    }
    if (h->partitions != at->partitions) {
        return err_set(info, E_CONFIG, "the log has %u partitions, the configuration says %u",
                       h->partitions, at->partitions);
    }
    return OK;
}

static enum err load(const struct seg_place *at, uint64_t number, struct segment *seg,
                     struct err_info *info)
{
    AUTO(fileio_close) int fd = -1;
    uint8_t head[SEG_HEAD_BYTES];
    struct seg_base base[LIMIT_LOG_PARTITIONS];
    enum err e;

    if ((e = segment_open(at, number, O_RDONLY, &fd)) != OK ||
        (e = fileio_read(at->io, fd, head, sizeof(head), 0)) != OK) {
        return e == E_TRUNCATED ? err_set(info, E_CORRUPT, "not a segment of a log")
                                : err_set(info, e, "cannot be read: %s", err_text(e));
    }
    if ((e = seg_head_read(head, &seg->head, base, LIMIT_LOG_PARTITIONS, info)) != OK ||
        (e = check_head(at, number, &seg->head, info)) != OK) {
        return e;
    }
    (void)memcpy(seg->base, base, at->partitions * sizeof(seg->base[0]));
    if ((e = fileio_size(fd, &seg->bytes)) != OK) {
        return err_set(info, e, "cannot be read: %s", err_text(e));
    }
    return OK;
}

enum err segment_load(const struct seg_place *at, uint64_t number, struct segment **ret,
                      struct err_info *info)
{
    AUTO(mem_free_p)
    struct segment *seg = mem_new(sizeof(*seg) + at->partitions * sizeof(seg->base[0]));
    enum err e;

    if (seg == NULL) {
        return err_set(info, E_NOMEM, "no memory for a segment");
    }
    if ((e = load(at, number, seg, info)) != OK) {
        return err_wrap(info, e, "segment \"%s/%0*" PRIu64 SEG_SUFFIX "\"", at->dir,
                        SEG_NAME_DIGITS, number);
    }
    *ret = TAKE(seg);
    return OK;
}

/* --- the folder ---------------------------------------------------------------------------- */

static bool parse_name(const char *name, uint64_t *ret)
{
    struct span s = span_str(name);

    return s.n == SEG_NAME_DIGITS + sizeof(SEG_SUFFIX) - 1 && span_ends(s, SPAN_LIT(SEG_SUFFIX)) &&
           span_to_u64(span_sub(s, 0, SEG_NAME_DIGITS), ret);
}

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

enum err segment_list(const struct seg_place *at, uint64_t **ret, size_t *ret_n,
                      struct err_info *info)
{
    uint64_t *v = NULL;
    size_t n = 0, cap = 0;
    DIR *d = opendir(at->dir);
    struct dirent *entry;
    enum err e = OK;

    if (d == NULL) {
        return err_set(info, err_from_errno(errno), "cannot list \"%s\": %s", at->dir,
                       strerror(errno));
    }
    while (e == OK && (entry = readdir(d)) != NULL) {
        uint64_t number;
        if (!parse_name(entry->d_name, &number)) {
            continue;
        }
        if (n == cap) {
            uint64_t *more = realloc(v, (cap + 256) * sizeof(*v));
            e = more == NULL ? err_set(info, E_NOMEM, "no memory for segments") : OK;
            v = more != NULL ? more : v;
            cap += 256;
        }
        if (e == OK) {
            v[n++] = number;
        }
    }
    (void)closedir(d); /* only read */
    if (e != OK) {
        free(v);
        return e;
    }
    if (n != 0) {
        qsort(v, n, sizeof(*v), by_number);
    }
    *ret = v;
    *ret_n = n;
    return OK;
}

enum err segment_follows(const struct seg_place *at, const struct segment *a,
                         const struct segment *b, struct err_info *info)
{
    if (b->head.number != a->head.number + 1) {
        return err_set(info, E_CORRUPT,
                       "segment %" PRIu64 " of \"%s\" is missing, the next one is there",
                       a->head.number + 1, at->dir);
    }
    if (b->head.prev_end < SEG_HEAD_BYTES || a->bytes < b->head.prev_end) {
        return err_set(info, E_CORRUPT,
                       "segment %" PRIu64 " of \"%s\" has %" PRIu64 " bytes, it had %" PRIu64
                       " when the next one was begun",
                       a->head.number, at->dir, a->bytes, b->head.prev_end);
    }
    for (unsigned p = 0; p < at->partitions; p++) {
        if (b->base[p].seq < a->base[p].seq || b->base[p].ts < a->base[p].ts) {
            return err_set(info, E_CORRUPT,
                           "segment %" PRIu64 " of \"%s\": numbers of partition %u go backwards",
                           b->head.number, at->dir, p);
        }
    }
    return OK;
}
