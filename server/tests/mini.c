/* SPDX-License-Identifier: Apache-2.0 */
#include "server/tests/mini.h"

#include <pthread.h>
#include <stdlib.h>

#include "server/authn.h"
#include "server/metrics.h"
#include "server/trust.h"
#include "wire/json.h"

enum { METRIC_HELLO };
static const struct metric_def metric_defs[] = {
    [METRIC_HELLO] = {"berth_mini_hello_total", NULL, METRIC_COUNTER, "Greetings."},
};

#define MINI_WORKERS 64u
struct mini_worker {
    struct worker *w;
    unsigned policy_changes, trust_changes;
    unsigned links;
    struct stream *last;
};

static struct mini_worker *of_rq(struct http_rq *rq)
{
    return worker_user(worker_of_rq(rq));
}

/* --- face --------------------------------------------------------------------------------------- */

static const struct {
    enum err e;
    unsigned status, code;
} face[] = {
    {E_VERSION, 400, 400001},      {E_STATE, 400, 400003},     {E_ARG, 400, 400004},
    {E_ARG_NULL, 400, 400005},     {E_JSON, 400, 400006},      {E_UNAUTHORIZED, 401, 401002},
    {E_NOT_FOUND, 404, 404000},    {E_NO_ROUTE, 404, 404000},  {E_METHOD, 405, 405000},
    {E_EXISTS, 409, 409000},       {E_CONFLICT, 409, 409000},  {E_ETAG, 412, 412001},
    {E_ETAG_MISSING, 412, 412001}, {E_TOO_LARGE, 413, 413000}, {E_DRAINING, 503, 503001},
};

static void refuse(struct http_rq *rq, enum err e, const struct err_info *info)
{
    unsigned status = 500, code = 500000;
    for (size_t i = 0; i < ARRAY_LEN(face); i++) {
        if (face[i].e == e) {
            status = face[i].status;
            code = face[i].code;
        }
    }
    AUTO(buf_done) struct buf b = BUF_INIT(1024);
    buf_addf(&b, "{\"errorCode\":%u,\"kind\":\"%s\",\"message\":", code,
             err_name(info != NULL && info->err != OK ? info->err : e));
    json_write_str(&b, span_str(err_why(info, e)));
    buf_add_str(&b, "}");
    http_answer(rq, status, "application/json", buf_span(&b));
}

static enum err admit(struct http_rq *rq, struct err_info *info)
{
    const struct http_route *r = http_rq_route(rq);
    struct caller *c = arena_new(http_rq_arena(rq), struct caller);
    if (r->auth == AUTH_NONE) {
        return OK;
    }
    if (c == NULL) {
        return E_NOMEM;
    }
    http_rq_set_user(rq, c);
    return authn_service(worker_of_rq(rq), rq, r->right, c, info);
}

/* --- routes ------------------------------------------------------------------------------------- */

static void hello(struct http_rq *rq)
{
    metric_add(worker_of_rq(rq), METRIC_HELLO, 1);
    http_answer(rq, 200, "text/plain", SPAN_LIT("hello"));
}

static void whoami(struct http_rq *rq)
{
    const struct caller *c = http_rq_user(rq);
    http_answer(rq, 200, "text/plain", c->policy_name);
}

static void changes(struct http_rq *rq)
{
    const struct mini_worker *m = of_rq(rq);
    AUTO(buf_done) struct buf b = BUF_INIT(128);
    buf_addf(&b, "policy=%u trust=%u", m->policy_changes, m->trust_changes);
    http_answer(rq, 200, "text/plain", buf_span(&b));
}

struct waiter {
    struct timer t;
    struct mini_worker *m;
    handle rq;
};

static void wait_over(struct timer *t)
{
    struct waiter *x = CONTAINER_OF(t, struct waiter, t);
    struct loop *l = worker_loop(x->m->w);
    struct http_rq *rq = http_rq_of(l, x->rq);
    if (rq != NULL && !server_is_draining(worker_server(x->m->w))) {
        timer_set(l, &x->t, 5, wait_over);
        return;
    }
    if (rq != NULL && !http_is_answered(rq)) {
        http_answer(rq, 200, "text/plain", SPAN_LIT("waited"));
    }
    free(x);
}

/* Answers once the server drains. */
static void wait_drain(struct http_rq *rq)
{
    struct waiter *x = NEW(struct waiter);
    if (x == NULL) {
        refuse(rq, E_NOMEM, NULL);
        return;
    }
    x->m = of_rq(rq);
    x->rq = http_rq_handle(rq);
    timer_set(worker_loop(x->m->w), &x->t, 5, wait_over);
}

/* Never answers. */
static void wait_ever(struct http_rq *rq)
{
    (void)http_rq_handle(rq);
}

/* The last good path; requests of the tests come one by one, from any worker. */
static pthread_mutex_t path_lock = PTHREAD_MUTEX_INITIALIZER;
static struct chain_path good_path;

static void still(struct http_rq *rq)
{
    (void)pthread_mutex_lock(&path_lock);
    bool yes = trust_path_still_good(worker_of_rq(rq), &good_path);
    (void)pthread_mutex_unlock(&path_lock);
    http_answer(rq, 200, "text/plain", yes ? SPAN_LIT("still good") : SPAN_LIT("no more"));
}

/* The verdict on the client's certificate. */
static void chain(struct http_rq *rq)
{
    struct cert_peer peer;
    struct chain_path path;
    struct err_info info = {0};
    conn_peer_cert(http_rq_conn(rq), &peer);
    enum chain_verdict v = trust_verify(worker_of_rq(rq), &peer, &path, &info);
    AUTO(buf_done) struct buf b = BUF_INIT(512);
    if (v == CHAIN_OK) {
        (void)pthread_mutex_lock(&path_lock);
        good_path = path;
        (void)pthread_mutex_unlock(&path_lock);
    }
    buf_addf(&b, "%s epoch=%llu", chain_verdict_name(v),
             (unsigned long long)trust_epoch(worker_server(worker_of_rq(rq))));
    http_answer(rq, 200, "text/plain", buf_span(&b));
}

static const struct http_route routes[] = {
    {HTTP_GET, "/hello", AUTH_NONE, 0, 0, hello},
    {HTTP_GET, "/changes", AUTH_NONE, 0, 0, changes},
    {HTTP_GET, "/chain", AUTH_NONE, 0, 0, chain},
    {HTTP_GET, "/still", AUTH_NONE, 0, 0, still},
    {HTTP_GET, "/wait-drain", AUTH_NONE, 0, 0, wait_drain},
    {HTTP_GET, "/wait-ever", AUTH_NONE, 0, 0, wait_ever},
    {HTTP_GET, "/whoami", AUTH_SERVICE, 0, 0, whoami},
    {HTTP_GET, "/things/{id}", AUTH_SERVICE, MINI_READ, 0, whoami},
    {HTTP_PUT, "/things/{id}", AUTH_SERVICE, MINI_WRITE, 1024, whoami},
    {HTTP_GET, "/devices/{id}", AUTH_SERVICE, MINI_DEVICE, 0, whoami},
};

/* --- an echo in place of MQTT --------------------------------------------------------------------- */

static size_t echo_bytes(struct stream *s, void *arg UNUSED, struct span in)
{
    stream_write(s, in);
    return in.n;
}

static void echo_close(struct stream *s UNUSED, void *arg, enum err why UNUSED)
{
    struct mini_worker *m = arg;
    m->links--;
}

static const struct stream_handler echo = {
    .name = "echo",
    .on_bytes = echo_bytes,
    .on_close = echo_close,
};

/* A link holds the drain until it goes or the time is over. */
static void on_mqtt(struct worker *w, struct stream *s)
{
    struct mini_worker *m = worker_user(w);
    m->links++;
    m->last = s;
    stream_handle(s, &echo, m);
}

/* --- life ----------------------------------------------------------------------------------------- */

static enum err init(struct server *s, struct err_info *info UNUSED)
{
    metrics_define(s, metric_defs, ARRAY_LEN(metric_defs));
    struct mini_worker **all = mem_new(MINI_WORKERS * sizeof(struct mini_worker *));
    server_set_user(s, all);
    return all != NULL ? OK : E_NOMEM;
}

static enum err worker_init(struct worker *w, struct err_info *info UNUSED)
{
    struct mini_worker *m = NEW(struct mini_worker);
    if (m == NULL) {
        return E_NOMEM;
    }
    struct mini_worker **all = server_user(worker_server(w));
    m->w = w;
    all[worker_index(w)] = m;
    worker_set_user(w, m);
    return OK;
}

static bool worker_busy(struct worker *w)
{
    const struct mini_worker *m = worker_user(w);
    return m->links != 0;
}

/* The tests open one link at most; its on_close comes before the program's done. */
static void worker_done(struct worker *w)
{
    struct mini_worker *m = worker_user(w);
    if (m->links != 0) {
        stream_abort(m->last, E_DRAINING);
    }
}

static void done(struct server *s)
{
    struct mini_worker **all = server_user(s);
    for (unsigned i = 0; i < MINI_WORKERS; i++) {
        free(all[i]);
    }
    free(all);
}

static void on_policy_change(struct worker *w)
{
    struct mini_worker *m = worker_user(w);
    m->policy_changes++;
}

static void on_trust_change(struct worker *w)
{
    struct mini_worker *m = worker_user(w);
    m->trust_changes++;
}

static enum err cert_in_use(struct store_tx *tx UNUSED, struct span name)
{
    return span_starts_nocase(name, SPAN_LIT("used")) ? E_CONFLICT : OK;
}

static enum err init_names(struct server *s UNUSED, struct buf *json, struct err_info *info UNUSED)
{
    buf_add_str(json, ",\"idScope\":\"0ne0000TEST\"");
    return OK;
}

static const struct right_def rights[] = {
    {"Read", MINI_READ, 0, false},
    {"Write", MINI_WRITE, MINI_READ, false},
    {"Device", MINI_DEVICE, 0, false},
    {"MiniConfig", MINI_ADMIN, 0, true},
};

static const struct policy_def policies[] = {
    {"owner", "Read, Write, Device, MiniConfig"},
    {"service", "Read"},
    {"device", "Device"},
};

static const char *const migrations[] = {"CREATE TABLE mini (id INTEGER PRIMARY KEY) STRICT"};
static const char *const sql[] = {"SELECT count(*) FROM mini"};
static const struct store_module module = {"mini",        1, migrations, ARRAY_LEN(migrations), sql,
                                           ARRAY_LEN(sql)};

const struct server_program mini_program = {
    .name = "berth-mini",
    .config_path = "/nonexistent/berth-mini.conf",
    .default_data_dir = "/nonexistent/berth-mini",
    .conf_size = sizeof(struct server_conf),
    .module = &module,
    .rights = rights,
    .n_rights = ARRAY_LEN(rights),
    .admin_right = MINI_ADMIN,
    .policies = policies,
    .n_policies = ARRAY_LEN(policies),
    .routes = routes,
    .n_routes = ARRAY_LEN(routes),
    .refuse = refuse,
    .admit = admit,
    .on_mqtt = on_mqtt,
    .init = init,
    .worker_init = worker_init,
    .worker_busy = worker_busy,
    .worker_done = worker_done,
    .done = done,
    .on_policy_change = on_policy_change,
    .on_trust_change = on_trust_change,
    .cert_in_use = cert_in_use,
    .init_names = init_names,
};
