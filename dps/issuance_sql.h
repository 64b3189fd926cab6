/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed functions over dps/sql.def for what concerns issued certificates. No rules here.
 *
 * Ownership   what is read is copied into the arena given, or borrowed for the call of fn; what is written is borrowed for the call.
 * Threads     that of the struct db.
 * Errors      E_NOT_FOUND for a key that is not there, E_NOMEM over the arena's cap, else as store/store.h.
 */
#ifndef DPS_ISSUANCE_SQL_H
#define DPS_ISSUANCE_SQL_H

#include "certs/desk.h"
#include "dps/dps_sql.h"

struct issuer_row {
    int64_t id;
    struct span name, fold;
    uint64_t etag;
    enum desk_kind kind;
    struct span source; /* sealed PKCS#8; URI; handle or PEM */
    struct span csr;    /* DER */
    struct span chain;  /* DER, one behind the other; empty: waits */
    int64_t created_us, updated_us;
};
MUST_USE enum err sql_issuer_get(struct db *db, struct arena *a, struct span fold,
                                 struct issuer_row *ret);
/* All, by fold; ret has LIMIT_ISSUING_CAS places. */
MUST_USE enum err sql_issuer_all(struct db *db, struct arena *a, struct issuer_row *ret,
                                 size_t *ret_n);
MUST_USE enum err sql_issuer_count(struct db *db, int64_t *ret);
/* id 0: inserts and sets it. */
MUST_USE enum err sql_issuer_put(struct db *db, struct issuer_row *row);
MUST_USE enum err sql_issuer_del(struct db *db, int64_t id);

/* One line of the issuance log. */
struct issued_row {
    int64_t id;
    struct span serial; /* hex, upper case */
    struct span subject;
    struct span ca; /* its name at that time */
    int64_t not_before_us, not_after_us;
    struct span sha256;
    struct span fold; /* registration */
    struct span op_id;
    int64_t at_us;
};
MUST_USE enum err sql_issued_add(struct db *db, const struct issued_row *row);
typedef enum err (*sql_issued_fn)(void *arg, const struct issued_row *row);
/* In order of id, from `from`; of one registration when fold is not empty. The error of fn ends it and is returned. */
MUST_USE enum err sql_issued_page(struct db *db, int64_t from, struct span fold, uint64_t limit,
                                  sql_issued_fn fn, void *arg);

/* The credential that a device was told. */
struct credential_row {
    uint8_t sha256[32];
    int64_t not_after_us;
};
MUST_USE enum err sql_credential_get(struct db *db, struct span fold, struct credential_row *ret);
MUST_USE enum err sql_credential_put(struct db *db, struct span fold,
                                     const struct credential_row *row);
MUST_USE enum err sql_credential_del(struct db *db, struct span fold);

#endif
