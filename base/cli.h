/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines of programs with sub-commands: a table of commands and their options, from which come parsing, --help and the checks
 * of man pages and completion.
 *
 * Exit status  0 done; 1 failed (the reason is one line on standard error); 2 the command line is not valid; 3 refused;
 *              130 interrupted.
 * Ownership    everything points into argv or static tables.
 * Threads      main. cli_interrupted is set by SIGINT and SIGTERM.
 */
#ifndef BASE_CLI_H
#define BASE_CLI_H

#include <signal.h>
#include <stdio.h>

#include "base/err.h"
#include "base/span.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 3, EXIT_INTERRUPTED = 130 };

struct cli_option {
    const char *name; /* "dir" */
    const char *arg;  /* "DIR"; NULL: takes none */
    const char *help;
};
struct cli_args;
struct cli_command {
    const char *name;  /* "sandbox up" */
    const char *usage; /* what follows the name */
    const char *help;  /* one sentence */
    const struct cli_option *options;
    size_t n_options;
    unsigned min_words, max_words; /* positional */
    int (*run)(struct cli_args *a);
};

#define CLI_VALUES 64u
struct cli_args {
    const struct cli_command *cmd;
    struct {
        const char *name;
        const char *value;
    } set[CLI_VALUES];
    size_t n_set;
    const char *words[16];
    size_t n_words;
    bool is_json;
};
/* Last value of an option, NULL when not given; "" for one without argument. */
const char *cli_get(const struct cli_args *a, const char *name);
bool cli_has(const struct cli_args *a, const char *name);
/* Number in min..max, *ret untouched when the option is not given; false: it is no such number. */
bool cli_number(const struct cli_args *a, const char *name, uint64_t min, uint64_t max,
                uint64_t *ret);

/* "program: text" on standard error; returns the exit status for e. */
int cli_fail(enum err e, const struct err_info *info);
int cli_failf(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);
extern volatile sig_atomic_t cli_interrupted;

/* Printable text: control characters, bidi and invisible marks, and what is no UTF-8 become \xNN. */
/* Is the character of two or three bytes at p one that steers a terminal or turns text around (C1, bidi, invisible)? */
bool cli_is_mark(const uint8_t *p);
void cli_print_safe(FILE *out, struct span s);

/* i-th command, NULL behind the last. */
typedef const struct cli_command *(*cli_command_fn)(size_t i);
/* Finds the command by its words, reads its options, runs it: the exit status. */
int cli_main(const char *program, cli_command_fn at, int argc, char **argv);

#endif
