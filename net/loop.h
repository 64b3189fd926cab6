/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event loop of one thread: epoll, mailbox, timers, work deferred to the end of the turn, and the
 * table of handles by which other threads name what lives here.
 *
 * A turn: epoll_wait(next timer) -> mailbox -> watches -> timers -> deferred. Completions run from the
 * loop, never inside the call that began the work. Nothing here blocks but epoll_wait.
 *
 * Ownership   loop_free() when loop_run() has returned and nothing is watched any more.
 * Threads     loop_post, loop_stop: any. All else: the loop's own thread (ASSERT_LOOP checks it from
 *             the first turn on).
 * Signals     loop_new() ignores SIGPIPE for the process unless it is handled: a peer that left is an
 *             error of the write, not the end of the program.
 * Errors      loop_watch: E_SYS. Timers and deferred work are embedded in their owners: they cannot fail.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mailbox.h"

struct loop;

/* index: which worker this is (0..255), part of every handle. */
MUST_USE enum err loop_new(unsigned index, const struct clock *clock, struct loop **ret);
void loop_free(struct loop *l);
/* Until loop_stop(). */
void loop_run(struct loop *l);
/* One turn that waits at most max_wait_ms: tests step with it. */
void loop_turn(struct loop *l, int max_wait_ms);
void loop_stop(struct loop *l);
void loop_post(struct loop *l, struct msg *m);
struct mailbox *loop_mailbox(struct loop *l);
unsigned loop_index(const struct loop *l);
const struct clock *loop_clock(const struct loop *l);
/* Read once a turn. */
uint64_t loop_now_ms(const struct loop *l);
int64_t loop_wall_us(const struct loop *l);
bool loop_is_current(const struct loop *l);
/* State that a carrier keeps once per loop; fn ends it in loop_free(). One slot: net/conn.c owns it. */
void loop_set_shared(struct loop *l, void *p, void (*fn)(void *p));
void *loop_shared(const struct loop *l);
#define ASSERT_LOOP(l) ASSERT(loop_is_current(l))

/* --- descriptors ----------------------------------------------------------------------------- */
struct watch;
typedef void (*watch_fn)(struct watch *w, uint32_t epoll_events);
struct watch {
    int fd;
    uint32_t events; /* EPOLLIN | ... as last asked for */
    watch_fn fn;
    bool active;
};
/* Level triggered. w lives until loop_unwatch; a watch that was removed gets no further call, also
 * not for events already fetched in this turn. */
MUST_USE enum err loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events, watch_fn fn);
void loop_rewatch(struct loop *l, struct watch *w, uint32_t events);
void loop_unwatch(struct loop *l, struct watch *w);

/* --- timers: a heap of embedded nodes ------------------------------------------------------- */
struct timer;
typedef void (*timer_fn)(struct timer *t);
struct timer {
    uint64_t due_ms;
    timer_fn fn;
    size_t slot; /* heap index + 1; 0: not set */
};
/* Sets or moves. Runs once, at the end of a turn at or after due. Growing the heap may need memory:
 * the loop keeps room ahead, and aborts only when the system has none. */
void timer_set(struct loop *l, struct timer *t, uint64_t after_ms, timer_fn fn);
void timer_stop(struct loop *l, struct timer *t);
static inline bool timer_is_set(const struct timer *t)
{
    return t->slot != 0;
}
size_t loop_timers(const struct loop *l); /* that are set */

/* --- end of turn ------------------------------------------------------------------------------ */
struct deferred;
typedef void (*deferred_fn)(struct deferred *d);
struct deferred {
    struct list link;
    deferred_fn fn;
    uint32_t pass; /* the pass it ran in last */
};
/* Runs once after everything else of this turn; asking twice is asking once. Work deferred while the
 * deferred run goes to the same pass (bounded: a pass takes each at most once, the rest next turn). */
void loop_defer(struct loop *l, struct deferred *d, deferred_fn fn);
void loop_undefer(struct loop *l, struct deferred *d);

/* --- handles: {worker, slot, generation} in 64 bits; 0 is nobody --------------------------------- */
typedef uint64_t handle;
/* 0 when memory is short. */
handle handle_new(struct loop *l, void *object);
void *handle_get(struct loop *l, handle h); /* NULL: gone */
void handle_free(struct loop *l, handle h);
static inline unsigned handle_worker(handle h)
{
    return (unsigned)(h >> 56);
}

#endif
