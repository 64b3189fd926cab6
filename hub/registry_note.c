/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection facts, written lazily: a worker keeps the newest of each identity and gives all of them to the writer every
 * LIMIT_HUB_NOTE_S seconds in one operation of the bulk queue. What a crash loses is a few seconds of "last seen".
 */
#include <stdlib.h>

#include "base/log.h"
#include "hub/hub_sql.h"
#include "hub/registry_int.h"

struct note {
    struct map_node in; /* key: identity */
    int64_t identity;
    int64_t state_us, activity_us;
};

struct note_batch {
    struct store_op op; /* first */
    struct note **notes;
    size_t n;
};

static enum err batch_tx(struct store_tx *tx, struct store_op *op)
{
    struct note_batch *b = CONTAINER_OF(op, struct note_batch, op);
    for (size_t i = 0; i < b->n; i++) {
        enum err e = hub_sql_seen_put(tx->db, b->notes[i]->identity, b->notes[i]->state_us,
                                      b->notes[i]->activity_us);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static void batch_free(struct note_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        free(b->notes[i]);
    }
    free(b->notes);
    free(b);
}

/* On the writer's thread: nobody waits for it. */
static void batch_home(struct msg *m)
{
    struct note_batch *b = CONTAINER_OF(m, struct note_batch, op.msg);
    if (b->op.result != OK) {
        LOG_WARN("hub.activity.lost", L_ERR(b->op.result), L_U64("identities", b->n));
    }
    batch_free(b);
}

static void flush(struct registry_worker *rw)
{
    size_t n = rw->notes.count;
    if (n == 0) {
        return;
    }
    struct note_batch *b = NEW(struct note_batch);
    struct note **notes = mem_new(n * sizeof(struct note *));
    if (b == NULL || notes == NULL) {
        free(b);
        free(notes);
        return; /* they stay noted */
    }
    b->notes = notes;
    struct map_cursor c = {0, NULL};
    struct map_node *node;
    while ((node = map_next(&rw->notes, &c)) != NULL) {
        map_del(&rw->notes, node);
        b->notes[b->n++] = CONTAINER_OF(node, struct note, in);
    }
    b->op = (struct store_op){.msg.run = batch_home,
                              .tx = batch_tx,
                              .bulk = true,
                              .bytes = (uint32_t)(n * sizeof(struct note))};
    enum err e = store_submit(server_store(worker_server(rw->w)), &b->op);
    if (e != OK) {
        LOG_WARN("hub.activity.lost", L_ERR(e), L_U64("identities", b->n));
        batch_free(b);
    }
}

static void on_flush(struct timer *t)
{
    flush(CONTAINER_OF(t, struct registry_worker, flush));
}

void notes_start(struct registry_worker *rw)
{
    map_init(&rw->notes);
}

void notes_done(struct registry_worker *rw)
{
    timer_stop(worker_loop(rw->w), &rw->flush);
    flush(rw);
    struct map_cursor c = {0, NULL};
    struct map_node *node;
    while ((node = map_next(&rw->notes, &c)) != NULL) { /* only when memory was short */
        map_del(&rw->notes, node);
        free(CONTAINER_OF(node, struct note, in));
    }
    map_done(&rw->notes);
}

void registry_note_activity(struct worker *w, int64_t identity, int64_t wall_us, int connected)
{
    struct registry_worker *rw = registry_worker_of(w);
    struct map_node *node = map_get(&rw->notes, span_of(&identity, sizeof identity));
    struct note *n;
    if (node != NULL) {
        n = CONTAINER_OF(node, struct note, in);
    } else {
        if (rw->notes.count >= LIMIT_HUB_NOTED) {
            flush(rw);
        }
        n = NEW(struct note);
        if (n == NULL) {
            return; /* a fact that is told late or not at all harms nobody */
        }
        n->identity = identity;
        n->in.key = span_of(&n->identity, sizeof n->identity);
        if (map_add(&rw->notes, &n->in) != OK) {
            free(n);
            return;
        }
    }
    n->activity_us = MAX(n->activity_us, wall_us);
    if (connected >= 0) {
        n->state_us = wall_us;
    }
    if (!timer_is_set(&rw->flush)) {
        timer_set(worker_loop(w), &rw->flush, LIMIT_HUB_NOTE_S * 1000u, on_flush);
    }
}
