/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: role and size of the pieces. What comes out is the same at once and in pieces. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#include "wire/ws.h"

/* Everything that the reader says, as text. */
static void drive(bool is_server, struct span in, size_t piece, struct buf *out)
{
    struct ws_reader r;
    struct buf copy = BUF_INIT(1 << 20);
    size_t at = 0;
    ws_reader_init(&r, is_server);
    buf_add(&copy, in);
    while (at < copy.n) {
        struct ws_event ev;
        size_t used = 0;
        struct span show = span_sub(buf_span(&copy), at, piece);
        if (ws_read(&r, show, &used, &ev, NULL) != OK) {
            ASSERT(r.is_dead);
            buf_addf(out, "\nERR %u", r.close_code);
            break;
        }
        ASSERT(used <= show.n && (used > 0 || ev.kind != WS_EV_NONE));
        ASSERT(ev.kind != WS_EV_NONE || used == show.n);
        at += used;
        if (ev.kind == WS_EV_DATA) {
            buf_add(out, ev.data);
            buf_add_str(out, ev.end ? (ev.is_text ? "\nTEXT" : "\nEND") : "");
        } else if (ev.kind != WS_EV_NONE) {
            ASSERT(ev.data.n <= WS_CONTROL_MAX);
            buf_addf(out, "\nCONTROL %u %u ", (unsigned)ev.kind, ev.code);
            buf_add(out, ev.data);
        }
    }
    buf_done(&copy);
}

static void handshake(struct span in)
{
    struct ws_upgrade u = {0};
    struct span *const fields[] = {&u.upgrade, &u.connection, &u.version, &u.key, &u.protocol};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        *fields[i] = span_cut(&in, '\n');
    }
    struct span protocol = SPAN_NONE;
    if (ws_upgrade_check(&u, "mqtt", &protocol, NULL) == OK) {
        ASSERT(span_is_nocase(protocol, "mqtt"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    struct span in = span_of(data + 1, n - 1);
    bool is_server = (data[0] & 1) != 0;
    size_t piece = 1 + (size_t)(data[0] >> 1);
    struct buf whole = BUF_INIT(1 << 20);
    struct buf pieces = BUF_INIT(1 << 20);
    drive(is_server, in, SIZE_MAX, &whole);
    drive(is_server, in, piece, &pieces);
    ASSERT(span_eq(buf_span(&whole), buf_span(&pieces)));
    buf_done(&whole);
    buf_done(&pieces);
    handshake(in);
    return 0;
}
