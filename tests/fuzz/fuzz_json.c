/* SPDX-License-Identifier: Apache-2.0 */
/* Read, written, read again; merged; looked into. */
#include "tests/fuzz/fuzz.h"

#include "base/limits.h"
#include "wire/json.h"

#define BIG (1u << 22)

static struct json *again(const struct json *j)
{
    struct buf b = BUF_INIT(BIG);
    struct json *k = NULL;
    json_write(&b, j);
    ASSERT(buf_err(&b) == OK);
    ASSERT(json_read(buf_span(&b), BIG, &k, NULL) == OK);
    buf_done(&b);
    return k;
}

static void members(const struct json *j)
{
    static const char *const words[] = {"enabled", "disabled"};
    struct err_info info;
    struct span s;
    int64_t i;
    bool flag;
    size_t w;
    struct json *v = NULL;
    for (unsigned flags = 0; flags < 8; flags++) {
        (void)!json_get_str(j, "a", flags, &s, &info);
        (void)!json_get_str(j, "a.b.c", flags, &s, &info);
        (void)!json_get_int(j, "a", flags, -5, 5, &i, &info);
        (void)!json_get_bool(j, "a.b", flags, &flag, &info);
        (void)!json_get_object(j, "b", flags, &v, &info);
        (void)!json_get_array(j, "b", flags, &v, &info);
        (void)!json_get_any(j, "b.a", flags, &v, &info);
        (void)!json_get_word(j, "a", flags, words, 2, &w, &info);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    struct json *j = NULL;
    struct err_info info;
    struct buf text = BUF_INIT(BIG);
    size_t tokens = 0;
    size_t depth = 0;
    json_write_str(&text, in); /* whatever the bytes are, this is JSON unless there is a zero */
    ASSERT(span_is_utf8(buf_span(&text)));
    buf_done(&text);
    enum err counted = json_count_tokens(in, &tokens, &depth);
    if (json_read(in, BIG, &j, &info) != OK) {
        return 0;
    }
    ASSERT(counted == OK && tokens <= LIMIT_JSON_TOKENS && depth <= LIMIT_JSON_DEPTH);
    struct json *k = again(j);
    ASSERT(json_same(j, k));
    members(j);
    struct json *copy = json_clone(j);
    ASSERT(copy != NULL && json_same(copy, j));
    ASSERT(json_merge_patch(&copy, k) == OK);
    json_free(copy);
    copy = json_new_null();
    ASSERT(json_merge_patch(&copy, j) == OK);
    json_free(again(copy));
    json_free(copy);
    json_free(k);
    json_free(j);
    return 0;
}
