/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writing half of a log: numbers and stores, begins new segments, drops old ones, comes back
 * after a failed sync. Private to store/.
 *
 *   WELL --a sync failed, or a new segment's folder could not be synced--> BROKEN
 *   BROKEN --logwriter_tidy: another segment is begun, durably--> WELL
 *
 * After a sync that failed nobody knows what of that commit is on disk, and the page cache is no witness. So
 * the segment ends, for good, at the last commit that was synced: the next one's head says where that is
 * and which numbers it had. The same when a new segment stands under its name but its folder is
 * not synced; one in which nothing was committed is made again under the same number.
 *
 * Ownership   struct logwriter is part of struct seglog and must not move; borrows table and marks.
 * Threads     the writer; before its start and after its end the owner. The counters: any reads.
 * Errors      as said in seglog.h; what there is to say besides is logged here, for the writer has
 *             no caller to tell.
 */
#ifndef STORE_LOGWRITER_H
#define STORE_LOGWRITER_H

#include <stdatomic.h>

#include "store/marks.h"
#include "store/segtable.h"
#include "store/segwriter.h"

struct logwriter {
    const struct seglog_config *cfg;
    const struct seg_place *at;
    struct seg_table *table;
    struct marks *marks;
    struct seg_writer sw;
    struct seg_base *last;   /* of what is committed */
    struct seg_base *staged; /* of the commit that is being written */
    uint64_t end;            /* of the newest segment's commits */
    bool is_broken;
    uint64_t tried_ms; /* the last recovery that failed; 0: none */
    int64_t born_us;   /* its first row; 0: none */
    int64_t kept_us;   /* the last look of retention */
    int64_t roll_us;   /* after a failure: no new segment before */
    atomic_uint_fast64_t appended, commits, failed_commits, sync_us, newest_bytes;
};

/* Opens the newest segment, or makes the first; publishes the marks. */
MUST_USE enum err logwriter_open(struct logwriter *lw, const struct seglog_config *cfg,
                                 const struct seg_place *at, struct seg_table *table,
                                 struct marks *marks, struct err_info *info);
void logwriter_close(struct logwriter *lw);
/* All in one commit: numbers and times are set in each, the marks moved. now_us: the wall clock. */
MUST_USE enum err logwriter_write(struct logwriter *lw, struct seglog_op *ops, size_t n,
                                  size_t bytes, int64_t now_us);
/* After the answers have left. When WELL: new segment, retention, as due. When BROKEN:
 * tries to become WELL, a few times a second at most. */
void logwriter_tidy(struct logwriter *lw, int64_t now_us);

#endif
