/* SPDX-License-Identifier: Apache-2.0 */
/* The device API over HTTPS: docs/protocol/dps-device.md 3. */
#include "base/text.h"
#include "dps/admission.h"
#include "dps/http.h"
#include "dps/registration.h"
#include "server/metrics.h"

#define ANSWER_MAX (64u << 10)

/* What admit found out: in the request's arena. */
struct device_rq {
    struct span rid, fold;
    struct credential cred;
    struct span peer;
};

enum err http_device_admit(struct http_rq *rq, struct err_info *info)
{
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct device_rq *d = arena_new(http_rq_arena(rq), struct device_rq);
    struct span token = http_rq_header(rq, "Authorization");
    struct conn *c = http_rq_conn(rq);
    enum err e;
    if (d == NULL) {
        return E_NOMEM;
    }
    if (!span_is(http_rq_param(rq, 0), dw->dps->id_scope)) {
        return err_set(info, E_UNAUTHORIZED, "unknown id scope");
    }
    d->rid = http_rq_param(rq, 1);
    if (!id_registration_ok(d->rid)) {
        return err_set(info, E_ID, "registration id is not valid");
    }
    char *fold = arena_alloc(http_rq_arena(rq), LIMIT_ID + 1);
    if (fold == NULL) {
        return E_NOMEM;
    }
    d->fold = admission_fold(d->rid, fold);
    if (c != NULL) {
        conn_peer_cert(c, &d->cred.peer);
        d->peer = span_str(conn_peer_text(c));
    }
    d->cred.has_token = token.p != NULL;
    if (d->cred.has_token &&
        (e = attestation_token(dw, token, d->rid, &d->cred.token, info)) != OK) {
        return e;
    }
    if (!d->cred.has_token && d->cred.peer.leaf_der.n == 0) {
        return err_set(info, E_UNAUTHORIZED, "neither a token nor a client certificate");
    }
    http_rq_set_user(rq, d);
    return OK;
}

static enum err check(struct http_rq *rq, enum throttle_what what, struct attested *ret,
                      struct err_info *info)
{
    const struct device_rq *d = http_rq_user(rq);
    const struct device_ask ask = {what, d->rid, d->fold, &d->cred, d->peer};
    return admission_check(dps_worker_of(worker_of_rq(rq)), http_rq_arena(rq), &ask, ret, info);
}

static void answer(struct http_rq *rq, unsigned status, struct buf *b)
{
    if (buf_err(b) != OK) {
        dps_refuse(rq, buf_err(b), NULL);
        return;
    }
    if (status == 202) {
        http_headerf(rq, "Retry-After", "%u", DPS_RETRY_AFTER_S);
    }
    dps_answer_json(rq, status, buf_span(b));
}

/* --- register ----------------------------------------------------------------------------------- */

static void registered(struct dps_worker *dw, void *ctx, enum err e, struct span op_id,
                       const struct err_info *info)
{
    AUTO(mem_free_p) handle *h = ctx;
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    struct http_rq *rq = http_rq_of(worker_loop(dw->w), *h);
    if (rq == NULL) {
        return; /* the operation goes on */
    }
    if (e != OK) {
        dps_refuse(rq, e, info);
        return;
    }
    registration_write_assigning(&b, op_id);
    answer(rq, 202, &b);
}

static void device_register(struct http_rq *rq)
{
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    const struct device_rq *d = http_rq_user(rq);
    struct registration_body body = {.has_tpm = false};
    struct err_info info = {0};
    struct attested who;
    bool found;
    enum err e;
    if ((e = http_want_json(rq, &info)) != OK ||
        (e = check(rq, THROTTLE_REGISTER, &who, &info)) != OK ||
        (e = registration_body_read(http_rq_body(rq), d->rid, &body, &info)) != OK) {
        dps_refuse(rq, e, &info);
        return;
    }
    handle *h = NEW(handle);
    if (h == NULL) {
        dps_refuse(rq, E_NOMEM, NULL);
        return;
    }
    *h = http_rq_handle(rq);
    const struct registration_wish wish = {
        .rid = d->rid,
        .fold = d->fold,
        .who = &who,
        .is_sticky = registration_is_sticky(http_rq_query(rq, "api-version", &found)),
        .wants_certificate = body.wants_certificate,
    };
    metric_add(dw->w, DPS_M_REG_STARTED, 1);
    if ((e = registration_begin(dw, &wish, registered, h, &info)) != OK) {
        mem_free_p(&h);
        dps_refuse(rq, e, &info);
    }
}

/* --- poll, lookup ---------------------------------------------------------------------------------- */

static void device_poll(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    const struct device_rq *d = http_rq_user(rq);
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct err_info info = {0};
    struct attested who;
    bool is_final = false;
    metric_add(dw->w, DPS_M_POLLS, 1);
    enum err e = check(rq, THROTTLE_POLL, &who, &info);
    if (e == OK) {
        e = registration_poll(dw, http_rq_arena(rq), d->fold, http_rq_param(rq, 2),
                              who.enr.is_enabled, &b, &is_final);
    }
    if (e != OK) {
        dps_refuse_about(rq, ABOUT_OPERATION, e, &info);
        return;
    }
    answer(rq, is_final ? 200 : 202, &b);
}

static void device_lookup(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    const struct device_rq *d = http_rq_user(rq);
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct registration_body body;
    struct err_info info = {0};
    struct attested who;
    struct reg_row row;
    enum err e;
    if ((e = http_want_json(rq, &info)) == OK &&
        (e = check(rq, THROTTLE_POLL, &who, &info)) == OK &&
        (e = registration_body_read(http_rq_body(rq), d->rid, &body, &info)) == OK) {
        e = sql_reg_get(worker_db(dw->w), http_rq_arena(rq), d->fold, &row);
    }
    if (e != OK) {
        dps_refuse_about(rq, ABOUT_REGISTRATION, e, &info);
        return;
    }
    row.status = who.enr.is_enabled ? row.status : REG_DISABLED;
    registration_write_state(&b, &row);
    answer(rq, 200, &b);
}

/* clang-format off */
const struct http_route dps_device_routes[] = {
    { HTTP_PUT,  "/{idScope}/registrations/{id}/register",              AUTH_DEVICE, 0, LIMIT_DPS_BODY, device_register },
    { HTTP_GET,  "/{idScope}/registrations/{id}/operations/{operation}", AUTH_DEVICE, 0, 0,             device_poll },
    { HTTP_POST, "/{idScope}/registrations/{id}",                       AUTH_DEVICE, 0, LIMIT_DPS_BODY, device_lookup },
};
/* clang-format on */
const size_t n_dps_device_routes = ARRAY_LEN(dps_device_routes);
