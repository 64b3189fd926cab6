/* SPDX-License-Identifier: Apache-2.0 */
/* enroll-tool ca create, ca delegate: a factory's root and the intermediates that stations issue from. */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/text.h"
#include "certs/signer.h"
#include "enroll-tool/tool.h"

#define DAY_US (INT64_C(86400) * 1000000)

struct factory {
    const char *dir;
    struct signer_key *key[2];
    struct cert *cert[2];
};
static const char *const names[] = {"root", "intermediate"};

static enum err save(const struct factory *f, unsigned i, struct err_info *info)
{
    char name[32];
    AUTO(buf_done) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    (void)snprintf(name, sizeof(name), "%s.key", names[i]);
    AUTO(mem_free_p) char *key_path = fs_join(f->dir, name);
    (void)snprintf(name, sizeof(name), "%s.pem", names[i]);
    AUTO(mem_free_p) char *cert_path = fs_join(f->dir, name);
    cert_add_pem(f->cert[i], &pem);
    if (key_path == NULL || cert_path == NULL) {
        return E_NOMEM;
    }
    enum err e = signer_key_save(f->key[i], key_path, info);
    return e != OK ? e : fs_create_atomic(cert_path, buf_span(&pem), 0644, info);
}

static enum err create(struct factory *f, const char *name, int64_t days, struct err_info *info)
{
    int64_t now = clock_wall_us(clock_system());
    for (unsigned i = 0; i < 2; i++) {
        AUTO(buf_done) struct buf cn = BUF_INIT(128);
        buf_addf(&cn, "%s %s", name, names[i]);
        const struct cert_request rq = {
            .profile = i == 0 ? PROFILE_ROOT_CA : PROFILE_INTERMEDIATE_CA,
            .cn = buf_span(&cn),
            .not_before_us = now - DAY_US,
            .not_after_us = now + days * DAY_US,
        };
        enum err e = buf_err(&cn) != OK ? err_set(info, E_ARG, "--name is too long")
                                        : signer_key_generate(KEY_P256, &f->key[i]);
        if (e != OK ||
            (e = signer_issue_now(f->key[0], i == 0 ? NULL : f->cert[0], NULL, f->key[i], &rq,
                                  &f->cert[i], info)) != OK ||
            (e = save(f, i, info)) != OK) {
            return e;
        }
    }
    return OK;
}

static void factory_done(struct factory *f)
{
    for (unsigned i = 0; i < 2; i++) {
        signer_key_free(f->key[i]);
        cert_free(f->cert[i]);
    }
}

static int run_create(struct cli_args *a)
{
    struct factory f = {.dir = cli_get(a, "dir")};
    const char *name = cli_get(a, "name");
    struct err_info info = {0};
    uint64_t days = 3650;
    if (f.dir == NULL || name == NULL || !cli_number(a, "days", 1, 36500, &days)) {
        return cli_failf(EXIT_USAGE, "usage: enroll-tool %s %s", a->cmd->name, a->cmd->usage);
    }
    enum err e = fs_private_dir(f.dir, &info);
    if (e == OK) {
        e = create(&f, name, (int64_t)days, &info);
    }
    factory_done(&f);
    if (e != OK) {
        (void)cli_fail(e, &info);
        return tool_status(e);
    }
    printf(a->is_json
               ? "{\"dir\":\"%s\"}\n"
               : "made root and intermediate CA in %s; keep root.key offline, away from the line\n",
           f.dir);
    return EXIT_DONE;
}

static enum err load_root(const char *dir, struct factory *f, struct err_info *info)
{
    AUTO(mem_free_p) char *key = fs_join(dir, "root.key");
    AUTO(mem_free_p) char *pem = fs_join(dir, "root.pem");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    if (key == NULL || pem == NULL) {
        return E_NOMEM;
    }
    enum err e = tool_read(pem, LIMIT_FILE_SMALL, &text, info);
    if (e != OK || (e = cert_from_text(buf_span(&text), &f->cert[0], info)) != OK) {
        return e;
    }
    return signer_key_load(key, &f->key[0], info);
}

/* pathlen 0 by the profile; subjects of this station alone. */
static enum err delegate(struct factory *f, const char *station, int64_t days,
                         struct err_info *info)
{
    int64_t now = clock_wall_us(clock_system());
    AUTO(buf_done) struct buf cn = BUF_INIT(128);
    buf_addf(&cn, "%s CA", station);
    const struct cert_request rq = {
        .profile = PROFILE_INTERMEDIATE_CA,
        .cn = buf_span(&cn),
        .only = span_str(station),
        .not_before_us = now - DAY_US,
        .not_after_us = MIN(now + days * DAY_US, cert_not_after_us(f->cert[0])),
    };
    enum err e = signer_key_generate(KEY_P256, &f->key[1]);
    if (e == OK) {
        e = signer_issue_now(f->key[0], f->cert[0], NULL, f->key[1], &rq, &f->cert[1], info);
    }
    return e != OK ? e : save(f, 1, info);
}

static int run_delegate(struct cli_args *a)
{
    struct factory f = {.dir = cli_get(a, "dir")};
    const char *root = cli_get(a, "root"), *station = cli_get(a, "name");
    struct err_info info = {0};
    uint64_t days = 365;
    if (f.dir == NULL || root == NULL || station == NULL ||
        !cli_number(a, "days", 1, 36500, &days)) {
        return cli_failf(EXIT_USAGE, "usage: enroll-tool %s %s", a->cmd->name, a->cmd->usage);
    }
    if (!id_registration_ok(span_str(station)) || strlen(station) > LIMIT_X509_RID - 3) {
        return cli_failf(EXIT_USAGE, "'%s' is no name of a station (letters, digits, - . _ :)",
                         station);
    }
    enum err e = fs_private_dir(f.dir, &info);
    if (e == OK && (e = load_root(root, &f, &info)) == OK) {
        e = delegate(&f, station, (int64_t)days, &info);
    }
    factory_done(&f);
    if (e != OK) {
        (void)cli_fail(e, &info);
        return tool_status(e);
    }
    printf(a->is_json ? "{\"dir\":\"%s\",\"station\":\"%s\"}\n"
                      : "made a CA in %s for station %s alone\n",
           f.dir, station);
    return EXIT_DONE;
}

/* clang-format off */
static const struct cli_option options[] = {
    { "dir", "DIR", "Folder for root.pem, root.key, intermediate.pem and intermediate.key." },
    { "name", "N", "Name of the factory, part of the CAs' common names." },
    { "days", "N", "Validity (3650)." },
    { "json", NULL, "Machine-readable output." },
};
static const struct cli_option delegate_options[] = {
    { "root", "DIR", "Folder with root.pem and root.key of the factory." },
    { "name", "NAME", "Name of the station; units of others are outside the names that its CA permits." },
    { "dir", "DIR", "Folder for intermediate.pem and intermediate.key." },
    { "days", "N", "Validity (365, never beyond the root's)." },
    { "json", NULL, "Machine-readable output." },
};
/* clang-format on */
const struct cli_command tool_ca_delegate = {"ca delegate",
                                             "--root DIR --name NAME --dir DIR [--days N]",
                                             "Make the CA of one station, confined to it.",
                                             delegate_options,
                                             ARRAY_LEN(delegate_options),
                                             0,
                                             0,
                                             run_delegate};
const struct cli_command tool_ca_create = {"ca create",
                                           "--dir DIR --name N [--days N]",
                                           "Make a factory's root and intermediate CA.",
                                           options,
                                           ARRAY_LEN(options),
                                           0,
                                           0,
                                           run_create};
