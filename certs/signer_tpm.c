/* SPDX-License-Identifier: Apache-2.0 */
/* Keys in a TPM 2.0, through the provider "tpm2" (tpm2-openssl), which lives in a library context of its own, one for each key: what it
 * offers must not be taken by TLS or anything else, and a TPM that went away is forgotten with the key. */
#include "certs/signer_hard.h"

#include <stdlib.h>

#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/store.h>

#include "certs/signer_int.h"

#define HANDLE "handle:0x"
#define PEM_BEGIN "-----BEGIN TSS2 PRIVATE KEY-----"
#define PROPERTIES "?provider=tpm2"

struct tpm {
    OSSL_LIB_CTX *ctx;
    OSSL_PROVIDER *own, *digests;
};

static void tpm_free(struct tpm *t)
{
    if (t->own != NULL) {
        (void)OSSL_PROVIDER_unload(t->own);
    }
    if (t->digests != NULL) {
        (void)OSSL_PROVIDER_unload(t->digests);
    }
    OSSL_LIB_CTX_free(t->ctx);
    free(t);
}

static inline void tpm_free_p(struct tpm **t)
{
    if (*t != NULL) {
        tpm_free(*t);
    }
}

static void close_key(struct signer_key *k)
{
    tpm_free(k->arg);
}

/* --- the reference ---------------------------------------------------------------------------- */

enum err hard_tpm_check(struct span ref, struct err_info *info)
{
    bool ok = ref.n <= HARD_REF_MAX && span_find(ref, '\0') == ref.n;
    if (span_starts(ref, SPAN_LIT(HANDLE))) {
        struct span hex = span_sub(ref, sizeof(HANDLE) - 1, ref.n);
        ok = ok && hex.n == 8 && span_starts(hex, SPAN_LIT("81")); /* TPM_HT_PERSISTENT */
        for (size_t i = 0; ok && i < hex.n; i++) {
            ok = strchr("0123456789abcdefABCDEF", hex.p[i]) != NULL;
        }
    } else {
        ok = ok && span_starts(ref, SPAN_LIT(PEM_BEGIN));
    }
    return ok ? OK
              : err_set(info, E_ARG,
                        "a TPM key is \"" HANDLE "81xxxxxx\" or the text of a key file "
                        "(\"" PEM_BEGIN "\")");
}

/* --- loading ---------------------------------------------------------------------------------- */

/* An authorisation value must fail, not be asked for on a terminal. */
static int no_password(char *pass, size_t size, size_t *n, const OSSL_PARAM params[], void *arg)
{
    (void)pass;
    (void)size;
    (void)n;
    (void)params;
    (void)arg;
    return 0;
}

static EVP_PKEY *load_handle(struct tpm *t, const char *uri)
{
    EVP_PKEY *pkey = NULL;
    OSSL_STORE_CTX *st = OSSL_STORE_open_ex(uri, t->ctx, PROPERTIES, NULL, NULL, NULL, NULL, NULL);
    while (st != NULL && pkey == NULL && OSSL_STORE_eof(st) == 0) {
        OSSL_STORE_INFO *found = OSSL_STORE_load(st);
        if (found == NULL) {
            break;
        }
        pkey = OSSL_STORE_INFO_get1_PKEY(found);
        OSSL_STORE_INFO_free(found);
    }
    if (st != NULL) {
        (void)OSSL_STORE_close(st);
    }
    return pkey;
}

static EVP_PKEY *load_pem(struct tpm *t, struct span text)
{
    EVP_PKEY *pkey = NULL;
    AUTO(bio_free_p) BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
    OSSL_DECODER_CTX *d =
        OSSL_DECODER_CTX_new_for_pkey(&pkey, "PEM", NULL, NULL, 0, t->ctx, PROPERTIES);
    bool ok = bio != NULL && d != NULL &&
              OSSL_DECODER_CTX_set_passphrase_cb(d, no_password, NULL) == 1 &&
              OSSL_DECODER_from_bio(d, bio) == 1;
    OSSL_DECODER_CTX_free(d);
    if (!ok) {
        EVP_PKEY_free(pkey);
        return NULL;
    }
    return pkey;
}

static enum err tpm_open(struct tpm **ret, struct err_info *info)
{
    AUTO(tpm_free_p) struct tpm *t = NEW(struct tpm);
    if (t == NULL || (t->ctx = OSSL_LIB_CTX_new()) == NULL) {
        return err_set(info, E_NOMEM, "TPM: out of memory");
    }
    if ((t->digests = OSSL_PROVIDER_load(t->ctx, "default")) == NULL) {
        return crypto_err(info, E_CRYPTO, "OpenSSL's default provider");
    }
    if ((t->own = OSSL_PROVIDER_load(t->ctx, "tpm2")) == NULL) {
        return crypto_err(info, E_AGAIN,
                          "the TPM does not answer, or OpenSSL has no provider \"tpm2\" "
                          "(package tpm2-openssl)");
    }
    *ret = TAKE(t);
    return OK;
}

enum err hard_tpm_open(struct span ref, struct signer_key **ret, struct err_info *info)
{
    AUTO(tpm_free_p) struct tpm *t = NULL;
    struct signer_key *k = NULL;
    char uri[32];
    enum err e = hard_tpm_check(ref, info);
    ERR_clear_error();
    if (e != OK || (e = tpm_open(&t, info)) != OK) {
        return e;
    }
    EVP_PKEY *pkey = span_to_cstr(ref, uri, sizeof(uri)) ? load_handle(t, uri) : load_pem(t, ref);
    if (pkey == NULL) {
        return crypto_err(info, E_AGAIN, "the TPM does not load the key");
    }
    if ((e = signer_key_wrap(pkey, &k, info)) != OK) {
        return e;
    }
    k->is_hard = true;
    k->libctx = t->ctx;
    k->propq = PROPERTIES;
    k->close = close_key;
    k->arg = TAKE(t);
    *ret = k;
    return OK;
}
