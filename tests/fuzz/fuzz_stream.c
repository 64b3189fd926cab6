/* SPDX-License-Identifier: Apache-2.0 */
/* What reaches the stream gateway before anybody is known: lines of path, Authorization, name of a stream, seconds. */
#include "tests/fuzz/fuzz.h"

#include "hub/stream_token.h"

#define NOW 1767225600

static void try_path(struct span raw)
{
    struct arena a = ARENA_INIT(64u << 10), a2 = ARENA_INIT(64u << 10);
    struct buf b = BUF_INIT(256u << 10);
    struct stream_path p, again;
    if (stream_path_read(raw, &a, &p) == OK) {
        fuzz_touch(p.hub);
        fuzz_touch(p.device_id);
        stream_path_write(&b, &p);
        ASSERT(buf_err(&b) == OK && stream_path_read(buf_span(&b), &a2, &again) == OK);
        ASSERT(span_eq(p.hub, again.hub) && span_eq(p.device_id, again.device_id) &&
               span_eq(p.module_id, again.module_id) && p.role == again.role);
        ASSERT(span_eq(span_of(p.sid, STREAM_SID), span_of(again.sid, STREAM_SID)));
    }
    buf_done(&b);
    arena_done(&a);
    arena_done(&a2);
}

static void try_token(struct span header)
{
    static const struct secret key = {.b = "corpus", .n = 32};
    struct stream_token t;
    char text[STREAM_TOKEN_SIZE];
    if (stream_token_read(&key, header, NOW, &t, NULL) == OK) {
        ASSERT(t.expires_s > NOW);
        stream_token_write(&key, &t, text);
        ASSERT(span_ends(span_trim(header), span_str(text)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span rest = span_of(data, n);
    struct buf b = BUF_INIT(64u << 10);
    uint64_t ms;
    try_path(span_cut(&rest, '\n'));
    try_token(span_cut(&rest, '\n'));
    struct span name = span_cut(&rest, '\n');
    if (stream_name_ok(name)) {
        stream_topic_write(&b, name, 7, SPAN_LIT("wss://h/x?a=b"), SPAN_LIT("t"), SPAN_NONE);
        ASSERT(
            span_ends(buf_span(&b), SPAN_LIT("/?$rid=7&$url=wss%3A%2F%2Fh%2Fx%3Fa%3Db&$auth=t")));
        size_t levels = 0;
        for (size_t i = 0; i < b.n; i++) {
            levels += b.p[i] == '/';
            ASSERT(b.p[i] > 0x20 && b.p[i] < 0x7f && b.p[i] != '#' && b.p[i] != '+');
        }
        ASSERT(levels == 4);
    }
    if (stream_seconds_read(rest, 300, &ms)) {
        ASSERT(ms <= 300000);
    }
    buf_done(&b);
    return 0;
}
