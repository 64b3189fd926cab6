/* SPDX-License-Identifier: Apache-2.0 */
/* berth dps check: would this unit be admitted, and where would it go? Nothing is changed by asking. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "ctl/ctl.h"

static struct span str_of(const struct json *j, const char *name)
{
    return json_str(json_get(j, name));
}

/* A file's text as a member; tokens and keys are wiped. */
static enum err add_file(const struct cli_args *a, const char *option, const char *member,
                         struct json *body, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    const char *file = cli_get(a, option);
    if (file == NULL) {
        return OK;
    }
    enum err e = ctl_read_file(file, &text, info);
    struct span s = buf_span(&text);
    while (s.n != 0 && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r')) {
        s.n--;
    }
    if (e == OK) {
        e = json_set_str(body, member, s);
    }
    if (text.p != NULL) {
        mem_wipe(text.p, text.n);
    }
    return e;
}

static enum err add_payload(const struct cli_args *a, struct json *body, struct err_info *info)
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_DPS_BODY);
    const char *file = cli_get(a, "payload");
    struct json *j = NULL;
    enum err e = OK;
    if (file == NULL) {
        return OK;
    }
    if ((e = ctl_read_file(file, &text, info)) != OK ||
        (e = json_read(buf_span(&text), LIMIT_DPS_BODY, &j, info)) != OK) {
        return e;
    }
    return json_set(body, "payload", j);
}

static enum err add_word(const struct cli_args *a, const char *option, const char *member,
                         struct json *body)
{
    const char *v = cli_get(a, option);
    return v != NULL ? json_set_str(body, member, span_str(v)) : OK;
}

static const struct {
    const char *effect, *text;
} effects[] = {
    {"assign", "would be assigned for the first time"},
    {"stay", "would stay where it is, its twin untouched"},
    {"reset", "would stay at its hub; its twin begins anew"},
    {"move", "would be moved to another hub"},
    {"ask-webhook", "would ask the webhook, which is not asked by a check"},
    {"under-way", "is being registered at this moment"},
    {"disabled", "would hear that it is disabled"},
    {"fail", "would be admitted, but its registration fails"},
    {"refuse", "would be refused"},
};

static void print_checks(const struct json *list)
{
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *c = json_at(list, i);
        bool ok = json_bool(json_get(c, "ok"));
        printf("  %-6s  ", ok ? "ok" : "FAILED");
        cli_print_safe(stdout, str_of(c, "check"));
        printf("  (%.*s)\n", SPAN_ARG(str_of(c, "rule")));
        if (!ok) {
            ctl_print_wrapped("          why   ", "                ", str_of(c, "why"));
            ctl_print_wrapped("          mend  ", "                ", str_of(c, "mend"));
        }
    }
}

static void print_answer(const struct json *j)
{
    const struct json *by = json_get(j, "admittedBy"), *notes = json_get(j, "notes");
    struct span effect = str_of(j, "effect");
    printf("'%.*s' ", SPAN_ARG(str_of(j, "registrationId")));
    for (size_t i = 0; i < ARRAY_LEN(effects); i++) {
        if (span_is(effect, effects[i].effect)) {
            printf("%s\n", effects[i].text);
        }
    }
    if (json_is(by, JSON_T_OBJECT)) {
        printf("admitted by   %.*s '", SPAN_ARG(str_of(by, "kind")));
        cli_print_safe(stdout, str_of(by, "id"));
        printf("' (%.*s), allocation %.*s\n", SPAN_ARG(str_of(by, "attestation")),
               SPAN_ARG(str_of(j, "allocationPolicy")));
    }
    if (str_of(j, "assignedHub").n != 0) {
        printf("goes to       ");
        cli_print_safe(stdout, str_of(j, "assignedHub"));
        printf(" as '");
        cli_print_safe(stdout, str_of(j, "deviceId"));
        printf("'\n");
    }
    printf("checks\n");
    print_checks(json_get(j, "checks"));
    printf("stored now\n");
    ctl_print_device_state(json_get(j, "current"));
    for (size_t i = 0; i < json_count(notes); i++) {
        ctl_print_wrapped("note          ", "              ", json_str(json_at(notes, i)));
    }
}

static int run_check(struct cli_args *a)
{
    AUTO(service_free_p) struct service *s = NULL;
    AUTO(json_free_p) struct json *body = json_new_object();
    struct service_answer ans = {0};
    struct err_info info = {0};
    if (!cli_has(a, "cert") && !cli_has(a, "token-file") && !cli_has(a, "ek")) {
        return cli_failf(EXIT_USAGE, "dps check wants --cert FILE, --token-file FILE or --ek FILE");
    }
    enum err e = body == NULL ? E_NOMEM : OK;
    if (e != OK || (e = add_file(a, "cert", "certificateChain", body, &info)) != OK ||
        (e = add_file(a, "token-file", "token", body, &info)) != OK ||
        (e = add_file(a, "ek", "endorsementKey", body, &info)) != OK ||
        (e = add_payload(a, body, &info)) != OK ||
        (e = add_word(a, "registration-id", "registrationId", body)) != OK ||
        (e = add_word(a, "device-api-version", "apiVersion", body)) != OK ||
        (e = ctl_connect(a, CTL_DPS, 0, &s, &info)) != OK) {
        return cli_fail(e, &info);
    }
    const struct service_call c = {.method = "POST",
                                   .path = "/admin/check",
                                   .api_version = SERVICE_ADMIN_VERSION,
                                   .body = body};
    int status = ctl_ask(s, &c, &ans);
    if (status == EXIT_DONE && a->is_json) {
        ctl_print_json(stdout, ans.json);
    } else if (status == EXIT_DONE) {
        print_answer(ans.json);
    }
    if (status == EXIT_DONE && !json_bool(json_get(ans.json, "passes"))) {
        status = EXIT_REFUSED;
    }
    service_answer_done(&ans);
    return status;
}

/* clang-format off */
static const struct cli_option options[] = {
    CTL_CONNECT_OPTIONS,
    { "cert", "FILE", "The unit's certificate and those above it, PEM." },
    { "token-file", "FILE", "File with the unit's token." },
    { "ek", "FILE", "File with the public endorsement key of the unit's TPM, base64." },
    { "registration-id", "ID", "When it is not the CN of the certificate or in the token." },
    { "payload", "FILE", "JSON that the unit sends along." },
    { "device-api-version", "VERSION", "The api-version that the unit speaks." },
};
/* clang-format on */
const struct cli_command ctl_dps_check = {
    "dps check",
    "(--cert FILE | --token-file FILE | --ek FILE) [--registration-id ID] [--payload FILE]",
    "Try whether a unit would be admitted, and where it would go; nothing is changed.",
    options,
    ARRAY_LEN(options),
    0,
    0,
    run_check};
