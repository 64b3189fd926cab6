/* SPDX-License-Identifier: Apache-2.0 */
#include "net/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net_fixture.h"

static char order[64];
static size_t n_order;

static void mark(char c)
{
    order[n_order++] = c;
    order[n_order] = '\0';
}

static int setup(void **state)
{
    static struct fake_clock fake;
    static struct loop *l;
    fake_clock_init(&fake);
    assert_ok(loop_new(3, &fake.clock, &l));
    n_order = 0;
    order[0] = '\0';
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    loop_free(*state);
    return 0;
}

static struct fake_clock *clock_of(struct loop *l)
{
    return CONTAINER_OF((struct clock *)(uintptr_t)loop_clock(l), struct fake_clock, clock);
}

/* --- the order of a turn --------------------------------------------------------------------- */

static struct loop *the_loop;
static struct timer t1, t2, t3;
static struct deferred d1, d2, d3;

static void on_mail(struct msg *m)
{
    (void)m;
    mark('m');
}

static void on_watch(struct watch *w, uint32_t events)
{
    char b[8];
    assert_true((events & EPOLLIN) != 0);
    assert_true(read(w->fd, b, sizeof(b)) > 0);
    mark('w');
}

static void on_timer(struct timer *t)
{
    (void)t;
    mark('t');
}

static void on_deferred(struct deferred *d)
{
    (void)d;
    mark('d');
}

static void turn_runs_in_order(void **state)
{
    struct loop *l = *state;
    struct watch w = {0};
    struct timer t = {0};
    struct deferred d = {0};
    struct msg m = {.run = on_mail};
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    loop_defer(l, &d, on_deferred);
    loop_defer(l, &d, on_deferred); /* twice is once */
    timer_set(l, &t, 10, on_timer);
    assert_ok(loop_watch(l, &w, fd[0], EPOLLIN, on_watch));
    assert_int_equal(write(fd[1], "x", 1), 1);
    loop_post(l, &m);
    clock_of(l)->ms += 10;
    loop_turn(l, 1000); /* must not wait: work is deferred */
    assert_string_equal(order, "mwtd");
    loop_turn(l, 0);
    assert_string_equal(order, "mwtd");
    loop_unwatch(l, &w);
    (void)close(fd[0]);
    (void)close(fd[1]);
}

/* --- watches --------------------------------------------------------------------------------- */

struct two {
    struct loop *l;
    struct watch w[2];
    int calls;
};
static struct two two;

static void first_removes_other(struct watch *w, uint32_t events)
{
    (void)events;
    two.calls++;
    loop_unwatch(two.l, w == &two.w[0] ? &two.w[1] : &two.w[0]);
}

static void unwatched_gets_no_fetched_event(void **state)
{
    int a[2], b[2];
    two = (struct two){.l = *state};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    assert_ok(loop_watch(two.l, &two.w[0], a[0], EPOLLIN, first_removes_other));
    assert_ok(loop_watch(two.l, &two.w[1], b[0], EPOLLIN, first_removes_other));
    assert_int_equal(write(a[1], "x", 1), 1);
    assert_int_equal(write(b[1], "x", 1), 1);
    loop_turn(two.l, 100); /* both are in the same batch */
    assert_int_equal(two.calls, 1);
    loop_unwatch(two.l, &two.w[0]);
    loop_unwatch(two.l, &two.w[1]); /* twice is fine */
    for (int i = 0; i < 2; i++) {
        (void)close(a[i]);
        (void)close(b[i]);
    }
}

static void rewatch_changes_interest(void **state)
{
    struct loop *l = *state;
    struct watch w = {0};
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    assert_ok(loop_watch(l, &w, fd[0], 0, on_watch));
    assert_int_equal(write(fd[1], "x", 1), 1);
    loop_turn(l, 0);
    assert_string_equal(order, "");
    loop_rewatch(l, &w, EPOLLIN);
    loop_turn(l, 100);
    assert_string_equal(order, "w");
    loop_unwatch(l, &w);
    struct watch bad = {0};
    assert_err(loop_watch(l, &bad, 9999, EPOLLIN, on_watch), E_SYS);
    assert_false(bad.active);
    (void)close(fd[0]);
    (void)close(fd[1]);
}

/* --- timers ---------------------------------------------------------------------------------- */

#define MANY 1000
static struct timer many[MANY];
static uint64_t last_due;
static int fired;

static void on_many(struct timer *t)
{
    assert_true(t->due_ms >= last_due);
    assert_false(timer_is_set(t));
    last_due = t->due_ms;
    fired++;
}

static void timers_run_by_due(void **state)
{
    struct loop *l = *state;
    memset(many, 0, sizeof(many));
    last_due = 0;
    fired = 0;
    for (int i = 0; i < MANY; i++) {
        timer_set(l, &many[i], random_below(500), on_many);
    }
    for (int i = 0; i < MANY; i += 3) { /* move some, either way */
        timer_set(l, &many[i], random_below(500), on_many);
    }
    int stopped = 0;
    for (int i = 1; i < MANY; i += 7) {
        timer_stop(l, &many[i]);
        timer_stop(l, &many[i]);
        stopped++;
    }
    assert_int_equal(loop_timers(l), MANY - stopped);
    for (int i = 0; i < 50; i++) {
        clock_of(l)->ms += 10;
        loop_turn(l, 0);
        for (int k = 0; k < MANY; k++) {
            assert_true(!timer_is_set(&many[k]) || many[k].due_ms > loop_now_ms(l));
        }
    }
    assert_int_equal(fired, MANY - stopped);
    assert_int_equal(loop_timers(l), 0);
}

static void on_again(struct timer *t)
{
    mark('a');
    timer_set(the_loop, t, 0, on_again);
}

static void timer_set_to_now_waits_a_turn(void **state)
{
    struct loop *l = the_loop = *state;
    t1 = (struct timer){0};
    timer_set(l, &t1, 0, on_again);
    loop_turn(l, 0);
    assert_string_equal(order, "a");
    loop_turn(l, 0);
    assert_string_equal(order, "aa");
    timer_stop(l, &t1);
}

static void stops_second(struct timer *t)
{
    (void)t;
    mark('s');
    timer_stop(the_loop, t == &t1 ? &t2 : &t1);
}

static void timer_stopped_by_another_does_not_run(void **state)
{
    struct loop *l = the_loop = *state;
    t1 = t2 = t3 = (struct timer){0};
    timer_set(l, &t1, 5, stops_second);
    timer_set(l, &t2, 5, stops_second);
    timer_set(l, &t3, 6, on_timer);
    clock_of(l)->ms += 6;
    loop_turn(l, 0);
    assert_string_equal(order, "st");
}

/* --- end of turn ----------------------------------------------------------------------------- */

static void defers_second(struct deferred *d)
{
    mark('1');
    loop_defer(the_loop, &d2, on_deferred); /* same pass */
    loop_defer(the_loop, d, defers_second); /* it ran: next turn */
    loop_undefer(the_loop, &d3);
}

static void deferred_runs_once_a_pass(void **state)
{
    struct loop *l = the_loop = *state;
    d1 = d2 = d3 = (struct deferred){0};
    loop_defer(l, &d1, defers_second);
    loop_defer(l, &d3, on_deferred);
    loop_turn(l, 1000);
    assert_string_equal(order, "1d");
    loop_turn(l, 1000); /* no wait: d1 is due again */
    assert_string_equal(order, "1d1d");
    loop_undefer(l, &d1);
}

/* --- handles --------------------------------------------------------------------------------- */

static void handles_go_stale(void **state)
{
    struct loop *l = *state;
    int a, b;
    handle ha = handle_new(l, &a);
    assert_true(ha != 0);
    assert_int_equal(handle_worker(ha), 3);
    assert_ptr_equal(handle_get(l, ha), &a);
    handle_free(l, ha);
    assert_null(handle_get(l, ha));
    handle hb = handle_new(l, &b); /* the same slot, another generation */
    assert_true(hb != ha);
    assert_null(handle_get(l, ha));
    handle_free(l, ha); /* stale: nothing happens */
    assert_ptr_equal(handle_get(l, hb), &b);
    assert_null(handle_get(l, 0));
    assert_null(handle_get(l, hb ^ (1ull << 56))); /* another worker's */
    assert_null(handle_get(l, hb ^ (0xffffull << 32)));
    handle_free(l, hb);
}

static void handles_are_distinct(void **state)
{
    struct loop *l = *state;
    static handle h[5000];
    static int object[5000];
    for (int i = 0; i < 5000; i++) {
        h[i] = handle_new(l, &object[i]);
    }
    for (int i = 0; i < 5000; i++) {
        assert_ptr_equal(handle_get(l, h[i]), &object[i]);
        handle_free(l, h[i]);
        assert_null(handle_get(l, h[i]));
    }
}

/* --- threads --------------------------------------------------------------------------------- */

struct letter {
    struct msg m;
    int from, number;
};
static int next_number[4];
static int received;

static void on_letter(struct msg *m)
{
    struct letter *t = CONTAINER_OF(m, struct letter, m);
    assert_int_equal(t->number, next_number[t->from]++);
    free(t);
    if (++received == 4 * 500) {
        loop_stop(the_loop);
    }
}

static void *post_many(void *arg)
{
    int from = *(int *)arg;
    for (int i = 0; i < 500; i++) {
        struct letter *t = NEW(struct letter);
        t->m.run = on_letter;
        t->from = from;
        t->number = i;
        loop_post(the_loop, &t->m);
    }
    return NULL;
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void posts_arrive_in_order_of_each_thread(void **state)
{
    struct loop *l = the_loop = *state;
    pthread_t runner, poster[4];
    int from[4] = {0, 1, 2, 3};
    received = 0;
    memset(next_number, 0, sizeof(next_number));
    assert_int_equal(pthread_create(&runner, NULL, run_loop, l), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&poster[i], NULL, post_many, &from[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        (void)pthread_join(poster[i], NULL);
    }
    (void)pthread_join(runner, NULL);
    assert_int_equal(received, 4 * 500);
    assert_true(loop_is_current(l)); /* nobody's again */
}

static void stop_before_run_is_not_lost(void **state)
{
    loop_stop(*state);
    loop_stop(*state);
    loop_run(*state);
    loop_stop(*state); /* and once more */
    loop_run(*state);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(turn_runs_in_order),
        T(unwatched_gets_no_fetched_event),
        T(rewatch_changes_interest),
        T(timers_run_by_due),
        T(timer_set_to_now_waits_a_turn),
        T(timer_stopped_by_another_does_not_run),
        T(deferred_runs_once_a_pass),
        T(handles_go_stale),
        T(handles_are_distinct),
        T(posts_arrive_in_order_of_each_thread),
        T(stop_before_run_is_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
