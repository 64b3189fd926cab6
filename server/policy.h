/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared access policies: name, rights, two keys (sealed). Each worker holds a snapshot of all (LIMIT_POLICIES) and checks one
 * atomic epoch before each use, so a change counts at the next request.
 *
 * Every change bumps the policy epoch after commit and calls server_program.on_policy_change on each worker (live links that a
 * changed key admitted must end).
 * Spec        docs/protocol/dps-service-rest.md C3, A2; docs/protocol/hub-service-rest.md 2.
 */
#ifndef SERVER_POLICY_H
#define SERVER_POLICY_H

#include "server/server.h"
#include "wire/sas.h"

/* "RegistryRead, RegistryWrite" to bits, closure included in *ret_bits; E_ARG for an unknown or empty word. */
MUST_USE enum err rights_parse(const struct server_program *p, struct span text,
                               uint32_t *ret_given, struct err_info *info);
uint32_t rights_closure(const struct server_program *p, uint32_t given);
void rights_text(const struct server_program *p, uint32_t given, struct buf *ret);
void rights_text_all(const struct server_program *p, uint32_t given,
                     struct buf *ret); /* hidden ones too */

/* What admitted a caller by policy: kept by sessions so that a later change can end them. */
struct policy_use {
    int64_t
        id; /* row id, never used again; negative: a right of the program's own (hub/stream_grant.h) */
    uint64_t key_gen; /* generation of the key that matched */
    uint32_t rights;  /* closure */
    int64_t until_s;  /* 0: without end */
};
/* Judges name and key of a policy token; scope and expiry are judged by authn_service or authn_device_token, which come first.
 * E_UNAUTHORIZED for all reasons, the reason in info; constant work for unknown names. E_DB and the like: could not read. */
MUST_USE enum err policy_check(struct worker *w, const struct sas_token *tok,
                               struct policy_use *ret, struct err_info *info);
/* Is that use still good? (policy exists, key generation unchanged, right still there) */
bool policy_still_good(struct worker *w, const struct policy_use *use, uint32_t right);

#endif
