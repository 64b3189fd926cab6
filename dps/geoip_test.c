/* SPDX-License-Identifier: Apache-2.0 */
/* Databases of places: whole ones are read, cut and damaged ones are refused or harmless; and rows of the latency table that use them. */
#include "dps/geoip.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "dps/assignment.h"
#include "wire/json.h"

#include "tests/unit.h"

/* libmaxminddb 1.7 forgets the list that it was reading when the metadata turns out damaged: some kilobytes for each such file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libmaxminddb";
}

static struct buf file;
static char path[300];

static int setup(void **state UNUSED)
{
    const char *src = getenv("srcdir");
    file = (struct buf)BUF_INIT(1u << 20);
    (void)snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/geoip/places.mmdb",
                   src != NULL ? src : ".");
    assert_ok(fs_read(path, &file, NULL));
    return 0;
}

static int teardown(void **state UNUSED)
{
    buf_done(&file);
    return 0;
}

static void test_places(void **state UNUSED)
{
    static const struct {
        const char *name, *address, *country, *continent;
    } rows[] = {
        {"IPv4", "10.1.2.3", "DE", "EU"},
        {"another", "172.16.255.255", "US", "NA"},
        {"in no network", "172.17.0.0", "", ""},
        {"IPv6", "2001:db8:1::", "NZ", "OC"},
        {"IPv6 in no network", "2001:db9::", "", ""},
        {"IPv4 in IPv6", "::ffff:10.1.2.3", "DE", "EU"},
        {"registered there", "192.0.2.127", "JP", "AS"},
        {"codes that are none", "192.0.2.128", "", ""},
        {"a record of another form", "198.51.100.1", "", ""},
        {"no address", "hub1.example", "", ""},
        {"nothing", "", "", ""},
        {"long", "1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111", "", ""},
    };
    struct geoip *g = NULL;
    struct geoip_place at;
    assert_ok(geoip_open(path, &g, NULL));
    assert_string_equal(geoip_type(g), "Test-Country");
    assert_int_equal(geoip_built_s(g), 1767225600);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        geoip_find(g, span_str(rows[i].address), &at);
        if (strcmp(at.country, rows[i].country) != 0 ||
            strcmp(at.continent, rows[i].continent) != 0) {
            fail_msg("%s: %s %s", rows[i].name, at.country, at.continent);
        }
    }
    geoip_find(NULL, SPAN_LIT("10.1.2.3"), &at);
    assert_string_equal(at.country, "");
    geoip_unref(g);
}

/* Whatever it is made of: a refusal, or a database of which something can be asked. */
static bool try_bytes(struct span bytes)
{
    struct geoip *g = NULL;
    struct geoip_place at;
    struct err_info info = {0};
    enum err e = geoip_read(bytes, "cut", &g, &info);
    if (e != OK) {
        assert_int_equal(e, E_CONFIG);
        assert_null(g);
        assert_memory_equal(info.why, "geoip: \"cut\": ", 14);
        return false;
    }
    geoip_find(g, SPAN_LIT("10.1.2.3"), &at);
    geoip_find(g, SPAN_LIT("2001:db8::1"), &at);
    geoip_find(g, SPAN_LIT("255.255.255.255"), &at);
    geoip_unref(g);
    return true;
}

static void test_cut(void **state UNUSED)
{
    assert_true(try_bytes(buf_span(&file)));
    for (size_t n = 0; n < file.n; n += 64) {
        assert_false(try_bytes(span_sub(buf_span(&file), 0, n)));
        (void)try_bytes(span_from(buf_span(&file), n));
    }
    assert_false(try_bytes(span_sub(buf_span(&file), 0, file.n - 1)));
}

static void test_flipped(void **state UNUSED)
{
    static const uint8_t masks[] = {0xff, 0x80, 0x01};
    unsigned refused = 0;
    for (size_t i = 0; i < file.n; i++) {
        for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
            file.p[i] ^= masks[m];
            refused += !try_bytes(buf_span(&file));
            file.p[i] ^= masks[m];
        }
    }
    assert_true(refused > 100);
}

static void test_files(void **state UNUSED)
{
    char dir[] = "/tmp/geoip-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO(mem_free_p) char *text = fs_join(dir, "text");
    AUTO(mem_free_p) char *none = fs_join(dir, "none");
    AUTO(mem_free_p) char *mine = fs_join(dir, "mine.mmdb");
    struct geoip *g = NULL;
    struct err_info info = {0};
    assert_ok(fs_write_atomic(text, SPAN_LIT("network,country\n"), 0600, NULL));
    const struct {
        const char *path, *why;
    } rows[] = {{none, "No such file"}, {dir, "is not a file"}, {text, "metadata"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_err(geoip_open(rows[i].path, &g, &info), E_CONFIG);
        assert_non_null(strstr(info.why, rows[i].path));
        if (strcasestr(info.why, rows[i].why) == NULL) {
            fail_msg("%s", info.why);
        }
    }
    /* It stays readable though the file is cut while it is in use. */
    struct geoip_place at;
    assert_ok(fs_write_atomic(mine, buf_span(&file), 0600, NULL));
    assert_ok(geoip_open(mine, &g, NULL));
    assert_int_equal(truncate(mine, 0), 0);
    geoip_find(g, SPAN_LIT("10.1.2.3"), &at);
    assert_string_equal(at.country, "DE");
    geoip_unref(g);
    assert_int_equal(truncate(mine, (off_t)LIMIT_GEOIP_FILE + 1), 0); /* holes */
    assert_err(geoip_open(mine, &g, &info), E_CONFIG);
    assert_non_null(strstr(info.why, "is too large"));
    assert_int_equal(unlink(mine) + unlink(text) + rmdir(dir), 0);
}

static void test_slot(void **state UNUSED)
{
    struct geoip_slot *s = NULL;
    struct geoip *g = NULL;
    assert_ok(geoip_slot_new(&s));
    assert_null(geoip_slot_get(s));
    assert_ok(geoip_read(buf_span(&file), "one", &g, NULL));
    geoip_slot_set(s, g);
    struct geoip *mine = geoip_slot_get(s);
    assert_ptr_equal(mine, g);
    geoip_slot_set(s, NULL);
    assert_string_equal(geoip_type(mine), "Test-Country"); /* mine still */
    geoip_unref(mine);
    geoip_slot_free(s);
}

/* --- the latency table ----------------------------------------------------------------------------------- */

static enum err read_table(const char *text, struct arena *a, struct networks *ret,
                           struct err_info *info)
{
    AUTO(json_free_p) struct json *table = NULL;
    assert_ok(json_read(span_str(text), 1u << 20, &table, NULL));
    return settings_read_networks(table, a, ret, info);
}

static void test_table(void **state UNUSED)
{
    static const struct {
        const char *name, *table;
        enum err want;
    } rows[] = {
        {"country", "[{\"country\":\"DE\",\"latencyMs\":{}}]", OK},
        {"small letters", "[{\"country\":\"de\",\"latencyMs\":{}}]", OK},
        {"country and continent of one code",
         "[{\"country\":\"AS\",\"latencyMs\":{}},{\"continent\":\"AS\",\"latencyMs\":{}}]", OK},
        {"three letters", "[{\"country\":\"DEU\",\"latencyMs\":{}}]", E_ARG},
        {"digits", "[{\"country\":\"D1\",\"latencyMs\":{}}]", E_ARG},
        {"empty", "[{\"country\":\"\",\"latencyMs\":{}}]", E_ARG},
        {"no continent", "[{\"continent\":\"XX\",\"latencyMs\":{}}]", E_ARG},
        {"half of two", "[{\"continent\":\"F \",\"latencyMs\":{}}]", E_ARG},
        {"both", "[{\"country\":\"DE\",\"continent\":\"EU\",\"latencyMs\":{}}]", E_ARG},
        {"with a network", "[{\"network\":\"::/0\",\"country\":\"DE\",\"latencyMs\":{}}]", E_ARG},
        {"none", "[{\"latencyMs\":{}}]", E_ARG},
        {"twice", "[{\"country\":\"DE\",\"latencyMs\":{}},{\"country\":\"de\",\"latencyMs\":{}}]",
         E_ARG},
        {"no latencies", "[{\"country\":\"DE\"}]", E_ARG_NULL},
        {"another type", "[{\"country\":1,\"latencyMs\":{}}]", E_ARG},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena a = ARENA_INIT(1u << 16);
        struct networks t;
        struct err_info info = {0};
        enum err e = read_table(rows[i].table, &a, &t, &info);
        if (e != rows[i].want) {
            fail_msg("%s: %s %s", rows[i].name, err_name(e), info.why);
        }
        arena_done(&a);
    }
}

/* The nearest word counts, hub by hub. */
static void test_allocation(void **state UNUSED)
{
    static const char table[] = "[{\"network\":\"10.1.0.0/16\",\"latencyMs\":{\"h1\":7}},"
                                "{\"country\":\"DE\",\"latencyMs\":{\"h2\":20}},"
                                "{\"continent\":\"EU\",\"latencyMs\":{\"h2\":1,\"h3\":30}},"
                                "{\"continent\":\"NA\",\"latencyMs\":{\"h3\":5}}]";
    static const struct {
        const char *peer, *host;
    } rows[] = {
        {"10.1.0.1", "h1"},    /* its network */
        {"10.2.0.1", "h2"},    /* its country before its continent, 20 against 30 and 50 */
        {"172.16.0.1", "h3"},  /* its continent */
        {"2001:db8::1", "h1"}, /* no row: the link records */
        {"203.0.113.1", "h1"}, /* not in the database */
    };
    static struct snapshot s = {.alloc = ALLOC_GEO};
    static const char *const hosts[] = {"h1", "h2", "h3"};
    static const struct enr_row e = {.alloc = ALLOC_GEO};
    struct arena a = ARENA_INIT(1u << 16);
    assert_ok(read_table(table, &a, &s.networks, NULL));
    for (size_t i = 0; i < 3; i++) {
        s.hub[i].row = (struct hub_row){.fold = span_str(hosts[i]),
                                        .host = span_str(hosts[i]),
                                        .applies = true,
                                        .weight = 1,
                                        .latency_ms = 50 + (int64_t)i};
    }
    s.n_hubs = 3;
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            const struct pick_for f = {.rid_fold = SPAN_LIT("d"), .peer = span_str(rows[i].peer)};
            struct pick p = assignment_pick(&s, &e, &f);
            const char *wanted = round == 0 ? "h1" : rows[i].host; /* first without a database */
            if (!span_is(p.host, wanted)) {
                fail_msg("%s: %.*s", rows[i].peer, SPAN_ARG(p.host));
            }
        }
        if (round == 0) {
            assert_ok(geoip_open(path, &s.geoip, NULL));
        }
    }
    geoip_unref(s.geoip);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),     cmocka_unit_test(test_cut),
        cmocka_unit_test(test_flipped),    cmocka_unit_test(test_files),
        cmocka_unit_test(test_slot),       cmocka_unit_test(test_table),
        cmocka_unit_test(test_allocation),
    };
    return cmocka_run_group_tests_name("geoip", tests, setup, teardown);
}
