/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"

#include "base/limits.h"
#include "wire/where.h"

static const struct where_name names[] = {{"id", true}, {"status", false}, {"hub", false}};
static const struct span rows[][3] = {
    {SPAN_LIT("a"), SPAN_LIT("enabled"), SPAN_LIT("")},
    {SPAN_LIT("dev-1"), SPAN_LIT("disabled"), SPAN_NONE},
    {SPAN_LIT("zz:9"), SPAN_LIT("b"), SPAN_LIT("Hub.example")},
};

/* "WORD (text)" */
static struct where *wrapped(struct span text, const char *before, const char *after,
                             struct arena *a)
{
    struct buf b = BUF_INIT(LIMIT_QUERY_TEXT);
    struct where *w = NULL;
    buf_add_str(&b, before);
    buf_add(&b, text);
    buf_add_str(&b, after);
    struct span copy = buf_err(&b) == OK ? arena_span(a, buf_span(&b)) : SPAN_NONE;
    buf_done(&b);
    return copy.p != NULL && where_read(copy, names, ARRAY_LEN(names), a, &w, NULL) == OK ? w
                                                                                          : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena a = ARENA_INIT(8u << 20);
    struct err_info info;
    struct where *w = NULL;
    struct span text = span_of(data, n);
    enum err e = where_read(text, names, ARRAY_LEN(names), &a, &w, &info);
    ASSERT(e == OK || e == E_ARG);
    if (e == OK) {
        struct where *not_w = wrapped(text, "NOT (", ")", &a);
        struct where *and_w = wrapped(text, "(", ") AND undefined = 1", &a);
        struct where *or_w = wrapped(text, "true OR (", ")", &a);
        struct where_range range = where_range(w, 0, &a);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            enum where_truth t = where_judge(w, rows[i]);
            /* The laws of the logic, and that the bounds lose no row. */
            if (not_w != NULL) {
                enum where_truth not_t = where_judge(not_w, rows[i]);
                ASSERT(t == WHERE_UNDEFINED ? not_t == t : not_t != t && not_t != WHERE_UNDEFINED);
            }
            ASSERT(and_w == NULL ||
                   where_judge(and_w, rows[i]) == (t == WHERE_FALSE ? t : WHERE_UNDEFINED));
            ASSERT(or_w == NULL || where_judge(or_w, rows[i]) == WHERE_TRUE);
            ASSERT(t != WHERE_TRUE || range.from.p == NULL ||
                   span_cmp(rows[i][0], range.from) >= 0);
            ASSERT(t != WHERE_TRUE || range.to.p == NULL || span_cmp(rows[i][0], range.to) <= 0);
        }
    }
    arena_done(&a);
    return 0;
}
