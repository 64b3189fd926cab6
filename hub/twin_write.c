/* SPDX-License-Identifier: Apache-2.0 */
/* Writes to twins: reported by the device, tags and desired by services. docs/protocol/hub-service-rest.md 9.2, hub-mqtt.md 7.2. */
#include "base/text.h"
#include "hub/hub_sql.h"
#include "hub/twin_int.h"
#include "wire/twin.h"

/* So often a write is prepared on its worker; then on the writer, where nobody can be faster. */
#define TRIES_ON_WORKER 3u

/* The stamp's clock: the worker's; a transaction run again must give the same. */
static int64_t stamp_now(struct work *k)
{
    return clock_wall_us(server_clock(worker_server(k->w)));
}

/* --- reported ------------------------------------------------------------------------------- */

struct report_work {
    struct work k; /* first */
    int64_t identity;
    struct json *patch;
    bool has_base;
    uint64_t base;
    int64_t now_us;
    /* prepared */
    uint64_t from_version;
    struct twin_section section;
    twin_done_fn done;
    void *user;
    uint64_t tag;
};

static enum err report_make(struct report_work *r, struct db *db)
{
    int64_t created_us;
    bool is_enabled;
    struct twin t;
    enum err e = hub_sql_device_alive(db, r->identity, &created_us, &is_enabled);
    if (e == OK) {
        e = twin_read(db, &r->k.prep, r->identity, created_us, &t);
    }
    if (e != OK) {
        return e;
    }
    struct twin_stamp at = {.at_us = r->now_us};
    r->from_version = t.reported.version;
    return twin_section_merge(&r->k.prep, &t.reported, r->patch, at, &r->section, &r->k.info);
}

static enum err report_prepare(struct work *k)
{
    struct report_work *r = CONTAINER_OF(k, struct report_work, k);
    r->now_us = stamp_now(k);
    return report_make(r, worker_db(k->w));
}

static enum err report_store(struct store_tx *tx, struct report_work *r, const struct twin *cur,
                             bool has_row, int64_t created_us)
{
    struct twin t = *cur;
    if (!has_row) {
        enum err e = twin_read(tx->db, &r->k.left, r->identity, created_us, &t);
        if (e != OK) {
            return e;
        }
    }
    t.version++;
    t.reported = r->section;
    return has_row ? hub_sql_twin_set_reported(tx->db, &t) : hub_sql_twin_put(tx->db, &t);
}

static enum err report_tx(struct store_tx *tx, struct work *k)
{
    struct report_work *r = CONTAINER_OF(k, struct report_work, k);
    struct twin cur = {.version = 2, .etag = 1, .reported.version = 1};
    int64_t created_us;
    bool is_enabled;
    enum err e = hub_sql_device_alive(tx->db, r->identity, &created_us, &is_enabled);
    if (e != OK) {
        return e;
    }
    if (!is_enabled) {
        return E_DISABLED; /* moving a device freezes its twin by disabling it */
    }
    e = hub_sql_twin_versions(tx->db, r->identity, &cur);
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    bool has_row = e == OK;
    if (r->has_base && r->base != cur.reported.version) {
        return err_set(&k->info, E_ETAG, "reported $version is %llu",
                       (unsigned long long)cur.reported.version);
    }
    if (r->from_version != cur.reported.version) {
        if (k->tries <= TRIES_ON_WORKER) {
            return E_STALE;
        }
        if ((e = report_make(r, tx->db)) != OK) {
            return e;
        }
    }
    return report_store(tx, r, &cur, has_row, created_us);
}

static void report_finish(struct work *k, enum err result)
{
    struct report_work *r = CONTAINER_OF(k, struct report_work, k);
    r->done(r->user, r->tag, result, r->section.version, &k->info);
}

static void report_free(struct work *k)
{
    json_free(CONTAINER_OF(k, struct report_work, k)->patch);
    work_end(k);
}

enum err twin_report_begin(struct worker *w, int64_t identity, struct span body, bool has_base,
                           uint64_t base, twin_done_fn done, void *user, uint64_t tag,
                           struct err_info *info)
{
    AUTO(json_free_p) struct json *patch = NULL;
    enum err e;
    if ((e = json_read_object(body, LIMIT_TWIN_BODY, &patch, info)) != OK ||
        (e = twin_check(patch, TWIN_PATCH, info)) != OK) {
        return e;
    }
    struct report_work *r = work_new(w, sizeof *r);
    if (r == NULL) {
        return err_set(info, E_NOMEM, "no memory for a twin write");
    }
    r->k.prepare = report_prepare;
    r->k.tx = report_tx;
    r->k.finish = report_finish;
    r->k.free = report_free;
    r->identity = identity;
    r->patch = TAKE(patch);
    r->has_base = has_base;
    r->base = base;
    r->done = done;
    r->user = user;
    r->tag = tag;
    return work_begin(&r->k, info);
}

/* --- tags and desired ----------------------------------------------------------------------- */

struct write_work {
    struct work k; /* first */
    struct span id, module_id;
    struct json *body;
    struct json *tags, *desired; /* in body; NULL: absent. A JSON null clears (PATCH) */
    bool is_replace;
    struct match match;
    int64_t now_us;
    /* prepared */
    int64_t from_identity; /* 0: there was none */
    uint64_t from_etag;
    struct twin next; /* tags and desired of it */
    struct desired_notice *notice;
    /* as the transaction left them */
    struct device device;
    struct twin twin;
    twin_write_done_fn done;
    void *user;
    uint64_t tag;
};

static bool touches_desired(const struct write_work *x)
{
    return x->is_replace || x->desired != NULL;
}

static bool touches_anything(const struct write_work *x)
{
    return touches_desired(x) || x->tags != NULL;
}

static enum err make_tags(struct write_work *x, const struct twin *t)
{
    struct work *k = &x->k;
    bool is_cleared = x->tags == NULL || json_is(x->tags, JSON_T_NULL);
    if (x->tags == NULL && (!x->is_replace || t->tags.p == NULL)) {
        x->next.tags = t->tags;
        return OK;
    }
    if (is_cleared) {
        x->next.tags = SPAN_LIT("{}");
        return OK;
    }
    return x->is_replace ? twin_tags_replace(&k->prep, x->tags, &x->next.tags, &k->info)
                         : twin_tags_merge(&k->prep, t->tags, x->tags, &x->next.tags, &k->info);
}

/* The notice tells the patch as applied, or the whole after a replacement. */
static enum err make_notice(struct write_work *x, const struct json *patch)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_TWIN_TEXT);
    struct span told = x->next.desired.json;
    desired_notice_free(TAKE(x->notice));
    if (patch != NULL) {
        AUTO(json_free_p) struct json *copy = json_clone(patch);
        if (copy == NULL) {
            return E_NOMEM;
        }
        twin_strip(copy);
        json_write(&b, copy);
        told = buf_span(&b);
    }
    enum err e = buf_err(&b);
    return e != OK ? e
                   : desired_notice_new(hub_of(x->k.w), told, x->next.desired.version, &x->notice);
}

static enum err make_desired(struct write_work *x, const struct twin *t)
{
    struct work *k = &x->k;
    struct twin_stamp at = {.at_us = x->now_us, .version = t->desired.version + 1};
    AUTO(json_free_p) struct json *clearing = NULL;
    const struct json *patch = x->desired;
    enum err e;
    if (!touches_desired(x)) {
        x->next.desired = t->desired;
        return OK;
    }
    if (x->is_replace) {
        e = twin_section_replace(&k->prep, patch, at.version, at, &x->next.desired, &k->info);
        return e != OK ? e : make_notice(x, NULL);
    }
    if (json_is(patch, JSON_T_NULL)) {
        if ((e = twin_clearing_patch(t->desired.json, &clearing)) != OK) {
            return e;
        }
        patch = clearing;
    }
    e = twin_section_merge(&k->prep, &t->desired, patch, at, &x->next.desired, &k->info);
    return e != OK ? e : make_notice(x, patch);
}

/* A twin that is missing is E_NOT_FOUND, the module's too (hub-service-rest.md 3.4). */
static enum err find(struct db *db, struct arena *a, const struct write_work *x, struct device *ret)
{
    enum err e = hub_sql_identity_by_name(db, a, x->id, x->module_id, ret);
    return e == E_NO_MODULE ? E_NOT_FOUND : e;
}

static enum err write_make(struct write_work *x, struct db *db)
{
    struct work *k = &x->k;
    struct device d;
    struct twin t;
    enum err e = find(db, &k->prep, x, &d);
    if (e == E_NOT_FOUND) {
        x->from_identity = 0; /* the transaction says so, in its turn */
        return OK;
    }
    if (e == OK) {
        e = twin_read(db, &k->prep, d.identity, d.created_us, &t);
    }
    if (e != OK) {
        return e;
    }
    x->from_identity = d.identity;
    x->from_etag = t.etag;
    if ((e = make_tags(x, &t)) != OK) {
        return e;
    }
    return make_desired(x, &t);
}

static enum err write_prepare(struct work *k)
{
    struct write_work *x = CONTAINER_OF(k, struct write_work, k);
    x->now_us = stamp_now(k);
    return write_make(x, worker_db(k->w));
}

static enum err write_store(struct store_tx *tx, struct write_work *x)
{
    struct twin unused, *t = &x->twin;
    if (!touches_anything(x)) {
        return OK;
    }
    t->etag++;
    t->version++;
    t->tags = x->next.tags;
    t->desired = x->next.desired;
    enum err e = hub_sql_twin_versions(tx->db, t->identity, &unused);
    if (e == OK) {
        e = hub_sql_twin_set_service(tx->db, t);
    } else if (e == E_NOT_FOUND) {
        e = hub_sql_twin_put(tx->db, t);
    }
    if (e == OK && touches_desired(x)) {
        desired_notice_tx(tx, &x->notice, t->identity);
    }
    return e;
}

static enum err write_check(struct store_tx *tx, struct write_work *x)
{
    const struct match *m = &x->match;
    if (m->kind == MATCH_ETAG && (!m->is_ours || m->etag != x->twin.etag)) {
        (void)!err_set(&x->k.info, E_ETAG, "ETag mismatch for device ID '%.*s'%s%.*s%s",
                       SPAN_ARG(x->id), x->module_id.n > 0 ? ", module ID '" : "",
                       SPAN_ARG(x->module_id), x->module_id.n > 0 ? "'" : "");
        return E_ETAG;
    }
    if (x->from_identity == x->device.identity && x->from_etag == x->twin.etag) {
        return OK;
    }
    return x->k.tries <= TRIES_ON_WORKER ? E_STALE : write_make(x, tx->db);
}

static enum err write_tx(struct store_tx *tx, struct work *k)
{
    struct write_work *x = CONTAINER_OF(k, struct write_work, k);
    enum err e = find(tx->db, &k->left, x, &x->device);
    if (e == E_NOT_FOUND) {
        return err_set(&k->info, E_NOT_FOUND, "%.*s", SPAN_ARG(x->id));
    }
    if (e != OK || (e = hub_sql_seen_get(tx->db, &x->device)) != OK ||
        (e = twin_read(tx->db, &k->left, x->device.identity, x->device.created_us, &x->twin)) !=
            OK ||
        (e = write_check(tx, x)) != OK) {
        return e;
    }
    return write_store(tx, x);
}

static void write_finish(struct work *k, enum err result)
{
    struct write_work *x = CONTAINER_OF(k, struct write_work, k);
    bool ok = result == OK;
    x->done(x->user, x->tag, result, ok ? &x->device : NULL, ok ? &x->twin : NULL, &k->info);
}

static void write_free(struct work *k)
{
    struct write_work *x = CONTAINER_OF(k, struct write_work, k);
    desired_notice_free(x->notice);
    json_free(x->body);
    work_end(k);
}

/* A section of the body: absent, a null that clears, or a checked object. */
static enum err read_section(const struct json *o, const char *name, bool is_replace, size_t max,
                             struct json **ret, struct err_info *info)
{
    struct json *s = json_get_nocase(o, name);
    if (s == NULL || (!is_replace && json_is(s, JSON_T_NULL))) {
        *ret = s;
        return OK;
    }
    if (!json_is(s, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "%s is not an object", name);
    }
    enum err e = twin_check(s, is_replace ? TWIN_WHOLE : TWIN_PATCH, info);
    if (e == OK && is_replace) {
        e = twin_check_size(s, max, info);
    }
    if (e == OK) {
        *ret = s;
    }
    return e;
}

static enum err read_write_body(struct write_work *x, struct span body, struct err_info *info)
{
    if (body_is_blank(body)) {
        return err_set(info, E_ARG_NULL, "body is empty");
    }
    enum err e = json_read_object(body, LIMIT_TWIN_BODY, &x->body, info);
    if (e != OK) {
        return e;
    }
    struct json *props = json_get_nocase(x->body, "properties");
    if (props != NULL && !json_is(props, JSON_T_OBJECT) && !json_is(props, JSON_T_NULL)) {
        return err_set(info, E_ARG, "properties is not an object");
    }
    e = read_section(x->body, "tags", x->is_replace, LIMIT_TWIN_TAGS, &x->tags, info);
    if (e == OK) {
        e = read_section(props, "desired", x->is_replace, LIMIT_TWIN_SECTION, &x->desired, info);
    }
    return e;
}

enum err twin_write_begin(struct worker *w, struct span id, struct span module_id, struct span body,
                          bool is_replace, const struct match *match, twin_write_done_fn done,
                          void *user, uint64_t tag, struct err_info *info)
{
    if (!id_device_ok(id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    struct write_work *x = work_new(w, sizeof *x);
    if (x == NULL) {
        return err_set(info, E_NOMEM, "no memory for a twin write");
    }
    x->k.prepare = write_prepare;
    x->k.tx = write_tx;
    x->k.finish = write_finish;
    x->k.free = write_free;
    x->is_replace = is_replace;
    x->match = *match;
    x->done = done;
    x->user = user;
    x->tag = tag;
    x->id = arena_span(&x->k.in, id);
    x->module_id = module_id.n > 0 ? arena_span(&x->k.in, module_id) : SPAN_NONE;
    bool is_kept = x->id.p != NULL && (module_id.n == 0 || x->module_id.p != NULL);
    enum err e = is_kept ? read_write_body(x, body, info)
                         : err_set(info, E_NOMEM, "no memory for a twin write");
    if (e != OK) {
        work_drop(&x->k);
        return e;
    }
    return work_begin(&x->k, info);
}
