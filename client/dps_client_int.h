/* SPDX-License-Identifier: Apache-2.0 */
/* Between client/dps_client.c and client/dps_https.c: one registration under way, whichever transport carries it. */
#ifndef CLIENT_DPS_CLIENT_INT_H
#define CLIENT_DPS_CLIENT_INT_H

#include "client/dps_client.h"

#define DPS_API_VERSION "2021-06-01"
#define DPS_API_VERSION_CSR "2025-07-01-preview"
#define DPS_TOKEN_LIFE_S 3600
#define DPS_TRY_MS 15000u

/* O_CHALLENGE: a TPM is to answer with the key in `blob`. */
enum outcome { O_FINAL, O_POLL, O_RETRY, O_CHALLENGE };
struct progress {
    char operation_id[128];
    enum outcome outcome;
    unsigned wait_s;
    enum err err; /* when final */
    struct dps_result *ret;
    struct err_info *info;
    struct span csr;   /* DER; empty: none */
    struct buf *chain; /* where what is issued goes, PEM; NULL: none is wanted */
    struct buf token;  /* TPM: of the challenge's key; empty: not yet */
    struct buf blob;   /* TPM: of the last answer */
};
/* One answer: decides what to do next. */
void dps_on_answer(struct progress *p, unsigned status, uint64_t retry_after_s, struct span body);
void dps_register_body(const struct identity *id, struct span payload, struct span csr,
                       struct buf *b);
static inline const char *dps_api_version(const struct progress *p)
{
    return p->csr.n != 0 ? DPS_API_VERSION_CSR : DPS_API_VERSION;
}
/* ATTEST_SYMMETRIC_KEY */
MUST_USE enum err dps_token(const struct identity *id, struct buf *ret);
/* OK: p->outcome is final. Else the transport did not get through. */
MUST_USE enum err dps_run_https(const struct identity *id, struct span payload,
                                uint64_t deadline_ms, const atomic_int *stop, struct progress *p);

#endif
