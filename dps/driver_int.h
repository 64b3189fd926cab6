/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the driver: a job is one open operation in memory, a step is one thing that it waits for outside. Adding a step is adding
 * a bit to enum reg_step (their order is the order of work) and a row to steps[] in dps/driver.c.
 *
 *   begin(j) --> exactly one of: job_send or job_bundle (its answer comes to on_answer, which ends the same way), job_commit, job_skip, job_wait,
 *                job_fail, job_assigned, job_drop; or work of its own that ends so later, on the worker's loop
 *
 * A step may be begun again after anything: what it asks of others must be idempotent. Between begin and its end the step holds one of
 * DRIVER_CALLS.
 *
 * Ownership   the job is the driver's. row, more and what begin puts into j->arena live until the step's end is committed.
 * Threads     the worker's; a job_commit function runs on the writer.
 */
#ifndef DPS_DRIVER_INT_H
#define DPS_DRIVER_INT_H

#include "base/map.h"
#include "dps/driver.h"
#include "dps/registration.h"
#include "dps/snapshot.h"

#define JOB_ARENA (2u << 20)
#define JOB_BODY (512u << 10) /* a whole twin with its text, twice */

struct job;
typedef void (*job_fn)(struct job *j);
struct step {
    unsigned bit; /* enum reg_step */
    const char *name;
    job_fn begin;
};

struct job {
    struct msg msg; /* on its way to the owner */
    struct driver *d;
    struct map_node node;
    struct list link;
    struct arena arena;
    char op_id[OPERATION_ID_SIZE];
    struct reg_row row;      /* in the arena */
    const struct step *step; /* that was begun */
    unsigned attempts;       /* of this step */
    unsigned is_calling;     /* 1: counted in n_calls */
    bool is_alone;           /* of a bundle that was refused: dps/bundle.h */
    bool may_be_made; /* a request to create is or was at the hub, nobody knows with what end */
    struct timer retry;
    uint64_t begun_ms;
    /* the store operation: the outcome when it ends, else a step's result */
    bool is_storing, ends;
    struct reg_outcome outcome;
    struct reg_done done;
    struct arena out;
    struct reg_row now; /* in out */
    /* the call */
    struct egress_rq rq;
    job_fn on_answer;
    const char *headers[3];
    char *token, *header; /* heap; header: one more line, or NULL */
    struct buf url, body;
    bool allow_http;
    struct asked *ask; /* dps/step_ask.c */
    struct buf result; /* of the step, for its commit function */
    void *own;         /* of the step, in arena; for the same */
    struct store_op op;
};

/* --- ends of a step ------------------------------------------------------------------------------- */
/* Its bit is cleared and fn (NULL is fine) puts the result into the row, in one transaction; then the next step. */
void job_commit(struct job *j, registration_step_fn fn);
/* Nothing to keep: the next step. */
void job_skip(struct job *j);
/* Begun again after a jittered back-off. */
void job_wait(struct job *j);
/* The operation failed for good. */
void job_fail(struct job *j, enum rule rule, const char *text);
/* Same, and the device hears it though its hub may hold it frozen still. RULE_OK: for the reason that stands. */
void job_fail_now(struct job *j, enum rule rule, const char *text);
/* STEP_THAW is done. */
void job_settled(struct job *j);
/* Our own failure: logged, and begun again. */
void job_stuck(struct job *j, enum err e);
void job_assigned(struct job *j, struct span owner);
/* The enrollment is gone, and the record with it. */
void job_drop(struct job *j);

/* --- the call ----------------------------------------------------------------------------------------- */
/* url (with its final zero), body and token (NULL: none) are filled. on_answer looks at j->rq and ends the step, or sends again. When
 * the request cannot be sent now, the step is begun again later. */
void job_send(struct job *j, unsigned pool, const char *method, uint64_t timeout_ms,
              job_fn on_answer);
/* The call is home and the step sends another: url, body and token are empty again, and the answer is gone. */
void job_forget_call(struct job *j);
/* The same for the PUT of a device, whose body alone is filled: it may share its request with others (dps/bundle.h). */
void job_bundle(struct job *j, job_fn on_answer);
/* Calls are over: the next are begun. */
void driver_go_on(struct driver *d);
struct dps_worker *job_worker(const struct job *j);
struct loop *job_loop(const struct job *j);
/* The enrollment, into a. E_NOT_FOUND: answer with job_drop. */
MUST_USE enum err job_enrollment(struct job *j, struct arena *a, struct enr_row *ret);

/* --- steps: dps/step_*.c --------------------------------------------------------------------------- */
void step_ask(struct job *j);
void step_probe(struct job *j);
void step_freeze(struct job *j);
void step_twin(struct job *j);
void step_issue(struct job *j);
void step_create(struct job *j);
void step_thaw(struct job *j);
/* The hub that the step asks. */
struct span step_hub_name(const struct job *j);
/* Will the same request, later, find another answer? */
bool step_is_transient(const struct egress_rq *rq);
/* The hub is there, and has no such device. */
bool step_is_no_device(const struct egress_rq *rq);

#endif
