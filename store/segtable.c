/* SPDX-License-Identifier: Apache-2.0 */
#include "store/segtable.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct seg_table {
    const struct seg_place *at;
    _Atomic uint64_t end; /* of the newest: what is behind is not committed */
    pthread_mutex_t mu;
    struct seg_index index; /* of the newest; from here on under mu, but the writer reads without */
    struct segment **seg;   /* by number */
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
        found = t->seg[i]->head.number == number;
    }
    (void)pthread_mutex_unlock(&t->mu);
    return found;
}

/* An idle descriptor of the segment, or a new one. E_NOT_FOUND: retention was faster. */
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

/* Keeps the descriptor for the next read, unless it failed or its segment is gone. */
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

/* Under mu; without start. */
static struct slice slice_at(const struct seg_table *t, size_t i, unsigned p, uint64_t from,
                             uint64_t mark)
{
    bool is_newest = i + 1 == t->n;
    uint64_t hi = is_newest ? UINT64_MAX : t->seg[i + 1]->base[p].seq;

    return (struct slice){
        .number = t->seg[i]->head.number,
        .lo = MAX(from, t->seg[i]->base[p].seq + 1),
        .hi = MIN(hi, mark),
        .end = is_newest ? atomic_load(&t->end) : t->seg[i]->end,
        .is_newest = is_newest,
    };
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
    if (found && ret->is_newest) {
        ret->start = seg_index_find_seq(&t->index, p, ret->lo);
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
    if (found && ret->is_newest) {
        ret->start = seg_index_find_time(&t->index, p, ts);
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

/* The index of a segment in which nothing is yet. Under mu. */
static void begin_newest(struct seg_table *t, const struct segment *seg)
{
    atomic_store(&t->end, SEG_HEAD_BYTES);
    seg_index_clear(&t->index);
    seg_index_note(&t->index, SEG_HEAD_BYTES, seg->base);
}

void seg_table_add(struct seg_table *t, struct segment *seg)
{
    (void)pthread_mutex_lock(&t->mu);
    ASSERT(t->n < t->cap && (t->n == 0 || t->seg[t->n - 1]->head.number < seg->head.number));
    if (t->n != 0) {
        struct segment *old = t->seg[t->n - 1];
        old->end = seg->head.prev_end;
        t->sealed_bytes += old->bytes;
    }
    t->seg[t->n++] = seg;
    begin_newest(t, seg);
    (void)pthread_mutex_unlock(&t->mu);
}

void seg_table_replace(struct seg_table *t, struct segment *seg)
{
    struct segment *old;

    (void)pthread_mutex_lock(&t->mu);
    ASSERT(t->n != 0 && atomic_load(&t->end) == SEG_HEAD_BYTES);
    old = t->seg[t->n - 1];
    ASSERT(old->head.number == seg->head.number);
    t->seg[t->n - 1] = seg;
    begin_newest(t, seg);
    (void)pthread_mutex_unlock(&t->mu);
    free(old);
}

void seg_table_set_sealed_bytes(struct seg_table *t, uint64_t bytes)
{
    (void)pthread_mutex_lock(&t->mu);
    ASSERT(t->n >= 2);
    t->sealed_bytes -= t->seg[t->n - 2]->bytes;
    t->seg[t->n - 2]->bytes = bytes;
    t->sealed_bytes += bytes;
    (void)pthread_mutex_unlock(&t->mu);
}

void seg_table_commit(struct seg_table *t, uint64_t end, const struct seg_base *last)
{
    if (seg_index_is_due(&t->index, end)) { /* only the writer changes it */
        (void)pthread_mutex_lock(&t->mu);
        seg_index_note(&t->index, end, last);
        (void)pthread_mutex_unlock(&t->mu);
    }
    atomic_store(&t->end, end);
}

struct seg_index *seg_table_index(struct seg_table *t)
{
    return &t->index;
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

/* Its idle readers, out of the list. Under mu. */
static struct segreader *take_idle_of(struct seg_table *t, uint64_t number)
{
    struct segreader *gone = NULL, **link;

    for (link = &t->idle; *link != NULL;) {
        struct segreader *r = *link;
        if (r->number != number) {
            link = &r->next;
            continue;
        }
        *link = r->next;
        r->next = gone;
        gone = r;
        t->n_idle--;
    }
    return gone;
}

/* Its file goes when no reader finds it any more; one behind it may not go before, or the log would have a hole. */
enum err seg_table_drop_oldest(struct seg_table *t)
{
    struct segreader *gone;
    struct segment *seg;
    enum err e;

    (void)pthread_mutex_lock(&t->mu);
    ASSERT(t->n > 1);
    seg = t->seg[0];
    (void)memmove(t->seg, t->seg + 1, (t->n - 1) * sizeof(struct segment *));
    t->n--;
    t->sealed_bytes -= seg->bytes;
    gone = take_idle_of(t, seg->head.number);
    (void)pthread_mutex_unlock(&t->mu);
    segreader_free_list(gone);
    if ((e = segment_unlink(t->at, seg->head.number)) == OK) {
        free(seg);
        return OK;
    }
    (void)pthread_mutex_lock(&t->mu);
    (void)memmove(t->seg + 1, t->seg, t->n * sizeof(struct segment *));
    t->seg[0] = seg;
    t->n++;
    t->sealed_bytes += seg->bytes;
    (void)pthread_mutex_unlock(&t->mu);
    return e;
}

/* --- loading ------------------------------------------------------------------------------- */

static enum err load_all(struct seg_table *t, struct err_info *info)
{
    AUTO(mem_free_p) uint64_t *numbers = NULL;
    size_t n = 0;
    enum err e = segment_list(t->at, &numbers, &n, info);

    for (size_t i = 0; i < n && e == OK; i++) {
        struct segment *seg = NULL, *before = seg_table_newest(t);
        if ((e = seg_table_reserve(t)) != OK) {
            return err_set(info, e, "no memory for segments");
        }
        if ((e = segment_load(t->at, numbers[i], &seg, info)) != OK) {
            return e;
        }
        e = before != NULL ? segment_follows(t->at, before, seg, info) : OK;
        seg_table_add(t, seg);
    }
    return e;
}

AUTO_FREE_FN(struct seg_table, seg_table_free)

enum err seg_table_new(const struct seg_place *at, uint64_t index_step, struct seg_table **ret,
                       struct err_info *info)
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
    seg_index_init(&t->index, at->partitions, index_step);
    if (n < 0 || (size_t)n >= sizeof(tmp)) {
        return err_set(info, E_CONFIG, "path of the log folder is too long");
    }
    (void)unlink(tmp); /* of a making that was interrupted */
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
    seg_index_done(&t->index);
    (void)pthread_mutex_destroy(&t->mu);
    free(t);
}
