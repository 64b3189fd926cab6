/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that build what they send: enrollments, groups and CA certificates. */
#include <stdlib.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "ctl/ctl.h"
#include "ctl/dps_kind.h"

/* One of a pair: a certificate from a file, or the name of a CA of the DPS. */
static enum err add_slot(struct json *pair, const char *slot, const char *value, bool is_name,
                         struct err_info *info)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e;
    if (value == NULL) {
        return OK;
    }
    if (is_name) {
        return json_set_str(pair, slot, span_str(value));
    }
    struct json *c = json_new_object();
    if ((e = json_set(pair, slot, c)) != OK || (e = ctl_read_file(value, &pem, info)) != OK) {
        return e;
    }
    return json_set_str(c, "certificate", buf_span(&pem));
}

/* {"<member>": {"primary": ..., "secondary": ...}} */
static enum err x509_attestation(struct json *att, const char *member, const char *const value[2],
                                 bool is_name, struct err_info *info)
{
    struct json *x509 = json_new_object(), *pair = json_new_object();
    enum err e = json_set_str(att, "type", SPAN_LIT("x509"));
    if (e == OK) {
        e = json_set(att, "x509", x509);
    } else {
        json_free(x509);
    }
    if (e != OK) {
        json_free(pair);
        return e;
    }
    if ((e = json_set(x509, member, pair)) != OK ||
        (e = add_slot(pair, "primary", value[0], is_name, info)) != OK) {
        return e;
    }
    return add_slot(pair, "secondary", value[1], is_name, info);
}

static enum err attestation(const struct cli_args *a, const struct dps_kind *k, struct json *att,
                            struct err_info *info)
{
    bool is_group = k == &groups;
    const char *const cert[2] = {cli_get(a, is_group ? "signing-cert" : "cert"),
                                 cli_get(a, "secondary-cert")};
    const char *const ca[2] = {cli_get(a, "ca-reference"), cli_get(a, "secondary-ca-reference")};
    bool is_tpm = cli_get(a, "endorsement-key") != NULL || cli_get(a, "tpm-info") != NULL ||
                  (is_group && cli_get(a, "tpm-ca") != NULL);
    if ((cli_has(a, "symmetric") ? 1 : 0) + (cert[0] != NULL ? 1 : 0) + (ca[0] != NULL ? 1 : 0) +
            (is_tpm ? 1 : 0) !=
        1) {
        return err_set(info, E_ARG, "say one of --symmetric, --%s FILE, --ca-reference NAME, %s",
                       is_group ? "signing-cert" : "cert",
                       is_group ? "--tpm-ca NAME" : "--endorsement-key BASE64, --tpm-info FILE");
    }
    if (is_tpm) {
        return ctl_tpm_attestation(a, att, info);
    }
    if ((cert[1] != NULL && cert[0] == NULL) || (ca[1] != NULL && ca[0] == NULL)) {
        return err_set(info, E_ARG, "there is no primary beside the secondary");
    }
    if (ca[0] != NULL) {
        return x509_attestation(att, "caReferences", ca, true, info);
    }
    return cert[0] == NULL
               ? json_set_str(att, "type", SPAN_LIT("symmetricKey"))
               : x509_attestation(att, is_group ? "signingCertificates" : "clientCertificates",
                                  cert, false, info);
}

static enum err options_of_group(const struct cli_args *a, struct json *g, struct err_info *info)
{
    const char *policy = cli_get(a, "allocation"), *twin = cli_get(a, "initial-twin"),
               *hubs = cli_get(a, "hubs"), *issuer = cli_get(a, "issuer");
    enum err e = OK;
    if (issuer != NULL) {
        struct json *p = json_new_object();
        if ((e = json_set(g, "clientCertificateIssuancePolicy", p)) != OK ||
            (e = json_set_str(p, "certificateAuthorityName", span_str(issuer))) != OK) {
            return e;
        }
    }
    if (policy != NULL || hubs != NULL) {
        e = json_set_str(g, "allocationPolicy", span_str(policy != NULL ? policy : "hashed"));
    }
    if (e == OK && hubs != NULL) {
        struct json *list = json_new_array();
        struct span rest = span_str(hubs);
        e = json_set(g, "iotHubs", list);
        while (e == OK && rest.n > 0) {
            e = json_add(list, json_new_str(span_trim(span_cut(&rest, ','))));
        }
    }
    if (e == OK && twin != NULL) {
        AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
        struct json *t = NULL;
        if ((e = ctl_read_file(twin, &text, info)) == OK &&
            (e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, &t, info)) == OK) {
            e = json_set(g, "initialTwin", t);
        }
    }
    return e;
}

enum err ctl_save_key(struct span key, const char *file, struct err_info *info)
{
    AUTO(buf_done) struct buf line = BUF_INIT(512);
    buf_add(&line, key);
    buf_add_u8(&line, '\n');
    enum err e = fs_create_atomic(file, buf_span(&line), 0600, info);
    if (line.p != NULL) {
        mem_wipe(line.p, line.n);
    }
    return e;
}

static enum err save_key(const struct json *answer, const char *file, struct err_info *info)
{
    const struct json *sk = json_get(json_get(answer, "attestation"), "symmetricKey");
    struct span key = json_str(json_get(sk, "primaryKey"));
    return key.n != 0 ? ctl_save_key(key, file, info)
                      : err_set(info, E_REMOTE, "the DPS gave no key");
}

/* Of an individual enrollment alone. */
static enum err options_of_device(const struct cli_args *a, struct json *o)
{
    const char *id = cli_get(a, "device-id");
    enum err e = id != NULL ? json_set_str(o, "deviceId", span_str(id)) : OK;
    if (e == OK && cli_has(a, "edge")) {
        struct json *c = json_new_object();
        if ((e = json_set(o, "capabilities", c)) == OK) {
            e = json_set(c, "iotEdge", json_new_bool(true));
        }
    }
    return e;
}

static int create(struct cli_args *a, const struct dps_kind *k)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(json_free_p) struct json *g = json_new_object();
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct service_answer ans = {0};
    struct err_info info = {0};
    struct json *att = json_new_object();
    const char *key_file = cli_get(a, "key-file");
    if (key_file != NULL && fs_exists(key_file)) {
        json_free(att);
        return cli_failf(EXIT_FAILED, "'%s' exists already; a key file is never written over",
                         key_file);
    }
    enum err e = g == NULL ? E_NOMEM : json_set(g, "attestation", att);
    if (e != OK || (e = json_set_str(g, k->id_member, span_str(a->words[0]))) != OK ||
        (e = attestation(a, k, att, &info)) != OK || (e = options_of_group(a, g, &info)) != OK ||
        (e = options_of_device(a, g)) != OK ||
        (cli_has(a, "disabled") &&
         (e = json_set_str(g, "provisioningStatus", SPAN_LIT("disabled"))) != OK) ||
        (e = ctl_connect(a, CTL_DPS, 0, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    buf_addf(&path, "%s/", k->path);
    service_path_add(&path, span_str(a->words[0]));
    buf_add_u8(&path, '\0');
    const struct service_call c = {.method = "PUT",
                                   .path = (const char *)path.p,
                                   .api_version = SERVICE_DPS_VERSION,
                                   .body = g};
    int status = ctl_ask(s, &c, &ans);
    if (status == EXIT_DONE && key_file != NULL &&
        (e = save_key(ans.json, key_file, &info)) != OK) {
        status = cli_fail(e, &info);
    }
    if (status == EXIT_DONE && a->is_json) {
        /* without the keys: they are in the file, or `berth` shows them nowhere */
        struct json *shown = json_get(json_get(ans.json, "attestation"), "symmetricKey");
        if (shown != NULL) {
            json_del(shown, "primaryKey");
            json_del(shown, "secondaryKey");
        }
        ctl_print_json(stdout, ans.json);
    } else if (status == EXIT_DONE) {
        printf("%s '%s' created%s%s\n", k == &groups ? "group" : "enrollment", a->words[0],
               key_file != NULL ? "; its primary key is in " : "",
               key_file != NULL ? key_file : "");
    }
    service_answer_done(&ans);
    return status;
}

static int run_group_create(struct cli_args *a)
{
    return create(a, &groups);
}
static int run_enrollment_create(struct cli_args *a)
{
    return create(a, &individuals);
}

/* --- CA certificates ---------------------------------------------------------------------------------------- */

static int ca_call(struct cli_args *a, enum ctl_plane plane, const char *tail, struct json *body,
                   const char *if_match, const char *done)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct err_info info = {0};
    uint64_t hub = 1;
    if (!cli_number(a, "hub", 1, 50, &hub)) {
        return cli_failf(EXIT_USAGE, "--hub wants the number of a hub, from 1");
    }
    enum err e = ctl_connect(a, plane, (unsigned)hub - 1, &s, &info);
    if (e != OK) {
        return cli_fail(e, &info);
    }
    buf_add_str(&path, "/admin/certificates/");
    service_path_add(&path, span_str(a->words[0]));
    buf_add_str(&path, tail);
    buf_add_u8(&path, '\0');
    const struct service_call c = {
        .method = tail[0] == '\0' ? "PUT" : "POST",
        .path = (const char *)path.p,
        .api_version = SERVICE_ADMIN_VERSION,
        .body = body,
        .if_match = if_match,
    };
    struct service_answer ans = {0};
    int status = ctl_ask(s, &c, &ans);
    if (status == EXIT_DONE && a->is_json) {
        ctl_print_json(stdout, ans.json);
    } else if (status == EXIT_DONE) {
        printf("%s '%s'\n", done, a->words[0]);
    }
    service_answer_done(&ans);
    return status;
}

enum cert_act { CERT_ADD, CERT_REPLACE, CERT_PROOF };
static int with_cert(struct cli_args *a, enum ctl_plane plane, enum cert_act act)
{
    bool is_proof = act == CERT_PROOF;
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(json_free_p) struct json *body = json_new_object();
    struct err_info info = {0};
    const char *file = cli_get(a, "cert");
    if (file == NULL) {
        return cli_failf(EXIT_USAGE, "%s wants --cert FILE", a->cmd->name);
    }
    struct json *props = is_proof ? body : json_new_object();
    enum err e = ctl_read_file(file, &pem, &info);
    if (!is_proof) {
        enum err set = json_set(body, "properties", props);
        e = e != OK ? e : set;
    }
    if (e == OK && (e = json_set_str(props, "certificate", buf_span(&pem))) == OK && !is_proof) {
        e = json_set(props, "isVerified", json_new_bool(cli_has(a, "verified")));
    }
    if (e == OK && cli_get(a, "usage") != NULL) {
        e = json_set_str(props, "usage", span_str(cli_get(a, "usage")));
    }
    if (e != OK) {
        return cli_fail(e, &info);
    }
    return is_proof
               ? ca_call(a, plane, "/verify", body, "*", "verified CA certificate")
               : ca_call(a, plane, "", body, act == CERT_REPLACE ? "*" : NULL,
                         act == CERT_REPLACE ? "replaced CA certificate" : "added CA certificate");
}

static int run_dps_ca_add(struct cli_args *a)
{
    return with_cert(a, CTL_DPS, CERT_ADD);
}
static int run_dps_ca_replace(struct cli_args *a)
{
    return with_cert(a, CTL_DPS, CERT_REPLACE);
}
static int run_dps_ca_verify(struct cli_args *a)
{
    return with_cert(a, CTL_DPS, CERT_PROOF);
}
static int run_hub_ca_add(struct cli_args *a)
{
    return with_cert(a, CTL_HUB, CERT_ADD);
}

/* clang-format off */
static const struct cli_option group_options[] = {
    CTL_CONNECT_OPTIONS,
    { "symmetric", NULL, "Members derive their key from the group's." },
    { "key-file", "FILE", "Write the group's primary key here (0600)." },
    { "signing-cert", "FILE", "Members' certificates come from this CA certificate (PEM)." },
    { "secondary-cert", "FILE", "A second one, beside it: for rotation." },
    { "ca-reference", "NAME", "Members' certificates come from this verified CA of the DPS." },
    { "secondary-ca-reference", "NAME", "A second one, beside it." },
    { "disabled", NULL, "Nobody comes in until it is enabled." },
    { "tpm-ca", "NAME", "Members are TPMs whose endorsement keys were certified by this CA of the DPS." },
    { "allocation", "POLICY", "hashed, static, geoLatency or custom." },
    { "hubs", "HOST,...", "Only these linked hubs." },
    { "issuer", "NAME", "Members may ask for a certificate of this issuing CA." },
    { "initial-twin", "FILE", "{\"tags\":{},\"properties\":{\"desired\":{}}} for each new device." },
};
static const struct cli_option enrollment_options[] = {
    CTL_CONNECT_OPTIONS,
    { "symmetric", NULL, "The DPS makes its keys." },
    { "key-file", "FILE", "Write the primary key here (0600)." },
    { "cert", "FILE", "The device's certificate, PEM." },
    { "secondary-cert", "FILE", "A second one, beside it: for rotation." },
    { "ca-reference", "NAME", "Its certificate comes from this verified CA of the DPS." },
    { "secondary-ca-reference", "NAME", "A second one, beside it." },
    { "endorsement-key", "BASE64", "The public endorsement key of its TPM, a TPM2B_PUBLIC." },
    { "tpm-info", "FILE", "The same, as berth-agent --tpm-info printed it on the device." },
    { "tpm-ca", "NAME", "The certificate of that key is wanted too, from this CA of the DPS." },
    { "device-id", "ID", "Device id at the hub (the registration id)." },
    { "edge", NULL, "It is an IoT Edge device." },
    { "disabled", NULL, "It is refused until it is enabled." },
    { "allocation", "POLICY", "hashed, static, geoLatency or custom." },
    { "hubs", "HOST,...", "Only these linked hubs." },
    { "issuer", "NAME", "It may ask for a certificate of this issuing CA." },
    { "initial-twin", "FILE", "{\"tags\":{},\"properties\":{\"desired\":{}}} for the new device." },
};
#define O_CERT     { "cert", "FILE", "CA certificate, or for verify the proof, PEM." }
#define O_VERIFIED { "verified", NULL, "Trust it without proof of possession." }
static const struct cli_option ca_options[] = {
    CTL_CONNECT_OPTIONS, O_CERT, O_VERIFIED,
    { "usage", "USAGE", "device (default), or endorsementKey for a maker of TPMs." },
};
static const struct cli_option proof_options[] = { CTL_CONNECT_OPTIONS, O_CERT };
static const struct cli_option hub_ca_options[] = { CTL_CONNECT_OPTIONS, O_CERT, O_VERIFIED, CTL_HUB_OPTION };
/* clang-format on */
const struct cli_command ctl_dps_group_create = {
    "dps group create",
    "ID (--symmetric [--key-file FILE] | --signing-cert FILE | --ca-reference NAME | --tpm-ca "
    "NAME) [--allocation "
    "P] [--hubs H,...] [--issuer NAME]",
    "Create an enrollment group.",
    group_options,
    ARRAY_LEN(group_options),
    1,
    1,
    run_group_create};
const struct cli_command ctl_dps_enrollment_create = {
    "dps enrollment create",
    "ID (--symmetric [--key-file FILE] | --cert FILE [--secondary-cert FILE] | --ca-reference "
    "NAME | --endorsement-key BASE64 | --tpm-info FILE) [--device-id ID] [--disabled]",
    "Create an individual enrollment.",
    enrollment_options,
    ARRAY_LEN(enrollment_options),
    1,
    1,
    run_enrollment_create};
const struct cli_command ctl_dps_ca_add = {"dps ca add",
                                           "NAME --cert FILE [--verified | --usage endorsementKey]",
                                           "Upload a CA certificate to the DPS.",
                                           ca_options,
                                           ARRAY_LEN(ca_options),
                                           1,
                                           1,
                                           run_dps_ca_add};
const struct cli_command ctl_dps_ca_replace = {
    "dps ca replace",
    "NAME --cert FILE [--verified]",
    "Put another CA certificate under a name; unless it is the same its proof starts anew.",
    ca_options,
    ARRAY_LEN(ca_options),
    1,
    1,
    run_dps_ca_replace};
const struct cli_command ctl_dps_ca_verify = {
    "dps ca verify",
    "NAME --cert PROOF",
    "Prove possession: a certificate whose CN is the verification code, signed by the CA.",
    proof_options,
    ARRAY_LEN(proof_options),
    1,
    1,
    run_dps_ca_verify};
const struct cli_command ctl_hub_ca_add = {"hub ca add",
                                           "NAME --cert FILE [--verified] [--hub N]",
                                           "Upload a CA certificate to a hub.",
                                           hub_ca_options,
                                           ARRAY_LEN(hub_ca_options),
                                           1,
                                           1,
                                           run_hub_ca_add};
