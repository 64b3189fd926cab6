/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/snapshot.h"

#include <stdlib.h>

#include "base/log.h"

#define SNAPSHOT_ARENA (32u << 20)
#define MAX_GROUPS (2u * LIMIT_DPS_GROUPS)

const char *const alloc_words[ALLOC_CUSTOM + 1] = {
    [ALLOC_NONE] = "",         [ALLOC_HASHED] = "hashed", [ALLOC_GEO] = "geoLatency",
    [ALLOC_STATIC] = "static", [ALLOC_CUSTOM] = "custom",
};

void snapshot_done(struct snapshot *s)
{
    for (size_t i = 0; i < s->n_hubs; i++) {
        if (s->hub[i].token != NULL) {
            mem_wipe(s->hub[i].token, strlen(s->hub[i].token));
            free(s->hub[i].token);
        }
    }
    arena_done(&s->arena);
    geoip_unref(s->geoip);
    *s = (struct snapshot){.arena = ARENA_INIT(SNAPSHOT_ARENA)};
}

void snapshot_free(struct snapshot *s)
{
    if (s != NULL) {
        snapshot_done(s);
        free(s);
    }
}

static bool keep(struct arena *a, struct span *s)
{
    if (s->p == NULL) {
        return true;
    }
    *s = arena_span(a, *s);
    return s->p != NULL;
}

static enum err add_group(void *arg, const struct enr_row *row)
{
    struct snapshot *s = arg;
    if (s->n_groups == MAX_GROUPS) {
        return E_LIMIT; /* the writer keeps the bound */
    }
    struct group *g = &s->group[s->n_groups];
    *g = (struct group){.row = *row};
    g->row.doc = g->row.ek = g->row.srk = SPAN_NONE;
    bool ok = keep(&s->arena, &g->row.name) && keep(&s->arena, &g->row.fold) &&
              keep(&s->arena, &g->row.device_id) && keep(&s->arena, &g->row.initial_twin) &&
              keep(&s->arena, &g->row.hubs) && keep(&s->arena, &g->row.hub_host) &&
              keep(&s->arena, &g->row.issuance) && keep(&s->arena, &g->row.trust_bundle);
    for (unsigned i = 0; i < 2 && ok; i++) {
        if (row->cert[i].n != 0) {
            sha256(row->cert[i], g->sha256[i]);
        }
        ok = keep(&s->arena, &g->row.key[i]) && keep(&s->arena, &g->row.cert[i]) &&
             keep(&s->arena, &g->row.ca[i]);
    }
    s->n_groups += ok;
    return ok ? OK : E_NOMEM;
}

static enum err read_json(struct snapshot *s, struct db *db, const char *name, struct json **ret)
{
    struct span text = SPAN_NONE;
    enum err e = sql_setting_get(db, &s->arena, name, &text);
    if (e == E_NOT_FOUND) {
        return OK;
    }
    return e != OK ? e : json_read(text, 2 * LIMIT_ADMIN_BODY, ret, NULL);
}

static enum err load_webhook(struct snapshot *s, struct db *db)
{
    AUTO(json_free_p) struct json *j = NULL;
    enum err e = read_json(s, db, SETTING_WEBHOOK, &j);
    return e != OK ? e : settings_read_webhook(j, &s->arena, &s->webhook, NULL);
}

static enum err load_networks(struct snapshot *s, struct db *db)
{
    AUTO(json_free_p) struct json *j = NULL;
    enum err e = read_json(s, db, SETTING_NETWORKS, &j);
    return e != OK ? e : settings_read_networks(j, &s->arena, &s->networks, NULL);
}

static enum err load_settings(struct snapshot *s, struct db *db)
{
    struct span v = SPAN_NONE;
    enum err e = sql_setting_get(db, &s->arena, SETTING_ALLOCATION, &v);
    s->alloc = ALLOC_HASHED;
    for (unsigned i = ALLOC_HASHED; e == OK && i <= ALLOC_STATIC; i++) {
        if (span_is(v, alloc_words[i])) {
            s->alloc = (enum enr_alloc)i;
        }
    }
    e = e == E_NOT_FOUND ? OK : e;
    if (e == OK && (e = load_webhook(s, db)) == OK) {
        e = load_networks(s, db);
    }
    return e;
}

enum err snapshot_load(struct snapshot *s, struct db *db, uint64_t epoch, struct err_info *info)
{
    AUTO(mem_free_p) struct hub_row *rows = mem_new(LIMIT_DPS_LINKED_HUBS * sizeof(*rows));
    enum err e = rows != NULL ? OK : E_NOMEM;
    size_t n = 0;
    snapshot_done(s);
    if (e == OK && (s->group = arena_alloc(&s->arena, MAX_GROUPS * sizeof(struct group))) == NULL) {
        e = E_NOMEM;
    }
    if (e == OK) {
        e = sql_hub_all(db, &s->arena, rows, &n);
    }
    for (size_t i = 0; e == OK && i < n; i++) {
        s->hub[i].row = rows[i];
    }
    s->n_hubs = e == OK ? n : 0;
    if (e != OK || (e = sql_enr_page(db, ENR_GROUP, SPAN_NONE, MAX_GROUPS, add_group, s)) != OK ||
        (e = load_settings(s, db)) != OK) {
        snapshot_done(s); /* half read: never used */
        return err_set(info, e, "cannot read groups and linked hubs");
    }
    s->epoch = epoch;
    return OK;
}

/* The epoch is read before the rows: rows newer than their epoch are only read once more. */
enum err snapshot_get(struct dps_worker *dw, struct snapshot **ret, struct err_info *info)
{
    uint64_t epoch = atomic_load(&dw->dps->epoch);
    if (dw->snap == NULL && (dw->snap = NEW(struct snapshot)) == NULL) {
        return E_NOMEM;
    }
    if (dw->snap->epoch != epoch) {
        enum err e = snapshot_load(dw->snap, worker_db(dw->w), epoch, info);
        if (e != OK) {
            return e;
        }
        dw->snap->geoip = geoip_slot_get(dw->dps->geoip);
        if (dw->snap->networks.n_places != 0 && dw->snap->geoip == NULL) {
            LOG_WARN("dps.geoip_missing", L_U64("rows", dw->snap->networks.n_places));
        }
    }
    *ret = dw->snap;
    return OK;
}

struct linked_hub *snapshot_hub(struct snapshot *s, struct span host)
{
    for (size_t i = 0; i < s->n_hubs; i++) {
        if (span_eq_nocase(s->hub[i].row.host, host)) {
            return &s->hub[i];
        }
    }
    return NULL;
}

const struct group *snapshot_group(const struct snapshot *s, int64_t id)
{
    for (size_t i = 0; i < s->n_groups; i++) {
        if (s->group[i].row.id == id) {
            return &s->group[i];
        }
    }
    return NULL;
}

/* --- telling the workers ------------------------------------------------------------------------- */

struct changed_notice {
    struct store_notice notice;
    struct dps *dps;
};

static void changed_run(struct store_notice *n)
{
    struct changed_notice *c = CONTAINER_OF(n, struct changed_notice, notice);
    atomic_fetch_add(&c->dps->epoch, 1);
    free(c);
}

static void changed_drop(struct store_notice *n)
{
    free(CONTAINER_OF(n, struct changed_notice, notice));
}

enum err dps_tx_changed(struct store_tx *tx, struct dps *d)
{
    struct changed_notice *c = NEW(struct changed_notice);
    if (c == NULL) {
        return E_NOMEM;
    }
    c->dps = d;
    c->notice.run = changed_run;
    c->notice.drop = changed_drop;
    store_tx_notify(tx, &c->notice);
    return OK;
}
