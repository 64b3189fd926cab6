/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Through an HTTP proxy: CONNECT (RFC 9110 9.3.6), between TCP and TLS. See conn_int.h.
 *
 * The deadline is conn_connect's. Of the answer's head LIMIT_HTTP_HEAD bytes are read, interim answers included; what a proxy sends
 * behind its 2xx before we have said a word comes from nobody we know: refused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/buf.h"
#include "net/conn_int.h"
#include "net/proxy.h"
#include "wire/http.h"
#include "wire/proxy.h"

#define REQUEST_MAX 2048u

struct conn_tunnel {
    char name[LIMIT_HOST + 16u];
    bool has_credential;
    struct buf out; /* wiped */
    size_t sent;
    struct buf in;
    size_t dropped; /* bytes of interim answers */
    size_t scanned;
};

const char *conn_tunnel_name(const struct conn_tunnel *t)
{
    return t->name;
}

static void forget_request(struct conn_tunnel *t)
{
    if (t->out.p != NULL) {
        mem_wipe(t->out.p, t->out.n);
    }
    buf_done(&t->out);
}

void conn_tunnel_free(struct conn_tunnel *t)
{
    if (t != NULL) {
        forget_request(t);
        buf_done(&t->in);
        free(t);
    }
}

enum err conn_tunnel_new(const struct proxy *p, const char *host, uint16_t port,
                         struct conn_tunnel **ret, struct err_info *info)
{
    struct conn_tunnel *t = NEW(struct conn_tunnel);
    if (t == NULL) {
        return E_NOMEM;
    }
    t->out = (struct buf)BUF_INIT(REQUEST_MAX);
    t->in = (struct buf)BUF_INIT(LIMIT_HTTP_HEAD);
    t->has_credential = p->credential.n > 0;
    (void)snprintf(t->name, sizeof(t->name),
                   strchr(p->host, ':') != NULL ? "proxy [%s]:%u" : "proxy %s:%u", p->host,
                   p->port);
    /* room for all at once, so that no copy of a password stays behind */
    enum err e = buf_reserve(&t->out, REQUEST_MAX) == NULL ? E_NOMEM : OK;
    if (e == OK) {
        e = proxy_connect_write(&t->out, span_str(host), port, secret_span(&p->credential), info);
    }
    if (e != OK) {
        conn_tunnel_free(t);
        return e;
    }
    *ret = t;
    return OK;
}

/* --- the answer ----------------------------------------------------------------------------- */

static bool offers_basic(struct span lines)
{
    struct span name, value;
    while (http_head_next(&lines, &name, &value)) {
        if (span_is_nocase(name, "Proxy-Authenticate") &&
            span_is_nocase(span_cut(&value, ' '), "Basic")) {
            return true;
        }
    }
    return false;
}

static enum err refused(const struct conn_origin *o, unsigned status, struct span lines,
                        struct err_info *info)
{
    const struct conn_tunnel *t = o->tunnel;
    if (status != 407 && status != 401) { /* 401 is tinyproxy's word for a wrong password */
        return err_set(info, E_NET, "%s refuses the way to %s (HTTP status %u)", t->name, o->host,
                       status);
    }
    const char *why = status == 407 && !offers_basic(lines) ? "wants a login that is not Basic"
                      : t->has_credential                   ? "refuses the user or the password"
                                                            : "wants a user and a password";
    return err_set(info, E_NET, "%s %s (HTTP status %u)", t->name, why, status);
}

/* E_AGAIN: more is needed. */
static enum err read_answer(const struct conn_origin *o, struct err_info *info)
{
    struct conn_tunnel *t = o->tunnel;
    unsigned status = 100;
    struct span lines;
    size_t n;
    while (status < 200) {
        enum err e = http_head_find(buf_span(&t->in), &t->scanned, &n);
        if (e == E_AGAIN && t->dropped + t->in.n >= LIMIT_HTTP_HEAD) {
            e = E_TOO_LARGE;
        }
        if (e == E_AGAIN) {
            return e;
        }
        if (e == OK) {
            e = http_answer_read(span_sub(buf_span(&t->in), 0, n), &status, &lines, info);
        }
        if (e != OK) {
            return err_set(info, e, "%s gives no HTTP answer: %s", t->name, err_text(e));
        }
        if (status < 200) {
            buf_drop(&t->in, n);
            t->dropped += n;
        }
    }
    if (status > 299) {
        return refused(o, status, lines, info);
    }
    return t->in.n == n ? OK
                        : err_set(info, E_MALFORMED, "%s sends what nobody asked for", t->name);
}

/* --- on the loop ------------------------------------------------------------------------------ */

/* E_AGAIN: the socket waits. */
static enum err send_request(struct conn *c, struct err_info *info)
{
    struct conn_tunnel *t = c->origin->tunnel;
    while (t->sent < t->out.n) {
        ssize_t n = send(c->w.fd, t->out.p + t->sent, t->out.n - t->sent, MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? E_AGAIN
                                                     : err_set_errno(info, errno, "%s", t->name);
        }
        t->sent += (size_t)n;
    }
    forget_request(t);
    return OK;
}

static enum err receive_answer(struct conn *c, struct err_info *info)
{
    struct conn_tunnel *t = c->origin->tunnel;
    uint8_t b[2048];
    ssize_t n = recv(c->w.fd, b, MIN(sizeof(b), LIMIT_HTTP_HEAD - t->dropped - t->in.n), 0);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? E_AGAIN
                                                 : err_set_errno(info, errno, "%s", t->name);
    }
    if (n == 0) {
        return err_set(info, E_NET, "%s closed the connection before its answer was whole",
                       t->name);
    }
    buf_add(&t->in, span_of(b, (size_t)n));
    return buf_err(&t->in) != OK ? buf_err(&t->in) : read_answer(c->origin, info);
}

void conn_tunnel_event(struct conn *c)
{
    struct conn_origin *o = c->origin;
    struct err_info *info = &o->info;
    bool is_asking = o->tunnel->sent < o->tunnel->out.n;
    enum err e = is_asking ? send_request(c, info) : receive_answer(c, info);
    if (e == E_AGAIN) {
        return;
    }
    if (e != OK) {
        conn_die(c, e);
    } else if (is_asking) {
        loop_rewatch(c->s.loop, &c->w, EPOLLIN);
    } else {
        conn_tunnel_free(TAKE(o->tunnel));
        conn_reached(c);
    }
}

void conn_tunnel_begin(struct conn *c)
{
    c->state = CONN_TUNNEL;
    if (loop_watch(c->s.loop, &c->w, c->w.fd, EPOLLOUT, conn_on_event) != OK) {
        conn_die(c, E_SYS);
    }
}
