/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A streamed answer goes past libmicrohttpd: its pull callbacks would cost a suspend, a resume and a run for each
 * piece. The request was read to its end, nothing stands before it, so the stream is ours.
 */
#include "net/http_impl.h"

#include <stdio.h>
#include <stdlib.h>

struct http_stream {
    struct http_conn *conn; /* NULL: gone */
    const struct http_stream_handler *h;
    void *arg;
    struct loop *loop;
    struct deferred end;
    bool is_chunked;
    bool is_head; /* the answer to HEAD has no body */
    bool is_ended;
};

enum err http_stream_begin(struct http_rq *rq, unsigned status, const char *content_type,
                           const struct http_stream_handler *h, void *arg, struct http_stream **ret)
{
    struct http_conn *c = rq->conn;
    ASSERT(!rq->is_answered && h->on_gone != NULL);
    if (c == NULL || c->is_closing || c->state != HTTP_S_ANSWER) {
        return E_CLOSED;
    }
    if (rq->is_short) {
        return E_NOMEM;
    }
    struct http_stream *s = NEW(struct http_stream);
    if (s == NULL) {
        return E_NOMEM;
    }
    /* HTTP/1.0 has no chunks: the end of the connection is the end of the answer. */
    s->is_chunked = !rq->head.is_http10;
    s->is_head = rq->method == HTTP_HEAD;
    http_rq_settle(rq, status);
    ASSERT(s->is_chunked || rq->closes);
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_CONN_OUT_MAX);
    http_answer_head(rq, rq->status, content_type, SIZE_MAX, &b);
    buf_add_str(&b, s->is_chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
    if (buf_err(&b) != OK) {
        free(s);
        http_conn_abort(c, E_NOMEM);
        return E_CLOSED;
    }
    http_mc_drop(c);
    s->conn = c;
    s->h = h;
    s->arg = arg;
    s->loop = c->server->loop;
    c->out = s;
    c->state = HTTP_S_STREAM;
    stream_write(c->stream, buf_span(&b));
    *ret = s;
    return OK;
}

void http_stream_write(struct http_stream *s, struct span b)
{
    ASSERT(!s->is_ended);
    if (s->conn == NULL || s->conn->is_closing || s->is_head || b.n == 0) {
        return;
    }
    struct stream *st = s->conn->stream;
    if (s->is_chunked) {
        char size[24];
        int n = snprintf(size, sizeof(size), "%zx\r\n", b.n);
        stream_write(st, span_of(size, (size_t)n));
    }
    stream_write(st, b);
    if (s->is_chunked) {
        stream_write(st, SPAN_LIT("\r\n"));
    }
    if (stream_is_full(st)) {
        http_conn_progress(s->conn); /* it has LIMIT_HTTP_IDLE_S to take some */
    }
}

bool http_stream_is_full(const struct http_stream *s)
{
    return s->conn != NULL && stream_is_full(s->conn->stream);
}

/* on_gone comes from the loop, not inside http_stream_end. */
static void on_end(struct deferred *d)
{
    struct http_stream *s = CONTAINER_OF(d, struct http_stream, end);
    s->h->on_gone(s, s->arg);
    free(s);
}

void http_stream_end(struct http_stream *s)
{
    ASSERT(!s->is_ended);
    s->is_ended = true;
    struct http_conn *c = TAKE(s->conn);
    loop_defer(s->loop, &s->end, on_end);
    if (c != NULL) {
        c->out = NULL;
        if (s->is_chunked && !s->is_head && !c->is_closing) {
            stream_write(c->stream, SPAN_LIT("0\r\n\r\n"));
        }
        http_conn_finish(c);
    }
}

void http_stream_drained(struct http_stream *s)
{
    if (s->h->on_drained != NULL) {
        s->h->on_drained(s, s->arg);
    }
}

void http_stream_gone(struct http_stream *s)
{
    s->conn = NULL;
    s->is_ended = true;
    s->h->on_gone(s, s->arg);
    free(s);
}
