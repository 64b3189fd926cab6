/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/where_int.h"

/* --- judging ---------------------------------------------------------------------------------------------- */

struct row {
    const struct where_name *names;
    const struct span *values;
};

static struct value value_of(const struct node *n, const struct row *row)
{
    if (n->member == 0) {
        return n->value;
    }
    struct span v = row->values[n->member - 1];
    return (struct value){.type = v.p != NULL ? V_TEXT : V_UNDEFINED,
                          .is_folded = row->names[n->member - 1].is_folded,
                          .text = v};
}

static int fold(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static int order_nocase(struct span a, struct span b)
{
    size_t n = MIN(a.n, b.n);
    for (size_t i = 0; i < n; i++) {
        int d = fold(a.p[i]) - fold(b.p[i]);
        if (d != 0) {
            return d;
        }
    }
    return a.n < b.n ? -1 : a.n > b.n;
}

static int order_text(const struct value *a, const struct value *b)
{
    return a->is_folded || b->is_folded ? order_nocase(a->text, b->text)
                                        : span_cmp(a->text, b->text);
}

static enum where_truth truth(bool is)
{
    return is ? WHERE_TRUE : WHERE_FALSE;
}

/* hub-service-rest.md 10.3: other types are unequal and have no order. */
static enum where_truth compare(enum node_op op, const struct value *a, const struct value *b)
{
    if (a->type == V_UNDEFINED || b->type == V_UNDEFINED) {
        return WHERE_UNDEFINED;
    }
    if (a->type != b->type) {
        return op == N_EQ ? WHERE_FALSE : op == N_NE ? WHERE_TRUE : WHERE_UNDEFINED;
    }
    bool has_order = a->type == V_TEXT || a->type == V_NUMBER;
    int d = a->type == V_TEXT     ? order_text(a, b)
            : a->type == V_NUMBER ? (a->number > b->number) - (a->number < b->number)
            : a->type == V_BOOL   ? a->truth != b->truth
                                  : 0;
    switch (op) {
    case N_EQ:
        return truth(d == 0);
    case N_NE:
        return truth(d != 0);
    case N_LT:
        return has_order ? truth(d < 0) : WHERE_UNDEFINED;
    case N_LE:
        return has_order ? truth(d <= 0) : WHERE_UNDEFINED;
    case N_GT:
        return has_order ? truth(d > 0) : WHERE_UNDEFINED;
    default:
        return has_order ? truth(d >= 0) : WHERE_UNDEFINED;
    }
}

static enum where_truth is_among(const struct node *n, const struct row *row)
{
    struct value v = value_of(n->first, row);
    if (v.type == V_UNDEFINED) {
        return WHERE_UNDEFINED;
    }
    for (const struct node *k = n->first->next; k != NULL; k = k->next) {
        if (compare(N_EQ, &v, &k->value) == WHERE_TRUE) {
            return WHERE_TRUE;
        }
    }
    return WHERE_FALSE;
}

static bool same_at(const struct value *a, const struct value *b, size_t at)
{
    struct value part = *a;
    part.text = span_sub(a->text, at, b->text.n);
    return order_text(&part, b) == 0;
}

static enum where_truth has_part(enum node_op op, const struct value *a, const struct value *b)
{
    if (a->type != V_TEXT || b->type != V_TEXT) {
        return WHERE_UNDEFINED;
    }
    if (b->text.n > a->text.n) {
        return WHERE_FALSE;
    }
    size_t last = a->text.n - b->text.n;
    if (op != N_CONTAINS) {
        return truth(same_at(a, b, op == N_STARTS ? 0 : last));
    }
    for (size_t at = 0; at <= last; at++) {
        if (same_at(a, b, at)) {
            return WHERE_TRUE;
        }
    }
    return WHERE_FALSE;
}

static enum where_truth judge(const struct node *n, const struct row *row);

/* AND: false wins, then undefined; OR: true wins. */
static enum where_truth judge_parts(const struct node *n, const struct row *row)
{
    enum where_truth wins = n->op == N_AND ? WHERE_FALSE : WHERE_TRUE;
    enum where_truth all = n->op == N_AND ? WHERE_TRUE : WHERE_FALSE;
    for (const struct node *k = n->first; k != NULL; k = k->next) {
        enum where_truth t = judge(k, row);
        if (t == wins) {
            return t;
        }
        all = t == WHERE_UNDEFINED ? t : all;
    }
    return all;
}

static enum where_truth judge(const struct node *n, const struct row *row)
{
    switch (n->op) {
    case N_OR:
    case N_AND:
        return judge_parts(n, row);
    case N_NOT: {
        enum where_truth t = judge(n->first, row);
        return t == WHERE_UNDEFINED ? t : truth(t == WHERE_FALSE);
    }
    case N_IN:
        return is_among(n, row);
    case N_DEFINED:
        return truth(value_of(n->first, row).type != V_UNDEFINED);
    case N_VALUE: {
        struct value v = value_of(n, row);
        return v.type == V_BOOL ? truth(v.truth) : WHERE_UNDEFINED;
    }
    default:
        break;
    }
    struct value a = value_of(n->first, row), b = value_of(n->first->next, row);
    return n->op >= N_STARTS ? has_part(n->op, &a, &b) : compare(n->op, &a, &b);
}

enum where_truth where_judge(const struct where *w, const struct span *values)
{
    const struct row row = {w->names, values};
    return judge(w->root, &row);
}

/* --- bounds for the scan ------------------------------------------------------------------------------------ */

/* Of one comparison "member op literal"; others bound nothing. *ret_is_prefix: only the beginning is bound. */
static struct where_range range_of(const struct node *n, size_t member, bool *ret_is_prefix)
{
    struct where_range r = {SPAN_NONE, SPAN_NONE};
    const struct node *a = n->first, *b = a != NULL ? a->next : NULL;
    *ret_is_prefix = false;
    if (n->op < N_EQ || b == NULL || a->member != member || b->member != 0 ||
        b->value.type != V_TEXT) {
        return r;
    }
    struct span v = b->value.text;
    *ret_is_prefix = n->op == N_STARTS;
    r.from = n->op == N_EQ || n->op == N_GT || n->op == N_GE || n->op == N_STARTS ? v : r.from;
    r.to = n->op == N_EQ || n->op == N_LT || n->op == N_LE || n->op == N_STARTS ? v : r.to;
    return r;
}

/* In lower case when the member is; behind a prefix stands a byte that no text has. */
static struct span bound(struct arena *a, struct span s, bool is_folded, bool is_prefix)
{
    uint8_t *p = s.p != NULL ? arena_alloc(a, s.n + 1) : NULL;
    if (p == NULL) {
        return SPAN_NONE;
    }
    for (size_t i = 0; i < s.n; i++) {
        p[i] = is_folded ? (uint8_t)fold(s.p[i]) : s.p[i];
    }
    p[s.n] = 0xff;
    return span_of(p, s.n + is_prefix);
}

struct where_range where_range(const struct where *w, size_t name, struct arena *a)
{
    struct where_range best = {SPAN_NONE, SPAN_NONE};
    bool is_list = w->root->op == N_AND, is_folded = w->names[name].is_folded;
    for (const struct node *k = is_list ? w->root->first : w->root; k != NULL;
         k = is_list ? k->next : NULL) {
        bool is_prefix;
        struct where_range r = range_of(k, name + 1, &is_prefix);
        struct span from = bound(a, r.from, is_folded, false);
        struct span to = bound(a, r.to, is_folded, is_prefix);
        if (from.p != NULL && (best.from.p == NULL || span_cmp(from, best.from) > 0)) {
            best.from = from;
        }
        if (to.p != NULL && (best.to.p == NULL || span_cmp(to, best.to) < 0)) {
            best.to = to;
        }
    }
    return best;
}
