/* SPDX-License-Identifier: Apache-2.0 */
/* What tls.c, tls_end.c, tls_io.c and tls_stream.c share: the context's body. OpenSSL types stay in these files. */
#ifndef NET_TLS_CTX_H
#define NET_TLS_CTX_H

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/crypto_lib.h"
#include "base/list.h"
#include "net/tls.h"

struct tls_ctx {
    atomic_uint refs;
    struct crypto_lib *lib;
    SSL_CTX *ctx;
    EVP_MD *sha256;
    bool is_server;
    int64_t not_after_us;
    const struct list *home; /* tls_lend: the list of the thread that made it; NULL: never lent */
    struct list lent;        /* in it */
    struct tls_end *end;     /* of tls_end_server_new, tls_end_client_new; else NULL */
};

/* tls.c, for tls_end.c */
MUST_USE enum err tls_ctx_make(bool is_server, struct crypto_lib *lib, struct tls_ctx **ret,
                               struct err_info *info);
MUST_USE enum err tls_ctx_load_own(struct tls_ctx *t, const char *cert, const char *key,
                                   struct err_info *info);
bool tls_key_is_bounded(X509 *x);
AUTO_FREE_FN(struct tls_ctx, tls_ctx_unref)

/* tls_end.c */
void tls_end_free(struct tls_end *e);
/* After a handshake: both named the same protocol. */
bool tls_end_is_agreed(const struct tls_ctx *t, const SSL *ssl);

/* The oldest entry of OpenSSL's queue as the reason; clears the queue. */
enum err tls_err(struct err_info *info, enum err e, const char *what);

#endif
