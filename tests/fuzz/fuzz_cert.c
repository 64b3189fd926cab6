/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates, requests and chains as a peer or an upload may send them. The same bytes are taken
 * as one certificate, one request, a text of either, and a list of certificates (16-bit length
 * each): what is trusted, the leaf, what was presented behind it.
 */
#include "tests/fuzz/fuzz.h"

#include <openssl/err.h>

#include "base/crypto_lib.h"
#include "base/rd.h"
#include "certs/chain_cache.h"
#include "certs/leaf.h"
#include "certs/proof.h"
#include "certs/signer_int.h"

#define NOW_US (1700000000LL * 1000000)
#define CODE "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"

static void check_cn(enum err e, struct span cn)
{
    if (e == OK) {
        ASSERT(cn.n >= 1 && cn.n <= LIMIT_X509_RID && span_is_utf8(cn) && !span_has_nul(cn));
    } else {
        ASSERT(e == E_CERT);
    }
}

static void use_cert(struct cert *c)
{
    AUTO(buf_done) struct buf b = BUF_INIT(1 << 20), pem = BUF_INIT(1 << 16);
    AUTO(cert_free_p) struct cert *again = NULL;
    struct span cn = SPAN_NONE;
    enum err e = cert_cn(c, &cn, NULL);
    check_cn(e, cn);
    cert_add_subject(c, &b);
    cert_add_issuer(c, &b);
    cert_add_serial_hex(c, &b);
    ASSERT(buf_err(&b) == OK && (b.n == 0 || span_is_utf8(buf_span(&b))));
    (void)cert_version(c);
    (void)cert_is_ca(c);
    (void)cert_is_self_issued(c);
    if (cert_check_strength(c, NULL) == OK) {
        (void)cert_issued_by(c, c);
        ASSERT(cert_same_key(c, c));
        (void)!proof_verify(c, c, SPAN_LIT(CODE), NOW_US, NULL); /* either is right */
    }
    (void)!proof_check_upload(c, NOW_US, NULL);
    cert_add_pem(c, &pem);
    ASSERT(cert_from_text(buf_span(&pem), &again, NULL) == OK);
    ASSERT(span_eq(cert_der(again), cert_der(c)));
}

/* The short reader and the whole one agree on what both take: dates and name (else one of them is deceived). */
static void compare_leaf(struct span der, const struct cert *c)
{
    struct leaf l;
    int64_t from, to;
    struct span cn = SPAN_NONE;
    if (leaf_dates(der, &from, &to) == OK && c != NULL) {
        ASSERT(from * 1000000 == cert_not_before_us(c) && to * 1000000 == cert_not_after_us(c));
    }
    if (leaf_read(der, &l, NULL) == OK && c != NULL && cert_cn(c, &cn, NULL) == OK) {
        ASSERT(span_eq(cn, l.cn));
    }
}

static void use_csr(struct csr *c)
{
    struct span cn = SPAN_NONE;
    enum err e = csr_cn(c, &cn, NULL);
    check_cn(e, cn);
    csr_free(c);
}

static struct crypto_lib *lib; /* as the pool of the signer has it */

/* What the short reader of requests takes says the same to X509_REQ, whoever signed it. */
static void compare_plain(struct span der)
{
    struct csr_plain *plain = NULL;
    EVP_PKEY *key = NULL;
    const unsigned char *at = der.p, *bits = NULL;
    int n = 0;
    if (der.n > LIMIT_CERT_DER || !csr_plain_read(NULL, der, &plain, &key)) {
        return;
    }
    X509_REQ *rq = d2i_X509_REQ(NULL, &at, (long)der.n);
    ASSERT(rq != NULL && at == der.p + der.n);
    ASSERT(EVP_PKEY_eq(key, X509_REQ_get0_pubkey(rq)) == 1);
    ASSERT(X509_NAME_cmp(csr_plain_subject(plain), X509_REQ_get_subject_name(rq)) == 0);
    ASSERT(X509_PUBKEY_get0_param(NULL, &bits, &n, NULL, X509_REQ_get_X509_PUBKEY(rq)) == 1);
    ASSERT(span_eq(csr_plain_point(plain), span_of(bits, (size_t)n)));
    ASSERT(csr_plain_verify(plain, NULL, key) == (X509_REQ_verify(rq, key) == 1));
    ERR_clear_error();
    X509_REQ_free(rq);
    EVP_PKEY_free(key);
    csr_plain_free(plain);
}

static void one(struct span s)
{
    struct cert *c = NULL;
    struct csr *q = NULL;
    struct cert *list[3] = {NULL, NULL, NULL};
    size_t n = 0;
    if (cert_from_der(s, &c, NULL) == OK) {
        ASSERT(span_eq(cert_der(c), s));
        compare_leaf(s, c);
        use_cert(c);
        cert_free(TAKE(c));
    } else {
        compare_leaf(s, NULL);
    }
    if (cert_from_text(s, &c, NULL) == OK) {
        use_cert(c);
        cert_free(TAKE(c));
    }
    if (cert_list_from_pem(s, list, ARRAY_LEN(list), &n, NULL) == OK) {
        ASSERT(n >= 1 && n <= ARRAY_LEN(list));
        while (n > 0) {
            cert_free(list[--n]);
        }
    }
    bool is_request = csr_from_der(s, &q, NULL) == OK;
    if (is_request) {
        use_csr(TAKE(q));
    }
    ASSERT((csr_from_der_in(lib, s, &q, NULL) == OK) ==
           is_request); /* few decoders, same verdict */
    if (q != NULL) {
        use_csr(TAKE(q));
    }
    ASSERT((csr_from_der_whole(lib, s, &q, NULL) == OK) == is_request);
    if (q != NULL) {
        use_csr(TAKE(q));
    }
    compare_plain(s);
    if (csr_from_text(s, &q, NULL) == OK) {
        use_csr(TAKE(q));
    }
}

static void judge(struct cert *trusted, const struct cert_peer *peer)
{
    struct chain_anchors *a = NULL;
    struct chain_cache *cache = NULL;
    struct chain_path path = {.n = 0}, cached = {.n = 0};
    struct err_info info = {.err = OK};
    ASSERT(chain_anchors_new(&trusted, 1, &trusted, 1, &a) == OK &&
           chain_cache_new(NULL, NULL, &cache) == OK);
    enum chain_verdict v = chain_verify(a, peer, NOW_US, &path, &info);
    if (v == CHAIN_OK) {
        ASSERT(path.n >= 2 && path.n <= LIMIT_CHAIN_CERTS + 2);
        ASSERT(chain_path_has_issuer(&path, cert_sha256(trusted)));
        ASSERT(path.not_before_us <= NOW_US && path.not_after_us > NOW_US);
    } else {
        ASSERT(path.n == 0 && info.why[0] != '\0');
    }
    for (int i = 0; i < 2; i++) {
        ASSERT(chain_cache_verify(cache, a, 1, peer, NOW_US, &cached, NULL) == v);
        ASSERT(cached.n == path.n);
    }
    chain_cache_free(cache);
    chain_anchors_free(a);
}

static void list(struct span s)
{
    AUTO(cert_free_p) struct cert *trusted = NULL;
    struct cert_peer peer = {.n_chain = 0};
    struct rd r = rd_init(s);
    if (cert_from_der(rd_lv16(&r), &trusted, NULL) != OK) {
        return;
    }
    peer.leaf_der = rd_lv16(&r);
    while (rd_err(&r) == OK && r.n > 0 && peer.n_chain < LIMIT_CHAIN_CERTS) {
        peer.chain_der[peer.n_chain++] = rd_lv16(&r);
    }
    judge(trusted, &peer);
}

/* Certificates one behind the other: the pieces are the input's own bytes, in order and without a gap; the list is exactly they. */
static void pieces(struct span s)
{
    struct cert *list[4];
    size_t n = 0, cut = 0;
    struct span rest = s, one;
    const uint8_t *at = s.p;
    while ((one = cert_cut_der(&rest)).n != 0) {
        ASSERT(one.p == at && at + one.n == rest.p && rest.n < s.n);
        at = rest.p;
        cut++;
    }
    if (cert_list_from_der(s, list, ARRAY_LEN(list), &n, NULL) == OK) {
        ASSERT(n == cut && rest.n == 0);
        rest = s;
        for (size_t i = 0; i < n; i++) {
            ASSERT(span_eq(cert_der(list[i]), cert_cut_der(&rest)));
            cert_free(list[i]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ASSERT(lib != NULL || crypto_lib_new(&lib, NULL) == OK);
    one(span_of(data, n));
    list(span_of(data, n));
    pieces(span_of(data, n));
    return 0;
}
