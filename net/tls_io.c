/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "net/tls_ctx.h"

/* --- begin, end ---------------------------------------------------------------------------- */

static bool is_address(const char *host)
{
    uint8_t b[16];
    return inet_pton(AF_INET, host, b) == 1 || inet_pton(AF_INET6, host, b) == 1;
}

/* RFC 6066 3: no address in SNI; RFC 6125: an address is matched against iPAddress names. */
static bool set_host(SSL *ssl, const char *host)
{
    if (is_address(host)) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

enum err tls_begin(struct tls *t, struct tls_ctx *ctx, int fd, const char *host,
                   struct err_info *info)
{
    ASSERT(ctx->is_server == (host == NULL)); /* a client without a name would trust any server */
    ERR_clear_error();
    SSL *ssl = SSL_new(ctx->ctx);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 || (host != NULL && !set_host(ssl, host))) {
        SSL_free(ssl);
        return tls_err(info, E_TLS, "TLS session");
    }
    if (ctx->is_server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    t->ssl = ssl;
    t->ctx = tls_ctx_ref(ctx);
    return OK;
}

enum err tls_begin_over(struct tls *t, struct tls_ctx *ctx, struct bio_st *bio,
                        struct err_info *info)
{
    ASSERT(ctx->end != NULL); /* the context itself says whom it trusts */
    ERR_clear_error();
    SSL *ssl = SSL_new(ctx->ctx);
    if (ssl == NULL) {
        BIO_free(bio);
        return tls_err(info, E_TLS, "TLS session");
    }
    SSL_set_bio(ssl, bio, bio);
    if (ctx->is_server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    t->ssl = ssl;
    t->ctx = tls_ctx_ref(ctx);
    return OK;
}

void tls_end(struct tls *t)
{
    SSL_free(t->ssl);
    t->ssl = NULL;
    tls_ctx_unref(t->ctx);
    t->ctx = NULL;
}

/* --- input and output ---------------------------------------------------------------------- */

static enum tls_io io_result(const struct tls *t, int rc, int errnum, struct err_info *info)
{
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_EOF;
    case SSL_ERROR_SYSCALL:
        (void)err_set_errno(info, errnum, "connection");
        return TLS_GONE;
    default:
        (void)tls_err(info, E_TLS, "TLS");
        return TLS_BROKEN;
    }
}

enum tls_io tls_handshake(struct tls *t, struct err_info *info)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(t->ssl);
    if (rc == 1) {
        return TLS_DONE;
    }
    enum tls_io io = io_result(t, rc, errno, info);
    long v = SSL_get_verify_result(t->ssl);
    if (io == TLS_BROKEN && !t->ctx->is_server && v != X509_V_OK) {
        (void)err_set(info, E_TLS, "%s certificate: %s",
                      t->ctx->end != NULL ? "device's" : "server",
                      v == X509_V_ERR_CERT_REJECTED ? "it is not the one that is trusted here"
                                                    : X509_verify_cert_error_string(v));
    }
    return io;
}

enum tls_io tls_read(struct tls *t, uint8_t *p, size_t n, size_t *ret_n, struct err_info *info)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_read(t->ssl, p, (int)MIN(n, (size_t)INT32_MAX));
    if (rc > 0) {
        *ret_n = (size_t)rc;
        return TLS_DONE;
    }
    return io_result(t, rc, errno, info);
}

bool tls_has_pending(const struct tls *t)
{
    return SSL_has_pending(t->ssl) == 1;
}

enum tls_io tls_write(struct tls *t, const uint8_t *p, size_t n, size_t *ret_n,
                      struct err_info *info)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_write(t->ssl, p, (int)MIN(n, (size_t)INT32_MAX));
    if (rc > 0) {
        *ret_n = (size_t)rc;
        return TLS_DONE;
    }
    return io_result(t, rc, errno, info);
}

void tls_shut(struct tls *t)
{
    ERR_clear_error();
    if (SSL_is_init_finished(t->ssl)) {
        (void)SSL_shutdown(t->ssl); /* one-way: nobody waits for the peer's */
    }
    ERR_clear_error();
}

/* --- the peer's certificates --------------------------------------------------------------- */

/*
 * OpenSSL keeps the parsed leaf in the session for as long as the connection lives, and has no call to
 * drop it. Reading another session into the same object replaces the peer by the other's, here by
 * none. Versions, cipher and context stay as they are; the resumption secret goes, which nobody will
 * ask for: tickets and cache are off. What the record layer reads from the session is the fragment
 * length, so a connection that negotiated one is left alone.
 */
static void drop_leaf(SSL *ssl)
{
    SSL_SESSION *live = SSL_get_session(ssl);
    const SSL_CIPHER *cipher = live != NULL ? SSL_SESSION_get0_cipher(live) : NULL;
    if (cipher == NULL ||
        SSL_SESSION_get_max_fragment_length(live) != TLSEXT_max_fragment_length_DISABLED) {
        return;
    }
    unsigned sid_n;
    const unsigned char *sid = SSL_SESSION_get0_id_context(live, &sid_n);
    static const unsigned char no_secret[48];
    unsigned char der[512];
    unsigned char *end = der;
    const unsigned char *at = der;
    SSL_SESSION *plain = SSL_SESSION_new();
    if (plain != NULL &&
        SSL_SESSION_set_protocol_version(plain, SSL_SESSION_get_protocol_version(live)) == 1 &&
        SSL_SESSION_set_cipher(plain, cipher) == 1 &&
        SSL_SESSION_set1_id_context(plain, sid, sid_n) == 1 &&
        SSL_SESSION_set1_master_key(plain, no_secret, sizeof(no_secret)) == 1) {
        int n = i2d_SSL_SESSION(plain, NULL);
        if (n > 0 && n <= (int)sizeof(der) && i2d_SSL_SESSION(plain, &end) == n) {
            (void)d2i_SSL_SESSION(&live, &at, n); /* failed: the copy stays, memory only */
        }
    }
    SSL_SESSION_free(plain);
    ERR_clear_error();
}

static void drop_chain(SSL *ssl)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
    while (chain != NULL && sk_X509_num(chain) > 0) {
        X509_free(sk_X509_pop(chain));
    }
}

/* i-th presented, leaf first: a server's OpenSSL does not count the leaf in the chain. */
static X509 *presented(const struct tls *t, X509 *leaf, STACK_OF(X509) * chain, int i)
{
    return i == 0 ? leaf : sk_X509_value(chain, t->ctx->is_server ? i - 1 : i);
}

static enum err copy_peer(const struct tls *t, X509 *leaf, struct tls_peer **ret)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(t->ssl);
    int further = MAX(sk_X509_num(chain), 0) - (t->ctx->is_server ? 0 : 1);
    size_t n = (size_t)MIN(MAX(further, 0), (int)LIMIT_CHAIN_CERTS) + 1;
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        int size = i2d_X509(presented(t, leaf, chain, (int)i), NULL);
        if (size <= 0) {
            return E_TLS;
        }
        total += (size_t)size;
    }
    struct tls_peer *p = mem_new(sizeof(*p) + total);
    if (p == NULL) {
        return E_NOMEM;
    }
    p->n = n;
    unsigned char *at = p->der;
    for (size_t i = 0; i < n; i++) {
        (void)i2d_X509(presented(t, leaf, chain, (int)i), &at); /* size known: cannot fail */
        p->at[i + 1] = (uint32_t)(at - p->der);
    }
    if (EVP_Digest(p->der, p->at[1], p->leaf_sha256, NULL, t->ctx->sha256, NULL) != 1) {
        free(p);
        return E_CRYPTO;
    }
    if (X509_up_ref(leaf) == 1) { /* else it is parsed again */
        p->leaf = leaf;
        p->lib = crypto_lib_ref(t->ctx->lib);
    }
    *ret = p;
    return OK;
}

void tls_peer_free(struct tls_peer *p)
{
    if (p != NULL) {
        X509_free(p->leaf);
        crypto_lib_unref(p->lib);
        free(p);
    }
}

enum err tls_take_peer(struct tls *t, struct tls_peer **ret, struct err_info *info)
{
    ERR_clear_error();
    X509 *leaf = SSL_get0_peer_certificate(t->ssl);
    if (leaf == NULL) {
        *ret = NULL;
        return OK;
    }
    enum err e = copy_peer(t, leaf, ret);
    if (e != OK) {
        return tls_err(info, e, "peer certificate");
    }
    drop_chain(t->ssl);
    drop_leaf(t->ssl);
    return OK;
}

/* --- lent to other threads ----------------------------------------------------------------- */

void tls_lend(struct tls *t, struct list *lent)
{
    struct tls_ctx *ctx = t->ctx;
    if (ctx == NULL || (ctx->home != NULL && ctx->home != lent)) {
        return; /* on its second journey: its maker holds it */
    }
    ctx->home = lent;
    if (!list_linked(&ctx->lent)) {
        list_add_tail(lent, &tls_ctx_ref(ctx)->lent);
    }
}

void tls_settle_lent(struct list *lent, bool at_end)
{
    LIST_EACH_SAFE (n, tmp, lent) {
        struct tls_ctx *t = LIST_OF(n, struct tls_ctx, lent);
        if (at_end) {
            crypto_lib_thread_end(t->lib);
        } else if (atomic_load(&t->refs) > 1) {
            continue;
        }
        list_del(&t->lent);
        tls_ctx_unref(t);
    }
}
