/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include "base/clock.h"
#include "tests/unit.h"

/* RFC 3720 B.4, and the check value of the polynomial's catalogue entry. */
static void test_known(void **state)
{
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];

    (void)state;
    for (size_t i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    const struct {
        const char *name;
        const void *p;
        size_t n;
        uint32_t want;
    } rows[] = {
        {"nothing", "", 0, 0},
        {"32 zeros", zeros, 32, UINT32_C(0x8a9136aa)},
        {"32 bytes of ones", ones, 32, UINT32_C(0x62a8ab43)},
        {"going up", up, 32, UINT32_C(0x46dd794e)},
        {"going down", down, 32, UINT32_C(0x113fdb5c)},
        {"digits", "123456789", 9, UINT32_C(0xe3069283)},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (crc32c(0, rows[i].p, rows[i].n) != rows[i].want ||
            crc32c_by_table(0, rows[i].p, rows[i].n) != rows[i].want) {
            fail_msg("%s", rows[i].name);
        }
    }
}

/* Both ways, at every length and alignment, whole and in two pieces. */
static void test_same(void **state)
{
    uint8_t b[80];

    (void)state;
    random_bytes(b, sizeof(b));
    for (size_t from = 0; from < 9; from++) {
        for (size_t n = 0; from + n <= sizeof(b); n++) {
            uint32_t want = crc32c_by_table(0, b + from, n);
            assert_int_equal(crc32c(0, b + from, n), want);
            assert_int_equal(crc32c(crc32c(0, b + from, n / 3), b + from + n / 3, n - n / 3), want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
