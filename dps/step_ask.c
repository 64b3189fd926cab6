/* SPDX-License-Identifier: Apache-2.0 */
/* The step that asks a webhook for a hub: dps/webhook.h. */
#include <stdlib.h>

#include "base/log.h"
#include "dps/driver_int.h"
#include "dps/webhook.h"
#include "dps/webhook_sign.h"
#include "server/metrics.h"

#define RETRY_MS 150u

/* In the job's arena. */
struct asked {
    struct span url, host, offer;
    uint64_t until_ms;
    unsigned tries, key_version;
    struct webhook_answer answer;
    struct plan_in plan;
};

static uint64_t now_ms(const struct job *j)
{
    return loop_now_ms(job_loop(j));
}

static void fail(struct job *j, enum rule rule, const char *text)
{
    job_fail(j, rule, text != NULL ? text : "custom allocation failed");
}

/* --- the answer ------------------------------------------------------------------------------------ */

static enum err keep_answer(struct store_tx *tx, struct arena *a, void *arg, struct reg_row *row,
                            struct reg_more *more)
{
    struct asked *k = ((struct job *)arg)->ask;
    struct plan_in in = k->plan;
    enum rule rule;
    more->payload = more->leaf = SPAN_NONE;
    more->initial_twin = k->answer.initial_twin;
    more->answer = k->answer.payload;
    return registration_tx_plan(tx, a, row, &in, &rule);
}

static void tell_breaker(struct job *j, const struct asked *k, bool is_good)
{
    switch (breaker_told(job_worker(j)->dps->breakers, k->host, is_good, now_ms(j))) {
    case BREAKER_OPENED:
        metric_add(job_worker(j)->w, DPS_M_WEBHOOK_OPENED, 1);
        LOG_WARN("dps.webhook_left_alone", L_SPAN("host", k->host),
                 L_U64("pause_ms", WEBHOOK_OPEN_MS));
        break;
    case BREAKER_CLOSED:
        LOG_INFO("dps.webhook_back", L_SPAN("host", k->host));
        break;
    case BREAKER_SAME:
        break;
    }
}

static void log_failure(struct job *j, const struct asked *k, const char *why)
{
    metric_add(job_worker(j)->w, DPS_M_WEBHOOK_FAILED, 1);
    LOG_WARN("dps.webhook_failed", L_SPAN("registration", j->row.rid), L_SPAN("host", k->host),
             L_U64("status", j->rq.status), L_U64("tries", k->tries), L_STR("why", why));
}

static void send_again(struct timer *t);

static void no_answer(struct job *j, struct asked *k)
{
    const char *why = err_why(&j->rq.info, j->rq.result);
    if (j->rq.result == E_DRAINING) {
        job_wait(j); /* the next start asks again */
        return;
    }
    uint64_t pause = RETRY_MS / 2 + random_below(RETRY_MS);
    bool is_unheard = j->rq.result == E_NET || j->rq.result == E_TLS;
    if (is_unheard && k->tries < WEBHOOK_TRIES && now_ms(j) + pause < k->until_ms) {
        buf_done(&j->rq.answer);
        timer_set(job_loop(j), &j->retry, pause, send_again);
        return;
    }
    log_failure(j, k, why);
    tell_breaker(j, k, false);
    const char *text = arena_printf(
        &j->arena, "Custom allocation failed: %s",
        j->rq.result == E_TIMEOUT     ? "the webhook did not answer in time"
        : j->rq.result == E_TOO_LARGE ? "the webhook's answer is too large"
        : j->rq.result == E_TLS       ? "no TLS with the webhook, or no trust in its certificate"
                                      : "the webhook cannot be reached");
    fail(j, RULE_WEBHOOK_FAILED, text);
}

static void answered(struct job *j)
{
    struct asked *k = j->ask;
    struct err_info info = {0};
    if (j->rq.result != OK) {
        no_answer(j, k);
        return;
    }
    if (j->rq.status < 200 || j->rq.status > 299) {
        log_failure(j, k, "status");
        tell_breaker(j, k, j->rq.status < 500);
        fail(
            j, RULE_WEBHOOK_FAILED,
            arena_printf(&j->arena, "Custom allocation failed with status code: %u", j->rq.status));
        return;
    }
    tell_breaker(j, k, true);
    enum rule rule =
        webhook_read_answer(buf_span(&j->rq.answer), k->offer, &j->arena, &k->answer, &info);
    if (rule != RULE_OK) {
        log_failure(j, k, err_why(&info, E_ARG));
        fail(j, rule,
             rule == RULE_WEBHOOK_NO_HUB        ? "the webhook named no hub"
             : rule == RULE_WEBHOOK_FOREIGN_HUB ? "the webhook named a hub that it was not offered"
                                                : "the webhook's answer cannot be used");
        return;
    }
    k->plan.pick = k->answer.host;
    job_commit(j, keep_answer);
}

/* --- the question ----------------------------------------------------------------------------------- */

/* Anew for each try: the signature has a time. */
static enum err sign(struct job *j, const struct asked *k)
{
    AUTO(buf_done) struct buf b = BUF_INIT(256);
    enum err e = webhook_sign_add(&b, &job_worker(j)->dps->webhook_key, k->host, k->key_version,
                                  loop_wall_us(job_loop(j)) / 1000000, buf_span(&j->body));
    free(j->header);
    j->header = e == OK ? span_dup(buf_span(&b)) : NULL;
    return e != OK || j->header != NULL ? e : E_NOMEM;
}

static void ask(struct job *j)
{
    struct asked *k = j->ask;
    uint64_t now = now_ms(j);
    enum err e = sign(j, k);
    if (e != OK) {
        job_stuck(j, e);
        return;
    }
    k->tries++;
    metric_add(job_worker(j)->w, DPS_M_WEBHOOK_CALLS, 1);
    job_send(j, POOL_WEBHOOKS, "POST", k->until_ms > now ? k->until_ms - now : 1, answered);
}

static void send_again(struct timer *t)
{
    ask(CONTAINER_OF(t, struct job, retry));
}

/* NULL: the enrollment's webhook may be asked; else why not. */
static const char *may_ask(struct job *j, const struct snapshot *s, struct asked *k, bool *ret_http)
{
    struct webhook_url url;
    if (!webhook_url_read(k->url, &url)) {
        return "Custom allocation failed: the webhook's address cannot be used";
    }
    k->host = url.host;
    *ret_http = url.is_http;
    if (url.is_http && !s->webhook.allow_http) {
        return "Custom allocation failed: http is not allowed by the settings";
    }
    if (!webhook_host_allowed(&s->webhook, url.host)) {
        return "Custom allocation failed: the webhook's host is not among webhook.allowedHosts of "
               "the settings";
    }
    if (!breaker_may(job_worker(j)->dps->breakers, url.host, now_ms(j))) {
        return "Custom allocation failed: the webhook failed too often, and is not asked for a "
               "while";
    }
    return NULL;
}

static enum err fill(struct job *j, const struct snapshot *s, const struct enr_row *enr,
                     const struct reg_more *more, struct asked *k)
{
    AUTO(buf_done) struct buf offer = BUF_INIT(LIMIT_DPS_LINKED_HUBS * (LIMIT_HOST + 1));
    webhook_add_offer(&offer, s, enr);
    k->offer = arena_span(&j->arena, buf_span(&offer));
    k->plan.device_id = enr->device_id.n != 0 ? arena_span(&j->arena, enr->device_id) : SPAN_NONE;
    if (buf_err(&offer) != OK || k->offer.p == NULL ||
        (enr->device_id.n != 0 && k->plan.device_id.p == NULL)) {
        return E_NOMEM;
    }
    enum err e = webhook_add_body(&j->body, enr, &j->row, more, k->offer);
    buf_add(&j->url, k->url);
    buf_add_u8(&j->url, 0);
    return e != OK ? e : buf_err(&j->url);
}

void step_ask(struct job *j)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(JOB_ARENA);
    struct dps_worker *dw = job_worker(j);
    struct reg_more storage = {.csr_form = 0};
    const struct reg_more *more = NULL;
    struct snapshot *s = NULL;
    struct enr_row enr;
    struct asked *k = arena_new(&j->arena, struct asked);
    enum err e = k != NULL ? snapshot_get(dw, &s, NULL) : E_NOMEM;
    /* Not the snapshot's: it has no documents. */
    if (e == OK &&
        (e = sql_enr_by_id(worker_db(dw->w), &a, j->row.enrollment, &enr)) == E_NOT_FOUND) {
        job_drop(j);
        return;
    }
    if (e != OK ||
        (e = registration_read_more(worker_db(dw->w), &a, &j->row, &storage, &more)) != OK ||
        ((e = webhook_url_of(enr.doc, &j->arena, &k->url)) != OK && e != E_NOT_FOUND)) {
        job_stuck(j, e);
        return;
    }
    bool is_http = false;
    const char *why = may_ask(j, s, k, &is_http);
    if (why != NULL) {
        fail(j, RULE_WEBHOOK_FAILED, why);
        return;
    }
    if ((e = fill(j, s, &enr, more != NULL ? more : &storage, k)) != OK) {
        job_stuck(j, e);
        return;
    }
    k->key_version = s->webhook.key_version;
    k->until_ms = now_ms(j) + s->webhook.timeout_s * 1000u;
    j->ask = k;
    j->allow_http = is_http;
    ask(j);
}
