/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/streams.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "hub/stream_grant.h"
#include "hub/streams_int.h"

#define END_TURNS 8
#define WALK_SLICE 64u /* each reads a row */

/* --- life --------------------------------------------------------------------------------------- */

static char *make_url(const struct hub *h, const struct streams_conf *conf)
{
    const struct server_conf *base = server_base_conf(h->server);
    AUTO(buf_done) struct buf b = BUF_INIT(512);
    struct span host = span_str(conf->gateway_host);
    uint64_t port = conf->gateway_port != 0 ? conf->gateway_port : base->https_port;
    buf_add_str(&b, "wss://");
    buf_add(&b, host.n > 0 ? host : server_first_name(h->server));
    /* Always with the port: the C SDK's preview takes an address without one for port 0. */
    buf_addf(&b, ":%llu", (unsigned long long)port);
    return buf_take_str(&b);
}

enum err streams_new(struct hub *h, const struct streams_conf *conf, struct streams **ret)
{
    struct streams *st = NEW(struct streams);
    if (st == NULL) {
        return E_NOMEM;
    }
    st->hub = h;
    st->is_on = conf->is_on;
    st->is_strict = conf->is_strict;
    enum err e = secret_random(&st->key, 32);
    if (e == OK && (st->url = make_url(h, conf)) == NULL) {
        e = E_NOMEM;
    }
    if (e != OK) {
        secret_done(&st->key);
        free(st);
        return e;
    }
    (void)pthread_mutex_init(&st->lock, NULL);
    map_init(&st->devices);
    uint32_t rid;
    random_bytes(&rid, sizeof(rid));
    atomic_init(&st->rid, rid);
    for (unsigned i = 0; i < STREAM_WORKERS; i++) {
        atomic_init(&st->worker[i].changed_posted, false);
        atomic_init(&st->worker[i].load, 0);
    }
    rate_init(&st->begins, 0);
    st->conf = *conf;
    st->conf.gateway_host = NULL;
    *ret = st;
    return OK;
}

void streams_free(struct streams *st)
{
    if (st != NULL) {
        struct map_cursor cursor = {0, NULL};
        for (struct map_node *n; (n = map_next(&st->devices, &cursor)) != NULL;) {
            map_del(&st->devices, n); /* of streams that outlived the drain */
            free(CONTAINER_OF(n, struct stream_device, node));
        }
        map_done(&st->devices);
        (void)pthread_mutex_destroy(&st->lock);
        secret_done(&st->key);
        free(st->url);
        free(st);
    }
}

bool streams_reload(struct streams *st, const struct streams_conf *conf)
{
    AUTO(mem_free_p) char *url = make_url(st->hub, conf);
    (void)pthread_mutex_lock(&st->lock);
    st->conf = *conf;
    st->conf.gateway_host = NULL;
    (void)pthread_mutex_unlock(&st->lock);
    return conf->is_on == st->is_on && conf->is_strict == st->is_strict && url != NULL &&
           strcmp(url, st->url) == 0;
}

bool streams_are_on(const struct hub *h)
{
    return h->streams != NULL && h->streams->is_on;
}

uint64_t streams_open(const struct hub *h)
{
    struct streams *st = h->streams;
    if (st == NULL) {
        return 0;
    }
    (void)pthread_mutex_lock(&st->lock);
    unsigned n = st->n;
    (void)pthread_mutex_unlock(&st->lock);
    return n;
}

/* --- limits: all workers together ----------------------------------------------------------------- */

static struct span key_of(const int64_t *identity)
{
    return span_of(identity, sizeof(*identity));
}

/* Under the lock. */
static struct stream_device *device_get(struct streams *st, int64_t identity)
{
    struct map_node *node = map_get(&st->devices, key_of(&identity));
    return node != NULL ? CONTAINER_OF(node, struct stream_device, node) : NULL;
}

static struct stream_device *device_make(struct streams *st, int64_t identity)
{
    struct stream_device *d = NEW(struct stream_device);
    if (d == NULL) {
        return NULL;
    }
    d->identity = identity;
    d->node.key = key_of(&d->identity);
    list_init(&d->waiting);
    rate_init(&d->rate, st->conf.device_bytes_per_s);
    if (map_add(&st->devices, &d->node) != OK) {
        free(d);
        return NULL;
    }
    return d;
}

/* Each new stream counts as one byte of a rate whose burst is a second's worth. */
static bool begins_too_fast(struct streams *st)
{
    uint64_t now_us = clock_mono_ms(server_clock(st->hub->server)) * 1000u;
    uint64_t per = 1000000u / MAX(st->conf.new_per_s, 1u);
    uint64_t passed = MAX(atomic_load(&st->begins.passed_us), now_us);
    if (st->conf.new_per_s == 0) {
        return false;
    }
    if (passed + per > now_us + 1000000u) {
        return true;
    }
    atomic_store(&st->begins.passed_us, passed + per);
    return false;
}

static enum err count_in(struct streams *st, int64_t identity, struct stream_device **ret,
                         struct err_info *info)
{
    struct stream_device *d = device_get(st, identity);
    if (st->conf.max != 0 && st->n >= st->conf.max) {
        return err_set(info, E_THROTTLED, "%llu streams are open on this hub",
                       (unsigned long long)st->conf.max);
    }
    if (st->conf.max_per_device != 0 && d != NULL && d->n >= st->conf.max_per_device) {
        return err_set(info, E_THROTTLED, "%llu streams are open to this device",
                       (unsigned long long)st->conf.max_per_device);
    }
    if (begins_too_fast(st)) {
        return err_set(info, E_THROTTLED, "more than %llu new streams a second on this hub",
                       (unsigned long long)st->conf.new_per_s);
    }
    if (d == NULL && (d = device_make(st, identity)) == NULL) {
        return E_NOMEM;
    }
    d->n++;
    st->n++;
    *ret = d;
    return OK;
}

enum err stream_enter(struct streams *st, int64_t identity, struct stream_device **ret,
                      struct err_info *info)
{
    (void)pthread_mutex_lock(&st->lock);
    enum err e = count_in(st, identity, ret, info);
    (void)pthread_mutex_unlock(&st->lock);
    return e;
}

void stream_leave(struct streams *st, struct stream_device *d)
{
    (void)pthread_mutex_lock(&st->lock);
    st->n--;
    if (--d->n == 0) {
        ASSERT(list_empty(&d->waiting));
        map_del(&st->devices, &d->node);
        free(d);
    }
    (void)pthread_mutex_unlock(&st->lock);
}

/* --- a device listens --------------------------------------------------------------------------------- */

void streams_listen(struct session *s)
{
    struct streams *st = hub_of(s->w)->streams;
    LIST_EACH_SAFE (n, tmp, &s->asks) {
        struct stream_ask *a = LIST_OF(n, struct stream_ask, link);
        /* It may have subscribed anew because it lost its state: once more, with the same rid. */
        if (!a->was_resent) {
            a->was_resent = true;
            (void)s->ops->stream(s, &a->offer); /* a link that fails now is told by its end */
        }
    }
    (void)pthread_mutex_lock(&st->lock);
    struct stream_device *d = device_get(st, s->ad.identity);
    if (d != NULL) {
        stream_init_tell(&d->waiting);
    }
    (void)pthread_mutex_unlock(&st->lock);
}

/* --- governance ----------------------------------------------------------------------------------------- */

static void walk(struct timer *t)
{
    struct stream_worker *sw = CONTAINER_OF(t, struct stream_worker, walk_timer);
    unsigned n = 0;
    LIST_EACH_SAFE (node, tmp, &sw->all) {
        struct bridge *b = LIST_OF(node, struct bridge, link);
        if (b->walk == sw->walk) {
            return; /* seen ones stand at the tail: all are */
        }
        if (n++ == WALK_SLICE) {
            timer_set(worker_loop(sw->w), t, 0, walk);
            return;
        }
        b->walk = sw->walk;
        list_del(&b->link);
        list_add_tail(&sw->all, &b->link);
        bridge_rejudge(b);
    }
}

void streams_rejudge(struct worker *w)
{
    if (streams_of(w) == NULL) {
        return;
    }
    struct stream_worker *sw = stream_worker_of(w);
    sw->walk++;
    timer_set(worker_loop(w), &sw->walk_timer, 0, walk);
    stream_inits_rejudge(w);
}

static void on_changed(struct msg *m)
{
    struct stream_worker *sw = CONTAINER_OF(m, struct stream_worker, changed);
    atomic_store(&sw->changed_posted, false); /* before anything is read */
    streams_rejudge(sw->w);
}

void streams_rejudge_all(struct hub *h)
{
    struct streams *st = h->streams;
    for (unsigned i = 0; st != NULL && i < server_n_workers(h->server); i++) {
        if (!atomic_exchange(&st->worker[i].changed_posted, true)) {
            st->worker[i].changed.run = on_changed;
            stream_post(h, i, &st->worker[i].changed);
        }
    }
}

void streams_device_changed(struct hub *h, int64_t identity)
{
    struct streams *st = h->streams;
    if (st == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&st->lock);
    bool has_streams = device_get(st, identity) != NULL;
    (void)pthread_mutex_unlock(&st->lock);
    if (has_streams) {
        streams_rejudge_all(h);
    }
}

/* --- workers -------------------------------------------------------------------------------------------- */

enum err streams_worker_start(struct worker *w)
{
    ASSERT(worker_index(w) < STREAM_WORKERS);
    struct stream_worker *sw = stream_worker_of(w);
    sw->w = w;
    map_init(&sw->bridges);
    list_init(&sw->all);
    list_init(&sw->inits);
    stream_grants_start(w);
    return OK;
}

void streams_worker_done(struct worker *w)
{
    struct stream_worker *sw = stream_worker_of(w);
    streams_drain(w);
    timer_stop(worker_loop(w), &sw->walk_timer);
    stream_grants_stop(w);
    LIST_EACH_SAFE (node, tmp, &sw->all) {
        bridge_cut(LIST_OF(node, struct bridge, link));
    }
    for (int i = 0; i < END_TURNS; i++) {
        loop_turn(worker_loop(w), 0);
    }
    map_done(&sw->bridges);
}

void streams_drain(struct worker *w)
{
    struct stream_worker *sw = stream_worker_of(w);
    sw->is_draining = true;
    stream_inits_drain(w);
    LIST_EACH_SAFE (node, tmp, &sw->all) {
        bridge_end(LIST_OF(node, struct bridge, link), 1001, "Server shuts down");
    }
}

bool streams_busy(struct worker *w)
{
    struct stream_worker *sw = stream_worker_of(w);
    return !list_empty(&sw->all) || !list_empty(&sw->inits);
}
