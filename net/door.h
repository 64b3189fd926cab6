/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may begin at a listener, and in which order: the budget of work before authentication (threats N1, N3).
 *
 *   arrives --room--> INSIDE --authenticated, or gone--> counted no more
 *      |                ^
 *      |--no room--> SILENT --its first bytes are there--> IN LINE <--one of its source leaves-- HELD
 *      |                                                    '--first in line, its source used up--^
 *      '--too many wait--> refused
 *
 * Room is: fewer than max inside, fewer than LIMIT_HANDSHAKES_DUE handshake steps due on this loop, and fewer than max_per_source of its
 * source inside. Who waits costs a descriptor and a struct conn, nothing of TLS, and is not read: a storm is served in the order in which
 * it came, and what it costs is spent on those whose turn it is. The line is one for all sources; only who is over the budget of its
 * source steps aside (HELD), and comes back to the front when one of its own has left.
 *
 * A flood fills the room with connections that say nothing; a fleet behind the same address has to get in all the same. So whoever
 * waits and says nothing is overtaken by those who do; and when these wait, the oldest inside that we wait for, not it for us, leaves:
 * after LIMIT_UNAUTHENTICATED_MS for the next of its source, after LIMIT_UNAUTHENTICATED_ALL_MS for anybody (small devices take
 * seconds over a handshake).
 *
 * Ownership   the listener's. It outlives its connections.
 * Threads     the loop's.
 * Limits      LIMIT_WAITING_FACTOR times max wait, half of them of one source: one more of that source is refused. When all places
 *             are taken door_is_full(), and the listener leaves the rest to the kernel.
 */
#ifndef NET_DOOR_H
#define NET_DOOR_H

#include "base/list.h"
#include "base/map.h"
#include "net/loop.h"

struct conn;
struct door {
    struct loop *loop;
    unsigned max, max_per_source, max_waiting;
    struct map sources;
    struct list inside;  /* conns, the oldest first */
    struct list silent;  /* conns, the oldest first; LIMIT_HANDSHAKE_S at most */
    struct list line;    /* conns, first come first served */
    struct list crowded; /* sources that hold some */
    struct list link;    /* in conns.doors while any wait */
    struct deferred run;
    struct timer tick;
    uint64_t n_inside, n_waiting, refused;
};
/* max_per_source 0: no bound. */
void door_init(struct door *d, struct loop *l, unsigned max, unsigned max_per_source);
/* Nobody is inside or waits. */
void door_done(struct door *d);
/* False: it is refused, and was counted so. Else listener_let_in(c) is called, now or later. */
bool door_arrive(struct door *d, struct conn *c);
/* c authenticated, or ends. */
void door_leave(struct door *d, struct conn *c);
/* Of a conn that waits. */
void door_event(struct conn *c, uint32_t events);
bool door_is_full(const struct door *d);
/* Handshakes of this loop have moved on: somebody may have room now. */
void door_knock(struct door *d);

#endif
