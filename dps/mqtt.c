/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/mqtt.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/admission.h"
#include "dps/refusal.h"
#include "dps/registration.h"
#include "net/mlink.h"
#include "server/metrics.h"
#include "server/trust.h"
#include "wire/topic.h"

#define CONNECT_ARENA (32u << 10)
#define REQUEST_ARENA (1u << 20)

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
    char api_version[24];
    const char *transport;
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

static struct refusal_from from_of(const struct link *l, struct span rid)
{
    return (struct refusal_from){rid, span_str(peer_of(l)), span_str(l->transport),
                                 span_str(l->api_version)};
}

/* --- CONNECT: dps-device.md 4.1 ---------------------------------------------------------------------- */

static void refuse_connect(struct link *l, const struct mqtt_connect *c, uint8_t code,
                           const struct verdict *v)
{
    enum err e = verdict_err(v);
    LOG_INFO("dps.connect_refused", L_SPAN("registration", c->client_id), L_STR("peer", peer_of(l)),
             L_U64("connack", code), L_ERR(e), L_STR("rule", rule_def(v->rule)->word),
             L_WHY(&v->info, e));
    metric_add(l->dw->w, DPS_M_MQTT_REFUSED, 1);
    const struct refusal_from from = from_of(l, c->client_id);
    refusal_note(l->dw, &from, v);
    if (c->is_v5) {
        mlink_connack_v5_refuse(l->m);
    } else {
        mlink_connack(l->m, code, false);
    }
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

static enum rule read_names(struct link *l, const struct mqtt_connect *c, uint8_t *ret_code,
                            struct verdict *v)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(CONNECT_ARENA);
    struct dps_username u;
    if (c->client_id.n == 0) {
        *ret_code = MQTT_REFUSED_CLIENT_ID;
        verdict_fact(v, "client", SPAN_NONE);
        return verdict_refuse(v, RULE_CLIENT_ID, "client id is empty");
    }
    if (!c->has_username) {
        *ret_code = MQTT_REFUSED_USERNAME;
        verdict_fact(v, "user", SPAN_NONE);
        return verdict_refuse(v, RULE_USER_NAME, "no user name");
    }
    enum err e = topic_dps_username_read(c->username, c->client_id, &a, &u, &v->info);
    if (e == E_NOMEM) {
        *ret_code = MQTT_REFUSED_UNAVAILABLE;
        return verdict_fail(v, e);
    }
    if (e != OK) {
        *ret_code = e == E_ID ? MQTT_REFUSED_CLIENT_ID : MQTT_REFUSED_USERNAME;
        verdict_fact(v, e == E_ID ? "client" : "user", e == E_ID ? c->client_id : c->username);
        return verdict_refuse(v, e == E_ID ? RULE_CLIENT_ID : RULE_USER_NAME, NULL);
    }
    if (!span_is(u.id_scope, l->dw->dps->id_scope)) {
        *ret_code = MQTT_REFUSED_AUTH;
        verdict_fact(v, "presented", u.id_scope);
        return verdict_refuse(v, RULE_ID_SCOPE, "unknown id scope");
    }
    if (!span_to_cstr(u.registration_id, l->rid_text, sizeof(l->rid_text))) {
        *ret_code = MQTT_REFUSED_CLIENT_ID;
        verdict_fact(v, "presented", u.registration_id);
        return verdict_refuse(v, RULE_ID_FORM, "registration id is not valid");
    }
    l->rid = span_str(l->rid_text);
    l->fold = admission_fold(l->rid, l->fold_text);
    l->is_sticky = registration_is_sticky(u.api_version);
    (void)span_to_cstr(span_sub(u.api_version, 0, sizeof(l->api_version) - 1), l->api_version,
                       sizeof(l->api_version));
    return RULE_OK;
}

static enum rule read_credential(struct link *l, const struct mqtt_connect *c, struct verdict *v)
{
    struct conn *conn = stream_conn(mlink_stream(l->m));
    if (conn != NULL) {
        conn_peer_cert(conn, &l->cred.peer);
    }
    l->cred.has_token = c->has_password && c->password.n != 0;
    if (!l->cred.has_token) {
        return l->cred.peer.leaf_der.n != 0
                   ? RULE_OK
                   : verdict_refuse(v, RULE_NO_CREDENTIAL,
                                    "neither a token nor a client certificate");
    }
    if (c->password.n > LIMIT_SAS_TOKEN) {
        return verdict_refuse(v, RULE_TOKEN_FORM, "token is too long");
    }
    if ((l->token_text = span_dup(c->password)) == NULL) {
        return verdict_fail(v, E_NOMEM);
    }
    return attestation_token(l->dw, span_of(l->token_text, c->password.n), l->rid, &l->cred.token,
                             v);
}

static void on_connect(struct mlink *m, void *arg, const struct mqtt_connect *c)
{
    struct link *l = arg;
    struct verdict v = {.rule = RULE_OK};
    uint8_t code = MQTT_REFUSED_AUTH;
    if (!c->is_v311) {
        verdict_fact_u64(&v, "level", c->level);
        (void)verdict_refuse(&v, RULE_MQTT_LEVEL, "MQTT level is %u, not 4", (unsigned)c->level);
        refuse_connect(l, c, MQTT_REFUSED_LEVEL, &v);
        return;
    }
    if (l->dw->is_draining) {
        (void)verdict_fail(&v, E_DRAINING);
        refuse_connect(l, c, MQTT_REFUSED_UNAVAILABLE, &v);
        return;
    }
    if (read_names(l, c, &code, &v) != RULE_OK) {
        refuse_connect(l, c, code, &v);
        return;
    }
    if (read_credential(l, c, &v) != RULE_OK) {
        refuse_connect(l, c, connack_of(verdict_err(&v)), &v);
        return;
    }
    metric_add(l->dw->w, DPS_M_MQTT_CONNECTS, 1);
    mlink_connack(m, MQTT_ACCEPTED, false);
    mlink_set_idle(m, LIMIT_MQTT_DPS_IDLE_S * 1000u);
}

/* --- answers ----------------------------------------------------------------------------------------------- */

/* PUBACK first, always: one SDK accepts nothing else in that state (D7). */
/* retry_s 0: none is said. */
static void answer(struct link *l, mlink_slot slot, struct span request_id, unsigned status,
                   unsigned retry_s, struct span body)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(2 * LIMIT_MQTT_TOPIC);
    if (slot != MLINK_NO_SLOT) {
        mlink_ack(l->m, slot);
    }
    if (!l->is_subscribed) {
        return; /* nobody hears the answer */
    }
    topic_dps_res_write(&topic, status, request_id, retry_s);
    enum err e = buf_err(&topic);
    if (e == OK) {
        e = mlink_publish_after(l->m, slot, buf_span(&topic), body, l->qos);
    }
    if (e != OK) {
        mlink_close(l->m, e, "the answer could not be sent");
    }
}

static void answer_error(struct link *l, mlink_slot slot, struct span request_id,
                         enum dps_subject about, const struct verdict *v)
{
    AUTO(buf_done) struct buf body = BUF_INIT(DPS_ANSWER_MAX);
    unsigned status = dps_mqtt_error(v, about, l->rid, peer_of(l), &body);
    const struct refusal_from from = from_of(l, l->rid);
    refusal_note(l->dw, &from, v); /* answer() may end the link */
    unsigned retry_s = status != 429 && status != 503 ? 0
                       : v->retry_s != 0              ? v->retry_s
                                                      : admission_wait_s(l->dw, SPAN_NONE);
    answer(l, slot, request_id, status, retry_s,
           buf_err(&body) == OK ? buf_span(&body) : SPAN_NONE);
}

static enum rule check(struct link *l, struct arena *a, enum throttle_what what,
                       struct attested *ret, struct verdict *v)
{
    const struct device_ask ask = {what, l->rid, l->fold, &l->cred, span_str(peer_of(l))};
    struct proof p = {.trust = trust_epoch(l->dw->dps->server),
                      .groups = atomic_load(&l->dw->dps->epoch)};
    enum rule r = admission_check(l->dw, a, &ask, ret, v);
    if (r == RULE_OK) {
        p.enrollment = ret->enr.id;
        p.etag = ret->enr.etag;
        p.is_group = ret->enr.kind == ENR_GROUP;
        p.is_enabled = ret->enr.is_enabled;
    }
    l->proof = p;
    return r;
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
    AUTO(buf_done) struct buf b = BUF_INIT(DPS_ANSWER_MAX);
    struct verdict v = {.rule = RULE_OK};
    struct link *l = handle_get(worker_loop(dw->w), p->link);
    if (l == NULL) {
        return; /* the operation goes on */
    }
    if (registration_refused(e, info, &v) == RULE_OK) {
        registration_write_assigning(&b, op_id);
        (void)verdict_fail(&v, buf_err(&b));
    }
    if (v.rule == RULE_OK) {
        answer(l, p->slot, span_of(p->request_id, p->n), 202, admission_wait_s(dw, op_id),
               buf_span(&b));
    } else {
        answer_error(l, p->slot, span_of(p->request_id, p->n), ABOUT_REGISTRATION, &v);
    }
}

static enum rule begin(struct link *l, const struct dps_publish_topic *t,
                       const struct mqtt_publish *p, mlink_slot slot, struct verdict *v)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(REQUEST_ARENA);
    AUTO(mem_free_p) struct pending *pending = mem_new(sizeof(*pending) + t->rid.n);
    struct registration_body body;
    struct attested who;
    enum rule r;
    if (pending == NULL) {
        return verdict_fail(v, E_NOMEM);
    }
    if (p->payload.n > LIMIT_DPS_BODY) {
        verdict_fact_u64(v, "most", LIMIT_DPS_BODY);
        return verdict_refuse(v, RULE_BODY_SIZE, "body of %zu bytes", p->payload.n);
    }
    if ((r = check(l, &a, THROTTLE_REGISTER, &who, v)) != RULE_OK ||
        (r = registration_body_read(&a, p->payload, l->rid, &body, v)) != RULE_OK) {
        return r;
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
    const struct refusal_from from = from_of(l, l->rid);
    const struct registration_wish wish = {
        .rid = l->rid,
        .fold = l->fold,
        .who = &who,
        .is_sticky = l->is_sticky,
        .wants_certificate = body.wants_certificate,
        .csr = body.csr,
        .csr_form = body.csr_form,
        .payload = body.payload,
        .latencies = body.latencies,
        .leaf = l->cred.peer.leaf_der,
        .peer = from.peer,
        .from = &from,
    };
    metric_add(l->dw->w, DPS_M_REG_STARTED, 1);
    enum err e = registration_begin(l->dw, &wish, registered, pending, &v->info);
    if (e == OK) {
        (void)TAKE(pending);
    }
    return registration_refused(e, &v->info, v);
}

/* --- poll ------------------------------------------------------------------------------------------------------ */

static enum rule poll(struct link *l, const struct dps_publish_topic *t, struct buf *b,
                      bool *ret_final, struct verdict *v)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(REQUEST_ARENA);
    AUTO(buf_done) struct buf op = BUF_INIT(LIMIT_OPERATION_ID);
    struct attested who;
    metric_add(l->dw->w, DPS_M_POLLS, 1);
    enum rule r = is_still_proven(l) ? admission_rate(l->dw, THROTTLE_POLL, l->fold, v)
                                     : check(l, &a, THROTTLE_POLL, &who, v);
    if (r != RULE_OK) {
        return r;
    }
    percent_decode_lenient(t->operation_id, &op);
    enum err e = buf_err(&op) != OK ? E_NOT_FOUND
                                    : registration_poll(l->dw, &a, l->fold, buf_span(&op),
                                                        l->proof.is_enabled, b, ret_final);
    return registration_poll_refused(e, v);
}

static enum err on_publish(struct mlink *m UNUSED, void *arg, const struct mqtt_publish *p,
                           mlink_slot slot, struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(DPS_ANSWER_MAX);
    struct link *l = arg;
    struct dps_publish_topic t;
    bool is_final = false;
    enum err e = topic_dps_publish_read(p->topic, &t, info);
    if (e != OK) {
        return err_set(info, e, "topic '%.*s': %s", SPAN_ARG(span_sub(p->topic, 0, 100)),
                       err_text(e));
    }
    struct verdict v = {.rule = RULE_OK};
    if (t.kind == DPS_PUB_REGISTER) {
        if (begin(l, &t, p, slot, &v) != RULE_OK) {
            answer_error(l, slot, t.rid, ABOUT_REGISTRATION, &v);
        }
        return OK;
    }
    if (poll(l, &t, &b, &is_final, &v) == RULE_OK) {
        answer(l, slot, t.rid, is_final ? 200 : 202,
               is_final ? 0 : admission_wait_s(l->dw, t.operation_id), buf_span(&b));
    } else {
        answer_error(l, slot, t.rid, ABOUT_OPERATION, &v);
    }
    return OK;
}

/* --- the rest ------------------------------------------------------------------------------------------------- */

static enum err on_subscribe(struct mlink *m, void *arg, struct span filter, uint8_t qos,
                             uint8_t *ret_code, struct err_info *info)
{
    struct link *l = arg;
    if (!topic_dps_filter_ok(filter)) {
        LOG_INFO("dps.filter_refused", L_SPAN("registration", l->rid), L_STR("peer", peer_of(l)),
                 L_SPAN("filter", filter));
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

void mqtt_accept(struct dps_worker *dw, struct stream *s, const char *transport)
{
    struct link *l = NEW(struct link);
    enum err e = E_NOMEM;
    if (l != NULL && (l->h = handle_new(worker_loop(dw->w), l)) != 0) {
        l->dw = dw;
        l->transport = transport;
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
