/* SPDX-License-Identifier: Apache-2.0 */
/* Linked hubs and settings: docs/protocol/dps-service-rest.md C4, C5. */
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/hublink.h"
#include "server/admin.h"
#include "wire/connstr.h"

#define HUB_JSON_MAX 4096u
#define HUB_ARENA (16u << 10)
#define MASK "****"
#define TEST_MS 5000u

/* --- a linked hub as JSON ------------------------------------------------------------------------ */

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
    buf_addf(b, ",\"etag\":\"%s\"}", etag);
}

static bool fold_name(struct http_rq *rq, struct span *ret)
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
    if (!fold_name(rq, &fold)) {
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
    admin_list_end(&list);
    if (e != OK || (e = buf_err(&b)) != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
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
    if (!fold_name(rq, &fold)) {
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
    bool applies = true;
    enum err e;
    if ((e = json_get_str(body, "name", JSON_F_OPT, &name, info)) != OK ||
        (e = json_get_str(body, "connectionString", JSON_F_NEED, &text, info)) != OK ||
        (e = json_get_str(body, "location", JSON_F_OPT, &location, info)) != OK ||
        (e = json_get_bool(body, "applyAllocationPolicy", JSON_F_OPT, &applies, info)) != OK ||
        (e = json_get_int(body, "allocationWeight", JSON_F_OPT, 1, 1000, &weight, info)) != OK ||
        (e = json_get_int(body, "port", JSON_F_OPT, 1, 65535, &port, info)) != OK ||
        (e = json_get_int(body, "latencyMs", JSON_F_OPT, 0, 3600000, &latency, info)) != OK) {
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

static void answer_none(struct http_rq *rq, struct admin_op *op UNUSED)
{
    admin_answer_none(rq);
}

static void hub_delete(struct http_rq *rq)
{
    bool found;
    struct hub_op *o = hub_op_new(rq);
    if (o != NULL) {
        o->force = span_is_nocase(http_rq_query(rq, "force", &found), "true");
        o->op.tx = hub_delete_tx;
        o->op.answer = answer_none;
        o->op.is_urgent = true;
        admin_submit(rq, &o->op);
    }
}

/* --- test of a link ------------------------------------------------------------------------------------- */

/* Two calls that change nothing: a list of one device, and a provisioning without a body, which a hub that grants the right refuses
 * as a bad request. */
struct hub_test {
    struct egress_rq rq;
    struct worker *w;
    handle caller;
    char *token;
    const char *headers[1];
    struct buf url_read, url_write;
    uint64_t begun_ms, latency_ms;
    bool is_second;
    bool reachable, may_read, may_write;
    unsigned status[2];
    struct err_info why;
};

static void test_free(struct hub_test *t)
{
    buf_done(&t->rq.answer);
    buf_done(&t->url_read);
    buf_done(&t->url_write);
    if (t->token != NULL) {
        mem_wipe(t->token, strlen(t->token));
        free(t->token);
    }
    free(t);
}

static void test_answer(struct hub_test *t)
{
    AUTO(buf_done) struct buf b = BUF_INIT(HUB_JSON_MAX);
    struct http_rq *rq = http_rq_of(worker_loop(t->w), t->caller);
    if (rq == NULL) {
        return;
    }
    buf_addf(
        &b,
        "{\"reachable\":%s,\"registryRead\":%s,\"registryWrite\":%s,\"latencyMs\":%llu,\"error\":",
        t->reachable ? "true" : "false", t->may_read ? "true" : "false",
        t->may_write ? "true" : "false", (unsigned long long)t->latency_ms);
    if (!t->reachable) {
        json_write_str(&b, span_str(err_why(&t->why, t->rq.result)));
    } else if (!t->may_write) {
        buf_addf(&b, "\"the hub answered %u to a call of the provisioning plane\"", t->status[1]);
    } else {
        buf_add_str(&b, "null");
    }
    buf_add_u8(&b, '}');
    if (buf_err(&b) != OK) {
        dps_refuse(rq, buf_err(&b), NULL);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
}

static enum err test_send(struct hub_test *t);

static void test_home(struct msg *m)
{
    struct hub_test *t = CONTAINER_OF(CONTAINER_OF(m, struct egress_rq, msg), struct hub_test, rq);
    bool ok = t->rq.result == OK;
    t->reachable = ok;
    t->why = t->rq.info;
    t->status[t->is_second ? 1 : 0] = t->rq.status;
    if (!t->is_second) {
        t->latency_ms = loop_now_ms(worker_loop(t->w)) - t->begun_ms;
        t->may_read = ok && t->rq.status == 200;
        t->is_second = true;
        buf_done(&t->rq.answer);
        if (ok && test_send(t) == OK) {
            return;
        }
    } else {
        t->may_write = ok && t->rq.status == 400;
    }
    test_answer(t);
    test_free(t);
}

static enum err test_send(struct hub_test *t)
{
    t->rq = (struct egress_rq){
        .home = loop_mailbox(worker_loop(t->w)),
        .pool = POOL_HUBS,
        .method = t->is_second ? "PUT" : "GET",
        .url = (const char *)(t->is_second ? t->url_write.p : t->url_read.p),
        .headers = t->headers,
        .n_headers = 1,
        .body = t->is_second ? SPAN_LIT("{}") : SPAN_NONE,
        .timeout_ms = TEST_MS,
        .answer = BUF_INIT(1u << 20),
    };
    t->rq.msg.run = test_home;
    return server_egress_send(worker_server(t->w), &t->rq);
}

static enum err test_begin(struct http_rq *rq, struct hub_test *t, struct span fold,
                           struct err_info *info)
{
    struct dps_worker *dw = dps_worker_of(t->w);
    struct snapshot *s = NULL;
    const char *token = NULL;
    enum err e = snapshot_get(dw, &s, info);
    struct linked_hub *h = e == OK ? snapshot_hub(s, fold) : NULL;
    if (e != OK || h == NULL) {
        return e != OK ? e : E_NOT_FOUND;
    }
    e = hublink_token(server_keyring(dw->dps->server), h, loop_wall_us(worker_loop(t->w)) / 1000000,
                      &token);
    if (e != OK) {
        return e;
    }
    t->token = span_dup(span_str(token));
    t->headers[0] = t->token;
    hublink_add_url(&t->url_read, &h->row, "/devices?top=1&api-version=2021-04-12");
    hublink_add_url(&t->url_write, &h->row,
                    "/provision/devices/link-test?api-version=" SERVER_ADMIN_VERSION);
    buf_add_u8(&t->url_read, 0);
    buf_add_u8(&t->url_write, 0);
    t->caller = http_rq_handle(rq);
    t->begun_ms = loop_now_ms(worker_loop(t->w));
    if (t->token == NULL || buf_err(&t->url_read) != OK || buf_err(&t->url_write) != OK) {
        return E_NOMEM;
    }
    return test_send(t);
}

static void hub_try(struct http_rq *rq)
{
    struct err_info info = {0};
    struct span fold;
    if (!fold_name(rq, &fold)) {
        return;
    }
    struct hub_test *t = NEW(struct hub_test);
    enum err e = E_NOMEM;
    if (t != NULL) {
        t->w = worker_of_rq(rq);
        t->url_read = (struct buf)BUF_INIT(1024);
        t->url_write = (struct buf)BUF_INIT(1024);
        e = test_begin(rq, t, fold, &info);
    }
    if (e != OK) {
        admin_refuse(rq, e, &info);
        if (t != NULL) {
            test_free(t);
        }
    }
}

/* --- settings --------------------------------------------------------------------------------------------- */

static const char *const policy_words[] = {"Hashed", "GeoLatency", "Static"};

struct settings_op {
    struct admin_op op;
    struct dps *dps;
    enum enr_alloc alloc;
    enum enr_alloc now;
};

static uint64_t etag_of(struct span v)
{
    uint64_t n = 1;
    return span_to_u64(v, &n) ? n : 1;
}

static enum err read_settings(struct db *db, struct arena *a, enum enr_alloc *ret_alloc,
                              uint64_t *ret_etag)
{
    struct span v = SPAN_NONE;
    enum err e = sql_setting_get(db, a, SETTING_ALLOCATION, &v);
    *ret_alloc = ALLOC_HASHED;
    for (unsigned i = ALLOC_HASHED; e == OK && i <= ALLOC_STATIC; i++) {
        *ret_alloc = span_is(v, alloc_words[i]) ? (enum enr_alloc)i : *ret_alloc;
    }
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    v = SPAN_NONE;
    e = sql_setting_get(db, a, SETTING_ETAG, &v);
    *ret_etag = etag_of(v);
    return e == E_NOT_FOUND ? OK : e;
}

static void answer_settings(struct http_rq *rq, enum enr_alloc alloc, uint64_t etag)
{
    AUTO(buf_done) struct buf b = BUF_INIT(HUB_JSON_MAX);
    struct dps *d = dps_of(worker_of_rq(rq));
    char text[ADMIN_ETAG_SIZE];
    admin_etag_text(etag, text);
    buf_addf(&b, "{\"idScope\":\"%s\",\"serviceOperationsHostName\":", d->id_scope);
    json_write_str(&b, server_first_name(d->server));
    buf_add_str(&b, ",\"deviceProvisioningHostName\":");
    json_write_str(&b, server_first_name(d->server));
    buf_addf(
        &b,
        ",\"allocationPolicy\":\"%s\",\"state\":\"Active\",\"ipFilterRules\":[],\"etag\":\"%s\"}",
        policy_words[alloc - ALLOC_HASHED], text);
    if (buf_err(&b) != OK) {
        dps_refuse(rq, buf_err(&b), NULL);
        return;
    }
    admin_answer_json(rq, 200, etag, NULL, buf_span(&b));
}

static void settings_get(struct http_rq *rq)
{
    enum enr_alloc alloc;
    uint64_t etag;
    enum err e = read_settings(worker_db(worker_of_rq(rq)), http_rq_arena(rq), &alloc, &etag);
    if (e != OK) {
        admin_refuse(rq, e, NULL);
        return;
    }
    answer_settings(rq, alloc, etag);
}

static enum err settings_tx(struct store_tx *tx, struct admin_op *op)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(4096);
    struct settings_op *o = CONTAINER_OF(op, struct settings_op, op);
    enum enr_alloc old;
    uint64_t etag;
    char *text;
    enum err e = read_settings(tx->db, &a, &old, &etag);
    /* The resource is always there: a PUT without If-Match writes it (nothing could be created). */
    if (e != OK ||
        (op->match.kind != ADMIN_MATCH_NONE &&
         (e = admin_match_put(&op->match, true, etag)) != OK) ||
        (e = admin_tx_next(tx, &op->etag)) != OK) {
        return e;
    }
    o->now = o->alloc != ALLOC_NONE ? o->alloc : old;
    if ((text = arena_printf(&a, "%llu", (unsigned long long)op->etag)) == NULL) {
        return E_NOMEM;
    }
    if ((e = sql_setting_put(tx->db, SETTING_ALLOCATION, span_str(alloc_words[o->now]))) != OK ||
        (e = sql_setting_put(tx->db, SETTING_ETAG, span_str(text))) != OK) {
        return e;
    }
    return dps_tx_changed(tx, o->dps);
}

static void settings_answer(struct http_rq *rq, struct admin_op *op)
{
    answer_settings(rq, CONTAINER_OF(op, struct settings_op, op)->now, op->etag);
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

static void settings_put(struct http_rq *rq)
{
    static const char *const known[] = {"idScope",
                                        "serviceOperationsHostName",
                                        "deviceProvisioningHostName",
                                        "allocationPolicy",
                                        "state",
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
    if (!admin_body(rq, known, false, &body)) {
        admin_op_forget(&o->op);
        return;
    }
    o->dps = dps_of(worker_of_rq(rq));
    enum err e = check_fixed(o->dps, body, &info);
    if (e == OK) {
        e = json_get_word(body, "allocationPolicy", JSON_F_OPT, policy_words,
                          ARRAY_LEN(policy_words), &word, &info);
    }
    if (e != OK) {
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->alloc = word < ARRAY_LEN(policy_words) ? (enum enr_alloc)(ALLOC_HASHED + word) : ALLOC_NONE;
    o->op.tx = settings_tx;
    o->op.answer = settings_answer;
    admin_submit(rq, &o->op);
}

/* clang-format off */
const struct http_route dps_admin_routes[] = {
    { HTTP_GET,    "/admin/linkedHubs",             AUTH_ADMIN, 0, 0,                hub_list },
    { HTTP_GET,    "/admin/linkedHubs/{name}",      AUTH_ADMIN, 0, 0,                hub_get },
    { HTTP_PUT,    "/admin/linkedHubs/{name}",      AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, hub_put },
    { HTTP_DELETE, "/admin/linkedHubs/{name}",      AUTH_ADMIN, 0, 0,                hub_delete },
    { HTTP_POST,   "/admin/linkedHubs/{name}/test", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, hub_try },
    { HTTP_GET,    "/admin/settings",               AUTH_ADMIN, 0, 0,                settings_get },
    { HTTP_PUT,    "/admin/settings",               AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, settings_put },
};
/* clang-format on */
const size_t n_dps_admin_routes = ARRAY_LEN(dps_admin_routes);
