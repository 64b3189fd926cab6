/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/trust_bundle.h"

#include "base/text.h"
#include "certs/cert.h"
#include "dps/registration.h"
#include "server/admin.h"

#define ROW_ARENA (2 * LIMIT_TRUST_BUNDLE)

/* --- what may be in one ----------------------------------------------------------------------------- */

static enum err check_cert(const struct cert *c, size_t i, struct err_info *info)
{
    enum err e = cert_is_ca(c) ? cert_check_strength(c, info)
                               : err_set(info, E_CERT, "it is no certificate of a CA");
    return e != OK ? err_wrap(info, e, "certificates[%zu]", i) : OK;
}

/* {"certificate":"PEM","metadata":{...}}; what was sent as metadata is not looked at. */
static enum err add_cert(struct buf *b, const struct json *entry, size_t i, struct err_info *info)
{
    AUTO(buf_done)
    struct buf pem = BUF_INIT(2 * LIMIT_CERT_DER), info_text = BUF_INIT(8 * LIMIT_CERT_DER);
    AUTO(cert_free_p) struct cert *c = NULL;
    struct span text = SPAN_NONE;
    enum err e;
    if (!json_is(entry, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "certificates[%zu] is no object", i);
    }
    if ((e = json_get_str(entry, "certificate", JSON_F_NEED, &text, info)) != OK ||
        (e = cert_from_text(text, &c, info)) != OK) {
        return err_wrap(info, e, "certificates[%zu]", i);
    }
    if ((e = check_cert(c, i, info)) != OK) {
        return e;
    }
    cert_add_pem(c, &pem);
    buf_add_str(b, i == 0 ? "{\"certificate\":" : ",{\"certificate\":");
    json_write_str(b, buf_span(&pem));
    buf_add_str(b, ",\"metadata\":");
    if ((e = enrollment_write_cert_info(&info_text, cert_der(c))) != OK) {
        return e;
    }
    buf_add(b, buf_span(&info_text));
    buf_add_u8(b, '}');
    return buf_err(&pem) != OK ? buf_err(&pem) : buf_err(&info_text);
}

enum err trust_bundle_read(const struct json *body, struct arena *a, struct span *ret,
                           struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_TRUST_BUNDLE);
    struct json *list = NULL;
    enum err e = json_get_array(body, "certificates", JSON_F_NEED, &list, info);
    if (e != OK) {
        return e;
    }
    size_t n = json_count(list);
    if (n == 0 || n > LIMIT_TRUST_BUNDLE_CERTS) {
        return err_set(info, E_ARG, "certificates: %zu; 1 to %u allowed", n,
                       LIMIT_TRUST_BUNDLE_CERTS);
    }
    buf_add_u8(&b, '[');
    for (size_t i = 0; e == OK && i < n; i++) {
        e = add_cert(&b, json_at(list, i), i, info);
    }
    buf_add_u8(&b, ']');
    if (e != OK) {
        return e;
    }
    if ((e = buf_err(&b)) != OK) {
        return e == E_NOMEM ? e
                            : err_set(info, E_LIMIT,
                                      "certificates: more than %u bytes as they would be told",
                                      LIMIT_TRUST_BUNDLE);
    }
    *ret = arena_span(a, buf_span(&b));
    return ret->p != NULL ? OK : E_NOMEM;
}

/* --- what is told ------------------------------------------------------------------------------------- */

static enum err add_described(struct buf *b, struct span certificates)
{
    AUTO(json_free_p) struct json *list = NULL;
    enum err e = json_read(certificates, LIMIT_TRUST_BUNDLE, &list, NULL);
    if (e != OK) {
        return e == E_NOMEM ? e : E_CORRUPT;
    }
    for (size_t i = 0; i < json_count(list); i++) {
        json_del(json_at(list, i), "certificate");
    }
    json_write(b, list);
    return OK;
}

/* This object's etag is not in base64 (dps-device.md 10). */
static enum err add_etag(struct buf *b, uint64_t etag)
{
    char text[DPS_ETAG_SIZE];
    uint8_t plain[DPS_ETAG_SIZE];
    size_t n = sizeof(plain);
    dps_etag_text(etag, text);
    enum err e = base64_decode_to(span_str(text), plain, &n);
    if (e == OK) {
        json_write_str(b, span_of(plain, n));
    }
    return e;
}

enum err trust_bundle_write(struct buf *b, const struct trust_bundle_row *row, bool with_pem)
{
    char created[TIME_ISO_SIZE], updated[TIME_ISO_SIZE];
    enum err e = OK;
    time_iso7(row->created_us, created);
    time_iso7(row->updated_us, updated);
    buf_add_str(b, "{\"id\":");
    json_write_str(b, row->name);
    buf_add_str(b, ",\"certificates\":");
    if (with_pem) {
        buf_add(b, row->certificates);
    } else {
        e = add_described(b, row->certificates);
    }
    buf_addf(b, ",\"createdDateTime\":\"%s\",\"lastModifiedDateTime\":\"%s\",\"etag\":", created,
             updated);
    e = e == OK ? add_etag(b, row->etag) : e;
    buf_add_u8(b, '}');
    return e != OK ? e : buf_err(b);
}

enum err trust_bundle_tell(struct db *db, struct arena *a, int64_t enrollment, struct span *ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_TRUST_BUNDLE + 1024);
    AUTO(arena_done) struct arena own = ARENA_INIT(ROW_ARENA);
    struct trust_bundle_row row;
    *ret = SPAN_NONE;
    enum err e = sql_trust_bundle_of(db, &own, enrollment, &row);
    if (e != OK || (e = trust_bundle_write(&b, &row, true)) != OK) {
        return e == E_NOT_FOUND ? OK : e;
    }
    *ret = arena_span(a, buf_span(&b));
    return ret->p != NULL ? OK : E_NOMEM;
}

uint64_t trust_bundle_etag_read(struct span text)
{
    AUTO(buf_done) struct buf quoted = BUF_INIT(DPS_ETAG_SIZE), coded = BUF_INIT(DPS_ETAG_SIZE);
    uint64_t etag = dps_etag_read(text);
    if (etag != 0) {
        return etag;
    }
    buf_add_u8(&quoted, '"');
    buf_add(&quoted, text);
    buf_add_u8(&quoted, '"');
    base64_add(&coded, buf_span(&quoted));
    return buf_err(&quoted) == OK && buf_err(&coded) == OK ? dps_etag_read(buf_span(&coded)) : 0;
}

/* --- on the writer --------------------------------------------------------------------------------------- */

static bool is_stale(const struct enr_match *m, uint64_t etag)
{
    return m->kind == ENR_MATCH_ETAG && m->etag != etag;
}

enum err trust_bundle_tx_put(struct store_tx *tx, struct trust_bundle_row *row,
                             const struct enr_match *match, struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(ROW_ARENA);
    struct trust_bundle_row old;
    int64_t n = 0;
    enum err e = sql_trust_bundle_get(tx->db, &a, row->fold, &old);
    bool exists = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    if (!exists && match->kind != ENR_MATCH_NONE) {
        return E_NOT_FOUND;
    }
    if (exists && is_stale(match, old.etag)) {
        return E_ETAG;
    }
    if (!exists && (e = sql_trust_bundle_count(tx->db, &n)) != OK) {
        return e;
    }
    if (n >= (int64_t)LIMIT_TRUST_BUNDLES) {
        return err_set(info, E_LIMIT, "at most %u trust bundles", LIMIT_TRUST_BUNDLES);
    }
    row->id = exists ? old.id : 0;
    row->created_us = exists ? old.created_us : tx->now_us;
    row->updated_us = tx->now_us;
    return (e = admin_tx_next(tx, &row->etag)) != OK ? e : sql_trust_bundle_put(tx->db, row);
}

enum err trust_bundle_tx_delete(struct store_tx *tx, struct span fold,
                                const struct enr_match *match, struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(ROW_ARENA);
    struct trust_bundle_row old;
    bool is_used = false;
    enum err e = sql_trust_bundle_get(tx->db, &a, fold, &old);
    if (e != OK) {
        return e;
    }
    if (is_stale(match, old.etag)) {
        return E_ETAG;
    }
    if ((e = sql_use_any(tx->db, USE_TRUST_BUNDLE, fold, &is_used)) != OK) {
        return e;
    }
    return is_used ? err_set(info, E_CONFLICT, "an enrollment names this trust bundle")
                   : sql_trust_bundle_del(tx->db, old.id);
}
