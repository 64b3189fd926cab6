/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts of TLS from end to end: who is trusted is written into them. */
#include "net/tls.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/limits.h"
#include "net/tls_ctx.h"

struct tls_end {
    unsigned char alpn[1 + TLS_PROTOCOL_MAX]; /* as on the wire: length, name */
    struct tls_pins pins;                     /* a client's; without its texts */
    char *cn;                                 /* NULL: no CA */
};

void tls_end_free(struct tls_end *e)
{
    if (e != NULL) {
        free(e->cn);
        free(e);
    }
}

/* --- whom a client trusts ------------------------------------------------------------------- */

static bool is_pinned(const struct tls_ctx *t, X509 *leaf)
{
    const struct tls_pins *p = &t->end->pins;
    uint8_t sha256[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (X509_digest(leaf, t->sha256, sha256, &n) != 1 || n != CERT_SHA256) {
        return false;
    }
    for (size_t i = 0; i < p->n; i++) {
        if (span_eq(span_of(p->sha256[i], CERT_SHA256), span_of(sha256, n))) {
            return true;
        }
    }
    return false;
}

static bool has_cn(X509 *leaf, const char *want)
{
    const X509_NAME *subject = X509_get_subject_name(leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) {
        return false;
    }
    unsigned char *text = NULL;
    int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    bool is_equal = n > 0 && span_eq(span_of(text, (size_t)n), span_str(want));
    OPENSSL_free(text);
    return is_equal;
}

/* The verdict; what it costs is bounded before any signature is looked at (N7). */
static int judge_device(X509_STORE_CTX *st, void *arg)
{
    const struct tls_ctx *t = arg;
    X509 *leaf = X509_STORE_CTX_get0_cert(st);
    bool is_bounded = leaf != NULL && tls_key_is_bounded(leaf) &&
                      sk_X509_num(X509_STORE_CTX_get0_untrusted(st)) <= (int)LIMIT_CHAIN_CERTS + 1;
    if (is_bounded && is_pinned(t, leaf)) {
        X509_STORE_CTX_set_error(st, X509_V_OK);
        return 1;
    }
    if (is_bounded && t->end->cn != NULL) {
        if (X509_verify_cert(st) != 1) {
            return 0; /* with the reason */
        }
        if (has_cn(leaf, t->end->cn)) {
            return 1;
        }
    }
    X509_STORE_CTX_set_error(st, X509_V_ERR_CERT_REJECTED);
    return 0;
}

static enum err trust_ca(struct tls_ctx *t, const char *ca_file, struct err_info *info)
{
    X509_VERIFY_PARAM *how = SSL_CTX_get0_param(t->ctx);
    if (SSL_CTX_load_verify_file(t->ctx, ca_file) != 1) {
        enum err e = tls_err(info, E_CONFIG, "CA certificates");
        return err_wrap(info, e, "\"%s\"", ca_file);
    }
    if (X509_VERIFY_PARAM_set_purpose(how, X509_PURPOSE_SSL_CLIENT) != 1 ||
        X509_VERIFY_PARAM_set_trust(how, X509_TRUST_SSL_CLIENT) != 1 ||
        X509_VERIFY_PARAM_set_flags(how, X509_V_FLAG_PARTIAL_CHAIN) != 1) {
        return tls_err(info, E_CRYPTO, "TLS context");
    }
    return OK;
}

/* --- contexts ------------------------------------------------------------------------------- */

static int pick_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                         const unsigned char *in, unsigned in_n, void *arg)
{
    const struct tls_end *e = arg;
    unsigned char *sel;
    (void)ssl;
    if (SSL_select_next_proto(&sel, out_n, e->alpn, e->alpn[0] + 1u, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = sel;
    return SSL_TLSEXT_ERR_OK;
}

bool tls_end_is_agreed(const struct tls_ctx *t, const SSL *ssl)
{
    const unsigned char *name;
    unsigned n;
    SSL_get0_alpn_selected(ssl, &name, &n);
    return span_eq(span_of(name, n), span_of(t->end->alpn + 1, t->end->alpn[0]));
}

static enum err end_ctx_new(bool is_server, const char *protocol, struct tls_ctx **ret,
                            struct err_info *info)
{
    AUTO(tls_ctx_unref_p) struct tls_ctx *t = NULL;
    struct span name = span_str(protocol);
    ASSERT(name.n >= 1 && name.n <= TLS_PROTOCOL_MAX);
    enum err e = tls_ctx_make(is_server, NULL, &t, info);
    if (e != OK) {
        return e;
    }
    t->end = NEW(struct tls_end);
    if (t->end == NULL) {
        return err_set(info, E_NOMEM, "TLS context");
    }
    t->end->alpn[0] = (unsigned char)name.n;
    memcpy(t->end->alpn + 1, name.p, name.n);
    if (SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION) != 1) {
        return tls_err(info, E_CRYPTO, "TLS context");
    }
    *ret = TAKE(t);
    return OK;
}

enum err tls_end_server_new(const struct tls_server_conf *conf, const char *protocol,
                            struct tls_ctx **ret, struct err_info *info)
{
    AUTO(tls_ctx_unref_p) struct tls_ctx *t = NULL;
    enum err e = end_ctx_new(true, protocol, &t, info);
    if (e != OK || (e = tls_ctx_load_own(t, conf->cert_chain_file, conf->key_file, info)) != OK) {
        return e;
    }
    SSL_CTX_set_alpn_select_cb(t->ctx, pick_protocol, t->end);
    if (SSL_CTX_set_num_tickets(t->ctx, 0) != 1) {
        return tls_err(info, E_CRYPTO, "TLS context");
    }
    *ret = TAKE(t);
    return OK;
}

enum err tls_end_client_new(const struct tls_pins *pins, const char *protocol, struct tls_ctx **ret,
                            struct err_info *info)
{
    AUTO(tls_ctx_unref_p) struct tls_ctx *t = NULL;
    bool has_ca = pins->ca_file != NULL && pins->cn != NULL;
    if (pins->n > TLS_PINS || (pins->n == 0 && !has_ca)) {
        return err_set(info, E_ARG, "nothing says which certificate is trusted");
    }
    enum err e = end_ctx_new(false, protocol, &t, info);
    if (e != OK) {
        return e;
    }
    ERR_clear_error();
    t->end->pins = *pins;
    t->end->pins.ca_file = t->end->pins.cn = NULL;
    if (has_ca) {
        if ((e = trust_ca(t, pins->ca_file, info)) != OK) {
            return e;
        }
        if ((t->end->cn = span_dup(span_str(pins->cn))) == NULL) {
            return err_set(info, E_NOMEM, "TLS context");
        }
    }
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(t->ctx, judge_device, t);
    if (SSL_CTX_set_alpn_protos(t->ctx, t->end->alpn, t->end->alpn[0] + 1u) != 0) {
        return tls_err(info, E_CRYPTO, "TLS context");
    }
    *ret = TAKE(t);
    return OK;
}
