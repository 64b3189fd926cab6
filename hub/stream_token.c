/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/stream_token.h"

#include "base/limits.h"
#include "base/text.h"
#include "certs/keyring.h"
#include "wire/http.h"

#define TOKEN_VERSION 1u
#define SIGNED (STREAM_TOKEN_BYTES - MAC_SIZE)
#define PADDED 80u /* characters of base64 with padding */
_Static_assert(SIGNED == 2 + STREAM_SID + 8, "version, role, sid, expiry");

/* --- tokens ------------------------------------------------------------------------------------- */

void stream_token_write(const struct secret *key, const struct stream_token *t,
                        char dst[STREAM_TOKEN_SIZE])
{
    uint8_t raw[STREAM_TOKEN_BYTES] = {TOKEN_VERSION, (uint8_t)t->role};
    memcpy(raw + 2, t->sid, STREAM_SID);
    for (unsigned i = 0; i < 8; i++) {
        raw[2 + STREAM_SID + i] = (uint8_t)((uint64_t)t->expires_s >> (56 - 8 * i));
    }
    mac_sha256(secret_span(key), span_of(raw, SIGNED), raw + SIGNED);
    uint8_t text[PADDED];
    struct buf b = {.p = text, .cap = sizeof(text), .max = sizeof(text)}; /* never grows */
    base64_add(&b, span_of(raw, sizeof(raw)));
    for (size_t i = 0; i < STREAM_TOKEN_SIZE - 1; i++) {
        dst[i] = (char)(text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    }
    dst[STREAM_TOKEN_SIZE - 1] = '\0';
    mem_wipe(raw, sizeof(raw));
    mem_wipe(text, sizeof(text));
}

static bool decode(struct span text, uint8_t raw[STREAM_TOKEN_BYTES])
{
    uint8_t padded[PADDED];
    size_t n = STREAM_TOKEN_BYTES;
    if (text.n != STREAM_TOKEN_SIZE - 1) {
        return false;
    }
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '+' || text.p[i] == '/') {
            return false;
        }
        padded[i] = text.p[i] == '-' ? '+' : text.p[i] == '_' ? '/' : text.p[i];
    }
    padded[PADDED - 2] = padded[PADDED - 1] = '=';
    bool ok = base64_decode_to(span_of(padded, PADDED), raw, &n) == OK && n == STREAM_TOKEN_BYTES;
    mem_wipe(padded, sizeof(padded));
    return ok;
}

static enum err judge(const struct secret *key, const uint8_t raw[STREAM_TOKEN_BYTES],
                      int64_t now_s, struct stream_token *ret, struct err_info *info)
{
    uint8_t mac[MAC_SIZE];
    mac_sha256(secret_span(key), span_of(raw, SIGNED), mac);
    if (!mem_equal_ct(span_of(mac, sizeof(mac)), span_of(raw + SIGNED, MAC_SIZE))) {
        return err_set(info, E_UNAUTHORIZED, "stream token: MAC does not fit");
    }
    uint64_t expires = 0;
    for (unsigned i = 0; i < 8; i++) {
        expires = expires << 8 | raw[2 + STREAM_SID + i];
    }
    if (raw[0] != TOKEN_VERSION || (raw[1] != STREAM_R_DEVICE && raw[1] != STREAM_R_SERVICE)) {
        return err_set(info, E_UNAUTHORIZED, "stream token: version or role");
    }
    if (now_s >= (int64_t)expires) {
        return err_set(info, E_UNAUTHORIZED, "stream token: expired");
    }
    ret->role = (enum stream_role)raw[1];
    memcpy(ret->sid, raw + 2, STREAM_SID);
    ret->expires_s = (int64_t)expires;
    return OK;
}

enum err stream_token_read(const struct secret *key, struct span authorization, int64_t now_s,
                           struct stream_token *ret, struct err_info *info)
{
    uint8_t raw[STREAM_TOKEN_BYTES];
    struct span rest = span_trim(authorization);
    if (!span_is_nocase(span_cut(&rest, ' '), "Bearer")) {
        return err_set(info, E_UNAUTHORIZED, "stream token: no Authorization: Bearer");
    }
    enum err e = decode(span_trim(rest), raw)
                     ? judge(key, raw, now_s, ret, info)
                     : err_set(info, E_UNAUTHORIZED, "stream token: not one of this hub");
    mem_wipe(raw, sizeof(raw));
    return e;
}

/* --- paths -------------------------------------------------------------------------------------- */

static const char *const role_names[] = {
    [STREAM_R_DEVICE] = "device", [STREAM_R_SERVICE] = "service"};

static bool read_sid(struct span text, uint8_t sid[STREAM_SID])
{
    uint8_t bytes[STREAM_SID];
    struct buf b = {.p = bytes, .cap = sizeof(bytes), .max = sizeof(bytes)};
    if (text.n != 2u * STREAM_SID || hex_decode(text, &b) != OK) {
        return false;
    }
    memcpy(sid, bytes, sizeof(bytes));
    return true;
}

enum err stream_path_read(struct span raw, struct arena *a, struct stream_path *ret)
{
    struct http_path p;
    enum err e = http_path_read(raw, a, &p);
    if (e != OK) {
        return e == E_NOMEM ? e : E_NO_ROUTE;
    }
    bool has_module = p.n == 11;
    if ((p.n != 9 && !has_module) || !span_is(p.segment[0], "bridges") ||
        !span_is(p.segment[1], "ih") || !span_is(p.segment[3], "d") ||
        (has_module && !span_is(p.segment[5], "m"))) {
        return E_NO_ROUTE;
    }
    const struct span *tail = p.segment + (has_module ? 7 : 5);
    struct stream_path got = {.hub = p.segment[2],
                              .device_id = p.segment[4],
                              .module_id = has_module ? p.segment[6] : SPAN_NONE};
    if (!span_is(tail[0], "sid") || !read_sid(tail[1], got.sid) || !span_is(tail[2], "r")) {
        return E_NO_ROUTE;
    }
    if (span_is(tail[3], role_names[STREAM_R_DEVICE])) {
        got.role = STREAM_R_DEVICE;
    } else if (span_is(tail[3], role_names[STREAM_R_SERVICE])) {
        got.role = STREAM_R_SERVICE;
    } else {
        return E_NO_ROUTE;
    }
    *ret = got;
    return OK;
}

void stream_path_write(struct buf *b, const struct stream_path *p)
{
    buf_add_str(b, "/bridges/ih/");
    percent_add(b, p->hub);
    buf_add_str(b, "/d/");
    percent_add(b, p->device_id);
    if (p->module_id.n > 0) {
        buf_add_str(b, "/m/");
        percent_add(b, p->module_id);
    }
    buf_add_str(b, "/sid/");
    hex_add(b, span_of(p->sid, STREAM_SID), false);
    buf_addf(b, "/r/%s", role_names[p->role]);
}

/* --- what a device is told ---------------------------------------------------------------------- */

/* Neither SDK decodes the name, so as little as possible is encoded. */
static void name_add(struct buf *b, struct span name)
{
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
            (c != '\0' && strchr("-._~!$'()*,;:@=", c) != NULL)) {
            buf_add_u8(b, c);
        } else {
            buf_addf(b, "%%%02X", c);
        }
    }
}

void stream_topic_write(struct buf *b, struct span name, uint32_t rid, struct span url,
                        struct span auth, struct span proto)
{
    buf_add_str(b, "$iothub/streams/POST/");
    name_add(b, name);
    buf_addf(b, "/?$rid=%x&$url=", (unsigned)rid);
    percent_add(b, url);
    buf_add_str(b, "&$auth=");
    percent_add(b, auth); /* its alphabet needs none; were it to change, it still could not split */
    if (proto.n > 0) {
        buf_add_str(b, "&$proto=");
        buf_add(b, proto);
    }
}

bool stream_name_ok(struct span name)
{
    if (name.n == 0 || name.n > LIMIT_STREAM_NAME || !span_is_utf8(name)) {
        return false;
    }
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if (c < 0x20 || c == 0x7f || c == '/' || c == '+' || c == '#') {
            return false;
        }
    }
    return true;
}

bool stream_seconds_read(struct span text, uint64_t max_s, uint64_t *ret_ms)
{
    struct span fraction = span_trim(text), digits = span_cut(&fraction, '.');
    uint64_t s, ms = 0, f;
    if (!span_to_u64(digits, &s) || s > max_s) {
        return false;
    }
    if (fraction.p != NULL) {
        fraction = span_sub(fraction, 0, 32);
        for (size_t i = 0; i < fraction.n; i++) {
            if (fraction.p[i] < '0' || fraction.p[i] > '9') {
                return false;
            }
        }
        if (fraction.n == 0 || !span_to_u64(span_sub(fraction, 0, 3), &f)) {
            return false;
        }
        ms = fraction.n == 1 ? f * 100 : fraction.n == 2 ? f * 10 : f;
    }
    if (s == max_s && ms > 0) {
        return false;
    }
    *ret_ms = s * 1000 + ms;
    return true;
}
