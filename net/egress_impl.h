/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of net/egress: the parts that belong to the egress thread.
 *
 * A job carries one request through: egress_send (any thread) -> mailbox -> start on the thread -> libcurl ->
 * finish -> home. Easy handles are kept and used again; connections live in the multi handle of their pool.
 */
#ifndef NET_EGRESS_IMPL_H
#define NET_EGRESS_IMPL_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "net/egress.h"
#include "net/loop.h"

#define EGRESS_POOLS 8u
#define EGRESS_IDLE_HANDLES 64u /* of one pool */

struct egress_pool {
    struct egress *egress;
    struct egress_pool_conf conf; /* its texts are ours */
    CURLM *multi;
    struct timer timer; /* as libcurl asked for */
    struct list jobs;   /* handed to libcurl */
    CURL *idle[EGRESS_IDLE_HANDLES];
    size_t n_idle;
    atomic_uint_fast64_t sent, ok, failed, queued, active, connections_made;
};

struct egress_job {
    struct msg msg;
    struct list link;
    struct egress_pool *pool;
    struct egress_rq *rq;
    CURL *easy;
    struct curl_slist *headers;
    struct timer timer; /* total time, waiting for a connection included */
    bool is_too_large;
    bool is_addr_refused;
    char why[CURL_ERROR_SIZE];
};

struct egress {
    struct loop *loop;
    pthread_t thread;
    bool has_thread;
    struct egress_pool pools[EGRESS_POOLS];
    size_t n_pools;
    atomic_uint_fast64_t in_work; /* jobs sent and not yet home */
    atomic_bool is_draining;
    bool is_cut; /* the grace is over */
    uint64_t grace_ms;
    struct msg drain;
    struct timer grace;
};

/* --- egress_job.c ------------------------------------------------------------------------------- */
/* The mailbox hands a job over. */
void egress_job_start(struct msg *m);
/* Out of libcurl, home with the result. */
void egress_job_finish(struct egress_job *j, enum err e, const char *why);
void egress_job_done(struct egress_job *j, CURLcode code);

/* --- egress.c ----------------------------------------------------------------------------------- */
/* Looks what libcurl has ended. */
void egress_reap(struct egress_pool *p);
/* One job less. */
void egress_job_left(struct egress *e);

#endif
