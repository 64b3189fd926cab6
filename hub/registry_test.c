/* SPDX-License-Identifier: Apache-2.0 */
/* Device identities over their REST face: docs/protocol/hub-service-rest.md 1 to 5, 19. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "hub/tests/bed.h"

#define K16 "MDEyMzQ1Njc4OWFiY2RlZg==" /* 16 bytes */
#define K32A "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define K32B "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
#define K8 "MDEyMzQ1Njc="
#define T40 "0123456789abcdef0123456789ABCDEF01234567"
#define T64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"
#define ID128                                                                                      \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"                             \
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define S128 ID128

static void expect(const struct reply *r, const char *name, unsigned status, const char *code)
{
    if (r->status != status || strcmp(r->code, code) != 0) {
        fail_msg("%s: %u %s, wanted %u %s: %s", name, r->status, r->code, status, code, r->body);
    }
    if (status >= 400) {
        /* The code inside the body equals the header: one SDK checks it (row 49). */
        char want[128];
        (void)snprintf(want, sizeof want, "{\"Message\":\"ErrorCode:%s;", code);
        assert_true(strncmp(r->body, want, strlen(want)) == 0);
        assert_non_null(strstr(r->body, "\"ExceptionMessage\":\"Tracking ID:"));
        assert_non_null(strstr(r->body, "-TimeStamp:"));
    }
    assert_non_null(strstr(r->head, "x-ms-request-id: "));
}

/* --- creating --------------------------------------------------------------------------------- */

static void create_smallest(void **state)
{
    (void)state;
    char quoted[64];
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/x", "\"\"", "{\"deviceId\":\"x\"}");
    expect(&r, "create", 200, "");
    assert_string_equal(member(r.body, "deviceId"), "\"x\"");
    assert_string_equal(member(r.body, "connectionState"), "\"Disconnected\"");
    assert_string_equal(member(r.body, "status"), "\"enabled\"");
    assert_string_equal(member(r.body, "statusReason"), "null");
    assert_string_equal(member(r.body, "lastActivityTime"), "\"0001-01-01T00:00:00Z\"");
    assert_string_equal(member(r.body, "cloudToDeviceMessageCount"), "0");
    assert_string_equal(member(r.body, "authentication.type"), "\"sas\"");
    assert_string_equal(member(r.body, "authentication.x509Thumbprint"),
                        "{\"primaryThumbprint\":null,\"secondaryThumbprint\":null}");
    assert_string_equal(member(r.body, "capabilities"), "{\"iotEdge\":false}");
    assert_int_equal(strlen(member(r.body, "authentication.symmetricKey.primaryKey")), 46);
    assert_int_equal(strlen(member(r.body, "authentication.symmetricKey.secondaryKey")), 46);
    assert_string_not_equal(member(r.body, "authentication.symmetricKey.primaryKey"),
                            member(r.body, "authentication.symmetricKey.secondaryKey"));
    assert_int_equal(strlen(member(r.body, "generationId")), 20);
    (void)snprintf(quoted, sizeof quoted, "%s", member(r.body, "etag"));
    assert_string_equal(r.etag, quoted); /* the header in quotes equals the JSON text */
    assert_non_null(strstr(r.head, "Content-Type: application/json; charset=utf-8\r\n"));
    assert_non_null(strstr(r.head, "Vary: Origin\r\n"));
    struct reply g = bed_ask("registryRead", "GET", "/devices/x", NULL, NULL);
    assert_string_equal(g.body, r.body);
    assert_string_equal(g.etag, r.etag);
    reply_done(&g);
    reply_done(&r);
}

static void keeps_what_is_given(void **state)
{
    (void)state;
    static const char body[] =
        "{\"DEVICEID\":\"x\",\"Status\":\"Disabled\",\"statusReason\":\"why \\u00e4\","
        "\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"" K32A "\",\"secondaryKey\":\"" K16
        "\"}},\"capabilities\":{\"iotEdge\":true},"
        "\"etag\":\"zzz\",\"somethingElse\":[1]}";
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/x", NULL, body);
    expect(&r, "create", 200, "");
    assert_string_equal(member(r.body, "status"), "\"disabled\"");
    assert_string_equal(member(r.body, "statusReason"), "\"why \xc3\xa4\"");
    assert_string_equal(member(r.body, "authentication.symmetricKey"),
                        "{\"primaryKey\":\"" K32A "\",\"secondaryKey\":\"" K16 "\"}");
    assert_string_equal(member(r.body, "capabilities.iotEdge"), "true");
    reply_done(&r);
    bed_restart();
    r = bed_ask("iothubowner", "GET", "/devices/x", NULL, NULL);
    assert_string_equal(member(r.body, "authentication.symmetricKey.primaryKey"), "\"" K32A "\"");
    reply_done(&r);
}

static void types(void **state)
{
    (void)state;
    static const struct {
        const char *name, *authentication, *type, *thumbprints;
    } rows[] = {
        {"self-signed",
         "{\"type\":\"SELFsigned\",\"x509Thumbprint\":{\"primaryThumbprint\":\"" T40 "\"}}",
         "\"selfSigned\"", "{\"primaryThumbprint\":\"" T40 "\",\"secondaryThumbprint\":null}"},
        {"inferred",
         "{\"x509Thumbprint\":{\"primaryThumbprint\":\"" T40 "\",\"secondaryThumbprint\":\"" T64
         "\"}}",
         "\"selfSigned\"",
         "{\"primaryThumbprint\":\"" T40 "\",\"secondaryThumbprint\":\"" T64 "\"}"},
        {"no thumbprints", "{\"type\":\"selfSigned\"}", "\"selfSigned\"",
         "{\"primaryThumbprint\":null,\"secondaryThumbprint\":null}"},
        {"CA", "{\"type\":\"certificateAuthority\",\"symmetricKey\":{\"primaryKey\":\"x\"}}",
         "\"certificateAuthority\"", "{\"primaryThumbprint\":null,\"secondaryThumbprint\":null}"},
        {"empty strings", "{\"symmetricKey\":{\"primaryKey\":\"\",\"secondaryKey\":\"\"}}",
         "\"sas\"", "{\"primaryThumbprint\":null,\"secondaryThumbprint\":null}"},
        {"nulls",
         "{\"type\":null,\"symmetricKey\":null,\"x509Thumbprint\":{\"primaryThumbprint\":null}}",
         "\"sas\"", "{\"primaryThumbprint\":null,\"secondaryThumbprint\":null}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char body[1024], path[64];
        (void)snprintf(path, sizeof path, "/devices/d%zu", i);
        (void)snprintf(body, sizeof body, "{\"deviceId\":\"d%zu\",\"authentication\":%s}", i,
                       rows[i].authentication);
        struct reply r = bed_ask("iothubowner", "PUT", path, NULL, body);
        expect(&r, rows[i].name, 200, "");
        assert_string_equal(member(r.body, "authentication.type"), rows[i].type);
        assert_string_equal(member(r.body, "authentication.x509Thumbprint"), rows[i].thumbprints);
        bool has_keys = strcmp(rows[i].type, "\"sas\"") == 0;
        assert_int_equal(strcmp(member(r.body, "authentication.symmetricKey.primaryKey"), "null") !=
                             0,
                         has_keys);
        reply_done(&r);
    }
}

static void special_ids(void **state)
{
    (void)state;
    static const struct {
        const char *id, *path;
    } rows[] = {
        {"a-b:c.d_e!(f),=@;$'*", "a-b:c.d_e!(f),=@;$'*"},
        {"p%q", "p%25q"},
        {"h#i", "h%23i"},
        {"q?r", "q%3Fr"},
        {"s+t", "s+t"},
        {"u+v", "u%2Bv"},
        {"Dev", "Dev"},
        {"dev", "dev"},
        {"query", "query"},
        {ID128, ID128},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char path[512], body[256], want[256];
        (void)snprintf(path, sizeof path, "/devices/%s", rows[i].path);
        (void)snprintf(body, sizeof body, "{\"deviceId\":\"%s\"}", rows[i].id);
        struct reply r = bed_ask("iothubowner", "PUT", path, NULL, body);
        expect(&r, rows[i].id, 200, "");
        reply_done(&r);
        (void)snprintf(path, sizeof path, "/DEVICES/%s/", rows[i].path);
        r = bed_ask("iothubowner", "GET", path, NULL, NULL);
        expect(&r, rows[i].id, 200, "");
        (void)snprintf(want, sizeof want, "\"%s\"", rows[i].id);
        assert_string_equal(member(r.body, "deviceId"), want);
        reply_done(&r);
        (void)snprintf(path, sizeof path, "/twins/%s", rows[i].path);
        r = bed_ask("iothubowner", "GET", path, NULL, NULL);
        expect(&r, rows[i].id, 200, "");
        reply_done(&r);
    }
}

/* --- the matrix of 4.3 ------------------------------------------------------------------------- */

static void matrix(void **state)
{
    (void)state;
    static const struct {
        const char *name, *method;
        bool exists;
        const char *if_match; /* "=": the current one bare, "q": quoted, "w": weak */
        unsigned status;
        const char *code;
    } rows[] = {
        {"PUT, no If-Match, missing", "PUT", false, NULL, 200, ""},
        {"PUT, empty If-Match, missing", "PUT", false, "", 200, ""},
        {"PUT, quoted empty, missing", "PUT", false, "\"\"", 200, ""},
        {"PUT, no If-Match, exists", "PUT", true, NULL, 409, "DeviceAlreadyExists"},
        {"PUT, If-Match *, missing", "PUT", false, "*", 404, "DeviceNotFound"},
        {"PUT, If-Match etag, missing", "PUT", false, "\"NzI3ODk0ODYz\"", 404, "DeviceNotFound"},
        {"PUT, bare *", "PUT", true, "*", 200, ""},
        {"PUT, quoted *", "PUT", true, "\"*\"", 200, ""},
        {"PUT, bare etag", "PUT", true, "=", 200, ""},
        {"PUT, quoted etag", "PUT", true, "q", 200, ""},
        {"PUT, weak etag", "PUT", true, "w", 200, ""},
        {"PUT, stale", "PUT", true, "\"NzI3ODk0ODYz\"", 412, "PreconditionFailed"},
        {"PUT, garbage", "PUT", true, "what", 412, "PreconditionFailed"},
        {"PUT, list", "PUT", true, "\"a\", \"b\"", 400, "ArgumentInvalid"},
        {"DELETE, no If-Match, missing", "DELETE", false, NULL, 412, "PreconditionFailed"},
        {"DELETE, no If-Match, exists", "DELETE", true, NULL, 412, "PreconditionFailed"},
        {"DELETE, If-Match, missing", "DELETE", false, "*", 404, "DeviceNotFound"},
        {"DELETE, *", "DELETE", true, "*", 204, ""},
        {"DELETE, etag", "DELETE", true, "q", 204, ""},
        {"DELETE, stale", "DELETE", true, "\"NzI3ODk0ODYz\"", 412, "PreconditionFailed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char path[64], body[64], match[64], etag[64] = "";
        (void)snprintf(path, sizeof path, "/devices/m%zu", i);
        (void)snprintf(body, sizeof body, "{\"deviceId\":\"m%zu\"}", i);
        if (rows[i].exists) {
            struct reply r = bed_ask("iothubowner", "PUT", path, NULL, body);
            expect(&r, "create", 200, "");
            (void)snprintf(etag, sizeof etag, "%s", r.etag);
            reply_done(&r);
        }
        const char *m = rows[i].if_match;
        if (m != NULL && strcmp(m, "=") == 0) {
            (void)snprintf(match, sizeof match, "%.*s", (int)strlen(etag) - 2, etag + 1);
            m = match;
        } else if (m != NULL && strcmp(m, "q") == 0) {
            m = etag;
        } else if (m != NULL && strcmp(m, "w") == 0) {
            (void)snprintf(match, sizeof match, "W/%s", etag);
            m = match;
        }
        struct reply r = bed_ask("iothubowner", rows[i].method, path, m,
                                 strcmp(rows[i].method, "PUT") == 0 ? body : NULL);
        expect(&r, rows[i].name, rows[i].status, rows[i].code);
        if (rows[i].status == 204) {
            assert_string_equal(r.body, "");
            assert_null(strstr(r.head, "Content-Type"));
        }
        reply_done(&r);
    }
}

static uint64_t etag_number(const char *quoted)
{
    uint8_t b[24];
    size_t n = sizeof b;
    uint64_t v = 0;
    struct span s = span_sub(span_str(quoted), 1, strlen(quoted) - 2);
    assert_ok(base64_decode_to(s, b, &n));
    assert_true(span_to_u64(span_of(b, n), &v));
    return v;
}

static void etag_counts_and_texts(void **state)
{
    (void)state;
    char want[256];
    struct reply a = bed_ask("iothubowner", "PUT", "/devices/x", NULL, "{\"deviceId\":\"x\"}");
    struct reply b = bed_ask("iothubowner", "PUT", "/devices/x", "*", "{\"deviceId\":\"x\"}");
    assert_int_equal(etag_number(b.etag), etag_number(a.etag) + 1);
    /* an update without authentication makes new keys */
    assert_string_not_equal(member(a.body, "authentication.symmetricKey.primaryKey"),
                            member(b.body, "authentication.symmetricKey.primaryKey"));
    assert_string_equal(member(a.body, "generationId"), member(b.body, "generationId"));
    struct reply c = bed_ask("iothubowner", "PUT", "/devices/x", a.etag, "{\"deviceId\":\"x\"}");
    (void)snprintf(want, sizeof want,
                   "ErrorCode:PreconditionFailed;Precondition failed: Device version did not "
                   "match, existingVersion:%llu newVersion:%llu",
                   (unsigned long long)etag_number(b.etag),
                   (unsigned long long)etag_number(a.etag));
    assert_non_null(strstr(c.body, want));
    struct reply d = bed_ask("iothubowner", "DELETE", "/devices/x", NULL, NULL);
    assert_non_null(strstr(d.body, "ErrorCode:PreconditionFailed;Etag missing"));
    struct reply e = bed_ask("iothubowner", "GET", "/devices/none", NULL, NULL);
    assert_non_null(strstr(e.body, "ErrorCode:DeviceNotFound;none\""));
    struct reply f = bed_ask("iothubowner", "PUT", "/devices/x", NULL, "{\"deviceId\":\"x\"}");
    assert_non_null(strstr(f.body, "ErrorCode:DeviceAlreadyExists;Conflict\""));
    reply_done(&a);
    reply_done(&b);
    reply_done(&c);
    reply_done(&d);
    reply_done(&e);
    reply_done(&f);
}

static void delete_and_create_again(void **state)
{
    (void)state;
    int64_t first = bed_device("x", NULL);
    struct reply t = bed_ask("iothubowner", "PATCH", "/twins/x", NULL, "{\"tags\":{\"a\":1}}");
    expect(&t, "tags", 200, "");
    struct reply a = bed_ask("iothubowner", "GET", "/devices/x", NULL, NULL);
    struct reply d = bed_ask("iothubowner", "DELETE", "/devices/x", "*", NULL);
    expect(&d, "delete", 204, "");
    int64_t second = bed_device("x", NULL);
    assert_true(second > first);
    struct reply b = bed_ask("iothubowner", "GET", "/devices/x", NULL, NULL);
    assert_string_not_equal(member(a.body, "generationId"), member(b.body, "generationId"));
    struct reply u = bed_ask("iothubowner", "GET", "/twins/x", NULL, NULL);
    assert_string_equal(member(u.body, "tags"), "");
    assert_string_equal(member(u.body, "version"), "2");
    /* also when it was the newest row: numbers are never used again */
    struct reply e = bed_ask("iothubowner", "DELETE", "/devices/x", "*", NULL);
    bed_restart();
    assert_true(bed_device("y", NULL) > second);
    reply_done(&t);
    reply_done(&a);
    reply_done(&b);
    reply_done(&d);
    reply_done(&e);
    reply_done(&u);
}

/* --- refusals ---------------------------------------------------------------------------------- */

static void bad_bodies(void **state)
{
    (void)state;
#define AUTH(a) "{\"deviceId\":\"x\",\"authentication\":" a "}"
    static const struct {
        const char *name, *path, *body;
        const char *code;
    } rows[] = {
        {"row 7: 129 characters", "/devices/" ID128 "c", "{\"deviceId\":\"x\"}", "ArgumentInvalid"},
        {"row 7: space", "/devices/a%20b", "{\"deviceId\":\"a b\"}", "ArgumentInvalid"},
        {"row 7: slash", "/devices/a%2Fb", "{\"deviceId\":\"a/b\"}", "ArgumentInvalid"},
        {"row 7: not ASCII", "/devices/%C3%A4", "{\"deviceId\":\"\xc3\xa4\"}", "ArgumentInvalid"},
        {"row 8: other id", "/devices/x", "{\"deviceId\":\"y\"}", "ArgumentInvalid"},
        {"row 8: other case", "/devices/x", "{\"deviceId\":\"X\"}", "ArgumentInvalid"},
        {"no deviceId", "/devices/x", "{}", "ArgumentNull"},
        {"row 9: empty", "/devices/x", "", "ArgumentNull"},
        {"row 9: blanks", "/devices/x", " \r\n", "ArgumentNull"},
        {"row 10: broken", "/devices/x", "{\"deviceId\":", "IotHubFormatError"},
        {"doubled member", "/devices/x", "{\"deviceId\":\"x\",\"deviceId\":\"x\"}",
         "IotHubFormatError"},
        {"array", "/devices/x", "[]", "ArgumentInvalid"},
        {"row 11: one key", "/devices/x", AUTH("{\"symmetricKey\":{\"primaryKey\":\"" K32A "\"}}"),
         "ArgumentInvalid"},
        {"row 11: 8 bytes", "/devices/x",
         AUTH("{\"symmetricKey\":{\"primaryKey\":\"" K8 "\",\"secondaryKey\":\"" K32A "\"}}"),
         "ArgumentInvalid"},
        {"row 11: not base64", "/devices/x",
         AUTH("{\"symmetricKey\":{\"primaryKey\":\"!!\",\"secondaryKey\":\"" K32A "\"}}"),
         "ArgumentInvalid"},
        {"key of 65 bytes", "/devices/x",
         AUTH("{\"symmetricKey\":{\"primaryKey\":\""
              "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2Rl"
              "Zmc="
              "\",\"secondaryKey\":\"" K32A "\"}}"),
         "ArgumentInvalid"},
        {"row 12: colons", "/devices/x",
         AUTH("{\"x509Thumbprint\":{\"primaryThumbprint\":\"01:23:45:67:89:ab:cd:ef:01:23:45:67:"
              "89\"}}"),
         "ArgumentInvalid"},
        {"row 12: 39 digits", "/devices/x",
         AUTH("{\"x509Thumbprint\":{\"secondaryThumbprint\":"
              "\"0123456789abcdef0123456789abcdef0123456\"}}"),
         "ArgumentInvalid"},
        {"row 13: none", "/devices/x", AUTH("{\"type\":\"none\"}"), "ArgumentInvalid"},
        {"row 13: unknown type", "/devices/x", AUTH("{\"type\":\"pin\"}"), "ArgumentInvalid"},
        {"row 13: unknown status", "/devices/x", "{\"deviceId\":\"x\",\"status\":\"maybe\"}",
         "ArgumentInvalid"},
        {"authentication is a string", "/devices/x", AUTH("\"sas\""), "ArgumentInvalid"},
        {"reason of 129", "/devices/x", "{\"deviceId\":\"x\",\"statusReason\":\"" S128 "c\"}",
         "ArgumentInvalid"},
        {"scope of nobody", "/devices/x",
         "{\"deviceId\":\"x\",\"deviceScope\":\"ms-azure-iot-edge://e-1\"}", "ArgumentInvalid"},
        {"iotEdge is a number", "/devices/x",
         "{\"deviceId\":\"x\",\"capabilities\":{\"iotEdge\":1}}", "ArgumentInvalid"},
    };
#undef AUTH
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply r = bed_ask("iothubowner", "PUT", rows[i].path, NULL, rows[i].body);
        expect(&r, rows[i].name, 400, rows[i].code);
        reply_done(&r);
    }
    struct reply r = bed_ask("iothubowner", "GET", "/devices/x", NULL, NULL);
    expect(&r, "nothing was stored", 404, "DeviceNotFound");
    reply_done(&r);
    r = bed_ask("iothubowner", "PUT", "/devices/x", NULL,
                "{\"deviceId\":\"x\",\"statusReason\":\"" S128 "\"}");
    expect(&r, "reason of 128", 200, "");
    reply_done(&r);
}

static void callers(void **state)
{
    (void)state;
    static const struct {
        const char *name, *who, *method, *path;
        unsigned status;
        const char *code, *text;
    } rows[] = {
        {"row 1: no version", "iothubowner", "GET", "/devices/x?api-version=", 400,
         "InvalidProtocolVersion", ";BadRequest"},
        {"row 1: old version", "iothubowner", "GET", "/devices/x?api-version=1999-01-01", 400,
         "InvalidProtocolVersion", ";"},
        {"row 2: no token", NULL, "GET", "/devices/x", 401, "IotHubUnauthorizedAccess",
         ";Authorization header missing"},
        {"row 4: registryRead writes", "registryRead", "PUT", "/devices/x", 401,
         "IotHubUnauthorizedAccess", "Authorization rule 'registryRead' does not allow access for"},
        {"row 5: registryReadWrite reads a twin", "registryReadWrite", "GET", "/twins/x", 401,
         "IotHubUnauthorizedAccess", ";"},
        {"device lists", "device", "GET", "/devices", 401, "IotHubUnauthorizedAccess", ";"},
        {"service reads a device", "service", "GET", "/devices/x", 401, "IotHubUnauthorizedAccess",
         ";"},
        {"dps reads a device with its keys", "dps", "GET", "/devices/x", 401,
         "IotHubUnauthorizedAccess", ";"},
        {"dps reads a twin", "dps", "GET", "/twins/x", 401, "IotHubUnauthorizedAccess", ";"},
        {"unknown path", "iothubowner", "GET", "/nothing", 404, "GenericNotFound", ";"},
        {"wrong verb", "iothubowner", "DELETE", "/twins/x", 405, "GenericMethodNotAllowed", ";"},
        {"row 18", "iothubowner", "GET", "/devices/x", 404, "DeviceNotFound", ";x\""},
        {"not built", "iothubowner", "GET", "/statistics/devices", 404, "GenericNotFound",
         "is not offered by this version"},
        {"not built, no right", "device", "GET", "/statistics/devices", 401,
         "IotHubUnauthorizedAccess", ";"},
        {"not built: query", "service", "POST", "/devices/query", 404, "GenericNotFound",
         "is not offered by this version"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply r = bed_ask(rows[i].who, rows[i].method, rows[i].path, NULL,
                                 rows[i].method[0] == 'P' ? "{\"deviceId\":\"x\"}" : NULL);
        expect(&r, rows[i].name, rows[i].status, rows[i].code);
        if (strstr(r.body, rows[i].text) == NULL) {
            fail_msg("%s: %s", rows[i].name, r.body);
        }
        reply_done(&r);
    }
}

static void tokens(void **state)
{
    (void)state;
    static const struct {
        const char *name, *sr, *skn;
        unsigned key;
        int64_t ttl_s;
        unsigned status;
    } rows[] = {
        {"whole hub", BED_HOST, "iothubowner", 0, 60, 404},
        {"secondary key", BED_HOST, "iothubowner", 1, 60, 404},
        {"other case", "HUB1.example", "iothubowner", 0, 60, 404},
        {"the path", BED_HOST "/devices", "iothubowner", 0, 60, 404},
        {"inside the skew", BED_HOST, "iothubowner", 0, -299, 404},
        {"row 3: expired", BED_HOST, "iothubowner", 0, -301, 401},
        {"row 3: wrong key", BED_HOST, "iothubowner", 9, 60, 401},
        {"row 3: unknown policy", BED_HOST, "nobody", 0, 60, 401},
        {"row 3: another host", "hub2.example", "iothubowner", 0, 60, 401},
        {"row 6: not on a boundary", BED_HOST "/devices/ab", "iothubowner", 0, 60, 401},
        {"a device's token", BED_HOST "/devices/abc", NULL, 0, 60, 401},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char token[1024];
        bed_token(token, rows[i].sr, bed_policy_key("iothubowner", rows[i].key), rows[i].skn,
                  rows[i].ttl_s);
        struct reply r = bed_ask_raw(token, "GET", "/devices/abc", NULL, NULL);
        if (r.status != rows[i].status) {
            fail_msg("%s: %u %s", rows[i].name, r.status, r.body);
        }
        reply_done(&r);
    }
}

static void list(void **state)
{
    (void)state;
    struct reply r = bed_ask("registryRead", "GET", "/devices", NULL, NULL);
    assert_string_equal(r.body, "[]");
    reply_done(&r);
    (void)bed_device("b", NULL);
    (void)bed_device("a", NULL);
    (void)bed_device("c", NULL);
    static const struct {
        const char *path, *last;
    } rows[] = {{"/devices/?top=2", "\"b\""}, {"/devices?top=2", "\"b\""},
                {"/devices?top=0", "\"c\""},  {"/devices?top=1001", "\"c\""},
                {"/devices?top=x", "\"c\""},  {"/devices", "\"c\""}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char whole[16384];
        r = bed_ask("registryRead", "GET", rows[i].path, NULL, NULL);
        assert_int_equal(r.status, 200);
        assert_string_equal(r.etag, "");
        (void)snprintf(whole, sizeof whole, "%s", strrchr(r.body, '['));
        const char *last = r.body;
        for (const char *p = strstr(r.body, "\"deviceId\":"); p != NULL;
             p = strstr(p + 1, "\"deviceId\":")) {
            last = p + strlen("\"deviceId\":");
        }
        assert_true(strncmp(last, rows[i].last, 3) == 0);
        assert_true(strncmp(r.body, "[{\"deviceId\":\"a\"", 16) == 0);
        reply_done(&r);
    }
}

/* --- what others hear -------------------------------------------------------------------------- */

static void notices(void **state)
{
    (void)state;
#define KEYS(a, b)                                                                                 \
    ",\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"" a "\",\"secondaryKey\":\"" b "\"}}"
    static const struct {
        const char *name, *body;
        unsigned heard;
        enum dir_change change;
    } rows[] = {
        {"same keys", "{\"deviceId\":\"x\",\"statusReason\":\"r\"" KEYS(K32A, K16) "}", 0,
         DIR_GONE},
        {"one key", "{\"deviceId\":\"x\"" KEYS(K32A, K32B) "}", 1, DIR_CREDENTIAL},
        {"no keys: new ones", "{\"deviceId\":\"x\"}", 1, DIR_CREDENTIAL},
        {"type", "{\"deviceId\":\"x\",\"authentication\":{\"type\":\"selfSigned\"}}", 1,
         DIR_CREDENTIAL},
        {"same type", "{\"deviceId\":\"x\",\"authentication\":{\"type\":\"selfSigned\"}}", 0,
         DIR_GONE},
        {"disabled",
         "{\"deviceId\":\"x\",\"status\":\"disabled\",\"authentication\":{\"type\":\"selfSigned\"}"
         "}",
         1, DIR_GONE},
    };
    int64_t identity = bed_device("x", "{\"symmetricKey\":{\"primaryKey\":\"" K32A
                                       "\",\"secondaryKey\":\"" K16 "\"}}");
    bed_connect(identity);
    struct reply g = bed_ask("iothubowner", "GET", "/devices/x", NULL, NULL);
    assert_string_equal(member(g.body, "connectionState"), "\"Connected\"");
    reply_done(&g);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bed.changes = 0;
        struct reply r = bed_ask("iothubowner", "PUT", "/devices/x", "*", rows[i].body);
        expect(&r, rows[i].name, 200, "");
        bed_idle();
        if (bed.changes != rows[i].heard ||
            (bed.changes != 0 && bed.last_change != rows[i].change)) {
            fail_msg("%s: heard %u, %d", rows[i].name, bed.changes, (int)bed.last_change);
        }
        reply_done(&r);
    }
    struct reply d = bed_ask("iothubowner", "DELETE", "/devices/x", "*", NULL);
    bed_idle();
    assert_int_equal(bed.last_change, DIR_GONE);
    assert_int_equal(bed.last_change_identity, identity);
    reply_done(&d);
#undef KEYS
}

static void activity(void **state)
{
    (void)state;
    int64_t identity = bed_device("x", NULL);
    struct reply a = bed_ask("iothubowner", "GET", "/devices/x", NULL, NULL);
    registry_note_activity(&bed.worker, identity, BED_NOW_US, 1);
    registry_note_activity(&bed.worker, identity, BED_NOW_US + 1000000, -1);
    registry_note_activity(&bed.worker, identity + 77, BED_NOW_US,
                           1); /* deleted meanwhile: no row is made */
    bed_advance_s(LIMIT_HUB_NOTE_S);
    bed_restart(); /* drains the writer */
    struct reply b = bed_ask("iothubowner", "GET", "/devices/x", NULL, NULL);
    assert_string_equal(member(b.body, "connectionStateUpdatedTime"),
                        "\"2026-01-01T00:00:00.0000000Z\"");
    assert_string_equal(member(b.body, "lastActivityTime"), "\"2026-01-01T00:00:01.0000000Z\"");
    assert_string_equal(a.etag, b.etag);
    reply_done(&a);
    reply_done(&b);
}

static void disk_full(void **state)
{
    (void)state;
    (void)bed_device("x", NULL);
    bed.disk_free = 10;
    bed_restart();
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/y", NULL, "{\"deviceId\":\"y\"}");
    expect(&r, "create", 503, "ServiceUnavailable");
    assert_non_null(strstr(r.head, "Retry-After: "));
    reply_done(&r);
    r = bed_ask("iothubowner", "PUT", "/devices/x", "*",
                "{\"deviceId\":\"x\",\"status\":\"disabled\"}");
    expect(&r, "disabling still works", 200, "");
    reply_done(&r);
    r = bed_ask("iothubowner", "DELETE", "/devices/x", "*", NULL);
    expect(&r, "deleting still works", 204, "");
    reply_done(&r);
    bed.disk_free = UINT64_C(1) << 40;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
        T(create_smallest),
        T(keeps_what_is_given),
        T(types),
        T(special_ids),
        T(matrix),
        T(etag_counts_and_texts),
        T(delete_and_create_again),
        T(bad_bodies),
        T(callers),
        T(tokens),
        T(list),
        T(notices),
        T(activity),
        T(disk_full),
#undef T
    };
    return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
