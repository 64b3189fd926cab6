/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/attestation.h"

#include "certs/leaf.h"
#include "server/authn.h"
#include "server/trust.h"

static enum err refuse(struct err_info *info, enum err kind, const char *why)
{
    if (info != NULL) {
        if (why != NULL) {
            (void)err_set(info, kind, "%s", why);
        }
        info->err = kind;
    }
    return E_UNAUTHORIZED;
}

struct seal_place enr_key_place(struct enr_place *storage, enum enr_kind kind, struct span fold,
                                unsigned which)
{
    ASSERT(fold.n <= LIMIT_ID && which < 2);
    storage->row[0] = kind == ENR_GROUP ? 'g' : 'i';
    storage->row[1] = '/';
    memcpy(storage->row + 2, fold.p, fold.n);
    return (struct seal_place){"enrollment", which == 0 ? "key0" : "key1",
                               span_of(storage->row, fold.n + 2)};
}

enum err attestation_token(struct dps_worker *dw, struct span text, struct span rid,
                           struct sas_token *ret, struct err_info *info)
{
    const struct span target[] = {span_str(dw->dps->id_scope), SPAN_LIT("registrations"), rid};
    struct sas_token tok;
    enum err e = authn_device_token(dw->w, text, target, ARRAY_LEN(target), false, &tok, info);
    if (e != OK) {
        return e;
    }
    /* An SDK sends skn empty, others leave it out: it selects nothing here (sas.md 4.2). */
    if (tok.skn_n != 0 && !span_is(sas_skn(&tok), "registration")) {
        return refuse(info, E_SCOPE, "skn is not \"registration\"");
    }
    *ret = tok;
    return OK;
}

/* --- symmetric keys -------------------------------------------------------------------------------- */

static bool signed_by_derived(const struct keyring *k, const struct group *g, unsigned which,
                              struct span rid, struct span text, const struct sas_token *tok)
{
    struct enr_place st;
    AUTO(secret_done) struct secret key = {.n = 0};
    uint8_t mac[MAC_SIZE];
    struct seal_place at = enr_key_place(&st, ENR_GROUP, g->row.fold, which);
    if (g->row.key[which].n == 0 || keyring_derive(k, at, g->row.key[which], rid, &key) != OK) {
        return false;
    }
    mac_sha256(secret_span(&key), text, mac);
    bool same = mem_equal_ct(span_of(mac, sizeof(mac)), span_of(tok->sig, sizeof(tok->sig)));
    mem_wipe(mac, sizeof(mac));
    return same;
}

/* A device that changes the case of its id computes another key: as received first, then folded (sas.md 6). */
static const struct group *group_of_token(struct dps_worker *dw, const struct snapshot *s,
                                          struct span rid, struct span fold,
                                          const struct sas_token *tok, struct span *ret_form)
{
    AUTO(buf_done) struct buf text = BUF_INIT(SAS_TO_SIGN_MAX);
    const struct keyring *k = server_keyring(dw->dps->server);
    const struct group *found = NULL;
    const struct span form[] = {rid, fold};
    unsigned forms = span_eq(rid, fold) ? 1 : 2;
    sas_to_sign(tok, &text);
    if (buf_err(&text) != OK) {
        return NULL;
    }
    for (size_t i = 0; i < s->n_groups && found == NULL; i++) {
        const struct group *g = &s->group[i];
        for (unsigned f = 0; g->row.att == ATT_SYMMETRIC && f < forms && found == NULL; f++) {
            for (unsigned which = 0; which < 2 && found == NULL; which++) {
                if (signed_by_derived(k, g, which, form[f], buf_span(&text), tok)) {
                    found = g;
                    *ret_form = form[f];
                }
            }
        }
    }
    return found;
}

static enum err check_own_keys(struct dps_worker *dw, const struct enr_row *e, struct span fold,
                               const struct sas_token *tok, struct err_info *info)
{
    struct enr_place st[2];
    unsigned which;
    /* Without an enrollment the same work is done on empty keys. */
    bool has = e != NULL && e->att == ATT_SYMMETRIC;
    return authn_token_keys(
        dw->w, tok, enr_key_place(&st[0], ENR_INDIVIDUAL, fold, 0), has ? e->key[0] : SPAN_NONE,
        enr_key_place(&st[1], ENR_INDIVIDUAL, fold, 1), has ? e->key[1] : SPAN_NONE, &which, info);
}

static enum err by_token(struct dps_worker *dw, struct snapshot *s, const struct enr_row *own,
                         struct span rid, struct span fold, const struct sas_token *tok,
                         struct attested *ret, struct err_info *info)
{
    struct span form = SPAN_NONE;
    enum err e = check_own_keys(dw, own, fold, tok, info);
    if (e == OK) {
        ret->enr = *own;
        return OK;
    }
    if (e != E_UNAUTHORIZED) {
        return e;
    }
    const struct group *g = group_of_token(dw, s, rid, fold, tok, &form);
    if (own != NULL) {
        return own->att == ATT_SYMMETRIC
                   ? E_UNAUTHORIZED
                   : refuse(info, E_SIGNATURE, "the enrollment does not want a token");
    }
    if (g == NULL) {
        return refuse(info, E_SIGNATURE,
                      "no enrollment of this id, and no group whose derived key signs the token");
    }
    ret->enr = g->row;
    ret->key_id = form;
    return OK;
}

/* --- certificates ------------------------------------------------------------------------------------ */

static enum err check_leaf(struct dps_worker *dw, const struct cert_peer *peer, struct span rid,
                           struct err_info *info)
{
    struct leaf l;
    enum err e = leaf_read(peer->leaf_der, &l, info);
    if (e != OK) {
        return refuse(info, E_CERT, NULL);
    }
    if (!span_eq_nocase(l.cn, rid)) {
        return refuse(info, E_CERT, "the certificate's CN is not the registration id");
    }
    int64_t now_s = server_token_now_s(dw->dps->server);
    if (now_s < l.not_before_s || now_s > l.not_after_s) {
        return refuse(info, E_CHAIN, "link 0: the certificate is outside its validity");
    }
    return OK;
}

static bool on_path(const struct chain_path *path, const uint8_t sha256[CERT_SHA256], size_t at)
{
    return span_eq(span_of(path->sha256[at], CERT_SHA256), span_of(sha256, CERT_SHA256));
}

static enum err verify_chain(struct dps_worker *dw, const struct cert_peer *peer,
                             struct chain_path *ret, struct err_info *info)
{
    struct err_info why = {.err = OK};
    enum chain_verdict v = trust_verify(dw->w, peer, NULL, 0, ret, &why);
    if (v == CHAIN_OK) {
        return OK;
    }
    if (info != NULL) {
        (void)err_set(info, E_CHAIN, "%s: %s", chain_verdict_name(v), why.why);
        info->err = E_CHAIN;
    }
    return E_UNAUTHORIZED;
}

/* Does a caReference of the row name the certificate at that place of the path? */
static enum err names_ca_at(struct dps_worker *dw, const struct enr_row *row,
                            const struct chain_path *path, size_t at, bool *ret)
{
    for (unsigned i = 0; i < 2 && !*ret; i++) {
        AUTO(cert_free_p) struct cert *ca = NULL;
        if (row->ca[i].n == 0) {
            continue;
        }
        enum err e = trust_get_verified(dw->w, row->ca[i], &ca, NULL);
        if (e == OK) {
            *ret = on_path(path, cert_sha256(ca), at);
        } else if (e != E_NOT_FOUND && e != E_STATE) {
            return e;
        }
    }
    return OK;
}

static enum err fits_at(struct dps_worker *dw, const struct group *g, const struct chain_path *path,
                        size_t at, bool *ret)
{
    *ret = false;
    if (g->row.att == ATT_CERT) {
        for (unsigned i = 0; i < 2; i++) {
            *ret |= g->row.cert[i].n != 0 && on_path(path, g->sha256[i], at);
        }
        return OK;
    }
    return g->row.att == ATT_CA ? names_ca_at(dw, &g->row, path, at, ret) : OK;
}

/* From the first issuer upwards: the nearest decides, enabled or not (D24). */
static enum err group_of_path(struct dps_worker *dw, const struct snapshot *s,
                              const struct chain_path *path, const struct group **ret,
                              struct err_info *info)
{
    for (size_t at = 1; at < path->n; at++) {
        for (size_t i = 0; i < s->n_groups; i++) {
            bool fits = false;
            enum err e = fits_at(dw, &s->group[i], path, at, &fits);
            if (e != OK) {
                return e;
            }
            if (fits) {
                *ret = &s->group[i];
                return OK;
            }
        }
    }
    return refuse(info, E_CERT,
                  "the chain verifies, but no enrollment group has a certificate on it");
}

static enum err by_own_cert(struct dps_worker *dw, const struct enr_row *own,
                            const struct cert_peer *peer, struct err_info *info)
{
    struct chain_path path;
    bool fits = false;
    for (unsigned i = 0; own->att == ATT_CERT && i < 2; i++) {
        /* Exact bytes: no chain, no issuer. */
        fits |= own->cert[i].n != 0 && span_eq(own->cert[i], peer->leaf_der);
    }
    if (own->att == ATT_CA) {
        enum err e = verify_chain(dw, peer, &path, info);
        for (size_t at = 1; e == OK && !fits && at < path.n; at++) {
            e = names_ca_at(dw, own, &path, at, &fits);
        }
        if (e != OK) {
            return e;
        }
    }
    return fits ? OK
                : refuse(info, E_CERT,
                         "the certificate is not the one of the individual enrollment");
}

static bool has_cert_groups(const struct snapshot *s)
{
    for (size_t i = 0; i < s->n_groups; i++) {
        if (s->group[i].row.att != ATT_SYMMETRIC) {
            return true;
        }
    }
    return false;
}

static enum err by_cert(struct dps_worker *dw, struct snapshot *s, const struct enr_row *own,
                        struct span rid, const struct cert_peer *peer, struct enr_row *ret,
                        struct err_info *info)
{
    struct chain_path path;
    const struct group *g = NULL;
    enum err e = check_leaf(dw, peer, rid, info);
    if (e != OK) {
        return e;
    }
    if (own != NULL) {
        e = own->att == ATT_SYMMETRIC
                ? refuse(info, E_CERT, "the enrollment wants a token, not a certificate")
                : by_own_cert(dw, own, peer, info);
        if (e == OK) {
            *ret = *own;
        }
        return e;
    }
    if (!has_cert_groups(s)) {
        return refuse(info, E_CERT, "no enrollment of this id, and no group with certificates");
    }
    if ((e = verify_chain(dw, peer, &path, info)) != OK ||
        (e = group_of_path(dw, s, &path, &g, info)) != OK) {
        return e;
    }
    *ret = g->row;
    return OK;
}

/* --- both ----------------------------------------------------------------------------------------------- */

/* The row of a group points into the snapshot, which may change in a later turn. */
static enum err keep_row(struct arena *a, struct enr_row *r)
{
    struct span *const all[] = {&r->name,      &r->fold,         &r->key[0], &r->key[1],
                                &r->device_id, &r->initial_twin, &r->hubs,   &r->hub_host};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i]->p != NULL) {
            *all[i] = arena_span(a, *all[i]);
            if (all[i]->p == NULL) {
                return E_NOMEM;
            }
        }
    }
    r->cert[0] = r->cert[1] = r->ca[0] = r->ca[1] = SPAN_NONE;
    return OK;
}

enum err attestation_check(struct dps_worker *dw, struct arena *a, struct span rid,
                           struct span fold, const struct credential *c, struct attested *ret,
                           struct err_info *info)
{
    struct attested at = {.has_thumb = false};
    struct snapshot *s = NULL;
    struct enr_row own;
    enum err e = snapshot_get(dw, &s, info);
    if (e != OK) {
        return e;
    }
    e = sql_enr_get(worker_db(dw->w), a, ENR_INDIVIDUAL, fold, &own);
    bool has_own = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        return err_set(info, e, "cannot read the enrollment");
    }
    /* Both may come: the enrollment says which counts, and of a group the token does (D28). */
    bool wants_cert = has_own ? own.att != ATT_SYMMETRIC : !c->has_token;
    if (wants_cert && c->peer.leaf_der.n != 0) {
        e = by_cert(dw, s, has_own ? &own : NULL, rid, &c->peer, &at.enr, info);
        memcpy(at.thumb, c->peer.leaf_sha256, sizeof(at.thumb));
        at.has_thumb = true;
    } else if (c->has_token) {
        e = by_token(dw, s, has_own ? &own : NULL, rid, fold, &c->token, &at, info);
    } else {
        e = refuse(info, E_CERT, "neither a fitting token nor a certificate");
    }
    if (e == OK && (e = keep_row(a, &at.enr)) == OK) {
        *ret = at;
    }
    return e;
}
