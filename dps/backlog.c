/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/backlog.h"

#include "base/cdefs.h"

#define BACKLOG_LATE_S 3

void backlog_init(struct backlog *b)
{
    atomic_init(&b->begun, 0);
    atomic_init(&b->ended, 0);
    atomic_init(&b->rate, BACKLOG_RATE);
    for (size_t i = 0; i < BACKLOG_SECONDS; i++) {
        atomic_init(&b->at[i].second, 0);
        atomic_init(&b->at[i].before, 0);
        atomic_init(&b->at[i].begun, 0);
    }
    atomic_init(&b->newest_s, 0);
    b->last_ended = 0;
}

/* Two threads may write one slot in turn: the numbers differ by what began between them, which is no matter to a guess. */
void backlog_begun(struct backlog *b, uint64_t n, int64_t now_s)
{
    size_t i = (size_t)now_s % BACKLOG_SECONDS;
    uint64_t begun = atomic_fetch_add_explicit(&b->begun, n, memory_order_relaxed) + n;
    if (atomic_load_explicit(&b->at[i].second, memory_order_relaxed) != now_s) {
        atomic_store_explicit(&b->at[i].before, begun - n, memory_order_relaxed);
    }
    atomic_store_explicit(&b->at[i].begun, begun, memory_order_relaxed);
    atomic_store_explicit(&b->at[i].second, now_s, memory_order_relaxed);
    if (atomic_load_explicit(&b->newest_s, memory_order_relaxed) < now_s) {
        atomic_store_explicit(&b->newest_s, now_s, memory_order_relaxed);
    }
}

void backlog_ended(struct backlog *b)
{
    if (backlog_open(b) != 0) {
        atomic_fetch_add_explicit(&b->ended, 1, memory_order_relaxed);
    }
}

uint64_t backlog_open(const struct backlog *b)
{
    uint64_t ended = atomic_load_explicit(&b->ended, memory_order_relaxed);
    uint64_t begun = atomic_load_explicit(&b->begun, memory_order_relaxed);
    return begun > ended ? begun - ended : 0;
}

/* Only seconds in which operations were waiting say how many could end. */
void backlog_tick(struct backlog *b)
{
    uint64_t ended = atomic_load_explicit(&b->ended, memory_order_relaxed);
    uint64_t rate = atomic_load_explicit(&b->rate, memory_order_relaxed);
    uint64_t n = ended - b->last_ended;
    b->last_ended = ended;
    if (n > rate || backlog_open(b) > n) {
        rate = (3 * rate + n) / 4;
        atomic_store_explicit(&b->rate, MAX(rate, 1), memory_order_relaxed);
    }
}

/* Operations before and with that one which have not ended. */
static uint64_t place_of(const struct backlog *b, int64_t begun_us)
{
    uint64_t open = backlog_open(b);
    int64_t begun_s = begun_us / 1000000;
    if (begun_us <= 0 || begun_s >= atomic_load_explicit(&b->newest_s, memory_order_relaxed)) {
        return open; /* its second is not over: nobody stands behind it for long */
    }
    size_t i = (size_t)begun_s % BACKLOG_SECONDS;
    int64_t s = begun_s;
    /* What began at the end of a second may have been counted in the next. */
    while (atomic_load_explicit(&b->at[i].second, memory_order_relaxed) != s) {
        if (++s > begun_s + BACKLOG_LATE_S) {
            return 0; /* longer ago than we remember: it is among the first */
        }
        i = (size_t)s % BACKLOG_SECONDS;
    }
    uint64_t before = atomic_load_explicit(&b->at[i].before, memory_order_relaxed);
    uint64_t upto = atomic_load_explicit(&b->at[i].begun, memory_order_relaxed);
    uint64_t share_us = s == begun_s ? (uint64_t)(begun_us % 1000000) : 0;
    uint64_t ended = atomic_load_explicit(&b->ended, memory_order_relaxed);
    upto = before + (upto > before ? (upto - before) * share_us / 1000000 : 0) + 1;
    return upto > ended ? MIN(upto - ended, open) : 0;
}

unsigned backlog_wait_s(const struct backlog *b, int64_t begun_us, uint32_t random)
{
    uint64_t rate = MAX(atomic_load_explicit(&b->rate, memory_order_relaxed), 1);
    uint64_t ms = place_of(b, begun_us) * 1000 / rate;
    uint64_t most_s = MIN(MAX(backlog_open(b) / BACKLOG_POLLS, BACKLOG_CALM_S), BACKLOG_MOST_S);
    if (ms > most_s * 1000) {
        ms = most_s * 1000;
        ms = ms - ms / 4 + random % (ms / 2 + 1); /* three to five quarters */
    }
    return (unsigned)MAX(MIN((ms + 999) / 1000, BACKLOG_MOST_S), BACKLOG_LEAST_S);
}
