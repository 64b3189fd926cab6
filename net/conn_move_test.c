/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that move between the loops of two threads, TLS sessions with them: also for the thread sanitizer. */
#include "net/conn.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/net_fixture.h"

static struct certs certs;

/* One thread with a loop. */
struct side {
    struct loop *l;
    pthread_t thread;
    struct tls_ctx *tls;
    struct listener *ls;
    uint16_t port;
    struct side *to;
    unsigned arrived, closed;
    bool is_running;
};
static struct side side[2];

struct task {
    struct msg msg;
    void (*fn)(struct side *s);
    struct side *s;
    sem_t done;
};

static void run_task(struct msg *m)
{
    struct task *t = CONTAINER_OF(m, struct task, msg);
    t->fn(t->s);
    (void)sem_post(&t->done);
}

/* On the side's own thread; returns when it is done. */
static void on(struct side *s, void (*fn)(struct side *s))
{
    struct task t = {.msg = {.run = run_task}, .fn = fn, .s = s};
    assert_int_equal(sem_init(&t.done, 0, 0), 0);
    loop_post(s->l, &t.msg);
    while (sem_wait(&t.done) != 0) {
    }
    (void)sem_destroy(&t.done);
}

/* --- the echo that moves ------------------------------------------------------------------------- */

static void attach(struct conn *c, struct side *s);

static void on_arrived(struct conn *c, void *arg)
{
    struct side *s = arg;
    ASSERT(conn_loop(c) == s->l);
    s->arrived++;
    listener_take(s->ls, c);
    attach(c, s);
}

/* '>' moves to the other side, unused itself on the way, so that it comes out there as '.'; all else is echoed. */
static size_t on_bytes(struct stream *st, void *arg, struct span in)
{
    struct side *s = arg;
    size_t n = span_find(in, '>');
    ASSERT_LOOP(s->l);
    stream_write(st, span_sub(in, 0, n));
    if (n < in.n) {
        uint8_t *p = (uint8_t *)(uintptr_t)(in.p + n);
        *p = '.';
        conn_move(stream_conn(st), s->to->l, on_arrived, s->to);
    }
    return n;
}

static void on_close(struct stream *st UNUSED, void *arg, enum err why UNUSED)
{
    struct side *s = arg;
    s->closed++;
}

static const struct stream_handler echo = {
    .name = "echo", .on_bytes = on_bytes, .on_close = on_close};

static void attach(struct conn *c, struct side *s)
{
    stream_handle(conn_stream(c), &echo, s);
}

static void on_open(struct conn *c, void *arg)
{
    conn_mark_authenticated(c);
    attach(c, arg);
}

/* --- life -------------------------------------------------------------------------------------------- */

static void start_here(struct side *s)
{
    const struct tls_server_conf conf = {certs.server, certs.server_key};
    ASSERT(tls_server_new(&conf, &s->tls, NULL) == OK);
    const struct listener_conf lc = {.address = "127.0.0.1",
                                     .tls = s->tls,
                                     .on_open = on_open,
                                     .arg = s,
                                     .max_unauthenticated = 100};
    ASSERT(listener_new(s->l, &lc, &s->ls, NULL) == OK);
    s->port = listener_port(s->ls);
}

static void reload_here(struct side *s)
{
    const struct tls_server_conf conf = {certs.server, certs.server_key};
    struct tls_ctx *old = s->tls;
    ASSERT(tls_server_new(&conf, &s->tls, NULL) == OK);
    listener_set_tls(s->ls, s->tls);
    tls_ctx_unref(old);
}

static void *thread_main(void *arg)
{
    struct side *s = arg;
    loop_run(s->l);
    listener_free(s->ls);
    for (int i = 0; i < 8; i++) {
        loop_turn(s->l, 0);
    }
    conns_end(s->l);
    tls_ctx_unref(s->tls);
    return NULL;
}

static void stop(struct side *s)
{
    if (s->is_running) {
        s->is_running = false;
        loop_stop(s->l);
        assert_int_equal(pthread_join(s->thread, NULL), 0);
    }
}

static int setup(void **state)
{
    (void)state;
    memset(side, 0, sizeof(side));
    for (unsigned i = 0; i < 2; i++) {
        struct side *s = &side[i];
        assert_ok(loop_new(i, clock_system(), &s->l));
        s->to = &side[1 - i];
        s->is_running = true;
        assert_int_equal(pthread_create(&s->thread, NULL, thread_main, s), 0);
    }
    on(&side[0], start_here);
    on(&side[1], start_here);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stop(&side[0]);
    stop(&side[1]);
    loop_free(side[0].l);
    loop_free(side[1].l);
    return 0;
}

static int make_certs(void **state)
{
    (void)state;
    certs_make(&certs);
    return 0;
}

static int remove_certs(void **state)
{
    (void)state;
    certs_remove(&certs);
    return 0;
}

/* --- clients ------------------------------------------------------------------------------------------ */

static void wait_for(struct peer *p, bool *flag)
{
    for (int i = 0; !*flag; i++) {
        assert_true(i < 20000);
        peer_step(p);
        (void)usleep(100);
    }
}

static void dial(struct peer *p, int version)
{
    peer_dial(p, side[0].port);
    peer_tls(p, version, version, certs.device, certs.device_key);
    wait_for(p, &p->is_up);
}

/* Sends b and hears it again. */
static void ask(struct peer *p, struct span b, struct span want)
{
    buf_reset(&p->in);
    for (size_t at = 0; at < b.n; at += 16384) {
        peer_send(p, span_sub(b, at, 16384));
    }
    for (int i = 0; p->in.n < want.n; i++) {
        assert_true(i < 20000 && !p->eof);
        peer_step(p);
        (void)usleep(100);
    }
    assert_span(buf_span(&p->in), want);
}

static void stats_here(struct side *s)
{
    struct listener_stats st;
    listener_stats(s->ls, &st);
    s->arrived = (unsigned)st.open; /* borrowed to bring it out */
}

static unsigned open_on(struct side *s)
{
    unsigned was = s->arrived;
    on(s, stats_here);
    unsigned n = s->arrived;
    s->arrived = was;
    return n;
}

/* --- tests ---------------------------------------------------------------------------------------------- */

static void moves(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    AUTO(mem_free_p) uint8_t *big = malloc(100000);
    assert_non_null(big);
    memset(big, 'x', 100000);
    big[50] = '>'; /* in the middle of what is on its way */
    AUTO(mem_free_p) uint8_t *want = malloc(100000);
    assert_non_null(want);
    memcpy(want, big, 100000);
    want[50] = '.';
    for (unsigned v = 0; v < ARRAY_LEN(versions); v++) {
        struct peer p;
        dial(&p, versions[v]);
        ask(&p, SPAN_LIT("here"), SPAN_LIT("here"));
        ask(&p, SPAN_LIT("a>b"), SPAN_LIT("a.b"));
        ask(&p, span_of(big, 100000), span_of(want, 100000)); /* and back */
        assert_int_equal(open_on(&side[0]), 1);
        assert_int_equal(open_on(&side[1]), 0);
        for (int i = 0; i < 20; i++) {
            ask(&p, SPAN_LIT(">"), SPAN_LIT("."));
        }
        ask(&p, SPAN_LIT(">there"), SPAN_LIT(".there"));
        assert_int_equal(open_on(&side[0]), 0);
        assert_int_equal(open_on(&side[1]), 1);
        peer_done(&p);
        for (int i = 0; open_on(&side[1]) > 0; i++) {
            assert_true(i < 20000);
            (void)usleep(100);
        }
        assert_int_equal(side[1].closed, v + 1);
    }
}

/* The context of a session that moved is ended by its own thread, when the last loan has come back. */
static void outlives_a_reload(void **state)
{
    (void)state;
    struct peer p[4];
    for (unsigned i = 0; i < 4; i++) {
        dial(&p[i], i % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION);
        ask(&p[i], SPAN_LIT(">"), SPAN_LIT("."));
        on(&side[0], reload_here);
        ask(&p[i], SPAN_LIT("after"), SPAN_LIT("after"));
    }
    for (unsigned i = 0; i < 4; i++) {
        ask(&p[i], SPAN_LIT("still"), SPAN_LIT("still"));
        peer_done(&p[i]);
        on(&side[0], reload_here);
    }
}

/* The thread that made the context has gone, its session lives on. */
static void outlives_its_thread(void **state)
{
    (void)state;
    struct peer p;
    dial(&p, TLS1_3_VERSION);
    ask(&p, SPAN_LIT(">"), SPAN_LIT("."));
    stop(&side[0]);
    ask(&p, SPAN_LIT("orphan"), SPAN_LIT("orphan"));
    peer_done(&p);
    for (int i = 0; open_on(&side[1]) > 0; i++) {
        assert_true(i < 20000);
        (void)usleep(100);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(moves),
        TEST(outlives_a_reload),
        TEST(outlives_its_thread),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
