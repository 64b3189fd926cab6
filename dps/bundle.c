/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/bundle.h"

#include <stdlib.h>

#include "base/text.h"
#include "dps/hub_health.h"
#include "dps/hublink.h"
#include "server/authn.h"
#include "server/metrics.h"
#include "server/server.h"
#include "wire/json.h"

#define FRAME (sizeof("{\"devices\":[]}") + 1)

/* What waits for one hub. */
struct line {
    struct list link;
    struct bundles *all;
    char *host;
    struct list ready; /* jobs, by job.link */
    size_t n_ready;
    unsigned n_calls;
    bool is_late; /* what waits has waited enough */
    struct timer timer;
};

/* One request. */
struct call {
    struct egress_rq rq;
    struct line *line;
    struct list jobs;
    size_t n;
    struct buf url, body;
    char *token;
    const char *headers[2];
};

struct bundles {
    struct driver *d;
    struct dps_worker *dw;
    struct list lines;
    struct deferred turn; /* the end of the turn in which something became ready */
};

enum err bundles_new(struct driver *d, struct dps_worker *dw, struct bundles **ret)
{
    struct bundles *b = NEW(struct bundles);
    if (b == NULL) {
        return E_NOMEM;
    }
    b->d = d;
    b->dw = dw;
    list_init(&b->lines);
    *ret = b;
    return OK;
}

static struct loop *loop_of(const struct bundles *b)
{
    return worker_loop(b->dw->w);
}

static void line_free(struct line *l)
{
    timer_stop(loop_of(l->all), &l->timer);
    list_del(&l->link);
    free(l->host);
    free(l);
}

/* The loop is at its end: timers are its matter no more. */
void bundles_free(struct bundles *b)
{
    struct list *n;
    while (b != NULL && (n = list_pop(&b->lines)) != NULL) {
        free(LIST_OF(n, struct line, link)->host);
        free(LIST_OF(n, struct line, link));
    }
    free(b);
}

/* NULL: no memory. */
static struct line *line_of(struct bundles *b, struct span host)
{
    for (struct list *n = b->lines.next; n != &b->lines; n = n->next) {
        struct line *l = LIST_OF(n, struct line, link);
        if (span_is(host, l->host)) {
            return l;
        }
    }
    struct line *l = NEW(struct line);
    if (l == NULL || (l->host = span_dup(host)) == NULL) {
        free(l);
        return NULL;
    }
    l->all = b;
    list_init(&l->ready);
    list_add_tail(&b->lines, &l->link);
    return l;
}

/* --- the request ----------------------------------------------------------------------------------- */

static void call_free(struct call *c)
{
    if (c->body.p != NULL) {
        mem_wipe(c->body.p, c->body.cap); /* keys of devices */
    }
    buf_done(&c->body);
    buf_done(&c->url);
    buf_done(&c->rq.answer);
    if (c->token != NULL) {
        mem_wipe(c->token, strlen(c->token));
        free(c->token);
    }
    free(c);
}

static size_t bytes_of(const struct job *j)
{
    return j->body.n + j->row.op_device_id.n + sizeof(",{\"deviceId\":\"\",");
}

/* The next jobs that fit; the first always does. */
static void take_jobs(struct line *l, struct call *c)
{
    size_t bytes = FRAME;
    while (c->n < LIMIT_PROVISION_MANY && !list_empty(&l->ready)) {
        struct job *j = LIST_OF(l->ready.next, struct job, link);
        bytes += bytes_of(j);
        if (c->n != 0 && (j->is_alone || bytes > LIMIT_PROVISION_BODY)) {
            return;
        }
        list_del(&j->link);
        list_add_tail(&c->jobs, &j->link);
        l->n_ready--;
        c->n++;
        if (j->is_alone) {
            return;
        }
    }
}

static void write_body(struct call *c)
{
    size_t bytes = FRAME;
    struct list *n;
    for (n = c->jobs.next; n != &c->jobs; n = n->next) {
        bytes += bytes_of(LIST_OF(n, struct job, link));
    }
    (void)buf_reserve(&c->body, bytes); /* at once, so that no copy of keys stays behind */
    if (c->n == 1) {
        buf_add(&c->body, buf_span(&LIST_OF(c->jobs.next, struct job, link)->body));
        return;
    }
    buf_add_str(&c->body, "{\"devices\":[");
    for (n = c->jobs.next; n != &c->jobs; n = n->next) {
        const struct job *j = LIST_OF(n, struct job, link);
        buf_addf(&c->body, "%s{\"deviceId\":", n != c->jobs.next ? "," : "");
        json_write_str(&c->body, j->row.op_device_id);
        buf_add_u8(&c->body, ',');
        buf_add(&c->body, span_from(buf_span(&j->body), 1)); /* its brace is written */
    }
    buf_add_str(&c->body, "]}");
}

/* E_NOT_FOUND: the hub is not linked (any more). */
static enum err write_call(struct call *c)
{
    struct dps_worker *dw = c->line->all->dw;
    struct snapshot *s = NULL;
    const char *token = NULL;
    enum err e = snapshot_get(dw, &s, NULL);
    struct linked_hub *hub = e == OK ? snapshot_hub(s, span_str(c->line->host)) : NULL;
    if (e != OK || hub == NULL) {
        return e != OK ? e : E_NOT_FOUND;
    }
    e = hublink_token(server_keyring(dw->dps->server), hub, server_token_now_s(dw->dps->server),
                      &token);
    if (e != OK) {
        return e;
    }
    c->token = span_dup(span_str(token)); /* the snapshot may change before the call is over */
    hublink_add_url(&c->url, &hub->row, "/provision/devices");
    if (c->n == 1) {
        buf_add_u8(&c->url, '/');
        percent_add(&c->url, LIST_OF(c->jobs.next, struct job, link)->row.op_device_id);
    }
    buf_add_str(&c->url, "?api-version=" SERVER_ADMIN_VERSION);
    buf_add_u8(&c->url, 0);
    write_body(c);
    e = buf_err(&c->url) != OK ? buf_err(&c->url) : buf_err(&c->body);
    return e == OK && c->token == NULL ? E_NOMEM : e;
}

/* --- sending ------------------------------------------------------------------------------------------ */

static void call_home(struct msg *m);

static enum err send_call(struct call *c)
{
    struct dps_worker *dw = c->line->all->dw;
    enum err e = write_call(c);
    if (e != OK) {
        return e;
    }
    c->headers[0] = c->token;
    c->headers[1] = "Content-Type: application/json; charset=utf-8";
    c->rq = (struct egress_rq){
        .home = loop_mailbox(worker_loop(dw->w)),
        .pool = POOL_HUBS,
        .method = c->n == 1 ? "PUT" : "POST",
        .url = (const char *)c->url.p,
        .headers = c->headers,
        .n_headers = ARRAY_LEN(c->headers),
        .body = buf_span(&c->body),
        .timeout_ms = dps_conf_of(dw)->hub_timeout_ms,
    };
    c->rq.msg.run = call_home;
    metric_add(dw->w, DPS_M_HUB_CALLS, 1);
    return server_egress_send(dw->dps->server, &c->rq);
}

/* It was not sent. */
static void give_up(struct call *c, enum err e)
{
    struct list *n;
    while ((n = list_pop(&c->jobs)) != NULL) {
        struct job *j = LIST_OF(n, struct job, link);
        j->rq = (struct egress_rq){.result = e};
        j->on_answer(j);
    }
    call_free(c);
}

static enum err send_next(struct line *l)
{
    struct call *c = NEW(struct call);
    if (c == NULL) {
        return E_NOMEM;
    }
    c->line = l;
    list_init(&c->jobs);
    c->url = (struct buf)BUF_INIT(4096);
    c->body = (struct buf)BUF_INIT(JOB_BODY + LIMIT_PROVISION_BODY);
    take_jobs(l, c);
    enum err e = send_call(c);
    if (e != OK) {
        give_up(c, e);
    } else {
        l->n_calls++;
    }
    return OK;
}

static bool may_send(const struct line *l)
{
    return l->n_ready != 0 && (l->n_calls == 0 || (l->n_calls < BUNDLE_CALLS &&
                                                   (l->n_ready >= BUNDLE_FEW || l->is_late)));
}

static void on_late(struct timer *t);

/* l may be gone afterwards. */
static void go_on(struct line *l)
{
    enum err e = OK;
    while (e == OK && may_send(l)) {
        e = send_next(l);
    }
    if (l->n_ready != 0) {
        if (!timer_is_set(&l->timer)) { /* without memory too */
            timer_set(loop_of(l->all), &l->timer, BUNDLE_WAIT_MS, on_late);
        }
        return;
    }
    l->is_late = false;
    timer_stop(loop_of(l->all), &l->timer);
    if (l->n_calls == 0) {
        line_free(l);
    }
}

static void on_late(struct timer *t)
{
    struct line *l = CONTAINER_OF(t, struct line, timer);
    struct driver *d = l->all->d;
    l->is_late = true;
    go_on(l);
    driver_go_on(d);
}

static void on_turn(struct deferred *t)
{
    struct bundles *b = CONTAINER_OF(t, struct bundles, turn);
    for (struct list *n = b->lines.next, *next; n != &b->lines; n = next) {
        next = n->next;
        go_on(LIST_OF(n, struct line, link));
    }
    driver_go_on(b->d);
}

void bundle_add(struct bundles *b, struct job *j, job_fn on_answer)
{
    struct line *l = line_of(b, j->row.op_hub);
    j->on_answer = on_answer;
    if (l == NULL) {
        job_wait(j);
        return;
    }
    list_add_tail(&l->ready, &j->link);
    l->n_ready++;
    loop_defer(loop_of(b), &b->turn, on_turn);
}

/* --- home ----------------------------------------------------------------------------------------------- */

/* Of a request that was refused as a whole, for what reason ever: who is to blame shows when each is asked alone. */
static void split(struct call *c)
{
    struct list *n;
    while ((n = list_pop(&c->jobs)) != NULL) {
        struct job *j = LIST_OF(n, struct job, link);
        j->is_alone = true;
        list_add_tail(&c->line->ready, &j->link);
        c->line->n_ready++;
    }
}

/* Has each of its devices a status in the answer? */
static bool is_whole(const struct json *results, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t status = 0;
        if (json_get_int(json_at(results, i), "status", JSON_F_NEED, 100, 599, &status, NULL) !=
            OK) {
            return false;
        }
    }
    return json_count(results) == n;
}

static void tell_each(struct call *c)
{
    AUTO(json_free_p) struct json *body = NULL;
    struct json *results = NULL;
    struct list *n;
    if (json_read_object(buf_span(&c->rq.answer), LIMIT_HUB_WORK, &body, NULL) != OK ||
        json_get_array(body, "results", JSON_F_NEED, &results, NULL) != OK ||
        !is_whole(results, c->n)) {
        split(c);
        return;
    }
    for (size_t i = 0; (n = list_pop(&c->jobs)) != NULL; i++) {
        struct job *j = LIST_OF(n, struct job, link);
        const struct json *r = json_at(results, i);
        j->rq = (struct egress_rq){.status = (unsigned)json_int(json_get(r, "status")),
                                   .answer = BUF_INIT(LIMIT_HTTP_BODY_REGISTRY)};
        if (j->rq.status != 200) {
            json_write(&j->rq.answer, r);
        }
        j->on_answer(j);
    }
}

static void tell_all(struct call *c)
{
    struct list *n;
    while ((n = list_pop(&c->jobs)) != NULL) {
        struct job *j = LIST_OF(n, struct job, link);
        j->rq = (struct egress_rq){.result = c->rq.result,
                                   .info = c->rq.info,
                                   .status = c->rq.status,
                                   .was_sent = c->rq.was_sent};
        if (c->n == 1) {
            j->rq.answer = c->rq.answer;
            c->rq.answer = (struct buf)BUF_INIT(0);
        }
        j->on_answer(j);
    }
}

static void call_home(struct msg *m)
{
    struct call *c = CONTAINER_OF(CONTAINER_OF(m, struct egress_rq, msg), struct call, rq);
    struct line *l = c->line;
    struct driver *d = l->all->d;
    hub_health_note(l->all->dw->dps->health, span_str(l->host), &c->rq, step_is_transient(&c->rq),
                    loop_wall_us(loop_of(l->all)));
    if (c->n == 1 || (step_is_transient(&c->rq) && c->rq.status != 404)) {
        tell_all(c);
    } else if (c->rq.status == 200) {
        tell_each(c);
    } else {
        split(c);
    }
    call_free(c);
    l->n_calls--;
    go_on(l);
    driver_go_on(d);
}
