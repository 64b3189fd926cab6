/* SPDX-License-Identifier: Apache-2.0 */
#include "store/gather.h"

#include "base/cdefs.h"

/* Quiet is four times the usual gap, but no less than a timer can tell. */
#define QUIET_GAPS 4u
#define QUIET_MIN_US 100u
#define SIXTEENTHS 16u
/* What one wait can bring, and the longest gap, that is remembered: a burst is soon forgotten. */
#define GAIN_MAX (16u * SIXTEENTHS)
#define GAP_MAX_US 1000000u

static unsigned follow(unsigned mean, unsigned value)
{
    return (mean * 3 + value) / 4;
}

bool gather_begin(struct gather *g, size_t rows)
{
    if (g->max_us == 0 || rows >= GATHER_ROWS) {
        return false;
    }
    if (g->gain < SIXTEENTHS && ++g->untried < GATHER_PROBE) {
        return false;
    }
    g->untried = 0;
    return true;
}

unsigned gather_slice_us(const struct gather *g, uint64_t waited_us)
{
    unsigned quiet = MAX(QUIET_MIN_US, QUIET_GAPS * g->gap_us);

    return waited_us >= g->max_us ? 0 : MIN(quiet, g->max_us - (unsigned)waited_us);
}

void gather_end(struct gather *g, size_t came)
{
    unsigned gain = came < GAIN_MAX / SIXTEENTHS ? (unsigned)came * SIXTEENTHS : GAIN_MAX;

    /* A trial is believed at once; what is known, little by little. */
    g->gain = g->gain < SIXTEENTHS ? gain : follow(g->gain, gain);
}

void gather_taken(struct gather *g, size_t rows, uint64_t now_us)
{
    uint64_t gap = g->taken_us != 0 && now_us > g->taken_us ? (now_us - g->taken_us) / rows : 0;

    g->gap_us = follow(g->gap_us, gap < GAP_MAX_US ? (unsigned)gap : GAP_MAX_US);
    g->taken_us = now_us;
}
