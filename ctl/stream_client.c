/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/stream_client.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/secret.h"
#include "client/link.h"
#include "client/mux.h"
#include "client/splice.h"
#include "net/tls_stream.h"

#define GATEWAY_MS 20000u
#define SEAL_MS 60000u /* the device may still be on its way to the gateway */

struct leg {
    struct list link;
    struct stream_client *c;
    struct hold near, far;
    struct splice *joined;
    enum err why; /* of what kept it from being joined */
    char text[256];
};

/* One POST, on its thread. */
struct post {
    struct msg msg;
    struct stream_client *c;
    pthread_t thread;
    struct service_stream_answer ans;
    enum err result;
    struct err_info info;
};

enum phase { IDLE, ASKING, DIALING, SHAKING };

struct stream_client {
    struct stream_client_conf conf;
    stream_client_over_fn over;
    void *arg;
    enum phase phase;
    struct post *post;
    struct link_try *dial;
    bool is_mux_dial; /* what is being dialed */
    struct tls_stream *shaking;
    struct mux *mux;
    struct list legs; /* those that wait stand in their order */
    size_t n_legs;
    struct stream_client_stats stats;
    bool is_ending;
};

static void ask_next(struct stream_client *c);

/* --- ends of a connection ---------------------------------------------------------------------------- */

static void free_leg(struct leg *g, enum err why, const char *text, uint64_t up, uint64_t down)
{
    struct stream_client *c = g->c;
    list_del(&g->link);
    c->n_legs--;
    c->stats.up += up;
    c->stats.down += down;
    c->stats.failed += why != OK;
    c->over(c->arg, why, text, up, down);
    free(g);
}

static void leg_over(void *arg, const struct splice_end *end)
{
    struct leg *g = arg;
    const char *text = end->why == OK         ? ""
                       : end->why == E_REMOTE ? "the device ended it"
                                              : err_text(end->why);
    free_leg(g, end->why, text, end->from_a, end->from_b);
}

static void leg_gone(struct leg *g)
{
    if (g->near.s == NULL && g->far.s == NULL) {
        free_leg(g, g->why, g->text, 0, 0);
    }
}

static void near_gone(struct hold *h)
{
    struct leg *g = CONTAINER_OF(h, struct leg, near);
    if (g->far.s != NULL) {
        stream_abort(g->far.s, E_CLOSED);
    }
    leg_gone(g);
}

static void far_gone(struct hold *h)
{
    struct leg *g = CONTAINER_OF(h, struct leg, far);
    if (g->near.s != NULL) {
        stream_abort(g->near.s, E_CLOSED);
    }
    leg_gone(g);
}

static void leg_fail(struct leg *g, enum err why, const char *text)
{
    g->why = why;
    (void)!span_to_cstr(span_sub(span_str(text), 0, sizeof(g->text) - 1), g->text, sizeof(g->text));
    stream_abort(g->near.s, why);
}

static bool is_waiting(const struct leg *g)
{
    return g->joined == NULL && g->far.s == NULL && g->near.s != NULL && g->why == OK;
}

static struct leg *first_waiting(struct stream_client *c)
{
    LIST_EACH (n, &c->legs) {
        struct leg *g = LIST_OF(n, struct leg, link);
        if (is_waiting(g)) {
            return g;
        }
    }
    return NULL;
}

static void fail_waiting(struct stream_client *c, enum err why, const char *text)
{
    for (struct leg *g; (g = first_waiting(c)) != NULL;) {
        leg_fail(g, why, text);
    }
}

static void join(struct leg *g, struct stream *far)
{
    hold_stream(&g->far, far, far_gone);
    enum err e = splice_new(&g->near, &g->far, leg_over, g, &g->joined);
    if (e != OK) {
        g->why = e;
        stream_abort(far, e);
        stream_abort(g->near.s, e);
    }
}

/* --- the WebSocket --------------------------------------------------------------------------------------- */

static void open_channels(struct stream_client *c)
{
    for (struct leg *g; c->mux != NULL && (g = first_waiting(c)) != NULL;) {
        struct stream *far;
        enum err e = mux_open(c->mux, span_str(c->conf.name), &far);
        if (e != OK) {
            leg_fail(g, e, "too many connections in one session");
            continue;
        }
        join(g, far);
    }
}

static void mux_over(struct mux *m, void *arg, enum err why)
{
    struct stream_client *c = arg;
    (void)m;
    (void)why;
    c->mux = NULL;
    ask_next(c);
}

static const struct mux_handler mux_handler = {.on_close = mux_over};

static void begin_mux(struct stream_client *c, struct stream *carrier)
{
    enum err e = mux_new(carrier, &mux_handler, c, &c->mux);
    if (e != OK) {
        stream_abort(carrier, e);
        fail_waiting(c, e, err_text(e));
    }
    open_channels(c);
}

static void shaken(void *arg, struct stream *sealed, enum err why, const struct err_info *info)
{
    struct stream_client *c = arg;
    c->shaking = NULL;
    c->phase = IDLE;
    if (sealed == NULL) {
        fail_waiting(c, why, err_why(info, why));
    } else {
        begin_mux(c, sealed);
    }
    ask_next(c);
}

static void seal(struct stream_client *c, struct stream *ws)
{
    struct err_info info = {0};
    enum err e = tls_stream_new(ws, c->conf.end_tls, SEAL_MS, shaken, c, &c->shaking, &info);
    c->phase = SHAKING;
    if (e != OK) {
        stream_abort(ws, e);
        shaken(c, NULL, e, &info);
    }
}

static void dialed(void *arg, struct stream *ws, enum link_via via, enum err why,
                   const struct err_info *info)
{
    struct stream_client *c = arg;
    struct leg *g = first_waiting(c);
    (void)via;
    c->dial = NULL;
    c->phase = IDLE;
    if (ws == NULL) {
        fail_waiting(c, why, err_why(info, why));
    } else if (c->is_ending || (!c->is_mux_dial && g == NULL)) {
        stream_abort(ws, E_CLOSED); /* nobody is left who wants it */
    } else if (c->conf.end_tls != NULL) {
        seal(c, ws);
    } else if (c->is_mux_dial) {
        begin_mux(c, ws);
    } else {
        join(g, ws);
    }
    ask_next(c);
}

static const char *protocol(const struct stream_client *c)
{
    return c->conf.end_tls != NULL ? MUX_PROTOCOL_SEALED : MUX_PROTOCOL;
}

static enum err dial(struct stream_client *c, const struct service_stream_answer *a,
                     struct err_info *info)
{
    AUTO(buf_done) struct buf headers = BUF_INIT(2048);
    char *host = NULL, *path = NULL;
    uint16_t port;
    enum err e = link_url(span_str(a->url), &host, &port, &path, info);
    if (e != OK) {
        return e;
    }
    c->is_mux_dial = span_is(span_str(a->proto), protocol(c));
    buf_addf(&headers, "Authorization: Bearer %s\r\n", a->auth);
    buf_add_u8(&headers, 0);
    if ((e = buf_err(&headers)) == OK) {
        const struct link_target t = {.host = host,
                                      .https_port = port,
                                      .tls = c->conf.tls,
                                      .timeout_ms = GATEWAY_MS,
                                      .proxy = c->conf.proxy,
                                      .path = path,
                                      .protocol = c->is_mux_dial ? protocol(c) : NULL,
                                      .headers = (const char *)headers.p};
        e = link_open(c->conf.loop, &t, LINK_MQTT_WS, dialed, c, &c->dial, info);
    }
    if (headers.p != NULL) {
        mem_wipe(headers.p, headers.n);
    }
    free(host);
    free(path);
    return e;
}

/* --- the POST ------------------------------------------------------------------------------------------------ */

static const char *rejection(const struct stream_client *c, const struct service_stream_answer *a)
{
    if (!span_is(span_str(a->proto), MUX_PROTOCOL_SEALED)) {
        return "the device rejects it: it lists no target of this name, or cannot reach it";
    }
    return c->conf.end_tls != NULL
               ? "the device rejects it: it has no X.509 certificate to encrypt with from end to "
                 "end"
               : "the device rejects it: it demands encryption from end to end for this name";
}

static void post_home(struct msg *m)
{
    struct post *p = CONTAINER_OF(m, struct post, msg);
    struct stream_client *c = p->c;
    (void)pthread_join(p->thread, NULL);
    c->post = NULL;
    c->phase = IDLE;
    if (p->result != OK) {
        fail_waiting(c, p->result, err_why(&p->info, p->result));
    } else if (!p->ans.is_accepted) {
        fail_waiting(c, E_REMOTE, rejection(c, &p->ans));
    } else if (c->conf.end_tls != NULL && !span_is(span_str(p->ans.proto), protocol(c))) {
        fail_waiting(
            c, E_REMOTE,
            "the device's agent does not offer encryption from end to end; nothing was sent");
    } else if (!c->is_ending && first_waiting(c) != NULL) {
        enum err e = dial(c, &p->ans, &p->info);
        c->phase = e == OK ? DIALING : IDLE;
        if (e != OK) {
            fail_waiting(c, e, err_why(&p->info, e));
        }
    }
    mem_wipe(p, sizeof(*p));
    free(p);
    ask_next(c);
}

static void *post_run(void *arg)
{
    struct post *p = arg;
    const struct stream_client_conf *k = &p->c->conf;
    const struct service_stream_rq rq = {.device_id = k->device,
                                         .module_id = k->module,
                                         .name = k->name,
                                         .proto = protocol(p->c),
                                         .connect_s = k->connect_s,
                                         .response_s = k->response_s};
    struct service_answer refusal = {0};
    p->result = service_open_stream(k->service, &rq, &p->ans, &refusal, &p->info);
    loop_post(k->loop, &p->msg);
    return NULL;
}

/* Somebody waits, and nothing is on its way for him. */
static void ask_next(struct stream_client *c)
{
    if (c->phase != IDLE || c->is_ending) {
        return;
    }
    if (c->mux != NULL) {
        open_channels(c);
        return;
    }
    if (first_waiting(c) == NULL) {
        return;
    }
    struct post *p = NEW(struct post);
    if (p != NULL) {
        p->c = c;
        p->msg.run = post_home;
        c->phase = ASKING;
        if (pthread_create(&p->thread, NULL, post_run, p) == 0) {
            c->post = p;
            return;
        }
        free(p);
    }
    c->phase = IDLE;
    fail_waiting(c, E_NOMEM, "no memory for another connection");
}

/* --- face ---------------------------------------------------------------------------------------------------- */

enum err stream_client_new(const struct stream_client_conf *conf, stream_client_over_fn over,
                           void *arg, struct stream_client **ret)
{
    struct stream_client *c = NEW(struct stream_client);
    if (c == NULL) {
        return E_NOMEM;
    }
    c->conf = *conf;
    c->over = over;
    c->arg = arg;
    list_init(&c->legs);
    *ret = c;
    return OK;
}

enum err stream_client_add(struct stream_client *c, struct stream *local)
{
    if (c->is_ending || c->n_legs >= STREAM_CLIENT_LEGS) {
        return E_LIMIT;
    }
    struct leg *g = NEW(struct leg);
    if (g == NULL) {
        return E_NOMEM;
    }
    g->c = c;
    list_add_tail(&c->legs, &g->link);
    c->n_legs++;
    c->stats.begun++;
    hold_stream(&g->near, local, near_gone);
    ask_next(c);
    return OK;
}

void stream_client_stats(const struct stream_client *c, struct stream_client_stats *ret)
{
    *ret = c->stats;
    ret->open = c->n_legs;
    LIST_EACH (n, &c->legs) {
        const struct leg *g = LIST_OF(n, struct leg, link);
        uint64_t up = 0, down = 0;
        if (g->joined != NULL) {
            splice_counts(g->joined, &up, &down);
        }
        ret->up += up;
        ret->down += down;
    }
}

void stream_client_end(struct stream_client *c)
{
    c->is_ending = true;
    if (c->mux != NULL) {
        mux_close(c->mux, OK);
    }
    if (c->dial != NULL) {
        link_cancel(TAKE(c->dial));
        c->phase = IDLE;
    }
    if (c->shaking != NULL) {
        tls_stream_cancel(TAKE(c->shaking));
        c->phase = IDLE;
    }
    LIST_EACH_SAFE (n, tmp, &c->legs) {
        struct leg *g = LIST_OF(n, struct leg, link);
        if (g->joined != NULL) {
            splice_abort(g->joined, E_CLOSED);
        } else if (g->near.s != NULL) {
            stream_abort(g->near.s, E_CLOSED);
        }
    }
}

size_t stream_client_count(const struct stream_client *c)
{
    return c->n_legs + (c->mux != NULL) + (c->post != NULL);
}

void stream_client_free(struct stream_client *c)
{
    if (c != NULL) {
        ASSERT(stream_client_count(c) == 0);
        free(c);
    }
}
