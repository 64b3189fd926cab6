/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service's end of device streams: local connections go through the hub to what a device's agent lists under a name.
 *
 *   local connection --session there?--yes--> a channel of it (client/mux)
 *        |no: POST (on a thread of its own: it may wait a minute for the device), then the WebSocket
 *        |-- the device speaks berth.streams.v1, when end_tls is set below TLS (net/tls_stream.h) --> a session for this and all further connections, until it ends; then a new one
 *        `-- it does not --> the WebSocket is this one connection's; each connection asks anew. With end_tls: refused, nothing is sent
 *
 * Ownership   stream_client_new ... stream_client_end, turns of the loop until stream_client_count is 0, stream_client_free.
 * Threads     the loop's; one more while a POST is under way.   Limits  STREAM_CLIENT_LEGS connections at once.
 * Spec        docs/protocol/device-streams.md 2, 7, 12, 13.
 */
#ifndef CTL_STREAM_CLIENT_H
#define CTL_STREAM_CLIENT_H

#include "client/service.h"
#include "net/conn.h"

#define STREAM_CLIENT_LEGS 256u

struct stream_client_conf {
    struct loop *loop;
    struct service *service; /* used by this alone */
    struct tls_ctx *tls;
    const struct proxy *proxy; /* NULL: none */
    struct tls_ctx *
        end_tls; /* of tls_end_client_new: nothing but encrypted up to the device; NULL: not asked for */
    const char *device, *name;
    const char *module; /* NULL: the device itself */
    unsigned connect_s, response_s;
};
struct stream_client_stats {
    uint64_t begun, failed, up,
        down; /* connections; bytes to the device, from it, of those that are over */
    size_t open;
};
/* A connection is over: ended in order, or why NULL-terminated text says why not. */
typedef void (*stream_client_over_fn)(void *arg, enum err why, const char *text, uint64_t up,
                                      uint64_t down);
struct stream_client;
MUST_USE enum err stream_client_new(const struct stream_client_conf *conf,
                                    stream_client_over_fn over, void *arg,
                                    struct stream_client **ret);
/* Takes the stream; over follows for it, once. E_LIMIT, E_NOMEM: the stream is still the caller's. */
MUST_USE enum err stream_client_add(struct stream_client *c, struct stream *local);
void stream_client_stats(const struct stream_client *c, struct stream_client_stats *ret);
/* No more connections; those that are there end. */
void stream_client_end(struct stream_client *c);
/* Connections and work under way. */
size_t stream_client_count(const struct stream_client *c);
void stream_client_free(struct stream_client *c);

#endif
