/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RUNS_A_TURN                                                                                \
    8u /* libmicrohttpd reads one buffer a run; the rest of a big body waits a turn */
#define DRAIN_SIZE 16384u /* one TLS record */

/* --- callbacks of libmicrohttpd ------------------------------------------------------------------ */

/* It complains three times an answer that an AF_UNIX socket has no TCP_NODELAY. What else it could say is
 * about heads and bodies that were checked before they were fed. */
__attribute__((format(printf, 2, 0))) static void drop_log(void *arg UNUSED, const char *fmt UNUSED,
                                                           va_list ap UNUSED)
{
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = CAST_MAGIC(struct http_server, cls, HTTP_SERVER_MAGIC);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        /* Comes inside MHD_add_connection. */
        ASSERT(s->adding != NULL);
        s->adding->mhd = mhd;
        s->adding->is_added = true;
        *socket_context = s->adding;
        return;
    }
    struct http_mc *mc = CAST_MAGIC(struct http_mc, *socket_context, HTTP_MC_MAGIC);
    mc->mhd = NULL;
    mc->is_added = false;
    mc->is_suspended = false;
    if (mc->conn == NULL) {
        list_del(&mc->active);
        mc->magic = 0;
        free(mc);
        s->n_mcs--;
    }
    /* Else its end of the pair is closed now: draining finds that. */
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode why UNUSED)
{
    (void)CAST_MAGIC(struct http_server, cls, HTTP_SERVER_MAGIC);
    if (*con_cls == NULL) {
        return;
    }
    const union MHD_ConnectionInfo *ci =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_mc *mc = CAST_MAGIC(struct http_mc, ci->socket_context, HTTP_MC_MAGIC);
    mc->is_completed = true;
    *con_cls = NULL;
}

static enum MHD_Result queue_answer(struct http_mc *mc, struct http_rq *rq)
{
    struct MHD_Response *response = TAKE(rq->response);
    enum MHD_Result r = MHD_queue_response(mc->mhd, rq->status, response);
    MHD_destroy_response(response);
    return r;
}

/* First call: head; then one per body part; last call without data: answer or wait. */
static enum MHD_Result on_request(void *cls UNUSED, struct MHD_Connection *mhd,
                                  const char *url UNUSED, const char *method UNUSED,
                                  const char *version UNUSED, const char *data, size_t *n,
                                  void **con_cls)
{
    const union MHD_ConnectionInfo *ci =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_mc *mc = CAST_MAGIC(struct http_mc, ci->socket_context, HTTP_MC_MAGIC);
    struct http_rq *rq = mc->rq;
    if (mc->conn == NULL || rq == NULL) {
        return MHD_NO; /* the client has gone, or the answer went past us */
    }
    if (*con_cls == NULL) {
        *con_cls = mc;
        return MHD_YES;
    }
    if (*n > 0) {
        if (rq->keeps_body && rq->body.n + *n <= rq->body_limit) {
            buf_add(&rq->body, span_of(data, *n));
        }
        *n = 0;
        return MHD_YES;
    }
    if (!rq->is_answered && !rq->is_handled) {
        rq->is_handled = true;
        if (buf_err(&rq->body) != OK) {
            http_rq_refuse(rq, buf_err(&rq->body), 0, NULL);
        } else {
            rq->route->handler(rq);
        }
        if (mc->conn == NULL) {
            return MHD_NO;
        }
    }
    if (rq->response != NULL) {
        return queue_answer(mc, rq);
    }
    MHD_suspend_connection(mhd);
    mc->is_suspended = true;
    return MHD_YES;
}

/* --- our end of the pair -------------------------------------------------------------------------- */

static void on_pair(struct watch *w, uint32_t events)
{
    struct http_mc *mc = CONTAINER_OF(w, struct http_mc, watch);
    ASSERT(mc->conn != NULL);
    if ((events & EPOLLOUT) != 0) {
        http_mc_rewatch(mc, false);
        stream_again(mc->conn->stream);
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        http_mc_drain_soon(mc);
    }
}

void http_mc_drain_soon(struct http_mc *mc)
{
    if (!list_linked(&mc->active)) {
        list_add_tail(&mc->server->active, &mc->active);
    }
    http_turn(mc->server);
}

void http_mc_rewatch(struct http_mc *mc, bool wants_room)
{
    uint32_t events = wants_room ? (uint32_t)EPOLLOUT : 0;
    if (!stream_is_full(mc->conn->stream)) {
        events |= EPOLLIN;
    }
    mc->wants_room = wants_room;
    if (events == 0) {
        /* Not watched at all: with no event asked for, epoll would still report EPOLLHUP, for ever. */
        if (mc->watch.active) {
            loop_unwatch(mc->server->loop, &mc->watch);
        }
    } else if (!mc->watch.active) {
        if (loop_watch(mc->server->loop, &mc->watch, mc->fd, events, on_pair) != OK) {
            stream_abort(mc->conn->stream, E_SYS);
        }
    } else if (mc->watch.events != events) {
        loop_rewatch(mc->server->loop, &mc->watch, events);
    }
}

enum err http_mc_new(struct http_conn *c)
{
    struct http_server *s = c->server;
    if (c->mc != NULL) {
        return OK;
    }
    struct http_mc *mc = NEW(struct http_mc);
    int fd[2];
    if (mc == NULL) {
        return E_NOMEM;
    }
    mc->magic = HTTP_MC_MAGIC;
    mc->server = s;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0) {
        free(mc);
        return E_SYS;
    }
    s->adding = mc;
    /* The address is for libmicrohttpd's own limits per address, which are off. It closes fd[1] also
     * when it fails. */
    const struct sockaddr_in nobody = {.sin_family = AF_INET};
    enum MHD_Result r =
        MHD_add_connection(s->mhd, fd[1], (const struct sockaddr *)&nobody, sizeof(nobody));
    s->adding = NULL;
    if (r != MHD_YES || !mc->is_added) {
        close(fd[0]);
        free(mc);
        return E_SYS;
    }
    s->n_mcs++;
    mc->fd = fd[0];
    enum err e = loop_watch(s->loop, &mc->watch, fd[0], EPOLLIN, on_pair);
    if (e != OK) {
        close(fd[0]); /* libmicrohttpd sees the end, reports CLOSED and so frees mc */
        http_turn(s);
        return e;
    }
    mc->conn = c;
    c->mc = mc;
    return OK;
}

void http_mc_drop(struct http_conn *c)
{
    struct http_mc *mc = TAKE(c->mc);
    if (mc == NULL) {
        return;
    }
    if (mc->watch.active) {
        loop_unwatch(mc->server->loop, &mc->watch);
    }
    close(mc->fd);
    list_del(&mc->active);
    mc->conn = NULL;
    mc->rq = NULL;
    if (!mc->is_added) {
        mc->server->n_mcs--;
        mc->magic = 0;
        free(mc);
        return;
    }
    http_mc_wake(mc);
    http_turn(mc->server);
}

void http_mc_wake(struct http_mc *mc)
{
    if (mc->is_suspended) {
        mc->is_suspended = false;
        MHD_resume_connection(mc->mhd);
        http_turn(mc->server);
        if (mc->conn != NULL) {
            http_mc_drain_soon(mc);
        }
    }
}

size_t http_mc_feed(struct http_mc *mc, struct span a, struct span b)
{
    struct iovec iov[2] = {
        {.iov_base = (void *)(uintptr_t)a.p, .iov_len = a.n},
        {.iov_base = (void *)(uintptr_t)b.p, .iov_len = b.n},
    };
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    if (a.n + b.n == 0) {
        return 0;
    }
    ssize_t n = sendmsg(mc->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    http_mc_drain_soon(mc);
    if (n < 0) {
        /* EPIPE: libmicrohttpd has closed; draining finds that and ends the connection. */
        return 0;
    }
    return (size_t)n;
}

/* --- end of turn ------------------------------------------------------------------------------------ */

enum drained { DRAINED_EMPTY, DRAINED_FULL, DRAINED_END };

static enum drained drain_pair(struct http_mc *mc)
{
    uint8_t bytes[DRAIN_SIZE];
    const struct http_rq *rq = mc->rq;
    while (!stream_is_full(mc->conn->stream)) {
        ssize_t n = recv(mc->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n == 0) {
            return DRAINED_END;
        }
        if (n < 0) {
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? DRAINED_EMPTY
                                                                             : DRAINED_END;
        }
        if (rq == NULL || (!rq->is_answered && !rq->head.expects_continue)) {
            return DRAINED_END; /* not ours: the library has a page of its own for what it dislikes */
        }
        stream_write(mc->conn->stream, span_of(bytes, (size_t)n));
        http_conn_progress(mc->conn);
        if ((size_t)n < sizeof(bytes) && mc->is_added) {
            return DRAINED_EMPTY;
        }
    }
    return DRAINED_FULL;
}

static void drain_mc(struct http_mc *mc)
{
    struct http_conn *c = mc->conn;
    enum drained d = drain_pair(mc);
    if (d == DRAINED_FULL) {
        http_mc_rewatch(mc, mc->wants_room);
        return;
    }
    if (mc->is_completed) {
        mc->is_completed = false;
        mc->rq = NULL;
        if (d == DRAINED_END || !mc->is_added) {
            http_mc_drop(c);
        }
        http_conn_finish(c);
    } else if (d == DRAINED_END) {
        /* Between requests it may go; in one, the answer is lost and the client must hear of that. */
        bool was_idle = mc->rq == NULL;
        http_mc_drop(c);
        if (!was_idle) {
            http_conn_abort(c, E_BUG);
        }
    } else {
        http_mc_rewatch(mc, mc->wants_room);
    }
}

static void on_turn(struct deferred *d)
{
    struct http_server *s = CONTAINER_OF(d, struct http_server, turn);
    MHD_UNSIGNED_LONG_LONG timeout = 0;
    bool is_more = true;
    s->in_turn = true;
    for (unsigned i = 0; i < RUNS_A_TURN && is_more; i++) {
        (void)!MHD_run(s->mhd); /* MHD_NO: not an external loop, which it is */
        is_more = MHD_get_timeout(s->mhd, &timeout) == MHD_YES && timeout == 0;
    }
    struct list active;
    list_init(&active);
    for (struct list *n = list_pop(&s->active); n != NULL; n = list_pop(&s->active)) {
        list_add_tail(&active, n);
    }
    for (struct list *n = list_pop(&active); n != NULL; n = list_pop(&active)) {
        drain_mc(LIST_OF(n, struct http_mc, active));
    }
    for (struct list *n = list_pop(&s->dead); n != NULL; n = list_pop(&s->dead)) {
        http_rq_free(LIST_OF(n, struct http_rq, dead));
    }
    s->in_turn = false;
    if (is_more) {
        http_turn(s);
    }
}

void http_turn(struct http_server *s)
{
    loop_defer(s->loop, &s->turn, on_turn);
}

static void on_mhd_epoll(struct watch *w, uint32_t events UNUSED)
{
    http_turn(CONTAINER_OF(w, struct http_server, watch));
}

/* --- start and stop ------------------------------------------------------------------------------- */

enum err http_mhd_start(struct http_server *s, struct err_info *info)
{
    const unsigned flags =
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    /* Dropped ones count until the next run. */
    unsigned limit = s->conf.max_connections + 64;
    s->mhd = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, drop_log, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        s, MHD_OPTION_CONNECTION_LIMIT, limit, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)LIMIT_HTTP_POOL, MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)1024,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (s->mhd == NULL) {
        return err_set(info, E_SYS, "HTTP engine does not start: %s", strerror(errno));
    }
    const union MHD_DaemonInfo *di = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    ASSERT(di != NULL && di->epoll_fd >= 0);
    return loop_watch(s->loop, &s->watch, di->epoll_fd, EPOLLIN, on_mhd_epoll);
}

void http_mhd_stop(struct http_server *s)
{
    if (s->mhd == NULL) {
        return;
    }
    /* All were dropped, thus resumed: a run takes them off the list of suspended ones, without which
     * stopping is a misuse of the library. */
    for (unsigned i = 0; i < RUNS_A_TURN && s->n_mcs > 0; i++) {
        (void)!MHD_run(s->mhd);
    }
    if (s->watch.active) {
        loop_unwatch(s->loop, &s->watch);
    }
    loop_undefer(s->loop, &s->turn);
    MHD_stop_daemon(s->mhd);
    s->mhd = NULL;
}
