/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls, and by what right. For HTTP service planes: the policy token in Authorization against the request path and the
 * route's right. Devices: the program looks up its identity and asks the pure parts here (token parsing, scope, time, MAC).
 *
 * All refusals are E_UNAUTHORIZED; the reason is in info, for the log, and its kind in info->err, for faces that word some of them
 * (hub-service-rest.md 2.4): E_ARG_NULL no Authorization header, E_OWNED the key is right but the policy lacks the right (info->why is
 * the official text), else E_TOKEN, E_EXPIRED, E_SCOPE, E_SIGNATURE. E_DB and the like are our own failures, not refusals.
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
MUST_USE enum err authn_service(struct worker *w, struct http_rq *rq, uint32_t right,
                                struct caller *ret, struct err_info *info);
/* All of authn_service but whose key it is: header, form, expiry, scope; a name in skn is there. ret keeps spans into the header. */
MUST_USE enum err authn_service_token(struct worker *w, struct http_rq *rq, struct sas_token *ret,
                                      struct err_info *info);
/* Parses and judges everything of a device's token but the key: expiry with skew, scope. Hub: target {host}/devices/{id}, with
 * target0_is_host (target[0] is not looked at: any name of the instance may stand there); DPS: {idScope}/registrations/{rid}.
 * ret keeps spans into token. A token with a non-empty skn then goes to policy_check (hub), else to authn_token_keys. */
MUST_USE enum err authn_device_token(struct worker *w, struct span token, const struct span *target,
                                     size_t n_target, bool target0_is_host, struct sas_token *ret,
                                     struct err_info *info);
/* Tries primary, then secondary (sealed rows); both cost the same. *ret_which 0 or 1. */
MUST_USE enum err authn_token_keys(struct worker *w, const struct sas_token *tok,
                                   struct seal_place at_primary, struct span sealed_primary,
                                   struct seal_place at_secondary, struct span sealed_secondary,
                                   unsigned *ret_which, struct err_info *info);
int64_t server_token_now_s(struct server *s);

#endif
