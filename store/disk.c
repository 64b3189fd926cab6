/* SPDX-License-Identifier: Apache-2.0 */
#include "store/disk.h"

#include <stdlib.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/log.h"

static bool ask_system(void *arg, const char *dir, uint64_t *ret)
{
    struct statvfs v;

    (void)arg;
    if (statvfs(dir, &v) != 0) {
        return false;
    }
    *ret = (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
    return true;
}

enum err disk_init(struct disk *d, const char *dir, size_t dir_len, uint64_t reserve,
                   store_free_fn free_bytes, void *arg)
{
    char *copy = span_dup(span_of(dir, dir_len));

    if (copy == NULL) {
        return E_NOMEM;
    }
    d->dir = copy;
    d->reserve = reserve;
    d->free_bytes = free_bytes != NULL ? free_bytes : ask_system;
    d->arg = arg;
    d->asked_ms = 0;
    atomic_init(&d->low, false);
    disk_refresh(d);
    return OK;
}

void disk_done(struct disk *d)
{
    free(d->dir);
    d->dir = NULL;
}

void disk_refresh(struct disk *d)
{
    /* The system's clock, not the caller's: this is about how often, never about when. */
    uint64_t now = clock_mono_ms(clock_system());
    bool was_low = disk_is_low(d);
    uint64_t n = 0;
    bool low;

    if (d->reserve == 0 || (d->asked_ms != 0 && now - d->asked_ms < DISK_POLL_MS - 50)) {
        return;
    }
    d->asked_ms = now == 0 ? 1 : now;
    if (!d->free_bytes(d->arg, d->dir, &n)) {
        return; /* not known: the write itself will tell */
    }
    /* A little more than the reserve must come back, or it would flicker. */
    low = n < d->reserve || (was_low && n - d->reserve < d->reserve / 16);
    if (low != was_low) {
        atomic_store_explicit(&d->low, low, memory_order_relaxed);
        LOG_WARN(low ? "store.disk_low" : "store.disk_enough", L_STR("folder", d->dir),
                 L_U64("free_bytes", n), L_U64("reserve_bytes", d->reserve));
    }
}
