/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "certs/signer.h"
#include "client/identity.h"
#include "enroll-tool/ledger.h"
#include "enroll-tool/tool.h"
#include "tpm/chip.h"

enum err tool_read(const char *path, size_t max, struct buf *ret, struct err_info *info)
{
    ret->max = max;
    enum err e = fs_read(path, ret, info);
    return e == E_NOT_FOUND ? err_set(info, e, "there is no file '%s'", path) : e;
}

/* mkdir of each missing folder on the way; the last is made private by its user. */
static void make_parents(const char *path)
{
    char *copy = span_dup(span_str(path));
    for (char *p = copy != NULL ? copy + 1 : NULL; p != NULL && (p = strchr(p, '/')) != NULL; p++) {
        struct err_info ignored;
        *p = '\0';
        if (!fs_exists(copy)) {
            (void)!fs_private_dir(copy, &ignored); /* the ledger's own open tells what is wrong */
        }
        *p = '/';
    }
    free(copy);
}

char *tool_station(const struct cli_args *a)
{
    const char *given = cli_get(a, "station");
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (given != NULL) {
        path = span_dup(span_str(given));
    } else if (geteuid() == 0) {
        path = span_dup(SPAN_LIT("/var/lib/berth/station"));
    } else if (state != NULL && state[0] == '/') {
        path = fs_join(state, "berth/station");
    } else if (home != NULL && home[0] == '/') {
        path = fs_join(home, ".local/state/berth/station");
    }
    if (path == NULL) {
        (void)cli_failf(EXIT_FAILED, "no folder for the ledger: say --station DIR");
    } else {
        make_parents(path);
    }
    return path;
}

/* --- verify ---------------------------------------------------------------------------------------------------- */

static enum err check_x509(const struct identity *id, struct err_info *info)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(cert_free_p) struct cert *leaf = NULL;
    AUTO(signer_key_free_p) struct signer_key *key = NULL;
    struct span cn;
    enum err e = tool_read(id->cert_chain_file, LIMIT_FILE_SMALL, &pem, info);
    if (e != OK || (e = cert_from_text(buf_span(&pem), &leaf, info)) != OK ||
        (e = signer_key_load(id->key_file, &key, info)) != OK ||
        (e = cert_cn(leaf, &cn, info)) != OK) {
        return e;
    }
    if (!signer_key_fits(key, leaf)) {
        return err_set(info, E_CERT, "private key and certificate do not belong together");
    }
    return span_is(cn, id->registration_id)
               ? OK
               : err_set(info, E_CERT, "certificate is for '%.*s'", SPAN_ARG(cn));
}

static int run_verify(struct cli_args *a)
{
    struct identity id = {0};
    struct err_info info = {0};
    enum err e = identity_load(a->words[0], &id, &info);
    if (e == OK && id.kind == ATTEST_X509) {
        e = check_x509(&id, &info);
    }
    if (e == OK && a->is_json) {
        printf("{\"serial\":\"%s\",\"registrationId\":\"%s\",\"complete\":true}\n", id.serial,
               id.registration_id);
    } else if (e == OK) {
        printf("%s: complete; serial %s, registration id %s, id scope %s\n", a->words[0], id.serial,
               id.registration_id, id.id_scope);
    }
    identity_done(&id);
    return e == OK ? EXIT_DONE : cli_fail(e, &info);
}

/* --- ledger list ------------------------------------------------------------------------------------------------ */

int tool_status(enum err e)
{
    return e == E_EXISTS || e == E_QUOTA || e == E_SCOPE || e == E_EXPIRED || e == E_SIGNATURE
               ? EXIT_REFUSED
           : e == E_ARG ? EXIT_USAGE
                        : EXIT_FAILED;
}

static void print_entry(void *arg, const struct ledger_entry *e)
{
    (void)arg;
    printf("%llu  ", (unsigned long long)e->n);
    const struct span parts[] = {e->at, e->serial, e->registration_id, e->attestation, e->target};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        cli_print_safe(stdout, parts[i]);
        printf("  ");
    }
    printf("%s\n", e->event == LEDGER_DONE    ? "done"
                   : e->event == LEDGER_BOUND ? "bound"
                                              : "reserved");
}

static int run_list(struct cli_args *a)
{
    AUTO(mem_free_p) char *station = tool_station(a);
    AUTO(ledger_close_p) struct ledger *l = NULL;
    struct err_info info = {0};
    enum err e = station == NULL ? E_NOMEM : ledger_open(station, &l, &info);
    if (e == OK) {
        e = ledger_each(l, print_entry, NULL, &info);
    }
    return e == OK ? EXIT_DONE : cli_fail(e, &info);
}

/* clang-format off */
static const struct cli_option verify_options[] = {
    { "json", NULL, "Machine-readable output." },
};
static const struct cli_option list_options[] = {
    { "station", "DIR", "Folder of this station's ledger." },
};
/* clang-format on */
const struct cli_command tool_verify = {"verify",
                                        "DIR [--json]",
                                        "Check that an identity is complete and fits together.",
                                        verify_options,
                                        ARRAY_LEN(verify_options),
                                        1,
                                        1,
                                        run_verify};
const struct cli_command tool_ledger_list = {"ledger list",
                                             "[--station DIR]",
                                             "Check the ledger's chain and list it.",
                                             list_options,
                                             ARRAY_LEN(list_options),
                                             0,
                                             0,
                                             run_list};

static int run_tpm_read(struct cli_args *a)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_FILE_SMALL);
    struct err_info info = {0};
    enum err e = chip_tell(cli_get(a, "tcti"), &b, &info);
    if (e == OK) {
        printf("%.*s\n", SPAN_ARG(buf_span(&b)));
    }
    return e == OK ? EXIT_DONE : cli_fail(e, &info);
}

static const struct cli_option tpm_options[] = {
    {"tcti", "TCTI", "How the TPM is reached, as device:/dev/tpmrm0; else the system's."},
};
static const struct cli_command tool_tpm_read = {
    "tpm read",
    "[--tcti TCTI]",
    "Print the TPM's keys and the registration id that they give, as JSON for the enrollment.",
    tpm_options,
    ARRAY_LEN(tpm_options),
    0,
    0,
    run_tpm_read};

static const struct cli_command *command_at(size_t i)
{
    static const struct cli_command *const list[] = {
        &tool_burn,         &tool_ca_create,  &tool_ca_delegate, &tool_verify,  &tool_ledger_list,
        &tool_station_bind, &tool_quota_sign, &tool_quota_show,  &tool_tpm_read};
    return i < ARRAY_LEN(list) ? list[i] : NULL;
}

int main(int argc, char **argv)
{
    return cli_main("enroll-tool", command_at, argc, argv);
}
