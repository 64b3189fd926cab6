/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device identities, and the module identities of devices: who may connect, with what, and whether enabled.
 *
 * A module is an identity of its own below a device: own number, keys, etag, twin, link and stored filters; it has no status, it follows
 * its device: disabled with it, deleted with it. Functions that take a module_id mean the device itself when it is empty. In a struct
 * device, and in what is called a device below, a module is meant as well unless it says otherwise.
 *
 * A device has an identity number (row id) that is never used again, so that nothing meant for a deleted device reaches its namesake.
 * Reads by key run on the worker's reader. Writes are transaction functions on the registry writer; after commit the writer tells the
 * directory (disabled, deleted or re-keyed devices lose their link within a second).
 *
 * cred_gen    grows whenever what may authenticate the device changes (keys, thumbprints, type); a session keeps the one that admitted it.
 * Limits      LIMIT_MODULES of one device.
 * Spec        docs/protocol/hub-service-rest.md 4, 5, 6; docs/protocol/sas.md 4.
 */
#ifndef HUB_REGISTRY_H
#define HUB_REGISTRY_H

#include "base/arena.h"
#include "base/secret.h"
#include "certs/chain.h"
#include "hub/hub.h"
#include "server/policy.h"
#include "wire/json.h"

enum auth_type { AUTH_T_SAS = 1, AUTH_T_SELF_SIGNED, AUTH_T_CA, AUTH_T_NONE };

/* One row; spans live in the arena given to the read. */
struct device {
    int64_t identity;
    struct span id;            /* of a module: its device's */
    struct span module_id;     /* empty: a device */
    struct span managed_by;    /* of a module; p NULL: null */
    int64_t parent;            /* identity of a module's device; 0: a device */
    struct span generation_id; /* digits */
    uint64_t etag;             /* counter; shown as base64 of its decimal */
    uint64_t cred_gen;
    bool is_enabled;           /* of a module: its device's */
    struct span status_reason; /* p NULL: null */
    enum auth_type auth;
    struct span
        sealed_key[2]; /* primary, secondary; bound to ("device", "key0"/"key1", generation id) */
    struct span thumbprint[2]; /* hex as given; empty: none */
    struct span pin
        [2]; /* 32 bytes: the only certificate that a SHA-1 thumbprint still admits (threat C3); empty: none yet */
    uint64_t slot_gen[2]; /* cred_gen at which primary and secondary were last replaced */
    bool is_edge;
    int64_t created_us;
    int64_t status_updated_us, state_updated_us, last_activity_us; /* 0: never */
    struct span model_id;
    struct span owner; /* owner mark of the provisioning service; empty: none */
};
/* --- the hub's own part ------------------------------------------------------------------ */
/* Made by main's init (before the workers) into hub->registry; needs only the server. */
MUST_USE enum err registry_new(struct server *s, struct registry **ret);
void registry_free(struct registry *r);
/* On each worker's thread: worker_init, and worker_done (gives what was noted to the writer). */
MUST_USE enum err registry_worker_start(struct worker *w);
void registry_worker_done(struct worker *w);
/* Writes of this worker that have not come home yet; worker_busy asks. */
unsigned registry_pending(struct worker *w);

/* --- reading ------------------------------------------------------------------------------- */
/* E_NOT_FOUND, or a local error. */
MUST_USE enum err registry_get(struct worker *w, struct arena *a, struct span id,
                               struct device *ret);
/* Same of a module: E_NOT_FOUND: no such device; E_NO_MODULE: it has no such module. */
MUST_USE enum err registry_get_module(struct worker *w, struct arena *a, struct span device_id,
                                      struct span module_id, struct device *ret);
MUST_USE enum err registry_get_by_identity(struct worker *w, struct arena *a, int64_t identity,
                                           struct device *ret);

/* The document of hub-service-rest.md 5.2, or 6; keys are unsealed into it only when with_keys (then the caller wipes it). connectionState
 * comes from the directory. */
MUST_USE enum err registry_to_json(struct worker *w, const struct device *d, bool with_keys,
                                   struct buf *ret);
/* Same on any thread. */
MUST_USE enum err registry_device_json(struct hub *h, const struct device *d, bool with_keys,
                                       struct buf *ret);
/* GET /devices: array of the first top devices by id, made on a scan thread. json is borrowed for the call and wiped afterwards. */
typedef void (*registry_list_fn)(void *user, uint64_t tag, enum err result, struct span json);
MUST_USE enum err registry_list_begin(struct worker *w, size_t top, registry_list_fn done,
                                      void *user, uint64_t tag);

/* GET /devices/{id}/modules: array of all modules by id; the caller wipes it. */
MUST_USE enum err registry_modules_json(struct worker *w, const struct device *d, struct buf *ret);

/* Members of identity and twin documents: ,"name":"2026-..." (0: never), and head with a JSON text or null (p NULL). */
void registry_add_time(struct buf *b, const char *name, int64_t us);
void registry_add_text(struct buf *b, const char *head, struct span s);

/* base64 of the decimal: 4/3 of 20 digits and a zero. */
#define REGISTRY_ETAG_SIZE 32u
void registry_etag_text(uint64_t etag, char dst[REGISTRY_ETAG_SIZE]);
/* "sas", "selfSigned", "certificateAuthority", "none" */
const char *auth_type_name(enum auth_type t);

/* Seal places of a device's keys. */
struct seal_place device_key_place(const struct device *d, unsigned which);

/* --- writing -------------------------------------------------------------------------------
 * x_begin checks and prepares on the worker (keys are sealed there), the writer compares and stores, done runs on the worker's loop,
 * never inside begin; a failed begin does not call done. Prepared against a row that changed meanwhile: prepared again, unseen. */

/* If-Match as read (hub-service-rest.md 4.2). */
enum match_kind { MATCH_NONE, MATCH_ANY, MATCH_ETAG };
struct match {
    enum match_kind kind;
    bool is_ours; /* text of the form of our etags; else it matches nothing */
    uint64_t etag;
};
/* device: etags of identities, else of twins (base64 of 8 bytes). A list of etags is E_ARG. */
MUST_USE enum err match_read(struct span if_match, bool is_device, struct match *ret,
                             struct err_info *info);

/* Nothing but JSON's blanks: "body required" (E_ARG_NULL), not "no JSON". */
bool body_is_blank(struct span body);

/* Authentication as asked for, checked by auth_read (hub-service-rest.md 5.3). Holds secrets: auth_spec_done. */
struct auth_spec {
    enum auth_type type;
    bool has_keys; /* sas: else two are made */
    struct secret key[2];
    struct span thumbprint[2]; /* borrowed from the tree */
};
/* authentication NULL: sas with keys to be made. A module may have type none. E_ARG with the rule's text; ret is then empty. */
MUST_USE enum err auth_read(const struct json *authentication, bool is_module,
                            struct auth_spec *ret, struct err_info *info);
void auth_spec_done(struct auth_spec *a);

struct device_spec { /* spans borrowed for the call */
    struct span id;
    struct span module_id;  /* empty: a device */
    struct span managed_by; /* of a module; p NULL: null */
    bool is_enabled;
    struct span status_reason; /* p NULL: null */
    bool is_edge;
    struct auth_spec *auth;
};
/* The body of PUT /devices/{id}: everything checked, borrowed from j. ret->auth points to the caller's storage, ended by the caller.
 * E_ARG, E_ARG_NULL, E_ID. */
MUST_USE enum err device_spec_read(const struct json *j, struct span path_id,
                                   struct device_spec *ret, struct err_info *info);

/* Same of PUT /devices/{id}/modules/{mid}. Ids that begin with '$' are the system's: E_ARG. */
MUST_USE enum err module_spec_read(const struct json *j, struct span path_id,
                                   struct span path_module_id, struct device_spec *ret,
                                   struct err_info *info);

/* d: the row as the transaction left it (NULL unless OK); info: texts of refusals. Both borrowed for the call. */
typedef void (*registry_done_fn)(void *user, uint64_t tag, enum err result, const struct device *d,
                                 const struct err_info *info);
/* The rows PUT of the matrix, 4.3: E_EXISTS, E_NOT_FOUND, E_ETAG. A module: also E_NO_MODULE, and E_LIMIT. */
MUST_USE enum err registry_put_begin(struct worker *w, const struct device_spec *spec,
                                     const struct match *match, registry_done_fn done, void *user,
                                     uint64_t tag, struct err_info *info);
/* DELETE: E_ETAG_MISSING, E_NOT_FOUND, E_NO_MODULE, E_ETAG. A device goes with its modules. */
MUST_USE enum err registry_delete_begin(struct worker *w, struct span id, struct span module_id,
                                        const struct match *match, registry_done_fn done,
                                        void *user, uint64_t tag, struct err_info *info);
/* Lazy flush of connection facts (no write per connect or message): batches to the writer every few seconds. */
void registry_flush_notes(struct hub *h);
void registry_note_activity(struct worker *w, int64_t identity, int64_t wall_us,
                            int connected /* -1 unchanged, 0, 1 */);

/* Verdict on a device's credential, the same for MQTT and HTTPS (sas.md 4.1, hub-mqtt.md 2.3): token or certificate by the type of the
 * identity, or a policy token with DeviceConnect. Unknown, disabled and wrong are one error (E_UNAUTHORIZED), the reason in info; the
 * work is the same for unknown devices. */
struct admitted { /* what let it in; kept by sessions */
    int64_t identity;
    uint64_t cred_gen;    /* slot_gen of the slot that matched */
    uint64_t trust_epoch; /* read before judging; X.509 by CA only, else 0 */
    uint64_t changes;     /* directory_changes(), read before judging */
    bool by_policy;
    struct policy_use policy;
    bool by_ca;
    struct chain_path path; /* by_ca */
    unsigned slot;          /* which of the two credentials of the identity: 0 or 1 */
    int64_t
        expires_s; /* when the session ends: token's end with skew, certificate's or chain's end; INT64_MAX: never */
    struct span generation_id; /* copied into the arena given */
    struct span model_id;
    const char *auth_method_json; /* static text of iothub-connection-auth-method */
};
MUST_USE enum err registry_authenticate(struct worker *w, struct arena *a, struct span device_id,
                                        struct span module_id, struct span token, struct conn *c,
                                        struct admitted *ret, struct err_info *info);
/* "Does this change end it": re-judges what admitted a session against the present state. OK or E_UNAUTHORIZED. */
/* Reads one row; the caller walks in slices. */
MUST_USE enum err registry_still_good(struct worker *w, const struct admitted *ad,
                                      struct err_info *info);

#endif
