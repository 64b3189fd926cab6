/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>

#include "base/limits.h"
#include "wire/json.h"

#define S(x) SPAN_LIT(x)
#define BIG (4u << 20)

static struct json *tree(struct span text)
{
    struct json *j = NULL;
    assert_ok(json_read(text, BIG, &j, NULL));
    return j;
}

static void assert_text(const struct json *j, const char *want)
{
    struct buf b = BUF_INIT(BIG);
    json_write(&b, j);
    assert_ok(buf_err(&b));
    assert_span(buf_span(&b), span_str(want));
    buf_done(&b);
}

/* --- reading and writing ------------------------------------------------------------------ */
static void test_round_trips(void **state)
{
    (void)state;
    static const struct {
        struct span in;
        const char *out;
    } rows[] = {
        /* clang-format off */
        { S("{\"b\":1,\"a\":[true,false,null]}"), "{\"b\":1,\"a\":[true,false,null]}" },
        { S(" [ 1 , { } , [ ] ] "), "[1,{},[]]" },
        { S("\xef\xbb\xbf{}"), "{}" },
        { S("\"\\u00e4\\n\\\"\\\\\\/\\u0001\""), "\"\xc3\xa4\\n\\\"\\\\/\\u0001\"" },
        { S("\"\\ud83d\\ude00\""), "\"\xf0\x9f\x98\x80\"" },
        { S("\"\\b\\f\\r\\t\x7f\""), "\"\\b\\f\\r\\t\x7f\"" },
        { S("9223372036854775807"), "9223372036854775807" },
        { S("-9223372036854775808"), "-9223372036854775808" },
        { S("1.0"), "1.0" },
        { S("-0.0"), "-0.0" },
        { S("0.1"), "0.1" },
        { S("21.5"), "21.5" },
        { S("0.30000000000000004"), "0.30000000000000004" },
        { S("1e300"), "1e+300" },
        { S("5e-324"), "4.94065645841247e-324" },
        { S("123456789012345678.0"), "1.2345678901234568e+17" },
        { S("null"), "null" },
        { S("\"\""), "\"\"" },
        { S("{\"\":1}"), "{\"\":1}" },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        print_message("%.*s\n", SPAN_ARG(rows[i].in));
        struct json *j = tree(rows[i].in);
        assert_text(j, rows[i].out);
        struct json *again = tree(span_str(rows[i].out));
        assert_true(json_same(j, again));
        json_free(again);
        json_free(j);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        struct span in;
        enum err want;
    } rows[] = {
        /* clang-format off */
        { { NULL, 0 }, E_JSON },
        { S(" "), E_JSON },
        { S("{"), E_JSON },
        { S("{\"a\":1,\"a\":2}"), E_JSON },          /* N5: doubled names */
        { S("{\"a\":{\"b\":1,\"\\u0062\":2}}"), E_JSON },
        { S("[1,]"), E_JSON },
        { S("{\"a\":1,}"), E_JSON },
        { S("1 2"), E_JSON },
        { S("{} x"), E_JSON },
        { S("'a'"), E_JSON },
        { S("{a:1}"), E_JSON },
        { S("01"), E_JSON },
        { S("+1"), E_JSON },
        { S(".5"), E_JSON },
        { S("NaN"), E_JSON },
        { S("Infinity"), E_JSON },
        { S("tru"), E_JSON },
        { S("9223372036854775808"), E_JSON },        /* big numbers */
        { S("1e999"), E_JSON },
        { S("\"\\u0000\""), E_JSON },
        { S("{\"\\u0000\":1}"), E_JSON },
        { S("\"\\ud800\""), E_JSON },
        { S("\"a\nb\""), E_JSON },
        { S("\"a"), E_JSON },
        { S("\"\\"), E_JSON },
        { S("\"\xff\""), E_UTF8 },
        { S("\"\xed\xa0\x80\""), E_UTF8 },
        { S("\"a\0b\""), E_UTF8 },
        { S("{}\0"), E_UTF8 },
        { S("/* c */ 1"), E_JSON },
        { S("\xef\xbb\xbf"), E_JSON },
        { S("\xef\xbb\xbf\xef\xbb\xbf{}"), E_JSON },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct json *j = NULL;
        struct err_info info = {.err = OK};
        print_message("%.*s\n", SPAN_ARG(rows[i].in));
        assert_err(json_read(rows[i].in, BIG, &j, &info), rows[i].want);
        assert_null(j);
        assert_true(info.why[0] != '\0');
    }
    struct json *j = NULL;
    assert_err(json_read(S("{}"), 1, &j, NULL), E_TOO_LARGE);
    assert_err(json_read_object(S("[]"), 10, &j, NULL), E_ARG);
    assert_err(json_read_object(S("["), 10, &j, NULL), E_JSON);
    assert_null(j);
    assert_ok(json_read_object(S("{}"), 2, &j, NULL));
    json_free(j);
}

static void test_every_cut(void **state)
{
    (void)state;
    const struct span whole = S("{\"a\":[1,-2.5e1,\"x\\n\\u00e4\",{\"b\":null}],\"c\":true}");
    for (size_t n = 0; n < whole.n; n++) {
        struct json *j = NULL;
        assert_err(json_read(span_sub(whole, 0, n), BIG, &j, NULL), E_JSON);
        assert_null(j);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct json *j = NULL;
    for (unsigned over = 0; over < 2; over++) {
        struct buf b = BUF_INIT(BIG);
        for (unsigned i = 0; i < LIMIT_JSON_DEPTH + over; i++) {
            buf_add_u8(&b, '[');
        }
        for (unsigned i = 0; i < LIMIT_JSON_DEPTH + over; i++) {
            buf_add_u8(&b, ']');
        }
        assert_err(json_read(buf_span(&b), BIG, &j, NULL), over ? E_LIMIT : OK);
        json_free(j);
        j = NULL;
        buf_reset(&b);
        buf_add_str(&b, "[0");
        for (unsigned i = 0; i < LIMIT_JSON_TOKENS - 2 + over; i++) {
            buf_add_str(&b, ",1");
        }
        buf_add_u8(&b, ']');
        assert_err(json_read(buf_span(&b), BIG, &j, NULL), over ? E_LIMIT : OK);
        json_free(j);
        j = NULL;
        buf_done(&b);
    }
}

static void test_token_count(void **state)
{
    (void)state;
    static const struct {
        struct span in;
        size_t tokens, depth;
    } rows[] = {
        {S(""), 0, 0},
        {S("1"), 1, 0},
        {S("[1,2,3]"), 4, 1},
        {S("{\"a\":{\"b\":[]}}"), 5, 3},
        {S("\"[{\\\"[\""), 1, 0},
        {S("[[[["), 4, 4},
        {S("]]]"), 0, 0},
        {S("truefalse null"), 2, 0},
        {S("\"unfinished"), 1, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t tokens = 99;
        size_t depth = 99;
        assert_ok(json_count_tokens(rows[i].in, &tokens, &depth));
        assert_int_equal(tokens, rows[i].tokens);
        assert_int_equal(depth, rows[i].depth);
    }
}

static void test_text_pieces(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    json_write_str(&b, S("a\xff\0\"\xc3\xa4\x1f"));
    assert_span(buf_span(&b), S("\"a\xef\xbf\xbd\\u0000\\\"\xc3\xa4\\u001f\""));
    buf_reset(&b);
    json_write_real(&b, 5);
    assert_span(buf_span(&b), S("5.0"));
    buf_done(&b);
    struct buf small = BUF_INIT(3);
    json_write_str(&small, S("abc"));
    assert_err(buf_err(&small), E_TOO_LARGE);
    buf_done(&small);
}

/* --- looking ------------------------------------------------------------------------------ */
static void test_look(void **state)
{
    (void)state;
    struct json *j =
        tree(S("{\"Name\":\"x\",\"name\":\"y\",\"n\":-3,\"r\":1.5,\"t\":true,\"a\":[1,2]}"));
    assert_span(json_str(json_get(j, "name")), S("y"));
    assert_span(json_str(json_get_nocase(j, "name")), S("y"));
    assert_span(json_str(json_get_nocase(j, "NAME")), S("x"));
    assert_null(json_get(j, "NAME"));
    assert_null(json_get(json_get(j, "n"), "x"));
    assert_null(json_get(NULL, "x"));
    assert_int_equal(json_int(json_get(j, "n")), -3);
    assert_true(json_num(json_get(j, "r")) == 1.5 && json_num(json_get(j, "n")) == -3);
    assert_true(json_bool(json_get(j, "t")));
    assert_int_equal(json_count(json_get(j, "a")), 2);
    assert_int_equal(json_count(j), 6);
    assert_int_equal(json_count(NULL), 0);
    assert_int_equal(json_int(json_at(json_get(j, "a"), 1)), 2);
    assert_null(json_at(json_get(j, "a"), 2));
    assert_null(json_at(j, 0));
    struct json_cursor c = {NULL, false};
    struct span name;
    struct json *v;
    struct buf order = BUF_INIT(100);
    while (json_next(j, &c, &name, &v)) {
        buf_add(&order, name);
    }
    assert_span(buf_span(&order), S("Namenamenrta"));
    buf_done(&order);
    json_free(j);
    json_free(NULL);
}

static void test_typed_members(void **state)
{
    (void)state;
    struct json *j = tree(S("{\"s\":\"x\",\"i\":5,\"b\":true,\"n\":null,\"w\":\"Enabled\","
                            "\"o\":{\"p\":{\"q\":\"deep\"},\"nul\":null},\"l\":[]}"));
    struct err_info info = {.err = OK};
    struct span s = S("default");
    int64_t i = 42;
    bool b = false;
    struct json *v = NULL;
    size_t w = 9;
    static const char *const words[] = {"disabled", "enabled"};
    assert_ok(json_get_str(j, "s", JSON_F_NEED, &s, &info));
    assert_span(s, S("x"));
    assert_ok(json_get_str(j, "o.p.q", JSON_F_NEED, &s, &info));
    assert_span(s, S("deep"));
    assert_ok(json_get_str(j, "O.P.Q", JSON_F_NEED | JSON_F_NOCASE, &s, &info));
    s = S("default");
    assert_ok(json_get_str(j, "n", JSON_F_OPT, &s, &info));
    assert_ok(json_get_str(j, "absent", JSON_F_OPT, &s, &info));
    assert_ok(json_get_str(j, "o.absent.x", JSON_F_OPT, &s, &info));
    assert_ok(json_get_str(j, "o.nul.x", JSON_F_OPT, &s, &info));
    assert_span(s, S("default"));
    assert_err(json_get_str(j, "S", JSON_F_NEED, &s, &info), E_ARG_NULL);
    assert_err(json_get_str(j, "n", JSON_F_NEED, &s, &info), E_ARG_NULL);
    assert_err(json_get_str(j, "n", JSON_F_NULL_BAD, &s, &info), E_ARG);
    assert_err(json_get_str(j, "i", JSON_F_OPT, &s, &info), E_ARG);
    assert_non_null(strstr(info.why, "\"i\""));
    assert_err(json_get_str(j, "s.x", JSON_F_OPT, &s, &info), E_ARG);
    assert_non_null(strstr(info.why, "\"s\" is no object"));
    assert_span(s, S("default"));
    assert_ok(json_get_int(j, "i", JSON_F_NEED, 0, 5, &i, &info));
    assert_int_equal(i, 5);
    assert_err(json_get_int(j, "i", JSON_F_NEED, 0, 4, &i, &info), E_ARG);
    assert_err(json_get_int(j, "i", JSON_F_NEED, 6, 9, &i, &info), E_ARG);
    assert_err(json_get_int(j, "s", JSON_F_NEED, 0, 4, &i, &info), E_ARG);
    assert_ok(json_get_bool(j, "b", JSON_F_NEED, &b, &info));
    assert_true(b);
    assert_err(json_get_bool(j, "i", JSON_F_NEED, &b, &info), E_ARG);
    assert_ok(json_get_object(j, "o.p", JSON_F_NEED, &v, &info));
    assert_err(json_get_object(j, "l", JSON_F_NEED, &v, &info), E_ARG);
    assert_ok(json_get_array(j, "l", JSON_F_NEED, &v, &info));
    assert_ok(json_get_any(j, "n", JSON_F_NEED, &v, &info));
    assert_true(json_is(v, JSON_T_NULL));
    assert_ok(json_get_word(j, "w", JSON_F_NOCASE, words, 2, &w, &info));
    assert_int_equal(w, 1);
    assert_err(json_get_word(j, "w", JSON_F_OPT, words, 2, &w, &info), E_ARG);
    json_free(j);
    j = tree(S("[]"));
    assert_err(json_get_str(j, "a", JSON_F_OPT, &s, &info), E_ARG);
    json_free(j);
}

/* --- making ------------------------------------------------------------------------------- */
static void test_make(void **state)
{
    (void)state;
    struct json *o = json_new_object();
    struct json *a = json_new_array();
    assert_ok(json_add(a, json_new_int(1)));
    assert_ok(json_add(a, json_new_null()));
    assert_ok(json_set_str(o, "s", S("x")));
    assert_ok(json_set(o, "a", a));
    assert_ok(json_set(o, "b", json_new_bool(true)));
    assert_ok(json_set(o, "r", json_new_real(2)));
    assert_ok(json_set_str(o, "s", S("replaced in place")));
    assert_text(o, "{\"s\":\"replaced in place\",\"a\":[1,null],\"b\":true,\"r\":2.0}");
    struct json *copy = json_clone(o);
    json_del(o, "s");
    json_del(o, "absent");
    json_del_nocase(o, "B");
    assert_text(o, "{\"a\":[1,null],\"r\":2.0}");
    assert_int_equal(json_count(copy), 4);
    assert_err(json_set(o, "x", NULL), E_NOMEM);
    assert_err(json_set_str(o, "x", S("\xff")), E_NOMEM);
    assert_err(json_set_span(o, S("\xff"), json_new_int(1)), E_UTF8);
    assert_null(json_new_str(S("a\0b")));
    assert_null(json_new_real(INFINITY));
    json_free(copy);
    json_free(o);
}

/* RFC 7386 appendix A */
static void test_merge_patch(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        /* hub-service-rest.md 9.2 */
        {"{\"a\":{\"b\":1}}", "{\"a\":{\"b\":null}}", "{\"a\":{}}"},
        {"{\"a\":1}", "{\"a\":{\"b\":2}}", "{\"a\":{\"b\":2}}"},
        {"{\"a\":{\"b\":2}}", "{\"a\":1}", "{\"a\":1}"},
        {"{\"a\":1}", "{\"b\":{}}", "{\"a\":1,\"b\":{}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct json *target = tree(span_str(rows[i][0]));
        struct json *patch = tree(span_str(rows[i][1]));
        print_message("%s + %s\n", rows[i][0], rows[i][1]);
        assert_ok(json_merge_patch(&target, patch));
        assert_text(target, rows[i][2]);
        assert_text(patch, rows[i][1]);
        json_free(target);
        json_free(patch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_every_cut),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_token_count), cmocka_unit_test(test_text_pieces),
        cmocka_unit_test(test_look),        cmocka_unit_test(test_typed_members),
        cmocka_unit_test(test_make),        cmocka_unit_test(test_merge_patch),
    };
    return cmocka_run_group_tests_name("wire/json", tests, NULL, NULL);
}
