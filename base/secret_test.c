/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit.h"

static bool is_all_zero(const void *p, size_t n)
{
    const uint8_t *b = p;
    while (n != 0 && *b == 0) {
        b++;
        n--;
    }
    return n == 0;
}

static void test_set_and_wipe(void **state)
{
    (void)state;
    uint8_t full[SECRET_MAX + 1];
    memset(full, 'k', sizeof(full));
    struct secret s = {{0}, 0};
    assert_ok(secret_set(&s, span_of(full, SECRET_MAX)));
    assert_int_equal(s.n, SECRET_MAX);
    assert_err(secret_set(&s, span_of(full, SECRET_MAX + 1)), E_TOO_LARGE);
    assert_int_equal(s.n, SECRET_MAX); /* untouched */
    assert_ok(secret_set(&s, SPAN_LIT("ab")));
    assert_span(secret_span(&s), SPAN_LIT("ab"));
    assert_true(is_all_zero(s.b + 2, sizeof(s.b) - 2)); /* nothing of the longer one stays */
    assert_ok(secret_set(&s, span_of(s.b + 1, 1)));
    assert_span(secret_span(&s), SPAN_LIT("b"));
    secret_done(&s);
    assert_int_equal(s.n, 0);
    assert_true(is_all_zero(s.b, sizeof(s.b)));
}

static void test_random(void **state)
{
    (void)state;
    struct secret a = {{0}, 0};
    struct secret b = {{0}, 0};
    assert_ok(secret_random(&a, 32));
    assert_ok(secret_random(&b, 32));
    assert_int_equal(a.n, 32);
    assert_false(mem_equal_ct(secret_span(&a), secret_span(&b)));
    assert_err(secret_random(&a, SECRET_MAX + 1), E_TOO_LARGE);
    assert_int_equal(a.n, 32);
    assert_ok(secret_random(&a, SECRET_MAX));
}

static void test_base64(void **state)
{
    (void)state;
    char full[4 * (SECRET_MAX / 3 + 1) + 1];
    memset(full, 'A', sizeof(full));
    struct secret s = {{0}, 0};
    assert_ok(secret_from_base64(&s, SPAN_LIT("a2V5")));
    assert_span(secret_span(&s), SPAN_LIT("key"));
    assert_err(secret_from_base64(&s, SPAN_LIT("a2V5=")), E_MALFORMED);
    assert_err(secret_from_base64(&s, SPAN_LIT("a2-5")), E_MALFORMED);
    assert_ok(secret_from_base64(&s, span_of(full, SECRET_MAX / 3 * 4)));
    assert_int_equal(s.n, SECRET_MAX);
    assert_err(secret_from_base64(&s, span_of(full, SECRET_MAX / 3 * 4 + 4)), E_MALFORMED);
    assert_int_equal(s.n, SECRET_MAX);
    secret_done(&s);
}

static void test_equal(void **state)
{
    (void)state;
    assert_true(mem_equal_ct(SPAN_LIT("abc"), SPAN_LIT("abc")));
    assert_false(mem_equal_ct(SPAN_LIT("abc"), SPAN_LIT("abd")));
    assert_false(mem_equal_ct(SPAN_LIT("xbc"), SPAN_LIT("abc")));
    assert_false(mem_equal_ct(SPAN_LIT("abc"), SPAN_LIT("ab")));
    assert_false(mem_equal_ct(SPAN_LIT("abc"), SPAN_NONE));
    assert_true(mem_equal_ct(SPAN_NONE, SPAN_NONE));
    char p[4] = "abc";
    mem_wipe(p, sizeof(p));
    assert_true(is_all_zero(p, sizeof(p)));
    mem_wipe(NULL, 0);
}

static void test_no_dumps(void **state)
{
    (void)state;
    pid_t pid = fork(); /* it cannot be undone */
    assert_true(pid >= 0);
    if (pid == 0) {
        bool ok = secret_forbid_dumps(NULL) == OK && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
        _exit(ok ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_wipe), cmocka_unit_test(test_random),
        cmocka_unit_test(test_base64),       cmocka_unit_test(test_equal),
        cmocka_unit_test(test_no_dumps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
