/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "hub/http_monitor.h"
#include "hub/metrics.h"
#include "server/audit.h"
#include "server/authn.h"
#include "server/trust.h"
#include "hub/streams.h"

#define END_TURNS 8
#define EXPIRY_STEP_MS                                                                             \
    UINT64_C(3600000) /* long waits are cut, so that a changed clock is noticed within the hour */
#define EXPIRY_MAX_S UINT64_C(3155760000) /* a century: no sum of it overflows */

enum err hub_worker_new(struct worker *w, struct hub_worker **ret)
{
    struct hub_worker *hw = NEW(struct hub_worker);
    if (hw == NULL) {
        return E_NOMEM;
    }
    hw->w = w;
    list_init(&hw->sessions);
    list_init(&hw->links);
    list_init(&hw->monitors);
    *ret = hw;
    return OK;
}

void hub_worker_free(struct hub_worker *hw)
{
    if (hw != NULL) {
        timer_stop(worker_loop(hw->w), &hw->walk_timer);
        timer_stop(worker_loop(hw->w), &hw->use_timer);
        free(hw);
    }
}

static void turn(struct worker *w)
{
    for (int i = 0; i < END_TURNS; i++) {
        loop_turn(worker_loop(w), 0);
    }
}

void hub_links_end(struct worker *w)
{
    struct hub_worker *hw = hub_worker_of(w);
    hw->is_draining = hw->is_ended = true;
    monitors_drain(w);
    LIST_EACH_SAFE (node, tmp, &hw->links) {
        struct session *s = LIST_OF(node, struct session, all);
        s->ops->cut(s);
    }
    turn(w); /* they are told, and their wills given to the log */
    seglog_drain(
        hub_of(w)
            ->log); /* the answers are in the mailbox now, and none comes later to a loop that is gone */
    turn(w);
    ASSERT(hw->n_appends == 0);
}

/* --- life -------------------------------------------------------------------------------------- */

static void will_free(struct will *w)
{
    if (w != NULL) {
        arena_done(&w->arena);
        free(w);
    }
}

enum err session_new(struct worker *w, const struct session_ops *ops, void *endpoint,
                     struct session **ret)
{
    struct session *s = NEW(struct session);
    if (s == NULL) {
        return E_NOMEM;
    }
    s->w = w;
    s->ops = ops;
    s->endpoint = endpoint;
    s->refs = 1;
    list_init(&s->asks);
    list_add_tail(&hub_worker_of(w)->links, &s->all);
    *ret = s;
    return OK;
}

void session_ref(struct session *s)
{
    s->refs++;
}

void session_unref(struct session *s)
{
    ASSERT(s->refs > 0);
    if (--s->refs > 0) {
        return;
    }
    list_del(&s->all); /* it never had a link */
    timer_stop(worker_loop(s->w), &s->expiry);
    timer_stop(worker_loop(s->w), &s->shape);
    s->ops->forget(s);
    will_free(s->will);
    free(s->text);
    free(s);
}

struct telemetry_source session_source(const struct session *s)
{
    return (struct telemetry_source){
        .identity = s->ad.identity,
        .device_id = s->device_id,
        .module_id = s->module_id,
        .generation_id = s->ad.generation_id,
        .model_id = s->ad.model_id,
        .auth_method_json = s->ad.auth_method_json,
    };
}

/* --- claim ----------------------------------------------------------------------------------- */

static enum err copy_identity(struct session *s, struct span device_id, struct span module_id,
                              const struct admitted *ad)
{
    const struct span slash = module_id.n > 0 ? SPAN_LIT("/") : SPAN_NONE;
    struct span unused;
    struct span *into[] = {&s->device_id, &unused, &s->module_id, &s->ad.generation_id,
                           &s->ad.model_id};
    const struct span from[] = {device_id, slash, module_id, ad->generation_id, ad->model_id};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        n += from[i].n;
    }
    uint8_t *t = malloc(n + 1);
    if (t == NULL) {
        return E_NOMEM;
    }
    s->text = (char *)t;
    s->ad = *ad;
    s->name = span_of(t, device_id.n + slash.n + module_id.n);
    for (size_t i = 0; i < ARRAY_LEN(into); i++) {
        if (from[i].n > 0) {
            memcpy(t, from[i].p, from[i].n);
        }
        *into[i] = span_of(t, from[i].n);
        t += from[i].n;
    }
    return OK;
}

/* Saves reading the row once more for each connect. Policies are few, and read from memory: they are always asked. */
static bool is_unchanged(const struct session *s)
{
    const struct admitted *ad = &s->ad;
    return !ad->by_policy && ad->changes == directory_changes(hub_of(s->w)->directory) &&
           (!ad->by_ca || ad->trust_epoch == trust_epoch(worker_server(s->w)));
}

/* A change that came between the verdict and the entry was told to nobody: judge once more, now that it would be. */
static enum err judge_again(struct session *s, struct err_info *info)
{
    if (s->endpoint == NULL) {
        return E_CLOSED;
    }
    if (s->is_leaving) {
        return E_FENCED;
    }
    if (hub_worker_of(s->w)->is_draining) {
        return E_DRAINING;
    }
    return is_unchanged(s) ? OK : registry_still_good(s->w, &s->ad, info);
}

void session_settled(struct session *s)
{
    if (s->is_entered && s->is_leaving && !s->is_storing && s->reports == NULL) {
        s->is_entered = false;
        directory_release(hub_of(s->w)->directory, s->ad.identity, s->epoch);
    }
}

static void leave(struct session *s)
{
    if (s->h != 0) {
        handle_free(worker_loop(s->w), s->h);
        s->h = 0;
    }
    s->is_leaving = true;
    session_settled(s);
}

static void claim_home(struct msg *m)
{
    struct session *s = CONTAINER_OF(m, struct session, claim.msg);
    struct err_info info = {0};
    enum err e = s->claim.result;
    s->is_claiming = false;
    if (e == OK) {
        s->epoch = s->claim.epoch;
        s->is_entered = true;
        e = judge_again(s, &info);
    }
    if (s->endpoint != NULL) {
        s->ops->granted(s, e, &info);
    }
    if (!s->is_ready) { /* refused here, by the endpoint, or there is none any more */
        leave(s);
    }
    session_unref(s);
}

void session_set_peer(struct session *s, const struct conn *c)
{
    if (c != NULL) {
        s->from.n = (uint8_t)conn_source_key(c, s->from.key).n;
        (void)span_to_cstr(span_str(conn_peer_text(c)), s->peer, sizeof(s->peer));
    }
}

/* A copied key shows as two that take over from one another (threats D7, D10). */
static void tell_rivals(struct session *s)
{
    char act[64 + 2 * LIMIT_ID];
    static const struct {
        unsigned bit;
        enum hub_metric metric;
        const char *what;
    } rows[] = {
        {RIVALS_WAR, HUB_M_TAKEOVER_WARS, "links take over from one another"},
        {RIVALS_PLACES, HUB_M_TWO_PLACES, "used from two addresses in turn"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if ((s->claim.alarms & rows[i].bit) != 0) {
            metric_add(s->w, rows[i].metric, 1);
            LOG_WARN("hub.rivals", L_SPAN("device", s->name), L_STR("peer", s->peer),
                     L_STR("why", rows[i].what));
            (void)snprintf(act, sizeof(act), "ALARM /devices/%.*s%s%.*s: %s",
                           SPAN_ARG(s->device_id), s->module_id.n > 0 ? "/modules/" : "",
                           SPAN_ARG(s->module_id), rows[i].what);
            audit_note(worker_server(s->w), SPAN_LIT("(hub)"), span_str(s->peer), span_str(act),
                       E_FENCED);
        }
    }
}

static void end_wait(struct timer *t);

static enum err claim(struct session *s, bool has_waited)
{
    struct loop *l = worker_loop(s->w);
    if ((s->h = handle_new(l, s)) == 0) {
        return E_NOMEM;
    }
    s->claim = (struct dir_claim){.msg = {.run = claim_home},
                                  .home = l,
                                  .identity = s->ad.identity,
                                  .link = s->h,
                                  .now_ms = loop_now_ms(l),
                                  .from = s->from,
                                  .has_waited = has_waited};
    session_ref(s);
    s->is_claiming = true;
    enum err e = directory_claim(hub_of(s->w)->directory, &s->claim);
    if (e == OK) {
        tell_rivals(s);
        return OK;
    }
    s->is_claiming = false;
    handle_free(l, s->h);
    s->h = 0;
    session_unref(s); /* the link holds one more */
    if (e == E_AGAIN) {
        metric_add(s->w, HUB_M_TAKEOVERS_DELAYED, 1);
        timer_set(l, &s->expiry, s->claim.wait_ms, end_wait);
        return OK;
    }
    return e;
}

static void end_wait(struct timer *t)
{
    struct session *s = CONTAINER_OF(t, struct session, expiry);
    enum err e = claim(s, true);
    if (e != OK) {
        s->ops->granted(s, e, NULL);
    }
}

enum err session_claim(struct session *s, struct span device_id, struct span module_id,
                       const struct admitted *ad)
{
    ASSERT(!s->is_claiming && !s->is_ready && s->text == NULL);
    enum err e = copy_identity(s, device_id, module_id, ad);
    return e != OK ? e : claim(s, false);
}

static uint64_t expiry_left_ms(const struct session *s)
{
    int64_t left_s = s->ad.expires_s - server_token_now_s(worker_server(s->w));
    return left_s <= 0 ? 0 : MIN((uint64_t)left_s, EXPIRY_MAX_S) * 1000;
}

/* By the clock, and by the time that has really gone by since it was admitted: a clock set back lets no link outlive its credential. A
 * clock that has just jumped ends nothing by itself (threat E6). */
static void on_expiry(struct timer *t)
{
    struct session *s = CONTAINER_OF(t, struct session, expiry);
    bool is_steady = server_clock_is_steady(worker_server(s->w));
    uint64_t now = loop_now_ms(worker_loop(s->w));
    uint64_t left_ms = is_steady ? expiry_left_ms(s) : UINT64_MAX;
    if (left_ms == 0 || now >= s->ends_ms) {
        metric_add(s->w, HUB_M_EXPIRED, 1);
        s->ops->close(s, E_EXPIRED, "what admitted this link has expired");
        return;
    }
    uint64_t wait_ms = MIN(MIN(left_ms, s->ends_ms - now), EXPIRY_STEP_MS);
    timer_set(worker_loop(s->w), &s->expiry, wait_ms, on_expiry);
}

void session_ready(struct session *s)
{
    struct hub_worker *hw = hub_worker_of(s->w);
    s->is_ready = true;
    s->walk = hw->walk;
    list_add_tail(&hw->sessions, &s->link);
    hw->n_sessions++;
    if (s->ad.expires_s != INT64_MAX) {
        s->ends_ms = loop_now_ms(worker_loop(s->w)) + expiry_left_ms(s);
        timer_set(worker_loop(s->w), &s->expiry, 0, on_expiry);
    }
    registry_note_activity(s->w, s->ad.identity, loop_wall_us(worker_loop(s->w)), 1);
}

static void will_stored(void *user, uint64_t tag, enum err result)
{
    struct session *s = user;
    (void)tag;
    if (result != OK) {
        LOG_WARN("hub.will_lost", L_SPAN("device", s->name), L_ERR(result));
    }
    session_unref(s);
}

static void store_will(struct session *s)
{
    struct will *will = s->will;
    struct telemetry_source src = session_source(s);
    struct telemetry_message m = {.props = will->props,
                                  .n_props = will->n_props,
                                  .body = will->body,
                                  .retain = will->retain,
                                  .is_will = true};
    struct err_info info = {0};
    session_ref(s);
    enum err e = telemetry_begin(s->w, &src, &m, will_stored, s, 0, &info);
    if (e != OK) {
        session_unref(s);
        LOG_WARN("hub.will_lost", L_SPAN("device", s->name), L_ERR(e), L_WHY(&info, e));
    }
}

void session_end(struct session *s, bool is_clean)
{
    struct hub_worker *hw = hub_worker_of(s->w);
    s->endpoint = NULL;
    streams_unlisten(s);
    list_del(&s->all);
    timer_stop(worker_loop(s->w), &s->expiry);
    timer_stop(worker_loop(s->w), &s->shape);
    if (s->is_ready) {
        if (s->will != NULL && !is_clean) {
            store_will(s);
        }
        s->is_ready = false;
        list_del(&s->link);
        hw->n_sessions--;
        leave(s);
        registry_note_activity(s->w, s->ad.identity, loop_wall_us(worker_loop(s->w)), 0);
    }
    session_unref(s);
}

/* --- what others change ------------------------------------------------------------------------ */

static void end_if_revoked(struct session *s)
{
    struct err_info info = {0};
    enum err e = registry_still_good(s->w, &s->ad, &info);
    if (e != OK) {
        metric_add(s->w, HUB_M_REVOKED, 1);
        s->ops->close(s, e, err_why(&info, e));
    }
}

void sessions_on_change(void *arg, unsigned worker, handle link, int64_t identity,
                        enum dir_change change)
{
    struct hub *h = arg;
    struct worker *w = server_worker(h->server, worker);
    struct session *s = handle_get(worker_loop(w), link);
    if (s == NULL || s->ad.identity != identity || s->endpoint == NULL) {
        return;
    }
    if (!s->is_ready) {
        /* Entered, and its claim on the way home: it is judged there. */
        s->is_leaving = s->is_leaving || change == DIR_TAKEOVER;
        return;
    }
    switch (change) {
    case DIR_GONE:
        metric_add(w, HUB_M_REVOKED, 1);
        s->ops->close(s, E_DISABLED, "identity was disabled or deleted");
        break;
    case DIR_CREDENTIAL:
        end_if_revoked(s);
        break;
    case DIR_TAKEOVER:
        metric_add(w, HUB_M_TAKEOVERS, 1);
        s->ops->close(s, E_FENCED, "a newer connection of this identity took over");
        s->is_leaving = true;
        session_settled(s);
        break;
    }
}

void sessions_on_desired(struct loop *l, handle link, int64_t identity, uint64_t version,
                         struct span patch)
{
    struct session *s = handle_get(l, link);
    if (s != NULL && s->ad.identity == identity && s->is_ready && s->endpoint != NULL) {
        s->ops->desired(s, version, patch);
    }
}

static void walk_slice(struct timer *t)
{
    struct hub_worker *hw = CONTAINER_OF(t, struct hub_worker, walk_timer);
    unsigned n = 0;
    LIST_EACH_SAFE (node, tmp, &hw->sessions) {
        struct session *s = LIST_OF(node, struct session, link);
        if (s->walk == hw->walk) {
            return; /* seen ones stand at the tail: all are */
        }
        if (n++ == SESSION_SLICE) {
            timer_set(worker_loop(hw->w), &hw->walk_timer, 0, walk_slice);
            return;
        }
        s->walk = hw->walk;
        list_del(&s->link);
        list_add_tail(&hw->sessions, &s->link);
        if (s->ad.by_policy || s->ad.by_ca) {
            end_if_revoked(s);
        }
    }
}

void sessions_rejudge_all(struct worker *w)
{
    struct hub_worker *hw = hub_worker_of(w);
    hw->walk++;
    timer_set(worker_loop(w), &hw->walk_timer, 0, walk_slice);
}

void sessions_drain(struct worker *w, uint64_t deadline_ms)
{
    struct hub_worker *hw = hub_worker_of(w);
    hw->is_draining = true;
    uint64_t now = loop_now_ms(worker_loop(w));
    uint64_t left = deadline_ms > now ? deadline_ms - now : 1;
    LIST_EACH_SAFE (node, tmp, &hw->sessions) {
        struct session *s = LIST_OF(node, struct session, link);
        s->ops->drain(s, 1 + random_below(left));
    }
}
