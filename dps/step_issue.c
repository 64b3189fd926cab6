/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Step ISSUE: the certificate for the request that came with the registration.
 *
 *   begin: enrollment's profile, issuing CA -> signer pool: request checked, certificate signed -> home: log line and chain, one commit
 *
 * A certificate is in the log before anybody hears of it: both are one transaction. Killed between signing and that commit, the step is
 * begun again and signs anew; what was signed first never left the process.
 *
 * What is wrong with the request, or with the CA as it is configured, ends the registration: the device must hear it. A key that cannot
 * be reached now (token or TPM away) is asked ISSUE_TRIES times, over about a minute; then the registration ends, and the device's next
 * one asks again.
 * Spec        docs/protocol/dps-device.md 10; threat C8.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/driver_int.h"
#include "dps/issuance.h"
#include "server/metrics.h"

#define ISSUE_TRIES 8u
#define TEXT_MAX 256u

struct work {
    struct signer_job job;
    struct job *j;
    struct arena arena; /* profile, csr, rid */
    struct issue_profile profile;
    struct issuer *ca;
    struct span csr, rid;
    int64_t now_us;
    enum rule rule; /* by which it was refused; RULE_OK: job's error is no refusal */
};

/* What the commit needs; in the job's arena. */
struct issued {
    struct issued_row row;
    struct span chain;
};

static void work_free(struct work *w)
{
    issuer_unref(w->ca);
    arena_done(&w->arena);
    free(w);
}

static inline void work_free_p(struct work **w)
{
    if (*w != NULL) {
        work_free(*w);
    }
}

/* --- on a thread of the pool --------------------------------------------------------------------------- */

static enum err issue_work(struct signer_job *job, struct err_info *info)
{
    AUTO(csr_free_p) struct csr *csr = NULL;
    struct work *w = CONTAINER_OF(job, struct work, job);
    enum err e = csr_from_der_in(job->lib, w->csr, &csr, info);
    if (e == OK) {
        e = issuance_check(&w->profile, csr, w->rid, info);
    }
    if (e != OK) {
        w->rule = err_class(e) == ERR_T_PEER ? RULE_CSR : RULE_OK;
        return e;
    }
    e = issuance_sign(&w->profile, w->ca, csr, w->csr, w->rid, w->now_us, &job->cert, info);
    if (e == E_CERT) {
        w->rule = RULE_CSR; /* the profile cannot be given to this id or key */
    } else if (e == E_EXPIRED || e == E_CONFIG || e == E_PERM || e == E_CORRUPT) {
        w->rule = RULE_ISSUER;
    }
    return e;
}

/* --- home ------------------------------------------------------------------------------------------------ */

static bool keep_text(struct job *j, struct buf *b, struct span *ret)
{
    *ret = buf_err(b) == OK ? arena_span(&j->arena, buf_span(b)) : SPAN_NONE;
    buf_reset(b);
    return ret->p != NULL;
}

static struct issued *issued_new(struct work *w, const struct cert *leaf)
{
    AUTO(buf_done) struct buf b = BUF_INIT((LIMIT_CHAIN_CERTS + 1) * LIMIT_CERT_DER);
    struct job *j = w->j;
    struct issued *is = arena_new(&j->arena, struct issued);
    struct span digest = span_of(cert_sha256(leaf), CERT_SHA256);
    if (is == NULL) {
        return NULL;
    }
    is->row = (struct issued_row){
        .not_before_us = cert_not_before_us(leaf),
        .not_after_us = cert_not_after_us(leaf),
        .sha256 = arena_span(&j->arena, digest),
        .ca = arena_span(&j->arena, issuer_name(w->ca)),
        .fold = j->row.fold,
        .op_id = j->row.op_id,
    };
    bool ok = is->row.sha256.p != NULL && is->row.ca.p != NULL;
    cert_add_serial_hex(leaf, &b);
    ok = keep_text(j, &b, &is->row.serial) && ok;
    cert_add_subject(leaf, &b);
    ok = keep_text(j, &b, &is->row.subject) && ok;
    buf_add(&b, cert_der(leaf));
    buf_add(&b, issuer_chain(w->ca));
    return keep_text(j, &b, &is->chain) && ok ? is : NULL;
}

static enum err issue_tx(struct store_tx *tx, struct arena *a UNUSED, void *arg,
                         struct reg_row *row, struct reg_more *more)
{
    const struct issued *is = ((struct job *)arg)->own;
    struct issued_row line = is->row;
    line.at_us = tx->now_us;
    more->chain = is->chain;
    row->op_cred = is->row.sha256;
    row->op_flags |= REG_F_ISSUED;
    return sql_issued_add(tx->db, &line);
}

static void refuse(struct job *j, enum rule rule, const struct err_info *info, enum err e)
{
    char *text = arena_str(&j->arena, span_str(err_why(info, e)));
    LOG_WARN("dps.certificate_refused", L_SPAN("registration", j->row.rid),
             L_SPAN("operation", j->row.op_id), L_STR("rule", rule_def(rule)->word),
             L_WHY(info, e));
    metric_add(job_worker(j)->w, DPS_M_CERTS_REFUSED, 1);
    /* Of the service's own trouble a device hears no detail. */
    job_fail(j, rule,
             rule == RULE_ISSUER ? "the certificate authority cannot sign: register again later"
             : text != NULL      ? text
                                 : "the certificate request is refused");
}

static void failed(struct work *w, enum err e, const struct err_info *info)
{
    struct job *j = w->j;
    if (w->rule != RULE_OK) {
        refuse(j, w->rule, info, e);
        return;
    }
    if (e != E_DRAINING) {
        LOG_WARN("dps.certificate_delayed", L_SPAN("registration", j->row.rid),
                 L_SPAN("ca", w->profile.ca), L_U64("attempt", j->attempts + 1), L_ERR(e),
                 L_WHY(info, e));
    }
    if (e != E_DRAINING && j->attempts + 1 >= ISSUE_TRIES) {
        refuse(j, RULE_ISSUER, info, e);
        return;
    }
    job_wait(j);
}

static void issue_home(struct msg *m)
{
    AUTO(work_free_p)
    struct work *w = CONTAINER_OF(CONTAINER_OF(m, struct signer_job, done), struct work, job);
    AUTO(cert_free_p) struct cert *leaf = NULL;
    struct err_info info = {0};
    struct job *j = w->j;
    job_worker(j)->n_pending--;
    enum err e = signer_finish(&w->job, &leaf, &info);
    if (e == OK && (j->own = issued_new(w, leaf)) == NULL) {
        e = E_NOMEM;
    }
    if (e != OK) {
        failed(w, e, &info);
        return;
    }
    const struct issued_row *r = &((const struct issued *)j->own)->row;
    LOG_INFO("dps.certificate_issued", L_SPAN("registration", j->row.rid),
             L_SPAN("operation", j->row.op_id), L_SPAN("ca", r->ca), L_SPAN("serial", r->serial));
    metric_add(job_worker(j)->w, DPS_M_CERTS_ISSUED, 1);
    job_commit(j, issue_tx);
}

/* --- begin ------------------------------------------------------------------------------------------------- */

/* E_UNSUPPORTED: the enrollment has no policy (any more). */
static enum err work_fill(struct work *w, const struct enr_row *enr, const struct reg_more *more,
                          struct err_info *info)
{
    struct job *j = w->j;
    struct dps_worker *dw = job_worker(j);
    w->rule = RULE_ISSUANCE_POLICY;
    if (enr->issuance.n == 0) {
        return err_set(info, E_UNSUPPORTED, "the enrollment has no certificate issuance policy");
    }
    w->rule = RULE_OK;
    enum err e = issuance_read_text(enr->issuance, &w->arena, &w->profile, info);
    if (e != OK) {
        return e == E_NOMEM ? e : E_CORRUPT;
    }
    w->now_us = loop_wall_us(job_loop(j));
    w->rid = arena_span(&w->arena, j->row.rid);
    w->csr = arena_span(&w->arena, more != NULL ? more->csr : SPAN_NONE);
    if (w->rid.p == NULL || w->csr.p == NULL) {
        return E_NOMEM;
    }
    e = issuer_get(dw->dps, worker_db(dw->w), w->profile.ca, &w->ca, info);
    if (e == E_NOT_FOUND || e == E_STATE || e == E_CORRUPT) {
        w->rule = RULE_ISSUER;
    }
    return e;
}

static enum err work_begin(struct work *w, struct err_info *info)
{
    struct dps_worker *dw = job_worker(w->j);
    struct signer_pool *pool = NULL;
    w->job.work = issue_work;
    w->job.home = loop_mailbox(job_loop(w->j));
    w->job.done.run = issue_home;
    enum err e = issuer_pool(dw, &pool, info);
    if (e == OK && (e = signer_begin(pool, &w->job)) == OK) {
        dw->n_pending++;
    }
    return e;
}

void step_issue(struct job *j)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(JOB_ARENA);
    AUTO(work_free_p) struct work *w = NEW(struct work);
    struct err_info info = {0};
    struct reg_more storage;
    const struct reg_more *more = NULL;
    struct enr_row enr;
    enum err e = job_enrollment(j, &a, &enr);
    if (e == E_NOT_FOUND) {
        job_drop(j); /* and with it its record */
        return;
    }
    if (w == NULL || e != OK) {
        job_wait(j);
        return;
    }
    w->j = j;
    w->arena = (struct arena)ARENA_INIT(JOB_ARENA);
    if ((e = registration_read_more(worker_db(job_worker(j)->w), &a, &j->row, &storage, &more)) ==
            OK &&
        (e = work_fill(w, &enr, more, &info)) == OK && (e = work_begin(w, &info)) == OK) {
        (void)TAKE(w); /* until it is home */
        return;
    }
    failed(w, e, &info);
}
