/* SPDX-License-Identifier: Apache-2.0 */
/* How a conn becomes usable: handshakes under their budget, client connections. See conn_int.h. */
#include "net/conn_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net/proxy.h"

/* --- origins ------------------------------------------------------------------------------- */

void conn_origin_free(struct conn_origin *o)
{
    if (o == NULL) {
        return;
    }
    if (o->all != NULL) {
        freeaddrinfo(o->all);
    }
    tls_ctx_unref(o->tls);
    conn_tunnel_free(o->tunnel);
    free(o->host);
    free(o);
}

const char *conn_next_hop(const struct conn_origin *o)
{
    return o->tunnel != NULL ? conn_tunnel_name(o->tunnel) : o->host;
}

void conn_origin_failed(struct conn *c, enum err why)
{
    struct conn_origin *o = TAKE(c->origin);
    if (o->done != NULL) {
        if (o->info.why[0] == '\0') {
            (void)err_set(&o->info, why, "%s: %s", conn_next_hop(o), err_text(why));
        }
        o->done(NULL, o->arg, why, &o->info);
    }
    conn_origin_free(o);
}

/* --- open ---------------------------------------------------------------------------------- */

static void set_int(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value)); /* not TCP (tests): nothing to set */
}

static void tell_open(struct conn *c)
{
    if (c->ls != NULL) {
        listener_call_open(c);
        return;
    }
    struct conn_origin *o = TAKE(c->origin);
    if (o == NULL) {
        return;
    }
    if (o->done != NULL) {
        o->done(c, o->arg, OK, NULL);
    } else if (o->on_open != NULL) {
        o->on_open(c, o->arg);
    }
    conn_origin_free(o);
}

static void opened(struct conn *c)
{
    c->state = CONN_OPEN;
    timer_stop(c->s.loop, &c->timer);
    set_int(c->w.fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (c->tls.ssl != NULL) {
        /* Without tickets nothing of ours carries the ACK of the client's last flight: a client with
         * Nagle's algorithm would wait 40 ms before its first packet. */
        set_int(c->w.fd, IPPROTO_TCP, TCP_QUICKACK, 1);
        enum err e = tls_take_peer(&c->tls, &c->peer_cert, NULL);
        if (e != OK) {
            conn_die(c, e);
            return;
        }
    }
    tell_open(c);
    ASSERT(c->s.h != NULL || c->state != CONN_OPEN); /* whoever opens it handles it */
    /* The first bytes may have come with the handshake's last: decrypted, unseen by epoll. */
    conn_read(c);
    conn_settle(c);
}

/* --- handshakes ---------------------------------------------------------------------------- */

static void handshake_failed(struct conn *c, enum tls_io io)
{
    if (c->ls != NULL) {
        listener_count(c->ls, LISTENER_HS_FAILED);
    }
    if (c->origin == NULL && io == TLS_BROKEN) {
        conn_linger(c); /* so that the alert arrives */
    } else {
        conn_die(c, io == TLS_BROKEN ? E_TLS : E_NET);
    }
}

static void handshake_step(struct conn *c)
{
    struct err_info *info = c->origin != NULL ? &c->origin->info : NULL;
    enum tls_io io = tls_handshake(&c->tls, info);
    switch (io) {
    case TLS_DONE:
        if (c->ls != NULL) {
            listener_count(c->ls, LISTENER_HS_OK);
        }
        opened(c);
        break;
    case TLS_WANT_READ:
        loop_rewatch(c->s.loop, &c->w, EPOLLIN);
        break;
    case TLS_WANT_WRITE:
        loop_rewatch(c->s.loop, &c->w, EPOLLOUT);
        break;
    default:
        handshake_failed(c, io);
        break;
    }
}

/*
 * The end of the turn, after everything that is established: LIMIT_HANDSHAKES_A_TURN steps, first come
 * first served. What waits behind them is muted, or its level-triggered events would fill every batch.
 */
void conns_run_handshakes(struct deferred *d)
{
    struct conns *cs = CONTAINER_OF(d, struct conns, run);
    for (unsigned i = 0; i < LIMIT_HANDSHAKES_A_TURN && !list_empty(&cs->handshakes); i++) {
        struct conn *c = LIST_OF(list_pop(&cs->handshakes), struct conn, hs);
        cs->n_handshakes--;
        handshake_step(c);
    }
    if (!list_empty(&cs->handshakes)) {
        loop_defer(cs->loop, d, conns_run_handshakes);
    }
    struct list *first = list_pop(&cs->doors);
    if (first != NULL) {
        list_add_tail(&cs->doors, first); /* each has its turn to be the first */
        LIST_EACH (n, &cs->doors) {
            door_knock(LIST_OF(n, struct door, link));
        }
    }
}

void conn_handshake_event(struct conn *c)
{
    if (!c->is_server) {
        handshake_step(c);
        return;
    }
    if (list_linked(&c->hs)) {
        return;
    }
    struct conns *cs = conns_get(c->s.loop);
    list_add_tail(&cs->handshakes, &c->hs);
    if (++cs->n_handshakes > LIMIT_HANDSHAKES_A_TURN) {
        loop_rewatch(c->s.loop, &c->w, 0);
    }
    loop_defer(cs->loop, &cs->run, conns_run_handshakes);
}

static void on_handshake_late(struct timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    if (c->ls != NULL) {
        listener_count(c->ls, LISTENER_HS_TIMEOUT);
    }
    conn_die(c, E_TIMEOUT);
}

void conn_start(struct conn *c)
{
    if (c->tls.ssl == NULL) {
        opened(c);
        return;
    }
    c->state = CONN_HANDSHAKE;
    struct loop *l = c->s.loop;
    if (c->origin == NULL || c->origin->deadline_ms == 0) {
        timer_set(l, &c->timer, LIMIT_HANDSHAKE_S * 1000u, on_handshake_late);
    }
    if (!c->w.active && loop_watch(l, &c->w, c->w.fd, EPOLLIN, conn_on_event) != OK) {
        conn_die(c, E_SYS);
        return;
    }
    if (!c->is_server) {
        handshake_step(c);
    }
}

/* --- taking a socket over ------------------------------------------------------------------- */

static void on_adopted(struct deferred *d)
{
    struct conn *c = CONTAINER_OF(d, struct conn, end);
    if (c->state == CONN_DYING) { /* aborted meanwhile */
        conn_origin_failed(c, c->why);
        conn_destroy(c);
        return;
    }
    conn_start(c);
}

enum err conn_adopt(struct loop *l, int fd, struct tls_ctx *tls, bool is_server,
                    conn_open_fn on_open, void *arg, struct conn **ret)
{
    ASSERT(tls == NULL || (is_server && on_open != NULL)); /* clients under TLS name their host */
    struct conn *c = conn_make(l, fd, is_server);
    if (c == NULL) {
        return E_NOMEM;
    }
    c->w.fd = -1; /* still the caller's */
    enum err e = OK;
    if (tls != NULL) {
        e = tls_begin(&c->tls, tls, fd, NULL, NULL);
    }
    if (e == OK && on_open != NULL && (c->origin = NEW(struct conn_origin)) == NULL) {
        e = E_NOMEM;
    }
    if (e != OK) {
        conn_destroy(c);
        return e;
    }
    c->w.fd = fd;
    socklen_t n = sizeof(c->peer);
    (void)getpeername(fd, &c->peer.any, &n); /* unknown: the family stays 0 */
    if (on_open != NULL) {
        c->origin->on_open = on_open;
        c->origin->arg = arg;
        loop_defer(l, &c->end, on_adopted);
    } else {
        c->state = CONN_OPEN; /* the caller sets the handler before the next turn */
        conn_settle(c);
    }
    *ret = c;
    return OK;
}

/* --- clients ------------------------------------------------------------------------------- */

static enum err resolve(const char *host, uint16_t port, struct addrinfo **ret,
                        struct err_info *info)
{
    char service[8];
    (void)snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    int rc = getaddrinfo(host, service, &hints, ret);
    if (rc == EAI_NONAME) {
        hints.ai_flags = AI_NUMERICSERV;
        rc = getaddrinfo(host, service, &hints, ret);
    }
    return rc == 0 ? OK : err_set(info, E_NET, "%s: %s", host, gai_strerror(rc));
}

/* Starts with the next address that takes a socket at all. */
static enum err try_next(struct conn *c, struct err_info *info)
{
    struct conn_origin *o = c->origin;
    enum err e = err_set(info, E_NET, "%s: no address", conn_next_hop(o));
    for (; o->next != NULL; o->next = o->next->ai_next) {
        const struct addrinfo *a = o->next;
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            e = err_set_errno(info, errno, "socket");
            continue;
        }
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS) {
            memcpy(&c->peer, a->ai_addr, MIN(a->ai_addrlen, sizeof(c->peer)));
            e = loop_watch(c->s.loop, &c->w, fd, EPOLLOUT, conn_on_event);
            c->w.fd = fd;
            o->next = a->ai_next;
            return e;
        }
        (void)err_set_errno(info, errno, "%s", conn_next_hop(o));
        e = E_NET;
        (void)close(fd);
    }
    return e;
}

void conn_connect_event(struct conn *c)
{
    struct conn_origin *o = c->origin;
    int errnum = 0;
    socklen_t n = sizeof(errnum);
    if (getsockopt(c->w.fd, SOL_SOCKET, SO_ERROR, &errnum, &n) != 0) {
        errnum = errno;
    }
    loop_unwatch(c->s.loop, &c->w);
    if (errnum != 0) {
        (void)err_set_errno(&o->info, errnum, "%s", conn_next_hop(o));
        (void)close(c->w.fd);
        c->w.fd = -1;
        if (o->next == NULL || try_next(c, &o->info) != OK) {
            conn_die(c, E_NET);
        }
        return;
    }
    o->info.why[0] = '\0';
    if (o->tunnel != NULL) {
        conn_tunnel_begin(c);
    } else {
        conn_reached(c);
    }
}

void conn_reached(struct conn *c)
{
    struct conn_origin *o = c->origin;
    if (o->tls != NULL && tls_begin(&c->tls, o->tls, c->w.fd, o->host, &o->info) != OK) {
        conn_die(c, E_TLS);
        return;
    }
    conn_start(c);
}

enum err conn_connect(struct loop *l, const struct conn_target *to, conn_connected_fn done,
                      void *arg, struct conn **ret, struct err_info *info)
{
    ASSERT(to->proxy == NULL || (to->tls != NULL && to->timeout_ms != 0));
    struct conn *c = conn_make(l, -1, false);
    struct conn_origin *o = NEW(struct conn_origin);
    char *name = span_dup(span_str(to->host));
    if (c == NULL || o == NULL || name == NULL) {
        if (c != NULL) {
            conn_destroy(c);
        }
        free(o);
        free(name);
        return err_set(info, E_NOMEM, "connection to %s", to->host);
    }
    *o = (struct conn_origin){.done = done,
                              .arg = arg,
                              .host = name,
                              .tls = tls_ctx_ref(to->tls),
                              .deadline_ms = to->timeout_ms};
    c->origin = o;
    c->state = CONN_CONNECTING;
    enum err e = OK;
    if (to->proxy != NULL) {
        e = conn_tunnel_new(to->proxy, to->host, to->port, &o->tunnel, info);
    }
    if (e == OK) {
        e = to->proxy == NULL ? resolve(to->host, to->port, &o->all, info)
            : resolve(to->proxy->host, to->proxy->port, &o->all, info) != OK
                ? err_wrap(info, E_NET, "proxy")
                : OK;
    }
    o->next = o->all;
    if (e != OK || (e = try_next(c, info)) != OK) {
        conn_destroy(c);
        return e;
    }
    if (to->timeout_ms != 0) {
        timer_set(l, &c->timer, to->timeout_ms, on_handshake_late);
    }
    *ret = c;
    return OK;
}
