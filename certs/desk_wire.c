/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/desk_wire.h"

#include "base/rd.h"

enum { F_SELF_SIGNED = 1, F_ALSO_SERVER = 2, F_ALL = 3 };

/* The place is the code: rows are added at the end. */
static const enum err codes[] = {OK,          E_MALFORMED, E_TOO_LARGE, E_ARG,    E_CERT,
                                 E_EXPIRED,   E_LIMIT,     E_AGAIN,     E_CONFIG, E_PERM,
                                 E_CORRUPT,   E_NOMEM,     E_DISK_FULL, E_IO,     E_CRYPTO,
                                 E_TRUNCATED, E_VERSION,   E_UTF8,      E_REMOTE};

static void add_lv(struct buf *b, struct span s)
{
    buf_add_be16(b, (uint16_t)s.n);
    buf_add(b, s);
}

/* --- asked --------------------------------------------------------------------------------------- */

enum err desk_ask_add(const struct desk_ask *a, struct buf *b)
{
    const struct span all[] = {a->key.name, a->key.source, a->cn, a->organization, a->ca, a->csr};
    buf_add_u8(b, DESK_WIRE_VERSION);
    buf_add_u8(b, (uint8_t)a->act);
    buf_add_u8(b, (uint8_t)a->key.kind);
    buf_add_u8(b, (uint8_t)((a->is_self_signed ? F_SELF_SIGNED : 0) |
                            (a->also_server ? F_ALSO_SERVER : 0)));
    buf_add_u8(b, (uint8_t)a->type);
    buf_add_be64(b, (uint64_t)a->not_before_us);
    buf_add_be64(b, (uint64_t)a->not_after_us);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i].n > UINT16_MAX) {
            return E_TOO_LARGE;
        }
        add_lv(b, all[i]);
    }
    return buf_err(b);
}

static bool is_text(struct span s)
{
    return s.n <= DESK_TEXT_MAX && !span_has_nul(s) && span_is_utf8(s);
}

enum err desk_ask_read(struct span message, struct desk_ask *ret)
{
    struct rd r = rd_init(message);
    struct desk_ask a = {0};
    struct span *all[] = {&a.key.name, &a.key.source, &a.cn, &a.organization, &a.ca, &a.csr};
    if (rd_u8(&r) != DESK_WIRE_VERSION) {
        return message.n == 0 ? E_MALFORMED : E_VERSION;
    }
    uint8_t act = rd_u8(&r), kind = rd_u8(&r), flags = rd_u8(&r), type = rd_u8(&r);
    a.not_before_us = (int64_t)rd_be64(&r);
    a.not_after_us = (int64_t)rd_be64(&r);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        *all[i] = rd_lv16(&r);
    }
    rd_require(&r, act == DESK_MAKE || act == DESK_ISSUE);
    rd_require(&r, kind < DESK_KINDS && type < KEY_TYPES && (flags & ~F_ALL) == 0);
    rd_require(&r, a.not_before_us >= 0 && a.not_after_us > a.not_before_us);
    rd_require(&r, a.key.name.n != 0 && a.cn.n != 0);
    rd_require(&r, is_text(a.key.name) && is_text(a.cn) && is_text(a.organization));
    a.act = (enum desk_act)act;
    a.key.kind = (enum desk_kind)kind;
    a.type = (enum key_type)type;
    a.is_self_signed = (flags & F_SELF_SIGNED) != 0;
    a.also_server = (flags & F_ALSO_SERVER) != 0;
    *ret = a;
    return rd_end(&r);
}

/* --- answered ------------------------------------------------------------------------------------ */

enum err desk_answer_add(const struct desk_answer *a, struct buf *b)
{
    size_t code = 0;
    while (code < ARRAY_LEN(codes) - 1 && codes[code] != a->err) {
        code++;
    }
    buf_add_u8(b, DESK_WIRE_VERSION);
    buf_add_u8(b, (uint8_t)code);
    if (a->err != OK) {
        add_lv(b, span_sub(a->why, 0, UINT16_MAX));
        return buf_err(b);
    }
    for (size_t i = 0; i < ARRAY_LEN(a->part); i++) {
        if (a->part[i].n > UINT16_MAX) {
            return E_TOO_LARGE;
        }
        add_lv(b, a->part[i]);
    }
    return buf_err(b);
}

enum err desk_answer_read(struct span message, struct desk_answer *ret)
{
    struct rd r = rd_init(message);
    struct desk_answer a = {0};
    if (rd_u8(&r) != DESK_WIRE_VERSION) {
        return message.n == 0 ? E_MALFORMED : E_VERSION;
    }
    uint8_t code = rd_u8(&r);
    a.err = code < ARRAY_LEN(codes) ? codes[code] : E_REMOTE;
    if (a.err != OK) {
        a.why = rd_lv16(&r);
    } else {
        for (size_t i = 0; i < ARRAY_LEN(a.part); i++) {
            a.part[i] = rd_lv16(&r);
        }
    }
    *ret = a;
    return rd_end(&r);
}
