/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ws.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/mlink.h"
#include "net/net_fixture.h"
#include "wire/http.h"
#include "wire/ws.h"

static struct fake_clock fake;
static struct loop *l;
static struct stream *carrier; /* of the ws under test */
static struct note far;        /* the other end, raw */
static struct note in;         /* the ws's own handler */
static struct ws *w;

static const uint8_t mask[4] = {1, 2, 3, 4};

static int setup(void **state)
{
    (void)state;
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    int fd[2];
    struct conn *a, *b;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_ok(conn_adopt(l, fd[0], NULL, true, NULL, NULL, &a));
    assert_ok(conn_adopt(l, fd[1], NULL, false, NULL, NULL, &b));
    carrier = conn_stream(a);
    note_init(&far, conn_stream(b));
    w = NULL;
    memset(&in, 0, sizeof(in));
    return 0;
}

static int setup_server(void **state)
{
    (void)setup(state);
    assert_ok(ws_new(carrier, true, SPAN_NONE, &w));
    note_init(&in, ws_stream(w));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (far.closed == 0) {
        stream_abort(far.s, E_CLOSED);
    }
    settle(l);
    fake.ms += 60000;
    settle(l);
    if (w != NULL) {
        assert_int_equal(in.closed, 1);
    }
    note_done(&far);
    note_done(&in);
    loop_free(l);
    return 0;
}

static void frame_add(struct buf *b, enum ws_opcode opcode, bool fin, struct span payload)
{
    uint8_t head[WS_HEAD_MAX];
    size_t at = 0;
    buf_add(b, span_of(head, ws_head_write(head, opcode, fin, payload.n, mask)));
    at = b->n;
    buf_add(b, payload);
    ws_mask(b->p + at, payload.n, mask, 0);
}

static void say(struct span b)
{
    stream_write(far.s, b);
    settle(l);
}

static void say_frame(enum ws_opcode opcode, bool fin, struct span payload)
{
    AUTO(buf_done) struct buf b = BUF_INIT(4u << 20);
    frame_add(&b, opcode, fin, payload);
    assert_ok(buf_err(&b));
    say(buf_span(&b));
}

static void expect_far(struct span want)
{
    settle(l);
    assert_span(buf_span(&far.in), want);
    buf_reset(&far.in);
}

/* --- frames ---------------------------------------------------------------------------------- */

static void payload_without_boundaries(void **state)
{
    (void)state;
    say_frame(WS_BINARY, true, SPAN_LIT("one"));
    say_frame(WS_BINARY, false, SPAN_LIT("two"));
    say_frame(WS_CONTINUATION, true, SPAN_LIT("three"));
    assert_span(buf_span(&in.in), SPAN_LIT("onetwothree"));
    stream_write(ws_stream(w), SPAN_LIT("answer"));
    expect_far(SPAN_LIT("\x82\6answer"));
    assert_non_null(stream_conn(ws_stream(w)));
    assert_int_equal(stream_pending(ws_stream(w)), 0);
}

static void long_frames_have_long_heads(void **state)
{
    (void)state;
    static const size_t sizes[] = {125, 126, 65535, 65536, 200000};
    AUTO(mem_free_p) uint8_t *p = calloc(1, 200000);
    assert_non_null(p);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t head = sizes[i] < 126 ? 2 : sizes[i] < 65536 ? 4 : 10;
        buf_reset(&in.in);
        say_frame(WS_BINARY, true, span_of(p, sizes[i]));
        STEP_UNTIL(l, in.in.n == sizes[i]);
        stream_write(ws_stream(w), span_of(p, sizes[i]));
        STEP_UNTIL(l, far.in.n == sizes[i] + head);
        buf_reset(&far.in);
    }
}

static void split_at_every_byte(void **state)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1000);
    frame_add(&b, WS_BINARY, false, SPAN_LIT("abc"));
    frame_add(&b, WS_PING, true, SPAN_LIT("now"));
    frame_add(&b, WS_CONTINUATION, true, SPAN_LIT("defg"));
    frame_add(&b, WS_BINARY, true, SPAN_LIT(""));
    frame_add(&b, WS_PONG, true, SPAN_LIT("x"));
    frame_add(&b, WS_BINARY, true, SPAN_LIT("h"));
    frame_add(&b, WS_CLOSE, true,
              SPAN_LIT("\x03\xe9"
                       "bye"));
    for (size_t cut = 1; cut < b.n; cut++) {
        if (cut > 1) {
            assert_int_equal(setup_server(state), 0);
        }
        say(span_of(b.p, cut));
        say(span_from(buf_span(&b), cut));
        assert_span(buf_span(&in.in), SPAN_LIT("abcdefgh"));
        expect_far(SPAN_LIT("\x8a\3now\x88\2\x03\xe9"));
        STEP_UNTIL(l, in.closed == 1);
        assert_err(in.why, OK);
        if (cut + 1 < b.n) {
            assert_int_equal(teardown(state), 0);
        }
    }
}

static const struct {
    const char *name;
    struct span bytes;
    uint16_t code;
} bad[] = {
    {"text", SPAN_LIT("\x81\x81\0\0\0\0a"), 1003},
    {"not masked", SPAN_LIT("\x82\1a"), 1002},
    {"reserved bit", SPAN_LIT("\xc2\x81\0\0\0\0a"), 1002},
    {"reserved opcode", SPAN_LIT("\x83\x81\0\0\0\0a"), 1002},
    {"reserved control", SPAN_LIT("\x8b\x80\0\0\0\0"), 1002},
    {"continuation of nothing", SPAN_LIT("\x80\x81\0\0\0\0a"), 1002},
    {"message inside a message", SPAN_LIT("\x02\x80\0\0\0\0\x82\x80\0\0\0\0"), 1002},
    {"fragmented ping", SPAN_LIT("\x09\x80\0\0\0\0"), 1002},
    {"large ping", SPAN_LIT("\x89\xfe\0\x7e"), 1002},
    {"length not shortest", SPAN_LIT("\x82\xfe\0\x01\0\0\0\0a"), 1002},
    {"length with the high bit", SPAN_LIT("\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0"), 1002},
    {"close with half a code", SPAN_LIT("\x88\x81\0\0\0\0a"), 1002},
    {"close with a code of no wire", SPAN_LIT("\x88\x82\0\0\0\0\x03\xed"), 1002},
    {"close with a bad reason", SPAN_LIT("\x88\x83\0\0\0\0\x03\xe8\xff"), 1007},
};

static void bad_frames_close(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (i > 0) {
            assert_int_equal(setup_server(state), 0);
        }
        const uint8_t want[] = {0x88, 2, (uint8_t)(bad[i].code >> 8), (uint8_t)bad[i].code};
        say_frame(WS_BINARY, true, SPAN_LIT("good"));
        say(bad[i].bytes);
        if (far.in.n != sizeof(want) || in.closed != 1) {
            print_message("%s\n", bad[i].name);
        }
        expect_far(span_of(want, sizeof(want)));
        assert_int_equal(in.closed, 1);
        assert_err(in.why, E_MALFORMED);
        assert_span(buf_span(&in.in), SPAN_LIT("good"));
        assert_int_equal(far.closed, 1);
        if (i + 1 < ARRAY_LEN(bad)) {
            assert_int_equal(teardown(state), 0);
        }
    }
}

static void masked_server_frame_closes(void **state)
{
    (void)state;
    assert_ok(ws_new(carrier, false, SPAN_NONE, &w));
    note_init(&in, ws_stream(w));
    say_frame(WS_BINARY, true, SPAN_LIT("a"));
    STEP_UNTIL(l, in.closed == 1);
    assert_err(in.why, E_MALFORMED);
    assert_int_equal(far.in.n, 2 + 4 + 2); /* ours are masked, the Close too */
    assert_int_equal(far.in.p[1], 0x82);
}

static void ping_flood_without_reading_is_bounded(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    static const uint8_t text[125];
    for (int i = 0; i < 1000; i++) {
        frame_add(&b, WS_PING, true, span_of(text, sizeof(text)));
    }
    far.eat = 0;
    for (int i = 0; i < 60; i++) {
        stream_write(far.s, buf_span(&b));
        settle(l);
        assert_true(stream_pending(ws_stream(w)) <= LIMIT_CONN_OUT_HIGH + 65536);
    }
    assert_int_equal(in.closed, 0);
    far.eat = SIZE_MAX;
    stream_again(far.s);
}

/* --- early bytes, back-pressure -------------------------------------------------------------- */

static void early_bytes_come_first(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(100);
    frame_add(&b, WS_BINARY, true, SPAN_LIT("abcdef"));
    assert_ok(ws_new(carrier, true, span_of(b.p, 8), &w));
    note_init(&in, ws_stream(w));
    stream_write(far.s, span_from(buf_span(&b), 8));
    assert_int_equal(in.calls, 0);
    STEP_UNTIL(l, in.in.n == 6);
    assert_span(buf_span(&in.in), SPAN_LIT("abcdef"));
}

static void early_bytes_wait_for_a_paused_handler(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(100);
    frame_add(&b, WS_BINARY, true, SPAN_LIT("abc"));
    assert_ok(ws_new(carrier, true, buf_span(&b), &w));
    note_init(&in, ws_stream(w));
    stream_pause(ws_stream(w), true);
    say_frame(WS_BINARY, true, SPAN_LIT("def"));
    assert_int_equal(in.calls, 0);
    stream_pause(ws_stream(w), false);
    STEP_UNTIL(l, in.in.n == 6);
    assert_span(buf_span(&in.in), SPAN_LIT("abcdef"));
}

/* The handler is slow, not paused: what is behind the early bytes may not overtake them. */
static void early_bytes_keep_their_place(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(100);
    frame_add(&b, WS_BINARY, true, SPAN_LIT("abc"));
    frame_add(&b, WS_BINARY, true, SPAN_LIT("def"));
    assert_ok(ws_new(carrier, true, buf_span(&b), &w));
    note_init(&in, ws_stream(w));
    in.eat = 0;
    ws_stream(w)->want = 1;
    say_frame(WS_BINARY, true, SPAN_LIT("ghi"));
    assert_int_equal(in.in.n, 0);
    in.eat = SIZE_MAX;
    stream_again(ws_stream(w));
    STEP_UNTIL(l, in.in.n == 9);
    assert_span(buf_span(&in.in), SPAN_LIT("abcdefghi"));
}

static void rest_is_kept_unmasked(void **state)
{
    (void)state;
    in.eat = 2;
    say_frame(WS_BINARY, true, SPAN_LIT("abcd"));
    assert_int_equal(in.in.n, 2);
    say_frame(WS_BINARY, true, SPAN_LIT("ef"));
    assert_int_equal(in.in.n, 4);
    in.eat = SIZE_MAX;
    stream_again(ws_stream(w));
    settle(l);
    assert_span(buf_span(&in.in), SPAN_LIT("abcdef"));
}

/* Two ws over one pair: a server's and a client's. */
static void large_both_ways(void **state)
{
    (void)state;
    struct ws *client;
    struct note n;
    assert_ok(ws_new(far.s, false, SPAN_NONE, &client));
    note_init(&n, ws_stream(client));
    far.closed = 1; /* its handler is the client ws now */
    n.to_send = in.to_send = 5u << 20;
    in.eat = 9000;
    note_pump(&n);
    note_pump(&in);
    settle(l);
    assert_true(n.to_send > 0); /* the reader takes its time */
    for (int i = 0; in.in.n < 5u << 20 || n.in.n < 5u << 20; i++) {
        assert_true(i < 20000);
        stream_again(ws_stream(w));
        loop_turn(l, 1);
    }
    assert_true(is_pattern(buf_span(&in.in)));
    assert_true(is_pattern(buf_span(&n.in)));
    assert_true(n.sent_max <= LIMIT_CONN_OUT_HIGH + 6000);
    stream_close(ws_stream(client));
    STEP_UNTIL(l, n.closed == 1 && in.closed == 1);
    assert_err(n.why, E_CLOSED);
    assert_err(in.why, OK);
    note_done(&n);
}

static void reading_stops_at_want(void **state)
{
    (void)state;
    in.eat = 0;
    AUTO(mem_free_p) uint8_t *p = calloc(1, 3u << 20);
    assert_non_null(p);
    stream_write(far.s, SPAN_LIT("\x82\xff\0\0\0\0\0\x30\0\0\0\0\0\0"));
    stream_write(far.s, span_of(p, 3u << 20));
    settle(l);
    assert_true(stream_pending(far.s) > (2u << 20) + (512u << 10)); /* the peer feels it */
    in.s->want = 4u << 20;
    stream_again(in.s);
    STEP_UNTIL(l, stream_pending(far.s) == 0);
    in.eat = SIZE_MAX;
    stream_again(in.s);
    STEP_UNTIL(l, in.in.n == 3u << 20);
}

/* --- endings --------------------------------------------------------------------------------- */

static void close_waits_for_the_peers_close(void **state)
{
    (void)state;
    stream_pause(ws_stream(w), true);
    in.in_call = true;
    stream_close(ws_stream(w));
    stream_close(ws_stream(w));
    stream_write(ws_stream(w), SPAN_LIT("too late"));
    in.in_call = false;
    expect_far(SPAN_LIT("\x88\2\x03\xe8"));
    assert_int_equal(in.closed, 0);
    say_frame(WS_BINARY, true, SPAN_LIT("on its way"));
    assert_int_equal(in.in.n, 0);
    say_frame(WS_CLOSE, true, SPAN_LIT("\x03\xe8"));
    STEP_UNTIL(l, in.closed == 1);
    assert_err(in.why, E_CLOSED);
    expect_far(SPAN_LIT(""));
}

static void close_waits_bounded(void **state)
{
    (void)state;
    ws_close(w, 1001);
    expect_far(SPAN_LIT("\x88\2\x03\xe9"));
    fake.ms += LIMIT_WS_CLOSE_MS - 1;
    settle(l);
    assert_int_equal(in.closed, 0);
    fake.ms += 1;
    STEP_UNTIL(l, in.closed == 1);
    assert_err(in.why, E_CLOSED);
}

static void close_without_a_code_is_echoed_so(void **state)
{
    (void)state;
    say_frame(WS_CLOSE, true, SPAN_LIT(""));
    expect_far(SPAN_LIT("\x88\0"));
    assert_int_equal(in.closed, 1);
    assert_err(in.why, OK);
}

static void carrier_gone(void **state)
{
    (void)state;
    stream_close(far.s);
    STEP_UNTIL(l, in.closed == 1);
    assert_err(in.why, OK);
}

static void abort_keeps_its_reason(void **state)
{
    (void)state;
    in.in_call = true;
    stream_abort(ws_stream(w), E_FENCED);
    in.in_call = false;
    STEP_UNTIL(l, in.closed == 1);
    assert_err(in.why, E_FENCED);
}

static size_t abort_bytes(struct stream *s, void *arg, struct span b)
{
    (void)arg;
    stream_abort(s, E_ARG);
    assert_int_equal(b.p[b.n - 1], 'c');
    return 0;
}

static void abort_inside_on_bytes(void **state)
{
    (void)state;
    static struct stream_handler h;
    h = note_handler;
    h.on_bytes = abort_bytes;
    stream_handle(ws_stream(w), &h, &in);
    say_frame(WS_BINARY, true, SPAN_LIT("abc"));
    STEP_UNTIL(l, in.closed == 1);
    assert_err(in.why, E_ARG);
}

/* --- the client's upgrade -------------------------------------------------------------------- */

static struct {
    int done;
    enum err why;
    int status;
} ready;

static void on_ready(struct ws *got, void *arg, enum err why, int status)
{
    assert_ptr_equal(arg, &ready);
    ready.done++;
    ready.why = why;
    ready.status = status;
    w = got;
    if (got != NULL) {
        note_init(&in, ws_stream(got));
    }
}

static void begin_upgrade(void)
{
    memset(&ready, 0, sizeof(ready));
    assert_ok(ws_connect(carrier, "hub.example:443", "/$iothub/websocket", "mqtt",
                         "Authorization: x\r\n", on_ready, &ready));
    STEP_UNTIL(l, far.in.n > 0);
    assert_int_equal(ready.done, 0);
}

/* The answer that fits what was asked. */
static void answer(struct buf *b, const char *status, const char *protocol, bool wrong)
{
    struct http_head h;
    char accept[WS_ACCEPT_SIZE];
    assert_ok(http_head_read(buf_span(&far.in), &h, NULL));
    assert_span(h.target, SPAN_LIT("/$iothub/websocket"));
    assert_span(h.host, SPAN_LIT("hub.example:443"));
    assert_span(http_head_get(&h, "authorization"), SPAN_LIT("x"));
    const struct ws_upgrade u = {http_head_get(&h, "Upgrade"), http_head_get(&h, "Connection"),
                                 http_head_get(&h, "Sec-WebSocket-Version"),
                                 http_head_get(&h, "Sec-WebSocket-Key"),
                                 http_head_get(&h, "Sec-WebSocket-Protocol")};
    struct span picked;
    assert_ok(ws_upgrade_check(&u, "mqtt", &picked, NULL));
    assert_ok(ws_accept(wrong ? SPAN_LIT("AAAAAAAAAAAAAAAAAAAAAA==") : u.key, accept));
    buf_addf(b,
             "HTTP/1.1 %s\r\nconnection: Upgrade\r\nUPGRADE: WebSocket\r\n"
             "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
             status, accept, protocol);
}

static void client_upgrades(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(1000);
    begin_upgrade();
    answer(&b, "101 Switching Protocols", "mqtt", false);
    buf_add(&b, SPAN_LIT("\x82\5early"));
    for (size_t i = 0; i < b.n; i += 10) {
        say(span_sub(buf_span(&b), i, 10));
    }
    STEP_UNTIL(l, ready.done == 1 && in.in.n == 5);
    assert_err(ready.why, OK);
    assert_int_equal(ready.status, 101);
    assert_span(buf_span(&in.in), SPAN_LIT("early"));
    buf_reset(&far.in);
    stream_write(ws_stream(w), SPAN_LIT("hello"));
    STEP_UNTIL(l, far.in.n == 11);
    ws_mask(far.in.p + 6, 5, far.in.p + 2, 0);
    assert_memory_equal(far.in.p + 6, "hello", 5);
    fake.ms += 60000; /* the upgrade's deadline is over */
    settle(l);
    assert_int_equal(in.closed, 0);
}

static void client_refuses_answers(void **state)
{
    static const struct {
        const char *status;
        const char *protocol;
        bool wrong;
        enum err why;
        int code;
    } rows[] = {
        {"404 Not Found", "mqtt", false, E_REMOTE, 404},
        {"101 Switching Protocols", "mqtt", true, E_MALFORMED, 101},
        {"101 Switching Protocols", "amqp", false, E_MALFORMED, 101},
        {"rubbish", "mqtt", false, E_MALFORMED, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (i > 0) {
            assert_int_equal(setup(state), 0);
        }
        AUTO(buf_done) struct buf b = BUF_INIT(1000);
        begin_upgrade();
        answer(&b, rows[i].status, rows[i].protocol, rows[i].wrong);
        say(buf_span(&b));
        STEP_UNTIL(l, ready.done == 1 && far.closed == 1);
        assert_null(w);
        assert_err(ready.why, rows[i].why);
        assert_int_equal(ready.status, rows[i].code);
        if (i + 1 < ARRAY_LEN(rows)) {
            assert_int_equal(teardown(state), 0);
        }
    }
}

static void client_waits_bounded(void **state)
{
    (void)state;
    begin_upgrade();
    say(SPAN_LIT("HTTP/1.1 101"));
    fake.ms += LIMIT_HANDSHAKE_S * 1000u;
    settle(l);
    assert_int_equal(ready.done, 1);
    assert_err(ready.why, E_TIMEOUT);
    STEP_UNTIL(l, far.closed == 1);
    assert_int_equal(ready.done, 1);
}

static void client_bounds_the_answer(void **state)
{
    (void)state;
    AUTO(mem_free_p) uint8_t *p = malloc(LIMIT_WS_HANDSHAKE);
    assert_non_null(p);
    memset(p, 'x', LIMIT_WS_HANDSHAKE);
    begin_upgrade();
    say(span_of(p, LIMIT_WS_HANDSHAKE - 1));
    assert_int_equal(ready.done, 0);
    say(span_of(p, 1));
    assert_int_equal(ready.done, 1);
    assert_err(ready.why, E_TOO_LARGE);
}

static void client_loses_its_carrier(void **state)
{
    (void)state;
    begin_upgrade();
    stream_close(far.s);
    STEP_UNTIL(l, ready.done == 1);
    assert_err(ready.why, E_NET);
}

/* --- MQTT on top ----------------------------------------------------------------------------- */

static int mqtt_closed;
static mlink_slot mqtt_slots[3];
static int n_mqtt_slots;

static void mq_connect(struct mlink *m, void *arg, const struct mqtt_connect *c)
{
    (void)arg;
    (void)c;
    mlink_connack(m, 0, false);
}

static enum err mq_publish(struct mlink *m, void *arg, const struct mqtt_publish *p,
                           mlink_slot slot, struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)info;
    assert_int_equal(p->payload.n, n_mqtt_slots == 1 ? 200000 : 1);
    mqtt_slots[n_mqtt_slots++] = slot;
    return OK;
}

static void mq_close(struct mlink *m, void *arg, bool is_clean, enum err why,
                     const struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)info;
    assert_true(is_clean);
    assert_err(why, OK);
    mqtt_closed++;
}

static const struct mlink_handler mqtt_handler = {
    .on_connect = mq_connect,
    .on_publish = mq_publish,
    .on_close = mq_close,
};

static void mqtt_over_frames_of_any_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 5000, 1u << 20};
    AUTO(mem_free_p) uint8_t *big = calloc(1, 200000);
    assert_non_null(big);
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        if (k > 0) {
            assert_int_equal(setup(state), 0);
        }
        struct mlink *m;
        struct ws *server;
        mqtt_closed = n_mqtt_slots = 0;
        assert_ok(ws_new(carrier, true, SPAN_NONE, &server));
        assert_ok(mlink_new(ws_stream(server), &mqtt_handler, NULL, &m));
        AUTO(buf_done) struct buf all = BUF_INIT(1u << 20);
        buf_add(&all, SPAN_LIT("\x10\x10\0\4MQTT\4\2\0\x3c\0\4dev1"
                               "\x32\6\0\1t\0\1x"));
        mqtt_publish_write(&all, &(struct mqtt_publish){.topic = SPAN_LIT("t"),
                                                        .payload = span_of(big, 200000),
                                                        .packet_id = 2,
                                                        .qos = 1});
        buf_add(&all, SPAN_LIT("\x32\6\0\1t\0\3x"));
        for (size_t i = 0; i < all.n; i += sizes[k]) {
            AUTO(buf_done) struct buf b = BUF_INIT(2u << 20);
            frame_add(&b, WS_BINARY, true, span_sub(buf_span(&all), i, sizes[k]));
            stream_write(far.s, buf_span(&b));
            if (stream_is_full(far.s) || i % 1000 == 0) {
                loop_turn(l, 0);
            }
        }
        STEP_UNTIL(l, n_mqtt_slots == 3);
        for (int i = 3; i-- > 0;) {
            mlink_ack(m, mqtt_slots[i]);
        }
        /* CONNACK in one frame, the three PUBACKs of one turn in another */
        STEP_UNTIL(l, far.in.n >= 20);
        expect_far(SPAN_LIT("\x82\4\x20\2\0\0"
                            "\x82\x0c\x40\2\0\1\x40\2\0\2\x40\2\0\3"));
        say_frame(WS_BINARY, true, SPAN_LIT("\xe0\0"));
        expect_far(SPAN_LIT("\x88\2\x03\xe8"));
        say_frame(WS_CLOSE, true, SPAN_LIT("\x03\xe8"));
        STEP_UNTIL(l, mqtt_closed == 1);
        if (k + 1 < ARRAY_LEN(sizes)) {
            assert_int_equal(teardown(state), 0);
        }
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define S(f) cmocka_unit_test_setup_teardown(f, setup_server, teardown)
    const struct CMUnitTest tests[] = {
        S(payload_without_boundaries),
        S(long_frames_have_long_heads),
        S(split_at_every_byte),
        S(bad_frames_close),
        T(masked_server_frame_closes),
        S(ping_flood_without_reading_is_bounded),
        T(early_bytes_come_first),
        T(early_bytes_wait_for_a_paused_handler),
        T(early_bytes_keep_their_place),
        S(rest_is_kept_unmasked),
        S(large_both_ways),
        S(reading_stops_at_want),
        S(close_waits_for_the_peers_close),
        S(close_waits_bounded),
        S(close_without_a_code_is_echoed_so),
        S(carrier_gone),
        S(abort_keeps_its_reason),
        S(abort_inside_on_bytes),
        T(client_upgrades),
        T(client_refuses_answers),
        T(client_waits_bounded),
        T(client_bounds_the_answer),
        T(client_loses_its_carrier),
        T(mqtt_over_frames_of_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
