/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth.streams.v1, a Berth extension: several two-way byte channels over one device stream, between two of Berth's own programs. The
 * hub sees bytes only. Each channel is a struct stream with half-closes, so that whatever joins streams (client/splice) need not know.
 *
 * Frames      type u8 | length of the payload u24 | channel u32 | payload; big endian; a message of the WebSocket may hold any part of
 *             them.
 *               1 OPEN    opener only; channel: greater than all before; payload: name of the target, 1..64 bytes of UTF-8
 *               2 DATA    1..MUX_DATA bytes, within what the receiver has allowed
 *               3 END     the sender has no more DATA
 *               4 CLOSE   the sender has no more DATA and reads none: the channel is over once the DATA before it was used
 *               5 RESET   the channel is over now; payload: a reason for people, at most 200 bytes
 *               6 WINDOW  u32: so many bytes more may come
 *             Each side begins a channel with MUX_WINDOW allowed. Frames of a channel that is over are ignored; a channel that was
 *             never opened, an unknown type and a length past its bound end the session.
 * Fairness    channels with something to send take turns, one DATA each. A channel whose reader is slow stops alone.
 * Ownership   mux_new takes the carrier. A channel frees itself after its on_close; all have ended before the handler's on_close, after
 *             which the mux frees itself.
 * Errors      of a channel's on_close: OK ended by both; E_CLOSED closed here; E_REMOTE reset by the peer, and why mux_reason() tells in
 *             that call; else why the session ended.
 * Limits      MUX_CHANNELS, MUX_WINDOW bytes kept for each.   Threads  the loop's.
 */
#ifndef CLIENT_MUX_H
#define CLIENT_MUX_H

#include "net/stream.h"

#define MUX_PROTOCOL "berth.streams.v1"
#define MUX_PROTOCOL_SEALED                                                                        \
    "berth.streams.v1.tls" /* the same below TLS 1.3: docs/protocol/device-streams.md 13.2 */
#define MUX_DATA 16368u
#define MUX_WINDOW (512u << 10)
#define MUX_CHANNELS 64u
#define MUX_NAME 64u

struct mux;
struct mux_handler {
    /* The peer opened a channel (NULL: this side opens). The handler gives it one (stream_handle), now or later: until then its bytes
     * are kept; or refuses with mux_refuse(). */
    void (*on_open)(struct mux *m, void *arg, struct span name, struct stream *channel);
    void (*on_close)(struct mux *m, void *arg, enum err why);
};
MUST_USE enum err mux_new(struct stream *carrier, const struct mux_handler *h, void *arg,
                          struct mux **ret);
/* E_LIMIT: MUX_CHANNELS are open; E_STATE: the session is over. The caller sets a handler before the next turn. */
MUST_USE enum err mux_open(struct mux *m, struct span name, struct stream **ret);
/* Instead of a handler; reason is told to the peer. The channel is gone after the call. */
void mux_refuse(struct stream *channel, const char *reason);
/* What the peer's RESET said; only inside on_close(E_REMOTE). */
const char *mux_reason(struct stream *channel);
size_t mux_count(const struct mux *m);
/* Ends the session: channels are reset. */
void mux_close(struct mux *m, enum err why);

#endif
