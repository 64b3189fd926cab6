/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry.h"

#include <stdlib.h>

#include "base/text.h"
#include "hub/directory.h"
#include "hub/hub_sql.h"
#include "hub/registry_int.h"

/* --- life ---------------------------------------------------------------------------------- */

enum err registry_new(struct server *s, struct registry **ret)
{
    struct registry *r = NEW(struct registry);
    if (r == NULL) {
        return E_NOMEM;
    }
    r->server = s;
    r->n = server_n_workers(s);
    pthread_mutex_init(&r->notes_lock, NULL);
    map_init(&r->notes);
    r->workers = mem_new(r->n * sizeof *r->workers);
    if (r->workers == NULL) {
        registry_free(r);
        return E_NOMEM;
    }
    *ret = r;
    return OK;
}

void registry_free(struct registry *r)
{
    if (r != NULL) {
        notes_free(r);
        free(r->workers);
        free(r);
    }
}

enum err registry_worker_start(struct worker *w)
{
    struct registry_worker *rw = registry_worker_of(w);
    rw->w = w;
    rw->registry = hub_of(w)->registry;
    rw->is_started = true;
    return OK;
}

void registry_worker_done(struct worker *w)
{
    struct registry_worker *rw = registry_worker_of(w);
    if (rw->is_started) {
        rw->is_started = false;
        notes_done(rw);
    }
}

unsigned registry_pending(struct worker *w)
{
    return registry_worker_of(w)->pending;
}

/* --- reading ------------------------------------------------------------------------------- */

enum err registry_get(struct worker *w, struct arena *a, struct span id, struct device *ret)
{
    struct device d;
    enum err e = hub_sql_device_by_id(worker_db(w), a, id, &d);
    if (e == OK) {
        e = hub_sql_seen_get(worker_db(w), &d);
    }
    if (e == OK) {
        *ret = d;
    }
    return e;
}

enum err registry_get_module(struct worker *w, struct arena *a, struct span device_id,
                             struct span module_id, struct device *ret)
{
    struct device d;
    enum err e = hub_sql_identity_by_name(worker_db(w), a, device_id, module_id, &d);
    if (e == OK) {
        e = hub_sql_seen_get(worker_db(w), &d);
    }
    if (e == OK) {
        *ret = d;
    }
    return e;
}

enum err registry_get_by_identity(struct worker *w, struct arena *a, int64_t identity,
                                  struct device *ret)
{
    struct device d;
    enum err e = hub_sql_device_by_identity(worker_db(w), a, identity, &d);
    if (e == OK) {
        e = hub_sql_seen_get(worker_db(w), &d);
    }
    if (e == OK) {
        *ret = d;
    }
    return e;
}

struct seal_place device_key_place(const struct device *d, unsigned which)
{
    static const char *const columns[] = {"key0", "key1"};
    ASSERT(which < 2);
    return (struct seal_place){
        .table = "device", .column = columns[which], .row = d->generation_id};
}

/* --- etags, generations -------------------------------------------------------------------- */

void registry_etag_text(uint64_t etag, char dst[REGISTRY_ETAG_SIZE])
{
    AUTO(buf_done) struct buf digits = BUF_INIT(24);
    AUTO(buf_done) struct buf b64 = BUF_INIT(REGISTRY_ETAG_SIZE);
    buf_addf(&digits, "%llu", (unsigned long long)etag);
    base64_add(&b64, buf_span(&digits));
    bool ok = span_to_cstr(buf_span(&b64), dst, REGISTRY_ETAG_SIZE);
    ASSERT(ok);
}

uint64_t etag_first(void)
{
    return 100000000u + random_below(800000000u);
}

void generation_new(struct worker *w, char dst[GENERATION_SIZE])
{
    /* Ticks of 100 ns since the year 1, as the original writes them. */
    static const uint64_t unix_epoch_ticks = 621355968000000000u;
    struct registry_worker *rw = registry_worker_of(w);
    int64_t now = clock_wall_us(server_clock(worker_server(w)));
    uint64_t ticks = unix_epoch_ticks + (uint64_t)MAX(now, 0) * 10u + random_below(10);
    if (ticks <= rw->last_generation) {
        ticks = rw->last_generation + 1;
    }
    rw->last_generation = ticks;
    AUTO(buf_done) struct buf b = BUF_INIT(GENERATION_SIZE);
    buf_addf(&b, "%llu", (unsigned long long)ticks);
    bool ok = span_to_cstr(buf_span(&b), dst, GENERATION_SIZE);
    ASSERT(ok);
}

/* --- the document -------------------------------------------------------------------------- */

const char *auth_type_name(enum auth_type t)
{
    static const char *const names[] = {[AUTH_T_SAS] = "sas",
                                        [AUTH_T_SELF_SIGNED] = "selfSigned",
                                        [AUTH_T_CA] = "certificateAuthority",
                                        [AUTH_T_NONE] = "none"};
    ASSERT(t >= AUTH_T_SAS && t <= AUTH_T_NONE);
    return names[t];
}

void registry_add_time(struct buf *b, const char *name, int64_t us)
{
    char iso[TIME_ISO_SIZE];
    if (us == 0) {
        buf_addf(b, ",\"%s\":\"0001-01-01T00:00:00Z\"", name);
    } else {
        time_iso7(us, iso);
        buf_addf(b, ",\"%s\":\"%s\"", name, iso);
    }
}

void registry_add_text(struct buf *b, const char *head, struct span s)
{
    buf_add_str(b, head);
    if (s.p == NULL) {
        buf_add_str(b, "null");
    } else {
        json_write_str(b, s);
    }
}

static enum err add_keys(struct hub *h, const struct device *d, bool with_keys, struct buf *b)
{
    static const char *const heads[] = {"\"symmetricKey\":{\"primaryKey\":", ",\"secondaryKey\":"};
    for (unsigned i = 0; i < 2; i++) {
        buf_add_str(b, heads[i]);
        if (!with_keys || d->auth != AUTH_T_SAS) {
            buf_add_str(b, "null");
            continue;
        }
        AUTO(secret_done) struct secret key = {.n = 0};
        enum err e = keyring_unseal(server_keyring(h->server), device_key_place(d, i),
                                    d->sealed_key[i], &key);
        if (e != OK) {
            return e;
        }
        buf_add_u8(b, '"');
        base64_add(b, secret_span(&key));
        buf_add_u8(b, '"');
    }
    buf_add_u8(b, '}');
    return OK;
}

static enum err add_authentication(struct hub *h, const struct device *d, bool with_keys,
                                   struct buf *b)
{
    buf_add_str(b, ",\"cloudToDeviceMessageCount\":0,\"authentication\":{");
    enum err e = add_keys(h, d, with_keys, b);
    if (e != OK) {
        return e;
    }
    registry_add_text(b, ",\"x509Thumbprint\":{\"primaryThumbprint\":", d->thumbprint[0]);
    registry_add_text(b, ",\"secondaryThumbprint\":", d->thumbprint[1]);
    buf_addf(b, "},\"type\":\"%s\"}", auth_type_name(d->auth));
    return OK;
}

/* generationId, etag and connectionState stand in both documents. */
static void add_state(struct hub *h, const struct device *d, struct buf *b)
{
    char etag[REGISTRY_ETAG_SIZE];
    registry_etag_text(d->etag, etag);
    registry_add_text(b, ",\"generationId\":", d->generation_id);
    buf_addf(b, ",\"etag\":\"%s\",\"connectionState\":\"%s\"", etag,
             directory_is_connected(h->directory, d->identity) ? "Connected" : "Disconnected");
}

static enum err module_json(struct hub *h, const struct device *d, bool with_keys, struct buf *b)
{
    registry_add_text(b, "{\"moduleId\":", d->module_id);
    registry_add_text(b, ",\"managedBy\":", d->managed_by);
    registry_add_text(b, ",\"deviceId\":", d->id);
    add_state(h, d, b);
    registry_add_time(b, "connectionStateUpdatedTime", d->state_updated_us);
    registry_add_time(b, "lastActivityTime", d->last_activity_us);
    enum err e = add_authentication(h, d, with_keys, b);
    buf_add_u8(b, '}');
    return e != OK ? e : buf_err(b);
}

enum err registry_device_json(struct hub *h, const struct device *stored, bool with_keys,
                              struct buf *b)
{
    struct device seen = *stored;
    const struct device *d = &seen;
    notes_merge(h->registry, &seen);
    if (d->module_id.n != 0) {
        return module_json(h, d, with_keys, b);
    }
    registry_add_text(b, "{\"deviceId\":", d->id);
    add_state(h, d, b);
    buf_addf(b, ",\"status\":\"%s\"", d->is_enabled ? "enabled" : "disabled");
    registry_add_text(b, ",\"statusReason\":", d->status_reason);
    registry_add_time(b, "connectionStateUpdatedTime", d->state_updated_us);
    registry_add_time(b, "statusUpdatedTime", d->status_updated_us);
    registry_add_time(b, "lastActivityTime", d->last_activity_us);
    enum err e = add_authentication(h, d, with_keys, b);
    buf_addf(b, ",\"capabilities\":{\"iotEdge\":%s}}", d->is_edge ? "true" : "false");
    return e != OK ? e : buf_err(b);
}

enum err registry_to_json(struct worker *w, const struct device *d, bool with_keys, struct buf *ret)
{
    return registry_device_json(hub_of(w), d, with_keys, ret);
}

/* --- list ---------------------------------------------------------------------------------- */

struct module_list {
    struct hub *hub;
    struct buf *json;
    bool has_some;
};

static enum err list_module(void *arg, struct device *d)
{
    struct module_list *l = arg;
    if (l->has_some) {
        buf_add_u8(l->json, ',');
    }
    l->has_some = true;
    return registry_device_json(l->hub, d, true, l->json);
}

/* Few enough for the worker itself. */
enum err registry_modules_json(struct worker *w, const struct device *d, struct buf *b)
{
    struct module_list l = {.hub = hub_of(w), .json = b};
    buf_add_u8(b, '[');
    enum err e = hub_sql_module_list(worker_db(w), d->identity, list_module, &l);
    buf_add_u8(b, ']');
    return e != OK ? e : buf_err(b);
}

struct list_scan {
    struct store_scan scan; /* first */
    struct worker *w;
    struct hub *hub;
    size_t top;
    struct buf json;
    registry_list_fn done;
    void *user;
    uint64_t tag;
};

static enum err list_add(void *arg, struct device *d)
{
    struct list_scan *ls = arg;
    if (ls->json.n > 1) {
        buf_add_u8(&ls->json, ',');
    }
    return registry_device_json(ls->hub, d, true, &ls->json);
}

static enum err list_run(struct db *db, struct store_scan *scan)
{
    struct list_scan *ls = CONTAINER_OF(scan, struct list_scan, scan);
    buf_add_u8(&ls->json, '[');
    enum err e = hub_sql_device_list(db, ls->top, list_add, ls);
    buf_add_u8(&ls->json, ']');
    return e != OK ? e : buf_err(&ls->json);
}

static void list_free(struct list_scan *ls)
{
    mem_wipe(ls->json.p, ls->json.n);
    buf_done(&ls->json);
    free(ls);
}

static void list_home(struct msg *m)
{
    struct list_scan *ls = CONTAINER_OF(m, struct list_scan, scan.msg);
    registry_worker_of(ls->w)->pending--;
    ls->done(ls->user, ls->tag, ls->scan.result,
             ls->scan.result == OK ? buf_span(&ls->json) : SPAN_NONE);
    list_free(ls);
}

enum err registry_list_begin(struct worker *w, size_t top, registry_list_fn done, void *user,
                             uint64_t tag)
{
    struct list_scan *ls = NEW(struct list_scan);
    if (ls == NULL) {
        return E_NOMEM;
    }
    struct loop *l = worker_loop(w);
    *ls = (struct list_scan){
        .scan = {.msg.run = list_home,
                 .home = loop_mailbox(l),
                 .run = list_run,
                 .deadline_ms =
                     clock_mono_ms(server_clock(worker_server(w))) + LIMIT_REGISTRY_LIST_S * 1000u},
        .w = w,
        .hub = hub_of(w),
        .top = top,
        .json = BUF_INIT(LIMIT_REGISTRY_LIST_BYTES),
        .done = done,
        .user = user,
        .tag = tag,
    };
    enum err e = store_scan(server_store(worker_server(w)), &ls->scan);
    if (e != OK) {
        list_free(ls);
        return e;
    }
    registry_worker_of(w)->pending++;
    return OK;
}
