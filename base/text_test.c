/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include "base/limits.h"
#include "tests/unit.h"

/* --- base64 ---------------------------------------------------------------------------------- */

static void test_base64(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } rows[] = {
        /* RFC 4648 section 10 */
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xff\xbf", "+/+/"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(buf_done) struct buf b = BUF_INIT(100);
        base64_add(&b, span_str(rows[i].bytes));
        assert_ok(buf_err(&b));
        assert_span(buf_span(&b), span_str(rows[i].text));
        buf_reset(&b);
        assert_ok(base64_decode(span_str(rows[i].text), &b));
        assert_span(buf_span(&b), span_str(rows[i].bytes));
    }
}

static void test_base64_all_values(void **state)
{
    (void)state;
    uint8_t all[256];
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    AUTO(buf_done) struct buf text = BUF_INIT(1000);
    AUTO(buf_done) struct buf back = BUF_INIT(1000);
    for (unsigned i = 0; i < 64; i++) {
        uint8_t b[3] = {(uint8_t)(i << 2), 0, (uint8_t)i};
        buf_reset(&text);
        base64_add(&text, span_of(b, 3));
        assert_int_equal(text.p[0], alphabet[i]);
        assert_int_equal(text.p[3], alphabet[i]);
    }
    for (unsigned c = 0; c < 256; c++) {
        uint8_t t[4] = {'A', 'A', 'A', (uint8_t)c};
        bool is_in = c != 0 && strchr(alphabet, (int)c) != NULL;
        buf_reset(&back);
        /* at the last place '=' pads */
        assert_err(base64_decode(span_of(t, 4), &back), is_in || c == '=' ? OK : E_MALFORMED);
        t[3] = 'A';
        t[1] = (uint8_t)c;
        assert_err(base64_decode(span_of(t, 4), &back), is_in ? OK : E_MALFORMED);
    }
    for (unsigned n = 0; n < 256; n++) {
        all[n] = (uint8_t)(n * 167 + 13);
        buf_reset(&text);
        buf_reset(&back);
        base64_add(&text, span_of(all, n));
        assert_ok(base64_decode(buf_span(&text), &back));
        assert_span(buf_span(&back), span_of(all, n));
    }
}

static void test_base64_refusals(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "Z",    "Zg",     "Zg=",      "Zm9vY", "====",       "Z===",
        "=Zg=", "Zg=a",   "Zg==Zg==", "Zm9v=", "Zm9v====",   "Zh==", /* unused bits */
        "Zm9=", "Zg==\n", "Zm 9",     "Zm-_",  "Z\xc3\xa4v", "Zm9v\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t dst[16] = {0};
        size_t n = sizeof(dst);
        AUTO(buf_done) struct buf b = BUF_INIT(100);
        if (base64_decode_to(span_str(rows[i]), dst, &n) != E_MALFORMED || n != sizeof(dst) ||
            base64_decode(span_str(rows[i]), &b) != E_MALFORMED) {
            fail_msg("%s", rows[i]);
        }
        assert_int_equal(b.n, 0);
    }
    uint8_t dst[3];
    size_t n = 2;
    assert_err(base64_decode_to(SPAN_LIT("Zm9v"), dst, &n), E_TOO_LARGE);
    assert_int_equal(n, 2);
    n = 2;
    assert_ok(base64_decode_to(SPAN_LIT("Zm8="), dst, &n));
    assert_int_equal(n, 2);
    struct buf b = BUF_INIT(2);
    assert_err(base64_decode(SPAN_LIT("Zm9v"), &b), E_TOO_LARGE);
    buf_done(&b);
    b = (struct buf)BUF_INIT(3);
    base64_add(&b, SPAN_LIT("f"));
    assert_err(buf_err(&b), E_TOO_LARGE);
    assert_int_equal(b.n, 0);
    buf_done(&b);
}

/* --- hex, percent ---------------------------------------------------------------------------- */

static void test_hex(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(8);
    hex_add(&b, SPAN_LIT("\x01\xaf"), false);
    hex_add(&b, SPAN_LIT("\xfe\x90"), true);
    assert_span(buf_span(&b), SPAN_LIT("01afFE90"));
    hex_add(&b, SPAN_LIT("x"), true);
    assert_err(buf_err(&b), E_TOO_LARGE);
    buf_reset(&b);
    assert_ok(hex_decode(SPAN_LIT("01afFE90"), &b));
    assert_span(buf_span(&b), SPAN_LIT("\x01\xaf\xfe\x90"));
    static const char *const bad[] = {"0",  "0g", "g0", "0x10", " 1", "1 ",
                                      "/0", ":0", "@0", "`0",   "-1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        buf_reset(&b);
        assert_err(hex_decode(span_str(bad[i]), &b), E_MALFORMED);
    }
    b.max = 1;
    buf_reset(&b);
    assert_err(hex_decode(SPAN_LIT("0102"), &b), E_TOO_LARGE);
    char text[5];
    hex_to_cstr(SPAN_LIT("\x0a\xbc"), false, text);
    assert_string_equal(text, "0abc");
    hex_to_cstr(SPAN_LIT("\x0a\xbc"), true, text);
    assert_string_equal(text, "0ABC");
    hex_to_cstr(SPAN_NONE, true, text);
    assert_string_equal(text, "");
}

static void test_percent(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(1000);
    percent_add(&b, SPAN_LIT("azAZ09-_.~ /%+\0\xe4!*'()"));
    assert_span(buf_span(&b), SPAN_LIT("azAZ09-_.~%20%2F%25%2B%00%E4%21%2A%27%28%29"));
    AUTO(buf_done) struct buf back = BUF_INIT(1000);
    assert_ok(percent_decode(buf_span(&b), &back));
    assert_span(buf_span(&back), SPAN_LIT("azAZ09-_.~ /%+\0\xe4!*'()"));

    static const struct {
        const char *text;
        enum err want;
        const char *strict, *lenient;
    } rows[] = {
        {"a+b", OK, "a+b", "a+b"},       {"%2f%2F", OK, "//", "//"},
        {"%", E_MALFORMED, "", "%"},     {"a%2", E_MALFORMED, "", "a%2"},
        {"%zz", E_MALFORMED, "", "%zz"}, {"%2x", E_MALFORMED, "", "%2x"},
        {"%x2", E_MALFORMED, "", "%x2"}, {"%%41", E_MALFORMED, "", "%A"},
        {"%2541", OK, "%41", "%41"}, /* once, not twice */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&back);
        assert_err(percent_decode(span_str(rows[i].text), &back), rows[i].want);
        if (rows[i].want == OK) {
            assert_span(buf_span(&back), span_str(rows[i].strict));
        }
        buf_reset(&back);
        percent_decode_lenient(span_str(rows[i].text), &back);
        assert_ok(buf_err(&back));
        assert_span(buf_span(&back), span_str(rows[i].lenient));
    }
    back.max = 1;
    buf_reset(&back);
    assert_err(percent_decode(SPAN_LIT("ab"), &back), E_TOO_LARGE);
    buf_reset(&back);
    percent_decode_lenient(SPAN_LIT("ab"), &back);
    assert_err(buf_err(&back), E_TOO_LARGE);
}

static void test_pairs(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } want[] = {{"a", "1"}, {"b", NULL}, {"c", ""}, {"", "x"}, {"d", "e=f"}};
    struct span rest = SPAN_LIT("&a=1&&b&c=&=x&d=e=f&");
    struct text_pair p;
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(text_next_pair(&rest, &p));
        assert_span(p.key, span_str(want[i].key));
        assert_int_equal(p.has_value, want[i].value != NULL);
        assert_span(p.value, span_str(want[i].value));
    }
    assert_false(text_next_pair(&rest, &p));
    assert_false(text_next_pair(&rest, &p));
    rest = SPAN_NONE;
    assert_false(text_next_pair(&rest, &p));
}

/* --- identifiers ----------------------------------------------------------------------------- */

static void test_alphabets(void **state)
{
    (void)state;
    static const char alnum[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    for (unsigned c = 0; c < 256; c++) {
        uint8_t id[3] = {'x', (uint8_t)c, 'x'};
        bool is_alnum = c != 0 && strchr(alnum, (int)c) != NULL;
        struct span s = span_of(id, 3);
        assert_int_equal(id_device_ok(s),
                         is_alnum || (c != 0 && strchr("-:.+%_#*?!(),=@;$'", (int)c) != NULL));
        assert_int_equal(id_registration_ok(s),
                         is_alnum || (c != 0 && strchr("-._:", (int)c) != NULL));
        assert_int_equal(id_admin_name_ok(s),
                         is_alnum || (c != 0 && strchr("-._", (int)c) != NULL));
    }
}

static void test_id_lengths(void **state)
{
    (void)state;
    uint8_t id[LIMIT_ID + 1];
    memset(id, 'a', sizeof(id));
    assert_true(id_device_ok(span_of(id, LIMIT_ID)));
    assert_false(id_device_ok(span_of(id, LIMIT_ID + 1)));
    assert_false(id_device_ok(SPAN_NONE));
    assert_true(id_registration_ok(span_of(id, LIMIT_ID)));
    assert_false(id_registration_ok(span_of(id, LIMIT_ID + 1)));
    assert_false(id_registration_ok(SPAN_NONE));
    assert_true(id_admin_name_ok(span_of(id, LIMIT_ADMIN_NAME)));
    assert_false(id_admin_name_ok(span_of(id, LIMIT_ADMIN_NAME + 1)));
    assert_false(id_admin_name_ok(SPAN_NONE));
}

static void test_registration_ends(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        bool want;
    } rows[] = {
        {"a", true},   {"A-", true},  {"a-b", true}, {"-a", false}, {".a", false},
        {"a.", false}, {"a_", false}, {"a:", false}, {"-", false},  {"a:b.c_d-", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(id_registration_ok(span_str(rows[i].id)), rows[i].want);
    }
}

static void test_lower(void **state)
{
    (void)state;
    char s[] = "AbZ@[`{\xc3\x84Q";
    text_lower(s, sizeof(s) - 2); /* not the last one */
    assert_string_equal(s, "abz@[`{\xc3\x84Q");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base64_all_values),
        cmocka_unit_test(test_base64_refusals),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_alphabets),
        cmocka_unit_test(test_id_lengths),
        cmocka_unit_test(test_registration_ends),
        cmocka_unit_test(test_lower),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
