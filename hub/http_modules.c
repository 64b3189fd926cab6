/* SPDX-License-Identifier: Apache-2.0 */
/* Module identities of a device over REST: docs/protocol/hub-service-rest.md 2.3, 4.3, 6. Part of hub/http_service.h. */
#include "hub/http_service.h"

#include "base/text.h"
#include "hub/registry.h"

#define BODY LIMIT_HTTP_BODY_REGISTRY
#define LIST_MAX (LIMIT_MODULES * LIMIT_HTTP_BODY_REGISTRY)

/* What only this face says otherwise than hub/face.c. */
static void refuse(struct http_rq *rq, enum err e, const struct err_info *info)
{
    /* clang-format off */
    static const struct {
        enum err e;
        uint32_t code;
    } rows[] = {
        { E_EXISTS, 409301 },
        { E_LIMIT,  413003 },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].e == e) {
            hub_refuse_code(rq, rows[i].code, err_why(info, e));
            return;
        }
    }
    hub_refuse(rq, e, info);
}

static void refuse_unless_ok(struct http_rq *rq, enum err e, const struct err_info *info)
{
    if (e != OK) {
        refuse(rq, e, info);
    }
}

static enum err checked_ids(struct http_rq *rq, struct err_info *info)
{
    if (!id_device_ok(http_rq_param(rq, 0))) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    return id_device_ok(http_rq_param(rq, 1)) ? OK : err_set(info, E_ID, "moduleId is not valid");
}

/* Without an ETag header, other than a device (4.1). */
static void answer_module(struct http_rq *rq, const struct device *m)
{
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY_REGISTRY);
    enum err e = registry_to_json(worker_of_rq(rq), m, true, &b);
    if (e == OK) {
        hub_answer_json(rq, 200, SPAN_NONE, buf_span(&b));
    } else {
        hub_refuse(rq, e, NULL);
    }
    mem_wipe(b.p, b.n);
    buf_done(&b);
}

static void module_get(struct http_rq *rq)
{
    struct err_info info = {0};
    struct device m;
    enum err e = checked_ids(rq, &info);
    if (e == OK) {
        e = registry_get_module(worker_of_rq(rq), http_rq_arena(rq), http_rq_param(rq, 0),
                                http_rq_param(rq, 1), &m);
    }
    if (e == OK) {
        answer_module(rq, &m);
        return;
    }
    if (e == E_NOT_FOUND || e == E_NO_MODULE) {
        (void)!err_set(&info, e, "%.*s", SPAN_ARG(http_rq_param(rq, e == E_NO_MODULE)));
    }
    hub_refuse(rq, e, &info);
}

static void module_list(struct http_rq *rq)
{
    struct err_info info = {0};
    struct buf b = BUF_INIT(LIST_MAX);
    struct device d;
    struct span id = http_rq_param(rq, 0);
    enum err e = id_device_ok(id) ? registry_get(worker_of_rq(rq), http_rq_arena(rq), id, &d)
                                  : err_set(&info, E_ID, "deviceId is not valid");
    if (e == E_NOT_FOUND) {
        e = err_set(&info, e, "%.*s", SPAN_ARG(id));
    }
    if (e == OK) {
        e = registry_modules_json(worker_of_rq(rq), &d, &b);
    }
    if (e == OK) {
        hub_answer_json(rq, 200, SPAN_NONE, buf_span(&b));
    } else {
        hub_refuse(rq, e, &info);
    }
    mem_wipe(b.p, b.n);
    buf_done(&b);
}

static void module_done(void *user, uint64_t tag, enum err result, const struct device *m,
                        const struct err_info *info)
{
    struct http_rq *rq = http_rq_of(user, tag);
    if (rq == NULL) {
        return; /* the client left; what was submitted is done */
    }
    if (result != OK) {
        refuse(rq, result, info);
    } else if (http_rq_method(rq) == HTTP_DELETE) {
        hub_answer_none(rq);
    } else {
        answer_module(rq, m);
    }
}

/* Those of the system are IoT Edge's business; nobody changes or deletes them by hand. True when it has answered. */
static bool is_system_module(struct http_rq *rq, const struct match *match)
{
    struct span id = http_rq_param(rq, 1);
    if (match->kind == MATCH_NONE || (!span_is(id, "$edgeAgent") && !span_is(id, "$edgeHub"))) {
        return false;
    }
    hub_refuse_code(rq, 401100, "Unauthorized");
    return true;
}

static enum err begin_put(struct http_rq *rq, const struct match *match, struct err_info *info)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct auth_spec auth;
    struct device_spec spec = {.auth = &auth};
    if (body_is_blank(http_rq_body(rq))) {
        return err_set(info, E_ARG_NULL, "body is empty");
    }
    enum err e = json_read(http_rq_body(rq), LIMIT_HTTP_BODY_REGISTRY, &body, info);
    if (e != OK) {
        return e;
    }
    memset(&auth, 0, sizeof auth);
    e = module_spec_read(body, http_rq_param(rq, 0), http_rq_param(rq, 1), &spec, info);
    if (e == OK) {
        e = registry_put_begin(worker_of_rq(rq), &spec, match, module_done, http_rq_loop(rq),
                               http_rq_handle(rq), info);
    }
    auth_spec_done(&auth);
    return e;
}

static void module_put(struct http_rq *rq)
{
    struct err_info info = {0};
    struct match match;
    enum err e = match_read(http_rq_header(rq, "If-Match"), true, &match, &info);
    if (e == OK && is_system_module(rq, &match)) {
        return;
    }
    if (e == OK) {
        e = begin_put(rq, &match, &info);
    }
    refuse_unless_ok(rq, e, &info);
}

static void module_delete(struct http_rq *rq)
{
    struct err_info info = {0};
    struct match match;
    enum err e = match_read(http_rq_header(rq, "If-Match"), true, &match, &info);
    if (e == OK && is_system_module(rq, &match)) {
        return;
    }
    if (e == OK) {
        e = checked_ids(rq, &info);
    }
    if (e == OK) {
        e = registry_delete_begin(worker_of_rq(rq), http_rq_param(rq, 0), http_rq_param(rq, 1),
                                  &match, module_done, http_rq_loop(rq), http_rq_handle(rq), &info);
    }
    refuse_unless_ok(rq, e, &info);
}

/* clang-format off */
const struct http_route hub_module_routes[] = {
    { HTTP_GET,    "/devices/{id}/modules",       HUB_AUTH_OWN, R_REGISTRY_READ,  0,    module_list },
    { HTTP_GET,    "/devices/{id}/modules/{mid}", HUB_AUTH_OWN, R_REGISTRY_READ,  0,    module_get },
    { HTTP_PUT,    "/devices/{id}/modules/{mid}", HUB_AUTH_OWN, R_REGISTRY_WRITE, BODY, module_put },
    { HTTP_DELETE, "/devices/{id}/modules/{mid}", HUB_AUTH_OWN, R_REGISTRY_WRITE, 0,    module_delete },
};
/* clang-format on */
const size_t n_hub_module_routes = ARRAY_LEN(hub_module_routes);
