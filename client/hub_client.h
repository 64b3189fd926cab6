/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's link to its hub: connects (MQTT, then MQTT over WebSocket), renews its token by a new link before it expires, twin, telemetry.
 *
 *   hub_open -> on_state(HUB_UP) ... on_state(HUB_DOWN, why)      one link each; the owner decides whether and when to open again
 *
 * Ownership   hub_open gives the object; hub_close ends the link (HUB_DOWN follows); hub_free after HUB_DOWN.
 * Threads     the loop's.
 * Errors      HUB_DOWN with why: E_UNAUTHORIZED, E_ID, E_VERSION: the server refused (register again); E_BUSY, E_NET, E_TIMEOUT, E_CLOSED:
 *             trouble (try again); E_EXPIRED: the token's end, open again at once.
 * Spec        docs/protocol/hub-mqtt.md 2, 5, 7.
 */
#ifndef CLIENT_HUB_CLIENT_H
#define CLIENT_HUB_CLIENT_H

#include "client/identity.h"
#include "client/link.h"
#include "wire/props.h"

struct hub_client;
enum hub_state { HUB_UP, HUB_DOWN };
/* docs/protocol/device-streams.md 3.1; borrowed for the call. */
struct hub_stream {
    struct span name, rid;
    struct span url;   /* decoded */
    struct span auth;  /* secret */
    struct span proto; /* Berth extension: what the service's tool offers; empty: nothing */
};
struct hub_client_handler {
    void (*on_state)(struct hub_client *c, void *arg, enum hub_state st, enum err why,
                     const struct err_info *info);
    /* The message of that tag is on the hub's disk. */
    void (*on_sent)(struct hub_client *c, void *arg, uint64_t tag);
    /* Answer of hub_twin_get (status 200: desired and reported) or hub_twin_report (204); body borrowed. */
    void (*on_twin)(struct hub_client *c, void *arg, uint32_t rid, unsigned status,
                    struct span body);
    /* The service changed desired properties. */
    void (*on_desired)(struct hub_client *c, void *arg, uint64_t version, struct span patch);
    /* The service asks for a device stream; the owner answers with hub_stream_answer, now or later. It may come before HUB_UP, and again
     * with the same rid and url on a new link. NULL: this device takes none, and does not ask the hub for them. */
    void (*on_stream)(struct hub_client *c, void *arg, const struct hub_stream *st);
};
struct hub_client_conf {
    struct loop *loop;
    const struct identity *identity;
    const char *hub, *device_id;
    const char *product;   /* DeviceClientType, NULL: none */
    uint64_t token_life_s; /* 0: 3600 */
    uint16_t keep_alive_s; /* 0: 240 */
    unsigned via;          /* DPS_VIA_MQTT | DPS_VIA_MQTT_WS */
    /* ATTEST_TPM: made before, because a TPM takes its time; good for token_life_s from now. Borrowed until hub_free. */
    struct span token;
};
MUST_USE enum err hub_open(const struct hub_client_conf *conf, const struct hub_client_handler *h,
                           void *arg, struct hub_client **ret, struct err_info *info);
void hub_close(struct hub_client *c);
void hub_free(struct hub_client *c);
/* QoS 1; E_QUEUE_FULL when too many are under way. */
MUST_USE enum err hub_send(struct hub_client *c, struct span body, const struct prop *props,
                           size_t n_props, uint64_t tag);
/* 200 or 400. proto: of those offered; with 400 what is lacking or demanded; empty: none. */
MUST_USE enum err hub_stream_answer(struct hub_client *c, struct span rid, bool is_accepted,
                                    struct span proto);
MUST_USE enum err hub_twin_get(struct hub_client *c, uint32_t *ret_rid);
MUST_USE enum err hub_twin_report(struct hub_client *c, struct span json_patch, uint32_t *ret_rid);

#endif
