/* SPDX-License-Identifier: Apache-2.0 */
#include "client/service.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit.h"

#define LONG_CODE "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee"

static void test_errors(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct {
        const char *name, *body, *code, *text;
    } rows[] = {
        { "DPS form",          "{\"errorCode\":404201,\"trackingId\":\"t\",\"message\":\"Not found\"}",           "404201", "Not found" },
        { "hub form",          "{\"Message\":\"ErrorCode:DeviceNotFound;no such device\",\"ExceptionMessage\":\"x\"}", "DeviceNotFound", "no such device" },
        { "hub form, no text", "{\"Message\":\"ErrorCode:DeviceNotFound\"}",                                      "DeviceNotFound", "" },
        { "text with ;",       "{\"Message\":\"ErrorCode:A;b;c\"}",                                               "A", "b;c" },
        { "Message without",   "{\"Message\":\"just words\"}",                                                    "", "" },
        { "code a text",       "{\"errorCode\":\"404201\",\"message\":\"m\"}",                                    "", "m" },
        { "code only",         "{\"errorCode\":500000}",                                                          "500000", "" },
        { "message a number",  "{\"errorCode\":1,\"message\":5}",                                                 "1", "" },
        { "code too long",     "{\"Message\":\"ErrorCode:" LONG_CODE ";t\"}",                                     "", "t" },
        { "no object",         "[1]",                                                                             "", "" },
        { "no JSON",           "<html>",                                                                          "", "" },
        { "nothing",           "",                                                                                "", "" },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct service_answer a;
        memset(&a, 0x5a, sizeof(a));
        service_error_read(span_str(rows[i].body), &a);
        if (strcmp(a.code, rows[i].code) != 0 || strcmp(a.text, rows[i].text) != 0) {
            fail_msg("%s: '%s' '%s'", rows[i].name, a.code, a.text);
        }
    }
}

static void test_long_text(void **state)
{
    (void)state;
    static char body[4096];
    struct service_answer a;
    (void)snprintf(body, sizeof(body), "{\"errorCode\":1,\"message\":\"%03000d\"}", 0);
    service_error_read(span_str(body), &a);
    assert_int_equal(strlen(a.text), sizeof(a.text) - 1);
}

static void test_new(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct {
        const char *name, *text;
        enum err want;
    } rows[] = {
        { "service",        "HostName=h.example;SharedAccessKeyName=owner;SharedAccessKey=QUJDRA==",               OK },
        { "device",         "HostName=h.example;DeviceId=d;SharedAccessKey=QUJDRA==",                              E_ARG },
        { "key no base64",  "HostName=h.example;SharedAccessKeyName=owner;SharedAccessKey=?",                      E_MALFORMED },
    };
    /* clang-format on */
    static const char *const broken[] = {
        "", "HostName=h", "SharedAccessKeyName=o;SharedAccessKey=QUJDRA==", "garbage"};
    struct service *s = NULL;
    struct err_info info = {0};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        s = NULL;
        assert_err(service_new(span_str(rows[i].text), NULL, 0, NULL, &s, &info), rows[i].want);
        assert_true((s != NULL) == (rows[i].want == OK));
        if (s != NULL) {
            assert_string_equal(service_host(s), "h.example");
        }
        service_free(s);
    }
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        s = NULL;
        assert_true(service_new(span_str(broken[i]), NULL, 0, NULL, &s, &info) != OK);
        assert_null(s);
    }
}

/* Nobody listens on the port: the reason names the host. */
static void test_unreachable(void **state)
{
    (void)state;
    struct service *s = NULL;
    struct service_answer a = {.status = 77};
    struct err_info info = {0};
    const struct service_call c = {
        .method = "GET", .path = "/x", .api_version = SERVICE_HUB_VERSION};
    assert_ok(service_new(
        SPAN_LIT("HostName=127.0.0.1;SharedAccessKeyName=owner;SharedAccessKey=QUJDRA=="), NULL, 1,
        NULL, &s, &info));
    assert_err(service_do(s, &c, &a, &info), E_NET);
    assert_non_null(strstr(info.why, "127.0.0.1"));
    assert_int_equal(a.status, 77);
    service_free(s);
}

static void test_path(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(64);
    buf_add_str(&b, "/devices/");
    service_path_add(&b, SPAN_LIT("a/b c#\xc3\xa9"));
    assert_span(buf_span(&b), SPAN_LIT("/devices/a%2Fb%20c%23%C3%A9"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_new),         cmocka_unit_test(test_path),
        cmocka_unit_test(test_unreachable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
