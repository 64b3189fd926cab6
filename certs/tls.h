/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a finished handshake to bytes: what the peer presented, so that nothing stays parsed on a
 * connection. Handles of OpenSSL pass as void *.
 *
 * Ownership   the spans of a cert_peer point into the store, which the connection keeps while it
 *             authenticates and then ends with cert_peer_store_free().
 * Threads     the connection's.
 * Errors      E_CERT when there are more certificates, or larger ones, than allowed.
 * Limits      LIMIT_CHAIN_CERTS behind the leaf, LIMIT_CERT_DER each.
 */
#ifndef CERTS_TLS_H
#define CERTS_TLS_H

#include "certs/cert.h"

struct cert_peer_store;
/* ssl: an SSL * after its handshake. Without a certificate *ret_store is NULL and ret is empty. */
MUST_USE enum err cert_peer_from_ssl(void *ssl, struct cert_peer_store **ret_store,
                                     struct cert_peer *ret, struct err_info *info);
void cert_peer_store_free(struct cert_peer_store *s);
AUTO_FREE_FN(struct cert_peer_store, cert_peer_store_free)

#endif
