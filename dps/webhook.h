/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Custom allocation: what a webhook is asked, what its answer means, and when one that fails is left alone.
 *
 *   breaker of one host:  CLOSED --WEBHOOK_FAILURES in a row--> OPEN --WEBHOOK_OPEN_MS--> one probe --good--> CLOSED
 *                                                                ^------------------------------failed--'
 *
 * An answer, good or bad, is the end of the registration's allocation: only a connection that could not be made, or broke before an
 * answer, is tried again, and only inside the time limit.
 *
 * Ownership   strings of the answer are in the arena given. Breakers are of all workers: one count for
 *             each host.
 * Threads     the worker's; breakers and webhook_read_answer any. One lock over all breakers, held for a look-up: webhooks are few.
 * Limits      WEBHOOK_ANSWER_MAX bytes, twin rules of wire/twin.h, WEBHOOK_BREAKERS hosts (the oldest makes room).
 * Spec        docs/protocol/dps-service-rest.md B4; docs/threat-model.md E1, E2.
 */
#ifndef DPS_WEBHOOK_H
#define DPS_WEBHOOK_H

#include "dps/dps_sql.h"
#include "dps/rule.h"
#include "dps/snapshot.h"

#define WEBHOOK_ANSWER_MAX LIMIT_DPS_BODY
#define WEBHOOK_TRIES 3u
#define WEBHOOK_FAILURES 5u
#define WEBHOOK_OPEN_MS 30000u
#define WEBHOOK_BREAKERS 64u

/* Scheme (of two) and host of an address; false: it is none that may be stored. host without port and brackets. */
struct webhook_url {
    bool is_http;
    struct span host;
};
bool webhook_url_read(struct span url, struct webhook_url *ret);
/* customAllocationDefinition.webhookUrl of an enrollment's document, into a. E_NOT_FOUND: it has none. */
MUST_USE enum err webhook_url_of(struct span doc, struct arena *a, struct span *ret);

/* The hubs that the webhook may choose from, comma separated, into b. */
void webhook_add_offer(struct buf *b, const struct snapshot *s, const struct enr_row *enr);
/* The body. enr with its document; offer: webhook_add_offer. */
MUST_USE enum err webhook_add_body(struct buf *b, const struct enr_row *enr,
                                   const struct reg_row *reg, const struct reg_more *more,
                                   struct span offer);

struct webhook_answer {
    struct span host;                  /* one of the offer, as it is spelled there */
    struct span initial_twin, payload; /* JSON texts; empty: none */
};
/* RULE_OK, or why the registration fails. */
MUST_USE enum rule webhook_read_answer(struct span body, struct span offer, struct arena *a,
                                       struct webhook_answer *ret, struct err_info *info);

struct breakers;
MUST_USE enum err breakers_new(struct breakers **ret);
/* NULL is fine. */
void breakers_free(struct breakers *b);
/* false: leave it alone. true after a pause: this call is the probe, others wait for its result. */
bool breaker_may(struct breakers *b, struct span host, uint64_t now_ms);
enum breaker_change { BREAKER_SAME, BREAKER_OPENED, BREAKER_CLOSED };
enum breaker_change breaker_told(struct breakers *b, struct span host, bool is_good,
                                 uint64_t now_ms);

#endif
