/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <stdio.h>

#include "tests/unit.h"

#define MANY 5000u

struct entry {
    struct map_node node;
    char name[16];
    unsigned seen;
};

static struct entry entries[MANY];

static void fill(struct map *m)
{
    map_init(m);
    memset(entries, 0, sizeof(entries));
    for (unsigned i = 0; i < MANY; i++) {
        (void)snprintf(entries[i].name, sizeof(entries[i].name), "key-%u", i);
        entries[i].node.key = span_str(entries[i].name);
        assert_ok(map_add(m, &entries[i].node));
    }
}

static void test_add_get_del(void **state)
{
    (void)state;
    AUTO(map_done) struct map m;
    fill(&m);
    assert_int_equal(m.count, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_ptr_equal(map_get(&m, span_str(entries[i].name)), &entries[i].node);
    }
    assert_null(map_get(&m, SPAN_LIT("key-")));
    assert_null(map_get(&m, SPAN_NONE));
    struct map_node twin = {.key = SPAN_LIT("key-7")};
    assert_err(map_add(&m, &twin), E_EXISTS);
    assert_int_equal(m.count, MANY);
    for (unsigned i = 0; i < MANY; i += 2) {
        map_del(&m, &entries[i].node);
    }
    for (unsigned i = 0; i < MANY; i++) {
        struct map_node *want = i % 2 != 0 ? &entries[i].node : NULL;
        assert_ptr_equal(map_get(&m, span_str(entries[i].name)), want);
    }
    assert_int_equal(m.count, MANY / 2);
    assert_ok(map_add(&m, &entries[0].node));
    assert_ptr_equal(map_get(&m, SPAN_LIT("key-0")), &entries[0].node);
}

static void test_empty(void **state)
{
    (void)state;
    AUTO(map_done) struct map m;
    struct map_cursor at = {0, NULL};
    map_init(&m);
    assert_null(map_get(&m, SPAN_LIT("x")));
    assert_null(map_next(&m, &at));
    struct map_node nameless = {.key = SPAN_NONE};
    assert_ok(map_add(&m, &nameless));
    assert_ptr_equal(map_get(&m, SPAN_LIT("")), &nameless);
    map_done(&m);
    assert_int_equal(m.count, 0);
    assert_null(map_get(&m, SPAN_NONE));
}

static void test_iterate_and_delete(void **state)
{
    (void)state;
    AUTO(map_done) struct map m;
    struct map_cursor at = {0, NULL};
    struct map_node *n;
    fill(&m);
    while ((n = map_next(&m, &at)) != NULL) {
        struct entry *e = CONTAINER_OF(n, struct entry, node);
        e->seen++;
        if ((e - entries) % 3 == 0) {
            map_del(&m, n);
        }
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(entries[i].seen, 1);
        assert_int_equal(map_get(&m, span_str(entries[i].name)) == NULL, i % 3 == 0);
    }
    at = (struct map_cursor){0, NULL};
    while ((n = map_next(&m, &at)) != NULL) {
        map_del(&m, n);
    }
    assert_int_equal(m.count, 0);
}

static void test_siphash(void **state)
{
    (void)state;
    /* The reference vectors of SipHash-2-4: key 00..0f, input 00, 01, .. of each length. */
    static const struct {
        size_t n;
        uint64_t want;
    } rows[] = {
        {0, 0x726fdb47dd0e0e31u}, {1, 0x74f839c593dc67fdu},  {7, 0xab0200f58b01d137u},
        {8, 0x93f5f5799a932462u}, {15, 0xa129ca6149be45e5u},
    };
    uint8_t in[16];
    for (size_t i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_true(siphash(0x0706050403020100u, 0x0f0e0d0c0b0a0908u, span_of(in, rows[i].n)) ==
                    rows[i].want);
    }
    struct map a;
    struct map b;
    map_init(&a);
    map_init(&b);
    assert_true(a.k0 != b.k0 || a.k1 != b.k1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_get_del),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_iterate_and_delete),
        cmocka_unit_test(test_siphash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
