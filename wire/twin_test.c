/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/limits.h"
#include "wire/twin.h"

#define S(x) SPAN_LIT(x)

static struct json *tree(struct span text)
{
    struct json *j = NULL;
    assert_ok(json_read(text, 1 << 20, &j, NULL));
    return j;
}

static enum err check(struct span text, enum twin_form form, struct err_info *info)
{
    struct json *j = tree(text);
    enum err e = twin_check(j, form, info);
    json_free(j);
    return e;
}

/* M32 and 9.3 */
static void test_rules(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span doc;
        enum err patch, whole;
        const char *where; /* must stand in the reason */
    } rows[] = {
        /* clang-format off */
        { "empty", S("{}"), OK, OK, "" },
        { "empty key", S("{\"\":1}"), OK, OK, "" },
        { "all types", S("{\"a\":1,\"b\":1.5,\"c\":true,\"d\":\"x\",\"e\":[1,\"x\",{\"f\":[]}]}"), OK, OK, "" },
        { "array", S("[]"), E_ARG, E_ARG, "object" },
        { "number", S("1"), E_ARG, E_ARG, "object" },
        { "null", S("{\"a\":null}"), OK, E_ARG, "\"a\"" },
        { "deep null", S("{\"a\":{\"b\":null}}"), OK, E_ARG, "\"a.b\"" },
        { "null in an array", S("{\"a\":[null]}"), E_ARG, E_ARG, "array" },
        { "null in an object in an array", S("{\"a\":[{\"b\":null}]}"), E_ARG, E_ARG, "\"a[].b\"" },
        { "our members at the root", S("{\"$version\":5,\"$metadata\":{\"x y\":null}}"), OK, OK, "" },
        { "our members deeper", S("{\"a\":{\"$version\":5}}"), E_ARG, E_ARG, "\"a.$version\"" },
        { "other $", S("{\"$x\":1}"), E_ARG, E_ARG, "name has" },
        { "dot", S("{\"a.b\":1}"), E_ARG, E_ARG, "name has" },
        { "#", S("{\"a#\":1}"), E_ARG, E_ARG, "name has" },
        { "space", S("{\"a b\":1}"), E_ARG, E_ARG, "name has" },
        { "C0", S("{\"a\\u0001\":1}"), E_ARG, E_ARG, "control" },
        { "DEL", S("{\"a\x7f\":1}"), E_ARG, E_ARG, "control" },
        { "C1", S("{\"a\xc2\x85\":1}"), E_ARG, E_ARG, "control" },
        { "U+00A0 is none", S("{\"a\xc2\xa0\":1}"), OK, OK, "" },
        { "key inside an array", S("{\"a\":[{\"b.c\":1}]}"), E_ARG, E_ARG, "name has" },
        { "largest integer", S("{\"a\":4503599627370495,\"b\":-4503599627370496}"), OK, OK, "" },
        { "one more", S("{\"a\":4503599627370496}"), E_ARG, E_ARG, "integer" },
        { "one less", S("{\"a\":-4503599627370497}"), E_ARG, E_ARG, "integer" },
        { "integer in an array", S("{\"a\":[4503599627370496]}"), E_ARG, E_ARG, "integer" },
        { "ten levels and a scalar", S("{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"10\":{\"x\":1}}}}}}}}}}}"), OK, OK, "" },
        { "eleven levels", S("{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"10\":{\"x\":{}}}}}}}}}}}}"), E_ARG, E_ARG, "nested" },
        { "an array is a level", S("{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"10\":[[]]}}}}}}}}}}"), E_ARG, E_ARG, "nested" },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err_info info = {.err = OK};
        print_message("%s\n", rows[i].name);
        assert_err(check(rows[i].doc, TWIN_WHOLE, &info), rows[i].whole);
        if (rows[i].whole != OK) {
            assert_non_null(strstr(info.why, rows[i].where));
        }
        assert_err(check(rows[i].doc, TWIN_PATCH, NULL), rows[i].patch);
    }
}

static enum err check_long(size_t key_n, size_t value_n)
{
    struct json *j = json_new_object();
    uint8_t *text = mem_new(key_n + value_n);
    memset(text, 'k', key_n + value_n);
    assert_ok(json_set_span(j, span_of(text, key_n), json_new_str(span_of(text, value_n))));
    enum err e = twin_check(j, TWIN_WHOLE, NULL);
    json_free(j);
    mem_free_p(&text);
    return e;
}

static void test_lengths(void **state)
{
    (void)state;
    assert_err(check_long(LIMIT_TWIN_KEY, 1), OK);
    assert_err(check_long(LIMIT_TWIN_KEY + 1, 1), E_ARG);
    assert_err(check_long(1, LIMIT_TWIN_STRING), OK);
    assert_err(check_long(1, LIMIT_TWIN_STRING + 1), E_ARG);
}

static void test_size(void **state)
{
    (void)state;
    static const struct {
        struct span doc;
        size_t want;
    } rows[] = {
        {S("{}"), 0},
        {S("{\"ab\":1}"), 10},
        {S("{\"ab\":1.5}"), 10},
        {S("{\"ab\":true}"), 6},
        {S("{\"ab\":null}"), 2},
        {S("{\"ab\":\"xyz\"}"), 5},
        {S("{\"\xc3\xa4\":\"\xe2\x82\xac\"}"), 5},
        {S("{\"a\":\"x\\n\\u0085\\u007fy\"}"), 3},
        {S("{\"a\":[1,\"bc\",{\"d\":false}]}"), 1 + 8 + 2 + 1 + 4},
        {S("{\"$version\":1,\"$metadata\":{\"x\":1},\"a\":1}"), 9},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct json *j = tree(rows[i].doc);
        print_message("%.*s\n", SPAN_ARG(rows[i].doc));
        assert_int_equal(twin_size(j), rows[i].want);
        assert_err(twin_check_size(j, rows[i].want, NULL), OK);
        if (rows[i].want > 0) {
            struct err_info info = {.err = OK};
            assert_err(twin_check_size(j, rows[i].want - 1, &info), E_ARG);
            assert_true(info.why[0] != '\0');
        }
        json_free(j);
    }
}

static void test_merge(void **state)
{
    (void)state;
    struct json *section = tree(S("{\"a\":{\"b\":1},\"old\":2,\"$version\":4}"));
    struct json *patch =
        tree(S("{\"$version\":9,\"$metadata\":{},\"a\":{\"c\":\"x\"},\"old\":null}"));
    struct json *want = tree(S("{\"a\":{\"b\":1,\"c\":\"x\"},\"$version\":4}"));
    assert_ok(twin_merge(section, patch));
    assert_true(json_same(section, want));
    assert_int_equal(json_count(patch), 4);
    twin_strip(section);
    assert_int_equal(json_count(section), 1);
    json_free(section);
    json_free(patch);
    json_free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_merge),
    };
    return cmocka_run_group_tests_name("wire/twin", tests, NULL, NULL);
}
