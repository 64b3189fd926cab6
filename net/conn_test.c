/* SPDX-License-Identifier: Apache-2.0 */
/* Conns as streams: bytes, back-pressure, endings. Plain pairs; TLS is in conn_tls_test.c. */
#include "net/conn.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/net_fixture.h"

static struct fake_clock fake;
static struct loop *l;

static int setup(void **state)
{
    (void)state;
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(l);
    return 0;
}

static void say(struct note *n, struct span b)
{
    n->in_call = true;
    stream_write(n->s, b);
    n->in_call = false;
}

/* Closes one end, waits for both, frees the notes. */
static void end(struct pair *p)
{
    if (p->a.closed == 0) {
        stream_close(p->a.s);
    }
    STEP_UNTIL(l, p->a.closed == 1 && p->b.closed == 1);
    fake.ms += LIMIT_CONN_LINGER_MS;
    settle(l);
    assert_int_equal(p->a.closed, 1);
    assert_int_equal(p->b.closed, 1);
    note_done(&p->a);
    note_done(&p->b);
}

static void bytes_go_both_ways(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    say(&p.a, SPAN_LIT("ping"));
    say(&p.a, SPAN_LIT(" pong"));
    say(&p.b, SPAN_LIT("answer"));
    STEP_UNTIL(l, p.b.in.n == 9 && p.a.in.n == 6);
    assert_span(buf_span(&p.b.in), SPAN_LIT("ping pong"));
    assert_int_equal(p.b.calls, 1); /* writes of one turn leave together */
    struct conn *c = stream_conn(p.a.s);
    assert_int_equal(conn_bytes_out(c), 9);
    assert_int_equal(conn_bytes_in(c), 6);
    assert_false(conn_is_tls(c));
    struct cert_peer cert;
    uint8_t sha[CERT_SHA256];
    conn_peer_cert(c, &cert);
    assert_int_equal(cert.leaf_der.n, 0);
    assert_false(conn_peer_thumbprint(c, sha));
    assert_ptr_equal(conn_loop(c), l);
    end(&p);
    assert_err(p.a.why, E_CLOSED);
    assert_err(p.b.why, OK);
}

static void rest_is_shown_again(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    p.b.eat = 0;
    say(&p.a, SPAN_LIT("abc"));
    STEP_UNTIL(l, p.b.calls == 1);
    settle(l);
    assert_int_equal(p.b.calls, 1); /* not asked again without news */
    p.b.eat = 2;
    stream_again(p.b.s);
    STEP_UNTIL(l, p.b.calls == 2);
    say(&p.a, SPAN_LIT("def"));
    STEP_UNTIL(l, p.b.in.n == 4);
    assert_span(buf_span(&p.b.in), SPAN_LIT("abcd"));
    p.b.eat = SIZE_MAX;
    stream_again(p.b.s);
    STEP_UNTIL(l, p.b.in.n == 6);
    assert_span(buf_span(&p.b.in), SPAN_LIT("abcdef"));
    end(&p);
}

static void want_bounds_what_is_kept(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    p.b.eat = 0;
    p.a.to_send = 3u << 20;
    note_pump(&p.a);
    settle(l);
    size_t stuck = p.a.to_send;
    assert_true(stuck > 0); /* the pressure reached the sender */
    assert_true(stream_is_full(p.a.s));
    int calls = p.b.calls;
    settle(l);
    assert_int_equal(p.b.calls, calls);
    p.b.s->want = 1u << 20; /* a large packet in work */
    stream_again(p.b.s);
    settle(l);
    assert_true(p.b.calls > calls);
    assert_true(p.a.to_send < stuck);
    p.b.eat = SIZE_MAX;
    stream_again(p.b.s);
    STEP_UNTIL(l, p.b.in.n == 3u << 20);
    assert_true(is_pattern(buf_span(&p.b.in)));
    end(&p);
}

static void both_ways_large_and_bounded(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    p.a.to_send = p.b.to_send = 6u << 20;
    p.a.eat = 7000; /* leaves rests */
    note_pump(&p.a);
    note_pump(&p.b);
    for (int i = 0; p.a.in.n < 6u << 20 || p.b.in.n < 6u << 20; i++) {
        assert_true(i < 20000);
        stream_again(p.a.s);
        loop_turn(l, 5);
    }
    assert_true(is_pattern(buf_span(&p.a.in)));
    assert_true(is_pattern(buf_span(&p.b.in)));
    assert_true(p.a.drained > 0);
    assert_true(p.a.sent_max <= LIMIT_CONN_OUT_HIGH + 5000);
    assert_true(p.b.sent_max <= LIMIT_CONN_OUT_HIGH + 5000);
    end(&p);
}

static void pause_stops_and_resumes(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    stream_pause(p.b.s, true);
    stream_pause(p.b.s, true);
    say(&p.a, SPAN_LIT("abc"));
    settle(l);
    assert_int_equal(p.b.calls, 0);
    stream_pause(p.b.s, false);
    assert_int_equal(p.b.calls, 0); /* from the loop, not from the call */
    STEP_UNTIL(l, p.b.in.n == 3);
    end(&p);
}

static void paused_outlives_the_peers_end(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    stream_pause(p.b.s, true);
    say(&p.a, SPAN_LIT("abc"));
    stream_close(p.a.s);
    STEP_UNTIL(l, p.a.closed == 1);
    fake.ms += LIMIT_CONN_LINGER_MS;
    settle(l);
    loop_turn(l, 20); /* no event storm from the end that nobody reads */
    assert_int_equal(p.b.closed, 0);
    stream_pause(p.b.s, false);
    STEP_UNTIL(l, p.b.closed == 1);
    assert_span(buf_span(&p.b.in), SPAN_LIT("abc"));
    assert_err(p.b.why, OK);
    end(&p);
}

static void close_flushes_first(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    AUTO(mem_free_p) uint8_t *big = malloc(3u << 20);
    assert_non_null(big);
    memset(big, 'x', 3u << 20);
    p.b.eat = 0;
    p.a.in_call = true;
    stream_write(p.a.s, span_of(big, 3u << 20));
    stream_close(p.a.s);
    stream_close(p.a.s);
    stream_write(p.a.s, SPAN_LIT("too late"));
    p.a.in_call = false;
    settle(l);
    assert_int_equal(p.a.closed, 0); /* it still owes bytes */
    p.b.eat = SIZE_MAX;
    stream_again(p.b.s);
    STEP_UNTIL(l, p.b.closed == 1);
    assert_int_equal(p.b.in.n, 3u << 20);
    assert_err(p.b.why, OK);
    assert_err(p.a.why, E_CLOSED);
    end(&p);
}

static void close_waits_bounded_for_a_peer_that_does_not_read(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    AUTO(mem_free_p) uint8_t *big = calloc(1, 3u << 20);
    assert_non_null(big);
    p.b.eat = 0;
    say(&p.a, span_of(big, 3u << 20));
    stream_close(p.a.s);
    settle(l);
    fake.ms += LIMIT_CONN_CLOSE_S * 1000u - 1;
    settle(l);
    assert_int_equal(p.a.closed, 0);
    fake.ms += 1;
    STEP_UNTIL(l, p.a.closed == 1);
    assert_err(p.a.why, E_CLOSED);
    p.b.eat = SIZE_MAX;
    stream_again(p.b.s);
    end(&p);
}

static void slow_reader_is_dropped_at_the_maximum(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    AUTO(mem_free_p) uint8_t *big = calloc(1, 1u << 20);
    assert_non_null(big);
    p.b.eat = 0;
    for (int i = 0; i < 16 && p.a.closed == 0; i++) {
        say(&p.a, span_of(big, 1u << 20)); /* a producer without manners */
        assert_true(stream_pending(p.a.s) <= LIMIT_CONN_OUT_MAX);
        loop_turn(l, 0);
    }
    assert_int_equal(p.a.closed, 1);
    assert_err(p.a.why, E_TOO_LARGE);
    p.b.eat = SIZE_MAX;
    stream_again(p.b.s);
    end(&p);
}

static void abort_tells_once_with_its_reason(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    p.a.in_call = true;
    stream_abort(p.a.s, E_FENCED);
    stream_abort(p.a.s, E_TIMEOUT);
    stream_close(p.a.s);
    p.a.in_call = false;
    assert_int_equal(p.a.closed, 0);
    end(&p);
    assert_err(p.a.why, E_FENCED);
}

/* A handler that ends its stream from inside on_bytes, and looks at the bytes afterwards. */
static struct {
    struct stream *s;
    bool abort;
    uint8_t seen;
    int closed;
    enum err why;
} killer;

static size_t killer_bytes(struct stream *s, void *arg, struct span in)
{
    (void)arg;
    stream_write(s, SPAN_LIT("bye"));
    if (killer.abort) {
        stream_abort(s, E_MALFORMED);
    } else {
        stream_close(s);
    }
    killer.seen = in.p[in.n - 1];
    return 0;
}

static void killer_closed(struct stream *s, void *arg, enum err why)
{
    (void)s;
    (void)arg;
    killer.closed++;
    killer.why = why;
}

static const struct stream_handler killer_handler = {
    .name = "killer",
    .on_bytes = killer_bytes,
    .on_close = killer_closed,
};

static void ends_from_inside_on_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct pair p;
        pair_make(l, &p);
        memset(&killer, 0, sizeof(killer));
        if ((i & 1) != 0) { /* bytes in the conn's own memory */
            p.b.eat = 0;
            say(&p.a, SPAN_LIT("1234"));
            STEP_UNTIL(l, p.b.calls == 1);
        }
        stream_handle(p.b.s, &killer_handler, NULL);
        killer.abort = (i & 2) != 0;
        say(&p.a, SPAN_LIT("x"));
        STEP_UNTIL(l, killer.closed == 1 && p.a.closed == 1);
        assert_int_equal(killer.seen, 'x');
        assert_err(killer.why, killer.abort ? E_MALFORMED : E_CLOSED);
        if (!killer.abort) {
            assert_span(buf_span(&p.a.in), SPAN_LIT("bye"));
        }
        fake.ms += LIMIT_CONN_LINGER_MS;
        settle(l);
        assert_int_equal(killer.closed, 1);
        note_done(&p.a);
        note_done(&p.b);
    }
}

/* A peer that ends its half still reads the answer. */
static size_t answer_bytes(struct stream *s, void *arg, struct span in)
{
    (void)arg;
    stream_write(s, SPAN_LIT("answer"));
    return in.n;
}

static const struct stream_handler answer_handler = {
    .name = "answer",
    .on_bytes = answer_bytes,
    .on_close = killer_closed,
};

static void half_closed_peer_gets_its_answer(void **state)
{
    (void)state;
    int fd[2];
    char b[16];
    struct conn *c;
    memset(&killer, 0, sizeof(killer));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_ok(conn_adopt(l, fd[0], NULL, true, NULL, NULL, &c));
    stream_handle(conn_stream(c), &answer_handler, NULL);
    assert_int_equal(write(fd[1], "q", 1), 1);
    assert_int_equal(shutdown(fd[1], SHUT_WR), 0);
    STEP_UNTIL(l, killer.closed == 1);
    assert_err(killer.why, OK);
    assert_int_equal(read(fd[1], b, sizeof(b)), 6);
    assert_memory_equal(b, "answer", 6);
    (void)close(fd[1]);
}

/* Who listens for it hears the peer's end after its last byte, and goes on writing. */
static void half_closes_one_way_then_the_other(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    stream_handle(p.a.s, &note_ends_handler, &p.a);
    stream_handle(p.b.s, &note_ends_handler, &p.b);
    p.b.eat = 3;
    p.a.to_send = 100000;
    note_pump(&p.a);
    assert_true(stream_end(p.a.s));
    settle(l);
    assert_int_equal(p.b.ended, 0); /* bytes are kept before the end */
    p.b.eat = SIZE_MAX;
    stream_again(p.b.s);
    STEP_UNTIL(l, p.b.ended == 1);
    assert_int_equal(p.b.in.n + p.a.to_send, 100000);
    assert_int_equal(p.a.to_send, 0);
    say(&p.b, SPAN_LIT("the answer"));
    STEP_UNTIL(l, p.a.in.n == 10);
    settle(l);
    assert_int_equal(p.a.closed + p.b.closed, 0);
    assert_true(stream_end(p.b.s));
    STEP_UNTIL(l, p.a.closed == 1 && p.b.closed == 1);
    assert_err(p.a.why, OK);
    assert_err(p.b.why, OK);
    assert_int_equal(p.a.ended, 1);
    note_done(&p.a);
    note_done(&p.b);
}

static void end_behind_a_pause_waits(void **state)
{
    (void)state;
    struct pair p;
    pair_make(l, &p);
    stream_handle(p.b.s, &note_ends_handler, &p.b);
    stream_pause(p.b.s, true);
    say(&p.a, SPAN_LIT("last"));
    assert_true(stream_end(p.a.s));
    settle(l);
    assert_int_equal(p.b.ended, 0);
    stream_pause(p.b.s, false);
    STEP_UNTIL(l, p.b.ended == 1);
    assert_int_equal(p.b.in.n, 4);
    assert_true(stream_end(p.b.s));
    end(&p);
}

static struct conn *opened;
static struct note opened_note;

static void on_open(struct conn *c, void *arg)
{
    assert_ptr_equal(arg, &opened);
    opened = c;
    note_init(&opened_note, conn_stream(c));
}

static void adopt_opens_from_the_loop(void **state)
{
    (void)state;
    int fd[2];
    struct conn *c;
    opened = NULL;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_int_equal(write(fd[1], "early", 5), 5);
    assert_ok(conn_adopt(l, fd[0], NULL, true, on_open, &opened, &c));
    assert_null(opened);
    STEP_UNTIL(l, opened != NULL && opened_note.in.n == 5);
    assert_ptr_equal(opened, c);
    (void)close(fd[1]);
    STEP_UNTIL(l, opened_note.closed == 1);
    note_done(&opened_note);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(bytes_go_both_ways),
        T(rest_is_shown_again),
        T(want_bounds_what_is_kept),
        T(both_ways_large_and_bounded),
        T(pause_stops_and_resumes),
        T(paused_outlives_the_peers_end),
        T(close_flushes_first),
        T(close_waits_bounded_for_a_peer_that_does_not_read),
        T(slow_reader_is_dropped_at_the_maximum),
        T(abort_tells_once_with_its_reason),
        T(ends_from_inside_on_bytes),
        T(half_closed_peer_gets_its_answer),
        T(half_closes_one_way_then_the_other),
        T(end_behind_a_pause_waits),
        T(adopt_opens_from_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
