/* SPDX-License-Identifier: Apache-2.0 */
/* POST /admin/webhooks/{host}/listKeys: the keys by which a webhook's host checks our signatures. docs/protocol/dps-service-rest.md C5. */
#include "base/text.h"
#include "dps/http.h"
#include "dps/settings.h"
#include "dps/snapshot.h"
#include "dps/webhook_sign.h"
#include "server/admin.h"

#define KEYS_JSON_MAX 2048u
#define KEYS 2u /* the version in use, and the next */

struct keys_op {
    struct admin_op op;
    struct dps *dps;
    char host[LIMIT_HOST + 1];
    unsigned version;
};

/* Changes nothing but the audit trail. */
static enum err keys_tx(struct store_tx *tx, struct admin_op *op)
{
    struct keys_op *o = CONTAINER_OF(op, struct keys_op, op);
    AUTO(arena_done) struct arena a = ARENA_INIT(256u << 10);
    AUTO(json_free_p) struct json *j = NULL;
    struct webhook_conf c;
    struct span text = SPAN_NONE;
    enum err e = sql_setting_get(tx->db, &a, SETTING_WEBHOOK, &text);
    if (e == OK) {
        e = json_read(text, 2 * LIMIT_ADMIN_BODY, &j, NULL);
    } else if (e == E_NOT_FOUND) {
        e = OK; /* the defaults */
    }
    if (e == OK && (e = settings_read_webhook(j, &a, &c, NULL)) == OK) {
        o->version = c.key_version;
    }
    return e;
}

static enum err add_key(struct buf *b, const struct keys_op *o, unsigned version)
{
    AUTO(secret_done) struct secret key = {.n = 0};
    enum err e = webhook_sign_key(&o->dps->webhook_key, span_str(o->host), version, &key);
    if (e != OK) {
        return e;
    }
    buf_addf(b, "{\"version\":%u,\"key\":\"", version);
    base64_add(b, secret_span(&key));
    buf_add_str(b, "\"}");
    return OK;
}

static void keys_answer(struct http_rq *rq, struct admin_op *op)
{
    const struct keys_op *o = CONTAINER_OF(op, struct keys_op, op);
    struct buf b = BUF_INIT(KEYS_JSON_MAX);
    enum err e = OK;
    (void)buf_reserve(&b, KEYS_JSON_MAX); /* at once, so that no copy of the keys stays behind */
    buf_add_str(&b, "{\"host\":");
    json_write_str(&b, span_str(o->host));
    buf_add_str(&b, ",\"keys\":[");
    for (unsigned i = 0; e == OK && i < KEYS; i++) {
        buf_add_str(&b, i == 0 ? "" : ",");
        e = add_key(&b, o, o->version + i);
    }
    buf_add_str(&b, "]}");
    if (e == OK && (e = buf_err(&b)) == OK) {
        http_header(rq, "Cache-Control", SPAN_LIT("no-store"));
        admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
    } else {
        dps_refuse(rq, e, NULL);
    }
    if (b.p != NULL) {
        mem_wipe(b.p, b.cap);
    }
    buf_done(&b);
}

void http_webhook_keys(struct http_rq *rq)
{
    static const char *const none[] = {NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct span host = http_rq_param(rq, 0);
    struct keys_op *o = admin_op_new(rq, sizeof(*o));
    if (!admin_op_body(rq, o != NULL ? &o->op : NULL, none, true, &body)) {
        return;
    }
    if (!settings_is_host(host) || !span_to_cstr(host, o->host, sizeof(o->host))) {
        enum err e = err_set(&info, E_ARG, "a host name or an address is wanted");
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    text_lower(o->host, host.n);
    o->dps = dps_of(worker_of_rq(rq));
    o->op.tx = keys_tx;
    o->op.answer = keys_answer;
    admin_submit(rq, &o->op);
}
