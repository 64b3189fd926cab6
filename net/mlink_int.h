/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of net/mlink: shared by mlink.c (life, order, time, our packets) and mlink_in.c (the peer's packets). */
#ifndef NET_MLINK_INT_H
#define NET_MLINK_INT_H

#include "base/limits.h"
#include "net/ack_ring.h"
#include "net/mlink.h"

enum mlink_state {
    ML_WAIT_CONNECT = 1,
    ML_ADMITTING = 2,
    ML_READY = 4,
    ML_CLOSED = 8, /* the stream is closing; on_close has yet to come */
};

#define MLINK_ANSWER_MAX 24u

struct mlink {
    struct stream *s;
    const struct mlink_handler *h;
    void *arg;
    struct timer
        timer; /* the earliest of the deadlines below, or earlier: looked at when it runs */
    struct deferred flush; /* PUBACKs of this turn */
    uint64_t last_in_ms;   /* a whole packet came */
    uint64_t end_ms;       /* CONNECT deadline, or drain's; 0: none */
    uint32_t keep_alive_ms;
    uint32_t idle_ms; /* 0: off */
    struct ack_ring ring;
    struct err_info *info; /* why it was closed; NULL: nothing to tell */
    enum err why;
    uint16_t next_id;
    uint16_t in_flight[LIMIT_MQTT_INFLIGHT_OUT];
    uint8_t n_in_flight;
    uint8_t state;
    bool is_clean : 1;
    bool paused : 1;     /* by the endpoint */
    bool draining : 1;   /* no new work */
    bool is_stopped : 1; /* what the stream was told last */
    bool is_holding : 1; /* the answer below waits for the endpoint */
    bool is_suback : 1;
    uint8_t n_answer;
    uint8_t answer[MLINK_ANSWER_MAX];
};

_Static_assert(MQTT_HEAD_MAX + 2 + LIMIT_MQTT_FILTERS <= MLINK_ANSWER_MAX, "a SUBACK fits");

#define PACKET_SMALL 512u
/* A packet under construction: small ones on the stack. */
struct packet {
    struct buf b;
    uint8_t small[PACKET_SMALL];
};

struct buf *packet_init(struct packet *p, size_t need);
/* Writes and frees it; without memory the link ends: a missing answer would break the order. */
void packet_send(struct mlink *l, struct packet *p);
/* Once; write_acks first, on_close later from the loop. info may be NULL. */
void mlink_close_with(struct mlink *l, enum err why, const struct err_info *info);
/* SUBACK or UNSUBACK: at once, or when the endpoint says so. */
void mlink_answer(struct mlink *l, struct packet *p, bool is_suback);
/* Neither full, paused, holding an answer, draining nor closed. */
bool mlink_takes_packets(const struct mlink *l);
/* Tells the stream whether to go on reading. */
void mlink_update_reading(struct mlink *l);
/* mlink_in.c: the stream's on_bytes. */
size_t mlink_on_bytes(struct stream *s, void *arg, struct span in);

#endif
