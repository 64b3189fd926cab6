/* SPDX-License-Identifier: Apache-2.0 */
/* PKCS#10 requests: read as a hostile peer's bytes, of which name and key are taken and no more. */
#include "certs/signer.h"

#include <stdlib.h>

#include <openssl/err.h>

#include "base/crypto_lib.h"
#include "certs/signer_int.h"

static inline void req_free_p(X509_REQ **p)
{
    X509_REQ_free(*p);
}

bool name_put(X509_NAME *name, int nid, struct span text)
{
    return text.n <= LIMIT_X509_RID && X509_NAME_add_entry_by_NID(name, nid, V_ASN1_UTF8STRING,
                                                                  text.p, (int)text.n, -1, 0) == 1;
}

enum err signer_make_csr(const struct signer_key *k, struct span cn, struct buf *ret_der,
                         struct err_info *info)
{
    struct span checked;
    unsigned char *der = NULL;
    ERR_clear_error();
    AUTO(req_free_p) X509_REQ *rq = X509_REQ_new();
    if (rq == NULL || X509_REQ_set_version(rq, X509_REQ_VERSION_1) != 1) {
        return crypto_err(info, E_CRYPTO, "request");
    }
    if (!name_put(X509_REQ_get_subject_name(rq), NID_commonName, cn)) {
        return crypto_err(info, E_CERT, "CN");
    }
    enum err e = name_cn(X509_REQ_get_subject_name(rq), &checked, info);
    if (e != OK) {
        return e;
    }
    if (X509_REQ_set_pubkey(rq, k->pub) != 1) {
        return crypto_err(info, E_CRYPTO, "request");
    }
    if ((e = signer_sign_request(k, rq, info)) != OK) {
        return e;
    }
    int n = i2d_X509_REQ(rq, &der);
    if (n <= 0) {
        return crypto_err(info, E_CRYPTO, "request");
    }
    buf_add(ret_der, span_of(der, (size_t)n));
    OPENSSL_free(der);
    return buf_err(ret_der);
}

enum err csr_from_der(struct span der, struct csr **ret, struct err_info *info)
{
    return csr_from_der_in(NULL, der, ret, info);
}

enum err csr_from_der_in(struct crypto_lib *lib, struct span der, struct csr **ret,
                         struct err_info *info)
{
    const unsigned char *at = der.p;
    if (der.n == 0 || der.n > LIMIT_CERT_DER) {
        return err_set(info, der.n == 0 ? E_MALFORMED : E_TOO_LARGE, "request of %zu bytes", der.n);
    }
    ERR_clear_error();
    OSSL_LIB_CTX *in = lib != NULL ? crypto_lib_lean(lib) : NULL;
    AUTO(req_free_p) X509_REQ *rq = X509_REQ_new_ex(in, NULL);
    if (rq == NULL) {
        return err_set(info, E_NOMEM, "request: out of memory");
    }
    /* d2i_X509_REQ looks for the decoders of its key in the process's context. Frees rq when it fails. */
    (void)ASN1_item_d2i_ex((ASN1_VALUE **)&rq, &at, (long)der.n, ASN1_ITEM_rptr(X509_REQ), in,
                           NULL);
    if (rq == NULL || at != der.p + der.n) {
        return crypto_err(info, E_MALFORMED, "request");
    }
    EVP_PKEY *k = X509_REQ_get0_pubkey(rq);
    enum err e = pkey_check(k, info); /* before its signature costs us anything (N7) */
    if (e != OK) {
        return err_wrap(info, e, "request");
    }
    if (X509_REQ_verify(rq, k) != 1) {
        ERR_clear_error();
        return err_set(info, E_CERT, "request: not signed by the key that it names");
    }
    struct csr *c = NEW(struct csr);
    if (c == NULL) {
        return err_set(info, E_NOMEM, "request: out of memory");
    }
    c->rq = TAKE(rq);
    c->lib = crypto_lib_ref(lib);
    *ret = c;
    return OK;
}

static const char *const labels[] = {"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", NULL};

enum err csr_from_text(struct span text, struct csr **ret, struct err_info *info)
{
    AUTO(buf_done) struct buf der = BUF_INIT(LIMIT_CERT_DER);
    enum err e = der_from_text(text, labels, &der, info);
    return e != OK ? err_wrap(info, e, "request") : csr_from_der(buf_span(&der), ret, info);
}

enum err csr_text_to_der(struct span text, struct buf *ret, struct err_info *info)
{
    enum err e = der_from_text(text, labels, ret, info);
    return e != OK ? err_wrap(info, e, "request") : OK;
}

void csr_add_pem(struct span der, struct buf *b)
{
    pem_add(b, labels[0], der);
}

void csr_free(struct csr *c)
{
    if (c != NULL) {
        X509_REQ_free(c->rq);
        crypto_lib_unref(c->lib); /* last: what stood here was made in it */
        free(c);
    }
}

bool csr_fits(const struct csr *c, const struct cert *cert)
{
    const EVP_PKEY *have = cert_key(cert);
    bool fits = have != NULL && EVP_PKEY_eq(have, X509_REQ_get0_pubkey(c->rq)) == 1;
    ERR_clear_error();
    return fits;
}

enum key_type csr_key_type(const struct csr *c)
{
    return pkey_type(X509_REQ_get0_pubkey(c->rq));
}

enum err csr_cn(const struct csr *c, struct span *ret, struct err_info *info)
{
    return name_cn(X509_REQ_get_subject_name(c->rq), ret, info);
}
