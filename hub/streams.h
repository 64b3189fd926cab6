/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device streams: a service asks for a byte stream to a device, the device accepts, both open a WebSocket here, the hub copies.
 *
 *   POST worker         struct stream_init   waits for the device and its answer, then answers the caller   hub/stream_init.c
 *   worker of the link  struct stream_ask    lies with the device's session until it answers or goes        hub/stream_ask.c
 *   owner worker        struct bridge        knows the sid, takes both WebSockets, relays (net/relay.h)     hub/stream_bridge.c
 *
 * The owner is named by the sid itself (its first byte modulo the number of workers: the other bytes are chosen until it fits), so any
 * worker finds it without a look-up; a connection that asks for a stream of another owner goes there before it is answered
 * (worker_move_rq), so both ends and the relay live on one loop.
 *
 *   PENDING --device listens, asked--> ASKED --accepted--> POST answered; bridge waits for both ends --> OPEN --> gone
 *      | connect time over: 404          | rejected: 200 False   | not there in time: 1011 "Peer not connected"
 *      | caller hangs up: gone           | response time over: 504
 *                                        | link lost: PENDING, or asked again with the same rid on the newer link, once
 *
 * Revoked     what admitted the caller (its policy) and the device (as its session was) is asked again whenever it changes: the
 *             bridge closes within a second (1008).
 * Modules     a module is an identity like a device: own link, own limits of "one device". It goes when its device does.
 * Limits      struct streams_conf; counted over all workers under one lock, which no data passes.
 * Threads     each function says whose. Shared state: hub/streams_int.h.
 * Spec        docs/protocol/device-streams.md; threat E3.
 */
#ifndef HUB_STREAMS_H
#define HUB_STREAMS_H

#include "hub/session.h"

/* What Berth's own tools offer: an empty message ends one half. */
#define STREAM_PROTOCOL "berth.streams.v1"

struct streams;
MUST_USE enum err streams_new(struct hub *h, const struct streams_conf *conf, struct streams **ret);
void streams_free(struct streams *st);
MUST_USE enum err streams_worker_start(struct worker *w);
void streams_worker_done(struct worker *w);
/* Limits and rates of streams that begin from now on. False: more than those has changed, which waits for the next start. Main. */
bool streams_reload(struct streams *st, const struct streams_conf *conf);
bool streams_are_on(const struct hub *h);
uint64_t streams_open(const struct hub *h); /* any thread */

/* --- the service's half: POST worker -------------------------------------------------------------- */
struct stream_request {          /* spans borrowed for the call */
    const struct device *device; /* or module */
    struct span name;
    uint64_t connect_ms, response_ms;
    struct policy_use policy;
    struct span policy_name;
    struct span
        proto; /* Berth extension: what the caller's tool speaks (stream_proto_ok), offered to the device; empty: nothing */
};
/* Answers rq, now or later. E_THROTTLED with the reason, E_NOMEM, E_DRAINING: it has not begun. */
MUST_USE enum err stream_begin(struct http_rq *rq, const struct stream_request *r,
                               struct err_info *info);

/* Words of letters, digits, '.' and '-', separated by commas: nothing that could split a topic or a header. */
#define STREAM_PROTO_SIZE 64u
bool stream_proto_ok(struct span proto);

/* --- the device's half: worker of the link --------------------------------------------------------- */
/* One request as an endpoint sends it (session_ops.stream). */
struct stream_offer {
    uint32_t rid;     /* MQTT */
    const char *uuid; /* AMQP: the same as a correlation id */
    const char *name;
    const char *url;
    const char *auth;              /* secret */
    char proto[STREAM_PROTO_SIZE]; /* "": none */
};
/* The link listens for requests (again): what waits for it follows, what it has not answered comes once more. */
void streams_listen(struct session *s);
void streams_unlisten(struct session *s); /* also at the end of the link */
/* Unknown, late and repeated ones are ignored. */
/* proto: when accepted one of those offered, anything else counts as none; when rejected what the device lacks or demands. Empty: none. */
void streams_answer(struct session *s, uint32_t rid, bool is_accepted, struct span proto);

/* --- gateway: any worker ---------------------------------------------------------------------------- */
/* hooks.admit_ws for paths below /bridges/. E_NO_ROUTE when it is none; E_AGAIN: moved to its owner. */
MUST_USE enum err stream_admit(struct worker *w, struct http_rq *rq, struct span *ret_protocol,
                               void **ret_bridge, struct err_info *info);
void stream_take(struct worker *w, struct stream *carrier, void *bridge);

/* --- governance --------------------------------------------------------------------------------------- */
void streams_rejudge(struct worker *w); /* policies or trusted CAs changed */
/* On the writer, after commit. */
void streams_device_changed(struct hub *h, int64_t identity);
void streams_drain(struct worker *w);
bool streams_busy(struct worker *w);

/* All workers look again at what they let through. Any thread. */
void streams_rejudge_all(struct hub *h);

/* Is it a route by which a service asks for a stream, to a device or a module? */
bool streams_is_request(const struct http_route *r);
extern const struct http_route hub_stream_routes[];
extern const size_t n_hub_stream_routes;

#endif
