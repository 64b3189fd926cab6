/* SPDX-License-Identifier: Apache-2.0 */
/* The attestation of an enrollment, read and told: docs/protocol/dps-service-rest.md B2. */
#include "base/text.h"
#include "certs/cert.h"
#include "dps/attestation.h"
#include "dps/enrollment.h"
#include "dps/tpm_attestation.h"

#define NEW_KEY_BYTES 64u

static const char *const slots[2] = {"primary", "secondary"};
static const char *const key_members[2] = {"primaryKey", "secondaryKey"};

static bool is_given(const struct json *o, const char *name)
{
    const struct json *v = json_get(o, name);
    return v != NULL && !json_is(v, JSON_T_NULL);
}

/* --- reading ------------------------------------------------------------------------------------ */

static enum err read_keys(const struct json *att, struct enr_input *in, struct err_info *info)
{
    struct json *o = NULL;
    struct span text[2] = {SPAN_NONE, SPAN_NONE};
    enum err e = json_get_object(att, "symmetricKey", JSON_F_OPT, &o, info);
    for (unsigned i = 0; e == OK && o != NULL && i < 2; i++) {
        e = json_get_str(o, key_members[i], JSON_F_OPT, &text[i], info);
    }
    if (e != OK) {
        return e;
    }
    if ((text[0].n != 0) != (text[1].n != 0)) {
        return err_set(info, E_ARG, "symmetricKey: both keys or neither");
    }
    in->has_keys = text[0].n != 0;
    for (unsigned i = 0; i < 2; i++) {
        if (!in->has_keys) {
            if ((e = secret_random(&in->key[i], NEW_KEY_BYTES)) != OK) {
                return e;
            }
        } else if (secret_from_base64(&in->key[i], text[i]) != OK || in->key[i].n < LIMIT_KEY_MIN ||
                   in->key[i].n > LIMIT_KEY_MAX) {
            return err_set(info, E_ARG, "symmetricKey.%s: base64 of %u to %u bytes is wanted",
                           key_members[i], LIMIT_KEY_MIN, LIMIT_KEY_MAX);
        }
    }
    in->row.att = ATT_SYMMETRIC;
    return OK;
}

/* What GET told may be put back: a description without the certificate keeps the stored one. */
static enum err read_cert(const struct json *slot, unsigned i, struct enr_input *in,
                          struct err_info *info)
{
    AUTO(cert_free_p) struct cert *c = NULL;
    struct span text = SPAN_NONE;
    enum err e = json_get_str(slot, "certificate", JSON_F_OPT, &text, info);
    if (e != OK) {
        return e;
    }
    if (text.p == NULL && is_given(slot, "info")) {
        struct span sha = SPAN_NONE;
        in->keeps_cert[i] = true;
        if ((e = json_get_str(slot, "info.sha256Thumbprint", JSON_F_OPT, &sha, info)) == OK &&
            sha.n != 0) {
            in->keeps_sha256[i] = arena_span(&in->arena, sha);
            e = in->keeps_sha256[i].p != NULL ? OK : E_NOMEM;
        }
        return e;
    }
    if (text.n == 0 || cert_from_text(text, &c, info) != OK) {
        return err_set(info, E_ARG, "x509: the %s certificate cannot be read", slots[i]);
    }
    in->row.cert[i] = arena_span(&in->arena, cert_der(c));
    return in->row.cert[i].p != NULL ? OK : E_NOMEM;
}

static enum err read_certs(const struct json *pair, struct enr_input *in, struct err_info *info)
{
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < 2; i++) {
        struct json *slot = NULL;
        e = json_get_object(pair, slots[i], JSON_F_OPT, &slot, info);
        if (e == OK && slot != NULL) {
            e = read_cert(slot, i, in, info);
        }
    }
    if (e == OK && in->row.cert[0].n == 0 && !in->keeps_cert[0]) {
        e = err_set(info, E_ARG, "x509: the primary certificate is missing");
    }
    in->row.att = ATT_CERT;
    return e;
}

static enum err read_references(const struct json *pair, struct enr_input *in,
                                struct err_info *info)
{
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < 2; i++) {
        struct span name = SPAN_NONE;
        e = json_get_str(pair, slots[i], JSON_F_OPT, &name, info);
        if (e == OK && name.n != 0) {
            if (!id_admin_name_ok(name)) {
                return err_set(info, E_ARG, "caReferences.%s: not the name of a certificate",
                               slots[i]);
            }
            in->row.ca[i] = arena_span(&in->arena, name);
            e = in->row.ca[i].p != NULL ? OK : E_NOMEM;
        }
    }
    if (e == OK && in->row.ca[0].n == 0) {
        e = err_set(info, E_ARG, "caReferences: the primary name is missing");
    }
    return e;
}

static enum err read_x509(const struct json *att, struct enr_input *in, struct err_info *info)
{
    bool is_group = in->row.kind == ENR_GROUP;
    const char *own = is_group ? "signingCertificates" : "clientCertificates";
    const char *foreign = is_group ? "clientCertificates" : "signingCertificates";
    struct json *x = NULL, *certs = NULL, *refs = NULL;
    enum err e = json_get_object(att, "x509", JSON_F_OPT, &x, info);
    if (e != OK) {
        return e;
    }
    if (is_given(x, foreign)) {
        return err_set(info, E_ARG, "x509.%s does not belong to %s", foreign,
                       is_group ? "a group" : "an individual enrollment");
    }
    if ((e = json_get_object(x, own, JSON_F_OPT, &certs, info)) != OK ||
        (e = json_get_object(x, "caReferences", JSON_F_OPT, &refs, info)) != OK) {
        return e;
    }
    if ((certs != NULL) == (refs != NULL)) {
        return err_set(info, E_ARG, "x509: exactly one of %s and caReferences is wanted", own);
    }
    in->row.att = ATT_CA;
    return certs != NULL ? read_certs(certs, in, info) : read_references(refs, in, info);
}

/* caReferences name EK roots (server/trust.h): Berth's own, the cloud's service knows no certificates of endorsement keys. */
static enum err read_tpm(const struct json *att, struct enr_input *in, struct err_info *info)
{
    bool is_group = in->row.kind == ENR_GROUP;
    struct json *o = NULL, *refs = NULL;
    struct span ek = SPAN_NONE, srk = SPAN_NONE;
    enum err e;
    if ((e = json_get_object(att, "tpm", is_group ? JSON_F_OPT : JSON_F_NEED, &o, info)) != OK ||
        (e = json_get_object(o, "caReferences", JSON_F_OPT, &refs, info)) != OK ||
        (e = json_get_str(o, "endorsementKey", JSON_F_OPT, &ek, info)) != OK ||
        (e = json_get_str(o, "storageRootKey", JSON_F_OPT, &srk, info)) != OK) {
        return e;
    }
    in->row.att = is_group ? ATT_TPM_CA : ATT_TPM;
    if (is_group && (refs == NULL || ek.p != NULL || srk.p != NULL)) {
        return err_set(
            info, E_ARG,
            "a group cannot have attestation type tpm, but with tpm.caReferences: the CAs "
            "of endorsement keys that it admits, and no key");
    }
    if (refs != NULL && (e = read_references(refs, in, info)) != OK) {
        return e;
    }
    if (!is_group && ek.n == 0) {
        return err_set(info, E_EK, "tpm.endorsementKey is missing");
    }
    if (ek.n != 0 && (e = tpm_read_key(&in->arena, ek, TPM_EK, &in->row.ek, info)) != OK) {
        return e;
    }
    return srk.n == 0 ? OK : tpm_read_key(&in->arena, srk, TPM_SRK, &in->row.srk, info);
}

enum err enrollment_read_attestation(const struct json *body, struct enr_input *in,
                                     struct err_info *info)
{
    enum { T_NONE, T_TPM, T_X509, T_SYMMETRIC };
    static const char *const words[] = {"none", "tpm", "x509", "symmetricKey"};
    struct json *att = NULL;
    size_t type = 0;
    enum err e;
    if ((e = json_get_object(body, "attestation", JSON_F_NEED, &att, info)) != OK ||
        (e = json_get_word(att, "type", JSON_F_NEED, words, ARRAY_LEN(words), &type, info)) != OK) {
        return e;
    }
    for (size_t i = T_TPM; i < ARRAY_LEN(words); i++) {
        if (i != type && is_given(att, words[i])) {
            return err_set(info, E_ARG, "attestation.%s does not belong to type %s", words[i],
                           words[type]);
        }
    }
    switch (type) {
    case T_TPM:
        return read_tpm(att, in, info);
    case T_X509:
        return read_x509(att, in, info);
    case T_SYMMETRIC:
        return read_keys(att, in, info);
    default:
        return err_set(info, E_ARG, "attestation.type none cannot be written");
    }
}

enum err enrollment_seal(const struct keyring *k, struct enr_input *in)
{
    enum err e = OK;
    for (unsigned i = 0; e == OK && in->row.att == ATT_SYMMETRIC && i < 2; i++) {
        AUTO(buf_done) struct buf sealed = BUF_INIT(SECRET_MAX + SEAL_OVERHEAD);
        struct enr_place st;
        e = keyring_seal(k, enr_key_place(&st, in->row.kind, in->row.fold, i),
                         secret_span(&in->key[i]), &sealed);
        if (e == OK) {
            in->row.key[i] = arena_span(&in->arena, buf_span(&sealed));
            e = in->row.key[i].p != NULL ? OK : E_NOMEM;
        }
    }
    return e;
}

const char *enrollment_att_word(enum enr_att att)
{
    switch (att) {
    case ATT_SYMMETRIC:
        return "symmetricKey";
    case ATT_TPM:
    case ATT_TPM_CA:
        return "tpm";
    case ATT_CERT:
    case ATT_CA:
        break;
    }
    return "x509";
}

/* --- telling --------------------------------------------------------------------------------------- */

static enum err write_keys(struct buf *b, const struct enr_row *row, const struct keyring *k)
{
    enum err e = OK;
    buf_add_str(b, ",\"symmetricKey\":{");
    for (unsigned i = 0; e == OK && i < 2; i++) {
        AUTO(secret_done) struct secret key = {.n = 0};
        struct enr_place st;
        e = keyring_unseal(k, enr_key_place(&st, row->kind, row->fold, i), row->key[i], &key);
        buf_addf(b, "%s\"%s\":\"", i != 0 ? "," : "", key_members[i]);
        base64_add(b, secret_span(&key));
        buf_add_u8(b, '"');
    }
    buf_add_u8(b, '}');
    return e;
}

static void add_text(struct buf *b, const char *name, const struct cert *c,
                     void (*fn)(const struct cert *, struct buf *))
{
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_CERT_DER);
    fn(c, &text);
    buf_addf(b, "\"%s\":", name);
    json_write_str(b, buf_span(&text));
    buf_add_u8(b, ',');
}

static void add_seconds(struct buf *b, const char *name, int64_t us)
{
    char iso[TIME_ISO_SIZE];
    time_iso7(us, iso);
    buf_addf(b, "\"%s\":\"%.19sZ\",", name, iso);
}

enum err enrollment_write_cert_info(struct buf *b, struct span der)
{
    AUTO(cert_free_p) struct cert *c = NULL;
    enum err e = cert_from_der(der, &c, NULL);
    if (e != OK) {
        return E_CORRUPT; /* it was read when it came */
    }
    buf_add_u8(b, '{');
    add_text(b, "subjectName", c, cert_add_subject);
    buf_add_str(b, "\"sha1Thumbprint\":\"");
    hex_add(b, span_of(cert_sha1(c), CERT_SHA1), true);
    buf_add_str(b, "\",\"sha256Thumbprint\":\"");
    hex_add(b, span_of(cert_sha256(c), CERT_SHA256), true);
    buf_add_str(b, "\",");
    add_text(b, "issuerName", c, cert_add_issuer);
    add_seconds(b, "notBeforeUtc", cert_not_before_us(c));
    add_seconds(b, "notAfterUtc", cert_not_after_us(c));
    add_text(b, "serialNumber", c, cert_add_serial_hex);
    buf_addf(b, "\"version\":%d}", cert_version(c));
    return OK;
}

enum err enrollment_write_cert(struct buf *b, struct span der)
{
    buf_add_str(b, "{\"info\":");
    enum err e = enrollment_write_cert_info(b, der);
    buf_add_u8(b, '}');
    return e;
}

static void add_key(struct buf *b, const char *name, struct span key)
{
    buf_addf(b, "\"%s\":\"", name);
    base64_add(b, key);
    buf_add_u8(b, '"');
}

static enum err write_pair(struct buf *b, const struct enr_row *row)
{
    enum err e = OK;
    const char *sep = "";
    for (unsigned i = 0; e == OK && i < 2; i++) {
        struct span v = row->att == ATT_CERT ? row->cert[i] : row->ca[i];
        if (v.n == 0) {
            continue;
        }
        buf_addf(b, "%s\"%s\":", sep, slots[i]);
        sep = ",";
        if (row->att == ATT_CERT) {
            e = enrollment_write_cert(b, v);
        } else {
            json_write_str(b, v);
        }
    }
    return e;
}

static enum err write_tpm(struct buf *b, const struct enr_row *row)
{
    enum err e = OK;
    const char *sep = "";
    buf_add_str(b, "{\"type\":\"tpm\",\"tpm\":{");
    if (row->ek.n != 0) {
        add_key(b, "endorsementKey", row->ek);
        sep = ",";
    }
    if (row->srk.n != 0) {
        buf_add_str(b, sep);
        add_key(b, "storageRootKey", row->srk);
    }
    if (row->ca[0].n != 0) {
        buf_addf(b, "%s\"caReferences\":{", sep);
        e = write_pair(b, row);
        buf_add_u8(b, '}');
    }
    buf_add_u8(b, '}');
    return e;
}

enum err enrollment_write_attestation(struct buf *b, const struct enr_row *row,
                                      const struct keyring *k)
{
    enum err e = OK;
    if (row->att == ATT_SYMMETRIC) {
        buf_add_str(b, "{\"type\":\"symmetricKey\"");
        if (k != NULL) {
            e = write_keys(b, row, k);
        }
    } else if (row->att == ATT_TPM || row->att == ATT_TPM_CA) {
        e = write_tpm(b, row);
    } else {
        const char *own = row->kind == ENR_GROUP ? "signingCertificates" : "clientCertificates";
        buf_addf(b, "{\"type\":\"x509\",\"x509\":{\"%s\":{",
                 row->att == ATT_CA ? "caReferences" : own);
        e = write_pair(b, row);
        buf_add_str(b, "}}");
    }
    buf_add_u8(b, '}');
    return e != OK ? e : buf_err(b);
}
