/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net/conn_int.h"

#define BACKLOG 4096

struct listener {
    struct loop *loop;
    struct watch w;
    struct timer pause; /* out of descriptors, or too many wait */
    struct tls_ctx *tls;
    conn_open_fn on_open;
    void *arg;
    struct door door;
    struct listener_stats stats;
    uint16_t port;
    bool is_closed; /* by its owner; lives until its last connection has gone */
};

static void on_pause_over(struct timer *t);

struct span conn_source_key(const struct conn *c, uint8_t key[8])
{
    if (c->peer.any.sa_family == AF_INET) {
        memcpy(key, &c->peer.in4.sin_addr, 4);
        return span_of(key, 4);
    }
    if (c->peer.any.sa_family == AF_INET6) {
        const uint8_t *a = c->peer.in6.sin6_addr.s6_addr;
        if (IN6_IS_ADDR_V4MAPPED(&c->peer.in6.sin6_addr)) {
            memcpy(key, a + 12, 4);
            return span_of(key, 4);
        }
        memcpy(key, a, 8);
        return span_of(key, 8);
    }
    return SPAN_NONE;
}

void conn_mark_authenticated(struct conn *c)
{
    if (c->is_unauthenticated) {
        door_leave(&c->ls->door, c);
    }
}

/* --- connections of a listener --------------------------------------------------------------- */

static void free_if_over(struct listener *ls)
{
    if (ls->is_closed && ls->stats.open == 0) {
        tls_ctx_unref(ls->tls);
        door_done(&ls->door);
        free(ls);
    }
}

void listener_forget(struct conn *c)
{
    struct listener *ls = c->ls;
    if (ls != NULL) {
        door_leave(&ls->door, c);
        c->ls = NULL;
        ls->stats.open--;
        free_if_over(ls);
    }
}

void listener_call_open(struct conn *c)
{
    c->ls->on_open(c, c->ls->arg);
}

void listener_count(struct listener *ls, enum listener_event ev)
{
    switch (ev) {
    case LISTENER_HS_OK:
        ls->stats.handshake_ok++;
        break;
    case LISTENER_HS_FAILED:
        ls->stats.handshake_failed++;
        break;
    case LISTENER_HS_TIMEOUT:
        ls->stats.handshake_timeout++;
        break;
    }
}

struct door *listener_door(struct listener *ls)
{
    return &ls->door;
}

void listener_let_in(struct conn *c, bool has_said)
{
    struct listener *ls = c->ls;
    if (ls->tls != NULL && tls_begin(&c->tls, ls->tls, c->w.fd, NULL, NULL) != OK) {
        ls->stats.handshake_failed++;
        conn_die(c, E_TLS);
        return;
    }
    conn_start(c);
    if (has_said && c->state == CONN_HANDSHAKE) {
        conn_handshake_event(c);
    }
}

/* fd is taken in any case. */
static void take_socket(struct listener *ls, int fd, const struct sockaddr_storage *peer,
                        socklen_t n)
{
    struct conn *c = conn_make(ls->loop, fd, true);
    if (c == NULL) {
        (void)close(fd); /* no memory for it: the peer sees the end */
        return;
    }
    memcpy(&c->peer, peer, MIN((size_t)n, sizeof(c->peer)));
    ls->stats.accepted++;
    ls->stats.open++;
    c->ls = ls;
    if (!door_arrive(&ls->door, c)) {
        conn_destroy(c);
    }
}

static void pause_accepting(struct listener *ls)
{
    /* Level-triggered accept would spin until someone closes something. */
    loop_unwatch(ls->loop, &ls->w);
    timer_set(ls->loop, &ls->pause, LIMIT_ACCEPT_PAUSE_MS, on_pause_over);
}

/* False: nothing more now. */
static bool accept_one(struct listener *ls)
{
    struct sockaddr_storage peer;
    socklen_t n = sizeof(peer);
    int fd = accept4(ls->w.fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        take_socket(ls, fd, &peer, n);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        pause_accepting(ls);
        return false;
    case EAGAIN:
        return false;
    default:
        return true; /* this one died in the queue (ECONNABORTED and the like) */
    }
}

static void on_acceptable(struct watch *w, uint32_t events)
{
    (void)events;
    struct listener *ls = CONTAINER_OF(w, struct listener, w);
    for (unsigned i = 0; i < LIMIT_ACCEPTS_A_TURN && !door_is_full(&ls->door) && accept_one(ls);
         i++) {
    }
    if (door_is_full(&ls->door)) {
        pause_accepting(ls); /* the kernel keeps them, in their order */
    }
}

static void on_pause_over(struct timer *t)
{
    struct listener *ls = CONTAINER_OF(t, struct listener, pause);
    if (loop_watch(ls->loop, &ls->w, ls->w.fd, EPOLLIN, on_acceptable) != OK) {
        timer_set(ls->loop, &ls->pause, LIMIT_ACCEPT_PAUSE_MS, on_pause_over);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

static enum err parse_address(const struct listener_conf *conf, struct sockaddr_storage *ret,
                              socklen_t *ret_n, struct err_info *info)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(conf->port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(conf->port)};
    if (inet_pton(AF_INET, conf->address, &in4.sin_addr) == 1) {
        memcpy(ret, &in4, sizeof(in4));
        *ret_n = sizeof(in4);
    } else if (inet_pton(AF_INET6, conf->address, &in6.sin6_addr) == 1) {
        memcpy(ret, &in6, sizeof(in6));
        *ret_n = sizeof(in6);
    } else {
        return err_set(info, E_CONFIG, "\"%s\" is not an address", conf->address);
    }
    return OK;
}

static enum err bind_failed(const struct listener_conf *conf, int errnum, struct err_info *info)
{
    switch (errnum) {
    case EADDRINUSE:
        return err_set(info, E_IN_USE, "%s:%u is in use", conf->address, conf->port);
    case EACCES:
        return err_set(info, E_PERM,
                       "%s:%u needs the right to ports below 1024; cure: AmbientCapabilities="
                       "CAP_NET_BIND_SERVICE in the unit, or sysctl "
                       "net.ipv4.ip_unprivileged_port_start=%u",
                       conf->address, conf->port, conf->port);
    default:
        return err_set_errno(info, errnum, "listen on %s:%u", conf->address, conf->port);
    }
}

static enum err open_socket(const struct listener_conf *conf, int fd, struct err_info *info)
{
    struct sockaddr_storage a;
    socklen_t n = 0;
    enum err e = parse_address(conf, &a, &n, info);
    if (e != OK) {
        return e;
    }
    const int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (conf->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) ||
        bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, BACKLOG) != 0) {
        return bind_failed(conf, errno, info);
    }
    return OK;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage a = {.ss_family = AF_UNSPEC};
    socklen_t n = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0) {
        return 0;
    }
    return ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&a)->sin_port
                                        : ((struct sockaddr_in6 *)(void *)&a)->sin6_port);
}

enum err listener_new(struct loop *l, const struct listener_conf *conf, struct listener **ret,
                      struct err_info *info)
{
    struct listener *ls = NEW(struct listener);
    if (ls == NULL) {
        return err_set(info, E_NOMEM, "listener");
    }
    int family = strchr(conf->address, ':') != NULL ? AF_INET6 : AF_INET;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    enum err e = fd < 0 ? err_set_errno(info, errno, "socket") : open_socket(conf, fd, info);
    if (e == OK) {
        e = loop_watch(l, &ls->w, fd, EPOLLIN, on_acceptable);
    }
    if (e != OK) {
        if (fd >= 0) {
            (void)close(fd); /* it never served */
        }
        free(ls);
        return e;
    }
    ls->loop = l;
    ls->tls = tls_ctx_ref(conf->tls);
    ls->on_open = conf->on_open;
    ls->arg = conf->arg;
    door_init(&ls->door, l, conf->max_unauthenticated, conf->max_unauthenticated_per_source);
    ls->port = bound_port(fd);
    *ret = ls;
    return OK;
}

void listener_free(struct listener *ls)
{
    if (ls == NULL) {
        return;
    }
    /* What waits in the queue shook hands with the kernel already: closing would reset it. */
    for (int i = 0; i < BACKLOG && accept_one(ls); i++) {
    }
    timer_stop(ls->loop, &ls->pause);
    loop_unwatch(ls->loop, &ls->w);
    (void)close(ls->w.fd);
    ls->is_closed = true;
    free_if_over(ls);
}

void listener_take(struct listener *ls, struct conn *c)
{
    ASSERT(c->ls == NULL && ls->loop == c->s.loop);
    c->ls = ls;
    ls->stats.open++;
}

uint16_t listener_port(const struct listener *ls)
{
    return ls->port;
}

void listener_set_tls(struct listener *ls, struct tls_ctx *tls)
{
    struct tls_ctx *old = ls->tls;
    ls->tls = tls_ctx_ref(tls);
    tls_ctx_unref(old);
    struct conns *cs = loop_shared(ls->loop);
    if (cs != NULL) {
        conns_settle_lent(cs, false);
    }
}

void listener_stats(const struct listener *ls, struct listener_stats *ret)
{
    *ret = ls->stats;
    ret->refused_budget = ls->door.refused;
    ret->unauthenticated = ls->door.n_inside;
    ret->waiting = ls->door.n_waiting;
}
