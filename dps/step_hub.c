/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that ask a linked hub: hub/http_provision.h. */
#include "base/log.h"
#include "base/text.h"
#include "dps/driver_int.h"
#include "dps/hublink.h"
#include "server/metrics.h"

/* 401 and 404 too: the linked hub's connection string is wrong or its policy lacks the right, which an administrator repairs; the
 * device must not be told a lie meanwhile. */
static bool is_transient(const struct egress_rq *rq)
{
    unsigned s = rq->status;
    return rq->result != OK || s == 401 || s == 403 || s == 404 || s == 408 || s == 429 || s >= 500;
}

static void call_failed(struct job *j)
{
    struct err_info *info = &j->rq.info;
    metric_add(job_worker(j)->w, DPS_M_HUB_RETRIES, 1);
    LOG_WARN("dps.hub_call_failed", L_SPAN("hub", j->row.op_hub),
             L_SPAN("registration", j->row.rid), L_STR("step", j->step->name),
             L_U64("status", j->rq.status), L_U64("attempt", j->attempts + 1),
             L_WHY(info, j->rq.result));
    job_wait(j);
}

static void created(struct job *j)
{
    if (is_transient(&j->rq)) {
        call_failed(j);
    } else if (j->rq.status == 200) {
        job_assigned(j, SPAN_NONE);
    } else if (j->rq.status == 409) {
        job_fail(j, RULE_HUB_OWNED,
                 "the hub has a device of this id that belongs to another owner");
    } else {
        LOG_WARN("dps.hub_refused", L_SPAN("hub", j->row.op_hub),
                 L_SPAN("registration", j->row.rid), L_U64("status", j->rq.status),
                 L_SPAN("answer", span_sub(buf_span(&j->rq.answer), 0, 300)));
        job_fail(j, RULE_HUB_REFUSED, "the hub refused the device");
    }
}

static enum err create_fill(struct job *j, struct linked_hub *hub, const struct enr_row *enr,
                            const struct reg_more *more)
{
    struct dps_worker *dw = job_worker(j);
    const struct keyring *k = server_keyring(dw->dps->server);
    const char *token = NULL;
    enum err e = hublink_token(k, hub, loop_wall_us(job_loop(j)) / 1000000, &token);
    if (e != OK) {
        return e;
    }
    j->token = span_dup(span_str(token)); /* the snapshot may change before the call is over */
    hublink_add_url(&j->url, &hub->row, "/provision/devices/");
    percent_add(&j->url, j->row.op_device_id);
    buf_add_str(&j->url, "?api-version=" SERVER_ADMIN_VERSION);
    buf_add_u8(&j->url, 0);
    /* At once: a growing buffer would leave copies of the keys behind. */
    (void)buf_reserve(&j->body, 2048 + enr->initial_twin.n);
    e = hublink_add_body(k, dw->dps->id_scope, enr, &j->row, more, &j->body);
    if (e == OK) {
        e = j->token == NULL         ? E_NOMEM
            : buf_err(&j->url) != OK ? buf_err(&j->url)
                                     : buf_err(&j->body);
    }
    return e;
}

void step_create(struct job *j)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(JOB_ARENA);
    struct dps_worker *dw = job_worker(j);
    struct err_info info = {0};
    struct reg_more storage;
    const struct reg_more *more = NULL;
    struct snapshot *s = NULL;
    struct enr_row enr;
    enum err e = snapshot_get(dw, &s, &info);
    struct linked_hub *hub = e == OK ? snapshot_hub(s, j->row.op_hub) : NULL;
    if (e == OK && hub == NULL) {
        job_fail(j, RULE_HUB_GONE, "the hub is no longer linked");
        return;
    }
    if (e == OK && (e = job_enrollment(j, &a, &enr)) == E_NOT_FOUND) {
        job_drop(j); /* and with it its record */
        return;
    }
    if (e == OK) {
        e = registration_read_more(worker_db(dw->w), &a, &j->row, &storage, &more);
    }
    if (e == OK && (e = create_fill(j, hub, &enr, more)) == OK) {
        metric_add(dw->w, DPS_M_HUB_CALLS, 1);
        job_send(j, POOL_HUBS, "PUT", dps_conf_of(dw)->hub_timeout_ms, created);
        return;
    }
    LOG_WARN("dps.hub_call_failed", L_SPAN("hub", j->row.op_hub),
             L_SPAN("registration", j->row.rid), L_ERR(e), L_WHY(&info, e));
    job_wait(j);
}
