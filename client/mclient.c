/* SPDX-License-Identifier: Apache-2.0 */
#include "client/mclient.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/secret.h"

#define CONNACK_WAIT_MS 30000u
#define PING_WAIT_MS 30000u

enum state { ST_CONNECTING, ST_READY, ST_GONE };

struct mclient {
    struct stream *s;
    struct loop *loop;
    const struct mclient_handler *h;
    void *arg;
    enum state state;
    uint8_t connack;
    enum err why; /* our own reason, set before abort */
    uint64_t keep_alive_ms;
    uint64_t heard_ms;
    bool is_pinged;
    struct timer timer;
    uint16_t next_id;
    size_t n_inflight;
    uint16_t inflight[MCLIENT_INFLIGHT];
};

static void fail(struct mclient *c, enum err why)
{
    if (c->state != ST_GONE && c->why == OK) {
        c->why = why;
        stream_abort(c->s, why);
    }
}

static void send_buf(struct mclient *c, struct buf *b)
{
    if (buf_err(b) == OK) {
        stream_write(c->s, buf_span(b));
    } else {
        fail(c, buf_err(b));
    }
}

/* --- packets of the peer -------------------------------------------------------------------------------- */

static enum err err_of_connack(uint8_t code)
{
    switch (code) {
    case MQTT_REFUSED_LEVEL:
        return E_VERSION;
    case MQTT_REFUSED_CLIENT_ID:
        return E_ID;
    case MQTT_REFUSED_UNAVAILABLE:
        return E_BUSY;
    default:
        return E_UNAUTHORIZED;
    }
}

static void on_timer(struct timer *t);

static enum err on_connack(struct mclient *c, struct span body)
{
    bool present;
    uint8_t code;
    enum err e = mqtt_connack_read(body, &present, &code, NULL);
    if (e != OK || c->state != ST_CONNECTING) {
        return E_MALFORMED;
    }
    c->connack = code;
    if (code != MQTT_ACCEPTED) {
        return err_of_connack(code);
    }
    c->state = ST_READY;
    if (c->keep_alive_ms > 0) {
        timer_set(c->loop, &c->timer, c->keep_alive_ms, on_timer);
    } else {
        timer_stop(c->loop, &c->timer);
    }
    c->h->on_ready(c, c->arg, present);
    return OK;
}

static enum err on_publish(struct mclient *c, uint8_t first, struct span body)
{
    struct mqtt_publish p;
    enum err e = mqtt_publish_read(first, body, &p, NULL);
    if (e != OK || p.qos > 1) {
        return E_MALFORMED;
    }
    c->h->on_publish(c, c->arg, &p);
    if (p.qos == 1 && c->state == ST_READY && c->why == OK) { /* nothing follows our DISCONNECT */
        AUTO(buf_done) struct buf b = BUF_INIT(16);
        mqtt_puback_write(&b, p.packet_id);
        send_buf(c, &b);
    }
    return OK;
}

static enum err on_puback(struct mclient *c, struct span body)
{
    uint16_t id;
    enum err e = mqtt_puback_read(body, &id, NULL);
    if (e != OK) {
        return E_MALFORMED;
    }
    for (size_t i = 0; i < c->n_inflight; i++) {
        if (c->inflight[i] == id) {
            c->inflight[i] = c->inflight[--c->n_inflight];
            c->h->on_puback(c, c->arg, id);
            return OK;
        }
    }
    return OK; /* not ours, or twice: nothing to do */
}

static enum err on_suback(struct mclient *c, struct span body)
{
    struct mqtt_suback sa;
    enum err e = mqtt_suback_read(body, &sa, NULL);
    if (e != OK) {
        return E_MALFORMED;
    }
    if (c->h->on_suback != NULL) {
        c->h->on_suback(c, c->arg, sa.packet_id, sa.codes);
    }
    return OK;
}

static enum err on_unsuback(struct span body)
{
    uint16_t id;
    return mqtt_unsuback_read(body, &id, NULL) == OK ? OK : E_MALFORMED;
}

static enum err on_pingresp(struct mclient *c, struct span body)
{
    if (mqtt_empty_read(body, NULL) != OK) {
        return E_MALFORMED;
    }
    c->is_pinged = false;
    if (c->keep_alive_ms > 0) {
        timer_set(c->loop, &c->timer, c->keep_alive_ms, on_timer);
    }
    return OK;
}

static enum err on_packet(struct mclient *c, uint8_t first, struct span body)
{
    enum mqtt_type type = mqtt_type_of(first);
    if (c->state == ST_CONNECTING && type != MQTT_CONNACK) {
        return E_MALFORMED;
    }
    switch (type) {
    case MQTT_CONNACK:
        return on_connack(c, body);
    case MQTT_PUBLISH:
        return on_publish(c, first, body);
    case MQTT_PUBACK:
        return on_puback(c, body);
    case MQTT_SUBACK:
        return on_suback(c, body);
    case MQTT_UNSUBACK:
        return on_unsuback(body);
    case MQTT_PINGRESP:
        return on_pingresp(c, body);
    default:
        return E_MALFORMED;
    }
}

static size_t on_bytes(struct stream *s, void *arg, struct span in)
{
    struct mclient *c = arg;
    size_t used = 0;
    c->heard_ms = loop_now_ms(c->loop);
    while (c->state != ST_GONE && c->why == OK && used < in.n) {
        uint8_t first;
        struct span body;
        size_t n;
        struct span rest = span_from(in, used);
        enum err e = mqtt_frame_read(rest, LIMIT_MQTT_PACKET, &first, &body, &n);
        if (e == E_AGAIN) {
            size_t want = mqtt_frame_size(rest);
            s->want = MAX(want, (size_t)16384);
            break;
        }
        if (e == OK) {
            used += n;
            e = on_packet(c, first, body);
        }
        if (e != OK) {
            fail(c, e);
            break;
        }
    }
    return used;
}

/* --- time --------------------------------------------------------------------------------------------------- */

static void on_timer(struct timer *t)
{
    struct mclient *c = CONTAINER_OF(t, struct mclient, timer);
    if (c->state == ST_CONNECTING) {
        fail(c, E_TIMEOUT);
        return;
    }
    uint64_t silent = loop_now_ms(c->loop) - c->heard_ms;
    if (c->is_pinged && silent >= PING_WAIT_MS) {
        fail(c, E_TIMEOUT);
        return;
    }
    if (!c->is_pinged) {
        AUTO(buf_done) struct buf b = BUF_INIT(8);
        mqtt_pingreq_write(&b);
        send_buf(c, &b);
        c->is_pinged = true;
        c->heard_ms = loop_now_ms(c->loop);
    }
    timer_set(c->loop, &c->timer, MIN(c->keep_alive_ms, (uint64_t)PING_WAIT_MS), on_timer);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static void on_close(struct stream *s, void *arg, enum err why)
{
    struct mclient *c = arg;
    (void)s;
    c->state = ST_GONE;
    timer_stop(c->loop, &c->timer);
    c->h->on_close(c, c->arg, c->why != OK ? c->why : why, c->connack);
    free(c);
}

static const struct stream_handler stream_handler = {
    .name = "mqtt-client", .on_bytes = on_bytes, .on_close = on_close};

enum err mclient_new(struct stream *s, const struct mqtt_connect *cn,
                     const struct mclient_handler *h, void *arg, struct mclient **ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_MQTT_CONNECT_PACKET);
    mqtt_connect_write(&b, cn);
    enum err e = buf_err(&b);
    struct mclient *c = e == OK ? NEW(struct mclient) : NULL;
    if (c == NULL) {
        if (b.p != NULL) {
            mem_wipe(b.p, b.n);
        }
        return e != OK ? e : E_NOMEM;
    }
    *c = (struct mclient){
        .s = s, .loop = s->loop, .h = h, .arg = arg, .connack = MCLIENT_NO_CONNACK, .next_id = 1};
    /* Asks a quarter early, so that a slow answer is no time-out at the server. */
    c->keep_alive_ms = (uint64_t)cn->keep_alive_s * 750;
    c->heard_ms = loop_now_ms(c->loop);
    stream_handle(s, &stream_handler, c);
    stream_write(s, buf_span(&b));
    if (b.p != NULL) {
        mem_wipe(b.p, b.n); /* the password */
    }
    timer_set(c->loop, &c->timer, CONNACK_WAIT_MS, on_timer);
    *ret = c;
    return OK;
}

struct loop *mclient_loop(struct mclient *c)
{
    return c->loop;
}

static uint16_t take_id(struct mclient *c)
{
    for (;;) {
        uint16_t id = c->next_id++;
        bool is_used = id == 0;
        for (size_t i = 0; i < c->n_inflight && !is_used; i++) {
            is_used = c->inflight[i] == id;
        }
        if (!is_used) {
            return id;
        }
    }
}

enum err mclient_publish(struct mclient *c, struct span topic, struct span payload, uint8_t qos,
                         uint16_t *ret_packet_id)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_MQTT_PACKET);
    ASSERT(qos <= 1);
    if (c->state != ST_READY || c->why != OK) {
        return E_STATE;
    }
    if (qos == 1 && c->n_inflight == MCLIENT_INFLIGHT) {
        return E_QUEUE_FULL;
    }
    uint16_t id = qos == 1 ? take_id(c) : 0;
    const struct mqtt_publish p = {.topic = topic, .payload = payload, .qos = qos, .packet_id = id};
    mqtt_publish_write(&b, &p);
    if (buf_err(&b) != OK) {
        return buf_err(&b);
    }
    if (qos == 1) {
        c->inflight[c->n_inflight++] = id;
    }
    stream_write(c->s, buf_span(&b));
    *ret_packet_id = id;
    return OK;
}

enum err mclient_subscribe(struct mclient *c, const struct mqtt_filter *f, size_t n,
                           uint16_t *ret_packet_id)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_MQTT_PACKET);
    if (c->state != ST_READY || c->why != OK) {
        return E_STATE;
    }
    uint16_t id = take_id(c);
    mqtt_subscribe_write(&b, id, f, n);
    if (buf_err(&b) != OK) {
        return buf_err(&b);
    }
    stream_write(c->s, buf_span(&b));
    *ret_packet_id = id;
    return OK;
}

void mclient_close(struct mclient *c)
{
    if (c->state == ST_READY && c->why == OK) {
        AUTO(buf_done) struct buf b = BUF_INIT(8);
        mqtt_disconnect_write(&b);
        stream_write(c->s, buf_span(&b));
    }
    if (c->why == OK) {
        c->why = E_CLOSED;
    }
    stream_close(c->s);
}
