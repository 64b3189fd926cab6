/* SPDX-License-Identifier: Apache-2.0 */
/* The user names of CONNECT: second half of wire/topic.h. */
#include "wire/topic.h"

#include "base/text.h"
#include "wire/decode.h"

static bool digits(struct span s, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
    }
    return true;
}

bool topic_api_version_ok(struct span v)
{
    if (v.n < 10 || !digits(v, 0, 4) || v.p[4] != '-' || !digits(v, 5, 2) || v.p[7] != '-' ||
        !digits(v, 8, 2)) {
        return false;
    }
    return v.n == 10 || span_is(span_from(v, 10), "-preview");
}

/* Where the value of a query key goes. */
struct field {
    const char *key;
    struct span *into;
};

static enum err take_pair(struct text_pair p, const struct field *f, size_t n, struct arena *a,
                          struct err_info *info)
{
    for (size_t i = 0; i < n; i++) {
        if (!span_is_nocase(p.key, f[i].key)) {
            continue;
        }
        enum err e = decode_percent(p.value, false, a, f[i].into);
        if (e == E_UTF8) {
            return err_set(info, E_MALFORMED, "user name: %s is not UTF-8", f[i].key);
        }
        return e;
    }
    return OK; /* unknown keys are ignored */
}

/* f[0] is api-version. Old clients write a '/' behind it where others write '&'. */
static enum err query_read(struct span query, const struct field *f, size_t n, struct arena *a,
                           struct err_info *info)
{
    struct text_pair p;
    while (text_next_pair(&query, &p)) {
        struct span more = SPAN_NONE;
        if (span_is_nocase(p.key, f[0].key)) {
            struct span value = p.value;
            p.value = span_cut(&value, '/');
            more = value;
        }
        enum err e = take_pair(p, f, n, a, info);
        if (e == OK && text_next_pair(&more, &p)) {
            e = take_pair(p, f, n, a, info);
        }
        if (e != OK) {
            return e;
        }
    }
    if (f[0].into->p != NULL && !topic_api_version_ok(*f[0].into)) {
        return err_set(info, E_VERSION, "user name: api-version is not YYYY-MM-DD[-preview]");
    }
    return OK;
}

/* --- hub ---------------------------------------------------------------------------------- */
/* {d} or {d}/{m}. */
static enum err client_id_read(struct span client_id, struct hub_username *u, struct err_info *info)
{
    if (client_id.n == 0) {
        return err_set(info, E_ID, "client id is empty");
    }
    if (span_find(client_id, '+') < client_id.n || span_find(client_id, '#') < client_id.n) {
        return err_set(info, E_ID, "an id with + or # cannot stand in a topic");
    }
    struct span rest = client_id;
    u->device_id = span_cut(&rest, '/');
    bool is_module = rest.p != NULL;
    u->module_id = is_module ? rest : SPAN_NONE;
    if (u->device_id.n == 0 || (is_module && rest.n == 0) || span_find(rest, '/') < rest.n) {
        return err_set(info, E_ID, "client id is neither {device} nor {device}/{module}");
    }
    return OK;
}

/* What follows the ids: "", "/", "?..", "/?..", "/api-version..". */
static bool tail_read(struct span tail, struct span *ret_query)
{
    if (tail.n > 0 && tail.p[0] == '/') {
        tail = span_from(tail, 1);
        if (span_starts_nocase(tail, SPAN_LIT("api-version"))) {
            *ret_query = tail;
            return true;
        }
    }
    if (tail.n > 0 && tail.p[0] != '?') {
        return false;
    }
    *ret_query = span_from(tail, 1);
    return true;
}

enum err topic_hub_username_read(struct span username, struct span client_id, struct arena *a,
                                 struct hub_username *ret, struct err_info *info)
{
    struct hub_username u = {0};
    struct span rest = username;
    u.host = span_cut(&rest, '/');
    if (u.host.n == 0 || rest.p == NULL) {
        return err_set(info, E_MALFORMED, "user name is not {host}/{device}/...");
    }
    enum err e = client_id_read(client_id, &u, info);
    if (e != OK) {
        return e;
    }
    struct span query = SPAN_NONE;
    /* ids are not encoded here and may hold '?' or '=': the client id says where they end */
    if (!span_starts(rest, client_id) || !tail_read(span_from(rest, client_id.n), &query)) {
        return err_set(info, E_ID, "user name does not name the client id");
    }
    const struct field fields[] = {{"api-version", &u.api_version},
                                   {"model-id", &u.model_id},
                                   {"DeviceClientType", &u.client_type}};
    e = query_read(query, fields, ARRAY_LEN(fields), a, info);
    if (e != OK) {
        return e;
    }
    *ret = u;
    return OK;
}

static void put_param(struct buf *b, const char *key, struct span value)
{
    if (value.n > 0) {
        buf_add_str(b, key);
        percent_add(b, value);
    }
}

void topic_hub_username_write(struct buf *b, struct span host, struct span client_id,
                              struct span api_version, struct span client_type,
                              struct span model_id)
{
    buf_add(b, host);
    buf_add_str(b, "/");
    buf_add(b, client_id);
    buf_add_str(b, "/?api-version=");
    buf_add(b, api_version);
    put_param(b, "&DeviceClientType=", client_type);
    put_param(b, "&model-id=", model_id);
}

/* --- DPS ---------------------------------------------------------------------------------- */
enum err topic_dps_username_read(struct span username, struct span client_id, struct arena *a,
                                 struct dps_username *ret, struct err_info *info)
{
    struct dps_username u = {0};
    struct span rest = username;
    u.id_scope = span_cut(&rest, '/');
    struct span word = span_cut(&rest, '/');
    u.registration_id = span_cut(&rest, '/');
    if (u.id_scope.n == 0 || !span_is_nocase(word, "registrations") || u.registration_id.n == 0) {
        return err_set(info, E_MALFORMED, "user name is not {idScope}/registrations/{id}/...");
    }
    if (client_id.n == 0 || !span_eq_nocase(client_id, u.registration_id)) {
        return err_set(info, E_ID, "client id is not the registration id of the user name");
    }
    if (!id_registration_ok(u.registration_id)) {
        return err_set(info, E_ID, "registration id is not valid");
    }
    if (rest.n > 0 && rest.p[0] == '?') {
        rest = span_from(rest, 1);
    }
    const struct field fields[] = {{"api-version", &u.api_version},
                                   {"ClientVersion", &u.client_version}};
    enum err e = query_read(rest, fields, ARRAY_LEN(fields), a, info);
    if (e != OK) {
        return e;
    }
    *ret = u;
    return OK;
}

void topic_dps_username_write(struct buf *b, struct span id_scope, struct span registration_id,
                              struct span api_version, struct span client_version)
{
    buf_add(b, id_scope);
    buf_add_str(b, "/registrations/");
    buf_add(b, registration_id);
    buf_add_str(b, "/api-version=");
    buf_add(b, api_version);
    put_param(b, "&ClientVersion=", client_version);
}
