/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that run slow reads, each with a reading connection of its own. Private to store/;
 * what a scan is stands in store.h (struct store_scan).
 *
 *   RUNNING --scan_pool_drain--> DRAINING (E_DRAINING; what waits is still run) --free--> gone
 *
 * Threads     scan_pool_add any; drain and free the owner.
 * Limits      LIMIT_STORE_SCANS waiting.
 */
#ifndef STORE_SCAN_H
#define STORE_SCAN_H

#include "store/store.h"

struct scan_pool;
MUST_USE enum err scan_pool_new(const struct store_config *cfg, struct scan_pool **ret,
                                struct err_info *info);
MUST_USE enum err scan_pool_add(struct scan_pool *p, struct store_scan *scan);
void scan_pool_drain(struct scan_pool *p);
void scan_pool_free(struct scan_pool *p);

#endif
