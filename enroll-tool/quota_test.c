/* SPDX-License-Identifier: Apache-2.0 */
/* Threat S1: who may make how many units, until when; changed, of others, one past. */
#include "enroll-tool/quota.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit.h"

#define NOW (INT64_C(1800000000) * 1000000)
#define DAY (INT64_C(86400) * 1000000)

static struct signer_key *key[2];
static struct cert *office[2];

static int make(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct err_info info = {0};
        const struct cert_request rq = {.profile = PROFILE_ROOT_CA,
                                        .cn = SPAN_LIT("Office"),
                                        .not_before_us = NOW - DAY,
                                        .not_after_us = NOW + DAY};
        assert_ok(signer_key_generate(i == 0 ? KEY_P256 : KEY_RSA2048, &key[i]));
        assert_ok(signer_issue_now(key[i], NULL, NULL, key[i], &rq, &office[i], &info));
    }
    return 0;
}

static int done(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        signer_key_free(key[i]);
        cert_free(office[i]);
    }
    return 0;
}

static void write(struct buf *b, unsigned by)
{
    struct quota q = {(char *)(uintptr_t) "q-1", (char *)(uintptr_t) "line-1", 3, NOW, NOW + DAY};
    b->n = 0;
    assert_ok(quota_write(&q, key[by], b, NULL));
}

static void round_trip(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(QUOTA_LINE);
    for (unsigned i = 0; i < 2; i++) {
        struct quota q = {0};
        struct err_info info = {0};
        write(&b, i);
        assert_ok(quota_read(buf_span(&b), office[i], &q, NULL));
        assert_string_equal(q.id, "q-1");
        assert_string_equal(q.station, "line-1");
        assert_true(q.units == 3 && q.not_before_us == NOW && q.not_after_us == NOW + DAY);
        quota_done(&q);
        assert_err(quota_read(buf_span(&b), office[1 - i], &q, &info), E_SIGNATURE);
        assert_non_null(strstr(info.why, "another office"));
        assert_null(q.id);
    }
}

/* Each byte of it, changed or cut off: nothing of it is believed. */
static void every_byte(void **state)
{
    (void)state;
    AUTO(buf_done) struct buf b = BUF_INIT(QUOTA_LINE);
    write(&b, 0);
    for (size_t i = 0; i + 1 < b.n; i++) { /* but the line's end */
        struct quota q = {0};
        b.p[i] ^= 1;
        enum err e = quota_read(buf_span(&b), office[0], &q, NULL);
        if (e != E_SIGNATURE && e != E_MALFORMED) {
            fail_msg("byte %zu: %s", i, err_name(e));
        }
        b.p[i] ^= 1;
        assert_true(quota_read(span_of(b.p, i), office[0], &q, NULL) != OK);
    }
}

static void members(void **state)
{
    (void)state;
#define TIMES "\"notBefore\":\"2026-01-01T00:00:00Z\",\"notAfter\":\"2026-01-02T00:00:00Z\""
    static const struct {
        const char *name, *text;
        enum err want;
    } rows[] = {
        {"good", "{\"berthQuota\":1,\"id\":\"a\",\"station\":\"s\",\"units\":1," TIMES "}", OK},
        {"none", "{\"berthQuota\":1,\"id\":\"a\",\"station\":\"s\",\"units\":0," TIMES "}",
         E_MALFORMED},
        {"one past",
         "{\"berthQuota\":1,\"id\":\"a\",\"station\":\"s\",\"units\":1000000001," TIMES "}",
         E_MALFORMED},
        {"a later version",
         "{\"berthQuota\":2,\"id\":\"a\",\"station\":\"s\",\"units\":1," TIMES "}", E_MALFORMED},
        {"no id", "{\"berthQuota\":1,\"id\":\"\",\"station\":\"s\",\"units\":1," TIMES "}",
         E_MALFORMED},
        {"no name", "{\"berthQuota\":1,\"id\":\"a\",\"station\":\"a b\",\"units\":1," TIMES "}",
         E_MALFORMED},
        {"no end", "{\"berthQuota\":1,\"id\":\"a\",\"station\":\"s\",\"units\":1}", E_MALFORMED},
        {"no JSON", "units", E_MALFORMED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct quota q = {0};
        enum err e = quota_parse(span_str(rows[i].text), &q, NULL);
        if (e != rows[i].want) {
            fail_msg("%s: %s", rows[i].name, err_name(e));
        }
        quota_done(&q);
    }
}

static void may_burn(void **state)
{
    (void)state;
    const struct quota q = {(char *)(uintptr_t) "q-1", (char *)(uintptr_t) "line-1", 3, NOW,
                            NOW + DAY};
    static const struct {
        const char *name, *station;
        uint64_t used;
        int64_t at;
        enum err want;
    } rows[] = {
        {"the first", "line-1", 0, NOW, OK},
        {"the last", "line-1", 2, NOW, OK},
        {"one past", "line-1", 3, NOW, E_QUOTA},
        {"many past", "line-1", 400, NOW, E_QUOTA},
        {"another station", "line-2", 0, NOW, E_SCOPE},
        {"a part of the name", "line-", 0, NOW, E_SCOPE},
        {"too early", "line-1", 0, NOW - 1, E_EXPIRED},
        {"the last microsecond", "line-1", 0, NOW + DAY - 1, OK},
        {"over", "line-1", 0, NOW + DAY, E_EXPIRED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err_info info = {0};
        enum err e = quota_may_burn(&q, rows[i].station, rows[i].used, rows[i].at, &info);
        if (e != rows[i].want || (e != OK && info.why[0] == 0)) {
            fail_msg("%s: %s %s", rows[i].name, err_name(e), info.why);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(every_byte),
        cmocka_unit_test(members),
        cmocka_unit_test(may_burn),
    };
    return cmocka_run_group_tests(tests, make, done);
}
