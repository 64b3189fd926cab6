/* SPDX-License-Identifier: Apache-2.0 */
/* /admin/settings: docs/protocol/dps-service-rest.md C5. */
#include <stdio.h>

#include "dps/http.h"
#include "dps/snapshot.h"
#include "server/admin.h"

#define SETTINGS_JSON_MAX (256u << 10)

static const char *const policy_words[] = {"Hashed", "GeoLatency", "Static"};

static uint64_t etag_of(struct span v)
{
    uint64_t n = 1;
    return span_to_u64(v, &n) ? n : 1;
}

/* What can be written. Texts are JSON as the reader of dps/settings.h takes it; empty: the default. */
struct settings {
    enum enr_alloc alloc; /* ALLOC_NONE in a PUT: as it is */
    struct span webhook, networks;
    bool has_webhook, has_networks; /* of a PUT */
};

static enum err read_text(struct db *db, struct arena *a, const char *name, struct span *ret)
{
    enum err e = sql_setting_get(db, a, name, ret);
    return e == E_NOT_FOUND ? OK : e;
}

static enum err read_settings(struct db *db, struct arena *a, struct settings *ret,
                              uint64_t *ret_etag)
{
    struct span v = SPAN_NONE;
    struct settings s = {.alloc = ALLOC_HASHED};
    enum err e = read_text(db, a, SETTING_ALLOCATION, &v);
    for (unsigned i = ALLOC_HASHED; e == OK && i <= ALLOC_STATIC; i++) {
        s.alloc = span_is(v, alloc_words[i]) ? (enum enr_alloc)i : s.alloc;
    }
    v = SPAN_NONE;
    if (e != OK || (e = read_text(db, a, SETTING_WEBHOOK, &s.webhook)) != OK ||
        (e = read_text(db, a, SETTING_NETWORKS, &s.networks)) != OK ||
        (e = read_text(db, a, SETTING_ETAG, &v)) != OK) {
        return e;
    }
    *ret = s;
    *ret_etag = etag_of(v);
    return OK;
}

struct settings_op {
    struct admin_op op;
    struct dps *dps;
    struct arena arena;
    struct settings want;
    struct arena out; /* of the tx, which may run twice */
    struct settings now;
};

static void answer_settings(struct http_rq *rq, const struct settings *v, uint64_t etag)
{
    AUTO(buf_done) struct buf b = BUF_INIT(SETTINGS_JSON_MAX);
    struct dps *d = dps_of(worker_of_rq(rq));
    char text[ADMIN_ETAG_SIZE];
    admin_etag_text(etag, text);
    buf_addf(&b, "{\"idScope\":\"%s\",\"serviceOperationsHostName\":", d->id_scope);
    json_write_str(&b, server_first_name(d->server));
    buf_add_str(&b, ",\"deviceProvisioningHostName\":");
    json_write_str(&b, server_first_name(d->server));
    buf_addf(&b, ",\"allocationPolicy\":\"%s\",\"state\":\"Active\",\"webhook\":",
             policy_words[v->alloc - ALLOC_HASHED]);
    buf_add(&b, v->webhook.n != 0 ? v->webhook
                                  : SPAN_LIT("{\"allowHttp\":false,\"timeoutSeconds\":5,"
                                             "\"allowedHosts\":[],\"keyVersion\":1}"));
    buf_add_str(&b, ",\"latencyTable\":");
    buf_add(&b, v->networks.n != 0 ? v->networks : SPAN_LIT("[]"));
    buf_addf(&b, ",\"ipFilterRules\":[],\"etag\":\"%s\"}", text);
    if (buf_err(&b) != OK) {
        dps_refuse(rq, buf_err(&b), NULL);
        return;
    }
    admin_answer_json(rq, 200, etag, NULL, buf_span(&b));
}

void http_settings_get(struct http_rq *rq)
{
    struct settings v;
    uint64_t etag;
    enum err e = read_settings(worker_db(worker_of_rq(rq)), http_rq_arena(rq), &v, &etag);
    if (e != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    answer_settings(rq, &v, etag);
}

static enum err put_settings(struct store_tx *tx, const struct settings *v, uint64_t etag)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)etag);
    enum err e = sql_setting_put(tx->db, SETTING_ALLOCATION, span_str(alloc_words[v->alloc]));
    if (e == OK && v->has_webhook) {
        e = sql_setting_put(tx->db, SETTING_WEBHOOK, v->webhook);
    }
    if (e == OK && v->has_networks) {
        e = sql_setting_put(tx->db, SETTING_NETWORKS, v->networks);
    }
    return e != OK ? e : sql_setting_put(tx->db, SETTING_ETAG, span_str(text));
}

static enum err settings_tx(struct store_tx *tx, struct admin_op *op)
{
    struct settings_op *o = CONTAINER_OF(op, struct settings_op, op);
    const struct settings *w = &o->want;
    struct settings now;
    uint64_t etag;
    arena_done(&o->out);
    o->out = (struct arena)ARENA_INIT(SETTINGS_JSON_MAX);
    enum err e = read_settings(tx->db, &o->out, &now, &etag);
    /* The resource is always there: a PUT without If-Match writes it (nothing could be created). */
    if (e != OK ||
        (op->match.kind != ADMIN_MATCH_NONE &&
         (e = admin_match_put(&op->match, true, etag)) != OK) ||
        (e = admin_tx_next(tx, &op->etag)) != OK) {
        return e;
    }
    now.alloc = w->alloc != ALLOC_NONE ? w->alloc : now.alloc;
    now.webhook = w->has_webhook ? w->webhook : now.webhook;
    now.networks = w->has_networks ? w->networks : now.networks;
    now.has_webhook = w->has_webhook;
    now.has_networks = w->has_networks;
    o->now = now;
    return (e = put_settings(tx, &now, op->etag)) != OK ? e : dps_tx_changed(tx, o->dps);
}

static void settings_answer(struct http_rq *rq, struct admin_op *op)
{
    answer_settings(rq, &CONTAINER_OF(op, struct settings_op, op)->now, op->etag);
}

static void settings_done(struct admin_op *op)
{
    struct settings_op *o = CONTAINER_OF(op, struct settings_op, op);
    arena_done(&o->arena);
    arena_done(&o->out);
}

static enum err keep_json(struct arena *a, const struct json *v, struct span *ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(2 * LIMIT_ADMIN_BODY);
    json_write(&b, v);
    if (buf_err(&b) != OK) {
        return buf_err(&b);
    }
    *ret = arena_span(a, buf_span(&b));
    return ret->p != NULL ? OK : E_NOMEM;
}

static enum err want_geoip(const struct dps *d, struct err_info *info)
{
    struct geoip *g = geoip_slot_get(d->geoip);
    geoip_unref(g);
    return g != NULL ? OK
                     : err_set(info, E_ARG,
                               "latencyTable: countries and continents need the database that "
                               "dps.geoip of the configuration names, and there is none");
}

/* Read as registrations will read it, then kept as it came. */
static enum err read_parts(const struct json *body, struct settings_op *o, struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(1u << 20);
    struct settings *w = &o->want;
    struct webhook_conf webhook;
    struct networks networks;
    struct json *v = NULL, *table = NULL;
    enum err e = json_get_object(body, "webhook", JSON_F_OPT, &v, info);
    if (e != OK || (e = json_get_array(body, "latencyTable", JSON_F_OPT, &table, info)) != OK) {
        return e;
    }
    w->has_webhook = v != NULL;
    w->has_networks = table != NULL;
    if (v != NULL && ((e = settings_read_webhook(v, &a, &webhook, info)) != OK ||
                      (e = keep_json(&o->arena, v, &w->webhook)) != OK)) {
        return e;
    }
    if (table != NULL && ((e = settings_read_networks(table, &a, &networks, info)) != OK ||
                          (e = keep_json(&o->arena, table, &w->networks)) != OK)) {
        return e;
    }
    return w->has_networks && networks.n_places != 0 ? want_geoip(o->dps, info) : OK;
}

/* Members that say what is so already may be put back; what this version does not offer is refused, never kept in silence. */
static enum err check_fixed(struct dps *d, const struct json *body, struct err_info *info)
{
    struct span scope = SPAN_NONE, name[2] = {SPAN_NONE, SPAN_NONE}, state = SPAN_NONE;
    struct json *rules = NULL;
    enum err e;
    if ((e = json_get_str(body, "idScope", JSON_F_OPT, &scope, info)) != OK ||
        (e = json_get_str(body, "serviceOperationsHostName", JSON_F_OPT, &name[0], info)) != OK ||
        (e = json_get_str(body, "deviceProvisioningHostName", JSON_F_OPT, &name[1], info)) != OK ||
        (e = json_get_str(body, "state", JSON_F_OPT, &state, info)) != OK ||
        (e = json_get_array(body, "ipFilterRules", JSON_F_OPT, &rules, info)) != OK) {
        return e;
    }
    if (scope.p != NULL && !span_is(scope, d->id_scope)) {
        return err_set(info, E_ARG, "idScope is read-only");
    }
    for (unsigned i = 0; i < 2; i++) {
        if (name[i].p != NULL && !span_eq_nocase(name[i], server_first_name(d->server))) {
            return err_set(info, E_ARG,
                           "host names come from the configuration file (server.names)");
        }
    }
    if (state.p != NULL && !span_is(state, "Active")) {
        return err_set(info, E_UNSUPPORTED, "state can only be Active");
    }
    return json_count(rules) == 0
               ? OK
               : err_set(info, E_UNSUPPORTED, "ipFilterRules are not offered by this version");
}

void http_settings_put(struct http_rq *rq)
{
    static const char *const known[] = {"idScope",
                                        "serviceOperationsHostName",
                                        "deviceProvisioningHostName",
                                        "allocationPolicy",
                                        "state",
                                        "webhook",
                                        "latencyTable",
                                        "ipFilterRules",
                                        "etag",
                                        NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    size_t word = ARRAY_LEN(policy_words);
    struct settings_op *o = admin_op_new(rq, sizeof(*o));
    if (o == NULL) {
        return;
    }
    o->arena = (struct arena)ARENA_INIT(SETTINGS_JSON_MAX);
    o->op.done = settings_done;
    if (!admin_body(rq, known, false, &body)) {
        admin_op_forget(&o->op);
        return;
    }
    o->dps = dps_of(worker_of_rq(rq));
    enum err e = check_fixed(o->dps, body, &info);
    if (e == OK) {
        e = read_parts(body, o, &info);
    }
    if (e == OK) {
        e = json_get_word(body, "allocationPolicy", JSON_F_OPT, policy_words,
                          ARRAY_LEN(policy_words), &word, &info);
    }
    if (e != OK) {
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->want.alloc =
        word < ARRAY_LEN(policy_words) ? (enum enr_alloc)(ALLOC_HASHED + word) : ALLOC_NONE;
    o->op.tx = settings_tx;
    o->op.answer = settings_answer;
    admin_submit(rq, &o->op);
}
