/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/mqtt.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "hub/metrics.h"
#include "hub/streams.h"
#include "hub/twin.h"
#include "wire/http.h"

#define CONNECT_ARENA (32u << 10)
_Static_assert(HUB_FILTERS <= 16, "one bit each in session.subs");

static struct mlink *link_of(const struct session *s)
{
    return s->endpoint;
}

/* --- refusals ------------------------------------------------------------------------------------ */

/* Every refused CONNECT leaves one line that names the device and the reason; the peer hears the code only. */
static void refuse_connect(struct mlink *l, struct session *s, uint8_t code, struct span client_id,
                           enum err e, const struct err_info *info)
{
    struct conn *c = stream_conn(mlink_stream(l));
    LOG_INFO("hub.connect_refused", L_SPAN("device", client_id),
             L_STR("peer", c != NULL ? conn_peer_text(c) : "-"), L_U64("connack", code), L_ERR(e),
             L_WHY(info, e));
    metric_add(s->w, HUB_M_REFUSED, 1);
    mlink_connack(l, code, false);
}

/* hub-mqtt.md 2.4: trouble of ours is the only thing a client is told to try again for. */
static uint8_t connack_of(enum err e)
{
    switch (err_class(e)) {
    case ERR_T_LOCAL:
    case ERR_T_RETRY:
    case ERR_T_BUG:
        return MQTT_REFUSED_UNAVAILABLE;
    default:
        return MQTT_REFUSED_AUTH;
    }
}

/* --- CONNECT -------------------------------------------------------------------------------------- */

struct connect_verdict {
    uint8_t code; /* MQTT_ACCEPTED, or what to answer */
    enum err err;
};

/* Everything about the text of the packet, before any look at an identity. */
static struct connect_verdict read_names(struct worker *w, const struct mqtt_connect *c,
                                         struct arena *a, struct hub_username *ret,
                                         struct err_info *info)
{
    if (c->client_id.n == 0) {
        return (struct connect_verdict){MQTT_REFUSED_CLIENT_ID,
                                        err_set(info, E_ID, "client id is empty")};
    }
    if (!c->has_username) {
        return (struct connect_verdict){MQTT_REFUSED_USERNAME,
                                        err_set(info, E_MALFORMED, "no user name")};
    }
    enum err e = topic_hub_username_read(c->username, c->client_id, a, ret, info);
    if (e == E_ID) {
        return (struct connect_verdict){MQTT_REFUSED_CLIENT_ID, e};
    }
    if (e != OK) {
        return (struct connect_verdict){
            e == E_NOMEM ? MQTT_REFUSED_UNAVAILABLE : MQTT_REFUSED_USERNAME, e};
    }
    if (!server_has_name(worker_server(w), http_host_name(ret->host))) {
        return (struct connect_verdict){
            MQTT_REFUSED_AUTH, err_set(info, E_UNAUTHORIZED, "user name is for another hub: '%.*s'",
                                       SPAN_ARG(ret->host))};
    }
    return (struct connect_verdict){MQTT_ACCEPTED, OK};
}

/* hub-mqtt.md 5.5: a telemetry topic of the same identity, QoS 0 or 1; all else is refused. */
static enum err keep_will(struct session *s, const struct mqtt_connect *c,
                          const struct hub_username *user, struct err_info *info)
{
    struct hub_publish_topic t;
    if (c->will_qos > 1) {
        return err_set(info, E_UNAUTHORIZED, "will with QoS 2");
    }
    enum err e = topic_hub_publish_read(c->will_topic, &t, info);
    if (e != OK || t.kind != HUB_PUB_TELEMETRY || !span_eq(t.device_id, user->device_id) ||
        !span_eq(t.module_id, user->module_id)) {
        return err_set(info, E_UNAUTHORIZED, "will topic is no telemetry topic of this identity");
    }
    if (c->will_payload.n > LIMIT_D2C_MESSAGE) {
        return err_set(info, E_TOO_LARGE, "will of %zu bytes", c->will_payload.n);
    }
    struct will *will = NEW(struct will);
    if (will == NULL) {
        return E_NOMEM;
    }
    will->arena = (struct arena)ARENA_INIT(PUBLISH_ARENA + LIMIT_D2C_MESSAGE);
    s->will = will; /* freed with the session */
    size_t dropped;
    struct span bag = arena_span(&will->arena, t.bag);
    will->body = arena_span(&will->arena, c->will_payload);
    will->retain = c->will_retain;
    if (bag.p == NULL || will->body.p == NULL) {
        return E_NOMEM;
    }
    return props_bag_read(bag, &will->arena, &will->props, &will->n_props, &dropped, info);
}

static void on_connect(struct mlink *l, void *arg, const struct mqtt_connect *c)
{
    struct session *s = arg;
    struct err_info info = {0};
    if (!c->is_v311) {
        LOG_INFO("hub.connect_refused", L_SPAN("device", c->client_id),
                 L_U64("connack", MQTT_REFUSED_LEVEL), L_U64("level", c->level),
                 L_STR("why", "MQTT level is not 4"));
        metric_add(s->w, HUB_M_REFUSED, 1);
        if (c->is_v5) {
            mlink_connack_v5_refuse(l);
        } else {
            mlink_connack(l, MQTT_REFUSED_LEVEL, false);
        }
        return;
    }
    AUTO(arena_done) struct arena a = ARENA_INIT(CONNECT_ARENA);
    struct hub_username user = {0};
    struct connect_verdict v = read_names(s->w, c, &a, &user, &info);
    if (v.code != MQTT_ACCEPTED) {
        refuse_connect(l, s, v.code, c->client_id, v.err, &info);
        return;
    }
    if (hub_worker_of(s->w)->is_draining) {
        refuse_connect(l, s, MQTT_REFUSED_UNAVAILABLE, c->client_id, E_DRAINING, NULL);
        return;
    }
    struct admitted ad = {0};
    enum err e = registry_authenticate(s->w, &a, user.device_id, user.module_id,
                                       c->has_password ? c->password : SPAN_NONE,
                                       stream_conn(mlink_stream(l)), &ad, &info);
    if (e == OK && c->has_will) {
        e = keep_will(s, c, &user, &info);
    }
    if (e == OK) {
        twin_note_model(s->w, ad.identity, ad.model_id, user.model_id);
        ad.model_id = span_sub(user.model_id, 0, LIMIT_MODEL_ID); /* as it is stored */
        s->is_clean = c->clean_session;
        session_set_peer(s, stream_conn(mlink_stream(l)));
        e = session_claim(s, user.device_id, user.module_id, &ad);
    }
    if (e != OK) {
        refuse_connect(l, s, connack_of(e), c->client_id, e, &info);
    }
}

/* The claim came home (struct session_ops). */
static void on_granted(struct session *s, enum err result, const struct err_info *info)
{
    struct mlink *l = link_of(s);
    bool present = false;
    if (result == OK) {
        result = session_load_filters(s, &present);
    }
    if (result != OK) {
        /* Overtaken by a newer link of its own: not a wrong credential. */
        uint8_t code = result == E_FENCED ? MQTT_REFUSED_UNAVAILABLE : connack_of(result);
        refuse_connect(l, s, code, s->name, result, info);
        return;
    }
    if (s->is_clean) {
        session_forget_filters(s);
    }
    struct conn *c = stream_conn(mlink_stream(l));
    if (c != NULL) {
        conn_mark_authenticated(c);
        conn_forget_peer_cert(c);
    }
    session_ready(s);
    metric_add(s->w, HUB_M_CONNECTS, 1);
    LOG_DEBUG("hub.connected", L_SPAN("device", s->name),
              L_STR("peer", c != NULL ? conn_peer_text(c) : "-"), L_U64("epoch", s->epoch),
              L_BOOL("session_present", present));
    mlink_connack(l, MQTT_ACCEPTED, present);
    if (session_listens(s) && streams_are_on(hub_of(s->w))) {
        streams_listen(s);
    }
}

/* --- PUBLISH -------------------------------------------------------------------------------------- */

static enum err on_publish(struct mlink *l, void *arg, const struct mqtt_publish *p,
                           mlink_slot slot, struct err_info *info)
{
    struct session *s = arg;
    struct hub_publish_topic t;
    enum err e = topic_hub_publish_read(p->topic, &t, info);
    if (e != OK) {
        return err_set(info, e, "topic '%.*s': %s", SPAN_ARG(span_sub(p->topic, 0, 100)),
                       err_text(e));
    }
    switch (t.kind) {
    case HUB_PUB_TELEMETRY:
        if (!span_eq(t.device_id, s->device_id) || !span_eq(t.module_id, s->module_id)) {
            return err_set(info, E_UNAUTHORIZED, "telemetry topic of another identity");
        }
        return hub_mqtt_telemetry(s, &t, p, slot, info);
    case HUB_PUB_TWIN_GET:
        return hub_mqtt_twin_get(s, &t, slot, info);
    case HUB_PUB_TWIN_PATCH:
        return hub_mqtt_twin_patch(s, &t, p->payload, slot, info);
    case HUB_PUB_STREAM_RES:
        hub_mqtt_stream_answer(s, &t);
        if (slot != MLINK_NO_SLOT) {
            mlink_ack(l, slot);
        }
        return OK;
    case HUB_PUB_METHOD_RES:
        /* Nobody waits for it: dropped in silence, as any answer with an unknown request id. */
        if (slot != MLINK_NO_SLOT) {
            mlink_ack(l, slot);
        }
        return OK;
    case HUB_PUB_CREDENTIALS:
    case HUB_PUBLISHES:
        break;
    }
    return err_set(info, E_UNSUPPORTED,
                   "certificate issuance over MQTT is not offered by this version");
}

/* --- SUBSCRIBE ------------------------------------------------------------------------------------ */

/* What each filter gets. Known but not offered yet: 0x80 and the link stays (hub-mqtt.md 4.2). */
enum filter_rule { F_REFUSE, F_OWN, F_IOTHUB, F_STREAMS, F_LATER, F_OWN_LATER };
/* clang-format off */
static const struct {
    enum filter_rule device, module;
} filter_rules[HUB_FILTERS] = {
    [HUB_SUB_C2D]           = { F_OWN,     F_REFUSE },
    [HUB_SUB_MODULE_ALL]    = { F_REFUSE,  F_OWN_LATER },
    [HUB_SUB_MODULE_INPUTS] = { F_REFUSE,  F_OWN_LATER },
    [HUB_SUB_MODULE_C2D]    = { F_REFUSE,  F_OWN_LATER },
    [HUB_SUB_TWIN_RES]      = { F_IOTHUB,  F_IOTHUB },
    [HUB_SUB_TWIN_DESIRED]  = { F_IOTHUB,  F_IOTHUB },
    [HUB_SUB_METHODS]       = { F_IOTHUB,  F_LATER },
    [HUB_SUB_CREDENTIALS]   = { F_LATER,   F_LATER },
    [HUB_SUB_STREAMS_POST]  = { F_STREAMS, F_STREAMS },
    [HUB_SUB_STREAMS_RES]   = { F_STREAMS, F_STREAMS },
};
/* clang-format on */

/* Without an id the filter has "+" for it: the device of this link, never others (topic.h). */
static bool is_own(const struct session *s, const struct hub_filter_topic *t)
{
    return (t->device_id.n == 0 || span_eq(t->device_id, s->device_id)) &&
           span_eq(t->module_id, s->module_id);
}

/* F_REFUSE, F_LATER or F_IOTHUB: what it comes to for this link now. */
static enum filter_rule rule_of(const struct session *s, const struct hub_filter_topic *t)
{
    enum filter_rule rule =
        s->module_id.n > 0 ? filter_rules[t->kind].module : filter_rules[t->kind].device;
    switch (rule) {
    case F_OWN:
        return is_own(s, t) ? F_IOTHUB : F_REFUSE;
    case F_OWN_LATER:
        return is_own(s, t) ? F_LATER : F_REFUSE;
    case F_STREAMS:
        return streams_are_on(hub_of(s->w)) ? F_IOTHUB : F_LATER;
    case F_REFUSE:
    case F_IOTHUB:
    case F_LATER:
        break;
    }
    return rule;
}

static unsigned count_bits(unsigned v)
{
    unsigned n = 0;
    for (; v != 0; v &= v - 1) {
        n++;
    }
    return n;
}

/* Of a session that outlives the link: on disk before the SUBACK or UNSUBACK says so. */
static enum err store_filters(struct session *s)
{
    if (s->is_clean) {
        return OK;
    }
    enum err e = session_store_filters(s);
    if (e == OK) {
        mlink_hold_answer(link_of(s));
    }
    return e;
}

static void filters_stored(struct session *s, enum err result)
{
    if (result == OK) {
        mlink_release_answer(link_of(s));
    } else {
        mlink_close(link_of(s), result, "filters could not be stored");
    }
}

/* SUBACK 0x80, then the link ends. */
static enum err refuse_filter(struct session *s, struct span filter, struct err_info *info)
{
    LOG_INFO("hub.filter_refused", L_SPAN("device", s->name), L_SPAN("filter", filter));
    return err_set(info, E_CLOSED, "filter '%.*s' is not offered to this identity",
                   SPAN_ARG(span_sub(filter, 0, 100)));
}

static enum err on_subscribe(struct mlink *l, void *arg, struct span filter, uint8_t qos,
                             uint8_t *ret_code, struct err_info *info)
{
    struct session *s = arg;
    struct hub_filter_topic t;
    (void)l;
    enum filter_rule rule = topic_hub_filter_read(filter, &t) == OK ? rule_of(s, &t) : F_REFUSE;
    if (rule == F_LATER) {
        LOG_INFO("hub.filter_not_offered", L_SPAN("device", s->name), L_SPAN("filter", filter));
        *ret_code = MQTT_SUBACK_FAILED;
        return OK;
    }
    if (rule == F_REFUSE) {
        *ret_code = MQTT_SUBACK_FAILED;
        return refuse_filter(s, filter, info);
    }
    uint16_t bit = (uint16_t)(1u << t.kind);
    if ((s->subs & bit) == 0 && count_bits(s->subs) >= LIMIT_MQTT_FILTERS) {
        *ret_code = MQTT_SUBACK_FAILED;
        return err_set(info, E_CLOSED, "more than %u filters", LIMIT_MQTT_FILTERS);
    }
    uint16_t q1 = (uint16_t)(qos > 0 ? s->subs_q1 | bit : s->subs_q1 & ~bit);
    bool is_new = (s->subs & bit) == 0 || q1 != s->subs_q1;
    s->subs = (uint16_t)(s->subs | bit);
    s->subs_q1 = q1;
    enum err e = is_new ? store_filters(s) : OK;
    if (e != OK) {
        return err_set(info, e, "filters could not be stored");
    }
    s->has_news = s->has_news || t.kind == HUB_SUB_STREAMS_POST;
    *ret_code = qos > 0 ? 1 : 0;
    return OK;
}

static void on_subscribed(struct mlink *l, void *arg)
{
    struct session *s = arg;
    (void)l;
    if (s->has_news) {
        s->has_news = false;
        streams_listen(s);
    }
}

static void on_unsubscribe(struct mlink *l, void *arg, struct span filter)
{
    struct session *s = arg;
    struct hub_filter_topic t;
    if (topic_hub_filter_read(filter, &t) != OK || (s->subs & (1u << t.kind)) == 0 ||
        rule_of(s, &t) == F_REFUSE) {
        return;
    }
    uint16_t bit = (uint16_t)(1u << t.kind);
    if (t.kind == HUB_SUB_STREAMS_POST) {
        streams_unlisten(s);
    }
    s->subs = (uint16_t)(s->subs & ~bit);
    s->subs_q1 = (uint16_t)(s->subs_q1 & ~bit);
    enum err e = store_filters(s);
    if (e != OK) {
        mlink_close(l, e, "filters could not be stored");
    }
}

static void on_puback(struct mlink *l, void *arg, uint16_t packet_id)
{
    (void)l;
    (void)arg;
    (void)packet_id; /* twin answers and notices need no memory of their own */
}

/* --- end ------------------------------------------------------------------------------------------- */

static void on_close(struct mlink *l, void *arg, bool is_clean, enum err why,
                     const struct err_info *info)
{
    struct session *s = arg;
    struct conn *c = stream_conn(mlink_stream(l));
    if (s->is_ready || s->device_id.n > 0) {
        LOG_DEBUG("hub.closed", L_SPAN("device", s->name), L_BOOL("clean", is_clean), L_ERR(why),
                  L_WHY(info, why));
        if (!is_clean && why != OK && why != E_CLOSED && why != E_FENCED && why != E_NET) {
            LOG_INFO("hub.link_ended", L_SPAN("device", s->name), L_ERR(why), L_WHY(info, why));
        }
    } else if (why == E_MALFORMED || why == E_TIMEOUT || why == E_TOO_LARGE || why == E_TRUNCATED) {
        LOG_INFO("hub.bad_peer", L_STR("peer", c != NULL ? conn_peer_text(c) : "-"), L_ERR(why),
                 L_WHY(info, why));
    }
    session_end(s, is_clean);
}

static void close_link(struct session *s, enum err why, const char *reason)
{
    if (s->endpoint != NULL) {
        mlink_close(link_of(s), why, reason);
    }
}

static void cut_link(struct session *s)
{
    if (s->endpoint != NULL) {
        mlink_close(link_of(s), E_DRAINING, "shutting down");
        stream_abort(mlink_stream(link_of(s)), E_DRAINING);
    }
}

static void drain_link(struct session *s, uint64_t timeout_ms)
{
    if (s->endpoint != NULL) {
        mlink_drain(link_of(s), timeout_ms);
    }
}

static const struct mlink_handler handler = {
    .on_connect = on_connect,
    .on_publish = on_publish,
    .on_subscribe = on_subscribe,
    .on_subscribed = on_subscribed,
    .on_unsubscribe = on_unsubscribe,
    .on_puback = on_puback,
    .on_close = on_close,
};
static const struct session_ops ops = {
    .close = close_link,
    .granted = on_granted,
    .desired = hub_mqtt_desired,
    .stored = filters_stored,
    .stream = hub_mqtt_stream,
    .forget = hub_mqtt_forget,
    .drain = drain_link,
    .cut = cut_link,
};

void hub_mqtt_accept(struct worker *w, struct stream *st)
{
    struct session *s = NULL;
    struct mlink *l = NULL;
    enum err e = hub_worker_of(w)->is_ended ? E_DRAINING : session_new(w, &ops, NULL, &s);
    if (e == OK) {
        e = mlink_new(st, &handler, s, &l);
    }
    if (e != OK) {
        LOG_WARN("hub.accept_failed", L_ERR(e));
        if (s != NULL) {
            session_unref(s);
        }
        stream_abort(st, e);
        return;
    }
    s->endpoint = l;
}
