/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests for a P-256 key, as nearly all are. OpenSSL 3.0 takes a key to pieces with every decoder that it has, which costs more than all
 * else that is done with a request. Here its own templates read the request, but leave the key as it came: in the one form that
 * RFC 5480 gives it, its point is made a key; in any other the request is not read here, and X509_REQ judges.
 */
#include <stdlib.h>

#include <openssl/asn1t.h>
#include <openssl/core_names.h>
#include <openssl/err.h>

#include "base/crypto_lib.h"
#include "certs/signer_int.h"

/* SubjectPublicKeyInfo up to the point: id-ecPublicKey, prime256v1, a BIT STRING without unused bits, uncompressed. */
static const uint8_t spki_head[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                    0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                    0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
#define POINT_SIZE 65u
#define SPKI_SIZE (sizeof(spki_head) - 1 + POINT_SIZE)

/* The macros want a type's name. */
typedef struct {
    ASN1_ENCODING enc; /* as it came: what was signed */
    ASN1_INTEGER *version;
    X509_NAME *subject;
    ASN1_STRING *spki; /* the whole element */
    STACK_OF(X509_ATTRIBUTE) * attributes;
} INFO;
typedef struct {
    INFO *info;
    X509_ALGOR *algorithm;
    ASN1_BIT_STRING *signature;
} REQUEST;

/* clang-format off */
ASN1_SEQUENCE_enc(INFO, enc, NULL) = {
    ASN1_SIMPLE(INFO, version, ASN1_INTEGER),
    ASN1_SIMPLE(INFO, subject, X509_NAME),
    ASN1_SIMPLE(INFO, spki, ASN1_SEQUENCE),
    /* OPTIONAL as in X509_REQ: some leave it out when it is empty */
    ASN1_IMP_SET_OF_OPT(INFO, attributes, X509_ATTRIBUTE, 0),
} static_ASN1_SEQUENCE_END_ref(INFO, INFO)

ASN1_SEQUENCE(REQUEST) = {
    ASN1_SIMPLE(REQUEST, info, INFO),
    ASN1_SIMPLE(REQUEST, algorithm, X509_ALGOR),
    ASN1_SIMPLE(REQUEST, signature, ASN1_BIT_STRING),
} static_ASN1_SEQUENCE_END(REQUEST)
    /* clang-format on */

    struct csr_plain {
    REQUEST *rq;
};

void csr_plain_free(struct csr_plain *p)
{
    if (p != NULL) {
        ASN1_item_free((ASN1_VALUE *)p->rq, ASN1_ITEM_rptr(REQUEST));
        free(p);
    }
}

static inline void csr_plain_free_p(struct csr_plain **p)
{
    csr_plain_free(*p);
}

struct span csr_plain_point(const struct csr_plain *p)
{
    const ASN1_STRING *spki = p->rq->info->spki;
    return span_of(ASN1_STRING_get0_data(spki) + SPKI_SIZE - POINT_SIZE, POINT_SIZE);
}

X509_NAME *csr_plain_subject(const struct csr_plain *p)
{
    return p->rq->info->subject;
}

static bool is_plain(const ASN1_STRING *spki)
{
    struct span s = span_of(ASN1_STRING_get0_data(spki), (size_t)MAX(ASN1_STRING_length(spki), 0));
    return s.n == SPKI_SIZE && span_starts(s, span_of(spki_head, sizeof(spki_head)));
}

static EVP_PKEY *key_by_name(struct span point)
{
    char curve[] = SN_X9_62_prime256v1;
    EVP_PKEY *k = NULL;
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM p[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point.p,
                                          point.n),
        OSSL_PARAM_construct_end(),
    };
    bool ok = c != NULL && EVP_PKEY_fromdata_init(c) == 1 &&
              EVP_PKEY_fromdata(c, &k, EVP_PKEY_PUBLIC_KEY, p) == 1;
    EVP_PKEY_CTX_free(c);
    return ok ? k : NULL;
}

/* NULL: no point of the curve. */
static EVP_PKEY *key_of(const struct crypto_lib *lib, struct span point)
{
    if (lib == NULL) {
        return key_by_name(point);
    }
    AUTO(pkey_free_p) EVP_PKEY *k = EVP_PKEY_dup((EVP_PKEY *)(uintptr_t)crypto_lib_p256(lib));
    return k != NULL && EVP_PKEY_set1_encoded_public_key(k, point.p, point.n) == 1 ? TAKE(k) : NULL;
}

static OSSL_LIB_CTX *context_of(const struct crypto_lib *lib)
{
    return lib != NULL ? crypto_lib_lean(lib) : NULL;
}

bool csr_plain_read(const struct crypto_lib *lib, struct span der, struct csr_plain **ret,
                    EVP_PKEY **ret_key)
{
    const unsigned char *at = der.p;
    AUTO(csr_plain_free_p) struct csr_plain *p = NEW(struct csr_plain);
    if (p != NULL) {
        p->rq = (REQUEST *)ASN1_item_d2i_ex(NULL, &at, (long)der.n, ASN1_ITEM_rptr(REQUEST),
                                            context_of(lib), NULL);
    }
    EVP_PKEY *k = NULL;
    if (p != NULL && p->rq != NULL && at == der.p + der.n && is_plain(p->rq->info->spki)) {
        k = key_of(lib, csr_plain_point(p));
    }
    ERR_clear_error();
    if (k == NULL) {
        return false;
    }
    *ret = TAKE(p);
    *ret_key = k;
    return true;
}

bool csr_plain_verify(const struct csr_plain *p, const struct crypto_lib *lib, EVP_PKEY *key)
{
    return ASN1_item_verify_ex(ASN1_ITEM_rptr(INFO), p->rq->algorithm, p->rq->signature,
                               p->rq->info, NULL, key, context_of(lib), NULL) == 1;
}
