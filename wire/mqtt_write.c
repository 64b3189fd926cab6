/* SPDX-License-Identifier: Apache-2.0 */
/* Writers: second half of wire/mqtt.h. */
#include "wire/mqtt.h"

#include "wire/mqtt_bits.h"

static void fail(struct buf *b, enum err e)
{
    if (b->err == OK) {
        b->err = e;
    }
}

static void put_head(struct buf *b, uint8_t first, size_t body_n)
{
    if (body_n > BODY_MAX) {
        fail(b, E_TOO_LARGE);
        return;
    }
    buf_add_u8(b, first);
    do {
        uint8_t digit = (uint8_t)(body_n & 0x7fu);
        body_n >>= 7;
        buf_add_u8(b, (uint8_t)(digit | (body_n > 0 ? 0x80u : 0u)));
    } while (body_n > 0);
}

static void put_text(struct buf *b, struct span s)
{
    if (s.n > TEXT_MAX) {
        fail(b, E_TOO_LARGE);
        return;
    }
    buf_add_be16(b, (uint16_t)s.n);
    buf_add(b, s);
}

static void put_head_id(struct buf *b, uint8_t first, size_t more, uint16_t packet_id)
{
    ASSERT(packet_id != 0); /* [MQTT-2.3.1-1] */
    put_head(b, first, 2 + more);
    buf_add_be16(b, packet_id);
}

void mqtt_connect_write(struct buf *b, const struct mqtt_connect *c)
{
    ASSERT(c->has_username || !c->has_password);
    ASSERT(c->will_qos <= 2 && (c->has_will || (c->will_qos == 0 && !c->will_retain)));
    size_t n = 10 + 2 + c->client_id.n;
    n += c->has_will ? 4 + c->will_topic.n + c->will_payload.n : 0;
    n += c->has_username ? 2 + c->username.n : 0;
    n += c->has_password ? 2 + c->password.n : 0;
    unsigned flags = (c->clean_session ? F_CLEAN : 0u) | (c->has_will ? F_WILL : 0u) |
                     (unsigned)c->will_qos << 3 | (c->will_retain ? F_WILL_RETAIN : 0u) |
                     (c->has_password ? F_PASSWORD : 0u) | (c->has_username ? F_USERNAME : 0u);
    put_head(b, MQTT_CONNECT << 4, n);
    put_text(b, SPAN_LIT("MQTT"));
    buf_add_u8(b, 4);
    buf_add_u8(b, (uint8_t)flags);
    buf_add_be16(b, c->keep_alive_s);
    put_text(b, c->client_id);
    if (c->has_will) {
        put_text(b, c->will_topic);
        put_text(b, c->will_payload);
    }
    if (c->has_username) {
        put_text(b, c->username);
    }
    if (c->has_password) {
        put_text(b, c->password);
    }
}

void mqtt_connack_write(struct buf *b, bool session_present, uint8_t code)
{
    ASSERT(!session_present || code == 0);
    put_head(b, MQTT_CONNACK << 4, 2);
    buf_add_u8(b, session_present ? 1 : 0);
    buf_add_u8(b, code);
}

void mqtt_connack_v5_write(struct buf *b, uint8_t reason)
{
    put_head(b, MQTT_CONNACK << 4, 3);
    buf_add_u8(b, 0);
    buf_add_u8(b, reason);
    buf_add_u8(b, 0); /* no properties */
}

void mqtt_publish_write(struct buf *b, const struct mqtt_publish *p)
{
    ASSERT(p->qos <= 2 && (p->qos == 0) == (p->packet_id == 0));
    ASSERT(p->qos > 0 || !p->dup);
    unsigned first = MQTT_PUBLISH << 4 | (p->dup ? F_DUP : 0u) | (unsigned)p->qos << 1 |
                     (p->retain ? F_RETAIN : 0u);
    put_head(b, (uint8_t)first, 2 + p->topic.n + (p->qos > 0 ? 2u : 0u) + p->payload.n);
    put_text(b, p->topic);
    if (p->qos > 0) {
        buf_add_be16(b, p->packet_id);
    }
    buf_add(b, p->payload);
}

void mqtt_puback_write(struct buf *b, uint16_t packet_id)
{
    put_head_id(b, MQTT_PUBACK << 4, 0, packet_id);
}

void mqtt_unsuback_write(struct buf *b, uint16_t packet_id)
{
    put_head_id(b, MQTT_UNSUBACK << 4, 0, packet_id);
}

static void filters_write(struct buf *b, uint8_t first, uint16_t packet_id,
                          const struct mqtt_filter *f, size_t n, bool has_qos)
{
    ASSERT(n > 0);
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        size += 2 + f[i].filter.n + (has_qos ? 1u : 0u);
    }
    put_head_id(b, first, size, packet_id);
    for (size_t i = 0; i < n; i++) {
        put_text(b, f[i].filter);
        if (has_qos) {
            ASSERT(f[i].qos <= 2);
            buf_add_u8(b, f[i].qos);
        }
    }
}

void mqtt_subscribe_write(struct buf *b, uint16_t packet_id, const struct mqtt_filter *f, size_t n)
{
    filters_write(b, MQTT_SUBSCRIBE << 4 | 2, packet_id, f, n, true);
}

void mqtt_unsubscribe_write(struct buf *b, uint16_t packet_id, const struct mqtt_filter *f,
                            size_t n)
{
    filters_write(b, MQTT_UNSUBSCRIBE << 4 | 2, packet_id, f, n, false);
}

void mqtt_suback_write(struct buf *b, uint16_t packet_id, struct span codes)
{
    ASSERT(codes.n > 0);
    put_head_id(b, MQTT_SUBACK << 4, codes.n, packet_id);
    buf_add(b, codes);
}

void mqtt_pingreq_write(struct buf *b)
{
    put_head(b, MQTT_PINGREQ << 4, 0);
}

void mqtt_pingresp_write(struct buf *b)
{
    put_head(b, MQTT_PINGRESP << 4, 0);
}

void mqtt_disconnect_write(struct buf *b)
{
    put_head(b, MQTT_DISCONNECT << 4, 0);
}
