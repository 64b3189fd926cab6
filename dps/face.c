/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/dps.h"

#include "base/log.h"
#include "server/face.h"
#include "dps/admission.h"
#include "dps/http.h"
#include "dps/rule.h"
#include "wire/json.h"

/* --- codes: docs/protocol/dps-service-rest.md A3 ----------------------------------------------- */

static const unsigned not_found[DPS_SUBJECTS] = {
    [ABOUT_NOTHING] = 404000,      [ABOUT_ENROLLMENT] = 404201, [ABOUT_GROUP] = 404204,
    [ABOUT_REGISTRATION] = 404202, [ABOUT_OPERATION] = 404203,
};
static const unsigned exists[DPS_SUBJECTS] = {
    [ABOUT_NOTHING] = 409000,      [ABOUT_ENROLLMENT] = 409201, [ABOUT_GROUP] = 409202,
    [ABOUT_REGISTRATION] = 409203, [ABOUT_OPERATION] = 409203,
};
static const unsigned bad_id[DPS_SUBJECTS] = {
    [ABOUT_NOTHING] = 400004,      [ABOUT_ENROLLMENT] = 400202, [ABOUT_GROUP] = 400204,
    [ABOUT_REGISTRATION] = 400202, [ABOUT_OPERATION] = 400202,
};
static const char *const not_found_text[DPS_SUBJECTS] = {
    [ABOUT_ENROLLMENT] = "Enrollment not found.",
    [ABOUT_GROUP] = "Enrollment group not found.",
    [ABOUT_REGISTRATION] = "Registration not found.",
    [ABOUT_OPERATION] = "Operation not found.",
};
static const char *const exists_text[DPS_SUBJECTS] = {
    [ABOUT_ENROLLMENT] = "Enrollment already exists.",
    [ABOUT_GROUP] = "EnrollmentGroup already exists.",
};

static struct dps_code said(unsigned code, const char *text)
{
    return (struct dps_code){code / 1000u, code, text};
}

/* A switch without default: a new enum err does not compile until it is decided here (-Wswitch). */
struct dps_code dps_code_of(enum err e, enum dps_subject about)
{
    switch (e) {
    case E_MALFORMED:
    case E_TRUNCATED:
    case E_ARG:
    case E_CERT:
    case E_CHAIN:
    case E_LIMIT:
    case E_UNSUPPORTED:
        return said(400004, NULL);
    case E_EK:
        return said(400201, NULL);
    case E_STATE:
        return said(400003, NULL);
    case E_ARG_NULL:
        return said(400005, NULL);
    case E_UTF8:
    case E_JSON:
        return said(400006, NULL);
    case E_VERSION:
        return said(400001, NULL);
    case E_ID:
        return said(bad_id[about], NULL);
    case E_UNAUTHORIZED:
    case E_TOKEN:
    case E_EXPIRED:
    case E_SCOPE:
    case E_SIGNATURE:
    case E_DISABLED:
    case E_OWNED:
        return said(401002, "Unauthorized");
    case E_NOT_FOUND:
    case E_NO_MODULE: /* of the hub */
        return said(not_found[about], not_found_text[about]);
    case E_NO_ROUTE:
        return said(404000, "No such path.");
    case E_METHOD:
        return said(405000, "Method is not allowed here.");
    case E_EXISTS:
        return said(exists[about], exists_text[about]);
    case E_CONFLICT:
        return said(409000, NULL);
    case E_ETAG:
    case E_ETAG_MISSING:
        return said(412001, NULL);
    case E_TOO_LARGE:
        return said(413000, NULL);
    case E_MEDIA:
        return said(415000, NULL);
    case E_QUOTA:
    case E_THROTTLED:
    case E_QUEUE_FULL:
        return said(429001, "Too many requests: try again later.");
    case E_STALE:
        return (struct dps_code){503, 500000, "The enrollment changed meanwhile: try again."};
    case E_TIMEOUT:
        return (struct dps_code){408, 400000, NULL};
    case E_AGAIN:
    case E_BUSY:
    case E_UNKNOWN:
    case E_DRAINING:
    case E_NOMEM:
    case E_DISK_FULL:
        return (struct dps_code){503, 500000, "The service cannot take this now: try again later."};
    case E_CLOSED:
    case E_FENCED:
    FACE_CASES_INTERNAL:
        break;
    }
    return said(500000, "Internal error.");
}

/* Where the administration plane differs (server/admin.h). */
static struct dps_code admin_code(enum err e, struct dps_code c)
{
    return e == E_EXISTS ? said(409000, NULL) : c;
}

/* --- body ----------------------------------------------------------------------------------------- */

/* A device that proved that it holds its leaf's key is told which link of its own chain fails; of tokens and enrollments nothing is
 * told (docs/protocol/sas.md 9). */
static bool may_tell_chain(enum err e, const struct err_info *info)
{
    return e == E_UNAUTHORIZED && info != NULL && info->err == E_CHAIN;
}

static void add_error(struct buf *b, const struct dps_code *c, const char *text, const char *detail,
                      const char *guid)
{
    char iso[TIME_ISO_SIZE];
    time_iso7(clock_wall_us(clock_system()), iso);
    buf_addf(b, "{\"errorCode\":%u,\"trackingId\":\"%s\",\"message\":", c->code, guid);
    json_write_str(b, span_sub(span_str(text), 0, 1024));
    buf_addf(b, ",\"timestampUtc\":\"%s\"", iso);
    if (detail != NULL) {
        buf_add_str(b, ",\"info\":{\"detail\":");
        json_write_str(b, span_str(detail));
        buf_add_u8(b, '}');
    }
    buf_add_u8(b, '}');
}

static void write_error(struct buf *b, enum err e, const struct dps_code *c,
                        const struct err_info *info, const char *guid)
{
    bool tells = may_tell_chain(e, info);
    const char *text = tells ? "Invalid certificate" : c->text != NULL ? c->text : err_why(info, e);
    add_error(b, c, text, tells ? info->why : NULL, guid);
}

/* --- HTTP ------------------------------------------------------------------------------------------- */

static void common_headers(struct http_rq *rq, const char *guid)
{
    http_header(rq, "x-ms-request-id", span_str(guid));
    http_header(rq, "Strict-Transport-Security", SPAN_LIT("max-age=31536000; includeSubDomains"));
}

/* A device is told when its turn comes. */
static unsigned retry_after_s(struct http_rq *rq)
{
    const struct http_route *route = http_rq_route(rq);
    const struct verdict *v =
        route != NULL && route->auth == AUTH_DEVICE ? http_device_verdict(rq) : NULL;
    return v == NULL         ? BACKLOG_LEAST_S
           : v->retry_s != 0 ? v->retry_s
                             : admission_wait_s(dps_worker_of(worker_of_rq(rq)), SPAN_NONE);
}

static void answer_error(struct http_rq *rq, const struct dps_code *c, const char *guid,
                         struct span body)
{
    common_headers(rq, guid);
    http_headerf(rq, "x-ms-error-code", "%u", c->code);
    if (c->status == 429 || c->status == 503) {
        http_headerf(rq, "Retry-After", "%u", retry_after_s(rq));
    }
    http_answer(rq, c->status, DPS_JSON, body);
}

/* "" for all but devices. */
static const char *rule_word_of(struct http_rq *rq)
{
    const struct http_route *route = http_rq_route(rq);
    const struct verdict *v =
        route != NULL && route->auth == AUTH_DEVICE ? http_device_verdict(rq) : NULL;
    return v != NULL && v->rule != RULE_OK ? rule_def(v->rule)->word : "";
}

static void log_refusal(struct http_rq *rq, const struct dps_code *c, const char *guid,
                        const char *why)
{
    struct conn *conn = http_rq_conn(rq);
    LOG_INFO("dps.http.refused", L_U64("code", c->code), L_STR("rule", rule_word_of(rq)),
             L_STR("why", why), L_SPAN("path", http_rq_raw_path(rq)),
             L_STR("peer", conn != NULL ? conn_peer_text(conn) : ""), L_STR("request", guid));
}

void dps_refuse_about(struct http_rq *rq, enum dps_subject about, enum err e,
                      const struct err_info *info)
{
    if (http_is_answered(rq)) {
        return;
    }
    char guid[GUID_SIZE];
    AUTO(buf_done) struct buf body = BUF_INIT(16u << 10);
    struct dps_code c = dps_code_of(e, about);
    const struct http_route *route = http_rq_route(rq);
    if (route != NULL && route->auth == AUTH_ADMIN) {
        c = admin_code(e, c);
    }
    guid_new(guid);
    if (route != NULL && route->auth == AUTH_DEVICE) {
        http_device_note(rq, e);
    }
    log_refusal(rq, &c, guid, err_why(info, e));
    write_error(&body, e, &c, info, guid);
    answer_error(rq, &c, guid, buf_err(&body) == OK ? buf_span(&body) : SPAN_NONE);
}

void dps_refuse(struct http_rq *rq, enum err e, const struct err_info *info)
{
    const struct http_route *route = http_rq_route(rq);
    bool is_device = route != NULL && route->auth == AUTH_DEVICE;
    dps_refuse_about(rq, is_device ? ABOUT_REGISTRATION : ABOUT_NOTHING, e, info);
}

void dps_refuse_code(struct http_rq *rq, unsigned status, unsigned code, const char *text)
{
    if (http_is_answered(rq)) {
        return;
    }
    char guid[GUID_SIZE];
    AUTO(buf_done) struct buf body = BUF_INIT(16u << 10);
    const struct dps_code c = {status, code, text};
    guid_new(guid);
    log_refusal(rq, &c, guid, text);
    add_error(&body, &c, text, NULL, guid);
    answer_error(rq, &c, guid, buf_err(&body) == OK ? buf_span(&body) : SPAN_NONE);
}

void dps_answer_json(struct http_rq *rq, unsigned status, struct span json)
{
    char guid[GUID_SIZE];
    guid_new(guid);
    common_headers(rq, guid);
    http_answer(rq, status, DPS_JSON, json);
}

void dps_answer_none(struct http_rq *rq)
{
    char guid[GUID_SIZE];
    guid_new(guid);
    common_headers(rq, guid);
    http_answer(rq, 204, NULL, SPAN_NONE);
}

/* --- MQTT ------------------------------------------------------------------------------------------- */

unsigned dps_mqtt_error(const struct verdict *v, enum dps_subject about, struct span rid,
                        const char *peer, struct buf *body)
{
    char guid[GUID_SIZE];
    enum err e = verdict_err(v);
    struct dps_code c = dps_code_of(e, about);
    if (c.code == 401002) {
        c.code = 401000; /* dps-device.md 3: what is seen over MQTT */
    }
    guid_new(guid);
    LOG_INFO("dps.mqtt.refused", L_SPAN("registration", rid), L_U64("code", c.code),
             L_STR("rule", rule_def(v->rule)->word), L_WHY(&v->info, e), L_STR("peer", peer),
             L_STR("request", guid));
    write_error(body, e, &c, &v->info, guid);
    return c.status;
}
