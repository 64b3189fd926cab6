/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/tests/bench.h"

#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "dps/program.h"
#include "dps/tests/standin.h"
#include "wire/json.h"
#include "wire/sas.h"

#define ROLE "BERTH_TEST_ROLE"

struct fix dps, hub;
char owner[512];
char scope[32];
struct reply got;

int bench_server(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "mini-server") != 0) {
        return -1;
    }
    const char *role = getenv(ROLE);
    bool is_hub = role != NULL && strcmp(role, "hub") == 0;
    return server_main(is_hub ? &standin_program : dps_program(), argc - 1, argv + 1);
}

void bench_start_hub(void)
{
    const char *const args[] = {"--set", "server.workers=1", NULL};
    assert_int_equal(setenv(ROLE, "hub", 1), 0);
    fix_start(&hub, args);
    assert_int_equal(unsetenv(ROLE), 0);
}

void bench_start_limited(void)
{
    char ca[256];
    (void)snprintf(ca, sizeof(ca), "egress.ca=%s", hub.ca_file);
    /* Quiet: nobody reads the log's pipe while a test runs. */
    const char *const args[] = {"--set", "server.workers=1", "--set", ca,
                                "--set", "log.level=error",  NULL};
    fix_start(&dps, args);
}

void bench_start_dps(void)
{
    char ca[256];
    (void)snprintf(ca, sizeof(ca), "egress.ca=%s", hub.ca_file);
    const char *const args[] = {"--set", "server.workers=2", "--set", ca,
                                "--set", "log.level=error",  "--set", "dps.register-burst=0",
                                "--set", "dps.poll-burst=0", NULL};
    fix_start(&dps, args);
}

static void read_scope(void)
{
    struct buf b = BUF_INIT(64u << 10);
    char file[200];
    (void)snprintf(file, sizeof(file), "%s/init.json", dps.data);
    assert_ok(fs_read(file, &b, NULL));
    fix_json_str(buf_span(&b), "idScope", scope, sizeof(scope));
    buf_done(&b);
}

static void link_hub(void)
{
    char path[128], body[512];
    (void)snprintf(path, sizeof(path), "/admin/linkedHubs/%s?api-version=2026-11-01-berth",
                   hub.address);
    (void)snprintf(body, sizeof(body),
                   "{\"connectionString\":\"HostName=%s;SharedAccessKeyName=owner;SharedAccessKey=%"
                   "s\",\"port\":%d}",
                   hub.address, hub.key[0], FIX_HTTPS_PORT);
    service("PUT", path, NULL, body, 201, 0);
}

int bench_setup(void **state UNUSED)
{
    got.body = (struct buf)BUF_INIT(16u << 20);
    fix_setup(&dps);
    fix_setup(&hub);
    fix_init(&dps);
    assert_int_equal(setenv(ROLE, "hub", 1), 0);
    fix_init(&hub);
    read_scope();
    bench_start_hub();
    bench_start_dps();
    (void)fix_token(dps.address, dps.key[0], "provisioningserviceowner", 3600, owner);
    link_hub();
    return 0;
}

int bench_teardown(void **state UNUSED)
{
    assert_int_equal(fix_stop(&dps, SIGTERM), 0);
    assert_int_equal(fix_stop(&hub, SIGTERM), 0);
    fix_teardown(&dps);
    fix_teardown(&hub);
    buf_done(&got.body);
    return 0;
}

/* --- REST ------------------------------------------------------------------------------------------ */

static size_t on_body(char *p, size_t size, size_t n, void *arg UNUSED)
{
    buf_add(&got.body, span_of(p, size * n));
    return size * n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg UNUSED)
{
    const struct {
        const char *name;
        char *dst;
        size_t n;
    } known[] = {
        {"x-ms-item-type", got.item_type, sizeof(got.item_type)},
        {"x-ms-continuation", got.continuation, sizeof(got.continuation)},
        {"x-ms-request-id", got.request_id, sizeof(got.request_id)},
        {"Retry-After", got.retry_after, sizeof(got.retry_after)},
    };
    struct span line = span_of(p, size * n);
    struct span name = span_cut(&line, ':');
    while (line.n != 0 && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r')) {
        line.n--;
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (span_is_nocase(name, known[i].name)) {
            (void)span_to_cstr(span_trim(line), known[i].dst, known[i].n);
        }
    }
    return size * n;
}

static struct curl_slist *headers_of(const struct call *c)
{
    char line[1024];
    struct curl_slist *h = NULL;
    (void)snprintf(line, sizeof(line), "Content-Type: %s",
                   c->content_type != NULL ? c->content_type : "application/json; charset=utf-8");
    h = curl_slist_append(h, line);
    if (c->token != NULL) {
        (void)snprintf(line, sizeof(line), "Authorization: %s", c->token);
        h = curl_slist_append(h, line);
    }
    for (size_t i = 0; i < ARRAY_LEN(c->header) && c->header[i] != NULL; i++) {
        h = curl_slist_append(h, c->header[i]);
    }
    return h;
}

bool call_try(const struct call *c)
{
    char url[2048];
    struct fix *at = c->at != NULL ? c->at : &dps;
    CURL *curl = curl_easy_init();
    assert_non_null(curl);
    (void)snprintf(url, sizeof(url), "https://%s:%d%s", at->address, FIX_HTTPS_PORT, c->path);
    struct curl_slist *h = headers_of(c);
    buf_reset(&got.body);
    got = (struct reply){.body = got.body};
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CAINFO, at->ca_file);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, c->method);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, h);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 20000L);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    if (c->body != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, c->body);
    }
    if (c->client_cert != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_SSLCERT, c->client_cert);
        (void)curl_easy_setopt(curl, CURLOPT_SSLKEY, c->client_key);
    }
    CURLcode rc = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &got.status);
    curl_slist_free_all(h);
    curl_easy_cleanup(curl);
    return rc == CURLE_OK;
}

void call(const struct call *c)
{
    if (!call_try(c)) {
        fail_msg("%s %s: no answer", c->method, c->path);
    }
}

bool got_has(const char *text)
{
    return memmem(got.body.p, got.body.n, text, strlen(text)) != NULL;
}

void got_str(const char *path, char *dst, size_t n)
{
    fix_json_str(buf_span(&got.body), path, dst, n);
}

void want(const char *what, long status, unsigned code)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "\"errorCode\":%u,", code);
    if (got.status != status || (code != 0 && !got_has(text))) {
        fail_msg("%s: %ld %.*s, wanted %ld %u", what, got.status, SPAN_ARG(buf_span(&got.body)),
                 status, code);
    }
}

void service(const char *method, const char *path, const char *if_match, const char *body,
             long status, unsigned code)
{
    char full[512], match[200];
    bool has_version = strstr(path, "api-version=") != NULL;
    (void)snprintf(full, sizeof(full), "%s%s", path, has_version ? "" : "?api-version=2021-10-01");
    (void)snprintf(match, sizeof(match), "If-Match: %s", if_match != NULL ? if_match : "");
    const struct call c = {.method = method,
                           .path = full,
                           .token = owner,
                           .body = body,
                           .header = {if_match != NULL ? match : NULL}};
    call(&c);
    want(path, status, code);
}

/* --- devices ------------------------------------------------------------------------------------------- */

char *device_token(const char *rid, const char *key, char dst[512])
{
    char sr[300];
    (void)snprintf(sr, sizeof(sr), "%s%%2Fregistrations%%2F%s", scope, rid);
    return fix_token(sr, key, "registration", 3600, dst);
}

char *derived_key(const char *group_key, const char *rid, char dst[64])
{
    struct secret raw = {.n = 0};
    struct buf b = BUF_INIT(64);
    uint8_t mac[MAC_SIZE];
    assert_ok(secret_from_base64(&raw, span_str(group_key)));
    mac_sha256(secret_span(&raw), span_str(rid), mac);
    base64_add(&b, span_of(mac, sizeof(mac)));
    assert_true(span_to_cstr(buf_span(&b), dst, 64));
    buf_done(&b);
    secret_done(&raw);
    return dst;
}

void register_https(const char *rid, const char *key, const char *cert, const char *cert_key)
{
    char path[512], op[100], token[512];
    struct call c = {
        .method = "PUT", .path = path, .body = "{}", .client_cert = cert, .client_key = cert_key};
    c.token = key != NULL ? device_token(rid, key, token) : NULL;
    (void)snprintf(path, sizeof(path), "/%s/registrations/%s/register?api-version=2019-03-31",
                   scope, rid);
    call(&c);
    if (got.status != 202) {
        return;
    }
    got_str("operationId", op, sizeof(op));
    (void)snprintf(path, sizeof(path), "/%s/registrations/%s/operations/%s?api-version=2019-03-31",
                   scope, rid, op);
    c.method = "GET";
    do {
        call(&c); /* a poll with a body: dps-device:D6 */
        if (got.status == 202) {
            assert_string_equal(got.retry_after, "3"); /* dps-device:D39 */
        }
    } while (got.status == 202);
}

/* --- certificates ---------------------------------------------------------------------------------------- */

static void write_files(struct made_cert *c, const struct made_cert *issuer,
                        const struct made_cert *above)
{
    static unsigned count;
    struct buf b = BUF_INIT(1u << 20);
    (void)snprintf(c->cert_file, sizeof(c->cert_file), "%s/made-%u.pem", dps.dir, ++count);
    (void)snprintf(c->key_file, sizeof(c->key_file), "%s/made-%u.key", dps.dir, count);
    cert_add_pem(c->cert, &b);
    if (issuer != NULL && above != NULL) {
        cert_add_pem(above->cert, &b);
    }
    fix_write(c->cert_file, buf_span(&b));
    assert_ok(signer_key_save(c->key, c->key_file, NULL));
    buf_done(&b);
}

static void make(const char *cn, const struct made_cert *issuer, const struct made_cert *above,
                 enum cert_profile profile, int64_t life_us, struct made_cert *ret)
{
    struct err_info info = {0};
    int64_t now = clock_wall_us(clock_system());
    const struct cert_request rq = {.profile = profile,
                                    .cn = span_str(cn),
                                    .not_before_us = now - 3600000000LL,
                                    .not_after_us = now + life_us};
    *ret = (struct made_cert){.cert = NULL};
    assert_ok(signer_key_generate(KEY_P256, &ret->key));
    enum err e =
        issuer == NULL
            ? signer_issue_now(ret->key, NULL, NULL, NULL, &rq, &ret->cert, &info)
            : signer_issue_now(issuer->key, issuer->cert, NULL, ret->key, &rq, &ret->cert, &info);
    if (e != OK) {
        fail_msg("certificate %s: %s", cn, info.why);
    }
    write_files(ret, issuer, above);
}

void make_ca(const char *cn, const struct made_cert *issuer, struct made_cert *ret)
{
    make(cn, issuer, NULL, issuer == NULL ? PROFILE_ROOT_CA : PROFILE_INTERMEDIATE_CA,
         issuer == NULL ? 86400000000LL : 80000000000LL, ret);
}

void make_leaf(const char *cn, const struct made_cert *issuer, const struct made_cert *above,
               struct made_cert *ret)
{
    make(cn, issuer, above, PROFILE_DEVICE, 70000000000LL, ret);
}

void made_cert_done(struct made_cert *c)
{
    cert_free(c->cert);
    signer_key_free(c->key);
}

char *cert_json(const struct made_cert *c, char *dst, size_t n)
{
    struct buf pem = BUF_INIT(1u << 16), b = BUF_INIT(1u << 16);
    cert_add_pem(c->cert, &pem);
    buf_add_str(&b, "{\"certificate\":");
    json_write_str(&b, buf_span(&pem));
    buf_add_u8(&b, '}');
    assert_true(span_to_cstr(buf_span(&b), dst, n));
    buf_done(&pem);
    buf_done(&b);
    return dst;
}
