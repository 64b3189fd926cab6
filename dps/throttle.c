/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/throttle.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/map.h"

struct bucket {
    uint64_t hash;
    uint64_t full_ms; /* when it is full again; 0: unused */
    uint32_t taken;   /* since it was full */
};
#define LOCKS 64u
_Static_assert(THROTTLE_SETS % LOCKS == 0, "each set has one lock");
struct throttle {
    uint64_t k0, k1;
    pthread_mutex_t lock[LOCKS]; /* of the sets with that remainder */
    struct bucket set[THROTTLE_SETS][THROTTLE_WAYS];
};

enum err throttle_new(struct throttle **ret)
{
    struct throttle *t = NEW(struct throttle);
    if (t == NULL) {
        return E_NOMEM;
    }
    random_bytes(&t->k0, sizeof(t->k0));
    random_bytes(&t->k1, sizeof(t->k1));
    for (size_t i = 0; i < LOCKS; i++) {
        (void)pthread_mutex_init(&t->lock[i], NULL);
    }
    *ret = t;
    return OK;
}

void throttle_free(struct throttle *t)
{
    for (size_t i = 0; t != NULL && i < LOCKS; i++) {
        (void)pthread_mutex_destroy(&t->lock[i]);
    }
    free(t);
}

/* The key's bucket, or the one of its set that is full soonest. */
static struct bucket *find(struct throttle *t, uint64_t hash, bool *ret_mine)
{
    struct bucket *set = t->set[hash % THROTTLE_SETS], *oldest = &set[0];
    for (unsigned i = 0; i < THROTTLE_WAYS; i++) {
        if (set[i].hash == hash && set[i].full_ms != 0) {
            *ret_mine = true;
            return &set[i];
        }
        if (set[i].full_ms < oldest->full_ms) {
            oldest = &set[i];
        }
    }
    *ret_mine = false;
    return oldest;
}

static uint64_t hash_of(const struct throttle *t, const struct throttle_rule *rule, struct span id,
                        struct span scope)
{
    uint64_t hash = siphash(t->k0 + (uint64_t)rule->what, t->k1, id);
    return scope.n != 0 ? siphash(t->k0, hash, scope) : hash;
}

/* Milliseconds until one may be taken; ret_bucket and what of it still counts now. Under the lock. */
static uint64_t look(struct throttle *t, const struct throttle_rule *rule, uint64_t hash,
                     uint64_t now_ms, struct bucket **ret, struct bucket *now)
{
    bool mine;
    *ret = find(t, hash, &mine);
    *now = mine && (*ret)->full_ms > now_ms ? **ret : (struct bucket){hash, now_ms, 0};
    uint64_t owed_ms = now->full_ms - now_ms, free_ms = (rule->burst - 1) * rule->each_ms;
    return owed_ms > free_ms ? owed_ms - free_ms : 0;
}

static uint64_t cost_ms(const struct throttle_rule *rule, uint32_t taken)
{
    uint64_t ms = rule->each_ms;
    for (uint64_t i = rule->burst; i <= taken && ms < rule->most_ms; i++) {
        ms *= 2;
    }
    return rule->most_ms != 0 ? MIN(ms, rule->most_ms) : rule->each_ms;
}

bool throttle_take(struct throttle *t, const struct throttle_rule *rule, struct span id_fold,
                   struct span scope, uint64_t now_ms)
{
    struct bucket *b, now;
    if (rule->burst == 0) {
        return true;
    }
    uint64_t hash = hash_of(t, rule, id_fold, scope);
    pthread_mutex_t *lock = &t->lock[hash % LOCKS];
    (void)pthread_mutex_lock(lock);
    bool may = look(t, rule, hash, now_ms, &b, &now) == 0;
    if (may) {
        *b = (struct bucket){now.hash, now.full_ms + cost_ms(rule, now.taken), now.taken + 1};
    }
    (void)pthread_mutex_unlock(lock);
    return may;
}

uint64_t throttle_wait_ms(struct throttle *t, const struct throttle_rule *rule, struct span id_fold,
                          struct span scope, uint64_t now_ms)
{
    struct bucket *b, now;
    if (rule->burst == 0) {
        return 0;
    }
    uint64_t hash = hash_of(t, rule, id_fold, scope);
    pthread_mutex_t *lock = &t->lock[hash % LOCKS];
    (void)pthread_mutex_lock(lock);
    uint64_t ms = look(t, rule, hash, now_ms, &b, &now);
    (void)pthread_mutex_unlock(lock);
    return ms;
}
