/* SPDX-License-Identifier: Apache-2.0 */
/* Devices over HTTPS: docs/protocol/hub-https.md 2, 3, rows H2 to H9, H17, H24, H28, H30. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/text.h"
#include "hub/tests/link.h"

#define EVENTS "/devices/dev-1/messages/events"
#define BATCH "Content-Type: application/vnd.microsoft.iothub.json"

static int setup(void **state)
{
    link_setup(state);
    (void)bed_device("dev-1", LINK_AUTH);
    return 0;
}

static struct reply ask(const char *sr, const char *method, const char *path, const char *headers,
                        const char *body)
{
    char token[1024];
    uint8_t key[64];
    size_t n = sizeof key;
    assert_ok(base64_decode_to(SPAN_LIT(LINK_KEY), key, &n));
    bed_token(token, sr, span_of(key, n), NULL, 60);
    return bed_ask_raw(sr[0] != 0 ? token : NULL, method, path, headers, body);
}

static unsigned status(const char *method, const char *path, const char *headers, const char *body)
{
    struct reply r = ask(BED_HOST "/devices/dev-1", method, path, headers, body);
    unsigned got = r.status;
    reply_done(&r);
    return got;
}

static void events(void **state)
{
    (void)state;
    static const struct {
        const char *name, *path, *headers, *want;
    } rows[] = {
        {"none", EVENTS, NULL, "\"Telemetry\"},\"app\":{}}|x"},
        {"H2: case", "/Devices/dev-1/Messages/Events", NULL, "},\"app\":{}}|x"},
        {"H4: system", EVENTS, "iothub-messageid: m1\r\nIoTHub-CorrelationId: c1",
         "{\"sys\":{\"message-id\":\"m1\",\"correlation-id\":\"c1\",\"iothub-conn"},
        {"H4: application", EVENTS, "iothub-app-Alert: a b%20",
         "\"app\":{\"Alert\":\"a b%20\"}}|x"},
        {"H5: the path", EVENTS, "iothub-to: /devices/dev-1/messages/events",
         "{\"sys\":{\"iothub-connection-device-id\":\"dev-1\""},
        {"H5: other text", EVENTS, "iothub-to: elsewhere", "{\"sys\":{\"to\":\"elsewhere\","},
        {"the last of equal ones", EVENTS, "iothub-messageid: m1\r\nIOTHUB-MESSAGEID: m2",
         "{\"sys\":{\"message-id\":\"m2\",\"iothub-conn"},
        {"the same of applications", EVENTS, "iothub-app-a: 1\r\nIoTHub-App-a: 2",
         "\"app\":{\"a\":\"2\"}}|x"},
        {"D3: the hub's own", EVENTS, "iothub-app-iothub-connection-device-id: dev-2",
         "\"app\":{\"iothub-connection-device-id\":\"dev-2\"}}|x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char last[4096];
        unsigned got = status("POST", rows[i].path, rows[i].headers, "x");
        (void)link_rows(last, sizeof last);
        if (got != 204 || strstr(last, rows[i].want) == NULL) {
            fail_msg("%s: %u %s", rows[i].name, got, last);
        }
        bed_advance_s(1);
    }
}

/* H6: nothing is stored when one of them is refused. */
static void batches(void **state)
{
    (void)state;
    static char many[500000];
    static const struct {
        const char *name, *body;
        unsigned status, rows;
    } rows[] = {
        {"base64", "[{\"body\":\"eA==\"}]", 204, 1},
        {"explicit", "[{\"body\":\"eA==\",\"base64Encoded\":true}]", 204, 1},
        {"text", "[{\"body\":\"x\",\"base64Encoded\":false},{\"body\":\"eQ==\"}]", 204, 2},
        {"no body", "[{\"body\":\"eA==\"},{\"properties\":{}}]", 400, 0},
        {"bad base64", "[{\"body\":\"eA==\"},{\"body\":\"!\"}]", 400, 0},
        {"no object", "[1]", 400, 0},
        {"no array", "{}", 400, 0},
        {"no JSON", "[", 400, 0},
        {"properties no object", "[{\"body\":\"\",\"properties\":[]}]", 400, 0},
        {"none", "[]", 204, 0},
        {"500", "+500", 204, 500},
        {"501", "+501", 413, 0},
        {"equal ones",
         "[{\"body\":\"eA==\",\"properties\":{\"iothub-messageid\":\"1\",\"IoTHub-MessageId\":"
         "\"2\","
         "\"iothub-app-a\":\"q\\\"\"}}]",
         204, 1},
    };
    unsigned before = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *body = rows[i].body;
        if (body[0] == '+') {
            unsigned count = (unsigned)strtoul(body + 1, NULL, 10);
            size_t at = 0;
            for (unsigned k = 0; k < count; k++) {
                at += (size_t)snprintf(many + at, sizeof many - at, "%c{\"body\":\"eA==\"}",
                                       k == 0 ? '[' : ',');
            }
            (void)snprintf(many + at, sizeof many - at, "]");
            body = many;
        }
        char last[4096];
        unsigned got = status("POST", EVENTS, BATCH, body);
        unsigned now = link_rows(last, sizeof last);
        if (got != rows[i].status || now - before != rows[i].rows) {
            fail_msg("%s: %u, %u rows", rows[i].name, got, now - before);
        }
        before = now;
        if (i + 1 == ARRAY_LEN(rows)) {
            assert_non_null(strstr(last, "{\"sys\":{\"message-id\":\"2\",\"iothub-conn"));
            assert_non_null(strstr(last, "\"app\":{\"a\":\"q\\\"\"}}|x"));
        }
        bed_advance_s(1);
    }
}

static void sizes(void **state)
{
    (void)state;
    char *body = malloc(LIMIT_D2C_MESSAGE + 2);
    memset(body, 'x', LIMIT_D2C_MESSAGE + 1);
    body[LIMIT_D2C_MESSAGE + 1] = 0;
    assert_int_equal(status("POST", EVENTS, NULL, body), 413); /* H7 */
    assert_int_equal(link_rows(NULL, 0), 0);
    body[LIMIT_D2C_MESSAGE] = 0;
    assert_int_equal(status("POST", EVENTS, NULL, body), 204);
    assert_int_equal(link_rows(NULL, 0), 1);
    free(body);
}

static void refusals(void **state)
{
    (void)state;
    (void)bed_device("off", NULL);
    struct reply r =
        bed_ask("iothubowner", "PUT", "/devices/off", "*",
                "{\"deviceId\":\"off\",\"status\":\"disabled\",\"authentication\":" LINK_AUTH "}");
    reply_done(&r);
    static const struct {
        const char *name, *sr, *method, *path;
        unsigned status;
    } rows[] = {
        {"H17: none", "", "POST", EVENTS, 401},
        {"H17: another's", BED_HOST "/devices/dev-2", "POST", EVENTS, 401},
        {"unknown", BED_HOST "/devices/dev-9", "POST", "/devices/dev-9/messages/events", 401},
        {"H30: disabled", BED_HOST "/devices/off", "POST", "/devices/off/messages/events", 401},
        {"id that is none", BED_HOST "/devices/a b", "POST", "/devices/a%20b/messages/events", 401},
        {"version", BED_HOST "/devices/dev-1", "POST", EVENTS "?api-version=x", 400},
        {"H24: method", BED_HOST "/devices/dev-1", "PUT", EVENTS, 405},
        {"H24: path", BED_HOST "/devices/dev-1", "POST", "/devices/dev-1/messages/nothing", 404},
        {"H9", BED_HOST "/devices/dev-1", "GET", "/devices/dev-1/messages/devicebound", 204},
        {"H13: no such lock", BED_HOST "/devices/dev-1", "DELETE",
         "/devices/dev-1/messages/devicebound/x", 412},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool has_body = strcmp(rows[i].method, "POST") == 0 || strcmp(rows[i].method, "PUT") == 0;
        r = ask(rows[i].sr, rows[i].method, rows[i].path, NULL, has_body ? "x" : NULL);
        if (r.status != rows[i].status) {
            fail_msg("%s: %u", rows[i].name, r.status);
        }
        reply_done(&r);
    }
    assert_int_equal(link_rows(NULL, 0), 0);
}

/* H28 */
static void beside_mqtt(void **state)
{
    (void)state;
    struct peer *p = peer_connect((struct hello){.id = "dev-1"});
    assert_int_equal(status("POST", EVENTS, NULL, "x"), 204);
    assert_true(peer_is_quiet(p));
    peer_end(p);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, link_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(events), T(batches), T(sizes), T(refusals), T(beside_mqtt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
