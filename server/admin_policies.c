/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resources /admin/policies (dps-service-rest.md C3). Nobody gains a right here (threat S3): a policy is given only
 * rights that the caller holds, and keys are told only of policies whose rights the caller holds.
 */
#include "server/admin_policies.h"

#include <stdlib.h>

#include "base/text.h"

static void policy_op_done(struct admin_op *op)
{
    struct policy_op *o = as_policy_op(op);
    secret_done(&o->key[0]);
    secret_done(&o->key[1]);
}

struct policy_op *policy_op_new(struct http_rq *rq)
{
    struct span name;
    if (!admin_name(rq, 0, &name)) {
        return NULL;
    }
    struct policy_op *o = admin_op_new(rq, sizeof(*o));
    if (o != NULL) {
        o->op.done = policy_op_done;
        o->caller_rights = admin_caller(rq)->policy.rights;
        (void)span_to_cstr(name, o->name, sizeof(o->name)); /* admin_name bounds it */
    }
    return o;
}

/* --- the resource as JSON --------------------------------------------------------------------------- */

static uint32_t hidden_bits(const struct server_program *p)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < p->n_rights; i++) {
        bits |= p->rights[i].hidden ? p->rights[i].bit : 0;
    }
    return bits;
}

/* Without the closing brace. The text form leaves Berth's own rights out; a member of their own
 * names them, or a reader would not see who may administrate. */
void policy_add_json(struct buf *b, const struct server_program *p, const struct policy_row *row)
{
    AUTO(buf_done) struct buf text = BUF_INIT(1024);
    AUTO(buf_done) struct buf hidden = BUF_INIT(1024);
    char etag[ADMIN_ETAG_SIZE];
    admin_etag_text(row->etag, etag);
    rights_text(p, row->given, &text);
    buf_addf(b, "{\"keyName\":\"%s\",\"rights\":", row->name);
    json_write_str(b, buf_span(&text));
    if ((row->given & hidden_bits(p)) != 0) {
        rights_text_all(p, row->given & hidden_bits(p), &hidden);
        buf_add_str(b, ",\"hiddenRights\":");
        json_write_str(b, buf_span(&hidden));
    }
    buf_addf(b, ",\"etag\":\"%s\"", etag);
}

static void answer_row(struct http_rq *rq, const struct policy_row *row, unsigned status)
{
    AUTO(buf_done) struct buf b = BUF_INIT(POLICY_JSON_MAX);
    const struct server_program *p = worker_of_rq(rq)->s->program;
    policy_add_json(&b, p, row);
    buf_add_u8(&b, '}');
    if (buf_err(&b) != OK) {
        p->refuse(rq, buf_err(&b), NULL);
        return;
    }
    const char *location =
        status == 201 ? arena_printf(http_rq_arena(rq), "/admin/policies/%s", row->name) : NULL;
    admin_answer_json(rq, status, row->etag, location, buf_span(&b));
}

static void answer_put(struct http_rq *rq, struct admin_op *op)
{
    answer_row(rq, &as_policy_op(op)->row, op->created ? 201 : 200);
}

/* --- reading ---------------------------------------------------------------------------------------- */

static void policy_get(struct http_rq *rq)
{
    struct policy_row row;
    struct span name;
    if (!admin_name(rq, 0, &name)) {
        return;
    }
    enum err e = sql_policy_get(worker_db(worker_of_rq(rq)), name, &row);
    if (e != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    answer_row(rq, &row, 200);
}

static void policy_list(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_POLICIES * POLICY_JSON_MAX);
    struct policy_row rows[LIMIT_POLICIES];
    struct worker *w = worker_of_rq(rq);
    struct admin_page page;
    struct admin_list list;
    size_t n = 0;
    if (!admin_page_read(rq, &page)) {
        return;
    }
    enum err e = sql_policy_all(w->db, rows, &n);
    admin_list_begin(&list, &b, &page);
    for (size_t i = 0; e == OK && i < n; i++) {
        if (admin_list_next(&list)) {
            policy_add_json(&b, w->s->program, &rows[i]);
            buf_add_u8(&b, '}');
        }
    }
    admin_list_answer(rq, &list, e);
}

/* --- transactions ------------------------------------------------------------------------------------- */

static bool is_admin(const struct server_program *p, uint32_t given)
{
    return (rights_closure(p, given) & p->admin_right) != 0;
}

/* E_CONFLICT unless another policy opens this plane: nobody may lock himself (and all) out. */
static enum err keep_an_admin(struct store_tx *tx, const struct policy_op *o, struct err_info *info)
{
    struct policy_row rows[LIMIT_POLICIES];
    size_t n;
    enum err e = sql_policy_all(tx->db, rows, &n);
    for (size_t i = 0; e == OK && i < n; i++) {
        if (rows[i].id != o->row.id && is_admin(o->op.w->s->program, rows[i].given)) {
            return OK;
        }
    }
    return e != OK ? e : err_set(info, E_CONFLICT, "the last policy that may administrate");
}

enum err policy_op_read_row(struct store_tx *tx, struct policy_op *o, bool *ret_exists)
{
    enum err e = sql_policy_get(tx->db, span_str(o->name), &o->row);
    *ret_exists = e == OK;
    return e == E_NOT_FOUND ? OK : e;
}

static enum err tx_create(struct store_tx *tx, struct policy_op *o)
{
    struct policy_row rows[LIMIT_POLICIES];
    size_t n;
    enum err e = sql_policy_all(tx->db, rows, &n);
    if (e == OK && n == LIMIT_POLICIES) {
        return err_set(&o->op.info, E_ARG, "Policy limit reached");
    }
    o->row = (struct policy_row){.given = o->given};
    memcpy(o->row.name, o->name, sizeof(o->name));
    o->op.created = true;
    return e != OK ? e : policy_tx_insert(tx, o->op.w->s->keyring, &o->row, o->key);
}

static enum err tx_update(struct store_tx *tx, struct policy_op *o)
{
    const struct server *s = o->op.w->s;
    enum err e = OK;
    if (is_admin(s->program, o->row.given) && !is_admin(s->program, o->given)) {
        e = keep_an_admin(tx, o, &o->op.info);
    }
    for (unsigned i = 0; e == OK && i < 2; i++) {
        if (o->has_key[i]) {
            e = policy_tx_set_key(tx, s->keyring, &o->row, i, &o->key[i]);
        }
    }
    o->row.given = o->given;
    if (e != OK || (e = admin_tx_next(tx, &o->row.etag)) != OK) {
        return e;
    }
    return sql_policy_set(tx->db, &o->row);
}

static enum err tx_put(struct store_tx *tx, struct admin_op *op)
{
    struct policy_op *o = as_policy_op(op);
    bool exists;
    enum err e;
    if ((e = policy_op_read_row(tx, o, &exists)) != OK ||
        (e = admin_match_put(&op->match, exists, o->row.etag)) != OK ||
        (e = exists ? tx_update(tx, o) : tx_create(tx, o)) != OK) {
        return e;
    }
    return policy_tx_changed(tx, op->w->s);
}

static enum err tx_delete(struct store_tx *tx, struct admin_op *op)
{
    struct policy_op *o = as_policy_op(op);
    bool exists;
    enum err e;
    if ((e = policy_op_read_row(tx, o, &exists)) != OK ||
        (e = admin_match_change(&op->match, exists, o->row.etag)) != OK ||
        (is_admin(op->w->s->program, o->row.given) &&
         (e = keep_an_admin(tx, o, &op->info)) != OK) ||
        (e = sql_policy_del(tx->db, o->row.id)) != OK) {
        return e;
    }
    return policy_tx_changed(tx, op->w->s);
}

/* --- requests ------------------------------------------------------------------------------------------ */

static enum err read_key(const struct json *body, const char *member, struct policy_op *o,
                         unsigned i, struct err_info *info)
{
    struct span text = SPAN_NONE;
    enum err e = json_get_str(body, member, JSON_F_OPT, &text, info);
    if (e != OK) {
        return e;
    }
    o->has_key[i] = text.p != NULL;
    if (!o->has_key[i]) {
        return secret_random(&o->key[i], NEW_KEY_BYTES); /* taken when the policy is new */
    }
    if (secret_from_base64(&o->key[i], text) != OK || o->key[i].n < LIMIT_KEY_MIN ||
        o->key[i].n > LIMIT_KEY_MAX) {
        return err_set(info, E_ARG, "%s: base64 of %u to %u bytes is wanted", member, LIMIT_KEY_MIN,
                       LIMIT_KEY_MAX);
    }
    return OK;
}

static enum err read_rights(const struct server_program *p, const struct json *body,
                            struct policy_op *o, struct err_info *info)
{
    struct span text, hidden = SPAN_NONE;
    uint32_t more = 0;
    enum err e;
    if ((e = json_get_str(body, "rights", JSON_F_NEED, &text, info)) != OK ||
        (e = json_get_str(body, "hiddenRights", JSON_F_OPT, &hidden, info)) != OK ||
        (hidden.n != 0 && (e = rights_parse(p, hidden, &more, info)) != OK)) {
        return e;
    }
    /* What GET shows of a policy that has only hidden rights may be put back. */
    if ((text.n != 0 || more == 0) && (e = rights_parse(p, text, &o->given, info)) != OK) {
        return e;
    }
    o->given |= more;
    if ((rights_closure(p, o->given) & ~o->caller_rights) != 0) {
        return err_set(info, E_UNAUTHORIZED, "nobody grants a right that he lacks");
    }
    return OK;
}

static void policy_put(struct http_rq *rq)
{
    static const char *const known[] = {"rights",  "hiddenRights", "primaryKey", "secondaryKey",
                                        "keyName", "etag",         NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct policy_op *o = policy_op_new(rq);
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, known, false, &body)) {
        return;
    }
    enum err e;
    if ((e = read_rights(worker_of_rq(rq)->s->program, body, o, &info)) != OK ||
        (e = read_key(body, "primaryKey", o, 0, &info)) != OK ||
        (e = read_key(body, "secondaryKey", o, 1, &info)) != OK) {
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->op.tx = tx_put;
    o->op.answer = answer_put;
    admin_submit(rq, &o->op);
}

static void policy_delete(struct http_rq *rq)
{
    struct policy_op *o = policy_op_new(rq);
    admin_submit_delete(rq, o != NULL ? &o->op : NULL, tx_delete);
}

const struct http_route admin_policy_routes[] = {
    /* clang-format off */
    { HTTP_GET,    "/admin/policies",        AUTH_ADMIN, 0, 0,                policy_list },
    { HTTP_GET,    "/admin/policies/{name}", AUTH_ADMIN, 0, 0,                policy_get },
    { HTTP_PUT,    "/admin/policies/{name}", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, policy_put },
    { HTTP_DELETE, "/admin/policies/{name}", AUTH_ADMIN, 0, 0,                policy_delete },
    { HTTP_POST,   "/admin/policies/{name}/listKeys",
                                             AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, admin_policy_list_keys },
    { HTTP_POST,   "/admin/policies/{name}/regenerateKey",
                                             AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, admin_policy_regenerate },
    /* clang-format on */
};
const size_t n_admin_policy_routes = ARRAY_LEN(admin_policy_routes);
