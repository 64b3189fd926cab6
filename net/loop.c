/* SPDX-License-Identifier: Apache-2.0 */
#include "net/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 256          /* events fetched at once */
#define TIMERS_AHEAD 64u   /* room kept in the heap */
#define WAIT_MAX_MS 60000u /* wakes now and then, so that no conversion can overflow */
#define HANDLE_SLOTS_MAX (1u << 24)

struct handle_slot {
    void *object;        /* NULL: free */
    uint32_t generation; /* of the handle out, or the next one; never 0 */
    uint32_t next_free;  /* slot + 1; 0: none */
};

struct loop {
    unsigned index;
    const struct clock *clock;
    int epfd;
    struct mailbox *mailbox;
    _Atomic(const char *) owner; /* address of a thread's own `me`; NULL: nobody yet */
    uint64_t now_ms;
    int64_t wall_us;

    bool stopping;
    atomic_bool stop_posted;
    struct msg stop_msg;

    struct epoll_event batch[BATCH];
    int batch_at, batch_n; /* events of this turn not yet dispatched: [batch_at, batch_n) */

    struct timer **heap;
    size_t heap_n, heap_cap;

    struct list deferred; /* of this turn */
    struct list next;     /* asked again by those that ran in this pass */
    uint32_t pass;
    bool in_pass;

    struct handle_slot *slots;
    uint32_t n_slots, first_free;

    void *shared;
    void (*shared_done)(void *p);
};

static _Thread_local char me; /* its address names the thread */

/* --- life ---------------------------------------------------------------------------------- */

static void ignore_sigpipe(void)
{
    struct sigaction sa;
    if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL) {
        sa.sa_handler = SIG_IGN;
        (void)sigaction(SIGPIPE, &sa, NULL); /* cannot fail: the signal is valid */
    }
}

static enum err loop_open(struct loop *l)
{
    enum err e = mailbox_new(&l->mailbox);
    if (e != OK) {
        return e;
    }
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epfd < 0) {
        return err_from_errno(errno);
    }
    /* The mailbox is told from the watches by its NULL pointer. */
    struct epoll_event ev = {.events = EPOLLIN, .data = {.ptr = NULL}};
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, mailbox_fd(l->mailbox), &ev) != 0) {
        return err_from_errno(errno);
    }
    l->heap = calloc(TIMERS_AHEAD, sizeof(struct timer *));
    l->heap_cap = TIMERS_AHEAD;
    return l->heap != NULL ? OK : E_NOMEM;
}

enum err loop_new(unsigned index, const struct clock *clock, struct loop **ret)
{
    ASSERT(index <= 255);
    struct loop *l = NEW(struct loop);
    if (l == NULL) {
        return E_NOMEM;
    }
    l->index = index;
    l->clock = clock;
    l->epfd = -1;
    l->pass = 1;
    atomic_init(&l->owner, NULL);
    atomic_init(&l->stop_posted, false);
    list_init(&l->deferred);
    list_init(&l->next);
    l->now_ms = clock_mono_ms(clock);
    l->wall_us = clock_wall_us(clock);
    ignore_sigpipe();
    enum err e = loop_open(l);
    if (e != OK) {
        loop_free(l);
        return e;
    }
    *ret = l;
    return OK;
}

void loop_free(struct loop *l)
{
    if (l == NULL) {
        return;
    }
    if (l->shared_done != NULL) {
        l->shared_done(l->shared);
    }
    if (l->epfd >= 0) {
        (void)close(l->epfd); /* nothing to lose */
    }
    mailbox_free(l->mailbox);
    free(l->heap);
    free(l->slots);
    free(l);
}

void loop_set_shared(struct loop *l, void *p, void (*fn)(void *p))
{
    ASSERT(l->shared == NULL);
    l->shared = p;
    l->shared_done = fn;
}

void *loop_shared(const struct loop *l)
{
    return l->shared;
}

struct mailbox *loop_mailbox(struct loop *l)
{
    return l->mailbox;
}

unsigned loop_index(const struct loop *l)
{
    return l->index;
}

const struct clock *loop_clock(const struct loop *l)
{
    return l->clock;
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

int64_t loop_wall_us(const struct loop *l)
{
    return l->wall_us;
}

bool loop_is_current(const struct loop *l)
{
    const char *owner = atomic_load_explicit(&l->owner, memory_order_relaxed);
    return owner == NULL || owner == &me;
}

void loop_post(struct loop *l, struct msg *m)
{
    mailbox_post(l->mailbox, m);
}

/* --- watches ------------------------------------------------------------------------------- */

enum err loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events, watch_fn fn)
{
    ASSERT_LOOP(l);
    ASSERT(!w->active);
    struct epoll_event ev = {.events = events, .data = {.ptr = w}};
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        return E_SYS;
    }
    *w = (struct watch){.fd = fd, .events = events, .fn = fn, .active = true};
    return OK;
}

void loop_rewatch(struct loop *l, struct watch *w, uint32_t events)
{
    ASSERT_LOOP(l);
    ASSERT(w->active);
    if (w->events == events) {
        return;
    }
    struct epoll_event ev = {.events = events, .data = {.ptr = w}};
    int rc = epoll_ctl(l->epfd, EPOLL_CTL_MOD, w->fd, &ev);
    ASSERT(rc == 0); /* the descriptor is inside and MOD needs no memory */
    w->events = events;
}

void loop_unwatch(struct loop *l, struct watch *w)
{
    ASSERT_LOOP(l);
    if (!w->active) {
        return;
    }
    int rc = epoll_ctl(l->epfd, EPOLL_CTL_DEL, w->fd, NULL);
    ASSERT(rc == 0);
    w->active = false;
    /* What was fetched for it in this turn must not reach it, nor a successor at its address. */
    for (int i = l->batch_at; i < l->batch_n; i++) {
        if (l->batch[i].data.ptr == w) {
            l->batch[i].events = 0;
        }
    }
}

/* --- timers -------------------------------------------------------------------------------- */

static void heap_put(struct loop *l, size_t at, struct timer *t)
{
    l->heap[at] = t;
    t->slot = at + 1;
}

static void heap_up(struct loop *l, size_t at, struct timer *t)
{
    while (at > 0 && l->heap[(at - 1) / 2]->due_ms > t->due_ms) {
        heap_put(l, at, l->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(l, at, t);
}

static void heap_down(struct loop *l, size_t at, struct timer *t)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= l->heap_n) {
            break;
        }
        if (child + 1 < l->heap_n && l->heap[child + 1]->due_ms < l->heap[child]->due_ms) {
            child++;
        }
        if (l->heap[child]->due_ms >= t->due_ms) {
            break;
        }
        heap_put(l, at, l->heap[child]);
        at = child;
    }
    heap_put(l, at, t);
}

static void heap_place(struct loop *l, size_t at, struct timer *t)
{
    if (at > 0 && l->heap[(at - 1) / 2]->due_ms > t->due_ms) {
        heap_up(l, at, t);
    } else {
        heap_down(l, at, t);
    }
}

void timer_set(struct loop *l, struct timer *t, uint64_t after_ms, timer_fn fn)
{
    ASSERT_LOOP(l);
    t->due_ms = l->now_ms + after_ms;
    t->fn = fn;
    if (t->slot != 0) {
        heap_place(l, t->slot - 1, t);
        return;
    }
    if (l->heap_n == l->heap_cap) {
        struct timer **heap = realloc(l->heap, 2 * l->heap_cap * sizeof(struct timer *));
        ASSERT(heap !=
               NULL); /* a deadline that cannot be set would hold its peer's memory for ever */
        l->heap = heap;
        l->heap_cap *= 2;
    }
    l->heap_n++;
    heap_up(l, l->heap_n - 1, t);
}

void timer_stop(struct loop *l, struct timer *t)
{
    ASSERT_LOOP(l);
    if (t->slot == 0) {
        return;
    }
    size_t at = t->slot - 1;
    struct timer *last = l->heap[--l->heap_n];
    t->slot = 0;
    if (last != t) {
        heap_place(l, at, last);
    }
}

size_t loop_timers(const struct loop *l)
{
    return l->heap_n;
}

static void run_timers(struct loop *l)
{
    /* Bounded: a timer that sets itself to now again waits for the next turn. */
    for (size_t left = l->heap_n; left > 0 && l->heap_n > 0; left--) {
        struct timer *t = l->heap[0];
        if (t->due_ms > l->now_ms) {
            break;
        }
        timer_stop(l, t);
        t->fn(t);
    }
}

/* --- end of turn --------------------------------------------------------------------------- */

void loop_defer(struct loop *l, struct deferred *d, deferred_fn fn)
{
    ASSERT_LOOP(l);
    d->fn = fn;
    if (list_linked(&d->link)) {
        return;
    }
    list_add_tail(l->in_pass && d->pass == l->pass ? &l->next : &l->deferred, &d->link);
}

void loop_undefer(struct loop *l, struct deferred *d)
{
    ASSERT_LOOP(l);
    list_del(&d->link);
}

static void run_deferred(struct loop *l)
{
    struct list *n;
    if (++l->pass == 0) {
        l->pass = 1; /* 0: never ran */
    }
    l->in_pass = true;
    while ((n = list_pop(&l->deferred)) != NULL) {
        struct deferred *d = LIST_OF(n, struct deferred, link);
        d->pass = l->pass;
        d->fn(d);
    }
    l->in_pass = false;
    while ((n = list_pop(&l->next)) != NULL) {
        list_add_tail(&l->deferred, n);
    }
}

/* --- turns --------------------------------------------------------------------------------- */

static int wait_ms(const struct loop *l, int max_wait_ms)
{
    if (!list_empty(&l->deferred) || max_wait_ms == 0) {
        return 0;
    }
    uint64_t wait = max_wait_ms < 0 ? WAIT_MAX_MS : (uint64_t)max_wait_ms;
    if (l->heap_n > 0) {
        uint64_t now = clock_mono_ms(l->clock);
        uint64_t due = l->heap[0]->due_ms;
        wait = MIN(wait, due > now ? due - now : 0);
    }
    return (int)MIN(wait, WAIT_MAX_MS);
}

static void run_watches(struct loop *l)
{
    while (l->batch_at < l->batch_n) {
        struct epoll_event ev = l->batch[l->batch_at++];
        struct watch *w = ev.data.ptr;
        if (w != NULL && ev.events != 0) {
            w->fn(w, ev.events);
        }
    }
}

static bool has_mail(const struct loop *l)
{
    for (int i = 0; i < l->batch_n; i++) {
        if (l->batch[i].data.ptr == NULL) {
            return true;
        }
    }
    return false;
}

void loop_turn(struct loop *l, int max_wait_ms)
{
    const char *nobody = NULL;
    atomic_compare_exchange_strong(&l->owner, &nobody, &me);
    ASSERT_LOOP(l);
    int n = epoll_wait(l->epfd, l->batch, BATCH, wait_ms(l, max_wait_ms));
    ASSERT(n >= 0 || errno == EINTR);
    l->batch_at = 0;
    l->batch_n = MAX(n, 0);
    l->now_ms = clock_mono_ms(l->clock);
    l->wall_us = clock_wall_us(l->clock);
    if (has_mail(l)) {
        mailbox_run(l->mailbox);
    }
    run_watches(l);
    run_timers(l);
    run_deferred(l);
}

static void on_stop(struct msg *m)
{
    struct loop *l = CONTAINER_OF(m, struct loop, stop_msg);
    l->stopping = true;
    atomic_store(&l->stop_posted, false);
}

void loop_stop(struct loop *l)
{
    if (!atomic_exchange(&l->stop_posted, true)) {
        l->stop_msg.run = on_stop;
        mailbox_post(l->mailbox, &l->stop_msg);
    }
}

void loop_run(struct loop *l)
{
    while (!l->stopping) {
        loop_turn(l, -1);
    }
    l->stopping = false;
    /* Whoever joins this thread may tear down what is left. */
    atomic_store(&l->owner, NULL);
}

/* --- handles: worker << 56 | slot << 32 | generation ---------------------------------------- */

static bool grow_slots(struct loop *l)
{
    uint32_t n = l->n_slots == 0 ? 64 : l->n_slots * 2;
    if (n > HANDLE_SLOTS_MAX) {
        return false;
    }
    struct handle_slot *slots = realloc(l->slots, n * sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    for (uint32_t i = n; i-- > l->n_slots;) {
        slots[i] = (struct handle_slot){NULL, 1, l->first_free};
        l->first_free = i + 1;
    }
    l->slots = slots;
    l->n_slots = n;
    return true;
}

handle handle_new(struct loop *l, void *object)
{
    ASSERT_LOOP(l);
    ASSERT(object != NULL);
    if (l->first_free == 0 && !grow_slots(l)) {
        return 0;
    }
    uint32_t at = l->first_free - 1;
    struct handle_slot *s = &l->slots[at];
    l->first_free = s->next_free;
    s->object = object;
    return (uint64_t)l->index << 56 | (uint64_t)at << 32 | s->generation;
}

static struct handle_slot *slot_of(struct loop *l, handle h)
{
    uint32_t at = (uint32_t)(h >> 32) & (HANDLE_SLOTS_MAX - 1);
    if (handle_worker(h) != l->index || at >= l->n_slots) {
        return NULL;
    }
    struct handle_slot *s = &l->slots[at];
    return s->object != NULL && s->generation == (uint32_t)h ? s : NULL;
}

void *handle_get(struct loop *l, handle h)
{
    ASSERT_LOOP(l);
    struct handle_slot *s = slot_of(l, h);
    return s != NULL ? s->object : NULL;
}

void handle_free(struct loop *l, handle h)
{
    ASSERT_LOOP(l);
    struct handle_slot *s = slot_of(l, h);
    if (s == NULL) {
        return;
    }
    s->object = NULL;
    s->generation = s->generation == UINT32_MAX ? 1 : s->generation + 1;
    s->next_free = l->first_free;
    l->first_free = (uint32_t)(s - l->slots) + 1;
}
