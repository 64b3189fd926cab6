/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a registration needs of the instance besides its own enrollment: all groups, the linked hubs, the default policy. Each worker
 * keeps a copy and reads it again when the epoch in struct dps has grown; so a registration costs no query for them.
 *
 * Ownership   borrowed until the next turn of the loop: never keep a pointer into it.
 * Threads     the worker's.
 * Limits      LIMIT_DPS_GROUPS of each kind of attestation, LIMIT_DPS_LINKED_HUBS.
 */
#ifndef DPS_SNAPSHOT_H
#define DPS_SNAPSHOT_H

#include "certs/keyring.h"
#include "dps/dps.h"
#include "dps/dps_sql.h"
#include "dps/geoip.h"
#include "dps/settings.h"

struct group {
    struct enr_row row;    /* without doc */
    uint8_t sha256[2][32]; /* of its certificates */
};
struct linked_hub {
    struct hub_row row;
    char *token; /* heap, wiped: Authorization of calls, NULL: not made yet */
    int64_t token_until_s;
};
struct snapshot {
    uint64_t epoch; /* 0: nothing read */
    struct arena arena;
    enum enr_alloc alloc; /* of the instance */
    struct webhook_conf webhook;
    struct networks networks;
    struct geoip *geoip; /* counted; NULL: none */
    struct linked_hub hub[LIMIT_DPS_LINKED_HUBS];
    size_t n_hubs;
    struct group *group;
    size_t n_groups;
};
MUST_USE enum err snapshot_get(struct dps_worker *dw, struct snapshot **ret, struct err_info *info);
/* Reads it from any reader: what snapshot_get does, for tests. s is zeroed or was loaded before. */
MUST_USE enum err snapshot_load(struct snapshot *s, struct db *db, uint64_t epoch,
                                struct err_info *info);
void snapshot_done(struct snapshot *s);
void snapshot_free(struct snapshot *s);
/* Without case; NULL: not linked. */
struct linked_hub *snapshot_hub(struct snapshot *s, struct span host);
const struct group *snapshot_group(const struct snapshot *s, int64_t id);

/* Setting names. */
#define SETTING_ID_SCOPE "id_scope"
#define SETTING_ALLOCATION "allocation"
#define SETTING_ETAG "etag"
#define SETTING_WEBHOOK "webhook"       /* JSON text of that member of /admin/settings */
#define SETTING_NETWORKS "latencyTable" /* same */
#define SETTING_PAGE_KEY "page_key"
#define SETTING_WEBHOOK_KEY "webhook_key"
extern const char
    *const alloc_words[ALLOC_CUSTOM + 1]; /* "hashed" ... of enrollments; [ALLOC_NONE] is "" */

#endif
