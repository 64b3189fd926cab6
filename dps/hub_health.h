/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the calls to each linked hub went since the start: GET /admin/linkedHubs/{name}/state, `berth dps hub state`.
 *
 * Ownership   struct dps.
 * Threads     any.
 * Limits      LIMIT_DPS_LINKED_HUBS hubs; the one that was not called for longest gives way.
 */
#ifndef DPS_HUB_HEALTH_H
#define DPS_HUB_HEALTH_H

#include "base/span.h"
#include "net/egress.h"

struct hub_health {
    int64_t called_us;   /* wall clock; 0: never */
    int64_t answered_us; /* with any status; 0: never */
    unsigned status;     /* of the last call; 0: no answer came */
    unsigned failures;   /* in a row: calls that are repeated */
    char why[160];       /* no answer came */
};
struct hub_healths;
MUST_USE enum err hub_healths_new(struct hub_healths **ret);
/* NULL is fine. */
void hub_healths_free(struct hub_healths *h);
/* A call is home. */
void hub_health_note(struct hub_healths *h, struct span host, const struct egress_rq *rq,
                     bool is_repeated, int64_t now_us);
/* All zero: never called. */
void hub_health_get(struct hub_healths *h, struct span host, struct hub_health *ret);

#endif
