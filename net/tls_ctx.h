/* SPDX-License-Identifier: Apache-2.0 */
/* What tls.c and tls_io.c share: the context's body. OpenSSL types stay in these two files. */
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
};

/* The oldest entry of OpenSSL's queue as the reason; clears the queue. */
enum err tls_err(struct err_info *info, enum err e, const char *what);

#endif
