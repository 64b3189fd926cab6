/* SPDX-License-Identifier: Apache-2.0 */
/* enroll-tool ca create: a factory's root and the intermediate that a station issues from. */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
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
    for (unsigned i = 0; i < 2; i++) {
        signer_key_free(f.key[i]);
        cert_free(f.cert[i]);
    }
    if (e != OK) {
        (void)cli_fail(e, &info);
        return e == E_EXISTS ? EXIT_REFUSED : EXIT_FAILED;
    }
    printf(a->is_json
               ? "{\"dir\":\"%s\"}\n"
               : "made root and intermediate CA in %s; keep root.key offline, away from the line\n",
           f.dir);
    return EXIT_DONE;
}

/* clang-format off */
static const struct cli_option options[] = {
    { "dir", "DIR", "Folder for root.pem, root.key, intermediate.pem and intermediate.key." },
    { "name", "N", "Name of the factory, part of the CAs' common names." },
    { "days", "N", "Validity (3650)." },
    { "json", NULL, "Machine-readable output." },
};
/* clang-format on */
const struct cli_command tool_ca_create = {"ca create",
                                           "--dir DIR --name N [--days N]",
                                           "Make a factory's root and intermediate CA.",
                                           options,
                                           ARRAY_LEN(options),
                                           0,
                                           0,
                                           run_create};
