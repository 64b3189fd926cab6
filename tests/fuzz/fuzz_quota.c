/* SPDX-License-Identifier: Apache-2.0 */
/* The quota of a station: as a signed line of which nothing is believed, and its members as an office may have written them. */
#include "enroll-tool/quota.h"

#include <stdlib.h>

#include "tests/fuzz/fuzz.h"

static struct cert *office(void)
{
    static struct cert *c;
    struct signer_key *k = NULL;
    const struct cert_request rq = {
        .profile = PROFILE_ROOT_CA, .cn = SPAN_LIT("Office"), .not_after_us = 1000000};
    if (c == NULL && (signer_key_generate(KEY_P256, &k) != OK ||
                      signer_issue_now(k, NULL, NULL, k, &rq, &c, NULL) != OK)) {
        abort();
    }
    signer_key_free(k);
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span s = span_of(data, size);
    struct quota q = {0};
    ASSERT(quota_read(s, office(), &q, NULL) != OK && q.id == NULL);
    if (quota_parse(s, &q, NULL) == OK) {
        ASSERT(q.id[0] != '\0' && q.units > 0 && q.units <= QUOTA_UNITS_MAX);
        ASSERT(quota_may_burn(&q, q.station, q.units, q.not_before_us, NULL) != OK);
        ASSERT(quota_may_burn(&q, "", 0, q.not_before_us, NULL) == E_SCOPE);
    } else {
        ASSERT(q.id == NULL && q.station == NULL);
    }
    quota_done(&q);
    return 0;
}
