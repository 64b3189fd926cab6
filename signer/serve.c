/* SPDX-License-Identifier: Apache-2.0 */
#include "signer/serve.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/text.h"

#define DAY_US (86400LL * 1000000)
#define BACKDATE_MOST_US DAY_US
#define ROOT_LIFE_MOST_US (36600LL * DAY_US)

struct peer {
    struct list link; /* guarded by serve.lock */
    struct serve *serve;
    int fd;
    unsigned uid;
    pthread_t thread;
    bool is_over; /* its thread is at its end; guarded by serve.lock */
};
struct serve {
    struct serve_rules rules;
    struct desk *desk;
    struct book *book;
    const struct clock *clock;
    int fd;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    pthread_mutex_t lock; /* of the list */
    struct list peers;
    size_t n;
};

/* --- judging ---------------------------------------------------------------------------------------------- */

static enum err judge_dates(const struct serve *s, const struct desk_ask *a, const struct cert *ca,
                            struct err_info *info)
{
    int64_t now_us = clock_wall_us(s->clock);
    if (a->not_before_us < now_us - BACKDATE_MOST_US || a->not_before_us < cert_not_before_us(ca) ||
        a->not_after_us > cert_not_after_us(ca)) {
        return err_set(info, E_EXPIRED, "the dates asked for are outside the CA's, or long past");
    }
    return a->not_after_us - now_us > s->rules.most_life_us
               ? err_set(info, E_CERT, "a life of that length is not given")
               : OK;
}

static enum err judge_csr(const struct serve *s, const struct desk_ask *a, const struct csr *csr,
                          struct err_info *info)
{
    struct span cn;
    enum err e = csr_cn(csr, &cn, info);
    if (e != OK) {
        return e;
    }
    if (!span_eq_nocase(cn, a->cn)) {
        return err_set(info, E_CERT, "the request's CN is another");
    }
    enum key_type type = csr_key_type(csr);
    if (type == KEY_TYPES || (s->rules.key_types & (1u << type)) == 0) {
        return err_set(info, E_CERT, "a key of this kind is not certified here");
    }
    return a->also_server && !s->rules.also_server
               ? err_set(info, E_CERT, "certificates for servers are not given")
               : OK;
}

static enum err note(struct serve *s, const struct desk_ask *a, unsigned uid, enum book_act act,
                     const struct cert *c, struct err_info *info)
{
    AUTO(buf_done) struct buf what = BUF_INIT(512);
    buf_add(&what, a->cn);
    if (c != NULL) {
        buf_add_u8(&what, ' ');
        cert_add_serial_hex(c, &what);
        buf_add_u8(&what, ' ');
        hex_add(&what, span_of(cert_sha256(c), CERT_SHA256), false);
    }
    if (buf_err(&what) != OK) {
        return buf_err(&what);
    }
    const struct book_line line = {act, a->key.name, uid, buf_span(&what)};
    return book_add(s->book, &line, info);
}

static enum err issue(struct serve *s, const struct desk_ask *a, unsigned uid, struct buf *out,
                      struct err_info *info)
{
    AUTO(cert_free_p) struct cert *ca = NULL, *leaf = NULL;
    AUTO(csr_free_p) struct csr *csr = NULL;
    enum err e;
    if ((e = cert_from_der(a->ca, &ca, info)) != OK ||
        (e = csr_from_der(a->csr, &csr, info)) != OK) {
        return e;
    }
    if (!cert_is_ca(ca)) {
        return err_set(info, E_CERT, "what is called the CA's certificate is none of a CA");
    }
    const struct desk_issue rq = {
        .key = a->key,
        .ca = ca,
        .csr = a->csr,
        .known = csr,
        .rq = {.profile = PROFILE_DEVICE,
               .cn = a->cn,
               .organization = a->organization,
               .also_server = a->also_server,
               .not_before_us = a->not_before_us,
               .not_after_us = a->not_after_us},
    };
    if ((e = judge_csr(s, a, csr, info)) != OK || (e = judge_dates(s, a, ca, info)) != OK ||
        (e = book_room(s->book, BOOK_ISSUE, info)) != OK ||
        (e = desk_issue(s->desk, &rq, &leaf, info)) != OK ||
        (e = note(s, a, uid, BOOK_ISSUE, leaf, info)) != OK) {
        return e;
    }
    const struct desk_answer answer = {.part = {cert_der(leaf)}};
    return desk_answer_add(&answer, out);
}

static enum err make(struct serve *s, const struct desk_ask *a, unsigned uid, struct buf *out,
                     struct err_info *info)
{
    const struct desk_make rq = {
        .key = a->key,
        .type = a->type,
        .cn = a->cn,
        .organization = a->organization,
        .is_self_signed = a->is_self_signed,
        .not_before_us = a->not_before_us,
        .not_after_us = a->not_after_us,
    };
    struct desk_made made;
    enum err e;
    if (a->is_self_signed && a->not_after_us - a->not_before_us > ROOT_LIFE_MOST_US) {
        return err_set(info, E_CERT, "a root of that life is not made");
    }
    if ((e = book_room(s->book, BOOK_MAKE, info)) != OK ||
        (e = desk_make(s->desk, &rq, &made, info)) != OK) {
        return e;
    }
    if ((e = note(s, a, uid, BOOK_MAKE, NULL, info)) == OK) {
        const struct desk_answer answer = {
            .part = {buf_span(&made.source), buf_span(&made.csr), buf_span(&made.root)}};
        e = desk_answer_add(&answer, out);
    }
    desk_made_done(&made);
    return e;
}

void serve_message(struct serve *s, unsigned uid, struct span message, struct buf *out)
{
    struct err_info info = {0};
    struct desk_ask a;
    enum err e = desk_ask_read(message, &a);
    if (e != OK) {
        LOG_WARN("signer.malformed", L_U64("uid", uid), L_U64("bytes", message.n), L_ERR(e));
    } else if ((e = a.act == DESK_ISSUE ? issue(s, &a, uid, out, &info)
                                        : make(s, &a, uid, out, &info)) == OK) {
        LOG_INFO("signer.done", L_STR("act", a.act == DESK_ISSUE ? "issue" : "make"),
                 L_SPAN("ca", a.key.name), L_SPAN("name", a.cn), L_U64("uid", uid));
    } else {
        LOG_WARN("signer.refused", L_STR("act", a.act == DESK_ISSUE ? "issue" : "make"),
                 L_SPAN("ca", a.key.name), L_SPAN("name", a.cn), L_U64("uid", uid), L_ERR(e),
                 L_WHY(&info, e));
    }
    if (e != OK) {
        const struct desk_answer answer = {.err = e, .why = span_str(err_why(&info, e))};
        buf_reset(out);
        if (desk_answer_add(&answer, out) != OK) {
            buf_reset(out); /* no memory: the connection ends */
        }
    }
}

/* --- connections -------------------------------------------------------------------------------------------- */

static bool one_turn(struct peer *p, struct buf *in, struct buf *out)
{
    buf_reset(in);
    buf_reset(out);
    uint8_t *room = buf_reserve(in, DESK_MESSAGE_MAX);
    ssize_t n = room != NULL ? recv(p->fd, room, DESK_MESSAGE_MAX, MSG_TRUNC) : 0;
    if (n <= 0) {
        return false;
    }
    if (n > (ssize_t)DESK_MESSAGE_MAX) {
        LOG_WARN("signer.too_large", L_U64("uid", p->uid), L_U64("bytes", n));
        return false;
    }
    in->n = (size_t)n;
    serve_message(p->serve, p->uid, buf_span(in), out);
    return out->n > 0 && send(p->fd, out->p, out->n, MSG_NOSIGNAL) == (ssize_t)out->n;
}

static void *peer_main(void *arg)
{
    AUTO(buf_done) struct buf in = BUF_INIT(DESK_MESSAGE_MAX), out = BUF_INIT(DESK_MESSAGE_MAX);
    struct peer *p = arg;
    while (one_turn(p, &in, &out)) {
    }
    (void)shutdown(p->fd, SHUT_RDWR); /* closed when it is taken out */
    (void)pthread_mutex_lock(&p->serve->lock);
    p->is_over = true;
    (void)pthread_mutex_unlock(&p->serve->lock);
    return NULL;
}

/* Takes the ended ones out; all of them, when they have been told to end. */
static void reap(struct serve *s, bool all)
{
    for (bool found = true; found;) {
        struct peer *p = NULL;
        (void)pthread_mutex_lock(&s->lock);
        LIST_EACH (n, &s->peers) {
            p = LIST_OF(n, struct peer, link);
            if (all || p->is_over) {
                break;
            }
            p = NULL;
        }
        if (p != NULL) {
            list_del(&p->link);
            s->n--;
            (void)shutdown(p->fd, SHUT_RD); /* what it answers now is still sent */
        }
        (void)pthread_mutex_unlock(&s->lock);
        found = p != NULL;
        if (found) {
            (void)pthread_join(p->thread, NULL);
            (void)close(p->fd);
            free(p);
        }
    }
}

static bool may_ask(const struct serve *s, int fd, unsigned *ret_uid)
{
    struct ucred who;
    socklen_t n = sizeof(who);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0) {
        return false;
    }
    *ret_uid = who.uid;
    for (size_t i = 0; i < s->rules.n_uids; i++) {
        if (s->rules.allow_uids[i] == who.uid) {
            return true;
        }
    }
    return false;
}

static void take_peer(struct serve *s)
{
    unsigned uid = 0;
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    bool is_allowed = may_ask(s, fd, &uid);
    struct peer *p = is_allowed && s->n < SERVE_PEERS ? NEW(struct peer) : NULL;
    if (p == NULL) {
        LOG_WARN("signer.peer_refused", L_U64("uid", uid),
                 L_STR("why", is_allowed ? "too many connections" : "this user may not ask"));
        (void)close(fd);
        return;
    }
    *p = (struct peer){.serve = s, .fd = fd, .uid = uid};
    (void)pthread_mutex_lock(&s->lock);
    if (pthread_create(&p->thread, NULL, peer_main, p) == 0) {
        list_add_tail(&s->peers, &p->link);
        s->n++;
        p = NULL;
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (p != NULL) {
        (void)close(fd);
        free(p);
    }
}

void serve_run(struct serve *s, int stop_fd)
{
    struct pollfd f[2] = {{.fd = s->fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
    while (f[1].revents == 0) {
        if (poll(f, 2, -1) < 0 && errno != EINTR) {
            break;
        }
        reap(s, false);
        if (f[1].revents == 0 && (f[0].revents & POLLIN) != 0) {
            take_peer(s);
        }
    }
    reap(s, true);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

/* A socket that nobody answers at was left by a signer that died. */
static enum err listen_at(struct serve *s, const struct sockaddr_un *at, struct err_info *info)
{
    const struct sockaddr *a = (const struct sockaddr *)at;
    s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        return err_set_errno(info, errno, "socket");
    }
    if (connect(s->fd, a, sizeof(*at)) == 0) {
        return err_set(info, E_IN_USE, "another signer answers at %s", at->sun_path);
    }
    struct stat st;
    if (lstat(at->sun_path, &st) == 0 && (!S_ISSOCK(st.st_mode) || unlink(at->sun_path) != 0)) {
        return err_set(info, E_IN_USE, "%s is there and cannot be replaced", at->sun_path);
    }
    if (bind(s->fd, a, sizeof(*at)) != 0) {
        return err_set_errno(info, errno, "%s", at->sun_path);
    }
    memcpy(s->path, at->sun_path, sizeof(s->path));
    /* who may ask is decided by the user at the other end */
    if (chmod(at->sun_path, 0666) != 0 || listen(s->fd, 64) != 0) {
        return err_set_errno(info, errno, "%s", at->sun_path);
    }
    return OK;
}

enum err serve_open(const char *socket_path, const struct serve_rules *rules, struct desk *desk,
                    struct book *book, const struct clock *clock, struct serve **ret,
                    struct err_info *info)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct serve *s = NEW(struct serve);
    if (s == NULL) {
        return E_NOMEM;
    }
    s->rules = *rules;
    s->desk = desk;
    s->book = book;
    s->clock = clock;
    s->fd = -1;
    list_init(&s->peers);
    (void)pthread_mutex_init(&s->lock, NULL);
    enum err e = span_to_cstr(span_str(socket_path), at.sun_path, sizeof(at.sun_path))
                     ? listen_at(s, &at, info)
                     : err_set(info, E_CONFIG, "the path of the socket is too long");
    if (e != OK) {
        serve_close(s);
        return e;
    }
    *ret = s;
    return OK;
}

void serve_close(struct serve *s)
{
    if (s == NULL) {
        return;
    }
    if (s->fd >= 0) {
        (void)close(s->fd);
    }
    if (s->path[0] != '\0') {
        (void)unlink(s->path);
    }
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}
