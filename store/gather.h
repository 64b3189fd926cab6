/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a commit waits for company, and how long. Private to store/.
 *
 * A sync costs the same for one row as for fifty. While rows come faster than syncs end, they share
 * one by themselves; when each comes a little after the last commit was begun, each pays for its own.
 * Then the writer waits: until enough came, until it is quiet (a row is overdue by the pace of the
 * last commits), at most max_us. One device that sends its next message after the answer to the
 * last brings nobody along by being kept waiting; so what waiting brought is remembered, and when
 * that is not a row, no commit waits but one in GATHER_PROBE, to see whether it still is so.
 *
 * Units       microseconds of the monotonic clock, as the caller says it.
 * Threads     the writer.
 */
#ifndef STORE_GATHER_H
#define STORE_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GATHER_ROWS 64u  /* so many share a sync well enough */
#define GATHER_PROBE 64u /* commits between two trials */

struct gather {
    unsigned max_us;   /* 0: no commit waits */
    unsigned gap_us;   /* between two rows, over the last commits */
    unsigned gain;     /* sixteenths of a row that waiting brought, over the last waits */
    unsigned untried;  /* commits since the last wait */
    uint64_t taken_us; /* when the last commit was begun; 0: none */
};

/* Is a commit of so many rows to wait? */
bool gather_begin(struct gather *g, size_t rows);
/* How long until it is quiet, when so much of the time of waiting has gone; 0: all of it has. */
unsigned gather_slice_us(const struct gather *g, uint64_t waited_us);
/* The wait is over; so many rows came in it. */
void gather_end(struct gather *g, size_t came);
/* A commit of so many rows (at least 1) is begun. */
void gather_taken(struct gather *g, size_t rows, uint64_t now_us);

#endif
