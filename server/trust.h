/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusted CA certificates of one instance: upload, proof of possession, verified or not; and the verdict on a presented chain. Good
 * verdicts are shared by all workers, by leaf, chain, set of trusted certificates and trust epoch (certs/verdicts.h).
 *
 * trust_epoch() is read before authenticating and compared after a session was entered where a revocation would find it: a trust
 * change that raced the connect is seen by one of the two.
 * Unverified or expired CA certificates never authenticate a device.
 *
 * EK roots: the CA certificate of a TPM maker is kept among them with usage "endorsementKey". Nobody here can prove possession of its
 * key, so nothing is proven: it never becomes verified, is in no set that judges a client certificate, and a verified CA is in none
 * that judges the certificate of an endorsement key. What it vouches for is "this key is in a genuine TPM", not "this device is mine";
 * who may say so here is the administration plane's right (ServiceConfig), and what follows from it the enrollment's that names it.
 * Spec        docs/protocol/dps-service-rest.md C2; docs/protocol/hub-mqtt.md 2.3; docs/protocol/dps-device.md 6.
 */
#ifndef SERVER_TRUST_H
#define SERVER_TRUST_H

#include "certs/chain.h"
#include "server/server.h"

uint64_t trust_epoch(struct server *s);
/* Against all verified CAs of the instance. ret_path as chain_verify. */
MUST_USE enum chain_verdict trust_verify(struct worker *w, const struct cert_peer *peer,
                                         struct chain_path *ret_path, struct err_info *info);
/* A path that was found good before: is its anchor, or a certificate below it, a verified CA here now? (What is below the anchor does not
 * change; its dates are path->not_after_us.) False also when that cannot be read. A CA above the anchor is not asked: a session whose
 * anchor went ends, and connects again under that one. */
bool trust_path_still_good(struct worker *w, const struct chain_path *path);
/* A verified CA by its admin name (caReferences); E_NOT_FOUND, E_STATE not verified. Caller frees. */
MUST_USE enum err trust_get_verified(struct worker *w, struct span name, struct cert **ret,
                                     struct err_info *info);
/* Each CA certificate of the instance, verified or not, in order of name, on the thread that owns db. */
typedef enum err (*trust_each_fn)(void *arg, struct span name, bool is_verified, struct cert *c);
MUST_USE enum err trust_each(struct db *db, trust_each_fn fn, void *arg);
/* Same on the writer, inside a transaction: existence and verification for foreign keys of the program. */
MUST_USE enum err trust_tx_is_verified(struct store_tx *tx, struct span name);

/* The certificate of a TPM's endorsement key, against all EK roots of the instance. No cache: one look at each registration. */
MUST_USE enum chain_verdict trust_verify_ek(struct worker *w, const struct cert_peer *peer,
                                            struct chain_path *ret_path, struct err_info *info);
/* An EK root by its admin name; E_NOT_FOUND, E_STATE it is for devices. Caller frees. */
MUST_USE enum err trust_get_ek_root(struct worker *w, struct span name, struct cert **ret,
                                    struct err_info *info);
MUST_USE enum err trust_tx_is_ek_root(struct store_tx *tx, struct span name);

#endif
