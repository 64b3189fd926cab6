/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server_int.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crypto_lib.h"
#include "base/log.h"

#define TICK_MS 1000u
#define LAST_TURNS 8 /* enough for streams that were aborted to be told so */

static _Thread_local struct worker *this_worker;

/* --- what programs reach ---------------------------------------------------------------------- */

struct server *worker_server(const struct worker *w)
{
    return w->s;
}

struct loop *worker_loop(const struct worker *w)
{
    return w->loop;
}

unsigned worker_index(const struct worker *w)
{
    return w->index;
}

struct db *worker_db(struct worker *w)
{
    return w->db;
}

void worker_set_user(struct worker *w, void *user)
{
    w->user = user;
}

void *worker_user(struct worker *w)
{
    return w->user;
}

struct worker *worker_of_rq(struct http_rq *rq)
{
    return http_rq_server_arg(rq);
}

struct worker *worker_of_loop(struct loop *l)
{
    ASSERT(this_worker != NULL && this_worker->loop == l);
    return this_worker;
}

/* --- requests and connections ------------------------------------------------------------------ */

static enum err worker_admit(struct http_rq *rq, struct err_info *info)
{
    struct worker *w = worker_of_rq(rq);
    const struct server_program *p = w->s->program;
    uint32_t auth = http_rq_route(rq)->auth;
    enum err e = auth == AUTH_ADMIN  ? admin_admit(rq, info)
                 : p->admit != NULL  ? p->admit(rq, info)
                 : auth == AUTH_NONE ? OK
                                     : E_UNAUTHORIZED;
    bool is_proven = auth != AUTH_NONE && !(auth == AUTH_DEVICE && p->devices_prove_later);
    if (e == OK && is_proven && http_rq_conn(rq) != NULL) {
        conn_mark_authenticated(http_rq_conn(rq));
    }
    return e;
}

static void worker_refuse(struct http_rq *rq, enum err e, const struct err_info *info)
{
    struct worker *w = worker_of_rq(rq);
    w->s->program->refuse(rq, e, info);
}

static enum err worker_admit_ws(struct http_rq *rq, struct span *ret_protocol, void **ret_user,
                                struct err_info *info)
{
    struct worker *w = worker_of_rq(rq);
    return w->s->program->admit_ws(w, rq, ret_protocol, ret_user, info);
}

static void worker_on_ws(struct stream *ws, void *user, void *arg)
{
    struct worker *w = arg;
    w->s->program->on_ws(w, ws, user);
}

static bool worker_is_draining(void *arg)
{
    const struct worker *w = arg;
    return server_is_draining(w->s);
}

static uint64_t open_conns(const struct worker *w)
{
    uint64_t n = 0;
    for (size_t i = 0; i < w->n_listeners; i++) {
        struct listener_stats st;
        listener_stats(w->listeners[i], &st);
        n += st.open - st.waiting;
    }
    return n;
}

/* Shares of one bound among the workers; small bounds are given whole to each, because the kernel
 * spreads connections by chance. */
static unsigned share(const struct server *s, uint64_t bound)
{
    uint64_t part = (bound + s->n_workers - 1) / s->n_workers;
    return (unsigned)MAX(part, MIN(bound, 16u));
}

static size_t refuse_bytes(struct stream *s UNUSED, void *arg UNUSED, struct span in)
{
    return in.n;
}
static void refuse_close(struct stream *s UNUSED, void *arg UNUSED, enum err why UNUSED)
{
}
/* For connections that end before anybody took them. */
static const struct stream_handler refuse_handler = {"refused", refuse_bytes, NULL, refuse_close,
                                                     NULL};

void server_refuse_stream(struct stream *st, enum err why)
{
    stream_handle(st, &refuse_handler, NULL);
    stream_abort(st, why);
}

static bool is_over_limit(struct worker *w, struct stream *st)
{
    if (w->is_ending) {
        server_refuse_stream(st, E_DRAINING); /* its handshake outlived our listeners */
        return true;
    }
    if (open_conns(w) <= share(w->s, server_base_conf(w->s)->max_connections)) {
        return false;
    }
    LOG_WARN("server.connections.limit", L_STR("peer", conn_peer_text(stream_conn(st))));
    server_refuse_stream(st, E_LIMIT);
    return true;
}

static void on_https(struct conn *c, void *arg)
{
    struct worker *w = arg;
    struct stream *st = conn_stream(c);
    if (!is_over_limit(w, st) && http_attach(w->http, st) != OK) {
        server_refuse_stream(st, E_BUSY);
    }
}

static void on_moved(struct conn *c, void *arg)
{
    struct worker *w = arg;
    if (w->n_listeners == 0) {
        server_refuse_stream(conn_stream(c), E_DRAINING);
        return;
    }
    listener_take(w->listeners[0], c); /* the HTTPS one of its first address */
    on_https(c, w);
}

void worker_move_rq(struct worker *w, struct http_rq *rq, unsigned to)
{
    struct worker *home = server_worker(w->s, to);
    ASSERT(home != w);
    http_rq_move(rq, home->loop, on_moved, home);
}

static void on_mqtts(struct conn *c, void *arg)
{
    struct worker *w = arg;
    struct stream *st = conn_stream(c);
    if (!is_over_limit(w, st)) {
        w->s->program->on_mqtt(w, st);
    }
}

/* --- start ------------------------------------------------------------------------------------ */

enum err worker_make_tls(struct worker *w, const struct server_conf *c, struct tls_ctx **ret,
                         struct err_info *info)
{
    const struct tls_server_conf conf = {c->tls_cert, c->tls_key};
    if (c->https_port == 0 && c->mqtts_port == 0) {
        return OK; /* nothing to serve with it */
    }
    return tls_server_new_in(w->crypto, &conf, ret, info);
}

static enum err open_listener(struct worker *w, const char *address, uint64_t port, conn_open_fn fn,
                              struct err_info *info)
{
    const struct server_conf *c = server_base_conf(w->s);
    const struct listener_conf lc = {
        .address = address,
        .port = (uint16_t)port,
        .reuse_port = true,
        .tls = w->tls,
        .on_open = fn,
        .arg = w,
        .max_unauthenticated = share(w->s, c->max_unauthenticated),
        .max_unauthenticated_per_source = c->max_unauthenticated_per_source != 0
                                              ? share(w->s, c->max_unauthenticated_per_source)
                                              : 0,
    };
    enum err e = listener_new(w->loop, &lc, &w->listeners[w->n_listeners], info);
    w->n_listeners += e == OK;
    return e;
}

enum err worker_listen(struct worker *w, struct err_info *info)
{
    const struct server_conf *c = server_base_conf(w->s);
    enum err e = OK;
    for (size_t i = 0; e == OK && i < w->s->n_listen; i++) {
        const char *address = w->s->listen[i];
        if (c->https_port != 0) {
            e = open_listener(w, address, c->https_port, on_https, info);
        }
        if (e == OK && c->mqtts_port != 0 && w->s->program->on_mqtt != NULL) {
            e = open_listener(w, address, c->mqtts_port, on_mqtts, info);
        }
    }
    return e;
}

static enum err open_http(struct worker *w, struct err_info *info)
{
    struct server *s = w->s;
    const struct http_conf hc = {
        .loop = w->loop,
        .routes = s->routes,
        .n_routes = s->n_routes,
        .hooks = {.admit = worker_admit,
                  .refuse = worker_refuse,
                  .admit_ws = s->program->admit_ws != NULL ? worker_admit_ws : NULL,
                  .on_ws = s->program->on_ws != NULL ? worker_on_ws : NULL,
                  .arg = w},
        .max_connections = share(s, server_base_conf(s)->max_connections),
        .is_draining = worker_is_draining,
    };
    return http_server_new(&hc, &w->http, info);
}

static void tick(struct timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, tick);
    worker_publish_stats(w);
    timer_set(w->loop, &w->tick, TICK_MS, tick);
}

static enum err worker_setup(struct worker *w, struct err_info *info)
{
    struct server *s = w->s;
    enum err e;
    w->told_policy_epoch = atomic_load(&s->policy_epoch);
    w->told_trust_epoch = atomic_load(&s->trust_epoch);
    if ((e = crypto_lib_new(&w->crypto, info)) != OK ||
        (e = worker_make_tls(w, server_base_conf(s), &w->tls, info)) != OK ||
        (e = store_reader_open(s->store, &w->db, info)) != OK || (e = open_http(w, info)) != OK) {
        return e;
    }
    if (s->program->worker_init != NULL && (e = s->program->worker_init(w, info)) != OK) {
        return e;
    }
    worker_publish_stats(w);
    timer_set(w->loop, &w->tick, TICK_MS, tick);
    return OK;
}

/* --- end -------------------------------------------------------------------------------------- */

void worker_close_listeners(struct worker *w)
{
    worker_publish_stats(w);
    for (size_t i = 0; i < w->n_listeners; i++) {
        listener_free(w->listeners[i]);
    }
    w->n_listeners = 0;
}

static void worker_teardown(struct worker *w)
{
    timer_stop(w->loop, &w->tick);
    timer_stop(w->loop, &w->drain_poll);
    worker_close_listeners(w);
    w->is_ending = true;
    if (w->phase == WORKER_RUNNING && w->s->program->worker_done != NULL) {
        w->s->program->worker_done(w);
    }
    http_server_free(w->http);
    for (int i = 0; i < LAST_TURNS; i++) {
        loop_turn(w->loop, 0);
    }
    conns_end(w->loop);
    tls_ctx_unref(w->tls);
    policy_set_free(w->policies);
    trust_set_free(w->trust);
    crypto_lib_unref(w->crypto);
    store_reader_close(w->db);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct server *s = w->s;
    struct err_info info = {0};
    this_worker = w;
    enum err e = worker_setup(w, &info);
    (void)pthread_mutex_lock(&s->lock);
    w->start_err = e;
    w->start_info = info;
    w->phase = e == OK ? WORKER_RUNNING : WORKER_FAILED;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
    if (e == OK) {
        loop_run(w->loop);
    }
    worker_teardown(w);
    return NULL;
}

static struct worker *worker_new(struct server *s, unsigned index)
{
    struct worker *w = NEW(struct worker);
    if (w == NULL) {
        return NULL;
    }
    w->s = s;
    w->index = index;
    w->counters = aligned_alloc(64, SERVER_MAX_METRICS * sizeof(*w->counters));
    if (w->counters == NULL || loop_new(index, s->clock, &w->loop) != OK) {
        free((void *)w->counters);
        free(w);
        return NULL;
    }
    for (size_t i = 0; i < SERVER_MAX_METRICS; i++) {
        atomic_init(&w->counters[i], 0);
    }
    return w;
}

static enum err workers_make(struct server *s, unsigned n)
{
    s->workers = mem_new(n * sizeof(struct worker *));
    if (s->workers == NULL) {
        return E_NOMEM;
    }
    while (s->n_workers < n) {
        struct worker *w = worker_new(s, s->n_workers);
        if (w == NULL) {
            return E_NOMEM;
        }
        s->workers[s->n_workers++] = w;
    }
    return OK;
}

static enum err worker_start(struct worker *w, struct err_info *info)
{
    struct server *s = w->s;
    int rc = pthread_create(&w->thread, NULL, worker_main, w);
    if (rc != 0) {
        return err_set(info, err_from_errno(rc), "cannot start worker %u", w->index);
    }
    w->has_thread = true;
    (void)pthread_mutex_lock(&s->lock);
    while (w->phase == WORKER_STARTING) {
        (void)pthread_cond_wait(&s->changed, &s->lock);
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (w->start_err != OK && info != NULL) {
        *info = w->start_info;
    }
    return w->start_err;
}

/* Two instances of one user would share a port in silence (SO_REUSEPORT): ask for it alone first.
 * Whatever else is wrong with an address, the real listener tells better. */
static enum err probe_port(const char *address, uint64_t port, struct err_info *info)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *ai = NULL;
    char service[8];
    const int on = 1;
    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    if (port == 0 || getaddrinfo(address, service, &hints, &ai) != 0) {
        return OK;
    }
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_taken = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
                    bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 && errno == EADDRINUSE;
    if (fd >= 0) {
        (void)close(fd);
    }
    freeaddrinfo(ai);
    return !is_taken ? OK
                     : err_set(info, E_IN_USE,
                               "%s port %s is in use: end the program that holds it, or choose "
                               "another address or port",
                               address, service);
}

enum err workers_start(struct server *s, struct err_info *info)
{
    const struct server_conf *c = server_base_conf(s);
    enum err e = OK;
    for (size_t i = 0; e == OK && i < s->n_listen; i++) {
        if ((e = probe_port(s->listen[i], c->https_port, info)) == OK) {
            e = probe_port(s->listen[i], c->mqtts_port, info);
        }
    }
    if (e == OK) {
        e = workers_make(s, server_conf_workers(c));
    }
    /* One after the other: a worker that cannot start ends the start before the next one begins. */
    for (unsigned i = 0; e == OK && i < s->n_workers; i++) {
        e = worker_start(s->workers[i], info);
    }
    return e == OK ? workers_listen(s, info) : e;
}

void workers_stop(struct server *s)
{
    for (unsigned i = 0; i < s->n_workers; i++) {
        struct worker *w = s->workers[i];
        if (w->has_thread) {
            loop_stop(w->loop);
            (void)pthread_join(w->thread, NULL);
        }
    }
    for (unsigned i = 0; i < s->n_workers; i++) {
        loop_free(s->workers[i]->loop);
        free((void *)s->workers[i]->counters);
        free(s->workers[i]);
    }
    free(s->workers);
    s->workers = NULL;
    s->n_workers = 0;
}
