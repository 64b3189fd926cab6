/* SPDX-License-Identifier: Apache-2.0 */
/* base64, hex, percent-encoding, pairs, identifiers, times: decoded, encoded, decoded again. */
#include "tests/fuzz/fuzz.h"

#include "base/clock.h"
#include "base/text.h"

#define BIG (8u << 20)

/* What decodes is the only encoding of those bytes. */
static void base64(struct span in)
{
    struct buf raw = BUF_INIT(BIG), text = BUF_INIT(BIG);
    uint8_t small[96];
    size_t n = sizeof(small);
    enum err e = base64_decode(in, &raw);
    if (e == OK) {
        base64_add(&text, buf_span(&raw));
        ASSERT(span_eq(buf_span(&text), in));
    }
    enum err to = base64_decode_to(in, small, &n);
    ASSERT(to != OK || (e == OK && span_eq(span_of(small, n), buf_span(&raw))));
    buf_reset(&raw);
    buf_reset(&text);
    base64_add(&text, in);
    ASSERT(base64_decode(buf_span(&text), &raw) == OK && span_eq(buf_span(&raw), in));
    buf_done(&raw);
    buf_done(&text);
}

static void hex(struct span in)
{
    struct buf raw = BUF_INIT(BIG), text = BUF_INIT(BIG), again = BUF_INIT(BIG);
    if (hex_decode(in, &raw) == OK) {
        hex_add(&text, buf_span(&raw), true);
        ASSERT(span_eq_nocase(buf_span(&text), in));
        ASSERT(hex_decode(buf_span(&text), &again) == OK);
        ASSERT(span_eq(buf_span(&again), buf_span(&raw)));
    }
    buf_done(&raw);
    buf_done(&text);
    buf_done(&again);
}

static void percent(struct span in)
{
    struct buf raw = BUF_INIT(BIG), text = BUF_INIT(BIG), lenient = BUF_INIT(BIG);
    percent_add(&text, in);
    ASSERT(percent_decode(buf_span(&text), &raw) == OK && span_eq(buf_span(&raw), in));
    buf_reset(&raw);
    percent_decode_lenient(in, &lenient);
    ASSERT(buf_err(&lenient) == OK && lenient.n <= in.n);
    if (percent_decode(in, &raw) == OK) {
        ASSERT(span_eq(buf_span(&raw), buf_span(&lenient)));
    }
    buf_done(&raw);
    buf_done(&text);
    buf_done(&lenient);
}

static void pairs(struct span in)
{
    struct span rest = in;
    struct text_pair p;
    size_t total = 0;
    while (text_next_pair(&rest, &p)) {
        fuzz_touch(p.key);
        fuzz_touch(p.value);
        total += p.key.n + p.value.n + p.has_value;
        ASSERT(p.has_value || p.value.n == 0);
    }
    ASSERT(total <= in.n);
}

static void times(struct span in)
{
    char text[TIME_ISO_SIZE];
    int64_t us = 0, again = 0;
    if (time_parse_iso(in, &us) == OK) {
        time_iso7(us, text);
        ASSERT(time_parse_iso(span_str(text), &again) == OK && again == us);
        time_rfc1123(us, text);
        time_tracking(us, text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    base64(in);
    hex(in);
    percent(in);
    pairs(in);
    times(in);
    ASSERT(!id_device_ok(in) || (n > 0 && n <= 128));
    ASSERT(!id_registration_ok(in) || (n > 0 && n <= 128));
    ASSERT(!id_admin_name_ok(in) || (n > 0 && n <= 64));
    return 0;
}
