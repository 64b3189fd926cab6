/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/where.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "tests/unit.h"

static const struct where_name names[] = {{"id", true}, {"status", false}, {"hub", false}};
/* id is stored in lower case; hub is not there */
static const struct span values[] = {SPAN_LIT("dev-1"), SPAN_LIT("enabled"), SPAN_NONE};

static const struct row {
    const char *text;
    enum where_truth want;
} rows[] = {
    {"status = 'enabled'", WHERE_TRUE},
    {"status = \"enabled\"", WHERE_TRUE},
    {"STATUS='enabled'", WHERE_TRUE},
    {"status = 'Enabled'", WHERE_FALSE},
    {"id = 'DEV-1'", WHERE_TRUE}, /* ids without case */
    {"'Dev-1' = id", WHERE_TRUE},
    {"id != 'dev-1'", WHERE_FALSE},
    {"id <> 'dev-2'", WHERE_TRUE},
    {"id > 'dev-0' AND id < 'dev-2'", WHERE_TRUE},
    {"id >= 'dev-1' and id <= 'dev-1'", WHERE_TRUE},
    {"id < 'dev-1' OR id > 'dev-1'", WHERE_FALSE},
    {"id IN ['a', 'DEV-1']", WHERE_TRUE},
    {"id IN ['a', 1, null]", WHERE_FALSE},
    {"id NOT IN ['a']", WHERE_TRUE},
    {"id NIN ['dev-1']", WHERE_FALSE},
    {"NOT id = 'dev-2'", WHERE_TRUE},
    {"NOT NOT id = 'dev-2'", WHERE_FALSE},
    {"hub = 'h'", WHERE_UNDEFINED},
    {"NOT hub = 'h'", WHERE_UNDEFINED},
    {"hub IN ['h']", WHERE_UNDEFINED},
    {"hub = undefined", WHERE_UNDEFINED},
    {"hub = 'h' OR id = 'dev-1'", WHERE_TRUE},
    {"hub = 'h' OR id = 'dev-2'", WHERE_UNDEFINED},
    {"hub = 'h' AND id = 'dev-2'", WHERE_FALSE},
    {"hub = 'h' AND id = 'dev-1'", WHERE_UNDEFINED},
    {"IS_DEFINED(hub)", WHERE_FALSE},
    {"not is_defined(hub) and is_defined(id)", WHERE_TRUE},
    {"STARTS_WITH(id, 'DEV')", WHERE_TRUE},
    {"STARTS_WITH(status, 'EN')", WHERE_FALSE},
    {"ENDS_WITH(id, '-1')", WHERE_TRUE},
    {"CONTAINS(status, 'able')", WHERE_TRUE},
    {"CONTAINS(status, '')", WHERE_TRUE},
    {"CONTAINS(status, 'enabled and more')", WHERE_FALSE},
    {"CONTAINS(hub, 'a')", WHERE_UNDEFINED},
    {"(id = 'a' OR id = 'dev-1') AND (status = 'enabled')", WHERE_TRUE},
    {"id = 'dev-1' OR id = 'x' AND status = 'no'", WHERE_TRUE}, /* AND binds closer */
    {"true", WHERE_TRUE},
    {"NOT false", WHERE_TRUE},
    {"null = null", WHERE_TRUE},
    {"true = false", WHERE_FALSE},
    {"id = 1", WHERE_FALSE},
    {"id != 1", WHERE_TRUE},
    {"id < 1", WHERE_UNDEFINED},
    {"1 < 2 AND -1 < 0.5 AND 0x10 = 16 AND 1e3 = 1000", WHERE_TRUE},
    {"null < null", WHERE_UNDEFINED},
    {"id", WHERE_UNDEFINED},
    {"id = 'it\\'s'", WHERE_FALSE},
    {"'it\\'s' = \"it's\"", WHERE_TRUE},
};

static void test_rows(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena a = ARENA_INIT(1u << 16);
        struct err_info info = {0};
        struct where *w = NULL;
        if (where_read(span_str(rows[i].text), names, ARRAY_LEN(names), &a, &w, &info) != OK) {
            fail_msg("%s: %s", rows[i].text, info.why);
        }
        enum where_truth got = where_judge(w, values);
        if (got != rows[i].want) {
            fail_msg("%s: %d, wanted %d", rows[i].text, (int)got, (int)rows[i].want);
        }
        arena_done(&a);
    }
}

static void test_refusals(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "id =",
        "= 'a'",
        "id = 'a",
        "id = 'a' AND",
        "id = 'a' id = 'b'",
        "(id = 'a'",
        "id = 'a')",
        "id IN []",
        "id IN ['a'",
        "id IN ('a')",
        "id IN ['a', id]",
        "id NOT 'a'",
        "nothing = 1",
        "id = 1 + 1",
        "id = -id",
        "id = 12x",
        "id LIKE 'a%'",
        "IS_DEFINED id",
        "IS_DEFINED()",
        "STARTS_WITH(id)",
        "STARTS_WITH(id, 'a', 'b')",
        "id = 'a'; DROP TABLE enrollment",
        "id = 'a' --",
        "id = 'a' UNION SELECT 1",
        "\x01",
        "\xff\xfe",
        "id = 'a' AND NOT",
    };
    struct where *w = NULL;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct arena a = ARENA_INIT(1u << 16);
        struct err_info info = {0};
        if (where_read(span_str(bad[i]), names, ARRAY_LEN(names), &a, &w, &info) != E_ARG) {
            fail_msg("%s is taken", bad[i]);
        }
        assert_non_null(strstr(info.why, "query: "));
        assert_null(w);
        arena_done(&a);
    }
}

/* Cut at every length a good text is read or refused, and never behind its end. */
static void test_cut(void **state UNUSED)
{
    const struct span text =
        SPAN_LIT("NOT (id IN ['a','b'] OR STARTS_WITH(hub, \"x\\\"y\")) AND status != null");
    for (size_t n = 0; n <= text.n; n++) {
        struct arena a = ARENA_INIT(1u << 16);
        uint8_t *exact = malloc(n + 1);
        assert_non_null(exact);
        memcpy(exact, text.p, n);
        struct where *w = NULL;
        enum err e = where_read(span_of(exact, n), names, ARRAY_LEN(names), &a, &w, NULL);
        assert_true(e == OK || e == E_ARG);
        assert_true(n != text.n || e == OK);
        free(exact);
        arena_done(&a);
    }
}

static enum err read_nested(unsigned depth, size_t more)
{
    struct arena a = ARENA_INIT(4u << 20);
    struct where *w = NULL;
    char *text = calloc(1, 2 * depth + more + 8);
    assert_non_null(text);
    memset(text, '(', depth);
    memcpy(text + depth, "true", 4);
    memset(text + depth + 4, ')', depth);
    memset(text + 2 * depth + 4, ' ', more);
    enum err e = where_read(span_str(text), names, ARRAY_LEN(names), &a, &w, NULL);
    free(text);
    arena_done(&a);
    return e;
}

static void test_limits(void **state UNUSED)
{
    assert_ok(read_nested(LIMIT_QUERY_DEPTH - 1, 0));
    assert_err(read_nested(LIMIT_QUERY_DEPTH, 0), E_ARG);
    assert_err(read_nested(3000, 0), E_ARG);
    assert_ok(read_nested(1, LIMIT_QUERY_TEXT - 6));
    assert_err(read_nested(1, LIMIT_QUERY_TEXT - 5), E_ARG);
    /* As many conditions as fit stand side by side, not inside each other. */
    struct arena a = ARENA_INIT(4u << 20);
    struct where *w = NULL;
    char text[LIMIT_QUERY_TEXT + 1] = "id='x'";
    size_t n = 6;
    while (n + 10 <= LIMIT_QUERY_TEXT) {
        memcpy(text + n, " OR id='x'", 11);
        n += 10;
    }
    assert_ok(where_read(span_str(text), names, ARRAY_LEN(names), &a, &w, NULL));
    assert_int_equal(where_judge(w, values), WHERE_FALSE);
    arena_done(&a);
    struct arena tiny = ARENA_INIT(64);
    assert_err(
        where_read(SPAN_LIT("id = 'a' AND id = 'b'"), names, ARRAY_LEN(names), &tiny, &w, NULL),
        E_NOMEM);
    arena_done(&tiny);
}

static void test_range(void **state UNUSED)
{
    static const struct {
        const char *text, *from, *to;
    } ranges[] = {
        {"id = 'AbC'", "abc", "abc"},
        {"id > 'a' AND id <= 'B'", "a", "b"},
        {"id >= 'a' AND id >= 'c' AND status = 'x'", "c", NULL},
        {"STARTS_WITH(id, 'Dev-')", "dev-", "dev-\xff"},
        {"id = 'a' OR id = 'b'", NULL, NULL},
        {"NOT id = 'a'", NULL, NULL},
        {"id != 'a'", NULL, NULL},
        {"status = 'a'", NULL, NULL},
        {"id = 1", NULL, NULL},
        {"id = 'a' AND (id = 'b' OR true)", "a", "a"},
        {"ENDS_WITH(id, 'a') AND CONTAINS(id, 'b') AND id IN ['c']", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        struct arena a = ARENA_INIT(1u << 16);
        struct where *w = NULL;
        assert_ok(where_read(span_str(ranges[i].text), names, ARRAY_LEN(names), &a, &w, NULL));
        struct where_range r = where_range(w, 0, &a);
        assert_int_equal(r.from.p != NULL, ranges[i].from != NULL);
        assert_int_equal(r.to.p != NULL, ranges[i].to != NULL);
        if (r.from.p != NULL) {
            assert_span(r.from, span_str(ranges[i].from));
        }
        if (r.to.p != NULL) {
            assert_span(r.to, span_str(ranges[i].to));
        }
        arena_done(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),   cmocka_unit_test(test_refusals), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
