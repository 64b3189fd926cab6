/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALIGN _Alignof(max_align_t)
#define BLOCK_SIZE 4096u

struct arena_block {
    struct arena_block *next;
    size_t size;
    size_t used;
    _Alignas(max_align_t) uint8_t bytes[];
};

void arena_done(struct arena *a)
{
    struct arena_block *b = a->head;
    while (b != NULL) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
    a->head = NULL;
    a->used = 0;
}

/* Room in a block: what is asked for in sanitizer builds, where each piece stands alone so that an
 * overrun meets a red zone. */
static size_t block_room(size_t n)
{
#ifdef BERTH_SANITIZED
    return n;
#else
    return MAX(n, BLOCK_SIZE - sizeof(struct arena_block));
#endif
}

void *arena_alloc(struct arena *a, size_t n)
{
    n = MAX(n, 1);
    if (n > a->cap || a->cap > SIZE_MAX / 2) {
        return NULL;
    }
    size_t step = (n + ALIGN - 1) / ALIGN * ALIGN;
    if (step > a->cap - a->used) {
        return NULL;
    }
    struct arena_block *b = a->head;
    if (b == NULL || b->size - b->used < step) {
        size_t room = block_room(MAX(n, 1));
        b = calloc(1, sizeof(*b) + room);
        if (b == NULL) {
            return NULL;
        }
        b->size = room;
        b->next = a->head;
        a->head = b;
    }
    void *p = b->bytes + b->used;
    b->used = MIN(b->used + step, b->size);
    a->used += step;
    return p;
}

struct span arena_span(struct arena *a, struct span s)
{
    uint8_t *p = arena_alloc(a, s.n);
    if (p == NULL) {
        return SPAN_NONE;
    }
    if (s.n != 0) {
        memcpy(p, s.p, s.n);
    }
    return span_of(p, s.n);
}

char *arena_str(struct arena *a, struct span s)
{
    char *p = s.n < SIZE_MAX ? arena_alloc(a, s.n + 1) : NULL;
    if (p != NULL && s.n != 0) {
        memcpy(p, s.p, s.n);
    }
    return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n >= 0 ? arena_alloc(a, (size_t)n + 1) : NULL;
    if (p != NULL) {
        va_start(ap, fmt);
        (void)vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    return p;
}
