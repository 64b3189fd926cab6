/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: both halves of one rule, the worker's and the writer's, are read together. */
#include "dps/registration.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/assignment.h"
#include "dps/driver.h"
#include "server/admin.h"
#include "wire/json.h"

#define OP_ARENA (32u << 10)
#define JSON_MAX (16u << 10)

struct start_op {
    struct store_op op;
    struct dps_worker *dw;
    registration_done_fn done;
    void *ctx;
    struct arena arena; /* what came with the request */
    struct span rid, fold;
    int64_t enrollment;
    uint64_t enr_etag;
    struct span group_id; /* empty: individual */
    struct span enr_device_id;
    enum enr_att att;
    unsigned reprovision;
    bool is_sticky, is_disabled;
    struct span pick_host;
    enum rule fail_rule;
    struct span fail_text;
    struct span cred;
    char op_id[OPERATION_ID_SIZE];
    struct err_info info;
    /* result */
    struct arena out; /* of the tx, which may run twice */
    struct reg_row row;
    enum rule rule;  /* of a registration that failed at once */
    bool is_running; /* an operation was under way already */
};

/* --- etags ------------------------------------------------------------------------------------- */

void dps_etag_text(uint64_t etag, char dst[DPS_ETAG_SIZE])
{
    char plain[40];
    AUTO(buf_done) struct buf b = BUF_INIT(DPS_ETAG_SIZE);
    int n = snprintf(plain, sizeof(plain), "\"%08x-0000-0100-0000-%08x0000\"",
                     (unsigned)(etag >> 32), (unsigned)(etag & UINT32_MAX));
    base64_add(&b, span_of(plain, (size_t)n));
    if (buf_err(&b) != OK || !span_to_cstr(buf_span(&b), dst, DPS_ETAG_SIZE)) {
        dst[0] = '\0'; /* no memory: an etag that matches nothing */
    }
}

static bool read_hex(struct span s, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *ret = v;
    return true;
}

uint64_t dps_etag_read(struct span text)
{
    uint8_t raw[DPS_ETAG_SIZE];
    char again[DPS_ETAG_SIZE];
    size_t n = sizeof(raw);
    uint64_t high, low;
    if (base64_decode_to(text, raw, &n) != OK || n != 38 || !read_hex(span_of(raw + 1, 8), &high) ||
        !read_hex(span_of(raw + 25, 8), &low)) {
        return 0;
    }
    uint64_t v = high << 32 | low;
    dps_etag_text(v, again);
    return span_is(text, again) ? v : 0;
}

/* --- what is told -------------------------------------------------------------------------------- */

const char *const reg_status_words[REG_STATUSES] = {
    [REG_UNASSIGNED] = "unassigned", [REG_ASSIGNING] = "assigning", [REG_ASSIGNED] = "assigned",
    [REG_FAILED] = "failed",         [REG_DISABLED] = "disabled",
};
static const char *const substatus_words[REG_SUBSTATUSES] = {
    [SUB_NONE] = "",
    [SUB_INITIAL] = "initialAssignment",
    [SUB_MIGRATED] = "deviceDataMigrated",
    [SUB_RESET] = "deviceDataReset",
    [SUB_BACK] = "reprovisionedToInitialAssignment",
};

static void add_str(struct buf *b, const char *name, struct span v)
{
    buf_addf(b, ",\"%s\":", name);
    json_write_str(b, v);
}

static void add_time(struct buf *b, const char *name, int64_t us)
{
    char iso[TIME_ISO_SIZE];
    time_iso7(us, iso);
    buf_addf(b, ",\"%s\":\"%s\"", name, iso);
}

void registration_write_state(struct buf *b, const struct reg_row *row)
{
    char etag[DPS_ETAG_SIZE];
    dps_etag_text(row->etag, etag);
    buf_addf(b, "{\"%s\":{", row->att == ATT_SYMMETRIC ? "symmetricKey" : "x509");
    if (row->group_id.n != 0) {
        buf_add_str(b, "\"enrollmentGroupId\":");
        json_write_str(b, row->group_id);
    }
    buf_add_u8(b, '}');
    add_str(b, "registrationId", row->rid);
    add_time(b, "createdDateTimeUtc", row->created_us);
    if (row->status == REG_ASSIGNED) {
        add_str(b, "assignedHub", row->hub);
        add_str(b, "deviceId", row->device_id);
    }
    buf_addf(b, ",\"status\":\"%s\"", reg_status_words[row->status]);
    if (row->status == REG_ASSIGNED && row->substatus != SUB_NONE) {
        buf_addf(b, ",\"substatus\":\"%s\"", substatus_words[row->substatus]);
    }
    if (row->status == REG_FAILED) {
        buf_addf(b, ",\"errorCode\":%u", row->error_code);
        add_str(b, "errorMessage", row->error_text);
    }
    add_time(b, "lastUpdatedDateTimeUtc", row->updated_us);
    buf_addf(b, ",\"etag\":\"%s\"}", etag);
}

void registration_write_assigning(struct buf *b, struct span op_id)
{
    buf_addf(b, "{\"operationId\":\"%.*s\",\"status\":\"assigning\"}", SPAN_ARG(op_id));
}

static void write_answer(struct buf *b, const struct reg_row *row)
{
    buf_addf(b, "{\"operationId\":\"%.*s\",\"status\":\"%s\",\"registrationState\":",
             SPAN_ARG(row->op_id), reg_status_words[row->status]);
    if (row->status == REG_ASSIGNING) {
        buf_add_str(b, "{\"registrationId\":");
        json_write_str(b, row->rid);
        buf_add_str(b, ",\"status\":\"assigning\"}");
    } else {
        registration_write_state(b, row);
    }
    buf_add_u8(b, '}');
}

enum err registration_poll(struct dps_worker *dw, struct arena *a, struct span fold,
                           struct span op_id, bool is_enabled, struct buf *b, bool *ret_final)
{
    struct reg_row row;
    struct span body = SPAN_NONE;
    enum err e = sql_reg_get(worker_db(dw->w), a, fold, &row);
    if (e == OK && span_eq(row.op_id, op_id)) {
        row.status = is_enabled ? row.status : REG_DISABLED;
        write_answer(b, &row);
        *ret_final = row.status != REG_ASSIGNING;
        return buf_err(b);
    }
    if (e != OK) {
        return e; /* with its record an operation is forgotten */
    }
    if ((e = sql_past_get(worker_db(dw->w), a, op_id, fold, &body)) != OK) {
        return e;
    }
    if (is_enabled) {
        buf_add(b, body);
    } else {
        row.op_id = op_id;
        row.status = REG_DISABLED;
        write_answer(b, &row);
    }
    *ret_final = true;
    return buf_err(b);
}

enum rule registration_poll_refused(enum err e, struct verdict *v)
{
    if (e == E_NOT_FOUND) {
        return verdict_refuse(v, RULE_OPERATION, "the operation is not known");
    }
    return verdict_fail(v, e);
}

/* --- what is asked ------------------------------------------------------------------------------- */

bool registration_is_sticky(struct span api_version)
{
    return api_version.n >= 10 &&
           span_cmp(span_sub(api_version, 0, 10), SPAN_LIT("2018-04-01")) <= 0;
}

static enum rule body_refused(struct verdict *v, enum err e)
{
    if (err_class(e) == ERR_T_LOCAL) {
        return verdict_fail(v, e);
    }
    verdict_fact(v, "detail", span_str(err_why(&v->info, e)));
    (void)verdict_refuse(v, RULE_BODY_JSON, NULL);
    v->err = e; /* the device is told which */
    return v->rule;
}

enum rule registration_body_read(struct span body, struct span rid, struct registration_body *ret,
                                 struct verdict *v)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct registration_body r = {.has_tpm = false};
    struct span id = SPAN_NONE;
    enum err e;
    /* One SDK sends nothing, or blanks, when it has no payload. */
    if (span_trim(body).n == 0) {
        *ret = r;
        return RULE_OK;
    }
    if ((e = json_read_object(body, LIMIT_DPS_BODY, &j, &v->info)) != OK ||
        (e = json_get_str(j, "registrationId", JSON_F_OPT, &id, &v->info)) != OK) {
        return body_refused(v, e);
    }
    verdict_keep(v, RULE_BODY_JSON);
    if (id.n != 0 && !span_eq_nocase(id, rid)) {
        verdict_fact(v, "presented", id);
        return verdict_refuse(v, RULE_BODY_ID,
                              "registrationId of the body is not that of the request");
    }
    verdict_keep(v, RULE_BODY_ID);
    const struct json *csr = json_get(j, "csr"), *old = json_get(j, "clientCertificateCsr"),
                      *tpm = json_get(j, "tpm");
    r.wants_certificate =
        (csr != NULL && !json_is(csr, JSON_T_NULL)) || (old != NULL && !json_is(old, JSON_T_NULL));
    r.has_tpm = tpm != NULL && !json_is(tpm, JSON_T_NULL);
    *ret = r;
    return RULE_OK;
}

/* --- start: on the writer --------------------------------------------------------------------------- */

static enum err keep_old_answer(struct store_tx *tx, const struct reg_row *old)
{
    AUTO(buf_done) struct buf b = BUF_INIT(JSON_MAX);
    enum err e;
    write_answer(&b, old);
    if ((e = buf_err(&b)) != OK ||
        (e = sql_past_add(tx->db, old->op_id, old->fold, buf_span(&b),
                          tx->now_us + (int64_t)PAST_OPERATION_S * 1000000)) != OK) {
        return e;
    }
    return sql_past_trim(tx->db, tx->now_us);
}

static void fail(struct reg_row *row, enum rule rule, struct span text)
{
    row->status = REG_FAILED;
    row->error_code = rule_code(rule);
    row->error_text = text;
}

static enum err is_linked(struct store_tx *tx, struct start_op *o, struct span host, bool *ret)
{
    struct hub_row hub;
    char *fold = arena_str(&o->out, host);
    if (fold == NULL) {
        return E_NOMEM;
    }
    text_lower(fold, host.n);
    enum err e = sql_hub_get(tx->db, &o->out, span_of(fold, host.n), &hub);
    *ret = e == OK;
    return e == E_NOT_FOUND ? OK : e;
}

static bool may_move(const struct start_op *o)
{
    if ((o->reprovision & REPRO_GIVEN) == 0) {
        return !o->is_sticky;
    }
    return (o->reprovision & REPRO_UPDATE_HUB) != 0;
}

static bool wants_reset(const struct start_op *o)
{
    const unsigned given = REPRO_GIVEN | REPRO_UPDATE_HUB;
    return (o->reprovision & (given | REPRO_MIGRATE)) == given;
}

/* Where the device goes: the row's intent, or its failure. */
static enum err decide(struct store_tx *tx, struct start_op *o, struct reg_row *row)
{
    bool stays = false;
    enum err e = row->hub.n != 0 ? is_linked(tx, o, row->hub, &stays) : OK;
    if (e != OK) {
        return e;
    }
    if (o->is_disabled) {
        row->status = REG_DISABLED;
        return OK;
    }
    if (o->fail_rule != RULE_OK &&
        !(stays && o->pick_host.n == 0 && rule_code(o->fail_rule) == 400208)) {
        o->rule = o->fail_rule;
        fail(row, o->rule, o->fail_text);
        return OK;
    }
    if (row->hub.n != 0 && !stays && !may_move(o)) {
        o->rule = RULE_HUB_UNLINKED;
        fail(row, o->rule,
             SPAN_LIT(
                 "the assigned hub is no longer linked, and the enrollment forbids another one"));
        return OK;
    }
    row->status = REG_ASSIGNING;
    row->op_open = true;
    row->op_hub = stays ? row->hub : o->pick_host;
    row->op_device_id = row->device_id.n != 0     ? row->device_id
                        : o->enr_device_id.n != 0 ? o->enr_device_id
                                                  : row->rid;
    row->op_cred = o->cred;
    row->op_reset = stays && wants_reset(o);
    row->op_substatus = stays ? row->substatus : row->hub.n != 0 ? SUB_RESET : SUB_INITIAL;
    if (row->op_substatus == SUB_NONE) {
        row->op_substatus = SUB_INITIAL;
    }
    return OK;
}

/* E_OWNED: a record stays with its group until an administrator frees it; an individual enrollment may adopt. */
static enum err take_record(struct start_op *o, struct reg_row *row)
{
    if (row->enrollment == o->enrollment) {
        return OK;
    }
    if (o->group_id.n != 0) {
        return err_set(&o->info, E_OWNED, "the registration belongs to another enrollment");
    }
    row->device_id = SPAN_NONE; /* the enrollment's own name for it */
    return OK;
}

static enum err start_tx(struct store_tx *tx, struct store_op *op)
{
    struct start_op *o = CONTAINER_OF(op, struct start_op, op);
    struct reg_row row = {.fold = o->fold, .rid = o->rid, .created_us = tx->now_us};
    uint64_t etag;
    bool enabled;
    arena_done(&o->out);
    o->out = (struct arena)ARENA_INIT(OP_ARENA);
    o->is_running = false;
    o->rule = RULE_OK;
    enum err e = sql_enr_state(tx->db, o->enrollment, &etag, &enabled);
    if (e == E_NOT_FOUND || (e == OK && etag != o->enr_etag)) {
        return err_set(&o->info, E_STALE, "the enrollment changed meanwhile");
    }
    if (e != OK) {
        return e;
    }
    e = sql_reg_get(tx->db, &o->out, o->fold, &row);
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    if (e == OK) {
        if ((e = take_record(o, &row)) != OK) {
            return e;
        }
        if (row.op_open && row.enrollment == o->enrollment) {
            o->is_running = true;
            o->row = row;
            return OK;
        }
        if (!row.op_open && (e = keep_old_answer(tx, &row)) != OK) {
            return e;
        }
    }
    row.enrollment = o->enrollment;
    row.group_id = o->group_id;
    row.att = o->att;
    row.updated_us = tx->now_us;
    row.op_id = span_str(o->op_id);
    row.op_open = false;
    row.op_hub = row.op_device_id = row.op_cred = SPAN_NONE;
    row.op_reset = false;
    row.error_code = 0;
    row.error_text = SPAN_NONE;
    if ((e = decide(tx, o, &row)) != OK || (e = admin_tx_next(tx, &row.etag)) != OK ||
        (e = sql_reg_put(tx->db, &row)) != OK) {
        return e;
    }
    o->row = row;
    return OK;
}

/* --- start: on the worker ------------------------------------------------------------------------------ */

static void start_free(struct start_op *o)
{
    arena_done(&o->arena);
    arena_done(&o->out);
    free(o);
}

static void log_started(const struct start_op *o)
{
    const struct reg_row *r = &o->row;
    if (r->status == REG_FAILED) {
        LOG_WARN("dps.registration_failed", L_SPAN("registration", r->rid),
                 L_SPAN("operation", r->op_id), L_U64("code", r->error_code),
                 L_STR("rule", rule_def(o->rule)->word), L_SPAN("why", r->error_text));
    } else if (r->status == REG_DISABLED) {
        LOG_INFO("dps.registration_disabled", L_SPAN("registration", r->rid),
                 L_SPAN("operation", r->op_id),
                 L_STR("rule", rule_def(RULE_ENROLLMENT_DISABLED)->word));
    } else {
        LOG_DEBUG("dps.registration_started", L_SPAN("registration", r->rid),
                  L_SPAN("operation", r->op_id), L_SPAN("hub", r->op_hub),
                  L_BOOL("running", o->is_running));
    }
}

static void start_home(struct msg *m)
{
    struct start_op *o = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct start_op, op);
    struct dps_worker *dw = o->dw;
    enum err e = o->op.result;
    dw->n_pending--;
    if (e == OK) {
        log_started(o);
        if (o->row.op_open && !o->is_running) {
            driver_post(dw, &o->row);
        }
    }
    o->done(dw, o->ctx, e, e == OK ? o->row.op_id : SPAN_NONE, &o->info);
    start_free(o);
}

/* "{digit}.{16 hex}.{guid}": only characters that are safe in a URL path and an MQTT topic. */
static void new_operation_id(char dst[OPERATION_ID_SIZE])
{
    uint8_t r[8];
    char hex[17], guid[GUID_SIZE];
    random_bytes(r, sizeof(r));
    hex_to_cstr(span_of(r, sizeof(r)), false, hex);
    guid_new(guid);
    (void)snprintf(dst, OPERATION_ID_SIZE, "5.%s.%s", hex, guid);
}

static bool keep(struct start_op *o, struct span from, struct span *to)
{
    if (from.n == 0) {
        return true;
    }
    *to = arena_span(&o->arena, from);
    return to->p != NULL;
}

static enum err start_fill(struct start_op *o, const struct registration_wish *wish,
                           const struct pick *pick)
{
    const struct enr_row *enr = &wish->who->enr;
    const char *text = wish->wants_certificate
                           ? "certificate issuance is not offered by this version"
                           : pick->text;
    o->enrollment = enr->id;
    o->enr_etag = enr->etag;
    o->att = enr->att;
    o->reprovision = enr->reprovision;
    o->is_sticky = wish->is_sticky;
    o->is_disabled = !enr->is_enabled;
    o->fail_rule = wish->wants_certificate ? RULE_CERTIFICATE_ISSUANCE : pick->rule;
    new_operation_id(o->op_id);
    struct span cred =
        wish->who->has_thumb ? span_of(wish->who->thumb, CERT_SHA256) : wish->who->key_id;
    if (!keep(o, wish->rid, &o->rid) || !keep(o, wish->fold, &o->fold) ||
        !keep(o, pick->host, &o->pick_host) || !keep(o, span_str(text), &o->fail_text) ||
        !keep(o, cred, &o->cred) ||
        (enr->kind == ENR_GROUP ? !keep(o, enr->name, &o->group_id)
                                : !keep(o, enr->device_id, &o->enr_device_id))) {
        return E_NOMEM;
    }
    return OK;
}

enum err registration_begin(struct dps_worker *dw, const struct registration_wish *wish,
                            registration_done_fn done, void *ctx, struct err_info *info)
{
    struct snapshot *s = NULL;
    struct start_op *o = NULL;
    enum err e = snapshot_get(dw, &s, info);
    if (e != OK) {
        return e;
    }
    if ((o = NEW(struct start_op)) == NULL) {
        return E_NOMEM;
    }
    o->arena = (struct arena)ARENA_INIT(OP_ARENA);
    o->out = (struct arena)ARENA_INIT(OP_ARENA);
    o->dw = dw;
    o->done = done;
    o->ctx = ctx;
    struct pick pick = assignment_pick(s, &wish->who->enr, wish->fold);
    o->op.tx = start_tx;
    o->op.home = loop_mailbox(worker_loop(dw->w));
    o->op.msg.run = start_home;
    o->op.bytes = sizeof(*o);
    if ((e = start_fill(o, wish, &pick)) != OK ||
        (e = store_submit(server_store(dw->dps->server), &o->op)) != OK) {
        start_free(o);
        return err_set(info, e, "the registration cannot be stored: %s", err_text(e));
    }
    dw->n_pending++;
    return OK;
}

enum rule registration_refused(enum err e, const struct err_info *info, struct verdict *v)
{
    if (info != NULL && info != &v->info) {
        v->info = *info;
    }
    switch (e) {
    case OK:
        return RULE_OK;
    case E_STALE:
        return verdict_refuse(v, RULE_ENROLLMENT_CHANGED, NULL);
    case E_OWNED:
        return verdict_refuse(v, RULE_RECORD_OWNED, NULL);
    default:
        return verdict_fail(v, e); /* the store's: docs at the head of registration.h */
    }
}

/* --- end: on the writer ------------------------------------------------------------------------------------ */

enum err registration_tx_finish(struct store_tx *tx, struct span fold, struct span op_id,
                                const struct reg_outcome *out)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(OP_ARENA);
    struct reg_row row;
    enum err e = sql_reg_get(tx->db, &a, fold, &row);
    if (e == E_NOT_FOUND || (e == OK && (!row.op_open || !span_eq(row.op_id, op_id)))) {
        return OK;
    }
    if (e != OK) {
        return e;
    }
    row.updated_us = tx->now_us;
    if (out->is_assigned) {
        row.status = REG_ASSIGNED;
        row.substatus = row.op_substatus;
        row.hub = row.op_hub;
        row.first_hub = row.first_hub.n != 0 ? row.first_hub : row.op_hub;
        row.device_id = row.op_device_id;
        row.error_code = 0;
        row.error_text = SPAN_NONE;
    } else {
        fail(&row, out->rule, out->text);
    }
    if ((e = admin_tx_next(tx, &row.etag)) != OK) {
        return e;
    }
    return sql_reg_finish(tx->db, &row);
}

enum err registration_tx_delete(struct store_tx *tx, struct span fold, bool has_etag, uint64_t etag)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(OP_ARENA);
    struct reg_row row;
    enum err e = sql_reg_get(tx->db, &a, fold, &row);
    if (e != OK) {
        return e;
    }
    return has_etag && etag != row.etag ? E_ETAG : sql_reg_del(tx->db, fold);
}
