/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares the wall clock with the monotonic one. Steady: no jump for CLOCK_STEADY_MS. Only steady time raises the token
 * floor, so that a clock set forward by mistake does not condemn every token once it is right again; and what the floor has
 * reached stays, so that a clock set back does not revive old tokens (threat E6). A clock that is LEAP_MS ahead of what was steady
 * never counts as steady by itself: retention and the floor wait until an administrator says that it is right, which costs disk and
 * nothing else.
 */
#include "server/server_int.h"

#include <stdlib.h>

#include "base/log.h"
#include "server/authn.h"
#include "server/server_sql.h"

#define CHECK_MS 10000u
#define JUMP_MS 5000 /* more than any slewing does in one interval */
#define CLOCK_STEADY_MS 3600000u
#define LEAP_MS                                                                                    \
    (INT64_C(31) *                                                                                 \
     86400000) /* so far ahead no hour makes a clock right: an administrator has to say so */
#define STORE_EVERY_S 600 /* the stored floor may be that much behind */

struct clock_watch {
    struct server *s;
    int64_t wall_ms;
    uint64_t mono_ms;
    uint64_t steady_since_ms;
    bool has_jumped; /* within the present unsteady time */
    bool has_leapt;  /* told so */
    int64_t stored_floor_s;
    bool is_writing; /* main's; the operation is under way */
    struct store_op op;
    int64_t op_floor_s;
    _Atomic bool accepted;
};

int64_t server_token_now_s(struct server *s)
{
    int64_t now = clock_wall_s(s->clock);
    int64_t floor = atomic_load_explicit(&s->token_floor_s, memory_order_relaxed);
    return MAX(now, floor);
}

static int64_t gap_ms(const struct server *s)
{
    return clock_wall_us(s->clock) / 1000 - (int64_t)clock_mono_ms(s->clock);
}

static bool is_jump(int64_t ms)
{
    return ms > JUMP_MS || ms < -JUMP_MS;
}

/* The look every CHECK_MS is too seldom for who destroys in between. */
bool server_clock_is_steady(const struct server *s)
{
    return atomic_load(&s->clock_is_steady) &&
           !(atomic_load(&s->clock_is_watched) &&
             is_jump(gap_ms(s) - atomic_load(&s->clock_seen_ms)));
}

int64_t server_calendar_s(const struct server *s)
{
    if (!atomic_load(&s->clock_is_watched) || server_clock_is_steady(s)) {
        return clock_wall_s(s->clock);
    }
    return (atomic_load(&s->clock_trusted_ms) + (int64_t)clock_mono_ms(s->clock)) / 1000;
}

void clock_watch_accept(struct server *s)
{
    atomic_store(&s->clock_watch->accepted, true);
}

static enum err floor_tx(struct store_tx *tx, struct store_op *op)
{
    struct clock_watch *c = CONTAINER_OF(op, struct clock_watch, op);
    return sql_state_set(tx->db, STATE_TOKEN_FLOOR, c->op_floor_s);
}

static void floor_written(struct msg *m)
{
    struct clock_watch *c =
        CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct clock_watch, op);
    c->is_writing = false;
    if (c->op.result == OK) {
        c->stored_floor_s = c->op_floor_s;
    }
}

static void store_floor(struct clock_watch *c, int64_t floor_s)
{
    if (c->is_writing || floor_s - c->stored_floor_s < STORE_EVERY_S) {
        return;
    }
    memset(&c->op, 0, sizeof(c->op));
    c->op.tx = floor_tx;
    c->op.msg.run = floor_written;
    c->op.home = loop_mailbox(c->s->loop);
    c->op_floor_s = floor_s;
    c->is_writing = store_submit(c->s->store, &c->op) == OK;
}

static void note_jump(struct clock_watch *c, int64_t jump_ms, uint64_t mono_ms)
{
    c->has_jumped = true;
    c->steady_since_ms = mono_ms;
    atomic_store(&c->s->clock_is_steady, false);
    LOG_WARN("server.clock.jumped", L_I64("by_ms", jump_ms));
}

/* Years ahead of what was steady: believed for ever, it would make every token and grant expired even when the clock is right again. */
static bool is_leap(struct clock_watch *c)
{
    struct server *s = c->s;
    int64_t floor_ms = atomic_load(&s->token_floor_s) * 1000;
    int64_t known_ms = MAX(atomic_load(&s->clock_trusted_ms) + (int64_t)c->mono_ms, floor_ms);
    bool is = c->wall_ms - known_ms > LEAP_MS;
    if (is && !c->has_leapt) {
        LOG_WARN("server.clock.leapt", L_I64("ahead_s", (c->wall_ms - known_ms) / 1000),
                 L_STR("hint", "POST /admin/clock/accept says that it is right"));
    }
    c->has_leapt = c->has_leapt || is;
    return is;
}

static void check(struct timer *t)
{
    struct server *s = CONTAINER_OF(t, struct server, clock_timer);
    struct clock_watch *c = s->clock_watch;
    int64_t wall_ms = clock_wall_us(s->clock) / 1000;
    uint64_t mono_ms = clock_mono_ms(s->clock);
    int64_t jump_ms = (wall_ms - c->wall_ms) - (int64_t)(mono_ms - c->mono_ms);
    c->wall_ms = wall_ms;
    c->mono_ms = mono_ms;
    if (is_jump(jump_ms)) {
        note_jump(c, jump_ms, mono_ms);
    }
    atomic_store(&s->clock_seen_ms, wall_ms - (int64_t)mono_ms);
    bool is_accepted = atomic_exchange(&c->accepted, false);
    if (is_accepted || (mono_ms - c->steady_since_ms >= CLOCK_STEADY_MS && !is_leap(c))) {
        atomic_store(&s->clock_trusted_ms, wall_ms - (int64_t)mono_ms);
        c->has_leapt = false;
        if (c->has_jumped) {
            c->has_jumped = false;
            LOG_INFO("server.clock.steady", L_BOOL("accepted", is_accepted));
        }
        atomic_store(&s->clock_is_steady, true);
        if (wall_ms / 1000 > atomic_load(&s->token_floor_s)) {
            atomic_store(&s->token_floor_s, wall_ms / 1000);
            store_floor(c, wall_ms / 1000);
        }
    }
    timer_set(s->loop, &s->clock_timer, CHECK_MS, check);
}

static enum err read_floor(struct server *s, int64_t *ret, struct err_info *info)
{
    struct db *db;
    enum err e = store_reader_open(s->store, &db, info);
    if (e == OK) {
        e = sql_state_get(db, STATE_TOKEN_FLOOR, ret);
        store_reader_close(db);
    }
    return e;
}

enum err clock_watch_start(struct server *s, struct err_info *info)
{
    struct clock_watch *c = NEW(struct clock_watch);
    if (c == NULL) {
        return E_NOMEM;
    }
    c->s = s;
    s->clock_watch = c;
    enum err e = read_floor(s, &c->stored_floor_s, info);
    if (e != OK) {
        return e;
    }
    atomic_store(&s->token_floor_s, c->stored_floor_s);
    c->wall_ms = clock_wall_us(s->clock) / 1000;
    c->mono_ms = clock_mono_ms(s->clock);
    c->steady_since_ms = c->mono_ms;
    /* A clock behind what was steady before is wrong until proven otherwise. */
    int64_t floor_ms = c->stored_floor_s * 1000;
    bool is_behind = c->wall_ms < floor_ms;
    bool is_ahead = floor_ms != 0 && c->wall_ms - floor_ms > LEAP_MS;
    c->has_jumped = is_behind || is_ahead;
    atomic_store(&s->clock_seen_ms, c->wall_ms - (int64_t)c->mono_ms);
    atomic_store(&s->clock_trusted_ms,
                 (c->has_jumped ? floor_ms : c->wall_ms) - (int64_t)c->mono_ms);
    atomic_store(&s->clock_is_steady, !c->has_jumped);
    atomic_store(&s->clock_is_watched, true);
    if (is_behind) {
        LOG_WARN("server.clock.behind", L_I64("seconds", (floor_ms - c->wall_ms) / 1000));
    } else if (is_ahead) {
        (void)is_leap(c);
    }
    timer_set(s->loop, &s->clock_timer, CHECK_MS, check);
    return OK;
}

/* Before the store is drained; an operation under way still comes home to a loop that no longer
 * runs, so its memory goes only with clock_watch_free. */
void clock_watch_stop(struct server *s)
{
    if (s->clock_watch != NULL) {
        timer_stop(s->loop, &s->clock_timer);
    }
}

void clock_watch_free(struct server *s)
{
    free(s->clock_watch);
    s->clock_watch = NULL;
}
