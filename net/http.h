/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 server of one loop, over streams; libmicrohttpd inside, fed through an AF_UNIX pair, invisible
 * here. The request is read from its raw head (wire/http.h): smuggling forms (threat N4) are refused with 400 and
 * close, and libmicrohttpd gets a head of our own writing, so that no two parsers can disagree.
 *
 * Life of a request:
 *   head complete -> route by table (404, 405 with Allow) -> hooks.admit(rq) decides authentication and right and
 *   may refuse -> body limit from the route (413) -> body collected -> route->handler(rq) -> an answer now or later.
 * The handler may return without having answered: the connection waits (suspended) until http_answer. A connection
 * has one request at a time; what is pipelined behind it stays unread, so answers leave in order.
 * A refusal reads a body of known length up to 64 KiB and keeps the connection; else it answers at once, throws away
 * what comes for LIMIT_HTTP_LINGER_MS, and closes. A request with neither Content-Length nor chunks has an empty
 * body (RFC 9112 6.3); http_rq_has_body tells it from one that says so. HEAD needs a route of its own (405): it must not do
 * what a GET may do. POST with X-HTTP-Method-Override: PATCH is PATCH; any other value: E_ARG.
 *
 * Ownership   http_rq is freed by the server after the answer has been handed over or the client has gone. A pending
 *             operation keeps `http_rq_handle(rq)`; http_rq_of(loop, handle) gives NULL when the client has gone: then
 *             the answer is dropped, the submitted work still done.
 * Threads     the loop's.
 * Limits      LIMIT_HTTP_HEAD and LIMIT_HTTP_HEADERS (431), LIMIT_HTTP_HEAD_S and LIMIT_HTTP_BODY_S in total, and a
 *             body at less than LIMIT_HTTP_BODY_RATE (408 and close), LIMIT_HTTP_IDLE_S between requests, the route's body limit. Content-Encoding: 415.
 *             Expect: 100-continue is honoured. No compression offered or accepted.
 *             A client that takes nothing of its answer for LIMIT_HTTP_IDLE_S is cut off. Work on a request has no
 *             deadline here.
 * Answers     always carry Date, Content-Length (or are chunked streams), x-ms-request-id when set by the face. Our own
 *             refusals of the transport (400, 408, 415, 426, 431, 503 while draining, 505) keep these statuses whatever status
 *             hooks.refuse gives.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "base/arena.h"
#include "base/buf.h"
#include "net/conn.h"
#include "net/stream.h"

enum http_method {
    HTTP_GET,
    HTTP_PUT,
    HTTP_POST,
    HTTP_DELETE,
    HTTP_PATCH,
    HTTP_HEAD,
    HTTP_METHODS
};
struct http_server;
struct http_rq;

#define HTTP_PARAMS 4u
/* path: fixed segments compared without case, "{name}" takes one segment, percent-decoded once. Fixed beats
 * parameter. A trailing slash in the request is ignored. auth and right mean what the program's admit hook says. */
struct http_route {
    enum http_method method;
    const char *path;
    uint32_t auth;
    uint32_t right;
    size_t body_limit; /* 0: no body is wanted (one that comes is read up to 4 KiB and ignored) */
    void (*handler)(struct http_rq *rq);
};

struct http_hooks {
    /* Head is known, body not yet: api-version, authentication, right. Not OK: hooks.refuse is called with it. */
    enum err (*admit)(struct http_rq *rq, struct err_info *info);
    /* Writes the face's error answer (http_answer, before it returns) for e: unknown path, admit's refusal, too
     * large... Paths and methods outside the table arrive with http_rq_route(rq) NULL; heads that could not be read
     * also with an empty path and method HTTP_METHODS. */
    void (*refuse)(struct http_rq *rq, enum err e, const struct err_info *info);
    /* GET with Upgrade: websocket on a path that the program offers. Returns OK and *ret_protocol (echoed in
     * Sec-WebSocket-Protocol) to take it; then on_ws gets the open WebSocket stream. Else refused. NULL: none offered. */
    enum err (*admit_ws)(struct http_rq *rq, struct span *ret_protocol, void **ret_user,
                         struct err_info *info);
    void (*on_ws)(struct stream *ws, void *user, void *arg);
    void *arg;
};

struct http_conf {
    struct loop *loop;
    const struct http_route *routes;
    size_t n_routes;
    struct http_hooks hooks;
    unsigned max_connections;
    bool (*is_draining)(void *arg); /* answers carry Connection: close; may be NULL */
};
MUST_USE enum err http_server_new(const struct http_conf *conf, struct http_server **ret,
                                  struct err_info *info);
/* Answers what is suspended with 503 through hooks.refuse(E_DRAINING), closes idle connections. */
void http_server_drain(struct http_server *s);
void http_server_free(struct http_server *s);
/* Takes the stream over (its handler becomes the HTTP connection). E_BUSY above max_connections, E_NOMEM: the stream
 * is still the caller's. */
MUST_USE enum err http_attach(struct http_server *s, struct stream *st);

/* --- request ------------------------------------------------------------------------------- */
enum http_method http_rq_method(const struct http_rq *rq); /* the effective one */
const struct http_route *http_rq_route(const struct http_rq *rq);
struct span http_rq_raw_path(const struct http_rq *rq); /* as sent, without query */
/* i-th "{...}" of the route, decoded. */
struct span http_rq_param(const struct http_rq *rq, unsigned i);
/* First query parameter of that name (without case), decoded; found false when absent. "x" alone: empty, found. */
struct span http_rq_query(struct http_rq *rq, const char *name, bool *ret_found);
/* Without case; empty with p NULL when absent. */
struct span http_rq_header(const struct http_rq *rq, const char *name);
typedef void (*http_header_fn)(void *arg, struct span name, struct span value);
void http_rq_each_header(const struct http_rq *rq, http_header_fn fn, void *arg);
struct span http_rq_host(const struct http_rq *rq); /* without port */
/* A Content-Length (also 0) or chunks were there. */
bool http_rq_has_body(const struct http_rq *rq);
struct span http_rq_body(const struct http_rq *rq); /* in the handler; lives as long as rq */
struct arena *http_rq_arena(struct http_rq *rq);
struct conn *http_rq_conn(struct http_rq *rq); /* NULL only in tests */
struct loop *http_rq_loop(struct http_rq *rq);
void *http_rq_server_arg(struct http_rq *rq); /* hooks.arg */
/* Per-request slot for what admit found out (caller, rights); freed never, put it in the arena. */
void http_rq_set_user(struct http_rq *rq, void *user);
void *http_rq_user(struct http_rq *rq);
/* The client left, or the request was answered from elsewhere (drain): called once, before the request is freed;
 * never after http_answer. From the loop. fn NULL: no more. */
void http_rq_set_gone(struct http_rq *rq, void (*fn)(void *arg), void *arg);
/* In admit_ws only: on_ws gets the carrier itself, the 101 written, and reads the frames on its own. */
void http_rq_take_carrier(struct http_rq *rq);
/* In admit_ws only, which then returns E_AGAIN: the connection goes to another loop with the request unread; arrived attaches it
 * to the HTTP server there (conn_move). */
void http_rq_move(struct http_rq *rq, struct loop *to, conn_arrived_fn arrived, void *arg);
handle http_rq_handle(struct http_rq *rq); /* 0 once it is answered */
/* NULL: the client has gone, or it is answered. */
struct http_rq *http_rq_of(struct loop *l, handle h);

/* --- answer -------------------------------------------------------------------------------- */
/* Before http_answer; name and value are copied; CR, LF, NUL in either is a bug (ASSERT): callers encode. */
void http_header(struct http_rq *rq, const char *name, struct span value);
void http_headerf(struct http_rq *rq, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Once. body is copied; empty body: Content-Length: 0 (none on 204). */
void http_answer(struct http_rq *rq, unsigned status, const char *content_type, struct span body);
bool http_is_answered(const struct http_rq *rq);

/* A streamed answer (chunked; until close for HTTP/1.0): begin in the handler or later, then write as data comes, end. on_gone: the client left (or end was reached);
 * last call, exactly once. Full: http_stream_is_full, on_drained when there is room again. */
struct http_stream;
struct http_stream_handler {
    void (*on_drained)(struct http_stream *s, void *arg);
    void (*on_gone)(struct http_stream *s, void *arg);
};
MUST_USE enum err http_stream_begin(struct http_rq *rq, unsigned status, const char *content_type,
                                    const struct http_stream_handler *h, void *arg,
                                    struct http_stream **ret);
void http_stream_write(struct http_stream *s, struct span b);
bool http_stream_is_full(const struct http_stream *s);
void http_stream_end(struct http_stream *s);

struct http_stats {
    uint64_t requests, refused, open, bad_heads, timeouts;
    uint64_t by_status[6]; /* 1xx.. index status / 100 */
};
void http_stats(const struct http_server *s, struct http_stats *ret);

#endif
