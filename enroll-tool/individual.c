/* SPDX-License-Identifier: Apache-2.0 */
/* An individual enrollment for the unit that is burned, when asked for. */
#include "enroll-tool/burn_int.h"

#include <stdlib.h>

#include "base/text.h"
#include "client/env.h"
#include "client/proxy_env.h"
#include "client/service.h"

/* Both slots are wanted; the unit has one key, so the second is random and told to nobody. */
static enum err symmetric_body(const struct job *j, struct json *att)
{
    AUTO(secret_done) struct secret second = {0};
    AUTO(buf_done) struct buf b = BUF_INIT(256);
    struct json *keys = json_new_object();
    struct span key = buf_span(&j->key_text);
    enum err e = json_set(att, "symmetricKey", keys);
    key.n--; /* the line's end */
    if (e == OK && (e = secret_random(&second, 32)) == OK) {
        base64_add(&b, secret_span(&second));
        e = json_set_str(att, "type", SPAN_LIT("symmetricKey"));
    }
    if (e == OK && (e = json_set_str(keys, "primaryKey", key)) == OK) {
        e = json_set_str(keys, "secondaryKey", buf_span(&b));
    }
    return e;
}

static enum err x509_body(const struct job *j, struct json *att)
{
    struct json *x509 = json_new_object(), *clients = json_new_object(),
                *primary = json_new_object();
    enum err all[] = {
        json_set(att, "x509", x509),
        json_set(x509, "clientCertificates", clients),
        json_set(clients, "primary", primary),
        json_set_str(att, "type", SPAN_LIT("x509")),
        json_set_str(primary, "certificate", buf_span(&j->chain_pem)),
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i] != OK) {
            return all[i];
        }
    }
    return OK;
}

static enum err tpm_body(const struct job *j, struct json *att)
{
    struct json *tpm = json_new_object();
    enum err e = json_set(att, "tpm", tpm);
    if (e == OK && (e = json_set_str(att, "type", SPAN_LIT("tpm"))) == OK) {
        e = json_set_str(tpm, "endorsementKey", json_str(json_get(j->tpm, "endorsementKey")));
    }
    return e;
}

static enum err individual_body(const struct job *j, struct json **ret)
{
    AUTO(json_free_p) struct json *o = json_new_object();
    struct json *att = json_new_object();
    enum err e = o == NULL ? E_NOMEM : json_set(o, "attestation", att);
    if (e == OK) {
        e = j->kind == ATTEST_SYMMETRIC_KEY ? symmetric_body(j, att)
            : j->kind == ATTEST_TPM         ? tpm_body(j, att)
                                            : x509_body(j, att);
    }
    if (e == OK && (e = json_set_str(o, "registrationId", span_str(j->rid))) == OK) {
        *ret = TAKE(o);
    }
    return e;
}

enum err burn_enroll_individual(const struct job *j, bool is_again, struct err_info *info)
{
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    AUTO(json_free_p) struct json *env = NULL, *body = NULL;
    AUTO(service_free_p) struct service *s = NULL;
    const char *file = cli_get(j->a, "env");
    if (file == NULL) {
        return err_set(info, E_ARG, "--individual needs --env, for the service's credentials");
    }
    AUTO(mem_free_p) char *ca = NULL;
    AUTO(proxy_done) struct proxy proxy = {.port = 0};
    enum err e = proxy_from_env(&proxy, NULL, info);
    if (e == OK && (e = env_load(file, &env, info)) == OK) {
        ca = env_ca_file(env, file);
        e = ca == NULL ? E_NOMEM
                       : service_new(json_str(json_get(env, "dpsServiceConnectionString")), ca,
                                     j->https_port, &proxy, &s, info);
    }
    if (e != OK || (e = individual_body(j, &body)) != OK) {
        return e;
    }
    buf_add_str(&path, "/enrollments/");
    service_path_add(&path, span_str(j->rid));
    buf_add_u8(&path, '\0');
    struct service_answer ans = {0};
    struct service_call c = {.method = "PUT",
                             .path = (const char *)path.p,
                             .api_version = SERVICE_DPS_VERSION,
                             .body = body};
    e = service_do(s, &c, &ans, info);
    if (e == E_REMOTE && ans.status == 409 && is_again) {
        service_answer_done(&ans);
        ans = (struct service_answer){0};
        c.if_match = "*";
        e = service_do(s, &c, &ans, info);
    }
    service_answer_done(&ans);
    return e;
}
