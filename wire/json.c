/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "wire/json_jansson.h"

void json_free(struct json *j)
{
    json_decref(jj(j));
}

struct json *json_share(struct json *j)
{
    (void)json_incref(jj(j));
    return j;
}

/* --- counting before building ------------------------------------------------------------- */
static size_t skip_string(struct span t, size_t i)
{
    while (++i < t.n && t.p[i] != '"') {
        i += t.p[i] == '\\' ? 1u : 0u;
    }
    return i;
}

static bool is_separator(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',' || c == ':';
}

enum err json_count_tokens(struct span t, size_t *ret_tokens, size_t *ret_depth)
{
    size_t tokens = 0;
    size_t depth = 0;
    size_t deepest = 0;
    bool in_scalar = false;
    if (!span_is_utf8(t)) {
        return E_UTF8;
    }
    for (size_t i = 0; i < t.n; i++) {
        uint8_t c = t.p[i];
        bool opens = c == '{' || c == '[';
        bool closes = c == '}' || c == ']';
        bool plain = !opens && !closes && c != '"' && !is_separator(c);
        tokens += opens || c == '"' || (plain && !in_scalar) ? 1u : 0u;
        in_scalar = plain;
        if (opens) {
            depth++;
            deepest = MAX(deepest, depth);
        } else if (closes) {
            depth -= depth > 0 ? 1u : 0u;
        } else if (c == '"') {
            i = skip_string(t, i);
        }
    }
    *ret_tokens = tokens;
    *ret_depth = deepest;
    return OK;
}

/* --- text to tree ------------------------------------------------------------------------- */
static enum err limits_check(struct span text, struct err_info *info)
{
    size_t tokens = 0;
    size_t depth = 0;
    if (json_count_tokens(text, &tokens, &depth) != OK) {
        return err_set(info, E_UTF8, "JSON: not UTF-8, or a zero byte");
    }
    if (tokens > LIMIT_JSON_TOKENS) {
        return err_set(info, E_LIMIT, "JSON: more than %u names and values", LIMIT_JSON_TOKENS);
    }
    if (depth > LIMIT_JSON_DEPTH) {
        return err_set(info, E_LIMIT, "JSON: nested deeper than %u", LIMIT_JSON_DEPTH);
    }
    return OK;
}

enum err json_read(struct span text, size_t max_bytes, struct json **ret, struct err_info *info)
{
    if (text.n > max_bytes) {
        return err_set(info, E_TOO_LARGE, "JSON: more than %zu bytes", max_bytes);
    }
    if (span_starts(text, SPAN_LIT("\xef\xbb\xbf"))) {
        text = span_from(text, 3);
    }
    enum err e = limits_check(text, info);
    if (e != OK) {
        return e;
    }
    json_error_t why;
    bool no_memory = false;
    json_t *j = json_load_safe(text, &why, &no_memory);
    if (no_memory) {
        return err_set(info, E_NOMEM, "JSON: out of memory");
    }
    if (j == NULL) {
        return err_set(info, E_JSON, "JSON: line %d, column %d: %s", why.line, why.column,
                       why.text);
    }
    *ret = out(j);
    return OK;
}

enum err json_read_object(struct span text, size_t max_bytes, struct json **ret,
                          struct err_info *info)
{
    struct json *j = NULL;
    enum err e = json_read(text, max_bytes, &j, info);
    if (e != OK) {
        return e;
    }
    if (!json_is(j, JSON_T_OBJECT)) {
        json_free(j);
        return err_set(info, E_ARG, "JSON: an object is wanted");
    }
    *ret = j;
    return OK;
}

/* --- tree to text ------------------------------------------------------------------------- */
static const char *short_escape(uint8_t c)
{
    static const char *const escapes[] = {
        ['"'] = "\\\"", ['\\'] = "\\\\", ['\b'] = "\\b", ['\f'] = "\\f",
        ['\n'] = "\\n", ['\r'] = "\\r",  ['\t'] = "\\t"};
    return c < ARRAY_LEN(escapes) ? escapes[c] : NULL;
}

/* How many bytes from the start need no escape. Nearly all text is ASCII: those bytes pass without a call. */
static size_t plain_prefix(struct span s)
{
    size_t at = 0;
    while (at < s.n) {
        uint8_t c = s.p[at];
        size_t step = c < 0x80 ? 1 : span_utf8_len(span_from(s, at));
        if (c < 0x20 || c == '"' || c == '\\' || step == 0) {
            break;
        }
        at += step;
    }
    return at;
}

void json_write_str(struct buf *b, struct span s)
{
    buf_add_u8(b, '"');
    while (s.n > 0) {
        size_t plain = plain_prefix(s); /* copied in one piece */
        buf_add(b, span_sub(s, 0, plain));
        s = span_from(s, plain);
        if (s.n == 0) {
            break;
        }
        uint8_t c = s.p[0];
        if (short_escape(c) != NULL) {
            buf_add_str(b, short_escape(c));
        } else if (c < 0x20) {
            buf_addf(b, "\\u%04x", c);
        } else {
            buf_add_str(b, "\xef\xbf\xbd");
        }
        s = span_from(s, 1);
    }
    buf_add_u8(b, '"');
}

void json_write_real(struct buf *b, double v)
{
    ASSERT(isfinite(v));
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, v);
        double back = strtod(text, NULL);
        if (back == v) { /* also -0, which every form keeps */
            break;
        }
    }
    buf_add_str(b, text);
    if (strpbrk(text, ".e") == NULL) {
        buf_add_str(b, ".0"); /* stays a real when it is read again */
    }
}

#define WRITE_DEPTH 128u /* trees made by ourselves */

static void write_value(struct buf *b, const struct json *j, unsigned depth);

static void write_object(struct buf *b, const struct json *j, unsigned depth)
{
    struct json_cursor c = {NULL, false};
    struct span name;
    struct json *value;
    const char *comma = "{";
    while (json_next(j, &c, &name, &value)) {
        buf_add_str(b, comma);
        comma = ",";
        json_write_str(b, name);
        buf_add_u8(b, ':');
        write_value(b, value, depth);
    }
    buf_add_str(b, json_count(j) == 0 ? "{}" : "}");
}

static void write_array(struct buf *b, const struct json *j, unsigned depth)
{
    size_t n = json_count(j);
    buf_add_u8(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            buf_add_u8(b, ',');
        }
        write_value(b, json_at(j, i), depth);
    }
    buf_add_u8(b, ']');
}

static void write_value(struct buf *b, const struct json *j, unsigned depth)
{
    ASSERT(depth < WRITE_DEPTH);
    switch (json_type_of(j)) {
    case JSON_T_NULL:
        buf_add_str(b, "null");
        break;
    case JSON_T_BOOL:
        buf_add_str(b, json_bool(j) ? "true" : "false");
        break;
    case JSON_T_INT:
        buf_addf(b, "%lld", (long long)json_int(j));
        break;
    case JSON_T_REAL:
        json_write_real(b, json_num(j));
        break;
    case JSON_T_STR:
        json_write_str(b, json_str(j));
        break;
    case JSON_T_ARRAY:
        write_array(b, j, depth + 1);
        break;
    case JSON_T_OBJECT:
    default:
        write_object(b, j, depth + 1);
        break;
    }
}

void json_write(struct buf *b, const struct json *j)
{
    write_value(b, j, 0);
}

/* --- looking ------------------------------------------------------------------------------ */
enum json_type json_type_of(const struct json *j)
{
    /* clang-format off */
    static const enum json_type types[] = {
        [JSON_OBJECT]  = JSON_T_OBJECT,
        [JSON_ARRAY]   = JSON_T_ARRAY,
        [JSON_STRING]  = JSON_T_STR,
        [JSON_INTEGER] = JSON_T_INT,
        [JSON_REAL]    = JSON_T_REAL,
        [JSON_TRUE]    = JSON_T_BOOL,
        [JSON_FALSE]   = JSON_T_BOOL,
        [JSON_NULL]    = JSON_T_NULL,
    };
    /* clang-format on */
    ASSERT(j != NULL);
    return types[json_typeof(jj(j))];
}

const char *json_type_name(enum json_type t)
{
    static const char *const names[] = {"null",   "boolean", "integer", "number",
                                        "string", "array",   "object"};
    ASSERT(t < ARRAY_LEN(names));
    return names[t];
}

struct json *json_get(const struct json *j, const char *name)
{
    return j != NULL ? out(json_object_get(jj(j), name)) : NULL;
}

struct json *json_get_span(const struct json *j, struct span name)
{
    if (j == NULL || (name.n > 0 && span_has_nul(name))) {
        return NULL;
    }
    return out(json_object_getn(jj(j), name.n > 0 ? (const char *)name.p : "", name.n));
}

static struct json *get_nocase(const struct json *j, struct span name)
{
    struct json *exact = json_get_span(j, name);
    if (exact != NULL || !json_is(j, JSON_T_OBJECT)) {
        return exact;
    }
    struct json_cursor c = {NULL, false};
    struct span n;
    struct json *v;
    while (json_next(j, &c, &n, &v)) {
        if (span_eq_nocase(n, name)) {
            return v;
        }
    }
    return NULL;
}

struct json *json_get_nocase(const struct json *j, const char *name)
{
    return get_nocase(j, span_str(name));
}

struct json *json_at(const struct json *j, size_t i)
{
    return j != NULL ? out(json_array_get(jj(j), i)) : NULL;
}

size_t json_count(const struct json *j)
{
    return json_is(j, JSON_T_ARRAY) ? json_array_size(jj(j)) : json_object_size(jj(j));
}

bool json_next(const struct json *object, struct json_cursor *c, struct span *ret_name,
               struct json **ret_value)
{
    c->iter =
        c->started ? json_object_iter_next(jj(object), c->iter) : json_object_iter(jj(object));
    c->started = true;
    if (c->iter == NULL) {
        return false;
    }
    *ret_name = span_of(json_object_iter_key(c->iter), json_object_iter_key_len(c->iter));
    *ret_value = out(json_object_iter_value(c->iter));
    return true;
}

struct span json_str(const struct json *j)
{
    return json_is(j, JSON_T_STR) ? span_of(json_string_value(jj(j)), json_string_length(jj(j)))
                                  : SPAN_NONE;
}

int64_t json_int(const struct json *j)
{
    return json_is(j, JSON_T_INT) ? (int64_t)json_integer_value(jj(j)) : 0;
}

bool json_bool(const struct json *j)
{
    return j != NULL && json_is_true(jj(j));
}

double json_num(const struct json *j)
{
    return j != NULL ? json_number_value(jj(j)) : 0;
}

bool json_same(const struct json *a, const struct json *b)
{
    return a == b || (a != NULL && b != NULL && json_equal(jj(a), jj(b)) == 1);
}
