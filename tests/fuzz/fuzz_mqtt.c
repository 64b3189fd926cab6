/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of packets, as a server and as a client read them. */
#include "tests/fuzz/fuzz.h"

#include "wire/mqtt.h"

#define MAX_PACKET (1u << 16)

static void same_again(struct buf *b, struct span body, struct span *ret)
{
    uint8_t first;
    size_t used;
    ASSERT(buf_err(b) == OK);
    ASSERT(mqtt_frame_read(buf_span(b), SIZE_MAX, &first, ret, &used) == OK && used == b->n);
    ASSERT(span_eq(*ret, body));
}

static void on_connect(struct span body)
{
    struct mqtt_connect c;
    if (mqtt_connect_read(body, &c, NULL) != OK || !c.is_v311) {
        return;
    }
    struct buf b = BUF_INIT(2 * MAX_PACKET);
    struct span again;
    mqtt_connect_write(&b, &c);
    same_again(&b, body, &again);
    buf_done(&b);
}

static void on_publish(uint8_t first, struct span body)
{
    struct mqtt_publish p;
    if (mqtt_publish_read(first, body, &p, NULL) != OK) {
        return;
    }
    ASSERT(mqtt_topic_ok(p.topic) && mqtt_filter_ok(p.topic));
    struct buf b = BUF_INIT(2 * MAX_PACKET);
    struct span again;
    mqtt_publish_write(&b, &p);
    same_again(&b, body, &again);
    ASSERT(b.p[0] == first);
    buf_done(&b);
}

static void on_filters(bool subscribe, struct span body)
{
    struct mqtt_filters l;
    if ((subscribe ? mqtt_subscribe_read(body, &l, NULL) : mqtt_unsubscribe_read(body, &l, NULL)) !=
        OK) {
        return;
    }
    size_t n = 0;
    struct mqtt_filter f;
    while (mqtt_filters_next(&l, &f)) {
        ASSERT(mqtt_filter_ok(f.filter) && f.qos <= 2);
        n++;
    }
    ASSERT(n == l.count && n > 0);
}

static void on_packet(uint8_t first, struct span body)
{
    uint16_t id = 1;
    bool present;
    uint8_t code;
    struct mqtt_suback s;
    switch (mqtt_type_of(first)) {
    case MQTT_CONNECT:
        on_connect(body);
        break;
    case MQTT_CONNACK:
        (void)!mqtt_connack_read(body, &present, &code, NULL);
        break;
    case MQTT_PUBLISH:
        on_publish(first, body);
        break;
    case MQTT_PUBACK:
        ASSERT(mqtt_puback_read(body, &id, NULL) != OK || id != 0);
        break;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        on_filters(mqtt_type_of(first) == MQTT_SUBSCRIBE, body);
        break;
    case MQTT_SUBACK:
        (void)!mqtt_suback_read(body, &s, NULL);
        break;
    case MQTT_UNSUBACK:
        ASSERT(mqtt_unsuback_read(body, &id, NULL) != OK || id != 0);
        break;
    default:
        (void)!mqtt_empty_read(body, NULL);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    uint8_t first;
    struct span body;
    size_t used;
    while (mqtt_frame_read(in, MAX_PACKET, &first, &body, &used) == OK) {
        ASSERT(used <= in.n && used == mqtt_frame_size(in) && body.n < used);
        on_packet(first, body);
        in = span_from(in, used);
    }
    (void)mqtt_topic_ok(in);
    (void)mqtt_filter_ok(in);
    return 0;
}
