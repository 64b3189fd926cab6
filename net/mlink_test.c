/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mlink.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/ack_ring.h"
#include "net/net_fixture.h"

static struct fake_clock fake;
static struct loop *l;

/* --- an endpoint that notes, and the device's end ------------------------------------------- */

#define PENDING 4096
static struct {
    struct mlink *m;
    int connects, publishes, subscribed, pubacks, drained, closed;
    bool is_clean;
    enum err why;
    char reason[320];
    uint8_t connack; /* answered inside on_connect; 0xff: later */
    bool in_call;    /* on_close must not come */
    mlink_slot slots[PENDING];
    size_t n_slots;
    bool ack_at_once;
    enum err publish_result;
    uint16_t last_puback;
    char last_filter[64];
    bool close_in_publish;
    bool any_id;
    bool holds; /* answers to SUBSCRIBE and UNSUBSCRIBE */
    int again;  /* so many PUBLISHes are not taken */
} ep;

static struct note dev; /* the device's stream */

static void on_connect(struct mlink *m, void *arg, const struct mqtt_connect *c)
{
    assert_ptr_equal(arg, &ep);
    ep.connects++;
    if (!ep.any_id) { /* level 5 is not read */
        assert_span(c->client_id, SPAN_LIT("dev1"));
    }
    if (ep.connack != 0xff) {
        mlink_connack(m, ep.connack, true);
    }
}

static enum err on_publish(struct mlink *m, void *arg, const struct mqtt_publish *p,
                           mlink_slot slot, struct err_info *info)
{
    (void)arg;
    assert_int_equal(slot == MLINK_NO_SLOT, p->qos == 0);
    ep.publishes++;
    if (slot != MLINK_NO_SLOT) {
        assert_true(ep.n_slots < PENDING);
        ep.slots[ep.n_slots++] = slot;
    }
    if (ep.again > 0) {
        ep.again--;
        mlink_pause(m, true);
        return E_AGAIN;
    }
    if (ep.ack_at_once) {
        mlink_ack(m, slot);
    }
    if (ep.close_in_publish) {
        mlink_close(m, E_FENCED, "taken over");
        assert_span(p->payload, SPAN_LIT("x")); /* still there */
    }
    return ep.publish_result != OK ? err_set(info, ep.publish_result, "no such topic") : OK;
}

static enum err on_subscribe(struct mlink *m, void *arg, struct span filter, uint8_t qos,
                             uint8_t *ret_code, struct err_info *info)
{
    (void)arg;
    if (ep.holds) {
        mlink_hold_answer(m);
    }
    if (span_is(filter, "bad/#")) {
        return err_set(info, E_CLOSED, "filter");
    }
    if (span_is(filter, "worse/#")) {
        return err_set(info, E_ARG, "filter");
    }
    *ret_code = MIN(qos, 1);
    return OK;
}

static void on_subscribed(struct mlink *m, void *arg)
{
    (void)arg;
    ep.subscribed++;
    assert_ok(mlink_publish(m, SPAN_LIT("waiting"), SPAN_LIT("!"), 0, false, NULL));
}

static void on_unsubscribe(struct mlink *m, void *arg, struct span filter)
{
    (void)arg;
    if (ep.holds) {
        mlink_hold_answer(m);
    }
    assert_true(span_to_cstr(filter, ep.last_filter, sizeof(ep.last_filter)));
}

static void on_puback(struct mlink *m, void *arg, uint16_t packet_id)
{
    (void)m;
    (void)arg;
    ep.pubacks++;
    ep.last_puback = packet_id;
}

static void on_drained(struct mlink *m, void *arg)
{
    (void)m;
    (void)arg;
    ep.drained++;
}

static void on_close(struct mlink *m, void *arg, bool is_clean, enum err why,
                     const struct err_info *info)
{
    assert_ptr_equal(arg, &ep);
    assert_ptr_equal(m, ep.m);
    assert_false(ep.in_call);
    ep.closed++;
    ep.is_clean = is_clean;
    ep.why = why;
    if (info != NULL) {
        memcpy(ep.reason, info->why, sizeof(ep.reason));
    }
}

static const struct mlink_handler handler = {
    .on_connect = on_connect,
    .on_publish = on_publish,
    .on_subscribe = on_subscribe,
    .on_subscribed = on_subscribed,
    .on_unsubscribe = on_unsubscribe,
    .on_puback = on_puback,
    .on_drained = on_drained,
    .on_close = on_close,
};

static int setup(void **state)
{
    (void)state;
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    memset(&ep, 0, sizeof(ep));
    int fd[2];
    struct conn *a, *b;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_ok(conn_adopt(l, fd[0], NULL, true, NULL, NULL, &a));
    assert_ok(conn_adopt(l, fd[1], NULL, false, NULL, NULL, &b));
    assert_ok(mlink_new(conn_stream(a), &handler, NULL, &ep.m));
    mlink_set_arg(ep.m, &ep);
    note_init(&dev, conn_stream(b));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (dev.closed == 0) {
        stream_abort(dev.s, E_CLOSED);
    }
    STEP_UNTIL(l, ep.closed > 0 && dev.closed > 0);
    fake.ms += 60000;
    settle(l);
    assert_int_equal(ep.closed, 1);
    note_done(&dev);
    loop_free(l);
    return 0;
}

static void say(struct span b)
{
    stream_write(dev.s, b);
    settle(l);
}
#define SAY(s) say(SPAN_LIT(s))

#define CONNECT60 "\x10\x10\0\4MQTT\4\2\0\x3c\0\4dev1"
#define CONNACK "\x20\2\1\0"

static void expect(struct span want)
{
    settle(l);
    assert_span(buf_span(&dev.in), want);
    buf_reset(&dev.in);
}
#define EXPECT(s) expect(SPAN_LIT(s))

static void connect_ok(void)
{
    SAY(CONNECT60);
    EXPECT(CONNACK);
}

static void expect_closed(enum err why)
{
    STEP_UNTIL(l, ep.closed == 1);
    assert_err(ep.why, why);
}

static void say_publish(uint16_t id, uint8_t qos)
{
    struct buf b = BUF_INIT(64);
    mqtt_publish_write(
        &b, &(struct mqtt_publish){
                .topic = SPAN_LIT("t"), .payload = SPAN_LIT("x"), .packet_id = id, .qos = qos});
    stream_write(dev.s, buf_span(&b));
    buf_done(&b);
}

/* --- CONNECT --------------------------------------------------------------------------------- */

static void connect_answered_at_once(void **state)
{
    (void)state;
    connect_ok();
    assert_ptr_equal(mlink_loop(ep.m), l);
    SAY("\xc0\0");
    EXPECT("\xd0\0");
    SAY("\xe0\0");
    expect_closed(OK);
    assert_true(ep.is_clean);
}

static void packets_wait_while_admitting(void **state)
{
    (void)state;
    ep.connack = 0xff;
    SAY(CONNECT60 "\xc0\0"
                  "\x30\4\0\1tx");
    assert_int_equal(ep.connects, 1);
    assert_int_equal(ep.publishes, 0);
    EXPECT("");
    mlink_connack(ep.m, 0, false);
    EXPECT("\x20\2\0\0"
           "\xd0\0");
    assert_int_equal(ep.publishes, 1);
}

static void refusal_leaves_before_the_end(void **state)
{
    (void)state;
    ep.connack = 5;
    SAY(CONNECT60 "\xc0\0");
    EXPECT("\x20\2\0\5"); /* session present only with 0 */
    assert_int_equal(dev.closed, 1);
    assert_err(dev.why, OK);
    expect_closed(E_CLOSED);
    assert_string_equal(ep.reason, "CONNECT refused with code 5");
}

static void v5_is_refused_in_its_own_form(void **state)
{
    (void)state;
    ep.any_id = true;
    ep.connack = 0xff;
    SAY("\x10\x11\0\4MQTT\5\2\0\x3c\0\0\4dev1");
    assert_int_equal(ep.connects, 1);
    mlink_connack_v5_refuse(ep.m);
    EXPECT("\x20\3\0\x84\0");
    expect_closed(E_CLOSED);
}

static void connect_deadline(void **state)
{
    (void)state;
    static const char connect[] = CONNECT60;
    for (size_t i = 0; i < 10; i++) { /* a byte does not renew it */
        say(span_of(connect + i, 1));
        fake.ms += LIMIT_MQTT_CONNECT_S * 100u - 1;
        settle(l);
        assert_int_equal(ep.closed, 0);
    }
    fake.ms += 10;
    settle(l);
    expect_closed(E_TIMEOUT);
    assert_int_equal(ep.connects, 0);
}

static void admitting_is_bounded(void **state)
{
    (void)state;
    ep.connack = 0xff;
    SAY(CONNECT60);
    fake.ms += LIMIT_MQTT_CONNECT_S * 1000u;
    settle(l);
    expect_closed(E_TIMEOUT);
}

/* --- violations ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    bool connected;
    struct span bytes;
    enum err why;
} violations[] = {
    {"PINGREQ before CONNECT", false, SPAN_LIT("\xc0\0"), E_MALFORMED},
    {"PUBLISH before CONNECT", false, SPAN_LIT("\x30\4\0\1tx"), E_MALFORMED},
    {"CONNECT too large", false, SPAN_LIT("\x10\xff\xff\x01"), E_TOO_LARGE},
    {"CONNECT with the reserved flag", false, SPAN_LIT("\x10\x10\0\4MQTT\4\3\0\x3c\0\4dev1"),
     E_MALFORMED},
    {"CONNECT cut inside", false, SPAN_LIT("\x10\x0d\0\4MQTT\4\2\0\x3c\0\4d"), E_MALFORMED},
    {"HTTP", false, SPAN_LIT("GET / HTTP/1.1\r\n\r\n"), E_MALFORMED},
    {"second CONNECT", true, SPAN_LIT(CONNECT60), E_MALFORMED},
    {"QoS 2", true, SPAN_LIT("\x34\6\0\1t\0\1x"), E_UNSUPPORTED},
    {"QoS 3", true, SPAN_LIT("\x36\6\0\1t\0\1x"), E_MALFORMED},
    {"PUBREL", true, SPAN_LIT("\x62\2\0\1"), E_MALFORMED},
    {"CONNACK from a client", true, SPAN_LIT("\x20\2\0\0"), E_MALFORMED},
    {"SUBACK from a client", true, SPAN_LIT("\x90\3\0\1\0"), E_MALFORMED},
    {"type 0", true, SPAN_LIT("\x00\0"), E_MALFORMED},
    {"type 15", true, SPAN_LIT("\xf0\0"), E_MALFORMED},
    {"wildcard in a topic name", true, SPAN_LIT("\x30\4\0\1#x"), E_MALFORMED},
    {"packet id 0", true, SPAN_LIT("\x32\6\0\1t\0\0x"), E_MALFORMED},
    {"packet too large", true, SPAN_LIT("\x30\x80\x80\x21"), E_TOO_LARGE},
    {"length of five bytes", true, SPAN_LIT("\x30\xff\xff\xff\xff\x01"), E_MALFORMED},
    {"PINGREQ with a body", true, SPAN_LIT("\xc0\1x"), E_MALFORMED},
    {"eleven filters", true,
     SPAN_LIT(
         "\x82\x2e\0\1\0\1a\0\0\1a\0\0\1a\0\0\1a\0\0\1a\0\0\1a\0\0\1a\0\0\1a\0\0\1a\0\0\1a\0\0\1a"
         "\0"),
     E_LIMIT},
};

static void violations_close(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(violations); i++) {
        if (i > 0) {
            assert_int_equal(setup(state), 0);
        }
        if (violations[i].connected) {
            connect_ok();
        }
        say(violations[i].bytes);
        if (ep.closed != 1 || ep.why != violations[i].why) {
            print_message("%s: %s\n", violations[i].name, err_name(ep.why));
        }
        expect_closed(violations[i].why);
        assert_true(ep.reason[0] != '\0');
        assert_false(ep.is_clean);
        assert_int_equal(dev.in.n, 0);
        if (i + 1 < ARRAY_LEN(violations)) {
            assert_int_equal(teardown(state), 0);
        }
    }
}

static void endpoint_error_closes(void **state)
{
    (void)state;
    connect_ok();
    ep.publish_result = E_NO_ROUTE;
    say_publish(1, 1);
    say_publish(2, 1);
    settle(l);
    expect_closed(E_NO_ROUTE);
    assert_string_equal(ep.reason, "no such topic");
    assert_int_equal(ep.publishes, 1); /* what comes behind is not looked at */
}

static void peer_gone_without_disconnect(void **state)
{
    (void)state;
    connect_ok();
    stream_close(dev.s);
    expect_closed(E_CLOSED);
    assert_false(ep.is_clean);
}

/* --- SUBSCRIBE ------------------------------------------------------------------------------- */

static void subscribe_answers_each_filter_in_order(void **state)
{
    (void)state;
    connect_ok();
    SAY("\x82\x0e\0\7\0\1a\1\0\1b\0\0\1c\2");
    EXPECT("\x90\5\0\7\1\0\1"
           "\x30\x0a\0\7waiting!"); /* what waited comes after the SUBACK */
    assert_int_equal(ep.subscribed, 1);
    SAY("\xa2\x05\0\x08\0\1b");
    EXPECT("\xb0\2\0\x08");
    assert_string_equal(ep.last_filter, "b");
}

/* The answer waits for the endpoint, and so does everything behind it. */
static void subscribe_answer_is_held(void **state)
{
    (void)state;
    connect_ok();
    ep.holds = true;
    SAY("\x82\x06\0\7\0\1a\1"
        "\xc0\0");
    EXPECT("");
    assert_int_equal(ep.subscribed, 0);
    fake.ms += 100000; /* the silence is ours */
    settle(l);
    mlink_release_answer(ep.m);
    EXPECT("\x90\3\0\7\1"
           "\x30\x0a\0\7waiting!"
           "\xd0\0");
    SAY("\xa2\x05\0\x08\0\1b"
        "\xc0\0");
    EXPECT("");
    mlink_release_answer(ep.m);
    EXPECT("\xb0\2\0\x08"
           "\xd0\0");
    mlink_release_answer(ep.m);            /* nothing waits */
    SAY("\x82\x0e\0\7\0\1a\1\0\5bad/#\0"); /* an error of the second does not wait for the first */
    EXPECT("\x90\4\0\7\1\x80");
    expect_closed(E_CLOSED);
}

/* Not taken now: it comes again, whole, behind the end of the pause, and its PUBACK once. */
static void publish_comes_again(void **state)
{
    (void)state;
    connect_ok();
    ep.again = 2;
    ep.ack_at_once = true;
    for (uint16_t id = 1; id <= 3; id++) {
        say_publish(id == 2 ? 0 : id, id == 2 ? 0 : 1);
        settle(l);
    }
    EXPECT("");
    assert_int_equal(ep.publishes, 1);
    mlink_pause(ep.m, false);
    EXPECT("");
    assert_int_equal(ep.publishes, 2);
    mlink_pause(ep.m, false);
    EXPECT("\x40\2\0\1\x40\2\0\3");
    assert_int_equal(ep.publishes, 5);
}

static void bad_filter_gets_its_code_then_the_end(void **state)
{
    (void)state;
    connect_ok();
    SAY("\x82\x12\0\7\0\1a\1\0\5bad/#\0\0\1c\1");
    EXPECT("\x90\5\0\7\1\x80\x80");
    expect_closed(E_CLOSED);
    assert_int_equal(ep.subscribed, 0);
}

static void worse_filter_gets_no_answer(void **state)
{
    (void)state;
    connect_ok();
    SAY("\x82\x0c\0\7\0\7worse/#\0");
    EXPECT("");
    expect_closed(E_ARG);
}

/* --- acknowledgements ------------------------------------------------------------------------ */

#define PIPELINED 1000
static void pipelined_publishes_are_acked_in_order(void **state)
{
    (void)state;
    connect_ok();
    for (unsigned i = 0; i < PIPELINED; i++) {
        say_publish((uint16_t)(i + 1), 1);
    }
    STEP_UNTIL(l, ep.n_slots == PIPELINED);
    /* Every seventh, then the rest from the back: the first comes last. */
    for (size_t i = 7; i < PIPELINED; i += 7) {
        mlink_ack(ep.m, ep.slots[i]);
    }
    settle(l);
    assert_int_equal(dev.in.n, 0);
    for (size_t i = PIPELINED; i-- > 1;) {
        mlink_ack(ep.m, ep.slots[i]);
        mlink_ack(ep.m, ep.slots[i]); /* twice is once */
    }
    settle(l);
    assert_int_equal(dev.in.n, 0);
    int calls = dev.calls;
    mlink_ack(ep.m, ep.slots[0]);
    STEP_UNTIL(l, dev.in.n == 4 * PIPELINED);
    assert_int_equal(dev.calls, calls + 1); /* one write */
    for (unsigned i = 0; i < PIPELINED; i++) {
        const uint8_t want[4] = {0x40, 2, (uint8_t)((i + 1) >> 8), (uint8_t)(i + 1)};
        assert_memory_equal(dev.in.p + 4 * i, want, 4);
    }
    mlink_ack(ep.m, ep.slots[0]); /* long gone */
    settle(l);
    assert_int_equal(dev.in.n, 4 * PIPELINED);
}

static void full_ring_stops_reading(void **state)
{
    (void)state;
    connect_ok();
    for (unsigned i = 0; i < 2 * LIMIT_MQTT_RING; i++) {
        say_publish((uint16_t)(i + 1), 1);
    }
    settle(l);
    assert_int_equal(ep.n_slots, LIMIT_MQTT_RING);
    mlink_ack(ep.m, ep.slots[1]); /* not the oldest: no room */
    settle(l);
    assert_int_equal(ep.n_slots, LIMIT_MQTT_RING);
    mlink_ack(ep.m, ep.slots[0]);
    settle(l);
    assert_int_equal(ep.n_slots, LIMIT_MQTT_RING + 2);
    fake.ms += 10 * 60000; /* who is not listened to is not silent */
    settle(l);
    assert_int_equal(ep.closed, 0);
    for (size_t i = 2; ep.n_slots < 2 * LIMIT_MQTT_RING || i < ep.n_slots; i++) {
        mlink_ack(ep.m, ep.slots[i]);
        loop_turn(l, 0);
    }
    STEP_UNTIL(l, dev.in.n == 8 * LIMIT_MQTT_RING);
}

static void answers_wait_for_their_puback(void **state)
{
    (void)state;
    connect_ok();
    say_publish(1, 1);
    say_publish(2, 1);
    settle(l);
    struct mlink *m = ep.m;
    assert_ok(mlink_publish_after(m, ep.slots[1], SPAN_LIT("b"), SPAN_LIT("2"), 0));
    assert_ok(mlink_publish_after(m, ep.slots[0], SPAN_LIT("a"), SPAN_LIT("1"), 0));
    assert_ok(mlink_publish_after(m, ep.slots[1], SPAN_LIT("c"), SPAN_LIT("3"), 1));
    assert_ok(mlink_publish_after(m, MLINK_NO_SLOT, SPAN_LIT("n"), SPAN_LIT("0"), 0));
    mlink_ack(m, ep.slots[1]);
    EXPECT("\x30\4\0\1n0");
    mlink_ack(m, ep.slots[0]);
    EXPECT("\x40\2\0\1"
           "\x30\4\0\1a1"
           "\x40\2\0\2"
           "\x30\4\0\1b2"
           "\x32\6\0\1c\0\1"
           "3");
    assert_ok(mlink_publish_after(m, ep.slots[0], SPAN_LIT("l"), SPAN_LIT("4"), 0)); /* it is out */
    EXPECT("\x30\4\0\1l4");
    say_publish(3, 1);
    settle(l);
    mlink_ack(m, ep.slots[2]); /* acknowledged, not yet written */
    assert_ok(mlink_publish_after(m, ep.slots[2], SPAN_LIT("d"), SPAN_LIT("5"), 0));
    EXPECT("\x40\2\0\3"
           "\x30\4\0\1d5");
}

static void held_answers_are_bounded(void **state)
{
    (void)state;
    connect_ok();
    say_publish(1, 1);
    settle(l);
    AUTO(mem_free_p) uint8_t *big = calloc(1, 1u << 20);
    assert_non_null(big);
    struct span payload = span_of(big, 1u << 20);
    for (int i = 0; i < 3; i++) {
        assert_ok(mlink_publish_after(ep.m, ep.slots[0], SPAN_LIT("t"), payload, 0));
    }
    for (unsigned i = 0; i < 2 * LIMIT_MQTT_INFLIGHT_OUT; i++) {
        assert_err(mlink_publish_after(ep.m, ep.slots[0], SPAN_LIT("t"), payload, 1), E_QUEUE_FULL);
    }
    assert_ok(
        mlink_publish(ep.m, SPAN_LIT("t"), SPAN_LIT("x"), 1, false, NULL)); /* no id was lost */
    mlink_close(ep.m, E_CLOSED, NULL); /* and are freed with the link */
    assert_err(mlink_publish(ep.m, SPAN_LIT("t"), payload, 0, false, NULL), E_CLOSED);
}

static void acks_leave_before_a_close(void **state)
{
    (void)state;
    connect_ok();
    say_publish(9, 1);
    settle(l);
    ep.in_call = true;
    mlink_ack(ep.m, ep.slots[0]);
    mlink_close(ep.m, E_FENCED, "taken over");
    mlink_close(ep.m, E_TIMEOUT, "again");
    mlink_ack(ep.m, ep.slots[0]);
    ep.in_call = false;
    assert_int_equal(ep.closed, 0);
    EXPECT("\x40\2\0\x09");
    expect_closed(E_FENCED);
    assert_string_equal(ep.reason, "taken over");
}

static void takeover_inside_a_handler(void **state)
{
    (void)state;
    connect_ok();
    ep.close_in_publish = true;
    say_publish(1, 1);
    say_publish(2, 1);
    settle(l);
    expect_closed(E_FENCED);
    assert_int_equal(ep.publishes, 1);
}

static void ring_wraps_its_numbers(void **state)
{
    (void)state;
    struct ack_ring r = {.first = ACK_SLOT_MASK - 20};
    uint32_t slot[40];
    uint16_t id;
    struct ack_held *held;
    for (unsigned i = 0; i < 40; i++) {
        assert_ok(ack_ring_push(&r, (uint16_t)(i + 1), &slot[i]));
        assert_true(slot[i] != MLINK_NO_SLOT);
        assert_ok(ack_ring_hold(&r, slot[i], SPAN_LIT("x")));
    }
    for (unsigned i = 40; i-- > 0;) {
        assert_false(ack_ring_pop(&r, &id, &held));
        ack_ring_ack(&r, slot[i]);
    }
    for (unsigned i = 0; i < 40; i++) {
        assert_true(ack_ring_pop(&r, &id, &held));
        assert_int_equal(id, i + 1);
        ack_held_pop(&held);
        assert_null(held);
        assert_err(ack_ring_hold(&r, slot[i], SPAN_LIT("x")), E_NOT_FOUND);
    }
    assert_null(r.slots); /* nothing is held when nothing waits */
    assert_int_equal(r.held_bytes, 0);
    ack_ring_done(&r);
}

/* --- our own PUBLISHes ----------------------------------------------------------------------- */

static void in_flight_is_bounded_and_ids_are_free(void **state)
{
    (void)state;
    uint16_t ids[LIMIT_MQTT_INFLIGHT_OUT], id = 77;
    connect_ok();
    for (unsigned i = 0; i < LIMIT_MQTT_INFLIGHT_OUT; i++) {
        assert_ok(mlink_publish(ep.m, SPAN_LIT("t"), SPAN_LIT("x"), 1, i == 3, &ids[i]));
        assert_int_equal(ids[i], i + 1);
    }
    assert_err(mlink_publish(ep.m, SPAN_LIT("t"), SPAN_LIT("x"), 1, false, &id), E_QUEUE_FULL);
    assert_int_equal(id, 77);
    assert_ok(mlink_publish(ep.m, SPAN_LIT("t"), SPAN_LIT("x"), 0, false, NULL));
    settle(l);
    assert_int_equal(dev.in.p[3 * 8], 0x3a); /* DUP, QoS 1 */
    SAY("\x40\2\0\5"
        "\x40\2\0\5"
        "\x40\2\x03\xe8"); /* once, again, unknown */
    assert_int_equal(ep.pubacks, 1);
    assert_int_equal(ep.last_puback, 5);
    /* All numbers are gone through before one comes again, and none that is out. */
    for (unsigned i = 0; i < 70000; i++) {
        assert_ok(mlink_publish(ep.m, SPAN_LIT("t"), SPAN_LIT("x"), 1, false, &id));
        assert_true(id == 5 || id > LIMIT_MQTT_INFLIGHT_OUT);
        const uint8_t ack[4] = {0x40, 2, (uint8_t)(id >> 8), (uint8_t)id};
        stream_write(dev.s, span_of(ack, 4));
        for (int n = ep.pubacks; ep.pubacks == n;) {
            loop_turn(l, 5);
        }
        buf_reset(&dev.in);
    }
}

static void large_packets_both_ways(void **state)
{
    (void)state;
    connect_ok();
    AUTO(buf_done) struct buf b = BUF_INIT(1u << 20);
    AUTO(mem_free_p) uint8_t *big = calloc(1, 256u << 10);
    assert_non_null(big);
    struct mqtt_publish p = {
        .topic = SPAN_LIT("t"), .payload = span_of(big, 256u << 10), .packet_id = 4, .qos = 1};
    mqtt_publish_write(&b, &p);
    ep.ack_at_once = true;
    for (int i = 0; i < 3; i++) {
        stream_write(dev.s, buf_span(&b));
        STEP_UNTIL(l, dev.in.n == 4);
        EXPECT("\x40\2\0\4");
    }
    assert_ok(mlink_publish(ep.m, p.topic, p.payload, 0, false, NULL));
    STEP_UNTIL(l, dev.in.n == (256u << 10) + 1 + 3 + 3);
}

static void slow_reader_is_bounded(void **state)
{
    (void)state;
    connect_ok();
    AUTO(mem_free_p) uint8_t *big = calloc(1, 64u << 10);
    assert_non_null(big);
    dev.eat = 0;
    size_t sent = 0;
    while (!mlink_is_full(ep.m)) {
        assert_ok(mlink_publish(ep.m, SPAN_LIT("t"), span_of(big, 64u << 10), 0, false, NULL));
        sent++;
        settle(l);
        assert_true(sent < 100);
    }
    assert_int_equal(ep.drained, 0);
    dev.eat = SIZE_MAX;
    stream_again(dev.s);
    STEP_UNTIL(l, ep.drained == 1);
    dev.eat = 0;
    for (int i = 0; i < 200 && ep.closed == 0; i++) { /* an endpoint that does not ask */
        (void)!mlink_publish(ep.m, SPAN_LIT("t"), span_of(big, 64u << 10), 0, false, NULL);
        loop_turn(l, 0);
    }
    expect_closed(E_TOO_LARGE);
    dev.eat = SIZE_MAX;
    stream_again(dev.s);
}

static void pause_holds_packets(void **state)
{
    (void)state;
    connect_ok();
    mlink_pause(ep.m, true);
    say_publish(1, 1);
    settle(l);
    assert_int_equal(ep.publishes, 0);
    fake.ms += 100000;
    settle(l);
    assert_int_equal(ep.closed, 0);
    mlink_pause(ep.m, false);
    settle(l);
    assert_int_equal(ep.publishes, 1);
}

/* --- time ------------------------------------------------------------------------------------ */

static void keep_alive_is_one_and_a_half(void **state)
{
    (void)state;
    connect_ok(); /* 60 s */
    for (int i = 0; i < 5; i++) {
        fake.ms += 89999;
        settle(l);
        assert_int_equal(ep.closed, 0);
        SAY("\xc0\0"); /* any packet will do */
        EXPECT("\xd0\0");
    }
    fake.ms += 89000;
    say(SPAN_LIT("\x30")); /* part of one will not */
    fake.ms += 999;
    settle(l);
    assert_int_equal(ep.closed, 0);
    fake.ms += 1;
    settle(l);
    expect_closed(E_TIMEOUT);
    assert_string_equal(ep.reason, "keep-alive");
    assert_false(ep.is_clean);
}

/* hub-mqtt:M13 */
static void keep_alive_has_a_cap(void **state)
{
    static const char *const connects[] = {"\0\0", "\xff\xff"};
    for (size_t i = 0; i < ARRAY_LEN(connects); i++) {
        if (i > 0) {
            assert_int_equal(setup(state), 0);
        }
        char c[] = CONNECT60;
        memcpy(c + 10, connects[i], 2);
        say(span_of(c, sizeof(c) - 1));
        EXPECT(CONNACK);
        fake.ms += LIMIT_MQTT_KEEPALIVE_S * 1000u - 1;
        settle(l);
        assert_int_equal(ep.closed, 0);
        fake.ms += 1;
        settle(l);
        expect_closed(E_TIMEOUT);
        if (i == 0) {
            assert_int_equal(teardown(state), 0);
        }
    }
}

static void idle_links_end_early(void **state)
{
    (void)state;
    mlink_set_idle(ep.m, 10000);
    connect_ok();
    fake.ms += 9999;
    SAY("\xc0\0");
    fake.ms += 9999;
    settle(l);
    assert_int_equal(ep.closed, 0);
    fake.ms += 1;
    settle(l);
    expect_closed(E_TIMEOUT);
    assert_string_equal(ep.reason, "idle");
}

static void idle_can_be_set_and_ended_later(void **state)
{
    (void)state;
    connect_ok();
    mlink_set_idle(ep.m, 5000);
    mlink_set_idle(ep.m, 0);
    fake.ms += 89999;
    settle(l);
    assert_int_equal(ep.closed, 0);
    SAY("\xc0\0");
    mlink_set_idle(ep.m, 5000);
    fake.ms += 5000;
    settle(l);
    expect_closed(E_TIMEOUT);
}

static void drain_waits_for_acknowledgements(void **state)
{
    (void)state;
    connect_ok();
    say_publish(1, 1);
    settle(l);
    mlink_drain(ep.m, 5000);
    say_publish(2, 1); /* no new work */
    settle(l);
    assert_int_equal(ep.closed, 0);
    assert_int_equal(ep.publishes, 1);
    mlink_ack(ep.m, ep.slots[0]);
    EXPECT("\x40\2\0\1");
    expect_closed(E_DRAINING);
}

static void drain_waits_bounded(void **state)
{
    (void)state;
    connect_ok();
    say_publish(1, 1);
    settle(l);
    mlink_drain(ep.m, 5000);
    fake.ms += 4999;
    settle(l);
    assert_int_equal(ep.closed, 0);
    fake.ms += 1;
    settle(l);
    expect_closed(E_DRAINING);
}

static void drain_of_an_idle_link(void **state)
{
    (void)state;
    connect_ok();
    ep.in_call = true;
    mlink_drain(ep.m, 5000);
    ep.in_call = false;
    expect_closed(E_DRAINING);
}

static void drain_before_connect(void **state)
{
    (void)state;
    ep.in_call = true;
    mlink_drain(ep.m, 5000);
    ep.in_call = false;
    expect_closed(E_DRAINING);
}

/* Everything cut at every byte: the link sees the same packets. */
static void split_at_every_byte(void **state)
{
    static const char all[] = CONNECT60 "\x32\6\0\1t\0\1x"
                                        "\xc0\0"
                                        "\x82\6\0\7\0\1a\1"
                                        "\xe0\0";
    for (size_t cut = 1; cut < sizeof(all) - 1; cut++) {
        if (cut > 1) {
            assert_int_equal(setup(state), 0);
        }
        ep.ack_at_once = true;
        say(span_of(all, cut));
        say(span_of(all + cut, sizeof(all) - 1 - cut));
        expect_closed(OK);
        assert_int_equal(ep.publishes, 1);
        assert_int_equal(ep.subscribed, 1);
        assert_int_equal(dev.in.n, 4 + 4 + 2 + 5 + 12);
        if (cut + 1 < sizeof(all) - 1) {
            assert_int_equal(teardown(state), 0);
        }
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(connect_answered_at_once),
        T(packets_wait_while_admitting),
        T(refusal_leaves_before_the_end),
        T(v5_is_refused_in_its_own_form),
        T(connect_deadline),
        T(admitting_is_bounded),
        T(violations_close),
        T(endpoint_error_closes),
        T(peer_gone_without_disconnect),
        T(subscribe_answers_each_filter_in_order),
        T(subscribe_answer_is_held),
        T(publish_comes_again),
        T(bad_filter_gets_its_code_then_the_end),
        T(worse_filter_gets_no_answer),
        T(pipelined_publishes_are_acked_in_order),
        T(full_ring_stops_reading),
        T(answers_wait_for_their_puback),
        T(held_answers_are_bounded),
        T(acks_leave_before_a_close),
        T(takeover_inside_a_handler),
        T(ring_wraps_its_numbers),
        T(in_flight_is_bounded_and_ids_are_free),
        T(large_packets_both_ways),
        T(slow_reader_is_bounded),
        T(pause_holds_packets),
        T(keep_alive_is_one_and_a_half),
        T(keep_alive_has_a_cap),
        T(idle_links_end_early),
        T(idle_can_be_set_and_ended_later),
        T(drain_waits_for_acknowledgements),
        T(drain_waits_bounded),
        T(drain_of_an_idle_link),
        T(drain_before_connect),
        T(split_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
