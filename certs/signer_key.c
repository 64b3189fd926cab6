/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys: made, kept in files, matched. */
#include "certs/signer.h"

#include <stdlib.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/fs.h"
#include "base/secret.h"
#include "certs/private_file.h"
#include "certs/signer_int.h"

const char *const key_type_words[KEY_TYPES] = {
    [KEY_P256] = "P-256",       [KEY_P384] = "P-384",       [KEY_RSA2048] = "RSA-2048",
    [KEY_RSA3072] = "RSA-3072", [KEY_RSA4096] = "RSA-4096",
};

/* The public half alone, in the usual library context. */
static EVP_PKEY *public_half(const EVP_PKEY *pkey)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(pkey, &der);
    const unsigned char *at = der;
    EVP_PKEY *pub = n > 0 ? d2i_PUBKEY(NULL, &at, n) : NULL;
    OPENSSL_free(der);
    return pub;
}

enum err signer_key_wrap(EVP_PKEY *pkey, struct signer_key **ret, struct err_info *info)
{
    AUTO(signer_key_free_p) struct signer_key *k = NEW(struct signer_key);
    if (k == NULL) {
        EVP_PKEY_free(pkey);
        return err_set(info, E_NOMEM, "private key: out of memory");
    }
    (void)pthread_mutex_init(&k->lock, NULL); /* cannot fail with default attributes */
    k->pkey = pkey;
    ERR_clear_error();
    if ((k->pub = public_half(pkey)) == NULL) {
        return crypto_err(info, E_CRYPTO, "public half of the key");
    }
    enum err e = pkey_check(k->pub, info);
    if (e == OK) {
        *ret = TAKE(k);
    }
    return e;
}

enum err signer_key_generate(enum key_type type, struct signer_key **ret)
{
    static const struct {
        const char *curve;
        unsigned bits;
    } kinds[KEY_TYPES] = {
        [KEY_P256] = {"P-256", 0},    [KEY_P384] = {"P-384", 0},    [KEY_RSA2048] = {NULL, 2048},
        [KEY_RSA3072] = {NULL, 3072}, [KEY_RSA4096] = {NULL, 4096},
    };
    ASSERT(type < KEY_TYPES);
    EVP_PKEY *pkey = kinds[type].curve != NULL ? EVP_EC_gen(kinds[type].curve)
                                               : EVP_RSA_gen((size_t)kinds[type].bits);
    ERR_clear_error();
    return pkey != NULL ? signer_key_wrap(pkey, ret, NULL) : E_CRYPTO;
}

/* An encrypted key must fail, not ask on a terminal. */
static int no_password(char *buf, int size, int rw, void *arg)
{
    (void)buf;
    (void)size;
    (void)rw;
    (void)arg;
    return -1;
}

static void wipe_buf(struct buf *b)
{
    mem_wipe(b->p, b->cap);
    buf_done(b);
}

enum err signer_key_load(const char *path, struct signer_key **ret, struct err_info *info)
{
    AUTO(wipe_buf) struct buf pem = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(pkey_free_p) EVP_PKEY *pkey = NULL;
    enum err e = private_file_read(path, &pem, info);
    if (e != OK) {
        return err_wrap(info, e, "private key");
    }
    ERR_clear_error();
    AUTO(bio_free_p) BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (bio == NULL) {
        return err_set(info, E_NOMEM, "private key: out of memory");
    }
    pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    ERR_clear_error();
    if (pkey == NULL) {
        return err_set(info, E_MALFORMED, "\"%s\" holds no unencrypted PEM private key", path);
    }
    if ((e = signer_key_wrap(TAKE(pkey), ret, info)) != OK) {
        return err_wrap(info, e, "\"%s\"", path);
    }
    return OK;
}

enum err signer_key_to_der(const struct signer_key *k, struct buf *ret)
{
    ASSERT(!k->is_hard);
    ERR_clear_error();
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(k->pkey);
    unsigned char *der = NULL;
    int n = p8 != NULL ? i2d_PKCS8_PRIV_KEY_INFO(p8, &der) : -1;
    PKCS8_PRIV_KEY_INFO_free(p8); /* wiped there */
    if (n <= 0) {
        return crypto_err(NULL, E_CRYPTO, "private key");
    }
    buf_add(ret, span_of(der, (size_t)n));
    OPENSSL_clear_free(der, (size_t)n);
    return buf_err(ret);
}

enum err signer_key_from_der(struct span der, struct signer_key **ret, struct err_info *info)
{
    const unsigned char *at = der.p;
    ERR_clear_error();
    PKCS8_PRIV_KEY_INFO *p8 = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)der.n);
    EVP_PKEY *pkey = p8 != NULL && at == der.p + der.n ? EVP_PKCS82PKEY(p8) : NULL;
    PKCS8_PRIV_KEY_INFO_free(p8);
    ERR_clear_error();
    if (pkey == NULL) {
        return err_set(info, E_MALFORMED, "not a PKCS#8 private key");
    }
    return signer_key_wrap(pkey, ret, info);
}

enum err signer_key_save(const struct signer_key *k, const char *path, struct err_info *info)
{
    ERR_clear_error();
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;
    if (bio == NULL ||
        PEM_write_bio_PKCS8PrivateKey(bio, k->pkey, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(bio);
        return crypto_err(info, E_CRYPTO, "private key");
    }
    long n = BIO_get_mem_data(bio, &p);
    enum err e = fs_create_atomic(path, span_of(p, (size_t)n), 0600, info);
    mem_wipe(p, (size_t)n);
    BIO_free(bio);
    return e;
}

void signer_key_free(struct signer_key *k)
{
    if (k != NULL) {
        EVP_PKEY_free(k->pkey); /* OpenSSL clears private numbers */
        EVP_PKEY_free(k->pub);
        if (k->close != NULL) {
            k->close(k);
        }
        (void)pthread_mutex_destroy(&k->lock);
        free(k);
    }
}

bool signer_key_fits(const struct signer_key *k, const struct cert *c)
{
    const EVP_PKEY *have = cert_key(c);
    bool fits = have != NULL && EVP_PKEY_eq(have, k->pub) == 1;
    ERR_clear_error();
    return fits;
}

enum key_type signer_key_type(const struct signer_key *k)
{
    return pkey_type(k->pub);
}

enum key_type pkey_type(const EVP_PKEY *k)
{
    int id = k != NULL ? EVP_PKEY_get_base_id(k) : NID_undef, bits = EVP_PKEY_get_bits(k);
    static const struct {
        int id, bits;
    } types[KEY_TYPES] = {
        [KEY_P256] = {EVP_PKEY_EC, 256},      [KEY_P384] = {EVP_PKEY_EC, 384},
        [KEY_RSA2048] = {EVP_PKEY_RSA, 2048}, [KEY_RSA3072] = {EVP_PKEY_RSA, 3072},
        [KEY_RSA4096] = {EVP_PKEY_RSA, 4096},
    };
    size_t i = 0;
    while (i < ARRAY_LEN(types) && (types[i].id != id || types[i].bits != bits)) {
        i++;
    }
    return (enum key_type)i;
}

/* --- signing ---------------------------------------------------------------------------------- */

static bool begin_signing(const struct signer_key *k, EVP_MD_CTX *md)
{
    const char *digest = EVP_MD_get0_name(signer_digest(k->pub));
    if (k->libctx == NULL) {
        return EVP_DigestSignInit(md, NULL, signer_digest(k->pub), NULL, k->pkey) == 1;
    }
    return EVP_DigestSignInit_ex(md, NULL, digest, k->libctx, k->propq, k->pkey, NULL) == 1;
}

static enum err sign_any(const struct signer_key *k, X509 *x, X509_REQ *rq, struct err_info *info)
{
    struct signer_key *key = (struct signer_key *)(uintptr_t)k; /* the lock alone is changed */
    ERR_clear_error();
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (k->is_hard) {
        (void)pthread_mutex_lock(&key->lock);
    }
    bool ok = md != NULL && begin_signing(k, md) &&
              (x != NULL ? X509_sign_ctx(x, md) : X509_REQ_sign_ctx(rq, md)) > 0;
    EVP_MD_CTX_free(md);
    if (k->is_hard) {
        (void)pthread_mutex_unlock(&key->lock);
    }
    return ok ? OK : crypto_err(info, k->is_hard ? E_AGAIN : E_CRYPTO, "signing");
}

enum err signer_sign_cert(const struct signer_key *k, X509 *x, struct err_info *info)
{
    return sign_any(k, x, NULL, info);
}

enum err signer_sign_request(const struct signer_key *k, X509_REQ *rq, struct err_info *info)
{
    return sign_any(k, NULL, rq, info);
}

const EVP_MD *signer_digest(const EVP_PKEY *k)
{
    bool is_wide = EVP_PKEY_get_base_id(k) == EVP_PKEY_EC && EVP_PKEY_get_bits(k) > 256;
    return is_wide ? EVP_sha384() : EVP_sha256();
}
