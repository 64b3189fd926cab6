/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/ws.h"

#include <openssl/evp.h>

#include "base/text.h"

#define B0_FIN 0x80u
#define B0_RESERVED 0x70u
#define B1_MASKED 0x80u

/* --- reading ------------------------------------------------------------------------------ */
void ws_reader_init(struct ws_reader *r, bool is_server)
{
    *r = (struct ws_reader){.is_server = is_server};
}

static enum err die(struct ws_reader *r, uint16_t code, struct err_info *info, const char *why)
{
    r->is_dead = true;
    r->close_code = code;
    return err_set(info, E_MALFORMED, "websocket: %s", why);
}

static bool is_control(uint8_t opcode)
{
    return (opcode & 8u) != 0;
}

/* Length of the head that begins with head[0], head[1]. */
static size_t head_size(const struct ws_reader *r)
{
    size_t n = 2;
    unsigned len = r->head[1] & 0x7fu;
    n += len == 126 ? 2u : len == 127 ? 8u : 0u;
    return n + ((r->head[1] & B1_MASKED) != 0 ? 4u : 0u);
}

/* The first two bytes say all that can be wrong but the length. */
static const char *head_fault(const struct ws_reader *r)
{
    unsigned b0 = r->head[0];
    unsigned len = r->head[1] & 0x7fu;
    uint8_t opcode = b0 & 0x0fu;
    bool masked = (r->head[1] & B1_MASKED) != 0;
    if ((b0 & B0_RESERVED) != 0) {
        return "reserved bit (5.2: no extension was agreed)";
    }
    if (masked != r->is_server) {
        return r->is_server ? "frame of a client without mask (5.1)"
                            : "masked frame of a server (5.1)";
    }
    if ((opcode > WS_BINARY && opcode < WS_CLOSE) || opcode > WS_PONG) {
        return "reserved opcode (5.2)";
    }
    if (is_control(opcode)) {
        if ((b0 & B0_FIN) == 0) {
            return "fragmented control frame (5.5)";
        }
        return len > WS_CONTROL_MAX ? "control frame above 125 bytes (5.5)" : NULL;
    }
    if (opcode == WS_CONTINUATION && !r->in_message) {
        return "continuation of nothing (5.4)";
    }
    if (opcode != WS_CONTINUATION && r->in_message) {
        return "new message inside a fragmented one (5.4)";
    }
    return NULL;
}

static uint64_t head_length(const struct ws_reader *r)
{
    unsigned len = r->head[1] & 0x7fu;
    if (len < 126) {
        return len;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < (len == 126 ? 2u : 8u); i++) {
        v = v << 8 | r->head[2 + i];
    }
    return v;
}

static enum err head_finish(struct ws_reader *r, struct err_info *info)
{
    unsigned len = r->head[1] & 0x7fu;
    r->left = head_length(r);
    if ((len == 126 && r->left < 126) || (len == 127 && (r->left < 65536 || r->left >> 63 != 0))) {
        return die(r, WS_CLOSE_PROTOCOL, info, "length not in its shortest form (5.2)");
    }
    if (r->frame_max != 0 && r->left > r->frame_max) {
        return die(r, WS_CLOSE_TOO_BIG, info, "frame is too long");
    }
    r->opcode = r->head[0] & 0x0fu;
    r->fin = (r->head[0] & B0_FIN) != 0;
    if (r->is_server) {
        memcpy(r->mask, r->head + head_size(r) - 4, 4);
    }
    r->mask_at = 0;
    r->control_n = 0;
    r->head_n = 0;
    r->in_payload = true;
    if (!is_control(r->opcode)) {
        if (r->opcode != WS_CONTINUATION) {
            r->message_opcode = r->opcode;
        }
        r->in_message = !r->fin;
    }
    return OK;
}

/* Takes bytes of the head; done when r->in_payload. */
static enum err head_take(struct ws_reader *r, struct span in, size_t *used, struct err_info *info)
{
    while (*used < in.n) {
        r->head[r->head_n++] = in.p[(*used)++];
        if (r->head_n == 2) {
            const char *fault = head_fault(r);
            if (fault != NULL) {
                return die(r, WS_CLOSE_PROTOCOL, info, fault);
            }
        }
        if (r->head_n >= 2 && r->head_n == head_size(r)) {
            return head_finish(r, info);
        }
    }
    return OK;
}

static bool close_code_ok(uint16_t code)
{
    /* 7.4: 1004, 1005, 1006, 1015 never travel; 1016..2999 are not given out */
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static enum err close_read(struct ws_reader *r, struct ws_event *ret, struct err_info *info)
{
    struct span p = span_of(r->control, r->control_n);
    if (p.n == 1) {
        return die(r, WS_CLOSE_PROTOCOL, info, "close frame with half a code (5.5.1)");
    }
    uint16_t code = WS_CLOSE_NONE;
    if (p.n >= 2) {
        code = (uint16_t)(p.p[0] << 8 | p.p[1]);
        p = span_from(p, 2);
        if (!close_code_ok(code)) {
            return die(r, WS_CLOSE_PROTOCOL, info, "close code that may not be sent (7.4)");
        }
        if (!span_is_utf8(p) && !span_has_nul(p)) {
            return die(r, WS_CLOSE_UTF8, info, "close reason is not UTF-8 (5.5.1)");
        }
    }
    r->is_dead = true;
    *ret = (struct ws_event){.kind = WS_EV_CLOSE, .code = code, .data = p};
    return OK;
}

static enum err control_event(struct ws_reader *r, struct ws_event *ret, struct err_info *info)
{
    r->in_payload = false;
    if (r->opcode == WS_CLOSE) {
        return close_read(r, ret, info);
    }
    *ret = (struct ws_event){.kind = r->opcode == WS_PING ? WS_EV_PING : WS_EV_PONG,
                             .data = span_of(r->control, r->control_n)};
    return OK;
}

/* Takes payload; *ret stays WS_EV_NONE when a control frame is not yet whole. */
static enum err payload_take(struct ws_reader *r, struct span in, size_t *used,
                             struct ws_event *ret, struct err_info *info)
{
    size_t n = in.n - *used;
    n = r->left < n ? (size_t)r->left : n;
    uint8_t *p = n > 0 ? (uint8_t *)(uintptr_t)(in.p + *used) : NULL; /* the header says so */
    if (r->is_server && n > 0) {
        ws_mask(p, n, r->mask, r->mask_at);
        r->mask_at = (uint8_t)((r->mask_at + n) & 3u);
    }
    *used += n;
    r->left -= n;
    if (is_control(r->opcode)) {
        if (n > 0) {
            memcpy(r->control + r->control_n, p, n);
            r->control_n = (uint8_t)(r->control_n + n);
        }
        return r->left == 0 ? control_event(r, ret, info) : OK;
    }
    if (n == 0 && r->left > 0) {
        return OK;
    }
    r->in_payload = r->left > 0;
    *ret = (struct ws_event){.kind = WS_EV_DATA,
                             .is_text = r->message_opcode == WS_TEXT,
                             .end = r->fin && r->left == 0,
                             .data = span_of(p, n)};
    return OK;
}

enum err ws_read(struct ws_reader *r, struct span in, size_t *ret_used, struct ws_event *ret,
                 struct err_info *info)
{
    struct ws_event event = {.kind = WS_EV_NONE};
    size_t used = 0;
    if (r->is_dead) {
        used = in.n; /* 5.5.1, 7.1.7: nothing further is processed */
    }
    while (event.kind == WS_EV_NONE && !r->is_dead) {
        enum err e = OK;
        if (!r->in_payload) {
            e = head_take(r, in, &used, info);
        }
        if (e == OK && r->in_payload) {
            e = payload_take(r, in, &used, &event, info);
        }
        if (e != OK) {
            return e;
        }
        if (used == in.n) {
            break;
        }
    }
    *ret_used = used;
    *ret = event;
    return OK;
}

/* --- writing ------------------------------------------------------------------------------ */
size_t ws_head_write(uint8_t dst[WS_HEAD_MAX], enum ws_opcode opcode, bool fin, uint64_t payload_n,
                     const uint8_t *mask)
{
    size_t n = 2;
    unsigned bytes = payload_n < 126 ? 0 : payload_n < 65536 ? 2 : 8;
    unsigned len = bytes == 0 ? (unsigned)payload_n : bytes == 2 ? 126 : 127;
    dst[0] = (uint8_t)((fin ? B0_FIN : 0u) | (unsigned)opcode);
    dst[1] = (uint8_t)((mask != NULL ? B1_MASKED : 0u) | len);
    for (unsigned i = 0; i < bytes; i++) {
        dst[n++] = (uint8_t)(payload_n >> (8 * (bytes - 1 - i)));
    }
    if (mask != NULL) {
        memcpy(dst + n, mask, 4);
        n += 4;
    }
    return n;
}

void ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t offset)
{
    uint8_t turned[8];
    for (size_t i = 0; i < sizeof(turned); i++) {
        turned[i] = mask[(offset + i) & 3u];
    }
    uint64_t wide;
    memcpy(&wide, turned, sizeof(wide));
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        uint64_t v[4];
        memcpy(v, p + i, sizeof(v));
        v[0] ^= wide;
        v[1] ^= wide;
        v[2] ^= wide;
        v[3] ^= wide;
        memcpy(p + i, v, sizeof(v));
    }
    for (; i + 8 <= n; i += 8) { /* eight bytes at a time: relays move megabytes through here */
        uint64_t v;
        memcpy(&v, p + i, sizeof(v));
        v ^= wide;
        memcpy(p + i, &v, sizeof(v));
    }
    for (; i < n; i++) {
        p[i] ^= turned[i & 7u];
    }
}

void ws_control_write(struct buf *b, enum ws_opcode opcode, struct span payload,
                      const uint8_t *mask)
{
    ASSERT(is_control((uint8_t)opcode));
    uint8_t head[WS_HEAD_MAX];
    uint8_t body[WS_CONTROL_MAX];
    payload = span_sub(payload, 0, WS_CONTROL_MAX);
    if (payload.n > 0) {
        memcpy(body, payload.p, payload.n);
    }
    if (mask != NULL) {
        ws_mask(body, payload.n, mask, 0);
    }
    buf_add(b, span_of(head, ws_head_write(head, opcode, true, payload.n, mask)));
    buf_add(b, span_of(body, payload.n));
}

void ws_close_write(struct buf *b, uint16_t code, const uint8_t *mask)
{
    const uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    ws_control_write(b, WS_CLOSE, span_of(payload, code == WS_CLOSE_NONE ? 0 : 2), mask);
}

void ws_close_reason_write(struct buf *b, uint16_t code, struct span reason, const uint8_t *mask)
{
    uint8_t payload[WS_CONTROL_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};
    reason = span_sub(reason, 0, sizeof(payload) - 2);
    if (reason.n > 0) {
        memcpy(payload + 2, reason.p, reason.n);
    }
    ws_control_write(b, WS_CLOSE, span_of(payload, 2 + reason.n), mask);
}

/* --- handshake ---------------------------------------------------------------------------- */
enum err ws_accept(struct span key, char dst[WS_ACCEPT_SIZE])
{
    struct buf text = BUF_INIT(128);
    struct buf base64 = BUF_INIT(WS_ACCEPT_SIZE);
    uint8_t digest[20];
    size_t n = 0;
    buf_add(&text, key);
    buf_add_str(&text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); /* 1.3 */
    enum err e = buf_err(&text);
    if (e == OK && (EVP_Q_digest(NULL, "SHA1", NULL, text.p, text.n, digest, &n) != 1 ||
                    n != sizeof(digest))) {
        e = E_CRYPTO;
    }
    if (e == OK) {
        base64_add(&base64, span_of(digest, sizeof(digest)));
        e = buf_err(&base64);
    }
    if (e == OK && !span_to_cstr(buf_span(&base64), dst, WS_ACCEPT_SIZE)) {
        e = E_BUG;
    }
    buf_done(&text);
    buf_done(&base64);
    return e;
}

void ws_key(const uint8_t random[16], char dst[WS_KEY_SIZE])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0, out = 0; i < 16; i += 3, out += 4) {
        unsigned v = (unsigned)random[i] << 16;
        v |= i + 1 < 16 ? (unsigned)random[i + 1] << 8 | random[i + 2] : 0;
        dst[out] = digits[v >> 18];
        dst[out + 1] = digits[v >> 12 & 63u];
        dst[out + 2] = i + 1 < 16 ? digits[v >> 6 & 63u] : '=';
        dst[out + 3] = i + 1 < 16 ? digits[v & 63u] : '=';
    }
    dst[WS_KEY_SIZE - 1] = '\0';
}

bool ws_list_has(struct span list, const char *word)
{
    while (list.p != NULL) {
        if (span_is_nocase(span_trim(span_cut(&list, ',')), word)) {
            return true;
        }
    }
    return false;
}

static bool key_ok(struct span key)
{
    uint8_t bytes[16];
    size_t n = sizeof(bytes);
    return base64_decode_to(key, bytes, &n) == OK && n == sizeof(bytes);
}

/* The offered spelling of want; false when none fits. */
static bool protocol_pick(struct span offered, const char *want, struct span *ret)
{
    while (offered.p != NULL) {
        struct span one = span_trim(span_cut(&offered, ','));
        if (one.n > 0 && (want == NULL || span_is_nocase(one, want))) {
            *ret = one;
            return true;
        }
    }
    return false;
}

enum err ws_upgrade_check(const struct ws_upgrade *u, const char *want, struct span *ret_protocol,
                          struct err_info *info)
{
    if (!ws_list_has(u->upgrade, "websocket") || !ws_list_has(u->connection, "upgrade")) {
        return err_set(info, E_MALFORMED, "websocket: Upgrade or Connection header (4.2.1)");
    }
    if (!span_is(u->version, "13")) {
        return err_set(info, E_VERSION, "websocket: version is not 13 (4.4)");
    }
    if (!key_ok(u->key)) {
        return err_set(info, E_MALFORMED, "websocket: key is not 16 bytes (4.2.1)");
    }
    struct span picked = SPAN_NONE;
    if (!protocol_pick(u->protocol, want, &picked) && want != NULL) {
        return err_set(info, E_MALFORMED, "websocket: protocol \"%s\" was not offered", want);
    }
    *ret_protocol = picked;
    return OK;
}

enum err ws_answer_check(unsigned status, const struct ws_upgrade *answer, struct span accept,
                         struct span key_sent, struct span protocol, struct err_info *info)
{
    if (status != 101) {
        return err_set(info, E_REMOTE, "websocket: answered with status %u", status);
    }
    if (!ws_list_has(answer->upgrade, "websocket") || !ws_list_has(answer->connection, "upgrade")) {
        return err_set(info, E_MALFORMED, "websocket: Upgrade or Connection header (4.2.2)");
    }
    char want[WS_ACCEPT_SIZE];
    enum err e = ws_accept(key_sent, want);
    if (e != OK) {
        return err_set(info, e, "websocket: no SHA-1");
    }
    if (!span_is(accept, want)) {
        return err_set(info, E_MALFORMED, "websocket: Sec-WebSocket-Accept does not fit (4.2.2)");
    }
    if (!span_eq_nocase(answer->protocol, protocol)) {
        return err_set(info, E_MALFORMED, "websocket: another protocol than asked for (4.1)");
    }
    return OK;
}
