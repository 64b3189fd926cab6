/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed functions over dps/sql.def: the only place of the provisioning service that sees statements. No rules here.
 *
 * Ownership   what is read is copied into the arena given; what is written is borrowed for the call.
 * Threads     that of the struct db: a worker's reader, a scan, or the writer inside a transaction.
 * Errors      E_NOT_FOUND for a key that is not there, E_NOMEM over the arena's cap, else as store/store.h.
 */
#ifndef DPS_DPS_SQL_H
#define DPS_DPS_SQL_H

#include "base/arena.h"
#include "base/limits.h"
#include "store/store.h"

/* Small named values. */
MUST_USE enum err sql_setting_get(struct db *db, struct arena *a, const char *name,
                                  struct span *ret);
MUST_USE enum err sql_setting_put(struct db *db, const char *name, struct span value);

struct hub_row {
    int64_t id;
    struct span fold, host;
    uint16_t port;
    uint64_t etag;
    struct span policy;
    struct span key; /* sealed */
    struct span location;
    bool applies;
    uint16_t weight;
    int64_t latency_ms; /* -1: not known */
    bool is_draining;   /* takes no new device; its devices leave at their next registration */
};
MUST_USE enum err sql_hub_get(struct db *db, struct arena *a, struct span fold,
                              struct hub_row *ret);
/* All, by fold; ret has LIMIT_DPS_LINKED_HUBS places. */
MUST_USE enum err sql_hub_all(struct db *db, struct arena *a, struct hub_row *ret, size_t *ret_n);
MUST_USE enum err sql_hub_put(struct db *db, const struct hub_row *row);
MUST_USE enum err sql_hub_del(struct db *db, struct span fold);
MUST_USE enum err sql_hub_count(struct db *db, int64_t *ret);

/* What a hub has to do for this instance. */
struct hub_load {
    int64_t devices;   /* registrations that are there */
    int64_t under_way; /* operations that go there */
    int64_t owed;      /* dps/leftover.h */
};
/* Reads the whole table: for scan threads. */
MUST_USE enum err sql_hub_load(struct db *db, struct span host, struct hub_load *ret);

enum enr_kind { ENR_INDIVIDUAL, ENR_GROUP };
enum enr_att {
    ATT_SYMMETRIC,
    ATT_CERT /* client or signing certificates */,
    ATT_CA /* caReferences */,
    ATT_TPM,   /* individual: one endorsement key; ca: EK roots, one of which must stand above it */
    ATT_TPM_CA /* group: ca: EK roots */
};
enum enr_alloc { ALLOC_NONE, ALLOC_HASHED, ALLOC_GEO, ALLOC_STATIC, ALLOC_CUSTOM };
/* reprovision */
enum { REPRO_GIVEN = 1, REPRO_UPDATE_HUB = 2, REPRO_MIGRATE = 4 };
struct enr_row {
    int64_t id;
    enum enr_kind kind;
    struct span name, fold;
    uint64_t etag;
    bool is_enabled;
    enum enr_att att;
    struct span key[2];  /* sealed; empty: none */
    struct span cert[2]; /* DER */
    struct span ca[2];   /* names */
    struct span ek, srk; /* public areas as they were written; empty: none */
    struct span device_id;
    bool is_edge;
    struct span initial_twin; /* JSON text; empty: none */
    unsigned reprovision;
    enum enr_alloc alloc;
    struct span hubs; /* comma separated */
    struct span hub_host;
    struct span doc;
    int64_t created_us, updated_us;
    struct span issuance;     /* JSON text of clientCertificateIssuancePolicy; empty: none */
    struct span trust_bundle; /* folded name; empty: none */
};
MUST_USE enum err sql_enr_get(struct db *db, struct arena *a, enum enr_kind kind, struct span fold,
                              struct enr_row *ret);
MUST_USE enum err sql_enr_by_id(struct db *db, struct arena *a, int64_t id, struct enr_row *ret);
/* In order of fold, behind `after`; the row is borrowed for the call of fn, whose error ends it and is returned. */
typedef enum err (*sql_enr_fn)(void *arg, const struct enr_row *row);
MUST_USE enum err sql_enr_page(struct db *db, enum enr_kind kind, struct span after, uint64_t limit,
                               sql_enr_fn fn, void *arg);
/* The same within bounds, both inclusive; p NULL: none. */
struct enr_range {
    struct span from, to, after;
};
MUST_USE enum err sql_enr_range(struct db *db, enum enr_kind kind, const struct enr_range *r,
                                uint64_t limit, sql_enr_fn fn, void *arg);
MUST_USE enum err sql_enr_state(struct db *db, int64_t id, uint64_t *ret_etag, bool *ret_enabled);
MUST_USE enum err sql_enr_count(struct db *db, enum enr_kind kind, bool is_symmetric, int64_t *ret);
/* id 0: inserts and sets it. */
MUST_USE enum err sql_enr_put(struct db *db, struct enr_row *row);
MUST_USE enum err sql_enr_del(struct db *db, int64_t id);

/* When the last certificate of an individual enrollment ends. */
MUST_USE enum err sql_end_put(struct db *db, int64_t enrollment, int64_t until_us);
MUST_USE enum err sql_end_del(struct db *db, int64_t enrollment);
/* How many end until then, at most `limit` are counted; and the next behind a time: E_NOT_FOUND. */
MUST_USE enum err sql_end_count(struct db *db, int64_t until_us, uint64_t limit, int64_t *ret);
MUST_USE enum err sql_end_next(struct db *db, int64_t after_us, char *ret_name, size_t n,
                               int64_t *ret_until_us);

enum use_what { USE_HUB, USE_CA, USE_ISSUER, USE_TRUST_BUNDLE };
MUST_USE enum err sql_use_add(struct db *db, enum use_what what, struct span fold,
                              int64_t enrollment);
MUST_USE enum err sql_use_del(struct db *db, enum use_what what, struct span fold,
                              int64_t enrollment);
MUST_USE enum err sql_use_any(struct db *db, enum use_what what, struct span fold, bool *ret);

enum reg_status {
    REG_UNASSIGNED,
    REG_ASSIGNING,
    REG_ASSIGNED,
    REG_FAILED,
    REG_DISABLED,
    REG_STATUSES
};
enum reg_substatus { SUB_NONE, SUB_INITIAL, SUB_MIGRATED, SUB_RESET, SUB_BACK, REG_SUBSTATUSES };
/* What is left to do of an operation, in this order; a bit is cleared when its result is committed (dps/driver.h). */
enum reg_step {
    STEP_ASK = 1,    /* custom allocation: the webhook */
    STEP_ISSUE = 2,  /* a certificate for the CSR */
    STEP_PROBE = 4,  /* a move: can the new hub be reached, may it take the device? */
    STEP_FREEZE = 8, /* a move: disabled at the old hub */
    STEP_TWIN = 16,  /* a move that migrates: the old hub's twin */
    STEP_CREATE = 32,
    STEP_THAW = 64, /* the move failed: enabled at the old hub again */
};
enum reg_flag {
    /* dps-service-rest.md B5; with neither bit the device keeps its hub. */
    REG_F_MAY_MOVE = 1,
    REG_F_MIGRATES = 2,
    REG_F_MORE = 4, /* there is a registration_more */
    REG_F_SUSPENDED =
        8, /* it was disabled at the old hub by someone else: stays so at the new one */
    REG_F_ISSUED =
        16, /* op_cred is the SHA-256 of a certificate that was issued here, whatever the attestation was */
    REG_F_ADOPTED = 32, /* the record came from another enrollment: the device id is this one's */
    REG_F_TRUST_BUNDLE = 64, /* the enrollment named a trust bundle when the operation began */
};
enum reg_open {
    OP_CLOSED,
    OP_OPEN,
    OP_SETTLING, /* told as failed, and STEP_THAW is owed to op_from */
};
struct reg_row {
    struct span fold, rid;
    int64_t enrollment;
    struct span group_id; /* p NULL: individual */
    enum enr_att att;
    uint64_t etag;
    int64_t created_us, updated_us;
    enum reg_status status; /* of the last registration */
    enum reg_substatus substatus;
    struct span
        hub; /* where the device is; empty: nowhere yet. Stays when a later registration fails. */
    struct span first_hub;
    struct span device_id;
    unsigned error_code;
    struct span error_text;
    struct span op_id;
    enum reg_open op_open;
    struct span op_hub, op_device_id; /* of the intent */
    /* X.509: SHA-256 of the leaf. Symmetric group: the form of the id from which the device derived its keys. */
    struct span op_cred;
    bool op_reset;
    enum reg_substatus op_substatus;
    unsigned op_todo;  /* enum reg_step */
    unsigned op_flags; /* enum reg_flag */
    /* The hub that may hold the device disabled by us: the one that it leaves, or that an earlier move left unsettled. */
    struct span op_from;
};
/* A record whose enrollment is gone is not there. */
MUST_USE enum err sql_reg_get(struct db *db, struct arena *a, struct span fold,
                              struct reg_row *ret);
typedef enum err (*sql_reg_fn)(void *arg, const struct reg_row *row);
MUST_USE enum err sql_reg_page(struct db *db, int64_t enrollment, struct span after, uint64_t limit,
                               sql_reg_fn fn, void *arg);
/* Open operations in the order of their beginning, behind that one. */
MUST_USE enum err sql_reg_open_page(struct db *db, int64_t after_us, struct span after,
                                    uint64_t limit, sql_reg_fn fn, void *arg);
/* Those whose hub may hold the device frozen. */
MUST_USE enum err sql_reg_moving(struct db *db, int64_t enrollment, sql_reg_fn fn, void *arg);
MUST_USE enum err sql_reg_open_count(struct db *db, int64_t *ret);
MUST_USE enum err sql_reg_put(struct db *db, const struct reg_row *row);
/* The members of the result; closes the intent. */
MUST_USE enum err sql_reg_finish(struct db *db, const struct reg_row *row);
MUST_USE enum err sql_reg_del(struct db *db, struct span fold);
MUST_USE enum err sql_reg_del_of(struct db *db, int64_t enrollment, uint64_t limit,
                                 int64_t *ret_deleted);

/* What only some registrations bring or get. Empty: none. */
struct reg_more {
    struct span payload; /* JSON text that the device sent; for the webhook */
    struct span leaf;    /* DER that the device presented; for the webhook */
    struct span csr;     /* DER of the PKCS#10 */
    unsigned
        csr_form; /* 1: clientCertificateCsr, the answer is PEM; 2: csr, an array of base64 DER */
    struct span chain; /* issued certificates, DER after DER, leaf first */
    struct span twin;  /* of the old hub, JSON text as GET /provision/devices gave it */
    struct span initial_twin,
        answer;           /* of the webhook, JSON texts; answer: payload for the device */
    struct span tpm_srk;  /* TPM2B_PUBLIC */
    struct span tpm_blob; /* the key wrapped for that TPM (dps-tpm.md 4) */
    struct span tpm_key;  /* the key, sealed; gone when the operation ends */
    struct span
        trust_bundle; /* told, never kept here: JSON object of the enrollment's (dps/trust_bundle.h) */
};
MUST_USE enum err sql_more_get(struct db *db, struct arena *a, struct span fold,
                               struct reg_more *ret);
MUST_USE enum err sql_more_put(struct db *db, struct span fold, const struct reg_more *more);
MUST_USE enum err sql_more_del(struct db *db, struct span fold);

/* A call owed to a hub after the operation's end was told. */
enum left_what { LEFT_DELETE, LEFT_ENABLE, LEFT_DISABLE, LEFT_WHATS };
struct left_row {
    int64_t id; /* of sql_left_add: not read */
    enum left_what what;
    struct span rid; /* for the log */
    struct span hub, device_id, owner;
    int64_t sequence; /* hub/http_provision.h */
};
MUST_USE enum err sql_left_add(struct db *db, const struct left_row *row);
typedef enum err (*sql_left_fn)(void *arg, const struct left_row *row);
MUST_USE enum err sql_left_page(struct db *db, int64_t after, uint64_t limit, sql_left_fn fn,
                                void *arg);
MUST_USE enum err sql_left_del(struct db *db, int64_t id);

/* Of an enrollment; at most `limit` are counted. */
MUST_USE enum err sql_reg_count(struct db *db, int64_t enrollment, uint64_t limit, int64_t *ret);

/* Through which CA certificate (SHA-256) a registration came. */
MUST_USE enum err sql_anchor_put(struct db *db, struct span fold, struct span ca,
                                 int64_t enrollment);
MUST_USE enum err sql_anchor_del(struct db *db, struct span fold);
/* One call for each enrollment; at most `limit` registrations are counted. */
typedef enum err (*sql_anchor_count_fn)(void *arg, int64_t enrollment, enum enr_kind kind,
                                        int64_t n);
MUST_USE enum err sql_anchor_count(struct db *db, struct span ca, uint64_t limit,
                                   sql_anchor_count_fn fn, void *arg);
struct anchor_row {
    int64_t enrollment;
    struct span fold, rid, group_id, device_id, hub;
    enum reg_status status;
};
/* In order of enrollment and fold; as sql_enr_page. */
typedef enum err (*sql_anchor_fn)(void *arg, const struct anchor_row *row);
MUST_USE enum err sql_anchor_page(struct db *db, struct span ca, int64_t after_enrollment,
                                  struct span after_fold, uint64_t limit, sql_anchor_fn fn,
                                  void *arg);

MUST_USE enum err sql_past_add(struct db *db, struct span id, struct span fold, struct span body,
                               int64_t until_us);
MUST_USE enum err sql_past_get(struct db *db, struct arena *a, struct span id, struct span fold,
                               struct span *ret_body);
MUST_USE enum err sql_past_trim(struct db *db, int64_t now_us);

MUST_USE enum err sql_dead_add(struct db *db, int64_t id);
MUST_USE enum err sql_dead_first(struct db *db, int64_t *ret);
MUST_USE enum err sql_dead_del(struct db *db, int64_t id);

struct refusal_row {
    struct span fold, rule, rid;
    bool is_known; /* the id has an enrollment of its own or a record */
    int64_t count, first_us, last_us;
    struct span peer, transport, api_version, why;
    struct span facts; /* JSON members without braces */
};
MUST_USE enum err sql_refusal_is_known(struct db *db, struct span fold, bool *ret);
/* Adds to the row of that id and rule; what came last stays. */
MUST_USE enum err sql_refusal_add(struct db *db, const struct refusal_row *row);
/* The oldest of that kind go while there are more than `most`, a few with each call. */
MUST_USE enum err sql_refusal_trim(struct db *db, bool is_known, int64_t most);
typedef enum err (*sql_refusal_fn)(void *arg, const struct refusal_row *row);
/* Latest first. */
MUST_USE enum err sql_refusal_of(struct db *db, struct span fold, sql_refusal_fn fn, void *arg);
/* By id and rule. rule empty: any; known -1: both, 0, 1. */
MUST_USE enum err sql_refusal_page(struct db *db, struct span rule, int known, uint64_t skip,
                                   uint64_t top, sql_refusal_fn fn, void *arg);
MUST_USE enum err sql_refusal_del_of(struct db *db, struct span fold);

#endif
