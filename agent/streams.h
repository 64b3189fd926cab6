/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device streams of this unit: what the configuration lists under [stream NAME] can be reached from the service through the hub, and
 * nothing else, whoever asks (threat E3): an address of a target is a literal, and no request can name another.
 *
 *   request --name listed?--no--> rejected
 *      |yes, a plain peer    connects to the target; only then accepts and opens its WebSocket; the two are joined
 *      `yes, a Berth peer    accepts and opens its WebSocket: a session of channels (client/mux), each OPEN names a target of the list;
 *                            below it TLS (net/tls_stream.h), with the unit's certificate, when the peer asks for that
 *
 * Ownership   agent_streams_new ... agent_streams_end, then turns of the loop until agent_streams_count is 0, agent_streams_free.
 * Threads     the agent's one.   Limits  AGENT_SESSIONS, and client/mux for the channels of one.
 * Spec        docs/protocol/device-streams.md 3, 5 to 9, 13.
 */
#ifndef AGENT_STREAMS_H
#define AGENT_STREAMS_H

#include "client/hub_client.h"
#include "client/identity.h"

#define AGENT_TARGETS 32u
#define AGENT_SESSIONS 32u
#define AGENT_TARGET_MS 10000u /* to reach a target */
#define AGENT_GATEWAY_MS 20000u
#define AGENT_SEAL_MS                                                                              \
    130000u /* to the end of a TLS handshake: the other end may come 120 s after us */
#define AGENT_STREAMS_END_MS 5000u /* to say goodbye when the agent ends */

struct agent_target {
    char name[65];
    char address[64]; /* literal */
    uint16_t port;
    bool must_be_sealed; /* no connection but encrypted from end to end */
};
struct agent_targets {
    struct agent_target at[AGENT_TARGETS];
    size_t n;
};
/* "127.0.0.1:22", "[::1]:80". E_CONFIG: no literal address with a port; the name is empty, too long or there already; too many. */
MUST_USE enum err agent_target_add(struct agent_targets *t, struct span name, struct span target,
                                   struct err_info *info);

/* "offered", "required"; in any order with agent_target_add. */
MUST_USE enum err agent_target_seal(struct agent_targets *t, struct span name, struct span value,
                                    struct err_info *info);
/* Once all is read: E_CONFIG for a section without a target, and for what is required and cannot be. */
MUST_USE enum err agent_targets_check(const struct agent_targets *t, bool has_certificate,
                                      struct err_info *info);
const struct agent_target *agent_target_find(const struct agent_targets *t, struct span name);

struct agent_streams;
/* targets, ca_file and proxy (NULL: none) are borrowed until the end. */
MUST_USE enum err agent_streams_new(struct loop *l, const struct agent_targets *targets,
                                    const char *ca_file, const struct proxy *proxy,
                                    struct agent_streams **ret, struct err_info *info);
/* By the present link (agent_streams_hub), where its answer goes as well. One that is known by its url is answered again. */
void agent_streams_request(struct agent_streams *st, const struct hub_stream *rq);
/* The present link; NULL: none. */
void agent_streams_hub(struct agent_streams *st, struct hub_client *hub);
/* With which certificate sessions are encrypted from end to end from now on: that of the link. Of another kind: with none. */
void agent_streams_identity(struct agent_streams *st, const struct identity *id);
void agent_streams_end(struct agent_streams *st);
size_t agent_streams_count(const struct agent_streams *st);
void agent_streams_free(struct agent_streams *st);

#endif
