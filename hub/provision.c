/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/provision.h"

#include "base/text.h"
#include "hub/directory.h"
#include "hub/hub_sql.h"
#include "hub/registry_int.h"
#include "hub/twin_int.h"
#include "wire/twin.h"

/* --- what all share ------------------------------------------------------------------------- */

struct ticket {
    provision_done_fn done;
    void *user;
    uint64_t tag;
    struct provision_result result;
};

static void tell(struct ticket *t, enum err e, const struct err_info *info)
{
    t->done(t->user, t->tag, e, e == OK ? &t->result : NULL, info);
}

static enum err no_memory(struct err_info *info)
{
    return err_set(info, E_NOMEM, "no memory for provisioning");
}

static enum err not_ours(struct err_info *info, struct span id)
{
    return err_set(info, E_OWNED, "device \"%.*s\" belongs to another owner", SPAN_ARG(id));
}

static enum err not_there(struct err_info *info, struct span id)
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

/* "<idScope>/individual|group/<enrollment id>" */
static bool is_owner(struct span s)
{
    if (s.n > LIMIT_OWNER) {
        return false;
    }
    struct span scope = span_cut(&s, '/'), kind = span_cut(&s, '/');
    return scope.n != 0 && s.n != 0 && span_find(s, '/') == s.n && span_is_utf8(scope) &&
           span_is_utf8(s) && (span_is(kind, "individual") || span_is(kind, "group"));
}

struct intent {
    struct span id, operation, owner;
};

static enum err read_intent(const struct json *body, struct span id, struct intent *ret,
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
    if (!is_operation_id(in.operation)) {
        return err_set(info, E_ARG, "operationId is not valid");
    }
    if (!is_owner(in.owner)) {
        return err_set(info, E_ARG, "owner is not \"idScope/individual|group/enrollment\"");
    }
    *ret = in;
    return OK;
}

static void put_result(struct ticket *t, const struct device *d, const struct device_op *op)
{
    t->result = (struct provision_result){.id = d->id,
                                          .generation_id = d->generation_id,
                                          .etag = op->etag,
                                          .was_created = op->was_created,
                                          .is_enabled = op->was_enabled};
}

/* Was this operation the last one on the device? Then its answer stands. */
static enum err find_repeat(struct store_tx *tx, struct work *k, const struct device *row,
                            struct span operation, struct ticket *t, bool *ret)
{
    struct device_op op;
    enum err e = hub_sql_device_op_get(tx->db, &k->left, row->identity, &op);
    if (e != OK) {
        return e;
    }
    *ret = span_eq(op.id, operation);
    if (*ret) {
        put_result(t, row, &op);
    }
    return OK;
}

static enum err keep_operation(struct store_tx *tx, const struct device *row, struct span operation,
                               struct ticket *t)
{
    struct device_op op = {.id = operation, .etag = row->etag, .was_enabled = row->is_enabled};
    put_result(t, row, &op);
    return hub_sql_device_op_set(tx->db, row->identity, &op);
}

/* --- PUT ------------------------------------------------------------------------------------ */

struct put_work {
    struct work k;     /* first */
    struct json *body; /* spans below point into it */
    struct intent intent;
    struct auth_spec auth;
    bool may_adopt, is_edge, resets_twin, is_enabled;
    struct json *tags, *desired, *reported; /* in body; NULL: absent */
    bool has_twin;
    uint64_t first_etag;
    int64_t now_us;
    /* prepared */
    struct cred_change cred;
    struct twin twin; /* of a created device or a reset one */
    struct desired_notice *notice;
    struct change_notice change;
    struct ticket ticket;
};

static enum err read_twin_part(const struct json *o, const char *path, size_t max,
                               struct json **ret, struct err_info *info)
{
    struct json *s = NULL;
    enum err e = json_get_object(o, path, 0, &s, info);
    if (e == OK && s != NULL) {
        e = twin_check(s, TWIN_WHOLE, info);
        if (e == OK) {
            e = twin_check_size(s, max, info);
        }
    }
    if (e == OK) {
        *ret = s;
    }
    return e;
}

static enum err read_twin(struct put_work *p, struct err_info *info)
{
    struct json *t = NULL;
    enum err e = json_get_object(p->body, "initialTwin", 0, &t, info);
    if (e != OK || t == NULL) {
        return e;
    }
    p->has_twin = true;
    if ((e = read_twin_part(t, "tags", LIMIT_TWIN_TAGS, &p->tags, info)) != OK ||
        (e = read_twin_part(t, "properties.desired", LIMIT_TWIN_SECTION, &p->desired, info)) !=
            OK) {
        return e;
    }
    return read_twin_part(t, "properties.reported", LIMIT_TWIN_SECTION, &p->reported, info);
}

static enum err read_put(struct put_work *p, struct span id, struct err_info *info)
{
    static const char *const words[] = {"enabled", "disabled"};
    struct json *authentication = NULL;
    size_t status = 0;
    enum err e;
    if ((e = read_intent(p->body, id, &p->intent, info)) != OK ||
        (e = json_get_bool(p->body, "mayAdopt", 0, &p->may_adopt, info)) != OK ||
        (e = json_get_bool(p->body, "resetTwin", 0, &p->resets_twin, info)) != OK ||
        (e = json_get_bool(p->body, "capabilities.iotEdge", 0, &p->is_edge, info)) != OK ||
        (e = json_get_word(p->body, "status", 0, words, ARRAY_LEN(words), &status, info)) != OK ||
        (e = json_get_object(p->body, "authentication", JSON_F_NEED, &authentication, info)) !=
            OK ||
        (e = auth_read(authentication, &p->auth, info)) != OK) {
        return e;
    }
    p->is_enabled = status == 0;
    return read_twin(p, info);
}

static enum err make_section(struct put_work *p, const struct json *whole, uint64_t version,
                             bool is_desired, struct twin_section *ret)
{
    struct twin_stamp at = {.at_us = p->now_us, .version = is_desired ? version : 0};
    return twin_section_replace(&p->k.prep, whole, version, at, ret, &p->k.info);
}

/* The twin that a created device gets, or a reset one: versions of the latter go on. */
static enum err make_twin(struct put_work *p, const struct twin *from)
{
    struct twin t = {.identity = from != NULL ? from->identity : 0,
                     .etag = from != NULL ? from->etag + 1 : 1,
                     .version = from != NULL ? from->version + 1 : 2};
    uint64_t desired = from != NULL ? from->desired.version + 1 : 1;
    uint64_t reported = from != NULL ? from->reported.version + 1 : 1;
    enum err e = OK;
    if (p->tags != NULL) {
        e = twin_tags_replace(&p->k.prep, p->tags, &t.tags, &p->k.info);
    } else if (from != NULL && from->tags.p != NULL) {
        t.tags = SPAN_LIT("{}");
    }
    if (e != OK || (e = make_section(p, p->desired, desired, true, &t.desired)) != OK ||
        (e = make_section(p, p->reported, reported, false, &t.reported)) != OK) {
        return e;
    }
    p->twin = t;
    if (from != NULL) {
        desired_notice_free(TAKE(p->notice));
        e = desired_notice_new(hub_of(p->k.w), t.desired.json, desired, &p->notice);
    }
    return e;
}

static enum err put_make(struct put_work *p, struct db *db)
{
    struct work *k = &p->k;
    struct device base;
    struct twin t;
    enum err e = hub_sql_device_by_id(db, &k->prep, p->intent.id, &base);
    if (e != OK && e != E_NOT_FOUND) {
        return err_set(&k->info, e, "device could not be read");
    }
    bool has_base = e == OK;
    p->twin = (struct twin){0};
    e = cred_prepare(k->w, &k->prep, has_base ? &base : NULL, &p->auth, &p->cred, &k->info);
    if (e != OK) {
        return e;
    }
    if (!has_base) {
        return p->has_twin ? make_twin(p, NULL) : OK;
    }
    if (p->resets_twin) {
        e = twin_read(db, &k->prep, base.identity, base.created_us, &t);
        return e != OK ? e : make_twin(p, &t);
    }
    return OK;
}

static enum err put_prepare(struct work *k)
{
    struct put_work *p = CONTAINER_OF(k, struct put_work, k);
    p->now_us = clock_wall_us(server_clock(worker_server(k->w)));
    return put_make(p, worker_db(k->w));
}

static enum err put_create(struct store_tx *tx, struct put_work *p)
{
    struct device d = {
        .id = p->intent.id,
        .generation_id = p->cred.generation_id,
        .created_us = tx->now_us,
        .etag = p->first_etag,
        .cred_gen = 1,
        .slot_gen = {1, 1},
        .is_enabled = p->is_enabled,
        .is_edge = p->is_edge,
        .auth = p->cred.type,
        .sealed_key = {p->cred.sealed_key[0], p->cred.sealed_key[1]},
        .thumbprint = {p->cred.thumbprint[0], p->cred.thumbprint[1]},
        .owner = p->intent.owner,
    };
    struct device_op op = {.id = p->intent.operation,
                           .was_created = true,
                           .etag = d.etag,
                           .was_enabled = d.is_enabled};
    enum err e = hub_sql_device_insert(tx->db, &d, &op);
    if (e == OK && p->has_twin) {
        p->twin.identity = d.identity;
        e = hub_sql_twin_put(tx->db, &p->twin);
    }
    put_result(&p->ticket, &d, &op);
    return e;
}

static enum err put_reset_twin(struct store_tx *tx, struct put_work *p, const struct device *row)
{
    struct twin cur;
    enum err e = twin_read(tx->db, &p->k.left, row->identity, row->created_us, &cur);
    if (e != OK) {
        return e;
    }
    if (p->twin.identity != row->identity || p->twin.version != cur.version + 1) {
        return E_STALE;
    }
    if ((e = hub_sql_twin_put(tx->db, &p->twin)) == OK) {
        desired_notice_tx(tx, &p->notice, row->identity);
    }
    return e;
}

static enum err put_update(struct store_tx *tx, struct put_work *p, struct device *row)
{
    bool is_rekeyed = cred_tx_apply(&p->cred, row);
    row->is_edge = p->is_edge;
    row->owner = p->intent.owner;
    row->etag++;
    enum err e = hub_sql_device_update(tx->db, row);
    if (e == OK && p->resets_twin) {
        e = put_reset_twin(tx, p, row);
    }
    if (e == OK) {
        e = keep_operation(tx, row, p->intent.operation, &p->ticket);
    }
    if (e == OK && is_rekeyed) {
        change_notify(tx, &p->change, hub_of(p->k.w), row->identity, DIR_CREDENTIAL);
    }
    return e;
}

static enum err put_tx(struct store_tx *tx, struct work *k)
{
    struct put_work *p = CONTAINER_OF(k, struct put_work, k);
    struct device row;
    bool is_repeat;
    enum err e = hub_sql_device_by_id(tx->db, &k->left, p->intent.id, &row);
    if (e == E_NOT_FOUND) {
        e = cred_tx_check(&p->cred, NULL);
        return e != OK ? e : put_create(tx, p);
    }
    if (e != OK) {
        return e;
    }
    bool is_ours = span_eq(row.owner, p->intent.owner);
    if (!is_ours && !p->may_adopt) {
        return not_ours(&k->info, p->intent.id);
    }
    if (is_ours &&
        ((e = find_repeat(tx, k, &row, p->intent.operation, &p->ticket, &is_repeat)) != OK ||
         is_repeat)) {
        return e;
    }
    e = cred_tx_check(&p->cred, &row);
    return e != OK ? e : put_update(tx, p, &row);
}

static void put_finish(struct work *k, enum err result)
{
    tell(&CONTAINER_OF(k, struct put_work, k)->ticket, result, &k->info);
}

static void put_free(struct work *k)
{
    struct put_work *p = CONTAINER_OF(k, struct put_work, k);
    auth_spec_done(&p->auth);
    desired_notice_free(p->notice);
    json_free(p->body);
    work_end(k);
}

enum err provision_put_begin(struct worker *w, struct span id, struct json *body,
                             provision_done_fn done, void *user, uint64_t tag,
                             struct err_info *info)
{
    struct put_work *p = work_new(w, sizeof *p);
    if (p == NULL) {
        json_free(body);
        return no_memory(info);
    }
    p->k.prepare = put_prepare;
    p->k.tx = put_tx;
    p->k.finish = put_finish;
    p->k.free = put_free;
    p->body = body;
    p->first_etag = etag_first();
    p->ticket = (struct ticket){.done = done, .user = user, .tag = tag};
    struct span kept = arena_span(&p->k.in, id);
    enum err e = kept.p != NULL ? read_put(p, kept, info) : no_memory(info);
    if (e != OK) {
        work_drop(&p->k);
        return e;
    }
    return work_begin(&p->k, info);
}

/* --- PATCH ---------------------------------------------------------------------------------- */

struct status_work {
    struct work k; /* first */
    struct json *body;
    struct intent intent;
    bool is_enabled;
    struct change_notice change;
    struct ticket ticket;
};

static enum err owned_row(struct store_tx *tx, struct work *k, struct span id, struct span owner,
                          struct device *ret)
{
    enum err e = hub_sql_device_by_id(tx->db, &k->left, id, ret);
    if (e == E_NOT_FOUND) {
        return not_there(&k->info, id);
    }
    if (e == OK && (ret->owner.n == 0 || !span_eq(ret->owner, owner))) {
        return not_ours(&k->info, id);
    }
    return e;
}

static enum err status_tx(struct store_tx *tx, struct work *k)
{
    struct status_work *s = CONTAINER_OF(k, struct status_work, k);
    struct device row;
    bool is_repeat;
    enum err e = owned_row(tx, k, s->intent.id, s->intent.owner, &row);
    if (e != OK ||
        (e = find_repeat(tx, k, &row, s->intent.operation, &s->ticket, &is_repeat)) != OK ||
        is_repeat) {
        return e;
    }
    bool is_disabled = row.is_enabled && !s->is_enabled;
    if (row.is_enabled != s->is_enabled) {
        row.is_enabled = s->is_enabled;
        row.status_updated_us = tx->now_us;
        row.etag++;
        if ((e = hub_sql_device_update(tx->db, &row)) != OK) {
            return e;
        }
    }
    if ((e = keep_operation(tx, &row, s->intent.operation, &s->ticket)) == OK && is_disabled) {
        change_notify(tx, &s->change, hub_of(k->w), row.identity, DIR_GONE);
    }
    return e;
}

static void status_finish(struct work *k, enum err result)
{
    tell(&CONTAINER_OF(k, struct status_work, k)->ticket, result, &k->info);
}

static void status_free(struct work *k)
{
    json_free(CONTAINER_OF(k, struct status_work, k)->body);
    work_end(k);
}

static enum err read_status(struct status_work *s, struct span id, struct err_info *info)
{
    static const char *const words[] = {"enabled", "disabled"};
    size_t status = 0;
    enum err e = read_intent(s->body, id, &s->intent, info);
    if (e == OK) {
        e = json_get_word(s->body, "status", JSON_F_NEED, words, ARRAY_LEN(words), &status, info);
    }
    s->is_enabled = status == 0;
    s->k.op.urgent = !s->is_enabled; /* disabling must work on a full disk too */
    return e;
}

enum err provision_patch_begin(struct worker *w, struct span id, struct json *body,
                               provision_done_fn done, void *user, uint64_t tag,
                               struct err_info *info)
{
    struct status_work *s = work_new(w, sizeof *s);
    if (s == NULL) {
        json_free(body);
        return no_memory(info);
    }
    s->k.tx = status_tx;
    s->k.finish = status_finish;
    s->k.free = status_free;
    s->body = body;
    s->ticket = (struct ticket){.done = done, .user = user, .tag = tag};
    struct span kept = arena_span(&s->k.in, id);
    enum err e = kept.p != NULL ? read_status(s, kept, info) : no_memory(info);
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
    struct change_notice change;
    struct ticket ticket;
};

static enum err gone_tx(struct store_tx *tx, struct work *k)
{
    struct gone_work *g = CONTAINER_OF(k, struct gone_work, k);
    struct device row;
    enum err e = owned_row(tx, k, g->id, g->owner, &row);
    if (e == OK) {
        e = hub_sql_device_delete(tx->db, row.identity);
    }
    if (e == OK) {
        change_notify(tx, &g->change, hub_of(k->w), row.identity, DIR_GONE);
    }
    return e;
}

static void gone_finish(struct work *k, enum err result)
{
    tell(&CONTAINER_OF(k, struct gone_work, k)->ticket, result, &k->info);
}

enum err provision_delete_begin(struct worker *w, struct span id, struct span owner,
                                provision_done_fn done, void *user, uint64_t tag,
                                struct err_info *info)
{
    if (!id_device_ok(id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    if (owner.n == 0) {
        return err_set(info, E_ARG_NULL, "owner is missing");
    }
    if (!is_owner(owner)) {
        return err_set(info, E_ARG, "owner is not \"idScope/individual|group/enrollment\"");
    }
    struct gone_work *g = work_new(w, sizeof *g);
    if (g == NULL) {
        return no_memory(info);
    }
    g->k.tx = gone_tx;
    g->k.finish = gone_finish;
    g->k.free = work_end;
    g->k.op.urgent = true;
    g->id = arena_span(&g->k.in, id);
    g->owner = arena_span(&g->k.in, owner);
    g->ticket = (struct ticket){.done = done, .user = user, .tag = tag};
    if (g->id.p == NULL || g->owner.p == NULL) {
        work_drop(&g->k);
        return no_memory(info);
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
        return not_there(info, id);
    }
    if (e != OK) {
        return e;
    }
    if (d.owner.n == 0 || (owner.n != 0 && !span_eq(d.owner, owner))) {
        return not_ours(info, id);
    }
    if ((e = twin_get(w, &a, d.identity, d.created_us, &t)) != OK) {
        return e;
    }
    registry_etag_text(d.etag, etag);
    buf_add_str(b, "{\"deviceId\":");
    json_write_str(b, d.id);
    buf_addf(b, ",\"generationId\":\"%.*s\",\"etag\":\"%s\",\"status\":\"%s\",\"owner\":",
             SPAN_ARG(d.generation_id), etag, d.is_enabled ? "enabled" : "disabled");
    json_write_str(b, d.owner);
    buf_add_str(b, ",\"twin\":");
    add_twin(b, &t);
    buf_add_u8(b, '}');
    return buf_err(b);
}
