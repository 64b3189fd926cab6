/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/mqtt.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/admission.h"
#include "dps/registration.h"
#include "net/mlink.h"
#include "server/metrics.h"
#include "server/trust.h"
#include "wire/topic.h"

#define CONNECT_ARENA (32u << 10)
#define REQUEST_ARENA (256u << 10)
#define ANSWER_MAX (64u << 10)

/* What admitted a link: as long as nothing of it has changed a poll needs no second proof. */
struct proof {
    int64_t enrollment; /* 0: none yet */
    uint64_t etag;
    bool is_group, is_enabled;
    uint64_t trust, groups; /* epochs, read before the credential was judged */
};

struct link {
    struct list in_worker;
    struct dps_worker *dw;
    struct mlink *m;
    handle h;
    struct span rid, fold; /* into the buffers */
    char rid_text[LIMIT_ID + 1], fold_text[LIMIT_ID + 1];
    char *token_text; /* heap, wiped; cred.token points into it */
    struct credential cred;
    bool is_sticky;
    struct proof proof;
    bool
        is_known; /* a register was admitted on this link: it left the budget of unauthenticated work */
    bool is_subscribed;
    uint8_t qos; /* of answers */
};

static const char *peer_of(const struct link *l)
{
    struct conn *c = stream_conn(mlink_stream(l->m));
    return c != NULL ? conn_peer_text(c) : "-";
}

/* --- CONNECT: dps-device.md 4.1 ---------------------------------------------------------------------- */

static void refuse_connect(struct link *l, const struct mqtt_connect *c, uint8_t code, enum err e,
                           const struct err_info *info)
{
    LOG_INFO("dps.connect_refused", L_SPAN("registration", c->client_id), L_STR("peer", peer_of(l)),
             L_U64("connack", code), L_ERR(e), L_WHY(info, e));
    metric_add(l->dw->w, DPS_M_MQTT_REFUSED, 1);
    mlink_connack(l->m, code, false);
}

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

static enum err read_names(struct link *l, const struct mqtt_connect *c, uint8_t *ret_code,
                           struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(CONNECT_ARENA);
    struct dps_username u;
    if (c->client_id.n == 0) {
        *ret_code = MQTT_REFUSED_CLIENT_ID;
        return err_set(info, E_ID, "client id is empty");
    }
    if (!c->has_username) {
        *ret_code = MQTT_REFUSED_USERNAME;
        return err_set(info, E_MALFORMED, "no user name");
    }
    enum err e = topic_dps_username_read(c->username, c->client_id, &a, &u, info);
    if (e != OK) {
        *ret_code = e == E_ID      ? MQTT_REFUSED_CLIENT_ID
                    : e == E_NOMEM ? MQTT_REFUSED_UNAVAILABLE
                                   : MQTT_REFUSED_USERNAME;
        return e;
    }
    if (!span_is(u.id_scope, l->dw->dps->id_scope)) {
        *ret_code = MQTT_REFUSED_AUTH;
        return err_set(info, E_UNAUTHORIZED, "unknown id scope");
    }
    if (!span_to_cstr(u.registration_id, l->rid_text, sizeof(l->rid_text))) {
        *ret_code = MQTT_REFUSED_CLIENT_ID;
        return err_set(info, E_ID, "registration id is not valid");
    }
    l->rid = span_str(l->rid_text);
    l->fold = admission_fold(l->rid, l->fold_text);
    l->is_sticky = registration_is_sticky(u.api_version);
    return OK;
}

static enum err read_credential(struct link *l, const struct mqtt_connect *c, struct err_info *info)
{
    struct conn *conn = stream_conn(mlink_stream(l->m));
    if (conn != NULL) {
        conn_peer_cert(conn, &l->cred.peer);
    }
    l->cred.has_token = c->has_password && c->password.n != 0;
    if (!l->cred.has_token) {
        return l->cred.peer.leaf_der.n != 0
                   ? OK
                   : err_set(info, E_UNAUTHORIZED, "neither a token nor a client certificate");
    }
    if (c->password.n > LIMIT_SAS_TOKEN || (l->token_text = span_dup(c->password)) == NULL) {
        return c->password.n > LIMIT_SAS_TOKEN ? err_set(info, E_UNAUTHORIZED, "token is too long")
                                               : E_NOMEM;
    }
    return attestation_token(l->dw, span_of(l->token_text, c->password.n), l->rid, &l->cred.token,
                             info);
}

static void on_connect(struct mlink *m, void *arg, const struct mqtt_connect *c)
{
    struct link *l = arg;
    struct err_info info = {0};
    uint8_t code = MQTT_REFUSED_AUTH;
    if (!c->is_v311) {
        LOG_INFO("dps.connect_refused", L_SPAN("registration", c->client_id),
                 L_STR("peer", peer_of(l)), L_U64("connack", MQTT_REFUSED_LEVEL),
                 L_U64("level", c->level), L_STR("why", "MQTT level is not 4"));
        metric_add(l->dw->w, DPS_M_MQTT_REFUSED, 1);
        if (c->is_v5) {
            mlink_connack_v5_refuse(m);
        } else {
            mlink_connack(m, MQTT_REFUSED_LEVEL, false);
        }
        return;
    }
    if (l->dw->is_draining) {
        refuse_connect(l, c, MQTT_REFUSED_UNAVAILABLE, E_DRAINING, NULL);
        return;
    }
    enum err e = read_names(l, c, &code, &info);
    if (e != OK) {
        refuse_connect(l, c, code, e, &info);
        return;
    }
    if ((e = read_credential(l, c, &info)) != OK) {
        refuse_connect(l, c, connack_of(e), e, &info);
        return;
    }
    metric_add(l->dw->w, DPS_M_MQTT_CONNECTS, 1);
    mlink_connack(m, MQTT_ACCEPTED, false);
    mlink_set_idle(m, LIMIT_MQTT_DPS_IDLE_S * 1000u);
}

/* --- answers ----------------------------------------------------------------------------------------------- */

/* PUBACK first, always: one SDK accepts nothing else in that state (D7). */
static void answer(struct link *l, mlink_slot slot, struct span request_id, unsigned status,
                   struct span body)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(2 * LIMIT_MQTT_TOPIC);
    bool waits = status == 202 || status == 429 || status == 503;
    if (slot != MLINK_NO_SLOT) {
        mlink_ack(l->m, slot);
    }
    if (!l->is_subscribed) {
        return; /* nobody hears the answer */
    }
    topic_dps_res_write(&topic, status, request_id, waits ? DPS_RETRY_AFTER_S : 0);
    enum err e = buf_err(&topic);
    if (e == OK) {
        e = mlink_publish_after(l->m, slot, buf_span(&topic), body, l->qos);
    }
    if (e != OK) {
        mlink_close(l->m, e, "the answer could not be sent");
    }
}

static void answer_error(struct link *l, mlink_slot slot, struct span request_id,
                         enum dps_subject about, enum err e, const struct err_info *info)
{
    AUTO(buf_done) struct buf body = BUF_INIT(ANSWER_MAX);
    unsigned status = dps_mqtt_error(e, about, info, l->rid, peer_of(l), &body);
    answer(l, slot, request_id, status, buf_err(&body) == OK ? buf_span(&body) : SPAN_NONE);
}

static enum err check(struct link *l, struct arena *a, enum throttle_what what,
                      struct attested *ret, struct err_info *info)
{
    const struct device_ask ask = {what, l->rid, l->fold, &l->cred, span_str(peer_of(l))};
    struct proof p = {.trust = trust_epoch(l->dw->dps->server),
                      .groups = atomic_load(&l->dw->dps->epoch)};
    enum err e = admission_check(l->dw, a, &ask, ret, info);
    if (e == OK) {
        p.enrollment = ret->enr.id;
        p.etag = ret->enr.etag;
        p.is_group = ret->enr.kind == ENR_GROUP;
        p.is_enabled = ret->enr.is_enabled;
    }
    l->proof = p;
    return e;
}

/* A CA or an enrollment that was changed, disabled or deleted counts at the next packet of a link that is open already. */
static bool is_still_proven(const struct link *l)
{
    const struct proof *p = &l->proof;
    uint64_t etag = 0;
    bool is_enabled = false;
    if (p->enrollment == 0 || p->trust != trust_epoch(l->dw->dps->server) ||
        p->groups != atomic_load(&l->dw->dps->epoch)) {
        return false;
    }
    return p->is_group ||
           (sql_enr_state(worker_db(l->dw->w), p->enrollment, &etag, &is_enabled) == OK &&
            etag == p->etag);
}

/* --- register ------------------------------------------------------------------------------------------------ */

struct pending {
    handle link;
    mlink_slot slot;
    size_t n;
    uint8_t request_id[];
};

static void registered(struct dps_worker *dw, void *ctx, enum err e, struct span op_id,
                       const struct err_info *info)
{
    AUTO(mem_free_p) struct pending *p = ctx;
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    struct link *l = handle_get(worker_loop(dw->w), p->link);
    if (l == NULL) {
        return; /* the operation goes on */
    }
    if (e == OK) {
        registration_write_assigning(&b, op_id);
        e = buf_err(&b);
    }
    if (e == OK) {
        answer(l, p->slot, span_of(p->request_id, p->n), 202, buf_span(&b));
    } else {
        answer_error(l, p->slot, span_of(p->request_id, p->n), ABOUT_REGISTRATION, e, info);
    }
}

static enum err begin(struct link *l, const struct dps_publish_topic *t,
                      const struct mqtt_publish *p, mlink_slot slot, struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(REQUEST_ARENA);
    AUTO(mem_free_p) struct pending *pending = mem_new(sizeof(*pending) + t->rid.n);
    struct registration_body body;
    struct attested who;
    enum err e;
    if (pending == NULL) {
        return E_NOMEM;
    }
    if (p->payload.n > LIMIT_DPS_BODY) {
        return err_set(info, E_TOO_LARGE, "body of %zu bytes", p->payload.n);
    }
    if ((e = check(l, &a, THROTTLE_REGISTER, &who, info)) != OK ||
        (e = registration_body_read(p->payload, l->rid, &body, info)) != OK) {
        return e;
    }
    struct conn *c = stream_conn(mlink_stream(l->m));
    if (c != NULL && !l->is_known) {
        conn_mark_authenticated(c);
    }
    l->is_known = true;
    pending->link = l->h;
    pending->slot = slot;
    pending->n = t->rid.n;
    memcpy(pending->request_id, t->rid.p, t->rid.n);
    const struct registration_wish wish = {l->rid, l->fold, &who, l->is_sticky,
                                           body.wants_certificate};
    metric_add(l->dw->w, DPS_M_REG_STARTED, 1);
    if ((e = registration_begin(l->dw, &wish, registered, pending, info)) == OK) {
        (void)TAKE(pending);
    }
    return e;
}

/* --- poll ------------------------------------------------------------------------------------------------------ */

static enum err poll(struct link *l, const struct dps_publish_topic *t, struct buf *b,
                     bool *ret_final, struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(REQUEST_ARENA);
    AUTO(buf_done) struct buf op = BUF_INIT(LIMIT_OPERATION_ID);
    struct attested who;
    metric_add(l->dw->w, DPS_M_POLLS, 1);
    enum err e = is_still_proven(l) ? admission_rate(l->dw, THROTTLE_POLL, l->fold, info)
                                    : check(l, &a, THROTTLE_POLL, &who, info);
    if (e != OK) {
        return e;
    }
    percent_decode_lenient(t->operation_id, &op);
    return buf_err(&op) != OK ? E_NOT_FOUND
                              : registration_poll(l->dw, &a, l->fold, buf_span(&op),
                                                  l->proof.is_enabled, b, ret_final);
}

static enum err on_publish(struct mlink *m UNUSED, void *arg, const struct mqtt_publish *p,
                           mlink_slot slot, struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    struct link *l = arg;
    struct dps_publish_topic t;
    bool is_final = false;
    enum err e = topic_dps_publish_read(p->topic, &t, info);
    if (e != OK) {
        return err_set(info, e, "topic '%.*s': %s", SPAN_ARG(span_sub(p->topic, 0, 100)),
                       err_text(e));
    }
    struct err_info why = {0};
    if (t.kind == DPS_PUB_REGISTER) {
        e = begin(l, &t, p, slot, &why);
        if (e != OK) {
            answer_error(l, slot, t.rid, ABOUT_REGISTRATION, e, &why);
        }
        return OK;
    }
    e = poll(l, &t, &b, &is_final, &why);
    if (e == OK) {
        answer(l, slot, t.rid, is_final ? 200 : 202, buf_span(&b));
    } else {
        answer_error(l, slot, t.rid, ABOUT_OPERATION, e, &why);
    }
    return OK;
}

/* --- the rest ------------------------------------------------------------------------------------------------- */

static enum err on_subscribe(struct mlink *m, void *arg, struct span filter, uint8_t qos,
                             uint8_t *ret_code, struct err_info *info)
{
    struct link *l = arg;
    if (!topic_dps_filter_ok(filter)) {
        *ret_code = MQTT_SUBACK_FAILED;
        return err_set(info, E_CLOSED, "filter '%.*s' is not offered",
                       SPAN_ARG(span_sub(filter, 0, 100)));
    }
    l->is_subscribed = true;
    l->qos = qos > 0 ? 1 : 0;
    *ret_code = l->qos;
    mlink_set_idle(m, MQTT_QUIET_S * 1000u);
    return OK;
}

static void on_unsubscribe(struct mlink *m UNUSED, void *arg, struct span filter)
{
    struct link *l = arg;
    if (topic_dps_filter_ok(filter)) {
        l->is_subscribed = false;
    }
}

static void on_puback(struct mlink *m UNUSED, void *arg UNUSED, uint16_t packet_id UNUSED)
{
}

static void on_close(struct mlink *m UNUSED, void *arg, bool is_clean, enum err why,
                     const struct err_info *info)
{
    struct link *l = arg;
    if (!is_clean && why != OK && why != E_CLOSED && why != E_NET && why != E_DRAINING) {
        LOG_INFO("dps.link_ended", L_SPAN("registration", l->rid), L_STR("peer", peer_of(l)),
                 L_ERR(why), L_WHY(info, why));
    }
    list_del(&l->in_worker);
    l->dw->n_links--;
    handle_free(worker_loop(l->dw->w), l->h);
    if (l->token_text != NULL) {
        mem_wipe(l->token_text, strlen(l->token_text));
        free(l->token_text);
    }
    free(l);
}

static const struct mlink_handler handler = {
    .on_connect = on_connect,
    .on_publish = on_publish,
    .on_subscribe = on_subscribe,
    .on_unsubscribe = on_unsubscribe,
    .on_puback = on_puback,
    .on_close = on_close,
};

void mqtt_accept(struct dps_worker *dw, struct stream *s)
{
    struct link *l = NEW(struct link);
    enum err e = E_NOMEM;
    if (l != NULL && (l->h = handle_new(worker_loop(dw->w), l)) != 0) {
        l->dw = dw;
        e = mlink_new(s, &handler, l, &l->m);
    }
    if (e != OK) {
        LOG_WARN("dps.accept_failed", L_ERR(e));
        if (l != NULL && l->h != 0) {
            handle_free(worker_loop(dw->w), l->h);
        }
        free(l);
        stream_abort(s, e);
        return;
    }
    list_add_tail(&dw->links, &l->in_worker);
    dw->n_links++;
}

void mqtt_drain(struct dps_worker *dw, uint64_t deadline_ms)
{
    uint64_t now_ms = loop_now_ms(worker_loop(dw->w));
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    LIST_EACH_SAFE (n, next, &dw->links) {
        mlink_drain(LIST_OF(n, struct link, in_worker)->m, left_ms);
    }
}
