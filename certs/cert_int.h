/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share and nobody else sees: the OpenSSL objects inside.
 *
 * Ownership   as in cert.h; what a function returns here is borrowed unless it says otherwise.
 * Threads     any; a struct cert is not changed after parsing.
 */
#ifndef CERTS_CERT_INT_H
#define CERTS_CERT_INT_H

#include <stdatomic.h>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "certs/cert.h"

struct cert {
    atomic_uint refs;
    X509 *x;
    EVP_PKEY *key;          /* of x, when x itself does not know it parsed; see cert_key */
    struct crypto_lib *lib; /* in which x, or key, was made; NULL: the process's */
    uint8_t *der;
    size_t der_n;
    uint8_t sha256[CERT_SHA256];
    uint8_t sha1[CERT_SHA1];
    int64_t not_before_us;
    int64_t not_after_us;
};

/* What x says, read anew. */
MUST_USE enum err cert_from_x509(X509 *x, struct cert **ret, struct err_info *info);
/* x as it was made here and signed; key is the parsed one of what it says, of that library context. Both are shared. */
MUST_USE enum err cert_of_made(struct crypto_lib *lib, X509 *x, EVP_PKEY *key, struct cert **ret,
                               struct err_info *info);
/* Its public key; NULL: one that OpenSSL cannot read. Borrowed. */
EVP_PKEY *cert_key(const struct cert *c);

bool cert_has_leaf(const struct crypto_lib *lib, const struct cert_peer *peer);
/* The leaf of a peer, in this library context: without parsing it again when its handshake has. */
MUST_USE enum err cert_of_leaf(struct crypto_lib *lib, const struct cert_peer *peer,
                               struct cert **ret, struct err_info *info);

/* The rules of cert_cn for any name. Borrowed from it. */
MUST_USE enum err name_cn(const X509_NAME *name, struct span *ret, struct err_info *info);
void name_add(const X509_NAME *name, struct buf *b);
/* At most n - 1 bytes of it, for messages. */
void name_to_cstr(const X509_NAME *name, char *dst, size_t n);
#define NAME_SHORT 112u

/* The key rules of cert_check_strength. */
MUST_USE enum err pkey_check(const EVP_PKEY *k, struct err_info *info);

/* The DER inside PEM of one of these labels (list ends with NULL), base64 of that, or base64 of DER.
 * ret is replaced. */
MUST_USE enum err der_from_text(struct span text, const char *const *labels, struct buf *ret,
                                struct err_info *info);
void pem_add(struct buf *b, const char *label, struct span der);

void sha1(struct span s, uint8_t ret[CERT_SHA1]);

/* e with "what: OpenSSL's own reason"; empties its queue. */
enum err crypto_err(struct err_info *info, enum err e, const char *what);

static inline UNUSED void x509_free_p(X509 **p)
{
    X509_free(*p);
}
static inline UNUSED void pkey_free_p(EVP_PKEY **p)
{
    EVP_PKEY_free(*p);
}
static inline UNUSED void bio_free_p(BIO **p)
{
    BIO_free(*p);
}

#endif
