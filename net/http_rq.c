/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_impl.h"

#include <stdlib.h>

struct http_rq *http_rq_new(struct http_conn *c)
{
    struct http_rq *rq = NEW(struct http_rq);
    if (rq == NULL) {
        return NULL;
    }
    rq->magic = HTTP_RQ_MAGIC;
    rq->server = c->server;
    rq->conn = c;
    rq->arena = (struct arena)ARENA_INIT(LIMIT_HTTP_ARENA);
    rq->body = (struct buf)BUF_INIT(0);
    rq->method = HTTP_METHODS;
    rq->headers_end = &rq->headers;
    c->rq = rq;
    return rq;
}

void http_rq_end(struct http_rq *rq)
{
    struct http_server *s = rq->server;
    void (*gone)(void *arg) = TAKE(rq->gone);
    if (gone != NULL) {
        gone(rq->gone_arg);
    }
    if (rq->handle != 0) {
        handle_free(s->loop, rq->handle);
        rq->handle = 0;
    }
    if (rq->conn != NULL) {
        if (rq->conn->mc != NULL && rq->conn->mc->rq == rq) {
            rq->conn->mc->rq = NULL;
        }
        rq->conn->rq = NULL;
        rq->conn = NULL;
    }
    list_add_tail(&s->dead, &rq->dead);
    if (!s->in_turn) {
        http_turn(s);
    }
}

void http_rq_free(struct http_rq *rq)
{
    if (rq->response != NULL) {
        MHD_destroy_response(rq->response);
    }
    arena_done(&rq->arena);
    buf_done(&rq->body);
    rq->magic = 0;
    free(rq);
}

void http_rq_refuse(struct http_rq *rq, enum err e, unsigned status, const struct err_info *info)
{
    struct http_server *s = rq->server;
    s->stats.refused++;
    rq->forced_status = status;
    s->conf.hooks.refuse(rq, e, info);
    /* A face that stays silent is a bug, but no reason to let a client wait for ever. */
    if (!rq->is_answered) {
        http_answer(rq, 500, NULL, SPAN_NONE);
    }
}

enum http_method http_rq_method(const struct http_rq *rq)
{
    return rq->method;
}

const struct http_route *http_rq_route(const struct http_rq *rq)
{
    return rq->route;
}

struct span http_rq_raw_path(const struct http_rq *rq)
{
    return rq->head.path;
}

struct span http_rq_param(const struct http_rq *rq, unsigned i)
{
    ASSERT(i < HTTP_PARAMS);
    return rq->params[i];
}

struct span http_rq_query(struct http_rq *rq, const char *name, bool *ret_found)
{
    struct span v = SPAN_NONE;
    bool is_found = false;
    if (http_query_get(rq->head.query, name, &rq->arena, &v, &is_found) != OK) {
        /* A bad escape was refused with the head: only memory can be short here. */
        v = SPAN_NONE;
        is_found = false;
    }
    if (ret_found != NULL) {
        *ret_found = is_found;
    }
    return v;
}

struct span http_rq_header(const struct http_rq *rq, const char *name)
{
    return http_head_get(&rq->head, name);
}

void http_rq_each_header(const struct http_rq *rq, http_header_fn fn, void *arg)
{
    struct span rest = rq->head.lines, name, value;
    while (http_head_next(&rest, &name, &value)) {
        fn(arg, name, value);
    }
}

struct span http_rq_host(const struct http_rq *rq)
{
    return http_host_name(rq->head.host);
}

bool http_rq_has_body(const struct http_rq *rq)
{
    return rq->head.has_length || rq->head.is_chunked;
}

struct span http_rq_body(const struct http_rq *rq)
{
    return buf_span(&rq->body);
}

struct arena *http_rq_arena(struct http_rq *rq)
{
    return &rq->arena;
}

struct conn *http_rq_conn(struct http_rq *rq)
{
    return rq->conn != NULL ? stream_conn(rq->conn->stream) : NULL;
}

struct loop *http_rq_loop(struct http_rq *rq)
{
    return rq->server->loop;
}

void *http_rq_server_arg(struct http_rq *rq)
{
    return rq->server->conf.hooks.arg;
}

void http_rq_set_user(struct http_rq *rq, void *user)
{
    rq->user = user;
}

void *http_rq_user(struct http_rq *rq)
{
    return rq->user;
}

void http_rq_set_gone(struct http_rq *rq, void (*fn)(void *arg), void *arg)
{
    rq->gone = fn;
    rq->gone_arg = arg;
}

void http_rq_take_carrier(struct http_rq *rq)
{
    rq->wants_carrier = true;
}

void http_rq_move(struct http_rq *rq, struct loop *to, conn_arrived_fn arrived, void *arg)
{
    ASSERT(to != rq->server->loop && rq->conn != NULL && stream_conn(rq->conn->stream) != NULL);
    rq->to = to;
    rq->arrived = arrived;
    rq->arrived_arg = arg;
}

handle http_rq_handle(struct http_rq *rq)
{
    if (rq->handle == 0 && rq->conn != NULL && !rq->is_answered) {
        rq->handle = handle_new(rq->server->loop, rq);
    }
    return rq->handle;
}

struct http_rq *http_rq_of(struct loop *l, handle h)
{
    void *p = h != 0 ? handle_get(l, h) : NULL;
    return p != NULL ? CAST_MAGIC(struct http_rq, p, HTTP_RQ_MAGIC) : NULL;
}
