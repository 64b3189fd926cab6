/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include "base/limits.h"
#include "base/secret.h"

/* --- base64 ---------------------------------------------------------------------------------- */

/* Keys pass through here, so neither direction looks anything up by a secret index or branches on
 * one: `within` is all ones when low <= c <= high. */
static int within(int c, int low, int high)
{
    return ((low - 1 - c) & (c - high - 1)) >> 8;
}

static uint8_t base64_char(unsigned value)
{
    int v = (int)(value & 63);
    int c = (within(v, 0, 25) & ('A' + v)) | (within(v, 26, 51) & ('a' + v - 26)) |
            (within(v, 52, 61) & ('0' + v - 52)) | (within(v, 62, 62) & '+') |
            (within(v, 63, 63) & '/');
    return (uint8_t)c;
}

/* 0..63, or -1. */
static int base64_value(int c)
{
    int v = -1;
    v += within(c, 'A', 'Z') & (c - 'A' + 1);
    v += within(c, 'a', 'z') & (c - 'a' + 26 + 1);
    v += within(c, '0', '9') & (c - '0' + 52 + 1);
    v += within(c, '+', '+') & (62 + 1);
    v += within(c, '/', '/') & (63 + 1);
    return v;
}

void base64_add(struct buf *b, struct span bytes)
{
    size_t groups = bytes.n / 3 + (bytes.n % 3 != 0);
    if (groups > SIZE_MAX / 4) {
        groups = SIZE_MAX / 4; /* no buffer takes that much: buf_reserve refuses it */
    }
    uint8_t *out = buf_reserve(b, groups * 4);
    if (out == NULL) {
        return;
    }
    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t have = MIN(3, bytes.n - i);
        unsigned v = (unsigned)bytes.p[i] << 16;
        v |= have > 1 ? (unsigned)bytes.p[i + 1] << 8 : 0;
        v |= have > 2 ? bytes.p[i + 2] : 0;
        *out++ = base64_char(v >> 18);
        *out++ = base64_char(v >> 12);
        *out++ = have > 1 ? base64_char(v >> 6) : '=';
        *out++ = have > 2 ? base64_char(v) : '=';
    }
    b->n += groups * 4;
}

static size_t base64_padding(struct span text)
{
    size_t n = 0;
    while (n < 2 && n < text.n && text.p[text.n - 1 - n] == '=') {
        n++;
    }
    return n;
}

enum err base64_decode_to(struct span text, uint8_t *dst, size_t *n)
{
    if (text.n % 4 != 0) {
        return E_MALFORMED;
    }
    size_t pad = base64_padding(text);
    size_t want = text.n / 4 * 3 - pad;
    if (want > *n) {
        return E_TOO_LARGE;
    }
    int bad = 0;
    size_t at = 0;
    for (size_t i = 0; i < text.n; i += 4) {
        int skip = i + 4 == text.n ? (int)pad : 0;
        unsigned v = 0;
        for (int k = 0; k < 4; k++) {
            int d = k < 4 - skip ? base64_value(text.p[i + (size_t)k]) : 0;
            bad |= d;
            v = v << 6 | ((unsigned)d & 63);
        }
        /* RFC 4648 3.5: bits that no byte takes are zero, or one value has several texts */
        bad |= skip != 0 && (v & ((1u << (8 * skip)) - 1)) != 0 ? -1 : 0;
        for (int k = 0; k < 3 - skip; k++) {
            dst[at++] = (uint8_t)(v >> (16 - 8 * k));
        }
    }
    if (bad < 0) {
        mem_wipe(dst, want);
        return E_MALFORMED;
    }
    *n = want;
    return OK;
}

enum err base64_decode(struct span text, struct buf *ret)
{
    if (text.n % 4 != 0) {
        return E_MALFORMED;
    }
    size_t n = text.n / 4 * 3 - base64_padding(text);
    uint8_t *out = buf_reserve(ret, n);
    if (out == NULL) {
        return buf_err(ret);
    }
    enum err e = base64_decode_to(text, out, &n);
    if (e == OK) {
        ret->n += n;
    }
    return e;
}

/* --- hex ------------------------------------------------------------------------------------- */

static char hex_digit(unsigned v, bool upper)
{
    return (upper ? "0123456789ABCDEF" : "0123456789abcdef")[v & 15];
}

/* 0..15, or -1. */
static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void hex_add(struct buf *b, struct span bytes, bool upper)
{
    for (size_t i = 0; i < bytes.n; i++) {
        buf_add_u8(b, (uint8_t)hex_digit(bytes.p[i] >> 4, upper));
        buf_add_u8(b, (uint8_t)hex_digit(bytes.p[i], upper));
    }
}

enum err hex_decode(struct span text, struct buf *ret)
{
    if (text.n % 2 != 0) {
        return E_MALFORMED;
    }
    for (size_t i = 0; i < text.n; i += 2) {
        int high = hex_value(text.p[i]);
        int low = hex_value(text.p[i + 1]);
        if (high < 0 || low < 0) {
            return E_MALFORMED;
        }
        buf_add_u8(ret, (uint8_t)(high << 4 | low));
    }
    return buf_err(ret);
}

void hex_to_cstr(struct span bytes, bool upper, char *dst)
{
    for (size_t i = 0; i < bytes.n; i++) {
        *dst++ = hex_digit(bytes.p[i] >> 4, upper);
        *dst++ = hex_digit(bytes.p[i], upper);
    }
    *dst = '\0';
}

/* --- percent-encoding ------------------------------------------------------------------------ */

static bool is_alnum(uint8_t c)
{
    uint8_t l = c | 0x20;
    return (c >= '0' && c <= '9') || (l >= 'a' && l <= 'z');
}

static bool is_one_of(uint8_t c, const char *set)
{
    return c != 0 && strchr(set, c) != NULL;
}

void percent_add(struct buf *b, struct span bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        uint8_t c = bytes.p[i];
        if (is_alnum(c) || is_one_of(c, "-_.~")) {
            buf_add_u8(b, c);
        } else {
            buf_add_u8(b, '%');
            hex_add(b, span_of(&c, 1), true);
        }
    }
}

/* The byte of the escape at the start, or -1. */
static int escape_value(struct span s)
{
    if (s.n < 3 || s.p[0] != '%') {
        return -1;
    }
    int high = hex_value(s.p[1]);
    int low = hex_value(s.p[2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static enum err unescape(struct span text, struct buf *ret, bool strict)
{
    while (text.n != 0) {
        int v = escape_value(text);
        if (v < 0 && text.p[0] == '%' && strict) {
            return E_MALFORMED;
        }
        buf_add_u8(ret, v < 0 ? text.p[0] : (uint8_t)v);
        text = span_from(text, v < 0 ? 1 : 3);
    }
    return buf_err(ret);
}

enum err percent_decode(struct span text, struct buf *ret)
{
    return unescape(text, ret, true);
}

void percent_decode_lenient(struct span text, struct buf *ret)
{
    (void)!unescape(text, ret, false); /* only the buffer can fail, and it remembers */
}

bool text_next_pair(struct span *rest, struct text_pair *ret)
{
    while (rest->n != 0) {
        struct span pair = span_cut(rest, '&');
        if (pair.n == 0) {
            continue;
        }
        size_t eq = span_find(pair, '=');
        ret->key = span_sub(pair, 0, eq);
        ret->has_value = eq < pair.n;
        ret->value = ret->has_value ? span_from(pair, eq + 1) : SPAN_NONE;
        return true;
    }
    return false;
}

/* --- identifiers ----------------------------------------------------------------------------- */

static bool id_ok(struct span id, const char *marks, size_t max)
{
    if (id.n == 0 || id.n > max) {
        return false;
    }
    for (size_t i = 0; i < id.n; i++) {
        if (!is_alnum(id.p[i]) && !is_one_of(id.p[i], marks)) {
            return false;
        }
    }
    return true;
}

bool id_device_ok(struct span id)
{
    return id_ok(id, "-:.+%_#*?!(),=@;$'", LIMIT_ID);
}

bool id_registration_ok(struct span id)
{
    return id_ok(id, "-._:", LIMIT_ID) && is_alnum(id.p[0]) &&
           (is_alnum(id.p[id.n - 1]) || id.p[id.n - 1] == '-');
}

/* docs/protocol/dps-service-rest.md: ^[A-Za-z0-9\-._]{1,64}$ */
bool id_admin_name_ok(struct span id)
{
    return id_ok(id, "-._", LIMIT_ADMIN_NAME);
}

void text_lower(char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] >= 'A' && s[i] <= 'Z') {
            s[i] = (char)(s[i] | 0x20);
        }
    }
}
