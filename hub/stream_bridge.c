/* SPDX-License-Identifier: Apache-2.0 */
/* A stream on the worker that owns it: from "expect" to the end of its relay. See hub/streams.h. */
#include "hub/streams.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "hub/stream_grant.h"
#include "hub/streams_int.h"
#include "wire/ws.h"

static const char *const why_texts[] = {
    [RELAY_CLOSED] = "closed by",         [RELAY_LOST] = "connection lost by",
    [RELAY_FAULT] = "protocol broken by", [RELAY_DEAD] = "no sign of life from",
    [RELAY_EMPTY] = "end of stream from", [RELAY_ENDED] = "ended by",
};

static struct span sid_tag(const struct bridge *b, char hex[2 * STREAM_SID + 1])
{
    hex_to_cstr(span_of(b->sid, STREAM_SID), false, hex);
    return span_of(hex, 6); /* all that a log may know */
}

const char *bridge_target(const struct bridge *b, char dst[BRIDGE_TARGET])
{
    (void)snprintf(dst, BRIDGE_TARGET, "%s%s%s", b->device_id, b->module_id[0] != '\0' ? "/" : "",
                   b->module_id);
    return dst;
}

/* --- audit ----------------------------------------------------------------------------------------- */

static void tell_open(struct bridge *b)
{
    char act[STREAM_ACT], hex[2 * STREAM_SID + 1], to[BRIDGE_TARGET];
    struct span tag = sid_tag(b, hex);
    LOG_INFO("hub.stream.opened", L_SPAN("sid", tag), L_STR("device", bridge_target(b, to)),
             L_STR("name", b->name), L_STR("who", b->who));
    (void)snprintf(act, sizeof(act), "stream %.6s open %s %s", hex, to, b->name);
    stream_audit(b->w, b->who, act, "OK");
    metric_add(b->w, HUB_M_STREAM_OPENED, 1);
}

static void tell_end(struct bridge *b, const struct relay_end *end)
{
    char act[STREAM_ACT], result[160], why[96], hex[2 * STREAM_SID + 1], to[BRIDGE_TARGET];
    struct span tag = sid_tag(b, hex);
    uint64_t ms = loop_now_ms(worker_loop(b->w)) - b->began_ms;
    if (b->end_reason != NULL) {
        (void)snprintf(why, sizeof(why), "%s", b->end_reason);
    } else {
        (void)snprintf(why, sizeof(why), "%s %s", why_texts[end->why],
                       end->who == RELAY_DEVICE ? "device" : "service");
    }
    LOG_INFO("hub.stream.closed", L_SPAN("sid", tag), L_STR("device", bridge_target(b, to)),
             L_STR("name", b->name), L_STR("who", b->who), L_BOOL("was_open", b->is_open),
             L_U64("device_bytes", end->bytes[RELAY_DEVICE]),
             L_U64("service_bytes", end->bytes[RELAY_SERVICE]), L_U64("ms", ms), L_STR("why", why));
    metric_add(b->w, HUB_M_STREAM_BYTES_DEVICE, (int64_t)end->bytes[RELAY_DEVICE]);
    metric_add(b->w, HUB_M_STREAM_BYTES_SERVICE, (int64_t)end->bytes[RELAY_SERVICE]);
    if (b->is_open) {
        (void)snprintf(act, sizeof(act), "stream %.6s close %s %s", hex, to, b->name);
        (void)snprintf(result, sizeof(result), "device_bytes=%llu service_bytes=%llu ms=%llu %s",
                       (unsigned long long)end->bytes[RELAY_DEVICE],
                       (unsigned long long)end->bytes[RELAY_SERVICE], (unsigned long long)ms, why);
        stream_audit(b->w, b->who, act, result);
    }
}

/* --- life -------------------------------------------------------------------------------------------- */

void bridge_discard(struct bridge *b)
{
    free(b->device_id);
    free(b->module_id);
    free(b->name);
    free(b->who);
    free(b->hub_name);
    free(b);
}

static void free_if_over(struct bridge *b)
{
    if (!b->is_over || !b->has_verdict) {
        return;
    }
    struct stream_worker *sw = stream_worker_of(b->w);
    list_del(&b->link);
    atomic_fetch_sub(&sw->load, 1);
    stream_leave(b->st, b->device);
    bridge_discard(b);
}

static void on_end(struct relay *r UNUSED, void *arg, const struct relay_end *end)
{
    struct bridge *b = arg;
    b->relay = NULL;
    b->is_over = true;
    timer_stop(worker_loop(b->w), &b->timer);
    timer_stop(worker_loop(b->w), &b->until);
    map_del(&stream_worker_of(b->w)->bridges, &b->node);
    tell_end(b, end);
    free_if_over(b);
}

void bridge_end(struct bridge *b, uint16_t code, const char *reason)
{
    if (b->relay != NULL && !relay_is_ending(b->relay)) {
        b->end_reason = reason;
        relay_end(b->relay, code, reason);
    }
}

void bridge_cut(struct bridge *b)
{
    if (b->relay != NULL) {
        b->end_reason = "Server ends";
        relay_cut(b->relay);
    }
}

static void on_limit(struct timer *t);
static void watch_limits(struct bridge *b)
{
    uint64_t now = loop_now_ms(worker_loop(b->w)), wait_ms = UINT64_MAX;
    if (b->idle_s != 0) {
        wait_ms = b->idle_s * 250;
    }
    if (b->lifetime_s != 0) {
        uint64_t end_ms = b->open_ms + b->lifetime_s * 1000;
        wait_ms = MIN(wait_ms, end_ms > now ? end_ms - now : 0);
    }
    if (wait_ms != UINT64_MAX) {
        timer_set(worker_loop(b->w), &b->timer, wait_ms, on_limit);
    }
}

static void on_deadline(struct timer *t)
{
    bridge_end(CONTAINER_OF(t, struct bridge, timer), WS_CLOSE_FAILED, "Peer not connected");
}

/* Of an open stream: its age, and whether anything came through since the last look. Looks four times in an idle time, so that it ends
 * between one and one and a quarter of it. */
static void on_limit(struct timer *t)
{
    struct bridge *b = CONTAINER_OF(t, struct bridge, timer);
    uint64_t now = loop_now_ms(worker_loop(b->w)), age_s = (now - b->open_ms) / 1000;
    uint64_t moved = relay_bytes(b->relay, RELAY_DEVICE) + relay_bytes(b->relay, RELAY_SERVICE);
    if (b->lifetime_s != 0 && age_s >= b->lifetime_s) {
        bridge_end(b, WS_CLOSE_NORMAL, "Lifetime over");
        return;
    }
    if (moved != b->moved) {
        b->moved = moved;
        b->moved_ms = now;
    } else if (b->idle_s != 0 && now - b->moved_ms >= b->idle_s * 1000) {
        bridge_end(b, WS_CLOSE_NORMAL, "Idle for too long");
        return;
    }
    watch_limits(b);
}

/* By the wall clock, which may be set: asked again and again, at the end often enough. */
static void on_until(struct timer *t)
{
    struct bridge *b = CONTAINER_OF(t, struct bridge, until);
    int64_t left_s = b->policy.until_s - server_token_now_s(worker_server(b->w));
    if (left_s <= 0) {
        bridge_rejudge(b);
        return;
    }
    timer_set(worker_loop(b->w), t, left_s > 10 ? 5000 : 200, on_until);
}

/* On the owner, before anybody can ask for it. */
static void on_expect(struct msg *m)
{
    struct bridge *b = CONTAINER_OF(m, struct bridge, expect);
    struct worker *w = server_worker(b->st->hub->server, stream_owner(b->st, b->sid));
    struct stream_worker *sw = stream_worker_of(w);
    struct loop *l = worker_loop(w);
    b->w = w;
    b->node.key = span_of(b->sid, STREAM_SID);
    b->walk = sw->walk;
    list_add_tail(&sw->all, &b->link);
    const struct relay_conf conf = {.loop = l,
                                    .is_strict = b->st->is_strict,
                                    .rate = {&b->rate, &b->device->rate},
                                    .on_end = on_end,
                                    .arg = b};
    if (map_add(&sw->bridges, &b->node) != OK) {
        b->is_over = true; /* its tokens find nothing */
        return;
    }
    if (relay_new(&conf, &b->relay) != OK) {
        map_del(&sw->bridges, &b->node);
        b->is_over = true;
        return;
    }
    uint64_t now = loop_now_ms(l);
    timer_set(l, &b->timer, b->deadline_ms > now ? b->deadline_ms - now : 0, on_deadline);
    if (b->policy.until_s != 0) {
        timer_set(l, &b->until, 0, on_until);
    }
    if (sw->is_draining) {
        bridge_end(b, WS_CLOSE_AWAY, "Server shuts down");
    }
}

static void on_verdict(struct msg *m)
{
    struct bridge *b = CONTAINER_OF(m, struct bridge, verdict);
    b->has_verdict = true;
    if (!b->is_accepted) {
        bridge_end(b, b->close_code, b->close_reason);
    } else if (!b->is_over) {
        bridge_rejudge(b); /* what changed since the device's answer was told to nobody */
    }
    free_if_over(b);
}

/* --- POST worker ----------------------------------------------------------------------------------------- */

static unsigned least_loaded(const struct streams *st)
{
    unsigned n = server_n_workers(st->hub->server);
    unsigned best = (unsigned)random_below(n); /* among equals any */
    for (unsigned i = 0; i < n; i++) {
        if (atomic_load(&st->worker[i].load) < atomic_load(&st->worker[best].load)) {
            best = i;
        }
    }
    return best;
}

struct bridge *bridge_new(struct worker *w, struct stream_device *d, const struct stream_request *r,
                          uint64_t deadline_ms)
{
    struct streams *st = streams_of(w);
    struct bridge *b = NEW(struct bridge);
    if (b == NULL) {
        return NULL;
    }
    b->st = st;
    b->device = d;
    b->identity = r->device->identity;
    b->policy = r->policy;
    b->deadline_ms = deadline_ms;
    b->began_ms = loop_now_ms(worker_loop(w));
    b->device_id = span_dup(r->device->id);
    b->module_id = span_dup(r->device->module_id);
    b->name = span_dup(r->name);
    b->who = span_dup(r->policy_name);
    b->hub_name = span_dup(server_first_name(st->hub->server));
    if (b->device_id == NULL || b->module_id == NULL || b->name == NULL || b->who == NULL ||
        b->hub_name == NULL) {
        bridge_discard(b);
        return NULL;
    }
    (void)pthread_mutex_lock(&st->lock);
    rate_init(&b->rate, st->conf.bytes_per_s);
    (void)pthread_mutex_unlock(&st->lock);
    unsigned owner = least_loaded(st);
    do {
        random_bytes(b->sid, STREAM_SID);
    } while (stream_owner(st, b->sid) != owner);
    return b;
}

void bridge_expect(struct bridge *b)
{
    unsigned owner = stream_owner(b->st, b->sid);
    atomic_fetch_add(&b->st->worker[owner].load, 1);
    b->expect.run = on_expect;
    stream_post(b->st->hub, owner, &b->expect);
}

static void give_verdict(struct bridge *b)
{
    b->verdict.run = on_verdict;
    stream_post(b->st->hub, stream_owner(b->st, b->sid), &b->verdict);
}

void bridge_accept(struct bridge *b, const struct admitted *ad)
{
    b->is_accepted = true;
    b->ad = *ad;
    give_verdict(b);
}

void bridge_drop(struct bridge *b, uint16_t code, const char *reason)
{
    b->close_code = code;
    b->close_reason = reason;
    give_verdict(b);
}

/* --- owner -------------------------------------------------------------------------------------------------- */

struct bridge *bridge_find(struct worker *w, const uint8_t sid[STREAM_SID])
{
    struct map_node *n = map_get(&stream_worker_of(w)->bridges, span_of(sid, STREAM_SID));
    return n != NULL ? CONTAINER_OF(n, struct bridge, node) : NULL;
}

void bridge_rejudge(struct bridge *b)
{
    struct err_info info = {0};
    enum err e = OK;
    if (b->is_over) {
        return;
    }
    if (!stream_caller_still_good(b->w, &b->policy)) {
        e = err_set(&info, E_UNAUTHORIZED,
                    b->policy.id < 0 ? "the caller's grant was revoked, or its time is over"
                                     : "the caller's policy or its key changed");
    } else if (b->has_verdict && b->is_accepted) {
        e = registry_still_good(b->w, &b->ad, &info);
    }
    if (e != OK) {
        char hex[2 * STREAM_SID + 1], to[BRIDGE_TARGET];
        LOG_INFO("hub.stream.revoked", L_SPAN("sid", sid_tag(b, hex)),
                 L_STR("device", bridge_target(b, to)), L_ERR(e), L_WHY(&info, e));
        metric_add(b->w, HUB_M_STREAM_REVOKED, 1);
        bridge_end(b, WS_CLOSE_POLICY, "Access was revoked");
    }
}

/* --- the gateway ---------------------------------------------------------------------------------------------- */

/* device-streams.md 7: the first that is offered, or none. */
static struct span first_protocol(struct http_rq *rq)
{
    struct span list = http_rq_header(rq, "Sec-WebSocket-Protocol");
    while (list.n > 0) {
        struct span word = span_trim(span_cut(&list, ','));
        if (word.n > 0) {
            return word;
        }
    }
    return SPAN_NONE;
}

static enum err find_end(struct worker *w, const struct stream_path *path, struct bridge **ret,
                         struct err_info *info)
{
    struct bridge *b = bridge_find(w, path->sid);
    if (b == NULL || b->relay == NULL || relay_is_ending(b->relay) ||
        !span_is(path->device_id, b->device_id) || !span_is(path->module_id, b->module_id) ||
        !span_is_nocase(path->hub, b->hub_name)) {
        return err_set(info, E_NOT_FOUND, "no such stream, or it is over");
    }
    enum relay_side side = path->role == STREAM_R_DEVICE ? RELAY_DEVICE : RELAY_SERVICE;
    if (relay_has(b->relay, side)) {
        return err_set(info, E_CONFLICT, "this end of the stream was opened already");
    }
    *ret = b;
    return OK;
}

struct gate_end {
    struct bridge *b;
    enum relay_side side;
    bool is_ours; /* a Berth tool: knows half-close */
};

enum err stream_admit(struct worker *w, struct http_rq *rq, struct span *ret_protocol,
                      void **ret_end, struct err_info *info)
{
    struct streams *st = streams_of(w);
    struct stream_path path;
    struct stream_token t;
    struct bridge *b = NULL;
    enum err e = streams_are_on(st->hub)
                     ? stream_path_read(http_rq_raw_path(rq), http_rq_arena(rq), &path)
                     : E_NO_ROUTE;
    if (e != OK ||
        (e = stream_token_read(&st->key, http_rq_header(rq, "Authorization"),
                               clock_wall_s(server_clock(worker_server(w))), &t, info)) != OK) {
        return e;
    }
    if (t.role != path.role ||
        !span_eq(span_of(t.sid, STREAM_SID), span_of(path.sid, STREAM_SID))) {
        return err_set(info, E_UNAUTHORIZED, "stream token is for another end or stream");
    }
    conn_mark_authenticated(http_rq_conn(rq));
    unsigned owner = stream_owner(st, path.sid);
    if (owner != worker_index(w)) {
        worker_move_rq(w, rq, owner);
        return E_AGAIN;
    }
    struct gate_end *end = arena_new(http_rq_arena(rq), struct gate_end);
    if (end == NULL || (e = find_end(w, &path, &b, info)) != OK) {
        return end == NULL ? E_NOMEM : e;
    }
    struct span protocol = first_protocol(rq);
    *end = (struct gate_end){b, path.role == STREAM_R_DEVICE ? RELAY_DEVICE : RELAY_SERVICE,
                             span_is(protocol, STREAM_PROTOCOL)};
    http_rq_take_carrier(rq);
    *ret_protocol = protocol;
    *ret_end = end;
    return OK;
}

void stream_take(struct worker *w, struct stream *carrier, void *arg)
{
    const struct gate_end *end = arg;
    struct bridge *b = end->b;
    conn_forget_peer_cert(stream_conn(carrier)); /* the token is what counts here */
    relay_attach(b->relay, end->side, carrier, end->is_ours);
    if (relay_has(b->relay, RELAY_DEVICE) && relay_has(b->relay, RELAY_SERVICE)) {
        b->is_open = true;
        timer_stop(worker_loop(w), &b->timer);
        b->open_ms = b->moved_ms = loop_now_ms(worker_loop(w));
        (void)pthread_mutex_lock(&b->st->lock);
        b->idle_s = b->st->conf.idle_s;
        b->lifetime_s = b->st->conf.lifetime_s;
        (void)pthread_mutex_unlock(&b->st->lock);
        watch_limits(b);
        tell_open(b);
    }
}
