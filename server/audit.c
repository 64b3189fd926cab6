/* SPDX-License-Identifier: Apache-2.0 */
#include "server/audit.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "server/admin.h"
#include "server/server_int.h"
#include "server/server_sql.h"
#include "wire/json.h"

#define AUDIT_ACT_MAX 256u
#define AUDIT_LINE_MAX 2048u
#define AUDIT_PAGE_MAX (4u << 20)

/* --- writing ---------------------------------------------------------------------------------- */

static void add_member(struct buf *b, const char *name, struct span value)
{
    buf_addf(b, ",\"%s\":", name);
    json_write_str(b, span_sub(value, 0, 256));
}

/* hash = SHA-256(line), and line holds the hash before it: a chain over texts that anybody can
 * check with the lines alone. */
enum err audit_tx_add(struct store_tx *tx, const struct audit_entry *e)
{
    AUTO(buf_done) struct buf line = BUF_INIT(AUDIT_LINE_MAX);
    uint8_t prev[AUDIT_HASH], hash[AUDIT_HASH];
    char prev_hex[2 * AUDIT_HASH + 1];
    char time[TIME_ISO_SIZE];
    int64_t seq;
    enum err err = sql_audit_last(tx->db, &seq, prev);
    if (err != OK) {
        return err;
    }
    hex_to_cstr(span_of(prev, sizeof(prev)), false, prev_hex);
    time_iso7(tx->now_us, time);
    buf_addf(&line, "{\"seq\":%lld,\"time\":\"%s\"", (long long)seq + 1, time);
    add_member(&line, "who", e->who);
    add_member(&line, "from", e->from);
    add_member(&line, "act", e->act);
    add_member(&line, "result", e->result);
    buf_addf(&line, ",\"prev\":\"%s\"}", prev_hex);
    if ((err = buf_err(&line)) != OK) {
        return err;
    }
    sha256(buf_span(&line), hash);
    return sql_audit_add(tx->db, seq + 1, buf_span(&line), hash);
}

/* --- by itself, without a change ------------------------------------------------------------- */

struct audit_op {
    struct store_op op;
    enum err result;
    char who[LIMIT_ADMIN_NAME + 1];
    char from[64];
    char act[AUDIT_ACT_MAX];
};

static enum err audit_op_tx(struct store_tx *tx, struct store_op *op)
{
    struct audit_op *a = CONTAINER_OF(op, struct audit_op, op);
    const struct audit_entry entry = {span_str(a->who), span_str(a->from), span_str(a->act),
                                      span_str(err_name(a->result))};
    return audit_tx_add(tx, &entry);
}

static void audit_op_run(struct msg *m)
{
    struct audit_op *a = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct audit_op, op);
    if (a->op.result != OK) {
        LOG_ERROR("admin.audit.failed", L_STR("who", a->who), L_STR("act", a->act),
                  L_ERR(a->op.result));
    }
    free(a);
}

static void copy_text(char *dst, size_t n, struct span s)
{
    (void)span_to_cstr(span_sub(s, 0, n - 1), dst, n); /* cut; empty when it holds a zero */
}

void audit_note(struct server *s, struct span who, struct span from, struct span act,
                enum err result)
{
    struct audit_op *a = NEW(struct audit_op);
    enum err e = a != NULL ? OK : E_NOMEM;
    if (e == OK) {
        copy_text(a->who, sizeof(a->who), who);
        copy_text(a->from, sizeof(a->from), from);
        copy_text(a->act, sizeof(a->act), act);
        a->result = result;
        a->op.tx = audit_op_tx;
        a->op.msg.run = audit_op_run; /* on the writer: only a log line and free */
        a->op.bytes = sizeof(*a);
        e = store_submit(s->store, &a->op);
    }
    if (e != OK) {
        LOG_ERROR("admin.audit.failed", L_SPAN("who", who), L_SPAN("act", act), L_ERR(e));
        free(a);
    }
}

/* --- GET /admin/audit?from=SEQ&top=N ----------------------------------------------------------- */

static enum err list_line(void *arg, int64_t seq UNUSED, struct span line, struct span hash)
{
    struct buf *b = arg;
    char hex[2 * AUDIT_HASH + 1];
    if (hash.n != AUDIT_HASH || line.n < 2) {
        return E_CORRUPT;
    }
    hex_to_cstr(hash, false, hex);
    if (b->p[b->n - 1] != '[') {
        buf_add_u8(b, ',');
    }
    buf_add(b, span_sub(line, 0, line.n - 1)); /* without its closing brace */
    buf_addf(b, ",\"hash\":\"%s\"}", hex);
    return buf_err(b);
}

static void audit_list(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(AUDIT_PAGE_MAX);
    struct err_info info = {0};
    struct admin_page page;
    uint64_t from = 1;
    bool has_from;
    struct span text = http_rq_query(rq, "from", &has_from);
    if (has_from && (!span_to_u64(text, &from) || from > INT64_MAX)) {
        admin_refuse(rq, err_set(&info, E_ARG, "from: not a number"), &info);
        return;
    }
    if (!admin_page_read(rq, &page)) {
        return;
    }
    buf_add_str(&b, "{\"value\":[");
    enum err e =
        sql_audit_each(worker_db(worker_of_rq(rq)), (int64_t)from, page.top, list_line, &b);
    buf_add_str(&b, "],\"nextLink\":null}");
    e = e != OK ? e : buf_err(&b);
    if (e != OK) {
        admin_refuse(rq, e, &info);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
}

const struct http_route admin_audit_routes[] = {
    /* clang-format off */
    { HTTP_GET, "/admin/audit", AUTH_ADMIN, 0, 0, audit_list },
    /* clang-format on */
};
const size_t n_admin_audit_routes = ARRAY_LEN(admin_audit_routes);
