/* SPDX-License-Identifier: Apache-2.0 */
/* POST /admin/devices/{id}/revoke and GET /admin/devices/{id}/revocation: docs/protocol/dps-service-rest.md C8. */
#include "dps/http.h"
#include "dps/leftover.h"
#include "dps/revocation.h"
#include "server/admin.h"

#define ANSWER_MAX (16u << 10)

struct revoke_op {
    struct admin_op op;
    struct dps_worker *dw;
    struct revocation_wish wish;
};

static struct revoke_op *as_revoke_op(struct admin_op *op)
{
    return CONTAINER_OF(op, struct revoke_op, op);
}

static void answer_state(struct http_rq *rq, struct dps_worker *dw, struct span fold)
{
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    enum err e = revocation_write(worker_db(dw->w), fold, loop_wall_us(worker_loop(dw->w)), &b);
    if (e != OK) {
        admin_refuse(rq, e, NULL);
    } else {
        admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
    }
}

static enum err revoke_tx(struct store_tx *tx, struct admin_op *op)
{
    struct revoke_op *o = as_revoke_op(op);
    return revocation_tx(tx, o->dw->dps, &o->wish, &op->info);
}

/* On disk: the hubs hear it now, not at the next look around. */
static void revoke_answer(struct http_rq *rq, struct admin_op *op)
{
    struct revoke_op *o = as_revoke_op(op);
    answer_state(rq, o->dw, o->wish.made.row.fold);
}

static void revoke_done(struct admin_op *op)
{
    struct revoke_op *o = as_revoke_op(op);
    if (op->op.result == OK) {
        leftover_post(o->dw, o->wish.made.row.fold); /* also when the client has gone */
    }
    revocation_wish_done(&o->wish);
}

void http_revoke(struct http_rq *rq)
{
    static const char *const none[] = {NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct revoke_op *o = admin_op_new(rq, sizeof(*o));
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, none, true, &body)) {
        return;
    }
    o->dw = dps_worker_of(worker_of_rq(rq));
    enum err e = revocation_read(o->dw->dps, http_rq_param(rq, 0), &o->wish, &info);
    if (e != OK) {
        revocation_wish_done(&o->wish);
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->op.done = revoke_done;
    o->op.tx = revoke_tx;
    o->op.answer = revoke_answer;
    o->op.is_urgent = true; /* must still work on a full disk */
    admin_submit(rq, &o->op);
}

void http_revocation(struct http_rq *rq)
{
    struct err_info info = {0};
    struct span fold;
    enum err e = enrollment_fold(http_rq_arena(rq), http_rq_param(rq, 0), &fold, &info);
    if (e != OK) {
        admin_refuse(rq, e, &info);
        return;
    }
    answer_state(rq, dps_worker_of(worker_of_rq(rq)), fold);
}
