/* SPDX-License-Identifier: Apache-2.0 */
/* Who may begin at a listener, and in which order. */
#include "net/door.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/conn.h"
#include "net/net_fixture.h"

static struct fake_clock fake;
static struct loop *l;
static struct certs certs;
static struct tls_ctx *server_tls;
static struct listener *ls;
static uint16_t port;

/* Connections that the listener opened. */
#define OPENED 512
static struct note opened[OPENED];
static struct conn *opened_conn[OPENED];
static size_t n_opened;

static void on_open(struct conn *c, void *arg)
{
    assert_ptr_equal(arg, &n_opened);
    assert_true(n_opened < OPENED);
    opened_conn[n_opened] = c;
    note_init(&opened[n_opened++], conn_stream(c));
}

static void listen_with(struct tls_ctx *tls, unsigned max, unsigned per_source)
{
    const struct listener_conf conf = {.address = "0.0.0.0",
                                       .tls = tls,
                                       .on_open = on_open,
                                       .arg = &n_opened,
                                       .max_unauthenticated = max,
                                       .max_unauthenticated_per_source = per_source};
    assert_ok(listener_new(l, &conf, &ls, NULL));
    port = listener_port(ls);
}

static int setup(void **state UNUSED)
{
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    const struct tls_server_conf conf = {certs.server, certs.server_key};
    assert_ok(tls_server_new(&conf, &server_tls, NULL));
    n_opened = 0;
    ls = NULL;
    return 0;
}

static int teardown(void **state UNUSED)
{
    for (size_t i = 0; i < n_opened; i++) {
        if (opened[i].closed == 0) {
            stream_abort(opened[i].s, E_CLOSED);
        }
    }
    listener_free(ls);
    settle(l);
    fake.ms += 2 * LIMIT_HANDSHAKE_S * 1000u;
    settle(l);
    conns_end(l); /* who waits still */
    for (size_t i = 0; i < n_opened; i++) {
        if (opened[i].closed == 0) { /* let in when the others had gone */
            stream_abort(opened[i].s, E_CLOSED);
        }
    }
    settle(l);
    for (size_t i = 0; i < n_opened; i++) {
        assert_int_equal(opened[i].closed, 1);
        note_done(&opened[i]);
    }
    tls_ctx_unref(server_tls);
    loop_free(l);
    return 0;
}

static int make_certs(void **state UNUSED)
{
    certs_make(&certs);
    return 0;
}

static int remove_certs(void **state UNUSED)
{
    certs_remove(&certs);
    return 0;
}

static struct listener_stats stats(void)
{
    struct listener_stats s;
    listener_stats(ls, &s);
    return s;
}

static void one_source_has_its_budget(void **state UNUSED)
{
    struct peer p[5];
    listen_with(NULL, 100, 2);
    for (size_t i = 0; i < 3; i++) {
        peer_dial(&p[i], port);
        STEP_UNTIL(l, stats().accepted == i + 1);
    }
    STEP_UNTIL(l, n_opened == 2);
    assert_int_equal(stats().waiting, 1);
    peer_dial_from(&p[3], port, "127.0.0.2"); /* another address passes by */
    STEP_UNTIL(l, n_opened == 3);
    assert_int_equal(stats().waiting, 1);
    peer_send(&p[2], SPAN_LIT("a"));
    conn_mark_authenticated(opened_conn[0]); /* a fleet behind one address gets in, one by one */
    STEP_UNTIL(l, n_opened == 4);
    peer_dial(&p[4], port);
    peer_send(&p[4], SPAN_LIT("b"));
    STEP_UNTIL(l, stats().waiting == 1);
    stream_abort(opened[1].s, E_CLOSED); /* what has gone leaves its place */
    STEP_UNTIL(l, n_opened == 5);
    assert_int_equal(stats().refused_budget, 0);
    for (size_t i = 0; i < 5; i++) {
        peer_done(&p[i]);
    }
}

/* Who waits may do so, all of one address on half of the places; in the end only the kernel keeps them. */
static void who_waits_is_bounded(void **state UNUSED)
{
    enum { PLACES = LIMIT_WAITING_FACTOR * 2 };
    struct peer in[2], p[PLACES], last;
    listen_with(NULL, 2, 1);
    peer_dial(&in[0], port);
    peer_dial_from(&in[1], port, "127.0.0.2");
    STEP_UNTIL(l, n_opened == 2);
    for (size_t i = 0; i < PLACES / 2; i++) {
        peer_dial(&p[i], port);
    }
    STEP_UNTIL(l, stats().waiting == PLACES / 2);
    peer_dial(&last, port); /* one more of that address */
    STEP_UNTIL(l, stats().refused_budget == 1);
    peer_done(&last);
    for (size_t i = PLACES / 2; i < PLACES; i++) {
        peer_dial_from(&p[i], port, "127.0.0.2");
    }
    STEP_UNTIL(l, stats().waiting == PLACES);
    uint64_t accepted = stats().accepted;
    peer_dial_from(&last, port, "127.0.0.3");
    settle(l);
    assert_int_equal(stats().accepted, accepted); /* not even asked */
    peer_send(&p[3], SPAN_LIT("here"));           /* who speaks is let in before those who do not */
    conn_mark_authenticated(opened_conn[0]);
    STEP_UNTIL(l, n_opened == 3);
    assert_int_equal(stats().refused_budget, 1);
    fake.ms += LIMIT_ACCEPT_PAUSE_MS;
    STEP_UNTIL(l, stats().accepted == accepted + 1);
    for (size_t i = 0; i < PLACES; i++) {
        peer_done(&p[i]);
    }
    peer_done(&in[0]);
    peer_done(&in[1]);
    peer_done(&last);
}

/* Who has said nothing for a while makes room for the next of its address, the oldest first; who is new does not. */
static void silent_ones_make_room(void **state UNUSED)
{
    struct peer p[5];
    listen_with(NULL, 100, 2);
    for (size_t i = 0; i < 2; i++) {
        peer_dial(&p[i], port);
        STEP_UNTIL(l, n_opened == i + 1);
    }
    fake.ms += LIMIT_UNAUTHENTICATED_MS - 1;
    settle(l);
    peer_dial(&p[2], port);
    peer_send(&p[2], SPAN_LIT("hello"));
    STEP_UNTIL(l, stats().waiting == 1);
    conn_mark_authenticated(opened_conn[0]); /* it is no longer one of them */
    STEP_UNTIL(l, n_opened == 3);
    assert_int_equal(opened[1].closed, 0);
    fake.ms += 1;
    settle(l);
    peer_dial(&p[3], port);
    STEP_UNTIL(l, n_opened == 4);
    STEP_UNTIL(l, opened[1].closed == 1);
    assert_err(opened[1].why, E_BUSY);
    assert_int_equal(opened[0].closed + opened[2].closed, 0);
    peer_dial(&p[4], port); /* who says nothing while it waits does not get in */
    STEP_UNTIL(l, stats().waiting == 1);
    fake.ms += LIMIT_HANDSHAKE_S * 1000u;
    STEP_UNTIL(l, stats().waiting == 0);
    assert_int_equal(n_opened, 4);
    for (size_t i = 0; i < 5; i++) {
        peer_done(&p[i]);
    }
}

/* The same for all addresses together. */
static void silent_ones_make_room_for_all(void **state UNUSED)
{
    struct peer p[3], gone;
    listen_with(NULL, 2, 0);
    for (size_t i = 0; i < 2; i++) {
        peer_dial(&p[i], port);
        STEP_UNTIL(l, n_opened == i + 1);
    }
    peer_dial(&gone, port);
    STEP_UNTIL(l, stats().waiting == 1);
    peer_send(&gone, SPAN_LIT("bye"));
    settle(l);
    assert_int_equal(stats().waiting, 1);
    peer_done(&gone); /* who left while it waited costs nothing */
    STEP_UNTIL(l, stats().waiting == 0);
    peer_dial(&p[2], port);
    peer_send(&p[2], SPAN_LIT("hello"));
    STEP_UNTIL(l, stats().waiting == 1);
    fake.ms += LIMIT_UNAUTHENTICATED_ALL_MS - 1;
    settle(l);
    assert_int_equal(n_opened, 2);
    fake.ms += 1000; /* some while after */
    STEP_UNTIL(l, n_opened == 3);
    STEP_UNTIL(l, opened[2].in.n == 5);
    assert_int_equal(opened[0].closed, 1);
    assert_err(opened[0].why, E_BUSY);
    for (size_t i = 0; i < 3; i++) {
        peer_done(&p[i]);
    }
}

/* threat:N1. With many handshake steps due who comes later waits untouched; all come through, in the order in which they came. */
static void storm_is_served_in_order(void **state UNUSED)
{
    enum { N = LIMIT_HANDSHAKES_DUE + 300 };
    static struct peer p[N];
    size_t done[N], n_done = 0, sum = 0;
    uint64_t waited = 0, turns = 0;
    listen_with(server_tls, 1000, 0);
    for (size_t i = 0; i < N; i++) {
        peer_dial(&p[i], port);
        peer_tls(&p[i], TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
        peer_step(&p[i]); /* its first message is there */
    }
    while (n_opened < N || n_done < N) {
        for (size_t i = 0; i < N; i++) {
            if (!p[i].is_up) {
                peer_step(&p[i]);
                if (p[i].is_up) {
                    done[n_done++] = i;
                }
            }
        }
        loop_turn(l, 1);
        waited = MAX(waited, stats().waiting);
        assert_true(++turns < 20000);
    }
    assert_in_range(waited, 50, N);
    assert_int_equal(stats().refused_budget + stats().handshake_timeout, 0);
    for (size_t i = 0; i < N; i++) {
        sum += done[i] > i ? done[i] - i : i - done[i];
        peer_done(&p[i]);
    }
    assert_true(sum / N < LIMIT_HANDSHAKES_DUE / 4); /* by chance it is N / 3 */
}

/* Who waits when the server ends is let go. */
static void waiting_end_with_the_loop(void **state UNUSED)
{
    struct peer p[4];
    listen_with(NULL, 1, 0);
    for (size_t i = 0; i < 4; i++) {
        peer_dial(&p[i], port);
    }
    STEP_UNTIL(l, stats().waiting == 3);
    assert_int_equal(stats().open, 4);
    conns_end(l);
    assert_int_equal(stats().waiting, 0);
    assert_int_equal(stats().open, 1);
    for (size_t i = 0; i < 4; i++) {
        peer_done(&p[i]);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(one_source_has_its_budget),     T(who_waits_is_bounded),     T(silent_ones_make_room),
        T(silent_ones_make_room_for_all), T(storm_is_served_in_order), T(waiting_end_with_the_loop),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
