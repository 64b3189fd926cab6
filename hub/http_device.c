/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/http_device.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "hub/metrics.h"
#include "hub/telemetry.h"
#include "wire/topic.h"

#define JSON_BATCH_TYPE "application/vnd.microsoft.iothub.json"

/* --- admission --------------------------------------------------------------------------------- */

static void post_module_events(struct http_rq *rq);

/* Empty: the device itself. In other routes the second parameter is something else. */
static struct span module_of(struct http_rq *rq)
{
    return http_rq_route(rq)->handler == post_module_events ? http_rq_param(rq, 1) : SPAN_NONE;
}

enum err hub_device_admit(struct http_rq *rq, struct err_info *info)
{
    struct worker *w = worker_of_rq(rq);
    bool has_version;
    struct span version = http_rq_query(rq, "api-version", &has_version);
    if (has_version && !topic_api_version_ok(version)) {
        return err_set(info, E_VERSION, "api-version '%.*s' is no version",
                       SPAN_ARG(span_sub(version, 0, 40)));
    }
    struct span id = http_rq_param(rq, 0);
    if (!id_device_ok(id)) {
        return err_set(info, E_UNAUTHORIZED, "device id in the path is not valid");
    }
    struct admitted *ad = arena_new(http_rq_arena(rq), struct admitted);
    if (ad == NULL) {
        return E_NOMEM;
    }
    struct span token = span_trim(http_rq_header(rq, "Authorization"));
    enum err e = registry_authenticate(w, http_rq_arena(rq), id, module_of(rq), token,
                                       http_rq_conn(rq), ad, info);
    if (e == OK) {
        http_rq_set_user(rq, ad);
        registry_note_activity(w, ad->identity, loop_wall_us(worker_loop(w)), -1);
    } else {
        metric_add(w, HUB_M_REFUSED, 1);
    }
    return e;
}

/* --- telemetry ---------------------------------------------------------------------------------- */

struct collect {
    struct span device_id;
    struct prop *props;
    size_t n;
    bool is_too_many;
};

static void collect_header(void *arg, struct span name, struct span value)
{
    struct collect *c = arg;
    if (c->n == LIMIT_PROPS) {
        c->is_too_many = true;
        return;
    }
    struct prop p;
    if (props_header_read(name, value, c->device_id, &p)) {
        props_put(c->props, &c->n, p);
    }
}

static void stored(void *user, uint64_t tag, enum err result)
{
    struct worker *w = user;
    metric_add(w, result == OK ? HUB_M_MSG_HTTPS : HUB_M_MSG_NOT_STORED, 1);
    struct http_rq *rq = http_rq_of(worker_loop(w), tag);
    if (rq == NULL) {
        return; /* the client has gone; the message is on disk or was never acknowledged */
    }
    if (result == OK) {
        http_answer(rq, 204, NULL, SPAN_NONE);
    } else {
        hub_refuse(rq, result, NULL);
    }
}

static struct telemetry_source source_of(struct http_rq *rq)
{
    const struct admitted *ad = http_rq_user(rq);
    return (struct telemetry_source){
        .identity = ad->identity,
        .device_id = http_rq_param(rq, 0),
        .module_id = module_of(rq),
        .generation_id = ad->generation_id,
        .model_id = SPAN_NONE, /* belongs to MQTT and AMQP links */
        .auth_method_json = ad->auth_method_json,
    };
}

static void submit(struct http_rq *rq, const struct telemetry_message *m, size_t n)
{
    struct worker *w = worker_of_rq(rq);
    struct telemetry_source src = source_of(rq);
    struct err_info info = {0};
    enum err e = telemetry_begin_batch(w, &src, m, n, stored, w, http_rq_handle(rq), &info);
    if (e != OK) {
        hub_refuse(rq, e, &info);
    }
}

static void post_one(struct http_rq *rq)
{
    struct collect c = {.device_id = http_rq_param(rq, 0)};
    c.props = arena_alloc(http_rq_arena(rq), LIMIT_PROPS * sizeof(struct prop));
    if (c.props == NULL) {
        hub_refuse(rq, E_NOMEM, NULL);
        return;
    }
    http_rq_each_header(rq, collect_header, &c);
    struct telemetry_message m = {.props = c.props, .n_props = c.n, .body = http_rq_body(rq)};
    if (c.is_too_many) {
        hub_refuse(rq, E_LIMIT, NULL);
        return;
    }
    submit(rq, &m, 1);
}

/* --- batch (hub-https.md 3) ---------------------------------------------------------------------- */

static enum err read_body(struct arena *a, const struct json *el, struct span *ret,
                          struct err_info *info)
{
    struct span text = SPAN_NONE;
    bool is_base64 = true;
    enum err e = json_get_str(el, "body", JSON_F_NEED, &text, info);
    if (e == OK) {
        e = json_get_bool(el, "base64Encoded", JSON_F_OPT, &is_base64, info);
    }
    if (e != OK || !is_base64) {
        *ret = text;
        return e;
    }
    size_t n = text.n / 4 * 3 + 3;
    uint8_t *p = arena_alloc(a, n);
    if (p == NULL) {
        return E_TOO_LARGE;
    }
    if (base64_decode_to(text, p, &n) != OK) {
        return err_set(info, E_ARG, "body is not base64");
    }
    *ret = span_of(p, n);
    return OK;
}

/* Values that are no strings are taken too (dates, numbers): as their JSON text. */
static enum err value_text(struct arena *a, const struct json *v, struct span *ret)
{
    if (json_is(v, JSON_T_STR)) {
        *ret = json_str(v);
        return OK;
    }
    AUTO(buf_done) struct buf b = BUF_INIT(4096);
    json_write(&b, v);
    *ret = arena_span(a, buf_span(&b));
    return buf_err(&b) != OK || ret->p == NULL ? E_ARG : OK;
}

static enum err read_element(struct http_rq *rq, const struct json *el,
                             struct telemetry_message *ret, struct err_info *info)
{
    struct arena *a = http_rq_arena(rq);
    struct json *props = NULL;
    *ret = (struct telemetry_message){0};
    if (!json_is(el, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "element of the batch is no object");
    }
    enum err e = read_body(a, el, &ret->body, info);
    if (e == OK) {
        e = json_get_object(el, "properties", JSON_F_OPT, &props, info);
    }
    size_t n = e == OK ? json_count(props) : 0;
    if (e != OK || n == 0) {
        return e;
    }
    if (n > LIMIT_PROPS) {
        return err_set(info, E_LIMIT, "more than %u properties", LIMIT_PROPS);
    }
    struct prop *list = arena_alloc(a, n * sizeof(*list));
    if (list == NULL) {
        return E_TOO_LARGE;
    }
    struct json_cursor cur = {0};
    struct span name;
    struct json *v;
    while (e == OK && json_next(props, &cur, &name, &v)) {
        struct span value;
        e = value_text(a, v, &value);
        struct prop p;
        if (e == OK && props_header_read(name, value, http_rq_param(rq, 0), &p)) {
            props_put(list, &ret->n_props, p);
        }
    }
    ret->props = list;
    return e;
}

static void post_batch(struct http_rq *rq)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct err_info info = {0};
    enum err e = json_read(http_rq_body(rq), LIMIT_D2C_BATCH_RAW, &j, &info);
    if (e == OK && !json_is(j, JSON_T_ARRAY)) {
        e = err_set(&info, E_ARG, "a batch is a JSON array");
    }
    size_t n = e == OK ? json_count(j) : 0;
    if (e == OK && n > LIMIT_D2C_BATCH_MESSAGES) {
        e = err_set(&info, E_TOO_LARGE, "batch of %zu messages, at most %u are allowed", n,
                    LIMIT_D2C_BATCH_MESSAGES);
    }
    struct telemetry_message *m = NULL;
    if (e == OK && n > 0) {
        m = arena_alloc(http_rq_arena(rq), n * sizeof(*m));
        e = m == NULL ? E_NOMEM : OK;
    }
    size_t total = 0;
    for (size_t i = 0; e == OK && i < n; i++) {
        e = read_element(rq, json_at(j, i), &m[i], &info);
        total += e == OK ? props_size(m[i].props, m[i].n_props, m[i].body.n) : 0;
    }
    if (e == OK && total > LIMIT_D2C_MESSAGE) {
        e = err_set(&info, E_TOO_LARGE, "batch of %zu bytes, at most %u are allowed", total,
                    LIMIT_D2C_MESSAGE);
    }
    if (e != OK) {
        hub_refuse(rq, e, &info);
    } else if (n == 0) {
        http_answer(rq, 204, NULL, SPAN_NONE);
    } else {
        submit(rq, m, n);
    }
}

static void post_events(struct http_rq *rq)
{
    if (!http_rq_has_body(rq)) { /* hub-https:H8 */
        struct err_info info = {0};
        hub_refuse(rq, err_set(&info, E_ARG_NULL, "neither Content-Length nor chunked"), &info);
        return;
    }
    struct span type = http_rq_header(rq, "Content-Type");
    struct span word = span_trim(span_cut(&type, ';'));
    if (span_is_nocase(word, JSON_BATCH_TYPE)) {
        post_batch(rq);
    } else {
        post_one(rq);
    }
}

static void post_module_events(struct http_rq *rq)
{
    post_events(rq);
}

/* --- what this version has none of ------------------------------------------------------------------ */

/* No message can be queued for a device yet, so the queue is empty. */
static void get_devicebound(struct http_rq *rq)
{
    http_answer(rq, 204, NULL, SPAN_NONE);
}

static void settle(struct http_rq *rq)
{
    hub_refuse_code(rq, 412002, "message lock is lost or was never given");
}

static void files(struct http_rq *rq)
{
    hub_refuse_code(rq, 400014, "no storage is configured for file uploads");
}

/* clang-format off */
const struct http_route hub_device_routes[] = {
    { HTTP_POST,   "/devices/{id}/messages/events",                       AUTH_DEVICE, R_DEVICE_CONNECT, LIMIT_D2C_BATCH_RAW,  post_events },
    { HTTP_POST,   "/devices/{id}/modules/{mid}/messages/events",         AUTH_DEVICE, R_DEVICE_CONNECT, LIMIT_D2C_BATCH_RAW,  post_module_events },
    { HTTP_GET,    "/devices/{id}/messages/devicebound",                  AUTH_DEVICE, R_DEVICE_CONNECT, 0,                    get_devicebound },
    { HTTP_DELETE, "/devices/{id}/messages/devicebound/{lock}",           AUTH_DEVICE, R_DEVICE_CONNECT, 0,                    settle },
    { HTTP_POST,   "/devices/{id}/messages/devicebound/{lock}/abandon",   AUTH_DEVICE, R_DEVICE_CONNECT, 0,                    settle },
    { HTTP_POST,   "/devices/{id}/files",                                 AUTH_DEVICE, R_DEVICE_CONNECT, LIMIT_HTTP_BODY_REGISTRY, files },
    { HTTP_POST,   "/devices/{id}/files/notifications",                   AUTH_DEVICE, R_DEVICE_CONNECT, LIMIT_HTTP_BODY_REGISTRY, files },
    { HTTP_POST,   "/devices/{id}/files/notifications/{correlation}",     AUTH_DEVICE, R_DEVICE_CONNECT, LIMIT_HTTP_BODY_REGISTRY, files },
};
/* clang-format on */
const size_t n_hub_device_routes = ARRAY_LEN(hub_device_routes);
