/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hub a device gets: a pure function of the enrollment, the linked hubs and the registration id.
 *
 * hashed       weighted rendezvous over SHA-256(hub, registration id): a new hub takes only its share, no device moves between others.
 * geoLatency   least milliseconds: as the device measured, else of its network by the latency table, else of its country there, else of its
 *              continent (dps/geoip.h), else latencyMs of the linked hub; ties hashed, hubs of which nothing is known last.
 * static       the first of iotHubs, or iotHubHostName.
 * custom       a webhook is asked: dps/step_ask.c.
 * A hub that drains takes nobody.
 * Spec         docs/protocol/dps-service-rest.md B4.
 */
#ifndef DPS_ASSIGNMENT_H
#define DPS_ASSIGNMENT_H

#include "dps/rule.h"
#include "dps/snapshot.h"

struct pick {
    struct span
        host; /* of the linked hub, borrowed from the snapshot; empty: none, and rule and text say why */
    enum rule rule; /* RULE_OK: host is one */
    const char *text;
    bool asks; /* a webhook decides */
};
/* How: the enrollment's own policy, else that of the instance. */
enum enr_alloc assignment_policy(const struct snapshot *s, const struct enr_row *e);
/* What is known of the device that asks. */
struct pick_for {
    struct span rid_fold;
    struct span peer;                /* its address, as text; empty: not known */
    const struct latencies *reports; /* NULL: it measured nothing */
};
struct pick assignment_pick(struct snapshot *s, const struct enr_row *e, const struct pick_for *f);
/* Is host among the comma separated names, without case? */
bool assignment_names(struct span hubs, struct span host);

#endif
