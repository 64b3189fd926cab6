/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_impl.h"

#include <stdio.h>

#include "base/text.h"
#include "net/ws.h"
#include "wire/ws.h"

/* Bodies of refused requests up to this are read and forgotten, so that the connection can go on. */
#define SWALLOW_MAX (64u << 10)

/* docs/protocol/dps-device.md 3: a GET may come with a small body, which is read and ignored. */
#define IGNORED_BODY_MAX 4096u

/* Statuses that a face's table of errors cannot tell apart from the domain's use of the same error. */
static unsigned head_status(enum err e)
{
    switch (e) {
    case E_TOO_LARGE:
    case E_LIMIT:
        return 431;
    case E_VERSION:
        return 505;
    default:
        return 400;
    }
}

void http_conn_refuse_raw(struct http_conn *c, enum err e, unsigned status,
                          const struct err_info *info)
{
    struct http_rq *rq = c->rq != NULL ? c->rq : http_rq_new(c);
    if (rq == NULL) {
        http_conn_abort(c, E_NOMEM);
        return;
    }
    rq->must_close = true;
    c->is_head_bad = true;
    http_rq_refuse(rq, e, status, info);
}

/* --- judging a head --------------------------------------------------------------------------- */

static enum err check_query(struct http_rq *rq, struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_HTTP_HEAD);
    enum err e = percent_decode(rq->head.query, &b);
    if (e == OK && (e = buf_err(&b)) == OK && !span_is_utf8(buf_span(&b))) {
        e = E_MALFORMED;
    }
    return e == OK ? OK : err_set(info, e, "query cannot be read");
}

static enum err check_body(struct http_rq *rq, unsigned *ret_status, struct err_info *info)
{
    const struct http_head *h = &rq->head;
    if (h->has_content_encoding) {
        *ret_status = 415;
        return err_set(info, E_MEDIA, "Content-Encoding is not accepted");
    }
    rq->keeps_body = rq->route->body_limit > 0;
    rq->body_limit = rq->keeps_body ? rq->route->body_limit : IGNORED_BODY_MAX;
    if (h->length > rq->body_limit) {
        return err_set(info, E_TOO_LARGE, "body is larger than %zu bytes", rq->body_limit);
    }
    rq->body.max = rq->body_limit;
    return OK;
}

static enum err judge(struct http_rq *rq, unsigned *ret_status, struct err_info *info)
{
    const struct http_hooks *hooks = &rq->server->conf.hooks;
    enum err e;
    if ((e = check_query(rq, info)) != OK || (e = http_route_find(rq, info)) != OK ||
        (e = hooks->admit(rq, info)) != OK) {
        return e;
    }
    return check_body(rq, ret_status, info);
}

/* --- feeding ------------------------------------------------------------------------------------ */

/* What libmicrohttpd is told: how long the message is, whether the answer has a body, whether to ask for the
 * body. Everything else about the request stays with us. */
static size_t begin_body(struct http_conn *c, struct span behind)
{
    struct http_rq *rq = c->rq;
    const struct http_head *h = &rq->head;
    char text[160], length[48] = "";
    if (h->is_chunked) {
        (void)snprintf(length, sizeof(length), "Transfer-Encoding: chunked\r\n");
    } else if (h->has_length) {
        (void)snprintf(length, sizeof(length), "Content-Length: %llu\r\n",
                       (unsigned long long)h->length);
    }
    int n = snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: b\r\n%s%s\r\n",
                     rq->method == HTTP_HEAD ? "HEAD" : "POST", length,
                     h->expects_continue ? "Expect: 100-continue\r\n" : "");
    ASSERT(n > 0 && (size_t)n < sizeof(text));
    enum err e = http_mc_new(c);
    if (e != OK) {
        http_conn_abort(c, e);
        return 0;
    }
    c->mc->rq = rq;
    return http_conn_begin_body(c, span_of(text, (size_t)n), behind);
}

/* --- WebSocket ----------------------------------------------------------------------------------- */

static enum err check_upgrade(const struct http_rq *rq, struct err_info *info)
{
    const struct ws_upgrade u = {
        .upgrade = http_rq_header(rq, "Upgrade"),
        .connection = http_rq_header(rq, "Connection"),
        .version = http_rq_header(rq, "Sec-WebSocket-Version"),
        .key = http_rq_header(rq, "Sec-WebSocket-Key"),
        .protocol = http_rq_header(rq, "Sec-WebSocket-Protocol"),
    };
    struct span protocol;
    if (rq->head.is_http10 || rq->head.is_chunked || rq->head.length > 0) {
        return err_set(info, E_MALFORMED, "an upgrade is HTTP/1.1 and has no body");
    }
    return ws_upgrade_check(&u, NULL, &protocol, info);
}

static enum err accept_upgrade(struct http_rq *rq, struct span protocol)
{
    char accept[WS_ACCEPT_SIZE];
    enum err e = ws_accept(http_rq_header(rq, "Sec-WebSocket-Key"), accept);
    if (e != OK) {
        return e;
    }
    AUTO(buf_done) struct buf b = BUF_INIT(4096);
    buf_addf(&b,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n",
             accept);
    if (protocol.n > 0) {
        buf_addf(&b, "Sec-WebSocket-Protocol: %.*s\r\n", SPAN_ARG(protocol));
    }
    buf_add_str(&b, "\r\n");
    if ((e = buf_err(&b)) != OK) {
        return e;
    }
    stream_write(rq->conn->stream, buf_span(&b));
    return OK;
}

/* The connection leaves this server with its request unread. */
static void move_away(struct http_conn *c)
{
    struct http_rq *rq = c->rq;
    struct conn *conn = stream_conn(c->stream);
    conn_move(conn, rq->to, rq->arrived, rq->arrived_arg);
    c->server->stats.requests--; /* it is counted where it is served */
    http_conn_free(c);
}

/* OK: *ret_taken says whether the stream belongs to somebody else now (c is gone then). */
static enum err upgrade(struct http_conn *c, struct span early, enum http_taken *ret_taken,
                        unsigned *ret_status, struct err_info *info)
{
    const struct http_hooks hooks = c->server->conf.hooks;
    struct http_rq *rq = c->rq;
    struct span protocol = SPAN_NONE;
    void *user = NULL;
    struct ws *ws = NULL;
    enum err e = check_upgrade(rq, info);
    if (e != OK) {
        *ret_status = e == E_VERSION ? 426 : 400;
        if (e == E_VERSION) {
            http_header(rq, "Sec-WebSocket-Version", SPAN_LIT("13"));
        }
        return e;
    }
    e = hooks.admit_ws(rq, &protocol, &user, info);
    if (rq->to != NULL) {
        *ret_taken = HTTP_MOVED;
        move_away(c);
        return OK;
    }
    if (e != OK) {
        return e;
    }
    struct stream *st = c->stream;
    bool wants_carrier = rq->wants_carrier;
    /* The new handler replaces ours; from here on the stream is its own. */
    *ret_taken = wants_carrier ? HTTP_TAKEN_BARE : HTTP_TAKEN;
    e = accept_upgrade(rq, protocol);
    if (e == OK && !wants_carrier && (e = ws_new(st, true, early, &ws)) == OK) {
        st = ws_stream(ws);
    }
    if (e != OK) {
        http_conn_abort(c, e);
        return OK;
    }
    c->server->stats.by_status[1]++;
    http_conn_free(c);
    hooks.on_ws(st, user, hooks.arg);
    if (wants_carrier && early.n > 0) {
        stream_again(st);
    }
    return OK;
}

/* --- a whole head -------------------------------------------------------------------------------- */

/* Refuses on a readable head. A short body is still read, and the connection goes on. */
static void refuse(struct http_conn *c, enum err e, unsigned status, const struct err_info *info)
{
    struct http_rq *rq = c->rq;
    const struct http_head *h = &rq->head;
    rq->keeps_body = false;
    rq->body_limit = SWALLOW_MAX;
    rq->must_close = h->is_chunked || h->length > SWALLOW_MAX || h->expects_continue;
    c->state = HTTP_S_BODY;
    http_rq_refuse(rq, e, status, info);
}

enum http_taken http_conn_take_head(struct http_conn *c, struct span head, struct span behind,
                                    size_t *ret_used)
{
    struct http_server *s = c->server;
    struct err_info info = {0};
    struct http_rq *rq = http_rq_new(c);
    if (rq == NULL) {
        http_conn_refuse_raw(c, E_NOMEM, 0, NULL);
        return HTTP_STAYS;
    }
    s->stats.requests++;
    struct span copy = arena_span(&rq->arena, head);
    enum err e = copy.p == NULL ? E_NOMEM : http_head_read(copy, &rq->head, &info);
    if (e != OK) {
        s->stats.bad_heads++;
        rq->head = (struct http_head){0};
        http_conn_refuse_raw(c, e, e == E_NOMEM ? 0 : head_status(e), &info);
        return HTTP_STAYS;
    }
    rq->method = http_method_of(rq->head.method);
    rq->keep_alive = !rq->head.wants_close && !rq->head.is_http10;
    http_body_init(&c->body, &rq->head);
    unsigned status = 0;
    enum http_taken taken = HTTP_STAYS;
    bool is_ws = s->conf.hooks.admit_ws != NULL && rq->method == HTTP_GET &&
                 rq->head.wants_upgrade && ws_list_has(rq->head.upgrade, "websocket");
    e = is_ws ? upgrade(c, behind, &taken, &status, &info) : judge(rq, &status, &info);
    if (taken != HTTP_STAYS) {
        return taken;
    }
    if (e != OK) {
        refuse(c, e, status, &info);
    }
    if (c->state != HTTP_S_LINGER && !c->is_closing) {
        *ret_used = begin_body(c, behind);
    }
    return HTTP_STAYS;
}
