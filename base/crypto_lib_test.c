/* SPDX-License-Identifier: Apache-2.0 */
/* The lean context knows the keys of certificates, all of them, and no more; what is made in one context works in the other. */
#include "base/crypto_lib.h"

#include <pthread.h>

#include <openssl/decoder.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "tests/unit.h"

static X509 *certify(EVP_PKEY *key, EVP_PKEY *signer, const EVP_MD *md)
{
    X509 *x = X509_new();
    assert_non_null(x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, signer, md) > 0);
    return x;
}

static X509 *parsed_in(OSSL_LIB_CTX *lib, X509 *x)
{
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    const unsigned char *at = der;
    X509 *again = X509_new_ex(lib, NULL);
    assert_non_null(d2i_X509(&again, &at, n));
    OPENSSL_free(der);
    return again;
}

static EVP_PKEY *rsa_pss(void)
{
    EVP_PKEY *k = NULL;
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
    assert_int_equal(EVP_PKEY_keygen_init(c), 1);
    assert_int_equal(EVP_PKEY_generate(c, &k), 1); /* 2048 bits */
    EVP_PKEY_CTX_free(c);
    return k;
}

static void every_key_of_a_certificate(void **state)
{
    (void)state;
    struct crypto_lib *l = NULL;
    assert_ok(crypto_lib_new(&l, NULL));
    OSSL_LIB_CTX *lean = crypto_lib_lean(l);
    const struct {
        EVP_PKEY *key;
        const EVP_MD *md;
    } rows[] = {
        {EVP_RSA_gen(2048), EVP_sha256()},
        {rsa_pss(), EVP_sha256()},
        {EVP_EC_gen("P-256"), EVP_sha256()},
        {EVP_EC_gen("P-384"), EVP_sha384()},
        {EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL},
        {EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_non_null(rows[i].key);
        X509 *x = certify(rows[i].key, rows[i].key, rows[i].md);
        X509 *y = parsed_in(lean, x);
        assert_non_null(X509_get0_pubkey(y));
        assert_int_equal(X509_verify(y, X509_get0_pubkey(y)), 1);
        assert_int_equal(X509_verify(y, rows[i].key), 1); /* a key of the other context */
        assert_int_equal(X509_check_private_key(y, rows[i].key), 1);
        X509_free(y);
        X509_free(x);
        EVP_PKEY_free(rows[i].key);
    }
    /* A key that no certificate may carry: it stays unread, as the checks of certificates expect. */
    EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), *own = EVP_EC_gen("P-256");
    X509 *x = certify(other, own, EVP_sha256());
    X509 *y = parsed_in(lean, x);
    assert_null(X509_get0_pubkey(y));
    X509_free(x);
    X509_free(y);
    EVP_PKEY_free(other);
    EVP_PKEY_free(own);
    crypto_lib_unref(l);
}

static void count(OSSL_DECODER *d, void *arg)
{
    (void)d;
    ++*(unsigned *)arg;
}

static void few_decoders(void **state)
{
    (void)state;
    struct crypto_lib *l = NULL;
    unsigned lean = 0, full = 0;
    assert_ok(crypto_lib_new(&l, NULL));
    OSSL_DECODER_do_all_provided(crypto_lib_lean(l), count, &lean);
    OSSL_DECODER_do_all_provided(crypto_lib_full(l), count, &full);
    assert_int_equal(lean, 5);
    assert_true(full > 20);
    crypto_lib_unref(l);
}

static void *in_a_thread(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        struct crypto_lib *l = NULL;
        assert_ok(crypto_lib_new(&l, NULL));
        EVP_PKEY *k = EVP_PKEY_Q_keygen(crypto_lib_lean(l), NULL, "EC", "P-256");
        assert_non_null(k);
        EVP_PKEY_free(k);
        crypto_lib_unref(crypto_lib_ref(l));
        crypto_lib_unref(l);
    }
    return NULL;
}

static void made_and_ended_by_threads(void **state)
{
    (void)state;
    pthread_t t[4];
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(pthread_create(&t[i], NULL, in_a_thread, NULL), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(pthread_join(t[i], NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_a_certificate),
        cmocka_unit_test(few_decoders),
        cmocka_unit_test(made_and_ended_by_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
