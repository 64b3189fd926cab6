/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owned, growable bytes with a maximum given at the start.
 *
 *   struct buf b = BUF_INIT(LIMIT_X);  ... AUTO(buf_done) ...
 *
 * Errors      sticky: after a failed append (over the maximum, or no memory) nothing more is
 *             appended and buf_err() says why; append all, ask once.
 * Ownership   buf_done() frees; buf_take() moves the bytes out.
 * Limits      `max` bytes, checked before each growth. Not for secrets (struct secret).
 * Threads     one owner at a time.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>

#include "base/err.h"
#include "base/span.h"

struct buf {
    uint8_t *p;
    size_t n;   /* bytes used */
    size_t cap; /* bytes allocated */
    size_t max;
    enum err err;
};

#define BUF_INIT(limit)                                                                            \
    {                                                                                              \
        NULL, 0, 0, (limit), OK                                                                    \
    }

void buf_done(struct buf *b);
/* Keeps the memory, forgets the content and the error. */
void buf_reset(struct buf *b);
/* Frees the memory too; keeps max. */
void buf_release(struct buf *b);
enum err buf_err(const struct buf *b);
static inline struct span buf_span(const struct buf *b)
{
    return span_of(b->p, b->n);
}
void buf_add(struct buf *b, struct span s);
void buf_add_str(struct buf *b, const char *s);
void buf_add_u8(struct buf *b, uint8_t v);
void buf_add_be16(struct buf *b, uint16_t v);
void buf_add_be32(struct buf *b, uint32_t v);
void buf_add_be64(struct buf *b, uint64_t v);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Room for n more bytes at the end, NULL on error; the caller then adds to b->n what it wrote. */
uint8_t *buf_reserve(struct buf *b, size_t n);
/* Drops n bytes from the front (memmove; n is clamped). */
void buf_drop(struct buf *b, size_t n);
/* Heap string with final zero, moved out; NULL when the buffer has an error. */
char *buf_take_str(struct buf *b);

#endif
