/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/http_service.h"

#include "base/text.h"
#include "hub/stream_grant.h"
#include "hub/twin.h"
#include "server/authn.h"
#include "wire/sas.h"

/* --- admission ------------------------------------------------------------------------------ */

static const char *const api_versions[] = {
    "2016-11-14",         "2017-06-30",         "2017-11-08-preview", "2018-04-01",
    "2018-06-30",         "2018-08-30-preview", "2018-10-20-preview", "2019-03-30",
    "2019-07-01-preview", "2019-10-01",         "2020-03-01",         "2020-03-13",
    "2020-05-31-preview", "2020-09-30",         "2021-04-12",         "2024-03-31",
};

static bool is_known_version(struct span v)
{
    for (size_t i = 0; i < ARRAY_LEN(api_versions); i++) {
        if (span_is(v, api_versions[i])) {
            return true;
        }
    }
    return false;
}

/* Comes the request with a device's own credential, and is it one that a device may make? */
static bool is_by_device(struct http_rq *rq)
{
    struct span token = http_rq_header(rq, "Authorization");
    struct sas_token tok;
    struct cert_peer peer = {0};
    if (http_rq_route(rq)->auth != HUB_AUTH_OWN) {
        return false;
    }
    if (token.n != 0) {
        return sas_parse(token, &tok, NULL) == OK && sas_skn(&tok).n == 0;
    }
    conn_peer_cert(http_rq_conn(rq), &peer);
    return peer.leaf_der.n != 0;
}

static enum err admit_device(struct http_rq *rq, struct err_info *info)
{
    struct admitted ad;
    struct span token = span_trim(http_rq_header(rq, "Authorization"));
    return registry_authenticate(worker_of_rq(rq), http_rq_arena(rq), http_rq_param(rq, 0),
                                 SPAN_NONE, token, http_rq_conn(rq), &ad, info);
}

enum err hub_service_admit(struct http_rq *rq, struct err_info *info)
{
    bool found;
    struct span v = http_rq_query(rq, "api-version", &found);
    if (!is_known_version(v)) {
        return err_set(info, E_VERSION, "api-version \"%.*s\"", SPAN_ARG(span_sub(v, 0, 32)));
    }
    if (is_by_device(rq)) {
        return admit_device(rq, info); /* no caller is set: none of these handlers asks for one */
    }
    struct caller *c = arena_new(http_rq_arena(rq), struct caller);
    if (c == NULL) {
        return E_NOMEM;
    }
    enum err e = stream_grant_is_used(rq)
                     ? stream_grant_authn(rq, c, info)
                     : authn_service(worker_of_rq(rq), rq, http_rq_route(rq)->right, c, info);
    if (e == OK) {
        http_rq_set_user(rq, c);
    }
    return e;
}

/* Dates and their previews sort as text. */
static bool wants_model(struct http_rq *rq)
{
    bool found;
    return span_cmp(http_rq_query(rq, "api-version", &found), SPAN_LIT("2020-05-31-preview")) >= 0;
}

/* --- requests ------------------------------------------------------------------------------- */

static enum err checked_id(struct http_rq *rq, struct span *ret, struct err_info *info)
{
    struct span id = http_rq_param(rq, 0);
    if (!id_device_ok(id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    *ret = id;
    return OK;
}

/* Of twins: a path without a module is the device's own. */
static enum err checked_module_id(struct http_rq *rq, struct span *ret, struct err_info *info)
{
    struct span id = http_rq_param(rq, 1);
    if (id.p != NULL && !id_device_ok(id)) {
        return err_set(info, E_ID, "moduleId is not valid");
    }
    *ret = id;
    return OK;
}

/* Ends a handler whose begin failed. */
static void refuse_unless_ok(struct http_rq *rq, enum err e, const struct err_info *info)
{
    if (e != OK) {
        hub_refuse(rq, e, info);
    }
}

static void answer_device(struct http_rq *rq, const struct device *d)
{
    char etag[REGISTRY_ETAG_SIZE];
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY_REGISTRY);
    enum err e = registry_to_json(worker_of_rq(rq), d, true, &b);
    if (e == OK) {
        registry_etag_text(d->etag, etag);
        hub_answer_json(rq, 200, span_str(etag), buf_span(&b));
    } else {
        hub_refuse(rq, e, NULL);
    }
    mem_wipe(b.p, b.n);
    buf_done(&b);
}

static void not_found(struct http_rq *rq, struct span id)
{
    struct err_info info;
    hub_refuse(rq, err_set(&info, E_NOT_FOUND, "%.*s", SPAN_ARG(id)), &info);
}

/* --- devices -------------------------------------------------------------------------------- */

static void device_get(struct http_rq *rq)
{
    struct err_info info = {0};
    struct span id;
    struct device d;
    enum err e = checked_id(rq, &id, &info);
    if (e == OK) {
        e = registry_get(worker_of_rq(rq), http_rq_arena(rq), id, &d);
    }
    if (e == OK) {
        answer_device(rq, &d);
    } else if (e == E_NOT_FOUND) {
        not_found(rq, id);
    } else {
        hub_refuse(rq, e, &info);
    }
}

static void device_done(void *user, uint64_t tag, enum err result, const struct device *d,
                        const struct err_info *info)
{
    struct http_rq *rq = http_rq_of(user, tag);
    if (rq == NULL) {
        return; /* the client left; what was submitted is done */
    }
    if (result != OK) {
        hub_refuse(rq, result, info);
    } else if (http_rq_method(rq) == HTTP_DELETE) {
        hub_answer_none(rq);
    } else {
        answer_device(rq, d);
    }
}

static enum err begin_put(struct http_rq *rq, const struct json *body, struct err_info *info)
{
    struct auth_spec auth;
    struct device_spec spec = {.auth = &auth};
    struct match match;
    memset(&auth, 0, sizeof auth);
    enum err e = device_spec_read(body, http_rq_param(rq, 0), &spec, info);
    if (e == OK) {
        e = match_read(http_rq_header(rq, "If-Match"), true, &match, info);
    }
    if (e == OK) {
        e = registry_put_begin(worker_of_rq(rq), &spec, &match, device_done, http_rq_loop(rq),
                               http_rq_handle(rq), info);
    }
    auth_spec_done(&auth);
    return e;
}

static void device_put(struct http_rq *rq)
{
    struct err_info info = {0};
    AUTO(json_free_p) struct json *body = NULL;
    enum err e = OK;
    if (body_is_blank(http_rq_body(rq))) {
        e = err_set(&info, E_ARG_NULL, "body is empty");
    }
    if (e == OK) {
        e = json_read(http_rq_body(rq), LIMIT_HTTP_BODY_REGISTRY, &body, &info);
    }
    if (e == OK) {
        e = begin_put(rq, body, &info);
    }
    refuse_unless_ok(rq, e, &info);
}

static void device_delete(struct http_rq *rq)
{
    struct err_info info = {0};
    struct match match;
    enum err e = match_read(http_rq_header(rq, "If-Match"), true, &match, &info);
    if (e == OK) {
        e = registry_delete_begin(worker_of_rq(rq), http_rq_param(rq, 0), SPAN_NONE, &match,
                                  device_done, http_rq_loop(rq), http_rq_handle(rq), &info);
    }
    refuse_unless_ok(rq, e, &info);
}

static void list_done(void *user, uint64_t tag, enum err result, struct span json)
{
    struct http_rq *rq = http_rq_of(user, tag);
    if (rq == NULL) {
        return;
    }
    if (result != OK) {
        hub_refuse(rq, result == E_TIMEOUT ? E_BUSY : result, NULL);
    } else {
        hub_answer_json(rq, 200, SPAN_NONE, json);
    }
}

static void device_list(struct http_rq *rq)
{
    bool found;
    uint64_t top;
    if (!span_to_u64(http_rq_query(rq, "top", &found), &top) || top < 1 ||
        top > LIMIT_REGISTRY_LIST) {
        top = LIMIT_REGISTRY_LIST;
    }
    refuse_unless_ok(rq,
                     registry_list_begin(worker_of_rq(rq), (size_t)top, list_done, http_rq_loop(rq),
                                         http_rq_handle(rq)),
                     NULL);
}

/* --- twins ---------------------------------------------------------------------------------- */

static void answer_twin(struct http_rq *rq, const struct device *d, const struct twin *t)
{
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_HUB_WORK);
    enum err e = twin_to_json(worker_of_rq(rq), d, t, wants_model(rq), &b);
    if (e == OK) {
        hub_answer_json(rq, 200, SPAN_NONE, buf_span(&b));
    } else {
        hub_refuse(rq, e, NULL);
    }
}

static void twin_read_one(struct http_rq *rq)
{
    struct err_info info = {0};
    AUTO(arena_done) struct arena a = ARENA_INIT(LIMIT_HUB_WORK);
    struct span id, module_id;
    struct device d;
    struct twin t;
    enum err e = checked_id(rq, &id, &info);
    if (e == OK && (e = checked_module_id(rq, &module_id, &info)) == OK) {
        e = registry_get_module(worker_of_rq(rq), &a, id, module_id, &d);
    }
    if (e == OK) {
        e = twin_get(worker_of_rq(rq), &a, d.identity, d.created_us, &t);
    }
    if (e == OK) {
        answer_twin(rq, &d, &t);
    } else if (e == E_NOT_FOUND || e == E_NO_MODULE) { /* of a twin both are 404001 */
        not_found(rq, id);
    } else {
        hub_refuse(rq, e, &info);
    }
}

static void twin_done(void *user, uint64_t tag, enum err result, const struct device *d,
                      const struct twin *t, const struct err_info *info)
{
    struct http_rq *rq = http_rq_of(user, tag);
    if (rq == NULL) {
        return;
    }
    if (result != OK) {
        hub_refuse(rq, result, info);
    } else {
        answer_twin(rq, d, t);
    }
}

static void twin_write(struct http_rq *rq, bool is_replace)
{
    struct err_info info = {0};
    struct match match;
    struct span module_id;
    enum err e = match_read(http_rq_header(rq, "If-Match"), false, &match, &info);
    if (e == OK && (e = checked_module_id(rq, &module_id, &info)) == OK) {
        e = twin_write_begin(worker_of_rq(rq), http_rq_param(rq, 0), module_id, http_rq_body(rq),
                             is_replace, &match, twin_done, http_rq_loop(rq), http_rq_handle(rq),
                             &info);
    }
    refuse_unless_ok(rq, e, &info);
}

static void twin_patch(struct http_rq *rq)
{
    twin_write(rq, false);
}

static void twin_put(struct http_rq *rq)
{
    twin_write(rq, true);
}

/* --- known by name, not built yet ------------------------------------------------------------ */

static void not_offered(struct http_rq *rq)
{
    struct err_info info;
    const struct http_route *r = http_rq_route(rq);
    hub_refuse(rq, err_set(&info, E_UNSUPPORTED, "%s is not offered by this version", r->path),
               &info);
}

#define REGISTRY_ANY (R_REGISTRY_READ | R_REGISTRY_WRITE)
#define CONFIG_READ (R_REGISTRY_READ | R_SERVICE_CONNECT)
#define CONFIG_WRITE (R_REGISTRY_WRITE | R_SERVICE_CONNECT)
#define BODY LIMIT_HTTP_BODY_REGISTRY
#define LATER(m, path, right)                                                                      \
    {                                                                                              \
        m, path, AUTH_SERVICE, right, LIMIT_TWIN_BODY, not_offered                                 \
    }

/* clang-format off */
const struct http_route hub_service_routes[] = {
    { HTTP_GET,    "/devices",       AUTH_SERVICE, R_REGISTRY_READ,   0,               device_list },
    { HTTP_GET,    "/devices/{id}",  HUB_AUTH_OWN, R_REGISTRY_READ,   0,               device_get },
    { HTTP_PUT,    "/devices/{id}",  AUTH_SERVICE, R_REGISTRY_WRITE,  BODY,            device_put },
    { HTTP_DELETE, "/devices/{id}",  AUTH_SERVICE, R_REGISTRY_WRITE,  0,               device_delete },
    { HTTP_GET,    "/twins/{id}",    AUTH_SERVICE, R_SERVICE_CONNECT, 0,               twin_read_one },
    { HTTP_PATCH,  "/twins/{id}",    AUTH_SERVICE, R_SERVICE_CONNECT, LIMIT_TWIN_BODY, twin_patch },
    { HTTP_PUT,    "/twins/{id}",    AUTH_SERVICE, R_SERVICE_CONNECT, LIMIT_TWIN_BODY, twin_put },
    { HTTP_GET,    "/twins/{id}/modules/{mid}", AUTH_SERVICE, R_SERVICE_CONNECT, 0,               twin_read_one },
    { HTTP_PATCH,  "/twins/{id}/modules/{mid}", AUTH_SERVICE, R_SERVICE_CONNECT, LIMIT_TWIN_BODY, twin_patch },
    { HTTP_PUT,    "/twins/{id}/modules/{mid}", AUTH_SERVICE, R_SERVICE_CONNECT, LIMIT_TWIN_BODY, twin_put },

    LATER(HTTP_POST,   "/devices",                                     R_REGISTRY_WRITE),
    LATER(HTTP_POST,   "/devices/query",                               CONFIG_READ),
    LATER(HTTP_POST,   "/devices/keys/regenerate",                     R_REGISTRY_WRITE),
    LATER(HTTP_DELETE, "/devices/{id}/commands",                       R_SERVICE_CONNECT),
    LATER(HTTP_POST,   "/devices/{id}/applyConfigurationContent",      CONFIG_WRITE),
    LATER(HTTP_GET,    "/statistics/devices",                          R_REGISTRY_READ),
    LATER(HTTP_GET,    "/statistics/service",                          CONFIG_READ),
    LATER(HTTP_POST,   "/twins/{id}/methods",                          R_SERVICE_CONNECT),
    LATER(HTTP_POST,   "/twins/{id}/modules/{mid}/methods",            R_SERVICE_CONNECT),
    LATER(HTTP_GET,    "/digitaltwins/{id}",                           R_SERVICE_CONNECT),
    LATER(HTTP_PATCH,  "/digitaltwins/{id}",                           R_SERVICE_CONNECT),
    LATER(HTTP_POST,   "/digitaltwins/{id}/commands/{name}",           R_SERVICE_CONNECT),
    LATER(HTTP_POST,   "/digitaltwins/{id}/components/{c}/commands/{name}", R_SERVICE_CONNECT),
    LATER(HTTP_GET,    "/configurations",                              CONFIG_READ),
    LATER(HTTP_POST,   "/configurations/testQueries",                  CONFIG_WRITE),
    LATER(HTTP_GET,    "/configurations/{id}",                         CONFIG_READ),
    LATER(HTTP_PUT,    "/configurations/{id}",                         CONFIG_WRITE),
    LATER(HTTP_DELETE, "/configurations/{id}",                         CONFIG_WRITE),
    LATER(HTTP_GET,    "/jobs",                                        REGISTRY_ANY),
    LATER(HTTP_POST,   "/jobs/create",                                 R_REGISTRY_WRITE),
    LATER(HTTP_GET,    "/jobs/{id}",                                   REGISTRY_ANY),
    LATER(HTTP_DELETE, "/jobs/{id}",                                   R_REGISTRY_WRITE),
    LATER(HTTP_GET,    "/jobs/v2/query",                               CONFIG_READ),
    LATER(HTTP_GET,    "/jobs/v2/{id}",                                CONFIG_READ),
    LATER(HTTP_PUT,    "/jobs/v2/{id}",                                R_SERVICE_CONNECT),
    LATER(HTTP_POST,   "/jobs/v2/{id}/cancel",                         R_SERVICE_CONNECT),
    LATER(HTTP_GET,    "/messages/serviceBound/feedback",              R_SERVICE_CONNECT),
    LATER(HTTP_DELETE, "/messages/serviceBound/feedback/{lock}",       R_SERVICE_CONNECT),
    LATER(HTTP_POST,   "/messages/serviceBound/feedback/{lock}/abandon", R_SERVICE_CONNECT),
    LATER(HTTP_GET,    "/messages/serviceBound/filenotifications",     R_SERVICE_CONNECT),
    LATER(HTTP_DELETE, "/messages/serviceBound/filenotifications/{lock}", R_SERVICE_CONNECT),
    LATER(HTTP_POST,   "/messages/serviceBound/filenotifications/{lock}/abandon", R_SERVICE_CONNECT),
};
/* clang-format on */
const size_t n_hub_service_routes = ARRAY_LEN(hub_service_routes);
