/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the certificates end that an instance relies on: its CA certificates, and what the program adds to them (server_program.expiries).
 *
 * They are read at start, when a CA certificate comes or goes, and every ten minutes, on a scan thread. Each is a gauge of seconds
 * (berth_certificate_expires_seconds) and, within auth.certificate-warning-days of its end, a line of the log at start and once a day
 * (server.certificate_expires, server.certificate_expired).
 *
 * Threads     main's loop, but for the reading itself.
 * Limits      LIMIT_EXPIRY_ITEMS; what is beyond is not told (server.expiry_cut says how many).
 * Spec        docs/protocol/dps-service-rest.md C2; docs/operations.md.
 */
#ifndef SERVER_EXPIRY_H
#define SERVER_EXPIRY_H

#include "server/server.h"

struct expiry_list;
/* kind: a literal, "ca" or the like. name: of the one certificate; empty: many stand behind it, which `next` names for the log. */
void expiry_add(struct expiry_list *l, const char *kind, struct span name, struct span next,
                int64_t until_us);
/* How many of a kind end within the warning, where they are not added one by one. */
void expiry_count(struct expiry_list *l, const char *kind, uint64_t n);
int64_t expiry_now_us(const struct expiry_list *l);
int64_t expiry_warn_until_us(const struct expiry_list *l);
/* Whole days, below 0 when it is over. */
int64_t expiry_days(int64_t until_us, int64_t now_us);

#endif
