/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls, and by what right. For HTTP service planes: the policy token in Authorization against the request path and the
 * route's right. Devices: the program looks up its identity and asks the pure parts here (token parsing, scope, time, MAC).
 *
 * All failures are E_UNAUTHORIZED with the reason in info (for the log), never told to the peer beyond the face's text.
 * Time is judged by server_token_now(): max(now, a stored floor that only steady time raises).
 * Spec        docs/protocol/sas.md 4, 5, 9.
 */
#ifndef SERVER_AUTHN_H
#define SERVER_AUTHN_H

#include "server/policy.h"

struct caller {
    struct policy_use policy;
    struct span policy_name; /* arena of the request */
};
/* Service plane: header -> token -> policy -> right of the route (any bit of `right` suffices; 0: any valid policy). The caller is kept
 * in http_rq_user() by the program if it wants it. */
MUST_USE enum err authn_service(struct worker *w, struct http_rq *rq, uint32_t right, struct caller *ret, struct err_info *info);
/* Parses and judges everything of a device's token but the key: expiry with skew, scope. Hub: target
 * {host}/devices/{id}; DPS: {idScope}/registrations/{rid}: the program passes the segments. ret keeps spans into token. */
MUST_USE enum err authn_device_token(struct worker *w, struct span token, const struct span *target, size_t n_target,
                                     bool target0_is_host, struct sas_token *ret, struct err_info *info);
/* Tries primary, then secondary (sealed rows); both cost the same. *ret_which 0 or 1. */
MUST_USE enum err authn_token_keys(struct worker *w, const struct sas_token *tok, struct seal_place at_primary, struct span sealed_primary,
                                   struct seal_place at_secondary, struct span sealed_secondary, unsigned *ret_which, struct err_info *info);
int64_t server_token_now_s(struct server *s);

#endif
