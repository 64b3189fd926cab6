/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/admission.h"

#include "base/text.h"
#include "server/metrics.h"

/* Guessing at one device's credential from one address: ten at once, then one in five seconds. An attacker elsewhere does not
 * slow the device itself. */
static const struct throttle_rule failed_rule = {THROTTLE_FAILED, 10, 5000};

static struct throttle_rule rule_of(const struct dps_worker *dw, enum throttle_what what)
{
    const struct dps_conf *c = dps_conf_of(dw);
    if (what == THROTTLE_REGISTER || what == THROTTLE_CHALLENGE) {
        return (struct throttle_rule){what, c->register_burst, 1000};
    }
    uint64_t n = c->poll_burst;
    return (struct throttle_rule){what, n, n != 0 ? 10000 / n : 0};
}

struct span admission_fold(struct span rid, char *dst)
{
    ASSERT(rid.n <= LIMIT_ID);
    memcpy(dst, rid.p, rid.n);
    dst[rid.n] = '\0';
    text_lower(dst, rid.n);
    return span_of(dst, rid.n);
}

enum rule admission_rate(struct dps_worker *dw, enum throttle_what what, struct span fold,
                         struct verdict *v)
{
    struct throttle_rule rule = rule_of(dw, what);
    if (throttle_take(dw->throttle, &rule, fold, SPAN_NONE, loop_now_ms(worker_loop(dw->w)))) {
        return RULE_OK;
    }
    metric_add(dw->w, DPS_M_THROTTLED, 1);
    verdict_fact_u64(v, "burst", rule.burst);
    verdict_fact_u64(v, "each", rule.each_ms);
    return verdict_refuse(v, RULE_THROTTLED, "this device asks too often");
}

static enum rule may_try(struct dps_worker *dw, const struct device_ask *ask, struct verdict *v)
{
    if (throttle_may(dw->throttle, &failed_rule, ask->fold, ask->peer,
                     loop_now_ms(worker_loop(dw->w)))) {
        return RULE_OK;
    }
    metric_add(dw->w, DPS_M_THROTTLED, 1);
    verdict_fact(v, "peer", ask->peer);
    verdict_fact_u64(v, "wait", failed_rule.each_ms / 1000);
    return verdict_refuse(v, RULE_THROTTLED_FAILURES,
                          "too many failed attempts of this device from this address");
}

static void note_failure(struct dps_worker *dw, const struct device_ask *ask)
{
    metric_add(dw->w, DPS_M_REG_REFUSED, 1);
    (void)throttle_take(dw->throttle, &failed_rule, ask->fold, ask->peer,
                        loop_now_ms(worker_loop(dw->w)));
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
    return r != RULE_OK ? r : admission_rate(dw, ask->what, ask->fold, v);
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
