/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's writing connection: runs a batch of operations in one transaction and gives each its
 * verdict. Private to store/.
 *
 *   WELL --commit in doubt--> BROKEN --batch_recover: cut, closed, opened again--> WELL
 *
 * Ownership   struct batch is part of struct store and must not move; batch_close ends it.
 * Threads     the writer; before its start and after its end the owner. The counters: any reads.
 * Errors      as said in store.h, in op->result; what there is to say besides is logged here, for
 *             the writer has no caller to tell.
 */
#ifndef STORE_BATCH_H
#define STORE_BATCH_H

#include <stdatomic.h>

#include "store/db.h"
#include "store/lite.h"

struct batch {
    const struct store_config *cfg;
    struct lite_writer w;
    struct db *db; /* NULL: the file could not be opened again yet */
    bool is_broken;
    uint64_t tried_ms; /* the last recovery that failed; 0: none */
    atomic_uint_fast64_t commits, failed_commits, reopened, sync_us;
};

/* Opens the file: what a crash left is settled before anything is read, the tables are migrated
 * before anything is prepared. cfg is borrowed for life. */
MUST_USE enum err batch_open(struct batch *b, const struct store_config *cfg, uint64_t *ret_boot,
                             struct err_info *info);
void batch_close(struct batch *b);
/* Sets op->result and op->notices of each that is not refused; they are linked by ->next. */
void batch_run(struct batch *b, struct store_op *ops);
/* When WELL: checkpoint if due. When BROKEN: batch_recover. */
void batch_tidy(struct batch *b);
/* Tries to become WELL, a few times a second at most. The scan threads keep the file's WAL index
 * alive meanwhile. */
void batch_recover(struct batch *b);

#endif
