/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signing for servers: begun on a loop, done on a small pool, come home through the loop's mailbox,
 * because a key in hardware takes 100 ms and one in a file a millisecond that the loop would miss.
 *
 *   idle --signer_begin--> waiting --a thread--> done, home --signer_finish--> idle
 *                             \--signer_pool_free--> home with E_DRAINING
 *
 * Ownership   the job, and all that it points to, is the caller's and stays put from begin until
 *             done.run has run on home's thread, which happens once for each begin that was OK.
 * Threads     signer_begin any; done.run and signer_finish home's; signer_pool_free one, while no
 *             other begins. Drain the mailboxes after it.
 * Errors      of begin: E_QUEUE_FULL, E_DRAINING. Of finish: those of signer_issue_now, E_DRAINING.
 * Limits      LIMIT_SIGNER_QUEUE waiting, LIMIT_SIGNER_THREADS.
 */
#ifndef CERTS_SIGNER_POOL_H
#define CERTS_SIGNER_POOL_H

#include "base/list.h"
#include "base/mailbox.h"
#include "certs/signer.h"

struct signer_job {
    /* the caller fills */
    struct msg done; /* done.run is called at home */
    struct mailbox *home;
    /* NULL: a certificate is issued from what follows. Else called on a thread of the pool instead: opening a key in hardware, or
     * making one, takes as long. Its error is the job's; it may leave a certificate in cert. */
    enum err (*work)(struct signer_job *job, struct err_info *info);
    const struct signer_key *key;
    const struct cert *issuer;            /* NULL: self-signed */
    const struct csr *subject_csr;        /* or NULL */
    const struct signer_key *subject_key; /* or NULL */
    struct cert_request rq;
    /* the pool's */
    struct crypto_lib
        *lib; /* the thread's own, for work: what is parsed there costs less (base/crypto_lib.h) */
    struct list waiting;
    struct cert *cert;
    enum err err;
    struct err_info info;
};

struct signer_pool;
MUST_USE enum err signer_pool_new(size_t n_threads, struct signer_pool **ret,
                                  struct err_info *info);
void signer_pool_free(struct signer_pool *p);
MUST_USE enum err signer_begin(struct signer_pool *p, struct signer_job *job);
/* The result, once; *ret NULL when a job's work left none. */
MUST_USE enum err signer_finish(struct signer_job *job, struct cert **ret, struct err_info *info);

#endif
