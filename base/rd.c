/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rd.h"

struct span rd_bytes(struct rd *r, size_t n)
{
    if (r->err != OK) {
        return SPAN_NONE;
    }
    if (n > r->n) {
        r->err = E_TRUNCATED;
        return SPAN_NONE;
    }
    struct span s = span_of(r->p, n);
    if (n != 0) {
        r->p += n;
        r->n -= n;
    }
    return s;
}

static uint64_t read_be(struct rd *r, size_t n)
{
    struct span s = rd_bytes(r, n);
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        v = v << 8 | s.p[i];
    }
    return v;
}

uint8_t rd_u8(struct rd *r)
{
    return (uint8_t)read_be(r, 1);
}

uint16_t rd_be16(struct rd *r)
{
    return (uint16_t)read_be(r, 2);
}

uint32_t rd_be32(struct rd *r)
{
    return (uint32_t)read_be(r, 4);
}

uint64_t rd_be64(struct rd *r)
{
    return read_be(r, 8);
}

struct span rd_lv16(struct rd *r)
{
    struct rd before = *r;
    struct span s = rd_bytes(r, rd_be16(r));
    if (r->err != OK) {
        enum err e = r->err;
        *r = before; /* a failed read moves nothing, not even past its length */
        r->err = e;
        return SPAN_NONE;
    }
    return s;
}

struct span rd_rest(struct rd *r)
{
    return rd_bytes(r, r->n);
}

void rd_require(struct rd *r, bool ok)
{
    if (r->err == OK && !ok) {
        r->err = E_MALFORMED;
    }
}

enum err rd_end(const struct rd *r)
{
    if (r->err != OK) {
        return r->err;
    }
    return r->n != 0 ? E_MALFORMED : OK;
}
