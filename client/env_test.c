/* SPDX-License-Identifier: Apache-2.0 */
#include "client/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "tests/unit.h"

static void test_ca_file(void **state)
{
    (void)state;
    static const struct {
        const char *file, *env, *want;
    } rows[] = {
        {"/d/env.json", "{\"caFile\":\"ca.pem\"}", "/d/ca.pem"},
        {"env.json", "{\"caFile\":\"ca.pem\"}", "ca.pem"},
        {"a/b/env.json", "{\"caFile\":\"../ca.pem\"}", "a/b/../ca.pem"},
        {"/d/env.json", "{\"caFile\":\"/x/ca.pem\"}", "/x/ca.pem"},
        {"/env.json", "{}", "/"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(json_free_p) struct json *j = NULL;
        assert_ok(json_read_object(span_str(rows[i].env), 4096, &j, NULL));
        AUTO(mem_free_p) char *got = env_ca_file(j, rows[i].file);
        assert_string_equal(got, rows[i].want);
    }
}

static void test_port(void **state)
{
    (void)state;
    AUTO(json_free_p) struct json *j = NULL;
    assert_ok(
        json_read_object(SPAN_LIT("{\"a\":1,\"b\":65535,\"c\":65536,\"d\":-1,\"e\":\"7\",\"f\":0}"),
                         4096, &j, NULL));
    assert_int_equal(env_port(j, "a"), 1);
    assert_int_equal(env_port(j, "b"), 65535);
    for (const char *name = "cdefg"; *name != '\0'; name++) {
        const char one[] = {*name, '\0'};
        assert_int_equal(env_port(j, one), 0);
    }
}

static void test_load(void **state)
{
    (void)state;
    char file[] = "/tmp/berth-env-XXXXXX";
    struct json *j = NULL;
    struct err_info info = {0};
    int fd = mkstemp(file);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"idScope\":\"s\"", 14), 14);
    assert_true(env_load(file, &j, &info) == E_JSON); /* one byte short */
    assert_non_null(strstr(info.why, file));
    assert_null(j);
    assert_int_equal(write(fd, "}", 1), 1);
    assert_ok(env_load(file, &j, &info));
    assert_span(json_str(json_get(j, "idScope")), SPAN_LIT("s"));
    json_free(j);
    j = NULL;
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, "[1]", 3, 0), 3);
    assert_err(env_load(file, &j, &info), E_ARG);
    (void)close(fd);
    (void)unlink(file);
    assert_err(env_load(file, &j, &info), E_NOT_FOUND);
    assert_non_null(strstr(info.why, "there is no file"));
    assert_null(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ca_file),
        cmocka_unit_test(test_port),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
