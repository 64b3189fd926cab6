/* SPDX-License-Identifier: Apache-2.0 */
#include "server/policy.h"

#include "tests/unit.h"

enum { READ = 1, WRITE = 2, CONNECT = 4, CONFIG = 16, ALL = 64 };

static const struct right_def defs[] = {
    {"Read", READ, 0, false},
    {"Write", WRITE, READ, false},
    {"Connect", CONNECT, 0, false},
    {"Config", CONFIG, 0, true},
    {"All", ALL, WRITE | CONNECT, false},
};
static const struct server_program program = {.rights = defs, .n_rights = ARRAY_LEN(defs)};

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err want;
        uint32_t given;
    } rows[] = {
        {"Read", OK, READ},
        {"Read, Write", OK, READ | WRITE},
        {"Write,Connect", OK, WRITE | CONNECT},
        {"  Read ,  Config ", OK, READ | CONFIG},
        {"Read, Read", OK, READ},
        {"", E_ARG, 0},
        {" ", E_ARG, 0},
        {",", E_ARG, 0},
        {"Read,", E_ARG, 0},
        {",Read", E_ARG, 0},
        {"Read Write", E_ARG, 0},
        {"read", E_ARG, 0},
        {"Reader", E_ARG, 0},
        {"Read;Write", E_ARG, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t given = 0xdead;
        struct err_info info = {0};
        assert_err(rights_parse(&program, span_str(rows[i].text), &given, &info), rows[i].want);
        assert_int_equal(given, rows[i].want == OK ? rows[i].given : 0xdead);
    }
}

static void test_closure(void **state)
{
    (void)state;
    static const struct {
        uint32_t given, all;
    } rows[] = {
        {0, 0},
        {READ, READ},
        {WRITE, WRITE | READ},
        {ALL, ALL | WRITE | READ | CONNECT}, /* over two steps */
        {CONFIG, CONFIG},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(rights_closure(&program, rows[i].given), rows[i].all);
    }
}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        uint32_t given;
        const char *shown, *all;
    } rows[] = {
        {READ, "Read", "Read"},
        {WRITE | READ | CONNECT, "Read, Write, Connect", "Read, Write, Connect"},
        {CONFIG | WRITE, "Write", "Write, Config"},
        {CONFIG, "", "Config"},
        {0, "", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = BUF_INIT(256);
        rights_text(&program, rows[i].given, &b);
        assert_span(buf_span(&b), span_str(rows[i].shown));
        buf_reset(&b);
        rights_text_all(&program, rows[i].given, &b);
        assert_span(buf_span(&b), span_str(rows[i].all));
        buf_done(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_closure),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
