/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered of provisioned devices that are not there: for each id, and each idScope that asked for it, the newest sequence. A
 * device that was deleted is not made again by a request that was sent before and comes late (hub/http_provision.h, Sequence).
 *
 *   a device that has a sequence is deleted, by whom ever     its own, or that of the deletion
 *   PATCH or DELETE of a device that is not there             that of the request
 *   PUT of a device that is not there                         refused when it is older
 *
 * A device that is there keeps its sequence itself.
 *
 * Threads     the writer's; each in the transaction of the change itself.
 * Errors      E_ETAG: older. E_BUSY: FENCES_MAX operations on absent devices within FENCE_LEAST_S; the caller comes again.
 * Limits      A row is kept for FENCE_KEPT_S. No request can be older than the token that came with it, and berth-dps makes tokens for
 *             one hour (dps/hublink.h): whoever delays a request for longer delivers one that is refused anyway. Beyond FENCES_MAX rows
 *             the oldest go earlier, never before FENCE_LEAST_S. Deleting by an administrator is never refused for the sake of this.
 */
#ifndef HUB_FENCE_H
#define HUB_FENCE_H

#include "base/limits.h"
#include "hub/registry.h"

#define FENCE_KEPT_S 86400
#define FENCE_LEAST_S 7200
#define FENCES_MAX (1u << 20)

/* owner: a mark, "<idScope>/..."; its first part counts. sequence 0: none, which is never older. */
MUST_USE enum err fence_tx_check(struct store_tx *tx, struct span id, struct span owner,
                                 int64_t sequence, struct err_info *info);
/* sequence 0: nothing is kept. */
MUST_USE enum err fence_tx_put(struct store_tx *tx, struct span id, struct span owner,
                               int64_t sequence, struct err_info *info);
/* row is about to be deleted by somebody who brings no sequence. Numbers of berth-dps are its clock: those of one that ran ahead are got
 * rid of so, for what is kept is never ahead of this hub's. */
MUST_USE enum err fence_tx_deleted(struct store_tx *tx, struct arena *a, const struct device *row);

#endif
