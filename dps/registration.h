/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registration of one device: which operation runs, what came of the last one, what a device and an administrator are told.
 *
 *   none --register--> ASSIGNING(op) --hub answered--> ASSIGNED | FAILED --register--> ASSIGNING(op') ...
 *                      ASSIGNING --register--> the same op
 *   any  --register, enrollment disabled--> DISABLED(op)
 *
 * What an operation does is decided by dps/plan.h and written down as steps (op_todo); after each its result is committed. A failed
 * move may be told before the old hub has enabled the device again: OP_SETTLING.
 *
 * registration_begin() writes the intent; done is called once it is on disk, and dps/driver.h drives it on: the operation belongs to
 * no connection. Where a device is (hub) stays in its record when a later registration fails.
 *
 * Ownership   ctx is the caller's; from a registration_begin() that returned OK until done it must live.
 * Threads     begin, poll, done: the worker's. tx functions: the writer.
 * Errors      done: E_STALE the enrollment changed meanwhile, and so that the device has to be judged again (else it is tried anew at once); E_OWNED the record belongs to another enrollment; those of the store.
 * Limits      finished operations stay readable for PAST_OPERATION_S after a later one replaced them.
 * Spec        docs/protocol/dps-device.md 2.2, 8, 9; docs/protocol/dps-service-rest.md A9, B5.
 */
#ifndef DPS_REGISTRATION_H
#define DPS_REGISTRATION_H

#include "dps/attestation.h"
#include "dps/plan.h"
#include "dps/refusal.h"

#define OPERATION_ID_SIZE 56u /* "5.16 hex.guid" and a zero */
#define PAST_OPERATION_S 1800
#define DPS_ANSWER_MAX (512u << 10) /* of one answer: payload, certificates */

/* What a registration wants, as the endpoint read it. */
struct registration_wish {
    struct span rid;  /* as the device sent it */
    struct span fold; /* in lower case */
    const struct attested *who;
    bool is_sticky; /* api-version up to 2018-04-01 (dps-device.md 9) */
    const struct refusal_from *from;
    bool wants_certificate;            /* a CSR came with it */
    struct span payload;               /* JSON text; empty: none */
    const struct latencies *latencies; /* that the device measured; NULL: none */
    struct span leaf;                  /* DER of the certificate presented; empty: none */
    struct span peer;                  /* its address, as text */
    struct span csr;                   /* DER; csr_form as in struct reg_more */
    unsigned csr_form;
    struct span tpm_srk, tpm_blob, tpm_key; /* as in struct reg_more */
};
/* op_id is empty unless e is OK. */
typedef void (*registration_done_fn)(struct dps_worker *dw, void *ctx, enum err e,
                                     struct span op_id, const struct err_info *info);
MUST_USE enum err registration_begin(struct dps_worker *dw, const struct registration_wish *wish,
                                     registration_done_fn done, void *ctx, struct err_info *info);

/* What registration_begin() would do now: the same transaction, rolled back. Nothing is stored, no hub and no webhook is asked. */
struct registration_plan {
    struct reg_row row; /* as it would be */
    enum rule rule;     /* why it would fail; RULE_OK: it would not */
    bool is_running;    /* one is under way already: row is that one */
};
/* plan is borrowed for the call, NULL unless e is OK. */
typedef void (*registration_dry_fn)(struct dps_worker *dw, void *ctx, enum err e,
                                    const struct registration_plan *plan,
                                    const struct err_info *info);
MUST_USE enum err registration_dry_run(struct dps_worker *dw, const struct registration_wish *wish,
                                       registration_dry_fn done, void *ctx, struct err_info *info);

/* The answer to a poll, JSON appended to b; *ret_final: 200, else 202. E_NOT_FOUND. Of a disabled enrollment a device hears `disabled`,
 * whatever came of the operation. */
MUST_USE enum err registration_poll(struct dps_worker *dw, struct arena *a, struct span fold,
                                    struct span op_id, bool is_enabled, struct buf *b,
                                    bool *ret_final);
enum rule registration_poll_refused(enum err e, struct verdict *v);
/* The record alone. more: NULL when it has none. */
void registration_write_state(struct buf *b, const struct reg_row *row,
                              const struct reg_more *more);
/* With its operation. */
void registration_write_answer(struct buf *b, const struct reg_row *row,
                               const struct reg_more *more);
/* *ret: storage, or NULL. No query unless the row says that there is more. */
MUST_USE enum err registration_read_more(struct db *db, struct arena *a, const struct reg_row *row,
                                         struct reg_more *storage, const struct reg_more **ret);
/* With the trust bundle of its enrollment as it is now, for what is told of this one registration. */
MUST_USE enum err registration_read_told(struct db *db, struct arena *a, const struct reg_row *row,
                                         struct reg_more *storage, const struct reg_more **ret);
void registration_write_assigning(struct buf *b, struct span op_id);
extern const char *const reg_status_words[REG_STATUSES];

/* docs/protocol/dps-device.md 2.1: body of register, as far as the service looks at it. RULE_BODY_JSON, RULE_BODY_ID. */
struct registration_body {
    bool wants_certificate;
    struct span csr; /* DER, unparsed; empty: what came is neither PEM nor base64 */
    unsigned csr_form;
    bool has_tpm;
    struct span payload;               /* JSON text; empty: none */
    const struct latencies *latencies; /* payload.berth.latencyMs, a Berth extension; NULL: none */
};
MUST_USE enum rule registration_body_read(struct arena *a, struct span body, struct span rid,
                                          struct registration_body *ret, struct verdict *v);
/* Of registration_begin(), and of its done. */
enum rule registration_refused(enum err e, const struct err_info *info, struct verdict *v);
/* When an operation began, by its id, in microseconds of wall clock, to a 65536th of a second; 0: it is none of ours. */
int64_t registration_begun_us(struct span op_id);
/* "2018-04-01" and older. */
bool registration_is_sticky(struct span api_version);

/* --- on the writer ------------------------------------------------------------------------------ */
/* One step of an open operation is done. */
typedef enum err (*registration_step_fn)(struct store_tx *tx, struct arena *a, void *arg,
                                         struct reg_row *row, struct reg_more *more);
struct reg_done {
    struct span fold, op_id;
    unsigned step; /* its bit in op_todo */
    registration_step_fn
        fn; /* NULL, or: puts the result into row and more; a is theirs. May run twice. */
    void *arg;
};
/* *ret: the row as it is now, in out; op_open OP_CLOSED when the operation is not the open one any more. */
MUST_USE enum err registration_tx_step(struct store_tx *tx, struct arena *out,
                                       const struct reg_done *d, struct reg_row *ret);

struct reg_outcome {
    bool is_assigned;
    struct span owner; /* assigned after a move: the mark of the device that stays to be deleted */
    enum rule rule;    /* failed; RULE_OK: as it was said before */
    struct span text;
    bool is_settled; /* failed: no hub holds the device disabled */
    bool tells_now;  /* failed: the device hears it though that is not so yet */
};
/* Ends that operation, or turns it to STEP_THAW; nothing happens when it is not the open one any more (the record was deleted
 * meanwhile). *ret as above. */
MUST_USE enum err registration_tx_finish(struct store_tx *tx, struct arena *out, struct span fold,
                                         struct span op_id, const struct reg_outcome *o,
                                         struct reg_row *ret);
/* plan_make, with what the database knows of the hub. */
MUST_USE enum err registration_tx_plan(struct store_tx *tx, struct arena *a, struct reg_row *row,
                                       struct plan_in *in, enum rule *ret);
/* E_NOT_FOUND, E_ETAG, E_EXISTS (a move is under way). has_etag false: whatever it is. */
MUST_USE enum err registration_tx_delete(struct store_tx *tx, const struct dps *d, struct span fold,
                                         bool has_etag, uint64_t etag);
/* The enrollment's records (row NULL), or this one of them, are about to go: what a move froze is owed its old hub. */
MUST_USE enum err registration_tx_release(struct store_tx *tx, const struct dps *d,
                                          const struct enr_row *enr, const struct reg_row *row);

/* Etags of this plane: base64 of a quoted, GUID-like text (dps-service-rest.md A4). */
#define DPS_ETAG_SIZE 57u
void dps_etag_text(uint64_t etag, char dst[DPS_ETAG_SIZE]);
/* 0: none of ours. */
uint64_t dps_etag_read(struct span text);

#endif
