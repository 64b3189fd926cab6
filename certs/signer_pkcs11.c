/* SPDX-License-Identifier: Apache-2.0 */
/* Keys in PKCS#11 tokens, through the engine "pkcs11" of libp11: this release of OpenSSL has no provider for them. The only file that may use
 * engines. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "certs/signer_hard.h"

#include <ctype.h>
#include <stdlib.h>

#include <openssl/engine.h>
#include <openssl/err.h>

#include "base/secret.h"
#include "certs/private_file.h"
#include "certs/signer_int.h"

#define PIN_MAX 256u

/* One engine for all keys: a second one would start, and end, the same module under the first. */
struct hard_keys {
    pthread_mutex_t lock; /* of the engine's start and of opening */
    char *module, *pin_file;
    ENGINE *engine;
    bool is_pin_refused; /* not offered again: tokens lock after a few wrong ones */
};

enum err hard_keys_new(const char *module, const char *pin_file, struct hard_keys **ret)
{
    struct hard_keys *h = NEW(struct hard_keys);
    if (h == NULL) {
        return E_NOMEM;
    }
    (void)pthread_mutex_init(&h->lock, NULL); /* cannot fail with default attributes */
    h->module = module != NULL ? span_dup(span_str(module)) : NULL;
    h->pin_file = pin_file != NULL ? span_dup(span_str(pin_file)) : NULL;
    if ((module != NULL && h->module == NULL) || (pin_file != NULL && h->pin_file == NULL)) {
        hard_keys_free(h);
        return E_NOMEM;
    }
    *ret = h;
    return OK;
}

void hard_keys_free(struct hard_keys *h)
{
    if (h == NULL) {
        return;
    }
    if (h->engine != NULL) {
        (void)ENGINE_finish(h->engine);
        (void)ENGINE_free(h->engine);
    }
    free(h->module);
    free(h->pin_file);
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}

/* --- the reference ---------------------------------------------------------------------------- */

enum err hard_pkcs11_check(struct span uri, struct err_info *info)
{
    static const char *const refused[] = {"pin-value", "pin-source", "module-path", "module-name"};
    if (!span_starts(uri, SPAN_LIT("pkcs11:")) || uri.n > HARD_REF_MAX) {
        return err_set(info, E_ARG, "a PKCS#11 URI begins with \"pkcs11:\"");
    }
    for (size_t i = 0; i < uri.n; i++) {
        if (!isgraph(uri.p[i]) || uri.p[i] > 0x7e) {
            return err_set(info, E_ARG,
                           "a PKCS#11 URI has no blanks and escapes other bytes by %%");
        }
    }
    struct span rest = span_sub(uri, 7, uri.n - 7);
    while (rest.n != 0) {
        size_t n = 0;
        while (n < rest.n && strchr(";?&", rest.p[n]) == NULL) {
            n++;
        }
        struct span attribute = span_sub(rest, 0, n);
        struct span name = span_cut(&attribute, '=');
        for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
            if (span_is_nocase(name, refused[i])) {
                return err_set(info, E_ARG, "\"%s\" is a matter of the server's configuration",
                               refused[i]);
            }
        }
        rest = span_sub(rest, MIN(n + 1, rest.n), rest.n - MIN(n + 1, rest.n));
    }
    return OK;
}

/* --- the engine ------------------------------------------------------------------------------- */

static enum err set_pin(ENGINE *e, const char *pin_file, struct err_info *info)
{
    struct buf pin = BUF_INIT(PIN_MAX);
    if (pin_file == NULL) {
        return OK;
    }
    (void)buf_reserve(&pin, PIN_MAX); /* at once, so that no copy stays behind */
    enum err err = private_file_read(pin_file, &pin, info);
    while (err == OK && pin.n != 0 && (pin.p[pin.n - 1] == '\n' || pin.p[pin.n - 1] == '\r')) {
        pin.n--;
    }
    if (err == OK) {
        buf_add_u8(&pin, 0);
        err = buf_err(&pin);
    }
    if (err == OK && ENGINE_ctrl_cmd_string(e, "PIN", (const char *)pin.p, 0) != 1) {
        err = crypto_err(info, E_CONFIG, "PIN of the PKCS#11 token");
    }
    if (pin.p != NULL) {
        mem_wipe(pin.p, pin.cap);
    }
    buf_done(&pin);
    return err;
}

static enum err engine_start(struct hard_keys *h, struct err_info *info)
{
    if (h->engine != NULL) {
        return OK;
    }
    if (h->module == NULL) {
        return err_set(info, E_CONFIG, "no PKCS#11 module is configured (issuer.pkcs11-module)");
    }
    ENGINE_load_dynamic();
    ENGINE *e = ENGINE_by_id("pkcs11");
    if (e == NULL) {
        return crypto_err(info, E_CONFIG,
                          "OpenSSL has no engine \"pkcs11\" (install libengine-pkcs11-openssl)");
    }
    enum err err = OK;
    if (ENGINE_ctrl_cmd_string(e, "MODULE_PATH", h->module, 0) != 1) {
        err = crypto_err(info, E_CONFIG, "PKCS#11 module");
    } else if (ENGINE_ctrl_cmd_string(e, "QUIET", NULL, 0) != 1 || ENGINE_init(e) != 1) {
        err = crypto_err(info, E_AGAIN, "PKCS#11 module does not start");
    }
    if (err != OK) {
        (void)ENGINE_free(e);
        return err;
    }
    h->engine = e;
    return OK;
}

/* PKCS #11 v2.40: CKR_PIN_INCORRECT, _INVALID, _LEN_RANGE, _EXPIRED, _LOCKED. */
static bool pin_was_refused(void)
{
    unsigned long why = ERR_peek_error();
    const char *lib = ERR_lib_error_string(why);
    int reason = ERR_GET_REASON(why);
    return lib != NULL && span_is(span_str(lib), "PKCS#11 module") && reason >= 0xa0 &&
           reason <= 0xa4;
}

static enum err load_key(struct hard_keys *h, const char *uri, EVP_PKEY **ret,
                         struct err_info *info)
{
    if (h->is_pin_refused) {
        return err_set(info, E_PERM,
                       "the PKCS#11 token refused the PIN; it is not offered again before the "
                       "service is started anew");
    }
    enum err e = engine_start(h, info);
    if (e != OK || (e = set_pin(h->engine, h->pin_file, info)) != OK) {
        return e;
    }
    ERR_clear_error();
    if ((*ret = ENGINE_load_private_key(h->engine, uri, NULL, NULL)) != NULL) {
        return OK;
    }
    h->is_pin_refused = pin_was_refused();
    return crypto_err(info, h->is_pin_refused ? E_PERM : E_AGAIN,
                      "PKCS#11 token does not give the key");
}

enum err hard_pkcs11_open(struct hard_keys *h, struct span uri, struct signer_key **ret,
                          struct err_info *info)
{
    char text[HARD_REF_MAX + 1];
    struct signer_key *k = NULL;
    EVP_PKEY *pkey = NULL;
    enum err e = hard_pkcs11_check(uri, info);
    if (e != OK || !span_to_cstr(uri, text, sizeof(text))) {
        return e != OK ? e : E_ARG;
    }
    (void)pthread_mutex_lock(&h->lock);
    e = load_key(h, text, &pkey, info);
    (void)pthread_mutex_unlock(&h->lock);
    if (e != OK || (e = signer_key_wrap(pkey, &k, info)) != OK) {
        return e;
    }
    k->is_hard = true;
    *ret = k;
    return OK;
}
