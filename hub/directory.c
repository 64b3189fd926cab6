/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/directory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SHARDS 64u
#define SLOTS_MIN 64u

/* One connected identity. Lives while somebody owns it or its event is in a mailbox. */
struct entry {
    struct entry *next;
    int64_t identity;
    handle link;
    uint64_t epoch;
    struct dir_claim *pending; /* the newest claimant that waits for "released" */
    unsigned changes;          /* bits of enum dir_change not yet told */
    bool is_posted;            /* event is in a mailbox */
    unsigned posted_to;        /* of that worker */
    struct rivals rivals;
    bool is_dead; /* released; to be freed when the event has come home */
    struct msg event;
    struct directory *dir;
};

struct shard {
    pthread_mutex_t lock;
    struct entry **slots;
    size_t n_slots;
    size_t count;
};

struct directory {
    struct shard shards[SHARDS];
    _Atomic uint64_t next_epoch;
    _Atomic uint64_t changes; /* notices so far */
    dir_post_fn post;
    void *post_arg;
    dir_change_fn hook;
    void *hook_arg;
};

/* Identities are row numbers: spread neighbours over shards and slots. */
static uint64_t mix(int64_t identity)
{
    uint64_t x = (uint64_t)identity * UINT64_C(0x9E3779B97F4A7C15);
    return x ^ (x >> 29);
}
static struct shard *shard_of(struct directory *d, int64_t identity)
{
    return &d->shards[mix(identity) % SHARDS];
}
static size_t slot_of(const struct shard *s, int64_t identity)
{
    return (size_t)(mix(identity) / SHARDS) & (s->n_slots - 1);
}

static struct entry *find(const struct shard *s, int64_t identity)
{
    for (struct entry *e = s->slots[slot_of(s, identity)]; e != NULL; e = e->next) {
        if (e->identity == identity) {
            return e;
        }
    }
    return NULL;
}

/* A full table only gets slower when memory is short. */
static void grow(struct shard *s)
{
    size_t n = s->n_slots * 2;
    struct entry **slots = calloc(n, sizeof(*slots));
    if (slots == NULL) {
        return;
    }
    struct entry **old = s->slots;
    size_t n_old = s->n_slots;
    s->slots = slots;
    s->n_slots = n;
    for (size_t i = 0; i < n_old; i++) {
        for (struct entry *e = old[i], *next; e != NULL; e = next) {
            next = e->next;
            size_t k = slot_of(s, e->identity);
            e->next = slots[k];
            slots[k] = e;
        }
    }
    free(old);
}

static void insert(struct shard *s, struct entry *e)
{
    if (s->count >= s->n_slots) {
        grow(s);
    }
    size_t k = slot_of(s, e->identity);
    e->next = s->slots[k];
    s->slots[k] = e;
    s->count++;
}

static void take_out(struct shard *s, struct entry *e)
{
    struct entry **p = &s->slots[slot_of(s, e->identity)];
    while (*p != e) {
        p = &(*p)->next;
    }
    *p = e->next;
    s->count--;
}

enum err directory_new(uint64_t boot, dir_post_fn post, void *arg, struct directory **ret)
{
    struct directory *d = NEW(struct directory);
    if (d == NULL) {
        return E_NOMEM;
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&d->shards[i].lock, NULL);
        d->shards[i].n_slots = SLOTS_MIN;
        d->shards[i].slots = calloc(SLOTS_MIN, sizeof(*d->shards[i].slots));
        if (d->shards[i].slots == NULL) {
            directory_free(d);
            return E_NOMEM;
        }
    }
    atomic_init(&d->next_epoch, (boot << 32) + 1);
    atomic_init(&d->changes, 0);
    d->post = post;
    d->post_arg = arg;
    *ret = d;
    return OK;
}

void directory_free(struct directory *d)
{
    if (d == NULL) {
        return;
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &d->shards[i];
        for (size_t k = 0; s->slots != NULL && k < s->n_slots; k++) {
            for (struct entry *e = s->slots[k], *next; e != NULL; e = next) {
                next = e->next;
                free(e);
            }
        }
        free(s->slots);
        pthread_mutex_destroy(&s->lock);
    }
    free(d);
}

void directory_set_hook(struct directory *d, dir_change_fn fn, void *arg)
{
    d->hook = fn;
    d->hook_arg = arg;
}

/* --- what the owner is told -------------------------------------------------------------------- */

static void event_run(struct msg *m);

/* Under the shard's lock. */
static void tell_owner(struct directory *d, struct entry *e, unsigned change)
{
    e->changes |= 1u << change;
    if (!e->is_posted) {
        e->is_posted = true;
        e->posted_to = handle_worker(e->link);
        e->event.run = event_run;
        d->post(d->post_arg, e->posted_to, &e->event);
    }
}

/* On the worker that owned the entry when the event was posted. */
static void event_run(struct msg *m)
{
    struct entry *e = CONTAINER_OF(m, struct entry, event);
    struct directory *d = e->dir;
    struct shard *s = shard_of(d, e->identity);
    pthread_mutex_lock(&s->lock);
    e->is_posted = false;
    if (e->is_dead) {
        pthread_mutex_unlock(&s->lock);
        free(e);
        return;
    }
    if (e->changes != 0 && handle_worker(e->link) != e->posted_to) {
        /* The identity moved to another worker while the event was on its way: that one is to hear it. */
        unsigned moved = e->changes;
        e->changes = 0;
        for (unsigned c = DIR_GONE; c <= DIR_TAKEOVER; c++) {
            if ((moved & (1u << c)) != 0) {
                tell_owner(d, e, c);
            }
        }
        pthread_mutex_unlock(&s->lock);
        return;
    }
    unsigned changes = e->changes;
    handle link = e->link;
    int64_t identity = e->identity;
    e->changes = 0;
    pthread_mutex_unlock(&s->lock);
    for (unsigned c = DIR_GONE; c <= DIR_TAKEOVER; c++) {
        if ((changes & (1u << c)) != 0 && d->hook != NULL) {
            /* The hook finds out by the handle whether that link is still there. */
            d->hook(d->hook_arg, handle_worker(link), link, identity, (enum dir_change)c);
        }
    }
}

/* --- claims ---------------------------------------------------------------------------------- */

static void send_home(struct dir_claim *c, enum err result)
{
    c->result = result;
    loop_post(c->home, &c->msg);
}

enum err directory_claim(struct directory *d, struct dir_claim *c)
{
    struct entry *fresh = NEW(struct entry);
    if (fresh == NULL) {
        return E_NOMEM;
    }
    struct shard *s = shard_of(d, c->identity);
    pthread_mutex_lock(&s->lock);
    c->epoch = atomic_fetch_add(&d->next_epoch, 1);
    struct entry *e = find(s, c->identity);
    c->alarms = 0;
    if (e == NULL) {
        *fresh =
            (struct entry){.identity = c->identity, .link = c->link, .epoch = c->epoch, .dir = d};
        rivals_begin(&fresh->rivals, &c->from);
        insert(s, fresh);
        send_home(c, OK);
        pthread_mutex_unlock(&s->lock);
        return OK;
    }
    c->wait_ms = c->has_waited ? 0 : rivals_wait_ms(&e->rivals, c->now_ms);
    if (c->wait_ms > 0) {
        pthread_mutex_unlock(&s->lock);
        free(fresh);
        return E_AGAIN;
    }
    c->alarms = rivals_note(&e->rivals, c->now_ms, &c->from);
    if (e->pending != NULL) {
        send_home(e->pending, E_FENCED);
    }
    e->pending = c;
    tell_owner(d, e, DIR_TAKEOVER);
    pthread_mutex_unlock(&s->lock);
    free(fresh);
    return OK;
}

void directory_release(struct directory *d, int64_t identity, uint64_t epoch)
{
    struct shard *s = shard_of(d, identity);
    struct entry *dead = NULL;
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, identity);
    if (e != NULL && e->epoch == epoch) {
        if (e->pending != NULL) {
            struct dir_claim *next = e->pending;
            e->pending = NULL;
            e->link = next->link;
            e->epoch = next->epoch;
            e->changes = 0;
            send_home(next, OK);
        } else {
            take_out(s, e);
            e->is_dead = true;
            dead = e->is_posted ? NULL : e;
        }
    }
    pthread_mutex_unlock(&s->lock);
    free(dead);
}

/* --- questions ------------------------------------------------------------------------------- */

handle directory_find(struct directory *d, int64_t identity)
{
    struct shard *s = shard_of(d, identity);
    pthread_mutex_lock(&s->lock);
    const struct entry *e = find(s, identity);
    handle h = e != NULL ? e->link : 0;
    pthread_mutex_unlock(&s->lock);
    return h;
}

bool directory_is_connected(struct directory *d, int64_t identity)
{
    return directory_find(d, identity) != 0;
}

void directory_notify(struct directory *d, int64_t identity, enum dir_change change)
{
    struct shard *s = shard_of(d, identity);
    (void)atomic_fetch_add(&d->changes, 1);
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, identity);
    if (e != NULL) {
        tell_owner(d, e, change);
    }
    pthread_mutex_unlock(&s->lock);
}

uint64_t directory_changes(struct directory *d)
{
    return atomic_load(&d->changes);
}

uint64_t directory_count(struct directory *d)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&d->shards[i].lock);
        n += d->shards[i].count;
        pthread_mutex_unlock(&d->shards[i].lock);
    }
    return n;
}
