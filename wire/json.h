/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON trees: the one wrapper over jansson, which no other file includes.
 *
 * Bytes are not nodes: 256 KiB of text can become a 20 MiB tree, so tokens and depth are counted
 * before one is built. Refused: doubled member names, bytes that are no UTF-8, U+0000 in any text,
 * integers beyond 64 bits, reals beyond double, anything behind the value. A byte-order mark is
 * skipped. Member order is kept. No function here is called as one of jansson's: an executable's
 * json_real would take the place of the library's own.
 *
 * Ownership   a tree belongs to who read or made it: json_free(). json_get and friends borrow.
 *             Setters and json_add take the value, also when they fail. Spans of strings point
 *             into the tree.
 * Threads     one owner of a whole tree at a time.
 * Errors      E_JSON with the place in info; E_UTF8; E_LIMIT tokens or depth; E_TOO_LARGE bytes;
 *             E_NOMEM. Typed getters: E_ARG wrong type or range, E_ARG_NULL missing, both naming
 *             the member path.
 * Limits      LIMIT_JSON_TOKENS, LIMIT_JSON_DEPTH; bytes are the caller's.
 * Spec        RFC 8259, RFC 7386; docs/protocol/hub-mqtt.md 7.2; docs/protocol/hub-service-rest.md
 *             1.
 */
#ifndef WIRE_JSON_H
#define WIRE_JSON_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

struct json; /* a jansson value, never seen from outside */

void json_free(struct json *j);
AUTO_FREE_FN(struct json, json_free)

/* --- text to tree and back ---------------------------------------------------------------- */
/* Any JSON value. Empty text is E_JSON. */
MUST_USE enum err json_read(struct span text, size_t max_bytes, struct json **ret,
                            struct err_info *info);
/* Same; also E_ARG unless it is an object. */
MUST_USE enum err json_read_object(struct span text, size_t max_bytes, struct json **ret,
                                   struct err_info *info);
/* The limits and the UTF-8 check alone, without building anything; the syntax is not checked. */
MUST_USE enum err json_count_tokens(struct span text, size_t *ret_tokens, size_t *ret_depth);
/* Compact, members in order, reals as the shortest of %.15g %.16g %.17g that reads back equal.
 * Sticky error of b. */
void json_write(struct buf *b, const struct json *j);
/* Pieces for texts made without a tree. */
void json_write_str(struct buf *b, struct span s); /* quoted; ill-formed UTF-8 becomes U+FFFD */
void json_write_real(struct buf *b, double v);     /* v is finite */

/* --- looking ------------------------------------------------------------------------------ */
enum json_type {
    JSON_T_NULL,
    JSON_T_BOOL,
    JSON_T_INT,
    JSON_T_REAL,
    JSON_T_STR,
    JSON_T_ARRAY,
    JSON_T_OBJECT
};
enum json_type json_type_of(const struct json *j);
static inline bool json_is(const struct json *j, enum json_type t)
{
    return j != NULL && json_type_of(j) == t;
}
const char *json_type_name(enum json_type t);
/* Member (exact name), NULL when j is no object or has none. */
struct json *json_get(const struct json *j, const char *name);
struct json *json_get_span(const struct json *j, struct span name);
/* First member whose name is equal without (ASCII) case; an exact one wins. */
struct json *json_get_nocase(const struct json *j, const char *name);
/* Element, NULL outside. */
struct json *json_at(const struct json *j, size_t i);
/* Elements or members; 0 for all else. */
size_t json_count(const struct json *j);
/* Members in order: cursor starts as { NULL }; false at the end. The object must not be changed
 * meanwhile. */
struct json_cursor {
    void *iter;
    bool started;
};
bool json_next(const struct json *object, struct json_cursor *c, struct span *ret_name,
               struct json **ret_value);
/* Of a string (empty for all else), integer, boolean, number. */
struct span json_str(const struct json *j);
int64_t json_int(const struct json *j);
bool json_bool(const struct json *j);
double json_num(const struct json *j); /* an integer too */
bool json_same(const struct json *a, const struct json *b);

/* --- typed members ------------------------------------------------------------------------ */
/* path: "status" or "attestation.symmetricKey.primaryKey". Absent, or null, and not JSON_F_NEED:
 * OK, *ret untouched. */
enum json_flags {
    JSON_F_OPT = 0,
    JSON_F_NEED = 1,     /* absent or null: E_ARG_NULL */
    JSON_F_NOCASE = 2,   /* member names without case */
    JSON_F_NULL_BAD = 4, /* null is a wrong type, not an absent member */
};
MUST_USE enum err json_get_str(const struct json *j, const char *path, unsigned flags,
                               struct span *ret, struct err_info *info);
MUST_USE enum err json_get_int(const struct json *j, const char *path, unsigned flags, int64_t min,
                               int64_t max, int64_t *ret, struct err_info *info);
MUST_USE enum err json_get_bool(const struct json *j, const char *path, unsigned flags, bool *ret,
                                struct err_info *info);
MUST_USE enum err json_get_object(const struct json *j, const char *path, unsigned flags,
                                  struct json **ret, struct err_info *info);
MUST_USE enum err json_get_array(const struct json *j, const char *path, unsigned flags,
                                 struct json **ret, struct err_info *info);
/* Any type, null included. */
MUST_USE enum err json_get_any(const struct json *j, const char *path, unsigned flags,
                               struct json **ret, struct err_info *info);
/* One word of a table; *ret is its index. Words compared with case unless JSON_F_NOCASE. */
MUST_USE enum err json_get_word(const struct json *j, const char *path, unsigned flags,
                                const char *const *words, size_t n, size_t *ret,
                                struct err_info *info);

/* --- making ------------------------------------------------------------------------------- */
/* NULL when memory is short (json_new_str also for text that is not UTF-8 or holds U+0000). */
struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_str(struct span s);
struct json *json_new_int(int64_t v);
struct json *json_new_real(double v);
struct json *json_new_bool(bool v);
struct json *json_new_null(void);
/* Another owner of the same value: each ends it with json_free, and nobody changes it. */
struct json *json_share(struct json *j);
/* Deep. */
struct json *json_clone(const struct json *j);
/* v NULL: E_NOMEM, so that json_set(o, "n", json_new_int(1)) needs one check. A member of that name
 * is replaced in its place. */
MUST_USE enum err json_set(struct json *object, const char *name, struct json *v);
MUST_USE enum err json_set_span(struct json *object, struct span name, struct json *v);
MUST_USE enum err json_set_str(struct json *object, const char *name, struct span s);
MUST_USE enum err json_add(struct json *array, struct json *v);
/* Absent is fine. */
void json_del(struct json *object, const char *name);
void json_del_nocase(struct json *object, const char *name);

/* RFC 7386: null deletes, objects merge, everything else replaces. *target may be replaced (when it
 * or patch is no object). patch is copied from, never shared. After E_NOMEM *target is partly
 * merged: merge into a copy. */
MUST_USE enum err json_merge_patch(struct json **target, const struct json *patch);

#endif
