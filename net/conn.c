/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: one machine, from accepting to the last byte out; every path ends in the same few functions. */
#include "net/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net/conn_int.h"

static const struct stream_ops conn_ops;

/* --- per loop ------------------------------------------------------------------------------ */

struct conns *conns_get(struct loop *l)
{
    struct conns *cs = loop_shared(l);
    if (cs == NULL && (cs = NEW(struct conns)) != NULL) {
        cs->loop = l;
        list_init(&cs->all);
        list_init(&cs->lent);
        list_init(&cs->handshakes);
        list_init(&cs->doors);
        loop_set_shared(l, cs, free);
    }
    return cs;
}

/* --- life ---------------------------------------------------------------------------------- */

struct conn *conn_make(struct loop *l, int fd, bool is_server)
{
    struct conns *cs = conns_get(l);
    struct conn *c = cs != NULL ? NEW(struct conn) : NULL;
    if (c == NULL) {
        return NULL;
    }
    list_add_tail(&cs->all, &c->all);
    c->s = (struct stream){
        .ops = &conn_ops, .loop = l, .want = LIMIT_CONN_IN, .high = LIMIT_CONN_OUT_HIGH};
    c->w.fd = fd;
    c->is_server = is_server;
    c->state = CONN_HANDSHAKE;
    return c;
}

/* No step of its handshake is due any more: it would watch, or open, what has died. */
static void forget_step(struct conn *c)
{
    if (list_linked(&c->hs)) {
        list_del(&c->hs);
        conns_get(c->s.loop)->n_handshakes--;
    }
}

void conn_destroy(struct conn *c)
{
    struct loop *l = c->s.loop;
    loop_unwatch(l, &c->w);
    timer_stop(l, &c->timer);
    loop_undefer(l, &c->end);
    list_del(&c->all);
    forget_step(c);
    tls_end(&c->tls);
    if (c->w.fd >= 0) {
        (void)close(c->w.fd); /* nothing is owed any more */
    }
    listener_forget(c);
    conn_origin_free(c->origin);
    free(c->in);
    free(c->out);
    tls_peer_free(c->peer_cert);
    free(c->peer_sha256);
    free(c->text);
    free(c);
}

void conns_end(struct loop *l)
{
    struct conns *cs = loop_shared(l);
    if (cs == NULL) {
        return;
    }
    conns_settle_lent(cs, true);
    LIST_EACH_SAFE (n, tmp, &cs->all) {
        struct conn *c = LIST_OF(n, struct conn, all);
        /* No handler and no origin: in a handshake for a listener, or lingering. */
        if (c->s.h == NULL && c->origin == NULL) {
            conn_destroy(c);
        }
    }
}

static void on_linger_over(struct timer *t)
{
    conn_destroy(CONTAINER_OF(t, struct conn, timer));
}

/* Without the wait, closing with unread input sends a reset, which can overtake our last bytes. */
void conn_linger(struct conn *c)
{
    if (c->tls.ssl != NULL) {
        tls_shut(&c->tls);
        tls_end(&c->tls);
    }
    conn_drop_input(c);
    c->state = CONN_LINGER;
    c->s.h = NULL;
    if (shutdown(c->w.fd, SHUT_WR) != 0) {
        conn_destroy(c);
        return;
    }
    timer_set(c->s.loop, &c->timer, LIMIT_CONN_LINGER_MS, on_linger_over);
    conn_settle(c);
}

static void linger_event(struct conn *c)
{
    uint8_t *trash = conns_scratch(conns_get(c->s.loop));
    for (int i = 0; i < 4; i++) {
        ssize_t n = recv(c->w.fd, trash, LIMIT_CONN_IN, MSG_DONTWAIT);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                conn_destroy(c);
            }
            return;
        }
    }
}

void conn_die(struct conn *c, enum err why)
{
    if (c->state == CONN_LINGER) {
        conn_destroy(c);
        return;
    }
    if (c->state == CONN_DYING) {
        return;
    }
    /* A flush was promised and failed, or is over: for the handler it is its own close. */
    c->why = why;
    c->state = CONN_DYING;
    forget_step(c);
    loop_unwatch(c->s.loop, &c->w);
    timer_stop(c->s.loop, &c->timer);
    conn_drop_input(c);
    conn_defer(c);
}

static void finish_dying(struct conn *c)
{
    const struct stream_handler *h = c->s.h;
    if (c->why == OK) {
        conn_flush(c); /* a peer that only ended its half still reads the answer */
    }
    if (c->origin != NULL) {
        conn_origin_failed(c, c->why);
    } else if (h != NULL) {
        c->s.h = NULL;
        h->on_close(&c->s, c->s.arg, c->why);
    }
    conn_destroy(c);
}

static void finish_closing(struct conn *c)
{
    const struct stream_handler *h = c->s.h;
    if (h != NULL) {
        c->s.h = NULL;
        h->on_close(&c->s, c->s.arg, E_CLOSED);
    }
    conn_linger(c);
}

static void end_of_turn(struct deferred *d)
{
    struct conn *c = CONTAINER_OF(d, struct conn, end);
    if (c->state == CONN_MOVING) {
        conn_depart(c);
        return;
    }
    if (c->again && c->state == CONN_OPEN) {
        c->again = false;
        conn_show_kept(c);
        conn_read(c);
    }
    if (c->state == CONN_OPEN || c->state == CONN_CLOSING) {
        conn_flush(c);
    }
    if (c->state == CONN_OPEN && (c->in_ended || c->end_asked)) {
        conn_settle_ends(c);
    }
    if (c->state == CONN_CLOSING && conn_out_pending(c) == 0) {
        finish_closing(c);
    } else if (c->state == CONN_DYING) {
        finish_dying(c);
    } else {
        conn_settle(c);
    }
}

void conn_defer(struct conn *c)
{
    loop_defer(c->s.loop, &c->end, end_of_turn);
}

/* --- events -------------------------------------------------------------------------------- */

bool conn_can_read(const struct conn *c)
{
    return c->state == CONN_OPEN && !c->paused && !c->in_ended && c->in_n < MAX(c->s.want, 1);
}

static uint32_t wanted_events(const struct conn *c)
{
    switch (c->state) {
    case CONN_OPEN:
        return (conn_can_read(c) ? (uint32_t)EPOLLIN : 0) |
               (c->out_blocked ? (uint32_t)EPOLLOUT : 0);
    case CONN_CLOSING:
        return c->out_blocked ? EPOLLOUT : 0;
    case CONN_LINGER:
        return EPOLLIN;
    default:
        return c->w.events; /* the handshake sets its own */
    }
}

void conn_settle(struct conn *c)
{
    if (c->state == CONN_DYING) {
        return;
    }
    uint32_t events = wanted_events(c);
    if (c->w.active) {
        loop_rewatch(c->s.loop, &c->w, events);
    } else if (events != 0 && loop_watch(c->s.loop, &c->w, c->w.fd, events, conn_on_event) != OK) {
        conn_die(c, E_SYS);
    }
}

static void open_event(struct conn *c, uint32_t events)
{
    if ((events & EPOLLOUT) != 0) {
        c->out_blocked = false;
        conn_defer(c);
    }
    if (conn_can_read(c)) {
        if ((events & ~(uint32_t)EPOLLOUT) != 0) {
            conn_read(c);
        }
    } else if ((events & EPOLLERR) != 0) {
        conn_die(c, E_NET);
    } else if ((events & EPOLLHUP) != 0 && c->in_ended && c->in_n == 0) {
        conn_die(c, conn_out_pending(c) == 0 ? OK : E_NET); /* it does not read either */
    } else if ((events & EPOLLHUP) != 0) {
        /* Told although nobody asked: silence until someone reads or writes. */
        loop_unwatch(c->s.loop, &c->w);
        c->out_blocked = false;
        return;
    }
    conn_settle(c);
}

static void closing_event(struct conn *c, uint32_t events)
{
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        conn_die(c, E_CLOSED);
        return;
    }
    c->out_blocked = false;
    conn_defer(c);
}

void conn_on_event(struct watch *w, uint32_t events)
{
    struct conn *c = CONTAINER_OF(w, struct conn, w);
    switch (c->state) {
    case CONN_CONNECTING:
        conn_connect_event(c);
        break;
    case CONN_TUNNEL:
        conn_tunnel_event(c);
        break;
    case CONN_WAITING:
        door_event(c, events);
        break;
    case CONN_HANDSHAKE:
        conn_handshake_event(c);
        break;
    case CONN_OPEN:
        open_event(c, events);
        break;
    case CONN_CLOSING:
        closing_event(c, events);
        break;
    case CONN_LINGER:
        linger_event(c);
        break;
    default:
        break;
    }
}

/* --- as a stream --------------------------------------------------------------------------- */

static void op_pause(struct stream *s, bool paused)
{
    struct conn *c = conn_of(s);
    if (c->paused == paused) {
        return;
    }
    c->paused = paused;
    if (!paused) {
        c->again = true; /* what is kept here, or decrypted in OpenSSL, where epoll cannot see it */
    }
    conn_defer(c);
}

static void on_close_late(struct timer *t)
{
    conn_die(CONTAINER_OF(t, struct conn, timer), E_CLOSED);
}

static void op_close(struct stream *s)
{
    struct conn *c = conn_of(s);
    if (c->state == CONN_CONNECTING || c->state == CONN_TUNNEL || c->state == CONN_HANDSHAKE) {
        conn_die(c, E_CLOSED);
    } else if (c->state == CONN_OPEN) {
        c->state = CONN_CLOSING;
        conn_drop_input(c);
        timer_set(s->loop, &c->timer, LIMIT_CONN_CLOSE_S * 1000u, on_close_late);
        conn_defer(c);
    }
}

static void op_abort(struct stream *s, enum err why)
{
    conn_die(conn_of(s), why);
}

static bool op_is_full(const struct stream *s)
{
    const struct conn *c = CONTAINER_OF((struct stream *)(uintptr_t)s, struct conn, s);
    return c->is_full;
}

static size_t op_pending(const struct stream *s)
{
    return conn_out_pending(CONTAINER_OF((struct stream *)(uintptr_t)s, struct conn, s));
}

static struct conn *op_conn(struct stream *s)
{
    return conn_of(s);
}

static void op_again(struct stream *s)
{
    conn_of(s)->again = true;
    conn_defer(conn_of(s));
}

static const struct stream_ops conn_ops = {
    .write = conn_io_write,
    .pause = op_pause,
    .close = op_close,
    .abort = op_abort,
    .is_full = op_is_full,
    .pending = op_pending,
    .conn = op_conn,
    .again = op_again,
    .end = conn_io_end,
};

/* --- what is known of it ------------------------------------------------------------------- */

struct stream *conn_stream(struct conn *c)
{
    return &c->s;
}

struct loop *conn_loop(struct conn *c)
{
    return c->s.loop;
}

bool conn_is_tls(const struct conn *c)
{
    return c->tls.ssl != NULL;
}

uint64_t conn_bytes_in(const struct conn *c)
{
    return c->bytes_in;
}

uint64_t conn_bytes_out(const struct conn *c)
{
    return c->bytes_out;
}

const struct sockaddr *conn_peer_addr(const struct conn *c, socklen_t *ret_len)
{
    switch (c->peer.any.sa_family) {
    case AF_INET:
        *ret_len = sizeof(struct sockaddr_in);
        break;
    case AF_INET6:
        *ret_len = sizeof(struct sockaddr_in6);
        break;
    default:
        *ret_len = sizeof(sa_family_t);
        break;
    }
    return &c->peer.any;
}

static uint16_t addr_text(const struct sockaddr *a, char dst[INET6_ADDRSTRLEN])
{
    dst[0] = '\0';
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *in4 = (const void *)a;
        (void)inet_ntop(AF_INET, &in4->sin_addr, dst, INET6_ADDRSTRLEN);
        return ntohs(in4->sin_port);
    }
    if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)a;
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            (void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], dst, INET6_ADDRSTRLEN);
        } else {
            (void)inet_ntop(AF_INET6, &in6->sin6_addr, dst, INET6_ADDRSTRLEN);
        }
        return ntohs(in6->sin6_port);
    }
    return 0;
}

/* A cache: the conn stays the same for every caller. */
static const struct conn_text *text_of(const struct conn *c)
{
    struct conn *w = (struct conn *)(uintptr_t)c;
    if (c->text == NULL && (w->text = NEW(struct conn_text)) != NULL) {
        struct sockaddr_storage local = {.ss_family = AF_UNSPEC};
        socklen_t n = sizeof(local);
        (void)getsockname(c->w.fd, (struct sockaddr *)&local, &n); /* unknown: empty text */
        w->text->local_port = addr_text((struct sockaddr *)&local, w->text->local);
        (void)addr_text(&c->peer.any, w->text->peer);
    }
    return c->text;
}

const char *conn_peer_text(const struct conn *c)
{
    const struct conn_text *t = text_of(c);
    return t != NULL ? t->peer : "";
}

const char *conn_local_text(const struct conn *c)
{
    const struct conn_text *t = text_of(c);
    return t != NULL ? t->local : "";
}

uint16_t conn_local_port(const struct conn *c)
{
    const struct conn_text *t = text_of(c);
    return t != NULL ? t->local_port : 0;
}

static struct span cert_at(const struct tls_peer *p, size_t i)
{
    return span_of(p->der + p->at[i], p->at[i + 1] - p->at[i]);
}

void conn_peer_cert(struct conn *c, struct cert_peer *ret)
{
    const struct tls_peer *p = c->peer_cert;
    *ret = (struct cert_peer){.n_chain = 0};
    (void)conn_peer_thumbprint(c, ret->leaf_sha256);
    if (p != NULL) {
        ret->leaf_der = cert_at(p, 0);
        ret->leaf = p->leaf;
        ret->leaf_lib = p->lib;
        for (size_t i = 1; i < p->n; i++) {
            ret->chain_der[ret->n_chain++] = cert_at(p, i);
        }
    }
}

void conn_forget_peer_cert(struct conn *c)
{
    if (c->peer_cert == NULL) {
        return;
    }
    c->peer_sha256 = malloc(CERT_SHA256);
    if (c->peer_sha256 != NULL) { /* else it is kept whole: the thumbprint was promised */
        memcpy(c->peer_sha256, c->peer_cert->leaf_sha256, CERT_SHA256);
        tls_peer_free(c->peer_cert);
        c->peer_cert = NULL;
    }
}

bool conn_peer_thumbprint(const struct conn *c, uint8_t ret_sha256[CERT_SHA256])
{
    const uint8_t *p = c->peer_cert != NULL ? c->peer_cert->leaf_sha256 : c->peer_sha256;
    if (p != NULL) {
        memcpy(ret_sha256, p, CERT_SHA256);
    }
    return p != NULL;
}
