/* SPDX-License-Identifier: Apache-2.0 */
/* Linked hubs: docs/protocol/dps-service-rest.md C4. Also the routes of the whole plane. */
#include "base/text.h"
#include "dps/http.h"
#include "dps/hublink.h"
#include "server/admin.h"
#include "wire/connstr.h"

#define HUB_JSON_MAX 4096u
#define HUB_ARENA (16u << 10)
#define MASK "****"

/* --- a linked hub as JSON ------------------------------------------------------------------------ */

static const char *const states[] = {"active", "draining"};

static void add_hub(struct buf *b, const struct hub_row *h)
{
    AUTO(buf_done) struct buf text = BUF_INIT(HUB_JSON_MAX);
    char etag[ADMIN_ETAG_SIZE];
    admin_etag_text(h->etag, etag);
    buf_addf(&text, "HostName=%.*s;SharedAccessKeyName=%.*s;SharedAccessKey=" MASK,
             SPAN_ARG(h->host), SPAN_ARG(h->policy));
    buf_add_str(b, "{\"name\":");
    json_write_str(b, h->host);
    buf_add_str(b, ",\"connectionString\":");
    json_write_str(b, buf_span(&text));
    buf_add_str(b, ",\"location\":");
    if (h->location.n != 0) {
        json_write_str(b, h->location);
    } else {
        buf_add_str(b, "null");
    }
    buf_addf(b, ",\"port\":%u,\"applyAllocationPolicy\":%s,\"allocationWeight\":%u,\"latencyMs\":",
             h->port, h->applies ? "true" : "false", h->weight);
    if (h->latency_ms >= 0) {
        buf_addf(b, "%lld", (long long)h->latency_ms);
    } else {
        buf_add_str(b, "null");
    }
    buf_addf(b, ",\"state\":\"%s\",\"etag\":\"%s\"}", states[h->is_draining ? 1 : 0], etag);
}

bool http_hub_name(struct http_rq *rq, struct span *ret)
{
    struct span name;
    if (!admin_name(rq, 0, &name)) {
        return false;
    }
    char *fold = arena_str(http_rq_arena(rq), name);
    if (fold == NULL) {
        admin_refuse(rq, E_NOMEM, NULL);
        return false;
    }
    text_lower(fold, name.n);
    *ret = span_of(fold, name.n);
    return true;
}

static void hub_get(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(HUB_JSON_MAX);
    struct hub_row row;
    struct span fold;
    if (!http_hub_name(rq, &fold)) {
        return;
    }
    enum err e = sql_hub_get(worker_db(worker_of_rq(rq)), http_rq_arena(rq), fold, &row);
    if (e == OK) {
        add_hub(&b, &row);
        e = buf_err(&b);
    }
    if (e != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    admin_answer_json(rq, 200, row.etag, NULL, buf_span(&b));
}

static void hub_list(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_DPS_LINKED_HUBS * HUB_JSON_MAX);
    struct hub_row *rows = arena_alloc(http_rq_arena(rq), LIMIT_DPS_LINKED_HUBS * sizeof(*rows));
    struct admin_page page;
    struct admin_list list;
    size_t n = 0;
    if (!admin_page_read(rq, &page)) {
        return;
    }
    enum err e = rows != NULL
                     ? sql_hub_all(worker_db(worker_of_rq(rq)), http_rq_arena(rq), rows, &n)
                     : E_NOMEM;
    admin_list_begin(&list, &b, &page);
    for (size_t i = 0; e == OK && i < n; i++) {
        if (admin_list_next(&list)) {
            add_hub(&b, &rows[i]);
        }
    }
    admin_list_answer(rq, &list, e);
}

/* --- writes ------------------------------------------------------------------------------------------ */

struct hub_op {
    struct admin_op op;
    struct dps *dps;
    struct arena arena;
    struct hub_row row; /* PUT: what shall be; key empty: the stored one stays */
    bool force;         /* DELETE */
    struct arena out;
    struct hub_row now;
};

static struct hub_op *as_hub_op(struct admin_op *op)
{
    return CONTAINER_OF(op, struct hub_op, op);
}

static void hub_op_done(struct admin_op *op)
{
    arena_done(&as_hub_op(op)->arena);
    arena_done(&as_hub_op(op)->out);
}

static struct hub_op *hub_op_new(struct http_rq *rq)
{
    struct span fold;
    if (!http_hub_name(rq, &fold)) {
        return NULL;
    }
    struct hub_op *o = admin_op_new(rq, sizeof(*o));
    if (o == NULL) {
        return NULL;
    }
    o->dps = dps_of(worker_of_rq(rq));
    o->arena = (struct arena)ARENA_INIT(HUB_ARENA);
    o->out = (struct arena)ARENA_INIT(HUB_ARENA);
    o->op.done = hub_op_done;
    o->row.fold = arena_span(&o->arena, fold);
    o->row.host = arena_span(&o->arena, http_rq_param(rq, 0));
    if (o->row.fold.p == NULL || o->row.host.p == NULL) {
        admin_op_drop(rq, &o->op, E_NOMEM, NULL);
        return NULL;
    }
    return o;
}

static enum err hub_old(struct store_tx *tx, struct hub_op *o, struct hub_row *ret,
                        bool *ret_exists)
{
    arena_done(&o->out);
    o->out = (struct arena)ARENA_INIT(HUB_ARENA);
    enum err e = sql_hub_get(tx->db, &o->out, o->row.fold, ret);
    *ret_exists = e == OK;
    return e == E_NOT_FOUND ? OK : e;
}

static enum err hub_put_tx(struct store_tx *tx, struct admin_op *op)
{
    struct hub_op *o = as_hub_op(op);
    struct hub_row old = {.etag = 0}, row = o->row;
    int64_t n = 0;
    bool exists;
    enum err e = hub_old(tx, o, &old, &exists);
    if (e != OK || (e = admin_match_put(&op->match, exists, old.etag)) != OK) {
        return e;
    }
    op->created = !exists;
    if (!exists && (e = sql_hub_count(tx->db, &n)) == OK && n >= (int64_t)LIMIT_DPS_LINKED_HUBS) {
        return err_set(&op->info, E_ARG, "at most %u hubs can be linked", LIMIT_DPS_LINKED_HUBS);
    }
    if (e == OK && row.key.n == 0) {
        if (!exists) {
            return err_set(&op->info, E_ARG, "connectionString: the key is missing");
        }
        row.key = old.key;
    }
    if (e != OK || (e = admin_tx_next(tx, &row.etag)) != OK ||
        (e = sql_hub_put(tx->db, &row)) != OK || (e = dps_tx_changed(tx, o->dps)) != OK) {
        return e;
    }
    o->now = row;
    return OK;
}

static void hub_put_answer(struct http_rq *rq, struct admin_op *op)
{
    AUTO(buf_done) struct buf b = BUF_INIT(HUB_JSON_MAX);
    const struct hub_op *o = as_hub_op(op);
    add_hub(&b, &o->now);
    if (buf_err(&b) != OK) {
        dps_refuse(rq, buf_err(&b), NULL);
        return;
    }
    const char *location = op->created ? arena_printf(http_rq_arena(rq), "/admin/linkedHubs/%.*s",
                                                      SPAN_ARG(o->now.host))
                                       : NULL;
    admin_answer_json(rq, op->created ? 201 : 200, o->now.etag, location, buf_span(&b));
}

static enum err read_connstr(struct hub_op *o, struct span text, struct err_info *info)
{
    AUTO(secret_done) struct secret key = {.n = 0};
    AUTO(buf_done) struct buf sealed = BUF_INIT(SECRET_MAX + SEAL_OVERHEAD);
    struct connstr c;
    enum err e = connstr_read(text, &c, info);
    if (e != OK) {
        return err_wrap(info, E_ARG, "connectionString");
    }
    if (c.kind != CONNSTR_SERVICE || !id_admin_name_ok(c.key_name)) {
        return err_set(
            info, E_ARG,
            "connectionString: HostName, SharedAccessKeyName and SharedAccessKey are wanted");
    }
    if (!span_eq_nocase(c.host, o->row.host)) {
        return err_set(info, E_ARG, "connectionString: HostName is not the name of the resource");
    }
    o->row.policy = arena_span(&o->arena, c.key_name);
    if (o->row.policy.p == NULL || span_is(c.key, MASK)) {
        return o->row.policy.p == NULL ? E_NOMEM : OK;
    }
    if (secret_from_base64(&key, c.key) != OK || key.n < LIMIT_KEY_MIN || key.n > LIMIT_KEY_MAX) {
        return err_set(info, E_ARG, "connectionString: SharedAccessKey is base64 of %u to %u bytes",
                       LIMIT_KEY_MIN, LIMIT_KEY_MAX);
    }
    e = keyring_seal(server_keyring(o->dps->server), hublink_key_place(o->row.fold),
                     secret_span(&key), &sealed);
    if (e == OK) {
        o->row.key = arena_span(&o->arena, buf_span(&sealed));
        e = o->row.key.p != NULL ? OK : E_NOMEM;
    }
    return e;
}

static enum err read_hub(struct hub_op *o, const struct json *body, struct err_info *info)
{
    struct span text, name = SPAN_NONE, location = SPAN_NONE;
    int64_t weight = 1, port = 443, latency = -1;
    size_t state = 0;
    bool applies = true;
    enum err e;
    if ((e = json_get_str(body, "name", JSON_F_OPT, &name, info)) != OK ||
        (e = json_get_str(body, "connectionString", JSON_F_NEED, &text, info)) != OK ||
        (e = json_get_str(body, "location", JSON_F_OPT, &location, info)) != OK ||
        (e = json_get_bool(body, "applyAllocationPolicy", JSON_F_OPT, &applies, info)) != OK ||
        (e = json_get_int(body, "allocationWeight", JSON_F_OPT, 1, 1000, &weight, info)) != OK ||
        (e = json_get_int(body, "port", JSON_F_OPT, 1, 65535, &port, info)) != OK ||
        (e = json_get_int(body, "latencyMs", JSON_F_OPT, 0, 3600000, &latency, info)) != OK ||
        (e = json_get_word(body, "state", JSON_F_OPT, states, ARRAY_LEN(states), &state, info)) !=
            OK) {
        return e;
    }
    if (name.n != 0 && !span_eq_nocase(name, o->row.host)) {
        return err_set(info, E_ARG, "name is not that of the path");
    }
    if (location.n > LIMIT_ID) {
        return err_set(info, E_ARG, "location has at most %u bytes", LIMIT_ID);
    }
    if (location.n != 0) {
        o->row.location = arena_span(&o->arena, location);
        if (o->row.location.p == NULL) {
            return E_NOMEM;
        }
    }
    o->row.applies = applies;
    o->row.weight = (uint16_t)weight;
    o->row.port = (uint16_t)port;
    o->row.latency_ms = latency;
    o->row.is_draining = state == 1;
    return read_connstr(o, text, info);
}

static void hub_put(struct http_rq *rq)
{
    static const char *const known[] = {"name",
                                        "connectionString",
                                        "location",
                                        "applyAllocationPolicy",
                                        "allocationWeight",
                                        "latencyMs",
                                        "port",
                                        "state",
                                        "etag",
                                        NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct hub_op *o = hub_op_new(rq);
    if (o == NULL) {
        return;
    }
    if (!admin_body(rq, known, false, &body)) {
        admin_op_forget(&o->op);
        return;
    }
    enum err e = read_hub(o, body, &info);
    if (e != OK) {
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->op.tx = hub_put_tx;
    o->op.answer = hub_put_answer;
    admin_submit(rq, &o->op);
}

/* drain, activate: the one member that changes while a hub is at work. */
static enum err hub_state_tx(struct store_tx *tx, struct admin_op *op)
{
    struct hub_op *o = as_hub_op(op);
    struct hub_row row;
    bool exists;
    enum err e = hub_old(tx, o, &row, &exists);
    if (e != OK || (e = admin_match_change(&op->match, exists, exists ? row.etag : 0)) != OK) {
        return e;
    }
    row.is_draining = o->row.is_draining;
    if ((e = admin_tx_next(tx, &row.etag)) != OK || (e = sql_hub_put(tx->db, &row)) != OK ||
        (e = dps_tx_changed(tx, o->dps)) != OK) {
        return e;
    }
    o->now = row;
    return OK;
}

static void hub_state(struct http_rq *rq, bool is_draining)
{
    struct hub_op *o = hub_op_new(rq);
    if (o != NULL) {
        o->row.is_draining = is_draining;
        o->op.tx = hub_state_tx;
        o->op.answer = hub_put_answer;
        admin_submit(rq, &o->op);
    }
}

static void hub_drain(struct http_rq *rq)
{
    hub_state(rq, true);
}

static void hub_activate(struct http_rq *rq)
{
    hub_state(rq, false);
}

static enum err hub_delete_tx(struct store_tx *tx, struct admin_op *op)
{
    struct hub_op *o = as_hub_op(op);
    struct hub_row old = {.etag = 0};
    bool exists, used = false;
    enum err e = hub_old(tx, o, &old, &exists);
    if (e != OK || (e = admin_match_change(&op->match, exists, old.etag)) != OK ||
        (!o->force && (e = sql_use_any(tx->db, USE_HUB, o->row.fold, &used)) != OK)) {
        return e;
    }
    if (used) {
        return err_set(&op->info, E_CONFLICT,
                       "an enrollment names this hub; force=true unlinks it all the same");
    }
    if ((e = sql_hub_del(tx->db, o->row.fold)) != OK) {
        return e;
    }
    return dps_tx_changed(tx, o->dps);
}

static void hub_delete(struct http_rq *rq)
{
    bool found;
    struct hub_op *o = hub_op_new(rq);
    if (o != NULL) {
        o->force = span_is_nocase(http_rq_query(rq, "force", &found), "true");
        o->op.tx = hub_delete_tx;
        o->op.answer = admin_answer_deleted;
        o->op.is_urgent = true;
        admin_submit(rq, &o->op);
    }
}

/* clang-format off */
const struct http_route dps_admin_routes[] = {
    { HTTP_GET,    "/admin/linkedHubs",             AUTH_ADMIN, 0, 0,                hub_list },
    { HTTP_GET,    "/admin/linkedHubs/{name}",      AUTH_ADMIN, 0, 0,                hub_get },
    { HTTP_PUT,    "/admin/linkedHubs/{name}",      AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, hub_put },
    { HTTP_DELETE, "/admin/linkedHubs/{name}",      AUTH_ADMIN, 0, 0,                hub_delete },
    { HTTP_GET,    "/admin/linkedHubs/{name}/state", AUTH_ADMIN, 0, 0,               http_hub_state },
    { HTTP_POST,   "/admin/linkedHubs/{name}/test", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, http_link_test },
    { HTTP_GET,    "/admin/certificates/{name}/dependents", AUTH_ADMIN, 0, 0,        http_dependents },
    { HTTP_POST,   "/admin/linkedHubs/{name}/drain", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, hub_drain },
    { HTTP_POST,   "/admin/linkedHubs/{name}/activate", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, hub_activate },
    { HTTP_GET,    "/admin/settings",               AUTH_ADMIN, 0, 0,                http_settings_get },
    { HTTP_PUT,    "/admin/settings",               AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, http_settings_put },
    { HTTP_POST,   "/admin/devices/{id}/revoke",    AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, http_revoke },
    { HTTP_GET,    "/admin/devices/{id}/revocation", AUTH_ADMIN, 0, 0,               http_revocation },
    { HTTP_POST,   "/admin/webhooks/{host}/listKeys", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, http_webhook_keys },
};
/* clang-format on */
const size_t n_dps_admin_routes = ARRAY_LEN(dps_admin_routes);
