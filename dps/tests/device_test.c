/* SPDX-License-Identifier: Apache-2.0 */
/* The device API against a running service: docs/protocol/dps-device.md section 11; row DN is named dps-device:DN. */
#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "wire/json.h"

#include "dps/tests/bench.h"

#define SYM "\"attestation\":{\"type\":\"symmetricKey\"}"
#define FILTER "$dps/registrations/res/#"

static char group_key[128];

static int setup(void **state)
{
    assert_int_equal(bench_setup(state), 0);
    service("PUT", "/enrollmentGroups/sym", NULL, "{" SYM "}", 200, 0);
    got_str("attestation.symmetricKey.primaryKey", group_key, sizeof(group_key));
    return 0;
}

static void enroll(const char *rid, const char *more, char key[128])
{
    char path[200], body[2000];
    (void)snprintf(path, sizeof(path), "/enrollments/%s", rid);
    (void)snprintf(body, sizeof(body), "{" SYM "%s}", more);
    service("PUT", path, NULL, body, 200, 0);
    got_str("attestation.symmetricKey.primaryKey", key, 128);
}

static void seen(const char *device)
{
    char path[200];
    (void)snprintf(path, sizeof(path), "/seen/%s", device);
    const struct call c = {.method = "GET", .path = path, .at = &hub};
    call(&c);
}

/* Of the answer of seen(). */
static int64_t number_of(const char *path)
{
    AUTO(json_free_p) struct json *body = NULL;
    int64_t n = 0;
    assert_ok(json_read_object(buf_span(&got.body), 1u << 20, &body, NULL));
    assert_ok(json_get_int(body, path, JSON_F_NEED, 0, INT64_MAX, &n, NULL));
    return n;
}

static void want_end(const char *status, const char *more)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "\"status\":\"%s\"", status);
    if (got.status != 200 || !got_has(text) || !got_has(more)) {
        fail_msg("%ld %.*s, wanted %s %s", got.status, SPAN_ARG(buf_span(&got.body)), status, more);
    }
}

/* dps-device:D1, D2, D4, D5, D6, D10, D12: keys over HTTPS. */
static void test_https_keys(void **state UNUSED)
{
    char key[128], derived[64], token[512], path[300];
    enroll("ind-1",
           ",\"deviceId\":\"Named-1\",\"initialTwin\":{\"tags\":{\"a\":1}},\"capabilities\":{"
           "\"iotEdge\":true}",
           key);
    register_https("ind-1", key, NULL, NULL);
    want_end("assigned", "\"deviceId\":\"Named-1\"");
    assert_true(got_has("\"substatus\":\"initialAssignment\""));
    assert_true(got_has(hub.address));
    seen("Named-1");
    assert_true(got_has(key)); /* the hub gets the device's own key (sas.md 6) */
    assert_true(got_has("\"mayAdopt\":true"));
    assert_true(got_has("\"iotEdge\":true"));
    assert_true(got_has("\"initialTwin\":{\"tags\":{\"a\":1}}"));
    register_https("grp-1", derived_key(group_key, "grp-1", derived), NULL, NULL);
    want_end("assigned", "\"deviceId\":\"grp-1\"");
    assert_true(got_has("\"symmetricKey\":{\"enrollmentGroupId\":\"sym\"}"));
    seen("grp-1");
    assert_true(got_has(derived));
    assert_true(got_has("\"mayAdopt\":false"));
    assert_true(got_has("/group/sym\""));
    register_https("grp-1", group_key, NULL,
                   NULL); /* the group key itself admits nobody: sas S27 */
    want("group key", 401, 401002);
    register_https("grp-2", derived, NULL, NULL); /* sas S28 */
    want("another device's key", 401, 401002);
    assert_true(got_has(got.request_id));
    register_https("ind-1", derived_key(group_key, "ind-1", derived), NULL, NULL);
    want("an individual enrollment wins over the group", 401, 401002);
    /* Letters in another case: the key of the folded id fits too (sas.md 6). */
    register_https("GRP-1", derived_key(group_key, "grp-1", derived), NULL, NULL);
    want_end("assigned", "\"deviceId\":\"grp-1\"");
    (void)snprintf(path, sizeof(path), "/%s/registrations/grp-1?api-version=2019-03-31", scope);
    const struct call lookup = {.method = "POST",
                                .path = path,
                                .body = "{}",
                                .token = device_token("grp-1", derived, token)};
    call(&lookup);
    want_end("assigned", "\"registrationId\":\"grp-1\"");
}

/* dps-device:D11, D13 to D15, D18 over HTTPS. */
static void test_https_refusals(void **state UNUSED)
{
    static char large[110000];
    char key[64], token[512], path[300], other[300];
    (void)derived_key(group_key, "bad-body", key);
    (void)device_token("bad-body", key, token);
    (void)snprintf(path, sizeof(path), "/%s/registrations/bad-body/register?api-version=2019-03-31",
                   scope);
    memset(large, ' ', sizeof(large) - 1);
    const struct {
        const char *name, *body, *type;
        long status;
        unsigned code;
    } rows[] = {
        {"dps-device:D14 {", "{", NULL, 400, 400006},
        {"dps-device:D14 []", "[]", NULL, 400, 400004},
        {"dps-device:D14 text", "\"x\"", NULL, 400, 400004},
        {"dps-device:D14 large", large, NULL, 413, 413000},
        {"dps-device:D15", "{\"registrationId\":\"other\"}", NULL, 400, 400004},
        {"content type", "{}", "text/plain", 415, 415000},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct call c = {.method = "PUT",
                               .path = path,
                               .body = rows[i].body,
                               .token = token,
                               .content_type = rows[i].type};
        call(&c);
        want(rows[i].name, rows[i].status, rows[i].code);
    }
    struct call c = {.method = "PUT", .path = other, .body = "{}", .token = token};
    (void)snprintf(other, sizeof(other),
                   "/0neFFFF/registrations/bad-body/register?api-version=2019-03-31");
    call(&c);
    want("dps-device:D13", 401, 401002);
    (void)snprintf(other, sizeof(other),
                   "/%s/registrations/bad-body/operations/5.0.x?api-version=2019-03-31", scope);
    c.method = "GET";
    call(&c);
    want("dps-device:D18", 404, 404203);
    c.token = NULL;
    call(&c);
    want("no credential", 401, 401002);
    (void)snprintf(other, sizeof(other), "%s%%2Fregistrations%%2Fbad-body", scope);
    char old[512];
    (void)fix_token(other, key, "registration", -400, old);
    c = (struct call){.method = "PUT", .path = path, .body = "{}", .token = old};
    call(&c);
    want("dps-device:D11", 401, 401002);
}

static struct mq *open_group(const char *rid, const char *key, int *ret_code)
{
    char user[300], token[512];
    (void)snprintf(user, sizeof(user),
                   "%s/registrations/%s/api-version=2019-03-31&ClientVersion=a%%2F1", scope, rid);
    return mq_open(rid, user, key != NULL ? device_token(rid, key, token) : NULL, 4, ret_code);
}

/* dps-device:D3, D7, D8, D9, D18 over MQTT. */
static void test_mqtt(void **state UNUSED)
{
    char key[64], op[100], rid[201], again[100];
    int code;
    struct mq *m = open_group("mq-1", derived_key(group_key, "mq-1", key), &code);
    assert_int_equal(code, 0);
    assert_int_equal(mq_subscribe(m, FILTER, 2), 1);
    memset(rid, 'r', 200);
    rid[200] = '\0';
    const char *const ids[] = {"1", "6f0b3c34-0c0e-4c59-9e4f-6a6f4a9f2a11", rid, "a%2Fb"};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        assert_int_equal(mq_register(m, ids[i], i == 0 ? "" : "{\"payload\":{\"a\":1}}"), 202);
        fix_json_str(mq_body(m), "operationId", op, sizeof(op));
        int status;
        while ((status = mq_poll(m, ids[i], op)) == 202) {
        }
        assert_int_equal(status, 200);
        assert_non_null(memmem(mq_body(m).p, mq_body(m).n, "\"status\":\"assigned\"", 19));
    }
    /* An operation that a later one replaced stays readable. */
    (void)snprintf(again, sizeof(again), "%s", op);
    assert_int_equal(mq_register(m, "2", "{}"), 202);
    assert_int_equal(mq_poll(m, "2", again), 200);
    assert_int_equal(mq_poll(m, "3", "5.0123456789abcdef.0"), 404);
    assert_int_equal(mq_register(m, "4", "{"), 400);
    mq_close(m);
    m = open_group("mq-2", key, &code);
    assert_int_equal(code, 0);
    assert_int_equal(mq_subscribe(m, FILTER, 1), 1);
    assert_int_equal(mq_poll(m, "5", again),
                     401); /* not proven yet, and the key is another device's */
    assert_int_equal(mq_register(m, "6", "{}"), 401);
    assert_non_null(memmem(mq_body(m).p, mq_body(m).n, "\"errorCode\":401000", 18));
    mq_close(m);
    m = open_group("mq-2", derived_key(group_key, "mq-2", key), &code);
    assert_int_equal(mq_subscribe(m, FILTER, 1), 1);
    assert_int_equal(mq_register(m, "7", "{}"), 202);
    assert_int_equal(mq_poll(m, "8", again), 404); /* another device's operation */
    mq_close(m);
}

/* dps-device:D11, D13, D16, D17, D17a, D37. */
static void test_mqtt_connect(void **state UNUSED)
{
    char key[64], good[512], wide[512];
    (void)derived_key(group_key, "mq-3", key);
    (void)device_token("mq-3", key, good);
    (void)snprintf(wide, sizeof(wide), "%s/registrations/mq-3", scope);
    (void)fix_token(wide, key, "other", 3600, wide);
    const struct {
        const char *name, *id, *user;
        const char *token;
        unsigned level;
        int code;
    } rows[] = {
        {"dps-device:D16 no version", "mq-3", "%s/registrations/mq-3", good, 4, 0},
        {"dps-device:D16 ?", "mq-3", "%s/registrations/mq-3/?api-version=2019-03-31", good, 4, 0},
        {"dps-device:D16 more", "mq-3", "%s/registrations/mq-3/x=1&api-version=2019-03-31", good, 4,
         0},
        {"dps-device:D16 case", "mq-3", "%s/registrations/MQ-3/api-version=2019-03-31", good, 4, 0},
        {"dps-device:D17a", "mq-3",
         "%s/registrations/mq-3/api-version=2019-03-31&ClientVersion=a/b c", good, 4, 0},
        {"dps-device:D17 parts", "mq-3", "%s/registrations", good, 4, 4},
        {"dps-device:D17 word", "mq-3", "%s/devices/mq-3/api-version=2019-03-31", good, 4, 4},
        {"other client id", "mq-4", "%s/registrations/mq-3/api-version=2019-03-31", good, 4, 2},
        {"no client id", "", "%s/registrations/mq-3/api-version=2019-03-31", good, 4, 2},
        {"no credential", "mq-3", "%s/registrations/mq-3/api-version=2019-03-31", NULL, 4, 5},
        {"no token", "mq-3", "%s/registrations/mq-3/api-version=2019-03-31", "x", 4, 5},
        {"skn", "mq-3", "%s/registrations/mq-3/api-version=2019-03-31", wide, 4, 5},
        {"dps-device:D13", "mq-3", "0neX%.0s/registrations/mq-3/api-version=2019-03-31", good, 4,
         5},
        {"dps-device:D37 3", "mq-3", "%s/registrations/mq-3", good, 3, 1},
        {"dps-device:D37 5", "mq-3", "%s/registrations/mq-3", good, 5, 0x84},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char user[300] = "";
        int code;
        const char *at = strstr(rows[i].user, "%");
        (void)snprintf(user, sizeof(user), "%.*s%s%s", (int)(at - rows[i].user), rows[i].user,
                       at[1] == 's' ? scope : "", at[1] == 's' ? at + 2 : at + 4);
        struct mq *m = mq_open(rows[i].id, user, rows[i].token, rows[i].level, &code);
        if (code != rows[i].code) {
            fail_msg("%s: CONNACK %d, wanted %d", rows[i].name, code, rows[i].code);
        }
        if (code != 0) {
            assert_int_equal(mq_next(m), 0);
        }
        mq_close(m);
    }
}

/* dps-device:D19, D20. */
static void test_mqtt_foreign_topics(void **state UNUSED)
{
    static const char *const filters[] = {"#", "$dps/#", "devices/x/messages/devicebound/#"};
    static const char *const topics[] = {"devices/x/messages/events/",
                                         "$dps/registrations/PUT/other/?$rid=1", "a"};
    char key[64];
    int code;
    (void)derived_key(group_key, "mq-5", key);
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        struct mq *m = open_group("mq-5", key, &code);
        assert_int_equal(mq_subscribe(m, filters[i], 1), 0x80);
        assert_int_equal(mq_next(m), 0);
        mq_close(m);
        m = open_group("mq-5", key, &code);
        mq_publish(m, topics[i], "", 1, 3);
        assert_int_equal(mq_next(m), 0);
        mq_close(m);
    }
}

/* --- certificates ----------------------------------------------------------------------------------------- */

static void put_x509(const char *path, const char *member, const struct made_cert *c,
                     const char *more)
{
    char cert[8192], body[9000];
    (void)cert_json(c, cert, sizeof(cert));
    (void)snprintf(body, sizeof(body),
                   "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"%s\":{\"primary\":%s}}}%s}",
                   member, cert, more);
    service("PUT", path, NULL, body, 200, 0);
}

static void trust(const char *name, const struct made_cert *c)
{
    char cert[8192], body[9000], path[200];
    (void)cert_json(c, cert, sizeof(cert));
    cert[strlen(cert) - 1] = '\0';
    (void)snprintf(body, sizeof(body), "{\"properties\":%s,\"isVerified\":true}}", cert);
    (void)snprintf(path, sizeof(path), "/admin/certificates/%s?api-version=2026-11-01-berth", name);
    service("PUT", path, NULL, body, 201, 0);
}

/* dps-device:D21, D27, D28. */
static void test_x509_individual(void **state UNUSED)
{
    struct made_cert own, other;
    char hex[65], key[64];
    make_leaf("xi-1", NULL, NULL, &own);
    make_leaf("xi-1", NULL, NULL, &other);
    put_x509("/enrollments/xi-1", "clientCertificates", &own, "");
    register_https("xi-1", NULL, own.cert_file, own.key_file);
    want_end("assigned", "\"x509\":{}");
    seen("xi-1");
    hex_to_cstr(span_of(cert_sha256(own.cert), CERT_SHA256), true, hex);
    assert_true(got_has(hex));
    assert_true(got_has("\"type\":\"selfSigned\""));
    register_https("xi-1", NULL, other.cert_file, other.key_file);
    want("dps-device:D21", 401, 401002);
    register_https("d28", derived_key(group_key, "d28", key), other.cert_file, other.key_file);
    want_end("assigned", "\"enrollmentGroupId\":\"sym\"");
    made_cert_done(&own);
    made_cert_done(&other);
}

/* dps-device:D22 to D26, D31. */
static void test_x509_group(void **state UNUSED)
{
    struct made_cert root, inter, leaf, bare, lonely;
    char name[65];
    make_ca("Group Root", NULL, &root);
    make_ca("Group Intermediate", &root, &inter);
    make_leaf("xg-1", &inter, &inter, &leaf);
    make_leaf("xg-1", &inter, NULL, &bare);
    put_x509("/enrollmentGroups/xroot", "signingCertificates", &root, "");
    register_https("xg-1", NULL, leaf.cert_file, leaf.key_file);
    want("no verified anchor", 401, 401002); /* dps-device.md 6.7 */
    assert_true(got_has("no-anchor"));
    trust("group-root", &root);
    register_https("xg-1", NULL, leaf.cert_file, leaf.key_file);
    want_end("assigned", "\"x509\":{\"enrollmentGroupId\":\"xroot\"}");
    register_https("xg-1", NULL, bare.cert_file, bare.key_file);
    want("dps-device:D23", 401, 401002);
    register_https("xg-2", NULL, leaf.cert_file, leaf.key_file);
    want("CN is another id", 401, 401002);
    make_leaf("xg-3", NULL, NULL, &lonely);
    register_https("xg-3", NULL, lonely.cert_file, lonely.key_file);
    want("self-signed", 401, 401002);
    made_cert_done(&lonely);
    /* The nearest group decides, also when it is disabled. */
    put_x509("/enrollmentGroups/xint", "signingCertificates", &inter,
             ",\"provisioningStatus\":\"disabled\"");
    make_leaf("xg-4", &inter, &inter, &lonely);
    register_https("xg-4", NULL, lonely.cert_file, lonely.key_file);
    want_end("disabled", "\"enrollmentGroupId\":\"xint\"");
    seen("xg-4");
    assert_true(got_has("\"n\":0"));
    made_cert_done(&lonely);
    service("DELETE", "/enrollmentGroups/xint", NULL, NULL, 204, 0);
    /* caReferences, and a CN of 64 bytes; dps-device:D26. */
    service("DELETE", "/enrollmentGroups/xroot", NULL, NULL, 204, 0);
    service("PUT", "/enrollmentGroups/xref", NULL,
            "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"caReferences\":{\"primary\":\"group-"
            "root\"}}}}",
            200, 0);
    memset(name, 'n', 64);
    name[64] = '\0';
    make_leaf(name, &inter, &inter, &lonely);
    register_https(name, NULL, lonely.cert_file, lonely.key_file);
    want_end("assigned", "\"enrollmentGroupId\":\"xref\"");
    service("DELETE", "/admin/certificates/group-root?api-version=2026-11-01-berth", "*", NULL, 409,
            409000);
    made_cert_done(&lonely);
    made_cert_done(&leaf);
    made_cert_done(&bare);
    made_cert_done(&inter);
    made_cert_done(&root);
}

/* --- what becomes of a registration ---------------------------------------------------------------------------- */

/* dps-device:D25; docs/protocol/dps-device.md 8. */
static void test_disabled(void **state UNUSED)
{
    char key[128], derived[64];
    enroll("dis-1", ",\"provisioningStatus\":\"disabled\"", key);
    register_https("dis-1", key, NULL, NULL);
    want_end("disabled", "\"registrationState\"");
    register_https("dis-1", derived_key(group_key, "dis-1", derived), NULL, NULL);
    want("another credential", 401, 401002);
    seen("dis-1");
    assert_true(got_has("\"n\":0"));
}

static void test_hub_answers(void **state UNUSED)
{
    char key[64];
    register_https("busy-1", derived_key(group_key, "busy-1", key), NULL, NULL);
    want_end("assigned", "busy-1");
    seen("busy-1");
    assert_true(got_has("\"n\":3"));
    register_https("owned-1", derived_key(group_key, "owned-1", key), NULL, NULL);
    want_end("failed", "\"errorCode\":409001");
    register_https("bad-1", derived_key(group_key, "bad-1", key), NULL, NULL);
    want_end("failed", "\"errorCode\":400210");
}

/* A refusal is told once the hub has heard that the operation is over, so that none of its requests makes the device there later: threat:C6 */
static void test_fence(void **state UNUSED)
{
    char key[64], what[32];
    register_https("bad-late-1", derived_key(group_key, "bad-late-1", key), NULL, NULL);
    want_end("failed", "\"errorCode\":400210");
    seen("bad-late-1");
    assert_true(got_has("\"n\":2,")); /* the first fence got no answer: all of it anew */
    assert_true(got_has("\"patches\":2,"));
    got_str("patch.status", what, sizeof(what));
    assert_string_equal(what, "frozen");
    assert_int_equal(number_of("patch.sequence"), number_of("body.sequence") + 1);
    seen("busy-1");
    assert_true(got_has("\"patches\":0,"));
}

static void ask_bundled(const char *rid, const char *method, const char *tail)
{
    char key[64], token[512], path[400];
    (void)snprintf(path, sizeof(path), "/%s/registrations/%s/%s?api-version=2019-03-31", scope, rid,
                   tail);
    const struct call c = {.method = method,
                           .path = path,
                           .body = "{}",
                           .token = device_token(rid, derived_key(group_key, rid, key), token)};
    call(&c);
}

/*
 * What becomes ready while the hub is busy goes in one request, and each device still gets an answer of its own. Nothing is answered
 * until all have registered: of the two workers one has at least half of them, and they cannot all be in BUNDLE_CALLS single requests.
 */
static void test_bundles(void **state UNUSED)
{
    static const struct {
        const char *kind, *status, *more;
    } kinds[] = {
        {"plain", "assigned", "stall-plain-"}, {"busy", "assigned", "stall-busy-"},
        {"owned", "failed", "409001"},         {"bad", "failed", "400210"},
        {"poison", "assigned", "stall-"},      {"garble", "assigned", "stall-"},
    };
    enum { EACH = 9, N = EACH * ARRAY_LEN(kinds) };
    static char rid[N][64], op[N][100];
    for (unsigned i = 0; i < N; i++) {
        (void)snprintf(rid[i], sizeof(rid[i]), "stall-%s-%u", kinds[i / EACH].kind, i % EACH);
        ask_bundled(rid[i], "PUT", "register");
        want("register", 202, 0);
        got_str("operationId", op[i], sizeof(op[i]));
    }
    const struct call unstall = {.method = "GET", .path = "/unstall", .at = &hub};
    call(&unstall);
    for (unsigned i = 0; i < N; i++) {
        char tail[120];
        (void)snprintf(tail, sizeof(tail), "operations/%.99s", op[i]);
        do {
            ask_bundled(rid[i], "GET", tail);
        } while (got.status == 202);
        want_end(kinds[i / EACH].status, kinds[i / EACH].more);
        seen(rid[i]);
        assert_true(got_has(op[i]));
    }
    char text[32];
    const struct call most = {.method = "GET", .path = "/most", .at = &hub};
    call(&most);
    got_str("atOnce", text, sizeof(text));
    assert_true(strtoul(text, NULL, 10) >= 2);
}

static void test_allocation(void **state UNUSED)
{
    char key[128], more[300], key2[128];
    enroll("cus-1",
           ",\"allocationPolicy\":\"custom\",\"customAllocationDefinition\":{\"webhookUrl\":"
           "\"https://h/\",\"apiVersion\":\"1\"}",
           key);
    register_https("cus-1", key, NULL, NULL);
    want_end("failed", "\"errorCode\":400207");
    enroll("sta-1", ",\"allocationPolicy\":\"static\"", key);
    register_https("sta-1", key, NULL, NULL);
    want_end("failed", "\"errorCode\":400208");
    (void)snprintf(more, sizeof(more), ",\"allocationPolicy\":\"static\",\"iotHubs\":[\"%s\"]",
                   hub.address);
    enroll("sta-2", more, key2);
    register_https("sta-2", key2, NULL, NULL);
    want_end("assigned", hub.address);
}

/* docs/protocol/dps-device.md 9, as far as one hub goes: reset, and the record that an administrator frees. */
static void test_again(void **state UNUSED)
{
    char key[128];
    enroll("again-1",
           ",\"reprovisionPolicy\":{\"updateHubAssignment\":true,\"migrateDeviceData\":false}",
           key);
    register_https("again-1", key, NULL, NULL);
    want_end("assigned", "initialAssignment");
    seen("again-1");
    assert_true(got_has("\"resetTwin\":false"));
    register_https("again-1", key, NULL, NULL);
    want_end("assigned", "initialAssignment");
    seen("again-1");
    assert_true(got_has("\"resetTwin\":true"));
    service("GET", "/registrations/again-1", NULL, NULL, 200, 0);
    service("DELETE", "/registrations/again-1", NULL, NULL, 204, 0);
    service("GET", "/registrations/again-1", NULL, NULL, 404, 404202);
    service("GET", "/enrollments/again-1", NULL, NULL, 200, 0);
    assert_true(got_has("\"status\":\"unassigned\""));
}

/* What admitted a link is looked at again when it has changed: docs/protocol/dps-service-rest.md B2, "at the next byte". */
static void test_next_byte(void **state UNUSED)
{
    char key[128], token[512], user[300], op[100];
    int code;
    enroll("next-1", "", key);
    (void)snprintf(user, sizeof(user), "%s/registrations/next-1/api-version=2019-03-31", scope);
    struct mq *m = mq_open("next-1", user, device_token("next-1", key, token), 4, &code);
    assert_int_equal(mq_subscribe(m, FILTER, 1), 1);
    assert_int_equal(mq_register(m, "1", "{}"), 202);
    fix_json_str(mq_body(m), "operationId", op, sizeof(op));
    while ((code = mq_poll(m, "2", op)) == 202) {
    }
    assert_int_equal(code, 200);
    assert_non_null(memmem(mq_body(m).p, mq_body(m).n, hub.address, strlen(hub.address)));
    service("PUT", "/enrollments/next-1", "*", "{" SYM ",\"provisioningStatus\":\"disabled\"}", 200,
            0);
    assert_int_equal(mq_poll(m, "3", op), 200);
    assert_non_null(memmem(mq_body(m).p, mq_body(m).n, "\"status\":\"disabled\"", 19));
    assert_null(memmem(mq_body(m).p, mq_body(m).n, hub.address, strlen(hub.address)));
    service("DELETE", "/enrollments/next-1", NULL, NULL, 204, 0);
    assert_int_equal(mq_poll(m, "4", op), 401);
    enroll("next-1", "", key); /* its namesake has other keys */
    assert_int_equal(mq_poll(m, "5", op), 401);
    assert_int_equal(mq_register(m, "6", "{}"), 401);
    mq_close(m);
}

/* A CSR where the enrollment issues no certificates. */
static void test_csr(void **state UNUSED)
{
    char key[64], op[100];
    int code;
    struct mq *m = open_group("csr-1", derived_key(group_key, "csr-1", key), &code);
    assert_int_equal(mq_subscribe(m, FILTER, 1), 1);
    assert_int_equal(mq_register(m, "1", "{\"csr\":\"AAAA\"}"), 202);
    fix_json_str(mq_body(m), "operationId", op, sizeof(op));
    assert_int_equal(mq_poll(m, "2", op), 200);
    assert_non_null(memmem(mq_body(m).p, mq_body(m).n, "\"errorCode\":400004", 18));
    mq_close(m);
}

/* dps-device:D38, and the promise that an intent outlives the process: kill -9 while the hub answers 503. */
static void test_crash(void **state UNUSED)
{
    char key[64], token[512], path[300], op[100];
    (void)derived_key(group_key, "held-1", key);
    (void)snprintf(path, sizeof(path), "/%s/registrations/held-1/register?api-version=2019-03-31",
                   scope);
    struct call c = {
        .method = "PUT", .path = path, .body = "{}", .token = device_token("held-1", key, token)};
    call(&c);
    want("register", 202, 0);
    got_str("operationId", op, sizeof(op));
    (void)fix_stop(&dps, SIGKILL);
    bench_start_dps();
    (void)snprintf(path, sizeof(path),
                   "/%s/registrations/held-1/operations/%s?api-version=2019-03-31", scope, op);
    c.method = "GET";
    call(&c);
    want("still known", 202, 0);
    assert_true(got_has("\"status\":\"assigning\""));
    const struct call release = {.method = "GET", .path = "/release", .at = &hub};
    call(&release);
    do {
        call(&c);
    } while (got.status == 202);
    want_end("assigned", op);
}

/* dps-device:D33, and guesses at one device's key from one address. */
static void test_rates(void **state UNUSED)
{
    char key[64], token[512], path[300];
    (void)derived_key(group_key, "rate-1", key);
    (void)snprintf(path, sizeof(path), "/%s/registrations/rate-1/register?api-version=2019-03-31",
                   scope);
    struct call c = {
        .method = "PUT", .path = path, .body = "{}", .token = device_token("rate-1", key, token)};
    assert_int_equal(fix_stop(&dps, SIGTERM), 0);
    bench_start_limited();
    unsigned n = 0;
    do {
        call(&c);
    } while (got.status == 202 && ++n < 100);
    want("dps-device:D33", 429, 429001);
    assert_string_equal(got.retry_after, "3");
    assert_in_range(n, 8, 20);
    (void)snprintf(path, sizeof(path), "/%s/registrations/rate-2/register?api-version=2019-03-31",
                   scope);
    c.token = device_token("rate-2", key, token);
    for (n = 0; n < 10; n++) {
        call(&c);
        want("wrong key", 401, 401002);
    }
    call(&c);
    want("guessing", 429, 429001);
    (void)derived_key(group_key, "rate-3", key);
    (void)snprintf(path, sizeof(path), "/%s/registrations/rate-3/register?api-version=2019-03-31",
                   scope);
    c.token = device_token("rate-3", key, token);
    call(&c);
    want("another device is not slowed", 202, 0);
    (void)snprintf(path, sizeof(path), "/%s/registrations/a_/register?api-version=2019-03-31",
                   scope);
    call(&c);
    want("bad id", 400, 400202);
    assert_int_equal(fix_stop(&dps, SIGTERM), 0);
    bench_start_dps();
}

int main(int argc, char **argv)
{
    int rc = bench_server(argc, argv);
    if (rc >= 0) {
        return rc;
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_https_keys),
        cmocka_unit_test(test_https_refusals),
        cmocka_unit_test(test_mqtt),
        cmocka_unit_test(test_mqtt_connect),
        cmocka_unit_test(test_mqtt_foreign_topics),
        cmocka_unit_test(test_x509_individual),
        cmocka_unit_test(test_x509_group),
        cmocka_unit_test(test_disabled),
        cmocka_unit_test(test_hub_answers),
        cmocka_unit_test(test_fence),
        cmocka_unit_test(test_bundles),
        cmocka_unit_test(test_allocation),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_next_byte),
        cmocka_unit_test(test_csr),
        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_rates),
    };
    return cmocka_run_group_tests(tests, setup, bench_teardown);
}
