/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenSSL objects inside keys and requests; only for the files of the signer. Threads: any. */
#ifndef CERTS_SIGNER_INT_H
#define CERTS_SIGNER_INT_H

#include <pthread.h>

#include "certs/cert_int.h"
#include "certs/signer.h"

/* Signs with pkey, looks at pub: a key elsewhere (certs/signer_hard.h) belongs to a library context or an engine of its own, its public
 * half to the usual one, so that all comparisons and copies are of one kind. */
struct signer_key {
    EVP_PKEY *pkey;
    EVP_PKEY *pub;
    bool is_hard;                        /* not in this process's memory */
    pthread_mutex_t lock;                /* is_hard: one operation at a time */
    OSSL_LIB_CTX *libctx;                /* NULL: the usual one */
    const char *propq;                   /* NULL, or a literal */
    void (*close)(struct signer_key *k); /* ends what holds the key, after pkey; NULL: nothing */
    void *arg;                           /* of close */
};
/* Takes pkey over, also when it fails: E_CERT when its kind is not allowed, E_CRYPTO when it does not tell its public half. */
MUST_USE enum err signer_key_wrap(EVP_PKEY *pkey, struct signer_key **ret, struct err_info *info);
/* Signs what is complete but for that. E_CRYPTO. */
MUST_USE enum err signer_sign_cert(const struct signer_key *k, X509 *x, struct err_info *info);
MUST_USE enum err signer_sign_request(const struct signer_key *k, X509_REQ *rq,
                                      struct err_info *info);
/* Read in one of two ways, with the same verdict. */
struct csr {
    X509_REQ *rq;            /* the whole one, or NULL */
    struct csr_plain *plain; /* or this */
    X509_NAME *subject;      /* of that one; borrowed */
    EVP_PKEY *key;           /* shared */
    struct crypto_lib *lib;  /* in which it was made; NULL: the process's */
};
/* By X509_REQ alone: what the short way is compared with. */
MUST_USE enum err csr_from_der_whole(struct crypto_lib *lib, struct span der, struct csr **ret,
                                     struct err_info *info);
/* The point of its key and the NID of the curve, when the key is written just as OpenSSL would write it; borrowed from c. */
bool csr_point(const struct csr *c, int *ret_curve, struct span *ret_point);

/* A request for a P-256 key, its bytes as every encoder writes them (certs/csr_plain.c). Made in that library; NULL: the process's. */
struct csr_plain;
/* False: not one of these, or not to be read; nothing is said about why. *ret_key is the caller's. */
bool csr_plain_read(const struct crypto_lib *lib, struct span der, struct csr_plain **ret,
                    EVP_PKEY **ret_key);
bool csr_plain_verify(const struct csr_plain *p, const struct crypto_lib *lib, EVP_PKEY *key);
X509_NAME *csr_plain_subject(const struct csr_plain *p); /* borrowed */
struct span csr_plain_point(const struct csr_plain *p);  /* borrowed */
void csr_plain_free(struct csr_plain *p);

/* KEY_TYPES: another one. */
enum key_type pkey_type(const EVP_PKEY *k);
/* The digest that goes with the key. */
const EVP_MD *signer_digest(const EVP_PKEY *k);
/* Adds one UTF8String entry. */
bool name_put(X509_NAME *name, int nid, struct span text);

#endif
