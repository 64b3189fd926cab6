/* SPDX-License-Identifier: Apache-2.0 */
#include "base/conf_int.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/limits.h"

static void *slot(const struct conf_row *row, void *into)
{
    return (char *)into + row->offset;
}

enum err conf_no_memory(struct err_info *info)
{
    return err_set(info, E_NOMEM, "%s", err_text(E_NOMEM));
}

/* Also what could not be written back into a file: a ';' after a blank begins a comment there. */
static bool is_plain(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        bool is_comment = s.p[i] == ';' && (i == 0 || s.p[i - 1] == ' ' || s.p[i - 1] == '\t');
        if (s.p[i] < 0x20 || s.p[i] == 0x7f || is_comment) {
            return false;
        }
    }
    return span_is_utf8(s);
}

static enum err check_text(const struct conf_row *row, struct span s, struct err_info *info)
{
    if (!is_plain(s)) {
        return err_set(info, E_CONFIG, "\"%s\" is not plain UTF-8 text", row->name);
    }
    if (row->max != 0 && (s.n < row->min || s.n > row->max)) {
        return err_set(info, E_CONFIG, "\"%s\" must have %" PRIu64 " to %" PRIu64 " bytes",
                       row->name, row->min, row->max);
    }
    return OK;
}

static enum err dup_text(struct span s, struct conf_value *ret, struct err_info *info)
{
    if (s.n != 0 && (ret->text = span_dup(s)) == NULL) {
        return conf_no_memory(info);
    }
    return OK;
}

static enum err parse_str(const struct conf_row *row, struct span s, const char *dir,
                          struct conf_value *ret, struct err_info *info)
{
    (void)dir;
    enum err e = check_text(row, s, info);
    return e == OK ? dup_text(s, ret, info) : e;
}

static enum err parse_path(const struct conf_row *row, struct span s, const char *dir,
                           struct conf_value *ret, struct err_info *info)
{
    enum err e = parse_str(row, s, NULL, ret, info);
    if (e != OK || ret->text == NULL || ret->text[0] == '/' || dir == NULL) {
        return e;
    }
    char *joined = fs_join(dir, ret->text);
    if (joined == NULL) {
        return conf_no_memory(info); /* the caller frees what ret holds */
    }
    free(ret->text);
    ret->text = joined;
    return OK;
}

static enum err parse_list(const struct conf_row *row, struct span s, const char *dir,
                           struct conf_value *ret, struct err_info *info)
{
    (void)dir;
    enum err e = check_text(row, s, info);
    if (e != OK || s.n == 0) {
        return e;
    }
    AUTO(buf_done) struct buf b = BUF_INIT(LIMIT_CONF_FILE);
    while (s.p != NULL) {
        struct span item = span_trim(span_cut(&s, ','));
        if (item.n == 0) {
            return err_set(info, E_CONFIG, "\"%s\" has an empty item", row->name);
        }
        if (b.n != 0) {
            buf_add_u8(&b, ',');
        }
        buf_add(&b, item);
    }
    ret->text = buf_take_str(&b);
    return ret->text != NULL ? OK : conf_no_memory(info);
}

static enum err parse_u64(const struct conf_row *row, struct span s, const char *dir,
                          struct conf_value *ret, struct err_info *info)
{
    static const struct {
        uint8_t suffix;
        unsigned shift;
    } units[] = {{'k', 10}, {'M', 20}, {'G', 30}};
    (void)dir;
    unsigned shift = 0;
    uint64_t v;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (s.n != 0 && s.p[s.n - 1] == units[i].suffix) {
            shift = units[i].shift;
            s.n--;
            break;
        }
    }
    if (!span_to_u64(s, &v) || v > UINT64_MAX >> shift) {
        return err_set(info, E_CONFIG, "\"%s\" must be a number, k, M or G may follow", row->name);
    }
    v <<= shift;
    if (v < row->min || (row->max != 0 && v > row->max)) {
        return err_set(info, E_CONFIG, "\"%s\" must be %" PRIu64 " to %" PRIu64, row->name,
                       row->min, row->max != 0 ? row->max : UINT64_MAX);
    }
    ret->number = v;
    return OK;
}

static enum err parse_bool(const struct conf_row *row, struct span s, const char *dir,
                           struct conf_value *ret, struct err_info *info)
{
    static const char *const words[][2] = {{"no", "yes"}, {"false", "true"}, {"off", "on"}};
    (void)dir;
    for (size_t i = 0; i < ARRAY_LEN(words) * 2; i++) {
        if (span_is(s, words[i / 2][i % 2])) {
            ret->flag = i % 2 == 1;
            return OK;
        }
    }
    return err_set(info, E_CONFIG, "\"%s\" must be yes or no", row->name);
}

/* clang-format off */
static enum err (*const parsers[])(const struct conf_row *, struct span, const char *,
                                   struct conf_value *, struct err_info *) = {
    [CONF_STR]  = parse_str,
    [CONF_PATH] = parse_path,
    [CONF_U64]  = parse_u64,
    [CONF_BOOL] = parse_bool,
    [CONF_LIST] = parse_list,
};
/* clang-format on */

void conf_value_done(struct conf_value *v)
{
    free(v->text);
    v->text = NULL;
}

enum err conf_parse(const struct conf_row *row, struct span s, const char *dir,
                    struct conf_value *ret, struct err_info *info)
{
    ASSERT((unsigned)row->type < ARRAY_LEN(parsers));
    AUTO(conf_value_done) struct conf_value v = {.is_given = true};
    enum err e = parsers[row->type](row, span_trim(s), dir, &v, info);
    if (e != OK) {
        return e;
    }
    conf_value_done(ret);
    *ret = v;
    v.text = NULL;
    return OK;
}

void conf_apply(const struct conf_row *row, struct conf_value *v, void *into)
{
    switch (row->type) {
    case CONF_STR:
    case CONF_PATH:
    case CONF_LIST: {
        char **at = slot(row, into);
        free(*at);
        *at = TAKE(v->text);
        break;
    }
    case CONF_U64:
        *(uint64_t *)slot(row, into) = v->number;
        break;
    case CONF_BOOL:
        *(bool *)slot(row, into) = v->flag;
        break;
    }
}
