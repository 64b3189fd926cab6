/* SPDX-License-Identifier: Apache-2.0 */
/* One POST under way, on the worker that took it. States and rules: hub/streams.h. */
#include "hub/streams.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "hub/stream_grant.h"
#include "hub/streams_int.h"
#include "wire/ws.h"

#define TOKEN_EXTRA_S 60u /* device-streams.md 6 */
#define TOKEN_MAX_S 600u
#define MEET_MIN_MS 60000u /* device-streams.md 7.1: from the POST until both ends are there */
#define MEET_MAX_MS 120000u
#define EARLY_MS 1000u      /* device-streams.md 2: before the caller's own timer */
#define OVERTAKEN_MS 10000u /* for the newer link of a device to subscribe */

enum init_state { PENDING, ASKED, DONE };

struct stream_init {
    struct list link;    /* in stream_worker.inits */
    struct list waiting; /* in stream_device.waiting, under the lock */
    struct worker *w;
    struct http_rq *rq;    /* NULL: gone, or answered */
    struct bridge *bridge; /* NULL: has its verdict */
    struct stream_ask ask;
    struct msg cancel, listen;
    struct timer timer;
    uint64_t connect_ms, response_ms, end_ms; /* deadlines; response_ms counts while ASKED */
    uint64_t response_for_ms;
    enum init_state state;
    bool ask_away, cancel_away,
        listen_away; /* messages on other threads; listen_away under the lock */
    bool is_told;    /* it listens since the ask left */
    bool was_deaf;   /* connected, not listening */
    char uuid[GUID_SIZE];
    char service_auth[STREAM_TOKEN_SIZE], device_auth[STREAM_TOKEN_SIZE];
    char *service_url, *device_url, *name;
    const char *what; /* "device", "module" */
    struct policy_use policy;
};

static void set_timer(struct stream_init *i);

/* --- ends ------------------------------------------------------------------------------------------ */

static void free_if_home(struct stream_init *i)
{
    struct streams *st = streams_of(i->w);
    (void)pthread_mutex_lock(&st->lock);
    bool is_away = i->ask_away || i->cancel_away || i->listen_away;
    (void)pthread_mutex_unlock(&st->lock);
    if (i->state != DONE || is_away) {
        return;
    }
    list_del(&i->link);
    mem_wipe(i->service_auth, sizeof(i->service_auth));
    mem_wipe(i->device_auth, sizeof(i->device_auth));
    free(i->service_url);
    free(i->device_url);
    free(i->name);
    free(i);
}

static void cancel_home(struct msg *m)
{
    struct stream_init *i = CONTAINER_OF(m, struct stream_init, cancel);
    i->cancel_away = false;
    free_if_home(i);
}

static void cancel_there(struct msg *m)
{
    struct stream_init *i = CONTAINER_OF(m, struct stream_init, cancel);
    stream_ask_cancel(&i->ask);
    m->run = cancel_home;
    stream_post(i->ask.hub, i->ask.home, m);
}

/* Before the bridge hears its verdict: with its end the device's entry may go. */
static void stop_waiting(struct stream_init *i)
{
    struct streams *st = streams_of(i->w);
    (void)pthread_mutex_lock(&st->lock);
    list_del(&i->waiting);
    (void)pthread_mutex_unlock(&st->lock);
}

/* Nothing more is waited for; the caller has been answered, or has gone. */
static void finish(struct stream_init *i)
{
    i->state = DONE;
    timer_stop(worker_loop(i->w), &i->timer);
    stop_waiting(i);
    if (i->bridge != NULL) {
        bridge_drop(TAKE(i->bridge), WS_CLOSE_FAILED, "Peer not connected");
    }
    if (i->ask_away) {
        i->cancel_away = true;
        i->cancel.run = cancel_there;
        stream_post(i->ask.hub, handle_worker(i->ask.to), &i->cancel);
    }
    free_if_home(i);
}

static struct http_rq *take_rq(struct stream_init *i)
{
    struct http_rq *rq = TAKE(i->rq);
    http_rq_set_gone(rq, NULL, NULL);
    return rq;
}

static void on_gone(void *arg)
{
    struct stream_init *i = arg;
    i->rq = NULL;
    LOG_INFO("hub.stream.abandoned", L_STR("name", i->name));
    finish(i);
}

static void refuse(struct stream_init *i, uint32_t code, const char *text)
{
    metric_add(i->w, HUB_M_STREAM_FAILED, 1);
    hub_refuse_code(take_rq(i), code, text);
    finish(i);
}

static void unavailable(struct stream_init *i)
{
    char text[96];
    (void)snprintf(text, sizeof(text), "Device unavailable: %s is %s", i->what,
                   i->was_deaf ? "connected but not listening for streams" : "not connected");
    refuse(i, 404001, text);
}

/* --- the device --------------------------------------------------------------------------------------- */

static void offer(struct stream_init *i)
{
    struct hub *h = hub_of(i->w);
    i->is_told = false;
    i->ask.to = directory_find(h->directory, i->ask.identity);
    if (i->ask.to != 0) {
        i->state = ASKED;
        i->response_ms = loop_now_ms(worker_loop(i->w)) + i->response_for_ms;
        i->ask_away = true;
        stream_ask_send(&i->ask);
    }
    set_timer(i);
}

static void answered(struct stream_init *i, bool is_accepted)
{
    struct http_rq *rq = take_rq(i);
    struct bridge *b = TAKE(i->bridge);
    stop_waiting(i);
    http_header(rq, "iothub-streaming-is-accepted",
                is_accepted ? SPAN_LIT("True") : SPAN_LIT("False"));
    if (i->ask.proto[0] != '\0') {
        http_header(rq, "berth-streaming-protocol", span_str(i->ask.proto));
    }
    if (is_accepted) {
        http_header(rq, "iothub-streaming-url", span_str(i->service_url));
        http_header(rq, "iothub-streaming-auth-token", span_str(i->service_auth));
        bridge_accept(b, &i->ask.ad);
    } else {
        metric_add(i->w, HUB_M_STREAM_REJECTED, 1);
        bridge_drop(b, WS_CLOSE_NORMAL, "Rejected");
    }
    hub_answer_empty(rq, 200);
    finish(i);
}

/* The link went. Behind a newer one of the same device the request is asked again there: renewing a token must not cost a stream. */
static void lost(struct stream_init *i)
{
    uint64_t now = loop_now_ms(worker_loop(i->w));
    handle was = i->ask.to;
    handle is = directory_find(hub_of(i->w)->directory, i->ask.identity);
    i->state = PENDING;
    i->was_deaf = false;
    if (is != 0 && is != was) {
        i->connect_ms = MAX(i->connect_ms, MIN(i->response_ms, now + OVERTAKEN_MS));
    }
    if ((is != 0 && is != was) || i->is_told) {
        offer(i);
    } else {
        set_timer(i);
    }
}

static void ask_home(struct msg *m)
{
    struct stream_init *i = CONTAINER_OF(m, struct stream_init, ask.msg);
    i->ask_away = false;
    if (i->state == DONE) {
        free_if_home(i);
        return;
    }
    switch (i->ask.result) {
    case ASK_ACCEPTED:
    case ASK_REJECTED:
        answered(i, i->ask.result == ASK_ACCEPTED);
        break;
    case ASK_DEAF:
        i->state = PENDING;
        i->was_deaf = true;
        if (i->is_told) {
            offer(i);
        } else {
            set_timer(i);
        }
        break;
    default:
        lost(i);
        break;
    }
}

static void on_listen(struct msg *m)
{
    struct stream_init *i = CONTAINER_OF(m, struct stream_init, listen);
    struct streams *st = streams_of(i->w);
    (void)pthread_mutex_lock(&st->lock);
    i->listen_away = false;
    (void)pthread_mutex_unlock(&st->lock);
    if (i->state == DONE) {
        free_if_home(i);
    } else if (i->ask_away) {
        i->is_told = true;
    } else {
        offer(i);
    }
}

void stream_init_tell(struct list *waiting)
{
    LIST_EACH (n, waiting) {
        struct stream_init *i = LIST_OF(n, struct stream_init, waiting);
        if (!i->listen_away) {
            i->listen_away = true;
            i->listen.run = on_listen;
            stream_post(i->ask.hub, i->ask.home, &i->listen);
        }
    }
}

/* --- time ----------------------------------------------------------------------------------------------- */

static void on_timer(struct timer *t)
{
    struct stream_init *i = CONTAINER_OF(t, struct stream_init, timer);
    uint64_t now = loop_now_ms(worker_loop(i->w));
    if (i->state == ASKED && now >= MIN(i->response_ms, i->end_ms)) {
        char text[64];
        (void)snprintf(text, sizeof(text), "the %s did not answer in time", i->what);
        refuse(i, 504101, text);
    } else if (i->state == PENDING && now >= MIN(i->connect_ms, i->end_ms)) {
        unavailable(i);
    } else {
        set_timer(i);
    }
}

static void set_timer(struct stream_init *i)
{
    uint64_t now = loop_now_ms(worker_loop(i->w));
    uint64_t due = MIN(i->state == ASKED ? i->response_ms : i->connect_ms, i->end_ms);
    timer_set(worker_loop(i->w), &i->timer, due > now ? due - now : 0, on_timer);
}

/* --- governance ------------------------------------------------------------------------------------------- */

void stream_inits_rejudge(struct worker *w)
{
    struct stream_worker *sw = stream_worker_of(w);
    LIST_EACH_SAFE (n, tmp, &sw->inits) {
        struct stream_init *i = LIST_OF(n, struct stream_init, link);
        AUTO(arena_done) struct arena a = ARENA_INIT(LIMIT_HUB_WORK);
        struct device d;
        if (i->state == DONE) {
            continue;
        }
        if (!stream_caller_still_good(w, &i->policy)) {
            refuse(i, 401002, "Unauthorized");
        } else if (registry_get_by_identity(w, &a, i->ask.identity, &d) != OK || !d.is_enabled) {
            refuse(i, 404001, "Device unavailable: device was deleted or disabled");
        }
    }
}

void stream_inits_drain(struct worker *w)
{
    struct stream_worker *sw = stream_worker_of(w);
    LIST_EACH_SAFE (n, tmp, &sw->inits) {
        struct stream_init *i = LIST_OF(n, struct stream_init, link);
        if (i->state != DONE) {
            hub_refuse(take_rq(i), E_DRAINING, NULL);
            finish(i);
        }
    }
}

/* --- begin -------------------------------------------------------------------------------------------------- */

static char *end_url(const struct streams *st, const struct bridge *b, enum stream_role role)
{
    AUTO(buf_done) struct buf url = BUF_INIT(2048);
    struct stream_path path = {.hub = span_str(b->hub_name),
                               .device_id = span_str(b->device_id),
                               .module_id = span_str(b->module_id),
                               .role = role};
    memcpy(path.sid, b->sid, STREAM_SID);
    buf_add_str(&url, st->url);
    stream_path_write(&url, &path);
    return buf_take_str(&url);
}

static void make_tokens(struct stream_init *i, const struct bridge *b, int64_t expires_s)
{
    const struct streams *st = streams_of(i->w);
    struct stream_token t = {.role = STREAM_R_DEVICE, .expires_s = expires_s};
    memcpy(t.sid, b->sid, STREAM_SID);
    stream_token_write(&st->key, &t, i->device_auth);
    t.role = STREAM_R_SERVICE;
    stream_token_write(&st->key, &t, i->service_auth);
}

/* The sid as a correlation id. */
static void make_uuid(char dst[GUID_SIZE], const uint8_t sid[STREAM_SID])
{
    char hex[2 * STREAM_SID + 1];
    hex_to_cstr(span_of(sid, STREAM_SID), false, hex);
    (void)snprintf(dst, GUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
                   hex + 20);
}

static uint32_t next_rid(struct streams *st)
{
    uint32_t rid = 0;
    while (rid == 0) {
        rid = atomic_fetch_add(&st->rid, 1);
    }
    return rid;
}

/* Deadlines of 2, 7.1 and 6. */
static void set_deadlines(struct stream_init *i, const struct stream_request *r, uint64_t now)
{
    uint64_t sum = r->connect_ms + r->response_ms;
    i->connect_ms = now + r->connect_ms;
    i->response_for_ms = r->response_ms;
    i->end_ms = now + (sum > 2 * EARLY_MS ? sum - EARLY_MS : sum);
}

static struct stream_init *init_new(struct worker *w, const struct stream_request *r,
                                    struct stream_device *d)
{
    struct streams *st = streams_of(w);
    uint64_t now = loop_now_ms(worker_loop(w));
    uint64_t sum = r->connect_ms + r->response_ms;
    struct stream_init *i = NEW(struct stream_init);
    if (i == NULL) {
        return NULL;
    }
    i->w = w;
    i->policy = r->policy;
    i->what = r->device->parent != 0 ? "module" : "device";
    set_deadlines(i, r, now);
    i->bridge = bridge_new(w, d, r, now + MIN(MAX(sum, MEET_MIN_MS), MEET_MAX_MS));
    if (i->bridge != NULL) {
        i->service_url = end_url(st, i->bridge, STREAM_R_SERVICE);
        i->device_url = end_url(st, i->bridge, STREAM_R_DEVICE);
        i->name = span_dup(r->name);
    }
    if (i->service_url == NULL || i->device_url == NULL || i->name == NULL) {
        if (i->bridge != NULL) {
            bridge_discard(i->bridge);
        }
        free(i->service_url);
        free(i->device_url);
        free(i->name);
        free(i);
        return NULL;
    }
    make_tokens(i, i->bridge,
                clock_wall_s(server_clock(worker_server(w))) +
                    (int64_t)MIN(sum / 1000 + TOKEN_EXTRA_S, TOKEN_MAX_S));
    make_uuid(i->uuid, i->bridge->sid);
    i->ask = (struct stream_ask){.hub = st->hub,
                                 .come_home = ask_home,
                                 .home = worker_index(w),
                                 .identity = r->device->identity,
                                 .offer = {.rid = next_rid(st),
                                           .uuid = i->uuid,
                                           .name = i->name,
                                           .url = i->device_url,
                                           .auth = i->device_auth}};
    (void)!span_to_cstr(r->proto, i->ask.offer.proto,
                        sizeof(i->ask.offer.proto)); /* stream_proto_ok */
    return i;
}

enum err stream_begin(struct http_rq *rq, const struct stream_request *r, struct err_info *info)
{
    struct worker *w = worker_of_rq(rq);
    struct streams *st = streams_of(w);
    struct stream_worker *sw = stream_worker_of(w);
    struct stream_device *d;
    if (sw->is_draining) {
        return E_DRAINING;
    }
    enum err e = stream_enter(st, r->device->identity, &d, info);
    if (e != OK) {
        return e;
    }
    struct stream_init *i = init_new(w, r, d);
    if (i == NULL) {
        stream_leave(st, d);
        return E_NOMEM;
    }
    metric_add(w, HUB_M_STREAM_BEGUN, 1);
    list_add_tail(&sw->inits, &i->link);
    i->rq = rq;
    http_rq_set_gone(rq, on_gone, i);
    bridge_expect(i->bridge); /* before the device hears of it */
    (void)pthread_mutex_lock(&st->lock);
    list_add_tail(&d->waiting, &i->waiting); /* before the look-up: no subscription is missed */
    (void)pthread_mutex_unlock(&st->lock);
    offer(i);
    return OK;
}
