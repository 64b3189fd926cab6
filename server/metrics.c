/* SPDX-License-Identifier: Apache-2.0 */
#include "server/metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "server/server_int.h"

#define METRICS_TEXT_MAX (1u << 20)
#define STUCK_AFTER_MS 10000u
#define METRICS_MAX_CONNECTIONS 64u

struct metrics {
    struct metric_def defs[SERVER_MAX_METRICS];
    size_t n_defs;
    metrics_extra_fn extra[SERVER_MAX_EXTRA];
    size_t n_extra;
    struct http_server *http;
    struct listener *listener;
    char address[80]; /* as bound */
};

/* --- defining and counting ------------------------------------------------------------------------ */

void metrics_define(struct server *s, const struct metric_def *defs, size_t n)
{
    struct metrics *m = s->metrics;
    ASSERT(m->n_defs == 0 && n <= SERVER_MAX_METRICS);
    memcpy(m->defs, defs, n * sizeof(*defs));
    m->n_defs = n;
}

void metric_add(struct worker *w, unsigned id, int64_t n)
{
    ASSERT(id < w->s->metrics->n_defs);
    /* One writer: no locked instruction is needed, only that a reader sees whole values. */
    int64_t v = atomic_load_explicit(&w->counters[id], memory_order_relaxed);
    atomic_store_explicit(&w->counters[id], v + n, memory_order_relaxed);
}

void metrics_extra(struct server *s, metrics_extra_fn fn)
{
    struct metrics *m = s->metrics;
    ASSERT(m->n_extra < SERVER_MAX_EXTRA);
    m->extra[m->n_extra++] = fn;
}

/* --- text ------------------------------------------------------------------------------------------- */

static void add_head(struct buf *b, const char *name, enum metric_type type, const char *help)
{
    if (help != NULL) {
        buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
                 type == METRIC_COUNTER ? "counter" : "gauge");
    }
}

static void add_name(struct buf *b, const char *name, const char *labels)
{
    if (labels != NULL) {
        buf_addf(b, "%s{%s} ", name, labels);
    } else {
        buf_addf(b, "%s ", name);
    }
}

void metrics_addf(struct buf *text, const char *name, enum metric_type type, const char *help,
                  const char *labels, uint64_t value)
{
    add_head(text, name, type, help);
    add_name(text, name, labels);
    buf_addf(text, "%llu\n", (unsigned long long)value);
}

static void add_program(struct server *s, struct buf *b)
{
    const struct metrics *m = s->metrics;
    for (size_t i = 0; i < m->n_defs; i++) {
        const struct metric_def *d = &m->defs[i];
        int64_t sum = 0;
        for (unsigned w = 0; w < s->n_workers; w++) {
            sum += atomic_load_explicit(&s->workers[w]->counters[i], memory_order_relaxed);
        }
        /* Rows of one name stand together; help is told once. */
        bool is_again = i > 0 && strcmp(m->defs[i - 1].name, d->name) == 0;
        add_head(b, d->name, d->type, is_again ? NULL : d->help);
        add_name(b, d->name, d->labels);
        buf_addf(b, "%lld\n", (long long)sum);
    }
}

#define STAT(member) offsetof(struct worker_stats, member)
static const struct shared_row {
    const char *name;
    const char *labels;
    enum metric_type type;
    size_t offset;
    const char *help; /* NULL: as the row before */
} shared_rows[] = {
    /* clang-format off */
    { "berth_connections_accepted_total", NULL, METRIC_COUNTER, STAT(accepted), "TCP connections accepted." },
    { "berth_connections_open", NULL, METRIC_GAUGE, STAT(conns_open), "TCP connections open now." },
    { "berth_connections_unauthenticated", NULL, METRIC_GAUGE, STAT(conns_unauthenticated), "Of these, not authenticated yet." },
    { "berth_connections_waiting", NULL, METRIC_GAUGE, STAT(conns_waiting), "Of those open, waiting for their turn to begin." },
    { "berth_connections_refused_total", NULL, METRIC_COUNTER, STAT(refused_budget), "Refused for a full budget of unauthenticated connections." },
    { "berth_tls_handshakes_total", "result=\"ok\"", METRIC_COUNTER, STAT(handshake_ok), "TLS handshakes by result." },
    { "berth_tls_handshakes_total", "result=\"failed\"", METRIC_COUNTER, STAT(handshake_failed), NULL },
    { "berth_tls_handshakes_total", "result=\"timeout\"", METRIC_COUNTER, STAT(handshake_timeout), NULL },
    { "berth_timers", NULL, METRIC_GAUGE, STAT(timers), "Deadlines that run now, of connections and of the server's own work." },
    { "berth_http_requests_total", NULL, METRIC_COUNTER, STAT(http_requests), "HTTP requests." },
    { "berth_http_refused_total", NULL, METRIC_COUNTER, STAT(http_refused), "HTTP requests refused before their handler." },
    { "berth_http_bad_heads_total", NULL, METRIC_COUNTER, STAT(http_bad_heads), "Ill-formed HTTP heads." },
    { "berth_http_timeouts_total", NULL, METRIC_COUNTER, STAT(http_timeouts), "HTTP requests ended by a deadline." },
    { "berth_http_open", NULL, METRIC_GAUGE, STAT(http_open), "HTTP connections open now." },
    { "berth_http_responses_total", "class=\"2xx\"", METRIC_COUNTER, STAT(http_status[2]), "HTTP answers by class." },
    { "berth_http_responses_total", "class=\"3xx\"", METRIC_COUNTER, STAT(http_status[3]), NULL },
    { "berth_http_responses_total", "class=\"4xx\"", METRIC_COUNTER, STAT(http_status[4]), NULL },
    { "berth_http_responses_total", "class=\"5xx\"", METRIC_COUNTER, STAT(http_status[5]), NULL },
    /* clang-format on */
};

static void add_shared(struct server *s, struct buf *b)
{
    for (size_t i = 0; i < ARRAY_LEN(shared_rows); i++) {
        const struct shared_row *r = &shared_rows[i];
        uint64_t sum = 0;
        for (unsigned w = 0; w < s->n_workers; w++) {
            char *base = (char *)&s->workers[w]->stats;
            sum += atomic_load_explicit((_Atomic uint64_t *)(void *)(base + r->offset),
                                        memory_order_relaxed);
        }
        metrics_addf(b, r->name, r->type, r->help, r->labels, sum);
    }
}

static void add_store(struct server *s, struct buf *b)
{
    struct store_stats st;
    store_stats(s->store, &st);
    metrics_addf(b, "berth_store_operations_total", METRIC_COUNTER, "Writes to the registry.", NULL,
                 st.ops);
    metrics_addf(b, "berth_store_commits_total", METRIC_COUNTER, "Commits of the registry.", NULL,
                 st.commits);
    metrics_addf(b, "berth_store_failed_commits_total", METRIC_COUNTER, "Commits that failed.",
                 NULL, st.failed_commits);
    metrics_addf(b, "berth_store_queue_operations", METRIC_GAUGE, "Writes that wait.", NULL,
                 st.queued_ops);
    metrics_addf(b, "berth_store_queue_bytes", METRIC_GAUGE, "Their memory.", NULL,
                 st.queued_bytes);
    metrics_addf(b, "berth_store_low_disk", METRIC_GAUGE, "1: only revocations are written.", NULL,
                 st.low_disk);
    metrics_addf(b, "berth_clock_steady", METRIC_GAUGE, "0: the wall clock jumped.", NULL,
                 server_clock_is_steady(s));
}

static void answer_metrics(struct http_rq *rq)
{
    AUTO(buf_done) struct buf b = BUF_INIT(METRICS_TEXT_MAX);
    struct server *s = http_rq_server_arg(rq);
    add_shared(s, &b);
    add_store(s, &b);
    add_program(s, &b);
    expiry_metrics(s, &b);
    for (size_t i = 0; i < s->metrics->n_extra; i++) {
        s->metrics->extra[i](s, &b);
    }
    if (buf_err(&b) != OK) {
        http_answer(rq, 500, "text/plain", span_str(err_text(buf_err(&b))));
        return;
    }
    http_answer(rq, 200, "text/plain; version=0.0.4; charset=utf-8", buf_span(&b));
}

/* --- health ------------------------------------------------------------------------------------------ */

/* NULL when well, else what is wrong. */
static const char *ailment(struct server *s, struct err_info *info)
{
    struct store_stats st;
    uint64_t now_ms = clock_mono_ms(s->clock);
    for (unsigned i = 0; i < s->n_workers; i++) {
        uint64_t seen = atomic_load(&s->workers[i]->stats.turned_ms);
        if (now_ms > seen + STUCK_AFTER_MS) {
            return "a worker does not turn";
        }
    }
    store_stats(s->store, &st);
    if (st.low_disk) {
        return "the disk is nearly full";
    }
    if (st.queued_ops >= LIMIT_STORE_QUEUE_OPS || st.queued_bytes >= LIMIT_STORE_QUEUE_BYTES) {
        return "the store is overloaded";
    }
    if (s->program->is_healthy != NULL && !s->program->is_healthy(s, info)) {
        return info->why[0] != '\0' ? info->why : "a part of the program does not accept work";
    }
    return NULL;
}

static void answer_health(struct http_rq *rq, const char *wrong)
{
    char text[400];
    (void)snprintf(text, sizeof(text), "%s\n", wrong != NULL ? wrong : "ok");
    http_answer(rq, wrong != NULL ? 503 : 200, "text/plain; charset=utf-8", span_str(text));
}

static void answer_healthz(struct http_rq *rq)
{
    struct err_info info = {0};
    answer_health(rq, ailment(http_rq_server_arg(rq), &info));
}

static void answer_readyz(struct http_rq *rq)
{
    struct server *s = http_rq_server_arg(rq);
    struct err_info info = {0};
    const char *wrong = server_is_draining(s)        ? "draining"
                        : !atomic_load(&s->is_ready) ? "starting"
                                                     : ailment(s, &info);
    answer_health(rq, wrong);
}

/* --- the listener -------------------------------------------------------------------------------------- */

/* Loopback by configuration, and nothing secret is told. */
static enum err admit(struct http_rq *rq UNUSED, struct err_info *info UNUSED)
{
    return OK;
}

static void refuse(struct http_rq *rq, enum err e, const struct err_info *info UNUSED)
{
    unsigned status = e == E_NO_ROUTE ? 404 : e == E_METHOD ? 405 : e == E_DRAINING ? 503 : 400;
    http_answer(rq, status, "text/plain; charset=utf-8", span_str(err_text(e)));
}

static void on_open(struct conn *c, void *arg)
{
    struct server *s = arg;
    conn_mark_authenticated(c); /* loopback by configuration; nothing secret is told */
    if (s->metrics->http == NULL || http_attach(s->metrics->http, conn_stream(c)) != OK) {
        server_refuse_stream(conn_stream(c), E_BUSY);
    }
}

static enum err split_address(const char *text, char host[64], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    ASSERT(colon != NULL && span_to_u64(span_str(colon + 1), &port)); /* checked with the file */
    struct span h = span_of(text, (size_t)(colon - text));
    if (h.n > 2 && h.p[0] == '[') {
        h = span_sub(h, 1, h.n - 2);
    }
    *ret_port = (uint16_t)port;
    return span_to_cstr(h, host, 64) ? OK : E_CONFIG;
}

enum err metrics_listen(struct server *s, struct err_info *info)
{
    static const struct http_route routes[] = {
        {HTTP_GET, "/metrics", AUTH_NONE, 0, 0, answer_metrics},
        {HTTP_GET, "/healthz", AUTH_NONE, 0, 0, answer_healthz},
        {HTTP_GET, "/readyz", AUTH_NONE, 0, 0, answer_readyz},
    };
    struct metrics *m = s->metrics;
    const char *listen = server_base_conf(s)->metrics_listen;
    char host[64];
    uint16_t port;
    enum err e;
    if (listen == NULL || listen[0] == '\0') {
        return OK;
    }
    const struct http_conf hc = {.loop = s->loop,
                                 .routes = routes,
                                 .n_routes = ARRAY_LEN(routes),
                                 .hooks = {.admit = admit, .refuse = refuse, .arg = s},
                                 .max_connections = METRICS_MAX_CONNECTIONS};
    if ((e = split_address(listen, host, &port)) != OK ||
        (e = http_server_new(&hc, &m->http, info)) != OK) {
        return e;
    }
    const struct listener_conf lc = {.address = host,
                                     .port = port,
                                     .on_open = on_open,
                                     .arg = s,
                                     .max_unauthenticated = METRICS_MAX_CONNECTIONS};
    if ((e = listener_new(s->loop, &lc, &m->listener, info)) != OK) {
        return err_wrap(info, e, "metrics");
    }
    (void)snprintf(m->address, sizeof(m->address), strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u",
                   host, (unsigned)listener_port(m->listener));
    return OK;
}

const char *metrics_address(const struct server *s)
{
    return s->metrics->address;
}

void metrics_stop(struct server *s)
{
    struct metrics *m = s->metrics;
    if (m == NULL) {
        return;
    }
    if (m->listener != NULL) {
        listener_free(m->listener);
        m->listener = NULL;
    }
    if (m->http != NULL) {
        http_server_free(m->http);
        m->http = NULL;
    }
}

enum err metrics_new(struct server *s UNUSED, struct metrics **ret)
{
    struct metrics *m = NEW(struct metrics);
    if (m == NULL) {
        return E_NOMEM;
    }
    *ret = m;
    return OK;
}

void metrics_free(struct metrics *m)
{
    free(m);
}

/* --- what a worker tells ------------------------------------------------------------------------------- */

static void put(_Atomic uint64_t *to, uint64_t v)
{
    atomic_store_explicit(to, v, memory_order_relaxed);
}

static void publish_http(struct worker *w)
{
    struct http_stats h;
    http_stats(w->http, &h);
    put(&w->stats.http_requests, h.requests);
    put(&w->stats.http_refused, h.refused);
    put(&w->stats.http_open, h.open);
    put(&w->stats.http_bad_heads, h.bad_heads);
    put(&w->stats.http_timeouts, h.timeouts);
    for (size_t i = 0; i < ARRAY_LEN(h.by_status); i++) {
        put(&w->stats.http_status[i], h.by_status[i]);
    }
}

void worker_publish_stats(struct worker *w)
{
    struct listener_stats sum = {0};
    atomic_store(&w->stats.turned_ms, clock_mono_ms(w->s->clock));
    put(&w->stats.timers, loop_timers(w->loop));
    if (w->http != NULL) {
        publish_http(w);
    }
    if (w->n_listeners == 0) {
        return; /* closed: the last figures stay */
    }
    for (size_t i = 0; i < w->n_listeners; i++) {
        struct listener_stats st;
        listener_stats(w->listeners[i], &st);
        sum.accepted += st.accepted;
        sum.handshake_ok += st.handshake_ok;
        sum.handshake_failed += st.handshake_failed;
        sum.handshake_timeout += st.handshake_timeout;
        sum.refused_budget += st.refused_budget;
        sum.open += st.open;
        sum.unauthenticated += st.unauthenticated;
        sum.waiting += st.waiting;
    }
    put(&w->stats.accepted, sum.accepted);
    put(&w->stats.handshake_ok, sum.handshake_ok);
    put(&w->stats.handshake_failed, sum.handshake_failed);
    put(&w->stats.handshake_timeout, sum.handshake_timeout);
    put(&w->stats.refused_budget, sum.refused_budget);
    put(&w->stats.conns_open, sum.open);
    put(&w->stats.conns_unauthenticated, sum.unauthenticated);
    put(&w->stats.conns_waiting, sum.waiting);
}
