/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where symmetric secrets are used: unseals, derives and MACs, so that it can move behind a wall of
 * its own. Secrets at rest are sealed by AES-256-GCM under a numbered master key, bound to the row
 * and column they belong to (additional data), so that a sealed value moved elsewhere is refused.
 *
 * Sealed form  1 byte version, 4 bytes key number (big endian), 12 bytes nonce, ciphertext, 16 tag.
 * Key file     text: a line "berth-master-keys 1", then one line "NUMBER BASE64" per key of 32 bytes.
 *              The highest number seals, all unseal: keys are changed by adding a line.
 * Ownership    keyring_free() wipes the master keys.
 * Threads      any; immutable after open.
 * Errors       E_CORRUPT when a sealed value does not open (wrong row, damaged, unknown key number);
 *              E_CONFIG, E_PERM, E_IO and so on for the key file.
 * Limits       LIMIT_MASTER_KEYS; secrets of SECRET_MAX bytes (E_TOO_LARGE).
 * Spec         docs/protocol/sas.md 2, 6.
 */
#ifndef CERTS_KEYRING_H
#define CERTS_KEYRING_H

#include "base/buf.h"
#include "base/err.h"
#include "base/secret.h"

struct keyring;
/* Reads the master key file (0600, made with random content when absent and `create`). */
MUST_USE enum err keyring_open(const char *path, bool create, struct keyring **ret,
                               struct err_info *info);
void keyring_free(struct keyring *k);
AUTO_FREE_FN(struct keyring, keyring_free)

#define SEAL_OVERHEAD 33u /* bytes that a sealed value has more than its secret */
/* Binds: table, column, row id; joined by zero bytes as additional data. */
struct seal_place {
    const char *table;
    const char *column;
    struct span row;
};
/* Appends to ret. */
MUST_USE enum err keyring_seal(const struct keyring *k, struct seal_place at, struct span secret,
                               struct buf *ret);
MUST_USE enum err keyring_unseal(const struct keyring *k, struct seal_place at, struct span sealed,
                                 struct secret *ret);

/* The same for what is longer than a secret: private keys in PKCS#8. unseal replaces ret, which the caller wipes. E_TOO_LARGE over
 * SEAL_BLOB_MAX. */
#define SEAL_BLOB_MAX 4096u
MUST_USE enum err keyring_seal_blob(const struct keyring *k, struct seal_place at, struct span blob,
                                    struct buf *ret);
MUST_USE enum err keyring_unseal_blob(const struct keyring *k, struct seal_place at,
                                      struct span sealed, struct buf *ret);

#define MAC_SIZE 32u
/* HMAC-SHA256. */
void mac_sha256(struct span key, struct span text, uint8_t ret[MAC_SIZE]);
/* Is `sig` the MAC of text under the sealed key? Constant time; works (false) on an empty sealed
 * key, or one that does not open, by unsealing a dummy and MACing with it, so that unknown and wrong
 * cost the same (N8). */
bool keyring_mac_matches(const struct keyring *k, struct seal_place at, struct span sealed,
                         struct span text, struct span sig);
/* Derived device key of a group: HMAC-SHA256(group key, registration id). */
MUST_USE enum err keyring_derive(const struct keyring *k, struct seal_place at, struct span sealed,
                                 struct span registration_id, struct secret *ret);
void sha256(struct span s, uint8_t ret[32]);

#endif
