/* SPDX-License-Identifier: Apache-2.0 */
/* A registration over HTTPS: the last way for keys and certificates, the only one for TPMs. */
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "client/dps_client_int.h"
#include "net/fetch.h"

static enum err https_once(struct fetch *f, const struct identity *id, struct span payload,
                           bool is_poll, struct progress *p)
{
    AUTO(buf_done) struct buf url = BUF_INIT(2048);
    AUTO(buf_done) struct buf auth = BUF_INIT(LIMIT_SAS_TOKEN + 64u);
    AUTO(buf_done) struct buf body = BUF_INIT(LIMIT_DPS_BODY);
    const char *headers[2];
    size_t n = 0;
    enum err e = OK;
    buf_addf(&url, "https://%s:%u/%s/registrations/", id->dps_host, id->https_port, id->id_scope);
    percent_add(&url, span_str(id->registration_id));
    if (is_poll) {
        buf_addf(&url, "/operations/%s", p->operation_id);
    } else {
        buf_add_str(&url, "/register");
        dps_register_body(id, payload, p->csr, &body);
    }
    buf_addf(&url, "?api-version=%s", dps_api_version(p));
    buf_add_u8(&url, '\0');
    if (id->kind == ATTEST_SYMMETRIC_KEY) {
        buf_add_str(&auth, "Authorization: ");
        e = dps_token(id, &auth);
        buf_add_u8(&auth, '\0');
        headers[n++] = (const char *)auth.p;
    } else if (p->token.n != 0) {
        buf_add_str(&auth, "Authorization: ");
        buf_add(&auth, buf_span(&p->token));
        buf_add_u8(&auth, '\0');
        headers[n++] = (const char *)auth.p;
    }
    if (!is_poll) {
        headers[n++] = "Content-Type: application/json; charset=utf-8";
    }
    if (e != OK || (e = buf_err(&url)) != OK || (e = buf_err(&auth)) != OK) {
        return e;
    }
    const struct fetch_rq rq = {
        .method = is_poll ? "GET" : "PUT",
        .url = (const char *)url.p,
        .headers = headers,
        .n_headers = n,
        .body = buf_span(&body),
        .timeout_ms = DPS_TRY_MS,
        .max_answer = LIMIT_DPS_BODY * 2u,
    };
    struct fetch_answer ans;
    e = fetch(f, &rq, &ans, p->info);
    if (auth.p != NULL) {
        mem_wipe(auth.p, auth.n);
    }
    if (e == OK) {
        uint64_t retry = 0;
        (void)span_to_u64(span_str(ans.retry_after), &retry);
        dps_on_answer(p, ans.status, retry, buf_span(&ans.body));
        buf_done(&ans.body);
    }
    return e;
}

static void wait_s(unsigned s, uint64_t deadline_ms, const atomic_int *stop)
{
    uint64_t until = MIN(clock_mono_ms(clock_system()) + (uint64_t)s * 1000, deadline_ms);
    while (!*stop && clock_mono_ms(clock_system()) < until) {
        const struct timespec ts = {0, 100 * 1000 * 1000};
        (void)nanosleep(&ts, NULL);
    }
}

struct by_blob {
    const struct identity_tpm *tpm;
    struct span blob;
};

static enum err mac_by_blob(void *arg, struct span text, uint8_t ret[IDENTITY_MAC],
                            struct err_info *info)
{
    const struct by_blob *b = arg;
    return b->tpm->sign_by(b->tpm->arg, b->blob, text, ret, info);
}

/* The challenge's key signs one token, with which the operation is polled too; it never replaces the key for the hub. */
static enum err take_challenge(const struct identity *id, struct progress *p)
{
    struct by_blob by = {id->tpm, buf_span(&p->blob)};
    AUTO(buf_done) struct buf res = BUF_INIT(1024);
    if (id->tpm == NULL || p->token.n != 0) {
        return err_set(p->info, E_UNAUTHORIZED, "DPS asks for the proof of a TPM%s",
                       id->tpm != NULL ? " again" : "");
    }
    buf_addf(&res, "%s/registrations/%s", id->id_scope, id->registration_id);
    return buf_err(&res) != OK
               ? buf_err(&res)
               : token_make(buf_span(&res), clock_wall_s(clock_system()) + DPS_TOKEN_LIFE_S,
                            "registration", mac_by_blob, &by, &p->token, p->info);
}

/* What ends it when it is no matter of the transport. */
static enum err fail_for_good(struct progress *p, enum err e)
{
    p->outcome = O_FINAL;
    p->err = e;
    return OK;
}

enum err dps_run_https(const struct identity *id, struct span payload, uint64_t deadline_ms,
                       const atomic_int *stop, struct progress *p)
{
    const struct fetch_conf fc = {id->ca_file, id->cert_chain_file, id->key_file, id->proxy};
    AUTO(fetch_free_p) struct fetch *f = NULL;
    bool is_poll = false;
    enum err e = fetch_new(&fc, &f, p->info);
    while (e == OK) {
        e = https_once(f, id, payload, is_poll, p);
        if (e == OK && p->outcome == O_CHALLENGE) {
            enum err t = take_challenge(id, p);
            if (t != OK) {
                return fail_for_good(p, t);
            }
            continue;
        }
        if (e != OK || p->outcome == O_FINAL) {
            break;
        }
        is_poll = is_poll || p->outcome == O_POLL;
        wait_s(p->wait_s, deadline_ms, stop);
        if (*stop || clock_mono_ms(clock_system()) >= deadline_ms) {
            e = *stop ? E_CLOSED : E_TIMEOUT;
        }
    }
    if (e == OK && p->err == OK && id->tpm != NULL) {
        enum err t = p->blob.n != 0 ? id->tpm->keep(id->tpm->arg, buf_span(&p->blob), p->info)
                                    : err_set(p->info, E_REMOTE, "DPS gave no key for the TPM");
        return t == OK ? OK : fail_for_good(p, t);
    }
    return e;
}
