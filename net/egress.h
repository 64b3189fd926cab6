/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outgoing HTTPS by libcurl (multi_socket) on one loop thread of its own. Linked hubs and webhooks use pools of their
 * own, so that a slow webhook never delays a hub call.
 *
 * Security    https only unless the request says otherwise; no redirects, no proxy from the environment, no cookies;
 *             credentials never in URLs; the resolved address is checked when connecting against the pool's rule
 *             (threat E1).
 * Ownership   egress_rq belongs to egress from egress_send until msg.run at home; its memory is the caller's.
 * Threads     egress_send any.
 * Errors      egress_send: E_BUSY (pool full), E_DRAINING, E_NOMEM; msg.run does not come then.
 *             rq.result: OK (a status was received, any), E_NET, E_TLS, E_TIMEOUT, E_TOO_LARGE (answer), E_ARG (URL: scheme,
 *             form, credentials in it), E_NOMEM, E_DRAINING. rq.info says why. A request may be sent twice when a kept
 *             connection dies before the first byte of an answer: use it for what may be repeated.
 * Limits      per pool: parallel connections per host, queued requests, answer size; per request: total time.
 */
#ifndef NET_EGRESS_H
#define NET_EGRESS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mailbox.h"

struct egress;
struct egress_pool_conf {
    const char *name;      /* for metrics: "hubs", "webhooks" */
    const char *ca_file;   /* NULL: the system's */
    unsigned max_per_host; /* parallel connections */
    unsigned max_queued;   /* requests sent and not yet answered, those on a connection included */
    size_t max_answer;
    bool allow_private; /* loopback, link-local and private addresses may be reached */
};
MUST_USE enum err egress_new(const struct egress_pool_conf *pools, size_t n, struct egress **ret,
                             struct err_info *info);
/* Ends what is under way with E_DRAINING after grace_ms, joins the thread. No egress_send may run beside it. The last
 * results are in their homes when it returns. */
void egress_free(struct egress *e, uint64_t grace_ms);

struct egress_rq {
    struct msg msg;
    struct mailbox *home;
    unsigned pool;
    const char *method;         /* "GET", "PUT", ... */
    const char *url;            /* lives until msg.run */
    const char *const *headers; /* "Name: value"; secrets are fine here, never in the URL */
    size_t n_headers;
    struct span body;    /* lives until msg.run */
    uint64_t timeout_ms; /* total, waiting for a connection included */
    bool allow_http;
    /* result */
    enum err result;
    struct err_info info;
    bool was_sent; /* at least begun; false: the host has seen nothing of it */
    unsigned status;
    struct buf answer;      /* buf_done by the caller */
    struct egress_rq *next; /* the caller's */
};
MUST_USE enum err egress_send(struct egress *e, struct egress_rq *rq);
struct egress_stats {
    uint64_t sent, ok, failed, queued, active, connections_made;
};
void egress_stats(struct egress *e, unsigned pool, struct egress_stats *ret);

#endif
