/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CA certificates and the verdicts that follow from them, over HTTPS against a real process. Rows cite
 * docs/protocol/dps-service-rest.md part D.
 */
#include "server/tests/asking.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "certs/chain.h"
#include "server/tests/mini.h"
#include "wire/json.h"

/* --- certificates ----------------------------------------------------------------------------------------- */

struct ca {
    struct signer_key *key;
    struct cert *cert;
};

static int64_t now_us(void)
{
    return clock_wall_us(clock_system());
}

static struct ca make_ca(const char *cn, int64_t from_s, int64_t to_s)
{
    struct ca c = {NULL, NULL};
    struct err_info info = {0};
    const struct cert_request rq = {.profile = PROFILE_ROOT_CA,
                                    .cn = span_str(cn),
                                    .not_before_us = now_us() + from_s * 1000000,
                                    .not_after_us = now_us() + to_s * 1000000};
    assert_ok(signer_key_generate(KEY_P256, &c.key));
    assert_ok(signer_issue_now(c.key, NULL, NULL, NULL, &rq, &c.cert, &info));
    return c;
}

static void ca_free(struct ca *c)
{
    signer_key_free(c->key);
    cert_free(c->cert);
}

static struct cert *issue(const struct ca *by, const struct cert *issuer, enum cert_profile profile,
                          const char *cn, int64_t to_s, struct signer_key *key)
{
    struct cert *c = NULL;
    struct err_info info = {0};
    const struct cert_request rq = {.profile = profile,
                                    .cn = span_str(cn),
                                    .not_before_us = now_us() - 7200000000LL,
                                    .not_after_us = now_us() + to_s * 1000000};
    assert_ok(signer_issue_now(by->key, issuer, NULL, key, &rq, &c, &info));
    return c;
}

enum text_form { FORM_PEM, FORM_B64_PEM, FORM_B64_DER };

static char *cert_text(const struct cert *c, enum text_form form)
{
    struct buf pem = BUF_INIT(1u << 16), out = BUF_INIT(1u << 16);
    cert_add_pem(c, &pem);
    if (form == FORM_PEM) {
        buf_add(&out, buf_span(&pem));
    } else {
        base64_add(&out, form == FORM_B64_PEM ? buf_span(&pem) : cert_der(c));
    }
    char *text = buf_take_str(&out);
    buf_done(&pem);
    return text;
}

static void put_body(char *dst, size_t n, const struct cert *c, enum text_form form, bool verified)
{
    struct buf b = BUF_INIT(1u << 16);
    char *text = cert_text(c, form);
    buf_add_str(&b, "{\"properties\":{\"certificate\":");
    json_write_str(&b, span_str(text));
    buf_addf(&b, ",\"isVerified\":%s}}", verified ? "true" : "false");
    assert_true(span_to_cstr(buf_span(&b), dst, n));
    buf_done(&b);
    free(text);
}

static void proof_body(char *dst, size_t n, const struct cert *c)
{
    struct buf b = BUF_INIT(1u << 16);
    char *text = cert_text(c, FORM_PEM);
    buf_add_str(&b, "{\"certificate\":");
    json_write_str(&b, span_str(text));
    buf_add_u8(&b, '}');
    assert_true(span_to_cstr(buf_span(&b), dst, n));
    buf_done(&b);
    free(text);
}

/* CN=Sha One, a CA of 2026 to 2126, P-256, signed with SHA-1. */
static const char sha1_body[] =
    "{\"properties\":{\"certificate\":\""
    "MIIBejCCASCgAwIBAgIUOPptY0Ywxpp2V/VWmcjkwidjpwAwCQYHKoZIzj0EATASMRAwDgYDVQQDDAdT"
    "aGEgT25lMCAXDTI2MTEyMTExMjMzNVoYDzIxMjYxMDI4MTEyMzM1WjASMRAwDgYDVQQDDAdTaGEgT25l"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZwfRNgKl2Ph5CZAMUZ97SFIJ+N6OZLtV/JwyOegLLsdP"
    "NfkM0Ihas5G5EpCqlQch5GdWe/nh8sBYT+PLZTpuUaNTMFEwHQYDVR0OBBYEFPggSvQQajNNHGgA0L7k"
    "xgNLsvwTMB8GA1UdIwQYMBaAFPggSvQQajNNHGgA0L7kxgNLsvwTMA8GA1UdEwEB/wQFMAMBAf8wCQYH"
    "KoZIzj0EAQNJADBGAiEA2S2EpAt9QkEjfpVIJZVhW/MjGaUZPPT/CPiFgWilLFECIQCQ62XsItDrFkly"
    "7wnkzh7IxkVojFaMypU7e+GVgdPYJw=="
    "\"}}";

static void test_cert_put(void **state)
{
    (void)state;
    static char body[1u << 16];
    struct ca good = make_ca("Root One", -3600, 86400), other = make_ca("Root Two", -3600, 86400);
    struct ca old = make_ca("Old Root", -86400, -3600);
    struct signer_key *key = NULL;
    assert_ok(signer_key_generate(KEY_P256, &key));
    struct cert *leaf = issue(&good, good.cert, PROFILE_DEVICE, "dev", 3600, key);

    put_body(body, sizeof(body), leaf, FORM_PEM, false);
    admin("PUT", "certificates/c1", NULL, body, 400, 400004); /* dps-service:31: a leaf */
    put_body(body, sizeof(body), old.cert, FORM_PEM, false);
    admin("PUT", "certificates/c1", NULL, body, 400, 400004);      /* dps-service:31: expired */
    admin("PUT", "certificates/c1", NULL, sha1_body, 400, 400004); /* dps-service:31: SHA-1 */
    assert_true(body_has("\"kind\":\"E_CERT\""));
    admin("PUT", "certificates/c1", NULL, "{\"properties\":{\"certificate\":\"x\"}}", 400, 400004);
    admin("PUT", "certificates/c1", NULL, "{\"properties\":{}}", 400, 400005);
    admin("PUT", "certificates/c1", NULL, "{}", 400, 400005);
    admin("PUT", "certificates/c1", NULL, "{\"properties\":{\"isverified\":true}}", 400,
          400004); /* dps-service:38 */
    put_body(body, sizeof(body), good.cert, FORM_B64_DER, false);
    admin("PUT", "certificates/c1", "*", body, 404, 404000);
    admin("PUT", "certificates/c1", NULL, body, 201, 0);
    assert_true(body_has("\"id\":\"/admin/certificates/c1\",\"name\":\"c1\""));
    assert_true(body_has("\"subject\":\"CN=Root One\"") && body_has("\"isVerified\":false"));
    assert_true(body_has("\"type\":\"Berth/Certificates\"") && !body_has("verificationCode"));
    admin("PUT", "certificates/C1", NULL, body, 409, 409000); /* names without case */
    put_body(body, sizeof(body), good.cert, FORM_B64_PEM, true);
    admin("PUT", "certificates/c1", "*", body, 200, 0);
    assert_true(body_has("\"isVerified\":true"));
    put_body(body, sizeof(body), good.cert, FORM_PEM, false);
    admin("PUT", "certificates/c1", last.etag, body, 200, 0); /* the same bytes keep it */
    assert_true(body_has("\"isVerified\":true"));
    put_body(body, sizeof(body), other.cert, FORM_PEM, false);
    admin("PUT", "certificates/c1", "*", body, 200, 0); /* others do not */
    assert_true(body_has("\"isVerified\":false") && body_has("CN=Root Two"));
    admin("GET", "certificates", NULL, NULL, 200, 0);
    assert_true(body_has("\"value\":[{\"id\":\"/admin/certificates/c1\""));
    admin("DELETE", "certificates/c1", NULL, NULL, 412, 412001);
    admin("DELETE", "certificates/c1", "\"AAAAAAAAAAA=\"", NULL, 412, 412001);
    admin("DELETE", "certificates/c1", "*", NULL, 204, 0);
    admin("GET", "certificates/c1", NULL, NULL, 404, 404000);
    /* dps-service:36: in use. */
    admin("PUT", "certificates/used-by-group", NULL, body, 201, 0);
    admin("DELETE", "certificates/used-by-group", "*", NULL, 409, 409000);
    cert_free(leaf);
    signer_key_free(key);
    ca_free(&good);
    ca_free(&other);
    ca_free(&old);
}

static void verify(const struct cert *proof, const char *if_match, long status, unsigned code)
{
    static char body[1u << 16];
    proof_body(body, sizeof(body), proof);
    admin("POST", "certificates/pop/verify", if_match, body, status, code);
}

static void test_cert_proof(void **state)
{
    (void)state;
    static char body[1u << 16];
    struct ca root = make_ca("Root Pop", -3600, 86400), foreign = make_ca("Root Pop", -3600, 86400);
    struct signer_key *key = NULL;
    char code[64], longer[80];
    assert_ok(signer_key_generate(KEY_P256, &key));
    struct ca self = {key, NULL};
    struct cert *any = issue(&root, root.cert, PROFILE_PROOF, "x", 3600, key);
    put_body(body, sizeof(body), root.cert, FORM_PEM, false);
    admin("PUT", "certificates/pop", NULL, body, 201, 0);
    verify(any, NULL, 412, 412001);               /* dps-service:33 */
    verify(any, "\"AAAAAAAAAAA=\"", 412, 412001); /* dps-service:33 */
    verify(any, "*", 400, 400003);                /* dps-service:34 */
    admin("POST", "certificates/pop/generateVerificationCode", NULL, "", 412, 412001);
    admin("POST", "certificates/none/generateVerificationCode", "*", "", 404, 404000);
    admin("POST", "certificates/pop/generateVerificationCode", "*", "", 200, 0);
    member("properties.verificationCode", code, sizeof(code));
    assert_int_equal(strlen(code), 48);
    (void)snprintf(longer, sizeof(longer), "%sx", code);
    struct cert *rows[] = {
        any, /* dps-service:32 wrong CN */
        issue(&root, root.cert, PROFILE_PROOF, longer, 3600,
              key),                                           /* dps-service:32 code as a prefix */
        issue(&self, NULL, PROFILE_DEVICE, code, 3600, NULL), /* dps-service:32 self-signed */
        issue(&foreign, foreign.cert, PROFILE_PROOF, code, 3600,
              key), /* dps-service:32 other CA, same name */
        issue(&root, root.cert, PROFILE_PROOF, code, -3600, key), /* over */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        verify(rows[i], "*", 400, 400004);
        admin("GET", "certificates/pop", NULL, NULL, 200, 0);
        assert_true(body_has("\"isVerified\":false"));
    }
    admin("POST", "certificates/pop/verify", "*", "{}", 400, 400005);
    struct cert *good = issue(&root, root.cert, PROFILE_PROOF, code, 3600, key);
    admin("GET", "certificates/pop", NULL, NULL, 200, 0);
    verify(good, last.etag, 200, 0);
    assert_true(body_has("\"isVerified\":true"));
    verify(good, "*", 400, 400003); /* the code is gone */
    /* Ten failures end a code, the right proof then comes too late. */
    admin("POST", "certificates/pop/generateVerificationCode", "*", "", 200, 0);
    member("properties.verificationCode", code, sizeof(code));
    for (int i = 0; i < 10; i++) {
        verify(any, "*", 400, 400004);
    }
    struct cert *late = issue(&root, root.cert, PROFILE_PROOF, code, 3600, key);
    verify(late, "*", 400, 400003);
    admin("DELETE", "certificates/pop", "*", NULL, 204, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cert_free(rows[i]);
    }
    cert_free(good);
    cert_free(late);
    signer_key_free(key);
    ca_free(&root);
    ca_free(&foreign);
}

static void test_cert_limit(void **state)
{
    (void)state;
    static char body[1u << 16];
    char path[64];
    struct ca root = make_ca("Root Many", -3600, 86400);
    put_body(body, sizeof(body), root.cert, FORM_PEM, false);
    admin("GET", "certificates", NULL, NULL, 200, 0);
    unsigned n = body_has("used-by-group") ? 1 : 0;
    for (unsigned i = n; i < LIMIT_CA_CERTS; i++) {
        (void)snprintf(path, sizeof(path), "certificates/many-%u", i);
        admin("PUT", path, NULL, body, 201, 0);
    }
    admin("PUT", "certificates/one-more", NULL, body, 400, 400004); /* dps-service:35 */
    assert_true(body_has("Certificate limit reached"));
    for (unsigned i = n; i < LIMIT_CA_CERTS; i++) {
        (void)snprintf(path, sizeof(path), "certificates/many-%u", i);
        admin("DELETE", path, "*", NULL, 204, 0);
    }
    ca_free(&root);
}

/* more: what the client presents behind its leaf, ended by NULL. */
static void save_client(const struct cert *c, const struct cert *const *more,
                        const struct signer_key *key, char *cert_file, char *key_file, size_t n)
{
    struct buf pem = BUF_INIT(1u << 16);
    struct err_info info = {0};
    (void)snprintf(cert_file, n, "%s/client.pem", fx.dir);
    (void)snprintf(key_file, n, "%s/client.key", fx.dir);
    cert_add_pem(c, &pem);
    for (; more != NULL && *more != NULL; more++) {
        cert_add_pem(*more, &pem);
    }
    fix_write(cert_file, buf_span(&pem));
    (void)unlink(key_file);
    assert_ok(signer_key_save(key, key_file, &info));
    buf_done(&pem);
}

static unsigned trust_changes(void)
{
    unsigned policy, trust;
    const struct ask q = {.method = "GET", .path = "/changes"};
    ask(&q);
    expect("changes", 200, 0);
    assert_int_equal(sscanf((const char *)last.body.p, "policy=%u trust=%u", &policy, &trust), 2);
    return trust;
}

/* Verified: the chain is good on every worker at the next request; removed: no longer. */
static void test_trust(void **state)
{
    (void)state;
    static char body[1u << 16];
    char cert_file[200], key_file[200];
    struct ca root = make_ca("Root Trust", -3600, 86400);
    struct signer_key *key = NULL;
    assert_ok(signer_key_generate(KEY_P256, &key));
    struct cert *leaf = issue(&root, root.cert, PROFILE_DEVICE, "dev-1", 3600, key);
    save_client(leaf, NULL, key, cert_file, key_file, sizeof(cert_file));
    const struct ask q = {
        .method = "GET", .path = "/chain", .client_cert = cert_file, .client_key = key_file};
    const struct {
        const char *method, *if_match;
        bool verified;
        long status;
        enum chain_verdict want;
    } rows[] = {
        {"PUT", NULL, false, 201, CHAIN_NO_ANCHOR},
        {"PUT", "*", true, 200, CHAIN_OK},
        {"DELETE", "*", false, 204, CHAIN_NO_ANCHOR},
    };
    unsigned before = trust_changes();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put_body(body, sizeof(body), root.cert, FORM_PEM, rows[i].verified);
        admin(rows[i].method, "certificates/trust", rows[i].if_match,
              rows[i].method[0] == 'P' ? body : NULL, rows[i].status, 0);
        for (int k = 0; k < 6; k++) { /* both workers, with and without their cache */
            char want[64];
            ask(&q);
            expect("chain", 200, 0);
            (void)snprintf(want, sizeof(want), "%s epoch=", chain_verdict_name(rows[i].want));
            if (!body_has(want)) {
                fail_msg("row %zu: %.*s", i, SPAN_ARG(buf_span(&last.body)));
            }
        }
    }
    /* The hook was called, on whichever worker answers; several changes may be one call. */
    while (trust_changes() == before) {
    }
    const struct ask none = {.method = "GET", .path = "/chain"};
    ask(&none);
    assert_true(body_has(chain_verdict_name(CHAIN_MALFORMED)));
    cert_free(leaf);
    signer_key_free(key);
    ca_free(&root);
}

static void still(const char *want)
{
    const struct ask q = {.method = "GET", .path = "/still"};
    for (int k = 0; k < 6; k++) {
        ask(&q);
        expect("still", 200, 0);
        assert_true(body_has(want));
    }
}

static void trust(const char *name, const struct cert *c, const char *if_match)
{
    static char body[1u << 16];
    char path[64];
    (void)snprintf(path, sizeof(path), "certificates/%s", name);
    if (c != NULL) {
        put_body(body, sizeof(body), c, FORM_PEM, true);
    }
    admin(c != NULL ? "PUT" : "DELETE", path, if_match, c != NULL ? body : NULL,
          c != NULL ? 201 : 204, 0);
}

/* A judged path lives as long as its anchor: other certificates come and go, also above it, where the peer presents
 * a root that nobody trusts. */
static void test_trust_still(void **state)
{
    (void)state;
    char cert_file[200], key_file[200];
    struct ca root = make_ca("Root Still", -3600, 86400),
              other = make_ca("Root Other", -3600, 86400);
    struct ca mid = {NULL, NULL};
    struct signer_key *key = NULL;
    assert_ok(signer_key_generate(KEY_P256, &mid.key));
    mid.cert = issue(&root, root.cert, PROFILE_INTERMEDIATE_CA, "Mid Still", 7200, mid.key);
    assert_ok(signer_key_generate(KEY_P256, &key));
    struct cert *leaf = issue(&mid, mid.cert, PROFILE_DEVICE, "dev-1", 3600, key);
    const struct cert *const more[] = {mid.cert, root.cert, NULL};
    save_client(leaf, more, key, cert_file, key_file, sizeof(cert_file));
    const struct ask q = {
        .method = "GET", .path = "/chain", .client_cert = cert_file, .client_key = key_file};
    still("no more"); /* nothing was judged yet, or what was is deleted */
    trust("still-mid", mid.cert, NULL);
    ask(&q);
    assert_true(body_has(chain_verdict_name(CHAIN_OK)));
    still("still good");
    trust("still-other", other.cert, NULL);
    still("still good");
    trust("still-other", NULL, "*");
    trust("still-root", root.cert, NULL);
    still("still good");
    trust("still-root", NULL, "*");
    still("still good");
    trust("still-mid", NULL, "*");
    still("no more");
    cert_free(leaf);
    signer_key_free(key);
    ca_free(&mid);
    ca_free(&root);
    ca_free(&other);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "mini-server") == 0) {
        return server_main(&mini_program, argc - 1, argv + 1);
    }
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cert_put),    cmocka_unit_test(test_cert_proof),
        cmocka_unit_test(test_cert_limit),  cmocka_unit_test(test_trust),
        cmocka_unit_test(test_trust_still),
    };
    int rc =
        cmocka_run_group_tests_name("server certificates", tests, asking_setup, asking_teardown);
    answer_done(&last);
    return rc;
}
