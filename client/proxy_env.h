/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proxy that the environment names, as curl reads it: https_proxy, else HTTPS_PROXY; hosts without it in no_proxy, else NO_PROXY.
 * Empty is as if absent. For the agent and for tools; a server takes no proxy from there.
 */
#ifndef CLIENT_PROXY_ENV_H
#define CLIENT_PROXY_ENV_H

#include "net/proxy.h"

/* ret is zeroed or was set before; without such a variable it holds none. exempt: in place of no_proxy; NULL: that. E_CONFIG: a value that is no proxy, with the variable's name. */
MUST_USE enum err proxy_from_env(struct proxy *ret, const char *exempt, struct err_info *info);
/* The list of exempt hosts there, NULL: none. Borrowed from the environment. */
const char *proxy_env_exempt(void);

#endif
