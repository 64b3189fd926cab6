/* SPDX-License-Identifier: Apache-2.0 */
/* /admin/settings: docs/protocol/dps-service-rest.md C5. */
#include "dps/http.h"
#include "dps/snapshot.h"
#include "server/admin.h"

#define SETTINGS_JSON_MAX 4096u

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
    AUTO(buf_done) struct buf b = BUF_INIT(SETTINGS_JSON_MAX);
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

void http_settings_get(struct http_rq *rq)
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

void http_settings_put(struct http_rq *rq)
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
