/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS settings of a listener or of a client. One context per worker, each in a library context of its own
 * (base/crypto_lib.h: shared ones do not scale). Reload builds a new context and swaps the pointer; live
 * connections keep the old one.
 *
 * Server: TLS 1.2 or later, AEAD suites, AES-128 first, no tickets, no renegotiation, no compression, no early data,
 * ALPN "http/1.1" when the client offers ALPN at all; a client certificate is requested (empty CA list),
 * never required, never judged: the handshake proves possession, the domain decides trust.
 * Client: verifies the server against the given CA file and the host (name or address).
 *
 * Threads     a tls_ctx belongs to one loop; tls_conf_check may run anywhere.
 * Spec        docs/protocol/dps-device.md 6; docs/protocol/sdk-connectivity.md 1.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/err.h"
#include "certs/cert.h"

struct crypto_lib; /* base/crypto_lib.h */

struct tls_server_conf {
    const char *cert_chain_file; /* PEM, leaf first */
    const char *key_file;        /* PEM, 0600 */
};
struct tls_client_conf {
    const char *ca_file;         /* PEM; NULL: the system's */
    const char *cert_chain_file; /* NULL: no client certificate */
    const char *key_file;
};
struct tls_ctx;
MUST_USE enum err tls_server_new(const struct tls_server_conf *conf, struct tls_ctx **ret,
                                 struct err_info *info);
/* In this library context (referenced): that of the thread, so that what a handshake has parsed can be used further. */
MUST_USE enum err tls_server_new_in(struct crypto_lib *lib, const struct tls_server_conf *conf,
                                    struct tls_ctx **ret, struct err_info *info);
MUST_USE enum err tls_client_new(const struct tls_client_conf *conf, struct tls_ctx **ret,
                                 struct err_info *info);

/* --- from end to end, over a stream that others relay (net/tls_stream.h) -----------------------
 * TLS 1.3 alone. Both sides must name the same protocol (ALPN): what a certificate signs for one use serves no other. The server shows
 * its certificate and asks for none. The client takes it if it is one of those pinned, whatever else it says; or, with ca_file, if its
 * chain leads to a certificate there (an intermediate will do), it may authenticate a client (which is what a device's certificate is
 * for), and its one CN is cn. No pin and no CA: E_ARG. */
#define TLS_PINS 4u
struct tls_pins {
    uint8_t sha256[TLS_PINS][CERT_SHA256]; /* of leaves, DER */
    size_t n;
    const char *ca_file, *cn; /* NULL: pins alone count */
};
/* protocol: at most TLS_PROTOCOL_MAX bytes, copied. */
#define TLS_PROTOCOL_MAX 31u
MUST_USE enum err tls_end_server_new(const struct tls_server_conf *conf, const char *protocol,
                                     struct tls_ctx **ret, struct err_info *info);
MUST_USE enum err tls_end_client_new(const struct tls_pins *pins, const char *protocol,
                                     struct tls_ctx **ret, struct err_info *info);

struct tls_ctx *tls_ctx_ref(struct tls_ctx *t);
void tls_ctx_unref(struct tls_ctx *t);
/* notAfter of the server's own leaf, for health and warnings; 0 for clients without one. */
int64_t tls_ctx_not_after_us(const struct tls_ctx *t);

#endif
