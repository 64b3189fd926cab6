/* SPDX-License-Identifier: Apache-2.0 */
/* Queries of the service API, in pages: docs/protocol/dps-service-rest.md A8; threat D11. */
#include <stdlib.h>

#include "base/text.h"
#include "dps/http.h"
#include "dps/registration.h"
#include "wire/where.h"

#define PAGE_BYTES (8u << 20) /* a page ends before it grows over this */
#define QUERY_DEADLINE_MS 10000u
#define TOKEN_MAC 16u
#define QUERY_ARENA (2u << 20)

enum query_of { OF_ENROLLMENTS, OF_GROUPS, OF_REGISTRATIONS };
static const char *const item_types[] = {
    [OF_ENROLLMENTS] = "Enrollment",
    [OF_GROUPS] = "EnrollmentGroup",
    [OF_REGISTRATIONS] = "DeviceRegistration",
};

struct query {
    struct store_scan scan;
    struct dps_worker *dw;
    handle rq;
    enum query_of of;
    uint64_t limit;
    char group[LIMIT_ID + 1]; /* OF_REGISTRATIONS: folded */
    char after[LIMIT_ID + 1];
    char last[LIMIT_ID + 1];
    uint64_t n, looked; /* rows on the page; rows read for it */
    bool has_more;
    struct arena arena;
    struct span where_text;
    struct where *where; /* NULL: all */
    struct db *db;       /* of the scan thread */
    struct buf out;
};

/* What WHERE may name, A8. The id is first: the scan goes in its order. */
enum { MEMBER_ID, MEMBER_STATUS, MEMBER_HUB, MEMBER_ATTESTATION, MEMBER_DEVICE, MEMBERS };
/* clang-format off */
static const struct where_name members[2][MEMBERS] = {
    [ENR_INDIVIDUAL] = {
        [MEMBER_ID]          = { "registrationId",     true },
        [MEMBER_STATUS]      = { "provisioningStatus", false },
        [MEMBER_HUB]         = { "iotHubHostName",     true },
        [MEMBER_ATTESTATION] = { "attestation.type",   false },
        [MEMBER_DEVICE]      = { "deviceId",           false },
    },
    [ENR_GROUP] = {
        [MEMBER_ID]          = { "enrollmentGroupId",  true },
        [MEMBER_STATUS]      = { "provisioningStatus", false },
        [MEMBER_HUB]         = { "iotHubHostName",     true },
        [MEMBER_ATTESTATION] = { "attestation.type",   false },
    },
};
/* clang-format on */

static enum enr_kind kind_of(const struct query *q)
{
    return q->of == OF_GROUPS ? ENR_GROUP : ENR_INDIVIDUAL;
}

/* --- continuation tokens: the last id, under a MAC with the condition, so that nobody can make one ------ */

static void token_mac(const struct query *q, struct span id, uint8_t ret[MAC_SIZE])
{
    AUTO(buf_done) struct buf text = BUF_INIT(4u * LIMIT_ID + LIMIT_QUERY_TEXT);
    buf_addf(&text, "page/%u/%s/%zu/", (unsigned)q->of, q->group, q->where_text.n);
    buf_add(&text, q->where_text);
    buf_add(&text, id);
    mac_sha256(secret_span(&q->dw->dps->page_key), buf_span(&text), ret);
}

static void token_write(const struct query *q, struct buf *b)
{
    AUTO(buf_done) struct buf raw = BUF_INIT(2u * LIMIT_ID);
    uint8_t mac[MAC_SIZE];
    token_mac(q, span_str(q->last), mac);
    buf_add(&raw, span_of(mac, TOKEN_MAC));
    buf_add_str(&raw, q->last);
    base64_add(b, buf_span(&raw));
}

static bool token_read(struct query *q, struct span text)
{
    uint8_t raw[TOKEN_MAC + LIMIT_ID], mac[MAC_SIZE];
    size_t n = sizeof(raw);
    if (base64_decode_to(text, raw, &n) != OK || n <= TOKEN_MAC ||
        !span_to_cstr(span_of(raw + TOKEN_MAC, n - TOKEN_MAC), q->after, sizeof(q->after))) {
        return false;
    }
    token_mac(q, span_str(q->after), mac);
    return mem_equal_ct(span_of(mac, TOKEN_MAC), span_of(raw, TOKEN_MAC));
}

/* --- the text of the query ------------------------------------------------------------------------------- */

static struct span next_word(struct span *rest)
{
    while (rest->n != 0 &&
           (rest->p[0] == ' ' || rest->p[0] == '\t' || rest->p[0] == '\r' || rest->p[0] == '\n')) {
        *rest = span_from(*rest, 1);
    }
    size_t n = 0;
    while (n < rest->n && rest->p[n] > ' ' &&
           (n == 0 || (rest->p[n] != '*' && rest->p[0] != '*'))) {
        n++;
    }
    struct span word = span_sub(*rest, 0, n);
    *rest = span_from(*rest, n);
    return word;
}

static enum err read_where(struct query *q, struct span text, struct err_info *info)
{
    size_t n = q->of == OF_GROUPS ? MEMBER_DEVICE : MEMBERS;
    q->where_text = arena_span(&q->arena, text);
    return q->where_text.p == NULL
               ? E_NOMEM
               : where_read(q->where_text, members[kind_of(q)], n, &q->arena, &q->where, info);
}

/*
 * [SELECT] * [FROM source] [WHERE condition]; empty is all. The samples of the Node and C SDKs send
 * "*" alone.
 */
static enum err read_query(struct query *q, struct span text, struct err_info *info)
{
    struct span rest = text;
    struct span word = next_word(&rest);
    if (word.n == 0) {
        return OK;
    }
    if (span_is_nocase(word, "SELECT")) {
        word = next_word(&rest);
    }
    if (!span_is(word, "*")) {
        return err_set(info, E_ARG, "query: SELECT * is what can be asked");
    }
    word = next_word(&rest);
    if (span_is_nocase(word, "FROM")) {
        if (!span_is_nocase(next_word(&rest),
                            q->of == OF_GROUPS ? "enrollmentGroups" : "enrollments")) {
            return err_set(info, E_ARG, "query: unknown source");
        }
        word = next_word(&rest);
    }
    if (span_is_nocase(word, "WHERE")) {
        return read_where(q, rest, info);
    }
    return word.n == 0 ? OK
                       : err_set(info, E_ARG, "query: unexpected \"%.*s\"",
                                 SPAN_ARG(span_sub(word, 0, 64)));
}

static enum err read_text(struct http_rq *rq, struct query *q, struct err_info *info)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct span text = SPAN_NONE;
    enum err e = http_want_json(rq, info);
    /* Records are asked for with any body at all. */
    if (e != OK || q->of == OF_REGISTRATIONS || span_trim(http_rq_body(rq)).n == 0) {
        return e;
    }
    if ((e = json_read_object(http_rq_body(rq), LIMIT_DPS_BODY, &body, info)) != OK ||
        (e = json_get_str(body, "query", JSON_F_OPT, &text, info)) != OK) {
        return e;
    }
    return read_query(q, text, info);
}

static enum err read_page(struct http_rq *rq, struct query *q, struct err_info *info)
{
    struct span count = http_rq_header(rq, "x-ms-max-item-count");
    struct span token = http_rq_header(rq, "x-ms-continuation");
    q->limit = LIMIT_QUERY_PAGE_DEFAULT;
    if (count.n != 0 && (!span_to_u64(count, &q->limit) || q->limit == 0)) {
        return err_set(info, E_ARG, "x-ms-max-item-count is not a number from 1 to %u",
                       LIMIT_QUERY_PAGE);
    }
    q->limit = MIN(q->limit, LIMIT_QUERY_PAGE);
    return token.n == 0 || token_read(q, token) ? OK
                                                : err_set(info, E_STALE, "bad continuation token");
}

/* --- on a scan thread --------------------------------------------------------------------------------------- */

/* The row is looked at: the next page begins behind it. E_LIMIT ends the page. */
static enum err begin_row(struct query *q, struct span fold)
{
    if (q->n == q->limit || q->out.n > PAGE_BYTES || q->looked == LIMIT_QUERY_ROWS) {
        q->has_more = true;
        return E_LIMIT;
    }
    q->looked++;
    return span_to_cstr(fold, q->last, sizeof(q->last)) ? OK : E_CORRUPT;
}

static void add_comma(struct query *q)
{
    buf_add_str(&q->out, q->n++ == 0 ? "" : ",");
}

static bool is_wanted(const struct query *q, const struct enr_row *row)
{
    const struct span values[MEMBERS] = {
        [MEMBER_ID] = row->fold,
        [MEMBER_STATUS] = span_str(row->is_enabled ? "enabled" : "disabled"),
        [MEMBER_HUB] = row->hub_host,
        [MEMBER_ATTESTATION] = span_str(enrollment_att_word(row->att)),
        [MEMBER_DEVICE] = row->device_id,
    };
    return q->where == NULL || where_judge(q->where, values) == WHERE_TRUE;
}

static enum err add_enrollment(void *arg, const struct enr_row *row)
{
    struct query *q = arg;
    enum err e = begin_row(q, row->fold);
    if (e != OK || !is_wanted(q, row)) {
        return e;
    }
    add_comma(q);
    return enrollment_write(&q->out, row, NULL, NULL);
}

/* A page ends after LIMIT_QUERY_ROWS rows, whether any of them was wanted or not: the rest is for the next one. */
static enum err run_enrollments(struct query *q, struct db *db)
{
    struct enr_range range = {.after = span_str(q->after)};
    if (q->where != NULL) {
        struct where_range r = where_range(q->where, MEMBER_ID, &q->arena);
        range.from = r.from;
        range.to = r.to;
    }
    return sql_enr_range(db, kind_of(q), &range,
                         q->where != NULL ? LIMIT_QUERY_ROWS + 1 : q->limit + 1, add_enrollment, q);
}

static enum err add_registration(void *arg, const struct reg_row *row)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(DPS_ANSWER_MAX);
    struct query *q = arg;
    struct reg_more storage;
    const struct reg_more *more = NULL;
    enum err e = begin_row(q, row->fold);
    if (e == OK && (e = registration_read_more(q->db, &a, row, &storage, &more)) == OK) {
        add_comma(q);
        registration_write_state(&q->out, row, more);
        e = buf_err(&q->out);
    }
    return e;
}

static enum err query_run(struct db *db, struct store_scan *scan)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(ENR_ARENA);
    struct query *q = CONTAINER_OF(scan, struct query, scan);
    struct enr_row group;
    enum err e;
    q->db = db;
    buf_add_u8(&q->out, '[');
    if (q->of != OF_REGISTRATIONS) {
        e = run_enrollments(q, db);
    } else if ((e = sql_enr_get(db, &a, ENR_GROUP, span_str(q->group), &group)) == OK) {
        e = sql_reg_page(db, group.id, span_str(q->after), q->limit + 1, add_registration, q);
    }
    buf_add_u8(&q->out, ']');
    e = e == E_LIMIT ? OK : e;
    return e != OK ? e : buf_err(&q->out);
}

/* --- on the worker ---------------------------------------------------------------------------------------------- */

static void query_free(struct query *q)
{
    buf_done(&q->out);
    arena_done(&q->arena);
    free(q);
}

static void query_home(struct msg *m)
{
    AUTO(buf_done) struct buf token = BUF_INIT(1024);
    struct query *q = CONTAINER_OF(CONTAINER_OF(m, struct store_scan, msg), struct query, scan);
    struct http_rq *rq = http_rq_of(worker_loop(q->dw->w), q->rq);
    enum err e = q->scan.result;
    q->dw->n_pending--;
    if (rq != NULL && e != OK) {
        dps_refuse_about(rq, ABOUT_GROUP, e == E_TIMEOUT ? E_BUSY : e, NULL);
    } else if (rq != NULL) {
        http_header(rq, "x-ms-item-type", span_str(item_types[q->of]));
        http_headerf(rq, "x-ms-max-item-count", "%llu", (unsigned long long)q->limit);
        http_header(rq, "X-Content-Type-Options", SPAN_LIT("nosniff"));
        if (q->has_more) {
            token_write(q, &token);
            http_header(rq, "x-ms-continuation", buf_span(&token));
        }
        dps_answer_json(rq, 200, buf_span(&q->out));
    }
    query_free(q);
}

static enum err query_begin(struct http_rq *rq, struct query *q, struct err_info *info)
{
    struct span fold;
    enum err e = OK;
    if (q->of == OF_REGISTRATIONS) {
        e = enrollment_fold(http_rq_arena(rq), http_rq_param(rq, 0), &fold, info);
        if (e == OK) {
            (void)span_to_cstr(fold, q->group, sizeof(q->group)); /* an id fits */
        }
    }
    if (e != OK || (e = read_text(rq, q, info)) != OK || (e = read_page(rq, q, info)) != OK) {
        return e;
    }
    q->scan.home = loop_mailbox(worker_loop(q->dw->w));
    q->scan.msg.run = query_home;
    q->scan.run = query_run;
    q->scan.deadline_ms = clock_mono_ms(server_clock(q->dw->dps->server)) + QUERY_DEADLINE_MS;
    e = store_scan(server_store(q->dw->dps->server), &q->scan);
    q->dw->n_pending += e == OK;
    return e;
}

static void handle_query(struct http_rq *rq, enum query_of of)
{
    struct err_info info = {0};
    struct query *q = NEW(struct query);
    enum err e = E_NOMEM;
    if (q != NULL) {
        q->dw = dps_worker_of(worker_of_rq(rq));
        q->rq = http_rq_handle(rq);
        q->of = of;
        q->out = (struct buf)BUF_INIT(2 * PAGE_BYTES);
        q->arena = (struct arena)ARENA_INIT(QUERY_ARENA);
        e = query_begin(rq, q, &info);
    }
    if (e == OK) {
        return;
    }
    if (e == E_STALE) {
        dps_refuse_code(rq, 400, 400000, "Bad Request");
    } else {
        dps_refuse_about(rq, ABOUT_GROUP, e, &info);
    }
    if (q != NULL) {
        query_free(q);
    }
}

static void query_enrollments(struct http_rq *rq)
{
    handle_query(rq, OF_ENROLLMENTS);
}

static void query_groups(struct http_rq *rq)
{
    handle_query(rq, OF_GROUPS);
}

static void query_registrations(struct http_rq *rq)
{
    handle_query(rq, OF_REGISTRATIONS);
}

/* clang-format off */
const struct http_route dps_query_routes[] = {
    { HTTP_POST, "/enrollments/query",        AUTH_SERVICE, R_ENROLLMENT_READ,   LIMIT_DPS_BODY, query_enrollments },
    { HTTP_POST, "/enrollmentGroups/query",   AUTH_SERVICE, R_ENROLLMENT_READ,   LIMIT_DPS_BODY, query_groups },
    { HTTP_POST, "/registrations/{id}/query", AUTH_SERVICE, R_REGISTRATION_READ, LIMIT_DPS_BODY, query_registrations },
};
/* clang-format on */
const size_t n_dps_query_routes = ARRAY_LEN(dps_query_routes);
