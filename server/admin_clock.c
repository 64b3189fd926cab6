/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /admin/clock: does this instance trust its wall clock, and the administrator's word that it may (threat E6). Until then nothing
 * is destroyed by time.
 */
#include "server/admin.h"
#include "server/server_int.h"

static void answer_clock(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(256);
    struct server *s = worker_of_rq(rq)->s;
    char now[TIME_ISO_SIZE], floor[TIME_ISO_SIZE];
    time_iso7(clock_wall_us(s->clock), now);
    time_iso7(atomic_load(&s->token_floor_s) * 1000000, floor);
    buf_addf(&b, "{\"now\":\"%s\",\"isSteady\":%s,\"tokenFloor\":\"%s\"}", now,
             server_clock_is_steady(s) ? "true" : "false", floor);
    if (buf_err(&b) != OK) {
        admin_refuse(rq, buf_err(&b), NULL);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
}

/* Nothing to write but the audit line. */
static enum err tx_accept(struct store_tx *tx UNUSED, struct admin_op *op UNUSED)
{
    return OK;
}

static void answer_accept(struct http_rq *rq, struct admin_op *op)
{
    clock_watch_accept(op->w->s);
    admin_answer_none(rq);
}

static void accept_clock(struct http_rq *rq)
{
    struct admin_op *op = admin_op_new(rq, sizeof(*op));
    if (op != NULL) {
        op->tx = tx_accept;
        op->answer = answer_accept;
        admin_submit(rq, op);
    }
}

const struct http_route admin_clock_routes[] = {
    /* clang-format off */
    { HTTP_GET,  "/admin/clock",        AUTH_ADMIN, 0, 0, answer_clock },
    { HTTP_POST, "/admin/clock/accept", AUTH_ADMIN, 0, 0, accept_clock },
    /* clang-format on */
};
const size_t n_admin_clock_routes = ARRAY_LEN(admin_clock_routes);
