/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on a chain: does this leaf reach one of these anchors, by every check OpenSSL offers
 * (signature, validity, basicConstraints, keyUsage, pathlen, name constraints, EKU, strength,
 * strict), against that tenant's anchors only. Signatures decide, names never. No CRL, no OCSP.
 *
 * Strict      as RFC 5280, but for what the specification asks to admit: keyUsage of a CA counts
 *             when present; key identifiers may be absent; basicConstraints need not be critical.
 * Anchor      the first trusted certificate from the leaf up. What stands above it (its own expired
 *             root, say) can neither spoil nor help, and is only reported; the leaf itself is never
 *             an anchor.
 * Verdict     an enum, never int: only CHAIN_OK is good. The failing link is named in info: its
 *             position from the leaf (0), its subject and the rule.
 * Ownership   chain_anchors keeps references; chain_anchors_free() ends it.
 * Threads     any; a chain_anchors set is immutable once built and may be shared.
 * Limits      LIMIT_CHAIN_CERTS presented and as many links between leaf and anchor; LIMIT_CERT_DER;
 *             keys and digests (cert_check_strength) before any signature is verified (N7).
 * Spec        RFC 5280 section 6; docs/protocol/dps-device.md 6 items 5 to 8; threat C2. TCG EK Credential Profile 3.
 */
#ifndef CERTS_CHAIN_H
#define CERTS_CHAIN_H

#include "certs/cert.h"

enum chain_verdict {
    CHAIN_OK = 1,
    CHAIN_MALFORMED, /* leaf or presented certificate does not parse, or too many */
    CHAIN_NO_ANCHOR, /* ends nowhere we trust */
    CHAIN_EXPIRED,   /* a link is past its notAfter */
    CHAIN_NOT_YET_VALID,
    CHAIN_BAD_SIGNATURE,
    CHAIN_NOT_CA, /* a link above the leaf may not sign */
    CHAIN_PATHLEN,
    CHAIN_EKU, /* leaf, or a CA above it, has an EKU without clientAuth; of an EK: without that of EKs */
    CHAIN_NAME,  /* name constraints */
    CHAIN_WEAK,  /* key or digest */
    CHAIN_OTHER, /* any other rule of OpenSSL; info has its text */
};
const char *chain_verdict_name(enum chain_verdict v);

/* Trusted (verified by proof of possession) and helping (embedded in a group, untrusted)
 * certificates of one tenant, at most LIMIT_CA_CERTS of each (E_LIMIT). Partial chains: a trusted
 * intermediate is an anchor. */
struct chain_anchors;
MUST_USE enum err chain_anchors_new(struct cert *const *trusted, size_t n_trusted,
                                    struct cert *const *helping, size_t n_helping,
                                    struct chain_anchors **ret);
/* The CAs that vouch for endorsement keys of TPMs, for their certificates alone: the leaf must say so (EKU tcg-kp-EKCertificate) and be no
 * CA; a CA with an EKU must admit it. Not TLS clients'. */
MUST_USE enum err chain_anchors_new_ek(struct cert *const *trusted, size_t n_trusted,
                                       struct chain_anchors **ret);
void chain_anchors_free(struct chain_anchors *a);
AUTO_FREE_FN(struct chain_anchors, chain_anchors_free)

/* The path that was found, leaf first, then up to the anchor; and above it what further issued it, of
 * all certificates at hand, as long as those are CAs inside their dates. Thumbprints only. */
struct chain_path {
    size_t n;
    size_t anchor; /* where the first trusted certificate stands: sha256[anchor] */
    uint8_t sha256[LIMIT_CHAIN_CERTS + 2u][CERT_SHA256];
    int64_t not_before_us; /* the latest beginning on the path */
    int64_t not_after_us;  /* the earliest end on the path */
};
/* Is this certificate on the path, above the leaf? */
bool chain_path_has_issuer(const struct chain_path *p, const uint8_t sha256[CERT_SHA256]);
/* now_us is the time to judge by. ret_path is filled on CHAIN_OK. */
MUST_USE enum chain_verdict chain_verify(const struct chain_anchors *a,
                                         const struct cert_peer *peer, int64_t now_us,
                                         struct chain_path *ret_path, struct err_info *info);
#endif
