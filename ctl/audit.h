/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chain of an audit trail that was fetched into a file, checked without the server: JSON lines, each with "seq", "prev" (SHA-256 of
 * the line before it) and "hash" (its own, over the line without that member).
 *
 * Errors      E_MALFORMED, E_CORRUPT with the number of the line and what does not fit. What is cut off at the end cannot be seen from
 *             the file: compare seq and hash of the last line with what was noted elsewhere.
 * Threads     any.   Spec   docs/protocol/dps-service-rest.md C1; threat S4.
 */
#ifndef CTL_AUDIT_H
#define CTL_AUDIT_H

#include "wire/json.h"

#define AUDIT_HASH_HEX 64u
struct audit_chain { /* zeroed at the start */
    uint64_t lines;
    int64_t first, last; /* seq */
    char hash[AUDIT_HASH_HEX + 1];
};
/* The next line of the file. */
MUST_USE enum err audit_chain_add(struct audit_chain *c, struct span line, struct err_info *info);

#endif
