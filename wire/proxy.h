/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The texts around an HTTP proxy: its address, the list of hosts that are reached without it, the request that opens a tunnel.
 * The answer is read by wire/http.h.
 *
 * Ownership   spans point into what was given.
 * Threads     any.
 * Errors      E_CONFIG the address is no http:// URL of a host; E_ARG the target is no host. info never shows a user or a password.
 * Spec        RFC 9110 9.3.6 (CONNECT), RFC 7617 (Basic); for addresses and lists what curl 7.88 does with them.
 */
#ifndef WIRE_PROXY_H
#define WIRE_PROXY_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#define PROXY_PORT 1080u /* curl's, when the address names none */

struct proxy_url {
    struct span host; /* name or literal, without brackets */
    uint16_t port;
    bool has_user;
    struct span user, password; /* percent-encoded as they stand */
};
/* "[http://][USER[:PASSWORD]@]HOST[:PORT][/]" */
MUST_USE enum err proxy_url_read(struct span url, struct proxy_url *ret, struct err_info *info);

/* Is host (a literal without brackets) in the list? "*" alone: every host is. Else items between commas or blanks: a name stands for
 * itself and all below it, with or without a dot before it; an address for itself, ADDRESS/BITS for a network. */
bool proxy_exempts(struct span list, struct span host);

/* The head that asks for a tunnel. credential "user:password", empty: none; it stands in ret then, in base64: wipe it. */
MUST_USE enum err proxy_connect_write(struct buf *ret, struct span host, uint16_t port,
                                      struct span credential, struct err_info *info);

#endif
