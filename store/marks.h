/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far each partition of a log may be read, and who waits for more. Private to store/.
 *
 * Ownership   struct marks is the log's; a watch is its owner's, and linked here while armed.
 * Threads     marks_publish the writer; the rest any. A message is posted under the lock, so that
 *             after marks_unwatch it is either posted or never will be.
 */
#ifndef STORE_MARKS_H
#define STORE_MARKS_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/seglog.h"
#include "store/segfile.h"

struct mark {
    _Atomic uint64_t seq; /* written under mu */
    int64_t ts;           /* under mu, as all below */
    struct seglog_watch *watches;
};
struct marks {
    unsigned n;
    pthread_mutex_t mu;
    struct mark *mark;
};

MUST_USE enum err marks_init(struct marks *m, unsigned partitions);
void marks_done(struct marks *m);
/* Moves the marks to last[], one for each partition, and wakes who waited for it. */
void marks_publish(struct marks *m, const struct seg_base *last);
static inline uint64_t marks_seq(struct marks *m, unsigned partition)
{
    return atomic_load_explicit(&m->mark[partition].seq, memory_order_acquire);
}
struct seg_base marks_get(struct marks *m, unsigned partition);
void marks_watch(struct marks *m, struct seglog_watch *w);
bool marks_unwatch(struct marks *m, struct seglog_watch *w);

#endif
