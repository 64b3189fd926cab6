/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/where_int.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/text.h"

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
