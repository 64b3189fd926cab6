/* SPDX-License-Identifier: Apache-2.0 */
/* The address of a stream's gateway, as a hub tells it to a device: what is accepted, written again, is what came. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "client/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    AUTO(mem_free_p) char *host = NULL, *path = NULL;
    uint16_t port = 0;
    struct err_info info = {0};
    struct span url = span_of(data, n);
    if (link_url(url, &host, &port, &path, &info) != OK) {
        ASSERT(info.why[0] != '\0' && host == NULL && path == NULL);
        return 0;
    }
    size_t hn = strlen(host), pn = strlen(path);
    ASSERT(hn != 0 && port != 0 && path[0] == '/' && n >= 6 + hn);
    /* nothing of the path is another's header line, nothing of the host a path */
    for (size_t i = 0; i < pn; i++) {
        ASSERT((uint8_t)path[i] > ' ' && (uint8_t)path[i] != 0x7f);
    }
    ASSERT(strpbrk(host, "/@ \r\n") == NULL);
    ASSERT(span_is(span_of(data + 6, hn), host));
    ASSERT(pn <= n && (n == 6 + hn || pn == 1 || span_is(span_of(data + n - pn, pn), path)));
    return 0;
}
