/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Good verdicts on chains, of all workers of a server: what one has judged, the others need not judge again.
 *
 * What is kept  a path by everything its verdict depends on (chain_cache.c makes the key: leaf, presented chain and set of anchors,
 *               SHA-256 of each), under one trust epoch. A newer epoch drops them all; who still judges under an older one (its
 *               snapshot was made before the change) finds nothing and leaves nothing. Each use asks the dates again.
 * Threads       any. Locks: one for each shard, a leaf; nothing else is taken inside.
 * Errors        without memory nothing is kept.
 * Limits        max paths; the longest unused of a shard goes first.
 */
#ifndef CERTS_VERDICTS_H
#define CERTS_VERDICTS_H

#include "certs/chain.h"

struct verdicts;
MUST_USE enum err verdicts_new(size_t max, struct verdicts **ret);
void verdicts_free(struct verdicts *v);
AUTO_FREE_FN(struct verdicts, verdicts_free)

/* False: not known under this epoch, or outside of its dates. */
bool verdicts_get(struct verdicts *v, const uint8_t key[CERT_SHA256], uint64_t epoch,
                  int64_t now_us, struct chain_path *ret);
void verdicts_put(struct verdicts *v, const uint8_t key[CERT_SHA256], uint64_t epoch,
                  const struct chain_path *path);
size_t verdicts_count(struct verdicts *v);

#endif
