/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies bytes between two WebSockets on one loop: the data phase and the end of a device stream. The carriers
 * are connections whose upgrade has been answered (http_rq_take_carrier): frames are read and written here, unmasked in
 * place and sent from where they were decrypted.
 *
 *   side:  ABSENT --relay_attach--> OPEN --Close sent--> CLOSING --Close answered, or late--> FLUSHING --> GONE
 *                                    |--its Close (answered), broken frames---------------------^
 *                                    |--connection lost----------------------------------------------------^
 *   When one side ends, the other is closed: with 1000 (or its 1001) behind a proper Close, with 1011 "WS disconnected"
 *   when the connection vanished. When both have gone, on_end.
 *
 * Data        boundaries of messages carry no meaning: what comes is passed on in binary frames of at most RELAY_FRAME
 *             bytes. Empty messages are swallowed; more than RELAY_EMPTY_MAX in a row end the stream with 1000 "End of stream".
 *             Between two sides that both speak half-close they are passed on: they say that no more comes that way.
 * Memory      what waits for a side that is slow, or has not come yet, is at most RELAY_QUEUE and one read; then the other
 *             side is not read. Nothing is held while nothing moves.
 * Liveness    a side that neither sends nor takes anything for RELAY_BEAT_MS is pinged; after RELAY_MISSED_MAX beats
 *             without a sign it is closed with 1011. A side that we do not read because the other is slow is not judged.
 * Ownership   relay_new gives it away to itself: it is freed after on_end, which comes from the loop.
 * Threads     the loop's.   Limits   RELAY_FRAME_IN for a frame that comes in (1009).
 * Spec        docs/protocol/device-streams.md 7.1, 8, 9; RFC 6455.
 */
#ifndef NET_RELAY_H
#define NET_RELAY_H

#include "net/rate.h"
#include "net/stream.h"

#define RELAY_FRAME 16380u /* with its head one TLS record */
#define RELAY_FRAME_IN (1u << 20)
#define RELAY_QUEUE (64u << 10)
#define RELAY_EMPTY_MAX 64u
#define RELAY_BEAT_MS 30000u
#define RELAY_MISSED_MAX 3u
#define RELAY_CLOSE_MS                                                                             \
    5000u /* for the answer to a Close, and between two signs of progress before it */

enum relay_side { RELAY_DEVICE, RELAY_SERVICE, RELAY_SIDES };
enum relay_why {
    RELAY_CLOSED, /* a side sent Close */
    RELAY_LOST,   /* its connection vanished */
    RELAY_FAULT,  /* it broke the protocol */
    RELAY_DEAD,   /* it gave no sign of life */
    RELAY_EMPTY,  /* it sent empty messages only */
    RELAY_ENDED,  /* relay_end */
};
struct relay_end {
    enum relay_why why;
    enum relay_side who;         /* who began; of no meaning with RELAY_ENDED */
    uint64_t bytes[RELAY_SIDES]; /* payload that came from each side and was passed on */
};

struct relay;
struct relay_conf {
    struct loop *loop;
    bool is_strict; /* text frames end it with 1003; else they are bytes as well */
    struct rate
        *rate[2]; /* of the stream, of its device; NULL: none. They live as long as the relay */
    void (*on_end)(struct relay *r, void *arg, const struct relay_end *end);
    void *arg;
};
MUST_USE enum err relay_new(const struct relay_conf *conf, struct relay **ret);
/* Once for each side, not after the end has begun. can_half_close: this side knows what an empty message means. */
void relay_attach(struct relay *r, enum relay_side side, struct stream *carrier,
                  bool can_half_close);
bool relay_has(const struct relay *r, enum relay_side side); /* attached, also when gone since */
bool relay_is_ending(const struct relay *r);
/* Closes both; those that have not come will not. reason: a literal. */
void relay_end(struct relay *r, uint16_t code, const char *reason);
/* Both connections end now, without a word. */
void relay_cut(struct relay *r);
/* Payload passed on so far, by the side that it came from. */
uint64_t relay_bytes(const struct relay *r, enum relay_side from);

#endif
