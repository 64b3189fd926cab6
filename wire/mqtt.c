/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/mqtt.h"

#include "base/rd.h"
#include "wire/mqtt_bits.h"

/* --- frames ------------------------------------------------------------------------------- */
/* The flags that section 2.2.2 fixes for each type; PUBLISH has flags of its own. */
#define FLAGS_ANY 0xffu
#define FLAGS_NONE 0xfeu /* no such type */
/* clang-format off */
static const uint8_t fixed_flags[MQTT_TYPES] = {
    [0]               = FLAGS_NONE,
    [MQTT_CONNECT]    = 0,
    [MQTT_CONNACK]    = 0,
    [MQTT_PUBLISH]    = FLAGS_ANY,
    [MQTT_PUBACK]     = 0,
    [MQTT_PUBREC]     = 0,
    [MQTT_PUBREL]     = 2,
    [MQTT_PUBCOMP]    = 0,
    [MQTT_SUBSCRIBE]  = 2,
    [MQTT_SUBACK]     = 0,
    [MQTT_UNSUBSCRIBE] = 2,
    [MQTT_UNSUBACK]   = 0,
    [MQTT_PINGREQ]    = 0,
    [MQTT_PINGRESP]   = 0,
    [MQTT_DISCONNECT] = 0,
    [15]              = FLAGS_NONE,
};
/* clang-format on */

static bool first_byte_ok(uint8_t first)
{
    uint8_t want = fixed_flags[first >> 4];
    uint8_t flags = first & 0x0fu;
    if (want == FLAGS_ANY) {
        return (flags & 6u) != 6u; /* [MQTT-3.3.1-4] QoS 3 */
    }
    return want == flags; /* [MQTT-2.2.2-2] */
}

/* E_AGAIN, E_MALFORMED or the length of head and body. */
static enum err read_lengths(struct span in, size_t *ret_head, size_t *ret_body)
{
    if (in.n == 0) {
        return E_AGAIN;
    }
    if (!first_byte_ok(in.p[0])) {
        return E_MALFORMED;
    }
    size_t n = 0;
    for (size_t i = 1; i < MQTT_HEAD_MAX; i++) {
        if (i >= in.n) {
            return E_AGAIN;
        }
        n |= (size_t)(in.p[i] & 0x7fu) << (7u * (i - 1));
        if ((in.p[i] & 0x80u) == 0) {
            *ret_head = i + 1;
            *ret_body = n;
            return OK;
        }
    }
    return E_MALFORMED; /* 2.2.3: a fifth byte of length */
}

enum err mqtt_frame_read(struct span in, size_t max, uint8_t *ret_first, struct span *ret_body,
                         size_t *ret_used)
{
    size_t head = 0;
    size_t body = 0;
    enum err e = read_lengths(in, &head, &body);
    if (e != OK) {
        return e;
    }
    if (head + body > max) {
        return E_TOO_LARGE;
    }
    if (in.n < head + body) {
        return E_AGAIN;
    }
    *ret_first = in.p[0];
    *ret_body = span_sub(in, head, body);
    *ret_used = head + body;
    return OK;
}

size_t mqtt_frame_size(struct span in)
{
    size_t head = 0;
    size_t body = 0;
    return read_lengths(in, &head, &body) == OK ? head + body : 0;
}

/* --- texts -------------------------------------------------------------------------------- */
bool mqtt_topic_ok(struct span topic)
{
    return topic.n > 0 && topic.n <= TEXT_MAX && span_is_utf8(topic) &&
           span_find(topic, '#') == topic.n && span_find(topic, '+') == topic.n;
}

bool mqtt_filter_ok(struct span filter)
{
    if (filter.n == 0 || filter.n > TEXT_MAX || !span_is_utf8(filter)) {
        return false;
    }
    struct span rest = filter;
    while (rest.p != NULL) {
        struct span level = span_cut(&rest, '/');
        bool hash = span_find(level, '#') < level.n;
        bool plus = span_find(level, '+') < level.n;
        if (hash && (level.n != 1 || rest.p != NULL)) {
            return false; /* [MQTT-4.7.1-2] */
        }
        if (plus && level.n != 1) {
            return false; /* [MQTT-4.7.1-3] */
        }
    }
    return true;
}

static enum err bad(struct err_info *info, const char *clause)
{
    return err_set(info, E_MALFORMED, "%s", clause);
}

/* rd_end with a reason. */
static enum err finish(const struct rd *r, struct err_info *info, const char *packet)
{
    enum err e = rd_end(r);
    if (e == OK) {
        return OK;
    }
    return err_set(info, e, "%s: %s", packet,
                   e == E_TRUNCATED ? "ends inside a field" : "bytes behind the last field");
}

/* --- CONNECT ------------------------------------------------------------------------------ */

static const char *connect_flags_fault(unsigned flags)
{
    if ((flags & F_RESERVED) != 0) {
        return "[MQTT-3.1.2-3] reserved connect flag";
    }
    if ((flags & F_WILL_QOS) == F_WILL_QOS) {
        return "[MQTT-3.1.2-14] will QoS 3";
    }
    if ((flags & F_WILL) == 0 && (flags & (F_WILL_QOS | F_WILL_RETAIN)) != 0) {
        return "[MQTT-3.1.2-11] will QoS or retain without will flag";
    }
    if ((flags & F_USERNAME) == 0 && (flags & F_PASSWORD) != 0) {
        return "[MQTT-3.1.2-22] password flag without user name flag";
    }
    return NULL;
}

/* Client id, will, user name, password, in wire order [MQTT-3.1.3-1]. */
static void connect_payload_read(struct rd *r, unsigned flags, struct mqtt_connect *c)
{
    c->client_id = rd_lv16(r);
    if ((flags & F_WILL) != 0) {
        c->has_will = true;
        c->will_qos = (uint8_t)((flags & F_WILL_QOS) >> 3);
        c->will_retain = (flags & F_WILL_RETAIN) != 0;
        c->will_topic = rd_lv16(r);
        c->will_payload = rd_lv16(r);
    }
    if ((flags & F_USERNAME) != 0) {
        c->has_username = true;
        c->username = rd_lv16(r);
    }
    if ((flags & F_PASSWORD) != 0) {
        c->has_password = true;
        c->password = rd_lv16(r);
    }
}

static const char *connect_texts_fault(const struct mqtt_connect *c)
{
    if (!span_is_utf8(c->client_id)) {
        return "[MQTT-3.1.3-4] client id is not UTF-8";
    }
    if (c->has_will && !mqtt_topic_ok(c->will_topic)) {
        return "[MQTT-3.1.3-10] will topic is not a topic name";
    }
    if (c->has_username && !span_is_utf8(c->username)) {
        return "[MQTT-3.1.3-11] user name is not UTF-8";
    }
    return NULL;
}

enum err mqtt_connect_read(struct span body, struct mqtt_connect *ret, struct err_info *info)
{
    struct rd r = rd_init(body);
    struct mqtt_connect c = {0};
    struct span name = rd_lv16(&r);
    c.level = rd_u8(&r);
    if (rd_err(&r) != OK) {
        return err_set(info, rd_err(&r), "CONNECT: ends inside protocol name or level");
    }
    bool is_mqtt = span_is(name, "MQTT");
    if (!is_mqtt && !span_is(name, "MQIsdp")) {
        return bad(info, "[MQTT-3.1.2-1] protocol name");
    }
    c.is_v311 = is_mqtt && c.level == 4;
    c.is_v5 = is_mqtt && c.level == 5;
    if (!c.is_v311) {
        *ret = c; /* [MQTT-3.1.2-2]: the caller answers with a code; the rest has another form */
        return OK;
    }
    unsigned flags = rd_u8(&r);
    c.keep_alive_s = rd_be16(&r);
    c.clean_session = (flags & F_CLEAN) != 0;
    if (rd_err(&r) == OK) {
        const char *fault = connect_flags_fault(flags);
        if (fault != NULL) {
            return bad(info, fault);
        }
        connect_payload_read(&r, flags, &c);
    }
    enum err e = finish(&r, info, "CONNECT");
    if (e != OK) {
        return e;
    }
    const char *fault = connect_texts_fault(&c);
    if (fault != NULL) {
        return bad(info, fault);
    }
    *ret = c;
    return OK;
}

/* --- CONNACK ------------------------------------------------------------------------------ */
enum err mqtt_connack_read(struct span body, bool *ret_session_present, uint8_t *ret_code,
                           struct err_info *info)
{
    struct rd r = rd_init(body);
    uint8_t flags = rd_u8(&r);
    uint8_t code = rd_u8(&r);
    enum err e = finish(&r, info, "CONNACK");
    if (e != OK) {
        return e;
    }
    if (flags > 1) {
        return bad(info, "CONNACK: reserved flag (3.2.2.1)");
    }
    if (flags != 0 && code != 0) {
        return bad(info, "[MQTT-3.2.2-4] session present with a refusal");
    }
    *ret_session_present = flags != 0;
    *ret_code = code;
    return OK;
}

/* --- PUBLISH ------------------------------------------------------------------------------ */

enum err mqtt_publish_read(uint8_t first, struct span body, struct mqtt_publish *ret,
                           struct err_info *info)
{
    struct rd r = rd_init(body);
    struct mqtt_publish p = {.qos = (uint8_t)((first & F_QOS) >> 1),
                             .dup = (first & F_DUP) != 0,
                             .retain = (first & F_RETAIN) != 0};
    if (p.qos > 2) {
        return bad(info, "[MQTT-3.3.1-4] QoS 3");
    }
    if (p.qos == 0 && p.dup) {
        return bad(info, "[MQTT-3.3.1-2] DUP with QoS 0");
    }
    p.topic = rd_lv16(&r);
    if (p.qos > 0) {
        p.packet_id = rd_be16(&r);
    }
    p.payload = rd_rest(&r);
    enum err e = finish(&r, info, "PUBLISH");
    if (e != OK) {
        return e;
    }
    if (!mqtt_topic_ok(p.topic)) {
        return bad(info,
                   "[MQTT-3.3.2-1] [MQTT-3.3.2-2] topic name empty, not UTF-8 or with wildcard");
    }
    if (p.qos > 0 && p.packet_id == 0) {
        return bad(info, "[MQTT-2.3.1-1] packet id 0");
    }
    *ret = p;
    return OK;
}

/* --- packets that are a packet id --------------------------------------------------------- */
static enum err id_read(struct span body, const char *packet, uint16_t *ret, struct err_info *info)
{
    struct rd r = rd_init(body);
    uint16_t id = rd_be16(&r);
    enum err e = finish(&r, info, packet);
    if (e != OK) {
        return e;
    }
    if (id == 0) {
        return err_set(info, E_MALFORMED, "%s: packet id 0 [MQTT-2.3.1-1]", packet);
    }
    *ret = id;
    return OK;
}

enum err mqtt_puback_read(struct span body, uint16_t *ret_packet_id, struct err_info *info)
{
    return id_read(body, "PUBACK", ret_packet_id, info);
}

enum err mqtt_unsuback_read(struct span body, uint16_t *ret_packet_id, struct err_info *info)
{
    return id_read(body, "UNSUBACK", ret_packet_id, info);
}

/* --- filters ------------------------------------------------------------------------------ */
static enum err filters_read(struct span body, bool has_qos, struct mqtt_filters *ret,
                             struct err_info *info)
{
    const char *packet = has_qos ? "SUBSCRIBE" : "UNSUBSCRIBE";
    struct rd r = rd_init(body);
    struct mqtt_filters l = {.has_qos = has_qos};
    l.packet_id = rd_be16(&r);
    if (rd_err(&r) == OK && l.packet_id == 0) {
        return err_set(info, E_MALFORMED, "%s: packet id 0 [MQTT-2.3.1-1]", packet);
    }
    l.rest = span_of(r.p, r.n);
    while (rd_err(&r) == OK && r.n > 0) {
        struct span filter = rd_lv16(&r);
        uint8_t qos = has_qos ? rd_u8(&r) : 0;
        if (rd_err(&r) != OK) {
            break;
        }
        if (!mqtt_filter_ok(filter)) {
            return err_set(info, E_MALFORMED, "%s: topic filter [MQTT-3.8.3-1] [MQTT-4.7.1-2]",
                           packet);
        }
        if (qos > 2) {
            return bad(info, "[MQTT-3.8.3-4] requested QoS");
        }
        l.count++;
    }
    enum err e = finish(&r, info, packet);
    if (e != OK) {
        return e;
    }
    if (l.count == 0) {
        return bad(info,
                   has_qos ? "[MQTT-3.8.3-3] no topic filter" : "[MQTT-3.10.3-2] no topic filter");
    }
    *ret = l;
    return OK;
}

enum err mqtt_subscribe_read(struct span body, struct mqtt_filters *ret, struct err_info *info)
{
    return filters_read(body, true, ret, info);
}

enum err mqtt_unsubscribe_read(struct span body, struct mqtt_filters *ret, struct err_info *info)
{
    return filters_read(body, false, ret, info);
}

bool mqtt_filters_next(struct mqtt_filters *l, struct mqtt_filter *ret)
{
    struct rd r = rd_init(l->rest);
    if (r.n == 0) {
        return false;
    }
    ret->filter = rd_lv16(&r);
    ret->qos = l->has_qos ? rd_u8(&r) : 0;
    ASSERT(rd_err(&r) == OK); /* checked when it was read */
    l->rest = span_of(r.p, r.n);
    return true;
}

enum err mqtt_suback_read(struct span body, struct mqtt_suback *ret, struct err_info *info)
{
    struct rd r = rd_init(body);
    struct mqtt_suback s = {0};
    s.packet_id = rd_be16(&r);
    s.codes = rd_rest(&r);
    enum err e = finish(&r, info, "SUBACK");
    if (e != OK) {
        return e;
    }
    if (s.packet_id == 0) {
        return bad(info, "SUBACK: packet id 0 [MQTT-2.3.1-1]");
    }
    if (s.codes.n == 0) {
        return bad(info, "SUBACK: no code [MQTT-3.8.4-5]");
    }
    for (size_t i = 0; i < s.codes.n; i++) {
        if (s.codes.p[i] > 2 && s.codes.p[i] != MQTT_SUBACK_FAILED) {
            return bad(info, "[MQTT-3.9.3-2] reserved code");
        }
    }
    *ret = s;
    return OK;
}

/* --- packets without a body --------------------------------------------------------------- */
enum err mqtt_empty_read(struct span body, struct err_info *info)
{
    return body.n == 0 ? OK : bad(info, "body in a packet that has none (3.12, 3.13, 3.14)");
}
