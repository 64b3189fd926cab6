/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "tests/unit.h"
#include "wire/json.h"

/* --- queue ------------------------------------------------------------------------------------------- */

static struct agent a;
static struct {
    uint64_t n[2 * AGENT_QUEUE];
    size_t count, room;
} hub; /* what was given to the hub */

static enum err send_noted(void *arg, struct span body, uint64_t n)
{
    char want[32];
    assert_ptr_equal(arg, &hub);
    (void)snprintf(want, sizeof(want), "body %llu", (unsigned long long)n);
    assert_true(span_is(body, want));
    if (hub.room == 0) {
        return E_QUEUE_FULL;
    }
    hub.room--;
    hub.n[hub.count++] = n;
    return OK;
}

static int begin(void **state)
{
    (void)state;
    memset(&a, 0, sizeof(a));
    memset(&hub, 0, sizeof(hub));
    a.next_n = 1;
    hub.room = SIZE_MAX;
    return 0;
}

static int end(void **state)
{
    (void)state;
    agent_queue_done(&a);
    assert_int_equal(a.count, 0);
    return 0;
}

static void push(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char body[32];
        (void)snprintf(body, sizeof(body), "body %llu", (unsigned long long)a.next_n);
        assert_true(agent_queue_push(&a, span_dup(span_str(body))));
    }
}

static void flush(void)
{
    agent_queue_flush(&a, send_noted, &hub);
}

static void expect_sent(uint64_t first, uint64_t last)
{
    assert_int_equal(hub.count, last - first + 1);
    for (size_t i = 0; i < hub.count; i++) {
        assert_int_equal(hub.n[i], first + i);
    }
    hub.count = 0;
}

static void test_order(void **state)
{
    (void)state;
    push(3);
    flush();
    assert_int_equal(hub.count, 0); /* the hub is away */
    a.is_up = true;
    flush();
    expect_sent(1, 3);
    flush();
    assert_int_equal(hub.count, 0); /* once a link */
    push(1);
    flush();
    expect_sent(4, 4);
    agent_queue_stored(&a, 2);
    assert_int_equal(a.count, 2);
    agent_queue_stored(&a, 2); /* twice, or long gone */
    agent_queue_stored(&a, 0);
    assert_int_equal(a.count, 2);
    agent_queue_again(&a);
    flush();
    expect_sent(3, 4);
    agent_queue_stored(&a, 4);
    assert_int_equal(a.count, 0);
    agent_queue_stored(&a, 99);
}

static void test_hub_full(void **state)
{
    (void)state;
    a.is_up = true;
    push(5);
    hub.room = 2;
    flush();
    expect_sent(1, 2);
    hub.room = 10;
    flush();
    expect_sent(3, 5); /* goes on where it was held, in order */
}

static void test_drop_oldest(void **state)
{
    (void)state;
    a.is_up = true;
    push(AGENT_QUEUE);
    assert_int_equal(a.dropped, 0);
    push(3);
    assert_int_equal(a.count, AGENT_QUEUE);
    assert_int_equal(a.dropped, 3);
    flush();
    expect_sent(4, AGENT_QUEUE + 3);
    agent_queue_stored(&a, AGENT_QUEUE + 3);
    assert_int_equal(a.count, 0);
    for (int round = 0; round < 3; round++) { /* around the ring */
        push(AGENT_QUEUE / 2 + 1);
        flush();
        agent_queue_stored(&a, a.next_n - 1);
        assert_int_equal(a.count, 0);
    }
    assert_int_equal(a.dropped, 3);
    expect_sent(AGENT_QUEUE + 4, a.next_n - 1);
}

static void test_no_body(void **state)
{
    (void)state;
    assert_false(agent_queue_push(&a, NULL));
    assert_int_equal(a.count, 0);
    assert_int_equal(a.next_n, 1); /* no number is lost */
}

/* --- waiting ------------------------------------------------------------------------------------------- */

static void test_wait(void **state)
{
    (void)state;
    static const struct {
        uint64_t last, top;
    } rows[] = {
        {0, 3 * AGENT_WAIT_BASE_MS},
        {1, 3 * AGENT_WAIT_BASE_MS},
        {AGENT_WAIT_BASE_MS, 3 * AGENT_WAIT_BASE_MS},
        {10000, 30000},
        {AGENT_WAIT_MAX_MS, AGENT_WAIT_MAX_MS},
        {UINT64_C(1) << 40, AGENT_WAIT_MAX_MS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t low = UINT64_MAX, high = 0;
        for (int k = 0; k < 2000; k++) {
            uint64_t w = agent_next_wait(rows[i].last);
            low = MIN(low, w);
            high = MAX(high, w);
        }
        assert_true(low >= AGENT_WAIT_BASE_MS && high <= rows[i].top);
        /* spread over the whole range */
        assert_true(low < AGENT_WAIT_BASE_MS + (rows[i].top - AGENT_WAIT_BASE_MS) / 4);
        assert_true(high > rows[i].top - (rows[i].top - AGENT_WAIT_BASE_MS) / 4);
    }
}

/* --- what it tells ---------------------------------------------------------------------------------------- */

static void test_measure(void **state)
{
    (void)state;
    AUTO(json_free_p) struct json *j = NULL;
    AUTO(mem_free_p) char *text = agent_measure(UINT64_C(12345678901));
    assert_ok(json_read_object(span_str(text), 4096, &j, NULL));
    assert_int_equal(json_int(json_get(j, "n")), INT64_C(12345678901));
    assert_true(json_int(json_get(j, "uptime")) > 0);
    assert_true(json_int(json_get(j, "memoryFreeKb")) > 0);
    assert_non_null(json_get(j, "load1"));
}

static void test_describe(void **state)
{
    (void)state;
    AUTO(json_free_p) struct json *j = NULL;
    a.boot = 7;
    a.interval_s = 30;
    AUTO(mem_free_p) char *text = agent_describe(&a);
    assert_ok(json_read_object(span_str(text), 4096, &j, NULL));
    const struct json *about = json_get(j, "agent");
    assert_span(json_str(json_get(about, "version")), SPAN_LIT(PACKAGE_VERSION));
    assert_int_equal(json_int(json_get(about, "boots")), 7);
    assert_int_equal(json_int(json_get(about, "telemetryInterval")), 30);
    assert_span(json_str(json_get(about, "system")), SPAN_LIT("Linux"));
}

/* --- starting ------------------------------------------------------------------------------------------------ */

static char dir[] = "/tmp/berth-agent-XXXXXX";

static int make_dir(void **state)
{
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    return mkdtemp(dir) != NULL ? begin(state) : -1;
}

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static unsigned at;
    char *p = path[at++ % 4];
    (void)snprintf(p, 128, "%s/%s", dir, name);
    return p;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *const files[] = {"id/factory/ca.pem",
                                        "id/factory/key",
                                        "id/factory/identity.json",
                                        "state/boots",
                                        "state/assignment.json",
                                        "id/factory",
                                        "id",
                                        "state"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)remove(in_dir(files[i]));
    }
    return rmdir(dir);
}

static void start(enum err want, uint64_t boot, const char *hub_name)
{
    static atomic_int stop = 1;
    static char id[128], st[128];
    struct err_info info = {0};
    (void)snprintf(id, sizeof(id), "%s", in_dir("id"));
    (void)snprintf(st, sizeof(st), "%s", in_dir("state"));
    const struct agent_conf conf = {.identity_dir = id, .state_dir = st, .telemetry_s = 60};
    struct agent *x = NEW(struct agent);
    enum err e = agent_start(x, &conf, &stop, &info);
    if (e != want) {
        fail_msg("%s: %s", err_name(e), info.why);
    }
    if (e == OK) {
        assert_int_equal(x->boot, boot);
        assert_true((x->at.hub == NULL) == (hub_name == NULL));
        if (hub_name != NULL) {
            assert_string_equal(x->at.hub, hub_name);
        }
        agent_run(x); /* told to stop: touches no network */
    }
    agent_finish(x);
    free(x);
}

static void test_start(void **state)
{
    (void)state;
    const struct burn b = {
        .serial = "S",
        .registration_id = "s",
        .id_scope = "0ne1",
        .dps_host = "dps.example",
        .kind = ATTEST_SYMMETRIC_KEY,
        .key_base64 = SPAN_LIT("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        .ca_pem = SPAN_LIT("ca"),
    };
    struct assignment as = {span_dup(SPAN_LIT("hub1")), span_dup(SPAN_LIT("s")), 1};
    start(E_NOT_FOUND, 0, NULL); /* no identity, and no state folder is made */
    assert_false(fs_exists(in_dir("state")));
    assert_ok(identity_burn(in_dir("id"), &b, NULL));
    start(OK, 1, NULL);
    assert_ok(assignment_save(in_dir("state"), &as, NULL));
    start(OK, 2, "hub1");
    (void)unlink(in_dir("state/assignment.json"));
    assert_ok(fs_write_atomic(in_dir("state/assignment.json"), SPAN_LIT("{"), 0600, NULL));
    start(OK, 3, NULL); /* damaged: registers again */
    assert_ok(fs_write_atomic(in_dir("state/boots"), SPAN_LIT("x"), 0600, NULL));
    start(OK, 1, NULL);
    assignment_done(&as);
}

/* Only literal addresses with a port, each name once (threat E3). */
static void test_targets(void **state)
{
    (void)state;
    static const char *const good[][4] = {
        {"ssh", "127.0.0.1:22", "127.0.0.1", "22"},
        {"web", "[::1]:8080", "::1", "8080"},
        {"vnc", "10.1.2.3:65535", "10.1.2.3", "65535"},
    };
    static const char *const bad[][2] = {
        {"x", "localhost:22"},    {"x", "127.0.0.1"}, {"x", "127.0.0.1:"},  {"x", "127.0.0.1:0"},
        {"x", "127.0.0.1:65536"}, {"x", ":22"},       {"x", "[::1:22"},     {"x", "127.0.0.1:22x"},
        {"x", "127.1:22"},        {"x", ""},          {"", "127.0.0.1:22"}, {"ssh", "127.0.0.1:22"},
        {"x", "[127.0.0.1"},      {"x", "::1:22"},    {"x", "[::1]22"},
    };
    struct agent_targets t = {.n = 0};
    struct err_info info;
    char port[8], name[80];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_ok(agent_target_add(&t, span_str(good[i][0]), span_str(good[i][1]), &info));
        assert_string_equal(t.at[i].name, good[i][0]);
        assert_string_equal(t.at[i].address, good[i][2]);
        (void)snprintf(port, sizeof(port), "%u", t.at[i].port);
        assert_string_equal(port, good[i][3]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_err(agent_target_add(&t, span_str(bad[i][0]), span_str(bad[i][1]), &info), E_CONFIG);
    }
    memset(name, 'n', sizeof(name));
    assert_err(agent_target_add(&t, span_of(name, 65), SPAN_LIT("127.0.0.1:1"), &info), E_CONFIG);
    for (unsigned i = 0; t.n < AGENT_TARGETS; i++) {
        assert_ok(agent_target_add(&t, span_of(name, i + 1), SPAN_LIT("127.0.0.1:1"), &info));
    }
    assert_err(agent_target_add(&t, SPAN_LIT("one-more"), SPAN_LIT("127.0.0.1:1"), &info),
               E_CONFIG);
}

/* What only encrypted connections may reach (threat E10). */
static void test_sealed_targets(void **state)
{
    (void)state;
    struct agent_targets t = {.n = 0};
    struct err_info info;
    assert_ok(agent_target_seal(&t, SPAN_LIT("ssh"), SPAN_LIT("required"), &info));
    assert_err(agent_targets_check(&t, true, &info), E_CONFIG); /* to where? */
    assert_ok(agent_target_add(&t, SPAN_LIT("ssh"), SPAN_LIT("127.0.0.1:22"), &info));
    assert_ok(agent_target_add(&t, SPAN_LIT("web"), SPAN_LIT("127.0.0.1:80"), &info));
    assert_ok(agent_target_seal(&t, SPAN_LIT("web"), SPAN_LIT("offered"), &info));
    assert_ok(agent_targets_check(&t, true, &info));
    assert_true(agent_target_find(&t, SPAN_LIT("ssh"))->must_be_sealed);
    assert_false(agent_target_find(&t, SPAN_LIT("web"))->must_be_sealed);
    assert_err(agent_targets_check(&t, false, &info), E_CONFIG);
    assert_err(agent_target_seal(&t, SPAN_LIT("web"), SPAN_LIT("yes"), &info), E_CONFIG);
    assert_err(agent_target_seal(&t, SPAN_LIT(""), SPAN_LIT("required"), &info), E_CONFIG);
    assert_null(agent_target_find(&t, SPAN_LIT("vnc")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, begin, end),
        cmocka_unit_test_setup_teardown(test_hub_full, begin, end),
        cmocka_unit_test_setup_teardown(test_drop_oldest, begin, end),
        cmocka_unit_test_setup_teardown(test_no_body, begin, end),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_sealed_targets),
        cmocka_unit_test(test_wait),
        cmocka_unit_test(test_measure),
        cmocka_unit_test_setup_teardown(test_describe, begin, end),
        cmocka_unit_test_setup_teardown(test_start, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
