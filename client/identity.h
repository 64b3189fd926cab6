/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity of one unit as the factory burned it, and what the unit learned since.
 *
 *   IDENTITY/factory/identity.json   what the unit is and where it registers          never written again
 *   IDENTITY/factory/key             symmetric: device key, base64, 0600
 *   IDENTITY/factory/device.key      X.509: private key, PEM, 0600
 *   IDENTITY/factory/device.pem      X.509: leaf and intermediate, PEM
 *                                    TPM: no file; the keys are in the TPM (struct identity_tpm)
 *   IDENTITY/factory/ca.pem          the CA that the servers' certificates come from
 *   STATE/assignment.json            hub and device id of the last registration; replaced by rename
 *
 * What the unit was issued since lives in IDENTITY/a and IDENTITY/b behind IDENTITY/current: client/credential.h.
 *
 * identity.json  {"version":1,"serial":"...","registrationId":"...","idScope":"...","dpsHost":"...","attestation":"symmetricKey"|"x509"|"tpm",
 *                 "mqttsPort":8883,"httpsPort":443}; with a TPM registrationId may be left out: it is the one that the EK gives
 * Burning     identity_burn builds the whole folder beside the target, syncs every file and folder, then renames: a unit that was
 *             interrupted is either untouched or complete. A burn that was killed leaves DIR.partial-*, with a key that nobody
 *             knows; the next burn that comes to its end removes it.
 * Ownership   identity_done / assignment_done free what load filled.
 * Errors      E_NOT_FOUND no identity there; E_CORRUPT it is not complete or not well-formed, with the file in info; E_PERM files
 *             open to others; E_EXISTS burning over something.
 * Threads     any; blocks on the disk.
 */
#ifndef CLIENT_IDENTITY_H
#define CLIENT_IDENTITY_H

#include "base/err.h"
#include "base/secret.h"
#include "base/span.h"
#include "certs/signer.h"

enum attestation_kind { ATTEST_SYMMETRIC_KEY, ATTEST_X509, ATTEST_TPM };
/* The TPM that holds the identity's keys, as functions; they may block for a second, never call them on a loop. For the program that
 * opens the TPM (tpm/chip.h), and for tests. */
#define IDENTITY_MAC 32u
struct identity_tpm {
    void *arg;
    struct span ek, srk; /* TPM2B_PUBLIC */
    struct span ek_cert; /* DER; empty: there is none */
    /* With the key that keep() took last; E_NOT_FOUND: none. */
    enum err (*sign)(void *arg, struct span text, uint8_t ret[IDENTITY_MAC], struct err_info *info);
    /* With the key in that blob, once. */
    enum err (*sign_by)(void *arg, struct span blob, struct span text, uint8_t ret[IDENTITY_MAC],
                        struct err_info *info);
    enum err (*keep)(void *arg, struct span blob, struct err_info *info);
};
struct proxy; /* net/proxy.h */
struct identity {
    char *serial, *registration_id, *id_scope, *dps_host;
    enum attestation_kind kind;
    uint16_t mqtts_port, https_port;
    struct secret key;                /* ATTEST_SYMMETRIC_KEY: decoded */
    char *ca_file;                    /* paths */
    char *cert_chain_file, *key_file; /* ATTEST_X509 */
    /* ATTEST_TPM: set by the program before it registers, with registration_id when that was left out (NULL). Borrowed. */
    const struct identity_tpm *tpm;
    const struct proxy *proxy; /* to DPS and hub; set by the program, NULL: none. Borrowed */
};
MUST_USE enum err identity_load(const char *dir, struct identity *ret, struct err_info *info);
void identity_done(struct identity *id);

struct burn {
    const char *serial, *registration_id, *id_scope, *dps_host;
    enum attestation_kind kind;
    uint16_t mqtts_port, https_port;      /* 0: 8883, 443 */
    struct span key_base64;               /* ATTEST_SYMMETRIC_KEY */
    const struct signer_key *private_key; /* ATTEST_X509 */
    struct span cert_chain_pem;
    struct span ca_pem;
};
MUST_USE enum err identity_burn(const char *dir, const struct burn *b, struct err_info *info);
/* Removes what interrupted burns left beside an identity that stands: they can no longer come to an end. Part of identity_burn; for who
 * finds the identity complete after an interruption. */
void identity_sweep(const char *dir);

struct assignment {
    char *hub;
    char *device_id;
    int64_t assigned_us;
};
/* E_NOT_FOUND when there is none yet; a damaged file is E_CORRUPT (the caller registers again). */
MUST_USE enum err assignment_load(const char *state_dir, struct assignment *ret,
                                  struct err_info *info);
MUST_USE enum err assignment_save(const char *state_dir, const struct assignment *a,
                                  struct err_info *info);
void assignment_done(struct assignment *a);

#endif
