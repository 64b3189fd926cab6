/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: certificates with any fault, made by plain OpenSSL calls because the signer refuses.
 * Ownership   zoo_free() ends all that one zoo made. Failures end the test.
 */
#ifndef CERTS_ZOO_H
#define CERTS_ZOO_H

#include "certs/cert_int.h"

#define ZOO_NOW_US (1700000000LL * 1000000) /* 2023-11-14 */
#define ZOO_DAY_US (86400LL * 1000000)

enum zoo_key {
    ZOO_P256,
    ZOO_P256_EXPLICIT,
    ZOO_SECP256K1,
    ZOO_ED25519,
    ZOO_RSA1024,
    ZOO_RSA2048,
    ZOO_RSA4104,    /* public half only: cannot sign */
    ZOO_RSA16384,   /* the same */
    ZOO_RSA_WIDE_E, /* the same, exponent of 65 bits */
};
struct zoo_id {
    struct cert *cert;
    EVP_PKEY *key;
};
/* Extensions are in the notation of x509v3_config(5); NULL: none. */
struct zoo_spec {
    const char *cn;
    struct span subject_der;       /* instead of cn: a whole Name */
    const struct zoo_id *issuer;   /* NULL: self-signed */
    const struct zoo_id *name_of;  /* subject and key identifier copied from this one */
    const struct zoo_id *same_key; /* instead of a new key */
    enum zoo_key key;
    const char *digest; /* NULL: SHA256 */
    const char *constraints, *usage, *purpose, *alt, *names, *ski, *aki;
    int64_t from_days, to_days; /* relative to ZOO_NOW_US; both 0: -1, +365 */
    bool v1;
    bool damage_signature;
};
struct zoo {
    struct zoo_id id[40];
    size_t n;
};

const struct zoo_id *zoo_make(struct zoo *z, const struct zoo_spec *s);
/* A root, an intermediate, a device leaf as they should be. */
const struct zoo_id *zoo_root(struct zoo *z, const char *cn);
const struct zoo_id *zoo_ca(struct zoo *z, const char *cn, const struct zoo_id *issuer);
const struct zoo_id *zoo_leaf(struct zoo *z, const char *cn, const struct zoo_id *issuer);
void zoo_free(struct zoo *z);

#endif
