/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/sandbox.h"

#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

#define STOP_GRACE_MS 15000u

static const char *need_dir(const struct cli_args *a)
{
    const char *dir = cli_get(a, "dir");
    if (dir == NULL || dir[0] == '\0') {
        fprintf(stderr, "berth: %s wants --dir D\n", a->cmd->name);
        return NULL;
    }
    return dir;
}

/* --- up ------------------------------------------------------------------------------------------------------------ */

static enum err start_all(struct sandbox *sb, unsigned *ret_started, struct err_info *info)
{
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < sb->n; i++) {
        if (sb->server[i].pid == 0) {
            e = sandbox_check_ports(sb, i, info);
        }
    }
    for (unsigned i = 0; e == OK && i < sb->n && !cli_interrupted; i++) {
        if ((e = sandbox_write_conf(sb, i, info)) == OK && sb->server[i].pid == 0 &&
            (e = sandbox_init_server(sb, i, info)) == OK) {
            e = sandbox_start(sb, i, info);
            (*ret_started)++;
        }
    }
    if (e == OK) {
        e = sandbox_save_pids(sb, info);
    }
    for (unsigned i = 0; e == OK && i < sb->n; i++) {
        e = sandbox_wait_ready(sb, i, info);
    }
    return cli_interrupted && e == OK ? err_set(info, E_CLOSED, "interrupted") : e;
}

static void print_up(const struct sandbox *sb, const struct json *env, uint64_t ms)
{
    for (unsigned i = 0; i < sb->n; i++) {
        const struct sandbox_server *s = &sb->server[i];
        printf("%-6s %s  https %u  mqtts %u  pid %lld  metrics %s\n", s->name, s->address,
               sb->https_port, sb->mqtts_port, (long long)s->pid, s->metrics);
    }
    printf("id scope  %.*s\n", SPAN_ARG(json_str(json_get(env, "idScope"))));
    printf("dps       %.*s\n", SPAN_ARG(json_str(json_get(env, "dpsServiceConnectionString"))));
    const struct json *hubs = json_get(env, "hubs");
    for (size_t i = 0; i < json_count(hubs); i++) {
        printf("hub%zu      %.*s\n", i + 1,
               SPAN_ARG(json_str(json_get(json_at(hubs, i), "serviceConnectionString"))));
    }
    printf("CA        %s/ca.pem\nall of it %s/env.json   (ready after %llu ms)\n", sb->dir, sb->dir,
           (unsigned long long)ms);
}

static int run_up(struct cli_args *a)
{
    struct sandbox sb;
    struct err_info info = {0};
    AUTO(json_free_p) struct json *env = NULL;
    unsigned started = 0;
    uint64_t t0 = clock_mono_ms(clock_system());
    const char *dir = need_dir(a);
    if (dir == NULL) {
        return EXIT_USAGE;
    }
    enum err e = sandbox_open(&sb, dir, true, a, &info);
    if (e == OK && (e = sandbox_find_programs(&sb, cli_get(a, "bin-dir"), &info)) == OK &&
        (e = sandbox_make_pki(&sb, &info)) == OK && (e = sandbox_load_pids(&sb, &info)) == OK &&
        (e = start_all(&sb, &started, &info)) == OK && (e = sandbox_link(&sb, a, &info)) == OK) {
        e = sandbox_write_env(&sb, &env, &info);
    }
    if (e != OK && sb.n > 0) {
        struct err_info ignored;
        sandbox_stop(&sb, true, STOP_GRACE_MS);
        (void)!sandbox_save_pids(&sb, &ignored); /* the first failure is the one to tell */
    }
    int status = EXIT_DONE;
    if (e != OK) {
        status = cli_interrupted ? EXIT_INTERRUPTED : cli_fail(e, &info);
    } else if (a->is_json) {
        ctl_print_json(stdout, env);
    } else {
        if (started == 0) {
            printf("already running\n");
        }
        print_up(&sb, env, clock_mono_ms(clock_system()) - t0);
    }
    sandbox_done(&sb);
    return status;
}

/* --- status, down ------------------------------------------------------------------------------------------------------ */

/* One that is there, and who of it runs. */
static enum err open_present(struct sandbox *sb, const char *dir, const struct cli_args *a,
                             struct err_info *info)
{
    enum err e = sandbox_open(sb, dir, false, a, info);
    return e == OK ? sandbox_load_pids(sb, info) : e;
}

static int run_status(struct cli_args *a)
{
    struct sandbox sb;
    struct err_info info = {0};
    const char *dir = need_dir(a);
    if (dir == NULL) {
        return EXIT_USAGE;
    }
    enum err e = open_present(&sb, dir, a, &info);
    unsigned up = 0;
    if (e == OK && a->is_json) {
        printf("{");
    }
    for (unsigned i = 0; e == OK && i < sb.n; i++) {
        const struct sandbox_server *s = &sb.server[i];
        up += s->pid != 0;
        if (a->is_json) {
            printf("%s\"%s\":{\"address\":\"%s\",\"running\":%s,\"pid\":%lld}", i > 0 ? "," : "",
                   s->name, s->address, s->pid != 0 ? "true" : "false", (long long)s->pid);
        } else {
            printf("%-6s %-12s %s", s->name, s->address, s->pid != 0 ? "running" : "down");
            printf(s->pid != 0 ? "  pid %lld\n" : "\n", (long long)s->pid);
        }
    }
    if (e == OK && a->is_json) {
        printf("}\n");
    }
    int status = e != OK ? cli_fail(e, &info) : up == sb.n ? EXIT_DONE : EXIT_FAILED;
    sandbox_done(&sb);
    return status;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int run_down(struct cli_args *a)
{
    struct sandbox sb;
    struct err_info info = {0};
    const char *dir = need_dir(a);
    if (dir == NULL) {
        return EXIT_USAGE;
    }
    enum err e = open_present(&sb, dir, a, &info);
    if (e == OK) {
        sandbox_stop(&sb, false, STOP_GRACE_MS);
        e = sandbox_save_pids(&sb, &info);
    }
    if (e == OK && cli_has(a, "purge") &&
        nftw(sb.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0) {
        e = err_set(&info, E_IO, "not all of '%s' could be removed", sb.dir);
    }
    if (e == OK && !a->is_json) {
        printf("sandbox is down%s\n",
               cli_has(a, "purge") ? ", its folder removed" : "; its data stays");
    } else if (e == OK) {
        printf("{\"running\":false}\n");
    }
    int status = e != OK ? cli_fail(e, &info) : EXIT_DONE;
    sandbox_done(&sb);
    return status;
}

/* clang-format off */
static const struct cli_option up_options[] = {
    { "dir", "D", "Folder of the sandbox; made when absent." },
    { "hubs", "N", "How many hubs (2)." },
    { "address", "A", "Loopback address of the DPS; hubs follow it (127.0.0.1)." },
    { "https-port", "PORT", "HTTPS and WebSocket (443: the SDKs cannot be told another)." },
    { "mqtts-port", "PORT", "MQTT (8883)." },
    { "trust", "NAME=CA.pem", "Register a CA certificate as verified at the DPS and at each hub; may be repeated." },
    { "bin-dir", "DIR", "Where berth-dps and berth-hub are." },
    { "json", NULL, "Print env.json instead of text." },
};
static const struct cli_option dir_options[] = {
    { "dir", "D", "Folder of the sandbox." },
    { "json", NULL, "Machine-readable output." },
};
static const struct cli_option down_options[] = {
    { "dir", "D", "Folder of the sandbox." },
    { "purge", NULL, "Remove the folder and all data in it." },
    { "json", NULL, "Machine-readable output." },
};
/* clang-format on */
const struct cli_command ctl_sandbox_up = {
    "sandbox up",
    "--dir D [--hubs N] [--address A] [--trust NAME=CA.pem]... [--json]",
    "Start a private cloud on loopback: a CA, one DPS, N hubs, linked.",
    up_options,
    ARRAY_LEN(up_options),
    0,
    0,
    run_up};
const struct cli_command ctl_sandbox_status = {
    "sandbox status",
    "--dir D [--json]",
    "Say which servers of a sandbox run; status 1 when one does not.",
    dir_options,
    ARRAY_LEN(dir_options),
    0,
    0,
    run_status};
const struct cli_command ctl_sandbox_down = {
    "sandbox down",
    "--dir D [--purge] [--json]",
    "End exactly what up started; data stays unless --purge.",
    down_options,
    ARRAY_LEN(down_options),
    0,
    0,
    run_down};
