/* SPDX-License-Identifier: Apache-2.0 */
/* A row of the telemetry log, damaged or not: read and shown; what a compact one shows is JSON when its texts are. */
#include "tests/fuzz/fuzz.h"

#include "base/limits.h"
#include "wire/json.h"
#include "wire/logmeta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of(data, n);
    struct logmeta_row r;
    if (logmeta_read(in, &r) != OK) {
        return 0;
    }
    struct buf b = BUF_INIT(1 << 24);
    fuzz_touch(r.device_id);
    buf_add(&b, SPAN_LIT("{\"sys\":{"));
    logmeta_add_system(&b, &r);
    buf_add(&b, SPAN_LIT("},\"app\":{"));
    logmeta_add_properties(&b, &r);
    buf_add(&b, SPAN_LIT("}}"));
    ASSERT(buf_err(&b) == OK && b.n >= 19);
    if (r.is_json) {
        ASSERT(b.n <= n); /* nothing is made up */
    } else {
        struct logmeta_row again;
        ASSERT(logmeta_read(buf_span(&b), &again) == OK && again.is_json);
    }
    buf_done(&b);
    return 0;
}
