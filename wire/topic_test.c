/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/arena.h"
#include "base/buf.h"
#include "wire/topic.h"

#define S(x) SPAN_LIT(x)

/* --- hub: publishes ----------------------------------------------------------------------- */
static void test_hub_publish(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        enum err want;
        enum hub_publish kind;
        const char *device, *module, *bag, *rid;
        uint64_t version;
        int32_t status;
    } rows[] = {
        /* clang-format off */
        { "devices/d/messages/events/",          OK, HUB_PUB_TELEMETRY, "d", "", "", "", 0, 0 },
        { "devices/d/messages/events",           OK, HUB_PUB_TELEMETRY, "d", "", "", "", 0, 0 },
        { "devices/d/messages/events/a=b/c&d",   OK, HUB_PUB_TELEMETRY, "d", "", "a=b/c&d", "", 0, 0 },
        { "devices/d/modules/m/messages/events/%24.on=o/", OK, HUB_PUB_TELEMETRY, "d", "m", "%24.on=o/", "", 0, 0 },
        { "devices/modules/messages/events/x=y", OK, HUB_PUB_TELEMETRY, "modules", "", "x=y", "", 0, 0 },
        { "$iothub/twin/GET/?$rid=1",            OK, HUB_PUB_TWIN_GET, "", "", "", "1", 0, 0 },
        { "$iothub/twin/GET/?$rid=a/b%20=",      OK, HUB_PUB_TWIN_GET, "", "", "", "a/b%20=", 0, 0 },
        { "$iothub/twin/GET/?x=1&$rid=2",        OK, HUB_PUB_TWIN_GET, "", "", "", "2", 0, 0 },
        { "$iothub/twin/PATCH/properties/reported/?$rid=7&$version=12", OK, HUB_PUB_TWIN_PATCH, "", "", "", "7", 12, 0 },
        { "$iothub/twin/PATCH/properties/reported/?$rid=7&$version=x", OK, HUB_PUB_TWIN_PATCH, "", "", "", "7", TOPIC_VERSION_BAD, 0 },
        { "$iothub/methods/res/200/?$rid=3",     OK, HUB_PUB_METHOD_RES, "", "", "", "3", 0, 200 },
        { "$iothub/methods/res/-1/?$rid=3",      OK, HUB_PUB_METHOD_RES, "", "", "", "3", 0, -1 },
        { "$iothub/methods/res/200/?",           OK, HUB_PUB_METHOD_RES, "", "", "", "", 0, 200 },
        { "$iothub/credentials/POST/issueCertificate/?$rid=abcd", OK, HUB_PUB_CREDENTIALS, "", "", "", "abcd", 0, 0 },
        { "$iothub/streams/res/200/?$rid=ff",    OK, HUB_PUB_STREAM_RES, "", "", "", "ff", 0, 200 },
        { "$iothub/twin/GET/",                   E_ARG_NULL, 0, "", "", "", "", 0, 0 },
        { "$iothub/twin/GET/?$rid=",             E_ARG_NULL, 0, "", "", "", "", 0, 0 },
        { "$iothub/twin/GET/?rid=1",             E_ARG_NULL, 0, "", "", "", "", 0, 0 },
        { "$iothub/twin/PATCH/properties/reported/?$version=1", E_ARG_NULL, 0, "", "", "", "", 0, 0 },
        { "$iothub/credentials/POST/issueCertificate/?", E_ARG_NULL, 0, "", "", "", "", 0, 0 },
        { "$iothub/twin/GET",                    E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "$iothub/twin/GET/x?$rid=1",           E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "$iothub/twin/get/?$rid=1",            E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "$iothub/twin/PATCH/properties/desired/?$rid=1", E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "foo",                                 E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "",                                    E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "/",                                   E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "devices//messages/events/",           E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "devices/d/messages/eventsx",          E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "devices/d/messages/devicebound/",     E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        { "Devices/d/messages/events/",          E_NO_ROUTE, 0, "", "", "", "", 0, 0 },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct hub_publish_topic t = {.kind = HUB_PUBLISHES};
        struct err_info info = {.err = OK};
        print_message("%s\n", rows[i].topic);
        assert_err(topic_hub_publish_read(span_str(rows[i].topic), &t, &info), rows[i].want);
        if (rows[i].want != OK) {
            assert_int_equal(t.kind, HUB_PUBLISHES);
            continue;
        }
        assert_int_equal(t.kind, rows[i].kind);
        assert_span(t.device_id, span_str(rows[i].device));
        assert_span(t.module_id, span_str(rows[i].module));
        assert_span(t.bag, span_str(rows[i].bag));
        assert_span(t.rid, span_str(rows[i].rid));
        assert_int_equal(t.version, rows[i].version);
        assert_int_equal(t.has_version, rows[i].version != 0);
        assert_int_equal(t.status, rows[i].status);
    }
}

static void test_method_status_beyond_32_bits(void **state)
{
    (void)state;
    static const char *const bad[] = {"4294967296", "2147483648", "-2147483649",
                                      "NaN",        "1.5",        "0x1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf b = BUF_INIT(200);
        struct hub_publish_topic t;
        buf_addf(&b, "$iothub/methods/res/%s/?$rid=1", bad[i]);
        assert_ok(topic_hub_publish_read(buf_span(&b), &t, NULL));
        assert_false(t.status_ok);
        buf_done(&b);
    }
    struct hub_publish_topic t;
    assert_ok(topic_hub_publish_read(S("$iothub/methods/res/-2147483648/?$rid=1"), &t, NULL));
    assert_true(t.status_ok && t.status == INT32_MIN);
}

/* --- hub: filters ------------------------------------------------------------------------- */
static void test_hub_filters(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        enum hub_filter kind;
        const char *device, *module, *method;
    } rows[] = {
        /* clang-format off */
        { "devices/d/messages/devicebound/#",           HUB_SUB_C2D,           "d", "", "" },
        { "devices/d/modules/m/#",                      HUB_SUB_MODULE_ALL,    "d", "m", "" },
        { "devices/d/modules/m/inputs/#",               HUB_SUB_MODULE_INPUTS, "d", "m", "" },
        { "devices/d/modules/m/messages/devicebound/#", HUB_SUB_MODULE_C2D,    "d", "m", "" },
        { "$iothub/twin/res/#",                         HUB_SUB_TWIN_RES,      "", "", "" },
        { "$iothub/twin/PATCH/properties/desired/#",    HUB_SUB_TWIN_DESIRED,  "", "", "" },
        { "$iothub/methods/POST/#",                     HUB_SUB_METHODS,       "", "", "" },
        { "$iothub/methods/POST/reboot/#",              HUB_SUB_METHODS,       "", "", "reboot" },
        { "$iothub/credentials/res/#",                  HUB_SUB_CREDENTIALS,   "", "", "" },
        { "$iothub/streams/POST/#",                     HUB_SUB_STREAMS_POST,  "", "", "" },
        { "$iothub/streams/res/#",                      HUB_SUB_STREAMS_RES,   "", "", "" },
        /* clang-format on */
    };
    bool seen[HUB_FILTERS] = {false};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct hub_filter_topic t;
        print_message("%s\n", rows[i].filter);
        assert_ok(topic_hub_filter_read(span_str(rows[i].filter), &t));
        assert_int_equal(t.kind, rows[i].kind);
        assert_span(t.device_id, span_str(rows[i].device));
        assert_span(t.module_id, span_str(rows[i].module));
        assert_span(t.method, span_str(rows[i].method));
        seen[t.kind] = true;
        if (t.method.n == 0) {
            struct buf b = BUF_INIT(200);
            topic_hub_filter_write(&b, t.kind, S("d"), S("m"));
            assert_span(buf_span(&b), span_str(rows[i].filter));
            buf_done(&b);
        }
    }
    for (size_t i = 0; i < HUB_FILTERS; i++) {
        assert_true(seen[i]);
    }
    struct hub_filter_topic own; /* of the SDK for embedded C */
    assert_ok(topic_hub_filter_read(S("devices/+/messages/devicebound/#"), &own));
    assert_int_equal(own.kind, HUB_SUB_C2D);
    assert_int_equal(own.device_id.n, 0);
    static const char *const bad[] = {"#",
                                      "+/+",
                                      "$SYS/#",
                                      "devices/+/messages/events/#",
                                      "devices/+/modules/m/#",
                                      "devices/+/+/devicebound/#",
                                      "devices/d/messages/events/#",
                                      "devices/d/messages/devicebound/",
                                      "devices/d/messages/devicebound",
                                      "devices/d/messages/devicebound/#/",
                                      "devices/d/#",
                                      "$iothub/#",
                                      "$iothub/twin/res/200/#",
                                      "$iothub/methods/POST/+/#",
                                      "$iothub/methods/post/#",
                                      ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct hub_filter_topic t = {.kind = HUB_FILTERS};
        print_message("bad: %s\n", bad[i]);
        assert_err(topic_hub_filter_read(span_str(bad[i]), &t), E_NO_ROUTE);
        assert_int_equal(t.kind, HUB_FILTERS);
    }
}

/* --- builders, read back ------------------------------------------------------------------ */
static void test_hub_answers(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(500);
    struct hub_down_topic t;
    topic_hub_twin_res_write(&b, 204, S("R/1"), 6);
    assert_span(buf_span(&b), S("$iothub/twin/res/204/?$rid=R/1&$version=6"));
    assert_ok(topic_hub_down_read(buf_span(&b), &t, NULL));
    assert_true(t.kind == HUB_DOWN_TWIN_RES && t.status == 204 && t.has_version && t.version == 6);
    assert_span(t.rid, S("R/1"));
    buf_reset(&b);
    topic_hub_twin_res_write(&b, 200, S("1"), 0);
    assert_span(buf_span(&b), S("$iothub/twin/res/200/?$rid=1"));
    buf_reset(&b);
    topic_hub_desired_write(&b, 8);
    assert_span(buf_span(&b), S("$iothub/twin/PATCH/properties/desired/?$version=8"));
    assert_ok(topic_hub_down_read(buf_span(&b), &t, NULL));
    assert_true(t.kind == HUB_DOWN_DESIRED && t.version == 8);
    buf_reset(&b);
    topic_hub_method_write(&b, S("a.b-c_d"), S("10"));
    assert_span(buf_span(&b), S("$iothub/methods/POST/a.b-c_d/?$rid=10"));
    assert_ok(topic_hub_down_read(buf_span(&b), &t, NULL));
    assert_true(t.kind == HUB_DOWN_METHOD);
    assert_span(t.name, S("a.b-c_d"));
    buf_reset(&b);
    topic_hub_c2d_write(&b, S("dev-1"));
    assert_span(buf_span(&b), S("devices/dev-1/messages/devicebound/"));
    assert_ok(topic_hub_down_read(buf_span(&b), &t, NULL));
    assert_true(t.kind == HUB_DOWN_C2D);
    buf_reset(&b);
    topic_hub_credentials_res_write(&b, 202, S("r"));
    assert_span(buf_span(&b), S("$iothub/credentials/res/202/?$rid=r"));
    buf_done(&b);
    assert_err(topic_hub_down_read(S("$iothub/twin/res/x/?$rid=1"), &t, NULL), E_MALFORMED);
    assert_err(topic_hub_down_read(S("foo"), &t, NULL), E_NO_ROUTE);
}

static void test_hub_requests(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(500);
    struct hub_publish_topic t;
    topic_hub_telemetry_write(&b, S("d"), SPAN_NONE);
    assert_span(buf_span(&b), S("devices/d/messages/events/"));
    buf_reset(&b);
    topic_hub_telemetry_write(&b, S("d"), S("m"));
    assert_span(buf_span(&b), S("devices/d/modules/m/messages/events/"));
    buf_reset(&b);
    topic_hub_twin_get_write(&b, S("5"));
    assert_span(buf_span(&b), S("$iothub/twin/GET/?$rid=5"));
    buf_reset(&b);
    topic_hub_twin_patch_write(&b, S("5"), 3);
    assert_ok(topic_hub_publish_read(buf_span(&b), &t, NULL));
    assert_true(t.kind == HUB_PUB_TWIN_PATCH && t.version == 3);
    buf_reset(&b);
    topic_hub_method_res_write(&b, -5, S("9"));
    assert_ok(topic_hub_publish_read(buf_span(&b), &t, NULL));
    assert_true(t.kind == HUB_PUB_METHOD_RES && t.status_ok && t.status == -5);
    buf_done(&b);
}

/* --- DPS ---------------------------------------------------------------------------------- */
static void test_dps_topics(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(500);
    struct dps_publish_topic p = {.kind = DPS_PUBLISHES};
    struct dps_down_topic d;
    topic_dps_register_write(&b, S("6f"));
    assert_span(buf_span(&b), S("$dps/registrations/PUT/iotdps-register/?$rid=6f"));
    assert_ok(topic_dps_publish_read(buf_span(&b), &p, NULL));
    assert_int_equal(p.kind, DPS_PUB_REGISTER);
    assert_span(p.rid, S("6f"));
    buf_reset(&b);
    topic_dps_status_write(&b, S("a1"), S("5.31"));
    assert_span(buf_span(&b),
                S("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=a1&operationId=5.31"));
    assert_ok(topic_dps_publish_read(buf_span(&b), &p, NULL));
    assert_int_equal(p.kind, DPS_PUB_STATUS);
    assert_span(p.operation_id, S("5.31"));
    buf_reset(&b);
    topic_dps_res_write(&b, 202, S("6f"), 3);
    assert_span(buf_span(&b), S("$dps/registrations/res/202/?$rid=6f&retry-after=3"));
    assert_ok(topic_dps_down_read(buf_span(&b), &d, NULL));
    assert_true(d.status == 202 && d.retry_after_s == 3);
    buf_reset(&b);
    topic_dps_res_write(&b, 200, S("6f"), 0);
    assert_span(buf_span(&b), S("$dps/registrations/res/200/?$rid=6f"));
    buf_done(&b);
    assert_ok(topic_dps_publish_read(S("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1"),
                                     &p, NULL));
    assert_int_equal(p.operation_id.n, 0);
    p.kind = DPS_PUBLISHES;
    assert_err(topic_dps_publish_read(S("$dps/registrations/PUT/iotdps-register/"), &p, NULL),
               E_ARG_NULL);
    assert_err(topic_dps_publish_read(S("$dps/registrations/PUT/iotdps-register"), &p, NULL),
               E_NO_ROUTE);
    assert_err(topic_dps_publish_read(S("$dps/registrations/res/200/?$rid=1"), &p, NULL),
               E_NO_ROUTE);
    assert_int_equal(p.kind, DPS_PUBLISHES);
    assert_err(topic_dps_down_read(S("$dps/registrations/res/20/?$rid=1"), &d, NULL), E_MALFORMED);
    assert_true(topic_dps_filter_ok(S("$dps/registrations/res/#")));
    assert_false(topic_dps_filter_ok(S("$dps/registrations/#")));
    assert_false(topic_dps_filter_ok(S("#")));
}

/* --- user names --------------------------------------------------------------------------- */
static void test_hub_usernames(void **state)
{
    (void)state;
    static const struct {
        const char *username, *client_id;
        enum err want;
        const char *version, *model, *type; /* NULL: absent */
    } rows[] = {
        /* clang-format off */
        { "h/d/?api-version=2021-04-12&DeviceClientType=node%2F1%20(x)", "d", OK, "2021-04-12", NULL, "node/1 (x)" },
        { "h/d/api-version=2016-11-14", "d", OK, "2016-11-14", NULL, NULL },
        { "h/d/api-version=2016-11-14/DeviceClientType=c%2f1", "d", OK, "2016-11-14", NULL, "c/1" },
        { "h/d/api-version=2016-11-14&DeviceClientType=c/1", "d", OK, "2016-11-14", NULL, "c/1" },
        { "h/d?api-version=2018-06-30", "d", OK, "2018-06-30", NULL, NULL },
        { "h/d", "d", OK, NULL, NULL, NULL },
        { "h/d/", "d", OK, NULL, NULL, NULL },
        { "h/d/?", "d", OK, NULL, NULL, NULL },
        { "h/d/m/?api-version=2025-08-01-preview", "d/m", OK, "2025-08-01-preview", NULL, NULL },
        { "h/d/?api-version=2021-04-12&model-id=dtmi:com:example:T;1&DeviceClientType=n", "d", OK, "2021-04-12", "dtmi:com:example:T;1", "n" },
        { "h/d/?model-id=dtmi%3acom%3Aexample%3aT%3b1&api-version=2020-09-30", "d", OK, "2020-09-30", "dtmi:com:example:T;1", NULL },
        { "h/d?x=%?y/?api-version=2021-04-12", "d?x=%?y", OK, "2021-04-12", NULL, NULL },
        { "h/d/?unknown=1&&api-version=2021-04-12", "d", OK, "2021-04-12", NULL, NULL },
        { "h/d/?DeviceClientType=50%", "d", OK, NULL, NULL, "50%" },
        { "", "d", E_MALFORMED, NULL, NULL, NULL },
        { "h", "d", E_MALFORMED, NULL, NULL, NULL },
        { "/d", "d", E_MALFORMED, NULL, NULL, NULL },
        { "h/d/?DeviceClientType=%ff", "d", E_MALFORMED, NULL, NULL, NULL },
        { "h/d/?DeviceClientType=%00", "d", E_MALFORMED, NULL, NULL, NULL },
        { "h/d/?api-version=2021-4-12", "d", E_VERSION, NULL, NULL, NULL },
        { "h/d/?api-version=", "d", E_VERSION, NULL, NULL, NULL },
        { "h/d/?api-version", "d", E_VERSION, NULL, NULL, NULL },
        { "h/d/?api-version=2021-04-12-Preview", "d", E_VERSION, NULL, NULL, NULL },
        { "h/d/?api-version=2021-04-12", "", E_ID, NULL, NULL, NULL },
        { "h/d/?api-version=2021-04-12", "e", E_ID, NULL, NULL, NULL },
        { "h/D/?api-version=2021-04-12", "d", E_ID, NULL, NULL, NULL },
        { "h/d10/?api-version=2021-04-12", "d1", E_ID, NULL, NULL, NULL },
        { "h/d/m/?api-version=2021-04-12", "d", E_ID, NULL, NULL, NULL },
        { "h/d/?api-version=2021-04-12", "d/m", E_ID, NULL, NULL, NULL },
        { "h/a+b/?api-version=2021-04-12", "a+b", E_ID, NULL, NULL, NULL },
        { "h/a#b/?api-version=2021-04-12", "a#b", E_ID, NULL, NULL, NULL },
        { "h/d/m/x/", "d/m/x", E_ID, NULL, NULL, NULL },
        { "h/d//", "d/", E_ID, NULL, NULL, NULL },
        { "h//m/", "/m", E_ID, NULL, NULL, NULL },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena a = ARENA_INIT(4096);
        struct hub_username u = {.host = S("untouched")};
        print_message("%s\n", rows[i].username);
        assert_err(topic_hub_username_read(span_str(rows[i].username), span_str(rows[i].client_id),
                                           &a, &u, NULL),
                   rows[i].want);
        if (rows[i].want == OK) {
            assert_span(u.host, S("h"));
            assert_int_equal(u.api_version.p != NULL, rows[i].version != NULL);
            assert_span(u.api_version, span_str(rows[i].version));
            assert_span(u.model_id, span_str(rows[i].model));
            assert_span(u.client_type, span_str(rows[i].type));
        } else {
            assert_span(u.host, S("untouched"));
        }
        arena_done(&a);
    }
}

static void test_hub_username_ids_and_writer(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(4096);
    struct buf b = BUF_INIT(500);
    struct hub_username u;
    topic_hub_username_write(&b, S("hub1.example.net"), S("d/m"), S("2021-04-12"), S("berth 1/x"),
                             S("dtmi:a;1"));
    assert_span(buf_span(&b), S("hub1.example.net/d/m/?api-version=2021-04-12"
                                "&DeviceClientType=berth%201%2Fx&model-id=dtmi%3Aa%3B1"));
    assert_ok(topic_hub_username_read(buf_span(&b), S("d/m"), &a, &u, NULL));
    assert_span(u.device_id, S("d"));
    assert_span(u.module_id, S("m"));
    assert_span(u.client_type, S("berth 1/x"));
    buf_done(&b);
    arena_done(&a);
    struct arena tiny = ARENA_INIT(1);
    assert_err(topic_hub_username_read(S("h/d/?api-version=2021-04-12"), S("d"), &tiny, &u, NULL),
               E_NOMEM);
    arena_done(&tiny);
}

static void test_dps_usernames(void **state)
{
    (void)state;
    static const struct {
        const char *username, *client_id;
        enum err want;
        const char *version, *client;
    } rows[] = {
        /* clang-format off */
        { "0ne1/registrations/reg-1/api-version=2019-03-31&ClientVersion=azure%2F1.9", "reg-1", OK, "2019-03-31", "azure/1.9" },
        { "0ne1/registrations/reg-1/?ClientVersion=a/b&api-version=2019-03-31", "reg-1", OK, "2019-03-31", "a/b" },
        { "0ne1/registrations/REG-1/api-version=2021-11-01-preview", "reg-1", OK, "2021-11-01-preview", NULL },
        { "0ne1/registrations/reg-1", "reg-1", OK, NULL, NULL },
        { "0ne1/registrations/reg-1/", "reg-1", OK, NULL, NULL },
        { "0ne1/registrations/reg-1/x=1&api-version=2019-03-31", "reg-1", OK, "2019-03-31", NULL },
        { "0ne1/registrations", "reg-1", E_MALFORMED, NULL, NULL },
        { "0ne1/registrations/", "reg-1", E_MALFORMED, NULL, NULL },
        { "/registrations/reg-1", "reg-1", E_MALFORMED, NULL, NULL },
        { "0ne1/devices/reg-1/api-version=2019-03-31", "reg-1", E_MALFORMED, NULL, NULL },
        { "", "reg-1", E_MALFORMED, NULL, NULL },
        { "0ne1/registrations/reg-1/api-version=2019-03-31", "", E_ID, NULL, NULL },
        { "0ne1/registrations/reg-1/api-version=2019-03-31", "reg-2", E_ID, NULL, NULL },
        { "0ne1/registrations/-reg/api-version=2019-03-31", "-reg", E_ID, NULL, NULL },
        { "0ne1/registrations/reg-1/api-version=1", "reg-1", E_VERSION, NULL, NULL },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena a = ARENA_INIT(4096);
        struct dps_username u = {.id_scope = S("untouched")};
        print_message("%s\n", rows[i].username);
        assert_err(topic_dps_username_read(span_str(rows[i].username), span_str(rows[i].client_id),
                                           &a, &u, NULL),
                   rows[i].want);
        assert_span(u.id_scope, rows[i].want == OK ? S("0ne1") : S("untouched"));
        if (rows[i].want == OK) {
            assert_span(u.api_version, span_str(rows[i].version));
            assert_span(u.client_version, span_str(rows[i].client));
        }
        arena_done(&a);
    }
    struct buf b = BUF_INIT(500);
    topic_dps_username_write(&b, S("0ne1"), S("reg-1"), S("2021-06-01"), S("berth/1"));
    assert_span(buf_span(&b),
                S("0ne1/registrations/reg-1/api-version=2021-06-01&ClientVersion=berth%2F1"));
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hub_publish),   cmocka_unit_test(test_method_status_beyond_32_bits),
        cmocka_unit_test(test_hub_filters),   cmocka_unit_test(test_hub_answers),
        cmocka_unit_test(test_hub_requests),  cmocka_unit_test(test_dps_topics),
        cmocka_unit_test(test_hub_usernames), cmocka_unit_test(test_hub_username_ids_and_writer),
        cmocka_unit_test(test_dps_usernames),
    };
    return cmocka_run_group_tests_name("wire/topic", tests, NULL, NULL);
}
