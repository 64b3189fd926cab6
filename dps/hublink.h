/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said to a linked hub: the token of its connection string, the address, and the body that makes or refreshes one device.
 *
 * Ownership   strings are the caller's; they hold keys: wipe them.
 * Threads     the worker's.
 * Spec        docs/protocol/sas.md 2, 4.1, 6; docs/architecture.md "DPS to hub".
 */
#ifndef DPS_HUBLINK_H
#define DPS_HUBLINK_H

#include "dps/snapshot.h"

#define HUBLINK_TOKEN_S 3600
#define HUBLINK_RENEW_S 900 /* before its end */

struct seal_place hublink_key_place(struct span fold);
/* "Authorization: SharedAccessSignature ...", kept until near its expiry. Borrowed from the snapshot. */
MUST_USE enum err hublink_token(const struct keyring *k, struct linked_hub *h, int64_t now_s,
                                const char **ret);
/* "https://host:port" and path, appended. */
void hublink_add_url(struct buf *b, const struct hub_row *h, const char *path);
/* The owner mark: who made the device. As part of a query, or of a JSON text. */
void hublink_add_owner(struct buf *b, const char *id_scope, const struct enr_row *enr,
                       bool is_query);
/* The body of PUT /provision/devices/{id}. Keys go into b: give it room at once, wipe it. more: NULL when there is none. former: SHA-256
 * of an issued certificate that still serves beside that of the row; empty: none. */
MUST_USE enum err hublink_add_body(const struct keyring *k, const char *id_scope,
                                   const struct enr_row *enr, const struct reg_row *reg,
                                   const struct reg_more *more, struct span former, struct buf *b);

#endif
