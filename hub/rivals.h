/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the directory remembers about the takeovers of one identity while it is connected: two that hold the same credential take over
 * from one another for ever, each a CONNECT, a will and two events. So a takeover costs time that grows, and is told.
 *
 * Wait        each takeover raises a level by one; it falls by one in RIVALS_CALM_MS. Up to RIVALS_FREE the next takeover waits for
 *             nothing (a device whose line broke comes back at once); then 100 ms, twice that, ... RIVALS_WAIT_MAX_MS.
 * Alarms      RIVALS_WAR when the wait begins; RIVALS_PLACES when the identity came back RIVALS_RETURNS times to an address after it
 *             was taken over from another (IPv4, or IPv6 /64): a copied key. Each once in RIVALS_TELL_MS.
 * Threads     the caller's lock.   Spec   threats D7, D10; docs/protocol/hub-mqtt.md 2.5.
 */
#ifndef HUB_RIVALS_H
#define HUB_RIVALS_H

#include "base/span.h"

#define RIVALS_FREE 5u
#define RIVALS_CALM_MS 10000u
#define RIVALS_LEVEL_MAX 16u
#define RIVALS_WAIT_MAX_MS 10000u
#define RIVALS_RETURNS 3u
#define RIVALS_TELL_MS 600000u

struct rival_place {
    uint8_t n; /* 0: unknown, never the other of anything */
    uint8_t key[8];
};
struct rivals {
    uint32_t level;
    uint64_t level_ms;           /* as of */
    struct rival_place now, was; /* the owner's, and the last one that was another */
    uint32_t returns;
    uint64_t returns_ms; /* the first of them */
    uint64_t war_told_ms, places_told_ms;
};
enum { RIVALS_WAR = 1, RIVALS_PLACES = 2 };

/* For how long the next takeover has to wait. */
uint32_t rivals_wait_ms(struct rivals *r, uint64_t now_ms);
/* The first owner, or a takeover; returns the alarms that are due. */
void rivals_begin(struct rivals *r, const struct rival_place *from);
unsigned rivals_note(struct rivals *r, uint64_t now_ms, const struct rival_place *from);

#endif
