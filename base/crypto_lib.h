/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library context of OpenSSL for who parses certificates of peers all day. OpenSSL 3.0 asks all decoders that its providers have
 * each time it meets a public key; here it finds those of the keys that a certificate may carry (RSA, RSA-PSS, EC, Ed25519, Ed448),
 * and parses a certificate in less than half of the time. Algorithms are those of the default provider, untouched: a provider of our
 * own hands out its tables, the one of decoders made shorter.
 *
 * It reads no private keys and no parameters: those are read with crypto_lib_full() and may be used with either.
 *
 * Ownership   counted; what was made in it must be gone when the last reference goes.
 * Threads     crypto_lib_new, _ref, _unref any. One for each thread: a shared context does not scale.
 */
#ifndef BASE_CRYPTO_LIB_H
#define BASE_CRYPTO_LIB_H

#include "base/err.h"

struct ossl_lib_ctx_st;
struct evp_pkey_st;
struct crypto_lib;
MUST_USE enum err crypto_lib_new(struct crypto_lib **ret, struct err_info *info);
struct crypto_lib *crypto_lib_ref(struct crypto_lib *l);
void crypto_lib_unref(struct crypto_lib *l);
AUTO_FREE_FN(struct crypto_lib, crypto_lib_unref)

/* What OpenSSL keeps for this thread in it (randomness) goes: before it may end on another thread. */
void crypto_lib_thread_end(struct crypto_lib *l);

/* For certificates and TLS. */
struct ossl_lib_ctx_st *crypto_lib_lean(const struct crypto_lib *l);
/* For reading key files: all that the default provider has. */
struct ossl_lib_ctx_st *crypto_lib_full(const struct crypto_lib *l);
/* P-256 without a point, in the lean context: a copy that gets one costs a quarter of a key made from the curve's name. Borrowed. */
const struct evp_pkey_st *crypto_lib_p256(const struct crypto_lib *l);

#endif
