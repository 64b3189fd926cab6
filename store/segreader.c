/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segreader.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"

void segreader_free(struct segreader *r)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < (size_t)r->partitions * SEGREADER_STMTS; i++) {
        (void)sqlite3_finalize(r->stmt[i]); /* repeats the last error */
    }
    lite_close(r->h);
    free(r);
}

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
    struct segreader *r;
    char path[PATH_MAX];
    enum err e;

    if (!segment_path(at, number, path, sizeof(path))) {
        return E_CONFIG;
    }
    r = mem_new(sizeof(*r) + (size_t)at->partitions * SEGREADER_STMTS * sizeof(r->stmt[0]));
    if (r == NULL) {
        return E_NOMEM;
    }
    r->number = number;
    r->partitions = at->partitions;
    if ((e = lite_open(path, at->vfs, LITE_READER, &r->h, NULL)) != OK) {
        segreader_free(r);
        return fs_exists(path) ? e : E_NOT_FOUND;
    }
    *ret = r;
    return OK;
}

static enum err stmt_of(struct segreader *r, unsigned partition, unsigned which, sqlite3_stmt **ret)
{
    sqlite3_stmt **slot = &r->stmt[(size_t)partition * SEGREADER_STMTS + which];
    enum err e = OK;

    if (*slot == NULL) {
        char sql[128];
        (void)snprintf(sql, sizeof(sql),
                       "SELECT seq, ts, %s FROM p%u WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq%s",
                       which == SEGREADER_ROWS ? "meta, body" : "NULL", partition,
                       which == SEGREADER_ROWS ? "" : " LIMIT 1");
        e = lite_prepare(r->h, sql, slot, NULL);
    }
    if (e == OK) {
        *ret = *slot;
    }
    return e;
}

static struct span column(sqlite3_stmt *st, int i)
{
    const void *p = sqlite3_column_blob(st, i);
    size_t n = (size_t)sqlite3_column_bytes(st, i);

    if (p == NULL && sqlite3_column_type(st, i) != SQLITE_NULL) {
        p = ""; /* SQLite gives NULL for an empty blob */
    }
    return span_of(p, n);
}

enum err segreader_read(struct segreader *reader, struct slice s, struct seg_read *r)
{
    sqlite3_stmt *st = NULL;
    enum err e = stmt_of(reader, r->partition, SEGREADER_ROWS, &st);
    int rc = SQLITE_DONE;

    if (e != OK || (e = lite_err(sqlite3_bind_int64(st, 1, (int64_t)s.lo))) != OK ||
        (e = lite_err(sqlite3_bind_int64(st, 2, (int64_t)s.hi))) != OK) {
        return e;
    }
    while (r->max_rows != 0 && r->max_bytes != 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct seglog_row row = {(uint64_t)sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                 column(st, 2), column(st, 3)};
        size_t n = row.meta.n + row.body.n;

        r->from = row.seq + 1;
        r->max_rows--;
        r->max_bytes -= MIN(r->max_bytes, n);
        if (!r->fn(r->arg, &row)) {
            r->max_rows = 0;
        }
    }
    if (rc == SQLITE_DONE && r->max_rows != 0 && r->max_bytes != 0) {
        r->from = s.hi + 1; /* the numbers may have been moved on: nothing to wait for */
    }
    (void)sqlite3_reset(st); /* repeats the error of the step */
    return rc == SQLITE_ROW ? OK : lite_err(rc);
}

/* Time of the first row at or after seq; false in *ret_found when there is none in the slice. */
static enum err probe(struct segreader *reader, unsigned p, uint64_t seq, uint64_t hi,
                      int64_t *ret_ts, uint64_t *ret_seq, bool *ret_found)
{
    sqlite3_stmt *st = NULL;
    enum err e = stmt_of(reader, p, SEGREADER_TIME, &st);
    int rc;

    if (e != OK || (e = lite_err(sqlite3_bind_int64(st, 1, (int64_t)seq))) != OK ||
        (e = lite_err(sqlite3_bind_int64(st, 2, (int64_t)hi))) != OK) {
        return e;
    }
    rc = sqlite3_step(st);
    *ret_found = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) {
        *ret_seq = (uint64_t)sqlite3_column_int64(st, 0);
        *ret_ts = sqlite3_column_int64(st, 1);
    }
    (void)sqlite3_reset(st); /* repeats the error of the step */
    return lite_err(rc);
}

/* Times never go backwards, so this is a search by halves. */
enum err segreader_find_time(struct segreader *reader, unsigned partition, struct slice s,
                             int64_t ts, uint64_t *ret_seq)
{
    uint64_t lo = s.lo, hi = s.hi + 1; /* the answer is in lo..hi */

    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        uint64_t at_seq = 0;
        int64_t at = 0;
        bool found = false;
        enum err e = probe(reader, partition, mid, s.hi, &at, &at_seq, &found);

        if (e != OK) {
            return e;
        }
        if (!found || at >= ts) {
            hi = mid;
        } else {
            lo = at_seq + 1;
        }
    }
    *ret_seq = lo;
    return OK;
}
