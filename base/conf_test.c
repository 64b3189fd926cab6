/* SPDX-License-Identifier: Apache-2.0 */
#include "base/conf.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "tests/unit.h"

struct opts {
    char *name;
    char *key;
    char *names;
    char *motto;
    uint64_t size;
    uint64_t any;
    bool is_on;
};

/* clang-format off */
static const struct conf_row rows[] = {
    { "main", "name",  CONF_STR,  offsetof(struct opts, name),  1, 8, "dflt", "A name." },
    { "main", "key",   CONF_PATH, offsetof(struct opts, key),   0, 0, NULL,   "A path." },
    { "main", "names", CONF_LIST, offsetof(struct opts, names), 0, 0, "a,b",  "Some names." },
    { "more", "motto", CONF_STR,  offsetof(struct opts, motto), 0, 0, NULL,   "A motto." },
    { "more", "size",  CONF_U64,  offsetof(struct opts, size),  2, 4096, "1k", "A size." },
    { "more", "any",   CONF_U64,  offsetof(struct opts, any),   0, 0, NULL,   "Any number." },
    { "more", "on",    CONF_BOOL, offsetof(struct opts, is_on), 0, 0, "yes",  "A switch." },
    { "hub *", "host", CONF_STR,  0, 0, 0, NULL, "A host." },
    { "hub *", "load", CONF_U64,  0, 1, 10, NULL, "A weight." },
};
/* clang-format on */
#define ROWS rows, ARRAY_LEN(rows)

static char dir[] = "/tmp/berth-conf-XXXXXX";
static char *path;
static struct opts opts;
static struct err_info info;
static char foreign[256];

static int begin(void **state)
{
    (void)state;
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    memset(&info, 0, sizeof(info));
    foreign[0] = '\0';
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    path = fs_join(dir, "x.conf");
    return conf_load(ROWS, NULL, &opts, NULL, NULL, NULL) == OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    conf_done(ROWS, &opts);
    (void)unlink(path);
    free(path);
    return rmdir(dir);
}

static enum err keep_foreign(void *arg, const char *section, const char *name, const char *value,
                             struct err_info *why)
{
    (void)arg;
    if (strcmp(value, "bad") == 0) {
        return err_set(why, E_CONFIG, "refused by the program");
    }
    size_t n = strlen(foreign);
    (void)snprintf(foreign + n, sizeof(foreign) - n, "%s/%s=%s;", section, name, value);
    return OK;
}

static enum err load(struct span text)
{
    assert_ok(fs_write_atomic(path, text, 0600, NULL));
    return conf_load(ROWS, path, &opts, keep_foreign, NULL, &info);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_string_equal(opts.name, "dflt");
    assert_null(opts.key);
    assert_string_equal(opts.names, "a,b");
    assert_null(opts.motto);
    assert_int_equal(opts.size, 1024);
    assert_int_equal(opts.any, 0);
    assert_true(opts.is_on);
}

static void test_file(void **state)
{
    (void)state;
    assert_ok(load(SPAN_LIT("\xef\xbb\xbf# comment\n"
                            "[main]\r\n"
                            "name = n\xc3\xa4me ; trailing\n"
                            "  key = sub/k.pem\n"
                            "names = x , y\n"
                            "\n"
                            "names = z\n"
                            "[more]\n"
                            "; comment\n"
                            "motto = a = b: #1;2\n"
                            "size=4k\n"
                            "any=3G\n"
                            "on = off\n"
                            "[main]\n"
                            "[hub one]\n"
                            "host = h1\n"
                            "load = 10\n"
                            "[hub two]\n"
                            "host = h2"))); /* no line end */
    assert_string_equal(opts.name, "n\xc3\xa4me");
    AUTO(mem_free_p) char *want = fs_join(dir, "sub/k.pem");
    assert_string_equal(opts.key, want);
    assert_string_equal(opts.names, "x,y,z");
    assert_string_equal(opts.motto, "a = b: #1;2");
    assert_int_equal(opts.size, 4096);
    assert_true(opts.any == UINT64_C(3) << 30);
    assert_false(opts.is_on);
    assert_string_equal(foreign, "hub one/host=h1;hub one/load=10;hub two/host=h2;");
    /* what a second file does not name is the default again */
    assert_ok(load(SPAN_LIT("[main]\nkey = /abs\nnames =\n[more]\nmotto =\n")));
    assert_string_equal(opts.name, "dflt");
    assert_string_equal(opts.key, "/abs");
    assert_null(opts.names); /* empty is none, not the default */
    assert_null(opts.motto);
    assert_int_equal(opts.size, 1024);
    assert_true(opts.is_on);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *text;
        const char *why; /* behind the path */
    } bad[] = {
        {"unknown option", "[main]\nnmae = x\n", ":2: unknown option \"nmae\""},
        {"unknown section", "[main]\n[mian]\nname = x\n", ":2: unknown section \"mian\""},
        {"empty unknown section", "[mian]\n", ":1: unknown section"},
        {"hub without a name", "[hub]\n", ":1: unknown section"},
        {"option before any section", "name = x\n", ":1: unknown option"},
        {"option of another section", "[more]\nname = x\n", ":2: unknown option"},
        {"no equals sign", "[main]\nname\n", ":2: neither"},
        {"open section", "[main\n", ":1: section without"},
        {"given twice", "[main]\nname = x\n\n[main]\nname = y\n", ":5: \"name\" is given twice"},
        {"text too short", "[main]\nname =\n", ":2: \"name\" must have 1 to 8"},
        {"text too long", "[main]\nname = 123456789\n", ":2: \"name\" must have 1 to 8"},
        {"control character", "[main]\nname = a\x01z\n", ":2: \"name\" is not plain"},
        {"empty item", "[main]\nnames = a,,b\n", ":2: \"names\" has an empty item"},
        {"last item empty", "[main]\nnames = a,\n", ":2: \"names\" has an empty item"},
        {"one below", "[more]\nsize = 1\n", ":2: \"size\" must be 2 to 4096"},
        {"one above", "[more]\nsize = 4097\n", ":2: \"size\" must be 2 to 4096"},
        {"unit above", "[more]\nsize = 5k\n", ":2: \"size\" must be 2 to 4096"},
        {"no number", "[more]\nsize = k\n", ":2: \"size\" must be a number"},
        {"negative", "[more]\nsize = -3\n", ":2: \"size\" must be a number"},
        {"empty number", "[more]\nsize =\n", ":2: \"size\" must be a number"},
        {"unit unknown", "[more]\nsize = 3K\n", ":2: \"size\" must be a number"},
        {"overflow", "[more]\nany = 17179869184G\n", ":2: \"any\" must be a number"},
        {"no switch", "[more]\non = 1\n", ":2: \"on\" must be yes or no"},
        {"other case", "[more]\non = Yes\n", ":2: \"on\" must be yes or no"},
        {"foreign name", "[hub a]\nhots = x\n", ":2: unknown option \"hots\""},
        {"foreign value", "[hub a]\nload = 11\n", ":2: \"load\" must be 1 to 10"},
        {"refused by the program", "[hub a]\nhost = bad\n", ":2: refused by the program"},
        {"long section", "[hub 1234567890123456789012345678901234567890123456]\n",
         ":1: section name over 49 bytes"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(buf_done) struct buf want = BUF_INIT(1000);
        buf_addf(&want, "%s%s", path, bad[i].why);
        if (load(span_str(bad[i].text)) != E_CONFIG ||
            !span_starts(span_str(info.why), buf_span(&want))) {
            fail_msg("%s: %s", bad[i].name, info.why);
        }
        assert_string_equal(opts.name, "dflt");
        assert_int_equal(opts.size, 1024);
    }
    assert_err(load(SPAN_LIT("[main]\nname = \xff\n")), E_CONFIG);
    assert_err(load(SPAN_LIT("[main]\nname = a\0b\n")), E_CONFIG);
    assert_ok(load(SPAN_LIT("[hub 123456789012345678901234567890123456789012345]\nhost = x\n")));
    assert_string_equal(foreign, "hub 123456789012345678901234567890123456789012345/host=x;");
}

/* A fault at the end: nothing before it counts. */
static void test_all_or_nothing(void **state)
{
    (void)state;
    assert_err(load(SPAN_LIT("[main]\nname = new\n[hub a]\nhost = h\n[more]\nsize = 0\n")),
               E_CONFIG);
    assert_string_equal(opts.name, "dflt");
    assert_string_equal(foreign, "");
}

static void test_sizes(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_CONF_FILE + 1);
    buf_add_str(&b, "[more]\nsize = 3\n");
    while (b.n < LIMIT_CONF_FILE) {
        buf_add_u8(&b, b.n % 100 == 0 ? '\n' : '#');
    }
    assert_ok(load(buf_span(&b)));
    assert_int_equal(opts.size, 3);
    buf_add_u8(&b, '\n');
    assert_err(load(buf_span(&b)), E_CONFIG); /* one past */
    assert_non_null(strstr(info.why, "larger than 1048576 bytes"));

    buf_reset(&b);
    buf_add_str(&b, "[more]\nmotto = ");
    for (int i = 0; i < 5000; i++) {
        buf_add_u8(&b, 'x');
    }
    assert_err(load(buf_span(&b)), E_CONFIG); /* refused, not cut */
    assert_non_null(strstr(info.why, ":2: line over "));
    assert_null(opts.motto);
}

/* The longest line that is taken is taken whole: libinih must not be cutting below our check. */
static void test_line_lengths(void **state)
{
    (void)state;
    size_t longest = 0;
    for (size_t n = 100; n < 400; n++) {
        AUTO(buf_done) struct buf b = BUF_INIT(1000);
        buf_add_str(&b, "[more]\nmotto=");
        for (size_t i = 0; i < n; i++) {
            buf_add_u8(&b, (uint8_t)('a' + i % 26));
        }
        buf_add_str(&b, "\nsize = 7\n");
        if (load(buf_span(&b)) == OK) {
            assert_span(span_str(opts.motto), span_sub(buf_span(&b), 13, n));
            assert_int_equal(opts.size, 7);
            longest = n;
        }
    }
    assert_true(longest >= 150);
}

static void test_no_file(void **state)
{
    (void)state;
    AUTO(mem_free_p) char *no = fs_join(dir, "no.conf");
    assert_err(conf_load(ROWS, no, &opts, NULL, NULL, &info), E_NOT_FOUND);
    assert_non_null(strstr(info.why, no));
    assert_string_equal(opts.name, "dflt");
}

static void test_set(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "main.name",
        "main.nmae=x",
        "name=x",
        "main=x",
        "=",
        "",
        "more.size=1",
        "more.size=4097",
        "hub a.host=x",
        "hub *.host=x",
        "main.name=123456789",
        "main.name=a\nb",
        "main.name=a ;b",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (conf_set(ROWS, &opts, bad[i], &info) != E_CONFIG) {
            fail_msg("%s", bad[i]);
        }
    }
    assert_string_equal(opts.name, "dflt");
    assert_int_equal(opts.size, 1024);
    assert_ok(conf_set(ROWS, &opts, "main.name=a=b", &info));
    assert_string_equal(opts.name, "a=b");
    assert_ok(conf_set(ROWS, &opts, "more.size = 2k", &info));
    assert_int_equal(opts.size, 2048);
    assert_ok(conf_set(ROWS, &opts, "more.on=no", &info));
    assert_false(opts.is_on);
    assert_ok(conf_set(ROWS, &opts, "main.key=rel", &info));
    assert_string_equal(opts.key, "rel");
    assert_ok(conf_set(ROWS, &opts, "main.names=p, q", &info));
    assert_string_equal(opts.names, "p,q");
}

static char *dump(void)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    conf_dump(ROWS, &opts, f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void test_dump_loads_again(void **state)
{
    (void)state;
    assert_ok(conf_set(ROWS, &opts, "main.name=a=b", NULL));
    assert_ok(conf_set(ROWS, &opts, "main.names=", NULL)); /* none, against the default */
    assert_ok(conf_set(ROWS, &opts, "more.motto=x; y", NULL));
    assert_ok(conf_set(ROWS, &opts, "more.on=no", NULL));
    AUTO(mem_free_p) char *first = dump();
    assert_non_null(strstr(first, "[main]\n# A name. Default: dflt\nname = a=b\n"));
    assert_non_null(strstr(first, "\n#key =\n"));
    assert_non_null(strstr(first, "\n#[hub *]\n"));
    assert_ok(load(span_str(first)));
    assert_null(opts.names);
    assert_string_equal(opts.motto, "x; y");
    AUTO(mem_free_p) char *second = dump();
    assert_string_equal(first, second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, begin, end),
        cmocka_unit_test_setup_teardown(test_file, begin, end),
        cmocka_unit_test_setup_teardown(test_refusals, begin, end),
        cmocka_unit_test_setup_teardown(test_all_or_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_sizes, begin, end),
        cmocka_unit_test_setup_teardown(test_line_lengths, begin, end),
        cmocka_unit_test_setup_teardown(test_no_file, begin, end),
        cmocka_unit_test_setup_teardown(test_set, begin, end),
        cmocka_unit_test_setup_teardown(test_dump_loads_again, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
