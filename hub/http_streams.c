/* SPDX-License-Identifier: Apache-2.0 */
/* The REST face of device streams: the POST of a service, and the operator's list. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/text.h"
#include "hub/streams.h"
#include "hub/streams_int.h"
#include "server/admin.h"
#include "wire/json.h"

#define LIST_MAX (4u << 20)
#define CONNECT_DEFAULT_MS 0u
#define RESPONSE_DEFAULT_MS 60000u
#define RESPONSE_MIN_MS 1000u

/* --- POST /twins/{id}[/modules/{mid}]/streams/{name} ---------------------------------------------------- */

static enum err read_times(struct http_rq *rq, struct stream_request *r, struct err_info *info)
{
    static const char connect[] = "iothub-streaming-connect-timeout-in-seconds";
    static const char response[] = "iothub-streaming-response-timeout-in-seconds";
    struct span v = http_rq_header(rq, connect);
    r->connect_ms = CONNECT_DEFAULT_MS;
    r->response_ms = RESPONSE_DEFAULT_MS;
    if (v.p != NULL && !stream_seconds_read(v, LIMIT_STREAM_WAIT_S, &r->connect_ms)) {
        return err_set(info, E_ARG, "%s: 0 to %u seconds", connect, LIMIT_STREAM_WAIT_S);
    }
    v = http_rq_header(rq, response);
    if (v.p != NULL && (!stream_seconds_read(v, LIMIT_STREAM_WAIT_S, &r->response_ms) ||
                        r->response_ms < RESPONSE_MIN_MS)) {
        return err_set(info, E_ARG, "%s: 1 to %u seconds", response, LIMIT_STREAM_WAIT_S);
    }
    return OK;
}

bool stream_proto_ok(struct span proto)
{
    for (size_t i = 0; i < proto.n; i++) {
        uint8_t c = proto.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
              c == '.' || c == '-' || c == ',')) {
            return false;
        }
    }
    return proto.n < STREAM_PROTO_SIZE;
}

static enum err find_target(struct http_rq *rq, struct span module_id, struct device *ret,
                            struct err_info *info)
{
    struct span id = http_rq_param(rq, 0);
    if (!id_device_ok(id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    if (module_id.n > 0 && !id_device_ok(module_id)) {
        return err_set(info, E_ID, "moduleId is not valid");
    }
    enum err e = registry_get_module(worker_of_rq(rq), http_rq_arena(rq), id, module_id, ret);
    if (e == E_NOT_FOUND || e == E_NO_MODULE) {
        return err_set(info, e, "%.*s", SPAN_ARG(e == E_NO_MODULE ? module_id : id));
    }
    if (e == OK && !ret->is_enabled) {
        return err_set(info, E_NOT_FOUND, "Device unavailable: device is disabled");
    }
    return e;
}

static void begin_to(struct http_rq *rq, struct span module_id, struct span name)
{
    struct err_info info = {0};
    struct device d;
    const struct caller *c = http_rq_user(rq);
    struct stream_request r = {.device = &d,
                               .name = name,
                               .policy = c->policy,
                               .policy_name = c->policy_name,
                               .proto = http_rq_header(rq, "berth-streaming-protocol")};
    enum err e = OK;
    if (!streams_are_on(hub_of(worker_of_rq(rq)))) {
        e = err_set(&info, E_UNSUPPORTED,
                    "device streams are switched off (streams.enabled in the configuration)");
    } else if (!stream_name_ok(r.name)) {
        e = err_set(&info, E_ARG,
                    "stream name: 1 to %u bytes of UTF-8 without control characters, '/', '+', '#'",
                    LIMIT_STREAM_NAME);
    }
    if (e == OK && !stream_proto_ok(r.proto)) {
        e = err_set(&info, E_ARG, "berth-streaming-protocol: words separated by commas");
    }
    if (e == OK && (e = read_times(rq, &r, &info)) == OK &&
        (e = find_target(rq, module_id, &d, &info)) == OK) {
        e = stream_begin(rq, &r, &info);
    }
    if (e == E_THROTTLED) {
        hub_refuse_code(rq, 429001, err_why(&info, e));
    } else if (e != OK) {
        hub_refuse(rq, e, &info);
    }
}

static void begin(struct http_rq *rq)
{
    begin_to(rq, SPAN_NONE, http_rq_param(rq, 1));
}

static void begin_module(struct http_rq *rq)
{
    begin_to(rq, http_rq_param(rq, 1), http_rq_param(rq, 2));
}

/* The name of a stream may not be empty: said as such, and not as an unknown path. */
static void begin_nameless(struct http_rq *rq)
{
    struct err_info info = {0};
    hub_refuse(rq, err_set(&info, E_ARG, "stream name is empty"), &info);
}

/* A plain GET of a gateway's path (device-streams.md 7). */
static void not_upgraded(struct http_rq *rq)
{
    struct err_info info = {0};
    hub_refuse(rq, err_set(&info, E_ARG, "this path takes WebSocket upgrades only"), &info);
}

/* --- GET /admin/streams --------------------------------------------------------------------------------- */

struct listing {
    struct worker_cast cast;
    struct msg msg;
    struct loop *home;
    handle rq;
    pthread_mutex_t lock;
    struct buf json; /* under the lock */
};

static void add_bridge(struct buf *j, const struct bridge *b)
{
    char began[TIME_ISO_SIZE];
    struct loop *l = worker_loop(b->w);
    time_iso7(loop_wall_us(l) - (int64_t)(loop_now_ms(l) - b->began_ms) * 1000, began);
    buf_addf(j, "%s{\"sid\":\"", j->p[j->n - 1] == '[' ? "" : ",");
    hex_add(j, span_of(b->sid, STREAM_SID), false);
    buf_add_str(j, "\",\"deviceId\":");
    json_write_str(j, span_str(b->device_id));
    buf_add_str(j, ",\"moduleId\":");
    if (b->module_id[0] != '\0') {
        json_write_str(j, span_str(b->module_id));
    } else {
        buf_add_str(j, "null");
    }
    buf_add_str(j, ",\"name\":");
    json_write_str(j, span_str(b->name));
    buf_add_str(j, ",\"policy\":");
    json_write_str(j, span_str(b->who));
    buf_addf(j,
             ",\"state\":\"%s\",\"createdTimeUtc\":\"%s\",\"bytesFromDevice\":%llu,"
             "\"bytesFromService\":%llu}",
             b->is_open                         ? "open"
             : b->is_accepted && b->has_verdict ? "accepted"
                                                : "pending",
             began, (unsigned long long)relay_bytes(b->relay, RELAY_DEVICE),
             (unsigned long long)relay_bytes(b->relay, RELAY_SERVICE));
}

static void list_here(struct worker *w, struct worker_cast *c)
{
    struct listing *l = CONTAINER_OF(c, struct listing, cast);
    (void)pthread_mutex_lock(&l->lock);
    LIST_EACH (n, &stream_worker_of(w)->all) {
        const struct bridge *b = LIST_OF(n, struct bridge, link);
        if (b->relay != NULL) {
            add_bridge(&l->json, b);
        }
    }
    (void)pthread_mutex_unlock(&l->lock);
}

static void list_home(struct msg *m)
{
    struct listing *l = CONTAINER_OF(m, struct listing, msg);
    struct http_rq *rq = http_rq_of(l->home, l->rq);
    if (rq != NULL) {
        buf_add_str(&l->json, "],\"nextLink\":null}");
        enum err e = buf_err(&l->json);
        if (e == OK) {
            admin_answer_json(rq, 200, 0, NULL, buf_span(&l->json));
        } else {
            admin_refuse(rq, e, NULL);
        }
    }
    buf_done(&l->json);
    (void)pthread_mutex_destroy(&l->lock);
    free(l);
}

/* After the last worker, on its thread. */
static void list_done(struct worker_cast *c)
{
    struct listing *l = CONTAINER_OF(c, struct listing, cast);
    l->msg.run = list_home;
    loop_post(l->home, &l->msg);
}

static void list(struct http_rq *rq)
{
    struct worker *w = worker_of_rq(rq);
    struct listing *l = NEW(struct listing);
    enum err e = E_NOMEM;
    if (l != NULL) {
        *l = (struct listing){.cast = {.fn = list_here, .free = list_done},
                              .home = worker_loop(w),
                              .rq = http_rq_handle(rq),
                              .json = BUF_INIT(LIST_MAX)};
        (void)pthread_mutex_init(&l->lock, NULL);
        buf_add_str(&l->json, "{\"value\":[");
        e = server_cast(worker_server(w), &l->cast);
    }
    if (e != OK) {
        if (l != NULL) {
            buf_done(&l->json);
            (void)pthread_mutex_destroy(&l->lock);
        }
        free(l);
        admin_refuse(rq, e, NULL);
    }
}

/* --- DELETE /admin/streams/{sid} --------------------------------------------------------------------------- */

struct killing {
    struct msg msg; /* to the owner and back */
    struct streams *st;
    struct worker *home;
    handle rq;
    uint8_t sid[STREAM_SID];
    bool was_there;
    char who[LIMIT_ADMIN_NAME + 1];
};

static void kill_home(struct msg *m)
{
    struct killing *k = CONTAINER_OF(m, struct killing, msg);
    struct http_rq *rq = http_rq_of(worker_loop(k->home), k->rq);
    if (rq != NULL && k->was_there) {
        admin_answer_none(rq);
    } else if (rq != NULL) {
        admin_refuse(rq, E_NOT_FOUND, NULL);
    }
    free(k);
}

static void kill_there(struct msg *m)
{
    struct killing *k = CONTAINER_OF(m, struct killing, msg);
    struct worker *w = server_worker(k->st->hub->server, stream_owner(k->st, k->sid));
    struct bridge *b = bridge_find(w, k->sid);
    if (b != NULL) {
        char act[96];
        k->was_there = true;
        (void)snprintf(act, sizeof(act), "DELETE /admin/streams/%02x%02x%02x...", k->sid[0],
                       k->sid[1], k->sid[2]);
        stream_audit(w, k->who, act, "OK");
        bridge_end(b, 1008, "Ended by the operator");
    }
    m->run = kill_home;
    loop_post(worker_loop(k->home), m);
}

static void kill_one(struct http_rq *rq)
{
    struct worker *w = worker_of_rq(rq);
    struct streams *st = streams_of(w);
    struct span text = http_rq_param(rq, 0);
    uint8_t sid[STREAM_SID];
    struct buf b = {.p = sid, .cap = sizeof(sid), .max = sizeof(sid)};
    if (text.n != 2u * STREAM_SID || hex_decode(text, &b) != OK) {
        admin_refuse(rq, E_NOT_FOUND, NULL);
        return;
    }
    struct killing *k = NEW(struct killing);
    if (k == NULL) {
        admin_refuse(rq, E_NOMEM, NULL);
        return;
    }
    k->msg.run = kill_there;
    k->st = st;
    k->home = w;
    k->rq = http_rq_handle(rq);
    memcpy(k->sid, sid, STREAM_SID);
    (void)span_to_cstr(span_sub(admin_caller(rq)->policy_name, 0, LIMIT_ADMIN_NAME), k->who,
                       sizeof(k->who));
    stream_post(st->hub, stream_owner(st, sid), &k->msg);
}

bool streams_is_request(const struct http_route *r)
{
    return r->handler == begin || r->handler == begin_module;
}

/* clang-format off */
const struct http_route hub_stream_routes[] = {
    { HTTP_POST,   "/twins/{id}/streams",                      AUTH_SERVICE, R_SERVICE_CONNECT, 0, begin_nameless },
    { HTTP_POST,   "/twins/{id}/streams/{name}",               AUTH_SERVICE, R_SERVICE_CONNECT, 0, begin },
    { HTTP_POST,   "/twins/{id}/modules/{mid}/streams",        AUTH_SERVICE, R_SERVICE_CONNECT, 0, begin_nameless },
    { HTTP_POST,   "/twins/{id}/modules/{mid}/streams/{name}", AUTH_SERVICE, R_SERVICE_CONNECT, 0, begin_module },
    { HTTP_GET,    "/bridges/ih/{hub}/d/{id}/sid/{sid}/r/{r}", AUTH_NONE,    0,                 0, not_upgraded },
    { HTTP_GET,    "/bridges/ih/{hub}/d/{id}/m/{mid}/sid/{sid}/r/{r}", AUTH_NONE, 0,            0, not_upgraded },
    { HTTP_GET,    "/admin/streams",                           AUTH_ADMIN,   0,                 0, list },
    { HTTP_DELETE, "/admin/streams/{sid}",                     AUTH_ADMIN,   0,                 0, kill_one },
};
/* clang-format on */
const size_t n_hub_stream_routes = ARRAY_LEN(hub_stream_routes);
