/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole HTTP connection, libmicrohttpd included: what is sent at once and what is sent in pieces gets the same
 * answers; every answer is one of ours and complete; nothing is left when the client has gone. The first byte of the
 * input is the size of the pieces.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn.h"
#include "net/http.h"

#define ANSWERS_MAX 256u

static struct loop *loop;
static struct http_server *server;
static unsigned handled;

static int64_t wall_us(void *arg UNUSED)
{
    return 1767225600000000;
}

static uint64_t mono_ms(void *arg UNUSED)
{
    return 1000;
}

static const struct clock still = {wall_us, mono_ms, NULL};

static void on_echo(struct http_rq *rq)
{
    fuzz_touch(http_rq_param(rq, 0));
    fuzz_touch(http_rq_body(rq));
    fuzz_touch(http_rq_query(rq, "x", NULL));
    handled++;
    http_answer(rq, 200, "text/plain", http_rq_body(rq));
}

static void on_empty(struct http_rq *rq)
{
    handled++;
    http_answer(rq, 204, NULL, SPAN_NONE);
}

/* clang-format off */
static const struct http_route routes[] = {
    { HTTP_GET,    "/t",          0, 0, 0,    on_echo },
    { HTTP_PUT,    "/t/{id}",     0, 0, 64,   on_echo },
    { HTTP_POST,   "/t/{id}/big", 0, 0, 8192, on_echo },
    { HTTP_DELETE, "/t/{id}",     0, 0, 0,    on_empty },
};
/* clang-format on */

static enum err admit(struct http_rq *rq, struct err_info *info)
{
    return http_rq_header(rq, "Authorization").p != NULL ? err_set(info, E_TOKEN, "no") : OK;
}

static void refuse(struct http_rq *rq, enum err e, const struct err_info *info UNUSED)
{
    /* Whoever counts the answers does not know which of them is for a HEAD, and so without its body. */
    struct span text = http_rq_method(rq) == HTTP_HEAD ? SPAN_NONE : span_str(err_name(e));
    http_answer(rq, e == E_NO_ROUTE ? 404 : 400, "text/plain", text);
}

static void on_open(struct conn *c, void *arg UNUSED)
{
    enum err e = http_attach(server, conn_stream(c));
    ASSERT(e == OK);
}

static void start(void)
{
    const struct http_conf conf = {
        .routes = routes,
        .n_routes = ARRAY_LEN(routes),
        .hooks = {.admit = admit, .refuse = refuse},
        .max_connections = 4,
    };
    enum err e = loop_new(0, &still, &loop);
    ASSERT(e == OK);
    struct http_conf c = conf;
    c.loop = loop;
    e = http_server_new(&c, &server, NULL);
    ASSERT(e == OK);
}

static void hear(int fd, struct buf *out)
{
    for (unsigned i = 0; i < 6; i++) {
        loop_turn(loop, 0);
    }
    for (;;) {
        uint8_t *p = buf_reserve(out, 65536);
        ASSERT(p != NULL);
        ssize_t n = recv(fd, p, 65536, MSG_DONTWAIT);
        if (n <= 0) {
            return;
        }
        out->n += (size_t)n;
    }
}

/* Statuses but 100, which depends on how fast the body comes. */
static size_t statuses(struct span s, unsigned ret[ANSWERS_MAX])
{
    size_t count = 0;
    while (s.n > 0) {
        ASSERT(span_starts(s, SPAN_LIT("HTTP/1.1 ")) && s.n > 12);
        unsigned status = (unsigned)strtoul((const char *)s.p + 9, NULL, 10);
        uint64_t length = 0;
        struct span line;
        do {
            ASSERT(s.n > 0); /* the head is complete */
            line = span_cut(&s, '\n');
            ASSERT(span_ends(line, SPAN_LIT("\r")));
            line = span_sub(line, 0, line.n - 1);
            ASSERT(!span_starts_nocase(line, SPAN_LIT("Content-Type: text/html"))); /* not ours */
            if (span_starts_nocase(line, SPAN_LIT("Content-Length: "))) {
                ASSERT(span_to_u64(span_from(line, 16), &length));
            }
        } while (line.n > 0);
        ASSERT(length <= s.n);
        s = span_from(s, (size_t)length);
        if (status != 100) {
            ASSERT(count < ANSWERS_MAX);
            ret[count++] = status;
        }
    }
    return count;
}

static size_t talk(struct span in, size_t step, unsigned ret[ANSWERS_MAX], unsigned *ret_handled)
{
    int fd[2];
    struct conn *c;
    struct http_stats stats;
    AUTO(buf_done) struct buf out = BUF_INIT(16u << 20);
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd);
    ASSERT(rc == 0);
    enum err e = conn_adopt(loop, fd[0], NULL, true, on_open, NULL, &c);
    ASSERT(e == OK);
    handled = 0;
    loop_turn(loop, 0);
    while (in.n > 0) {
        struct span part = span_sub(in, 0, step);
        ssize_t n = send(fd[1], part.p, part.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) {
            break; /* closed */
        }
        in = span_from(in, n > 0 ? (size_t)n : 0);
        hear(fd[1], &out);
    }
    /* Until it has been silent for a while: requests that came together are served one a turn. */
    for (unsigned quiet = 0; quiet < 4; quiet++) {
        size_t before = out.n;
        hear(fd[1], &out);
        quiet = out.n == before ? quiet : 0;
    }
    close(fd[1]);
    for (unsigned i = 0; i < 8; i++) {
        loop_turn(loop, 0);
    }
    http_stats(server, &stats);
    ASSERT(stats.open == 0);
    *ret_handled = handled;
    return statuses(buf_span(&out), ret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    unsigned whole[ANSWERS_MAX], parts[ANSWERS_MAX], handled_whole, handled_parts;
    if (n == 0 || n > 65536) {
        return 0;
    }
    if (loop == NULL) {
        start();
    }
    struct span in = span_of(data + 1, n - 1);
    size_t step = 1 + data[0];
    /* Few parts: each costs some turns. */
    step = MAX(step, in.n / 64);
    size_t n_whole = talk(in, SIZE_MAX, whole, &handled_whole);
    size_t n_parts = talk(in, step, parts, &handled_parts);
    ASSERT(n_whole == n_parts && memcmp(whole, parts, n_whole * sizeof(whole[0])) == 0);
    ASSERT(handled_whole == handled_parts && handled_whole <= n_whole);
    return 0;
}
