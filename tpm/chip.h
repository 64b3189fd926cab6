/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TPM of this machine, as a device with an identity in it uses it: its two keys, and an HMAC key that came in a key blob.
 *
 * Keys are read from the persistent handles below; only where there is none they are made from the TCG's default templates (RSA 2048,
 * AES-128) and kept there. The template of the EK is the one of the maker's certificate, so that both speak of one key.
 *
 * Ownership   chip_new opens the TPM, chip_free gives it back at once to others (there may be no resource manager in between): open it for
 *             one piece of work.
 * Threads     one owner; every call blocks, some for half a second: never on a loop's thread.
 * Secrets     no key is ever outside of the TPM; blobs are not secret.
 * Errors      E_IO the TPM cannot be reached or refused: info names the command and the TPM's reason. E_NOT_FOUND there is no such key.
 *             E_MALFORMED the blob.
 * Spec        docs/protocol/dps-tpm.md 2, 4.5; TCG EK Credential Profile B.3.3 (template L-1), TPM 2.0 Library part 3.
 */
#ifndef TPM_CHIP_H
#define TPM_CHIP_H

#include "base/buf.h"
#include "base/err.h"
#include "tpm/public.h"

#define CHIP_EK 0x81010001u
#define CHIP_SRK 0x81000001u
#define CHIP_IDENTITY 0x81000100u
#define CHIP_MAC 32u
#define CHIP_TEXT_MAX 1024u /* what one TPM2_HMAC takes */
#define CHIP_CERT_MAX 8192u

struct chip;
/* tcti: as "device:/dev/tpmrm0" or "swtpm:host=127.0.0.1,port=2321"; NULL or empty: the system's. */
MUST_USE enum err chip_new(const char *tcti, struct chip **ret, struct err_info *info);
void chip_free(struct chip *c);
AUTO_FREE_FN(struct chip, chip_free)

/* TPM2B_PUBLIC of both, appended; makes what is missing. */
MUST_USE enum err chip_keys(struct chip *c, struct buf *ek, struct buf *srk, struct err_info *info);
/* The maker's certificate of the EK (DER), from where makers leave it; appended. E_NOT_FOUND: none there. */
MUST_USE enum err chip_ek_cert(struct chip *c, struct buf *der, struct err_info *info);

/* HMAC-SHA256 by the key of a blob, which is gone from the TPM afterwards. */
MUST_USE enum err chip_sign_by(struct chip *c, struct span blob, struct span text,
                               uint8_t ret[CHIP_MAC], struct err_info *info);
/* Puts the key of a blob at CHIP_IDENTITY, in the place of the one there. */
MUST_USE enum err chip_keep(struct chip *c, struct span blob, struct err_info *info);
/* HMAC-SHA256 by the key at CHIP_IDENTITY. E_NOT_FOUND: there is none. */
MUST_USE enum err chip_sign(struct chip *c, struct span text, uint8_t ret[CHIP_MAC],
                            struct err_info *info);

/* One line for who enrolls the device: {"registrationId":...,"endorsementKey":...,"storageRootKey":...}, and endorsementCertificate when
 * there is one; appended. Makes keys that are missing. */
MUST_USE enum err chip_tell(const char *tcti, struct buf *b, struct err_info *info);

#endif
