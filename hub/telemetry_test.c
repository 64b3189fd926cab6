/* SPDX-License-Identifier: Apache-2.0 */
/* What of a message gets into the log, and what is refused: docs/protocol/hub-mqtt.md 5.3, 5.4; threat D3. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "hub/tests/link.h"

static const struct telemetry_source source = {
    .device_id = {(const uint8_t *)"dev-1", 5},
    .generation_id = {(const uint8_t *)"638", 3},
    .auth_method_json = "{\"scope\":\"device\"}",
};
#define STAMPS                                                                                     \
    "\"iothub-connection-device-id\":\"dev-1\",\"iothub-connection-auth-generation-id\":\"638\","  \
    "\"iothub-connection-auth-method\":\"{\\\"scope\\\":\\\"device\\\"}\","                        \
    "\"iothub-message-source\":\"Telemetry\""

static unsigned n_done;
static enum err last;
static void done(void *user, uint64_t tag, enum err result)
{
    (void)user;
    assert_int_equal(tag, 77);
    last = result;
    n_done++;
}

static enum err append(const struct telemetry_source *src, const struct telemetry_message *m,
                       size_t n)
{
    struct err_info info = {0};
    unsigned want = n_done + 1;
    enum err e = telemetry_begin_batch(&bed.worker, src, m, n, done, NULL, 77, &info);
    if (e == OK) {
        assert_int_equal(n_done, want - 1); /* never inside begin */
        bed_wait(&n_done, want);
        e = last;
    } else {
        assert_true(info.why[0] != 0);
    }
    assert_int_equal(hub_worker_of(&bed.worker)->n_appends, 0);
    return e;
}

static void meta(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bag, *want;
        bool retain, will;
    } rows[] = {
        {"M14: none", "", "{\"sys\":{" STAMPS "},\"app\":{}}|b", false, false},
        {"application first", "a=b&%24.mid=1",
         "{\"sys\":{\"message-id\":\"1\"," STAMPS "},\"app\":{\"a\":\"b\"}}|b", false, false},
        {"system first", "$.mid=1&a=b",
         "{\"sys\":{\"message-id\":\"1\"," STAMPS "},\"app\":{\"a\":\"b\"}}|b", false, false},
        {"M15", "a&b=&c=%", "{\"sys\":{" STAMPS "},\"app\":{\"a\":null,\"b\":\"\",\"c\":\"%\"}}|b",
         false, false},
        {"raw text", "p=a b/c:d/", "{\"sys\":{" STAMPS "},\"app\":{\"p\":\"a b/c:d\"}}|b", false,
         false},
        {"D3: stamps are the hub's", "$.cdid=evil&$.cmid=m&iothub-connection-device-id=evil",
         "{\"sys\":{" STAMPS "},\"app\":{\"iothub-connection-device-id\":\"evil\"}}|b", false,
         false},
        {"D3: out of the text", "a=%22%7d%2c%22app%22%3a%7b",
         "{\"sys\":{" STAMPS "},\"app\":{\"a\":\"\\\"},\\\"app\\\":{\"}}|b", false, false},
        {"M18: retain", "a=b",
         "{\"sys\":{" STAMPS "},\"app\":{\"a\":\"b\",\"mqtt-retain\":\"true\"}}|b", true, false},
        {"its own word counts less", "mqtt-retain=no&iothub-MessageType=x",
         "{\"sys\":{" STAMPS
         "},\"app\":{\"mqtt-retain\":\"true\",\"iothub-MessageType\":\"Will\"}}|b",
         true, true},
        {"M45", "", "{\"sys\":{" STAMPS "},\"app\":{\"iothub-MessageType\":\"Will\"}}|b", false,
         true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(arena_done) struct arena a = ARENA_INIT(65536);
        char text[4096];
        struct telemetry_message m = {
            .body = SPAN_LIT("b"), .retain = rows[i].retain, .is_will = rows[i].will};
        struct prop *p;
        size_t dropped;
        assert_ok(props_bag_read(span_str(rows[i].bag), &a, &p, &m.n_props, &dropped, NULL));
        m.props = p;
        assert_ok(append(&source, &m, 1));
        (void)link_rows(text, sizeof text);
        if (strcmp(text, rows[i].want) != 0) {
            fail_msg("%s: %s", rows[i].name, text);
        }
        bed_advance_s(1);
    }
}

static void model(void **state)
{
    (void)state;
    char text[4096];
    struct telemetry_source src = source;
    src.model_id = SPAN_LIT("dtmi:com:example:T;1");
    const struct telemetry_message m = {.body = SPAN_NONE};
    assert_ok(append(&src, &m, 1));
    (void)link_rows(text, sizeof text);
    assert_non_null(strstr(text, ",\"dt-dataschema\":\"dtmi:com:example:T;1\"},\"app\":{}}|"));
}

/* body + values of system properties + names and values of application properties */
static void size_rule(void **state)
{
    (void)state;
    static uint8_t body[LIMIT_D2C_MESSAGE];
    static const struct prop app = {
        PROP_APP, {(const uint8_t *)"name", 4}, {(const uint8_t *)"value", 5}, true};
    static const struct prop sys = {
        PROP_MESSAGE_ID, {(const uint8_t *)"message-id", 10}, {(const uint8_t *)"value", 5}, true};
    const struct {
        const struct prop *p;
        size_t n_props, n;
        enum err want;
    } rows[] = {
        {NULL, 0, LIMIT_D2C_MESSAGE, OK},
        {&app, 1, LIMIT_D2C_MESSAGE - 9, OK},
        {&app, 1, LIMIT_D2C_MESSAGE - 8, E_TOO_LARGE},
        {&sys, 1, LIMIT_D2C_MESSAGE - 5, OK},
        {&sys, 1, LIMIT_D2C_MESSAGE - 4, E_TOO_LARGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct telemetry_message m = {
            .props = rows[i].p, .n_props = rows[i].n_props, .body = span_of(body, rows[i].n)};
        assert_err(append(&source, &m, 1), rows[i].want);
    }
    const struct telemetry_message over = {.body = {body, LIMIT_D2C_MESSAGE + 1}};
    assert_err(append(&source, &over, 1), E_TOO_LARGE);
    assert_int_equal(link_rows(NULL, 0), 3);
}

static void batch(void **state)
{
    (void)state;
    static uint8_t big[LIMIT_D2C_MESSAGE + 1];
    static struct telemetry_message m[LIMIT_D2C_BATCH_MESSAGES];
    for (size_t i = 0; i < ARRAY_LEN(m); i++) {
        m[i] = (struct telemetry_message){.body = SPAN_LIT("x")};
    }
    m[ARRAY_LEN(m) - 1].body = span_of(big, sizeof big);
    assert_err(append(&source, m, ARRAY_LEN(m)), E_TOO_LARGE);
    assert_int_equal(link_rows(NULL, 0), 0); /* nothing of it */
    m[ARRAY_LEN(m) - 1].body = SPAN_LIT("the last");
    assert_ok(append(&source, m, ARRAY_LEN(m)));
    char text[4096];
    assert_int_equal(link_rows(text, sizeof text), ARRAY_LEN(m));
    assert_non_null(strstr(text, "|the last"));
    link_set_disk(10); /* asked now and then only */
    unsigned stored = 0;
    enum err e;
    while ((e = append(&source, m, 3)) == OK) {
        stored++;
    }
    assert_err(e, E_DISK_FULL);
    assert_int_equal(link_rows(NULL, 0), ARRAY_LEN(m) + 3 * stored);
}

static unsigned partition_of_last(const char *id)
{
    struct telemetry_source src = source;
    src.device_id = span_str(id);
    uint64_t before[4];
    for (unsigned p = 0; p < 4; p++) {
        before[p] = seglog_last(bed.hub.log, p, NULL);
    }
    const struct telemetry_message m = {.body = SPAN_LIT("x")};
    assert_ok(append(&src, &m, 1));
    for (unsigned p = 0; p < 4; p++) {
        if (seglog_last(bed.hub.log, p, NULL) > before[p]) {
            return p;
        }
    }
    fail_msg("nowhere");
    return 0;
}

/* The numbers are a promise to every log that exists: one device's messages keep their order over restarts and versions. */
static void partitions(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        unsigned partition;
    } rows[] = {
        {"a", 3}, {"b", 0}, {"d", 1}, {"dev-1", 0}, {"dev-4", 3},
        {"f", 2}, {"g", 2}, {"h", 3}, {"i", 1},
    };
    unsigned used = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned p = partition_of_last(rows[i].id);
        if (p != rows[i].partition) {
            fail_msg("%s: %u", rows[i].id, p);
        }
        assert_int_equal(partition_of_last(rows[i].id), p);
        used |= 1u << p;
    }
    assert_int_equal(used, 15);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, link_setup, link_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(meta), T(model), T(size_rule), T(batch), T(partitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
