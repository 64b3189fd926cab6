/* SPDX-License-Identifier: Apache-2.0 */
/* What the peer sends: framing, what is legal when, and the answers that need no endpoint. See mlink_int.h. */
#include "net/mlink_int.h"

static enum err on_connect(struct mlink *l, uint8_t first, struct span body, struct err_info *info)
{
    (void)first;
    struct mqtt_connect c;
    enum err e = mqtt_connect_read(body, &c, info);
    if (e != OK) {
        return e;
    }
    l->state = ML_ADMITTING;
    uint32_t ms = c.keep_alive_s * 1500u;
    l->keep_alive_ms =
        ms == 0 ? LIMIT_MQTT_KEEPALIVE_S * 1000u : MIN(ms, LIMIT_MQTT_KEEPALIVE_S * 1000u);
    l->h->on_connect(l, l->arg, &c);
    return OK;
}

static enum err on_publish(struct mlink *l, uint8_t first, struct span body, struct err_info *info)
{
    struct mqtt_publish p;
    mlink_slot slot = MLINK_NO_SLOT;
    enum err e = mqtt_publish_read(first, body, &p, info);
    if (e != OK) {
        return e;
    }
    if (p.qos == 2) {
        return err_set(info, E_UNSUPPORTED, "PUBLISH with QoS 2");
    }
    if (p.qos == 1 && (e = ack_ring_push(&l->ring, p.packet_id, &slot)) != OK) {
        return e;
    }
    e = l->h->on_publish(l, l->arg, &p, slot, info);
    if (e == E_AGAIN && slot != MLINK_NO_SLOT) {
        ack_ring_unpush(&l->ring);
    }
    return e;
}

static enum err on_puback(struct mlink *l, uint8_t first, struct span body, struct err_info *info)
{
    (void)first;
    uint16_t id;
    enum err e = mqtt_puback_read(body, &id, info);
    if (e != OK) {
        return e;
    }
    for (unsigned i = 0; i < l->n_in_flight; i++) {
        if (l->in_flight[i] == id) {
            l->in_flight[i] = l->in_flight[--l->n_in_flight];
            l->h->on_puback(l, l->arg, id);
            break;
        }
    }
    return OK;
}

static enum err on_subscribe(struct mlink *l, uint8_t first, struct span body,
                             struct err_info *info)
{
    (void)first;
    struct mqtt_filters list;
    struct mqtt_filter f;
    uint8_t codes[LIMIT_MQTT_FILTERS];
    enum err e = mqtt_subscribe_read(body, &list, info);
    if (e != OK) {
        return e;
    }
    if (list.count > LIMIT_MQTT_FILTERS) {
        return err_set(info, E_LIMIT, "SUBSCRIBE with %zu filters", list.count);
    }
    memset(codes, (int)MQTT_SUBACK_FAILED, sizeof(codes));
    uint16_t id = list.packet_id;
    size_t count = list.count;
    for (size_t i = 0; e == OK && mqtt_filters_next(&list, &f); i++) {
        e = l->h->on_subscribe(l, l->arg, f.filter, f.qos, &codes[i], info);
        if (e != OK) {
            codes[i] = (uint8_t)MQTT_SUBACK_FAILED;
        }
    }
    if (l->state == ML_CLOSED || (e != OK && e != E_CLOSED)) {
        return e;
    }
    struct packet p;
    mqtt_suback_write(packet_init(&p, PACKET_SMALL), id, span_of(codes, count));
    if (e == OK) {
        mlink_answer(l, &p, true);
    } else {
        packet_send(l, &p);
    }
    return e;
}

static enum err on_unsubscribe(struct mlink *l, uint8_t first, struct span body,
                               struct err_info *info)
{
    (void)first;
    struct mqtt_filters list;
    struct mqtt_filter f;
    enum err e = mqtt_unsubscribe_read(body, &list, info);
    if (e != OK) {
        return e;
    }
    uint16_t id = list.packet_id;
    while (mqtt_filters_next(&list, &f)) {
        l->h->on_unsubscribe(l, l->arg, f.filter);
    }
    struct packet p;
    mqtt_unsuback_write(packet_init(&p, PACKET_SMALL), id);
    mlink_answer(l, &p, false);
    return OK;
}

static enum err on_pingreq(struct mlink *l, uint8_t first, struct span body, struct err_info *info)
{
    (void)first;
    enum err e = mqtt_empty_read(body, info);
    if (e == OK) {
        struct packet p;
        mqtt_pingresp_write(packet_init(&p, PACKET_SMALL));
        packet_send(l, &p);
    }
    return e;
}

static enum err on_disconnect(struct mlink *l, uint8_t first, struct span body,
                              struct err_info *info)
{
    (void)first;
    enum err e = mqtt_empty_read(body, info);
    if (e == OK) {
        l->is_clean = true;
        mlink_close_with(l, OK, NULL);
    }
    return e;
}

/* What is legal when; an empty row never is (QoS 2 packets, those only a server sends). */
/* clang-format off */
static const struct {
    uint8_t states;
    enum err (*fn)(struct mlink *l, uint8_t first, struct span body, struct err_info *info);
} packet_rules[MQTT_TYPES] = {
    [MQTT_CONNECT]     = { ML_WAIT_CONNECT, on_connect }, /* [MQTT-3.1.0-1], [MQTT-3.1.0-2] */
    [MQTT_PUBLISH]     = { ML_READY,        on_publish },
    [MQTT_PUBACK]      = { ML_READY,        on_puback },
    [MQTT_SUBSCRIBE]   = { ML_READY,        on_subscribe },
    [MQTT_UNSUBSCRIBE] = { ML_READY,        on_unsubscribe },
    [MQTT_PINGREQ]     = { ML_READY,        on_pingreq },
    [MQTT_DISCONNECT]  = { ML_READY,        on_disconnect },
};
/* clang-format on */

/* False: the endpoint wants to see it again. */
static bool on_packet(struct mlink *l, uint8_t first, struct span body)
{
    enum mqtt_type type = mqtt_type_of(first);
    struct err_info info = {.err = OK};
    if ((packet_rules[type].states & l->state) == 0) {
        (void)err_set(&info, E_MALFORMED, "packet of type %u is not allowed now", (unsigned)type);
        mlink_close_with(l, E_MALFORMED, &info);
        return true;
    }
    l->last_in_ms = loop_now_ms(l->s->loop);
    enum err e = packet_rules[type].fn(l, first, body, &info);
    if (e == E_AGAIN) {
        ASSERT(l->paused || l->state == ML_CLOSED);
        return false;
    }
    if (e != OK) {
        mlink_close_with(l, e == E_TRUNCATED ? E_MALFORMED : e, &info);
    }
    return true;
}

size_t mlink_on_bytes(struct stream *s, void *arg, struct span in)
{
    struct mlink *l = arg;
    size_t at = 0;
    while (at < in.n && l->state != ML_ADMITTING && mlink_takes_packets(l)) {
        size_t max = l->state == ML_WAIT_CONNECT ? LIMIT_MQTT_CONNECT_PACKET : LIMIT_MQTT_PACKET;
        uint8_t first;
        struct span body;
        size_t used;
        enum err e = mqtt_frame_read(span_from(in, at), max, &first, &body, &used);
        if (e == E_AGAIN) {
            s->want = MAX(mqtt_frame_size(span_from(in, at)), LIMIT_CONN_IN);
            break;
        }
        s->want = LIMIT_CONN_IN;
        if (e != OK) {
            mlink_close(l, e == E_TRUNCATED ? E_MALFORMED : e, "packet is not one of MQTT 3.1.1");
            break;
        }
        if (!on_packet(l, first, body)) {
            s->want = MAX(used, LIMIT_CONN_IN);
            break;
        }
        at += used;
    }
    if (l->state == ML_CLOSED) {
        return in.n;
    }
    mlink_update_reading(l);
    return at;
}
