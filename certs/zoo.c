/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/zoo.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "base/clock.h"

/* The zoo must stand, or no test of it means anything. */
static void need(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "zoo: %s\n", what);
        ERR_print_errors_fp(stderr);
        abort();
    }
}

static EVP_PKEY *explicit_curve(void)
{
    EVP_PKEY *k = EVP_EC_gen("P-256");
    need(k != NULL && EVP_PKEY_set_utf8_string_param(k, OSSL_PKEY_PARAM_EC_ENCODING,
                                                     OSSL_PKEY_EC_ENCODING_EXPLICIT) == 1,
         "explicit curve");
    return k;
}

static EVP_PKEY *rsa_public(int bits, const char *e_hex)
{
    BIGNUM *n = BN_new(), *e = NULL;
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *k = NULL;
    need(BN_rand(n, bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD) == 1 && BN_hex2bn(&e, e_hex) > 0,
         "numbers");
    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n);
    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    need(EVP_PKEY_fromdata_init(ctx) == 1 &&
             EVP_PKEY_fromdata(ctx, &k, EVP_PKEY_PUBLIC_KEY, params) == 1,
         "RSA public key");
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    EVP_PKEY_CTX_free(ctx);
    BN_free(n);
    BN_free(e);
    return k;
}

static EVP_PKEY *new_key(enum zoo_key kind)
{
    EVP_PKEY *k = NULL;
    switch (kind) {
    case ZOO_P256:
        k = EVP_EC_gen("P-256");
        break;
    case ZOO_P256_EXPLICIT:
        k = explicit_curve();
        break;
    case ZOO_SECP256K1:
        k = EVP_EC_gen("secp256k1");
        break;
    case ZOO_ED25519:
        k = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        break;
    case ZOO_RSA1024:
        k = EVP_RSA_gen(1024);
        break;
    case ZOO_RSA2048:
        k = EVP_RSA_gen(2048);
        break;
    case ZOO_RSA4104:
        k = rsa_public(4104, "10001");
        break;
    case ZOO_RSA16384:
        k = rsa_public(16384, "10001");
        break;
    case ZOO_RSA_WIDE_E:
        k = rsa_public(2048, "10000000000000001");
        break;
    }
    need(k != NULL, "key");
    return k;
}

static void set_subject(X509 *x, const struct zoo_spec *s)
{
    X509_NAME *name = X509_NAME_new();
    if (s->name_of != NULL) {
        X509_NAME_free(name);
        name = X509_NAME_dup(X509_get_subject_name(s->name_of->cert->x));
    } else if (s->subject_der.n != 0) {
        const unsigned char *p = s->subject_der.p;
        X509_NAME_free(name);
        name = d2i_X509_NAME(NULL, &p, (long)s->subject_der.n);
    } else {
        need(X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                        (const unsigned char *)s->cn, -1, -1, 0) == 1,
             "CN");
    }
    need(name != NULL && X509_set_subject_name(x, name) == 1, "subject");
    X509_NAME_free(name);
}

static void set_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    if (value == NULL) {
        return;
    }
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    need(e != NULL && X509_add_ext(x, e, -1) == 1, value);
    X509_EXTENSION_free(e);
}

static void copy_key_id(X509 *x, const struct zoo_spec *s)
{
    const ASN1_OCTET_STRING *id =
        s->name_of != NULL ? X509_get0_subject_key_id(s->name_of->cert->x) : NULL;
    if (id != NULL) {
        need(X509_add1_ext_i2d(x, NID_subject_key_identifier, (void *)(uintptr_t)id, 0, 0) == 1,
             "key id");
    } else {
        set_extension(x, x, NID_subject_key_identifier, s->ski);
    }
}

static void set_fields(X509 *x, const struct zoo_spec *s, EVP_PKEY *key)
{
    int64_t from = s->from_days, to = s->to_days;
    uint64_t serial;
    if (from == 0 && to == 0) {
        from = -1;
        to = 365;
    }
    random_bytes(&serial, sizeof(serial));
    need(X509_set_version(x, s->v1 ? X509_VERSION_1 : X509_VERSION_3) == 1 &&
             ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial) == 1 &&
             ASN1_TIME_adj(X509_getm_notBefore(x), ZOO_NOW_US / 1000000, (int)from, 0) != NULL &&
             ASN1_TIME_adj(X509_getm_notAfter(x), ZOO_NOW_US / 1000000, (int)to, 0) != NULL &&
             X509_set_pubkey(x, key) == 1,
         "fields");
}

static void set_extensions(X509 *x, const struct zoo_spec *s, X509 *issuer)
{
    if (s->v1) {
        return;
    }
    copy_key_id(x, s);
    if (X509_get0_subject_key_id(issuer) != NULL) { /* else there is nothing to repeat */
        set_extension(x, issuer, NID_authority_key_identifier, s->aki);
    }
    set_extension(x, issuer, NID_basic_constraints, s->constraints);
    set_extension(x, issuer, NID_key_usage, s->usage);
    set_extension(x, issuer, NID_ext_key_usage, s->purpose);
    set_extension(x, issuer, NID_subject_alt_name, s->alt);
    set_extension(x, issuer, NID_name_constraints, s->names);
}

const struct zoo_id *zoo_make(struct zoo *z, const struct zoo_spec *s)
{
    need(z->n < ARRAY_LEN(z->id), "full");
    struct zoo_id *id = &z->id[z->n++];
    X509 *x = X509_new();
    if (s->same_key != NULL) {
        id->key = s->same_key->key;
        need(EVP_PKEY_up_ref(id->key) == 1, "key");
    } else {
        id->key = new_key(s->key);
    }
    set_subject(x, s);
    set_fields(x, s, id->key);
    X509 *issuer = s->issuer != NULL ? s->issuer->cert->x : x;
    need(X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1, "issuer");
    set_extensions(x, s, issuer);
    EVP_PKEY *by = s->issuer != NULL ? s->issuer->key : id->key;
    const EVP_MD *md = EVP_get_digestbyname(s->digest != NULL ? s->digest : "SHA256");
    need(X509_sign(x, by, EVP_PKEY_get_base_id(by) == EVP_PKEY_ED25519 ? NULL : md) > 0,
         "signature");
    if (s->damage_signature) {
        const ASN1_BIT_STRING *sig;
        X509_get0_signature(&sig, NULL, x);
        sig->data[sig->length - 1] ^= 1;
    }
    struct err_info info = {0};
    need(cert_from_x509(x, &id->cert, &info) == OK, info.why);
    X509_free(x);
    ERR_clear_error();
    return id;
}

#define CA_USAGE "critical,keyCertSign,cRLSign"

const struct zoo_id *zoo_root(struct zoo *z, const char *cn)
{
    return zoo_make(
        z, &(struct zoo_spec){
               .cn = cn, .constraints = "critical,CA:TRUE", .usage = CA_USAGE, .ski = "hash"});
}

const struct zoo_id *zoo_ca(struct zoo *z, const char *cn, const struct zoo_id *issuer)
{
    return zoo_make(z, &(struct zoo_spec){.cn = cn,
                                          .issuer = issuer,
                                          .constraints = "critical,CA:TRUE",
                                          .usage = CA_USAGE,
                                          .ski = "hash",
                                          .aki = "keyid"});
}

const struct zoo_id *zoo_leaf(struct zoo *z, const char *cn, const struct zoo_id *issuer)
{
    return zoo_make(z, &(struct zoo_spec){.cn = cn,
                                          .issuer = issuer,
                                          .constraints = "critical,CA:FALSE",
                                          .usage = "critical,digitalSignature",
                                          .purpose = "clientAuth",
                                          .ski = "hash",
                                          .aki = "keyid"});
}

void zoo_free(struct zoo *z)
{
    for (size_t i = 0; i < z->n; i++) {
        cert_free(z->id[i].cert);
        EVP_PKEY_free(z->id[i].key);
    }
    z->n = 0;
}
