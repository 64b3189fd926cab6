/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server_int.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum option_id {
    OPT_CONFIG = 256,
    OPT_DATA_DIR,
    OPT_SET,
    OPT_INIT,
    OPT_BACKUP,
    OPT_RESTORED,
    OPT_CHECK,
    OPT_DUMP,
    OPT_READY_FD,
    OPT_VERSION,
    OPT_HELP
};

static const struct option_row {
    enum option_id id;
    const char *name;
    const char *arg; /* NULL: takes none */
    const char *help;
} option_rows[] = {
    /* clang-format off */
    { OPT_CONFIG,   "config",      "FILE", "Read this configuration file." },
    { OPT_DATA_DIR, "data-dir",    "DIR",  "Keep all data in this folder; overrides the configuration." },
    { OPT_SET,      "set",         "SECTION.NAME=VALUE", "Override one setting; may be repeated. Not for secrets." },
    { OPT_INIT,     "init",        NULL,   "Make names, master key and first policies, write DIR/init.json, exit." },
    { OPT_BACKUP,   "backup",      "DIR",  "Copy the registry into a new folder, also of a server that runs, and exit." },
    { OPT_RESTORED, "restored",    NULL,   "Take up a registry that --backup made: what changed since then was seen to." },
    { OPT_CHECK,    "check-config", NULL,  "Check the configuration and exit." },
    { OPT_DUMP,     "dump-config", NULL,   "Print the configuration in force, with comments, and exit." },
    { OPT_READY_FD, "ready-fd",    "N",    "Write \"ready\" to this descriptor once all listeners are open." },
    { OPT_VERSION,  "version",     NULL,   "Print the version and exit." },
    { OPT_HELP,     "help",        NULL,   "Print this text and exit." },
    /* clang-format on */
};

static void print_help(const struct server_program *p)
{
    printf("Usage: %s [OPTION]...\n\n", p->name);
    for (size_t i = 0; i < ARRAY_LEN(option_rows); i++) {
        const struct option_row *r = &option_rows[i];
        char left[64];
        (void)snprintf(left, sizeof(left), "--%s%s%s", r->name, r->arg != NULL ? " " : "",
                       r->arg != NULL ? r->arg : "");
        printf("  %-28s %s\n", left, r->help);
    }
    printf("\nConfiguration: %s. Data: %s. Settings are listed by --dump-config.\n", p->config_path,
           p->default_data_dir);
}

static enum err read_fd(const struct server_program *p, const char *text, int *ret)
{
    uint64_t n;
    if (!span_to_u64(span_str(text), &n) || n > 65535u) {
        fprintf(stderr, "%s: --ready-fd wants the number of an open descriptor, not \"%s\"\n",
                p->name, text);
        return E_ARG;
    }
    *ret = (int)n;
    return OK;
}

static enum err take_option(const struct server_program *p, int id, char *arg, struct options *o)
{
    switch (id) {
    case OPT_CONFIG:
        o->config = arg;
        return OK;
    case OPT_DATA_DIR:
        o->data_dir = arg;
        return OK;
    case OPT_SET:
        o->set[o->n_set++] = arg;
        return OK;
    case OPT_INIT:
        o->init = true;
        return OK;
    case OPT_BACKUP:
        o->backup = arg;
        return OK;
    case OPT_RESTORED:
        o->restored = true;
        return OK;
    case OPT_CHECK:
        o->check_config = true;
        return OK;
    case OPT_DUMP:
        o->dump_config = true;
        return OK;
    case OPT_READY_FD:
        return read_fd(p, arg, &o->ready_fd);
    case OPT_VERSION:
        printf("%s %s\n", p->name, PACKAGE_VERSION);
        return E_AGAIN;
    case OPT_HELP:
        print_help(p);
        return E_AGAIN;
    default:
        fprintf(stderr, "Try \"%s --help\".\n", p->name);
        return E_ARG;
    }
}

enum err options_read(const struct server_program *p, int argc, char **argv, struct options *ret)
{
    struct option longs[ARRAY_LEN(option_rows) + 1] = {{0}};
    struct options o = {.ready_fd = -1};
    enum err e = OK;

    for (size_t i = 0; i < ARRAY_LEN(option_rows); i++) {
        longs[i].name = option_rows[i].name;
        longs[i].has_arg = option_rows[i].arg != NULL ? required_argument : no_argument;
        longs[i].val = (int)option_rows[i].id;
    }
    o.set = mem_new(((size_t)argc + 1) * sizeof(char *));
    if (o.set == NULL) {
        return E_NOMEM;
    }
    optind = 0; /* the GNU way to begin anew: tests call this more than once */
    int id;
    while (e == OK && (id = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        e = take_option(p, id, optarg, &o);
    }
    if (e == OK && optind < argc) {
        fprintf(stderr, "%s: unexpected argument \"%s\"; try --help\n", p->name, argv[optind]);
        e = E_ARG;
    }
    if (e != OK) {
        options_done(&o);
        return e;
    }
    *ret = o;
    return OK;
}

void options_done(struct options *o)
{
    free(o->set);
    o->set = NULL;
    o->n_set = 0;
}
