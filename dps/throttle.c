/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/throttle.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/map.h"

struct bucket {
    uint64_t hash;
    uint64_t full_ms; /* when it is full again; 0: unused */
};
struct throttle {
    uint64_t k0, k1;
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
    *ret = t;
    return OK;
}

void throttle_free(struct throttle *t)
{
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

static bool look(struct throttle *t, const struct throttle_rule *rule, struct span id,
                 struct span scope, uint64_t now_ms, bool takes)
{
    if (rule->burst == 0) {
        return true;
    }
    uint64_t hash = siphash(t->k0 + (uint64_t)rule->what, t->k1, id);
    if (scope.n != 0) {
        hash = siphash(t->k0, hash, scope);
    }
    bool mine;
    struct bucket *b = find(t, hash, &mine);
    uint64_t full_ms = mine ? MAX(b->full_ms, now_ms) : now_ms;
    if (full_ms - now_ms > (rule->burst - 1) * rule->each_ms) {
        return false;
    }
    if (takes) {
        *b = (struct bucket){hash, full_ms + rule->each_ms};
    }
    return true;
}

bool throttle_take(struct throttle *t, const struct throttle_rule *rule, struct span id_fold,
                   struct span scope, uint64_t now_ms)
{
    return look(t, rule, id_fold, scope, now_ms, true);
}

bool throttle_may(struct throttle *t, const struct throttle_rule *rule, struct span id_fold,
                  struct span scope, uint64_t now_ms)
{
    return look(t, rule, id_fold, scope, now_ms, false);
}
