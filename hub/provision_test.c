/* SPDX-License-Identifier: Apache-2.0 */
/* What berth-dps asks of a hub: hub/http_provision.h; docs/protocol/dps-service-rest.md B4, B5; threats C4, C6, S7. */
#include <stdio.h>
#include <stdlib.h>

#include "hub/fence.h"
#include "hub/hub_sql.h"
#include "hub/tests/bed.h"

#define V "?api-version=2026-11-01-berth"
#define T64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define U64 "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define GROUP "0ne1/group/g1"
#define SINGLE "0ne1/individual/d1"

static void expect(const struct reply *r, const char *name, unsigned status, const char *code)
{
    if (r->status != status || strcmp(r->code, code) != 0) {
        fail_msg("%s: %u %s, wanted %u %s: %s", name, r->status, r->code, status, code, r->body);
    }
}

static struct reply put(const char *id, const char *op, const char *owner, const char *thumbprint,
                        const char *more)
{
    char path[256], body[4096];
    (void)snprintf(path, sizeof path, "/provision/devices/%s" V, id);
    (void)snprintf(
        body, sizeof body,
        "{\"operationId\":\"%s\",\"owner\":\"%s\",\"authentication\":{\"type\":\"selfSigned\","
        "\"x509Thumbprint\":{\"primaryThumbprint\":\"%s\"}}%s%s}",
        op, owner, thumbprint, more[0] != 0 ? "," : "", more);
    return bed_ask("dps", "PUT", path, NULL, body);
}

static void creates(void **state)
{
    (void)state;
    struct reply r =
        put("d1", "op-1", GROUP, T64,
            "\"capabilities\":{\"iotEdge\":true},\"initialTwin\":{\"tags\":{\"site\":\"a\"},"
            "\"properties\":{\"desired\":{\"x\":1},\"reported\":{\"y\":{\"z\":2}}}}");
    struct reply g = bed_ask("iothubowner", "GET", "/devices/d1", NULL, NULL);
    struct reply t = bed_ask("iothubowner", "GET", "/twins/d1", NULL, NULL);
    expect(&r, "create", 200, "");
    assert_string_equal(member(r.body, "deviceId"), "\"d1\"");
    assert_string_equal(member(r.body, "created"), "true");
    assert_string_equal(member(r.body, "status"), "\"enabled\"");
    assert_string_equal(member(r.body, "generationId"), member(g.body, "generationId"));
    assert_string_equal(member(r.body, "etag"), member(g.body, "etag"));
    assert_string_equal(r.etag, g.etag);
    assert_string_equal(member(g.body, "authentication.x509Thumbprint.primaryThumbprint"),
                        "\"" T64 "\"");
    assert_string_equal(member(g.body, "capabilities.iotEdge"), "true");
    assert_string_equal(member(t.body, "tags"), "{\"site\":\"a\"}");
    assert_string_equal(member(t.body, "properties.desired.x"), "1");
    assert_string_equal(member(t.body, "properties.desired.$version"), "1");
    assert_string_equal(member(t.body, "properties.reported.y"), "{\"z\":2}");
    assert_string_equal(member(t.body, "version"), "2");
    assert_string_equal(member(t.body, "etag"), "\"AAAAAAAAAAE=\"");
    struct reply p = bed_ask("dps", "GET", "/provision/devices/d1" V, NULL, NULL);
    expect(&p, "get", 200, "");
    assert_string_equal(member(p.body, "owner"), "\"" GROUP "\"");
    assert_string_equal(member(p.body, "status"), "\"enabled\"");
    assert_string_equal(member(p.body, "generationId"), member(g.body, "generationId"));
    assert_string_equal(member(p.body, "twin"),
                        "{\"tags\":{\"site\":\"a\"},\"properties\":{\"desired\":{\"x\":1},"
                        "\"reported\":{\"y\":{\"z\":2}}}}");
    reply_done(&p);
    reply_done(&r);
    reply_done(&g);
    reply_done(&t);
    r = put("d2", "op-1", SINGLE, T64, "\"status\":\"disabled\"");
    assert_string_equal(member(r.body, "status"), "\"disabled\"");
    reply_done(&r);
    p = bed_ask("dps", "GET", "/provision/devices/d2" V, NULL, NULL);
    assert_string_equal(member(p.body, "twin"),
                        "{\"properties\":{\"desired\":{},\"reported\":{}}}");
    reply_done(&p);
}

/* Keys never leave by this door. */
static void no_keys(void **state)
{
    (void)state;
    static const char body[] =
        "{\"operationId\":\"o\",\"owner\":\"" GROUP "\",\"authentication\":{\"symmetricKey\":"
        "{\"primaryKey\":\"MDEyMzQ1Njc4OWFiY2RlZg==\",\"secondaryKey\":\"ZmVkY2JhOTg3NjU0MzIxMA=="
        "\"}}}";
    struct reply r = bed_ask("dps", "PUT", "/provision/devices/d1" V, NULL, body);
    expect(&r, "put", 200, "");
    assert_null(strstr(r.body, "ey\":\"MDEy"));
    reply_done(&r);
    r = bed_ask("dps", "GET", "/provision/devices/d1" V, NULL, NULL);
    assert_null(strstr(r.body, "MDEy"));
    assert_null(strstr(r.body, "Key"));
    reply_done(&r);
    r = bed_ask("iothubowner", "GET", "/devices/d1", NULL, NULL);
    assert_string_equal(member(r.body, "authentication.symmetricKey.primaryKey"),
                        "\"MDEyMzQ1Njc4OWFiY2RlZg==\"");
    reply_done(&r);
}

static void repeats(void **state)
{
    (void)state;
    struct reply a = put("d1", "op-1", GROUP, T64, "\"initialTwin\":{\"tags\":{\"n\":1}}");
    struct reply b = put("d1", "op-1", GROUP, T64, "\"initialTwin\":{\"tags\":{\"n\":1}}");
    assert_string_equal(a.body, b.body); /* created: true again */
    reply_done(&b);
    struct reply c = put("d1", "op-2", GROUP, U64, "\"initialTwin\":{\"tags\":{\"n\":2}}");
    expect(&c, "second", 200, "");
    assert_string_equal(member(c.body, "created"), "false");
    assert_string_equal(member(c.body, "generationId"), member(a.body, "generationId"));
    assert_string_not_equal(member(c.body, "etag"), member(a.body, "etag"));
    bed_restart();
    b = put("d1", "op-2", GROUP, U64, "\"resetTwin\":true,\"initialTwin\":{\"tags\":{\"n\":3}}");
    assert_string_equal(c.body, b.body);
    reply_done(&b);
    struct reply t = bed_ask("iothubowner", "GET", "/twins/d1", NULL, NULL);
    assert_string_equal(member(t.body, "tags"),
                        "{\"n\":1}"); /* initialTwin only when made or reset */
    reply_done(&a);
    reply_done(&c);
    reply_done(&t);
}

static void same_owner(void **state)
{
    (void)state;
    struct reply r = put("d1", "op-1", GROUP, T64, "");
    reply_done(&r);
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    struct device d;
    assert_ok(registry_get(&bed.worker, &a, SPAN_LIT("d1"), &d));
    bed_connect(d.identity);
    r = bed_ask("iothubowner", "PUT", "/devices/d1", "*",
                "{\"deviceId\":\"d1\",\"status\":\"disabled\",\"authentication\":"
                "{\"type\":\"selfSigned\",\"x509Thumbprint\":{\"primaryThumbprint\":\"" T64
                "\"}}}");
    expect(&r, "disable by hand", 200, "");
    reply_done(&r);
    bed_idle();
    bed.changes = 0;
    r = put("d1", "op-2", GROUP, T64,
            "\"status\":\"enabled\""); /* status is for created devices only */
    assert_string_equal(member(r.body, "status"), "\"disabled\"");
    bed_idle();
    assert_int_equal(bed.changes, 0); /* the same credential ends nothing */
    reply_done(&r);
    r = put("d1", "op-3", GROUP, U64, "");
    bed_idle();
    assert_int_equal(bed.changes, 1);
    assert_int_equal(bed.last_change, DIR_CREDENTIAL);
    reply_done(&r);
}

static void ownership(void **state)
{
    (void)state;
    (void)bed_device("hand", NULL);
    struct reply r = put("d1", "op-1", GROUP, T64, "");
    reply_done(&r);
    static const struct {
        const char *name, *id, *owner, *more;
        unsigned status;
    } rows[] = {
        {"another group", "d1", "0ne1/group/g2", "", 409},
        {"another scope", "d1", "0ne2/group/g1", "", 409},
        {"an individual enrollment without mayAdopt", "d1", SINGLE, "", 409},
        {"another scope may not even adopt: threat:S7", "d1", "0ne2/individual/d1",
         "\"mayAdopt\":true", 409},
        {"mayAdopt false", "d1", SINGLE, "\"mayAdopt\":false", 409},
        {"made by hand", "hand", GROUP, "", 409},
        {"adopts what is a group's", "d1", SINGLE, "\"mayAdopt\":true", 200},
        {"now the group is refused", "d1", GROUP, "", 409},
        {"adopts what was made by hand", "hand", SINGLE, "\"mayAdopt\":true", 200},
        {"and keeps it", "hand", SINGLE, "", 200},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char op[16];
        (void)snprintf(op, sizeof op, "op-%zu", i + 2);
        struct reply g =
            bed_ask("iothubowner", "GET", rows[i].id[0] == 'd' ? "/devices/d1" : "/devices/hand",
                    NULL, NULL);
        r = put(rows[i].id, op, rows[i].owner, U64, rows[i].more);
        expect(&r, rows[i].name, rows[i].status,
               rows[i].status == 409 ? "DeviceAlreadyExists" : "");
        struct reply h =
            bed_ask("iothubowner", "GET", rows[i].id[0] == 'd' ? "/devices/d1" : "/devices/hand",
                    NULL, NULL);
        assert_int_equal(strcmp(g.body, h.body) == 0,
                         rows[i].status == 409); /* refused: the old device is unharmed */
        assert_string_equal(member(g.body, "generationId"), member(h.body, "generationId"));
        reply_done(&g);
        reply_done(&h);
        reply_done(&r);
    }
}

static void others_doors(void **state)
{
    (void)state;
    (void)bed_device("hand", NULL);
    struct reply r = put("d1", "op-1", GROUP, T64, "");
    reply_done(&r);
#define P "/provision/devices/"
#define STATUS(op, owner, s)                                                                       \
    "{\"operationId\":\"" op "\",\"owner\":\"" owner "\",\"status\":\"" s "\"}"
    static const struct {
        const char *name, *who, *method, *path, *body;
        unsigned status;
        const char *code;
    } rows[] = {
        {"registryReadWrite alone", "registryReadWrite", "GET", P "d1" V, NULL, 401,
         "IotHubUnauthorizedAccess"},
        {"service alone", "service", "GET", P "d1" V, NULL, 401, "IotHubUnauthorizedAccess"},
        {"device", "device", "DELETE", P "d1" V "&owner=0ne1/group/g1", NULL, 401,
         "IotHubUnauthorizedAccess"},
        {"nobody", NULL, "GET", P "d1" V, NULL, 401, "IotHubUnauthorizedAccess"},
        {"both rights", "iothubowner", "GET", P "d1" V, NULL, 200, ""},
        {"version of the service plane", "dps", "GET", P "d1?api-version=2021-04-12", NULL, 400,
         "InvalidProtocolVersion"},
        {"no mark", "dps", "GET", P "hand" V, NULL, 409, "DeviceAlreadyExists"},
        {"another mark", "dps", "GET", P "d1" V "&owner=0ne1/group/g2", NULL, 409,
         "DeviceAlreadyExists"},
        {"its mark", "dps", "GET", P "d1" V "&owner=0ne1%2Fgroup%2Fg1", NULL, 200, ""},
        {"absent", "dps", "GET", P "none" V, NULL, 404, "DeviceNotFound"},
        {"bad id", "dps", "GET", P "a%20b" V, NULL, 400, "ArgumentInvalid"},
        {"status of another's", "dps", "PATCH", P "d1" V, STATUS("o", "0ne1/group/g2", "disabled"),
         409, "DeviceAlreadyExists"},
        {"status of nobody's", "dps", "PATCH", P "hand" V, STATUS("o", GROUP, "disabled"), 409,
         "DeviceAlreadyExists"},
        {"status of none", "dps", "PATCH", P "none" V, STATUS("o", GROUP, "disabled"), 404,
         "DeviceNotFound"},
        {"status missing", "dps", "PATCH", P "d1" V,
         "{\"operationId\":\"o\",\"owner\":\"" GROUP "\"}", 400, "ArgumentNull"},
        {"status unknown", "dps", "PATCH", P "d1" V, STATUS("o", GROUP, "maybe"), 400,
         "ArgumentInvalid"},
        {"delete another's", "dps", "DELETE", P "d1" V "&owner=0ne1/group/g2", NULL, 409,
         "DeviceAlreadyExists"},
        {"delete nobody's", "dps", "DELETE", P "hand" V "&owner=0ne1/group/g1", NULL, 409,
         "DeviceAlreadyExists"},
        {"delete without a mark", "dps", "DELETE", P "d1" V, NULL, 400, "ArgumentNull"},
        {"delete none", "dps", "DELETE", P "none" V "&owner=0ne1/group/g1", NULL, 404,
         "DeviceNotFound"},
        {"delete", "dps", "DELETE", P "d1" V "&owner=0ne1/group/g1", NULL, 204, ""},
        {"delete again", "dps", "DELETE", P "d1" V "&owner=0ne1/group/g1", NULL, 404,
         "DeviceNotFound"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        r = bed_ask(rows[i].who, rows[i].method, rows[i].path, NULL, rows[i].body);
        expect(&r, rows[i].name, rows[i].status, rows[i].code);
        reply_done(&r);
    }
}

static void bad_bodies(void **state)
{
    (void)state;
#define AUTHN "\"authentication\":{\"type\":\"sas\"}"
    static const struct {
        const char *name, *body, *code;
    } rows[] = {
        {"empty", "", "ArgumentNull"},
        {"broken", "{", "IotHubFormatError"},
        {"array", "[]", "ArgumentInvalid"},
        {"no operationId", "{\"owner\":\"" GROUP "\"," AUTHN "}", "ArgumentNull"},
        {"bad operationId", "{\"operationId\":\"a b\",\"owner\":\"" GROUP "\"," AUTHN "}",
         "ArgumentInvalid"},
        {"empty operationId", "{\"operationId\":\"\",\"owner\":\"" GROUP "\"," AUTHN "}",
         "ArgumentInvalid"},
        {"no owner", "{\"operationId\":\"o\"," AUTHN "}", "ArgumentNull"},
        {"owner of two parts", "{\"operationId\":\"o\",\"owner\":\"0ne1/group\"," AUTHN "}",
         "ArgumentInvalid"},
        {"owner of four parts", "{\"operationId\":\"o\",\"owner\":\"0ne1/group/g/h\"," AUTHN "}",
         "ArgumentInvalid"},
        {"owner of another kind", "{\"operationId\":\"o\",\"owner\":\"0ne1/team/g\"," AUTHN "}",
         "ArgumentInvalid"},
        {"empty enrollment", "{\"operationId\":\"o\",\"owner\":\"0ne1/group/\"," AUTHN "}",
         "ArgumentInvalid"},
        {"no authentication", "{\"operationId\":\"o\",\"owner\":\"" GROUP "\"}", "ArgumentNull"},
        {"one key",
         "{\"operationId\":\"o\",\"owner\":\"" GROUP
         "\",\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"MDEyMzQ1Njc4OWFiY2RlZg==\"}}}",
         "ArgumentInvalid"},
        {"bad twin",
         "{\"operationId\":\"o\",\"owner\":\"" GROUP "\"," AUTHN
         ",\"initialTwin\":{\"tags\":{\"a.b\":1}}}",
         "ArgumentInvalid"},
        {"null in twin",
         "{\"operationId\":\"o\",\"owner\":\"" GROUP "\"," AUTHN
         ",\"initialTwin\":{\"properties\":{\"desired\":{\"a\":null}}}}",
         "ArgumentInvalid"},
        {"mayAdopt no bool",
         "{\"operationId\":\"o\",\"owner\":\"" GROUP "\"," AUTHN ",\"mayAdopt\":1}",
         "ArgumentInvalid"},
        {"status unknown",
         "{\"operationId\":\"o\",\"owner\":\"" GROUP "\"," AUTHN ",\"status\":\"x\"}",
         "ArgumentInvalid"},
    };
#undef AUTHN
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply r = bed_ask("dps", "PUT", P "d1" V, NULL, rows[i].body);
        expect(&r, rows[i].name, 400, rows[i].code);
        reply_done(&r);
    }
    struct reply r = bed_ask("iothubowner", "GET", "/devices/d1", NULL, NULL);
    expect(&r, "nothing was stored", 404, "DeviceNotFound");
    reply_done(&r);
}

#define ONE(id, op, owner, more)                                                                   \
    "{\"deviceId\":\"" id "\",\"operationId\":\"" op "\",\"owner\":\"" owner                       \
    "\",\"authentication\":{\"type\":\"sas\"}" more "}"

/* "200 true, 409 409001, ...": status, and created or the code. */
static void outcomes(const struct reply *r, char *dst, size_t n)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct json *list = NULL;
    size_t at = 0;
    assert_ok(json_read_object(span_str(r->body), 1u << 20, &body, NULL));
    assert_ok(json_get_array(body, "results", JSON_F_NEED, &list, NULL));
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *e = json_at(list, i);
        int64_t status = json_int(json_get(e, "status"));
        const struct json *code = json_get(json_get(e, "error"), "errorCode");
        at += (size_t)snprintf(dst + at, n - at, "%s%lld ", i != 0 ? ", " : "", (long long)status);
        at += status == 200 ? (size_t)snprintf(dst + at, n - at, "%s",
                                               json_bool(json_get(e, "created")) ? "true" : "false")
                            : (size_t)snprintf(dst + at, n - at, "%lld", (long long)json_int(code));
        assert_true(at < n);
    }
}

/* Each of many as if it had come alone. */
static void many(void **state)
{
    (void)state;
    static const char body[] =
        "{\"devices\":[" ONE("m1", "op-1", GROUP, ",\"initialTwin\":{\"tags\":{\"a\":1}}") "," ONE(
            "theirs", "op-2", GROUP,
            "") "," ONE("late", "op-3", GROUP,
                        ",\"sequence\":9") ","
                                           "{\"deviceId\":\"m2\",\"operationId\":\"op-4\"},"
                                           "{\"operationId\":\"op-5\",\"owner\":\"" GROUP
                                           "\"},7," ONE("a b", "op-6", GROUP, "") "," ONE(
                                               "m3", "op-7", GROUP, "") "," ONE("m3", "op-8", GROUP,
                                                                                "") "]}";
    char told[400];
    struct reply r = put("theirs", "op-0", "0ne1/group/g2", T64, "");
    reply_done(&r);
    r = put("late", "op-0", GROUP, T64, "\"sequence\":10");
    reply_done(&r);
    r = bed_ask("dps", "POST", "/provision/devices" V, NULL, body);
    expect(&r, "many", 200, "");
    outcomes(&r, told, sizeof told);
    assert_string_equal(told, "200 true, 409 409001, 412 412001, 400 400005, 400 400005, "
                              "400 400004, 400 400004, 200 true, 200 false");
    reply_done(&r);
    r = bed_ask("iothubowner", "GET", "/twins/m1", NULL, NULL);
    assert_string_equal(member(r.body, "tags"), "{\"a\":1}");
    reply_done(&r);
    r = bed_ask("iothubowner", "GET", "/devices/m2", NULL, NULL);
    expect(&r, "refused", 404, "DeviceNotFound");
    reply_done(&r);
    bed_restart();
    r = bed_ask(
        "dps", "POST", "/provision/devices" V, NULL,
        "{\"devices\":[" ONE("m1", "op-1", GROUP, "") "," ONE("m3", "op-8", GROUP, "") "]}");
    outcomes(&r, told, sizeof told);
    assert_string_equal(told, "200 true, 200 false"); /* both are repeats */
    reply_done(&r);
}

static void many_refused(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf full = BUF_INIT(65536), over = BUF_INIT(65536);
    for (unsigned i = 0; i <= LIMIT_PROVISION_MANY; i++) {
        buf_addf(&over, "%s{\"deviceId\":\"f%u\"}", i != 0 ? "," : "{\"devices\":[", i);
        if (i + 1 == LIMIT_PROVISION_MANY) {
            buf_add(&full, buf_span(&over));
        }
    }
    buf_add_str(&full, "]}");
    buf_add_str(&over, "]}");
    buf_add_u8(&full, 0);
    buf_add_u8(&over, 0);
    const struct {
        const char *name, *who, *body;
        unsigned status;
        const char *code;
    } rows[] = {
        {"empty", "dps", "", 400, "IotHubFormatError"},
        {"broken", "dps", "{\"devices\":[{}", 400, "IotHubFormatError"},
        {"array", "dps", "[]", 400, "ArgumentInvalid"},
        {"no list", "dps", "{}", 400, "ArgumentNull"},
        {"another type", "dps", "{\"devices\":{}}", 400, "ArgumentInvalid"},
        {"none", "dps", "{\"devices\":[]}", 400, "ArgumentInvalid"},
        {"most", "dps", (const char *)full.p, 200, ""},
        {"one more", "dps", (const char *)over.p, 400, "ArgumentInvalid"},
        {"no right", "service", "{\"devices\":[" ONE("m1", "op-1", GROUP, "") "]}", 401,
         "IotHubUnauthorizedAccess"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply r = bed_ask(rows[i].who, "POST", "/provision/devices" V, NULL, rows[i].body);
        expect(&r, rows[i].name, rows[i].status, rows[i].code);
        reply_done(&r);
    }
}

static void reset_twin(void **state)
{
    (void)state;
    struct reply r =
        put("d1", "op-1", GROUP, T64,
            "\"initialTwin\":{\"tags\":{\"a\":1},\"properties\":{\"desired\":{\"a\":1}}}");
    reply_done(&r);
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    struct device d;
    assert_ok(registry_get(&bed.worker, &a, SPAN_LIT("d1"), &d));
    bed_connect(d.identity);
    r = put("d1", "op-2", GROUP, T64,
            "\"resetTwin\":true,\"initialTwin\":{\"properties\":{\"desired\":{\"b\":2}}}");
    expect(&r, "reset", 200, "");
    reply_done(&r);
    bed_idle();
    assert_int_equal(bed.desired, 1);
    assert_string_equal(bed.desired_text, "{\"b\":2,\"$version\":2}");
    r = bed_ask("iothubowner", "GET", "/twins/d1", NULL, NULL);
    assert_string_equal(member(r.body, "tags"), "{}");
    assert_string_equal(member(r.body, "version"), "3");
    assert_string_equal(member(r.body, "properties.reported.$version"), "2");
    assert_string_equal(member(r.body, "properties.desired.b"), "2");
    assert_string_equal(member(r.body, "properties.desired.a"), "");
    reply_done(&r);
}

static void status(void **state)
{
    (void)state;
    struct reply r = put("d1", "op-1", GROUP, T64, "");
    reply_done(&r);
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    struct device d;
    assert_ok(registry_get(&bed.worker, &a, SPAN_LIT("d1"), &d));
    bed_connect(d.identity);
    struct reply off = bed_ask("dps", "PATCH", P "d1" V, NULL, STATUS("op-2", GROUP, "disabled"));
    expect(&off, "disable", 200, "");
    bed_idle();
    assert_int_equal(bed.changes, 1);
    assert_int_equal(bed.last_change, DIR_GONE);
    assert_string_equal(member(off.body, "status"), "\"disabled\"");
    struct reply on = bed_ask("dps", "PATCH", P "d1" V, NULL, STATUS("op-3", GROUP, "enabled"));
    assert_string_equal(member(on.body, "status"), "\"enabled\"");
    struct reply again = bed_ask("dps", "PATCH", P "d1" V, NULL, STATUS("op-3", GROUP, "enabled"));
    assert_string_equal(again.body, on.body);
    bed_idle();
    assert_int_equal(bed.changes, 1);
    reply_done(&off);
    reply_done(&on);
    reply_done(&again);
}

#define AT(op, seq, status)                                                                        \
    "{\"operationId\":\"" op "\",\"owner\":\"" GROUP "\",\"sequence\":" #seq                       \
    ",\"status\":\"" status "\"}"

static void set_status(const char *name, const char *body, unsigned status, const char *code,
                       const char *is_now, const char *is_frozen)
{
    struct reply r = bed_ask("dps", "PATCH", P "d1" V, NULL, body);
    expect(&r, name, status, code);
    if (status == 200 && (strcmp(member(r.body, "status"), is_now) != 0 ||
                          strcmp(member(r.body, "frozen"), is_frozen) != 0)) {
        fail_msg("%s: %s", name, r.body);
    }
    reply_done(&r);
}

/* A move: frozen, and thawed only if it was us who froze it. */
static void freezes(void **state)
{
    (void)state;
    struct reply r = put("d1", "op-1", GROUP, T64, "");
    reply_done(&r);
    set_status("freeze", AT("op-2", 2, "frozen"), 200, "", "\"disabled\"", "true");
    set_status("again", AT("op-2", 2, "frozen"), 200, "", "\"disabled\"", "true");
    set_status("thaw", AT("op-3", 3, "thawed"), 200, "", "\"enabled\"", "false");
    set_status("freeze", AT("op-4", 4, "frozen"), 200, "", "\"disabled\"", "true");
    r = put("d1", "op-5", GROUP, T64, "\"sequence\":5");
    expect(&r, "put", 200, "");
    assert_string_equal(member(r.body, "status"), "\"enabled\""); /* it belongs here after all */
    reply_done(&r);
    r = bed_ask("iothubowner", "PUT", "/devices/d1", "*",
                "{\"deviceId\":\"d1\",\"status\":\"disabled\",\"authentication\":"
                "{\"type\":\"selfSigned\",\"x509Thumbprint\":{\"primaryThumbprint\":\"" T64
                "\"}}}");
    expect(&r, "disable by hand", 200, "");
    reply_done(&r);
    set_status("freeze", AT("op-6", 6, "frozen"), 200, "", "\"disabled\"", "false");
    set_status("thaw", AT("op-7", 7, "thawed"), 200, "", "\"disabled\"", "false");
    r = put("d1", "op-8", GROUP, T64, "\"sequence\":8");
    assert_string_equal(member(r.body, "status"), "\"disabled\"");
    reply_done(&r);
}

/* What comes late changes nothing (threat C6). */
static void sequences(void **state)
{
    (void)state;
    struct reply r = put("d1", "op-1", GROUP, T64, "\"sequence\":10");
    expect(&r, "put", 200, "");
    reply_done(&r);
    set_status("late freeze", AT("op-2", 9, "frozen"), 412, "PreconditionFailed", "", "");
    set_status("same number", AT("op-3", 10, "frozen"), 200, "", "\"disabled\"", "true");
    r = put("d1", "op-4", GROUP, U64, "\"sequence\":9");
    expect(&r, "late put", 412, "PreconditionFailed");
    reply_done(&r);
    r = put("d1", "op-4", GROUP, U64, "\"sequence\":0");
    expect(&r, "no number", 400, "ArgumentInvalid");
    reply_done(&r);
    static const struct {
        const char *name, *path;
        unsigned status;
        const char *code;
    } rows[] = {
        {"late deletion", P "d1" V "&owner=" GROUP "&sequence=9", 412, "PreconditionFailed"},
        {"no number", P "d1" V "&owner=" GROUP "&sequence=x", 400, "ArgumentInvalid"},
        {"deletion", P "d1" V "&owner=" GROUP "&sequence=11", 204, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        r = bed_ask("dps", "DELETE", rows[i].path, NULL, NULL);
        expect(&r, rows[i].name, rows[i].status, rows[i].code);
        reply_done(&r);
    }
}

static void try_put(const char *name, const char *op, const char *owner, const char *sequence,
                    unsigned status)
{
    char more[64];
    (void)snprintf(more, sizeof more, "\"sequence\":%s", sequence);
    struct reply r = put("d1", op, owner, T64, more);
    expect(&r, name, status, status == 412 ? "PreconditionFailed" : "");
    if (status == 412) {
        assert_non_null(strstr(r.body, "a later operation was on device"));
    }
    reply_done(&r);
}

static void try_delete(const char *who, const char *path, unsigned status)
{
    struct reply r = bed_ask(who, "DELETE", path, strcmp(who, "dps") == 0 ? NULL : "*", NULL);
    expect(&r, path, status, status == 404 ? "DeviceNotFound" : "");
    reply_done(&r);
}

/* What was sent before a device left, and comes after it did, makes it not again: hub/fence.h, threat C6. */
static void fences(void **state)
{
    (void)state;
    try_put("made", "op-1", GROUP, "10", 200);
    try_delete("dps", P "d1" V "&owner=" GROUP "&sequence=20", 204);
    try_put("repeated late", "op-1", GROUP, "10", 412);
    try_put("older than the deletion", "op-2", GROUP, "19", 412);
    bed_restart();
    try_put("after a restart", "op-1", GROUP, "10", 412);
    struct reply r = bed_ask("dps", "POST", "/provision/devices" V, NULL,
                             "{\"devices\":[" ONE("d1", "op-1", GROUP, ",\"sequence\":10") "]}");
    char told[64];
    outcomes(&r, told, sizeof told);
    assert_string_equal(told, "412 412001");
    reply_done(&r);
    try_put("another service has numbers of its own", "op-1", "0ne2/group/g1", "5", 200);
    try_delete("dps", P "d1" V "&owner=0ne2/group/g1&sequence=6", 204);
    try_put("and they count for it", "op-1", "0ne2/group/g1", "5", 412);
    try_put("another enrollment of the service", "op-3", SINGLE, "19", 412);
    try_put("came back", "op-4", GROUP, "30", 200);
    try_delete("iothubowner", "/devices/d1", 204);
    try_put("its own operation, after an administrator deleted it", "op-4", GROUP, "30", 412);
    try_put("the next one", "op-5", GROUP, "31", 200);
    try_delete("dps", P "d1" V "&owner=" GROUP, 204);
    try_put("deleted without a number", "op-5", GROUP, "31", 412);
    set_status("frozen, but not there", AT("op-6", 40, "frozen"), 404, "DeviceNotFound", "", "");
    try_put("older than that", "op-5", GROUP, "39", 412);
    try_delete("dps", P "d1" V "&owner=" GROUP "&sequence=50", 404);
    try_put("older than a deletion of nothing", "op-5", GROUP, "49", 412);
    set_status("an older one lowers nothing", AT("op-7", 41, "thawed"), 404, "DeviceNotFound", "",
               "");
    try_put("still", "op-5", GROUP, "49", 412);
    char ahead[32], now[32];
    (void)snprintf(ahead, sizeof ahead, "%lld", (long long)BED_NOW_US + 3600000000);
    (void)snprintf(now, sizeof now, "%lld", (long long)BED_NOW_US + 1000000);
    try_put("by a clock that ran ahead", "op-8", GROUP, ahead, 200);
    try_delete("iothubowner", "/devices/d1", 204);
    bed_advance_s(1);
    try_put("which was set back", "op-9", GROUP, now, 200);
    try_delete("dps", P "d1" V "&owner=" GROUP, 204);
    bed_advance_s(FENCE_KEPT_S + 1);
    try_put("forgotten after a day", "op-5", GROUP, "49", 200);
}

static struct {
    int64_t most, now_us;
    bool is_over;
} few;

/* Four devices that are not there, a second after another. */
static enum err fence_four(struct store_tx *tx, struct store_op *op UNUSED)
{
    static const char *const ids[] = {"f1", "f2", "f3", "f4"};
    enum err e = OK;
    for (int64_t i = 0; e == OK && i < 4; i++) {
        const struct fence_row row = {span_str(ids[i]), SPAN_LIT("0ne1"), 10,
                                      tx->now_us + i * 1000000};
        e = hub_sql_fence_put(tx->db, &row);
    }
    few.now_us = tx->now_us;
    return e;
}

static enum err fence_trim(struct store_tx *tx, struct store_op *op UNUSED)
{
    enum err e = hub_sql_fence_trim(tx->db, few.most, few.now_us + 1000000);
    return e != OK ? e : hub_sql_fence_is_over(tx->db, few.most, &few.is_over);
}

static bool is_fenced(const char *id)
{
    int64_t sequence;
    return hub_sql_fence_get(worker_db(&bed.worker), span_str(id), SPAN_LIT("0ne1"), 0,
                             &sequence) == OK;
}

static void fences_are_bounded(void **state)
{
    (void)state;
    assert_ok(bed_tx(fence_four));
    few.most = 4;
    assert_ok(bed_tx(fence_trim));
    assert_true(!few.is_over && is_fenced("f1") && is_fenced("f2"));
    few.most = 1; /* three are too many, and two of them are old enough to go */
    assert_ok(bed_tx(fence_trim));
    assert_true(few.is_over);
    assert_true(!is_fenced("f1") && !is_fenced("f2") && is_fenced("f3") && is_fenced("f4"));
}

/* A registry of any version before is brought up to date, and all statements fit it then. */
static void migrates(void **state)
{
    (void)state;
    struct store_module old = hub_module;
    const struct store_module *const before[] = {&old}, *const now[] = {&hub_module};
    char at[400];
    old.n_sql = 0;
    for (size_t v = 0; v < hub_module.n_migrations; v++) {
        struct store_config c = {.path = at,
                                 .modules = before,
                                 .n_modules = 1,
                                 .clock = &bed.clock.clock,
                                 .scan_threads = 1};
        struct store *s = NULL;
        (void)snprintf(at, sizeof at, "%s/v%zu.db", bed.dir, v);
        old.n_migrations = v;
        assert_ok(store_open(&c, &s, NULL));
        store_drain(s);
        store_close(s);
        c.modules = now;
        assert_ok(store_open(&c, &s, NULL));
        store_drain(s);
        store_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
        T(creates),      T(no_keys),    T(repeats),   T(same_owner),   T(ownership),
        T(others_doors), T(bad_bodies), T(many),      T(many_refused), T(reset_twin),
        T(status),       T(freezes),    T(sequences), T(fences),       T(fences_are_bounded),
        T(migrates),
#undef T
    };
    return cmocka_run_group_tests_name("provision", tests, NULL, NULL);
}
