/* SPDX-License-Identifier: Apache-2.0 */
/* What strangers send the allocation: a webhook's answer, its address, patterns of hosts, round trips of devices, tables of networks. */
#include "tests/fuzz/fuzz.h"

#include "dps/settings.h"
#include "dps/webhook.h"

static const struct span offer = {(const uint8_t *)"hub1.example,hub2.example", 25};

static void answer(struct span text, struct arena *a)
{
    struct webhook_answer r;
    struct err_info info = {0};
    enum rule rule = webhook_read_answer(text, offer, a, &r, &info);
    ASSERT(rule == RULE_OK || rule == RULE_WEBHOOK_FAILED || rule == RULE_WEBHOOK_NO_HUB ||
           rule == RULE_WEBHOOK_FOREIGN_HUB);
    if (rule == RULE_OK) {
        struct json *j = NULL;
        ASSERT(span_is(r.host, "hub1.example") || span_is(r.host, "hub2.example"));
        if (r.payload.n != 0) {
            ASSERT(json_read_object(r.payload, SIZE_MAX, &j, NULL) == OK);
            json_free(j);
        }
        if (r.initial_twin.n != 0) {
            ASSERT(json_read_object(r.initial_twin, SIZE_MAX, &j, NULL) == OK);
            json_free(j);
        }
    }
}

static void address(struct span text)
{
    static const struct webhook_conf c = {.host = {SPAN_LIT("*.example"), SPAN_LIT("[::1]")},
                                          .n_hosts = 2};
    struct webhook_url u;
    if (webhook_url_read(text, &u)) {
        ASSERT(u.host.n != 0 && u.host.p > text.p && u.host.p + u.host.n <= text.p + text.n);
        ASSERT(span_find(u.host, '@') == u.host.n && span_find(u.host, '/') == u.host.n);
        (void)webhook_host_allowed(&c, u.host);
    }
}

static void settings(const struct json *j, struct arena *a)
{
    struct webhook_conf c;
    struct latencies l;
    struct networks n;
    if (json_is(j, JSON_T_OBJECT) && settings_read_webhook(j, a, &c, NULL) == OK) {
        ASSERT(c.timeout_s >= 1 && c.n_hosts <= LIMIT_DPS_WEBHOOK_HOSTS);
    }
    if (settings_read_latencies(j, "fuzz", a, &l, NULL) == OK) {
        for (size_t i = 0; i < l.n; i++) {
            ASSERT(l.v[i].ms >= 0 && latency_to(&l, l.v[i].hub) >= 0);
        }
    }
    if (json_is(j, JSON_T_ARRAY) && settings_read_networks(j, a, &n, NULL) == OK) {
        (void)network_of(&n, SPAN_LIT("10.1.2.3"));
        (void)network_of(&n, SPAN_LIT("fd00::7"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena a = ARENA_INIT(8u << 20);
    struct json *j = NULL;
    struct span text = span_of(data, n);
    answer(text, &a);
    address(text);
    if (json_read(text, LIMIT_ADMIN_BODY, &j, NULL) == OK) {
        settings(j, &a);
    }
    json_free(j);
    arena_done(&a);
    return 0;
}
