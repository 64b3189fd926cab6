/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bump allocator for one request or packet: many small pieces, one end.
 *
 * Ownership   arena_done() frees all; nothing in it may outlive the request. Holds no secret.
 * Errors      NULL when the cap is reached or memory is short.
 * Limits      `cap` bytes in total, given at the start.
 * Threads     one owner at a time.
 * Sanitizer builds give every allocation a malloc of its own, so that an overrun is seen.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/span.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    size_t used; /* bytes handed out */
    size_t cap;
};

#define ARENA_INIT(limit)                                                                          \
    {                                                                                              \
        NULL, 0, (limit)                                                                           \
    }

void arena_done(struct arena *a);
/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *a, size_t n);
#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))
/* Copies. On failure the span's p is NULL (also for n == 0 never NULL on success). */
struct span arena_span(struct arena *a, struct span s);
/* With final zero. */
char *arena_str(struct arena *a, struct span s);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
