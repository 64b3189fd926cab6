/* SPDX-License-Identifier: Apache-2.0 */
/* Through a proxy: what is asked of it, what its answers lead to, and that TLS is with the server behind it. */
#include <stdio.h>

#include "base/limits.h"
#include "net/net_fixture.h"
#include "net/proxy.h"

#define TIME_MS 5000u

static struct fake_clock fake;
static struct loop *l;
static struct certs certs;
static struct tls_ctx *server_tls, *client_tls;
static struct listener *server_ls, *proxy_ls;

/* --- the server, the proxy between, the client --------------------------------------------------- */

static struct note served, client;
static struct {
    struct note in, out; /* from the client; to the server, once it is joined */
    bool is_joined;
    char peer[64]; /* how errors name it */
} px;
static struct conn *dialed, *client_conn;
static int client_done;
static enum err client_why;
static char client_text[320];

static void on_served(struct conn *c, void *arg)
{
    (void)arg;
    note_init(&served, conn_stream(c));
}

static size_t pass_on(struct stream *s, void *arg, struct span in)
{
    (void)arg;
    stream_write(s == px.in.s ? px.out.s : px.in.s, in);
    return in.n;
}

static void pass_end(struct stream *s, void *arg, enum err why)
{
    struct note *n = arg, *other = n == &px.in ? &px.out : &px.in;
    (void)s;
    (void)why;
    n->closed = 1;
    if (other->closed == 0) {
        stream_close(other->s);
    }
}

static const struct stream_handler passer = {
    .name = "passer", .on_bytes = pass_on, .on_close = pass_end};

static void on_proxy(struct conn *c, void *arg)
{
    (void)arg;
    note_init(&px.in, conn_stream(c));
}

static void on_joined(struct conn *c, void *arg, enum err why, const struct err_info *info)
{
    (void)arg;
    (void)info;
    assert_ok(why);
    px.out = (struct note){.s = conn_stream(c)};
    stream_handle(px.out.s, &passer, &px.out);
    stream_handle(px.in.s, &passer, &px.in);
    px.is_joined = true;
}

static void on_client(struct conn *c, void *arg, enum err why, const struct err_info *info)
{
    (void)arg;
    client_done++;
    client_why = why;
    client_conn = c;
    if (c != NULL) {
        note_init(&client, conn_stream(c));
    } else {
        (void)snprintf(client_text, sizeof(client_text), "%s", err_why(info, why));
    }
}

static struct listener *listen_with(struct tls_ctx *tls, conn_open_fn on_open)
{
    const struct listener_conf conf = {
        .address = "127.0.0.1", .tls = tls, .on_open = on_open, .max_unauthenticated = 10};
    struct listener *ls;
    assert_ok(listener_new(l, &conf, &ls, NULL));
    return ls;
}

static int setup(void **state)
{
    (void)state;
    const struct tls_server_conf sc = {certs.server, certs.server_key};
    const struct tls_client_conf cc = {certs.ca, NULL, NULL};
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    assert_ok(tls_server_new(&sc, &server_tls, NULL));
    assert_ok(tls_client_new(&cc, &client_tls, NULL));
    server_ls = listen_with(server_tls, on_served);
    proxy_ls = listen_with(NULL, on_proxy);
    (void)snprintf(px.peer, sizeof(px.peer), "proxy 127.0.0.1:%u", listener_port(proxy_ls));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (server_ls != NULL) {
        listener_free(server_ls);
    }
    if (proxy_ls != NULL) {
        listener_free(proxy_ls);
    }
    settle(l);
    fake.ms += 60000;
    settle(l);
    conns_end(l);
    tls_ctx_unref(server_tls);
    tls_ctx_unref(client_tls);
    loop_free(l);
    return 0;
}

/* credential: as in a URL, "": none */
static void dial(const char *host, const char *credential)
{
    AUTO(proxy_done) struct proxy p = {.port = 0};
    char url[128];
    (void)snprintf(url, sizeof(url), "http://%s%s127.0.0.1:%u", credential,
                   credential[0] != '\0' ? "@" : "", listener_port(proxy_ls));
    assert_ok(proxy_set(&p, span_str(url), NULL, NULL));
    const struct conn_target to = {host, 8443, client_tls, TIME_MS, &p};
    client_done = 0;
    client_conn = NULL;
    client_text[0] = '\0';
    px.in = (struct note){.s = NULL};
    px.is_joined = false;
    served = (struct note){.s = NULL};
    assert_ok(conn_connect(l, &to, on_client, NULL, &dialed, NULL));
    assert_int_equal(client_done, 0);
}

static void dial_and_ask(const char *host, const char *credential)
{
    dial(host, credential);
    STEP_UNTIL(l, px.in.s != NULL && span_ends(buf_span(&px.in.in), SPAN_LIT("\r\n\r\n")));
}

static void join(void)
{
    struct conn *c;
    const struct conn_target to = {"127.0.0.1", listener_port(server_ls), NULL, TIME_MS, NULL};
    assert_ok(conn_connect(l, &to, on_joined, NULL, &c, NULL));
    STEP_UNTIL(l, px.is_joined);
}

static void end_client(void)
{
    stream_close(client.s);
    STEP_UNTIL(l, client.closed == 1 && served.closed == 1 && px.in.closed == 1);
    note_done(&client);
    note_done(&served);
}

/* --- what goes well -------------------------------------------------------------------------------- */

/* The server speaks first when it has the last byte of the handshake: nothing may be lost. */
static void talk(void)
{
    STEP_UNTIL(l, client_done == 1 && served.s != NULL);
    assert_err(client_why, OK);
    stream_write(served.s, SPAN_LIT("answer"));
    STEP_UNTIL(l, client.in.n == 6);
    stream_write(client.s, SPAN_LIT("question"));
    STEP_UNTIL(l, served.in.n == 8);
    end_client();
}

static void through(void **state)
{
    (void)state;
    static const struct {
        const char *credential, *line; /* of the request */
        const char *answer;
        size_t piece;
    } rows[] = {
        {"", "CONNECT localhost:8443 HTTP/1.1\r\nHost: localhost:8443\r\n",
         "HTTP/1.1 200 Connection established\r\n\r\n", 1000},
        {"me:my%20word", "\r\nProxy-Authorization: Basic bWU6bXkgd29yZA==\r\n",
         "HTTP/1.0 200\r\nProxy-Agent: x\r\nContent-Length: 7\r\n\r\n", 1000},
        {"", "CONNECT ", "HTTP/1.1 204 by bytes\r\n\r\n", 1},
        {"", "CONNECT ",
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.1 200 \r\n\r\n", 1000},
        {"", "CONNECT ", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\n\r\n", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        dial_and_ask("localhost", rows[i].credential);
        assert_true(buf_err(&px.in.in) == OK);
        buf_add_u8(&px.in.in, 0);
        assert_non_null(strstr((const char *)px.in.in.p, rows[i].line));
        assert_true((strstr((const char *)px.in.in.p, "Authorization") != NULL) ==
                    (rows[i].credential[0] != '\0'));
        buf_done(&px.in.in);
        join();
        for (struct span a = span_str(rows[i].answer); a.n > 0; a = span_from(a, rows[i].piece)) {
            stream_write(px.in.s, span_sub(a, 0, rows[i].piece));
            loop_turn(l, 0);
            loop_turn(l, 0);
        }
        talk();
    }
}

/* The name is one that nobody resolves: it went to the proxy as it stands. And the certificate must carry it, whatever the proxy says. */
static void end_to_end(void **state)
{
    (void)state;
    dial_and_ask("hub.invalid", "");
    assert_true(
        span_starts(buf_span(&px.in.in), SPAN_LIT("CONNECT hub.invalid:8443 HTTP/1.1\r\n")));
    note_done(&px.in);
    join();
    stream_write(px.in.s, SPAN_LIT("HTTP/1.1 200 OK\r\n\r\n"));
    STEP_UNTIL(l, client_done == 1);
    assert_err(client_why, E_TLS);
    assert_non_null(strstr(client_text, "hostname mismatch"));
    STEP_UNTIL(l, px.in.closed == 1);
}

/* --- what does not ------------------------------------------------------------------------------------ */

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *credential, *answer;
        bool closes; /* behind the answer */
        enum err want;
        const char *text;
    } rows[] = {
        /* clang-format off */
        { "",           "HTTP/1.1 403 Filtered\r\nContent-Length: 5\r\n\r\nhello", false, E_NET, "refuses the way to localhost (HTTP status 403)" },
        { "",           "HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n", false, E_NET, "wants a user and a password" },
        { "me:my-word", "HTTP/1.1 407 X\r\nproxy-authenticate: Negotiate\r\nPROXY-AUTHENTICATE: basic\r\n\r\n", false, E_NET, "refuses the user or the password" },
        { "me:my-word", "HTTP/1.0 401 Unauthorized\r\n\r\n", false, E_NET, "refuses the user or the password (HTTP status 401)" },
        { "me:my-word", "HTTP/1.1 407 X\r\nProxy-Authenticate: NTLM\r\n\r\n", false, E_NET, "not Basic" },
        { "",           "HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 502 X\r\n\r\n", false, E_NET, "502" },
        { "",           "HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", false, E_NET, "302" },
        { "",           "SSH-2.0-OpenSSH_9.2\r\n\r\n", false, E_MALFORMED, "gives no HTTP answer" },
        { "",           "HTTP/1.1 200 OK\n\n", false, E_MALFORMED, "gives no HTTP answer" },
        { "",           "\r\n\r\n", false, E_MALFORMED, "gives no HTTP answer" },
        { "",           "HTTP/1.1 200 OK\r\n\r\n\x15\x03\x03", false, E_MALFORMED, "nobody asked for" },
        { "",           "", true, E_NET, "closed the connection before its answer" },
        { "",           "HTTP/1.1 200 OK\r\nA: b", true, E_NET, "closed the connection before its answer" },
        { "",           "HTTP/1.1 100 Continue\r\n\r\n", true, E_NET, "closed the connection before its answer" },
        /* clang-format on */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        print_message("%s\n", rows[i].answer);
        dial_and_ask("localhost", rows[i].credential);
        stream_write(px.in.s, span_str(rows[i].answer));
        if (rows[i].closes) {
            stream_close(px.in.s);
        }
        STEP_UNTIL(l, client_done == 1);
        assert_null(client_conn);
        assert_err(client_why, rows[i].want);
        assert_non_null(strstr(client_text, px.peer));
        assert_non_null(strstr(client_text, rows[i].text));
        assert_null(strstr(client_text, "my-word"));
        STEP_UNTIL(l, px.in.closed == 1);
        note_done(&px.in);
    }
}

/* A head without end, in one answer or in many that say nothing: bounded. */
static void floods(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"HTTP/1.1 200 OK\r\n", "X: 0123456789012345678901234567890123456789\r\n"},
        {"HTTP/1.1 200 OK\r\nX: ", "0123456789012345678901234567890123456789"},
        {"", "HTTP/1.1 100 Continue\r\n\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(buf_done) struct buf b = BUF_INIT(1 << 20);
        buf_add_str(&b, rows[i][0]);
        while (b.n < 2 * LIMIT_HTTP_HEAD) {
            buf_add_str(&b, rows[i][1]);
        }
        dial_and_ask("localhost", "");
        stream_write(px.in.s, buf_span(&b));
        STEP_UNTIL(l, client_done == 1);
        assert_err(client_why, E_TOO_LARGE);
        STEP_UNTIL(l, px.in.closed == 1);
        note_done(&px.in);
    }
}

static void silence(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        dial_and_ask("localhost", "");
        if (i == 1) {
            stream_write(px.in.s, SPAN_LIT("HTTP/1.1 200 "));
            settle(l);
        }
        fake.ms += TIME_MS - 1;
        settle(l);
        assert_int_equal(client_done, 0);
        fake.ms += 1;
        STEP_UNTIL(l, client_done == 1);
        assert_err(client_why, E_TIMEOUT);
        assert_non_null(strstr(client_text, px.peer));
        STEP_UNTIL(l, px.in.closed == 1);
        note_done(&px.in);
    }
}

static void given_up(void **state)
{
    (void)state;
    dial_and_ask("localhost", "");
    stream_close(conn_stream(dialed));
    STEP_UNTIL(l, client_done == 1 && px.in.closed == 1);
    assert_err(client_why, E_CLOSED);
    note_done(&px.in);
}

static void not_there(void **state)
{
    (void)state;
    struct proxy p = {.host = "127.0.0.1", .port = listener_port(proxy_ls)};
    struct err_info info = {0};
    struct conn *c;
    listener_free(proxy_ls);
    proxy_ls = NULL;
    struct conn_target to = {"localhost", 8443, client_tls, TIME_MS, &p};
    client_done = 0;
    enum err e = conn_connect(l, &to, on_client, NULL, &c, &info);
    if (e == OK) {
        STEP_UNTIL(l, client_done == 1);
        e = client_why;
        info = (struct err_info){.err = e};
        (void)snprintf(info.why, sizeof(info.why), "%s", client_text);
    }
    assert_err(e, E_NET);
    assert_non_null(strstr(info.why, px.peer));
    /* a name that comes from a server never becomes a line of the request */
    to.host = "h\r\nX: y";
    assert_err(conn_connect(l, &to, on_client, NULL, &c, &info), E_ARG);
}

static void choices(void **state)
{
    (void)state;
    AUTO(proxy_done) struct proxy p = {.port = 0};
    AUTO(proxy_done) struct proxy q = {.port = 0};
    char url[SECRET_MAX + 64];
    assert_null(proxy_for(NULL, "h"));
    assert_null(proxy_for(&p, "h"));
    assert_ok(proxy_set(&p, SPAN_LIT("http://u:p%41@[::1]:3128"), ".example,10.0.0.0/8", NULL));
    assert_string_equal(p.host, "::1");
    assert_span(secret_span(&p.credential), SPAN_LIT("u:pA"));
    assert_ok(proxy_copy(&q, &p));
    assert_ptr_equal(proxy_for(&q, "hub.other"), &q);
    assert_null(proxy_for(&q, "hub.example"));
    assert_null(proxy_for(&q, "10.1.2.3"));
    assert_int_equal(q.port, 3128);
    assert_span(secret_span(&q.credential), SPAN_LIT("u:pA"));
    for (int over = 0; over < 2; over++) {
        (void)snprintf(url, sizeof(url), "http://u:%0*d@h", (int)(SECRET_MAX - 2u) + over, 7);
        assert_err(proxy_set(&p, span_str(url), NULL, NULL), over ? E_TOO_LARGE : OK);
    }
    assert_int_equal(p.host[0], 0); /* a failure leaves none */
    assert_err(proxy_set(&p, SPAN_LIT("http://u:%zz@h"), NULL, NULL), E_CONFIG);
    assert_err(proxy_set(&p, SPAN_LIT("http://u:%00@h"), NULL, NULL), E_CONFIG);
}

static int make_certs(void **state)
{
    (void)state;
    certs_make(&certs);
    return 0;
}

static int remove_certs(void **state)
{
    (void)state;
    certs_remove(&certs);
    return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(through), T(end_to_end), T(refusals),  T(floods),
        T(silence), T(given_up),   T(not_there), cmocka_unit_test(choices),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
