/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an enrollment says about certificates for its devices, and the certificate that comes of it.
 *
 *   "clientCertificateIssuancePolicy": {"certificateAuthorityName": "factory",
 *     "validityDays": 90 | "validityMinutes": 60, "keyTypes": ["P-256"], "extendedKeyUsage": ["clientAuth", "serverAuth"],
 *     "organization": "Example", "registrationIdPattern": "pump-*"}
 *
 * All but the name is a Berth extension. The profile decides subject (CN = registration id), dates, EKU and key type; what else the
 * request asks for is dropped (threat C8).
 *
 * Ownership   a profile's spans live in the arena given.
 * Threads     any; pure, but issuance_sign: a signer pool's.
 * Errors      E_ARG, E_ARG_NULL, E_JSON name the member of the policy. E_CERT, E_MALFORMED, E_TOO_LARGE: the request does not fit.
 * Spec        docs/protocol/dps-device.md 10.
 */
#ifndef DPS_ISSUANCE_H
#define DPS_ISSUANCE_H

#include "dps/issuer.h"
#include "wire/json.h"

#define ISSUANCE_MEMBER "clientCertificateIssuancePolicy"

struct issue_profile {
    struct span ca; /* name of the issuing CA */
    int64_t life_us;
    unsigned key_types; /* bit i: enum key_type i */
    bool also_server;
    struct span organization; /* may be empty */
    struct span id_pattern;   /* '*' stands for any text; empty: every id */
};
/* policy: the object. */
MUST_USE enum err issuance_read(const struct json *policy, struct arena *a,
                                struct issue_profile *ret, struct err_info *info);
/* The stored text of it. */
MUST_USE enum err issuance_read_text(struct span policy, struct arena *a, struct issue_profile *ret,
                                     struct err_info *info);
/* May a request with this CN and key have a certificate for this registration id? */
MUST_USE enum err issuance_check(const struct issue_profile *p, const struct csr *csr,
                                 struct span rid, struct err_info *info);
/* csr: csr_der, read. Never past the CA's own end. E_EXPIRED when that is reached. */
MUST_USE enum err issuance_sign(const struct issue_profile *p, struct issuer *ca,
                                const struct csr *csr, struct span csr_der, struct span rid,
                                int64_t now_us, struct cert **ret, struct err_info *info);
/* Only '*' is special. */
bool issuance_matches(struct span pattern, struct span id);

#endif
