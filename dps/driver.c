/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: one life cycle, from the intent to its end, and every list that a job passes through them. */
#include "dps/driver.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/bundle.h"
#include "dps/driver_int.h"
#include "dps/hub_health.h"
#include "dps/leftover.h"
#include "dps/refusal.h"
#include "server/metrics.h"
#include "server/server.h"

/* clang-format off */
static const struct step steps[] = {
    { STEP_ASK,    "ask",    step_ask },
    { STEP_ISSUE,  "issue",  step_issue },
    { STEP_PROBE,  "probe",  step_probe },
    { STEP_FREEZE, "freeze", step_freeze },
    { STEP_TWIN,   "twin",   step_twin },
    { STEP_CREATE, "create", step_create },
    { STEP_THAW,   "thaw",   step_thaw },
};
/* clang-format on */

struct driver {
    struct dps_worker *dw;
    struct map jobs;     /* by operation id */
    struct list queue;   /* QUEUED */
    struct list waiting; /* WAITING */
    unsigned n_calls;    /* CALLING */
    unsigned n_stores;   /* STORING */
    struct bundles *bundles;
    struct timer sweep;
    int64_t cursor_us;
    bool is_spilled;           /* some wait in the database alone */
    char cursor[LIMIT_ID + 1]; /* where the next look goes on */
    bool is_draining;
};

static struct loop *loop_of(const struct driver *d)
{
    return worker_loop(d->dw->w);
}

struct dps_worker *job_worker(const struct job *j)
{
    return j->d->dw;
}

struct loop *job_loop(const struct job *j)
{
    return loop_of(j->d);
}

/* --- life of a job ----------------------------------------------------------------------------- */

void job_forget_call(struct job *j)
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
    free(j->header);
    j->header = NULL;
}

static void job_free(struct job *j)
{
    job_forget_call(j);
    if (j->result.p != NULL) {
        mem_wipe(j->result.p, j->result.cap);
    }
    buf_done(&j->result);
    arena_done(&j->arena);
    arena_done(&j->out);
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

/* The row with all its texts, in an arena of its own. */
static bool job_take_row(struct job *j, const struct reg_row *row)
{
    struct arena a = ARENA_INIT(JOB_ARENA);
    struct reg_row r = *row;
    struct span *const all[] = {&r.fold,      &r.rid,     &r.group_id,     &r.hub,
                                &r.first_hub, &r.op_id,   &r.device_id,    &r.error_text,
                                &r.op_hub,    &r.op_cred, &r.op_device_id, &r.op_from};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (!keep(&a, all[i])) {
            arena_done(&a);
            return false;
        }
    }
    arena_done(&j->arena);
    j->arena = a;
    j->row = r;
    return true;
}

/* NULL: no memory. */
static struct job *job_new(struct driver *d, const struct reg_row *row)
{
    struct job *j = NEW(struct job);
    if (j == NULL) {
        return NULL;
    }
    j->d = d;
    j->url = (struct buf)BUF_INIT(4096);
    j->body = (struct buf)BUF_INIT(JOB_BODY);
    j->result = (struct buf)BUF_INIT(JOB_BODY);
    if (!job_take_row(j, row) || !span_to_cstr(row->op_id, j->op_id, sizeof(j->op_id))) {
        job_free(j);
        return NULL;
    }
    j->node.key = span_str(j->op_id);
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

static void leave_call(struct job *j)
{
    j->d->n_calls -= j->is_calling;
    j->is_calling = 0;
    job_forget_call(j);
}

/* --- waiting ----------------------------------------------------------------------------------------- */

static void job_store(struct job *j);

/* What waits is in the order of beginning; so a job comes back to its place, before all that are younger. */
static void come_back(struct job *j)
{
    struct list *at = &j->d->queue;
    if (j->attempts <= DRIVER_KEEPS_PLACE) {
        at = at->next;
        while (at != &j->d->queue &&
               LIST_OF(at, struct job, link)->row.updated_us <= j->row.updated_us) {
            at = at->next;
        }
    }
    list_add_tail(at, &j->link); /* before it */
}

static void job_retry(struct timer *t)
{
    struct job *j = CONTAINER_OF(t, struct job, retry);
    struct driver *d = j->d;
    list_del(&j->link);
    if (j->is_storing) {
        job_store(j);
        return;
    }
    come_back(j);
    fill_calls(d);
}

/* What waits while the server ends is left to the next start: the intent is in the database. */
void job_wait(struct job *j)
{
    struct driver *d = j->d;
    leave_call(j);
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

void job_drop(struct job *j)
{
    leave_call(j);
    job_end(j);
}

/* --- the result ---------------------------------------------------------------------------------- */

static enum err job_tx(struct store_tx *tx, struct store_op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, op);
    arena_done(&j->out);
    j->out = (struct arena)ARENA_INIT(JOB_ARENA);
    return j->ends ? registration_tx_finish(tx, &j->out, j->row.fold, j->row.op_id, &j->outcome,
                                            &j->now)
                   : registration_tx_step(tx, &j->out, &j->done, &j->now);
}

static void log_end(const struct job *j)
{
    const struct reg_row *r = &j->row;
    struct worker *w = j->d->dw->w;
    if (j->outcome.is_assigned) {
        metric_add(w, DPS_M_REG_ASSIGNED, 1);
        LOG_INFO("dps.assigned", L_SPAN("registration", r->rid), L_SPAN("hub", r->op_hub),
                 L_SPAN("device", r->op_device_id), L_SPAN("operation", r->op_id),
                 L_SPAN("from", plan_moves(r) ? r->op_from : SPAN_LIT("")),
                 L_U64("elapsed_ms", loop_now_ms(loop_of(j->d)) - j->begun_ms));
        if (plan_moves(r)) {
            metric_add(w, DPS_M_MOVES, 1);
            leftover_look(j->d->dw);
        }
    } else if (r->status != REG_FAILED && j->now.status == REG_FAILED) {
        metric_add(w, DPS_M_REG_FAILED, 1);
        const struct refusal_from from = {.rid = r->rid, .transport = SPAN_LIT("hub")};
        if (j->outcome.rule != RULE_OK) {
            refusal_note_end(j->d->dw, &from, j->outcome.rule, j->now.error_text);
        }
        LOG_WARN("dps.registration_failed", L_SPAN("registration", r->rid),
                 L_SPAN("hub", r->op_hub), L_SPAN("operation", r->op_id),
                 L_U64("code", j->now.error_code),
                 L_STR("rule", j->outcome.rule != RULE_OK ? rule_def(j->outcome.rule)->word : "-"),
                 L_SPAN("why", j->now.error_text));
    }
}

/* It was committed: what is next? */
static void job_go_on(struct job *j)
{
    struct driver *d = j->d;
    if (j->now.op_open == OP_CLOSED) {
        backlog_ended(&d->dw->dps->backlog);
        job_end(j);
        return;
    }
    if (d->is_draining || !job_take_row(j, &j->now)) {
        job_end(j); /* the next look, or the next start, finds it */
        return;
    }
    arena_done(&j->out);
    j->attempts = 0;
    come_back(j);
}

static void store_home(struct msg *m)
{
    struct job *j = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct job, op);
    struct driver *d = j->d;
    d->n_stores--;
    if (j->op.result == OK) {
        j->is_storing = false;
        buf_reset(&j->result);
        if (j->ends) {
            log_end(j);
        }
        job_go_on(j);
    } else {
        LOG_WARN("dps.result_not_stored", L_SPAN("registration", j->row.rid), L_ERR(j->op.result));
        job_wait(j);
    }
    fill_calls(d);
}

static void job_store(struct job *j)
{
    struct dps_worker *dw = j->d->dw;
    j->is_storing = true;
    leave_call(j);
    j->op = (struct store_op){.tx = job_tx};
    j->op.home = loop_mailbox(worker_loop(dw->w));
    j->op.msg.run = store_home;
    j->op.bytes = (uint32_t)(sizeof(*j) + j->result.n);
    j->op.bulk = true;
    if (store_submit(server_store(dw->dps->server), &j->op) == OK) {
        j->d->n_stores++;
    } else {
        job_wait(j);
    }
}

void job_commit(struct job *j, registration_step_fn fn)
{
    j->ends = false;
    j->done = (struct reg_done){j->row.fold, j->row.op_id, j->step->bit, fn, j};
    job_store(j);
}

static void job_finish(struct job *j, const struct reg_outcome *o)
{
    j->ends = true;
    j->outcome = *o;
    job_store(j);
}

void job_fail(struct job *j, enum rule rule, const char *text)
{
    const struct reg_outcome o = {.rule = rule, .text = span_str(text)};
    job_finish(j, &o);
}

void job_fail_now(struct job *j, enum rule rule, const char *text)
{
    const struct reg_outcome o = {.rule = rule, .text = span_str(text), .tells_now = true};
    job_finish(j, &o);
}

void job_settled(struct job *j)
{
    const struct reg_outcome o = {.is_settled = true};
    job_finish(j, &o);
}

void job_stuck(struct job *j, enum err e)
{
    LOG_WARN("dps.step_failed", L_SPAN("registration", j->row.rid), L_STR("step", j->step->name),
             L_ERR(e));
    job_wait(j);
}

void job_assigned(struct job *j, struct span owner)
{
    const struct reg_outcome o = {.is_assigned = true, .owner = owner};
    job_finish(j, &o);
}

void job_skip(struct job *j)
{
    leave_call(j);
    j->row.op_todo &= ~j->step->bit;
    j->attempts = 0;
    come_back(j);
    fill_calls(j->d);
}

/* --- the call ------------------------------------------------------------------------------------------- */

static void call_home(struct msg *m)
{
    struct job *j = CONTAINER_OF(CONTAINER_OF(m, struct egress_rq, msg), struct job, rq);
    struct driver *d = j->d;
    if (j->rq.pool == POOL_HUBS) {
        hub_health_note(d->dw->dps->health, step_hub_name(j), &j->rq, step_is_transient(&j->rq),
                        loop_wall_us(loop_of(d)));
    }
    j->on_answer(j);
    fill_calls(d);
}

void job_send(struct job *j, unsigned pool, const char *method, uint64_t timeout_ms,
              job_fn on_answer)
{
    struct dps_worker *dw = j->d->dw;
    size_t n = 0;
    if (j->token != NULL) {
        j->headers[n++] = j->token;
    }
    if (j->header != NULL) {
        j->headers[n++] = j->header;
    }
    if (j->body.n != 0) {
        j->headers[n++] = "Content-Type: application/json; charset=utf-8";
    }
    j->on_answer = on_answer;
    j->rq = (struct egress_rq){
        .home = loop_mailbox(loop_of(j->d)),
        .pool = pool,
        .method = method,
        .url = (const char *)j->url.p,
        .headers = j->headers,
        .n_headers = n,
        .body = buf_span(&j->body),
        .timeout_ms = timeout_ms,
        .allow_http = j->allow_http,
    };
    j->rq.msg.run = call_home;
    if (server_egress_send(dw->dps->server, &j->rq) != OK) {
        job_wait(j); /* the pool is full, or the server ends */
    }
}

void job_bundle(struct job *j, job_fn on_answer)
{
    bundle_add(j->d->bundles, j, on_answer);
}

void driver_go_on(struct driver *d)
{
    fill_calls(d);
}

enum err job_enrollment(struct job *j, struct arena *a, struct enr_row *ret)
{
    struct snapshot *s = NULL;
    enum err e = snapshot_get(j->d->dw, &s, NULL);
    const struct group *g = e == OK ? snapshot_group(s, j->row.enrollment) : NULL;
    if (g != NULL) {
        *ret = g->row;
        return OK;
    }
    return e != OK ? e : sql_enr_by_id(worker_db(j->d->dw->w), a, j->row.enrollment, ret);
}

static const struct step *next_step(const struct job *j)
{
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if ((j->row.op_todo & steps[i].bit) != 0) {
            return &steps[i];
        }
    }
    return NULL;
}

static void fill_calls(struct driver *d)
{
    while (!d->is_draining && d->n_calls < DRIVER_CALLS) {
        struct list *n = list_pop(&d->queue);
        if (n == NULL) {
            return;
        }
        struct job *j = LIST_OF(n, struct job, link);
        if ((j->step = next_step(j)) == NULL) {
            LOG_ERROR("dps.step_unknown", L_SPAN("registration", j->row.rid),
                      L_U64("todo", j->row.op_todo)); /* the database is of a newer program */
            job_end(j);
            continue;
        }
        d->n_calls++;
        j->is_calling = 1;
        j->allow_http = false;
        j->step->begin(j);
    }
}

/* --- taking in --------------------------------------------------------------------------------------------- */

static void job_take(struct driver *d, struct job *j)
{
    j->begun_ms = loop_now_ms(loop_of(d));
    d->is_spilled |= d->jobs.count >= DRIVER_JOBS;
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
    if (d->is_spilled) {
        job_free(
            j); /* behind those that wait in the database: the next looks take all in their order */
    } else {
        job_take(d, j);
    }
    fill_calls(d);
}

unsigned driver_owner(const struct server *s, struct span fold)
{
    return (unsigned)(siphash(0, 0, fold) % server_n_workers(s));
}

void driver_post(struct dps_worker *dw, const struct reg_row *row)
{
    struct server *s = dw->dps->server;
    struct worker *w = server_worker(s, driver_owner(s, row->fold));
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
    if (d->jobs.count >= DRIVER_JOBS) {
        return E_QUEUE_FULL; /* the cursor stays before it */
    }
    s->seen++;
    if (!span_to_cstr(row->fold, d->cursor, sizeof(d->cursor))) {
        return E_CORRUPT;
    }
    d->cursor_us = row->updated_us;
    if (driver_owner(d->dw->dps->server, row->fold) != worker_index(d->dw->w) ||
        map_get(&d->jobs, row->op_id) != NULL) {
        return OK;
    }
    struct job *j = job_new(d, row);
    if (j == NULL) {
        return E_NOMEM;
    }
    s->taken++;
    j->may_be_made = (row->op_todo & (STEP_CREATE - 1u)) == 0; /* a former process may have asked */
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
        e = sql_reg_open_page(worker_db(d->dw->w), d->cursor_us, span_str(d->cursor), DRIVER_PAGE,
                              sweep_row, &s);
        e = e == E_QUEUE_FULL ? OK : e;
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
        d->cursor_us = 0;
        d->is_spilled = false;
    }
    timer_set(loop_of(d), &d->sweep,
              is_full         ? 20
              : d->is_spilled ? 100
                              : DRIVER_SWEEP_MS,
              sweep_run);
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
    if (bundles_new(d, dw, &d->bundles) != OK) {
        free(d);
        return E_NOMEM;
    }
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
        bundles_free(d->bundles);
        free(d);
    }
}
