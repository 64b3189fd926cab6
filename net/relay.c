/* SPDX-License-Identifier: Apache-2.0 */
#include "net/relay.h"

#include <stdlib.h>

#include "base/limits.h"
#include "net/conn.h"
#include "wire/ws.h"

enum side_state { ABSENT, OPEN, CLOSING, FLUSHING, GONE };

struct side {
    struct relay *r;
    struct stream *carrier; /* OPEN, CLOSING, FLUSHING */
    struct ws_reader rd;
    struct timer close_timer;
    uint8_t *held; /* payload from the other side, while ABSENT */
    uint32_t held_n;
    uint64_t bytes;      /* payload that came from here */
    uint64_t out_seen;   /* conn_bytes_out at the last look */
    size_t pending_seen; /* what waited then */
    unsigned empty;      /* messages without a byte, in a row */
    uint8_t state;
    uint8_t missed; /* beats without a sign of life */
    bool heard;     /* something came since the last beat */
    bool is_paused;
    bool has_data; /* of the message that comes in */
    bool can_half_close;
    bool held_end; /* the other side has ended its half, while ABSENT */
};

struct relay {
    struct relay_conf conf;
    struct side side[RELAY_SIDES];
    struct timer beat, rate_timer;
    struct deferred done;
    struct relay_end end;
    bool is_ending;
    bool is_waiting; /* for the rate */
};

static struct side *other(struct side *s)
{
    return &s->r->side[s == &s->r->side[RELAY_DEVICE] ? RELAY_SERVICE : RELAY_DEVICE];
}

static enum relay_side which(const struct side *s)
{
    return s == &s->r->side[RELAY_DEVICE] ? RELAY_DEVICE : RELAY_SERVICE;
}

/* --- back-pressure ----------------------------------------------------------------------------- */

/* What waits for `to` is enough: its source is not to be read. */
static bool is_full(const struct side *to)
{
    switch (to->state) {
    case ABSENT:
        return to->held_n + LIMIT_CONN_IN > RELAY_QUEUE;
    case OPEN:
        return stream_is_full(to->carrier);
    default:
        return false; /* it is thrown away */
    }
}

static bool is_blocked(struct side *s)
{
    return s->state == OPEN && (s->r->is_waiting || is_full(other(s)));
}

static void set_paused(struct side *s, bool paused)
{
    if (s->carrier != NULL && s->is_paused != paused) {
        s->is_paused = paused;
        stream_pause(s->carrier, paused);
    }
}

static void on_rate_over(struct timer *t)
{
    struct relay *r = CONTAINER_OF(t, struct relay, rate_timer);
    r->is_waiting = false;
    for (unsigned i = 0; i < RELAY_SIDES; i++) {
        set_paused(&r->side[i], is_blocked(&r->side[i]));
    }
}

static void keep_rate(struct relay *r, uint64_t n)
{
    uint64_t now = loop_now_ms(r->conf.loop);
    uint64_t own = rate_take(r->conf.rate[0], now, n);
    uint64_t shared = rate_take(r->conf.rate[1], now, n);
    uint64_t wait = MAX(own, shared);
    if (wait > 0 && !r->is_waiting) {
        r->is_waiting = true;
        timer_set(r->conf.loop, &r->rate_timer, wait, on_rate_over);
        for (unsigned i = 0; i < RELAY_SIDES; i++) {
            set_paused(&r->side[i], is_blocked(&r->side[i]));
        }
    }
}

/* --- endings ----------------------------------------------------------------------------------- */

static void note_end(struct relay *r, enum relay_why why, const struct side *who)
{
    if (!r->is_ending) {
        r->is_ending = true;
        r->end.why = why;
        r->end.who = who != NULL ? which(who) : RELAY_DEVICE;
    }
}

static void on_done(struct deferred *d)
{
    struct relay *r = CONTAINER_OF(d, struct relay, done);
    timer_stop(r->conf.loop, &r->beat);
    timer_stop(r->conf.loop, &r->rate_timer);
    for (unsigned i = 0; i < RELAY_SIDES; i++) {
        r->end.bytes[i] = r->side[i].bytes;
        timer_stop(r->conf.loop, &r->side[i].close_timer);
        free(r->side[i].held);
    }
    r->conf.on_end(r, r->conf.arg, &r->end);
    free(r);
}

static void side_gone(struct side *s)
{
    s->state = GONE;
    s->carrier = NULL;
    timer_stop(s->r->conf.loop, &s->close_timer);
    if (other(s)->state == GONE) {
        loop_defer(s->r->conf.loop, &s->r->done, on_done);
    }
}

/* What is written leaves, then the connection ends. */
static void flush(struct side *s)
{
    s->state = FLUSHING;
    timer_stop(s->r->conf.loop, &s->close_timer);
    stream_close(s->carrier);
}

static void send_close(struct side *s, uint16_t code, const char *reason)
{
    uint8_t bytes[WS_HEAD_MAX + WS_CONTROL_MAX];
    struct buf b = {.p = bytes, .cap = sizeof(bytes), .max = sizeof(bytes)}; /* never grows */
    if (code == WS_CLOSE_NONE) {
        ws_close_write(&b, code, NULL);
    } else {
        ws_close_reason_write(&b, code, span_str(reason), NULL);
    }
    stream_write(s->carrier, buf_span(&b));
}

static void on_close_late(struct timer *t)
{
    struct side *s = CONTAINER_OF(t, struct side, close_timer);
    uint64_t out = conn_bytes_out(stream_conn(s->carrier));
    if (stream_pending(s->carrier) > 0 && out != s->out_seen) {
        s->out_seen = out; /* it still takes what stands before the Close */
        timer_set(s->r->conf.loop, t, RELAY_CLOSE_MS, on_close_late);
        return;
    }
    stream_abort(s->carrier, E_TIMEOUT);
}

static void close_side(struct side *s, uint16_t code, const char *reason)
{
    if (s->state == ABSENT) {
        side_gone(s);
    } else if (s->state == OPEN) {
        send_close(s, code, reason);
        s->state = CLOSING;
        s->out_seen = conn_bytes_out(stream_conn(s->carrier));
        timer_set(s->r->conf.loop, &s->close_timer, RELAY_CLOSE_MS, on_close_late);
        set_paused(s, false); /* its Close must be read */
    }
}

static void lose(struct side *s)
{
    close_side(other(s), WS_CLOSE_FAILED, "WS disconnected");
}

static void fault(struct side *s, uint16_t code)
{
    note_end(s->r, RELAY_FAULT, s);
    send_close(s, code, "");
    flush(s);
    lose(s);
}

static void peer_closed(struct side *s, uint16_t code)
{
    if (s->state == CLOSING) {
        flush(s);
        return;
    }
    note_end(s->r, RELAY_CLOSED, s);
    send_close(s, code, "");
    flush(s);
    close_side(other(s), code == WS_CLOSE_AWAY ? WS_CLOSE_AWAY : WS_CLOSE_NORMAL, "");
}

void relay_end(struct relay *r, uint16_t code, const char *reason)
{
    note_end(r, RELAY_ENDED, NULL);
    close_side(&r->side[RELAY_DEVICE], code, reason);
    close_side(&r->side[RELAY_SERVICE], code, reason);
}

void relay_cut(struct relay *r)
{
    note_end(r, RELAY_ENDED, NULL);
    for (unsigned i = 0; i < RELAY_SIDES; i++) {
        struct side *s = &r->side[i];
        if (s->state == ABSENT) {
            side_gone(s);
        } else if (s->state != GONE) {
            s->state = FLUSHING;
            stream_abort(s->carrier, E_CLOSED);
        }
    }
}

/* --- data -------------------------------------------------------------------------------------- */

/* room: bytes before b.p that may be overwritten: the head goes there, so that head and payload leave as one. */
static void send_frames(struct side *to, struct span b, size_t room)
{
    while (b.n > 0) {
        uint8_t head[WS_HEAD_MAX];
        struct span part = span_sub(b, 0, RELAY_FRAME);
        size_t n = ws_head_write(head, WS_BINARY, true, part.n, NULL);
        if (room >= n) {
            uint8_t *p = (uint8_t *)(uintptr_t)part.p - n; /* stream.h: ours for the call */
            memcpy(p, head, n);
            stream_write(to->carrier, span_of(p, n + part.n));
        } else {
            stream_write(to->carrier, span_of(head, n));
            stream_write(to->carrier, part);
        }
        b = span_from(b, part.n);
        room = part.n;
    }
}

static void hold(struct side *to, struct span b)
{
    if (to->held == NULL && (to->held = malloc(RELAY_QUEUE)) == NULL) {
        relay_end(to->r, WS_CLOSE_FAILED, "Out of memory");
        return;
    }
    ASSERT(to->held_n + b.n <= RELAY_QUEUE);
    memcpy(to->held + to->held_n, b.p, b.n);
    to->held_n += (uint32_t)b.n;
}

static void take_data(struct side *s, struct span b, size_t room)
{
    struct side *to = other(s);
    s->bytes += b.n;
    s->empty = 0;
    s->has_data = true;
    if (to->state == OPEN) {
        send_frames(to, b, room);
    } else if (to->state == ABSENT) {
        hold(to, b);
    }
    keep_rate(s->r, b.n);
}

static void take_empty(struct side *s)
{
    struct side *to = other(s);
    if (++s->empty > RELAY_EMPTY_MAX) {
        note_end(s->r, RELAY_EMPTY, s);
        close_side(s, WS_CLOSE_NORMAL, "End of stream");
        close_side(to, WS_CLOSE_NORMAL, "End of stream");
    } else if (s->can_half_close && to->state == ABSENT) {
        to->held_end = true;
    } else if (s->can_half_close && to->can_half_close && to->state == OPEN) {
        stream_write(to->carrier, SPAN_LIT("\x82\0"));
    }
}

static void on_event(struct side *s, const struct ws_event *ev, size_t room)
{
    switch (ev->kind) {
    case WS_EV_DATA:
        if (s->state != OPEN) {
            break; /* behind our Close nobody wants it */
        }
        if (ev->is_text && s->r->conf.is_strict) {
            fault(s, WS_CLOSE_TYPE);
            break;
        }
        if (ev->data.n > 0) {
            take_data(s, ev->data, room);
        }
        if (ev->end) {
            if (!s->has_data) {
                take_empty(s);
            }
            s->has_data = false;
        }
        break;
    case WS_EV_PING:
        if (s->state == OPEN && !stream_is_full(s->carrier)) { /* who does not read gets none */
            uint8_t bytes[WS_HEAD_MAX + WS_CONTROL_MAX];
            struct buf b = {.p = bytes, .cap = sizeof(bytes), .max = sizeof(bytes)};
            ws_control_write(&b, WS_PONG, ev->data, NULL);
            stream_write(s->carrier, buf_span(&b));
        }
        break;
    case WS_EV_CLOSE:
        peer_closed(s, ev->code);
        break;
    default:
        break;
    }
}

static size_t on_bytes(struct stream *st, void *arg, struct span in)
{
    struct side *s = arg;
    size_t front = st->front, at = 0;
    s->heard = true;
    while (at < in.n && (s->state == OPEN || s->state == CLOSING) && !is_blocked(s)) {
        struct ws_event ev;
        size_t used;
        if (ws_read(&s->rd, span_from(in, at), &used, &ev, NULL) != OK) {
            if (s->state == CLOSING) {
                flush(s); /* it has heard our Close */
            } else {
                fault(s, s->rd.close_code);
            }
            return in.n;
        }
        at += used;
        on_event(s, &ev,
                 ev.kind == WS_EV_DATA && ev.data.n > 0 ? front + (size_t)(ev.data.p - in.p) : 0);
    }
    if (s->state == FLUSHING || s->state == GONE) {
        return in.n;
    }
    set_paused(s, is_blocked(s));
    return at;
}

static void on_drained(struct stream *st UNUSED, void *arg)
{
    struct side *from = other(arg);
    set_paused(from, is_blocked(from));
}

static void on_close(struct stream *st UNUSED, void *arg, enum err why UNUSED)
{
    struct side *s = arg;
    bool was_open = s->state == OPEN;
    if (was_open) {
        note_end(s->r, RELAY_LOST, s);
    }
    side_gone(s);
    if (was_open) {
        lose(s);
    }
}

static const struct stream_handler handler = {
    .name = "relay",
    .on_bytes = on_bytes,
    .on_drained = on_drained,
    .on_close = on_close,
};

/* --- signs of life ----------------------------------------------------------------------------- */

static void beat_side(struct side *s)
{
    uint64_t out = conn_bytes_out(stream_conn(s->carrier));
    bool is_alive = s->heard || (s->pending_seen > 0 && out != s->out_seen);
    s->heard = false;
    s->out_seen = out;
    s->pending_seen = stream_pending(s->carrier);
    if (is_alive) {
        s->missed = 0;
        return;
    }
    if (s->is_paused && stream_pending(s->carrier) == 0) {
        return; /* its pongs wait unread, because the other side is slow */
    }
    if (s->missed >= RELAY_MISSED_MAX) {
        note_end(s->r, RELAY_DEAD, s);
        close_side(s, WS_CLOSE_FAILED, "No sign of life");
        lose(s);
        return;
    }
    s->missed++;
    if (!stream_is_full(s->carrier)) {
        stream_write(s->carrier, SPAN_LIT("\x89\0"));
    }
}

static void on_beat(struct timer *t)
{
    struct relay *r = CONTAINER_OF(t, struct relay, beat);
    for (unsigned i = 0; i < RELAY_SIDES; i++) {
        if (r->side[i].state == OPEN) {
            beat_side(&r->side[i]);
        }
    }
    timer_set(r->conf.loop, t, RELAY_BEAT_MS, on_beat);
}

/* --- begin ------------------------------------------------------------------------------------- */

enum err relay_new(const struct relay_conf *conf, struct relay **ret)
{
    struct relay *r = NEW(struct relay);
    if (r == NULL) {
        return E_NOMEM;
    }
    r->conf = *conf;
    for (unsigned i = 0; i < RELAY_SIDES; i++) {
        r->side[i].r = r;
    }
    *ret = r;
    return OK;
}

void relay_attach(struct relay *r, enum relay_side side, struct stream *carrier,
                  bool can_half_close)
{
    struct side *s = &r->side[side];
    ASSERT(s->state == ABSENT && !r->is_ending && carrier->loop == r->conf.loop);
    s->carrier = carrier;
    s->state = OPEN;
    s->can_half_close = can_half_close;
    ws_reader_init(&s->rd, true);
    s->rd.frame_max = RELAY_FRAME_IN;
    stream_handle(carrier, &handler, s);
    carrier->want = LIMIT_CONN_IN;
    carrier->high = RELAY_QUEUE;
    s->out_seen = conn_bytes_out(stream_conn(carrier));
    conn_set_bulk(stream_conn(carrier));
    if (!timer_is_set(&r->beat)) {
        timer_set(r->conf.loop, &r->beat, RELAY_BEAT_MS, on_beat);
    }
    uint8_t *held = TAKE(s->held);
    send_frames(s, span_of(held, s->held_n), 0);
    free(held);
    s->held_n = 0;
    if (s->held_end && can_half_close) {
        stream_write(carrier, SPAN_LIT("\x82\0"));
    }
    set_paused(other(s), is_blocked(other(s)));
}

bool relay_has(const struct relay *r, enum relay_side side)
{
    return r->side[side].state != ABSENT;
}

bool relay_is_ending(const struct relay *r)
{
    return r->is_ending;
}

uint64_t relay_bytes(const struct relay *r, enum relay_side from)
{
    return r->side[from].bytes;
}
