/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/mqtt.h"

#include "base/limits.h"
#include "hub/streams.h"
#include "hub/stream_token.h"

enum err hub_mqtt_stream(struct session *s, const struct stream_offer *o)
{
    AUTO(buf_done) struct buf topic = BUF_INIT(LIMIT_MQTT_TOPIC);
    uint16_t id;
    stream_topic_write(&topic, span_str(o->name), o->rid, span_str(o->url), span_str(o->auth),
                       span_str(o->proto));
    enum err e = buf_err(&topic);
    if (e == OK) {
        uint8_t qos = session_qos(s, HUB_SUB_STREAMS_POST);
        e = mlink_publish(s->endpoint, buf_span(&topic), SPAN_NONE, qos, false, &id);
        if (e == E_QUEUE_FULL) {
            e = mlink_publish(s->endpoint, buf_span(&topic), SPAN_NONE, 0, false, &id);
        }
    }
    mem_wipe(topic.p, topic.n); /* the token was in it */
    return e;
}

/* As it was sent: hex of 32 bits. */
static bool read_rid(struct span text, uint32_t *ret)
{
    uint32_t v = 0;
    if (text.n == 0 || text.n > 8) {
        return false;
    }
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        bool is_digit = c >= '0' && c <= '9', is_low = c >= 'a' && c <= 'f',
             is_high = c >= 'A' && c <= 'F';
        if (!is_digit && !is_low && !is_high) {
            return false;
        }
        v = v << 4 | (uint32_t)(is_digit ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    *ret = v;
    return true;
}

void hub_mqtt_stream_answer(struct session *s, const struct hub_publish_topic *t)
{
    uint32_t rid;
    if (read_rid(t->rid, &rid)) {
        streams_answer(s, rid, t->status_ok && t->status >= 200 && t->status <= 299, t->proto);
    }
}
