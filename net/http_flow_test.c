/* SPDX-License-Identifier: Apache-2.0 */
/* Time and order: answers that come later, clients that leave or dawdle, streams, WebSocket upgrades, drain. */
#include "net/http.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/http_fixture.h"
#include "tests/unit.h"

#define H "Host: b.example\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"

static void answer_pending(const char *body)
{
    struct http_rq *rq = http_rq_of(fx.loop, fx.pending);
    assert_non_null(rq);
    http_answer(rq, 200, "text/plain", span_str(body));
    assert_null(http_rq_of(fx.loop, fx.pending)); /* answered: nobody */
    fx_settle();
}

/* --- later answers ----------------------------------------------------------------------------- */

static void test_suspended(void **state UNUSED)
{
    struct fx_client c;
    struct fx_answer a;
    size_t at = 0;
    fx_connect(&c);
    fx_say_str(&c, GET("/slow") GET("/things") GET("/slow"));
    assert_string_equal(fx_summary(&c), ""); /* the second waits behind the first */
    assert_int_equal(fx.handled, 1);
    fx_advance(LIMIT_HTTP_IDLE_S * 10000); /* how long work takes is not the client's fault */
    answer_pending("first");
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), "200 200");
    assert_true(fx_next(&c, &at, false, &a));
    assert_span(a.body, SPAN_LIT("first"));
    answer_pending("second");
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), "200 200 200");
    fx_disconnect(&c);
}

static void test_many_suspended(void **state UNUSED)
{
    struct fx_client c[FX_CLIENTS];
    handle h[FX_CLIENTS];
    for (size_t i = 0; i < FX_CLIENTS; i++) {
        fx_connect(&c[i]);
        fx_say_str(&c[i], "POST /slow HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx");
        h[i] = fx.pending;
    }
    for (size_t i = FX_CLIENTS; i-- > 0;) {
        fx.pending = h[i];
        answer_pending("x");
        fx_hear(&c[i]);
        assert_string_equal(fx_summary(&c[i]), "200");
        fx_disconnect(&c[i]);
    }
}

static void test_client_gone(void **state UNUSED)
{
    struct fx_client c;
    struct http_stats s;
    fx_connect(&c);
    fx_say_str(&c, GET("/slow"));
    assert_non_null(http_rq_of(fx.loop, fx.pending));
    fx_disconnect(&c);
    assert_null(http_rq_of(fx.loop, fx.pending));
    http_stats(fx.server, &s);
    assert_int_equal(s.open, 0);
    /* Others are not harmed. */
    fx_connect(&c);
    fx_say_str(&c, GET("/things"));
    assert_string_equal(fx_summary(&c), "200");
    fx_disconnect(&c);
}

static void test_gone_in_body(void **state UNUSED)
{
    static const char *const starts[] = {
        "",
        "GET /thi",
        "PUT /things/a HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\nabc",
        "PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n9\r\nab",
        "PUT /things/a HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        GET("/big"),
        GET("/stream"),
        GET("/slow") GET("/slow"),
    };
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        struct fx_client c;
        struct http_stats s;
        fx_connect(&c);
        (void)!send(c.fd, starts[i], strlen(starts[i]), MSG_NOSIGNAL); /* answers are left unread */
        fx_settle();
        fx_disconnect(&c);
        http_stats(fx.server, &s);
        assert_int_equal(s.open, 0);
    }
    assert_int_equal(fx.gone, 1);
}

/* --- time: a byte does not renew a deadline ------------------------------------------------------ */

static void dawdle(const char *start, char byte, unsigned seconds, const char *want)
{
    struct fx_client c;
    struct http_stats before, after;
    http_stats(fx.server, &before);
    fx_connect(&c);
    fx_say_str(&c, start);
    for (unsigned s = 1; s < seconds; s++) {
        fx_advance(1000);
        fx_say(&c, span_of(&byte, 1));
        assert_false(c.is_closed);
    }
    fx_advance(1001);
    fx_hear(&c);
    fx_advance(LIMIT_HTTP_LINGER_MS);
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), want);
    http_stats(fx.server, &after);
    assert_int_equal(after.timeouts, before.timeouts + 1);
    fx_disconnect(&c);
}

static void test_slow_loris(void **state UNUSED)
{
    dawdle("G", 'E', LIMIT_HTTP_HEAD_S, "408 closed");
    dawdle("GET /things HTTP/1.1\r\n" H "X: ", 'y', LIMIT_HTTP_HEAD_S, "408 closed");
    dawdle(GET("/things") "G", 'E', LIMIT_HTTP_HEAD_S, "200 408 closed");
    dawdle("PUT /things/a HTTP/1.1\r\n" H "Content-Length: 64\r\n\r\n", 'x',
           LIMIT_HTTP_BODY_GRACE_S, "408 closed");
    dawdle("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n40\r\n", 'x',
           LIMIT_HTTP_BODY_GRACE_S, "408 closed");
    /* Refused already: its answer waits for the end of the body, which never comes. */
    dawdle("PUT /things/a HTTP/1.1\r\n" H "Authorization: no\r\nContent-Length: 64\r\n\r\n", 'x',
           LIMIT_HTTP_BODY_GRACE_S, "closed");
}

/* A body has a least rate from LIMIT_HTTP_BODY_GRACE_S on, and an end however fast it is (threat N2). */
static void test_slow_body(void **state UNUSED)
{
    static const struct {
        unsigned a_second, seconds; /* sent so */
        const char *want;
    } rows[] = {
        {LIMIT_HTTP_BODY_RATE, LIMIT_HTTP_BODY_GRACE_S + 2, "200"},
        {LIMIT_HTTP_BODY_RATE - 1, LIMIT_HTTP_BODY_GRACE_S - 1,
         "200"}, /* short: it was there in time */
        {LIMIT_HTTP_BODY_RATE - 1, LIMIT_HTTP_BODY_GRACE_S + 2, "408 closed"},
        {LIMIT_HTTP_BODY_RATE, LIMIT_HTTP_BODY_S + 1, "408 closed"},
    };
    static uint8_t body[LIMIT_HTTP_BODY_RATE];
    memset(body, 'x', sizeof(body));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fx_client c;
        char head[200];
        fx_connect(&c);
        (void)snprintf(head, sizeof(head),
                       "POST /things HTTP/1.1\r\n" H "Content-Length: %u\r\n\r\n",
                       rows[i].a_second * rows[i].seconds);
        fx_say_str(&c, head);
        for (unsigned s = 0; s < rows[i].seconds; s++) {
            fx_say(&c, span_of(body, rows[i].a_second));
            if (s + 1 < rows[i].seconds) {
                fx_advance(1000);
            }
        }
        fx_hear(&c);
        fx_advance(LIMIT_HTTP_LINGER_MS);
        fx_hear(&c);
        if (strcmp(fx_summary(&c), rows[i].want) != 0) {
            fail_msg("row %zu: %s", i, fx_summary(&c));
        }
        fx_disconnect(&c);
    }
}

/* The first byte of the first head does not renew the time that began with the connection. */
static void test_late_first_byte(void **state UNUSED)
{
    struct fx_client c;
    fx_connect(&c);
    fx_advance(LIMIT_HTTP_HEAD_S * 1000 - 1);
    fx_say_str(&c, "G");
    fx_advance(1);
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), "408 closed"); /* nothing is unread: no lingering */
    fx_disconnect(&c);
}

static void test_idle(void **state UNUSED)
{
    struct fx_client c;
    fx_connect(&c);
    fx_advance(LIMIT_HTTP_HEAD_S * 1000 - 1); /* a new connection has a head's time to speak */
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), "");
    fx_advance(1);
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), "closed");
    fx_disconnect(&c);

    fx_connect(&c);
    fx_say_str(&c, GET("/things"));
    fx_advance(LIMIT_HTTP_IDLE_PAIR_S * 1000); /* its buffers are given back, which nobody sees */
    fx_advance((LIMIT_HTTP_IDLE_S - LIMIT_HTTP_IDLE_PAIR_S) * 1000 - 1);
    fx_say_str(&c, GET("/things"));
    assert_string_equal(fx_summary(&c), "200 200");
    fx_advance(LIMIT_HTTP_IDLE_PAIR_S * 1000);
    fx_advance((LIMIT_HTTP_IDLE_S - LIMIT_HTTP_IDLE_PAIR_S) * 1000);
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), "200 200 closed");
    fx_disconnect(&c);
}

/* A client that asks for much and reads nothing. */
static void test_stalled_reader(void **state UNUSED)
{
    static const char *const asks[] = {GET("/big"), GET("/stream")};
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        struct fx_client c;
        struct http_stats s;
        fx_connect(&c);
        assert_true(send(c.fd, asks[i], strlen(asks[i]), MSG_NOSIGNAL) > 0);
        fx_settle();
        static const char block[65536];
        while (fx.out != NULL && !http_stream_is_full(fx.out)) {
            http_stream_write(fx.out, span_of(block, sizeof(block)));
            fx_settle();
        }
        for (unsigned turns = 0; turns < 20; turns++) {
            fx_settle(); /* what the client does not take stays with libmicrohttpd */
        }
        fx_advance(LIMIT_HTTP_IDLE_S * 1000 - 1);
        http_stats(fx.server, &s);
        assert_int_equal(s.open, 1);
        fx_advance(1);
        http_stats(fx.server, &s);
        assert_int_equal(s.open, 0);
        fx_disconnect(&c);
    }
}

/* --- streams -------------------------------------------------------------------------------------- */

static void test_stream(void **state UNUSED)
{
    struct fx_client c;
    struct fx_answer a;
    size_t at = 0;
    fx_connect(&c);
    fx_say_str(&c, GET("/stream") GET("/things"));
    http_stream_write(fx.out, SPAN_LIT("one\n"));
    fx_settle();
    fx_hear(&c);
    assert_true(span_ends(buf_span(&c.in), SPAN_LIT("\r\n\r\n4\r\none\n\r\n"))); /* at once */
    fx_advance(LIMIT_HTTP_IDLE_S * 10000); /* silence is fine */
    http_stream_write(fx.out, SPAN_NONE);  /* no empty chunk: that would be the end */
    http_stream_write(fx.out, SPAN_LIT("two\n"));
    http_stream_end(fx.out);
    assert_int_equal(fx.gone, 0); /* from the loop, not inside */
    fx_settle();
    fx_hear(&c);
    assert_int_equal(fx.gone, 1);
    assert_true(fx_next(&c, &at, false, &a));
    assert_span(a.body, SPAN_LIT("one\ntwo\n"));
    assert_span(fx_header(a.head, "x-kind"), SPAN_LIT("lines"));
    assert_non_null(fx_header(a.head, "Date").p);
    assert_true(fx_next(&c, &at, false, &a));
    assert_span(a.body, SPAN_LIT("none"));
    fx_disconnect(&c);
}

static void test_stream_http10(void **state UNUSED)
{
    struct fx_client c;
    fx_connect(&c);
    fx_say_str(&c, "GET /stream HTTP/1.0\r\n" H "\r\n");
    http_stream_write(fx.out, SPAN_LIT("one\n"));
    http_stream_end(fx.out);
    fx_settle();
    fx_hear(&c);
    assert_true(c.is_closed);
    assert_true(span_ends(buf_span(&c.in), SPAN_LIT("Connection: close\r\n\r\none\n")));
    fx_disconnect(&c);
}

static void test_stream_backpressure(void **state UNUSED)
{
    static char block[10000];
    struct fx_client c;
    struct fx_answer a;
    size_t at = 0, sent = 0;
    memset(block, 's', sizeof(block));
    fx_connect(&c);
    fx_say_str(&c, GET("/stream"));
    for (unsigned round = 0; round < 5; round++) {
        while (!http_stream_is_full(fx.out)) {
            http_stream_write(fx.out, span_of(block, sizeof(block)));
            sent += sizeof(block);
            fx_settle();
        }
        unsigned drained = fx.drained;
        fx_hear(&c);
        assert_int_equal(fx.drained, drained + 1);
        assert_false(http_stream_is_full(fx.out));
    }
    http_stream_end(fx.out);
    fx_settle();
    fx_hear(&c);
    assert_true(fx_next(&c, &at, false, &a));
    assert_int_equal(a.body.n, sent);
    assert_int_equal(at, c.in.n);
    fx_disconnect(&c);
}

static void test_stream_gone(void **state UNUSED)
{
    struct fx_client c;
    fx_connect(&c);
    fx_say_str(&c, GET("/stream"));
    assert_non_null(fx.out);
    fx_disconnect(&c);
    assert_null(fx.out);
    assert_int_equal(fx.gone, 1);
}

/* --- WebSocket --------------------------------------------------------------------------------------- */

#define UPGRADE "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13 "Sec-WebSocket-Version: 13\r\n"

static void test_upgrade(void **state UNUSED)
{
    static const char *const protocols[] = {"mqtt", "MQTT", NULL};
    /* "Hi" in a masked binary frame. */
    static const char frame[] = "\x82\x82\x01\x02\x03\x04\x49\x6b";
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        struct fx_client c;
        struct fx_answer a;
        size_t at = 0;
        struct http_stats s;
        AUTO(buf_done) struct buf b = BUF_INIT(4096);
        buf_add_str(&b, GET("/things") "GET /ws HTTP/1.1\r\n" H UPGRADE KEY V13);
        if (protocols[i] != NULL) {
            buf_addf(&b, "Sec-WebSocket-Protocol: %s\r\n", protocols[i]);
        }
        buf_add_str(&b, "\r\n");
        buf_add(&b, span_of(frame, 8)); /* in the same flight */
        fx.ws_in.n = 0;
        fx_connect(&c);
        fx_say(&c, buf_span(&b));
        assert_true(fx_next(&c, &at, false, &a));
        assert_int_equal(a.status, 200);
        assert_true(fx_next(&c, &at, false, &a));
        assert_int_equal(a.status, 101);
        assert_span(fx_header(a.head, "Sec-WebSocket-Accept"),
                    SPAN_LIT("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_span(fx_header(a.head, "Sec-WebSocket-Protocol"), span_str(protocols[i]));
        assert_non_null(fx.ws);
        assert_span(buf_span(&fx.ws_in), SPAN_LIT("Hi"));
        http_stats(fx.server, &s);
        assert_int_equal(s.open, 0); /* no HTTP any more */
        stream_write(fx.ws, SPAN_LIT("ho"));
        fx_settle();
        fx_hear(&c);
        assert_true(span_ends(buf_span(&c.in), SPAN_LIT("\x82\x02ho")));
        fx_disconnect(&c);
        assert_int_equal(fx.ws_closed, i + 1);
    }
}

static void test_upgrade_refused(void **state UNUSED)
{
    /* clang-format off */
    static const struct {
        const char *name, *input, *summary;
    } rows[] = {
        { "another path", "GET /things HTTP/1.1\r\n" H UPGRADE KEY V13 "\r\n" GET("/things"), "404 200" },
        { "another protocol", "GET /ws HTTP/1.1\r\n" H UPGRADE KEY V13 "Sec-WebSocket-Protocol: soap\r\n\r\n" GET("/things"), "501 200" },
        { "no key", "GET /ws HTTP/1.1\r\n" H UPGRADE V13 "\r\n" GET("/things"), "400 200" },
        { "short key", "GET /ws HTTP/1.1\r\n" H UPGRADE "Sec-WebSocket-Key: x\r\n" V13 "\r\n" GET("/things"), "400 200" },
        { "no version", "GET /ws HTTP/1.1\r\n" H UPGRADE KEY "\r\n" GET("/things"), "426 200" },
        { "version 8", "GET /ws HTTP/1.1\r\n" H UPGRADE KEY "Sec-WebSocket-Version: 8\r\n\r\n" GET("/things"), "426 200" },
        { "with a body", "GET /ws HTTP/1.1\r\n" H UPGRADE KEY V13 "Content-Length: 2\r\n\r\nhi" GET("/things"), "400 200" },
        { "POST", "POST /ws HTTP/1.1\r\n" H UPGRADE KEY V13 "Content-Length: 0\r\n\r\n" GET("/things"), "404 200" },
        { "HTTP/1.0", "GET /ws HTTP/1.0\r\n" H UPGRADE KEY V13 "\r\n", "400 closed" },
        { "plain GET", GET("/ws") GET("/things"), "404 200" },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fx_client c;
        fx_connect(&c);
        fx_say_str(&c, rows[i].input);
        if (strcmp(fx_summary(&c), rows[i].summary) != 0) {
            print_message("row \"%s\": %.*s\n", rows[i].name, SPAN_ARG(buf_span(&c.in)));
        }
        assert_string_equal(fx_summary(&c), rows[i].summary);
        assert_null(fx.ws);
        fx_disconnect(&c);
    }
}

/* --- drain -------------------------------------------------------------------------------------------- */

static void test_drain(void **state UNUSED)
{
    struct fx_client idle, slow, body, stream, fresh;
    fx_connect(&idle);
    fx_say_str(&idle, GET("/things"));
    fx_connect(&slow);
    fx_say_str(&slow, GET("/slow"));
    fx_connect(&body);
    fx_say_str(&body, "PUT /things/a HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n");
    fx_connect(&stream);
    fx_say_str(&stream, GET("/stream"));
    fx_connect(&fresh);

    http_server_drain(fx.server);
    fx_settle();
    assert_null(http_rq_of(fx.loop, fx.pending));
    fx_hear(&idle);
    fx_hear(&slow);
    fx_hear(&stream);
    fx_hear(&fresh);
    fx_say_str(&body, "hi");
    assert_string_equal(fx_summary(&idle), "200 closed");
    assert_string_equal(fx_summary(&slow), "503 closed");
    struct fx_answer a;
    size_t at = 0;
    assert_true(fx_next(&slow, &at, false, &a));
    assert_span(fx_header(a.head, "Connection"), SPAN_LIT("close"));
    assert_int_equal(fx.last_error, E_DRAINING);
    assert_string_equal(fx_summary(&body), "200 closed");
    assert_true(stream.is_closed);
    assert_int_equal(fx.gone, 1);
    assert_string_equal(fx_summary(&fresh), "closed");
    struct http_stats s;
    http_stats(fx.server, &s);
    assert_int_equal(s.open, 0);
    fx_disconnect(&idle);
    fx_disconnect(&slow);
    fx_disconnect(&body);
    fx_disconnect(&stream);
    fx_disconnect(&fresh);
}

static void test_close_while_draining(void **state UNUSED)
{
    struct fx_client c;
    fx_connect(&c);
    fx.is_draining = true;
    fx_say_str(&c, GET("/things") GET("/things"));
    assert_string_equal(fx_summary(&c), "200");
    fx_advance(LIMIT_HTTP_LINGER_MS); /* the second is thrown away, without a reset */
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), "200 closed");
    fx_disconnect(&c);
}

/* http_server_free with everything under way: teardown does it. */
static void test_free_in_flight(void **state)
{
    struct fx_client c[4];
    static const char *const asks[] = {GET("/slow"), GET("/stream"), GET("/things"), "PUT /thi"};
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        fx_connect(&c[i]);
        fx_say_str(&c[i], asks[i]);
    }
    assert_int_equal(fx_teardown(state), 0);
    assert_int_equal(fx.gone, 1);
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        close(c[i].fd);
        buf_done(&c[i].in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_suspended, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_many_suspended, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_client_gone, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_gone_in_body, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_slow_loris, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_slow_body, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_late_first_byte, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_idle, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_stalled_reader, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_stream, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_stream_http10, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_stream_backpressure, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_stream_gone, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_upgrade_refused, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_upgrade, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_drain, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_close_while_draining, fx_setup, fx_teardown),
        cmocka_unit_test_setup(test_free_in_flight, fx_setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
