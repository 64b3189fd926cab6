/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on a device's credential: docs/protocol/hub-mqtt.md 2.3, M5 to M7; docs/protocol/sas.md S12 to S29; threats N8, C3, D5.
 * Certificates come through real handshakes.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "certs/signer.h"
#include "hub/hub_sql.h"
#include "certs/leaf.h"
#include "hub/tests/bed.h"
#include "server/server_sql.h"
#include "server/trust.h"
#include "wire/sas.h"

#define K1 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define K2 "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
#define SAS_AUTH "{\"symmetricKey\":{\"primaryKey\":\"" K1 "\",\"secondaryKey\":\"" K2 "\"}}"

static struct span key_of(const char *b64)
{
    static uint8_t key[2][64];
    static unsigned turn;
    size_t n = sizeof key[0];
    uint8_t *k = key[turn++ % 2];
    assert_ok(base64_decode_to(span_str(b64), k, &n));
    return span_of(k, n);
}

static enum err try(const char *id, const char *token, struct conn *c, struct admitted *ad,
                    struct err_info *info)
{
    static struct arena a = ARENA_INIT(65536);
    static struct admitted unused;
    static struct err_info nothing;
    arena_done(&a);
    a = (struct arena)ARENA_INIT(65536);
    info = info != NULL ? info : &nothing;
    struct span module = span_str(id), device = span_cut(&module, '/'); /* "d" or "d/m" */
    *info = (struct err_info){0};
    enum err e = registry_authenticate(&bed.worker, &a, device, module, span_str(token), c,
                                       ad != NULL ? ad : &unused, info);
    if (ad != NULL) {
        ad->generation_id = ad->model_id = SPAN_NONE; /* the arena ends with the process */
    }
    return e;
}

static int arena_end(void **state)
{
    (void)try("x", "", NULL, NULL, NULL); /* empties the arena of the last attempt */
    return bed_teardown(state);
}

/* --- tokens ------------------------------------------------------------------------------------- */

static void tokens(void **state)
{
    (void)state;
    static const struct {
        const char *name, *id, *sr, *key, *skn;
        int64_t ttl_s;
        bool ok;
    } rows[] = {
        {"primary", "dev-1", BED_HOST "/devices/dev-1", K1, NULL, 60, true},
        {"S14: secondary", "dev-1", BED_HOST "/devices/dev-1", K2, NULL, 60, true},
        {"empty skn", "dev-1", BED_HOST "/devices/dev-1", K1, "", 60, true},
        {"S22: case of the host", "dev-1", "HUB1.example/devices/dev-1", K1, NULL, 60, true},
        {"S29: api-version tail", "dev-1", BED_HOST "/devices/dev-1/api-version=2016-11-14", K1,
         NULL, 60, true},
        {"S12: 299 s late", "dev-1", BED_HOST "/devices/dev-1", K1, NULL, -299, true},
        {"S12: 301 s late", "dev-1", BED_HOST "/devices/dev-1", K1, NULL, -301, false},
        {"wrong key", "dev-1", BED_HOST "/devices/dev-1", "MDEyMzQ1Njc4OWFiY2RlZg==", NULL, 60,
         false},
        {"S16: another device's token", "dev-10", BED_HOST "/devices/dev-1", K1, NULL, 60, false},
        {"S17: a prefix that ends inside", "dev-1", BED_HOST "/devices/dev", K1, NULL, 60, false},
        {"S23: another hub", "dev-1", "hub2.example/devices/dev-1", K1, NULL, 60, false},
        {"unknown device", "dev-2", BED_HOST "/devices/dev-2", K1, NULL, 60, false},
        {"D5: other case", "DEV-1", BED_HOST "/devices/DEV-1", K1, NULL, 60, false},
        {"disabled device", "off", BED_HOST "/devices/off", K1, NULL, 60, false},
        {"X.509 device with a device token", "cert", BED_HOST "/devices/cert", K1, NULL, 60, false},
        {"bad id", "a b", BED_HOST "/devices/a b", K1, NULL, 60, false},
        {"S21: unknown policy", "dev-1", BED_HOST, K1, "nobody", 60, false},
    };
    int64_t id = bed_device("dev-1", SAS_AUTH);
    (void)bed_device("dev-10", SAS_AUTH);
    (void)bed_device("off", SAS_AUTH);
    (void)bed_device("cert", "{\"type\":\"selfSigned\"}");
    struct reply r =
        bed_ask("iothubowner", "PUT", "/devices/off", "*",
                "{\"deviceId\":\"off\",\"status\":\"disabled\",\"authentication\":" SAS_AUTH "}");
    reply_done(&r);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char token[1024];
        struct admitted ad;
        struct err_info info;
        bed_token(token, rows[i].sr, key_of(rows[i].key), rows[i].skn, rows[i].ttl_s);
        enum err e = try(rows[i].id, token, NULL, &ad, &info);
        if (e != (rows[i].ok ? OK : E_UNAUTHORIZED)) {
            fail_msg("%s: %s %s", rows[i].name, err_name(e), info.why);
        }
        if (e == OK) {
            assert_int_equal(ad.identity, id);
            assert_int_equal(ad.expires_s, BED_NOW_US / 1000000 + rows[i].ttl_s + 300);
            assert_int_equal(ad.slot, strcmp(rows[i].key, K2) == 0);
            assert_false(ad.by_policy);
            assert_non_null(strstr(ad.auth_method_json, "\"scope\":\"device\",\"type\":\"sas\""));
        } else {
            assert_true(info.why[0] != 0); /* the reason is for the log */
        }
    }
    assert_err(try("dev-1", "", NULL, NULL, NULL), E_UNAUTHORIZED); /* M7 */
    assert_err(try("dev-1", "garbage", NULL, NULL, NULL), E_UNAUTHORIZED);
}

static void policies(void **state)
{
    (void)state;
    static const struct {
        const char *name, *id, *sr, *policy;
        bool ok;
    } rows[] = {
        {"S18: all devices", "dev-1", BED_HOST "/devices", "device", true},
        {"whole hub", "dev-1", BED_HOST, "device", true},
        {"token service pattern", "dev-1", BED_HOST "/devices/dev-1", "device", true},
        {"any kind of identity", "cert", BED_HOST "/devices", "iothubowner", true},
        {"S19: service", "dev-1", BED_HOST, "service", false},
        {"registry", "dev-1", BED_HOST, "registryReadWrite", false},
        {"another device's", "dev-1", BED_HOST "/devices/cert", "device", false},
        {"unknown device", "dev-2", BED_HOST, "device", false},
        {"disabled device", "off", BED_HOST, "device", false},
    };
    (void)bed_device("dev-1", SAS_AUTH);
    (void)bed_device("cert", "{\"type\":\"selfSigned\"}");
    (void)bed_device("off", NULL);
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/off", "*",
                             "{\"deviceId\":\"off\",\"status\":\"disabled\"}");
    reply_done(&r);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char token[1024];
        struct admitted ad;
        struct err_info info;
        bed_token(token, rows[i].sr, bed_policy_key(rows[i].policy, 1), rows[i].policy, 60);
        enum err e = try(rows[i].id, token, NULL, &ad, &info);
        if (e != (rows[i].ok ? OK : E_UNAUTHORIZED)) {
            fail_msg("%s: %s %s", rows[i].name, err_name(e), info.why);
        }
        if (e == OK) {
            assert_true(ad.by_policy);
            assert_non_null(strstr(ad.auth_method_json, "\"scope\":\"hub\""));
            assert_ok(registry_still_good(&bed.worker, &ad, NULL));
        }
    }
}

/* --- certificates --------------------------------------------------------------------------------- */

struct client { /* a TLS connection whose server side is a conn of the bed */
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
    struct conn *conn;
};
struct identity_files {
    char cert[256], key[256];
};
static struct tls_ctx *tls;
static struct signer_key *ca_key;
static struct cert *ca;
static unsigned n_files;

static void issue(struct signer_key *by, const struct cert *issuer, enum cert_profile profile,
                  const char *cn, int64_t from_s, int64_t to_s, struct identity_files *f,
                  struct cert **ret)
{
    struct err_info info = {0};
    static const char *const hosts[] = {BED_HOST};
    struct signer_key *key = NULL;
    struct cert *c = NULL;
    struct buf pem = BUF_INIT(65536);
    struct cert_request rq = {.profile = profile,
                              .cn = span_str(cn),
                              .hosts = hosts,
                              .n_hosts = profile == PROFILE_SERVER ? 1 : 0,
                              .not_before_us = BED_NOW_US + from_s * 1000000,
                              .not_after_us = BED_NOW_US + to_s * 1000000};
    assert_ok(signer_key_generate(KEY_P256, &key));
    enum err e = signer_issue_now(by != NULL ? by : key, issuer, NULL, by != NULL ? key : NULL, &rq,
                                  &c, &info);
    if (e != OK) {
        fail_msg("issue %s: %s", cn, info.why);
    }
    (void)snprintf(f->cert, sizeof f->cert, "%s/c%u.pem", bed.dir, n_files);
    (void)snprintf(f->key, sizeof f->key, "%s/k%u.pem", bed.dir, n_files++);
    cert_add_pem(c, &pem);
    assert_ok(fs_write_atomic(f->cert, buf_span(&pem), 0600, &info));
    assert_ok(signer_key_save(key, f->key, &info));
    buf_done(&pem);
    signer_key_free(key);
    *ret = c;
}

static enum err ca_tx(struct store_tx *tx, struct store_op *op)
{
    (void)op;
    struct span der = cert_der(ca);
    struct ca_row row = {.name = "ca",
                         .etag = 1,
                         .der = (uint8_t *)(uintptr_t)der.p,
                         .der_n = der.n,
                         .is_verified = true,
                         .created_us = tx->now_us,
                         .updated_us = tx->now_us};
    return sql_ca_add(tx->db, &row);
}

static enum err set_verified(struct store_tx *tx, bool is_verified)
{
    struct ca_row row;
    enum err e = sql_ca_get(tx->db, SPAN_LIT("ca"), &row);
    if (e == OK) {
        row.is_verified = is_verified;
        e = sql_ca_set(tx->db, &row);
        ca_row_done(&row);
    }
    return e;
}

static enum err distrust_tx(struct store_tx *tx, struct store_op *op)
{
    (void)op;
    return set_verified(tx, false);
}

static enum err trust_again_tx(struct store_tx *tx, struct store_op *op)
{
    (void)op;
    return set_verified(tx, true);
}

static int tls_setup(void **state)
{
    struct identity_files f;
    struct cert *c = NULL;
    struct err_info info = {0};
    struct cert_request rq = {.profile = PROFILE_ROOT_CA,
                              .cn = SPAN_LIT("Fleet CA"),
                              .not_before_us = BED_NOW_US - 400000000000000,
                              .not_after_us = BED_NOW_US + 400000000000000};
    (void)bed_setup(state);
    assert_ok(signer_key_generate(KEY_P256, &ca_key));
    assert_ok(signer_issue_now(ca_key, NULL, NULL, NULL, &rq, &ca, &info));
    issue(ca_key, ca, PROFILE_SERVER, BED_HOST, -86400, 86400, &f, &c);
    cert_free(c);
    const struct tls_server_conf conf = {.cert_chain_file = f.cert, .key_file = f.key};
    assert_ok(tls_server_new(&conf, &tls, &info));
    assert_ok(bed_tx(ca_tx));
    atomic_fetch_add(&bed.server.trust_epoch, 1);
    return 0;
}

static int tls_teardown(void **state)
{
    tls_ctx_unref(tls);
    signer_key_free(ca_key);
    cert_free(ca);
    return arena_end(state);
}

static size_t no_bytes(struct stream *s, void *arg, struct span in)
{
    (void)s;
    (void)arg;
    return in.n;
}
static void gone(struct stream *s, void *arg, enum err why)
{
    (void)s;
    (void)why;
    ((struct client *)arg)->conn = NULL;
}
static const struct stream_handler idle = {.name = "idle", .on_bytes = no_bytes, .on_close = gone};

static void opened(struct conn *c, void *arg)
{
    ((struct client *)arg)->conn = c;
    stream_handle(conn_stream(c), &idle, arg);
}

static void dial(struct client *c, const struct identity_files *f)
{
    int fd[2];
    struct conn *conn;
    *c = (struct client){.ctx = SSL_CTX_new(TLS_client_method())};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    if (f != NULL) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(c->ctx, f->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(c->ctx, f->key, SSL_FILETYPE_PEM), 1);
    }
    c->fd = fd[1];
    c->ssl = SSL_new(c->ctx);
    assert_int_equal(SSL_set_fd(c->ssl, c->fd), 1);
    assert_ok(conn_adopt(bed.worker.loop, fd[0], tls, true, opened, c, &conn));
    for (unsigned i = 0; c->conn == NULL; i++) {
        assert_true(i < 10000);
        (void)SSL_connect(c->ssl); /* steps; the server's side tells when it is done */
        ERR_clear_error();
        loop_turn(bed.worker.loop, 1);
    }
}

static void hang_up(struct client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->fd);
    for (unsigned i = 0; c->conn != NULL; i++) {
        assert_true(i < 10000);
        loop_turn(bed.worker.loop, 1);
    }
    loop_turn(bed.worker.loop, 0);
}

static void thumb_auth(char dst[512], const struct cert *first, bool first_sha1,
                       const struct cert *second)
{
    char a[80] = "", b[80] = "";
    if (first != NULL) {
        hex_to_cstr(first_sha1 ? span_of(cert_sha1(first), CERT_SHA1)
                               : span_of(cert_sha256(first), CERT_SHA256),
                    first_sha1, a);
    }
    if (second != NULL) {
        hex_to_cstr(span_of(cert_sha256(second), CERT_SHA256), true, b);
    }
    (void)snprintf(dst, 512,
                   "{\"type\":\"selfSigned\",\"x509Thumbprint\":{\"primaryThumbprint\":\"%s\","
                   "\"secondaryThumbprint\":\"%s\"}}",
                   a, b);
}

static void thumbprints(void **state) /* M6 */
{
    (void)state;
    struct identity_files f[4];
    struct cert *c[4];
    struct client k;
    struct admitted ad;
    char auth[512], token[1024];
    issue(NULL, NULL, PROFILE_ROOT_CA, "anything", -100, 1000, &f[0], &c[0]);
    issue(ca_key, ca, PROFILE_DEVICE, "other", -100, 2000, &f[1], &c[1]);
    issue(ca_key, ca, PROFILE_DEVICE, "old", -2000, -1000, &f[2], &c[2]);
    issue(ca_key, ca, PROFILE_DEVICE, "young", 1000, 2000, &f[3], &c[3]);
    thumb_auth(auth, c[0], false, c[1]);
    int64_t id = bed_device("dev-1", auth);
    thumb_auth(auth, c[2], false, c[3]);
    (void)bed_device("dates", auth);
    (void)bed_device("sas", SAS_AUTH);
    (void)bed_device("bare", "{\"type\":\"selfSigned\"}");
    for (unsigned i = 0; i < 2; i++) {
        dial(&k, &f[i]);
        assert_ok(try("dev-1", "", k.conn, &ad, NULL));
        assert_int_equal(ad.identity, id);
        assert_int_equal(ad.slot, i);
        assert_int_equal(ad.expires_s, BED_NOW_US / 1000000 + (i == 0 ? 1000 : 2000));
        assert_non_null(strstr(ad.auth_method_json, "\"type\":\"x509\""));
        assert_err(try("bare", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
        assert_err(try("unknown", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
        assert_err(try("sas", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
        bed_token(token, BED_HOST "/devices/sas", key_of(K1), NULL, 60);
        assert_ok(try("sas", token, k.conn, NULL, NULL)); /* the certificate is ignored */
        bed_token(token, BED_HOST "/devices/dev-1", key_of(K1), NULL, 60);
        assert_ok(try("dev-1", token, k.conn, NULL, NULL)); /* the token is ignored */
        hang_up(&k);
    }
    for (unsigned i = 2; i < 4; i++) { /* outside its dates */
        struct err_info info;
        dial(&k, &f[i]);
        assert_err(try("dev-1", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
        assert_err(try("dates", "", k.conn, NULL, &info), E_UNAUTHORIZED);
        assert_non_null(strstr(info.why, "outside its validity"));
        hang_up(&k);
    }
    dial(&k, NULL);
    assert_err(try("dev-1", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
    bed_token(token, BED_HOST "/devices/dev-1", key_of(K1), NULL, 60);
    assert_err(try("dev-1", token, k.conn, NULL, NULL), E_UNAUTHORIZED); /* M7: only a token */
    hang_up(&k);
    for (unsigned i = 0; i < 4; i++) {
        cert_free(c[i]);
    }
}

/* The same DER would be needed to forge SHA-256; for an entry of 40 digits the first one that fits is the only one from then on. */
static void sha1_is_pinned(void **state) /* C3 */
{
    (void)state;
    struct identity_files f;
    struct cert *c;
    struct client k;
    char auth[512];
    struct device d;
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    issue(ca_key, ca, PROFILE_DEVICE, "x", -100, 1000, &f, &c);
    thumb_auth(auth, c, true, NULL);
    int64_t id = bed_device("dev-1", auth);
    dial(&k, &f);
    assert_ok(try("dev-1", "", k.conn, NULL, NULL));
    bed_idle();
    assert_ok(registry_get_by_identity(&bed.worker, &a, id, &d));
    assert_span(d.pin[0], span_of(cert_sha256(c), CERT_SHA256));
    assert_int_equal(d.pin[1].n, 0);
    assert_ok(try("dev-1", "", k.conn, NULL, NULL));
    hang_up(&k);
    cert_free(c);
}

static enum err forge_tx(struct store_tx *tx, struct store_op *op)
{
    (void)op;
    struct device d;
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    uint8_t other[CERT_SHA256] = {7};
    enum err e = hub_sql_device_by_id(tx->db, &a, SPAN_LIT("dev-1"), &d);
    d.pin[0] = span_of(other, sizeof other);
    return e != OK ? e : hub_sql_device_update(tx->db, &d);
}

static void another_certificate_with_that_sha1(void **state) /* C3 */
{
    (void)state;
    struct identity_files f;
    struct cert *c;
    struct client k;
    char auth[512];
    issue(ca_key, ca, PROFILE_DEVICE, "x", -100, 1000, &f, &c);
    thumb_auth(auth, c, true, NULL);
    (void)bed_device("dev-1", auth);
    assert_ok(bed_tx(forge_tx)); /* as if another had been there first */
    dial(&k, &f);
    assert_err(try("dev-1", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
    char body[1024];
    (void)snprintf(body, sizeof body,
                   "{\"deviceId\":\"dev-1\",\"authentication\":{\"type\":\"sas\"}}");
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/dev-1", "*", body);
    reply_done(&r);
    (void)snprintf(body, sizeof body, "{\"deviceId\":\"dev-1\",\"authentication\":%s}", auth);
    r = bed_ask("iothubowner", "PUT", "/devices/dev-1", "*", body);
    reply_done(&r);
    assert_ok(try("dev-1", "", k.conn, NULL, NULL)); /* registered anew: the pin is gone */
    hang_up(&k);
    cert_free(c);
}

static void authorities(void **state) /* M6 */
{
    (void)state;
    struct identity_files f[4];
    struct cert *c[4];
    struct client k;
    struct admitted ad;
    issue(ca_key, ca, PROFILE_DEVICE, "dev-1", -100, 1000, &f[0], &c[0]);
    issue(ca_key, ca, PROFILE_DEVICE, "dev-10", -100, 1000, &f[1], &c[1]);
    issue(ca_key, ca, PROFILE_DEVICE, "dev-1", -2000, -1000, &f[2], &c[2]);
    issue(NULL, NULL, PROFILE_ROOT_CA, "dev-1", -100, 1000, &f[3], &c[3]);
    int64_t id = bed_device("dev-1", "{\"type\":\"certificateAuthority\"}");
    (void)bed_device("DEV-1", "{\"type\":\"certificateAuthority\"}");
    (void)bed_device("thumb", "{\"type\":\"selfSigned\"}");
    dial(&k, &f[0]);
    assert_ok(try("dev-1", "", k.conn, &ad, NULL));
    assert_int_equal(ad.identity, id);
    assert_true(ad.by_ca);
    assert_int_equal(ad.trust_epoch, trust_epoch(&bed.server));
    assert_int_equal(ad.path.n, 2);
    assert_int_equal(ad.expires_s, BED_NOW_US / 1000000 + 1000);
    assert_err(try("DEV-1", "", k.conn, NULL, NULL), E_UNAUTHORIZED); /* with case */
    assert_err(try("thumb", "", k.conn, NULL, NULL), E_UNAUTHORIZED); /* the other type */
    assert_err(try("unknown", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
    assert_ok(registry_still_good(&bed.worker, &ad, NULL));
    atomic_fetch_add(&bed.server.trust_epoch, 1); /* some other certificate came or went */
    assert_ok(registry_still_good(&bed.worker, &ad, NULL));
    assert_ok(bed_tx(distrust_tx));
    atomic_fetch_add(&bed.server.trust_epoch, 1);
    assert_err(registry_still_good(&bed.worker, &ad, NULL), E_UNAUTHORIZED);
    assert_err(try("dev-1", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
    assert_ok(bed_tx(trust_again_tx));
    atomic_fetch_add(&bed.server.trust_epoch, 1);
    assert_ok(try("dev-1", "", k.conn, NULL, NULL));
    hang_up(&k);
    for (unsigned i = 1; i < 4; i++) { /* wrong CN, expired, chain that ends nowhere */
        dial(&k, &f[i]);
        assert_err(try("dev-1", "", k.conn, NULL, NULL), E_UNAUTHORIZED);
        hang_up(&k);
    }
    for (unsigned i = 0; i < 4; i++) {
        cert_free(c[i]);
    }
}

/* --- does this change end it ------------------------------------------------------------------------ */

static void still_good(void **state)
{
    (void)state;
#define PUTBODY(k1, k2, more)                                                                      \
    "{\"deviceId\":\"dev-1\"" more ",\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"" k1   \
    "\",\"secondaryKey\":\"" k2 "\"}}}"
#define K3 "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
    static const struct {
        const char *name, *body;
        bool first, second; /* sessions of the primary and of the secondary key */
    } rows[] = {
        {"nothing", PUTBODY(K1, K2, ",\"statusReason\":\"r\""), true, true},
        {"secondary replaced", PUTBODY(K1, K3, ""), true, false},
        {"primary replaced too", PUTBODY(K2, K3, ""), false, false},
    };
    (void)bed_device("dev-1", SAS_AUTH);
    char token[1024];
    struct admitted first, second;
    bed_token(token, BED_HOST "/devices/dev-1", key_of(K1), NULL, 60);
    assert_ok(try("dev-1", token, NULL, &first, NULL));
    bed_token(token, BED_HOST "/devices/dev-1", key_of(K2), NULL, 60);
    assert_ok(try("dev-1", token, NULL, &second, NULL));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reply r = bed_ask("iothubowner", "PUT", "/devices/dev-1", "*", rows[i].body);
        assert_int_equal(r.status, 200);
        reply_done(&r);
        assert_err(registry_still_good(&bed.worker, &first, NULL),
                   rows[i].first ? OK : E_UNAUTHORIZED);
        assert_err(registry_still_good(&bed.worker, &second, NULL),
                   rows[i].second ? OK : E_UNAUTHORIZED);
    }
    bed_token(token, BED_HOST "/devices/dev-1", key_of(K2), NULL, 60);
    assert_ok(try("dev-1", token, NULL, &first, NULL)); /* K2 is primary now */
    struct reply r = bed_ask("iothubowner", "PUT", "/devices/dev-1", "*",
                             PUTBODY(K2, K3, ",\"status\":\"disabled\""));
    reply_done(&r);
    assert_err(registry_still_good(&bed.worker, &first, NULL), E_UNAUTHORIZED);
    r = bed_ask("iothubowner", "PUT", "/devices/dev-1", "*", PUTBODY(K2, K3, ""));
    reply_done(&r);
    assert_ok(registry_still_good(&bed.worker, &first, NULL));
    r = bed_ask("iothubowner", "DELETE", "/devices/dev-1", "*", NULL);
    reply_done(&r);
    (void)bed_device("dev-1", SAS_AUTH);
    assert_err(registry_still_good(&bed.worker, &first, NULL), E_UNAUTHORIZED);
}

/* A sealed key moved to another row is refused (threat S6). */
static enum err move_tx(struct store_tx *tx, struct store_op *op)
{
    (void)op;
    struct device a, b;
    AUTO(arena_done) struct arena arena = ARENA_INIT(65536);
    enum err e = hub_sql_device_by_id(tx->db, &arena, SPAN_LIT("dev-1"), &a);
    if (e == OK) {
        e = hub_sql_device_by_id(tx->db, &arena, SPAN_LIT("dev-2"), &b);
    }
    b.sealed_key[0] = a.sealed_key[0];
    return e != OK ? e : hub_sql_device_update(tx->db, &b);
}

static void moved_key(void **state)
{
    (void)state;
    char token[1024];
    (void)bed_device("dev-1", SAS_AUTH);
    (void)bed_device("dev-2", NULL);
    assert_ok(bed_tx(move_tx));
    bed_token(token, BED_HOST "/devices/dev-2", key_of(K1), NULL, 60);
    assert_err(try("dev-2", token, NULL, NULL, NULL), E_UNAUTHORIZED);
}

/* --- dates without building the certificate ---------------------------------------------------------- */

static void leaf(void **state)
{
    (void)state;
    static const int64_t rows[][2] = {
        {-100, 1000}, {-50 * 365 * 86400LL, 86400}, {0, 30 * 365 * 86400LL}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err_info info = {0};
        struct signer_key *key = NULL;
        struct cert *c = NULL;
        struct cert_request rq = {.profile = PROFILE_ROOT_CA,
                                  .cn = SPAN_LIT("x"),
                                  .not_before_us = BED_NOW_US + rows[i][0] * 1000000,
                                  .not_after_us = BED_NOW_US + rows[i][1] * 1000000};
        int64_t from = 1, to = 2;
        assert_ok(signer_key_generate(KEY_P256, &key));
        assert_ok(signer_issue_now(key, NULL, NULL, NULL, &rq, &c, &info));
        struct span der = cert_der(c);
        assert_ok(leaf_dates(der, &from, &to));
        assert_int_equal(from, cert_not_before_us(c) / 1000000);
        assert_int_equal(to, cert_not_after_us(c) / 1000000);
        for (size_t n = 0; n < der.n;
             n++) { /* cut at every length: refused, untouched; or the dates came before the cut */
            int64_t f = 1, t = 2;
            char *copy = malloc(n + 1); /* its own block, so that a sanitizer sees an overrun */
            memcpy(copy, der.p, n);
            assert_err(leaf_dates(span_of(copy, n), &f, &t), E_CERT);
            assert_int_equal(f, 1);
            assert_int_equal(t, 2);
            free(copy);
        }
        cert_free(c);
        signer_key_free(key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, bed_setup, arena_end)
#define X(f) cmocka_unit_test_setup_teardown(f, tls_setup, tls_teardown)
        T(tokens),
        T(policies),
        X(thumbprints),
        X(sha1_is_pinned),
        X(another_certificate_with_that_sha1),
        X(authorities),
        T(still_good),
        T(moved_key),
        cmocka_unit_test(leaf),
#undef T
#undef X
    };
    return cmocka_run_group_tests_name("authenticate", tests, NULL, NULL);
}
