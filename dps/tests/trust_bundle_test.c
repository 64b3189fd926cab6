/* SPDX-License-Identifier: Apache-2.0 */
/* Trust bundles: docs/protocol/dps-service-rest.md A11; what devices are told of them, docs/protocol/dps-device.md 10. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "certs/signer.h"
#include "dps/tests/bench.h"
#include "dps/trust_bundle.h"
#include "wire/json.h"

#define PATH "/trustBundles/Line-1"

static struct made_cert root, second, leaf;
static char root_json[8192], second_json[8192], leaf_json[8192];

static int setup(void **state)
{
    assert_int_equal(bench_setup(state), 0);
    make_ca("Gateway Root", NULL, &root);
    make_ca("Gateway Root 2", NULL, &second);
    make_leaf("no-ca", &root, NULL, &leaf);
    (void)cert_json(&root, root_json, sizeof(root_json));
    (void)cert_json(&second, second_json, sizeof(second_json));
    (void)cert_json(&leaf, leaf_json, sizeof(leaf_json));
    return 0;
}

static int teardown(void **state)
{
    made_cert_done(&root);
    made_cert_done(&second);
    made_cert_done(&leaf);
    return bench_teardown(state);
}

/* A body with these certificates. */
static const char *bundle_of(const char *a, const char *b)
{
    static char body[20000];
    (void)snprintf(body, sizeof(body), "{\"certificates\":[%s%s%s]}", a, b[0] != '\0' ? "," : "",
                   b);
    return body;
}

static void got_etag(char dst[64])
{
    got_str("etag", dst, 64);
    assert_int_equal(strlen(dst), 38); /* quotes and all */
}

static void want_fingerprint(const struct made_cert *c, bool is_there)
{
    char hex[65];
    hex_to_cstr(span_of(cert_sha256(c->cert), CERT_SHA256), true, hex);
    assert_int_equal(got_has(hex), is_there);
}

/* --- the resource --------------------------------------------------------------------------------------- */

static void test_resource(void **state UNUSED)
{
    char etag[64], next[64];
    service("GET", PATH, NULL, NULL, 404, 404000);
    service("PUT", PATH, "*", bundle_of(root_json, ""), 404, 404000);
    service("PUT", PATH, NULL, bundle_of(root_json, second_json), 200, 0);
    got_etag(etag);
    assert_true(got_has("\"id\":\"Line-1\"") && got_has("createdDateTime") &&
                got_has("-----BEGIN CERTIFICATE-----") &&
                got_has("\"metadata\":{\"subjectName\":\"CN=Gateway Root\""));
    want_fingerprint(&root, true);
    want_fingerprint(&second, true);
    service("GET", "/trustBundles/LINE-1", NULL, NULL, 200, 0);
    want_fingerprint(&second, true);
    /* without If-Match replaced; with it only while nobody else was there */
    service("PUT", PATH, NULL, bundle_of(second_json, ""), 200, 0);
    want_fingerprint(&root, false);
    got_etag(next);
    assert_string_not_equal(etag, next);
    service("PUT", PATH, etag, bundle_of(root_json, ""), 412, 412001);
    service("PUT", PATH, next, bundle_of(root_json, ""), 200, 0);
    service("DELETE", PATH, next, NULL, 412, 412001);
    got.body.n = 0;
    service("GET", PATH, NULL, NULL, 200, 0);
    want_fingerprint(&root, true);
    got_etag(next);
    service("DELETE", PATH, next, NULL, 204, 0);
    service("DELETE", PATH, NULL, NULL, 404, 404000);
    service("GET", PATH, NULL, NULL, 404, 404000);
}

static void test_refused(void **state UNUSED)
{
    static const char rsa1024[] = "{\"certificate\":\"AAAA\"}";
    const struct {
        const char *path, *body;
        unsigned code;
    } rows[] = {
        {"/trustBundles/-bad", bundle_of(root_json, ""), 400004},
        {PATH, "", 400005},
        {PATH, "{", 400006},
        {PATH, "[]", 400004},
        {PATH, "{}", 400005},
        {PATH, "{\"certificates\":{}}", 400004},
        {PATH, "{\"certificates\":[]}", 400004},
        {PATH, "{\"certificates\":[5]}", 400004},
        {PATH, "{\"certificates\":[{}]}", 400005},
        {PATH, "{\"certificates\":[{\"certificate\":5}]}", 400004},
        {PATH, "{\"certificates\":[{\"certificate\":\"no PEM\"}]}", 400004},
        {PATH, "{\"id\":\"another\",\"certificates\":[]}", 400004},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        service("PUT", rows[i].path, NULL, rows[i].body, 400, rows[i].code);
    }
    service("PUT", PATH, NULL, bundle_of(leaf_json, ""), 400, 400004);
    assert_true(got_has("certificates[0]") && got_has("no certificate of a CA"));
    service("PUT", PATH, NULL, bundle_of(root_json, rsa1024), 400, 400004);
    assert_true(got_has("certificates[1]"));
    service("GET", PATH, NULL, NULL, 404, 404000);
}

/* One certificate too many, one byte of text too many, one bundle too many. */
static void test_limits(void **state UNUSED)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    char path[64];
    buf_add_str(&b, "{\"certificates\":[");
    for (unsigned i = 0; i <= LIMIT_TRUST_BUNDLE_CERTS; i++) {
        buf_add_str(&b, i == 0 ? "" : ",");
        buf_add_str(&b, root_json);
        if (i + 1 >= LIMIT_TRUST_BUNDLE_CERTS) {
            size_t n = b.n;
            buf_add_str(&b, "]}");
            buf_add_u8(&b, 0);
            bool is_over = i == LIMIT_TRUST_BUNDLE_CERTS;
            service("PUT", PATH, NULL, (const char *)b.p, is_over ? 400 : 200,
                    is_over ? 400004 : 0);
            b.n = n;
        }
    }
    for (unsigned i = 1; i <= LIMIT_TRUST_BUNDLES; i++) {
        (void)snprintf(path, sizeof(path), "/trustBundles/many-%u", i);
        bool is_over = i == LIMIT_TRUST_BUNDLES;
        service("PUT", path, NULL, bundle_of(root_json, ""), is_over ? 400 : 200,
                is_over ? 400004 : 0);
    }
    service("PUT", PATH, NULL, bundle_of(root_json, ""), 200, 0); /* one that is there */
    service("DELETE", PATH, NULL, NULL, 204, 0);
    for (unsigned i = 1; i < LIMIT_TRUST_BUNDLES; i++) {
        (void)snprintf(path, sizeof(path), "/trustBundles/many-%u", i);
        service("DELETE", path, NULL, NULL, 204, 0);
    }
}

static void query(const char *tail, const char *limit, const char *after, const char *body,
                  long status)
{
    char path[128], count[64], token[256];
    (void)snprintf(path, sizeof(path), "/trustBundles/query?api-version=2021-11-01-preview%s",
                   tail);
    struct call c = {.method = "POST", .path = path, .token = owner, .body = body};
    unsigned n = 0;
    if (limit != NULL) {
        (void)snprintf(count, sizeof(count), "x-ms-max-item-count: %s", limit);
        c.header[n++] = count;
    }
    if (after != NULL) {
        (void)snprintf(token, sizeof(token), "x-ms-continuation: %s", after);
        c.header[n++] = token;
    }
    call(&c);
    want(path, status, status == 200 ? 0 : 400004);
}

static void test_query(void **state UNUSED)
{
    static const char all[] = "{\"query\":\"SELECT *\"}";
    query("", NULL, NULL, all, 200);
    assert_true(got_has("[]"));
    service("PUT", "/trustBundles/b", NULL, bundle_of(root_json, ""), 200, 0);
    service("PUT", "/trustBundles/A", NULL, bundle_of(second_json, ""), 200, 0);
    service("PUT", "/trustBundles/c", NULL, bundle_of(root_json, ""), 200, 0);
    query("", NULL, NULL, all, 200);
    assert_string_equal(got.item_type, "TrustBundle");
    assert_string_equal(got.continuation, "");
    assert_true(got_has("\"id\":\"A\"") && got_has("\"id\":\"c\"") && got_has("subjectName"));
    assert_false(got_has("-----BEGIN"));
    query("&withCertificateData=true", "2", NULL, all, 200);
    assert_true(got_has("\"id\":\"A\"") && got_has("\"id\":\"b\"") && got_has("-----BEGIN"));
    assert_false(got_has("\"id\":\"c\""));
    assert_string_equal(got.continuation, "b");
    query("&withCertificateData=false", "2", "b", "", 200);
    assert_true(got_has("\"id\":\"c\"") && !got_has("\"id\":\"b\"") && !got_has("-----BEGIN"));
    assert_string_equal(got.continuation, "");
    query("", "0", NULL, all, 400);
    query("", NULL, "no id!", all, 400);
    query("&withCertificateData=perhaps", NULL, NULL, all, 400);
    query("", NULL, NULL, "{\"query\":\"SELECT * WHERE id = 'b'\"}", 400);
    service("DELETE", "/trustBundles/a", NULL, NULL, 204, 0);
    service("DELETE", "/trustBundles/b", NULL, NULL, 204, 0);
    service("DELETE", "/trustBundles/c", NULL, NULL, 204, 0);
}

/* --- enrollments and devices ------------------------------------------------------------------------------- */

static char group_key[128];

static void put_group(const char *match, const char *bundle, long status)
{
    char body[512];
    (void)snprintf(body, sizeof(body), "{\"attestation\":{\"type\":\"symmetricKey\"}%s}", bundle);
    service("PUT", "/enrollmentGroups/lines", match, body, status, status == 200 ? 0 : 400004);
}

static void registered(const char *rid)
{
    char key[64];
    register_https(rid, derived_key(group_key, rid, key), NULL, NULL);
    want(rid, 200, 0);
    assert_true(got_has("\"status\":\"assigned\""));
}

static void test_told(void **state UNUSED)
{
    char etag[64];
    service("PUT", PATH, NULL, bundle_of(root_json, ""), 200, 0);
    put_group(NULL, ",\"trustBundleId\":\"nowhere\"", 400);
    assert_true(got_has("trust bundle"));
    put_group(NULL, ",\"trustBundleId\":\"-\"", 400);
    put_group(NULL, ",\"trustBundleId\":\"line-1\"", 200);
    assert_true(got_has("\"trustBundleId\":\"line-1\""));
    service("DELETE", PATH, NULL, NULL, 409, 409000); /* it is named */
    service("POST", "/enrollmentGroups/lines/attestationmechanism", NULL, NULL, 200, 0);
    got_str("symmetricKey.primaryKey", group_key, sizeof(group_key));
    registered("line-a");
    assert_true(got_has("\"trustBundle\":{\"id\":\"Line-1\",\"certificates\":[{\"certificate\":"));
    want_fingerprint(&root, true);
    got_str("registrationState.trustBundle.etag", etag, sizeof(etag));
    assert_int_equal(strlen(etag), 38);
    service("GET", "/registrations/line-a", NULL, NULL, 200, 0);
    want_fingerprint(&root, true);
    service("POST", "/registrations/lines/query", NULL, "{}", 200, 0);
    assert_true(got_has("line-a") && !got_has("trustBundle"));
    /* replaced: told at the next registration */
    service("PUT", PATH, NULL, bundle_of(second_json, ""), 200, 0);
    registered("line-a");
    want_fingerprint(&root, false);
    want_fingerprint(&second, true);
    put_group("*", "", 200);
    registered("line-a");
    assert_false(got_has("trustBundle"));
    service("DELETE", PATH, NULL, NULL, 204, 0);
}

static void test_told_to_one(void **state UNUSED)
{
    char key[128];
    service("PUT", PATH, NULL, bundle_of(root_json, second_json), 200, 0);
    service("PUT", "/enrollments/line-one", NULL,
            "{\"attestation\":{\"type\":\"symmetricKey\"},\"trustBundleId\":\"LINE-1\"}", 200, 0);
    got_str("attestation.symmetricKey.primaryKey", key, sizeof(key));
    register_https("line-one", key, NULL, NULL);
    want("line-one", 200, 0);
    want_fingerprint(&root, true);
    want_fingerprint(&second, true);
    /* the enrollment goes, and with it the name */
    service("DELETE", "/enrollments/line-one", NULL, NULL, 204, 0);
    service("DELETE", PATH, NULL, NULL, 204, 0);
}

/* As large as it may be by number, over MQTT. */
static void test_told_over_mqtt(void **state UNUSED)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    char key[128], user[200], token[512], op[100];
    int code, status;
    buf_add_str(&b, "{\"certificates\":[");
    for (unsigned i = 0; i < LIMIT_TRUST_BUNDLE_CERTS; i++) {
        buf_add_str(&b, i == 0 ? "" : ",");
        buf_add_str(&b, i % 2 == 0 ? root_json : second_json);
    }
    buf_add_str(&b, "]}");
    buf_add_u8(&b, 0);
    service("PUT", PATH, NULL, (const char *)b.p, 200, 0);
    service("PUT", "/enrollments/line-mqtt", NULL,
            "{\"attestation\":{\"type\":\"symmetricKey\"},\"trustBundleId\":\"line-1\"}", 200, 0);
    got_str("attestation.symmetricKey.primaryKey", key, sizeof(key));
    (void)snprintf(user, sizeof(user), "%s/registrations/line-mqtt/api-version=2021-11-01-preview",
                   scope);
    struct mq *m = mq_open("line-mqtt", user, device_token("line-mqtt", key, token), 4, &code);
    assert_int_equal(code, 0);
    assert_int_equal(mq_subscribe(m, "$dps/registrations/res/#", 1), 1);
    assert_int_equal(mq_register(m, "1", "{}"), 202);
    fix_json_str(mq_body(m), "operationId", op, sizeof(op));
    do {
        status = mq_poll(m, "2", op);
    } while (status == 202);
    assert_int_equal(status, 200);
    struct json *j = NULL;
    assert_ok(json_read_object(mq_body(m), 1u << 20, &j, NULL));
    const struct json *bundle = json_get(json_get(j, "registrationState"), "trustBundle");
    assert_int_equal(json_count(json_get(bundle, "certificates")), LIMIT_TRUST_BUNDLE_CERTS);
    json_free(j);
    mq_close(m);
    service("DELETE", "/enrollments/line-mqtt", NULL, NULL, 204, 0);
    service("DELETE", PATH, NULL, NULL, 204, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resource),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_query),
        cmocka_unit_test(test_told),           cmocka_unit_test(test_told_to_one),
        cmocka_unit_test(test_told_over_mqtt),
    };
    int status = bench_server(argc, argv);
    if (status >= 0) {
        return status;
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    status = cmocka_run_group_tests(tests, setup, teardown);
    curl_global_cleanup();
    return status;
}
