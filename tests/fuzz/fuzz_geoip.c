/* SPDX-License-Identifier: Apache-2.0 */
/* A database of places, as an administrator may have downloaded it: whole, cut or damaged. */
#include "tests/fuzz/fuzz.h"

#include "dps/geoip.h"

/* libmaxminddb 1.7 forgets the list that it was reading when the metadata turns out damaged: some kilobytes for each such file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libmaxminddb";
}

static bool is_code(const char *s)
{
    return s[0] == '\0' ||
           (s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z' && s[2] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct span addresses[] = {
        SPAN_LIT("10.1.2.3"),    SPAN_LIT("192.0.2.7"),       SPAN_LIT("255.255.255.255"),
        SPAN_LIT("2001:db8::1"), SPAN_LIT("::ffff:10.1.2.3"), SPAN_LIT("::"),
    };
    struct geoip *g = NULL;
    if (geoip_read(span_of(data, n), "fuzz", &g, NULL) != OK) {
        ASSERT(g == NULL);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct geoip_place at;
        geoip_find(g, addresses[i], &at);
        ASSERT(is_code(at.country) && is_code(at.continent));
    }
    geoip_unref(g);
    return 0;
}
