/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of a condition: made by wire/where.c, judged by wire/where_judge.c. */
#ifndef WIRE_WHERE_INT_H
#define WIRE_WHERE_INT_H

#include "wire/where.h"

enum value_type { V_UNDEFINED, V_NULL, V_BOOL, V_NUMBER, V_TEXT };
struct value {
    enum value_type type;
    bool truth;
    bool is_folded; /* of a member that is compared without case */
    double number;
    struct span text;
};

enum node_op {
    N_OR, /* parts */
    N_AND,
    N_NOT, /* one part */
    N_EQ,  /* the others: operands */
    N_NE,
    N_LT,
    N_LE,
    N_GT,
    N_GE,
    N_IN, /* the first operand is among the others */
    N_DEFINED,
    N_STARTS,
    N_ENDS,
    N_CONTAINS,
    N_VALUE /* a literal or a member: itself */
};

struct node {
    enum node_op op;
    struct node *first; /* parts, or operands */
    struct node *next;  /* behind it in its list */
    size_t member;      /* N_VALUE: index and 1; 0: value */
    struct value value;
};

struct where {
    struct node *root;
    const struct where_name *names;
};

#endif
