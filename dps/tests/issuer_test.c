/* SPDX-License-Identifier: Apache-2.0 */
/* Issuing CAs on the administration plane, and what enrollments may say of them. */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/text.h"
#include "dps/issuance.h"
#include "dps/tests/bench.h"

#define V "?api-version=2026-11-01-berth"
#define CA "/admin/certificateAuthorities/"
#define E "/enrollments/"
#define SYM "\"attestation\":{\"type\":\"symmetricKey\"}"
/* clang-format off */
#define ROOT "{\"properties\":{\"key\":{\"kind\":\"file\"},\"selfSigned\":true,\"commonName\":\"Device Root\"}}"
#define POLICY(more) "{" SYM ",\"clientCertificateIssuancePolicy\":{\"certificateAuthorityName\":\"root\"" more "}}"
/* clang-format on */

static void admin(const char *method, const char *path, const char *if_match, const char *body,
                  long status, unsigned code)
{
    service(method, path, if_match, body, status, code);
}

static int setup(void **state)
{
    assert_int_equal(bench_setup(state), 0);
    admin("PUT", CA "root" V, NULL, ROOT, 201, 0);
    return 0;
}

static void test_self_signed(void **state UNUSED)
{
    char pem[8192];
    struct cert *c = NULL;
    struct span cn;
    admin("GET", CA "ROOT" V, NULL, NULL, 200, 0);
    assert_true(got_has("\"state\":\"ready\""));
    assert_true(got_has("\"key\":{\"kind\":\"file\",\"type\":\"P-256\"}"));
    assert_false(got_has("PRIVATE"));
    got_str("properties.certificate", pem, sizeof(pem));
    assert_ok(cert_from_text(span_str(pem), &c, NULL));
    assert_true(cert_is_ca(c) && cert_is_self_issued(c) && cert_issued_by(c, c));
    assert_ok(cert_cn(c, &cn, NULL));
    assert_true(span_is(cn, "Device Root"));
    cert_free(c);
    admin("GET", "/admin/certificateAuthorities" V, NULL, NULL, 200, 0);
    assert_true(got_has("\"name\":\"root\""));
}

static const struct {
    const char *name, *path, *if_match, *body;
    long status;
    unsigned code;
} refused[] = {
    /* clang-format off */
    { "exists", CA "root", NULL, ROOT, 409, 409000 },
    { "no key", CA "x", NULL, "{\"properties\":{}}", 400, 400005 },
    { "no properties", CA "x", NULL, "{}", 400, 400005 },
    { "unknown member", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"file\"},\"pin\":\"1234\"}}", 400, 400004 },
    { "unknown kind", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"usb\"}}}", 400, 400004 },
    { "unknown type", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"file\",\"type\":\"RSA-1024\"}}}", 400, 400004 },
    { "a file of the server", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"file\",\"uri\":\"pkcs11:a=b\"}}}", 400, 400004 },
    { "no URI", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"pkcs11\"}}}", 400, 400004 },
    { "PIN in the URI", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"pkcs11\",\"uri\":\"pkcs11:token=t;object=o?pin-value=1\"}}}", 400, 400004 },
    { "library in the URI", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"pkcs11\",\"uri\":\"pkcs11:token=t?module-path=/tmp/x.so\"}}}", 400, 400004 },
    { "no module", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"pkcs11\",\"uri\":\"pkcs11:token=t;object=o\"}}}", 400, 400003 },
    { "transient handle", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"tpm\",\"handle\":\"handle:0x80000001\"}}}", 400, 400004 },
    { "a path", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"tpm\",\"handle\":\"/etc/passwd\"}}}", 400, 400004 },
    { "both", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"file\"},\"selfSigned\":true,\"certificate\":\"x\"}}", 400, 400004 },
    { "no certificate", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"file\"},\"certificate\":\"x\"}}", 400, 400004 },
    { "CN too long", CA "x", NULL, "{\"properties\":{\"key\":{\"kind\":\"file\"},\"commonName\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}}", 400, 400004 },
    { "stale etag", CA "root", "AAAAAAAAAAE=", ROOT, 412, 412001 },
    { "no name of a CA", E "d", NULL, "{" SYM ",\"clientCertificateIssuancePolicy\":{}}", 400, 400005 },
    { "unknown CA", E "d", NULL, "{" SYM ",\"clientCertificateIssuancePolicy\":{\"certificateAuthorityName\":\"nowhere\"}}", 400, 400004 },
    { "policy is no object", E "d", NULL, "{" SYM ",\"clientCertificateIssuancePolicy\":\"root\"}", 400, 400004 },
    { "days", E "d", NULL, POLICY(",\"validityDays\":0"), 400, 400004 },
    { "days and minutes", E "d", NULL, POLICY(",\"validityDays\":1,\"validityMinutes\":1"), 400, 400004 },
    { "key type", E "d", NULL, POLICY(",\"keyTypes\":[\"RSA-1024\"]"), 400, 400004 },
    { "no key type", E "d", NULL, POLICY(",\"keyTypes\":[]"), 400, 400004 },
    { "not for a client", E "d", NULL, POLICY(",\"extendedKeyUsage\":[\"serverAuth\"]"), 400, 400004 },
    { "another purpose", E "d", NULL, POLICY(",\"extendedKeyUsage\":[\"codeSigning\"]"), 400, 400004 },
    { "unknown member of the policy", E "d", NULL, POLICY(",\"validtyDays\":3"), 400, 400004 },
    /* clang-format on */
};

static void test_refusals(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        char match[64], full[300];
        (void)snprintf(match, sizeof(match), "If-Match: %s",
                       refused[i].if_match != NULL ? refused[i].if_match : "");
        (void)snprintf(full, sizeof(full), "%s%s", refused[i].path,
                       refused[i].path[1] == 'a' ? V : "?api-version=2021-10-01");
        const struct call c = {.method = "PUT",
                               .path = full,
                               .token = owner,
                               .body = refused[i].body,
                               .header = {refused[i].if_match != NULL ? match : NULL}};
        call(&c);
        want(refused[i].name, refused[i].status, refused[i].code);
    }
    admin("GET", CA "x" V, NULL, NULL, 404, 404000);
    admin("DELETE", CA "x" V, "*", NULL, 404, 404000);
    admin("DELETE", CA "root" V, NULL, NULL, 412, 412001);
}

/* An offline root signs the request; what does not fit the key is refused. */
static void test_waiting(void **state UNUSED)
{
    static char csr_pem[4096], json[16384], body[20000], etag[64];
    struct made_cert root, other;
    struct csr *csr = NULL;
    struct cert *c = NULL;
    struct buf pem = BUF_INIT(16384), quoted = BUF_INIT(16384);
    make_ca("Offline Root", NULL, &root);
    make_ca("Other", NULL, &other);
    admin("PUT", CA "sub" V, NULL,
          "{\"properties\":{\"key\":{\"kind\":\"file\",\"type\":\"P-384\"}}}", 201, 0);
    assert_true(got_has("\"state\":\"waitingForCertificate\""));
    got_str("properties.certificateSigningRequest", csr_pem, sizeof(csr_pem));
    got_str("etag", etag, sizeof(etag));
    assert_ok(csr_from_text(span_str(csr_pem), &csr, NULL));
    int64_t now = clock_wall_us(clock_system());
    const struct cert_request rq = {.profile = PROFILE_INTERMEDIATE_CA,
                                    .cn = SPAN_LIT("sub"),
                                    .not_before_us = now - 60000000,
                                    .not_after_us = now + 3600000000};
    assert_ok(signer_issue_now(root.key, root.cert, csr, NULL, &rq, &c, NULL));
    (void)snprintf(body, sizeof(body), "{\"properties\":{%s}}",
                   cert_json(&other, json, sizeof(json)) + 1);
    body[strlen(body) - 1] = '\0'; /* cert_json has a brace of its own */
    admin("PUT", CA "sub" V, etag, body, 400, 400004);
    assert_true(got_has("its key is not the CA's key"));
    cert_add_pem(c, &pem);
    cert_add_pem(root.cert, &pem);
    json_write_str(&quoted, buf_span(&pem));
    (void)snprintf(body, sizeof(body), "{\"properties\":{\"certificate\":%.*s}}",
                   SPAN_ARG(buf_span(&quoted)));
    admin("PUT", CA "sub" V, etag, body, 200, 0);
    assert_true(got_has("\"state\":\"ready\""));
    admin("PUT", CA "sub" V, etag, body, 412, 412001);
    csr_free(csr);
    cert_free(c);
    buf_done(&pem);
    buf_done(&quoted);
    made_cert_done(&root);
    made_cert_done(&other);
}

static void test_in_use(void **state UNUSED)
{
    admin("PUT", CA "used" V, NULL, ROOT, 201, 0);
    service("PUT", E "uses", NULL,
            "{" SYM ",\"clientCertificateIssuancePolicy\":{\"certificateAuthorityName\":\"Used\","
            "\"validityDays\":3}}",
            200, 0);
    assert_true(got_has("\"clientCertificateIssuancePolicy\":{\"certificateAuthorityName\":"
                        "\"Used\",\"validityDays\":3}"));
    admin("DELETE", CA "used" V, "*", NULL, 409, 409000);
    service("PUT", E "uses", "*", "{" SYM "}", 200, 0);
    assert_false(got_has("clientCertificateIssuancePolicy"));
    admin("DELETE", CA "used" V, "*", NULL, 204, 0);
    admin("GET", "/admin/audit" V, NULL, NULL, 200, 0);
    assert_true(got_has("DELETE /admin/certificateAuthorities/used"));
}

static void test_log_is_empty(void **state UNUSED)
{
    admin("GET", "/admin/issuedCertificates" V, NULL, NULL, 200, 0);
    assert_true(got_has("{\"value\":[],\"nextLink\":null}"));
    admin("GET", "/admin/issuedCertificates" V "&from=x", NULL, NULL, 400, 400004);
    admin("GET", "/admin/issuedCertificates" V "&registrationId=a%20b", NULL, NULL, 400, 400004);
}

static void test_patterns(void **state UNUSED)
{
    static const struct {
        const char *pattern, *id;
        bool fits;
    } rows[] = {
        {"*", "", true},          {"a*", "a", true},       {"a*", "abc", true},
        {"a*", "ba", false},      {"*-7", "pump-7", true}, {"*-7", "pump-77", false},
        {"a*b*c", "aXbYc", true}, {"a*b*c", "aXc", false}, {"*a*", "xxaxx", true},
        {"abc", "abc", true},     {"abc", "abcd", false},  {"a**b", "ab", true},
        {"*ab", "aab", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(issuance_matches(span_str(rows[i].pattern), span_str(rows[i].id)),
                         rows[i].fits);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self_signed),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_waiting),      cmocka_unit_test(test_in_use),
        cmocka_unit_test(test_log_is_empty), cmocka_unit_test(test_patterns),
    };
    int as_server = bench_server(argc, argv);
    if (as_server >= 0) {
        return as_server;
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, setup, bench_teardown);
}
