/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a webhook knows that a question comes from this DPS: each request carries
 *
 *   Berth-Signature: t=<seconds since 1970>,k=<key version>,v1=<base64 of HMAC-SHA256(key, t "." body)>
 *
 * Each host has keys of its own, one for each version, all derived from one secret of the instance: what one receiver knows forges
 * nothing to another, nothing is stored per host, and the next key can be handed out before it is used.
 *
 * Ownership   the caller's buffers; secrets are the caller's to wipe.
 * Threads     any: the instance's secret does not change while the server runs.
 * Errors      E_NOMEM.
 * Limits      host LIMIT_HOST, version WEBHOOK_KEY_VERSIONS.
 * Spec        docs/protocol/dps-service-rest.md B4, C5; docs/threat-model.md E2.
 */
#ifndef DPS_WEBHOOK_SIGN_H
#define DPS_WEBHOOK_SIGN_H

#include "base/buf.h"
#include "base/err.h"
#include "base/secret.h"

#define WEBHOOK_KEY_VERSIONS 1000000

/* The key of a host (as it stands in the address; compared without case) for one version. */
MUST_USE enum err webhook_sign_key(const struct secret *root, struct span host, unsigned version,
                                   struct secret *ret);
/* Appends the header line. */
MUST_USE enum err webhook_sign_add(struct buf *b, const struct secret *root, struct span host,
                                   unsigned version, int64_t now_s, struct span body);

#endif
