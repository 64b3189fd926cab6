/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a device reaches a server: MQTT on 8883, or, when that port does not answer, MQTT over WebSocket on 443. Gives a stream. With a path
 * of its own the WebSocket is whatever the path says: an end of a device stream (link_url).
 *
 * A proxy that lets nobody through to 8883 is as a port that does not answer.
 *
 * Threads     the loop's. Names are resolved by the system's resolver, which may block: for device-side programs only.
 * Errors      done(NULL, why): E_NET, E_TLS (the server's certificate does not verify: no fallback, that is final), E_TIMEOUT.
 */
#ifndef CLIENT_LINK_H
#define CLIENT_LINK_H

#include "net/conn.h"
#include "net/ws.h"

enum link_via { LINK_MQTT, LINK_MQTT_WS };
struct link_target {
    const char *host;
    uint16_t mqtts_port, https_port;
    struct tls_ctx *tls;
    uint64_t timeout_ms; /* of each try */
    const struct proxy *
        proxy; /* net/proxy.h: for the hosts that it does not exempt; NULL: none. Used during the call only */
    const char *path;               /* of the WebSocket; NULL: MQTT's, with its protocol */
    const char *protocol, *headers; /* net/ws.h ws_connect; copied, and wiped after use */
};
/* "wss://host[:port]/path": host and path are heap, the caller's; E_ARG. */
MUST_USE enum err link_url(struct span url, char **ret_host, uint16_t *ret_port, char **ret_path,
                           struct err_info *info);
typedef void (*link_done_fn)(void *arg, struct stream *s, enum link_via via, enum err why,
                             const struct err_info *info);
struct link_try;
/* done is called once, from the loop. */
MUST_USE enum err link_open(struct loop *l, const struct link_target *t, enum link_via via,
                            link_done_fn done, void *arg, struct link_try **ret,
                            struct err_info *info);
/* done is not called any more. */
void link_cancel(struct link_try *t);

#endif
