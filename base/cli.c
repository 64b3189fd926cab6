/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cli.h"

#include <stdarg.h>
#include <stdlib.h>

volatile sig_atomic_t cli_interrupted;
static const char *program = "?";
static cli_command_fn command_at;

static void on_signal(int sig)
{
    (void)sig;
    cli_interrupted = 1;
}

const char *cli_get(const struct cli_args *a, const char *name)
{
    for (size_t i = a->n_set; i > 0; i--) {
        if (strcmp(a->set[i - 1].name, name) == 0) {
            return a->set[i - 1].value;
        }
    }
    return NULL;
}

bool cli_has(const struct cli_args *a, const char *name)
{
    return cli_get(a, name) != NULL;
}

bool cli_number(const struct cli_args *a, const char *name, uint64_t min, uint64_t max,
                uint64_t *ret)
{
    const char *text = cli_get(a, name);
    uint64_t v;
    if (text == NULL) {
        return true;
    }
    if (!span_to_u64(span_str(text), &v) || v < min || v > max) {
        return false;
    }
    *ret = v;
    return true;
}

int cli_failf(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return status;
}

int cli_fail(enum err e, const struct err_info *info)
{
    fprintf(stderr, "%s: ", program);
    cli_print_safe(stderr, span_str(err_why(info, e)));
    fputc('\n', stderr);
    return e == E_REMOTE ? EXIT_REFUSED : EXIT_FAILED;
}

/* Does a character of several bytes begin that shows nothing, or changes how others are shown? */
bool cli_is_mark(const uint8_t *p)
{
    return (p[0] == 0xc2 && p[1] < 0xa0) ||                    /* U+0080..9F, C1 */
           (p[0] == 0xd8 && p[1] == 0x9c) ||                   /* U+061C */
           (p[0] == 0xe2 && (p[1] == 0x80 || p[1] == 0x81)) || /* U+2000..207F: bidi, separators */
           (p[0] == 0xef && p[1] == 0xbb) ||                   /* U+FEFF */
           (p[0] == 0xf3 && p[1] == 0xa0);                     /* U+E0000..: tags */
}

void cli_print_safe(FILE *out, struct span s)
{
    while (s.n > 0) {
        size_t n = span_utf8_len(s);
        bool is_plain = n == 1 && s.p[0] >= 0x20 && s.p[0] != 0x7f;
        if (is_plain || (n >= 2 && !cli_is_mark(s.p))) {
            fwrite(s.p, 1, n, out);
        } else {
            n = n == 0 ? 1 : n;
            for (size_t i = 0; i < n; i++) {
                fprintf(out, "\\x%02x", s.p[i]);
            }
        }
        s = span_from(s, n);
    }
}

/* --- help ---------------------------------------------------------------------------------------------------- */

static void print_commands(FILE *out)
{
    fprintf(out, "Usage: %s COMMAND [OPTION]...\n\n", program);
    const struct cli_command *c;
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        fprintf(out, "  %-26s %s\n", c->name, c->help);
    }
    fprintf(out, "\n`%s COMMAND --help` lists the options of one command.\n", program);
}

static void print_command(const struct cli_command *c)
{
    printf("Usage: %s %s %s\n\n%s\n\n", program, c->name, c->usage, c->help);
    for (size_t i = 0; i < c->n_options; i++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "--%s%s%s", c->options[i].name,
                       c->options[i].arg != NULL ? " " : "",
                       c->options[i].arg != NULL ? c->options[i].arg : "");
        printf("  %-32s %s\n", left, c->options[i].help);
    }
}

/* --- reading the command line --------------------------------------------------------------------------------- */

/* How many leading words of argv are the command's name; 0: they are not. */
static int match(const char *name, char **argv, int argc)
{
    struct span rest = span_str(name);
    int n = 0;
    while (rest.n > 0) {
        struct span word = span_cut(&rest, ' ');
        if (n >= argc || !span_is(word, argv[n])) {
            return 0;
        }
        n++;
    }
    return n;
}

static const struct cli_command *find(char **argv, int argc, int *ret_words)
{
    const struct cli_command *best = NULL, *c;
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        int n = match(c->name, argv, argc);
        if (n > (best != NULL ? *ret_words : 0)) {
            best = c;
            *ret_words = n;
        }
    }
    return best;
}

static const struct cli_option *find_option(const struct cli_command *c, struct span name)
{
    for (size_t i = 0; i < c->n_options; i++) {
        if (span_is(name, c->options[i].name)) {
            return &c->options[i];
        }
    }
    return NULL;
}

static bool read_args(struct cli_args *a, int argc, char **argv, bool *ret_help)
{
    for (int i = 0; i < argc; i++) {
        struct span rest = span_str(argv[i]);
        if (!span_starts(rest, SPAN_LIT("--"))) {
            if (a->n_words == ARRAY_LEN(a->words) || a->n_words == a->cmd->max_words) {
                (void)cli_failf(EXIT_USAGE, "%s takes no further word '%s'", a->cmd->name, argv[i]);
                return false;
            }
            a->words[a->n_words++] = argv[i];
            continue;
        }
        rest = span_from(rest, 2);
        struct span name = span_cut(&rest, '=');
        if (span_is(name, "help")) {
            *ret_help = true;
            return true;
        }
        const struct cli_option *o = find_option(a->cmd, name);
        if (o == NULL || a->n_set == CLI_VALUES || (o->arg == NULL && rest.p != NULL) ||
            (o->arg != NULL && rest.p == NULL && i + 1 == argc)) {
            (void)cli_failf(EXIT_USAGE,
                            o == NULL ? "%s has no option '%s'"
                                      : "%s: option '%s' is not used that way",
                            a->cmd->name, argv[i]);
            return false;
        }
        a->set[a->n_set].name = o->name;
        a->set[a->n_set++].value = o->arg == NULL   ? ""
                                   : rest.p != NULL ? (const char *)rest.p
                                                    : argv[++i];
    }
    return true;
}

static int run(const struct cli_command *c, int argc, char **argv)
{
    struct cli_args a = {.cmd = c};
    bool help = false;
    if (!read_args(&a, argc, argv, &help)) {
        return EXIT_USAGE;
    }
    if (help) {
        print_command(c);
        return EXIT_DONE;
    }
    if (a.n_words < c->min_words) {
        return cli_failf(EXIT_USAGE, "usage: %s %s %s", program, c->name, c->usage);
    }
    a.is_json = cli_has(&a, "json");
    return c->run(&a);
}

int cli_main(const char *name, cli_command_fn at, int argc, char **argv)
{
    program = name;
    command_at = at;
    const struct sigaction sa = {.sa_handler = on_signal};
    int words = 0;
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", program, PACKAGE_VERSION);
        return EXIT_DONE;
    }
    bool is_help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0);
    if (argc < 2 || (is_help && argc == 2)) {
        print_commands(is_help ? stdout : stderr);
        return is_help ? EXIT_DONE : EXIT_USAGE;
    }
    int skip = is_help ? 2 : 1;
    const struct cli_command *c = find(argv + skip, argc - skip, &words);
    if (c == NULL) {
        return cli_failf(EXIT_USAGE, "there is no command '%s'; see %s --help", argv[skip],
                         program);
    }
    if (is_help) {
        print_command(c);
        return EXIT_DONE;
    }
    int status = run(c, argc - skip - words, argv + skip + words);
    if (fflush(stdout) != 0 && status == EXIT_DONE) {
        status = EXIT_FAILED;
    }
    return status;
}
