/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hub a device gets: a pure function of the enrollment, the linked hubs and the registration id.
 *
 * hashed       weighted rendezvous over SHA-256(hub, registration id): a new hub takes only its share, no device moves between others.
 * geoLatency   least latencyMs of the linked hubs; ties and unknowns hashed.
 * static       the first of iotHubs, or iotHubHostName.
 * custom       needs a webhook, which this version does not offer: 400207.
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
};
/* How: the enrollment's own policy, else that of the instance. */
enum enr_alloc assignment_policy(const struct snapshot *s, const struct enr_row *e);
struct pick assignment_pick(struct snapshot *s, const struct enr_row *e, struct span rid_fold);
/* Is host among the comma separated names, without case? */
bool assignment_names(struct span hubs, struct span host);

#endif
