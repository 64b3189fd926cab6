/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The station's ledger: which serials were ever used, one JSON line each, chained by SHA-256, synced before anything is burned.
 *
 *   STATION/ledger.jsonl  {"n":1,"at":"...","serial":"...","registrationId":"...","event":"reserved"|"done","target":"...",
 *                          "attestation":"...","quota":"<id, where one is asked for>","prev":"<hash of the line before>",
 *                          "hash":"<of this line without hash>"}
 *
 * Bound       to an office by one line with event "bound", station's name in target, SHA-256 of the office's certificate in attestation:
 *             from then on each serial is reserved under a quota (quota.h) and counted under its id, a serial once. It is never undone.
 *
 * States      a serial is unknown, reserved (a burn began) or done. reserved with no identity at its target: the burn was interrupted and
 *             may be done again into the same target; done: never again, whatever the target (threat S1).
 * Ownership   ledger_close ends; the folder is locked while it is open: one burn at a time on a station.
 * Errors      E_CORRUPT a line was changed, or is not the follower of the one before (its number is told); a last line that was cut off
 *             by a crash is dropped. E_IN_USE another burn is at work.
 */
#ifndef ENROLL_TOOL_LEDGER_H
#define ENROLL_TOOL_LEDGER_H

#include "base/err.h"
#include "base/span.h"

struct ledger;
enum ledger_state { LEDGER_UNKNOWN, LEDGER_RESERVED, LEDGER_DONE, LEDGER_BOUND };
struct ledger_entry {
    uint64_t n;
    struct span serial, registration_id, target, attestation, at;
    struct span quota; /* empty: none */
    enum ledger_state event;
};
MUST_USE enum err ledger_open(const char *station_dir, struct ledger **ret, struct err_info *info);
void ledger_close(struct ledger *l);
AUTO_FREE_FN(struct ledger, ledger_close)
/* ret_target: where it was burned or was to be burned; borrowed. */
enum ledger_state ledger_find(const struct ledger *l, const char *serial, const char **ret_target);
/* Was the registration id given to another serial? (borrowed serial, NULL: no) */
const char *ledger_find_registration(const struct ledger *l, const char *registration_id);
/* On disk when it returns. */
MUST_USE enum err ledger_add(struct ledger *l, const char *serial, const char *registration_id,
                             enum ledger_state event, const char *target, const char *attestation,
                             struct err_info *info);
/* The same for LEDGER_RESERVED under that quota. */
MUST_USE enum err ledger_reserve(struct ledger *l, const char *serial, const char *registration_id,
                                 const char *target, const char *attestation, const char *quota,
                                 struct err_info *info);
uint64_t ledger_quota_used(const struct ledger *l, const char *quota);
/* E_EXISTS: it is bound. office: hex. */
MUST_USE enum err ledger_bind(struct ledger *l, const char *name, const char *office,
                              struct err_info *info);
/* Is the station bound? Borrowed. */
bool ledger_bound(const struct ledger *l, const char **ret_name, const char **ret_office);
/* The time of its last line, 0: none. A clock behind it is wrong. */
int64_t ledger_last_us(const struct ledger *l);
typedef void (*ledger_fn)(void *arg, const struct ledger_entry *e);
MUST_USE enum err ledger_each(struct ledger *l, ledger_fn fn, void *arg, struct err_info *info);

#endif
