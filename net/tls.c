/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include "base/limits.h"
#include "net/tls_ctx.h"
#include "net/tls_io.h"

/* N11: AEAD only. TLS 1.3 has nothing else. */
#define SUITES_12 "ECDHE+AESGCM:ECDHE+CHACHA20"
/*
 * AES-128 first: the key exchange is of 128 bits anyway, and SHA-256 makes the key schedule cheaper than SHA-384 does (15 us of a
 * handshake). A client that puts ChaCha20 first, as one without AES instructions does, gets that.
 */
#define SUITES_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
/* Else a peer may pick groups that cost us fifty times as much (ffdhe8192, X448). */
#define GROUPS "X25519:P-256:P-384"

static const unsigned char alpn_http[] = "\x08http/1.1";

enum err tls_err(struct err_info *info, enum err e, const char *what)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return err_set(info, e, "%s: %s", what, reason != NULL ? reason : "no reason given");
}

/* --- what a client certificate may cost ---------------------------------------------------- */

bool tls_key_is_bounded(X509 *x)
{
    EVP_PKEY *k = X509_get0_pubkey(x);
    if (k == NULL) {
        return false;
    }
    char group[64];
    size_t n;
    switch (EVP_PKEY_get_base_id(k)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        return EVP_PKEY_get_bits(k) <= (int)LIMIT_RSA_BITS_MAX;
    case EVP_PKEY_EC:
        /* Explicit parameters have no name. */
        return EVP_PKEY_get_group_name(k, group, sizeof(group), &n) == 1;
    case EVP_PKEY_ED25519:
    case EVP_PKEY_ED448:
        return true;
    default:
        return false;
    }
}

/*
 * Instead of OpenSSL's chain building: the handshake proves that the peer holds the key, the domain
 * decides trust later. Only what would cost us CPU or memory beyond bounds ends here (N7).
 */
static int judge_client_cert(X509_STORE_CTX *st, void *arg)
{
    (void)arg;
    STACK_OF(X509) *all = X509_STORE_CTX_get0_untrusted(st);
    X509 *leaf = X509_STORE_CTX_get0_cert(st);
    int n = sk_X509_num(all);
    bool ok = leaf != NULL && n <= (int)LIMIT_CHAIN_CERTS + 1 && tls_key_is_bounded(leaf);
    for (int i = 0; ok && i < n; i++) {
        ok = i2d_X509(sk_X509_value(all, i), NULL) <= (int)LIMIT_CERT_DER;
    }
    X509_STORE_CTX_set_error(st, ok ? X509_V_OK : X509_V_ERR_CERT_CHAIN_TOO_LONG);
    return ok ? 1 : 0;
}

static int pick_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                     const unsigned char *in, unsigned in_n, void *arg)
{
    (void)ssl;
    (void)arg;
    unsigned char *sel;
    if (SSL_select_next_proto(&sel, out_n, alpn_http, sizeof(alpn_http) - 1, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK; /* MQTT clients with a name of their own go on without */
    }
    *out = sel;
    return SSL_TLSEXT_ERR_OK;
}

/* An encrypted key must fail, not ask on a terminal. */
static int no_password(char *buf, int size, int rw, void *arg)
{
    (void)buf;
    (void)size;
    (void)rw;
    (void)arg;
    return -1;
}

/* --- contexts ------------------------------------------------------------------------------ */

static void ctx_free(struct tls_ctx *t)
{
    SSL_CTX_free(t->ctx);
    EVP_MD_free(t->sha256);
    tls_end_free(t->end);
    crypto_lib_unref(t->lib); /* last: what stood here was made in it */
    free(t);
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *t)
{
    if (t != NULL) {
        atomic_fetch_add(&t->refs, 1);
    }
    return t;
}

void tls_ctx_unref(struct tls_ctx *t)
{
    if (t != NULL && atomic_fetch_sub(&t->refs, 1) == 1) {
        ctx_free(t);
    }
}

int64_t tls_ctx_not_after_us(const struct tls_ctx *t)
{
    return t->not_after_us;
}

bool tls_ctx_is_server(const struct tls_ctx *t)
{
    return t->is_server;
}

static bool set_common(SSL_CTX *ctx)
{
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    SSL_CTX_set_max_cert_list(ctx, LIMIT_TLS_CERT_LIST);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, SUITES_12) == 1 &&
           SSL_CTX_set1_groups_list(ctx, GROUPS) == 1;
}

enum err tls_ctx_make(bool is_server, struct crypto_lib *lib, struct tls_ctx **ret,
                      struct err_info *info)
{
    AUTO(tls_ctx_unref_p) struct tls_ctx *t = NEW(struct tls_ctx);
    if (t == NULL) {
        return err_set(info, E_NOMEM, "TLS context");
    }
    atomic_init(&t->refs, 1);
    t->is_server = is_server;
    ERR_clear_error();
    t->lib = crypto_lib_ref(lib);
    enum err e = lib == NULL ? crypto_lib_new(&t->lib, info) : OK;
    if (e != OK) {
        return e;
    }
    OSSL_LIB_CTX *in = is_server ? crypto_lib_lean(t->lib) : crypto_lib_full(t->lib);
    t->sha256 = EVP_MD_fetch(in, "SHA256", NULL);
    t->ctx = SSL_CTX_new_ex(in, NULL, is_server ? TLS_server_method() : TLS_client_method());
    if (t->sha256 == NULL || t->ctx == NULL || !set_common(t->ctx)) {
        return tls_err(info, E_CRYPTO, "TLS context");
    }
    *ret = TAKE(t);
    return OK;
}

static enum err check_key_file(const char *path, struct err_info *info)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return err_set(info, E_CONFIG, "cannot read key \"%s\"", path);
    }
    /* Group read is what systemd's credentials show under an access list. */
    if ((st.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        return err_set(info, E_PERM, "key \"%s\" is open to others; cure: chmod 0600", path);
    }
    return OK;
}

static int64_t time_us(const ASN1_TIME *at)
{
    struct tm tm;
    return ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) * 1000000 : 0;
}

/* Not SSL_CTX_use_PrivateKey_file: the context of a server knows no decoders of private keys. */
static bool load_key(struct tls_ctx *t, const char *path)
{
    BIO *in = BIO_new_file(path, "r");
    EVP_PKEY *k = in != NULL ? PEM_read_bio_PrivateKey_ex(in, NULL, no_password, NULL,
                                                          crypto_lib_full(t->lib), NULL)
                             : NULL;
    bool ok = k != NULL && SSL_CTX_use_PrivateKey(t->ctx, k) == 1 &&
              SSL_CTX_check_private_key(t->ctx) == 1;
    EVP_PKEY_free(k);
    BIO_free(in);
    return ok;
}

enum err tls_ctx_load_own(struct tls_ctx *t, const char *cert, const char *key,
                          struct err_info *info)
{
    enum err e = check_key_file(key, info);
    if (e != OK) {
        return e;
    }
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(t->ctx, cert) != 1) {
        e = tls_err(info, E_CONFIG, "certificate chain");
        return err_wrap(info, e, "\"%s\"", cert);
    }
    if (!load_key(t, key)) {
        e = tls_err(info, E_CONFIG, "private key of the certificate");
        return err_wrap(info, e, "\"%s\"", key);
    }
    t->not_after_us = time_us(X509_get0_notAfter(SSL_CTX_get0_certificate(t->ctx)));
    return OK;
}

enum err tls_server_new(const struct tls_server_conf *conf, struct tls_ctx **ret,
                        struct err_info *info)
{
    return tls_server_new_in(NULL, conf, ret, info);
}

enum err tls_server_new_in(struct crypto_lib *lib, const struct tls_server_conf *conf,
                           struct tls_ctx **ret, struct err_info *info)
{
    AUTO(tls_ctx_unref_p) struct tls_ctx *t = NULL;
    enum err e = tls_ctx_make(true, lib, &t, info);
    if (e != OK || (e = tls_ctx_load_own(t, conf->cert_chain_file, conf->key_file, info)) != OK) {
        return e;
    }
    SSL_CTX_set_options(t->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(t->ctx, judge_client_cert, NULL);
    SSL_CTX_set_alpn_select_cb(t->ctx, pick_alpn, NULL);
    /* Each ticket of a client with a certificate costs one parse of it. */
    if (SSL_CTX_set_num_tickets(t->ctx, 0) != 1 ||
        SSL_CTX_set_ciphersuites(t->ctx, SUITES_13) != 1 ||
        SSL_CTX_set_session_id_context(t->ctx, (const unsigned char *)"berth", 5) != 1) {
        return tls_err(info, E_CRYPTO, "TLS context");
    }
    *ret = TAKE(t);
    return OK;
}

enum err tls_client_new(const struct tls_client_conf *conf, struct tls_ctx **ret,
                        struct err_info *info)
{
    AUTO(tls_ctx_unref_p) struct tls_ctx *t = NULL;
    enum err e = tls_ctx_make(false, NULL, &t, info);
    if (e != OK) {
        return e;
    }
    if (conf->cert_chain_file != NULL &&
        (e = tls_ctx_load_own(t, conf->cert_chain_file, conf->key_file, info)) != OK) {
        return e;
    }
    ERR_clear_error();
    if (conf->ca_file != NULL ? SSL_CTX_load_verify_file(t->ctx, conf->ca_file) != 1
                              : SSL_CTX_set_default_verify_paths(t->ctx) != 1) {
        const char *which = conf->ca_file != NULL ? conf->ca_file : "the system's";
        e = tls_err(info, E_CONFIG, "CA certificates");
        return err_wrap(info, e, "\"%s\"", which);
    }
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    *ret = TAKE(t);
    return OK;
}
