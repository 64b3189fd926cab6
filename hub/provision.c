/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/provision.h"

#include "base/text.h"
#include "hub/directory.h"
#include "hub/fence.h"
#include "hub/provision_int.h"
#include "hub/twin_int.h"

/* --- what all share ------------------------------------------------------------------------- */

void provision_tell(struct ticket *t, enum err e, const struct err_info *info)
{
    t->done(t->user, t->tag, e, e == OK ? &t->result : NULL, info);
}

enum err provision_no_memory(struct err_info *info)
{
    return err_set(info, E_NOMEM, "no memory for provisioning");
}

enum err provision_not_ours(struct err_info *info, struct span id)
{
    return err_set(info, E_OWNED, "device \"%.*s\" belongs to another owner", SPAN_ARG(id));
}

enum err provision_not_there(struct err_info *info, struct span id)
{
    return err_set(info, E_NOT_FOUND, "%.*s", SPAN_ARG(id));
}

static bool is_operation_id(struct span s)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:";
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == 0 || strchr(allowed, s.p[i]) == NULL) {
            return false;
        }
    }
    return s.n >= 1 && s.n <= LIMIT_OPERATION_ID;
}

bool provision_is_owner(struct span s)
{
    if (s.n > LIMIT_OWNER) {
        return false;
    }
    struct span scope = span_cut(&s, '/'), kind = span_cut(&s, '/');
    return scope.n != 0 && s.n != 0 && span_find(s, '/') == s.n && span_is_utf8(scope) &&
           span_is_utf8(s) && (span_is(kind, "individual") || span_is(kind, "group"));
}

enum err provision_read_intent(const struct json *body, struct span id, struct intent *ret,
                               struct err_info *info)
{
    struct intent in = {.id = id};
    enum err e;
    if (!id_device_ok(id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    if (!json_is(body, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "body is not an object");
    }
    if ((e = json_get_str(body, "operationId", JSON_F_NEED, &in.operation, info)) != OK ||
        (e = json_get_str(body, "owner", JSON_F_NEED, &in.owner, info)) != OK) {
        return e;
    }
    if ((e = json_get_bool(body, "mayAdopt", 0, &in.may_adopt, info)) != OK ||
        (e = json_get_int(body, "sequence", 0, 1, INT64_MAX, &in.sequence, info)) != OK) {
        return e;
    }
    if (!is_operation_id(in.operation)) {
        return err_set(info, E_ARG, "operationId is not valid");
    }
    if (!provision_is_owner(in.owner)) {
        return err_set(info, E_ARG, "owner is not \"idScope/individual|group/enrollment\"");
    }
    *ret = in;
    return OK;
}

/* The mark of a move. Whoever changes the device's status by hand replaces it, and then it is theirs. */
static const struct span frozen_reason = {
    (const uint8_t *)"provisioning: the device moves to another hub",
    sizeof("provisioning: the device moves to another hub") - 1};

bool provision_is_frozen(const struct device *row)
{
    return !row->is_enabled && span_eq(row->status_reason, frozen_reason);
}

static void freeze(struct store_tx *tx, struct device *row)
{
    row->is_enabled = false;
    row->status_reason = frozen_reason;
    row->status_updated_us = tx->now_us;
}

void provision_thaw(struct store_tx *tx, struct device *row)
{
    row->is_enabled = true;
    row->status_reason = SPAN_NONE;
    row->status_updated_us = tx->now_us;
}

/* "<idScope>/individual/<id>": the part before the first slash. */
static bool same_scope(struct span a, struct span b)
{
    return span_eq(span_cut(&a, '/'), span_cut(&b, '/'));
}

/* Adoption is for devices that nobody or the same provisioning service made: one service never takes another's (threat S7). */
enum err provision_may_take(struct work *k, const struct device *row, const struct intent *in)
{
    bool is_ours = span_eq(row->owner, in->owner);
    return is_ours || (in->may_adopt && (row->owner.n == 0 || same_scope(row->owner, in->owner)))
               ? OK
               : provision_not_ours(&k->info, in->id);
}

void provision_set_result(struct ticket *t, const struct device *d, const struct device_op *op)
{
    t->result = (struct provision_result){.id = d->id,
                                          .generation_id = d->generation_id,
                                          .etag = op->etag,
                                          .was_created = op->was_created,
                                          .is_enabled = op->was_enabled,
                                          .is_frozen = provision_is_frozen(d)};
}

enum err provision_tx_repeat(struct store_tx *tx, struct work *k, const struct device *row,
                             const struct intent *in, struct ticket *t, bool *ret)
{
    struct device_op op;
    enum err e = hub_sql_device_op_get(tx->db, &k->left, row->identity, &op);
    if (e != OK) {
        return e;
    }
    if (in->sequence != 0 && op.sequence > in->sequence) {
        return err_set(&k->info, E_ETAG, "a later operation is on device \"%.*s\"",
                       SPAN_ARG(in->id));
    }
    *ret = span_eq(row->owner, in->owner) && span_eq(op.id, in->operation);
    if (*ret) {
        provision_set_result(t, row, &op);
    }
    return OK;
}

enum err provision_tx_keep(struct store_tx *tx, const struct device *row, const struct intent *in,
                           struct ticket *t)
{
    struct device_op op = {.id = in->operation,
                           .etag = row->etag,
                           .was_enabled = row->is_enabled,
                           .sequence = in->sequence};
    provision_set_result(t, row, &op);
    return hub_sql_device_op_set(tx->db, row->identity, &op);
}

/* --- PATCH ---------------------------------------------------------------------------------- */

struct status_work {
    struct work k; /* first */
    struct json *body;
    struct intent intent;
    enum { TO_ENABLED, TO_DISABLED, TO_FROZEN, TO_THAWED, TO_STATUSES } to;
    struct change_notice change;
    struct ticket ticket;
    bool is_absent; /* what is committed is its fence */
};

static enum err owned_row(struct store_tx *tx, struct work *k, struct span id, struct span owner,
                          struct device *ret)
{
    enum err e = hub_sql_device_by_id(tx->db, &k->left, id, ret);
    if (e == E_NOT_FOUND) {
        return provision_not_there(&k->info, id);
    }
    if (e == OK && (ret->owner.n == 0 || !span_eq(ret->owner, owner))) {
        return provision_not_ours(&k->info, id);
    }
    return e;
}

static bool set_status(struct store_tx *tx, const struct status_work *s, struct device *row)
{
    bool was_enabled = row->is_enabled;
    if (s->to == TO_FROZEN && was_enabled) {
        freeze(tx, row);
    } else if (s->to == TO_THAWED && provision_is_frozen(row)) {
        provision_thaw(tx, row);
    } else if (s->to <= TO_DISABLED && was_enabled != (s->to == TO_ENABLED)) {
        row->is_enabled = !was_enabled;
        row->status_updated_us = tx->now_us;
    } else if (s->to == TO_DISABLED && provision_is_frozen(row)) {
        row->status_reason = SPAN_NONE; /* no move enables it again */
        return true;
    }
    return row->is_enabled != was_enabled;
}

static enum err status_tx(struct store_tx *tx, struct work *k)
{
    struct status_work *s = CONTAINER_OF(k, struct status_work, k);
    struct device row;
    bool is_repeat;
    enum err e = hub_sql_device_by_id(tx->db, &k->left, s->intent.id, &row);
    s->is_absent = e == E_NOT_FOUND;
    if (s->is_absent) {
        return fence_tx_put(tx, s->intent.id, s->intent.owner, s->intent.sequence, &k->info);
    }
    if (e != OK || (e = provision_may_take(k, &row, &s->intent)) != OK ||
        (e = provision_tx_repeat(tx, k, &row, &s->intent, &s->ticket, &is_repeat)) != OK ||
        is_repeat) {
        return e;
    }
    bool is_changed = set_status(tx, s, &row);
    if (is_changed || !span_eq(row.owner, s->intent.owner)) {
        row.owner = s->intent.owner;
        row.etag++;
        if ((e = hub_sql_device_update(tx->db, &row)) != OK) {
            return e;
        }
    }
    if ((e = provision_tx_keep(tx, &row, &s->intent, &s->ticket)) == OK && is_changed &&
        !row.is_enabled) {
        e = change_notify(tx, &s->change, hub_of(k->w), row.identity, DIR_GONE);
    }
    return e;
}

static void status_finish(struct work *k, enum err result)
{
    struct status_work *s = CONTAINER_OF(k, struct status_work, k);
    if (result == OK && s->is_absent) {
        result = provision_not_there(&k->info, s->intent.id);
    }
    provision_tell(&s->ticket, result, &k->info);
}

static void status_free(struct work *k)
{
    json_free(CONTAINER_OF(k, struct status_work, k)->body);
    work_end(k);
}

static enum err read_status(struct status_work *s, struct span id, struct err_info *info)
{
    static const char *const words[TO_STATUSES] = {[TO_ENABLED] = "enabled",
                                                   [TO_DISABLED] = "disabled",
                                                   [TO_FROZEN] = "frozen",
                                                   [TO_THAWED] = "thawed"};
    size_t status = 0;
    enum err e = provision_read_intent(s->body, id, &s->intent, info);
    if (e == OK) {
        e = json_get_word(s->body, "status", JSON_F_NEED, words, ARRAY_LEN(words), &status, info);
    }
    s->to = (unsigned)status;
    s->k.op.urgent =
        s->to == TO_DISABLED || s->to == TO_FROZEN; /* disabling must work on a full disk too */
    return e;
}

enum err provision_patch_begin(struct worker *w, struct span id, struct json *body,
                               provision_done_fn done, void *user, uint64_t tag,
                               struct err_info *info)
{
    struct status_work *s = work_new(w, sizeof *s);
    if (s == NULL) {
        json_free(body);
        return provision_no_memory(info);
    }
    s->k.tx = status_tx;
    s->k.finish = status_finish;
    s->k.free = status_free;
    s->body = body;
    s->ticket = (struct ticket){.done = done, .user = user, .tag = tag};
    struct span kept = arena_span(&s->k.in, id);
    enum err e = kept.p != NULL ? read_status(s, kept, info) : provision_no_memory(info);
    if (e != OK) {
        work_drop(&s->k);
        return e;
    }
    return work_begin(&s->k, info);
}

/* --- DELETE --------------------------------------------------------------------------------- */

struct gone_work {
    struct work k; /* first */
    struct span id, owner;
    int64_t sequence;
    struct change_notice change;
    struct ticket ticket;
    bool is_absent; /* what is committed is its fence */
};

static enum err gone_tx(struct store_tx *tx, struct work *k)
{
    struct gone_work *g = CONTAINER_OF(k, struct gone_work, k);
    struct device row;
    struct device_op op;
    enum err e = owned_row(tx, k, g->id, g->owner, &row);
    g->is_absent = e == E_NOT_FOUND;
    if (g->is_absent) {
        return fence_tx_put(tx, g->id, g->owner, g->sequence, &k->info);
    }
    if (e == OK && (e = hub_sql_device_op_get(tx->db, &k->left, row.identity, &op)) == OK &&
        g->sequence != 0 && op.sequence > g->sequence) {
        e = err_set(&k->info, E_ETAG, "a later operation is on device \"%.*s\"", SPAN_ARG(g->id));
    }
    if (e == OK) {
        e = g->sequence != 0 ? fence_tx_put(tx, g->id, g->owner, g->sequence, &k->info)
                             : fence_tx_deleted(tx, &k->left, &row);
    }
    if (e == OK) {
        e = change_notify(tx, &g->change, hub_of(k->w), row.identity, DIR_GONE);
    }
    return e != OK ? e : hub_sql_device_delete(tx->db, row.identity);
}

static void gone_finish(struct work *k, enum err result)
{
    struct gone_work *g = CONTAINER_OF(k, struct gone_work, k);
    if (result == OK && g->is_absent) {
        result = provision_not_there(&k->info, g->id);
    }
    provision_tell(&g->ticket, result, &k->info);
}

enum err provision_delete_begin(struct worker *w, struct span id, struct span owner,
                                int64_t sequence, provision_done_fn done, void *user, uint64_t tag,
                                struct err_info *info)
{
    if (!id_device_ok(id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    if (owner.n == 0) {
        return err_set(info, E_ARG_NULL, "owner is missing");
    }
    if (!provision_is_owner(owner)) {
        return err_set(info, E_ARG, "owner is not \"idScope/individual|group/enrollment\"");
    }
    struct gone_work *g = work_new(w, sizeof *g);
    if (g == NULL) {
        return provision_no_memory(info);
    }
    g->k.tx = gone_tx;
    g->k.finish = gone_finish;
    g->k.free = work_end;
    g->k.op.urgent = true;
    g->id = arena_span(&g->k.in, id);
    g->owner = arena_span(&g->k.in, owner);
    g->sequence = sequence;
    g->ticket = (struct ticket){.done = done, .user = user, .tag = tag};
    if (g->id.p == NULL || g->owner.p == NULL) {
        work_drop(&g->k);
        return provision_no_memory(info);
    }
    return work_begin(&g->k, info);
}

/* --- GET ------------------------------------------------------------------------------------ */

static void add_twin(struct buf *b, const struct twin *t)
{
    buf_add_str(b, "{");
    if (t->tags.p != NULL) {
        buf_add_str(b, "\"tags\":");
        buf_add(b, t->tags);
        buf_add_u8(b, ',');
    }
    buf_add_str(b, "\"properties\":{\"desired\":");
    buf_add(b, t->desired.json);
    buf_add_str(b, ",\"reported\":");
    buf_add(b, t->reported.json);
    buf_add_str(b, "}}");
}

enum err provision_read(struct worker *w, struct span id, struct span owner, struct buf *b,
                        struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(LIMIT_HUB_WORK);
    char etag[REGISTRY_ETAG_SIZE];
    struct device d;
    struct twin t;
    if (!id_device_ok(id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    enum err e = hub_sql_device_by_id(worker_db(w), &a, id, &d);
    if (e == E_NOT_FOUND) {
        return provision_not_there(info, id);
    }
    if (e != OK) {
        return e;
    }
    if (d.owner.n == 0 || (owner.n != 0 && !span_eq(d.owner, owner))) {
        return provision_not_ours(info, id);
    }
    if ((e = twin_get(w, &a, d.identity, d.created_us, &t)) != OK) {
        return e;
    }
    registry_etag_text(d.etag, etag);
    buf_add_str(b, "{\"deviceId\":");
    json_write_str(b, d.id);
    buf_addf(
        b, ",\"generationId\":\"%.*s\",\"etag\":\"%s\",\"status\":\"%s\",\"frozen\":%s,\"owner\":",
        SPAN_ARG(d.generation_id), etag, d.is_enabled ? "enabled" : "disabled",
        provision_is_frozen(&d) ? "true" : "false");
    json_write_str(b, d.owner);
    buf_add_str(b, ",\"twin\":");
    add_twin(b, &t);
    buf_add_u8(b, '}');
    return buf_err(b);
}
