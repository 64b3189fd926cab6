/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners, TLS in both roles, and what may be spent on peers that have not said who they are. */
#include "net/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>

#include "base/limits.h"
#include "net/net_fixture.h"

#define DEADLINE_MS (LIMIT_HANDSHAKE_S * 1000u)

static struct fake_clock fake;
static struct loop *l;
static struct certs certs;
static struct tls_ctx *server_tls;
static struct listener *ls;
static uint16_t port;

/* Connections that the listener opened. */
#define OPENED 64
static struct note opened[OPENED];
static struct conn *opened_conn[OPENED];
static size_t n_opened;

static void on_open(struct conn *c, void *arg)
{
    assert_ptr_equal(arg, &n_opened);
    assert_true(n_opened < OPENED);
    opened_conn[n_opened] = c;
    note_init(&opened[n_opened++], conn_stream(c));
}

static void listen_with(struct tls_ctx *tls, unsigned max, unsigned per_source)
{
    const struct listener_conf conf = {.address = "127.0.0.1",
                                       .tls = tls,
                                       .on_open = on_open,
                                       .arg = &n_opened,
                                       .max_unauthenticated = max,
                                       .max_unauthenticated_per_source = per_source};
    assert_ok(listener_new(l, &conf, &ls, NULL));
    port = listener_port(ls);
    assert_true(port != 0);
}

static int setup(void **state)
{
    (void)state;
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    const struct tls_server_conf conf = {certs.server, certs.server_key};
    assert_ok(tls_server_new(&conf, &server_tls, NULL));
    n_opened = 0;
    ls = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    listener_free(ls);
    for (size_t i = 0; i < n_opened; i++) {
        if (opened[i].closed == 0) {
            stream_abort(opened[i].s, E_CLOSED);
        }
    }
    settle(l);
    fake.ms += 2 * DEADLINE_MS;
    settle(l);
    for (size_t i = 0; i < n_opened; i++) {
        assert_int_equal(opened[i].closed, 1);
        note_done(&opened[i]);
    }
    tls_ctx_unref(server_tls);
    loop_free(l);
    return 0;
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

static struct listener_stats stats(void)
{
    struct listener_stats s;
    listener_stats(ls, &s);
    return s;
}

#define STEP_PEER_UNTIL(p, cond)                                                                   \
    do {                                                                                           \
        for (int steps_ = 0; !(cond); steps_++) {                                                  \
            assert_true(steps_ < 20000);                                                           \
            peer_step(p);                                                                          \
            loop_turn(l, 1);                                                                       \
        }                                                                                          \
    } while (0)

/* --- handshakes ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    int min, max;
    bool with_cert, with_chain;
} handshakes[] = {
    {"1.3, no certificate", TLS1_3_VERSION, TLS1_3_VERSION, false, false},
    {"1.3, certificate", TLS1_3_VERSION, TLS1_3_VERSION, true, false},
    {"1.3, chain", TLS1_3_VERSION, TLS1_3_VERSION, true, true},
    {"1.2, no certificate", TLS1_2_VERSION, TLS1_2_VERSION, false, false},
    {"1.2, certificate", TLS1_2_VERSION, TLS1_2_VERSION, true, false},
    {"1.2, chain", TLS1_2_VERSION, TLS1_2_VERSION, true, true},
};

static struct buf file_der(const char *path)
{
    struct buf b = BUF_INIT(1u << 16);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    (void)fclose(f);
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    assert_true(n > 0);
    buf_add(&b, span_of(der, (size_t)n));
    OPENSSL_free(der);
    X509_free(x);
    return b;
}

static void check_cert(struct conn *c, bool with_cert, bool with_chain)
{
    struct cert_peer got;
    uint8_t sha[CERT_SHA256], want[CERT_SHA256];
    conn_peer_cert(c, &got);
    assert_int_equal(got.n_chain, with_chain ? 1 : 0);
    assert_int_equal(conn_peer_thumbprint(c, sha), with_cert);
    if (with_cert) {
        AUTO(buf_done) struct buf leaf = file_der(certs.device);
        assert_span(got.leaf_der, buf_span(&leaf));
        assert_int_equal(EVP_Digest(leaf.p, leaf.n, want, NULL, EVP_sha256(), NULL), 1);
        assert_memory_equal(sha, want, sizeof(want));
        assert_memory_equal(got.leaf_sha256, want, sizeof(want));
    }
    if (with_chain) {
        AUTO(buf_done) struct buf ca = file_der(certs.ca);
        assert_span(got.chain_der[0], buf_span(&ca));
    }
    conn_forget_peer_cert(c);
    conn_forget_peer_cert(c);
    conn_peer_cert(c, &got);
    assert_int_equal(got.leaf_der.n, 0);
    assert_int_equal(got.n_chain, 0);
    assert_int_equal(conn_peer_thumbprint(c, sha), with_cert); /* that much stays */
    if (with_cert) {
        assert_memory_equal(sha, want, sizeof(want));
    }
}

static void handshake_and_data(size_t row)
{
    struct peer p;
    size_t at = n_opened;
    peer_dial(&p, port);
    peer_tls(&p, handshakes[row].min, handshakes[row].max,
             handshakes[row].with_chain  ? certs.chain
             : handshakes[row].with_cert ? certs.device
                                         : NULL,
             certs.device_key);
    STEP_PEER_UNTIL(&p, p.is_up || p.failed);
    assert_true(p.is_up);
    peer_send(&p, SPAN_LIT("hello"));
    STEP_PEER_UNTIL(&p, n_opened == at + 1 && opened[at].in.n == 5);
    struct conn *c = opened_conn[at];
    assert_true(conn_is_tls(c));
    assert_string_equal(conn_peer_text(c), "127.0.0.1");
    assert_string_equal(conn_local_text(c), "127.0.0.1");
    assert_int_equal(conn_local_port(c), port);
    socklen_t n;
    assert_int_equal(conn_peer_addr(c, &n)->sa_family, AF_INET);
    check_cert(c, handshakes[row].with_cert, handshakes[row].with_chain);
    /* The session must work on after its certificate was given up. */
    opened[at].to_send = 100000;
    note_pump(&opened[at]);
    STEP_PEER_UNTIL(&p, p.in.n == 100000);
    assert_true(is_pattern(buf_span(&p.in)));
    if (handshakes[row].min == TLS1_3_VERSION) { /* keys change on both sides */
        assert_int_equal(SSL_key_update(p.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    }
    peer_send(&p, SPAN_LIT("again"));
    STEP_PEER_UNTIL(&p, opened[at].in.n == 10);
    stream_write(opened[at].s, SPAN_LIT("answer"));
    STEP_PEER_UNTIL(&p, p.in.n == 100006);
    stream_close(opened[at].s);
    STEP_PEER_UNTIL(&p, p.eof);
    assert_false(p.failed); /* close_notify came */
    peer_done(&p);
    STEP_UNTIL(l, opened[at].closed == 1);
    assert_err(opened[at].why, E_CLOSED);
}

static void handshakes_with_and_without_certificate(void **state)
{
    (void)state;
    listen_with(server_tls, 100, 0);
    for (size_t i = 0; i < ARRAY_LEN(handshakes); i++) {
        handshake_and_data(i);
    }
    assert_int_equal(stats().accepted, ARRAY_LEN(handshakes));
    assert_int_equal(stats().handshake_ok, ARRAY_LEN(handshakes));
    settle(l);
    assert_int_equal(stats().open, 0);
    assert_int_equal(stats().unauthenticated, 0);
}

static void expect_refused(struct peer *p)
{
    uint64_t before = stats().handshake_failed;
    STEP_PEER_UNTIL(p, p->eof);
    assert_true(p->failed);
    assert_int_equal(n_opened, 0);
    STEP_UNTIL(l, stats().handshake_failed == before + 1);
    peer_done(p);
    STEP_UNTIL(l, stats().open == 0); /* it lingered for the alert, then saw our end */
}

static void old_versions_and_suites_are_refused(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *suites;
    } rows[] = {
        {TLS1_VERSION, "ALL:@SECLEVEL=0"},
        {TLS1_1_VERSION, "ALL:@SECLEVEL=0"},
        {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"},
        {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM8"},
    };
    listen_with(server_tls, 100, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer p;
        peer_dial(&p, port);
        peer_tls(&p, rows[i].version, rows[i].version, NULL, NULL);
        assert_int_equal(SSL_set_cipher_list(p.ssl, rows[i].suites), 1);
        expect_refused(&p);
    }
}

static void cheap_suite_first(void **state)
{
    (void)state;
    static const struct {
        const char *offered; /* NULL: OpenSSL's own order, AES-256 first */
        const char *want;
    } rows[] = {
        {NULL, "TLS_AES_128_GCM_SHA256"},
        {"TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"},
        {"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"},
    };
    listen_with(server_tls, 100, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer p;
        peer_dial(&p, port);
        peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
        if (rows[i].offered != NULL) {
            assert_int_equal(SSL_set_ciphersuites(p.ssl, rows[i].offered), 1);
        }
        STEP_PEER_UNTIL(&p, p.is_up && n_opened == i + 1);
        assert_string_equal(SSL_get_cipher_name(p.ssl), rows[i].want);
        peer_done(&p);
    }
}

static void oversized_certificates_are_refused(void **state)
{
    (void)state;
    listen_with(server_tls, 100, 0);
    certs_make_big(&certs);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct peer p;
        peer_dial(&p, port);
        peer_tls(&p, version, version, certs.big_key_cert, certs.big_key);
        for (int i = 0; i < 2000 && !p.eof; i++) { /* in 1.3 the client learns of it later */
            peer_step(&p);
            loop_turn(l, 1);
        }
        assert_true(p.failed);
        assert_int_equal(n_opened, 0);
        peer_done(&p);
    }
    assert_int_equal(stats().handshake_failed, 2);
}

static void chain_of_too_many_is_refused(void **state)
{
    (void)state;
    listen_with(server_tls, 100, 0);
    for (unsigned extra = LIMIT_CHAIN_CERTS; extra <= LIMIT_CHAIN_CERTS + 1; extra++) {
        struct peer p;
        peer_dial(&p, port);
        peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, certs.device, certs.device_key);
        FILE *f = fopen(certs.ca, "r");
        X509 *ca = PEM_read_X509(f, NULL, NULL, NULL);
        (void)fclose(f);
        for (unsigned i = 0; i < extra; i++) {
            assert_int_equal(SSL_add1_chain_cert(p.ssl, ca), 1);
        }
        X509_free(ca);
        if (extra == LIMIT_CHAIN_CERTS) {
            STEP_PEER_UNTIL(&p, n_opened == 1);
            struct cert_peer got;
            conn_peer_cert(opened_conn[0], &got);
            assert_int_equal(got.n_chain, LIMIT_CHAIN_CERTS);
        } else {
            STEP_PEER_UNTIL(&p, p.eof);
            assert_true(p.failed);
            assert_int_equal(n_opened, 1);
        }
        peer_done(&p);
    }
}

static void alpn_is_answered_only_for_http(void **state)
{
    (void)state;
    static const struct {
        const char *offer;
        const char *want;
    } rows[] = {{"\x02h2\x08http/1.1", "http/1.1"}, {"\x08http/1.1", "http/1.1"}, {"\x04mqtt", ""}};
    listen_with(server_tls, 100, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer p;
        const unsigned char *got;
        unsigned n;
        peer_dial(&p, port);
        peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
        assert_int_equal(SSL_set_alpn_protos(p.ssl, (const unsigned char *)rows[i].offer,
                                             (unsigned)strlen(rows[i].offer)),
                         0);
        STEP_PEER_UNTIL(&p, p.is_up || p.failed);
        assert_true(p.is_up);
        SSL_get0_alpn_selected(p.ssl, &got, &n);
        assert_span(span_of(got, n), span_str(rows[i].want));
        peer_done(&p);
    }
}

static void no_ticket_and_no_resumption(void **state)
{
    (void)state;
    listen_with(server_tls, 100, 0);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct peer p;
        size_t at = n_opened;
        peer_dial(&p, port);
        peer_tls(&p, version, version, NULL, NULL);
        STEP_PEER_UNTIL(&p, p.is_up && n_opened == at + 1);
        settle(l);
        peer_step(&p);
        assert_int_equal(SSL_SESSION_is_resumable(SSL_get_session(p.ssl)), 0);
        peer_done(&p);
    }
}

static void large_over_tls_both_ways(void **state)
{
    (void)state;
    struct peer p;
    const size_t total = 8u << 20;
    listen_with(server_tls, 100, 0);
    peer_dial(&p, port);
    peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_PEER_UNTIL(&p, n_opened == 1);
    struct note *n = &opened[0];
    n->to_send = total;
    note_pump(n);
    assert_true(n->to_send > 0);
    settle(l);
    assert_true(n->to_send > 0); /* the peer does not read: pressure */
    assert_true(stream_is_full(n->s));
    AUTO(mem_free_p) uint8_t *out = malloc(total);
    assert_non_null(out);
    for (size_t i = 0; i < total; i++) {
        out[i] = (uint8_t)((total - i) * 31u >> 3);
    }
    for (size_t sent = 0; sent < total || n->in.n < total || p.in.n < total;) {
        int rc = sent < total ? SSL_write(p.ssl, out + sent, (int)(total - sent)) : 0;
        sent += rc > 0 ? (size_t)rc : 0;
        peer_step(&p);
        assert_false(p.failed);
        loop_turn(l, 0);
    }
    assert_true(is_pattern(buf_span(&n->in)));
    assert_true(is_pattern(buf_span(&p.in)));
    assert_true(n->sent_max <= LIMIT_CONN_OUT_HIGH + 5000);
    assert_true(n->drained > 0);
    peer_done(&p);
}

/* Records that came with others, or behind the handshake, are not forgotten in OpenSSL. */
static void many_records_in_one_segment(void **state)
{
    (void)state;
    struct peer p;
    listen_with(server_tls, 100, 0);
    peer_dial(&p, port);
    peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    while (!p.is_up) {
        peer_step(&p);
        loop_turn(l, 1);
    }
    for (int i = 0; i < 3000; i++) {
        peer_send(&p, SPAN_LIT("0123456789"));
        if (i == 1500) {
            STEP_UNTIL(l, n_opened == 1);
            stream_pause(opened[0].s, true);
        }
        if (i % 100 == 0) {
            loop_turn(l, 0);
        }
    }
    settle(l);
    size_t before = opened[0].in.n;
    assert_true(before < 30000);
    stream_pause(opened[0].s, false);
    STEP_UNTIL(l, opened[0].in.n == 30000);
    peer_done(&p);
}

static void records_left_in_openssl_come_after_a_pause(void **state)
{
    (void)state;
    struct peer p;
    listen_with(server_tls, 100, 0);
    peer_dial(&p, port);
    peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_PEER_UNTIL(&p, n_opened == 1);
    struct note *n = &opened[0];
    n->pause_at = 1;
    for (int i = 0; i < 5; i++) {
        peer_send(&p, SPAN_LIT("0123456789"));
    }
    STEP_UNTIL(l, n->calls == 1);
    settle(l);
    assert_int_equal(n->in.n, 10); /* the others are decrypted, or at least read from the socket */
    stream_pause(n->s, false);
    STEP_UNTIL(l, n->in.n == 50);
    peer_done(&p);
}

static size_t answer_bytes(struct stream *s, void *arg, struct span in)
{
    (void)arg;
    stream_write(s, SPAN_LIT("answer"));
    return in.n;
}

/* Question and close_notify arrive together: the answer still leaves. */
static void half_closed_peer_gets_its_answer(void **state)
{
    (void)state;
    struct peer p;
    static struct stream_handler h;
    h = note_handler;
    h.on_bytes = answer_bytes;
    listen_with(server_tls, 100, 0);
    peer_dial(&p, port);
    peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_PEER_UNTIL(&p, n_opened == 1);
    stream_handle(opened[0].s, &h, &opened[0]);
    peer_send(&p, SPAN_LIT("question"));
    (void)SSL_shutdown(p.ssl);
    STEP_PEER_UNTIL(&p, p.eof);
    assert_span(buf_span(&p.in), SPAN_LIT("answer"));
    assert_err(opened[0].why, OK);
    peer_done(&p);
}

/* --- N1, N2, N3 ------------------------------------------------------------------------------ */

static void handshake_deadline_is_total(void **state)
{
    (void)state;
    struct peer p;
    listen_with(server_tls, 100, 0);
    peer_dial(&p, port);
    STEP_UNTIL(l, stats().open == 1);
    static const uint8_t hello[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03};
    for (size_t i = 0; i < sizeof(hello); i++) { /* a byte does not renew it */
        peer_send(&p, span_of(&hello[i], 1));
        fake.ms += DEADLINE_MS / 10 - 1;
        settle(l);
        assert_int_equal(stats().open, 1);
    }
    fake.ms += 10;
    settle(l);
    assert_int_equal(stats().open, 0);
    assert_int_equal(stats().handshake_timeout, 1);
    STEP_PEER_UNTIL(&p, p.eof);
    peer_done(&p);
}

static void rubbish_instead_of_tls(void **state)
{
    (void)state;
    struct peer p;
    listen_with(server_tls, 100, 0);
    peer_dial(&p, port);
    AUTO(mem_free_p) char *more = calloc(1, 100000);
    assert_non_null(more);
    peer_send(&p, SPAN_LIT("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    peer_send(&p, span_of(more, 100000));
    STEP_PEER_UNTIL(&p, p.eof);
    assert_false(p.failed); /* an end, not a reset that would overtake an alert */
    assert_int_equal(stats().handshake_failed, 1);
    assert_int_equal(n_opened, 0);
    peer_done(&p);
}

/* A loop that ends takes with it what is in a handshake, and leaves alone what somebody owns. */
static void nobody_is_left_in_a_handshake(void **state)
{
    (void)state;
    struct peer half, good;
    listen_with(server_tls, 10, 0);
    peer_dial(&good, port);
    peer_tls(&good, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_PEER_UNTIL(&good, n_opened == 1);
    peer_dial(&half, port);
    STEP_UNTIL(l, stats().accepted == 2);
    assert_int_equal(stats().open, 2);
    conns_end(l);
    assert_int_equal(stats().open, 1);
    peer_send(&good, SPAN_LIT("still here"));
    STEP_UNTIL(l, opened[0].in.n == 10);
    peer_done(&half);
    peer_done(&good);
}

#define FLOOD 60
static void flood_of_half_open_peers(void **state)
{
    (void)state;
    static struct peer half[FLOOD];
    struct peer good;
    listen_with(server_tls, FLOOD / 2, 0);
    peer_dial(&good, port);
    peer_tls(&good, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_PEER_UNTIL(&good, n_opened == 1);
    conn_mark_authenticated(opened_conn[0]);
    conn_mark_authenticated(opened_conn[0]);
    assert_int_equal(stats().unauthenticated, 0);
    for (int i = 0; i < FLOOD; i++) {
        peer_dial(&half[i], port);
    }
    STEP_UNTIL(l, stats().accepted == FLOOD + 1);
    assert_int_equal(stats().unauthenticated, FLOOD / 2);
    assert_int_equal(stats().waiting, FLOOD / 2);
    assert_int_equal(stats().refused_budget, 0);
    peer_send(&good, SPAN_LIT("still here")); /* who is in goes on */
    STEP_UNTIL(l, opened[0].in.n == 10);
    fake.ms += DEADLINE_MS; /* and who said nothing while it waited does not get in at all */
    STEP_UNTIL(l, stats().open == 1);
    assert_int_equal(stats().unauthenticated + stats().waiting, 0);
    assert_int_equal(stats().handshake_timeout + stats().refused_budget, FLOOD);
    for (int i = 0; i < FLOOD; i++) {
        peer_done(&half[i]);
    }
    struct peer late; /* and there is room again */
    peer_dial(&late, port);
    peer_tls(&late, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_PEER_UNTIL(&late, n_opened == 2);
    peer_done(&late);
    peer_done(&good);
}

/* More handshakes at once than a turn takes: all come through, and the others are served first. */
static void storm_of_handshakes(void **state)
{
    (void)state;
    static struct peer p[40];
    listen_with(server_tls, 100, 0);
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        peer_dial(&p[i], port);
        peer_tls(&p[i], TLS1_3_VERSION, TLS1_3_VERSION, certs.device, certs.device_key);
        peer_step(&p[i]); /* all the first messages are there */
    }
    loop_turn(l, 0);
    uint64_t most = 0, turns = 0;
    while (n_opened < ARRAY_LEN(p)) {
        uint64_t before = stats().handshake_ok;
        for (size_t i = 0; i < ARRAY_LEN(p); i++) {
            if (!p[i].is_up) {
                peer_step(&p[i]);
            }
        }
        loop_turn(l, 1);
        most = MAX(most, stats().handshake_ok - before);
        assert_true(++turns < 20000);
    }
    assert_true(most <= LIMIT_HANDSHAKES_A_TURN);
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        peer_done(&p[i]);
    }
}

/* A deadline that passes while steps are due: nobody takes a step of what has died. */
static void deadline_in_a_storm(void **state)
{
    (void)state;
    static struct peer p[12];
    listen_with(server_tls, 100, 0);
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        peer_dial(&p[i], port);
        peer_tls(&p[i], TLS1_3_VERSION, TLS1_3_VERSION, certs.device, certs.device_key);
    }
    STEP_UNTIL(l, stats().open == ARRAY_LEN(p));
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        peer_step(&p[i]);
    }
    loop_turn(l, 0); /* all are due, few steps are taken */
    fake.ms += DEADLINE_MS;
    settle(l);
    assert_int_equal(stats().open, 0);
    assert_int_equal(stats().handshake_timeout, ARRAY_LEN(p));
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        peer_done(&p[i]);
    }
}

/* --- listeners ------------------------------------------------------------------------------- */

static void queue_is_accepted_before_the_end(void **state)
{
    (void)state;
    struct peer p[3];
    listen_with(NULL, 100, 0);
    for (int i = 0; i < 3; i++) {
        peer_dial(&p[i], port);
    }
    listener_free(ls);
    ls = NULL;
    assert_int_equal(n_opened, 3);
    peer_send(&p[2], SPAN_LIT("in time"));
    STEP_UNTIL(l, opened[0].in.n + opened[1].in.n + opened[2].in.n == 7);
    for (int i = 0; i < 3; i++) {
        peer_done(&p[i]);
    }
    STEP_UNTIL(l, opened[0].closed + opened[1].closed + opened[2].closed == 3);
}

static void handshake_outlives_its_listener(void **state)
{
    (void)state;
    struct peer p;
    listen_with(server_tls, 100, 0);
    peer_dial(&p, port);
    peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_UNTIL(l, stats().open == 1);
    listener_free(ls);
    ls = NULL;
    STEP_PEER_UNTIL(&p, n_opened == 1);
    peer_done(&p);
    STEP_UNTIL(l, opened[0].closed == 1);
}

static void without_descriptors_accepting_pauses(void **state)
{
    (void)state;
    struct peer p;
    struct rlimit old, low;
    listen_with(NULL, 100, 0);
    peer_dial(&p, port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    int next = dup(0);
    (void)close(next);
    low = old;
    low.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    settle(l);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    settle(l);
    assert_int_equal(stats().accepted, 0); /* not even asked */
    fake.ms += LIMIT_ACCEPT_PAUSE_MS;
    STEP_UNTIL(l, n_opened == 1);
    peer_done(&p);
}

static void bad_addresses(void **state)
{
    (void)state;
    struct listener *other = NULL;
    struct err_info info = {0};
    listen_with(NULL, 100, 0);
    struct listener_conf conf = {.address = "127.0.0.1", .port = port, .on_open = on_open};
    assert_err(listener_new(l, &conf, &other, &info), E_IN_USE);
    char want[64];
    (void)snprintf(want, sizeof(want), "127.0.0.1:%u is in use", port);
    assert_string_equal(info.why, want);
    conf.address = "localhost";
    assert_err(listener_new(l, &conf, &other, &info), E_CONFIG);
    conf.address = "192.0.2.1"; /* not ours */
    assert_true(listener_new(l, &conf, &other, &info) != OK);
    assert_null(other);
}

static void reuse_port_shares(void **state)
{
    (void)state;
    struct listener *a, *b;
    struct listener_conf conf = {
        .address = "127.0.0.1", .reuse_port = true, .on_open = on_open, .max_unauthenticated = 1};
    assert_ok(listener_new(l, &conf, &a, NULL));
    conf.port = listener_port(a);
    assert_ok(listener_new(l, &conf, &b, NULL));
    assert_int_equal(listener_port(b), conf.port);
    listener_free(a);
    listener_free(b);
}

static void reload_changes_new_connections_only(void **state)
{
    (void)state;
    struct peer p, q;
    listen_with(server_tls, 100, 0);
    peer_dial(&p, port);
    peer_tls(&p, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_PEER_UNTIL(&p, n_opened == 1);
    struct tls_ctx *next;
    const struct tls_server_conf conf = {certs.device, certs.device_key};
    assert_ok(tls_server_new(&conf, &next, NULL));
    listener_set_tls(ls, next);
    tls_ctx_unref(next);
    tls_ctx_unref(server_tls);
    server_tls = NULL;
    peer_send(&p, SPAN_LIT("old"));
    STEP_PEER_UNTIL(&p, opened[0].in.n == 3);
    peer_dial(&q, port);
    peer_tls(&q, TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL);
    STEP_PEER_UNTIL(&q, n_opened == 2);
    X509 *x = SSL_get0_peer_certificate(q.ssl);
    char cn[64];
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, cn, sizeof(cn));
    assert_string_equal(cn, "device-1");
    peer_done(&p);
    peer_done(&q);
}

static void bad_key_files(void **state)
{
    (void)state;
    struct tls_ctx *t = NULL;
    struct err_info info = {0};
    char open_key[128];
    (void)snprintf(open_key, sizeof(open_key), "%s/open.key", certs.dir);
    FILE *f = fopen(open_key, "w");
    (void)fclose(f);
    assert_int_equal(chmod(open_key, 0644), 0);
    const struct {
        struct tls_server_conf conf;
        enum err want;
    } rows[] = {
        {{"/nonexistent", certs.server_key}, E_CONFIG},
        {{certs.server, "/nonexistent"}, E_CONFIG},
        {{certs.server_key, certs.server_key}, E_CONFIG},
        {{certs.ca, certs.server_key}, E_CONFIG}, /* another key's certificate */
        {{certs.server, open_key}, E_PERM},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_err(tls_server_new(&rows[i].conf, &t, &info), rows[i].want);
        assert_null(t);
        assert_true(info.why[0] != '\0');
    }
    (void)unlink(open_key);
    assert_int_equal(chmod(certs.server_key, 0600), 0);
    int64_t left = tls_ctx_not_after_us(server_tls) / 1000000 - (int64_t)time(NULL);
    assert_true(left > 86400 - 900 && left <= 86400);
}

/* What "openssl ecparam -genkey" and "openssl genrsa -traditional" write; and a key with a password, which nobody is there to type. */
static void formats_of_key_files(void **state)
{
    (void)state;
    char path[128];
    struct tls_ctx *t = NULL;
    (void)snprintf(path, sizeof(path), "%s/other.key", certs.dir);
    FILE *in = fopen(certs.server_key, "r");
    EVP_PKEY *k = PEM_read_PrivateKey(in, NULL, NULL, NULL);
    (void)fclose(in);
    assert_non_null(k);
    for (int locked = 0; locked < 2; locked++) {
        BIO *out = BIO_new_file(path, "w");
        assert_int_equal(
            locked ? PEM_write_bio_PKCS8PrivateKey(out, k, EVP_aes_128_cbc(), "x", 1, NULL, NULL)
                   : PEM_write_bio_PrivateKey_traditional(out, k, NULL, NULL, 0, NULL, NULL),
            1);
        BIO_free(out);
        assert_int_equal(chmod(path, 0600), 0);
        const struct tls_server_conf conf = {certs.server, path};
        assert_err(tls_server_new(&conf, &t, NULL), locked ? E_CONFIG : OK);
        assert_int_equal(unlink(path), 0);
    }
    tls_ctx_unref(t);
    EVP_PKEY_free(k);
}

/* --- clients --------------------------------------------------------------------------------- */

static struct note client;
static struct conn *client_conn;
static int client_done;
static enum err client_why;
static char client_text[320];

static void on_connected(struct conn *c, void *arg, enum err why, const struct err_info *info)
{
    assert_ptr_equal(arg, &client);
    client_done++;
    client_why = why;
    client_conn = c;
    if (c != NULL) {
        note_init(&client, conn_stream(c));
    } else {
        (void)snprintf(client_text, sizeof(client_text), "%s", err_why(info, why));
    }
}

static void dial(const char *host, uint16_t to, struct tls_ctx *tls)
{
    struct conn *c = NULL;
    client_done = 0;
    client_conn = NULL;
    client_text[0] = '\0';
    assert_ok(conn_connect(l, &(struct conn_target){host, to, tls, 5000, NULL}, on_connected,
                           &client, &c, NULL));
    assert_int_equal(client_done, 0);
    assert_non_null(c);
}

static struct tls_ctx *client_tls(const char *ca, const char *cert, const char *key)
{
    struct tls_ctx *t;
    const struct tls_client_conf conf = {ca, cert, key};
    assert_ok(tls_client_new(&conf, &t, NULL));
    return t;
}

static void client_talks(void **state)
{
    (void)state;
    listen_with(server_tls, 100, 0);
    struct tls_ctx *t = client_tls(certs.ca, certs.device, certs.device_key);
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        dial(hosts[i], port, t);
        STEP_UNTIL(l, client_done == 1 && n_opened == i + 1);
        assert_err(client_why, OK);
        uint8_t sha[CERT_SHA256];
        assert_true(conn_peer_thumbprint(opened_conn[i], sha));
        stream_write(client.s, SPAN_LIT("question"));
        STEP_UNTIL(l, opened[i].in.n == 8);
        stream_write(opened[i].s, SPAN_LIT("answer"));
        STEP_UNTIL(l, client.in.n == 6);
        stream_close(client.s);
        STEP_UNTIL(l, client.closed == 1 && opened[i].closed == 1);
        assert_err(opened[i].why, OK);
        note_done(&client);
    }
    tls_ctx_unref(t);
}

static void client_refuses_servers(void **state)
{
    (void)state;
    listen_with(server_tls, 100, 0);
    struct tls_ctx *wrong_ca = client_tls(certs.other_ca, NULL, NULL);
    dial("127.0.0.1", port, wrong_ca);
    STEP_UNTIL(l, client_done == 1);
    assert_null(client_conn);
    assert_err(client_why, E_TLS);
    assert_non_null(strstr(client_text, "certificate"));
    tls_ctx_unref(wrong_ca);
    struct tls_ctx *t = client_tls(certs.ca, NULL, NULL);
    listener_free(ls);
    const struct listener_conf conf = {.address = "127.0.0.2",
                                       .tls = server_tls,
                                       .on_open = on_open,
                                       .arg = &n_opened,
                                       .max_unauthenticated = 5};
    assert_ok(listener_new(l, &conf, &ls, NULL));
    dial("127.0.0.2", listener_port(ls), t); /* the certificate names 127.0.0.1 */
    STEP_UNTIL(l, client_done == 1);
    assert_err(client_why, E_TLS);
    assert_non_null(strstr(client_text, "IP address mismatch"));
    struct tls_ctx *nameless;
    const struct tls_server_conf device = {certs.device, certs.device_key};
    assert_ok(tls_server_new(&device, &nameless, NULL));
    listener_free(ls);
    listen_with(nameless, 100, 0);
    tls_ctx_unref(nameless);
    dial("localhost", port, t); /* the certificate carries no name */
    STEP_UNTIL(l, client_done == 1);
    assert_err(client_why, E_TLS);
    assert_non_null(strstr(client_text, "hostname mismatch"));
    assert_int_equal(n_opened, 0);
    tls_ctx_unref(t);
}

static void client_cannot_connect(void **state)
{
    (void)state;
    struct conn *c = NULL;
    struct err_info info = {0};
    listen_with(NULL, 100, 0);
    uint16_t old = port;
    listener_free(ls);
    ls = NULL;
    enum err e = conn_connect(l, &(struct conn_target){"127.0.0.1", old, NULL, 1000, NULL},
                              on_connected, &client, &c, &info);
    client_done = 0;
    if (e == OK) { /* the kernel may say so at once, or later */
        STEP_UNTIL(l, client_done == 1);
        assert_null(client_conn);
        e = client_why;
    }
    assert_err(e, E_NET);
}

static void client_waits_bounded(void **state)
{
    (void)state;
    listen_with(NULL, 100, 0); /* plain: never answers a ClientHello */
    struct tls_ctx *t = client_tls(certs.ca, NULL, NULL);
    dial("127.0.0.1", port, t);
    STEP_UNTIL(l, n_opened == 1);
    fake.ms += 4999;
    settle(l);
    assert_int_equal(client_done, 0);
    fake.ms += 1;
    settle(l);
    assert_int_equal(client_done, 1);
    assert_err(client_why, E_TIMEOUT);
    tls_ctx_unref(t);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(handshakes_with_and_without_certificate),
        T(old_versions_and_suites_are_refused),
        T(cheap_suite_first),
        T(oversized_certificates_are_refused),
        T(chain_of_too_many_is_refused),
        T(alpn_is_answered_only_for_http),
        T(no_ticket_and_no_resumption),
        T(large_over_tls_both_ways),
        T(many_records_in_one_segment),
        T(records_left_in_openssl_come_after_a_pause),
        T(half_closed_peer_gets_its_answer),
        T(handshake_deadline_is_total),
        T(rubbish_instead_of_tls),
        T(nobody_is_left_in_a_handshake),
        T(flood_of_half_open_peers),
        T(storm_of_handshakes),
        T(deadline_in_a_storm),
        T(queue_is_accepted_before_the_end),
        T(handshake_outlives_its_listener),
        T(without_descriptors_accepting_pauses),
        T(bad_addresses),
        T(reuse_port_shares),
        T(reload_changes_new_connections_only),
        T(bad_key_files),
        T(formats_of_key_files),
        T(client_talks),
        T(client_refuses_servers),
        T(client_cannot_connect),
        T(client_waits_bounded),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
