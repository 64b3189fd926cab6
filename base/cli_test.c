/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cli.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "tests/unit.h"

/* --- a program ------------------------------------------------------------------------------------- */

static struct {
    int runs;
    struct cli_args args;
    int status;
} got;

static int run_noted(struct cli_args *a)
{
    got.runs++;
    got.args = *a;
    return got.status;
}

static const struct cli_option options[] = {
    {"dir", "DIR", "Where."},
    {"count", "N", "How many."},
    {"force", NULL, "Yes."},
    {"json", NULL, "Machine-readable."},
};
static const struct cli_command up = {"box up",           "--dir DIR", "Start it.", options,
                                      ARRAY_LEN(options), 0,           0,           run_noted};
static const struct cli_command box = {"box", "WORD...", "All of it.", options, 1, 1, 2, run_noted};
static const struct cli_command many = {"many", "...", "Many words.", NULL, 0, 0, 1000, run_noted};

static const struct cli_command *command_at(size_t i)
{
    static const struct cli_command *const list[] = {&up, &box, &many};
    return i < ARRAY_LEN(list) ? list[i] : NULL;
}

/* --- both outputs in files ---------------------------------------------------------------------------- */

static struct out {
    int saved[2];
    FILE *file[2];
    char text[2][4096];
} out;

static void capture(void)
{
    (void)fflush(NULL);
    for (int i = 0; i < 2; i++) {
        out.saved[i] = dup(i + 1);
        out.file[i] = tmpfile();
        assert_non_null(out.file[i]);
        assert_true(dup2(fileno(out.file[i]), i + 1) >= 0);
    }
}

static void release(void)
{
    (void)fflush(NULL);
    for (int i = 0; i < 2; i++) {
        ssize_t n = pread(fileno(out.file[i]), out.text[i], sizeof(out.text[i]) - 1, 0);
        out.text[i][n > 0 ? n : 0] = '\0';
        (void)dup2(out.saved[i], i + 1);
        (void)close(out.saved[i]);
        (void)fclose(out.file[i]);
    }
}

static int call(const char *const *words)
{
    char *argv[32] = {NULL};
    int argc = 0;
    memset(&got.args, 0, sizeof(got.args));
    got.runs = 0;
    argv[argc++] = span_dup(SPAN_LIT("prog"));
    for (; *words != NULL; words++) {
        argv[argc++] = span_dup(span_str(*words));
    }
    static char *kept[32]; /* the arguments stay readable until the next call */
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        free(kept[i]);
        kept[i] = argv[i];
    }
    capture();
    int status = cli_main("prog", command_at, argc, argv);
    release();
    return status;
}

/* --- parsing -------------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name;
    const char *words[20];
    int status;
    int runs;
    const char *on_out, *on_err; /* NULL: nothing there */
} rows[] = {
    { "nothing",              { NULL },                                    EXIT_USAGE, 0, NULL, "Usage: prog COMMAND" },
    { "--help",               { "--help" },                                EXIT_DONE,  0, "box up", NULL },
    { "help",                 { "help" },                                  EXIT_DONE,  0, "Start it.", NULL },
    { "--version",            { "--version" },                             EXIT_DONE,  0, "prog " PACKAGE_VERSION "\n", NULL },
    { "help of one",          { "help", "box", "up" },                     EXIT_DONE,  0, "--dir DIR", NULL },
    { "help of none",         { "help", "boxes" },                         EXIT_USAGE, 0, NULL, "no command 'boxes'" },
    { "--help of one",        { "box", "up", "--help" },                   EXIT_DONE,  0, "Usage: prog box up --dir DIR", NULL },
    { "--help wins",          { "box", "up", "--dir", "d", "--help" },     EXIT_DONE,  0, "--count N", NULL },
    { "unknown command",      { "bax" },                                   EXIT_USAGE, 0, NULL, "no command 'bax'" },
    { "half a command",       { "many", "x" },                             EXIT_DONE,  1, NULL, NULL },
    { "longest name wins",    { "box", "up" },                             EXIT_DONE,  1, NULL, NULL },
    { "unknown option",       { "box", "up", "--nope" },                   EXIT_USAGE, 0, NULL, "box up has no option '--nope'" },
    { "begins like one",      { "box", "up", "--di", "x" },                EXIT_USAGE, 0, NULL, "no option '--di'" },
    { "only dashes",          { "box", "up", "--" },                       EXIT_USAGE, 0, NULL, "no option '--'" },
    { "option of another",    { "box", "w", "--count", "1" },              EXIT_USAGE, 0, NULL, "no option '--count'" },
    { "missing argument",     { "box", "up", "--dir" },                    EXIT_USAGE, 0, NULL, "'--dir' is not used that way" },
    { "argument not wanted",  { "box", "up", "--force=yes" },              EXIT_USAGE, 0, NULL, "'--force=yes' is not used that way" },
    { "word not wanted",      { "box", "up", "word" },                     EXIT_USAGE, 0, NULL, "takes no further word 'word'" },
    { "one word",             { "box", "a" },                              EXIT_DONE,  1, NULL, NULL },
    { "two words",            { "box", "a", "b" },                         EXIT_DONE,  1, NULL, NULL },
    { "three words",          { "box", "a", "b", "c" },                    EXIT_USAGE, 0, NULL, "takes no further word 'c'" },
    { "too few words",        { "box" },                                   EXIT_USAGE, 0, NULL, "usage: prog box WORD..." },
    { "more than there is room for", { "many", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17" },
                                                                           EXIT_USAGE, 0, NULL, "takes no further word '17'" },
};
/* clang-format on */

static void test_rows(void **state)
{
    (void)state;
    got.status = EXIT_DONE;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int status = call(rows[i].words);
        const char *const want[] = {rows[i].on_out, rows[i].on_err};
        if (status != rows[i].status || got.runs != rows[i].runs) {
            fail_msg("%s: status %d, %d runs", rows[i].name, status, got.runs);
        }
        for (int k = 0; k < 2; k++) {
            if (want[k] == NULL ? out.text[k][0] != '\0' : strstr(out.text[k], want[k]) == NULL) {
                fail_msg("%s: output %d is '%s'", rows[i].name, k + 1, out.text[k]);
            }
        }
    }
}

static void test_values(void **state)
{
    (void)state;
    static const char *const words[] = {"box",           "up",      "--dir",  "first", "--count=7",
                                        "--dir=sec=ond", "--force", "--json", NULL};
    uint64_t n = 99;
    got.status = 42;
    assert_int_equal(call(words), 42); /* the command's own status comes through */
    const struct cli_args *a = &got.args;
    assert_ptr_equal(a->cmd, &up);
    assert_string_equal(cli_get(a, "dir"), "sec=ond"); /* the last one counts */
    assert_string_equal(cli_get(a, "force"), "");
    assert_true(cli_has(a, "force") && a->is_json);
    assert_true(cli_number(a, "count", 1, 7, &n));
    assert_int_equal(n, 7);
    assert_false(cli_number(a, "count", 1, 6, &n));
    assert_false(cli_number(a, "count", 8, 9, &n));
    assert_false(cli_number(a, "dir", 0, UINT64_MAX, &n));
    assert_int_equal(n, 7);
    static const char *const odd[] = {"box", "up", "--dir", "--force", "--count=", NULL};
    assert_int_equal(call(odd), 42);
    assert_string_equal(cli_get(a, "dir"), "--force"); /* an argument may look like an option */
    assert_false(cli_has(a, "force"));
    assert_string_equal(cli_get(a, "count"), "");
    assert_false(cli_number(a, "count", 0, 9, &n));
    assert_true(cli_number(a, "absent", 0, 9, &n));
    assert_int_equal(n, 7);
}

static void test_too_many_options(void **state)
{
    (void)state;
    static char *argv[CLI_VALUES + 4];
    static char name[] = "prog", c1[] = "box", c2[] = "up", force[] = "--force";
    argv[0] = name;
    argv[1] = c1;
    argv[2] = c2;
    for (size_t i = 3; i < ARRAY_LEN(argv); i++) {
        argv[i] = force;
    }
    got.status = EXIT_DONE;
    capture();
    int all = cli_main("prog", command_at, (int)ARRAY_LEN(argv) - 1, argv);
    int more = cli_main("prog", command_at, (int)ARRAY_LEN(argv), argv);
    release();
    assert_int_equal(all, EXIT_DONE);
    assert_int_equal(more, EXIT_USAGE);
}

/* --- output ------------------------------------------------------------------------------------------------- */

static void test_print_safe(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span in;
        const char *want;
    } table[] = {
        {"plain", SPAN_LIT("a b~"), "a b~"},
        {"UTF-8", SPAN_LIT("\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80"),
         "\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80"},
        {"NUL", SPAN_LIT("a\0b"), "a\\x00b"},
        {"line end", SPAN_LIT("a\r\n"), "a\\x0d\\x0a"},
        {"ESC", SPAN_LIT("\x1b[31mred"), "\\x1b[31mred"},
        {"DEL", SPAN_LIT("\x7f"), "\\x7f"},
        {"C1 as UTF-8",
         SPAN_LIT("\xc2\x9b"
                  "31m"),
         "\\xc2\\x9b31m"},
        {"C1 raw",
         SPAN_LIT("\x9b"
                  "31m"),
         "\\x9b31m"},
        {"no-break space", SPAN_LIT("\xc2\xa0"), "\xc2\xa0"},
        {"right-to-left override", SPAN_LIT("\xe2\x80\xae"), "\\xe2\\x80\\xae"},
        {"isolate", SPAN_LIT("\xe2\x81\xa6"), "\\xe2\\x81\\xa6"},
        {"zero width space", SPAN_LIT("\xe2\x80\x8b"), "\\xe2\\x80\\x8b"},
        {"line separator", SPAN_LIT("\xe2\x80\xa8"), "\\xe2\\x80\\xa8"},
        {"Arabic letter mark", SPAN_LIT("\xd8\x9c"), "\\xd8\\x9c"},
        {"an Arabic letter", SPAN_LIT("\xd8\xa7"), "\xd8\xa7"},
        {"byte order mark", SPAN_LIT("\xef\xbb\xbf"), "\\xef\\xbb\\xbf"},
        {"tag", SPAN_LIT("\xf3\xa0\x81\x81"), "\\xf3\\xa0\\x81\\x81"},
        {"invalid",
         SPAN_LIT("a\xff\xfe"
                  "b"),
         "a\\xff\\xfeb"},
        {"cut off", SPAN_LIT("\xe6\x97"), "\\xe6\\x97"},
        {"overlong", SPAN_LIT("\xc0\xaf"), "\\xc0\\xaf"},
        {"surrogate", SPAN_LIT("\xed\xa0\x80"), "\\xed\\xa0\\x80"},
        {"nothing", SPAN_LIT(""), ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        assert_non_null(f);
        cli_print_safe(f, table[i].in);
        (void)fclose(f);
        if (strcmp(text, table[i].want) != 0) {
            fail_msg("%s: '%s'", table[i].name, text);
        }
        free(text);
    }
}

static void test_fail(void **state)
{
    (void)state;
    struct err_info info = {0};
    int status[3];
    (void)!err_set(&info, E_REMOTE,
                   "no \xc2\x9b"
                   "2J way");
    capture();
    status[0] = cli_fail(E_REMOTE, &info);
    status[1] = cli_fail(E_NET, NULL);
    status[2] = cli_failf(7, "%s!", "words");
    release();
    assert_int_equal(status[0], EXIT_REFUSED);
    assert_int_equal(status[1], EXIT_FAILED);
    assert_int_equal(status[2], 7);
    assert_non_null(strstr(out.text[1], "no \\xc2\\x9b2J way\n"));
    assert_non_null(strstr(out.text[1], ": words!\n"));
    assert_string_equal(out.text[0], "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_too_many_options),
        cmocka_unit_test(test_print_safe),
        cmocka_unit_test(test_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
