/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain bytes in both directions, the same over TLS, over a WebSocket or over a test socket. A
 * protocol (MQTT link, HTTP, relay) is a stream_handler; a carrier (conn, ws) embeds struct stream.
 *
 *   OPEN --stream_close--> CLOSING (output is flushed, input dropped) --> on_close, gone
 *   OPEN --peer closes, error, stream_abort--> on_close, gone
 *
 * Ownership   the carrier frees itself after on_close has returned, at the end of the turn; the handler
 *             must not touch the stream afterwards. on_close comes exactly once, never inside a call of
 *             the handler into the stream (write, close, abort): always from the loop.
 * Input       on_bytes gets what has arrived and returns how much it used; the rest is kept and shown
 *             again in front of what follows. The carrier stops reading at `want` kept bytes (default 16 KiB;
 *             set it to the size of the packet in work). in.p may be changed in place (unmasking), and during the
 *             call also the `front` bytes before it (a head of our own in front of what is passed on).
 * Output      stream_write copies (or sends at once); what cannot leave is queued. Above `high`
 *             (LIMIT_CONN_OUT_HIGH) stream_is_full() is true; on_drained comes when it fell below
 *             a quarter of it again. Over LIMIT_CONN_OUT_MAX the stream is aborted (E_TOO_LARGE).
 *             Writes of one turn leave together at its end.
 * Half-close  where the carrier has it (plain TCP, a channel of client/mux): a handler with on_end hears that the peer will send no more,
 *             once all bytes were used, and may go on writing; without on_end that is the peer's close. stream_end says the same to
 *             the peer after what was written; false: this carrier has no half-close. Ended both ways it closes with OK.
 * Threads     the loop's.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include "base/err.h"
#include "base/span.h"
#include "certs/cert.h"
#include "net/loop.h"

#define STREAM_FRONT 16u

struct stream;
struct stream_handler {
    const char *name; /* for the log: "mqtt", "http" */
    size_t (*on_bytes)(struct stream *s, void *arg, struct span in);
    void (*on_drained)(struct stream *s, void *arg); /* may be NULL */
    /* why: OK peer closed in order; E_CLOSED we closed; E_TLS, E_NET, E_TIMEOUT, E_MALFORMED, ... */
    void (*on_close)(struct stream *s, void *arg, enum err why);
    void (*on_end)(struct stream *s, void *arg); /* may be NULL */
};

struct stream_ops {
    void (*write)(struct stream *s, struct span b);
    void (*pause)(struct stream *s, bool paused);
    void (*close)(struct stream *s);
    void (*abort)(struct stream *s, enum err why);
    bool (*is_full)(const struct stream *s);
    size_t (*pending)(const struct stream *s);
    /* The TLS connection below (a ws passes it on); NULL in tests. */
    struct conn *(*conn)(struct stream *s);
    void (*again)(struct stream *s); /* call on_bytes with what is kept, from the loop */
    bool (*end)(struct stream *s);   /* NULL: no half-close */
};

struct stream {
    const struct stream_ops *ops;
    const struct stream_handler *h;
    void *arg;
    struct loop *loop;
    size_t want;   /* keep up to so many unread bytes */
    uint32_t high; /* full above so many unsent bytes */
    uint8_t front; /* bytes before in.p that on_bytes may overwrite: 0 or STREAM_FRONT */
};

static inline void stream_handle(struct stream *s, const struct stream_handler *h, void *arg)
{
    s->h = h;
    s->arg = arg;
}
static inline void stream_write(struct stream *s, struct span b)
{
    s->ops->write(s, b);
}
/* Stops (or resumes) on_bytes; back-pressure reaches the peer through TCP. */
static inline void stream_pause(struct stream *s, bool paused)
{
    s->ops->pause(s, paused);
}
static inline void stream_close(struct stream *s)
{
    s->ops->close(s);
}
static inline void stream_abort(struct stream *s, enum err why)
{
    s->ops->abort(s, why);
}
static inline bool stream_is_full(const struct stream *s)
{
    return s->ops->is_full(s);
}
/* Bytes written and not yet handed to the system. */
static inline size_t stream_pending(const struct stream *s)
{
    return s->ops->pending(s);
}
static inline struct conn *stream_conn(struct stream *s)
{
    return s->ops->conn(s);
}
static inline void stream_again(struct stream *s)
{
    s->ops->again(s);
}
static inline bool stream_end(struct stream *s)
{
    return s->ops->end != NULL && s->ops->end(s);
}

#endif
