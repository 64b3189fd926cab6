/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/limits.h"
#include "wire/props.h"

#define S(x) SPAN_LIT(x)

struct want {
    enum prop_id id;
    const char *key;
    const char *value; /* NULL: no value */
};

static void check(struct span bag, const struct want *want, size_t n, size_t want_dropped)
{
    struct arena a = ARENA_INIT(1 << 16);
    struct prop *p = NULL;
    size_t got = 99;
    size_t dropped = 99;
    print_message("%.*s\n", SPAN_ARG(bag));
    assert_ok(props_bag_read(bag, &a, &p, &got, &dropped, NULL));
    assert_int_equal(got, n);
    assert_int_equal(dropped, want_dropped);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(p[i].id, want[i].id);
        assert_span(p[i].key, span_str(want[i].key));
        assert_int_equal(p[i].has_value, want[i].value != NULL);
        assert_span(p[i].value, span_str(want[i].value));
    }
    arena_done(&a);
}
#define CHECK(bag, dropped, ...)                                                                   \
    do {                                                                                           \
        const struct want want_[] = {__VA_ARGS__};                                                 \
        check(S(bag), want_, ARRAY_LEN(want_), dropped);                                           \
    } while (0)

static void test_bags(void **state)
{
    (void)state;
    check(S(""), NULL, 0, 0);
    check(S("/"), NULL, 0, 0);
    check(S("?"), NULL, 0, 0);
    check(S("&&"), NULL, 0, 0);
    /* M14 */
    CHECK("a=b&%24.mid=1", 0, {PROP_APP, "a", "b"}, {PROP_MESSAGE_ID, "message-id", "1"});
    CHECK("$.mid=1&a=b", 0, {PROP_MESSAGE_ID, "message-id", "1"}, {PROP_APP, "a", "b"});
    CHECK("a b=x/y z", 0, {PROP_APP, "a b", "x/y z"});
    CHECK("%24.on=out/", 0, {PROP_OUTPUT, "iothub-outputname", "out"});
    CHECK("a=b//", 0, {PROP_APP, "a", "b/"});
    CHECK("?a=b", 0, {PROP_APP, "a", "b"});
    /* M15 */
    CHECK("a&b=&c=%", 0, {PROP_APP, "a", NULL}, {PROP_APP, "b", ""}, {PROP_APP, "c", "%"});
    CHECK("a=1+1%20=2", 0, {PROP_APP, "a", "1+1 =2"});
    CHECK("a=%zz%4", 0, {PROP_APP, "a", "%zz%4"});
    CHECK("a=1&b=2&a=3", 0, {PROP_APP, "a", "3"}, {PROP_APP, "b", "2"});
    CHECK("$.mid=1&%24.mid=2", 0, {PROP_MESSAGE_ID, "message-id", "2"});
    CHECK("$.cdid=x&$.cmid=y&$.zzz=1&a=b", 3, {PROP_APP, "a", "b"});
    CHECK("iothub-ack=full", 0, {PROP_APP, "iothub-ack", "full"});
    CHECK("%24.ct=application%2Fjson%3Bcharset%3Dutf-8", 0,
          {PROP_CONTENT_TYPE, "content-type", "application/json;charset=utf-8"});
    CHECK("=v", 0, {PROP_APP, "", "v"});
}

static void test_every_system_key(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        enum prop_id id;
    } rows[] = {
        {"mid", PROP_MESSAGE_ID}, {"cid", PROP_CORRELATION_ID},  {"uid", PROP_USER_ID},
        {"to", PROP_TO},          {"ct", PROP_CONTENT_TYPE},     {"ce", PROP_CONTENT_ENCODING},
        {"exp", PROP_EXPIRY},     {"ctime", PROP_CREATION_TIME}, {"on", PROP_OUTPUT},
        {"sub", PROP_SUBJECT},    {"ifid", PROP_INTERFACE_ID},   {"schema", PROP_SCHEMA},
        {"diagid", PROP_DIAG_ID}, {"diagctx", PROP_DIAG_CONTEXT}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena a = ARENA_INIT(4096);
        struct buf b = BUF_INIT(100);
        struct prop *p;
        size_t n;
        size_t dropped;
        buf_addf(&b, "%%24.%s=v", rows[i].key);
        assert_ok(props_bag_read(buf_span(&b), &a, &p, &n, &dropped, NULL));
        assert_int_equal(n, 1);
        assert_int_equal(p[0].id, rows[i].id);
        assert_true(prop_is_system(&p[0]));
        assert_span(p[0].key, span_str(prop_name(rows[i].id)));
        buf_done(&b);
        arena_done(&a);
    }
    for (unsigned i = 0; i < PROP_IDS; i++) {
        assert_non_null(prop_name((enum prop_id)i));
    }
}

static void test_bag_refusals(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(1 << 16);
    struct prop *p = NULL;
    size_t n = 77;
    size_t dropped = 77;
    assert_err(props_bag_read(S("a=%ff"), &a, &p, &n, &dropped, NULL), E_UTF8);
    assert_err(props_bag_read(S("%c3=b"), &a, &p, &n, &dropped, NULL), E_UTF8);
    assert_err(props_bag_read(S("a=%00"), &a, &p, &n, &dropped, NULL), E_UTF8);
    struct buf b = BUF_INIT(8192);
    for (unsigned i = 0; i <= LIMIT_PROPS; i++) {
        buf_addf(&b, "&k%u=v", i);
    }
    assert_err(props_bag_read(buf_span(&b), &a, &p, &n, &dropped, NULL), E_LIMIT);
    assert_null(p);
    assert_int_equal(n, 77);
    struct span one_less = span_from(buf_span(&b), 6); /* "&k0=v" and one more */
    assert_ok(props_bag_read(one_less, &a, &p, &n, &dropped, NULL));
    assert_int_equal(n, LIMIT_PROPS);
    buf_done(&b);
    arena_done(&a);
    struct arena tiny = ARENA_INIT(8);
    assert_err(props_bag_read(S("a=b"), &tiny, &p, &n, &dropped, NULL), E_NOMEM);
    arena_done(&tiny);
}

static void test_headers(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        bool is_prop;
        enum prop_id id;
        const char *key;
    } rows[] = {
        /* clang-format off */
        { "iothub-app-temperatureAlert", "true", true, PROP_APP, "temperatureAlert" },
        { "IOTHUB-APP-X", "1", true, PROP_APP, "X" },
        { "iothub-app-", "1", false, 0, "" },
        { "IoTHub-MessageId", "m1", true, PROP_MESSAGE_ID, "message-id" },
        { "iothub-correlationid", "c", true, PROP_CORRELATION_ID, "correlation-id" },
        { "iothub-userid", "u", true, PROP_USER_ID, "user-id" },
        { "iothub-expiry", "e", true, PROP_EXPIRY, "absolute-expiry-time" },
        { "iothub-ack", "full", true, PROP_ACK, "iothub-ack" },
        { "iothub-contenttype", "a/b", true, PROP_CONTENT_TYPE, "content-type" },
        { "iothub-contentencoding", "utf-8", true, PROP_CONTENT_ENCODING, "content-encoding" },
        { "iothub-creationtimeutc", "t", true, PROP_CREATION_TIME, "iothub-creation-time-utc" },
        { "iothub-messageschema", "s", true, PROP_SCHEMA, "iothub-messageschema" },
        { "iothub-interface-id", "i", true, PROP_INTERFACE_ID, "iothub-interface-id" },
        { "dt-subject", "c", true, PROP_SUBJECT, "dt-subject" },
        { "iothub-app-iothub-creation-time-utc", "t", true, PROP_APP, "iothub-creation-time-utc" },
        { "iothub-to", "/somewhere", true, PROP_TO, "to" },
        { "iothub-to", "/devices/a%2ab/messages/events", false, 0, "" },
        { "iothub-to", "/DEVICES/a*b/messages/Events", false, 0, "" },
        { "iothub-to", "%2fdevices%2Fa*b%2Fmessages%2Fevents", false, 0, "" },
        { "iothub-to", "/devices/other/messages/events", true, PROP_TO, "to" },
        { "iothub-to", "/devices/a*b/messages/events/x", true, PROP_TO, "to" },
        { "iothub-operation", "d2c", false, 0, "" },
        { "Content-Type", "x", false, 0, "" },
        { "", "x", false, 0, "" },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct prop p = {.id = PROP_IDS};
        print_message("%s: %s\n", rows[i].name, rows[i].value);
        assert_int_equal(
            props_header_read(span_str(rows[i].name), span_str(rows[i].value), S("a*b"), &p),
            rows[i].is_prop);
        assert_int_equal(p.id, rows[i].is_prop ? rows[i].id : PROP_IDS);
        if (rows[i].is_prop) {
            assert_span(p.key, span_str(rows[i].key));
            assert_span(p.value, span_str(rows[i].value));
        }
    }
    struct buf b = BUF_INIT(5000);
    for (unsigned i = 0; i < 1000; i++) {
        buf_add_str(&b, "%2f");
    }
    struct prop p;
    assert_true(props_header_read(S("iothub-to"), buf_span(&b), S("d"), &p));
    buf_done(&b);
}

static void test_size(void **state)
{
    (void)state;
    const struct prop p[] = {{PROP_MESSAGE_ID, S("message-id"), S("12345"), true},
                             {PROP_APP, S("key"), S("value"), true},
                             {PROP_APP, S("null"), SPAN_NONE, false}};
    assert_int_equal(props_size(p, 3, 100), 100 + 5 + 3 + 5 + 4);
    assert_int_equal(props_size(NULL, 0, 7), 7);
}

static void test_c2d(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    props_c2d_write(&b, S("dev-1"), NULL, 0); /* M23 */
    assert_span(buf_span(&b), S("%24.to=%2Fdevices%2Fdev-1%2Fmessages%2Fdevicebound"));
    buf_reset(&b);
    const struct prop p[] = {{PROP_APP, S("a b"), S("x/y+z=&"), true},
                             {PROP_APP, S("null"), SPAN_NONE, false},
                             {PROP_APP, S("empty"), S(""), true},
                             {PROP_ACK, S("iothub-ack"), S("full"), true},
                             {PROP_TO, S("to"), S("/elsewhere"), true},
                             {PROP_OUTPUT, S("iothub-outputname"), S("o"), true},
                             {PROP_CORRELATION_ID, S("correlation-id"), S("c"), true},
                             {PROP_MESSAGE_ID, S("message-id"), S("m1"), true}};
    props_c2d_write(&b, S("a*b"), p, ARRAY_LEN(p)); /* M24 */
    assert_span(buf_span(&b), S("%24.mid=m1&%24.to=%2Fdevices%2Fa%2Ab%2Fmessages%2Fdevicebound"
                                "&%24.cid=c&iothub-ack=full"
                                "&a%20b=x%2Fy%2Bz%3D%26&null&empty="));
    buf_done(&b);
}

static void test_bag_round_trip(void **state)
{
    (void)state;
    const struct prop in[] = {{PROP_APP, S("\xc3\xa4 %"), S("/+&=?"), true},
                              {PROP_CONTENT_TYPE, S("content-type"), S("application/json"), true},
                              {PROP_APP, S("n"), SPAN_NONE, false}};
    struct buf b = BUF_INIT(1000);
    props_bag_write(&b, in, 3);
    assert_span(buf_span(&b), S("%24.ct=application%2Fjson&%C3%A4%20%25=%2F%2B%26%3D%3F&n"));
    const struct want want[] = {{PROP_CONTENT_TYPE, "content-type", "application/json"},
                                {PROP_APP, "\xc3\xa4 %", "/+&=?"},
                                {PROP_APP, "n", NULL}};
    check(buf_span(&b), want, 3, 0);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bags),           cmocka_unit_test(test_every_system_key),
        cmocka_unit_test(test_bag_refusals),   cmocka_unit_test(test_headers),
        cmocka_unit_test(test_size),           cmocka_unit_test(test_c2d),
        cmocka_unit_test(test_bag_round_trip),
    };
    return cmocka_run_group_tests_name("wire/props", tests, NULL, NULL);
}
