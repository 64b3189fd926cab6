/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <stdlib.h>

#include "base/clock.h"

#define FIRST_SLOTS 16u

void map_init(struct map *m)
{
    *m = (struct map){NULL, 0, 0, 0, 0};
    random_bytes(&m->k0, sizeof(m->k0));
    random_bytes(&m->k1, sizeof(m->k1));
}

void map_done(struct map *m)
{
    free(m->slots);
    m->slots = NULL;
    m->n_slots = 0;
    m->count = 0;
}

static struct map_node **slot_of(const struct map *m, uint64_t hash)
{
    return &m->slots[hash & (m->n_slots - 1)];
}

static struct map_node *find(const struct map *m, uint64_t hash, struct span key)
{
    if (m->n_slots == 0) {
        return NULL;
    }
    struct map_node *n = *slot_of(m, hash);
    while (n != NULL && (n->hash != hash || !span_eq(n->key, key))) {
        n = n->next;
    }
    return n;
}

struct map_node *map_get(const struct map *m, struct span key)
{
    return find(m, siphash(m->k0, m->k1, key), key);
}

static enum err grow(struct map *m)
{
    struct map larger = *m;
    larger.n_slots = m->n_slots != 0 ? m->n_slots * 2 : FIRST_SLOTS;
    larger.slots = calloc(larger.n_slots, sizeof(struct map_node *));
    if (larger.slots == NULL) {
        return E_NOMEM;
    }
    for (size_t i = 0; i < m->n_slots; i++) {
        struct map_node *n = m->slots[i];
        while (n != NULL) {
            struct map_node *next = n->next;
            struct map_node **slot = slot_of(&larger, n->hash);
            n->next = *slot;
            *slot = n;
            n = next;
        }
    }
    free(m->slots);
    *m = larger;
    return OK;
}

enum err map_add(struct map *m, struct map_node *node)
{
    uint64_t hash = siphash(m->k0, m->k1, node->key);
    if (find(m, hash, node->key) != NULL) {
        return E_EXISTS;
    }
    /* A table that cannot grow still works, with longer chains: only the first one is needed. */
    if (m->count >= m->n_slots && grow(m) != OK && m->n_slots == 0) {
        return E_NOMEM;
    }
    struct map_node **slot = slot_of(m, hash);
    node->hash = hash;
    node->next = *slot;
    *slot = node;
    m->count++;
    return OK;
}

void map_del(struct map *m, struct map_node *node)
{
    ASSERT(m->n_slots != 0);
    struct map_node **at = slot_of(m, node->hash);
    while (*at != NULL && *at != node) {
        at = &(*at)->next;
    }
    ASSERT(*at == node);
    *at = node->next;
    node->next = NULL;
    m->count--;
}

struct map_node *map_next(const struct map *m, struct map_cursor *cursor)
{
    struct map_node *n = cursor->next;
    while (n == NULL && cursor->slot < m->n_slots) {
        n = m->slots[cursor->slot++];
    }
    cursor->next = n != NULL ? n->next : NULL;
    return n;
}

static uint64_t rotl(uint64_t v, unsigned bits)
{
    return v << bits | v >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

static uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

uint64_t siphash(uint64_t k0, uint64_t k1, struct span s)
{
    uint64_t v[4] = {
        k0 ^ 0x736f6d6570736575u,
        k1 ^ 0x646f72616e646f6du,
        k0 ^ 0x6c7967656e657261u,
        k1 ^ 0x7465646279746573u,
    };
    size_t whole = s.n / 8 * 8;
    for (size_t i = 0; i < whole; i += 8) {
        sip_word(v, load_le(s.p + i, 8));
    }
    uint64_t tail = s.n > whole ? load_le(s.p + whole, s.n - whole) : 0;
    sip_word(v, tail | (uint64_t)s.n << 56);
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 4; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
