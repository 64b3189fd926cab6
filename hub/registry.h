/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device identities: who may connect, with what, and whether enabled.
 *
 * A device has an identity number (row id) that is never used again, so that nothing meant for a deleted device reaches its namesake.
 * Reads by key run on the worker's reader. Writes are transaction functions on the registry writer; after commit the writer tells the
 * directory (disabled, deleted or re-keyed devices lose their link within a second).
 *
 * cred_gen    grows whenever what may authenticate the device changes (keys, thumbprints, type); a session keeps the one that admitted it.
 * Spec        docs/protocol/hub-service-rest.md 4, 5; docs/protocol/sas.md 4.
 */
#ifndef HUB_REGISTRY_H
#define HUB_REGISTRY_H

#include "base/arena.h"
#include "certs/chain.h"
#include "hub/hub.h"
#include "server/policy.h"
#include "wire/json.h"

enum auth_type { AUTH_T_SAS = 1, AUTH_T_SELF_SIGNED, AUTH_T_CA, AUTH_T_NONE };

/* One row; spans live in the arena given to the read. */
struct device {
    int64_t identity;
    struct span id;
    struct span generation_id; /* digits */
    uint64_t etag;             /* counter; shown as base64 of its decimal */
    uint64_t cred_gen;
    bool is_enabled;
    struct span status_reason; /* p NULL: null */
    enum auth_type auth;
    struct span sealed_key[2]; /* primary, secondary; bound to ("device", "key0"/"key1", generation id) */
    struct span thumbprint[2]; /* hex as given; empty: none */
    bool is_edge;
    int64_t status_updated_us, state_updated_us, last_activity_us; /* 0: never */
    struct span model_id;
    struct span owner; /* owner mark of the provisioning service; empty: none */
};
/* E_NOT_FOUND, or a local error. */
MUST_USE enum err registry_get(struct worker *w, struct arena *a, struct span id, struct device *ret);
MUST_USE enum err registry_get_by_identity(struct worker *w, struct arena *a, int64_t identity, struct device *ret);

/* The document of hub-service-rest.md 5.2; keys are unsealed into it only when with_keys. connectionState comes from the directory. */
MUST_USE enum err registry_to_json(struct worker *w, const struct device *d, bool with_keys, struct buf *ret);

/* Seal places of a device's keys. */
struct seal_place device_key_place(const struct device *d, unsigned which);

/* Lazy flush of connection facts (no write per connect or message): batches to the writer every few seconds. */
void registry_note_activity(struct worker *w, int64_t identity, int64_t wall_us, int connected /* -1 unchanged, 0, 1 */);

/* Verdict on a device's credential, the same for MQTT and HTTPS (sas.md 4.1, hub-mqtt.md 2.3): token or certificate by the type of the
 * identity, or a policy token with DeviceConnect. Unknown, disabled and wrong are one error (E_UNAUTHORIZED), the reason in info; the
 * work is the same for unknown devices. */
struct admitted { /* what let it in; kept by sessions */
    int64_t identity;
    uint64_t cred_gen;
    uint64_t trust_epoch;        /* read before judging; X.509 by CA only, else 0 */
    bool by_policy;
    struct policy_use policy;
    bool by_ca;
    struct chain_path path;      /* by_ca */
    int64_t expires_s;           /* token's or chain's end; INT64_MAX: never */
    struct span generation_id;   /* copied into the arena given */
    struct span model_id;
    const char *auth_method_json; /* static text of iothub-connection-auth-method */
};
MUST_USE enum err registry_authenticate(struct worker *w, struct arena *a, struct span device_id, struct span token, struct conn *c,
                                        struct admitted *ret, struct err_info *info);
/* "Does this change end it": re-judges what admitted a session against the present state. OK or E_UNAUTHORIZED. */
MUST_USE enum err registry_still_good(struct worker *w, const struct admitted *ad, struct err_info *info);

#endif
