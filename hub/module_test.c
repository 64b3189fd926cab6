/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Module identities: REST (docs/protocol/hub-service-rest.md 2.3, 4.3, 6, checklist rows 6a, 6b, 19 to 21, 28), their links over MQTT
 * (docs/protocol/hub-mqtt.md 2, 4.2, 10, M11), and that they go with their device.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/text.h"
#include "hub/hub_sql.h"
#include "hub/tests/link.h"
#include "hub/twin.h"

#define M_AUTH ",\"authentication\":" LINK_AUTH
#define SAS_OF(key) "{\"symmetricKey\":{\"primaryKey\":\"" key "\",\"secondaryKey\":\"" key "\"}}"
#define OTHER_KEY "MDEyMzQ1Njc4OWFiY2RlZg=="
#define EVENTS "devices/d/modules/m/messages/events/"

static int setup(void **state)
{
    link_setup(state);
    (void)bed_device("d", "{\"symmetricKey\":{\"primaryKey\":\"" OTHER_KEY
                          "\",\"secondaryKey\":\"" OTHER_KEY "\"}}");
    return 0;
}

static void expect(const char *name, struct reply r, unsigned status, const char *code)
{
    if (r.status != status || strcmp(r.code, code) != 0) {
        fail_msg("%s: %u %s, wanted %u %s: %s", name, r.status, r.code, status, code, r.body);
    }
    if (status >= 400) { /* row 49: the code inside the body equals the header */
        char want[128];
        (void)snprintf(want, sizeof want, "{\"Message\":\"ErrorCode:%s;", code);
        assert_true(strncmp(r.body, want, strlen(want)) == 0);
    }
    reply_done(&r);
}

static void put_module(const char *id, const char *more)
{
    char path[512], body[1024];
    (void)snprintf(path, sizeof path, "/devices/d/modules/%s", id);
    (void)snprintf(body, sizeof body, "{\"moduleId\":\"%s\",\"deviceId\":\"d\"%s}", id, more);
    expect(path, bed_ask("iothubowner", "PUT", path, NULL, body), 200, "");
}

static void put_device(const char *more)
{
    char body[1024];
    (void)snprintf(body, sizeof body,
                   "{\"deviceId\":\"d\",\"authentication\":" SAS_OF(OTHER_KEY) "%s}", more);
    expect("device", bed_ask("iothubowner", "PUT", "/devices/d", "*", body), 200, "");
}

static unsigned count_of(const char *body)
{
    unsigned n = 0;
    for (const char *p = body; (p = strstr(p, "\"moduleId\"")) != NULL; p++) {
        n++;
    }
    return n;
}

static unsigned count_modules(void)
{
    struct reply r = bed_ask("registryRead", "GET", "/devices/d/modules", NULL, NULL);
    assert_int_equal(r.status, 200);
    unsigned n = count_of(r.body);
    reply_done(&r);
    return n;
}

/* --- REST ---------------------------------------------------------------------------------------- */

static void life(void **state)
{
    (void)state;
    char etag[64], generation[64];
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/d/modules/m", "\"\"",
                             "{\"moduleId\":\"m\",\"deviceId\":\"d\",\"managedBy\":\"me\"}");
    assert_int_equal(r.status, 200);
    assert_string_equal(r.etag, ""); /* 4.1: a module has none */
    assert_string_equal(member(r.body, "moduleId"), "\"m\"");
    assert_string_equal(member(r.body, "deviceId"), "\"d\"");
    assert_string_equal(member(r.body, "managedBy"), "\"me\"");
    assert_string_equal(member(r.body, "connectionState"), "\"Disconnected\"");
    assert_string_equal(member(r.body, "lastActivityTime"), "\"0001-01-01T00:00:00Z\"");
    assert_string_equal(member(r.body, "cloudToDeviceMessageCount"), "0");
    assert_string_equal(member(r.body, "authentication.type"), "\"sas\"");
    assert_int_equal(strlen(member(r.body, "authentication.symmetricKey.primaryKey")), 46);
    assert_string_equal(member(r.body, "status"), ""); /* it follows its device */
    (void)snprintf(etag, sizeof etag, "%s", member(r.body, "etag"));
    (void)snprintf(generation, sizeof generation, "%s", member(r.body, "generationId"));
    struct reply g = bed_ask("registryRead", "GET", "/devices/d/modules/m", NULL, NULL);
    assert_string_equal(g.body, r.body);
    reply_done(&g);
    bed_restart();
    g = bed_ask("registryRead", "GET", "/devices/d/modules/m", NULL, NULL);
    assert_string_equal(g.body, r.body);
    reply_done(&g);
    reply_done(&r);
    /* a full replacement: new keys, managedBy is gone; the counter goes up by one */
    r = bed_ask("registryReadWrite", "PUT", "/devices/d/modules/m", etag, "{\"moduleId\":\"m\"}");
    assert_int_equal(r.status, 200);
    assert_string_equal(member(r.body, "managedBy"), "null");
    assert_string_equal(member(r.body, "generationId"), generation);
    assert_string_not_equal(member(r.body, "etag"), etag);
    reply_done(&r);
    put_module("a$b", "");
    assert_int_equal(count_modules(), 2);
    expect("delete", bed_ask("iothubowner", "DELETE", "/devices/d/modules/m", "*", NULL), 204, "");
    assert_int_equal(count_modules(), 1);
    r = bed_ask("iothubowner", "PUT", "/devices/d/modules/m", NULL, "{\"moduleId\":\"m\"}");
    assert_string_not_equal(member(r.body, "generationId"), generation);
    reply_done(&r);
    /* modules are no devices */
    r = bed_ask("registryRead", "GET", "/devices", NULL, NULL);
    assert_int_equal(count_of(r.body), 0);
    assert_non_null(strstr(r.body, "\"deviceId\":\"d\""));
    reply_done(&r);
}

static void matrix(void **state)
{
    (void)state;
    static const struct {
        const char *name, *method;
        bool exists;
        const char *if_match;
        unsigned status;
        const char *code;
    } rows[] = {
        {"PUT, none, missing", "PUT", false, NULL, 200, ""},
        {"PUT, none, exists", "PUT", true, NULL, 409, "ModuleAlreadyExistsOnDevice"},
        {"PUT, *, missing", "PUT", false, "*", 404, "ModuleNotFound"},
        {"PUT, *, exists", "PUT", true, "*", 200, ""},
        {"PUT, quoted *", "PUT", true, "\"*\"", 200, ""},
        {"PUT, stale", "PUT", true, "\"NzI3ODk0ODYz\"", 412, "PreconditionFailed"},
        {"PUT, list", "PUT", true, "\"a\", \"b\"", 400, "ArgumentInvalid"},
        {"DELETE, none, missing", "DELETE", false, NULL, 412, "PreconditionFailed"},
        {"DELETE, none, exists", "DELETE", true, NULL, 412, "PreconditionFailed"},
        {"DELETE, *, missing", "DELETE", false, "*", 404, "ModuleNotFound"},
        {"DELETE, stale", "DELETE", true, "\"NzI3ODk0ODYz\"", 412, "PreconditionFailed"},
        {"DELETE, *", "DELETE", true, "*", 204, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char id[16], path[64], body[64];
        (void)snprintf(id, sizeof id, "m%zu", i);
        (void)snprintf(path, sizeof path, "/devices/d/modules/%s", id);
        (void)snprintf(body, sizeof body, "{\"moduleId\":\"%s\"}", id);
        if (rows[i].exists) {
            put_module(id, "");
        }
        bool is_put = strcmp(rows[i].method, "PUT") == 0;
        expect(rows[i].name,
               bed_ask("iothubowner", rows[i].method, path, rows[i].if_match, is_put ? body : NULL),
               rows[i].status, rows[i].code);
    }
}

static void bad_input(void **state)
{
    (void)state;
    static const struct {
        const char *name, *who, *method, *path, *if_match, *body;
        unsigned status;
        const char *code;
    } rows[] = {
        {"19: $foo", "iothubowner", "PUT", "/devices/d/modules/$foo", NULL,
         "{\"moduleId\":\"$foo\"}", 400, "ArgumentInvalid"},
        {"19: $edgeAgent", "iothubowner", "PUT", "/devices/d/modules/$edgeAgent", NULL,
         "{\"moduleId\":\"$edgeAgent\"}", 400, "ArgumentInvalid"},
        {"20: delete", "iothubowner", "DELETE", "/devices/d/modules/%24edgeAgent", "*", NULL, 401,
         "SystemModuleModifyUnauthorizedAccess"},
        {"20: update", "iothubowner", "PUT", "/devices/d/modules/$edgeHub", "*",
         "{\"moduleId\":\"$edgeHub\"}", 401, "SystemModuleModifyUnauthorizedAccess"},
        {"device is missing", "iothubowner", "PUT", "/devices/x/modules/m", NULL,
         "{\"moduleId\":\"m\"}", 404, "DeviceNotFound"},
        {"update, device is missing", "iothubowner", "PUT", "/devices/x/modules/m", "*",
         "{\"moduleId\":\"m\"}", 404, "DeviceNotFound"},
        {"delete, device is missing", "iothubowner", "DELETE", "/devices/x/modules/m", "*", NULL,
         404, "DeviceNotFound"},
        {"get, device is missing", "iothubowner", "GET", "/devices/x/modules/m", NULL, NULL, 404,
         "DeviceNotFound"},
        {"list, device is missing", "iothubowner", "GET", "/devices/x/modules", NULL, NULL, 404,
         "DeviceNotFound"},
        {"get", "iothubowner", "GET", "/devices/d/modules/none", NULL, NULL, 404, "ModuleNotFound"},
        {"empty body", "iothubowner", "PUT", "/devices/d/modules/m", NULL, "", 400, "ArgumentNull"},
        {"no JSON", "iothubowner", "PUT", "/devices/d/modules/m", NULL, "{\"moduleId\":", 400,
         "IotHubFormatError"},
        {"no object", "iothubowner", "PUT", "/devices/d/modules/m", NULL, "[]", 400,
         "ArgumentInvalid"},
        {"no moduleId", "iothubowner", "PUT", "/devices/d/modules/m", NULL, "{}", 400,
         "ArgumentNull"},
        {"another moduleId", "iothubowner", "PUT", "/devices/d/modules/m", NULL,
         "{\"moduleId\":\"n\"}", 400, "ArgumentInvalid"},
        {"another deviceId", "iothubowner", "PUT", "/devices/d/modules/m", NULL,
         "{\"moduleId\":\"m\",\"deviceId\":\"x\"}", 400, "ArgumentInvalid"},
        {"bad id", "iothubowner", "PUT", "/devices/d/modules/a%20b", NULL, "{\"moduleId\":\"a b\"}",
         400, "ArgumentInvalid"},
        {"bad id, get", "iothubowner", "GET", "/devices/d/modules/a%2Fb", NULL, NULL, 400,
         "ArgumentInvalid"},
        {"bad id, delete", "iothubowner", "DELETE", "/devices/d/modules/a%20b", "*", NULL, 400,
         "ArgumentInvalid"},
        {"bad device id", "iothubowner", "GET", "/devices/a%20b/modules", NULL, NULL, 400,
         "ArgumentInvalid"},
        {"a module's number is no device", "iothubowner", "GET", "/devices/1%2Fm", NULL, NULL, 400,
         "ArgumentInvalid"},
        {"one key", "iothubowner", "PUT", "/devices/d/modules/m", NULL,
         "{\"moduleId\":\"m\",\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"" LINK_KEY
         "\"}}}",
         400, "ArgumentInvalid"},
        {"unknown type", "iothubowner", "PUT", "/devices/d/modules/m", NULL,
         "{\"moduleId\":\"m\",\"authentication\":{\"type\":\"what\"}}", 400, "ArgumentInvalid"},
        {"thumbprint", "iothubowner", "PUT", "/devices/d/modules/m", NULL,
         "{\"moduleId\":\"m\",\"authentication\":{\"x509Thumbprint\":{\"primaryThumbprint\":\"ab\"}"
         "}}",
         400, "ArgumentInvalid"},
        {"no right to write", "registryRead", "PUT", "/devices/d/modules/m", NULL,
         "{\"moduleId\":\"m\"}", 401, "IotHubUnauthorizedAccess"},
        {"no right to read", "service", "GET", "/devices/d/modules", NULL, NULL, 401,
         "IotHubUnauthorizedAccess"},
        {"no right to delete", "device", "DELETE", "/devices/d/modules/m", "*", NULL, 401,
         "IotHubUnauthorizedAccess"},
        {"no token", NULL, "GET", "/devices/d/modules", NULL, NULL, 401,
         "IotHubUnauthorizedAccess"},
        {"28: twin of a missing module", "service", "GET", "/twins/d/modules/none", NULL, NULL, 404,
         "DeviceNotFound"},
        {"28: patch of it", "service", "PATCH", "/twins/d/modules/none", NULL, "{\"tags\":{}}", 404,
         "DeviceNotFound"},
        {"twin, bad id", "service", "GET", "/twins/d/modules/a%20b", NULL, NULL, 400,
         "ArgumentInvalid"},
        {"wrong verb", "iothubowner", "POST", "/devices/d/modules/m", NULL, "{}", 405,
         "GenericMethodNotAllowed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        expect(rows[i].name,
               bed_ask(rows[i].who, rows[i].method, rows[i].path, rows[i].if_match, rows[i].body),
               rows[i].status, rows[i].code);
    }
    assert_int_equal(count_modules(), 0);
}

/* limits.md row 11, row 21. */
static void fifty(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LIMIT_MODULES; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "m%02u", i);
        put_module(id, "");
    }
    expect(
        "51st",
        bed_ask("iothubowner", "PUT", "/devices/d/modules/more", NULL, "{\"moduleId\":\"more\"}"),
        413, "TooManyModulesOnDevice");
    expect("one of them is replaced",
           bed_ask("iothubowner", "PUT", "/devices/d/modules/m07", "*", "{\"moduleId\":\"m07\"}"),
           200, "");
    assert_int_equal(count_modules(), LIMIT_MODULES);
    (void)bed_device("e", LINK_AUTH);
    expect("another device's",
           bed_ask("iothubowner", "PUT", "/devices/e/modules/m07", NULL, "{\"moduleId\":\"m07\"}"),
           200, "");
}

static void kinds(void **state)
{
    (void)state;
    static const struct {
        const char *id, *more, *type;
    } rows[] = {
        {"k1", ",\"authentication\":{\"type\":\"none\"}", "\"sas\""},
        {"k2", ",\"managedBy\":\"iotEdge\",\"authentication\":{\"type\":\"none\"}", "\"none\""},
        {"k3", ",\"authentication\":{\"type\":\"certificateAuthority\"}",
         "\"certificateAuthority\""},
        {"k4", ",\"authentication\":{\"type\":\"selfSigned\"}", "\"selfSigned\""},
        {"k5", ",\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"\",\"secondaryKey\":\"\"}}",
         "\"sas\""},
        {"k6", ",\"authentication\":null", "\"sas\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char path[64];
        put_module(rows[i].id, rows[i].more);
        (void)snprintf(path, sizeof path, "/devices/d/modules/%s", rows[i].id);
        struct reply r = bed_ask("registryRead", "GET", path, NULL, NULL);
        assert_string_equal(member(r.body, "authentication.type"), rows[i].type);
        bool has_key =
            strcmp(member(r.body, "authentication.symmetricKey.primaryKey"), "null") != 0;
        assert_int_equal(has_key, strcmp(rows[i].type, "\"sas\"") == 0);
        reply_done(&r);
    }
}

/* --- the device itself (2.3) ------------------------------------------------------------------------ */

static struct reply by_device(const char *id, const char *key, const char *method, const char *path,
                              const char *header, const char *body)
{
    char token[1024], sr[256];
    uint8_t raw[64];
    size_t n = sizeof raw;
    assert_ok(base64_decode_to(span_str(key), raw, &n));
    (void)snprintf(sr, sizeof sr, BED_HOST "/devices/%s", id);
    bed_token(token, sr, span_of(raw, n), NULL, 3600);
    return bed_ask_raw(token, method, path, header, body);
}

static void own_modules(void **state)
{
    (void)state;
    static const char body[] = "{\"moduleId\":\"m=1\",\"managedBy\":\"x\",\"deviceId\":\"d\"}";
    static const char path[] = "/devices/d/modules/m%3D1?api-version=2017-11-08-preview";
    expect("create", by_device("d", OTHER_KEY, "PUT", path, NULL, body), 200, "");
    expect("update", by_device("d", OTHER_KEY, "PUT", path, "If-Match: *", body), 200, "");
    expect("get", by_device("d", OTHER_KEY, "GET", path, NULL, NULL), 200, "");
    struct reply r = by_device("d", OTHER_KEY, "GET", "/devices/d/modules", NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(count_of(r.body), 1);
    reply_done(&r);
    r = by_device("d", OTHER_KEY, "GET", "/devices/d", NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(member(r.body, "authentication.symmetricKey.primaryKey"),
                        "\"" OTHER_KEY "\"");
    reply_done(&r);
    expect("delete", by_device("d", OTHER_KEY, "DELETE", path, "If-Match: *", NULL), 204, "");
    (void)bed_device("d2", LINK_AUTH);
    static const struct {
        const char *name, *id, *key, *method, *path, *header, *body;
    } rows[] = {
        {"6a: another device's modules", "d", OTHER_KEY, "GET", "/devices/d2/modules", NULL, NULL},
        {"6a: the device", "d", OTHER_KEY, "PUT", "/devices/d", "If-Match: *",
         "{\"deviceId\":\"d\"}"},
        {"6a: deleting the device", "d", OTHER_KEY, "DELETE", "/devices/d", "If-Match: *", NULL},
        {"6a: its twin", "d", OTHER_KEY, "GET", "/twins/d", NULL, NULL},
        {"6a: a query", "d", OTHER_KEY, "POST", "/devices/query", NULL, "{}"},
        {"another device", "d", OTHER_KEY, "GET", "/devices/d2", NULL, NULL},
        {"wrong key", "d", LINK_KEY, "GET", "/devices/d/modules", NULL, NULL},
        {"unknown device", "x", LINK_KEY, "GET", "/devices/x/modules", NULL, NULL},
        {"a longer id", "d", OTHER_KEY, "GET", "/devices/dd/modules", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        r = by_device(rows[i].id, rows[i].key, rows[i].method, rows[i].path, rows[i].header,
                      rows[i].body);
        expect(rows[i].name, r, 401, "IotHubUnauthorizedAccess");
    }
    put_device(",\"status\":\"disabled\"");
    expect("6b: disabled", by_device("d", OTHER_KEY, "GET", "/devices/d/modules", NULL, NULL), 401,
           "IotHubUnauthorizedAccess");
    expect("a policy still may", bed_ask("registryRead", "GET", "/devices/d/modules", NULL, NULL),
           200, "");
}

/* --- links --------------------------------------------------------------------------------------- */

static int code_of(struct hello h)
{
    struct peer *p = peer_new();
    peer_hello(p, h);
    int code = peer_connack(p);
    peer_end(p);
    return code;
}

static const char *token_over(const char *sr, struct span key, const char *skn)
{
    static char token[1024];
    bed_token(token, sr, key, skn, 3600);
    return token;
}

static struct span key_of(const char *b64)
{
    static uint8_t raw[64];
    size_t n = sizeof raw;
    assert_ok(base64_decode_to(span_str(b64), raw, &n));
    return span_of(raw, n);
}

static void credentials(void **state)
{
    (void)state;
    put_module("m", M_AUTH);
    put_module("none", ",\"managedBy\":\"iotEdge\",\"authentication\":{\"type\":\"none\"}");
    const struct {
        const char *name, *id, *sr, *key, *skn;
        int code;
    } rows[] = {
        {"its key", "d/m", BED_HOST "/devices/d/modules/m", LINK_KEY, NULL, 0},
        {"its second key", "d/m", BED_HOST "/devices/d/modules/m", LINK_KEY2, NULL, 0},
        {"sas S16: the device's token", "d/m", BED_HOST "/devices/d", OTHER_KEY, NULL, 5},
        {"the device's key for its resource", "d/m", BED_HOST "/devices/d/modules/m", OTHER_KEY,
         NULL, 5},
        {"another module's token", "d/m", BED_HOST "/devices/d/modules/n", LINK_KEY, NULL, 5},
        {"part of an id", "d/m", BED_HOST "/devices/d/modules/mm", LINK_KEY, NULL, 5},
        {"its token for the device", "d", BED_HOST "/devices/d/modules/m", LINK_KEY, NULL, 5},
        {"unknown module", "d/n", BED_HOST "/devices/d/modules/n", LINK_KEY, NULL, 5},
        {"unknown device", "x/m", BED_HOST "/devices/x/modules/m", LINK_KEY, NULL, 5},
        {"a bad id", "d/a b", BED_HOST "/devices/d/modules/a b", LINK_KEY, NULL, 5},
        {"no credential", "d/none", BED_HOST "/devices/d/modules/none", LINK_KEY, NULL, 5},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char user[256];
        (void)snprintf(user, sizeof user, BED_HOST "/%s", rows[i].id);
        int code = code_of(
            (struct hello){.id = rows[i].id,
                           .username = user,
                           .password = token_over(rows[i].sr, key_of(rows[i].key), rows[i].skn)});
        if (code != rows[i].code) {
            fail_msg("%s: %d", rows[i].name, code);
        }
    }
    static const char *const over[] = {BED_HOST, BED_HOST "/devices/d",
                                       BED_HOST "/devices/d/modules/m"};
    for (size_t i = 0; i < ARRAY_LEN(over);
         i++) { /* a policy with DeviceConnect speaks for any below its sr */
        assert_int_equal(
            code_of((struct hello){.id = "d/m",
                                   .password =
                                       token_over(over[i], bed_policy_key("device", 0), "device")}),
            0);
    }
    assert_int_equal(
        code_of((struct hello){.id = "d/m",
                               .password =
                                   token_over(BED_HOST, bed_policy_key("service", 0), "service")}),
        5);
    assert_int_equal(code_of((struct hello){.id = "d/m/x"}), 2);
    assert_int_equal(code_of((struct hello){.id = "d/m", .username = BED_HOST "/d/n"}), 2);
    put_device(",\"status\":\"disabled\"");
    assert_int_equal(code_of((struct hello){.id = "d/m",
                                            .password = token_over(BED_HOST "/devices/d/modules/m",
                                                                   key_of(LINK_KEY), NULL)}),
                     5);
    put_device("");
    assert_int_equal(code_of((struct hello){.id = "d/m",
                                            .password = token_over(BED_HOST "/devices/d/modules/m",
                                                                   key_of(LINK_KEY), NULL)}),
                     0);
}

static struct peer *link_of(const char *id, const char *sr, const char *key)
{
    return peer_connect(
        (struct hello){.id = id, .password = token_over(sr, key_of(key), NULL), .clean = true});
}
static struct peer *link_m(void)
{
    return link_of("d/m", BED_HOST "/devices/d/modules/m", LINK_KEY);
}
static struct peer *link_d(void)
{
    return link_of("d", BED_HOST "/devices/d", OTHER_KEY);
}

/* hub-mqtt:M11. */
static void both_live(void **state)
{
    (void)state;
    char row[8192];
    put_module("m", M_AUTH);
    put_module("n", M_AUTH);
    struct peer *d = link_d(), *m = link_m();
    struct peer *n = link_of("d/n", BED_HOST "/devices/d/modules/n", LINK_KEY);
    assert_int_equal(directory_count(bed.hub.directory), 3);
    assert_true(peer_is_quiet(d) && peer_is_quiet(m) && peer_is_quiet(n));
    peer_publish(m, EVENTS "a=1&%24.on=out/", SPAN_LIT("hello"), 1, 9);
    assert_int_equal(peer_puback(m), 9);
    assert_int_equal(link_rows(row, sizeof row), 1);
    assert_non_null(strstr(row, "\"iothub-connection-device-id\":\"d\""));
    assert_non_null(strstr(row, "\"iothub-connection-module-id\":\"m\""));
    assert_non_null(strstr(row, "\\\"scope\\\":\\\"module\\\""));
    assert_non_null(strstr(row, "|hello"));
    struct reply r = bed_ask("registryRead", "GET", "/devices/d/modules/m", NULL, NULL);
    assert_string_equal(member(r.body, "connectionState"), "\"Connected\"");
    reply_done(&r);
    struct peer *again = link_m(); /* takes over from itself alone */
    assert_true(peer_is_closed(m));
    assert_true(peer_is_quiet(d) && peer_is_quiet(n) && peer_is_quiet(again));
    peer_end(d);
    peer_end(m);
    peer_end(n);
    peer_end(again);
}

static struct reply post_events(const char *path, const char *sr, const char *key)
{
    return bed_ask_raw(token_over(sr, key_of(key), NULL), "POST", path, NULL, "over HTTPS");
}

static void over_https(void **state)
{
    (void)state;
    static const char own[] = BED_HOST "/devices/d/modules/m",
                      path[] = "/devices/d/modules/m/messages/events";
    char row[8192];
    put_module("m", M_AUTH);
    expect("its key", post_events(path, own, LINK_KEY), 204, "");
    assert_int_equal(link_rows(row, sizeof row), 1);
    assert_non_null(strstr(row, "\"iothub-connection-module-id\":\"m\""));
    assert_non_null(strstr(row, "|over HTTPS"));
    expect("sas S16: the device's token", post_events(path, BED_HOST "/devices/d", OTHER_KEY), 401,
           "IotHubUnauthorizedAccess");
    expect("its token, for the device", post_events("/devices/d/messages/events", own, LINK_KEY),
           401, "IotHubUnauthorizedAccess");
    expect("unknown", post_events("/devices/d/modules/n/messages/events", own, LINK_KEY), 401,
           "IotHubUnauthorizedAccess");
    expect("the device, as ever",
           post_events("/devices/d/messages/events", BED_HOST "/devices/d", OTHER_KEY), 204, "");
    assert_int_equal(link_rows(row, sizeof row), 2);
    assert_null(strstr(row, "module-id"));
    put_device(",\"status\":\"disabled\"");
    expect("device disabled", post_events(path, own, LINK_KEY), 401, "IotHubUnauthorizedAccess");
}

static void filters(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        int code;
        bool stays;
    } rows[] = {
        {"$iothub/twin/res/#", 1, true},
        {"$iothub/twin/PATCH/properties/desired/#", 1, true},
        {"devices/d/modules/m/#", 0x80, true}, /* known, not offered: the link stays */
        {"devices/d/modules/m/inputs/#", 0x80, true},
        {"devices/d/modules/m/messages/devicebound/#", 0x80, true},
        {"$iothub/methods/POST/#", 0x80, true},
        {"$iothub/credentials/res/#", 0x80, true},
        {"$iothub/streams/POST/#", 0x80, true},            /* hub-mqtt:M21a: off in this bed */
        {"devices/d/messages/devicebound/#", 0x80, false}, /* its device's */
        {"devices/+/messages/devicebound/#", 0x80, false},
        {"devices/d/modules/n/#", 0x80, false},
        {"devices/x/modules/m/#", 0x80, false},
        {"devices/d/modules/m/messages/events/#", 0x80, false},
        {"#", 0x80, false},
    };
    put_module("m", M_AUTH);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer *p = link_m();
        int code = peer_subscribe(p, rows[i].filter, 1);
        bool stays = code < 0x80 || rows[i].stays ? peer_is_quiet(p) : !peer_is_closed(p);
        if (code != rows[i].code || stays != rows[i].stays) {
            fail_msg("%s: %d, %d", rows[i].filter, code, stays);
        }
        peer_end(p);
    }
}

static void foreign_topics(void **state)
{
    (void)state;
    static const struct {
        const char *id, *topic;
    } rows[] = {
        {"d/m", "devices/d/messages/events/"},
        {"d/m", "devices/d/modules/n/messages/events/"},
        {"d/m", "devices/x/modules/m/messages/events/"},
        {"d", EVENTS},
    };
    put_module("m", M_AUTH);
    put_module("n", M_AUTH);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer *p = strcmp(rows[i].id, "d") == 0 ? link_d() : link_m();
        peer_publish(p, rows[i].topic, SPAN_LIT("x"), 1, 5);
        assert_int_equal(peer_puback(p), 0); /* closed */
        peer_end(p);
    }
    assert_int_equal(link_rows(NULL, 0), 0);
    const char *token = token_over(BED_HOST "/devices/d/modules/m", key_of(LINK_KEY), NULL);
    assert_int_equal(code_of((struct hello){.id = "d/m",
                                            .password = token,
                                            .will_topic = "devices/d/messages/events/",
                                            .will = "w"}),
                     5);
    assert_int_equal(
        code_of((struct hello){.id = "d/m", .password = token, .will_topic = EVENTS, .will = "w"}),
        0);
}

static void twin(void **state)
{
    (void)state;
    put_module("m", M_AUTH);
    struct reply r = bed_ask("service", "GET", "/twins/d/modules/m", NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(member(r.body, "moduleId"), "\"m\"");
    assert_string_equal(member(r.body, "etag"), "\"AAAAAAAAAAE=\"");
    reply_done(&r);
    struct peer *m = link_m();
    assert_int_equal(peer_subscribe(m, "$iothub/twin/res/#", 0), 0);
    assert_int_equal(peer_subscribe(m, "$iothub/twin/PATCH/properties/desired/#", 0), 0);
    peer_publish(m, "$iothub/twin/PATCH/properties/reported/?$rid=1", SPAN_LIT("{\"a\":1}"), 0, 0);
    assert_string_equal(peer_message(m), "$iothub/twin/res/204/?$rid=1&$version=2 ");
    expect("desired",
           bed_ask("service", "PATCH", "/twins/d/modules/m",
                   "AAAAAAAAAAE=", "{\"properties\":{\"desired\":{\"b\":2}}}"),
           200, "");
    assert_non_null(strstr(peer_message(m), "\"b\":2"));
    r = bed_ask("service", "PATCH", "/twins/d/modules/m", "AAAAAAAAAAE=", "{\"tags\":{}}");
    assert_non_null(strstr(r.body, "device ID 'd', module ID 'm'"));
    expect("stale", r, 412, "PreconditionFailed");
    r = bed_ask("service", "GET", "/twins/d/modules/m", NULL, NULL);
    assert_string_equal(member(r.body, "properties.reported.a"), "1");
    reply_done(&r);
    r = bed_ask("service", "GET", "/twins/d", NULL, NULL); /* another twin */
    assert_string_equal(member(r.body, "properties.reported.a"), "");
    assert_string_equal(member(r.body, "properties.desired.b"), "");
    assert_string_equal(member(r.body, "moduleId"), "");
    reply_done(&r);
    peer_end(m);
}

/* --- they go with their device ------------------------------------------------------------------- */

static void device_ends(void **state)
{
    (void)state;
    static const struct {
        const char *name, *who, *method, *path, *if_match, *body;
        bool stays; /* the module is there and works again when the device does */
    } rows[] = {
        {"disabled", "iothubowner", "PUT", "/devices/d", "*",
         "{\"deviceId\":\"d\",\"status\":\"disabled\"}", true},
        {"frozen by provisioning", "dps", "PATCH",
         "/provision/devices/d?api-version=2026-11-01-berth", NULL,
         "{\"operationId\":\"op1\",\"owner\":\"s/individual/e\",\"mayAdopt\":true,"
         "\"status\":\"frozen\"}",
         true},
        {"deleted", "iothubowner", "DELETE", "/devices/d", "*", NULL, false},
        {"module deleted", "iothubowner", "DELETE", "/devices/d/modules/m", "*", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply gone = bed_ask("iothubowner", "DELETE", "/devices/d", "*", NULL);
        reply_done(&gone); /* of the row before */
        (void)bed_device("d", SAS_OF(OTHER_KEY));
        put_module("m", M_AUTH);
        struct peer *m = link_m();
        struct reply r =
            bed_ask(rows[i].who, rows[i].method, rows[i].path, rows[i].if_match, rows[i].body);
        if (r.status != 200 && r.status != 204) {
            fail_msg("%s: %u %s", rows[i].name, r.status, r.body);
        }
        reply_done(&r);
        assert_true(peer_is_closed(m));
        peer_end(m);
        assert_int_equal(
            code_of((struct hello){
                .id = "d/m",
                .password = token_over(BED_HOST "/devices/d/modules/m", key_of(LINK_KEY), NULL)}),
            5);
        r = bed_ask("registryRead", "GET", "/devices/d/modules/m", NULL, NULL);
        assert_int_equal(r.status, rows[i].stays ? 200 : 404);
        reply_done(&r);
    }
}

static int64_t module;

/* What is left of the identity: row, twin, stored filters. */
static enum err left[3];
static enum err left_tx(struct store_tx *tx, struct store_op *op)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    struct device d;
    struct twin t;
    int64_t filters;
    (void)op;
    left[0] = hub_sql_device_by_identity(tx->db, &a, module, &d);
    left[1] = hub_sql_twin_get(tx->db, &a, module, &t);
    left[2] = hub_sql_session_get(tx->db, module, &filters);
    return OK;
}

static void all_left_are(enum err e)
{
    assert_ok(bed_tx(left_tx));
    for (size_t i = 0; i < ARRAY_LEN(left); i++) {
        assert_int_equal(left[i], e);
    }
}

/* By the provisioning service too, whole: rows, twin, stored filters. A new device of that name has none of it. */
static void nothing_is_left(void **state)
{
    (void)state;
    static const char P[] = "/provision/devices/d?api-version=2026-11-01-berth";
    put_module("m", M_AUTH);
    struct peer *m = peer_connect((struct hello){
        .id = "d/m",
        .password = token_over(BED_HOST "/devices/d/modules/m", key_of(LINK_KEY), NULL)});
    assert_int_equal(peer_subscribe(m, "$iothub/twin/res/#", 1), 1);
    peer_publish(m, "$iothub/twin/PATCH/properties/reported/?$rid=1", SPAN_LIT("{\"a\":1}"), 0, 0);
    assert_string_not_equal(peer_message(m), "");
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    struct device d;
    assert_ok(registry_get_module(&bed.worker, &a, SPAN_LIT("d"), SPAN_LIT("m"), &d));
    module = d.identity;
    all_left_are(OK);
    expect("adopted",
           bed_ask("dps", "PATCH", P, NULL,
                   "{\"operationId\":\"op1\",\"owner\":\"s/individual/e\",\"mayAdopt\":true,"
                   "\"status\":\"enabled\"}"),
           200, "");
    assert_true(peer_is_quiet(m));
    expect("deleted",
           bed_ask("dps", "DELETE",
                   "/provision/devices/d?api-version=2026-11-01-berth&owner=s%2Findividual%2Fe",
                   NULL, NULL),
           204, "");
    assert_true(peer_is_closed(m));
    peer_end(m);
    bed_idle();
    all_left_are(E_NOT_FOUND);
    (void)bed_device("d", SAS_OF(OTHER_KEY));
    assert_int_equal(count_modules(), 0);
}

static void rekeyed(void **state)
{
    (void)state;
    put_module("m", M_AUTH);
    struct peer *m = link_m(), *d = link_d();
    expect("new keys",
           bed_ask("iothubowner", "PUT", "/devices/d/modules/m", "*", "{\"moduleId\":\"m\"}"), 200,
           "");
    assert_true(peer_is_closed(m));
    assert_true(peer_is_quiet(d));
    put_device(""); /* the device's own keys say nothing about its modules */
    peer_end(m);
    peer_end(d);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, link_teardown)

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        T(life),           T(matrix),      T(bad_input),   T(fifty),           T(kinds),
        T(own_modules),    T(credentials), T(both_live),   T(over_https),      T(filters),
        T(foreign_topics), T(twin),        T(device_ends), T(nothing_is_left), T(rekeyed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
