/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/twin.h"

#include <stdio.h>

#include "base/limits.h"

/* --- where we are, for the reason in info ------------------------------------------------- */
struct place {
    const struct place *up; /* NULL at the root */
    struct span name;       /* p NULL: an array element */
};

static void place_text(const struct place *p, char *dst, size_t n)
{
    struct buf b = BUF_INIT(160);
    const struct place *chain[LIMIT_TWIN_DEPTH + 2];
    size_t count = 0;
    for (; p != NULL && p->up != NULL && count < ARRAY_LEN(chain); p = p->up) {
        chain[count++] = p;
    }
    while (count-- > 0) {
        if (chain[count]->name.p == NULL) {
            buf_add_str(&b, "[]");
            continue;
        }
        buf_add_str(&b, b.n > 0 ? "." : "");
        buf_add(&b, span_sub(chain[count]->name, 0, 40));
    }
    (void)snprintf(dst, n, "%.*s", SPAN_ARG(buf_span(&b)));
    buf_done(&b);
}

static enum err bad(struct err_info *info, const struct place *at, const char *why)
{
    if (info != NULL) {
        char text[170];
        place_text(at, text, sizeof(text));
        (void)!err_set(info, E_ARG, "\"%s\": %s", text, why); /* its value is known */
    }
    return E_ARG;
}

/* --- keys --------------------------------------------------------------------------------- */
/* Bytes of the control character at s[i]: C0, DEL, C1 (two bytes of UTF-8); 0: none. */
static size_t control_len(struct span s, size_t i)
{
    if (s.p[i] < 0x20 || s.p[i] == 0x7f) {
        return 1;
    }
    return s.p[i] == 0xc2 && i + 1 < s.n && s.p[i + 1] < 0xa0 ? 2 : 0;
}

static const char *key_fault(struct span key)
{
    if (key.n > LIMIT_TWIN_KEY) {
        return "name is longer than 1024 bytes";
    }
    for (size_t i = 0; i < key.n; i++) {
        if (control_len(key, i) > 0) {
            return "name has a control character";
        }
        if (key.p[i] == '.' || key.p[i] == '$' || key.p[i] == '#' || key.p[i] == ' ') {
            return "name has one of '.', '$', '#', ' '";
        }
    }
    return NULL;
}

static bool is_ours(struct span key)
{
    return span_is(key, "$version") || span_is(key, "$metadata");
}

/* --- values ------------------------------------------------------------------------------- */
struct check {
    enum twin_form form;
    struct err_info *info;
};

static enum err check_value(const struct check *c, const struct json *v, const struct place *at,
                            unsigned depth, bool in_array);

static enum err check_object(const struct check *c, const struct json *o, const struct place *at,
                             unsigned depth, bool in_array)
{
    struct json_cursor cursor = {NULL, false};
    struct place here = {.up = at};
    struct json *v;
    while (json_next(o, &cursor, &here.name, &v)) {
        if (depth == 0 && is_ours(here.name)) {
            continue;
        }
        const char *fault = key_fault(here.name);
        enum err e =
            fault != NULL ? bad(c->info, &here, fault) : check_value(c, v, &here, depth, in_array);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static enum err check_array(const struct check *c, const struct json *a, const struct place *at,
                            unsigned depth)
{
    const struct place here = {.up = at};
    size_t n = json_count(a);
    for (size_t i = 0; i < n; i++) {
        enum err e = check_value(c, json_at(a, i), &here, depth, true);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

/* depth: of the container that holds v; the root is 0. */
static enum err check_value(const struct check *c, const struct json *v, const struct place *at,
                            unsigned depth, bool in_array)
{
    enum json_type t = json_type_of(v);
    if ((t == JSON_T_OBJECT || t == JSON_T_ARRAY) && depth == LIMIT_TWIN_DEPTH) {
        return bad(c->info, at, "nested deeper than 10 levels");
    }
    switch (t) {
    case JSON_T_OBJECT:
        return check_object(c, v, at, depth + 1, in_array);
    case JSON_T_ARRAY:
        return check_array(c, v, at, depth + 1);
    case JSON_T_NULL:
        if (in_array || c->form == TWIN_WHOLE) {
            return bad(c->info, at, in_array ? "null inside an array" : "null outside of a patch");
        }
        return OK;
    case JSON_T_STR:
        return json_str(v).n > LIMIT_TWIN_STRING ? bad(c->info, at, "text above 4096 bytes") : OK;
    case JSON_T_INT:
        return json_int(v) < TWIN_INT_MIN || json_int(v) > TWIN_INT_MAX
                   ? bad(c->info, at, "integer beyond 4503599627370496")
                   : OK;
    case JSON_T_BOOL:
    case JSON_T_REAL:
    default:
        return OK;
    }
}

enum err twin_check(const struct json *section, enum twin_form form, struct err_info *info)
{
    const struct check c = {form, info};
    const struct place root = {NULL, SPAN_NONE};
    if (!json_is(section, JSON_T_OBJECT)) {
        return bad(info, &root, "a twin section is an object");
    }
    return check_object(&c, section, &root, 0, false);
}

/* --- size --------------------------------------------------------------------------------- */
static size_t text_size(struct span s)
{
    size_t n = s.n;
    for (size_t i = 0; i < s.n; i++) {
        n -= control_len(s, i);
    }
    return n;
}

static size_t value_size(const struct json *v, bool is_root)
{
    size_t size = 0;
    struct json_cursor cursor = {NULL, false};
    struct span name;
    struct json *member;
    switch (json_type_of(v)) {
    case JSON_T_OBJECT:
        while (json_next(v, &cursor, &name, &member)) {
            size += is_root && is_ours(name) ? 0 : text_size(name) + value_size(member, false);
        }
        return size;
    case JSON_T_ARRAY:
        for (size_t i = 0; i < json_count(v); i++) {
            size += value_size(json_at(v, i), false);
        }
        return size;
    case JSON_T_STR:
        return text_size(json_str(v));
    case JSON_T_INT:
    case JSON_T_REAL:
        return 8;
    case JSON_T_BOOL:
        return 4;
    case JSON_T_NULL:
    default:
        return 0;
    }
}

size_t twin_size(const struct json *section)
{
    return value_size(section, true);
}

enum err twin_check_size(const struct json *section, size_t max, struct err_info *info)
{
    size_t n = twin_size(section);
    return n <= max ? OK
                    : err_set(info, E_ARG, "twin section has %zu bytes, %zu are allowed", n, max);
}

/* --- merging ------------------------------------------------------------------------------ */
void twin_strip(struct json *section)
{
    json_del(section, "$version");
    json_del(section, "$metadata");
}

enum err twin_merge(struct json *section, const struct json *patch)
{
    ASSERT(json_is(section, JSON_T_OBJECT) && json_is(patch, JSON_T_OBJECT));
    struct json *clean = json_clone(patch);
    if (clean == NULL) {
        return E_NOMEM;
    }
    twin_strip(clean);
    struct json *target = section;
    enum err e = json_merge_patch(&target, clean);
    ASSERT(target == section);
    json_free(clean);
    return e;
}
