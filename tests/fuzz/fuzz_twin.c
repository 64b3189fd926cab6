/* SPDX-License-Identifier: Apache-2.0 */
/* "section LF patch": a good patch on a good section makes a good section. */
#include "tests/fuzz/fuzz.h"

#include "base/limits.h"
#include "wire/twin.h"

static struct json *tree(struct span text)
{
    struct json *j = NULL;
    return json_read(text, LIMIT_TWIN_BODY, &j, NULL) == OK ? j : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span second = span_of(data, n);
    struct span first = span_cut(&second, '\n');
    struct json *section = tree(first);
    struct json *patch = tree(second);
    struct err_info info;
    if (section != NULL) {
        (void)!twin_check(section, TWIN_PATCH, &info);
        (void)!twin_check_size(section, LIMIT_TWIN_SECTION, &info);
    }
    if (section != NULL && patch != NULL && twin_check(section, TWIN_WHOLE, &info) == OK &&
        twin_check(patch, TWIN_PATCH, &info) == OK) {
        size_t before = twin_size(section);
        size_t more = twin_size(patch);
        ASSERT(twin_merge(section, patch) == OK);
        ASSERT(twin_check(section, TWIN_WHOLE, &info) == OK);
        ASSERT(twin_size(section) <= before + more);
        twin_strip(section);
        ASSERT(json_get(section, "$version") == NULL);
    }
    json_free(section);
    json_free(patch);
    return 0;
}
