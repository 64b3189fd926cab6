/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/where.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/text.h"

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

/* --- words ------------------------------------------------------------------------------------------ */

enum word_type { W_END, W_NAME, W_TEXT, W_NUMBER, W_SIGN };
struct word {
    enum word_type type;
    struct span text; /* W_TEXT: without its quotes, escapes undone */
};

struct reader {
    struct span all, rest;
    struct word word; /* the one to be read next */
    const struct where_name *names;
    size_t n_names;
    struct arena *arena;
    struct err_info *info;
    unsigned depth;
    enum err err; /* sticky */
};

static void fail(struct reader *r, const char *what)
{
    if (r->err == OK) {
        r->err =
            err_set(r->info, E_ARG, "query: %s near character %zu", what, r->all.n - r->rest.n);
    }
}

static bool is_name_start(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Up to the closing quote; a backslash takes the next byte as it is. */
static struct span read_quoted(struct reader *r, uint8_t quote)
{
    size_t end = 1, n = 0;
    while (end < r->rest.n && r->rest.p[end] != quote) {
        end += r->rest.p[end] == '\\' ? 2 : 1;
    }
    if (end >= r->rest.n) {
        fail(r, "a text without its end");
        return SPAN_NONE;
    }
    uint8_t *text = arena_alloc(r->arena, end);
    if (text == NULL) {
        r->err = E_NOMEM;
        return SPAN_NONE;
    }
    for (size_t i = 1; i < end; i++) {
        i += r->rest.p[i] == '\\';
        text[n++] = r->rest.p[i];
    }
    r->rest = span_from(r->rest, end + 1);
    return span_of(text, n);
}

static size_t word_length(struct span s)
{
    static const char *const long_signs[] = {"!=", "<>", "<=", ">="};
    size_t n = 0;
    if (is_name_start(s.p[0])) {
        while (n < s.n && (is_name_start(s.p[n]) || is_digit(s.p[n]) || s.p[n] == '.')) {
            n++;
        }
        return n;
    }
    if (is_digit(s.p[0])) {
        while (n < s.n && (is_digit(s.p[n]) || is_name_start(s.p[n]) || s.p[n] == '.')) {
            n++;
        }
        return n;
    }
    for (size_t i = 0; i < ARRAY_LEN(long_signs); i++) {
        if (span_starts(s, span_str(long_signs[i]))) {
            return 2;
        }
    }
    return 1;
}

static void next(struct reader *r)
{
    while (r->rest.n != 0 &&
           (r->rest.p[0] == ' ' || (r->rest.p[0] >= '\t' && r->rest.p[0] <= '\r'))) {
        r->rest = span_from(r->rest, 1);
    }
    r->word = (struct word){W_END, SPAN_NONE};
    if (r->rest.n == 0 || r->err != OK) {
        return;
    }
    uint8_t c = r->rest.p[0];
    if (c == '\'' || c == '"') {
        r->word.text = read_quoted(r, c);
        r->word.type = W_TEXT;
        return;
    }
    r->word.type = is_name_start(c) ? W_NAME : is_digit(c) ? W_NUMBER : W_SIGN;
    r->word.text = span_sub(r->rest, 0, word_length(r->rest));
    r->rest = span_from(r->rest, r->word.text.n);
}

static bool at_word(const struct reader *r, const char *word)
{
    return r->word.type == W_NAME && span_is_nocase(r->word.text, word);
}

static bool take_word(struct reader *r, const char *word)
{
    bool is_it = at_word(r, word);
    if (is_it) {
        next(r);
    }
    return is_it;
}

static bool take_sign(struct reader *r, const char *sign)
{
    bool is_it = r->word.type == W_SIGN && span_is(r->word.text, sign);
    if (is_it) {
        next(r);
    }
    return is_it;
}

static void want_sign(struct reader *r, const char *sign, const char *what)
{
    if (!take_sign(r, sign)) {
        fail(r, what);
    }
}

/* --- conditions --------------------------------------------------------------------------------------- */

/* Never NULL while r->err is OK. */
static struct node *node_new(struct reader *r, enum node_op op)
{
    struct node *n = r->err == OK ? arena_new(r->arena, struct node) : NULL;
    if (n != NULL) {
        *n = (struct node){.op = op};
    } else if (r->err == OK) {
        r->err = E_NOMEM;
    }
    return n;
}

static struct node *or_of(struct reader *r);

static bool number_of(struct span s, double *ret)
{
    char text[40], *end;
    if (!span_to_cstr(s, text, sizeof(text))) {
        return false;
    }
    *ret = strtod(text, &end); /* hexadecimal too; the C locale */
    return *end == '\0';
}

static void member_of(struct reader *r, struct node *n)
{
    for (size_t i = 0; i < r->n_names; i++) {
        if (span_is_nocase(r->word.text, r->names[i].name)) {
            n->member = i + 1;
            return;
        }
    }
    fail(r, "no member that can be asked for");
}

/* A literal or a member. */
static struct node *operand(struct reader *r)
{
    /* clang-format off */
    static const struct {
        const char *word;
        struct value v;
    } words[] = {
        { "true",      { .type = V_BOOL, .truth = true } },
        { "false",     { .type = V_BOOL } },
        { "null",      { .type = V_NULL } },
        { "undefined", { .type = V_UNDEFINED } },
    };
    /* clang-format on */
    bool is_minus = take_sign(r, "-");
    struct node *n = node_new(r, N_VALUE);
    if (n == NULL) {
        return NULL;
    }
    if (r->word.type == W_NUMBER) {
        n->value.type = V_NUMBER;
        if (!number_of(r->word.text, &n->value.number)) {
            fail(r, "no number");
        }
        n->value.number = is_minus ? -n->value.number : n->value.number;
    } else if (is_minus) {
        fail(r, "arithmetic is not offered here");
    } else if (r->word.type == W_TEXT) {
        n->value = (struct value){.type = V_TEXT, .text = r->word.text};
    } else if (r->word.type == W_NAME) {
        bool is_word = false;
        for (size_t i = 0; i < ARRAY_LEN(words) && !is_word; i++) {
            is_word = span_is_nocase(r->word.text, words[i].word);
            n->value = is_word ? words[i].v : n->value;
        }
        if (!is_word) {
            member_of(r, n);
        }
    } else {
        fail(r, "a member or a value is missing");
    }
    next(r);
    return n;
}

static struct node *call(struct reader *r)
{
    /* clang-format off */
    static const struct {
        const char *name;
        enum node_op op;
        unsigned n_operands;
    } functions[] = {
        { "IS_DEFINED",  N_DEFINED,  1 },
        { "STARTS_WITH", N_STARTS,   2 },
        { "ENDS_WITH",   N_ENDS,     2 },
        { "CONTAINS",    N_CONTAINS, 2 },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        if (!at_word(r, functions[i].name)) {
            continue;
        }
        struct node *n = node_new(r, functions[i].op);
        next(r);
        want_sign(r, "(", "a function without (");
        struct node **end = n != NULL ? &n->first : NULL;
        for (unsigned k = 0; k < functions[i].n_operands && r->err == OK && end != NULL; k++) {
            if (k != 0) {
                want_sign(r, ",", "a function with too few operands");
            }
            if ((*end = operand(r)) != NULL) {
                end = &(*end)->next;
            }
        }
        want_sign(r, ")", "a function without )");
        return n;
    }
    return operand(r);
}

static struct node *in_list(struct reader *r, struct node *left)
{
    struct node *n = node_new(r, N_IN);
    want_sign(r, "[", "IN without [");
    struct node **end = left != NULL ? &left->next : NULL;
    do {
        if (end != NULL && r->err == OK && (*end = operand(r)) != NULL) {
            if ((*end)->member != 0) {
                fail(r, "a list has literals only");
            }
            end = &(*end)->next;
        }
    } while (r->err == OK && take_sign(r, ","));
    want_sign(r, "]", "a list without ]");
    if (n != NULL) {
        n->first = left;
    }
    return n;
}

static struct node *not_of(struct reader *r, struct node *part)
{
    struct node *n = node_new(r, N_NOT);
    if (n != NULL) {
        n->first = part;
    }
    return n;
}

static struct node *comparison(struct reader *r)
{
    /* clang-format off */
    static const struct {
        const char *sign;
        enum node_op op;
    } signs[] = {
        { "=", N_EQ }, { "!=", N_NE }, { "<>", N_NE }, { "<", N_LT }, { "<=", N_LE }, { ">", N_GT }, { ">=", N_GE },
    };
    /* clang-format on */
    if (take_sign(r, "(")) {
        struct node *inner = or_of(r);
        want_sign(r, ")", "a bracket without its end");
        return inner;
    }
    struct node *left = call(r);
    if (take_word(r, "IN")) {
        return in_list(r, left);
    }
    if (take_word(r, "NIN")) {
        return not_of(r, in_list(r, left));
    }
    if (at_word(r, "NOT")) {
        next(r);
        if (!take_word(r, "IN")) {
            fail(r, "NOT without IN");
        }
        return not_of(r, in_list(r, left));
    }
    for (size_t i = 0; i < ARRAY_LEN(signs); i++) {
        if (take_sign(r, signs[i].sign)) {
            struct node *n = node_new(r, signs[i].op);
            struct node *right = operand(r);
            if (n != NULL && left != NULL) {
                n->first = left;
                left->next = right;
            }
            return n;
        }
    }
    return left;
}

static struct node *negation(struct reader *r)
{
    struct node *n;
    if (++r->depth > LIMIT_QUERY_DEPTH) {
        fail(r, "too deep");
        return NULL;
    }
    n = take_word(r, "NOT") ? not_of(r, negation(r)) : comparison(r);
    r->depth--;
    return n;
}

/* Parts joined by one word: one node for all, so that judging goes no deeper than the brackets. */
static struct node *joined(struct reader *r, enum node_op op, const char *word,
                           struct node *(*part)(struct reader *))
{
    struct node *first = part(r);
    if (first == NULL || !at_word(r, word)) {
        return first;
    }
    struct node *all = node_new(r, op);
    if (all == NULL) {
        return NULL;
    }
    /* A part that is in use as an operand's head has no next of its own: only lists link by it. */
    all->first = first;
    struct node **end = &first->next;
    while (r->err == OK && take_word(r, word)) {
        if ((*end = part(r)) != NULL) {
            end = &(*end)->next;
        }
    }
    return all;
}

static struct node *and_of(struct reader *r)
{
    return joined(r, N_AND, "AND", negation);
}

static struct node *or_of(struct reader *r)
{
    return joined(r, N_OR, "OR", and_of);
}

enum err where_read(struct span text, const struct where_name *names, size_t n_names,
                    struct arena *a, struct where **ret, struct err_info *info)
{
    struct reader r = {
        .all = text, .rest = text, .names = names, .n_names = n_names, .arena = a, .info = info};
    struct where *w = arena_new(a, struct where);
    if (text.n > LIMIT_QUERY_TEXT) {
        return err_set(info, E_ARG, "query: at most %u characters", LIMIT_QUERY_TEXT);
    }
    if (w == NULL) {
        return E_NOMEM;
    }
    next(&r);
    *w = (struct where){or_of(&r), names};
    if (r.word.type != W_END) {
        fail(&r, "unexpected word");
    }
    if (r.err == OK) {
        *ret = w;
    }
    return r.err;
}

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
