/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP proxy of a client: where it is, by what right, for whom. What it carries is TLS from end to end; it sees names and sizes.
 * Servers of this house have none: nothing here asks the environment (client/proxy_env.h does, for device-side programs and tools).
 *
 * Ownership   caller's storage, all zero: no proxy. proxy_done() wipes.
 * Threads     one owner while it changes; then any may read.
 * Errors      E_CONFIG the address; E_TOO_LARGE user and password are longer than SECRET_MAX. Nothing shows the credential.
 * Spec        wire/proxy.h
 */
#ifndef NET_PROXY_H
#define NET_PROXY_H

#include "base/limits.h"
#include "base/secret.h"

struct proxy {
    char host[LIMIT_HOST + 1u]; /* name or literal, without brackets; "": none */
    uint16_t port;
    struct secret credential; /* "user:password"; empty: none */
    char *exempt;             /* hosts reached without it, as NO_PROXY; NULL: none */
};
/* Replaces what was there; a credential in the URL is taken over, exempt too (NULL: none). */
MUST_USE enum err proxy_set(struct proxy *p, struct span url, const char *exempt,
                            struct err_info *info);
/* "user:password", without a line's end. */
MUST_USE enum err proxy_set_credential(struct proxy *p, struct span credential,
                                       struct err_info *info);
MUST_USE enum err proxy_copy(struct proxy *to, const struct proxy *from);
void proxy_done(struct proxy *p);
/* p, when that host is reached through it; else NULL. p may be NULL. */
const struct proxy *proxy_for(const struct proxy *p, const char *host);

#endif
