/* SPDX-License-Identifier: Apache-2.0 */
/* The hub of these tests: answers the provisioning plane and remembers what it was told. */
#include "dps/tests/standin.h"

#include <stdlib.h>

#include "wire/json.h"

#define MAX_DEVICES 1024u

struct device {
    char id[160];
    unsigned n, n_patched;
    char *body, *patched;
};
static struct device devices[MAX_DEVICES];
static size_t n_devices;
static bool is_released, is_unstalled;
static size_t most_at_once; /* devices in one request */

static const struct span stall = {(const uint8_t *)"stall-", 6};
static struct waiting {
    struct loop *loop;
    handle rq;
    unsigned status;
    char *body;
} waiting[64];
static size_t n_waiting;

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

/* What a PUT of it is told. */
static unsigned decide(struct span id, struct span body)
{
    struct device *d = device_of(id);
    d->n++;
    free(d->body);
    d->body = span_dup(body);
    if (span_starts(id, stall)) {
        id = span_from(id, stall.n);
    }
    if (span_starts(id, SPAN_LIT("busy-")) && d->n <= 2) {
        return 503;
    }
    if (span_starts(id, SPAN_LIT("held-")) && !is_released) {
        return 503;
    }
    if (span_starts(id, SPAN_LIT("owned-"))) {
        return 409;
    }
    return span_starts(id, SPAN_LIT("bad-")) || span_is(id, "link-test") ? 400 : 200;
}

static void answer(struct http_rq *rq, unsigned status, struct span body, bool stalls)
{
    if (!stalls || is_unstalled || n_waiting == ARRAY_LEN(waiting)) {
        http_answer(rq, status, "application/json", body);
        return;
    }
    waiting[n_waiting++] =
        (struct waiting){http_rq_loop(rq), http_rq_handle(rq), status, span_dup(body)};
}

static void put_device(struct http_rq *rq)
{
    struct span id = http_rq_param(rq, 0);
    answer(rq, decide(id, http_rq_body(rq)), SPAN_LIT("{}"), span_starts(id, stall));
}

/* As of a hub that has made nothing; the first one of "bad-late-..." gets lost. */
static void patch_device(struct http_rq *rq)
{
    struct span id = http_rq_param(rq, 0);
    struct device *d = device_of(id);
    d->n_patched++;
    free(d->patched);
    d->patched = span_dup(http_rq_body(rq));
    bool is_lost = span_starts(id, SPAN_LIT("bad-late-")) && d->n_patched == 1;
    http_answer(rq, is_lost ? 503 : 404, "application/json",
                SPAN_LIT("{\"Message\":\"ErrorCode:DeviceNotFound;\"}"));
}

static void put_devices(struct http_rq *rq)
{
    AUTO(json_free_p) struct json *body = NULL;
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 16), text = BUF_INIT(1u << 18);
    struct json *list = NULL;
    unsigned status = 200;
    bool stalls = false, is_garbled = false;
    ASSERT(json_read_object(http_rq_body(rq), 1u << 20, &body, NULL) == OK);
    ASSERT(json_get_array(body, "devices", JSON_F_NEED, &list, NULL) == OK);
    for (size_t i = 0; i < json_count(list); i++) {
        struct span id = json_str(json_get(json_at(list, i), "deviceId"));
        stalls = stalls || span_starts(id, stall);
        is_garbled = is_garbled || span_starts(id, SPAN_LIT("stall-garble-"));
        status = span_starts(id, SPAN_LIT("stall-poison-")) ? 400 : status;
    }
    buf_add_str(&b, "{\"results\":[");
    for (size_t i = 0; status == 200 && !is_garbled && i < json_count(list); i++) {
        const struct json *d = json_at(list, i);
        buf_reset(&text);
        json_write(&text, d);
        buf_addf(&b, "%s{\"status\":%u}", i != 0 ? "," : "",
                 decide(json_str(json_get(d, "deviceId")), buf_span(&text)));
    }
    buf_add_str(&b, "]}");
    most_at_once = MAX(most_at_once, json_count(list));
    answer(rq, status, buf_span(&b), stalls);
}

static void unstall(struct http_rq *rq)
{
    is_unstalled = true;
    while (n_waiting > 0) {
        struct waiting *w = &waiting[--n_waiting];
        struct http_rq *other = http_rq_of(w->loop, w->rq);
        if (other != NULL) {
            http_answer(other, w->status, "application/json", span_str(w->body));
        }
        free(w->body);
    }
    http_answer(rq, 200, "application/json", SPAN_LIT("{}"));
}

static void get_most(struct http_rq *rq)
{
    struct buf b = BUF_INIT(100);
    buf_addf(&b, "{\"atOnce\":\"%zu\"}", most_at_once);
    http_answer(rq, 200, "application/json", buf_span(&b));
    buf_done(&b);
}

static void get_seen(struct http_rq *rq)
{
    struct buf b = BUF_INIT(1u << 20);
    const struct device *d = device_of(http_rq_param(rq, 0));
    buf_addf(&b, "{\"n\":%u,\"body\":%s,\"patches\":%u,\"patch\":%s}", d->n,
             d->body != NULL ? d->body : "null", d->n_patched,
             d->patched != NULL ? d->patched : "null");
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
    return http_rq_route(rq)->method == HTTP_GET || span_starts(http_rq_header(rq, "Authorization"),
                                                                SPAN_LIT("SharedAccessSignature "))
               ? OK
               : E_UNAUTHORIZED;
}

/* clang-format off */
static const struct http_route routes[] = {
    { HTTP_PUT, "/provision/devices/{id}", AUTH_NONE, 0, 1u << 20, put_device },
    { HTTP_PATCH, "/provision/devices/{id}", AUTH_NONE, 0, 1u << 20, patch_device },
    { HTTP_POST, "/provision/devices",     AUTH_NONE, 0, 1u << 20, put_devices },
    { HTTP_GET, "/unstall",                AUTH_NONE, 0, 0,        unstall },
    { HTTP_GET, "/most",                   AUTH_NONE, 0, 0,        get_most },
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
