/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads and bodies on which two parsers could disagree (threat N4): each gets one refusal and the end of the
 * connection; the request that stands behind is never answered. The corpus is also sent behind a good request.
 */
#include "net/http.h"

#include <stdio.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/http_fixture.h"
#include "tests/unit.h"

#define H "Host: b.example\r\n"
#define NEXT "GET /things HTTP/1.1\r\n" H "\r\n"

struct row {
    const char *name;
    struct span input;
    const char *summary;
};

/* clang-format off */
static const struct row rows[] = {
    { "two lengths", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello" NEXT), "400 closed" },
    { "two equal lengths", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" NEXT), "400 closed" },
    { "list of lengths", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\nhello" NEXT), "400 closed" },
    { "length and chunks", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunks and length", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "length with a sign", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\nhello" NEXT), "400 closed" },
    { "negative length", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n" NEXT), "400 closed" },
    { "hexadecimal length", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\nhello" NEXT), "400 closed" },
    { "length that wraps", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: 18446744073709551621\r\n\r\nhello" NEXT), "400 closed" },
    { "empty length", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length: \r\n\r\n" NEXT), "400 closed" },
    { "length in a GET, twice", SPAN_LIT("GET /things HTTP/1.1\r\n" H "Content-Length: 44\r\nContent-Length: 0\r\n\r\n" NEXT), "400 closed" },
    { "other encoding", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "encoding list", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunked twice", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunked, identity", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "xchunked", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "vertical tab before chunked", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: \013chunked\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunked in HTTP/1.0", SPAN_LIT("PUT /things/a HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "space before the colon", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\nhello" NEXT), "400 closed" },
    { "tab before the colon", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "folded header", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "X: a\r\n b\r\nContent-Length: 0\r\n\r\n" NEXT), "400 closed" },
    { "folded first header", SPAN_LIT("GET /things HTTP/1.1\r\n Host: b\r\n\r\n" NEXT), "400 closed" },
    { "header without a name", SPAN_LIT("GET /things HTTP/1.1\r\n" H ": x\r\n\r\n" NEXT), "400 closed" },
    { "line without a colon", SPAN_LIT("GET /things HTTP/1.1\r\n" H "nothing\r\n\r\n" NEXT), "400 closed" },
    { "bare LF after the request line", SPAN_LIT("GET /things HTTP/1.1\n" H "\r\n" NEXT), "400 closed" },
    { "bare LF after a header", SPAN_LIT("GET /things HTTP/1.1\r\nHost: b\nX: y\r\n\r\n" NEXT), "400 closed" },
    { "bare LF only", SPAN_LIT("GET /things HTTP/1.1\nHost: b\n\n" NEXT), "400 closed" },
    { "bare CR in a value", SPAN_LIT("GET /things HTTP/1.1\r\n" H "X: a\rb\r\n\r\n" NEXT), "400 closed" },
    { "NUL in a value", SPAN_LIT("GET /things HTTP/1.1\r\n" H "X: a\0b\r\n\r\n" NEXT), "400 closed" },
    { "NUL in a name", SPAN_LIT("GET /things HTTP/1.1\r\n" H "X\0: a\r\n\r\n" NEXT), "400 closed" },
    { "NUL in the target", SPAN_LIT("GET /thi\0ngs HTTP/1.1\r\n" H "\r\n" NEXT), "400 closed" },
    { "control in a value", SPAN_LIT("GET /things HTTP/1.1\r\n" H "X: a\001b\r\n\r\n" NEXT), "400 closed" },
    { "no Host", SPAN_LIT("GET /things HTTP/1.1\r\nX: y\r\n\r\n" NEXT), "400 closed" },
    { "Host twice", SPAN_LIT("GET /things HTTP/1.1\r\n" H H "\r\n" NEXT), "400 closed" },
    { "Host with a path", SPAN_LIT("GET /things HTTP/1.1\r\nHost: b/x\r\n\r\n" NEXT), "400 closed" },
    { "absolute target", SPAN_LIT("GET http://other/things HTTP/1.1\r\n" H "\r\n" NEXT), "400 closed" },
    { "CONNECT", SPAN_LIT("CONNECT other:443 HTTP/1.1\r\n" H "\r\n" NEXT), "400 closed" },
    { "asterisk", SPAN_LIT("OPTIONS * HTTP/1.1\r\n" H "\r\n" NEXT), "400 closed" },
    { "two spaces", SPAN_LIT("GET  /things HTTP/1.1\r\n" H "\r\n" NEXT), "400 closed" },
    { "space in the target", SPAN_LIT("GET /things /x HTTP/1.1\r\n" H "\r\n" NEXT), "400 closed" },
    { "no version", SPAN_LIT("GET /things\r\n" H "\r\n" NEXT), "400 closed" },
    { "HTTP/2 preface", SPAN_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" NEXT), "400 closed" },
    { "HTTP/1.2", SPAN_LIT("GET /things HTTP/1.2\r\n" H "\r\n" NEXT), "505 closed" },
    { "TLS on a plain port", SPAN_LIT("\026\003\001\002\000\001\000\001\374\r\n\r\n" NEXT), "400 closed" },
    { "chunk size with a sign", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunk size with 0x", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunk size that wraps", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunk size without digits", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunk with bare LF", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunk longer than it says", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n" NEXT), "400 closed" },
    { "chunk trailer", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n" NEXT), "400 closed" },
    { "LF in a chunk extension", SPAN_LIT("PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n" NEXT), "400 closed" },
};
/* clang-format on */

static void run(const struct row *r, bool behind_good, bool bytewise)
{
    struct fx_client c;
    char want[64];
    fx.handled = 0;
    fx_connect(&c);
    if (behind_good) {
        fx_say_str(&c, "DELETE /things/1 HTTP/1.1\r\n" H "\r\n");
    }
    for (size_t i = 0; i < r->input.n && !c.is_closed; i += bytewise ? 1 : r->input.n) {
        fx_say(&c, span_sub(r->input, i, bytewise ? 1 : r->input.n));
    }
    fx_advance(LIMIT_HTTP_LINGER_MS);
    fx_hear(&c);
    (void)snprintf(want, sizeof(want), "%s%s", behind_good ? "204 " : "", r->summary);
    if (strcmp(fx_summary(&c), want) != 0 || fx.handled != behind_good) {
        print_message("row \"%s\": %.*s\n", r->name, SPAN_ARG(buf_span(&c.in)));
    }
    assert_string_equal(fx_summary(&c), want);
    assert_int_equal(fx.handled, behind_good);
    fx_disconnect(&c);
}

static void test_alone(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        run(&rows[i], false, false);
    }
}

static void test_behind_good(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        run(&rows[i], true, false);
    }
}

static void test_bytewise(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        run(&rows[i], false, true);
    }
}

/* --- sizes of heads ----------------------------------------------------------------------------- */

static void head_of(size_t n, unsigned headers, const char *want)
{
    struct fx_client c;
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    buf_add_str(&b, "GET /things HTTP/1.1\r\n" H);
    for (unsigned i = 1; i < headers; i++) {
        buf_addf(&b, "x%u: y\r\n", i);
    }
    if (n > 0) {
        buf_add_str(&b, "x: ");
        while (b.n < n - 4) {
            buf_add_u8(&b, 'a');
        }
        buf_add_str(&b, "\r\n");
    }
    buf_add_str(&b, "\r\n");
    assert_ok(buf_err(&b));
    fx_connect(&c);
    fx_say(&c, buf_span(&b));
    fx_advance(LIMIT_HTTP_LINGER_MS);
    fx_hear(&c);
    assert_string_equal(fx_summary(&c), want);
    fx_disconnect(&c);
}

static void test_head_sizes(void **state UNUSED)
{
    head_of(LIMIT_HTTP_HEAD, 1, "200");
    head_of(LIMIT_HTTP_HEAD + 1, 1, "431 closed");
    head_of(100u << 10, 1, "431 closed");
    head_of(0, LIMIT_HTTP_HEADERS, "200");
    head_of(0, LIMIT_HTTP_HEADERS + 1, "431 closed");
    head_of(0, 1000, "431 closed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_alone, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_behind_good, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_bytewise, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_head_sizes, fx_setup, fx_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
