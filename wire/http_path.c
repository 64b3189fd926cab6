/* SPDX-License-Identifier: Apache-2.0 */
/* If-Match, paths and queries: last part of wire/http.h. */
#include "wire/http.h"

#include "base/text.h"
#include "wire/decode.h"

/* --- If-Match ----------------------------------------------------------------------------- */
enum err http_if_match_read(struct span value, struct http_match *ret, struct err_info *info)
{
    struct span v = span_trim(value);
    if (span_starts(v, SPAN_LIT("W/"))) {
        v = span_from(v, 2);
    }
    if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"') {
        v = span_sub(v, 1, v.n - 2);
    }
    /* etags of ours are base64 or a lock token: no quote, no comma */
    if (span_find(v, '"') < v.n || span_find(v, ',') < v.n) {
        return err_set(info, E_ARG, "If-Match: one etag, not a list");
    }
    if (v.n == 0) {
        *ret = (struct http_match){HTTP_MATCH_NONE, SPAN_NONE};
    } else if (span_is(v, "*")) {
        *ret = (struct http_match){HTTP_MATCH_ANY, SPAN_NONE};
    } else {
        *ret = (struct http_match){HTTP_MATCH_ETAG, v};
    }
    return OK;
}

bool http_match_fits(const struct http_match *m, struct span etag)
{
    return m->kind != HTTP_MATCH_ETAG || span_eq(m->etag, etag);
}

/* --- paths -------------------------------------------------------------------------------- */
enum err http_path_read(struct span raw_path, struct arena *a, struct http_path *ret)
{
    if (raw_path.n == 0 || raw_path.p[0] != '/') {
        return E_MALFORMED;
    }
    struct http_path p = {.n = 0};
    struct span rest = span_from(raw_path, 1);
    while (rest.n > 0) {
        struct span raw = span_cut(&rest, '/');
        struct span segment = SPAN_NONE;
        if (p.n == HTTP_SEGMENTS) {
            return E_LIMIT;
        }
        enum err e = decode_percent(raw, true, a, &segment);
        if (e != OK) {
            return e == E_UTF8 ? E_MALFORMED : e;
        }
        /* "." and ".." are device ids like any other and never meant as steps: nothing here is a file name (threat D4). */
        if (segment.n == 0) {
            return E_MALFORMED;
        }
        p.segment[p.n++] = segment;
    }
    *ret = p;
    return OK;
}

static bool is_param(struct span s)
{
    return s.n > 2 && s.p[0] == '{' && s.p[s.n - 1] == '}';
}

unsigned http_path_match(const char *pattern, const struct http_path *p, struct span *ret_params,
                         size_t max)
{
    struct span found[HTTP_SEGMENTS];
    size_t n_found = 0;
    size_t n = 0;
    unsigned rank = 1;
    struct span rest = span_from(span_str(pattern), 1);
    while (rest.n > 0) {
        struct span want = span_cut(&rest, '/');
        if (n == p->n) {
            return 0;
        }
        struct span segment = p->segment[n++];
        rank <<= 1;
        if (is_param(want)) {
            found[n_found++] = segment;
        } else if (span_eq_nocase(want, segment)) {
            rank |= 1;
        } else {
            return 0;
        }
    }
    if (n != p->n) {
        return 0;
    }
    for (size_t i = 0; i < n_found && i < max; i++) {
        ret_params[i] = found[i];
    }
    return rank;
}

/* --- queries ------------------------------------------------------------------------------ */
enum err http_query_get(struct span query, const char *name, struct arena *a, struct span *ret,
                        bool *ret_found)
{
    struct text_pair p;
    while (text_next_pair(&query, &p)) {
        struct span key = SPAN_NONE;
        struct span value = SPAN_NONE;
        enum err e = decode_percent(p.key, true, a, &key);
        if (e == OK && !span_is_nocase(key, name)) {
            continue;
        }
        if (e == OK) {
            e = decode_percent(p.value, true, a, &value);
        }
        if (e != OK) {
            return e == E_UTF8 ? E_MALFORMED : e;
        }
        *ret = value;
        *ret_found = true;
        return OK;
    }
    *ret_found = false;
    return OK;
}
