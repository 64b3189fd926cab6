/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Audit trail: one JSON line per administrative act, each with the SHA-256 of the line before it, written in the same
 * transaction as the change (table audit) and never deleted by any route.
 *   who (policy name), from (address), act (method and path), result, time, prev, hash.  Never a secret.
 * Spec        docs/protocol/dps-service-rest.md C1; threat S4.
 */
#ifndef SERVER_AUDIT_H
#define SERVER_AUDIT_H

#include "server/server.h"

struct audit_entry {
    struct span who;
    struct span from;
    struct span act;
    struct span result;
};
/* On the writer, inside the change's own transaction. */
MUST_USE enum err audit_tx_add(struct store_tx *tx, const struct audit_entry *e);
/* A line of its own, for what was refused and for alarms: written soon, logged if it cannot be. Any thread. */
void audit_note(struct server *s, struct span who, struct span from, struct span act,
                enum err result);

#endif
