/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth stream DEVICE [--module M] --to NAME --listen ADDRESS:PORT | --stdio; berth stream list, berth stream kill.
 *
 * A local port is open to every user of the host: a connection from this host is taken only from the uid that runs the command (threat
 * E4). --stdio needs no port.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "ctl/ctl.h"
#include "ctl/local_peer.h"
#include "ctl/stream_client.h"
#include "ctl/stream_trust.h"

#define PROGRESS_MS 1000u
#define END_MS 5000u

struct forward {
    const struct cli_args *a;
    struct loop *loop;
    struct stream_client *client;
    struct timer progress;
    bool is_stdio, any_user, shows;
    bool is_over; /* --stdio: the one connection */
    int status;
    uint64_t last_up, last_down;
};

/* --- telling ------------------------------------------------------------------------------------------- */

static void wipe_line(const struct forward *f)
{
    if (f->shows) {
        fprintf(stderr, "\r\033[K");
    }
}

static void over(void *arg, enum err why, const char *text, uint64_t up, uint64_t down)
{
    struct forward *f = arg;
    wipe_line(f);
    if (f->a->is_json) {
        printf("{\"event\":\"closed\",\"error\":%s%s%s,\"bytesUp\":%llu,\"bytesDown\":%llu}\n",
               why == OK ? "null" : "\"", why == OK ? "" : err_name(why), why == OK ? "" : "\"",
               (unsigned long long)up, (unsigned long long)down);
        (void)fflush(stdout);
    }
    if (why != OK && why != E_CLOSED) {
        fprintf(stderr, "berth: ");
        cli_print_safe(stderr, span_str(text));
        fputc('\n', stderr);
    }
    f->is_over = true;
    f->status = why == OK || why == E_CLOSED ? EXIT_DONE
                : why == E_REMOTE            ? EXIT_REFUSED
                                             : EXIT_FAILED;
}

static void on_progress(struct timer *t)
{
    struct forward *f = CONTAINER_OF(t, struct forward, progress);
    struct stream_client_stats s;
    stream_client_stats(f->client, &s);
    fprintf(stderr, "\r\033[K%zu open, %llu in all; up %llu KiB (%llu/s), down %llu KiB (%llu/s)",
            s.open, (unsigned long long)s.begun, (unsigned long long)(s.up >> 10),
            (unsigned long long)((s.up - f->last_up) >> 10), (unsigned long long)(s.down >> 10),
            (unsigned long long)((s.down - f->last_down) >> 10));
    f->last_up = s.up;
    f->last_down = s.down;
    timer_set(f->loop, t, PROGRESS_MS, on_progress);
}

/* --- connections that come to a port ------------------------------------------------------------------------ */

static size_t no_bytes(struct stream *s, void *arg, struct span in)
{
    (void)s;
    (void)arg;
    return in.n;
}

static void no_close(struct stream *s, void *arg, enum err why)
{
    (void)s;
    (void)arg;
    (void)why;
}

static const struct stream_handler nobody = {
    .name = "refused", .on_bytes = no_bytes, .on_close = no_close};

static void on_connection(struct conn *c, void *arg)
{
    struct forward *f = arg;
    const char *why = NULL;
    conn_mark_authenticated(c);
    if (!f->any_user && !local_peer_is_own(c)) {
        why = "a connection of another user was refused";
    } else if (stream_client_add(f->client, conn_stream(c)) != OK) {
        why = "too many connections";
    }
    if (why != NULL) {
        stream_handle(conn_stream(c), &nobody, NULL);
        stream_abort(conn_stream(c), E_PERM);
        wipe_line(f);
        fprintf(stderr, "berth: %s\n", why);
    }
}

static enum err listen_at(struct forward *f, const char *where, struct listener **ret,
                          struct err_info *info)
{
    char address[64];
    struct span s = span_str(where), host;
    struct in6_addr any;
    uint64_t port = 0;
    size_t at = s.n;
    while (at > 0 && s.p[at - 1] != ':') {
        at--;
    }
    host = span_sub(s, 0, at > 0 ? at - 1 : 0);
    if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        host = span_sub(host, 1, host.n - 2);
    }
    if (!span_to_cstr(host, address, sizeof(address)) || !span_to_u64(span_from(s, at), &port) ||
        port > 65535 ||
        (inet_pton(AF_INET, address, &any) != 1 && inet_pton(AF_INET6, address, &any) != 1)) {
        return err_set(info, E_ARG, "--listen wants ADDRESS:PORT with a literal address");
    }
    const struct listener_conf lc = {.address = address,
                                     .port = (uint16_t)port,
                                     .on_open = on_connection,
                                     .arg = f,
                                     .max_unauthenticated = STREAM_CLIENT_LEGS};
    return listener_new(f->loop, &lc, ret, info);
}

/* --- standard input and output ----------------------------------------------------------------------------------- */

struct pipe_end {
    pthread_t thread;
    int from, to;
    bool shuts; /* says the end of what was read to the socket */
};

static void *copy_run(void *arg)
{
    struct pipe_end *p = arg;
    uint8_t b[65536];
    for (;;) {
        ssize_t n = read(p->from, b, sizeof(b));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        for (ssize_t at = 0, k; n > 0 && at < n; at += k) {
            k = write(p->to, b + at, (size_t)(n - at));
            if (k < 0 && errno == EINTR) {
                k = 0;
            } else if (k <= 0) {
                n = -1;
            }
        }
        if (n <= 0) {
            break;
        }
    }
    if (p->shuts) {
        (void)shutdown(p->to, SHUT_WR);
    } else {
        (void)close(p->to); /* whoever reads our output sees its end at once */
    }
    return NULL;
}

/* Two threads that may block on what the caller gave us, and a socket that may not. */
static enum err use_stdio(struct forward *f, struct pipe_end p[2], struct err_info *info)
{
    int fd[2];
    struct conn *c;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0) {
        return err_set_errno(info, errno, "socketpair");
    }
    enum err e = conn_adopt(f->loop, fd[0], NULL, true, NULL, NULL, &c);
    if (e != OK || (e = stream_client_add(f->client, conn_stream(c))) != OK) {
        return e;
    }
    p[0] = (struct pipe_end){.from = STDIN_FILENO, .to = fd[1], .shuts = true};
    p[1] = (struct pipe_end){.from = fd[1], .to = STDOUT_FILENO};
    for (unsigned i = 0; i < 2; i++) {
        if (pthread_create(&p[i].thread, NULL, copy_run, &p[i]) != 0) {
            return err_set(info, E_SYS, "cannot start a thread");
        }
    }
    (void)pthread_detach(p[0].thread); /* it may wait for input that never comes */
    return OK;
}

/* --- the command ---------------------------------------------------------------------------------------------------- */

static enum err run_until_over(struct forward *f, struct err_info *info)
{
    const char *where = cli_get(f->a, "listen");
    struct listener *ls = NULL;
    static struct pipe_end p[2]; /* a thread may outlive this call */
    enum err e = f->is_stdio ? use_stdio(f, p, info) : listen_at(f, where, &ls, info);
    if (e != OK) {
        return e;
    }
    if (f->a->is_json && ls != NULL) {
        printf("{\"event\":\"listening\",\"port\":%u}\n", listener_port(ls));
        (void)fflush(stdout);
    } else if (ls != NULL) {
        fprintf(stderr, "berth: listening on port %u; ^C ends it\n", listener_port(ls));
    }
    if (f->shows) {
        timer_set(f->loop, &f->progress, PROGRESS_MS, on_progress);
    }
    while (!cli_interrupted && !(f->is_stdio && f->is_over)) {
        loop_turn(f->loop, 200);
    }
    timer_stop(f->loop, &f->progress);
    if (ls != NULL) {
        listener_free(ls);
    }
    stream_client_end(f->client);
    uint64_t until = loop_now_ms(f->loop) + END_MS;
    while (stream_client_count(f->client) > 0 && loop_now_ms(f->loop) < until) {
        loop_turn(f->loop, 50);
    }
    if (f->is_stdio && !cli_interrupted) {
        for (unsigned i = 0; i < 4; i++) {
            loop_turn(f->loop, 0); /* the socket is flushed and shut */
        }
        (void)pthread_join(p[1].thread, NULL);
    } else if (f->is_stdio) {
        (void)pthread_detach(p[1].thread); /* it may wait for a reader that never comes */
    }
    wipe_line(f);
    return OK;
}

static enum err open_client(struct forward *f, const struct stream_client_conf *conf,
                            struct stream_client_conf *k, struct err_info *info)
{
    AUTO(mem_free_p) char *ca = NULL;
    uint64_t hub = 1;
    *k = *conf;
    if (!cli_number(f->a, "hub", 1, 50, &hub)) {
        return err_set(info, E_ARG, "--hub is out of range");
    }
    enum err e = ctl_connect(f->a, CTL_HUB, (unsigned)hub - 1, &k->service, info);
    if (e == OK) {
        e = ctl_proxy(&k->proxy, info);
    }
    if (e == OK && (e = ctl_ca_file(f->a, &ca, info)) == OK) {
        const struct tls_client_conf tc = {.ca_file = ca};
        e = tls_client_new(&tc, &k->tls, info);
    }
    if (e == OK) {
        e = stream_trust(f->a, k->service, k->device, k->module, &k->end_tls, info);
    }
    return e != OK ? e : stream_client_new(k, over, f, &f->client);
}

static int run_stream(struct cli_args *a)
{
    static struct forward f; /* what is left to the system at the end is found from here */
    static struct stream_client_conf k;
    struct err_info info = {0};
    uint64_t connect_s = 30, response_s = 30;
    f = (struct forward){.a = a,
                         .is_stdio = cli_has(a, "stdio"),
                         .any_user = cli_has(a, "any-user"),
                         .shows = !a->is_json && isatty(STDERR_FILENO) == 1};
    if (f.is_stdio == cli_has(a, "listen") || cli_get(a, "to") == NULL ||
        (f.is_stdio && a->is_json)) {
        return cli_failf(
            EXIT_USAGE, "stream wants --to NAME and either --listen ADDRESS:PORT or --stdio (which "
                        "has no --json)");
    }
    if (span_str(cli_get(a, "to")).n < 1 || span_str(cli_get(a, "to")).n > 64 ||
        !cli_number(a, "connect-timeout", 0, 300, &connect_s) ||
        !cli_number(a, "response-timeout", 5, 300, &response_s)) {
        return cli_failf(EXIT_USAGE,
                         "--to, --connect-timeout or --response-timeout is out of range");
    }
    f.shows = f.shows && !f.is_stdio;
    enum err e = loop_new(0, clock_system(), &f.loop);
    const struct stream_client_conf conf = {.loop = f.loop,
                                            .device = a->words[0],
                                            .module = cli_get(a, "module"),
                                            .name = cli_get(a, "to"),
                                            .connect_s = (unsigned)connect_s,
                                            .response_s = (unsigned)response_s};
    if (e == OK && (e = open_client(&f, &conf, &k, &info)) == OK) {
        e = run_until_over(&f, &info);
    }
    /* What did not come to its end in time is left to the system, and so is the loop: a far end may not have answered a close yet. */
    if (f.client == NULL || stream_client_count(f.client) == 0) {
        stream_client_free(f.client);
        service_free(k.service);
        tls_ctx_unref(k.tls);
        tls_ctx_unref(k.end_tls);
    }
    return e != OK ? cli_fail(e, &info) : f.is_stdio ? f.status : EXIT_DONE;
}

/* --- what is open ------------------------------------------------------------------------------------------------------ */

static int admin(struct cli_args *a, const char *method, const char *path, const char *done)
{
    AUTO(service_free_p) struct service *s = NULL;
    struct err_info info = {0};
    uint64_t hub = 1;
    if (!cli_number(a, "hub", 1, 50, &hub)) {
        return cli_failf(EXIT_USAGE, "--hub is out of range");
    }
    enum err e = ctl_connect(a, CTL_HUB, (unsigned)hub - 1, &s, &info);
    if (e != OK) {
        return cli_fail(e, &info);
    }
    const struct service_call call = {
        .method = method, .path = path, .api_version = SERVICE_ADMIN_VERSION};
    return ctl_call(s, &call, a, done);
}

static int run_list(struct cli_args *a)
{
    return admin(a, "GET", "/admin/streams", "");
}

static int run_kill(struct cli_args *a)
{
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    buf_add_str(&path, "/admin/streams/");
    percent_add(&path, span_str(a->words[0]));
    buf_add_u8(&path, 0);
    return buf_err(&path) != OK ? cli_fail(E_ARG, NULL)
                                : admin(a, "DELETE", (const char *)path.p, "ended");
}

/* clang-format off */
static const struct cli_option stream_options[] = {
    CTL_CONNECT_OPTIONS,
    { "hub", "N", "Which hub of the environment file, from 1 (1)." },
    { "module", "ID", "To this module of the device, not to the device itself." },
    { "to", "NAME", "The section [stream NAME] of the device's agent." },
    { "listen", "ADDRESS:PORT", "Take connections here; port 0: any." },
    { "stdio", NULL, "One connection by standard input and output (ssh -o ProxyCommand)." },
    STREAM_TRUST_OPTIONS,
    { "any-user", NULL, "Also take connections of other users of this host." },
    { "connect-timeout", "S", "Seconds to wait for a device that is away (30)." },
    { "response-timeout", "S", "Seconds to wait for its answer (30)." },
};
static const struct cli_option admin_options[] = {
    CTL_CONNECT_OPTIONS,
    { "hub", "N", "Which hub of the environment file, from 1 (1)." },
};
/* clang-format on */
const struct cli_command ctl_stream = {
    "stream",
    "DEVICE [--module ID] --to NAME (--listen ADDRESS:PORT | --stdio) [--end-to-end ...] [--hub N] "
    "[--any-user] "
    "[--json]",
    "Reach a TCP port behind a device, through the hub.",
    stream_options,
    ARRAY_LEN(stream_options),
    1,
    1,
    run_stream,
};
const struct cli_command ctl_stream_list = {
    "stream list",
    "[--hub N]",
    "Streams that are open at a hub.",
    admin_options,
    ARRAY_LEN(admin_options),
    0,
    0,
    run_list,
};
const struct cli_command ctl_stream_kill = {
    "stream kill", "SID [--hub N]", "End a stream.", admin_options, ARRAY_LEN(admin_options), 1, 1,
    run_kill,
};
