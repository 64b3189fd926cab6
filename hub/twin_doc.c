/* SPDX-License-Identifier: Apache-2.0 */
/* Sections of a twin and their stamps: docs/protocol/hub-service-rest.md 9.1, 9.2. */
#include "hub/twin_int.h"

#include <stdlib.h>

#include "base/limits.h"
#include "wire/twin.h"

#define STAMP_SIZE 44u /* two numbers of 20 digits, a point, a zero */

static struct json *stamp_json(struct twin_stamp at)
{
    AUTO(buf_done) struct buf b = BUF_INIT(STAMP_SIZE);
    buf_addf(&b, "%lld", (long long)at.at_us);
    if (at.version != 0) {
        buf_addf(&b, ".%llu", (unsigned long long)at.version);
    }
    return json_new_str(buf_span(&b));
}

/* --- stamps mirror the section ---------------------------------------------------------------- */

static enum err stamp_whole(const struct json *value, struct twin_stamp at, struct json **ret)
{
    if (!json_is(value, JSON_T_OBJECT)) {
        *ret = stamp_json(at);
        return *ret != NULL ? OK : E_NOMEM;
    }
    AUTO(json_free_p) struct json *o = json_new_object();
    enum err e = o != NULL ? json_set(o, "$", stamp_json(at)) : E_NOMEM;
    struct json_cursor c = {NULL, false};
    struct span name;
    struct json *child;
    while (e == OK && json_next(value, &c, &name, &child)) {
        struct json *m = NULL;
        if ((e = stamp_whole(child, at, &m)) == OK) {
            e = json_set_span(o, name, m);
        }
    }
    if (e == OK) {
        *ret = TAKE(o);
    }
    return e;
}

static enum err unstamp(struct json *meta, struct span name)
{
    char key[LIMIT_TWIN_KEY + 1];
    if (!span_to_cstr(name, key, sizeof key)) {
        return E_BUG; /* names were checked */
    }
    json_del(meta, key);
    return OK;
}

static bool is_dollar(struct span name)
{
    return name.n != 0 && name.p[0] == '$';
}

/* after: the section with the patch merged in. */
static enum err stamp_patch(struct json *meta, const struct json *patch, const struct json *after,
                            struct twin_stamp at)
{
    enum err e = json_set(meta, "$", stamp_json(at));
    struct json_cursor c = {NULL, false};
    struct span name;
    struct json *value;
    while (e == OK && json_next(patch, &c, &name, &value)) {
        const struct json *now = json_get_span(after, name);
        struct json *had = json_get_span(meta, name);
        if (is_dollar(name)) {
            continue;
        }
        if (now == NULL) {
            e = unstamp(meta, name);
        } else if (json_is(value, JSON_T_OBJECT) && json_is(had, JSON_T_OBJECT)) {
            e = stamp_patch(had, value, now, at);
        } else {
            struct json *m = NULL;
            if ((e = stamp_whole(now, at, &m)) == OK) {
                e = json_set_span(meta, name, m);
            }
        }
    }
    return e;
}

/* --- $metadata -------------------------------------------------------------------------------- */

static void add_stamp(struct buf *b, struct span stamp)
{
    char iso[TIME_ISO_SIZE];
    int64_t us = 0;
    struct span rest = stamp, at = span_cut(&rest, '.');
    (void)!span_to_i64(at, &us); /* ours: written by stamp_json */
    time_iso7(us, iso);
    buf_addf(b, "\"$lastUpdated\":\"%s\"", iso);
    if (rest.n != 0) {
        buf_add_str(b, ",\"$lastUpdatedVersion\":");
        buf_add(b, rest);
    }
}

static void add_metadata(struct buf *b, const struct json *meta)
{
    buf_add_u8(b, '{');
    if (!json_is(meta, JSON_T_OBJECT)) {
        add_stamp(b, json_str(meta));
    } else {
        struct json_cursor c = {NULL, false};
        struct span name;
        struct json *child;
        add_stamp(b, json_str(json_get(meta, "$")));
        while (json_next(meta, &c, &name, &child)) {
            if (is_dollar(name)) {
                continue;
            }
            buf_add_u8(b, ',');
            json_write_str(b, name);
            buf_add_u8(b, ':');
            add_metadata(b, child);
        }
    }
    buf_add_u8(b, '}');
}

/* Object text without its last brace, and a comma unless it is empty. */
static void add_open(struct buf *b, struct span object)
{
    ASSERT(object.n >= 2 && object.p[object.n - 1] == '}');
    buf_add(b, span_sub(object, 0, object.n - 1));
    if (object.n > 2) {
        buf_add_u8(b, ',');
    }
}

enum err twin_section_add(struct buf *b, const struct twin_section *s)
{
    AUTO(json_free_p) struct json *meta = NULL;
    enum err e = json_read(s->meta, LIMIT_TWIN_META, &meta, NULL);
    if (e != OK) {
        return e == E_NOMEM ? e : E_CORRUPT;
    }
    add_open(b, s->json);
    buf_add_str(b, "\"$metadata\":");
    add_metadata(b, meta);
    buf_addf(b, ",\"$version\":%llu}", (unsigned long long)s->version);
    return buf_err(b);
}

void twin_add_versioned(struct buf *b, struct span object, uint64_t version)
{
    add_open(b, object);
    buf_addf(b, "\"$version\":%llu}", (unsigned long long)version);
}

/* --- texts ------------------------------------------------------------------------------------ */

/* What is stored must be readable again: its own limits are those of json_read. */
static enum err keep_text(struct arena *a, const struct json *j, size_t max, struct span *ret,
                          struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(max);
    size_t tokens, depth;
    json_write(&b, j);
    if (buf_err(&b) == E_NOMEM) {
        return err_set(info, E_NOMEM, "no memory for a twin");
    }
    if (buf_err(&b) != OK || json_count_tokens(buf_span(&b), &tokens, &depth) != OK) {
        return err_set(info, E_ARG, "twin section has too many members or too much text");
    }
    *ret = arena_span(a, buf_span(&b));
    return ret->p != NULL ? OK : err_set(info, E_NOMEM, "no memory for a twin");
}

static enum err keep_section(struct arena *a, const struct json *doc, const struct json *meta,
                             uint64_t version, struct twin_section *ret, struct err_info *info)
{
    struct twin_section s = {.version = version};
    enum err e = twin_check_size(doc, LIMIT_TWIN_SECTION, info);
    if (e == OK) {
        e = keep_text(a, doc, LIMIT_TWIN_TEXT, &s.json, info);
    }
    if (e == OK) {
        e = keep_text(a, meta, LIMIT_TWIN_META, &s.meta, info);
    }
    if (e == OK) {
        *ret = s;
    }
    return e;
}

static enum err read_stored(struct span text, size_t max, struct json **ret, struct err_info *info)
{
    enum err e = json_read(text, max, ret, info);
    return e == OK || e == E_NOMEM ? e : err_wrap(info, E_CORRUPT, "stored twin");
}

enum err twin_section_fresh(struct arena *a, int64_t created_us, struct twin_section *ret)
{
    char *meta = arena_printf(a, "{\"$\":\"%lld\"}", (long long)created_us);
    if (meta == NULL) {
        return E_NOMEM;
    }
    *ret = (struct twin_section){.json = SPAN_LIT("{}"), .meta = span_str(meta), .version = 1};
    return OK;
}

enum err twin_section_merge(struct arena *a, const struct twin_section *from,
                            const struct json *patch, struct twin_stamp at,
                            struct twin_section *ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *doc = NULL;
    AUTO(json_free_p) struct json *meta = NULL;
    enum err e;
    if ((e = read_stored(from->json, LIMIT_TWIN_TEXT, &doc, info)) != OK ||
        (e = read_stored(from->meta, LIMIT_TWIN_META, &meta, info)) != OK ||
        (e = twin_merge(doc, patch)) != OK || (e = stamp_patch(meta, patch, doc, at)) != OK) {
        return e;
    }
    return keep_section(a, doc, meta, from->version + 1, ret, info);
}

enum err twin_section_replace(struct arena *a, const struct json *whole, uint64_t version,
                              struct twin_stamp at, struct twin_section *ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *doc = whole != NULL ? json_clone(whole) : json_new_object();
    AUTO(json_free_p) struct json *meta = NULL;
    if (doc == NULL) {
        return err_set(info, E_NOMEM, "no memory for a twin");
    }
    twin_strip(doc);
    enum err e = stamp_whole(doc, at, &meta);
    return e != OK ? e : keep_section(a, doc, meta, version, ret, info);
}

static enum err keep_tags(struct arena *a, const struct json *doc, struct span *ret,
                          struct err_info *info)
{
    enum err e = twin_check_size(doc, LIMIT_TWIN_TAGS, info);
    return e != OK ? e : keep_text(a, doc, LIMIT_TWIN_TEXT, ret, info);
}

enum err twin_tags_merge(struct arena *a, struct span from, const struct json *patch,
                         struct span *ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *doc = NULL;
    enum err e = read_stored(from.p != NULL ? from : SPAN_LIT("{}"), LIMIT_TWIN_TEXT, &doc, info);
    if (e == OK) {
        e = twin_merge(doc, patch);
    }
    return e != OK ? e : keep_tags(a, doc, ret, info);
}

enum err twin_tags_replace(struct arena *a, const struct json *whole, struct span *ret,
                           struct err_info *info)
{
    AUTO(json_free_p) struct json *doc = json_clone(whole);
    if (doc == NULL) {
        return err_set(info, E_NOMEM, "no memory for a twin");
    }
    twin_strip(doc);
    return keep_tags(a, doc, ret, info);
}

enum err twin_clearing_patch(struct span object, struct json **ret)
{
    AUTO(json_free_p) struct json *doc = NULL;
    AUTO(json_free_p) struct json *patch = json_new_object();
    enum err e = read_stored(object, LIMIT_TWIN_TEXT, &doc, NULL);
    struct json_cursor c = {NULL, false};
    struct span name;
    struct json *value;
    if (e == OK && patch == NULL) {
        e = E_NOMEM;
    }
    while (e == OK && json_next(doc, &c, &name, &value)) {
        e = json_set_span(patch, name, json_new_null());
    }
    if (e == OK) {
        *ret = TAKE(patch);
    }
    return e;
}
