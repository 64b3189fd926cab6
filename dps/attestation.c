/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/attestation.h"

#include "certs/leaf.h"
#include "dps/revocation.h"
#include "dps/tpm_attestation.h"
#include "server/authn.h"
#include "server/trust.h"

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

/* What the shared judge found wrong, by its kind (server/authn.h). */
static enum rule token_refused(struct dps_worker *dw, enum err e, struct span text,
                               struct verdict *v)
{
    struct sas_token tok;
    bool reads = sas_parse(text, &tok, NULL) == OK;
    if (e != E_UNAUTHORIZED) {
        return verdict_fail(v, e);
    }
    if (v->info.err == E_EXPIRED) {
        verdict_fact_time(v, "expires", reads ? tok.expires_s : -1);
        verdict_fact_time(v, "now", server_token_now_s(dw->dps->server));
        verdict_fact_u64(v, "skew", server_base_conf(dw->dps->server)->token_skew_s);
        return verdict_refuse(v, RULE_TOKEN_EXPIRED, NULL);
    }
    if (v->info.err == E_SCOPE) {
        verdict_fact(v, "presented", reads ? tok.sr : SPAN_NONE);
        verdict_keep(v, RULE_TOKEN_EXPIRED);
        return verdict_refuse(v, RULE_TOKEN_SCOPE, NULL);
    }
    return verdict_refuse(v, RULE_TOKEN_FORM, NULL);
}

enum rule attestation_token(struct dps_worker *dw, struct span text, struct span rid,
                            struct sas_token *ret, struct verdict *v)
{
    const struct span target[] = {span_str(dw->dps->id_scope), SPAN_LIT("registrations"), rid};
    struct sas_token tok;
    enum err e = authn_device_token(dw->w, text, target, ARRAY_LEN(target), false, &tok, &v->info);
    verdict_keep(v, RULE_NO_CREDENTIAL);
    if (e != OK) {
        return token_refused(dw, e, text, v);
    }
    /* An SDK sends skn empty, others leave it out: it selects nothing here (sas.md 4.2). */
    if (tok.skn_n != 0 && !span_is(sas_skn(&tok), "registration")) {
        verdict_fact(v, "presented", sas_skn(&tok));
        return verdict_refuse(v, RULE_TOKEN_POLICY, "skn is not \"registration\"");
    }
    verdict_keep(v, RULE_TOKEN_FORM);
    verdict_keep(v, RULE_TOKEN_EXPIRED);
    verdict_keep(v, RULE_TOKEN_SCOPE);
    verdict_keep(v, RULE_TOKEN_POLICY);
    *ret = tok;
    return RULE_OK;
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

static enum rule token_unwanted(const struct enr_row *own, bool takes_tpm, struct verdict *v)
{
    if (own == NULL) {
        verdict_fact(v, "groups",
                     SPAN_LIT("no enrollment group whose derived key signs the token"));
        return verdict_refuse(
            v, RULE_NO_ENROLLMENT,
            "no enrollment of this id, and no group whose derived key signs the token");
    }
    verdict_keep(v, RULE_NO_ENROLLMENT);
    if (own->att == ATT_SYMMETRIC) {
        verdict_keep(v, RULE_ATTESTATION_KIND);
        return verdict_refuse(v, RULE_TOKEN_SIGNATURE, "signature fits neither key");
    }
    if (own->att == ATT_TPM && takes_tpm) {
        verdict_keep(v, RULE_ATTESTATION_KIND);
        return verdict_refuse(v, RULE_TPM_TOKEN,
                              "the token is not signed by the key of a pending challenge");
    }
    verdict_fact(v, "wants",
                 own->att == ATT_TPM ? SPAN_LIT("its TPM, over HTTPS") : SPAN_LIT("a certificate"));
    verdict_fact(v, "came", SPAN_LIT("a token"));
    return verdict_refuse(v, RULE_ATTESTATION_KIND, "the enrollment does not want a token");
}

/* The row that sent the challenge to which the token answers, if it still admits that TPM. */
static const struct enr_row *row_of_challenge(struct dps_worker *dw, const struct snapshot *s,
                                              const struct enr_row *own, struct span fold,
                                              const struct sas_token *tok, struct attested *ret)
{
    struct challenge c = {.serial = 0};
    const struct enr_row *row = NULL;
    if (!tpm_signed(dw, fold, tok, &c)) {
        return NULL;
    }
    if (own != NULL) {
        row = own->att == ATT_TPM && tpm_is_of(&c, own) ? own : NULL;
    } else {
        const struct group *g = snapshot_group(s, c.enrollment);
        row = g != NULL && g->row.att == ATT_TPM_CA ? &g->row : NULL;
    }
    ret->challenge = c.serial;
    memcpy(ret->tpm_keys, c.keys, sizeof(c.keys));
    return row;
}

static enum rule by_token(struct dps_worker *dw, struct snapshot *s, const struct enr_row *own,
                          struct span rid, struct span fold, const struct credential *cred,
                          struct attested *ret, struct verdict *v)
{
    const struct sas_token *tok = &cred->token;
    const struct enr_row *row = own;
    struct span form = SPAN_NONE;
    enum err e = check_own_keys(dw, own, fold, tok, &v->info);
    if (e != OK && e != E_UNAUTHORIZED) {
        return verdict_fail(v, e);
    }
    /* Whether or not there is an enrollment of its own, the groups' keys are tried: the same work for all (D12). */
    const struct group *g = e != OK ? group_of_token(dw, s, rid, fold, tok, &form) : NULL;
    if (e != OK) {
        row = own == NULL && g != NULL ? &g->row
              : cred->takes_tpm        ? row_of_challenge(dw, s, own, fold, tok, ret)
                                       : NULL;
    }
    if (row == NULL) {
        return token_unwanted(own, cred->takes_tpm, v);
    }
    verdict_keep(v, RULE_NO_ENROLLMENT);
    verdict_keep(v, RULE_ATTESTATION_KIND);
    verdict_keep(v, RULE_TOKEN_SIGNATURE);
    ret->enr = *row;
    ret->key_id = form;
    return RULE_OK;
}

/* --- certificates ------------------------------------------------------------------------------------ */

static enum rule check_leaf(struct dps_worker *dw, const struct cert_peer *peer, struct span rid,
                            struct verdict *v)
{
    struct leaf l;
    verdict_keep(v, RULE_NO_CREDENTIAL);
    if (leaf_read(peer->leaf_der, &l, &v->info) != OK) {
        return verdict_refuse(v, RULE_LEAF_FORM, NULL);
    }
    verdict_keep(v, RULE_LEAF_FORM);
    if (!span_eq_nocase(l.cn, rid)) {
        verdict_fact(v, "presented", l.cn);
        return verdict_refuse(v, RULE_LEAF_CN, "the certificate's CN is not the registration id");
    }
    verdict_keep(v, RULE_LEAF_CN);
    int64_t now_s = server_token_now_s(dw->dps->server);
    if (now_s < l.not_before_s || now_s > l.not_after_s) {
        verdict_fact_time(v, "from", l.not_before_s);
        verdict_fact_time(v, "until", l.not_after_s);
        verdict_fact_time(v, "now", now_s);
        return verdict_refuse(v, RULE_LEAF_DATES,
                              "link 0: the certificate is outside its validity");
    }
    verdict_keep(v, RULE_LEAF_DATES);
    return RULE_OK;
}

static bool on_path(const struct chain_path *path, const uint8_t sha256[CERT_SHA256], size_t at)
{
    return span_eq(span_of(path->sha256[at], CERT_SHA256), span_of(sha256, CERT_SHA256));
}

/* A switch without default: a new verdict on chains does not compile until it has its rule. */
static enum rule rule_of_chain(enum chain_verdict c)
{
    switch (c) {
    case CHAIN_OK:
        return RULE_OK;
    case CHAIN_MALFORMED:
        return RULE_CHAIN_FORM;
    case CHAIN_NO_ANCHOR:
        return RULE_CHAIN_NO_ANCHOR;
    case CHAIN_EXPIRED:
    case CHAIN_NOT_YET_VALID:
        return RULE_CHAIN_DATES;
    case CHAIN_BAD_SIGNATURE:
        return RULE_CHAIN_SIGNATURE;
    case CHAIN_NOT_CA:
        return RULE_CHAIN_NOT_CA;
    case CHAIN_PATHLEN:
        return RULE_CHAIN_PATHLEN;
    case CHAIN_EKU:
        return RULE_CHAIN_EKU;
    case CHAIN_NAME:
        return RULE_CHAIN_NAME;
    case CHAIN_WEAK:
        return RULE_CHAIN_WEAK;
    case CHAIN_OTHER:
        break;
    }
    return RULE_CHAIN_OTHER;
}

/* Who issued the last certificate that the device presented: what is missing above it. */
static void fact_missing(const struct cert_peer *peer, struct verdict *v)
{
    AUTO(cert_free_p) struct cert *c = NULL;
    AUTO(buf_done) struct buf b = BUF_INIT(2048);
    struct span last = peer->n_chain != 0 ? peer->chain_der[peer->n_chain - 1] : peer->leaf_der;
    if (cert_from_der(last, &c, NULL) == OK) {
        cert_add_issuer(c, &b);
    }
    verdict_fact(v, "missing", buf_span(&b));
}

static enum rule verify_chain(struct dps_worker *dw, const struct cert_peer *peer,
                              struct chain_path *ret, struct verdict *v)
{
    struct err_info why = {.err = OK};
    enum chain_verdict c = trust_verify(dw->w, peer, ret, &why);
    enum rule r = rule_of_chain(c);
    if (r == RULE_OK) {
        for (unsigned k = RULE_CHAIN_FORM; k <= RULE_CHAIN_OTHER; k++) {
            verdict_keep(v, (enum rule)k);
        }
        return RULE_OK;
    }
    if (r == RULE_CHAIN_NO_ANCHOR) {
        fact_missing(peer, v);
    }
    verdict_fact_u64(v, "most", LIMIT_CHAIN_CERTS);
    verdict_fact_time(v, "now", server_token_now_s(dw->dps->server));
    verdict_fact(v, "detail", span_str(why.why));
    return verdict_refuse(v, r, "%s: %s", chain_verdict_name(c), why.why);
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
static enum rule group_of_path(struct dps_worker *dw, const struct snapshot *s,
                               const struct chain_path *path, const struct group **ret,
                               struct verdict *v)
{
    for (size_t at = 1; at < path->n; at++) {
        for (size_t i = 0; i < s->n_groups; i++) {
            bool fits = false;
            enum err e = fits_at(dw, &s->group[i], path, at, &fits);
            if (e != OK) {
                return verdict_fail(v, e);
            }
            if (fits) {
                *ret = &s->group[i];
                verdict_keep(v, RULE_GROUP_NOT_ON_PATH);
                return RULE_OK;
            }
        }
    }
    verdict_fact_hex(v, "issuer", span_of(path->sha256[MIN(path->n - 1, 1)], CERT_SHA256));
    return verdict_refuse(v, RULE_GROUP_NOT_ON_PATH,
                          "the chain verifies, but no enrollment group has a certificate on it");
}

static enum rule by_own_ca(struct dps_worker *dw, const struct enr_row *own,
                           const struct cert_peer *peer, struct chain_path *path, struct verdict *v)
{
    bool fits = false;
    enum rule r = verify_chain(dw, peer, path, v);
    for (size_t at = 1; r == RULE_OK && !fits && at < path->n; at++) {
        r = verdict_fail(v, names_ca_at(dw, own, path, at, &fits));
    }
    if (r != RULE_OK) {
        return r;
    }
    if (fits) {
        verdict_keep(v, RULE_CA_NOT_ON_PATH);
        return RULE_OK;
    }
    verdict_fact(v, "expected", own->ca[own->ca[0].n != 0 ? 0 : 1]);
    return verdict_refuse(v, RULE_CA_NOT_ON_PATH,
                          "no CA that the individual enrollment names is on the chain");
}

static enum rule by_own_cert(struct dps_worker *dw, const struct enr_row *own,
                             const struct cert_peer *peer, struct chain_path *path,
                             struct verdict *v)
{
    uint8_t digest[CERT_SHA256];
    bool fits = false;
    if (own->att == ATT_CA) {
        return by_own_ca(dw, own, peer, path, v);
    }
    for (unsigned i = 0; i < 2; i++) {
        /* Exact bytes: no chain, no issuer. */
        fits |= own->cert[i].n != 0 && span_eq(own->cert[i], peer->leaf_der);
    }
    if (fits) {
        verdict_keep(v, RULE_LEAF_OTHER);
        return RULE_OK;
    }
    verdict_fact_hex(v, "presented", span_of(peer->leaf_sha256, CERT_SHA256));
    sha256(own->cert[own->cert[0].n != 0 ? 0 : 1], digest);
    verdict_fact_hex(v, "expected", span_of(digest, sizeof(digest)));
    return verdict_refuse(v, RULE_LEAF_OTHER,
                          "the certificate is not the one of the individual enrollment");
}

static bool has_cert_groups(const struct snapshot *s)
{
    for (size_t i = 0; i < s->n_groups; i++) {
        if (s->group[i].row.att == ATT_CERT || s->group[i].row.att == ATT_CA) {
            return true;
        }
    }
    return false;
}

static enum rule by_cert(struct dps_worker *dw, struct snapshot *s, const struct enr_row *own,
                         struct span rid, const struct cert_peer *peer, struct attested *ret,
                         struct verdict *v)
{
    struct chain_path path = {.n = 0}; /* stays so where no chain is asked for */
    const struct group *g = NULL;
    enum rule r = check_leaf(dw, peer, rid, v);
    if (r != RULE_OK) {
        return r;
    }
    if (own == NULL && !has_cert_groups(s)) {
        verdict_fact(v, "groups", SPAN_LIT("no enrollment group has certificates"));
        return verdict_refuse(v, RULE_NO_ENROLLMENT,
                              "no enrollment of this id, and no group with certificates");
    }
    verdict_keep(v, RULE_NO_ENROLLMENT);
    if (own != NULL) {
        verdict_keep(v, RULE_ATTESTATION_KIND);
        r = by_own_cert(dw, own, peer, &path, v);
    } else if ((r = verify_chain(dw, peer, &path, v)) == RULE_OK) {
        r = group_of_path(dw, s, &path, &g, v);
    }
    if (r == RULE_OK) {
        ret->enr = own != NULL ? *own : g->row;
        ret->has_anchor = path.n != 0;
        memcpy(ret->anchor, path.sha256[path.anchor], sizeof(ret->anchor));
    }
    return r;
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
    r->cert[0] = r->cert[1] = r->ca[0] = r->ca[1] = r->ek = r->srk = SPAN_NONE;
    return OK;
}

enum rule attestation_check(struct dps_worker *dw, struct arena *a, struct span rid,
                            struct span fold, const struct credential *c, struct attested *ret,
                            struct verdict *v)
{
    struct attested at = {.has_thumb = false};
    struct snapshot *s = NULL;
    struct enr_row own;
    enum rule r = verdict_fail(v, snapshot_get(dw, &s, &v->info));
    if (r != RULE_OK) {
        return r;
    }
    enum err e = sql_enr_get(worker_db(dw->w), a, ENR_INDIVIDUAL, fold, &own);
    bool has_own = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        (void)err_set(&v->info, e, "cannot read the enrollment");
        return verdict_fail(v, e);
    }
    /* Both may come: the enrollment says which counts, and of a group the token does (D28). */
    bool wants_cert = has_own ? own.att == ATT_CERT || own.att == ATT_CA : !c->has_token;
    if (wants_cert && c->peer.leaf_der.n != 0) {
        r = by_cert(dw, s, has_own ? &own : NULL, rid, &c->peer, &at, v);
        memcpy(at.thumb, c->peer.leaf_sha256, sizeof(at.thumb));
        at.has_thumb = true;
    } else if (c->has_token) {
        r = by_token(dw, s, has_own ? &own : NULL, rid, fold, c, &at, v);
    } else {
        verdict_fact(v, "wants",
                     has_own && own.att == ATT_TPM ? SPAN_LIT("its TPM, over HTTPS")
                                                   : SPAN_LIT("a token"));
        verdict_fact(v, "came", SPAN_LIT("a certificate alone"));
        r = verdict_refuse(v, RULE_ATTESTATION_KIND, "neither a fitting token nor a certificate");
    }
    if (r != RULE_OK && r != RULE_FAILURE && has_own && !own.is_enabled) {
        revocation_note(worker_db(dw->w), a, &own, v);
        return v->rule;
    }
    if (r == RULE_OK && (r = verdict_fail(v, keep_row(a, &at.enr))) == RULE_OK) {
        *ret = at;
    }
    return r;
}
