/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http.h"

#include <stdio.h>

#include "base/limits.h"
#include "net/http_fixture.h"
#include "tests/unit.h"

#define H "Host: b.example\r\n"

/* --- routing and limits: one request, one answer, connection kept --------------------------------- */

struct row {
    const char *name;
    const char *input;
    const char *summary;
    const char *body;   /* of the first answer; NULL: not looked at */
    const char *header; /* "name: value" that the first answer has; NULL: none */
    unsigned handled;
};

/* clang-format off */
static const struct row route_rows[] = {
    { "fixed path", "GET /things HTTP/1.1\r\n" H "\r\n", "200", "none", NULL, 1 },
    { "fixed words without case", "GET /THings HTTP/1.1\r\n" H "\r\n", "200", "none", NULL, 1 },
    { "trailing slash before the query", "GET /things/?api-version=7 HTTP/1.1\r\n" H "\r\n", "200", "7", NULL, 1 },
    { "query name without case, value decoded", "GET /things?x=1&API-version=a%2Bb+c HTTP/1.1\r\n" H "\r\n", "200", "a+b+c", NULL, 1 },
    { "parameter keeps its case", "GET /Things/DEV-1 HTTP/1.1\r\n" H "\r\n", "200", "/things/{id}|DEV-1||", NULL, 1 },
    { "parameter decoded once", "GET /things/a%252Fb%2Fc HTTP/1.1\r\n" H "\r\n", "200", "/things/{id}|a%2Fb/c||", NULL, 1 },
    { "fixed beats parameter", "GET /things/SPECIAL HTTP/1.1\r\n" H "\r\n", "200", "/things/special|||", NULL, 1 },
    { "fixed beats parameter, also when it stands before", "PATCH /twins/first HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "200", "/twins/first|||", NULL, 1 },
    { "fixed path without that method: the parameter's route", "DELETE /things/special HTTP/1.1\r\n" H "\r\n", "204", "", NULL, 1 },
    { "two parameters and a body", "POST /things/a/parts/b HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi", "200", "/things/{id}/parts/{part}|a|b|hi", NULL, 1 },
    { "host without port", "GET /things/x HTTP/1.1\r\nHost: B.example:443\r\n\r\n", "200", NULL, "x-host: B.example", 1 },
    { "date", "GET /things HTTP/1.1\r\n" H "\r\n", "200", NULL, "Content-Type: text/plain", 1 },
    { "no content", "DELETE /things/x HTTP/1.1\r\n" H "\r\n", "204", "", NULL, 1 },
    { "unknown path", "GET /other HTTP/1.1\r\n" H "\r\n", "404", NULL, "x-error: E_NO_ROUTE", 0 },
    { "too deep a path", "GET /things/a/parts/b/c HTTP/1.1\r\n" H "\r\n", "404", NULL, "x-error: E_NO_ROUTE", 0 },
    { "more segments than any route", "GET /1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17 HTTP/1.1\r\n" H "\r\n", "404", NULL, NULL, 0 },
    { "empty segment", "GET /things//parts/b HTTP/1.1\r\n" H "\r\n", "400", NULL, "x-error: E_MALFORMED", 0 },
    { "bad escape in the path", "GET /things/%zz HTTP/1.1\r\n" H "\r\n", "400", NULL, "x-error: E_MALFORMED", 0 },
    { "bad escape in the query", "GET /things?a=%4 HTTP/1.1\r\n" H "\r\n", "400", NULL, "x-error: E_MALFORMED", 0 },
    { "NUL in the query", "GET /things?a=%00 HTTP/1.1\r\n" H "\r\n", "400", NULL, "x-error: E_MALFORMED", 0 },
    { "method not offered", "DELETE /things HTTP/1.1\r\n" H "\r\n", "405", NULL, "Allow: GET, POST", 0 },
    { "unknown method", "BREW /things HTTP/1.1\r\n" H "\r\n", "405", NULL, "Allow: GET, POST", 0 },
    { "method in small letters", "get /things HTTP/1.1\r\n" H "\r\n", "405", NULL, "Allow: GET, POST", 0 },
    { "PATCH", "PATCH /twins/a HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}", "200", "/twins/{id}|a||{}", NULL, 1 },
    { "POST for PATCH", "POST /twins/a HTTP/1.1\r\n" H "X-HTTP-Method-Override: PATCH\r\nContent-Length: 2\r\n\r\n{}", "200", "/twins/{id}|a||{}", NULL, 1 },
    { "POST without the header", "POST /twins/a HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}", "405", NULL, "Allow: PATCH", 0 },
    { "POST for DELETE", "POST /things/a HTTP/1.1\r\n" H "X-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n\r\n", "400", NULL, "x-error: E_ARG", 0 },
    { "GET with the override", "GET /things HTTP/1.1\r\n" H "X-HTTP-Method-Override: PATCH\r\n\r\n", "200", "none", NULL, 1 },
    { "refused by admit", "GET /things HTTP/1.1\r\n" H "Authorization: no\r\n\r\n", "401", "said no", "x-error: E_UNAUTHORIZED", 0 },
    { "refused by admit, body forgotten", "PUT /things/a HTTP/1.1\r\n" H "Authorization: no\r\nContent-Length: 3\r\n\r\nabcGET /things HTTP/1.1\r\n" H "\r\n", "401 200", "said no", NULL, 1 },
    { "GET with a body, ignored", "GET /things/a HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}", "200", "/things/{id}|a||", NULL, 1 },
    { "one empty line before the request", "\r\nGET /things HTTP/1.1\r\n" H "\r\n", "200", "none", NULL, 1 },
    { "empty body", "PUT /things/a HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "200", "/things/{id}|a||", NULL, 1 },
    { "neither length nor chunks: empty", "PUT /things/a HTTP/1.1\r\n" H "\r\n", "200", "/things/{id}|a||", NULL, 1 },
    { "Content-Encoding", "PUT /things/a HTTP/1.1\r\n" H "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab", "415", NULL, "x-error: E_MEDIA", 0 },
    { "chunked", "PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "200", "/things/{id}|a||abcde", NULL, 1 },
    { "chunked without content", "PUT /things/a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200", "/things/{id}|a||", NULL, 1 },
    { "pipelined", "GET /things/1 HTTP/1.1\r\n" H "\r\nGET /none HTTP/1.1\r\n" H "\r\nPUT /things/2 HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nxDELETE /things/3 HTTP/1.1\r\n" H "\r\n", "200 404 200 204", "/things/{id}|1||", NULL, 3 },
    { "Connection: close", "GET /things HTTP/1.1\r\n" H "Connection: close\r\n\r\n", "200 closed", "none", "Connection: close", 1 },
    { "nothing behind Connection: close", "GET /things HTTP/1.1\r\n" H "Connection: close\r\n\r\nGET /things HTTP/1.1\r\n" H "\r\n", "200 closed", "none", NULL, 1 },
    { "HTTP/1.0", "GET /things HTTP/1.0\r\n" H "\r\n", "200 closed", "none", "Connection: close", 1 },
    { "HTTP/1.0 with keep-alive", "GET /things HTTP/1.0\r\n" H "Connection: keep-alive\r\n\r\n", "200 closed", "none", NULL, 1 },
    { "Upgrade to something else", "GET /things HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n", "200", "none", NULL, 1 },
};
/* clang-format on */

static bool has_header(struct span head, const char *want)
{
    struct span value = span_str(want);
    struct span name = span_cut(&value, ':');
    char text[64];
    assert_true(span_to_cstr(name, text, sizeof(text)));
    return span_eq(fx_header(head, text), span_trim(value));
}

static void run_row(const struct row *r, bool bytewise)
{
    struct fx_client c;
    struct fx_answer a;
    size_t at = 0;
    fx.handled = 0;
    fx_connect(&c);
    if (bytewise) {
        struct span in = span_str(r->input);
        for (size_t i = 0; i < in.n && !c.is_closed; i++) {
            fx_say(&c, span_sub(in, i, 1));
        }
    } else {
        fx_say_str(&c, r->input);
    }
    fx_advance(LIMIT_HTTP_LINGER_MS);
    fx_hear(&c);
    if (strcmp(fx_summary(&c), r->summary) != 0 || fx.handled != r->handled) {
        print_message("row \"%s\": %.*s\n", r->name, SPAN_ARG(buf_span(&c.in)));
    }
    assert_string_equal(fx_summary(&c), r->summary);
    assert_int_equal(fx.handled, r->handled);
    assert_true(fx_next(&c, &at, false, &a));
    assert_non_null(fx_header(a.head, "Date").p);
    if (r->body != NULL) {
        assert_span(a.body, span_str(r->body));
    }
    if (r->header != NULL && !has_header(a.head, r->header)) {
        fail_msg("row \"%s\": no \"%s\" in %.*s", r->name, r->header, SPAN_ARG(a.head));
    }
    fx_disconnect(&c);
    struct http_stats stats;
    http_stats(fx.server, &stats);
    assert_int_equal(stats.open, 0);
}

static void test_routes(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(route_rows); i++) {
        run_row(&route_rows[i], false);
    }
}

static void test_routes_bytewise(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(route_rows); i++) {
        run_row(&route_rows[i], true);
    }
}

/* --- limits of bodies ---------------------------------------------------------------------------------- */

static void say_body(struct fx_client *c, size_t n, bool chunked, const char *more)
{
    AUTO(buf_done) struct buf b = BUF_INIT(8u << 20);
    buf_addf(&b, "PUT /things/a HTTP/1.1\r\n" H "%s", more);
    if (chunked) {
        buf_addf(&b, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", n);
    } else {
        buf_addf(&b, "Content-Length: %zu\r\n\r\n", n);
    }
    memset(buf_reserve(&b, n), 'x', n);
    b.n += n;
    buf_add_str(&b, chunked ? "\r\n0\r\n\r\n" : "");
    buf_add_str(&b, "GET /things HTTP/1.1\r\n" H "\r\n");
    assert_ok(buf_err(&b));
    fx_say(c, buf_span(&b));
}

static void test_body_limits(void **state UNUSED)
{
    /* clang-format off */
    static const struct {
        const char *name;
        size_t n;
        bool chunked;
        const char *more;
        const char *summary, *later;
    } rows[] = {
        { "as much as allowed", FX_BODY, false, "", "200 200", "200 200" },
        { "one more", FX_BODY + 1, false, "", "413 200", "413 200" },
        { "more than is swallowed", 65537, false, "", "413", "413 closed" },
        { "chunked, as much as allowed", FX_BODY, true, "", "200 200", "200 200" },
        { "chunked, one more", FX_BODY + 1, true, "", "413", "413 closed" },
        { "chunked, a megabyte more", 1u << 20, true, "", "413", "413 closed" },
        { "refused, chunked", 10, true, "Authorization: no\r\n", "401", "401 closed" },
        { "refused, expecting 100", 10, false, "Authorization: no\r\nExpect: 100-continue\r\n", "401", "401 closed" },
        { "expecting 100", 10, false, "Expect: 100-continue\r\n", "100 200 200", "100 200 200" },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fx_client c;
        fx_connect(&c);
        say_body(&c, rows[i].n, rows[i].chunked, rows[i].more);
        if (strcmp(fx_summary(&c), rows[i].summary) != 0) {
            print_message("row \"%s\"\n", rows[i].name);
        }
        assert_string_equal(fx_summary(&c), rows[i].summary);
        fx_advance(LIMIT_HTTP_LINGER_MS);
        fx_hear(&c);
        assert_string_equal(fx_summary(&c), rows[i].later);
        fx_disconnect(&c);
    }
}

static void test_expect_continue(void **state UNUSED)
{
    struct fx_client c;
    fx_connect(&c);
    fx_say_str(&c,
               "PUT /things/a HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(fx_summary(&c), "100");
    fx_say_str(&c, "hi");
    assert_string_equal(fx_summary(&c), "100 200");
    fx_disconnect(&c);
}

/* The body is larger than the pair, the stream and the pool: it comes in pieces, with back-pressure. */
static void upload(bool chunked)
{
    struct fx_client c;
    struct fx_answer a;
    size_t at = 0, n = 3u << 20;
    uint64_t sum = 0;
    AUTO(buf_done) struct buf b = BUF_INIT(8u << 20);
    buf_addf(&b, "POST /things HTTP/1.1\r\n" H);
    if (chunked) {
        buf_addf(&b, "Transfer-Encoding: chunked\r\n\r\n");
    } else {
        buf_addf(&b, "Content-Length: %zu\r\n\r\n", n);
    }
    for (size_t i = 0; i < n; i++) {
        if (chunked && i % 100000 == 0) {
            buf_addf(&b, "%s%zx\r\n", i > 0 ? "\r\n" : "", MIN(n - i, (size_t)100000));
        }
        buf_add_u8(&b, (uint8_t)(i * 7));
        sum += (uint8_t)(i * 7);
    }
    buf_add_str(&b, chunked ? "\r\n0\r\n\r\n" : "");
    assert_ok(buf_err(&b));
    fx_connect(&c);
    fx_say(&c, buf_span(&b));
    for (unsigned i = 0; i < 200 && c.in.n == 0; i++) {
        fx_settle();
        fx_hear(&c);
    }
    assert_true(fx_next(&c, &at, false, &a));
    assert_int_equal(a.status, 200);
    char want[64];
    (void)snprintf(want, sizeof(want), "%zu %llu", n, (unsigned long long)sum);
    assert_span(a.body, span_str(want));
    fx_disconnect(&c);
}

static void test_upload(void **state UNUSED)
{
    upload(false);
    upload(true);
}

/* --- answers -------------------------------------------------------------------------------------------- */

static void test_big_answer(void **state UNUSED)
{
    struct fx_client c;
    fx_connect(&c);
    fx_say_str(&c,
               "GET /big HTTP/1.1\r\n" H "\r\nGET /big HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
    assert_string_equal(fx_summary(&c), "200 200 closed");
    assert_true(c.in.n > 12u << 20);
    fx_disconnect(&c);
}

static void test_head(void **state UNUSED)
{
    struct fx_client c;
    struct fx_answer a;
    size_t at = 0;
    fx_connect(&c);
    fx_say_str(&c, "HEAD /things HTTP/1.1\r\n" H "\r\nHEAD /big HTTP/1.1\r\n" H
                   "\r\nGET /things HTTP/1.1\r\n" H "\r\n");
    assert_true(fx_next(&c, &at, true, &a));
    assert_int_equal(a.status, 405); /* HEAD is no GET: it may not take what a GET would lock */
    assert_true(fx_next(&c, &at, true, &a));
    assert_int_equal(a.status, 200);
    assert_span(fx_header(a.head, "Content-Length"), SPAN_LIT("6291456"));
    assert_true(fx_next(&c, &at, false, &a));
    assert_span(a.body, SPAN_LIT("none"));
    assert_int_equal(at, c.in.n);
    fx_disconnect(&c);
}

/* More header bytes than libmicrohttpd's pool holds. */
static void test_many_headers(void **state UNUSED)
{
    struct fx_client c;
    struct fx_answer a;
    size_t at = 0;
    fx_connect(&c);
    fx_say_str(&c, "GET /headers HTTP/1.1\r\n" H "\r\nGET /things HTTP/1.1\r\n" H "\r\n");
    assert_true(fx_next(&c, &at, false, &a));
    assert_int_equal(a.status, 200);
    assert_true(a.head.n > 400u * 64u);
    assert_span(a.body, SPAN_LIT("many"));
    assert_true(fx_next(&c, &at, false, &a));
    assert_int_equal(at, c.in.n);
    fx_disconnect(&c);
}

static void test_max_connections(void **state UNUSED)
{
    struct fx_client c[FX_CLIENTS];
    for (size_t i = 0; i < FX_CLIENTS; i++) {
        fx_connect(&c[i]);
        fx_say_str(&c[i], "GET /things HTTP/1.1\r\n" H "\r\n");
        assert_string_equal(fx_summary(&c[i]), "200");
    }
    struct stream st = {0};
    assert_err(http_attach(fx.server, &st), E_BUSY);
    for (size_t i = 0; i < FX_CLIENTS; i++) {
        fx_disconnect(&c[i]);
    }
}

static void test_stats(void **state UNUSED)
{
    struct fx_client c;
    struct http_stats s;
    fx_connect(&c);
    fx_say_str(&c, "GET /things HTTP/1.1\r\n" H "\r\nGET /none HTTP/1.1\r\n" H "\r\nbad\r\n\r\n");
    http_stats(fx.server, &s);
    assert_int_equal(s.requests, 3);
    assert_int_equal(s.refused, 2);
    assert_int_equal(s.bad_heads, 1);
    assert_int_equal(s.by_status[2], 1);
    assert_int_equal(s.by_status[4], 2);
    fx_disconnect(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_routes, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_routes_bytewise, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_body_limits, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_expect_continue, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_upload, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_big_answer, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_head, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_many_headers, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_max_connections, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(test_stats, fx_setup, fx_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
