/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of store/ share: a folder that goes away, a mailbox that is waited on, a clock and
 * a disk that are set.
 */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <stdatomic.h>

#include "base/clock.h"
#include "base/mailbox.h"

/* A new folder under TMPDIR, and its end with all that is in it (one level). */
char *fixture_dir(void);
void fixture_dir_done(char *dir);

/* Runs the mailbox until *done is at least n; fails the test after a minute. */
void fixture_wait(struct mailbox *mb, const size_t *done, size_t n);

struct fixture_clock {
    struct clock clock;
    _Atomic int64_t wall_us;
    _Atomic uint64_t mono_ms;
};
void fixture_clock_init(struct fixture_clock *c, int64_t wall_us);

/* store_free_fn; arg is the number. */
bool fixture_free(void *arg, const char *dir, uint64_t *ret);

#endif
