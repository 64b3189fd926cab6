/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/buf.h"
#include "base/limits.h"
#include "wire/connstr.h"

#define S(x) SPAN_LIT(x)
#define TOKEN "SharedAccessSignature sr=h%2Fdevices%2Fd&sig=AA%3D&se=1"

static void test_kinds(void **state)
{
    (void)state;
    struct connstr c;
    assert_ok(connstr_read(S("HostName=h.x;DeviceId=d;SharedAccessKey=AA=="), &c, NULL));
    assert_int_equal(c.kind, CONNSTR_DEVICE);
    assert_span(c.host, S("h.x"));
    assert_span(c.device_id, S("d"));
    assert_span(c.key, S("AA=="));
    assert_ok(connstr_read(
        S("SharedAccessKey=AA==;DeviceId=d;ModuleId=m;GatewayHostName=g;HostName=h.x;"), &c, NULL));
    assert_int_equal(c.kind, CONNSTR_DEVICE);
    assert_span(c.module_id, S("m"));
    assert_span(c.gateway_host, S("g"));
    assert_ok(connstr_read(S("HostName=h.x;DeviceId=d;SharedAccessSignature=" TOKEN), &c, NULL));
    assert_span(c.signature, S(TOKEN));
    assert_ok(connstr_read(S("HostName=h.x;DeviceId=d;x509=true"), &c, NULL));
    assert_true(c.x509);
    assert_ok(connstr_read(S("HostName=h.x;SharedAccessKeyName=p;SharedAccessKey=AA=="), &c, NULL));
    assert_int_equal(c.kind, CONNSTR_SERVICE);
    assert_span(c.key_name, S("p"));
    assert_ok(connstr_read(S("HostName=h;DeviceId=d;SharedAccessKeyName=p;SharedAccessKey=AA=="),
                           &c, NULL));
    assert_int_equal(c.kind, CONNSTR_ON_BEHALF);
    assert_ok(connstr_read(S("HostName=h;DeviceId=a=b;x509=true"), &c, NULL));
    assert_span(c.device_id, S("a=b"));
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct span rows[] = {
        SPAN_LIT(""),
        SPAN_LIT(";"),
        SPAN_LIT("HostName=h"),
        SPAN_LIT("HostName=h;DeviceId=d"),
        SPAN_LIT("DeviceId=d;SharedAccessKey=AA=="),
        SPAN_LIT("HostName=h;SharedAccessKey=AA=="),
        SPAN_LIT("HostName=h;DeviceId=d;SharedAccessKey=AA==;x509=true"),
        SPAN_LIT("HostName=h;DeviceId=d;SharedAccessKey=AA==;SharedAccessSignature=x"),
        SPAN_LIT("HostName=h;DeviceId=d;x509=false"),
        SPAN_LIT("HostName=h;DeviceId=d;DeviceId=e;x509=true"),
        SPAN_LIT("HostName=h;DeviceId=;x509=true"),
        SPAN_LIT("HostName=h;DeviceId=d;;x509=true"),
        SPAN_LIT("hostname=h;DeviceId=d;x509=true"),
        SPAN_LIT("HostName=h;DeviceId=d;SharedAccessKey=AA==;Colour=red"),
        SPAN_LIT("HostName=h; DeviceId=d;x509=true"),
        SPAN_LIT("HostName=h;DeviceId=d;x509=true\n"),
        SPAN_LIT("HostName=h;DeviceId=d\0;x509=true"),
        SPAN_LIT("HostName=h;DeviceId=d/e;x509=true"),
        SPAN_LIT("HostName=h;ModuleId=m;SharedAccessKeyName=p;SharedAccessKey=AA=="),
        SPAN_LIT("HostName=h;DeviceId=d;SharedAccessSignature=SharedAccessSignature sr=a b"),
        SPAN_LIT("Endpoint=sb://h/;SharedAccessKeyName=p;SharedAccessKey=AA=="),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct connstr c = {.x509 = true, .host = S("untouched")};
        struct err_info info = {.err = OK};
        print_message("%.*s\n", SPAN_ARG(rows[i]));
        assert_err(connstr_read(rows[i], &c, &info), E_ARG);
        assert_span(c.host, S("untouched"));
    }
}

static void test_reason_has_no_key(void **state)
{
    (void)state;
    struct connstr c;
    struct err_info info = {.err = OK};
    assert_err(connstr_read(S("HostName=h;SECRETSECRET"), &c, &info), E_ARG);
    assert_null(strstr(info.why, "SECRET"));
    assert_err(connstr_read(S("HostName=h;SharedAccessKey=SECRET"), &c, &info), E_ARG);
    assert_null(strstr(info.why, "SECRET"));
}

static void test_limit(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1 << 20);
    struct connstr c;
    buf_add_str(&b, "HostName=h;DeviceId=d;SharedAccessKey=");
    while (b.n < LIMIT_SAS_TOKEN + 1024) {
        buf_add_u8(&b, 'A');
    }
    assert_ok(connstr_read(buf_span(&b), &c, NULL));
    buf_add_u8(&b, 'A');
    assert_err(connstr_read(buf_span(&b), &c, NULL), E_TOO_LARGE);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_reason_has_no_key),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests_name("wire/connstr", tests, NULL, NULL);
}
