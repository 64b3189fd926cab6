/* SPDX-License-Identifier: Apache-2.0 */
/* threat:S5 A hostile client plays each message; what is signed stands in the book first, and within the bounds. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "signer/serve.h"
#include "tests/unit.h"

#define DAY_US (86400LL * 1000000)

static int64_t now_us = 1795000000LL * 1000000;
static int64_t wall(void *arg UNUSED)
{
    return now_us;
}
static uint64_t mono(void *arg UNUSED)
{
    return 0;
}
static const struct clock test_clock = {wall, mono, NULL};

struct fixture {
    char dir[64], path[96], book_dir[96];
    struct keyring *keys;
    struct desk *desk;
    struct book *book;
    struct serve *serve;
    struct desk_made made;
    struct cert *ca;
    struct signer_key *unit_key;
    struct buf csr;
};
static uint64_t a_day[BOOK_ACTS] = {3, 5};

static struct serve_rules rules(void)
{
    return (struct serve_rules){.allow_uids = {(unsigned)getuid()},
                                .n_uids = 1,
                                .key_types = 1u << KEY_P256,
                                .most_life_us = 90 * DAY_US};
}

static struct desk_ask make_ask(void)
{
    return (struct desk_ask){.act = DESK_MAKE,
                             .key = {DESK_SEALED, SPAN_LIT("factory"), SPAN_NONE},
                             .type = KEY_P256,
                             .is_self_signed = true,
                             .not_before_us = now_us - DAY_US,
                             .not_after_us = now_us + 3650 * DAY_US,
                             .cn = SPAN_LIT("Factory CA")};
}

static struct desk_ask issue_ask(const struct fixture *f)
{
    return (struct desk_ask){.act = DESK_ISSUE,
                             .key = {DESK_SEALED, SPAN_LIT("factory"), buf_span(&f->made.source)},
                             .not_before_us = now_us - 600 * 1000000LL,
                             .not_after_us = now_us + 30 * DAY_US,
                             .cn = SPAN_LIT("unit-1"),
                             .ca = cert_der(f->ca),
                             .csr = buf_span(&f->csr)};
}

/* ret_out holds what the answer points into */
static enum err asked(struct fixture *f, const struct desk_ask *a, struct buf *ret_out,
                      struct desk_answer *ret)
{
    AUTO(buf_done) struct buf in = BUF_INIT(DESK_MESSAGE_MAX);
    buf_reset(ret_out);
    assert_ok(desk_ask_add(a, &in));
    serve_message(f->serve, 4711, buf_span(&in), ret_out);
    assert_ok(desk_answer_read(buf_span(ret_out), ret));
    return ret->err;
}

static void start(struct fixture *f)
{
    struct err_info info = {0};
    struct serve_rules r = rules();
    assert_ok(book_open(f->book_dir, &test_clock, a_day, &f->book, &info));
    assert_ok(serve_open(f->path, &r, f->desk, f->book, &test_clock, &f->serve, &info));
}

static void stop(struct fixture *f)
{
    serve_close(f->serve);
    book_close(f->book);
    f->serve = NULL;
    f->book = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err_info info = {0};
    char keys[96];
    (void)snprintf(f->dir, sizeof(f->dir), "%s", "/tmp/berth-signer-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
    (void)snprintf(f->book_dir, sizeof(f->book_dir), "%s/book", f->dir);
    (void)snprintf(keys, sizeof(keys), "%s/master.keys", f->dir);
    assert_ok(fs_private_dir(f->book_dir, &info));
    assert_ok(keyring_open(keys, true, &f->keys, &info));
    assert_ok(desk_local_new(f->keys, NULL, NULL, &f->desk));
    start(f);
    struct desk_answer answer;
    AUTO(buf_done) struct buf out = BUF_INIT(DESK_MESSAGE_MAX);
    const struct desk_ask a = make_ask();
    assert_ok(asked(f, &a, &out, &answer));
    f->made = (struct desk_made)DESK_MADE_INIT;
    buf_add(&f->made.source, answer.part[0]);
    assert_ok(cert_from_der(answer.part[2], &f->ca, &info));
    assert_ok(signer_key_generate(KEY_P256, &f->unit_key));
    f->csr = (struct buf)BUF_INIT(LIMIT_CERT_DER);
    assert_ok(signer_make_csr(f->unit_key, SPAN_LIT("unit-1"), &f->csr, &info));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[160];
    stop(f);
    desk_free(f->desk);
    keyring_free(f->keys);
    cert_free(f->ca);
    signer_key_free(f->unit_key);
    desk_made_done(&f->made);
    buf_done(&f->csr);
    (void)snprintf(command, sizeof(command), "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void read_book(const struct fixture *f, struct buf *ret)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/book-20261118.jsonl", f->book_dir);
    assert_ok(fs_read(path, ret, NULL));
}

static void test_issue(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf out = BUF_INIT(DESK_MESSAGE_MAX), book = BUF_INIT(1u << 16);
    AUTO(cert_free_p) struct cert *leaf = NULL;
    struct desk_answer answer;
    struct desk_ask a = issue_ask(f);
    char serial[64] = "";
    assert_ok(asked(f, &a, &out, &answer));
    assert_ok(cert_from_der(answer.part[0], &leaf, NULL));
    assert_true(cert_issued_by(leaf, f->ca));
    assert_false(cert_is_ca(leaf));
    AUTO(buf_done) struct buf hex = BUF_INIT(64);
    cert_add_serial_hex(leaf, &hex);
    assert_true(span_to_cstr(buf_span(&hex), serial, sizeof(serial)));
    read_book(f, &book);
    buf_add_u8(&book, 0);
    assert_non_null(strstr((char *)book.p, serial));
    assert_non_null(strstr((char *)book.p, "\"from\":\"uid 4711\",\"act\":\"issue unit-1 "));
}

static void test_out_of_bounds(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done)
    struct buf out = BUF_INIT(DESK_MESSAGE_MAX), other_csr = BUF_INIT(LIMIT_CERT_DER);
    AUTO(buf_done) struct buf ca_csr = BUF_INIT(LIMIT_CERT_DER), bad = BUF_INIT(LIMIT_CERT_DER);
    AUTO(signer_key_free_p) struct signer_key *big = NULL;
    AUTO(cert_free_p) struct cert *leaf = NULL, *stranger = NULL;
    struct desk_answer answer;
    struct desk_ask a = issue_ask(f), b;
    assert_ok(signer_key_generate(KEY_P384, &big));
    assert_ok(signer_make_csr(big, SPAN_LIT("unit-1"), &other_csr, NULL));
    assert_ok(asked(f, &a, &out, &answer));
    assert_ok(cert_from_der(answer.part[0], &leaf, NULL));

    b = a, b.not_after_us = now_us + 91 * DAY_US;
    assert_err(asked(f, &b, &out, &answer), E_CERT);
    b = a, b.not_before_us = now_us - 3 * DAY_US;
    assert_err(asked(f, &b, &out, &answer), E_EXPIRED);
    b = a, b.cn = SPAN_LIT("unit-2");
    assert_err(asked(f, &b, &out, &answer), E_CERT);
    b = a, b.also_server = true;
    assert_err(asked(f, &b, &out, &answer), E_CERT);
    b = a, b.csr = buf_span(&other_csr);
    assert_err(asked(f, &b, &out, &answer), E_CERT);
    b = a, b.ca = cert_der(leaf); /* a leaf is no CA */
    assert_err(asked(f, &b, &out, &answer), E_CERT);
    b = a, b.key.name = SPAN_LIT("another"); /* the sealed key is bound to its name */
    assert_err(asked(f, &b, &out, &answer), E_CONFIG);
    buf_add(&bad, a.csr);
    bad.p[bad.n - 5] ^= 1; /* not signed by its own key */
    b = a, b.csr = buf_span(&bad);
    assert_true(asked(f, &b, &out, &answer) != OK);
    const struct cert_request rq = {.profile = PROFILE_ROOT_CA,
                                    .cn = SPAN_LIT("Factory CA"),
                                    .not_before_us = now_us - DAY_US,
                                    .not_after_us = now_us + 3650 * DAY_US};
    assert_ok(signer_issue_now(big, NULL, NULL, NULL, &rq, &stranger, NULL));
    b = a, b.ca = cert_der(stranger); /* of another key */
    assert_err(asked(f, &b, &out, &answer), E_CONFIG);
    b = make_ask(), b.not_after_us = now_us + 40000 * DAY_US;
    assert_err(asked(f, &b, &out, &answer), E_CERT);
}

static void test_malformed(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf in = BUF_INIT(DESK_MESSAGE_MAX), out = BUF_INIT(DESK_MESSAGE_MAX);
    struct desk_answer answer;
    const struct desk_ask a = issue_ask(f);
    assert_ok(desk_ask_add(&a, &in));
    for (size_t n = 0; n < in.n; n += 1 + n / 16) { /* cut off anywhere */
        buf_reset(&out);
        serve_message(f->serve, 1, span_sub(buf_span(&in), 0, n), &out);
        assert_ok(desk_answer_read(buf_span(&out), &answer));
        assert_true(answer.err == E_MALFORMED || answer.err == E_TRUNCATED);
    }
    for (size_t i = 0; i < 5; i++) { /* version, act, kind, flags, type out of range */
        uint8_t was = in.p[i];
        in.p[i] = 0xff;
        buf_reset(&out);
        serve_message(f->serve, 1, buf_span(&in), &out);
        assert_ok(desk_answer_read(buf_span(&out), &answer));
        assert_err(answer.err, i == 0 ? E_VERSION : E_MALFORMED);
        in.p[i] = was;
    }
}

/* The quota outlives the process, and the next day begins a new one. */
static void test_quota(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf out = BUF_INIT(DESK_MESSAGE_MAX);
    struct desk_answer answer;
    struct desk_ask a = issue_ask(f);
    for (uint64_t i = 0; i < a_day[BOOK_ISSUE]; i++) {
        assert_ok(asked(f, &a, &out, &answer));
        if (i == 2) {
            stop(f);
            start(f);
        }
    }
    assert_err(asked(f, &a, &out, &answer), E_LIMIT);
    stop(f);
    start(f);
    assert_err(asked(f, &a, &out, &answer), E_LIMIT);
    struct desk_ask m = make_ask();
    assert_ok(asked(f, &m, &out, &answer));
    assert_ok(asked(f, &m, &out, &answer));
    assert_err(asked(f, &m, &out, &answer), E_LIMIT);
    now_us += DAY_US;
    a = issue_ask(f);
    assert_ok(asked(f, &a, &out, &answer));
    now_us -= DAY_US; /* the clock goes back: the newer day goes on */
    assert_ok(asked(f, &a, &out, &answer));
}

static void test_book(void **state)
{
    struct fixture *f = *state;
    AUTO(buf_done) struct buf out = BUF_INIT(DESK_MESSAGE_MAX), book = BUF_INIT(1u << 16);
    struct desk_answer answer;
    struct err_info info = {0};
    char path[160];
    const struct desk_ask a = issue_ask(f);
    assert_ok(asked(f, &a, &out, &answer));
    assert_ok(asked(f, &a, &out, &answer));
    stop(f);
    (void)snprintf(path, sizeof(path), "%s/book-20261118.jsonl", f->book_dir);
    read_book(f, &book);
    /* cut off by a crash: the line is dropped */
    assert_int_equal(truncate(path, (off_t)book.n - 10), 0);
    start(f);
    assert_ok(asked(f, &a, &out, &answer));
    stop(f);
    /* changed: it does not open */
    read_book(f, &book);
    int fd = open(path, O_WRONLY);
    assert_true(pwrite(fd, "X", 1, 60) == 1);
    close(fd);
    assert_err(book_open(f->book_dir, &test_clock, a_day, &f->book, &info), E_CORRUPT);
    fd = open(path, O_WRONLY);
    assert_true(pwrite(fd, book.p + 60, 1, 60) == 1);
    close(fd);
    start(f);
}

/* --- over the socket ------------------------------------------------------------------------------------- */

static int stop_pipe[2];
static void *run(void *arg)
{
    serve_run(arg, stop_pipe[0]);
    return NULL;
}

static void test_far(void **state)
{
    struct fixture *f = *state;
    struct desk *far = NULL;
    AUTO(cert_free_p) struct cert *leaf = NULL;
    struct err_info info = {0};
    pthread_t t;
    const struct desk_ask a = issue_ask(f);
    const struct desk_issue rq = {.key = a.key,
                                  .ca = f->ca,
                                  .csr = a.csr,
                                  .rq = {.profile = PROFILE_DEVICE,
                                         .cn = a.cn,
                                         .not_before_us = a.not_before_us,
                                         .not_after_us = a.not_after_us}};
    assert_int_equal(pipe(stop_pipe), 0);
    assert_ok(desk_far_new(f->path, &far));
    assert_int_equal(pthread_create(&t, NULL, run, f->serve), 0);
    assert_ok(desk_issue(far, &rq, &leaf, &info));
    assert_true(cert_issued_by(leaf, f->ca));
    struct desk_issue bad = rq;
    bad.rq.not_after_us += 365 * DAY_US;
    cert_free(TAKE(leaf));
    assert_err(desk_issue(far, &bad, &leaf, &info), E_CERT);
    assert_non_null(strstr(info.why, "signer: "));
    /* it goes away, and comes back: one call hears of it, the next is served */
    assert_int_equal(write(stop_pipe[1], "x", 1), 1);
    assert_int_equal(pthread_join(t, NULL), 0);
    stop(f);
    assert_err(desk_issue(far, &rq, &leaf, &info), E_AGAIN);
    char byte;
    assert_int_equal(read(stop_pipe[0], &byte, 1), 1);
    start(f);
    assert_int_equal(pthread_create(&t, NULL, run, f->serve), 0);
    assert_ok(desk_issue(far, &rq, &leaf, &info));
    desk_free(far);
    assert_int_equal(write(stop_pipe[1], "x", 1), 1);
    assert_int_equal(pthread_join(t, NULL), 0);
    close(stop_pipe[0]);
    close(stop_pipe[1]);
}

/* A user who may not ask is shut out before his first byte; a second signer does not take the socket. */
static void test_who(void **state)
{
    struct fixture *f = *state;
    struct serve_rules r = rules();
    struct serve *second = NULL;
    struct err_info info = {0};
    struct desk *far = NULL;
    struct desk_made made;
    pthread_t t;
    assert_err(serve_open(f->path, &r, f->desk, f->book, &test_clock, &second, &info), E_IN_USE);
    serve_close(f->serve);
    f->serve = NULL;
    r.allow_uids[0] = (unsigned)getuid() + 1;
    assert_ok(serve_open(f->path, &r, f->desk, f->book, &test_clock, &f->serve, &info));
    assert_int_equal(pipe(stop_pipe), 0);
    assert_int_equal(pthread_create(&t, NULL, run, f->serve), 0);
    assert_ok(desk_far_new(f->path, &far));
    const struct desk_make rq = {.key = {DESK_SEALED, SPAN_LIT("x"), SPAN_NONE},
                                 .type = KEY_P256,
                                 .cn = SPAN_LIT("x"),
                                 .not_before_us = 0,
                                 .not_after_us = 1};
    assert_err(desk_make(far, &rq, &made, &info), E_AGAIN);
    desk_free(far);
    assert_int_equal(write(stop_pipe[1], "x", 1), 1);
    assert_int_equal(pthread_join(t, NULL), 0);
    close(stop_pipe[0]);
    close(stop_pipe[1]);
}

int main(void)
{
#define T(x) cmocka_unit_test_setup_teardown(x, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_issue), T(test_out_of_bounds), T(test_malformed), T(test_quota),
        T(test_book),  T(test_far),           T(test_who),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
