/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crypto_lib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

struct crypto_lib {
    atomic_uint refs;
    OSSL_LIB_CTX *full;
    OSSL_PROVIDER *full_provider;
    OSSL_LIB_CTX *lean;
    OSSL_PROVIDER *lean_provider;
    EVP_PKEY *p256;
};

/* --- what the lean provider hands out ------------------------------------------------------- */

#define DECODERS_MAX 32u

/*
 * The tables of the default provider are the same in every context (they are constants of it), so one instance that is never unloaded
 * answers for all; what differs is the provider's own state, and that is of the context in whose name an algorithm is made.
 */
static OSSL_PROVIDER *pattern; /* set once */
static OSSL_ALGORITHM decoders[DECODERS_MAX + 1];

static bool is_wanted(const OSSL_ALGORITHM *a)
{
    static const char *const keys[] = {"RSA", "RSA-PSS", "EC", "ED25519", "ED448"};
    if (strstr(a->property_definition, "input=der") == NULL ||
        strstr(a->property_definition, "structure=SubjectPublicKeyInfo") == NULL) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strcmp(a->algorithm_names, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void make_tables(void)
{
    OSSL_LIB_CTX *lib = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *p = lib != NULL ? OSSL_PROVIDER_load(lib, "default") : NULL;
    int no_cache = 0;
    const OSSL_ALGORITHM *a =
        p != NULL ? OSSL_PROVIDER_query_operation(p, OSSL_OP_DECODER, &no_cache) : NULL;
    size_t n = 0;
    for (; a != NULL && a->algorithm_names != NULL && n < DECODERS_MAX; a++) {
        if (is_wanted(a)) {
            decoders[n++] = *a;
        }
    }
    if (n == 0) {
        OSSL_PROVIDER_unload(p);
        OSSL_LIB_CTX_free(lib);
        return;
    }
    pattern = p;
}

static const OSSL_ALGORITHM *lean_query(void *provctx UNUSED, int operation, int *no_cache)
{
    if (operation == OSSL_OP_DECODER) {
        *no_cache = 0;
        return decoders;
    }
    return OSSL_PROVIDER_query_operation(pattern, operation, no_cache);
}

static int lean_capabilities(void *provctx UNUSED, const char *capability, OSSL_CALLBACK *cb,
                             void *arg)
{
    return OSSL_PROVIDER_get_capabilities(pattern, capability, cb, arg);
}

/* The state is that of the context's own default provider, which ends it. */
static void lean_teardown(void *provctx UNUSED)
{
}

static _Thread_local OSSL_PROVIDER *loading; /* for lean_init, which OpenSSL calls inside of load */

static int lean_init(const OSSL_CORE_HANDLE *handle UNUSED, const OSSL_DISPATCH *in UNUSED,
                     const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))lean_query},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))lean_capabilities},
        {OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))lean_teardown},
        {0, NULL},
    };
    *out = functions;
    *provctx = OSSL_PROVIDER_get0_provider_ctx(loading);
    return 1;
}

/* --- life ------------------------------------------------------------------------------------ */

static void lib_free(struct crypto_lib *l)
{
    EVP_PKEY_free(l->p256);
    if (l->lean_provider != NULL) {
        OSSL_PROVIDER_unload(l->lean_provider);
    }
    OSSL_LIB_CTX_free(l->lean);
    if (l->full_provider != NULL) {
        OSSL_PROVIDER_unload(l->full_provider);
    }
    OSSL_LIB_CTX_free(l->full);
    free(l);
}

static EVP_PKEY *curve(OSSL_LIB_CTX *lib, const char *name)
{
    EVP_PKEY *k = NULL;
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(lib, "EC", NULL);
    const OSSL_PARAM p[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (void *)(uintptr_t)name, strlen(name)),
        OSSL_PARAM_END,
    };
    bool ok = c != NULL && EVP_PKEY_fromdata_init(c) == 1 &&
              EVP_PKEY_fromdata(c, &k, EVP_PKEY_KEY_PARAMETERS, (OSSL_PARAM *)(uintptr_t)p) == 1;
    EVP_PKEY_CTX_free(c);
    return ok ? k : NULL;
}

static bool load(struct crypto_lib *l)
{
    static const char name[] = "berth";
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_tables); /* cannot fail */
    if (pattern == NULL || (l->full = OSSL_LIB_CTX_new()) == NULL ||
        (l->full_provider = OSSL_PROVIDER_load(l->full, "default")) == NULL ||
        (l->lean = OSSL_LIB_CTX_new()) == NULL ||
        OSSL_PROVIDER_add_builtin(l->lean, name, lean_init) != 1) {
        return false;
    }
    loading = l->full_provider;
    l->lean_provider = OSSL_PROVIDER_load(l->lean, name);
    loading = NULL;
    return l->lean_provider != NULL && (l->p256 = curve(l->lean, "P-256")) != NULL;
}

enum err crypto_lib_new(struct crypto_lib **ret, struct err_info *info)
{
    AUTO(crypto_lib_unref_p) struct crypto_lib *l = NEW(struct crypto_lib);
    if (l == NULL) {
        return err_set(info, E_NOMEM, "library context");
    }
    atomic_init(&l->refs, 1);
    if (!load(l)) {
        return err_set(info, E_CRYPTO, "library context of OpenSSL");
    }
    *ret = TAKE(l);
    return OK;
}

struct crypto_lib *crypto_lib_ref(struct crypto_lib *l)
{
    if (l != NULL) {
        atomic_fetch_add(&l->refs, 1);
    }
    return l;
}

void crypto_lib_unref(struct crypto_lib *l)
{
    if (l != NULL && atomic_fetch_sub(&l->refs, 1) == 1) {
        lib_free(l);
    }
}

void crypto_lib_thread_end(struct crypto_lib *l)
{
    OPENSSL_thread_stop_ex(l->lean);
    OPENSSL_thread_stop_ex(l->full); /* the algorithms' state, and so theirs, is there */
}

struct ossl_lib_ctx_st *crypto_lib_lean(const struct crypto_lib *l)
{
    return l->lean;
}

struct ossl_lib_ctx_st *crypto_lib_full(const struct crypto_lib *l)
{
    return l->full;
}

const struct evp_pkey_st *crypto_lib_p256(const struct crypto_lib *l)
{
    return l->p256;
}
