/* SPDX-License-Identifier: Apache-2.0 */
/* Threat D6: what one device may send, over every door, and what its neighbours notice of it: nothing. limits.md 2, rows 16 and 19. */
#include "hub/allowance.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/text.h"
#include "hub/hub_sql.h"
#include "hub/metrics.h"
#include "hub/session.h"
#include "hub/tests/link.h"

#define DAY_S 86400
#define BATCH "Content-Type: application/vnd.microsoft.iothub.json"
#define PATCH "$iothub/twin/PATCH/properties/reported/?$rid=1"

static int setup(void **state)
{
    link_setup(state);
    (void)bed_device("dev-1", LINK_AUTH);
    (void)bed_device("dev-2", LINK_AUTH);
    return 0;
}

static void allow(struct allowance_conf c)
{
    if (bed.hub.allowance == NULL) {
        assert_ok(allowance_new(&bed.server, &c, &bed.hub.allowance));
    } else {
        allowance_reload(bed.hub.allowance, &c);
    }
}

static int teardown(void **state)
{
    struct allowance *a = bed.hub.allowance; /* what is under way comes home to it */
    int status = link_teardown(state);
    allowance_free(a);
    return status;
}

static int64_t metric(enum hub_metric m)
{
    return (int64_t)atomic_load(&bed.worker.counters[m]);
}

static const char *events_of(const char *id)
{
    static char topic[128];
    (void)snprintf(topic, sizeof topic, "devices/%s/messages/events/", id);
    return topic;
}

/* How many of n messages are acknowledged before the link is closed. */
static unsigned acked(struct peer *p, const char *id, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        peer_publish(p, events_of(id), SPAN_LIT("0123456789"), 1, (uint16_t)(i + 1));
        if (peer_puback(p) != i + 1) {
            return i;
        }
    }
    return n;
}

static struct reply post(const char *headers, const char *body)
{
    char token[1024];
    uint8_t key[64];
    size_t n = sizeof key;
    assert_ok(base64_decode_to(SPAN_LIT(LINK_KEY), key, &n));
    bed_token(token, BED_HOST "/devices/dev-1", span_of(key, n), NULL, 60);
    return bed_ask_raw(token, "POST", "/devices/dev-1/messages/events", headers, body);
}

static unsigned post_is(const char *headers, const char *body)
{
    struct reply r = post(headers, body);
    unsigned status = r.status;
    reply_done(&r);
    return status;
}

/* limits:16: ten a day, the eleventh not, at the next UTC day again. The link ends, as the protocol has no other way to say no. */
static void messages_a_day(void **state)
{
    (void)state;
    allow((struct allowance_conf){.messages_per_day = 10});
    struct peer *a = peer_connect((struct hello){.id = "dev-1"});
    struct peer *b = peer_connect((struct hello){.id = "dev-2"});
    assert_int_equal(acked(a, "dev-1", 12), 10);
    assert_true(peer_is_closed(a));
    assert_int_equal(metric(HUB_M_QUOTA), 1);
    peer_end(a);
    a = peer_connect((struct hello){.id = "dev-1"}); /* who it is, is not what it sent */
    assert_int_equal(acked(a, "dev-1", 1), 0);
    peer_end(a);
    struct reply r = post(NULL, "x"); /* another door, the same day */
    assert_int_equal(r.status, 403);
    assert_string_equal(r.code, "IotHubQuotaExceeded");
    reply_done(&r);
    assert_int_equal(acked(b, "dev-2", 10), 10); /* its neighbour has its own */
    peer_end(b);
    assert_int_equal(link_rows(NULL, 0), 20);
    bed_advance_s(DAY_S);
    assert_int_equal(post_is(NULL, "x"), 204);
}

/* Exactly so many: a body, the names and values of its properties; a batch counts as what is in it, and whole. */
static void bytes_a_day(void **state)
{
    (void)state;
    allow((struct allowance_conf){.bytes_per_day = 100, .messages_per_day = 6});
    static const struct {
        const char *headers, *body;
        unsigned want;
    } rows[] = {
        {"iothub-app-name: value", "0123456789012345678901234567890123456789", 204},       /* 49 */
        {NULL, "0123456789012345678901234567890123456789012345678901", 403},               /* 52 */
        {BATCH, "[{\"body\":\"MDEyMzQ1Njc4OQ==\"},{\"body\":\"MDEyMzQ1Njc4OQ==\"}]", 204}, /* 20 */
        {BATCH, "[{\"body\":\"\"},{\"body\":\"\"},{\"body\":\"\"},{\"body\":\"\"}]",
         403},                                           /* 3 left */
        {NULL, "01234567890123456789012345678901", 403}, /* 32 */
        {NULL, "0123456789012345678901234567890", 204},  /* 31 */
        {NULL, "", 403},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned got = post_is(rows[i].headers, rows[i].body);
        if (got != rows[i].want) {
            fail_msg("row %zu: %u", i, got);
        }
    }
    assert_int_equal(link_rows(NULL, 0), 4);
}

/* Waits until the registry has so many messages of dev-1. */
static void on_disk(uint64_t want)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(65536);
    struct device d;
    assert_ok(registry_get(&bed.worker, &a, SPAN_LIT("dev-1"), &d));
    uint64_t end = clock_mono_ms(clock_system()) + 60000;
    for (uint64_t n = 0; n != want;) {
        int64_t day;
        uint64_t bytes;
        enum err e = hub_sql_use_get(bed.worker.db, d.identity, &day, &n, &bytes);
        assert_true(e == OK || e == E_NOT_FOUND);
        assert_true(clock_mono_ms(clock_system()) < end);
    }
}

static void again(bool in_order)
{
    struct allowance *a = bed.hub.allowance;
    if (in_order) {
        allowance_flush(&bed.hub);
    }
    bed_restart();
    bed.hub.allowance = NULL;
    allowance_free(a);
}

/* limits:19 */
static void restarts(void **state)
{
    (void)state;
    const struct allowance_conf c = {.messages_per_day = 10};
    allow(c);
    assert_int_equal(post_is(BATCH, "[{\"body\":\"\"},{\"body\":\"\"},{\"body\":\"\"}]"), 204);
    on_disk(3);
    again(true);
    allow(c);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(post_is(NULL, "x"), 204);
    }
    assert_int_equal(post_is(NULL, "x"), 403);
    on_disk(10); /* without a flush */
    again(false);
    allow(c);
    assert_int_equal(post_is(NULL, "x"), 403);
    bed_advance_s(DAY_S);
    assert_int_equal(post_is(NULL, "x"), 204);
    /* Its namesake has sent nothing. */
    allow((struct allowance_conf){.messages_per_day = 1});
    assert_int_equal(post_is(NULL, "x"), 403);
    again(true);
    struct reply r = bed_ask("iothubowner", "DELETE", "/devices/dev-1", "*", NULL);
    assert_int_equal(r.status, 204);
    reply_done(&r);
    (void)bed_device("dev-1", LINK_AUTH);
    allow((struct allowance_conf){.messages_per_day = 1});
    assert_int_equal(post_is(NULL, "x"), 204);
}

/* What a second loses is written each sixteenth of the day, without waiting for the timer. */
static void written_early(void **state)
{
    (void)state;
    const struct allowance_conf c = {.messages_per_day = 160};
    allow(c);
    for (unsigned i = 0; i < 25; i++) {
        assert_int_equal(post_is(NULL, "x"), 204);
    }
    again(false); /* forgets 5 at most */
    allow(c);
    unsigned n = 0;
    while (n < 200 && post_is(NULL, "x") == 204) {
        n++;
    }
    assert_in_range(n, 135, 150);
}

/* What was not stored was not sent. */
static void given_back(void **state)
{
    (void)state;
    link_set_disk(10); /* asked now and then only */
    while (post_is(NULL, "x") == 204) {
    }
    allow((struct allowance_conf){.messages_per_day = 10});
    for (unsigned i = 0; i < 25; i++) {
        assert_int_equal(post_is(NULL, "x"), 503);
    }
    link_set_disk(UINT64_C(1) << 40);
    uint64_t end = clock_mono_ms(clock_system()) + 60000;
    while (post_is(NULL, "x") != 204) {
        assert_true(clock_mono_ms(clock_system()) < end);
    }
    for (unsigned i = 1; i < 10; i++) {
        assert_int_equal(post_is(NULL, "x"), 204);
    }
    assert_int_equal(post_is(NULL, "x"), 403);
}

/* One floods; the other's messages pass as if it were alone, and the one is slowed down without being thrown out. */
static void rate(void **state)
{
    (void)state;
    allow((struct allowance_conf){.messages_per_s = 5});
    struct peer *a = peer_connect((struct hello){.id = "dev-1"});
    struct peer *b = peer_connect((struct hello){.id = "dev-2"});
    for (uint16_t i = 1; i <= 100; i++) {
        peer_publish(a, events_of("dev-1"), SPAN_LIT("flood"), 1, i);
    }
    assert_int_equal(acked(b, "dev-2", 5), 5);
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(peer_puback(a), i);
    }
    assert_true(peer_is_quiet(a)); /* held, and open */
    assert_int_equal(link_rows(NULL, 0), 10);
    for (unsigned second = 1; second < 4; second++) {
        bed_advance_s(1);
        for (unsigned i = 1; i <= 5; i++) {
            /* the timer of the link is of the same clock */
            while (link_rows(NULL, 0) < 10 + (second - 1) * 10 + i) {
                bed_advance_s(0);
            }
            assert_int_equal(peer_puback(a), second * 5 + i);
        }
        assert_true(peer_is_quiet(a));
        assert_int_equal(acked(b, "dev-2", 5), 5);
    }
    struct reply r = post(NULL, "x");
    assert_int_equal(r.status, 429); /* over HTTPS it is told */
    assert_string_equal(r.code, "ThrottlingException");
    assert_non_null(strstr(r.head, "Retry-After: "));
    reply_done(&r);
    assert_true(metric(HUB_M_RATE) > 0);
    peer_end(a);
    peer_end(b);
    while (directory_count(bed.hub.directory) > 0) {
        bed_advance_s(1); /* what the flood had written is taken first */
    }
    /* A batch passes whole and is paid for. */
    bed_advance_s(60);
    assert_int_equal(post_is(BATCH,
                             "[{\"body\":\"\"},{\"body\":\"\"},{\"body\":\"\"},{\"body\":\"\"},"
                             "{\"body\":\"\"},{\"body\":\"\"},{\"body\":\"\"},{\"body\":\"\"}]"),
                     204);
    assert_int_equal(post_is(NULL, "x"), 429);
    bed_advance_s(1);
    assert_int_equal(post_is(NULL, "x"), 204);
}

static void twins(void **state)
{
    (void)state;
    allow((struct allowance_conf){.bytes_per_day = 20});
    struct peer *p = peer_connect((struct hello){.id = "dev-1"});
    assert_int_equal(peer_subscribe(p, "$iothub/twin/res/#", 0), 0);
    peer_publish(p, PATCH, SPAN_LIT("[]"), 0, 0); /* refused: not counted */
    assert_non_null(strstr(peer_message(p), "twin/res/400/"));
    peer_publish(p, PATCH, SPAN_LIT("{\"a\":\"0123456789\"}"), 0, 0); /* 18 */
    assert_non_null(strstr(peer_message(p), "twin/res/204/"));
    peer_publish(p, PATCH, SPAN_LIT("{\"a\":1}"), 0, 0);
    assert_non_null(strstr(peer_message(p), "twin/res/403/?$rid=1 {\"errorCode\":403002,"));
    peer_publish(p, PATCH, SPAN_LIT("{}"), 0, 0);
    assert_non_null(strstr(peer_message(p), "twin/res/204/"));
    allow((struct allowance_conf){.messages_per_s = 2});
    peer_publish(p, PATCH, SPAN_LIT("{\"a\":1}"), 0, 0);
    assert_non_null(strstr(peer_message(p), "twin/res/204/"));
    peer_publish(p, PATCH, SPAN_LIT("{\"a\":2}"), 0, 0);
    assert_non_null(strstr(peer_message(p), "twin/res/204/"));
    peer_publish(p, PATCH, SPAN_LIT("{\"a\":3}"), 0, 0);
    assert_non_null(strstr(peer_message(p), "twin/res/429/"));
    peer_end(p);
}

/* One past the memory of a part; what is on disk makes room. */
static void metered(void **state)
{
    (void)state;
    const unsigned most = LIMIT_HUB_METERED / ALLOWANCE_SHARDS;
    struct allowance_use u;
    allow((struct allowance_conf){.messages_per_day = 1000});
    for (unsigned i = 1; i <= most; i++) {
        assert_ok(allowance_take(&bed.worker, (int64_t)i * ALLOWANCE_SHARDS, SPAN_LIT("d"), 1, 1,
                                 false, &u, NULL));
    }
    int64_t other = ((int64_t)most + 1) * ALLOWANCE_SHARDS;
    assert_err(allowance_take(&bed.worker, other, SPAN_LIT("d"), 1, 1, false, &u, NULL), E_BUSY);
    assert_ok(allowance_take(&bed.worker, other + 1, SPAN_LIT("d"), 1, 1, false, &u, NULL));
    allowance_flush(&bed.hub);
    for (uint64_t end = clock_mono_ms(clock_system()) + 60000;
         allowance_take(&bed.worker, other, SPAN_LIT("d"), 1, 1, false, &u, NULL) == E_BUSY;) {
        assert_true(clock_mono_ms(clock_system()) < end);
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(messages_a_day), T(bytes_a_day), T(restarts), T(written_early),
        T(given_back),     T(rate),        T(twins),    T(metered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
