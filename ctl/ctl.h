/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `berth`, the administrators' command line: a table of commands, and what they share.
 *
 * Exit status  0 done; 1 failed (the reason is one line on standard error); 2 the command line is not valid; 3 refused by the
 *              server; 130 interrupted.
 * Output       for people on a terminal; with --json one JSON value (or JSON lines for streams) on standard output and nothing else.
 *              Bytes from devices never reach a terminal raw: ctl_print_safe escapes them (threat N13).
 * Secrets      never on the command line: --env FILE (what the sandbox wrote), --connection-string-file FILE, or the environment
 *              variable BERTH_CONNECTION_STRING_FILE naming a file.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <signal.h>
#include <stdio.h>

#include "client/service.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 3, EXIT_INTERRUPTED = 130 };

struct ctl_option {
    const char *name; /* "dir" */
    const char *arg;  /* "DIR"; NULL: takes none */
    const char *help;
};
struct ctl_args;
struct ctl_command {
    const char *name;  /* "sandbox up" */
    const char *usage; /* what follows the name */
    const char *help;  /* one sentence */
    const struct ctl_option *options;
    size_t n_options;
    unsigned min_words, max_words; /* positional */
    int (*run)(struct ctl_args *a);
};
/* The i-th, NULL behind the last. */
const struct ctl_command *ctl_command_at(size_t i);
const struct ctl_command *ctl_rest_command(size_t i);

#define CTL_VALUES 64u
struct ctl_args {
    const struct ctl_command *cmd;
    struct {
        const char *name;
        const char *value;
    } set[CTL_VALUES];
    size_t n_set;
    const char *words[16];
    size_t n_words;
    bool is_json;
};
/* Last value of an option, NULL when not given; "" for one without argument. */
const char *ctl_get(const struct ctl_args *a, const char *name);
bool ctl_has(const struct ctl_args *a, const char *name);
/* Number in min..max; false with a message and EXIT_USAGE in mind. */
bool ctl_number(const struct ctl_args *a, const char *name, uint64_t min, uint64_t max, uint64_t *ret);

/* "berth: text" on standard error; returns the exit status for e. */
int ctl_fail(enum err e, const struct err_info *info);
int ctl_failf(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);
extern volatile sig_atomic_t ctl_interrupted;

/* Printable text: control characters, escapes and bidi marks become \xNN. */
void ctl_print_safe(FILE *out, struct span s);

/* --- where to ---------------------------------------------------------------------------- */
#define CTL_CONNECT_OPTIONS                                                                                    \
    { "env", "FILE", "Endpoints and credentials as `berth sandbox up` wrote them." },                          \
        { "connection-string-file", "FILE", "File with a service connection string." },                        \
        { "ca-file", "FILE", "CA certificates of the server; the system's when not given." },                  \
        { "https-port", "PORT", "Port of the service when it is not 443." },                                   \
    {                                                                                                          \
        "json", NULL, "Machine-readable output."                                                               \
    }
enum ctl_plane { CTL_DPS, CTL_HUB };
/* hub: index in env.json, from 0. */
MUST_USE enum err ctl_connect(const struct ctl_args *a, enum ctl_plane plane, unsigned hub, struct service **ret,
                              struct err_info *info);
MUST_USE enum err ctl_env_hubs(const struct ctl_args *a, size_t *ret, struct err_info *info);
/* Does one call and prints the answer's JSON, or `done` when it has none. */
int ctl_call(struct service *s, const struct service_call *c, const struct ctl_args *a, const char *done);
void ctl_print_json(FILE *out, const struct json *j);
/* Same call, answer kept; EXIT_DONE or the status to exit with (message printed). */
int ctl_ask(struct service *s, const struct service_call *c, struct service_answer *ret);
MUST_USE enum err ctl_read_file(const char *path, struct buf *ret, struct err_info *info);

#endif
