/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a conn: reading into the handler, the output queue. See conn_int.h. */
#include "net/conn_int.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_FIRST 4096u   /* first size of the kept bytes when they grow */
#define OUT_FIRST 1024u  /* first size of the output queue */
#define OUT_DIRECT 8192u /* at least so much is not copied when nothing waits before it */

/* --- carriers ------------------------------------------------------------------------------ */

static enum tls_io plain_result(ssize_t n, size_t *ret_n)
{
    if (n > 0) {
        *ret_n = (size_t)n;
        return TLS_DONE;
    }
    if (n == 0) {
        return TLS_EOF;
    }
    return errno == EAGAIN || errno == EINTR ? TLS_WANT_READ : TLS_GONE;
}

static enum tls_io carrier_read(struct conn *c, uint8_t *p, size_t n, size_t *ret_n)
{
    if (c->tls.ssl != NULL) {
        return tls_read(&c->tls, p, n, ret_n, NULL);
    }
    return plain_result(recv(c->w.fd, p, n, MSG_DONTWAIT), ret_n);
}

static enum tls_io carrier_write(struct conn *c, const uint8_t *p, size_t n, size_t *ret_n)
{
    if (c->tls.ssl != NULL) {
        return tls_write(&c->tls, p, n, ret_n, NULL);
    }
    enum tls_io io = plain_result(send(c->w.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT), ret_n);
    return io == TLS_WANT_READ ? TLS_WANT_WRITE : io;
}

/* Is it worth asking again before epoll does? */
static bool carrier_has_more(const struct conn *c, size_t got, size_t room)
{
    return c->tls.ssl != NULL ? tls_has_pending(&c->tls) : got == room;
}

/* --- input --------------------------------------------------------------------------------- */

void conn_drop_input(struct conn *c)
{
    if (c->giving) {
        return; /* the handler still looks at it; give() comes back to it */
    }
    free(c->in);
    c->in = NULL;
    c->in_n = c->in_cap = 0;
}

static bool grow_input(struct conn *c, size_t cap)
{
    uint8_t *in = realloc(c->in, cap);
    if (in == NULL) {
        return false;
    }
    c->in = in;
    c->in_cap = (uint32_t)cap;
    return true;
}

/* Bytes are read into the loop's scratch, and stay with the conn only if the handler left some. */
static uint8_t *input_room(struct conn *c, size_t *ret_n)
{
    if (c->in_n == 0) {
        *ret_n = LIMIT_CONN_IN;
        return conns_scratch(conns_get(c->s.loop));
    }
    size_t want = MIN(c->s.want, UINT32_MAX);
    if (c->in_cap < want && c->in_cap - c->in_n < c->in_cap / 2 &&
        !grow_input(c, MIN(want, MAX(IN_FIRST, 2 * (size_t)c->in_cap)))) {
        return NULL;
    }
    *ret_n = MIN(c->in_cap, want) - c->in_n;
    return c->in + c->in_n;
}

static void keep_rest(struct conn *c, struct span rest)
{
    if (rest.n == 0 || (c->state != CONN_OPEN && c->state != CONN_MOVING)) {
        return;
    }
    if (!grow_input(c, MAX(rest.n, 64u))) {
        conn_die(c, E_NOMEM);
        return;
    }
    memcpy(c->in, rest.p, rest.n);
    c->in_n = (uint32_t)rest.n;
}

static size_t give(struct conn *c, struct span in)
{
    c->giving = true;
    size_t used = c->s.h->on_bytes(&c->s, c->s.arg, in);
    c->giving = false;
    ASSERT(used <= in.n);
    if (c->state != CONN_OPEN && c->state != CONN_MOVING) {
        conn_drop_input(c);
    }
    return used;
}

void conn_show_kept(struct conn *c)
{
    if (c->in_n == 0 || c->paused || c->state != CONN_OPEN) {
        return;
    }
    c->s.front = 0;
    size_t used = give(c, span_of(c->in, c->in_n));
    if (c->state != CONN_OPEN && c->state != CONN_MOVING) {
        return; /* dropped meanwhile */
    }
    c->in_n -= (uint32_t)used;
    if (c->in_n == 0) {
        conn_drop_input(c);
    } else if (used > 0) {
        memmove(c->in, c->in + used, c->in_n);
    }
}

static void take(struct conn *c, const uint8_t *p, size_t n)
{
    c->bytes_in += n;
    if (c->in_n > 0) {
        c->in_n += (uint32_t)n;
        conn_show_kept(c);
        return;
    }
    c->s.front = STREAM_FRONT; /* p is the scratch */
    size_t used = give(c, span_of(p, n));
    keep_rest(c, span_from(span_of(p, n), used));
}

static void read_ended(struct conn *c, enum tls_io io)
{
    switch (io) {
    case TLS_EOF:
        if (c->tls.ssl == NULL && c->s.h != NULL && c->s.h->on_end != NULL) {
            c->in_ended = true;
            conn_defer(c);
        } else {
            conn_die(c, OK);
        }
        break;
    case TLS_WANT_WRITE: /* OpenSSL owes the peer something before it goes on */
        c->out_blocked = true;
        c->again = true;
        break;
    case TLS_GONE:
        conn_die(c, E_NET);
        break;
    case TLS_BROKEN:
        conn_die(c, E_TLS);
        break;
    default:
        break;
    }
}

void conn_set_bulk(struct conn *c)
{
    c->is_bulk = true;
}

void conn_read(struct conn *c)
{
    size_t left = LIMIT_CONN_READ_A_TURN;
    while (conn_can_read(c)) {
        size_t room, got = 0;
        uint8_t *p = input_room(c, &room);
        if (p == NULL) {
            conn_die(c, E_NOMEM);
            return;
        }
        room = MIN(room, left);
        enum tls_io io = carrier_read(c, p, room, &got);
        if (io != TLS_DONE) {
            read_ended(c, io);
            return;
        }
        left -= got;
        bool has_more = carrier_has_more(c, got, room) || (c->is_bulk && got >= OUT_DIRECT);
        take(c, p, got);
        if (!has_more) {
            return;
        }
        if (left == 0) {
            c->again = true;
            conn_defer(c);
            return;
        }
    }
}

/* --- output -------------------------------------------------------------------------------- */

static bool queue(struct conn *c, struct span b)
{
    size_t pending = conn_out_pending(c);
    if (c->out_cap - c->out_n < b.n) {
        if (c->out_at > 0) {
            memmove(c->out, c->out + c->out_at, pending);
            c->out_at = 0;
            c->out_n = (uint32_t)pending;
        }
        size_t cap = MAX(c->out_cap, OUT_FIRST);
        while (cap < pending + b.n) {
            cap *= 2;
        }
        if (cap != c->out_cap) {
            uint8_t *out = realloc(c->out, cap);
            if (out == NULL) {
                return false;
            }
            c->out = out;
            c->out_cap = (uint32_t)cap;
        }
    }
    memcpy(c->out + c->out_n, b.p, b.n);
    c->out_n += (uint32_t)b.n;
    return true;
}

/* As much as leaves now; false: the conn is dead. */
static bool send_some(struct conn *c, struct span b, size_t *ret_sent)
{
    size_t sent = 0;
    while (sent < b.n && !c->out_blocked) {
        size_t n = 0;
        switch (carrier_write(c, b.p + sent, b.n - sent, &n)) {
        case TLS_DONE:
            sent += n;
            break;
        case TLS_WANT_WRITE:
        case TLS_WANT_READ: /* cannot come: no renegotiation; waiting for room is right anyway */
            c->out_blocked = true;
            break;
        default:
            conn_die(c, c->state == CONN_CLOSING ? E_CLOSED : E_NET);
            return false;
        }
    }
    c->bytes_out += sent;
    *ret_sent = sent;
    return true;
}

void conn_io_write(struct stream *s, struct span b)
{
    struct conn *c = conn_of(s);
    ASSERT_LOOP(s->loop);
    if (c->state != CONN_OPEN || b.n == 0) {
        return;
    }
    size_t sent = 0;
    if (b.n >= OUT_DIRECT && conn_out_pending(c) == 0 && !send_some(c, b, &sent)) {
        return;
    }
    b = span_from(b, sent);
    if (conn_out_pending(c) + b.n > LIMIT_CONN_OUT_MAX) {
        conn_die(c, E_TOO_LARGE);
        return;
    }
    if (b.n > 0 && !queue(c, b)) {
        conn_die(c, E_NOMEM);
        return;
    }
    if (conn_out_pending(c) > c->s.high) {
        c->is_full = true;
    }
    conn_defer(c);
}

void conn_flush(struct conn *c)
{
    size_t sent;
    if (conn_out_pending(c) == 0) {
        return;
    }
    if (!send_some(c, span_of(c->out + c->out_at, conn_out_pending(c)), &sent)) {
        return;
    }
    c->out_at += (uint32_t)sent;
    if (c->out_at == c->out_n) {
        free(c->out);
        c->out = NULL;
        c->out_at = c->out_n = c->out_cap = 0;
    }
    if (c->is_full && conn_out_pending(c) < c->s.high / 4) {
        c->is_full = false;
        if (c->state == CONN_OPEN && c->s.h != NULL && c->s.h->on_drained != NULL) {
            c->s.h->on_drained(&c->s, c->s.arg);
        }
    }
}

/* --- half-close ---------------------------------------------------------------------------- */

bool conn_io_end(struct stream *s)
{
    struct conn *c = conn_of(s);
    if (c->tls.ssl != NULL) {
        return false; /* close_notify ends a TLS connection of ours both ways */
    }
    c->end_asked = true;
    conn_defer(c);
    return true;
}

void conn_settle_ends(struct conn *c)
{
    if (c->in_ended && !c->end_told && c->in_n == 0 && !c->paused) {
        c->end_told = true;
        c->s.h->on_end(&c->s, c->s.arg);
    }
    if (c->end_asked && !c->out_ended && c->state == CONN_OPEN && conn_out_pending(c) == 0) {
        c->out_ended = true;
        if (shutdown(c->w.fd, SHUT_WR) != 0) {
            conn_die(c, E_NET);
        }
    }
    if (c->out_ended && c->end_told && c->state == CONN_OPEN) {
        conn_die(c, OK);
    }
}
