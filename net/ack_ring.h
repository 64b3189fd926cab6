/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QoS 1 PUBLISHes of one link that are not acknowledged yet, in the order in which they came, and what has to
 * wait for their PUBACKs. Acknowledged in any order, taken out in that order only.
 *
 * Ownership   plain memory of the link; ack_ring_done() frees. Memory is held only while something waits.
 * Errors      E_QUEUE_FULL: LIMIT_MQTT_RING slots, or LIMIT_CONN_OUT_MAX held bytes; E_NOMEM.
 * Threads     the loop's.   Spec   MQTT 3.1.1 4.6 [MQTT-4.6.0-2]; docs/protocol/hub-mqtt.md 5.4.
 */
#ifndef NET_ACK_RING_H
#define NET_ACK_RING_H

#include "base/err.h"
#include "base/span.h"

struct ack_held {
    struct ack_held *next;
    uint32_t n;
    uint8_t packet[];
};
struct ack_slot {
    struct ack_held *held; /* in order */
    uint16_t packet_id;
    bool is_acked;
};
struct ack_ring {
    struct ack_slot *slots; /* slot q is slots[q & (cap - 1)] */
    uint32_t first;         /* number of the oldest */
    uint32_t held_bytes;
    uint16_t n, cap;
};

/* Numbers run through 31 bits, so that no slot is MLINK_NO_SLOT. */
#define ACK_SLOT_MASK 0x7fffffffu

void ack_ring_done(struct ack_ring *r);
bool ack_ring_is_full(const struct ack_ring *r);
MUST_USE enum err ack_ring_push(struct ack_ring *r, uint16_t packet_id, uint32_t *ret_slot);
/* Takes back the newest, which nothing waits for. */
void ack_ring_unpush(struct ack_ring *r);
/* Slots that are gone already are ignored. */
void ack_ring_ack(struct ack_ring *r, uint32_t slot);
/* The packet waits for slot; E_NOT_FOUND: that slot has been taken out, write at once. */
MUST_USE enum err ack_ring_hold(struct ack_ring *r, uint32_t slot, struct span packet);
/* Takes the oldest out if it is acknowledged; *ret_held is the caller's (ack_held_pop). */
bool ack_ring_pop(struct ack_ring *r, uint16_t *ret_packet_id, struct ack_held **ret_held);
/* Frees the first of the list. */
void ack_held_pop(struct ack_held **list);

#endif
