/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "store/fixture.h"
#include "tests/unit.h"

/* --- a module ------------------------------------------------------------------------------ */

enum { SQL_ADD, SQL_SET, SQL_GET, SQL_COUNT, SQL_DEL, SQL_SLOW, SQL_CHILD, SQL_SEQ };
static const char *const sql[] = {
    [SQL_ADD] = "INSERT INTO thing(id, doc, etag) VALUES(?1, ?2, 1)",
    [SQL_SET] = "UPDATE thing SET doc = ?2, etag = etag + 1 WHERE id = ?1 AND etag = ?3",
    [SQL_GET] = "SELECT doc, etag FROM thing WHERE id = ?1",
    [SQL_COUNT] = "SELECT count(*) FROM thing",
    [SQL_DEL] = "DELETE FROM thing WHERE id = ?1",
    [SQL_SLOW] =
        "WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n+1 FROM c) SELECT max(n) FROM c",
    [SQL_CHILD] = "INSERT INTO child(parent) VALUES(?1)",
    [SQL_SEQ] = "INSERT INTO seq(who) VALUES(?1)",
};
static const char *const migrations[] = {
    "CREATE TABLE thing(id TEXT PRIMARY KEY, doc BLOB) WITHOUT ROWID;"
    "INSERT INTO thing VALUES('old', x'00')",
    "ALTER TABLE thing ADD COLUMN etag INTEGER NOT NULL DEFAULT 7",
    "CREATE TABLE child(parent TEXT NOT NULL REFERENCES thing(id) DEFERRABLE INITIALLY DEFERRED);"
    "CREATE TABLE seq(n INTEGER PRIMARY KEY, who INTEGER)",
};
static const struct store_module things = {
    .name = "things",
    .slot = 1,
    .migrations = migrations,
    .n_migrations = ARRAY_LEN(migrations),
    .sql = sql,
    .n_sql = ARRAY_LEN(sql),
};
static const struct store_module *const modules[] = {&things};

struct fx {
    char *dir;
    char *path;
    struct store *s;
    struct mailbox *mb;
    struct store_config cfg;
    struct fixture_clock clock;
    _Atomic uint64_t free_bytes;
    size_t done;
};

static int setup(void **state)
{
    struct fx *f = NEW(struct fx);

    f->dir = fixture_dir();
    f->path = fs_join(f->dir, "things.db");
    fixture_clock_init(&f->clock, 1700000000000000);
    atomic_init(&f->free_bytes, 1u << 30);
    f->cfg = (struct store_config){
        .path = f->path,
        .modules = modules,
        .n_modules = 1,
        .clock = &f->clock.clock,
        .scan_threads = 1,
        .reserve_bytes = 1u << 20,
        .free_bytes = fixture_free,
        .free_arg = &f->free_bytes,
    };
    assert_ok(mailbox_new(&f->mb));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;

    store_close(f->s);
    mailbox_free(f->mb);
    fixture_dir_done(f->dir);
    free(f->path);
    free(f);
    return 0;
}

static void open_store(struct fx *f)
{
    struct err_info info = {.err = OK};
    enum err e = store_open(&f->cfg, &f->s, &info);

    if (e != OK) {
        print_error("%s\n", info.why);
    }
    assert_ok(e);
}

static void close_store(struct fx *f)
{
    store_close(f->s);
    f->s = NULL;
}

/* Runs SQL on the file from outside. */
static void outside(const struct fx *f, const char *text)
{
    sqlite3 *h = NULL;

    assert_int_equal(sqlite3_open(f->path, &h), SQLITE_OK);
    assert_int_equal(sqlite3_exec(h, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(h), SQLITE_OK);
}

static int64_t outside_i64(const struct fx *f, const char *text)
{
    sqlite3 *h = NULL;
    sqlite3_stmt *st = NULL;
    int64_t v;

    assert_int_equal(sqlite3_open(f->path, &h), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(h, text, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    v = sqlite3_column_int64(st, 0);
    (void)sqlite3_finalize(st);
    assert_int_equal(sqlite3_close(h), SQLITE_OK);
    return v;
}

/* --- operations ---------------------------------------------------------------------------- */

struct note {
    struct store_notice n;
    struct job *job;
};
struct job {
    struct store_op op;
    struct fx *f;
    struct span id, doc;
    int64_t etag;
    enum err fail_with;
    unsigned runs;
    size_t order;       /* place among the results */
    size_t notice_seen; /* what had been told when the result came home */
    int64_t now_us;
    struct note note;
    bool with_notice;
    unsigned told, dropped;
};
static _Atomic size_t notices_told;

static void told(struct store_notice *n)
{
    CONTAINER_OF(n, struct note, n)->job->told++;
    atomic_fetch_add(&notices_told, 1);
}

static void dropped(struct store_notice *n)
{
    CONTAINER_OF(n, struct note, n)->job->dropped++;
}

static void job_home(struct msg *m)
{
    struct job *j = CONTAINER_OF(m, struct job, op.msg);

    j->order = j->f->done++;
    j->notice_seen = atomic_load(&notices_told);
}

static enum err job_add(struct store_tx *tx, struct store_op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, op);
    AUTO(q_end) struct q q = q_begin(tx->db, &things, SQL_ADD);
    enum err e;

    j->runs++;
    j->now_us = tx->now_us;
    if (j->with_notice) {
        j->note = (struct note){{NULL, told, dropped}, j};
        store_tx_notify(tx, &j->note.n);
    }
    q_text(&q, 1, j->id);
    q_blob(&q, 2, j->doc);
    if ((e = q_run(&q, NULL)) != OK) {
        return e;
    }
    return j->fail_with;
}

/* Compare and set: no row changed means that the etag is another. */
static enum err job_set(struct store_tx *tx, struct store_op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, op);
    AUTO(q_end) struct q q = q_begin(tx->db, &things, SQL_SET);
    int64_t changes = 0;
    enum err e;

    q_text(&q, 1, j->id);
    q_blob(&q, 2, j->doc);
    q_i64(&q, 3, j->etag);
    if ((e = q_run(&q, &changes)) != OK) {
        return e;
    }
    return changes == 1 ? OK : E_ETAG;
}

static enum err job_orphan(struct store_tx *tx, struct store_op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, op);
    AUTO(q_end) struct q q = q_begin(tx->db, &things, SQL_CHILD);

    j->runs++;
    q_text(&q, 1, SPAN_LIT("nobody"));
    return q_run(&q, NULL);
}

static struct job job_new(struct fx *f, enum err (*tx)(struct store_tx *, struct store_op *),
                          const char *id, const char *doc)
{
    return (struct job){
        .op = {.msg = {NULL, job_home}, .home = f->mb, .tx = tx, .bytes = 100},
        .f = f,
        .id = span_str(id),
        .doc = span_str(doc),
    };
}

static enum err run_job(struct fx *f, struct job *j)
{
    size_t before = f->done;
    enum err e = store_submit(f->s, &j->op);

    if (e != OK) {
        return e;
    }
    fixture_wait(f->mb, &f->done, before + 1);
    return j->op.result;
}

static enum err add(struct fx *f, const char *id, const char *doc)
{
    struct job j = job_new(f, job_add, id, doc);

    return run_job(f, &j);
}

/* Holds the writer inside an operation until it is let go, so that a queue can be built. */
struct gate {
    struct job job;
    int fd[2], entered[2];
};

static enum err gate_tx(struct store_tx *tx, struct store_op *op)
{
    struct gate *g = CONTAINER_OF(op, struct gate, job.op);
    char c;

    (void)tx;
    if (write(g->entered[1], "x", 1) != 1 || read(g->fd[0], &c, 1) != 1) {
        return E_SYS;
    }
    return OK;
}

static void gate_close(struct fx *f, struct gate *g)
{
    char c;

    g->job = job_new(f, gate_tx, "", "");
    assert_int_equal(pipe(g->fd), 0);
    assert_int_equal(pipe(g->entered), 0);
    assert_ok(store_submit(f->s, &g->job.op));
    assert_int_equal(read(g->entered[0], &c, 1), 1); /* it is in a batch of its own */
}

static void gate_open(struct gate *g)
{
    assert_int_equal(write(g->fd[1], "x", 1), 1);
}

static void gate_done(struct gate *g)
{
    for (size_t i = 0; i < 2; i++) {
        (void)close(g->fd[i]);
        (void)close(g->entered[i]);
    }
}

/* --- open, migrate ------------------------------------------------------------------------- */

static void test_new_file(void **state)
{
    struct fx *f = *state;
    struct stat st;
    char *wal;

    open_store(f);
    assert_int_equal(store_boot(f->s), 1);
    assert_ok(add(f, "a", "1"));
    wal = fs_join(f->dir, "things.db-wal");
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    free(wal);
    close_store(f);
    assert_int_equal(chmod(f->path, 0644), 0);
    open_store(f);
    assert_int_equal(store_boot(f->s), 2);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_migrations_from_each_version(void **state)
{
    struct fx *f = *state;
    struct store_module old = things;
    const struct store_module *const old_modules[] = {&old};
    struct store_config cfg = f->cfg;
    char path[600];

    cfg.path = path;
    cfg.modules = old_modules;
    old.n_sql = 0;
    for (size_t v = 0; v <= ARRAY_LEN(migrations); v++) {
        (void)snprintf(path, sizeof(path), "%s/v%zu.db", f->dir, v);
        old.n_migrations = v;
        assert_ok(store_open(&cfg, &f->s, NULL));
        close_store(f);
        f->cfg.path = path;
        open_store(f);
        assert_err(add(f, "old", ""), E_EXISTS); /* row of the first migration lived on */
        close_store(f);
    }
    f->cfg.path = f->path;
}

static void test_newer_schema_is_refused(void **state)
{
    struct fx *f = *state;
    struct err_info info = {.err = OK};

    open_store(f);
    close_store(f);
    outside(f, "UPDATE store_schema SET version = 4");
    assert_err(store_open(&f->cfg, &f->s, &info), E_CONFIG);
    assert_non_null(strstr(info.why, "newer program"));
    assert_null(f->s);
}

static void test_bad_modules(void **state)
{
    static const char *const bad_sql[] = {"SELECT nothing FROM nowhere"};
    static const char *const two_sql[] = {"SELECT 1; SELECT 2"};
    static const char *const bad_migration[] = {"CREATE TABLE a(x); CREATE TABLE a(x)"};
    static const char *const commits[] = {"CREATE TABLE b(x); COMMIT"};
    static const char *const orphan[] = {
        "CREATE TABLE c(x PRIMARY KEY); CREATE TABLE d(y REFERENCES c(x)); INSERT INTO d VALUES(1)",
    };
    const struct {
        const char *name;
        struct store_module m;
        enum err want;
    } rows[] = {
        {"bad statement", {"m", 0, NULL, 0, bad_sql, 1}, E_DB},
        {"two statements in one", {"m", 0, NULL, 0, two_sql, 1}, E_DB},
        {"bad migration", {"m", 0, bad_migration, 1, NULL, 0}, E_DB},
        {"migration that commits", {"m", 0, commits, 1, NULL, 0}, E_BUG},
        {"migration that leaves an orphan", {"m", 0, orphan, 1, NULL, 0}, E_CONFLICT},
        {"slot out of range", {"m", STORE_MODULES, NULL, 0, NULL, 0}, E_BUG},
        {"slot taken", {"m", 1, NULL, 0, NULL, 0}, E_BUG},
    };
    struct fx *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct store_module *const both[] = {&things, &rows[i].m};
        struct store_config cfg = f->cfg;
        struct err_info info = {.err = OK};

        cfg.modules = both;
        cfg.n_modules = 2;
        if (store_open(&cfg, &f->s, &info) != rows[i].want) {
            fail_msg("%s: %s", rows[i].name, info.why);
        }
        assert_string_not_equal(info.why, "");
        assert_null(f->s);
    }
    assert_int_equal(outside_i64(f, "SELECT count(*) FROM sqlite_schema WHERE name IN('a','d')"),
                     0);
}

static void test_bad_files(void **state)
{
    struct fx *f = *state;
    struct err_info info = {.err = OK};
    char garbage[8192];

    (void)memset(garbage, 'x', sizeof(garbage));
    assert_ok(fs_write_atomic(f->path, span_of(garbage, sizeof(garbage)), 0600, NULL));
    assert_err(store_open(&f->cfg, &f->s, &info), E_CORRUPT);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(symlink("/dev/null", f->path), 0);
    assert_int_not_equal(store_open(&f->cfg, &f->s, &info), OK);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_err(store_open(&f->cfg, &f->s, &info), E_IO);
    assert_int_equal(unlink(f->path), 0);
    f->cfg.scan_threads = LIMIT_STORE_SCAN_THREADS + 1;
    assert_err(store_open(&f->cfg, &f->s, &info), E_CONFIG);
    f->cfg.scan_threads = 0;
    assert_err(store_open(&f->cfg, &f->s, &info), E_CONFIG);
}

static void test_locked_by_another(void **state)
{
    struct fx *f = *state;
    struct err_info info = {.err = OK};
    sqlite3 *h = NULL;

    open_store(f);
    assert_int_equal(sqlite3_open(f->path, &h), SQLITE_OK);
    assert_int_equal(sqlite3_exec(h, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_err(add(f, "a", "1"), E_BUSY);
    close_store(f);
    assert_err(store_open(&f->cfg, &f->s, &info), E_IN_USE);
    assert_int_equal(sqlite3_exec(h, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(h), SQLITE_OK);
    open_store(f);
    assert_ok(add(f, "a", "1"));
}

/* --- operations ---------------------------------------------------------------------------- */

static void test_etag(void **state)
{
    struct fx *f = *state;
    struct job j;
    struct db *db = NULL;

    open_store(f);
    assert_ok(add(f, "a", "1"));
    assert_err(add(f, "a", "1"), E_EXISTS);
    j = job_new(f, job_set, "a", "2");
    j.etag = 1;
    assert_ok(run_job(f, &j));
    j = job_new(f, job_set, "a", "3");
    j.etag = 1;
    assert_err(run_job(f, &j), E_ETAG);
    assert_ok(store_reader_open(f->s, &db, NULL));
    {
        AUTO(q_end) struct q q = q_begin(db, &things, SQL_GET);
        q_text(&q, 1, SPAN_LIT("a"));
        assert_true(q_step(&q));
        assert_span(q_col(&q, 0), SPAN_LIT("2"));
        assert_int_equal(q_col_i64(&q, 1), 2);
        assert_false(q_step(&q));
        assert_false(q_step(&q)); /* does not begin again */
        assert_ok(q_err(&q));
    }
    store_reader_close(db);
}

static void test_statements(void **state)
{
    struct fx *f = *state;
    struct db *db = NULL;

    open_store(f);
    assert_ok(add(f, "null", NULL));
    assert_ok(add(f, "empty", ""));
    assert_ok(store_reader_open(f->s, &db, NULL));
    {
        AUTO(q_end) struct q q = q_begin(db, &things, SQL_GET);
        q_text(&q, 1, SPAN_LIT("null"));
        assert_true(q_step(&q));
        assert_true(q_col_null(&q, 0));
        assert_null(q_col(&q, 0).p);
        assert_err(q_run(&q, NULL), OK);
    }
    {
        AUTO(q_end) struct q q = q_begin(db, &things, SQL_GET);
        q_text(&q, 1, SPAN_LIT("empty"));
        assert_true(q_step(&q));
        assert_false(q_col_null(&q, 0));
        assert_non_null(q_col(&q, 0).p);
        assert_int_equal(q_col(&q, 0).n, 0);
    }
    {
        AUTO(q_end) struct q q = q_begin(db, &things, SQL_GET);
        q_text(&q, 2, SPAN_LIT("no such parameter"));
        assert_false(q_step(&q));
        assert_err(q_err(&q), E_BUG);
    }
    {
        AUTO(q_end) struct q q = q_begin(db, &things, SQL_COUNT);
        assert_err(q_run(&q, NULL), E_BUG); /* a row nobody looks at */
    }
    {
        AUTO(q_end) struct q q = q_begin(db, &things, SQL_DEL); /* writes, on a reader */
        q_text(&q, 1, SPAN_LIT("null"));
        assert_err(q_run(&q, NULL), E_BUG);
    }
    store_reader_close(db);
}

static void test_savepoints_and_order(void **state)
{
    enum { N = 100 };
    static struct job j[N];
    static char id[N][16];
    struct fx *f = *state;
    struct gate g;
    struct store_stats st;
    size_t told_before = atomic_load(&notices_told);

    open_store(f);
    gate_close(f, &g);
    for (size_t i = 0; i < N; i++) {
        (void)snprintf(id[i], sizeof(id[i]), "n%zu",
                       i % 10 == 3 ? i - 1 : i); /* each tenth is double */
        j[i] = job_new(f, job_add, id[i], "x");
        j[i].fail_with = i % 10 == 5 ? E_STATE : OK;
        j[i].with_notice = true;
        assert_ok(store_submit(f->s, &j[i].op));
    }
    store_stats(f->s, &st);
    assert_int_equal(st.queued_ops, N + 1);
    assert_int_equal(st.queued_bytes, (N + 1) * 100);
    gate_open(&g);
    fixture_wait(f->mb, &f->done, N + 1);
    for (size_t i = 0; i < N; i++) {
        enum err want = i % 10 == 3 ? E_EXISTS : i % 10 == 5 ? E_STATE : OK;

        assert_err(j[i].op.result, want);
        assert_int_equal(j[i].order, i + 1); /* the gate was first */
        assert_int_equal(j[i].told, want == OK);
        assert_int_equal(j[i].dropped, want != OK);
        assert_int_equal(j[i].runs, 1);
        assert_int_equal(j[i].now_us, 1700000000000000);
        told_before += want == OK;
        assert_true(j[i].notice_seen >= told_before); /* told before the result came home */
    }
    gate_done(&g);
    store_stats(f->s, &st);
    assert_int_equal(st.ops, N + 1);
    assert_int_equal(st.commits, 2); /* the gate's, and one for all the others */
    assert_int_equal(st.queued_ops, 0);
    assert_int_equal(st.queued_bytes, 0);
    close_store(f);
    assert_int_equal(outside_i64(f, "SELECT count(*) FROM thing WHERE id LIKE 'n%'"), N - N / 5);
}

/* A deferred constraint fails at COMMIT: only its own operation may suffer. */
static void test_commit_refused(void **state)
{
    struct fx *f = *state;
    struct gate g;
    struct job a, b, c;

    open_store(f);
    gate_close(f, &g);
    a = job_new(f, job_add, "a", "1");
    b = job_new(f, job_orphan, "", "");
    c = job_new(f, job_add, "c", "1");
    a.with_notice = c.with_notice = true;
    assert_ok(store_submit(f->s, &a.op));
    assert_ok(store_submit(f->s, &b.op));
    assert_ok(store_submit(f->s, &c.op));
    gate_open(&g);
    fixture_wait(f->mb, &f->done, 4);
    gate_done(&g);
    assert_ok(a.op.result);
    assert_err(b.op.result, E_CONFLICT);
    assert_ok(c.op.result);
    assert_int_equal(a.runs, 2);
    assert_int_equal(a.told, 1);
    assert_int_equal(a.dropped, 1);
    close_store(f);
    assert_int_equal(outside_i64(f, "SELECT count(*) FROM thing WHERE id IN ('a', 'c')"), 2);
    assert_int_equal(outside_i64(f, "SELECT count(*) FROM child"), 0);
}

static void test_bulk_has_its_share(void **state)
{
    enum { BULK = 400, NORMAL = 40 };
    static struct job bulk[BULK], normal[NORMAL];
    static char id[BULK + NORMAL][16];
    struct fx *f = *state;
    struct gate g;
    size_t last_normal = 0, bulk_before = 0;

    open_store(f);
    gate_close(f, &g);
    for (size_t i = 0; i < BULK; i++) {
        (void)snprintf(id[i], sizeof(id[i]), "b%zu", i);
        bulk[i] = job_new(f, job_add, id[i], "x");
        bulk[i].op.bulk = true;
        assert_ok(store_submit(f->s, &bulk[i].op));
    }
    for (size_t i = 0; i < NORMAL; i++) {
        (void)snprintf(id[BULK + i], sizeof(id[BULK + i]), "n%zu", i);
        normal[i] = job_new(f, job_add, id[BULK + i], "x");
        assert_ok(store_submit(f->s, &normal[i].op));
    }
    gate_open(&g);
    fixture_wait(f->mb, &f->done, BULK + NORMAL + 1);
    gate_done(&g);
    for (size_t i = 0; i < NORMAL; i++) {
        assert_ok(normal[i].op.result);
        last_normal = MAX(last_normal, normal[i].order);
    }
    for (size_t i = 0; i < BULK; i++) {
        assert_ok(bulk[i].op.result);
        bulk_before += bulk[i].order < last_normal;
    }
    /* Those that came later overtook nearly all of the bulk. */
    assert_true(bulk_before <= 16);
}

static void test_full_queue(void **state)
{
    struct fx *f = *state;
    struct gate g;
    struct job big, bulk, small, urgent;

    open_store(f);
    gate_close(f, &g);
    big = job_new(f, job_add, "big", "x");
    big.op.bytes = LIMIT_STORE_QUEUE_BYTES - 100; /* the gate has 100 */
    small = job_new(f, job_add, "small", "x");
    small.op.bytes = 1;
    urgent = job_new(f, job_add, "urgent", "x");
    urgent.op.urgent = true;
    bulk = job_new(f, job_add, "bulk", "x");
    bulk.op.bulk = true;
    bulk.op.bytes = LIMIT_STORE_QUEUE_BYTES / 2;
    assert_err(store_submit(f->s, &bulk.op), E_BUSY); /* half is not for bulk */
    assert_ok(store_submit(f->s, &big.op));
    assert_err(store_submit(f->s, &small.op), E_BUSY);
    assert_ok(store_submit(f->s, &urgent.op));
    gate_open(&g);
    fixture_wait(f->mb, &f->done, 3);
    gate_done(&g);
    assert_ok(urgent.op.result);
    assert_ok(run_job(f, &small));
}

static void test_drain(void **state)
{
    struct fx *f = *state;
    struct job j;

    open_store(f);
    j = job_new(f, job_add, "a", "x");
    assert_ok(store_submit(f->s, &j.op));
    store_drain(f->s);
    fixture_wait(f->mb, &f->done, 1);
    assert_ok(j.op.result);
    assert_err(add(f, "b", "x"), E_DRAINING);
}

static void test_low_disk(void **state)
{
    struct fx *f = *state;
    struct store_stats st;
    struct job j;
    enum err e;

    atomic_store(&f->free_bytes, (1u << 20) - 1);
    open_store(f);
    store_stats(f->s, &st);
    assert_true(st.low_disk);
    assert_err(add(f, "a", "x"), E_DISK_FULL);
    j = job_new(f, job_add, "revoked", "x");
    j.op.urgent = true;
    assert_ok(run_job(f, &j));
    atomic_store(&f->free_bytes, 2u << 20); /* room returns: noticed without a restart */
    while ((e = add(f, "a", "x")) == E_DISK_FULL) {
        (void)poll(NULL, 0, 5);
    }
    assert_ok(e);
    atomic_store(&f->free_bytes, 0); /* noticed by the writer, before or in a batch */
    for (unsigned i = 0; (e = add(f, "b", "x")) != E_DISK_FULL; i++) {
        assert_true(e == OK || e == E_EXISTS);
        (void)poll(NULL, 0, 5);
    }
}

/* --- scans, backup ------------------------------------------------------------------------- */

struct look {
    struct store_scan scan;
    struct fx *f;
    unsigned sql;
    int64_t n;
};

static void look_home(struct msg *m)
{
    CONTAINER_OF(m, struct look, scan.msg)->f->done++;
}

static enum err look_run(struct db *db, struct store_scan *scan)
{
    struct look *l = CONTAINER_OF(scan, struct look, scan);
    AUTO(q_end) struct q q = q_begin(db, &things, l->sql);

    if (q_step(&q)) {
        l->n = q_col_i64(&q, 0);
    }
    return q_err(&q);
}

static void test_scan(void **state)
{
    struct fx *f = *state;
    struct look a = {.scan = {{NULL, look_home}, f->mb, look_run, UINT64_MAX, OK, NULL},
                     .f = f,
                     .sql = SQL_COUNT};
    struct look b = a;

    f->cfg.clock = clock_system();
    open_store(f);
    assert_ok(add(f, "a", "x"));
    assert_ok(store_scan(f->s, &a.scan));
    fixture_wait(f->mb, &f->done, 2);
    assert_ok(a.scan.result);
    assert_int_equal(a.n, 2); /* the migration's row and this one */
    b.sql = SQL_SLOW;         /* without end */
    b.scan.deadline_ms = clock_mono_ms(clock_system()) + 50;
    assert_ok(store_scan(f->s, &b.scan));
    fixture_wait(f->mb, &f->done, 3);
    assert_err(b.scan.result, E_TIMEOUT);
    b.scan.deadline_ms = 0; /* waited too long */
    b.sql = SQL_COUNT;
    assert_ok(store_scan(f->s, &b.scan));
    fixture_wait(f->mb, &f->done, 4);
    assert_err(b.scan.result, E_TIMEOUT);
    assert_ok(store_scan(f->s, &a.scan)); /* the thread is fine after it */
    fixture_wait(f->mb, &f->done, 5);
    assert_ok(a.scan.result);
    store_drain(f->s);
    assert_err(store_scan(f->s, &a.scan), E_DRAINING);
}

/* A reader without end is nobody's loss: writes are committed and rows are read while it runs; at its deadline it is cut off. */
static void test_scan_harms_nobody(void **state)
{
    struct fx *f = *state;
    struct look slow = {
        .scan = {{NULL, look_home}, f->mb, look_run, 0, OK, NULL}, .f = f, .sql = SQL_SLOW};
    struct db *db = NULL;

    open_store(f);
    assert_ok(store_reader_open(f->s, &db, NULL));
    slow.scan.deadline_ms = clock_mono_ms(f->cfg.clock) + 1000; /* a clock that stands still */
    assert_ok(store_scan(f->s, &slow.scan));
    size_t before = f->done;
    for (unsigned i = 0; i < 50; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%u", i);
        assert_ok(add(f, key, "x"));
        AUTO(q_end) struct q q = q_begin(db, &things, SQL_COUNT);
        assert_true(q_step(&q));
        assert_int_equal(q_col_i64(&q, 0), i + 2); /* the migration's row too */
    }
    assert_int_equal(f->done, before + 50); /* it has not come home */
    atomic_fetch_add(&f->clock.mono_ms, 2000);
    fixture_wait(f->mb, &f->done, before + 51);
    assert_err(slow.scan.result, E_TIMEOUT);
    store_reader_close(db);
}

static void test_backup(void **state)
{
    struct fx *f = *state;
    struct err_info info = {.err = OK};
    struct stat st;
    char *copy = fs_join(f->dir, "copy.db");
    enum err e;

    open_store(f);
    assert_ok(add(f, "a", "x"));
    e = store_backup(f->s, copy, &info);
    if (e != OK) {
        print_error("%s\n", info.why);
    }
    assert_ok(e);
    assert_err(store_backup(f->s, copy, &info), E_EXISTS);
    assert_ok(add(f, "b", "x"));
    close_store(f);
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    f->cfg.path = copy;
    open_store(f);
    assert_int_equal(store_boot(f->s), 2);
    assert_err(add(f, "a", "x"), E_EXISTS);
    assert_ok(add(f, "b", "x"));
    close_store(f);
    f->cfg.path = f->path;
    free(copy);
}

/* --- many threads -------------------------------------------------------------------------- */

enum { SUBMITTERS = 4, ADDS = 150 };

struct submitter {
    struct fx *f;
    struct fx own; /* its mailbox and its count of results */
    pthread_t thread;
    unsigned failed;
};

static enum err bump_tx(struct store_tx *tx, struct store_op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, op);
    int64_t before = -1;
    char text[32];
    {
        AUTO(q_end) struct q q = q_begin(tx->db, &things, SQL_GET);
        q_text(&q, 1, SPAN_LIT("old"));
        if (!q_step(&q)) {
            return q_err(&q);
        }
        before = q_col_i64(&q, 1);
    }
    (void)snprintf(text, sizeof(text), "%lld", (long long)before);
    j->id = SPAN_LIT("old");
    j->doc = span_str(text);
    j->etag = before; /* nobody comes between reading and writing */
    return job_set(tx, op);
}

static void *submit_many(void *arg)
{
    struct submitter *s = arg;
    static const unsigned in_flight = 10;
    struct job j[10];

    for (unsigned i = 0; i < ADDS; i += in_flight) {
        for (unsigned k = 0; k < in_flight; k++) {
            j[k] = job_new(&s->own, bump_tx, "", "");
            j[k].op.bulk = k % 3 == 0;
            s->failed += store_submit(s->f->s, &j[k].op) != OK;
        }
        fixture_wait(s->own.mb, &s->own.done, i + in_flight);
        for (unsigned k = 0; k < in_flight; k++) {
            s->failed += j[k].op.result != OK;
        }
    }
    return NULL;
}

/* What a reader sees only grows, and is never more than what was submitted. */
static void *read_many(void *arg)
{
    struct submitter *s = arg;
    struct db *db = NULL;
    int64_t last = 0;

    if (store_reader_open(s->f->s, &db, NULL) != OK) {
        s->failed++;
        return NULL;
    }
    while (last < 7 + SUBMITTERS * ADDS && s->failed == 0) {
        AUTO(q_end) struct q q = q_begin(db, &things, SQL_GET);
        int64_t now;
        q_text(&q, 1, SPAN_LIT("old"));
        s->failed += !q_step(&q);
        now = q_col_i64(&q, 1);
        s->failed += now < last || now > 7 + SUBMITTERS * ADDS;
        last = now;
    }
    store_reader_close(db);
    return NULL;
}

static void test_many_threads(void **state)
{
    struct fx *f = *state;
    struct submitter s[SUBMITTERS + 1];
    struct look a = {.scan = {{NULL, look_home}, f->mb, look_run, UINT64_MAX, OK, NULL},
                     .f = f,
                     .sql = SQL_COUNT};
    size_t scans = 0;

    open_store(f);
    for (unsigned i = 0; i <= SUBMITTERS; i++) {
        s[i] = (struct submitter){.f = f};
        assert_ok(mailbox_new(&s[i].own.mb));
    }
    for (unsigned i = 0; i <= SUBMITTERS; i++) {
        assert_int_equal(
            pthread_create(&s[i].thread, NULL, i < SUBMITTERS ? submit_many : read_many, &s[i]), 0);
    }
    for (; scans < 50; scans++) {
        assert_ok(store_scan(f->s, &a.scan));
        fixture_wait(f->mb, &f->done, scans + 1);
        assert_ok(a.scan.result);
    }
    for (unsigned i = 0; i <= SUBMITTERS; i++) {
        assert_int_equal(pthread_join(s[i].thread, NULL), 0);
        assert_int_equal(s[i].failed, 0);
        mailbox_free(s[i].own.mb);
    }
    close_store(f);
    assert_int_equal(outside_i64(f, "SELECT etag FROM thing WHERE id = 'old'"),
                     7 + SUBMITTERS * ADDS);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_new_file),
        T(test_migrations_from_each_version),
        T(test_newer_schema_is_refused),
        T(test_bad_modules),
        T(test_bad_files),
        T(test_locked_by_another),
        T(test_etag),
        T(test_statements),
        T(test_savepoints_and_order),
        T(test_commit_refused),
        T(test_bulk_has_its_share),
        T(test_full_queue),
        T(test_drain),
        T(test_low_disk),
        T(test_scan),
        T(test_scan_harms_nobody),
        T(test_backup),
        T(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
