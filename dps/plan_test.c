/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix of docs/protocol/dps-device.md 9 without a server: dps-device:D34. */
#include "dps/plan.h"
#include "tests/unit.h"

#define MIGRATE (REG_F_MAY_MOVE | REG_F_MIGRATES)
#define RESET REG_F_MAY_MOVE
#define NEVER 0u
#define MOVE (STEP_PROBE | STEP_FREEZE)

/* A device that is at hub a, once at hub `first`. */
struct row_of {
    const char *name, *hub, *first, *pick;
    unsigned flags;
    bool is_linked, may_stay;
    enum rule rule; /* of the allocation */
    /* wanted */
    enum rule ends;
    const char *to;
    unsigned todo;
    bool reset;
    enum reg_substatus sub;
};

static struct span host(const char *s)
{
    return s != NULL ? span_str(s) : SPAN_NONE;
}

static void check(const struct row_of *r)
{
    struct reg_row row = {.rid = SPAN_LIT("d"),
                          .hub = host(r->hub),
                          .first_hub = host(r->first),
                          .device_id = r->hub != NULL ? SPAN_LIT("d") : SPAN_NONE,
                          .substatus = r->hub != NULL ? SUB_INITIAL : SUB_NONE,
                          .op_flags = r->flags};
    const struct plan_in in = {.pick = host(r->pick),
                               .rule = r->rule,
                               .text = SPAN_LIT("why"),
                               .may_stay = r->may_stay,
                               .is_linked = r->is_linked};
    enum rule ends = plan_make(&row, &in);
    bool ok = ends == r->ends;
    if (ok && ends == RULE_OK) {
        ok = row.status == REG_ASSIGNING && row.op_open == OP_OPEN && span_is(row.op_hub, r->to) &&
             row.op_todo == (r->todo | STEP_CREATE) && row.op_reset == r->reset &&
             row.op_substatus == r->sub && plan_moves(&row) == (r->todo != 0);
    } else if (ok) {
        ok = row.status == REG_FAILED && row.op_open == OP_CLOSED && row.op_todo == 0 &&
             row.error_code == rule_code(ends) && span_eq(row.hub, host(r->hub));
    }
    if (!ok) {
        fail_msg("%s: ended by %u, status %u, at %.*s, todo %u, reset %d, substatus %u", r->name,
                 ends, row.status, SPAN_ARG(row.op_hub), row.op_todo, row.op_reset,
                 row.op_substatus);
    }
}

static void test_matrix(void **state UNUSED)
{
    /* clang-format off */
    static const struct row_of rows[] = {
        { "first", NULL, NULL, "a", MIGRATE, false, false, RULE_OK, RULE_OK, "a", 0, false, SUB_INITIAL },
        { "first, sticky", NULL, NULL, "a", NEVER, false, false, RULE_OK, RULE_OK, "a", 0, false, SUB_INITIAL },
        { "no hub for it", NULL, NULL, NULL, MIGRATE, false, true, RULE_HUB_NONE, RULE_HUB_NONE, NULL, 0, false, 0 },
        { "same, migrate", "a", "a", "A", MIGRATE, true, false, RULE_OK, RULE_OK, "a", 0, false, SUB_INITIAL },
        { "same, reset", "a", "a", "a", RESET, true, false, RULE_OK, RULE_OK, "a", 0, true, SUB_INITIAL },
        { "same, never", "a", "a", "a", NEVER, true, false, RULE_OK, RULE_OK, "a", 0, false, SUB_INITIAL },
        { "another, migrate", "a", "a", "b", MIGRATE, true, false, RULE_OK, RULE_OK, "b", MOVE | STEP_TWIN, true, SUB_MIGRATED },
        { "another, reset", "a", "a", "b", RESET, true, false, RULE_OK, RULE_OK, "b", MOVE, true, SUB_RESET },
        { "another, never", "a", "a", "b", NEVER, true, false, RULE_OK, RULE_OK, "a", 0, false, SUB_INITIAL },
        { "back, migrate", "b", "a", "a", MIGRATE, true, false, RULE_OK, RULE_OK, "a", MOVE | STEP_TWIN, true, SUB_BACK },
        { "back, reset", "b", "a", "a", RESET, true, false, RULE_OK, RULE_OK, "a", MOVE, true, SUB_BACK },
        { "no other hub: it stays", "a", "a", NULL, MIGRATE, true, true, RULE_HUB_NONE, RULE_OK, "a", 0, false, SUB_INITIAL },
        { "webhook failed", "a", "a", NULL, MIGRATE, true, false, RULE_HUB_NONE, RULE_HUB_NONE, NULL, 0, false, 0 },
        { "webhook failed, never", "a", "a", NULL, NEVER, true, false, RULE_HUB_NONE, RULE_HUB_NONE, NULL, 0, false, 0 },
        { "unlinked, migrate", "a", "a", "b", MIGRATE, false, false, RULE_OK, RULE_OK, "b", 0, false, SUB_RESET },
        { "unlinked, back", "b", "a", "a", RESET, false, false, RULE_OK, RULE_OK, "a", 0, false, SUB_BACK },
        { "unlinked, never", "a", "a", "b", NEVER, false, false, RULE_OK, RULE_HUB_UNLINKED, NULL, 0, false, 0 },
        { "unlinked, no other", "a", "a", NULL, MIGRATE, false, true, RULE_HUB_NONE, RULE_HUB_NONE, NULL, 0, false, 0 },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check(&rows[i]);
    }
}

/* A move that failed before its end was settled: whatever comes next, the old hub is not forgotten. */
static void test_unsettled(void **state UNUSED)
{
    struct reg_row row = {.rid = SPAN_LIT("d"),
                          .hub = SPAN_LIT("a"),
                          .first_hub = SPAN_LIT("a"),
                          .device_id = SPAN_LIT("d"),
                          .op_from = SPAN_LIT("a"),
                          .op_flags = MIGRATE};
    struct plan_in in = {.pick = SPAN_LIT("a"), .is_linked = true};
    assert_int_equal(plan_make(&row, &in), RULE_OK);
    assert_int_equal(row.op_todo, STEP_CREATE); /* its PUT thaws */
    assert_false(plan_moves(&row));
    assert_span(row.op_from, SPAN_LIT("a"));
    plan_end(&row, REG_DISABLED, RULE_OK, SPAN_NONE);
    assert_int_equal(row.op_open, OP_SETTLING);
    assert_int_equal(row.op_todo, STEP_THAW);
    in.rule = RULE_HUB_NONE;
    in.pick = SPAN_NONE;
    assert_int_equal(plan_make(&row, &in), RULE_HUB_NONE);
    assert_int_equal(row.op_open, OP_SETTLING);
    in.is_linked = false;
    assert_int_equal(plan_make(&row, &in), RULE_HUB_NONE);
    assert_int_equal(row.op_open, OP_CLOSED); /* nothing can be said to it any more */
}

/* An individual enrollment takes the record over and has another name for the device. */
static void test_other_name(void **state UNUSED)
{
    struct reg_row row = {.rid = SPAN_LIT("d"),
                          .hub = SPAN_LIT("a"),
                          .first_hub = SPAN_LIT("a"),
                          .device_id = SPAN_LIT("d"),
                          .op_flags = MIGRATE};
    struct plan_in in = {.pick = SPAN_LIT("a"), .is_linked = true, .device_id = SPAN_LIT("pump")};
    assert_int_equal(plan_make(&row, &in), RULE_OK);
    assert_span(row.op_device_id, SPAN_LIT("d"));
    row.op_flags |= REG_F_ADOPTED;
    assert_int_equal(plan_make(&row, &in), RULE_OK);
    assert_span(row.op_device_id, SPAN_LIT("pump"));
    assert_span(row.device_id, SPAN_LIT("d"));
    assert_true(plan_moves(&row));
    assert_int_equal(row.op_substatus, SUB_MIGRATED);
}

/* What may give a move up is behind it before anything is made at the new hub (threat C6). */
static void test_left(void **state UNUSED)
{
    const unsigned all = STEP_ISSUE | MOVE | STEP_TWIN | STEP_CREATE;
    assert_int_equal(plan_left(all, STEP_ISSUE), MOVE | STEP_TWIN | STEP_CREATE);
    assert_int_equal(plan_left(all, STEP_FREEZE), STEP_TWIN | STEP_CREATE);
    assert_int_equal(plan_left(all, STEP_TWIN), STEP_CREATE);
    assert_int_equal(plan_left(MOVE | STEP_CREATE, STEP_FREEZE), STEP_CREATE); /* a reset */
    assert_int_equal(plan_left(STEP_CREATE | STEP_THAW, STEP_CREATE), STEP_THAW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_unsettled),
        cmocka_unit_test(test_other_name),
        cmocka_unit_test(test_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
