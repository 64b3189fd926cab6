/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory by itself, under threads: one owner at a time, nobody waits for ever, no change is lost between owners
 * (hub/directory.h; docs/protocol/hub-mqtt.md 2.5).
 */
#include "tests/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "hub/directory.h"

#define WORKERS 4u
#define IDENTITIES 8
#define ROUNDS 400u

/* A session as far as the directory knows it. */
struct owner {
    struct dir_claim claim;
    struct place *at;
    handle h;
    bool is_done; /* the claim came home */
    bool is_owner;
    unsigned told[3];
};
struct place {
    struct loop *loop;
    pthread_t thread;
    unsigned index;
    uint64_t seed;
    unsigned left; /* rounds */
    unsigned granted, fenced;
};

static struct directory *d;
static struct place place[WORKERS];
static _Atomic int owners[IDENTITIES + 1]; /* who holds it now: never two */
static _Atomic unsigned still;             /* places that are not through */
static pthread_barrier_t together;
static bool is_main; /* the loops are this thread's */
static _Atomic uint64_t last_epoch[IDENTITIES + 1];

static void post(void *arg, unsigned worker, struct msg *m)
{
    (void)arg;
    loop_post(place[worker].loop, m);
}

static size_t slot(const struct owner *o)
{
    return (size_t)o->claim.identity % (IDENTITIES + 1);
}

static void leave(struct owner *o)
{
    if (o->is_owner) {
        o->is_owner = false;
        atomic_fetch_sub(&owners[slot(o)], 1);
        handle_free(o->at->loop, o->h);
        directory_release(d, o->claim.identity, o->claim.epoch);
    }
}

static void home(struct msg *m)
{
    struct owner *o = CONTAINER_OF(CONTAINER_OF(m, struct dir_claim, msg), struct owner, claim);
    o->is_done = true;
    if (o->claim.result != OK) {
        assert_err(o->claim.result, E_FENCED);
        handle_free(o->at->loop, o->h);
        o->at->fenced++;
        return;
    }
    int others = atomic_fetch_add(&owners[slot(o)], 1);
    uint64_t before = atomic_exchange(&last_epoch[slot(o)], o->claim.epoch);
    assert_true(o->claim.identity > IDENTITIES || (others == 0 && o->claim.epoch > before));
    o->is_owner = true;
    o->at->granted++;
}

static void hook(void *arg, unsigned worker, handle link, int64_t identity, enum dir_change change)
{
    (void)arg;
    assert_ptr_equal(loop_is_current(place[worker].loop) ? &place[worker] : NULL, &place[worker]);
    struct owner *o = handle_get(place[worker].loop, link);
    if (o == NULL) {
        return;
    }
    assert_int_equal(o->claim.identity, identity);
    o->told[change]++;
    if (change == DIR_TAKEOVER || change == DIR_GONE) {
        leave(o);
    }
}

static struct owner *claim(struct place *p, int64_t identity)
{
    struct owner *o = calloc(1, sizeof *o);
    o->at = p;
    o->h = handle_new(p->loop, o);
    o->claim = (struct dir_claim){
        .msg.run = home, .home = p->loop, .identity = identity, .link = o->h, .has_waited = true};
    assert_ok(directory_claim(d, &o->claim));
    return o;
}

static int setup(void **state)
{
    (void)state;
    is_main = true;
    assert_ok(directory_new(7, post, NULL, &d));
    directory_set_hook(d, hook, NULL);
    for (unsigned i = 0; i < WORKERS; i++) {
        place[i] = (struct place){.index = i, .seed = i + 1, .left = ROUNDS};
        assert_ok(loop_new(i, clock_system(), &place[i].loop));
    }
    for (unsigned i = 0; i <= IDENTITIES; i++) {
        atomic_store(&owners[i], 0);
        atomic_store(&last_epoch[i], 0);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++) {
        if (is_main) {
            loop_turn(place[i].loop, 0);
        }
        loop_free(place[i].loop);
    }
    directory_free(d);
    return 0;
}

static void turn_all(void)
{
    for (unsigned i = 0; i < 4 * WORKERS; i++) {
        loop_turn(place[i % WORKERS].loop, 0);
    }
}

/* --- by hand ------------------------------------------------------------------------------------ */

static void takeover(void **state)
{
    (void)state;
    struct owner *a = claim(&place[0], 1);
    turn_all();
    assert_true(a->is_owner);
    assert_int_equal(a->claim.epoch >> 32, 7);
    assert_true(directory_is_connected(d, 1));
    assert_int_equal(directory_find(d, 1), a->h);
    struct owner *b = claim(&place[1], 1), *c = claim(&place[2], 1);
    loop_turn(place[1].loop, 0);
    assert_true(b->is_done && !b->is_owner); /* overtaken before it was granted */
    turn_all();
    assert_int_equal(a->told[DIR_TAKEOVER], 1);
    assert_true(c->is_owner);
    directory_release(d, 1, a->claim.epoch); /* late, a second time: not its own any more */
    assert_int_equal(directory_find(d, 1), c->h);
    leave(c);
    assert_false(directory_is_connected(d, 1));
    assert_int_equal(directory_count(d), 0);
    free(a);
    free(b);
    free(c);
}

/* The notice was on its way to the old owner's worker when the identity moved on: the new one hears it. */
static void notice_follows(void **state)
{
    (void)state;
    struct owner *a = claim(&place[0], 1);
    turn_all();
    struct owner *b = claim(&place[1], 1); /* an event for a is in the mailbox of 0 */
    leave(a);
    directory_notify(d, 1, DIR_CREDENTIAL); /* the entry is b's already */
    turn_all();
    assert_true(b->is_owner);
    assert_int_equal(a->told[DIR_CREDENTIAL], 0);
    assert_int_equal(b->told[DIR_CREDENTIAL], 1);
    assert_int_equal(b->told[DIR_TAKEOVER], 0);
    leave(b);
    free(a);
    free(b);
}

/* Released with an event in a mailbox: freed when that has run. */
static void released_before_told(void **state)
{
    (void)state;
    struct owner *a = claim(&place[0], 1);
    turn_all();
    directory_notify(d, 1, DIR_GONE);
    leave(a);
    struct owner *b = claim(&place[0], 1);
    turn_all();
    assert_true(b->is_owner);
    assert_int_equal(b->told[DIR_GONE], 0);
    leave(b);
    directory_notify(d, 1, DIR_GONE); /* nobody */
    turn_all();
    free(a);
    free(b);
}

static void many(void **state)
{
    (void)state;
    static struct owner *o[5000];
    for (int i = 0; i < 5000; i++) {
        o[i] = claim(&place[0], i * 1000 + 1);
    }
    turn_all();
    assert_int_equal(directory_count(d), 5000);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(directory_find(d, i * 1000 + 1), o[i]->h);
    }
    for (int i = 0; i < 5000; i++) {
        leave(o[i]);
        free(o[i]);
    }
    assert_int_equal(directory_count(d), 0);
}

/* --- under threads ------------------------------------------------------------------------------ */

static uint64_t draw(struct place *p)
{
    p->seed = p->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return p->seed >> 33;
}

static void *worker_main(void *arg)
{
    struct place *p = arg;
    struct owner *mine[ROUNDS];
    size_t n = 0;
    while (p->left > 0) {
        mine[n++] = claim(p, (int64_t)(draw(p) % IDENTITIES) + 1);
        p->left--;
        loop_turn(p->loop, 0);
        if (draw(p) % 3 == 0) {
            leave(mine[draw(p) % n]);
        }
        if (draw(p) % 8 == 0) {
            directory_notify(d, (int64_t)(draw(p) % IDENTITIES) + 1, DIR_CREDENTIAL);
        }
        (void)directory_count(d);
    }
    /* The last claims are answered once everybody has let go of what he holds when told. */
    for (size_t i = 0; i < n; i++) {
        while (!mine[i]->is_done) {
            loop_turn(p->loop, 1);
        }
    }
    atomic_fetch_sub(&still, 1);
    while (atomic_load(&still) > 0) {
        loop_turn(p->loop, 1);
    }
    for (unsigned i = 0; i < WORKERS; i++) { /* a notice may move on once for each */
        (void)pthread_barrier_wait(&together);
        loop_turn(p->loop, 0);
    }
    (void)pthread_barrier_wait(&together);
    for (size_t i = 0; i < n; i++) {
        leave(mine[i]);
        free(mine[i]);
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    unsigned granted = 0, fenced = 0;
    is_main = false;
    atomic_store(&still, WORKERS);
    assert_int_equal(pthread_barrier_init(&together, NULL, WORKERS), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_create(&place[i].thread, NULL, worker_main, &place[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(place[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        granted += place[i].granted;
        fenced += place[i].fenced;
    }
    pthread_barrier_destroy(&together);
    assert_int_equal(granted + fenced, WORKERS * ROUNDS);
    assert_true(granted >= IDENTITIES);
    assert_int_equal(directory_count(d), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(takeover), T(notice_follows), T(released_before_told), T(many), T(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
