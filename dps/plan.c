/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/plan.h"

void plan_end(struct reg_row *row, enum reg_status status, enum rule rule, struct span text)
{
    row->status = status;
    row->error_code = status == REG_FAILED ? rule_code(rule) : 0;
    row->error_text = text;
    row->op_open = row->op_from.n != 0 ? OP_SETTLING : OP_CLOSED;
    row->op_todo = row->op_from.n != 0 ? STEP_THAW : 0;
}

bool plan_moves(const struct reg_row *row)
{
    return row->op_from.n != 0 && row->op_hub.n != 0 &&
           (!span_eq_nocase(row->op_from, row->op_hub) ||
            !span_eq(row->device_id, row->op_device_id));
}

static struct span device_id_of(const struct reg_row *row, const struct plan_in *in)
{
    return row->device_id.n != 0 && (row->op_flags & REG_F_ADOPTED) == 0 ? row->device_id
           : in->device_id.n != 0                                        ? in->device_id
                                                                         : row->rid;
}

static void make_move(struct reg_row *row, struct span to)
{
    bool migrates = (row->op_flags & REG_F_MIGRATES) != 0;
    row->op_hub = to;
    row->op_from = row->hub;
    row->op_reset = true; /* nothing that an earlier stay left there counts */
    row->op_todo |= STEP_PROBE | STEP_FREEZE | (migrates ? STEP_TWIN : 0u);
    row->op_substatus = span_eq_nocase(row->first_hub, to) && !span_eq_nocase(row->hub, to)
                            ? SUB_BACK
                        : migrates ? SUB_MIGRATED
                                   : SUB_RESET;
}

unsigned plan_left(unsigned todo, unsigned done)
{
    return todo & ~(done | (done - 1)); /* the bits are in the order of the work */
}

enum rule plan_make(struct reg_row *row, const struct plan_in *in)
{
    bool has_hub = row->hub.n != 0;
    bool may_move = (row->op_flags & REG_F_MAY_MOVE) != 0;
    bool stays =
        has_hub && in->is_linked &&
        (!may_move || (in->pick.n == 0 && in->may_stay) || span_eq_nocase(in->pick, row->hub));
    if (has_hub && !in->is_linked) {
        row->op_from = SPAN_NONE; /* nothing more can be said to that hub */
    }
    if (in->rule != RULE_OK && !(stays && in->may_stay)) {
        plan_end(row, REG_FAILED, in->rule, in->text);
        return in->rule;
    }
    if (has_hub && !in->is_linked && !may_move) {
        plan_end(
            row, REG_FAILED, RULE_HUB_UNLINKED,
            SPAN_LIT(
                "the assigned hub is no longer linked, and the enrollment forbids another one"));
        return RULE_HUB_UNLINKED;
    }
    row->status = REG_ASSIGNING;
    row->op_open = OP_OPEN;
    row->op_todo = (row->op_todo & STEP_ISSUE) | STEP_CREATE;
    row->op_device_id = device_id_of(row, in);
    row->op_reset = stays && may_move && (row->op_flags & REG_F_MIGRATES) == 0;
    row->op_hub = stays ? row->hub : in->pick;
    row->op_substatus = row->substatus != SUB_NONE && stays ? row->substatus : SUB_INITIAL;
    if (has_hub && !in->is_linked) {
        row->op_substatus = span_eq_nocase(row->first_hub, in->pick) ? SUB_BACK : SUB_RESET;
    } else if (has_hub && (!stays || !span_eq(row->device_id, row->op_device_id))) {
        make_move(row, row->op_hub);
    }
    return RULE_OK;
}
