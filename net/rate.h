/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token bucket without a lock, kept as one time: when what was taken so far would have passed at the rate.
 * Threads     any: several loops may share one.   Limits   a burst of RATE_BURST_MS worth passes at once.
 */
#ifndef NET_RATE_H
#define NET_RATE_H

#include <stdatomic.h>

#include "base/cdefs.h"

#define RATE_BURST_MS 100u

struct rate {
    uint64_t bytes_per_s; /* 0: no bound */
    _Atomic uint64_t passed_us;
};

static inline void rate_init(struct rate *r, uint64_t bytes_per_s)
{
    r->bytes_per_s = bytes_per_s;
    atomic_init(&r->passed_us, 0);
}

/* n bytes pass now; how many milliseconds to wait before the next. */
static inline uint64_t rate_take(struct rate *r, uint64_t now_ms, uint64_t n)
{
    if (r == NULL || r->bytes_per_s == 0) {
        return 0;
    }
    uint64_t cost = n * 1000000u / r->bytes_per_s;
    uint64_t now = now_ms * 1000u;
    uint64_t was = atomic_load_explicit(&r->passed_us, memory_order_relaxed), is;
    do {
        is = MAX(was, now) + cost;
    } while (!atomic_compare_exchange_weak_explicit(&r->passed_us, &was, is, memory_order_relaxed,
                                                    memory_order_relaxed));
    uint64_t ahead = is - now;
    return ahead > RATE_BURST_MS * 1000u ? (ahead - RATE_BURST_MS * 1000u + 999u) / 1000u : 0;
}

#endif
