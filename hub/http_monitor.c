/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/http_monitor.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "hub/metrics.h"
#include "server/authn.h"
#include "wire/json.h"
#include "wire/logmeta.h"

#define LINE_MAX                                                                                   \
    (16u * LIMIT_D2C_MESSAGE) /* a row as text: escapes make it six times as long at the worst */

struct monitor;
struct watched { /* one partition that is read */
    struct seglog_watch watch;
    struct monitor *m;
    unsigned partition;
    uint64_t next; /* sequence number to read next */
    uint64_t end;  /* the last one that is wanted */
    bool by_time;  /* next is not known yet: the scan thread looks for from_us */
    bool is_armed; /* the watch holds a reference */
};

struct monitor {
    struct list link;
    struct worker *w;
    struct seglog *log;
    struct http_stream *out; /* NULL: the client has gone */
    struct policy_use policy;
    unsigned refs;
    unsigned n;
    unsigned turn; /* partition that is read next */
    bool is_following;
    bool is_reading;
    bool is_ending;
    int64_t from_us;
    uint64_t left; /* messages still to send; UINT64_MAX: no bound */
    char *device;  /* NULL: all */
    struct timer beat;
    /* the slice under way: touched by the scan thread while is_reading */
    struct store_scan scan;
    struct watched *at;
    uint64_t from, after;
    uint64_t found;
    uint64_t want;
    struct buf text;
    struct watched part[];
};

static void step(struct monitor *m);

static void unref(struct monitor *m)
{
    if (--m->refs > 0) {
        return;
    }
    buf_done(&m->text);
    free(m->device);
    free(m);
}

/* --- one row as a line (scan thread) ------------------------------------------------------------- */

static void write_row(struct buf *b, unsigned partition, const struct seglog_row *row,
                      const struct logmeta_row *meta)
{
    char when[TIME_ISO_SIZE];
    time_iso7(row->enqueued_us, when);
    buf_addf(b,
             "{\"partition\":%u,\"sequenceNumber\":%llu,\"enqueuedTimeUtc\":\"%s\",\"deviceId\":\"",
             partition, (unsigned long long)row->seq, when);
    buf_add(b, meta->device_id);
    buf_addf(b, "\",\"systemProperties\":{\"iothub-enqueuedtime\":\"%s\",", when);
    logmeta_add_system(b, meta);
    buf_add(b, SPAN_LIT("},\"properties\":{"));
    logmeta_add_properties(b, meta);
    buf_add(b, SPAN_LIT("},\"body\":"));
    if (row->body.n == 0 || span_is_utf8(row->body)) {
        json_write_str(b, row->body);
        buf_add(b, SPAN_LIT(",\"bodyEncoding\":\"utf-8\"}\n"));
    } else {
        buf_add_u8(b, '"');
        base64_add(b, row->body);
        buf_add(b, SPAN_LIT("\",\"bodyEncoding\":\"base64\"}\n"));
    }
}

static bool on_row(void *arg, const struct seglog_row *row)
{
    struct monitor *m = arg;
    struct logmeta_row meta;
    if (row->seq > m->at->end) {
        return false;
    }
    m->after = row->seq + 1;
    if (logmeta_read(row->meta, &meta) != OK) {
        return true; /* not written by this hub: there is nothing to say about it */
    }
    if (m->device != NULL && !span_is(meta.device_id, m->device)) {
        return true;
    }
    write_row(&m->text, m->at->partition, row, &meta);
    m->found++;
    return m->found < m->want && m->text.n < MONITOR_SLICE_BYTES && buf_err(&m->text) == OK;
}

static enum err read_slice(struct db *db, struct store_scan *scan)
{
    struct monitor *m = CONTAINER_OF(scan, struct monitor, scan);
    enum err e = OK;
    (void)
        db; /* the log has files of its own; the scan threads are where waiting for a disk is allowed */
    if (m->at->by_time) { /* touched by the worker only when the slice is home */
        e = seglog_find_time(m->log, m->at->partition, m->from_us, &m->from);
        m->after = m->from;
    }
    uint64_t next = m->from;
    if (e == OK) {
        e = seglog_read(m->log, m->at->partition, m->from, MONITOR_SLICE_ROWS, MONITOR_SLICE_BYTES,
                        on_row, m, &next);
    }
    if (e == OK && m->found < m->want && m->text.n < MONITOR_SLICE_BYTES) {
        m->after = MAX(m->after, next); /* rows of others, and what retention took away */
    }
    return e != OK ? e : buf_err(&m->text);
}

/* --- turns (worker) ------------------------------------------------------------------------------ */

static void finish(struct monitor *m, enum err why)
{
    if (m->out != NULL && !m->is_ending) {
        if (why != OK) {
            LOG_WARN("hub.monitor_ended", L_ERR(why));
        }
        m->is_ending = true;
        http_stream_end(m->out); /* on_gone follows */
    }
}

static void on_beat(struct timer *t)
{
    struct monitor *m = CONTAINER_OF(t, struct monitor, beat);
    if (m->out != NULL && !m->is_ending) {
        http_stream_write(m->out, SPAN_LIT("\n"));
        timer_set(worker_loop(m->w), &m->beat, MONITOR_BEAT_MS, on_beat);
    }
}

static void slice_home(struct msg *msg)
{
    struct monitor *m = CONTAINER_OF(msg, struct monitor, scan.msg);
    m->is_reading = false;
    if (m->out != NULL && !m->is_ending) {
        if (m->scan.result != OK) {
            finish(m, m->scan.result);
        } else {
            m->at->next = m->after;
            m->at->by_time = false;
            if (m->found > 0) {
                http_stream_write(m->out, buf_span(&m->text));
                metric_add(m->w, HUB_M_MONITOR_ROWS, (int64_t)m->found);
                timer_set(worker_loop(m->w), &m->beat, MONITOR_BEAT_MS, on_beat);
            }
            m->left -= m->left == UINT64_MAX ? 0 : MIN(m->found, m->left);
            step(m);
        }
    }
    unref(m);
}

static void on_news(struct msg *msg)
{
    struct watched *p = CONTAINER_OF(msg, struct watched, watch.msg);
    struct monitor *m = p->m;
    p->is_armed = false;
    if (m->out != NULL) {
        step(m);
    }
    unref(m);
}

static void start_read(struct monitor *m, struct watched *p)
{
    struct worker *w = m->w;
    m->at = p;
    m->from = m->after = p->next;
    m->found = 0;
    m->want = m->left;
    buf_release(&m->text);
    m->scan = (struct store_scan){
        .msg = {.run = slice_home},
        .home = loop_mailbox(worker_loop(w)),
        .run = read_slice,
        .deadline_ms = UINT64_MAX,
    };
    m->is_reading = true;
    m->refs++;
    enum err e = store_scan(server_store(worker_server(w)), &m->scan);
    if (e != OK) {
        m->is_reading = false;
        m->refs--;
        finish(m, e);
    }
}

/* Reads the next partition that has something, or waits for news of all. */
static void step(struct monitor *m)
{
    if (m->is_reading || m->is_ending || m->out == NULL || http_stream_is_full(m->out)) {
        return;
    }
    if (m->left == 0) {
        finish(m, OK);
        return;
    }
    for (unsigned i = 0; i < m->n; i++) {
        struct watched *p = &m->part[(m->turn + i) % m->n];
        if (p->by_time || MIN(seglog_last(m->log, p->partition, NULL), p->end) >= p->next) {
            m->turn = (m->turn + i + 1) % m->n;
            start_read(m, p);
            return;
        }
    }
    if (!m->is_following) {
        finish(m, OK);
        return;
    }
    for (unsigned i = 0; i < m->n; i++) {
        struct watched *p = &m->part[i];
        if (!p->is_armed) {
            p->is_armed = true;
            m->refs++;
            p->watch = (struct seglog_watch){.msg = {.run = on_news},
                                             .home = loop_mailbox(worker_loop(m->w)),
                                             .partition = p->partition,
                                             .seq = p->next};
            seglog_watch(m->log, &p->watch);
        }
    }
}

static void on_drained(struct http_stream *s, void *arg)
{
    (void)s;
    step(arg);
}

static void on_gone(struct http_stream *s, void *arg)
{
    struct monitor *m = arg;
    (void)s;
    m->out = NULL;
    timer_stop(worker_loop(m->w), &m->beat);
    list_del(&m->link);
    for (unsigned i = 0; i < m->n; i++) {
        if (m->part[i].is_armed && seglog_unwatch(m->log, &m->part[i].watch)) {
            m->part[i].is_armed = false;
            m->refs--; /* ours is still held */
        }
    }
    unref(m);
}

static const struct http_stream_handler stream_handler = {.on_drained = on_drained,
                                                          .on_gone = on_gone};

/* --- request ---------------------------------------------------------------------------------------- */

/* Planes of Berth's own: the one version, a policy with the route's right. */
enum err hub_monitor_admit(struct http_rq *rq, struct err_info *info)
{
    bool found;
    struct span version = http_rq_query(rq, "api-version", &found);
    if (!found || !span_is(version, SERVER_ADMIN_VERSION)) {
        return err_set(info, E_VERSION, "api-version is not " SERVER_ADMIN_VERSION);
    }
    struct caller *c = arena_new(http_rq_arena(rq), struct caller);
    if (c == NULL) {
        return E_NOMEM;
    }
    enum err e = authn_service(worker_of_rq(rq), rq, http_rq_route(rq)->right, c, info);
    if (e == OK) {
        http_rq_set_user(rq, c);
    }
    return e;
}

static enum err read_number(struct http_rq *rq, const char *name, uint64_t max, uint64_t *ret,
                            struct err_info *info)
{
    bool found;
    struct span s = http_rq_query(rq, name, &found);
    uint64_t v;
    if (!found) {
        return OK;
    }
    if (!span_to_u64(s, &v) || v > max) {
        return err_set(info, E_ARG, "%s is no number up to %llu", name, (unsigned long long)max);
    }
    *ret = v;
    return OK;
}

/* Where partition p begins. */
static enum err read_from(struct http_rq *rq, struct monitor *m, struct watched *at,
                          struct err_info *info)
{
    struct seglog *log = m->log;
    unsigned p = at->partition;
    uint64_t *ret = &at->next;
    char name[24];
    bool found;
    uint64_t seq = 0;
    int64_t t;
    (void)snprintf(name, sizeof(name), "from.%u", p);
    enum err e = read_number(rq, name, INT64_MAX, &seq, info);
    if (e != OK || seq > 0) {
        *ret = seq;
        return e;
    }
    struct span from = http_rq_query(rq, "from", &found);
    if (!found || span_is_nocase(from, "latest")) {
        *ret = seglog_last(log, p, NULL) + 1;
    } else if (span_is_nocase(from, "earliest")) {
        *ret = seglog_first(log, p);
    } else if (span_to_u64(from, &seq)) {
        *ret = MAX(seq, 1);
    } else if (time_parse_iso(from, &t) == OK) {
        m->from_us = t;
        at->by_time = true;
    } else {
        return err_set(info, E_ARG,
                       "from is none of: earliest, latest, a sequence number, an ISO 8601 time");
    }
    return OK;
}

static enum err read_request(struct http_rq *rq, struct hub *h, struct monitor *m,
                             struct err_info *info)
{
    bool found;
    uint64_t one = UINT64_MAX;
    enum err e = read_number(rq, "partition", h->partitions - 1, &one, info);
    m->left = UINT64_MAX;
    if (e != OK || (e = read_number(rq, "max", INT64_MAX, &m->left, info)) != OK) {
        return e;
    }
    struct span follow = http_rq_query(rq, "follow", &found);
    m->is_following = !found || span_is_nocase(follow, "true");
    if (found && !m->is_following && !span_is_nocase(follow, "false")) {
        return err_set(info, E_ARG, "follow is true or false");
    }
    struct span device = http_rq_query(rq, "device", &found);
    if (found) {
        if (!id_device_ok(device)) {
            return err_set(info, E_ARG, "device is no device id");
        }
        m->device = span_dup(device);
        if (m->device == NULL) {
            return E_NOMEM;
        }
    }
    for (unsigned p = 0; p < h->partitions; p++) {
        if (one == UINT64_MAX || one == p) {
            struct watched *at = &m->part[m->n];
            at->m = m;
            at->partition = p;
            at->end = m->is_following ? UINT64_MAX : seglog_last(h->log, p, NULL);
            if ((e = read_from(rq, m, at, info)) != OK) {
                return e;
            }
            m->n++;
        }
    }
    return OK;
}

void hub_monitor_get(struct http_rq *rq)
{
    struct worker *w = worker_of_rq(rq);
    struct hub *h = hub_of(w);
    struct hub_worker *hw = hub_worker_of(w);
    struct err_info info = {0};
    size_t open = 0;
    if (hw->is_draining) {
        hub_refuse(rq, E_DRAINING, NULL);
        return;
    }
    LIST_EACH (n, &hw->monitors) {
        open++;
    }
    if (open >= MONITOR_MAX) {
        hub_refuse(rq, E_THROTTLED, NULL);
        return;
    }
    struct monitor *m = mem_new(sizeof(*m) + h->partitions * sizeof(m->part[0]));
    if (m == NULL) {
        hub_refuse(rq, E_NOMEM, NULL);
        return;
    }
    m->refs = 1;
    m->w = w;
    m->log = h->log;
    m->text = (struct buf)BUF_INIT(LINE_MAX);
    enum err e = read_request(rq, h, m, &info);
    if (e == OK) {
        m->policy = ((const struct caller *)http_rq_user(rq))->policy;
        e = http_stream_begin(rq, 200, "application/x-ndjson", &stream_handler, m, &m->out);
    }
    if (e != OK) {
        hub_refuse(rq, e, &info);
        unref(m);
        return;
    }
    list_add_tail(&hw->monitors, &m->link);
    timer_set(worker_loop(w), &m->beat, MONITOR_BEAT_MS, on_beat);
    step(m);
}

void monitors_rejudge(struct worker *w)
{
    LIST_EACH_SAFE (n, tmp, &hub_worker_of(w)->monitors) {
        struct monitor *m = LIST_OF(n, struct monitor, link);
        if (!policy_still_good(w, &m->policy, R_SERVICE_CONNECT)) {
            finish(m, E_UNAUTHORIZED);
        }
    }
}

void monitors_drain(struct worker *w)
{
    LIST_EACH_SAFE (n, tmp, &hub_worker_of(w)->monitors) {
        finish(LIST_OF(n, struct monitor, link), OK);
    }
}
