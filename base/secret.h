/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owned secret bytes: wiped when freed, never logged, never reallocated. Fixed capacity: keys of
 * Berth are at most SECRET_MAX bytes. Core dumps are a matter of the process: each program that
 * holds keys calls secret_forbid_dumps() first.
 *
 * Ownership   caller's storage; secret_done() wipes. Copy with secret_set(), never by assignment.
 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include "base/err.h"
#include "base/span.h"

#define SECRET_MAX 96u

struct secret {
    uint8_t b[SECRET_MAX];
    size_t n;
};

void secret_done(struct secret *s);
/* E_TOO_LARGE when it does not fit. */
MUST_USE enum err secret_set(struct secret *s, struct span from);
static inline struct span secret_span(const struct secret *s)
{
    return span_of(s->b, s->n);
}
/* n random bytes from the system. */
MUST_USE enum err secret_random(struct secret *s, size_t n);
/* base64 text to bytes; E_MALFORMED when it is not base64 or does not fit. */
MUST_USE enum err secret_from_base64(struct secret *s, struct span text);

/* No core file, no ptrace by others of the same user. Call once, early in main. */
MUST_USE enum err secret_forbid_dumps(struct err_info *info);

/* Wipe that the compiler keeps. */
void mem_wipe(void *p, size_t n);
/* Constant time in the content (not in the lengths). */
bool mem_equal_ct(struct span a, struct span b);

#endif
