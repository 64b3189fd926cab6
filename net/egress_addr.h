/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which addresses outgoing requests may reach: asked with the address that the socket is about to connect to, so a
 * name that changes its answer gains nothing.
 *
 *   never        unspecified ("this host"), multicast, reserved, broadcast
 *   if private   loopback, link-local (cloud metadata included), private and shared nets, benchmark and
 *                documentation nets, unique local and site local IPv6, Teredo
 *   always       the rest. IPv4 inside IPv6 (mapped, compatible, NAT64, 6to4) is judged as that IPv4.
 *
 * Threads     any.    Spec   docs/threat-model.md E1; IANA special-purpose address registries.
 */
#ifndef NET_EGRESS_ADDR_H
#define NET_EGRESS_ADDR_H

#include <stdbool.h>
#include <sys/socket.h>

bool egress_addr_allowed(const struct sockaddr *sa, bool allow_private);

#endif
