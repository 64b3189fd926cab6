/* SPDX-License-Identifier: Apache-2.0 */
/* What comes through the wall of the signer: what is read, written again, is what came; and answers, as berth-dps reads them. */
#include "tests/fuzz/fuzz.h"

#include "certs/desk_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    AUTO(buf_done) struct buf again = BUF_INIT(4 * DESK_MESSAGE_MAX);
    struct span in = span_of(data, n);
    struct desk_ask a;
    struct desk_answer answer;
    if (desk_ask_read(in, &a) == OK) {
        ASSERT(desk_ask_add(&a, &again) == OK && span_eq(buf_span(&again), in));
        ASSERT(a.key.name.n != 0 && a.not_after_us > a.not_before_us);
        fuzz_touch(a.ca);
        fuzz_touch(a.csr);
    }
    buf_reset(&again);
    if (desk_answer_read(in, &answer) == OK) {
        ASSERT(desk_answer_add(&answer, &again) == OK);
        /* a code of a later version is read as E_REMOTE, and written as that */
        ASSERT(span_eq(span_from(buf_span(&again), 2), span_from(in, 2)));
    }
    return 0;
}
