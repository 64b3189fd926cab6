/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is owed to a hub after a registration's end was told: the device that moved away is deleted there, one whose record was
 * deleted in the middle of a move is enabled there again, one that was revoked is disabled (dps/revocation.h). Rows of the table `leftover`, each tried until the hub has said something
 * definite; a hub that is not linked any more is owed nothing.
 *
 * Every call carries the sequence of its operation, so one that comes late cannot undo what a later registration did.
 * Ownership   leftover_new ... leftover_drain ... leftover_free once the worker's thread is gone.
 * Threads     the worker's; each row belongs to the worker of its registration id (dps/driver.h).
 * Limits      LEFTOVERS in memory of one worker, all of them may be calls.
 * Spec        docs/protocol/dps-service-rest.md B5; hub/http_provision.h.
 */
#ifndef DPS_LEFTOVER_H
#define DPS_LEFTOVER_H

#include "dps/dps.h"
#include "dps/dps_sql.h"

#define LEFTOVERS 1024u
#define LEFTOVER_PAGE 256u

MUST_USE enum err leftover_new(struct dps_worker *dw, struct leftover **ret);
/* Takes up what the database holds, and looks again every DRIVER_SWEEP_MS. */
void leftover_start(struct leftover *l);
/* A row of this worker was committed. */
void leftover_look(struct dps_worker *dw);
/* The same from any worker, for the rows of that folded id. */
void leftover_post(struct dps_worker *dw, struct span fold);
void leftover_drain(struct leftover *l);
bool leftover_is_busy(const struct leftover *l);
/* NULL is fine. */
void leftover_free(struct leftover *l);

#endif
