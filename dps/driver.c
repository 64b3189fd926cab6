/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: the states of one job, in the order in which it passes through them. */
#include "dps/driver.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/map.h"
#include "base/text.h"
#include "dps/hublink.h"
#include "dps/registration.h"
#include "server/metrics.h"
#include "server/server.h"

#define JOB_ARENA (8u << 10)
#define JOB_BODY (64u << 10)

struct driver {
    struct dps_worker *dw;
    struct map jobs;     /* by operation id */
    struct list queue;   /* QUEUED */
    struct list waiting; /* WAITING */
    unsigned n_calls;    /* CALLING */
    unsigned n_stores;   /* STORING */
    struct timer sweep;
    char cursor[LIMIT_ID + 1]; /* where the next look goes on */
    bool is_draining;
};

struct job {
    struct msg msg; /* on its way to the owner */
    struct driver *d;
    struct map_node node;
    struct list link;
    struct arena arena;
    struct reg_row row; /* in the arena */
    unsigned attempts;
    struct timer retry;
    struct reg_outcome outcome;
    bool has_outcome;
    uint64_t begun_ms;
    struct egress_rq rq;
    const char *headers[2];
    char *token;
    struct buf url, body;
    struct store_op op;
};

static struct loop *loop_of(const struct driver *d)
{
    return worker_loop(d->dw->w);
}

/* --- life of a job ----------------------------------------------------------------------------- */

static void wipe_call(struct job *j)
{
    if (j->body.p != NULL) {
        mem_wipe(j->body.p, j->body.cap);
    }
    buf_release(&j->body);
    buf_release(&j->url);
    buf_done(&j->rq.answer);
    if (j->token != NULL) {
        mem_wipe(j->token, strlen(j->token));
        free(j->token);
        j->token = NULL;
    }
}

static void job_free(struct job *j)
{
    wipe_call(j);
    arena_done(&j->arena);
    free(j);
}

static bool keep(struct arena *a, struct span *s)
{
    if (s->p == NULL) {
        return true;
    }
    *s = arena_span(a, *s);
    return s->p != NULL;
}

/* NULL: no memory. */
static struct job *job_new(struct driver *d, const struct reg_row *row)
{
    struct job *j = NEW(struct job);
    if (j == NULL) {
        return NULL;
    }
    j->d = d;
    j->arena = (struct arena)ARENA_INIT(JOB_ARENA);
    j->url = (struct buf)BUF_INIT(4096);
    j->body = (struct buf)BUF_INIT(JOB_BODY);
    j->row = *row;
    struct reg_row *r = &j->row;
    if (!keep(&j->arena, &r->fold) || !keep(&j->arena, &r->rid) || !keep(&j->arena, &r->op_id) ||
        !keep(&j->arena, &r->op_hub) || !keep(&j->arena, &r->op_device_id) ||
        !keep(&j->arena, &r->op_cred)) {
        job_free(j);
        return NULL;
    }
    r->group_id = r->hub = r->first_hub = r->device_id = r->error_text = SPAN_NONE;
    return j;
}

static void fill_calls(struct driver *d);

/* Out of the map and gone. */
static void job_end(struct job *j)
{
    struct driver *d = j->d;
    timer_stop(loop_of(d), &j->retry);
    list_del(&j->link);
    map_del(&d->jobs, &j->node);
    job_free(j);
}

/* --- the result ---------------------------------------------------------------------------------- */

static void job_wait(struct job *j);

static enum err finish_tx(struct store_tx *tx, struct store_op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, op);
    return registration_tx_finish(tx, j->row.fold, j->row.op_id, &j->outcome);
}

static void log_end(const struct job *j)
{
    const struct reg_row *r = &j->row;
    struct worker *w = j->d->dw->w;
    if (j->outcome.is_assigned) {
        metric_add(w, DPS_M_REG_ASSIGNED, 1);
        LOG_INFO("dps.assigned", L_SPAN("registration", r->rid), L_SPAN("hub", r->op_hub),
                 L_SPAN("device", r->op_device_id), L_SPAN("operation", r->op_id),
                 L_U64("elapsed_ms", loop_now_ms(loop_of(j->d)) - j->begun_ms));
    } else {
        metric_add(w, DPS_M_REG_FAILED, 1);
        LOG_WARN("dps.registration_failed", L_SPAN("registration", r->rid),
                 L_SPAN("hub", r->op_hub), L_SPAN("operation", r->op_id),
                 L_U64("code", rule_code(j->outcome.rule)),
                 L_STR("rule", rule_def(j->outcome.rule)->word), L_SPAN("why", j->outcome.text));
    }
}

static void finish_home(struct msg *m)
{
    struct job *j = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct job, op);
    struct driver *d = j->d;
    d->n_stores--;
    if (j->op.result == OK) {
        log_end(j);
        job_end(j);
    } else {
        LOG_WARN("dps.result_not_stored", L_SPAN("registration", j->row.rid), L_ERR(j->op.result));
        job_wait(j);
    }
    fill_calls(d);
}

static void job_store(struct job *j)
{
    struct dps_worker *dw = j->d->dw;
    j->op = (struct store_op){.tx = finish_tx};
    j->op.home = loop_mailbox(worker_loop(dw->w));
    j->op.msg.run = finish_home;
    j->op.bytes = sizeof(*j);
    if (store_submit(server_store(dw->dps->server), &j->op) == OK) {
        j->d->n_stores++;
    } else {
        job_wait(j);
    }
}

static void job_fail(struct job *j, enum rule rule, const char *text)
{
    j->has_outcome = true;
    j->outcome = (struct reg_outcome){false, rule, span_str(text)};
    job_store(j);
}

/* --- waiting ----------------------------------------------------------------------------------------- */

static void job_retry(struct timer *t)
{
    struct job *j = CONTAINER_OF(t, struct job, retry);
    struct driver *d = j->d;
    list_del(&j->link);
    if (j->has_outcome) {
        job_store(j);
        return;
    }
    list_add_tail(&d->queue, &j->link);
    fill_calls(d);
}

/* What waits while the server ends is left to the next start: the intent is in the database. */
static void job_wait(struct job *j)
{
    struct driver *d = j->d;
    if (d->is_draining) {
        job_end(j);
        return;
    }
    uint64_t most = DRIVER_BACKOFF_MAX_MS, ms = DRIVER_BACKOFF_MS;
    for (unsigned i = 0; i < j->attempts && ms < most; i++) {
        ms *= 2;
    }
    ms = MIN(ms, most);
    j->attempts++;
    list_add_tail(&d->waiting, &j->link);
    timer_set(loop_of(d), &j->retry, ms / 2 + random_below(ms), job_retry);
}

/* --- the call ------------------------------------------------------------------------------------------- */

/* 401 and 404 too: the linked hub's connection string is wrong or its policy lacks the right, which an administrator repairs; the
 * device must not be told a lie meanwhile. */
static bool is_transient(const struct egress_rq *rq)
{
    unsigned s = rq->status;
    return rq->result != OK || s == 401 || s == 403 || s == 404 || s == 408 || s == 429 || s >= 500;
}

static void call_answered(struct job *j)
{
    struct err_info *info = &j->rq.info;
    if (is_transient(&j->rq)) {
        metric_add(j->d->dw->w, DPS_M_HUB_RETRIES, 1);
        LOG_WARN("dps.hub_call_failed", L_SPAN("hub", j->row.op_hub),
                 L_SPAN("registration", j->row.rid), L_U64("status", j->rq.status),
                 L_U64("attempt", j->attempts + 1), L_WHY(info, j->rq.result));
        wipe_call(j);
        job_wait(j);
        return;
    }
    j->has_outcome = true;
    if (j->rq.status == 200) {
        j->outcome = (struct reg_outcome){.is_assigned = true};
    } else if (j->rq.status == 409) {
        j->outcome = (struct reg_outcome){
            false, RULE_HUB_OWNED,
            SPAN_LIT("the hub has a device of this id that belongs to another owner")};
    } else {
        LOG_WARN("dps.hub_refused", L_SPAN("hub", j->row.op_hub),
                 L_SPAN("registration", j->row.rid), L_U64("status", j->rq.status),
                 L_SPAN("answer", span_sub(buf_span(&j->rq.answer), 0, 300)));
        j->outcome =
            (struct reg_outcome){false, RULE_HUB_REFUSED, SPAN_LIT("the hub refused the device")};
    }
    wipe_call(j);
    job_store(j);
}

static void call_home(struct msg *m)
{
    struct job *j = CONTAINER_OF(CONTAINER_OF(m, struct egress_rq, msg), struct job, rq);
    struct driver *d = j->d;
    d->n_calls--;
    call_answered(j);
    fill_calls(d);
}

static enum err read_enrollment(struct dps_worker *dw, struct snapshot *s, struct arena *a,
                                int64_t id, struct enr_row *ret)
{
    const struct group *g = snapshot_group(s, id);
    if (g != NULL) {
        *ret = g->row;
        return OK;
    }
    return sql_enr_by_id(worker_db(dw->w), a, id, ret);
}

static enum err call_make(struct job *j, struct linked_hub *hub, const struct enr_row *enr)
{
    struct dps_worker *dw = j->d->dw;
    const struct keyring *k = server_keyring(dw->dps->server);
    const char *token = NULL;
    enum err e = hublink_token(k, hub, loop_wall_us(loop_of(j->d)) / 1000000, &token);
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
    e = hublink_add_body(k, dw->dps->id_scope, enr, &j->row, &j->body);
    if (e == OK) {
        e = j->token == NULL         ? E_NOMEM
            : buf_err(&j->url) != OK ? buf_err(&j->url)
                                     : buf_err(&j->body);
    }
    return e;
}

static enum err call_send(struct job *j)
{
    struct dps_worker *dw = j->d->dw;
    j->headers[0] = j->token;
    j->headers[1] = "Content-Type: application/json; charset=utf-8";
    j->rq = (struct egress_rq){
        .home = loop_mailbox(loop_of(j->d)),
        .pool = POOL_HUBS,
        .method = "PUT",
        .url = (const char *)j->url.p,
        .headers = j->headers,
        .n_headers = ARRAY_LEN(j->headers),
        .body = buf_span(&j->body),
        .timeout_ms = dps_conf_of(dw)->hub_timeout_ms,
        .answer = BUF_INIT(LIMIT_HTTP_BODY_REGISTRY),
    };
    j->rq.msg.run = call_home;
    return server_egress_send(dw->dps->server, &j->rq);
}

/* j is in no list. */
static void job_call(struct job *j)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(256u << 10);
    struct dps_worker *dw = j->d->dw;
    struct err_info info = {0};
    struct snapshot *s = NULL;
    struct enr_row enr;
    enum err e = snapshot_get(dw, &s, &info);
    struct linked_hub *hub = e == OK ? snapshot_hub(s, j->row.op_hub) : NULL;
    if (e == OK && hub == NULL) {
        job_fail(j, RULE_HUB_GONE, "the hub is no longer linked");
        return;
    }
    if (e == OK && (e = read_enrollment(dw, s, &a, j->row.enrollment, &enr)) == E_NOT_FOUND) {
        job_end(j); /* and with it its record */
        return;
    }
    if (e == OK) {
        e = call_make(j, hub, &enr);
    }
    if (e == OK && (e = call_send(j)) == OK) {
        metric_add(dw->w, DPS_M_HUB_CALLS, 1);
        j->d->n_calls++;
        return;
    }
    if (e != E_DRAINING && e != E_BUSY) {
        LOG_WARN("dps.hub_call_failed", L_SPAN("hub", j->row.op_hub),
                 L_SPAN("registration", j->row.rid), L_ERR(e), L_WHY(&info, e));
    }
    wipe_call(j);
    job_wait(j);
}

static void fill_calls(struct driver *d)
{
    while (!d->is_draining && d->n_calls < DRIVER_CALLS) {
        struct list *n = list_pop(&d->queue);
        if (n == NULL) {
            return;
        }
        job_call(LIST_OF(n, struct job, link));
    }
}

/* --- taking in --------------------------------------------------------------------------------------------- */

static void job_take(struct driver *d, struct job *j)
{
    j->node.key = j->row.op_id;
    j->begun_ms = loop_now_ms(loop_of(d));
    if (d->is_draining || d->jobs.count >= DRIVER_JOBS || map_add(&d->jobs, &j->node) != OK) {
        job_free(
            j); /* over the bound, or known already; found again by the next look if it must be */
        return;
    }
    list_add_tail(&d->queue, &j->link);
}

static void job_arrive(struct msg *m)
{
    struct job *j = CONTAINER_OF(m, struct job, msg);
    struct driver *d = j->d;
    job_take(d, j);
    fill_calls(d);
}

static unsigned owner_of(const struct server *s, struct span fold)
{
    return (unsigned)(siphash(0, 0, fold) % server_n_workers(s));
}

void driver_post(struct dps_worker *dw, const struct reg_row *row)
{
    struct server *s = dw->dps->server;
    struct worker *w = server_worker(s, owner_of(s, row->fold));
    struct job *j = job_new(dps_worker_of(w)->driver, row);
    if (j == NULL) {
        LOG_WARN("dps.driver_no_memory", L_SPAN("registration", row->rid));
        return;
    }
    if (w == dw->w) {
        job_arrive(&j->msg);
    } else {
        j->msg.run = job_arrive;
        loop_post(worker_loop(w), &j->msg);
    }
}

struct sweep {
    struct driver *d;
    size_t seen, taken;
};

static enum err sweep_row(void *arg, const struct reg_row *row)
{
    struct sweep *s = arg;
    struct driver *d = s->d;
    s->seen++;
    if (!span_to_cstr(row->fold, d->cursor, sizeof(d->cursor))) {
        return E_CORRUPT;
    }
    if (owner_of(d->dw->dps->server, row->fold) != worker_index(d->dw->w) ||
        map_get(&d->jobs, row->op_id) != NULL) {
        return OK;
    }
    struct job *j = job_new(d, row);
    if (j == NULL) {
        return E_NOMEM;
    }
    s->taken++;
    job_take(d, j);
    return OK;
}

/* A page each time; in haste while pages are full. */
static void sweep_run(struct timer *t)
{
    struct driver *d = CONTAINER_OF(t, struct driver, sweep);
    struct sweep s = {d, 0, 0};
    enum err e = OK;
    if (d->is_draining) {
        return;
    }
    if (d->jobs.count < DRIVER_JOBS / 2) {
        e = sql_reg_open_page(worker_db(d->dw->w), span_str(d->cursor), DRIVER_PAGE, sweep_row, &s);
    }
    if (e != OK) {
        LOG_WARN("dps.sweep_failed", L_ERR(e));
    }
    if (s.taken != 0) {
        LOG_INFO("dps.intents_taken_up", L_U64("count", s.taken));
    }
    bool is_full = s.seen == DRIVER_PAGE;
    if (!is_full && d->jobs.count < DRIVER_JOBS / 2) {
        d->cursor[0] = '\0';
    }
    timer_set(loop_of(d), &d->sweep, is_full ? 20 : DRIVER_SWEEP_MS, sweep_run);
    fill_calls(d);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

enum err driver_new(struct dps_worker *dw, struct driver **ret)
{
    struct driver *d = NEW(struct driver);
    if (d == NULL) {
        return E_NOMEM;
    }
    d->dw = dw;
    map_init(&d->jobs);
    list_init(&d->queue);
    list_init(&d->waiting);
    *ret = d;
    return OK;
}

void driver_start(struct driver *d)
{
    timer_set(loop_of(d), &d->sweep, 0, sweep_run);
}

void driver_drain(struct driver *d)
{
    d->is_draining = true;
    timer_stop(loop_of(d), &d->sweep);
    struct list *n;
    while ((n = d->queue.next) != &d->queue || (n = d->waiting.next) != &d->waiting) {
        job_end(LIST_OF(n, struct job, link));
    }
}

bool driver_is_busy(const struct driver *d)
{
    return d->n_calls != 0 || d->n_stores != 0;
}

void driver_free(struct driver *d)
{
    if (d != NULL) {
        map_done(&d->jobs);
        free(d);
    }
}
