/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"

#include "wire/sas.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct span hosts[] = {SPAN_LIT("hub1.example.net")};
    const struct span path[] = {SPAN_LIT("devices"), SPAN_LIT("dev-1"), SPAN_LIT("messages")};
    struct sas_token t;
    struct err_info info;
    if (sas_parse(span_of(data, n), &t, &info) != OK) {
        return 0;
    }
    struct buf signed_text = BUF_INIT(SAS_TO_SIGN_MAX);
    struct buf written = BUF_INIT(1 << 16);
    sas_to_sign(&t, &signed_text);
    ASSERT(buf_err(&signed_text) == OK && t.sr.n > 0);
    ASSERT(sas_skn(&t).n <= LIMIT_ADMIN_NAME && t.skn[t.skn_n] == '\0');
    ASSERT(!sas_is_expired(&t, t.expires_s, 300));
    (void)sas_is_event_hub(&t);
    bool plain = sas_scope_covers(&t, hosts, 1, path, 2, SAS_SCOPE_PLAIN);
    ASSERT(!plain || sas_scope_covers(&t, hosts, 1, path, 2, SAS_API_VERSION_TAIL));
    ASSERT(!plain || sas_scope_covers(&t, hosts, 1, path, 3, SAS_SCOPE_PLAIN));
    (void)sas_scope_covers(&t, NULL, 0, path, 3, SAS_SCOPE_PLAIN);
    /* a token of ours with the same parts reads the same */
    struct sas_token again;
    if (t.expires_s != INT64_MAX && t.sr.n < 2048) {
        sas_write(&written, t.sr, t.sig, (uint64_t)t.expires_s, sas_skn(&t));
        ASSERT(buf_err(&written) == OK && sas_parse(buf_span(&written), &again, NULL) == OK);
        ASSERT(span_eq(again.sr, t.sr) && again.expires_s == t.expires_s);
        ASSERT(span_eq(sas_skn(&again), sas_skn(&t)));
        ASSERT(span_eq(span_of(again.sig, SAS_SIG_SIZE), span_of(t.sig, SAS_SIG_SIZE)));
    }
    buf_done(&signed_text);
    buf_done(&written);
    return 0;
}
