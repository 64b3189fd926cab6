/* SPDX-License-Identifier: Apache-2.0 */
/* The client against raw bytes of a server, and against net/mlink. */
#include "client/mclient.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "net/mlink.h"
#include "net/net_fixture.h"

static struct fake_clock fake;
static struct loop *l;

static struct {
    struct mclient *c; /* NULL after on_close */
    int ready, subacks, pubacks, publishes, closed;
    bool present, in_call;
    enum err why;
    uint8_t connack;
    uint16_t last_puback, suback_id;
    uint8_t codes[8];
    size_t n_codes;
    char topic[64], payload[64];
    bool close_in_ready, close_in_publish;
} ep;

static struct note sv; /* the server's end, raw */

static void on_ready(struct mclient *c, void *arg, bool present)
{
    assert_ptr_equal(arg, &ep);
    ep.ready++;
    ep.present = present;
    if (ep.close_in_ready) {
        ep.in_call = true;
        mclient_close(c);
        ep.in_call = false;
    }
}

static void on_suback(struct mclient *c, void *arg, uint16_t id, struct span codes)
{
    (void)c;
    (void)arg;
    ep.subacks++;
    ep.suback_id = id;
    ep.n_codes = MIN(codes.n, sizeof(ep.codes));
    memcpy(ep.codes, codes.p, ep.n_codes);
}

static void on_puback(struct mclient *c, void *arg, uint16_t id)
{
    (void)c;
    (void)arg;
    ep.pubacks++;
    ep.last_puback = id;
}

static void on_publish(struct mclient *c, void *arg, const struct mqtt_publish *p)
{
    (void)arg;
    ep.publishes++;
    assert_true(span_to_cstr(p->topic, ep.topic, sizeof(ep.topic)));
    assert_true(span_to_cstr(p->payload, ep.payload, sizeof(ep.payload)));
    if (ep.close_in_publish) {
        mclient_close(c);
    }
}

static void on_close(struct mclient *c, void *arg, enum err why, uint8_t connack)
{
    assert_ptr_equal(arg, &ep);
    assert_ptr_equal(c, ep.c);
    assert_false(ep.in_call);
    ep.closed++;
    ep.why = why;
    ep.connack = connack;
    ep.c = NULL;
}

static const struct mclient_handler handler = {.on_ready = on_ready,
                                               .on_suback = on_suback,
                                               .on_puback = on_puback,
                                               .on_publish = on_publish,
                                               .on_close = on_close};

static const struct mqtt_connect hello = {
    .keep_alive_s = 60,
    .client_id = SPAN_LIT("dev1"),
    .has_username = true,
    .username = SPAN_LIT("user"),
    .has_password = true,
    .password = SPAN_LIT("secret"),
};

static void open_with(const struct mqtt_connect *cn)
{
    int fd[2];
    struct conn *ours, *theirs;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    assert_ok(conn_adopt(l, fd[0], NULL, false, NULL, NULL, &ours));
    assert_ok(conn_adopt(l, fd[1], NULL, true, NULL, NULL, &theirs));
    note_init(&sv, conn_stream(theirs));
    assert_ok(mclient_new(conn_stream(ours), cn, &handler, &ep, &ep.c));
}

static int setup(void **state)
{
    (void)state;
    memset(&ep, 0, sizeof(ep));
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    open_with(&hello);
    settle(l);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (ep.c != NULL) {
        mclient_close(ep.c);
    }
    settle(l);
    if (!sv.closed) {
        stream_abort(sv.s, E_CLOSED);
    }
    settle(l);
    assert_int_equal(ep.closed, 1); /* exactly once, in every test */
    note_done(&sv);
    loop_free(l);
    return 0;
}

static void serve(struct span bytes)
{
    stream_write(sv.s, bytes);
    settle(l);
}

#define SERVE(literal) serve(SPAN_LIT(literal))
#define CONNACK_0 "\x20\x02\x00\x00"

/* One packet that the client sent; drops it. */
static enum mqtt_type sent(struct span *ret_body)
{
    static uint8_t copy[1u << 16];
    uint8_t first;
    struct span body;
    size_t n;
    if (sv.in.n == 0) {
        return 0;
    }
    assert_ok(mqtt_frame_read(buf_span(&sv.in), LIMIT_MQTT_PACKET, &first, &body, &n));
    assert_true(body.n <= sizeof(copy));
    memcpy(copy, body.p, body.n);
    *ret_body = span_of(copy, body.n);
    buf_drop(&sv.in, n);
    return mqtt_type_of(first);
}

static void expect_sent(enum mqtt_type want)
{
    struct span body;
    assert_int_equal(sent(&body), want);
}

static void make_ready(void)
{
    expect_sent(MQTT_CONNECT);
    SERVE(CONNACK_0);
    assert_int_equal(ep.ready, 1);
}

/* --- CONNECT ------------------------------------------------------------------------------------- */

static void test_connect(void **state)
{
    (void)state;
    struct span body;
    struct mqtt_connect cn;
    assert_int_equal(sent(&body), MQTT_CONNECT);
    assert_ok(mqtt_connect_read(body, &cn, NULL));
    assert_true(cn.is_v311 && cn.has_username && cn.has_password && !cn.has_will);
    assert_span(cn.client_id, SPAN_LIT("dev1"));
    assert_span(cn.password, SPAN_LIT("secret"));
    assert_int_equal(cn.keep_alive_s, 60);
    SERVE("\x20\x02\x01\x00");
    assert_int_equal(ep.ready, 1);
    assert_true(ep.present);
}

static void test_connack_codes(void **state)
{
    (void)state;
    static const struct {
        char code;
        enum err want;
    } rows[] = {{1, E_VERSION}, {2, E_ID}, {3, E_BUSY}, {4, E_UNAUTHORIZED}, {5, E_UNAUTHORIZED}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char bytes[] = {0x20, 2, 0, rows[i].code};
        serve(span_of(bytes, sizeof(bytes)));
        assert_int_equal(ep.closed, 1);
        assert_err(ep.why, rows[i].want);
        assert_int_equal(ep.connack, rows[i].code);
        assert_int_equal(ep.ready, 0);
        assert_true(sv.closed);
        if (i + 1 < ARRAY_LEN(rows)) {
            note_done(&sv);
            memset(&ep, 0, sizeof(ep));
            open_with(&hello);
            settle(l);
        }
    }
}

static void test_no_connack(void **state)
{
    (void)state;
    fake.ms += 29999;
    settle(l);
    assert_int_equal(ep.closed, 0);
    fake.ms += 2;
    settle(l);
    assert_err(ep.why, E_TIMEOUT);
    assert_int_equal(ep.connack, MCLIENT_NO_CONNACK);
}

static void test_before_connack(void **state)
{
    (void)state;
    uint16_t id = 7;
    const struct mqtt_filter f = {SPAN_LIT("a"), 0};
    assert_err(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &id), E_STATE);
    assert_err(mclient_subscribe(ep.c, &f, 1, &id), E_STATE);
    assert_int_equal(id, 7);
    expect_sent(MQTT_CONNECT);
    assert_int_equal(sv.in.n, 0);
}

static void test_too_long(void **state)
{
    (void)state;
    static uint8_t big[70000];
    struct mqtt_connect cn = hello;
    struct mclient *c = NULL;
    struct pair p;
    pair_make(l, &p);
    cn.username = span_of(big, sizeof(big));
    assert_err(mclient_new(p.a.s, &cn, &handler, &ep, &c), E_TOO_LARGE);
    assert_null(c);
    stream_abort(p.a.s, E_CLOSED); /* still the caller's */
    settle(l);
    assert_int_equal(p.a.closed, 1);
    note_done(&p.a);
    note_done(&p.b);
}

/* --- what a server may not send -------------------------------------------------------------------- */

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool is_ready;
        struct span bytes;
    } rows[] = {
        {"PUBLISH before CONNACK", false, SPAN_LIT("\x30\x03\0\1t")},
        {"CONNACK with flags", false, SPAN_LIT("\x21\x02\0\0")},
        {"CONNACK too short", false, SPAN_LIT("\x20\x01\0")},
        {"CONNACK too long", false, SPAN_LIT("\x20\x03\0\0\0")},
        {"CONNACK acknowledge flags", false, SPAN_LIT("\x20\x02\2\0")},
        {"second CONNACK", true, SPAN_LIT("\x20\x02\0\0")},
        {"a length without end", true, SPAN_LIT("\x30\xff\xff\xff\xff\xff")},
        {"type 0", true, SPAN_LIT("\x00\x00")},
        {"type 15", true, SPAN_LIT("\xf0\x00")},
        {"CONNECT from the server", true, SPAN_LIT("\x10\x00")},
        {"PINGREQ from the server", true, SPAN_LIT("\xc0\x00")},
        {"DISCONNECT from the server", true, SPAN_LIT("\xe0\x00")},
        {"PUBREC, we know no QoS 2", true, SPAN_LIT("\x50\x02\0\1")},
        {"PUBLISH QoS 2", true, SPAN_LIT("\x34\x05\0\1t\0\1")},
        {"PUBLISH QoS 3", true, SPAN_LIT("\x36\x05\0\1t\0\1")},
        {"PUBLISH QoS 1 with id 0", true, SPAN_LIT("\x32\x05\0\1t\0\0")},
        {"PUBLISH with a wildcard", true, SPAN_LIT("\x30\x03\0\1#")},
        {"PUBACK too short", true, SPAN_LIT("\x40\x01\0")},
        {"SUBACK without codes", true, SPAN_LIT("\x90\x02\0\1")},
        {"SUBACK code 3", true, SPAN_LIT("\x90\x03\0\1\3")},
        {"UNSUBACK too short", true, SPAN_LIT("\xb0\x01\0")},
        {"PINGRESP with a body", true, SPAN_LIT("\xd0\x01\0")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].is_ready) {
            make_ready();
        }
        serve(rows[i].bytes);
        if (ep.closed != 1 || ep.why != E_MALFORMED) {
            fail_msg("%s: closed %d, %s", rows[i].name, ep.closed, err_name(ep.why));
        }
        assert_int_equal(ep.publishes, 0);
        if (i + 1 < ARRAY_LEN(rows)) {
            note_done(&sv);
            memset(&ep, 0, sizeof(ep));
            open_with(&hello);
            settle(l);
        }
    }
}

static void test_too_large(void **state)
{
    (void)state;
    make_ready();
    SERVE("\x30\xff\xff\xff\x7f"); /* 256 MiB are announced: no byte of it is waited for */
    assert_err(ep.why, E_TOO_LARGE);
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    static const char bytes[] = CONNACK_0 "\x32\x0a\0\3a/b\0\7one\xd0\0\x30\x05\0\1ttw";
    for (size_t i = 0; i + 1 < sizeof(bytes); i++) {
        serve(span_of(bytes + i, 1));
    }
    assert_int_equal(ep.ready, 1);
    assert_int_equal(ep.publishes, 2);
    assert_string_equal(ep.topic, "t");
    assert_string_equal(ep.payload, "tw");
    expect_sent(MQTT_CONNECT);
    expect_sent(MQTT_PUBACK);
    assert_int_equal(sv.in.n, 0);
}

/* --- QoS 1 --------------------------------------------------------------------------------------------- */

static void puback(uint16_t id)
{
    struct buf b = BUF_INIT(16);
    mqtt_puback_write(&b, id);
    serve(buf_span(&b));
    buf_done(&b);
}

static void test_in_flight(void **state)
{
    (void)state;
    uint16_t id[MCLIENT_INFLIGHT + 1] = {0};
    make_ready();
    for (size_t i = 0; i < MCLIENT_INFLIGHT; i++) {
        assert_ok(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &id[i]));
        assert_int_not_equal(id[i], 0);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(id[k], id[i]);
        }
    }
    assert_err(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &id[MCLIENT_INFLIGHT]),
               E_QUEUE_FULL);
    assert_int_equal(id[MCLIENT_INFLIGHT], 0);
    uint16_t none = 9;
    assert_ok(
        mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 0, &none)); /* QoS 0 needs no place */
    assert_int_equal(none, 0);
    puback(id[5]); /* any order */
    assert_int_equal(ep.pubacks, 1);
    assert_int_equal(ep.last_puback, id[5]);
    puback(id[5]);  /* twice */
    puback(60000u); /* not ours */
    assert_int_equal(ep.pubacks, 1);
    assert_ok(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &id[MCLIENT_INFLIGHT]));
    assert_err(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &id[5]), E_QUEUE_FULL);
    settle(l);
    for (size_t i = 0; i < MCLIENT_INFLIGHT + 2; i++) {
        expect_sent(MQTT_PUBLISH);
    }
    assert_int_equal(sv.in.n, 0);
}

/* The number of an unacknowledged message is not given again, 0 never. */
static void test_ids_wrap(void **state)
{
    (void)state;
    uint16_t held, id;
    make_ready();
    assert_ok(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &held));
    for (unsigned i = 0; i < 70000; i++) {
        struct buf b = BUF_INIT(16);
        assert_ok(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &id));
        assert_true(id != 0 && id != held);
        mqtt_puback_write(&b, id);
        stream_write(sv.s, buf_span(&b));
        buf_done(&b);
        loop_turn(l, 0);
        loop_turn(l, 0);
        buf_reset(&sv.in);
    }
    assert_int_equal(ep.pubacks, 70000);
}

static void test_publish_limits(void **state)
{
    (void)state;
    uint16_t id = 7;
    struct buf big = BUF_INIT(2u << 20);
    make_ready();
    assert_non_null(buf_reserve(&big, LIMIT_MQTT_PACKET));
    memset(big.p, 'x', LIMIT_MQTT_PACKET);
    big.n = LIMIT_MQTT_PACKET;
    assert_err(mclient_publish(ep.c, SPAN_LIT("t"), buf_span(&big), 1, &id), E_TOO_LARGE);
    assert_int_equal(id, 7);
    for (size_t i = 0; i < MCLIENT_INFLIGHT; i++) { /* the refused one holds no place */
        assert_ok(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &id));
    }
    buf_done(&big);
}

static void test_incoming(void **state)
{
    (void)state;
    struct span body;
    uint16_t id;
    make_ready();
    SERVE("\x32\x0a\0\3a/b\1\7one");
    assert_string_equal(ep.topic, "a/b");
    assert_string_equal(ep.payload, "one");
    assert_int_equal(sent(&body), MQTT_PUBACK);
    assert_ok(mqtt_puback_read(body, &id, NULL));
    assert_int_equal(id, 0x107);
    SERVE("\x30\x06\0\1tone");
    assert_int_equal(ep.publishes, 2);
    assert_int_equal(sv.in.n, 0); /* QoS 0 */
}

static void test_subscribe(void **state)
{
    (void)state;
    const struct mqtt_filter f[] = {{SPAN_LIT("a/#"), 1}, {SPAN_LIT("b"), 0}};
    struct mqtt_filters got;
    struct mqtt_filter one;
    struct span body;
    uint16_t id;
    make_ready();
    assert_ok(mclient_subscribe(ep.c, f, 2, &id));
    settle(l);
    assert_int_equal(sent(&body), MQTT_SUBSCRIBE);
    assert_ok(mqtt_subscribe_read(body, &got, NULL));
    assert_int_equal(got.packet_id, id);
    assert_true(mqtt_filters_next(&got, &one));
    assert_span(one.filter, f[0].filter);
    assert_int_equal(one.qos, 1);
    SERVE("\x90\x04\0\1\x01\x80");
    assert_int_equal(ep.subacks, 1);
    assert_int_equal(ep.suback_id, 1);
    assert_int_equal(ep.n_codes, 2);
    assert_int_equal(ep.codes[1], 0x80);
}

/* --- keep-alive ------------------------------------------------------------------------------------------ */

static void test_keep_alive(void **state)
{
    (void)state;
    make_ready();
    for (int round = 0; round < 3; round++) {
        fake.ms += 44999;
        settle(l);
        assert_int_equal(sv.in.n, 0);
        fake.ms += 1; /* three quarters of 60 s */
        settle(l);
        expect_sent(MQTT_PINGREQ);
        fake.ms += 29000;
        SERVE("\xd0\x00");
    }
    fake.ms += 45000;
    settle(l);
    expect_sent(MQTT_PINGREQ);
    fake.ms += 29999;
    settle(l);
    assert_int_equal(ep.closed, 0);
    assert_int_equal(sv.in.n, 0); /* not asked twice */
    fake.ms += 1;
    settle(l);
    assert_err(ep.why, E_TIMEOUT);
    assert_int_equal(ep.connack, MQTT_ACCEPTED);
}

static void test_keep_alive_off(void **state)
{
    (void)state;
    struct mqtt_connect cn = hello;
    stream_abort(sv.s, E_CLOSED);
    settle(l);
    assert_int_equal(ep.closed, 1);
    note_done(&sv);
    memset(&ep, 0, sizeof(ep));
    cn.keep_alive_s = 0;
    open_with(&cn);
    settle(l);
    make_ready();
    fake.ms += UINT64_C(86400) * 1000;
    settle(l);
    assert_int_equal(ep.closed, 0);
    assert_int_equal(sv.in.n, 0);
}

/* --- the end ------------------------------------------------------------------------------------------------ */

static void test_close(void **state)
{
    (void)state;
    uint16_t id;
    make_ready();
    ep.in_call = true;
    mclient_close(ep.c);
    mclient_close(ep.c); /* twice is one */
    ep.in_call = false;
    assert_err(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("p"), 1, &id), E_STATE);
    settle(l);
    expect_sent(MQTT_DISCONNECT);
    assert_int_equal(sv.in.n, 0);
    assert_true(sv.closed);
    assert_err(ep.why, E_CLOSED);
}

static void test_close_early(void **state)
{
    (void)state;
    mclient_close(ep.c);
    settle(l);
    expect_sent(MQTT_CONNECT);
    assert_int_equal(sv.in.n, 0); /* no DISCONNECT of a link that is not there */
    assert_err(ep.why, E_CLOSED);
}

static void test_close_in_ready(void **state)
{
    (void)state;
    ep.close_in_ready = true;
    SERVE(CONNACK_0 "\x30\x03\0\1t");
    assert_int_equal(ep.publishes, 0);
    assert_err(ep.why, E_CLOSED);
}

/* Closed by its handler: what came with it is not looked at, and nothing follows the DISCONNECT. */
static void test_close_in_publish(void **state)
{
    (void)state;
    make_ready();
    ep.close_in_publish = true;
    SERVE("\x32\x05\0\1t\0\1\x32\x05\0\1t\0\2");
    assert_int_equal(ep.publishes, 1);
    expect_sent(MQTT_DISCONNECT);
    assert_int_equal(sv.in.n, 0);
}

static void test_peer_ends(void **state)
{
    (void)state;
    make_ready();
    stream_close(sv.s);
    settle(l);
    assert_int_equal(ep.closed, 1);
    assert_err(ep.why, OK);
    assert_int_equal(ep.connack, MQTT_ACCEPTED);
}

/* --- against our own server's side --------------------------------------------------------------------------- */

static struct {
    struct mlink *m;
    mlink_slot slot[8];
    size_t n;
    int pubacks, closed;
    bool is_clean;
} srv;

static void srv_connect(struct mlink *m, void *arg, const struct mqtt_connect *c)
{
    (void)arg;
    assert_span(c->client_id, SPAN_LIT("dev1"));
    mlink_connack(m, 0, false);
}

static enum err srv_publish(struct mlink *m, void *arg, const struct mqtt_publish *p,
                            mlink_slot slot, struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)p;
    (void)info;
    srv.slot[srv.n++] = slot;
    return OK;
}

static enum err srv_subscribe(struct mlink *m, void *arg, struct span filter, uint8_t qos,
                              uint8_t *ret_code, struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)filter;
    (void)info;
    *ret_code = qos;
    return OK;
}

static void srv_puback(struct mlink *m, void *arg, uint16_t id)
{
    (void)m;
    (void)arg;
    (void)id;
    srv.pubacks++;
}

static void srv_close(struct mlink *m, void *arg, bool is_clean, enum err why,
                      const struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)why;
    (void)info;
    srv.closed++;
    srv.is_clean = is_clean;
}

static const struct mlink_handler srv_handler = {.on_connect = srv_connect,
                                                 .on_publish = srv_publish,
                                                 .on_subscribe = srv_subscribe,
                                                 .on_puback = srv_puback,
                                                 .on_close = srv_close};

static void test_with_mlink(void **state)
{
    (void)state;
    const struct mqtt_filter f = {SPAN_LIT("x/#"), 1};
    uint16_t a, b, c;
    struct span connect = buf_span(&sv.in);
    struct pair p;
    memset(&srv, 0, sizeof(srv));
    assert_true(connect.n > 0);
    /* The first client goes; a second one talks to the link. */
    mclient_close(ep.c);
    settle(l);
    memset(&ep, 0, sizeof(ep));
    pair_make(l, &p);
    assert_ok(mlink_new(p.b.s, &srv_handler, NULL, &srv.m));
    assert_ok(mclient_new(p.a.s, &hello, &handler, &ep, &ep.c));
    settle(l);
    assert_int_equal(ep.ready, 1);
    assert_ok(mclient_subscribe(ep.c, &f, 1, &a));
    assert_ok(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("1"), 1, &b));
    assert_ok(mclient_publish(ep.c, SPAN_LIT("t"), SPAN_LIT("2"), 1, &c));
    settle(l);
    assert_int_equal(ep.subacks, 1);
    assert_int_equal(ep.suback_id, a);
    assert_int_equal(srv.n, 2);
    mlink_ack(srv.m, srv.slot[1]);
    settle(l);
    assert_int_equal(ep.pubacks, 0); /* in the order of the PUBLISHes */
    mlink_ack(srv.m, srv.slot[0]);
    settle(l);
    assert_int_equal(ep.pubacks, 2);
    assert_int_equal(ep.last_puback, c);
    assert_ok(mlink_publish(srv.m, SPAN_LIT("x/y"), SPAN_LIT("down"), 1, false, &a));
    settle(l);
    assert_string_equal(ep.payload, "down");
    assert_int_equal(srv.pubacks, 1);
    mclient_close(ep.c);
    settle(l);
    assert_int_equal(srv.closed, 1);
    assert_true(srv.is_clean);
    note_done(&p.a);
    note_done(&p.b);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_connect),          T(test_connack_codes),
        T(test_no_connack),       T(test_before_connack),
        T(test_too_long),         T(test_malformed),
        T(test_too_large),        T(test_byte_by_byte),
        T(test_in_flight),        T(test_ids_wrap),
        T(test_publish_limits),   T(test_incoming),
        T(test_subscribe),        T(test_keep_alive),
        T(test_keep_alive_off),   T(test_close),
        T(test_close_early),      T(test_close_in_ready),
        T(test_close_in_publish), T(test_peer_ends),
        T(test_with_mlink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
