/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device API over MQTT, on 8883 and over WebSocket: docs/protocol/dps-device.md 4.
 *
 * CONNECT is decided without looking at any enrollment, the register request by looking at them: a wrong key is told by res/401, with a
 * body. A poll relies on the register before it, until anything of what admitted the link (its enrollment, a group, a CA) has changed: then
 * the credential is judged anew, so that a change counts at the next packet.
 *
 * Ownership   mqtt_accept takes the stream; a link frees itself when it closes.
 * Threads     the worker's.
 * Limits      LIMIT_MQTT_DPS_IDLE_S without a SUBSCRIBE, MQTT_QUIET_S with one, without any packet.
 */
#ifndef DPS_MQTT_H
#define DPS_MQTT_H

#include "dps/dps.h"

#define MQTT_QUIET_S 600u

/* transport: its name for administrators. */
void mqtt_accept(struct dps_worker *dw, struct stream *s, const char *transport);
/* Links end once what they asked has been answered, or after the deadline. */
void mqtt_drain(struct dps_worker *dw, uint64_t deadline_ms);

#endif
