/* SPDX-License-Identifier: Apache-2.0 */
/* Custom allocation and latencies without a server: threat:E1, threat:E2, docs/protocol/dps-service-rest.md B4, C5. */
#include <pthread.h>
#include <stdio.h>

#include "dps/assignment.h"
#include "dps/webhook.h"
#include "dps/webhook_sign.h"
#include "tests/unit.h"

#define OFFER SPAN_LIT("hub1.example,Hub2.example")

static void test_urls(void **state UNUSED)
{
    static const struct {
        const char *url, *host; /* NULL: refused */
    } rows[] = {
        {"https://hook.example/a?b=c", "hook.example"},
        {"HTTPS://hook.example", "hook.example"},
        {"https://hook.example:8443", "hook.example"},
        {"https://[fd00::1]:8443/", "fd00::1"},
        {"http://hook.example/", "hook.example"}, /* the settings decide */
        {"https://hook.example?x", "hook.example"},
        {"https://user:secret@hook.example/", NULL},
        {"https://hook.example@evil.example/", NULL},
        {"https://hook.example\\@evil.example/", NULL},
        {"https://hook.example#@evil.example/", NULL},
        {"https://hook.example:0/", NULL},
        {"https://hook.example:65536/", NULL},
        {"https://hook.example:x/", NULL},
        {"https://[::1", "::1"}, /* libcurl refuses it */
        {"https://[::1]x/", NULL},
        {"https://", NULL},
        {"https:///a", NULL},
        {"https://a b/", NULL},
        {"https://hook.example/\n", NULL},
        {"file:///etc/passwd", NULL},
        {"ftp://hook.example/", NULL},
        {"gopher://hook.example/", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct webhook_url u;
        bool ok = webhook_url_read(span_str(rows[i].url), &u);
        if (ok != (rows[i].host != NULL) || (ok && !span_is(u.host, rows[i].host))) {
            fail_msg("%s", rows[i].url);
        }
    }
}

static void test_allowed(void **state UNUSED)
{
    static const struct webhook_conf c = {
        .host = {SPAN_LIT("hook.example"), SPAN_LIT("*.Fleet.example")}, .n_hosts = 2};
    static const struct webhook_conf all = {.host = {SPAN_LIT("*")}, .n_hosts = 1},
                                     none = {.n_hosts = 0};
    static const struct {
        const char *host;
        bool ok;
    } rows[] = {
        {"hook.example", true},
        {"HOOK.example", true},
        {"a.hook.example", false},
        {"a.fleet.example", true},
        {"a.b.fleet.EXAMPLE", true},
        {"fleet.example", false},
        {".fleet.example", false},
        {"afleet.example", false},
        {"fleet.example.evil", false},
        {"hook.example.evil", false},
        {"", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (webhook_host_allowed(&c, span_str(rows[i].host)) != rows[i].ok) {
            fail_msg("%s", rows[i].host);
        }
        assert_false(webhook_host_allowed(&none, span_str(rows[i].host)));
        assert_true(webhook_host_allowed(&all, span_str(rows[i].host)));
    }
}

static void test_answers(void **state UNUSED)
{
    static const struct {
        const char *body;
        enum rule want;
        const char *payload, *twin;
    } rows[] = {
        {"{\"iotHubHostName\":\"HUB2.example\"}", RULE_OK, "", ""},
        {"{\"iotHubHostName\":\"hub1.example\",\"payload\":{\"a\":[1]}}", RULE_OK, "{\"a\":[1]}",
         ""},
        {"{\"iotHubHostName\":\"hub1.example\",\"payload\":[1]}", RULE_OK, "", ""},
        {"{\"iotHubHostName\":\"hub1.example\",\"payload\":\"x\"}", RULE_OK, "", ""},
        {"{\"iotHubHostName\":\"hub1.example\",\"initialTwin\":{\"tags\":{\"a\":1}}}", RULE_OK, "",
         "{\"tags\":{\"a\":1}}"},
        {"{\"iotHubHostName\":\"hub1.example\",\"initialTwin\":null,\"payload\":null}", RULE_OK, "",
         ""},
        {"{\"iotHubHostName\":\"hub1.example\",\"initialTwin\":7}", RULE_WEBHOOK_FAILED, "", ""},
        {"{\"iotHubHostName\":\"hub1.example\",\"initialTwin\":{\"tags\":{\"a.b\":1}}}",
         RULE_WEBHOOK_FAILED, "", ""},
        {"{\"iotHubHostName\":\"hub3.example\"}", RULE_WEBHOOK_FOREIGN_HUB, "", ""},
        {"{\"iotHubHostName\":\"hub1.example,Hub2.example\"}", RULE_WEBHOOK_FOREIGN_HUB, "", ""},
        {"{\"iotHubHostName\":\"hub1\"}", RULE_WEBHOOK_FOREIGN_HUB, "", ""},
        {"{\"iotHubHostName\":\"\"}", RULE_WEBHOOK_NO_HUB, "", ""},
        {"{\"iotHubHostName\":1}", RULE_WEBHOOK_NO_HUB, "", ""},
        {"{}", RULE_WEBHOOK_NO_HUB, "", ""},
        {"[]", RULE_WEBHOOK_NO_HUB, "", ""},
        {"hub1.example", RULE_WEBHOOK_NO_HUB, "", ""},
        {"", RULE_WEBHOOK_NO_HUB, "", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena a = ARENA_INIT(1u << 20);
        struct webhook_answer r = {.host = SPAN_NONE};
        struct err_info info = {0};
        enum rule rule = webhook_read_answer(span_str(rows[i].body), OFFER, &a, &r, &info);
        if (rule != rows[i].want || !span_is(r.payload, rows[i].payload) ||
            !span_is(r.initial_twin, rows[i].twin) || (rule == RULE_OK) != (r.host.n != 0)) {
            fail_msg("%s: %u %.*s %.*s", rows[i].body, rule, SPAN_ARG(r.payload),
                     SPAN_ARG(r.initial_twin));
        }
        arena_done(&a);
    }
}

static void test_breaker(void **state UNUSED)
{
    const struct span host = SPAN_LIT("hook.example"), other = SPAN_LIT("other.example");
    struct breakers *b = NULL;
    char name[32];
    assert_ok(breakers_new(&b));
    for (unsigned i = 1; i < WEBHOOK_FAILURES; i++) {
        assert_int_equal(breaker_told(b, host, false, 1000), BREAKER_SAME);
    }
    assert_int_equal(breaker_told(b, host, true, 1000), BREAKER_SAME); /* they were not in a row */
    for (unsigned i = 1; i < WEBHOOK_FAILURES; i++) {
        assert_int_equal(breaker_told(b, host, false, 1000), BREAKER_SAME);
        assert_true(breaker_may(b, host, 1000));
    }
    assert_int_equal(breaker_told(b, host, false, 1000), BREAKER_OPENED);
    assert_false(breaker_may(b, host, 1000 + WEBHOOK_OPEN_MS - 1));
    assert_true(breaker_may(b, other, 1000));
    assert_true(breaker_may(b, host, 1000 + WEBHOOK_OPEN_MS));
    assert_false(breaker_may(b, host, 1000 + WEBHOOK_OPEN_MS)); /* one probe */
    assert_int_equal(breaker_told(b, host, false, 40000), BREAKER_SAME);
    assert_false(breaker_may(b, host, 40000 + WEBHOOK_OPEN_MS - 1));
    assert_true(breaker_may(b, host, 40000 + WEBHOOK_OPEN_MS));
    assert_int_equal(breaker_told(b, host, true, 80000), BREAKER_CLOSED);
    assert_true(breaker_may(b, host, 80000));
    /* More hosts than places: the ones used last stay. */
    for (unsigned i = 0; i < 3 * WEBHOOK_BREAKERS; i++) {
        (void)snprintf(name, sizeof(name), "h%u.example", i);
        for (unsigned k = 0; k < WEBHOOK_FAILURES; k++) {
            (void)breaker_told(b, span_str(name), false, 90000 + i);
        }
        assert_false(breaker_may(b, span_str(name), 90000 + i));
    }
    assert_true(breaker_may(b, SPAN_LIT("h0.example"), 90000 + 3 * WEBHOOK_BREAKERS));
    breakers_free(b);
}

/* The MAC was computed by Python's hmac. */
static void test_signature(void **state UNUSED)
{
    struct secret root = {.n = 0}, key = {.n = 0}, other = {.n = 0};
    AUTO(buf_done) struct buf b = BUF_INIT(512);
    assert_ok(secret_set(&root, SPAN_LIT("root")));
    assert_ok(webhook_sign_key(&root, SPAN_LIT("Alloc.example"), 1, &key));
    assert_ok(webhook_sign_key(&root, SPAN_LIT("alloc.example"), 1, &other));
    assert_span(secret_span(&key), secret_span(&other));
    assert_ok(webhook_sign_key(&root, SPAN_LIT("alloc.example"), 2, &other));
    assert_false(span_eq(secret_span(&key), secret_span(&other)));
    assert_ok(webhook_sign_key(&root, SPAN_LIT("alloc2.example"), 1, &other));
    assert_false(span_eq(secret_span(&key), secret_span(&other)));
    assert_ok(webhook_sign_add(&b, &root, SPAN_LIT("alloc.example"), 1, 1795276800,
                               SPAN_LIT("{\"a\":1}")));
    assert_span(
        buf_span(&b),
        SPAN_LIT(
            "Berth-Signature: t=1795276800,k=1,v1=i8JPh/9/Fp+DXjH5CImAYo0cx0yv/tAI6iy4LKFXgsU="));
}

struct teller {
    struct breakers *b;
    unsigned n;
};

static void *tell_failures(void *arg)
{
    struct teller *k = arg;
    for (unsigned i = 0; i < 100; i++) {
        k->n += breaker_told(k->b, SPAN_LIT("one.example"), false, 1000) == BREAKER_OPENED;
    }
    return NULL;
}

static void *ask_again(void *arg)
{
    struct teller *k = arg;
    for (unsigned i = 0; i < 100; i++) {
        k->n += breaker_may(k->b, SPAN_LIT("one.example"), 1000 + WEBHOOK_OPEN_MS);
    }
    return NULL;
}

static unsigned by_four(struct breakers *b, void *(*fn)(void *))
{
    struct teller k[4];
    pthread_t thread[ARRAY_LEN(k)];
    unsigned sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(k); i++) {
        k[i] = (struct teller){.b = b};
        assert_int_equal(pthread_create(&thread[i], NULL, fn, &k[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(k); i++) {
        (void)pthread_join(thread[i], NULL);
        sum += k[i].n;
    }
    return sum;
}

/* What one worker learns of a host all know; and one of them asks it again. */
static void test_breaker_is_one_for_all(void **state UNUSED)
{
    struct breakers *b = NULL;
    assert_ok(breakers_new(&b));
    assert_int_equal(by_four(b, tell_failures), 1);
    assert_false(breaker_may(b, SPAN_LIT("one.example"), 1000 + WEBHOOK_OPEN_MS - 1));
    assert_int_equal(by_four(b, ask_again), 1);
    breakers_free(b);
}

static struct json *parse(const char *text)
{
    struct json *j = NULL;
    assert_ok(json_read(span_str(text), 1u << 20, &j, NULL));
    return j;
}

static void test_networks(void **state UNUSED)
{
    static const struct {
        const char *address;
        int64_t ms; /* to hub1; -1: no network, or it does not say */
    } rows[] = {
        {"10.1.2.3", 3}, {"10.2.0.1", 2},  {"10.2.1.1", 2},     {"11.0.0.1", 1},
        {"fd00::1", 4},  {"fd00:1::1", 5}, {"2001:db8::1", -1}, {"::ffff:10.1.2.3", 3},
        {"not.one", -1}, {"", -1},         {"10.1.2.3:80", -1},
    };
    struct arena a = ARENA_INIT(1u << 20);
    struct json *j = parse("[{\"network\":\"0.0.0.0/0\",\"latencyMs\":{\"hub1\":1}},"
                           "{\"network\":\"10.0.0.0/8\",\"latencyMs\":{\"HUB1\":2}},"
                           "{\"network\":\"10.1.0.0/16\",\"latencyMs\":{\"hub1\":3}},"
                           "{\"network\":\"fd00::/8\",\"latencyMs\":{\"hub1\":4}},"
                           "{\"network\":\"fd00:1::/33\",\"latencyMs\":{\"hub1\":5.9}}]");
    struct networks t = {.n = 0};
    assert_ok(settings_read_networks(j, &a, &t, NULL));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct latencies *l = network_of(&t, span_str(rows[i].address));
        if (latency_to(l, SPAN_LIT("hub1")) != rows[i].ms) {
            fail_msg("%s", rows[i].address);
        }
    }
    json_free(j);
    arena_done(&a);
}

/* Device over network over link record. */
static void test_geo(void **state UNUSED)
{
    static struct snapshot s;
    static const struct enr_row e = {.alloc = ALLOC_GEO};
    struct network net = {.address = {[10] = 0xff, 0xff, 10}, .bits = 104};
    struct latency by_net[] = {{SPAN_LIT("h1"), 7}}, by_device[] = {{SPAN_LIT("h0"), 1}};
    const struct latencies reports = {by_device, 1};
    net.latencies = (struct latencies){by_net, 1};
    s.n_hubs = 3;
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"h0", "h1", "h2"};
        s.hub[i].row = (struct hub_row){.fold = span_str(names[i]),
                                        .host = span_str(names[i]),
                                        .applies = true,
                                        .weight = 1,
                                        .latency_ms = i == 0 ? -1 : 10 * (int64_t)(3 - i)};
    }
    struct pick_for f = {.rid_fold = SPAN_LIT("d"), .peer = SPAN_LIT("10.9.9.9")};
    assert_span(assignment_pick(&s, &e, &f).host, SPAN_LIT("h2"));
    s.networks = (struct networks){.v = &net, .n = 1};
    assert_span(assignment_pick(&s, &e, &f).host, SPAN_LIT("h1"));
    f.reports = &reports;
    assert_span(assignment_pick(&s, &e, &f).host, SPAN_LIT("h0"));
    s.hub[0].row.is_draining = true;
    assert_span(assignment_pick(&s, &e, &f).host, SPAN_LIT("h1"));
    s.hub[1].row.is_draining = s.hub[2].row.is_draining = true;
    assert_int_equal(assignment_pick(&s, &e, &f).rule, RULE_HUB_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),      cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_answers),   cmocka_unit_test(test_breaker),
        cmocka_unit_test(test_signature), cmocka_unit_test(test_breaker_is_one_for_all),
        cmocka_unit_test(test_networks),  cmocka_unit_test(test_geo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
