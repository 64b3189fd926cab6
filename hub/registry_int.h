/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Insides of the registry, shared by registry*.c, authenticate.c, twin.c, provision.c and work.c; nobody else.
 *
 * Threads     struct registry: made by main, then constant but for the notes (their mutex). A struct registry_worker: its worker's thread.
 */
#ifndef HUB_REGISTRY_INT_H
#define HUB_REGISTRY_INT_H

#include <pthread.h>

#include "base/map.h"
#include "hub/registry.h"

struct registry_worker {
    struct worker *w;
    unsigned pending;         /* works that have not come home */
    uint64_t last_generation; /* ticks, so that no two of this worker are equal */
    struct registry *registry;
    int64_t some_identity; /* there lately: an unknown id is made to cost as much (threat N8) */
    struct timer flush;    /* of connection facts */
    bool is_started;
};
struct registry {
    struct server *server;
    unsigned n;
    pthread_mutex_t notes_lock; /* a leaf: nothing is called under it */
    struct map notes;           /* connection facts that wait: struct note of registry_note.c */
    size_t notes_new;           /* those that the writer was not given yet */
    struct registry_worker *workers; /* by worker_index */
};

static inline struct registry_worker *registry_worker_of(struct worker *w)
{
    struct registry *r = hub_of(w)->registry;
    ASSERT(worker_index(w) < r->n);
    return &r->workers[worker_index(w)];
}

/* registry_note.c */
void notes_flush(struct registry *r);
void notes_done(struct registry_worker *rw); /* the worker's timer */
void notes_free(struct registry *r);
/* What was noted and may not be on disk yet. */
void notes_merge(struct registry *r, struct device *d);

/* A new generation id: ticks of the clock, never twice the same from one worker. dst: 24 bytes. */
#define GENERATION_SIZE 24u
void generation_new(struct worker *w, char dst[GENERATION_SIZE]);
/* First number of an identity's etags (hub-service-rest.md 4.1). */
uint64_t etag_first(void);

/* How the credential of a row becomes what a request asks for: prepared on the worker against `base` (identity 0: there is none
 * yet), taken over by the writer. Lives in the arena given. */
struct cred_change {
    int64_t base_identity; /* 0: for a device that does not exist yet */
    uint64_t base_cred_gen;
    struct span generation_id; /* the keys are sealed for it */
    enum auth_type type;
    struct span sealed_key[2];
    struct span thumbprint[2];
    bool slot_changed[2];
};
/* Copies spans and keys. */
MUST_USE enum err auth_spec_keep(struct arena *a, const struct auth_spec *from,
                                 struct auth_spec *ret);
/* base NULL: new device. */
MUST_USE enum err cred_prepare(struct worker *w, struct arena *a, const struct device *base,
                               const struct auth_spec *auth, struct cred_change *ret,
                               struct err_info *info);
/* On the writer: is the row still what it was prepared against? E_STALE. row NULL: no such device. */
MUST_USE enum err cred_tx_check(const struct cred_change *c, const struct device *row);
/* On the writer: the row's credential members as they shall be; true when a session may have to end. */
bool cred_tx_apply(const struct cred_change *c, struct device *row);

/* Does the row's etag fit? E_ETAG with the text of 4.3. */
MUST_USE enum err match_tx_check(const struct match *m, const struct device *row,
                                 struct err_info *info);

#endif
