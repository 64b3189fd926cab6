/* SPDX-License-Identifier: Apache-2.0 */
/* GET /admin/linkedHubs/{name}/state: docs/protocol/dps-service-rest.md C4. */
#include <stdlib.h>

#include "base/text.h"
#include "dps/http.h"
#include "dps/hub_health.h"
#include "server/admin.h"

#define STATE_JSON_MAX 4096u
#define STATE_DEADLINE_MS 10000u

struct state_rq {
    struct store_scan scan;
    struct dps_worker *dw;
    handle rq;
    struct arena arena;
    struct span fold;
    struct hub_row row; /* in the arena */
    struct hub_load load;
};

static void state_free(struct state_rq *s)
{
    arena_done(&s->arena);
    free(s);
}

static void add_time(struct buf *b, const char *name, int64_t us)
{
    char iso[TIME_ISO_SIZE];
    if (us == 0) {
        buf_addf(b, ",\"%s\":null", name);
        return;
    }
    time_iso7(us, iso);
    buf_addf(b, ",\"%s\":\"%s\"", name, iso);
}

static void add_health(struct buf *b, const struct hub_health *h)
{
    buf_addf(b, ",\"reachable\":%s",
             h->called_us == 0 ? "null"
             : h->status != 0  ? "true"
                               : "false");
    add_time(b, "lastCallUtc", h->called_us);
    add_time(b, "lastAnswerUtc", h->answered_us);
    if (h->status != 0) {
        buf_addf(b, ",\"lastStatus\":%u", h->status);
    } else {
        buf_add_str(b, ",\"lastStatus\":null");
    }
    buf_addf(b, ",\"failures\":%u,\"error\":", h->failures);
    h->why[0] != '\0' ? json_write_str(b, span_str(h->why)) : buf_add_str(b, "null");
}

static void answer(struct http_rq *rq, const struct state_rq *s)
{
    AUTO(buf_done) struct buf b = BUF_INIT(STATE_JSON_MAX);
    const struct hub_row *r = &s->row;
    struct hub_health health;
    hub_health_get(s->dw->dps->health, r->host, &health);
    buf_add_str(&b, "{\"name\":");
    json_write_str(&b, r->host);
    buf_addf(&b, ",\"state\":\"%s\",\"applyAllocationPolicy\":%s,\"allocationWeight\":%u",
             r->is_draining ? "draining" : "active", r->applies ? "true" : "false", r->weight);
    add_health(&b, &health);
    buf_addf(&b, ",\"devices\":%lld,\"registrationsUnderWay\":%lld,\"callsOwed\":%lld}",
             (long long)s->load.devices, (long long)s->load.under_way, (long long)s->load.owed);
    if (buf_err(&b) != OK) {
        admin_refuse(rq, buf_err(&b), NULL);
        return;
    }
    admin_answer_json(rq, 200, 0, NULL, buf_span(&b));
}

static enum err state_run(struct db *db, struct store_scan *scan)
{
    struct state_rq *s = CONTAINER_OF(scan, struct state_rq, scan);
    enum err e = sql_hub_get(db, &s->arena, s->fold, &s->row);
    return e != OK ? e : sql_hub_load(db, s->row.host, &s->load);
}

static void state_home(struct msg *m)
{
    struct state_rq *s =
        CONTAINER_OF(CONTAINER_OF(m, struct store_scan, msg), struct state_rq, scan);
    struct http_rq *rq = http_rq_of(worker_loop(s->dw->w), s->rq);
    enum err e = s->scan.result;
    s->dw->n_pending--;
    if (rq != NULL && e != OK) {
        admin_refuse(rq, e == E_TIMEOUT ? E_BUSY : e, NULL);
    } else if (rq != NULL) {
        answer(rq, s);
    }
    state_free(s);
}

/* How many devices a hub has is a question to the whole table: on a scan thread. */
void http_hub_state(struct http_rq *rq)
{
    struct span fold;
    if (!http_hub_name(rq, &fold)) {
        return;
    }
    struct state_rq *s = NEW(struct state_rq);
    if (s == NULL) {
        admin_refuse(rq, E_NOMEM, NULL);
        return;
    }
    s->dw = dps_worker_of(worker_of_rq(rq));
    s->rq = http_rq_handle(rq);
    s->arena = (struct arena)ARENA_INIT(64u << 10);
    s->fold = arena_span(&s->arena, fold);
    s->scan.home = loop_mailbox(worker_loop(s->dw->w));
    s->scan.msg.run = state_home;
    s->scan.run = state_run;
    s->scan.deadline_ms = clock_mono_ms(server_clock(s->dw->dps->server)) + STATE_DEADLINE_MS;
    enum err e =
        s->fold.p != NULL ? store_scan(server_store(s->dw->dps->server), &s->scan) : E_NOMEM;
    if (e != OK) {
        admin_refuse(rq, e, NULL);
        state_free(s);
        return;
    }
    s->dw->n_pending++;
}
