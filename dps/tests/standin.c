/* SPDX-License-Identifier: Apache-2.0 */
/* The hub of these tests: answers the provisioning plane and remembers what it was told. */
#include "dps/tests/standin.h"

#include <stdlib.h>

#include "wire/json.h"

#define MAX_DEVICES 1024u

struct device {
    char id[160];
    unsigned n;
    char *body;
};
static struct device devices[MAX_DEVICES];
static size_t n_devices;
static bool is_released;

static struct device *device_of(struct span id)
{
    for (size_t i = 0; i < n_devices; i++) {
        if (span_is(id, devices[i].id)) {
            return &devices[i];
        }
    }
    ASSERT(n_devices < MAX_DEVICES);
    struct device *d = &devices[n_devices++];
    ASSERT(span_to_cstr(id, d->id, sizeof(d->id)));
    return d;
}

static void put_device(struct http_rq *rq)
{
    struct span id = http_rq_param(rq, 0);
    struct device *d = device_of(id);
    unsigned status = 200;
    d->n++;
    free(d->body);
    d->body = span_dup(http_rq_body(rq));
    if (span_starts(id, SPAN_LIT("busy-")) && d->n <= 2) {
        status = 503;
    } else if (span_starts(id, SPAN_LIT("held-")) && !is_released) {
        status = 503;
    } else if (span_starts(id, SPAN_LIT("owned-"))) {
        status = 409;
    } else if (span_starts(id, SPAN_LIT("bad-")) || span_is(id, "link-test")) {
        status = 400;
    }
    http_answer(rq, status, "application/json", SPAN_LIT("{}"));
}

static void get_seen(struct http_rq *rq)
{
    struct buf b = BUF_INIT(1u << 20);
    const struct device *d = device_of(http_rq_param(rq, 0));
    buf_addf(&b, "{\"n\":%u,\"body\":%s}", d->n, d->body != NULL ? d->body : "null");
    http_answer(rq, 200, "application/json", buf_span(&b));
    buf_done(&b);
}

static void release(struct http_rq *rq)
{
    is_released = true;
    http_answer(rq, 200, "application/json", SPAN_LIT("{}"));
}

static void refuse(struct http_rq *rq, enum err e UNUSED, const struct err_info *info UNUSED)
{
    http_answer(rq, 404, "application/json", SPAN_LIT("{}"));
}

static enum err admit(struct http_rq *rq, struct err_info *info UNUSED)
{
    /* The service must come with a token of its connection string. */
    return http_rq_route(rq)->method != HTTP_PUT || span_starts(http_rq_header(rq, "Authorization"),
                                                                SPAN_LIT("SharedAccessSignature "))
               ? OK
               : E_UNAUTHORIZED;
}

/* clang-format off */
static const struct http_route routes[] = {
    { HTTP_PUT, "/provision/devices/{id}", AUTH_NONE, 0, 1u << 20, put_device },
    { HTTP_GET, "/seen/{id}",              AUTH_NONE, 0, 0,        get_seen },
    { HTTP_GET, "/release",                AUTH_NONE, 0, 0,        release },
};
static const struct right_def rights[] = { { "All", 1, 0, false } };
static const struct policy_def policies[] = { { "owner", "All" } };
/* clang-format on */
static const struct store_module module = {.name = "standin", .slot = 1};

const struct server_program standin_program = {
    .name = "standin",
    .config_path = "/nonexistent/standin.conf",
    .default_data_dir = "/nonexistent/standin",
    .conf_size = sizeof(struct server_conf),
    .module = &module,
    .rights = rights,
    .n_rights = ARRAY_LEN(rights),
    .admin_right = 1,
    .policies = policies,
    .n_policies = ARRAY_LEN(policies),
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .refuse = refuse,
    .admit = admit,
};
