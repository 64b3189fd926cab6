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

static enum err key_wrap(EVP_PKEY *pkey, struct signer_key **ret)
{
    struct signer_key *k = NEW(struct signer_key);
    if (k == NULL) {
        EVP_PKEY_free(pkey);
        return E_NOMEM;
    }
    k->pkey = pkey;
    *ret = k;
    return OK;
}

enum err signer_key_generate(enum key_type type, struct signer_key **ret)
{
    static const struct {
        const char *curve;
        unsigned bits;
    } kinds[] = {
        [KEY_P256] = {"P-256", 0},
        [KEY_P384] = {"P-384", 0},
        [KEY_RSA2048] = {NULL, 2048},
        [KEY_RSA3072] = {NULL, 3072},
    };
    ASSERT((size_t)type < ARRAY_LEN(kinds));
    EVP_PKEY *pkey = kinds[type].curve != NULL ? EVP_EC_gen(kinds[type].curve)
                                               : EVP_RSA_gen((size_t)kinds[type].bits);
    ERR_clear_error();
    return pkey != NULL ? key_wrap(pkey, ret) : E_CRYPTO;
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
    if ((e = pkey_check(pkey, info)) != OK) {
        return err_wrap(info, e, "\"%s\"", path);
    }
    return key_wrap(TAKE(pkey), ret);
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
        free(k);
    }
}

bool signer_key_fits(const struct signer_key *k, const struct cert *c)
{
    const EVP_PKEY *have = X509_get0_pubkey(c->x);
    bool fits = have != NULL && EVP_PKEY_eq(have, k->pkey) == 1;
    ERR_clear_error();
    return fits;
}

const EVP_MD *signer_digest(const EVP_PKEY *k)
{
    bool is_wide = EVP_PKEY_get_base_id(k) == EVP_PKEY_EC && EVP_PKEY_get_bits(k) > 256;
    return is_wide ? EVP_sha384() : EVP_sha256();
}
