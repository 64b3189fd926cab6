/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two keys of a TPM in software, for tests: makes their public areas and opens blobs as the chip does, written from the formulas
 * and apart from tpm/blob.c. Aborts on what cannot fail in a test.
 */
#ifndef TPM_FIXTURE_H
#define TPM_FIXTURE_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/buf.h"
#include "base/secret.h"
#include "tpm/public.h"

enum fix_kind { FIX_RSA2048, FIX_RSA3072, FIX_P256, FIX_P384, FIX_KINDS };
struct fix_key {
    enum fix_kind kind;
    EVP_PKEY *key;
    uint8_t pub[TPM_PUBLIC_MAX]; /* TPM2B_PUBLIC */
    size_t n;
};
void fix_key_new(struct fix_key *k, enum fix_kind kind, enum tpm_use use);
void fix_key_done(struct fix_key *k);
struct span fix_key_public(const struct fix_key *k);
/* SubjectPublicKeyInfo, DER. */
void fix_key_spki(const struct fix_key *k, struct buf *b);
extern const char *fix_why; /* of the last refusal */
/* What the TPM would sign with; false: it would refuse. */
bool fix_open(const struct fix_key *ek, const struct fix_key *srk, struct span blob,
              struct secret *ret);

/* A CA of a TPM maker, and certificates of endorsement keys by it. */
struct fix_ca {
    X509 *cert;
    EVP_PKEY *key;
};
/* issuer NULL: self-signed. */
void fix_ca_new(struct fix_ca *ca, const char *cn, const struct fix_ca *issuer);
void fix_ca_done(struct fix_ca *ca);
void fix_ca_der(const struct fix_ca *ca, struct buf *b);
/* As makers write them: no subject, a critical subjectAltName of a directoryName; eku: text for OpenSSL, NULL: none. DER appended. */
void fix_ek_cert(const struct fix_ca *ca, const struct fix_key *ek, const char *eku, struct buf *b);

#endif
