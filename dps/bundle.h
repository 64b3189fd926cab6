/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that are to be made at the same hub and are ready at the same time go in one request (POST /provision/devices of
 * hub/http_provision.h); one alone goes as the PUT that it is. Nothing waits for company: what is ready at the end of a loop's turn
 * goes, unless a request of this worker is at that hub already; then it gathers until that one is home, BUNDLE_FEW are together, or
 * BUNDLE_WAIT_MS are over.
 *
 *   bundle_add --> line of its hub --request--> home: status and answer of its own in job.rq, then on_answer, for each job
 *
 * A request that fails as a whole and may succeed later (unreachable, overloaded, not allowed) fails so for each of its jobs. One that
 * is refused as a whole is asked again job by job, so that no job is refused for another's sake.
 *
 * Ownership   a job in a line or a request holds its call; the driver ends no job meanwhile. bundles_free() when nothing is under way.
 * Threads     the worker's.
 * Limits      BUNDLE_CALLS requests of a worker at a hub, LIMIT_PROVISION_MANY devices and LIMIT_PROVISION_BODY bytes in one.
 */
#ifndef DPS_BUNDLE_H
#define DPS_BUNDLE_H

#include "dps/driver_int.h"

#define BUNDLE_CALLS 4u
#define BUNDLE_FEW 16u
#define BUNDLE_WAIT_MS 100u

struct bundles;
MUST_USE enum err bundles_new(struct driver *d, struct dps_worker *dw, struct bundles **ret);
/* NULL is fine. */
void bundles_free(struct bundles *b);
/* j->body is the PUT's. The hub is j->row.op_hub, the device j->row.op_device_id; on_answer as for job_send. */
void bundle_add(struct bundles *b, struct job *j, job_fn on_answer);

#endif
