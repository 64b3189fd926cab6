/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was acknowledged is there after a failed write, a failed sync, a full disk, kill -9; what
 * was refused with a definite error is not.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "store/failio.h"
#include "store/failvfs.h"
#include "store/fixture.h"
#include "store/seglog.h"
#include "store/store.h"
#include "tests/unit.h"

#define ROUNDS 20 /* of kill -9 */
#define IN_FLIGHT 64u
#define PARTS 3u

/* --- faults -------------------------------------------------------------------------------- */

struct fault {
    const char *name;
    int which;
    int code;
    int times;
};
static const struct fault faults[] = {
    {"write fails", FAIL_WRITE, SQLITE_IOERR_WRITE, 1},
    {"write is torn", FAIL_TORN, SQLITE_IOERR_WRITE, 1},
    {"no room", FAIL_WRITE, SQLITE_FULL, 1},
    {"no room for all of it", FAIL_TORN, SQLITE_FULL, 1},
    {"no room for some time", FAIL_WRITE, SQLITE_FULL, 20},
    {"sync fails", FAIL_SYNC, SQLITE_IOERR_FSYNC, 1},
    {"sync fails again", FAIL_SYNC, SQLITE_IOERR_FSYNC, 3},
    {"sync and write fail for some time", FAIL_SYNC | FAIL_WRITE, SQLITE_IOERR, 20},
    {"truncate and sync fail", FAIL_SYNC | FAIL_TRUNCATE, SQLITE_IOERR, 3},
    {"sync and open fail", FAIL_SYNC | FAIL_OPEN, SQLITE_CANTOPEN, 3},
};

/* The same and more of the file calls of the log. */
static const struct fault log_faults[] = {
    {"write fails", FAILIO_WRITE, EIO, 1},
    {"write is torn", FAILIO_TORN, EIO, 1},
    {"no room", FAILIO_WRITE, ENOSPC, 1},
    {"no room for all of it", FAILIO_TORN, ENOSPC, 1},
    {"no room for some time", FAILIO_WRITE | FAILIO_ALLOCATE, ENOSPC, 20},
    {"no room ahead", FAILIO_ALLOCATE, ENOSPC, 20},
    {"write is torn and stays", FAILIO_TORN | FAILIO_TRUNCATE, EIO, 20},
    {"sync fails", FAILIO_SYNC, EIO, 1},
    {"sync fails again", FAILIO_SYNC, EIO, 3},
    {"sync loses what was written", FAILIO_LOST, EIO, 1},
    {"sync and write fail for some time", FAILIO_SYNC | FAILIO_WRITE, EIO, 20},
    {"truncate and sync fail", FAILIO_SYNC | FAILIO_TRUNCATE, EIO, 3},
    {"sync and open fail", FAILIO_SYNC | FAILIO_OPEN, EMFILE, 3},
    {"sync and rename fail", FAILIO_SYNC | FAILIO_RENAME, EIO, 3},
    {"folder does not sync", FAILIO_SYNC_DIR, EIO, 1},
    {"folder does not sync for some time", FAILIO_SYNC_DIR, EIO, 4},
    {"a segment cannot be made", FAILIO_OPEN | FAILIO_RENAME, EIO, 2},
};

static void no_log(void *arg, struct span line)
{
    (void)arg;
    (void)line;
}

/* --- store --------------------------------------------------------------------------------- */

enum { SQL_ADD, SQL_HAS, SQL_FILL, SQL_BIG };
static const char *const sql[] = {
    [SQL_ADD] = "INSERT INTO thing(id, doc) VALUES(?1, zeroblob(300))",
    [SQL_HAS] = "SELECT count(*) FROM thing WHERE id = ?1",
    [SQL_BIG] = "INSERT INTO thing(id, doc) VALUES(?1, zeroblob(65536)), (-?1, NULL)",
    [SQL_FILL] = "INSERT INTO thing(id, doc) SELECT -?1, zeroblob(9000)",
};
static const char *const migrations[] = {
    "CREATE TABLE thing(id INTEGER PRIMARY KEY, doc BLOB)",
};
static const struct store_module things = {"things",      0, migrations, ARRAY_LEN(migrations), sql,
                                           ARRAY_LEN(sql)};
static const struct store_module *const modules[] = {&things};

struct add {
    struct store_op op;
    size_t *done;
    int64_t id;
};

static void add_home(struct msg *m)
{
    ++*CONTAINER_OF(m, struct add, op.msg)->done;
}

/* Writes two rows, so that half of an operation would show. */
static enum err add_tx(struct store_tx *tx, struct store_op *op)
{
    struct add *a = CONTAINER_OF(op, struct add, op);

    for (unsigned i = 0; i < 2; i++) {
        AUTO(q_end) struct q q = q_begin(tx->db, &things, i == 0 ? SQL_ADD : SQL_FILL);
        enum err e;
        q_i64(&q, 1, a->id);
        if ((e = q_run(&q, NULL)) != OK) {
            return e;
        }
    }
    return OK;
}

static bool has(struct db *db, int64_t id)
{
    AUTO(q_end) struct q q = q_begin(db, &things, SQL_HAS);

    q_i64(&q, 1, id);
    assert_true(q_step(&q));
    return q_col_i64(&q, 0) == 1;
}

static enum err open_store(const char *path, const char *vfs, struct store **ret)
{
    const struct store_config cfg = {
        .path = path,
        .modules = modules,
        .n_modules = 1,
        .clock = clock_system(),
        .scan_threads = 1,
        .vfs = vfs,
    };

    return store_open(&cfg, ret, NULL);
}

static void check_reader(struct db *db, const struct add *a, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++) {
        bool is_there = has(db, a[i].id);

        if (is_there != has(db, -a[i].id) || (a[i].op.result == OK && !is_there) ||
            (a[i].op.result != OK && a[i].op.result != E_UNKNOWN && is_there)) {
            fail_msg("%s: operation %zu, result %s, there: %d", what, i, err_name(a[i].op.result),
                     is_there);
        }
    }
}

static void check_store(struct store *s, const struct add *a, size_t n, const char *what)
{
    struct err_info info = {.err = OK};
    struct db *db = NULL;

    if (store_reader_open(s, &db, &info) != OK) {
        fail_msg("%s: no reader: %s", what, info.why);
    }
    check_reader(db, a, n, what);
    store_reader_close(db);
}

enum { OPS = 40, GROUP = 8 };

/* Runs all operations, some at a time. */
static void run_adds(struct store *s, struct mailbox *mb, struct add *a, size_t *done)
{
    for (size_t i = 0; i < OPS; i++) {
        a[i] =
            (struct add){{.msg = {NULL, add_home}, .home = mb, .tx = add_tx}, done, (int64_t)i + 1};
        assert_ok(store_submit(s, &a[i].op));
        if (i % GROUP == GROUP - 1) {
            fixture_wait(mb, done, i + 1);
        }
    }
}

/* The store must come back by itself once the disk is well. */
static void wait_well(struct store *s, struct mailbox *mb, const char *what)
{
    for (int64_t i = 0; i < 2000; i++) {
        size_t done = 0;
        struct add a = {{.msg = {NULL, add_home}, .home = mb, .tx = add_tx}, &done, 1000 + i};

        assert_ok(store_submit(s, &a.op));
        fixture_wait(mb, &done, 1);
        if (a.op.result == OK) {
            return;
        }
        (void)poll(NULL, 0, 5);
    }
    fail_msg("%s: does not recover", what);
}

static void try_store_fault(const struct fault *f, int nth, struct mailbox *mb, bool *ret_hit)
{
    static struct add a[OPS];
    char *dir = fixture_dir();
    char *path = fs_join(dir, "s.db");
    struct store *s = NULL;
    struct db *db = NULL; /* a reader that lives through it all */
    size_t done = 0;
    char what[96];

    (void)snprintf(what, sizeof(what), "%s, call %d", f->name, nth);
    assert_ok(open_store(path, FAILVFS_NAME, &s));
    assert_ok(store_reader_open(s, &db, NULL));
    failvfs_arm(f->which, f->code, nth, f->times);
    run_adds(s, mb, a, &done);
    *ret_hit = failvfs_disarm() != 0;
    wait_well(s, mb, what);
    check_reader(db, a, OPS, what);
    store_reader_close(db);
    check_store(s, a, OPS, what);
    store_close(s);
    s = NULL;
    assert_ok(open_store(path, NULL, &s));
    check_store(s, a, OPS, what);
    store_close(s);
    fixture_dir_done(dir);
    free(path);
}

static void test_store_faults(void **state)
{
    struct mailbox *mb = NULL;

    (void)state;
    assert_ok(mailbox_new(&mb));
    log_set_sink(no_log, NULL);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        bool hit = true;
        int nth;
        for (nth = 1; hit && nth < 100; nth += 1 + nth / 3) {
            try_store_fault(&faults[i], nth, mb, &hit);
        }
        assert_true(nth > 4); /* the plan does hit something */
    }
    log_set_sink(NULL, NULL);
    mailbox_free(mb);
}

/* --- checkpoints --------------------------------------------------------------------------- */

static enum err big_tx(struct store_tx *tx, struct store_op *op)
{
    struct add *a = CONTAINER_OF(op, struct add, op);
    AUTO(q_end) struct q q = q_begin(tx->db, &things, SQL_BIG);

    q_i64(&q, 1, a->id);
    return q_run(&q, NULL);
}

/* Enough for the WAL to be over its mark. */
enum { BIGS = 300 };

static void run_bigs(struct store *s, struct mailbox *mb, struct add *a, int64_t from)
{
    size_t done = 0;

    for (size_t i = 0; i < BIGS; i++) {
        a[i] = (struct add){
            {.msg = {NULL, add_home}, .home = mb, .tx = big_tx}, &done, from + (int64_t)i};
        assert_ok(store_submit(s, &a[i].op));
        if (i % 50 == 49) {
            fixture_wait(mb, &done, i + 1);
        }
    }
    for (size_t i = 0; i < BIGS; i++) {
        assert_ok(a[i].op.result);
    }
}

/* A checkpoint that fails harms nobody, and the next one makes good. */
static void test_checkpoint_faults(void **state)
{
    static struct add a[3][BIGS];
    static const int kinds[] = {FAIL_WRITE, FAIL_TORN, FAIL_SYNC};
    struct mailbox *mb = NULL;

    (void)state;
    assert_ok(mailbox_new(&mb));
    log_set_sink(no_log, NULL);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char *dir = fixture_dir();
        char *path = fs_join(dir, "s.db");
        char *wal = fs_join(dir, "s.db-wal");
        struct store *s = NULL;
        struct stat st;

        assert_ok(open_store(path, FAILVFS_NAME, &s));
        failvfs_arm(kinds[i] | FAIL_DB_ONLY, SQLITE_IOERR, 1, INT_MAX);
        run_bigs(s, mb, a[0], 1);
        check_store(s, a[0], BIGS, "while checkpoints fail");
        assert_int_not_equal(failvfs_disarm(), 0);
        run_bigs(s, mb, a[1], 1001);
        run_bigs(s, mb, a[2], 2001);
        assert_int_equal(stat(wal, &st), 0);
        assert_in_range(st.st_size, 16 << 20, 48 << 20); /* it began from the start again */
        store_close(s);
        assert_ok(open_store(path, NULL, &s));
        for (size_t k = 0; k < ARRAY_LEN(a); k++) {
            check_store(s, a[k], BIGS, "after checkpoints failed");
        }
        store_close(s);
        fixture_dir_done(dir);
        free(path);
        free(wal);
    }
    log_set_sink(NULL, NULL);
    mailbox_free(mb);
}

/* The start fails cleanly, whatever call fails, and works afterwards. */
static void test_store_open_faults(void **state)
{
    static const int kinds[] = {FAIL_WRITE, FAIL_SYNC, FAIL_OPEN, FAIL_TORN};

    (void)state;
    log_set_sink(no_log, NULL);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        bool hit = true;
        for (int nth = 1; hit; nth++) {
            char *dir = fixture_dir();
            char *path = fs_join(dir, "s.db");
            struct store *s = NULL;
            enum err e;

            failvfs_arm(kinds[i], SQLITE_FULL, nth, 1);
            e = open_store(path, FAILVFS_NAME, &s);
            hit = failvfs_disarm() != 0;
            assert_true(e == OK || hit);
            if (e == OK) {
                store_close(s);
            } else {
                assert_null(s);
            }
            assert_ok(open_store(path, NULL, &s));
            store_close(s);
            fixture_dir_done(dir);
            free(path);
        }
    }
    log_set_sink(NULL, NULL);
}

/* --- log ----------------------------------------------------------------------------------- */

struct put {
    struct seglog_op op;
    size_t *done;
    uint64_t value;
};

static void put_home(struct msg *m)
{
    ++*CONTAINER_OF(m, struct put, op.msg)->done;
}

static void put_init(struct put *p, struct mailbox *mb, size_t *done, uint64_t value)
{
    *p = (struct put){.done = done, .value = value};
    p->op = (struct seglog_op){.msg = {NULL, put_home},
                               .home = mb,
                               .partition = (unsigned)(value % PARTS),
                               .meta = span_of(&p->value, sizeof(p->value)),
                               .body = SPAN_LIT("some bytes so that a segment becomes full soon")};
}

static enum err open_log(const char *dir, const struct fileio *io, struct seglog **ret)
{
    const struct seglog_config cfg = {
        .dir = dir,
        .partitions = PARTS,
        .segment_bytes = 2000,
        .clock = clock_system(),
        .io = io,
    };

    struct err_info info = {0};
    enum err e = seglog_open(&cfg, ret, &info);
    if (e != OK && io == NULL) {
        print_message("log: %s\n",
                      err_why(&info, e)); /* of the real file system: never wanted here */
    }
    return e;
}

/* All that is in the log, by value: where, and how often. */
enum { VALUES = 400000 };
struct found {
    uint64_t seq[VALUES];
    unsigned char times[VALUES];
    uint64_t next;
};

static bool find(void *arg, const struct seglog_row *row)
{
    struct found *f = arg;
    uint64_t value;

    assert_int_equal(row->seq, f->next); /* no gap */
    f->next++;
    assert_int_equal(row->meta.n, sizeof(value));
    (void)memcpy(&value, row->meta.p, sizeof(value));
    assert_true(value < VALUES);
    f->seq[value] = row->seq;
    f->times[value]++;
    return true;
}

static struct found *read_log(struct seglog *l)
{
    struct found *f = NEW(struct found);

    assert_non_null(f);
    for (unsigned p = 0; p < PARTS; p++) {
        uint64_t next = 0;
        f->next = 1;
        assert_ok(seglog_read(l, p, 1, SIZE_MAX, SIZE_MAX, find, f, &next));
        assert_int_equal(next, f->next);
        assert_int_equal(seglog_last(l, p, NULL), next - 1);
    }
    return f;
}

static void check_log(struct seglog *l, const struct put *p, size_t n, const char *what)
{
    struct found *f = read_log(l);

    for (size_t i = 0; i < n; i++) {
        enum err e = p[i].op.result;
        unsigned times = f->times[p[i].value];

        if ((e == OK && (times != 1 || f->seq[p[i].value] != p[i].op.seq)) ||
            (e == E_UNKNOWN && times > 1) || (e != OK && e != E_UNKNOWN && times != 0)) {
            fail_msg("%s: append %zu, result %s, there %u times", what, i, err_name(e), times);
        }
    }
    free(f);
}

static void wait_log_well(struct seglog *l, struct mailbox *mb, const char *what)
{
    for (uint64_t i = 0; i < 2000; i++) {
        size_t done = 0;
        struct put p;

        put_init(&p, mb, &done, 1000 + i);
        assert_ok(seglog_append(l, &p.op));
        fixture_wait(mb, &done, 1);
        if (p.op.result == OK) {
            return;
        }
        (void)poll(NULL, 0, 5);
    }
    fail_msg("%s: does not recover", what);
}

static void try_log_fault(const struct fault *f, int nth, struct mailbox *mb, bool *ret_hit)
{
    enum { PUTS = 120 };
    static struct put p[PUTS];
    char *dir = fixture_dir();
    char *log_dir = fs_join(dir, "log");
    struct seglog *l = NULL;
    size_t done = 0;
    char what[96];

    (void)snprintf(what, sizeof(what), "log: %s, call %d", f->name, nth);
    assert_ok(open_log(log_dir, failio(), &l));
    failio_arm(f->which, f->code, nth, f->times);
    for (size_t i = 0; i < PUTS; i++) {
        put_init(&p[i], mb, &done, i);
        assert_ok(seglog_append(l, &p[i].op));
        if (i % GROUP == GROUP - 1) {
            fixture_wait(mb, &done, i + 1);
        }
    }
    *ret_hit = failio_disarm() != 0;
    wait_log_well(l, mb, what);
    check_log(l, p, PUTS, what);
    seglog_close(l);
    l = NULL;
    assert_ok(open_log(log_dir, NULL, &l));
    check_log(l, p, PUTS, what);
    seglog_close(l);
    fixture_dir_done(log_dir);
    fixture_dir_done(dir);
}

static void test_log_faults(void **state)
{
    struct mailbox *mb = NULL;

    (void)state;
    assert_ok(mailbox_new(&mb));
    log_set_sink(no_log, NULL);
    for (size_t i = 0; i < ARRAY_LEN(log_faults); i++) {
        bool hit = true;
        int nth;
        for (nth = 1; hit && nth < 150; nth += 1 + nth / 2) {
            try_log_fault(&log_faults[i], nth, mb, &hit);
        }
        assert_true(nth > 2); /* the plan does hit something */
    }
    log_set_sink(NULL, NULL);
    mailbox_free(mb);
}

/* As long as no sync works, nothing at all is acknowledged. */
static void test_no_sync_no_answer(void **state)
{
    static struct add a[OPS];
    struct mailbox *mb = NULL;
    char *dir = fixture_dir();
    char *path = fs_join(dir, "s.db");
    char *log_dir = fs_join(dir, "log");
    struct store *s = NULL;
    struct seglog *l = NULL;
    size_t done = 0, log_done = 0;

    (void)state;
    assert_ok(mailbox_new(&mb));
    log_set_sink(no_log, NULL);
    assert_ok(open_store(path, FAILVFS_NAME, &s));
    assert_ok(open_log(log_dir, failio(), &l));
    failvfs_arm(FAIL_SYNC, SQLITE_IOERR_FSYNC, 1, INT_MAX);
    failio_arm(FAILIO_SYNC, EIO, 1, INT_MAX);
    run_adds(s, mb, a, &done);
    for (size_t i = 0; i < OPS; i++) {
        struct put p;
        assert_int_not_equal(a[i].op.result, OK);
        put_init(&p, mb, &log_done, i);
        assert_ok(seglog_append(l, &p.op));
        fixture_wait(mb, &log_done, i + 1);
        assert_int_not_equal(p.op.result, OK);
        assert_int_equal(p.op.seq, 0);
    }
    assert_int_equal(seglog_last(l, 0, NULL), 0);
    (void)failvfs_disarm();
    (void)failio_disarm();
    wait_well(s, mb, "store");
    wait_log_well(l, mb, "log");
    store_close(s);
    seglog_close(l);
    log_set_sink(NULL, NULL);
    mailbox_free(mb);
    fixture_dir_done(log_dir);
    fixture_dir_done(dir);
    free(path);
}

/* --- kill -9 ------------------------------------------------------------------------------- */

/* The child tells of each acknowledgement through the pipe; never returns. */
typedef void (*child_fn)(const char *path, uint64_t from, int fd);

/* One line of the pipe. */
struct ack {
    uint64_t value, seq;
};

static void tell(int fd, uint64_t value, uint64_t seq)
{
    struct ack a = {value, seq};

    if (write(fd, &a, sizeof(a)) != sizeof(a)) { /* below PIPE_BUF: whole or not at all */
        _exit(1);
    }
}

static void wait_mail(struct mailbox *mb)
{
    struct pollfd p = {.fd = mailbox_fd(mb), .events = POLLIN};

    (void)poll(&p, 1, -1);
    (void)mailbox_run(mb);
}

/* Starts a child, lets it acknowledge some, kills it; appends what it told to acks. */
static size_t kill_one(child_fn child, const char *path, uint64_t from, struct ack *acks,
                       size_t max)
{
    size_t n = 0, enough = (size_t)random_below(400) + 1;
    int fd[2];
    pid_t pid;

    assert_int_equal(pipe(fd), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(fd[0]);
        child(path, from, fd[1]);
        _exit(2);
    }
    (void)close(fd[1]);
    while (n < max && read(fd[0], &acks[n], sizeof(acks[n])) == sizeof(acks[n])) {
        if (++n == enough) {
            assert_int_equal(kill(pid, SIGKILL), 0);
        }
    }
    assert_true(n >= enough && n < max);
    (void)close(fd[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return n;
}

static void store_child(const char *path, uint64_t from, int fd)
{
    static struct add a[IN_FLIGHT];
    static size_t done[IN_FLIGHT];
    struct mailbox *mb = NULL;
    struct store *s = NULL;
    uint64_t next = from;

    if (mailbox_new(&mb) != OK || open_store(path, NULL, &s) != OK) {
        return;
    }
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        done[i] = 1;
    }
    for (;;) {
        for (size_t i = 0; i < IN_FLIGHT; i++) {
            if (done[i] == 0) {
                continue;
            }
            if (a[i].op.result == OK && a[i].id != 0) {
                tell(fd, (uint64_t)a[i].id, 0);
            }
            done[i] = 0;
            a[i] = (struct add){
                {.msg = {NULL, add_home}, .home = mb, .tx = add_tx}, &done[i], (int64_t)next++};
            if (store_submit(s, &a[i].op) != OK) {
                return;
            }
        }
        wait_mail(mb);
    }
}

static void test_store_kill(void **state)
{
    enum { MAX = 50000 };
    static struct ack acks[MAX];
    char *dir = fixture_dir();
    char *path = fs_join(dir, "s.db");
    size_t n = 0;

    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct store *s = NULL;
        struct db *db = NULL;

        n += kill_one(store_child, path, round * 100000 + 1, acks + n, MAX - n);
        assert_ok(open_store(path, NULL, &s));
        assert_ok(store_reader_open(s, &db, NULL));
        for (size_t i = 0; i < n; i++) {
            assert_true(has(db, (int64_t)acks[i].value) && has(db, -(int64_t)acks[i].value));
        }
        store_reader_close(db);
        store_close(s);
    }
    fixture_dir_done(dir);
    free(path);
}

static void log_child(const char *dir, uint64_t from, int fd)
{
    static struct put p[IN_FLIGHT];
    static size_t done[IN_FLIGHT];
    struct mailbox *mb = NULL;
    struct seglog *l = NULL;
    uint64_t next = from;

    if (mailbox_new(&mb) != OK || open_log(dir, NULL, &l) != OK) {
        return;
    }
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        done[i] = 1;
    }
    for (;;) {
        for (size_t i = 0; i < IN_FLIGHT; i++) {
            if (done[i] == 0) {
                continue;
            }
            if (p[i].op.result == OK && p[i].op.seq != 0) {
                tell(fd, p[i].value, p[i].op.seq);
            }
            done[i] = 0;
            put_init(&p[i], mb, &done[i], next++);
            if (next == from + VALUES / ROUNDS || seglog_append(l, &p[i].op) != OK) {
                return;
            }
        }
        wait_mail(mb);
    }
}

static void test_log_kill(void **state)
{
    enum { MAX = 50000 };
    static struct ack acks[MAX];
    char *dir = fixture_dir();
    char *log_dir = fs_join(dir, "log");
    size_t n = 0;

    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct seglog *l = NULL;
        struct found *f;

        n += kill_one(log_child, log_dir, round * (VALUES / ROUNDS), acks + n, MAX - n);
        assert_ok(open_log(log_dir, NULL, &l));
        f = read_log(l);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(f->times[acks[i].value], 1);
            assert_int_equal(f->seq[acks[i].value], acks[i].seq);
        }
        free(f);
        seglog_close(l);
    }
    fixture_dir_done(log_dir);
    fixture_dir_done(dir);
}

/* --- a failure, and then at once kill -9 --------------------------------------------------- */

/* Tells every result, and dies at the first that is not OK: what the writer does about it races. */
static NORETURN void fault_child(const struct fault *f, int nth, bool is_log, const char *path,
                                 int fd)
{
    struct mailbox *mb = NULL;
    struct store *s = NULL;
    struct seglog *l = NULL;
    enum err result = OK;

    log_set_sink(no_log, NULL);
    if (mailbox_new(&mb) != OK ||
        (is_log ? open_log(path, failio(), &l) : open_store(path, FAILVFS_NAME, &s)) != OK) {
        _exit(1);
    }
    (is_log ? failio_arm : failvfs_arm)(f->which, f->code, nth, f->times);
    for (uint64_t i = 1; i < 60 && result == OK; i++) {
        size_t done = 0;
        struct add a = {{.msg = {NULL, add_home}, .home = mb, .tx = add_tx}, &done, (int64_t)i};
        struct put p;

        put_init(&p, mb, &done, i);
        if ((is_log ? seglog_append(l, &p.op) : store_submit(s, &a.op)) != OK) {
            _exit(1);
        }
        while (done == 0) {
            wait_mail(mb);
        }
        result = is_log ? p.op.result : a.op.result;
        tell(fd, i, (uint64_t)result);
    }
    (void)raise(SIGKILL);
    _exit(1);
}

static bool is_as_told(const struct ack *told, bool is_there)
{
    enum err result = (enum err)told->seq;

    return result == OK ? is_there : result == E_UNKNOWN || !is_there;
}

static void check_told(const char *path, bool is_log, const struct ack *told, size_t n,
                       const char *what)
{
    struct store *s = NULL;
    struct seglog *l = NULL;
    struct found *found = NULL;
    struct db *db = NULL;

    if (is_log) {
        assert_ok(open_log(path, NULL, &l));
        found = read_log(l);
    } else {
        assert_ok(open_store(path, NULL, &s));
        assert_ok(store_reader_open(s, &db, NULL));
    }
    for (size_t i = 0; i < n; i++) {
        bool is_there = is_log ? found->times[told[i].value] == 1 : has(db, (int64_t)told[i].value);
        if (!is_as_told(&told[i], is_there)) {
            fail_msg("%s: %zu was told %s, there: %d", what, i, err_name((enum err)told[i].seq),
                     is_there);
        }
    }
    free(found);
    store_reader_close(db);
    store_close(s);
    seglog_close(l);
}

static void try_fault_and_kill(const struct fault *f, int nth, bool is_log)
{
    struct ack told[64];
    char *dir = fixture_dir();
    char *path = fs_join(dir, "x");
    size_t n = 0;
    char what[96];
    int fd[2], status = 0;
    pid_t pid;

    (void)snprintf(what, sizeof(what), "%s: %s, call %d", is_log ? "log" : "store", f->name, nth);
    assert_int_equal(pipe(fd), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fault_child(f, nth, is_log, path, fd[1]);
    }
    (void)close(fd[1]);
    while (n < ARRAY_LEN(told) && read(fd[0], &told[n], sizeof(told[n])) == sizeof(told[n])) {
        n++;
    }
    (void)close(fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && n != 0);
    check_told(path, is_log, told, n, what);
    if (is_log) {
        fixture_dir_done(path);
    }
    fixture_dir_done(dir);
    if (!is_log) {
        free(path);
    }
}

static void test_fault_and_kill(void **state)
{
    (void)state;
    log_set_sink(no_log, NULL);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        for (int nth = 1; nth < 40; nth += 1 + nth / 4) {
            try_fault_and_kill(&faults[i], nth, false);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(log_faults); i++) {
        for (int nth = 1; nth < 40; nth += 1 + nth / 2) {
            try_fault_and_kill(&log_faults[i], nth, true);
        }
    }
    log_set_sink(NULL, NULL);
}

int main(void)
{
    /* clang-format off */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_kill), /* those that fork come first */
        cmocka_unit_test(test_log_kill),
        cmocka_unit_test(test_fault_and_kill),
        cmocka_unit_test(test_store_faults),
        cmocka_unit_test(test_store_open_faults),
        cmocka_unit_test(test_log_faults),
        cmocka_unit_test(test_checkpoint_faults),
        cmocka_unit_test(test_no_sync_no_answer),
    };
    /* clang-format on */

    failvfs_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
