/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT 3.1.1 packets: bytes to structs and back, for both sides. No topics of ours, no session.
 *
 *   mqtt_frame_read() cuts one packet off the input; mqtt_x_read() reads its body; mqtt_x_write()
 *   appends a whole packet.
 *
 * States      none. Which packet is legal when is the link's matter (net/mlink).
 * Ownership   spans in the structs point into the body given; nothing is allocated.
 * Threads     any.
 * Errors      E_AGAIN the packet is not complete; E_TOO_LARGE as soon as its length is known;
 *             E_MALFORMED a clause is broken, info names it ("[MQTT-3.1.2-3] ..."); E_TRUNCATED the
 *             body ends inside a field. Outputs stay untouched on failure. All but E_AGAIN: close.
 *             Writers: sticky error of the buf (E_TOO_LARGE also for a text above 65535 bytes);
 *             a packet id 0 or a QoS above 2 is a bug of the caller.
 * Limits      the caller's max; LIMIT_MQTT_FILTERS is the caller's too (mqtt_subscribe.count).
 * Spec        MQTT 3.1.1; docs/protocol/hub-mqtt.md 1, 2.4, 13.
 */
#ifndef WIRE_MQTT_H
#define WIRE_MQTT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum mqtt_type {
    MQTT_CONNECT = 1,
    MQTT_CONNACK,
    MQTT_PUBLISH,
    MQTT_PUBACK,
    MQTT_PUBREC,
    MQTT_PUBREL,
    MQTT_PUBCOMP,
    MQTT_SUBSCRIBE,
    MQTT_SUBACK,
    MQTT_UNSUBSCRIBE,
    MQTT_UNSUBACK,
    MQTT_PINGREQ,
    MQTT_PINGRESP,
    MQTT_DISCONNECT,
    MQTT_TYPES = 16 /* length of a table indexed by type */
};

enum mqtt_connack_code {
    MQTT_ACCEPTED = 0,
    MQTT_REFUSED_LEVEL = 1,
    MQTT_REFUSED_CLIENT_ID = 2,
    MQTT_REFUSED_UNAVAILABLE = 3,
    MQTT_REFUSED_USERNAME = 4,
    MQTT_REFUSED_AUTH = 5
};
#define MQTT_SUBACK_FAILED 0x80u
#define MQTT5_UNSUPPORTED_VERSION 0x84u
#define MQTT_HEAD_MAX 5u /* longest fixed header */

/* --- frames ------------------------------------------------------------------------------- */
static inline enum mqtt_type mqtt_type_of(uint8_t first)
{
    return (enum mqtt_type)(first >> 4);
}
/* One packet from the front of in. Type, reserved flags and length encoding are checked with the
 * first bytes; max bounds the whole packet, fixed header included. *ret_used = header + body. */
MUST_USE enum err mqtt_frame_read(struct span in, size_t max, uint8_t *ret_first,
                                  struct span *ret_body, size_t *ret_used);
/* Size of the whole packet that begins in, 0 while its length is not yet known or not legal. */
size_t mqtt_frame_size(struct span in);

/* --- texts -------------------------------------------------------------------------------- */
/* Topic name: 1..65535 bytes of UTF-8, no U+0000, no wildcard. [MQTT-3.3.2-1, -2] [MQTT-4.7.3-1] */
bool mqtt_topic_ok(struct span topic);
/* Topic filter: as above, "#" alone or last after "/", "+" a whole level. [MQTT-4.7.1-2, -3] */
bool mqtt_filter_ok(struct span filter);

/* --- CONNECT, CONNACK --------------------------------------------------------------------- */
struct mqtt_connect {
    uint8_t level; /* as sent */
    bool is_v311;  /* name "MQTT", level 4: the rest was read; else it is zero */
    bool is_v5;    /* name "MQTT", level 5: answer mqtt_connack_v5_write() */
    bool clean_session;
    uint16_t keep_alive_s;
    struct span client_id; /* may be empty: answer 2 */
    bool has_will;
    uint8_t will_qos;
    bool will_retain;
    struct span will_topic; /* a good topic name */
    struct span will_payload;
    bool has_username;
    struct span username;
    bool has_password;
    struct span password;
};
/* OK for every level, so that the caller can answer the right CONNACK; a protocol name that is
 * neither "MQTT" nor "MQIsdp" is E_MALFORMED. [MQTT-3.1.2-1] */
MUST_USE enum err mqtt_connect_read(struct span body, struct mqtt_connect *ret,
                                    struct err_info *info);
/* level and is_... are not looked at: always writes "MQTT", 4. */
void mqtt_connect_write(struct buf *b, const struct mqtt_connect *c);

MUST_USE enum err mqtt_connack_read(struct span body, bool *ret_session_present, uint8_t *ret_code,
                                    struct err_info *info);
/* session_present must be false with a code that is not 0 [MQTT-3.2.2-4]. */
void mqtt_connack_write(struct buf *b, bool session_present, uint8_t code);
/* CONNACK in the form of MQTT 5, without properties. */
void mqtt_connack_v5_write(struct buf *b, uint8_t reason);

/* --- PUBLISH, PUBACK ---------------------------------------------------------------------- */
struct mqtt_publish {
    struct span topic;
    struct span payload;
    uint16_t packet_id; /* 0 with QoS 0 */
    uint8_t qos;        /* 0, 1, 2: the caller refuses 2 */
    bool dup;
    bool retain;
};
/* first: the first byte of the frame. */
MUST_USE enum err mqtt_publish_read(uint8_t first, struct span body, struct mqtt_publish *ret,
                                    struct err_info *info);
void mqtt_publish_write(struct buf *b, const struct mqtt_publish *p);

MUST_USE enum err mqtt_puback_read(struct span body, uint16_t *ret_packet_id,
                                   struct err_info *info);
void mqtt_puback_write(struct buf *b, uint16_t packet_id);

/* --- SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK --------------------------------------------- */
struct mqtt_filter {
    struct span filter;
    uint8_t qos; /* 0..2; unused in UNSUBSCRIBE */
};
/* A checked list, walked by mqtt_filters_next(). */
struct mqtt_filters {
    uint16_t packet_id;
    size_t count; /* at least 1 */
    struct span rest;
    bool has_qos;
};
/* Everything is checked here, the whole list. */
MUST_USE enum err mqtt_subscribe_read(struct span body, struct mqtt_filters *ret,
                                      struct err_info *info);
MUST_USE enum err mqtt_unsubscribe_read(struct span body, struct mqtt_filters *ret,
                                        struct err_info *info);
/* The next one in order; false at the end. */
bool mqtt_filters_next(struct mqtt_filters *l, struct mqtt_filter *ret);
void mqtt_subscribe_write(struct buf *b, uint16_t packet_id, const struct mqtt_filter *f, size_t n);
void mqtt_unsubscribe_write(struct buf *b, uint16_t packet_id, const struct mqtt_filter *f,
                            size_t n);

struct mqtt_suback {
    uint16_t packet_id;
    struct span codes; /* one byte each: 0, 1, 2 or MQTT_SUBACK_FAILED */
};
MUST_USE enum err mqtt_suback_read(struct span body, struct mqtt_suback *ret,
                                   struct err_info *info);
void mqtt_suback_write(struct buf *b, uint16_t packet_id, struct span codes);
MUST_USE enum err mqtt_unsuback_read(struct span body, uint16_t *ret_packet_id,
                                     struct err_info *info);
void mqtt_unsuback_write(struct buf *b, uint16_t packet_id);

/* --- PINGREQ, PINGRESP, DISCONNECT -------------------------------------------------------- */
/* These three have no body. */
MUST_USE enum err mqtt_empty_read(struct span body, struct err_info *info);
void mqtt_pingreq_write(struct buf *b);
void mqtt_pingresp_write(struct buf *b);
void mqtt_disconnect_write(struct buf *b);

#endif
