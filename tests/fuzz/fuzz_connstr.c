/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"

#include "wire/connstr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct connstr c;
    struct err_info info;
    if (connstr_read(span_of(data, n), &c, &info) == OK) {
        ASSERT(c.host.n > 0);
        ASSERT((c.kind == CONNSTR_SERVICE) == (c.device_id.n == 0));
        ASSERT((c.key.n > 0) + (c.signature.n > 0) + c.x509 == 1);
        fuzz_touch(c.host);
        fuzz_touch(c.gateway_host);
        fuzz_touch(c.module_id);
        fuzz_touch(c.key_name);
        fuzz_touch(c.key);
        fuzz_touch(c.signature);
    }
    return 0;
}
