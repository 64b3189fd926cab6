/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grants: the right to open streams to one device (or to those whose ids begin alike, or to all), under one name, until a point in time.
 * A grant is a name, what it is for, and a key of its own: its holder signs tokens as with a policy's key, with skn=stream:NAME. It opens
 * `POST /twins/{id}/streams/{name}` and nothing else: streams to a module of the device are another right, which no grant gives.
 *
 *   PUT --> there --DELETE--> gone          its streams end within a second (1008), whichever way it goes
 *             `----- its time is over ----> refused from then on; swept, with a line in the audit trail, within GRANT_SWEEP_MS
 *
 * A grant never changes: another time or device is another grant. It outlives the policy that made it, as policies do; the audit trail
 * says who made it, who used it (who = stream:NAME), what was refused to it, when it was revoked or ended.
 *
 * Errors      all refusals are E_UNAUTHORIZED, the reason in info (server/authn.h).
 * Time        server_token_now_s(), so that a clock set back lengthens no grant.
 * Limits      GRANTS of them, GRANT_LIFE_MAX_S each.   Threads   each function says whose.
 * Spec        docs/protocol/device-streams.md 13.3; threat E11.
 */
#ifndef HUB_STREAM_GRANT_H
#define HUB_STREAM_GRANT_H

#include "hub/hub_sql.h"
#include "server/admin.h"

#define GRANT_PREFIX "stream:"
#define GRANT_NAME 40u
#define GRANT_KEY_BYTES 32u
#define GRANT_SEALED_MAX 128u
#define GRANTS 1000u
#define GRANT_LIFE_MAX_S (31 * 86400)
#define GRANT_SWEEP_MS 5000u

struct stream_grant {
    int64_t id; /* row number, never used again */
    uint64_t etag;
    char name[GRANT_NAME + 1];
    char device[LIMIT_ID + 1]; /* an id, or the beginning of ids: "" is all */
    bool is_prefix;
    char stream[LIMIT_STREAM_NAME + 1];
    char made_by[LIMIT_ADMIN_NAME + 1];
    int64_t created_us;
    int64_t expires_s;
    uint8_t sealed[GRANT_SEALED_MAX];
    size_t sealed_n;
};
bool stream_grant_name_ok(struct span name);
struct seal_place stream_grant_place(const struct stream_grant *g);
/* Pure: for this device and name? */
bool stream_grant_covers(const struct stream_grant *g, struct span device_id, struct span stream);

/* Does the request come with a grant, and ask for what grants are for? Then stream_grant_authn judges it, else a policy does. */
bool stream_grant_is_used(struct http_rq *rq);
MUST_USE enum err stream_grant_authn(struct http_rq *rq, struct caller *ret, struct err_info *info);
/* What admitted a stream's caller: a policy, or a grant (use->id < 0). Worker. */
bool stream_caller_still_good(struct worker *w, const struct policy_use *use);
/* Worker 0 alone sweeps. */
void stream_grants_start(struct worker *w);
void stream_grants_stop(struct worker *w);
/* In the transaction that takes grants away: after its commit all workers look at their streams again. */
MUST_USE enum err stream_grant_tx_gone(struct store_tx *tx, struct hub *h);

/* /admin/streamGrants, hub/http_grants.c */
extern const struct http_route hub_grant_routes[];
extern const size_t n_hub_grant_routes;

#endif
