/* SPDX-License-Identifier: Apache-2.0 */
/* The rules without a server: leaf names, allocation, rates, etags, bodies, and registrations on a real store. */
#include <pthread.h>
#include <stdio.h>

#include "certs/signer.h"
#include "dps/assignment.h"
#include "dps/backlog.h"
#include "certs/leaf.h"
#include "dps/registration.h"
#include "dps/throttle.h"
#include "tests/unit.h"

/* --- leaf ------------------------------------------------------------------------------------------ */

static struct cert *self_signed(const char *cn)
{
    struct err_info info = {0};
    struct signer_key *key = NULL;
    struct cert *c = NULL;
    const struct cert_request rq = {.profile = PROFILE_DEVICE,
                                    .cn = span_str(cn),
                                    .not_before_us = 1767225600000000, /* 2026-01-01 */
                                    .not_after_us =
                                        2556144000000000}; /* 2051-01-01: GeneralizedTime */
    assert_ok(signer_key_generate(KEY_P256, &key));
    assert_ok(signer_issue_now(key, NULL, NULL, NULL, &rq, &c, &info));
    signer_key_free(key);
    return c;
}

static void test_leaf(void **state UNUSED)
{
    struct leaf l;
    struct cert *c = self_signed("dev-1");
    assert_ok(leaf_read(cert_der(c), &l, NULL));
    assert_span(l.cn, SPAN_LIT("dev-1"));
    assert_int_equal(l.not_before_s, 1767225600);
    assert_int_equal(l.not_after_s, 2556144000);
    /* Cut anywhere it is refused, never read behind its end. */
    struct span der = cert_der(c);
    for (size_t n = 0; n < der.n; n++) {
        uint8_t *exact = mem_new(n + 1);
        memcpy(exact, der.p, n);
        assert_err(leaf_read(span_of(exact, n), &l, NULL), E_CERT);
        mem_free_p(&exact);
    }
    cert_free(c);
}

/* SEQUENCE { tbs { serial, alg, issuer, validity, subject } }, as far as leaf_read looks. */
static enum err read_subject(struct span subject, struct leaf *ret)
{
    static const uint8_t front[] = {0x02, 0x01, 0x01, 0x30, 0x00, 0x30, 0x00, 0x30, 0x1e};
    static const char dates[] = "\x17\x0d"
                                "260101000000Z"
                                "\x17\x0d"
                                "270101000000Z";
    static uint8_t der[512];
    size_t n = sizeof(front) + sizeof(dates) - 1 + 2 + subject.n;
    assert_true(n < 120);
    uint8_t *p = der;
    *p++ = 0x30;
    *p++ = (uint8_t)(n + 2);
    *p++ = 0x30;
    *p++ = (uint8_t)n;
    memcpy(p, front, sizeof(front));
    p += sizeof(front);
    memcpy(p, dates, sizeof(dates) - 1);
    p += sizeof(dates) - 1;
    *p++ = 0x30;
    *p++ = (uint8_t)subject.n;
    memcpy(p, subject.p, subject.n);
    return leaf_read(span_of(der, n + 4), ret, NULL);
}

static void test_leaf_subjects(void **state UNUSED)
{
    static const struct {
        const char *name;
        struct span subject;
        enum err want;
    } rows[] = {
        {"UTF8",
         SPAN_LIT("\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01"
                  "a"),
         OK},
        {"printable",
         SPAN_LIT("\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x13\x01"
                  "a"),
         OK},
        {"BMP",
         SPAN_LIT("\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x1e\x02\x00"
                  "a"),
         E_CERT},
        {"dps-device:D26 none", SPAN_LIT(""), E_CERT},
        {"another attribute",
         SPAN_LIT("\x31\x0a\x30\x08\x06\x03\x55\x04\x0a\x0c\x01"
                  "a"),
         E_CERT},
        {"two",
         SPAN_LIT("\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01"
                  "a"
                  "\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01"
                  "b"),
         E_CERT},
        {"NUL",
         SPAN_LIT("\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02"
                  "a\x00"),
         E_CERT},
        {"empty", SPAN_LIT("\x31\x09\x30\x07\x06\x03\x55\x04\x03\x0c\x00"), E_CERT},
        {"too long inside",
         SPAN_LIT("\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x05"
                  "a"),
         E_CERT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct leaf l;
        enum err e = read_subject(rows[i].subject, &l);
        if (e != rows[i].want) {
            fail_msg("%s: %s", rows[i].name, err_name(e));
        }
    }
}

/* --- allocation ---------------------------------------------------------------------------------------- */

static struct snapshot snap;

static void set_hub(size_t i, const char *host, uint16_t weight, bool applies, int64_t latency_ms)
{
    snap.hub[i].row = (struct hub_row){.fold = span_str(host),
                                       .host = span_str(host),
                                       .port = 443,
                                       .applies = applies,
                                       .weight = weight,
                                       .latency_ms = latency_ms};
    snap.n_hubs = MAX(snap.n_hubs, i + 1);
}

static struct span pick(const struct enr_row *e, unsigned n)
{
    char rid[32];
    (void)snprintf(rid, sizeof(rid), "device-%u", n);
    const struct pick_for f = {.rid_fold = span_str(rid)};
    return assignment_pick(&snap, e, &f).host;
}

/* dps-service:G10: weights 1:3 over 10,000 ids give 25 % +- 2 %; a further hub moves no device between the old ones. */
static void test_hashed(void **state UNUSED)
{
    static const struct enr_row e = {.alloc = ALLOC_HASHED};
    unsigned first = 0, moved = 0, taken = 0;
    snap = (struct snapshot){.alloc = ALLOC_HASHED};
    set_hub(0, "h1.example", 1, true, -1);
    set_hub(1, "h2.example", 3, true, -1);
    for (unsigned i = 0; i < 10000; i++) {
        first += span_is(pick(&e, i), "h1.example");
    }
    assert_in_range(first, 2300, 2700);
    for (unsigned i = 0; i < 2000; i++) {
        snap.n_hubs = 2;
        struct span before = pick(&e, i);
        set_hub(2, "h3.example", 4, true, -1);
        struct span after = pick(&e, i);
        taken += span_is(after, "h3.example");
        moved += !span_is(after, "h3.example") && !span_eq(before, after);
    }
    assert_int_equal(moved, 0);
    assert_in_range(taken, 900, 1100);
}

static void test_allocation(void **state UNUSED)
{
    static const struct {
        const char *name;
        struct enr_row e;
        enum enr_alloc instance;
        const char *host; /* NULL: code */
        unsigned code;
    } rows[] = {
        {"static, first of several",
         {.alloc = ALLOC_STATIC, .hubs = SPAN_LIT("far,near")},
         ALLOC_HASHED,
         "far",
         0},
        {"static, none", {.alloc = ALLOC_STATIC}, ALLOC_HASHED, NULL, 400208},
        {"static, not linked",
         {.alloc = ALLOC_STATIC, .hubs = SPAN_LIT("gone")},
         ALLOC_HASHED,
         NULL,
         400208},
        {"legacy host", {.hub_host = SPAN_LIT("NEAR")}, ALLOC_HASHED, "near", 0},
        {"policy wins over the legacy host",
         {.alloc = ALLOC_GEO, .hub_host = SPAN_LIT("far")},
         ALLOC_HASHED,
         "near",
         0},
        {"least latency", {.alloc = ALLOC_GEO}, ALLOC_HASHED, "near", 0},
        {"of the instance", {.alloc = ALLOC_NONE}, ALLOC_GEO, "near", 0},
        {"only among iotHubs",
         {.alloc = ALLOC_HASHED, .hubs = SPAN_LIT("far")},
         ALLOC_HASHED,
         "far",
         0},
        {"left out of the allocation",
         {.alloc = ALLOC_HASHED, .hubs = SPAN_LIT("shy")},
         ALLOC_HASHED,
         NULL,
         400208},
        {"static may name it",
         {.alloc = ALLOC_STATIC, .hubs = SPAN_LIT("shy")},
         ALLOC_HASHED,
         "shy",
         0},
    };
    snap = (struct snapshot){.alloc = ALLOC_HASHED};
    set_hub(0, "far", 1000, true, 80);
    set_hub(1, "near", 1, true, 3);
    set_hub(2, "shy", 1, false, 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snap.alloc = rows[i].instance;
        const struct pick_for f = {.rid_fold = SPAN_LIT("d")};
        struct pick p = assignment_pick(&snap, &rows[i].e, &f);
        bool ok = rows[i].host != NULL ? span_is(p.host, rows[i].host) && p.rule == RULE_OK
                                       : p.host.n == 0 && rule_code(p.rule) == rows[i].code;
        if (!ok) {
            fail_msg("%s: %.*s %u", rows[i].name, SPAN_ARG(p.host), rule_code(p.rule));
        }
    }
}

/* --- rates, etags, bodies -------------------------------------------------------------------------------- */

static void test_throttle(void **state UNUSED)
{
    static const struct throttle_rule rule = {THROTTLE_REGISTER, 3, 1000, 0},
                                      other = {THROTTLE_POLL, 1, 1000, 0};
    struct throttle *t = NULL;
    struct span id = SPAN_LIT("dev");
    assert_ok(throttle_new(&t));
    for (unsigned i = 0; i < 3; i++) {
        assert_true(throttle_take(t, &rule, id, SPAN_NONE, 5000));
    }
    assert_int_equal(throttle_wait_ms(t, &rule, id, SPAN_NONE, 5000), 1000);
    assert_false(throttle_take(t, &rule, id, SPAN_NONE, 5999)); /* dps-device:D33 */
    assert_true(throttle_take(t, &rule, id, SPAN_NONE, 6000));
    assert_false(throttle_take(t, &rule, id, SPAN_NONE, 6000));
    assert_true(throttle_take(t, &rule, SPAN_LIT("dev2"), SPAN_NONE, 6000));
    assert_true(throttle_take(t, &rule, id, SPAN_LIT("10.0.0.1"), 6000));
    assert_true(throttle_take(t, &other, id, SPAN_NONE, 6000));
    assert_false(throttle_take(t, &other, id, SPAN_NONE, 6000));
    throttle_free(t);
}

/* limits:15. The workers share one count: many connections of a device do not multiply its bound. */
#define WORKERS 4
#define IDS 50
struct taker {
    struct throttle *t;
    unsigned taken[IDS];
};

static void *take_all(void *arg)
{
    static const struct throttle_rule rule = {THROTTLE_REGISTER, 10, 1000, 0};
    struct taker *k = arg;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < IDS; i++) {
            char id[16];
            (void)snprintf(id, sizeof(id), "dev-%u", i);
            k->taken[i] += throttle_take(k->t, &rule, span_str(id), SPAN_NONE, 5000);
        }
    }
    return NULL;
}

static void test_throttle_is_one_for_all(void **state UNUSED)
{
    static struct taker k[WORKERS];
    struct throttle *t = NULL;
    pthread_t thread[WORKERS];
    assert_ok(throttle_new(&t));
    for (size_t i = 0; i < WORKERS; i++) {
        k[i] = (struct taker){.t = t};
        assert_int_equal(pthread_create(&thread[i], NULL, take_all, &k[i]), 0);
    }
    for (size_t i = 0; i < WORKERS; i++) {
        (void)pthread_join(thread[i], NULL);
    }
    for (unsigned i = 0; i < IDS; i++) {
        unsigned sum = 0;
        for (size_t n = 0; n < WORKERS; n++) {
            sum += k[n].taken[i];
        }
        assert_int_equal(sum, 10);
    }
    throttle_free(t);
}

/* threat:N3 who fails again and again waits longer each time, up to a bound, until it was quiet for a while. */
static void test_throttle_grows(void **state UNUSED)
{
    static const struct throttle_rule rule = {THROTTLE_FAILED, 2, 1000, 8000};
    static const uint64_t want_ms[] = {0, 0, 1000, 2000, 4000, 8000, 8000, 8000};
    struct throttle *t = NULL;
    struct span id = SPAN_LIT("dev"), from = SPAN_LIT("10.0.0.1");
    uint64_t now_ms = 5000;
    assert_ok(throttle_new(&t));
    for (size_t i = 0; i < ARRAY_LEN(want_ms); i++) {
        assert_int_equal(throttle_wait_ms(t, &rule, id, from, now_ms), want_ms[i]);
        assert_int_equal(throttle_take(t, &rule, id, from, now_ms), want_ms[i] == 0);
        now_ms += want_ms[i];
        assert_true(want_ms[i] == 0 || throttle_take(t, &rule, id, from, now_ms));
    }
    assert_int_equal(throttle_wait_ms(t, &rule, id, SPAN_LIT("10.0.0.2"), now_ms), 0);
    now_ms += 100000;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(throttle_wait_ms(t, &rule, id, from, now_ms), want_ms[i]);
        (void)throttle_take(t, &rule, id, from, now_ms);
    }
    throttle_free(t);
}

/* The place in the queue, from the second of the beginning; the rate, from what ended while some were waiting. */
static void test_backlog(void **state UNUSED)
{
    const int64_t S = 1000000;
    static struct backlog b;
    backlog_init(&b);
    assert_int_equal(backlog_wait_s(&b, 0, 7), BACKLOG_LEAST_S);
    backlog_begun(&b, 100, 999);
    backlog_begun(&b, 3900, 1000);
    backlog_begun(&b, 4000, 1001);
    assert_int_equal(backlog_open(&b), 8000);
    for (uint32_t r = 0; r < 40000; r += 997) {
        assert_int_equal(backlog_wait_s(&b, 999 * S, r), BACKLOG_LEAST_S); /* 100 at 200 a second */
        /* its own place: 100 + 3900 / 2 at 200 a second */
        assert_int_equal(backlog_wait_s(&b, 1000 * S + S / 2, r), 11);
        assert_int_equal(backlog_wait_s(&b, 1000 * S + S / 4, r), 6);
        /* 40 s, but 8000 / BACKLOG_POLLS is 16: a quarter more or less */
        assert_in_range(backlog_wait_s(&b, 1001 * S + S / 2, r), 12, 20);
        assert_in_range(backlog_wait_s(&b, 0, r), 12, 20); /* one that would begin now */
        assert_int_equal(backlog_wait_s(&b, 1 * S, r),
                         BACKLOG_LEAST_S); /* older than we remember */
    }
    unsigned last = 0;
    for (int64_t us = 1000 * S; us < 1001 * S;
         us += S / 64) { /* who came later is never told less */
        unsigned told = backlog_wait_s(&b, us, 0);
        assert_true(told >= last || told >= 12);
        last = told;
    }
    for (unsigned i = 0; i < 3900; i++) {
        backlog_ended(&b);
    }
    assert_int_equal(backlog_wait_s(&b, 1000 * S + S / 2, 5), BACKLOG_LEAST_S);
    assert_in_range(backlog_wait_s(&b, 1001 * S, 5), 7, 13); /* 4100 / 200 = 20 s, and few wait */
    backlog_tick(&b); /* 3900 in a second: (3 * 200 + 3900) / 4 */
    assert_int_equal(atomic_load(&b.rate), 1125);
    assert_int_equal(backlog_wait_s(&b, 1001 * S, 5), 4);
    for (unsigned i = 0; i < 100; i++) {
        backlog_tick(&b); /* the hub is gone: the rate falls, the wait is bounded */
    }
    assert_in_range(backlog_wait_s(&b, 1001 * S, 12345), BACKLOG_CALM_S * 3 / 4,
                    BACKLOG_CALM_S * 5 / 4 + 1);
    backlog_begun(&b, 1000000, 1002);
    assert_in_range(backlog_wait_s(&b, 1002 * S, 12345), BACKLOG_MOST_S * 3 / 4, BACKLOG_MOST_S);
    for (unsigned i = 0; i < 1009000; i++) {
        backlog_ended(&b);
    }
    assert_int_equal(backlog_open(&b), 0);
    assert_int_equal(backlog_wait_s(&b, 1001 * S, 12345), BACKLOG_LEAST_S);
    assert_int_equal(registration_begun_us(SPAN_LIT("5.65a0b1c28000beef.x")),
                     0x65a0b1c2 * S + S / 2);
    assert_int_equal(registration_begun_us(SPAN_LIT("5.65a0b1c280")), 0);
    assert_int_equal(registration_begun_us(SPAN_LIT("5.65a0B1c2deadbeef.x")), 0);
    assert_int_equal(registration_begun_us(SPAN_NONE), 0);
}

static void test_etags(void **state UNUSED)
{
    static const uint64_t values[] = {1, 255, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX};
    char text[DPS_ETAG_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        dps_etag_text(values[i], text);
        assert_int_equal(dps_etag_read(span_str(text)), values[i]);
    }
    assert_int_equal(
        dps_etag_read(SPAN_LIT("IjBhMDAxZjQyLTAwMDAtMDgwMC0wMDAwLTY0NjgwMWVkMDAwMCI=")),
        0); /* not one of ours */
    assert_int_equal(dps_etag_read(SPAN_LIT("")), 0);
}

static void test_bodies(void **state UNUSED)
{
    static const struct {
        const char *body;
        enum err want;
        bool csr;
    } rows[] = {
        {"", OK, false},
        {" ", OK, false},
        {"{}", OK, false},
        {"{\"registrationId\":\"DEV\"}", OK, false},
        {"{\"registrationId\":\"dev2\"}", E_ARG, false},
        {"{\"registrationId\":null,\"payload\":[1],\"tpm\":null}", OK, false},
        {"{\"csr\":\"x\"}", OK, true},
        {"{\"clientCertificateCsr\":\"x\"}", OK, true},
        {"{\"csr\":null}", OK, false},
        {"{", E_JSON, false},
        {"[]", E_ARG, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct registration_body b = {.wants_certificate = false};
        struct verdict v = {.rule = RULE_OK};
        struct arena a = ARENA_INIT(4096);
        enum rule r = registration_body_read(&a, span_str(rows[i].body), SPAN_LIT("dev"), &b, &v);
        arena_done(&a);
        enum err e = r == v.rule ? verdict_err(&v) : E_BUG;
        if (e != rows[i].want || b.wants_certificate != rows[i].csr) {
            fail_msg("%s: %s", rows[i].body, err_name(e));
        }
    }
    assert_true(registration_is_sticky(SPAN_LIT("2018-04-01")));
    assert_false(registration_is_sticky(SPAN_LIT("2018-09-01-preview")));
    assert_false(registration_is_sticky(SPAN_NONE));
}

/* --- rules ------------------------------------------------------------------------------------------------- */

/* Words are found again, none is there twice, and texts say something: a row of the table cannot be half filled. */
static void test_rule_table(void **state UNUSED)
{
    for (unsigned r = RULE_OK + 1; r < RULES; r++) {
        const struct rule_def *d = rule_def((enum rule)r);
        unsigned open = 0, close = 0;
        for (const char *p = d->mend; *p != '\0'; p++) {
            open += *p == '{' ? 1 : 0;
            close += *p == '}' ? 1 : 0;
        }
        if (rule_of_word(span_str(d->word)) != (enum rule)r || d->err == OK || d->kind == OK ||
            strlen(d->check) < 10 || strlen(d->mend) < 30 || open != close) {
            fail_msg("%s", d->word);
        }
    }
    assert_int_equal(rule_of_word(SPAN_LIT("no-such-rule")), RULE_OK);
    assert_int_equal(rule_of_word(SPAN_LIT("")), RULE_OK);
}

static void test_verdict(void **state UNUSED)
{
    char longest[400];
    struct verdict v = {.rule = RULE_OK};
    assert_int_equal(verdict_err(&v), OK);
    assert_int_equal(verdict_fail(&v, OK), RULE_OK);
    verdict_fact(&v, "a", SPAN_LIT("x\"\033\n"));
    verdict_fact_u64(&v, "b", 7);
    assert_string_equal(v.facts, "\"a\":\"x\\\"??\",\"b\":\"7\"");
    assert_int_equal(verdict_refuse(&v, RULE_LEAF_CN, "why %d", 1), RULE_LEAF_CN);
    assert_int_equal(verdict_err(&v), E_UNAUTHORIZED);
    assert_int_equal(v.info.err, E_CERT);
    assert_string_equal(v.info.why, "why 1");
    /* What does not fit is left out whole. */
    memset(longest, 'z', sizeof(longest));
    for (unsigned i = 0; i < 10; i++) {
        verdict_fact(&v, "c", span_of(longest, sizeof(longest)));
    }
    assert_true(v.n_facts <= sizeof(v.facts));
    assert_int_equal(v.facts[v.n_facts - 1], '"');
    v = (struct verdict){.rule = RULE_OK};
    assert_int_equal(verdict_fail(&v, E_DB), RULE_FAILURE);
    assert_int_equal(verdict_err(&v), E_DB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaf),           cmocka_unit_test(test_leaf_subjects),
        cmocka_unit_test(test_hashed),         cmocka_unit_test(test_allocation),
        cmocka_unit_test(test_throttle),       cmocka_unit_test(test_throttle_is_one_for_all),
        cmocka_unit_test(test_throttle_grows), cmocka_unit_test(test_backlog),
        cmocka_unit_test(test_etags),          cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_rule_table),     cmocka_unit_test(test_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
