/* SPDX-License-Identifier: Apache-2.0 */
#include "client/dps_client_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "client/link.h"
#include "client/mclient.h"
#include "wire/json.h"
#include "wire/sas.h"
#include "wire/topic.h"

#define BLOB_MAX 8192u
#define RETRY_DEFAULT_S 2u
#define RETRY_MAX_S 120u

enum err token_make(struct span resource_raw, int64_t expires_s, const char *skn,
                    token_mac_fn mac_fn, void *arg, struct buf *ret, struct err_info *info)
{
    AUTO(buf_done) struct buf sr = BUF_INIT(LIMIT_SAS_TOKEN);
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_SAS_TOKEN);
    uint8_t mac[MAC_SIZE];
    percent_add(&sr, resource_raw);
    sas_to_sign_write(&text, buf_span(&sr), (uint64_t)expires_s);
    if (buf_err(&sr) != OK || buf_err(&text) != OK) {
        return E_TOO_LARGE;
    }
    enum err e = mac_fn(arg, buf_span(&text), mac, info);
    if (e != OK) {
        return e;
    }
    sas_write(ret, buf_span(&sr), mac, (uint64_t)expires_s, span_str(skn));
    mem_wipe(mac, sizeof(mac));
    return buf_err(ret);
}

static enum err mac_by_key(void *arg, struct span text, uint8_t ret[IDENTITY_MAC],
                           struct err_info *info UNUSED)
{
    const struct secret *key = arg;
    mac_sha256(secret_span(key), text, ret);
    return OK;
}

enum err device_token(struct span resource_raw, const struct secret *key, int64_t expires_s,
                      const char *skn, struct buf *ret)
{
    struct secret *k = (struct secret *)(uintptr_t)key; /* mac_by_key() only reads it */
    return token_make(resource_raw, expires_s, skn, mac_by_key, k, ret, NULL);
}

enum err dps_token(const struct identity *id, struct buf *ret)
{
    AUTO(buf_done) struct buf res = BUF_INIT(1024);
    buf_addf(&res, "%s/registrations/%s", id->id_scope, id->registration_id);
    return device_token(buf_span(&res), &id->key, clock_wall_s(clock_system()) + DPS_TOKEN_LIFE_S,
                        "registration", ret);
}

/* --- answers ----------------------------------------------------------------------------------------------- */

static void copy(const struct json *from, const char *name, char *dst, size_t n)
{
    (void)span_to_cstr(span_sub(json_str(json_get(from, name)), 0, n - 1), dst, n);
}

/* A key for our TPM; false: there is none. */
static bool read_blob(const struct json *j, struct buf *ret)
{
    struct span text = json_str(json_get(j, "authenticationKey"));
    buf_reset(ret);
    return text.n != 0 && base64_decode(text, ret) == OK;
}

static void read_refusal(struct progress *p, unsigned status, const struct json *j)
{
    p->ret->error_code = (uint32_t)json_int(json_get(j, "errorCode"));
    copy(j, "message", p->ret->message, sizeof(p->ret->message));
    copy(j, "trackingId", p->ret->tracking_id, sizeof(p->ret->tracking_id));
    p->outcome = O_FINAL;
    p->err = err_set(p->info, status == 401 ? E_UNAUTHORIZED : E_REMOTE,
                     "DPS answers %u, error %u: %s (tracking id %s)", status, p->ret->error_code,
                     p->ret->message, p->ret->tracking_id);
}

/* Entries without armour; what is no base64 ends the registration. */
static enum err read_chain(const struct json *st, struct buf *chain)
{
    AUTO(buf_done) struct buf der = BUF_INIT(LIMIT_CERT_DER);
    const struct json *list = json_get(st, "issuedCertificateChain");
    for (size_t i = 0; i < json_count(list); i++) {
        enum err e = base64_decode(json_str(json_at(list, i)), &der);
        if (e != OK) {
            return e;
        }
        cert_der_add_pem(buf_span(&der), chain);
        buf_reset(&der);
    }
    return buf_err(chain);
}

static void read_final(struct progress *p, const struct json *j)
{
    const struct json *st = json_get(j, "registrationState");
    struct dps_result *r = p->ret;
    p->outcome = O_FINAL;
    copy(st, "assignedHub", r->hub, sizeof(r->hub));
    copy(st, "deviceId", r->device_id, sizeof(r->device_id));
    copy(st, "substatus", r->substatus, sizeof(r->substatus));
    copy(st, "errorMessage", r->message, sizeof(r->message));
    r->error_code = (uint32_t)json_int(json_get(st, "errorCode"));
    (void)read_blob(json_get(st, "tpm"), &p->blob);
    if (span_is(span_str(r->status), "assigned") && r->hub[0] != '\0' && r->device_id[0] != '\0') {
        p->err = p->chain == NULL || read_chain(st, p->chain) == OK
                     ? OK
                     : err_set(p->info, E_REMOTE, "the issued certificates cannot be read");
    } else if (span_is(span_str(r->status), "disabled")) {
        p->err = err_set(p->info, E_DISABLED, "the enrollment of this device is disabled");
    } else {
        p->err = err_set(p->info, E_REMOTE, "registration ended as '%s', error %u: %s", r->status,
                         r->error_code, r->message);
    }
}

/* One answer, whichever transport brought it: decides what to do next. */
void dps_on_answer(struct progress *p, unsigned status, uint64_t retry_after_s, struct span body)
{
    AUTO(json_free_p) struct json *j = NULL;
    p->wait_s = (unsigned)MIN(MAX(retry_after_s, (uint64_t)1), (uint64_t)RETRY_MAX_S);
    if (retry_after_s == 0) {
        p->wait_s = RETRY_DEFAULT_S;
    }
    if (status >= 429) {
        p->outcome = O_RETRY;
        return;
    }
    if (json_read_object(body, LIMIT_DPS_BODY * 2u, &j, NULL) != OK) {
        p->outcome = O_FINAL;
        p->err = err_set(p->info, E_REMOTE, "DPS answers %u with a body that is no JSON", status);
        return;
    }
    if (status == 401 && read_blob(j, &p->blob)) {
        p->outcome = O_CHALLENGE;
        return;
    }
    if (status > 299) {
        read_refusal(p, status, j);
        return;
    }
    copy(j, "operationId", p->operation_id, sizeof(p->operation_id));
    copy(j, "status", p->ret->status, sizeof(p->ret->status));
    if (span_is(span_str(p->ret->status), "assigning") ||
        span_is(span_str(p->ret->status), "unassigned")) {
        p->outcome = O_POLL;
    } else {
        read_final(p, j);
    }
}

/* endorsementCertificate: docs/operations.md "TPMs"; the cloud's service ignores it. */
static void tpm_member(const struct identity_tpm *t, struct buf *b)
{
    buf_add_str(b, ",\"tpm\":{\"endorsementKey\":\"");
    base64_add(b, t->ek);
    buf_add_str(b, "\",\"storageRootKey\":\"");
    base64_add(b, t->srk);
    if (t->ek_cert.n != 0) {
        buf_add_str(b, "\",\"endorsementCertificate\":\"");
        base64_add(b, t->ek_cert);
    }
    buf_add_str(b, "\"}");
}

void dps_register_body(const struct identity *id, struct span payload, struct span csr,
                       struct buf *b)
{
    buf_add(b, SPAN_LIT("{\"registrationId\":"));
    json_write_str(b, span_str(id->registration_id));
    if (payload.n > 0) {
        buf_add(b, SPAN_LIT(",\"payload\":"));
        buf_add(b, payload);
    }
    if (csr.n > 0) {
        buf_add(b, SPAN_LIT(",\"csr\":\""));
        base64_add(b, csr);
        buf_add_u8(b, '"');
    }
    if (id->tpm != NULL) {
        tpm_member(id->tpm, b);
    }
    buf_add_u8(b, '}');
}

/* --- over MQTT ----------------------------------------------------------------------------------------------- */

struct over_mqtt {
    const struct identity *id;
    struct span payload;
    struct loop *loop;
    struct mclient *client;
    struct progress *p;
    struct timer next;
    unsigned rid;
    bool is_done;
    bool is_polling;
    enum err why; /* transport */
};

static void send_request(struct over_mqtt *m)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(1024);
    AUTO(buf_done) struct buf body = BUF_INIT(LIMIT_DPS_BODY);
    char rid[16];
    uint16_t pid;
    (void)snprintf(rid, sizeof(rid), "%u", ++m->rid);
    if (m->is_polling) {
        topic_dps_status_write(&topic, span_str(rid), span_str(m->p->operation_id));
    } else {
        topic_dps_register_write(&topic, span_str(rid));
        dps_register_body(m->id, m->payload, m->p->csr, &body);
    }
    if (mclient_publish(m->client, buf_span(&topic), buf_span(&body), 1, &pid) != OK) {
        mclient_close(m->client);
    }
}

static void on_next(struct timer *t)
{
    struct over_mqtt *m = CONTAINER_OF(t, struct over_mqtt, next);
    if (m->client != NULL) {
        send_request(m);
    }
}

static void mq_ready(struct mclient *c, void *arg, bool present)
{
    static const struct mqtt_filter filter = {{(const uint8_t *)DPS_FILTER, sizeof(DPS_FILTER) - 1},
                                              1};
    uint16_t id;
    (void)arg;
    (void)present;
    if (mclient_subscribe(c, &filter, 1, &id) != OK) {
        mclient_close(c);
    }
}

static void mq_suback(struct mclient *c, void *arg, uint16_t id, struct span codes)
{
    struct over_mqtt *m = arg;
    (void)id;
    if (codes.n != 1 || codes.p[0] > 1) {
        mclient_close(c);
        return;
    }
    send_request(m);
}

static void mq_publish(struct mclient *c, void *arg, const struct mqtt_publish *p)
{
    struct over_mqtt *m = arg;
    struct dps_down_topic t;
    uint64_t rid;
    if (topic_dps_down_read(p->topic, &t, NULL) != OK || !span_to_u64(t.rid, &rid) ||
        rid != m->rid) {
        return;
    }
    dps_on_answer(m->p, t.status, t.retry_after_s, p->payload);
    if (m->p->outcome == O_FINAL) {
        m->is_done = true;
        mclient_close(c);
        return;
    }
    if (m->p->outcome == O_POLL) {
        m->is_polling = true;
    }
    timer_set(m->loop, &m->next, (uint64_t)m->p->wait_s * 1000, on_next);
}

static void mq_puback(struct mclient *c, void *arg, uint16_t id)
{
    (void)c;
    (void)arg;
    (void)id;
}

static void mq_close(struct mclient *c, void *arg, enum err why, uint8_t connack)
{
    struct over_mqtt *m = arg;
    (void)c;
    m->client = NULL;
    if (!m->is_done) {
        m->is_done = true;
        m->why = why == E_CLOSED
                     ? E_NET
                     : why; /* to the caller E_CLOSED is his own stop: no way is tried then */
        if (connack != MCLIENT_NO_CONNACK && connack != MQTT_ACCEPTED && why != E_BUSY) {
            m->p->outcome = O_FINAL;
            m->p->err =
                err_set(m->p->info, why, "DPS refuses the connection (CONNACK %u)", connack);
        } else {
            (void)!err_set(m->p->info, why == OK ? E_NET : why, "DPS closed the MQTT link (%s)",
                           err_text(why == OK ? E_NET : why));
        }
    }
}

static const struct mclient_handler mq_handler = {.on_ready = mq_ready,
                                                  .on_suback = mq_suback,
                                                  .on_puback = mq_puback,
                                                  .on_publish = mq_publish,
                                                  .on_close = mq_close};

static enum err start_mqtt(struct over_mqtt *m, struct stream *s)
{
    AUTO(buf_done) struct buf user = BUF_INIT(2048);
    AUTO(buf_done) struct buf token = BUF_INIT(LIMIT_SAS_TOKEN);
    enum err e = OK;
    topic_dps_username_write(&user, span_str(m->id->id_scope), span_str(m->id->registration_id),
                             span_str(dps_api_version(m->p)),
                             SPAN_LIT("berth-agent/" PACKAGE_VERSION));
    if (m->id->kind == ATTEST_SYMMETRIC_KEY) {
        e = dps_token(m->id, &token);
    }
    const struct mqtt_connect cn = {
        .clean_session = true,
        .keep_alive_s = 60,
        .client_id = span_str(m->id->registration_id),
        .has_username = true,
        .username = buf_span(&user),
        .has_password = token.n > 0,
        .password = buf_span(&token),
    };
    if (e == OK) {
        e = mclient_new(s, &cn, &mq_handler, m, &m->client);
    }
    if (token.p != NULL) {
        mem_wipe(token.p, token.n);
    }
    return e;
}

static void on_link(void *arg, struct stream *s, enum link_via via, enum err why,
                    const struct err_info *info)
{
    struct over_mqtt *m = arg;
    (void)via;
    enum err e = s != NULL ? start_mqtt(m, s) : why;
    if (e != OK) {
        if (s != NULL) {
            stream_abort(s, e);
        }
        (void)!err_set(m->p->info, e, "%s", err_why(info, e));
        m->why = e;
        m->is_done = true;
    }
}

/* OK: p->outcome is final. Else the transport did not get through. */
static enum err run_mqtt(const struct identity *id, enum link_via via, struct span payload,
                         uint64_t deadline_ms, const atomic_int *stop, struct progress *p)
{
    const struct tls_client_conf tc = {
        .ca_file = id->ca_file, .cert_chain_file = id->cert_chain_file, .key_file = id->key_file};
    struct over_mqtt m = {.id = id, .payload = payload, .p = p};
    struct tls_ctx *tls = NULL;
    struct link_try *t = NULL;
    enum err e = tls_client_new(&tc, &tls, p->info);
    if (e != OK) {
        return e;
    }
    if ((e = loop_new(0, clock_system(), &m.loop)) != OK) {
        tls_ctx_unref(tls);
        return e;
    }
    const struct link_target target = {.host = id->dps_host,
                                       .mqtts_port = id->mqtts_port,
                                       .https_port = id->https_port,
                                       .tls = tls,
                                       .timeout_ms = DPS_TRY_MS,
                                       .proxy = id->proxy};
    e = link_open(m.loop, &target, via, on_link, &m, &t, p->info);
    while (e == OK && !m.is_done) {
        loop_turn(m.loop, 200);
        if (*stop || clock_mono_ms(clock_system()) > deadline_ms) {
            e = *stop ? E_CLOSED : E_TIMEOUT;
        }
    }
    if (m.client == NULL && !m.is_done && t != NULL && e != OK) {
        link_cancel(t);
    }
    if (m.client != NULL && e != OK) {
        m.is_done = true;
        mclient_close(m.client);
    }
    timer_stop(m.loop, &m.next);
    /* the link's end and freeing happen in the loop */
    for (int i = 0; i < 20 && (m.client != NULL || i < 2); i++) {
        loop_turn(m.loop, 50);
    }
    conns_end(m.loop); /* a peer that does not answer our close */
    loop_free(m.loop);
    tls_ctx_unref(tls);
    if (e != OK) {
        return e;
    }
    return p->outcome == O_FINAL ? OK : m.why != OK ? m.why : E_NET;
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

static void progress_done(struct progress *p)
{
    if (p->token.p != NULL) {
        mem_wipe(p->token.p, p->token.n);
    }
    buf_done(&p->token);
    buf_done(&p->blob);
}

enum err dps_register(const struct identity *id, unsigned via, struct span payload_json,
                      uint64_t timeout_ms, const atomic_int *stop, struct dps_result *ret,
                      struct err_info *info)
{
    return dps_register_csr(id, via, payload_json, SPAN_NONE, timeout_ms, stop, ret, NULL, info);
}

enum err dps_register_csr(const struct identity *id, unsigned via, struct span payload_json,
                          struct span csr, uint64_t timeout_ms, const atomic_int *stop,
                          struct dps_result *ret, struct buf *ret_chain, struct err_info *info)
{
    static const struct {
        unsigned bit;
        const char *name;
    } ways[] = {{DPS_VIA_MQTT, "mqtt"}, {DPS_VIA_MQTT_WS, "mqtt-ws"}, {DPS_VIA_HTTPS, "https"}};
    uint64_t deadline = clock_mono_ms(clock_system()) + timeout_ms;
    struct err_info all = {0};
    if (id->kind == ATTEST_TPM) {
        via &= DPS_VIA_HTTPS; /* docs/protocol/dps-tpm.md 1 */
    }
    enum err e = E_NET;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct dps_result r = {0};
        struct err_info why = {0};
        struct progress p = {.outcome = O_RETRY,
                             .ret = &r,
                             .info = &why,
                             .csr = csr,
                             .chain = ret_chain,
                             .token = BUF_INIT(LIMIT_SAS_TOKEN),
                             .blob = BUF_INIT(BLOB_MAX)};
        if ((via & ways[i].bit) == 0) {
            continue;
        }
        e = ways[i].bit == DPS_VIA_HTTPS
                ? dps_run_https(id, payload_json, deadline, stop, &p)
                : run_mqtt(id, ways[i].bit == DPS_VIA_MQTT ? LINK_MQTT : LINK_MQTT_WS, payload_json,
                           deadline, stop, &p);
        progress_done(&p);
        if (e == OK) {
            r.via = ways[i].name;
            *ret = r;
            return p.err == OK ? OK : err_set(info, p.err, "%s", err_why(&why, p.err));
        }
        (void)!err_wrap(&all, e, "%s: %s;", ways[i].name, err_why(&why, e));
        /* A server that cannot prove who it is, is not asked another way. */
        if (e == E_TLS || e == E_CLOSED || clock_mono_ms(clock_system()) >= deadline) {
            break;
        }
    }
    return err_set(info, e, "no way to the DPS at '%s': %s", id->dps_host, err_why(&all, e));
}
