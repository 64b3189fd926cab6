/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mlink.h"

#include <stdlib.h>

#include "net/mlink_int.h"

static const struct stream_handler mlink_stream_handler;
static void on_timer(struct timer *t);

/* --- writing ------------------------------------------------------------------------------- */

struct buf *packet_init(struct packet *p, size_t need)
{
    p->b = (struct buf)BUF_INIT(need);
    if (need <= sizeof(p->small)) {
        p->b.p = p->small;
        p->b.cap = p->b.max = sizeof(p->small); /* never grows, so is never reallocated */
    }
    return &p->b;
}

static void packet_done(struct packet *p)
{
    if (p->b.p != p->small) {
        buf_done(&p->b);
    }
}

void packet_send(struct mlink *l, struct packet *p)
{
    ASSERT(buf_err(&p->b) == OK || buf_err(&p->b) == E_NOMEM);
    if (buf_err(&p->b) == OK) {
        stream_write(l->s, buf_span(&p->b));
    } else {
        stream_abort(l->s, E_NOMEM); /* an answer that is missing would break the order */
    }
    packet_done(p);
}

/* --- closing ------------------------------------------------------------------------------- */

static void write_acks(struct mlink *l);

void mlink_close_with(struct mlink *l, enum err why, const struct err_info *info)
{
    if (l->state == ML_CLOSED) {
        return;
    }
    write_acks(l);
    l->state = ML_CLOSED;
    l->why = why;
    if (info != NULL && info->why[0] != '\0' && (l->info = NEW(struct err_info)) != NULL) {
        *l->info = *info;
    }
    timer_stop(l->s->loop, &l->timer);
    stream_close(l->s);
}

void mlink_close(struct mlink *l, enum err why, const char *reason)
{
    struct err_info info = {.err = why};
    (void)err_set(&info, why, "%s", reason != NULL ? reason : err_text(why));
    mlink_close_with(l, why, &info);
}

static void on_stream_close(struct stream *s, void *arg, enum err why)
{
    struct mlink *l = arg;
    (void)s;
    if (l->state != ML_CLOSED) {
        l->why = why == OK ? E_CLOSED : why; /* gone without DISCONNECT is no good end */
    }
    loop_undefer(l->s->loop, &l->flush);
    timer_stop(l->s->loop, &l->timer);
    l->state = ML_CLOSED;
    l->h->on_close(l, l->arg, l->is_clean, l->why, l->info);
    ack_ring_done(&l->ring);
    free(l->info);
    free(l);
}

/* --- back-pressure, acknowledgements ------------------------------------------------------- */

bool mlink_takes_packets(const struct mlink *l)
{
    return l->state != ML_CLOSED && !l->paused && !l->is_holding && !l->draining &&
           !ack_ring_is_full(&l->ring);
}

void mlink_update_reading(struct mlink *l)
{
    bool stop = l->state != ML_CLOSED && !mlink_takes_packets(l);
    if (stop != l->is_stopped) {
        l->is_stopped = stop;
        l->last_in_ms = loop_now_ms(l->s->loop); /* the silence was ours */
        stream_pause(l->s, stop);
    }
}

static void end_drain_if_done(struct mlink *l)
{
    if (l->draining && l->ring.n == 0) {
        mlink_close(l, E_DRAINING, "shutting down");
    }
}

static void write_held(struct mlink *l, struct ack_held *held)
{
    while (held != NULL) {
        stream_write(l->s, span_of(held->packet, held->n));
        ack_held_pop(&held);
    }
}

/* Everything that is acknowledged without a gap, as few writes. */
static void write_acks(struct mlink *l)
{
    struct packet p;
    struct buf *b = packet_init(&p, PACKET_SMALL);
    uint16_t packet_id;
    struct ack_held *held;
    while (ack_ring_pop(&l->ring, &packet_id, &held)) {
        mqtt_puback_write(b, packet_id);
        if (held != NULL || b->n + MQTT_HEAD_MAX > b->max) {
            stream_write(l->s, buf_span(b));
            buf_reset(b);
        }
        write_held(l, held);
    }
    if (b->n > 0) {
        stream_write(l->s, buf_span(b));
    }
    packet_done(&p);
}

static void on_flush(struct deferred *d)
{
    struct mlink *l = CONTAINER_OF(d, struct mlink, flush);
    if (l->state == ML_CLOSED) {
        return;
    }
    write_acks(l);
    mlink_update_reading(l);
    end_drain_if_done(l);
}

void mlink_ack(struct mlink *l, mlink_slot slot)
{
    if (slot == MLINK_NO_SLOT || l->state == ML_CLOSED) {
        return;
    }
    ack_ring_ack(&l->ring, slot);
    loop_defer(l->s->loop, &l->flush, on_flush);
}

void mlink_pause(struct mlink *l, bool paused)
{
    l->paused = paused;
    mlink_update_reading(l);
}

/* --- answers that wait for the endpoint ------------------------------------------------------- */

static void tell_subscribed(struct mlink *l, bool is_suback)
{
    if (is_suback && l->state == ML_READY && l->h->on_subscribed != NULL) {
        l->h->on_subscribed(l, l->arg);
    }
}

void mlink_answer(struct mlink *l, struct packet *p, bool is_suback)
{
    if (!l->is_holding) {
        packet_send(l, p);
        tell_subscribed(l, is_suback);
        return;
    }
    struct span text = buf_span(&p->b);
    ASSERT(text.n <= sizeof(l->answer)); /* small, so it never needed memory */
    memcpy(l->answer, text.p, text.n);
    l->n_answer = (uint8_t)text.n;
    l->is_suback = is_suback;
}

void mlink_hold_answer(struct mlink *l)
{
    l->is_holding = true;
}

void mlink_release_answer(struct mlink *l)
{
    if (!l->is_holding) {
        return;
    }
    l->is_holding = false;
    if (l->state == ML_CLOSED) {
        return;
    }
    stream_write(l->s, span_of(l->answer, l->n_answer));
    tell_subscribed(l, l->is_suback);
    mlink_update_reading(l);
}

bool mlink_is_full(const struct mlink *l)
{
    return stream_is_full(l->s);
}

/* --- as a handler of its stream --------------------------------------------------------------- */

static void on_stream_drained(struct stream *s, void *arg)
{
    struct mlink *l = arg;
    (void)s;
    if (l->state == ML_READY && l->h->on_drained != NULL) {
        l->h->on_drained(l, l->arg);
    }
}

static const struct stream_handler mlink_stream_handler = {
    .name = "mqtt",
    .on_bytes = mlink_on_bytes,
    .on_drained = on_stream_drained,
    .on_close = on_stream_close,
};

/* --- time ------------------------------------------------------------------------------------ */

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* 0: none. */
static uint64_t deadline(const struct mlink *l)
{
    uint64_t at = l->end_ms;
    if (l->state == ML_READY) {
        at = earliest(at, l->last_in_ms + l->keep_alive_ms);
        at = earliest(at, l->idle_ms != 0 ? l->last_in_ms + l->idle_ms : 0);
    }
    return at;
}

/* Packets only note the time; the timer, when it runs, finds out whether it was too early. */
static void arm(struct mlink *l)
{
    struct loop *loop = l->s->loop;
    uint64_t at = deadline(l), now = loop_now_ms(loop);
    if (at != 0 && (!timer_is_set(&l->timer) || at < l->timer.due_ms)) {
        timer_set(loop, &l->timer, at > now ? at - now : 0, on_timer);
    }
}

static void on_timer(struct timer *t)
{
    struct mlink *l = CONTAINER_OF(t, struct mlink, timer);
    uint64_t now = loop_now_ms(l->s->loop);
    if (l->is_stopped) {
        l->last_in_ms = now; /* it cannot be heard: that is no silence of its own */
    }
    if (deadline(l) > now) {
        arm(l);
        return;
    }
    if (l->draining) {
        mlink_close(l, E_DRAINING, "shutting down");
    } else if (l->state == ML_READY) {
        bool is_idle = l->idle_ms != 0 && now >= l->last_in_ms + l->idle_ms;
        mlink_close(l, E_TIMEOUT, is_idle ? "idle" : "keep-alive");
    } else {
        mlink_close(l, E_TIMEOUT, "no CONNECT in time");
    }
}

void mlink_set_idle(struct mlink *l, uint64_t idle_ms)
{
    l->idle_ms = (uint32_t)MIN(idle_ms, UINT32_MAX);
    if (l->state == ML_READY) {
        arm(l);
    }
}

void mlink_drain(struct mlink *l, uint64_t timeout_ms)
{
    if (l->state != ML_READY) {
        mlink_close(l, E_DRAINING, "shutting down");
        return;
    }
    l->draining = true;
    l->end_ms = loop_now_ms(l->s->loop) + timeout_ms;
    arm(l);
    mlink_update_reading(l);
    loop_defer(l->s->loop, &l->flush, on_flush); /* on_close never comes inside this call */
}

/* --- the endpoint's side --------------------------------------------------------------------- */

enum err mlink_new(struct stream *s, const struct mlink_handler *h, void *arg, struct mlink **ret)
{
    struct mlink *l = NEW(struct mlink);
    if (l == NULL) {
        return E_NOMEM;
    }
    l->s = s;
    l->h = h;
    l->arg = arg;
    l->state = ML_WAIT_CONNECT;
    l->end_ms = loop_now_ms(s->loop) + LIMIT_MQTT_CONNECT_S * 1000u;
    stream_handle(s, &mlink_stream_handler, l);
    s->want = LIMIT_CONN_IN;
    arm(l);
    *ret = l;
    return OK;
}

void mlink_set_arg(struct mlink *l, void *arg)
{
    l->arg = arg;
}

struct stream *mlink_stream(struct mlink *l)
{
    return l->s;
}

struct loop *mlink_loop(struct mlink *l)
{
    return l->s->loop;
}

void mlink_connack(struct mlink *l, uint8_t code, bool session_present)
{
    if (l->state == ML_CLOSED) {
        return;
    }
    ASSERT(l->state == ML_ADMITTING);
    struct packet p;
    mqtt_connack_write(packet_init(&p, PACKET_SMALL), code == 0 && session_present, code);
    packet_send(l, &p);
    if (code != 0) {
        struct err_info info = {.err = E_CLOSED};
        (void)err_set(&info, E_CLOSED, "CONNECT refused with code %u", code);
        mlink_close_with(l, E_CLOSED, &info);
        return;
    }
    l->state = ML_READY;
    l->end_ms = 0;
    l->last_in_ms = loop_now_ms(l->s->loop);
    arm(l);
    stream_again(l->s); /* what came behind the CONNECT */
}

void mlink_connack_v5_refuse(struct mlink *l)
{
    if (l->state == ML_CLOSED) {
        return;
    }
    struct packet p;
    mqtt_connack_v5_write(packet_init(&p, PACKET_SMALL), MQTT5_UNSUPPORTED_VERSION);
    packet_send(l, &p);
    mlink_close(l, E_CLOSED, "MQTT 5 is not offered");
}

/* A packet id that is not in flight; it is from now on. */
static enum err take_id(struct mlink *l, uint16_t *ret)
{
    if (l->n_in_flight == LIMIT_MQTT_INFLIGHT_OUT) {
        return E_QUEUE_FULL;
    }
    bool is_taken;
    do {
        l->next_id = l->next_id == UINT16_MAX ? 1 : (uint16_t)(l->next_id + 1);
        is_taken = false;
        for (unsigned i = 0; i < l->n_in_flight; i++) {
            is_taken = is_taken || l->in_flight[i] == l->next_id;
        }
    } while (is_taken);
    l->in_flight[l->n_in_flight++] = l->next_id;
    *ret = l->next_id;
    return OK;
}

static enum err publish(struct mlink *l, mlink_slot slot, struct mqtt_publish *m)
{
    if (l->state != ML_READY) {
        return E_CLOSED;
    }
    enum err e = OK;
    if (m->qos != 0 && (e = take_id(l, &m->packet_id)) != OK) {
        return e;
    }
    struct packet p;
    mqtt_publish_write(packet_init(&p, MQTT_HEAD_MAX + 4 + m->topic.n + m->payload.n), m);
    e = buf_err(&p.b);
    if (e == OK && slot != MLINK_NO_SLOT) {
        e = ack_ring_hold(&l->ring, slot, buf_span(&p.b));
    }
    if ((e == OK && slot == MLINK_NO_SLOT) || e == E_NOT_FOUND) {
        stream_write(l->s, buf_span(&p.b));
        e = OK;
    }
    packet_done(&p);
    if (e != OK && m->qos != 0) {
        l->n_in_flight--;
    }
    return e;
}

enum err mlink_publish(struct mlink *l, struct span topic, struct span payload, uint8_t qos,
                       bool dup, uint16_t *ret_packet_id)
{
    struct mqtt_publish m = {.topic = topic, .payload = payload, .qos = qos, .dup = dup};
    enum err e = publish(l, MLINK_NO_SLOT, &m);
    if (e == OK && ret_packet_id != NULL) {
        *ret_packet_id = m.packet_id;
    }
    return e;
}

enum err mlink_publish_after(struct mlink *l, mlink_slot slot, struct span topic,
                             struct span payload, uint8_t qos)
{
    struct mqtt_publish m = {.topic = topic, .payload = payload, .qos = qos};
    return publish(l, slot, &m);
}
