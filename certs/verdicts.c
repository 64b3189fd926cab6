/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/verdicts.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"

#define SHARDS 16u

struct verdict {
    struct map_node node;
    struct list lru;
    uint8_t key[CERT_SHA256];
    struct chain_path path;
};

struct shard {
    pthread_mutex_t lock;
    uint64_t epoch; /* of all that is in it; only grows */
    struct map known;
    struct list lru; /* longest unused first */
};

struct verdicts {
    size_t n_shards;
    size_t max; /* of a shard */
    struct shard shard[SHARDS];
};

/* --- under the lock of a shard --------------------------------------------------------------- */

static void verdict_del(struct shard *s, struct verdict *v)
{
    map_del(&s->known, &v->node);
    list_del(&v->lru);
    free(v);
}

static void drop_all(struct shard *s)
{
    while (!list_empty(&s->lru)) {
        verdict_del(s, LIST_OF(s->lru.next, struct verdict, lru));
    }
}

/* False: the asker is behind; what it believes in counts no more. */
static bool is_current(struct shard *s, uint64_t epoch)
{
    if (epoch > s->epoch) {
        drop_all(s);
        s->epoch = epoch;
    }
    return epoch == s->epoch;
}

static struct verdict *find(struct shard *s, const uint8_t key[CERT_SHA256])
{
    struct map_node *n = map_get(&s->known, span_of(key, CERT_SHA256));
    return n != NULL ? CONTAINER_OF(n, struct verdict, node) : NULL;
}

static bool get(struct shard *s, const uint8_t key[CERT_SHA256], int64_t now_us,
                struct chain_path *ret)
{
    struct verdict *v = find(s, key);
    if (v == NULL) {
        return false;
    }
    if (now_us < v->path.not_before_us || now_us >= v->path.not_after_us) {
        verdict_del(s, v);
        return false;
    }
    list_del(&v->lru);
    list_add_tail(&s->lru, &v->lru);
    *ret = v->path;
    return true;
}

static void put(struct shard *s, const uint8_t key[CERT_SHA256], const struct chain_path *path,
                size_t max)
{
    struct verdict *v = find(s, key) == NULL ? NEW(struct verdict) : NULL;
    if (v == NULL) {
        return; /* another worker was faster, or there is no memory */
    }
    memcpy(v->key, key, CERT_SHA256);
    v->node.key = span_of(v->key, CERT_SHA256);
    v->path = *path;
    if (map_add(&s->known, &v->node) != OK) {
        free(v);
        return;
    }
    list_add_tail(&s->lru, &v->lru);
    if (s->known.count > max) {
        verdict_del(s, LIST_OF(s->lru.next, struct verdict, lru));
    }
}

/* --- for all --------------------------------------------------------------------------------- */

static struct shard *shard_lock(struct verdicts *v, const uint8_t key[CERT_SHA256])
{
    struct shard *s = &v->shard[key[0] % v->n_shards];
    (void)pthread_mutex_lock(&s->lock); /* cannot fail: default attributes */
    return s;
}

bool verdicts_get(struct verdicts *v, const uint8_t key[CERT_SHA256], uint64_t epoch,
                  int64_t now_us, struct chain_path *ret)
{
    struct shard *s = shard_lock(v, key);
    bool known = is_current(s, epoch) && get(s, key, now_us, ret);
    (void)pthread_mutex_unlock(&s->lock);
    return known;
}

void verdicts_put(struct verdicts *v, const uint8_t key[CERT_SHA256], uint64_t epoch,
                  const struct chain_path *path)
{
    struct shard *s = shard_lock(v, key);
    if (is_current(s, epoch)) {
        put(s, key, path, v->max);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

size_t verdicts_count(struct verdicts *v)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n_shards; i++) {
        (void)pthread_mutex_lock(&v->shard[i].lock);
        n += v->shard[i].known.count;
        (void)pthread_mutex_unlock(&v->shard[i].lock);
    }
    return n;
}

/* --- life ------------------------------------------------------------------------------------ */

enum err verdicts_new(size_t max, struct verdicts **ret)
{
    struct verdicts *v = NEW(struct verdicts);
    if (v == NULL) {
        return E_NOMEM;
    }
    v->n_shards = max >= 16u * SHARDS ? SHARDS : 1; /* few: their order of use is one */
    v->max = max / v->n_shards;
    for (size_t i = 0; i < v->n_shards; i++) {
        struct shard *s = &v->shard[i];
        (void)pthread_mutex_init(&s->lock, NULL); /* cannot fail: default attributes */
        map_init(&s->known);
        list_init(&s->lru);
    }
    *ret = v;
    return OK;
}

void verdicts_free(struct verdicts *v)
{
    if (v == NULL) {
        return;
    }
    for (size_t i = 0; i < v->n_shards; i++) {
        drop_all(&v->shard[i]);
        map_done(&v->shard[i].known);
        (void)pthread_mutex_destroy(&v->shard[i].lock);
    }
    free(v);
}
