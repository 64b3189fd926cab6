/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection facts, written lazily: the newest of each identity is kept here and given to the writer every LIMIT_HUB_NOTE_S seconds in
 * one operation of the bulk queue. What is asked for meanwhile is answered from here (notes_merge), so that a device that has just
 * gone is never "last seen" before it came. What a crash loses is a few seconds of "last seen".
 *
 * Threads     any; one mutex, held for one look-up or change. Flushed by the timers of the workers.
 */
#include <stdlib.h>

#include "base/log.h"
#include "hub/hub_sql.h"
#include "hub/registry_int.h"

struct note {
    struct map_node in; /* key: identity */
    int64_t identity;
    int64_t state_us, activity_us;
    bool is_new; /* since it was last given to the writer */
};

struct fact {
    int64_t identity, state_us, activity_us;
};
struct note_batch {
    struct store_op op; /* first */
    struct registry *r;
    size_t n;
    struct fact facts[];
};

static enum err batch_tx(struct store_tx *tx, struct store_op *op)
{
    struct note_batch *b = CONTAINER_OF(op, struct note_batch, op);
    for (size_t i = 0; i < b->n; i++) {
        const struct fact *f = &b->facts[i];
        enum err e = hub_sql_seen_put(tx->db, f->identity, f->state_us, f->activity_us);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static struct note *find(struct registry *r, const int64_t *identity)
{
    struct map_node *n = map_get(&r->notes, span_of(identity, sizeof(*identity)));
    return n != NULL ? CONTAINER_OF(n, struct note, in) : NULL;
}

/* On disk, or lost: either way the row is what is asked from now on, but for what came since. */
static void batch_home(struct msg *m)
{
    struct note_batch *b = CONTAINER_OF(m, struct note_batch, op.msg);
    if (b->op.result != OK) {
        LOG_WARN("hub.activity.lost", L_ERR(b->op.result), L_U64("identities", b->n));
    }
    pthread_mutex_lock(&b->r->notes_lock);
    for (size_t i = 0; i < b->n; i++) {
        struct note *n = find(b->r, &b->facts[i].identity);
        if (n != NULL && !n->is_new) {
            map_del(&b->r->notes, &n->in);
            free(n);
        }
    }
    pthread_mutex_unlock(&b->r->notes_lock);
    free(b);
}

/* Under the lock. NULL: nothing new, or no memory (they stay noted). */
static struct note_batch *take_new(struct registry *r)
{
    struct note_batch *b = NULL;
    struct map_cursor c = {0, NULL};
    struct map_node *node;
    if (r->notes_new == 0 ||
        (b = mem_new(sizeof(*b) + r->notes_new * sizeof(b->facts[0]))) == NULL) {
        return NULL;
    }
    while ((node = map_next(&r->notes, &c)) != NULL) {
        struct note *n = CONTAINER_OF(node, struct note, in);
        if (n->is_new) {
            n->is_new = false;
            b->facts[b->n++] = (struct fact){n->identity, n->state_us, n->activity_us};
        }
    }
    ASSERT(b->n == r->notes_new);
    r->notes_new = 0;
    return b;
}

void notes_flush(struct registry *r)
{
    pthread_mutex_lock(&r->notes_lock);
    struct note_batch *b = take_new(r);
    pthread_mutex_unlock(&r->notes_lock);
    if (b == NULL) {
        return;
    }
    b->r = r;
    b->op = (struct store_op){.msg.run = batch_home,
                              .tx = batch_tx,
                              .bulk = true,
                              .bytes = (uint32_t)(b->n * sizeof(struct fact))};
    enum err e = store_submit(server_store(r->server), &b->op);
    if (e != OK) {
        b->op.result = e;
        batch_home(&b->op.msg);
    }
}

void registry_flush_notes(struct hub *h)
{
    notes_flush(h->registry);
}

static void on_flush(struct timer *t)
{
    notes_flush(CONTAINER_OF(t, struct registry_worker, flush)->registry);
}

void notes_done(struct registry_worker *rw)
{
    timer_stop(worker_loop(rw->w), &rw->flush);
}

void notes_free(struct registry *r)
{
    struct map_cursor c = {0, NULL};
    struct map_node *node;
    while ((node = map_next(&r->notes, &c)) != NULL) {
        map_del(&r->notes, node);
        free(CONTAINER_OF(node, struct note, in));
    }
    map_done(&r->notes);
    pthread_mutex_destroy(&r->notes_lock);
}

/* Under the lock. NULL: no memory, or too many; a fact that is told late or not at all harms nobody. */
static struct note *note_of(struct registry *r, int64_t identity)
{
    struct note *n = find(r, &identity);
    if (n != NULL || r->notes.count >= LIMIT_HUB_NOTED || (n = NEW(struct note)) == NULL) {
        return n;
    }
    n->identity = identity;
    n->in.key = span_of(&n->identity, sizeof n->identity);
    if (map_add(&r->notes, &n->in) != OK) {
        free(n);
        return NULL;
    }
    return n;
}

void registry_note_activity(struct worker *w, int64_t identity, int64_t wall_us, int connected)
{
    struct registry_worker *rw = registry_worker_of(w);
    struct registry *r = rw->registry;
    pthread_mutex_lock(&r->notes_lock);
    struct note *n = note_of(r, identity);
    bool is_full = r->notes.count >= LIMIT_HUB_NOTED;
    if (n != NULL) {
        n->activity_us = MAX(n->activity_us, wall_us);
        n->state_us = connected >= 0 ? MAX(n->state_us, wall_us) : n->state_us;
        r->notes_new += n->is_new ? 0 : 1;
        n->is_new = true;
    }
    pthread_mutex_unlock(&r->notes_lock);
    if (is_full) {
        notes_flush(r);
    } else if (!timer_is_set(&rw->flush)) {
        timer_set(worker_loop(w), &rw->flush, LIMIT_HUB_NOTE_S * 1000u, on_flush);
    }
}

void notes_merge(struct registry *r, struct device *d)
{
    pthread_mutex_lock(&r->notes_lock);
    const struct note *n = find(r, &d->identity);
    if (n != NULL) {
        d->state_updated_us = MAX(d->state_updated_us, n->state_us);
        d->last_activity_us = MAX(d->last_activity_us, n->activity_us);
    }
    pthread_mutex_unlock(&r->notes_lock);
}
