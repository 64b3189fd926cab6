/* SPDX-License-Identifier: Apache-2.0 */
/* How a registration begins: the allocation on the worker, the intent on the writer. */
/* LONG FILE: one operation, from what was wished to its intent, and every way in which it begins again. */
#include "dps/registration.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "dps/assignment.h"
#include "dps/dependents.h"
#include "dps/driver.h"
#include "dps/issuance_sql.h"
#include "server/admin.h"

#define OP_ARENA (1u << 20)

struct start_op {
    struct store_op op;
    struct dps_worker *dw;
    registration_done_fn done;
    registration_dry_fn dry; /* instead of done */
    enum err dry_result;
    void *ctx;
    struct arena arena; /* what came with the request */
    struct span rid, fold;
    int64_t enrollment;
    uint64_t enr_etag;
    struct span group_id; /* empty: individual */
    enum enr_att att;
    unsigned flags; /* of the row: the policy */
    bool is_disabled;
    bool asks; /* a webhook for the hub */
    struct plan_in plan;
    struct refusal_from from; /* in the arena */
    struct span cred;
    struct reg_more more;
    bool has_anchor;
    uint8_t anchor[CERT_SHA256];
    bool has_more, has_issuance;
    char op_id[OPERATION_ID_SIZE];
    struct err_info info;
    /* for another try with the enrollment as it is then; all in the arena */
    struct enr_row judged; /* by what the device was admitted */
    bool is_sticky, wants_certificate;
    bool has_forgotten; /* what a webhook or latencies would need */
    unsigned tries;
    /* result */
    bool has_changed; /* E_STALE, and another try may help */
    struct arena out; /* of the tx, which may run twice */
    struct reg_row row;
    enum rule rule;  /* of a registration that failed at once */
    bool is_running; /* an operation was under way already */
};

/* --- start: on the writer --------------------------------------------------------------------------- */

static enum err keep_old_answer(struct store_tx *tx, const struct reg_row *old)
{
    AUTO(buf_done) struct buf b = BUF_INIT(DPS_ANSWER_MAX);
    AUTO(arena_done) struct arena a = ARENA_INIT(OP_ARENA);
    struct reg_more storage;
    const struct reg_more *more = NULL;
    enum err e = registration_read_more(tx->db, &a, old, &storage, &more);
    if (e != OK) {
        return e;
    }
    registration_write_answer(&b, old, more);
    if ((e = buf_err(&b)) != OK ||
        (e = sql_past_add(tx->db, old->op_id, old->fold, buf_span(&b),
                          tx->now_us + (int64_t)PAST_OPERATION_S * 1000000)) != OK) {
        return e;
    }
    return sql_past_trim(tx->db, tx->now_us);
}

/* dps-service-rest.md B5 */
static unsigned policy_flags(unsigned reprovision, bool is_sticky)
{
    if ((reprovision & REPRO_GIVEN) == 0) {
        return is_sticky ? 0 : REG_F_MAY_MOVE | REG_F_MIGRATES;
    }
    if ((reprovision & REPRO_UPDATE_HUB) == 0) {
        return 0;
    }
    return REG_F_MAY_MOVE | ((reprovision & REPRO_MIGRATE) != 0 ? REG_F_MIGRATES : 0u);
}

/* Where the device goes: the row's intent, or its failure. */
static enum err decide(struct store_tx *tx, struct start_op *o, struct reg_row *row)
{
    if (o->is_disabled) {
        plan_end(row, REG_DISABLED, RULE_OK, SPAN_NONE);
        return OK;
    }
    struct plan_in in = o->plan;
    if (o->asks && in.rule == RULE_OK) {
        row->status = REG_ASSIGNING;
        row->op_open = OP_OPEN;
        row->op_todo |= STEP_ASK; /* the plan is made when the answer is there */
        return OK;
    }
    return registration_tx_plan(tx, &o->out, row, &in, &o->rule);
}

/* E_OWNED: a record stays with its group until an administrator frees it; an individual enrollment may adopt. */
static enum err take_record(struct start_op *o, struct reg_row *row)
{
    if (row->enrollment == o->enrollment) {
        return OK;
    }
    if (o->group_id.n != 0) {
        return err_set(&o->info, E_OWNED, "the registration belongs to another enrollment");
    }
    /* Two operations on one device would not know of each other. */
    return row->op_open == OP_OPEN
               ? err_set(&o->info, E_STALE,
                         "a registration of this id by another enrollment is under way")
               : OK;
}

static enum err put_more(struct store_tx *tx, const struct start_op *o, struct reg_row *row)
{
    bool had_more = (row->op_flags & REG_F_MORE) != 0;
    row->op_flags = o->flags | (o->has_more ? REG_F_MORE : 0u);
    if (o->has_more) {
        return sql_more_put(tx->db, o->fold, &o->more);
    }
    return had_more ? sql_more_del(tx->db, o->fold) : OK;
}

/* A device that was told a certificate goes on with it until it asks for another, or that one ends, or its enrollment issues none any
 * more: then its hub knows it by its own credential again. */
static enum err keep_credential(struct store_tx *tx, struct start_op *o, struct reg_row *row,
                                bool was_issued)
{
    struct credential_row told;
    if (!o->has_issuance) {
        return was_issued ? sql_credential_del(tx->db, row->fold) : OK;
    }
    enum err e = sql_credential_get(tx->db, row->fold, &told);
    if (e != OK || told.not_after_us <= tx->now_us) {
        return e == E_NOT_FOUND ? OK : e;
    }
    row->op_cred = arena_span(&o->out, span_of(told.sha256, sizeof(told.sha256)));
    row->op_flags |= REG_F_ISSUED;
    return row->op_cred.p != NULL ? OK : E_NOMEM;
}

/* op_from stays: a move that failed may have left its hub unsettled. */
static enum err begin_row(struct store_tx *tx, struct start_op *o, struct reg_row *row)
{
    bool was_issued = (row->op_flags & REG_F_ISSUED) != 0;
    bool is_adopted = row->enrollment != 0 && row->enrollment != o->enrollment;
    enum err e = put_more(tx, o, row);
    if (e != OK) {
        return e;
    }
    row->op_flags |= is_adopted ? REG_F_ADOPTED : 0u;
    row->updated_us = MAX(tx->now_us, row->updated_us + 1); /* hub/http_provision.h: sequence */
    row->op_id = span_str(o->op_id);
    row->op_hub = row->op_device_id = SPAN_NONE;
    row->op_cred = o->cred;
    row->op_reset = false;
    row->op_todo = o->more.csr.n != 0 ? STEP_ISSUE : 0;
    row->error_code = 0;
    row->error_text = SPAN_NONE;
    if ((e = keep_credential(tx, o, row, was_issued)) != OK || (e = decide(tx, o, row)) != OK) {
        return e;
    }
    row->enrollment = o->enrollment;
    row->group_id = o->group_id;
    row->att = o->att;
    if ((e = admin_tx_next(tx, &row->etag)) != OK || (e = sql_reg_put(tx->db, row)) != OK) {
        return e;
    }
    return dependents_tx_note(tx, row->fold, row->enrollment, row->att,
                              o->has_anchor ? o->anchor : NULL);
}

static enum err start_tx(struct store_tx *tx, struct store_op *op)
{
    struct start_op *o = CONTAINER_OF(op, struct start_op, op);
    struct reg_row row = {.fold = o->fold, .rid = o->rid, .created_us = tx->now_us};
    uint64_t etag;
    bool enabled;
    arena_done(&o->out);
    o->out = (struct arena)ARENA_INIT(OP_ARENA);
    o->is_running = o->has_changed = false;
    o->rule = RULE_OK;
    enum err e = sql_enr_state(tx->db, o->enrollment, &etag, &enabled);
    if (e == E_NOT_FOUND || (e == OK && etag != o->enr_etag)) {
        o->has_changed = true;
        return err_set(&o->info, E_STALE, "the enrollment changed meanwhile");
    }
    if (e != OK) {
        return e;
    }
    e = sql_reg_get(tx->db, &o->out, o->fold, &row);
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    if (e == OK) {
        if ((e = take_record(o, &row)) != OK) {
            return e;
        }
        if (row.op_open == OP_OPEN) {
            o->is_running = true;
            o->row = row;
            return OK;
        }
        if ((e = keep_old_answer(tx, &row)) != OK) {
            return e;
        }
    }
    if ((e = begin_row(tx, o, &row)) != OK) {
        return e;
    }
    o->row = row;
    return OK;
}

/* --- start: on the worker ------------------------------------------------------------------------------ */

static void start_free(struct start_op *o)
{
    arena_done(&o->arena);
    arena_done(&o->out);
    free(o);
}

static void log_started(const struct start_op *o)
{
    const struct reg_row *r = &o->row;
    if (r->status == REG_FAILED) {
        refusal_note_end(o->dw, &o->from, o->rule, r->error_text);
        LOG_WARN("dps.registration_failed", L_SPAN("registration", r->rid),
                 L_SPAN("operation", r->op_id), L_U64("code", r->error_code),
                 L_STR("rule", rule_def(o->rule)->word), L_SPAN("why", r->error_text));
    } else if (r->status == REG_DISABLED) {
        refusal_note_end(o->dw, &o->from, RULE_ENROLLMENT_DISABLED,
                         SPAN_LIT("the enrollment is disabled"));
        LOG_INFO("dps.registration_disabled", L_SPAN("registration", r->rid),
                 L_SPAN("operation", r->op_id),
                 L_STR("rule", rule_def(RULE_ENROLLMENT_DISABLED)->word));
    } else {
        LOG_DEBUG("dps.registration_started", L_SPAN("registration", r->rid),
                  L_SPAN("operation", r->op_id), L_SPAN("hub", r->op_hub),
                  L_BOOL("running", o->is_running));
    }
}

/* "{digit}.{16 hex}.{guid}": only characters that are safe in a URL path and an MQTT topic. Of the digits eight are the second in which
 * it began, four the part of it (dps/backlog.h). */
static void new_operation_id(int64_t now_us, char dst[OPERATION_ID_SIZE])
{
    uint8_t r[8];
    char hex[17], guid[GUID_SIZE];
    uint64_t t = (uint64_t)(now_us / 1000000) << 16 | (uint64_t)(now_us % 1000000 << 16) / 1000000;
    random_bytes(r, sizeof(r));
    for (unsigned i = 0; i < 6; i++) {
        r[i] = (uint8_t)(t >> (40 - 8 * i));
    }
    hex_to_cstr(span_of(r, sizeof(r)), false, hex);
    guid_new(guid);
    (void)snprintf(dst, OPERATION_ID_SIZE, "5.%s.%s", hex, guid);
}

static bool keep(struct start_op *o, struct span from, struct span *to)
{
    if (from.n == 0) {
        return true;
    }
    *to = arena_span(&o->arena, from);
    return to->p != NULL;
}

static enum err fill_more(struct start_op *o, const struct registration_wish *wish)
{
    struct reg_more *m = &o->more;
    if (o->asks && (!keep(o, wish->payload, &m->payload) || !keep(o, wish->leaf, &m->leaf))) {
        return E_NOMEM;
    }
    m->csr_form = wish->csr_form;
    o->has_more = m->payload.n != 0 || m->leaf.n != 0 || wish->csr.n != 0 || wish->tpm_blob.n != 0;
    return keep(o, wish->tpm_srk, &m->tpm_srk) && keep(o, wish->tpm_blob, &m->tpm_blob) &&
                   keep(o, wish->tpm_key, &m->tpm_key)
               ? OK
               : E_NOMEM;
}

/* A request that cannot be had is refused at once: the device shall hear it, and nothing be made for it. */
static enum rule certificate_rule(const struct start_op *o, const struct enr_row *enr,
                                  const char **ret_text)
{
    if (o->wants_certificate && enr->issuance.n == 0) {
        *ret_text = "the enrollment has no certificate issuance policy";
        return RULE_ISSUANCE_POLICY;
    }
    if (o->wants_certificate && o->more.csr.n == 0) {
        *ret_text = "the certificate request is neither PEM nor base64";
        return RULE_CSR;
    }
    return RULE_OK;
}

/* What follows from the enrollment. */
static enum err fill_plan(struct start_op *o, const struct enr_row *enr, const struct pick *pick)
{
    const char *text = pick->text;
    enum rule refused = certificate_rule(o, enr, &text);
    o->plan = (struct plan_in){.rule = refused != RULE_OK ? refused : pick->rule,
                               .may_stay = refused == RULE_OK && rule_code(pick->rule) == 400208};
    o->asks = pick->asks;
    o->enrollment = enr->id;
    o->enr_etag = enr->etag;
    o->att = enr->att;
    o->flags = policy_flags(enr->reprovision, o->is_sticky) |
               (enr->trust_bundle.n != 0 ? (unsigned)REG_F_TRUST_BUNDLE : 0u);
    o->is_disabled = !enr->is_enabled;
    o->has_issuance = enr->issuance.n != 0;
    return keep(o, pick->host, &o->plan.pick) && keep(o, span_str(text), &o->plan.text) &&
                   (enr->kind == ENR_GROUP ? keep(o, enr->name, &o->group_id)
                                           : keep(o, enr->device_id, &o->plan.device_id))
               ? OK
               : E_NOMEM;
}

static enum err keep_judged(struct start_op *o, const struct enr_row *enr)
{
    struct enr_row *j = &o->judged;
    j->kind = enr->kind;
    j->att = enr->att;
    bool ok = keep(o, enr->ek, &j->ek) && keep(o, enr->srk, &j->srk);
    for (size_t i = 0; i < 2; i++) {
        ok = ok && keep(o, enr->key[i], &j->key[i]) && keep(o, enr->cert[i], &j->cert[i]) &&
             keep(o, enr->ca[i], &j->ca[i]);
    }
    return ok ? OK : E_NOMEM;
}

static enum err start_fill(struct start_op *o, const struct registration_wish *wish,
                           const struct pick *pick)
{
    const struct enr_row *enr = &wish->who->enr;
    struct span cred =
        wish->who->has_thumb ? span_of(wish->who->thumb, CERT_SHA256) : wish->who->key_id;
    o->has_anchor = wish->who->has_anchor;
    memcpy(o->anchor, wish->who->anchor, sizeof(o->anchor));
    o->is_sticky = wish->is_sticky;
    o->wants_certificate = wish->wants_certificate;
    o->has_forgotten =
        wish->latencies != NULL || (!pick->asks && (wish->payload.n != 0 || wish->leaf.n != 0));
    new_operation_id(loop_wall_us(worker_loop(o->dw->w)), o->op_id);
    if (!keep(o, wish->from->peer, &o->from.peer) ||
        !keep(o, wish->from->transport, &o->from.transport) ||
        !keep(o, wish->from->api_version, &o->from.api_version) || !keep(o, wish->rid, &o->rid) ||
        !keep(o, wish->fold, &o->fold) || !keep(o, cred, &o->cred) ||
        !keep(o, wish->csr, &o->more.csr)) {
        return E_NOMEM;
    }
    o->from.rid = o->rid;
    enum err e = fill_plan(o, enr, pick);
    e = e != OK ? e : keep_judged(o, enr);
    return e != OK ? e : fill_more(o, wish);
}

static enum err dry_tx(struct store_tx *tx, struct store_op *op);
static void dry_home(struct msg *m);
static void start_home(struct msg *m);

static enum err submit(struct start_op *o)
{
    o->op = (struct store_op){.tx = o->dry != NULL ? dry_tx : start_tx};
    o->op.home = loop_mailbox(worker_loop(o->dw->w));
    o->op.msg.run = o->dry != NULL ? dry_home : start_home;
    o->op.bytes = (uint32_t)(sizeof(*o) + o->arena.used);
    o->op.bulk =
        true; /* administrators' writes have their share of each commit, whatever devices want */
    return store_submit(server_store(o->dw->dps->server), &o->op);
}

/* --- the enrollment changed meanwhile ---------------------------------------------------------------------- */

#define START_TRIES 8u

/* A key is sealed anew each time that its enrollment is written. */
static bool is_same_key(const struct keyring *k, const struct enr_row *a, const struct enr_row *b,
                        unsigned which)
{
    AUTO(secret_done) struct secret x = {.n = 0};
    AUTO(secret_done) struct secret y = {.n = 0};
    struct enr_place st;
    if (a->key[which].n == 0 || b->key[which].n == 0) {
        return a->key[which].n == b->key[which].n;
    }
    return keyring_unseal(k, enr_key_place(&st, b->kind, b->fold, which), a->key[which], &x) ==
               OK &&
           keyring_unseal(k, enr_key_place(&st, b->kind, b->fold, which), b->key[which], &y) ==
               OK &&
           mem_equal_ct(secret_span(&x), secret_span(&y));
}

static bool is_same_admission(const struct keyring *k, const struct enr_row *a,
                              const struct enr_row *b)
{
    bool same =
        a->kind == b->kind && a->att == b->att && span_eq(a->ek, b->ek) && span_eq(a->srk, b->srk);
    for (unsigned i = 0; i < 2; i++) {
        same = same && span_eq(a->cert[i], b->cert[i]) && span_eq(a->ca[i], b->ca[i]) &&
               is_same_key(k, a, b, i);
    }
    return same;
}

/* With the enrollment as it is now, when that still admits the device by what it was judged by. False: the device has to come again. */
static bool start_again(struct start_op *o)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(OP_ARENA);
    struct snapshot *s = NULL;
    struct enr_row enr;
    if (!o->has_changed || o->dw->is_draining || ++o->tries >= START_TRIES ||
        snapshot_get(o->dw, &s, NULL) != OK) {
        return false;
    }
    const struct group *g = snapshot_group(s, o->enrollment);
    if (g != NULL) {
        enr = g->row;
    } else if (sql_enr_by_id(worker_db(o->dw->w), &a, o->enrollment, &enr) != OK) {
        return false;
    }
    const struct pick_for asker = {o->fold, o->from.peer, NULL};
    struct pick pick = assignment_pick(s, &enr, &asker);
    if (o->has_forgotten ||
        !is_same_admission(server_keyring(o->dw->dps->server), &o->judged, &enr) ||
        fill_plan(o, &enr, &pick) != OK) {
        return false;
    }
    LOG_DEBUG("dps.registration_again", L_SPAN("registration", o->rid), L_U64("try", o->tries));
    o->info = (struct err_info){0};
    return submit(o) == OK;
}

static void start_home(struct msg *m)
{
    struct start_op *o = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct start_op, op);
    struct dps_worker *dw = o->dw;
    enum err e = o->op.result;
    if (e == E_STALE && start_again(o)) {
        return;
    }
    dw->n_pending--;
    if (e == OK) {
        log_started(o);
        if (o->row.op_open && !o->is_running) {
            backlog_begun(&dw->dps->backlog, 1, registration_begun_us(o->row.op_id) / 1000000);
            driver_post(dw, &o->row);
        }
    }
    o->done(dw, o->ctx, e, e == OK ? o->row.op_id : SPAN_NONE, &o->info);
    start_free(o);
}

/* The refusal that it returns undoes all that start_tx wrote. */
static enum err dry_tx(struct store_tx *tx, struct store_op *op)
{
    struct start_op *o = CONTAINER_OF(op, struct start_op, op);
    o->dry_result = start_tx(tx, op);
    return E_AGAIN;
}

static void dry_home(struct msg *m)
{
    struct start_op *o = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct start_op, op);
    struct dps_worker *dw = o->dw;
    enum err e = o->op.result == E_AGAIN ? o->dry_result : o->op.result;
    const struct registration_plan plan = {o->row, o->rule, o->is_running};
    dw->n_pending--;
    o->dry(dw, o->ctx, e, e == OK ? &plan : NULL, &o->info);
    start_free(o);
}

static enum err begin(struct dps_worker *dw, const struct registration_wish *wish,
                      registration_done_fn done, registration_dry_fn dry, void *ctx,
                      struct err_info *info)
{
    struct snapshot *s = NULL;
    struct start_op *o = NULL;
    enum err e = snapshot_get(dw, &s, info);
    if (e != OK) {
        return e;
    }
    if ((o = NEW(struct start_op)) == NULL) {
        return E_NOMEM;
    }
    o->arena = (struct arena)ARENA_INIT(OP_ARENA);
    o->out = (struct arena)ARENA_INIT(OP_ARENA);
    o->dw = dw;
    o->done = done;
    o->dry = dry;
    o->ctx = ctx;
    const struct pick_for asker = {wish->fold, wish->peer, wish->latencies};
    struct pick pick = assignment_pick(s, &wish->who->enr, &asker);
    e = start_fill(o, wish, &pick);
    if (e != OK || (e = submit(o)) != OK) {
        start_free(o);
        return err_set(info, e, "the registration cannot be stored: %s", err_text(e));
    }
    dw->n_pending++;
    return OK;
}

enum err registration_begin(struct dps_worker *dw, const struct registration_wish *wish,
                            registration_done_fn done, void *ctx, struct err_info *info)
{
    return begin(dw, wish, done, NULL, ctx, info);
}

enum err registration_dry_run(struct dps_worker *dw, const struct registration_wish *wish,
                              registration_dry_fn done, void *ctx, struct err_info *info)
{
    return begin(dw, wish, NULL, done, ctx, info);
}

enum rule registration_refused(enum err e, const struct err_info *info, struct verdict *v)
{
    if (info != NULL && info != &v->info) {
        v->info = *info;
    }
    switch (e) {
    case OK:
        return RULE_OK;
    case E_STALE:
        return verdict_refuse(v, RULE_ENROLLMENT_CHANGED, NULL);
    case E_OWNED:
        return verdict_refuse(v, RULE_RECORD_OWNED, NULL);
    default:
        return verdict_fail(v, e); /* the store's: docs at the head of registration.h */
    }
}
