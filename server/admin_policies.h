/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the two files of /admin/policies: the resource and its changes (admin_policies.c), its keys (admin_keys.c).
 * Threads     as admin.h.   Spec   docs/protocol/dps-service-rest.md C3; threat S3.
 */
#ifndef SERVER_ADMIN_POLICIES_H
#define SERVER_ADMIN_POLICIES_H

#include "server/admin.h"
#include "server/server_int.h"
#include "server/server_sql.h"

#define NEW_KEY_BYTES 32u
#define POLICY_JSON_MAX 4096u

enum rotation { ROTATE_PRIMARY, ROTATE_SECONDARY, ROTATE_BOTH, ROTATE_SWAP };

struct policy_op {
    struct admin_op op;
    char name[LIMIT_ADMIN_NAME + 1];
    uint32_t caller_rights;
    uint32_t given;
    bool has_key[2]; /* PUT: named by the caller */
    enum rotation rotation;
    struct secret key[2]; /* new ones; for listKeys and regenerateKey the ones told */
    struct policy_row row;
};

static inline struct policy_op *as_policy_op(struct admin_op *op)
{
    return CONTAINER_OF(op, struct policy_op, op);
}

/* For the policy named in the path; NULL: rq has been refused. */
struct policy_op *policy_op_new(struct http_rq *rq);
/* Absent is OK with *ret_exists false. */
MUST_USE enum err policy_op_read_row(struct store_tx *tx, struct policy_op *o, bool *ret_exists);
/* The resource as JSON, without keys and without the closing brace. */
void policy_add_json(struct buf *b, const struct server_program *p, const struct policy_row *row);

void admin_policy_list_keys(struct http_rq *rq);
void admin_policy_regenerate(struct http_rq *rq);

#endif
