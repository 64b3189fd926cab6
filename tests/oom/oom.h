/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An allocator that fails once, at the n-th call from now, for this program and every library in it; counts what is live and
 * overwrites what is freed. Not in sanitizer builds, whose own allocator stands in the way.
 */
#ifndef TESTS_OOM_H
#define TESTS_OOM_H

#include <stdbool.h>
#include <stddef.h>

bool oom_is_here(void);
/* n from 1; 0: never. */
void oom_arm(unsigned long n);
/* Has it failed since? */
bool oom_disarm(void);
long oom_live(void);

#endif
