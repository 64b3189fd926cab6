/* SPDX-License-Identifier: Apache-2.0 */
/* Every error has its code, name and status on both faces: docs/protocol/hub-service-rest.md 3.4, hub-mqtt.md 7.2. */
#include "tests/unit.h"

#include "hub/hub.h"
#include "wire/json.h"

static void every_error(void **state)
{
    (void)state;
    for (int i = 1; i < ERR_COUNT; i++) {
        enum err e = (enum err)i;
        uint32_t code = hub_code_of(e);
        struct err_info info = {0};
        struct json *j = NULL;
        AUTO(buf_done) struct buf b = BUF_INIT(4096);
        (void)err_set(&info, e, "secret path /var/lib/x \"quoted\"");
        if (hub_code_name(code) == NULL) {
            fail_msg("%s: no name for %u", err_name(e), code);
        }
        unsigned status = hub_mqtt_error(e, &info, &b);
        assert_in_range(status, 400, 504);
        assert_true(status == code / 1000 || e == E_TIMEOUT);
        assert_ok(json_read_object(buf_span(&b), 4096, &j, &info));
        assert_int_equal(json_int(json_get(j, "errorCode")), code);
        assert_true(json_str(json_get(j, "message")).n != 0);
        assert_int_equal(json_str(json_get(j, "trackingId")).n, 32 + 11 + 19);
        assert_int_equal(json_str(json_get(j, "timestampUtc")).n, 28);
        /* what is ours stays with us */
        bool is_told = memmem(b.p, b.n, "secret", 6) != NULL;
        assert_false(is_told && err_class(e) != ERR_T_PEER);
        json_free(j);
    }
}

static void known_rows(void **state)
{
    (void)state;
    static const struct {
        enum err e;
        uint32_t code;
        const char *name;
    } rows[] = {
        {E_ARG, 400004, "ArgumentInvalid"},
        {E_ARG_NULL, 400005, "ArgumentNull"},
        {E_JSON, 400006, "IotHubFormatError"},
        {E_VERSION, 400001, "InvalidProtocolVersion"},
        {E_UNAUTHORIZED, 401002, "IotHubUnauthorizedAccess"},
        {E_DISABLED, 401002, "IotHubUnauthorizedAccess"},
        {E_NOT_FOUND, 404001, "DeviceNotFound"},
        {E_NO_ROUTE, 404000, "GenericNotFound"},
        {E_METHOD, 405000, "GenericMethodNotAllowed"},
        {E_EXISTS, 409001, "DeviceAlreadyExists"},
        {E_OWNED, 409001, "DeviceAlreadyExists"},
        {E_ETAG, 412001, "PreconditionFailed"},
        {E_TOO_LARGE, 413001, "MessageTooLarge"},
        {E_THROTTLED, 429001, "ThrottlingException"},
        {E_BUG, 500001, "ServerError"},
        {E_DISK_FULL, 503001, "ServiceUnavailable"},
        {E_BUSY, 503005, "ServerBusy"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(hub_code_of(rows[i].e), rows[i].code);
        assert_string_equal(hub_code_name(rows[i].code), rows[i].name);
    }
    assert_null(hub_code_name(123456));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_error), cmocka_unit_test(known_rows)};
    return cmocka_run_group_tests_name("face", tests, NULL, NULL);
}
