/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enrollments and enrollment groups: what may be written, how they are kept, what is told of them.
 *
 *   worker: enrollment_read(body) -> seal keys -> enr_op -> writer: enrollment_tx_put / _tx_delete -> worker: enrollment_write
 *
 * Ownership   struct enr_input owns its arena and its keys: enrollment_input_done().
 * Errors      E_ARG, E_ARG_NULL, E_JSON, E_ID, E_UNSUPPORTED name the member; E_EXISTS, E_NOT_FOUND, E_ETAG by the rules of A4;
 *             E_LIMIT too many groups.
 * Limits      LIMIT_DPS_BODY, LIMIT_DPS_GROUPS of symmetric groups and as many of X.509, LIMIT_DPS_LINKED_HUBS names.
 * Spec        docs/protocol/dps-service-rest.md A4 to A7, B1 to B3.
 */
#ifndef DPS_ENROLLMENT_H
#define DPS_ENROLLMENT_H

#include "certs/keyring.h"
#include "dps/dps.h"
#include "dps/dps_sql.h"
#include "store/store.h"
#include "wire/json.h"

#define ENR_ARENA (256u << 10)

struct enr_input {
    struct arena arena;
    struct enr_row row;    /* id, etag, dates unset; key: sealed */
    bool has_http_webhook; /* plain http: only where the settings allow it */
    bool has_keys;         /* given; else made, for a new one */
    struct secret key[2];
    bool keeps_cert[2];          /* named by its description only: the stored one stays */
    struct span keeps_sha256[2]; /* hex; empty: not said */
};
/* path_id: empty in a bulk, where the body names it. The body is an object. */
MUST_USE enum err enrollment_read(const struct json *body, enum enr_kind kind, struct span path_id,
                                  struct enr_input *ret, struct err_info *info);
MUST_USE enum err enrollment_seal(const struct keyring *k, struct enr_input *in);
void enrollment_input_done(struct enr_input *in);
/* Attestation of the kinds that this version offers; part of enrollment_read. */
MUST_USE enum err enrollment_read_attestation(const struct json *body, struct enr_input *in,
                                              struct err_info *info);
/* Checks and folds an id into the arena. */
MUST_USE enum err enrollment_fold(struct arena *a, struct span id, struct span *ret,
                                  struct err_info *info);
/* attestation.type */
const char *enrollment_att_word(enum enr_att att);
/* "registrationId" or "enrollmentGroupId" */
const char *enrollment_id_member(enum enr_kind kind);

/* What the caller expects to be there (If-Match, or a bulk entry's etag). */
enum enr_match_kind { ENR_MATCH_NONE, ENR_MATCH_ANY, ENR_MATCH_ETAG };
struct enr_match {
    enum enr_match_kind kind;
    uint64_t etag; /* 0 equals none */
};

/* --- on the writer -------------------------------------------------------------------------------- */
/* may_create false: E_NOT_FOUND when it is not there. *ret lives in `out`. */
MUST_USE enum err enrollment_tx_put(struct store_tx *tx, struct dps *d, const struct enr_input *in,
                                    const struct enr_match *match, bool may_create,
                                    struct arena *out, struct enr_row *ret, struct err_info *info);
MUST_USE enum err enrollment_tx_delete(struct store_tx *tx, struct dps *d, enum enr_kind kind,
                                       struct span fold, const struct enr_match *match);
/* Deletes a part of the records of deleted groups; *ret_more: call again. */
MUST_USE enum err enrollment_tx_sweep(struct store_tx *tx, bool *ret_more);
/* Submits enrollment_tx_sweep in the background until nothing is left. */
void enrollment_sweep(struct dps_worker *dw);

/* --- what is told ------------------------------------------------------------------------------------ */
struct enr_state {
    const struct reg_row *reg; /* NULL: unassigned */
    const struct reg_more *more;
};
/* The object; k NULL: without secrets. state NULL: without registrationState. */
MUST_USE enum err enrollment_write(struct buf *b, const struct enr_row *row,
                                   const struct keyring *k, const struct enr_state *state);
/* Without secrets and state, the etag decoded: as a webhook sees it (dps-service-rest.md B4). */
MUST_USE enum err enrollment_write_plain(struct buf *b, const struct enr_row *row);
/* {...} of a certificate: names, thumbprints, dates. */
MUST_USE enum err enrollment_write_cert_info(struct buf *b, struct span der);
/* {"info":{...}} of it. */
MUST_USE enum err enrollment_write_cert(struct buf *b, struct span der);
/* initialTwin of body as JSON text, checked; empty when there is none. */
MUST_USE enum err enrollment_read_twin(const struct json *body, struct arena *a, struct span *ret,
                                       struct err_info *info);
/* The attestation alone. */
MUST_USE enum err enrollment_write_attestation(struct buf *b, const struct enr_row *row,
                                               const struct keyring *k);

#endif
