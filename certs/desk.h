/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signing desk: where the keys of issuing CAs are made and used. A desk gives certificates for requests under a profile; no caller
 * ever holds a key. Two of them, which a caller cannot tell apart:
 *
 *   desk_local_new   in this process: keys sealed under this process's keyring, or in a token or TPM that it reaches
 *   desk_far_new     behind a wall: a `berth-signer` at a Unix socket, another process of another user (threat S5). It has its own master
 *                    key, its own limits, quota and log, and believes nothing that a caller says of itself
 *
 * A sealed key opens only at the desk that sealed it; its text lies with the caller, to whom it says nothing.
 *
 * Ownership   what a call returns is the caller's to end (desk_made_done, cert_free). A desk outlives its calls.
 * Threads     any, several at once; calls block (a token takes 100 ms): never on a loop.
 * Errors      E_CERT, E_MALFORMED, E_TOO_LARGE the request does not fit; E_AGAIN the key, or the desk itself, does not answer now; E_LIMIT
 *             its quota is used up; E_CONFIG, E_PERM somebody must act: the key is not the CA's, or does not open here; E_EXPIRED.
 * Limits      LIMIT_ISSUING_CAS keys kept open.
 * Spec        docs/protocol/dps-device.md 10; docs/operations.md "Issuing certificates"; threats C8, S5.
 */
#ifndef CERTS_DESK_H
#define CERTS_DESK_H

#include "certs/keyring.h"
#include "certs/signer_hard.h"

enum desk_kind { DESK_SEALED, DESK_PKCS11, DESK_TPM, DESK_KINDS };
struct desk_key {
    enum desk_kind kind;
    struct span name;   /* of the CA, without case: a sealed key is bound to it */
    struct span source; /* what desk_make returned; PKCS#11 URI; handle or PEM of a TPM's key */
};
struct desk;
MUST_USE enum err desk_local_new(const struct keyring *keyring, const char *pkcs11_module,
                                 const char *pkcs11_pin_file, struct desk **ret);
/* Connects with the first call, and again whenever the other side went away. */
MUST_USE enum err desk_far_new(const char *socket_path, struct desk **ret);
void desk_free(struct desk *d);
AUTO_FREE_FN(struct desk, desk_free)

/* A key for a CA: made here (DESK_SEALED without a source), or taken where it is; its request, and a root of its own. */
struct desk_make {
    struct desk_key key;
    enum key_type type; /* of one that is made */
    struct span cn, organization;
    bool is_self_signed;
    int64_t not_before_us, not_after_us; /* of the root */
};
struct desk_made {
    struct buf source; /* sealed; empty unless a key was made */
    struct buf csr;    /* DER */
    struct buf root;   /* DER; empty unless self-signed */
};
void desk_made_done(struct desk_made *m);
MUST_USE enum err desk_make(struct desk *d, const struct desk_make *rq, struct desk_made *ret,
                            struct err_info *info);

/* rq.profile is PROFILE_DEVICE: a desk signs nothing else with a CA's key. */
struct desk_issue {
    struct desk_key key;
    const struct cert *ca;
    struct span csr;         /* DER */
    const struct csr *known; /* the same, read already; or NULL */
    struct cert_request rq;
};
MUST_USE enum err desk_issue(struct desk *d, const struct desk_issue *rq, struct cert **ret,
                             struct err_info *info);

#endif
