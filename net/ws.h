/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket (RFC 6455) over a stream, itself a struct stream: what a handler writes becomes binary
 * frames, what it reads is payload, frame boundaries invisible. Used by MQTT over WebSocket and by the
 * relay. No extensions.
 *
 * Ownership   ws_new takes the carrier stream (its handler becomes the ws); the ws frees itself like any
 *             stream after on_close.
 * Errors      text frame, reserved bits, unmasked client frame, oversize control frame: close 1002/1003/1009,
 *             on_close(E_MALFORMED). Pings are answered. stream_close sends Close 1000 and waits a bounded
 *             time for the peer's.
 * Threads     the loop's.   Limits   nothing is collected: payload is passed on as it streams.
 */
#ifndef NET_WS_H
#define NET_WS_H

#include "net/stream.h"

/* Where hub and DPS offer MQTT over WebSocket, subprotocol "mqtt" (docs/protocol/hub-mqtt.md 1). */
#define WS_MQTT_PATH "/$iothub/websocket"
#define WS_MQTT_PATH_ESCAPED "/%24iothub/websocket"
static inline bool ws_is_mqtt_path(struct span raw_path)
{
    return span_is_nocase(raw_path, WS_MQTT_PATH) || span_is_nocase(raw_path, WS_MQTT_PATH_ESCAPED);
}

struct ws;
/* is_server: frames from the peer must be masked, ours are not; a client masks. early: bytes that came
 * behind the upgrade head already. */
MUST_USE enum err ws_new(struct stream *carrier, bool is_server, struct span early,
                         struct ws **ret);
struct stream *ws_stream(struct ws *w);
/* Close with a status of our own (1001 going away, 1008 policy). */
void ws_close(struct ws *w, uint16_t status);

/* Client side: writes the upgrade request for host and path, reads the answer, then done(ws) from the
 * loop; NULL with the reason when refused. headers: further lines "Name: value\r\n" or "". */
typedef void (*ws_ready_fn)(struct ws *w, void *arg, enum err why, int http_status);
MUST_USE enum err ws_connect(struct stream *carrier, const char *host, const char *path,
                             const char *protocol, const char *headers, ws_ready_fn done,
                             void *arg);

#endif
