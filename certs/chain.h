/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on a chain: does this leaf reach one of these anchors, by every check OpenSSL offers
 * (signature, validity, basicConstraints, keyUsage, pathlen, name constraints, EKU, strength,
 * strict), against that tenant's anchors only. Signatures decide, names never. No CRL, no OCSP.
 *
 * Verdict     an enum, never int: only CHAIN_OK is good. The failing link is named in info: its
 *             position from the leaf (0), its subject and the rule.
 * Threads     any; a chain_anchors set is immutable once built and may be shared.
 * Spec        RFC 5280 section 6; docs/protocol/dps-device.md 6 items 5 to 8; threat C2.
 */
#ifndef CERTS_CHAIN_H
#define CERTS_CHAIN_H

#include "certs/cert.h"

enum chain_verdict {
    CHAIN_OK = 1,
    CHAIN_MALFORMED,     /* leaf or presented certificate does not parse, or too many */
    CHAIN_NO_ANCHOR,     /* ends nowhere we trust */
    CHAIN_EXPIRED,       /* a link is past its notAfter */
    CHAIN_NOT_YET_VALID,
    CHAIN_BAD_SIGNATURE,
    CHAIN_NOT_CA,        /* a link above the leaf may not sign */
    CHAIN_PATHLEN,
    CHAIN_EKU,           /* leaf has an EKU without clientAuth */
    CHAIN_NAME,          /* name constraints */
    CHAIN_WEAK,          /* key or digest */
    CHAIN_OTHER,         /* any other rule of OpenSSL; info has its text */
};
const char *chain_verdict_name(enum chain_verdict v);

/* Trusted (verified by proof of possession) and helping (embedded in a group, untrusted)
 * certificates of one tenant. Partial chains: a trusted intermediate is an anchor. */
struct chain_anchors;
MUST_USE enum err chain_anchors_new(struct cert *const *trusted, size_t n_trusted,
                                    struct cert *const *helping, size_t n_helping,
                                    struct chain_anchors **ret);
void chain_anchors_free(struct chain_anchors *a);

/* The path that was found, leaf first, anchor last; thumbprints only. */
struct chain_path {
    size_t n;
    uint8_t sha256[LIMIT_CHAIN_CERTS + 2u][CERT_SHA256];
    int64_t not_after_us; /* the earliest end on the path */
};
/* now_us is the time to judge by. ret_path is filled on CHAIN_OK. */
MUST_USE enum chain_verdict chain_verify(const struct chain_anchors *a, const struct cert_peer *peer,
                                         int64_t now_us, struct chain_path *ret_path,
                                         struct err_info *info);
#endif
