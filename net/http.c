/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_impl.h"

#include <stdlib.h>

enum err http_server_new(const struct http_conf *conf, struct http_server **ret,
                         struct err_info *info)
{
    ASSERT(conf->hooks.admit != NULL && conf->hooks.refuse != NULL);
    ASSERT((conf->hooks.admit_ws == NULL) == (conf->hooks.on_ws == NULL));
    struct http_server *s = NEW(struct http_server);
    if (s == NULL) {
        return err_set(info, E_NOMEM, "HTTP server");
    }
    s->magic = HTTP_SERVER_MAGIC;
    s->conf = *conf;
    s->loop = conf->loop;
    list_init(&s->conns);
    list_init(&s->active);
    list_init(&s->dead);
    enum err e = http_mhd_start(s, info);
    if (e != OK) {
        http_server_free(s);
        return e;
    }
    *ret = s;
    return OK;
}

/* Requests still coming in are served: their answers close. */
static void drain_conn(struct http_conn *c)
{
    if (c->is_closing) {
        return;
    }
    switch (c->state) {
    case HTTP_S_HEAD:
        if (!c->has_head_bytes) {
            http_conn_finish(c);
        }
        break;
    case HTTP_S_ANSWER:
        if (c->rq != NULL && !c->rq->is_answered) {
            struct err_info info = {0};
            enum err e = err_set(&info, E_DRAINING, "the server shuts down");
            http_rq_refuse(c->rq, e, 503, &info);
        }
        break;
    case HTTP_S_STREAM:
        /* Whoever writes it hears on_gone. */
        http_conn_close(c);
        break;
    case HTTP_S_BODY:
    case HTTP_S_LINGER:
        break;
    }
}

void http_server_drain(struct http_server *s)
{
    ASSERT_LOOP(s->loop);
    s->is_draining = true;
    LIST_EACH_SAFE (n, tmp, &s->conns) {
        drain_conn(LIST_OF(n, struct http_conn, link));
    }
}

/* A stream whose HTTP connection went before it. */
static size_t ignore_bytes(struct stream *st UNUSED, void *arg UNUSED, struct span in)
{
    return in.n;
}

static void ignore_close(struct stream *st UNUSED, void *arg UNUSED, enum err why UNUSED)
{
}

static const struct stream_handler nobody = {
    .name = "http-gone",
    .on_bytes = ignore_bytes,
    .on_close = ignore_close,
};

void http_server_free(struct http_server *s)
{
    if (s == NULL) {
        return;
    }
    s->is_draining = true;
    while (!list_empty(&s->conns)) {
        struct http_conn *c = LIST_OF(s->conns.next, struct http_conn, link);
        struct stream *st = c->stream;
        http_conn_free(c);
        stream_handle(st, &nobody, NULL);
        stream_abort(st, E_CLOSED);
    }
    http_mhd_stop(s);
    for (struct list *n = list_pop(&s->dead); n != NULL; n = list_pop(&s->dead)) {
        http_rq_free(LIST_OF(n, struct http_rq, dead));
    }
    s->magic = 0;
    free(s);
}

void http_stats(const struct http_server *s, struct http_stats *ret)
{
    *ret = s->stats;
}
