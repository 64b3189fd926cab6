/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens, policies and the audit trail, over HTTPS against a real process. Rows cite docs/protocol/sas.md (S..) and
 * docs/protocol/dps-service-rest.md part D.
 */
#include "server/tests/asking.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "certs/keyring.h"
#include "server/tests/mini.h"
#include "wire/json.h"

/* --- tokens ------------------------------------------------------------------------------------------- */

static void test_tokens(void **state)
{
    (void)state;
    char upper[64], h[6][128];
    (void)snprintf(h[0], sizeof(h[0]), "%s", fx.address);
    (void)snprintf(h[1], sizeof(h[1]), "%s/devices", fx.address);
    (void)snprintf(h[2], sizeof(h[2]), "%s%%2fdevices%%2Fdev-1", fx.address);
    (void)snprintf(h[3], sizeof(h[3]), "%s/devices/dev", fx.address);
    (void)snprintf(h[4], sizeof(h[4]), "%s/things", fx.address);
    (void)snprintf(upper, sizeof(upper), "MINI.Example");
    const struct {
        const char *name, *sr, *key, *skn;
        long ttl;
        const char *method, *path;
        long status;
        const char *kind;
    } rows[] = {
        /* clang-format off */
        { "V5",                        h[0], fx.key[0], "owner",   60,   "GET", "/whoami", 200, NULL },
        { "S12 within the skew",       h[0], fx.key[0], "owner",   -280, "GET", "/whoami", 200, NULL },
        { "S12 beyond the skew",       h[0], fx.key[0], "owner",   -310, "GET", "/whoami", 401, "E_EXPIRED" },
        { "S13 far future",            h[0], fx.key[0], "owner",   1767225600000, "GET", "/whoami", 200, NULL },
        { "S18 policy, all devices",   h[1], fx.key[2], "device",  60,   "GET", "/devices/dev-1", 200, NULL },
        { "policy, one device",        h[2], fx.key[2], "device",  60,   "GET", "/devices/dev-1", 200, NULL },
        { "S17 segment rule",          h[3], fx.key[2], "device",  60,   "GET", "/devices/dev-1", 401, "E_SCOPE" },
        { "below devices only",        h[1], fx.key[0], "owner",   60,   "GET", "/things/1", 401, "E_SCOPE" },
        { "S19 service as device",     h[0], fx.key[1], "service", 60,   "GET", "/devices/dev-1", 401, "E_OWNED" },
        { "S20 reader writes",         h[0], fx.key[1], "service", 60,   "PUT", "/things/1", 401, "E_OWNED" },
        { "reader reads",              h[0], fx.key[1], "service", 60,   "GET", "/things/1", 200, NULL },
        { "owner writes",              h[4], fx.key[0], "owner",   60,   "PUT", "/things/1", 200, NULL },
        { "S21 unknown policy",        h[0], fx.key[1], "nobody",  60,   "GET", "/things/1", 401, "E_SIGNATURE" },
        { "policy name has case",      h[0], fx.key[1], "Service", 60,   "GET", "/things/1", 401, "E_SIGNATURE" },
        { "key of another policy",     h[0], fx.key[0], "service", 60,   "GET", "/things/1", 401, "E_SIGNATURE" },
        { "no policy",                 h[0], fx.key[1], "",        60,   "GET", "/things/1", 401, "E_TOKEN" },
        { "S22 host in other case",    upper, fx.key[1], "service", 60,  "GET", "/things/1", 200, NULL },
        { "S23 another hub",           "hub2.example", fx.key[1], "service", 60, "GET", "/things/1", 401, "E_SCOPE" },
        { "case of fixed segments",    h[0], fx.key[1], "service", 60,   "GET", "/THINGS/1/", 200, NULL },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char token[512];
        (void)fix_token(rows[i].sr, rows[i].key, rows[i].skn, rows[i].ttl, token);
        const struct ask q = {.method = rows[i].method,
                              .path = rows[i].path,
                              .token = token,
                              .body = rows[i].method[0] == 'P' ? "{}" : NULL};
        ask(&q);
        expect(rows[i].name, rows[i].status, rows[i].status == 401 ? 401002 : 0);
        if (rows[i].kind != NULL && !body_has(rows[i].kind)) {
            fail_msg("%s: %.*s", rows[i].name, SPAN_ARG(buf_span(&last.body)));
        }
    }
    static const char *const bad[] = {NULL, "Bearer x", "SharedAccessSignature",
                                      "SharedAccessSignature sr=a&sig=b&se=1"};
    static const char *const kinds[] = {"E_ARG_NULL", "E_TOKEN", "E_TOKEN", "E_TOKEN"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct ask q = {.method = "GET", .path = "/whoami", .token = bad[i]};
        ask(&q);
        expect("malformed", 401, 401002);
        assert_true(body_has(kinds[i]));
    }
}

/* Who may come in at all: dps-service:39, and C1. */
static void test_admin_door(void **state)
{
    (void)state;
    char token[512];
    (void)fix_token(fx.address, fx.key[1], "service", 60, token);
    const struct {
        const char *name, *path, *token;
        long status;
        unsigned code;
    } rows[] = {
        {"39 data-plane policy", "/admin/policies?" V, token, 401, 401002},
        {"no token", "/admin/policies?" V, NULL, 401, 401002},
        {"no version", "/admin/policies", owner, 400, 400001},
        {"version of the data plane", "/admin/policies?api-version=2021-04-12", owner, 400, 400001},
        {"good", "/admin/policies?" V, owner, 200, 0},
        {"without case", "/ADMIN/Policies/?" V, owner, 200, 0},
        {"unknown resource", "/admin/nonsense?" V, owner, 404, 404000},
        {"bad name", "/admin/policies/a%20b?" V, owner, 400, 400004},
        {"absent", "/admin/policies/absent?" V, owner, 404, 404000},
        {"top 0", "/admin/policies?top=0&" V, owner, 400, 400004},
        {"top 1001", "/admin/policies?top=1001&" V, owner, 400, 400004},
        {"skip x", "/admin/policies?skip=x&" V, owner, 400, 400004},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct ask q = {.method = "GET", .path = rows[i].path, .token = rows[i].token};
        ask(&q);
        expect(rows[i].name, rows[i].status, rows[i].code);
    }
    const struct ask post = {
        .method = "POST", .path = "/admin/policies?" V, .token = owner, .body = "{}"};
    ask(&post);
    expect("wrong method", 405, 405000);
    assert_non_null(strstr(last.allow, "GET"));
}

/* --- policies ----------------------------------------------------------------------------------------- */

static void test_policy_reading(void **state)
{
    (void)state;
    admin("GET", "policies", NULL, NULL, 200, 0);
    assert_true(body_has("\"nextLink\":null"));
    assert_true(body_has("\"keyName\":\"owner\",\"rights\":\"Read, Write, Device\","
                         "\"hiddenRights\":\"MiniConfig\""));
    assert_false(body_has("Key\":\"")); /* no key of any policy */
    admin("GET", "policies?top=1&skip=1", NULL, NULL, 200, 0);
    assert_true(body_has("\"owner\"") && !body_has("\"device\"") && !body_has("\"service\""));
    admin("GET", "policies/OWNER", NULL, NULL, 200, 0);
    char etag[32], quoted[40];
    member("etag", etag, sizeof(etag));
    assert_int_equal(strlen(etag), 12);
    (void)snprintf(quoted, sizeof(quoted), "\"%s\"", etag);
    assert_string_equal(last.etag, quoted);
}

static void test_policy_put(void **state)
{
    (void)state;
    static const struct {
        const char *name, *if_match, *body;
        long status;
        unsigned code;
    } rows[] = {
        {"no body", NULL, "", 400, 400005},
        {"no JSON", NULL, "{", 400, 400006},
        {"no rights", NULL, "{}", 400, 400005},
        {"empty rights", NULL, "{\"rights\":\"\"}", 400, 400004},
        {"unknown word", NULL, "{\"rights\":\"Read, Fly\"}", 400, 400004},
        {"trailing comma", NULL, "{\"rights\":\"Read,\"}", 400, 400004},
        {"38 unknown member", NULL, "{\"rights\":\"Read\",\"right\":1}", 400, 400004},
        {"no base64", NULL, "{\"rights\":\"Read\",\"primaryKey\":\"?\"}", 400, 400004},
        {"key of 15", NULL, "{\"rights\":\"Read\",\"primaryKey\":\"AAAAAAAAAAAAAAAAAAAA\"}", 400,
         400004},
        {"key is a number", NULL, "{\"rights\":\"Read\",\"primaryKey\":1}", 400, 400004},
        {"update of none", "*", "{\"rights\":\"Read\"}", 404, 404000},
        {"create", NULL,
         "{\"rights\":\"Read\",\"primaryKey\":\"AAAAAAAAAAAAAAAAAAAAAA==\",\"secondaryKey\":null}",
         201, 0},
        {"again", NULL, "{\"rights\":\"Read\"}", 409, 409000},
        {"stale", "\"AAAAAAAAAAA=\"", "{\"rights\":\"Read\"}", 412, 412001},
        {"not an etag", "x", "{\"rights\":\"Read\"}", 412, 412001},
        {"update", "*", "{\"rights\":\"Write\",\"keyName\":\"p1\",\"etag\":\"x\"}", 200, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "policies/p1");
        admin("PUT", path, rows[i].if_match, rows[i].body, rows[i].status, rows[i].code);
    }
    /* The key that was given is still there after an update that named none. */
    char key[128], etag[64];
    admin("POST", "policies/p1/listKeys", NULL, "", 200, 0);
    member("primaryKey", key, sizeof(key));
    assert_string_equal(key, "AAAAAAAAAAAAAAAAAAAAAA==");
    (void)snprintf(etag, sizeof(etag), "%s", last.etag);
    /* The current etag is taken quoted; each write gives another. */
    admin("PUT", "policies/p1", etag, "{\"rights\":\"Read\"}", 200, 0);
    assert_string_not_equal(last.etag, etag);
    admin("PUT", "policies/p1", etag, "{\"rights\":\"Read\"}", 412, 412001);
    admin("DELETE", "policies/p1", NULL, NULL, 412, 412001);
    admin("DELETE", "policies/p1", etag, NULL, 412, 412001);
    admin("DELETE", "policies/p1", "*", NULL, 204, 0);
    admin("DELETE", "policies/p1", "*", NULL, 404, 404000);
}

/* S3: nobody gains a right here; dps-service:36: the last administrator stays. */
static void test_policy_escalation(void **state)
{
    (void)state;
    char limited[512], key[128];
    admin("PUT", "policies/clerk", NULL, "{\"rights\":\"MiniConfig, Read\"}", 201, 0);
    assert_true(body_has("\"rights\":\"Read\",\"hiddenRights\":\"MiniConfig\""));
    admin("POST", "policies/clerk/listKeys", NULL, "", 200, 0);
    member("primaryKey", key, sizeof(key));
    (void)fix_token(fx.address, key, "clerk", 600, limited);
    const struct {
        const char *name, *method, *path, *if_match, *body;
        long status;
        unsigned code;
    } rows[] = {
        {"grants what he lacks", "PUT", "/admin/policies/x?" V, NULL, "{\"rights\":\"Write\"}", 401,
         401002},
        {"raises himself", "PUT", "/admin/policies/clerk?" V, "*",
         "{\"rights\":\"Write, MiniConfig\"}", 401, 401002},
        {"keys of a stronger one", "POST", "/admin/policies/owner/listKeys?" V, NULL, "", 401,
         401002},
        {"new keys of a stronger one", "POST", "/admin/policies/owner/regenerateKey?" V, "*",
         "{\"policyKey\":\"both\"}", 401, 401002},
        {"grants what he has", "PUT", "/admin/policies/y?" V, NULL, "{\"rights\":\"Read\"}", 201,
         0},
        {"own keys", "POST", "/admin/policies/clerk/listKeys?" V, NULL, "", 200, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct ask q = {.method = rows[i].method,
                              .path = rows[i].path,
                              .token = limited,
                              .if_match = rows[i].if_match,
                              .body = rows[i].body};
        ask(&q);
        expect(rows[i].name, rows[i].status, rows[i].code);
    }
    admin("DELETE", "policies/y", "*", NULL, 204, 0);
    admin("DELETE", "policies/clerk", "*", NULL, 204, 0);
    admin("DELETE", "policies/owner", "*", NULL, 409, 409000);
    admin("PUT", "policies/owner", "*", "{\"rights\":\"Read, Write, Device\"}", 409, 409000);
    /* What GET shows can be put back. */
    admin("PUT", "policies/owner", "*",
          "{\"rights\":\"Read, Write, Device\",\"hiddenRights\":\"MiniConfig\"}", 200, 0);
}

static long reads_with(const char *key)
{
    char token[512];
    (void)fix_token(fx.address, key, "rot", 60, token);
    const struct ask q = {.method = "GET", .path = "/things/1", .token = token};
    ask(&q);
    return last.status;
}

/* S14, S15; a change counts at the next request, on every worker. */
static void test_rotation(void **state)
{
    (void)state;
    char first[128], second[128], now[128], changes[64];
    unsigned before;
    admin("PUT", "policies/rot", NULL, "{\"rights\":\"Read\"}", 201, 0);
    admin("POST", "policies/rot/listKeys", NULL, "", 200, 0);
    member("primaryKey", first, sizeof(first));
    member("secondaryKey", second, sizeof(second));
    assert_int_equal(reads_with(first), 200);
    assert_int_equal(reads_with(second), 200);
    admin("POST", "policies/rot/regenerateKey", NULL, "{\"policyKey\":\"primaryKey\"}", 412,
          412001);
    admin("POST", "policies/rot/regenerateKey", "*", "{\"policyKey\":\"all\"}", 400, 400004);
    admin("POST", "policies/rot/regenerateKey", "*", "{}", 400, 400005);
    admin("POST", "policies/none/regenerateKey", "*", "{\"policyKey\":\"both\"}", 404, 404000);
    admin("POST", "policies/rot/regenerateKey", "*", "{\"policyKey\":\"primaryKey\"}", 200, 0);
    member("secondaryKey", now, sizeof(now));
    assert_string_equal(now, second);
    member("primaryKey", now, sizeof(now));
    for (int i = 0; i < 8; i++) { /* both workers come by */
        assert_int_equal(reads_with(first), 401);
        assert_int_equal(reads_with(second), 200);
        assert_int_equal(reads_with(now), 200);
    }
    admin("POST", "policies/rot/regenerateKey", "*", "{\"policyKey\":\"swap\"}", 200, 0);
    member("primaryKey", first, sizeof(first));
    assert_string_equal(first, second);
    member("secondaryKey", first, sizeof(first));
    assert_string_equal(first, now);
    admin("POST", "policies/rot/regenerateKey", "*", "{\"policyKey\":\"both\"}", 200, 0);
    assert_int_equal(reads_with(second), 401);
    assert_int_equal(reads_with(now), 401);
    admin("DELETE", "policies/rot", "*", NULL, 204, 0);
    assert_int_equal(reads_with(second), 401);
    /* The hook is called on a worker after a change. */
    const struct ask q = {.method = "GET", .path = "/changes"};
    ask(&q);
    assert_int_equal(sscanf((const char *)last.body.p, "policy=%u", &before), 1);
    admin("PUT", "policies/hook", NULL, "{\"rights\":\"Read\"}", 201, 0);
    (void)snprintf(changes, sizeof(changes), "policy=%u ", before + 1);
    wait_body("/changes", changes);
    admin("DELETE", "policies/hook", "*", NULL, 204, 0);
}

static void test_policy_limit(void **state)
{
    (void)state;
    char path[64];
    for (unsigned i = 3; i < LIMIT_POLICIES; i++) {
        (void)snprintf(path, sizeof(path), "policies/many-%u", i);
        admin("PUT", path, NULL, "{\"rights\":\"Read\"}", 201, 0);
    }
    admin("PUT", "policies/one-more", NULL, "{\"rights\":\"Read\"}", 400, 400004);
    for (unsigned i = 3; i < LIMIT_POLICIES; i++) {
        (void)snprintf(path, sizeof(path), "policies/many-%u", i);
        admin("DELETE", path, "*", NULL, 204, 0);
    }
}

/* --- audit ------------------------------------------------------------------------------------------------- */

/* Anybody can check a line: its hash is the SHA-256 of its text without the member hash. */
static void check_line_hash(struct span list, unsigned seq)
{
    char start[32], hex[65];
    uint8_t digest[32];
    struct buf line = BUF_INIT(4096);
    (void)snprintf(start, sizeof(start), "{\"seq\":%u,", seq);
    const uint8_t *from = memmem(list.p, list.n, start, strlen(start));
    assert_non_null(from);
    struct span rest = span_from(list, (size_t)(from - list.p));
    const uint8_t *end = memmem(rest.p, rest.n, ",\"hash\":\"", 9);
    assert_non_null(end);
    buf_add(&line, span_of(from, (size_t)(end - from)));
    buf_add_u8(&line, '}');
    sha256(buf_span(&line), digest);
    hex_to_cstr(span_of(digest, sizeof(digest)), false, hex);
    assert_memory_equal(end + 9, hex, 64);
    buf_done(&line);
}

static void test_audit(void **state)
{
    (void)state;
    struct json *j = NULL;
    struct err_info info = {0};
    admin("PUT", "policies/audited", NULL,
          "{\"rights\":\"Read\",\"primaryKey\":\"AAAAAAAAAAAAAAAAAAAAAA==\"}", 201, 0);
    admin("POST", "policies/audited/listKeys", NULL, "", 200, 0);
    admin("PUT", "policies/audited", NULL, "{\"rights\":\"Read\"}", 409, 409000);
    admin("DELETE", "policies/audited", "*", NULL, 204, 0);
    admin("GET", "audit?from=1&top=1000", NULL, NULL, 200, 0);
    assert_true(body_has("\"act\":\"initialise\""));
    assert_true(body_has("\"act\":\"PUT /admin/policies/audited\",\"result\":\"OK\""));
    assert_true(body_has("\"act\":\"PUT /admin/policies/audited\",\"result\":\"E_EXISTS\""));
    assert_true(body_has("\"act\":\"POST /admin/policies/audited/listKeys\",\"result\":\"OK\""));
    assert_true(body_has("\"act\":\"DELETE /admin/policies/audited\",\"result\":\"OK\""));
    assert_true(body_has("\"who\":\"owner\",\"from\":\"127."));
    assert_false(body_has("AAAAAAAAAAAAAAAAAAAAAA=="));
    check_line_hash(buf_span(&last.body), 1);
    check_line_hash(buf_span(&last.body), 3);
    /* The chain holds: each line's hash is the next one's prev. */
    assert_ok(json_read(buf_span(&last.body), last.body.n, &j, &info));
    struct json *lines = json_get(j, "value");
    assert_true(json_count(lines) > 5);
    for (size_t i = 1; i < json_count(lines); i++) {
        assert_span(json_str(json_get(json_at(lines, i), "prev")),
                    json_str(json_get(json_at(lines, i - 1), "hash")));
        assert_int_equal(json_int(json_get(json_at(lines, i), "seq")), (int64_t)i + 1);
    }
    json_free(j);
    admin("GET", "audit?from=2&top=1", NULL, NULL, 200, 0);
    assert_true(body_has("\"seq\":2,") && !body_has("\"seq\":3,"));
    admin("GET", "audit?from=x", NULL, NULL, 400, 400004);
    admin("DELETE", "audit", "*", NULL, 405, 405000);
}

static void test_clock(void **state)
{
    (void)state;
    admin("GET", "clock", NULL, NULL, 200, 0);
    assert_true(body_has("\"isSteady\":true"));
    admin("POST", "clock/accept", NULL, "", 204, 0);
    admin("GET", "audit?from=1", NULL, NULL, 200, 0);
    assert_true(body_has("\"act\":\"POST /admin/clock/accept\",\"result\":\"OK\""));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "mini-server") == 0) {
        return server_main(&mini_program, argc - 1, argv + 1);
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_admin_door),
        cmocka_unit_test(test_policy_reading),
        cmocka_unit_test(test_policy_put),
        cmocka_unit_test(test_policy_escalation),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_policy_limit),
        cmocka_unit_test(test_audit),
        cmocka_unit_test(test_clock),
    };
    int rc = cmocka_run_group_tests_name("server policies", tests, asking_setup, asking_teardown);
    answer_done(&last);
    return rc;
}
