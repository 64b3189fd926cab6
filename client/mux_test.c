/* SPDX-License-Identifier: Apache-2.0 */
/* Channels over one stream, and streams joined: both ends of berth.streams.v1 in one loop. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "client/link.h"
#include "client/mux_int.h"
#include "client/splice.h"
#include "net/net_fixture.h"

static struct fake_clock fake;
static struct loop *l;

#define ACCEPTED 80
static struct {
    struct mux *opener, *taker;
    struct note raw; /* the opener's end as bare bytes, in tests of bad frames */
    struct note in[ACCEPTED];
    struct stream *channel[ACCEPTED];
    char name[ACCEPTED][MUX_NAME + 1];
    size_t n_in;
    bool refuses, leaves; /* without a handler */
    int closed;
    enum err why;
} t;

static void on_open(struct mux *m, void *arg, struct span name, struct stream *ch)
{
    (void)arg;
    assert_ptr_equal(m, t.taker);
    if (t.refuses) {
        mux_refuse(ch, "not listed");
        return;
    }
    assert_true(t.n_in < ACCEPTED);
    assert_true(span_to_cstr(name, t.name[t.n_in], sizeof(t.name[0])));
    t.channel[t.n_in] = ch;
    if (!t.leaves) {
        note_init(&t.in[t.n_in], ch);
        stream_handle(ch, &note_ends_handler, &t.in[t.n_in]);
    }
    t.n_in++;
}

static void on_close(struct mux *m, void *arg, enum err why)
{
    (void)arg;
    t.closed++;
    t.why = why;
    if (m == t.opener) {
        t.opener = NULL;
    } else {
        t.taker = NULL;
    }
}

static const struct mux_handler opens = {.on_close = on_close},
                                takes = {.on_open = on_open, .on_close = on_close};

static int begin(bool is_raw)
{
    int fd[2];
    struct conn *c;
    memset(&t, 0, sizeof(t));
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_ok(conn_adopt(l, fd[0], NULL, true, NULL, NULL, &c));
    if (is_raw) {
        note_init(&t.raw, conn_stream(c));
    } else {
        assert_ok(mux_new(conn_stream(c), &opens, NULL, &t.opener));
    }
    assert_ok(conn_adopt(l, fd[1], NULL, true, NULL, NULL, &c));
    assert_ok(mux_new(conn_stream(c), &takes, NULL, &t.taker));
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return begin(false);
}

static int setup_raw(void **state)
{
    (void)state;
    return begin(true);
}

static int teardown(void **state)
{
    (void)state;
    if (t.opener != NULL) {
        mux_close(t.opener, OK);
    }
    if (t.taker != NULL) {
        mux_close(t.taker, OK);
    }
    STEP_UNTIL(l, t.opener == NULL && t.taker == NULL);
    fake.ms += LIMIT_CONN_LINGER_MS;
    settle(l);
    for (size_t i = 0; i < t.n_in; i++) {
        if (!t.leaves) {
            assert_int_equal(t.in[i].closed, 1);
            note_done(&t.in[i]);
        }
    }
    note_done(&t.raw);
    loop_free(l);
    return 0;
}

static void open_one(struct note *n, const char *name)
{
    struct stream *s;
    assert_ok(mux_open(t.opener, span_str(name), &s));
    note_init(n, s);
    stream_handle(s, &note_ends_handler, n);
}

static void bytes_halves_and_names(void **state)
{
    (void)state;
    struct note a, b;
    open_one(&a, "ssh");
    open_one(&b, "web");
    stream_write(a.s, SPAN_LIT("question"));
    assert_true(stream_end(a.s));
    stream_write(b.s, SPAN_LIT("other"));
    STEP_UNTIL(l, t.n_in == 2 && t.in[0].ended == 1 && t.in[1].in.n == 5);
    assert_string_equal(t.name[0], "ssh");
    assert_string_equal(t.name[1], "web");
    assert_span(buf_span(&t.in[0].in), SPAN_LIT("question"));
    settle(l);
    assert_int_equal(a.closed + t.in[0].closed, 0); /* one half is still open */
    stream_write(t.in[0].s, SPAN_LIT("the tail"));
    assert_true(stream_end(t.in[0].s));
    STEP_UNTIL(l, a.closed == 1 && t.in[0].closed == 1);
    assert_span(buf_span(&a.in), SPAN_LIT("the tail"));
    assert_err(a.why, OK);
    assert_err(t.in[0].why, OK);
    stream_write(t.in[1].s, SPAN_LIT("last words"));
    stream_close(t.in[1].s);
    STEP_UNTIL(l, b.closed == 1 && t.in[1].closed == 1);
    assert_span(buf_span(&b.in), SPAN_LIT("last words"));
    assert_err(b.why, OK);
    assert_err(t.in[1].why, E_CLOSED);
    assert_int_equal(mux_count(t.opener) + mux_count(t.taker), 0);
    note_done(&a);
    note_done(&b);
}

static void refused_and_reset(void **state)
{
    (void)state;
    struct note a, b;
    t.refuses = true;
    open_one(&a, "rdp");
    STEP_UNTIL(l, a.closed == 1);
    assert_err(a.why, E_REMOTE);
    t.refuses = false;
    open_one(&b, "ssh");
    stream_write(b.s, SPAN_LIT("x"));
    STEP_UNTIL(l, t.n_in == 1 && t.in[0].in.n == 1);
    stream_abort(b.s, E_NET);
    STEP_UNTIL(l, b.closed == 1 && t.in[0].closed == 1);
    assert_err(b.why, E_NET);
    assert_err(t.in[0].why, E_REMOTE);
    note_done(&a);
    note_done(&b);
}

/* A channel nobody reads stops at its window; the others go on; what was kept comes in full. */
static void a_slow_channel_stops_alone(void **state)
{
    (void)state;
    struct note slow, fast;
    t.leaves = true;
    open_one(&slow, "slow");
    open_one(&fast, "fast");
    STEP_UNTIL(l, t.n_in == 2);
    slow.to_send = 3u << 20;
    fast.to_send = 6u << 20;
    note_init(&t.in[1], t.channel[1]);
    stream_again(t.channel[1]);
    note_pump(&slow);
    note_pump(&fast);
    STEP_UNTIL(l, t.in[1].in.n == 6u << 20);
    assert_true(is_pattern(buf_span(&t.in[1].in)));
    struct channel *c = CONTAINER_OF(t.channel[0], struct channel, s);
    assert_int_equal(c->in.n, MUX_WINDOW);
    assert_true(slow.to_send > 0);
    note_init(&t.in[0], t.channel[0]);
    stream_again(t.channel[0]);
    STEP_UNTIL(l, t.in[0].in.n == 3u << 20);
    assert_true(is_pattern(buf_span(&t.in[0].in)));
    mux_close(t.opener, OK);
    STEP_UNTIL(l, t.in[0].closed == 1 && t.in[1].closed == 1 && slow.closed == 1);
    note_done(&slow);
    note_done(&fast);
    note_done(&t.in[0]);
    note_done(&t.in[1]);
}

static void all_channels_share(void **state)
{
    (void)state;
    static struct note n[MUX_CHANNELS];
    struct stream *more;
    for (size_t i = 0; i < MUX_CHANNELS; i++) {
        open_one(&n[i], "x");
        n[i].to_send = 200000;
        note_pump(&n[i]);
    }
    assert_err(mux_open(t.opener, SPAN_LIT("x"), &more), E_LIMIT);
    STEP_UNTIL(l, t.n_in == MUX_CHANNELS);
    size_t least = SIZE_MAX, most = 0;
    STEP_UNTIL(l, t.in[0].in.n > 60000);
    for (size_t i = 0; i < MUX_CHANNELS; i++) {
        least = MIN(least, t.in[i].in.n);
        most = MAX(most, t.in[i].in.n);
    }
    assert_true(most - least <= 3 * MUX_DATA);
    for (size_t i = 0; i < MUX_CHANNELS; i++) {
        STEP_UNTIL(l, t.in[i].in.n == 200000);
        assert_true(is_pattern(buf_span(&t.in[i].in)));
        stream_close(n[i].s);
    }
    for (size_t i = 0; i < MUX_CHANNELS; i++) {
        STEP_UNTIL(l, n[i].closed == 1 && t.in[i].closed == 1);
        note_done(&n[i]);
    }
}

static void session_ends_its_channels(void **state)
{
    (void)state;
    struct note a;
    open_one(&a, "ssh");
    STEP_UNTIL(l, t.n_in == 1);
    mux_close(t.taker, E_TIMEOUT);
    STEP_UNTIL(l, t.closed == 2);
    assert_int_equal(a.closed, 1);
    assert_true(a.why != OK);
    assert_err(t.in[0].why, E_TIMEOUT);
    note_done(&a);
}

/* --- frames that must not be ------------------------------------------------------------------------ */

static void bad_frames_end_the_session(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t n;
    } bad[] = {
#define F(s) {s, sizeof(s) - 1}
        F("\0\0\0\0\0\0\0\1"),                 /* no type */
        F("\7\0\0\0\0\0\0\1"),                 /* unknown type */
        F("\1\0\0\0\0\0\0\2"),                 /* OPEN without a name */
        F("\1\0\0\1\0\0\0\1x"),                /* channel opened twice */
        F("\1\0\0\1\0\0\0\0x"),                /* channel 0 */
        F("\1\0\0\1\0\0\0\2\xff"),             /* no UTF-8 */
        F("\2\0\0\1\0\0\0\2x"),                /* DATA before OPEN */
        F("\2\0\0\0\0\0\0\1"),                 /* empty DATA */
        F("\2\0\x3f\xf1\0\0\0\1"),             /* longer than allowed */
        F("\2\1\0\0\0\0\0\1"),                 /* much longer */
        F("\3\0\0\0\0\0\0\1\3\0\0\0\0\0\0\1"), /* END twice */
        F("\6\0\0\3\0\0\0\1\0\0\1"),           /* WINDOW of three bytes */
        F("\6\0\0\4\0\0\0\1\1\0\0\0"),         /* more than a window */
#undef F
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (i > 0) {
            assert_int_equal(begin(true), 0);
        }
        stream_write(t.raw.s, SPAN_LIT("\1\0\0\1\0\0\0\1a"));
        settle(l);
        assert_int_equal(t.n_in, 1);
        stream_write(t.raw.s, span_of(bad[i].p, bad[i].n));
        STEP_UNTIL(l, t.closed == 1 && t.raw.closed == 1);
        assert_err(t.why, E_MALFORMED);
        if (i + 1 < ARRAY_LEN(bad)) {
            assert_int_equal(teardown(NULL), 0);
        }
    }
}

static void more_than_the_window_ends_the_session(void **state)
{
    (void)state;
    static uint8_t frame[MUX_HEAD + MUX_DATA] = {2, 0, MUX_DATA >> 8, MUX_DATA & 0xff, 0, 0, 0, 1};
    t.leaves = true; /* nobody reads */
    stream_write(t.raw.s, SPAN_LIT("\1\0\0\1\0\0\0\1a"));
    settle(l);
    for (size_t sent = 0; sent <= MUX_WINDOW && t.closed == 0; sent += MUX_DATA) {
        stream_write(t.raw.s, span_of(frame, sizeof(frame)));
        settle(l);
    }
    STEP_UNTIL(l, t.closed == 1 && t.raw.closed == 1);
    assert_err(t.why, E_MALFORMED);
}

static void late_frames_of_an_old_channel_are_ignored(void **state)
{
    (void)state;
    stream_write(t.raw.s, SPAN_LIT("\1\0\0\1\0\0\0\1a"));
    STEP_UNTIL(l, t.n_in == 1);
    stream_close(t.in[0].s);
    STEP_UNTIL(l, t.in[0].closed == 1);
    stream_write(t.raw.s, SPAN_LIT("\2\0\0\1\0\0\0\1x\3\0\0\0\0\0\0\1\1\0\0\1\0\0\0\2b"));
    STEP_UNTIL(l, t.n_in == 2);
    assert_int_equal(t.closed, 0);
    stream_close(t.raw.s);
    STEP_UNTIL(l, t.closed == 1 && t.raw.closed == 1);
}

/* --- joined streams ------------------------------------------------------------------------------------ */

static int n_done;
static struct splice_end ended;
static void spliced(void *arg, const struct splice_end *e)
{
    (void)arg;
    n_done++;
    ended = *e;
}

/* one.a <-> one.b == two.a <-> two.b, the two in the middle joined. */
static void joined_streams(void **state)
{
    (void)state;
    struct pair one, two;
    struct hold held[2];
    struct splice *sp;
    n_done = 0;
    pair_make(l, &one);
    pair_make(l, &two);
    note_done(&one.b);
    note_done(&two.a);
    hold_stream(&held[0], one.b.s, NULL);
    hold_stream(&held[1], two.a.s, NULL);
    assert_ok(splice_new(&held[0], &held[1], spliced, NULL, &sp));
    stream_handle(one.a.s, &note_ends_handler, &one.a);
    stream_handle(two.b.s, &note_ends_handler, &two.b);
    two.b.eat = 0;
    one.a.to_send = 8u << 20;
    note_pump(&one.a);
    settle(l);
    assert_true(one.a.to_send > 6u << 20); /* the slow side slows the fast one */
    two.b.eat = SIZE_MAX;
    stream_again(two.b.s);
    STEP_UNTIL(l, two.b.in.n == 8u << 20);
    assert_true(is_pattern(buf_span(&two.b.in)));
    assert_true(stream_end(one.a.s));
    STEP_UNTIL(l, two.b.ended == 1);
    stream_write(two.b.s, SPAN_LIT("bye"));
    assert_true(stream_end(two.b.s));
    STEP_UNTIL(l, one.a.closed == 1 && two.b.closed == 1 && n_done == 1);
    assert_span(buf_span(&one.a.in), SPAN_LIT("bye"));
    assert_err(ended.why, OK);
    assert_int_equal(ended.from_a, 8u << 20);
    assert_int_equal(ended.from_b, 3);
    note_done(&one.a);
    note_done(&two.b);
}

static void an_error_ends_both(void **state)
{
    (void)state;
    struct pair one, two;
    struct hold held[2];
    struct splice *sp;
    n_done = 0;
    pair_make(l, &one);
    pair_make(l, &two);
    note_done(&one.b);
    note_done(&two.a);
    hold_stream(&held[0], one.b.s, NULL);
    hold_stream(&held[1], two.a.s, NULL);
    assert_ok(splice_new(&held[0], &held[1], spliced, NULL, &sp));
    stream_abort(one.a.s, E_NET);
    STEP_UNTIL(l, n_done == 1 && two.b.closed == 1 && one.a.closed == 1);
    assert_int_equal(ended.first, 0);
    note_done(&one.a);
    note_done(&two.b);
}

static void addresses_of_gateways(void **state)
{
    (void)state;
    char *host, *path;
    uint16_t port;
    struct err_info info;
    assert_ok(link_url(SPAN_LIT("wss://gw.example:4443/bridges/x?y"), &host, &port, &path, &info));
    assert_string_equal(host, "gw.example");
    assert_string_equal(path, "/bridges/x?y");
    assert_int_equal(port, 4443);
    free(host);
    free(path);
    assert_ok(link_url(SPAN_LIT("WSS://gw"), &host, &port, &path, &info));
    assert_string_equal(path, "/");
    assert_int_equal(port, 443);
    free(host);
    free(path);
    static const char *const bad[] = {
        "ws://gw/",
        "https://gw/",
        "wss:///x",
        "wss://gw:0/",
        "wss://gw:65536/",
        "wss://gw:/",
        "wss://gw:x/",
        "wss://gw/a b",
        "wss://gw/a\r\nHost: b",
        "",
        "wss://gw\r\nX: y/",
        "wss://user@gw/",
        "wss://g w/",
        "wss://gw?x/",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_err(link_url(span_str(bad[i]), &host, &port, &path, &info), E_ARG);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define R(f) cmocka_unit_test_setup_teardown(f, setup_raw, teardown)
    const struct CMUnitTest tests[] = {
        T(bytes_halves_and_names),
        T(refused_and_reset),
        T(a_slow_channel_stops_alone),
        T(all_channels_share),
        T(session_ends_its_channels),
        R(bad_frames_end_the_session),
        R(more_than_the_window_ends_the_session),
        R(late_frames_of_an_old_channel_are_ignored),
        T(joined_streams),
        T(an_error_ends_both),
        T(addresses_of_gateways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
