/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/twin.h"

#include <stdlib.h>

#include "base/text.h"
#include "hub/directory.h"
#include "hub/hub_sql.h"
#include "hub/registry_int.h"
#include "hub/twin_int.h"

/* --- reading -------------------------------------------------------------------------------- */

enum err twin_read(struct db *db, struct arena *a, int64_t identity, int64_t created_us,
                   struct twin *ret)
{
    struct twin t;
    enum err e = hub_sql_twin_get(db, a, identity, &t);
    if (e == E_NOT_FOUND) {
        t = (struct twin){.identity = identity, .etag = 1, .version = 2};
        e = twin_section_fresh(a, created_us, &t.desired);
        t.reported = t.desired;
    }
    if (e == OK) {
        *ret = t;
    }
    return e;
}

enum err twin_get(struct worker *w, struct arena *a, int64_t identity, int64_t created_us,
                  struct twin *ret)
{
    return twin_read(worker_db(w), a, identity, created_us, ret);
}

void twin_etag_text(uint64_t etag, char dst[TWIN_ETAG_SIZE])
{
    AUTO(buf_done) struct buf raw = BUF_INIT(8);
    AUTO(buf_done) struct buf b64 = BUF_INIT(TWIN_ETAG_SIZE);
    buf_add_be64(&raw, etag);
    base64_add(&b64, buf_span(&raw));
    bool ok = span_to_cstr(buf_span(&b64), dst, TWIN_ETAG_SIZE);
    ASSERT(ok);
}

static void add_identity(struct worker *w, const struct device *stored, const struct twin *t,
                         struct buf *b)
{
    char etag[TWIN_ETAG_SIZE], device_etag[REGISTRY_ETAG_SIZE];
    struct device seen = *stored;
    const struct device *d = &seen;
    notes_merge(hub_of(w)->registry, &seen);
    twin_etag_text(t->etag, etag);
    registry_etag_text(d->etag, device_etag);
    registry_add_text(b, "{\"deviceId\":", d->id);
    if (d->module_id.n > 0) {
        registry_add_text(b, ",\"moduleId\":", d->module_id);
    }
    buf_addf(b, ",\"etag\":\"%s\",\"deviceEtag\":\"%s\",\"status\":\"%s\"", etag, device_etag,
             d->is_enabled ? "enabled" : "disabled");
    if (d->status_reason.p != NULL) {
        registry_add_text(b, ",\"statusReason\":", d->status_reason);
    }
    registry_add_time(b, "statusUpdateTime", d->status_updated_us);
    buf_addf(b, ",\"connectionState\":\"%s\"",
             directory_is_connected(hub_of(w)->directory, d->identity) ? "Connected"
                                                                       : "Disconnected");
    registry_add_time(b, "lastActivityTime", d->last_activity_us);
    buf_addf(b, ",\"cloudToDeviceMessageCount\":0,\"authenticationType\":\"%s\"",
             auth_type_name(d->auth));
    registry_add_text(b, ",\"x509Thumbprint\":{\"primaryThumbprint\":", d->thumbprint[0]);
    registry_add_text(b, ",\"secondaryThumbprint\":", d->thumbprint[1]);
    buf_add_u8(b, '}');
}

enum err twin_to_json(struct worker *w, const struct device *d, const struct twin *t,
                      bool with_model, struct buf *b)
{
    add_identity(w, d, t, b);
    if (with_model) {
        registry_add_text(b, ",\"modelId\":", d->model_id.p != NULL ? d->model_id : SPAN_LIT(""));
    }
    buf_addf(b, ",\"version\":%llu", (unsigned long long)t->version);
    if (t->tags.p != NULL) {
        buf_add_str(b, ",\"tags\":");
        buf_add(b, t->tags);
    }
    buf_add_str(b, ",\"properties\":{\"desired\":");
    enum err e = twin_section_add(b, &t->desired);
    if (e == OK) {
        buf_add_str(b, ",\"reported\":");
        e = twin_section_add(b, &t->reported);
    }
    buf_addf(b, "},\"capabilities\":{\"iotEdge\":%s}}", d->is_edge ? "true" : "false");
    return e != OK ? e : buf_err(b);
}

enum err twin_properties_json(struct worker *w, int64_t identity, struct buf *b)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(LIMIT_HUB_WORK);
    struct twin t;
    int64_t created_us;
    bool is_enabled;
    enum err e = hub_sql_device_alive(worker_db(w), identity, &created_us, &is_enabled);
    if (e == OK) {
        e = twin_get(w, &a, identity, created_us, &t);
    }
    if (e != OK) {
        return e;
    }
    buf_add_str(b, "{\"desired\":");
    twin_add_versioned(b, t.desired.json, t.desired.version);
    buf_add_str(b, ",\"reported\":");
    twin_add_versioned(b, t.reported.json, t.reported.version);
    buf_add_u8(b, '}');
    return buf_err(b);
}

/* --- model id --------------------------------------------------------------------------------- */

struct model_work {
    struct work k; /* first */
    int64_t identity;
    struct span model;
};

static enum err model_tx(struct store_tx *tx, struct work *k)
{
    struct model_work *m = CONTAINER_OF(k, struct model_work, k);
    return hub_sql_device_set_model(tx->db, m->identity, m->model);
}

void twin_note_model(struct worker *w, int64_t identity, struct span stored, struct span announced)
{
    announced = span_sub(announced, 0, LIMIT_MODEL_ID);
    if (span_eq(announced, stored)) {
        return;
    }
    struct model_work *m = work_new(w, sizeof *m);
    if (m == NULL) {
        return; /* the next connect says it again */
    }
    m->k.tx = model_tx;
    m->k.free = work_end;
    m->identity = identity;
    m->model = arena_span(&m->k.in, announced);
    (void)!work_begin(&m->k, NULL); /* same */
}

/* --- desired changes -------------------------------------------------------------------------- */

struct desired_notice {
    struct store_notice notice;
    struct msg msg;
    struct hub *hub;
    struct desired_notice **owner; /* the work's pointer, taken away when told */
    struct loop *loop;
    handle link;
    int64_t identity;
    uint64_t version;
    struct buf text;
};

void twin_set_desired_hook(struct hub *h, hub_desired_fn fn)
{
    h->on_desired = fn;
}

enum err desired_notice_new(struct hub *h, struct span object, uint64_t version,
                            struct desired_notice **ret)
{
    struct desired_notice *n = NEW(struct desired_notice);
    if (n == NULL) {
        return E_NOMEM;
    }
    n->hub = h;
    n->version = version;
    n->text = (struct buf)BUF_INIT(LIMIT_TWIN_TEXT + 64u);
    twin_add_versioned(&n->text, object, version);
    enum err e = buf_err(&n->text);
    if (e != OK) {
        desired_notice_free(n);
        return e;
    }
    *ret = n;
    return OK;
}

void desired_notice_free(struct desired_notice *n)
{
    if (n != NULL) {
        buf_done(&n->text);
        free(n);
    }
}

/* On the worker that had the link when the writer looked; the hook drops it if the link is gone by now. */
static void notice_arrive(struct msg *m)
{
    struct desired_notice *n = CONTAINER_OF(m, struct desired_notice, msg);
    n->hub->on_desired(n->loop, n->link, n->identity, n->version, buf_span(&n->text));
    desired_notice_free(n);
}

/* On the writer, committed. */
static void notice_run(struct store_notice *sn)
{
    struct desired_notice *n = CONTAINER_OF(sn, struct desired_notice, notice);
    *n->owner = NULL;
    n->link = n->hub->on_desired != NULL ? directory_find(n->hub->directory, n->identity) : 0;
    if (n->link == 0) {
        desired_notice_free(n);
        return;
    }
    n->loop = worker_loop(server_worker(n->hub->server, handle_worker(n->link)));
    n->msg.run = notice_arrive;
    loop_post(n->loop, &n->msg);
}

static void notice_drop(struct store_notice *sn)
{
    (void)sn; /* still the work's */
}

void desired_notice_tx(struct store_tx *tx, struct desired_notice **n, int64_t identity)
{
    (*n)->notice = (struct store_notice){.run = notice_run, .drop = notice_drop};
    (*n)->owner = n;
    (*n)->identity = identity;
    store_tx_notify(tx, &(*n)->notice);
}
