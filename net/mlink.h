/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server side of one MQTT 3.1.1 link over any stream: framing, order, keep-alive, acknowledgements. Knows
 * no topics. The endpoint above (dps/mqtt, hub/mqtt) gives the handler.
 *
 *   WAIT_CONNECT --CONNECT--> ADMITTING --mlink_connack(0)--> READY --...--> CLOSED
 *        |(LIMIT_MQTT_CONNECT_S)          --mlink_connack(n)--> CLOSED after the CONNACK has left
 *
 * Acks        every PUBLISH from the peer takes a slot of one ring; mlink_ack(slot) may come in any order,
 *             PUBACKs leave in the order of the PUBLISHes (docs/protocol/hub-mqtt.md 5.4), as one write a turn.
 *             mlink_publish_after(slot) holds an answer back until that slot's PUBACK is written.
 *             Ring full: reading stops until a slot is free.
 * Keep-alive  1.5 x keep alive of any silence, at most LIMIT_MQTT_KEEPALIVE_S; checked by one timer.
 * Ownership   mlink_new takes the stream; freed by itself after on_close. The handler's arg is the caller's.
 * Errors      any protocol violation: the link is closed, on_close(E_MALFORMED) with the reason in info.
 *             QoS 2 PUBLISH: closed. A second CONNECT: closed. Packets before CONNACK 0 but CONNECT: closed;
 *             bytes that arrive while ADMITTING are kept unread.
 * Memory      an idle link holds no buffers: they are released when empty.
 * Threads     the loop's.    Spec   MQTT 3.1.1; docs/protocol/hub-mqtt.md 1, 2.4, 2.6, 4.3, 12.
 */
#ifndef NET_MLINK_H
#define NET_MLINK_H

#include "net/stream.h"
#include "wire/mqtt.h"

struct mlink;
typedef uint32_t mlink_slot;
#define MLINK_NO_SLOT UINT32_MAX /* QoS 0 */

struct mlink_handler {
    /* Spans live for the call only. Answer with mlink_connack, now or later. */
    void (*on_connect)(struct mlink *l, void *arg, const struct mqtt_connect *c);
    /* QoS 0 and 1. p is borrowed for the call. An error closes the link with that reason. E_AGAIN: not taken; the
     * endpoint has paused the link, and when it ends the pause the same packet comes again (with another slot). */
    enum err (*on_publish)(struct mlink *l, void *arg, const struct mqtt_publish *p,
                           mlink_slot slot, struct err_info *info);
    /* One filter at a time, in order: gives the SUBACK code (0, 1, 0x80). E_CLOSED: send the SUBACK with
     * 0x80 for this entry, then close. */
    enum err (*on_subscribe)(struct mlink *l, void *arg, struct span filter, uint8_t qos,
                             uint8_t *ret_code, struct err_info *info);
    /* After the SUBACK was written: deliver what waits. May be NULL. */
    void (*on_subscribed)(struct mlink *l, void *arg);
    void (*on_unsubscribe)(struct mlink *l, void *arg, struct span filter);
    /* PUBACK of a QoS 1 PUBLISH of ours. Unknown packet ids never get here. */
    void (*on_puback)(struct mlink *l, void *arg, uint16_t packet_id);
    /* Room again after mlink_is_full. May be NULL. */
    void (*on_drained)(struct mlink *l, void *arg);
    /* Last call. is_clean: the peer sent DISCONNECT. why: E_CLOSED ours, E_TIMEOUT keep-alive, ... */
    void (*on_close)(struct mlink *l, void *arg, bool is_clean, enum err why,
                     const struct err_info *info);
};

MUST_USE enum err mlink_new(struct stream *s, const struct mlink_handler *h, void *arg,
                            struct mlink **ret);
void mlink_set_arg(struct mlink *l, void *arg);
struct stream *mlink_stream(struct mlink *l);
struct loop *mlink_loop(struct mlink *l);
/* code 0: READY (session_present only then); else CONNACK code, flush, close. keep_alive_s from the CONNECT
 * is applied by the link itself. */
void mlink_connack(struct mlink *l, uint8_t code, bool session_present);
/* CONNACK of MQTT 5 with reason 0x84, then close (level 5 clients). */
void mlink_connack_v5_refuse(struct mlink *l);
void mlink_ack(struct mlink *l, mlink_slot slot);
/* Inside on_subscribe or on_unsubscribe: the SUBACK or UNSUBACK of this packet waits, and nothing more is taken, until
 * mlink_release_answer. Not for a filter that is answered with an error. */
void mlink_hold_answer(struct mlink *l);
void mlink_release_answer(struct mlink *l);
/* topic and payload are copied. qos 1: *ret_packet_id (not in flight, 1..65535); E_QUEUE_FULL when
 * LIMIT_MQTT_INFLIGHT_OUT are unacknowledged. */
MUST_USE enum err mlink_publish(struct mlink *l, struct span topic, struct span payload,
                                uint8_t qos, bool dup, uint16_t *ret_packet_id);
/* Same, but not before the PUBACK of slot has been written (MLINK_NO_SLOT: at once). */
MUST_USE enum err mlink_publish_after(struct mlink *l, mlink_slot slot, struct span topic,
                                      struct span payload, uint8_t qos);
/* Stops taking packets (back-pressure to this device only). */
void mlink_pause(struct mlink *l, bool paused);
bool mlink_is_full(const struct mlink *l);
/* From our side, after what is written has left; on_close comes from the loop with why. */
void mlink_close(struct mlink *l, enum err why, const char *reason);
/* Drain: close once all slots are acknowledged, or after timeout_ms. */
void mlink_drain(struct mlink *l, uint64_t timeout_ms);
/* Budget end for idle links before they do anything useful (dps-device.md D40): closes after idle_ms without
 * any packet from the peer; 0: off. */
void mlink_set_idle(struct mlink *l, uint64_t idle_ms);

#endif
