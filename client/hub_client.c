/* SPDX-License-Identifier: Apache-2.0 */
#include "client/hub_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "client/dps_client.h"
#include "client/mclient.h"
#include "wire/topic.h"

#define API_VERSION "2021-04-12"
#define TRY_MS 15000u
#define TOKEN_LIFE_S 3600u
#define KEEP_ALIVE_S 240u
#define RENEW_EARLY 5u /* a new link when one part in five of the token's life is left */

struct sent {
    uint16_t packet_id;
    uint64_t tag;
};

struct hub_client {
    struct hub_client_conf conf;
    const struct hub_client_handler *h;
    void *arg;
    struct tls_ctx *tls;
    struct link_try *trying;
    struct mclient *client;
    struct timer renew;
    uint32_t rid;
    enum link_via via;
    bool is_up;
    bool is_ended;       /* HUB_DOWN was told */
    enum err why;        /* our own reason for closing */
    uint16_t streams_id; /* of the SUBSCRIBE for device streams; 0: none */
    size_t n_sent;
    struct sent sent[MCLIENT_INFLIGHT];
};

static void down(struct hub_client *c, enum err why, const struct err_info *info)
{
    if (!c->is_ended) {
        c->is_ended = true;
        c->is_up = false;
        timer_stop(c->conf.loop, &c->renew);
        c->h->on_state(c, c->arg, HUB_DOWN, why, info);
    }
}

/* --- the link's packets ----------------------------------------------------------------------------------- */

static void on_ready(struct mclient *m, void *arg, bool present)
{
    struct hub_client *c = arg;
    const struct mqtt_filter f[] = {
        {SPAN_LIT("$iothub/twin/res/#"), 0},
        {SPAN_LIT("$iothub/twin/PATCH/properties/desired/#"), 0},
    };
    const struct mqtt_filter streams[] = {{SPAN_LIT("$iothub/streams/POST/#"), 0}};
    uint16_t id;
    (void)present;
    enum err e = c->h->on_stream != NULL
                     ? mclient_subscribe(m, streams, ARRAY_LEN(streams), &c->streams_id)
                     : OK;
    if (e != OK || mclient_subscribe(m, f, ARRAY_LEN(f), &id) != OK) {
        mclient_close(m);
    }
}

static void on_suback(struct mclient *m, void *arg, uint16_t id, struct span codes)
{
    struct hub_client *c = arg;
    if (id == c->streams_id && c->streams_id != 0) {
        if (codes.n != 1 || codes.p[0] > 1) {
            LOG_WARN("hub.streams_are_off", L_STR("hub", c->conf.hub));
        }
        return;
    }
    for (size_t i = 0; i < codes.n; i++) {
        if (codes.p[i] > 1) {
            c->why = E_UNSUPPORTED;
            mclient_close(m);
            return;
        }
    }
    c->is_up = true;
    c->h->on_state(c, c->arg, HUB_UP, OK, NULL);
}

static void on_puback(struct mclient *m, void *arg, uint16_t packet_id)
{
    struct hub_client *c = arg;
    (void)m;
    for (size_t i = 0; i < c->n_sent; i++) {
        if (c->sent[i].packet_id == packet_id) {
            uint64_t tag = c->sent[i].tag;
            c->sent[i] = c->sent[--c->n_sent];
            c->h->on_sent(c, c->arg, tag);
            return;
        }
    }
}

static void on_stream(struct hub_client *c, const struct hub_down_topic *t)
{
    AUTO(buf_done) struct buf url = BUF_INIT(2048);
    percent_decode_lenient(t->url, &url);
    if (c->h->on_stream == NULL || t->rid.n == 0 || buf_err(&url) != OK) {
        LOG_WARN("hub.stream_request_unusable", L_SPAN("name", t->name));
        return;
    }
    const struct hub_stream st = {
        .name = t->name, .rid = t->rid, .url = buf_span(&url), .auth = t->auth, .proto = t->proto};
    c->h->on_stream(c, c->arg, &st);
}

static void on_publish(struct mclient *m, void *arg, const struct mqtt_publish *p)
{
    struct hub_client *c = arg;
    struct hub_down_topic t;
    uint64_t rid;
    (void)m;
    if (topic_hub_down_read(p->topic, &t, NULL) != OK) {
        return;
    }
    if (t.kind == HUB_DOWN_TWIN_RES && span_to_u64(t.rid, &rid) && rid <= UINT32_MAX) {
        c->h->on_twin(c, c->arg, (uint32_t)rid, (unsigned)t.status, p->payload);
    } else if (t.kind == HUB_DOWN_DESIRED) {
        c->h->on_desired(c, c->arg, t.version, p->payload);
    } else if (t.kind == HUB_DOWN_STREAM) {
        on_stream(c, &t);
    }
}

static void on_close(struct mclient *m, void *arg, enum err why, uint8_t connack)
{
    struct hub_client *c = arg;
    struct err_info info = {0};
    (void)m;
    c->client = NULL;
    enum err e = c->why != OK ? c->why : why != OK ? why : E_NET;
    if (connack != MCLIENT_NO_CONNACK && connack != MQTT_ACCEPTED) {
        (void)!err_set(&info, e, "hub '%s' refuses the connection (CONNACK %u)", c->conf.hub,
                       connack);
    } else {
        (void)!err_set(&info, e, "link to hub '%s' ended: %s", c->conf.hub, err_text(e));
    }
    down(c, e, &info);
}

static const struct mclient_handler mq_handler = {.on_ready = on_ready,
                                                  .on_suback = on_suback,
                                                  .on_puback = on_puback,
                                                  .on_publish = on_publish,
                                                  .on_close = on_close};

/* --- opening ------------------------------------------------------------------------------------------------ */

static void on_renew(struct timer *t)
{
    struct hub_client *c = CONTAINER_OF(t, struct hub_client, renew);
    c->why = E_EXPIRED;
    if (c->client != NULL) {
        mclient_close(c->client);
    }
}

static enum err start_client(struct hub_client *c, struct stream *s)
{
    const struct hub_client_conf *k = &c->conf;
    AUTO(buf_done) struct buf user = BUF_INIT(2048);
    AUTO(buf_done) struct buf token = BUF_INIT(LIMIT_SAS_TOKEN);
    AUTO(buf_done) struct buf res = BUF_INIT(1024);
    enum err e = OK;
    topic_hub_username_write(&user, span_str(k->hub), span_str(k->device_id), SPAN_LIT(API_VERSION),
                             span_str(k->product), SPAN_NONE);
    uint64_t life = k->token_life_s != 0 ? k->token_life_s : TOKEN_LIFE_S;
    if (k->identity->kind == ATTEST_TPM) {
        buf_add(&token, k->token);
        e = buf_err(&token);
    } else if (k->identity->kind == ATTEST_SYMMETRIC_KEY) {
        buf_addf(&res, "%s/devices/%s", k->hub, k->device_id);
        e = device_token(buf_span(&res), &k->identity->key,
                         clock_wall_s(clock_system()) + (int64_t)life, NULL, &token);
    }
    if (token.n > 0) {
        timer_set(k->loop, &c->renew, (life - life / RENEW_EARLY) * 1000, on_renew);
    }
    const struct mqtt_connect cn = {
        .clean_session = false,
        .keep_alive_s = k->keep_alive_s != 0 ? k->keep_alive_s : KEEP_ALIVE_S,
        .client_id = span_str(k->device_id),
        .has_username = true,
        .username = buf_span(&user),
        .has_password = token.n > 0,
        .password = buf_span(&token),
    };
    if (e == OK && (e = buf_err(&user)) == OK) {
        e = mclient_new(s, &cn, &mq_handler, c, &c->client);
    }
    if (token.p != NULL) {
        mem_wipe(token.p, token.n);
    }
    return e;
}

static enum err try_link(struct hub_client *c, enum link_via via, struct err_info *info);

static void on_link(void *arg, struct stream *s, enum link_via via, enum err why,
                    const struct err_info *info)
{
    struct hub_client *c = arg;
    c->trying = NULL;
    if (s == NULL) {
        struct err_info second = {0};
        bool may_ws = via == LINK_MQTT && (c->conf.via & DPS_VIA_MQTT_WS) != 0 && why != E_TLS &&
                      why != E_CLOSED;
        if (!may_ws || try_link(c, LINK_MQTT_WS, &second) != OK) {
            down(c, why, info);
        }
        return;
    }
    enum err e = start_client(c, s);
    if (e != OK) {
        stream_abort(s, e);
        down(c, e, NULL);
    }
}

static enum err try_link(struct hub_client *c, enum link_via via, struct err_info *info)
{
    const struct identity *id = c->conf.identity;
    const struct link_target t = {.host = c->conf.hub,
                                  .mqtts_port = id->mqtts_port,
                                  .https_port = id->https_port,
                                  .tls = c->tls,
                                  .timeout_ms = TRY_MS,
                                  .proxy = id->proxy};
    c->via = via;
    return link_open(c->conf.loop, &t, via, on_link, c, &c->trying, info);
}

enum err hub_open(const struct hub_client_conf *conf, const struct hub_client_handler *h, void *arg,
                  struct hub_client **ret, struct err_info *info)
{
    const struct tls_client_conf tc = {.ca_file = conf->identity->ca_file,
                                       .cert_chain_file = conf->identity->cert_chain_file,
                                       .key_file = conf->identity->key_file};
    struct hub_client *c = NEW(struct hub_client);
    if (c == NULL) {
        return E_NOMEM;
    }
    c->conf = *conf;
    c->h = h;
    c->arg = arg;
    enum err e = tls_client_new(&tc, &c->tls, info);
    if (e == OK) {
        e = try_link(c, (conf->via & DPS_VIA_MQTT) != 0 ? LINK_MQTT : LINK_MQTT_WS, info);
    }
    if (e != OK) {
        hub_free(c);
        return e;
    }
    *ret = c;
    return OK;
}

void hub_close(struct hub_client *c)
{
    c->why = c->why != OK ? c->why : E_CLOSED;
    if (c->client != NULL) {
        mclient_close(c->client);
    } else if (c->trying != NULL) {
        link_cancel(c->trying);
        c->trying = NULL;
        down(c, E_CLOSED, NULL);
    }
}

void hub_free(struct hub_client *c)
{
    if (c == NULL) {
        return;
    }
    ASSERT(c->client == NULL && c->trying == NULL);
    timer_stop(c->conf.loop, &c->renew);
    if (c->tls != NULL) {
        tls_ctx_unref(c->tls);
    }
    free(c);
}

/* --- use -------------------------------------------------------------------------------------------------------- */

enum err hub_send(struct hub_client *c, struct span body, const struct prop *props, size_t n_props,
                  uint64_t tag)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(LIMIT_MQTT_TOPIC);
    uint16_t id;
    if (!c->is_up || c->client == NULL) {
        return E_STATE;
    }
    if (c->n_sent == ARRAY_LEN(c->sent)) {
        return E_QUEUE_FULL;
    }
    topic_hub_telemetry_write(&topic, span_str(c->conf.device_id), SPAN_NONE);
    props_bag_write(&topic, props, n_props);
    enum err e = buf_err(&topic);
    if (e == OK) {
        e = mclient_publish(c->client, buf_span(&topic), body, 1, &id);
    }
    if (e == OK) {
        c->sent[c->n_sent++] = (struct sent){id, tag};
    }
    return e;
}

static enum err twin_request(struct hub_client *c, bool is_report, struct span body,
                             uint32_t *ret_rid)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(256);
    char rid[16];
    uint16_t id;
    if (!c->is_up || c->client == NULL) {
        return E_STATE;
    }
    uint32_t n = ++c->rid;
    (void)snprintf(rid, sizeof(rid), "%u", n);
    if (is_report) {
        topic_hub_twin_patch_write(&topic, span_str(rid), 0);
    } else {
        topic_hub_twin_get_write(&topic, span_str(rid));
    }
    enum err e = mclient_publish(c->client, buf_span(&topic), body, 0, &id);
    if (e == OK) {
        *ret_rid = n;
    }
    return e;
}

enum err hub_twin_get(struct hub_client *c, uint32_t *ret_rid)
{
    return twin_request(c, false, SPAN_NONE, ret_rid);
}

enum err hub_twin_report(struct hub_client *c, struct span json_patch, uint32_t *ret_rid)
{
    return twin_request(c, true, json_patch, ret_rid);
}

enum err hub_stream_answer(struct hub_client *c, struct span rid, bool is_accepted,
                           struct span proto)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(1024);
    uint16_t id;
    if (c->client ==
        NULL) { /* not is_up: filters that the hub kept bring requests before the SUBACK */
        return E_STATE;
    }
    topic_hub_stream_res_write(&topic, is_accepted ? 200 : 400, rid, proto);
    enum err e = buf_err(&topic);
    return e != OK ? e : mclient_publish(c->client, buf_span(&topic), SPAN_NONE, 0, &id);
}
