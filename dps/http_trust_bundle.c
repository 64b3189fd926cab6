/* SPDX-License-Identifier: Apache-2.0 */
/* Trust bundles on the service API: docs/protocol/dps-service-rest.md A11. */
#include <stdlib.h>

#include "base/log.h"
#include "dps/http.h"
#include "dps/trust_bundle.h"
#include "server/authn.h"
#include "wire/http.h"

#define ANSWER_MAX (2 * LIMIT_TRUST_BUNDLE)
#define PAGE_BYTES (1u << 20) /* a page ends before it grows over this */

/* --- one write -------------------------------------------------------------------------------------- */

struct bundle_op {
    struct store_op op;
    struct dps_worker *dw;
    handle rq;
    bool is_delete;
    struct arena arena;
    struct trust_bundle_row row;
    struct enr_match match;
    struct err_info info;
};

static struct bundle_op *op_new(struct http_rq *rq, bool is_delete)
{
    struct bundle_op *o = NEW(struct bundle_op);
    if (o != NULL) {
        o->dw = dps_worker_of(worker_of_rq(rq));
        o->rq = http_rq_handle(rq);
        o->is_delete = is_delete;
        o->arena = (struct arena)ARENA_INIT(ANSWER_MAX);
    }
    return o;
}

static void op_free(struct bundle_op *o)
{
    arena_done(&o->arena);
    free(o);
}

static enum err bundle_tx(struct store_tx *tx, struct store_op *op)
{
    struct bundle_op *o = CONTAINER_OF(op, struct bundle_op, op);
    return o->is_delete ? trust_bundle_tx_delete(tx, o->row.fold, &o->match, &o->info)
                        : trust_bundle_tx_put(tx, &o->row, &o->match, &o->info);
}

static void answer_bundle(struct http_rq *rq, const struct trust_bundle_row *row)
{
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    enum err e = trust_bundle_write(&b, row, true);
    if (e != OK) {
        dps_refuse(rq, e, NULL);
        return;
    }
    dps_answer_json(rq, 200, buf_span(&b));
}

static void bundle_home(struct msg *m)
{
    struct bundle_op *o = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct bundle_op, op);
    struct http_rq *rq = http_rq_of(worker_loop(o->dw->w), o->rq);
    enum err e = o->op.result;
    o->dw->n_pending--;
    if (e == OK) {
        LOG_INFO("dps.trust_bundle_changed", L_STR("act", o->is_delete ? "delete" : "put"),
                 L_SPAN("id", o->row.fold));
    }
    if (rq != NULL && e != OK) {
        dps_refuse(rq, e, &o->info);
    } else if (rq != NULL && o->is_delete) {
        dps_answer_none(rq);
    } else if (rq != NULL) {
        answer_bundle(rq, &o->row);
    }
    op_free(o);
}

static enum err op_submit(struct bundle_op *o)
{
    o->op.tx = bundle_tx;
    o->op.home = loop_mailbox(worker_loop(o->dw->w));
    o->op.msg.run = bundle_home;
    o->op.bytes = (uint32_t)(sizeof(*o) + o->row.certificates.n);
    enum err e = store_submit(server_store(o->dw->dps->server), &o->op);
    o->dw->n_pending += e == OK;
    return e;
}

/* --- what the request says ------------------------------------------------------------------------------ */

static enum err read_match(const struct http_rq *rq, struct enr_match *ret, struct err_info *info)
{
    struct http_match m;
    enum err e = http_if_match_read(http_rq_header(rq, "If-Match"), &m, info);
    if (e != OK) {
        return e;
    }
    *ret = (struct enr_match){m.kind == HTTP_MATCH_NONE  ? ENR_MATCH_NONE
                              : m.kind == HTTP_MATCH_ANY ? ENR_MATCH_ANY
                                                         : ENR_MATCH_ETAG,
                              m.kind == HTTP_MATCH_ETAG ? trust_bundle_etag_read(m.etag) : 0};
    return OK;
}

/* The id of a body is the server's to say: one that is there is that of the path. */
static enum err read_body(struct http_rq *rq, struct bundle_op *o)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct span id = SPAN_NONE;
    enum err e = http_want_json(rq, &o->info);
    if (e == OK && span_trim(http_rq_body(rq)).n == 0) {
        e = err_set(&o->info, E_ARG_NULL, "a body is required");
    }
    if (e != OK ||
        (e = json_read_object(http_rq_body(rq), LIMIT_DPS_BODY, &body, &o->info)) != OK ||
        (e = json_get_str(body, "id", JSON_F_OPT, &id, &o->info)) != OK) {
        return e;
    }
    if (id.n != 0 && !span_eq_nocase(id, o->row.name)) {
        return err_set(&o->info, E_ARG, "id of the body is not that of the path");
    }
    return trust_bundle_read(body, &o->arena, &o->row.certificates, &o->info);
}

static void handle_write(struct http_rq *rq, bool is_delete)
{
    struct bundle_op *o = op_new(rq, is_delete);
    if (o == NULL) {
        dps_refuse(rq, E_NOMEM, NULL);
        return;
    }
    o->row.name = arena_span(&o->arena, http_rq_param(rq, 0));
    enum err e = o->row.name.p == NULL ? E_NOMEM : OK;
    if (e == OK && (e = enrollment_fold(&o->arena, o->row.name, &o->row.fold, &o->info)) == OK &&
        (e = read_match(rq, &o->match, &o->info)) == OK &&
        (is_delete || (e = read_body(rq, o)) == OK)) {
        e = op_submit(o);
    }
    if (e != OK) {
        dps_refuse(rq, e, &o->info);
        op_free(o);
    }
}

static void bundle_put(struct http_rq *rq)
{
    handle_write(rq, false);
}

static void bundle_delete(struct http_rq *rq)
{
    handle_write(rq, true);
}

/* --- reading ------------------------------------------------------------------------------------------------ */

static void bundle_get(struct http_rq *rq)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(ANSWER_MAX);
    struct err_info info = {0};
    struct trust_bundle_row row;
    struct span fold;
    enum err e = enrollment_fold(&a, http_rq_param(rq, 0), &fold, &info);
    if (e != OK || (e = sql_trust_bundle_get(worker_db(worker_of_rq(rq)), &a, fold, &row)) != OK) {
        dps_refuse(rq, e, &info);
        return;
    }
    answer_bundle(rq, &row);
}

struct page {
    uint64_t limit;
    bool with_pem;
    struct span after; /* of the continuation: the last id, folded */
};

/* All of them is what can be asked for: they are few. */
static enum err read_query(struct http_rq *rq, struct err_info *info)
{
    static const char *const known[] = {"", "*", "SELECT *", "SELECT * FROM trustBundles"};
    AUTO(json_free_p) struct json *body = NULL;
    struct span text = SPAN_NONE;
    enum err e = http_want_json(rq, info);
    if (e != OK || span_trim(http_rq_body(rq)).n == 0) {
        return e;
    }
    if ((e = json_read_object(http_rq_body(rq), LIMIT_DPS_BODY, &body, info)) != OK ||
        (e = json_get_str(body, "query", JSON_F_OPT, &text, info)) != OK) {
        return e;
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (span_is_nocase(span_trim(text), known[i])) {
            return OK;
        }
    }
    return err_set(info, E_ARG, "query: SELECT * is what can be asked of trust bundles");
}

static enum err read_page(struct http_rq *rq, struct page *p, struct err_info *info)
{
    bool has_flag;
    struct span count = http_rq_header(rq, "x-ms-max-item-count");
    struct span token = http_rq_header(rq, "x-ms-continuation");
    struct span flag = http_rq_query(rq, "withCertificateData", &has_flag);
    p->limit = LIMIT_QUERY_PAGE_DEFAULT;
    if (count.n != 0 && (!span_to_u64(count, &p->limit) || p->limit == 0)) {
        return err_set(info, E_ARG, "x-ms-max-item-count is not a number from 1 to %u",
                       LIMIT_QUERY_PAGE);
    }
    p->limit = MIN(p->limit, LIMIT_QUERY_PAGE);
    p->with_pem = has_flag && span_is_nocase(flag, "true");
    if (has_flag && !p->with_pem && !span_is_nocase(flag, "false")) {
        return err_set(info, E_ARG, "withCertificateData is neither true nor false");
    }
    return token.n == 0 ? OK : enrollment_fold(http_rq_arena(rq), token, &p->after, info);
}

/* *ret_last: where the next page begins; empty: there is none. */
static enum err add_page(struct db *db, struct page *p, struct arena *a, struct buf *b,
                         struct span *ret_last)
{
    struct span at = p->after.n != 0 ? p->after : SPAN_LIT("");
    enum err e = OK;
    *ret_last = SPAN_NONE;
    for (uint64_t n = 0; e == OK; n++) {
        AUTO(arena_done) struct arena own = ARENA_INIT(ANSWER_MAX);
        struct trust_bundle_row row;
        if ((e = sql_trust_bundle_next(db, &own, at, &row)) != OK) {
            break;
        }
        if (n == p->limit || b->n > PAGE_BYTES) {
            *ret_last = at;
            break;
        }
        buf_add_str(b, n == 0 ? "" : ",");
        at = arena_span(a, row.fold);
        e = at.p != NULL ? trust_bundle_write(b, &row, p->with_pem) : E_NOMEM;
    }
    return e == E_NOT_FOUND ? OK : e;
}

static void bundle_query(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(PAGE_BYTES + 2 * ANSWER_MAX);
    struct err_info info = {0};
    struct page p = {.limit = 0};
    struct span last = SPAN_NONE;
    enum err e = read_query(rq, &info);
    buf_add_u8(&b, '[');
    if (e != OK || (e = read_page(rq, &p, &info)) != OK ||
        (e = add_page(worker_db(worker_of_rq(rq)), &p, http_rq_arena(rq), &b, &last)) != OK) {
        dps_refuse(rq, e, &info);
        return;
    }
    buf_add_u8(&b, ']');
    if (buf_err(&b) != OK) {
        dps_refuse(rq, buf_err(&b), NULL);
        return;
    }
    http_header(rq, "x-ms-item-type", SPAN_LIT("TrustBundle"));
    http_headerf(rq, "x-ms-max-item-count", "%llu", (unsigned long long)p.limit);
    if (last.n != 0) {
        http_header(rq, "x-ms-continuation", last);
    }
    dps_answer_json(rq, 200, buf_span(&b));
}

/* clang-format off */
const struct http_route dps_trust_bundle_routes[] = {
    { HTTP_PUT,    "/trustBundles/{id}",   AUTH_SERVICE, R_ENROLLMENT_WRITE, LIMIT_DPS_BODY, bundle_put },
    { HTTP_GET,    "/trustBundles/{id}",   AUTH_SERVICE, R_ENROLLMENT_READ,  0,              bundle_get },
    { HTTP_DELETE, "/trustBundles/{id}",   AUTH_SERVICE, R_ENROLLMENT_WRITE, 0,              bundle_delete },
    { HTTP_POST,   "/trustBundles/query",  AUTH_SERVICE, R_ENROLLMENT_READ,  LIMIT_DPS_BODY, bundle_query },
};
/* clang-format on */
const size_t n_dps_trust_bundle_routes = ARRAY_LEN(dps_trust_bundle_routes);
