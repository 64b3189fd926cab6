/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connected identity on its worker: who it is, what admitted it, what it wants to hear (bits, not topics).
 *
 *   NEW --CONNECT judged good--> CLAIMING --granted--> READY --takeover, change, end--> GONE
 *
 * The endpoint (hub/mqtt.c) feeds it; what reaches a device from outside its own packets (takeover, disabling, desired properties,
 * trust changes) comes through here and leaves by the functions that the endpoint handed over (struct session_ops).
 *
 * Takeover    the entry is given back when the old link takes no more packets and the twin patches and filters that it sent are on
 *             disk, so that the new one finds them; not when its peer has read what was written for it.
 * Ownership   counted: the link, a claim on the way home and each append on its way hold it. session_unref ends it.
 * Threads     the worker's. Other threads name it by its handle.
 * Revoked     session_rejudge asks registry_still_good with what admitted it; walks go in slices of SESSION_SLICE, so that a change of
 *             policies or trusted CAs reaches 20,000 sessions well within a second without stopping the loop.
 * Spec        docs/protocol/hub-mqtt.md 2.5, 2.6, 3, 12; docs/protocol/sas.md 5.
 */
#ifndef HUB_SESSION_H
#define HUB_SESSION_H

#include "hub/directory.h"
#include "hub/registry.h"
#include "hub/telemetry.h"
#include "net/mlink.h"
#include "wire/topic.h"

#define SESSION_SLICE 256u

struct session;
struct stream_offer;
struct session_ops {
    /* Ends the link with that reason; on_close of the endpoint follows from the loop. */
    void (*close)(struct session *s, enum err why, const char *reason);
    /* The claim came home: OK, E_FENCED (overtaken), or E_UNAUTHORIZED (revoked meanwhile). */
    void (*granted)(struct session *s, enum err result, const struct err_info *info);
    /* Desired properties changed: patch is the text to send. */
    void (*desired)(struct session *s, uint64_t version, struct span patch);
    /* Its filters, as they are now, are on disk, or could not be stored. */
    void (*stored)(struct session *s, enum err result);
    /* Asks the device for a stream (hub/streams.h); not OK: it cannot be told. */
    enum err (*stream)(struct session *s, const struct stream_offer *o);
    /* The session is freed: what the endpoint hung on it goes too. */
    void (*forget)(struct session *s);
    /* Gently, within so many milliseconds. */
    void (*drain)(struct session *s, uint64_t timeout_ms);
    /* Now, without waiting for the peer to take what was written. */
    void (*cut)(struct session *s);
};

struct will {
    struct prop *props;
    size_t n_props;
    struct arena arena; /* holds props and body */
    struct span body;
    bool retain;
};

struct session {
    struct list link; /* in hub_worker.sessions while READY */
    struct list all;  /* in hub_worker.links while there is a link */
    struct worker *w;
    const struct session_ops *ops;
    void *endpoint; /* its struct mlink; NULL once the link is gone */
    unsigned refs;
    uint16_t subs;    /* bits of enum hub_filter */
    uint16_t subs_q1; /* granted QoS 1 */
    bool is_ready;
    bool is_claiming;
    bool is_entered; /* the directory's entry is its own */
    bool is_leaving; /* the link hears nothing more: the entry goes back once its writes are home */
    bool is_storing; /* a write of its filters is under way */
    bool is_restless; /* they changed meanwhile */
    bool is_clean;    /* clean session 1 */
    bool has_stored;  /* a stored session exists */
    uint32_t walk;    /* the walk that saw it last */
    handle h;
    uint64_t epoch;
    uint64_t ends_ms;      /* by steady time, when what admitted it expires */
    uint64_t noted_ms;     /* when activity was last noted: at most once a second */
    uint64_t desired_told; /* version last sent or read */
    struct admitted ad;    /* spans point into text */
    struct dir_claim claim;
    struct timer expiry; /* READY; while CLAIMING the wait of a takeover */
    struct rival_place from;
    char peer[48]; /* address, for alarms */
    struct will *will;
    struct report *reports; /* reported patches in the order they came: hub/mqtt_twin.c */
    struct report **reports_tail;
    size_t n_reports, report_bytes;
    struct list asks;               /* streams that it has not answered: hub/stream_ask.c */
    bool has_news;                  /* the packet in work makes it listen for streams */
    size_t n_appends, append_bytes; /* telemetry not home yet: hub/mqtt.c */
    bool is_held;                   /* so much of it that the link is not read */
    bool is_shaped;     /* the log took no more: the link is not read until shape ends */
    uint64_t shaped_ms; /* since when the same message has been waiting; 0: none does */
    struct timer shape;
    struct span name;      /* "device" or "device/module", for logs */
    struct span device_id; /* the part before the slash */
    struct span module_id; /* behind it; empty: the device's own link */
    char *text;            /* name, generation id, model id */
};

struct hub_worker {
    struct worker *w;
    struct list sessions;
    struct list links; /* also those that are not READY */
    size_t n_sessions;
    size_t n_appends; /* of the log, not home yet: hub/telemetry.c */
    uint32_t walk;
    struct timer walk_timer;
    bool is_draining;
    bool is_ended;          /* no link begins any more */
    struct list monitors;   /* hub/http_monitor.c */
    struct timer use_timer; /* hub/allowance.c */
};
static inline struct hub_worker *hub_worker_of(struct worker *w)
{
    return worker_user(w);
}

MUST_USE enum err hub_worker_new(struct worker *w, struct hub_worker **ret);
void hub_worker_free(struct hub_worker *hw);
/* The worker stops: cuts every link that is left and waits until all appends are home, turning the loop. After it hub_worker_free. */
void hub_links_end(struct worker *w);

MUST_USE enum err session_new(struct worker *w, const struct session_ops *ops, void *endpoint,
                              struct session **ret);
void session_ref(struct session *s);
void session_unref(struct session *s);
/* For streams; a link of any protocol sets the bit. */
static inline bool session_listens(const struct session *s)
{
    return (s->subs & (1u << HUB_SUB_STREAMS_POST)) != 0;
}
/* Judged good: copies what admitted it and claims the directory entry; ops->granted follows from the loop. */
MUST_USE enum err session_claim(struct session *s, struct span device_id, struct span module_id,
                                const struct admitted *ad);
/* Where it comes from, before session_claim. c NULL: unknown. */
void session_set_peer(struct session *s, const struct conn *c);
/* After granted(OK): may hear and send. */
void session_ready(struct session *s);
/* A write that the next link of this identity is to find has come home. */
void session_settled(struct session *s);
/* The link is gone: leaves the directory, stores the will unless the end was clean. */
void session_end(struct session *s, bool is_clean);
struct telemetry_source session_source(const struct session *s);

/* Filters that outlive the link (clean session 0). Reads on the worker; one write of a session at a time, of the newest state. */
MUST_USE enum err session_load_filters(struct session *s, bool *ret_present);
/* OK: ops->stored follows, from the loop, once the newest state is on disk. */
MUST_USE enum err session_store_filters(struct session *s);
void session_forget_filters(struct session *s);

/* Hooks of the frame and of the domain. */
void sessions_on_change(void *arg, unsigned worker, handle link, int64_t identity,
                        enum dir_change change);
void sessions_on_desired(struct loop *l, handle link, int64_t identity, uint64_t version,
                         struct span patch);
void sessions_rejudge_all(struct worker *w); /* policies or trusted CAs changed */
void sessions_drain(struct worker *w, uint64_t deadline_ms);

#endif
