/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One write of the hub on its way: prepared on the worker, run by the writer, finished on the worker.
 *
 *   work_begin: prepare -> submitted -> tx (writer) -> committed -> finish, free (worker)
 *                  ^                                        |
 *                  +------------- E_STALE ------------------+
 *
 * Ownership   from work_begin on the work belongs to itself; free ends what the struct owns and the struct. When work_begin fails
 *             it has been freed and finish is not called.
 * Threads     prepare, finish, free: the worker's. tx: the writer; sees its work and the transaction only and may run twice.
 * Limits      LIMIT_HUB_RETRIES preparations; each arena of a work LIMIT_HUB_WORK.
 * Errors      E_BUSY: changed by others faster than it could be prepared; store_submit's; prepare's and tx's own with their info.
 */
#ifndef HUB_WORK_H
#define HUB_WORK_H

#include "hub/registry.h"

struct work {
    struct store_op op; /* first */
    struct worker *w;
    enum err (*prepare)(struct work *k); /* NULL: nothing to prepare. Runs again after E_STALE */
    enum err (*tx)(struct store_tx *tx, struct work *k);
    void (*finish)(struct work *k, enum err result); /* NULL: nobody waits */
    void (*free)(struct work *k);
    struct arena in;   /* what was asked for: filled before work_begin */
    struct arena prep; /* what prepare makes; emptied before each run */
    struct arena left; /* what tx leaves behind; emptied before each run */
    unsigned tries;
    struct err_info info;
};

/* Zeroed memory of `size` bytes that begins with a struct work; NULL: no memory. Ended by work_drop when it was never begun. */
void *work_new(struct worker *w, size_t size);
/* Arenas and the struct; for free functions. */
void work_end(struct work *k);
void work_drop(struct work *k);
MUST_USE enum err work_begin(struct work *k, struct err_info *info);

/* What the writer tells the directory after commit. Embedded in a work: it lives until the notices have run. */
struct change_notice {
    struct store_notice notice;
    struct hub *hub;
    int64_t identity;
    int change; /* enum dir_change */
    size_t n_modules;
    int64_t modules[LIMIT_MODULES];
};
/* Of DIR_GONE the modules of the device hear too: to be called before their rows go. */
MUST_USE enum err change_notify(struct store_tx *tx, struct change_notice *n, struct hub *hub,
                                int64_t identity, int change);

#endif
