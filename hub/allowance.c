/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/allowance.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/map.h"
#include "hub/hub_sql.h"
#include "hub/metrics.h"
#include "hub/session.h"

#define DAY_S 86400
#define IDLE_MS 60000u /* who was silent that long has a full bucket, and its day is on disk */
#define TELL_RATE_MS 60000u
#define SHARD_MAX (LIMIT_HUB_METERED / ALLOWANCE_SHARDS)
#define EARLY_PART 16u /* of a bound */

struct count {
    int64_t day; /* since 1970; 0: none yet */
    uint64_t messages, bytes;
};

struct meter { /* one device */
    struct map_node in;
    int64_t identity;
    struct count count, on_disk; /* on_disk: as given to the writer */
    int64_t left_m;              /* thousandths of a message; below 0: to be paid */
    uint64_t left_ms, used_ms;   /* when left_m was true; last use */
    uint64_t rate_told_ms;       /* 0: never */
    int64_t quota_told_day;
    bool is_read; /* what the registry knew is in count */
    bool is_new;  /* since it was given to the writer */
    bool is_going;
    bool is_due; /* was to go at once, and is on its way already with less */
};

struct shard {
    pthread_mutex_t lock; /* a leaf: nothing is called under it */
    struct map meters;
    size_t n_new;
    uint64_t dropped; /* grows when a meter is forgotten: a row that was read before may be older */
};

struct allowance {
    struct server *server;
    _Atomic uint64_t messages_per_s, messages_per_day, bytes_per_day;
    struct shard shards[ALLOWANCE_SHARDS];
};

struct fact {
    int64_t identity;
    struct count count;
};
struct use_batch {
    struct store_op op; /* first */
    struct allowance *a;
    size_t n;
    struct fact facts[];
};

static struct allowance *of(struct worker *w)
{
    return hub_of(w)->allowance;
}

static struct shard *shard_of(struct allowance *a, int64_t identity)
{
    return &a->shards[(uint64_t)identity % ALLOWANCE_SHARDS];
}

/* --- life -------------------------------------------------------------------------------------- */

enum err allowance_new(struct server *s, const struct allowance_conf *c, struct allowance **ret)
{
    struct allowance *a = NEW(struct allowance);
    if (a == NULL) {
        return E_NOMEM;
    }
    a->server = s;
    for (size_t i = 0; i < ALLOWANCE_SHARDS; i++) {
        pthread_mutex_init(&a->shards[i].lock, NULL);
        map_init(&a->shards[i].meters);
    }
    allowance_reload(a, c);
    *ret = a;
    return OK;
}

void allowance_reload(struct allowance *a, const struct allowance_conf *c)
{
    atomic_store(&a->messages_per_s, c->messages_per_s);
    atomic_store(&a->messages_per_day, c->messages_per_day);
    atomic_store(&a->bytes_per_day, c->bytes_per_day);
}

void allowance_free(struct allowance *a)
{
    if (a == NULL) {
        return;
    }
    for (size_t i = 0; i < ALLOWANCE_SHARDS; i++) {
        struct shard *s = &a->shards[i];
        struct map_cursor c = {0, NULL};
        for (struct map_node *n; (n = map_next(&s->meters, &c)) != NULL;) {
            map_del(&s->meters, n);
            free(CONTAINER_OF(n, struct meter, in));
        }
        map_done(&s->meters);
        pthread_mutex_destroy(&s->lock);
    }
    free(a);
}

/* --- to the registry ---------------------------------------------------------------------------- */

static struct meter *find(struct shard *s, const int64_t *identity)
{
    struct map_node *n = map_get(&s->meters, span_of(identity, sizeof(*identity)));
    return n != NULL ? CONTAINER_OF(n, struct meter, in) : NULL;
}

static enum err batch_tx(struct store_tx *tx, struct store_op *op)
{
    struct use_batch *b = CONTAINER_OF(op, struct use_batch, op);
    for (size_t i = 0; i < b->n; i++) {
        const struct fact *f = &b->facts[i];
        enum err e =
            hub_sql_use_put(tx->db, f->identity, f->count.day, f->count.messages, f->count.bytes);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static void flush_shard(struct allowance *a, struct shard *s);

/* What could not be written is new again, and waits for the timer. */
static void batch_home(struct msg *m)
{
    struct use_batch *b = CONTAINER_OF(m, struct use_batch, op.msg);
    bool failed = b->op.result != OK;
    if (failed) {
        LOG_WARN("hub.use.not_stored", L_ERR(b->op.result), L_U64("identities", b->n));
    }
    struct allowance *a = b->a;
    struct shard *again = NULL;
    for (size_t i = 0; i < b->n; i++) {
        struct shard *s = shard_of(a, b->facts[i].identity);
        pthread_mutex_lock(&s->lock);
        struct meter *t = find(s, &b->facts[i].identity);
        if (t != NULL) {
            t->is_going = false;
            s->n_new += failed && !t->is_new ? 1 : 0;
            t->is_new = t->is_new || failed;
            again = t->is_due && !failed ? s : again;
            t->is_due = false;
        }
        pthread_mutex_unlock(&s->lock);
    }
    free(b);
    if (again != NULL) {
        flush_shard(a, again);
    }
}

static void drop(struct shard *s, struct meter *t)
{
    map_del(&s->meters, &t->in);
    free(t);
    s->dropped++;
}

/* Under the lock: who has been silent and is on disk is forgotten; the new ones are taken along. */
static struct use_batch *take_new(struct shard *s, uint64_t now_ms)
{
    struct map_cursor c = {0, NULL};
    struct use_batch *b =
        s->n_new > 0 ? mem_new(sizeof(*b) + s->n_new * sizeof(b->facts[0])) : NULL;
    for (struct map_node *n; (n = map_next(&s->meters, &c)) != NULL;) {
        struct meter *t = CONTAINER_OF(n, struct meter, in);
        if (!t->is_new && !t->is_going && now_ms - MIN(t->used_ms, now_ms) >= IDLE_MS) {
            drop(s, t);
        } else if (b != NULL && t->is_new && !t->is_going) {
            t->is_new = false;
            t->is_going = true; /* two on their way could change places in a retry */
            t->on_disk = t->count;
            b->facts[b->n++] = (struct fact){t->identity, t->count};
        }
    }
    s->n_new -= b != NULL ? b->n : 0;
    return b;
}

static void flush_shard(struct allowance *a, struct shard *s)
{
    pthread_mutex_lock(&s->lock);
    struct use_batch *b = take_new(s, clock_mono_ms(server_clock(a->server)));
    pthread_mutex_unlock(&s->lock);
    if (b == NULL) {
        return;
    }
    b->a = a;
    b->op = (struct store_op){.msg.run = batch_home,
                              .tx = batch_tx,
                              .bulk = true,
                              .bytes = (uint32_t)(b->n * sizeof(struct fact))};
    bool is_empty = b->n == 0;
    enum err e = is_empty ? OK : store_submit(server_store(a->server), &b->op);
    if (e != OK || is_empty) { /* else it is the writer's, and may be gone */
        b->op.result = e;
        batch_home(&b->op.msg);
    }
}

void allowance_flush(struct hub *h)
{
    for (size_t i = 0; h->allowance != NULL && i < ALLOWANCE_SHARDS; i++) {
        flush_shard(h->allowance, &h->allowance->shards[i]);
    }
}

static void on_flush(struct timer *t)
{
    struct hub_worker *hw = CONTAINER_OF(t, struct hub_worker, use_timer);
    allowance_flush(hub_of(hw->w));
}

/* --- meters --------------------------------------------------------------------------------------- */

/* Under the lock. Full: those that are on disk make room, whose buckets then begin afresh. */
static enum err make_room(struct shard *s)
{
    struct map_cursor c = {0, NULL};
    for (struct map_node *n; (n = map_next(&s->meters, &c)) != NULL;) {
        struct meter *t = CONTAINER_OF(n, struct meter, in);
        if (!t->is_new && !t->is_going) {
            drop(s, t);
        }
    }
    return s->meters.count < SHARD_MAX ? OK : E_BUSY;
}

static enum err add_meter(struct shard *s, int64_t identity, struct meter **ret)
{
    enum err e = s->meters.count < SHARD_MAX ? OK : make_room(s);
    struct meter *t = e == OK ? NEW(struct meter) : NULL;
    if (t == NULL) {
        return e != OK ? e : E_NOMEM;
    }
    t->identity = identity;
    t->in.key = span_of(&t->identity, sizeof(t->identity));
    if ((e = map_add(&s->meters, &t->in)) != OK) {
        free(t);
        return e;
    }
    *ret = t;
    return OK;
}

/* The device's meter, with the shard locked when OK. needs_day: with what the registry knows of its day, which is read without the
 * lock and once more if a meter was forgotten meanwhile: it may have been this one, with more than the row. */
static enum err lock_meter(struct worker *w, int64_t identity, bool needs_day, struct meter **ret)
{
    struct shard *s = shard_of(of(w), identity);
    struct count row = {0};
    bool has_row = false;
    uint64_t as_of = 0;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        struct meter *t = find(s, &identity);
        if (t == NULL && (!needs_day || (has_row && as_of == s->dropped))) {
            enum err e = add_meter(s, identity, &t);
            if (e != OK) {
                pthread_mutex_unlock(&s->lock);
                return e;
            }
        }
        if (t != NULL && needs_day && !t->is_read && has_row && as_of == s->dropped) {
            t->count = t->on_disk = row;
            t->is_read = true;
        }
        if (t != NULL && (!needs_day || t->is_read)) {
            *ret = t;
            return OK;
        }
        as_of = s->dropped;
        pthread_mutex_unlock(&s->lock);
        enum err e = hub_sql_use_get(worker_db(w), identity, &row.day, &row.messages, &row.bytes);
        if (e != OK && e != E_NOT_FOUND) {
            return e;
        }
        has_row = true;
    }
}

static void refill(struct meter *t, uint64_t per_s, uint64_t now_ms)
{
    int64_t full = (int64_t)per_s * 1000;
    uint64_t gone = t->left_ms == 0 ? 1000 : now_ms - MIN(t->left_ms, now_ms);
    /* a debt may be of many seconds, never of so many that the product overflows */
    t->left_m = gone > UINT32_MAX ? full : MIN(full, t->left_m + (int64_t)(gone * per_s));
    t->left_ms = MAX(now_ms, 1);
}

static bool is_over(uint64_t used, uint64_t more, uint64_t bound)
{
    return bound != 0 && (used >= bound || more > bound - used);
}

static bool is_due(uint64_t now, uint64_t on_disk, uint64_t bound)
{
    return bound != 0 && now - MIN(on_disk, now) >= bound / EARLY_PART;
}

/* What is told of a refusal, decided under the lock, said after it. */
struct verdict {
    enum err e;
    bool tell, flush;
    struct count count;
};

static struct verdict judge(struct allowance *a, struct shard *s, struct meter *t, uint64_t now_ms,
                            int64_t today, bool is_will, struct allowance_use *u)
{
    uint64_t per_s = a->messages_per_s, messages = a->messages_per_day, bytes = a->bytes_per_day;
    t->used_ms = now_ms;
    if (per_s != 0) {
        refill(t, per_s, now_ms);
        if (t->left_m <= 0 && !is_will) {
            bool tell = t->rate_told_ms == 0 || now_ms - t->rate_told_ms >= TELL_RATE_MS;
            t->rate_told_ms = tell ? MAX(now_ms, 1) : t->rate_told_ms;
            return (struct verdict){.e = E_THROTTLED, .tell = tell};
        }
    }
    if (messages != 0 || bytes != 0) {
        if (t->count.day != today) {
            t->count = t->on_disk = (struct count){.day = today};
        }
        if (is_over(t->count.messages, u->n, messages) ||
            is_over(t->count.bytes, u->bytes, bytes)) {
            bool tell = t->quota_told_day != today;
            t->quota_told_day = today;
            t->is_due = t->is_due || (tell && t->is_going);
            return (struct verdict){E_QUOTA, tell, tell, t->count};
        }
        t->count.messages += u->n;
        t->count.bytes += u->bytes;
        u->day = today;
        s->n_new += t->is_new ? 0 : 1;
        t->is_new = true;
    }
    t->left_m -= (int64_t)(per_s != 0 ? u->n * 1000 : 0);
    bool due = is_due(t->count.messages, t->on_disk.messages, messages) ||
               is_due(t->count.bytes, t->on_disk.bytes, bytes);
    t->is_due = t->is_due || (due && t->is_going);
    return (struct verdict){.flush = due && !t->is_going};
}

static void tell(struct allowance *a, struct span device_id, const struct verdict *v)
{
    if (v->e == E_THROTTLED) {
        LOG_WARN("hub.rate", L_SPAN("device", device_id),
                 L_U64("messages_per_s", a->messages_per_s));
    } else {
        LOG_WARN("hub.quota", L_SPAN("device", device_id), L_U64("messages", v->count.messages),
                 L_U64("bytes", v->count.bytes), L_U64("of_messages", a->messages_per_day),
                 L_U64("of_bytes", a->bytes_per_day));
    }
}

enum err allowance_take(struct worker *w, int64_t identity, struct span device_id, uint64_t n,
                        uint64_t bytes, bool is_will, struct allowance_use *ret,
                        struct err_info *info)
{
    struct allowance *a = of(w);
    *ret = (struct allowance_use){.identity = identity, .n = n, .bytes = bytes};
    bool needs_day = a != NULL && (a->messages_per_day != 0 || a->bytes_per_day != 0);
    if (a == NULL || (!needs_day && a->messages_per_s == 0)) {
        return OK;
    }
    struct loop *l = worker_loop(w);
    struct hub_worker *hw = hub_worker_of(w);
    struct shard *s = shard_of(a, identity);
    int64_t today = server_calendar_s(a->server) / DAY_S;
    struct meter *t;
    enum err e = lock_meter(w, identity, needs_day, &t);
    if (e != OK) {
        return err_set(info, e, "what the device has sent today cannot be told");
    }
    struct verdict v = judge(a, s, t, loop_now_ms(l), today, is_will, ret);
    pthread_mutex_unlock(&s->lock);
    if (v.tell) {
        tell(a, device_id, &v);
    }
    if (v.flush) {
        flush_shard(a, s);
    }
    if (needs_day && !timer_is_set(&hw->use_timer)) {
        timer_set(l, &hw->use_timer, LIMIT_HUB_NOTE_S * 1000u, on_flush);
    }
    if (v.e == E_QUOTA) {
        metric_add(w, HUB_M_QUOTA, 1);
        return err_set(info, E_QUOTA, "the device has used up what it may send today");
    }
    if (v.e == E_THROTTLED) {
        metric_add(w, HUB_M_RATE, 1);
        return err_set(info, E_THROTTLED, "the device sends more than %llu messages a second",
                       (unsigned long long)a->messages_per_s);
    }
    return OK;
}

void allowance_give_back(struct worker *w, const struct allowance_use *u)
{
    struct allowance *a = of(w);
    if (a == NULL || u->n == 0) {
        return;
    }
    struct shard *s = shard_of(a, u->identity);
    pthread_mutex_lock(&s->lock);
    struct meter *t = find(s, &u->identity);
    if (t != NULL) {
        t->left_m += (int64_t)(u->n * 1000); /* filled up to the bound at the next look */
    }
    if (t != NULL && u->day != 0 && t->count.day == u->day) {
        t->count.messages -= MIN(u->n, t->count.messages);
        t->count.bytes -= MIN(u->bytes, t->count.bytes);
        s->n_new += t->is_new ? 0 : 1;
        t->is_new = true;
    }
    pthread_mutex_unlock(&s->lock);
}

uint32_t allowance_wait_ms(struct worker *w, int64_t identity)
{
    struct allowance *a = of(w);
    struct shard *s = shard_of(a, identity);
    uint64_t per_s = a->messages_per_s, wait = 1;
    pthread_mutex_lock(&s->lock);
    struct meter *t = find(s, &identity);
    if (t != NULL && per_s != 0 && t->left_m <= 0) {
        wait = (uint64_t)(-t->left_m) / per_s + 1;
    }
    pthread_mutex_unlock(&s->lock);
    return (uint32_t)MIN(wait, 60000u);
}
