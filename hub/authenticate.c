/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on a device's credential: docs/protocol/hub-mqtt.md 2.3, docs/protocol/sas.md 4.1, 8, 9.
 *
 * Until the caller has proven who it is, unknown, disabled and wrong cost the same (threat N8): every refusal has tried two MACs if a
 * token came, and dates, thumbprints and the chain if a certificate came, whichever of these the identity really wants.
 */
#include "base/text.h"
#include "hub/hub_sql.h"
#include "certs/leaf.h"
#include "hub/directory.h"
#include "hub/registry_int.h"
#include "hub/work.h"
#include "server/authn.h"
#include "server/trust.h"

static const char method_device_sas[] =
    "{\"scope\":\"device\",\"type\":\"sas\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}";
static const char method_device_x509[] = "{\"scope\":\"device\",\"type\":\"x509\",\"issuer\":"
                                         "\"external\",\"acceptingIpFilterRule\":null}";
static const char method_module_sas[] =
    "{\"scope\":\"module\",\"type\":\"sas\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}";
static const char method_module_x509[] = "{\"scope\":\"module\",\"type\":\"x509\",\"issuer\":"
                                         "\"external\",\"acceptingIpFilterRule\":null}";
static const char method_hub_sas[] =
    "{\"scope\":\"hub\",\"type\":\"sas\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}";

/* One attempt. What was tried is kept, so that a refusal can make up for what was not. */
struct attempt {
    struct worker *w;
    struct arena *a;
    struct span id, module_id; /* module_id empty: a device */
    struct device d;           /* a dummy with no credential when the id is unknown */
    bool is_known;
    struct span token;
    struct sas_token tok;
    bool has_tok; /* well-formed, in time, names this device */
    struct cert_peer peer;
    bool has_cert;
    bool tried_keys, tried_chain;
    bool is_in_dates;
    int64_t not_after_s;
    struct admitted *ret;
    struct err_info *info;
};

/* --- tokens -------------------------------------------------------------------------------- */

static enum err judge_policy(struct attempt *t)
{
    enum err e = policy_check(t->w, &t->tok, &t->ret->policy, t->info);
    if (e != OK) {
        return e;
    }
    if ((t->ret->policy.rights & R_DEVICE_CONNECT) == 0) {
        return err_set(t->info, E_UNAUTHORIZED, "policy \"%s\" lacks DeviceConnect", t->tok.skn);
    }
    t->ret->by_policy = true;
    t->ret->auth_method_json = method_hub_sas;
    return OK;
}

static enum err judge_keys(struct attempt *t)
{
    t->tried_keys = true;
    enum err e =
        authn_token_keys(t->w, &t->tok, device_key_place(&t->d, 0), t->d.sealed_key[0],
                         device_key_place(&t->d, 1), t->d.sealed_key[1], &t->ret->slot, t->info);
    if (e == OK) {
        t->ret->auth_method_json = t->module_id.n > 0 ? method_module_sas : method_device_sas;
    }
    return e;
}

static int64_t token_end(struct worker *w, const struct sas_token *tok)
{
    int64_t skew = (int64_t)server_base_conf(worker_server(w))->token_skew_s;
    return tok->expires_s > INT64_MAX - skew ? INT64_MAX : tok->expires_s + skew;
}

static enum err judge_token(struct attempt *t)
{
    if (!t->has_tok) {
        return E_UNAUTHORIZED; /* the reason is in info */
    }
    enum err e = t->tok.skn_n != 0 ? judge_policy(t) : judge_keys(t);
    if (e == OK) {
        t->ret->expires_s = token_end(t->w, &t->tok);
    }
    return e;
}

/* --- certificates -------------------------------------------------------------------------- */

static const char *method_x509(const struct attempt *t)
{
    return t->module_id.n > 0 ? method_module_x509 : method_device_x509;
}

static void read_dates(struct attempt *t)
{
    int64_t from, now_s = server_token_now_s(worker_server(t->w));
    t->is_in_dates = leaf_dates(t->peer.leaf_der, &from, &t->not_after_s) == OK && from <= now_s &&
                     now_s <= t->not_after_s;
}

struct pin_work {
    struct work k; /* first */
    int64_t identity;
    uint64_t cred_gen;
    unsigned slot;
    uint8_t sha256[CERT_SHA256];
};

static enum err pin_tx(struct store_tx *tx, struct work *k)
{
    struct pin_work *p = CONTAINER_OF(k, struct pin_work, k);
    struct span pin[2] = {SPAN_NONE, SPAN_NONE};
    pin[p->slot] = span_of(p->sha256, sizeof p->sha256);
    return hub_sql_device_set_pin(tx->db, p->identity, p->cred_gen, pin[0], pin[1]);
}

/* SHA-1 can be forged: the first certificate that fits an entry of 40 digits is the only one that it admits from then on. */
static void pin(struct attempt *t, unsigned slot)
{
    struct pin_work *p = work_new(t->w, sizeof *p);
    if (p == NULL) {
        return; /* the next connect pins */
    }
    p->k.tx = pin_tx;
    p->k.free = work_end;
    p->identity = t->d.identity;
    p->cred_gen = t->d.cred_gen;
    p->slot = slot;
    memcpy(p->sha256, t->peer.leaf_sha256, sizeof p->sha256);
    (void)!work_begin(&p->k, NULL); /* same */
}

static bool fits_sha1(struct attempt *t, unsigned slot)
{
    if (t->d.pin[slot].n != 0) {
        return mem_equal_ct(t->d.pin[slot], span_of(t->peer.leaf_sha256, CERT_SHA256));
    }
    AUTO(cert_free_p) struct cert *c = NULL;
    uint8_t want[CERT_SHA1];
    AUTO(buf_done) struct buf b = BUF_INIT(CERT_SHA1);
    if (hex_decode(t->d.thumbprint[slot], &b) != OK || b.n != sizeof want ||
        cert_from_der(t->peer.leaf_der, &c, t->info) != OK ||
        !mem_equal_ct(buf_span(&b), span_of(cert_sha1(c), CERT_SHA1))) {
        return false;
    }
    pin(t, slot);
    return true;
}

static bool fits_slot(struct attempt *t, unsigned slot)
{
    struct span hex = t->d.thumbprint[slot];
    if (hex.n == 2 * CERT_SHA1) {
        return fits_sha1(t, slot);
    }
    /* An empty slot compares with zeros, so that it costs the same; it never fits. */
    uint8_t want[CERT_SHA256] = {0};
    AUTO(buf_done) struct buf b = BUF_INIT(CERT_SHA256);
    bool is_set = hex.n == 2 * CERT_SHA256 && hex_decode(hex, &b) == OK && b.n == sizeof want;
    if (is_set) {
        memcpy(want, b.p, sizeof want);
    }
    bool fits = mem_equal_ct(span_of(want, sizeof want),
                             span_of(t->peer.leaf_sha256, sizeof t->peer.leaf_sha256));
    return fits && is_set;
}

static enum err judge_thumbprint(struct attempt *t)
{
    bool fits[2] = {fits_slot(t, 0), fits_slot(t, 1)};
    if (!fits[0] && !fits[1]) {
        return err_set(t->info, E_UNAUTHORIZED, "certificate has another thumbprint");
    }
    t->ret->slot = fits[0] ? 0 : 1;
    t->ret->auth_method_json = method_x509(t);
    return OK;
}

static enum err judge_chain(struct attempt *t)
{
    struct leaf leaf;
    t->tried_chain = true;
    t->ret->trust_epoch = trust_epoch(worker_server(t->w));
    enum chain_verdict v = trust_verify(t->w, &t->peer, &t->ret->path, t->info);
    if (v == CHAIN_OTHER && t->info->err == E_DB) {
        return E_DB;
    }
    if (v != CHAIN_OK) {
        return err_wrap(t->info, E_UNAUTHORIZED, "chain refused (%s)", chain_verdict_name(v));
    }
    if (leaf_read(t->peer.leaf_der, &leaf, t->info) != OK) {
        return E_UNAUTHORIZED;
    }
    if (!span_eq(leaf.cn, t->d.id)) { /* of a module too: its device's id (hub-mqtt.md 2.3) */
        return err_set(t->info, E_UNAUTHORIZED, "certificate's CN \"%.*s\" is not the device id",
                       SPAN_ARG(span_sub(leaf.cn, 0, LIMIT_X509_RID)));
    }
    t->ret->by_ca = true;
    t->ret->expires_s = t->ret->path.not_after_us / 1000000;
    t->ret->auth_method_json = method_x509(t);
    return OK;
}

static enum err judge_cert(struct attempt *t)
{
    if (!t->has_cert) {
        return err_set(t->info, E_UNAUTHORIZED, "no client certificate was presented");
    }
    enum err e = t->d.auth == AUTH_T_CA ? judge_chain(t) : judge_thumbprint(t);
    if (e == OK && !t->is_in_dates) {
        e = err_set(t->info, E_UNAUTHORIZED, "certificate is outside its validity");
    }
    if (e == OK && !t->ret->by_ca) {
        t->ret->expires_s = t->not_after_s;
    }
    return e;
}

/* --- the whole ----------------------------------------------------------------------------- */

/* What the identity wants decides: a token, a certificate; the other one is ignored. A policy with DeviceConnect speaks for any. */
static enum err judge(struct attempt *t)
{
    bool has_policy_token = t->has_tok && t->tok.skn_n != 0;
    if (t->d.auth == AUTH_T_SAS || has_policy_token) {
        if (t->token.n == 0) {
            return err_set(t->info, E_UNAUTHORIZED, "no token was presented");
        }
        return judge_token(t);
    }
    if (t->d.auth == AUTH_T_SELF_SIGNED || t->d.auth == AUTH_T_CA) {
        return judge_cert(t);
    }
    return err_set(t->info, E_UNAUTHORIZED, "identity has no credential");
}

/* The work that another kind of identity would have cost. */
static void level(struct attempt *t)
{
    struct admitted nowhere;
    struct err_info nothing;
    struct attempt dummy = *t;
    memset(&nowhere, 0, sizeof nowhere);
    dummy.d = (struct device){.generation_id = t->d.generation_id};
    dummy.ret = &nowhere;
    dummy.info = &nothing;
    if (t->has_tok && !t->tried_keys && t->tok.skn_n == 0) {
        (void)!judge_keys(&dummy); /* cost only */
    }
    if (t->has_cert && !t->tried_chain) {
        (void)!judge_chain(&dummy); /* cost only */
    }
}

static enum err read_row(struct attempt *t)
{
    if (!id_device_ok(t->id) || (t->module_id.n > 0 && !id_device_ok(t->module_id))) {
        return E_NOT_FOUND;
    }
    return t->module_id.n > 0
               ? hub_sql_module_by_name(worker_db(t->w), t->a, t->id, t->module_id, &t->d)
               : hub_sql_device_by_id(worker_db(t->w), t->a, t->id, &t->d);
}

static enum err look_up(struct attempt *t)
{
    enum err e = read_row(t);
    struct registry_worker *rw = registry_worker_of(t->w);
    t->is_known = e == OK;
    if (e == OK) {
        rw->some_identity = t->d.identity;
    }
    if (e == E_NOT_FOUND) {
        /* Reading a row costs more than missing one. */
        e = hub_sql_device_by_identity(worker_db(t->w), t->a, rw->some_identity, &t->d);
        if (e != OK && e != E_NOT_FOUND) {
            return e;
        }
        t->d = (struct device){.auth = t->has_cert && t->token.n == 0 ? AUTH_T_SELF_SIGNED
                                                                      : AUTH_T_SAS};
        e = OK;
    }
    return e;
}

static enum err admit(struct attempt *t)
{
    enum err e = judge(t);
    if (e != OK && e != E_UNAUTHORIZED) {
        return e; /* ours: nothing was decided */
    }
    if (!t->is_known) {
        e = err_set(t->info, E_UNAUTHORIZED, "no device \"%.*s%s%.*s\"",
                    SPAN_ARG(span_sub(t->id, 0, LIMIT_ID)), t->module_id.n > 0 ? "/" : "",
                    SPAN_ARG(span_sub(t->module_id, 0, LIMIT_ID)));
    } else if (e == OK && !t->d.is_enabled) {
        e = err_set(t->info, E_UNAUTHORIZED, "device is disabled");
    }
    if (e != OK) {
        level(t);
        return E_UNAUTHORIZED;
    }
    t->ret->identity = t->d.identity;
    t->ret->cred_gen = t->d.slot_gen[t->ret->slot];
    t->ret->generation_id = t->d.generation_id;
    t->ret->model_id = t->d.model_id;
    return OK;
}

/* {host}/devices/{id}[/modules/{mid}]; a device's own key does not reach its modules: theirs are tried. */
static enum err read_token(struct attempt *t)
{
    const struct span target[] = {SPAN_NONE, SPAN_LIT("devices"), t->id, SPAN_LIT("modules"),
                                  t->module_id};
    size_t n = ARRAY_LEN(target) - (t->module_id.n > 0 ? 0 : 2);
    return authn_device_token(t->w, t->token, target, n, true, &t->tok, t->info);
}

enum err registry_authenticate(struct worker *w, struct arena *a, struct span device_id,
                               struct span module_id, struct span token, struct conn *c,
                               struct admitted *ret, struct err_info *info)
{
    struct admitted ad;
    struct err_info own = {0};
    memset(&ad, 0, sizeof ad);
    ad.expires_s = INT64_MAX;
    ad.changes = directory_changes(hub_of(w)->directory);
    struct attempt t = {.w = w,
                        .a = a,
                        .id = device_id,
                        .module_id = module_id,
                        .token = token,
                        .ret = &ad,
                        .info = info != NULL ? info : &own};
    if (c != NULL) {
        conn_peer_cert(c, &t.peer);
        t.has_cert = t.peer.leaf_der.n != 0;
    }
    if (token.n != 0) {
        enum err e = read_token(&t);
        if (e != OK && e != E_UNAUTHORIZED) {
            return e;
        }
        t.has_tok = e == OK;
    }
    if (t.has_cert) {
        read_dates(&t);
    }
    enum err e = look_up(&t);
    if (e == OK) {
        e = admit(&t);
    }
    if (e == OK) {
        *ret = ad;
    }
    return e;
}

enum err registry_still_good(struct worker *w, const struct admitted *ad, struct err_info *info)
{
    struct device d;
    AUTO(arena_done) struct arena a = ARENA_INIT(LIMIT_HUB_WORK);
    enum err e = hub_sql_device_by_identity(worker_db(w), &a, ad->identity, &d);
    if (e == E_NOT_FOUND) {
        return err_set(info, E_UNAUTHORIZED, "device was deleted");
    }
    if (e != OK) {
        return err_set(info, e, "device could not be read");
    }
    if (!d.is_enabled) {
        return err_set(info, E_UNAUTHORIZED, "device is disabled");
    }
    if (ad->by_policy) {
        return policy_still_good(w, &ad->policy, R_DEVICE_CONNECT)
                   ? OK
                   : err_set(info, E_UNAUTHORIZED, "policy or its key changed");
    }
    if (d.slot_gen[ad->slot] != ad->cred_gen) {
        return err_set(info, E_UNAUTHORIZED, "credential was replaced");
    }
    if (ad->by_ca && !trust_path_still_good(w, &ad->path)) {
        return err_set(info, E_UNAUTHORIZED, "the CA certificate is trusted no more");
    }
    return OK;
}
