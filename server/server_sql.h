/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables that both servers share, and their only access: state numbers, policies, CA certificates, audit lines.
 *
 * Rows are copied out (small, bounded), so that no statement stays open behind them.
 * Ownership   struct ca_row holds its DER on the heap: ca_row_done. struct policy_row owns nothing.
 * Threads     of the struct db that is given.
 * Errors      E_NOT_FOUND when a row named by its key is absent; else those of store.h.
 * Limits      LIMIT_POLICIES and LIMIT_CA_CERTS rows.
 */
#ifndef SERVER_SERVER_SQL_H
#define SERVER_SERVER_SQL_H

#include "base/limits.h"
#include "certs/keyring.h"
#include "certs/proof.h"
#include "store/store.h"

extern const struct store_module server_store_module;

#define STATE_INITIALISED "initialised"
#define STATE_TOKEN_FLOOR "token_floor_s"
/* 0 when never set. */
MUST_USE enum err sql_state_get(struct db *db, const char *name, int64_t *ret);
MUST_USE enum err sql_state_set(struct db *db, const char *name, int64_t value);
MUST_USE enum err sql_counter_next(struct db *db, uint64_t *ret);

#define SEALED_KEY_MAX 128u /* a key of LIMIT_KEY_MAX bytes under its seal */
struct sealed_key {
    uint8_t b[SEALED_KEY_MAX];
    size_t n;
    uint64_t gen; /* of the key, never used again */
};
struct policy_row {
    int64_t id;
    char name[LIMIT_ADMIN_NAME + 1];
    uint32_t given; /* rights as they were given, without closure */
    uint64_t etag;
    struct sealed_key key[2];
};
MUST_USE enum err sql_policy_get(struct db *db, struct span name, struct policy_row *ret);
/* All, sorted by name; ret has LIMIT_POLICIES places. */
MUST_USE enum err sql_policy_all(struct db *db, struct policy_row *ret, size_t *ret_n);
MUST_USE enum err sql_policy_add(struct db *db, struct policy_row *row); /* sets row->id */
MUST_USE enum err sql_policy_set(struct db *db, const struct policy_row *row);
MUST_USE enum err sql_policy_del(struct db *db, int64_t id);
/* Where a policy's key is sealed: row is `id` in the caller's storage. */
struct seal_place sql_policy_place(const struct policy_row *row, unsigned which);

#define CA_CODE_SIZE PROOF_CODE_SIZE
struct ca_row {
    int64_t id;
    char name[LIMIT_ADMIN_NAME + 1];
    uint64_t etag;
    uint8_t *der;
    size_t der_n;
    bool is_verified;
    bool is_ek_root; /* of endorsement keys of TPMs; then never verified */
    int64_t created_us, updated_us;
    char code[CA_CODE_SIZE]; /* empty: none */
    int64_t code_until_us;
    int64_t code_failures;
};
void ca_row_done(struct ca_row *row);
MUST_USE enum err sql_ca_get(struct db *db, struct span name, struct ca_row *ret);
/* ret has LIMIT_CA_CERTS places; each is the caller's to end. */
MUST_USE enum err sql_ca_all(struct db *db, struct ca_row *ret, size_t *ret_n);
MUST_USE enum err sql_ca_count(struct db *db, int64_t *ret);
MUST_USE enum err sql_ca_add(struct db *db, const struct ca_row *row);
MUST_USE enum err sql_ca_set(struct db *db, const struct ca_row *row);
MUST_USE enum err sql_ca_del(struct db *db, int64_t id);
/* E_NOT_FOUND; E_STATE when it is not verified. */
MUST_USE enum err sql_ca_is_verified(struct db *db, struct span name);
/* E_NOT_FOUND; E_STATE when it is for devices. */
MUST_USE enum err sql_ca_is_ek_root(struct db *db, struct span name);

#define AUDIT_HASH 32u
/* seq 0 and zero bytes when there is none yet. */
MUST_USE enum err sql_audit_last(struct db *db, int64_t *ret_seq, uint8_t ret_hash[AUDIT_HASH]);
MUST_USE enum err sql_audit_add(struct db *db, int64_t seq, struct span line,
                                const uint8_t hash[AUDIT_HASH]);
/* Rows from seq on, at most limit; fn not OK ends and is returned. */
typedef enum err (*sql_audit_fn)(void *arg, int64_t seq, struct span line, struct span hash);
MUST_USE enum err sql_audit_each(struct db *db, int64_t from_seq, uint64_t limit, sql_audit_fn fn,
                                 void *arg);

#endif
