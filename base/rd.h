/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded reader over a span, with a sticky error: a failed read yields zeros and moves nothing.
 * Read in wire order, ask rd_end() once at the end. Ask rd_err() earlier only before looping on,
 * or allocating from, a value just read.
 */
#ifndef BASE_RD_H
#define BASE_RD_H

#include "base/err.h"
#include "base/span.h"

struct rd {
    const uint8_t *p;
    size_t n; /* left */
    enum err err;
};

static inline struct rd rd_init(struct span s)
{
    return (struct rd){s.p, s.n, OK};
}
uint8_t rd_u8(struct rd *r);
uint16_t rd_be16(struct rd *r);
uint32_t rd_be32(struct rd *r);
uint64_t rd_be64(struct rd *r);
struct span rd_bytes(struct rd *r, size_t n);
/* 16-bit length, then that many bytes. */
struct span rd_lv16(struct rd *r);
struct span rd_rest(struct rd *r);
/* E_MALFORMED unless ok (keeps an earlier error). */
void rd_require(struct rd *r, bool ok);
static inline enum err rd_err(const struct rd *r)
{
    return r->err;
}
/* The error, or E_MALFORMED when bytes are left, or OK. */
MUST_USE enum err rd_end(const struct rd *r);

#endif
