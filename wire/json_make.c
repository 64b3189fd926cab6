/* SPDX-License-Identifier: Apache-2.0 */
/* Making and changing trees: second part of wire/json.h. */
#include "wire/json.h"

#include "wire/json_jansson.h"

struct json *json_new_object(void)
{
    return out(json_object());
}

struct json *json_new_array(void)
{
    return out(json_array());
}

struct json *json_new_str(struct span s)
{
    if (!span_is_utf8(s)) {
        return NULL;
    }
    return out(json_stringn_nocheck(s.n > 0 ? (const char *)s.p : "", s.n));
}

struct json *json_new_int(int64_t v)
{
    return out(json_integer(v));
}

struct json *json_new_real(double v)
{
    return out(json_real(v));
}

struct json *json_new_bool(bool v)
{
    return out(json_boolean(v));
}

struct json *json_new_null(void)
{
    return out(json_null());
}

struct json *json_clone(const struct json *j)
{
    return j != NULL ? out(json_deep_copy(jj(j))) : NULL;
}

enum err json_set_span(struct json *object, struct span name, struct json *v)
{
    ASSERT(json_is(object, JSON_T_OBJECT) && object != v);
    if (!span_is_utf8(name)) {
        json_free(v);
        return E_UTF8;
    }
    /* takes v also when it fails; NULL fails */
    return json_object_setn_new_nocheck(jj(object), name.n > 0 ? (const char *)name.p : "", name.n,
                                        jj(v)) == 0
               ? OK
               : E_NOMEM;
}

enum err json_set(struct json *object, const char *name, struct json *v)
{
    return json_set_span(object, span_str(name), v);
}

enum err json_set_str(struct json *object, const char *name, struct span s)
{
    return json_set(object, name, json_new_str(s));
}

enum err json_add(struct json *array, struct json *v)
{
    ASSERT(json_is(array, JSON_T_ARRAY) && array != v);
    return json_array_append_new(jj(array), jj(v)) == 0 ? OK : E_NOMEM;
}

static void del_span(struct json *object, struct span name)
{
    (void)json_object_deln(jj(object), name.n > 0 ? (const char *)name.p : "",
                           name.n); /* absent is fine */
}

void json_del(struct json *object, const char *name)
{
    del_span(object, span_str(name));
}

void json_del_nocase(struct json *object, const char *name)
{
    struct json_cursor c = {NULL, false};
    struct span n;
    struct json *v;
    while (json_next(object, &c, &n, &v)) {
        if (span_is_nocase(n, name)) {
            del_span(object, n);
            c = (struct json_cursor){NULL, false}; /* the iterator is void now */
        }
    }
}

static enum err merge_member(struct json *target, struct span name, const struct json *value)
{
    if (json_is(value, JSON_T_NULL)) {
        del_span(target, name);
        return OK;
    }
    if (!json_is(value, JSON_T_OBJECT)) {
        return json_set_span(target, name, json_clone(value));
    }
    struct json *child = json_get_span(target, name);
    if (json_is(child, JSON_T_OBJECT)) {
        return json_merge_patch(&child, value);
    }
    enum err e = json_set_span(target, name, json_new_object());
    child = json_get_span(target, name);
    return e == OK ? json_merge_patch(&child, value) : e;
}

enum err json_merge_patch(struct json **target, const struct json *patch)
{
    bool is_object = json_is(patch, JSON_T_OBJECT);
    if (!is_object || !json_is(*target, JSON_T_OBJECT)) {
        struct json *fresh = is_object ? json_new_object() : json_clone(patch);
        if (fresh == NULL) {
            return E_NOMEM;
        }
        json_free(*target);
        *target = fresh;
    }
    struct json_cursor c = {NULL, false};
    struct span name;
    struct json *value;
    while (is_object && json_next(patch, &c, &name, &value)) {
        enum err e = merge_member(*target, name, value);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}
