/* SPDX-License-Identifier: Apache-2.0 */
#include "store/seglog.h"

#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "store/fixture.h"
#include "tests/unit.h"

#define START_US 1700000000000000
#define DAY_S 86400
#define PARTS 4u

struct fx {
    char *dir;
    char *log_dir;
    struct seglog *l;
    struct mailbox *mb;
    struct seglog_config cfg;
    struct fixture_clock clock;
    _Atomic uint64_t free_bytes;
    size_t done;
};

static int setup(void **state)
{
    struct fx *f = NEW(struct fx);

    f->dir = fixture_dir();
    f->log_dir = fs_join(f->dir, "log");
    fixture_clock_init(&f->clock, START_US);
    atomic_init(&f->free_bytes, 1u << 30);
    f->cfg = (struct seglog_config){
        .dir = f->log_dir,
        .partitions = PARTS,
        .segment_bytes = 1u << 20,
        .retention_s = DAY_S,
        .retention_bytes = 1u << 30,
        .reserve_bytes = 1u << 20,
        .clock = &f->clock.clock,
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

    seglog_close(f->l);
    mailbox_free(f->mb);
    if (fs_exists(f->log_dir)) {
        fixture_dir_done(f->log_dir);
    } else {
        free(f->log_dir);
    }
    fixture_dir_done(f->dir);
    free(f);
    return 0;
}

static void open_log(struct fx *f)
{
    struct err_info info = {.err = OK};
    enum err e = seglog_open(&f->cfg, &f->l, &info);

    if (e != OK) {
        print_error("%s\n", info.why);
    }
    assert_ok(e);
}

static void close_log(struct fx *f)
{
    seglog_close(f->l);
    f->l = NULL;
}

static void advance(struct fx *f, int64_t seconds)
{
    atomic_fetch_add(&f->clock.wall_us, seconds * 1000000);
}

struct put {
    struct seglog_op op;
    struct fx *f;
    char text[32];
    size_t order;
};

static void put_home(struct msg *m)
{
    struct put *p = CONTAINER_OF(m, struct put, op.msg);

    p->order = p->f->done++;
}

static void put_init(struct fx *f, struct put *p, unsigned partition, unsigned n)
{
    *p = (struct put){.f = f};
    (void)snprintf(p->text, sizeof(p->text), "body %u", n);
    p->op = (struct seglog_op){.msg = {NULL, put_home},
                               .home = f->mb,
                               .partition = partition,
                               .meta = SPAN_LIT("m"),
                               .body = span_str(p->text)};
}

static enum err put(struct fx *f, unsigned partition, unsigned n, uint64_t *ret_seq)
{
    size_t before = f->done;
    struct put p;
    enum err e;

    put_init(f, &p, partition, n);
    if ((e = seglog_append(f->l, &p.op)) != OK) {
        return e;
    }
    fixture_wait(f->mb, &f->done, before + 1);
    if (p.op.result == OK && ret_seq != NULL) {
        *ret_seq = p.op.seq;
    }
    return p.op.result;
}

/* Checks that row n has the text "body n" and that numbers and times go up. */
struct seen {
    uint64_t next;
    int64_t ts;
    size_t rows;
    size_t stop_after;
};

static bool see(void *arg, const struct seglog_row *row)
{
    struct seen *s = arg;
    char want[32];

    (void)snprintf(want, sizeof(want), "body %u", (unsigned)row->seq);
    assert_int_equal(row->seq, s->next);
    assert_span(row->body, span_str(want));
    assert_span(row->meta, SPAN_LIT("m"));
    assert_true(row->enqueued_us >= s->ts);
    s->ts = row->enqueued_us;
    s->next++;
    s->rows++;
    return s->rows != s->stop_after;
}

/* Reads all from `from` on; returns how many. */
static size_t read_all(struct fx *f, unsigned partition, uint64_t from)
{
    struct seen s = {.next = MAX(from, seglog_first(f->l, partition))};
    uint64_t next = 0;

    assert_ok(seglog_read(f->l, partition, from, SIZE_MAX, SIZE_MAX, see, &s, &next));
    assert_int_equal(next, MAX(from, seglog_last(f->l, partition, NULL) + 1));
    return s.rows;
}

/* Empties it: the writer has nothing to do any more when this returns. */
static void settle(struct fx *f)
{
    struct seglog_stats st;

    do {
        seglog_stats(f->l, &st);
    } while (st.queued_ops != 0 || st.writing);
}

/* --- appending, numbers -------------------------------------------------------------------- */

static void test_append_and_read(void **state)
{
    enum { N = 1000 };
    static struct put p[N];
    struct fx *f = *state;
    struct seglog_stats st;
    struct stat sb;
    int64_t ts = 0;

    open_log(f);
    assert_int_equal(seglog_last(f->l, 0, &ts), 0);
    assert_int_equal(seglog_first(f->l, 0), 1);
    assert_int_equal(read_all(f, 0, 1), 0);
    for (unsigned i = 0; i < N; i++) {
        put_init(f, &p[i], i % 2, i / 2 + 1);
        assert_ok(seglog_append(f->l, &p[i].op));
    }
    fixture_wait(f->mb, &f->done, N);
    for (unsigned i = 0; i < N; i++) {
        assert_ok(p[i].op.result);
        assert_int_equal(p[i].order, i);
        assert_int_equal(p[i].op.seq, i / 2 + 1);
        assert_int_equal(p[i].op.enqueued_us, START_US);
    }
    assert_int_equal(seglog_last(f->l, 0, &ts), N / 2);
    assert_int_equal(ts, START_US);
    assert_int_equal(read_all(f, 0, 1), N / 2);
    assert_int_equal(read_all(f, 1, 0), N / 2);
    assert_int_equal(read_all(f, 1, 400), N / 2 - 399);
    assert_int_equal(read_all(f, 1, 9999), 0);
    assert_int_equal(read_all(f, 2, 1), 0);
    settle(f);
    seglog_stats(f->l, &st);
    assert_int_equal(st.appended, N);
    assert_int_equal(st.segments, 1);
    assert_true(st.bytes_on_disk > 0);
    assert_int_equal(st.queued_bytes, 0);
    assert_int_equal(stat(f->log_dir, &sb), 0);
    assert_int_equal(sb.st_mode & 07777, 0700);
    close_log(f);
    open_log(f);
    assert_int_equal(seglog_last(f->l, 1, &ts), N / 2);
    assert_int_equal(ts, START_US);
    assert_int_equal(read_all(f, 0, 1), N / 2);
}

static void test_read_limits(void **state)
{
    struct fx *f = *state;
    const struct {
        const char *name;
        size_t rows, bytes, stop_after, want;
    } rows[] = {
        {"rows", 3, SIZE_MAX, 0, 3},     {"bytes, one too many", 10, 8, 0, 2},
        {"bytes, exactly", 10, 7, 0, 1}, {"at least one", 10, 1, 0, 1},
        {"no row", 0, SIZE_MAX, 0, 0},   {"no byte", 10, 0, 0, 0},
        {"stopped", 10, SIZE_MAX, 2, 2}, {"all", 10, SIZE_MAX, 0, 5},
    };
    uint64_t next = 0;

    open_log(f);
    for (unsigned i = 1; i <= 5; i++) {
        assert_ok(put(f, 0, i, NULL)); /* 7 bytes each */
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct seen s = {.next = 1, .stop_after = rows[i].stop_after};
        assert_ok(seglog_read(f->l, 0, 1, rows[i].rows, rows[i].bytes, see, &s, &next));
        if (s.rows != rows[i].want || next != rows[i].want + 1) {
            fail_msg("%s: %zu", rows[i].name, s.rows);
        }
    }
    assert_err(seglog_read(f->l, PARTS, 1, 1, 1, see, NULL, &next), E_ARG);
    assert_err(seglog_find_time(f->l, PARTS, 1, &next), E_ARG);
    assert_err(put(f, PARTS, 1, NULL), E_ARG);
}

static bool see_empty(void *arg, const struct seglog_row *row)
{
    struct span *s = arg;

    s[0] = row->meta;
    s[1] = row->body;
    return true;
}

static void test_empty_and_absent(void **state)
{
    struct fx *f = *state;
    struct put p;
    struct span s[2] = {SPAN_LIT("x"), SPAN_LIT("x")};
    uint64_t next = 0;

    open_log(f);
    put_init(f, &p, 0, 1);
    p.op.meta = SPAN_NONE;
    p.op.body = SPAN_LIT("");
    assert_ok(seglog_append(f->l, &p.op));
    fixture_wait(f->mb, &f->done, 1);
    assert_ok(seglog_read(f->l, 0, 1, 9, 9, see_empty, s, &next));
    assert_null(s[0].p);
    assert_non_null(s[1].p);
    assert_int_equal(s[0].n + s[1].n, 0);
    assert_int_equal(next, 2);
}

static void test_batch(void **state)
{
    enum { N = 5 };
    static struct put p[LIMIT_STORE_BATCH + 1];
    struct fx *f = *state;
    const unsigned part[N] = {2, 1, 2, 2, 1};
    const unsigned want[N] = {1, 1, 2, 3, 2};
    struct seglog_stats st;

    open_log(f);
    for (unsigned i = 0; i < N; i++) {
        put_init(f, &p[i], part[i], want[i]);
        p[i].op.next = i + 1 < N ? &p[i + 1].op : NULL;
    }
    assert_ok(seglog_append_batch(f->l, &p[0].op, N));
    fixture_wait(f->mb, &f->done, 1);
    assert_int_equal(f->done, 1); /* one message for all */
    for (unsigned i = 0; i < N; i++) {
        assert_ok(p[i].op.result);
        assert_int_equal(p[i].op.seq, want[i]);
    }
    seglog_stats(f->l, &st);
    assert_int_equal(st.commits, 1);
    p[2].op.partition = PARTS;
    assert_err(seglog_append_batch(f->l, &p[0].op, N), E_ARG);
    assert_err(seglog_append_batch(f->l, &p[0].op, 0), E_ARG);
    for (unsigned i = 0; i <= LIMIT_STORE_BATCH; i++) {
        put_init(f, &p[i], 0, i + 1);
        p[i].op.next = i < LIMIT_STORE_BATCH ? &p[i + 1].op : NULL;
    }
    assert_err(seglog_append_batch(f->l, &p[0].op, LIMIT_STORE_BATCH + 1), E_LIMIT);
    assert_ok(seglog_append_batch(f->l, &p[0].op, LIMIT_STORE_BATCH));
    fixture_wait(f->mb, &f->done, 2);
    seglog_stats(f->l, &st);
    assert_int_equal(st.commits, 2);
    assert_int_equal(read_all(f, 0, 1), LIMIT_STORE_BATCH);
    assert_int_equal(read_all(f, 2, 1), 3);
}

static void test_time_never_goes_back(void **state)
{
    struct fx *f = *state;
    uint64_t seq = 0;
    int64_t ts = 0;

    open_log(f);
    assert_ok(put(f, 0, 1, NULL));
    advance(f, -3600);
    assert_ok(put(f, 0, 2, NULL));
    seglog_last(f->l, 0, &ts);
    assert_int_equal(ts, START_US);
    assert_ok(put(f, 1, 1, NULL)); /* another partition has its own time */
    seglog_last(f->l, 1, &ts);
    assert_int_equal(ts, START_US - 3600000000);
    close_log(f);
    open_log(f); /* also not over a restart */
    assert_ok(put(f, 0, 3, NULL));
    seglog_last(f->l, 0, &ts);
    assert_int_equal(ts, START_US);
    advance(f, 7200);
    assert_ok(put(f, 0, 4, NULL));
    assert_ok(seglog_find_time(f->l, 0, START_US, &seq));
    assert_int_equal(seq, 1);
    assert_ok(seglog_find_time(f->l, 0, START_US + 1, &seq));
    assert_int_equal(seq, 4);
}

/* --- segments, retention ------------------------------------------------------------------- */

/* Numbers stay without gaps, and each row is where it was, across new segments and restarts. */
static void test_roll_and_restart(void **state)
{
    struct fx *f = *state;
    struct seglog_stats st;
    uint64_t seq = 0;
    unsigned n = 0;

    f->cfg.segment_bytes = 256;
    for (unsigned restart = 0; restart < 5; restart++) {
        open_log(f);
        for (unsigned i = 0; i < 40; i++) {
            advance(f, 1);
            assert_ok(put(f, 0, ++n, &seq));
            assert_int_equal(seq, n);
            if (i % 8 == 0) {
                assert_ok(put(f, 3, n, NULL));
            }
        }
        assert_int_equal(read_all(f, 0, 1), n);
        close_log(f);
    }
    open_log(f);
    seglog_stats(f->l, &st);
    assert_true(st.segments > 10);
    assert_int_equal(seglog_last(f->l, 3, NULL), 25);
    for (unsigned i = 0; i <= n + 1; i++) {
        assert_ok(seglog_find_time(f->l, 0, START_US + (int64_t)i * 1000000, &seq));
        assert_int_equal(seq, MAX(i, 1));
        assert_int_equal(read_all(f, 0, i), n + 1 - MAX(i, 1));
    }
    assert_ok(seglog_find_time(f->l, 2, START_US, &seq)); /* empty */
    assert_int_equal(seq, 1);
}

static void test_retention_by_age(void **state)
{
    struct fx *f = *state;
    struct seglog_stats st;
    uint64_t seq = 0, next = 0;
    struct seen s = {0};

    open_log(f);
    for (unsigned i = 1; i <= 5; i++) {
        assert_ok(put(f, 0, i, &seq));
    }
    advance(f, DAY_S / 2);
    assert_ok(put(f, 0, 6, &seq)); /* an eighth of the day has passed: the next segment begins */
    settle(f);
    seglog_stats(f->l, &st);
    assert_int_equal(st.segments, 2);
    advance(f, DAY_S / 2 + 1); /* 1 to 5 are too old, but not all of their segment */
    assert_ok(put(f, 1, 1, &seq));
    settle(f);
    assert_int_equal(seglog_first(f->l, 0), 1);
    advance(f, DAY_S / 2);
    assert_ok(put(f, 1, 2, &seq));
    settle(f);
    assert_int_equal(seglog_first(f->l, 0), 7);
    assert_int_equal(seglog_last(f->l, 0, NULL), 6);
    assert_ok(seglog_read(f->l, 0, 1, 9, 99, see, &s, &next));
    assert_int_equal(s.rows, 0);
    close_log(f);
    open_log(f); /* numbers outlive the rows */
    assert_int_equal(seglog_last(f->l, 0, NULL), 6);
    assert_ok(put(f, 0, 7, &seq));
    assert_int_equal(seq, 7);
    assert_int_equal(read_all(f, 0, 1), 1);
}

static void test_retention_by_bytes_and_pause(void **state)
{
    struct fx *f = *state;
    struct seglog_stats st;
    unsigned n = 0;

    f->cfg.segment_bytes = 256;
    f->cfg.retention_bytes = 400000;
    open_log(f);
    seglog_pause_retention(f->l, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_ok(put(f, 0, ++n, NULL));
    }
    advance(f, 10 * DAY_S); /* the clock jumped: nothing is thrown away for its age */
    for (unsigned i = 0; i < 30; i++) {
        assert_ok(put(f, 0, ++n, NULL));
        advance(f, 2);
    }
    settle(f);
    seglog_stats(f->l, &st);
    assert_true(st.segments > 2 && st.segments < 15);
    assert_int_equal(seglog_first(f->l, 0), 1);
    for (unsigned i = 0; i < 300; i++) { /* room is no matter of time */
        assert_ok(put(f, 0, ++n, NULL));
        advance(f, 2);
    }
    settle(f);
    seglog_stats(f->l, &st);
    assert_true(seglog_first(f->l, 0) > 1);
    assert_true(st.bytes_on_disk <= 400000);
    assert_int_equal(read_all(f, 0, 1), n + 1 - seglog_first(f->l, 0));
    seglog_pause_retention(f->l, false);
    advance(f, 10 * DAY_S);
    assert_ok(put(f, 0, ++n, NULL));
    advance(f, 10 * DAY_S);
    assert_ok(put(f, 0, ++n, NULL));
    settle(f);
    seglog_stats(f->l, &st);
    assert_true(st.segments <= 2);
}

static void test_folder(void **state)
{
    struct fx *f = *state;
    struct err_info info = {.err = OK};
    char *tmp = fs_join(f->log_dir, "new.tmp");
    char *seg = fs_join(f->log_dir, "00000000000000000001.seg");
    struct stat sb;
    struct seglog *l = NULL;
    sqlite3 *h = NULL;
    struct seen s = {.next = 1};
    uint64_t next = 0;

    open_log(f);
    assert_ok(put(f, 0, 1, NULL));
    assert_int_equal(stat(seg, &sb), 0);
    assert_int_equal(sb.st_mode & 07777, 0600);
    close_log(f);
    assert_ok(fs_write_atomic(tmp, SPAN_LIT("half"), 0600, NULL));
    open_log(f); /* what was interrupted is not taken for a segment, and goes */
    assert_false(fs_exists(tmp));
    close_log(f);
    f->cfg.partitions = PARTS + 1;
    assert_err(seglog_open(&f->cfg, &l, &info), E_CONFIG);
    assert_non_null(strstr(info.why, "4 partitions, the configuration says 5"));
    f->cfg.partitions = LIMIT_LOG_PARTITIONS + 1;
    assert_err(seglog_open(&f->cfg, &l, &info), E_CONFIG);
    f->cfg.partitions = 0;
    assert_err(seglog_open(&f->cfg, &l, &info), E_CONFIG);
    f->cfg.partitions = PARTS;
    assert_int_equal(sqlite3_open(seg, &h), SQLITE_OK);
    assert_int_equal(sqlite3_exec(h, "PRAGMA user_version=2", NULL, NULL, NULL), SQLITE_OK);
    assert_err(seglog_open(&f->cfg, &l, &info), E_CONFIG);
    assert_int_equal(sqlite3_exec(h, "PRAGMA user_version=1; BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_err(seglog_open(&f->cfg, &l, &info), E_IN_USE);
    assert_int_equal(
        sqlite3_exec(h, "ROLLBACK; DELETE FROM base WHERE partition = 2", NULL, NULL, NULL),
        SQLITE_OK);
    assert_err(seglog_open(&f->cfg, &l, &info), E_CORRUPT);
    assert_int_equal(sqlite3_exec(h,
                                  "INSERT INTO base VALUES(2, 10, 0);"
                                  "INSERT INTO p2(seq, ts) VALUES(5, 0)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_err(seglog_open(&f->cfg, &l, &info), E_CORRUPT);
    assert_int_equal(sqlite3_exec(h, "DELETE FROM p2", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(h), SQLITE_OK);
    open_log(f);
    assert_int_equal(seglog_last(f->l, 2, NULL), 10);
    assert_int_equal(read_all(f, 0, 1), 1);
    close_log(f);
    open_log(f);
    assert_int_equal(unlink(seg), 0); /* somebody removed it while we run */
    assert_err(seglog_read(f->l, 0, 1, 9, 99, see, &s, &next), E_CORRUPT);
    close_log(f);
    assert_ok(fs_write_atomic(seg,
                              SPAN_LIT("this is not a database at all, but some text that is"
                                       " longer than the head of a database file; it goes on"
                                       " and on and on until it is long enough for that"),
                              0600, NULL));
    assert_err(seglog_open(&f->cfg, &l, &info), E_CORRUPT);
    assert_non_null(strstr(info.why, "00000000000000000001.seg"));
    assert_int_equal(unlink(seg), 0);
    free(tmp);
    free(seg);
}

/* --- marks, watches, drain ----------------------------------------------------------------- */

struct watcher {
    struct seglog_watch w;
    unsigned woken;
};

static void woken(struct msg *m)
{
    CONTAINER_OF(m, struct watcher, w.msg)->woken++;
}

static struct watcher watcher_new(struct fx *f, unsigned partition, uint64_t seq)
{
    return (struct watcher){
        .w = {.msg = {NULL, woken}, .home = f->mb, .partition = partition, .seq = seq},
    };
}

static void test_watch(void **state)
{
    struct fx *f = *state;
    struct watcher now, next, later, other, gone;

    open_log(f);
    now = watcher_new(f, 0, 0);
    next = watcher_new(f, 0, 1);
    later = watcher_new(f, 0, 3);
    other = watcher_new(f, 1, 1);
    gone = watcher_new(f, 0, 1);
    seglog_watch(f->l, &now.w);
    (void)mailbox_run(f->mb);
    assert_int_equal(now.woken, 1); /* the mark is there already */
    assert_false(seglog_unwatch(f->l, &now.w));
    seglog_watch(f->l, &next.w);
    seglog_watch(f->l, &gone.w);
    seglog_watch(f->l, &later.w);
    seglog_watch(f->l, &other.w);
    assert_true(seglog_unwatch(f->l, &gone.w));
    assert_false(seglog_unwatch(f->l, &gone.w));
    assert_ok(put(f, 0, 1, NULL));
    assert_int_equal(next.woken, 1); /* before the result of the append is home */
    assert_false(next.w.armed);
    assert_ok(put(f, 0, 2, NULL));
    assert_int_equal(next.woken, 1); /* once */
    assert_int_equal(later.woken, 0);
    assert_ok(put(f, 0, 3, NULL));
    assert_int_equal(later.woken, 1);
    assert_int_equal(gone.woken, 0);
    assert_int_equal(other.woken, 0);
    assert_true(other.w.armed);
    assert_true(seglog_unwatch(f->l, &other.w));
    seglog_watch(f->l, &next.w); /* may be set again */
    (void)mailbox_run(f->mb);
    assert_int_equal(next.woken, 2);
}

/* Holds the writer thread in an answer, so that a queue can be built. */
struct gate {
    struct seglog_op op;
    int fd[2], entered[2];
};

static void gate_home(struct msg *m)
{
    struct gate *g = CONTAINER_OF(m, struct gate, op.msg);
    char c;

    if (write(g->entered[1], "x", 1) != 1 || read(g->fd[0], &c, 1) != 1) {
        abort();
    }
}

static void test_full_queue_and_drain(void **state)
{
    enum { BIG = 4u << 20 };
    static struct put p[17];
    struct fx *f = *state;
    struct gate g = {.op = {.msg = {NULL, gate_home}}};
    char *big = mem_new(BIG);
    struct seglog_stats st;
    char c;

    open_log(f);
    assert_int_equal(pipe(g.fd), 0);
    assert_int_equal(pipe(g.entered), 0);
    assert_ok(seglog_append(f->l, &g.op));
    assert_int_equal(read(g.entered[0], &c, 1), 1);
    for (unsigned i = 0; i < 17; i++) {
        put_init(f, &p[i], 0, i);
        p[i].op.meta = SPAN_NONE;
        p[i].op.body = span_of(big, BIG);
        assert_err(seglog_append(f->l, &p[i].op), i < 16 ? OK : E_BUSY);
    }
    seglog_stats(f->l, &st);
    assert_int_equal(st.queued_bytes, 64u << 20);
    assert_int_equal(write(g.fd[1], "x", 1), 1);
    seglog_drain(f->l);
    assert_err(seglog_append(f->l, &p[16].op), E_DRAINING);
    fixture_wait(f->mb, &f->done, 16);
    assert_int_equal(p[15].op.seq, 17);
    for (size_t i = 0; i < 2; i++) {
        (void)close(g.fd[i]);
        (void)close(g.entered[i]);
    }
    free(big);
}

static void test_low_disk(void **state)
{
    struct fx *f = *state;
    uint64_t seq = 0;
    enum err e;

    atomic_store(&f->free_bytes, (1u << 20) - 1);
    open_log(f);
    assert_err(put(f, 0, 1, NULL), E_DISK_FULL);
    atomic_store(&f->free_bytes, 1u << 30); /* noticed without a restart */
    while ((e = put(f, 0, 1, &seq)) == E_DISK_FULL) {
        (void)poll(NULL, 0, 5);
    }
    assert_ok(e);
    assert_int_equal(seq, 1);
}

/* --- many threads -------------------------------------------------------------------------- */

enum { APPENDERS = 3, APPENDS = 300 };

struct worker {
    struct fx *f;
    struct fx own; /* its mailbox and its count of results */
    pthread_t thread;
    unsigned partition;
    unsigned failed;
};

/* One partition for each, so that the text of a row says its number. */
static void *append_many(void *arg)
{
    struct worker *w = arg;
    struct put p[10];

    for (unsigned i = 0; i < APPENDS; i += 10) {
        for (unsigned k = 0; k < 10; k++) {
            put_init(&w->own, &p[k], w->partition, i + k + 1);
            w->failed += seglog_append(w->f->l, &p[k].op) != OK;
        }
        fixture_wait(w->own.mb, &w->own.done, i + 10);
        for (unsigned k = 0; k < 10; k++) {
            w->failed += p[k].op.result != OK || p[k].op.seq != i + k + 1;
        }
    }
    return NULL;
}

/* Follows a partition: reads what is there, then waits for more. */
static void *follow(void *arg)
{
    struct worker *w = arg;
    struct seen s = {.next = 1};
    uint64_t next = 1;

    while (next <= APPENDS) {
        struct watcher more = watcher_new(&w->own, w->partition, next);
        seglog_watch(w->f->l, &more.w);
        while (more.woken == 0) {
            struct pollfd p = {.fd = mailbox_fd(w->own.mb), .events = POLLIN};
            (void)poll(&p, 1, -1);
            (void)mailbox_run(w->own.mb);
        }
        if (seglog_read(w->f->l, w->partition, next, 7, 1000, see, &s, &next) != OK ||
            next != s.next) {
            w->failed++;
            break;
        }
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    struct fx *f = *state;
    struct worker w[2 * APPENDERS];
    struct seglog_stats st;

    f->cfg.segment_bytes = 2000;
    open_log(f);
    for (unsigned i = 0; i < 2 * APPENDERS; i++) {
        w[i] = (struct worker){.f = f, .partition = i % APPENDERS};
        assert_ok(mailbox_new(&w[i].own.mb));
    }
    for (unsigned i = 0; i < 2 * APPENDERS; i++) {
        assert_int_equal(
            pthread_create(&w[i].thread, NULL, i < APPENDERS ? append_many : follow, &w[i]), 0);
    }
    for (unsigned i = 0; i < 2 * APPENDERS; i++) {
        assert_int_equal(pthread_join(w[i].thread, NULL), 0);
        assert_int_equal(w[i].failed, 0);
        mailbox_free(w[i].own.mb);
    }
    seglog_stats(f->l, &st);
    assert_true(st.segments > 5);
    for (unsigned p = 0; p < APPENDERS; p++) {
        assert_int_equal(read_all(f, p, 1), APPENDS);
    }
}

/* Killed while a new segment was about to get its WAL: the rollback journal is still there, and a reader may not use it. */
static void test_hot_journal(void **state)
{
    struct fx *f = *state;
    char *seg = fs_join(f->log_dir, "00000000000000000001.seg");
    char *journal = fs_join(f->log_dir, "00000000000000000001.seg-journal");
    struct stat sb;
    int status = -1;

    open_log(f);
    assert_ok(put(f, 0, 1, NULL));
    close_log(f);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sqlite3 *h = NULL;
        bool ok = sqlite3_open(seg, &h) == SQLITE_OK &&
                  sqlite3_exec(h,
                               "PRAGMA journal_mode=DELETE; PRAGMA cache_size=2; BEGIN IMMEDIATE;"
                               "CREATE TABLE x(a); INSERT INTO x VALUES(zeroblob(400000))",
                               NULL, NULL, NULL) == SQLITE_OK;
        _exit(ok ? 0 : 1); /* without COMMIT or ROLLBACK */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(stat(journal, &sb), 0);
    assert_true(sb.st_size > 0);
    open_log(f);
    assert_int_equal(read_all(f, 0, 1), 1);
    close_log(f);
    free(seg);
    free(journal);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_append_and_read),
        T(test_read_limits),
        T(test_empty_and_absent),
        T(test_batch),
        T(test_time_never_goes_back),
        T(test_roll_and_restart),
        T(test_retention_by_age),
        T(test_retention_by_bytes_and_pause),
        T(test_folder),
        T(test_hot_journal),
        T(test_watch),
        T(test_full_queue_and_drain),
        T(test_low_disk),
        T(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
