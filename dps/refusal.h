/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What devices were refused, kept for `berth dps explain`: one row for each registration id and rule, with a count.
 *
 * Whoever reaches a port can cause refusals, so they cost little and are bounded everywhere. A worker gathers them in memory, one entry
 * for each id and rule, and gives them to the writer every REFUSAL_FLUSH_MS as bulk operations, REFUSAL_WRITES at most; what does not
 * fit is counted (berth_dps_refusals_not_kept_total) and forgotten. The table evicts its oldest rows. Ids that have neither an
 * enrollment nor a record share REFUSAL_STRANGERS entries and LIMIT_DPS_REFUSALS_STRANGERS rows of their own: made-up ids never push out
 * those of real devices.
 *
 * Durability  the last REFUSAL_FLUSH_MS are lost in a crash; a drain writes them.
 * Ownership   refusals_new ... refusals_free, once the worker's thread is gone.
 * Threads     the worker's.
 * Time        the same statements run whether or not the id is known (threat N8).
 */
#ifndef DPS_REFUSAL_H
#define DPS_REFUSAL_H

#include "dps/dps.h"
#include "dps/rule.h"

#define REFUSAL_FLUSH_MS 1000u
#define REFUSAL_ENTRIES 512u   /* in memory of one worker */
#define REFUSAL_STRANGERS 256u /* of these, of unknown ids */
#define REFUSAL_WRITES 256u    /* rows that one worker writes at once */
/* Under which refusals stand whose id is none: '*' cannot be one. */
#define REFUSAL_NO_ID "*"

/* Whose request, and how it came. All borrowed for the call; empty: not known. */
struct refusal_from {
    struct span rid; /* as sent: whether it is an id is looked at here */
    struct span peer, transport, api_version;
};
struct refusals;
MUST_USE enum err refusals_new(struct dps_worker *dw, struct refusals **ret);
/* NULL is fine. */
void refusals_free(struct refusals *r);
/* Nothing for RULE_OK, for a server that ends, and for a backlog, which is no matter of one device. */
void refusal_note(struct dps_worker *dw, const struct refusal_from *from, const struct verdict *v);
/* Same, for a registration that ended `failed` or `disabled`. why empty: none. */
void refusal_note_end(struct dps_worker *dw, const struct refusal_from *from, enum rule rule,
                      struct span why);
/* Gives all to the writer. */
void refusals_drain(struct refusals *r);

#endif
