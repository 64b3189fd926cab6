/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /admin/check: would this unit be admitted, and where would it go? The same attestation, the same allocation and the same
 * transaction as for a device, which is rolled back: nothing is stored, counted or slowed down, no hub and no webhook is asked.
 * Possession of a certificate's key is proved by TLS alone, so it is not proved here. docs/protocol/dps-service-rest.md C7.
 */
#include <stdlib.h>

#include "base/text.h"
#include "dps/admission.h"
#include "dps/assignment.h"
#include "dps/http.h"
#include "dps/refusal.h"
#include "dps/registration.h"
#include "dps/tpm_attestation.h"
#include "server/admin.h"
#include "wire/json.h"

#define CHECK_ANSWER_MAX (128u << 10)
#define CHECK_ARENA (512u << 10)

struct check {
    handle rq;
    struct arena arena;
    struct span rid, fold, api_version;
    struct span token;   /* of the body */
    struct span payload; /* as of a register request */
    struct cert *cert[LIMIT_CHAIN_CERTS + 1];
    size_t n_certs;
    struct credential cred;
    bool has_tpm;
    struct tpm_show show; /* without a storage root key: nothing is sealed for it */
    struct attested who;
    struct verdict v;
    bool is_admitted;
    const char *policy;
};

static void check_free(struct check *c)
{
    for (size_t i = 0; i < c->n_certs; i++) {
        cert_free(c->cert[i]);
    }
    arena_done(&c->arena);
    mem_wipe(&c->cred, sizeof(c->cred));
    free(c);
}

/* --- what is asked --------------------------------------------------------------------------------------- */

static enum err take(struct check *c, struct span from, struct span *to)
{
    if (from.n != 0) {
        *to = arena_span(&c->arena, from);
    }
    return from.n != 0 && to->p == NULL ? E_NOMEM : OK;
}

static enum err read_chain(struct check *c, struct span pem, struct err_info *info)
{
    struct cert_peer *p = &c->cred.peer;
    if (pem.n == 0) {
        return OK;
    }
    enum err e = cert_list_from_pem(pem, c->cert, ARRAY_LEN(c->cert), &c->n_certs, info);
    if (e != OK) {
        return err_wrap(info, E_ARG, "certificateChain");
    }
    p->leaf_der = cert_der(c->cert[0]);
    memcpy(p->leaf_sha256, cert_sha256(c->cert[0]), CERT_SHA256);
    p->n_chain = c->n_certs - 1;
    for (size_t i = 0; i < p->n_chain; i++) {
        p->chain_der[i] = cert_der(c->cert[i + 1]);
    }
    return OK;
}

/* The id that the credential itself names: the leaf's CN, or the last part of the token's resource. */
static enum err id_of_credential(struct check *c, struct err_info *info)
{
    AUTO(buf_done) struct buf sr = BUF_INIT(LIMIT_SAS_TOKEN);
    struct sas_token tok;
    struct span rest = SPAN_NONE;
    if (c->n_certs != 0 && cert_cn(c->cert[0], &rest, NULL) == OK && id_registration_ok(rest)) {
        return take(c, rest, &c->rid);
    }
    if (c->token.n != 0 && sas_parse(c->token, &tok, NULL) == OK) {
        percent_decode_lenient(tok.sr, &sr);
        rest = buf_span(&sr);
        (void)span_cut(&rest, '/');
        (void)span_cut(&rest, '/');
    }
    struct span rid = span_cut(&rest, '/');
    return id_registration_ok(rid)
               ? take(c, rid, &c->rid)
               : err_set(info, E_ARG,
                         "registrationId: it is not in the credential, so it must be given");
}

/* As a device would send it, so that the same reader looks at it. */
static enum err read_payload(struct check *c, const struct json *payload)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_DPS_BODY);
    if (payload == NULL || json_is(payload, JSON_T_NULL)) {
        return OK;
    }
    buf_add_str(&b, "{\"payload\":");
    json_write(&b, payload);
    buf_add_u8(&b, '}');
    return buf_err(&b) != OK ? buf_err(&b) : take(c, buf_span(&b), &c->payload);
}

/* Base64 of a TPM2B_PUBLIC. A certificate that comes along is the EK's then, and what stands above it. */
static enum err read_ek(struct check *c, struct span text, struct err_info *info)
{
    uint8_t raw[TPM_PUBLIC_MAX], whole[TPM_PUBLIC_MAX];
    size_t n = sizeof(raw);
    struct span area;
    enum err e;
    if (text.n == 0) {
        return OK;
    }
    if (base64_decode_to(text, raw, &n) != OK ||
        tpm_public_whole(span_of(raw, n), whole, &area) != OK) {
        return err_set(info, E_ARG, "endorsementKey is not base64 of a TPM2B_PUBLIC");
    }
    if ((e = take(c, area, &c->show.ek)) != OK) {
        return e;
    }
    if (tpm_public_read(c->show.ek, TPM_EK, &c->show.ek_key, info) != OK) {
        return err_wrap(info, E_ARG, "endorsementKey");
    }
    c->show.ek_cert = c->cred.peer;
    c->has_tpm = true;
    return OK;
}

static enum err read_check(struct check *c, const struct json *body, struct err_info *info)
{
    struct span rid = SPAN_NONE, pem = SPAN_NONE, token = SPAN_NONE, ek = SPAN_NONE,
                version = SPAN_NONE;
    enum err e;
    if ((e = json_get_str(body, "registrationId", JSON_F_OPT, &rid, info)) != OK ||
        (e = json_get_str(body, "certificateChain", JSON_F_OPT, &pem, info)) != OK ||
        (e = json_get_str(body, "token", JSON_F_OPT, &token, info)) != OK ||
        (e = json_get_str(body, "endorsementKey", JSON_F_OPT, &ek, info)) != OK ||
        (e = json_get_str(body, "apiVersion", JSON_F_OPT, &version, info)) != OK ||
        (e = read_chain(c, pem, info)) != OK ||
        (e = read_payload(c, json_get(body, "payload"))) != OK ||
        (e = take(c, token, &c->token)) != OK || (e = take(c, version, &c->api_version)) != OK ||
        (e = take(c, rid, &c->rid)) != OK) {
        return e;
    }
    if ((e = read_ek(c, ek, info)) != OK) {
        return e;
    }
    if (c->rid.n == 0 && (e = id_of_credential(c, info)) != OK) {
        return e;
    }
    char *fold = arena_alloc(&c->arena, LIMIT_ID + 1);
    if (fold == NULL) {
        return E_NOMEM;
    }
    if (!id_registration_ok(c->rid)) {
        return err_set(info, E_ARG, "registrationId is not valid");
    }
    c->fold = admission_fold(c->rid, fold);
    return OK;
}

/* --- the answer ---------------------------------------------------------------------------------------------- */

static void add_checks(struct buf *b, const struct check *c, const char *scope)
{
    const struct verdict *v = &c->v;
    bool first = true;
    buf_add_str(b, ",\"checks\":[");
    for (unsigned i = RULE_OK + 1; i < RULES; i++) {
        const struct rule_def *d = rule_def((enum rule)i);
        bool failed = v->rule == (enum rule)i;
        if (!failed && (v->kept >> i & 1) == 0) {
            continue;
        }
        buf_addf(b, "%s{\"rule\":\"%s\",\"check\":", first ? "" : ",", d->word);
        first = false;
        json_write_str(b, span_str(d->check));
        buf_addf(b, ",\"ok\":%s", failed ? "false" : "true");
        if (failed) {
            AUTO(buf_done) struct buf mend = BUF_INIT(4096);
            http_add_mend(&mend, v->rule, c->rid, span_of(v->facts, v->n_facts), scope);
            buf_add_str(b, ",\"why\":");
            json_write_str(b, span_str(v->info.why));
            buf_add_str(b, ",\"mend\":");
            json_write_str(b, buf_span(&mend));
        }
        buf_add_u8(b, '}');
    }
    buf_add_u8(b, ']');
}

/* What the registration would do with the device. */
static const char *effect_of(const struct check *c, const struct registration_plan *p,
                             const struct http_device_state *st)
{
    if (p == NULL) {
        return c->is_admitted ? "fail" : "refuse";
    }
    if (p->is_running) {
        return "under-way";
    }
    if (p->row.status == REG_DISABLED) {
        return "disabled";
    }
    if (p->row.status == REG_FAILED) {
        return "fail";
    }
    if ((p->row.op_todo & STEP_ASK) != 0) {
        return "ask-webhook";
    }
    if (!st->has_record || st->reg.hub.n == 0) {
        return "assign";
    }
    return plan_moves(&p->row) ? "move" : p->row.op_reset ? "reset" : "stay";
}

static void add_plan(struct buf *b, const struct check *c, const struct registration_plan *p,
                     const struct http_device_state *st)
{
    buf_addf(b, ",\"effect\":\"%s\",\"admittedBy\":", effect_of(c, p, st));
    if (c->is_admitted) {
        http_add_enrollment(b, &c->who.enr);
        buf_addf(b, ",\"allocationPolicy\":\"%s\"", c->policy);
    } else {
        buf_add_str(b, "null,\"allocationPolicy\":null");
    }
    bool goes = p != NULL && p->row.op_hub.n != 0;
    buf_add_str(b, ",\"assignedHub\":");
    goes ? json_write_str(b, p->row.op_hub) : buf_add_str(b, "null");
    buf_add_str(b, ",\"deviceId\":");
    goes ? json_write_str(b, p->row.op_device_id) : buf_add_str(b, "null");
}

static void answer(struct dps_worker *dw, struct http_rq *rq, const struct check *c,
                   const struct registration_plan *p)
{
    AUTO(buf_done) struct buf b = BUF_INIT(CHECK_ANSWER_MAX);
    struct http_device_state st;
    enum err e = http_device_state_read(dw, http_rq_arena(rq), c->fold, &st);
    if (e != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    buf_add_str(&b, "{\"registrationId\":");
    json_write_str(&b, c->rid);
    buf_addf(&b, ",\"passes\":%s", c->v.rule == RULE_OK ? "true" : "false");
    add_plan(&b, c, p, &st);
    add_checks(&b, c, dw->dps->id_scope);
    buf_add_str(&b, ",\"current\":{\"registrationId\":");
    json_write_str(&b, c->rid);
    http_device_state_add(&b, &st);
    buf_add_str(&b, "},\"notes\":[");
    if (c->has_tpm) {
        buf_add_str(&b,
                    "\"possession of the TPM is not proved: its answer to a challenge does that\"");
    } else if (c->n_certs != 0) {
        buf_add_str(&b, "\"possession of the certificate's private key is not proved: the TLS "
                        "handshake of the device does that\"");
    }
    buf_add_str(&b, "]}");
    if ((e = buf_err(&b)) != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
}

/* --- the way ---------------------------------------------------------------------------------------------------- */

static enum rule attest(struct dps_worker *dw, struct check *c)
{
    struct verdict *v = &c->v;
    enum rule r = RULE_OK;
    verdict_keep(v, RULE_ID_FORM);
    if (c->has_tpm) {
        r = tpm_admits(dw, &c->arena, c->fold, &c->show, &c->who.enr, v);
        /* A group's row is the snapshot's, which may change before the answer. */
        return r != RULE_OK ? r : verdict_fail(v, take(c, c->who.enr.name, &c->who.enr.name));
    }
    c->cred.has_token = c->token.n != 0;
    if (c->cred.has_token) {
        r = attestation_token(dw, c->token, c->rid, &c->cred.token, v);
    } else if (c->n_certs == 0) {
        r = verdict_refuse(v, RULE_NO_CREDENTIAL, "neither a token nor a client certificate");
    }
    return r != RULE_OK ? r
                        : attestation_check(dw, &c->arena, c->rid, c->fold, &c->cred, &c->who, v);
}

static void judge_plan(struct verdict *v, const struct registration_plan *p)
{
    verdict_keep(v, RULE_RECORD_OWNED);
    if (p->row.status == REG_DISABLED) {
        (void)verdict_refuse(v, RULE_ENROLLMENT_DISABLED, "the enrollment is disabled");
        return;
    }
    verdict_keep(v, RULE_ENROLLMENT_DISABLED);
    if (p->rule != RULE_OK) {
        (void)verdict_refuse(v, p->rule, "%.*s", SPAN_ARG(p->row.error_text));
    } else if (p->row.op_hub.n != 0) {
        verdict_keep(v, RULE_HUB_NONE);
    }
}

static void planned(struct dps_worker *dw, void *ctx, enum err e,
                    const struct registration_plan *plan, const struct err_info *info)
{
    struct check *c = ctx;
    struct http_rq *rq = http_rq_of(worker_loop(dw->w), c->rq);
    if (rq == NULL) {
        check_free(c);
        return;
    }
    if (plan != NULL) {
        judge_plan(&c->v, plan);
    } else if (registration_refused(e, info, &c->v) == RULE_FAILURE) {
        admin_refuse(rq, e, info);
        check_free(c);
        return;
    }
    answer(dw, rq, c, plan);
    check_free(c);
}

static enum err plan(struct dps_worker *dw, struct check *c, struct err_info *info)
{
    const struct refusal_from from = {.rid = c->rid, .transport = SPAN_LIT("check")};
    struct registration_body body = {.has_tpm = false};
    struct snapshot *s = NULL;
    enum err e = snapshot_get(dw, &s, info);
    if (e != OK || registration_body_read(&c->arena, c->payload, c->rid, &body, &c->v) != RULE_OK) {
        return e != OK ? e : verdict_err(&c->v);
    }
    c->policy = alloc_words[assignment_policy(s, &c->who.enr)];
    const struct registration_wish wish = {
        .rid = c->rid,
        .fold = c->fold,
        .who = &c->who,
        .is_sticky = registration_is_sticky(c->api_version),
        .from = &from,
        .payload = body.payload,
        .leaf = c->cred.peer.leaf_der,
    };
    return registration_dry_run(dw, &wish, planned, c, info);
}

static void check(struct http_rq *rq)
{
    static const char *const known[] = {
        "registrationId", "certificateChain", "token", "endorsementKey",
        "payload",        "apiVersion",       NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct err_info info = {0};
    if (!admin_body(rq, known, false, &body)) {
        return;
    }
    struct check *c = NEW(struct check);
    if (c == NULL) {
        admin_refuse(rq, E_NOMEM, NULL);
        return;
    }
    c->arena = (struct arena)ARENA_INIT(CHECK_ARENA);
    c->rq = http_rq_handle(rq);
    enum err e = read_check(c, body, &info);
    if (e == OK) {
        c->is_admitted = attest(dw, c) == RULE_OK;
        if (c->v.rule == RULE_FAILURE) {
            e = verdict_err(&c->v);
        } else if (!c->is_admitted) {
            answer(dw, rq, c, NULL);
        } else if ((e = plan(dw, c, &info)) == OK) {
            return; /* planned() goes on */
        }
    }
    if (e != OK) {
        admin_refuse(rq, e, &info);
    }
    check_free(c);
}

/* clang-format off */
const struct http_route dps_check_routes[] = {
    { HTTP_POST, "/admin/check", AUTH_ADMIN, 0, LIMIT_DPS_BODY, check },
};
/* clang-format on */
const size_t n_dps_check_routes = ARRAY_LEN(dps_check_routes);
