/* SPDX-License-Identifier: Apache-2.0 */
/* The device API over HTTPS: docs/protocol/dps-device.md 3. */
#include "base/text.h"
#include "dps/admission.h"
#include "dps/http.h"
#include "dps/refusal.h"
#include "dps/registration.h"
#include "server/metrics.h"

/* What admit found out: in the request's arena. */
struct device_rq {
    struct span rid, fold;
    struct credential cred;
    struct span peer;
    struct verdict v;
};

struct verdict *http_device_verdict(struct http_rq *rq)
{
    struct device_rq *d = http_rq_user(rq);
    return d != NULL ? &d->v : NULL;
}

/* What the frame refused by itself has no verdict yet. */
void http_device_note(struct http_rq *rq, enum err e)
{
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct verdict *v = http_device_verdict(rq);
    bool found;
    if (v != NULL && v->rule == RULE_OK && e == E_TOO_LARGE) {
        verdict_fact_u64(v, "most", LIMIT_DPS_BODY);
        (void)verdict_refuse(v, RULE_BODY_SIZE, "the body is too large");
    }
    if (v != NULL) {
        const struct device_rq *d = http_rq_user(rq);
        const struct refusal_from from = {d->rid, d->peer, SPAN_LIT("https"),
                                          http_rq_query(rq, "api-version", &found)};
        refusal_note(dw, &from, v);
    }
}

static bool has_credential(const struct device_rq *d)
{
    return d->cred.has_token || d->cred.peer.leaf_der.n != 0;
}

static enum rule no_credential(struct verdict *v)
{
    return verdict_refuse(v, RULE_NO_CREDENTIAL, "neither a token nor a client certificate");
}

static enum rule admit(struct http_rq *rq, struct device_rq *d)
{
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct span token = http_rq_header(rq, "Authorization");
    struct verdict *v = &d->v;
    enum rule r;
    d->rid = http_rq_param(rq, 1);
    if (!span_is(http_rq_param(rq, 0), dw->dps->id_scope)) {
        verdict_fact(v, "presented", http_rq_param(rq, 0));
        return verdict_refuse(v, RULE_ID_SCOPE, "unknown id scope");
    }
    verdict_keep(v, RULE_ID_SCOPE);
    if (!id_registration_ok(d->rid)) {
        verdict_fact(v, "presented", d->rid);
        return verdict_refuse(v, RULE_ID_FORM, "registration id is not valid");
    }
    verdict_keep(v, RULE_ID_FORM);
    char *fold = arena_alloc(http_rq_arena(rq), LIMIT_ID + 1);
    if (fold == NULL) {
        return verdict_fail(v, E_NOMEM);
    }
    d->fold = admission_fold(d->rid, fold);
    d->cred.takes_tpm = true;
    d->cred.has_token = token.p != NULL;
    if (d->cred.has_token &&
        (r = attestation_token(dw, token, d->rid, &d->cred.token, v)) != RULE_OK) {
        return r;
    }
    /* A TPM shows itself in the body of its first register: device_register() looks. */
    return has_credential(d) || http_rq_method(rq) == HTTP_PUT ? RULE_OK : no_credential(v);
}

enum err http_device_admit(struct http_rq *rq, struct err_info *info)
{
    struct device_rq *d = arena_new(http_rq_arena(rq), struct device_rq);
    struct conn *c = http_rq_conn(rq);
    if (d == NULL) {
        return E_NOMEM;
    }
    http_rq_set_user(rq, d);
    if (c != NULL) {
        conn_peer_cert(c, &d->cred.peer);
        d->peer = span_str(conn_peer_text(c));
    }
    if (admit(rq, d) == RULE_OK) {
        return OK;
    }
    if (info != NULL) {
        *info = d->v.info;
    }
    return verdict_err(&d->v);
}

static enum rule want_json(struct http_rq *rq, struct verdict *v)
{
    enum err e = http_want_json(rq, &v->info);
    if (e == OK) {
        verdict_keep(v, RULE_CONTENT_TYPE);
        return RULE_OK;
    }
    verdict_fact(v, "type", http_rq_header(rq, "Content-Type"));
    return e == E_MEDIA ? verdict_refuse(v, RULE_CONTENT_TYPE, NULL) : verdict_fail(v, e);
}

static enum rule check(struct http_rq *rq, enum throttle_what what, struct attested *ret)
{
    struct device_rq *d = http_rq_user(rq);
    const struct device_ask ask = {what, d->rid, d->fold, &d->cred, d->peer};
    enum rule r =
        admission_check(dps_worker_of(worker_of_rq(rq)), http_rq_arena(rq), &ask, ret, &d->v);
    if (r == RULE_OK && http_rq_conn(rq) != NULL) {
        conn_mark_authenticated(http_rq_conn(rq)); /* a token of good form alone is nobody's */
    }
    return r;
}

static void refuse(struct http_rq *rq, enum dps_subject about, const struct verdict *v)
{
    dps_refuse_about(rq, about, verdict_err(v), &v->info);
}

static void answer(struct http_rq *rq, unsigned status, struct span op_id, struct buf *b)
{
    if (buf_err(b) != OK) {
        dps_refuse(rq, buf_err(b), NULL);
        return;
    }
    if (status == 202) {
        http_headerf(rq, "Retry-After", "%u",
                     admission_wait_s(dps_worker_of(worker_of_rq(rq)), op_id));
    }
    dps_answer_json(rq, status, buf_span(b));
}

/* --- the first register of a TPM ------------------------------------------------------------------ */

static enum rule make_challenge(struct http_rq *rq, struct buf *blob)
{
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct device_rq *d = http_rq_user(rq);
    const struct device_ask ask = {THROTTLE_CHALLENGE, d->rid, d->fold, &d->cred, d->peer};
    struct registration_body body = {.has_tpm = false};
    struct tpm_show show;
    struct enr_row enr;
    struct arena *a = http_rq_arena(rq);
    enum rule r = registration_body_read(a, http_rq_body(rq), d->rid, &body, &d->v);
    if (r != RULE_OK && r != RULE_BODY_JSON) {
        return r;
    }
    if (r != RULE_OK || !body.has_tpm) {
        return no_credential(&d->v);
    }
    if ((r = want_json(rq, &d->v)) != RULE_OK ||
        (r = tpm_show_read(a, http_rq_body(rq), &show, &d->v)) != RULE_OK ||
        (r = admission_challenge(dw, a, &ask, &show, &enr, &d->v)) != RULE_OK) {
        return r;
    }
    return tpm_challenge(dw, d->fold, &enr, &show, blob, &d->v);
}

/* dps-tpm.md 5: members, and the absence of others, by which the SDKs know it. */
static void device_challenge(struct http_rq *rq)
{
    AUTO(buf_done) struct buf blob = BUF_INIT(TPM_BLOB_MAX), b = BUF_INIT(DPS_ANSWER_MAX);
    struct device_rq *d = http_rq_user(rq);
    if (make_challenge(rq, &blob) != RULE_OK) {
        refuse(rq, ABOUT_REGISTRATION, &d->v);
        return;
    }
    buf_add_str(&b, "{\"message\":\"Authorization required.\",\"authenticationKey\":\"");
    base64_add(&b, buf_span(&blob));
    buf_add_str(&b, "\",\"keyName\":\"registration\"}");
    answer(rq, 401, SPAN_NONE, &b);
}

/* --- register ----------------------------------------------------------------------------------- */

struct register_ctx {
    handle rq;
    uint64_t challenge; /* that the TPM used up; 0: none */
    size_t n;
    char fold[LIMIT_ID];
};

static void registered(struct dps_worker *dw, void *ctx, enum err e, struct span op_id,
                       const struct err_info *info)
{
    AUTO(mem_free_p) struct register_ctx *c = ctx;
    AUTO(buf_done) struct buf b = BUF_INIT(DPS_ANSWER_MAX);
    struct http_rq *rq = http_rq_of(worker_loop(dw->w), c->rq);
    if (e != OK) {
        tpm_give_back(dw, span_of(c->fold, c->n), c->challenge);
    }
    if (rq == NULL) {
        return; /* the operation goes on */
    }
    struct device_rq *d = http_rq_user(rq);
    if (registration_refused(e, info, &d->v) != RULE_OK) {
        refuse(rq, ABOUT_REGISTRATION, &d->v);
        return;
    }
    registration_write_assigning(&b, op_id);
    answer(rq, 202, op_id, &b);
}

static bool is_tpm(const struct attested *who)
{
    return who->enr.att == ATT_TPM || who->enr.att == ATT_TPM_CA;
}

static enum rule use_challenge(struct http_rq *rq, const struct attested *who,
                               struct tpm_show *show, struct tpm_grant *ret)
{
    struct device_rq *d = http_rq_user(rq);
    struct arena *a = http_rq_arena(rq);
    enum rule r = tpm_show_read(a, http_rq_body(rq), show, &d->v);
    return r != RULE_OK
               ? r
               : tpm_begin(dps_worker_of(worker_of_rq(rq)), a, d->fold, who, show, ret, &d->v);
}

static void device_register(struct http_rq *rq)
{
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct device_rq *d = http_rq_user(rq);
    struct registration_body body = {.has_tpm = false};
    struct tpm_show show = {.ek = SPAN_NONE};
    struct tpm_grant grant = {SPAN_NONE, SPAN_NONE};
    struct attested who;
    bool found;
    if (!has_credential(d)) {
        device_challenge(rq);
        return;
    }
    if (want_json(rq, &d->v) != RULE_OK || check(rq, THROTTLE_REGISTER, &who) != RULE_OK ||
        registration_body_read(http_rq_arena(rq), http_rq_body(rq), d->rid, &body, &d->v) !=
            RULE_OK) {
        refuse(rq, ABOUT_REGISTRATION, &d->v);
        return;
    }
    struct register_ctx *c = NEW(struct register_ctx);
    if (c == NULL) {
        (void)verdict_fail(&d->v, E_NOMEM);
    }
    if (c == NULL || (is_tpm(&who) && use_challenge(rq, &who, &show, &grant) != RULE_OK)) {
        mem_free_p(&c);
        refuse(rq, ABOUT_REGISTRATION, &d->v);
        return;
    }
    *c = (struct register_ctx){http_rq_handle(rq), who.challenge, d->fold.n, {0}};
    memcpy(c->fold, d->fold.p, d->fold.n);
    struct span api_version = http_rq_query(rq, "api-version", &found);
    const struct refusal_from from = {d->rid, d->peer, SPAN_LIT("https"), api_version};
    const struct registration_wish wish = {
        .rid = d->rid,
        .fold = d->fold,
        .who = &who,
        .is_sticky = registration_is_sticky(api_version),
        .from = &from,
        .wants_certificate = body.wants_certificate,
        .csr = body.csr,
        .csr_form = body.csr_form,
        .payload = body.payload,
        .latencies = body.latencies,
        .leaf = d->cred.peer.leaf_der,
        .peer = d->peer,
        .tpm_srk = show.srk,
        .tpm_blob = grant.blob,
        .tpm_key = grant.sealed_key,
    };
    metric_add(dw->w, DPS_M_REG_STARTED, 1);
    enum err e = registration_begin(dw, &wish, registered, c, &d->v.info);
    if (registration_refused(e, &d->v.info, &d->v) != RULE_OK) {
        tpm_give_back(dw, d->fold, who.challenge);
        mem_free_p(&c);
        refuse(rq, ABOUT_REGISTRATION, &d->v);
    }
}

/* --- poll, lookup ---------------------------------------------------------------------------------- */

static void device_poll(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(DPS_ANSWER_MAX);
    struct device_rq *d = http_rq_user(rq);
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct attested who;
    bool is_final = false;
    metric_add(dw->w, DPS_M_POLLS, 1);
    if (check(rq, THROTTLE_POLL, &who) != RULE_OK ||
        registration_poll_refused(registration_poll(dw, http_rq_arena(rq), d->fold,
                                                    http_rq_param(rq, 2), who.enr.is_enabled, &b,
                                                    &is_final),
                                  &d->v) != RULE_OK) {
        refuse(rq, ABOUT_OPERATION, &d->v);
        return;
    }
    answer(rq, is_final ? 200 : 202, http_rq_param(rq, 2), &b);
}

static void device_lookup(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(DPS_ANSWER_MAX);
    struct device_rq *d = http_rq_user(rq);
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct registration_body body;
    struct attested who;
    struct reg_row row;
    struct reg_more storage;
    const struct reg_more *more = NULL;
    struct db *db = worker_db(dw->w);
    if (want_json(rq, &d->v) != RULE_OK || check(rq, THROTTLE_POLL, &who) != RULE_OK ||
        registration_body_read(http_rq_arena(rq), http_rq_body(rq), d->rid, &body, &d->v) !=
            RULE_OK) {
        refuse(rq, ABOUT_REGISTRATION, &d->v);
        return;
    }
    enum err e = sql_reg_get(db, http_rq_arena(rq), d->fold, &row);
    if (e == OK) {
        e = registration_read_told(db, http_rq_arena(rq), &row, &storage, &more);
    }
    if (e != OK) {
        dps_refuse_about(rq, ABOUT_REGISTRATION, e,
                         NULL); /* not registered yet: an answer, no refusal */
        return;
    }
    row.status = who.enr.is_enabled ? row.status : REG_DISABLED;
    registration_write_state(&b, &row, more);
    answer(rq, 200, SPAN_NONE, &b);
}

/* clang-format off */
const struct http_route dps_device_routes[] = {
    { HTTP_PUT,  "/{idScope}/registrations/{id}/register",              AUTH_DEVICE, 0, LIMIT_DPS_BODY, device_register },
    { HTTP_GET,  "/{idScope}/registrations/{id}/operations/{operation}", AUTH_DEVICE, 0, 0,             device_poll },
    { HTTP_POST, "/{idScope}/registrations/{id}",                       AUTH_DEVICE, 0, LIMIT_DPS_BODY, device_lookup },
};
/* clang-format on */
const size_t n_dps_device_routes = ARRAY_LEN(dps_device_routes);
