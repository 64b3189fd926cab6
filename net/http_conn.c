/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_impl.h"

#include <stdlib.h>

static void on_timer(struct timer *t);

static void wait_s(struct http_conn *c, uint64_t seconds)
{
    timer_set(c->server->loop, &c->timer, seconds * 1000, on_timer);
}

/* --- endings --------------------------------------------------------------------------------- */

void http_conn_abort(struct http_conn *c, enum err why)
{
    c->is_closing = true;
    timer_stop(c->server->loop, &c->timer);
    http_mc_drop(c);
    stream_abort(c->stream, why);
}

void http_conn_close(struct http_conn *c)
{
    c->is_closing = true;
    c->state = HTTP_S_LINGER;
    http_mc_drop(c);
    wait_s(c, LIMIT_HTTP_IDLE_S); /* for a peer that never takes the rest */
    stream_close(c->stream);
}

/* Closing a socket with unread input resets it, and a reset may overtake the answer: so what still comes is
 * read, for a short time, and thrown away. */
static void linger(struct http_conn *c)
{
    c->state = HTTP_S_LINGER;
    c->cleared = 0;
    timer_set(c->server->loop, &c->timer, LIMIT_HTTP_LINGER_MS, on_timer);
    stream_again(c->stream);
}

void http_conn_finish(struct http_conn *c)
{
    bool closes = c->server->is_draining;
    if (c->rq != NULL) {
        closes = closes || c->rq->closes;
        http_rq_end(c->rq);
    }
    if (c->is_closing) {
        return;
    }
    if (closes && c->has_unread) {
        linger(c);
        return;
    }
    if (closes) {
        http_conn_close(c);
        return;
    }
    c->state = HTTP_S_HEAD;
    c->was_used = true;
    c->has_head_bytes = false;
    c->scanned = 0;
    c->stream->want = LIMIT_HTTP_HEAD + 1;
    wait_s(c, c->mc != NULL ? LIMIT_HTTP_IDLE_PAIR_S : LIMIT_HTTP_IDLE_S);
    if (c->has_unread) {
        stream_again(c->stream);
    }
}

void http_conn_answered(struct http_conn *c)
{
    if (!c->rq->must_close) {
        http_conn_finish(c);
        return;
    }
    http_rq_end(c->rq);
    linger(c);
}

void http_conn_progress(struct http_conn *c)
{
    if (c->state == HTTP_S_ANSWER || c->state == HTTP_S_STREAM) {
        wait_s(c, LIMIT_HTTP_IDLE_S);
    }
}

void http_conn_free(struct http_conn *c)
{
    timer_stop(c->server->loop, &c->timer);
    http_mc_drop(c);
    if (c->rq != NULL) {
        http_rq_end(c->rq);
    }
    if (c->out != NULL) {
        http_stream_gone(TAKE(c->out));
    }
    list_del(&c->link);
    c->server->stats.open--;
    free(c);
}

static void on_close(struct stream *st UNUSED, void *arg, enum err why UNUSED)
{
    http_conn_free(arg);
}

/* --- time -------------------------------------------------------------------------------------- */

static void late_request(struct http_conn *c)
{
    struct err_info info = {0};
    enum err e = err_set(&info, E_TIMEOUT, "the request did not arrive in time");
    c->server->stats.timeouts++;
    if (c->rq == NULL) {
        http_conn_refuse_raw(c, e, 408, &info);
        if (!c->is_closing) {
            http_conn_close(c); /* nothing of it was left unread */
        }
    } else if (c->rq->is_answered) {
        http_conn_abort(c, E_TIMEOUT); /* refused already, and its body never ended */
    } else {
        c->rq->must_close = true;
        http_rq_refuse(c->rq, e, 408, &info);
    }
}

/* A body is late when its time is over, or when it drips: what is late because of us (checked input waits for room) is not. */
static void watch_body(struct http_conn *c)
{
    uint64_t ms = loop_now_ms(c->server->loop) - c->body_ms;
    bool drips = c->cleared == 0 && c->body.payload * 1000 < ms * LIMIT_HTTP_BODY_RATE;
    if (ms >= LIMIT_HTTP_BODY_S * 1000u || (ms >= LIMIT_HTTP_BODY_GRACE_S * 1000u && drips)) {
        late_request(c);
        return;
    }
    wait_s(c, ms < LIMIT_HTTP_BODY_GRACE_S * 1000u ? LIMIT_HTTP_BODY_GRACE_S : 1);
}

static void on_timer(struct timer *t)
{
    struct http_conn *c = CONTAINER_OF(t, struct http_conn, timer);
    if (c->is_closing) {
        http_conn_abort(c, E_TIMEOUT);
        return;
    }
    switch (c->state) {
    case HTTP_S_HEAD:
        if (c->has_head_bytes) {
            late_request(c);
        } else if (c->mc != NULL) {
            /* An idle connection costs one descriptor and no buffers. */
            http_mc_drop(c);
            wait_s(c, LIMIT_HTTP_IDLE_S - LIMIT_HTTP_IDLE_PAIR_S);
        } else {
            http_conn_close(c);
        }
        break;
    case HTTP_S_BODY:
        watch_body(c);
        break;
    case HTTP_S_ANSWER:
        c->server->stats.timeouts++;
        http_conn_abort(c, E_TIMEOUT);
        break;
    case HTTP_S_STREAM:
        /* Silence of ours is no fault of the reader; output that it does not take is. */
        if (stream_is_full(c->stream)) {
            c->server->stats.timeouts++;
            http_conn_abort(c, E_TIMEOUT);
        }
        break;
    case HTTP_S_LINGER:
        http_conn_close(c);
        break;
    }
}

/* --- input -------------------------------------------------------------------------------------- */

static void bad_body(struct http_conn *c, enum err e, unsigned status, const struct err_info *info)
{
    if (status == 400) {
        c->server->stats.bad_heads++;
    }
    if (c->rq->is_answered) {
        http_conn_abort(c, e);
        return;
    }
    c->rq->must_close = true;
    http_rq_refuse(c->rq, e, status, info);
}

static void body_done(struct http_conn *c)
{
    c->state = HTTP_S_ANSWER;
    if (c->rq->is_answered) {
        http_conn_progress(c);
    } else {
        timer_stop(c->server->loop, &c->timer); /* how long work takes is the handler's business */
    }
}

/* Checks first, then feeds what was checked: what the pair does not take stays in the stream, so the peer feels it. */
static size_t take_body(struct http_conn *c, struct span prefix, struct span in)
{
    struct err_info info = {0};
    ASSERT(c->cleared <= in.n);
    if (!http_body_is_done(&c->body)) {
        size_t used = 0;
        bool is_done = false;
        enum err e = http_body_feed(&c->body, span_from(in, c->cleared), &used, &is_done, &info);
        if (e != OK && e != E_AGAIN) {
            bad_body(c, e, 400, &info);
            return c->state == HTTP_S_LINGER ? in.n : 0;
        }
        c->cleared += used;
        if (c->body.payload > c->rq->body_limit) {
            e = err_set(&info, E_TOO_LARGE, "body is larger than %zu bytes", c->rq->body_limit);
            bad_body(c, e, 0, &info);
            return c->state == HTTP_S_LINGER ? in.n : 0;
        }
    }
    size_t n = http_mc_feed(c->mc, prefix, span_sub(in, 0, c->cleared));
    if (n < prefix.n) { /* the pair is empty between requests: so short a text goes in whole */
        http_conn_abort(c, E_SYS);
        return 0;
    }
    n -= prefix.n;
    c->cleared -= n;
    if (c->cleared > 0) {
        http_mc_rewatch(c->mc, true);
    } else if (http_body_is_done(&c->body)) {
        body_done(c);
    }
    return n;
}

size_t http_conn_begin_body(struct http_conn *c, struct span prefix, struct span behind)
{
    c->state = HTTP_S_BODY;
    c->cleared = 0;
    c->body_ms = loop_now_ms(c->server->loop);
    size_t n = take_body(c, prefix, behind);
    if (c->state == HTTP_S_BODY && !c->is_closing) {
        watch_body(c);
    }
    return n;
}

/* Returns the bytes used; *ret_alive false: c is gone. */
static size_t take_head(struct http_conn *c, struct span in, bool *ret_alive)
{
    size_t n = 0;
    enum err e = http_head_find(in, &c->scanned, &n);
    if (e == E_AGAIN) {
        if (in.n > 0 && !c->has_head_bytes) {
            c->has_head_bytes = true;
            if (c->was_used) {
                wait_s(c, LIMIT_HTTP_HEAD_S);
            }
        }
        return 0;
    }
    c->scanned = 0;
    if (e != OK) {
        struct err_info info = {0};
        c->server->stats.bad_heads++;
        err_set(&info, e, "head is larger than %u bytes or no head", LIMIT_HTTP_HEAD);
        http_conn_refuse_raw(c, e, e == E_TOO_LARGE ? 431 : 400, &info);
        return in.n;
    }
    c->has_head_bytes = true;
    size_t used = 0;
    enum http_taken taken = http_conn_take_head(c, span_sub(in, 0, n), span_from(in, n), &used);
    *ret_alive = taken == HTTP_STAYS;
    switch (taken) {
    case HTTP_STAYS:
        return n + used;
    case HTTP_TAKEN:
        return in.n;
    case HTTP_TAKEN_BARE:
        return n;
    case HTTP_MOVED:
        break;
    }
    return 0;
}

static size_t on_bytes(struct stream *st UNUSED, void *arg, struct span in)
{
    struct http_conn *c = arg;
    size_t used = 0;
    bool is_alive = true, is_moving = true, has_lingered = false;
    while (is_moving && used < in.n && !c->is_closing) {
        struct span rest = span_from(in, used);
        enum http_state was = c->state;
        size_t n = 0;
        switch (c->state) {
        case HTTP_S_HEAD:
            n = take_head(c, rest, &is_alive);
            if (!is_alive) {
                return used + n;
            }
            break;
        case HTTP_S_BODY:
            n = take_body(c, SPAN_NONE, rest);
            break;
        case HTTP_S_ANSWER:
        case HTTP_S_STREAM:
            break;
        case HTTP_S_LINGER:
            n = rest.n;
            has_lingered = true;
            break;
        }
        used += n;
        is_moving = n > 0 || c->state != was;
    }
    c->has_unread = used < in.n;
    if (c->is_head_bad && !has_lingered && !c->is_closing) {
        http_conn_close(c); /* nothing came behind the head: no need to wait */
    }
    return used;
}

static void on_drained(struct stream *st UNUSED, void *arg)
{
    struct http_conn *c = arg;
    if (c->mc != NULL) {
        http_mc_drain_soon(c->mc);
    }
    if (c->out != NULL) {
        timer_stop(c->server->loop, &c->timer);
        http_stream_drained(c->out);
    }
}

/* --- begin ------------------------------------------------------------------------------------- */

static const struct stream_handler handler = {
    .name = "http",
    .on_bytes = on_bytes,
    .on_drained = on_drained,
    .on_close = on_close,
};

enum err http_attach(struct http_server *s, struct stream *st)
{
    ASSERT_LOOP(s->loop);
    if (s->stats.open >= s->conf.max_connections) {
        return E_BUSY;
    }
    struct http_conn *c = NEW(struct http_conn);
    if (c == NULL) {
        return E_NOMEM;
    }
    c->server = s;
    c->stream = st;
    list_add_tail(&s->conns, &c->link);
    s->stats.open++;
    st->want = LIMIT_HTTP_HEAD + 1; /* one more tells that a head is too large */
    stream_handle(st, &handler, c);
    wait_s(c, LIMIT_HTTP_HEAD_S);
    return OK;
}
