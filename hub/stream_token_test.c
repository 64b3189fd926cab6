/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "base/clock.h"
#include "base/text.h"
#include "hub/stream_token.h"

#define NOW INT64_C(1767225600)

static struct secret key;

static int setup(void **state)
{
    (void)state;
    return secret_random(&key, 32) == OK ? 0 : 1;
}

static enum err read_bearer(const char *scheme, const char *token, int64_t now,
                            struct stream_token *ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(4096);
    buf_addf(&b, "%s %s", scheme, token);
    return stream_token_read(&key, buf_span(&b), now, ret, NULL);
}

static struct stream_token make(char dst[STREAM_TOKEN_SIZE])
{
    struct stream_token t = {.role = STREAM_R_SERVICE, .expires_s = NOW + 60};
    random_bytes(t.sid, sizeof(t.sid));
    stream_token_write(&key, &t, dst);
    return t;
}

/* device-streams:17 */
static void tokens(void **state)
{
    (void)state;
    char text[STREAM_TOKEN_SIZE];
    struct stream_token t = make(text), got;
    assert_int_equal(strlen(text), 78);
    assert_int_equal(
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 78);
    assert_ok(read_bearer("Bearer", text, NOW, &got));
    assert_int_equal(got.role, t.role);
    assert_memory_equal(got.sid, t.sid, sizeof(t.sid));
    assert_true(got.expires_s == t.expires_s);
    assert_ok(read_bearer("bEARER", text, NOW, &got));
    assert_ok(read_bearer("Bearer", text, NOW + 59, &got));
    assert_int_equal(read_bearer("Bearer", text, NOW + 60, &got), E_UNAUTHORIZED);
    assert_int_equal(read_bearer("Basic", text, NOW, &got), E_UNAUTHORIZED);
    assert_int_equal(stream_token_read(&key, SPAN_NONE, NOW, &got, NULL), E_UNAUTHORIZED);
    struct secret was;
    assert_ok(secret_set(&was, secret_span(&key)));
    assert_ok(secret_random(&key, 32));
    assert_int_equal(read_bearer("Bearer", text, NOW, &got), E_UNAUTHORIZED); /* after a restart */
    assert_ok(secret_set(&key, secret_span(&was)));
}

/* device-streams:17 Every change of one character, every other length. */
static void tokens_changed(void **state)
{
    (void)state;
    char text[STREAM_TOKEN_SIZE];
    struct stream_token got = {.role = 0};
    (void)make(text);
    for (size_t i = 0; i < 78; i++) {
        char was = text[i];
        for (const char *c = "A_-z0+/=\x7f"; *c != '\0'; c++) {
            text[i] = *c;
            if (*c != was) {
                assert_int_equal(read_bearer("Bearer", text, NOW, &got), E_UNAUTHORIZED);
            }
        }
        text[i] = was;
    }
    for (size_t n = 0; n < 78; n++) {
        AUTO(mem_free_p) char *cut = span_dup(span_of(text, n));
        assert_int_equal(read_bearer("Bearer", cut, NOW, &got), E_UNAUTHORIZED);
    }
    assert_int_equal(got.role, 0); /* untouched on failure */
    assert_ok(read_bearer("Bearer", text, NOW, &got));
}

static void paths(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct {
        const char *path;
        enum err want;
    } rows[] = {
        { "/bridges/ih/h/d/dev/sid/00112233445566778899aabbccddeeff/r/device",      OK },
        { "/bridges/ih/h/d/d%2Fv/m/m1/sid/00112233445566778899aabbccddeeff/r/service", OK },
        { "/bridges/ih/h/d/dev/sid/00112233445566778899aabbccddeef/r/device",       E_NO_ROUTE },
        { "/bridges/ih/h/d/dev/sid/00112233445566778899aabbccddeeff0/r/device",     E_NO_ROUTE },
        { "/bridges/ih/h/d/dev/sid/0011223344556677889gaabbccddeeff/r/device",      E_NO_ROUTE },
        { "/bridges/ih/h/d/dev/sid/00112233445566778899aabbccddeeff/r/other",       E_NO_ROUTE },
        { "/bridges/ih/h/d/dev/sid/00112233445566778899aabbccddeeff/r",             E_NO_ROUTE },
        { "/bridges/ih/h/d/dev/sid/00112233445566778899aabbccddeeff/r/device/x",    E_NO_ROUTE },
        { "/bridges/ih/h/x/dev/sid/00112233445566778899aabbccddeeff/r/device",      E_NO_ROUTE },
        { "/bridges/ih/h/d/dev/x/m1/sid/00112233445566778899aabbccddeeff/r/device", E_NO_ROUTE },
        { "/bridges/ih/h/d/%00/sid/00112233445566778899aabbccddeeff/r/device",      E_NO_ROUTE },
        { "/bridges/ih//d/dev/sid/00112233445566778899aabbccddeeff/r/device",       E_NO_ROUTE },
        { "/bridges/",                                                             E_NO_ROUTE },
        { "",                                                                      E_NO_ROUTE },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(arena_done) struct arena a = ARENA_INIT(4096);
        AUTO(buf_done) struct buf b = BUF_INIT(4096);
        struct stream_path p = {.role = 0};
        assert_int_equal(stream_path_read(span_str(rows[i].path), &a, &p), rows[i].want);
        if (rows[i].want == OK) {
            stream_path_write(&b, &p);
            assert_span(buf_span(&b), span_str(rows[i].path));
        } else {
            assert_int_equal(p.role, 0);
        }
    }
}

static size_t count(struct span s, uint8_t c)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        n += s.p[i] == c;
    }
    return n;
}

/* device-streams:10 threat:D2 The splitters of the SDKs, on any bytes: five levels, three pairs, one '=' in each. */
static void topics(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        AUTO(buf_done) struct buf b = BUF_INIT(65536);
        AUTO(buf_done) struct buf url = BUF_INIT(4096);
        uint8_t bytes[3][64];
        random_bytes(bytes, sizeof(bytes));
        size_t n = 1 + (size_t)random_below(64);
        stream_topic_write(&b, span_of(bytes[0], n), (uint32_t)round + 1, span_of(bytes[1], n),
                           span_of(bytes[2], n),
                           round % 2 == 0 ? SPAN_NONE : SPAN_LIT("berth.streams.v1"));
        assert_ok(buf_err(&b));
        struct span rest = buf_span(&b);
        assert_int_equal(count(rest, '/'), 4);
        assert_int_equal(count(rest, '#') + count(rest, '+') + count(rest, '\0'), 0);
        assert_span(span_cut(&rest, '/'), SPAN_LIT("$iothub"));
        assert_span(span_cut(&rest, '/'), SPAN_LIT("streams"));
        assert_span(span_cut(&rest, '/'), SPAN_LIT("POST"));
        (void)span_cut(&rest, '/');
        assert_int_equal(rest.p[0], '?');
        rest = span_from(rest, 1);
        static const char *const names[] = {"$rid", "$url", "$auth", "$proto"};
        for (unsigned i = 0; i < (round % 2 == 0 ? 3u : 4u); i++) {
            struct span value = span_cut(&rest, '&');
            assert_int_equal(count(value, '='), 1);
            assert_span(span_cut(&value, '='), span_str(names[i]));
            if (i == 1) {
                assert_ok(percent_decode(value, &url));
                assert_span(buf_span(&url), span_of(bytes[1], n));
            }
        }
        assert_null(rest.p);
    }
}

static void seconds(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct {
        const char *text;
        bool ok;
        uint64_t ms;
    } rows[] = { /* device-streams:5 */
        { "0", true, 0 },        { "30", true, 30000 },  { "2.5", true, 2500 },  { "2.05", true, 2050 },
        { "2.0009", true, 2000 }, { " 7 ", true, 7000 }, { "300", true, 300000 }, { "300.0", true, 300000 },
        { "300.001", false, 0 }, { "301", false, 0 },    { "-1", false, 0 },     { "+1", false, 0 },
        { "", false, 0 },        { ".", false, 0 },      { ".5", false, 0 },     { "2.", false, 0 },
        { "2.x", false, 0 },     { "1.2.3", false, 0 },  { "abc", false, 0 },    { "1e2", false, 0 },
        { "99999999999999999999999", false, 0 },         { "0x10", false, 0 },
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t ms = 1;
        assert_int_equal(stream_seconds_read(span_str(rows[i].text), 300, &ms), rows[i].ok);
        assert_true(ms == (rows[i].ok ? rows[i].ms : 1));
    }
}

static void names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "TestStream", "a b", "gr\xc3\xbcn", "a=b&c%!$"};
    static const char *const bad[] = {"", "a/b", "a+b", "a#b", "a\nb", "a\x7f", "\xff"};
    char long_name[66];
    memset(long_name, 'x', 65);
    long_name[65] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(stream_name_ok(span_str(good[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(stream_name_ok(span_str(bad[i])));
    }
    assert_true(stream_name_ok(span_of(long_name, 64)));
    assert_false(stream_name_ok(span_of(long_name, 65)));
    assert_false(stream_name_ok(SPAN_LIT("a\0b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens), cmocka_unit_test(tokens_changed), cmocka_unit_test(paths),
        cmocka_unit_test(topics), cmocka_unit_test(seconds),        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
