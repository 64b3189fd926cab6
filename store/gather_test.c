/* SPDX-License-Identifier: Apache-2.0 */
#include "store/gather.h"

#include "tests/unit.h"

/* Commits of one row each, `gap_us` apart, until one is to wait; how many there were. */
static unsigned lone_commits(struct gather *g, uint64_t *now_us, uint64_t gap_us)
{
    unsigned n = 0;

    while (!gather_begin(g, 1)) {
        *now_us += gap_us;
        gather_taken(g, 1, *now_us);
        n++;
        assert_true(n <= GATHER_PROBE);
    }
    return n;
}

static void off(void **state)
{
    struct gather g = {.max_us = 0};

    (void)state;
    for (unsigned i = 0; i < 3 * GATHER_PROBE; i++) {
        assert_false(gather_begin(&g, 1));
        gather_taken(&g, 1, i + 1);
    }
}

static void who_brings_nobody_is_not_kept(void **state)
{
    struct gather g = {.max_us = 1000};
    uint64_t now = 1;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(lone_commits(&g, &now, 300), GATHER_PROBE - 1);
        gather_end(&g, 0);
    }
}

static void company_is_waited_for(void **state)
{
    struct gather g = {.max_us = 1000};
    uint64_t now = 1;

    (void)state;
    (void)lone_commits(&g, &now, 500);
    gather_end(&g, 2); /* one trial that brought two is enough */
    for (unsigned i = 0; i < 100; i++) {
        assert_true(gather_begin(&g, 1));
        gather_end(&g, i % 2 + 1);
        now += 1500;
        gather_taken(&g, 3, now);
    }
    /* and it ends when it is over */
    for (unsigned i = 0; gather_begin(&g, 1); i++) {
        assert_true(i < 16);
        gather_end(&g, 0);
    }
}

static void enough_does_not_wait(void **state)
{
    struct gather g = {.max_us = 1000};
    uint64_t now = 1;

    (void)state;
    (void)lone_commits(&g, &now, 500);
    gather_end(&g, 5);
    assert_false(gather_begin(&g, GATHER_ROWS));
    assert_true(gather_begin(&g, GATHER_ROWS - 1));
}

static void until_it_is_quiet(void **state)
{
    struct gather g = {.max_us = 1000};
    uint64_t now = 1;

    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        now += 1000;
        gather_taken(&g, 20, now); /* 50 us apart */
    }
    assert_in_range(gather_slice_us(&g, 0), 180, 200);
    assert_int_equal(gather_slice_us(&g, 950), 50);
    assert_int_equal(gather_slice_us(&g, 1000), 0);
    assert_int_equal(gather_slice_us(&g, UINT64_MAX), 0);
    for (unsigned i = 0; i < 40; i++) {
        now += 40;
        gather_taken(&g, 20, now); /* a flood: no shorter than a timer can tell */
    }
    assert_in_range(gather_slice_us(&g, 0), 100, 110);
    now += UINT32_MAX; /* a long pause: bounded, and never over max_us */
    gather_taken(&g, 1, now);
    assert_int_equal(gather_slice_us(&g, 0), 1000);
    gather_taken(&g, 1, now - 5); /* the clock of the caller may be the same, or worse */
    assert_int_equal(gather_slice_us(&g, 0), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off),
        cmocka_unit_test(who_brings_nobody_is_not_kept),
        cmocka_unit_test(company_is_waited_for),
        cmocka_unit_test(enough_does_not_wait),
        cmocka_unit_test(until_it_is_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
