/* SPDX-License-Identifier: Apache-2.0 */
#include "store/seglog.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/limits.h"
#include "base/log.h"
#include "store/failio.h"
#include "store/fixture.h"
#include "store/segfile.h"
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
        .gather_us = 1000,
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

static bool is_trusted(void *arg)
{
    return atomic_load((atomic_bool *)arg);
}

static void test_retention_by_bytes_and_pause(void **state)
{
    struct fx *f = *state;
    struct seglog_stats st;
    unsigned n = 0;

    f->cfg.segment_bytes = 256;
    f->cfg.retention_bytes = 300000; /* the newest one has room for 64 KiB ahead */
    atomic_bool trusted = false;
    f->cfg.trusts_clock = is_trusted;
    f->cfg.trusts_arg = &trusted;
    open_log(f);
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
    assert_true(st.bytes_on_disk <= 300000);
    assert_int_equal(read_all(f, 0, 1), n + 1 - seglog_first(f->l, 0));
    atomic_store(&trusted, true);
    advance(f, 10 * DAY_S);
    assert_ok(put(f, 0, ++n, NULL));
    advance(f, 10 * DAY_S);
    assert_ok(put(f, 0, ++n, NULL));
    settle(f);
    seglog_stats(f->l, &st);
    assert_true(st.segments <= 2);
}

#define FIRST_SEG "00000000000000000001.seg"
#define SECOND_SEG "00000000000000000002.seg"

/* The log is refused with this error and a text that has these words. */
static void refused(struct fx *f, enum err want, const char *words)
{
    struct err_info info = {.err = OK};
    struct seglog *l = NULL;

    assert_err(seglog_open(&f->cfg, &l, &info), want);
    assert_null(l);
    if (strstr(info.why, words) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", words, info.why);
    }
}

/* The file as it is; freed by the caller. */
static struct buf file_of(struct fx *f, const char *name)
{
    struct buf b = BUF_INIT(64u << 20);
    char *path = fs_join(f->log_dir, name);

    assert_ok(fs_read(path, &b, NULL));
    free(path);
    return b;
}

static void write_file(struct fx *f, const char *name, struct span s)
{
    char *path = fs_join(f->log_dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_ok(fileio_write(fileio_system(), fd, s, 0));
    fileio_close(&fd);
    free(path);
}

static int no_sync(int fd)
{
    (void)fd;
    return 0;
}

static int no_sync_dir(const char *path)
{
    (void)path;
    return 0;
}

/* Calls that may fail as failio.h says, and that do not wait for a disk: for what is done a thousand times. */
static struct fileio *quick_io(void)
{
    static struct fileio io;

    io = *failio();
    io.fdatasync = no_sync;
    io.sync_dir = no_sync_dir;
    return &io;
}

static void no_log(void *arg, struct span line)
{
    (void)arg;
    (void)line;
}

static void test_folder(void **state)
{
    struct fx *f = *state;
    char *tmp = fs_join(f->log_dir, "new.tmp");
    char *seg = fs_join(f->log_dir, FIRST_SEG);
    struct stat sb;
    struct seen s = {.next = 1};
    struct buf good;
    uint64_t next = 0;

    open_log(f);
    assert_ok(put(f, 0, 1, NULL));
    assert_int_equal(stat(seg, &sb), 0);
    assert_int_equal(sb.st_mode & 07777, 0600);
    refused(f, E_IN_USE, "is used by another process");
    close_log(f);
    write_file(f, "new.tmp", SPAN_LIT("half"));
    open_log(f); /* what was interrupted is not taken for a segment, and goes */
    assert_false(fs_exists(tmp));
    close_log(f);
    f->cfg.partitions = PARTS + 1;
    refused(f, E_CONFIG, "4 partitions, the configuration says 5");
    f->cfg.partitions = LIMIT_LOG_PARTITIONS + 1;
    refused(f, E_CONFIG, "partitions");
    f->cfg.partitions = 0;
    refused(f, E_CONFIG, "partitions");
    f->cfg.partitions = PARTS;
    open_log(f);
    assert_int_equal(unlink(seg), 0); /* somebody removed it while we run */
    assert_err(seglog_read(f->l, 0, 1, 9, 99, see, &s, &next), E_CORRUPT);
    close_log(f);
    open_log(f);
    assert_ok(put(f, 0, 1, NULL));
    close_log(f);
    good = file_of(f, FIRST_SEG);
    write_file(f, FIRST_SEG, SPAN_LIT("too short"));
    refused(f, E_CORRUPT, FIRST_SEG);
    write_file(f, FIRST_SEG, span_sub(buf_span(&good), 0, SEG_HEAD_BYTES - 1));
    refused(f, E_CORRUPT, FIRST_SEG);
    write_file(f, SECOND_SEG, buf_span(&good)); /* another one under its name */
    write_file(f, FIRST_SEG, buf_span(&good));
    refused(f, E_CORRUPT, "holds segment 1");
    fixture_dir_done(f->log_dir);
    f->log_dir = fs_join(f->dir, "log");
    f->cfg.dir = f->log_dir;
    buf_done(&good);
    free(tmp);
    free(seg);
}

/* A folder of an earlier version, in SQLite files: neither read nor written over nor left out. threat:S8 */
static void test_formats(void **state)
{
    struct fx *f = *state;
    struct buf b = BUF_INIT(SEG_HEAD_BYTES);
    struct buf same;

    open_log(f);
    assert_ok(put(f, 0, 1, NULL));
    close_log(f);
    b = file_of(f, FIRST_SEG);
    b.p[8]++; /* the format */
    write_file(f, FIRST_SEG, buf_span(&b));
    refused(f, E_CONFIG, "newer format");
    (void)memset(b.p, 0, b.n);
    (void)memcpy(b.p, "SQLite format 3", 16);
    write_file(f, FIRST_SEG, buf_span(&b));
    refused(f, E_CONFIG, "in SQLite files");
    refused(f, E_CONFIG, "move the folder away");
    same = file_of(f, FIRST_SEG);
    assert_span(buf_span(&same), buf_span(&b));
    buf_done(&same);
    buf_done(&b);
}

/* --- damage -------------------------------------------------------------------------------- */

/* As kill -9 leaves it: the segment is neither sealed nor cut. */
static void crash(struct fx *f)
{
    failio_arm(FAILIO_WRITE | FAILIO_TRUNCATE, EIO, 1, 99);
    close_log(f);
    (void)failio_disarm();
}

/* Where each of n commits ends in the file. */
static void put_commits(struct fx *f, size_t n, size_t *ret_end)
{
    f->cfg.io = quick_io();
    open_log(f);
    for (size_t i = 0; i < n; i++) {
        struct put p[3];
        size_t before = f->done;

        for (unsigned k = 0; k < 3; k++) {
            put_init(f, &p[k], 0, (unsigned)i * 3 + k + 1);
            p[k].op.next = k < 2 ? &p[k + 1].op : NULL;
        }
        assert_ok(seglog_append_batch(f->l, &p[0].op, 3));
        fixture_wait(f->mb, &f->done, before + 1);
        ret_end[i] = (i == 0 ? SEG_HEAD_BYTES : ret_end[i - 1]) + 3 * (SEG_REC_BYTES + 1) +
                     p[0].op.body.n + p[1].op.body.n + p[2].op.body.n;
    }
    crash(f);
}

/* Cut at each byte, with nothing, zeros or rubbish behind: the commits before it are there, of the one that is
 * cut nothing is, and the log goes on. */
static void test_torn_tail(void **state)
{
    enum { COMMITS = 3 };
    struct fx *f = *state;
    size_t end[COMMITS] = {0};
    struct buf good, b = BUF_INIT(1u << 20);

    put_commits(f, COMMITS, end);
    good = file_of(f, FIRST_SEG);
    assert_true(good.n > end[2] + 1000); /* room was made ahead */
    log_set_sink(no_log, NULL);
    for (size_t cut = SEG_HEAD_BYTES; cut <= end[2]; cut++) {
        for (unsigned behind = 0; behind < 3; behind++) {
            size_t whole = cut >= end[2] ? 3 : cut >= end[1] ? 2 : cut >= end[0] ? 1 : 0;
            static const uint8_t zeros[300];

            buf_reset(&b);
            buf_add(&b, span_sub(buf_span(&good), 0, cut));
            buf_add(&b, span_of(zeros, behind == 1 ? sizeof(zeros) : 0));
            for (size_t i = 0; behind == 2 && i < 200; i++) {
                buf_add_u8(&b, (uint8_t)(i * 7 + 1));
            }
            write_file(f, FIRST_SEG, buf_span(&b));
            open_log(f);
            assert_int_equal(seglog_last(f->l, 0, NULL), whole * 3);
            assert_int_equal(read_all(f, 0, 1), whole * 3);
            assert_ok(put(f, 0, (unsigned)whole * 3 + 1, NULL));
            assert_int_equal(read_all(f, 0, 1), whole * 3 + 1);
            crash(f);
            open_log(f);
            assert_int_equal(read_all(f, 0, 1), whole * 3 + 1);
            close_log(f);
        }
    }
    log_set_sink(NULL, NULL);
    buf_done(&b);
    buf_done(&good);
}

/* A byte that changed in what was acknowledged is told, whichever it is, and the file left as it is; in the last commit
 * it cannot be told from a torn tail after a crash, but is after an orderly end. */
static void test_damage(void **state)
{
    enum { COMMITS = 3 };
    struct fx *f = *state;
    size_t end[COMMITS] = {0};
    struct buf b, sealed, same;
    uint64_t next = 0;

    put_commits(f, COMMITS, end);
    b = file_of(f, FIRST_SEG);
    for (size_t at = 0; at < end[1]; at++) {
        if (at >= 40 + 16 * PARTS + 4 && at < SEG_HEAD_BYTES) {
            continue; /* nothing is there */
        }
        b.p[at] ^= 0x20;
        write_file(f, FIRST_SEG, buf_span(&b));
        refused(f, at < 8 || at >= 12 ? E_CORRUPT : E_CONFIG, FIRST_SEG);
        same = file_of(f, FIRST_SEG);
        assert_span(buf_span(&same), buf_span(&b));
        buf_done(&same);
        b.p[at] ^= 0x20;
    }
    write_file(f, FIRST_SEG, buf_span(&b));
    open_log(f);
    close_log(f);
    sealed = file_of(f, FIRST_SEG);
    for (size_t at = end[0]; at < end[2]; at += 5) {
        struct seen s = {.next = 1};

        sealed.p[at] ^= 0x20;
        write_file(f, FIRST_SEG, buf_span(&sealed));
        open_log(f); /* it is not read through */
        assert_int_equal(seglog_last(f->l, 0, NULL), 9);
        assert_err(seglog_read(f->l, 0, 1, 99, 9999, see, &s, &next), E_CORRUPT);
        assert_true(s.rows >= 3 && s.rows < 9);
        crash(f); /* does not write it anew */
        sealed.p[at] ^= 0x20;
    }
    buf_done(&sealed);
    buf_done(&b);
}

/* A device sends bytes that look like a record: they are no record, wherever a crash cuts. */
static void test_records_of_others(void **state)
{
    struct fx *f = *state;
    uint8_t fake[2 * SEG_REC_BYTES];
    const struct seg_rec r = {.seq = 2, .ts = START_US, .flags = SEG_FIRST | SEG_LAST};
    struct put p;
    struct buf b;
    struct err_info info = {.err = OK};

    f->cfg.io = failio();
    open_log(f);
    assert_ok(put(f, 0, 1, NULL));
    for (size_t i = 0; i < 2; i++) {
        seg_rec_write(fake + i * SEG_REC_BYTES, &r, 0,
                      SEG_HEAD_BYTES + 2 * SEG_REC_BYTES + 8 + i * SEG_REC_BYTES);
    }
    put_init(f, &p, 0, 2);
    p.op.meta = SPAN_NONE;
    p.op.body = span_of(fake, sizeof(fake));
    assert_ok(seglog_append(f->l, &p.op));
    fixture_wait(f->mb, &f->done, 2);
    crash(f);
    b = file_of(f, FIRST_SEG);
    b.p[SEG_HEAD_BYTES + SEG_REC_BYTES + 8 + 10] ^= 1; /* in the head of the last row */
    write_file(f, FIRST_SEG, buf_span(&b));
    assert_ok(seglog_open(&f->cfg, &f->l, &info));
    assert_int_equal(seglog_last(f->l, 0, NULL), 1);
    buf_done(&b);
}

/* Many segments: one that is missing, shorter or damaged is told, and where. */
static void test_damaged_segments(void **state)
{
    struct fx *f = *state;
    struct seen s = {.next = 1};
    uint64_t next = 0;
    struct buf b;
    char *second = fs_join(f->log_dir, SECOND_SEG);

    f->cfg.segment_bytes = 256;
    open_log(f);
    for (unsigned i = 1; i <= 40; i++) {
        assert_ok(put(f, 0, i, NULL));
    }
    close_log(f);
    b = file_of(f, SECOND_SEG);
    assert_int_equal(unlink(second), 0);
    refused(f, E_CORRUPT, "segment 2 of");
    write_file(f, SECOND_SEG, span_sub(buf_span(&b), 0, SEG_HEAD_BYTES + 100));
    refused(f, E_CORRUPT, "segment 2 of");
    b.p[SEG_HEAD_BYTES + 2]++; /* in the head of its first row */
    write_file(f, SECOND_SEG, buf_span(&b));
    open_log(f);
    assert_err(seglog_read(f->l, 0, 1, SIZE_MAX, SIZE_MAX, see, &s, &next), E_CORRUPT);
    assert_true(s.rows > 3 && s.rows < 10);
    assert_err(seglog_read(f->l, 0, s.next, SIZE_MAX, SIZE_MAX, see, &s, &next), E_CORRUPT);
    assert_int_equal(read_all(f, 0, 30), 11); /* behind it all is well */
    close_log(f);
    b.p[SEG_HEAD_BYTES + 2]--;
    (void)memset(b.p + b.n - 8, 0, 8); /* of the seal: the rows are read through instead */
    write_file(f, SECOND_SEG, buf_span(&b));
    open_log(f);
    assert_int_equal(read_all(f, 0, 1), 40);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(read_all(f, 0, i + 1), 40 - i);
    }
    free(second);
    buf_done(&b);
}

/* A reader that the disk fails says so, and the next read works. */
static void test_read_fails(void **state)
{
    struct fx *f = *state;
    struct seen s = {.next = 1};
    uint64_t next = 0;

    f->cfg.io = failio();
    open_log(f);
    for (unsigned i = 1; i <= 5; i++) {
        assert_ok(put(f, 0, i, NULL));
    }
    for (int nth = 1; nth <= 2; nth++) { /* its head, then its rows */
        failio_arm(FAILIO_READ, EIO, nth, 1);
        assert_err(seglog_read(f->l, 0, 1, 9, 99, see, &s, &next), E_IO);
        assert_int_equal(failio_disarm(), 1);
        assert_int_equal(s.rows, 0);
    }
    assert_int_equal(read_all(f, 0, 1), 5);
}

/* --- the index ----------------------------------------------------------------------------- */

static _Atomic uint64_t bytes_read;

static ssize_t counting_read(int fd, void *p, size_t n, off_t at)
{
    ssize_t got = pread(fd, p, n, at);

    atomic_fetch_add(&bytes_read, got > 0 ? (uint64_t)got : 0);
    return got;
}

/* Reads one row near each place; true when none of them read more than this. */
static bool seeks(struct fx *f, unsigned rows, uint64_t most)
{
    bool ok = true;

    for (unsigned i = 0; i < 20; i++) {
        uint64_t from = 1 + (uint64_t)(i * 7919) % rows, next = 0, seq = 0;
        struct seen s = {.next = from};

        atomic_store(&bytes_read, 0);
        assert_ok(seglog_read(f->l, i % 2, from, 1, SIZE_MAX, see, &s, &next));
        assert_int_equal(s.rows, 1);
        assert_ok(seglog_find_time(f->l, i % 2, START_US + (int64_t)from, &seq));
        assert_int_equal(seq, from);
        ok = ok && atomic_load(&bytes_read) <= most;
    }
    return ok;
}

/* A read seeks: in the newest segment, in one with a seal, and in one whose seal a crash took. */
static void test_index(void **state)
{
    enum { EACH = 500, ROUNDS = 40, ROWS = EACH * ROUNDS };
    static struct put p[2 * EACH];
    struct fx *f = *state;
    struct fileio *io = quick_io();
    const uint64_t most =
        2 * (4096 + 3 * 65536 + 100000); /* two reads: a head, a step and the chunks around it */

    io->pread = counting_read;
    f->cfg.io = io;
    f->cfg.segment_bytes = 2200000;
    open_log(f);
    for (unsigned round = 0; round < ROUNDS; round++) {
        f->done = 0;
        for (unsigned i = 0; i < EACH; i++) {
            atomic_store(&f->clock.wall_us, START_US + (int64_t)(round * EACH + i + 1));
            for (unsigned k = 0; k < 2; k++) {
                put_init(f, &p[2 * i + k], k, round * EACH + i + 1);
                assert_ok(seglog_append(f->l, &p[2 * i + k].op));
            }
            fixture_wait(f->mb, &f->done, 2 * (i + 1)); /* a time of its own for each */
        }
    }
    assert_true(seeks(f, ROWS, most));
    close_log(f);
    open_log(f);
    assert_true(seeks(f, ROWS, most));
    crash(f);
    open_log(f); /* read through, once */
    assert_true(seeks(f, ROWS, most));
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
        T(test_formats),
        T(test_torn_tail),
        T(test_damage),
        T(test_records_of_others),
        T(test_damaged_segments),
        T(test_read_fails),
        T(test_index),
        T(test_watch),
        T(test_full_queue_and_drain),
        T(test_low_disk),
        T(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
