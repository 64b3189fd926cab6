/* SPDX-License-Identifier: Apache-2.0 */
#include "net/net_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* --- clock ---------------------------------------------------------------------------------- */

static int64_t fake_wall(void *arg)
{
    const struct fake_clock *f = arg;
    return (int64_t)f->ms * 1000;
}

static uint64_t fake_mono(void *arg)
{
    const struct fake_clock *f = arg;
    return f->ms;
}

void fake_clock_init(struct fake_clock *f)
{
    f->clock = (struct clock){.wall_us = fake_wall, .mono_ms = fake_mono, .arg = f};
    f->ms = 1000;
}

void settle(struct loop *l)
{
    for (int i = 0; i < 20; i++) {
        loop_turn(l, 0);
    }
}

/* --- certificates --------------------------------------------------------------------------- */

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(x, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

static X509 *make_cert(const char *cn, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key,
                       bool is_ca, const char *san)
{
    static long serial = 1;
    X509 *x = X509_new();
    assert_non_null(x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer != NULL ? issuer : x));
    X509_set_pubkey(x, key);
    add_ext(x, issuer != NULL ? issuer : x, NID_basic_constraints,
            is_ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (san != NULL) {
        add_ext(x, issuer, NID_subject_alt_name, san);
    }
    assert_true(X509_sign(x, issuer_key, EVP_sha256()) > 0);
    return x;
}

static void write_cert(const char *path, X509 *a, X509 *b)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, a), 1);
    if (b != NULL) {
        assert_int_equal(PEM_write_X509(f, b), 1);
    }
    assert_int_equal(fclose(f), 0);
}

static void write_key(const char *path, EVP_PKEY *key)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static void path_in(const struct certs *c, char dst[96], const char *name)
{
    (void)snprintf(dst, 96, "%s/%s", c->dir, name);
}

void certs_make(struct certs *c)
{
    memset(c, 0, sizeof(*c));
    (void)snprintf(c->dir, sizeof(c->dir), "/tmp/berth-net-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    path_in(c, c->ca, "ca.pem");
    path_in(c, c->other_ca, "other.pem");
    path_in(c, c->server, "server.pem");
    path_in(c, c->server_key, "server.key");
    path_in(c, c->device, "device.pem");
    path_in(c, c->device_key, "device.key");
    path_in(c, c->chain, "chain.pem");
    EVP_PKEY *ca_key = EVP_EC_gen("P-256");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *ca = make_cert("test ca", ca_key, NULL, ca_key, true, NULL);
    X509 *other = make_cert("other ca", key, NULL, key, true, NULL);
    X509 *server = make_cert("server", key, ca, ca_key, false, "IP:127.0.0.1,DNS:localhost");
    X509 *device = make_cert("device-1", key, ca, ca_key, false, NULL);
    write_cert(c->ca, ca, NULL);
    write_cert(c->other_ca, other, NULL);
    write_cert(c->server, server, NULL);
    write_cert(c->device, device, NULL);
    write_cert(c->chain, device, ca);
    write_key(c->server_key, key);
    write_key(c->device_key, key);
    X509_free(ca);
    X509_free(other);
    X509_free(server);
    X509_free(device);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
}

void certs_make_big(struct certs *c)
{
    path_in(c, c->big_key_cert, "big.pem");
    path_in(c, c->big_key, "big.key");
    EVP_PKEY *key = EVP_RSA_gen(LIMIT_RSA_BITS_MAX + 8);
    assert_non_null(key);
    X509 *x = make_cert("big", key, NULL, key, false, NULL);
    write_cert(c->big_key_cert, x, NULL);
    write_key(c->big_key, key);
    X509_free(x);
    EVP_PKEY_free(key);
}

void certs_remove(struct certs *c)
{
    const char *all[] = {c->ca,    c->server,       c->server_key, c->device,  c->device_key,
                         c->chain, c->big_key_cert, c->big_key,    c->other_ca};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i][0] != '\0') {
            (void)unlink(all[i]);
        }
    }
    (void)rmdir(c->dir);
}

/* --- notes ----------------------------------------------------------------------------------- */

static size_t note_bytes(struct stream *s, void *arg, struct span in)
{
    struct note *n = arg;
    assert_ptr_equal(s, n->s);
    n->calls++;
    if (n->calls == n->pause_at) {
        stream_pause(s, true);
    }
    size_t used = MIN(in.n, n->eat);
    buf_add(&n->in, span_sub(in, 0, used));
    assert_ok(buf_err(&n->in));
    return used;
}

static void note_drained(struct stream *s, void *arg)
{
    struct note *n = arg;
    assert_ptr_equal(s, n->s);
    n->drained++;
    note_pump(n);
}

static void note_closed(struct stream *s, void *arg, enum err why)
{
    struct note *n = arg;
    assert_ptr_equal(s, n->s);
    assert_false(n->in_call);
    n->closed++;
    n->why = why;
}

const struct stream_handler note_handler = {
    .name = "note",
    .on_bytes = note_bytes,
    .on_drained = note_drained,
    .on_close = note_closed,
};

static void note_ended(struct stream *s, void *arg)
{
    struct note *n = arg;
    assert_ptr_equal(s, n->s);
    n->ended++;
}

const struct stream_handler note_ends_handler = {
    .name = "note",
    .on_bytes = note_bytes,
    .on_drained = note_drained,
    .on_close = note_closed,
    .on_end = note_ended,
};

void note_init(struct note *n, struct stream *s)
{
    *n = (struct note){.s = s, .in = BUF_INIT(64u << 20), .eat = SIZE_MAX};
    stream_handle(s, &note_handler, n);
}

void note_done(struct note *n)
{
    buf_done(&n->in);
}

void note_pump(struct note *n)
{
    uint8_t chunk[5000];
    while (n->to_send > 0 && !stream_is_full(n->s)) {
        size_t k = MIN(n->to_send, sizeof(chunk));
        /* The pattern's place follows from what is left, so the receiver can check it. */
        for (size_t i = 0; i < k; i++) {
            chunk[i] = (uint8_t)((n->to_send - i) * 31u >> 3);
        }
        n->in_call = true;
        stream_write(n->s, span_of(chunk, k));
        n->in_call = false;
        n->to_send -= k;
        n->sent_max = MAX(n->sent_max, stream_pending(n->s));
    }
}

bool is_pattern(struct span b)
{
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] != (uint8_t)((b.n - i) * 31u >> 3)) {
            return false;
        }
    }
    return true;
}

void pair_make(struct loop *l, struct pair *p)
{
    int fd[2];
    struct conn *a, *b;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_ok(conn_adopt(l, fd[0], NULL, true, NULL, NULL, &a));
    assert_ok(conn_adopt(l, fd[1], NULL, false, NULL, NULL, &b));
    note_init(&p->a, conn_stream(a));
    note_init(&p->b, conn_stream(b));
}

/* --- bare peers ------------------------------------------------------------------------------ */

void peer_dial_from(struct peer *p, uint16_t port, const char *from)
{
    *p = (struct peer){.in = BUF_INIT(64u << 20)};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->fd >= 0);
    struct sockaddr_in own = {.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, from, &own.sin_addr), 1);
    assert_int_equal(bind(p->fd, (struct sockaddr *)&own, sizeof(own)), 0);
    const int small = 64 << 10; /* so that back-pressure shows before the kernel has taken all */
    assert_int_equal(setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    assert_int_equal(connect(p->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(fcntl(p->fd, F_SETFL, O_NONBLOCK), 0);
}

void peer_dial(struct peer *p, uint16_t port)
{
    peer_dial_from(p, port, "127.0.0.1");
}

void peer_tls(struct peer *p, int min, int max, const char *cert, const char *key)
{
    p->ctx = SSL_CTX_new(TLS_client_method());
    assert_non_null(p->ctx);
    SSL_CTX_set_security_level(p->ctx, 0); /* or the client would not even offer the old versions */
    assert_int_equal(SSL_CTX_set_min_proto_version(p->ctx, min), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(p->ctx, max), 1);
    SSL_CTX_set_mode(p->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (cert != NULL) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(p->ctx, cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(p->ctx, key, SSL_FILETYPE_PEM), 1);
    }
    p->ssl = SSL_new(p->ctx);
    assert_non_null(p->ssl);
    assert_int_equal(SSL_set_fd(p->ssl, p->fd), 1);
    SSL_set_connect_state(p->ssl);
}

static void peer_result(struct peer *p, int rc)
{
    int e = SSL_get_error(p->ssl, rc);
    if (e == SSL_ERROR_ZERO_RETURN) {
        p->eof = true;
    } else if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) {
        p->failed = true;
        p->eof = true;
    }
}

void peer_step(struct peer *p)
{
    uint8_t b[16384];
    if (p->eof) {
        return;
    }
    if (p->ssl == NULL) {
        ssize_t n = recv(p->fd, b, sizeof(b), MSG_DONTWAIT);
        if (n > 0) {
            buf_add(&p->in, span_of(b, (size_t)n));
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            p->failed = n != 0;
            p->eof = true;
        }
        return;
    }
    ERR_clear_error();
    if (!p->is_up) {
        int rc = SSL_do_handshake(p->ssl);
        p->is_up = rc == 1;
        if (!p->is_up) {
            peer_result(p, rc);
        }
        return;
    }
    int rc = SSL_read(p->ssl, b, (int)sizeof(b));
    if (rc > 0) {
        buf_add(&p->in, span_of(b, (size_t)rc));
    } else {
        peer_result(p, rc);
    }
}

void peer_send(struct peer *p, struct span b)
{
    if (p->ssl == NULL) {
        assert_int_equal(send(p->fd, b.p, b.n, MSG_NOSIGNAL), b.n);
        return;
    }
    ERR_clear_error();
    assert_int_equal(SSL_write(p->ssl, b.p, (int)b.n), b.n);
}

void peer_done(struct peer *p)
{
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    (void)close(p->fd);
    buf_done(&p->in);
}
