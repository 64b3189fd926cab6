/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands around a proxy: lines "address", "list of exempt hosts", "target", then the proxy's answer. The answer's head is the same
 * at once and a byte at a time; an address or a target that is taken holds nothing that could become a line of its own.
 */
#include "tests/fuzz/fuzz.h"

#include "base/limits.h"
#include "wire/http.h"
#include "wire/proxy.h"

static bool is_plain(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f) {
            return false;
        }
    }
    return s.n > 0;
}

static void address(struct span url)
{
    struct proxy_url u;
    struct err_info info = {0};
    if (proxy_url_read(url, &u, &info) == OK) {
        ASSERT(is_plain(u.host) && u.host.n <= LIMIT_HOST && u.port != 0);
        ASSERT(u.has_user || (u.user.n == 0 && u.password.n == 0));
        fuzz_touch(u.user);
        fuzz_touch(u.password);
    }
}

static void request(struct span host)
{
    struct buf b = BUF_INIT(4096);
    if (proxy_connect_write(&b, host, 443, SPAN_LIT("a:b"), NULL) == OK) {
        unsigned lines = 0;
        for (size_t i = 0; i < b.n; i++) {
            lines += b.p[i] == '\n';
        }
        ASSERT(lines == 5 && is_plain(host));
    }
    buf_done(&b);
}

static size_t find(struct span in, size_t step, enum err *ret)
{
    size_t scanned = 0, n = 0;
    *ret = E_AGAIN;
    for (size_t have = MIN(step, in.n); *ret == E_AGAIN; have = MIN(have + step, in.n)) {
        *ret = http_head_find(span_sub(in, 0, have), &scanned, &n);
        if (have == in.n) {
            break;
        }
    }
    return *ret == OK ? n : 0;
}

static void answer(struct span in)
{
    enum err e, e1;
    size_t n = find(in, in.n, &e);
    ASSERT(n == find(in, 1, &e1) && e == e1);
    unsigned status = 0;
    struct span lines, name, value;
    if (n > 0 && http_answer_read(span_sub(in, 0, n), &status, &lines, NULL) == OK) {
        unsigned count = 0;
        ASSERT(status >= 100 && status <= 999);
        while (http_head_next(&lines, &name, &value)) {
            fuzz_touch(value);
            ASSERT(is_plain(name) && ++count <= LIMIT_HTTP_HEADERS);
        }
        ASSERT(lines.n == 0); /* no line was passed over */
    } else {
        ASSERT(status == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    address(span_cut(&in, '\n'));
    struct span list = span_cut(&in, '\n');
    struct span host = span_cut(&in, '\n');
    (void)proxy_exempts(list, host);
    ASSERT(proxy_exempts(SPAN_LIT("*"), host) && !proxy_exempts(SPAN_NONE, host));
    request(host);
    answer(in);
    return 0;
}
