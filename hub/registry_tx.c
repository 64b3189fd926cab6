/* SPDX-License-Identifier: Apache-2.0 */
/* Writes to the registry: what the worker prepares, what the writer compares and stores. docs/protocol/hub-service-rest.md 4.3, 5. */
#include "base/text.h"
#include "hub/directory.h"
#include "hub/fence.h"
#include "hub/hub_sql.h"
#include "hub/registry_int.h"
#include "hub/work.h"

/* --- preconditions ------------------------------------------------------------------------- */

enum err match_tx_check(const struct match *m, const struct device *row, struct err_info *info)
{
    if (m->kind != MATCH_ETAG || (m->is_ours && m->etag == row->etag)) {
        return OK;
    }
    return err_set(
        info, E_ETAG,
        "Precondition failed: Device version did not match, existingVersion:%llu newVersion:%llu",
        (unsigned long long)row->etag, (unsigned long long)m->etag);
}

/* --- credentials --------------------------------------------------------------------------- */

static enum err seal_key(struct worker *w, struct arena *a, const struct device *place,
                         unsigned which, const struct secret *key, struct span *ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(2 * SECRET_MAX);
    enum err e = keyring_seal(server_keyring(worker_server(w)), device_key_place(place, which),
                              secret_span(key), &b);
    if (e != OK) {
        return e;
    }
    *ret = arena_span(a, buf_span(&b));
    return ret->p != NULL ? OK : E_NOMEM;
}

/* Is it the key that the row has already? A sealed value that does not open may be replaced. */
static bool is_same_key(struct worker *w, const struct device *base, unsigned which,
                        const struct secret *key)
{
    AUTO(secret_done) struct secret old = {.n = 0};
    return base->auth == AUTH_T_SAS &&
           keyring_unseal(server_keyring(worker_server(w)), device_key_place(base, which),
                          base->sealed_key[which], &old) == OK &&
           mem_equal_ct(secret_span(&old), secret_span(key));
}

static enum err prepare_keys(struct worker *w, struct arena *a, const struct device *base,
                             const struct auth_spec *auth, struct cred_change *c)
{
    struct device place = {.generation_id = c->generation_id};
    for (unsigned i = 0; i < 2; i++) {
        AUTO(secret_done) struct secret made = {.n = 0};
        const struct secret *key = &auth->key[i];
        enum err e;
        if (!auth->has_keys) {
            if ((e = secret_random(&made, 32)) != OK) {
                return e;
            }
            key = &made;
        } else if (base != NULL && is_same_key(w, base, i, key)) {
            c->slot_changed[i] = false;
            c->sealed_key[i] = base->sealed_key[i];
            continue;
        }
        if ((e = seal_key(w, a, &place, i, key, &c->sealed_key[i])) != OK) {
            return e;
        }
    }
    return OK;
}

enum err cred_prepare(struct worker *w, struct arena *a, const struct device *base,
                      const struct auth_spec *auth, struct cred_change *ret, struct err_info *info)
{
    struct cred_change c = {.type = auth->type, .slot_changed = {true, true}};
    if (base != NULL) {
        c.base_identity = base->identity;
        c.base_cred_gen = base->cred_gen;
        c.generation_id = base->generation_id;
    } else {
        char generation[GENERATION_SIZE];
        generation_new(w, generation);
        c.generation_id = arena_span(a, span_str(generation));
        if (c.generation_id.p == NULL) {
            return err_set(info, E_NOMEM, "no memory for a registry write");
        }
    }
    if (auth->type == AUTH_T_SAS) {
        enum err e = prepare_keys(w, a, base, auth, &c);
        if (e != OK) {
            return err_set(info, e, "device keys could not be sealed");
        }
    } else if (base != NULL && base->auth == auth->type) {
        for (unsigned i = 0; i < 2; i++) {
            c.slot_changed[i] = !span_eq_nocase(auth->thumbprint[i], base->thumbprint[i]);
        }
    }
    if (auth->type == AUTH_T_SELF_SIGNED) {
        c.thumbprint[0] = auth->thumbprint[0];
        c.thumbprint[1] = auth->thumbprint[1];
    }
    *ret = c;
    return OK;
}

enum err cred_tx_check(const struct cred_change *c, const struct device *row)
{
    if (row == NULL) {
        return c->base_identity == 0 ? OK : E_STALE;
    }
    return c->base_identity == row->identity && c->base_cred_gen == row->cred_gen ? OK : E_STALE;
}

bool cred_tx_apply(const struct cred_change *c, struct device *row)
{
    bool any = c->slot_changed[0] || c->slot_changed[1];
    row->cred_gen += any ? 1 : 0;
    row->auth = c->type;
    for (unsigned i = 0; i < 2; i++) {
        row->sealed_key[i] = c->sealed_key[i];
        row->thumbprint[i] = c->thumbprint[i];
        if (c->slot_changed[i]) {
            row->slot_gen[i] = row->cred_gen;
            row->pin[i] = SPAN_NONE;
        }
    }
    return any;
}

/* --- PUT ----------------------------------------------------------------------------------- */

struct put_work {
    struct work k; /* first */
    struct device_spec spec;
    struct auth_spec auth;
    struct match match;
    struct cred_change cred;
    uint64_t first_etag;
    struct change_notice notice;
    struct device row; /* as the transaction left it */
    registry_done_fn done;
    void *user;
    uint64_t tag;
};

static enum err put_prepare(struct work *k)
{
    struct put_work *p = CONTAINER_OF(k, struct put_work, k);
    struct device base;
    bool has_base = false;
    if (p->match.kind != MATCH_NONE) {
        enum err e = hub_sql_identity_by_name(worker_db(k->w), &k->prep, p->spec.id,
                                              p->spec.module_id, &base);
        if (e != OK && e != E_NOT_FOUND && e != E_NO_MODULE) {
            return err_set(&k->info, e, "device could not be read");
        }
        has_base = e == OK;
    }
    return cred_prepare(k->w, &k->prep, has_base ? &base : NULL, &p->auth, &p->cred, &k->info);
}

/* A module stands below its device, with so many others. */
static enum err put_below(struct store_tx *tx, struct put_work *p, struct device *d)
{
    struct device parent;
    uint64_t n = 0;
    enum err e = hub_sql_device_by_id(tx->db, &p->k.left, p->spec.id, &parent);
    if (e != OK || (e = hub_sql_module_count(tx->db, parent.identity, &n)) != OK) {
        return e;
    }
    if (n >= LIMIT_MODULES) {
        return err_set(&p->k.info, E_LIMIT, "device \"%.*s\" has %u modules already",
                       SPAN_ARG(p->spec.id), LIMIT_MODULES);
    }
    d->parent = parent.identity;
    d->is_enabled = parent.is_enabled;
    return OK;
}

static enum err put_insert(struct store_tx *tx, struct put_work *p)
{
    struct device d = {
        .id = p->spec.id,
        .module_id = p->spec.module_id,
        .managed_by = p->spec.managed_by,
        .generation_id = p->cred.generation_id,
        .created_us = tx->now_us,
        .etag = p->first_etag,
        .cred_gen = 1,
        .slot_gen = {1, 1},
        .is_enabled = p->spec.is_enabled,
        .status_reason = p->spec.status_reason,
        .is_edge = p->spec.is_edge,
        .auth = p->cred.type,
        .sealed_key = {p->cred.sealed_key[0], p->cred.sealed_key[1]},
        .thumbprint = {p->cred.thumbprint[0], p->cred.thumbprint[1]},
    };
    enum err e = d.module_id.n != 0 ? put_below(tx, p, &d) : OK;
    if (e == OK) {
        e = hub_sql_device_insert(tx->db, &d, NULL);
    }
    p->row = d;
    return e;
}

/* True when the device is disabled by it. A module has none of this. */
static bool put_status(const struct store_tx *tx, const struct device_spec *spec,
                       struct device *row)
{
    bool is_disabled = row->is_enabled && !spec->is_enabled;
    if (row->parent != 0) {
        return false;
    }
    if (row->is_enabled != spec->is_enabled) {
        row->status_updated_us = tx->now_us;
    }
    row->is_enabled = spec->is_enabled;
    row->status_reason = spec->status_reason;
    row->is_edge = spec->is_edge;
    return is_disabled;
}

static enum err put_update(struct store_tx *tx, struct put_work *p, struct device *row)
{
    bool is_rekeyed = cred_tx_apply(&p->cred, row);
    bool is_disabled = put_status(tx, &p->spec, row);
    row->managed_by = p->spec.managed_by;
    row->etag++;
    enum err e = hub_sql_device_update(tx->db, row);
    if (e == OK) {
        e = hub_sql_seen_get(tx->db, row);
    }
    if (e == OK && (is_disabled || is_rekeyed)) {
        e = change_notify(tx, &p->notice, hub_of(p->k.w), row->identity,
                          is_disabled ? DIR_GONE : DIR_CREDENTIAL);
    }
    p->row = *row;
    return e;
}

/* The text of a refusal is the id that is missing (hub-service-rest.md 3.4). */
static enum err not_there(struct work *k, enum err e, struct span id, struct span module_id)
{
    if (e == E_NOT_FOUND) {
        return err_set(&k->info, e, "%.*s", SPAN_ARG(id));
    }
    return e == E_NO_MODULE ? err_set(&k->info, e, "%.*s", SPAN_ARG(module_id)) : e;
}

static enum err put_tx(struct store_tx *tx, struct work *k)
{
    struct put_work *p = CONTAINER_OF(k, struct put_work, k);
    struct device row;
    bool is_module = p->spec.module_id.n != 0;
    enum err e = hub_sql_identity_by_name(tx->db, &k->left, p->spec.id, p->spec.module_id, &row);
    if (e == (is_module ? E_NO_MODULE : E_NOT_FOUND) && p->match.kind == MATCH_NONE) {
        e = cred_tx_check(&p->cred, NULL);
        return e != OK ? e : put_insert(tx, p);
    }
    if (e != OK) {
        return not_there(k, e, p->spec.id, p->spec.module_id);
    }
    if (p->match.kind == MATCH_NONE) {
        return E_EXISTS;
    }
    if ((e = match_tx_check(&p->match, &row, &k->info)) != OK ||
        (e = cred_tx_check(&p->cred, &row)) != OK) {
        return e;
    }
    return put_update(tx, p, &row);
}

static void put_finish(struct work *k, enum err result)
{
    struct put_work *p = CONTAINER_OF(k, struct put_work, k);
    p->done(p->user, p->tag, result, result == OK ? &p->row : NULL, &k->info);
}

static void put_free(struct work *k)
{
    auth_spec_done(&CONTAINER_OF(k, struct put_work, k)->auth);
    work_end(k);
}

/* Copies a span into the work; an absent one stays absent. */
static bool keep(struct work *k, struct span from, struct span *ret)
{
    if (from.p == NULL) {
        *ret = SPAN_NONE;
        return true;
    }
    *ret = arena_span(&k->in, from);
    return ret->p != NULL;
}

enum err auth_spec_keep(struct arena *a, const struct auth_spec *from, struct auth_spec *ret)
{
    ret->type = from->type;
    ret->has_keys = from->has_keys;
    for (unsigned i = 0; i < 2; i++) {
        enum err e = secret_set(&ret->key[i], secret_span(&from->key[i]));
        if (e != OK) {
            return e;
        }
        ret->thumbprint[i] = SPAN_NONE;
        if (from->thumbprint[i].n != 0) {
            ret->thumbprint[i] = arena_span(a, from->thumbprint[i]);
            if (ret->thumbprint[i].p == NULL) {
                return E_NOMEM;
            }
        }
    }
    return OK;
}

enum err registry_put_begin(struct worker *w, const struct device_spec *spec,
                            const struct match *match, registry_done_fn done, void *user,
                            uint64_t tag, struct err_info *info)
{
    struct put_work *p = work_new(w, sizeof *p);
    if (p == NULL) {
        return err_set(info, E_NOMEM, "no memory for a registry write");
    }
    p->k.prepare = put_prepare;
    p->k.tx = put_tx;
    p->k.finish = put_finish;
    p->k.free = put_free;
    p->k.op.urgent =
        spec->module_id.n == 0 && !spec->is_enabled; /* disabling must work on a full disk too */
    p->spec = *spec;
    p->spec.auth = &p->auth;
    p->match = *match;
    p->first_etag = etag_first();
    p->done = done;
    p->user = user;
    p->tag = tag;
    if (!keep(&p->k, spec->id, &p->spec.id) || !keep(&p->k, spec->module_id, &p->spec.module_id) ||
        !keep(&p->k, spec->managed_by, &p->spec.managed_by) ||
        !keep(&p->k, spec->status_reason, &p->spec.status_reason) ||
        auth_spec_keep(&p->k.in, spec->auth, &p->auth) != OK) {
        work_drop(&p->k);
        return err_set(info, E_NOMEM, "no memory for a registry write");
    }
    return work_begin(&p->k, info);
}

/* --- DELETE -------------------------------------------------------------------------------- */

struct delete_work {
    struct work k; /* first */
    struct span id, module_id;
    struct match match;
    struct change_notice notice;
    struct device row;
    registry_done_fn done;
    void *user;
    uint64_t tag;
};

static enum err delete_tx(struct store_tx *tx, struct work *k)
{
    struct delete_work *d = CONTAINER_OF(k, struct delete_work, k);
    enum err e = hub_sql_identity_by_name(tx->db, &k->left, d->id, d->module_id, &d->row);
    if (e != OK) {
        return not_there(k, e, d->id, d->module_id);
    }
    if ((e = match_tx_check(&d->match, &d->row, &k->info)) != OK ||
        (e = d->row.parent == 0 ? fence_tx_deleted(tx, &k->left, &d->row) : OK) != OK ||
        (e = change_notify(tx, &d->notice, hub_of(k->w), d->row.identity, DIR_GONE)) != OK) {
        return e;
    }
    return hub_sql_device_delete(tx->db, d->row.identity);
}

static void delete_finish(struct work *k, enum err result)
{
    struct delete_work *d = CONTAINER_OF(k, struct delete_work, k);
    d->done(d->user, d->tag, result, result == OK ? &d->row : NULL, &k->info);
}

enum err registry_delete_begin(struct worker *w, struct span id, struct span module_id,
                               const struct match *match, registry_done_fn done, void *user,
                               uint64_t tag, struct err_info *info)
{
    if (!id_device_ok(id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    if (module_id.n != 0 && !id_device_ok(module_id)) {
        return err_set(info, E_ID, "moduleId is not valid");
    }
    if (match->kind == MATCH_NONE) {
        return E_ETAG_MISSING; /* there or not: row DELETE of the matrix */
    }
    struct delete_work *d = work_new(w, sizeof *d);
    if (d == NULL) {
        return err_set(info, E_NOMEM, "no memory for a registry write");
    }
    d->k.tx = delete_tx;
    d->k.finish = delete_finish;
    d->k.free = work_end;
    d->k.op.urgent = true;
    d->match = *match;
    d->done = done;
    d->user = user;
    d->tag = tag;
    if (!keep(&d->k, id, &d->id) || !keep(&d->k, module_id, &d->module_id)) {
        work_drop(&d->k);
        return err_set(info, E_NOMEM, "no memory for a registry write");
    }
    return work_begin(&d->k, info);
}
