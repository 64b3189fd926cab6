/* SPDX-License-Identifier: Apache-2.0 */
/* The service API against a running service: docs/protocol/dps-service-rest.md Part D. The good paths (G1 and on):
 * tests/integration/dps_service.py. */
#include "dps/tests/bench.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "certs/keyring.h"
#include "server/tests/fixture.h"

#define SYM "\"attestation\":{\"type\":\"symmetricKey\"}"
#define E "/enrollments/"
#define G "/enrollmentGroups/"

static const struct row {
    const char *name;
    const char *method, *path, *if_match, *body;
    long status;
    unsigned code;
} rows[] = {
    /* clang-format off */
    { "dps-service:1 no api-version", "GET", E "a?x=api-version=", NULL, NULL, 400, 400001 },
    { "dps-service:1 unknown", "GET", E "a?api-version=2020-01-01", NULL, NULL, 400, 400001 },
    { "dps-service:4", "PUT", E "a", NULL, "{", 400, 400006 },
    { "dps-service:4 array", "PUT", E "a", NULL, "[]", 400, 400004 },
    { "dps-service:5", "PUT", E "a", NULL, "", 400, 400005 },
    { "dps-service:7", "PUT", "/enrollments", NULL, "{}", 405, 405000 },
    { "dps-service:8 -a", "PUT", E "-a", NULL, "{" SYM "}", 400, 400202 },
    { "dps-service:8 a.", "PUT", E "a.", NULL, "{" SYM "}", 400, 400202 },
    { "dps-service:8 a b", "PUT", E "a%20b", NULL, "{" SYM "}", 400, 400202 },
    { "dps-service:8 a/b", "PUT", E "a%2Fb", NULL, "{" SYM "}", 400, 400202 },
    { "dps-service:9", "PUT", G "a_", NULL, "{" SYM "}", 400, 400204 },
    { "dps-service:10", "PUT", E "a", NULL, "{\"registrationId\":\"b\"," SYM "}", 400, 400004 },
    { "dps-service:11 absent", "PUT", E "a", NULL, "{}", 400, 400005 },
    { "dps-service:11 no type", "PUT", E "a", NULL, "{\"attestation\":{}}", 400, 400005 },
    { "dps-service:11 disagree", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"x509\",\"symmetricKey\":{}}}", 400, 400004 },
    { "dps-service:11 x509 empty", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"x509\"}}", 400, 400004 },
    { "dps-service:11 unknown", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"sym\"}}", 400, 400004 },
    { "dps-service:11 none", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"none\"}}", 400, 400004 },
    { "dps-service:12 tpm in a group", "PUT", G "g", NULL, "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"AA==\"}}}", 400, 400004 },
    { "dps-service:12 client in a group", "PUT", G "g", NULL, "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"clientCertificates\":{}}}}", 400, 400004 },
    { "dps-service:12 signing in an individual", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"signingCertificates\":{}}}}", 400, 400004 },
    { "dps-service:14 EK is no TPM2B_PUBLIC", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"AA==\"}}}", 400, 400201 },
    { "dps-service:14 EK is not base64", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"no!\"}}}", 400, 400201 },
    { "dps-service:14 EK is missing", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"tpm\",\"tpm\":{}}}", 400, 400201 },
    { "dps-service:13 garbage", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"clientCertificates\":{\"primary\":{\"certificate\":\"zz\"}}}}}", 400, 400004 },
    { "dps-service:13 truncated", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"clientCertificates\":{\"primary\":{\"certificate\":\"MIIBAA==\"}}}}}", 400, 400004 },
    { "dps-service:13 key", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"clientCertificates\":{\"primary\":{\"certificate\":\"-----BEGIN PRIVATE KEY-----\\nMC4CAQ==\\n-----END PRIVATE KEY-----\\n\"}}}}}", 400, 400004 },
    { "dps-service:15 one key", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"AAAAAAAAAAAAAAAAAAAAAA==\"}}}", 400, 400004 },
    { "dps-service:15 15 bytes", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"AAAAAAAAAAAAAAAAAAAA\",\"secondaryKey\":\"AAAAAAAAAAAAAAAAAAAA\"}}}", 400, 400004 },
    { "dps-service:15 no base64", "PUT", E "a", NULL, "{\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"%%\",\"secondaryKey\":\"%%\"}}}", 400, 400004 },
    { "dps-service:16", "PUT", G "g", NULL, "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"caReferences\":{\"primary\":\"nowhere\"}}}}", 400, 400004 },
    { "dps-service:17", "PUT", E "a", NULL, "{" SYM ",\"iotHubs\":[\"h.example\"]}", 400, 400004 },
    { "hub that is not linked", "PUT", E "a", NULL, "{" SYM ",\"iotHubHostName\":\"h.example\"}", 400, 400004 },
    { "dps-service:18 none", "PUT", E "a", NULL, "{" SYM ",\"allocationPolicy\":\"custom\"}", 400, 400004 },
    { "dps-service:18 http", "PUT", E "a", NULL, "{" SYM ",\"allocationPolicy\":\"custom\",\"customAllocationDefinition\":{\"webhookUrl\":\"http://h/\",\"apiVersion\":\"1\"}}", 400, 400004 },
    { "dps-service:18 file", "PUT", E "a", NULL, "{" SYM ",\"allocationPolicy\":\"custom\",\"customAllocationDefinition\":{\"webhookUrl\":\"file:///etc/passwd\",\"apiVersion\":\"1\"}}", 400, 400004 },
    { "dps-service:18 credentials", "PUT", E "a", NULL, "{" SYM ",\"allocationPolicy\":\"custom\",\"customAllocationDefinition\":{\"webhookUrl\":\"https://u:p@h/\",\"apiVersion\":\"1\"}}", 400, 400004 },
    { "dps-service:19 policy", "PUT", E "a", NULL, "{" SYM ",\"allocationPolicy\":\"roundRobin\"}", 400, 400004 },
    { "dps-service:19 status", "PUT", E "a", NULL, "{" SYM ",\"provisioningStatus\":\"Enabled\"}", 400, 400004 },
    { "dps-service:19 mode", "POST", "/enrollments", NULL, "{\"mode\":\"replace\",\"enrollments\":[{}]}", 400, 400004 },
    { "dps-service:20 key", "PUT", E "a", NULL, "{" SYM ",\"initialTwin\":{\"tags\":{\"a.b\":1}}}", 400, 400004 },
    { "dps-service:20 depth", "PUT", E "a", NULL, "{" SYM ",\"initialTwin\":{\"tags\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}}}}}}", 400, 400004 },
    { "dps-service:21", "PUT", E "a", NULL, "{" SYM ",\"reprovisionPolicy\":{\"migrateDeviceData\":\"true\"}}", 400, 400004 },
    { "dps-service:23", "PUT", E "absent", "*", "{" SYM "}", 404, 404201 },
    { "dps-service:23 group", "PUT", G "absent", "*", "{" SYM "}", 404, 404204 },
    { "dps-service:25", "GET", E "absent", NULL, NULL, 404, 404201 },
    { "dps-service:25 group", "GET", G "absent", NULL, NULL, 404, 404204 },
    { "dps-service:25 registration", "GET", "/registrations/absent", NULL, NULL, 404, 404202 },
    { "dps-service:25 delete", "DELETE", E "absent", NULL, NULL, 404, 404201 },
    { "dps-service:25 delete group", "DELETE", G "absent", NULL, NULL, 404, 404204 },
    { "dps-service:25 delete registration", "DELETE", "/registrations/absent", NULL, NULL, 404, 404202 },
    { "dps-service:26 none", "POST", "/enrollments", NULL, "{\"mode\":\"create\",\"enrollments\":[]}", 400, 400004 },
    { "dps-service:26 eleven", "POST", "/enrollments", NULL, "{\"mode\":\"create\",\"enrollments\":[{},{},{},{},{},{},{},{},{},{},{}]}", 400, 400205 },
    { "dps-service:27", "POST", "/enrollments/", NULL, "{\"mode\":\"create\",\"enrollments\":[{\"registrationId\":\"a\"},{\"registrationId\":\"A\"}]}", 400, 400206 },
    { "dps-service:28 syntax", "POST", "/enrollments/query", NULL, "{\"query\":\"DROP TABLE\"}", 400, 400004 },
    { "dps-service:28 nothing asked", "POST", "/enrollments/query", NULL, "{\"query\":\"SELECT\"}", 400, 400004 },
    { "dps-service:28 twice", "POST", "/enrollments/query", NULL, "{\"query\":\"* *\"}", 400, 400004 },
    { "dps-service:28 source", "POST", "/enrollments/query", NULL, "{\"query\":\"SELECT * FROM devices\"}", 400, 400004 },
    { "dps-service:36 linked hub unknown", "DELETE", "/admin/linkedHubs/nowhere?api-version=2026-11-01-berth", "*", NULL, 404, 404000 },
    { "dps-service:37", "PUT", "/admin/linkedHubs/h2.example?api-version=2026-11-01-berth", NULL, "{\"connectionString\":\"HostName=h3.example;SharedAccessKeyName=o;SharedAccessKey=AAAAAAAAAAAAAAAAAAAAAA==\"}", 400, 400004 },
    { "dps-service:38", "PUT", "/admin/settings?api-version=2026-11-01-berth", NULL, "{\"allocation\":\"Hashed\"}", 400, 400004 },
    { "id scope is read-only", "PUT", "/admin/settings?api-version=2026-11-01-berth", NULL, "{\"idScope\":\"0neX\"}", 400, 400004 },
    { "unknown path", "GET", "/nowhere", NULL, NULL, 404, 404000 },
    /* clang-format on */
};

static void test_refusals(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        char match[64], full[300];
        (void)snprintf(match, sizeof(match), "If-Match: %s",
                       r->if_match != NULL ? r->if_match : "");
        (void)snprintf(full, sizeof(full), "%s%s", r->path,
                       strstr(r->path, "api-version=") != NULL ? "" : "?api-version=2021-10-01");
        const struct call c = {.method = r->method,
                               .path = full,
                               .token = owner,
                               .body = r->body,
                               .header = {r->if_match != NULL ? match : NULL}};
        call(&c);
        want(r->name, r->status, r->code);
        assert_true(got_has(got.request_id)); /* the body's tracking id */
    }
}

static void test_ids_and_bodies_too_long(void **state UNUSED)
{
    static char body[200000];
    char path[300] = E;
    memset(path + strlen(path), 'a', 129);
    service("PUT", path, NULL, "{" SYM "}", 400, 400202); /* dps-service:8 */
    memset(body, ' ', sizeof(body) - 1);
    service("PUT", E "a", NULL, body, 413, 413000);
    struct call c = {.method = "PUT",
                     .path = E "a?api-version=2021-10-01",
                     .token = owner,
                     .body = "{}",
                     .content_type = "text/plain"};
    call(&c);
    want("dps-service:6", 415, 415000);
    (void)snprintf(body, sizeof(body), "{" SYM ",\"initialTwin\":{\"properties\":{\"desired\":{");
    for (unsigned i = 0; i < 17; i++) {
        (void)snprintf(body + strlen(body), 64, "%s\"k%u\":\"", i != 0 ? "," : "", i);
        size_t at = strlen(body);
        memset(body + at, 'x', 2000);
        body[at + 2000] = '\0';
        (void)snprintf(body + strlen(body), 8, "\"");
    }
    (void)snprintf(body + strlen(body), 8, "}}}}");
    service("PUT", E "a", NULL, body, 400, 400004); /* dps-service:20, 34 KB */
}

static void test_authentication(void **state UNUSED)
{
    char token[512];
    const struct {
        const char *name, *token;
    } bad[] = {
        {"dps-service:2 none", NULL},
        {"dps-service:2 wrong key",
         fix_token(dps.address, hub.key[0], "provisioningserviceowner", 3600, token)},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct call c = {
            .method = "GET", .path = E "a?api-version=2021-10-01", .token = bad[i].token};
        call(&c);
        want(bad[i].name, 401, 401002);
    }
    struct call c = {.method = "GET", .path = E "a?api-version=2021-10-01", .token = token};
    (void)fix_token(dps.address, dps.key[0], "provisioningserviceowner", -400, token);
    call(&c);
    want("dps-service:2 expired", 401, 401002);
    (void)fix_token(dps.address, dps.key[0], "nobody", 3600, token);
    call(&c);
    want("dps-service:2 unknown skn", 401, 401002);
    (void)fix_token(dps.address, dps.key[0], "", 3600, token);
    call(&c);
    want("dps-service:2 no skn", 401, 401002);
}

/* dps-service:3, dps-service:39: rights. */
static void test_rights(void **state UNUSED)
{
    char key[128], token[512];
    service("PUT", "/admin/policies/reader?api-version=2026-11-01-berth", NULL,
            "{\"rights\":\"EnrollmentRead\"}", 201, 0);
    service("POST", "/admin/policies/reader/listKeys?api-version=2026-11-01-berth", NULL, "{}", 200,
            0);
    got_str("primaryKey", key, sizeof(key));
    (void)fix_token(dps.address, key, "reader", 3600, token);
    struct call c = {.method = "GET", .path = E "absent?api-version=2021-10-01", .token = token};
    call(&c);
    want("may read", 404, 404201);
    c.method = "PUT";
    c.body = "{" SYM "}";
    call(&c);
    want("dps-service:3 PUT", 401, 401002);
    c.method = "POST";
    c.path = E "absent/attestationmechanism?api-version=2021-10-01";
    call(&c);
    want("dps-service:3 keys", 401, 401002);
    c.method = "GET";
    c.path = "/registrations/absent?api-version=2021-10-01";
    call(&c);
    want("registrations are another right", 401, 401002);
    c.path = "/admin/settings?api-version=2026-11-01-berth";
    call(&c);
    want("dps-service:39", 401, 401002);
}

static void test_individual_life(void **state UNUSED)
{
    char key[128], again[128], etag[100], etag2[100], quoted[110];
    service("PUT", E "Life-1", NULL,
            "{\"registrationId\":\"Life-1\"," SYM ",\"optionalDeviceInformation\":{\"a\":1}}", 200,
            0);
    got_str("attestation.symmetricKey.primaryKey", key, sizeof(key));
    assert_int_equal(strlen(key), 88);
    assert_true(got_has("\"provisioningStatus\":\"enabled\""));
    service("PUT", E "life-1", NULL, "{" SYM "}", 409, 409201); /* dps-service:22 */
    service("GET", E "LIFE-1", NULL, NULL, 200, 0);
    assert_false(got_has(key));
    assert_true(got_has("\"registrationId\":\"Life-1\""));
    assert_true(got_has("\"status\":\"unassigned\""));
    got_str("etag", etag, sizeof(etag));
    service("POST", E "life-1/attestationmechanism", NULL, "{}", 200, 0);
    got_str("symmetricKey.primaryKey", again, sizeof(again));
    assert_string_equal(key, again);
    /* An update without keys keeps them; If-Match bare, quoted, wildcard. */
    service("PUT", E "life-1", etag, "{" SYM ",\"provisioningStatus\":null}", 200, 0);
    got_str("attestation.symmetricKey.primaryKey", again, sizeof(again));
    assert_string_equal(key, again);
    assert_true(got_has("\"provisioningStatus\":\"enabled\""));
    got_str("etag", etag2, sizeof(etag2));
    assert_string_not_equal(etag, etag2);
    service("PUT", E "life-1", etag, "{" SYM "}", 412, 412001); /* dps-service:24 */
    service("DELETE", E "life-1", etag, NULL, 412, 412001);
    (void)snprintf(quoted, sizeof(quoted), "\"%s\"", etag2);
    service("PUT", E "life-1", quoted, "{" SYM "}", 200, 0);
    service("DELETE", E "life-1", "*", NULL, 204, 0);
    service("GET", E "life-1", NULL, NULL, 404, 404201);
}

static void test_group_life(void **state UNUSED)
{
    char key[128];
    service("PUT", G "grp-life", NULL, "{\"enrollmentGroupId\":\"grp-life\"," SYM "}", 200, 0);
    service("PUT", G "grp-life", NULL, "{" SYM "}", 409, 409202); /* dps-service:22 */
    service("POST", "/enrollmentgroups/grp-life/attestationmechanism", NULL, "", 200, 0);
    got_str("symmetricKey.secondaryKey", key, sizeof(key));
    service("DELETE", G "grp-life", "x", NULL, 412, 412001);
    service("DELETE", G "grp-life", NULL, NULL, 204, 0);
}

static void test_certificates(void **state UNUSED)
{
    struct made_cert root;
    char cert[8192], body[9000];
    make_ca("Service Root", NULL, &root);
    (void)cert_json(&root, cert, sizeof(cert));
    (void)snprintf(
        body, sizeof(body),
        "{\"attestation\":{\"type\":\"x509\",\"x509\":{\"signingCertificates\":{\"primary\":%s}}}}",
        cert);
    service("PUT", G "x-life", NULL, body, 200, 0);
    assert_true(got_has("\"sha1Thumbprint\":\""));
    assert_true(got_has("\"subjectName\":\"CN=Service Root\""));
    assert_true(got_has("\"version\":3"));
    /* What GET told can be put back. */
    service("GET", G "x-life", NULL, NULL, 200, 0);
    assert_true(span_to_cstr(buf_span(&got.body), body, sizeof(body)));
    service("PUT", G "x-life", "*", body, 200, 0);
    service("DELETE", G "x-life", NULL, NULL, 204, 0);
    made_cert_done(&root);
}

static void test_bulk(void **state UNUSED)
{
    service("POST", "/enrollments/", NULL,
            "{\"mode\":\"create\",\"enrollments\":[{\"registrationId\":\"b1\"," SYM
            "},{\"registrationId\":\"b2\"," SYM "}]}",
            200, 0);
    assert_true(got_has("\"isSuccessful\":true"));
    service("POST", "/enrollments", NULL,
            "{\"mode\":\"create\",\"enrollments\":[{\"registrationId\":\"b1\"," SYM
            "},{\"registrationId\":\"b3\"," SYM "},{\"registrationId\":\"b4\"}]}",
            200, 0);
    assert_true(got_has("{\"registrationId\":\"b1\",\"errorCode\":409201,\"errorStatus\":"
                        "\"Enrollment already exists.\"}"));
    assert_true(got_has("{\"registrationId\":\"b4\",\"errorCode\":400005,"));
    assert_true(got_has("\"isSuccessful\":false"));
    service("POST", "/enrollments", NULL,
            "{\"mode\":\"update\",\"enrollments\":[{\"registrationId\":\"b1\"," SYM "}]}", 200, 0);
    assert_true(got_has("\"errorCode\":409201"));
    service("POST", "/enrollments", NULL,
            "{\"mode\":\"update\",\"enrollments\":[{\"registrationId\":\"b1\",\"etag\":\"*\"," SYM
            "}]}",
            200, 0);
    assert_true(got_has("\"isSuccessful\":true"));
    service("POST", "/enrollments", NULL,
            "{\"mode\":\"update\",\"enrollments\":[{\"registrationId\":\"b1\",\"etag\":\"old\"," SYM
            "}]}",
            200, 0);
    assert_true(got_has("\"errorCode\":412001"));
    service("POST", "/enrollments", NULL,
            "{\"mode\":\"delete\",\"enrollments\":[{\"registrationId\":\"b1\"},{\"registrationId\":"
            "\"B2\"},{\"registrationId\":\"b3\"}]}",
            200, 0);
    assert_true(got_has("{\"errors\":[],\"isSuccessful\":true}"));
    service("POST", G "?api-version=2021-10-01", NULL,
            "{\"mode\":\"create\",\"enrollmentGroups\":[{\"enrollmentGroupId\":\"bg\"," SYM "}]}",
            200, 0);
    assert_true(got_has("\"isSuccessful\":true"));
    service("DELETE", G "bg", NULL, NULL, 204, 0);
}

static void query_page(const char *path, const char *body, const char *count, const char *token,
                       long status, unsigned code)
{
    char count_line[64], token_line[400], full[200];
    (void)snprintf(full, sizeof(full), "%s?api-version=2021-10-01", path);
    (void)snprintf(count_line, sizeof(count_line), "x-ms-max-item-count: %s", count);
    (void)snprintf(token_line, sizeof(token_line), "x-ms-continuation: %s", token);
    const struct call c = {.method = "POST",
                           .path = full,
                           .token = owner,
                           .body = body,
                           .header = {count_line, token[0] != '\0' ? token_line : NULL}};
    call(&c);
    want(path, status, code);
}

static void test_query(void **state UNUSED)
{
    char path[64], token[300] = "";
    for (unsigned i = 0; i < 25; i++) {
        (void)snprintf(path, sizeof(path), E "q-%02u", i);
        service("PUT", path, NULL, "{" SYM "}", 200, 0);
    }
    static const char *const texts[] = {"{\"query\":\"\"}", "{\"query\":\"*\"}",
                                        "{\"query\":\"select * from enrollments\"}"};
    query_page("/enrollments/query", "{\"query\":\"SELECT *\"}", "1", "", 200, 0);
    for (unsigned page = 0; page < 3; page++) {
        query_page("/enrollments/query", texts[page], "10", token, 200, 0);
        assert_string_equal(got.item_type, "Enrollment");
        assert_int_equal(got.continuation[0] == '\0', page == 2);
        (void)snprintf(token, sizeof(token), "%s", got.continuation);
        (void)snprintf(path, sizeof(path), "\"registrationId\":\"q-%02u\"", page * 10);
        assert_true(got_has(path));
    }
    query_page("/enrollments/query", "", "0", "", 400, 400004); /* dps-service:28 */
    query_page("/enrollments/query", "", "x", "", 400, 400004);
    query_page("/enrollments/query", "", "10", "AAAA", 400, 400000);
    query_page("/enrollmentGroups/query", "{\"query\":\"SELECT * FROM enrollmentGroups WHERE\"}",
               "10", "", 400, 400004);
    query_page("/enrollments/query", "{\"query\":\"SELECT registrationId FROM enrollments\"}", "10",
               "", 400, 400004); /* projections */
    service("PUT", G "empty", NULL, "{" SYM "}", 200, 0);
    query_page("/registrations/empty/query", "{\"query\":\"whatever\"}", "10", "", 200, 0);
    assert_string_equal(got.item_type, "DeviceRegistration");
    assert_span(buf_span(&got.body), SPAN_LIT("[]"));
    query_page("/registrations/nowhere/query", "", "10", "", 404, 404204);
}

/* WHERE over the members of A8; a page of one query does not go on with another (threat D11). */
static void test_where(void **state UNUSED)
{
    static const struct {
        const char *where;
        unsigned n;
    } wheres[] = {
        {"registrationId = 'W-03'", 1},
        {"registrationId IN ['w-01','W-02','nobody']", 2},
        {"STARTS_WITH(registrationId, 'w-') AND provisioningStatus = 'disabled'", 4},
        {"STARTS_WITH(registrationId, 'w-') AND deviceId = 'unit-5'", 1},
        {"STARTS_WITH(registrationId, 'w-') AND NOT IS_DEFINED(deviceId)", 4},
        {"registrationId >= 'w-02' AND registrationId < 'w-05'", 3},
        {"attestation.type = 'x509'", 0},
        {"STARTS_WITH(registrationId, 'w-') AND attestation.type != 'x509'", 8},
        {"STARTS_WITH(registrationId, 'w-') AND IS_DEFINED(iotHubHostName)", 0},
        {"registrationId = 'x\\\\' OR \\\\'1\\\\'=\\\\'1'", 0},
    };
    char path[64], body[300], token[300];
    for (unsigned i = 0; i < 8; i++) {
        (void)snprintf(path, sizeof(path), E "W-0%u", i);
        if (i % 2 != 0) {
            (void)snprintf(body, sizeof(body), "{" SYM ",\"deviceId\":\"unit-%u\"}", i);
        } else {
            (void)snprintf(body, sizeof(body), "{" SYM ",\"provisioningStatus\":\"disabled\"}");
        }
        service("PUT", path, NULL, body, 200, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(wheres); i++) {
        (void)snprintf(body, sizeof(body), "{\"query\":\"SELECT * FROM enrollments WHERE %s\"}",
                       wheres[i].where);
        query_page("/enrollments/query", body, "100", "", 200, 0);
        unsigned n = 0;
        for (const char *p = (const char *)got.body.p, *end = p + got.body.n;
             (p = memmem(p, (size_t)(end - p), "\"registrationId\"", 16)) != NULL; p++) {
            n++;
        }
        if (n != wheres[i].n) {
            fail_msg("%s: %u rows, wanted %u", wheres[i].where, n, wheres[i].n);
        }
        assert_string_equal(got.continuation, "");
    }
    query_page("/enrollments/query",
               "{\"query\":\"SELECT * WHERE STARTS_WITH(registrationId,'w-')\"}", "3", "", 200, 0);
    (void)snprintf(token, sizeof(token), "%s", got.continuation);
    query_page("/enrollments/query",
               "{\"query\":\"SELECT * WHERE STARTS_WITH(registrationId,'w-')\"}", "3", token, 200,
               0);
    assert_true(got_has("\"W-03\"") && got_has("\"W-05\""));
    query_page("/enrollments/query", "", "3", token, 400, 400000);
    query_page("/enrollments/query", "{\"query\":\"SELECT * WHERE lastUpdatedDateTimeUtc = 1\"}",
               "3", "", 400, 400004);
    assert_true(got_has("near character"));
    query_page("/enrollmentGroups/query", "{\"query\":\"SELECT * WHERE deviceId = 'a'\"}", "3", "",
               400, 400004);
    service("PUT", G "w-g", NULL, "{" SYM "}", 200, 0);
    query_page("/enrollmentGroups/query",
               "{\"query\":\"SELECT * FROM enrollmentGroups WHERE enrollmentGroupId = 'W-G'\"}",
               "3", "", 200, 0);
    assert_true(got_has("\"w-g\""));
}

static void test_linked_hubs(void **state UNUSED)
{
    char path[200], body[300];
    (void)snprintf(path, sizeof(path), "/admin/linkedHubs/%s?api-version=2026-11-01-berth",
                   hub.address);
    service("GET", path, NULL, NULL, 200, 0);
    assert_true(got_has("SharedAccessKey=****"));
    assert_false(got_has(hub.key[0]));
    (void)snprintf(body, sizeof(body), "{" SYM ",\"iotHubHostName\":\"%s\"}", hub.address);
    service("PUT", E "names-hub", NULL, body, 200, 0);
    service("DELETE", path, NULL, NULL, 412, 412001);
    service("DELETE", path, "*", NULL, 409, 409000); /* dps-service:36 */
    service("DELETE", E "names-hub", NULL, NULL, 204, 0);
    /* The mask keeps the stored key. */
    (void)snprintf(body, sizeof(body),
                   "{\"connectionString\":\"HostName=%s;SharedAccessKeyName=owner;SharedAccessKey=*"
                   "***\",\"port\":%d}",
                   hub.address, FIX_HTTPS_PORT);
    service("PUT", path, "*", body, 200, 0);
    (void)snprintf(path, sizeof(path), "/admin/linkedHubs/%s/test?api-version=2026-11-01-berth",
                   hub.address);
    service("POST", path, NULL, "", 200, 0);
    assert_true(got_has("\"reachable\":true"));
    assert_true(got_has("\"registryWrite\":true"));
    service("PUT", "/admin/settings?api-version=2026-11-01-berth", NULL,
            "{\"allocationPolicy\":\"GeoLatency\"}", 200, 0);
    service("GET", "/admin/settings?api-version=2026-11-01-berth", NULL, NULL, 200, 0);
    assert_true(got_has("\"allocationPolicy\":\"GeoLatency\""));
}

int main(int argc, char **argv)
{
    int rc = bench_server(argc, argv);
    if (rc >= 0) {
        return rc;
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_ids_and_bodies_too_long),
        cmocka_unit_test(test_authentication),  cmocka_unit_test(test_rights),
        cmocka_unit_test(test_individual_life), cmocka_unit_test(test_group_life),
        cmocka_unit_test(test_certificates),    cmocka_unit_test(test_bulk),
        cmocka_unit_test(test_query),           cmocka_unit_test(test_where),
        cmocka_unit_test(test_linked_hubs),
    };
    return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
