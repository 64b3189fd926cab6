/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on a chain with what is known already: good verdicts of all workers (certs/verdicts.h), parsed intermediates of this
 * one. Parsing one certificate costs about as much as verifying its signature, and a fleet shares its intermediates.
 *
 * What is kept  verdicts only when good. Intermediates only when they stood on a good path, by
 *               SHA-256. So a peer that fails pushes nothing out. Each use asks the dates again.
 * Ownership     chain_cache_free() ends it, and what was parsed; the shared verdicts outlive it.
 * Threads       one; every worker has its own.
 * Errors        without memory nothing is kept; the verdict is the same.
 * Limits        LIMIT_CHAIN_CACHE verdicts, LIMIT_CHAIN_CACHE_CERTS intermediates; the longest
 *               unused goes first.
 */
#ifndef CERTS_CHAIN_CACHE_H
#define CERTS_CHAIN_CACHE_H

#include "certs/chain.h"

struct chain_cache;
struct verdicts;
/* shared NULL: verdicts of its own. lib: where certificates are made (referenced), and a handshake's leaf taken from; NULL: the
 * process's context. */
MUST_USE enum err chain_cache_new(struct verdicts *shared, struct crypto_lib *lib,
                                  struct chain_cache **ret);
void chain_cache_free(struct chain_cache *c);
AUTO_FREE_FN(struct chain_cache, chain_cache_free)

/* As chain_verify. epoch: whatever changes with the trust of the instance. */
MUST_USE enum chain_verdict chain_cache_verify(struct chain_cache *c, const struct chain_anchors *a,
                                               uint64_t epoch, const struct cert_peer *peer,
                                               int64_t now_us, struct chain_path *ret_path,
                                               struct err_info *info);
/* For metrics and tests. */
struct chain_cache_stats {
    uint64_t hits; /* verdicts given without looking */
    uint64_t misses;
    uint64_t parsed; /* certificates parsed */
    size_t n_verdicts;
    size_t n_certs;
};
void chain_cache_stats(const struct chain_cache *c, struct chain_cache_stats *ret);

#endif
