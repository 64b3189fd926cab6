/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate that the DPS issues for the hub: asked for, tried, kept, renewed. */
#include <stdlib.h>

#include "agent/agent.h"
#include "base/clock.h"
#include "base/log.h"

#define RENEW_WAIT_MS 30000u
#define RENEW_WAIT_MAX_MS 3600000u

void agent_credential_load(struct agent *a)
{
    struct err_info info = {0};
    enum err e = credential_load(a->conf->identity_dir, &a->cred, &info);
    if (e != OK && e != E_NOT_FOUND) {
        LOG_WARN("agent.certificate_damaged",
                 L_WHY(&info, e)); /* the hub's refusal leads to another */
    }
    a->use = a->cred.slot != 0 ? USE_CURRENT : USE_FACTORY;
}

bool agent_credential_ask(struct agent *a, struct buf *csr)
{
    struct err_info info = {0};
    if (!a->conf->certificate) {
        return false;
    }
    credential_done(&a->candidate); /* its slot is written anew */
    enum err e = credential_begin(a->conf->identity_dir, a->id.registration_id, csr, &info);
    if (e != OK) {
        LOG_WARN("agent.certificate_not_asked", L_ERR(e), L_WHY(&info, e));
    }
    return e == OK;
}

bool agent_credential_take(struct agent *a, struct span chain_pem)
{
    struct err_info info = {0};
    enum err e = chain_pem.n != 0
                     ? credential_store(a->conf->identity_dir, chain_pem, &a->candidate, &info)
                     : E_NOT_FOUND;
    a->use = a->cred.slot != 0 ? USE_CURRENT : USE_FACTORY;
    if (e == OK) {
        a->use = USE_CANDIDATE;
        LOG_INFO("agent.certificate_issued", L_STR("registration", a->id.registration_id),
                 L_I64("days", (a->candidate.not_after_us - a->candidate.issued_us) / 86400000000));
    } else if (e != E_NOT_FOUND) {
        LOG_WARN("agent.certificate_not_stored", L_ERR(e), L_WHY(&info, e));
    }
    return e == OK;
}

const struct identity *agent_hub_identity(struct agent *a)
{
    const struct credential *c = a->use == USE_CANDIDATE ? &a->candidate
                                 : a->use == USE_CURRENT ? &a->cred
                                                         : NULL;
    if (c == NULL) {
        return &a->id;
    }
    a->hub_id = a->id; /* borrows all texts */
    mem_wipe(&a->hub_id.key, sizeof(a->hub_id.key));
    a->hub_id.kind = ATTEST_X509;
    a->hub_id.tpm = NULL;
    a->hub_id.cert_chain_file = c->cert_chain_file;
    a->hub_id.key_file = c->key_file;
    return &a->hub_id;
}

void agent_credential_worked(struct agent *a)
{
    struct err_info info = {0};
    a->renew_wait_ms = 0;
    if (a->use != USE_CANDIDATE) {
        return;
    }
    enum err e = credential_keep(a->conf->identity_dir, &a->candidate, &info);
    if (e != OK) {
        LOG_WARN("agent.certificate_not_stored", L_ERR(e), L_WHY(&info, e));
        return; /* it serves until the next start, which asks for another */
    }
    credential_done(&a->cred);
    a->cred = a->candidate;
    a->candidate = (struct credential){.slot = 0};
    a->use = USE_CURRENT;
}

bool agent_credential_refused(struct agent *a)
{
    LOG_WARN("agent.credential_refused", L_STR("hub", a->at.hub),
             L_STR("credential", a->use == USE_CANDIDATE ? "new certificate"
                                 : a->use == USE_CURRENT ? "certificate"
                                                         : "identity"));
    if (a->use == USE_CANDIDATE) {
        credential_done(&a->candidate);
        a->use = a->cred.slot != 0 ? USE_CURRENT : USE_FACTORY;
        return true;
    }
    if (a->use == USE_CURRENT) {
        a->use = USE_FACTORY;
        return true;
    }
    a->use = a->cred.slot != 0 ? USE_CURRENT : USE_FACTORY; /* for the next round */
    return false;
}

bool agent_renewal_is_due(const struct agent *a)
{
    const struct credential *c = &a->cred;
    if (!a->conf->certificate || c->slot == 0 || a->use != USE_CURRENT ||
        clock_mono_ms(clock_system()) < a->renew_ms) {
        return false;
    }
    int64_t life_us = c->not_after_us - c->issued_us;
    return clock_wall_us(clock_system()) >=
           c->issued_us + life_us / 100 * (int64_t)a->conf->renew_at;
}

void agent_renewal_failed(struct agent *a)
{
    a->renew_wait_ms =
        a->renew_wait_ms == 0 ? RENEW_WAIT_MS : MIN(2 * a->renew_wait_ms, RENEW_WAIT_MAX_MS);
    a->renew_ms =
        clock_mono_ms(clock_system()) + a->renew_wait_ms / 2 + random_below(a->renew_wait_ms);
    LOG_WARN("agent.renewal_failed", L_STR("registration", a->id.registration_id),
             L_U64("next_ms", a->renew_ms - clock_mono_ms(clock_system())));
}

void agent_credential_done(struct agent *a)
{
    credential_done(&a->cred);
    credential_done(&a->candidate);
}
