/* SPDX-License-Identifier: Apache-2.0 */
#include "enroll-tool/ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "tests/unit.h"

static char dir[] = "/tmp/berth-ledger-XXXXXX";
static char file[64], lock[64];

static int begin(void **state)
{
    (void)state;
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(file, sizeof(file), "%s/ledger.jsonl", dir);
    (void)snprintf(lock, sizeof(lock), "%s/lock", dir);
    return 0;
}

static int end(void **state)
{
    (void)state;
    (void)unlink(file);
    (void)unlink(lock);
    return rmdir(dir);
}

static struct ledger *open_it(void)
{
    struct ledger *l = NULL;
    struct err_info info = {0};
    enum err e = ledger_open(dir, &l, &info);
    if (e != OK) {
        fail_msg("%s: %s", err_name(e), info.why);
    }
    return l;
}

static void expect(const struct ledger *l, const char *serial, enum ledger_state want,
                   const char *want_target)
{
    const char *target = "untouched";
    assert_int_equal(ledger_find(l, serial, &target), want);
    assert_string_equal(target, want_target);
}

static void add(struct ledger *l, const char *serial, const char *rid, enum ledger_state event)
{
    assert_ok(ledger_add(l, serial, rid, event, "/t", "x509", NULL));
}

/* Three lines: A reserved, A done, B reserved. */
static void write_three(void)
{
    struct ledger *l = open_it();
    add(l, "A", "a", LEDGER_RESERVED);
    add(l, "A", "a", LEDGER_DONE);
    add(l, "B", "b", LEDGER_RESERVED);
    ledger_close(l);
}

static void test_states(void **state)
{
    (void)state;
    struct ledger *l = open_it();
    struct stat st;
    expect(l, "A", LEDGER_UNKNOWN, "untouched");
    assert_null(ledger_find_registration(l, "a"));
    ledger_close(l);
    write_three();
    for (int i = 0; i < 2; i++) { /* as read from the file, also twice */
        l = open_it();
        expect(l, "A", LEDGER_DONE, "/t");
        expect(l, "B", LEDGER_RESERVED, "/t");
        expect(l, "a", LEDGER_UNKNOWN, "untouched"); /* serials keep their case */
        assert_string_equal(ledger_find_registration(l, "a"), "A");
        assert_string_equal(ledger_find_registration(l, "b"), "B");
        ledger_close(l);
    }
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* A line of DONE is never undone by a later reservation. */
static void test_done_stays(void **state)
{
    (void)state;
    struct ledger *l = open_it();
    add(l, "A", "a", LEDGER_DONE);
    add(l, "A", "a", LEDGER_RESERVED);
    expect(l, "A", LEDGER_DONE, "/t");
    ledger_close(l);
    l = open_it();
    expect(l, "A", LEDGER_DONE, "/t");
    ledger_close(l);
}

/* The first owner of a registration id is the one that is told. */
static void test_second_registration(void **state)
{
    (void)state;
    struct ledger *l = open_it();
    add(l, "A", "same", LEDGER_DONE);
    add(l, "B", "same", LEDGER_RESERVED);
    assert_string_equal(ledger_find_registration(l, "same"), "A");
    ledger_close(l);
    l = open_it();
    assert_string_equal(ledger_find_registration(l, "same"), "A");
    expect(l, "B", LEDGER_RESERVED, "/t");
    ledger_close(l);
}

/* A station is bound once; units count once, under the quota of their first line, as read from the file too. */
static void test_quota(void **state)
{
    (void)state;
    const char *name, *office;
    struct ledger *l = open_it();
    add(l, "A", "a", LEDGER_RESERVED);
    assert_false(ledger_bound(l, &name, &office));
    assert_ok(ledger_bind(l, "line-1", "abc", NULL));
    assert_err(ledger_bind(l, "line-1", "abc", NULL), E_EXISTS);
    assert_ok(ledger_reserve(l, "B", "b", "/t", "x509", "q-1", NULL));
    assert_ok(ledger_reserve(l, "B", "b", "/t", "x509", "q-1", NULL));
    assert_ok(ledger_reserve(l, "A", "a", "/t", "x509", "q-1", NULL));
    assert_ok(ledger_reserve(l, "C", "c", "/t", "x509", "q-2", NULL));
    add(l, "B", "b", LEDGER_DONE);
    for (int i = 0; i < 2; i++) {
        assert_true(ledger_bound(l, &name, &office));
        assert_string_equal(name, "line-1");
        assert_string_equal(office, "abc");
        assert_int_equal(ledger_quota_used(l, "q-1"), 1);
        assert_int_equal(ledger_quota_used(l, "q-2"), 1);
        assert_int_equal(ledger_quota_used(l, "q-3"), 0);
        assert_true(ledger_last_us(l) > 0);
        assert_err(ledger_bind(l, "other", "abc", NULL), E_EXISTS);
        expect(l, "", LEDGER_UNKNOWN, "untouched");
        ledger_close(l);
        l = open_it();
    }
    ledger_close(l);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    struct ledger *l = open_it(), *second = NULL;
    struct err_info info = {0};
    assert_err(ledger_open(dir, &second, &info), E_IN_USE);
    assert_null(second);
    assert_non_null(strstr(info.why, dir));
    ledger_close(l);
    ledger_close(open_it());
    ledger_close(NULL);
}

static void test_too_long(void **state)
{
    (void)state;
    static char big[5000];
    struct ledger *l = open_it();
    memset(big, 'x', sizeof(big) - 1);
    assert_err(ledger_add(l, big, "a", LEDGER_RESERVED, "/t", "x509", NULL), E_TOO_LARGE);
    expect(l, big, LEDGER_UNKNOWN, "untouched");
    add(l, "A\"\n\\", "a", LEDGER_DONE); /* the chain goes on; texts are escaped */
    ledger_close(l);
    l = open_it();
    expect(l, "A\"\n\\", LEDGER_DONE, "/t");
    ledger_close(l);
}

/* --- what was written and changed -------------------------------------------------------------------- */

static struct buf content(void)
{
    struct buf b = BUF_INIT(1u << 20);
    assert_ok(fs_read(file, &b, NULL));
    return b;
}

static void put(struct span s)
{
    (void)unlink(file);
    assert_ok(fs_write_atomic(file, s, 0600, NULL));
}

/* Any byte changed, in any line, is found; the line is told. */
static void test_tamper(void **state)
{
    (void)state;
    write_three();
    AUTO(buf_done) struct buf good = content();
    size_t line = 1;
    for (size_t i = 0; i < good.n; i++) {
        struct ledger *l = NULL;
        struct err_info info = {0};
        char want[32];
        uint8_t was = good.p[i];
        if (i + 1 == good.n) {
            break; /* the last line's end: that is a cut line, see below */
        }
        good.p[i] = was == '0' ? '1' : '0';
        put(buf_span(&good));
        enum err e = ledger_open(dir, &l, &info);
        /* Two lines that became one are the first of them. */
        (void)snprintf(want, sizeof(want), "line %zu ", line);
        if (e != E_CORRUPT || l != NULL || strstr(info.why, want) == NULL) {
            fail_msg("byte %zu: %s: %s", i, err_name(e), info.why);
        }
        good.p[i] = was;
        line += was == '\n';
    }
    put(buf_span(&good));
    ledger_close(open_it());
}

static size_t line_end(struct span s, unsigned n)
{
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        at += span_find(span_from(s, at), '\n') + 1;
    }
    return at;
}

static void expect_corrupt(struct span s, const char *line)
{
    struct ledger *l = NULL;
    struct err_info info = {0};
    put(s);
    assert_err(ledger_open(dir, &l, &info), E_CORRUPT);
    assert_non_null(strstr(info.why, line));
}

static void test_lines_moved(void **state)
{
    (void)state;
    write_three();
    AUTO(buf_done) struct buf good = content();
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    struct span all = buf_span(&good);
    size_t one = line_end(all, 1), two = line_end(all, 2);
    expect_corrupt(span_from(all, one), "line 1 "); /* the first is gone */
    buf_add(&b, span_sub(all, 0, one));
    buf_add(&b, span_from(all, two));
    expect_corrupt(buf_span(&b), "line 2 "); /* one in the middle */
    buf_reset(&b);
    buf_add(&b, span_sub(all, one, two - one));
    buf_add(&b, span_sub(all, 0, one));
    expect_corrupt(buf_span(&b), "line 1 "); /* swapped */
    buf_reset(&b);
    buf_add(&b, span_sub(all, 0, one));
    buf_add(&b, all);
    expect_corrupt(buf_span(&b), "line 2 "); /* doubled */
    buf_reset(&b);
    buf_add(&b, all);
    buf_add(&b, SPAN_LIT("\n"));
    expect_corrupt(buf_span(&b), "line 4 "); /* an empty one */
}

/* Cut at every length: whole lines count, the rest of one is dropped, and the chain goes on from there. */
static void test_cut(void **state)
{
    (void)state;
    write_three();
    AUTO(buf_done) struct buf good = content();
    struct span all = buf_span(&good);
    size_t one = line_end(all, 1), two = line_end(all, 2);
    for (size_t n = 0; n < all.n; n += n + 2 >= two && n < two + 2 ? 1 : 7) {
        put(span_sub(all, 0, n));
        struct ledger *l = open_it();
        expect(l, "A",
               n >= two   ? LEDGER_DONE
               : n >= one ? LEDGER_RESERVED
                          : LEDGER_UNKNOWN,
               n >= one ? "/t" : "untouched");
        expect(l, "B", LEDGER_UNKNOWN, "untouched");
        add(l, "C", "c", LEDGER_DONE);
        ledger_close(l);
        l = open_it();
        expect(l, "C", LEDGER_DONE, "/t");
        ledger_close(l);
    }
}

/* --- listing --------------------------------------------------------------------------------------------- */

static void count(void *arg, const struct ledger_entry *e)
{
    unsigned *n = arg;
    ++*n;
    assert_int_equal(e->n, *n);
    assert_span(e->attestation, SPAN_LIT("x509"));
    assert_span(e->serial, *n < 3 ? SPAN_LIT("A") : SPAN_LIT("B"));
    assert_int_equal(e->event, *n == 2 ? LEDGER_DONE : LEDGER_RESERVED);
    assert_true(e->at.n > 20);
}

static void test_each(void **state)
{
    (void)state;
    unsigned n = 0;
    write_three();
    struct ledger *l = open_it();
    assert_ok(ledger_each(l, count, &n, NULL));
    assert_int_equal(n, 3);
    add(l, "C", "c", LEDGER_DONE); /* listing leaves the chain where it was */
    ledger_close(l);
    ledger_close(open_it());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_states, begin, end),
        cmocka_unit_test_setup_teardown(test_quota, begin, end),
        cmocka_unit_test_setup_teardown(test_done_stays, begin, end),
        cmocka_unit_test_setup_teardown(test_second_registration, begin, end),
        cmocka_unit_test_setup_teardown(test_one_at_a_time, begin, end),
        cmocka_unit_test_setup_teardown(test_too_long, begin, end),
        cmocka_unit_test_setup_teardown(test_tamper, begin, end),
        cmocka_unit_test_setup_teardown(test_lines_moved, begin, end),
        cmocka_unit_test_setup_teardown(test_cut, begin, end),
        cmocka_unit_test_setup_teardown(test_each, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
