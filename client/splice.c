/* SPDX-License-Identifier: Apache-2.0 */
#include "client/splice.h"

#include <stdlib.h>

struct side {
    struct splice *sp;
    struct stream *s; /* NULL: gone */
    uint64_t bytes;   /* that came from it */
    bool is_waiting;  /* paused until the other side has room */
};
struct splice {
    struct side side[2];
    splice_done_fn done;
    void *arg;
    struct splice_end end;
    bool has_why;
};

static struct side *other(struct side *x)
{
    return &x->sp->side[x == &x->sp->side[0] ? 1 : 0];
}

static size_t on_bytes(struct stream *s, void *arg, struct span in)
{
    struct side *x = arg, *y = other(x);
    x->bytes += in.n;
    if (y->s != NULL) {
        stream_write(y->s, in);
        if (stream_is_full(y->s)) {
            x->is_waiting = true;
            stream_pause(s, true);
        }
    }
    return in.n;
}

static void on_drained(struct stream *s, void *arg)
{
    struct side *y = arg, *x = other(y);
    (void)s;
    if (x->s != NULL && x->is_waiting) {
        x->is_waiting = false;
        stream_pause(x->s, false);
    }
}

static void on_end(struct stream *s, void *arg)
{
    struct side *y = other(arg);
    (void)s;
    if (y->s != NULL && !stream_end(y->s)) {
        stream_close(y->s); /* it has no halves */
    }
}

static void on_close(struct stream *s, void *arg, enum err why)
{
    struct side *x = arg, *y = other(x);
    struct splice *sp = x->sp;
    (void)s;
    x->s = NULL;
    if (!sp->has_why) {
        sp->has_why = true;
        sp->end.why = why == E_CLOSED ? OK : why;
        sp->end.first = x == &sp->side[0] ? 0 : 1;
    }
    if (y->s != NULL) {
        if (why == OK || why == E_CLOSED) {
            stream_close(y->s);
        } else {
            stream_abort(y->s, why);
        }
        return;
    }
    splice_counts(sp, &sp->end.from_a, &sp->end.from_b);
    sp->done(sp->arg, &sp->end);
    free(sp);
}

static const struct stream_handler handler = {
    .name = "splice",
    .on_bytes = on_bytes,
    .on_drained = on_drained,
    .on_close = on_close,
    .on_end = on_end,
};

/* --- waiting ------------------------------------------------------------------------------------ */

static size_t hold_bytes(struct stream *s, void *arg, struct span in)
{
    (void)s;
    (void)arg;
    (void)in;
    return 0;
}

static void hold_close(struct stream *s, void *arg, enum err why)
{
    struct hold *h = arg;
    (void)s;
    h->s = NULL;
    h->why = why;
    if (h->on_gone != NULL) {
        h->on_gone(h);
    }
}

static void hold_end(struct stream *s, void *arg)
{
    struct hold *h = arg;
    (void)s;
    h->has_ended = true;
}

static const struct stream_handler hold_handler = {
    .name = "hold", .on_bytes = hold_bytes, .on_close = hold_close, .on_end = hold_end};

void hold_stream(struct hold *h, struct stream *s, void (*on_gone)(struct hold *h))
{
    *h = (struct hold){.s = s, .on_gone = on_gone};
    stream_handle(s, &hold_handler, h);
}

/* --- joining -------------------------------------------------------------------------------------- */

enum err splice_new(struct hold *a, struct hold *b, splice_done_fn done, void *arg,
                    struct splice **ret)
{
    struct splice *sp = NEW(struct splice);
    if (sp == NULL) {
        return E_NOMEM;
    }
    sp->done = done;
    sp->arg = arg;
    for (unsigned i = 0; i < 2; i++) {
        struct hold *h = i == 0 ? a : b;
        ASSERT(h->s != NULL);
        sp->side[i] = (struct side){.sp = sp, .s = h->s};
        stream_handle(h->s, &handler, &sp->side[i]);
        stream_again(h->s);
    }
    for (unsigned i = 0; i < 2; i++) {
        if ((i == 0 ? a : b)->has_ended) {
            on_end(sp->side[i].s, &sp->side[i]);
        }
    }
    *ret = sp;
    return OK;
}

void splice_counts(const struct splice *sp, uint64_t *ret_from_a, uint64_t *ret_from_b)
{
    *ret_from_a = sp->side[0].bytes;
    *ret_from_b = sp->side[1].bytes;
}

void splice_abort(struct splice *sp, enum err why)
{
    for (unsigned i = 0; i < 2; i++) {
        if (sp->side[i].s != NULL) {
            stream_abort(sp->side[i].s, why);
        }
    }
}
