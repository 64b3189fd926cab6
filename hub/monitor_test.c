/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the telemetry log over HTTPS: hub/http_monitor.h. Real answers, chunk by chunk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hub/http_monitor.h"
#include "hub/metrics.h"
#include "hub/tests/link.h"
#include "net/http.h"
#include "store/db.h"

struct reader {
    int fd;
    struct buf raw;  /* as it came */
    struct buf text; /* what of it was in chunks */
    size_t used;     /* of raw */
    size_t at;       /* of text: the next line */
    bool has_head, is_ended, is_closed;
    unsigned status;
};

static void on_open(struct conn *c, void *arg)
{
    (void)arg;
    assert_ok(http_attach(bed.http, conn_stream(c)));
}

static struct reader *ask(const char *query)
{
    int fd[2];
    struct conn *c;
    char token[1024];
    struct reader *r = calloc(1, sizeof *r);
    r->raw = r->text = (struct buf)BUF_INIT(64u << 20);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    r->fd = fd[1];
    assert_ok(conn_adopt(bed.worker.loop, fd[0], NULL, true, on_open, NULL, &c));
    AUTO(buf_done) struct buf b = BUF_INIT(8192);
    bed_token(token, BED_HOST, bed_policy_key("service", 0), "service", 3600);
    buf_addf(&b,
             "GET /messages/events?api-version=2026-11-01-berth%s HTTP/1.1\r\nHost: " BED_HOST
             "\r\nAuthorization: %s\r\n\r\n",
             query, token);
    assert_int_equal(send(r->fd, b.p, b.n, MSG_NOSIGNAL), b.n);
    link_turn(4);
    return r;
}

static void reader_end(struct reader *r)
{
    close(r->fd);
    buf_done(&r->raw);
    buf_done(&r->text);
    free(r);
    link_turn(8);
}

static struct span unread(const struct reader *r)
{
    return span_of(r->raw.p + r->used, r->raw.n - r->used);
}

static bool cut_line(struct reader *r, char *dst, size_t n)
{
    struct span s = unread(r);
    size_t at = s.n > 0 ? span_find(s, '\n') : 0;
    if (at >= s.n) {
        return false;
    }
    (void)snprintf(dst, n, "%.*s", (int)at, (const char *)s.p);
    r->used += at + 1;
    return true;
}

static void unchunk(struct reader *r)
{
    char line[512];
    while (!r->has_head && cut_line(r, line, sizeof line)) {
        r->status = r->status == 0 ? (unsigned)strtoul(line + 9, NULL, 10) : r->status;
        r->has_head = line[0] == '\r';
    }
    while (r->has_head && !r->is_ended) {
        size_t before = r->used;
        if (!cut_line(r, line, sizeof line)) {
            return;
        }
        size_t n = strtoul(line, NULL, 16);
        if (unread(r).n < n + 2) {
            r->used = before;
            return;
        }
        buf_add(&r->text, span_sub(unread(r), 0, n));
        r->used += n + 2;
        r->is_ended = n == 0;
    }
}

static void pull(struct reader *r)
{
    uint8_t *p = buf_reserve(&r->raw, 65536);
    ssize_t n = recv(r->fd, p, 65536, MSG_DONTWAIT);
    r->raw.n += n > 0 ? (size_t)n : 0;
    r->is_closed = r->is_closed || n == 0 || (n < 0 && errno != EAGAIN);
    unchunk(r);
}

/* The next line that is not empty; "" when the answer has ended. */
static const char *hear(struct reader *r)
{
    static char line[1u << 20];
    for (;;) {
        struct span rest = span_from(buf_span(&r->text), r->at);
        size_t n = rest.n > 0 ? span_find(rest, '\n') : 0;
        if (n < rest.n) {
            (void)snprintf(line, sizeof line, "%.*s", (int)n, (const char *)rest.p);
            r->at += n + 1;
            if (n > 0) {
                return line;
            }
            continue;
        }
        if (r->is_ended || r->is_closed) {
            return "";
        }
        loop_turn(bed.worker.loop, 1);
        pull(r);
    }
}

static unsigned n_done;
static void done(void *user, uint64_t tag, enum err result)
{
    (void)user;
    (void)tag;
    assert_ok(result);
    n_done++;
}

static void append(const char *id, struct span body)
{
    const struct telemetry_source src = {
        .device_id = span_str(id), .generation_id = SPAN_LIT("1"), .auth_method_json = "{}"};
    const struct telemetry_message m = {.body = body};
    struct err_info info = {0};
    unsigned want = n_done + 1;
    assert_ok(telemetry_begin(&bed.worker, &src, &m, done, NULL, 0, &info));
    bed_wait(&n_done, want);
}

static void append_n(const char *id, unsigned from, unsigned to)
{
    for (unsigned i = from; i <= to; i++) {
        char body[16];
        (void)snprintf(body, sizeof body, "%u", i);
        append(id, span_str(body));
    }
}

static void expect(struct reader *r, unsigned from, unsigned to)
{
    for (unsigned i = from; i <= to; i++) {
        char want[32];
        const char *line = hear(r);
        (void)snprintf(want, sizeof want, "\"%u\"", i);
        assert_string_equal(member(line, "body"), want);
    }
}

static void lines(void **state)
{
    (void)state;
    append("dev-1", SPAN_LIT("a\"b"));
    append("dev-1", SPAN_LIT("\xff"));
    append("dev-1", SPAN_NONE);
    struct reader *r = ask("&from=earliest&follow=false");
    const char *line = hear(r);
    assert_int_equal(r->status, 200);
    assert_string_equal(member(line, "deviceId"), "\"dev-1\"");
    assert_string_equal(member(line, "sequenceNumber"), "1");
    assert_string_equal(member(line, "body"), "\"a\\\"b\"");
    assert_string_equal(member(line, "bodyEncoding"), "\"utf-8\"");
    assert_string_equal(member(line, "enqueuedTimeUtc"), "\"2026-01-01T00:00:00.0000000Z\"");
    line = hear(r);
    assert_string_equal(member(line, "body"), "\"/w==\"");
    assert_string_equal(member(line, "bodyEncoding"), "\"base64\"");
    assert_string_equal(member(hear(r), "body"), "\"\"");
    assert_string_equal(hear(r), "");
    reader_end(r);
}

/* dev-1 is in partition 0, d in 1 (hub/telemetry_test.c). */
static void positions(void **state)
{
    (void)state;
    append_n("dev-1", 1, 5);
    bed_advance_s(100);
    append_n("dev-1", 6, 10);
    append_n("d", 11, 12);
    static const struct {
        const char *query;
        unsigned from, to;
    } rows[] = {
        {"&from=earliest&partition=0", 1, 10},
        {"&from.0=4&partition=0", 4, 10}, /* to resume */
        {"&from.0=11&partition=0", 1, 0},
        {"&from=7&partition=0", 7, 10},
        {"&from=earliest&device=d", 11, 12},
        {"&from=earliest&partition=0&max=3", 1, 3},
        {"&from=earliest&max=0", 1, 0},
        {"&from=latest", 1, 0},
        {"", 1, 0},
        {"&from=2026-01-01T00:00:50Z&partition=0", 6, 10},
        {"&from=2026-01-01T00:00:00Z&partition=0", 1, 10},
        {"&from=2026-01-01T00:00:50Z&device=d", 11, 12},
        {"&from=2027-01-01T00:00:00Z", 1, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char query[128];
        (void)snprintf(query, sizeof query, "%s&follow=false", rows[i].query);
        struct reader *r = ask(query);
        expect(r, rows[i].from, rows[i].to);
        const char *rest = hear(r);
        if (rest[0] != 0 || r->status != 200) {
            fail_msg("%s: %u %s", query, r->status, rest);
        }
        reader_end(r);
    }
    static const char *const bad[] = {"&from=x",       "&partition=4",  "&max=-1",
                                      "&follow=maybe", "&device=a%20b", "&from.0=x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct reader *r = ask(bad[i]);
        while (!r->has_head) {
            loop_turn(bed.worker.loop, 1);
            pull(r);
        }
        assert_int_equal(r->status, 400);
        reader_end(r);
    }
}

static void follow(void **state)
{
    (void)state;
    append_n("dev-1", 1, 2);
    struct reader *r = ask("&from.0=2&max=3");
    expect(r, 2, 2);
    append_n("dev-1", 3, 5);
    expect(r, 3, 4);
    assert_string_equal(hear(r), "");
    reader_end(r);
}

static enum err drop_policy(struct store_tx *tx, struct store_op *op)
{
    (void)op;
    return sqlite3_exec(tx->db->h, "DELETE FROM policy WHERE name = 'service'", NULL, NULL, NULL) ==
                   SQLITE_OK
               ? OK
               : E_DB;
}

static void revoked(void **state)
{
    (void)state;
    struct reader *r = ask("");
    monitors_rejudge(&bed.worker); /* another policy */
    append_n("dev-1", 1, 1);
    expect(r, 1, 1);
    assert_ok(bed_tx(drop_policy));
    atomic_fetch_add(&bed.server.policy_epoch, 1);
    monitors_rejudge(&bed.worker);
    assert_string_equal(hear(r), "");
    reader_end(r);
}

/* One that does not read has some slices under way, no more, and hears everything when it reads. It is not taken past what was
 * there when it asked. */
static void slow_reader(void **state)
{
    (void)state;
    static uint8_t body[100000];
    memset(body, 'x', sizeof body);
    for (unsigned i = 0; i < 60; i++) {
        append("dev-1", span_of(body, sizeof body));
    }
    struct reader *r = ask("&from=earliest&follow=false");
    for (unsigned i = 0; i < 100; i++) {
        loop_turn(bed.worker.loop, 1);
    }
    assert_in_range(atomic_load(&bed.worker.counters[HUB_M_MONITOR_ROWS]), 1, 20);
    append_n("dev-1", 1, 5);
    unsigned n = 0;
    while (hear(r)[0] != 0) {
        n++;
    }
    assert_int_equal(n, 60);
    assert_true(r->is_ended);
    reader_end(r);
}

static void draining(void **state)
{
    (void)state;
    struct reader *a = ask("");
    link_turn(4);
    hub_worker_of(&bed.worker)->is_draining = true;
    monitors_drain(&bed.worker);
    assert_string_equal(hear(a), "");
    struct reader *b = ask("");
    while (!b->has_head) {
        loop_turn(bed.worker.loop, 1);
        pull(b);
    }
    assert_int_equal(b->status, 503);
    assert_true(list_empty(&hub_worker_of(&bed.worker)->monitors));
    reader_end(a);
    reader_end(b);
}

/* The client leaves while a slice is read. */
static void gone(void **state)
{
    (void)state;
    append_n("dev-1", 1, 3);
    for (unsigned i = 0; i < 20; i++) {
        struct reader *r = ask("&from=earliest");
        link_turn(i % 5);
        reader_end(r);
    }
    while (!list_empty(&hub_worker_of(&bed.worker)->monitors)) {
        loop_turn(bed.worker.loop, 1);
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, link_setup, link_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(lines), T(positions), T(follow), T(revoked), T(slow_reader), T(draining), T(gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
