/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/hub.h"

#include "base/log.h"
#include "server/face.h"
#include "wire/json.h"

/* openapi/error-codes.json, as far as this hub says them. */
/* clang-format off */
static const struct {
    uint32_t code;
    const char *name;
} code_names[] = {
    { 400000, "GenericBadRequest" },
    { 400001, "InvalidProtocolVersion" },
    { 400003, "InvalidOperation" },
    { 400004, "ArgumentInvalid" },
    { 400005, "ArgumentNull" },
    { 400006, "IotHubFormatError" },
    { 400014, "DefaultStorageEndpointNotConfigured" },
    { 400024, "RequestTimedOut" },
    { 400027, "ConnectionForcefullyClosedOnNewConnection" },
    { 400028, "InvalidDeviceScope" },
    { 401002, "IotHubUnauthorizedAccess" },
    { 401100, "SystemModuleModifyUnauthorizedAccess" },
    { 403002, "IotHubQuotaExceeded" },
    { 403004, "DeviceMaximumQueueDepthExceeded" },
    { 404000, "GenericNotFound" },
    { 404001, "DeviceNotFound" },
    { 404010, "ModuleNotFound" },
    { 404103, "DeviceNotOnline" },
    { 404104, "DeviceConnectionClosedRemotely" },
    { 405000, "GenericMethodNotAllowed" },
    { 409000, "GenericConflict" },
    { 409001, "DeviceAlreadyExists" },
    { 409301, "ModuleAlreadyExistsOnDevice" },
    { 412001, "PreconditionFailed" },
    { 412002, "DeviceMessageLockLost" },
    { 413000, "GenericRequestEntityTooLarge" },
    { 413001, "MessageTooLarge" },
    { 413003, "TooManyModulesOnDevice" },
    { 415000, "GenericUnsupportedMediaType" },
    { 429001, "ThrottlingException" },
    { 500001, "ServerError" },
    { 503001, "ServiceUnavailable" },
    { 503005, "ServerBusy" },
    { 504101, "GatewayTimeout" },
};
/* clang-format on */

const char *hub_code_name(uint32_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(code_names); i++) {
        if (code_names[i].code == code) {
            return code_names[i].name;
        }
    }
    return NULL;
}

struct said {
    uint32_t code;
    const char *text; /* NULL: the reason in info, else err_text() */
};

/* A switch without default: a new enum err does not compile until it is decided here (-Wswitch). */
static struct said say(enum err e)
{
    switch (e) {
    case E_MALFORMED:
    case E_TRUNCATED:
    case E_ARG:
    case E_ID:
    case E_CERT:
    case E_CHAIN:
    case E_EK:
        return (struct said){400004, NULL};
    case E_UTF8:
    case E_JSON:
        return (struct said){400006, NULL};
    case E_ARG_NULL:
        return (struct said){400005, "BadRequest"};
    case E_VERSION:
        return (struct said){400001, "BadRequest"};
    case E_UNAUTHORIZED:
    case E_TOKEN:
    case E_EXPIRED:
    case E_SCOPE:
    case E_SIGNATURE:
    case E_DISABLED:
        return (struct said){401002, "Unauthorized"};
    case E_NOT_FOUND:
        return (struct said){404001, NULL};
    case E_NO_MODULE:
        return (struct said){404010, NULL};
    case E_NO_ROUTE:
        return (struct said){404000, "no such path"};
    case E_UNSUPPORTED:
        return (struct said){404000, NULL};
    case E_METHOD:
        return (struct said){405000, "method is not allowed here"};
    case E_EXISTS:
        return (struct said){409001, "Conflict"};
    case E_OWNED:
        return (struct said){409001, NULL};
    case E_CONFLICT:
    case E_STATE:
        return (struct said){409000, NULL};
    case E_ETAG:
        return (struct said){412001, NULL};
    case E_ETAG_MISSING:
        return (struct said){412001, "Etag missing"};
    case E_TOO_LARGE:
    case E_LIMIT:
        return (struct said){413001, NULL};
    case E_MEDIA:
        return (struct said){415000, NULL};
    case E_THROTTLED:
        return (struct said){429001,
                             "The request has been throttled. Wait 10 seconds and try again."};
    case E_QUOTA:
        return (struct said){403002, NULL};
    case E_TIMEOUT:
        return (struct said){400024, NULL};
    case E_QUEUE_FULL:
        return (struct said){403004, NULL};
    case E_CLOSED:
        return (struct said){404104, NULL};
    case E_FENCED:
        return (struct said){400027, NULL};
    case E_AGAIN:
    case E_BUSY:
    case E_STALE:
    case E_NOMEM:
        return (struct said){503005, "Server busy"};
    case E_UNKNOWN:
    case E_DRAINING:
    case E_DISK_FULL:
        return (struct said){503001, "Service unavailable"};
    FACE_CASES_INTERNAL:
        break;
    }
    return (struct said){500001, "Internal error"};
}

uint32_t hub_code_of(enum err e)
{
    return say(e).code;
}

/* Where the administration plane differs (server/admin.h). */
static uint32_t admin_code(enum err e, uint32_t code)
{
    /* clang-format off */
    static const struct {
        enum err e;
        uint32_t code;
    } rows[] = {
        { E_STATE,     400003 },
        { E_LIMIT,     400004 },
        { E_NOT_FOUND, 404000 },
        { E_EXISTS,    409000 },
        { E_CONFLICT,  409000 },
        { E_TOO_LARGE, 413000 },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].e == e) {
            return rows[i].code;
        }
    }
    return code;
}

/* The rule is code / 1000; a peer that took too long is told so by its own status (hub-https.md H27). */
static unsigned status_of(uint32_t code)
{
    return code == 400024 ? 408u : (unsigned)(code / 1000u);
}

/* --- tracking ids -------------------------------------------------------------------------- */

struct tracking {
    char guid[GUID_SIZE];
    char hex[33]; /* the same without dashes */
    char stamp[TIME_ISO_SIZE];
    char iso[TIME_ISO_SIZE];
};

static void tracking_new(struct tracking *t)
{
    guid_new(t->guid);
    size_t n = 0;
    for (const char *p = t->guid; *p != 0 && n < sizeof t->hex - 1; p++) {
        if (*p != '-') {
            t->hex[n++] = *p;
        }
    }
    t->hex[n] = 0;
    int64_t now = clock_wall_us(clock_system());
    time_tracking(now, t->stamp);
    time_iso7(now, t->iso);
}

static void add_common_headers(struct http_rq *rq, const char *guid)
{
    http_header(rq, "x-ms-request-id", span_str(guid));
    http_header(rq, "Vary", SPAN_LIT("Origin"));
    http_header(rq, "Server", SPAN_LIT("Berth"));
}

static void log_refusal(struct http_rq *rq, uint32_t code, const char *guid, const char *why)
{
    struct conn *c = http_rq_conn(rq);
    LOG_INFO("hub.http.refused", L_U64("code", code), L_STR("why", why),
             L_SPAN("path", http_rq_raw_path(rq)),
             L_STR("peer", c != NULL ? conn_peer_text(c) : ""), L_STR("request", guid));
}

static void refuse(struct http_rq *rq, uint32_t code, struct span text, const char *why)
{
    if (http_is_answered(rq)) {
        return;
    }
    const char *name = hub_code_name(code);
    ASSERT(name != NULL);
    struct tracking t;
    tracking_new(&t);
    AUTO(buf_done) struct buf msg = BUF_INIT(LIMIT_HTTP_HEAD);
    AUTO(buf_done) struct buf body = BUF_INIT(8 * LIMIT_HTTP_HEAD);
    buf_addf(&msg, "ErrorCode:%s;", name);
    buf_add(&msg, span_sub(text, 0, 1024));
    buf_add_str(&body, "{\"Message\":");
    json_write_str(&body, buf_span(&msg));
    buf_addf(&body, ",\"ExceptionMessage\":\"Tracking ID:%s-TimeStamp:%s\"}", t.hex, t.stamp);
    log_refusal(rq, code, t.guid, why);
    add_common_headers(rq, t.guid);
    http_header(rq, "iothub-errorcode", span_str(name));
    unsigned status = status_of(code);
    if (status == 429 || status == 503) {
        http_header(rq, "Retry-After", status == 429 ? SPAN_LIT("10") : SPAN_LIT("5"));
    }
    /* Without memory for the body the status and the header still tell. */
    http_answer(rq, status, HUB_JSON, buf_err(&body) == OK ? buf_span(&body) : SPAN_NONE);
}

void hub_refuse(struct http_rq *rq, enum err e, const struct err_info *info)
{
    struct said s = say(e);
    const struct http_route *route = http_rq_route(rq);
    if (route != NULL && route->auth == AUTH_ADMIN) {
        s.code = admin_code(e, s.code);
    }
    const char *why = err_why(info, e);
    /* hub-service-rest.md 2.4, as far as it tells nothing that the caller does not know; never for a device's own credential. */
    if (e == E_UNAUTHORIZED && info != NULL && (route == NULL || route->auth != AUTH_DEVICE)) {
        s.text = info->err == E_ARG_NULL ? "Authorization header missing"
                 : info->err == E_OWNED  ? NULL
                                         : s.text;
    }
    refuse(rq, s.code, span_str(s.text != NULL ? s.text : why), why);
}

unsigned hub_entry_error(const struct http_rq *rq, size_t i, enum err e,
                         const struct err_info *info, struct buf *body)
{
    LOG_INFO("hub.http.refused", L_U64("code", hub_code_of(e)), L_STR("why", err_why(info, e)),
             L_SPAN("path", rq != NULL ? http_rq_raw_path(rq) : SPAN_NONE), L_U64("entry", i));
    return hub_mqtt_error(e, info, body);
}

void hub_refuse_code(struct http_rq *rq, uint32_t code, const char *text)
{
    refuse(rq, code, span_str(text), text);
}

void hub_answer_json(struct http_rq *rq, unsigned status, struct span etag, struct span json)
{
    char guid[GUID_SIZE];
    guid_new(guid);
    add_common_headers(rq, guid);
    if (etag.n != 0) {
        http_headerf(rq, "ETag", "\"%.*s\"", SPAN_ARG(etag));
    }
    http_answer(rq, status, HUB_JSON, json);
}

void hub_answer_empty(struct http_rq *rq, unsigned status)
{
    char guid[GUID_SIZE];
    guid_new(guid);
    add_common_headers(rq, guid);
    http_answer(rq, status, NULL, SPAN_NONE);
}

void hub_answer_none(struct http_rq *rq)
{
    hub_answer_empty(rq, 204);
}

unsigned hub_mqtt_error(enum err e, const struct err_info *info, struct buf *body)
{
    struct said s = say(e);
    struct tracking t;
    tracking_new(&t);
    buf_addf(body, "{\"errorCode\":%u,\"message\":", (unsigned)s.code);
    json_write_str(body, span_str(s.text != NULL ? s.text : err_why(info, e)));
    buf_addf(body, ",\"trackingId\":\"%s-TimeStamp:%s\",\"timestampUtc\":\"%s\",\"info\":null}",
             t.hex, t.stamp, t.iso);
    return status_of(s.code);
}
