/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

/* libmicrohttpd writes the head of an answer into what its pool has left: heads above this go out by our
 * own hand. */
#define ENGINE_HEAD_MAX (LIMIT_HTTP_POOL / 2u)

static bool is_header_text(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == 0) {
            return false;
        }
    }
    return true;
}

void http_header(struct http_rq *rq, const char *name, struct span value)
{
    ASSERT(!rq->is_answered);
    ASSERT(is_header_text(span_str(name)) && is_header_text(value));
    struct http_rq_header *h = arena_new(&rq->arena, struct http_rq_header);
    char *n = arena_str(&rq->arena, span_str(name));
    char *v = arena_str(&rq->arena, value);
    if (h == NULL || n == NULL || v == NULL) {
        rq->is_short = true; /* an answer without a header that was meant to be there is none */
        return;
    }
    h->name = n;
    h->value = v;
    *rq->headers_end = h;
    rq->headers_end = &h->next;
    rq->headers_size += strlen(n) + value.n + 4;
}

void http_headerf(struct http_rq *rq, const char *name, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    ASSERT(n >= 0 && (size_t)n < sizeof(text));
    http_header(rq, name, span_of(text, (size_t)n));
}

bool http_is_answered(const struct http_rq *rq)
{
    return rq->is_answered;
}

static bool has_body(unsigned status)
{
    return status >= 200 && status != 204 && status != 304;
}

void http_answer_head(const struct http_rq *rq, unsigned status, const char *content_type,
                      size_t length, struct buf *ret)
{
    char date[TIME_ISO_SIZE];
    time_rfc1123(loop_wall_us(rq->server->loop), date);
    buf_addf(ret, "HTTP/1.1 %u %s\r\nDate: %s\r\n", status, MHD_get_reason_phrase_for(status),
             date);
    if (content_type != NULL) {
        buf_addf(ret, "Content-Type: %s\r\n", content_type);
    }
    for (const struct http_rq_header *h = rq->headers; h != NULL; h = h->next) {
        buf_add_str(ret, h->name);
        buf_add_str(ret, ": ");
        buf_add_str(ret, h->value);
        buf_add_str(ret, "\r\n");
    }
    if (length != SIZE_MAX && has_body(status)) {
        buf_addf(ret, "Content-Length: %zu\r\n", length);
    }
    if (rq->closes) {
        buf_add_str(ret, "Connection: close\r\n");
    }
}

/* Past libmicrohttpd, straight into the stream. Only when all of the request before it is answered, which
 * one request at a time guarantees. */
static void answer_direct(struct http_rq *rq, const char *content_type, struct span body)
{
    struct http_conn *c = rq->conn;
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_CONN_OUT_MAX);
    http_answer_head(rq, rq->status, content_type, body.n, &b);
    buf_add_str(&b, "\r\n");
    if (has_body(rq->status) && rq->method != HTTP_HEAD) {
        buf_add(&b, body);
    }
    http_mc_drop(c);
    if (buf_err(&b) != OK) {
        http_conn_abort(c, buf_err(&b));
        return;
    }
    stream_write(c->stream, buf_span(&b));
    http_conn_answered(c);
}

static bool add_headers(struct http_rq *rq, struct MHD_Response *r, const char *content_type)
{
    bool is_ok =
        content_type == NULL || MHD_add_response_header(r, "Content-Type", content_type) == MHD_YES;
    for (const struct http_rq_header *h = rq->headers; h != NULL && is_ok; h = h->next) {
        is_ok = MHD_add_response_header(r, h->name, h->value) == MHD_YES;
    }
    if (is_ok && rq->closes) {
        is_ok = MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    }
    return is_ok;
}

static void answer_engine(struct http_rq *rq, const char *content_type, struct span body)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(body.n, (void *)(uintptr_t)body.p,
                                                             body.n > 0 ? MHD_RESPMEM_MUST_COPY
                                                                        : MHD_RESPMEM_PERSISTENT);
    if (r == NULL || !add_headers(rq, r, content_type)) {
        if (r != NULL) {
            MHD_destroy_response(r);
        }
        http_conn_abort(rq->conn, E_NOMEM);
        return;
    }
    rq->response = r;
    http_conn_progress(rq->conn);
    if (rq->conn->mc != NULL) {
        http_mc_wake(rq->conn->mc);
    }
}

/* Books the answer and cuts the handle: who still holds it finds nobody. */
void http_rq_settle(struct http_rq *rq, unsigned status)
{
    struct http_server *s = rq->server;
    ASSERT(!rq->is_answered);
    rq->is_answered = true;
    rq->status = rq->forced_status != 0 ? rq->forced_status : status;
    ASSERT(rq->status >= 200 && rq->status <= 599);
    rq->closes = rq->must_close || !rq->keep_alive || s->is_draining ||
                 (s->conf.is_draining != NULL && s->conf.is_draining(s->conf.hooks.arg));
    s->stats.by_status[rq->status / 100]++;
    if (rq->handle != 0) {
        handle_free(s->loop, rq->handle);
        rq->handle = 0;
    }
    void (*gone)(void *arg) = TAKE(rq->gone);
    if (gone != NULL) {
        gone(rq->gone_arg); /* answered over the head of who was to answer */
    }
}

void http_answer(struct http_rq *rq, unsigned status, const char *content_type, struct span body)
{
    ASSERT(content_type == NULL || is_header_text(span_str(content_type)));
    http_rq_settle(rq, status);
    if (!has_body(rq->status)) {
        body = SPAN_NONE;
        content_type = NULL;
    }
    if (rq->conn == NULL || rq->conn->is_closing) {
        return;
    }
    if (rq->is_short) {
        http_conn_abort(rq->conn, E_NOMEM);
        return;
    }
    /* Too long a head while the body still comes in: cannot be kept for later, so the connection goes. */
    bool is_long = rq->headers_size > ENGINE_HEAD_MAX;
    if (is_long && rq->conn->state != HTTP_S_ANSWER) {
        rq->must_close = rq->closes = true;
    }
    if (rq->must_close || is_long) {
        answer_direct(rq, content_type, body);
    } else {
        answer_engine(rq, content_type, body);
    }
}
