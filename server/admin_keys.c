/* SPDX-License-Identifier: Apache-2.0 */
/* listKeys and regenerateKey of /admin/policies: the only two that tell keys. */
#include "server/admin_policies.h"

#include "base/text.h"

static void answer_keys(struct http_rq *rq, struct admin_op *op)
{
    const struct policy_op *o = as_policy_op(op);
    const struct server_program *p = op->w->s->program;
    struct buf b = BUF_INIT(POLICY_JSON_MAX);
    (void)buf_reserve(&b, POLICY_JSON_MAX); /* at once, so that no copy of the keys stays behind */
    policy_add_json(&b, p, &o->row);
    buf_add_str(&b, ",\"primaryKey\":\"");
    base64_add(&b, secret_span(&o->key[0]));
    buf_add_str(&b, "\",\"secondaryKey\":\"");
    base64_add(&b, secret_span(&o->key[1]));
    buf_add_str(&b, "\"}");
    if (buf_err(&b) == OK) {
        http_header(rq, "Cache-Control", SPAN_LIT("no-store"));
        admin_answer_json(rq, 200, o->row.etag, NULL, buf_span(&b));
        mem_wipe(b.p, b.cap);
    } else {
        p->refuse(rq, buf_err(&b), NULL);
    }
    buf_done(&b);
}

static enum err may_see_keys(struct policy_op *o)
{
    uint32_t all = rights_closure(o->op.w->s->program, o->row.given);
    return (all & ~o->caller_rights) == 0
               ? OK
               : err_set(&o->op.info, E_UNAUTHORIZED, "the caller lacks rights of that policy");
}

static enum err unseal_keys(struct policy_op *o, struct secret ret[2])
{
    const struct keyring *k = o->op.w->s->keyring;
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < 2; i++) {
        e = keyring_unseal(k, sql_policy_place(&o->row, i),
                           span_of(o->row.key[i].b, o->row.key[i].n), &ret[i]);
    }
    return e;
}

/* Changes nothing but the audit trail. */
static enum err tx_list_keys(struct store_tx *tx, struct admin_op *op)
{
    struct policy_op *o = as_policy_op(op);
    enum err e = sql_policy_get(tx->db, span_str(o->name), &o->row);
    if (e != OK || (e = may_see_keys(o)) != OK) {
        return e;
    }
    return unseal_keys(o, o->key);
}

/* The generation goes with the key, so that live links of either live on. */
static enum err swap_keys(struct store_tx *tx, struct policy_op *o, const struct secret old[2])
{
    const struct keyring *k = o->op.w->s->keyring;
    const uint64_t gen[2] = {o->row.key[0].gen, o->row.key[1].gen};
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < 2; i++) {
        e = policy_tx_set_key(tx, k, &o->row, i, &old[1 - i]);
        o->row.key[i].gen = gen[1 - i];
    }
    return e;
}

static enum err rotate(struct store_tx *tx, struct policy_op *o, const struct secret old[2])
{
    const struct keyring *k = o->op.w->s->keyring;
    enum err e = OK;
    if (o->rotation == ROTATE_SWAP) {
        return swap_keys(tx, o, old);
    }
    if (o->rotation != ROTATE_SECONDARY) {
        e = policy_tx_set_key(tx, k, &o->row, 0, &o->key[0]);
    }
    if (e == OK && o->rotation != ROTATE_PRIMARY) {
        e = policy_tx_set_key(tx, k, &o->row, 1, &o->key[1]);
    }
    return e;
}

static enum err tx_regenerate(struct store_tx *tx, struct admin_op *op)
{
    struct policy_op *o = as_policy_op(op);
    struct secret old[2] = {{.n = 0}, {.n = 0}};
    bool exists;
    enum err e;
    if ((e = policy_op_read_row(tx, o, &exists)) != OK ||
        (e = admin_match_change(&op->match, exists, o->row.etag)) != OK ||
        (e = may_see_keys(o)) != OK) {
        return e;
    }
    if ((e = unseal_keys(o, old)) == OK) {
        e = rotate(tx, o, old);
    }
    secret_done(&old[0]);
    secret_done(&old[1]);
    if (e != OK || (e = admin_tx_next(tx, &o->row.etag)) != OK ||
        (e = sql_policy_set(tx->db, &o->row)) != OK) {
        return e;
    }
    return policy_tx_changed(tx, op->w->s);
}

void admin_policy_list_keys(struct http_rq *rq)
{
    static const char *const none[] = {NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct policy_op *o = policy_op_new(rq);
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, none, true, &body)) {
        return;
    }
    o->op.tx = tx_list_keys;
    o->op.answer = answer_keys;
    admin_submit(rq, &o->op);
}

/* The answer tells both keys, the changed and the kept. */
static enum err tx_regenerate_and_tell(struct store_tx *tx, struct admin_op *op)
{
    struct policy_op *o = as_policy_op(op);
    enum err e = tx_regenerate(tx, op);
    return e != OK ? e : unseal_keys(o, o->key);
}

void admin_policy_regenerate(struct http_rq *rq)
{
    static const char *const known[] = {"policyKey", NULL};
    static const char *const words[] = {[ROTATE_PRIMARY] = "primaryKey",
                                        [ROTATE_SECONDARY] = "secondaryKey",
                                        [ROTATE_BOTH] = "both",
                                        [ROTATE_SWAP] = "swap"};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    size_t word = 0;
    struct policy_op *o = policy_op_new(rq);
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, known, false, &body)) {
        return;
    }
    enum err e;
    if ((e = json_get_word(body, "policyKey", JSON_F_NEED, words, ARRAY_LEN(words), &word,
                           &info)) != OK ||
        (e = secret_random(&o->key[0], NEW_KEY_BYTES)) != OK ||
        (e = secret_random(&o->key[1], NEW_KEY_BYTES)) != OK) {
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->rotation = (enum rotation)word;
    o->op.tx = tx_regenerate_and_tell;
    o->op.answer = answer_keys;
    o->op.is_urgent = true;
    admin_submit(rq, &o->op);
}
