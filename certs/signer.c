/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/signer.h"

#include <arpa/inet.h>
#include <ctype.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "base/text.h"
#include "certs/signer_int.h"

#define SERIAL_SIZE 20 /* RFC 5280 4.1.2.2: at most 20 octets, positive */

static const struct profile {
    bool is_ca;
    int pathlen; /* -1: none */
    uint32_t usage;
    int purpose; /* EKU, NID_undef: none */
    bool alone;  /* may be self-signed */
    bool under;  /* may be issued by a CA */
    bool cn_is_id;
    bool has_hosts;
} profiles[] = {
    /* clang-format off */
    [PROFILE_ROOT_CA]         = { true,  -1, KU_KEY_CERT_SIGN | KU_CRL_SIGN, NID_undef,       true,  false, false, false },
    [PROFILE_INTERMEDIATE_CA] = { true,  0,  KU_KEY_CERT_SIGN | KU_CRL_SIGN, NID_undef,       false, true,  false, false },
    [PROFILE_DEVICE]          = { false, -1, KU_DIGITAL_SIGNATURE,           NID_client_auth, true,  true,  true,  false },
    [PROFILE_SERVER]          = { false, -1, KU_DIGITAL_SIGNATURE,           NID_server_auth, true,  true,  false, true },
    [PROFILE_PROOF]           = { false, -1, KU_DIGITAL_SIGNATURE,           NID_undef,       false, true,  false, false },
    /* clang-format on */
};

/* Everything that goes into one certificate. */
struct issue {
    const struct profile *profile;
    const struct cert_request *rq;
    const struct signer_key *key;
    const struct cert *issuer; /* NULL: self-signed */
    EVP_PKEY *subject_key;     /* borrowed; used for its public half */
    const struct csr *csr;     /* NULL, or of whom subject_key is */
    bool is_key_copied;        /* x does not know subject_key parsed */
};

/* --- what the profile permits ----------------------------------------------------------------- */

static enum err check_issuer(const struct issue *is, struct err_info *info)
{
    const struct profile *p = is->profile;
    if (is->issuer == NULL) {
        return p->alone ? OK : err_set(info, E_CERT, "this profile needs an issuer");
    }
    if (!p->under) {
        return err_set(info, E_CERT, "this profile is self-signed");
    }
    if (!cert_is_ca(is->issuer)) {
        return err_set(info, E_CERT, "the issuer is no CA");
    }
    if (p->is_ca && X509_get_pathlen(is->issuer->x) == 0) {
        return err_set(info, E_CERT, "the issuer may not issue CAs (pathlen 0)");
    }
    if (!signer_key_fits(is->key, is->issuer)) {
        return err_set(info, E_CERT, "the key does not belong to the issuer");
    }
    if (is->rq->not_after_us / 1000000 > is->issuer->not_after_us / 1000000) {
        return err_set(info, E_CERT, "would outlive its issuer");
    }
    return OK;
}

static enum err check_request(const struct issue *is, struct err_info *info)
{
    const struct cert_request *rq = is->rq;
    if (is->profile->cn_is_id && !id_device_ok(rq->cn)) {
        return err_set(info, E_CERT, "CN is no device id");
    }
    if (rq->also_server && is->profile->purpose != NID_client_auth) {
        return err_set(info, E_CERT, "this profile has no further purpose");
    }
    if (rq->cn.n == 0 || rq->cn.n > LIMIT_X509_RID || rq->organization.n > LIMIT_X509_RID) {
        return err_set(info, E_CERT, "CN of 1 to %u bytes, organization of as many at most",
                       LIMIT_X509_RID);
    }
    if (rq->only.n > LIMIT_X509_RID || !span_is_utf8(rq->only) ||
        (rq->only.n > 0 && !is->profile->is_ca)) {
        return err_set(info, E_CERT, "only a CA is for one organization, of %u bytes at most",
                       LIMIT_X509_RID);
    }
    if (!span_is_utf8(rq->cn) || !span_is_utf8(rq->organization)) {
        return err_set(info, E_CERT, "CN or organization is not UTF-8");
    }
    if (rq->not_before_us >= rq->not_after_us) {
        return err_set(info, E_CERT, "ends before it begins");
    }
    if (is->profile->has_hosts ? rq->n_hosts == 0 || rq->n_hosts > LIMIT_CERT_HOSTS
                               : rq->n_hosts != 0) {
        return err_set(info, E_CERT, "%zu host names; a server has 1 to %u, others none",
                       rq->n_hosts, LIMIT_CERT_HOSTS);
    }
    return pkey_check(is->subject_key, info);
}

/* --- extensions ------------------------------------------------------------------------------- */

static bool put(X509 *x, int nid, void *value, bool critical)
{
    return value != NULL && X509_add1_ext_i2d(x, nid, value, critical, X509V3_ADD_DEFAULT) == 1;
}

static bool put_constraints(X509 *x, const struct profile *p)
{
    BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
    bool ok = bc != NULL;
    if (ok) {
        bc->ca = p->is_ca ? 0xff : 0;
        if (p->pathlen >= 0) {
            bc->pathlen = ASN1_INTEGER_new();
            ok = bc->pathlen != NULL && ASN1_INTEGER_set(bc->pathlen, p->pathlen) == 1;
        }
    }
    ok = ok && put(x, NID_basic_constraints, bc, true);
    BASIC_CONSTRAINTS_free(bc);
    return ok;
}

static bool put_usage(X509 *x, const struct profile *p)
{
    static const struct {
        uint32_t flag;
        int bit; /* RFC 5280 4.2.1.3 */
    } bits[] = {{KU_DIGITAL_SIGNATURE, 0}, {KU_KEY_CERT_SIGN, 5}, {KU_CRL_SIGN, 6}};
    ASN1_BIT_STRING *bs = ASN1_BIT_STRING_new();
    bool ok = bs != NULL;
    for (size_t i = 0; ok && i < ARRAY_LEN(bits); i++) {
        ok = (p->usage & bits[i].flag) == 0 || ASN1_BIT_STRING_set_bit(bs, bits[i].bit, 1) == 1;
    }
    ok = ok && put(x, NID_key_usage, bs, true);
    ASN1_BIT_STRING_free(bs);
    return ok;
}

static bool put_purpose(X509 *x, const struct profile *p, bool also_server)
{
    if (p->purpose == NID_undef) {
        return true;
    }
    EXTENDED_KEY_USAGE *eku = sk_ASN1_OBJECT_new_null();
    bool ok = eku != NULL && sk_ASN1_OBJECT_push(eku, OBJ_nid2obj(p->purpose)) > 0 &&
              (!also_server || sk_ASN1_OBJECT_push(eku, OBJ_nid2obj(NID_server_auth)) > 0) &&
              put(x, NID_ext_key_usage, eku, false);
    sk_ASN1_OBJECT_pop_free(eku, ASN1_OBJECT_free);
    return ok;
}

/* RFC 5280 4.2.1.2 (1): SHA-1 of the public key's bits; a name for it, no proof of anything. */
static ASN1_OCTET_STRING *key_id(const X509 *x)
{
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(x);
    uint8_t digest[CERT_SHA1];
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    sha1(span_of(ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits)), digest);
    if (id != NULL && ASN1_OCTET_STRING_set(id, digest, (int)sizeof(digest)) != 1) {
        ASN1_OCTET_STRING_free(id);
        return NULL;
    }
    return id;
}

static bool put_key_ids(X509 *x, const struct cert *issuer)
{
    ASN1_OCTET_STRING *own = key_id(x);
    AUTHORITY_KEYID *akid = AUTHORITY_KEYID_new();
    bool ok = akid != NULL && put(x, NID_subject_key_identifier, own, false);
    ASN1_OCTET_STRING_free(own);
    if (ok && issuer != NULL) { /* the issuer's own word for its key, else ours */
        const ASN1_OCTET_STRING *said = X509_get0_subject_key_id(issuer->x);
        akid->keyid = said != NULL ? ASN1_OCTET_STRING_dup(said) : key_id(issuer->x);
    } else if (ok) {
        akid->keyid = key_id(x);
    }
    ok = ok && akid->keyid != NULL && put(x, NID_authority_key_identifier, akid, false);
    AUTHORITY_KEYID_free(akid);
    return ok;
}

/* --- name constraints -------------------------------------------------------------------------- */

/* RFC 5280 4.2.1.10: subjects whose name begins with O=only. */
static bool put_only(X509 *x, struct span only)
{
    if (only.n == 0) {
        return true;
    }
    NAME_CONSTRAINTS *nc = NAME_CONSTRAINTS_new();
    GENERAL_SUBTREE *tree = GENERAL_SUBTREE_new();
    X509_NAME *name = X509_NAME_new();
    bool ok = nc != NULL && tree != NULL && name != NULL &&
              (nc->permittedSubtrees = sk_GENERAL_SUBTREE_new_null()) != NULL &&
              name_put(name, NID_organizationName, only);
    if (ok) {
        GENERAL_NAME_set0_value(tree->base, GEN_DIRNAME, name);
        name = NULL;
        ok = sk_GENERAL_SUBTREE_push(nc->permittedSubtrees, tree) > 0;
        tree = ok ? NULL : tree;
    }
    ok = ok && put(x, NID_name_constraints, nc, true);
    X509_NAME_free(name);
    GENERAL_SUBTREE_free(tree);
    NAME_CONSTRAINTS_free(nc);
    return ok;
}

void signer_ca_only(const struct cert *ca, struct buf *ret)
{
    NAME_CONSTRAINTS *nc = X509_get_ext_d2i(ca->x, NID_name_constraints, NULL, NULL);
    if (nc != NULL && nc->excludedSubtrees == NULL &&
        sk_GENERAL_SUBTREE_num(nc->permittedSubtrees) == 1) {
        const GENERAL_NAME *base = sk_GENERAL_SUBTREE_value(nc->permittedSubtrees, 0)->base;
        const X509_NAME *name = base->type == GEN_DIRNAME ? base->d.directoryName : NULL;
        int at = name != NULL && X509_NAME_entry_count(name) == 1
                     ? X509_NAME_get_index_by_NID(name, NID_organizationName, -1)
                     : -1;
        if (at == 0) {
            const ASN1_STRING *v = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
            buf_add(ret, span_of(ASN1_STRING_get0_data(v), (size_t)ASN1_STRING_length(v)));
        }
    }
    NAME_CONSTRAINTS_free(nc);
}

bool signer_ca_is_last(const struct cert *ca)
{
    return X509_get_pathlen(ca->x) == 0;
}

/* --- host names ------------------------------------------------------------------------------- */

static bool host_is_name(struct span host)
{
    if (host.n == 0 || host.n > LIMIT_HOST || span_starts(host, SPAN_LIT("."))) {
        return false;
    }
    for (size_t i = 0; i < host.n; i++) {
        uint8_t c = host.p[i];
        if (c > 0x7f || (!isalnum(c) && strchr("-.", c) == NULL && !(c == '*' && i == 0))) {
            return false;
        }
    }
    return true;
}

static ASN1_STRING *host_value(const char *host, int *ret_type)
{
    uint8_t addr[sizeof(struct in6_addr)];
    struct span bytes = span_str(host);
    *ret_type = GEN_IPADD;
    if (inet_pton(AF_INET, host, addr) == 1) {
        bytes = span_of(addr, sizeof(struct in_addr));
    } else if (inet_pton(AF_INET6, host, addr) == 1) {
        bytes = span_of(addr, sizeof(struct in6_addr));
    } else if (host_is_name(bytes)) {
        *ret_type = GEN_DNS;
    } else {
        return NULL;
    }
    ASN1_STRING *s =
        ASN1_STRING_type_new(*ret_type == GEN_DNS ? V_ASN1_IA5STRING : V_ASN1_OCTET_STRING);
    if (s != NULL && ASN1_STRING_set(s, bytes.p, (int)bytes.n) != 1) {
        ASN1_STRING_free(s);
        return NULL;
    }
    return s;
}

static bool add_host(GENERAL_NAMES *names, const char *host)
{
    int type;
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_STRING *value = host_value(host, &type);
    if (g == NULL || value == NULL) {
        GENERAL_NAME_free(g);
        ASN1_STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(g, type, value);
    if (sk_GENERAL_NAME_push(names, g) <= 0) {
        GENERAL_NAME_free(g);
        return false;
    }
    return true;
}

static enum err put_hosts(X509 *x, const struct cert_request *rq, struct err_info *info)
{
    if (rq->n_hosts == 0) {
        return OK;
    }
    enum err e = OK;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    for (size_t i = 0; e == OK && names != NULL && i < rq->n_hosts; i++) {
        if (!add_host(names, rq->hosts[i])) {
            e = err_set(info, E_CERT, "\"%s\" is neither a host name nor an address", rq->hosts[i]);
        }
    }
    if (e == OK && !put(x, NID_subject_alt_name, names, false)) {
        e = crypto_err(info, E_CRYPTO, "subjectAltName");
    }
    GENERAL_NAMES_free(names);
    return e;
}

/* --- the certificate -------------------------------------------------------------------------- */

static bool put_serial(X509 *x)
{
    uint8_t serial[SERIAL_SIZE];
    random_bytes(serial, sizeof(serial));
    serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40); /* positive, and always 20 octets */
    return ASN1_STRING_set(X509_get_serialNumber(x), serial, SERIAL_SIZE) == 1;
}

static bool put_names(X509 *x, const struct issue *is)
{
    X509_NAME *subject = X509_get_subject_name(x);
    struct span org = is->rq->organization;
    return (org.n == 0 || name_put(subject, NID_organizationName, org)) &&
           name_put(subject, NID_commonName, is->rq->cn) &&
           X509_set_issuer_name(x, is->issuer != NULL ? X509_get_subject_name(is->issuer->x)
                                                      : subject) == 1;
}

/*
 * A device's key goes over as the bytes of its request, and the certificate is whole with the key that was parsed for the request
 * (cert_key): X509_set_pubkey has a key written by an encoder and read again by all decoders, and parsing what was signed reads it once
 * more, each of which costs as much as some signatures. Certificates of CAs go where OpenSSL asks them for their key itself.
 */
static bool put_key(X509 *x, struct issue *is)
{
    struct span point = SPAN_NONE;
    int curve = NID_undef;
    if (is->csr == NULL || is->profile->is_ca || !csr_point(is->csr, &curve, &point)) {
        return X509_set_pubkey(x, is->subject_key) == 1;
    }
    is->is_key_copied = true;
    unsigned char *copy = OPENSSL_memdup(point.p, point.n);
    if (copy == NULL ||
        X509_PUBKEY_set0_param(X509_get_X509_PUBKEY(x), OBJ_nid2obj(NID_X9_62_id_ecPublicKey),
                               V_ASN1_OBJECT, OBJ_nid2obj(curve), copy, (int)point.n) != 1) {
        OPENSSL_free(copy);
        return false;
    }
    return true;
}

static bool put_fields(X509 *x, struct issue *is)
{
    return X509_set_version(x, X509_VERSION_3) == 1 && put_serial(x) && put_names(x, is) &&
           ASN1_TIME_adj(X509_getm_notBefore(x), (time_t)(is->rq->not_before_us / 1000000), 0, 0) !=
               NULL &&
           ASN1_TIME_adj(X509_getm_notAfter(x), (time_t)(is->rq->not_after_us / 1000000), 0, 0) !=
               NULL &&
           put_key(x, is);
}

static enum err build(struct issue *is, struct cert **ret, struct err_info *info)
{
    struct span cn;
    enum err e;
    ERR_clear_error();
    AUTO(x509_free_p) X509 *x = X509_new();
    if (x == NULL || !put_fields(x, is) || !put_constraints(x, is->profile) ||
        !put_usage(x, is->profile) || !put_purpose(x, is->profile, is->rq->also_server) ||
        !put_only(x, is->rq->only) || !put_key_ids(x, is->issuer)) {
        return crypto_err(info, E_CRYPTO, "certificate");
    }
    if ((e = name_cn(X509_get_subject_name(x), &cn, info)) != OK ||
        (e = put_hosts(x, is->rq, info)) != OK) {
        return e;
    }
    if ((e = signer_sign_cert(is->key, x, info)) != OK) {
        return e;
    }
    return is->is_key_copied ? cert_of_made(is->csr->lib, x, is->subject_key, ret, info)
                             : cert_from_x509(x, ret, info);
}

enum err signer_issue_now(const struct signer_key *key, const struct cert *issuer,
                          const struct csr *subject_csr, const struct signer_key *subject_key,
                          const struct cert_request *rq, struct cert **ret, struct err_info *info)
{
    ASSERT((size_t)rq->profile < ARRAY_LEN(profiles));
    struct issue is = {.profile = &profiles[rq->profile],
                       .rq = rq,
                       .key = key,
                       .issuer = issuer,
                       .csr = subject_csr};
    enum err e;
    if (subject_csr != NULL) {
        is.subject_key = subject_csr->key;
    } else {
        is.subject_key = subject_key != NULL ? subject_key->pub : key->pub;
    }
    if (issuer == NULL && EVP_PKEY_eq(is.subject_key, key->pub) != 1) {
        ERR_clear_error();
        return err_set(info, E_CERT, "self-signed, but for another key");
    }
    if ((e = check_request(&is, info)) != OK || (e = check_issuer(&is, info)) != OK) {
        return e;
    }
    return build(&is, ret, info);
}
