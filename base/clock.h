/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time and randomness as small structs of functions, so that tests set them and never sleep.
 * Wall time is microseconds since 1970 (UTC); mono is milliseconds from an arbitrary start that
 * never goes back.
 * Threads     the system ones: any.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/err.h"
#include "base/span.h"

struct clock {
    int64_t (*wall_us)(void *arg);
    uint64_t (*mono_ms)(void *arg);
    void *arg;
};
const struct clock *clock_system(void);
static inline int64_t clock_wall_us(const struct clock *c)
{
    return c->wall_us(c->arg);
}
static inline int64_t clock_wall_s(const struct clock *c)
{
    return c->wall_us(c->arg) / 1000000;
}
static inline uint64_t clock_mono_ms(const struct clock *c)
{
    return c->mono_ms(c->arg);
}

/* Fills p with random bytes of the system; aborts when the system has none (nothing can go on). */
void random_bytes(void *p, size_t n);
/* Uniform in [0, bound); bound > 0. For jitter, not for keys. */
uint64_t random_below(uint64_t bound);

/* Time texts. dst sizes include the final zero. */
#define TIME_ISO_SIZE 32
/* "2026-01-31T00:49:39.4675280Z": 7 digits, as the cloud services write it. */
void time_iso7(int64_t wall_us, char dst[TIME_ISO_SIZE]);
/* "Sat, 31 Jan 2026 00:49:39 GMT" */
void time_rfc1123(int64_t wall_us, char dst[TIME_ISO_SIZE]);
/* "01/31/2026 00:49:39" (tracking texts) */
void time_tracking(int64_t wall_us, char dst[TIME_ISO_SIZE]);
/* ISO 8601 with optional fraction, "Z" or an offset; E_MALFORMED. */
MUST_USE enum err time_parse_iso(struct span s, int64_t *ret_wall_us);

/* Random version 4 UUID, lower case: 36 characters and a zero. */
#define GUID_SIZE 37
void guid_new(char dst[GUID_SIZE]);

#endif
