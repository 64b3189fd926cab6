/* SPDX-License-Identifier: Apache-2.0 */
#include "base/span.h"

#include <stdlib.h>

#include "tests/unit.h"

static void test_compare(void **state)
{
    (void)state;
    struct span none = SPAN_NONE;
    assert_true(span_eq(none, SPAN_LIT("")));
    assert_true(span_eq(SPAN_LIT("a\0b"), SPAN_LIT("a\0b")));
    assert_false(span_eq(SPAN_LIT("a\0b"), SPAN_LIT("a\0c")));
    assert_false(span_is(SPAN_LIT("ab"), "abc"));
    assert_true(span_is(none, NULL));
    assert_true(span_is_nocase(SPAN_LIT("AbZz09[@"), "aBzZ09[@"));
    assert_false(span_is_nocase(SPAN_LIT("@"), "`"));
    assert_false(span_is_nocase(SPAN_LIT("["), "{"));
    assert_false(span_is_nocase(SPAN_LIT("a"), "ab"));
    /* only ASCII folds: A-umlaut is not a-umlaut */
    assert_false(span_is_nocase(SPAN_LIT("\xc3\x84"), "\xc3\xa4"));
    assert_true(span_starts(SPAN_LIT("abc"), SPAN_LIT("ab")));
    assert_true(span_starts(SPAN_LIT("abc"), none));
    assert_true(span_starts(none, none));
    assert_false(span_starts(SPAN_LIT("ab"), SPAN_LIT("abc")));
    assert_false(span_starts(SPAN_LIT("aBc"), SPAN_LIT("ab")));
    assert_true(span_starts_nocase(SPAN_LIT("aBc"), SPAN_LIT("Ab")));
    assert_true(span_ends(SPAN_LIT("abc"), SPAN_LIT("bc")));
    assert_true(span_ends(SPAN_LIT("abc"), none));
    assert_false(span_ends(SPAN_LIT("bc"), SPAN_LIT("abc")));
    assert_false(span_ends(SPAN_LIT("abc"), SPAN_LIT("ab")));
}

static void test_cmp(void **state)
{
    (void)state;
    static const struct {
        struct span a, b;
        int want;
    } rows[] = {
        {{NULL, 0}, {NULL, 0}, 0},
        {{NULL, 0}, {(const uint8_t *)"a", 1}, -1},
        {{(const uint8_t *)"b", 1}, {(const uint8_t *)"a", 1}, 1},
        {{(const uint8_t *)"ab", 2}, {(const uint8_t *)"a", 1}, 1},
        {{(const uint8_t *)"ab", 2}, {(const uint8_t *)"b", 1}, -1},
        {{(const uint8_t *)"\xff", 1}, {(const uint8_t *)"a", 1}, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(span_cmp(rows[i].a, rows[i].b), rows[i].want);
        assert_int_equal(span_cmp(rows[i].b, rows[i].a), -rows[i].want);
    }
}

static void test_sub_clamps(void **state)
{
    (void)state;
    struct span s = SPAN_LIT("hello");
    assert_span(span_sub(s, 1, 3), SPAN_LIT("ell"));
    assert_span(span_sub(s, 3, 100), SPAN_LIT("lo"));
    assert_span(span_sub(s, 5, 1), SPAN_NONE);
    assert_span(span_sub(s, SIZE_MAX, SIZE_MAX), SPAN_NONE);
    assert_span(span_from(s, 2), SPAN_LIT("llo"));
    assert_span(span_from(s, 6), SPAN_NONE);
    assert_null(span_sub(SPAN_NONE, 3, 4).p);
}

static void test_find_cut_trim(void **state)
{
    (void)state;
    assert_int_equal(span_find(SPAN_LIT("a=b"), '='), 1);
    assert_int_equal(span_find(SPAN_LIT("ab"), '='), 2);
    assert_int_equal(span_find(SPAN_NONE, '='), 0);

    struct span rest = SPAN_LIT("a,,b,");
    assert_span(span_cut(&rest, ','), SPAN_LIT("a"));
    assert_span(span_cut(&rest, ','), SPAN_NONE);
    assert_span(span_cut(&rest, ','), SPAN_LIT("b"));
    assert_non_null(rest.p); /* a last empty piece follows the comma */
    assert_int_equal(rest.n, 0);
    assert_span(span_cut(&rest, ','), SPAN_NONE);
    assert_null(rest.p);
    assert_span(span_cut(&rest, ','), SPAN_NONE);

    assert_span(span_trim(SPAN_LIT(" \t a b\t ")), SPAN_LIT("a b"));
    assert_span(span_trim(SPAN_LIT(" \t ")), SPAN_NONE);
    assert_span(span_trim(SPAN_LIT("\na\r")), SPAN_LIT("\na\r"));
    assert_span(span_trim(SPAN_NONE), SPAN_NONE);
    assert_true(span_has_nul(SPAN_LIT("a\0b")));
    assert_false(span_has_nul(SPAN_LIT("ab")));
}

static void test_to_u64(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        uint64_t want;
    } rows[] = {
        {"0", true, 0},
        {"007", true, 7},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999999999", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"12x", false, 0},
        {"0x10", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t v = 42;
        assert_int_equal(span_to_u64(span_str(rows[i].text), &v), rows[i].ok);
        assert_true(v == (rows[i].ok ? rows[i].want : 42));
    }
    uint64_t v;
    assert_false(span_to_u64(SPAN_LIT("1\0"), &v));
}

static void test_to_i64(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t want;
    } rows[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"-1", true, -1},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"-9223372036854775808", true, INT64_MIN},
        {"-9223372036854775809", false, 0},
        {"-", false, 0},
        {"--1", false, 0},
        {"+1", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t v = 42;
        assert_int_equal(span_to_i64(span_str(rows[i].text), &v), rows[i].ok);
        assert_true(v == (rows[i].ok ? rows[i].want : 42));
    }
}

static void test_to_cstr(void **state)
{
    (void)state;
    char dst[4];
    assert_true(span_to_cstr(SPAN_LIT("abc"), dst, sizeof(dst)));
    assert_string_equal(dst, "abc");
    assert_false(span_to_cstr(SPAN_LIT("abcd"), dst, sizeof(dst)));
    assert_string_equal(dst, "");
    assert_false(span_to_cstr(SPAN_LIT("a\0b"), dst, sizeof(dst)));
    assert_string_equal(dst, "");
    assert_true(span_to_cstr(SPAN_NONE, dst, 1));
    AUTO(mem_free_p) char *s = span_dup(SPAN_LIT("abc"));
    assert_string_equal(s, "abc");
    AUTO(mem_free_p) char *e = span_dup(SPAN_NONE);
    assert_string_equal(e, "");
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *text;
        bool want;
    } rows[] = {
        {"ASCII", "plain ~\x7f", true},
        {"two bytes", "\xc2\x80\xdf\xbf", true},
        {"three bytes", "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", true},
        {"four bytes", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", true},
        {"lone tail", "\x80", false},
        {"cut two", "\xc3", false},
        {"cut three", "\xe2\x82", false},
        {"cut four", "\xf0\x9f\x98", false},
        {"bad tail", "\xe2\x82\x28", false},
        {"bad last tail", "\xf0\x9f\x98\x28", false},
        {"overlong 2", "\xc0\x80", false},
        {"overlong 2b", "\xc1\xbf", false},
        {"overlong 3", "\xe0\x9f\xbf", false},
        {"overlong 4", "\xf0\x8f\xbf\xbf", false},
        {"surrogate first", "\xed\xa0\x80", false},
        {"surrogate last", "\xed\xbf\xbf", false},
        {"above 10FFFF", "\xf4\x90\x80\x80", false},
        {"f5", "\xf5\x80\x80\x80", false},
        {"ff", "\xff", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (span_is_utf8(span_str(rows[i].text)) != rows[i].want) {
            fail_msg("%s", rows[i].name);
        }
    }
    assert_true(span_is_utf8(SPAN_NONE));
    assert_false(span_is_utf8(SPAN_LIT("a\0b")));
    assert_int_equal(span_utf8_len(SPAN_LIT("\0")), 1);
    assert_int_equal(span_utf8_len(SPAN_NONE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare),    cmocka_unit_test(test_cmp),
        cmocka_unit_test(test_sub_clamps), cmocka_unit_test(test_find_cut_trim),
        cmocka_unit_test(test_to_u64),     cmocka_unit_test(test_to_i64),
        cmocka_unit_test(test_to_cstr),    cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
