/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS over another stream, itself a struct stream: what others relay (a device stream) carries records only.
 *
 *   HANDSHAKE --done(s)--> OPEN --close, peer's close_notify--> ENDING --> on_close, gone
 *       |--refused, late, carrier gone: done(NULL, why)--> ENDING
 *
 * Half-close  close_notify ends one direction (RFC 8446 6.1). A carrier that goes without the peer's close_notify has cut the stream off:
 *             on_close(E_TRUNCATED), never in order, whatever the carrier says of its own end.
 * Ownership   tls_stream_new takes the carrier (its handler becomes this) and references ctx; the stream frees itself after on_close, or
 *             after done(NULL).
 * Errors      E_TLS with the reason: certificate, version, protocol, a record that was changed on its way. E_TIMEOUT.
 * Limits      keeps what `want` says and one record.   Threads  the loop's.   Spec  RFC 8446; docs/protocol/device-streams.md 13.2.
 */
#ifndef NET_TLS_STREAM_H
#define NET_TLS_STREAM_H

#include "net/stream.h"
#include "net/tls.h"

struct tls_stream;
/* Once, from the loop; the handler is to be set in this call. s NULL: refused, the reason in why and info. */
typedef void (*tls_stream_fn)(void *arg, struct stream *s, enum err why,
                              const struct err_info *info);
/* ctx: of tls_end_server_new or tls_end_client_new. On failure the carrier is still the caller's. */
MUST_USE enum err tls_stream_new(struct stream *carrier, struct tls_ctx *ctx, uint64_t timeout_ms,
                                 tls_stream_fn done, void *arg, struct tls_stream **ret,
                                 struct err_info *info);
/* While done has not been called: it will not be; the carrier is aborted. */
void tls_stream_cancel(struct tls_stream *t);

#endif
