/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_impl.h"

static const char *const method_names[HTTP_METHODS] = {
    [HTTP_GET] = "GET",       [HTTP_PUT] = "PUT",     [HTTP_POST] = "POST",
    [HTTP_DELETE] = "DELETE", [HTTP_PATCH] = "PATCH", [HTTP_HEAD] = "HEAD",
};

enum http_method http_method_of(struct span name)
{
    unsigned m = 0;
    while (m < HTTP_METHODS && !span_is(name, method_names[m])) {
        m++;
    }
    return (enum http_method)m;
}

/* docs/protocol/hub-service-rest.md 4: a client that cannot send PATCH sends POST with this header. */
static enum err override_method(struct http_rq *rq, struct err_info *info)
{
    struct span v = http_head_get(&rq->head, "X-HTTP-Method-Override");
    if (rq->method != HTTP_POST || v.p == NULL) {
        return OK;
    }
    if (!span_is(v, "PATCH")) {
        return err_set(info, E_ARG, "X-HTTP-Method-Override: only PATCH is offered");
    }
    rq->method = HTTP_PATCH;
    return OK;
}

static void allow(struct http_rq *rq, unsigned methods)
{
    char text[64];
    size_t n = 0;
    for (unsigned m = 0; m < HTTP_METHODS; m++) {
        if ((methods & 1u << m) != 0) {
            const char *name = method_names[m];
            ASSERT(n + strlen(name) + 3 < sizeof(text));
            if (n > 0) {
                text[n++] = ',';
                text[n++] = ' ';
            }
            memcpy(text + n, name, strlen(name));
            n += strlen(name);
        }
    }
    http_header(rq, "Allow", span_of(text, n));
}

enum err http_route_find(struct http_rq *rq, struct err_info *info)
{
    const struct http_conf *conf = &rq->server->conf;
    struct http_path path;
    enum err e;
    if ((e = override_method(rq, info)) != OK) {
        return e;
    }
    if ((e = http_path_read(rq->head.path, &rq->arena, &path)) != OK) {
        /* More segments than any route has. */
        return e == E_LIMIT ? E_NO_ROUTE : err_set(info, e, "path cannot be read");
    }
    unsigned best = 0, methods = 0;
    for (size_t i = 0; i < conf->n_routes; i++) {
        const struct http_route *r = &conf->routes[i];
        struct span params[HTTP_PARAMS] = {{NULL, 0}};
        unsigned rank = http_path_match(r->path, &path, params, HTTP_PARAMS);
        if (rank == 0) {
            continue;
        }
        methods |= 1u << r->method;
        if (r->method == rq->method && rank > best) {
            best = rank;
            rq->route = r;
            memcpy(rq->params, params, sizeof(params));
        }
    }
    if (best > 0) {
        return OK;
    }
    if (methods == 0) {
        return E_NO_ROUTE;
    }
    allow(rq, methods);
    return E_METHOD;
}
