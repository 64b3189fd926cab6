/* SPDX-License-Identifier: Apache-2.0 */
/* What a request says a device or a module shall be, checked: docs/protocol/hub-service-rest.md 4.2, 5.1 to 5.3, 6. */
#include "hub/registry.h"

#include "base/rd.h"
#include "base/text.h"
#include "wire/http.h"

/* --- If-Match ------------------------------------------------------------------------------ */

static bool read_device_etag(struct span s, uint64_t *ret)
{
    uint8_t digits[24];
    size_t n = sizeof digits;
    char again[REGISTRY_ETAG_SIZE];
    uint64_t v;
    if (base64_decode_to(s, digits, &n) != OK || !span_to_u64(span_of(digits, n), &v)) {
        return false;
    }
    /* Byte by byte: a number written another way is another etag. */
    registry_etag_text(v, again);
    if (!span_is(s, again)) {
        return false;
    }
    *ret = v;
    return true;
}

static bool read_twin_etag(struct span s, uint64_t *ret)
{
    uint8_t b[8];
    size_t n = sizeof b;
    if (base64_decode_to(s, b, &n) != OK || n != sizeof b) {
        return false;
    }
    struct rd r = rd_init(span_of(b, n));
    *ret = rd_be64(&r);
    return true;
}

enum err match_read(struct span if_match, bool is_device, struct match *ret, struct err_info *info)
{
    struct http_match text;
    struct match m = {.kind = MATCH_NONE};
    enum err e = http_if_match_read(if_match, &text, info);
    if (e != OK) {
        return e;
    }
    if (text.kind == HTTP_MATCH_ANY) {
        m.kind = MATCH_ANY;
    } else if (text.kind == HTTP_MATCH_ETAG) {
        m.kind = MATCH_ETAG;
        m.is_ours =
            is_device ? read_device_etag(text.etag, &m.etag) : read_twin_etag(text.etag, &m.etag);
    }
    *ret = m;
    return OK;
}

bool body_is_blank(struct span body)
{
    size_t i = 0;
    while (i < body.n && memchr(" \t\r\n", body.p[i], 4) != NULL) {
        i++;
    }
    return i == body.n;
}

/* --- authentication ------------------------------------------------------------------------ */

void auth_spec_done(struct auth_spec *a)
{
    secret_done(&a->key[0]);
    secret_done(&a->key[1]);
}

/* Absent, null and empty are the same: one SDK sends empty strings for "none given". */
static enum err optional_text(const struct json *o, const char *path, struct span *ret,
                              struct err_info *info)
{
    struct span s = SPAN_NONE;
    enum err e = json_get_str(o, path, JSON_F_NOCASE, &s, info);
    if (e == OK && s.n != 0) {
        *ret = s;
    }
    return e;
}

static enum err read_keys(const struct json *o, struct auth_spec *a, struct err_info *info)
{
    static const char *const paths[] = {"symmetricKey.primaryKey", "symmetricKey.secondaryKey"};
    struct span text[2] = {SPAN_NONE, SPAN_NONE};
    for (unsigned i = 0; i < 2; i++) {
        enum err e = optional_text(o, paths[i], &text[i], info);
        if (e != OK) {
            return e;
        }
    }
    if ((text[0].n != 0) != (text[1].n != 0)) {
        return err_set(info, E_ARG, "Either no keys or both keys can be set");
    }
    if (text[0].n == 0) {
        return OK;
    }
    for (unsigned i = 0; i < 2; i++) {
        enum err e = secret_from_base64(&a->key[i], text[i]);
        if (e == E_NOMEM) {
            return e;
        }
        if (e == E_MALFORMED && text[i].n <= 2 * SECRET_MAX) {
            return err_set(info, E_ARG, "Device key is not base64");
        }
        if (e != OK || a->key[i].n < LIMIT_KEY_MIN || a->key[i].n > LIMIT_KEY_MAX) {
            return err_set(info, E_ARG, "Invalid device key length");
        }
    }
    a->has_keys = true;
    return OK;
}

static bool is_thumbprint(struct span s)
{
    if (s.n != 40 && s.n != 64) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i], l = (uint8_t)(c | 0x20);
        if (!(c >= '0' && c <= '9') && !(l >= 'a' && l <= 'f')) {
            return false;
        }
    }
    return true;
}

static enum err read_thumbprints(const struct json *o, struct auth_spec *a, struct err_info *info)
{
    static const char *const paths[] = {"x509Thumbprint.primaryThumbprint",
                                        "x509Thumbprint.secondaryThumbprint"};
    for (unsigned i = 0; i < 2; i++) {
        enum err e = optional_text(o, paths[i], &a->thumbprint[i], info);
        if (e != OK) {
            return e;
        }
        if (a->thumbprint[i].n != 0 && !is_thumbprint(a->thumbprint[i])) {
            return err_set(info, E_ARG,
                           "StringIsNotThumbprint: 40 or 64 hexadecimal digits expected");
        }
    }
    return OK;
}

/* Type given, or inferred: a thumbprint makes it selfSigned. */
static enum err read_type(const struct json *o, bool *ret_given, enum auth_type *ret,
                          struct err_info *info)
{
    static const char *const words[] = {"sas", "selfSigned", "certificateAuthority", "none"};
    size_t i = SIZE_MAX;
    enum err e = json_get_word(o, "type", JSON_F_NOCASE, words, ARRAY_LEN(words), &i, info);
    if (e != OK) {
        return e;
    }
    *ret_given = i != SIZE_MAX;
    *ret = *ret_given ? (enum auth_type)(AUTH_T_SAS + i) : AUTH_T_SAS;
    return OK;
}

static enum err read_auth_members(const struct json *o, bool is_module, struct auth_spec *a,
                                  struct err_info *info)
{
    bool is_given;
    enum err e = read_type(o, &is_given, &a->type, info);
    if (e != OK) {
        return e;
    }
    if (a->type == AUTH_T_NONE && !is_module) {
        return err_set(info, E_ARG, "authentication type none is not allowed for a device");
    }
    if ((!is_given || a->type == AUTH_T_SELF_SIGNED) && (e = read_thumbprints(o, a, info)) != OK) {
        return e;
    }
    if (!is_given && (a->thumbprint[0].n != 0 || a->thumbprint[1].n != 0)) {
        a->type = AUTH_T_SELF_SIGNED;
    }
    return a->type == AUTH_T_SAS || a->type == AUTH_T_NONE ? read_keys(o, a, info) : OK;
}

enum err auth_read(const struct json *o, bool is_module, struct auth_spec *ret,
                   struct err_info *info)
{
    memset(ret, 0, sizeof *ret);
    ret->type = AUTH_T_SAS;
    if (o == NULL || json_is(o, JSON_T_NULL)) {
        return OK;
    }
    if (!json_is(o, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "authentication is not an object");
    }
    enum err e = read_auth_members(o, is_module, ret, info);
    if (e != OK) {
        auth_spec_done(ret);
    }
    return e;
}

/* --- the body of PUT /devices/{id} ---------------------------------------------------------- */

static size_t utf8_length(struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        n += (s.p[i] & 0xc0) != 0x80;
    }
    return n;
}

static enum err read_scopes(const struct json *j, struct err_info *info)
{
    struct span scope = SPAN_NONE;
    struct json *parents = NULL;
    enum err e = json_get_str(j, "deviceScope", JSON_F_NOCASE, &scope, info);
    if (e == OK) {
        e = json_get_array(j, "parentScopes", JSON_F_NOCASE, &parents, info);
    }
    if (e == OK && (scope.n != 0 || json_count(parents) != 0)) {
        /* Scopes of edge devices are not offered by this version: whatever is named is not one of ours, and is not
         * dropped in silence. */
        e = err_set(info, E_ARG, "deviceScope names no edge device of this hub");
    }
    return e;
}

enum err device_spec_read(const struct json *j, struct span path_id, struct device_spec *ret,
                          struct err_info *info)
{
    static const char *const words[] = {"enabled", "disabled"};
    struct device_spec d = {.id = path_id, .auth = ret->auth};
    struct span body_id = SPAN_NONE;
    size_t status = 0;
    enum err e;
    if (!id_device_ok(path_id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    if (!json_is(j, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "body is not an object");
    }
    if ((e = json_get_str(j, "deviceId", JSON_F_NOCASE | JSON_F_NEED, &body_id, info)) != OK ||
        (e = json_get_word(j, "status", JSON_F_NOCASE, words, 2, &status, info)) != OK ||
        (e = json_get_str(j, "statusReason", JSON_F_NOCASE, &d.status_reason, info)) != OK ||
        (e = json_get_bool(j, "capabilities.iotEdge", JSON_F_NOCASE, &d.is_edge, info)) != OK ||
        (e = read_scopes(j, info)) != OK) {
        return e;
    }
    if (!span_eq(body_id, path_id)) {
        return err_set(info, E_ARG, "deviceId of the body is not that of the path");
    }
    if (utf8_length(d.status_reason) > LIMIT_STATUS_REASON) {
        return err_set(info, E_ARG, "statusReason is longer than %u characters",
                       LIMIT_STATUS_REASON);
    }
    d.is_enabled = status == 0;
    if ((e = auth_read(json_get_nocase(j, "authentication"), false, d.auth, info)) == OK) {
        *ret = d;
    }
    return e;
}

/* --- the body of PUT /devices/{id}/modules/{mid} ---------------------------------------------- */

enum err module_spec_read(const struct json *j, struct span path_id, struct span path_module_id,
                          struct device_spec *ret, struct err_info *info)
{
    struct device_spec d = {.id = path_id, .module_id = path_module_id, .auth = ret->auth};
    struct span body_id = path_id, body_module_id = SPAN_NONE;
    enum err e;
    if (!id_device_ok(path_id)) {
        return err_set(info, E_ID, "deviceId is not valid");
    }
    if (!id_device_ok(path_module_id)) {
        return err_set(info, E_ID, "moduleId is not valid");
    }
    if (path_module_id.p[0] == '$') {
        return err_set(info, E_ARG, "module ids that begin with $ are reserved");
    }
    if (!json_is(j, JSON_T_OBJECT)) {
        return err_set(info, E_ARG, "body is not an object");
    }
    if ((e = json_get_str(j, "deviceId", JSON_F_NOCASE, &body_id, info)) != OK ||
        (e = json_get_str(j, "moduleId", JSON_F_NOCASE | JSON_F_NEED, &body_module_id, info)) !=
            OK ||
        (e = json_get_str(j, "managedBy", JSON_F_NOCASE, &d.managed_by, info)) != OK) {
        return e;
    }
    if (!span_eq(body_id, path_id) || !span_eq(body_module_id, path_module_id)) {
        return err_set(info, E_ARG, "deviceId or moduleId of the body is not that of the path");
    }
    if (utf8_length(d.managed_by) > LIMIT_ID) {
        return err_set(info, E_ARG, "managedBy is longer than %u characters", LIMIT_ID);
    }
    if ((e = auth_read(json_get_nocase(j, "authentication"), true, d.auth, info)) == OK) {
        /* 5.3: without a credential only what IoT Edge manages. */
        if (d.auth->type == AUTH_T_NONE && !span_is_nocase(d.managed_by, "iotEdge")) {
            d.auth->type = AUTH_T_SAS;
        }
        *ret = d;
    }
    return e;
}
