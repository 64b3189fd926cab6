/* SPDX-License-Identifier: Apache-2.0 */
/* Twins: docs/protocol/hub-service-rest.md 9, 19; docs/protocol/hub-mqtt.md M30 to M33. */
#include <stdio.h>
#include <stdlib.h>

#include "hub/tests/bed.h"

static void expect(const struct reply *r, const char *name, unsigned status, const char *code)
{
    if (r->status != status || strcmp(r->code, code) != 0) {
        fail_msg("%s: %u %s, wanted %u %s: %s", name, r->status, r->code, status, code, r->body);
    }
}

/* --- the device's side -------------------------------------------------------------------------- */

struct heard {
    unsigned done;
    enum err result;
    uint64_t version;
    struct err_info info;
};

static void heard_done(void *user, uint64_t tag, enum err result, uint64_t version,
                       const struct err_info *info)
{
    struct heard *h = user;
    (void)tag;
    h->done++;
    h->result = result;
    h->version = version;
    h->info = *info;
}

static enum err report(int64_t identity, const char *body, const uint64_t *base, struct heard *h)
{
    struct err_info info = {0};
    *h = (struct heard){0};
    enum err e = twin_report_begin(&bed.worker, identity, span_str(body), base != NULL,
                                   base != NULL ? *base : 0, heard_done, h, 7, &info);
    if (e != OK) {
        h->info = info;
        return e;
    }
    assert_int_equal(h->done, 0); /* never inside begin */
    bed_wait(&h->done, 1);
    return h->result;
}

static const char *properties(int64_t identity)
{
    static char text[200000];
    AUTO(buf_done) struct buf b = BUF_INIT(sizeof text - 1);
    assert_ok(twin_properties_json(&bed.worker, identity, &b));
    assert_true(span_to_cstr(buf_span(&b), text, sizeof text));
    return text;
}

static void new_device(void **state) /* M30 */
{
    (void)state;
    int64_t id = bed_device("d", NULL);
    assert_string_equal(properties(id),
                        "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
    struct reply r = bed_ask("service", "GET", "/twins/d", NULL, NULL);
    struct reply g = bed_ask("iothubowner", "GET", "/devices/d", NULL, NULL);
    expect(&r, "get", 200, "");
    assert_string_equal(member(r.body, "etag"), "\"AAAAAAAAAAE=\"");
    assert_string_equal(member(r.body, "deviceEtag"), member(g.body, "etag"));
    assert_string_equal(member(r.body, "version"), "2");
    assert_string_equal(member(r.body, "tags"), "");
    assert_string_equal(member(r.body, "modelId"), "\"\"");
    assert_string_equal(member(r.body, "statusUpdateTime"), "\"0001-01-01T00:00:00Z\"");
    assert_string_equal(member(r.body, "authenticationType"), "\"sas\"");
    assert_string_equal(
        member(r.body, "properties.desired"),
        "{\"$metadata\":{\"$lastUpdated\":\"2026-01-01T00:00:00.0000000Z\"},\"$version\":1}");
    assert_string_equal(member(r.body, "properties.reported"),
                        member(r.body, "properties.desired"));
    assert_string_equal(member(r.body, "capabilities"), "{\"iotEdge\":false}");
    assert_string_equal(r.etag, "");
    assert_null(strstr(r.body, "symmetricKey"));
    struct reply o = bed_ask("service", "GET", "/twins/d?api-version=2019-10-01", NULL, NULL);
    assert_string_equal(member(o.body, "modelId"), "");
    reply_done(&r);
    reply_done(&g);
    reply_done(&o);
}

static void reported_merges(void **state) /* M31 */
{
    (void)state;
    static const struct {
        const char *patch, *want;
    } rows[] = {
        {"{\"fw\":\"1.0\",\"net\":{\"ip\":\"10.0.0.1\",\"up\":true}}",
         "{\"fw\":\"1.0\",\"net\":{\"ip\":\"10.0.0.1\",\"up\":true},\"$version\":2}"},
        {"{\"fw\":\"1.1\",\"net\":{\"up\":null}}",
         "{\"fw\":\"1.1\",\"net\":{\"ip\":\"10.0.0.1\"},\"$version\":3}"},
        {"{\"net\":{\"ip\":null}}", "{\"fw\":\"1.1\",\"net\":{},\"$version\":4}"},
        {"{}", "{\"fw\":\"1.1\",\"net\":{},\"$version\":5}"},
        {"{\"net\":[1,\"two\",{\"three\":3},[4]]}",
         "{\"fw\":\"1.1\",\"net\":[1,\"two\",{\"three\":3},[4]],\"$version\":6}"},
        {"{\"net\":{\"a\":null,\"b\":{\"c\":null}}}",
         "{\"fw\":\"1.1\",\"net\":{\"b\":{}},\"$version\":7}"},
        {"{\"fw\":{\"major\":1},\"net\":null}", "{\"fw\":{\"major\":1},\"$version\":8}"},
        {"{\"$version\":99,\"$metadata\":{},\"\\u00fc\":\"\\ud83d\\ude00\",\"\":0}",
         "{\"fw\":{\"major\":1},\"\xc3\xbc\":\"\xf0\x9f\x98\x80\",\"\":0,\"$version\":9}"},
        {"{\"n\":-4503599627370496,\"m\":4503599627370495,\"r\":1.5}",
         "{\"fw\":{\"major\":1},\"\xc3\xbc\":\"\xf0\x9f\x98\x80\",\"\":0,\"n\":-4503599627370496,"
         "\"m\":4503599627370495,\"r\":1.5,\"$version\":10}"},
    };
    int64_t id = bed_device("d", NULL);
    struct heard h;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_ok(report(id, rows[i].patch, NULL, &h));
        assert_int_equal(h.version, i + 2);
        assert_string_equal(member(properties(id), "reported"), rows[i].want);
    }
    struct reply r = bed_ask("service", "GET", "/twins/d", NULL, NULL);
    assert_string_equal(member(r.body, "etag"),
                        "\"AAAAAAAAAAE=\""); /* reported moves the version only */
    assert_string_equal(member(r.body, "version"), "11");
    assert_string_equal(member(r.body, "properties.desired.$version"), "1");
    reply_done(&r);
    bed_restart();
    assert_string_equal(member(properties(id), "reported.$version"), "10");
}

static char *repeat(const char *head, const char *unit, size_t n, const char *tail)
{
    struct buf b = BUF_INIT(1u << 20);
    buf_add_str(&b, head);
    for (size_t i = 0; i < n; i++) {
        buf_add_str(&b, unit);
    }
    buf_add_str(&b, tail);
    char *s = buf_take_str(&b);
    assert_non_null(s);
    return s;
}

/* So many members of 10 + 1014 bytes each: keys of 10 digits. */
static char *members(size_t n, size_t last_extra)
{
    struct buf b = BUF_INIT(1u << 20);
    for (size_t i = 0; i < n; i++) {
        buf_addf(&b, "%c\"%010zu\":\"", i == 0 ? '{' : ',', i);
        for (size_t k = 0; k < 1014 + (i + 1 == n ? last_extra : 0); k++) {
            buf_add_u8(&b, 'x');
        }
        buf_add_u8(&b, '"');
    }
    buf_add_u8(&b, '}');
    char *s = buf_take_str(&b);
    assert_non_null(s);
    return s;
}

static void reported_refusals(void **state) /* M32 */
{
    (void)state;
    char *deep = repeat("", "{\"a\":", 12, "1}}}}}}}}}}}}");
    char *deep_ok = repeat("", "{\"a\":", 11, "1}}}}}}}}}}}");
    char *text = repeat("{\"a\":\"", "x", 4097, "\"}");
    char *text_ok = repeat("{\"a\":\"", "x", 4096, "\"}");
    char *key = repeat("{\"", "k", 1025, "\":1}");
    char *big = members(32, 1);
    char *big_ok = members(32, 0);
    const struct {
        const char *name, *body;
        enum err want;
        unsigned code;
    } rows[] = {
        {"array", "[]", E_ARG, 400004},
        {"number", "1", E_ARG, 400004},
        {"broken", "{", E_JSON, 400006},
        {"empty", "", E_JSON, 400006},
        {"key with .", "{\"a.b\":1}", E_ARG, 400004},
        {"key with #", "{\"a#b\":1}", E_ARG, 400004},
        {"key with space", "{\"a b\":1}", E_ARG, 400004},
        {"key with $ inside", "{\"a\":{\"$b\":1}}", E_ARG, 400004},
        {"key with control", "{\"a\\u0001\":1}", E_ARG, 400004},
        {"key with C1", "{\"a\\u0085\":1}", E_ARG, 400004},
        {"$x", "{\"$x\":1}", E_ARG, 400004},
        {"depth 11", deep, E_ARG, 400004},
        {"string of 4097", text, E_ARG, 400004},
        {"key of 1025", key, E_ARG, 400004},
        {"2^52", "{\"a\":4503599627370496}", E_ARG, 400004},
        {"-2^52-1", "{\"a\":-4503599627370497}", E_ARG, 400004},
        {"null in array", "{\"a\":[null]}", E_ARG, 400004},
        {"32 KiB + 1", big, E_ARG, 400004},
        {"doubled", "{\"a\":1,\"a\":2}", E_JSON, 400006},
    };
    int64_t id = bed_device("d", NULL);
    struct heard h;
    assert_ok(report(id, "{\"keep\":1}", NULL, &h));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum err e = report(id, rows[i].body, NULL, &h);
        if (e != rows[i].want) {
            fail_msg("%s: %s (%s)", rows[i].name, err_name(e), h.info.why);
        }
        char want[64];
        AUTO(buf_done) struct buf b = BUF_INIT(2048);
        assert_int_equal(hub_mqtt_error(e, &h.info, &b), 400);
        (void)snprintf(want, sizeof want, "{\"errorCode\":%u,\"message\":\"", rows[i].code);
        assert_true(span_starts(buf_span(&b), span_str(want)));
        assert_true(span_ends(buf_span(&b), SPAN_LIT("\"info\":null}")));
    }
    assert_string_equal(properties(id),
                        "{\"desired\":{\"$version\":1},\"reported\":{\"keep\":1,\"$version\":2}}");
    assert_ok(report(id, "{\"keep\":null}", NULL, &h));
    assert_ok(report(id, deep_ok, NULL, &h));
    assert_ok(report(id, text_ok, NULL, &h));
    assert_ok(report(id, "{\"a\":null}", NULL, &h));
    assert_ok(report(id, big_ok, NULL, &h));
    assert_err(report(id, "{\"one\":true}", NULL, &h), E_ARG); /* full */
    free(deep);
    free(deep_ok);
    free(text);
    free(text_ok);
    free(key);
    free(big);
    free(big_ok);
}

/* Control characters count nothing by the size rule: what is stored is bounded all the same. */
static void uncounted_text_is_bounded(void **state)
{
    (void)state;
    int64_t id = bed_device("d", NULL);
    struct heard h;
    enum err e = OK;
    unsigned n = 0;
    while (e == OK && n < 100) {
        char head[32];
        (void)snprintf(head, sizeof head, "{\"k%u\":\"", n++);
        char *body = repeat(head, "\\u0001", 4096, "\"}");
        e = report(id, body, NULL, &h);
        free(body);
    }
    assert_err(e, E_ARG);
    assert_in_range(n, 10, 12); /* LIMIT_TWIN_TEXT over six bytes a character */
    assert_ok(report(id, "{\"k0\":null}", NULL, &h));
}

static void base_version(void **state) /* M33 */
{
    (void)state;
    int64_t id = bed_device("d", NULL);
    struct heard h;
    uint64_t base = 1;
    assert_ok(report(id, "{\"a\":1}", &base, &h));
    assert_int_equal(h.version, 2);
    assert_err(report(id, "{\"a\":2}", &base, &h), E_ETAG);
    AUTO(buf_done) struct buf b = BUF_INIT(2048);
    assert_int_equal(hub_mqtt_error(E_ETAG, &h.info, &b), 412);
    assert_string_equal(member(properties(id), "reported"), "{\"a\":1,\"$version\":2}");
}

static void gone_or_disabled(void **state)
{
    (void)state;
    int64_t id = bed_device("d", NULL);
    struct heard h;
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/d", "*",
                             "{\"deviceId\":\"d\",\"status\":\"disabled\"}");
    assert_err(report(id, "{\"a\":1}", NULL, &h), E_DISABLED);
    reply_done(&r);
    r = bed_ask("iothubowner", "DELETE", "/devices/d", "*", NULL);
    assert_err(report(id, "{\"a\":1}", NULL, &h), E_NOT_FOUND);
    AUTO(buf_done) struct buf b = BUF_INIT(64);
    assert_err(twin_properties_json(&bed.worker, id, &b), E_NOT_FOUND);
    reply_done(&r);
    (void)bed_device("d", NULL); /* its namesake is another */
    assert_err(report(id, "{\"a\":1}", NULL, &h), E_NOT_FOUND);
}

/* --- the service's side ------------------------------------------------------------------------- */

static void patch_merges(void **state)
{
    (void)state;
    static const struct {
        const char *method, *body, *tags, *desired, *version, *etag;
    } rows[] = {
        {"PATCH", "{\"tags\":{\"site\":\"a\",\"x\":{\"y\":1.0}}}",
         "{\"site\":\"a\",\"x\":{\"y\":1.0}}", "1", "3", "\"AAAAAAAAAAI=\""},
        {"PATCH", "{\"properties\":{\"desired\":{\"fan\":{\"speed\":3}}}}",
         "{\"site\":\"a\",\"x\":{\"y\":1.0}}", "2", "4", "\"AAAAAAAAAAM=\""},
        {"PATCH",
         "{\"Tags\":{\"x\":{\"y\":null}},\"PROPERTIES\":{\"Desired\":{\"fan\":{\"speed\":4,\"on\":"
         "true}}}}",
         "{\"site\":\"a\",\"x\":{}}", "3", "5", "\"AAAAAAAAAAQ=\""},
        {"PATCH",
         "{\"properties\":{\"reported\":{\"no\":1},\"desired\":{}},\"version\":77,\"etag\":\"zz\","
         "\"status\":\"disabled\"}",
         "{\"site\":\"a\",\"x\":{}}", "4", "6", "\"AAAAAAAAAAU=\""},
        {"PATCH", "{}", "{\"site\":\"a\",\"x\":{}}", "4", "6", "\"AAAAAAAAAAU=\""},
        {"PATCH", "{\"tags\":null}", "{}", "4", "7", "\"AAAAAAAAAAY=\""},
        {"PUT", "{\"tags\":{\"n\":1},\"properties\":{\"desired\":{\"only\":[1,2]}}}", "{\"n\":1}",
         "5", "8", "\"AAAAAAAAAAc=\""},
        {"PUT", "{}", "{}", "6", "9", "\"AAAAAAAAAAg=\""},
    };
    (void)bed_device("d", NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply r = bed_ask("service", rows[i].method, "/twins/d", NULL, rows[i].body);
        expect(&r, rows[i].body, 200, "");
        assert_string_equal(member(r.body, "tags"), rows[i].tags);
        assert_string_equal(member(r.body, "properties.desired.$version"), rows[i].desired);
        assert_string_equal(member(r.body, "properties.reported.$version"), "1");
        assert_string_equal(member(r.body, "version"), rows[i].version);
        assert_string_equal(member(r.body, "etag"), rows[i].etag);
        assert_string_equal(member(r.body, "status"), "\"enabled\"");
        struct reply g = bed_ask("service", "GET", "/twins/d", NULL, NULL);
        assert_string_equal(g.body, r.body);
        reply_done(&g);
        reply_done(&r);
    }
}

static void metadata(void **state)
{
    (void)state;
    int64_t id = bed_device("d", NULL);
    struct heard h;
    bed_advance_s(1);
    struct reply r =
        bed_ask("service", "PATCH", "/twins/d", NULL,
                "{\"properties\":{\"desired\":{\"a\":{\"b\":1,\"c\":{\"d\":[1]}},\"e\":\"x\"}}}");
    reply_done(&r);
    bed_advance_s(1);
    r = bed_ask("service", "PATCH", "/twins/d", NULL,
                "{\"properties\":{\"desired\":{\"a\":{\"c\":{\"d\":2}}}}}");
#define AT(s) "\"$lastUpdated\":\"2026-01-01T00:00:0" s ".0000000Z\""
    assert_string_equal(
        member(r.body, "properties.desired.$metadata"),
        "{" AT("2") ",\"$lastUpdatedVersion\":3,"
                    "\"a\":{" AT(
                        "2") ",\"$lastUpdatedVersion\":3,"
                             "\"b\":{" AT(
                                 "1") ",\"$lastUpdatedVersion\":2},"
                                      "\"c\":{" AT(
                                          "2") ",\"$lastUpdatedVersion\":3,"
                                               "\"d\":{" AT(
                                                   "2") ",\"$lastUpdatedVersion\":3}}},"
                                                        "\"e\":{" AT(
                                                            "1") ",\"$lastUpdatedVersion\":2}}");
    reply_done(&r);
    r = bed_ask("service", "PATCH", "/twins/d", NULL,
                "{\"properties\":{\"desired\":{\"a\":{\"c\":null},\"e\":{\"f\":1}}}}");
    assert_string_equal(
        member(r.body, "properties.desired.$metadata"),
        "{" AT("2") ",\"$lastUpdatedVersion\":4,"
                    "\"a\":{" AT("2") ",\"$lastUpdatedVersion\":4,"
                                      "\"b\":{" AT(
                                          "1") ",\"$lastUpdatedVersion\":2}},"
                                               "\"e\":{" AT(
                                                   "2") ",\"$lastUpdatedVersion\":4,"
                                                        "\"f\":{" AT(
                                                            "2") ",\"$lastUpdatedVersion\":4}}}");
    reply_done(&r);
    assert_ok(report(id, "{\"net\":{\"ip\":\"x\"}}", NULL, &h));
    r = bed_ask("service", "GET", "/twins/d", NULL, NULL);
    assert_string_equal(member(r.body, "properties.reported"),
                        "{\"net\":{\"ip\":\"x\"},\"$metadata\":{" AT("2") ",\"net\":{" AT(
                            "2") ",\"ip\":{" AT("2") "}}},\"$version\":2}");
    reply_done(&r);
#undef AT
}

static void service_refusals(void **state)
{
    (void)state;
    char *tags = repeat("{\"tags\":{\"a\":\"", "x", 4096, "\",\"b\":\"");
    char *big_tags = repeat(tags, "y", 4095, "\"}}");
    free(tags);
    char *desired = members(32, 1);
    char *big_desired = repeat("{\"properties\":{\"desired\":", desired, 1, "}}");
    free(desired);
    const struct {
        const char *name, *method, *path, *match, *body;
        unsigned status;
        const char *code;
    } rows[] = {
        {"row 26: key", "PATCH", "/twins/d", NULL, "{\"tags\":{\"a.b\":1}}", 400,
         "ArgumentInvalid"},
        {"row 26: key", "PUT", "/twins/d", NULL, "{\"properties\":{\"desired\":{\"a$\":1}}}", 400,
         "ArgumentInvalid"},
        {"row 27: null in array", "PATCH", "/twins/d", NULL, "{\"tags\":{\"a\":[null]}}", 400,
         "ArgumentInvalid"},
        {"row 27: 2^52", "PATCH", "/twins/d", NULL, "{\"tags\":{\"a\":4503599627370496}}", 400,
         "ArgumentInvalid"},
        {"row 27: 8 KiB + 1", "PATCH", "/twins/d", NULL, big_tags, 400, "ArgumentInvalid"},
        {"row 27: 8 KiB + 1", "PUT", "/twins/d", NULL, big_tags, 400, "ArgumentInvalid"},
        {"row 27: 32 KiB + 1", "PATCH", "/twins/d", NULL, big_desired, 400, "ArgumentInvalid"},
        {"null in PUT", "PUT", "/twins/d", NULL, "{\"tags\":{\"a\":null}}", 400, "ArgumentInvalid"},
        {"null section in PUT", "PUT", "/twins/d", NULL, "{\"tags\":null}", 400, "ArgumentInvalid"},
        {"tags no object", "PATCH", "/twins/d", NULL, "{\"tags\":[]}", 400, "ArgumentInvalid"},
        {"desired no object", "PATCH", "/twins/d", NULL, "{\"properties\":{\"desired\":1}}", 400,
         "ArgumentInvalid"},
        {"properties no object", "PATCH", "/twins/d", NULL, "{\"properties\":1}", 400,
         "ArgumentInvalid"},
        {"array", "PATCH", "/twins/d", NULL, "[]", 400, "ArgumentInvalid"},
        {"broken", "PATCH", "/twins/d", NULL, "{\"tags\":", 400, "IotHubFormatError"},
        {"empty", "PATCH", "/twins/d", NULL, "", 400, "ArgumentNull"},
        {"bad id", "PATCH", "/twins/a%20b", NULL, "{}", 400, "ArgumentInvalid"},
        {"row 28: GET", "GET", "/twins/none", NULL, NULL, 404, "DeviceNotFound"},
        {"row 28: PATCH", "PATCH", "/twins/none", NULL, "{}", 404, "DeviceNotFound"},
        {"row 28: PATCH *", "PATCH", "/twins/none", "*", "{}", 404, "DeviceNotFound"},
        {"row 28: PUT", "PUT", "/twins/none", NULL, "{}", 404, "DeviceNotFound"},
        {"PATCH stale", "PATCH", "/twins/d", "\"AAAAAAAAAAk=\"", "{}", 412, "PreconditionFailed"},
        {"PATCH garbage", "PATCH", "/twins/d", "zz", "{}", 412, "PreconditionFailed"},
        {"PUT stale", "PUT", "/twins/d", "AAAAAAAAAAk=", "{}", 412, "PreconditionFailed"},
        {"PATCH *", "PATCH", "/twins/d", "\"*\"", "{}", 200, ""},
        {"PATCH etag", "PATCH", "/twins/d", "\"AAAAAAAAAAE=\"", "{}", 200, ""},
        {"PUT etag", "PUT", "/twins/d", "AAAAAAAAAAE=", "{}", 200, ""},
    };
    (void)bed_device("d", NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply r =
            bed_ask("service", rows[i].method, rows[i].path, rows[i].match, rows[i].body);
        expect(&r, rows[i].name, rows[i].status, rows[i].code);
        if (rows[i].status == 412) {
            assert_non_null(strstr(r.body, ";ETag mismatch for device ID 'd'\""));
        }
        reply_done(&r);
    }
    free(big_tags);
    free(big_desired);
}

static void method_override(void **state)
{
    (void)state;
    char token[1024];
    static const struct {
        const char *header;
        unsigned status;
        const char *code;
    } rows[] = {
        {"X-HTTP-Method-Override: PATCH", 200, ""},
        {"X-HTTP-Method-Override: DELETE", 400, "ArgumentInvalid"},
        {NULL, 405, "GenericMethodNotAllowed"},
    };
    (void)bed_device("d", NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bed_token(token, BED_HOST, bed_policy_key("service", 0), "service", 60);
        struct reply r =
            bed_ask_raw(token, "POST", "/twins/d", rows[i].header, "{\"tags\":{\"a\":1}}");
        expect(&r, rows[i].header != NULL ? rows[i].header : "none", rows[i].status, rows[i].code);
        assert_int_equal(strstr(r.head, "Allow: ") != NULL, rows[i].status == 405);
        reply_done(&r);
    }
}

/* --- telling the device --------------------------------------------------------------------------- */

static void desired_notices(void **state) /* M34, the domain's part */
{
    (void)state;
    static const struct {
        const char *method, *body, *told; /* NULL: nothing */
        uint64_t version;
    } rows[] = {
        {"PATCH", "{\"properties\":{\"desired\":{\"f\":\"5m\",\"route\":null}}}",
         "{\"f\":\"5m\",\"route\":null,\"$version\":2}", 2},
        {"PATCH", "{\"tags\":{\"a\":1}}", NULL, 0},
        {"PATCH", "{\"properties\":{\"desired\":{\"g\":{\"h\":1},\"$version\":9}}}",
         "{\"g\":{\"h\":1},\"$version\":3}", 3},
        {"PATCH", "{\"properties\":{\"desired\":{\"a.b\":1}}}", NULL, 0},
        {"PATCH", "{\"properties\":{\"desired\":null}}", "{\"f\":null,\"g\":null,\"$version\":4}",
         4},
        {"PUT", "{\"properties\":{\"desired\":{\"z\":1}}}", "{\"z\":1,\"$version\":5}", 5},
        {"PUT", "{}", "{\"$version\":6}", 6},
    };
    int64_t id = bed_device("d", NULL);
    struct reply r = bed_ask("service", "PATCH", "/twins/none", NULL,
                             "{\"properties\":{\"desired\":{\"a\":1}}}");
    reply_done(&r);
    bed_connect(id);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bed.desired = 0;
        r = bed_ask("service", rows[i].method, "/twins/d", NULL, rows[i].body);
        bed_idle();
        assert_int_equal(bed.desired, rows[i].told != NULL);
        if (rows[i].told != NULL) {
            assert_string_equal(bed.desired_text, rows[i].told);
            assert_int_equal(bed.desired_version, rows[i].version);
        }
        reply_done(&r);
    }
}

static void away_hears_nothing(void **state)
{
    (void)state;
    (void)bed_device("d", NULL);
    struct reply r =
        bed_ask("service", "PATCH", "/twins/d", NULL, "{\"properties\":{\"desired\":{\"a\":1}}}");
    expect(&r, "patch", 200, "");
    bed_idle();
    assert_int_equal(bed.desired, 0);
    reply_done(&r);
}

static void model(void **state)
{
    (void)state;
    int64_t id = bed_device("d", NULL);
    static const struct {
        const char *stored, *announced, *want;
    } rows[] = {{"", "dtmi:com:example:T;1", "\"dtmi:com:example:T;1\""},
                {"dtmi:com:example:T;1", "dtmi:com:example:T;1", "\"dtmi:com:example:T;1\""},
                {"dtmi:com:example:T;1", "", "\"\""}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        twin_note_model(&bed.worker, id, span_str(rows[i].stored), span_str(rows[i].announced));
        bed_idle();
        struct reply r = bed_ask("service", "GET", "/twins/d", NULL, NULL);
        assert_string_equal(member(r.body, "modelId"), rows[i].want);
        assert_string_equal(member(r.body, "version"), "2");
        reply_done(&r);
    }
}

/* --- races ------------------------------------------------------------------------------------------ */

#define RACERS 40u
struct race {
    unsigned done, ok, etag, other;
};

static void race_report(void *user, uint64_t tag, enum err result, uint64_t version,
                        const struct err_info *info)
{
    struct race *r = user;
    (void)tag;
    (void)version;
    (void)info;
    r->done++;
    r->ok += result == OK;
    r->etag += result == E_ETAG;
    r->other += result != OK && result != E_ETAG;
}

static void race_write(void *user, uint64_t tag, enum err result, const struct device *d,
                       const struct twin *t, const struct err_info *info)
{
    race_report(user, tag, result, 0, info);
    assert_int_equal(d != NULL && t != NULL, result == OK);
}

/* All are prepared against the same version and submitted in one go: each must get through, none may be lost. */
static void all_writers_get_through(void **state)
{
    (void)state;
    int64_t id = bed_device("d", NULL);
    const struct match any = {.kind = MATCH_ANY};
    struct race r = {0};
    struct err_info info;
    for (unsigned i = 0; i < RACERS; i++) {
        char body[64];
        (void)snprintf(body, sizeof body, "{\"k%u\":%u}", i, i);
        assert_ok(twin_report_begin(&bed.worker, id, span_str(body), false, 0, race_report, &r, i,
                                    &info));
        (void)snprintf(body, sizeof body,
                       "{\"properties\":{\"desired\":{\"k%u\":%u}},\"tags\":{\"k%u\":1}}", i, i, i);
        assert_ok(twin_write_begin(&bed.worker, SPAN_LIT("d"), SPAN_NONE, span_str(body), false,
                                   &any, race_write, &r, i, &info));
    }
    bed_wait(&r.done, 2 * RACERS);
    assert_int_equal(r.ok, 2 * RACERS);
    struct reply g = bed_ask("service", "GET", "/twins/d", NULL, NULL);
    char want[16];
    for (unsigned i = 0; i < RACERS; i++) {
        char path[64];
        (void)snprintf(want, sizeof want, "%u", i);
        (void)snprintf(path, sizeof path, "properties.desired.k%u", i);
        assert_string_equal(member(g.body, path), want);
        (void)snprintf(path, sizeof path, "properties.reported.k%u", i);
        assert_string_equal(member(g.body, path), want);
    }
    (void)snprintf(want, sizeof want, "%u", RACERS + 1);
    assert_string_equal(member(g.body, "properties.desired.$version"), want);
    assert_string_equal(member(g.body, "properties.reported.$version"), want);
    assert_int_equal(strtoul(member(g.body, "version"), NULL, 10), 2 + 2 * RACERS);
    reply_done(&g);
}

static void one_etag_one_winner(void **state)
{
    (void)state;
    int64_t id = bed_device("d", NULL);
    const struct match first = {.kind = MATCH_ETAG, .is_ours = true, .etag = 1};
    struct race r = {0};
    struct err_info info;
    for (unsigned i = 0; i < RACERS; i++) {
        assert_ok(twin_write_begin(&bed.worker, SPAN_LIT("d"), SPAN_NONE,
                                   SPAN_LIT("{\"tags\":{\"a\":1}}"), false, &first, race_write, &r,
                                   i, &info));
        assert_ok(twin_report_begin(&bed.worker, id, SPAN_LIT("{\"a\":1}"), true, 1, race_report,
                                    &r, i, &info));
    }
    bed_wait(&r.done, 2 * RACERS);
    assert_int_equal(r.ok, 2);
    assert_int_equal(r.etag, 2 * RACERS - 2);
}

static void device_done(void *user, uint64_t tag, enum err result, const struct device *d,
                        const struct err_info *info)
{
    race_report(user, tag, result, 0, info);
    assert_int_equal(d != NULL, result == OK);
}

/* Deleted and made again between preparing and storing: the write falls on the one that is there, whole. */
static void replaced_meanwhile(void **state)
{
    (void)state;
    (void)bed_device("d", NULL);
    struct reply p = bed_ask("service", "PATCH", "/twins/d", NULL, "{\"tags\":{\"old\":1}}");
    reply_done(&p);
    const struct match any = {.kind = MATCH_ANY}, none = {.kind = MATCH_NONE};
    struct auth_spec auth = {.type = AUTH_T_SAS};
    const struct device_spec spec = {.id = SPAN_LIT("d"), .is_enabled = true, .auth = &auth};
    struct race r = {0};
    struct err_info info;
    assert_ok(registry_delete_begin(&bed.worker, SPAN_LIT("d"), SPAN_NONE, &any, device_done, &r, 0,
                                    &info));
    assert_ok(registry_put_begin(&bed.worker, &spec, &none, device_done, &r, 0, &info));
    assert_ok(twin_write_begin(&bed.worker, SPAN_LIT("d"), SPAN_NONE,
                               SPAN_LIT("{\"tags\":{\"new\":1}}"), false, &any, race_write, &r, 0,
                               &info));
    bed_wait(&r.done, 3);
    assert_int_equal(r.ok, 3);
    p = bed_ask("service", "GET", "/twins/d", NULL, NULL);
    assert_string_equal(member(p.body, "tags"), "{\"new\":1}");
    assert_string_equal(member(p.body, "version"), "3");
    reply_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
        T(new_device),
        T(reported_merges),
        T(reported_refusals),
        T(uncounted_text_is_bounded),
        T(base_version),
        T(gone_or_disabled),
        T(patch_merges),
        T(metadata),
        T(service_refusals),
        T(method_override),
        T(desired_notices),
        T(away_hears_nothing),
        T(model),
        T(all_writers_get_through),
        T(one_etag_one_winner),
        T(replaced_meanwhile),
#undef T
    };
    return cmocka_run_group_tests_name("twin", tests, NULL, NULL);
}
