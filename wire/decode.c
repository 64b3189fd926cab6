/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/decode.h"

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t decode_percent_to(struct span text, uint8_t *dst, bool *ret_clean)
{
    size_t out = 0;
    bool clean = true;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (c == '%') {
            int high = i + 2 < text.n ? hex_value(text.p[i + 1]) : -1;
            int low = i + 2 < text.n ? hex_value(text.p[i + 2]) : -1;
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high << 4 | low);
                i += 2;
            } else {
                clean = false;
            }
        }
        dst[out++] = c;
    }
    *ret_clean = clean;
    return out;
}

enum err decode_percent(struct span text, bool strict, struct arena *a, struct span *ret)
{
    uint8_t *dst = arena_alloc(a, MAX(text.n, 1));
    if (dst == NULL) {
        return E_NOMEM;
    }
    bool clean = true;
    struct span out = span_of(dst, decode_percent_to(text, dst, &clean));
    if (strict && !clean) {
        return E_MALFORMED;
    }
    if (!span_is_utf8(out)) {
        return E_UTF8;
    }
    *ret = out;
    return OK;
}
