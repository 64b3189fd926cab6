/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash map from bytes to an embedded node (SipHash with a random key, so peers cannot aim for
 * collisions). The map owns only its table; nodes live in the caller's objects.
 * Threads     one at a time.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/err.h"
#include "base/span.h"

struct map_node {
    struct map_node *next;
    uint64_t hash;
    struct span key; /* points into the owning object; must not move while inside */
};
struct map {
    struct map_node **slots;
    size_t n_slots; /* power of two or 0 */
    size_t count;
    uint64_t k0, k1;
};

void map_init(struct map *m);
void map_done(struct map *m);
struct map_node *map_get(const struct map *m, struct span key);
/* node->key is set by the caller. E_EXISTS, E_NOMEM. */
MUST_USE enum err map_add(struct map *m, struct map_node *node);
/* The node must be inside. */
void map_del(struct map *m, struct map_node *node);
/* Iterates in no order; it is fine to delete the node that was returned. cursor starts as
 * {0, NULL}. NULL at the end. */
struct map_cursor {
    size_t slot;
    struct map_node *next;
};
struct map_node *map_next(const struct map *m, struct map_cursor *cursor);
/* SipHash-2-4. */
uint64_t siphash(uint64_t k0, uint64_t k1, struct span s);

#endif
