/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ack_ring.h"

#include <stdlib.h>

#include "base/limits.h"

#define RING_FIRST 16u
_Static_assert((LIMIT_MQTT_RING & (LIMIT_MQTT_RING - 1)) == 0, "slots are found by a mask");
_Static_assert(LIMIT_MQTT_RING <= 16384, "sizes are 16 bits");

static struct ack_slot *at(const struct ack_ring *r, uint32_t slot)
{
    return &r->slots[slot & (r->cap - 1u)];
}

static struct ack_slot *find(const struct ack_ring *r, uint32_t slot)
{
    return ((slot - r->first) & ACK_SLOT_MASK) < r->n ? at(r, slot) : NULL;
}

void ack_held_pop(struct ack_held **list)
{
    struct ack_held *h = *list;
    *list = h->next;
    free(h);
}

void ack_ring_done(struct ack_ring *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        struct ack_slot *s = at(r, r->first + i);
        while (s->held != NULL) {
            ack_held_pop(&s->held);
        }
    }
    free(r->slots);
    *r = (struct ack_ring){.first = r->first};
}

bool ack_ring_is_full(const struct ack_ring *r)
{
    return r->n >= LIMIT_MQTT_RING;
}

static bool grow(struct ack_ring *r)
{
    uint16_t cap = r->cap == 0 ? (uint16_t)RING_FIRST : (uint16_t)(r->cap * 4u);
    struct ack_slot *slots = malloc(cap * sizeof(*slots)); /* set one by one, in push */
    if (slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < r->n; i++) {
        slots[(r->first + i) & (cap - 1u)] = *at(r, r->first + i);
    }
    free(r->slots);
    r->slots = slots;
    r->cap = cap;
    return true;
}

enum err ack_ring_push(struct ack_ring *r, uint16_t packet_id, uint32_t *ret_slot)
{
    if (ack_ring_is_full(r)) {
        return E_QUEUE_FULL;
    }
    if (r->n == r->cap && !grow(r)) {
        return E_NOMEM;
    }
    uint32_t slot = (r->first + r->n) & ACK_SLOT_MASK;
    *at(r, slot) = (struct ack_slot){.packet_id = packet_id};
    r->n++;
    *ret_slot = slot;
    return OK;
}

void ack_ring_unpush(struct ack_ring *r)
{
    ASSERT(r->n > 0 && at(r, r->first + r->n - 1u)->held == NULL);
    r->n--;
}

void ack_ring_ack(struct ack_ring *r, uint32_t slot)
{
    struct ack_slot *s = find(r, slot);
    if (s != NULL) {
        s->is_acked = true;
    }
}

enum err ack_ring_hold(struct ack_ring *r, uint32_t slot, struct span packet)
{
    struct ack_slot *s = find(r, slot);
    if (s == NULL) {
        return E_NOT_FOUND;
    }
    if (packet.n > LIMIT_CONN_OUT_MAX - r->held_bytes) {
        return E_QUEUE_FULL;
    }
    struct ack_held *h = malloc(sizeof(*h) + packet.n);
    if (h == NULL) {
        return E_NOMEM;
    }
    h->next = NULL;
    h->n = (uint32_t)packet.n;
    memcpy(h->packet, packet.p, packet.n);
    struct ack_held **end = &s->held;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = h;
    r->held_bytes += h->n;
    return OK;
}

bool ack_ring_pop(struct ack_ring *r, uint16_t *ret_packet_id, struct ack_held **ret_held)
{
    if (r->n == 0 || !at(r, r->first)->is_acked) {
        return false;
    }
    struct ack_slot *s = at(r, r->first);
    *ret_packet_id = s->packet_id;
    *ret_held = s->held;
    for (const struct ack_held *h = s->held; h != NULL; h = h->next) {
        r->held_bytes -= h->n;
    }
    r->first = (r->first + 1) & ACK_SLOT_MASK;
    if (--r->n == 0) {
        free(r->slots);
        r->slots = NULL;
        r->cap = 0;
    }
    return true;
}
