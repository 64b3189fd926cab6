/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of hub/stream*.c. What is shared between workers: the table of devices that have streams (under one lock: limits, and who
 * waits for a device to listen), and the messages that travel. Each message is embedded in the object that caused it and is in one
 * mailbox at a time; an object lives until all of its messages have come home.
 */
#ifndef HUB_STREAMS_INT_H
#define HUB_STREAMS_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "hub/metrics.h"
#include "hub/stream_token.h"
#include "hub/streams.h"
#include "net/relay.h"

#define STREAM_WORKERS 64u /* as many as a server has at most */

/* One device that has streams. */
struct stream_device {
    struct map_node node;
    int64_t identity;
    unsigned n;          /* streams, pending ones included: a reference each */
    struct list waiting; /* struct stream_init.waiting */
    struct rate rate;    /* of all its streams together */
};

struct stream_worker {
    struct worker *w;
    struct map bridges; /* by sid */
    struct list all;    /* bridges: struct bridge.link */
    struct list inits;  /* struct stream_init.link */
    struct timer walk_timer;
    struct timer sweep_timer; /* of grants whose time is over; worker 0 */
    uint32_t walk;
    bool is_draining;
    struct msg changed;
    _Atomic bool changed_posted;
    _Atomic unsigned load; /* bridges: the least loaded worker gets the next */
};

struct streams {
    struct hub *hub;
    bool is_on, is_strict;
    struct secret key; /* of this start */
    char *url;         /* wss://host[:port] */
    pthread_mutex_t lock;
    /* under the lock */
    struct streams_conf conf; /* texts are not kept */
    struct map devices;
    unsigned n;
    struct rate begins; /* new ones, a stream counting as one byte */
    /* not */
    _Atomic uint32_t rid;
    struct stream_worker worker[STREAM_WORKERS];
};

static inline struct streams *streams_of(const struct worker *w)
{
    return hub_of((struct worker *)(uintptr_t)w)->streams;
}
static inline struct stream_worker *stream_worker_of(struct worker *w)
{
    return &streams_of(w)->worker[worker_index(w)];
}
static inline unsigned stream_owner(const struct streams *st, const uint8_t sid[STREAM_SID])
{
    return sid[0] % server_n_workers(st->hub->server);
}
static inline void stream_post(const struct hub *h, unsigned worker, struct msg *m)
{
    loop_post(worker_loop(server_worker(h->server, worker)), m);
}

/* --- streams.c: limits ------------------------------------------------------------------------------- */
/* Counts one stream in, E_THROTTLED with the bound it meets; the device entry is the caller's until stream_leave. */
MUST_USE enum err stream_enter(struct streams *st, int64_t identity, struct stream_device **ret,
                               struct err_info *info);
void stream_leave(struct streams *st, struct stream_device *d);

/* --- stream_ask.c: a request on its way to a device and back -------------------------------------------- */
enum ask_result { ASK_NONE, ASK_DEAF, ASK_LOST, ASK_CANCELLED, ASK_REJECTED, ASK_ACCEPTED };
struct stream_ask {
    struct msg msg;   /* POST worker -> link's -> POST worker */
    struct list link; /* in session.asks */
    struct hub *hub;
    msg_fn come_home;
    unsigned home; /* POST worker */
    handle to;
    int64_t identity;
    struct stream_offer offer;
    bool was_resent;
    enum ask_result result;
    char proto[STREAM_PROTO_SIZE]; /* what the device took, or why it rejects; "": nothing said */
    struct admitted ad;            /* ASK_ACCEPTED: what admitted the link; spans are gone */
};
void stream_ask_send(struct stream_ask *a);
/* On the link's worker. */
void stream_ask_cancel(struct stream_ask *a);

/* --- stream_init.c ---------------------------------------------------------------------------------------- */
void stream_inits_rejudge(struct worker *w);
void stream_inits_drain(struct worker *w);
/* Under the lock: the device listens now. */
void stream_init_tell(struct list *waiting);

/* --- stream_bridge.c ---------------------------------------------------------------------------------------- */
struct bridge {
    struct map_node node;
    struct list link;
    struct worker *w;
    struct streams *st;
    struct msg expect, verdict; /* POST worker -> owner */
    uint8_t sid[STREAM_SID];
    struct stream_device *device;
    int64_t identity;
    char *device_id, *module_id, *name, *who, *hub_name; /* module_id "": the device's own */
    struct policy_use policy;
    uint64_t deadline_ms;
    uint64_t began_ms;
    /* verdict */
    bool is_accepted;
    uint16_t close_code; /* not accepted */
    const char *close_reason;
    struct admitted ad;
    /* owner's */
    struct relay *relay;
    struct rate rate;
    struct timer timer; /* until both are there: the deadline; then age and idleness */
    uint64_t open_ms, moved, moved_ms; /* moved: bytes when it was looked at last */
    uint64_t idle_s, lifetime_s;       /* as they were when it opened; 0: no bound */
    struct timer until;                /* the caller's right has an end (policy.until_s) */
    uint32_t walk;
    const char *end_reason; /* ours, else the relay's */
    bool has_verdict;
    bool is_open; /* both were there */
    bool is_over; /* the relay has ended */
};
/* For logs and the audit trail: "device", or "device/module". */
#define BRIDGE_TARGET (2u * LIMIT_ID + 2u)
const char *bridge_target(const struct bridge *b, char dst[BRIDGE_TARGET]);
/* POST worker: made, then given to its owner; later exactly one verdict. NULL: no memory. */
struct bridge *bridge_new(struct worker *w, struct stream_device *d, const struct stream_request *r,
                          uint64_t deadline_ms);
void bridge_expect(struct bridge *b);
void bridge_accept(struct bridge *b, const struct admitted *ad);
void bridge_drop(struct bridge *b, uint16_t code, const char *reason);
void bridge_end(struct bridge *b, uint16_t code, const char *reason); /* owner's */
struct bridge *bridge_find(struct worker *w, const uint8_t sid[STREAM_SID]);
void bridge_rejudge(struct bridge *b);
void bridge_discard(struct bridge *b); /* one that was never given away, or is over */
void bridge_cut(struct bridge *b);     /* now, without a word to its ends */

/* --- stream_audit.c ---------------------------------------------------------------------------------------- */
#define STREAM_ACT 384u /* what is done, sid, target, name */
_Static_assert(STREAM_ACT >= 32u + BRIDGE_TARGET + LIMIT_STREAM_NAME, "an act is never cut");
void stream_audit(struct worker *w, const char *who, const char *act, const char *result);

#endif
