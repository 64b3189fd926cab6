/* SPDX-License-Identifier: Apache-2.0 */
/* A device that shall be there: created, kept, or taken over. hub/http_provision.h, PUT. */
#include "hub/directory.h"
#include "hub/fence.h"
#include "hub/provision_int.h"
#include "hub/registry_int.h"
#include "hub/twin_int.h"
#include "wire/twin.h"

struct put_work {
    struct work k;     /* first */
    struct json *body; /* spans below point into it */
    struct intent intent;
    struct auth_spec auth;
    bool is_edge, resets_twin, is_enabled;
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
    if ((e = provision_read_intent(p->body, id, &p->intent, info)) != OK ||
        (e = json_get_bool(p->body, "resetTwin", 0, &p->resets_twin, info)) != OK ||
        (e = json_get_bool(p->body, "capabilities.iotEdge", 0, &p->is_edge, info)) != OK ||
        (e = json_get_word(p->body, "status", 0, words, ARRAY_LEN(words), &status, info)) != OK ||
        (e = json_get_object(p->body, "authentication", JSON_F_NEED, &authentication, info)) !=
            OK ||
        (e = auth_read(authentication, false, &p->auth, info)) != OK) {
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
                           .was_enabled = d.is_enabled,
                           .sequence = p->intent.sequence};
    enum err e = hub_sql_device_insert(tx->db, &d, &op);
    if (e == OK && p->has_twin) {
        p->twin.identity = d.identity;
        e = hub_sql_twin_put(tx->db, &p->twin);
    }
    provision_set_result(&p->ticket, &d, &op);
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
    if (provision_is_frozen(row)) {
        provision_thaw(tx, row); /* the move ended here, or never began */
    }
    row->etag++;
    enum err e = hub_sql_device_update(tx->db, row);
    if (e == OK && p->resets_twin) {
        e = put_reset_twin(tx, p, row);
    }
    if (e == OK) {
        e = provision_tx_keep(tx, row, &p->intent, &p->ticket);
    }
    if (e == OK && is_rekeyed) {
        e = change_notify(tx, &p->change, hub_of(p->k.w), row->identity, DIR_CREDENTIAL);
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
        e = fence_tx_check(tx, p->intent.id, p->intent.owner, p->intent.sequence, &k->info);
        e = e != OK ? e : cred_tx_check(&p->cred, NULL);
        return e != OK ? e : put_create(tx, p);
    }
    if (e != OK) {
        return e;
    }
    if ((e = provision_may_take(k, &row, &p->intent)) != OK ||
        (e = provision_tx_repeat(tx, k, &row, &p->intent, &p->ticket, &is_repeat)) != OK ||
        is_repeat) {
        return e;
    }
    e = cred_tx_check(&p->cred, &row);
    return e != OK ? e : put_update(tx, p, &row);
}

static void put_finish(struct work *k, enum err result)
{
    provision_tell(&CONTAINER_OF(k, struct put_work, k)->ticket, result, &k->info);
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
        return provision_no_memory(info);
    }
    p->k.prepare = put_prepare;
    p->k.tx = put_tx;
    p->k.finish = put_finish;
    p->k.free = put_free;
    p->body = body;
    p->first_etag = etag_first();
    p->ticket = (struct ticket){.done = done, .user = user, .tag = tag};
    struct span kept = arena_span(&p->k.in, id);
    enum err e = kept.p != NULL ? read_put(p, kept, info) : provision_no_memory(info);
    if (e != OK) {
        work_drop(&p->k);
        return e;
    }
    return work_begin(&p->k, info);
}
