/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/cert.h"

#include <stdlib.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/crypto_lib.h"
#include "base/text.h"
#include "certs/cert_int.h"
#include "certs/keyring.h"

enum err crypto_err(struct err_info *info, enum err e, const char *what)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return err_set(info, e, "%s: %s", what, reason != NULL ? reason : err_text(e));
}

/* --- parsing -------------------------------------------------------------------------------- */

static bool time_us(const ASN1_TIME *at, int64_t *ret)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(at, &tm) != 1) {
        return false;
    }
    *ret = (int64_t)timegm(&tm) * 1000000;
    return true;
}

/* Fills what is asked often; c->der and c->x stand. */
static enum err describe(struct cert *c, struct err_info *info)
{
    struct span der = span_of(c->der, c->der_n);
    if (!time_us(X509_get0_notBefore(c->x), &c->not_before_us) ||
        !time_us(X509_get0_notAfter(c->x), &c->not_after_us)) {
        return err_set(info, E_MALFORMED, "certificate: dates cannot be read");
    }
    sha256(der, c->sha256);
    sha1(der, c->sha1);
    /* Fills OpenSSL's cache of extensions now, so that the object is never written to again. What
     * it finds wrong is judged where extensions count. */
    (void)X509_check_purpose(c->x, -1, 0);
    ERR_clear_error();
    return OK;
}

/* One certificate, one encoding, one thumbprint: no bytes behind it, no BER around the signed part,
 * which is kept as it came (and refused by its signature when it was touched). */
static bool is_own_encoding(const struct cert *c)
{
    unsigned char *again = NULL;
    int n = i2d_X509(c->x, &again);
    bool same = n > 0 && span_eq(span_of(again, (size_t)n), span_of(c->der, c->der_n));
    OPENSSL_free(again);
    return same;
}

/* Its bytes only. */
static enum err cert_new(struct span der, struct cert **ret, struct err_info *info)
{
    AUTO(cert_free_p) struct cert *c = NULL;
    if (der.n == 0 || der.n > LIMIT_CERT_DER) {
        return err_set(info, der.n == 0 ? E_MALFORMED : E_TOO_LARGE,
                       "certificate of %zu bytes, 1 to %u allowed", der.n, LIMIT_CERT_DER);
    }
    if ((c = NEW(struct cert)) == NULL) {
        return err_set(info, E_NOMEM, "certificate: out of memory");
    }
    atomic_init(&c->refs, 1);
    if ((c->der = mem_new(der.n)) == NULL) {
        return err_set(info, E_NOMEM, "certificate: out of memory");
    }
    memcpy(c->der, der.p, der.n);
    c->der_n = der.n;
    *ret = TAKE(c);
    return OK;
}

enum err cert_from_der(struct span der, struct cert **ret, struct err_info *info)
{
    return cert_from_der_in(NULL, der, ret, info);
}

enum err cert_from_der_in(struct crypto_lib *lib, struct span der, struct cert **ret,
                          struct err_info *info)
{
    AUTO(cert_free_p) struct cert *c = NULL;
    enum err e = cert_new(der, &c, info);
    if (e != OK) {
        return e;
    }
    const unsigned char *at = c->der;
    ERR_clear_error();
    X509 *x = X509_new_ex(lib != NULL ? crypto_lib_lean(lib) : NULL, NULL);
    c->lib = crypto_lib_ref(lib);
    c->x = x != NULL ? d2i_X509(&x, &at, (long)der.n) : NULL; /* frees x when it fails */
    if (c->x == NULL) {
        return crypto_err(info, E_MALFORMED, "certificate");
    }
    if (!is_own_encoding(c)) {
        ERR_clear_error();
        return err_set(info, E_MALFORMED, "certificate: not DER, or bytes behind it");
    }
    if ((e = describe(c, info)) != OK) {
        return e;
    }
    *ret = TAKE(c);
    return OK;
}

/* A connection may have moved here from another thread: objects of two contexts are not mixed. */
bool cert_has_leaf(const struct crypto_lib *lib, const struct cert_peer *peer)
{
    return peer->leaf != NULL && lib != NULL && peer->leaf_lib == lib;
}

/* What the handshake hands over is its own encoding: it was written from the parsed one. */
enum err cert_of_leaf(struct crypto_lib *lib, const struct cert_peer *peer, struct cert **ret,
                      struct err_info *info)
{
    if (!cert_has_leaf(lib, peer)) {
        return cert_from_der_in(lib, peer->leaf_der, ret, info);
    }
    AUTO(cert_free_p) struct cert *c = NULL;
    enum err e = cert_new(peer->leaf_der, &c, info);
    if (e != OK) {
        return e;
    }
    if (X509_up_ref(peer->leaf) != 1) {
        return crypto_err(info, E_CRYPTO, "certificate");
    }
    c->x = peer->leaf;
    c->lib = crypto_lib_ref(lib);
    e = describe(c, info);
    if (e != OK) {
        return e;
    }
    *ret = TAKE(c);
    return OK;
}

static enum err made_der(X509 *x, unsigned char **ret, struct span *ret_der, struct err_info *info)
{
    int n = i2d_X509(x, ret);
    if (n <= 0) {
        return crypto_err(info, E_CRYPTO, "certificate");
    }
    *ret_der = span_of(*ret, (size_t)n);
    return OK;
}

enum err cert_from_x509(X509 *x, struct cert **ret, struct err_info *info)
{
    unsigned char *mem = NULL;
    struct span der;
    enum err e = made_der(x, &mem, &der, info);
    if (e == OK) {
        e = cert_from_der(der, ret, info);
    }
    OPENSSL_free(mem);
    return e;
}

enum err cert_of_made(struct crypto_lib *lib, X509 *x, EVP_PKEY *key, struct cert **ret,
                      struct err_info *info)
{
    AUTO(cert_free_p) struct cert *c = NULL;
    unsigned char *mem = NULL;
    struct span der;
    enum err e = made_der(x, &mem, &der, info);
    if (e == OK) {
        e = cert_new(der, &c, info);
    }
    OPENSSL_free(mem);
    if (e != OK) {
        return e;
    }
    if (X509_up_ref(x) == 1) {
        c->x = x;
    }
    if (EVP_PKEY_up_ref(key) == 1) {
        c->key = key;
    }
    c->lib = crypto_lib_ref(lib);
    if (c->x == NULL || c->key == NULL) {
        return crypto_err(info, E_CRYPTO, "certificate");
    }
    e = describe(c, info);
    if (e == OK) {
        *ret = TAKE(c);
    }
    return e;
}

struct cert *cert_ref(struct cert *c)
{
    if (c != NULL) {
        atomic_fetch_add(&c->refs, 1);
    }
    return c;
}

void cert_free(struct cert *c)
{
    if (c != NULL && atomic_fetch_sub(&c->refs, 1) <= 1) {
        X509_free(c->x);
        EVP_PKEY_free(c->key);
        crypto_lib_unref(c->lib); /* after what was made in it */
        free(c->der);
        free(c);
    }
}

/* --- describing ----------------------------------------------------------------------------- */

struct span cert_der(const struct cert *c)
{
    return span_of(c->der, c->der_n);
}

const uint8_t *cert_sha256(const struct cert *c)
{
    return c->sha256;
}

const uint8_t *cert_sha1(const struct cert *c)
{
    return c->sha1;
}

int64_t cert_not_before_us(const struct cert *c)
{
    return c->not_before_us;
}

int64_t cert_not_after_us(const struct cert *c)
{
    return c->not_after_us;
}

int cert_version(const struct cert *c)
{
    return (int)X509_get_version(c->x) + 1;
}

bool cert_is_ca(const struct cert *c)
{
    uint32_t flags = X509_get_extension_flags(c->x);
    return (flags & EXFLAG_CA) != 0 && (flags & EXFLAG_INVALID) == 0 &&
           (X509_get_key_usage(c->x) & KU_KEY_CERT_SIGN) != 0; /* all bits when absent */
}

bool cert_is_self_issued(const struct cert *c)
{
    return (X509_get_extension_flags(c->x) & EXFLAG_SI) != 0;
}

void cert_add_spki(const struct cert *c, struct buf *b)
{
    uint8_t *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(c->x), &der);
    if (n > 0) {
        buf_add(b, span_of(der, (size_t)n));
    }
    OPENSSL_free(der);
}

EVP_PKEY *cert_key(const struct cert *c)
{
    return c->key != NULL ? c->key : X509_get0_pubkey(c->x);
}

bool cert_same_key(const struct cert *a, const struct cert *b)
{
    const EVP_PKEY *ka = cert_key(a);
    const EVP_PKEY *kb = cert_key(b);
    bool same = ka != NULL && kb != NULL && EVP_PKEY_eq(ka, kb) == 1;
    ERR_clear_error();
    return same;
}

bool cert_issued_by(const struct cert *child, const struct cert *issuer)
{
    EVP_PKEY *k = cert_key(issuer);
    bool ok =
        k != NULL &&
        X509_NAME_cmp(X509_get_issuer_name(child->x), X509_get_subject_name(issuer->x)) == 0 &&
        X509_verify(child->x, k) == 1;
    ERR_clear_error();
    return ok;
}

void cert_add_subject(const struct cert *c, struct buf *b)
{
    name_add(X509_get_subject_name(c->x), b);
}

void cert_add_issuer(const struct cert *c, struct buf *b)
{
    name_add(X509_get_issuer_name(c->x), b);
}

void cert_add_serial_hex(const struct cert *c, struct buf *b)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(c->x);
    int n = ASN1_STRING_length(serial);
    if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER) {
        buf_add_u8(b, '-');
    }
    hex_add(b, span_of(ASN1_STRING_get0_data(serial), (size_t)MAX(n, 0)), true);
}

enum err cert_cn(const struct cert *c, struct span *ret, struct err_info *info)
{
    return name_cn(X509_get_subject_name(c->x), ret, info);
}
