/* SPDX-License-Identifier: Apache-2.0 */
/* Outgoing requests against our own server, which runs on the test's loop, plain and under TLS. */
#include "net/egress.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn.h"
#include "net/egress_addr.h"
#include "net/http.h"
#include "net/net_fixture.h"
#include "tests/unit.h"

#define POOL_MAIN 0u
#define POOL_PUBLIC 1u /* private addresses refused */
#define POOL_SMALL 2u  /* two connections, five requests */
#define POOL_OTHER 3u  /* believes another CA */
#define ANSWER_MAX 4096u

static struct t {
    struct loop *loop;
    struct http_server *server;
    struct tls_ctx *tls;
    struct listener *plain, *secure;
    struct egress *egress;
    struct certs certs;
    uint16_t port, tls_port, dead_port;
    unsigned hits, targets;
    char auth[64], type[64], expect[64], agent[64];
} t;

/* --- the server --------------------------------------------------------------------------------- */

static void note_header(struct http_rq *rq, const char *name, char dst[64])
{
    struct span v = http_rq_header(rq, name);
    if (v.p == NULL) {
        v = SPAN_LIT("-");
    }
    assert_true(span_to_cstr(v, dst, 64));
}

static void on_echo(struct http_rq *rq)
{
    static const char *const names[] = {"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"};
    t.hits++;
    note_header(rq, "Authorization", t.auth);
    note_header(rq, "Content-Type", t.type);
    note_header(rq, "Expect", t.expect);
    note_header(rq, "User-Agent", t.agent);
    char *text = arena_printf(http_rq_arena(rq), "%s %.*s", names[http_rq_method(rq)],
                              SPAN_ARG(http_rq_body(rq)));
    http_answer(rq, 200, "text/plain", span_str(text));
}

static void on_status(struct http_rq *rq)
{
    uint64_t status = 0;
    t.hits++;
    assert_true(span_to_u64(http_rq_param(rq, 0), &status));
    http_header(rq, "Location", SPAN_LIT("/target"));
    http_answer(rq, (unsigned)status, NULL, SPAN_NONE);
}

static void on_target(struct http_rq *rq)
{
    t.targets++;
    http_answer(rq, 200, NULL, SPAN_NONE);
}

static void on_bytes(struct http_rq *rq)
{
    uint64_t n = 0;
    assert_true(span_to_u64(http_rq_param(rq, 0), &n));
    char *p = arena_alloc(http_rq_arena(rq), n);
    memset(p, 'a', n);
    http_answer(rq, 200, "text/plain", span_of(p, n));
}

static void on_silence(struct http_rq *rq)
{
    t.hits++;
    (void)rq; /* never answered */
}

/* clang-format off */
static const struct http_route routes[] = {
    { HTTP_GET,    "/echo",       0, 0, 0,       on_echo },
    { HTTP_HEAD,   "/echo",       0, 0, 0,       on_echo },
    { HTTP_DELETE, "/echo",       0, 0, 0,       on_echo },
    { HTTP_PUT,    "/echo",       0, 0, 1u << 20, on_echo },
    { HTTP_POST,   "/echo",       0, 0, 1u << 20, on_echo },
    { HTTP_PATCH,  "/echo",       0, 0, 1u << 20, on_echo },
    { HTTP_GET,    "/status/{n}", 0, 0, 0,       on_status },
    { HTTP_GET,    "/target",     0, 0, 0,       on_target },
    { HTTP_GET,    "/bytes/{n}",  0, 0, 0,       on_bytes },
    { HTTP_GET,    "/silence",    0, 0, 0,       on_silence },
};
/* clang-format on */

static enum err admit(struct http_rq *rq UNUSED, struct err_info *info UNUSED)
{
    return OK;
}

static void refuse(struct http_rq *rq, enum err e, const struct err_info *info UNUSED)
{
    http_answer(rq, 400, "text/plain", span_str(err_name(e)));
}

static void on_open(struct conn *c, void *arg UNUSED)
{
    assert_ok(http_attach(t.server, conn_stream(c)));
}

static uint16_t unused_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static int setup_server(void **state UNUSED)
{
    struct err_info info = {0};
    memset(&t, 0, sizeof(t));
    certs_make(&t.certs);
    assert_ok(loop_new(0, clock_system(), &t.loop));
    const struct http_conf conf = {
        .loop = t.loop,
        .routes = routes,
        .n_routes = ARRAY_LEN(routes),
        .hooks = {.admit = admit, .refuse = refuse},
        .max_connections = 64,
    };
    assert_ok(http_server_new(&conf, &t.server, &info));
    const struct tls_server_conf tls = {t.certs.server, t.certs.server_key};
    assert_ok(tls_server_new(&tls, &t.tls, &info));
    struct listener_conf lc = {
        .address = "127.0.0.1", .on_open = on_open, .max_unauthenticated = 64};
    assert_ok(listener_new(t.loop, &lc, &t.plain, &info));
    lc.tls = t.tls;
    assert_ok(listener_new(t.loop, &lc, &t.secure, &info));
    t.port = listener_port(t.plain);
    t.tls_port = listener_port(t.secure);
    t.dead_port = unused_port();
    return 0;
}

static int setup(void **state)
{
    struct err_info info = {0};
    setup_server(state);
    const struct egress_pool_conf pools[] = {
        {"main", t.certs.ca, 8, 64, ANSWER_MAX, true},
        {"public", t.certs.ca, 8, 64, ANSWER_MAX, false},
        {"small", t.certs.ca, 2, 5, ANSWER_MAX, true},
        {"other", t.certs.other_ca, 2, 5, ANSWER_MAX, true},
    };
    assert_ok(egress_new(pools, ARRAY_LEN(pools), &t.egress, &info));
    return 0;
}

static int teardown(void **state UNUSED)
{
    egress_free(t.egress, 0);
    listener_free(t.plain);
    listener_free(t.secure);
    http_server_free(t.server);
    for (unsigned i = 0; i < 8; i++) {
        loop_turn(t.loop, 0);
    }
    tls_ctx_unref(t.tls);
    loop_free(t.loop);
    certs_remove(&t.certs);
    return 0;
}

/* --- one request ------------------------------------------------------------------------------------ */

struct ask {
    struct egress_rq rq;
    char url[256];
    bool is_home;
};

static void on_home(struct msg *m)
{
    struct egress_rq *rq = CONTAINER_OF(m, struct egress_rq, msg);
    CONTAINER_OF(rq, struct ask, rq)->is_home = true;
}

static void ask_init(struct ask *a, unsigned pool, const char *method, const char *url)
{
    *a = (struct ask){0};
    (void)snprintf(a->url, sizeof(a->url), "%s", url);
    a->rq.msg.run = on_home;
    a->rq.home = loop_mailbox(t.loop);
    a->rq.pool = pool;
    a->rq.method = method;
    a->rq.url = a->url;
    a->rq.timeout_ms = 20000;
    a->rq.allow_http = true;
}

static void ask_http(struct ask *a, unsigned pool, const char *method, const char *path)
{
    char url[256];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", t.port, path);
    ask_init(a, pool, method, url);
}

static void await(struct ask *a)
{
    STEP_UNTIL(t.loop, a->is_home);
}

static void ask(struct ask *a)
{
    assert_ok(egress_send(t.egress, &a->rq));
    await(a);
}

static void ask_done(struct ask *a, enum err want)
{
    if (a->rq.result != want) {
        print_message("%s: %s\n", a->url, a->rq.info.why);
    }
    assert_err(a->rq.result, want);
    if (want != OK) {
        assert_int_equal(a->rq.status, 0);
        assert_true(a->rq.info.why[0] != '\0');
    }
    buf_done(&a->rq.answer);
}

/* --- tests ------------------------------------------------------------------------------------------- */

static void test_methods(void **state UNUSED)
{
    static const struct {
        const char *method, *body, *answer;
    } rows[] = {
        {"GET", "", "GET "},       {"DELETE", "", "DELETE "}, {"POST", "", "POST "},
        {"POST", "hi", "POST hi"}, {"PUT", "hi", "PUT hi"},   {"PUT", "", "PUT "},
        {"PATCH", "x", "PATCH x"}, {"HEAD", "", ""},          {"GET", "", "GET "},
    };
    struct egress_stats s;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ask a;
        ask_http(&a, POOL_MAIN, rows[i].method, "/echo");
        a.rq.body = span_str(rows[i].body);
        ask(&a);
        assert_int_equal(a.rq.status, 200);
        assert_span(buf_span(&a.rq.answer), span_str(rows[i].answer));
        ask_done(&a, OK);
    }
    egress_stats(t.egress, POOL_MAIN, &s);
    assert_int_equal(s.sent, ARRAY_LEN(rows));
    assert_int_equal(s.ok, ARRAY_LEN(rows));
    assert_int_equal(s.failed + s.queued + s.active, 0);
    assert_int_equal(s.connections_made, 1); /* kept alive */
}

static void test_headers(void **state UNUSED)
{
    static const char *const headers[] = {"Authorization: SharedAccessSignature x",
                                          "content-type: application/json"};
    AUTO(buf_done) struct buf body = BUF_INIT(1u << 20);
    memset(buf_reserve(&body, 100000), 'j', 100000); /* large enough for libcurl to expect a 100 */
    body.n = 100000;
    struct ask a;
    ask_http(&a, POOL_MAIN, "POST", "/echo");
    a.rq.headers = headers;
    a.rq.n_headers = 2;
    a.rq.body = buf_span(&body);
    ask(&a);
    ask_done(&a, E_TOO_LARGE); /* it is echoed */
    assert_string_equal(t.auth, "SharedAccessSignature x");
    assert_string_equal(t.type, "application/json");
    assert_string_equal(t.expect, "-");
    ask_http(&a, POOL_MAIN, "POST", "/echo");
    a.rq.body = SPAN_LIT("x");
    ask(&a);
    ask_done(&a, OK);
    assert_string_equal(t.auth, "-"); /* nothing of the request before */
    assert_string_equal(t.type, "-");
}

static void test_statuses(void **state UNUSED)
{
    static const unsigned statuses[] = {204, 301, 302, 307, 308, 401, 404, 429, 500, 503};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        struct ask a;
        char path[32];
        (void)snprintf(path, sizeof(path), "/status/%u", statuses[i]);
        ask_http(&a, POOL_MAIN, "GET", path);
        ask(&a);
        assert_int_equal(a.rq.status, statuses[i]);
        ask_done(&a, OK);
    }
    assert_int_equal(t.targets, 0); /* no redirect was followed */
}

static void test_answer_size(void **state UNUSED)
{
    struct ask a;
    ask_http(&a, POOL_MAIN, "GET", "/bytes/4096");
    ask(&a);
    assert_int_equal(a.rq.answer.n, ANSWER_MAX);
    ask_done(&a, OK);
    ask_http(&a, POOL_MAIN, "GET", "/bytes/4097");
    ask(&a);
    ask_done(&a, E_TOO_LARGE);
    ask_http(&a, POOL_MAIN, "GET", "/bytes/3000000");
    ask(&a);
    ask_done(&a, E_TOO_LARGE);
}

static void test_timeout(void **state UNUSED)
{
    struct ask a;
    ask_http(&a, POOL_MAIN, "GET", "/silence");
    a.rq.timeout_ms = 500;
    ask(&a);
    assert_true(a.rq.was_sent || t.hits == 0);
    ask_done(&a, E_TIMEOUT);
    ask_http(&a, POOL_MAIN, "GET", "/echo"); /* others go on */
    ask(&a);
    assert_true(a.rq.was_sent);
    ask_done(&a, OK);
}

/* Waiting for a connection counts: the pool has two, both hang. */
static void test_timeout_in_queue(void **state UNUSED)
{
    struct ask hang[2], a;
    for (size_t i = 0; i < 2; i++) {
        ask_http(&hang[i], POOL_SMALL, "GET", "/silence");
        assert_ok(egress_send(t.egress, &hang[i].rq));
    }
    STEP_UNTIL(t.loop, t.hits == 2);
    ask_http(&a, POOL_SMALL, "GET", "/echo");
    a.rq.timeout_ms = 50;
    ask(&a);
    ask_done(&a, E_TIMEOUT);
    assert_int_equal(t.hits, 2);
    /* Another pool is not held up. */
    ask_http(&a, POOL_MAIN, "GET", "/echo");
    ask(&a);
    ask_done(&a, OK);
    /* Full: two hang, three wait, one more is refused. */
    struct ask more[4];
    for (size_t i = 0; i < 4; i++) {
        ask_http(&more[i], POOL_SMALL, "GET", "/echo");
        more[i].rq.timeout_ms = 50;
        assert_err(egress_send(t.egress, &more[i].rq), i < 3 ? OK : E_BUSY);
    }
    for (size_t i = 0; i < 3; i++) {
        await(&more[i]);
        assert_false(more[i].rq.was_sent);
        ask_done(&more[i], E_TIMEOUT);
    }
    egress_free(t.egress, 0);
    t.egress = NULL;
    for (size_t i = 0; i < 2; i++) {
        await(&hang[i]);
        assert_true(hang[i].rq.was_sent);
        ask_done(&hang[i], E_DRAINING);
    }
}

static void test_parallel(void **state UNUSED)
{
    struct ask a[5];
    struct egress_stats s;
    for (unsigned round = 0; round < 20; round++) {
        for (size_t i = 0; i < ARRAY_LEN(a); i++) {
            ask_http(&a[i], POOL_SMALL, "POST", "/echo");
            a[i].rq.body = span_str("xxxxxxxx");
            assert_ok(egress_send(t.egress, &a[i].rq));
        }
        for (size_t i = 0; i < ARRAY_LEN(a); i++) {
            await(&a[i]);
            ask_done(&a[i], OK);
        }
    }
    egress_stats(t.egress, POOL_SMALL, &s);
    assert_int_equal(t.hits, 100);
    assert_int_equal(s.active + s.queued, 0);
    assert_true(s.connections_made <= 2);
}

static void test_refusals(void **state UNUSED)
{
    char dead[64], user[96], name[64], loopback6[64];
    (void)snprintf(dead, sizeof(dead), "http://127.0.0.1:%u/", t.dead_port);
    (void)snprintf(user, sizeof(user), "http://u:p@127.0.0.1:%u/echo", t.port);
    (void)snprintf(name, sizeof(name), "http://localhost:%u/echo", t.port);
    (void)snprintf(loopback6, sizeof(loopback6), "http://[::ffff:127.0.0.1]:%u/echo", t.port);
    char plain[64], numeric[64];
    (void)snprintf(plain, sizeof(plain), "http://127.0.0.1:%u/echo", t.port);
    (void)snprintf(numeric, sizeof(numeric), "http://2130706433:%u/echo", t.port);
    const struct {
        const char *name;
        unsigned pool;
        const char *url;
        bool allow_http;
        enum err want;
    } rows[] = {
        {"nobody listens", POOL_MAIN, dead, true, E_NET},
        {"http is not https", POOL_MAIN, plain, false, E_ARG},
        {"file", POOL_MAIN, "file:///etc/passwd", true, E_ARG},
        {"ftp", POOL_MAIN, "ftp://127.0.0.1/", true, E_ARG},
        {"gopher", POOL_MAIN, "gopher://127.0.0.1/", true, E_ARG},
        {"no URL", POOL_MAIN, "nonsense://", true, E_ARG},
        {"credentials in the URL", POOL_MAIN, user, true, E_ARG},
        {"loopback", POOL_PUBLIC, plain, true, E_NET},
        {"loopback by name", POOL_PUBLIC, name, true, E_NET},
        {"loopback as a number", POOL_PUBLIC, numeric, true, E_NET},
        {"loopback mapped", POOL_PUBLIC, loopback6, true, E_NET},
        {"metadata", POOL_PUBLIC, "http://169.254.169.254/latest", true, E_NET},
        {"this host", POOL_MAIN, "http://0.0.0.0:1/", true, E_NET},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ask a;
        ask_init(&a, rows[i].pool, "GET", rows[i].url);
        a.rq.allow_http = rows[i].allow_http;
        ask(&a);
        assert_false(a.rq.was_sent);
        ask_done(&a, rows[i].want);
    }
    assert_int_equal(t.hits, 0);
    struct egress_stats s;
    egress_stats(t.egress, POOL_PUBLIC, &s);
    assert_int_equal(s.connections_made, 0);
    assert_int_equal(s.failed, 5);
}

static void test_no_proxy(void **state UNUSED)
{
    char dead[64];
    struct ask a;
    (void)snprintf(dead, sizeof(dead), "http://127.0.0.1:%u", t.dead_port);
    assert_int_equal(setenv("http_proxy", dead, 1), 0);
    assert_int_equal(setenv("ALL_PROXY", dead, 1), 0);
    assert_int_equal(setenv("https_proxy", dead, 1), 0);
    ask_http(&a, POOL_MAIN, "GET", "/echo");
    ask(&a);
    assert_int_equal(unsetenv("http_proxy"), 0);
    assert_int_equal(unsetenv("ALL_PROXY"), 0);
    assert_int_equal(unsetenv("https_proxy"), 0);
    ask_done(&a, OK);
}

static void test_tls(void **state UNUSED)
{
    struct ask a;
    char url[128];
    struct egress_stats s;
    (void)snprintf(url, sizeof(url), "https://127.0.0.1:%u/echo", t.tls_port);
    for (unsigned i = 0; i < 5; i++) {
        ask_init(&a, POOL_MAIN, "POST", url);
        a.rq.allow_http = false;
        a.rq.body = SPAN_LIT("x");
        ask(&a);
        assert_span(buf_span(&a.rq.answer), SPAN_LIT("POST x"));
        ask_done(&a, OK);
    }
    egress_stats(t.egress, POOL_MAIN, &s);
    assert_int_equal(s.connections_made, 1);
    /* A chain that ends elsewhere; a name that is not in the certificate; no TLS at all. */
    ask_init(&a, POOL_OTHER, "GET", url);
    ask(&a);
    ask_done(&a, E_TLS);
    (void)snprintf(url, sizeof(url), "https://127.0.0.2:%u/echo", t.port);
    ask_init(&a, POOL_MAIN, "GET", url);
    ask(&a);
    assert_true(a.rq.result == E_NET); /* nobody listens on that address */
    buf_done(&a.rq.answer);
    (void)snprintf(url, sizeof(url), "https://127.0.0.1:%u/echo", t.port);
    ask_init(&a, POOL_MAIN, "GET", url);
    ask(&a);
    ask_done(&a, E_TLS);
    assert_int_equal(t.hits, 5);
}

/* The server closes what it kept alive; the next request makes a new connection without an error. */
static void test_server_closes(void **state UNUSED)
{
    struct ask a;
    struct egress_stats s;
    ask_http(&a, POOL_MAIN, "GET", "/echo");
    ask(&a);
    ask_done(&a, OK);
    http_server_drain(t.server);
    for (unsigned i = 0; i < 20; i++) {
        loop_turn(t.loop, 1);
    }
    ask_http(&a, POOL_MAIN, "GET", "/echo"); /* answered with Connection: close */
    ask(&a);
    ask_done(&a, OK);
    ask_http(&a, POOL_MAIN, "GET", "/echo");
    ask(&a);
    ask_done(&a, OK);
    egress_stats(t.egress, POOL_MAIN, &s);
    assert_int_equal(s.connections_made, 3);
}

static void test_drain(void **state UNUSED)
{
    struct ask a[3];
    for (size_t i = 0; i < 3; i++) {
        ask_http(&a[i], POOL_MAIN, "GET", "/silence");
        assert_ok(egress_send(t.egress, &a[i].rq));
    }
    STEP_UNTIL(t.loop, t.hits == 3);
    egress_free(t.egress, 10);
    t.egress = NULL;
    for (size_t i = 0; i < 3; i++) {
        await(&a[i]);
        ask_done(&a[i], E_DRAINING);
    }
}

/* --- addresses ------------------------------------------------------------------------------------------- */

static void test_addresses(void **state UNUSED)
{
    /* p: public, l: local (only where allowed), n: never */
    static const struct {
        const char *text;
        char kind;
    } rows[] = {
        {"8.8.8.8", 'p'},
        {"1.1.1.1", 'p'},
        {"9.255.255.255", 'p'},
        {"11.0.0.0", 'p'},
        {"10.0.0.0", 'l'},
        {"10.255.255.255", 'l'},
        {"100.63.255.255", 'p'},
        {"100.64.0.0", 'l'},
        {"100.127.255.255", 'l'},
        {"100.128.0.0", 'p'},
        {"126.255.255.255", 'p'},
        {"127.0.0.1", 'l'},
        {"127.255.255.254", 'l'},
        {"128.0.0.0", 'p'},
        {"169.253.255.255", 'p'},
        {"169.254.169.254", 'l'},
        {"172.15.255.255", 'p'},
        {"172.16.0.0", 'l'},
        {"172.31.255.255", 'l'},
        {"172.32.0.0", 'p'},
        {"192.0.0.192", 'l'},
        {"192.0.2.1", 'l'},
        {"192.167.255.255", 'p'},
        {"192.168.0.1", 'l'},
        {"198.18.0.1", 'l'},
        {"198.19.255.255", 'l'},
        {"198.20.0.0", 'p'},
        {"198.51.100.7", 'l'},
        {"203.0.113.7", 'l'},
        {"0.0.0.0", 'n'},
        {"0.1.2.3", 'n'},
        {"223.255.255.255", 'p'},
        {"224.0.0.1", 'n'},
        {"239.255.255.250", 'n'},
        {"240.0.0.1", 'n'},
        {"255.255.255.255", 'n'},
        {"2606:4700::1111", 'p'},
        {"2a00:1450::1", 'p'},
        {"::", 'n'},
        {"::1", 'l'},
        {"::2", 'n'},
        {"::127.0.0.1", 'l'},
        {"::8.8.8.8", 'p'},
        {"::ffff:127.0.0.1", 'l'},
        {"::ffff:10.1.2.3", 'l'},
        {"::ffff:0.0.0.0", 'n'},
        {"::ffff:8.8.8.8", 'p'},
        {"::ffff:0:127.0.0.1", 'l'},
        {"64:ff9b::127.0.0.1", 'l'},
        {"64:ff9b::8.8.8.8", 'p'},
        {"64:ff9b:1::8.8.8.8", 'l'},
        {"100::1", 'n'},
        {"2001::1", 'l'},
        {"2001:2::1", 'l'},
        {"2001:db8::1", 'l'},
        {"2002:7f00:1::1", 'l'},
        {"2002:808:808::1", 'p'},
        {"2002:a9fe:a9fe::1", 'l'},
        {"fbff::1", 'p'},
        {"fc00::1", 'l'},
        {"fdff::1", 'l'},
        {"fe80::1", 'l'},
        {"febf::1", 'l'},
        {"fec0::1", 'l'},
        {"ff02::1", 'n'},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sockaddr_storage ss = {0};
        struct sockaddr_in *in = (struct sockaddr_in *)&ss;
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
        if (inet_pton(AF_INET, rows[i].text, &in->sin_addr) == 1) {
            ss.ss_family = AF_INET;
        } else {
            assert_int_equal(inet_pton(AF_INET6, rows[i].text, &in6->sin6_addr), 1);
            ss.ss_family = AF_INET6;
        }
        bool is_public = egress_addr_allowed((struct sockaddr *)&ss, false);
        bool is_local = egress_addr_allowed((struct sockaddr *)&ss, true);
        char got = 'n';
        if (is_local) {
            got = is_public ? 'p' : 'l';
        }
        if (got != rows[i].kind) {
            fail_msg("%s is %c, not %c", rows[i].text, got, rows[i].kind);
        }
    }
    struct sockaddr other = {.sa_family = AF_UNIX};
    assert_false(egress_addr_allowed(&other, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test_setup_teardown(test_methods, setup, teardown),
        cmocka_unit_test_setup_teardown(test_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_statuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timeout_in_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parallel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_proxy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_closes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
