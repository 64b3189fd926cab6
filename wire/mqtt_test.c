/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/buf.h"
#include "wire/mqtt.h"

#define BIG (1u << 20)

/* --- frames ------------------------------------------------------------------------------- */
static void test_frame_rows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span in;
        size_t max;
        enum err want;
        size_t used;
    } rows[] = {
        {"nothing", {NULL, 0}, BIG, E_AGAIN, 0},
        {"pingreq", SPAN_LIT("\xc0\x00"), BIG, OK, 2},
        {"pingreq and more", SPAN_LIT("\xc0\x00\xc0"), BIG, OK, 2},
        {"type 0", SPAN_LIT("\x00\x00"), BIG, E_MALFORMED, 0},
        {"type 15", SPAN_LIT("\xf0\x00"), BIG, E_MALFORMED, 0},
        {"bad type is known from one byte", SPAN_LIT("\xf0"), BIG, E_MALFORMED, 0},
        {"connect with flags", SPAN_LIT("\x11\x00"), BIG, E_MALFORMED, 0},
        {"subscribe without flag 2", SPAN_LIT("\x80\x00"), BIG, E_MALFORMED, 0},
        {"unsubscribe without flag 2", SPAN_LIT("\xa0\x00"), BIG, E_MALFORMED, 0},
        {"pubrel without flag 2", SPAN_LIT("\x60\x00"), BIG, E_MALFORMED, 0},
        {"publish qos 3", SPAN_LIT("\x36\x00"), BIG, E_MALFORMED, 0},
        {"length unfinished", SPAN_LIT("\x30\xff\xff\xff"), BIG, E_AGAIN, 0},
        {"length of five bytes", SPAN_LIT("\x30\xff\xff\xff\xff"), BIG, E_MALFORMED, 0},
        {"largest length, too large", SPAN_LIT("\x30\xff\xff\xff\x7f"), BIG, E_TOO_LARGE, 0},
        {"too large by one", SPAN_LIT("\x30\x03"), 4, E_TOO_LARGE, 0},
        {"just fits, not there", SPAN_LIT("\x30\x02"), 4, E_AGAIN, 0},
        {"body not whole", SPAN_LIT("\x30\x02x"), BIG, E_AGAIN, 0},
        {"length in long form", SPAN_LIT("\xc0\x80\x00"), BIG, OK, 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t first = 77;
        struct span body = SPAN_LIT("untouched");
        size_t used = 99;
        print_message("%s\n", rows[i].name);
        assert_err(mqtt_frame_read(rows[i].in, rows[i].max, &first, &body, &used), rows[i].want);
        if (rows[i].want == OK) {
            assert_int_equal(used, rows[i].used);
            assert_int_equal(first, rows[i].in.p[0]);
            assert_int_equal(mqtt_frame_size(rows[i].in), used);
        } else {
            assert_int_equal(first, 77);
            assert_int_equal(used, 99);
            assert_span(body, SPAN_LIT("untouched"));
        }
    }
}

static void test_frame_lengths(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 127, 128, 16383, 16384, 300000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf b = BUF_INIT(BIG);
        uint8_t *payload = mem_new(sizes[i] + 1);
        struct mqtt_publish p = {.topic = SPAN_LIT("t"), .payload = span_of(payload, sizes[i])};
        mqtt_publish_write(&b, &p);
        assert_ok(buf_err(&b));
        uint8_t first;
        struct span body;
        size_t used;
        assert_ok(mqtt_frame_read(buf_span(&b), BIG, &first, &body, &used));
        assert_int_equal(used, b.n);
        assert_int_equal(body.n, sizes[i] + 3);
        buf_done(&b);
        mem_free_p(&payload);
    }
}

/* --- CONNECT ------------------------------------------------------------------------------ */
#define HEAD "\0\4MQTT\4"
static void test_connect_rows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span body;
        enum err want;
        const char *clause; /* must stand in the reason */
    } rows[] = {
        {"client id only", SPAN_LIT(HEAD "\2\0\x3c\0\1a"), OK, ""},
        {"empty client id", SPAN_LIT(HEAD "\2\0\x3c\0\0"), OK, ""},
        {"user and password", SPAN_LIT(HEAD "\xc2\0\x3c\0\1a\0\1u\0\2\0\xff"), OK, ""},
        {"user without password", SPAN_LIT(HEAD "\x80\0\x3c\0\1a\0\1u"), OK, ""},
        {"will", SPAN_LIT(HEAD "\x2e\0\x3c\0\1a\0\1t\0\0"), OK, ""},
        {"level 3", SPAN_LIT("\0\6MQIsdp\3\2\0\x3c\0\1a"), OK, ""},
        {"level 5, properties", SPAN_LIT("\0\4MQTT\5\2\0\x3c\5aaaaa\0\1a"), OK, ""},
        {"level 6, rest unknown", SPAN_LIT("\0\4MQTT\6"), OK, ""},
        {"other name", SPAN_LIT("\0\4HTTP\4\2\0\x3c\0\1a"), E_MALFORMED, "[MQTT-3.1.2-1]"},
        {"ends inside name", SPAN_LIT("\0\4MQ"), E_TRUNCATED, "CONNECT"},
        {"reserved bit set", SPAN_LIT(HEAD "\3\0\x3c\0\1a"), E_MALFORMED, "[MQTT-3.1.2-3]"},
        {"ends inside keep alive", SPAN_LIT(HEAD "\2\0"), E_TRUNCATED, "CONNECT"},
        {"will qos 3", SPAN_LIT(HEAD "\x1e\0\x3c\0\1a\0\1t\0\0"), E_MALFORMED, "[MQTT-3.1.2-14]"},
        {"will qos without will", SPAN_LIT(HEAD "\x0a\0\x3c\0\1a"), E_MALFORMED, "[MQTT-3.1.2-11]"},
        {"will retain without will", SPAN_LIT(HEAD "\x22\0\x3c\0\1a"), E_MALFORMED,
         "[MQTT-3.1.2-11]"},
        {"password without user", SPAN_LIT(HEAD "\x42\0\x3c\0\1a\0\1p"), E_MALFORMED,
         "[MQTT-3.1.2-22]"},
        {"client id not UTF-8", SPAN_LIT(HEAD "\2\0\x3c\0\1\xff"), E_MALFORMED, "[MQTT-3.1.3-4]"},
        {"client id with zero", SPAN_LIT(HEAD "\2\0\x3c\0\2a\0"), E_MALFORMED, "[MQTT-3.1.3-4]"},
        {"client id a surrogate", SPAN_LIT(HEAD "\2\0\x3c\0\3\xed\xa0\x80"), E_MALFORMED,
         "[MQTT-3.1.3-4]"},
        {"user name not UTF-8", SPAN_LIT(HEAD "\x82\0\x3c\0\1a\0\1\xc0"), E_MALFORMED,
         "[MQTT-3.1.3-11]"},
        {"will topic with wildcard", SPAN_LIT(HEAD "\6\0\x3c\0\1a\0\1#\0\0"), E_MALFORMED,
         "[MQTT-3.1.3-10]"},
        {"will topic empty", SPAN_LIT(HEAD "\6\0\x3c\0\1a\0\0\0\0"), E_MALFORMED,
         "[MQTT-3.1.3-10]"},
        {"bytes behind", SPAN_LIT(HEAD "\2\0\x3c\0\1ab"), E_MALFORMED, "behind"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct mqtt_connect c = {.level = 99};
        struct err_info info = {.err = OK};
        print_message("%s\n", rows[i].name);
        assert_err(mqtt_connect_read(rows[i].body, &c, &info), rows[i].want);
        if (rows[i].want != OK) {
            assert_int_equal(c.level, 99);
            assert_non_null(strstr(info.why, rows[i].clause));
        }
    }
}

static void test_connect_levels(void **state)
{
    (void)state;
    struct mqtt_connect c;
    assert_ok(mqtt_connect_read(SPAN_LIT("\0\6MQIsdp\3\2\0\x3c\0\1a"), &c, NULL));
    assert_true(!c.is_v311 && !c.is_v5 && c.level == 3 && c.client_id.n == 0);
    assert_ok(mqtt_connect_read(SPAN_LIT("\0\4MQTT\5\2"), &c, NULL));
    assert_true(!c.is_v311 && c.is_v5);
    assert_ok(mqtt_connect_read(SPAN_LIT("\0\6MQIsdp\4\2\0\x3c\0\1a"), &c, NULL));
    assert_false(c.is_v311);
}

static void test_connect_round_trip_and_cuts(void **state)
{
    (void)state;
    const struct mqtt_connect in = {.clean_session = true,
                                    .keep_alive_s = 240,
                                    .client_id = SPAN_LIT("dev-1"),
                                    .has_will = true,
                                    .will_qos = 1,
                                    .will_retain = true,
                                    .will_topic = SPAN_LIT("devices/dev-1/messages/events/"),
                                    .will_payload = SPAN_LIT("gone\0"),
                                    .has_username = true,
                                    .username = SPAN_LIT("hub/dev-1/?api-version=2021-04-12"),
                                    .has_password = true,
                                    .password = SPAN_LIT("secret")};
    struct buf b = BUF_INIT(BIG);
    mqtt_connect_write(&b, &in);
    uint8_t first;
    struct span body;
    size_t used;
    assert_ok(mqtt_frame_read(buf_span(&b), BIG, &first, &body, &used));
    assert_int_equal(mqtt_type_of(first), MQTT_CONNECT);
    struct mqtt_connect c = {0};
    assert_ok(mqtt_connect_read(body, &c, NULL));
    assert_true(c.is_v311 && c.clean_session && c.has_will && c.will_retain);
    assert_int_equal(c.keep_alive_s, 240);
    assert_int_equal(c.will_qos, 1);
    assert_span(c.client_id, in.client_id);
    assert_span(c.will_topic, in.will_topic);
    assert_span(c.will_payload, in.will_payload);
    assert_span(c.username, in.username);
    assert_span(c.password, in.password);
    for (size_t n = 0; n < b.n; n++) {
        assert_err(mqtt_frame_read(span_sub(buf_span(&b), 0, n), BIG, &first, &body, &used),
                   E_AGAIN);
    }
    for (size_t n = 0; n < body.n; n++) {
        struct mqtt_connect cut = {.level = 99};
        assert_int_not_equal(mqtt_connect_read(span_sub(body, 0, n), &cut, NULL), OK);
        assert_int_equal(cut.level, 99);
    }
    buf_done(&b);
}

/* --- texts -------------------------------------------------------------------------------- */
static void test_texts(void **state)
{
    (void)state;
    static const struct {
        struct span text;
        bool topic;
        bool filter;
    } rows[] = {
        {SPAN_LIT("a"), true, true},         {SPAN_LIT("/"), true, true},
        {SPAN_LIT("a//b"), true, true},      {SPAN_LIT(""), false, false},
        {SPAN_LIT("#"), false, true},        {SPAN_LIT("+"), false, true},
        {SPAN_LIT("a/#"), false, true},      {SPAN_LIT("a#"), false, false},
        {SPAN_LIT("#/a"), false, false},     {SPAN_LIT("a/#/b"), false, false},
        {SPAN_LIT("+/a/+"), false, true},    {SPAN_LIT("a+"), false, false},
        {SPAN_LIT("a/+b/c"), false, false},  {SPAN_LIT("a\0b"), false, false},
        {SPAN_LIT("\xc3\xa4"), true, true},  {SPAN_LIT("\xc3"), false, false},
        {SPAN_LIT("a/##"), false, false},    {SPAN_LIT("a/#/"), false, false},
        {SPAN_LIT("$iothub/x"), true, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(mqtt_topic_ok(rows[i].text), rows[i].topic);
        assert_int_equal(mqtt_filter_ok(rows[i].text), rows[i].filter);
    }
}

/* --- PUBLISH ------------------------------------------------------------------------------ */
static void test_publish_rows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t first;
        struct span body;
        enum err want;
    } rows[] = {
        {"qos 0", 0x30, SPAN_LIT("\0\1tx"), OK},
        {"qos 1", 0x32, SPAN_LIT("\0\1t\0\1x"), OK},
        {"qos 2, retain, dup", 0x3d, SPAN_LIT("\0\1t\1\0"), OK},
        {"packet id 0", 0x32, SPAN_LIT("\0\1t\0\0x"), E_MALFORMED},
        {"no packet id", 0x32, SPAN_LIT("\0\1t"), E_TRUNCATED},
        {"dup with qos 0", 0x38, SPAN_LIT("\0\1t"), E_MALFORMED},
        {"empty topic", 0x30, SPAN_LIT("\0\0x"), E_MALFORMED},
        {"wildcard", 0x30, SPAN_LIT("\0\3a/+x"), E_MALFORMED},
        {"zero in topic", 0x30, SPAN_LIT("\0\2a\0x"), E_MALFORMED},
        {"topic not UTF-8", 0x30, SPAN_LIT("\0\1\x80x"), E_MALFORMED},
        {"ends inside topic", 0x30, SPAN_LIT("\0\5ab"), E_TRUNCATED},
        {"empty body", 0x30, {NULL, 0}, E_TRUNCATED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct mqtt_publish p = {.qos = 9};
        print_message("%s\n", rows[i].name);
        assert_err(mqtt_publish_read(rows[i].first, rows[i].body, &p, NULL), rows[i].want);
        assert_true(rows[i].want == OK ? p.qos <= 2 : p.qos == 9);
    }
}

static void test_publish_round_trip(void **state)
{
    (void)state;
    const struct mqtt_publish in = {SPAN_LIT("a/b"), SPAN_LIT("\0\1payload"), 65535, 1, true, true};
    struct buf b = BUF_INIT(BIG);
    mqtt_publish_write(&b, &in);
    assert_int_equal(b.p[0], 0x3b);
    uint8_t first;
    struct span body;
    size_t used;
    assert_ok(mqtt_frame_read(buf_span(&b), BIG, &first, &body, &used));
    struct mqtt_publish p;
    assert_ok(mqtt_publish_read(first, body, &p, NULL));
    assert_span(p.topic, in.topic);
    assert_span(p.payload, in.payload);
    assert_true(p.packet_id == 65535 && p.qos == 1 && p.dup && p.retain);
    buf_done(&b);
}

static void test_writers_refuse_long_texts(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(BIG);
    uint8_t *text = mem_new(65536);
    memset(text, 'a', 65536);
    struct mqtt_publish p = {.topic = span_of(text, 65536)};
    mqtt_publish_write(&b, &p);
    assert_err(buf_err(&b), E_TOO_LARGE);
    buf_reset(&b);
    p.topic.n = 65535;
    mqtt_publish_write(&b, &p);
    assert_ok(buf_err(&b));
    buf_done(&b);
    mem_free_p(&text);
}

/* --- lists -------------------------------------------------------------------------------- */
static void test_filters_rows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool subscribe;
        struct span body;
        enum err want;
        size_t count;
    } rows[] = {
        {"one", true, SPAN_LIT("\0\1\0\1a\1"), OK, 1},
        {"two", true, SPAN_LIT("\0\1\0\1a\1\0\1#\2"), OK, 2},
        {"none", true, SPAN_LIT("\0\1"), E_MALFORMED, 0},
        {"packet id 0", true, SPAN_LIT("\0\0\0\1a\1"), E_MALFORMED, 0},
        {"qos 3", true, SPAN_LIT("\0\1\0\1a\3"), E_MALFORMED, 0},
        {"qos with reserved bit", true, SPAN_LIT("\0\1\0\1a\x80"), E_MALFORMED, 0},
        {"no qos", true, SPAN_LIT("\0\1\0\1a"), E_TRUNCATED, 0},
        {"bad filter", true, SPAN_LIT("\0\1\0\2a#\1"), E_MALFORMED, 0},
        {"second filter bad", true, SPAN_LIT("\0\1\0\1a\1\0\0\1"), E_MALFORMED, 0},
        {"ends inside", true, SPAN_LIT("\0\1\0\5ab"), E_TRUNCATED, 0},
        {"empty", true, {NULL, 0}, E_TRUNCATED, 0},
        {"unsubscribe two", false, SPAN_LIT("\0\1\0\1a\0\1b"), OK, 2},
        {"unsubscribe none", false, SPAN_LIT("\0\1"), E_MALFORMED, 0},
        {"unsubscribe id 0", false, SPAN_LIT("\0\0\0\1a"), E_MALFORMED, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct mqtt_filters l = {.count = 77};
        print_message("%s\n", rows[i].name);
        enum err e = rows[i].subscribe ? mqtt_subscribe_read(rows[i].body, &l, NULL)
                                       : mqtt_unsubscribe_read(rows[i].body, &l, NULL);
        assert_err(e, rows[i].want);
        assert_int_equal(l.count, rows[i].want == OK ? rows[i].count : 77);
        struct mqtt_filter f;
        size_t n = 0;
        while (rows[i].want == OK && mqtt_filters_next(&l, &f)) {
            n++;
        }
        assert_int_equal(n, rows[i].count);
    }
}

static void test_filters_round_trip(void **state)
{
    (void)state;
    const struct mqtt_filter in[] = {{SPAN_LIT("$iothub/twin/res/#"), 0},
                                     {SPAN_LIT("$iothub/methods/POST/#"), 2}};
    for (unsigned sub = 0; sub < 2; sub++) {
        struct buf b = BUF_INIT(BIG);
        if (sub == 1) {
            mqtt_subscribe_write(&b, 513, in, 2);
        } else {
            mqtt_unsubscribe_write(&b, 513, in, 2);
        }
        uint8_t first;
        struct span body;
        size_t used;
        struct mqtt_filters l;
        struct mqtt_filter f;
        assert_ok(mqtt_frame_read(buf_span(&b), BIG, &first, &body, &used));
        assert_ok(sub == 1 ? mqtt_subscribe_read(body, &l, NULL)
                           : mqtt_unsubscribe_read(body, &l, NULL));
        assert_int_equal(l.packet_id, 513);
        for (size_t i = 0; i < 2; i++) {
            assert_true(mqtt_filters_next(&l, &f));
            assert_span(f.filter, in[i].filter);
            assert_int_equal(f.qos, sub == 1 ? in[i].qos : 0);
        }
        assert_false(mqtt_filters_next(&l, &f));
        buf_done(&b);
    }
}

/* --- the small ones ----------------------------------------------------------------------- */
static void test_acks(void **state)
{
    (void)state;
    uint16_t id = 7;
    assert_err(mqtt_puback_read(SPAN_LIT("\0\0"), &id, NULL), E_MALFORMED);
    assert_err(mqtt_puback_read(SPAN_LIT("\1"), &id, NULL), E_TRUNCATED);
    assert_err(mqtt_puback_read(SPAN_LIT("\0\1\0"), &id, NULL), E_MALFORMED);
    assert_err(mqtt_unsuback_read(SPAN_LIT("\0\0"), &id, NULL), E_MALFORMED);
    assert_int_equal(id, 7);
    assert_ok(mqtt_puback_read(SPAN_LIT("\1\2"), &id, NULL));
    assert_int_equal(id, 258);
    assert_ok(mqtt_unsuback_read(SPAN_LIT("\0\1"), &id, NULL));
    assert_int_equal(id, 1);

    bool present = true;
    uint8_t code = 99;
    assert_err(mqtt_connack_read(SPAN_LIT("\2\0"), &present, &code, NULL), E_MALFORMED);
    assert_err(mqtt_connack_read(SPAN_LIT("\1\5"), &present, &code, NULL), E_MALFORMED);
    assert_err(mqtt_connack_read(SPAN_LIT("\1"), &present, &code, NULL), E_TRUNCATED);
    assert_err(mqtt_connack_read(SPAN_LIT("\0\0\0"), &present, &code, NULL), E_MALFORMED);
    assert_true(present && code == 99);
    assert_ok(mqtt_connack_read(SPAN_LIT("\0\5"), &present, &code, NULL));
    assert_true(!present && code == 5);

    struct mqtt_suback s = {.packet_id = 9};
    assert_err(mqtt_suback_read(SPAN_LIT("\0\1\3"), &s, NULL), E_MALFORMED);
    assert_err(mqtt_suback_read(SPAN_LIT("\0\1"), &s, NULL), E_MALFORMED);
    assert_err(mqtt_suback_read(SPAN_LIT("\0\0\1"), &s, NULL), E_MALFORMED);
    assert_int_equal(s.packet_id, 9);
    assert_ok(mqtt_suback_read(SPAN_LIT("\0\1\0\1\2\x80"), &s, NULL));
    assert_int_equal(s.codes.n, 4);

    assert_ok(mqtt_empty_read(SPAN_NONE, NULL));
    assert_err(mqtt_empty_read(SPAN_LIT("x"), NULL), E_MALFORMED);
}

static void test_fixed_packets(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(BIG);
    mqtt_connack_write(&b, false, MQTT_REFUSED_AUTH);
    mqtt_connack_write(&b, true, MQTT_ACCEPTED);
    mqtt_connack_v5_write(&b, MQTT5_UNSUPPORTED_VERSION);
    mqtt_puback_write(&b, 258);
    mqtt_suback_write(&b, 1, SPAN_LIT("\1\x80"));
    mqtt_unsuback_write(&b, 2);
    mqtt_pingreq_write(&b);
    mqtt_pingresp_write(&b);
    mqtt_disconnect_write(&b);
    assert_span(buf_span(&b), SPAN_LIT("\x20\2\0\5"
                                       "\x20\2\1\0"
                                       "\x20\3\0\x84\0"
                                       "\x40\2\1\2"
                                       "\x90\4\0\1\1\x80"
                                       "\xb0\2\0\2"
                                       "\xc0\0"
                                       "\xd0\0"
                                       "\xe0\0"));
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_rows),
        cmocka_unit_test(test_frame_lengths),
        cmocka_unit_test(test_connect_rows),
        cmocka_unit_test(test_connect_levels),
        cmocka_unit_test(test_connect_round_trip_and_cuts),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_publish_rows),
        cmocka_unit_test(test_publish_round_trip),
        cmocka_unit_test(test_writers_refuse_long_texts),
        cmocka_unit_test(test_filters_rows),
        cmocka_unit_test(test_filters_round_trip),
        cmocka_unit_test(test_acks),
        cmocka_unit_test(test_fixed_packets),
    };
    return cmocka_run_group_tests_name("wire/mqtt", tests, NULL, NULL);
}
