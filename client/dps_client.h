/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One registration at a DPS: MQTT, then MQTT over WebSocket, then HTTPS. Blocking form for programs: it runs a loop of its own until the
 * answer is there.
 *
 * An identity in a TPM registers over HTTPS only; at the end its new key for the hub is in the TPM.
 * A refusal by the server ends it; only an unreachable transport leads to the next one. retry-after of the server is kept to
 * (seconds, at least 1).
 * Errors      E_UNAUTHORIZED 401; E_DISABLED the enrollment; E_REMOTE failed, with error_code and message; E_NET, E_TLS, E_TIMEOUT no
 *             transport got through (info names each).
 * Spec        docs/protocol/dps-device.md 2 to 5, 10 (the second contract); docs/protocol/sas.md.
 */
#ifndef CLIENT_DPS_CLIENT_H
#define CLIENT_DPS_CLIENT_H

#include <stdatomic.h>

#include "base/buf.h"
#include "client/identity.h"

struct dps_result {
    char hub[256];
    char device_id[132];
    char status[16];
    char substatus[40];
    uint32_t error_code;
    char message[256];
    char tracking_id[48];
    const char *via; /* "mqtt", "mqtt-ws", "https" */
};
#define DPS_VIA_MQTT 1u
#define DPS_VIA_MQTT_WS 2u
#define DPS_VIA_HTTPS 4u
#define DPS_VIA_ALL 7u
/* payload_json empty: none. *stop, set by a signal handler or another thread, ends it with E_CLOSED. */
MUST_USE enum err dps_register(const struct identity *id, unsigned via, struct span payload_json,
                               uint64_t timeout_ms, const atomic_int *stop, struct dps_result *ret,
                               struct err_info *info);
/* The same with a certificate request (DER; empty: none). ret_chain is appended to: the chain that was issued, PEM, leaf first; nothing
 * when the DPS issued none. */
MUST_USE enum err dps_register_csr(const struct identity *id, unsigned via,
                                   struct span payload_json, struct span csr, uint64_t timeout_ms,
                                   const atomic_int *stop, struct dps_result *ret,
                                   struct buf *ret_chain, struct err_info *info);
/* Token of a device for its DPS: "{scope}/registrations/{rid}". */
MUST_USE enum err device_token(struct span resource_raw, const struct secret *key,
                               int64_t expires_s, const char *skn, struct buf *ret);
/* Same, whoever has the key. */
typedef enum err (*token_mac_fn)(void *arg, struct span text, uint8_t ret[IDENTITY_MAC],
                                 struct err_info *info);
MUST_USE enum err token_make(struct span resource_raw, int64_t expires_s, const char *skn,
                             token_mac_fn mac_fn, void *arg, struct buf *ret,
                             struct err_info *info);

#endif
