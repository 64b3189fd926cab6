/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Client side of one MQTT 3.1.1 link over any stream.
 *
 *   CONNECTING --CONNACK 0--> READY --mclient_close / peer / error--> on_close, gone
 *
 * Ownership   mclient_new takes the stream; the client frees itself after on_close. arg is the caller's.
 * Threads     the loop's.
 * Errors      on_close(E_UNAUTHORIZED) CONNACK 4 or 5, E_ID CONNACK 2, E_VERSION 1, E_BUSY 3; E_TIMEOUT no CONNACK within 30 s or no PINGRESP;
 *             E_MALFORMED the peer broke the protocol. connack has the code (0xff: none came).
 * Limits      MCLIENT_INFLIGHT publishes not acknowledged: then E_QUEUE_FULL.
 */
#ifndef CLIENT_MCLIENT_H
#define CLIENT_MCLIENT_H

#include "net/stream.h"
#include "wire/mqtt.h"

#define MCLIENT_INFLIGHT 64u
#define MCLIENT_NO_CONNACK 0xffu

struct mclient;
struct mclient_handler {
    void (*on_ready)(struct mclient *c, void *arg, bool session_present);
    /* All codes of the SUBACK, in order. */
    void (*on_suback)(struct mclient *c, void *arg, uint16_t packet_id, struct span codes);
    /* PUBACK of our QoS 1 publish, in any order. */
    void (*on_puback)(struct mclient *c, void *arg, uint16_t packet_id);
    /* Incoming; QoS 1 is acknowledged after the call has returned. Borrowed. */
    void (*on_publish)(struct mclient *c, void *arg, const struct mqtt_publish *p);
    void (*on_close)(struct mclient *c, void *arg, enum err why, uint8_t connack);
};
/* cn: client_id, username, password, keep_alive_s, clean_session, will. Copied into the CONNECT that is written at once. */
MUST_USE enum err mclient_new(struct stream *s, const struct mqtt_connect *cn,
                              const struct mclient_handler *h, void *arg, struct mclient **ret);
struct loop *mclient_loop(struct mclient *c);
/* qos 0: *ret_packet_id 0. E_QUEUE_FULL, E_STATE before READY. */
MUST_USE enum err mclient_publish(struct mclient *c, struct span topic, struct span payload,
                                  uint8_t qos, uint16_t *ret_packet_id);
MUST_USE enum err mclient_subscribe(struct mclient *c, const struct mqtt_filter *f, size_t n,
                                    uint16_t *ret_packet_id);
/* DISCONNECT, then close. */
void mclient_close(struct mclient *c);

#endif
