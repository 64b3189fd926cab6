/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CAs that issue certificates for devices: as they are loaded, and what is signed with their keys.
 *
 * Their keys are at the signing desk (certs/desk.h): sealed by it in the row here, or in a PKCS#11 token or a TPM that it reaches.
 *
 * Ownership   struct issuer is counted: issuer_get gives one reference. struct issuers owns the desk; free it after all issuers.
 * Threads     issuer_get any; issuer_sign those of a signer pool: it blocks.
 * Errors      E_NOT_FOUND no such CA; E_STATE it waits for its certificate; E_AGAIN the key cannot be reached now; E_CONFIG, E_PERM it
 *             cannot be reached before somebody acts; E_CERT the request or the CA's dates.
 * Limits      LIMIT_ISSUING_CAS.
 * Spec        docs/protocol/dps-device.md 10; docs/operations.md "Issuing certificates"; threats C8, S6.
 */
#ifndef DPS_ISSUER_H
#define DPS_ISSUER_H

#include "certs/desk.h"
#include "certs/signer_pool.h"
#include "dps/dps.h"
#include "dps/issuance_sql.h"

/* Certificates begin that much before they are made: a device whose clock is a little late must not find its own not yet valid. */
#define ISSUE_BACKDATE_US (600LL * 1000000)

struct issuers;
MUST_USE enum err issuers_new(struct dps *d, struct issuers **ret);
/* NULL is fine. */
void issuers_free(struct issuers *is);

struct issuer;
/* name without case. */
MUST_USE enum err issuer_get(struct dps *d, struct db *db, struct span name, struct issuer **ret,
                             struct err_info *info);
struct issuer *issuer_ref(struct issuer *is);
void issuer_unref(struct issuer *is);
AUTO_FREE_FN(struct issuer, issuer_unref)
struct span issuer_name(const struct issuer *is);
/* What a certificate's owner sends besides it: DER, one behind the other, without a self-signed root unless that is all there is. */
struct span issuer_chain(const struct issuer *is);
const struct cert *issuer_cert(const struct issuer *is);
/* csr: csr_der, read. */
MUST_USE enum err issuer_sign(struct issuer *is, const struct csr *csr, struct span csr_der,
                              const struct cert_request *rq, struct cert **ret,
                              struct err_info *info);
struct desk *issuers_desk(struct dps *d);

/* The pool of this worker; made by its first use. */
MUST_USE enum err issuer_pool(struct dps_worker *dw, struct signer_pool **ret,
                              struct err_info *info);

#endif
