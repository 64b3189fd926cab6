/* SPDX-License-Identifier: Apache-2.0 */
/* What an enrollment says about certificates for its devices: from an administrator, or from the database. */
#include "tests/fuzz/fuzz.h"

#include "dps/issuance.h"

static const int64_t day_us = 86400LL * 1000 * 1000;

/* '*' for any text: the obvious definition, which is slow. */
static bool matches(struct span pattern, struct span id)
{
    if (pattern.n == 0) {
        return id.n == 0;
    }
    if (pattern.p[0] == '*') {
        for (size_t i = 0; i <= id.n; i++) {
            if (matches(span_from(pattern, 1), span_from(id, i))) {
                return true;
            }
        }
        return false;
    }
    return id.n > 0 && pattern.p[0] == id.p[0] && matches(span_from(pattern, 1), span_from(id, 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(64u << 10);
    struct issue_profile p;
    struct err_info info = {.err = OK};
    struct span text = span_of(data, n);
    enum err e = issuance_read_text(text, &a, &p, &info);
    if (e == OK) {
        ASSERT(p.ca.n != 0 && p.key_types != 0 && p.life_us >= 60LL * 1000 * 1000 &&
               p.life_us <= 36500 * day_us);
        fuzz_touch(p.ca);
        fuzz_touch(p.organization);
        (void)issuance_matches(p.id_pattern, SPAN_LIT("pump-1"));
    } else {
        ASSERT(e == E_NOMEM || info.why[0] != '\0');
    }
    size_t cut = span_find(text, '\n');
    if (cut < n && cut > 0 && cut <= 12 && n - cut <= 24) {
        struct span id = span_from(text, cut + 1);
        ASSERT(issuance_matches(span_sub(text, 0, cut), id) == matches(span_sub(text, 0, cut), id));
    }
    return 0;
}
