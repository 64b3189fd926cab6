/* SPDX-License-Identifier: Apache-2.0 */
/* /admin/refusals: what devices were refused, why, and the way to mend it. docs/protocol/dps-service-rest.md C7. */
#include <stdlib.h>

#include "base/text.h"
#include "dps/admission.h"
#include "dps/http.h"
#include "dps/refusal.h"
#include "dps/registration.h"
#include "dps/snapshot.h"
#include "server/admin.h"

#define ONE_MAX (4u << 10)  /* JSON of one refusal, more or less */
#define PAGE_MAX (8u << 20) /* of a list: LIMIT_QUERY_PAGE of them */
#define LIST_DEADLINE_MS 10000u

/* --- one refusal as JSON ----------------------------------------------------------------------------- */

static void add_member(struct buf *b, const char *name, struct span v)
{
    if (v.n != 0) {
        buf_addf(b, ",\"%s\":", name);
        json_write_str(b, v);
    }
}

static void add_time(struct buf *b, const char *name, int64_t us)
{
    char iso[TIME_ISO_SIZE];
    time_iso7(us, iso);
    buf_addf(b, ",\"%s\":\"%s\"", name, iso);
}

/* A placeholder's value: {id}, {scope}, or a fact; "?" when it is none. */
static struct span value_of(struct span rid, const struct json *facts, const char *scope,
                            struct span name)
{
    char text[32];
    if (span_is(name, "id")) {
        return rid;
    }
    if (span_is(name, "scope")) {
        return span_str(scope);
    }
    struct span v =
        span_to_cstr(name, text, sizeof(text)) ? json_str(json_get(facts, text)) : SPAN_NONE;
    return v.p != NULL ? v : SPAN_LIT("?");
}

void http_add_mend(struct buf *b, enum rule r, struct span rid, struct span facts_text,
                   const char *scope)
{
    AUTO(json_free_p) struct json *facts = NULL;
    AUTO(buf_done) struct buf text = BUF_INIT(ONE_MAX);
    struct span rest = span_str(rule_def(r)->mend);
    buf_addf(&text, "{%.*s}", SPAN_ARG(facts_text));
    if (json_read_object(buf_span(&text), ONE_MAX, &facts, NULL) != OK) {
        facts = NULL; /* "?" stands for each */
    }
    while (rest.n != 0) {
        buf_add(b, span_cut(&rest, '{'));
        if (rest.n != 0) {
            buf_add(b, value_of(rid, facts, scope, span_cut(&rest, '}')));
        }
    }
}

static void add_refusal(struct buf *b, const struct refusal_row *row, const char *scope)
{
    enum rule r = rule_of_word(row->rule);
    buf_add_str(b, "{\"registrationId\":");
    json_write_str(b, row->rid);
    add_member(b, "rule", row->rule);
    buf_addf(b, ",\"count\":%lld,\"isEnrolled\":%s", (long long)row->count,
             row->is_known ? "true" : "false");
    add_time(b, "firstSeenUtc", row->first_us);
    add_time(b, "lastSeenUtc", row->last_us);
    add_member(b, "peer", row->peer);
    add_member(b, "transport", row->transport);
    add_member(b, "apiVersion", row->api_version);
    add_member(b, "why", row->why);
    if (r != RULE_OK) {
        AUTO(buf_done) struct buf mend = BUF_INIT(ONE_MAX);
        http_add_mend(&mend, r, row->rid, row->facts, scope);
        add_member(b, "check", span_str(rule_def(r)->check));
        add_member(b, "mend", buf_span(&mend));
    }
    buf_addf(b, ",\"facts\":{%.*s}}", SPAN_ARG(row->facts));
}

/* --- the list ------------------------------------------------------------------------------------------ */

struct list_rq {
    struct store_scan scan;
    struct dps_worker *dw;
    handle rq;
    struct admin_page page;
    char rule[32];
    int known;
    struct buf out;
    size_t n;
};

static enum err list_row(void *arg, const struct refusal_row *row)
{
    struct list_rq *l = arg;
    if (l->n++ != 0) {
        buf_add_u8(&l->out, ',');
    }
    add_refusal(&l->out, row, l->dw->dps->id_scope);
    return buf_err(&l->out);
}

static enum err list_run(struct db *db, struct store_scan *scan)
{
    struct list_rq *l = CONTAINER_OF(scan, struct list_rq, scan);
    l->n = 0;
    buf_reset(&l->out);
    buf_add_str(&l->out, "{\"value\":[");
    enum err e =
        sql_refusal_page(db, span_str(l->rule), l->known, l->page.skip, l->page.top, list_row, l);
    buf_add_str(&l->out, "],\"nextLink\":null}");
    return e != OK ? e : buf_err(&l->out);
}

static void list_free(struct list_rq *l)
{
    buf_done(&l->out);
    free(l);
}

static void list_home(struct msg *m)
{
    struct list_rq *l = CONTAINER_OF(CONTAINER_OF(m, struct store_scan, msg), struct list_rq, scan);
    struct http_rq *rq = http_rq_of(worker_loop(l->dw->w), l->rq);
    enum err e = l->scan.result;
    l->dw->n_pending--;
    if (rq != NULL && e != OK) {
        admin_refuse(rq, e == E_TIMEOUT ? E_BUSY : e, NULL);
    } else if (rq != NULL) {
        admin_answer_json(rq, 200, 0, NULL, buf_span(&l->out));
    }
    list_free(l);
}

static enum err read_filter(struct http_rq *rq, struct list_rq *l, struct err_info *info)
{
    bool found;
    struct span rule = http_rq_query(rq, "rule", &found);
    if (rule.n != 0 &&
        (rule_of_word(rule) == RULE_OK || !span_to_cstr(rule, l->rule, sizeof(l->rule)))) {
        return err_set(info, E_ARG, "rule: there is none of that name");
    }
    struct span known = http_rq_query(rq, "isEnrolled", &found);
    l->known = known.n == 0 ? -1 : span_is(known, "true") ? 1 : 0;
    return l->known == 0 && !span_is(known, "false")
               ? err_set(info, E_ARG, "isEnrolled is true or false")
               : OK;
}

static void refusal_list(struct http_rq *rq)
{
    struct err_info info = {0};
    struct admin_page page;
    if (!admin_page_read(rq, &page)) {
        return;
    }
    struct list_rq *l = NEW(struct list_rq);
    if (l == NULL) {
        admin_refuse(rq, E_NOMEM, NULL);
        return;
    }
    l->dw = dps_worker_of(worker_of_rq(rq));
    l->rq = http_rq_handle(rq);
    l->page = page;
    l->out = (struct buf)BUF_INIT(PAGE_MAX);
    l->scan.home = loop_mailbox(worker_loop(l->dw->w));
    l->scan.msg.run = list_home;
    l->scan.run = list_run;
    l->scan.deadline_ms = clock_mono_ms(server_clock(l->dw->dps->server)) + LIST_DEADLINE_MS;
    enum err e = read_filter(rq, l, &info);
    if (e != OK || (e = store_scan(server_store(l->dw->dps->server), &l->scan)) != OK) {
        admin_refuse(rq, e, &info);
        list_free(l);
        return;
    }
    l->dw->n_pending++;
}

/* --- one device: its refusals beside what is stored of it ------------------------------------------------ */

struct device {
    struct buf *b;
    const char *scope;
    size_t n;
};

static enum err device_row(void *arg, const struct refusal_row *row)
{
    struct device *d = arg;
    if (d->n++ != 0) {
        buf_add_u8(d->b, ',');
    }
    add_refusal(d->b, row, d->scope);
    return buf_err(d->b);
}

void http_add_enrollment(struct buf *b, const struct enr_row *e)
{
    buf_addf(b, "{\"kind\":\"%s\",\"id\":", e->kind == ENR_GROUP ? "group" : "individual");
    json_write_str(b, e->name);
    buf_addf(b, ",\"provisioningStatus\":\"%s\",\"attestation\":\"%s\"}",
             e->is_enabled ? "enabled" : "disabled", enrollment_att_word(e->att));
}

enum err http_device_state_read(struct dps_worker *dw, struct arena *a, struct span fold,
                                struct http_device_state *ret)
{
    struct http_device_state st = {.has_own = false};
    struct snapshot *s = NULL;
    enum err e = snapshot_get(dw, &s, NULL);
    if (e != OK) {
        return e;
    }
    e = sql_enr_get(worker_db(dw->w), a, ENR_INDIVIDUAL, fold, &st.own);
    st.has_own = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    e = sql_reg_get(worker_db(dw->w), a, fold, &st.reg);
    st.has_record = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    st.group = st.has_record && !st.has_own ? snapshot_group(s, st.reg.enrollment) : NULL;
    st.is_linked = st.has_record && st.reg.hub.n != 0 && snapshot_hub(s, st.reg.hub) != NULL;
    *ret = st;
    return OK;
}

/* The enrollment that decides about this id: its own, else the group of its record; null: not known before it shows a credential. */
void http_device_state_add(struct buf *b, const struct http_device_state *st)
{
    buf_add_str(b, ",\"enrollment\":");
    if (st->has_own || st->group != NULL) {
        http_add_enrollment(b, st->has_own ? &st->own : &st->group->row);
    } else {
        buf_add_str(b, "null");
    }
    buf_add_str(b, ",\"registration\":");
    if (st->has_record) {
        registration_write_state(b, &st->reg, NULL);
    } else {
        buf_add_str(b, "null");
    }
    buf_add_str(b, ",\"hub\":");
    if (st->has_record && st->reg.hub.n != 0) {
        buf_add_str(b, "{\"name\":");
        json_write_str(b, st->reg.hub);
        buf_addf(b, ",\"isLinked\":%s}", st->is_linked ? "true" : "false");
    } else {
        buf_add_str(b, "null");
    }
}

bool http_any_id(struct span rid, char fold_text[LIMIT_ID + 1], struct span *ret_fold,
                 struct err_info *info)
{
    if (!id_registration_ok(rid) && !span_is(rid, REFUSAL_NO_ID)) {
        (void)err_set(info, E_ARG, "registrationId is not valid");
        return false;
    }
    *ret_fold = admission_fold(rid, fold_text);
    return true;
}

static void refusal_get(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(RULES * 4u * ONE_MAX);
    struct dps_worker *dw = dps_worker_of(worker_of_rq(rq));
    struct err_info info = {0};
    struct http_device_state st;
    struct span fold, rid = http_rq_param(rq, 0);
    char fold_text[LIMIT_ID + 1];
    struct device d = {&b, dw->dps->id_scope, 0};
    if (!http_any_id(rid, fold_text, &fold, &info)) {
        admin_refuse(rq, E_ARG, &info);
        return;
    }
    enum err e = http_device_state_read(dw, http_rq_arena(rq), fold, &st);
    if (e == OK) {
        buf_add_str(&b, "{\"registrationId\":");
        json_write_str(&b, rid);
        http_device_state_add(&b, &st);
        buf_add_str(&b, ",\"refusals\":[");
        e = sql_refusal_of(worker_db(dw->w), fold, device_row, &d);
        buf_add_str(&b, "]}");
    }
    if (e == OK && d.n == 0 && !st.has_own && !st.has_record) {
        e = err_set(&info, E_NOT_FOUND, "no enrollment, no record and no refusal of this id");
    }
    if (e != OK || (e = buf_err(&b)) != OK) {
        admin_refuse(rq, e, &info);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
}

/* clang-format off */
const struct http_route dps_refusal_routes[] = {
    { HTTP_GET,  "/admin/refusals",      AUTH_ADMIN, 0, 0, refusal_list },
    { HTTP_GET,  "/admin/refusals/{id}", AUTH_ADMIN, 0, 0, refusal_get },
};
/* clang-format on */
const size_t n_dps_refusal_routes = ARRAY_LEN(dps_refusal_routes);
