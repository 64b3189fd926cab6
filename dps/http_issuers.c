/* SPDX-License-Identifier: Apache-2.0 */
/* /admin/certificateAuthorities: CAs that issue for devices; /admin/issuedCertificates: what they issued. docs/operations.md
 * "Issuing certificates"; docs/protocol/dps-service-rest.md C1. Writes are in dps/http_issuer_put.c. */
#include "base/text.h"
#include "dps/http_issuers.h"
#include "server/admin.h"

#define LOG_PAGE_MAX (2u << 20)

const char *const issuer_kind_words[DESK_KINDS] = {
    [DESK_SEALED] = "file", [DESK_PKCS11] = "pkcs11", [DESK_TPM] = "tpm"};

/* --- the resource as JSON --------------------------------------------------------------------------- */

static void add_time(struct buf *b, const char *before, int64_t us)
{
    char text[TIME_ISO_SIZE];
    time_rfc1123(us, text);
    buf_addf(b, "%s\"%s\"", before, text);
}

static void add_pem_member(struct buf *b, const char *before, struct span pem)
{
    buf_add_str(b, before);
    json_write_str(b, pem);
}

static void add_key(struct buf *b, const struct issuer_row *row, const struct csr *csr)
{
    enum key_type type = csr_key_type(csr);
    buf_addf(b, "\"key\":{\"kind\":\"%s\"", issuer_kind_words[row->kind]);
    if (type != KEY_TYPES) {
        buf_addf(b, ",\"type\":\"%s\"", key_type_words[type]);
    }
    if (row->kind == DESK_PKCS11 || span_starts(row->source, SPAN_LIT("handle:"))) {
        buf_addf(b, ",\"%s\":", row->kind == DESK_PKCS11 ? "uri" : "handle");
        json_write_str(b, row->source);
    }
    buf_add_u8(b, '}');
}

static enum err add_chain(struct buf *b, const struct issuer_row *row)
{
    AUTO(buf_done) struct buf text = BUF_INIT(CA_JSON_MAX);
    AUTO(cert_free_p) struct cert *first = NULL;
    struct span rest = row->chain, der = cert_cut_der(&rest);
    enum err e = cert_from_der(der, &first, NULL);
    if (e != OK) {
        return e == E_NOMEM ? e : E_CORRUPT;
    }
    cert_add_subject(first, &text);
    add_pem_member(b, ",\"subject\":", buf_span(&text));
    add_time(b, ",\"expiry\":", cert_not_after_us(first));
    buf_add_str(b, ",\"thumbprint\":\"");
    hex_add(b, span_of(cert_sha1(first), CERT_SHA1), true);
    buf_reset(&text);
    while (der.n != 0) {
        cert_der_add_pem(der, &text);
        der = cert_cut_der(&rest);
    }
    add_pem_member(b, "\",\"certificate\":", buf_span(&text));
    return buf_err(&text);
}

enum err http_issuer_add(struct buf *b, const struct issuer_row *row)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(CA_JSON_MAX);
    AUTO(csr_free_p) struct csr *csr = NULL;
    char etag[ADMIN_ETAG_SIZE];
    enum err e = csr_from_der(row->csr, &csr, NULL);
    if (e != OK) {
        return e == E_NOMEM ? e : E_CORRUPT;
    }
    admin_etag_text(row->etag, etag);
    csr_add_pem(row->csr, &pem);
    buf_addf(b,
             "{\"id\":\"/admin/certificateAuthorities/%.*s\",\"name\":\"%.*s\",\"etag\":\"%s\","
             "\"type\":\"Berth/CertificateAuthorities\",\"properties\":{\"state\":\"%s\",",
             SPAN_ARG(row->name), SPAN_ARG(row->name), etag,
             row->chain.n != 0 ? "ready" : "waitingForCertificate");
    add_key(b, row, csr);
    if (row->chain.n != 0 && (e = add_chain(b, row)) != OK) {
        return e;
    }
    add_pem_member(b, ",\"certificateSigningRequest\":", buf_span(&pem));
    add_time(b, ",\"created\":", row->created_us);
    add_time(b, ",\"updated\":", row->updated_us);
    buf_add_str(b, "}}");
    return buf_err(b);
}

/* --- reading ---------------------------------------------------------------------------------------- */

bool http_issuer_name(struct http_rq *rq, struct arena *a, struct span *ret_name,
                      struct span *ret_fold)
{
    struct span name;
    if (!admin_name(rq, 0, &name)) {
        return false;
    }
    char *fold = arena_str(a, name);
    if (fold == NULL) {
        admin_refuse(rq, E_NOMEM, NULL);
        return false;
    }
    text_lower(fold, name.n);
    *ret_name = name;
    *ret_fold = span_of(fold, name.n);
    return true;
}

static void issuer_show(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(CA_JSON_MAX);
    struct issuer_row row;
    struct span name, fold;
    if (!http_issuer_name(rq, http_rq_arena(rq), &name, &fold)) {
        return;
    }
    enum err e = sql_issuer_get(worker_db(worker_of_rq(rq)), http_rq_arena(rq), fold, &row);
    if (e != OK || (e = http_issuer_add(&b, &row)) != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    admin_answer_json(rq, 200, row.etag, NULL, buf_span(&b));
}

static void issuer_list(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_ISSUING_CAS * CA_JSON_MAX);
    struct issuer_row rows[LIMIT_ISSUING_CAS];
    struct admin_page page;
    struct admin_list list;
    size_t n = 0;
    if (!admin_page_read(rq, &page)) {
        return;
    }
    enum err e = sql_issuer_all(worker_db(worker_of_rq(rq)), http_rq_arena(rq), rows, &n);
    admin_list_begin(&list, &b, &page);
    for (size_t i = 0; e == OK && i < n; i++) {
        if (admin_list_next(&list)) {
            e = http_issuer_add(&b, &rows[i]);
        }
    }
    admin_list_answer(rq, &list, e);
}

/* --- GET /admin/issuedCertificates?from=N&top=N&registrationId=ID ---------------------------------------- */

static enum err list_line(void *arg, const struct issued_row *r)
{
    struct buf *b = arg;
    char iso[TIME_ISO_SIZE];
    if (b->p[b->n - 1] != '[') {
        buf_add_u8(b, ',');
    }
    time_iso7(r->at_us, iso);
    buf_addf(b, "{\"number\":%lld,\"time\":\"%s\",\"serialNumber\":\"%.*s\",\"subject\":",
             (long long)r->id, iso, SPAN_ARG(r->serial));
    json_write_str(b, r->subject);
    buf_addf(b, ",\"certificateAuthority\":\"%.*s\",\"registrationId\":", SPAN_ARG(r->ca));
    json_write_str(b, r->fold);
    buf_addf(b, ",\"operationId\":\"%.*s\"", SPAN_ARG(r->op_id));
    time_iso7(r->not_before_us, iso);
    buf_addf(b, ",\"notBefore\":\"%s\"", iso);
    time_iso7(r->not_after_us, iso);
    buf_addf(b, ",\"notAfter\":\"%s\",\"sha256Thumbprint\":\"", iso);
    hex_add(b, r->sha256, true);
    buf_add_str(b, "\"}");
    return buf_err(b);
}

static void issued_list(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LOG_PAGE_MAX);
    struct err_info info = {0};
    struct admin_page page;
    uint64_t from = 1;
    bool has_from, has_rid;
    struct span text = http_rq_query(rq, "from", &has_from), fold = SPAN_NONE;
    struct span rid = http_rq_query(rq, "registrationId", &has_rid);
    enum err e = OK;
    if (has_from && (!span_to_u64(text, &from) || from > INT64_MAX)) {
        e = err_set(&info, E_ARG, "from: not a number");
    } else if (has_rid) {
        e = enrollment_fold(http_rq_arena(rq), rid, &fold, &info);
    }
    if (e != OK) {
        admin_refuse(rq, e == E_ID ? E_ARG : e, &info);
        return;
    }
    if (!admin_page_read(rq, &page)) {
        return;
    }
    buf_add_str(&b, "{\"value\":[");
    e = sql_issued_page(worker_db(worker_of_rq(rq)), (int64_t)from, fold, page.top, list_line, &b);
    buf_add_str(&b, "],\"nextLink\":null}");
    if (e != OK || (e = buf_err(&b)) != OK) {
        admin_refuse(rq, e, &info);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
}

/* clang-format off */
const struct http_route dps_issuer_routes[] = {
    { HTTP_GET,    "/admin/certificateAuthorities",        AUTH_ADMIN, 0, 0,                issuer_list },
    { HTTP_GET,    "/admin/certificateAuthorities/{name}", AUTH_ADMIN, 0, 0,                issuer_show },
    { HTTP_PUT,    "/admin/certificateAuthorities/{name}", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, http_issuer_put },
    { HTTP_DELETE, "/admin/certificateAuthorities/{name}", AUTH_ADMIN, 0, 0,                http_issuer_delete },
    { HTTP_GET,    "/admin/issuedCertificates",            AUTH_ADMIN, 0, 0,                issued_list },
};
/* clang-format on */
const size_t n_dps_issuer_routes = ARRAY_LEN(dps_issuer_routes);
