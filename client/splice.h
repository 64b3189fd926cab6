/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joins two streams: what comes from one goes to the other. The slow side slows the fast one; a half-close is carried where the other
 * side has half-closes, else it closes the other side once all was written. What ends one side ends the other: in order after a
 * close in order, at once after an error.
 *
 * Ownership   takes both streams; frees itself after done, when both are gone.
 * Memory      what the streams queue: nothing is kept here.   Threads  the loop's.
 */
#ifndef CLIENT_SPLICE_H
#define CLIENT_SPLICE_H

#include "net/stream.h"

struct splice;
struct splice_end {
    enum err why;            /* OK: both ended in order */
    unsigned first;          /* the side that ended it: 0 a, 1 b */
    uint64_t from_a, from_b; /* bytes */
};
/* A stream that waits for its other side: its bytes are kept, its end is remembered. */
struct hold {
    struct stream *s;                /* NULL: gone */
    enum err why;                    /* then */
    bool has_ended;                  /* the peer's half, before there was anyone to tell */
    void (*on_gone)(struct hold *h); /* NULL: nobody wants to hear */
};
void hold_stream(struct hold *h, struct stream *s, void (*on_gone)(struct hold *h));

typedef void (*splice_done_fn)(void *arg, const struct splice_end *end);
/* Both are there. E_NOMEM: they still wait. */
MUST_USE enum err splice_new(struct hold *a, struct hold *b, splice_done_fn done, void *arg,
                             struct splice **ret);
/* So far. */
void splice_counts(const struct splice *sp, uint64_t *ret_from_a, uint64_t *ret_from_b);
void splice_abort(struct splice *sp, enum err why);

#endif
