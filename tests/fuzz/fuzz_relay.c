/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of one end of a stream: whatever they are, the other end gets whole binary frames of the payload, then at most a Close. */
#include "tests/fuzz/fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/conn.h"
#include "net/relay.h"
#include "wire/ws.h"

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
static bool is_over;
static uint64_t passed;

static void on_end(struct relay *r UNUSED, void *arg UNUSED, const struct relay_end *end)
{
    is_over = true;
    passed = end->bytes[RELAY_DEVICE];
}

static int make_end(struct loop *l, struct relay *r, enum relay_side side)
{
    int fd[2], big = 1 << 20;
    struct conn *c;
    ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    (void)setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
    (void)setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
    ASSERT(conn_adopt(l, fd[0], NULL, true, NULL, NULL, &c) == OK);
    relay_attach(r, side, conn_stream(c), false);
    return fd[1];
}

/* Payload bytes in the frames that came; they are whole, and nothing stands behind a Close. */
static uint64_t payload_of(int fd)
{
    static uint8_t bytes[1u << 20];
    struct ws_reader rd;
    uint64_t n = 0;
    bool is_closed = false;
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    struct span in = span_of(bytes, got > 0 ? (size_t)got : 0);
    ws_reader_init(&rd, false);
    rd.frame_max = RELAY_FRAME;
    while (in.n > 0) {
        struct ws_event ev;
        size_t used;
        ASSERT(!is_closed && ws_read(&rd, in, &used, &ev, NULL) == OK);
        in = span_from(in, used);
        ASSERT(ev.kind == WS_EV_CLOSE || (ev.kind == WS_EV_DATA && ev.end && !ev.is_text));
        is_closed = ev.kind == WS_EV_CLOSE;
        n += ev.kind == WS_EV_DATA ? ev.data.n : 0;
    }
    return n;
}

static void turns(struct loop *l)
{
    for (int i = 0; i < 12; i++) {
        loop_turn(l, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct loop *l;
    struct relay *r;
    if (n < 2 || n > 65536) {
        return 0;
    }
    ASSERT(loop_new(0, &fuzz_clock, &l) == OK);
    is_over = false;
    const struct relay_conf conf = {.loop = l, .is_strict = (data[0] & 1) != 0, .on_end = on_end};
    ASSERT(relay_new(&conf, &r) == OK);
    int far = make_end(l, r, RELAY_DEVICE);
    int near = -1;
    if ((data[0] & 2) == 0) {
        near = make_end(l, r, RELAY_SERVICE);
    }
    size_t first = MIN(n - 2, (size_t)data[1]);
    data += 2;
    n -= 2;
    (void)!write(far, data, first); /* in two pieces; an end that is gone is fine */
    turns(l);
    (void)!send(far, data + first, n - first, MSG_NOSIGNAL);
    turns(l);
    if (near < 0 && !is_over && !relay_is_ending(r)) {
        near = make_end(l, r, RELAY_SERVICE); /* comes late: what waited for it follows */
        turns(l);
    }
    uint64_t seen = near >= 0 ? payload_of(near) : 0;
    (void)close(far);
    if (near >= 0) {
        (void)close(near);
    }
    turns(l);
    now_ms += 60000;
    turns(l);
    ASSERT(is_over);
    ASSERT(near < 0 || seen == passed);
    conns_end(l);
    loop_free(l);
    return 0;
}
