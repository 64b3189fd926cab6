/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is connected where: identity number -> link handle. Sharded map; a shard's mutex covers one look-up or change, never a call out.
 *
 * Takeover    authenticate, then directory_claim: the entry gets epoch + 1 and the old owner is told by a message to its worker; it stops
 *             delivery, closes, says "released" (directory_release with its epoch); then the claimant gets `granted` on its own worker and
 *             sends CONNACK. A newer claim overtakes a waiting one (the overtaken one is told E_FENCED). A failed CONNECT never claims.
 *             Takeovers that follow one another fast have to wait (hub/rivals.h).
 * Epochs      start at store_boot << 32, so they order connection events across restarts.
 * Changes     directory_notify posts {identity, change} to the owner, from the registry writer after commit.
 * Threads     any; results arrive on the claimant's loop.
 */
#ifndef HUB_DIRECTORY_H
#define HUB_DIRECTORY_H

#include "hub/rivals.h"
#include "net/loop.h"

struct directory;
/* Posts m to the loop of that worker (NULL loop: the worker is gone, m is dropped by nobody). */
typedef void (*dir_post_fn)(void *arg, unsigned worker, struct msg *m);
MUST_USE enum err directory_new(uint64_t boot, dir_post_fn post, void *arg, struct directory **ret);
/* When no worker runs any more. */
void directory_free(struct directory *d);

struct dir_claim {
    struct msg
        msg; /* msg.run on the claimant's loop: result OK (granted) or E_FENCED (overtaken) */
    struct loop *home;
    int64_t identity;
    handle link;    /* the session's */
    uint64_t epoch; /* given */
    enum err result;
    uint64_t now_ms; /* of home */
    struct rival_place from;
    bool has_waited;  /* as it was told: it takes over now */
    uint32_t wait_ms; /* with E_AGAIN */
    unsigned alarms;  /* with OK: RIVALS_WAR, RIVALS_PLACES, for the claimant to tell */
};
/* The claim's memory belongs to the directory until msg.run. E_AGAIN: nothing happened, claim again after wait_ms. */
MUST_USE enum err directory_claim(struct directory *d, struct dir_claim *c);
/* By the owner when its link has ended (also when it ended while its claim was on the way home: after msg.run said OK). A claimant
 * that was told E_FENCED has nothing to release. */
void directory_release(struct directory *d, int64_t identity, uint64_t epoch);
bool directory_is_connected(struct directory *d, int64_t identity);
/* 0: nobody. */
handle directory_find(struct directory *d, int64_t identity);

enum dir_change { DIR_GONE /* deleted or disabled */, DIR_CREDENTIAL /* re-judge */, DIR_TAKEOVER };
/* From any thread (the registry writer's notice): the owner's worker runs the hook set below. */
void directory_notify(struct directory *d, int64_t identity, enum dir_change change);
/* Grows with every directory_notify, before that looks for the owner. Who reads it, judges a credential by the registry, enters the
 * directory and finds it unchanged has missed no change: one that the registry did not show yet is told to the entry. */
uint64_t directory_changes(struct directory *d);
/* Called on the owner's worker thread. */
typedef void (*dir_change_fn)(void *arg, unsigned worker, handle link, int64_t identity,
                              enum dir_change change);
/* Before the first claim. */
void directory_set_hook(struct directory *d, dir_change_fn fn, void *arg);
uint64_t directory_count(struct directory *d);

#endif
