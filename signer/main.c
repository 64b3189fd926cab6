/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth-signer: holds the keys of issuing CAs, in a process and under a user of its own, and signs what berth-dps asks for within bounds
 * that berth-dps cannot change (threat S5). docs/operations.md "The signer".
 */
#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/fs.h"
#include "base/log.h"
#include "signer/serve.h"

struct signer_conf {
    char *data_dir, *socket, *allow_users;
    char *key_types;
    uint64_t most_days, issues_a_day, makes_a_day;
    bool also_server;
    char *pkcs11_module, *pkcs11_pin_file;
    char *log_level, *log_format;
};

#define C(m) offsetof(struct signer_conf, m)
/* clang-format off */
static const struct conf_row conf_rows[] = {
    { "signer", "data-dir",             CONF_PATH, C(data_dir),        0, 0, "/var/lib/berth-signer", "Folder of the master key and of the book; private to the signer's user." },
    { "signer", "socket",               CONF_PATH, C(socket),          0, 0, "/run/berth-signer/socket", "Where berth-dps asks." },
    { "signer", "allow-users",          CONF_LIST, C(allow_users),     0, 0, "berth", "Users whose processes may ask, by name or number." },
    { "signer", "max-days",             CONF_U64,  C(most_days),       1, 36500, "398", "Longest life of a device's certificate." },
    { "signer", "key-types",            CONF_LIST, C(key_types),       0, 0, "P-256, P-384, RSA-2048, RSA-3072, RSA-4096", "Keys of devices that are certified." },
    { "signer", "server-certificates",  CONF_BOOL, C(also_server),     0, 0, "no", "May a device's certificate serve it as a server's too?" },
    { "signer", "certificates-per-day", CONF_U64,  C(issues_a_day),    0, 1000000000, "200000", "Certificates signed in a day (UTC); 0: no bound." },
    { "signer", "authorities-per-day",  CONF_U64,  C(makes_a_day),     0, 1000000, "25", "Keys of CAs made or taken up in a day; 0: no bound." },
    { "signer", "pkcs11-module",        CONF_PATH, C(pkcs11_module),   0, 0, NULL, "Library that speaks to the PKCS#11 token with keys of issuing CAs." },
    { "signer", "pkcs11-pin-file",      CONF_PATH, C(pkcs11_pin_file), 0, 0, NULL, "File with the PIN of that token, private to the signer's user." },
    { "log",    "level",                CONF_STR,  C(log_level),       0, 0, "info", "debug, info, warn or error." },
    { "log",    "format",               CONF_STR,  C(log_format),      0, 0, "logfmt", "logfmt or json." },
};
/* clang-format on */

/* --- command line ------------------------------------------------------------------------------------------------------------ */

enum { O_CONFIG = 256, O_SET, O_READY_FD, O_CHECK, O_DUMP, O_VERSION, O_HELP };
static const struct option options[] = {
    {"config", required_argument, NULL, O_CONFIG},
    {"set", required_argument, NULL, O_SET},
    {"ready-fd", required_argument, NULL, O_READY_FD},
    {"check-config", no_argument, NULL, O_CHECK},
    {"dump-config", no_argument, NULL, O_DUMP},
    {"version", no_argument, NULL, O_VERSION},
    {"help", no_argument, NULL, O_HELP},
    {NULL, 0, NULL, 0},
};
static const char help[] =
    "Usage: berth-signer [OPTION]...\n\n"
    "  --config FILE               Read this configuration file (/etc/berth/signer.conf when it is "
    "there).\n"
    "  --set SECTION.NAME=VALUE    Override one setting.\n"
    "  --ready-fd N                Write \"ready\" to this descriptor when requests are answered.\n"
    "  --check-config              Check the configuration and exit.\n"
    "  --dump-config               Print the configuration in force and exit.\n"
    "  --version, --help\n";

#define SETS_MAX 16u
struct cmdline {
    const char *config;
    const char *sets[SETS_MAX];
    size_t n_sets;
    int ready_fd;
    bool check, dump;
};

static int usage_error(const char *text)
{
    fprintf(stderr, "berth-signer: %s; see --help\n", text);
    return 2;
}

/* -1: go on, else the exit status. */
static int read_options(int argc, char **argv, struct cmdline *c)
{
    int id;
    uint64_t fd = 0;
    c->ready_fd = -1;
    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (id) {
        case O_CONFIG:
            c->config = optarg;
            break;
        case O_SET:
            if (c->n_sets == SETS_MAX) {
                return usage_error("too many --set");
            }
            c->sets[c->n_sets++] = optarg;
            break;
        case O_READY_FD:
            if (!span_to_u64(span_str(optarg), &fd) || fd > INT32_MAX) {
                return usage_error("--ready-fd wants a number");
            }
            c->ready_fd = (int)fd;
            break;
        case O_HELP:
        case O_VERSION:
            printf("%s", id == O_HELP ? help : "berth-signer " PACKAGE_VERSION "\n");
            return 0;
        case O_CHECK:
        case O_DUMP:
            c->check = c->check || id == O_CHECK;
            c->dump = c->dump || id == O_DUMP;
            break;
        default:
            return 2;
        }
    }
    return optind < argc ? usage_error("unexpected argument") : -1;
}

/* --- configuration --------------------------------------------------------------------------------------------------------------- */

static enum err read_users(const char *list, struct serve_rules *r, struct err_info *info)
{
    struct span rest = span_str(list), word;
    while ((word = span_trim(span_cut(&rest, ','))).n != 0) {
        char name[64];
        uint64_t uid = 0;
        if (r->n_uids == SERVE_UIDS || !span_to_cstr(word, name, sizeof(name))) {
            return err_set(info, E_CONFIG, "allow-users: at most %u names", SERVE_UIDS);
        }
        const struct passwd *p = getpwnam(name);
        if (p == NULL && (!span_to_u64(word, &uid) || uid > UINT32_MAX)) {
            return err_set(info, E_CONFIG, "allow-users: there is no user \"%s\"", name);
        }
        r->allow_uids[r->n_uids++] = p != NULL ? p->pw_uid : (unsigned)uid;
    }
    return r->n_uids != 0 ? OK : err_set(info, E_CONFIG, "allow-users is empty");
}

static enum err read_types(const char *list, struct serve_rules *r, struct err_info *info)
{
    struct span rest = span_str(list), word;
    while ((word = span_trim(span_cut(&rest, ','))).n != 0) {
        size_t i = 0;
        while (i < KEY_TYPES && !span_is(word, key_type_words[i])) {
            i++;
        }
        if (i == KEY_TYPES) {
            return err_set(info, E_CONFIG, "key-types: \"%.*s\" is none", SPAN_ARG(word));
        }
        r->key_types |= 1u << i;
    }
    return r->key_types != 0 ? OK : err_set(info, E_CONFIG, "key-types is empty");
}

static enum err load_conf(const struct cmdline *c, struct signer_conf *conf, struct serve_rules *r,
                          struct err_info *info)
{
    static const char dflt[] = "/etc/berth/signer.conf";
    enum log_level level = LOG_L_INFO;
    const char *path = c->config != NULL ? c->config : fs_exists(dflt) ? dflt : NULL;
    enum err e = conf_load(conf_rows, ARRAY_LEN(conf_rows), path, conf, NULL, NULL, info);
    for (size_t i = 0; e == OK && i < c->n_sets; i++) {
        e = conf_set(conf_rows, ARRAY_LEN(conf_rows), conf, c->sets[i], info);
    }
    if (e == OK && !log_level_parse(span_str(conf->log_level), &level)) {
        e = err_set(info, E_CONFIG, "log level '%s' is none", conf->log_level);
    }
    if (e != OK || (e = read_types(conf->key_types, r, info)) != OK) {
        return e;
    }
    r->most_life_us = (int64_t)conf->most_days * 86400 * 1000000;
    r->also_server = conf->also_server;
    log_setup("berth-signer", level,
              span_is(span_str(conf->log_format), "json") ? LOG_F_JSON : LOG_F_LOGFMT);
    return OK;
}

/* --- life -------------------------------------------------------------------------------------------------------------------------- */

/* No program is started from here, no core written, no debugger let in. */
static enum err harden(struct err_info *info)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ? err_set_errno(info, errno, "prctl")
                                                       : secret_forbid_dumps(info);
}

static void tell_ready(int fd)
{
    if (fd >= 0) {
        if (write(fd, "ready\n", 6) != 6) {
            LOG_WARN("signer.ready_untold", L_U64("fd", fd));
        }
        (void)close(fd);
    }
    (void)sd_notify(0, "READY=1");
}

static enum err serve(const struct signer_conf *conf, const struct serve_rules *rules, int stop_fd,
                      int ready_fd, struct err_info *info)
{
    AUTO(keyring_free_p) struct keyring *keys = NULL;
    AUTO(desk_free_p) struct desk *desk = NULL;
    AUTO(book_close_p) struct book *book = NULL;
    AUTO(mem_free_p) char *key_file = fs_join(conf->data_dir, "master.keys");
    const uint64_t a_day[BOOK_ACTS] = {
        [BOOK_MAKE] = conf->makes_a_day, [BOOK_ISSUE] = conf->issues_a_day};
    struct serve *s = NULL;
    enum err e;
    if (key_file == NULL) {
        return E_NOMEM;
    }
    if ((e = fs_private_dir(conf->data_dir, info)) != OK ||
        (e = book_open(conf->data_dir, clock_system(), a_day, &book, info)) != OK ||
        (e = keyring_open(key_file, true, &keys, info)) != OK ||
        (e = desk_local_new(keys, conf->pkcs11_module, conf->pkcs11_pin_file, &desk)) != OK ||
        (e = serve_open(conf->socket, rules, desk, book, clock_system(), &s, info)) != OK) {
        return e;
    }
    LOG_INFO("signer.ready", L_STR("socket", conf->socket), L_STR("version", PACKAGE_VERSION));
    tell_ready(ready_fd);
    serve_run(s, stop_fd);
    (void)sd_notify(0, "STOPPING=1");
    LOG_INFO("signer.stop", L_STR("socket", conf->socket));
    serve_close(s);
    return OK;
}

/* Signals are read, so that no call is interrupted. */
static enum err stop_signals(int *ret, struct err_info *info)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 || (*ret = signalfd(-1, &set, SFD_CLOEXEC)) < 0) {
        return err_set_errno(info, errno, "signalfd");
    }
    return OK;
}

int main(int argc, char **argv)
{
    struct signer_conf conf = {0};
    struct serve_rules rules = {0};
    struct cmdline c = {0};
    struct err_info info = {0};
    int stop_fd = -1;
    int status = read_options(argc, argv, &c);
    if (status >= 0) {
        return status;
    }
    enum err e = load_conf(&c, &conf, &rules, &info);
    if (e == OK && c.dump) {
        conf_dump(conf_rows, ARRAY_LEN(conf_rows), &conf, stdout);
    }
    if (e == OK && !c.check && !c.dump) {
        if ((e = read_users(conf.allow_users, &rules, &info)) == OK &&
            (e = harden(&info)) == OK && (e = stop_signals(&stop_fd, &info)) == OK) {
            e = serve(&conf, &rules, stop_fd, c.ready_fd, &info);
        }
    }
    if (e != OK) {
        fprintf(stderr, "berth-signer: %s\n", err_why(&info, e));
    }
    conf_done(conf_rows, ARRAY_LEN(conf_rows), &conf);
    return e == OK ? 0 : 1;
}
