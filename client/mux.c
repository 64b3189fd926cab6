/* SPDX-License-Identifier: Apache-2.0 */
/* LONG FILE: one machine, both directions of a channel are read together. */
#include "client/mux.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/list.h"
#include "client/mux_int.h"

static const struct stream_ops channel_ops;
#define channel_of(stream) CONTAINER_OF((stream), struct channel, s)

/* --- frames out ------------------------------------------------------------------------------- */

static void send_frame(struct mux *m, enum mux_type type, uint32_t id, struct span payload)
{
    uint8_t *p = m->frame;
    ASSERT(payload.n <= MUX_DATA);
    if (m->is_over) {
        return;
    }
    p[0] = (uint8_t)type;
    p[1] = 0;
    p[2] = (uint8_t)(payload.n >> 8);
    p[3] = (uint8_t)payload.n;
    for (unsigned i = 0; i < 4; i++) {
        p[4 + i] = (uint8_t)(id >> (24 - 8 * i));
    }
    if (payload.n > 0) {
        memcpy(p + MUX_HEAD, payload.p, payload.n);
    }
    stream_write(m->carrier, span_of(p, MUX_HEAD + payload.n));
}

static void send_window(struct channel *c, uint32_t n)
{
    const uint8_t v[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    send_frame(c->m, MUX_WINDOW_MORE, c->id, span_of(v, sizeof(v)));
}

/* --- a channel's life ---------------------------------------------------------------------------- */

static void end_of_turn(struct deferred *d);

static void defer(struct channel *c)
{
    loop_defer(c->s.loop, &c->end, end_of_turn);
}

static size_t out_pending(const struct channel *c)
{
    return c->out.n - c->out_at;
}

static void drop_out(struct channel *c)
{
    buf_release(&c->out);
    c->out_at = 0;
}

/* Takes it out of the session; on_close follows at the end of the turn. */
static void die(struct channel *c, enum err why)
{
    if (!c->is_dying) {
        c->is_dying = true;
        c->why = why;
        drop_out(c);
        defer(c);
    }
}

static void free_channel(struct channel *c)
{
    struct mux *m = c->m;
    loop_undefer(c->s.loop, &c->end);
    if (m->turn == &c->link) {
        m->turn = c->link.next;
    }
    list_del(&c->link);
    m->n_channels--;
    buf_done(&c->in);
    buf_done(&c->out);
    free(c->reason);
    free(c);
}

static void finish(struct channel *c)
{
    struct mux *m = c->m;
    const struct stream_handler *h = c->s.h;
    if (h != NULL) {
        c->s.h = NULL;
        h->on_close(&c->s, c->s.arg, c->why);
    }
    free_channel(c);
    mux_settle(m);
}

/* Bytes to the handler; what it used is allowed again in large pieces. */
static void show(struct channel *c)
{
    if (c->in.n == 0 || c->paused || c->s.h == NULL || c->is_dying) {
        return;
    }
    size_t used = c->s.h->on_bytes(&c->s, c->s.arg, buf_span(&c->in));
    ASSERT(used <= c->in.n);
    if (used == c->in.n) {
        buf_release(&c->in);
    } else {
        buf_drop(&c->in, used);
    }
    c->owed += (uint32_t)used;
    if (c->owed >= MUX_WINDOW / 4 && !c->in_ended && !c->is_dying) {
        send_window(c, c->owed);
        c->may_come += c->owed;
        c->owed = 0;
    }
}

/* Both halves. */
static void settle_ends(struct channel *c)
{
    if (c->end_asked && !c->out_ended && out_pending(c) == 0) {
        c->out_ended = true;
        send_frame(c->m, c->is_closing ? MUX_CLOSE : MUX_END, c->id, SPAN_NONE);
        if (c->is_closing) {
            die(c, E_CLOSED);
            return;
        }
    }
    if (c->in_ended && !c->end_told && c->in.n == 0 && !c->paused && c->s.h != NULL) {
        c->end_told = true;
        if (c->is_peer_closed || c->s.h->on_end == NULL) {
            if (!c->is_peer_closed && !c->out_ended) {
                send_frame(c->m, MUX_CLOSE, c->id, SPAN_NONE); /* nobody here for half a channel */
            }
            die(c, OK);
            return;
        }
        c->s.h->on_end(&c->s, c->s.arg);
    }
    if (c->end_told && c->out_ended) {
        die(c, OK);
    }
}

static void end_of_turn(struct deferred *d)
{
    struct channel *c = CONTAINER_OF(d, struct channel, end);
    if (c->again && !c->is_dying) {
        c->again = false;
        show(c);
    }
    if (!c->is_dying) {
        settle_ends(c);
    }
    if (c->is_dying) {
        finish(c);
    }
}

/* --- sending in turns ------------------------------------------------------------------------------ */

/* One DATA of this channel, if it may. */
static bool send_some(struct channel *c)
{
    size_t n = MIN(MIN(out_pending(c), (size_t)c->may_send), (size_t)MUX_DATA);
    if (n == 0 || c->is_dying) {
        return false;
    }
    send_frame(c->m, MUX_DATA_BYTES, c->id, span_of(c->out.p + c->out_at, n));
    c->may_send -= (uint32_t)n;
    c->out_at += n;
    if (c->out_at == c->out.n) {
        drop_out(c);
    }
    if (c->is_full && out_pending(c) < MUX_OUT_LOW) {
        c->is_full = false;
        if (c->s.h != NULL && c->s.h->on_drained != NULL) {
            c->s.h->on_drained(&c->s, c->s.arg);
        }
    }
    if (c->end_asked && out_pending(c) == 0) {
        defer(c);
    }
    return true;
}

static void pump(struct deferred *d)
{
    struct mux *m = CONTAINER_OF(d, struct mux, pump);
    size_t idle = 0;
    while (!m->is_over && idle < m->n_channels && !stream_is_full(m->carrier)) {
        if (m->turn == NULL || m->turn == &m->channels) {
            m->turn = m->channels.next;
        }
        struct channel *c = LIST_OF(m->turn, struct channel, link);
        m->turn = m->turn->next;
        idle = send_some(c) ? 0 : idle + 1;
    }
}

static void pump_soon(struct mux *m)
{
    if (!m->is_over) {
        loop_defer(m->carrier->loop, &m->pump, pump);
    }
}

/* --- a channel as a stream --------------------------------------------------------------------------- */

static void op_write(struct stream *s, struct span b)
{
    struct channel *c = channel_of(s);
    if (c->is_dying || c->end_asked || b.n == 0) {
        return;
    }
    if (out_pending(c) + b.n > LIMIT_CONN_OUT_MAX) {
        stream_abort(s, E_TOO_LARGE);
        return;
    }
    if (c->out_at > 0 && c->out_at >= c->out.n / 2) {
        buf_drop(&c->out, c->out_at);
        c->out_at = 0;
    }
    buf_add(&c->out, b);
    if (buf_err(&c->out) != OK) {
        stream_abort(s, E_NOMEM);
        return;
    }
    c->is_full = c->is_full || out_pending(c) > MUX_OUT_HIGH;
    pump_soon(c->m);
}

static void op_pause(struct stream *s, bool paused)
{
    struct channel *c = channel_of(s);
    if (c->paused != paused) {
        c->paused = paused;
        c->again = c->again || !paused;
        defer(c);
    }
}

static void op_close(struct stream *s)
{
    struct channel *c = channel_of(s);
    if (!c->is_dying && !c->is_closing) {
        c->is_closing = true;
        c->out_ended = false; /* after END there may still be a CLOSE */
        c->end_asked = true;
        c->paused = true;
        defer(c);
    }
}

static void op_abort(struct stream *s, enum err why)
{
    struct channel *c = channel_of(s);
    if (!c->is_dying) {
        send_frame(c->m, MUX_RESET, c->id, span_str(err_text(why)));
        die(c, why);
    }
}

static const struct channel *channel_at(const struct stream *s)
{
    return CONTAINER_OF((struct stream *)(uintptr_t)s, struct channel, s);
}

static bool op_is_full(const struct stream *s)
{
    return channel_at(s)->is_full;
}

static size_t op_pending(const struct stream *s)
{
    return out_pending(channel_at(s));
}

static struct conn *op_conn(struct stream *s)
{
    return stream_conn(channel_of(s)->m->carrier);
}

static void op_again(struct stream *s)
{
    channel_of(s)->again = true;
    defer(channel_of(s));
}

static bool op_end(struct stream *s)
{
    struct channel *c = channel_of(s);
    c->end_asked = true;
    defer(c);
    return true;
}

static const struct stream_ops channel_ops = {
    .write = op_write,
    .pause = op_pause,
    .close = op_close,
    .abort = op_abort,
    .is_full = op_is_full,
    .pending = op_pending,
    .conn = op_conn,
    .again = op_again,
    .end = op_end,
};

/* --- channels come and go ------------------------------------------------------------------------------ */

static struct channel *add_channel(struct mux *m, uint32_t id)
{
    struct channel *c = NEW(struct channel);
    if (c == NULL) {
        return NULL;
    }
    c->s = (struct stream){.ops = &channel_ops, .loop = m->carrier->loop, .want = MUX_WINDOW};
    c->m = m;
    c->id = id;
    c->in = (struct buf)BUF_INIT(MUX_WINDOW);
    c->out = (struct buf)BUF_INIT(2u * LIMIT_CONN_OUT_MAX);
    c->may_send = c->may_come = MUX_WINDOW;
    list_add_tail(&m->channels, &c->link);
    m->n_channels++;
    m->last_id = id;
    return c;
}

enum err mux_open(struct mux *m, struct span name, struct stream **ret)
{
    ASSERT(name.n >= 1 && name.n <= MUX_NAME);
    if (m->is_over) {
        return E_STATE;
    }
    if (m->n_channels >= MUX_CHANNELS || m->last_id == UINT32_MAX) {
        return E_LIMIT;
    }
    struct channel *c = add_channel(m, m->last_id + 1);
    if (c == NULL) {
        return E_NOMEM;
    }
    send_frame(m, MUX_OPEN, c->id, name);
    *ret = &c->s;
    return OK;
}

void mux_refuse(struct stream *channel, const char *reason)
{
    struct channel *c = channel_of(channel);
    send_frame(c->m, MUX_RESET, c->id, span_sub(span_str(reason), 0, MUX_REASON));
    die(c, E_CLOSED);
}

const char *mux_reason(struct stream *channel)
{
    const char *r = channel_of(channel)->reason;
    return r != NULL ? r : "";
}

size_t mux_count(const struct mux *m)
{
    return m->n_channels;
}

/* --- frames in --------------------------------------------------------------------------------------------- */

static struct channel *find(struct mux *m, uint32_t id)
{
    LIST_EACH (n, &m->channels) {
        struct channel *c = LIST_OF(n, struct channel, link);
        if (c->id == id) {
            return c->is_dying ? NULL : c;
        }
    }
    return NULL;
}

static bool got_open(struct mux *m, uint32_t id, struct span name)
{
    if (m->h->on_open == NULL || id <= m->last_id || name.n < 1 || name.n > MUX_NAME ||
        !span_is_utf8(name)) {
        return false;
    }
    if (m->n_channels >= MUX_CHANNELS) {
        m->last_id = id;
        send_frame(m, MUX_RESET, id, SPAN_LIT("too many channels"));
        return true;
    }
    struct channel *c = add_channel(m, id);
    if (c == NULL) {
        return false;
    }
    m->h->on_open(m, m->arg, name, &c->s);
    return true;
}

static bool got_data(struct channel *c, struct span b)
{
    if (b.n == 0 || b.n > c->may_come || c->in_ended) {
        return false; /* more than was allowed */
    }
    c->may_come -= (uint32_t)b.n;
    if (c->is_closing) {
        return true;
    }
    buf_add(&c->in, b);
    if (buf_err(&c->in) != OK) {
        return false;
    }
    show(c);
    return true;
}

static bool got_window(struct channel *c, struct span b)
{
    if (b.n != 4) {
        return false;
    }
    uint32_t more =
        (uint32_t)b.p[0] << 24 | (uint32_t)b.p[1] << 16 | (uint32_t)b.p[2] << 8 | b.p[3];
    if (more > MUX_WINDOW || c->may_send > MUX_WINDOW) {
        return false;
    }
    c->may_send += more;
    pump_soon(c->m);
    return true;
}

/* false: the peer does not keep to the protocol. */
static bool got_frame(struct mux *m, unsigned type, uint32_t id, struct span b)
{
    if (type == MUX_OPEN) {
        return got_open(m, id, b);
    }
    if (type == 0 || type >= MUX_TYPES || id == 0 || id > m->last_id) {
        return false;
    }
    struct channel *c = find(m, id);
    if (c == NULL) {
        return true; /* over on this side; the peer does not know yet */
    }
    switch (type) {
    case MUX_DATA_BYTES:
        return got_data(c, b);
    case MUX_WINDOW_MORE:
        return got_window(c, b);
    case MUX_RESET:
        c->reason = span_dup(span_sub(b, 0, MUX_REASON));
        die(c, E_REMOTE);
        return true;
    default:
        break;
    }
    if (c->in_ended && type == MUX_END) {
        return false;
    }
    c->in_ended = true;
    c->is_peer_closed = type == MUX_CLOSE;
    c->end_told = c->end_told && !c->is_peer_closed;
    if (c->is_peer_closed) {
        drop_out(c);
    }
    defer(c);
    return true;
}

static size_t on_bytes(struct stream *s, void *arg, struct span in)
{
    struct mux *m = arg;
    size_t used = 0;
    (void)s;
    while (!m->is_over && in.n - used >= MUX_HEAD) {
        const uint8_t *p = in.p + used;
        size_t n = (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        uint32_t id = (uint32_t)p[4] << 24 | (uint32_t)p[5] << 16 | (uint32_t)p[6] << 8 | p[7];
        if (n > MUX_DATA) {
            mux_close(m, E_MALFORMED);
            break;
        }
        if (in.n - used < MUX_HEAD + n) {
            break;
        }
        used += MUX_HEAD + n;
        if (!got_frame(m, p[0], id, span_of(p + MUX_HEAD, n))) {
            mux_close(m, E_MALFORMED);
        }
    }
    return m->is_over ? in.n : used;
}

static void on_drained(struct stream *s, void *arg)
{
    (void)s;
    pump_soon(arg);
}

/* --- the session ----------------------------------------------------------------------------------------------- */

/* Goes once the carrier and all channels are gone. */
void mux_settle(struct mux *m)
{
    if (!m->is_carrier_gone || m->n_channels > 0 || m->is_told) {
        return;
    }
    m->is_told = true;
    m->h->on_close(m, m->arg, m->why);
    free(m);
}

static void end_session(struct mux *m, enum err why)
{
    if (m->is_over) {
        return;
    }
    m->is_over = true;
    m->why = why;
    loop_undefer(m->loop, &m->pump);
    LIST_EACH (n, &m->channels) {
        die(LIST_OF(n, struct channel, link), why == OK ? E_CLOSED : why);
    }
}

static void on_close(struct stream *s, void *arg, enum err why)
{
    struct mux *m = arg;
    (void)s;
    end_session(m, why);
    m->is_carrier_gone = true;
    mux_settle(m);
}

static const struct stream_handler carrier_handler = {
    .name = "mux",
    .on_bytes = on_bytes,
    .on_drained = on_drained,
    .on_close = on_close,
};

enum err mux_new(struct stream *carrier, const struct mux_handler *h, void *arg, struct mux **ret)
{
    struct mux *m = NEW(struct mux);
    if (m == NULL) {
        return E_NOMEM;
    }
    m->carrier = carrier;
    m->loop = carrier->loop;
    m->h = h;
    m->arg = arg;
    list_init(&m->channels);
    stream_handle(carrier, &carrier_handler, m);
    carrier->want = 2 * (MUX_HEAD + MUX_DATA);
    *ret = m;
    return OK;
}

void mux_close(struct mux *m, enum err why)
{
    if (!m->is_over) {
        struct stream *s = m->carrier;
        end_session(m, why);
        if (why == OK || why == E_CLOSED) {
            stream_close(s);
        } else {
            stream_abort(s, why);
        }
    }
}
