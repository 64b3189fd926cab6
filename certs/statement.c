/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/statement.h"

#include <openssl/err.h>

#include "certs/signer_int.h"

static inline void md_ctx_free_p(EVP_MD_CTX **p)
{
    EVP_MD_CTX_free(*p);
}

static enum err check_text(struct span text, struct err_info *info)
{
    return text.n > 0 && text.p[0] != 0x30 ? OK : err_set(info, E_ARG, "this is no statement");
}

enum err statement_sign(const struct signer_key *k, struct span text, struct buf *ret,
                        struct err_info *info)
{
    ASSERT(!k->is_hard);
    AUTO(md_ctx_free_p) EVP_MD_CTX *c = EVP_MD_CTX_new();
    uint8_t sig[LIMIT_RSA_BITS_MAX / 8];
    size_t n = sizeof(sig);
    enum err e = check_text(text, info);
    if (e != OK) {
        return e;
    }
    if (c == NULL || EVP_DigestSignInit(c, NULL, signer_digest(k->pkey), NULL, k->pkey) != 1 ||
        EVP_DigestSign(c, sig, &n, text.p, text.n) != 1) {
        return crypto_err(info, E_CRYPTO, "signing");
    }
    buf_add(ret, span_of(sig, n));
    return buf_err(ret);
}

enum err statement_check(const struct cert *by, struct span text, struct span signature,
                         struct err_info *info)
{
    AUTO(md_ctx_free_p) EVP_MD_CTX *c = EVP_MD_CTX_new();
    EVP_PKEY *key = cert_key(by);
    enum err e = check_text(text, info);
    if (e == OK && key != NULL) {
        e = pkey_check(key, info);
    }
    if (e != OK) {
        return e;
    }
    if (c == NULL || key == NULL ||
        EVP_DigestVerifyInit(c, NULL, signer_digest(key), NULL, key) != 1) {
        return crypto_err(info, E_CRYPTO, "checking a signature");
    }
    if (EVP_DigestVerify(c, signature.p, signature.n, text.p, text.n) != 1) {
        ERR_clear_error();
        return err_set(info, E_SIGNATURE, "the signature is not that of this text and this key");
    }
    return OK;
}
