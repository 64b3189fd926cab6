/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "net/net_fixture.h"

#define PROTO "berth.test.v1"
#define BIG (3u << 20)

static struct certs certs;
static struct loop *loop;

/* Both ends of TLS, and what lies between them: bytes are passed on, counted, kept, changed or held by the test. */
struct end {
    struct note n;
    struct tls_stream *t;
    bool is_told;
    enum err why;
    char text[256];
    bool half_closes;
};
struct line {
    struct end server, client;
    struct stream *mid[2]; /* 0: the server's side; NULL: gone */
    struct buf seen;       /* all that passed, both directions */
    size_t passed[2];
    size_t flip_at[2]; /* this byte of the direction is changed; 0: none */
    struct tls_ctx *sctx, *cctx;
};

static size_t mid_bytes(struct stream *s, void *arg, struct span in)
{
    struct line *l = arg;
    unsigned from = s == l->mid[0] ? 0 : 1;
    buf_add(&l->seen, in);
    for (size_t i = 0; i < in.n && l->flip_at[from] != 0; i++) {
        if (l->passed[from] + i + 1 == l->flip_at[from]) {
            ((uint8_t *)(uintptr_t)in.p)[i] ^= 1;
        }
    }
    l->passed[from] += in.n;
    if (l->mid[1 - from] != NULL) {
        stream_write(l->mid[1 - from], in);
        if (stream_is_full(l->mid[1 - from])) {
            stream_pause(s, true);
        }
    }
    return in.n;
}

static void mid_drained(struct stream *s, void *arg)
{
    struct line *l = arg;
    unsigned to = s == l->mid[0] ? 0 : 1;
    if (l->mid[1 - to] != NULL) {
        stream_pause(l->mid[1 - to], false);
    }
}

static void mid_closed(struct stream *s, void *arg, enum err why UNUSED)
{
    struct line *l = arg;
    unsigned from = s == l->mid[0] ? 0 : 1;
    l->mid[from] = NULL;
    if (l->mid[1 - from] != NULL) {
        stream_close(l->mid[1 - from]);
    }
}

static const struct stream_handler mid_handler = {
    .name = "mid", .on_bytes = mid_bytes, .on_drained = mid_drained, .on_close = mid_closed};

static void shaken(void *arg, struct stream *s, enum err why, const struct err_info *info)
{
    struct end *e = arg;
    assert_false(e->is_told);
    e->is_told = true;
    e->why = why;
    if (s == NULL) {
        (void)snprintf(e->text, sizeof(e->text), "%s", err_why(info, why));
        return;
    }
    note_init(&e->n, s);
    if (e->half_closes) {
        stream_handle(s, &note_ends_handler, &e->n);
    }
}

static struct tls_ctx *server_ctx(const char *proto)
{
    struct tls_ctx *t;
    const struct tls_server_conf sc = {certs.chain, certs.device_key};
    assert_ok(tls_end_server_new(&sc, proto, &t, NULL));
    return t;
}

static void pin_file(struct tls_pins *p, const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    (void)fclose(f);
    unsigned n;
    assert_int_equal(X509_digest(x, EVP_sha256(), p->sha256[p->n++], &n), 1);
    X509_free(x);
}

static void line_make(struct line *l, const struct tls_pins *pins, const char *proto,
                      bool half_closes)
{
    struct pair a, b;
    memset(l, 0, sizeof(*l));
    l->seen = (struct buf)BUF_INIT(64u << 20);
    pair_make(loop, &a);
    pair_make(loop, &b);
    l->mid[0] = a.b.s;
    l->mid[1] = b.a.s;
    stream_handle(l->mid[0], &mid_handler, l);
    stream_handle(l->mid[1], &mid_handler, l);
    l->server.half_closes = l->client.half_closes = half_closes;
    l->sctx = server_ctx(PROTO);
    assert_ok(tls_end_client_new(pins, proto, &l->cctx, NULL));
    assert_ok(tls_stream_new(a.a.s, l->sctx, 10000, shaken, &l->server, &l->server.t, NULL));
    assert_ok(tls_stream_new(b.b.s, l->cctx, 10000, shaken, &l->client, &l->client.t, NULL));
}

static void line_shake(struct line *l)
{
    STEP_UNTIL(loop, l->server.is_told && l->client.is_told);
}

static void line_done(struct line *l)
{
    struct end *ends[] = {&l->server, &l->client};
    for (size_t i = 0; i < 2; i++) {
        if (ends[i]->is_told && ends[i]->why == OK && ends[i]->n.closed == 0) {
            stream_abort(ends[i]->n.s, E_CLOSED);
        }
    }
    settle(loop);
    for (size_t i = 0; i < 2; i++) {
        note_done(&ends[i]->n);
        if (l->mid[i] != NULL) {
            stream_abort(l->mid[i], E_CLOSED);
        }
    }
    settle(loop);
    tls_ctx_unref(l->sctx);
    tls_ctx_unref(l->cctx);
    buf_done(&l->seen);
}

static bool holds(const struct buf *b, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= b->n; i++) {
        if (memcmp(b->p + i, text, n) == 0) {
            return true;
        }
    }
    return false;
}

static struct tls_pins pinned(void)
{
    struct tls_pins p = {.n = 0};
    pin_file(&p, certs.device);
    return p;
}

/* --- tests -------------------------------------------------------------------------------------- */

static void test_carries_bytes_that_nobody_between_can_read(void **st UNUSED)
{
    static const char up[] = "attack at dawn", down[] = "attack at dusk";
    struct line l;
    struct tls_pins p = pinned();
    line_make(&l, &p, PROTO, false);
    line_shake(&l);
    assert_ok(l.server.why);
    assert_ok(l.client.why);
    stream_write(l.client.n.s, span_str(up));
    stream_write(l.server.n.s, span_str(down));
    STEP_UNTIL(loop, l.server.n.in.n == sizeof(up) - 1 && l.client.n.in.n == sizeof(down) - 1);
    assert_span(buf_span(&l.server.n.in), span_str(up));
    assert_span(buf_span(&l.client.n.in), span_str(down));
    assert_true(l.seen.n > 1000);
    assert_false(holds(&l.seen, up) || holds(&l.seen, down));
    assert_false(holds(&l.seen, "device-1")); /* TLS 1.3: nor whose certificate it is */
    stream_close(l.client.n.s);
    STEP_UNTIL(loop, l.server.n.closed && l.client.n.closed);
    assert_ok(l.server.n.why);
    assert_err(l.client.n.why, E_CLOSED);
    line_done(&l);
}

static void test_whom_a_client_takes(void **st UNUSED)
{
    const struct {
        const char *pin, *ca, *cn;
        bool is_taken;
        const char *text;
    } rows[] = {
        {certs.device, NULL, NULL, true, ""},
        {certs.server, NULL, NULL, false, "not the one that is trusted"},
        {NULL, certs.ca, "device-1", true, ""},
        {NULL, certs.ca, "device-2", false, "not the one that is trusted"},
        {NULL, certs.ca, "device-", false, "not the one that is trusted"},
        {NULL, certs.other_ca, "device-1", false, "self-signed certificate"},
        {certs.server, certs.ca, "device-1", true, ""}, /* either will do */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct line l;
        struct tls_pins p = {.ca_file = rows[i].ca, .cn = rows[i].cn};
        if (rows[i].pin != NULL) {
            pin_file(&p, rows[i].pin);
        }
        line_make(&l, &p, PROTO, false);
        line_shake(&l);
        if (rows[i].is_taken) {
            assert_ok(l.client.why);
        } else {
            assert_err(l.client.why, E_TLS);
            assert_non_null(strstr(l.client.text, rows[i].text));
            STEP_UNTIL(loop, l.mid[0] == NULL && l.mid[1] == NULL);
            if (l.server.why == OK) { /* its flight was the last: it hears of it later */
                STEP_UNTIL(loop, l.server.n.closed == 1);
                assert_err(l.server.n.why, E_TLS);
                assert_int_equal(l.server.n.in.n, 0);
            }
        }
        line_done(&l);
    }
    struct tls_ctx *none;
    const struct tls_pins nobody = {.ca_file = certs.ca}; /* and no name */
    assert_err(tls_end_client_new(&nobody, PROTO, &none, NULL), E_ARG);
}

static void test_another_protocol_is_refused(void **st UNUSED)
{
    struct line l;
    struct tls_pins p = pinned();
    line_make(&l, &p, "berth.other.v1", false);
    line_shake(&l);
    assert_err(l.server.why, E_TLS);
    assert_err(l.client.why, E_TLS);
    line_done(&l);
}

static void test_not_tls_is_refused(void **st UNUSED)
{
    struct line l;
    struct tls_pins p = pinned();
    line_make(&l, &p, PROTO, false);
    stream_write(l.mid[0], SPAN_LIT("SSH-2.0-OpenSSH_9.2\r\n")); /* before the ClientHello */
    STEP_UNTIL(loop, l.server.is_told);
    assert_err(l.server.why, E_TLS);
    STEP_UNTIL(loop, l.client.is_told);
    assert_int_not_equal(l.client.why, OK);
    line_done(&l);
}

static void test_changed_bytes_end_it(void **st UNUSED)
{
    struct line l;
    struct tls_pins p = pinned();
    line_make(&l, &p, PROTO, false);
    line_shake(&l);
    settle(loop);
    l.flip_at[1] = l.passed[1] + 20;
    stream_write(l.client.n.s, SPAN_LIT("rm -rf /tmp/nothing"));
    STEP_UNTIL(loop, l.server.n.closed);
    assert_err(l.server.n.why, E_TLS);
    assert_int_equal(l.server.n.in.n, 0);
    line_done(&l);
}

static void test_a_cut_is_no_end(void **st UNUSED)
{
    struct line l;
    struct tls_pins p = pinned();
    line_make(&l, &p, PROTO, true);
    line_shake(&l);
    stream_write(l.client.n.s, SPAN_LIT("half of it"));
    STEP_UNTIL(loop, l.server.n.in.n == 10);
    stream_close(l.mid[0]); /* in order, as a relay ends a stream */
    stream_close(l.mid[1]);
    STEP_UNTIL(loop, l.server.n.closed && l.client.n.closed);
    assert_err(l.server.n.why, E_TRUNCATED);
    assert_err(l.client.n.why, E_TRUNCATED);
    assert_int_equal(l.server.n.ended, 0);
    line_done(&l);
}

static void test_half_close(void **st UNUSED)
{
    struct line l;
    struct tls_pins p = pinned();
    line_make(&l, &p, PROTO, true);
    line_shake(&l);
    stream_write(l.client.n.s, SPAN_LIT("question"));
    assert_true(stream_end(l.client.n.s));
    STEP_UNTIL(loop, l.server.n.ended);
    assert_span(buf_span(&l.server.n.in), SPAN_LIT("question"));
    assert_int_equal(l.client.n.ended + l.client.n.closed + l.server.n.closed, 0);
    stream_write(l.server.n.s, SPAN_LIT("answer"));
    assert_true(stream_end(l.server.n.s));
    STEP_UNTIL(loop, l.server.n.closed && l.client.n.closed);
    assert_span(buf_span(&l.client.n.in), SPAN_LIT("answer"));
    assert_int_equal(l.client.n.ended, 1);
    assert_ok(l.server.n.why);
    assert_ok(l.client.n.why);
    line_done(&l);
}

static void test_much_both_ways_through_small_doors(void **st UNUSED)
{
    struct line l;
    struct tls_pins p = pinned();
    line_make(&l, &p, PROTO, false);
    line_shake(&l);
    l.server.n.to_send = l.client.n.to_send = BIG;
    l.server.n.eat = 4000; /* the rest is shown again */
    l.client.n.pause_at = 3;
    note_pump(&l.server.n);
    note_pump(&l.client.n);
    for (int i = 0; i < 400; i++) {
        loop_turn(loop, 0);
        stream_again(l.server.n.s);
    }
    assert_true(l.client.n.in.n < BIG); /* it is paused: the other waits */
    assert_true(l.server.n.to_send > 0);
    stream_pause(l.client.n.s, false);
    for (int turns = 0; l.server.n.in.n < BIG || l.client.n.in.n < BIG; turns++) {
        assert_true(turns < 20000);
        loop_turn(loop, 0);
        if (l.server.n.in.n < BIG) {
            stream_again(l.server.n.s);
        }
    }
    assert_true(is_pattern(buf_span(&l.server.n.in)) && is_pattern(buf_span(&l.client.n.in)));
    assert_true(l.server.n.sent_max < (1u << 20) && l.client.n.sent_max < (1u << 20));
    line_done(&l);
}

static void leave(struct note *n)
{
    if (n->closed == 0) {
        stream_abort(n->s, E_CLOSED);
    }
}

static void test_nobody_there(void **st UNUSED)
{
    struct pair a;
    struct end e = {.t = NULL};
    struct tls_ctx *ctx = server_ctx(PROTO);
    pair_make(loop, &a);
    assert_ok(tls_stream_new(a.a.s, ctx, 20, shaken, &e, &e.t, NULL));
    STEP_UNTIL(loop, e.is_told);
    assert_err(e.why, E_TIMEOUT);
    leave(&a.b);
    settle(loop);

    struct pair b;
    struct end cancelled = {.t = NULL};
    pair_make(loop, &b);
    assert_ok(tls_stream_new(b.a.s, ctx, 10000, shaken, &cancelled, &cancelled.t, NULL));
    settle(loop);
    tls_stream_cancel(cancelled.t);
    settle(loop);
    assert_false(cancelled.is_told);
    leave(&b.b);
    settle(loop);

    struct pair c;
    struct end left = {.t = NULL};
    pair_make(loop, &c);
    assert_ok(tls_stream_new(c.a.s, ctx, 10000, shaken, &left, &left.t, NULL));
    leave(&c.b);
    STEP_UNTIL(loop, left.is_told);
    assert_int_not_equal(left.why, OK);
    settle(loop);
    tls_ctx_unref(ctx);
}

static int set_up(void **st UNUSED)
{
    certs_make(&certs);
    assert_ok(loop_new(0, clock_system(), &loop));
    return 0;
}

static int tear_down(void **st UNUSED)
{
    conns_end(loop);
    loop_free(loop);
    certs_remove(&certs);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_carries_bytes_that_nobody_between_can_read),
        cmocka_unit_test(test_whom_a_client_takes),
        cmocka_unit_test(test_another_protocol_is_refused),
        cmocka_unit_test(test_not_tls_is_refused),
        cmocka_unit_test(test_changed_bytes_end_it),
        cmocka_unit_test(test_a_cut_is_no_end),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_much_both_ways_through_small_doors),
        cmocka_unit_test(test_nobody_there),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
