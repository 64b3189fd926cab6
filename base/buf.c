/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST 64u

void buf_done(struct buf *b)
{
    buf_release(b);
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->err = OK;
}

void buf_release(struct buf *b)
{
    free(b->p);
    *b = (struct buf)BUF_INIT(b->max);
}

enum err buf_err(const struct buf *b)
{
    return b->err;
}

/* Memory for `extra` more bytes of content and `spare` ones (a final zero) that max does not count.
 */
static bool grow(struct buf *b, size_t extra, size_t spare)
{
    if (b->err != OK) {
        return false;
    }
    if (b->n > b->max || extra > b->max - b->n || b->n + extra > SIZE_MAX - spare) {
        b->err = E_TOO_LARGE;
        return false;
    }
    size_t need = b->n + extra + spare;
    if (b->p != NULL && need <= b->cap) {
        return true;
    }
    size_t cap = b->cap > SIZE_MAX / 2 ? SIZE_MAX : b->cap * 2;
    cap = MIN(MAX(cap, BUF_FIRST), b->max);
    cap = MAX(MAX(cap, need), 1);
    uint8_t *p = realloc(b->p, cap);
    if (p == NULL) {
        b->err = E_NOMEM;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
    return grow(b, n, 0) ? b->p + b->n : NULL;
}

void buf_add(struct buf *b, struct span s)
{
    if (grow(b, s.n, 0) && s.n != 0) {
        memcpy(b->p + b->n, s.p, s.n);
        b->n += s.n;
    }
}

void buf_add_str(struct buf *b, const char *s)
{
    buf_add(b, span_str(s));
}

void buf_add_u8(struct buf *b, uint8_t v)
{
    buf_add(b, span_of(&v, 1));
}

static void add_be(struct buf *b, uint64_t v, unsigned n)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    }
    buf_add(b, span_of(bytes, n));
}

void buf_add_be16(struct buf *b, uint16_t v)
{
    add_be(b, v, 2);
}

void buf_add_be32(struct buf *b, uint32_t v)
{
    add_be(b, v, 4);
}

void buf_add_be64(struct buf *b, uint64_t v)
{
    add_be(b, v, 8);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vaddf(b, fmt, ap);
    va_end(ap);
}

void buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
    if (b->err != OK) {
        return;
    }
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0) {
        b->err = E_BUG; /* a format the library does not know, or a text of 2 GiB */
        return;
    }
    if (grow(b, (size_t)n, 1)) {
        (void)vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, ap);
        b->n += (size_t)n;
    }
}

void buf_drop(struct buf *b, size_t n)
{
    n = MIN(n, b->n);
    if (n != 0 && n < b->n) {
        memmove(b->p, b->p + n, b->n - n);
    }
    b->n -= n;
}

char *buf_take_str(struct buf *b)
{
    if (!grow(b, 0, 1)) {
        return NULL;
    }
    char *s = (char *)b->p;
    s[b->n] = '\0';
    *b = (struct buf)BUF_INIT(b->max);
    return s;
}
