/* SPDX-License-Identifier: Apache-2.0 */
/* The resources /admin/certificates (dps-service-rest.md C2; threat C7). */
#include "server/admin.h"

#include <stdlib.h>

#include "base/text.h"
#include "certs/proof.h"
#include "server/expiry.h"
#include "server/server_int.h"
#include "server/server_sql.h"
#include "server/trust.h"

#define CERT_JSON_MAX (64u << 10)
#define NO_PROOF                                                                                   \
    "a certificate with usage endorsementKey is never verified: nobody here has its key"
#define CERT_LIST_MAX (2u << 20)

struct cert_op {
    struct admin_op op;
    char name[LIMIT_ADMIN_NAME + 1];
    struct cert *cert; /* PUT: the new one */
    bool is_verified;  /* PUT: as asked */
    bool is_ek_root;   /* PUT: usage endorsementKey */
    bool has_usage;
    char code[CA_CODE_SIZE];
    uint64_t read_etag; /* verify: the row that the proof was judged against */
    enum err verdict;
    struct err_info verdict_info;
    struct ca_row row; /* as written; the answer's */
};

static struct cert_op *as_cert_op(struct admin_op *op)
{
    return CONTAINER_OF(op, struct cert_op, op);
}

static void cert_op_done(struct admin_op *op)
{
    struct cert_op *o = as_cert_op(op);
    cert_free(o->cert);
    ca_row_done(&o->row);
}

static struct cert_op *cert_op_new(struct http_rq *rq)
{
    struct span name;
    if (!admin_name(rq, 0, &name)) {
        return NULL;
    }
    struct cert_op *o = admin_op_new(rq, sizeof(*o));
    if (o != NULL) {
        o->op.done = cert_op_done;
        (void)span_to_cstr(name, o->name, sizeof(o->name)); /* admin_name bounds it */
    }
    return o;
}

/* --- the resource as JSON --------------------------------------------------------------------------- */

static void add_str(struct buf *b, const char *before, struct span s)
{
    buf_add_str(b, before);
    json_write_str(b, s);
}

static void add_time(struct buf *b, const char *before, int64_t us)
{
    char text[TIME_ISO_SIZE];
    time_rfc1123(us, text);
    buf_addf(b, "%s\"%s\"", before, text);
}

static enum err add_cert_json(struct buf *b, const struct ca_row *row, int64_t now_us,
                              bool with_code)
{
    AUTO(cert_free_p) struct cert *c = NULL;
    AUTO(buf_done) struct buf subject = BUF_INIT(4096);
    char etag[ADMIN_ETAG_SIZE];
    enum err e = cert_from_der(span_of(row->der, row->der_n), &c, NULL);
    if (e != OK) {
        return E_CORRUPT;
    }
    admin_etag_text(row->etag, etag);
    cert_add_subject(c, &subject);
    buf_addf(b, "{\"id\":\"/admin/certificates/%s\",\"name\":\"%s\",\"etag\":\"%s\"", row->name,
             row->name, etag);
    add_str(b, ",\"type\":\"Berth/Certificates\",\"properties\":{\"subject\":", buf_span(&subject));
    add_time(b, ",\"expiry\":", cert_not_after_us(c));
    buf_addf(b, ",\"expiresInDays\":%lld",
             (long long)expiry_days(cert_not_after_us(c), now_us)); /* Berth extension */
    buf_add_str(b, ",\"thumbprint\":\"");
    hex_add(b, span_of(cert_sha1(c), CERT_SHA1), true);
    buf_addf(b, "\",\"isVerified\":%s", row->is_verified ? "true" : "false");
    if (row->is_ek_root) {
        buf_add_str(b, ",\"usage\":\"endorsementKey\"");
    }
    add_time(b, ",\"created\":", row->created_us);
    add_time(b, ",\"updated\":", row->updated_us);
    if (with_code && row->code[0] != '\0') {
        buf_addf(b, ",\"verificationCode\":\"%s\"", row->code);
    }
    buf_add_str(b, ",\"certificate\":\"");
    base64_add(b, span_of(row->der, row->der_n));
    buf_add_str(b, "\"}}");
    return buf_err(b);
}

static void answer_row(struct http_rq *rq, const struct ca_row *row, unsigned status,
                       bool with_code)
{
    AUTO(buf_done) struct buf b = BUF_INIT(CERT_JSON_MAX);
    enum err e = add_cert_json(&b, row, clock_wall_us(worker_of_rq(rq)->s->clock), with_code);
    if (e != OK) {
        worker_of_rq(rq)->s->program->refuse(rq, e, NULL);
        return;
    }
    const char *location =
        status == 201 ? arena_printf(http_rq_arena(rq), "/admin/certificates/%s", row->name) : NULL;
    admin_answer_json(rq, status, row->etag, location, buf_span(&b));
}

static void answer_op(struct http_rq *rq, struct admin_op *op)
{
    const struct cert_op *o = as_cert_op(op);
    answer_row(rq, &o->row, op->created ? 201 : 200, o->code[0] != '\0');
}

/* --- reading ---------------------------------------------------------------------------------------- */

static void cert_get(struct http_rq *rq)
{
    AUTO(ca_row_done) struct ca_row row = {0};
    struct span name;
    if (!admin_name(rq, 0, &name)) {
        return;
    }
    enum err e = sql_ca_get(worker_db(worker_of_rq(rq)), name, &row);
    if (e != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    answer_row(rq, &row, 200, false);
}

static void cert_list(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(CERT_LIST_MAX);
    struct ca_row rows[LIMIT_CA_CERTS];
    struct admin_page page;
    struct admin_list list;
    size_t n = 0;
    if (!admin_page_read(rq, &page)) {
        return;
    }
    enum err e = sql_ca_all(worker_db(worker_of_rq(rq)), rows, &n);
    admin_list_begin(&list, &b, &page);
    for (size_t i = 0; i < n; i++) {
        if (e == OK && admin_list_next(&list)) {
            e = add_cert_json(&b, &rows[i], clock_wall_us(worker_of_rq(rq)->s->clock), false);
        }
        ca_row_done(&rows[i]);
    }
    admin_list_answer(rq, &list, e);
}

/* --- PUT -------------------------------------------------------------------------------------------- */

/* Reads the row anew: a transaction may run twice. */
static enum err read_row(struct store_tx *tx, struct cert_op *o, bool *ret_exists)
{
    ca_row_done(&o->row);
    enum err e = sql_ca_get(tx->db, span_str(o->name), &o->row);
    *ret_exists = e == OK;
    return e == E_NOT_FOUND ? OK : e;
}

static enum err put_der(struct cert_op *o)
{
    struct span der = cert_der(o->cert);
    uint8_t *copy = mem_new(der.n);
    if (copy == NULL) {
        return E_NOMEM;
    }
    memcpy(copy, der.p, der.n);
    ca_row_done(&o->row);
    o->row.der = copy;
    o->row.der_n = der.n;
    return OK;
}

static enum err tx_create(struct store_tx *tx, struct cert_op *o)
{
    int64_t n;
    enum err e = sql_ca_count(tx->db, &n);
    if (e == OK && n >= (int64_t)LIMIT_CA_CERTS) {
        return err_set(&o->op.info, E_ARG, "Certificate limit reached");
    }
    o->row = (struct ca_row){.is_verified = o->is_verified,
                             .is_ek_root = o->is_ek_root,
                             .created_us = tx->now_us,
                             .updated_us = tx->now_us};
    memcpy(o->row.name, o->name, sizeof(o->name));
    if (e != OK || (e = put_der(o)) != OK || (e = admin_tx_next(tx, &o->row.etag)) != OK) {
        return e;
    }
    o->op.created = true;
    return sql_ca_add(tx->db, &o->row);
}

static enum err tx_update(struct store_tx *tx, struct cert_op *o)
{
    bool is_same = span_eq(cert_der(o->cert), span_of(o->row.der, o->row.der_n));
    /* Enrollments name it for what it is. */
    if (o->has_usage && o->is_ek_root != o->row.is_ek_root) {
        return err_set(&o->op.info, E_ARG,
                       "usage: it cannot change; delete the certificate and put it anew");
    }
    if (o->is_verified && o->row.is_ek_root) {
        return err_set(&o->op.info, E_ARG, NO_PROOF);
    }
    enum err e = put_der(o);
    if (e != OK || (e = admin_tx_next(tx, &o->row.etag)) != OK) {
        return e;
    }
    o->row.is_verified = o->is_verified || (is_same && o->row.is_verified);
    if (!is_same) {
        o->row.code[0] = '\0'; /* the code was for the other certificate */
        o->row.code_failures = 0;
    }
    o->row.updated_us = tx->now_us;
    return sql_ca_set(tx->db, &o->row);
}

static enum err tx_put(struct store_tx *tx, struct admin_op *op)
{
    struct cert_op *o = as_cert_op(op);
    bool exists;
    enum err e;
    if ((e = read_row(tx, o, &exists)) != OK ||
        (e = admin_match_put(&op->match, exists, o->row.etag)) != OK ||
        (e = exists ? tx_update(tx, o) : tx_create(tx, o)) != OK) {
        return e;
    }
    return trust_tx_changed(tx, op->w->s);
}

static enum err read_put(struct worker *w, const struct json *body, struct cert_op *o,
                         struct err_info *info)
{
    static const char *const known[] = {"certificate", "isVerified", "subject", "expiry",
                                        "thumbprint",  "created",    "updated", "expiresInDays",
                                        "usage",       NULL};
    enum { USAGE_DEVICE, USAGE_EK };
    static const char *const usages[] = {"device", "endorsementKey"};
    struct json *props = NULL;
    struct span text;
    size_t usage = USAGE_DEVICE;
    enum err e;
    if ((e = json_get_object(body, "properties", JSON_F_NEED, &props, info)) != OK ||
        (e = admin_members(props, "properties", known, info)) != OK ||
        (e = json_get_str(props, "certificate", JSON_F_NEED, &text, info)) != OK ||
        (e = json_get_bool(props, "isVerified", JSON_F_OPT, &o->is_verified, info)) != OK ||
        (e = json_get_word(props, "usage", JSON_F_OPT, usages, ARRAY_LEN(usages), &usage, info)) !=
            OK ||
        (e = cert_from_text(text, &o->cert, info)) != OK ||
        (e = proof_check_upload(o->cert, clock_wall_us(w->s->clock), info)) != OK) {
        return e;
    }
    o->is_ek_root = usage == USAGE_EK;
    o->has_usage = json_get(props, "usage") != NULL;
    if (o->is_ek_root && !w->s->program->takes_ek_roots) {
        return err_set(info, E_ARG,
                       "usage: endorsement keys are a matter of the provisioning service");
    }
    if (o->is_ek_root && o->is_verified) {
        return err_set(info, E_ARG, NO_PROOF);
    }
    if (o->is_verified && !server_base_conf(w->s)->allow_auto_verify) {
        return err_set(info, E_ARG, "isVerified: this instance wants the proof of possession");
    }
    return OK;
}

/* What the certificate library found wrong is an argument that is not valid here (400004). */
static enum err as_argument(enum err e)
{
    return err_class(e) == ERR_T_PEER && e != E_ARG_NULL && e != E_JSON ? E_ARG : e;
}

static void cert_put(struct http_rq *rq)
{
    static const char *const known[] = {"properties", "id", "name", "etag", "type", NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct cert_op *o = cert_op_new(rq);
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, known, false, &body)) {
        return;
    }
    enum err e = read_put(worker_of_rq(rq), body, o, &info);
    if (e != OK) {
        admin_op_drop(rq, &o->op, as_argument(e), &info);
        return;
    }
    o->op.tx = tx_put;
    o->op.answer = answer_op;
    admin_submit(rq, &o->op);
}

/* --- DELETE ----------------------------------------------------------------------------------------- */

static enum err tx_delete(struct store_tx *tx, struct admin_op *op)
{
    struct cert_op *o = as_cert_op(op);
    const struct server_program *p = op->w->s->program;
    bool exists;
    enum err e;
    if ((e = read_row(tx, o, &exists)) != OK ||
        (e = admin_match_change(&op->match, exists, o->row.etag)) != OK) {
        return e;
    }
    if (p->cert_in_use != NULL && (e = p->cert_in_use(tx, span_str(o->row.name))) != OK) {
        return e == E_CONFLICT ? err_set(&op->info, e, "certificate is in use") : e;
    }
    if ((e = sql_ca_del(tx->db, o->row.id)) != OK) {
        return e;
    }
    return trust_tx_changed(tx, op->w->s);
}

static void cert_delete(struct http_rq *rq)
{
    struct cert_op *o = cert_op_new(rq);
    admin_submit_delete(rq, o != NULL ? &o->op : NULL, tx_delete);
}

/* --- proof of possession ------------------------------------------------------------------------------ */

static enum err tx_code(struct store_tx *tx, struct admin_op *op)
{
    struct cert_op *o = as_cert_op(op);
    bool exists;
    enum err e;
    if ((e = read_row(tx, o, &exists)) != OK ||
        (e = admin_match_change(&op->match, exists, o->row.etag)) != OK ||
        (o->row.is_ek_root && (e = err_set(&op->info, E_ARG, NO_PROOF)) != OK) ||
        (e = admin_tx_next(tx, &o->row.etag)) != OK) {
        return e;
    }
    memcpy(o->row.code, o->code, sizeof(o->code));
    o->row.code_until_us = tx->now_us + PROOF_CODE_LIFE_US;
    o->row.code_failures = 0;
    o->row.updated_us = tx->now_us;
    return sql_ca_set(tx->db, &o->row);
}

static void cert_generate_code(struct http_rq *rq)
{
    AUTO(json_free_p) struct json *body = NULL;
    static const char *const none[] = {NULL};
    struct cert_op *o = cert_op_new(rq);
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, none, true, &body)) {
        return;
    }
    proof_code_new(o->code);
    o->op.tx = tx_code;
    o->op.answer = answer_op;
    admin_submit(rq, &o->op);
}

static enum err has_live_code(const struct ca_row *row, int64_t now_us, struct err_info *info)
{
    return proof_code_is_live(span_str(row->code), row->code_until_us, (uint64_t)row->code_failures,
                              now_us, info);
}

static enum err check_proof(const struct ca_row *row, struct span text, int64_t now_us,
                            struct err_info *info)
{
    AUTO(cert_free_p) struct cert *ca = NULL;
    AUTO(cert_free_p) struct cert *proof = NULL;
    enum err e;
    if (cert_from_der(span_of(row->der, row->der_n), &ca, NULL) != OK) {
        return E_CORRUPT;
    }
    if ((e = cert_from_text(text, &proof, info)) != OK ||
        (e = cert_check_strength(proof, info)) != OK) {
        return e;
    }
    return proof_verify(ca, proof, span_str(row->code), now_us, info);
}

static enum err tx_verify(struct store_tx *tx, struct admin_op *op)
{
    struct cert_op *o = as_cert_op(op);
    bool exists;
    enum err e;
    if ((e = read_row(tx, o, &exists)) != OK ||
        (e = admin_match_change(&op->match, exists, o->row.etag)) != OK ||
        (e = has_live_code(&o->row, tx->now_us, &op->info)) != OK) {
        return e;
    }
    if (o->row.etag != o->read_etag) {
        return E_ETAG; /* judged against another certificate or code */
    }
    if (o->verdict != OK) {
        o->row.code_failures++;
        op->refusal = as_argument(o->verdict);
        op->info = o->verdict_info;
        return sql_ca_set(tx->db, &o->row);
    }
    o->row.is_verified = true;
    o->row.code[0] = '\0';
    o->row.code_failures = 0;
    o->row.updated_us = tx->now_us;
    if ((e = admin_tx_next(tx, &o->row.etag)) != OK || (e = sql_ca_set(tx->db, &o->row)) != OK) {
        return e;
    }
    return trust_tx_changed(tx, op->w->s);
}

/* Judged here, against the row as it is now; the transaction sees to it that it still is. */
static enum err prepare_verify(struct http_rq *rq, struct cert_op *o, const struct json *body,
                               struct err_info *info)
{
    AUTO(ca_row_done) struct ca_row row = {0};
    struct worker *w = worker_of_rq(rq);
    int64_t now_us = clock_wall_us(w->s->clock);
    struct span text;
    enum err e = sql_ca_get(w->db, span_str(o->name), &row);
    if (e != OK || (e = admin_match_change(&o->op.match, true, row.etag)) != OK ||
        (e = has_live_code(&row, now_us, info)) != OK ||
        (e = json_get_str(body, "certificate", JSON_F_NEED, &text, info)) != OK) {
        return e;
    }
    o->read_etag = row.etag;
    o->verdict = check_proof(&row, text, now_us, &o->verdict_info);
    return err_class(o->verdict) == ERR_T_LOCAL ? o->verdict : OK;
}

static void cert_verify(struct http_rq *rq)
{
    static const char *const known[] = {"certificate", NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct cert_op *o = cert_op_new(rq);
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, known, true, &body)) {
        return;
    }
    enum err e = prepare_verify(rq, o, body, &info);
    if (e != OK) {
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->op.tx = tx_verify;
    o->op.answer = answer_op;
    admin_submit(rq, &o->op);
}

const struct http_route admin_cert_routes[] = {
    /* clang-format off */
    { HTTP_GET,    "/admin/certificates",        AUTH_ADMIN, 0, 0,                cert_list },
    { HTTP_GET,    "/admin/certificates/{name}", AUTH_ADMIN, 0, 0,                cert_get },
    { HTTP_PUT,    "/admin/certificates/{name}", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, cert_put },
    { HTTP_DELETE, "/admin/certificates/{name}", AUTH_ADMIN, 0, 0,                cert_delete },
    { HTTP_POST,   "/admin/certificates/{name}/generateVerificationCode",
                                                 AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, cert_generate_code },
    { HTTP_POST,   "/admin/certificates/{name}/verify",
                                                 AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, cert_verify },
    { HTTP_POST,   "/admin/certificates/{name}/verifyCertificate",
                                                 AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, cert_verify },
    /* clang-format on */
};
const size_t n_admin_cert_routes = ARRAY_LEN(admin_cert_routes);
