/* SPDX-License-Identifier: Apache-2.0 */
/* How a registration goes on and ends: all of it on the writer. */
#include <stdlib.h>

#include "base/text.h"
#include "certs/keyring.h"
#include "certs/leaf.h"
#include "dps/hublink.h"
#include "dps/issuance_sql.h"
#include "dps/registration.h"
#include "server/admin.h"

#define OP_ARENA (1u << 20)

static enum err is_linked(struct store_tx *tx, struct arena *a, struct span host, bool *ret)
{
    struct hub_row hub;
    char *fold = arena_str(a, host);
    if (fold == NULL) {
        return E_NOMEM;
    }
    text_lower(fold, host.n);
    enum err e = sql_hub_get(tx->db, a, span_of(fold, host.n), &hub);
    *ret = e == OK;
    return e == E_NOT_FOUND ? OK : e;
}

enum err registration_tx_plan(struct store_tx *tx, struct arena *a, struct reg_row *row,
                              struct plan_in *in, enum rule *ret)
{
    enum err e = row->hub.n != 0 ? is_linked(tx, a, row->hub, &in->is_linked) : OK;
    if (e == OK) {
        *ret = plan_make(row, in);
    }
    return e;
}

/* Has the record gone, or another operation begun, *ret is not open. */
static enum err open_row(struct store_tx *tx, struct arena *a, struct span fold, struct span op_id,
                         struct reg_row *ret)
{
    enum err e = sql_reg_get(tx->db, a, fold, ret);
    if (e == E_NOT_FOUND || (e == OK && (!ret->op_open || !span_eq(ret->op_id, op_id)))) {
        *ret = (struct reg_row){.op_open = OP_CLOSED};
        e = OK;
    }
    return e;
}

static bool has_any(const struct reg_more *m)
{
    return m->payload.n != 0 || m->leaf.n != 0 || m->csr.n != 0 || m->chain.n != 0 ||
           m->twin.n != 0 || m->initial_twin.n != 0 || m->answer.n != 0 || m->tpm_srk.n != 0 ||
           m->tpm_blob.n != 0 || m->tpm_key.n != 0;
}

static enum err put_more(struct store_tx *tx, struct reg_row *row, const struct reg_more *m)
{
    bool had = (row->op_flags & REG_F_MORE) != 0;
    if (has_any(m)) {
        row->op_flags |= REG_F_MORE;
        return sql_more_put(tx->db, row->fold, m);
    }
    row->op_flags &= ~(unsigned)REG_F_MORE;
    return had ? sql_more_del(tx->db, row->fold) : OK;
}

enum err registration_tx_step(struct store_tx *tx, struct arena *out, const struct reg_done *d,
                              struct reg_row *ret)
{
    struct reg_row row;
    struct reg_more more = {.csr_form = 0};
    enum err e = open_row(tx, out, d->fold, d->op_id, &row);
    if (e == OK && (row.op_flags & REG_F_MORE) != 0) {
        e = sql_more_get(tx->db, out, d->fold, &more);
    }
    if (e != OK || row.op_open == OP_CLOSED) {
        *ret = row;
        return e;
    }
    row.op_todo = plan_left(row.op_todo, d->step);
    if ((d->fn != NULL && (e = d->fn(tx, out, d->arg, &row, &more)) != OK) ||
        (e = put_more(tx, &row, &more)) != OK || (e = sql_reg_put(tx->db, &row)) != OK) {
        return e;
    }
    *ret = row;
    return OK;
}

/* What the device's answer does not need goes with the operation. */
static enum err trim_more(struct store_tx *tx, struct arena *a, struct reg_row *row,
                          struct reg_more *ret)
{
    struct reg_more more;
    *ret = (struct reg_more){.csr_form = 0};
    if ((row->op_flags & REG_F_MORE) == 0) {
        return OK;
    }
    enum err e = sql_more_get(tx->db, a, row->fold, &more);
    if (e != OK) {
        return e;
    }
    *ret = (struct reg_more){.csr_form = more.csr_form,
                             .chain = more.chain,
                             .answer = more.answer,
                             .tpm_blob = more.tpm_blob};
    return put_more(tx, row, ret);
}

static enum err owe_deletion(struct store_tx *tx, const struct reg_row *row, struct span owner)
{
    const struct left_row left = {.what = LEFT_DELETE,
                                  .rid = row->fold,
                                  .hub = row->op_from,
                                  .device_id = row->device_id,
                                  .owner = owner,
                                  .sequence = row->updated_us};
    return plan_moves(row) ? sql_left_add(tx->db, &left) : OK;
}

/* The certificate of this operation is told with its end: from now on it is the device's. */
static enum err tell_credential(struct store_tx *tx, const struct reg_row *row,
                                const struct reg_more *more)
{
    struct span rest = more->chain, leaf = cert_cut_der(&rest);
    struct credential_row told;
    int64_t from_s, until_s;
    if (leaf.n == 0) {
        return OK;
    }
    enum err e = leaf_dates(leaf, &from_s, &until_s);
    sha256(leaf, told.sha256);
    told.not_after_us = until_s * 1000000;
    return e != OK ? E_CORRUPT : sql_credential_put(tx->db, row->fold, &told);
}

static enum err assign(struct store_tx *tx, struct arena *a, struct reg_row *row, struct span owner)
{
    struct reg_more more;
    enum err e = owe_deletion(tx, row, owner);
    if (e != OK || (e = trim_more(tx, a, row, &more)) != OK ||
        (e = tell_credential(tx, row, &more)) != OK || (e = admin_tx_next(tx, &row->etag)) != OK) {
        return e;
    }
    row->status = REG_ASSIGNED;
    row->substatus = row->op_substatus;
    row->hub = row->op_hub;
    row->first_hub = row->first_hub.n != 0 ? row->first_hub : row->op_hub;
    row->device_id = row->op_device_id;
    row->error_code = 0;
    row->error_text = SPAN_NONE;
    row->op_open = OP_CLOSED;
    return sql_reg_finish(tx->db, row);
}

/* The failure of a move is told once the device is enabled again, or, when that takes too long, before. */
static enum err fail(struct store_tx *tx, struct arena *a, struct reg_row *row,
                     const struct reg_outcome *o)
{
    bool is_settled = o->is_settled || row->op_from.n == 0;
    struct reg_more more;
    enum err e = OK;
    if (o->rule != RULE_OK) {
        row->error_code = rule_code(o->rule);
        row->error_text = o->text;
    }
    if (is_settled || o->tells_now) {
        row->status = REG_FAILED;
        if ((e = trim_more(tx, a, row, &more)) != OK || (e = admin_tx_next(tx, &row->etag)) != OK) {
            return e;
        }
    }
    if (is_settled) {
        row->op_open = OP_CLOSED;
        return sql_reg_finish(tx->db, row);
    }
    row->op_open = o->tells_now ? OP_SETTLING : row->op_open;
    row->op_todo = STEP_THAW;
    return sql_reg_put(tx->db, row);
}

enum err registration_tx_finish(struct store_tx *tx, struct arena *out, struct span fold,
                                struct span op_id, const struct reg_outcome *o, struct reg_row *ret)
{
    struct reg_row row;
    enum err e = open_row(tx, out, fold, op_id, &row);
    if (e == OK && row.op_open != OP_CLOSED) {
        row.updated_us = MAX(tx->now_us, row.updated_us + 1);
        e = o->is_assigned ? assign(tx, out, &row, o->owner) : fail(tx, out, &row, o);
    }
    if (e == OK) {
        *ret = row;
    }
    return e;
}

/* --- records that go -------------------------------------------------------------------------------- */

struct release {
    struct store_tx *tx;
    struct span owner;
};

/* As long as create was not sent the device is nowhere else: it is enabled again where it was. */
static enum err release_row(void *arg, const struct reg_row *row)
{
    const struct release *r = arg;
    const struct left_row left = {.what = LEFT_ENABLE,
                                  .rid = row->fold,
                                  .hub = row->op_from,
                                  .device_id = row->device_id,
                                  .owner = r->owner,
                                  .sequence = MAX(r->tx->now_us, row->updated_us + 1)};
    return (row->op_todo & (STEP_FREEZE | STEP_TWIN | STEP_THAW)) != 0
               ? sql_left_add(r->tx->db, &left)
               : OK;
}

enum err registration_tx_release(struct store_tx *tx, const struct dps *d,
                                 const struct enr_row *enr, const struct reg_row *row)
{
    AUTO(buf_done) struct buf owner = BUF_INIT(LIMIT_OWNER);
    hublink_add_owner(&owner, d->id_scope, enr, false);
    struct release r = {tx, buf_span(&owner)};
    if (buf_err(&owner) != OK) {
        return buf_err(&owner);
    }
    return row != NULL ? release_row(&r, row) : sql_reg_moving(tx->db, enr->id, release_row, &r);
}

enum err registration_tx_delete(struct store_tx *tx, const struct dps *d, struct span fold,
                                bool has_etag, uint64_t etag)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(OP_ARENA);
    struct reg_row row;
    struct enr_row enr;
    enum err e = sql_reg_get(tx->db, &a, fold, &row);
    if (e != OK) {
        return e;
    }
    if (has_etag && etag != row.etag) {
        return E_ETAG;
    }
    if (row.op_open == OP_OPEN && plan_moves(&row)) {
        return E_EXISTS; /* half at one hub, half at the other: it ends first */
    }
    if (row.op_open != OP_CLOSED && row.op_from.n != 0 &&
        ((e = sql_enr_by_id(tx->db, &a, row.enrollment, &enr)) != OK ||
         (e = registration_tx_release(tx, d, &enr, &row)) != OK)) {
        return e;
    }
    return sql_reg_del(tx->db, fold);
}
