/* SPDX-License-Identifier: Apache-2.0 */
/* Takeover wars (threat D7) and keys used in two places (threat D10), by themselves: hub/rivals.h. */
#include "tests/unit.h"

#include "hub/rivals.h"

static const struct rival_place home = {4, {10, 0, 0, 1}}, away = {4, {10, 0, 0, 2}},
                                third = {4, {10, 0, 0, 3}}, nowhere = {0, {0}};

static int setup(void **state)
{
    (void)state;
    return 0;
}

/* A device whose line breaks now and then never waits. */
static void reconnects(void **state)
{
    (void)state;
    struct rivals r;
    uint64_t now = 1000;
    rivals_begin(&r, &home);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(rivals_wait_ms(&r, now), 0);
        assert_int_equal(rivals_note(&r, now, i % 2 == 0 ? &home : &nowhere), 0);
        now += RIVALS_CALM_MS;
    }
}

/* Two that hold one key: a thousand takeovers, each as soon as it is let. */
static void war(void **state)
{
    (void)state;
    struct rivals r;
    uint64_t now = 1000, begin = now;
    uint32_t last = 0, most = 0;
    unsigned wars = 0, places = 0, at_once = 0;
    rivals_begin(&r, &home);
    for (unsigned i = 0; i < 1000; i++) {
        uint32_t wait = rivals_wait_ms(&r, now);
        at_once += wait == 0;
        if (i < 12) {
            assert_true(wait >= last); /* grows */
        }
        last = wait;
        most = MAX(most, wait);
        now += wait;
        unsigned alarms = rivals_note(&r, now, i % 2 == 0 ? &away : &home);
        wars += (alarms & RIVALS_WAR) != 0;
        places += (alarms & RIVALS_PLACES) != 0;
    }
    assert_int_equal(at_once, RIVALS_FREE);
    assert_int_equal(most, RIVALS_WAIT_MAX_MS);
    uint64_t took_s = (now - begin) / 1000;
    assert_in_range(took_s, 8000, 10001); /* about one in ten seconds, not thousands a second */
    assert_in_range(wars, took_s / 600, took_s / 600 + 1);
    assert_in_range(places, took_s / 600, took_s / 600 + 1);
    now += RIVALS_LEVEL_MAX * RIVALS_CALM_MS;
    assert_int_equal(rivals_wait_ms(&r, now), 0); /* forgotten */
}

static void places(void **state)
{
    (void)state;
    static const struct {
        const struct rival_place *from[8];
        bool alarm;
    } rows[] = {
        {{&away, &home, &away, &home}, true},                /* back three times */
        {{&away, &home, &away}, false},                      /* twice: a line that wavers */
        {{&home, &home, &home, &home, &home, &home}, false}, /* one place */
        {{&away, &third, &home, &away, &third, &home, &away}, false}, /* travels round */
        {{&away, &nowhere, &home, &nowhere, &away, &home},
         true}, /* what is unknown changes nothing */
        {{&away, &away, &home, &home, &away, &home}, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rivals r;
        unsigned got = 0;
        uint64_t now = 1000;
        rivals_begin(&r, &home);
        for (size_t k = 0; k < ARRAY_LEN(rows[i].from) && rows[i].from[k] != NULL;
             k++, now += 60000) {
            got |= rivals_note(&r, now, rows[i].from[k]);
        }
        if (((got & RIVALS_PLACES) != 0) != rows[i].alarm) {
            fail_msg("row %zu", i);
        }
    }
    struct rivals r;
    rivals_begin(&r, &home);
    for (unsigned i = 0; i < 20; i++) { /* twice an hour: a device between two networks */
        assert_int_equal(rivals_note(&r, 1000 + i * UINT64_C(1800000), i % 2 == 0 ? &away : &home),
                         0);
    }
}

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reconnects),
        cmocka_unit_test(war),
        cmocka_unit_test(places),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
