/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives open intents to their end: one PUT to the hub, repeated while the hub cannot be reached, then the result in the record. Each
 * intent belongs to the worker that its registration id hashes to, whoever took it in; what a worker does not hold in memory (after a
 * start, or over its bound) it finds in the database again.
 *
 *   QUEUED --a call is free--> CALLING --200--> STORING --committed--> gone
 *      ^                          |--refused for good--> STORING (failed)
 *      `----- WAITING <-----------'  unreachable, overloaded, or our credential does not serve: jittered back-off
 *
 * The call carries the operation id and may be repeated: never a device assigned but absent.
 * Ownership   driver_new ... driver_drain ... driver_free once the worker's thread is gone: until then messages may still come home.
 * Threads     the worker's; driver_post hands over to any.
 * Order       as they began; what does not fit in memory waits in the database, and who comes later waits behind it. A call that failed
 *             keeps its place DRIVER_KEEPS_PLACE times; then it goes behind all others, so that a hub that is away takes no more than its
 *             share of the calls.
 * Limits      DRIVER_JOBS in memory, DRIVER_CALLS at hubs at once, for one worker.
 * Spec        docs/architecture.md "DPS to hub".
 */
#ifndef DPS_DRIVER_H
#define DPS_DRIVER_H

#include "dps/dps_sql.h"
#include "dps/dps.h"

#define DRIVER_JOBS 4096u
#define DRIVER_CALLS 128u
#define DRIVER_KEEPS_PLACE 3u /* failures */
#define DRIVER_SWEEP_MS 10000u
#define DRIVER_PAGE 256u
#define DRIVER_BACKOFF_MS 250u
#define DRIVER_BACKOFF_MAX_MS 30000u

MUST_USE enum err driver_new(struct dps_worker *dw, struct driver **ret);
/* Takes up what the database holds, and looks again every DRIVER_SWEEP_MS. */
void driver_start(struct driver *d);
/* The worker whose registration of that folded id is. */
unsigned driver_owner(const struct server *s, struct span fold);
/* The intent was committed. Without memory for it the owner finds it at its next look. */
void driver_post(struct dps_worker *dw, const struct reg_row *row);
/* Nothing new is begun. */
void driver_drain(struct driver *d);
bool driver_is_busy(const struct driver *d);
/* NULL is fine. */
void driver_free(struct driver *d);

#endif
