/* SPDX-License-Identifier: Apache-2.0 */
#include "server/admin.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/server_int.h"
#include "server/server_sql.h"
#include "wire/http.h"

#define ACT_MAX 256u

/* --- who ---------------------------------------------------------------------------------------- */

enum err admin_admit(struct http_rq *rq, struct err_info *info)
{
    struct worker *w = worker_of_rq(rq);
    struct caller *c = arena_new(http_rq_arena(rq), struct caller);
    bool has_version;
    if (c == NULL) {
        return E_NOMEM;
    }
    enum err e = authn_service(w, rq, w->s->program->admin_right, c, info);
    if (e != OK) {
        return e;
    }
    struct span version = http_rq_query(rq, "api-version", &has_version);
    if (!has_version || !span_is(version, SERVER_ADMIN_VERSION)) {
        return err_set(info, E_VERSION, "api-version of this plane is " SERVER_ADMIN_VERSION);
    }
    http_rq_set_user(rq, c);
    return OK;
}

const struct caller *admin_caller(struct http_rq *rq)
{
    ASSERT(http_rq_route(rq) != NULL && http_rq_route(rq)->auth == AUTH_ADMIN);
    return http_rq_user(rq);
}

/* --- etags -------------------------------------------------------------------------------------- */

void admin_etag_text(uint64_t etag, char dst[ADMIN_ETAG_SIZE])
{
    AUTO(buf_done) struct buf raw = BUF_INIT(8);
    AUTO(buf_done) struct buf text = BUF_INIT(ADMIN_ETAG_SIZE);
    buf_add_be64(&raw, etag);
    base64_add(&text, buf_span(&raw));
    if (buf_err(&text) != OK || !span_to_cstr(buf_span(&text), dst, ADMIN_ETAG_SIZE)) {
        dst[0] = '\0'; /* no memory: an etag that matches nothing */
    }
}

enum err admin_tx_next(struct store_tx *tx, uint64_t *ret)
{
    return sql_counter_next(tx->db, ret);
}

static uint64_t etag_read(struct span text)
{
    uint8_t raw[8];
    size_t n = sizeof(raw);
    if (base64_decode_to(text, raw, &n) != OK || n != sizeof(raw)) {
        return 0; /* never given out */
    }
    uint64_t v = 0;
    for (size_t i = 0; i < sizeof(raw); i++) {
        v = v << 8 | raw[i];
    }
    return v;
}

struct admin_match admin_match_read(const struct http_rq *rq)
{
    struct http_match m;
    struct admin_match ret = {ADMIN_MATCH_ETAG, 0};
    if (http_if_match_read(http_rq_header(rq, "If-Match"), &m, NULL) != OK) {
        return ret; /* a list: matches nothing */
    }
    if (m.kind == HTTP_MATCH_ETAG) {
        ret.etag = etag_read(m.etag);
    } else {
        ret.kind = m.kind == HTTP_MATCH_ANY ? ADMIN_MATCH_ANY : ADMIN_MATCH_NONE;
    }
    return ret;
}

static bool is_stale(const struct admin_match *m, uint64_t etag)
{
    return m->kind == ADMIN_MATCH_ETAG && m->etag != etag;
}

enum err admin_match_put(const struct admin_match *m, bool exists, uint64_t etag)
{
    if (m->kind == ADMIN_MATCH_NONE) {
        return exists ? E_EXISTS : OK;
    }
    return !exists ? E_NOT_FOUND : is_stale(m, etag) ? E_ETAG : OK;
}

enum err admin_match_change(const struct admin_match *m, bool exists, uint64_t etag)
{
    if (!exists) {
        return E_NOT_FOUND;
    }
    return m->kind == ADMIN_MATCH_NONE ? E_ETAG_MISSING : is_stale(m, etag) ? E_ETAG : OK;
}

/* --- names and bodies ----------------------------------------------------------------------------- */

bool admin_name(struct http_rq *rq, unsigned i, struct span *ret)
{
    struct err_info info = {0};
    struct span name = http_rq_param(rq, i);
    if (!id_admin_name_ok(name)) {
        admin_refuse(rq, err_set(&info, E_ARG, "name: 1 to 64 letters, digits, '-', '.' or '_'"),
                     &info);
        return false;
    }
    *ret = name;
    return true;
}

enum err admin_members(const struct json *object, const char *path, const char *const *members,
                       struct err_info *info)
{
    struct json_cursor c = {NULL, false};
    struct span name;
    struct json *value;
    while (json_next(object, &c, &name, &value)) {
        size_t i = 0;
        while (members[i] != NULL && !span_is(name, members[i])) {
            i++;
        }
        if (members[i] == NULL) {
            return err_set(info, E_ARG, "unknown member \"%s%s%.*s\"", path,
                           path[0] != '\0' ? "." : "", SPAN_ARG(span_sub(name, 0, 64)));
        }
    }
    return OK;
}

bool admin_body(struct http_rq *rq, const char *const *members, bool may_be_empty,
                struct json **ret)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct err_info info = {0};
    struct span body = http_rq_body(rq);
    if (body.n == 0 && may_be_empty) {
        body = SPAN_LIT("{}");
    }
    enum err e = body.n == 0 ? err_set(&info, E_ARG_NULL, "a body is required")
                             : json_read_object(body, LIMIT_ADMIN_BODY, &j, &info);
    if (e != OK || (e = admin_members(j, "", members, &info)) != OK) {
        admin_refuse(rq, e, &info);
        return false;
    }
    *ret = TAKE(j);
    return true;
}

/* --- what is written down ------------------------------------------------------------------------- */

static const char *const method_names[HTTP_METHODS] = {
    [HTTP_GET] = "GET",       [HTTP_PUT] = "PUT",     [HTTP_POST] = "POST",
    [HTTP_DELETE] = "DELETE", [HTTP_PATCH] = "PATCH", [HTTP_HEAD] = "HEAD",
};

static char *act_of(struct http_rq *rq)
{
    return arena_printf(http_rq_arena(rq), "%s %.*s", method_names[http_rq_method(rq)],
                        SPAN_ARG(span_sub(http_rq_raw_path(rq), 0, ACT_MAX - 16)));
}

static const char *peer_of(struct http_rq *rq)
{
    struct conn *c = http_rq_conn(rq);
    return c != NULL ? conn_peer_text(c) : "local";
}

static bool is_write(const struct http_rq *rq)
{
    enum http_method m = http_rq_method(rq);
    return m != HTTP_GET && m != HTTP_HEAD;
}

void admin_refuse(struct http_rq *rq, enum err e, const struct err_info *info)
{
    struct server *s = worker_of_rq(rq)->s;
    const struct caller *c = http_rq_user(rq);
    if (c != NULL && is_write(rq)) {
        const char *act = act_of(rq);
        LOG_INFO("admin.refused", L_SPAN("who", c->policy_name), L_STR("from", peer_of(rq)),
                 L_STR("act", act), L_ERR(e), L_WHY(info, e));
        audit_note(s, c->policy_name, span_str(peer_of(rq)), span_str(act), e);
    }
    s->program->refuse(rq, e, info);
}

/* --- answers ------------------------------------------------------------------------------------- */

static void common_headers(struct http_rq *rq, uint64_t etag)
{
    char guid[GUID_SIZE];
    char text[ADMIN_ETAG_SIZE];
    guid_new(guid);
    http_header(rq, "x-ms-request-id", span_str(guid));
    if (etag != 0) {
        admin_etag_text(etag, text);
        http_headerf(rq, "ETag", "\"%s\"", text);
    }
}

void admin_answer_json(struct http_rq *rq, unsigned status, uint64_t etag, const char *location,
                       struct span json)
{
    common_headers(rq, etag);
    if (location != NULL) {
        http_header(rq, "Location", span_str(location));
    }
    http_answer(rq, status, "application/json; charset=utf-8", json);
}

void admin_answer_none(struct http_rq *rq)
{
    common_headers(rq, 0);
    http_answer(rq, 204, NULL, SPAN_NONE);
}

void admin_answer_deleted(struct http_rq *rq, struct admin_op *op UNUSED)
{
    admin_answer_none(rq);
}

/* --- lists --------------------------------------------------------------------------------------- */

static bool read_number(struct http_rq *rq, const char *name, uint64_t min, uint64_t max,
                        uint64_t *ret)
{
    struct err_info info = {0};
    bool found;
    uint64_t v;
    struct span text = http_rq_query(rq, name, &found);
    if (!found) {
        return true;
    }
    if (!span_to_u64(text, &v) || v < min || v > max) {
        admin_refuse(rq,
                     err_set(&info, E_ARG, "%s: not a number from %llu to %llu", name,
                             (unsigned long long)min, (unsigned long long)max),
                     &info);
        return false;
    }
    *ret = v;
    return true;
}

bool admin_page_read(struct http_rq *rq, struct admin_page *ret)
{
    struct admin_page p = {LIMIT_QUERY_PAGE, 0};
    if (!read_number(rq, "top", 1, LIMIT_QUERY_PAGE, &p.top) ||
        !read_number(rq, "skip", 0, INT64_MAX, &p.skip)) {
        return false;
    }
    *ret = p;
    return true;
}

void admin_list_begin(struct admin_list *l, struct buf *b, const struct admin_page *page)
{
    *l = (struct admin_list){.b = b, .page = *page};
    buf_add_str(b, "{\"value\":[");
}

bool admin_list_next(struct admin_list *l)
{
    if (l->seen++ < l->page.skip || l->shown == l->page.top) {
        return false;
    }
    if (l->shown++ != 0) {
        buf_add_u8(l->b, ',');
    }
    return true;
}

void admin_list_answer(struct http_rq *rq, struct admin_list *l, enum err e)
{
    buf_add_str(l->b, "],\"nextLink\":null}");
    e = e != OK ? e : buf_err(l->b);
    if (e != OK) {
        admin_refuse(rq, e, NULL);
    } else {
        admin_answer_json(rq, 200, 0, NULL, buf_span(l->b));
    }
}

/* --- writes -------------------------------------------------------------------------------------- */

static void op_end(struct admin_op *op)
{
    if (op->done != NULL) {
        op->done(op);
    }
    free(op->who);
    free(op->from);
    free(op->act);
    free(op);
}

void *admin_op_new(struct http_rq *rq, size_t size)
{
    ASSERT(size >= sizeof(struct admin_op));
    const struct caller *c = admin_caller(rq);
    const char *act = act_of(rq);
    struct admin_op *op = mem_new(size);
    if (op != NULL && act != NULL) {
        op->who = span_dup(c->policy_name);
        op->from = span_dup(span_str(peer_of(rq)));
        op->act = span_dup(span_str(act));
        op->w = worker_of_rq(rq);
        op->rq = http_rq_handle(rq);
        op->match = admin_match_read(rq);
        if (op->who != NULL && op->from != NULL && op->act != NULL && op->rq != 0) {
            return op;
        }
    }
    if (op != NULL) {
        op_end(op);
    }
    admin_refuse(rq, E_NOMEM, NULL);
    return NULL;
}

void admin_op_forget(struct admin_op *op)
{
    op_end(op);
}

void admin_op_drop(struct http_rq *rq, struct admin_op *op, enum err e, const struct err_info *info)
{
    admin_refuse(rq, e, info);
    op_end(op);
}

static enum err admin_tx(struct store_tx *tx, struct store_op *base)
{
    struct admin_op *op = CONTAINER_OF(base, struct admin_op, op);
    op->refusal = OK;
    op->created = false;
    enum err e = op->tx(tx, op);
    if (e != OK) {
        return e;
    }
    const struct audit_entry entry = {span_str(op->who), span_str(op->from), span_str(op->act),
                                      span_str(err_name(op->refusal))};
    return audit_tx_add(tx, &entry);
}

static void admin_home(struct msg *m)
{
    struct admin_op *op = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct admin_op, op);
    struct worker *w = op->w;
    struct http_rq *rq = http_rq_of(w->loop, op->rq);
    enum err e = op->op.result;
    w->pending_ops--;
    if (e != OK) {
        audit_note(w->s, span_str(op->who), span_str(op->from), span_str(op->act), e);
    } else {
        e = op->refusal;
    }
    LOG_INFO("admin.write", L_STR("who", op->who), L_STR("from", op->from), L_STR("act", op->act),
             L_STR("result", err_name(e)));
    if (rq != NULL && e == OK) {
        op->answer(rq, op);
    } else if (rq != NULL) {
        w->s->program->refuse(rq, e, &op->info);
    }
    op_end(op);
}

void admin_submit(struct http_rq *rq, struct admin_op *op)
{
    struct worker *w = op->w;
    op->op.tx = admin_tx;
    op->op.msg.run = admin_home;
    op->op.home = loop_mailbox(w->loop);
    op->op.urgent = op->is_urgent;
    op->op.bytes = LIMIT_ADMIN_BODY;
    enum err e = store_submit(w->s->store, &op->op);
    if (e != OK) {
        admin_op_drop(rq, op, e, NULL);
        return;
    }
    w->pending_ops++;
}

void admin_submit_delete(struct http_rq *rq, struct admin_op *op,
                         enum err (*tx)(struct store_tx *tx, struct admin_op *op))
{
    if (op != NULL) {
        op->tx = tx;
        op->answer = admin_answer_deleted;
        op->is_urgent = true;
        admin_submit(rq, op);
    }
}

bool admin_op_body(struct http_rq *rq, struct admin_op *op, const char *const *members,
                   bool may_be_empty, struct json **ret)
{
    if (op == NULL) {
        return false;
    }
    if (!admin_body(rq, members, may_be_empty, ret)) {
        op_end(op);
        return false;
    }
    return true;
}
