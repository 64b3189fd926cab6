/* SPDX-License-Identifier: Apache-2.0 */
#include "net/door.h"

#include <stdlib.h>
#include <sys/epoll.h>

#include "net/conn_int.h"

#define LOOK_AT 8    /* of the oldest, for one that is silent */
#define TURN 64u     /* who waits is looked at so many at a time */
#define TICK_MS 100u /* while some wait */

/* Connections of one address (IPv6: one /64) that have not authenticated yet. */
struct source {
    struct map_node node;
    unsigned n_inside, n_waiting; /* waiting: in line or held */
    struct list inside, held;     /* conns by at_source, the oldest first */
    struct list link;             /* in door.crowded while it holds any */
    uint8_t key[8];
};

static void run(struct deferred *d);
static void tick(struct timer *t);

/* --- sources ------------------------------------------------------------------------------------------ */

/* False: no memory. *ret NULL: c is bounded by no source. */
static bool source_get(struct door *d, const struct conn *c, struct source **ret)
{
    uint8_t key[8];
    struct span k = conn_source_key(c, key);
    *ret = NULL;
    if (d->max_per_source == 0 || k.n == 0) {
        return true;
    }
    struct map_node *node = map_get(&d->sources, k);
    struct source *s = node != NULL ? CONTAINER_OF(node, struct source, node) : NULL;
    if (s == NULL) {
        if ((s = NEW(struct source)) == NULL) {
            return false;
        }
        memcpy(s->key, key, k.n);
        list_init(&s->inside);
        list_init(&s->held);
        s->node.key = span_of(s->key, k.n);
        if (map_add(&d->sources, &s->node) != OK) {
            free(s);
            return false;
        }
    }
    *ret = s;
    return true;
}

static void source_end_if_empty(struct door *d, struct source *s)
{
    if (s != NULL && s->n_inside == 0 && s->n_waiting == 0) {
        map_del(&d->sources, &s->node);
        free(s);
    }
}

/* Its next one goes to the front of the line. */
static void release_one(struct door *d, struct source *s)
{
    struct list *n = s != NULL && s->n_inside < d->max_per_source ? list_pop(&s->held) : NULL;
    if (n == NULL) {
        return;
    }
    list_add_tail(d->line.next, n); /* before the first */
    if (list_empty(&s->held)) {
        list_del(&s->link);
    }
}

/* --- who is inside ---------------------------------------------------------------------------------------- */

static void leave_inside(struct door *d, struct conn *c)
{
    struct source *s = c->source;
    c->is_unauthenticated = false;
    c->source = NULL;
    list_del(&c->inside);
    d->n_inside--;
    if (s != NULL) {
        list_del(&c->at_source);
        s->n_inside--;
        release_one(d, s);
        source_end_if_empty(d, s);
    }
}

static bool end_if_silent(struct door *d, struct conn *c)
{
    if (list_linked(&c->hs)) {
        return false; /* a handshake step of it is due: it waits for us */
    }
    leave_inside(d, c);
    conn_die(c, E_BUSY);
    d->refused++;
    return true;
}

static bool is_older(const struct door *d, const struct conn *c, uint64_t ms)
{
    return loop_now_ms(d->loop) - c->accepted_ms >= ms;
}

/* One of the oldest of all, or of s, goes. */
static bool make_room(struct door *d, struct source *s)
{
    unsigned looked = 0;
    struct list *all = s != NULL ? &s->inside : &d->inside;
    uint64_t fair_ms = s != NULL ? LIMIT_UNAUTHENTICATED_MS : LIMIT_UNAUTHENTICATED_ALL_MS;
    LIST_EACH_SAFE (n, next, all) {
        struct conn *c =
            s != NULL ? LIST_OF(n, struct conn, at_source) : LIST_OF(n, struct conn, inside);
        if (++looked > LOOK_AT || !is_older(d, c, fair_ms)) {
            return false;
        }
        if (end_if_silent(d, c)) {
            return true;
        }
    }
    return false;
}

static bool is_used_up(const struct door *d, const struct source *s)
{
    return s != NULL && s->n_inside >= d->max_per_source;
}

static bool has_room(const struct door *d)
{
    const struct conns *cs = loop_shared(d->loop);
    return d->n_inside < d->max && cs->n_handshakes < LIMIT_HANDSHAKES_DUE;
}

static void go_in(struct door *d, struct conn *c, bool has_said)
{
    struct source *s = c->source;
    c->accepted_ms = loop_now_ms(d->loop);
    c->is_unauthenticated = true;
    d->n_inside++;
    list_add_tail(&d->inside, &c->inside);
    if (s != NULL) {
        s->n_inside++;
        list_add_tail(&s->inside, &c->at_source);
    }
    listener_let_in(c, has_said);
}

/* --- who waits ---------------------------------------------------------------------------------------------- */

static bool begin_waiting(struct door *d, struct conn *c)
{
    struct conns *cs = loop_shared(d->loop);
    if (loop_watch(d->loop, &c->w, c->w.fd, EPOLLIN | EPOLLRDHUP, conn_on_event) != OK) {
        return false;
    }
    c->state = CONN_WAITING;
    c->is_waiting = true;
    list_add_tail(&d->silent, &c->at_source);
    if (c->source != NULL) {
        c->source->n_waiting++;
    }
    if (d->n_waiting++ == 0) {
        list_add_tail(&cs->doors, &d->link);
        timer_set(d->loop, &d->tick, TICK_MS, tick);
    }
    return true;
}

static void end_waiting(struct door *d, struct conn *c)
{
    struct source *s = c->source;
    c->is_waiting = false;
    c->state = CONN_HANDSHAKE;
    list_del(&c->at_source);
    loop_unwatch(d->loop, &c->w);
    if (s != NULL) {
        s->n_waiting--;
        if (list_linked(&s->link) && list_empty(&s->held)) {
            list_del(&s->link);
        }
    }
    if (--d->n_waiting == 0) {
        list_del(&d->link);
        timer_stop(d->loop, &d->tick);
    }
}

static void hold(struct door *d, struct conn *c)
{
    struct source *s = c->source;
    list_del(&c->at_source);
    list_add_tail(&s->held, &c->at_source);
    if (!list_linked(&s->link)) {
        list_add_tail(&d->crowded, &s->link);
    }
}

/* Whoever has gone meanwhile shall cost nothing more. */
static void drop_waiting(struct door *d, struct conn *c)
{
    d->refused++;
    conn_destroy(c); /* which leaves the line */
}

void door_event(struct conn *c, uint32_t events)
{
    struct door *d = listener_door(c->ls);
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        drop_waiting(d, c);
        return;
    }
    loop_rewatch(d->loop, &c->w, EPOLLRDHUP); /* what it said waits in the kernel */
    list_del(&c->at_source);
    list_add_tail(&d->line, &c->at_source);
    door_knock(d);
}

/* The first in line goes in, or steps aside. */
static void serve_first(struct door *d)
{
    struct conn *c = LIST_OF(d->line.next, struct conn, at_source);
    struct source *s = c->source;
    if (is_used_up(d, s) && (!list_empty(&s->held) || !make_room(d, s))) {
        hold(d, c); /* behind the others of its source */
        return;
    }
    end_waiting(d, c);
    go_in(d, c, true);
}

static void run(struct deferred *def)
{
    struct door *d = CONTAINER_OF(def, struct door, run);
    for (unsigned i = 0; i < TURN && !list_empty(&d->line) && has_room(d); i++) {
        serve_first(d);
    }
    if (has_room(d)) {
        door_knock(d);
    }
}

void door_knock(struct door *d)
{
    if (!list_empty(&d->line)) {
        loop_defer(d->loop, &d->run, run);
    }
}

/* What no event tells: somebody has been silent for long enough. */
static void tick(struct timer *t)
{
    struct door *d = CONTAINER_OF(t, struct door, tick);
    timer_set(d->loop, &d->tick, TICK_MS, tick);
    LIST_EACH_SAFE (n, next, &d->silent) {
        struct conn *c = LIST_OF(n, struct conn, at_source);
        if (!is_older(d, c, LIMIT_HANDSHAKE_S * 1000u)) {
            break;
        }
        drop_waiting(d, c);
    }
    for (unsigned i = 0; i < TURN && d->n_inside >= d->max && make_room(d, NULL); i++) {
    }
    LIST_EACH_SAFE (n, next, &d->crowded) {
        struct source *s = LIST_OF(n, struct source, link);
        if (!is_used_up(d, s)) {
            release_one(d, s);
        } else {
            (void)make_room(d, s); /* which lets one come forward */
        }
    }
    door_knock(d);
}

/* --- coming and going ------------------------------------------------------------------------------------------ */

/* Nobody waits whom it would overtake. */
static bool may_go_in(struct door *d, struct source *s)
{
    if (!list_empty(&d->line) || !has_room(d) || s == NULL) {
        return list_empty(&d->line) && has_room(d);
    }
    s->n_waiting++; /* so that it does not go with the one that makes room */
    bool may = list_empty(&s->held) && (!is_used_up(d, s) || make_room(d, s));
    s->n_waiting--;
    return may;
}

static bool may_wait(const struct door *d, const struct source *s)
{
    return !door_is_full(d) && (s == NULL || s->n_waiting < MAX(d->max_waiting / 2, 1));
}

bool door_arrive(struct door *d, struct conn *c)
{
    c->accepted_ms = loop_now_ms(d->loop);
    if (!source_get(d, c, &c->source)) {
        d->refused++;
        return false;
    }
    if (may_go_in(d, c->source)) {
        go_in(d, c, false);
        return true;
    }
    if (!may_wait(d, c->source) || !begin_waiting(d, c)) {
        struct source *s = c->source;
        c->source = NULL;
        source_end_if_empty(d, s);
        d->refused++;
        return false;
    }
    return true;
}

void door_leave(struct door *d, struct conn *c)
{
    if (c->is_waiting) {
        struct source *s = c->source;
        end_waiting(d, c);
        c->source = NULL;
        release_one(d, s);
        source_end_if_empty(d, s);
    } else if (c->is_unauthenticated) {
        leave_inside(d, c);
    }
    door_knock(d);
}

bool door_is_full(const struct door *d)
{
    return d->n_waiting >= d->max_waiting;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

void door_init(struct door *d, struct loop *l, unsigned max, unsigned max_per_source)
{
    *d = (struct door){.loop = l,
                       .max = max,
                       .max_per_source = max_per_source,
                       .max_waiting = max * LIMIT_WAITING_FACTOR};
    map_init(&d->sources);
    list_init(&d->inside);
    list_init(&d->silent);
    list_init(&d->line);
    list_init(&d->crowded);
}

void door_done(struct door *d)
{
    ASSERT(d->n_inside == 0 && d->n_waiting == 0);
    loop_undefer(d->loop, &d->run);
    map_done(&d->sources);
}
