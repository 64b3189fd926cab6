/* SPDX-License-Identifier: Apache-2.0 */
/* The resources /admin/streamGrants: docs/protocol/device-streams.md 13.3. */
#include "hub/stream_grant.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "hub/hub.h"
#include "hub/streams.h"
#include "hub/stream_token.h"

#define GRANT_JSON_MAX 2048u

struct grant_op {
    struct admin_op op;
    struct stream_grant g;
    struct secret key;
    char host[LIMIT_HOST + 1];
    const struct keyring *keyring;
    struct hub *hub;
};

static struct grant_op *as_grant_op(struct admin_op *op)
{
    return CONTAINER_OF(op, struct grant_op, op);
}

static void grant_op_done(struct admin_op *op)
{
    secret_done(&as_grant_op(op)->key);
}

/* Refuses rq itself. */
static bool grant_name(struct http_rq *rq, struct span *ret)
{
    struct err_info info = {0};
    *ret = http_rq_param(rq, 0);
    if (stream_grant_name_ok(*ret)) {
        return true;
    }
    admin_refuse(rq,
                 err_set(&info, E_ARG, "name of a grant: 1 to %u of a-z, A-Z, 0-9, '-', '.', '_'",
                         GRANT_NAME),
                 &info);
    return false;
}

static struct grant_op *grant_op_new(struct http_rq *rq)
{
    struct span name;
    if (!grant_name(rq, &name)) {
        return NULL;
    }
    struct grant_op *o = admin_op_new(rq, sizeof(*o));
    if (o != NULL) {
        o->op.done = grant_op_done;
        o->hub = hub_of(worker_of_rq(rq));
        (void)span_to_cstr(name, o->g.name, sizeof(o->g.name));
    }
    return o;
}

/* --- as JSON --------------------------------------------------------------------------------------- */

/* Without the closing brace. */
static void add_json(struct buf *b, const struct stream_grant *g, int64_t now_s)
{
    char created[TIME_ISO_SIZE], expires[TIME_ISO_SIZE], etag[ADMIN_ETAG_SIZE];
    time_iso7(g->created_us, created);
    time_iso7(g->expires_s * 1000000, expires);
    admin_etag_text(g->etag, etag);
    buf_addf(b, "{\"name\":\"%s\",\"%s\":", g->name, g->is_prefix ? "devicePrefix" : "deviceId");
    json_write_str(b, span_str(g->device));
    buf_add_str(b, ",\"streamName\":");
    json_write_str(b, span_str(g->stream));
    buf_add_str(b, ",\"createdBy\":");
    json_write_str(b, span_str(g->made_by));
    buf_addf(
        b, ",\"createdTimeUtc\":\"%s\",\"expiresTimeUtc\":\"%s\",\"state\":\"%s\",\"etag\":\"%s\"",
        created, expires, g->expires_s > now_s ? "active" : "expired", etag);
}

/* The only time that the key is told. */
static void answer_put(struct http_rq *rq, struct admin_op *op)
{
    const struct grant_op *o = as_grant_op(op);
    struct buf b = BUF_INIT(GRANT_JSON_MAX);
    (void)buf_reserve(&b, GRANT_JSON_MAX); /* at once, so that no copy of the key stays behind */
    add_json(&b, &o->g, server_token_now_s(worker_server(op->w)));
    buf_addf(&b,
             ",\"connectionString\":\"HostName=%s;SharedAccessKeyName=" GRANT_PREFIX
             "%s;SharedAccessKey=",
             o->host, o->g.name);
    base64_add(&b, secret_span(&o->key));
    buf_add_str(&b, "\"}");
    if (buf_err(&b) == OK) {
        const char *at = arena_printf(http_rq_arena(rq), "/admin/streamGrants/%s", o->g.name);
        http_header(rq, "Cache-Control", SPAN_LIT("no-store"));
        admin_answer_json(rq, 201, o->g.etag, at, buf_span(&b));
        mem_wipe(b.p, b.cap);
    } else {
        admin_refuse(rq, buf_err(&b), NULL);
    }
    buf_done(&b);
}

static void grant_get(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(GRANT_JSON_MAX);
    struct worker *w = worker_of_rq(rq);
    struct stream_grant g;
    struct span name;
    if (!grant_name(rq, &name)) {
        return;
    }
    enum err e = hub_sql_grant_by_name(worker_db(w), name, &g);
    if (e == OK) {
        add_json(&b, &g, server_token_now_s(worker_server(w)));
        buf_add_u8(&b, '}');
        e = buf_err(&b);
    }
    if (e != OK) {
        admin_refuse(rq, e, NULL);
    } else {
        admin_answer_json(rq, 200, g.etag, NULL, buf_span(&b));
    }
}

struct listing {
    struct admin_list list;
    int64_t now_s;
};

static enum err list_one(void *arg, const struct stream_grant *g)
{
    struct listing *l = arg;
    if (admin_list_next(&l->list)) {
        add_json(l->list.b, g, l->now_s);
        buf_add_u8(l->list.b, '}');
    }
    return OK;
}

static void grant_list(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(GRANTS * GRANT_JSON_MAX);
    struct worker *w = worker_of_rq(rq);
    struct listing l = {.now_s = server_token_now_s(worker_server(w))};
    struct admin_page page;
    if (!admin_page_read(rq, &page)) {
        return;
    }
    admin_list_begin(&l.list, &b, &page);
    enum err e = hub_sql_grant_each(worker_db(w), list_one, &l);
    admin_list_answer(rq, &l.list, e);
}

/* --- changes ------------------------------------------------------------------------------------------ */

static enum err seal(struct store_tx *tx, struct grant_op *o)
{
    AUTO(buf_done) struct buf sealed = BUF_INIT(GRANT_SEALED_MAX);
    enum err e = keyring_seal(o->keyring, stream_grant_place(&o->g), secret_span(&o->key), &sealed);
    return e != OK ? e : hub_sql_grant_set_key(tx->db, o->g.id, buf_span(&sealed));
}

static enum err tx_put(struct store_tx *tx, struct admin_op *op)
{
    struct grant_op *o = as_grant_op(op);
    struct stream_grant there;
    uint64_t n;
    enum err e = hub_sql_grant_by_name(tx->db, span_str(o->g.name), &there);
    if (e == OK) {
        return err_set(
            &op->info, E_EXISTS,
            "there is such a grant; one never changes: revoke it, or choose another name");
    }
    if (e != E_NOT_FOUND || (e = hub_sql_grant_count(tx->db, &n)) != OK) {
        return e;
    }
    if (n >= GRANTS) {
        return err_set(&op->info, E_LIMIT, "there are %u grants already", GRANTS);
    }
    /* The seal is bound to the row's id, so the row comes first. */
    if ((e = admin_tx_next(tx, &o->g.etag)) != OK || (e = hub_sql_grant_add(tx->db, &o->g)) != OK) {
        return e;
    }
    return seal(tx, o);
}

static enum err tx_delete(struct store_tx *tx, struct admin_op *op)
{
    struct grant_op *o = as_grant_op(op);
    enum err e = hub_sql_grant_by_name(tx->db, span_str(o->g.name), &o->g);
    if (e != OK || (e = admin_match_change(&op->match, true, o->g.etag)) != OK ||
        (e = hub_sql_grant_del(tx->db, o->g.id)) != OK) {
        return e;
    }
    return stream_grant_tx_gone(tx, o->hub);
}

static enum err read_body(const struct json *body, struct grant_op *o, struct err_info *info)
{
    struct span id = SPAN_NONE, prefix = SPAN_NONE, stream;
    int64_t life_s;
    enum err e;
    if ((e = json_get_str(body, "deviceId", JSON_F_OPT, &id, info)) != OK ||
        (e = json_get_str(body, "devicePrefix", JSON_F_OPT, &prefix, info)) != OK ||
        (e = json_get_str(body, "streamName", JSON_F_NEED, &stream, info)) != OK ||
        (e = json_get_int(body, "lifeSeconds", JSON_F_NEED, 1, GRANT_LIFE_MAX_S, &life_s, info)) !=
            OK) {
        return e;
    }
    o->g.is_prefix = prefix.p != NULL;
    if ((id.p != NULL) == (prefix.p != NULL)) {
        return err_set(info, E_ARG, "either deviceId or devicePrefix is wanted");
    }
    struct span device = id.p != NULL ? id : prefix;
    if ((!id_device_ok(device) && !(o->g.is_prefix && device.n == 0)) ||
        !span_to_cstr(device, o->g.device, sizeof(o->g.device))) {
        return err_set(info, E_ARG, "deviceId or devicePrefix is no device id");
    }
    if (!stream_name_ok(stream) || !span_to_cstr(stream, o->g.stream, sizeof(o->g.stream))) {
        return err_set(info, E_ARG, "streamName is no name of a stream");
    }
    o->g.expires_s = life_s; /* from now on */
    return OK;
}

static void grant_put(struct http_rq *rq)
{
    static const char *const known[] = {"deviceId", "devicePrefix", "streamName", "lifeSeconds",
                                        NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct worker *w = worker_of_rq(rq);
    const struct caller *c = admin_caller(rq);
    struct grant_op *o = grant_op_new(rq);
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, known, false, &body)) {
        return;
    }
    enum err e = (c->policy.rights & R_SERVICE_CONNECT) == 0
                     ? err_set(&info, E_UNAUTHORIZED, "nobody grants a right that he lacks")
                     : read_body(body, o, &info);
    if (e == OK && !streams_are_on(o->hub)) {
        e = err_set(&info, E_STATE, "device streams are switched off (streams.enabled)");
    }
    if (e != OK || (e = secret_random(&o->key, GRANT_KEY_BYTES)) != OK) {
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->keyring = server_keyring(worker_server(w));
    o->g.created_us = loop_wall_us(worker_loop(w));
    o->g.expires_s += server_token_now_s(worker_server(w));
    (void)!span_to_cstr(c->policy_name, o->g.made_by, sizeof(o->g.made_by)); /* a policy's */
    (void)!span_to_cstr(server_first_name(worker_server(w)), o->host, sizeof(o->host));
    o->op.tx = tx_put;
    o->op.answer = answer_put;
    admin_submit(rq, &o->op);
}

static void grant_delete(struct http_rq *rq)
{
    struct grant_op *o = grant_op_new(rq);
    admin_submit_delete(rq, o != NULL ? &o->op : NULL, tx_delete);
}

/* clang-format off */
const struct http_route hub_grant_routes[] = {
    { HTTP_GET,    "/admin/streamGrants",        AUTH_ADMIN, 0, 0,                grant_list },
    { HTTP_GET,    "/admin/streamGrants/{name}", AUTH_ADMIN, 0, 0,                grant_get },
    { HTTP_PUT,    "/admin/streamGrants/{name}", AUTH_ADMIN, 0, LIMIT_ADMIN_BODY, grant_put },
    { HTTP_DELETE, "/admin/streamGrants/{name}", AUTH_ADMIN, 0, 0,                grant_delete },
};
/* clang-format on */
const size_t n_hub_grant_routes = ARRAY_LEN(hub_grant_routes);
