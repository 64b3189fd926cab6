/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MQTT endpoint of the hub: CONNECT grammar and CONNACK codes, the fixed topics, no rules of its own.
 *
 * Threads     the worker's.
 * Spec        docs/protocol/hub-mqtt.md 1, 2, 4, 5, 7, 12.
 */
#ifndef HUB_MQTT_H
#define HUB_MQTT_H

#include "hub/session.h"

/* A new stream that is to speak MQTT (8883, or a WebSocket on 443). */
void hub_mqtt_accept(struct worker *w, struct stream *s);

#define PUBLISH_ARENA (64u << 10)
/* hub/mqtt_telemetry.c. p is borrowed for the call; E_AGAIN: the link is paused and shows it again. */
MUST_USE enum err hub_mqtt_telemetry(struct session *s, const struct hub_publish_topic *t,
                                     const struct mqtt_publish *p, mlink_slot slot,
                                     struct err_info *info);

/* hub/mqtt_twin.c: the two requests of a device about its twin, and what it is told. p is borrowed for the call. */
MUST_USE enum err hub_mqtt_twin_get(struct session *s, const struct hub_publish_topic *t,
                                    mlink_slot slot, struct err_info *info);
MUST_USE enum err hub_mqtt_twin_patch(struct session *s, const struct hub_publish_topic *t,
                                      struct span body, mlink_slot slot, struct err_info *info);
void hub_mqtt_forget(struct session *s);
/* hub/mqtt_stream.c */
MUST_USE enum err hub_mqtt_stream(struct session *s, const struct stream_offer *o);
void hub_mqtt_stream_answer(struct session *s, const struct hub_publish_topic *t);
void hub_mqtt_desired(struct session *s, uint64_t version, struct span patch);
static inline bool session_wants(const struct session *s, enum hub_filter kind)
{
    return (s->subs & (1u << kind)) != 0;
}
static inline uint8_t session_qos(const struct session *s, enum hub_filter kind)
{
    return (s->subs_q1 & (1u << kind)) != 0 ? 1 : 0;
}

#endif
