/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/limits.h"
#include "tests/unit.h"

#define TS "ts=2026-01-31T00:49:39.4675280Z"

static struct buf lines = BUF_INIT(64u << 20);
static size_t n_lines;
static uint64_t mono_ms;

static int64_t fixed_wall(void *arg)
{
    (void)arg;
    return INT64_C(1769820579467528);
}

static uint64_t fixed_mono(void *arg)
{
    (void)arg;
    return mono_ms;
}

static const struct clock test_clock = {fixed_wall, fixed_mono, NULL};

static void keep(void *arg, struct span line)
{
    (void)arg;
    assert_true(line.n <= LIMIT_LOG_LINE);
    assert_int_equal(span_find(line, '\n'), line.n - 1); /* one line, whole */
    buf_add(&lines, line);
    n_lines++;
}

static int begin(void **state)
{
    (void)state;
    buf_reset(&lines);
    n_lines = 0;
    mono_ms += 10000; /* no rate is left over from another test */
    log_setup("prog", LOG_L_INFO, LOG_F_LOGFMT);
    log_set_sink(keep, NULL);
    log_set_clock(&test_clock);
    return 0;
}

static int end(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    log_set_clock(NULL);
    buf_release(&lines);
    return 0;
}

static void test_logfmt(void **state)
{
    (void)state;
    struct err_info info = {0};
    (void)err_set(&info, E_DB, "no table");
    LOG_INFO("t.all", L_STR("s", "plain-1.x"), L_STR("empty", ""), L_STR("null", NULL),
             L_STR("sp", "a b"), L_U64("u", UINT64_MAX), L_I64("i", INT64_MIN), L_BOOL("t", true),
             L_BOOL("f", false), L_ERR(E_DB), L_WHY(&info, E_DB));
    assert_span(buf_span(&lines),
                SPAN_LIT(TS " level=info program=prog event=t.all s=plain-1.x empty=\"\" null=\"\" "
                            "sp=\"a b\" u=18446744073709551615 i=-9223372036854775808 t=true "
                            "f=false err=E_DB why=\"no table\"\n"));
}

static void test_levels(void **state)
{
    (void)state;
    LOG_DEBUG("t.debug", L_U64("n", 1));
    assert_int_equal(n_lines, 0);
    log_setup("prog", LOG_L_ERROR, LOG_F_LOGFMT);
    LOG_WARN("t.warn", L_U64("n", 1));
    assert_int_equal(n_lines, 0);
    LOG_ERROR("t.error", L_U64("n", 1));
    assert_int_equal(n_lines, 1);
    log_event(LOG_L_WARN, "t.warn", NULL, 0);
    assert_int_equal(n_lines, 1);
    log_setup("prog", LOG_L_DEBUG, LOG_F_LOGFMT);
    LOG_DEBUG("t.debug", L_U64("n", 1));
    assert_int_equal(n_lines, 2);

    enum log_level l = LOG_L_WARN;
    assert_false(log_level_parse(SPAN_LIT("Info"), &l));
    assert_false(log_level_parse(SPAN_LIT(""), &l));
    assert_int_equal(l, LOG_L_WARN);
    assert_true(log_level_parse(SPAN_LIT("debug"), &l));
    assert_int_equal(l, LOG_L_DEBUG);
    assert_true(log_level_parse(SPAN_LIT("error"), &l));
    assert_int_equal(l, LOG_L_ERROR);
}

static void test_escapes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span in;
        const char *logfmt, *json;
    } rows[] = {
        {"line end", {(const uint8_t *)"a\nb\r\tc", 6}, "a\\nb\\r\\tc", "a\\nb\\r\\tc"},
        {"forged field", {(const uint8_t *)"x\" e=\"", 6}, "x\\\" e=\\\"", "x\\\" e=\\\""},
        {"backslash", {(const uint8_t *)"a\\n", 3}, "a\\\\n", "a\\\\n"},
        {"zero", {(const uint8_t *)"a\0b", 3}, "a\\x00b", "a\\u0000b"},
        {"escape, DEL", {(const uint8_t *)"\x1b[\x7f", 3}, "\\x1b[\\x7f", "\\u001b[\\u007f"},
        {"C1", {(const uint8_t *)"\xc2\x9b", 2}, "\\u009b", "\\u009b"},
        {"bidi override", {(const uint8_t *)"\xe2\x80\xae", 3}, "\\u202e", "\\u202e"},
        {"bidi isolate", {(const uint8_t *)"\xe2\x81\xa6", 3}, "\\u2066", "\\u2066"},
        {"line separator", {(const uint8_t *)"\xe2\x80\xa8", 3}, "\\u2028", "\\u2028"},
        {"zero width", {(const uint8_t *)"\xe2\x80\x8b", 3}, "\\u200b", "\\u200b"},
        {"mark", {(const uint8_t *)"\xef\xbb\xbf", 3}, "\\ufeff", "\\ufeff"},
        {"tag", {(const uint8_t *)"\xf3\xa0\x80\x81", 4}, "\\udb40\\udc01", "\\udb40\\udc01"},
        {"not UTF-8", {(const uint8_t *)"a\xff\xc3z", 4}, "a\\xff\\xc3z", "a\\ufffd\\ufffdz"},
        {"UTF-8",
         {(const uint8_t *)"\xc3\xa4\xf0\x9f\x98\x80", 6},
         "\xc3\xa4\xf0\x9f\x98\x80",
         "\xc3\xa4\xf0\x9f\x98\x80"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(buf_done) struct buf want = BUF_INIT(1000);
        buf_reset(&lines);
        log_setup("prog", LOG_L_INFO, LOG_F_LOGFMT);
        LOG_INFO("t.esc", L_SPAN("v", rows[i].in));
        buf_addf(&want, TS " level=info program=prog event=t.esc v=\"%s\"\n", rows[i].logfmt);
        if (!span_eq(buf_span(&lines), buf_span(&want))) {
            fail_msg("%s: %.*s", rows[i].name, SPAN_ARG(buf_span(&lines)));
        }
        buf_reset(&lines);
        buf_reset(&want);
        log_setup("prog", LOG_L_INFO, LOG_F_JSON);
        LOG_INFO("t.esc", L_SPAN("v", rows[i].in));
        buf_addf(&want, "\"v\":\"%s\"}\n", rows[i].json);
        if (!span_ends(buf_span(&lines), buf_span(&want))) {
            fail_msg("%s: %.*s", rows[i].name, SPAN_ARG(buf_span(&lines)));
        }
    }
}

static void test_json(void **state)
{
    (void)state;
    log_setup("prog", LOG_L_INFO, LOG_F_JSON);
    LOG_INFO("t.json", L_STR("s", "a b"), L_U64("u", 7), L_I64("i", -7), L_BOOL("b", true),
             L_ERR(E_ETAG));
    assert_span(buf_span(&lines),
                SPAN_LIT("{\"ts\":\"2026-01-31T00:49:39.4675280Z\",\"level\":\"info\","
                         "\"program\":\"prog\",\"event\":\"t.json\",\"s\":\"a b\",\"u\":7,"
                         "\"i\":-7,\"b\":true,\"err\":\"E_ETAG\"}\n"));
}

/* Any bytes at all, in fields of any length: JSON stays JSON and the line within its limit. */
static void test_long_fields_are_cut(void **state)
{
    (void)state;
    static const char *const fill[] = {
        "x", "\n", "\"", "\xff", "\xe2\x80\xae", "\xc3\xa4", "\xf3\xa0\x80\x81"};
    static uint8_t big[10000];
    for (size_t i = 0; i < ARRAY_LEN(fill); i++) {
        size_t w = strlen(fill[i]);
        for (size_t k = 0; k < sizeof(big); k++) {
            big[k] = (uint8_t)fill[i][k % w];
        }
        for (size_t n = 900; n <= sizeof(big); n += n < 1100 ? 1 : 2000) {
            struct span s = span_of(big, n / w * w);
            buf_reset(&lines);
            mono_ms += 1000;
            log_setup("prog", LOG_L_INFO, LOG_F_JSON);
            LOG_INFO("t.long", L_SPAN("a", s), L_SPAN("b", s), L_SPAN("c", s), L_SPAN("d", s),
                     L_SPAN("e", s), L_U64("last", 1));
            AUTO(mem_free_p) char *text = span_dup(buf_span(&lines));
            json_t *j = json_loads(text, 0, NULL);
            if (j == NULL) {
                fail_msg("not JSON: %s", text);
            }
            if (n > 1100) {
                assert_true(json_is_true(json_object_get(j, "log_cut")));
                assert_true(span_ends(span_str(json_string_value(json_object_get(j, "a"))),
                                      SPAN_LIT("...")));
            }
            json_decref(j);
        }
    }
    buf_reset(&lines);
    log_setup("prog", LOG_L_INFO, LOG_F_LOGFMT);
    struct span s = span_of(big, sizeof(big));
    LOG_INFO("t.long", L_SPAN("a", s), L_SPAN("b", s), L_SPAN("c", s), L_SPAN("d", s),
             L_SPAN("e", s));
    assert_true(span_ends(buf_span(&lines), SPAN_LIT(" log_cut=true\n")));
}

static void test_rate(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LIMIT_LOG_RATE; i++) {
        LOG_INFO("t.rate", L_U64("i", i));
    }
    assert_int_equal(n_lines, LIMIT_LOG_RATE);
    LOG_INFO("t.rate", L_U64("i", 0)); /* one past */
    LOG_INFO("t.rate", L_U64("i", 0));
    assert_int_equal(n_lines, LIMIT_LOG_RATE);
    LOG_INFO("t.other", L_U64("i", 0)); /* another name has its own */
    assert_int_equal(n_lines, LIMIT_LOG_RATE + 1);
    LOG_ERROR("t.rate", L_ERR(E_BUG)); /* bugs always speak */
    assert_int_equal(n_lines, LIMIT_LOG_RATE + 2);
    LOG_ERROR("t.rate", L_ERR(E_DB));
    assert_int_equal(n_lines, LIMIT_LOG_RATE + 2);

    mono_ms += 1000;
    buf_reset(&lines);
    LOG_INFO("t.other", L_U64("i", 1)); /* any event tells it */
    assert_span(buf_span(&lines),
                SPAN_LIT(TS " level=warn program=prog event=log.suppressed name=t.rate count=3\n" TS
                            " level=info program=prog event=t.other i=1\n"));
    buf_reset(&lines);
    LOG_INFO("t.rate", L_U64("i", 2));
    assert_span(buf_span(&lines), SPAN_LIT(TS " level=info program=prog event=t.rate i=2\n"));
}

static void test_more_names_than_kept(void **state)
{
    (void)state;
    static char names[400][16];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(names[i], sizeof(names[i]), "t.n%zu", i);
        log_event(LOG_L_INFO, names[i], NULL, 0);
    }
    assert_int_equal(n_lines, 400);
    for (unsigned i = 0; i < LIMIT_LOG_RATE; i++) {
        log_event(LOG_L_INFO, names[399], NULL, 0);
    }
    assert_true(n_lines < 400 + LIMIT_LOG_RATE);
}

static void *log_many(void *arg)
{
    for (int i = 0; i < 500; i++) {
        LOG_INFO("t.threads", L_STR("who", arg), L_U64("i", i));
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t t[2];
    static char a[] = "a";
    static char b[] = "b";
    assert_int_equal(pthread_create(&t[0], NULL, log_many, a), 0);
    assert_int_equal(pthread_create(&t[1], NULL, log_many, b), 0);
    assert_int_equal(pthread_join(t[0], NULL), 0);
    assert_int_equal(pthread_join(t[1], NULL), 0);
    assert_int_equal(n_lines, LIMIT_LOG_RATE);
    mono_ms += 1000;
    buf_reset(&lines);
    LOG_INFO("t.after", L_U64("i", 1));
    assert_true(
        span_starts(buf_span(&lines), SPAN_LIT(TS " level=warn program=prog event=log.suppressed "
                                                  "name=t.threads count=800\n")));
}

static void test_standard_error(void **state)
{
    (void)state;
    int fd[2];
    int saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(fd), 0);
    log_set_sink(NULL, NULL);
    assert_int_equal(dup2(fd[1], STDERR_FILENO), STDERR_FILENO);
    LOG_INFO("t.stderr", L_U64("i", 1));
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    char text[256] = "";
    assert_true(read(fd[0], text, sizeof(text) - 1) > 0);
    assert_string_equal(text, TS " level=info program=prog event=t.stderr i=1\n");
    close(fd[0]);
    close(fd[1]);
    close(saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_logfmt, begin, end),
        cmocka_unit_test_setup_teardown(test_levels, begin, end),
        cmocka_unit_test_setup_teardown(test_escapes, begin, end),
        cmocka_unit_test_setup_teardown(test_json, begin, end),
        cmocka_unit_test_setup_teardown(test_long_fields_are_cut, begin, end),
        cmocka_unit_test_setup_teardown(test_rate, begin, end),
        cmocka_unit_test_setup_teardown(test_threads, begin, end),
        cmocka_unit_test_setup_teardown(test_standard_error, begin, end),
        cmocka_unit_test_setup_teardown(test_more_names_than_kept, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
