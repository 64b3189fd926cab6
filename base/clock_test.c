/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <time.h>

#include "tests/unit.h"

#define S INT64_C(1000000)

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *iso, *rfc, *tracking;
    } rows[] = {
        {0, "1970-01-01T00:00:00.0000000Z", "Thu, 01 Jan 1970 00:00:00 GMT", "01/01/1970 00:00:00"},
        {-1, "1969-12-31T23:59:59.9999990Z", "Wed, 31 Dec 1969 23:59:59 GMT",
         "12/31/1969 23:59:59"},
        {1769820579 * S + 467528, "2026-01-31T00:49:39.4675280Z", "Sat, 31 Jan 2026 00:49:39 GMT",
         "01/31/2026 00:49:39"},
        {951782400 * S, "2000-02-29T00:00:00.0000000Z", "Tue, 29 Feb 2000 00:00:00 GMT",
         "02/29/2000 00:00:00"},
        {951868800 * S, "2000-03-01T00:00:00.0000000Z", "Wed, 01 Mar 2000 00:00:00 GMT",
         "03/01/2000 00:00:00"},
        {INT64_C(4107542400) * S, "2100-03-01T00:00:00.0000000Z", "Mon, 01 Mar 2100 00:00:00 GMT",
         "03/01/2100 00:00:00"},
        {INT64_C(-62135596800) * S, "0001-01-01T00:00:00.0000000Z", "Mon, 01 Jan 0001 00:00:00 GMT",
         "01/01/0001 00:00:00"},
        {INT64_C(-62135596800) * S - 1, "0001-01-01T00:00:00.0000000Z",
         "Mon, 01 Jan 0001 00:00:00 GMT", "01/01/0001 00:00:00"},
        {INT64_C(253402300799) * S + 999999, "9999-12-31T23:59:59.9999990Z",
         "Fri, 31 Dec 9999 23:59:59 GMT", "12/31/9999 23:59:59"},
        {INT64_MAX, "9999-12-31T23:59:59.9999990Z", "Fri, 31 Dec 9999 23:59:59 GMT",
         "12/31/9999 23:59:59"},
        {INT64_MIN, "0001-01-01T00:00:00.0000000Z", "Mon, 01 Jan 0001 00:00:00 GMT",
         "01/01/0001 00:00:00"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[TIME_ISO_SIZE];
        time_iso7(rows[i].us, text);
        assert_string_equal(text, rows[i].iso);
        time_rfc1123(rows[i].us, text);
        assert_string_equal(text, rows[i].rfc);
        time_tracking(rows[i].us, text);
        assert_string_equal(text, rows[i].tracking);
    }
}

/* Every day of 400 years against the C library. */
static void test_against_libc(void **state)
{
    (void)state;
    for (int64_t day = -1000; day < 146097; day += 1) {
        char got[TIME_ISO_SIZE];
        char want[TIME_ISO_SIZE];
        time_t t = (time_t)(day * 86400 + day % 86400);
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        assert_true(strftime(want, sizeof(want), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0);
        time_rfc1123((int64_t)t * S, got);
        assert_string_equal(got, want);
        int64_t back;
        time_iso7((int64_t)t * S, got);
        assert_ok(time_parse_iso(span_str(got), &back));
        assert_true(back == (int64_t)t * S);
    }
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t want;
    } rows[] = {
        {"2026-01-31T00:49:39.4675280Z", 1769820579 * S + 467528},
        {"2026-01-31T00:49:39Z", 1769820579 * S},
        {"2026-01-31t00:49:39z", 1769820579 * S},
        {"2026-01-31T00:49:39.5Z", 1769820579 * S + 500000},
        {"2026-01-31T00:49:39.123456789Z", 1769820579 * S + 123456},
        {"2026-01-31T02:49:39+02:00", 1769820579 * S},
        {"2026-01-30T19:19:39-05:30", 1769820579 * S},
        {"2026-01-31T00:49:39.1+00:00", 1769820579 * S + 100000},
        {"2024-02-29T00:00:00Z", 1709164800 * S},
        {"1969-12-31T23:59:59.9Z", -100000},
        {"0001-01-01T00:00:00Z", INT64_C(-62135596800) * S},
        {"9999-12-31T23:59:59.999999Z", INT64_C(253402300799) * S + 999999},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t us = 0;
        if (time_parse_iso(span_str(rows[i].text), &us) != OK || us != rows[i].want) {
            fail_msg("%s gave %lld", rows[i].text, (long long)us);
        }
    }
}

static void test_parse_refusals(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "2026",
        "2026-01-31",
        "2026-01-31T00:49:39", /* no zone */
        "2026-01-31 00:49:39Z",
        "2026-1-31T00:49:39Z",
        "2026-00-31T00:49:39Z",
        "2026-13-01T00:49:39Z",
        "2026-01-00T00:49:39Z",
        "2026-01-32T00:49:39Z",
        "2026-04-31T00:49:39Z",
        "2026-02-29T00:49:39Z", /* no leap year */
        "2100-02-29T00:49:39Z",
        "0000-01-01T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T00:60:39Z",
        "2026-01-31T00:49:60Z",
        "2026-01-31T00:49:39.Z",
        "2026-01-31T00:49:39,5Z",
        "2026-01-31T00:49:39.1234567890Z", /* ten digits */
        "2026-01-31T00:49:39.5",
        "2026-01-31T00:49:39+2:00",
        "2026-01-31T00:49:39+0200",
        "2026-01-31T00:49:39+24:00",
        "2026-01-31T00:49:39+02:60",
        "2026-01-31T00:49:39+02:00x",
        "2026-01-31T00:49:39Zx",
        " 2026-01-31T00:49:39Z",
        "+026-01-31T00:49:39Z",
        "-026-01-31T00:49:39Z",
        "9999-12-31T23:59:59-00:01", /* year 10000 */
        "0001-01-01T00:00:00+00:01", /* year 0 */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t us = 42;
        if (time_parse_iso(span_str(rows[i]), &us) != E_MALFORMED || us != 42) {
            fail_msg("%s", rows[i]);
        }
    }
    int64_t us = 42;
    assert_err(time_parse_iso(SPAN_LIT("2026-01-31T00:49:39Z\0"), &us), E_MALFORMED);
    assert_err(time_parse_iso(SPAN_LIT("2026-01-31\0"
                                       "00:49:39Z"),
                              &us),
               E_MALFORMED);
    struct span good = SPAN_LIT("2026-01-31T02:49:39.1234567+02:00");
    for (size_t n = 0; n < good.n; n++) {
        assert_err(time_parse_iso(span_sub(good, 0, n), &us), E_MALFORMED);
    }
    assert_true(us == 42);
}

static void test_system_clock(void **state)
{
    (void)state;
    const struct clock *c = clock_system();
    uint64_t before = clock_mono_ms(c);
    time_t now = time(NULL);
    int64_t s = clock_wall_s(c);
    assert_true(s >= now - 1 && s <= now + 5);
    assert_true(clock_wall_us(c) / S >= s);
    assert_true(clock_mono_ms(c) >= before);
}

static void test_random(void **state)
{
    (void)state;
    uint8_t a[1000] = {0};
    uint8_t b[1000] = {0};
    random_bytes(a, sizeof(a));
    random_bytes(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_memory_not_equal(a + 900, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                            16); /* filled to the end */
    random_bytes(NULL, 0);
    assert_true(random_below(1) == 0);
    unsigned seen = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t v = random_below(3);
        assert_true(v < 3);
        seen |= 1u << v;
    }
    assert_int_equal(seen, 7);
    assert_true(random_below(UINT64_MAX) < UINT64_MAX);
}

static void test_guid(void **state)
{
    (void)state;
    char a[GUID_SIZE];
    char b[GUID_SIZE];
    guid_new(a);
    guid_new(b);
    assert_string_not_equal(a, b);
    assert_int_equal(strlen(a), 36);
    for (size_t i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            assert_int_equal(a[i], '-');
        } else {
            assert_non_null(strchr("0123456789abcdef", a[i]));
        }
    }
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),        cmocka_unit_test(test_against_libc),
        cmocka_unit_test(test_parse),        cmocka_unit_test(test_parse_refusals),
        cmocka_unit_test(test_system_clock), cmocka_unit_test(test_random),
        cmocka_unit_test(test_guid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
