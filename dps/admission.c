/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/admission.h"

#include "base/clock.h"
#include "base/text.h"
#include "dps/registration.h"
#include "server/metrics.h"

/* Guessing at one device's credential from one address: ten at once, then one in five seconds, ten, twenty, and so on. An attacker
 * elsewhere does not slow the device itself. */
static const struct throttle_rule failed_rule = {THROTTLE_FAILED, 10, 5000, 60000};

static struct throttle_rule rule_of(const struct dps_worker *dw, enum throttle_what what)
{
    const struct dps_conf *c = dps_conf_of(dw);
    if (what == THROTTLE_REGISTER || what == THROTTLE_CHALLENGE) {
        return (struct throttle_rule){what, c->register_burst, 1000, 0};
    }
    uint64_t n = c->poll_burst;
    return (struct throttle_rule){what, n, n != 0 ? 10000 / n : 0, 0};
}

struct span admission_fold(struct span rid, char *dst)
{
    ASSERT(rid.n <= LIMIT_ID);
    memcpy(dst, rid.p, rid.n);
    dst[rid.n] = '\0';
    text_lower(dst, rid.n);
    return span_of(dst, rid.n);
}

static unsigned seconds(uint64_t ms)
{
    return (unsigned)MAX((ms + 999) / 1000, BACKLOG_LEAST_S);
}

enum rule admission_rate(struct dps_worker *dw, enum throttle_what what, struct span fold,
                         struct verdict *v)
{
    struct throttle_rule rule = rule_of(dw, what);
    uint64_t now_ms = loop_now_ms(worker_loop(dw->w));
    if (throttle_take(dw->dps->throttle, &rule, fold, SPAN_NONE, now_ms)) {
        return RULE_OK;
    }
    metric_add(dw->w, DPS_M_THROTTLED, 1);
    v->retry_s = seconds(throttle_wait_ms(dw->dps->throttle, &rule, fold, SPAN_NONE, now_ms));
    verdict_fact_u64(v, "burst", rule.burst);
    verdict_fact_u64(v, "each", rule.each_ms);
    return verdict_refuse(v, RULE_THROTTLED, "this device asks too often");
}

static enum rule may_try(struct dps_worker *dw, const struct device_ask *ask, struct verdict *v)
{
    uint64_t wait_ms = throttle_wait_ms(dw->dps->throttle, &failed_rule, ask->fold, ask->peer,
                                        loop_now_ms(worker_loop(dw->w)));
    if (wait_ms == 0) {
        return RULE_OK;
    }
    v->retry_s = seconds(wait_ms);
    metric_add(dw->w, DPS_M_THROTTLED, 1);
    verdict_fact(v, "peer", ask->peer);
    verdict_fact_u64(v, "wait", v->retry_s);
    return verdict_refuse(v, RULE_THROTTLED_FAILURES,
                          "too many failed attempts of this device from this address");
}

static void note_failure(struct dps_worker *dw, const struct device_ask *ask)
{
    metric_add(dw->w, DPS_M_REG_REFUSED, 1);
    (void)throttle_take(dw->dps->throttle, &failed_rule, ask->fold, ask->peer,
                        loop_now_ms(worker_loop(dw->w)));
}

/* Who waits already is told so again: its intent is stored. */
static bool is_waiting(struct dps_worker *dw, struct arena *a, struct span fold)
{
    struct reg_row row;
    return sql_reg_get(worker_db(dw->w), a, fold, &row) == OK && row.op_open == OP_OPEN;
}

static enum rule check_backlog(struct dps_worker *dw, struct arena *a, struct span fold,
                               struct verdict *v)
{
    uint64_t most = dps_conf_of(dw)->max_backlog, open = backlog_open(&dw->dps->backlog);
    if (most == 0 || open < most || is_waiting(dw, a, fold)) {
        return RULE_OK;
    }
    metric_add(dw->w, DPS_M_THROTTLED, 1);
    v->retry_s = admission_wait_s(dw, SPAN_NONE);
    verdict_fact_u64(v, "open", open);
    return verdict_refuse(v, RULE_BACKLOG, "%llu registrations wait already",
                          (unsigned long long)open);
}

enum rule admission_check(struct dps_worker *dw, struct arena *a, const struct device_ask *ask,
                          struct attested *ret, struct verdict *v)
{
    enum rule r = may_try(dw, ask, v);
    if (r != RULE_OK) {
        return r;
    }
    r = attestation_check(dw, a, ask->rid, ask->fold, ask->cred, ret, v);
    if (verdict_err(v) == E_UNAUTHORIZED) {
        note_failure(dw, ask);
    }
    /* Only the device itself uses up its own rate. */
    if (r == RULE_OK && (r = admission_rate(dw, ask->what, ask->fold, v)) == RULE_OK &&
        ask->what == THROTTLE_REGISTER) {
        r = check_backlog(dw, a, ask->fold, v);
    }
    return r;
}

/* --- how long to wait ------------------------------------------------------------------------------------- */

unsigned admission_wait_s(struct dps_worker *dw, struct span op_id)
{
    uint32_t random;
    random_bytes(&random, sizeof(random));
    return backlog_wait_s(&dw->dps->backlog, registration_begun_us(op_id), random);
}

static void tick(struct timer *t)
{
    struct dps_worker *dw = CONTAINER_OF(t, struct dps_worker, backlog_tick);
    backlog_tick(&dw->dps->backlog);
    timer_set(worker_loop(dw->w), t, 1000, tick);
}

void admission_start(struct dps_worker *dw)
{
    struct loop *l = worker_loop(dw->w);
    int64_t open = 0;
    if (sql_reg_open_count(worker_db(dw->w), &open) == OK && open > 0) {
        backlog_begun(&dw->dps->backlog, (uint64_t)open, loop_wall_us(l) / 1000000);
    }
    timer_set(l, &dw->backlog_tick, 1000, tick);
}

enum rule admission_challenge(struct dps_worker *dw, struct arena *a, const struct device_ask *ask,
                              const struct tpm_show *show, struct enr_row *ret, struct verdict *v)
{
    enum rule r = may_try(dw, ask, v);
    if (r != RULE_OK) {
        return r;
    }
    r = tpm_admits(dw, a, ask->fold, show, ret, v);
    if (verdict_err(v) == E_UNAUTHORIZED || verdict_err(v) == E_DISABLED) {
        note_failure(dw, ask);
    }
    return r != RULE_OK ? r : admission_rate(dw, THROTTLE_CHALLENGE, ask->fold, v);
}
