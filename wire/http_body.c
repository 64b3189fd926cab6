/* SPDX-License-Identifier: Apache-2.0 */
/* Where a body ends: third part of wire/http.h. */
#include "wire/http.h"

enum state {
    S_DATA,    /* `left` bytes of the length or of a chunk */
    S_SIZE,    /* digits of a chunk's size */
    S_EXT,     /* extension: to the end of the line */
    S_SIZE_LF, /* behind the CR of a size line */
    S_DATA_CR, /* behind a chunk's data */
    S_DATA_LF,
    S_END_CR, /* behind the last chunk: no trailers */
    S_END_LF,
    S_DONE,
    S_BAD
};

void http_body_init(struct http_body *b, const struct http_head *h)
{
    *b = (struct http_body){.is_chunked = h->is_chunked, .left = h->is_chunked ? 0 : h->length};
    b->state = h->is_chunked ? S_SIZE : h->length > 0 ? S_DATA : S_DONE;
}

bool http_body_is_done(const struct http_body *b)
{
    return b->state == S_DONE;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum state after_size(struct http_body *b, uint8_t c)
{
    if (b->digits == 0) {
        return S_BAD;
    }
    if (c == '\r') {
        return S_SIZE_LF;
    }
    return c == ';' ? S_EXT : S_BAD;
}

/* A byte of a chunk's size line. */
static enum state size_step(struct http_body *b, uint8_t c)
{
    if (++b->line_n > HTTP_CHUNK_LINE) {
        return S_BAD;
    }
    if (b->state == S_EXT) {
        if (c == '\r') {
            return S_SIZE_LF;
        }
        return (c < 0x20 && c != '\t') || c == 0x7f ? S_BAD : S_EXT;
    }
    int v = hex_value(c);
    if (v < 0) {
        return after_size(b, c);
    }
    if (++b->digits > 15) { /* 60 bits: no sum of sizes wraps */
        return S_BAD;
    }
    b->left = b->left << 4 | (uint64_t)v;
    return S_SIZE;
}

static enum state size_end(struct http_body *b)
{
    b->line_n = 0;
    b->digits = 0;
    return b->left == 0 ? S_END_CR : S_DATA;
}

/* One byte of framing. */
static enum state step(struct http_body *b, uint8_t c)
{
    switch ((enum state)b->state) {
    case S_SIZE:
    case S_EXT:
        return size_step(b, c);
    case S_SIZE_LF:
        return c == '\n' ? size_end(b) : S_BAD;
    case S_DATA_CR:
        return c == '\r' ? S_DATA_LF : S_BAD;
    case S_DATA_LF:
        return c == '\n' ? S_SIZE : S_BAD;
    case S_END_CR:
        return c == '\r' ? S_END_LF : S_BAD;
    case S_END_LF:
        return c == '\n' ? S_DONE : S_BAD;
    case S_DATA:
    case S_DONE:
    case S_BAD:
    default:
        return S_BAD;
    }
}

enum err http_body_feed(struct http_body *b, struct span in, size_t *ret_used, bool *ret_done,
                        struct err_info *info)
{
    size_t used = 0;
    while (used < in.n && b->state != S_DONE && b->state != S_BAD) {
        if (b->state != S_DATA) {
            b->state = (uint8_t)step(b, in.p[used++]);
            continue;
        }
        uint64_t n = MIN(b->left, (uint64_t)(in.n - used));
        used += (size_t)n;
        b->left -= n;
        b->payload = b->payload > UINT64_MAX - n ? UINT64_MAX : b->payload + n;
        if (b->left == 0) {
            b->state = b->is_chunked ? S_DATA_CR : S_DONE;
        }
    }
    if (b->state == S_BAD) {
        return err_set(info, E_MALFORMED, "HTTP body: chunk framing (RFC 9112 7.1)");
    }
    *ret_used = used;
    *ret_done = b->state == S_DONE;
    return OK;
}
