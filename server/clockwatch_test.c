/* SPDX-License-Identifier: Apache-2.0 */
/* Threat E6: a clock that jumps, over a time that the test sets. */
#include "server/server_int.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/authn.h"
#include "server/server_sql.h"
#include "tests/unit.h"

#define DAY 86400LL
#define START 1800000000LL /* seconds since 1970 */

struct fake {
    _Atomic int64_t wall_s; /* the writer reads them too */
    _Atomic uint64_t mono_s;
};
static int64_t fake_wall(void *arg)
{
    return ((struct fake *)arg)->wall_s * 1000000;
}
static uint64_t fake_mono(void *arg)
{
    return ((struct fake *)arg)->mono_s * 1000;
}

struct world {
    char dir[64], db[96];
    struct fake time;
    struct clock clock;
    struct server s;
};

static void begin(struct world *w)
{
    struct err_info info = {0};
    static const struct store_module *const modules[] = {&server_store_module};
    w->clock = (struct clock){fake_wall, fake_mono, &w->time};
    w->s = (struct server){.clock = &w->clock};
    const struct store_config sc = {
        .path = w->db, .modules = modules, .n_modules = 1, .clock = &w->clock, .scan_threads = 1};
    assert_ok(store_open(&sc, &w->s.store, &info));
    assert_ok(loop_new(0, &w->clock, &w->s.loop));
    assert_ok(clock_watch_start(&w->s, &info));
}

static void end(struct world *w)
{
    clock_watch_stop(&w->s);
    store_drain(w->s.store);
    store_close(w->s.store);
    loop_turn(w->s.loop, 0);
    clock_watch_free(&w->s);
    loop_free(w->s.loop);
}

static void make(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->time.wall_s = START;
    w->time.mono_s = 1000;
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/berth-clock-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(w->db, sizeof(w->db), "%s/r.db", w->dir);
    begin(w);
}

static void destroy(struct world *w)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char path[128];
    end(w);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", w->db, ends[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(w->dir), 0);
}

/* Both clocks together. */
static void pass(struct world *w, int64_t seconds)
{
    for (int64_t i = 0; i < seconds; i += 10) {
        w->time.wall_s += 10;
        w->time.mono_s += 10;
        loop_turn(w->s.loop, 0);
    }
}

static void test_floor_rises_with_steady_time(void **state)
{
    (void)state;
    struct world w;
    make(&w);
    assert_true(server_clock_is_steady(&w.s));
    assert_int_equal(atomic_load(&w.s.token_floor_s), 0);
    pass(&w, 3000);
    assert_int_equal(atomic_load(&w.s.token_floor_s), 0); /* not an hour yet */
    pass(&w, 1200);
    assert_true(atomic_load(&w.s.token_floor_s) >= START + 3600);
    /* Set back by a day, by ten years: tokens are still judged by what was steady. */
    static const int64_t back[] = {DAY, 3650 * DAY};
    for (size_t i = 0; i < ARRAY_LEN(back); i++) {
        int64_t floor = atomic_load(&w.s.token_floor_s);
        w.time.wall_s -= back[i];
        pass(&w, 10);
        assert_false(server_clock_is_steady(&w.s));
        assert_int_equal(server_token_now_s(&w.s), floor);
        w.time.wall_s += back[i];
        pass(&w, 10);
    }
    pass(&w, 3700);
    assert_true(server_clock_is_steady(&w.s));
    destroy(&w);
}

static void test_forward_jump_condemns_nothing(void **state)
{
    (void)state;
    struct world w;
    make(&w);
    pass(&w, 4000);
    int64_t floor = atomic_load(&w.s.token_floor_s);
    w.time.wall_s += 3650 * DAY;
    pass(&w, 1800);
    assert_false(server_clock_is_steady(&w.s));
    assert_int_equal(atomic_load(&w.s.token_floor_s), floor);
    w.time.wall_s -= 3650 * DAY; /* somebody noticed */
    pass(&w, 10);
    assert_int_equal(server_token_now_s(&w.s), w.time.wall_s);
    pass(&w, 3700);
    assert_true(server_clock_is_steady(&w.s));
    /* Or it was right, and an administrator says so. */
    w.time.wall_s += DAY;
    pass(&w, 10);
    assert_false(server_clock_is_steady(&w.s));
    clock_watch_accept(&w.s);
    pass(&w, 10);
    assert_true(server_clock_is_steady(&w.s));
    assert_int_equal(atomic_load(&w.s.token_floor_s), w.time.wall_s);
    destroy(&w);
}

static void wait_mail(struct world *w)
{
    struct pollfd p = {.fd = mailbox_fd(loop_mailbox(w->s.loop)), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    loop_turn(w->s.loop, 0);
}

/* Who destroys asks between two looks, too; and what belongs to a day goes on as steady time does. */
static void test_jump_is_seen_at_once(void **state)
{
    (void)state;
    static const int64_t by[] = {DAY, -DAY, 3650 * DAY, -3650 * DAY};
    struct world w;
    make(&w);
    for (size_t i = 0; i < ARRAY_LEN(by); i++) {
        int64_t before = server_calendar_s(&w.s);
        assert_int_equal(before, w.time.wall_s);
        w.time.wall_s += by[i];
        assert_false(server_clock_is_steady(&w.s));
        assert_int_equal(server_calendar_s(&w.s), before);
        pass(&w, 100);
        assert_false(server_clock_is_steady(&w.s));
        assert_int_equal(server_calendar_s(&w.s), before + 100);
        w.time.wall_s -= by[i];
        pass(&w, 3700);
        assert_true(server_clock_is_steady(&w.s));
    }
    destroy(&w);
}

/* More than a month ahead no hour helps, now or at the next start: only an administrator knows. */
static void test_leap_is_not_believed(void **state)
{
    (void)state;
    struct world w;
    make(&w);
    pass(&w, 4000);
    wait_mail(&w); /* the floor is on disk */
    int64_t floor = atomic_load(&w.s.token_floor_s);
    w.time.wall_s += 32 * DAY;
    pass(&w, 3 * 3600);
    assert_false(server_clock_is_steady(&w.s));
    assert_int_equal(atomic_load(&w.s.token_floor_s), floor);
    end(&w);
    begin(&w);
    pass(&w, 3 * 3600);
    assert_false(server_clock_is_steady(&w.s));
    assert_true(server_calendar_s(&w.s) < START + DAY);
    clock_watch_accept(&w.s);
    pass(&w, 10);
    assert_true(server_clock_is_steady(&w.s));
    assert_int_equal(server_calendar_s(&w.s), w.time.wall_s);
    w.time.wall_s += 30 * DAY; /* an hour makes that right */
    pass(&w, 3700);
    assert_true(server_clock_is_steady(&w.s));
    destroy(&w);
}

static void test_slewing_is_no_jump(void **state)
{
    (void)state;
    struct world w;
    make(&w);
    for (int i = 0; i < 400; i++) {
        w.time.wall_s += 10 + i % 3; /* up to two seconds an interval */
        w.time.mono_s += 10;
        loop_turn(w.s.loop, 0);
        assert_true(server_clock_is_steady(&w.s));
    }
    destroy(&w);
}

static void test_floor_survives(void **state)
{
    (void)state;
    struct world w;
    make(&w);
    pass(&w, 3600);
    wait_mail(&w);
    end(&w);
    w.time.wall_s -= 10 * DAY;
    begin(&w);
    assert_false(server_clock_is_steady(&w.s)); /* behind what was steady before */
    assert_true(server_token_now_s(&w.s) >= START + 3500);
    destroy(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floor_rises_with_steady_time),
        cmocka_unit_test(test_forward_jump_condemns_nothing),
        cmocka_unit_test(test_jump_is_seen_at_once),
        cmocka_unit_test(test_leap_is_not_believed),
        cmocka_unit_test(test_slewing_is_no_jump),
        cmocka_unit_test(test_floor_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
