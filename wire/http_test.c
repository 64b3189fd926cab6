/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/buf.h"
#include "base/limits.h"
#include "wire/http.h"

#define S(x) SPAN_LIT(x)
#define H "Host: h\r\n"

/* --- where the head ends ------------------------------------------------------------------ */
static void test_find(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span in;
        enum err want;
        size_t n;
    } rows[] = {
        {"nothing", {NULL, 0}, E_AGAIN, 0},
        {"not yet", S("GET / HTTP/1.1\r\nHost: h\r\n"), E_AGAIN, 0},
        {"whole", S("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), OK, 27},
        {"and a body", S("GET / HTTP/1.1\r\nHost: h\r\n\r\nbody\r\n\r\n"), OK, 27},
        {"empty line before", S("\r\nGET / HTTP/1.1\r\n\r\n"), OK, 20},
        {"bare LFs are found too", S("GET / HTTP/1.1\n\nx"), OK, 16},
        {"LF then CRLF", S("GET / HTTP/1.1\n\r\nx"), OK, 17},
        {"two empty lines before", S("\r\n\r\nGET"), OK, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t scanned = 0;
        size_t n = 99;
        print_message("%s\n", rows[i].name);
        assert_err(http_head_find(rows[i].in, &scanned, &n), rows[i].want);
        assert_int_equal(n, rows[i].want == OK ? rows[i].n : 99);
        /* the same a byte at a time */
        scanned = 0;
        enum err e = E_AGAIN;
        for (size_t k = 0; k <= rows[i].in.n && e == E_AGAIN; k++) {
            e = http_head_find(span_sub(rows[i].in, 0, k), &scanned, &n);
            assert_true(e == OK || scanned == k);
        }
        assert_err(e, rows[i].want);
        assert_int_equal(n, rows[i].want == OK ? rows[i].n : 99);
    }
}

static void test_find_limit(void **state)
{
    (void)state;
    for (unsigned over = 0; over < 2; over++) {
        struct buf b = BUF_INIT(1 << 20);
        size_t scanned = 0;
        size_t n = 0;
        buf_add_str(&b, "GET / HTTP/1.1\r\n" H "x: ");
        while (b.n < LIMIT_HTTP_HEAD - 4 + over) {
            buf_add_u8(&b, 'a');
        }
        assert_err(http_head_find(buf_span(&b), &scanned, &n), E_AGAIN);
        buf_add_str(&b, "\r\n\r\n");
        assert_err(http_head_find(buf_span(&b), &scanned, &n), over ? E_TOO_LARGE : OK);
        struct http_head h;
        assert_err(http_head_read(buf_span(&b), &h, NULL), over ? E_TOO_LARGE : OK);
        buf_done(&b);
    }
}

/* --- the head ----------------------------------------------------------------------------- */
static void test_good_head(void **state)
{
    (void)state;
    const struct span text = S("\r\nPOST /a%2Fb/?x=1?&y HTTP/1.1\r\nHost: Hub.example.net:443\r\n"
                               "content-LENGTH: 17\r\nExpect: 100-Continue\r\n"
                               "X-Empty:\r\nX-Tab:\ta\tb\t\r\nX-Raw: \xff\r\n"
                               "Connection: keep-alive , Upgrade\r\nUpgrade: websocket\r\n\r\n");
    struct http_head h;
    struct err_info info = {.err = OK};
    assert_ok(http_head_read(text, &h, &info));
    assert_span(h.method, S("POST"));
    assert_span(h.target, S("/a%2Fb/?x=1?&y"));
    assert_span(h.path, S("/a%2Fb/"));
    assert_span(h.query, S("x=1?&y"));
    assert_span(h.host, S("Hub.example.net:443"));
    assert_span(http_host_name(h.host), S("Hub.example.net"));
    assert_true(h.has_length && h.length == 17 && !h.is_chunked && !h.is_http10);
    assert_true(h.expects_continue && h.wants_upgrade && !h.wants_close);
    assert_span(h.upgrade, S("websocket"));
    assert_int_equal(h.n_headers, 8);
    assert_span(http_head_get(&h, "x-tab"), S("a\tb"));
    assert_true(http_head_get(&h, "x-empty").p != NULL && http_head_get(&h, "x-empty").n == 0);
    assert_null(http_head_get(&h, "absent").p);
    for (size_t n = 0; n < text.n; n++) {
        struct http_head cut = {.n_headers = 77};
        assert_int_not_equal(http_head_read(span_sub(text, 0, n), &cut, NULL), OK);
        assert_int_equal(cut.n_headers, 77);
    }
}

/* Threat N4: each form in which two parsers could differ. */
static void test_heads(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span head;
        enum err want;
    } rows[] = {
        /* clang-format off */
        { "least", S("GET / HTTP/1.1\r\n" H "\r\n"), OK },
        { "chunked", S("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n"), OK },
        { "HTTP/1.0", S("GET / HTTP/1.0\r\n" H "\r\n"), OK },
        { "host literal", S("GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n"), OK },
        { "two lengths", S("PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), E_MALFORMED },
        { "length list", S("PUT / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n\r\n"), E_MALFORMED },
        { "length +1", S("PUT / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n"), E_MALFORMED },
        { "length -1", S("PUT / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n"), E_MALFORMED },
        { "length 0x1", S("PUT / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n\r\n"), E_MALFORMED },
        { "length empty", S("PUT / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"), E_MALFORMED },
        { "length too big", S("PUT / HTTP/1.1\r\n" H "Content-Length: 18446744073709551616\r\n\r\n"), E_MALFORMED },
        { "length above 63 bits", S("PUT / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n"), E_MALFORMED },
        { "both framings", S("PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), E_MALFORMED },
        { "both, other order", S("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"), E_MALFORMED },
        { "two encodings", S("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), E_MALFORMED },
        { "gzip, chunked", S("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"), E_MALFORMED },
        { "identity", S("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"), E_MALFORMED },
        { "xchunked", S("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"), E_MALFORMED },
        { "encoding with vertical tab", S("PUT / HTTP/1.1\r\n" H "Transfer-Encoding:\vchunked\r\n\r\n"), E_MALFORMED },
        { "chunked in 1.0", S("PUT / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n"), E_MALFORMED },
        { "space before colon", S("PUT / HTTP/1.1\r\n" H "Content-Length : 1\r\n\r\n"), E_MALFORMED },
        { "tab before colon", S("PUT / HTTP/1.1\r\n" H "Content-Length\t: 1\r\n\r\n"), E_MALFORMED },
        { "folded line", S("GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n"), E_MALFORMED },
        { "folded by tab", S("GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n"), E_MALFORMED },
        { "first line blank led", S("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), E_MALFORMED },
        { "no colon", S("GET / HTTP/1.1\r\n" H "X\r\n\r\n"), E_MALFORMED },
        { "empty name", S("GET / HTTP/1.1\r\n" H ": x\r\n\r\n"), E_MALFORMED },
        { "name with (", S("GET / HTTP/1.1\r\n" H "X(y: x\r\n\r\n"), E_MALFORMED },
        { "name not ASCII", S("GET / HTTP/1.1\r\n" H "X\xc3\xa4: x\r\n\r\n"), E_MALFORMED },
        { "bare LF line", S("GET / HTTP/1.1\n" H "\r\n"), E_MALFORMED },
        { "bare LF in value", S("GET / HTTP/1.1\r\n" H "X: a\nY: b\r\n\r\n"), E_MALFORMED },
        { "bare CR in value", S("GET / HTTP/1.1\r\n" H "X: a\rY: b\r\n\r\n"), E_MALFORMED },
        { "bare CR in name", S("GET / HTTP/1.1\r\n" H "X\r: a\r\n\r\n"), E_MALFORMED },
        { "bare LF at the end", S("GET / HTTP/1.1\r\n" H "\n"), E_MALFORMED },
        { "NUL in value", S("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"), E_MALFORMED },
        { "NUL in target", S("GET /\0 HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "no host", S("GET / HTTP/1.1\r\n\r\n"), E_MALFORMED },
        { "no host in 1.0", S("GET / HTTP/1.0\r\n\r\n"), E_MALFORMED },
        { "two hosts", S("GET / HTTP/1.1\r\n" H H "\r\n"), E_MALFORMED },
        { "empty host", S("GET / HTTP/1.1\r\nHost:\r\n\r\n"), E_MALFORMED },
        { "host with path", S("GET / HTTP/1.1\r\nHost: h/x\r\n\r\n"), E_MALFORMED },
        { "host with user", S("GET / HTTP/1.1\r\nHost: a@h\r\n\r\n"), E_MALFORMED },
        { "host list", S("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), E_MALFORMED },
        { "host port", S("GET / HTTP/1.1\r\nHost: h:x\r\n\r\n"), E_MALFORMED },
        { "host port big", S("GET / HTTP/1.1\r\nHost: h:65536\r\n\r\n"), E_MALFORMED },
        { "host literal open", S("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), E_MALFORMED },
        { "host literal and more", S("GET / HTTP/1.1\r\nHost: [::1]x80\r\n\r\n"), E_MALFORMED },
        { "absolute form", S("GET http://h/ HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "asterisk form", S("OPTIONS * HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "authority form", S("CONNECT h:443 HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "fragment", S("GET /a#b HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "target not ASCII", S("GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "two spaces", S("GET  / HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "space behind version", S("GET / HTTP/1.1 \r\n" H "\r\n"), E_MALFORMED },
        { "tab for space", S("GET\t/\tHTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "space in target", S("GET /a b HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "no version", S("GET /\r\n" H "\r\n"), E_MALFORMED },
        { "HTTP/2.0", S("GET / HTTP/2.0\r\n" H "\r\n"), E_VERSION },
        { "HTTP/1.2", S("GET / HTTP/1.2\r\n" H "\r\n"), E_VERSION },
        { "http/1.1", S("GET / http/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "bad method", S("GE(T / HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "long method", S("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH / HTTP/1.1\r\n" H "\r\n"), E_MALFORMED },
        { "TLS hello", S("\x16\x03\x01\x02\0\x01\0\r\n\r\n"), E_MALFORMED },
        { "bytes behind", S("GET / HTTP/1.1\r\n" H "\r\nx"), E_MALFORMED },
        { "expect other", S("GET / HTTP/1.1\r\n" H "Expect: rain\r\n\r\n"), E_MALFORMED },
        { "upgrade twice", S("GET / HTTP/1.1\r\n" H "Upgrade: a\r\nUpgrade: b\r\n\r\n"), E_MALFORMED },
        { "nothing", { NULL, 0 }, E_MALFORMED },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_head h = {.n_headers = 77};
        struct err_info info = {.err = OK};
        print_message("%s\n", rows[i].name);
        assert_err(http_head_read(rows[i].head, &h, &info), rows[i].want);
        assert_int_equal(h.n_headers == 77, rows[i].want != OK);
        if (span_starts(span_str(rows[i].name), S("folded"))) {
            assert_non_null(strstr(info.why, "folded"));
        }
    }
}

static void test_header_count(void **state)
{
    (void)state;
    for (unsigned over = 0; over < 2; over++) {
        struct buf b = BUF_INIT(LIMIT_HTTP_HEAD);
        buf_add_str(&b, "GET / HTTP/1.1\r\n" H);
        for (unsigned i = 1; i < LIMIT_HTTP_HEADERS + over; i++) {
            buf_addf(&b, "X%u: y\r\n", i);
        }
        buf_add_str(&b, "\r\n");
        struct http_head h;
        assert_err(http_head_read(buf_span(&b), &h, NULL), over ? E_LIMIT : OK);
        buf_done(&b);
    }
}

static void test_connection_words(void **state)
{
    (void)state;
    struct http_head h;
    assert_ok(http_head_read(S("GET / HTTP/1.1\r\n" H "Connection: Close\r\n\r\n"), &h, NULL));
    assert_true(h.wants_close && !h.wants_upgrade);
    assert_ok(http_head_read(S("GET / HTTP/1.0\r\n" H "\r\n"), &h, NULL));
    assert_true(h.wants_close);
    assert_ok(http_head_read(S("GET / HTTP/1.0\r\n" H "Connection: Keep-Alive\r\n\r\n"), &h, NULL));
    assert_false(h.wants_close);
    assert_ok(http_head_read(S("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\n\r\n"), &h, NULL));
    assert_false(h.wants_upgrade);
    assert_ok(http_head_read(S("GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n"), &h, NULL));
    assert_false(h.wants_upgrade);
    assert_ok(http_head_read(S("GET / HTTP/1.1\r\n" H "Content-Encoding: gzip\r\n\r\n"), &h, NULL));
    assert_true(h.has_content_encoding);
    assert_ok(
        http_head_read(S("GET / HTTP/1.1\r\n" H "Content-Encoding: identity\r\n\r\n"), &h, NULL));
    assert_false(h.has_content_encoding);
}

/* --- body --------------------------------------------------------------------------------- */
static enum err feed(struct http_body *b, struct span in, size_t chunk, size_t *ret_used,
                     bool *ret_done)
{
    size_t used = 0;
    *ret_done = http_body_is_done(b);
    while (used < in.n && !*ret_done) {
        size_t n = 0;
        enum err e = http_body_feed(b, span_sub(in, used, chunk), &n, ret_done, NULL);
        if (e != OK) {
            return e;
        }
        used += n;
    }
    *ret_used = used;
    return OK;
}

static void test_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *framing;
        struct span in;
        enum err want;
        size_t used;
        uint64_t payload;
        bool done;
    } rows[] = {
        /* clang-format off */
        { "none", "", S("GET"), OK, 0, 0, true },
        { "length", "Content-Length: 3\r\n", S("abcGET"), OK, 3, 3, true },
        { "length 0", "Content-Length: 0\r\n", S("GET"), OK, 0, 0, true },
        { "length, part", "Content-Length: 9\r\n", S("abc"), OK, 3, 3, false },
        { "chunks", "Transfer-Encoding: chunked\r\n", S("3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\nGET"), OK, 29, 13, true },
        { "last chunk 000", "Transfer-Encoding: chunked\r\n", S("000\r\n\r\nGET"), OK, 7, 0, true },
        { "extension", "Transfer-Encoding: chunked\r\n", S("1;a=\"b\"\r\nx\r\n0;z\r\n\r\n"), OK, 19, 1, true },
        { "half a chunk", "Transfer-Encoding: chunked\r\n", S("5\r\nab"), OK, 5, 2, false },
        { "size with space", "Transfer-Encoding: chunked\r\n", S("1 \r\nx\r\n"), E_MALFORMED, 0, 0, false },
        { "no size", "Transfer-Encoding: chunked\r\n", S("\r\n"), E_MALFORMED, 0, 0, false },
        { "only an extension", "Transfer-Encoding: chunked\r\n", S(";a\r\n"), E_MALFORMED, 0, 0, false },
        { "-1", "Transfer-Encoding: chunked\r\n", S("-1\r\n"), E_MALFORMED, 0, 0, false },
        { "0x1", "Transfer-Encoding: chunked\r\n", S("0x1\r\n"), E_MALFORMED, 0, 0, false },
        { "bare LF behind size", "Transfer-Encoding: chunked\r\n", S("1\nx\r\n"), E_MALFORMED, 0, 0, false },
        { "bare LF in extension", "Transfer-Encoding: chunked\r\n", S("1;a\nx"), E_MALFORMED, 0, 0, false },
        { "bare LF behind data", "Transfer-Encoding: chunked\r\n", S("1\r\nx\n0\r\n\r\n"), E_MALFORMED, 0, 0, false },
        { "data longer than said", "Transfer-Encoding: chunked\r\n", S("1\r\nxy\r\n"), E_MALFORMED, 0, 0, false },
        { "trailer", "Transfer-Encoding: chunked\r\n", S("0\r\nX: y\r\n\r\n"), E_MALFORMED, 0, 0, false },
        { "16 digits", "Transfer-Encoding: chunked\r\n", S("0000000000000001\r\nx"), E_MALFORMED, 0, 0, false },
        { "15 digits", "Transfer-Encoding: chunked\r\n", S("000000000000001\r\nx"), OK, 18, 1, false },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf text = BUF_INIT(1000);
        struct http_head h;
        buf_addf(&text, "PUT / HTTP/1.1\r\n" H "%s\r\n", rows[i].framing);
        assert_ok(http_head_read(buf_span(&text), &h, NULL));
        for (size_t chunk = 1; chunk <= rows[i].in.n; chunk++) {
            struct http_body b;
            size_t used = 0;
            bool done = false;
            print_message("%s by %zu\n", rows[i].name, chunk);
            http_body_init(&b, &h);
            assert_err(feed(&b, rows[i].in, chunk, &used, &done), rows[i].want);
            if (rows[i].want == OK) {
                assert_int_equal(used, rows[i].used);
                assert_int_equal(b.payload, rows[i].payload);
                assert_int_equal(done, rows[i].done);
            }
        }
        buf_done(&text);
    }
}

static void test_chunk_line_limit(void **state)
{
    (void)state;
    struct http_head h;
    assert_ok(
        http_head_read(S("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"), &h, NULL));
    for (unsigned over = 0; over < 2; over++) {
        struct buf b = BUF_INIT(1000);
        buf_add_str(&b, "1;");
        while (b.n < HTTP_CHUNK_LINE - 1 + over) {
            buf_add_u8(&b, 'a');
        }
        buf_add_str(&b, "\r\nx\r\n");
        struct http_body body;
        size_t used;
        bool done;
        http_body_init(&body, &h);
        assert_err(http_body_feed(&body, buf_span(&b), &used, &done, NULL),
                   over ? E_MALFORMED : OK);
        buf_done(&b);
    }
}

/* --- If-Match ----------------------------------------------------------------------------- */
static void test_if_match(void **state)
{
    (void)state;
    static const struct {
        struct span in;
        enum err want;
        enum http_match_kind kind;
        const char *etag;
    } rows[] = {
        {{NULL, 0}, OK, HTTP_MATCH_NONE, ""},
        {S(""), OK, HTTP_MATCH_NONE, ""},
        {S("\"\""), OK, HTTP_MATCH_NONE, ""},
        {S(" "), OK, HTTP_MATCH_NONE, ""},
        {S("*"), OK, HTTP_MATCH_ANY, ""},
        {S("\"*\""), OK, HTTP_MATCH_ANY, ""},
        {S("W/\"*\""), OK, HTTP_MATCH_ANY, ""},
        {S("MQ=="), OK, HTTP_MATCH_ETAG, "MQ=="},
        {S(" \"MQ==\" "), OK, HTTP_MATCH_ETAG, "MQ=="},
        {S("W/\"MQ==\""), OK, HTTP_MATCH_ETAG, "MQ=="},
        {S("\"a\", \"b\""), E_ARG, 0, ""},
        {S("a,b"), E_ARG, 0, ""},
        {S("\"a"), E_ARG, 0, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_match m = {.kind = 77};
        print_message("%.*s\n", SPAN_ARG(rows[i].in));
        assert_err(http_if_match_read(rows[i].in, &m, NULL), rows[i].want);
        if (rows[i].want == OK) {
            assert_int_equal(m.kind, rows[i].kind);
            assert_span(m.etag, span_str(rows[i].etag));
            assert_int_equal(http_match_fits(&m, S("MQ==")), true);
            assert_int_equal(http_match_fits(&m, S("Mg==")), m.kind != HTTP_MATCH_ETAG);
        } else {
            assert_int_equal(m.kind, 77);
        }
    }
}

/* --- paths -------------------------------------------------------------------------------- */
static void test_paths(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(1 << 16);
    struct http_path p = {.n = 77};
    assert_ok(http_path_read(S("/"), &a, &p));
    assert_int_equal(p.n, 0);
    assert_ok(http_path_read(S("/devices/a%2fb%2Bc+d/"), &a, &p));
    assert_int_equal(p.n, 2);
    assert_span(p.segment[0], S("devices"));
    assert_span(p.segment[1], S("a/b+c+d"));
    assert_ok(http_path_read(S("/%24iothub/websocket"), &a, &p));
    assert_span(p.segment[0], S("$iothub"));
    /* threat:D4: legal ids, taken as they stand */
    assert_ok(http_path_read(S("/devices/../%2e/%2e%2E"), &a, &p));
    assert_int_equal(p.n, 4);
    assert_span(p.segment[1], S(".."));
    assert_span(p.segment[2], S("."));
    assert_span(p.segment[3], S(".."));
    static const struct span bad[] = {SPAN_LIT(""),       SPAN_LIT("a"),      SPAN_LIT("//"),
                                      SPAN_LIT("/a//b"),  SPAN_LIT("/a/%"),   SPAN_LIT("/a/%4"),
                                      SPAN_LIT("/a/%zz"), SPAN_LIT("/a/%00"), SPAN_LIT("/a/%ff"),
                                      SPAN_LIT("//a"),    SPAN_LIT("/a//")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        p.n = 77;
        print_message("%.*s\n", SPAN_ARG(bad[i]));
        assert_err(http_path_read(bad[i], &a, &p), E_MALFORMED);
        assert_int_equal(p.n, 77);
    }
    assert_ok(http_path_read(S("/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g"), &a, &p));
    assert_err(http_path_read(S("/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g/h"), &a, &p), E_LIMIT);
    arena_done(&a);
    struct arena tiny = ARENA_INIT(1);
    assert_err(http_path_read(S("/devices"), &tiny, &p), E_NOMEM);
    arena_done(&tiny);
}

static void test_path_match(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(1 << 16);
    struct http_path p;
    struct span params[2] = {SPAN_NONE, SPAN_NONE};
    assert_ok(http_path_read(S("/Devices/D1/messages/DeviceBound"), &a, &p));
    assert_int_not_equal(http_path_match("/devices/{id}/messages/devicebound", &p, params, 2), 0);
    assert_span(params[0], S("D1"));
    assert_int_equal(http_path_match("/devices/{id}/messages", &p, params, 2), 0);
    assert_int_equal(http_path_match("/devices/{id}/messages/devicebound/{lock}", &p, params, 2),
                     0);
    assert_int_equal(http_path_match("/twins/{id}/messages/devicebound", &p, params, 2), 0);
    assert_int_not_equal(http_path_match("/{a}/{b}/{c}/{d}", &p, params, 2), 0);
    /* fixed beats parameter, the earlier the more */
    assert_ok(http_path_read(S("/devices/query"), &a, &p));
    unsigned fixed = http_path_match("/devices/query", &p, params, 2);
    unsigned param = http_path_match("/devices/{id}", &p, params, 2);
    unsigned other = http_path_match("/{x}/query", &p, params, 2);
    assert_true(fixed > param && param > other && other > 0);
    assert_ok(http_path_read(S("/"), &a, &p));
    assert_int_not_equal(http_path_match("/", &p, params, 2), 0);
    assert_int_equal(http_path_match("/{x}", &p, params, 2), 0);
    arena_done(&a);
}

static void test_query(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(1 << 16);
    struct span v = S("untouched");
    bool found = false;
    const struct span q = S("api-version=2021-04-12&reject&a%62=c%20d+e&bad=%zz&api-version=2");
    assert_ok(http_query_get(q, "API-Version", &a, &v, &found));
    assert_true(found);
    assert_span(v, S("2021-04-12"));
    assert_ok(http_query_get(q, "reject", &a, &v, &found));
    assert_true(found && v.n == 0);
    assert_ok(http_query_get(q, "ab", &a, &v, &found));
    assert_span(v, S("c d+e"));
    v = S("untouched");
    assert_ok(http_query_get(q, "absent", &a, &v, &found));
    assert_false(found);
    assert_err(http_query_get(q, "bad", &a, &v, &found), E_MALFORMED);
    assert_err(http_query_get(S("x=%00"), "x", &a, &v, &found), E_MALFORMED);
    assert_span(v, S("untouched"));
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),         cmocka_unit_test(test_find_limit),
        cmocka_unit_test(test_good_head),    cmocka_unit_test(test_heads),
        cmocka_unit_test(test_header_count), cmocka_unit_test(test_connection_words),
        cmocka_unit_test(test_bodies),       cmocka_unit_test(test_chunk_line_limit),
        cmocka_unit_test(test_if_match),     cmocka_unit_test(test_paths),
        cmocka_unit_test(test_path_match),   cmocka_unit_test(test_query),
    };
    return cmocka_run_group_tests_name("wire/http", tests, NULL, NULL);
}
