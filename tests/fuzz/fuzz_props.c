/* SPDX-License-Identifier: Apache-2.0 */
/* A bag: read, written, read again. Also as "header name: value". */
#include "tests/fuzz/fuzz.h"

#include "base/limits.h"
#include "wire/props.h"

static void bag(struct span in)
{
    struct arena a = ARENA_INIT(1 << 22);
    struct buf once = BUF_INIT(1 << 22);
    struct buf twice = BUF_INIT(1 << 22);
    struct buf c2d = BUF_INIT(1 << 22);
    struct prop *p;
    size_t n;
    size_t dropped;
    if (props_bag_read(in, &a, &p, &n, &dropped, NULL) == OK) {
        ASSERT(n <= LIMIT_PROPS && props_size(p, n, 0) <= in.n);
        for (size_t i = 0; i < n; i++) {
            ASSERT(span_is_utf8(p[i].key) && span_is_utf8(p[i].value));
            ASSERT(p[i].has_value || p[i].value.n == 0);
        }
        props_bag_write(&once, p, n);
        props_c2d_write(&c2d, SPAN_LIT("dev-1"), p, n);
        ASSERT(span_starts(buf_span(&c2d), SPAN_LIT("%24.")));
        struct prop *q;
        size_t m;
        ASSERT(props_bag_read(buf_span(&once), &a, &q, &m, &dropped, NULL) == OK);
        ASSERT(m == n && dropped == 0 && props_size(q, m, 0) == props_size(p, n, 0));
        props_bag_write(&twice, q, m);
        ASSERT(span_eq(buf_span(&once), buf_span(&twice)));
    }
    buf_done(&once);
    buf_done(&twice);
    buf_done(&c2d);
    arena_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    struct span value = in;
    struct span name = span_cut(&value, ':');
    struct prop p;
    bag(in);
    if (props_header_read(name, value, SPAN_LIT("dev-1"), &p)) {
        fuzz_touch(p.key);
        fuzz_touch(p.value);
    }
    return 0;
}
