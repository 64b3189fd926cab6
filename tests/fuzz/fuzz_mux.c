/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of berth.streams.v1 from a hostile peer, at the end that takes channels: whole or in pieces, every channel that was opened hears
 * of its end exactly once, and the session of its own after them; what a channel is given never exceeds its window. The first byte of
 * the input is the size of the pieces; the first byte of a channel's name says what its handler does.
 */
#include "tests/fuzz/fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "client/mux.h"
#include "net/conn.h"

static uint64_t now_ms = 1000;
static uint64_t mono(void *arg UNUSED)
{
    return now_ms;
}
static int64_t wall(void *arg UNUSED)
{
    return 0;
}
static const struct clock fuzz_clock = {wall, mono, NULL};

static struct loop *loop;
static unsigned n_open, n_closed;
static bool is_over;

static size_t on_bytes(struct stream *s, void *arg, struct span in)
{
    char kind = *(const char *)arg;
    ASSERT(!is_over && in.n > 0 && in.n <= MUX_WINDOW);
    fuzz_touch(in);
    switch (kind) {
    case 'e': /* echoes */
        stream_write(s, in);
        return in.n;
    case 'k': /* keeps all */
        return 0;
    case 'h': /* half of it */
        return in.n / 2;
    case 'p':
        stream_pause(s, true);
        return in.n;
    case 'c':
        stream_close(s);
        return in.n;
    case 'a':
        stream_abort(s, E_NET);
        return in.n;
    default:
        return in.n;
    }
}

static void on_end(struct stream *s, void *arg)
{
    if (*(const char *)arg != 'k') {
        (void)stream_end(s);
    }
}

static void on_close(struct stream *s, void *arg UNUSED, enum err why)
{
    ASSERT(!is_over);
    if (why == E_REMOTE) {
        fuzz_touch(span_str(mux_reason(s)));
    }
    n_closed++;
}

static const struct stream_handler whole = {.name = "fuzz",
                                            .on_bytes = on_bytes,
                                            .on_close = on_close},
                                   halves = {.name = "fuzz",
                                             .on_bytes = on_bytes,
                                             .on_close = on_close,
                                             .on_end = on_end};

static void on_open(struct mux *m, void *arg UNUSED, struct span name, struct stream *channel)
{
    static const char kinds[] = "ekhpca_";
    size_t i = 0;
    ASSERT(name.n >= 1 && name.n <= MUX_NAME && mux_count(m) <= MUX_CHANNELS);
    if (name.p[0] == 'r') {
        mux_refuse(channel, "no");
        return;
    }
    while (kinds[i] != '_' && kinds[i] != (char)name.p[0]) {
        i++;
    }
    n_open++;
    stream_handle(channel, name.n % 2 == 0 ? &whole : &halves, (void *)(uintptr_t)&kinds[i]);
}

static void on_over(struct mux *m UNUSED, void *arg UNUSED, enum err why UNUSED)
{
    ASSERT(!is_over && n_open == n_closed);
    is_over = true;
}

static const struct mux_handler handler = {.on_open = on_open, .on_close = on_over};

static void turns(int fd, unsigned n)
{
    static uint8_t trash[65536];
    for (unsigned i = 0; i < n; i++) {
        loop_turn(loop, 0);
        while (recv(fd, trash, sizeof(trash), MSG_DONTWAIT) > 0) {
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int fd[2];
    struct conn *c;
    struct mux *m;
    if (n == 0 || n > 65536) {
        return 0;
    }
    if (loop == NULL) {
        enum err e = loop_new(0, &fuzz_clock, &loop);
        ASSERT(e == OK);
    }
    n_open = n_closed = 0;
    is_over = false;
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd);
    ASSERT(rc == 0);
    enum err e = conn_adopt(loop, fd[0], NULL, true, NULL, NULL, &c);
    ASSERT(e == OK);
    e = mux_new(conn_stream(c), &handler, NULL, &m);
    ASSERT(e == OK);
    struct span in = span_of(data + 1, n - 1);
    size_t step = MAX((size_t)data[0] + 1, in.n / 64 + 1);
    while (in.n > 0 && !is_over) {
        struct span part = span_sub(in, 0, step);
        ssize_t sent = send(fd[1], part.p, part.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            break; /* closed, or it does not read: both are its right */
        }
        in = span_from(in, (size_t)sent);
        turns(fd[1], 2);
    }
    turns(fd[1], 2);
    (void)close(fd[1]);
    for (unsigned i = 0; i < 16 && !is_over; i++) {
        loop_turn(loop, 0);
    }
    ASSERT(is_over);
    now_ms += LIMIT_CONN_LINGER_MS;
    loop_turn(loop, 0);
    conns_end(loop);
    return 0;
}
