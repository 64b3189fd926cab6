/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is there enough room on the disk? Asks the file system a few times a second at most and keeps the
 * answer where every thread may look. Private to store/.
 *
 *   ENOUGH --free < reserve--> LOW --free >= reserve + 1/16 of it--> ENOUGH
 *
 * Threads     disk_is_low any; disk_refresh the writer only.
 */
#ifndef STORE_DISK_H
#define STORE_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

struct disk {
    char *dir;
    uint64_t reserve;
    store_free_fn free_bytes;
    void *arg;
    uint64_t asked_ms; /* 0: never */
    atomic_bool low;
};

/* How often to ask while low: room that returns is noticed after this long. */
#define DISK_POLL_MS 250u

MUST_USE enum err disk_init(struct disk *d, const char *dir, size_t dir_len, uint64_t reserve,
                            store_free_fn free_bytes, void *arg);
void disk_done(struct disk *d);
static inline bool disk_is_low(struct disk *d)
{
    return atomic_load_explicit(&d->low, memory_order_relaxed);
}
void disk_refresh(struct disk *d);

#endif
