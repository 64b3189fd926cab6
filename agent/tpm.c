/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The unit's TPM as an identity. It is opened for each use: others want it too, and where there is no resource manager it serves one at
 * a time. All of it runs outside of the loop: before a link is opened, and on the thread of a registration.
 */
#include <stdlib.h>

#include "agent/agent.h"
#include "base/log.h"
#include "tpm/chip.h"

_Static_assert(CHIP_MAC == IDENTITY_MAC, "one MAC");

static enum err sign(void *arg, struct span text, uint8_t ret[IDENTITY_MAC], struct err_info *info)
{
    AUTO(chip_free_p) struct chip *c = NULL;
    enum err e = chip_new(arg, &c, info);
    return e != OK ? e : chip_sign(c, text, ret, info);
}

static enum err sign_by(void *arg, struct span blob, struct span text, uint8_t ret[IDENTITY_MAC],
                        struct err_info *info)
{
    AUTO(chip_free_p) struct chip *c = NULL;
    enum err e = chip_new(arg, &c, info);
    return e != OK ? e : chip_sign_by(c, blob, text, ret, info);
}

static enum err keep(void *arg, struct span blob, struct err_info *info)
{
    AUTO(chip_free_p) struct chip *c = NULL;
    enum err e = chip_new(arg, &c, info);
    return e != OK ? e : chip_keep(c, blob, info);
}

enum err agent_tpm_start(struct agent *a, struct err_info *info)
{
    AUTO(chip_free_p) struct chip *c = NULL;
    struct agent_tpm *t = &a->tpm;
    t->ek = (struct buf)BUF_INIT(TPM_PUBLIC_MAX);
    t->srk = (struct buf)BUF_INIT(TPM_PUBLIC_MAX);
    t->cert = (struct buf)BUF_INIT(CHIP_CERT_MAX);
    enum err e = chip_new(a->conf->tpm_tcti, &c, info);
    if (e != OK || (e = chip_keys(c, &t->ek, &t->srk, info)) != OK) {
        return e;
    }
    struct err_info none = {0};
    if ((e = chip_ek_cert(c, &t->cert, &none)) != OK) {
        LOG_DEBUG("agent.tpm_no_certificate", L_WHY(&none, e)); /* not every TPM has one */
    }
    t->face = (struct identity_tpm){.arg = a->conf->tpm_tcti,
                                    .ek = buf_span(&t->ek),
                                    .srk = buf_span(&t->srk),
                                    .ek_cert = buf_span(&t->cert),
                                    .sign = sign,
                                    .sign_by = sign_by,
                                    .keep = keep};
    a->id.tpm = &t->face;
    if (a->id.registration_id != NULL) {
        return OK;
    }
    char rid[TPM_RID_SIZE];
    if ((e = tpm_registration_id(t->face.ek, rid)) != OK) {
        return e;
    }
    a->id.registration_id = span_dup(span_str(rid));
    return a->id.registration_id != NULL ? OK : E_NOMEM;
}

void agent_tpm_finish(struct agent *a)
{
    buf_done(&a->tpm.ek);
    buf_done(&a->tpm.srk);
    buf_done(&a->tpm.cert);
    a->id.tpm = NULL;
}
