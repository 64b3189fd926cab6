/* SPDX-License-Identifier: Apache-2.0 */
#include "server/trust.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"
#include "server/authn.h"
#include "server/server_int.h"
#include "server/server_sql.h"

#define CACHE_KEY 32u

/* A chain that verified before: the presented bytes as a whole, not the leaf alone, because the
 * same leaf without its intermediates is another question. Only good verdicts are kept. */
struct cached_chain {
    struct map_node node;
    struct list lru;
    uint8_t key[CACHE_KEY];
    struct chain_path path;
};

struct trust_set {
    uint64_t epoch; /* 0: not read */
    size_t n;
    struct {
        char name[LIMIT_ADMIN_NAME + 1];
        bool is_verified;
        struct cert *cert;
    } ca[LIMIT_CA_CERTS];
    struct chain_anchors *anchors;
    struct map cache;
    struct list lru; /* oldest first */
};

uint64_t trust_epoch(struct server *s)
{
    return atomic_load(&s->trust_epoch);
}

/* --- the worker's snapshot ------------------------------------------------------------------------ */

static void cache_del(struct trust_set *t, struct cached_chain *c)
{
    map_del(&t->cache, &c->node);
    list_del(&c->lru);
    free(c);
}

static void trust_set_clear(struct trust_set *t)
{
    struct list *n;
    while ((n = t->lru.next) != &t->lru) {
        cache_del(t, LIST_OF(n, struct cached_chain, lru));
    }
    for (size_t i = 0; i < t->n; i++) {
        cert_free(t->ca[i].cert);
    }
    t->n = 0;
    chain_anchors_free(t->anchors);
    t->anchors = NULL;
    t->epoch = 0;
}

void trust_set_free(struct trust_set *t)
{
    if (t != NULL) {
        trust_set_clear(t);
        map_done(&t->cache);
        free(t);
    }
}

static enum err add_row(struct trust_set *t, const struct ca_row *row, struct err_info *info)
{
    enum err e = cert_from_der(span_of(row->der, row->der_n), &t->ca[t->n].cert, info);
    if (e != OK) {
        return err_wrap(info, E_CORRUPT, "certificate \"%s\"", row->name);
    }
    memcpy(t->ca[t->n].name, row->name, sizeof(row->name));
    t->ca[t->n].is_verified = row->is_verified;
    t->n++;
    return OK;
}

static enum err read_rows(struct worker *w, struct trust_set *t, struct err_info *info)
{
    struct ca_row rows[LIMIT_CA_CERTS];
    struct cert *trusted[LIMIT_CA_CERTS];
    size_t n = 0, n_trusted = 0;
    enum err e = sql_ca_all(w->db, rows, &n);
    for (size_t i = 0; i < n; i++) {
        e = e != OK ? e : add_row(t, &rows[i], info);
        ca_row_done(&rows[i]);
    }
    for (size_t i = 0; e == OK && i < t->n; i++) {
        if (t->ca[i].is_verified) {
            trusted[n_trusted++] = t->ca[i].cert;
        }
    }
    return e != OK ? e : chain_anchors_new(trusted, n_trusted, NULL, 0, &t->anchors);
}

static enum err snapshot(struct worker *w, struct trust_set **ret, struct err_info *info)
{
    uint64_t epoch = trust_epoch(w->s);
    if (w->trust == NULL) {
        if ((w->trust = NEW(struct trust_set)) == NULL) {
            return E_NOMEM;
        }
        map_init(&w->trust->cache);
        list_init(&w->trust->lru);
    }
    struct trust_set *t = w->trust;
    if (t->epoch != epoch) {
        trust_set_clear(t);
        enum err e = read_rows(w, t, info);
        if (e != OK) {
            trust_set_clear(t);
            return e;
        }
        t->epoch = epoch;
    }
    *ret = t;
    return OK;
}

/* --- the verdict ---------------------------------------------------------------------------------- */

static enum err cache_key(const struct cert_peer *peer, struct cert *const *helping, size_t n,
                          uint8_t ret[CACHE_KEY])
{
    /* Thumbprints, because they are short; each of fixed size, counts in front: no two inputs
     * give one text. */
    AUTO(buf_done) struct buf b = BUF_INIT((LIMIT_CHAIN_CERTS + 64u + 2u) * CERT_SHA256);
    uint8_t digest[CERT_SHA256];
    buf_add_be32(&b, (uint32_t)peer->n_chain);
    sha256(peer->leaf_der, digest);
    buf_add(&b, span_of(digest, sizeof(digest)));
    for (size_t i = 0; i < peer->n_chain; i++) {
        sha256(peer->chain_der[i], digest);
        buf_add(&b, span_of(digest, sizeof(digest)));
    }
    for (size_t i = 0; i < n; i++) {
        buf_add(&b, span_of(cert_sha256(helping[i]), CERT_SHA256));
    }
    sha256(buf_span(&b), ret);
    return buf_err(&b);
}

static bool cache_get(struct trust_set *t, const uint8_t key[CACHE_KEY], int64_t now_us,
                      struct chain_path *ret)
{
    struct map_node *n = map_get(&t->cache, span_of(key, CACHE_KEY));
    if (n == NULL) {
        return false;
    }
    struct cached_chain *c = CONTAINER_OF(n, struct cached_chain, node);
    if (now_us > c->path.not_after_us) {
        cache_del(t, c);
        return false;
    }
    list_del(&c->lru);
    list_add_tail(&t->lru, &c->lru);
    *ret = c->path;
    return true;
}

/* Without memory there is no entry: the next time costs a verification again. */
static void cache_put(struct trust_set *t, const uint8_t key[CACHE_KEY],
                      const struct chain_path *path)
{
    while (t->cache.count >= LIMIT_CHAIN_CACHE) {
        cache_del(t, LIST_OF(t->lru.next, struct cached_chain, lru));
    }
    struct cached_chain *c = NEW(struct cached_chain);
    if (c == NULL) {
        return;
    }
    memcpy(c->key, key, CACHE_KEY);
    c->path = *path;
    c->node.key = span_of(c->key, CACHE_KEY);
    if (map_add(&t->cache, &c->node) != OK) {
        free(c);
        return;
    }
    list_add_tail(&t->lru, &c->lru);
}

static enum chain_verdict verify_with(struct trust_set *t, const struct cert_peer *peer,
                                      struct cert *const *helping, size_t n_helping, int64_t now_us,
                                      struct chain_path *ret, struct err_info *info)
{
    struct cert *trusted[LIMIT_CA_CERTS];
    struct chain_anchors *a = NULL;
    size_t n = 0;
    if (n_helping == 0) {
        return chain_verify(t->anchors, peer, now_us, ret, info);
    }
    for (size_t i = 0; i < t->n; i++) {
        if (t->ca[i].is_verified) {
            trusted[n++] = t->ca[i].cert;
        }
    }
    if (chain_anchors_new(trusted, n, helping, n_helping, &a) != OK) {
        (void)err_set(info, E_NOMEM, "no memory to verify");
        return CHAIN_OTHER;
    }
    enum chain_verdict v = chain_verify(a, peer, now_us, ret, info);
    chain_anchors_free(a);
    return v;
}

enum chain_verdict trust_verify(struct worker *w, const struct cert_peer *peer,
                                struct cert *const *helping, size_t n_helping,
                                struct chain_path *ret_path, struct err_info *info)
{
    struct trust_set *t = NULL;
    struct chain_path path;
    uint8_t key[CACHE_KEY];
    int64_t now_us = MAX(clock_wall_us(w->s->clock), server_token_now_s(w->s) * 1000000);
    if (peer->leaf_der.n == 0 || peer->n_chain > LIMIT_CHAIN_CERTS) {
        (void)err_set(info, E_CERT, "no certificate, or too many");
        return CHAIN_MALFORMED;
    }
    if (snapshot(w, &t, info) != OK || cache_key(peer, helping, n_helping, key) != OK) {
        (void)err_wrap(info, E_DB, "cannot judge the chain");
        return CHAIN_OTHER;
    }
    if (cache_get(t, key, now_us, ret_path)) {
        return CHAIN_OK;
    }
    enum chain_verdict v = verify_with(t, peer, helping, n_helping, now_us, &path, info);
    if (v == CHAIN_OK) {
        cache_put(t, key, &path);
        *ret_path = path;
    }
    return v;
}

enum err trust_get_verified(struct worker *w, struct span name, struct cert **ret,
                            struct err_info *info)
{
    struct trust_set *t = NULL;
    enum err e = snapshot(w, &t, info);
    if (e != OK) {
        return e;
    }
    for (size_t i = 0; i < t->n; i++) {
        if (!span_is_nocase(name, t->ca[i].name)) {
            continue;
        }
        if (!t->ca[i].is_verified) {
            return err_set(info, E_STATE, "certificate \"%s\" is not verified", t->ca[i].name);
        }
        *ret = cert_ref(t->ca[i].cert);
        return OK;
    }
    return err_set(info, E_NOT_FOUND, "no certificate \"%.*s\"", SPAN_ARG(span_sub(name, 0, 64)));
}

enum err trust_tx_is_verified(struct store_tx *tx, struct span name)
{
    return sql_ca_is_verified(tx->db, name);
}
