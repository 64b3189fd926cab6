/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenSSL objects inside keys and requests; only for the files of the signer. Threads: any. */
#ifndef CERTS_SIGNER_INT_H
#define CERTS_SIGNER_INT_H

#include "certs/cert_int.h"
#include "certs/signer.h"

struct signer_key {
    EVP_PKEY *pkey;
};
struct csr {
    X509_REQ *rq;
};

/* The digest that goes with the key. */
const EVP_MD *signer_digest(const EVP_PKEY *k);
/* Adds one UTF8String entry. */
bool name_put(X509_NAME *name, int nid, struct span text);

#endif
