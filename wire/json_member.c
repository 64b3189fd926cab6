/* SPDX-License-Identifier: Apache-2.0 */
/* Typed members by path: second half of wire/json.h. */
#include "wire/json.h"

/* The value, NULL when absent (or null, unless null is a value of its own). */
static enum err find(const struct json *j, const char *path, unsigned flags, bool null_counts,
                     struct json **ret, struct err_info *info)
{
    struct span rest = span_str(path);
    struct json *at = (struct json *)(uintptr_t)j;
    while (rest.p != NULL) {
        if (!json_is(at, JSON_T_OBJECT)) {
            size_t n = (size_t)((const char *)rest.p - path); /* of what was walked, and its dot */
            return n == 0 ? err_set(info, E_ARG, "an object is wanted")
                          : err_set(info, E_ARG, "\"%.*s\" is no object", (int)n - 1, path);
        }
        struct span name = span_cut(&rest, '.');
        char key[128];
        ASSERT(span_to_cstr(name, key, sizeof(key)));
        at = (flags & JSON_F_NOCASE) != 0 ? json_get_nocase(at, key) : json_get(at, key);
        if (at == NULL || (json_is(at, JSON_T_NULL) && (rest.p != NULL || !null_counts))) {
            at = NULL;
            break;
        }
    }
    if (at == NULL && (flags & JSON_F_NEED) != 0) {
        return err_set(info, E_ARG_NULL, "\"%s\" is missing", path);
    }
    *ret = at;
    return OK;
}

static enum err find_typed(const struct json *j, const char *path, unsigned flags,
                           enum json_type want, struct json **ret, struct err_info *info)
{
    struct json *v = NULL;
    enum err e = find(j, path, flags, (flags & JSON_F_NULL_BAD) != 0, &v, info);
    if (e != OK) {
        return e;
    }
    if (v != NULL && !json_is(v, want)) {
        return err_set(info, E_ARG, "\"%s\" must be of type %s", path, json_type_name(want));
    }
    *ret = v;
    return OK;
}

enum err json_get_str(const struct json *j, const char *path, unsigned flags, struct span *ret,
                      struct err_info *info)
{
    struct json *v = NULL;
    enum err e = find_typed(j, path, flags, JSON_T_STR, &v, info);
    if (e == OK && v != NULL) {
        *ret = json_str(v);
    }
    return e;
}

enum err json_get_int(const struct json *j, const char *path, unsigned flags, int64_t min,
                      int64_t max, int64_t *ret, struct err_info *info)
{
    struct json *v = NULL;
    enum err e = find_typed(j, path, flags, JSON_T_INT, &v, info);
    if (e != OK || v == NULL) {
        return e;
    }
    if (json_int(v) < min || json_int(v) > max) {
        return err_set(info, E_ARG, "\"%s\" must be within %lld..%lld", path, (long long)min,
                       (long long)max);
    }
    *ret = json_int(v);
    return OK;
}

enum err json_get_bool(const struct json *j, const char *path, unsigned flags, bool *ret,
                       struct err_info *info)
{
    struct json *v = NULL;
    enum err e = find_typed(j, path, flags, JSON_T_BOOL, &v, info);
    if (e == OK && v != NULL) {
        *ret = json_bool(v);
    }
    return e;
}

static enum err get_container(const struct json *j, const char *path, unsigned flags,
                              enum json_type want, struct json **ret, struct err_info *info)
{
    struct json *v = NULL;
    enum err e = find_typed(j, path, flags, want, &v, info);
    if (e == OK && v != NULL) {
        *ret = v;
    }
    return e;
}

enum err json_get_object(const struct json *j, const char *path, unsigned flags, struct json **ret,
                         struct err_info *info)
{
    return get_container(j, path, flags, JSON_T_OBJECT, ret, info);
}

enum err json_get_array(const struct json *j, const char *path, unsigned flags, struct json **ret,
                        struct err_info *info)
{
    return get_container(j, path, flags, JSON_T_ARRAY, ret, info);
}

enum err json_get_any(const struct json *j, const char *path, unsigned flags, struct json **ret,
                      struct err_info *info)
{
    struct json *v = NULL;
    enum err e = find(j, path, flags, true, &v, info);
    if (e == OK && v != NULL) {
        *ret = v;
    }
    return e;
}

enum err json_get_word(const struct json *j, const char *path, unsigned flags,
                       const char *const *words, size_t n, size_t *ret, struct err_info *info)
{
    struct json *v = NULL;
    enum err e = find_typed(j, path, flags, JSON_T_STR, &v, info);
    if (e != OK || v == NULL) {
        return e;
    }
    for (size_t i = 0; i < n; i++) {
        if ((flags & JSON_F_NOCASE) != 0 ? span_is_nocase(json_str(v), words[i])
                                         : span_is(json_str(v), words[i])) {
            *ret = i;
            return OK;
        }
    }
    return err_set(info, E_ARG, "\"%s\" has a word that is not known here", path);
}
