/* SPDX-License-Identifier: Apache-2.0 */
/* A pipelined stream of requests, at once and a byte at a time: the boundaries are the same. */
#include "tests/fuzz/fuzz.h"

#include "base/limits.h"
#include "wire/http.h"

static void look(const struct http_head *h)
{
    struct arena a = ARENA_INIT(1 << 20);
    struct span rest = h->lines;
    struct span name;
    struct span value;
    size_t count = 0;
    struct http_path p;
    struct span params[4];
    struct span v;
    bool found;
    struct http_match m;
    while (http_head_next(&rest, &name, &value)) {
        fuzz_touch(name);
        fuzz_touch(value);
        count++;
    }
    ASSERT(count == h->n_headers && count <= LIMIT_HTTP_HEADERS && count > 0);
    ASSERT(http_host_name(h->host).n > 0 && !(h->has_length && h->is_chunked));
    if (http_path_read(h->path, &a, &p) == OK) {
        (void)http_path_match("/devices/{id}/messages/{x}", &p, params, 4);
        (void)http_path_match("/{a}/{b}", &p, params, 1);
    }
    (void)!http_query_get(h->query, "api-version", &a, &v, &found);
    if (http_if_match_read(http_head_get(h, "If-Match"), &m, NULL) == OK) {
        (void)http_match_fits(&m, SPAN_LIT("MQ=="));
    }
    arena_done(&a);
}

/* Length of the first head, 0 when there is none (yet). */
static size_t find(struct span in, size_t step, enum err *ret)
{
    size_t scanned = 0;
    size_t n = 0;
    *ret = E_AGAIN;
    for (size_t have = MIN(step, in.n); *ret == E_AGAIN; have = MIN(have + step, in.n)) {
        *ret = http_head_find(span_sub(in, 0, have), &scanned, &n);
        if (have == in.n) {
            break;
        }
    }
    return *ret == OK ? n : 0;
}

static size_t body(const struct http_head *h, struct span in, size_t step, enum err *ret,
                   bool *done)
{
    struct http_body b;
    size_t total = 0;
    http_body_init(&b, h);
    *done = http_body_is_done(&b);
    *ret = OK;
    while (*ret == OK && !*done && total < in.n) {
        size_t used = 0;
        struct span show = span_sub(in, total, step);
        *ret = http_body_feed(&b, show, &used, done, NULL);
        ASSERT(*ret != OK || *done || used == show.n);
        total += used;
    }
    ASSERT(*ret != OK || b.payload <= total);
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    while (in.n > 0) {
        enum err e;
        enum err e1;
        size_t head = find(in, in.n, &e);
        size_t head1 = find(in, 1, &e1);
        struct http_head h;
        struct err_info info;
        ASSERT(head == head1 && e == e1);
        if (head == 0 || http_head_read(span_sub(in, 0, head), &h, &info) != OK) {
            break;
        }
        look(&h);
        in = span_from(in, head);
        bool done;
        bool done1;
        size_t used = body(&h, in, SIZE_MAX, &e, &done);
        size_t used1 = body(&h, in, 1, &e1, &done1);
        ASSERT(e == e1 && (e != OK || (used == used1 && done == done1)));
        if (e != OK || !done) {
            break;
        }
        in = span_from(in, used);
    }
    return 0;
}
