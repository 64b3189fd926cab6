/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private keys that never come into this process: in a PKCS#11 token, or in a TPM 2.0. What is got is a struct signer_key like any other,
 * for the calls that may block (signer_*_now, on the threads of certs/signer_pool.h).
 *
 * PKCS#11     a URI of RFC 7512 names the object; the module that speaks to the token and the file with its PIN come from the
 *             configuration alone: an administrator's request must not name a library to be loaded or a file to be read.
 * TPM         "handle:0x81000001" for a persistent key, or the PEM text of a key file ("TSS2 PRIVATE KEY"); keys without an
 *             authorisation value. The TPM is that of the environment variable TPM2OPENSSL_TCTI, else the system's own.
 *
 * Ownership   keys before the struct hard_keys they came from.
 * Threads     any; blocks. Opening is serialised here, signing by the key itself.
 * Errors      E_ARG the reference is not well-formed; E_CONFIG no module is set, or OpenSSL's part for it is not installed; E_PERM the
 *             token refused the PIN: it is not offered a second time, for tokens lock; E_AGAIN token or TPM does not answer, or has
 *             no such key now: the caller lets go of the key and opens it again.
 * Limits      HARD_REF_MAX.
 * Spec        RFC 7512; docs/protocol/dps-device.md 10.
 */
#ifndef CERTS_SIGNER_HARD_H
#define CERTS_SIGNER_HARD_H

#include "certs/signer.h"

#define HARD_REF_MAX 4096u

struct hard_keys;
/* Opens nothing yet. module, pin_file: paths or NULL; copied. */
MUST_USE enum err hard_keys_new(const char *module, const char *pin_file, struct hard_keys **ret);
void hard_keys_free(struct hard_keys *h);

/* Well-formed? Without asking any device. */
MUST_USE enum err hard_pkcs11_check(struct span uri, struct err_info *info);
MUST_USE enum err hard_tpm_check(struct span ref, struct err_info *info);
MUST_USE enum err hard_pkcs11_open(struct hard_keys *h, struct span uri, struct signer_key **ret,
                                   struct err_info *info);
MUST_USE enum err hard_tpm_open(struct span ref, struct signer_key **ret, struct err_info *info);

#endif
