/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a device should wait before it asks again: an honest guess from how many registrations stand before its own and how many
 * end in a second. That is the whole queue of a storm: no tickets are kept. An operation id carries the moment at which it began, so
 * that a poll tells the device's place; the driver takes operations in that order, and whoever comes back when it was told finds its own done.
 *
 *   place of an operation   operations begun before it, less those that have ended. Of its second a share, by the moment
 *   rate                    operations that ended in a second in which some were waiting, smoothed
 *   answer                  place / rate, BACKLOG_LEAST_S at least: places differ, so they do not all come at once. But no longer than
 *                           what keeps the polls of all who wait below BACKLOG_POLLS a second: a hub that was away for a while must
 *                           not cost the devices a minute. Where that bound is told it is a quarter more or less by chance, and the
 *                           next answer tells the rest
 *
 * A forged operation id deceives only the device that sends it.
 * Threads     begun, ended, wait: any. tick: one worker.
 * Limits      BACKLOG_SECONDS of history; older operations count as the first in the queue.
 * Spec        docs/protocol/dps-device.md 3: a plain integer on every 202 and 429.
 */
#ifndef DPS_BACKLOG_H
#define DPS_BACKLOG_H

#include <stdatomic.h>

#include "base/span.h"

#define BACKLOG_LEAST_S 3u  /* customary */
#define BACKLOG_CALM_S 10u  /* nobody waits longer while few do */
#define BACKLOG_MOST_S 120u /* a device must hear in time that its registration failed */
#define BACKLOG_POLLS 500u
#define BACKLOG_SECONDS 2048u
#define BACKLOG_RATE 200u /* a second, until it was measured */

struct backlog {
    _Atomic uint64_t begun, ended;
    _Atomic uint64_t rate; /* a second */
    struct {
        _Atomic int64_t second;         /* wall clock */
        _Atomic uint64_t before, begun; /* until its first one, and up to its end */
    } at[BACKLOG_SECONDS];
    _Atomic int64_t newest_s;
    uint64_t last_ended; /* the ticking worker's */
};
void backlog_init(struct backlog *b);
/* n operations became open; in the order of their beginning. */
void backlog_begun(struct backlog *b, uint64_t n, int64_t now_s);
/* Never more than were begun: what a start found open in the database was begun then. */
void backlog_ended(struct backlog *b);
/* Once a second. */
void backlog_tick(struct backlog *b);
uint64_t backlog_open(const struct backlog *b);
/* Seconds for the operation that began at that moment; 0: the last one of all. random: any number. */
unsigned backlog_wait_s(const struct backlog *b, int64_t begun_us, uint32_t random);

#endif
