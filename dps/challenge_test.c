/* SPDX-License-Identifier: Apache-2.0 */
/* docs/protocol/dps-tpm.md 5, 8: one use, its time, one after the other, the bound. */
#include <pthread.h>
#include <stdio.h>

#include "dps/challenge.h"
#include "tests/unit.h"

static void put(struct challenges *s, const char *fold, uint8_t mark, uint64_t now_ms)
{
    struct challenge c = {.enrollment = mark};
    assert_ok(secret_set(&c.k1, span_of(&mark, 1)));
    assert_ok(challenge_put(s, span_str(fold), &c, now_ms));
}

static bool get(struct challenges *s, const char *fold, uint64_t now_ms, struct challenge *ret)
{
    return challenge_get(s, span_str(fold), now_ms, ret);
}

static void test_use(void **state UNUSED)
{
    struct challenges *s = NULL;
    struct challenge c, d;
    struct span id = SPAN_LIT("a");
    assert_ok(challenges_new(&s));
    assert_false(get(s, "a", 0, &c));
    put(s, "a", 1, 1000);
    assert_true(get(s, "a", 1000, &c));
    assert_int_equal(c.k1.b[0], 1);
    assert_true(challenge_use(s, id, c.serial, 1000));
    assert_false(challenge_use(s, id, c.serial, 1000));
    assert_true(get(s, "a", 1000, &d)); /* its polls */
    assert_true(d.is_used);
    challenge_give_back(s, id, c.serial);
    assert_true(challenge_use(s, id, c.serial, 1000));
    /* T12: the newer one replaces it, used or not */
    put(s, "a", 2, 2000);
    assert_false(challenge_use(s, id, c.serial, 2000));
    challenge_give_back(s, id, c.serial);
    assert_true(get(s, "a", 2000, &d));
    assert_int_equal(d.k1.b[0], 2);
    assert_false(d.is_used);
    assert_false(challenge_use(s, SPAN_LIT("b"), d.serial, 2000));
    assert_int_equal(challenges_count(s), 1);
    challenges_free(s);
}

static void test_time(void **state UNUSED)
{
    struct challenges *s = NULL;
    struct challenge c;
    assert_ok(challenges_new(&s));
    put(s, "a", 1, 0);
    put(s, "b", 2, 0);
    assert_true(get(s, "b", 0, &c));
    assert_true(challenge_use(s, SPAN_LIT("b"), c.serial, 1));
    assert_true(get(s, "a", CHALLENGE_PENDING_MS - 1, &c));
    assert_false(get(s, "a", CHALLENGE_PENDING_MS, &c));
    assert_false(challenge_use(s, SPAN_LIT("a"), c.serial, CHALLENGE_PENDING_MS));
    assert_int_equal(challenges_count(s), 2);
    challenges_sweep(s, CHALLENGE_PENDING_MS); /* T10: nothing is left */
    assert_int_equal(challenges_count(s), 1);
    assert_true(get(s, "b", CHALLENGE_USED_MS, &c));
    challenges_sweep(s, CHALLENGE_USED_MS + 1);
    assert_int_equal(challenges_count(s), 0);
    challenges_free(s);
}

/* One over the bound: the oldest of a shard goes, never more than the bound. */
static void test_bound(void **state UNUSED)
{
    struct challenges *s = NULL;
    char id[32];
    assert_ok(challenges_new(&s));
    for (unsigned i = 0; i < 2 * LIMIT_DPS_CHALLENGES; i++) {
        (void)snprintf(id, sizeof(id), "unit-%u", i);
        put(s, id, 1, i);
    }
    assert_true(challenges_count(s) <= LIMIT_DPS_CHALLENGES);
    assert_true(challenges_count(s) > LIMIT_DPS_CHALLENGES / 2);
    struct challenge c;
    assert_true(get(s, id, 2 * LIMIT_DPS_CHALLENGES, &c)); /* the youngest stays */
    assert_false(get(s, "unit-0", 2 * LIMIT_DPS_CHALLENGES, &c));
    challenges_free(s);
}

struct race {
    struct challenges *s;
    uint64_t serial;
    unsigned won;
};

static void *use_it(void *arg)
{
    struct race *r = arg;
    r->won = challenge_use(r->s, SPAN_LIT("a"), r->serial, 1) ? 1 : 0;
    return NULL;
}

/* Two workers have the same token: one of them registers. */
static void test_race(void **state UNUSED)
{
    struct challenges *s = NULL;
    struct challenge c;
    assert_ok(challenges_new(&s));
    for (unsigned i = 0; i < 200; i++) {
        pthread_t t[2];
        put(s, "a", 1, 0);
        assert_true(get(s, "a", 0, &c));
        struct race r[2] = {{s, c.serial, 0}, {s, c.serial, 0}};
        for (unsigned k = 0; k < 2; k++) {
            assert_int_equal(pthread_create(&t[k], NULL, use_it, &r[k]), 0);
        }
        for (unsigned k = 0; k < 2; k++) {
            (void)pthread_join(t[k], NULL);
        }
        assert_int_equal(r[0].won + r[1].won, 1);
    }
    challenges_free(s);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_use),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_race),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
