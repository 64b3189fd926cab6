/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of an audit trail: every change of a byte, every line that is moved or missing is found (threat S4). */
#include <stdio.h>

#include "tests/unit.h"

#include "base/text.h"
#include "certs/keyring.h"
#include "ctl/audit.h"

#define LINES 4u
static char lines[LINES][1024];

static int setup(void **state)
{
    static const char *const acts[] = {
        "PUT /admin/policies/p", "DELETE /admin/certificates/\\u0007\xc2\x9b",
        "POST /admin/policies/p/listKeys", "PUT /admin/policies/\\\"q\\\""};
    char prev[AUDIT_HASH_HEX + 1] = {0};
    memset(prev, '0', AUDIT_HASH_HEX);
    (void)state;
    for (unsigned i = 0; i < LINES; i++) {
        char text[900];
        uint8_t digest[32];
        (void)snprintf(
            text, sizeof(text),
            "{\"seq\":%u,\"time\":\"2026-01-31T00:49:39.4675280Z\",\"who\":\"owner\",\"from\":"
            "\"127.0.0.1:1\",\"act\":\"%s\",\"result\":\"OK\",\"prev\":\"%s\"}",
            i + 1, acts[i], prev);
        sha256(span_str(text), digest);
        hex_to_cstr(span_of(digest, sizeof(digest)), false, prev);
        text[strlen(text) - 1] = '\0';
        (void)snprintf(lines[i], sizeof(lines[i]), "%s,\"hash\":\"%s\"}", text, prev);
    }
    return 0;
}

static enum err check(const unsigned *order, unsigned n, struct audit_chain *c)
{
    struct err_info info = {0};
    *c = (struct audit_chain){.lines = 0};
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < n; i++) {
        e = audit_chain_add(c, span_str(lines[order[i]]), &info);
    }
    return e;
}

static void good(void **state)
{
    (void)state;
    struct audit_chain c;
    assert_ok(check((const unsigned[]){0, 1, 2, 3}, 4, &c));
    assert_int_equal(c.lines, 4);
    assert_int_equal(c.first, 1);
    assert_int_equal(c.last, 4);
    assert_non_null(strstr(lines[3], c.hash));
    assert_ok(check((const unsigned[]){1, 2}, 2, &c)); /* a later part of it */
    assert_int_equal(c.first, 2);
}

static void moved(void **state)
{
    (void)state;
    static const unsigned orders[][3] = {{0, 2, 3}, {0, 1, 1}, {1, 0, 2}, {0, 1, 3}, {2, 1, 0}};
    struct audit_chain c;
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        assert_err(check(orders[i], 3, &c), E_CORRUPT);
    }
}

static void every_byte(void **state)
{
    (void)state;
    struct audit_chain c;
    for (unsigned i = 0; i < LINES; i++) {
        for (size_t at = 0; lines[i][at] != '\0'; at++) {
            char was = lines[i][at];
            lines[i][at] = was == 'x' ? 'y' : 'x';
            enum err e = check((const unsigned[]){0, 1, 2, 3}, 4, &c);
            if (e == OK) {
                fail_msg("line %u, byte %zu", i, at);
            }
            lines[i][at] = was;
        }
    }
    assert_ok(check((const unsigned[]){0, 1, 2, 3}, 4, &c));
}

static void no_entry(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "null",
                                        "[]",
                                        "{}",
                                        "{\"seq\":1}",
                                        "{\"seq\":0,\"prev\":\"\",\"hash\":\"\"}",
                                        "{\"seq\":1,\"prev\":\"\",\"hash\":\"\"}"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct audit_chain c = {.lines = 0};
        assert_int_not_equal(audit_chain_add(&c, span_str(texts[i]), NULL), OK);
        assert_int_equal(c.lines, 0);
    }
}

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),
        cmocka_unit_test(moved),
        cmocka_unit_test(every_byte),
        cmocka_unit_test(no_entry),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
