/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: one verdict with all its rules, for clients and for keys of TPMs. */
#include "certs/chain.h"

#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "certs/cert_int.h"
#include "certs/chain_int.h"
#include "certs/keyring.h"

#define AUTH_LEVEL 2 /* OpenSSL's own floor below ours: 112 bits */

struct chain_anchors {
    X509_STORE *store;
    bool is_ek;
    uint8_t digest[CERT_SHA256];
    size_t n_trusted;
    size_t n;
    struct cert *cert[2 * LIMIT_CA_CERTS]; /* trusted ones first */
};

static const char *const verdict_names[] = {
    /* clang-format off */
    [CHAIN_OK]            = "ok",
    [CHAIN_MALFORMED]     = "malformed",
    [CHAIN_NO_ANCHOR]     = "no-anchor",
    [CHAIN_EXPIRED]       = "expired",
    [CHAIN_NOT_YET_VALID] = "not-yet-valid",
    [CHAIN_BAD_SIGNATURE] = "bad-signature",
    [CHAIN_NOT_CA]        = "not-a-ca",
    [CHAIN_PATHLEN]       = "pathlen",
    [CHAIN_EKU]           = "eku",
    [CHAIN_NAME]          = "name-constraints",
    [CHAIN_WEAK]          = "weak",
    [CHAIN_OTHER]         = "other",
    /* clang-format on */
};

const char *chain_verdict_name(enum chain_verdict v)
{
    return v >= CHAIN_OK && v <= CHAIN_OTHER ? verdict_names[v] : "invalid";
}

bool chain_path_has_issuer(const struct chain_path *p, const uint8_t sha256_[CERT_SHA256])
{
    for (size_t i = 1; i < p->n; i++) {
        if (span_eq(span_of(p->sha256[i], CERT_SHA256), span_of(sha256_, CERT_SHA256))) {
            return true;
        }
    }
    return false;
}

/* --- anchors -------------------------------------------------------------------------------- */

/*
 * OpenSSL takes the first issuer whose name (and key identifier) fits and never comes back, so of
 * two trusted CAs with one name, as after a change of keys, it may try the wrong one. Where that can
 * happen the signature picks the issuer.
 */
static int issued_by_signature(X509_STORE_CTX *ctx, X509 *x, X509 *issuer)
{
    (void)ctx;
    int v = X509_check_issued(issuer, x);
    if (v != X509_V_OK && v != X509_V_ERR_KEYUSAGE_NO_CERTSIGN) {
        return 0; /* an issuer that may not sign is found here and refused by name later */
    }
    EVP_PKEY *k = X509_get0_pubkey(issuer);
    int ok = k != NULL && X509_verify(x, k) == 1;
    ERR_clear_error();
    return ok;
}

static bool has_namesakes(const struct chain_anchors *a)
{
    for (size_t i = 0; i < a->n_trusted; i++) {
        for (size_t j = i + 1; j < a->n_trusted; j++) {
            if (X509_NAME_cmp(X509_get_subject_name(a->cert[i]->x),
                              X509_get_subject_name(a->cert[j]->x)) == 0) {
                return true;
            }
        }
    }
    return false;
}

static enum err build_store(struct chain_anchors *a)
{
    a->store = X509_STORE_new();
    if (a->store == NULL) {
        return E_NOMEM;
    }
    for (size_t i = 0; i < a->n_trusted; i++) {
        if (X509_STORE_add_cert(a->store, a->cert[i]->x) != 1) {
            return E_NOMEM;
        }
    }
    X509_VERIFY_PARAM *p = X509_STORE_get0_param(a->store);
    if (X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_X509_STRICT) != 1 ||
        X509_VERIFY_PARAM_set_purpose(p, a->is_ek ? X509_PURPOSE_ANY : X509_PURPOSE_SSL_CLIENT) !=
            1) {
        return E_CRYPTO;
    }
    X509_VERIFY_PARAM_set_depth(p, (int)LIMIT_CHAIN_CERTS);
    X509_VERIFY_PARAM_set_auth_level(p, AUTH_LEVEL);
    if (has_namesakes(a)) {
        X509_STORE_set_check_issued(a->store, issued_by_signature);
    }
    return OK;
}

static enum err add_digest(struct chain_anchors *a)
{
    AUTO(buf_done) struct buf b = BUF_INIT(4 + ARRAY_LEN(a->cert) * CERT_SHA256);
    buf_add_be32(&b, (uint32_t)a->n_trusted);
    for (size_t i = 0; i < a->n; i++) {
        buf_add(&b, span_of(a->cert[i]->sha256, CERT_SHA256));
    }
    sha256(buf_span(&b), a->digest);
    return buf_err(&b);
}

static enum err anchors_new(struct cert *const *trusted, size_t n_trusted,
                            struct cert *const *helping, size_t n_helping, bool is_ek,
                            struct chain_anchors **ret)
{
    if (n_trusted > LIMIT_CA_CERTS || n_helping > LIMIT_CA_CERTS) {
        return E_LIMIT;
    }
    AUTO(chain_anchors_free_p) struct chain_anchors *a = NEW(struct chain_anchors);
    if (a == NULL) {
        return E_NOMEM;
    }
    a->is_ek = is_ek;
    for (size_t i = 0; i < n_trusted; i++) {
        a->cert[a->n++] = cert_ref(trusted[i]);
    }
    a->n_trusted = n_trusted;
    for (size_t i = 0; i < n_helping; i++) {
        a->cert[a->n++] = cert_ref(helping[i]);
    }
    ERR_clear_error();
    enum err e = build_store(a);
    ERR_clear_error();
    if (e != OK || (e = add_digest(a)) != OK) {
        return e;
    }
    *ret = TAKE(a);
    return OK;
}

enum err chain_anchors_new(struct cert *const *trusted, size_t n_trusted,
                           struct cert *const *helping, size_t n_helping,
                           struct chain_anchors **ret)
{
    return anchors_new(trusted, n_trusted, helping, n_helping, false, ret);
}

enum err chain_anchors_new_ek(struct cert *const *trusted, size_t n_trusted,
                              struct chain_anchors **ret)
{
    return anchors_new(trusted, n_trusted, NULL, 0, true, ret);
}

void chain_anchors_free(struct chain_anchors *a)
{
    if (a == NULL) {
        return;
    }
    X509_STORE_free(a->store);
    for (size_t i = 0; i < a->n; i++) {
        cert_free(a->cert[i]);
    }
    free(a);
}

const uint8_t *chain_anchors_digest(const struct chain_anchors *a)
{
    return a->digest;
}

/* --- OpenSSL's errors, and which link they mean ----------------------------------------------- */

static const struct {
    int code;
    enum chain_verdict verdict;
    const char *text; /* NULL: OpenSSL's */
} rules[] = {
    /* clang-format off */
    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,         CHAIN_NO_ANCHOR,     "its issuer is not known here" },
    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, CHAIN_NO_ANCHOR,     "its issuer is not known here" },
    { X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,   CHAIN_NO_ANCHOR,     "its issuer is not known here" },
    { X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,       CHAIN_NO_ANCHOR,     "self-signed and not trusted" },
    { X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,         CHAIN_NO_ANCHOR,     "self-signed and not trusted" },
    { X509_V_ERR_CERT_UNTRUSTED,                    CHAIN_NO_ANCHOR,     "not trusted" },
    { X509_V_ERR_CERT_CHAIN_TOO_LONG,               CHAIN_NO_ANCHOR,     "chain too long" },
    { X509_V_ERR_CERT_HAS_EXPIRED,                  CHAIN_EXPIRED,       "expired" },
    { X509_V_ERR_CERT_NOT_YET_VALID,                CHAIN_NOT_YET_VALID, "not yet valid" },
    { X509_V_ERR_CERT_SIGNATURE_FAILURE,            CHAIN_BAD_SIGNATURE, "signature does not verify with its issuer's key" },
    { X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE,  CHAIN_BAD_SIGNATURE, NULL },
    { X509_V_ERR_SIGNATURE_ALGORITHM_MISMATCH,      CHAIN_BAD_SIGNATURE, NULL },
    { X509_V_ERR_SIGNATURE_ALGORITHM_INCONSISTENCY, CHAIN_BAD_SIGNATURE, NULL },
    { X509_V_ERR_INVALID_CA,                        CHAIN_NOT_CA,        "signs, but is no CA (basicConstraints)" },
    { X509_V_ERR_INVALID_NON_CA,                    CHAIN_NOT_CA,        NULL },
    { X509_V_ERR_KEYUSAGE_NO_CERTSIGN,              CHAIN_NOT_CA,        "signs, but its keyUsage has no keyCertSign" },
    { X509_V_ERR_KU_KEY_CERT_SIGN_INVALID_FOR_NON_CA, CHAIN_NOT_CA,      "keyCertSign, but no CA" },
    { X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA,        CHAIN_NOT_CA,        "pathlen, but no CA" },
    { X509_V_ERR_PATH_LENGTH_EXCEEDED,              CHAIN_PATHLEN,       "pathlen exceeded" },
    { X509_V_ERR_INVALID_PURPOSE,                   CHAIN_EKU,           "extended key usage without clientAuth" },
    { X509_V_ERR_PERMITTED_VIOLATION,               CHAIN_NAME,          "outside the names its issuers may give" },
    { X509_V_ERR_EXCLUDED_VIOLATION,                CHAIN_NAME,          "among the names its issuers may not give" },
    { X509_V_ERR_SUBTREE_MINMAX,                    CHAIN_NAME,          NULL },
    { X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE,       CHAIN_NAME,          NULL },
    { X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX,     CHAIN_NAME,          NULL },
    { X509_V_ERR_UNSUPPORTED_NAME_SYNTAX,           CHAIN_NAME,          NULL },
    { X509_V_ERR_EE_KEY_TOO_SMALL,                  CHAIN_WEAK,          NULL },
    { X509_V_ERR_CA_KEY_TOO_SMALL,                  CHAIN_WEAK,          NULL },
    { X509_V_ERR_CA_MD_TOO_WEAK,                    CHAIN_WEAK,          NULL },
    { X509_V_ERR_EC_KEY_EXPLICIT_PARAMS,            CHAIN_WEAK,          NULL },
    /* clang-format on */
};

/* Strict findings that the specification admits (see the header). */
static bool is_admitted(int code)
{
    static const int admitted[] = {
        X509_V_ERR_MISSING_AUTHORITY_KEY_IDENTIFIER,
        X509_V_ERR_MISSING_SUBJECT_KEY_IDENTIFIER,
        X509_V_ERR_CA_CERT_MISSING_KEY_USAGE,
        X509_V_ERR_CA_BCONS_NOT_CRITICAL,
    };
    for (size_t i = 0; i < ARRAY_LEN(admitted); i++) {
        if (admitted[i] == code) {
            return true;
        }
    }
    return false;
}

static enum chain_verdict refuse(enum chain_verdict v, enum err e, size_t at, X509 *x,
                                 const char *text, struct err_info *info)
{
    if (info != NULL) {
        char name[NAME_SHORT] = "?";
        if (x != NULL) {
            name_to_cstr(X509_get_subject_name(x), name, sizeof(name));
        }
        (void)err_set(info, e, "link %zu '%s': %s", at, name, text);
    }
    return v;
}

/* INVALID_PURPOSE means EKU or keyUsage. */
static bool is_key_usage(int code, X509 *x)
{
    return code == X509_V_ERR_INVALID_PURPOSE && x != NULL &&
           (X509_get_extended_key_usage(x) & XKU_SSL_CLIENT) != 0;
}

static enum chain_verdict refuse_code(X509_STORE_CTX *ctx, struct err_info *info)
{
    int code = X509_STORE_CTX_get_error(ctx);
    size_t at = (size_t)MAX(X509_STORE_CTX_get_error_depth(ctx), 0);
    X509 *x = X509_STORE_CTX_get_current_cert(ctx);
    enum chain_verdict v = CHAIN_OTHER;
    const char *text = X509_verify_cert_error_string(code);
    if (x == NULL) {
        x = sk_X509_value(X509_STORE_CTX_get0_chain(ctx), (int)at);
    }
    if (is_key_usage(code, x)) {
        return refuse(CHAIN_OTHER, E_CHAIN, at, x, "keyUsage does not admit TLS client", info);
    }
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (rules[i].code == code) {
            v = rules[i].verdict;
            text = rules[i].text != NULL ? rules[i].text : text;
            break;
        }
    }
    return refuse(v, E_CHAIN, at, x, text, info);
}

/* --- endorsement keys: their purpose, of which OpenSSL has no table ---------------------------- */

#define EKU_EK "2.23.133.8.1" /* tcg-kp-EKCertificate */
#define EKU_ANY "2.5.29.37.0"

static bool admits_ek(X509 *x, bool is_leaf)
{
    EXTENDED_KEY_USAGE *u = X509_get_ext_d2i(x, NID_ext_key_usage, NULL, NULL);
    bool found = u == NULL && !is_leaf;
    for (int i = 0; !found && i < sk_ASN1_OBJECT_num(u); i++) {
        char oid[32];
        int n = OBJ_obj2txt(oid, sizeof(oid), sk_ASN1_OBJECT_value(u, i), 1);
        struct span s = span_of(oid, n > 0 && n < (int)sizeof(oid) ? (size_t)n : 0);
        found = span_is(s, EKU_EK) || (!is_leaf && span_is(s, EKU_ANY));
    }
    EXTENDED_KEY_USAGE_free(u);
    return found;
}

static enum chain_verdict check_ek_purpose(STACK_OF(X509) * chain, struct err_info *info)
{
    X509 *leaf = sk_X509_value(chain, 0);
    if ((X509_get_extension_flags(leaf) & EXFLAG_CA) != 0) {
        return refuse(CHAIN_OTHER, E_CHAIN, 0, leaf,
                      "a CA's certificate is not that of a key in a TPM", info);
    }
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *x = sk_X509_value(chain, i);
        if (!admits_ek(x, i == 0)) {
            return refuse(CHAIN_EKU, E_CHAIN, (size_t)i, x,
                          "extended key usage without that of endorsement keys (" EKU_EK ")", info);
        }
    }
    return CHAIN_OK;
}

/* --- the walk ------------------------------------------------------------------------------- */

static int on_finding(int ok, X509_STORE_CTX *ctx)
{
    if (!ok && is_admitted(X509_STORE_CTX_get_error(ctx))) {
        X509_STORE_CTX_set_error(ctx, X509_V_OK);
        return 1;
    }
    return ok;
}

static const struct cert *owner_of(const struct chain_anchors *a, struct cert *const *presented,
                                   size_t n, const X509 *x)
{
    for (size_t i = 0; i < n; i++) {
        if (presented[i]->x == x) {
            return presented[i];
        }
    }
    for (size_t i = 0; i < a->n; i++) {
        if (a->cert[i]->x == x) {
            return a->cert[i];
        }
    }
    return NULL;
}

static bool path_holds(const struct chain_path *p, const struct cert *c)
{
    for (size_t i = 0; i < p->n; i++) {
        if (span_eq(span_of(p->sha256[i], CERT_SHA256), span_of(c->sha256, CERT_SHA256))) {
            return true;
        }
    }
    return false;
}

static void path_add(struct chain_path *p, const struct cert *c)
{
    memcpy(p->sha256[p->n++], c->sha256, CERT_SHA256);
    p->not_before_us = MAX(p->not_before_us, c->not_before_us);
    p->not_after_us = MIN(p->not_after_us, c->not_after_us);
}

static bool may_stand_above(const struct chain_path *p, const struct cert *c,
                            const struct cert *below, int64_t now_us)
{
    return c->not_before_us <= now_us && now_us < c->not_after_us && cert_is_ca(c) &&
           !path_holds(p, c) && cert_issued_by(below, c);
}

/* OpenSSL ends a partial chain at the first trusted certificate; who wants to know whether the path
 * runs under some CA wants the rest too. It is proven by signatures, and decides nothing here. */
static void path_ascend(const struct chain_anchors *a, struct cert *const *presented, size_t n,
                        const struct cert *top, int64_t now_us, struct chain_path *p)
{
    while (top != NULL && !cert_is_self_issued(top) && p->n < ARRAY_LEN(p->sha256)) {
        const struct cert *next = NULL;
        for (size_t i = 0; next == NULL && i < a->n + n; i++) {
            const struct cert *c = i < a->n ? a->cert[i] : presented[i - a->n];
            next = may_stand_above(p, c, top, now_us) ? c : NULL;
        }
        if (next != NULL) {
            path_add(p, next);
        }
        top = next;
    }
}

static enum chain_verdict fill_path(const struct chain_anchors *a, struct cert *const *presented,
                                    size_t n, X509_STORE_CTX *ctx, int64_t now_us,
                                    struct chain_path *ret, struct err_info *info)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    int len = sk_X509_num(chain);
    struct chain_path path = {.not_before_us = INT64_MIN, .not_after_us = INT64_MAX};
    const struct cert *c = NULL;
    if (len < 2 || len > (int)ARRAY_LEN(path.sha256)) {
        return refuse(CHAIN_OTHER, E_CHAIN, 0, presented[0]->x, "path of impossible length", info);
    }
    for (int i = 0; i < len; i++) {
        c = owner_of(a, presented, n, sk_X509_value(chain, i));
        if (c == NULL) {
            return refuse(CHAIN_OTHER, E_CRYPTO, (size_t)i, NULL, "not one of ours", info);
        }
        path_add(&path, c);
    }
    path.anchor = path.n - 1;
    path_ascend(a, presented, n, c, now_us, &path);
    *ret = path;
    return CHAIN_OK;
}

static enum chain_verdict run(const struct chain_anchors *a, struct cert *const *presented,
                              size_t n, X509_STORE_CTX *ctx, STACK_OF(X509) * untrusted,
                              int64_t now_us, struct chain_path *ret_path, struct err_info *info)
{
    if (X509_STORE_CTX_init(ctx, a->store, presented[0]->x, untrusted) != 1) {
        return refuse(CHAIN_OTHER, E_NOMEM, 0, presented[0]->x, "out of memory", info);
    }
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)(now_us / 1000000));
    X509_STORE_CTX_set_verify_cb(ctx, on_finding);
    int rc = X509_verify_cert(ctx);
    if (rc == 1) {
        enum chain_verdict v =
            a->is_ek ? check_ek_purpose(X509_STORE_CTX_get0_chain(ctx), info) : CHAIN_OK;
        if (v != CHAIN_OK) {
            return v;
        }
        return fill_path(a, presented, n, ctx, now_us, ret_path, info);
    }
    return refuse_code(ctx, info);
}

static enum chain_verdict check_links(const struct chain_anchors *a, struct cert *const *presented,
                                      size_t n, struct err_info *info)
{
    for (size_t i = 0; i < n; i++) {
        struct err_info why = {0};
        enum err e = cert_check_strength(presented[i], &why);
        if (e != OK) {
            return refuse(CHAIN_WEAK, e, i, presented[i]->x, err_why(&why, e), info);
        }
    }
    for (size_t i = 0; i < a->n_trusted; i++) {
        if (span_eq(cert_der(a->cert[i]), cert_der(presented[0]))) {
            return refuse(CHAIN_OTHER, E_CHAIN, 0, presented[0]->x,
                          "is a trusted CA itself, not a device", info);
        }
    }
    return CHAIN_OK;
}

enum chain_verdict chain_verify_parsed(const struct chain_anchors *a, struct cert *const *presented,
                                       size_t n, int64_t now_us, struct chain_path *ret_path,
                                       struct err_info *info)
{
    ASSERT(n >= 1 && n <= LIMIT_CHAIN_CERTS + 1);
    enum chain_verdict v = check_links(a, presented, n, info);
    if (v != CHAIN_OK) {
        return v;
    }
    ERR_clear_error();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *untrusted = sk_X509_new_reserve(NULL, (int)(n + a->n - a->n_trusted));
    if (ctx == NULL || untrusted == NULL) {
        v = refuse(CHAIN_OTHER, E_NOMEM, 0, presented[0]->x, "out of memory", info);
    } else {
        for (size_t i = 1; i < n; i++) {
            (void)sk_X509_push(untrusted, presented[i]->x); /* reserved */
        }
        for (size_t i = a->n_trusted; i < a->n; i++) {
            (void)sk_X509_push(untrusted, a->cert[i]->x);
        }
        v = run(a, presented, n, ctx, untrusted, now_us, ret_path, info);
    }
    X509_STORE_CTX_free(ctx);
    sk_X509_free(untrusted);
    ERR_clear_error();
    return v;
}

/* --- from bytes ------------------------------------------------------------------------------- */

enum chain_verdict chain_check_peer(const struct cert_peer *peer, struct err_info *info)
{
    if (peer->leaf_der.n == 0) {
        (void)err_set(info, E_CERT, "no certificate was presented");
        return CHAIN_MALFORMED;
    }
    if (peer->n_chain > LIMIT_CHAIN_CERTS) {
        (void)err_set(info, E_CERT, "%zu certificates behind the leaf; %u allowed", peer->n_chain,
                      LIMIT_CHAIN_CERTS);
        return CHAIN_MALFORMED;
    }
    return CHAIN_OK;
}

enum chain_verdict chain_parse_link(struct crypto_lib *lib, const struct cert_peer *peer, size_t at,
                                    struct cert **ret, struct err_info *info)
{
    enum err e = at == 0 ? cert_of_leaf(lib, peer, ret, info)
                         : cert_from_der_in(lib, peer->chain_der[at - 1], ret, info);
    if (e != OK) {
        (void)err_wrap(info, e, "link %zu", at);
        return err_class(e) == ERR_T_PEER ? CHAIN_MALFORMED : CHAIN_OTHER;
    }
    return CHAIN_OK;
}

enum chain_verdict chain_verify(const struct chain_anchors *a, const struct cert_peer *peer,
                                int64_t now_us, struct chain_path *ret_path, struct err_info *info)
{
    struct cert *presented[LIMIT_CHAIN_CERTS + 1] = {NULL};
    size_t n = 0;
    enum chain_verdict v = chain_check_peer(peer, info);
    while (v == CHAIN_OK && n <= peer->n_chain) {
        v = chain_parse_link(NULL, peer, n, &presented[n], info);
        n++;
    }
    if (v == CHAIN_OK) {
        v = chain_verify_parsed(a, presented, n, now_us, ret_path, info);
    }
    for (size_t i = 0; i < n; i++) {
        cert_free(presented[i]);
    }
    return v;
}
