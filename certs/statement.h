/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A short text with a signature under it: who signs has a key, who checks has a certificate for that key. ECDSA or RSA with the digest
 * that certificates of that key have. The text must not begin as DER does (0x30), so that no statement is a certificate and none the
 * other way round.
 * Errors      E_SIGNATURE it does not verify; E_ARG the text begins as DER; E_CRYPTO.
 * Threads     any.   Spec  threat S1
 */
#ifndef CERTS_STATEMENT_H
#define CERTS_STATEMENT_H

#include "certs/signer.h"

/* The signature, DER, is appended. The key is one of this process (signer_key_load). */
MUST_USE enum err statement_sign(const struct signer_key *k, struct span text, struct buf *ret,
                                 struct err_info *info);
MUST_USE enum err statement_check(const struct cert *by, struct span text, struct span signature,
                                  struct err_info *info);

#endif
