/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/buf.h"
#include "wire/ws.h"

#define S(x) SPAN_LIT(x)
#define MASK "\x37\xfa\x21\x3d"

/* Events as one line of text: D(abc) data, D.(abc) its end, T text, P ping, O pong, C1000(reason)
 * close. */
static enum err drive(bool is_server, struct span in, size_t chunk, struct buf *out, uint16_t *code)
{
    struct ws_reader r;
    ws_reader_init(&r, is_server);
    for (size_t at = 0; at < in.n; at += chunk) {
        uint8_t piece[512];
        size_t n = MIN(chunk, in.n - at);
        assert_true(n <= sizeof(piece));
        memcpy(piece, in.p + at, n);
        struct span left = span_of(piece, n);
        while (left.n > 0) {
            struct ws_event ev = {.kind = WS_EV_NONE};
            size_t used = 0;
            enum err e = ws_read(&r, left, &used, &ev, NULL);
            if (e != OK) {
                *code = r.close_code;
                return e;
            }
            assert_true(used <= left.n);
            left = span_from(left, used);
            switch (ev.kind) {
            case WS_EV_DATA:
                buf_addf(out, "%s%s(%.*s)", ev.is_text ? "T" : "D", ev.end ? "." : "",
                         SPAN_ARG(ev.data));
                break;
            case WS_EV_PING:
                buf_addf(out, "P(%.*s)", SPAN_ARG(ev.data));
                break;
            case WS_EV_PONG:
                buf_addf(out, "O(%.*s)", SPAN_ARG(ev.data));
                break;
            case WS_EV_CLOSE:
                buf_addf(out, "C%u(%.*s)", ev.code, SPAN_ARG(ev.data));
                break;
            case WS_EV_NONE:
            default:
                break;
            }
        }
    }
    return OK;
}

static void test_good(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool is_server;
        struct span in;
        const char *want;
    } rows[] = {
        /* RFC 6455 5.7 */
        {"Hello of a server", false, S("\x81\x05Hello"), "T.(Hello)"},
        {"Hello of a client", true, S("\x81\x85" MASK "\x7f\x9f\x4d\x51\x58"), "T.(Hello)"},
        {"fragments", false, S("\x01\x03Hel\x80\x02lo"), "T(Hel)T.(lo)"},
        {"ping", false, S("\x89\x05Hello"), "P(Hello)"},
        {"pong of a client", true, S("\x8a\x85" MASK "\x7f\x9f\x4d\x51\x58"), "O(Hello)"},
        {"binary, empty", false, S("\x82\x00"), "D.()"},
        {"ping between fragments", false,
         S("\x02\x01"
           "a\x89\x01p\x80\x01"
           "b"),
         "D(a)P(p)D.(b)"},
        {"close without code", false, S("\x88\x00"), "C1005()"},
        {"close with code", false,
         S("\x88\x05\x03\xe8"
           "bye"),
         "C1000(bye)"},
        {"bytes behind close", false, S("\x88\x00\xff\xff\xff"), "C1005()"},
        {"two messages", false,
         S("\x82\x01"
           "a\x82\x01"
           "b"),
         "D.(a)D.(b)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(1000);
        uint16_t code = 0;
        print_message("%s\n", rows[i].name);
        assert_ok(drive(rows[i].is_server, rows[i].in, rows[i].in.n, &out, &code));
        assert_span(buf_span(&out), span_str(rows[i].want));
        buf_done(&out);
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool is_server;
        struct span in;
        unsigned code;
    } rows[] = {
        {"unmasked client frame", true,
         S("\x82\x01"
           "a"),
         1002},
        {"masked server frame", false, S("\x82\x81" MASK "a"), 1002},
        {"RSV1: permessage-deflate was not agreed", false,
         S("\xc2\x01"
           "a"),
         1002},
        {"RSV2", false, S("\xa2\x00"), 1002},
        {"RSV3", false, S("\x92\x00"), 1002},
        {"opcode 3", false, S("\x83\x00"), 1002},
        {"opcode 7", false, S("\x87\x00"), 1002},
        {"opcode 11", false, S("\x8b\x00"), 1002},
        {"opcode 15", false, S("\x8f\x00"), 1002},
        {"fragmented ping", false, S("\x09\x00"), 1002},
        {"ping of 126 bytes", false, S("\x89\x7e\x00\x7e"), 1002},
        {"close of 127 length form", false, S("\x88\x7f"), 1002},
        {"continuation of nothing", false, S("\x80\x00"), 1002},
        {"new message inside one", false, S("\x02\x00\x82\x00"), 1002},
        {"length 125 in 2 bytes", false, S("\x82\x7e\x00\x7d"), 1002},
        {"length 65535 in 8 bytes", false, S("\x82\x7f\0\0\0\0\0\0\xff\xff"), 1002},
        {"length with top bit", false, S("\x82\x7f\x80\0\0\0\0\0\0\0"), 1002},
        {"close of one byte", false, S("\x88\x01\x03"), 1002},
        {"close 999", false, S("\x88\x02\x03\xe7"), 1002},
        {"close 1005", false, S("\x88\x02\x03\xed"), 1002},
        {"close 1006", false, S("\x88\x02\x03\xee"), 1002},
        {"close 1015", false, S("\x88\x02\x03\xf7"), 1002},
        {"close 2000", false, S("\x88\x02\x07\xd0"), 1002},
        {"close 5000", false, S("\x88\x02\x13\x88"), 1002},
        {"close reason not UTF-8", false, S("\x88\x03\x03\xe8\xff"), 1007},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t chunk = 1; chunk <= rows[i].in.n; chunk++) {
            struct buf out = BUF_INIT(1000);
            uint16_t code = 0;
            print_message("%s by %zu\n", rows[i].name, chunk);
            assert_err(drive(rows[i].is_server, rows[i].in, chunk, &out, &code), E_MALFORMED);
            assert_int_equal(code, rows[i].code);
            buf_done(&out);
        }
    }
}

/* The payload of all data frames is the same however the bytes arrive. */
static void test_any_chunks(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 125, 126, 200};
    struct buf wire = BUF_INIT(4096);
    struct buf payload = BUF_INIT(4096);
    const uint8_t mask[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint8_t head[WS_HEAD_MAX];
        uint8_t body[256];
        for (size_t k = 0; k < sizes[i]; k++) {
            body[k] = (uint8_t)('a' + (i + k) % 26);
        }
        buf_add(&payload, span_of(body, sizes[i]));
        buf_add(&wire, span_of(head, ws_head_write(head, WS_BINARY, true, sizes[i], mask)));
        ws_mask(body, sizes[i] / 2, mask, 0);
        ws_mask(body + sizes[i] / 2, sizes[i] - sizes[i] / 2, mask, sizes[i] / 2);
        buf_add(&wire, span_of(body, sizes[i]));
    }
    for (size_t chunk = 1; chunk <= 64; chunk++) {
        struct ws_reader r;
        struct buf got = BUF_INIT(4096);
        struct buf copy = BUF_INIT(4096);
        unsigned ends = 0;
        ws_reader_init(&r, true);
        buf_add(&copy, buf_span(&wire));
        for (size_t at = 0; at < copy.n;) {
            struct ws_event ev;
            size_t used = 0;
            assert_ok(ws_read(&r, span_sub(buf_span(&copy), at, chunk), &used, &ev, NULL));
            at += used;
            if (ev.kind == WS_EV_DATA) {
                buf_add(&got, ev.data);
                ends += ev.end ? 1u : 0u;
            }
        }
        assert_span(buf_span(&got), buf_span(&payload));
        assert_int_equal(ends, ARRAY_LEN(sizes));
        buf_done(&got);
        buf_done(&copy);
    }
    buf_done(&wire);
    buf_done(&payload);
}

static void test_heads(void **state)
{
    (void)state;
    uint8_t h[WS_HEAD_MAX];
    const uint8_t mask[4] = {9, 8, 7, 6};
    assert_span(span_of(h, ws_head_write(h, WS_BINARY, true, 125, NULL)), S("\x82\x7d"));
    assert_span(span_of(h, ws_head_write(h, WS_BINARY, false, 126, NULL)), S("\x02\x7e\x00\x7e"));
    assert_span(span_of(h, ws_head_write(h, WS_BINARY, true, 65535, NULL)), S("\x82\x7e\xff\xff"));
    assert_span(span_of(h, ws_head_write(h, WS_CONTINUATION, true, 65536, mask)),
                S("\x80\xff\0\0\0\0\0\1\0\0\x09\x08\x07\x06"));
}

static void test_control_writers(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    uint8_t big[200] = {0};
    ws_close_write(&b, 1000, NULL);
    ws_close_write(&b, WS_CLOSE_NONE, NULL);
    ws_control_write(&b, WS_PONG, S("Hello"), (const uint8_t *)MASK);
    assert_span(buf_span(&b), S("\x88\x02\x03\xe8"
                                "\x88\x00"
                                "\x8a\x85" MASK "\x7f\x9f\x4d\x51\x58"));
    buf_reset(&b);
    ws_control_write(&b, WS_PING, span_of(big, sizeof(big)), NULL);
    assert_int_equal(b.n, 2 + WS_CONTROL_MAX);
    buf_done(&b);
}

/* --- handshake ---------------------------------------------------------------------------- */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
static void test_accept(void **state)
{
    (void)state;
    char dst[WS_ACCEPT_SIZE];
    char key[WS_KEY_SIZE];
    assert_ok(ws_accept(S(KEY), dst)); /* RFC 6455 1.3 */
    assert_string_equal(dst, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    ws_key((const uint8_t *)"the sample nonce", key);
    assert_string_equal(key, KEY);
}

static void test_upgrade(void **state)
{
    (void)state;
    const struct ws_upgrade good = {S("WebSocket"), S("keep-alive, Upgrade"), S("13"), S(KEY),
                                    S("chat , MQTT")};
    struct span got = S("untouched");
    assert_ok(ws_upgrade_check(&good, "mqtt", &got, NULL)); /* M42 */
    assert_span(got, S("MQTT"));
    assert_ok(ws_upgrade_check(&good, NULL, &got, NULL));
    assert_span(got, S("chat"));
    got = S("untouched");
    struct ws_upgrade u = good;
    u.protocol = SPAN_NONE;
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_MALFORMED);
    u.protocol = S("mqttx, amqp");
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_MALFORMED);
    u = good;
    u.version = S("8");
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_VERSION);
    u.version = SPAN_NONE;
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_VERSION);
    u = good;
    u.key = S("c2hvcnQ=");
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_MALFORMED);
    u.key = SPAN_NONE;
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_MALFORMED);
    u.key = S("AAAAAAAAAAAAAAAAAAAAAAA="); /* 17 bytes */
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_MALFORMED);
    u = good;
    u.connection = S("close");
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_MALFORMED);
    u = good;
    u.upgrade = S("h2c");
    assert_err(ws_upgrade_check(&u, "mqtt", &got, NULL), E_MALFORMED);
    assert_span(got, S("untouched"));
    u = good;
    u.protocol = SPAN_NONE;
    assert_ok(ws_upgrade_check(&u, NULL, &got, NULL));
    assert_int_equal(got.n, 0);
}

static void test_answer(void **state)
{
    (void)state;
    const struct ws_upgrade good = {S("websocket"), S("Upgrade"), SPAN_NONE, SPAN_NONE, S("mqtt")};
    const struct span accept = S("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_ok(ws_answer_check(101, &good, accept, S(KEY), S("mqtt"), NULL));
    assert_err(ws_answer_check(403, &good, accept, S(KEY), S("mqtt"), NULL), E_REMOTE);
    assert_err(ws_answer_check(101, &good, S("x"), S(KEY), S("mqtt"), NULL), E_MALFORMED);
    assert_err(ws_answer_check(101, &good, accept, S(KEY), S("amqp"), NULL), E_MALFORMED);
    struct ws_upgrade u = good;
    u.upgrade = SPAN_NONE;
    assert_err(ws_answer_check(101, &u, accept, S(KEY), S("mqtt"), NULL), E_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_any_chunks),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_control_writers),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_answer),
    };
    return cmocka_run_group_tests_name("wire/ws", tests, NULL, NULL);
}
