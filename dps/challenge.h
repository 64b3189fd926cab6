/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Challenges that were sent to TPMs: for each registration id the key K1 that its device must have got out of the last blob.
 *
 *   none --put--> PENDING --use--> USED --its time is over, or put--> none | PENDING
 *                    |  ^----give_back---'
 *                    '--its time is over--> none
 *
 * A challenge is good for one registration; USED, its token still asks what came of that one. A new challenge takes the place of the
 * old. All workers share the set, because a device's second request may come on another connection: shards with a lock each, held for a
 * look-up and a copy, never over a digest.
 *
 * Ownership   what is got is a copy; challenge_wipe() ends it. Keys are in memory only.
 * Threads     any.
 * Limits      LIMIT_DPS_CHALLENGES; then the oldest of the shard goes. CHALLENGE_PENDING_MS, CHALLENGE_USED_MS.
 * Spec        docs/protocol/dps-tpm.md 1, 5, 8; threats N9, N12.
 */
#ifndef DPS_CHALLENGE_H
#define DPS_CHALLENGE_H

#include "base/limits.h"
#include "base/secret.h"

#define CHALLENGE_PENDING_MS (10u * 60u * 1000u)
#define CHALLENGE_USED_MS (30u * 60u * 1000u) /* as long as a finished operation can be read */
#define CHALLENGE_SWEEP_MS 10000u
#define CHALLENGE_KEYS 32u

struct challenge {
    uint64_t serial;              /* set by put: names this one, not its successor */
    int64_t enrollment;           /* the row that admitted the device */
    uint8_t ek[CHALLENGE_KEYS];   /* SHA-256 over the EK as it was shown */
    uint8_t keys[CHALLENGE_KEYS]; /* over EK and SRK */
    struct secret k1;
    bool is_used;
};
void challenge_wipe(struct challenge *c);

struct challenges;
MUST_USE enum err challenges_new(struct challenges **ret);
/* NULL is fine. Wipes. */
void challenges_free(struct challenges *s);
/* E_NOMEM. */
MUST_USE enum err challenge_put(struct challenges *s, struct span fold, const struct challenge *c,
                                uint64_t now_ms);
bool challenge_get(struct challenges *s, struct span fold, uint64_t now_ms, struct challenge *ret);
/* False: it was used, replaced or is over. */
MUST_USE bool challenge_use(struct challenges *s, struct span fold, uint64_t serial,
                            uint64_t now_ms);
/* The registration that used it did not begin. */
void challenge_give_back(struct challenges *s, struct span fold, uint64_t serial);
/* Wipes what is over. */
void challenges_sweep(struct challenges *s, uint64_t now_ms);
size_t challenges_count(struct challenges *s);

#endif
