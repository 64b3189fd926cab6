/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate that a unit was issued for its hub, and the one before it.
 *
 *   IDENTITY/a/device.key, device.pem   IDENTITY/b/device.key, device.pem   two slots
 *   IDENTITY/current -> a | b                                               the one that a hub has accepted
 *
 *   credential_begin: a new key, and its request, in the slot that is not current
 *   credential_store: the chain that was issued, beside it: a candidate
 *   credential_keep:  the hub accepted it: current turns to it, by one rename
 *
 * Cut off anywhere before the rename, the next start finds the former credential as it was.
 *
 * Ownership   credential_done ends what load and store filled.
 * Errors      load: E_NOT_FOUND there is none; E_CORRUPT it is damaged, with the reason (the caller asks for another); E_PERM a key open to
 *             others. store: E_CERT what came does not belong to the key of begin.
 * Threads     any; blocks on the disk.
 */
#ifndef CLIENT_CREDENTIAL_H
#define CLIENT_CREDENTIAL_H

#include "base/buf.h"
#include "certs/signer.h"

struct credential {
    char slot; /* 'a', 'b'; 0: empty */
    char *cert_chain_file, *key_file;
    int64_t issued_us, not_after_us; /* issued: when it was stored here */
};
MUST_USE enum err credential_load(const char *dir, struct credential *ret, struct err_info *info);
/* DER of the request, appended. */
MUST_USE enum err credential_begin(const char *dir, const char *cn, struct buf *ret_csr,
                                   struct err_info *info);
MUST_USE enum err credential_store(const char *dir, struct span chain_pem, struct credential *ret,
                                   struct err_info *info);
MUST_USE enum err credential_keep(const char *dir, const struct credential *c,
                                  struct err_info *info);
void credential_done(struct credential *c);

#endif
