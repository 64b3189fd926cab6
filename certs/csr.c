/* SPDX-License-Identifier: Apache-2.0 */
/* PKCS#10 requests: read as a hostile peer's bytes, of which name and key are taken and no more. */
#include "certs/signer.h"

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/err.h>

#include "base/crypto_lib.h"
#include "certs/signer_int.h"

#define EC_POINT_MAX (1 + 2 * 66) /* P-521 */

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

/* --- reading ---------------------------------------------------------------------------------- */

static enum err read_whole(struct span der, struct csr *c, struct err_info *info)
{
    OSSL_LIB_CTX *in = c->lib != NULL ? crypto_lib_lean(c->lib) : NULL;
    const unsigned char *at = der.p;
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
    c->subject = X509_REQ_get_subject_name(rq);
    c->key = X509_REQ_get_pubkey(rq);
    c->rq = TAKE(rq);
    return OK;
}

static bool is_signed(const struct csr *c)
{
    return c->rq != NULL ? X509_REQ_verify(c->rq, c->key) == 1
                         : csr_plain_verify(c->plain, c->lib, c->key);
}

static enum err read_any(struct crypto_lib *lib, struct span der, bool only_whole, struct csr **ret,
                         struct err_info *info)
{
    enum err e = OK;
    if (der.n == 0 || der.n > LIMIT_CERT_DER) {
        return err_set(info, der.n == 0 ? E_MALFORMED : E_TOO_LARGE, "request of %zu bytes", der.n);
    }
    ERR_clear_error();
    AUTO(csr_free_p) struct csr *c = NEW(struct csr);
    if (c == NULL) {
        return err_set(info, E_NOMEM, "request: out of memory");
    }
    c->lib = crypto_lib_ref(lib);
    if (!only_whole && csr_plain_read(lib, der, &c->plain, &c->key)) {
        c->subject = csr_plain_subject(c->plain);
    } else if ((e = read_whole(der, c, info)) != OK) {
        return e;
    }
    e = pkey_check(c->key, info); /* before its signature costs us anything (N7) */
    if (e != OK) {
        return err_wrap(info, e, "request");
    }
    if (!is_signed(c)) {
        ERR_clear_error();
        return err_set(info, E_CERT, "request: not signed by the key that it names");
    }
    *ret = TAKE(c);
    return OK;
}

enum err csr_from_der_in(struct crypto_lib *lib, struct span der, struct csr **ret,
                         struct err_info *info)
{
    return read_any(lib, der, false, ret, info);
}

enum err csr_from_der_whole(struct crypto_lib *lib, struct span der, struct csr **ret,
                            struct err_info *info)
{
    return read_any(lib, der, true, ret, info);
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
        csr_plain_free(c->plain);
        EVP_PKEY_free(c->key);
        crypto_lib_unref(c->lib); /* last: what stood here was made in it */
        free(c);
    }
}

bool csr_fits(const struct csr *c, const struct cert *cert)
{
    const EVP_PKEY *have = cert_key(cert);
    bool fits = have != NULL && EVP_PKEY_eq(have, c->key) == 1;
    ERR_clear_error();
    return fits;
}

enum key_type csr_key_type(const struct csr *c)
{
    return pkey_type(c->key);
}

enum err csr_cn(const struct csr *c, struct span *ret, struct err_info *info)
{
    return name_cn(c->subject, ret, info);
}

bool csr_point(const struct csr *c, int *ret_curve, struct span *ret_point)
{
    uint8_t point[EC_POINT_MAX];
    const unsigned char *p = NULL;
    const void *value = NULL;
    ASN1_OBJECT *oid = NULL;
    X509_ALGOR *alg = NULL;
    int bits = 0, type = V_ASN1_UNDEF;
    size_t n = 0;
    if (c->plain != NULL) {
        *ret_curve = NID_X9_62_prime256v1;
        *ret_point = csr_plain_point(c->plain);
        return true;
    }
    if (EVP_PKEY_get_base_id(c->key) != EVP_PKEY_EC ||
        X509_PUBKEY_get0_param(&oid, &p, &bits, &alg, X509_REQ_get_X509_PUBKEY(c->rq)) != 1 ||
        EVP_PKEY_get_octet_string_param(c->key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point),
                                        &n) != 1) {
        ERR_clear_error();
        return false;
    }
    X509_ALGOR_get0(NULL, &type, &value, alg);
    int curve = type == V_ASN1_OBJECT ? OBJ_obj2nid(value) : NID_undef;
    struct span said = span_of(p, (size_t)MAX(bits, 0));
    if (curve == NID_undef || OBJ_obj2nid(oid) != NID_X9_62_id_ecPublicKey ||
        !span_eq(said, span_of(point, n))) {
        return false;
    }
    *ret_curve = curve;
    *ret_point = said;
    return true;
}
