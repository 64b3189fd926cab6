/* SPDX-License-Identifier: Apache-2.0 */
#include "net/relay.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/net_fixture.h"
#include "wire/ws.h"

static struct fake_clock fake;
static struct loop *l;
static struct relay *r;
static struct stream *carrier[RELAY_SIDES];
static struct note far[RELAY_SIDES]; /* the raw ends */
static struct rate rate;
static struct relay_end end;
static int ended;
static bool is_strict;

static const uint8_t mask[4] = {9, 8, 7, 6};

static void on_end(struct relay *which, void *arg, const struct relay_end *e)
{
    assert_ptr_equal(which, r);
    assert_ptr_equal(arg, &ended);
    ended++;
    end = *e;
}

static void make_side(enum relay_side side)
{
    int fd[2], small = 4096;
    struct conn *a, *b;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_int_equal(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    assert_ok(conn_adopt(l, fd[0], NULL, true, NULL, NULL, &a));
    assert_ok(conn_adopt(l, fd[1], NULL, false, NULL, NULL, &b));
    carrier[side] = conn_stream(a);
    note_init(&far[side], conn_stream(b));
}

static void attach(enum relay_side side, bool can_half_close)
{
    make_side(side);
    relay_attach(r, side, carrier[side], can_half_close);
}

static void make_relay(void)
{
    const struct relay_conf conf = {
        .loop = l, .is_strict = is_strict, .rate = {&rate, NULL}, .on_end = on_end, .arg = &ended};
    assert_ok(relay_new(&conf, &r));
}

static int setup(void **state)
{
    (void)state;
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    rate_init(&rate, 0);
    ended = 0;
    is_strict = false;
    memset(far, 0, sizeof(far));
    make_relay();
    return 0;
}

static int setup_open(void **state)
{
    (void)setup(state);
    attach(RELAY_DEVICE, false);
    attach(RELAY_SERVICE, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (ended == 0) {
        relay_cut(r);
    }
    for (unsigned i = 0; i < RELAY_SIDES; i++) {
        if (far[i].s != NULL && far[i].closed == 0) {
            stream_abort(far[i].s, E_CLOSED);
        }
    }
    settle(l);
    fake.ms += 60000;
    settle(l);
    assert_int_equal(ended, 1);
    note_done(&far[0]);
    note_done(&far[1]);
    loop_free(l);
    return 0;
}

/* Until nothing moves: the sockets are small. */
static void calm(void)
{
    size_t was;
    do {
        was = far[0].in.n + far[1].in.n;
        for (unsigned i = 0; i < 10; i++) {
            settle(l);
        }
    } while (was != far[0].in.n + far[1].in.n);
}

static void say(enum relay_side side, struct span b)
{
    stream_write(far[side].s, b);
    calm();
}

static void say_frame(enum relay_side side, enum ws_opcode opcode, bool fin, struct span payload)
{
    AUTO(buf_done) struct buf b = BUF_INIT(4u << 20);
    uint8_t head[WS_HEAD_MAX];
    buf_add(&b, span_of(head, ws_head_write(head, opcode, fin, payload.n, mask)));
    size_t at = b.n;
    buf_add(&b, payload);
    ws_mask(b.p + at, payload.n, mask, 0);
    assert_ok(buf_err(&b));
    say(side, buf_span(&b));
}

static void say_data(enum relay_side side, struct span payload)
{
    say_frame(side, WS_BINARY, true, payload);
}

static void say_close(enum relay_side side, uint16_t code)
{
    const uint8_t p[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    say_frame(side, WS_CLOSE, true, span_of(p, 2));
}

static void expect(enum relay_side side, struct span want)
{
    settle(l);
    assert_span(buf_span(&far[side].in), want);
    buf_reset(&far[side].in);
}

#define DISCONNECTED "\x88\x11\x03\xf3WS disconnected"

/* What came to a side: the payload of its binary frames, each of them whole and not too long. */
static void payload_of(enum relay_side side, struct buf *ret)
{
    struct ws_reader rd;
    struct ws_event ev;
    ws_reader_init(&rd, false);
    rd.frame_max = RELAY_FRAME;
    struct span in = buf_span(&far[side].in);
    while (in.n > 0) {
        size_t used;
        assert_ok(ws_read(&rd, in, &used, &ev, NULL));
        in = span_from(in, used);
        assert_int_equal(ev.kind, WS_EV_DATA);
        assert_true(ev.end && !ev.is_text && ev.data.n > 0);
        buf_add(ret, ev.data);
    }
    assert_ok(buf_err(ret));
}

static uint8_t *pattern(size_t n)
{
    uint8_t *p = malloc(n);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(i * 7 + i / 251);
    }
    return p;
}

/* --- data ------------------------------------------------------------------------------------ */

/* Frames of any size, in pieces of any size: what was in front of each piece may be overwritten, and nothing else. */
static void reframed(void **state)
{
    (void)state;
    static const size_t sizes[] = {1,     125,   126,   16379,  16380,
                                   16381, 65535, 65536, 300000, 1u << 20};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO(mem_free_p) uint8_t *p = pattern(sizes[i]);
        AUTO(buf_done) struct buf got = BUF_INIT(4u << 20);
        say_data(RELAY_DEVICE, span_of(p, sizes[i]));
        payload_of(RELAY_SERVICE, &got);
        assert_span(buf_span(&got), span_of(p, sizes[i]));
        buf_reset(&far[RELAY_SERVICE].in);
    }
    for (size_t n = 1; n < 40; n++) { /* cut everywhere */
        AUTO(buf_done) struct buf got = BUF_INIT(4u << 20);
        const uint8_t frames[] = {
            0x82, 0x83, 0, 0, 0, 0,   'o', 'n', 'e',  0x02, 0x83, 0, 0, 0, 0,   't', 'w', 'o', 0x80,
            0x83, 0,    0, 0, 0, '6', '6', '6', 0x81, 0x84, 0,    0, 0, 0, 't', 'e', 'x', 't'};
        struct span in = span_of(frames, sizeof(frames));
        say(RELAY_SERVICE, span_sub(in, 0, n));
        say(RELAY_SERVICE, span_from(in, n));
        payload_of(RELAY_DEVICE, &got);
        assert_span(buf_span(&got), SPAN_LIT("onetwo666text"));
        buf_reset(&far[RELAY_DEVICE].in);
    }
    assert_true(relay_bytes(r, RELAY_SERVICE) == 39 * 13);
}

/* device-streams:16 One side waits: its bytes are kept, at most RELAY_QUEUE of them are read. */
static void first_waits(void **state)
{
    (void)state;
    AUTO(mem_free_p) uint8_t *p = pattern(1u << 20);
    AUTO(buf_done) struct buf got = BUF_INIT(4u << 20);
    attach(RELAY_SERVICE, false);
    say_data(RELAY_SERVICE, span_of(p, 1000));
    say_data(RELAY_SERVICE, span_of(p + 1000, (1u << 20) - 1000));
    assert_true(stream_pending(far[RELAY_SERVICE].s) > (1u << 20) - 4 * RELAY_QUEUE);
    assert_true(relay_bytes(r, RELAY_SERVICE) <= RELAY_QUEUE);
    attach(RELAY_DEVICE, false);
    calm();
    payload_of(RELAY_DEVICE, &got);
    assert_span(buf_span(&got), span_of(p, 1u << 20));
}

static void first_waits_and_leaves(void **state)
{
    (void)state;
    attach(RELAY_DEVICE, false);
    say_frame(RELAY_DEVICE, WS_PING, true, SPAN_LIT("x"));
    expect(RELAY_DEVICE, SPAN_LIT("\x8a\1x"));
    say_close(RELAY_DEVICE, 1000);
    expect(RELAY_DEVICE, SPAN_LIT("\x88\2\x03\xe8"));
    assert_int_equal(ended, 1);
    assert_int_equal(end.why, RELAY_CLOSED);
}

/* device-streams:19 A side that does not read holds a bounded amount, and the other is not read. */
static void slow_side(void **state)
{
    (void)state;
    AUTO(mem_free_p) uint8_t *p = pattern(1u << 20);
    AUTO(buf_done) struct buf got = BUF_INIT(4u << 20);
    stream_pause(far[RELAY_DEVICE].s, true);
    say_data(RELAY_SERVICE, span_of(p, 1u << 20));
    assert_true(stream_pending(carrier[RELAY_DEVICE]) > RELAY_QUEUE);
    assert_true(stream_pending(carrier[RELAY_DEVICE]) <= RELAY_QUEUE + LIMIT_CONN_READ_A_TURN);
    assert_true(stream_pending(far[RELAY_SERVICE].s) > (1u << 19));
    say_data(RELAY_DEVICE, SPAN_LIT("other way")); /* which is not held up */
    expect(RELAY_SERVICE, SPAN_LIT("\x82\x09other way"));
    stream_pause(far[RELAY_DEVICE].s, false);
    calm();
    payload_of(RELAY_DEVICE, &got);
    assert_span(buf_span(&got), span_of(p, 1u << 20));
}

static void say_empty(enum relay_side side, unsigned n)
{
    while (n-- > 0) {
        say_data(side, SPAN_NONE);
    }
}

/* device-streams:20 */
static void empty_messages(void **state)
{
    (void)state;
    say_empty(RELAY_DEVICE, RELAY_EMPTY_MAX);
    expect(RELAY_SERVICE, SPAN_NONE);
    say_data(RELAY_DEVICE, SPAN_LIT("a"));
    expect(RELAY_SERVICE, SPAN_LIT("\x82\1a"));
    say_frame(RELAY_DEVICE, WS_BINARY, false,
              SPAN_LIT("b")); /* no empty message: its last part is */
    say_frame(RELAY_DEVICE, WS_CONTINUATION, true, SPAN_NONE);
    expect(RELAY_SERVICE, SPAN_LIT("\x82\1b"));
    say_empty(RELAY_DEVICE, RELAY_EMPTY_MAX);
    expect(RELAY_SERVICE, SPAN_NONE);
    say_empty(RELAY_DEVICE, 1);
    expect(RELAY_SERVICE, SPAN_LIT("\x88\x0f\x03\xe8"
                                   "End of stream"));
    expect(RELAY_DEVICE, SPAN_LIT("\x88\x0f\x03\xe8"
                                  "End of stream"));
    say_close(RELAY_DEVICE, 1000);
    say_close(RELAY_SERVICE, 1000);
    assert_int_equal(ended, 1);
    assert_int_equal(end.why, RELAY_EMPTY);
}

static void half_close(void **state)
{
    (void)state;
    attach(RELAY_SERVICE, true);
    say_data(RELAY_SERVICE, SPAN_LIT("all"));
    say_data(RELAY_SERVICE, SPAN_NONE);
    attach(RELAY_DEVICE, true);
    expect(RELAY_DEVICE, SPAN_LIT("\x82\3all\x82\0"));
    say_data(RELAY_DEVICE, SPAN_LIT("answer"));
    say_data(RELAY_DEVICE, SPAN_NONE);
    expect(RELAY_SERVICE, SPAN_LIT("\x82\6answer\x82\0"));
}

static void half_close_of_one(void **state)
{
    (void)state;
    attach(RELAY_SERVICE, true);
    say_data(RELAY_SERVICE, SPAN_NONE);
    attach(RELAY_DEVICE, false);
    say_data(RELAY_SERVICE, SPAN_NONE);
    expect(RELAY_DEVICE, SPAN_NONE);
}

static void text_when_strict(void **state)
{
    (void)state;
    is_strict = true;
    relay_cut(r);
    settle(l);
    ended = 0;
    make_relay();
    attach(RELAY_DEVICE, false);
    attach(RELAY_SERVICE, false);
    say_frame(RELAY_DEVICE, WS_TEXT, true, SPAN_LIT("x"));
    expect(RELAY_DEVICE, SPAN_LIT("\x88\2\x03\xeb"));
    expect(RELAY_SERVICE, SPAN_LIT(DISCONNECTED));
}

static void too_long(void **state)
{
    (void)state;
    uint8_t head[WS_HEAD_MAX];
    say(RELAY_SERVICE,
        span_of(head, ws_head_write(head, WS_BINARY, true, RELAY_FRAME_IN + 1u, mask)));
    expect(RELAY_SERVICE, SPAN_LIT("\x88\2\x03\xf1"));
    expect(RELAY_DEVICE, SPAN_LIT(DISCONNECTED));
    say_close(RELAY_DEVICE, 1011);
    assert_int_equal(ended, 1);
    assert_int_equal(end.why, RELAY_FAULT);
    assert_int_equal(end.who, RELAY_SERVICE);
}

static void kept_to_rate(void **state)
{
    (void)state;
    AUTO(mem_free_p) uint8_t *p = pattern(100000);
    AUTO(buf_done) struct buf got = BUF_INIT(4u << 20);
    rate_init(&rate, 10000);
    uint64_t start = fake.ms;
    say_data(RELAY_DEVICE, span_of(p, 100000));
    while (relay_bytes(r, RELAY_DEVICE) < 100000) {
        assert_true(fake.ms < start + 60000);
        fake.ms += 50;
        settle(l);
        uint64_t passed = fake.ms - start;
        assert_true(relay_bytes(r, RELAY_DEVICE) <= passed * 10 + LIMIT_CONN_IN + 1100);
    }
    assert_true(fake.ms - start >= 8000);
    assert_true(fake.ms - start <= 10100);
    payload_of(RELAY_SERVICE, &got);
    assert_span(buf_span(&got), span_of(p, 100000));
}

/* --- ends ------------------------------------------------------------------------------------ */

/* device-streams:21 */
static void closes(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct {
        uint16_t code, passed_on;
    } rows[] = {{1000, 1000}, {1001, 1001}, {1011, 1000}, {4000, 1000}};
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const uint8_t back[4] = {0x88, 2, (uint8_t)(rows[i].code >> 8), (uint8_t)rows[i].code};
        const uint8_t on[4] = {0x88, 2, (uint8_t)(rows[i].passed_on >> 8),
                               (uint8_t)rows[i].passed_on};
        say_data(RELAY_DEVICE, SPAN_LIT("last"));
        say_close(RELAY_DEVICE, rows[i].code);
        expect(RELAY_DEVICE, span_of(back, 4));
        settle(l);
        assert_int_equal(far[RELAY_SERVICE].in.n, 10); /* what was queued comes first */
        assert_memory_equal(far[RELAY_SERVICE].in.p, "\x82\4last", 6);
        assert_memory_equal(far[RELAY_SERVICE].in.p + 6, on, 4);
        assert_int_equal(ended, 0);
        say_close(RELAY_SERVICE, rows[i].passed_on);
        assert_int_equal(ended, 1);
        assert_int_equal(end.why, RELAY_CLOSED);
        assert_true(end.bytes[RELAY_DEVICE] == 4 && end.bytes[RELAY_SERVICE] == 0);
        ended = 0;
        for (unsigned k = 0; k < RELAY_SIDES; k++) {
            assert_int_equal(far[k].closed, 1);
            note_done(&far[k]);
        }
        make_relay();
        attach(RELAY_DEVICE, false);
        attach(RELAY_SERVICE, false);
    }
}

static void close_unanswered(void **state)
{
    (void)state;
    say_close(RELAY_DEVICE, 1000);
    fake.ms += RELAY_CLOSE_MS - 1;
    settle(l);
    assert_int_equal(ended, 0);
    fake.ms += 2;
    settle(l);
    assert_int_equal(ended, 1);
}

/* The time begins anew as long as what stands before the Close is taken. */
static void close_behind_a_queue(void **state)
{
    (void)state;
    AUTO(mem_free_p) uint8_t *p = pattern(60000);
    stream_pause(far[RELAY_SERVICE].s, true);
    say_data(RELAY_DEVICE, span_of(p, 60000));
    say_close(RELAY_DEVICE, 1000);
    for (int i = 0; i < 4; i++) {
        fake.ms += RELAY_CLOSE_MS - 10;
        stream_pause(far[RELAY_SERVICE].s, false);
        loop_turn(l, 0);
        loop_turn(l, 0);
        stream_pause(far[RELAY_SERVICE].s, true);
        loop_turn(l, 0);
        assert_int_equal(ended, 0);
    }
    for (int i = 0; i < 3; i++) {
        fake.ms += RELAY_CLOSE_MS + 10;
        settle(l);
    }
    assert_int_equal(ended, 1);
}

static void lost(void **state)
{
    (void)state;
    stream_abort(far[RELAY_DEVICE].s, E_NET);
    expect(RELAY_SERVICE, SPAN_LIT(DISCONNECTED));
    say_data(RELAY_SERVICE, SPAN_LIT("too late"));
    say_close(RELAY_SERVICE, 1011);
    assert_int_equal(ended, 1);
    assert_int_equal(end.why, RELAY_LOST);
    assert_int_equal(end.who, RELAY_DEVICE);
    assert_true(end.bytes[RELAY_SERVICE] == 0);
}

static void ended_by_us(void **state)
{
    (void)state;
    relay_end(r, 1008, "Out");
    assert_true(relay_is_ending(r));
    expect(RELAY_DEVICE, SPAN_LIT("\x88\5\x03\xf0Out"));
    expect(RELAY_SERVICE, SPAN_LIT("\x88\5\x03\xf0Out"));
    say_close(RELAY_DEVICE, 1008);
    assert_int_equal(ended, 0);
    say_close(RELAY_SERVICE, 1008);
    assert_int_equal(ended, 1);
    assert_int_equal(end.why, RELAY_ENDED);
}

static void ended_before_anybody(void **state)
{
    (void)state;
    relay_end(r, 1000, "");
    assert_int_equal(ended, 0); /* from the loop */
    settle(l);
    assert_int_equal(ended, 1);
}

/* --- signs of life ---------------------------------------------------------------------------- */

static void beat(void)
{
    fake.ms += RELAY_BEAT_MS;
    settle(l);
}

/* device-streams:22 */
static void dead_peer(void **state)
{
    (void)state;
    for (unsigned i = 0; i < RELAY_MISSED_MAX; i++) {
        beat();
        expect(RELAY_SERVICE, SPAN_LIT("\x89\0"));
        if (i % 2 == 0) { /* its pong spares it the next ping */
            expect(RELAY_DEVICE, SPAN_LIT("\x89\0"));
            say_frame(RELAY_DEVICE, WS_PONG, true, SPAN_NONE);
        }
    }
    beat();
    expect(RELAY_SERVICE, SPAN_LIT("\x88\x11\x03\xf3No sign of life"));
    expect(RELAY_DEVICE, SPAN_LIT(DISCONNECTED));
    say_close(RELAY_DEVICE, 1011);
    fake.ms += RELAY_CLOSE_MS + 1;
    settle(l);
    assert_int_equal(ended, 1);
    assert_int_equal(end.why, RELAY_DEAD);
    assert_int_equal(end.who, RELAY_SERVICE);
}

/* device-streams:26, ten minutes */
static void living_peers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 600000u / RELAY_BEAT_MS; i++) {
        beat();
        say_frame(RELAY_DEVICE, WS_PONG, true, SPAN_NONE);
        say_data(RELAY_SERVICE, SPAN_LIT("x"));
    }
    assert_false(relay_is_ending(r));
}

/* A side whose bytes we leave unread, because the other is slow, cannot be heard. */
static void unread_is_not_judged(void **state)
{
    (void)state;
    AUTO(mem_free_p) uint8_t *p = pattern(1u << 20);
    stream_pause(far[RELAY_DEVICE].s, true);
    say_data(RELAY_SERVICE, span_of(p, 1u << 20));
    for (unsigned i = 0; i <= RELAY_MISSED_MAX; i++) {
        assert_false(relay_is_ending(r));
        beat();
    }
    for (unsigned i = 0; i < 20 && ended == 0; i++) {
        beat();
    }
    assert_int_equal(end.why, RELAY_DEAD); /* who takes nothing at all is gone */
    assert_int_equal(end.who, RELAY_DEVICE);
}

#define TEST(setup, fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(setup_open, reframed),
        TEST(setup, first_waits),
        TEST(setup, first_waits_and_leaves),
        TEST(setup_open, slow_side),
        TEST(setup_open, empty_messages),
        TEST(setup, half_close),
        TEST(setup, half_close_of_one),
        TEST(setup, text_when_strict),
        TEST(setup_open, too_long),
        TEST(setup_open, kept_to_rate),
        TEST(setup_open, closes),
        TEST(setup_open, close_unanswered),
        TEST(setup_open, close_behind_a_queue),
        TEST(setup_open, lost),
        TEST(setup_open, ended_by_us),
        TEST(setup, ended_before_anybody),
        TEST(setup_open, dead_peer),
        TEST(setup_open, living_peers),
        TEST(setup_open, unread_is_not_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
