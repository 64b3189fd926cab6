/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every resource of the administration plane shares: etags, If-Match, bodies, lists, and the way of a write from its
 * request to the writer, the audit trail and the answer. Used by server/ for certificates and policies and by the programs for
 * their own resources (linked hubs, settings).
 *
 * A route has auth AUTH_ADMIN and a handler:
 *
 *   reading   admin_item_begin / admin_list_begin ... admin_answer_json
 *   writing   read the body (admin_body) -> admin_op_new -> fill it -> admin_submit
 *             writer: op->tx(tx, op), then the audit line in the same savepoint; home: op->answer(rq, op); op->done(op)
 *
 * Ownership   struct admin_op is the first member of the caller's struct; from admin_submit on it belongs to the server, which
 *             calls done (end what the struct owns, not the struct itself) exactly once and frees it. A failed admin_submit has
 *             already answered and freed.
 * Threads     handlers, answer, done: the worker's. tx: the writer; sees only its op and the transaction, may run twice.
 * Errors      go through the program's refuse face. What it must make of them on AUTH_ADMIN routes (dps-service-rest.md C, D):
 *               E_VERSION 400001 · E_STATE 400003 · E_ARG, E_CERT, E_ID, E_LIMIT, E_MALFORMED 400004 (info has the text) · E_ARG_NULL 400005
 *               E_JSON 400006 · E_UNAUTHORIZED 401002 · E_NOT_FOUND 404000 · E_METHOD 405000 · E_EXISTS, E_CONFLICT 409000
 *               E_ETAG, E_ETAG_MISSING 412001 · E_TOO_LARGE 413000 · E_BUSY, E_DRAINING, E_UNKNOWN 503
 * Audit       every write by an authorised caller leaves a line, the refused too (result is the error's name).
 * Spec        docs/protocol/dps-service-rest.md C1.
 */
#ifndef SERVER_ADMIN_H
#define SERVER_ADMIN_H

#include "server/authn.h"
#include "wire/json.h"

/* Who calls (set by the server before the handler runs). */
const struct caller *admin_caller(struct http_rq *rq);

/* --- etags ---------------------------------------------------------------------------------- */
#define ADMIN_ETAG_SIZE 13u /* base64 of 8 bytes, and a zero */
void admin_etag_text(uint64_t etag, char dst[ADMIN_ETAG_SIZE]);
/* The next number of the instance's own counter: never used twice. On the writer. */
MUST_USE enum err admin_tx_next(struct store_tx *tx, uint64_t *ret);

/* If-Match as sent: quoted, W/, bare, "*"; absent or empty is ADMIN_MATCH_NONE. */
enum admin_match_kind { ADMIN_MATCH_NONE, ADMIN_MATCH_ANY, ADMIN_MATCH_ETAG };
struct admin_match {
    enum admin_match_kind kind;
    uint64_t etag; /* a text that is no etag of ours matches nothing (0) */
};
struct admin_match admin_match_read(const struct http_rq *rq);
/* PUT: none creates (E_EXISTS when there), else updates (E_NOT_FOUND, E_ETAG). */
MUST_USE enum err admin_match_put(const struct admin_match *m, bool exists, uint64_t etag);
/* DELETE and POST that changes state: E_NOT_FOUND, E_ETAG_MISSING, E_ETAG. */
MUST_USE enum err admin_match_change(const struct admin_match *m, bool exists, uint64_t etag);

/* --- bodies --------------------------------------------------------------------------------- */
/* The body as an object whose members are all among `members` (NULL-terminated); refuses rq itself (E_JSON, E_ARG names the
 * unknown member) and returns false. may_be_empty: no body at all is an empty object. Caller frees. */
bool admin_body(struct http_rq *rq, const char *const *members, bool may_be_empty,
                struct json **ret);
/* The same check for a nested object: E_ARG with "path.name". */
MUST_USE enum err admin_members(const struct json *object, const char *path,
                                const char *const *members, struct err_info *info);
/* The i-th path parameter as a resource name (id_admin_name_ok); refuses rq itself and returns false when it is none. */
bool admin_name(struct http_rq *rq, unsigned i, struct span *ret);

/* --- answers -------------------------------------------------------------------------------- */
/* Answers through the program's face; on a write by an authorised caller the audit trail gets a line. */
void admin_refuse(struct http_rq *rq, enum err e, const struct err_info *info);
/* 200/201 with application/json and the ETag header (etag 0: none). location: NULL, or for a 201. */
void admin_answer_json(struct http_rq *rq, unsigned status, uint64_t etag, const char *location,
                       struct span json);
void admin_answer_none(struct http_rq *rq); /* 204 */

/* Lists: {"value":[...],"nextLink":null}; top 1..1000, skip. Items come sorted by name from the caller. */
struct admin_page {
    uint64_t top, skip;
};
/* Refuses rq itself and returns false on a bad top or skip. */
bool admin_page_read(struct http_rq *rq, struct admin_page *ret);
struct admin_list {
    struct buf *b;
    struct admin_page page;
    uint64_t seen, shown;
};
void admin_list_begin(struct admin_list *l, struct buf *b, const struct admin_page *page);
/* For each item: true when it is on the page; then append its JSON to b (the comma is there). */
bool admin_list_next(struct admin_list *l);
/* Ends the list and answers with it; e: what went wrong while it was filled. */
void admin_list_answer(struct http_rq *rq, struct admin_list *l, enum err e);

/* --- writes --------------------------------------------------------------------------------- */
struct admin_op {
    struct store_op op; /* the server's */
    /* Filled by the caller between admin_op_new and admin_submit. */
    enum err (*tx)(struct store_tx *tx, struct admin_op *op);
    void (*answer)(struct http_rq *rq, struct admin_op *op); /* the tx succeeded and is on disk */
    void (*done)(struct admin_op *op);                       /* may be NULL */
    /* Notices after the commit go by store_tx_notify from tx. */
    struct admin_match match; /* read from the request by admin_op_new */
    struct err_info info;     /* why tx refused */
    /* Set by a tx that returns OK: commit what was written, but answer (and audit) this refusal. */
    enum err refusal;
    uint64_t etag;  /* free for the caller: the new etag */
    bool created;   /* free for the caller */
    bool is_urgent; /* uses the disk reserve: revoking must still work */
    /* the server's */
    struct worker *w;
    handle rq;
    char *who, *from, *act;
};
/* Zeroed memory of `size` bytes that begins with a struct admin_op; NULL: rq has been refused already. */
void *admin_op_new(struct http_rq *rq, size_t size);
void admin_submit(struct http_rq *rq, struct admin_op *op);
/* The answer of a DELETE: 204. */
void admin_answer_deleted(struct http_rq *rq, struct admin_op *op);
/* A DELETE: tx is submitted, 204 answered, and the disk reserve may be used. op NULL: rq has been refused already. */
void admin_submit_delete(struct http_rq *rq, struct admin_op *op,
                         enum err (*tx)(struct store_tx *tx, struct admin_op *op));
/* admin_body for a write: false also when op is NULL (rq has been refused); op is forgotten when it returns false. */
bool admin_op_body(struct http_rq *rq, struct admin_op *op, const char *const *members,
                   bool may_be_empty, struct json **ret);
/* For one that was made and shall not be submitted after all (the body was bad): refuses rq and frees. */
void admin_op_drop(struct http_rq *rq, struct admin_op *op, enum err e,
                   const struct err_info *info);
/* Same, when rq has been answered already (by admin_body and the like). */
void admin_op_forget(struct admin_op *op);

#endif
