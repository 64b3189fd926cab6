/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates issued inside registrations: docs/protocol/dps-device.md 10; rows D35, D36; threat C8. */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "certs/signer.h"
#include "dps/tests/bench.h"
#include "wire/json.h"

#define V "?api-version=2026-11-01-berth"
#define E "/enrollments/"

static char group_key[128];

static void put_group(const char *match, const char *policy)
{
    char body[1024];
    (void)snprintf(body, sizeof(body), "{\"attestation\":{\"type\":\"symmetricKey\"}%s%s}",
                   policy[0] != '\0' ? ",\"clientCertificateIssuancePolicy\":" : "", policy);
    service("PUT", "/enrollmentGroups/units", match, body, 200, 0);
}

static int setup(void **state)
{
    assert_int_equal(bench_setup(state), 0);
    service("PUT", "/admin/certificateAuthorities/devices" V, NULL,
            "{\"properties\":{\"key\":{\"kind\":\"file\"},\"selfSigned\":true}}", 201, 0);
    put_group(NULL, "{\"certificateAuthorityName\":\"devices\",\"validityDays\":30,"
                    "\"organization\":\"Example\"}");
    service("POST", "/enrollmentGroups/units/attestationmechanism", NULL, NULL, 200, 0);
    got_str("symmetricKey.primaryKey", group_key, sizeof(group_key));
    return 0;
}

/* --- a device that asks -------------------------------------------------------------------------------- */

struct device {
    const char *rid;
    struct signer_key *key;
    struct buf csr; /* DER */
};

static void device_new(const char *rid, const char *cn, enum key_type type, struct device *ret)
{
    *ret = (struct device){.rid = rid, .csr = BUF_INIT(LIMIT_CERT_DER)};
    assert_ok(signer_key_generate(type, &ret->key));
    assert_ok(signer_make_csr(ret->key, span_str(cn), &ret->csr, NULL));
}

static void device_done(struct device *d)
{
    signer_key_free(d->key);
    buf_done(&d->csr);
}

static void add_csr(const struct device *d, bool is_pem, struct buf *b)
{
    struct buf text = BUF_INIT(65536);
    if (is_pem) {
        csr_add_pem(buf_span(&d->csr), &text);
    } else {
        base64_add(&text, buf_span(&d->csr));
    }
    buf_add_str(b, is_pem ? "{\"clientCertificateCsr\":" : "{\"csr\":");
    json_write_str(b, buf_span(&text));
    buf_add_str(b, "}");
    buf_add_u8(b, 0);
    buf_done(&text);
}

/* The final answer is in `got`. */
static void ask_https(const char *rid, const char *body)
{
    char path[512], op[100], token[512], key[64];
    struct call c = {.method = "PUT", .path = path, .body = body};
    c.token = device_token(rid, derived_key(group_key, rid, key), token);
    (void)snprintf(path, sizeof(path),
                   "/%s/registrations/%s/register?api-version=2025-07-01-preview", scope, rid);
    call(&c);
    want(rid, 202, 0);
    got_str("operationId", op, sizeof(op));
    (void)snprintf(path, sizeof(path),
                   "/%s/registrations/%s/operations/%s?api-version=2025-07-01-preview", scope, rid,
                   op);
    c.method = "GET";
    c.body = NULL;
    do {
        call(&c);
    } while (got.status == 202);
}

static void ask(const struct device *d, bool is_pem)
{
    struct buf b = BUF_INIT(65536);
    add_csr(d, is_pem, &b);
    ask_https(d->rid, (const char *)b.p);
    buf_done(&b);
}

/* The certificates of the answer in `body`, by either contract. */
static size_t read_chain(struct span body, struct cert *c[LIMIT_CHAIN_CERTS])
{
    struct json *j = NULL;
    size_t n = 0;
    assert_ok(json_read_object(body, 1u << 20, &j, NULL));
    const struct json *st = json_get(j, "registrationState");
    const struct json *list = json_get(st, "issuedCertificateChain");
    struct span pem = json_str(json_get(st, "issuedClientCertificate"));
    if (pem.n != 0) {
        assert_ok(cert_list_from_pem(pem, c, LIMIT_CHAIN_CERTS, &n, NULL));
    }
    for (size_t i = 0; i < json_count(list); i++) {
        struct span one = json_str(json_at(list, i));
        struct buf der = BUF_INIT(LIMIT_CERT_DER);
        assert_int_equal(span_find(one, '-'), one.n);
        assert_int_equal(span_find(one, '\n'), one.n);
        assert_ok(base64_decode(one, &der));
        assert_ok(cert_from_der(buf_span(&der), &c[n++], NULL));
        buf_done(&der);
    }
    json_free(j);
    return n;
}

static void free_chain(struct cert **c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cert_free(c[i]);
    }
}

static struct cert *issuing_ca(void)
{
    char pem[8192];
    struct cert *ca = NULL;
    service("GET", "/admin/certificateAuthorities/devices" V, NULL, NULL, 200, 0);
    got_str("properties.certificate", pem, sizeof(pem));
    assert_ok(cert_from_text(span_str(pem), &ca, NULL));
    return ca;
}

/* What the hub was told of a device, into `got`. */
static void seen(const char *rid)
{
    char path[200];
    (void)snprintf(path, sizeof(path), "/seen/%s", rid);
    const struct call c = {.method = "GET", .path = path, .at = &hub};
    call(&c);
}

static void want_thumbs(const char *rid, const struct cert *first, const struct cert *second)
{
    char hex[65], text[200];
    seen(rid);
    hex_to_cstr(span_of(cert_sha256(first), CERT_SHA256), true, hex);
    (void)snprintf(text, sizeof(text), "\"primaryThumbprint\":\"%s\"", hex);
    assert_true(got_has("\"type\":\"selfSigned\""));
    assert_true(got_has(text));
    if (second != NULL) {
        hex_to_cstr(span_of(cert_sha256(second), CERT_SHA256), true, hex);
        (void)snprintf(text, sizeof(text), "\"secondaryThumbprint\":\"%s\"", hex);
    } else {
        (void)snprintf(text, sizeof(text), "\"secondaryThumbprint\":null");
    }
    assert_true(got_has(text));
}

/* --- tests ------------------------------------------------------------------------------------------------ */

/* dps-device:D35, the answers of both contracts; profile and log. */
static void test_both_contracts(void **state UNUSED)
{
    static const enum key_type types[] = {KEY_P256, KEY_P384, KEY_RSA2048};
    AUTO(cert_free_p) struct cert *ca = issuing_ca();
    for (unsigned i = 0; i < 2 * ARRAY_LEN(types); i++) {
        char rid[32], hex[65];
        struct device d;
        struct cert *c[LIMIT_CHAIN_CERTS] = {NULL};
        struct span cn;
        struct buf subject = BUF_INIT(1024);
        (void)snprintf(rid, sizeof(rid), "Unit-%u", i);
        device_new(rid, i % 2 == 0 ? rid : "UNIT-1", types[i / 2], &d);
        if (i > 1 && i % 2 == 1) {
            device_done(&d);
            device_new(rid, rid, types[i / 2], &d);
        }
        ask(&d, i % 2 == 0);
        want(rid, 200, 0);
        assert_true(got_has("\"status\":\"assigned\""));
        assert_true(got_has(i % 2 == 0 ? "issuedClientCertificate" : "issuedCertificateChain"));
        assert_false(got_has(i % 2 != 0 ? "issuedClientCertificate" : "issuedCertificateChain"));
        size_t n = read_chain(buf_span(&got.body), c);
        assert_int_equal(n, 2); /* the root is all there is above: told */
        assert_true(cert_issued_by(c[0], c[1]) && span_eq(cert_der(c[1]), cert_der(ca)));
        assert_true(signer_key_fits(d.key, c[0]));
        assert_false(cert_is_ca(c[0]));
        assert_ok(cert_cn(c[0], &cn, NULL));
        assert_true(span_is(cn, rid)); /* as it registered, however the request spelled it */
        cert_add_subject(c[0], &subject);
        assert_true(span_find(buf_span(&subject), 'O') != subject.n);
        assert_true(cert_not_after_us(c[0]) - clock_wall_us(clock_system()) <=
                    30 * 86400LL * 1000000);
        want_thumbs(rid, c[0], NULL);
        hex_to_cstr(span_of(cert_sha256(c[0]), CERT_SHA256), true, hex);
        service("GET", "/admin/issuedCertificates" V, NULL, NULL, 200, 0);
        assert_true(got_has(hex));
        free_chain(c, n);
        buf_done(&subject);
        device_done(&d);
    }
}

static void test_over_mqtt(void **state UNUSED)
{
    char user[200], token[512], key[64], op[100];
    struct buf body = BUF_INIT(65536);
    struct cert *c[LIMIT_CHAIN_CERTS] = {NULL};
    struct device d;
    int code, status;
    device_new("over-mqtt", "over-mqtt", KEY_P256, &d);
    add_csr(&d, true, &body);
    (void)snprintf(user, sizeof(user), "%s/registrations/over-mqtt/api-version=2021-11-01-preview",
                   scope);
    struct mq *m = mq_open(
        "over-mqtt", user,
        device_token("over-mqtt", derived_key(group_key, "over-mqtt", key), token), 4, &code);
    assert_int_equal(code, 0);
    assert_int_equal(mq_subscribe(m, "$dps/registrations/res/#", 1), 1);
    assert_int_equal(mq_register(m, "1", (const char *)body.p), 202);
    fix_json_str(mq_body(m), "operationId", op, sizeof(op));
    do {
        status = mq_poll(m, "2", op);
    } while (status == 202);
    assert_int_equal(status, 200);
    size_t n = read_chain(mq_body(m), c);
    assert_int_equal(n, 2);
    want_thumbs("over-mqtt", c[0], NULL);
    free_chain(c, n);
    mq_close(m);
    buf_done(&body);
    device_done(&d);
}

/* dps-device:D36: `failed`, a code that is a number, and nothing made at the hub. */
static void test_refused(void **state UNUSED)
{
    static const char rsa1024[] =
        "MIIBVDCBvgIBADAVMRMwEQYDVQQDDApyZWZ1c2VkLXJzMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC8";
    static const struct {
        const char *rid, *body;
    } rows[] = {
        {"refused-text", "{\"csr\":\"no base64!\"}"},
        {"refused-empty", "{\"csr\":\"\"}"},
        {"refused-number", "{\"csr\":5}"},
        {"refused-object", "{\"clientCertificateCsr\":{}}"},
        {"refused-der", "{\"csr\":\"AAAA\"}"},
        {"refused-pem", "{\"clientCertificateCsr\":\"-----BEGIN CERTIFICATE REQUEST-----\\nAAAA\\n"
                        "-----END CERTIFICATE REQUEST-----\\n\"}"},
        {"refused-cert", "{\"clientCertificateCsr\":\"-----BEGIN CERTIFICATE-----\\nAAAA\\n"
                         "-----END CERTIFICATE-----\\n\"}"},
    };
    char body[512];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        ask_https(rows[i].rid, rows[i].body);
        want(rows[i].rid, 200, 400004);
        assert_true(got_has("\"status\":\"failed\""));
        seen(rows[i].rid);
        assert_true(got_has("\"n\":0"));
    }
    (void)snprintf(body, sizeof(body), "{\"csr\":\"%s\"}", rsa1024); /* cut, and too small */
    ask_https("refused-rs", body);
    want("refused-rs", 200, 400004);
}

static void test_wrong_name(void **state UNUSED)
{
    struct device d;
    device_new("unit-wrong", "unit-other", KEY_P256, &d);
    ask(&d, false);
    want("wrong CN", 200, 400004);
    assert_true(got_has("\"status\":\"failed\"") && got_has("its CN is not the registration id"));
    d.csr.p[d.csr.n - 1] ^= 1; /* the signature */
    ask(&d, false);
    want("broken signature", 200, 400004);
    assert_true(got_has("not signed by the key"));
    device_done(&d);
    seen("unit-wrong");
    assert_true(got_has("\"n\":0"));
}

/* Registered again: without a request the certificate stays; a new one leaves the former beside it; without a policy the key counts. */
static void test_again(void **state UNUSED)
{
    struct device d, e;
    struct cert *c[LIMIT_CHAIN_CERTS] = {NULL}, *b[LIMIT_CHAIN_CERTS] = {NULL};
    device_new("again", "again", KEY_P256, &d);
    device_new("again", "again", KEY_P256, &e);
    ask(&d, false);
    size_t n = read_chain(buf_span(&got.body), c);
    ask_https("again", "{}");
    assert_false(got_has("issued"));
    want_thumbs("again", c[0], NULL);
    ask(&e, false);
    size_t k = read_chain(buf_span(&got.body), b);
    want_thumbs("again", b[0], c[0]);
    ask_https("again", "{}");
    want_thumbs("again", b[0], NULL);
    service("GET", "/admin/issuedCertificates" V "&registrationId=AGAIN", NULL, NULL, 200, 0);
    char hex[65];
    hex_to_cstr(span_of(cert_sha256(c[0]), CERT_SHA256), true, hex);
    assert_true(got_has(hex));
    put_group("*", "");
    ask_https("again", "{}");
    seen("again");
    assert_true(got_has("\"type\":\"sas\""));
    ask(&d, false);
    want("no policy", 200, 400004);
    assert_true(got_has("\"status\":\"failed\""));
    put_group("*", "{\"certificateAuthorityName\":\"devices\"}");
    ask_https("again", "{}");
    seen("again");
    assert_true(got_has("\"type\":\"sas\"")); /* what was forgotten stays so */
    free_chain(c, n);
    free_chain(b, k);
    device_done(&d);
    device_done(&e);
}

/* The profile's bounds: kinds of keys, ids, and the CA's own end. */
static void test_profile(void **state UNUSED)
{
    AUTO(cert_free_p) struct cert *ca = issuing_ca();
    struct cert *c[LIMIT_CHAIN_CERTS] = {NULL};
    struct device d;
    put_group("*", "{\"certificateAuthorityName\":\"devices\",\"keyTypes\":[\"P-384\"],"
                   "\"registrationIdPattern\":\"pump-*\",\"validityDays\":3650}");
    device_new("pump-1", "pump-1", KEY_P256, &d);
    ask(&d, false);
    want("kind of key", 200, 400004);
    device_done(&d);
    device_new("valve-1", "valve-1", KEY_P384, &d);
    ask(&d, false);
    want("pattern", 200, 400004);
    device_done(&d);
    device_new("pump-2", "pump-2", KEY_P384, &d);
    ask(&d, false);
    want("fits", 200, 0);
    size_t n = read_chain(buf_span(&got.body), c);
    assert_int_equal(n, 2);
    assert_true(cert_not_after_us(c[0]) <= cert_not_after_us(ca));
    free_chain(c, n);
    device_done(&d);
}

int main(int argc, char **argv)
{
    int rc = bench_server(argc, argv);
    if (rc >= 0) {
        return rc;
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_contracts), cmocka_unit_test(test_over_mqtt),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_wrong_name),
        cmocka_unit_test(test_again),          cmocka_unit_test(test_profile),
    };
    return cmocka_run_group_tests(tests, setup, bench_teardown);
}
