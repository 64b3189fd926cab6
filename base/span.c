/* SPDX-License-Identifier: Apache-2.0 */
#include "base/span.h"

#include <stdlib.h>

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

bool span_eq_nocase(struct span a, struct span b)
{
    if (a.n != b.n) {
        return false;
    }
    for (size_t i = 0; i < a.n; i++) {
        if (lower(a.p[i]) != lower(b.p[i])) {
            return false;
        }
    }
    return true;
}

bool span_is_nocase(struct span a, const char *s)
{
    return span_eq_nocase(a, span_str(s));
}

bool span_starts(struct span a, struct span prefix)
{
    return a.n >= prefix.n && span_eq(span_sub(a, 0, prefix.n), prefix);
}

bool span_starts_nocase(struct span a, struct span prefix)
{
    return a.n >= prefix.n && span_eq_nocase(span_sub(a, 0, prefix.n), prefix);
}

bool span_ends(struct span a, struct span suffix)
{
    return a.n >= suffix.n && span_eq(span_from(a, a.n - suffix.n), suffix);
}

int span_cmp(struct span a, struct span b)
{
    size_t n = MIN(a.n, b.n);
    int d = n != 0 ? memcmp(a.p, b.p, n) : 0;
    if (d != 0) {
        return d < 0 ? -1 : 1;
    }
    return a.n < b.n ? -1 : a.n > b.n;
}

struct span span_sub(struct span a, size_t from, size_t n)
{
    if (a.p == NULL) {
        return SPAN_NONE;
    }
    from = MIN(from, a.n);
    return span_of(a.p + from, MIN(n, a.n - from));
}

size_t span_find(struct span a, uint8_t c)
{
    const uint8_t *hit = a.n != 0 ? memchr(a.p, c, a.n) : NULL;
    return hit != NULL ? (size_t)(hit - a.p) : a.n;
}

struct span span_cut(struct span *rest, uint8_t c)
{
    size_t at = span_find(*rest, c);
    struct span head = span_sub(*rest, 0, at);
    *rest = at < rest->n ? span_from(*rest, at + 1) : SPAN_NONE;
    return head;
}

struct span span_trim(struct span a)
{
    while (a.n != 0 && is_blank(a.p[0])) {
        a.p++;
        a.n--;
    }
    while (a.n != 0 && is_blank(a.p[a.n - 1])) {
        a.n--;
    }
    return a;
}

bool span_has_nul(struct span a)
{
    return span_find(a, 0) < a.n;
}

bool span_to_u64(struct span a, uint64_t *ret)
{
    uint64_t v = 0;
    if (a.n == 0) {
        return false;
    }
    for (size_t i = 0; i < a.n; i++) {
        if (a.p[i] < '0' || a.p[i] > '9' || __builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(a.p[i] - '0'), &v)) {
            return false;
        }
    }
    *ret = v;
    return true;
}

bool span_to_i64(struct span a, int64_t *ret)
{
    bool is_negative = a.n != 0 && a.p[0] == '-';
    uint64_t v;
    if (!span_to_u64(is_negative ? span_from(a, 1) : a, &v)) {
        return false;
    }
    if (v > (uint64_t)INT64_MAX + (is_negative ? 1u : 0u)) {
        return false;
    }
    /* -v - 1 + 1 keeps INT64_MIN inside the type at every step */
    *ret = is_negative && v != 0 ? -(int64_t)(v - 1) - 1 : (int64_t)v;
    return true;
}

bool span_to_cstr(struct span a, char *dst, size_t n)
{
    ASSERT(n != 0);
    dst[0] = '\0';
    if (a.n >= n || span_has_nul(a)) {
        return false;
    }
    if (a.n != 0) {
        memcpy(dst, a.p, a.n);
    }
    dst[a.n] = '\0';
    return true;
}

char *span_dup(struct span a)
{
    char *s = a.n < SIZE_MAX ? malloc(a.n + 1) : NULL;
    if (s == NULL) {
        return NULL;
    }
    if (a.n != 0) {
        memcpy(s, a.p, a.n);
    }
    s[a.n] = '\0';
    return s;
}

size_t span_utf8_len(struct span a)
{
    if (a.n == 0) {
        return 0;
    }
    /* Unicode table 3-7: what the second byte may be depends on the first, which keeps out overlong
     * forms, surrogates and everything above U+10FFFF. */
    uint8_t c = a.p[0];
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    size_t n;
    if (c < 0x80) {
        return 1;
    }
    if (c >= 0xc2 && c <= 0xdf) {
        n = 2;
    } else if (c >= 0xe0 && c <= 0xef) {
        n = 3;
        low = c == 0xe0 ? 0xa0 : low;
        high = c == 0xed ? 0x9f : high;
    } else if (c >= 0xf0 && c <= 0xf4) {
        n = 4;
        low = c == 0xf0 ? 0x90 : low;
        high = c == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (a.n < n || a.p[1] < low || a.p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((a.p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

bool span_is_utf8(struct span a)
{
    for (size_t at = 0; at < a.n;) {
        size_t n = a.p[at] < 0x80 ? 1 : span_utf8_len(span_from(a, at));
        if (n == 0 || a.p[at] == 0) {
            return false;
        }
        at += n;
    }
    return true;
}
