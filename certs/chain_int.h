/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between chain.c and chain_cache.c: the verdict on certificates that are parsed already.
 * Ownership and threads as in chain.h.
 */
#ifndef CERTS_CHAIN_INT_H
#define CERTS_CHAIN_INT_H

#include "certs/chain.h"
#include "certs/chain_cache.h"

/* Leaf first, then the presented ones. */
MUST_USE enum chain_verdict chain_verify_parsed(const struct chain_anchors *a,
                                                struct cert *const *presented, size_t n,
                                                int64_t now_us, struct chain_path *ret_path,
                                                struct err_info *info);
/* The count and the presence of a leaf. */
MUST_USE enum chain_verdict chain_check_peer(const struct cert_peer *peer, struct err_info *info);
/* One presented certificate, by its position from the leaf (0: the leaf, parsed or not). */
MUST_USE enum chain_verdict chain_parse_link(struct crypto_lib *lib, const struct cert_peer *peer,
                                             size_t at, struct cert **ret, struct err_info *info);
/* SHA-256 over all thumbprints and who is trusted: two sets with one digest judge alike. */
const uint8_t *chain_anchors_digest(const struct chain_anchors *a);

/* chain_cache_new with other limits, and verdicts of its own. */
MUST_USE enum err chain_cache_new_max(size_t max_verdicts, size_t max_certs,
                                      struct chain_cache **ret);

#endif
