/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often a device may ask: one leaky bucket per key in a table of fixed size, so that keys made up by a peer cost no memory.
 * A rule may grow: who goes on beyond its burst waits twice as long each time, until it was quiet for as long as it takes to fill up.
 * A bucket that nobody used for long is the first to be given to another key; its owner then starts afresh, which errs for the device.
 *
 * All workers share it, so that many connections of one device do not multiply its bound: a lock for each part of the sets, held for a
 * look at one set. now_ms is of one clock; the workers' may differ by a turn.
 *
 * Ownership   throttle_new ... throttle_free.   Threads  any.
 * Limits      THROTTLE_SETS * THROTTLE_WAYS buckets of 24 bytes.   Spec  docs/protocol/limits.md 4; dps-device.md D33.
 */
#ifndef DPS_THROTTLE_H
#define DPS_THROTTLE_H

#include "base/err.h"
#include "base/span.h"

#define THROTTLE_SETS 4096u
#define THROTTLE_WAYS 4u

enum throttle_what { THROTTLE_REGISTER, THROTTLE_POLL, THROTTLE_FAILED, THROTTLE_CHALLENGE };
struct throttle_rule {
    enum throttle_what what;
    uint64_t burst;   /* at once; 0: no bound */
    uint64_t each_ms; /* one more after so long */
    uint64_t
        most_ms; /* each_ms doubles with each one taken beyond the burst, up to this; 0: it does not */
};
struct throttle;
MUST_USE enum err throttle_new(struct throttle **ret);
void throttle_free(struct throttle *t);
/* Takes one, false when there is none left. scope: empty, or whose count it is besides the id's (the peer's address). */
bool throttle_take(struct throttle *t, const struct throttle_rule *rule, struct span id_fold,
                   struct span scope, uint64_t now_ms);
/* How long until throttle_take() succeeds; 0: it would now. */
uint64_t throttle_wait_ms(struct throttle *t, const struct throttle_rule *rule, struct span id_fold,
                          struct span scope, uint64_t now_ms);

#endif
