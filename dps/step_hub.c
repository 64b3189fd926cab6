/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps that ask a linked hub (hub/http_provision.h). Of a move:
 *
 *   probe   GET at the new hub: no device is frozen for the sake of a hub that is away
 *   freeze  PATCH "frozen" at the old one   twin  GET there   create  PUT at the new one   (deleting at the old one: dps/leftover.h)
 *   thaw    PATCH "thawed" at the old one, when the move failed
 *
 * Creations that are ready together share a request (dps/bundle.h).
 *
 * Until create may have reached the new hub the move gives up after dps.move-timeout-s and the device stays where it was; from then on
 * only the new hub's word ends it, since two hubs would have the device otherwise.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/driver_int.h"
#include "dps/hublink.h"
#include "dps/issuance_sql.h"
#include "dps/refusal.h"
#include "server/authn.h"
#include "server/metrics.h"
#include "wire/json.h"

/* --- answers ------------------------------------------------------------------------------------- */

bool step_is_no_device(const struct egress_rq *rq)
{
    static const char word[] = "DeviceNotFound";
    return rq->result == OK && rq->status == 404 && rq->answer.n != 0 &&
           memmem(rq->answer.p, rq->answer.n, word, sizeof(word) - 1) != NULL;
}

/* 401 and 404 too: the linked hub's connection string is wrong or its policy lacks the right, which an administrator repairs; the
 * device must not be told a lie meanwhile. */
bool step_is_transient(const struct egress_rq *rq)
{
    unsigned s = rq->status;
    return rq->result != OK || s == 401 || s == 403 || (s == 404 && !step_is_no_device(rq)) ||
           s == 408 || s == 429 || s >= 500;
}

struct span step_hub_name(const struct job *j)
{
    return (j->step->bit & (STEP_FREEZE | STEP_TWIN | STEP_THAW)) != 0 ? j->row.op_from
                                                                       : j->row.op_hub;
}

static void call_failed(struct job *j)
{
    struct err_info *info = &j->rq.info;
    metric_add(job_worker(j)->w, DPS_M_HUB_RETRIES, 1);
    LOG_WARN("dps.hub_call_failed", L_SPAN("hub", step_hub_name(j)),
             L_SPAN("registration", j->row.rid), L_STR("step", j->step->name),
             L_U64("status", j->rq.status), L_U64("attempt", j->attempts + 1),
             L_WHY(info, j->rq.result));
}

static void log_refused(const struct job *j)
{
    LOG_WARN("dps.hub_refused", L_SPAN("hub", step_hub_name(j)), L_SPAN("registration", j->row.rid),
             L_STR("step", j->step->name), L_U64("status", j->rq.status),
             L_SPAN("answer", span_sub(buf_span(&j->rq.answer), 0, 300)));
}

static void fail_refused(struct job *j, unsigned status)
{
    if (status == 409) {
        job_fail(j, RULE_HUB_OWNED,
                 "the hub has a device of this id that belongs to another owner");
    } else if (status == 412) {
        job_fail(j, RULE_HUB_LATER, "the hub knows of a later operation on the device");
    } else {
        job_fail(j, RULE_HUB_REFUSED, "the hub refused the device");
    }
}

static void refused(struct job *j)
{
    log_refused(j);
    fail_refused(j, j->rq.status);
}

static bool is_late(const struct job *j)
{
    int64_t most_us = (int64_t)dps_conf_of(job_worker(j))->move_timeout_s * 1000000;
    return loop_wall_us(job_loop(j)) - j->row.updated_us > most_us;
}

/* Of a step of a move before create. */
static void wait_or_give_up(struct job *j)
{
    call_failed(j);
    if (!is_late(j)) {
        job_wait(j);
    } else if (j->step->bit == STEP_PROBE) {
        job_fail(j, RULE_HUB_AWAY, "the new hub cannot be reached: the device stays at its hub");
    } else {
        job_fail_now(j, RULE_HUB_AWAY,
                     "the hub that the device leaves cannot be reached: it stays");
    }
}

/* --- asking ---------------------------------------------------------------------------------------- */

/* E_NOT_FOUND: the hub is not linked (any more). */
static enum err open_call(struct job *j, struct span host, struct span device_id)
{
    struct dps_worker *dw = job_worker(j);
    struct snapshot *s = NULL;
    const char *token = NULL;
    enum err e = snapshot_get(dw, &s, NULL);
    struct linked_hub *hub = e == OK ? snapshot_hub(s, host) : NULL;
    if (e != OK || hub == NULL) {
        return e != OK ? e : E_NOT_FOUND;
    }
    e = hublink_token(server_keyring(dw->dps->server), hub, server_token_now_s(dw->dps->server),
                      &token);
    if (e != OK) {
        return e;
    }
    j->token = span_dup(span_str(token)); /* the snapshot may change before the call is over */
    hublink_add_url(&j->url, &hub->row, "/provision/devices/");
    percent_add(&j->url, device_id);
    buf_add_str(&j->url, "?api-version=" SERVER_ADMIN_VERSION);
    return j->token != NULL ? OK : E_NOMEM;
}

static void send_call(struct job *j, const char *method, job_fn on_answer)
{
    struct dps_worker *dw = job_worker(j);
    buf_add_u8(&j->url, 0);
    enum err e = buf_err(&j->url) != OK ? buf_err(&j->url) : buf_err(&j->body);
    if (e != OK) {
        job_stuck(j, e);
        return;
    }
    metric_add(dw->w, DPS_M_HUB_CALLS, 1);
    job_send(j, POOL_HUBS, method, dps_conf_of(dw)->hub_timeout_ms, on_answer);
}

static enum err read_enrollment(struct job *j, struct arena *a, struct enr_row *ret)
{
    enum err e = job_enrollment(j, a, ret);
    if (e == E_NOT_FOUND) {
        job_drop(j); /* and with it its record */
    } else if (e != OK) {
        job_stuck(j, e);
    }
    return e;
}

/* --- probe ------------------------------------------------------------------------------------------ */

/* Whose device it is, create finds out; that it could not be made at all is better known before the other is frozen. */
static void probed(struct job *j)
{
    if (j->rq.status == 200 || step_is_no_device(&j->rq)) {
        job_skip(j);
    } else if (step_is_transient(&j->rq)) {
        wait_or_give_up(j);
    } else if (j->rq.status == 409 && j->row.group_id.n == 0) {
        job_skip(j); /* an individual enrollment may adopt it */
    } else {
        refused(j);
    }
}

void step_probe(struct job *j)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(JOB_ARENA);
    struct enr_row enr;
    if (read_enrollment(j, &a, &enr) != OK) {
        return;
    }
    enum err e = open_call(j, j->row.op_hub, j->row.op_device_id);
    if (e == E_NOT_FOUND) {
        job_fail(j, RULE_HUB_GONE, "the hub is no longer linked");
    } else if (e != OK) {
        job_stuck(j, e);
    } else {
        if (j->row.group_id.n != 0) {
            buf_add_str(&j->url, "&owner=");
            hublink_add_owner(&j->url, job_worker(j)->dps->id_scope, &enr, true);
        }
        send_call(j, "GET", probed);
    }
}

/* --- freeze, thaw ------------------------------------------------------------------------------------- */

/* The old hub has no such device, or is none of ours any more: nothing to take along, nothing to delete. */
static enum err left_nothing(struct store_tx *tx UNUSED, struct arena *a UNUSED, void *arg UNUSED,
                             struct reg_row *row, struct reg_more *more UNUSED)
{
    row->op_todo &= ~(unsigned)(STEP_FREEZE | STEP_TWIN);
    row->op_from = SPAN_NONE;
    row->op_substatus = row->op_substatus == SUB_MIGRATED ? SUB_RESET : row->op_substatus;
    return OK;
}

static enum err was_suspended(struct store_tx *tx UNUSED, struct arena *a UNUSED, void *arg UNUSED,
                              struct reg_row *row, struct reg_more *more UNUSED)
{
    row->op_flags |= REG_F_SUSPENDED;
    return OK;
}

static void nothing_left(struct job *j, const char *why)
{
    LOG_WARN("dps.move_without_data", L_SPAN("registration", j->row.rid),
             L_SPAN("hub", j->row.op_from), L_STR("why", why));
    job_commit(j, left_nothing);
}

static void frozen(struct job *j)
{
    AUTO(json_free_p) struct json *body = NULL;
    bool is_frozen = false;
    if (step_is_no_device(&j->rq)) {
        nothing_left(j, "the device is not there");
    } else if (step_is_transient(&j->rq)) {
        wait_or_give_up(j);
    } else if (j->rq.status != 200) {
        refused(j);
    } else if (json_read_object(buf_span(&j->rq.answer), LIMIT_HTTP_BODY_REGISTRY, &body, NULL) !=
                   OK ||
               json_get_bool(body, "frozen", JSON_F_NEED, &is_frozen, NULL) != OK) {
        refused(j);
    } else {
        job_commit(j, is_frozen ? NULL : was_suspended);
    }
}

static void thawed(struct job *j)
{
    if (!step_is_transient(&j->rq)) {
        job_settled(j); /* or refused: then it is not ours to enable */
    } else if (j->row.op_open == OP_OPEN && is_late(j)) {
        call_failed(j);
        job_fail_now(j, RULE_OK, NULL);
    } else {
        call_failed(j);
        job_wait(j);
    }
}

static void send_status(struct job *j, const struct enr_row *enr, const char *status, char mark,
                        job_fn on_answer)
{
    /* Of create, which is over: later than its own requests. */
    int64_t sequence = j->row.updated_us + (j->step->bit == STEP_CREATE);
    buf_addf(&j->body, "{\"operationId\":\"%.*s:%c\",\"owner\":\"", SPAN_ARG(j->row.op_id), mark);
    hublink_add_owner(&j->body, job_worker(j)->dps->id_scope, enr, false);
    buf_addf(&j->body, "\",\"mayAdopt\":%s,\"sequence\":%lld,\"status\":\"%s\"}",
             enr->kind == ENR_GROUP ? "false" : "true", (long long)sequence, status);
    send_call(j, "PATCH", on_answer);
}

static void set_status(struct job *j, const char *status, char mark, job_fn on_answer)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(JOB_ARENA);
    struct enr_row enr;
    if (read_enrollment(j, &a, &enr) != OK) {
        return;
    }
    enum err e = open_call(j, j->row.op_from, j->row.device_id);
    if (e == E_NOT_FOUND && j->step->bit == STEP_FREEZE) {
        nothing_left(j, "the hub is no longer linked");
        return;
    }
    if (e == E_NOT_FOUND) {
        job_settled(j);
        return;
    }
    if (e != OK) {
        job_stuck(j, e);
        return;
    }
    send_status(j, &enr, status, mark, on_answer);
}

void step_freeze(struct job *j)
{
    set_status(j, "frozen", 'f', frozen);
}

void step_thaw(struct job *j)
{
    set_status(j, "thawed", 't', thawed);
}

/* --- twin ------------------------------------------------------------------------------------------- */

static enum err keep_twin(struct store_tx *tx UNUSED, struct arena *a UNUSED, void *arg,
                          struct reg_row *row UNUSED, struct reg_more *more)
{
    more->twin = buf_span(&((struct job *)arg)->result);
    return OK;
}

static void got_twin(struct job *j)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct json *twin = NULL;
    if (step_is_no_device(&j->rq)) {
        nothing_left(j, "the device is not there");
        return;
    }
    if (step_is_transient(&j->rq)) {
        wait_or_give_up(j);
        return;
    }
    if (j->rq.status != 200 ||
        json_read_object(buf_span(&j->rq.answer), LIMIT_HUB_WORK, &body, NULL) != OK ||
        json_get_object(body, "twin", JSON_F_NEED, &twin, NULL) != OK) {
        refused(j);
        return;
    }
    json_write(&j->result, twin);
    if (buf_err(&j->result) != OK) {
        job_stuck(j, buf_err(&j->result));
        return;
    }
    job_commit(j, keep_twin);
}

void step_twin(struct job *j)
{
    enum err e = open_call(j, j->row.op_from, j->row.device_id);
    if (e == E_NOT_FOUND) {
        nothing_left(j, "the hub is no longer linked");
    } else if (e != OK) {
        job_stuck(j, e);
    } else {
        send_call(j, "GET", got_twin);
    }
}

/* --- create ----------------------------------------------------------------------------------------- */

/*
 * The new hub has gone since it was probed. As long as none of our requests can have reached it the move gives up as before; else the
 * device may be enabled there, and stays disabled at the old hub until the new one says, or is unlinked.
 */
static void create_failed(struct job *j)
{
    const struct refusal_from from = {.rid = j->row.rid, .transport = SPAN_LIT("hub")};
    const struct egress_rq *rq = &j->rq;
    char why[LIMIT_HOST + 80];
    bool is_in_doubt = rq->result != OK ? rq->was_sent : rq->status >= 500 || rq->status == 408;
    j->may_be_made = j->may_be_made || is_in_doubt;
    call_failed(j);
    if (!plan_moves(&j->row) || !is_late(j)) {
        job_wait(j);
    } else if (!j->may_be_made) {
        job_fail(j, RULE_HUB_AWAY, "the new hub went away: the device stays at its hub");
    } else {
        (void)snprintf(why, sizeof(why), "hub %.*s does not answer, and may have made the device",
                       SPAN_ARG(j->row.op_hub));
        refusal_note_end(job_worker(j), &from, RULE_HUB_AWAY, span_str(why));
        job_wait(j);
    }
}

static void fenced(struct job *j)
{
    if (step_is_transient(&j->rq)) {
        call_failed(j);
        job_wait(j); /* all of create anew */
    } else {
        fail_refused(j, *(const unsigned *)j->own);
    }
}

/*
 * The hub refuses the device. One of our requests that seemed lost may be on its way still, and would make it there while it is
 * elsewhere: so the hub hears that this operation is over (hub/fence.h) before anybody else does, and freezes what was made.
 */
static void create_refused(struct job *j)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(JOB_ARENA);
    bool was_there =
        span_eq_nocase(j->row.hub, j->row.op_hub) && span_eq(j->row.device_id, j->row.op_device_id);
    struct enr_row enr;
    log_refused(j);
    unsigned *status = arena_new(&j->arena, unsigned);
    if (status == NULL) {
        job_stuck(j, E_NOMEM);
        return;
    }
    *status = j->rq.status;
    if (was_there || *status == 412) {
        fail_refused(j, *status);
        return;
    }
    if (read_enrollment(j, &a, &enr) != OK) {
        return;
    }
    j->own = status;
    job_forget_call(j);
    enum err e = open_call(j, j->row.op_hub, j->row.op_device_id);
    if (e == E_NOT_FOUND) {
        fail_refused(j, *status);
    } else if (e != OK) {
        job_stuck(j, e);
    } else {
        send_status(j, &enr, "frozen", 'x', fenced);
    }
}

static void created(struct job *j)
{
    AUTO(buf_done) struct buf owner = BUF_INIT(LIMIT_OWNER);
    AUTO(arena_done) struct arena a = ARENA_INIT(JOB_ARENA);
    struct enr_row enr;
    if (step_is_transient(&j->rq)) {
        create_failed(j);
        return;
    }
    if (j->rq.status != 200) {
        create_refused(j);
        return;
    }
    if (!plan_moves(&j->row)) {
        job_assigned(j, SPAN_NONE);
        return;
    }
    if (read_enrollment(j, &a, &enr) != OK) {
        return;
    }
    hublink_add_owner(&owner, job_worker(j)->dps->id_scope, &enr, false);
    struct span kept = arena_span(&j->arena, buf_span(&owner));
    if (buf_err(&owner) != OK || kept.p == NULL) {
        job_stuck(j, E_NOMEM);
    } else {
        job_assigned(j, kept);
    }
}

/* The issued certificate that the device was told before this one: serves on beside it, so that a device that could not keep the new one
 * is not shut out. */
static enum err former_credential(struct job *j, struct credential_row *ret, struct span *ret_span)
{
    *ret_span = SPAN_NONE;
    if ((j->row.op_flags & REG_F_ISSUED) == 0) {
        return OK;
    }
    enum err e = sql_credential_get(worker_db(job_worker(j)->w), j->row.fold, ret);
    struct span digest = span_of(ret->sha256, sizeof(ret->sha256));
    if (e == OK && ret->not_after_us > loop_wall_us(job_loop(j)) &&
        !span_eq(digest, j->row.op_cred)) {
        *ret_span = digest;
    }
    return e == E_NOT_FOUND ? OK : e;
}

void step_create(struct job *j)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(JOB_ARENA);
    struct dps_worker *dw = job_worker(j);
    struct credential_row told;
    struct span former;
    struct reg_more storage;
    const struct reg_more *more = NULL;
    struct enr_row enr;
    struct snapshot *s = NULL;
    enum err e = snapshot_get(dw, &s, NULL);
    if (e == OK && snapshot_hub(s, j->row.op_hub) == NULL) {
        job_fail(j, RULE_HUB_GONE, "the hub is no longer linked");
        return;
    }
    if (e == OK && read_enrollment(j, &a, &enr) != OK) {
        return;
    }
    if (e == OK &&
        (e = registration_read_more(worker_db(dw->w), &a, &j->row, &storage, &more)) == OK &&
        (e = former_credential(j, &told, &former)) == OK) {
        /* At once: a growing buffer would leave copies of the keys behind. */
        (void)buf_reserve(&j->body, 2048 + enr.initial_twin.n +
                                        (more != NULL ? more->twin.n + more->initial_twin.n : 0));
        e = hublink_add_body(server_keyring(dw->dps->server), dw->dps->id_scope, &enr, &j->row,
                             more, former, &j->body);
    }
    if (e != OK) {
        job_stuck(j, e);
        return;
    }
    job_bundle(j, created);
}
