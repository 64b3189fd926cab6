/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: single writes and bulk share one operation; the routes of all stand together. */
/* The service API: enrollments, groups, bulk, registration records. docs/protocol/dps-service-rest.md A1 to A9. */
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/http.h"
#include "dps/registration.h"
#include "server/authn.h"
#include "wire/http.h"

#define ANSWER_MAX (512u << 10)
#define SERVICE_ARENA (512u << 10)

/* --- admission ------------------------------------------------------------------------------------ */

static bool version_ok(struct span v)
{
    static const char *const known[] = {
        "2018-04-01",         "2018-09-01-preview", "2018-11-01", "2019-01-15",
        "2019-03-31",         "2021-06-01",         "2021-10-01", "2021-11-01-preview",
        "2025-07-01-preview", "2026-04-01",
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (span_is(v, known[i])) {
            return true;
        }
    }
    return false;
}

enum err http_service_admit(struct http_rq *rq, struct err_info *info)
{
    struct caller caller;
    bool found;
    struct span v = http_rq_query(rq, "api-version", &found);
    if (!version_ok(v)) {
        return err_set(info, E_VERSION, "api-version \"%.*s\" is not offered",
                       SPAN_ARG(span_sub(v, 0, 32)));
    }
    return authn_service(worker_of_rq(rq), rq, http_rq_route(rq)->right, &caller, info);
}

enum err http_want_json(const struct http_rq *rq, struct err_info *info)
{
    struct span rest = http_rq_header(rq, "Content-Type");
    if (http_rq_body(rq).n == 0 || rest.p == NULL) {
        return OK;
    }
    struct span type = span_trim(span_cut(&rest, ';'));
    return span_is_nocase(type, "application/json")
               ? OK
               : err_set(info, E_MEDIA, "the body must be application/json");
}

enum err http_enr_match(const struct http_rq *rq, struct enr_match *ret, struct err_info *info)
{
    struct http_match m;
    enum err e = http_if_match_read(http_rq_header(rq, "If-Match"), &m, info);
    if (e != OK) {
        return e;
    }
    *ret = (struct enr_match){m.kind == HTTP_MATCH_NONE  ? ENR_MATCH_NONE
                              : m.kind == HTTP_MATCH_ANY ? ENR_MATCH_ANY
                                                         : ENR_MATCH_ETAG,
                              m.kind == HTTP_MATCH_ETAG ? dps_etag_read(m.etag) : 0};
    return OK;
}

/* --- one write ---------------------------------------------------------------------------------------- */

enum act { ACT_PUT, ACT_DELETE, ACT_DELETE_REGISTRATION };
struct bulk;
struct service_op {
    struct store_op op;
    struct dps_worker *dw;
    handle rq;
    enum act act;
    enum enr_kind kind;
    struct enr_input in; /* ACT_PUT; its arena in every case */
    struct span fold;
    struct enr_match match;
    bool may_create;
    struct err_info info;
    struct arena out; /* of the tx, which may run twice */
    struct enr_row row;
    struct bulk *bulk; /* NULL: one of its own */
    size_t index;
};

static struct service_op *op_new(struct dps_worker *dw, handle rq, enum act act, enum enr_kind kind)
{
    struct service_op *o = NEW(struct service_op);
    if (o != NULL) {
        o->dw = dw;
        o->rq = rq;
        o->act = act;
        o->kind = kind;
        o->in.arena = (struct arena)ARENA_INIT(ENR_ARENA);
        o->out = (struct arena)ARENA_INIT(SERVICE_ARENA);
    }
    return o;
}

static void op_free(struct service_op *o)
{
    enrollment_input_done(&o->in);
    arena_done(&o->out);
    free(o);
}

static enum err service_tx(struct store_tx *tx, struct store_op *op)
{
    struct service_op *o = CONTAINER_OF(op, struct service_op, op);
    arena_done(&o->out);
    o->out = (struct arena)ARENA_INIT(SERVICE_ARENA);
    switch (o->act) {
    case ACT_PUT:
        return enrollment_tx_put(tx, o->dw->dps, &o->in, &o->match, o->may_create, &o->out, &o->row,
                                 &o->info);
    case ACT_DELETE:
        return enrollment_tx_delete(tx, o->dw->dps, o->kind, o->fold, &o->match);
    case ACT_DELETE_REGISTRATION:
        break;
    }
    return registration_tx_delete(tx, o->dw->dps, o->fold, o->match.kind == ENR_MATCH_ETAG,
                                  o->match.etag);
}

static enum dps_subject subject_of(const struct service_op *o)
{
    return o->act == ACT_DELETE_REGISTRATION ? ABOUT_REGISTRATION : http_subject(o->kind);
}

/* A buffer that held keys. */
static void wipe_done(struct buf *b)
{
    if (b->p != NULL) {
        mem_wipe(b->p, b->cap);
    }
    buf_done(b);
}

static void answer_enrollment(struct http_rq *rq, const struct service_op *o)
{
    struct buf b = BUF_INIT(ANSWER_MAX);
    /* At once: a growing buffer would leave copies of the keys behind. */
    (void)buf_reserve(&b, o->row.doc.n + (48u << 10));
    enum err e = enrollment_write(&b, &o->row, server_keyring(o->dw->dps->server), NULL);
    if (e == OK) {
        http_header(rq, "Cache-Control", SPAN_LIT("no-store"));
        dps_answer_json(rq, 200, buf_span(&b));
    } else {
        dps_refuse(rq, e, NULL);
    }
    wipe_done(&b);
}

static void log_write(const struct service_op *o)
{
    static const char *const acts[] = {
        [ACT_PUT] = "put", [ACT_DELETE] = "delete", [ACT_DELETE_REGISTRATION] = "free"};
    LOG_INFO("dps.enrollment_changed", L_STR("act", acts[o->act]),
             L_STR("kind", o->kind == ENR_GROUP ? "group" : "individual"), L_SPAN("id", o->fold));
}

static void bulk_home(struct service_op *o, enum err e);

static void service_home(struct msg *m)
{
    struct service_op *o =
        CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct service_op, op);
    struct dps_worker *dw = o->dw;
    enum err e = o->op.result;
    dw->n_pending--;
    if (e == OK) {
        log_write(o);
        if (o->act == ACT_DELETE && o->kind == ENR_GROUP) {
            enrollment_sweep(dw);
        }
    }
    if (o->bulk != NULL) {
        bulk_home(o, e);
        return;
    }
    struct http_rq *rq = http_rq_of(worker_loop(dw->w), o->rq);
    if (rq == NULL) {
        op_free(o);
        return;
    }
    if (e != OK) {
        dps_refuse_about(rq, subject_of(o), e, &o->info);
    } else if (o->act == ACT_PUT) {
        answer_enrollment(rq, o);
    } else {
        dps_answer_none(rq);
    }
    op_free(o);
}

static enum err op_submit(struct service_op *o)
{
    struct dps_worker *dw = o->dw;
    o->op.tx = service_tx;
    o->op.home = loop_mailbox(worker_loop(dw->w));
    o->op.msg.run = service_home;
    o->op.bytes = (uint32_t)(sizeof(*o) + o->in.row.doc.n);
    o->op.urgent = o->act != ACT_PUT || !o->in.row.is_enabled; /* revoking must still work */
    enum err e = store_submit(server_store(dw->dps->server), &o->op);
    dw->n_pending += e == OK;
    return e;
}

/* --- single requests -------------------------------------------------------------------------------------- */

static enum err put_read(struct http_rq *rq, struct service_op *o)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct dps_worker *dw = o->dw;
    enum err e;
    if ((e = http_want_json(rq, &o->info)) != OK ||
        (e = http_enr_match(rq, &o->match, &o->info)) != OK) {
        return e;
    }
    if (!id_registration_ok(http_rq_param(rq, 0))) {
        return err_set(&o->info, E_ID, "the id of the path is not valid");
    }
    if (span_trim(http_rq_body(rq)).n == 0) {
        return err_set(&o->info, E_ARG_NULL, "a body is required");
    }
    if ((e = json_read_object(http_rq_body(rq), LIMIT_DPS_BODY, &body, &o->info)) != OK ||
        (e = enrollment_read(body, o->kind, http_rq_param(rq, 0), &o->in, &o->info)) != OK ||
        (e = enrollment_seal(server_keyring(dw->dps->server), &o->in)) != OK) {
        return e;
    }
    o->fold = o->in.row.fold;
    o->may_create = true;
    return OK;
}

static void handle_put(struct http_rq *rq, enum enr_kind kind)
{
    struct service_op *o =
        op_new(dps_worker_of(worker_of_rq(rq)), http_rq_handle(rq), ACT_PUT, kind);
    enum err e = o != NULL ? put_read(rq, o) : E_NOMEM;
    if (e == OK) {
        e = op_submit(o);
    }
    if (e != OK) {
        dps_refuse_about(rq, http_subject(kind), e, o != NULL ? &o->info : NULL);
        if (o != NULL) {
            op_free(o);
        }
    }
}

static void handle_delete(struct http_rq *rq, enum act act, enum enr_kind kind)
{
    struct service_op *o = op_new(dps_worker_of(worker_of_rq(rq)), http_rq_handle(rq), act, kind);
    enum err e = E_NOMEM;
    enum dps_subject about =
        act == ACT_DELETE_REGISTRATION ? ABOUT_REGISTRATION : http_subject(kind);
    if (o != NULL &&
        (e = enrollment_fold(&o->in.arena, http_rq_param(rq, 0), &o->fold, &o->info)) == OK &&
        (e = http_enr_match(rq, &o->match, &o->info)) == OK) {
        e = op_submit(o);
    }
    if (e != OK) {
        dps_refuse_about(rq, about, e, o != NULL ? &o->info : NULL);
        if (o != NULL) {
            op_free(o);
        }
    }
}

static enum err read_row(struct http_rq *rq, enum enr_kind kind, struct enr_row *ret,
                         struct err_info *info)
{
    struct span fold;
    enum err e = enrollment_fold(http_rq_arena(rq), http_rq_param(rq, 0), &fold, info);
    return e != OK ? e
                   : sql_enr_get(worker_db(worker_of_rq(rq)), http_rq_arena(rq), kind, fold, ret);
}

static void show(struct http_rq *rq, enum enr_kind kind)
{
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    struct err_info info = {0};
    struct enr_row row;
    struct reg_row reg;
    struct reg_more storage;
    struct enr_state state = {.reg = NULL};
    struct db *db = worker_db(worker_of_rq(rq));
    enum err e = read_row(rq, kind, &row, &info), found = E_NOT_FOUND;
    if (e == OK && kind == ENR_INDIVIDUAL) {
        found = sql_reg_get(db, http_rq_arena(rq), row.fold, &reg);
        e = found == OK || found == E_NOT_FOUND ? OK : found;
    }
    if (found == OK) {
        state.reg = &reg;
        e = registration_read_more(db, http_rq_arena(rq), &reg, &storage, &state.more);
    }
    if (e == OK) {
        e = enrollment_write(&b, &row, NULL, kind == ENR_INDIVIDUAL ? &state : NULL);
    }
    if (e != OK) {
        dps_refuse_about(rq, http_subject(kind), e, &info);
        return;
    }
    dps_answer_json(rq, 200, buf_span(&b));
}

static void handle_mechanism(struct http_rq *rq, enum enr_kind kind)
{
    struct buf b = BUF_INIT(ANSWER_MAX);
    struct err_info info = {0};
    struct enr_row row;
    enum err e = read_row(rq, kind, &row, &info);
    (void)buf_reserve(&b, 48u << 10);
    if (e == OK) {
        e = enrollment_write_attestation(&b, &row,
                                         server_keyring(dps_of(worker_of_rq(rq))->server));
    }
    if (e == OK) {
        http_header(rq, "Cache-Control", SPAN_LIT("no-store"));
        dps_answer_json(rq, 200, buf_span(&b));
    } else {
        dps_refuse_about(rq, http_subject(kind), e, &info);
    }
    wipe_done(&b);
}

static void registration_get(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    struct err_info info = {0};
    struct span fold;
    struct reg_row row;
    struct reg_more storage;
    const struct reg_more *more = NULL;
    struct db *db = worker_db(worker_of_rq(rq));
    enum err e = enrollment_fold(http_rq_arena(rq), http_rq_param(rq, 0), &fold, &info);
    if (e == OK && (e = sql_reg_get(db, http_rq_arena(rq), fold, &row)) == OK &&
        (e = registration_read_told(db, http_rq_arena(rq), &row, &storage, &more)) == OK) {
        registration_write_state(&b, &row, more);
        e = buf_err(&b);
    }
    if (e != OK) {
        dps_refuse_about(rq, ABOUT_REGISTRATION, e, &info);
        return;
    }
    dps_answer_json(rq, 200, buf_span(&b));
}

/* --- bulk: A7 ------------------------------------------------------------------------------------------------ */

enum bulk_mode { BULK_CREATE, BULK_UPDATE, BULK_UPDATE_IF_MATCH, BULK_DELETE };
struct bulk_entry {
    struct service_op *op; /* NULL: refused before it was submitted */
    enum err err;
    struct err_info info;
    char id[LIMIT_ID + 1];
};
struct bulk {
    struct dps_worker *dw;
    handle rq;
    enum enr_kind kind;
    enum bulk_mode mode;
    size_t n, left;
    struct bulk_entry entry[LIMIT_DPS_BULK];
};

static void bulk_answer(struct bulk *k)
{
    AUTO(buf_done) struct buf b = BUF_INIT(ANSWER_MAX);
    struct http_rq *rq = http_rq_of(worker_loop(k->dw->w), k->rq);
    bool all_ok = true;
    buf_add_str(&b, "{\"errors\":[");
    for (size_t i = 0; i < k->n; i++) {
        const struct bulk_entry *t = &k->entry[i];
        if (t->err == OK) {
            continue;
        }
        struct dps_code c = dps_code_of(t->err, http_subject(k->kind));
        buf_addf(&b, "%s{\"%s\":", all_ok ? "" : ",", enrollment_id_member(k->kind));
        json_write_str(&b, span_str(t->id));
        buf_addf(&b, ",\"errorCode\":%u,\"errorStatus\":", c.code);
        json_write_str(&b, span_str(c.text != NULL ? c.text : err_why(&t->info, t->err)));
        buf_add_u8(&b, '}');
        all_ok = false;
    }
    buf_addf(&b, "],\"isSuccessful\":%s}", all_ok ? "true" : "false");
    if (rq != NULL && buf_err(&b) == OK) {
        dps_answer_json(rq, 200, buf_span(&b));
    } else if (rq != NULL) {
        dps_refuse(rq, buf_err(&b), NULL);
    }
    free(k);
}

static void bulk_one_done(struct bulk *k)
{
    if (--k->left == 0) {
        bulk_answer(k);
    }
}

static void bulk_home(struct service_op *o, enum err e)
{
    struct bulk *k = o->bulk;
    k->entry[o->index].err = e;
    k->entry[o->index].info = o->info;
    op_free(o);
    bulk_one_done(k);
}

static enum err entry_match(const struct json *entry, enum bulk_mode mode, struct enr_match *ret,
                            struct err_info *info)
{
    struct span etag = SPAN_NONE;
    struct http_match m;
    enum err e = mode == BULK_CREATE ? OK : json_get_str(entry, "etag", JSON_F_OPT, &etag, info);
    if (e != OK || (e = http_if_match_read(etag, &m, info)) != OK) {
        return e;
    }
    if (mode == BULK_UPDATE_IF_MATCH && m.kind == HTTP_MATCH_NONE) {
        return err_set(info, E_ARG, "etag is required with updateIfMatchETag");
    }
    *ret = (struct enr_match){m.kind == HTTP_MATCH_NONE  ? ENR_MATCH_NONE
                              : m.kind == HTTP_MATCH_ANY ? ENR_MATCH_ANY
                                                         : ENR_MATCH_ETAG,
                              m.kind == HTTP_MATCH_ETAG ? dps_etag_read(m.etag) : 0};
    return OK;
}

static enum err entry_read(struct bulk *k, const struct json *entry, struct service_op *o)
{
    struct span id = SPAN_NONE;
    enum err e = entry_match(entry, k->mode, &o->match, &o->info);
    if (e != OK) {
        return e;
    }
    if (k->mode == BULK_DELETE) {
        e = json_get_str(entry, enrollment_id_member(k->kind), JSON_F_NEED, &id, &o->info);
        return e != OK ? e : enrollment_fold(&o->in.arena, id, &o->fold, &o->info);
    }
    if ((e = enrollment_read(entry, k->kind, SPAN_NONE, &o->in, &o->info)) != OK ||
        (e = enrollment_seal(server_keyring(k->dw->dps->server), &o->in)) != OK) {
        return e;
    }
    o->fold = o->in.row.fold;
    o->may_create = k->mode == BULK_CREATE;
    return OK;
}

static void bulk_submit(struct bulk *k, size_t i, const struct json *entry)
{
    struct service_op *o =
        op_new(k->dw, k->rq, k->mode == BULK_DELETE ? ACT_DELETE : ACT_PUT, k->kind);
    struct bulk_entry *t = &k->entry[i];
    enum err e = E_NOMEM;
    if (o != NULL) {
        o->bulk = k;
        o->index = i;
        if ((e = entry_read(k, entry, o)) == OK) {
            e = op_submit(o);
        }
        t->info = o->info;
    }
    if (e != OK) {
        t->err = e;
        if (o != NULL) {
            op_free(o);
        }
        bulk_one_done(k);
    }
}

/* Names that occur twice (also in another case) make the whole request meaningless. */
static bool names_twice(const struct bulk *k)
{
    for (size_t i = 0; i < k->n; i++) {
        for (size_t j = i + 1; j < k->n; j++) {
            if (k->entry[i].id[0] != '\0' &&
                span_is_nocase(span_str(k->entry[i].id), k->entry[j].id)) {
                return true;
            }
        }
    }
    return false;
}

static enum err bulk_read(struct http_rq *rq, struct bulk *k, struct json **ret_body,
                          struct json **ret_list, struct err_info *info)
{
    static const char *const modes[] = {"create", "update", "updateIfMatchETag", "delete"};
    size_t mode = 0;
    enum err e;
    if ((e = http_want_json(rq, info)) != OK) {
        return e;
    }
    if (span_trim(http_rq_body(rq)).n == 0) {
        return err_set(info, E_ARG_NULL, "a body is required");
    }
    if ((e = json_read_object(http_rq_body(rq), LIMIT_DPS_BODY, ret_body, info)) != OK ||
        (e = json_get_word(*ret_body, "mode", JSON_F_NEED, modes, ARRAY_LEN(modes), &mode, info)) !=
            OK) {
        return e;
    }
    k->mode = (enum bulk_mode)mode;
    return json_get_array(*ret_body, k->kind == ENR_GROUP ? "enrollmentGroups" : "enrollments",
                          JSON_F_NEED, ret_list, info);
}

static void handle_bulk(struct http_rq *rq, enum enr_kind kind)
{
    AUTO(json_free_p) struct json *body = NULL;
    AUTO(mem_free_p) struct bulk *k = NEW(struct bulk);
    struct json *list = NULL;
    struct err_info info = {0};
    if (k == NULL) {
        dps_refuse(rq, E_NOMEM, NULL);
        return;
    }
    k->dw = dps_worker_of(worker_of_rq(rq));
    k->rq = http_rq_handle(rq);
    k->kind = kind;
    enum err e = bulk_read(rq, k, &body, &list, &info);
    if (e == OK && json_count(list) == 0) {
        e = err_set(&info, E_ARG, "at least one entry is wanted");
    }
    if (e != OK) {
        dps_refuse(rq, e, &info);
        return;
    }
    if (json_count(list) > LIMIT_DPS_BULK) {
        dps_refuse_code(rq, 400, 400205, "Too many enrollments: at most 10 in one request.");
        return;
    }
    k->n = k->left = json_count(list);
    for (size_t i = 0; i < k->n; i++) {
        struct span id = json_str(json_get(json_at(list, i), enrollment_id_member(kind)));
        (void)span_to_cstr(span_sub(id, 0, LIMIT_ID), k->entry[i].id, sizeof(k->entry[i].id));
    }
    if (names_twice(k)) {
        dps_refuse_code(rq, 400, 400206, "An id is named more than once.");
        return;
    }
    struct bulk *b = TAKE(k); /* the last entry that ends frees it */
    for (size_t i = 0, n = b->n; i < n; i++) {
        bulk_submit(b, i, json_at(list, i));
    }
}

/* --- routes ------------------------------------------------------------------------------------------------------ */

#define BOTH(name, call)                                                                           \
    static void individual_##name(struct http_rq *rq)                                              \
    {                                                                                              \
        call(rq, ENR_INDIVIDUAL);                                                                  \
    }                                                                                              \
    static void group_##name(struct http_rq *rq)                                                   \
    {                                                                                              \
        call(rq, ENR_GROUP);                                                                       \
    }
BOTH(put, handle_put)
BOTH(get, show)
BOTH(mechanism, handle_mechanism)
BOTH(bulk, handle_bulk)

static void individual_delete(struct http_rq *rq)
{
    handle_delete(rq, ACT_DELETE, ENR_INDIVIDUAL);
}

static void group_delete(struct http_rq *rq)
{
    handle_delete(rq, ACT_DELETE, ENR_GROUP);
}

static void registration_delete(struct http_rq *rq)
{
    handle_delete(rq, ACT_DELETE_REGISTRATION, ENR_INDIVIDUAL);
}

#define MECHANISM "/attestationMechanism"
/* clang-format off */
const struct http_route dps_service_routes[] = {
    { HTTP_PUT,    "/enrollments/{id}",                AUTH_SERVICE, R_ENROLLMENT_WRITE,   LIMIT_DPS_BODY, individual_put },
    { HTTP_GET,    "/enrollments/{id}",                AUTH_SERVICE, R_ENROLLMENT_READ,    0,              individual_get },
    { HTTP_DELETE, "/enrollments/{id}",                AUTH_SERVICE, R_ENROLLMENT_WRITE,   0,              individual_delete },
    { HTTP_POST,   "/enrollments",                     AUTH_SERVICE, R_ENROLLMENT_WRITE,   LIMIT_DPS_BODY, individual_bulk },
    { HTTP_POST,   "/enrollments/{id}" MECHANISM,      AUTH_SERVICE, R_ENROLLMENT_WRITE,   LIMIT_DPS_BODY, individual_mechanism },
    { HTTP_PUT,    "/enrollmentGroups/{id}",           AUTH_SERVICE, R_ENROLLMENT_WRITE,   LIMIT_DPS_BODY, group_put },
    { HTTP_GET,    "/enrollmentGroups/{id}",           AUTH_SERVICE, R_ENROLLMENT_READ,    0,              group_get },
    { HTTP_DELETE, "/enrollmentGroups/{id}",           AUTH_SERVICE, R_ENROLLMENT_WRITE,   0,              group_delete },
    { HTTP_POST,   "/enrollmentGroups",                AUTH_SERVICE, R_ENROLLMENT_WRITE,   LIMIT_DPS_BODY, group_bulk },
    { HTTP_POST,   "/enrollmentGroups/{id}" MECHANISM, AUTH_SERVICE, R_ENROLLMENT_WRITE,   LIMIT_DPS_BODY, group_mechanism },
    { HTTP_GET,    "/registrations/{id}",              AUTH_SERVICE, R_REGISTRATION_READ,  0,              registration_get },
    { HTTP_DELETE, "/registrations/{id}",              AUTH_SERVICE, R_REGISTRATION_WRITE, 0,              registration_delete },
};
/* clang-format on */
const size_t n_dps_service_routes = ARRAY_LEN(dps_service_routes);
