/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TLS session on a non-blocking socket: the only interface through which net/conn meets OpenSSL, so
 * that a leaner record layer can come later. Inside net/ only.
 *
 *   tls_begin -> tls_handshake until DONE -> tls_take_peer -> tls_read / tls_write -> tls_shut -> tls_end
 *
 * Ownership   struct tls is the carrier's storage; it holds a reference on its context.
 * Errors      TLS_GONE, TLS_BROKEN: only tls_end is left; info says why.
 * Limits      certificates of the peer: LIMIT_TLS_CERT_LIST bytes, 1 + LIMIT_CHAIN_CERTS of them,
 *             LIMIT_CERT_DER each, RSA up to LIMIT_RSA_BITS_MAX, named curves: else the handshake fails
 *             before any signature is checked (threat N7).
 * Threads     the loop's.
 */
#ifndef NET_TLS_IO_H
#define NET_TLS_IO_H

#include "base/span.h"
#include "certs/cert.h"
#include "net/tls.h"

enum tls_io {
    TLS_DONE,
    TLS_WANT_READ,
    TLS_WANT_WRITE,
    TLS_EOF,
    TLS_GONE,   /* the socket failed */
    TLS_BROKEN, /* the protocol failed */
};

struct ssl_st;
struct bio_st;
struct tls {
    struct ssl_st *ssl; /* NULL: no TLS here */
    struct tls_ctx *ctx;
};

/* host: clients only, the name or address that the server's certificate must carry. */
MUST_USE enum err tls_begin(struct tls *t, struct tls_ctx *ctx, int fd, const char *host,
                            struct err_info *info);
/* Over anything that moves bytes; for contexts of tls_end_..._new, which name no host. bio is taken, also on failure. */
MUST_USE enum err tls_begin_over(struct tls *t, struct tls_ctx *ctx, struct bio_st *bio,
                                 struct err_info *info);
void tls_end(struct tls *t);
enum tls_io tls_handshake(struct tls *t, struct err_info *info);
/* DONE: at least one byte. One record at most; ask tls_has_pending before waiting for the socket. */
enum tls_io tls_read(struct tls *t, uint8_t *p, size_t n, size_t *ret_n, struct err_info *info);
bool tls_has_pending(const struct tls *t);
/* DONE: *ret_n bytes left. After WANT_WRITE the same bytes (and more behind them) must come again. */
enum tls_io tls_write(struct tls *t, const uint8_t *p, size_t n, size_t *ret_n,
                      struct err_info *info);
/* Sends close_notify, as far as the socket takes it. */
void tls_shut(struct tls *t);

/* --- sessions that move to another thread ---------------------------------------------------
 * A library context keeps data of each thread that used it, and forgets only the freeing thread's when it
 * ends: so the thread that made a context must be the one that ends it, unless it has left it for good. The
 * records of an established session use no thread data (no randomness), and what they count is atomic. */
struct list;
/* The context of t gets one more reference, held in `lent`, unless it is there already. Its own thread. */
void tls_lend(struct tls *t, struct list *lent);
/* Ends those that nobody else holds any more. at_end: this thread's data in all of them goes, and the references. */
void tls_settle_lent(struct list *lent, bool at_end);

/* What the peer presented, copied out once. */
struct tls_peer {
    struct crypto_lib *lib; /* in which leaf was made */
    struct x509_st *leaf;   /* as OpenSSL parsed it: the verdict on it costs no second parse */
    uint8_t leaf_sha256[CERT_SHA256];
    size_t n;                            /* certificates, leaf included */
    uint32_t at[LIMIT_CHAIN_CERTS + 2u]; /* der[at[i]..at[i + 1]) is the i-th */
    uint8_t der[];
};
/* *ret NULL when the peer presented none. The session gives OpenSSL's parsed copies up: they cost an
 * idle connection 4 KiB. The leaf lives on in *ret until tls_peer_free. */
MUST_USE enum err tls_take_peer(struct tls *t, struct tls_peer **ret, struct err_info *info);
void tls_peer_free(struct tls_peer *p);
bool tls_ctx_is_server(const struct tls_ctx *ctx);

#endif
