/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Borrowed view of bytes. Owns nothing; valid as long as what it points into.
 * Never zero terminated by promise; SPAN_FMT prints it with %.*s.
 */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <string.h>

#include "base/cdefs.h"

struct span {
    const uint8_t *p;
    size_t n;
};

#define SPAN_NONE ((struct span){NULL, 0})
/* Of a string literal, embedded zeros included. */
#define SPAN_LIT(s) ((struct span){(const uint8_t *)("" s), sizeof(s) - 1})
#define SPAN_ARG(s)                                                                                \
    (int)(s).n, (const char *)((s).p != NULL ? (const void *)(s).p : (const void *)"")

static inline struct span span_of(const void *p, size_t n)
{
    return (struct span){(const uint8_t *)p, n};
}
/* Of a C string; NULL gives an empty span. */
static inline struct span span_str(const char *s)
{
    return (struct span){(const uint8_t *)s, s != NULL ? strlen(s) : 0};
}
static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool span_is(struct span a, const char *s)
{
    return span_eq(a, span_str(s));
}
/* ASCII without case. */
bool span_eq_nocase(struct span a, struct span b);
bool span_is_nocase(struct span a, const char *s);
bool span_starts(struct span a, struct span prefix);
bool span_starts_nocase(struct span a, struct span prefix);
bool span_ends(struct span a, struct span suffix);
/* -1, 0, 1; bytewise, shorter first. */
int span_cmp(struct span a, struct span b);
/* Clamped: never reads outside a. */
struct span span_sub(struct span a, size_t from, size_t n);
static inline struct span span_from(struct span a, size_t from)
{
    return span_sub(a, from, SIZE_MAX);
}
/* Index of c, or a.n. */
size_t span_find(struct span a, uint8_t c);
/* Cuts *rest at the first c: returns what stands before it, moves *rest past it. Without c the
 * whole rest is returned and *rest becomes empty with p NULL. */
struct span span_cut(struct span *rest, uint8_t c);
/* ASCII blanks and tabs off both ends. */
struct span span_trim(struct span a);
bool span_has_nul(struct span a);
/* Decimal digits only, no sign, at least one; false when it does not fit or has another byte. */
bool span_to_u64(struct span a, uint64_t *ret);
/* Optional '-', then digits. */
bool span_to_i64(struct span a, int64_t *ret);
/* Copies into dst of size n with a final zero; false (dst empty) when it does not fit or holds a zero. */
bool span_to_cstr(struct span a, char *dst, size_t n);
/* Heap copy with final zero, NULL when memory is short. Caller frees. */
char *span_dup(struct span a);
/* Bytes of the well-formed UTF-8 character at the start (U+0000 is one), 0 when there is none. */
size_t span_utf8_len(struct span a);
/* True for well-formed UTF-8 without surrogates and without U+0000. */
bool span_is_utf8(struct span a);

#endif
