/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/stream_grant.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "hub/hub.h"
#include "hub/streams.h"
#include "hub/streams_int.h"
#include "hub/work.h"
#include "server/audit.h"

#define SWEEP_MAX 64u /* in one transaction */

/* --- pure ---------------------------------------------------------------------------------------- */

bool stream_grant_name_ok(struct span name)
{
    return name.n <= GRANT_NAME && id_admin_name_ok(name);
}

struct seal_place stream_grant_place(const struct stream_grant *g)
{
    return (struct seal_place){
        .table = "stream_grant", .column = "key", .row = span_of(&g->id, sizeof(g->id))};
}

bool stream_grant_covers(const struct stream_grant *g, struct span device_id, struct span stream)
{
    struct span want = span_str(g->device);
    bool is_device = g->is_prefix ? span_starts(device_id, want) : span_eq(device_id, want);
    return is_device && span_is(stream, g->stream);
}

/* --- judging --------------------------------------------------------------------------------------- */

bool stream_grant_is_used(struct http_rq *rq)
{
    struct sas_token tok;
    return streams_is_request(http_rq_route(rq)) &&
           sas_parse(http_rq_header(rq, "Authorization"), &tok, NULL) == OK &&
           span_starts(sas_skn(&tok), SPAN_LIT(GRANT_PREFIX));
}

/* With the key proven: what it was refused is worth a line that names it. */
static enum err refuse(struct http_rq *rq, const struct sas_token *tok, enum err kind,
                       const char *why, struct err_info *info)
{
    struct span path = span_sub(http_rq_raw_path(rq), 0, 200);
    const char *act = arena_printf(http_rq_arena(rq), "POST %.*s", SPAN_ARG(path));
    audit_note(worker_server(worker_of_rq(rq)), sas_skn(tok),
               span_str(conn_peer_text(http_rq_conn(rq))), span_str(act != NULL ? act : "POST"),
               kind);
    (void)err_set(info, kind, "%s: %s", tok->skn, why);
    return E_UNAUTHORIZED;
}

/* An unknown name costs the same MACs as a known one. */
static enum err check_key(struct worker *w, const struct sas_token *tok, struct stream_grant *g,
                          struct err_info *info)
{
    struct span name = span_from(sas_skn(tok), sizeof(GRANT_PREFIX) - 1);
    enum err e = hub_sql_grant_by_name(worker_db(w), name, g);
    bool is_known = e == OK;
    unsigned which;
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    if (!is_known) {
        memset(g, 0, sizeof(*g));
    }
    e = authn_token_keys(w, tok, stream_grant_place(g), span_of(g->sealed, g->sealed_n),
                         stream_grant_place(g), SPAN_NONE, &which, info);
    if (!is_known) {
        (void)err_set(info, E_SIGNATURE, "no grant \"%s\"", tok->skn);
        return e == OK || e == E_UNAUTHORIZED ? E_UNAUTHORIZED : e;
    }
    return e;
}

enum err stream_grant_authn(struct http_rq *rq, struct caller *ret, struct err_info *info)
{
    struct worker *w = worker_of_rq(rq);
    struct sas_token tok;
    struct stream_grant g;
    enum err e = authn_service_token(w, rq, &tok, info);
    if (e != OK || (e = check_key(w, &tok, &g, info)) != OK) {
        return e;
    }
    if (g.expires_s <= server_token_now_s(worker_server(w))) {
        return refuse(rq, &tok, E_EXPIRED, "the grant's time is over", info);
    }
    if (http_rq_param(rq, 2).p != NULL) {
        return refuse(rq, &tok, E_SCOPE, "a grant is for devices, not for their modules", info);
    }
    if (!stream_grant_covers(&g, http_rq_param(rq, 0), http_rq_param(rq, 1))) {
        return refuse(rq, &tok, E_SCOPE, "the grant is for another device or name", info);
    }
    struct span name = arena_span(http_rq_arena(rq), sas_skn(&tok));
    if (name.p == NULL) {
        return E_NOMEM;
    }
    *ret = (struct caller){
        .policy = {.id = -g.id, .rights = R_SERVICE_CONNECT, .until_s = g.expires_s},
        .policy_name = name};
    return OK;
}

bool stream_caller_still_good(struct worker *w, const struct policy_use *use)
{
    int64_t expires_s;
    if (use->id >= 0) {
        return policy_still_good(w, use, R_SERVICE_CONNECT);
    }
    return hub_sql_grant_until(worker_db(w), -use->id, &expires_s) == OK &&
           expires_s > server_token_now_s(worker_server(w));
}

/* --- those that go ------------------------------------------------------------------------------------- */

struct gone_notice {
    struct store_notice notice;
    struct hub *hub;
};

static void gone_run(struct store_notice *n)
{
    struct gone_notice *g = CONTAINER_OF(n, struct gone_notice, notice);
    streams_rejudge_all(g->hub);
    free(g);
}

static void gone_drop(struct store_notice *n)
{
    free(CONTAINER_OF(n, struct gone_notice, notice));
}

enum err stream_grant_tx_gone(struct store_tx *tx, struct hub *h)
{
    struct gone_notice *n = NEW(struct gone_notice);
    if (n == NULL) {
        return E_NOMEM;
    }
    n->notice.run = gone_run;
    n->notice.drop = gone_drop;
    n->hub = h;
    store_tx_notify(tx, &n->notice);
    return OK;
}

struct sweep {
    struct work k; /* first */
    int64_t now_s;
};

static enum err sweep_tx(struct store_tx *tx, struct work *k)
{
    struct sweep *s = CONTAINER_OF(k, struct sweep, k);
    struct stream_grant g;
    enum err e = OK;
    for (unsigned i = 0; e == OK && i < SWEEP_MAX; i++) {
        char act[256];
        e = hub_sql_grant_expired(tx->db, s->now_s, &g);
        if (e == E_NOT_FOUND) {
            return OK;
        }
        if (e != OK || (e = hub_sql_grant_del(tx->db, g.id)) != OK) {
            return e;
        }
        (void)snprintf(act, sizeof(act), "stream grant %s to %s%s expired", g.name, g.device,
                       g.is_prefix ? "*" : "");
        const struct audit_entry entry = {SPAN_LIT("hub"), SPAN_LIT("clock"), span_str(act),
                                          SPAN_LIT("OK")};
        e = audit_tx_add(tx, &entry);
    }
    return e;
}

static void sweep_timer(struct timer *t)
{
    struct stream_worker *sw = CONTAINER_OF(t, struct stream_worker, sweep_timer);
    struct server *srv = worker_server(sw->w);
    struct stream_grant g;
    int64_t now_s = server_token_now_s(srv);
    timer_set(worker_loop(sw->w), t, GRANT_SWEEP_MS, sweep_timer);
    /* What was expired by a clock that had jumped would be gone for good. */
    if (!server_clock_is_steady(srv) || server_is_draining(srv) ||
        hub_sql_grant_expired(worker_db(sw->w), now_s, &g) != OK) {
        return;
    }
    struct sweep *s = work_new(sw->w, sizeof(*s));
    if (s != NULL) {
        s->k.tx = sweep_tx;
        s->k.free = work_end;
        s->now_s = now_s;
        if (work_begin(&s->k, NULL) != OK) {
            LOG_WARN("hub.stream.grants_not_swept"); /* they are refused all the same */
        }
    }
}

void stream_grants_start(struct worker *w)
{
    if (worker_index(w) == 0) {
        timer_set(worker_loop(w), &stream_worker_of(w)->sweep_timer, GRANT_SWEEP_MS, sweep_timer);
    }
}

void stream_grants_stop(struct worker *w)
{
    timer_stop(worker_loop(w), &stream_worker_of(w)->sweep_timer);
}
