/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of client/mux.c; its test looks in. */
#ifndef CLIENT_MUX_INT_H
#define CLIENT_MUX_INT_H

#include "base/buf.h"
#include "base/list.h"
#include "client/mux.h"

#define MUX_HEAD 8u
#define MUX_REASON 200u
#define MUX_OUT_HIGH (128u << 10)
#define MUX_OUT_LOW (32u << 10)

enum mux_type {
    MUX_OPEN = 1,
    MUX_DATA_BYTES,
    MUX_END,
    MUX_CLOSE,
    MUX_RESET,
    MUX_WINDOW_MORE,
    MUX_TYPES
};

struct channel {
    struct stream s;
    struct mux *m;
    struct list link;
    struct deferred end;
    uint32_t id;
    uint32_t may_send, may_come; /* bytes allowed by the peer, by us */
    uint32_t owed;               /* used, and not yet allowed again */
    struct buf in;
    struct buf out; /* [out_at, n) has yet to leave */
    size_t out_at;
    char *reason;
    enum err why;
    bool paused, again, is_full;
    bool in_ended, is_peer_closed, end_told;
    bool end_asked, out_ended, is_closing;
    bool is_dying;
};

struct mux {
    struct stream *carrier;
    struct loop *loop;
    const struct mux_handler *h;
    void *arg;
    struct list channels;
    struct list *turn; /* who sends next */
    size_t n_channels;
    uint32_t last_id;
    struct deferred pump;
    bool is_over, is_carrier_gone, is_told;
    enum err why;
    uint8_t frame[MUX_HEAD + MUX_DATA];
};
void mux_settle(struct mux *m);

#endif
