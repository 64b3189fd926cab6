/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/chain_cache.h"

#include <stdlib.h>

#include "base/crypto_lib.h"
#include "base/list.h"
#include "base/map.h"
#include "certs/cert_int.h"
#include "certs/chain_int.h"
#include "certs/keyring.h"
#include "certs/verdicts.h"

struct parsed {
    struct map_node node; /* its key lies in cert */
    struct list lru;
    struct cert *cert;
};

struct chain_cache {
    struct verdicts *verdicts;
    struct verdicts *own; /* NULL: verdicts are shared */
    struct crypto_lib *lib;
    size_t max_certs;
    struct map certs;
    struct list certs_lru; /* longest unused first */
    struct chain_cache_stats stats;
};

static void parsed_del(struct chain_cache *c, struct parsed *p)
{
    map_del(&c->certs, &p->node);
    list_del(&p->lru);
    cert_free(p->cert);
    free(p);
}

static enum err cache_new(struct verdicts *shared, struct crypto_lib *lib, size_t max_verdicts,
                          size_t max_certs, struct chain_cache **ret)
{
    AUTO(chain_cache_free_p) struct chain_cache *c = NEW(struct chain_cache);
    if (c == NULL) {
        return E_NOMEM;
    }
    map_init(&c->certs);
    list_init(&c->certs_lru);
    if (shared == NULL && verdicts_new(max_verdicts, &c->own) != OK) {
        return E_NOMEM;
    }
    c->verdicts = shared != NULL ? shared : c->own;
    c->lib = crypto_lib_ref(lib);
    c->max_certs = max_certs;
    *ret = TAKE(c);
    return OK;
}

enum err chain_cache_new(struct verdicts *shared, struct crypto_lib *lib, struct chain_cache **ret)
{
    return cache_new(shared, lib, LIMIT_CHAIN_CACHE, LIMIT_CHAIN_CACHE_CERTS, ret);
}

enum err chain_cache_new_max(size_t max_verdicts, size_t max_certs, struct chain_cache **ret)
{
    return cache_new(NULL, NULL, max_verdicts, max_certs, ret);
}

void chain_cache_free(struct chain_cache *c)
{
    if (c == NULL) {
        return;
    }
    while (!list_empty(&c->certs_lru)) {
        parsed_del(c, LIST_OF(c->certs_lru.next, struct parsed, lru));
    }
    map_done(&c->certs);
    verdicts_free(c->own);
    crypto_lib_unref(c->lib); /* last: what stood here was made in it */
    free(c);
}

void chain_cache_stats(const struct chain_cache *c, struct chain_cache_stats *ret)
{
    *ret = c->stats;
    ret->n_verdicts = verdicts_count(c->verdicts);
    ret->n_certs = c->certs.count;
}

/* --- verdicts --------------------------------------------------------------------------------- */

/* Thumbprints of fixed size, anchors first, leaf next: no two questions give one text. */
static void make_keys(const struct chain_anchors *a, const struct cert_peer *peer,
                      uint8_t thumbs[LIMIT_CHAIN_CERTS][CERT_SHA256], uint8_t ret[CERT_SHA256])
{
    uint8_t text[(LIMIT_CHAIN_CERTS + 2) * CERT_SHA256];
    memcpy(text, chain_anchors_digest(a), CERT_SHA256);
    sha256(peer->leaf_der, text + CERT_SHA256);
    for (size_t i = 0; i < peer->n_chain; i++) {
        sha256(peer->chain_der[i], thumbs[i]);
        memcpy(text + (i + 2) * CERT_SHA256, thumbs[i], CERT_SHA256);
    }
    sha256(span_of(text, (peer->n_chain + 2) * CERT_SHA256), ret);
}

/* --- intermediates ---------------------------------------------------------------------------- */

static struct cert *parsed_get(struct chain_cache *c, const uint8_t thumb[CERT_SHA256])
{
    struct map_node *n = map_get(&c->certs, span_of(thumb, CERT_SHA256));
    if (n == NULL) {
        return NULL;
    }
    struct parsed *p = CONTAINER_OF(n, struct parsed, node);
    list_del(&p->lru);
    list_add_tail(&c->certs_lru, &p->lru);
    return cert_ref(p->cert);
}

static void parsed_put(struct chain_cache *c, struct cert *cert)
{
    struct span key = span_of(cert_sha256(cert), CERT_SHA256);
    struct parsed *p = map_get(&c->certs, key) == NULL ? NEW(struct parsed) : NULL;
    if (p == NULL) {
        return;
    }
    p->node.key = key;
    if (map_add(&c->certs, &p->node) != OK) {
        free(p);
        return;
    }
    p->cert = cert_ref(cert);
    list_add_tail(&c->certs_lru, &p->lru);
    if (c->certs.count > c->max_certs) {
        parsed_del(c, LIST_OF(c->certs_lru.next, struct parsed, lru));
    }
}

/* Parses what is not known yet. *n counts what stands in presented, also on failure. */
static enum chain_verdict gather(struct chain_cache *c, const struct cert_peer *peer,
                                 uint8_t thumbs[LIMIT_CHAIN_CERTS][CERT_SHA256],
                                 struct cert **presented, size_t *n, struct err_info *info)
{
    enum chain_verdict v = chain_parse_link(c->lib, peer, 0, &presented[0], info);
    c->stats.parsed += !cert_has_leaf(c->lib, peer);
    for (*n = v == CHAIN_OK ? 1 : 0; v == CHAIN_OK && *n <= peer->n_chain;) {
        presented[*n] = parsed_get(c, thumbs[*n - 1]);
        if (presented[*n] == NULL) {
            v = chain_parse_link(c->lib, peer, *n, &presented[*n], info);
            c->stats.parsed++;
        }
        if (v == CHAIN_OK) {
            ++*n;
        }
    }
    return v;
}

static enum chain_verdict judge(struct chain_cache *c, const struct chain_anchors *a,
                                const struct cert_peer *peer,
                                uint8_t thumbs[LIMIT_CHAIN_CERTS][CERT_SHA256], int64_t now_us,
                                struct chain_path *ret, struct err_info *info)
{
    struct cert *presented[LIMIT_CHAIN_CERTS + 1] = {NULL};
    size_t n = 0;
    enum chain_verdict v = gather(c, peer, thumbs, presented, &n, info);
    if (v == CHAIN_OK) {
        v = chain_verify_parsed(a, presented, n, now_us, ret, info);
    }
    for (size_t i = 0; i < n; i++) {
        if (v == CHAIN_OK && i > 0 && chain_path_has_issuer(ret, cert_sha256(presented[i]))) {
            parsed_put(c, presented[i]);
        }
        cert_free(presented[i]);
    }
    return v;
}

enum chain_verdict chain_cache_verify(struct chain_cache *c, const struct chain_anchors *a,
                                      uint64_t epoch, const struct cert_peer *peer, int64_t now_us,
                                      struct chain_path *ret_path, struct err_info *info)
{
    uint8_t thumbs[LIMIT_CHAIN_CERTS][CERT_SHA256];
    uint8_t key[CERT_SHA256];
    struct chain_path path;
    enum chain_verdict v = chain_check_peer(peer, info);
    if (v != CHAIN_OK) {
        return v;
    }
    make_keys(a, peer, thumbs, key);
    if (verdicts_get(c->verdicts, key, epoch, now_us, ret_path)) {
        c->stats.hits++;
        return CHAIN_OK;
    }
    c->stats.misses++;
    v = judge(c, a, peer, thumbs, now_us, &path, info);
    if (v == CHAIN_OK) {
        verdicts_put(c->verdicts, key, epoch, &path);
        *ret_path = path;
    }
    return v;
}
