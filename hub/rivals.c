/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/rivals.h"

#define WAIT_FIRST_MS 100u

static bool is_same(const struct rival_place *a, const struct rival_place *b)
{
    return span_eq(span_of(a->key, a->n), span_of(b->key, b->n));
}

static void calm(struct rivals *r, uint64_t now_ms)
{
    uint64_t steps = now_ms > r->level_ms ? (now_ms - r->level_ms) / RIVALS_CALM_MS : 0;
    if (r->level == 0 || steps >= r->level) {
        r->level = 0;
        r->level_ms = now_ms;
    } else {
        r->level -= (uint32_t)steps;
        r->level_ms += steps * RIVALS_CALM_MS;
    }
}

uint32_t rivals_wait_ms(struct rivals *r, uint64_t now_ms)
{
    calm(r, now_ms);
    if (r->level < RIVALS_FREE) {
        return 0;
    }
    uint32_t wait = WAIT_FIRST_MS << (r->level - RIVALS_FREE); /* the level is bounded */
    return MIN(wait, RIVALS_WAIT_MAX_MS);
}

void rivals_begin(struct rivals *r, const struct rival_place *from)
{
    *r = (struct rivals){.now = *from};
}

/* An alarm is told at once, then not again for a while. */
static bool is_due(uint64_t *told_ms, uint64_t now_ms)
{
    if (*told_ms != 0 && now_ms - *told_ms < RIVALS_TELL_MS) {
        return false;
    }
    *told_ms = MAX(now_ms, 1u);
    return true;
}

/* Back at the address it was taken over from, so often within the time. */
static bool alternates(struct rivals *r, uint64_t now_ms, const struct rival_place *from)
{
    if (from->n == 0 || r->now.n == 0 || is_same(from, &r->now)) {
        return false;
    }
    bool is_return = r->was.n != 0 && is_same(from, &r->was);
    r->was = r->now;
    r->now = *from;
    if (!is_return) {
        return false; /* a third place: a device that travels */
    }
    if (r->returns == 0 || now_ms - r->returns_ms > RIVALS_TELL_MS) {
        r->returns = 0;
        r->returns_ms = now_ms;
    }
    return ++r->returns >= RIVALS_RETURNS;
}

unsigned rivals_note(struct rivals *r, uint64_t now_ms, const struct rival_place *from)
{
    unsigned alarms = 0;
    calm(r, now_ms);
    r->level = MIN(r->level + 1, RIVALS_LEVEL_MAX);
    if (r->level >= RIVALS_FREE && is_due(&r->war_told_ms, now_ms)) {
        alarms |= RIVALS_WAR;
    }
    if (alternates(r, now_ms, from) && is_due(&r->places_told_ms, now_ms)) {
        alarms |= RIVALS_PLACES;
    }
    return alarms;
}
