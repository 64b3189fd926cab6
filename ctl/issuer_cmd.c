/* SPDX-License-Identifier: Apache-2.0 */
/* Issuing CAs of the DPS, and the log of what they issued. */
#include "base/limits.h"
#include "base/text.h"
#include "ctl/ctl.h"

#define LOG_PAGE 500u

static enum err add_file(struct json *to, const char *member, const char *file,
                         struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    enum err e = ctl_read_file(file, &text, info);
    return e != OK ? e : json_set_str(to, member, buf_span(&text));
}

/* The member "key": by default one that the DPS makes and keeps. */
static enum err key_of(const struct cli_args *a, struct json *props, struct err_info *info)
{
    static const struct {
        const char *option, *kind, *member;
    } rows[] = {{"key-type", "file", "type"},
                {"token-uri", "pkcs11", "uri"},
                {"tpm-handle", "tpm", "handle"},
                {"tpm-key", "tpm", "pem"}};
    size_t used = 0, n = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (cli_has(a, rows[i].option)) {
            used = i;
            n++;
        }
    }
    struct json *key = json_new_object();
    enum err e = json_set(props, "key", key);
    if (e != OK || n > 1) {
        return e != OK ? e
                       : err_set(info, E_ARG,
                                 "say one of --key-type, --token-uri, --tpm-handle, --tpm-key");
    }
    const char *value = cli_get(a, rows[used].option);
    if ((e = json_set_str(key, "kind", span_str(rows[used].kind))) != OK || value == NULL) {
        return e;
    }
    return cli_has(a, "tpm-key") ? add_file(key, "pem", value, info)
                                 : json_set_str(key, rows[used].member, span_str(value));
}

static enum err put_body(const struct cli_args *a, bool is_new, struct json *props,
                         struct err_info *info)
{
    const char *cn = cli_get(a, "cn"), *org = cli_get(a, "organization"),
               *cert = cli_get(a, "cert");
    uint64_t days = 3650;
    enum err e = is_new ? key_of(a, props, info) : OK;
    if (e == OK && !cli_number(a, "days", 1, 36500, &days)) {
        e = err_set(info, E_ARG, "--days wants 1 to 36500");
    }
    if (e == OK && cli_has(a, "self-signed") &&
        (e = json_set(props, "selfSigned", json_new_bool(true))) == OK) {
        e = json_set(props, "validityDays", json_new_int((int64_t)days));
    }
    if (e == OK && cn != NULL) {
        e = json_set_str(props, "commonName", span_str(cn));
    }
    if (e == OK && org != NULL) {
        e = json_set_str(props, "organization", span_str(org));
    }
    return e == OK && cert != NULL ? add_file(props, "certificate", cert, info) : e;
}

static int ask(struct cli_args *a, const char *method, struct json *body, const char *if_match,
               struct service_answer *ret)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct err_info info = {0};
    enum err e = ctl_connect(a, CTL_DPS, 0, &s, &info);
    if (e != OK) {
        return cli_fail(e, &info);
    }
    buf_add_str(&path, "/admin/certificateAuthorities/");
    service_path_add(&path, span_str(a->words[0]));
    buf_add_u8(&path, '\0');
    const struct service_call c = {.method = method,
                                   .path = (const char *)path.p,
                                   .api_version = SERVICE_ADMIN_VERSION,
                                   .body = body,
                                   .if_match = if_match};
    return ctl_ask(s, &c, ret);
}

static int put(struct cli_args *a, bool is_new)
{
    AUTO(json_free_p) struct json *body = json_new_object();
    struct service_answer ans = {0};
    struct err_info info = {0};
    struct json *props = json_new_object();
    enum err e = json_set(body, "properties", props);
    if (e == OK) {
        e = put_body(a, is_new, props, &info);
    }
    if (e != OK) {
        return cli_fail(e, &info);
    }
    int status = ask(a, "PUT", body, is_new ? NULL : "*", &ans);
    if (status == EXIT_DONE && a->is_json) {
        ctl_print_json(stdout, ans.json);
    } else if (status == EXIT_DONE) {
        bool is_ready =
            span_is(json_str(json_get(json_get(ans.json, "properties"), "state")), "ready");
        printf("certificate authority '%s' %s\n", a->words[0],
               is_ready ? "is ready"
                        : "waits for its certificate: have the request of `berth dps issuer csr` "
                          "signed, then `berth dps issuer set --cert`");
    }
    service_answer_done(&ans);
    return status;
}

static int run_create(struct cli_args *a)
{
    return put(a, true);
}

static int run_set(struct cli_args *a)
{
    return cli_has(a, "cert") || cli_has(a, "self-signed")
               ? put(a, false)
               : cli_failf(EXIT_USAGE, "%s wants --cert FILE or --self-signed", a->cmd->name);
}

/* One member of it, as a file has it. */
static int show_pem(struct cli_args *a, const char *member, const char *missing)
{
    struct service_answer ans = {0};
    int status = ask(a, "GET", NULL, NULL, &ans);
    if (status == EXIT_DONE) {
        struct span pem = json_str(json_get(json_get(ans.json, "properties"), member));
        if (pem.n == 0) {
            status = cli_failf(EXIT_FAILED, "%s", missing);
        } else {
            while (pem.n != 0) {
                cli_print_safe(stdout, span_cut(&pem, '\n'));
                (void)putchar('\n');
            }
        }
    }
    service_answer_done(&ans);
    return status;
}

static int run_csr(struct cli_args *a)
{
    return show_pem(a, "certificateSigningRequest", "it has no request");
}
static int run_cert(struct cli_args *a)
{
    return show_pem(a, "certificate", "it has no certificate yet");
}

/* --- the log ------------------------------------------------------------------------------------------ */

/* Prints a page; *from is the number after its last line. */
static int print_page(struct service *s, const struct cli_args *a, int64_t *from, size_t *ret_n)
{
    AUTO(buf_done) struct buf path = BUF_INIT(1024);
    struct service_answer ans = {0};
    const char *rid = cli_get(a, "registration");
    buf_addf(&path, "/admin/issuedCertificates?top=%u&from=%lld", LOG_PAGE, (long long)*from);
    if (rid != NULL) {
        buf_add_str(&path, "&registrationId=");
        service_path_add(&path, span_str(rid));
    }
    buf_add_u8(&path, '\0');
    const struct service_call c = {
        .method = "GET", .path = (const char *)path.p, .api_version = SERVICE_ADMIN_VERSION};
    int status = ctl_ask(s, &c, &ans);
    const struct json *list = json_get(ans.json, "value");
    *ret_n = json_count(list);
    for (size_t i = 0; status == EXIT_DONE && i < *ret_n; i++) {
        ctl_print_json(stdout, json_at(list, i));
        *from = json_int(json_get(json_at(list, i), "number")) + 1;
    }
    service_answer_done(&ans);
    return status;
}

static int run_log(struct cli_args *a)
{
    AUTO(service_free_p) struct service *s = NULL;
    struct err_info info = {0};
    int64_t from = 1;
    size_t n = 0;
    int status;
    enum err e = ctl_connect(a, CTL_DPS, 0, &s, &info);
    if (e != OK) {
        return cli_fail(e, &info);
    }
    do {
        status = print_page(s, a, &from, &n);
    } while (status == EXIT_DONE && n == LOG_PAGE && !cli_interrupted);
    return status;
}

/* clang-format off */
static const struct cli_option create_options[] = {
    CTL_CONNECT_OPTIONS,
    { "key-type", "TYPE", "The DPS makes and keeps the key: P-256 (the default), P-384, RSA-2048, RSA-3072, RSA-4096." },
    { "token-uri", "URI", "The key is in the PKCS#11 token that the DPS is configured for." },
    { "tpm-handle", "HANDLE", "The key is in the DPS's TPM: handle:0x81xxxxxx." },
    { "tpm-key", "FILE", "The key is that of this file (TSS2 PRIVATE KEY), which only the DPS's TPM can use." },
    { "self-signed", NULL, "Make it a root; else it waits until its request is signed." },
    { "cert", "FILE", "Its certificate and those above it, PEM." },
    { "cn", "NAME", "Common name; the name of the resource when not given." },
    { "organization", "NAME", "Organization in a self-signed certificate." },
    { "days", "N", "Life of a self-signed certificate (3650)." },
};
static const struct cli_option set_options[] = {
    CTL_CONNECT_OPTIONS,
    { "cert", "FILE", "Its certificate and those above it, PEM." },
    { "self-signed", NULL, "A new self-signed certificate for the same key." },
    { "cn", "NAME", "Common name; the name of the resource when not given." },
    { "organization", "NAME", "Organization in a self-signed certificate." },
    { "days", "N", "Life of a self-signed certificate (3650)." },
};
static const struct cli_option show_options[] = {
    CTL_CONNECT_OPTIONS,
};
static const struct cli_option log_options[] = {
    CTL_CONNECT_OPTIONS,
    { "registration", "ID", "Only of this registration." },
};
const struct cli_command ctl_dps_issuer_create = {
    "dps issuer create", "NAME [--key-type TYPE | --token-uri URI | --tpm-handle H | --tpm-key FILE] [--self-signed | --cert FILE]",
    "Create a CA that issues certificates for devices.", create_options, ARRAY_LEN(create_options), 1, 1, run_create};
const struct cli_command ctl_dps_issuer_set = {
    "dps issuer set", "NAME --cert FILE | --self-signed",
    "Give an issuing CA a new certificate for its key.", set_options, ARRAY_LEN(set_options), 1, 1, run_set};
const struct cli_command ctl_dps_issuer_csr = {
    "dps issuer csr", "NAME", "Print the request that another CA is to sign, PEM.", show_options, ARRAY_LEN(show_options), 1, 1, run_csr};
const struct cli_command ctl_dps_issuer_cert = {
    "dps issuer cert", "NAME", "Print the certificate of an issuing CA and those above it, PEM.", show_options, ARRAY_LEN(show_options), 1, 1,
    run_cert};
const struct cli_command ctl_dps_cert_list = {
    "dps cert list", "[--registration ID]", "List the certificates that were issued for devices, one JSON object a line.", log_options,
    ARRAY_LEN(log_options), 0, 0, run_log};
/* clang-format on */
