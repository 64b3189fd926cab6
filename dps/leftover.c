/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/leftover.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/driver_int.h"
#include "dps/hub_health.h"
#include "dps/hublink.h"
#include "dps/revocation.h"
#include "server/authn.h"
#include "server/metrics.h"

#define LOOK_SOON_MS 5u

struct leftover {
    struct dps_worker *dw;
    struct list all; /* of struct owed */
    unsigned n, n_busy;
    struct timer sweep;
    int64_t cursor;
    bool is_draining;
};

struct owed {
    struct list link;
    struct leftover *l;
    struct arena arena;
    struct left_row row; /* in the arena */
    unsigned attempts;
    struct timer retry;
    struct egress_rq rq;
    const char *headers[2];
    char *token;
    struct buf url, body;
    struct store_op op;
    /* LEFT_DISABLE: what the hub said */
    enum revocation_state said;
    unsigned status;
    bool
        may_still_come; /* an operation was under way when the hub was asked: the device may be made yet */
};

static struct loop *loop_of(const struct leftover *l)
{
    return worker_loop(l->dw->w);
}

static void forget_call(struct owed *o)
{
    buf_release(&o->url);
    buf_release(&o->body);
    buf_done(&o->rq.answer);
    if (o->token != NULL) {
        mem_wipe(o->token, strlen(o->token));
        free(o->token);
        o->token = NULL;
    }
}

static void owed_end(struct owed *o)
{
    struct leftover *l = o->l;
    timer_stop(loop_of(l), &o->retry);
    list_del(&o->link);
    l->n--;
    forget_call(o);
    arena_done(&o->arena);
    free(o);
}

static void owed_call(struct owed *o);

static void owed_retry(struct timer *t)
{
    owed_call(CONTAINER_OF(t, struct owed, retry));
}

static void owed_wait(struct owed *o)
{
    uint64_t ms = DRIVER_BACKOFF_MS << MIN(o->attempts, 7u);
    forget_call(o);
    if (o->l->is_draining) {
        owed_end(o); /* the row is there at the next start */
        return;
    }
    ms = MIN(ms, (uint64_t)DRIVER_BACKOFF_MAX_MS);
    o->attempts++;
    timer_set(loop_of(o->l), &o->retry, ms / 2 + random_below(ms), owed_retry);
}

/* --- paid ------------------------------------------------------------------------------------------ */

static enum err paid_tx(struct store_tx *tx, struct store_op *op)
{
    struct owed *o = CONTAINER_OF(op, struct owed, op);
    enum err e = sql_left_del(tx->db, o->row.id);
    return e == OK && o->row.what == LEFT_DISABLE
               ? revocation_tx_told(tx, &o->row, o->said, o->status)
               : e;
}

static void paid_home(struct msg *m)
{
    struct owed *o = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct owed, op);
    o->l->n_busy--;
    if (o->op.result != OK) {
        owed_wait(o);
        return;
    }
    metric_add(o->l->dw->w, DPS_M_LEFTOVERS, 1);
    owed_end(o);
}

static enum revocation_state said(const struct owed *o, unsigned status)
{
    return status == 0                 ? REVOCATION_UNLINKED
           : status < 300              ? REVOCATION_DONE
           : step_is_no_device(&o->rq) ? REVOCATION_ABSENT
                                       : REVOCATION_REFUSED;
}

static void owed_paid(struct owed *o, unsigned status, const char *why)
{
    o->said = said(o, status);
    o->status = status;
    LOG_INFO("dps.leftover_done", L_SPAN("registration", o->row.rid), L_SPAN("hub", o->row.hub),
             L_SPAN("device", o->row.device_id), L_U64("status", status), L_STR("why", why));
    forget_call(o);
    o->op = (struct store_op){.tx = paid_tx, .home = loop_mailbox(loop_of(o->l))};
    o->op.msg.run = paid_home;
    if (store_submit(server_store(o->l->dw->dps->server), &o->op) == OK) {
        o->l->n_busy++;
    } else {
        owed_wait(o);
    }
}

/* --- the call ---------------------------------------------------------------------------------------- */

static void call_home(struct msg *m)
{
    struct owed *o = CONTAINER_OF(CONTAINER_OF(m, struct egress_rq, msg), struct owed, rq);
    unsigned status = o->rq.status;
    hub_health_note(o->l->dw->dps->health, o->row.hub, &o->rq, step_is_transient(&o->rq),
                    loop_wall_us(loop_of(o->l)));
    o->l->n_busy--;
    if (o->row.what == LEFT_DISABLE && step_is_no_device(&o->rq) && o->may_still_come) {
        o->attempts = MIN(o->attempts, 2u); /* in haste: it shall not be there for long */
        owed_wait(o);
        return;
    }
    if (!step_is_transient(&o->rq)) {
        owed_paid(o, status, status < 300 ? "done" : "not ours any more");
        return;
    }
    metric_add(o->l->dw->w, DPS_M_HUB_RETRIES, 1);
    LOG_WARN("dps.hub_call_failed", L_SPAN("hub", o->row.hub), L_SPAN("registration", o->row.rid),
             L_STR("step", "leftover"), L_U64("status", status), L_U64("attempt", o->attempts + 1),
             L_WHY(&o->rq.info, o->rq.result));
    owed_wait(o);
}

/* "<idScope>/individual/<id>" */
static bool is_individual(struct span owner)
{
    (void)span_cut(&owner, '/');
    return span_is(span_cut(&owner, '/'), "individual");
}

static enum err fill_call(struct owed *o, struct linked_hub *hub)
{
    struct dps_worker *dw = o->l->dw;
    const char *token = NULL;
    enum err e = hublink_token(server_keyring(dw->dps->server), hub,
                               server_token_now_s(dw->dps->server), &token);
    if (e != OK) {
        return e;
    }
    o->token = span_dup(span_str(token));
    hublink_add_url(&o->url, &hub->row, "/provision/devices/");
    percent_add(&o->url, o->row.device_id);
    buf_add_str(&o->url, "?api-version=" SERVER_ADMIN_VERSION);
    if (o->row.what == LEFT_DELETE) {
        buf_add_str(&o->url, "&owner=");
        percent_add(&o->url, o->row.owner);
        buf_addf(&o->url, "&sequence=%lld", (long long)o->row.sequence);
    } else {
        buf_addf(&o->body, "{\"operationId\":\"left-%lld\",\"owner\":\"%.*s\",\"sequence\":%lld,",
                 (long long)o->row.id, SPAN_ARG(o->row.owner), (long long)o->row.sequence);
        bool is_revoked = o->row.what == LEFT_DISABLE;
        buf_addf(&o->body, "\"mayAdopt\":%s,\"status\":\"%s\"}",
                 is_revoked || is_individual(o->row.owner) ? "true" : "false",
                 is_revoked ? "disabled" : "thawed");
    }
    buf_add_u8(&o->url, 0);
    e = buf_err(&o->url) != OK ? buf_err(&o->url) : buf_err(&o->body);
    return o->token == NULL ? E_NOMEM : e;
}

/* Looked at before the hub is asked: what it says of a device that is not there is the last word only if nobody was about to make it. */
static enum err look_for_operation(struct owed *o)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(64u << 10);
    struct reg_row row;
    enum err e = sql_reg_get(worker_db(o->l->dw->w), &a, o->row.rid, &row);
    o->may_still_come = e == OK && row.op_open == OP_OPEN;
    return e == E_NOT_FOUND ? OK : e;
}

static void owed_call(struct owed *o)
{
    struct dps_worker *dw = o->l->dw;
    struct snapshot *s = NULL;
    enum err e = o->row.what == LEFT_DISABLE ? look_for_operation(o) : OK;
    e = e == OK ? snapshot_get(dw, &s, NULL) : e;
    struct linked_hub *hub = e == OK ? snapshot_hub(s, o->row.hub) : NULL;
    if (e == OK && hub == NULL) {
        owed_paid(o, 0, "the hub is no longer linked");
        return;
    }
    if (e != OK || (e = fill_call(o, hub)) != OK) {
        owed_wait(o);
        return;
    }
    o->headers[0] = o->token;
    o->headers[1] = "Content-Type: application/json; charset=utf-8";
    o->rq = (struct egress_rq){
        .home = loop_mailbox(loop_of(o->l)),
        .pool = POOL_HUBS,
        .method = o->row.what == LEFT_DELETE ? "DELETE" : "PATCH",
        .url = (const char *)o->url.p,
        .headers = o->headers,
        .n_headers = o->row.what == LEFT_DELETE ? 1 : 2,
        .body = buf_span(&o->body),
        .timeout_ms = dps_conf_of(dw)->hub_timeout_ms,
    };
    o->rq.msg.run = call_home;
    if (server_egress_send(dw->dps->server, &o->rq) != OK) {
        owed_wait(o);
        return;
    }
    metric_add(dw->w, DPS_M_HUB_CALLS, 1);
    o->l->n_busy++;
}

/* --- looking ----------------------------------------------------------------------------------------- */

static struct owed *owed_new(struct leftover *l, const struct left_row *row)
{
    struct owed *o = NEW(struct owed);
    if (o == NULL) {
        return NULL;
    }
    o->l = l;
    o->arena = (struct arena)ARENA_INIT(8u << 10);
    o->url = (struct buf)BUF_INIT(4096);
    o->body = (struct buf)BUF_INIT(4096);
    o->row = *row;
    o->row.rid = arena_span(&o->arena, row->rid);
    o->row.hub = arena_span(&o->arena, row->hub);
    o->row.device_id = arena_span(&o->arena, row->device_id);
    o->row.owner = arena_span(&o->arena, row->owner);
    if (o->row.rid.p == NULL || o->row.hub.p == NULL || o->row.device_id.p == NULL ||
        o->row.owner.p == NULL) {
        arena_done(&o->arena);
        free(o);
        return NULL;
    }
    list_add_tail(&l->all, &o->link);
    l->n++;
    return o;
}

static bool is_known(const struct leftover *l, int64_t id)
{
    LIST_EACH (n, &l->all) {
        if (LIST_OF(n, struct owed, link)->row.id == id) {
            return true;
        }
    }
    return false;
}

struct look {
    struct leftover *l;
    size_t seen;
};

/* E_LIMIT: enough in memory; the next look goes on here. */
static enum err look_row(void *arg, const struct left_row *row)
{
    struct look *k = arg;
    struct leftover *l = k->l;
    if (driver_owner(l->dw->dps->server, row->rid) == worker_index(l->dw->w) &&
        !is_known(l, row->id)) {
        if (l->n >= LEFTOVERS) {
            return E_LIMIT;
        }
        if (owed_new(l, row) == NULL) {
            return E_NOMEM;
        }
    }
    k->seen++;
    l->cursor = row->id;
    return OK;
}

static void look_run(struct timer *t)
{
    struct leftover *l = CONTAINER_OF(t, struct leftover, sweep);
    struct look k = {l, 0};
    if (l->is_draining) {
        return;
    }
    enum err e = sql_left_page(worker_db(l->dw->w), l->cursor, LEFTOVER_PAGE, look_row, &k);
    if (e != OK && e != E_LIMIT) {
        LOG_WARN("dps.sweep_failed", L_ERR(e));
    }
    bool is_full = e == OK && k.seen == LEFTOVER_PAGE;
    if (e == OK && !is_full) {
        l->cursor = 0;
    }
    timer_set(loop_of(l), &l->sweep, is_full ? LOOK_SOON_MS : DRIVER_SWEEP_MS, look_run);
    LIST_EACH_SAFE (n, next, &l->all) {
        struct owed *o = LIST_OF(n, struct owed, link);
        if (o->token == NULL && o->attempts == 0 && o->op.tx == NULL) {
            owed_call(o); /* taken in just now */
        }
    }
}

void leftover_look(struct dps_worker *dw)
{
    struct leftover *l = dw->leftover;
    if (!l->is_draining) {
        timer_set(loop_of(l), &l->sweep, LOOK_SOON_MS, look_run);
    }
}

struct hint {
    struct msg msg;
    struct dps_worker *dw;
};

static void hint_arrive(struct msg *m)
{
    struct hint *h = CONTAINER_OF(m, struct hint, msg);
    leftover_look(h->dw);
    free(h);
}

void leftover_post(struct dps_worker *dw, struct span fold)
{
    struct server *s = dw->dps->server;
    struct worker *w = server_worker(s, driver_owner(s, fold));
    if (w == dw->w) {
        leftover_look(dw);
        return;
    }
    struct hint *h = NEW(struct hint);
    if (h != NULL) { /* else it is found at the next look */
        h->dw = dps_worker_of(w);
        h->msg.run = hint_arrive;
        loop_post(worker_loop(w), &h->msg);
    }
}

/* --- life ------------------------------------------------------------------------------------------------ */

enum err leftover_new(struct dps_worker *dw, struct leftover **ret)
{
    struct leftover *l = NEW(struct leftover);
    if (l == NULL) {
        return E_NOMEM;
    }
    l->dw = dw;
    list_init(&l->all);
    *ret = l;
    return OK;
}

void leftover_start(struct leftover *l)
{
    timer_set(loop_of(l), &l->sweep, 0, look_run);
}

void leftover_drain(struct leftover *l)
{
    l->is_draining = true;
    timer_stop(loop_of(l), &l->sweep);
    LIST_EACH_SAFE (n, next, &l->all) {
        struct owed *o = LIST_OF(n, struct owed, link);
        if (timer_is_set(&o->retry)) {
            owed_end(o); /* the others come home first */
        }
    }
}

bool leftover_is_busy(const struct leftover *l)
{
    return l->n_busy != 0;
}

void leftover_free(struct leftover *l)
{
    free(l);
}
