/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_stream.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/secret.h"
#include "net/tls_ctx.h"
#include "net/tls_io.h"

#define RECORD 16384u /* plain bytes of one record */

enum state { HANDSHAKE, OPEN, ENDING };

struct tls_stream {
    struct stream s;
    struct stream *carrier;
    struct tls tls;
    BIO_METHOD *how;
    struct span in;  /* of the carrier; what OpenSSL has taken is cut off. During a call only */
    struct buf kept; /* plain bytes that the handler has not used */
    struct deferred end;
    struct timer timer;
    tls_stream_fn done; /* NULL: called, or cancelled */
    void *arg;
    enum state state;
    enum err why;
    bool has_why, paused, again;
    bool in_ended, end_told; /* the peer's close_notify */
    bool out_ended;          /* ours */
};
#define tls_of(stream) CONTAINER_OF((stream), struct tls_stream, s)

/* --- OpenSSL's end of the carrier ------------------------------------------------------------- */

static int bio_read(BIO *b, char *p, int n)
{
    struct tls_stream *t = BIO_get_data(b);
    size_t k = MIN(t->in.n, (size_t)MAX(n, 0));
    BIO_clear_retry_flags(b);
    if (k == 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    memcpy(p, t->in.p, k);
    t->in = span_from(t->in, k);
    return (int)k;
}

static int bio_write(BIO *b, const char *p, int n)
{
    struct tls_stream *t = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (t->carrier != NULL && n > 0) {
        stream_write(t->carrier, span_of((const uint8_t *)p, (size_t)n));
    }
    return n;
}

static long bio_ctrl(BIO *b, int cmd, long n, void *p)
{
    (void)b;
    (void)n;
    (void)p;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static enum err open_tls(struct tls_stream *t, struct tls_ctx *ctx, struct err_info *info)
{
    BIO *b = NULL;
    t->how = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");
    if (t->how != NULL && BIO_meth_set_read(t->how, bio_read) == 1 &&
        BIO_meth_set_write(t->how, bio_write) == 1 && BIO_meth_set_ctrl(t->how, bio_ctrl) == 1) {
        b = BIO_new(t->how);
    }
    if (b == NULL) {
        return tls_err(info, E_NOMEM, "TLS session");
    }
    BIO_set_data(b, t);
    BIO_set_init(b, 1);
    return tls_begin_over(&t->tls, ctx, b, info);
}

/* --- ends ---------------------------------------------------------------------------------------- */

static void free_tls(struct tls_stream *t)
{
    timer_stop(t->s.loop, &t->timer);
    loop_undefer(t->s.loop, &t->end);
    t->carrier = NULL;
    if (t->tls.ssl != NULL) {
        tls_end(&t->tls);
    }
    BIO_meth_free(t->how);
    buf_done(&t->kept);
    free(t);
}

static void set_why(struct tls_stream *t, enum err why)
{
    if (!t->has_why) {
        t->has_why = true;
        t->why = why;
    }
}

static void send_notify(struct tls_stream *t)
{
    if (!t->out_ended) {
        t->out_ended = true;
        tls_shut(&t->tls);
    }
}

/* In order: what was written leaves first. */
static void finish(struct tls_stream *t, enum err why)
{
    if (t->state != ENDING) {
        set_why(t, why);
        send_notify(t);
        t->state = ENDING;
        timer_stop(t->s.loop, &t->timer);
        stream_close(t->carrier);
    }
}

/* OpenSSL has put its alert on the carrier: it leaves before the end. */
static void fail(struct tls_stream *t, enum err why, const struct err_info *info)
{
    tls_stream_fn done = t->done;
    if (t->state == ENDING) {
        return;
    }
    set_why(t, why);
    t->state = ENDING;
    t->out_ended = true;
    timer_stop(t->s.loop, &t->timer);
    stream_close(t->carrier);
    if (done != NULL) {
        t->done = NULL;
        done(t->arg, NULL, why, info);
    }
}

static void on_late(struct timer *timer)
{
    struct tls_stream *t = CONTAINER_OF(timer, struct tls_stream, timer);
    struct err_info info = {0};
    fail(t, err_set(&info, E_TIMEOUT, "no TLS handshake with the other end"), &info);
}

/* --- input ----------------------------------------------------------------------------------------- */

static bool takes(const struct tls_stream *t)
{
    return t->state == OPEN && !t->paused && t->kept.n < MAX(t->s.want, 1);
}

static void show_kept(struct tls_stream *t)
{
    if (t->kept.n == 0 || t->paused || t->state != OPEN) {
        return;
    }
    size_t used = t->s.h->on_bytes(&t->s, t->s.arg, buf_span(&t->kept));
    ASSERT(used <= t->kept.n);
    if (used == t->kept.n) {
        buf_release(&t->kept);
    } else {
        buf_drop(&t->kept, used);
    }
}

/* The handler sees what it left before, in front of this. */
static void give(struct tls_stream *t, struct span b)
{
    if (t->kept.n == 0) {
        size_t used = t->s.h->on_bytes(&t->s, t->s.arg, b);
        ASSERT(used <= b.n);
        b = span_from(b, used);
        buf_add(&t->kept, b);
    } else {
        buf_add(&t->kept, b);
        show_kept(t);
    }
    if (buf_err(&t->kept) != OK) {
        fail(t, buf_err(&t->kept), NULL);
    }
}

/* After what the handler has used: a half that has ended, or both. */
static void settle_ends(struct tls_stream *t)
{
    if (t->state != OPEN || !t->in_ended || t->kept.n > 0 || t->paused) {
        return;
    }
    if (!t->end_told) {
        t->end_told = true;
        if (t->s.h->on_end != NULL) {
            t->s.h->on_end(&t->s, t->s.arg);
        } else {
            finish(t, OK);
        }
    }
    if (t->out_ended) {
        finish(t, OK);
    }
}

static void read_records(struct tls_stream *t)
{
    uint8_t plain[RECORD];
    while (takes(t) && !t->in_ended) {
        struct err_info info = {0};
        size_t n;
        enum tls_io io = tls_read(&t->tls, plain, sizeof(plain), &n, &info);
        if (io == TLS_WANT_READ) {
            break;
        }
        if (io == TLS_DONE) {
            give(t, span_of(plain, n));
        } else if (io == TLS_EOF) {
            t->in_ended = true;
        } else {
            fail(t, E_TLS, &info);
        }
    }
    mem_wipe(plain, sizeof(plain));
}

static void shake(struct tls_stream *t)
{
    struct err_info info = {0};
    enum tls_io io = tls_handshake(&t->tls, &info);
    if (io == TLS_WANT_READ) {
        return;
    }
    if (io != TLS_DONE) {
        fail(t, E_TLS, &info);
        return;
    }
    if (!tls_end_is_agreed(t->tls.ctx, t->tls.ssl)) {
        fail(t, err_set(&info, E_TLS, "the other end speaks another protocol"), &info);
        return;
    }
    tls_stream_fn done = t->done;
    timer_stop(t->s.loop, &t->timer);
    t->done = NULL;
    t->state = OPEN;
    done(t->arg, &t->s, OK, NULL);
    ASSERT(t->s.h != NULL);
}

/* How much OpenSSL took of it. */
static size_t advance(struct tls_stream *t, struct span in)
{
    t->in = in;
    if (t->state == HANDSHAKE) {
        shake(t);
    }
    if (t->state == OPEN) {
        read_records(t);
        settle_ends(t);
    }
    size_t left = t->state == ENDING ? 0 : t->in.n;
    t->in = SPAN_NONE;
    return in.n - left;
}

static size_t carrier_bytes(struct stream *s, void *arg, struct span in)
{
    (void)s;
    return advance(arg, in);
}

static void carrier_drained(struct stream *s, void *arg)
{
    struct tls_stream *t = arg;
    (void)s;
    if (t->state == OPEN && t->s.h->on_drained != NULL) {
        t->s.h->on_drained(&t->s, t->s.arg);
    }
}

static void carrier_closed(struct stream *s, void *arg, enum err why)
{
    struct tls_stream *t = arg;
    struct err_info info = {0};
    const struct stream_handler *h = t->s.h;
    enum err e;
    (void)s;
    bool is_orderly = why == OK || why == E_CLOSED;
    set_why(t, !is_orderly     ? why
               : !t->in_ended  ? E_TRUNCATED
               : !t->out_ended ? E_NET /* it went while we were still sending */
                               : OK);
    if (h != NULL) {
        h->on_close(&t->s, t->s.arg, t->why);
    } else if (t->done != NULL) {
        e = err_set(&info, is_orderly ? E_CLOSED : why,
                    "the stream ended before the TLS handshake");
        t->done(t->arg, NULL, e, &info);
    }
    free_tls(t);
}

static const struct stream_handler carrier_handler = {
    .name = "tls",
    .on_bytes = carrier_bytes,
    .on_drained = carrier_drained,
    .on_close = carrier_closed,
};

/* Records that OpenSSL holds already, then what the carrier kept. */
static void end_of_turn(struct deferred *d)
{
    struct tls_stream *t = CONTAINER_OF(d, struct tls_stream, end);
    if (t->again) {
        t->again = false;
        show_kept(t);
        (void)advance(t, SPAN_NONE);
        stream_again(t->carrier);
    }
}

static void defer_again(struct tls_stream *t)
{
    t->again = true;
    loop_defer(t->s.loop, &t->end, end_of_turn);
}

/* --- as a stream ------------------------------------------------------------------------------------- */

static void op_write(struct stream *s, struct span b)
{
    struct tls_stream *t = tls_of(s);
    while (b.n > 0 && t->state == OPEN && !t->out_ended) {
        struct err_info info = {0};
        size_t n;
        if (tls_write(&t->tls, b.p, b.n, &n, &info) != TLS_DONE) {
            stream_abort(s, E_TLS);
            return;
        }
        b = span_from(b, n);
    }
}

static void op_pause(struct stream *s, bool paused)
{
    struct tls_stream *t = tls_of(s);
    if (t->paused != paused && t->state == OPEN) {
        t->paused = paused;
        stream_pause(t->carrier, paused);
        if (!paused) {
            defer_again(t);
        }
    }
}

static void op_close(struct stream *s)
{
    finish(tls_of(s), E_CLOSED);
}

static void op_abort(struct stream *s, enum err why)
{
    struct tls_stream *t = tls_of(s);
    set_why(t, why);
    t->state = ENDING;
    timer_stop(t->s.loop, &t->timer);
    stream_abort(t->carrier, why);
}

static const struct tls_stream *tls_at(const struct stream *s)
{
    return CONTAINER_OF((struct stream *)(uintptr_t)s, struct tls_stream, s);
}

static bool op_is_full(const struct stream *s)
{
    return stream_is_full(tls_at(s)->carrier);
}

static size_t op_pending(const struct stream *s)
{
    return stream_pending(tls_at(s)->carrier);
}

static struct conn *op_conn(struct stream *s)
{
    return stream_conn(tls_of(s)->carrier);
}

static void op_again(struct stream *s)
{
    defer_again(tls_of(s));
}

static bool op_end(struct stream *s)
{
    struct tls_stream *t = tls_of(s);
    if (t->state == OPEN) {
        send_notify(t);
        defer_again(t); /* both ended: it closes, but not inside of this call */
    }
    return true;
}

static const struct stream_ops tls_ops = {
    .write = op_write,
    .pause = op_pause,
    .close = op_close,
    .abort = op_abort,
    .is_full = op_is_full,
    .pending = op_pending,
    .conn = op_conn,
    .again = op_again,
    .end = op_end,
};

/* --- face ---------------------------------------------------------------------------------------------- */

enum err tls_stream_new(struct stream *carrier, struct tls_ctx *ctx, uint64_t timeout_ms,
                        tls_stream_fn done, void *arg, struct tls_stream **ret,
                        struct err_info *info)
{
    struct tls_stream *t = NEW(struct tls_stream);
    if (t == NULL) {
        return E_NOMEM;
    }
    t->s = (struct stream){.ops = &tls_ops, .loop = carrier->loop, .want = LIMIT_CONN_IN};
    t->kept = (struct buf)BUF_INIT(LIMIT_CONN_OUT_MAX);
    t->carrier = carrier;
    enum err e = open_tls(t, ctx, info);
    if (e != OK) {
        free_tls(t);
        return e;
    }
    t->done = done;
    t->arg = arg;
    stream_handle(carrier, &carrier_handler, t);
    carrier->want = LIMIT_CONN_IN;
    timer_set(carrier->loop, &t->timer, timeout_ms, on_late);
    defer_again(t); /* a client speaks first; a server may have bytes already */
    *ret = t;
    return OK;
}

void tls_stream_cancel(struct tls_stream *t)
{
    t->done = NULL;
    op_abort(&t->s, E_CLOSED);
}
