/* SPDX-License-Identifier: Apache-2.0 */
#include "net/egress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "net/egress_impl.h"

#define EGRESS_LOOP 255u /* its handles are never given out */
#define KEPT_CONNECTIONS 64L

/* --- libcurl's sockets and timers on the loop ------------------------------------------------- */

struct egress_watch {
    struct watch watch;
    struct egress_pool *pool;
};

void egress_reap(struct egress_pool *p)
{
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(p->multi, &left)) != NULL) {
        if (m->msg == CURLMSG_DONE) {
            char *job = NULL;
            CURLcode code = m->data.result;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &job);
            egress_job_done((struct egress_job *)(void *)job, code);
        }
    }
}

static void act(struct egress_pool *p, curl_socket_t fd, int what)
{
    int running;
    (void)!curl_multi_socket_action(p->multi, fd, what,
                                    &running); /* each job tells its own error */
    egress_reap(p);
}

static void on_ready(struct watch *w, uint32_t events)
{
    struct egress_watch *ew = CONTAINER_OF(w, struct egress_watch, watch);
    int what = ((events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
               ((events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
               ((events & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0);
    act(ew->pool, w->fd, what); /* may free ew */
}

static int on_socket(CURL *easy UNUSED, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct egress_pool *p = arg;
    struct egress_watch *ew = socket_arg;
    struct loop *l = p->egress->loop;
    if (what == CURL_POLL_REMOVE) {
        if (ew != NULL) {
            loop_unwatch(l, &ew->watch);
            free(ew);
        }
        return 0;
    }
    uint32_t events = ((what & CURL_POLL_IN) != 0 ? (uint32_t)EPOLLIN : 0) |
                      ((what & CURL_POLL_OUT) != 0 ? (uint32_t)EPOLLOUT : 0);
    if (ew != NULL) {
        loop_rewatch(l, &ew->watch, events);
        return 0;
    }
    ew = NEW(struct egress_watch);
    if (ew == NULL || loop_watch(l, &ew->watch, fd, events, on_ready) != OK) {
        free(ew);
        return -1; /* the transfer fails */
    }
    ew->pool = p;
    return curl_multi_assign(p->multi, fd, ew) == CURLM_OK ? 0 : -1;
}

static void on_timer(struct timer *t)
{
    act(CONTAINER_OF(t, struct egress_pool, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi UNUSED, long ms, void *arg)
{
    struct egress_pool *p = arg;
    if (ms < 0) {
        timer_stop(p->egress->loop, &p->timer);
    } else {
        /* 0 too: libcurl may not be entered again from its own callback. */
        timer_set(p->egress->loop, &p->timer, (uint64_t)ms, on_timer);
    }
    return 0;
}

/* --- the thread ------------------------------------------------------------------------------- */

static void pool_open(struct egress_pool *p)
{
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)p->conf.max_per_host);
    curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, KEPT_CONNECTIONS);
    curl_multi_setopt(p->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
}

/* On the thread: it unwatches what libcurl still has open. */
static void pool_close(struct egress_pool *p)
{
    ASSERT(list_empty(&p->jobs));
    while (p->n_idle > 0) {
        curl_easy_cleanup(p->idle[--p->n_idle]);
    }
    curl_multi_cleanup(TAKE(p->multi));
    timer_stop(p->egress->loop, &p->timer);
}

static void *run(void *arg)
{
    struct egress *e = arg;
    loop_run(e->loop);
    for (size_t i = 0; i < e->n_pools; i++) {
        pool_close(&e->pools[i]);
    }
    return NULL;
}

/* --- end -------------------------------------------------------------------------------------- */

static void stop_when_idle(struct egress *e)
{
    if (atomic_load(&e->is_draining) && atomic_load(&e->in_work) == 0) {
        timer_stop(e->loop, &e->grace);
        loop_stop(e->loop);
    }
}

void egress_job_left(struct egress *e)
{
    atomic_fetch_sub(&e->in_work, 1);
    stop_when_idle(e);
}

static void on_grace(struct timer *t)
{
    struct egress *e = CONTAINER_OF(t, struct egress, grace);
    e->is_cut = true;
    for (size_t i = 0; i < e->n_pools; i++) {
        struct list *jobs = &e->pools[i].jobs;
        while (!list_empty(jobs)) {
            egress_job_finish(LIST_OF(jobs->next, struct egress_job, link), E_DRAINING, NULL);
        }
    }
}

static void on_drain(struct msg *m)
{
    struct egress *e = CONTAINER_OF(m, struct egress, drain);
    timer_set(e->loop, &e->grace, e->grace_ms, on_grace);
    stop_when_idle(e);
}

void egress_free(struct egress *e, uint64_t grace_ms)
{
    if (e == NULL) {
        return;
    }
    if (e->has_thread) {
        e->grace_ms = grace_ms;
        atomic_store(&e->is_draining, true);
        e->drain.run = on_drain;
        loop_post(e->loop, &e->drain);
        pthread_join(e->thread, NULL);
    }
    for (size_t i = 0; i < e->n_pools; i++) {
        struct egress_pool *p = &e->pools[i];
        if (p->multi != NULL) {
            curl_multi_cleanup(p->multi);
        }
        free((char *)(uintptr_t)p->conf.name);
        free((char *)(uintptr_t)p->conf.ca_file);
    }
    loop_free(e->loop);
    free(e);
}

/* --- begin -------------------------------------------------------------------------------------- */

static enum err pool_init(struct egress *e, struct egress_pool *p,
                          const struct egress_pool_conf *conf)
{
    p->egress = e;
    p->conf = *conf;
    p->conf.name = span_dup(span_str(conf->name));
    p->conf.ca_file = conf->ca_file != NULL ? span_dup(span_str(conf->ca_file)) : NULL;
    p->multi = curl_multi_init();
    list_init(&p->jobs);
    if (p->conf.name == NULL || p->multi == NULL ||
        (conf->ca_file != NULL && p->conf.ca_file == NULL)) {
        return E_NOMEM;
    }
    pool_open(p);
    return OK;
}

static void init_curl(void)
{
    CURLcode r = curl_global_init(CURL_GLOBAL_DEFAULT);
    ASSERT(r == CURLE_OK);
}

static enum err start(struct egress *e, const struct egress_pool_conf *pools, size_t n)
{
    enum err r = loop_new(EGRESS_LOOP, clock_system(), &e->loop);
    for (size_t i = 0; i < n && r == OK; i++) {
        e->n_pools = i + 1;
        r = pool_init(e, &e->pools[i], &pools[i]);
    }
    if (r == OK) {
        int rc = pthread_create(&e->thread, NULL, run, e);
        r = rc == 0 ? OK : err_from_errno(rc);
        e->has_thread = rc == 0;
    }
    return r;
}

enum err egress_new(const struct egress_pool_conf *pools, size_t n, struct egress **ret,
                    struct err_info *info)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    ASSERT(n <= EGRESS_POOLS);
    pthread_once(&once, init_curl);
    struct egress *e = NEW(struct egress);
    if (e == NULL) {
        return err_set(info, E_NOMEM, "outgoing requests");
    }
    enum err r = start(e, pools, n);
    if (r != OK) {
        egress_free(e, 0);
        return err_set(info, r, "outgoing requests cannot be started");
    }
    *ret = e;
    return OK;
}

/* --- requests ------------------------------------------------------------------------------------ */

enum err egress_send(struct egress *e, struct egress_rq *rq)
{
    ASSERT(rq->pool < e->n_pools && rq->home != NULL && rq->method != NULL && rq->url != NULL);
    struct egress_pool *p = &e->pools[rq->pool];
    struct egress_job *j = NEW(struct egress_job);
    if (j == NULL) {
        return E_NOMEM;
    }
    /* Counted before the flag is read: the end waits for whoever saw it unset. */
    atomic_fetch_add(&e->in_work, 1);
    uint64_t waiting = atomic_fetch_add(&p->queued, 1) + atomic_load(&p->active);
    enum err r = atomic_load(&e->is_draining) ? E_DRAINING : OK;
    if (r == OK && waiting >= p->conf.max_queued) {
        r = E_BUSY;
    }
    if (r != OK) {
        atomic_fetch_sub(&p->queued, 1);
        atomic_fetch_sub(&e->in_work, 1);
        free(j);
        return r;
    }
    atomic_fetch_add(&p->sent, 1);
    rq->status = 0;
    rq->result = OK;
    rq->info = (struct err_info){0};
    rq->answer = (struct buf)BUF_INIT(p->conf.max_answer);
    j->pool = p;
    j->rq = rq;
    j->msg.run = egress_job_start;
    loop_post(e->loop, &j->msg);
    return OK;
}

void egress_stats(struct egress *e, unsigned pool, struct egress_stats *ret)
{
    ASSERT(pool < e->n_pools);
    struct egress_pool *p = &e->pools[pool];
    *ret = (struct egress_stats){
        .sent = atomic_load(&p->sent),
        .ok = atomic_load(&p->ok),
        .failed = atomic_load(&p->failed),
        .queued = atomic_load(&p->queued),
        .active = atomic_load(&p->active),
        .connections_made = atomic_load(&p->connections_made),
    };
}
