/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The condition behind WHERE, over rows whose members are single texts: read once, judged for each row. No part of it ever becomes SQL.
 *
 *   struct where *w;  where_read(text, names, n, &arena, &w, info)  ->  where_is_true(w, values) per row;  where_range() for the scan
 *
 * Grammar     docs/protocol/hub-service-rest.md 10.1 without arithmetic (the members are texts): OR, AND, NOT, = != <> < <= > >=, IN, NOT IN,
 *             NIN, parentheses, texts, numbers, true, false, null, undefined, IS_DEFINED(m), STARTS_WITH(a, b), ENDS_WITH(a, b),
 *             CONTAINS(a, b).
 * Logic       three-valued (10.3): what is not there is undefined, and only exactly true keeps a row.
 * Ownership   a where lives in the arena and points into the text: both outlive it.
 * Errors      E_ARG: the text is no condition; info says what is wrong and at which character.
 * Limits      LIMIT_QUERY_TEXT bytes, LIMIT_QUERY_DEPTH parentheses and NOTs inside each other; judging a row costs at most one step for
 *             each word of the text.
 * Spec        docs/protocol/dps-service-rest.md A8; threat D11.
 */
#ifndef WIRE_WHERE_H
#define WIRE_WHERE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

struct where;
/* A member that conditions may name, without case. */
struct where_name {
    const char *name;
    bool is_folded; /* its values are in lower case, and compared without case */
};
MUST_USE enum err where_read(struct span text, const struct where_name *names, size_t n_names,
                             struct arena *a, struct where **ret, struct err_info *info);

enum where_truth { WHERE_FALSE, WHERE_TRUE, WHERE_UNDEFINED };
/* values: one for each name, p NULL where the row has no such member. */
enum where_truth where_judge(const struct where *w, const struct span *values);

/* Bounds of one member's values, both inclusive, outside which no row can be true, in lower case when the member is folded; p NULL: none.
 * A hint for the scan: bytes in a, or none when it is full. */
struct where_range {
    struct span from, to;
};
struct where_range where_range(const struct where *w, size_t name, struct arena *a);

#endif
