/* SPDX-License-Identifier: Apache-2.0 */
/* A device's link against net/mlink under TLS, in one loop; and the ways of client/link. */
#include "client/hub_client.h"

#include <stdlib.h>
#include <unistd.h>

#include "client/dps_client.h"
#include "client/mclient.h"
#include "net/mlink.h"
#include "net/net_fixture.h"

static struct fake_clock fake;
static struct loop *l;
static struct certs certs;
static struct tls_ctx *server_tls;
static struct listener *ls;

/* --- the hub ----------------------------------------------------------------------------------- */

static struct {
    struct mlink *m;
    struct stream *s; /* before it was made a link */
    uint8_t connack, suback;
    bool is_mute;      /* takes connections, says nothing */
    const char *early; /* a topic, behind the CONNACK: of a filter that was kept */
    int accepted, connects, closed;
    char username[256], topic[256], payload[256];
    size_t password_n;
    mlink_slot slot[MCLIENT_INFLIGHT];
    size_t n;
} hub;

static void srv_connect(struct mlink *m, void *arg, const struct mqtt_connect *c)
{
    (void)arg;
    hub.connects++;
    assert_true(span_to_cstr(c->username, hub.username, sizeof(hub.username)));
    hub.password_n = c->password.n;
    assert_span(c->client_id, SPAN_LIT("dev1"));
    assert_false(c->clean_session);
    mlink_connack(m, hub.connack, hub.early != NULL);
    if (hub.early != NULL) {
        assert_ok(mlink_publish(m, span_str(hub.early), SPAN_NONE, 0, false, NULL));
    }
}

static enum err srv_publish(struct mlink *m, void *arg, const struct mqtt_publish *p,
                            mlink_slot slot, struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)info;
    assert_true(span_to_cstr(p->topic, hub.topic, sizeof(hub.topic)));
    assert_true(span_to_cstr(p->payload, hub.payload, sizeof(hub.payload)));
    if (slot != MLINK_NO_SLOT) {
        hub.slot[hub.n++] = slot;
    }
    return OK;
}

static enum err srv_subscribe(struct mlink *m, void *arg, struct span filter, uint8_t qos,
                              uint8_t *ret_code, struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)filter;
    (void)qos;
    (void)info;
    *ret_code = hub.suback;
    return OK;
}

static void srv_puback(struct mlink *m, void *arg, uint16_t id)
{
    (void)m;
    (void)arg;
    (void)id;
}

static void srv_close(struct mlink *m, void *arg, bool is_clean, enum err why,
                      const struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)is_clean;
    (void)why;
    (void)info;
    hub.m = NULL;
    hub.closed++;
}

static const struct mlink_handler srv_handler = {.on_connect = srv_connect,
                                                 .on_publish = srv_publish,
                                                 .on_subscribe = srv_subscribe,
                                                 .on_puback = srv_puback,
                                                 .on_close = srv_close};

static struct note raw;

static void on_open(struct conn *c, void *arg)
{
    (void)arg;
    hub.accepted++;
    if (hub.is_mute) {
        note_init(&raw, conn_stream(c));
        hub.s = conn_stream(c);
        return;
    }
    assert_ok(mlink_new(conn_stream(c), &srv_handler, NULL, &hub.m));
}

/* --- the device ---------------------------------------------------------------------------------- */

static struct identity id;
static struct {
    struct hub_client *c;
    int up, down, sent, twins, desired;
    enum err why;
    char text[320];
    uint64_t tag, version;
    uint32_t rid;
    unsigned status;
    char body[128];
} dev;

static void on_state(struct hub_client *c, void *arg, enum hub_state st, enum err why,
                     const struct err_info *info)
{
    (void)c;
    assert_ptr_equal(arg, &dev);
    dev.up += st == HUB_UP;
    dev.down += st == HUB_DOWN;
    dev.why = why;
    (void)span_to_cstr(span_str(err_why(info, why)), dev.text, sizeof(dev.text));
}

static void on_sent(struct hub_client *c, void *arg, uint64_t tag)
{
    (void)c;
    (void)arg;
    dev.sent++;
    dev.tag = tag;
}

static void on_twin(struct hub_client *c, void *arg, uint32_t rid, unsigned status,
                    struct span body)
{
    (void)c;
    (void)arg;
    dev.twins++;
    dev.rid = rid;
    dev.status = status;
    assert_true(span_to_cstr(body, dev.body, sizeof(dev.body)));
}

static void on_desired(struct hub_client *c, void *arg, uint64_t version, struct span patch)
{
    (void)c;
    (void)arg;
    dev.desired++;
    dev.version = version;
    assert_true(span_to_cstr(patch, dev.body, sizeof(dev.body)));
}

static const struct hub_client_handler handler = {on_state, on_sent, on_twin, on_desired, NULL};

static int setup(void **state)
{
    (void)state;
    memset(&hub, 0, sizeof(hub));
    memset(&dev, 0, sizeof(dev));
    memset(&raw, 0, sizeof(raw));
    fake_clock_init(&fake);
    assert_ok(loop_new(0, &fake.clock, &l));
    const struct tls_server_conf conf = {certs.server, certs.server_key};
    assert_ok(tls_server_new(&conf, &server_tls, NULL));
    const struct listener_conf lc = {
        .address = "127.0.0.1", .tls = server_tls, .on_open = on_open, .max_unauthenticated = 16};
    assert_ok(listener_new(l, &lc, &ls, NULL));
    id = (struct identity){.kind = ATTEST_SYMMETRIC_KEY, .ca_file = certs.ca};
    id.mqtts_port = id.https_port = listener_port(ls);
    assert_ok(secret_set(&id.key, SPAN_LIT("0123456789abcdef")));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (dev.c != NULL) {
        hub_close(dev.c);
        STEP_UNTIL(l, dev.down > 0);
        assert_int_equal(dev.down, 1); /* once, in every test */
        hub_free(dev.c);
    }
    if (hub.m != NULL) {
        mlink_close(hub.m, E_CLOSED, "over");
    }
    if (hub.s != NULL && !raw.closed) {
        stream_abort(hub.s, E_CLOSED);
    }
    listener_free(ls);
    settle(l);
    fake.ms += 600000; /* whatever lingers */
    settle(l);
    note_done(&raw);
    loop_free(l);
    tls_ctx_unref(server_tls);
    return 0;
}

static void open_with(const struct hub_client_handler *h, unsigned via)
{
    const struct hub_client_conf conf = {.loop = l,
                                         .identity = &id,
                                         .hub = "127.0.0.1",
                                         .device_id = "dev1",
                                         .product = "test/1",
                                         .via = via};
    struct err_info info = {0};
    assert_ok(hub_open(&conf, h, &dev, &dev.c, &info));
}

static void open_via(unsigned via)
{
    open_with(&handler, via);
}

static void open_up(void)
{
    open_via(DPS_VIA_MQTT);
    STEP_UNTIL(l, dev.up + dev.down > 0);
    assert_int_equal(dev.up, 1);
}

static void test_up(void **state)
{
    (void)state;
    open_up();
    assert_int_equal(hub.connects, 1);
    assert_non_null(strstr(hub.username, "127.0.0.1/dev1/?api-version=2021-04-12"));
    assert_true(hub.password_n > 50);
}

static void test_send(void **state)
{
    (void)state;
    const struct prop p = {PROP_APP, SPAN_LIT("a b"), SPAN_LIT("c"), true};
    open_up();
    for (uint64_t i = 0; i < MCLIENT_INFLIGHT; i++) {
        assert_ok(hub_send(dev.c, SPAN_LIT("body"), &p, 1, 100 + i));
    }
    assert_err(hub_send(dev.c, SPAN_LIT("body"), &p, 1, 999), E_QUEUE_FULL);
    STEP_UNTIL(l, hub.n == MCLIENT_INFLIGHT);
    assert_string_equal(hub.topic, "devices/dev1/messages/events/a%20b=c");
    assert_string_equal(hub.payload, "body");
    assert_int_equal(dev.sent, 0); /* not before it is acknowledged */
    mlink_ack(hub.m, hub.slot[0]);
    STEP_UNTIL(l, dev.sent == 1);
    assert_int_equal(dev.tag, 100);
    for (size_t i = 1; i < MCLIENT_INFLIGHT; i++) {
        mlink_ack(hub.m, hub.slot[i]);
    }
    STEP_UNTIL(l, dev.sent == MCLIENT_INFLIGHT);
    assert_int_equal(dev.tag, 100 + MCLIENT_INFLIGHT - 1);
}

static void test_twin(void **state)
{
    (void)state;
    uint32_t rid = 0;
    open_up();
    assert_ok(hub_twin_get(dev.c, &rid));
    STEP_UNTIL(l, hub.topic[0] != '\0');
    assert_string_equal(hub.topic, "$iothub/twin/GET/?$rid=1");
    assert_ok(mlink_publish(hub.m, SPAN_LIT("$iothub/twin/res/200/?$rid=1"), SPAN_LIT("{}"), 0,
                            false, NULL));
    STEP_UNTIL(l, dev.twins == 1);
    assert_int_equal(dev.rid, rid);
    assert_int_equal(dev.status, 200);
    assert_ok(hub_twin_report(dev.c, SPAN_LIT("{\"a\":1}"), &rid));
    STEP_UNTIL(l, hub.payload[0] != '\0');
    assert_string_equal(hub.topic, "$iothub/twin/PATCH/properties/reported/?$rid=2");
    assert_ok(mlink_publish(hub.m, SPAN_LIT("$iothub/twin/PATCH/properties/desired/?$version=7"),
                            SPAN_LIT("{\"x\":2}"), 0, false, NULL));
    STEP_UNTIL(l, dev.desired == 1);
    assert_int_equal(dev.version, 7);
    assert_string_equal(dev.body, "{\"x\":2}");
    /* What is no topic of ours, or has a number that we never gave, ends nothing. */
    assert_ok(mlink_publish(hub.m, SPAN_LIT("other"), SPAN_LIT("x"), 0, false, NULL));
    assert_ok(mlink_publish(hub.m, SPAN_LIT("$iothub/twin/res/200/?$rid=99999999999"),
                            SPAN_LIT("{}"), 0, false, NULL));
    settle(l);
    assert_int_equal(dev.twins, 1);
    assert_int_equal(dev.down, 0);
}

static void answer_stream(struct hub_client *c, void *arg, const struct hub_stream *st)
{
    (void)arg;
    assert_span(st->name, SPAN_LIT("ssh"));
    assert_span(st->url, SPAN_LIT("wss://h/x"));
    assert_span(st->auth, SPAN_LIT("T"));
    assert_int_equal(dev.up, 0);
    assert_ok(hub_stream_answer(c, st->rid, true, SPAN_NONE));
}

static const struct hub_client_handler stream_handler = {on_state, on_sent, on_twin, on_desired,
                                                         answer_stream};

/* What the hub kept of the link before brings a request before this one is up; its answer does not wait. */
static void test_stream_before_up(void **state)
{
    (void)state;
    hub.early = "$iothub/streams/POST/ssh/?$rid=1f&$url=wss%3A%2F%2Fh%2Fx&$auth=T";
    open_with(&stream_handler, DPS_VIA_MQTT);
    STEP_UNTIL(l, hub.topic[0] != '\0');
    assert_string_equal(hub.topic, "$iothub/streams/res/200/?$rid=1f");
    STEP_UNTIL(l, dev.up == 1);
}

static void test_refused(void **state)
{
    (void)state;
    hub.connack = MQTT_REFUSED_AUTH;
    open_via(DPS_VIA_MQTT | DPS_VIA_MQTT_WS);
    STEP_UNTIL(l, dev.down == 1);
    assert_err(dev.why, E_UNAUTHORIZED);
    assert_non_null(strstr(dev.text, "CONNACK 5"));
    assert_int_equal(hub.accepted, 1); /* a refusal is no reason for the other way */
    uint32_t rid;
    assert_err(hub_send(dev.c, SPAN_LIT("x"), NULL, 0, 1), E_STATE);
    assert_err(hub_twin_get(dev.c, &rid), E_STATE);
}

static void test_suback_refused(void **state)
{
    (void)state;
    hub.suback = 0x80;
    open_via(DPS_VIA_MQTT);
    STEP_UNTIL(l, dev.down == 1);
    assert_int_equal(dev.up, 0);
    assert_err(dev.why, E_UNSUPPORTED);
}

static void test_hub_closes(void **state)
{
    (void)state;
    open_up();
    mlink_close(hub.m, E_FENCED, "taken over");
    STEP_UNTIL(l, dev.down == 1);
    assert_err(dev.why, E_NET);
}

static void test_token_ends(void **state)
{
    (void)state;
    open_up();
    fake.ms +=
        2880000 -
        2000; /* four fifths of an hour, short of it; both ends are asked to keep alive on the way */
    settle(l);
    int before = dev.down;
    fake.ms += 4000;
    STEP_UNTIL(l, dev.down == 1);
    if (before == 0) {
        assert_err(dev.why, E_EXPIRED);
    }
}

static void test_wrong_ca(void **state)
{
    (void)state;
    id.ca_file = certs.other_ca;
    open_via(DPS_VIA_MQTT | DPS_VIA_MQTT_WS);
    STEP_UNTIL(l, dev.down == 1);
    assert_err(dev.why, E_TLS);
    assert_int_equal(hub.connects, 0);
}

static void test_nobody_there(void **state)
{
    (void)state;
    listener_free(ls);
    ls = NULL;
    settle(l);
    open_via(DPS_VIA_MQTT | DPS_VIA_MQTT_WS);
    STEP_UNTIL(l, dev.down == 1);
    assert_err(dev.why, E_NET);
    assert_int_equal(dev.up, 0);
}

/* A server that takes the connection and never answers the upgrade: closed from our side, told once, nothing left. */
static void test_cancel_ws(void **state)
{
    (void)state;
    hub.is_mute = true;
    open_via(DPS_VIA_MQTT_WS);
    STEP_UNTIL(l, raw.in.n > 0);
    assert_true(span_starts(buf_span(&raw.in), SPAN_LIT("GET /$iothub/websocket HTTP/1.1\r\n")));
    hub_close(dev.c);
    assert_int_equal(dev.down, 1);
    assert_err(dev.why, E_CLOSED);
    STEP_UNTIL(l, raw.closed == 1);
}

static void test_ws_refused(void **state)
{
    (void)state;
    hub.is_mute = true;
    open_via(DPS_VIA_MQTT_WS);
    STEP_UNTIL(l, raw.in.n > 0);
    stream_write(hub.s, SPAN_LIT("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
    STEP_UNTIL(l, dev.down == 1);
    assert_non_null(strstr(dev.text, "403"));
}

static int make_certs(void **state)
{
    (void)state;
    certs_make(&certs);
    return 0;
}

static int remove_certs(void **state)
{
    (void)state;
    certs_remove(&certs);
    return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_up),       T(test_send),           T(test_twin),       T(test_stream_before_up),
        T(test_refused),  T(test_suback_refused), T(test_hub_closes), T(test_token_ends),
        T(test_wrong_ca), T(test_nobody_there),   T(test_cancel_ws),  T(test_ws_refused),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
