/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One registration against a DPS that says what its script says, over MQTT and HTTPS under TLS: docs/protocol/dps-device.md 2 to 5.
 * dps_register blocks, so the server has a thread and a loop of its own. The shortest wait between polls is a second, and is waited.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/dps_client.h"
#include "net/mlink.h"
#include "net/net_fixture.h"

#define ASSIGNED                                                                                   \
    "{\"operationId\":\"op-1\",\"status\":\"assigned\",\"registrationState\":{\"assignedHub\":"    \
    "\"hub1.example\",\"deviceId\":\"Dev-1\",\"status\":\"assigned\",\"substatus\":"               \
    "\"initialAssignment\"}}"
#define ASSIGNING "{\"operationId\":\"op-1\",\"status\":\"assigning\"}"
#define DISABLED                                                                                   \
    "{\"operationId\":\"\",\"status\":\"disabled\",\"registrationState\":{\"status\":"             \
    "\"disabled\"}}"
#define FAILED                                                                                     \
    "{\"operationId\":\"op-1\",\"status\":\"failed\",\"registrationState\":{\"status\":"           \
    "\"failed\","                                                                                  \
    "\"errorCode\":400209,\"errorMessage\":\"no hub\"}}"
#define REFUSED "{\"errorCode\":401002,\"trackingId\":\"t-1\",\"message\":\"Unauthorized\"}"

/* --- the server -------------------------------------------------------------------------------- */

struct answer {
    unsigned status; /* 0: the link is closed instead; 1: nothing is said */
    const char *body;
    bool foreign; /* first the same with a request id that nobody asked with */
};
static struct {
    struct loop *loop;
    struct listener *mqtts, *https;
    uint8_t connack, suback;
    struct answer script[4]; /* one for each request, the last for all that follow */
    size_t body_n;           /* of the body, so many bytes; 0: all */
    unsigned connects, requests, polls, https_requests;
    char last[512];
} dps;
static _Atomic bool is_over;
static struct certs certs;
static pthread_barrier_t ready;
static pthread_t thread;
static struct identity id;

/* Where text begins in s; s.n: nowhere. */
static size_t find(struct span s, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= s.n; i++) {
        if (span_starts(span_from(s, i), span_str(text))) {
            return i;
        }
    }
    return s.n;
}

static const struct answer *next_answer(struct span asked)
{
    unsigned i = MIN(dps.requests, (unsigned)ARRAY_LEN(dps.script) - 1);
    while (i > 0 && dps.script[i].status == 0 && dps.script[i].body == NULL) {
        i--; /* behind the script */
    }
    dps.requests++;
    dps.polls += find(asked, "op-1") < asked.n;
    assert_true(span_to_cstr(span_sub(asked, 0, sizeof(dps.last) - 1), dps.last, sizeof(dps.last)));
    return &dps.script[i];
}

static struct span body_of(const struct answer *a)
{
    struct span b = span_str(a->body);
    return dps.body_n > 0 ? span_sub(b, 0, dps.body_n) : b;
}

static void srv_connect(struct mlink *m, void *arg, const struct mqtt_connect *c)
{
    (void)arg;
    (void)c;
    dps.connects++;
    mlink_connack(m, dps.connack, false);
}

static void say(struct mlink *m, const struct answer *a, struct span rid)
{
    char topic[200];
    (void)snprintf(topic, sizeof(topic), "$dps/registrations/res/%u/?$rid=%.*s&retry-after=1",
                   a->status, SPAN_ARG(rid));
    assert_ok(mlink_publish(m, span_str(topic), body_of(a), 0, false, NULL));
}

static enum err srv_publish(struct mlink *m, void *arg, const struct mqtt_publish *p,
                            mlink_slot slot, struct err_info *info)
{
    (void)arg;
    (void)info;
    struct span rid = span_from(p->topic, find(p->topic, "$rid=") + 5);
    rid = span_sub(rid, 0, find(rid, "&"));
    const struct answer *a = next_answer(p->topic);
    mlink_ack(m, slot);
    if (a->status == 0) {
        return E_CLOSED;
    }
    if (a->status == 1) {
        return OK;
    }
    if (a->foreign) {
        say(m, &(const struct answer){.status = 401, .body = REFUSED}, SPAN_LIT("4711"));
    }
    say(m, a, rid);
    return OK;
}

static enum err srv_subscribe(struct mlink *m, void *arg, struct span filter, uint8_t qos,
                              uint8_t *ret_code, struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)qos;
    (void)info;
    assert_span(filter, SPAN_LIT("$dps/registrations/res/#"));
    *ret_code = dps.suback;
    return OK;
}
static void srv_puback(struct mlink *m, void *arg, uint16_t packet_id)
{
    (void)m;
    (void)arg;
    (void)packet_id;
}
static void srv_close(struct mlink *m, void *arg, bool is_clean, enum err why,
                      const struct err_info *info)
{
    (void)m;
    (void)arg;
    (void)is_clean;
    (void)why;
    (void)info;
}
static const struct mlink_handler mqtt_handler = {.on_connect = srv_connect,
                                                  .on_publish = srv_publish,
                                                  .on_subscribe = srv_subscribe,
                                                  .on_puback = srv_puback,
                                                  .on_close = srv_close};

static void on_mqtts(struct conn *c, void *arg)
{
    (void)arg;
    struct mlink *m;
    assert_ok(mlink_new(conn_stream(c), &mqtt_handler, NULL, &m));
}

/* A whole request is there at once: they are small. */
static size_t http_bytes(struct stream *s, void *arg, struct span in)
{
    char head[300];
    (void)arg;
    size_t end = find(in, "\r\n\r\n");
    bool has_body = span_starts(in, SPAN_LIT("PUT"));
    if (end == in.n || (has_body && in.p[in.n - 1] != '}')) {
        return 0;
    }
    dps.https_requests++;
    const struct answer *a = next_answer(span_sub(in, 0, find(in, "\r\n")));
    if (a->status == 0) {
        stream_abort(s, E_CLOSED);
        return in.n;
    }
    if (a->status == 1) {
        return in.n;
    }
    struct span body = body_of(a);
    (void)snprintf(head, sizeof(head),
                   "HTTP/1.1 %u X\r\nContent-Type: application/json\r\nRetry-After: "
                   "1\r\nContent-Length: %zu\r\n\r\n",
                   a->status, body.n);
    stream_write(s, span_str(head));
    stream_write(s, body);
    return in.n;
}
static void http_close(struct stream *s, void *arg, enum err why)
{
    (void)s;
    (void)arg;
    (void)why;
}
static const struct stream_handler http_handler = {
    .name = "test", .on_bytes = http_bytes, .on_close = http_close};
static void on_https(struct conn *c, void *arg)
{
    (void)arg;
    stream_handle(conn_stream(c), &http_handler, NULL);
}

/* The loop is this thread's from its beginning to its end. */
static void *serve(void *arg)
{
    (void)arg;
    assert_ok(loop_new(0, clock_system(), &dps.loop));
    const struct tls_server_conf conf = {certs.server, certs.server_key};
    struct tls_ctx *tls = NULL;
    assert_ok(tls_server_new(&conf, &tls, NULL));
    struct listener_conf lc = {
        .address = "127.0.0.1", .tls = tls, .on_open = on_mqtts, .max_unauthenticated = 64};
    assert_ok(listener_new(dps.loop, &lc, &dps.mqtts, NULL));
    lc.on_open = on_https;
    assert_ok(listener_new(dps.loop, &lc, &dps.https, NULL));
    id.mqtts_port = listener_port(dps.mqtts);
    id.https_port = listener_port(dps.https);
    (void)pthread_barrier_wait(&ready);
    while (!atomic_load(&is_over)) {
        loop_turn(dps.loop, 20);
    }
    listener_free(dps.mqtts);
    listener_free(dps.https);
    settle(dps.loop);
    loop_free(dps.loop);
    tls_ctx_unref(tls);
    return NULL;
}

static int setup(void **state)
{
    static char scope[] = "0ne1", rid[] = "dev-1", host[] = "127.0.0.1";
    (void)state;
    memset(&dps, 0, sizeof(dps));
    id = (struct identity){.kind = ATTEST_SYMMETRIC_KEY,
                           .ca_file = certs.ca,
                           .id_scope = scope,
                           .registration_id = rid,
                           .dps_host = host};
    assert_ok(secret_set(&id.key, SPAN_LIT("0123456789abcdef")));
    assert_int_equal(pthread_barrier_init(&ready, NULL, 2), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    secret_done(&id.key);
    (void)pthread_barrier_destroy(&ready);
    return 0;
}

static void begin(void)
{
    atomic_store(&is_over, false);
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    (void)pthread_barrier_wait(&ready);
}
static void end(void)
{
    atomic_store(&is_over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* --- the rows ------------------------------------------------------------------------------------ */

static enum err ask(unsigned via, uint64_t timeout_ms, struct dps_result *r, struct err_info *info)
{
    static const atomic_int go_on = 0;
    *r = (struct dps_result){.status = ""};
    *info = (struct err_info){.err = OK};
    begin();
    enum err e = dps_register(&id, via, SPAN_LIT("{\"a\":1}"), timeout_ms, &go_on, r, info);
    end();
    return e;
}

static void outcomes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct answer script[4];
        enum err want;
        uint32_t code;
        unsigned requests, polls;
    } rows[] = {
        {"assigned at once", {{200, ASSIGNED, false}}, OK, 0, 1, 0},
        {"assigning, then assigned",
         {{202, ASSIGNING, false}, {200, ASSIGNED, false}},
         OK,
         0,
         2,
         1},
        {"too many, then assigned", {{429, REFUSED, false}, {200, ASSIGNED, false}}, OK, 0, 2, 0},
        {"trouble while polling",
         {{202, ASSIGNING, false}, {503, "", false}, {200, ASSIGNED, false}},
         OK,
         0,
         3,
         2},
        {"401", {{401, REFUSED, false}}, E_UNAUTHORIZED, 401002, 1, 0},
        {"400", {{400, REFUSED, false}}, E_REMOTE, 401002, 1, 0},
        {"disabled", {{200, DISABLED, false}}, E_DISABLED, 0, 1, 0},
        {"failed", {{200, FAILED, false}}, E_REMOTE, 400209, 1, 0},
        {"assigned nowhere",
         {{200, "{\"status\":\"assigned\",\"registrationState\":{}}", false}},
         E_REMOTE,
         0,
         1,
         0},
        {"a status that is none",
         {{200, "{\"status\":\"\",\"registrationState\":7}", false}},
         E_REMOTE,
         0,
         1,
         0},
        {"no object", {{200, "[]", false}}, E_REMOTE, 0, 1, 0},
        {"no JSON", {{200, "<html>", false}}, E_REMOTE, 0, 1, 0},
        {"an error without JSON", {{404, "no", false}}, E_REMOTE, 0, 1, 0},
        {"another's answer first", {{200, ASSIGNED, true}}, OK, 0, 1, 0},
    };
    static const unsigned ways[] = {DPS_VIA_MQTT, DPS_VIA_HTTPS};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            struct dps_result r;
            struct err_info info;
            memcpy(dps.script, rows[i].script, sizeof(dps.script));
            dps.requests = dps.polls = 0;
            dps.connack = 0;
            dps.suback = 1;
            enum err e = ask(ways[k], 20000, &r, &info);
            if (e != rows[i].want || r.error_code != rows[i].code ||
                dps.requests != rows[i].requests || dps.polls != rows[i].polls) {
                fail_msg("%s, way %zu: %s, %u, %u requests, %u polls (%s)", rows[i].name, k,
                         err_name(e), r.error_code, dps.requests, dps.polls, info.why);
            }
            if (e == OK) {
                assert_string_equal(r.hub, "hub1.example");
                assert_string_equal(r.device_id, "Dev-1");
                assert_string_equal(r.substatus, "initialAssignment");
                assert_string_equal(r.via, k == 0 ? "mqtt" : "https");
            }
        }
    }
}

/* Only a transport that does not get through leads to the next one. */
static void ways(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t connack, suback;
        struct answer script[4];
        enum err want;
        unsigned https;
    } rows[] = {
        {"refused by CONNACK", 5, 1, {{200, ASSIGNED, false}}, E_UNAUTHORIZED, 0},
        {"told to try again", 3, 1, {{200, ASSIGNED, false}}, OK, 1},
        {"filter refused", 0, 0x80, {{200, ASSIGNED, false}}, OK, 1},
        {"closed instead of an answer", 0, 1, {{0, "", false}, {200, ASSIGNED, false}}, OK, 1},
        {"refused by an answer",
         0,
         1,
         {{401, REFUSED, false}, {200, ASSIGNED, false}},
         E_UNAUTHORIZED,
         0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct dps_result r;
        struct err_info info;
        memcpy(dps.script, rows[i].script, sizeof(dps.script));
        dps.requests = dps.https_requests = 0;
        dps.connack = rows[i].connack;
        dps.suback = rows[i].suback;
        enum err e = ask(DPS_VIA_MQTT | DPS_VIA_HTTPS, 20000, &r, &info);
        if (e != rows[i].want || dps.https_requests != rows[i].https) {
            fail_msg("%s: %s, %u over HTTPS (%s)", rows[i].name, err_name(e), dps.https_requests,
                     info.why);
        }
    }
}

/* An answer that is cut anywhere is no assignment. */
static void cut_answers(void **state)
{
    (void)state;
    dps.suback = 1;
    dps.script[0] = (struct answer){200, ASSIGNED, false};
    for (size_t n = 1; n < sizeof(ASSIGNED) - 1; n += 5) {
        struct dps_result r;
        struct err_info info;
        dps.body_n = n;
        assert_err(ask(n % 2 == 0 ? DPS_VIA_MQTT : DPS_VIA_HTTPS, 20000, &r, &info), E_REMOTE);
        assert_string_equal(r.hub, "");
    }
}

static void time_and_stop(void **state)
{
    (void)state;
    struct dps_result r;
    struct err_info info;
    static const atomic_int stop = 1;
    dps.suback = 1;
    dps.script[0] = (struct answer){1, "", false}; /* says nothing */
    assert_err(ask(DPS_VIA_MQTT, 700, &r, &info), E_TIMEOUT);
    dps.script[0] = (struct answer){202, ASSIGNING, false}; /* for ever */
    assert_err(ask(DPS_VIA_HTTPS, 1200, &r, &info), E_TIMEOUT);
    begin();
    assert_err(dps_register(&id, DPS_VIA_ALL, SPAN_NONE, 20000, &stop, &r, &info), E_CLOSED);
    end();
}

/* A server that cannot prove who it is, is not asked another way, and hears no token. */
static void foreign_server(void **state)
{
    (void)state;
    struct dps_result r;
    struct err_info info;
    id.ca_file = certs.other_ca;
    dps.suback = 1;
    dps.script[0] = (struct answer){200, ASSIGNED, false};
    assert_err(ask(DPS_VIA_ALL, 20000, &r, &info), E_TLS);
    assert_int_equal(dps.connects + dps.requests, 0);
    assert_non_null(strstr(info.why, "mqtt:"));
    assert_null(strstr(info.why, "https:"));
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

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        T(outcomes), T(ways), T(cut_answers), T(time_and_stop), T(foreign_server),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
