/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/http_provision.h"

#include "hub/provision.h"
#include "server/authn.h"

enum err hub_provision_admit(struct http_rq *rq, struct err_info *info)
{
    bool found;
    struct span v = http_rq_query(rq, "api-version", &found);
    if (!span_is(v, SERVER_ADMIN_VERSION)) {
        return err_set(info, E_VERSION, "api-version \"%.*s\"", SPAN_ARG(span_sub(v, 0, 32)));
    }
    struct caller caller;
    enum err e = authn_service(worker_of_rq(rq), rq, 0, &caller, info);
    if (e != OK) {
        return e;
    }
    const uint32_t both = R_REGISTRY_WRITE | R_SERVICE_CONNECT, has = caller.policy.rights;
    if ((has & R_PROVISION) == 0 && (has & both) != both) {
        (void)err_set(info, E_OWNED, "Authorization rule '%.*s' does not allow access for '%.*s'",
                      SPAN_ARG(caller.policy_name),
                      SPAN_ARG(span_sub(http_rq_raw_path(rq), 0, 200)));
        return E_UNAUTHORIZED; /* the kind in info words the answer: server/authn.h */
    }
    return OK;
}

static void done(void *user, uint64_t tag, enum err result, const struct provision_result *r,
                 const struct err_info *info)
{
    struct http_rq *rq = http_rq_of(user, tag);
    if (rq == NULL) {
        return; /* the caller left; what was submitted is done, and repeating it is safe */
    }
    if (result != OK) {
        hub_refuse(rq, result, info);
        return;
    }
    if (http_rq_method(rq) == HTTP_DELETE) {
        hub_answer_none(rq);
        return;
    }
    char etag[REGISTRY_ETAG_SIZE];
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_HTTP_BODY_REGISTRY);
    registry_etag_text(r->etag, etag);
    buf_add_str(&b, "{\"deviceId\":");
    json_write_str(&b, r->id);
    buf_addf(&b,
             ",\"generationId\":\"%.*s\",\"etag\":\"%s\",\"created\":%s,\"status\":\"%s\","
             "\"frozen\":%s}",
             SPAN_ARG(r->generation_id), etag, r->was_created ? "true" : "false",
             r->is_enabled ? "enabled" : "disabled", r->is_frozen ? "true" : "false");
    if (buf_err(&b) != OK) {
        hub_refuse(rq, buf_err(&b), NULL);
    } else {
        hub_answer_json(rq, 200, span_str(etag), buf_span(&b));
    }
}

static enum err read_body(struct http_rq *rq, struct json **ret, struct err_info *info)
{
    if (body_is_blank(http_rq_body(rq))) {
        return err_set(info, E_ARG_NULL, "body is empty");
    }
    return json_read(http_rq_body(rq), LIMIT_PROVISION_BODY, ret, info);
}

static void put_or_patch(struct http_rq *rq)
{
    struct err_info info = {0};
    struct json *body = NULL;
    enum err e = read_body(rq, &body, &info);
    if (e == OK) {
        e = (http_rq_method(rq) == HTTP_PUT ? provision_put_begin : provision_patch_begin)(
            worker_of_rq(rq), http_rq_param(rq, 0), body, done, http_rq_loop(rq),
            http_rq_handle(rq), &info);
    }
    if (e != OK) {
        hub_refuse(rq, e, &info);
    }
}

static void get(struct http_rq *rq)
{
    struct err_info info = {0};
    bool found;
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_HUB_WORK);
    enum err e = provision_read(worker_of_rq(rq), http_rq_param(rq, 0),
                                http_rq_query(rq, "owner", &found), &b, &info);
    if (e != OK) {
        hub_refuse(rq, e, &info);
    } else {
        hub_answer_json(rq, 200, SPAN_NONE, buf_span(&b));
    }
}

static void delete (struct http_rq *rq)
{
    struct err_info info = {0};
    bool found;
    int64_t sequence = 0;
    struct span text = http_rq_query(rq, "sequence", &found);
    enum err e = found && (!span_to_i64(text, &sequence) || sequence < 1)
                     ? err_set(&info, E_ARG, "sequence is not a positive number")
                     : OK;
    if (e == OK) {
        e = provision_delete_begin(worker_of_rq(rq), http_rq_param(rq, 0),
                                   http_rq_query(rq, "owner", &found), sequence, done,
                                   http_rq_loop(rq), http_rq_handle(rq), &info);
    }
    if (e != OK) {
        hub_refuse(rq, e, &info);
    }
}

/* clang-format off */
const struct http_route hub_provision_routes[] = {
    { HTTP_POST,   "/provision/devices",      HUB_AUTH_PROVISION, R_PROVISION, LIMIT_PROVISION_BODY,     hub_provision_many },
    { HTTP_PUT,    "/provision/devices/{id}", HUB_AUTH_PROVISION, R_PROVISION, LIMIT_PROVISION_BODY,     put_or_patch },
    { HTTP_PATCH,  "/provision/devices/{id}", HUB_AUTH_PROVISION, R_PROVISION, LIMIT_HTTP_BODY_REGISTRY, put_or_patch },
    { HTTP_GET,    "/provision/devices/{id}", HUB_AUTH_PROVISION, R_PROVISION, 0,                        get },
    { HTTP_DELETE, "/provision/devices/{id}", HUB_AUTH_PROVISION, R_PROVISION, 0,                        delete },
};
/* clang-format on */
const size_t n_hub_provision_routes = ARRAY_LEN(hub_provision_routes);
