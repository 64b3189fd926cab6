/* SPDX-License-Identifier: Apache-2.0 */
#include "server/trust.h"

#include <stdlib.h>

#include "base/crypto_lib.h"
#include "certs/chain_cache.h"
#include "server/authn.h"
#include "server/server_int.h"
#include "server/server_sql.h"

struct trust_set {
    uint64_t epoch; /* 0: not read */
    size_t n;
    struct {
        char name[LIMIT_ADMIN_NAME + 1];
        bool is_verified, is_ek_root;
        struct cert *cert;
    } ca[LIMIT_CA_CERTS];
    struct chain_anchors *anchors, *ek_anchors;
    struct chain_cache *cache;
};

uint64_t trust_epoch(struct server *s)
{
    return atomic_load(&s->trust_epoch);
}

/* --- the worker's snapshot ------------------------------------------------------------------------ */

static void trust_set_clear(struct trust_set *t)
{
    for (size_t i = 0; i < t->n; i++) {
        cert_free(t->ca[i].cert);
    }
    t->n = 0;
    chain_anchors_free(t->anchors);
    chain_anchors_free(t->ek_anchors);
    t->anchors = t->ek_anchors = NULL;
    t->epoch = 0;
}

void trust_set_free(struct trust_set *t)
{
    if (t != NULL) {
        trust_set_clear(t);
        chain_cache_free(t->cache);
        free(t);
    }
}

static enum err add_row(struct crypto_lib *lib, struct trust_set *t, const struct ca_row *row,
                        struct err_info *info)
{
    enum err e = cert_from_der_in(lib, span_of(row->der, row->der_n), &t->ca[t->n].cert, info);
    if (e != OK) {
        return err_wrap(info, E_CORRUPT, "certificate \"%s\"", row->name);
    }
    memcpy(t->ca[t->n].name, row->name, sizeof(row->name));
    t->ca[t->n].is_verified = row->is_verified && !row->is_ek_root;
    t->ca[t->n].is_ek_root = row->is_ek_root;
    t->n++;
    return OK;
}

static enum err read_rows(struct worker *w, struct trust_set *t, struct err_info *info)
{
    struct ca_row rows[LIMIT_CA_CERTS];
    struct cert *trusted[LIMIT_CA_CERTS], *ek_roots[LIMIT_CA_CERTS];
    size_t n = 0, n_trusted = 0, n_ek_roots = 0;
    enum err e = sql_ca_all(w->db, rows, &n);
    for (size_t i = 0; i < n; i++) {
        e = e != OK ? e : add_row(w->crypto, t, &rows[i], info);
        ca_row_done(&rows[i]);
    }
    for (size_t i = 0; e == OK && i < t->n; i++) {
        if (t->ca[i].is_verified) {
            trusted[n_trusted++] = t->ca[i].cert;
        } else if (t->ca[i].is_ek_root) {
            ek_roots[n_ek_roots++] = t->ca[i].cert;
        }
    }
    if (e != OK || (e = chain_anchors_new(trusted, n_trusted, NULL, 0, &t->anchors)) != OK) {
        return e;
    }
    return chain_anchors_new_ek(ek_roots, n_ek_roots, &t->ek_anchors);
}

static enum err snapshot(struct worker *w, struct trust_set **ret, struct err_info *info)
{
    uint64_t epoch = trust_epoch(w->s);
    if (w->trust == NULL && (w->trust = NEW(struct trust_set)) == NULL) {
        return E_NOMEM;
    }
    struct trust_set *t = w->trust;
    enum err made = t->cache == NULL ? chain_cache_new(w->s->verdicts, w->crypto, &t->cache) : OK;
    if (made != OK) {
        return made;
    }
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

enum chain_verdict trust_verify(struct worker *w, const struct cert_peer *peer,
                                struct chain_path *ret_path, struct err_info *info)
{
    struct trust_set *t = NULL;
    int64_t now_us = MAX(clock_wall_us(w->s->clock), server_token_now_s(w->s) * 1000000);
    if (snapshot(w, &t, info) != OK) {
        (void)err_wrap(info, E_DB, "cannot judge the chain");
        return CHAIN_OTHER;
    }
    return chain_cache_verify(t->cache, t->anchors, t->epoch, peer, now_us, ret_path, info);
}

/* What stands above the anchor may be a certificate that only the peer presented: it decides nothing. */
static bool is_up_to_anchor(const struct chain_path *path, const uint8_t sha256[CERT_SHA256])
{
    for (size_t i = 1; i <= path->anchor && i < path->n; i++) {
        if (span_eq(span_of(path->sha256[i], CERT_SHA256), span_of(sha256, CERT_SHA256))) {
            return true;
        }
    }
    return false;
}

bool trust_path_still_good(struct worker *w, const struct chain_path *path)
{
    struct trust_set *t = NULL;
    if (path->n == 0 || snapshot(w, &t, NULL) != OK) {
        return false;
    }
    for (size_t i = 0; i < t->n; i++) {
        if (t->ca[i].is_verified && is_up_to_anchor(path, cert_sha256(t->ca[i].cert))) {
            return true;
        }
    }
    return false;
}

static enum err get(struct worker *w, struct span name, bool ek_root, struct cert **ret,
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
        if (!(ek_root ? t->ca[i].is_ek_root : t->ca[i].is_verified)) {
            return err_set(info, E_STATE, "certificate \"%s\" is not %s", t->ca[i].name,
                           ek_root ? "for endorsement keys" : "verified");
        }
        *ret = cert_ref(t->ca[i].cert);
        return OK;
    }
    return err_set(info, E_NOT_FOUND, "no certificate \"%.*s\"", SPAN_ARG(span_sub(name, 0, 64)));
}

enum err trust_each(struct db *db, trust_each_fn fn, void *arg)
{
    struct ca_row rows[LIMIT_CA_CERTS];
    size_t n = 0;
    enum err e = sql_ca_all(db, rows, &n);
    for (size_t i = 0; i < n; i++) {
        AUTO(cert_free_p) struct cert *c = NULL;
        if (e == OK && (e = cert_from_der(span_of(rows[i].der, rows[i].der_n), &c, NULL)) == OK) {
            e = fn(arg, span_str(rows[i].name), rows[i].is_verified, c);
        }
        ca_row_done(&rows[i]);
    }
    return e;
}

enum err trust_get_verified(struct worker *w, struct span name, struct cert **ret,
                            struct err_info *info)
{
    return get(w, name, false, ret, info);
}

enum err trust_get_ek_root(struct worker *w, struct span name, struct cert **ret,
                           struct err_info *info)
{
    return get(w, name, true, ret, info);
}

enum chain_verdict trust_verify_ek(struct worker *w, const struct cert_peer *peer,
                                   struct chain_path *ret_path, struct err_info *info)
{
    struct trust_set *t = NULL;
    int64_t now_us = MAX(clock_wall_us(w->s->clock), server_token_now_s(w->s) * 1000000);
    if (snapshot(w, &t, info) != OK) {
        (void)err_wrap(info, E_DB, "cannot judge the chain");
        return CHAIN_OTHER;
    }
    return chain_verify(t->ek_anchors, peer, now_us, ret_path, info);
}

enum err trust_tx_is_verified(struct store_tx *tx, struct span name)
{
    return sql_ca_is_verified(tx->db, name);
}

enum err trust_tx_is_ek_root(struct store_tx *tx, struct span name)
{
    return sql_ca_is_ek_root(tx->db, name);
}
