/* SPDX-License-Identifier: Apache-2.0 */
/* Stamps and properties of a log row: written, read, shown; rows of earlier logs; rows that nobody wrote. */
#include "wire/logmeta.h"

#include <stdlib.h>

#include "tests/unit.h"

#define SAS                                                                                        \
    "{\"scope\":\"device\",\"type\":\"sas\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}"
#define SAS_JSON                                                                                   \
    "{\\\"scope\\\":\\\"device\\\",\\\"type\\\":\\\"sas\\\",\\\"issuer\\\":\\\"iothub\\\","        \
    "\\\"acceptingIpFilterRule\\\":null}"
#define STAMPS(method)                                                                             \
    "\"iothub-connection-device-id\":\"dev-1\",\"iothub-connection-auth-generation-id\":\"638\","  \
    "\"iothub-connection-auth-method\":\"" method "\",\"iothub-message-source\":\"Telemetry\""

static struct logmeta stamps(const char *method)
{
    return (struct logmeta){.device_id = SPAN_LIT("dev-1"),
                            .generation_id = SPAN_LIT("638"),
                            .auth_method = span_str(method)};
}

static void assert_shown(struct span row, const char *sys, const char *app)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1 << 20);
    struct logmeta_row r;
    assert_ok(logmeta_read(row, &r));
    assert_span(r.device_id, SPAN_LIT("dev-1"));
    logmeta_add_system(&b, &r);
    assert_span(buf_span(&b), span_str(sys));
    buf_reset(&b);
    logmeta_add_properties(&b, &r);
    assert_span(buf_span(&b), span_str(app));
}

static void known_method_is_a_byte(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(1 << 20);
    struct logmeta m = stamps(SAS);
    logmeta_begin(&b, &m);
    assert_span(buf_span(&b), SPAN_LIT("\1\0\1\5dev-1\3"
                                       "638"));
    assert_shown(buf_span(&b), STAMPS(SAS_JSON), "");
}

static void all_stamps_and_properties(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(1 << 20);
    struct logmeta m = stamps("other");
    m.module_id = SPAN_LIT("mod");
    m.model_id = SPAN_LIT("dtmi:a;1");
    logmeta_begin(&b, &m);
    logmeta_add(&b, false, SPAN_LIT("a"), SPAN_LIT("\"},\"app\":{"), true);
    logmeta_add(&b, true, SPAN_LIT("message-id"), SPAN_LIT("m"), true);
    logmeta_add(&b, false, SPAN_LIT("none"), SPAN_NONE, false);
    logmeta_add(&b, false, SPAN_LIT("empty"), SPAN_NONE, true);
    assert_shown(buf_span(&b),
                 "\"message-id\":\"m\",\"iothub-connection-device-id\":\"dev-1\","
                 "\"iothub-connection-module-id\":\"mod\","
                 "\"iothub-connection-auth-generation-id\":\"638\","
                 "\"iothub-connection-auth-method\":\"other\","
                 "\"iothub-message-source\":\"Telemetry\",\"dt-dataschema\":\"dtmi:a;1\"",
                 "\"a\":\"\\\"},\\\"app\\\":{\",\"none\":null,\"empty\":\"\"");
    /* cut anywhere but between two properties it is no row */
    unsigned whole = 0;
    for (size_t n = 0; n < b.n; n++) {
        struct logmeta_row r = {.device_id = SPAN_LIT("x")};
        enum err e = logmeta_read(span_of(b.p, n), &r);
        whole += e == OK;
        if (e != OK) {
            assert_err(e, E_MALFORMED);
            assert_span(r.device_id, SPAN_LIT("x"));
        }
    }
    assert_int_equal(whole, 4);
}

static void long_texts(void **state)
{
    (void)state;
    static const size_t sizes[] = {127, 128, 16383, 16384, 262144};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO(buf_done) struct buf b = BUF_INIT(1 << 20);
        AUTO(buf_done) struct buf want = BUF_INIT(1 << 20);
        struct logmeta m = stamps(SAS);
        char *value = malloc(sizes[i] + 1);
        assert_non_null(value);
        memset(value, 'v', sizes[i]);
        value[sizes[i]] = '\0';
        logmeta_begin(&b, &m);
        logmeta_add(&b, false, SPAN_LIT("k"), span_str(value), true);
        buf_addf(&want, "\"k\":\"%s\"", value);
        buf_add_u8(&want, 0);
        assert_shown(buf_span(&b), STAMPS(SAS_JSON), (const char *)want.p);
        free(value);
    }
}

static void rows_of_earlier_logs(void **state)
{
    (void)state;
    assert_shown(SPAN_LIT("{\"sys\":{\"message-id\":\"1\"," STAMPS("x") "},\"app\":{\"a\":null}}"),
                 "\"message-id\":\"1\"," STAMPS("x"), "\"a\":null");
    assert_shown(SPAN_LIT("{\"sys\":{" STAMPS("x") "},\"app\":{}}"), STAMPS("x"), "");
}

static void not_rows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span row;
    } rows[] = {
        {"empty", {NULL, 0}},
        {"later version", {(const uint8_t *)"\2\0\1\1d\1g", 7}},
        {"unknown stamp", {(const uint8_t *)"\1\4\1\1d\1g", 7}},
        {"unknown method", {(const uint8_t *)"\1\0\4\1d\1g", 7}},
        {"length beyond the end", {(const uint8_t *)"\1\0\1\1d\2g", 7}},
        {"length of five bytes", {(const uint8_t *)"\1\0\1\x80\x80\x80\x80\1d\1g", 11}},
        {"unknown bit of a property", {(const uint8_t *)"\1\0\1\1d\1g\4\1k", 10}},
        {"JSON of nobody", {(const uint8_t *)"{\"sys\":{},\"app\":{}}", 19}},
        {"JSON without head",
         {(const uint8_t *)"{},\"app\":{\"iothub-connection-device-id\":\"d\"}}", 46}},
        {"JSON cut", {(const uint8_t *)"{\"sys\":{\"iothub-connection-device-id\":\"d\"", 40}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct logmeta_row r;
        print_message("%s\n", rows[i].name);
        assert_err(logmeta_read(rows[i].row, &r), E_MALFORMED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_method_is_a_byte),
        cmocka_unit_test(all_stamps_and_properties),
        cmocka_unit_test(long_texts),
        cmocka_unit_test(rows_of_earlier_logs),
        cmocka_unit_test(not_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
