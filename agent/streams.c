/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: one machine, sessions and their legs are read together. */
#include "agent/streams.h"

#include <stdlib.h>

#include "base/log.h"
#include "client/mux.h"
#include "client/splice.h"
#include "net/tls_stream.h"

#define WHY_OPEN "not encrypted from end to end, which is required"

struct session;

/* One way through: a channel or the whole WebSocket on the one side, a target on the other. */
struct leg {
    struct list link;
    struct session *s;
    const struct agent_target *target;
    struct hold far, near; /* the service's side, the target's */
    struct splice *joined;
    struct conn *connecting;
    uint64_t begun_ms;
};

struct session {
    struct list link;
    struct agent_streams *st;
    char *rid, *url, *auth;
    char name[65];
    const char *proto; /* a session of channels, by this name; NULL: one plain stream */
    bool is_sealed;    /* from end to end */
    bool is_answered, is_accepted;
    struct link_try *dial;
    struct tls_stream *shaking;
    struct mux *mux;
    struct list legs;
    bool is_over; /* goes with its last leg */
};

struct agent_streams {
    struct loop *loop;
    const struct agent_targets *targets;
    const struct proxy *proxy;
    struct tls_ctx *tls;
    struct tls_ctx *end_tls; /* NULL: this unit has no certificate */
    struct hub_client *hub;
    struct list sessions;
    size_t n;
};

/* --- ends ------------------------------------------------------------------------------------------------- */

static void free_session(struct session *s)
{
    list_del(&s->link);
    s->st->n--;
    LOG_INFO("agent.stream_session_closed", L_STR("name", s->name));
    if (s->auth != NULL) {
        mem_wipe(s->auth, strlen(s->auth));
    }
    free(s->rid);
    free(s->url);
    free(s->auth);
    free(s);
}

static void settle(struct session *s)
{
    if (s->is_over && list_empty(&s->legs) && s->mux == NULL && s->dial == NULL &&
        s->shaking == NULL) {
        free_session(s);
    }
}

static void free_leg(struct leg *g)
{
    struct session *s = g->s;
    list_del(&g->link);
    free(g);
    s->is_over = s->is_over || s->proto == NULL;
    settle(s);
}

static void leg_over(void *arg, const struct splice_end *end)
{
    struct leg *g = arg;
    LOG_INFO("agent.stream_closed", L_STR("name", g->target->name), L_U64("to_device", end->from_a),
             L_U64("from_device", end->from_b), L_ERR(end->why),
             L_STR("ended_by", end->first == 0 ? "service" : "target"),
             L_U64("ms", loop_now_ms(g->s->st->loop) - g->begun_ms));
    free_leg(g);
}

/* The holds are told before the leg goes: streams end from the loop only. */
static void leg_gone(struct leg *g)
{
    if (g->far.s == NULL && g->near.s == NULL && g->connecting == NULL && g->s->dial == NULL) {
        free_leg(g);
    }
}

static void answer(struct session *s, bool is_accepted)
{
    struct hub_client *hub = s->st->hub;
    s->is_answered = true;
    s->is_accepted = is_accepted;
    enum err e =
        hub == NULL
            ? E_STATE
            : hub_stream_answer(hub, span_str(s->rid), is_accepted,
                                s->proto != NULL && is_accepted ? span_str(s->proto) : SPAN_NONE);
    if (e != OK) {
        LOG_WARN("agent.stream_not_answered", L_STR("name", s->name), L_ERR(e));
    }
}

static void far_gone(struct hold *h);
static void near_gone(struct hold *h);

static void join(struct leg *g)
{
    enum err e = splice_new(&g->far, &g->near, leg_over, g, &g->joined);
    if (e != OK) { /* the holds hear of their ends */
        stream_abort(g->far.s, e);
        stream_abort(g->near.s, e);
    }
}

static void far_gone(struct hold *h)
{
    struct leg *g = CONTAINER_OF(h, struct leg, far);
    if (g->connecting != NULL) {
        stream_abort(conn_stream(g->connecting), E_CLOSED); /* on_target follows */
    } else if (g->near.s != NULL) {
        stream_abort(g->near.s, E_CLOSED);
    }
    leg_gone(g);
}

static void near_gone(struct hold *h)
{
    struct leg *g = CONTAINER_OF(h, struct leg, near);
    if (g->far.s != NULL) {
        stream_abort(g->far.s, E_CLOSED);
    } else if (g->s->dial != NULL) {
        link_cancel(g->s->dial);
        g->s->dial = NULL;
    }
    leg_gone(g);
}

/* --- the gateway ------------------------------------------------------------------------------------------- */

static void mux_opened(struct mux *m, void *arg, struct span name, struct stream *ch);

static void mux_over(struct mux *m, void *arg, enum err why)
{
    struct session *s = arg;
    (void)m;
    (void)why;
    s->mux = NULL;
    s->is_over = true;
    settle(s);
}

static const struct mux_handler mux_handler = {.on_open = mux_opened, .on_close = mux_over};

static void begin_mux(struct session *s, struct stream *carrier, enum err why)
{
    enum err e = carrier == NULL ? why : mux_new(carrier, &mux_handler, s, &s->mux);
    if (e != OK && carrier != NULL) {
        stream_abort(carrier, e);
    }
    s->is_over = s->mux == NULL;
    settle(s);
}

static void shaken(void *arg, struct stream *sealed, enum err why, const struct err_info *info)
{
    struct session *s = arg;
    s->shaking = NULL;
    if (sealed == NULL) {
        LOG_WARN("agent.stream_not_sealed", L_STR("name", s->name), L_ERR(why), L_WHY(info, why));
    }
    begin_mux(s, sealed, why);
}

static void seal(struct session *s, struct stream *ws)
{
    struct err_info info = {0};
    enum err e = s->st->end_tls == NULL ? E_STATE
                                        : tls_stream_new(ws, s->st->end_tls, AGENT_SEAL_MS, shaken,
                                                         s, &s->shaking, &info);
    if (e != OK) {
        stream_abort(ws, e);
        shaken(s, NULL, e, &info);
    }
}

static void dialed(void *arg, struct stream *ws, enum link_via via, enum err why,
                   const struct err_info *info)
{
    struct session *s = arg;
    (void)via;
    s->dial = NULL;
    if (ws == NULL) {
        LOG_WARN("agent.stream_gateway", L_STR("name", s->name), L_ERR(why), L_WHY(info, why));
    }
    if (ws != NULL && s->is_sealed) {
        seal(s, ws);
        return;
    }
    if (s->proto != NULL) {
        begin_mux(s, ws, why);
        return;
    }
    struct leg *g = LIST_OF(s->legs.next, struct leg, link);
    if (ws == NULL) {
        stream_abort(g->near.s, why);
        return;
    }
    hold_stream(&g->far, ws, far_gone);
    join(g);
}

static enum err dial(struct session *s, struct err_info *info)
{
    AUTO(buf_done) struct buf headers = BUF_INIT(2048);
    char *host = NULL, *path = NULL;
    uint16_t port;
    enum err e = link_url(span_str(s->url), &host, &port, &path, info);
    if (e != OK) {
        return e;
    }
    buf_addf(&headers, "Authorization: Bearer %s\r\n", s->auth);
    buf_add_u8(&headers, 0);
    if ((e = buf_err(&headers)) == OK) {
        const struct link_target t = {.host = host,
                                      .https_port = port,
                                      .tls = s->st->tls,
                                      .timeout_ms = AGENT_GATEWAY_MS,
                                      .proxy = s->st->proxy,
                                      .path = path,
                                      .protocol = s->proto,
                                      .headers = (const char *)headers.p};
        e = link_open(s->st->loop, &t, LINK_MQTT_WS, dialed, s, &s->dial, info);
    }
    if (headers.p != NULL) {
        mem_wipe(headers.p, headers.n);
    }
    free(host);
    free(path);
    return e;
}

/* --- targets ------------------------------------------------------------------------------------------------- */

static void on_target(struct conn *c, void *arg, enum err why, const struct err_info *info)
{
    struct leg *g = arg;
    struct session *s = g->s;
    struct err_info failed = {0};
    g->connecting = NULL;
    if (c == NULL) {
        if (s->proto == NULL) {
            answer(s, false);
        }
        LOG_WARN("agent.stream_failed", L_STR("name", g->target->name), L_ERR(why),
                 L_WHY(info, why));
        if (g->far.s != NULL) {
            mux_refuse(g->far.s, "the target cannot be reached");
        } else {
            free_leg(g);
        }
        return;
    }
    hold_stream(&g->near, conn_stream(c), near_gone);
    if (s->proto != NULL) {
        if (g->far.s != NULL) {
            join(g);
        } else {
            stream_abort(g->near.s, E_CLOSED);
        }
        return;
    }
    enum err e = dial(s, &failed);
    answer(s, e == OK);
    if (e != OK) {
        LOG_WARN("agent.stream_gateway", L_STR("name", s->name), L_ERR(e), L_WHY(&failed, e));
        stream_abort(g->near.s, e);
    }
}

/* E_...: nothing has begun. */
static enum err leg_new(struct session *s, const struct agent_target *target, struct leg **ret,
                        struct err_info *info)
{
    struct leg *g = NEW(struct leg);
    if (g == NULL) {
        return E_NOMEM;
    }
    g->s = s;
    g->target = target;
    g->begun_ms = loop_now_ms(s->st->loop);
    const struct conn_target to = {
        .host = target->address, .port = target->port, .timeout_ms = AGENT_TARGET_MS};
    enum err e = conn_connect(s->st->loop, &to, on_target, g, &g->connecting, info);
    if (e != OK) {
        free(g);
        return e;
    }
    list_add_tail(&s->legs, &g->link);
    LOG_INFO("agent.stream_opened", L_STR("name", target->name), L_STR("address", target->address),
             L_U64("port", target->port));
    *ret = g;
    return OK;
}

static void mux_opened(struct mux *m, void *arg, struct span name, struct stream *ch)
{
    struct session *s = arg;
    struct err_info info = {0};
    struct leg *g;
    const struct agent_target *target = agent_target_find(s->st->targets, name);
    (void)m;
    if (target == NULL) {
        LOG_WARN("agent.stream_rejected", L_SPAN("name", name), L_STR("why", "not listed"));
        mux_refuse(ch, "this name is not listed on the device");
        return;
    }
    if (target->must_be_sealed && !s->is_sealed) { /* another name opened the session */
        LOG_WARN("agent.stream_rejected", L_SPAN("name", name), L_STR("why", WHY_OPEN));
        mux_refuse(ch, WHY_OPEN);
        return;
    }
    enum err e = leg_new(s, target, &g, &info);
    if (e != OK) {
        LOG_WARN("agent.stream_failed", L_SPAN("name", name), L_ERR(e), L_WHY(&info, e));
        mux_refuse(ch, "the target cannot be reached");
        return;
    }
    hold_stream(&g->far, ch, far_gone);
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static bool offers(struct span proto, const char *name)
{
    while (proto.n > 0) {
        if (span_is(span_cut(&proto, ','), name)) {
            return true;
        }
    }
    return false;
}

/* Why not; told_proto: what the answer names as the reason (device-streams.md 13.2). NULL: it may begin. */
static const char *refusal(const struct agent_streams *st, const struct hub_stream *rq,
                           const struct agent_target *target, struct span *ret_proto)
{
    bool is_sealed = offers(rq->proto, MUX_PROTOCOL_SEALED);
    *ret_proto = SPAN_NONE;
    if (target == NULL) {
        return "not listed";
    }
    if (st->n >= AGENT_SESSIONS) {
        return "too many sessions";
    }
    if (span_has_nul(rq->auth)) {
        return "unusable token";
    }
    *ret_proto = SPAN_LIT(MUX_PROTOCOL_SEALED);
    if (is_sealed && st->end_tls == NULL) {
        return "no certificate to encrypt with from end to end";
    }
    return !is_sealed && target->must_be_sealed ? WHY_OPEN : NULL;
}

static struct session *session_new(struct agent_streams *st, const struct hub_stream *rq)
{
    struct session *s = NEW(struct session);
    if (s == NULL) {
        return NULL;
    }
    s->st = st;
    s->rid = span_dup(rq->rid);
    s->url = span_dup(rq->url);
    s->auth = span_dup(rq->auth);
    (void)span_to_cstr(span_sub(rq->name, 0, sizeof(s->name) - 1), s->name, sizeof(s->name));
    s->is_sealed = offers(rq->proto, MUX_PROTOCOL_SEALED);
    s->proto = s->is_sealed                      ? MUX_PROTOCOL_SEALED
               : offers(rq->proto, MUX_PROTOCOL) ? MUX_PROTOCOL
                                                 : NULL;
    list_init(&s->legs);
    list_add_tail(&st->sessions, &s->link);
    st->n++;
    if (s->rid == NULL || s->url == NULL || s->auth == NULL) {
        free_session(s);
        return NULL;
    }
    return s;
}

/* A request that was asked before the link was renewed comes once more with the new one (device-streams.md 10). */
static struct session *session_of(struct agent_streams *st, struct span url)
{
    LIST_EACH (n, &st->sessions) {
        struct session *s = LIST_OF(n, struct session, link);
        if (span_is(url, s->url)) {
            return s;
        }
    }
    return NULL;
}

void agent_streams_request(struct agent_streams *st, const struct hub_stream *rq)
{
    struct session *known = session_of(st, rq->url);
    if (known != NULL) {
        LOG_INFO("agent.stream_asked_again", L_STR("name", known->name));
        if (known->is_answered) { /* else the target is being tried */
            answer(known, known->is_accepted);
        }
        return;
    }
    const struct agent_target *target = agent_target_find(st->targets, rq->name);
    struct err_info info = {0};
    struct span told;
    struct leg *g;
    const char *why = refusal(st, rq, target, &told);
    struct session *s = why == NULL ? session_new(st, rq) : NULL;
    if (s == NULL) {
        LOG_WARN("agent.stream_rejected", L_SPAN("name", rq->name),
                 L_STR("why", why != NULL ? why : "no memory"));
        if (st->hub != NULL && hub_stream_answer(st->hub, rq->rid, false, told) != OK) {
            LOG_WARN("agent.stream_not_answered", L_SPAN("name", rq->name));
        }
        return;
    }
    enum err e = s->proto != NULL ? dial(s, &info) : leg_new(s, target, &g, &info);
    if (s->proto != NULL || e != OK) {
        answer(s, e == OK);
    }
    if (e != OK) {
        LOG_WARN("agent.stream_failed", L_STR("name", s->name), L_ERR(e), L_WHY(&info, e));
        s->is_over = true;
        settle(s);
    }
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

enum err agent_streams_new(struct loop *l, const struct agent_targets *targets, const char *ca_file,
                           const struct proxy *proxy, struct agent_streams **ret,
                           struct err_info *info)
{
    const struct tls_client_conf tc = {.ca_file = ca_file};
    struct agent_streams *st = NEW(struct agent_streams);
    if (st == NULL) {
        return E_NOMEM;
    }
    enum err e = tls_client_new(&tc, &st->tls, info);
    if (e != OK) {
        free(st);
        return e;
    }
    st->loop = l;
    st->targets = targets;
    st->proxy = proxy;
    list_init(&st->sessions);
    *ret = st;
    return OK;
}

void agent_streams_hub(struct agent_streams *st, struct hub_client *hub)
{
    st->hub = hub;
}

void agent_streams_identity(struct agent_streams *st, const struct identity *id)
{
    struct err_info info = {0};
    tls_ctx_unref(st->end_tls);
    st->end_tls = NULL;
    if (id->kind == ATTEST_X509) {
        const struct tls_server_conf own = {id->cert_chain_file, id->key_file};
        enum err e = tls_end_server_new(&own, MUX_PROTOCOL_SEALED, &st->end_tls, &info);
        if (e != OK) {
            LOG_WARN("agent.stream_no_certificate", L_ERR(e), L_WHY(&info, e));
        }
    }
}

size_t agent_streams_count(const struct agent_streams *st)
{
    return st->n;
}

static void end_leg(struct leg *g)
{
    if (g->connecting != NULL) {
        stream_abort(conn_stream(g->connecting), E_CLOSED);
    } else if (g->joined != NULL && g->s->proto == NULL) {
        splice_abort(g->joined, E_CLOSED);
    } else if (g->joined == NULL && g->near.s != NULL) {
        stream_abort(g->near.s, E_CLOSED);
    }
}

void agent_streams_end(struct agent_streams *st)
{
    LIST_EACH_SAFE (n, tmp, &st->sessions) {
        struct session *s = LIST_OF(n, struct session, link);
        if (s->mux != NULL) {
            mux_close(s->mux, OK);
        }
        LIST_EACH_SAFE (m, tmp2, &s->legs) {
            end_leg(LIST_OF(m, struct leg, link));
        }
        if (s->dial != NULL || s->shaking != NULL) {
            if (s->dial != NULL) {
                link_cancel(TAKE(s->dial));
            } else {
                tls_stream_cancel(TAKE(s->shaking));
            }
            s->is_over = true;
            settle(s);
        }
    }
}

void agent_streams_free(struct agent_streams *st)
{
    if (st != NULL) {
        ASSERT(st->n == 0);
        tls_ctx_unref(st->tls);
        tls_ctx_unref(st->end_tls);
        free(st);
    }
}
