/* SPDX-License-Identifier: Apache-2.0 */
/* The table of refusals on a real store: added up, bounded, the oldest evicted, strangers apart. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dps/dps.h"
#include "dps/dps_sql.h"
#include "tests/unit.h"

static char dir[64], file[96];
static struct store *store;
static struct db *db;

static int setup(void **state UNUSED)
{
    const struct store_module *const modules[] = {&dps_module};
    const struct store_config cfg = {.path = file,
                                     .modules = modules,
                                     .n_modules = 1,
                                     .clock = clock_system(),
                                     .scan_threads = 1};
    (void)snprintf(dir, sizeof(dir), "/tmp/berth-refusal-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(file, sizeof(file), "%s/registry.db", dir);
    assert_ok(store_open(&cfg, &store, NULL));
    assert_ok(store_reader_open(store, &db, NULL));
    return 0;
}

static int teardown(void **state UNUSED)
{
    store_reader_close(db);
    store_drain(store);
    store_close(store);
    (void)unlink(file);
    return rmdir(dir);
}

/* --- one write at a time ---------------------------------------------------------------------------- */

struct write {
    struct store_op op;
    struct refusal_row row;
    int64_t most;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool is_done;
};

static enum err write_tx(struct store_tx *tx, struct store_op *op)
{
    const struct write *w = CONTAINER_OF(op, struct write, op);
    enum err e = sql_refusal_add(tx->db, &w->row);
    return e != OK ? e : sql_refusal_trim(tx->db, w->row.is_known, w->most);
}

static void write_done(struct msg *m)
{
    struct write *w = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct write, op);
    (void)pthread_mutex_lock(&w->lock);
    w->is_done = true;
    (void)pthread_cond_signal(&w->done);
    (void)pthread_mutex_unlock(&w->lock);
}

static void add(const char *id, const char *rule, bool is_known, int64_t count, int64_t at,
                int64_t most)
{
    struct write w = {.row = {.fold = span_str(id),
                              .rule = span_str(rule),
                              .rid = span_str(id),
                              .is_known = is_known,
                              .count = count,
                              .first_us = at,
                              .last_us = at,
                              .why = SPAN_LIT("why")},
                      .most = most,
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .done = PTHREAD_COND_INITIALIZER};
    w.op.tx = write_tx;
    w.op.msg.run = write_done;
    assert_ok(store_submit(store, &w.op));
    (void)pthread_mutex_lock(&w.lock);
    while (!w.is_done) {
        (void)pthread_cond_wait(&w.done, &w.lock);
    }
    (void)pthread_mutex_unlock(&w.lock);
    assert_ok(w.op.result);
}

/* "id/rule:count " of all, and how many. */
static char shown[4096];

static enum err show(void *arg, const struct refusal_row *row)
{
    size_t n = strlen(shown);
    (void)snprintf(shown + n, sizeof(shown) - n, "%.*s/%.*s:%lld ", SPAN_ARG(row->fold),
                   SPAN_ARG(row->rule), (long long)row->count);
    ++*(size_t *)arg;
    return OK;
}

static size_t list(struct span rule, int known, uint64_t skip, uint64_t top)
{
    size_t n = 0;
    shown[0] = '\0';
    assert_ok(sql_refusal_page(db, rule, known, skip, top, show, &n));
    return n;
}

/* --- the tests ----------------------------------------------------------------------------------------- */

static void test_added_up(void **state UNUSED)
{
    size_t n = 0;
    bool is_known = true;
    add("a", "leaf-cn", false, 2, 100, 100);
    add("a", "leaf-cn", true, 3, 200, 100);
    add("a", "token-form", true, 1, 300, 100);
    assert_int_equal(list(SPAN_NONE, -1, 0, 10), 2);
    assert_string_equal(shown, "a/leaf-cn:5 a/token-form:1 ");
    assert_int_equal(list(SPAN_LIT("leaf-cn"), -1, 0, 10), 1);
    assert_int_equal(list(SPAN_NONE, 0, 0, 10), 0);
    assert_int_equal(list(SPAN_NONE, 1, 1, 10), 1);
    assert_string_equal(shown, "a/token-form:1 ");
    shown[0] = '\0';
    assert_ok(sql_refusal_of(db, SPAN_LIT("a"), show, &n)); /* the latest first */
    assert_string_equal(shown, "a/token-form:1 a/leaf-cn:5 ");
    assert_ok(sql_refusal_is_known(db, SPAN_LIT("a"), &is_known));
    assert_false(is_known);
}

/* Made-up ids push out only made-up ids, the oldest first; an id that gets an enrollment changes sides. */
static void test_bounded(void **state UNUSED)
{
    char id[16];
    for (int i = 0; i < 5; i++) {
        (void)snprintf(id, sizeof(id), "k%d", i);
        add(id, "leaf-cn", true, 1, 1000 + i, 100);
    }
    for (int i = 0; i < 40; i++) {
        (void)snprintf(id, sizeof(id), "s%02d", i);
        add(id, "no-enrollment", false, 1, 2000 + i, 4);
    }
    assert_int_equal(list(SPAN_NONE, 0, 0, 100), 4);
    assert_string_equal(
        shown, "s36/no-enrollment:1 s37/no-enrollment:1 s38/no-enrollment:1 s39/no-enrollment:1 ");
    assert_int_equal(list(SPAN_LIT("leaf-cn"), 1, 0, 100), 5);
    add("s36", "no-enrollment", true, 1, 3000, 100);
    add("s40", "no-enrollment", false, 1, 3000, 4);
    assert_int_equal(list(SPAN_NONE, 0, 0, 100), 4);
    assert_string_equal(
        shown, "s37/no-enrollment:1 s38/no-enrollment:1 s39/no-enrollment:1 s40/no-enrollment:1 ");
    /* A bound that was lowered is reached a few rows at a time. */
    add("k9", "leaf-cn", true, 1, 4000, 2);
    assert_int_equal(list(SPAN_NONE, 1, 0, 100), 3);
    add("k9", "leaf-cn", true, 1, 4000, 2);
    assert_int_equal(list(SPAN_NONE, 1, 0, 100), 2);
    assert_string_equal(shown, "k9/leaf-cn:2 s36/no-enrollment:2 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_added_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
