/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>

#include "tests/unit.h"

static void test_every_error_has_name_class_text(void **state)
{
    (void)state;
    assert_int_equal(err_class(OK), ERR_T_OK);
    for (int i = 1; i < ERR_COUNT; i++) {
        enum err e = (enum err)i;
        assert_int_equal(strncmp(err_name(e), "E_", 2), 0);
        assert_true(err_text(e)[0] != '\0');
        assert_int_not_equal(err_class(e), ERR_T_OK);
    }
    assert_string_equal(err_name(E_ETAG), "E_ETAG");
    assert_string_equal(err_text(E_ETAG), "entity changed since it was read");
    assert_int_equal(err_class(E_BUG), ERR_T_BUG);
    assert_int_equal(err_class(E_AGAIN), ERR_T_RETRY);
    assert_string_equal(err_name(ERR_COUNT), "E_BUG");
    assert_string_equal(err_name((enum err) - 1), "E_BUG");
}

static void test_set_masks_controls(void **state)
{
    (void)state;
    struct err_info info = {0};
    assert_err(err_set(&info, E_ID, "id \"%s\"", "a\nb\x1b[0m\x7f"), E_ID);
    assert_string_equal(info.why, "id \"a?b?[0m?\"");
    assert_err(info.err, E_ID);
    assert_err(err_set(NULL, E_ID, "nobody listens"), E_ID);
    /* a later one overwrites */
    (void)err_set(&info, E_DB, "second");
    assert_string_equal(info.why, "second");
}

static void test_wrap(void **state)
{
    (void)state;
    struct err_info info = {0};
    assert_err(err_wrap(&info, E_DB, "could not store"), E_DB);
    assert_string_equal(info.why, "could not store: database refused the statement");
    (void)err_set(&info, E_IO, "disk");
    assert_err(err_wrap(&info, E_DB, "twin %d", 7), E_DB);
    assert_string_equal(info.why, "twin 7: disk");
    assert_err(info.err, E_DB);
    /* arguments that point into info */
    (void)err_set(&info, E_DB, "again: %s", info.why);
    assert_string_equal(info.why, "again: twin 7: disk");
    (void)err_wrap(&info, E_DB, "%s", info.why);
    assert_string_equal(info.why, "again: twin 7: disk: again: twin 7: disk");
    assert_err(err_wrap(NULL, E_DB, "nobody"), E_DB);
}

static void test_long_texts_are_cut(void **state)
{
    (void)state;
    struct err_info info = {0};
    char longer[sizeof(info.why) + 10];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    (void)err_set(&info, E_ID, "%s", longer);
    assert_int_equal(strlen(info.why), sizeof(info.why) - 1);
    (void)err_wrap(&info, E_ID, "%s", longer);
    assert_int_equal(strlen(info.why), sizeof(info.why) - 1);
    (void)err_wrap(&info, E_ID, "w");
    assert_int_equal(strlen(info.why), sizeof(info.why) - 1);
    assert_int_equal(strncmp(info.why, "w: xxx", 6), 0);
}

static void test_why(void **state)
{
    (void)state;
    struct err_info info = {0};
    assert_string_equal(err_why(NULL, E_DB), err_text(E_DB));
    assert_string_equal(err_why(&info, E_DB), err_text(E_DB));
    (void)err_set(&info, E_DB, "because");
    assert_string_equal(err_why(&info, E_DB), "because");
}

static void test_from_errno(void **state)
{
    (void)state;
    static const struct {
        int num;
        enum err want;
    } rows[] = {
        {ENOSPC, E_DISK_FULL},
        {EDQUOT, E_DISK_FULL},
        {EACCES, E_PERM},
        {EPERM, E_PERM},
        {EADDRINUSE, E_IN_USE},
        {ENOENT, E_NOT_FOUND},
        {EEXIST, E_EXISTS},
        {ENOMEM, E_NOMEM},
        {EAGAIN, E_AGAIN},
        {ETIMEDOUT, E_TIMEOUT},
        {ECONNRESET, E_CLOSED},
        {ECONNREFUSED, E_NET},
        {EIO, E_IO},
        {EBADF, E_SYS},
        {0, E_SYS},
        {-1, E_SYS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_err(err_from_errno(rows[i].num), rows[i].want);
    }
    struct err_info info = {0};
    assert_err(err_set_errno(&info, ENOENT, "open %s", "f"), E_NOT_FOUND);
    assert_string_equal(info.why, "open f: No such file or directory");
    assert_err(err_set_errno(NULL, EIO, "x"), E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_error_has_name_class_text),
        cmocka_unit_test(test_set_masks_controls),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_why),
        cmocka_unit_test(test_from_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
