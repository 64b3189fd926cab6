/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/limits.h"
#include "wire/http.h"
#include "wire/proxy.h"

#define S(x) SPAN_LIT(x)

/* clang-format off */
static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        enum err want;
        const char *host;
        uint16_t port;
        const char *user, *password; /* NULL: none */
    } rows[] = {
        { "http://proxy.example:3128",        OK, "proxy.example", 3128, NULL, NULL },
        { "HTTP://proxy.example:3128/",       OK, "proxy.example", 3128, NULL, NULL },
        { "proxy.example:8080",               OK, "proxy.example", 8080, NULL, NULL },
        { "proxy.example",                    OK, "proxy.example", 1080, NULL, NULL },
        { "http://10.0.0.1",                  OK, "10.0.0.1",      1080, NULL, NULL },
        { " http://[::1]:3128 ",              OK, "::1",           3128, NULL, NULL },
        { "http://u:p@h:1",                   OK, "h",             1,    "u", "p" },
        { "http://u@h:1",                     OK, "h",             1,    "u", "" },
        { "http://u:p@q:r@h:1",               OK, "h",             1,    "u", "p@q:r" },
        { "http://a%3Ab:%40%2f@[fe80::1]:65535", OK, "fe80::1",    65535, "a%3Ab", "%40%2f" },
        { "",                                 E_CONFIG, NULL, 0, NULL, NULL },
        { "http://",                          E_CONFIG, NULL, 0, NULL, NULL },
        { "http://secret:word@",              E_CONFIG, NULL, 0, NULL, NULL },
        { "http://h:",                        E_CONFIG, NULL, 0, NULL, NULL },
        { "http://h:0",                       E_CONFIG, NULL, 0, NULL, NULL },
        { "http://h:65536",                   E_CONFIG, NULL, 0, NULL, NULL },
        { "http://h:12x",                     E_CONFIG, NULL, 0, NULL, NULL },
        { "http://h/path",                    E_CONFIG, NULL, 0, NULL, NULL },
        { "http://h?q",                       E_CONFIG, NULL, 0, NULL, NULL },
        { "http://a b",                       E_CONFIG, NULL, 0, NULL, NULL },
        { "http://[::1",                      E_CONFIG, NULL, 0, NULL, NULL },
        { "http://::1",                       E_CONFIG, NULL, 0, NULL, NULL },
        { "http://h\r\nX: y",                 E_CONFIG, NULL, 0, NULL, NULL },
        { "https://secret:word@h:1",          E_CONFIG, NULL, 0, NULL, NULL },
        { "socks5://secret:word@h",           E_CONFIG, NULL, 0, NULL, NULL },
        { "http://https://secret:word@h",     E_CONFIG, NULL, 0, NULL, NULL },
        { "ftp://h",                          E_CONFIG, NULL, 0, NULL, NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct proxy_url u = {.port = 7};
        struct err_info info = {0};
        assert_err(proxy_url_read(span_str(rows[i].url), &u, &info), rows[i].want);
        assert_null(strstr(info.why, "secret"));
        assert_null(strstr(info.why, "word"));
        if (rows[i].want != OK) {
            assert_int_equal(u.port, 7);
            continue;
        }
        assert_span(u.host, span_str(rows[i].host));
        assert_int_equal(u.port, rows[i].port);
        assert_int_equal(u.has_user, rows[i].user != NULL);
        assert_span(u.user, span_str(rows[i].user));
        assert_span(u.password, span_str(rows[i].password));
    }
}

static void exemptions(void **state)
{
    (void)state;
    static const struct {
        const char *list, *host;
        bool want;
    } rows[] = {
        { "",                          "hub.example",        false },
        { "*",                         "hub.example",        true },
        { " * ",                       "::1",                true },
        { "x,*",                       "hub.example",        false }, /* curl: the star stands alone */
        { "hub.example",               "hub.example",        true },
        { "HUB.example",               "hub.Example",        true },
        { "example",                   "hub.example",        true },
        { ".example",                  "hub.example",        true },
        { ".example",                  "example",            true },
        { "example",                   "hubexample",         false },
        { "hub.example",               "example",            false },
        { "hub.example.",              "hub.example",        true },
        { "hub.example",               "hub.example.",       true },
        { "a.b, c.d ,hub.example",     "hub.example",        true },
        { "a.b c.d hub.example",       "hub.example",        true },
        { ",,. ,",                     "hub.example",        false },
        { "*.example",                 "hub.example",        false }, /* as curl: no patterns */
        { "127.0.0.1",                 "127.0.0.1",          true },
        { "127.0.0.1",                 "127.0.0.10",         false },
        { "0.0.1",                     "127.0.0.1",          false },
        { "127.0.0.0/8",               "127.60.1.2",         true },
        { "127.0.0.0/8",               "128.0.0.1",          false },
        { "10.1.2.128/25",             "10.1.2.200",         true },
        { "10.1.2.128/25",             "10.1.2.100",         false },
        { "10.1.2.3/32",               "10.1.2.3",           true },
        { "0.0.0.0/0",                 "10.1.2.3",           true },
        { "10.0.0.0/33",               "10.0.0.0",           false },
        { "10.0.0.0/x",                "10.0.0.0",           false },
        { "10.0.0.0/",                 "10.0.0.0",           false },
        { "10.0.0.0/8",                "10.example",         false },
        { "::1",                       "::1",                true },
        { "[::1]",                     "::1",                true },
        { "::1",                       "[::1]",              true },
        { "0:0:0:0:0:0:0:1",           "::1",                true },
        { "fd00::/8",                  "fd12::3",            true },
        { "fd00::/8",                  "fe00::3",            false },
        { "0.0.0.0/0",                 "::1",                false },
        { "localhost",                 "127.0.0.1",          false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (proxy_exempts(span_str(rows[i].list), span_str(rows[i].host)) != rows[i].want) {
            fail_msg("'%s' and %s", rows[i].list, rows[i].host);
        }
    }
    assert_false(proxy_exempts(SPAN_NONE, S("x")));
}

static void requests(void **state)
{
    (void)state;
    static const struct {
        struct span host;
        const char *credential;
        enum err want;
        const char *text;
    } rows[] = {
        { S("hub.example"), "", OK, "CONNECT hub.example:443 HTTP/1.1\r\nHost: hub.example:443\r\nUser-Agent: berth/" PACKAGE_VERSION "\r\n\r\n" },
        { S("::1"),         "", OK, "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nUser-Agent: berth/" PACKAGE_VERSION "\r\n\r\n" },
        /* RFC 7617 2 */
        { S("h"), "Aladdin:open sesame", OK, "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nUser-Agent: berth/" PACKAGE_VERSION
          "\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n" },
        { S("h\r\nX: y"),   "", E_ARG, "" },
        { S("h x"),         "", E_ARG, "" },
        { S("h\0x"),        "", E_ARG, "" },
        { S(""),            "", E_ARG, "" },
        { S("user@h"),      "", E_ARG, "" },
        { S("h/x"),         "", E_ARG, "" },
        { S("h:80"),        "", E_ARG, "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(buf_done) struct buf b = BUF_INIT(2048);
        assert_err(proxy_connect_write(&b, rows[i].host, 443, span_str(rows[i].credential), NULL), rows[i].want);
        assert_span(buf_span(&b), span_str(rows[i].text));
    }
    char name[LIMIT_HOST + 2];
    memset(name, 'x', sizeof(name));
    AUTO(buf_done) struct buf b = BUF_INIT(2048);
    assert_err(proxy_connect_write(&b, span_of(name, LIMIT_HOST), 443, SPAN_NONE, NULL), OK);
    assert_err(proxy_connect_write(&b, span_of(name, LIMIT_HOST + 1), 443, SPAN_NONE, NULL), E_ARG);
}
/* clang-format on */

/* wire/http.h: for proxies and for WebSockets. */
static void answers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span head;
        enum err want;
        unsigned status;
    } rows[] = {
        /* clang-format off */
        { "with words", S("HTTP/1.1 200 Connection established\r\nA: b\r\n\r\n"), OK, 200 },
        { "without", S("HTTP/1.0 407\r\n\r\n"), OK, 407 },
        { "HTTP/2", S("HTTP/2 200 OK\r\n\r\n"), E_MALFORMED, 0 },
        { "two digits", S("HTTP/1.1 20 OK\r\n\r\n"), E_MALFORMED, 0 },
        { "below 100", S("HTTP/1.1 099 OK\r\n\r\n"), E_MALFORMED, 0 },
        { "sign", S("HTTP/1.1 +20 OK\r\n\r\n"), E_MALFORMED, 0 },
        { "another protocol", S("SSH-2.0-OpenSSH_9.2\r\n\r\n"), E_MALFORMED, 0 },
        { "bare LF", S("HTTP/1.1 200 OK\n\n"), E_MALFORMED, 0 },
        { "bare LF later", S("HTTP/1.1 200 OK\r\nA: b\n\r\n"), E_MALFORMED, 0 },
        { "folded", S("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), E_MALFORMED, 0 },
        { "no name", S("HTTP/1.1 200 OK\r\n: b\r\n\r\n"), E_MALFORMED, 0 },
        { "no colon", S("HTTP/1.1 200 OK\r\nA\r\n\r\n"), E_MALFORMED, 0 },
        { "control character", S("HTTP/1.1 200 OK\r\nA: \x1b[1m\r\n\r\n"), E_MALFORMED, 0 },
        { "bytes behind", S("HTTP/1.1 200 OK\r\n\r\nx"), E_MALFORMED, 0 },
        { "cut", S("HTTP/1.1 200 OK\r\nA: b\r\n"), E_MALFORMED, 0 },
        /* clang-format on */
    };
    struct span lines, name, value;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned status = 0;
        print_message("%s\n", rows[i].name);
        assert_err(http_answer_read(rows[i].head, &status, &lines, NULL), rows[i].want);
        assert_int_equal(status, rows[i].status);
    }
    for (unsigned over = 0; over < 2; over++) {
        AUTO(buf_done) struct buf b = BUF_INIT(1 << 20);
        unsigned status, n = 0;
        buf_add_str(&b, "HTTP/1.1 200 OK\r\n");
        for (unsigned i = 0; i < LIMIT_HTTP_HEADERS + over; i++) {
            buf_add_str(&b, "a: b\r\n");
        }
        buf_add_str(&b, "\r\n");
        assert_err(http_answer_read(buf_span(&b), &status, &lines, NULL), over ? E_LIMIT : OK);
        while (!over && http_head_next(&lines, &name, &value)) {
            n++;
        }
        assert_int_equal(n, over ? 0 : LIMIT_HTTP_HEADERS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(exemptions),
        cmocka_unit_test(requests),
        cmocka_unit_test(answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
