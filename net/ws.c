/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ws.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "net/ws_int.h"

#define MASK_CHUNK 4096u

static const struct stream_ops ws_ops;
static const struct stream_handler carrier_handler;

/* --- life ---------------------------------------------------------------------------------- */

enum err ws_make(struct stream *carrier, bool is_server, struct ws **ret)
{
    struct ws *w = NEW(struct ws);
    if (w == NULL) {
        return E_NOMEM;
    }
    w->s = (struct stream){.ops = &ws_ops, .loop = carrier->loop, .want = LIMIT_CONN_IN};
    w->carrier = carrier;
    w->is_server = is_server;
    ws_reader_init(&w->rd, is_server);
    stream_handle(carrier, &carrier_handler, w);
    carrier->want = LIMIT_CONN_IN;
    *ret = w;
    return OK;
}

static void ws_free(struct ws *w)
{
    timer_stop(w->s.loop, &w->timer);
    loop_undefer(w->s.loop, &w->end);
    ws_upgrade_free(w);
    free(w->kept);
    free(w->early);
    free(w);
}

static void carrier_closed(struct stream *s, void *arg, enum err why)
{
    struct ws *w = arg;
    const struct stream_handler *h = w->s.h;
    (void)s;
    enum err told = w->has_why ? w->why : why;
    if (w->up != NULL) {
        ws_upgrade_failed(w, told == OK || told == E_CLOSED ? E_NET : told, 0);
    } else if (h != NULL) {
        w->s.h = NULL;
        h->on_close(&w->s, w->s.arg, told);
    }
    ws_free(w);
}

static void carrier_drained(struct stream *s, void *arg)
{
    struct ws *w = arg;
    (void)s;
    if (w->state == WS_OPEN && w->s.h != NULL && w->s.h->on_drained != NULL) {
        w->s.h->on_drained(&w->s, w->s.arg);
    }
}

/* --- control frames ------------------------------------------------------------------------ */

static const uint8_t *new_mask(const struct ws *w, uint8_t mask[4])
{
    if (w->is_server) {
        return NULL;
    }
    random_bytes(mask, 4); /* RFC 6455 10.3: unpredictable */
    return mask;
}

static void send_control(struct ws *w, enum ws_opcode opcode, struct span payload, uint16_t code)
{
    uint8_t bytes[WS_HEAD_MAX + WS_CONTROL_MAX];
    uint8_t mask[4];
    struct buf b = {.p = bytes, .cap = sizeof(bytes), .max = sizeof(bytes)}; /* never grows */
    if (opcode == WS_CLOSE) {
        ws_close_write(&b, code, new_mask(w, mask));
    } else {
        ws_control_write(&b, opcode, payload, new_mask(w, mask));
    }
    stream_write(w->carrier, buf_span(&b));
}

static void set_why(struct ws *w, enum err why)
{
    if (!w->has_why) {
        w->has_why = true;
        w->why = why;
    }
}

void ws_end(struct ws *w, enum err why, uint16_t code)
{
    if (w->state == WS_ENDING) {
        return;
    }
    if (code != 0 && w->state == WS_OPEN) {
        send_control(w, WS_CLOSE, SPAN_NONE, code);
    }
    set_why(w, why);
    w->state = WS_ENDING;
    timer_stop(w->s.loop, &w->timer);
    stream_close(w->carrier);
}

static void on_close_late(struct timer *t)
{
    ws_end(CONTAINER_OF(t, struct ws, timer), E_CLOSED, 0);
}

/* RFC 6455 7.1.1: both send Close, then the server closes TCP; who waits for the other waits bounded. */
void ws_close(struct ws *w, uint16_t status)
{
    if (w->state == WS_UPGRADING) {
        ws_end(w, E_CLOSED, 0);
        return;
    }
    if (w->state != WS_OPEN) {
        return;
    }
    send_control(w, WS_CLOSE, SPAN_NONE, status);
    set_why(w, E_CLOSED);
    w->state = WS_CLOSING;
    timer_set(w->s.loop, &w->timer, LIMIT_WS_CLOSE_MS, on_close_late);
    stream_pause(w->carrier, false); /* its Close must be read, also after a pause */
    stream_again(w->carrier);
}

/* --- input --------------------------------------------------------------------------------- */

static bool takes_payload(const struct ws *w)
{
    return w->state != WS_OPEN || (!w->paused && w->kept_n < MAX(w->s.want, 1));
}

static void drop_kept(struct ws *w)
{
    free(w->kept);
    w->kept = NULL;
    w->kept_n = w->kept_cap = 0;
}

static bool keep(struct ws *w, struct span b)
{
    if (w->kept_cap - w->kept_n < b.n) {
        size_t cap = MAX((size_t)w->kept_n + b.n, 2 * (size_t)w->kept_cap);
        uint8_t *p = cap <= UINT32_MAX ? realloc(w->kept, cap) : NULL;
        if (p == NULL) {
            ws_end(w, E_NOMEM, 0);
            return false;
        }
        w->kept = p;
        w->kept_cap = (uint32_t)cap;
    }
    memcpy(w->kept + w->kept_n, b.p, b.n);
    w->kept_n += (uint32_t)b.n;
    return true;
}

static size_t give(struct ws *w, struct span b)
{
    size_t used = w->s.h->on_bytes(&w->s, w->s.arg, b);
    ASSERT(used <= b.n);
    return used;
}

static void show_kept(struct ws *w)
{
    if (w->kept_n == 0 || w->paused || w->state != WS_OPEN) {
        return;
    }
    size_t used = give(w, span_of(w->kept, w->kept_n));
    w->kept_n -= (uint32_t)used;
    if (w->kept_n == 0 || w->state != WS_OPEN) {
        drop_kept(w);
    } else if (used > 0) {
        memmove(w->kept, w->kept + used, w->kept_n);
    }
}

static void take_payload(struct ws *w, struct span b)
{
    if (w->state != WS_OPEN || b.n == 0) {
        return;
    }
    if (w->kept_n > 0) {
        if (keep(w, b)) {
            show_kept(w);
        }
        return;
    }
    b = span_from(b, give(w, b));
    if (b.n > 0 && w->state == WS_OPEN) {
        (void)keep(w, b); /* without memory it has ended the ws */
    }
}

static void peer_closed(struct ws *w, uint16_t code)
{
    /* 5.5.1: echo the status; the first to have said Close waits for nothing more */
    ws_end(w, OK, code);
}

static void on_event(struct ws *w, const struct ws_event *ev)
{
    switch (ev->kind) {
    case WS_EV_DATA:
        if (ev->is_text) {
            ws_end(w, E_MALFORMED, WS_CLOSE_TYPE);
        } else {
            take_payload(w, ev->data);
        }
        break;
    case WS_EV_PING:
        if (w->state == WS_OPEN && !stream_is_full(w->carrier)) { /* who does not read gets none */
            send_control(w, WS_PONG, ev->data, 0);
        }
        break;
    case WS_EV_CLOSE:
        peer_closed(w, ev->code);
        break;
    default:
        break;
    }
}

/* How much was used: all, unless the handler takes no more now. */
static size_t read_frames(struct ws *w, struct span in)
{
    size_t at = 0;
    while (at < in.n && w->state != WS_ENDING && takes_payload(w)) {
        struct ws_event ev;
        size_t used;
        if (ws_read(&w->rd, span_from(in, at), &used, &ev, NULL) != OK) {
            ws_end(w, E_MALFORMED, w->rd.close_code);
            break;
        }
        at += used;
        on_event(w, &ev);
    }
    return w->state == WS_ENDING ? in.n : at;
}

static void read_early(struct ws *w)
{
    if (w->early_n == 0) {
        return;
    }
    size_t used = read_frames(w, span_of(w->early, w->early_n));
    w->early_n -= (uint32_t)used;
    if (w->early_n == 0) {
        free(w->early);
        w->early = NULL;
    } else {
        memmove(w->early, w->early + used, w->early_n);
    }
}

static size_t carrier_bytes(struct stream *s, void *arg, struct span in)
{
    struct ws *w = arg;
    (void)s;
    if (w->state == WS_UPGRADING) {
        size_t used = ws_upgrade_bytes(w, in);
        return w->state == WS_OPEN ? used + read_frames(w, span_from(in, used)) : used;
    }
    read_early(w);
    return w->early_n > 0 ? 0 : read_frames(w, in);
}

static const struct stream_handler carrier_handler = {
    .name = "ws",
    .on_bytes = carrier_bytes,
    .on_drained = carrier_drained,
    .on_close = carrier_closed,
};

static void end_of_turn(struct deferred *d)
{
    struct ws *w = CONTAINER_OF(d, struct ws, end);
    if (w->again && w->state == WS_OPEN) {
        w->again = false;
        show_kept(w);
        read_early(w);
        stream_again(w->carrier);
    }
}

static void defer_again(struct ws *w)
{
    w->again = true;
    loop_defer(w->s.loop, &w->end, end_of_turn);
}

enum err ws_new(struct stream *carrier, bool is_server, struct span early, struct ws **ret)
{
    uint8_t *copy = NULL;
    if (early.n > 0) {
        if (early.n > UINT32_MAX || (copy = malloc(early.n)) == NULL) {
            return E_NOMEM;
        }
        memcpy(copy, early.p, early.n);
    }
    struct ws *w;
    enum err e = ws_make(carrier, is_server, &w);
    if (e != OK) {
        free(copy);
        return e;
    }
    w->state = WS_OPEN;
    w->early = copy;
    w->early_n = (uint32_t)early.n;
    if (copy != NULL) {
        defer_again(w);
    }
    *ret = w;
    return OK;
}

struct stream *ws_stream(struct ws *w)
{
    return &w->s;
}

/* --- as a stream --------------------------------------------------------------------------- */

static void write_masked(struct ws *w, struct span b, const uint8_t mask[4])
{
    uint8_t chunk[MASK_CHUNK];
    for (size_t at = 0; at < b.n; at += MASK_CHUNK) {
        struct span part = span_sub(b, at, MASK_CHUNK);
        memcpy(chunk, part.p, part.n);
        ws_mask(chunk, part.n, mask, at);
        stream_write(w->carrier, span_of(chunk, part.n));
    }
}

static void op_write(struct stream *s, struct span b)
{
    struct ws *w = ws_of(s);
    if (w->state != WS_OPEN || b.n == 0) {
        return;
    }
    uint8_t head[WS_HEAD_MAX];
    uint8_t bytes[4];
    const uint8_t *mask = new_mask(w, bytes);
    size_t n = ws_head_write(head, WS_BINARY, true, b.n, mask);
    stream_write(w->carrier, span_of(head, n));
    if (mask != NULL) {
        write_masked(w, b, mask);
    } else {
        stream_write(w->carrier, b);
    }
}

static void op_pause(struct stream *s, bool paused)
{
    struct ws *w = ws_of(s);
    if (w->paused == paused || w->state != WS_OPEN) {
        return;
    }
    w->paused = paused;
    stream_pause(w->carrier, paused);
    if (!paused) {
        defer_again(w);
    }
}

static void op_close(struct stream *s)
{
    ws_close(ws_of(s), WS_CLOSE_NORMAL);
}

static void op_abort(struct stream *s, enum err why)
{
    struct ws *w = ws_of(s);
    set_why(w, why);
    w->state = WS_ENDING;
    stream_abort(w->carrier, why);
}

static bool op_is_full(const struct stream *s)
{
    const struct ws *w = CONTAINER_OF((struct stream *)(uintptr_t)s, struct ws, s);
    return stream_is_full(w->carrier);
}

static size_t op_pending(const struct stream *s)
{
    const struct ws *w = CONTAINER_OF((struct stream *)(uintptr_t)s, struct ws, s);
    return stream_pending(w->carrier);
}

static struct conn *op_conn(struct stream *s)
{
    return stream_conn(ws_of(s)->carrier);
}

static void op_again(struct stream *s)
{
    defer_again(ws_of(s));
}

static const struct stream_ops ws_ops = {
    .write = op_write,
    .pause = op_pause,
    .close = op_close,
    .abort = op_abort,
    .is_full = op_is_full,
    .pending = op_pending,
    .conn = op_conn,
    .again = op_again,
};
