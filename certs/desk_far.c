/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The desk behind the wall. A call borrows a connection, or makes one, and waits for its answer; threads that call at once have one each.
 * What was asked and not answered is not asked again here: a certificate may have been logged there already, and the caller's own retry
 * is the one that is counted.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "certs/desk_wire.h"

#define FAR_TIMEOUT_S 30 /* a token may be slow, and asked by several */
#define FAR_IDLE LIMIT_SIGNER_THREADS

struct far {
    struct desk desk;
    struct sockaddr_un at;
    pthread_mutex_t lock; /* of idle */
    int idle[FAR_IDLE];
    size_t n_idle;
};

static struct far *as_far(struct desk *d)
{
    return CONTAINER_OF(d, struct far, desk);
}

/* --- connections ------------------------------------------------------------------------------------ */

static void close_p(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
}

static int borrow(struct far *f)
{
    (void)pthread_mutex_lock(&f->lock);
    int fd = f->n_idle > 0 ? f->idle[--f->n_idle] : -1;
    (void)pthread_mutex_unlock(&f->lock);
    return fd;
}

static void give_back(struct far *f, int *fd)
{
    (void)pthread_mutex_lock(&f->lock);
    if (f->n_idle < FAR_IDLE) {
        f->idle[f->n_idle++] = *fd;
        *fd = -1;
    }
    (void)pthread_mutex_unlock(&f->lock);
}

static enum err no_signer(const struct far *f, struct err_info *info)
{
    return err_set(info, E_AGAIN, "signer at %s: %s", f->at.sun_path,
                   errno == EAGAIN ? "no answer in time" : strerror(errno));
}

static enum err join(const struct far *f, int *ret, struct err_info *info)
{
    const struct timeval patience = {.tv_sec = FAR_TIMEOUT_S};
    AUTO(close_p) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
        connect(fd, (const struct sockaddr *)&f->at, sizeof(f->at)) != 0) {
        return no_signer(f, info);
    }
    *ret = fd;
    fd = -1;
    return OK;
}

/* An idle connection may have lost its other end meanwhile: that is seen before anything was asked. */
static enum err send_ask(struct far *f, struct span text, int *fd, struct err_info *info)
{
    char byte;
    while ((*fd = borrow(f)) >= 0) {
        if (recv(*fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN &&
            send(*fd, text.p, text.n, MSG_NOSIGNAL) == (ssize_t)text.n) {
            return OK;
        }
        (void)close(*fd);
    }
    enum err e = join(f, fd, info);
    if (e == OK && send(*fd, text.p, text.n, MSG_NOSIGNAL) != (ssize_t)text.n) {
        e = no_signer(f, info);
    }
    return e;
}

static enum err ask(struct far *f, const struct desk_ask *a, struct buf *in,
                    struct desk_answer *ret, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(DESK_MESSAGE_MAX);
    AUTO(close_p) int fd = -1;
    uint8_t *room = buf_reserve(in, DESK_MESSAGE_MAX);
    enum err e = room == NULL ? E_NOMEM : desk_ask_add(a, &text);
    if (e != OK || (e = send_ask(f, buf_span(&text), &fd, info)) != OK) {
        return e;
    }
    ssize_t n = recv(fd, room, DESK_MESSAGE_MAX, 0);
    if (n <= 0) {
        errno = n == 0 ? ECONNRESET : errno;
        return no_signer(f, info);
    }
    in->n = (size_t)n;
    if ((e = desk_answer_read(buf_span(in), ret)) != OK) {
        return err_set(info, E_CONFIG, "signer at %s: its answer is not understood",
                       f->at.sun_path);
    }
    give_back(f, &fd);
    return ret->err == OK ? OK : err_set(info, ret->err, "signer: %.*s", SPAN_ARG(ret->why));
}

/* --- calls ------------------------------------------------------------------------------------------ */

static enum err far_make(struct desk *desk, const struct desk_make *rq, struct desk_made *ret,
                         struct err_info *info)
{
    AUTO(buf_done) struct buf in = BUF_INIT(DESK_MESSAGE_MAX);
    const struct desk_ask a = {
        .act = DESK_MAKE,
        .key = rq->key,
        .type = rq->type,
        .is_self_signed = rq->is_self_signed,
        .not_before_us = rq->not_before_us,
        .not_after_us = rq->not_after_us,
        .cn = rq->cn,
        .organization = rq->organization,
    };
    struct desk_answer answer;
    struct buf *part[] = {&ret->source, &ret->csr, &ret->root};
    enum err e = ask(as_far(desk), &a, &in, &answer, info);
    for (size_t i = 0; e == OK && i < ARRAY_LEN(part); i++) {
        buf_add(part[i], answer.part[i]);
        e = buf_err(part[i]);
    }
    return e;
}

static enum err far_issue(struct desk *desk, const struct desk_issue *rq, struct cert **ret,
                          struct err_info *info)
{
    AUTO(buf_done) struct buf in = BUF_INIT(DESK_MESSAGE_MAX);
    const struct desk_ask a = {
        .act = DESK_ISSUE,
        .key = rq->key,
        .also_server = rq->rq.also_server,
        .not_before_us = rq->rq.not_before_us,
        .not_after_us = rq->rq.not_after_us,
        .cn = rq->rq.cn,
        .organization = rq->rq.organization,
        .ca = cert_der(rq->ca),
        .csr = rq->csr,
    };
    struct desk_answer answer;
    enum err e = ask(as_far(desk), &a, &in, &answer, info);
    return e != OK ? e : cert_from_der(answer.part[0], ret, info);
}

/* --- life ------------------------------------------------------------------------------------------- */

static void far_end(struct desk *desk)
{
    struct far *f = as_far(desk);
    while (f->n_idle > 0) {
        (void)close(f->idle[--f->n_idle]);
    }
    (void)pthread_mutex_destroy(&f->lock);
    free(f);
}

enum err desk_far_new(const char *socket_path, struct desk **ret)
{
    struct far *f = NEW(struct far);
    if (f == NULL) {
        return E_NOMEM;
    }
    f->desk = (struct desk){.make = far_make, .issue = far_issue, .end = far_end};
    f->at.sun_family = AF_UNIX;
    (void)pthread_mutex_init(&f->lock, NULL);
    if (!span_to_cstr(span_str(socket_path), f->at.sun_path, sizeof(f->at.sun_path))) {
        far_end(&f->desk);
        return E_CONFIG;
    }
    *ret = &f->desk;
    return OK;
}
