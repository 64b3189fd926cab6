/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/challenge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"

#define SHARDS 16u
#define SHARD_MAX (LIMIT_DPS_CHALLENGES / SHARDS)

struct entry {
    struct map_node node;
    struct list link; /* of its shard's pending or used, oldest first */
    uint64_t until_ms;
    struct challenge c;
    uint8_t fold[LIMIT_ID];
};
struct shard {
    pthread_mutex_t lock;
    struct map map;
    struct list pending, used; /* each in the order of until_ms */
};
struct challenges {
    uint64_t k0, k1;
    _Atomic uint64_t serial;
    struct shard shard[SHARDS];
};

void challenge_wipe(struct challenge *c)
{
    secret_done(&c->k1);
    mem_wipe(c, sizeof(*c));
}

enum err challenges_new(struct challenges **ret)
{
    struct challenges *s = NEW(struct challenges);
    if (s == NULL) {
        return E_NOMEM;
    }
    random_bytes(&s->k0, sizeof(s->k0));
    random_bytes(&s->k1, sizeof(s->k1));
    atomic_init(&s->serial, 0);
    for (size_t i = 0; i < SHARDS; i++) {
        (void)pthread_mutex_init(&s->shard[i].lock, NULL);
        map_init(&s->shard[i].map);
        list_init(&s->shard[i].pending);
        list_init(&s->shard[i].used);
    }
    *ret = s;
    return OK;
}

static void drop(struct shard *h, struct entry *e)
{
    map_del(&h->map, &e->node);
    list_del(&e->link);
    challenge_wipe(&e->c);
    free(e);
}

static void drop_until(struct shard *h, uint64_t now_ms)
{
    struct list *const all[] = {&h->pending, &h->used};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        while (!list_empty(all[i]) &&
               LIST_OF(all[i]->next, struct entry, link)->until_ms <= now_ms) {
            drop(h, LIST_OF(all[i]->next, struct entry, link));
        }
    }
}

void challenges_free(struct challenges *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        drop_until(&s->shard[i], UINT64_MAX);
        map_done(&s->shard[i].map);
        (void)pthread_mutex_destroy(&s->shard[i].lock);
    }
    free(s);
}

static struct shard *lock(struct challenges *s, struct span fold)
{
    struct shard *h = &s->shard[siphash(s->k0, s->k1, fold) % SHARDS];
    (void)pthread_mutex_lock(&h->lock);
    return h;
}

static void unlock(struct shard *h)
{
    (void)pthread_mutex_unlock(&h->lock);
}

static struct entry *find(struct shard *h, struct span fold)
{
    struct map_node *n = map_get(&h->map, fold);
    return n != NULL ? CONTAINER_OF(n, struct entry, node) : NULL;
}

static void make_room(struct shard *h)
{
    if (h->map.count >= SHARD_MAX) {
        struct list *oldest = !list_empty(&h->used) ? h->used.next : h->pending.next;
        drop(h, LIST_OF(oldest, struct entry, link));
    }
}

enum err challenge_put(struct challenges *s, struct span fold, const struct challenge *c,
                       uint64_t now_ms)
{
    struct entry *e = NEW(struct entry);
    if (e == NULL) {
        return E_NOMEM;
    }
    ASSERT(fold.n <= sizeof(e->fold));
    memcpy(e->fold, fold.p, fold.n);
    e->node.key = span_of(e->fold, fold.n);
    e->until_ms = now_ms + CHALLENGE_PENDING_MS;
    e->c = *c;
    e->c.serial = atomic_fetch_add(&s->serial, 1) + 1;
    e->c.is_used = false;
    struct shard *h = lock(s, fold);
    drop_until(h, now_ms);
    struct entry *old = find(h, fold);
    if (old != NULL) {
        drop(h, old);
    }
    make_room(h);
    enum err r = map_add(&h->map, &e->node);
    if (r == OK) {
        list_add_tail(&h->pending, &e->link);
    }
    unlock(h);
    if (r != OK) {
        challenge_wipe(&e->c);
        free(e);
    }
    return r;
}

bool challenge_get(struct challenges *s, struct span fold, uint64_t now_ms, struct challenge *ret)
{
    struct shard *h = lock(s, fold);
    const struct entry *e = find(h, fold);
    bool found = e != NULL && e->until_ms > now_ms;
    if (found) {
        *ret = e->c;
    }
    unlock(h);
    return found;
}

bool challenge_use(struct challenges *s, struct span fold, uint64_t serial, uint64_t now_ms)
{
    struct shard *h = lock(s, fold);
    struct entry *e = find(h, fold);
    bool ok = e != NULL && e->c.serial == serial && !e->c.is_used && e->until_ms > now_ms;
    if (ok) {
        e->c.is_used = true;
        e->until_ms = now_ms + CHALLENGE_USED_MS;
        list_del(&e->link);
        list_add_tail(&h->used, &e->link);
    }
    unlock(h);
    return ok;
}

/* Counted from its use: a moment, in which the registration was refused. */
void challenge_give_back(struct challenges *s, struct span fold, uint64_t serial)
{
    struct shard *h = lock(s, fold);
    struct entry *e = find(h, fold);
    if (e != NULL && e->c.serial == serial) {
        e->c.is_used = false;
        e->until_ms -= CHALLENGE_USED_MS - CHALLENGE_PENDING_MS;
        list_del(&e->link);
        list_add_tail(&h->pending, &e->link);
    }
    unlock(h);
}

void challenges_sweep(struct challenges *s, uint64_t now_ms)
{
    for (size_t i = 0; i < SHARDS; i++) {
        (void)pthread_mutex_lock(&s->shard[i].lock);
        drop_until(&s->shard[i], now_ms);
        unlock(&s->shard[i]);
    }
}

size_t challenges_count(struct challenges *s)
{
    size_t n = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        (void)pthread_mutex_lock(&s->shard[i].lock);
        n += s->shard[i].map.count;
        unlock(&s->shard[i]);
    }
    return n;
}
