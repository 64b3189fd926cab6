/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segtable.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct seg_table {
    const struct seg_place *at;
    pthread_mutex_t mu;
    struct segment **seg; /* by number; from here on under mu */
    size_t n, cap;
    uint64_t sealed_bytes;
    struct segreader *idle; /* last used first */
    size_t n_idle;
};

/* --- readers ------------------------------------------------------------------------------- */

static bool has_segment(struct seg_table *t, uint64_t number)
{
    bool found = false;

    (void)pthread_mutex_lock(&t->mu);
    for (size_t i = 0; i < t->n && !found; i++) {
        found = t->seg[i]->number == number;
    }
    (void)pthread_mutex_unlock(&t->mu);
    return found;
}

/* An idle connection to the segment, or a new one. E_NOT_FOUND: retention was faster. */
static enum err reader_take(struct seg_table *t, uint64_t number, struct segreader **ret)
{
    struct segreader *r, **link = &t->idle;
    enum err e;

    (void)pthread_mutex_lock(&t->mu);
    while (*link != NULL && (*link)->number != number) {
        link = &(*link)->next;
    }
    if ((r = *link) != NULL) {
        *link = r->next;
        t->n_idle--;
    }
    (void)pthread_mutex_unlock(&t->mu);
    if (r != NULL) {
        *ret = r;
        return OK;
    }
    e = segreader_open(t->at, number, ret);
    return e == E_NOT_FOUND && has_segment(t, number) ? E_CORRUPT : e;
}

/* Keeps the connection for the next read, unless it failed or its segment is gone. */
static void reader_put(struct seg_table *t, struct segreader *r, bool is_good)
{
    struct segreader *drop = r;

    is_good = is_good && has_segment(t, r->number); /* one dropped meanwhile ages out */
    (void)pthread_mutex_lock(&t->mu);
    if (is_good) {
        r->next = t->idle;
        t->idle = r;
        drop = NULL;
        if (++t->n_idle > SEG_IDLE_READERS) {
            struct segreader **link = &t->idle;
            while ((*link)->next != NULL) {
                link = &(*link)->next;
            }
            drop = *link;
            *link = NULL;
            t->n_idle--;
        }
    }
    (void)pthread_mutex_unlock(&t->mu);
    segreader_free(drop);
}

/* --- which segment ------------------------------------------------------------------------- */

/* Index of the last segment whose base is before seq; 0 when none is. Under mu. */
static size_t find_seq(const struct seg_table *t, unsigned p, uint64_t seq)
{
    size_t lo = 0, hi = t->n;

    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->seg[mid]->base[p].seq < seq) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static struct slice slice_at(const struct seg_table *t, size_t i, unsigned p, uint64_t from,
                             uint64_t mark)
{
    uint64_t end = i + 1 < t->n ? t->seg[i + 1]->base[p].seq : UINT64_MAX;

    return (struct slice){t->seg[i]->number, MAX(from, t->seg[i]->base[p].seq + 1), MIN(end, mark)};
}

/* The slice that holds `from`, or the next one there is; false: none up to the mark. */
static bool pick_seq(struct seg_table *t, unsigned p, uint64_t from, uint64_t mark,
                     struct slice *ret)
{
    bool found = false;

    (void)pthread_mutex_lock(&t->mu);
    for (size_t i = t->n == 0 ? 0 : find_seq(t, p, from); i < t->n && !found; i++) {
        *ret = slice_at(t, i, p, from, mark);
        found = ret->lo <= ret->hi;
    }
    (void)pthread_mutex_unlock(&t->mu);
    return found;
}

/* The slice in which the first row of time >= ts must be, if there is one. */
static bool pick_time(struct seg_table *t, unsigned p, int64_t ts, uint64_t mark, struct slice *ret)
{
    bool found = false;

    (void)pthread_mutex_lock(&t->mu);
    for (size_t i = 0; i < t->n && !found; i++) {
        *ret = slice_at(t, i, p, 1, mark);
        found = ret->lo <= ret->hi && (i + 1 == t->n || t->seg[i + 1]->base[p].ts >= ts);
    }
    (void)pthread_mutex_unlock(&t->mu);
    return found;
}

/* --- reading ------------------------------------------------------------------------------- */

enum err seg_table_read(struct seg_table *t, struct seg_read *r, uint64_t *ret_next)
{
    struct slice s;
    enum err e = OK;

    r->from = MAX(r->from, 1);
    while (r->max_rows != 0 && r->max_bytes != 0 &&
           pick_seq(t, r->partition, r->from, r->mark, &s)) {
        struct segreader *reader = NULL;
        e = reader_take(t, s.number, &reader);
        if (e == E_NOT_FOUND) {
            continue; /* it left the table before its file went */
        }
        if (e != OK) {
            break;
        }
        e = segreader_read(reader, s, r);
        reader_put(t, reader, e == OK);
        if (e != OK) {
            break;
        }
    }
    if (e == OK || e == E_NOT_FOUND) {
        *ret_next = r->from;
        return OK;
    }
    return e;
}

enum err seg_table_find_time(struct seg_table *t, unsigned partition, int64_t ts, uint64_t mark,
                             uint64_t *ret_seq)
{
    struct slice s;

    while (pick_time(t, partition, ts, mark, &s)) {
        struct segreader *reader = NULL;
        enum err e = reader_take(t, s.number, &reader);
        if (e == E_NOT_FOUND) {
            continue; /* it left the table before its file went */
        }
        if (e != OK) {
            return e;
        }
        e = segreader_find_time(reader, partition, s, ts, ret_seq);
        reader_put(t, reader, e == OK);
        return e;
    }
    *ret_seq = mark + 1;
    return OK;
}

/* --- the table ----------------------------------------------------------------------------- */

size_t seg_table_count(struct seg_table *t)
{
    size_t n;

    (void)pthread_mutex_lock(&t->mu);
    n = t->n;
    (void)pthread_mutex_unlock(&t->mu);
    return n;
}

uint64_t seg_table_sealed_bytes(struct seg_table *t)
{
    uint64_t n;

    (void)pthread_mutex_lock(&t->mu);
    n = t->sealed_bytes;
    (void)pthread_mutex_unlock(&t->mu);
    return n;
}

uint64_t seg_table_base(struct seg_table *t, unsigned partition)
{
    uint64_t seq;

    (void)pthread_mutex_lock(&t->mu);
    seq = t->n == 0 ? 0 : t->seg[0]->base[partition].seq;
    (void)pthread_mutex_unlock(&t->mu);
    return seq;
}

struct segment *seg_table_newest(struct seg_table *t)
{
    return t->n == 0 ? NULL : t->seg[t->n - 1]; /* only the writer changes it, and only it asks */
}

enum err seg_table_reserve(struct seg_table *t)
{
    struct segment **seg;

    if (t->n < t->cap) {
        return OK;
    }
    if ((seg = mem_new((t->cap + 64) * sizeof(struct segment *))) == NULL) {
        return E_NOMEM;
    }
    (void)pthread_mutex_lock(&t->mu);
    for (size_t i = 0; i < t->n; i++) {
        seg[i] = t->seg[i];
    }
    free(t->seg);
    t->seg = seg;
    t->cap += 64;
    (void)pthread_mutex_unlock(&t->mu);
    return OK;
}

void seg_table_add(struct seg_table *t, struct segment *seg, uint64_t sealed_bytes)
{
    (void)pthread_mutex_lock(&t->mu);
    ASSERT(t->n < t->cap && (t->n == 0 || t->seg[t->n - 1]->number < seg->number));
    if (t->n != 0) {
        t->seg[t->n - 1]->bytes = sealed_bytes;
        t->sealed_bytes += sealed_bytes;
    }
    t->seg[t->n++] = seg;
    (void)pthread_mutex_unlock(&t->mu);
}

bool seg_table_oldest_end(struct seg_table *t, int64_t *ret_ts)
{
    const struct segment *next;

    if (t->n < 2) { /* only the writer changes it, and only it asks */
        return false;
    }
    next = t->seg[1];
    *ret_ts = next->base[0].ts;
    for (unsigned p = 1; p < t->at->partitions; p++) {
        *ret_ts = MAX(*ret_ts, next->base[p].ts);
    }
    return true;
}

void seg_table_drop_oldest(struct seg_table *t)
{
    struct segreader *gone = NULL, **link;
    struct segment *seg;

    (void)pthread_mutex_lock(&t->mu);
    ASSERT(t->n > 1);
    seg = t->seg[0];
    for (size_t i = 1; i < t->n; i++) {
        t->seg[i - 1] = t->seg[i];
    }
    t->n--;
    t->sealed_bytes -= seg->bytes;
    for (link = &t->idle; *link != NULL;) {
        struct segreader *r = *link;
        if (r->number != seg->number) {
            link = &r->next;
            continue;
        }
        *link = r->next;
        r->next = gone;
        gone = r;
        t->n_idle--;
    }
    (void)pthread_mutex_unlock(&t->mu);
    segreader_free_list(gone);
    segment_unlink(t->at, seg->number);
    free(seg);
}

/* --- loading ------------------------------------------------------------------------------- */

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

/* The numbers of the files that are there, in order; heap. */
static enum err list_numbers(const char *dir, uint64_t **ret, size_t *ret_n, struct err_info *info)
{
    uint64_t *v = NULL;
    size_t n = 0, cap = 0;
    DIR *d = opendir(dir);
    struct dirent *entry;
    enum err e = OK;

    if (d == NULL) {
        return err_set(info, err_from_errno(errno), "cannot list \"%s\": %s", dir, strerror(errno));
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

static enum err check_order(const struct seg_place *at, const struct segment *a,
                            const struct segment *b, struct err_info *info)
{
    for (unsigned p = 0; p < at->partitions; p++) {
        if (b->base[p].seq < a->base[p].seq || b->base[p].ts < a->base[p].ts) {
            return err_set(info, E_CORRUPT,
                           "segment %" PRIu64 " of \"%s\": numbers of partition %u go backwards",
                           b->number, at->dir, p);
        }
    }
    return OK;
}

static enum err load_all(struct seg_table *t, struct err_info *info)
{
    AUTO(mem_free_p) uint64_t *numbers = NULL;
    size_t n = 0;
    enum err e = list_numbers(t->at->dir, &numbers, &n, info);

    for (size_t i = 0; i < n && e == OK; i++) {
        struct segment *seg = NULL, *before = seg_table_newest(t);
        if ((e = seg_table_reserve(t)) != OK) {
            return err_set(info, e, "no memory for segments");
        }
        if ((e = segment_load(t->at, numbers[i], &seg, info)) != OK) {
            return e;
        }
        e = before != NULL ? check_order(t->at, before, seg, info) : OK;
        seg_table_add(t, seg, before != NULL ? before->bytes : 0);
    }
    return e;
}

AUTO_FREE_FN(struct seg_table, seg_table_free)

enum err seg_table_new(const struct seg_place *at, struct seg_table **ret, struct err_info *info)
{
    AUTO(seg_table_free_p) struct seg_table *t = NEW(struct seg_table);
    char tmp[PATH_MAX];
    int n = snprintf(tmp, sizeof(tmp), "%s/" SEG_TMP, at->dir);
    enum err e;

    if (t == NULL) {
        return err_set(info, E_NOMEM, "no memory for segments");
    }
    (void)pthread_mutex_init(&t->mu, NULL); /* cannot fail with default attributes */
    t->at = at;
    if (n < 0 || (size_t)n >= sizeof(tmp)) {
        return err_set(info, E_CONFIG, "path of the log folder is too long");
    }
    lite_unlink(tmp); /* of a making that was interrupted */
    if ((e = load_all(t, info)) != OK) {
        return e;
    }
    *ret = TAKE(t);
    return OK;
}

void seg_table_free(struct seg_table *t)
{
    if (t == NULL) {
        return;
    }
    segreader_free_list(t->idle);
    for (size_t i = 0; i < t->n; i++) {
        free(t->seg[i]);
    }
    free(t->seg);
    (void)pthread_mutex_destroy(&t->mu);
    free(t);
}
