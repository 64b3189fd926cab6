/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segment.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FORMAT 1 /* user_version */

bool segment_path(const struct seg_place *at, uint64_t number, char *dst, size_t n)
{
    int len = snprintf(dst, n, "%s/%0*" PRIu64 SEG_SUFFIX, at->dir, SEG_NAME_DIGITS, number);

    return len > 0 && (size_t)len < n;
}

static enum err path_too_long(struct err_info *info)
{
    return err_set(info, E_CONFIG, "path of the log folder is too long");
}

struct segment *segment_new(const struct seg_place *at, uint64_t number,
                            const struct seg_base *base)
{
    struct segment *seg = mem_new(sizeof(*seg) + at->partitions * sizeof(seg->base[0]));

    if (seg != NULL) {
        seg->number = number;
        (void)memcpy(seg->base, base, at->partitions * sizeof(seg->base[0]));
    }
    return seg;
}

/* --- making -------------------------------------------------------------------------------- */

static enum err fill_partition(sqlite3 *h, unsigned p, const struct seg_base *base,
                               struct err_info *info)
{
    char sql[256];

    (void)snprintf(sql, sizeof(sql),
                   "CREATE TABLE p%u(seq INTEGER PRIMARY KEY, ts INTEGER NOT NULL, meta BLOB,"
                   " body BLOB);"
                   "INSERT INTO base(partition, seq, ts) VALUES(%u, %" PRIu64 ", %" PRId64 ")",
                   p, p, base->seq, base->ts);
    return lite_exec(h, sql, info);
}

static enum err fill(sqlite3 *h, const struct seg_place *at, const struct segment *seg,
                     struct err_info *info)
{
    char sql[320];
    enum err e;

    (void)snprintf(sql, sizeof(sql),
                   "BEGIN; PRAGMA user_version=%d;"
                   "CREATE TABLE segment(number INTEGER NOT NULL, partitions INTEGER NOT NULL);"
                   "CREATE TABLE base(partition INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
                   " ts INTEGER NOT NULL);"
                   "INSERT INTO segment VALUES(%" PRIu64 ", %u)",
                   FORMAT, seg->number, at->partitions);
    e = lite_exec(h, sql, info);
    for (unsigned p = 0; p < at->partitions && e == OK; p++) {
        e = fill_partition(h, p, &seg->base[p], info);
    }
    return e != OK ? e : lite_exec(h, "COMMIT", info);
}

enum err segment_create(const struct seg_place *at, const struct segment *seg,
                        struct err_info *info)
{
    char tmp[PATH_MAX], path[PATH_MAX];
    int n = snprintf(tmp, sizeof(tmp), "%s/" SEG_TMP, at->dir);
    sqlite3 *h = NULL;
    enum err e;

    if (n < 0 || (size_t)n >= sizeof(tmp) || !segment_path(at, seg->number, path, sizeof(path))) {
        return path_too_long(info);
    }
    lite_unlink(tmp); /* of a making that was interrupted */
    if ((e = lite_create_file(tmp, info)) != OK ||
        (e = lite_open(tmp, at->vfs, LITE_OFFLINE, &h, info)) != OK ||
        (e = fill(h, at, seg, info)) != OK) {
        lite_close(h);
        lite_unlink(tmp);
        return e;
    }
    lite_close(h);
    if (rename(tmp, path) != 0) {
        e = err_set(info, err_from_errno(errno), "cannot make \"%s\": %s", path, strerror(errno));
        lite_unlink(tmp);
    }
    return e;
}

uint64_t segment_file_bytes(const struct seg_place *at, uint64_t number)
{
    char path[PATH_MAX];
    struct stat st;

    if (!segment_path(at, number, path, sizeof(path)) || stat(path, &st) != 0) {
        return 0;
    }
    return (uint64_t)st.st_size;
}

void segment_unlink(const struct seg_place *at, uint64_t number)
{
    char path[PATH_MAX];

    if (segment_path(at, number, path, sizeof(path))) {
        lite_unlink(path);
    }
}

/* --- loading ------------------------------------------------------------------------------- */

static enum err check_head(sqlite3 *h, const struct seg_place *at, uint64_t number,
                           struct err_info *info)
{
    int64_t format = 0, partitions = 0, own = 0;
    enum err e;

    if ((e = lite_get_i64(h, "PRAGMA user_version", 0, &format, info)) != OK) {
        return e;
    }
    if (format > FORMAT) {
        return err_set(info, E_CONFIG, "the log is of a newer format: install the newer program");
    }
    if ((e = lite_get_i64(h, "SELECT number FROM segment", -1, &own, info)) != OK ||
        (e = lite_get_i64(h, "SELECT partitions FROM segment", 0, &partitions, info)) != OK) {
        return e == E_DB ? err_set(info, E_CORRUPT, "not a segment of a log") : e;
    }
    if (own < 0 || (uint64_t)own != number) {
        return err_set(info, E_CORRUPT, "holds segment %" PRId64, own);
    }
    if (partitions != (int64_t)at->partitions) {
        return err_set(info, E_CONFIG,
                       "the log has %" PRId64 " partitions, the configuration says %u", partitions,
                       at->partitions);
    }
    return OK;
}

static enum err load_base(sqlite3 *h, const struct seg_place *at, struct segment *seg,
                          struct err_info *info)
{
    sqlite3_stmt *st = NULL;
    unsigned n = 0;
    enum err e =
        lite_prepare(h, "SELECT partition, seq, ts FROM base ORDER BY partition", &st, info);
    int rc = SQLITE_DONE;

    if (e != OK) {
        return e;
    }
    while (n <= at->partitions && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (n < at->partitions && sqlite3_column_int64(st, 0) == (int64_t)n) {
            seg->base[n].seq = (uint64_t)sqlite3_column_int64(st, 1);
            seg->base[n].ts = sqlite3_column_int64(st, 2);
        }
        n++;
    }
    if (rc != SQLITE_DONE && rc != SQLITE_ROW) {
        e = lite_fail(h, rc, "base numbers", info);
    } else if (n != at->partitions) {
        e = err_set(info, E_CORRUPT, "base numbers are not complete");
    }
    (void)sqlite3_finalize(st); /* repeats the error of the step */
    return e;
}

/* A log that a crash left: the WAL, or the rollback journal under which the file was about to become one with a WAL. */
static bool has_leftover(const char *path)
{
    static const char *const suffixes[] = {"-wal", "-journal"};
    char name[PATH_MAX];
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        int n = snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
        if (n > 0 && (size_t)n < sizeof(name) && stat(name, &st) == 0 && st.st_size != 0) {
            return true;
        }
    }
    return false;
}

AUTO_FREE_FN(sqlite3, lite_close)

/* What a crash left beside a segment must be on disk, or undone, before anybody reads it: a reader may do neither. */
static enum err settle(const struct seg_place *at, const char *path, struct err_info *info)
{
    struct lite_writer w = {0};
    enum err e = lite_writer_open(&w, path, at->vfs, info);

    lite_writer_close(&w);
    return e;
}

enum err segment_load(const struct seg_place *at, uint64_t number, struct segment **ret,
                      struct err_info *info)
{
    AUTO(mem_free_p)
    struct segment *seg = mem_new(sizeof(*seg) + at->partitions * sizeof(seg->base[0]));
    AUTO(lite_close_p) sqlite3 *h = NULL;
    char path[PATH_MAX];
    enum err e;

    if (seg == NULL) {
        return err_set(info, E_NOMEM, "no memory for a segment");
    }
    if (!segment_path(at, number, path, sizeof(path))) {
        return path_too_long(info);
    }
    seg->number = number;
    if ((has_leftover(path) && (e = settle(at, path, info)) != OK) ||
        (e = lite_open(path, at->vfs, LITE_READER, &h, info)) != OK ||
        (e = check_head(h, at, number, info)) != OK || (e = load_base(h, at, seg, info)) != OK) {
        return err_wrap(info, e, "segment \"%s\"", path);
    }
    seg->bytes = segment_file_bytes(at, number);
    *ret = TAKE(seg);
    return OK;
}

/* --- writing ------------------------------------------------------------------------------- */

/* The last row of a partition, if there is one, moves *last on; the first may be the oldest. */
static enum err read_ends(sqlite3 *h, unsigned p, struct seg_base *last, int64_t *first_ts,
                          struct err_info *info)
{
    char sql[96];
    int64_t seq = 0, ts = 0, first = 0;
    enum err e;

    (void)snprintf(sql, sizeof(sql), "SELECT max(seq) FROM p%u", p);
    if ((e = lite_get_i64(h, sql, 0, &seq, info)) != OK || seq == 0) {
        return e;
    }
    (void)snprintf(sql, sizeof(sql), "SELECT ts FROM p%u ORDER BY seq DESC LIMIT 1", p);
    if ((e = lite_get_i64(h, sql, 0, &ts, info)) != OK) {
        return e;
    }
    (void)snprintf(sql, sizeof(sql), "SELECT ts FROM p%u ORDER BY seq LIMIT 1", p);
    if ((e = lite_get_i64(h, sql, 0, &first, info)) != OK) {
        return e;
    }
    if (seq < 0 || (uint64_t)seq <= last->seq || ts < last->ts) {
        return err_set(info, E_CORRUPT, "numbers of partition %u go backwards", p);
    }
    last->seq = (uint64_t)seq;
    last->ts = ts;
    *first_ts = *first_ts == 0 ? first : MIN(*first_ts, first);
    return OK;
}

static enum err prepare_inserts(struct seg_writer *sw, struct err_info *info)
{
    enum err e = OK;

    if ((sw->insert = mem_new(sw->partitions * sizeof(sqlite3_stmt *))) == NULL) {
        return err_set(info, E_NOMEM, "no memory for statements");
    }
    for (unsigned p = 0; p < sw->partitions && e == OK; p++) {
        char sql[96];
        (void)snprintf(sql, sizeof(sql),
                       "INSERT INTO p%u(seq, ts, meta, body) VALUES(?1, ?2, ?3, ?4)", p);
        e = lite_prepare(sw->w.h, sql, &sw->insert[p], info);
    }
    return e;
}

enum err seg_writer_open(struct seg_writer *sw, const struct seg_place *at,
                         const struct segment *seg, struct seg_base *ret_last,
                         int64_t *ret_first_ts, struct err_info *info)
{
    AUTO(mem_free_p) struct seg_base *last = mem_new(at->partitions * sizeof(*last));
    int64_t first_ts = 0;
    char path[PATH_MAX];
    enum err e;

    *sw = (struct seg_writer){.partitions = at->partitions};
    if (last == NULL) {
        return err_set(info, E_NOMEM, "no memory for numbers");
    }
    if (!segment_path(at, seg->number, path, sizeof(path))) {
        return path_too_long(info);
    }
    (void)memcpy(last, seg->base, at->partitions * sizeof(*last));
    e = lite_writer_open(&sw->w, path, at->vfs, info);
    for (unsigned p = 0; p < at->partitions && e == OK; p++) {
        e = read_ends(sw->w.h, p, &last[p], &first_ts, info);
    }
    if (e != OK || (e = prepare_inserts(sw, info)) != OK) {
        seg_writer_close(sw);
        return err_wrap(info, e, "segment \"%s\"", path);
    }
    (void)memcpy(ret_last, last, at->partitions * sizeof(*last));
    *ret_first_ts = first_ts;
    return OK;
}

enum err seg_writer_add(struct seg_writer *sw, unsigned partition, uint64_t seq, int64_t ts,
                        struct span meta, struct span body)
{
    sqlite3_stmt *st = sw->insert[partition];
    int rc;

    /* What stays bound after the call is bound anew before the statement runs again. */
    if ((rc = sqlite3_bind_int64(st, 1, (int64_t)seq)) != SQLITE_OK ||
        (rc = sqlite3_bind_int64(st, 2, ts)) != SQLITE_OK ||
        (rc = sqlite3_bind_blob64(st, 3, meta.p, meta.n, SQLITE_STATIC)) != SQLITE_OK ||
        (rc = sqlite3_bind_blob64(st, 4, body.p, body.n, SQLITE_STATIC)) != SQLITE_OK) {
        return lite_err(rc);
    }
    rc = sqlite3_step(st);
    (void)sqlite3_reset(st); /* repeats the error of the step */
    return lite_err(rc);
}

static void drop_inserts(struct seg_writer *sw)
{
    for (unsigned p = 0; sw->insert != NULL && p < sw->partitions; p++) {
        (void)sqlite3_finalize(sw->insert[p]); /* repeats the last error */
    }
    free(sw->insert);
    sw->insert = NULL;
}

enum err seg_writer_cut(struct seg_writer *sw, struct err_info *info)
{
    drop_inserts(sw);
    return lite_writer_cut(&sw->w, info);
}

void seg_writer_close(struct seg_writer *sw)
{
    drop_inserts(sw);
    lite_writer_close(&sw->w);
}
