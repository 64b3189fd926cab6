/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/signer_pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/crypto_lib.h"

struct signer_pool {
    pthread_mutex_t lock; /* of all below; held for pointers only, never while signing */
    pthread_cond_t work;
    struct list waiting;
    size_t n_waiting;
    bool is_ending;
    size_t n_threads;
    pthread_t thread[LIMIT_SIGNER_THREADS];
};

/* lib is the thread's. */
static void run_job(struct signer_job *j, struct crypto_lib **lib)
{
    j->info = (struct err_info){.err = OK};
    j->err = *lib == NULL ? crypto_lib_new(lib, &j->info) : OK;
    j->lib = *lib;
    if (j->err == OK && j->work != NULL) {
        j->err = j->work(j, &j->info);
    } else if (j->err == OK) {
        j->err = signer_issue_now(j->key, j->issuer, j->subject_csr, j->subject_key, &j->rq,
                                  &j->cert, &j->info);
    }
    mailbox_post(j->home, &j->done); /* from here on it is home's */
}

static struct signer_job *next_job(struct signer_pool *p)
{
    struct signer_job *j = NULL;
    (void)pthread_mutex_lock(&p->lock);
    while (list_empty(&p->waiting) && !p->is_ending) {
        (void)pthread_cond_wait(&p->work, &p->lock);
    }
    if (!p->is_ending) {
        j = LIST_OF(list_pop(&p->waiting), struct signer_job, waiting);
        p->n_waiting--;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return j;
}

static void *thread_main(void *arg)
{
    AUTO(crypto_lib_unref_p) struct crypto_lib *lib = NULL;
    struct signer_job *j;
    while ((j = next_job(arg)) != NULL) {
        run_job(j, &lib);
    }
    if (lib != NULL) {
        crypto_lib_thread_end(lib);
    }
    return NULL;
}

/* Signals are the main thread's. */
static enum err start_threads(struct signer_pool *p, size_t n, struct err_info *info)
{
    sigset_t all, before;
    int rc = 0;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && p->n_threads < n) {
        rc = pthread_create(&p->thread[p->n_threads], NULL, thread_main, p);
        p->n_threads += rc == 0 ? 1 : 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? OK : err_set_errno(info, rc, "could not start a signing thread");
}

enum err signer_pool_new(size_t n_threads, struct signer_pool **ret, struct err_info *info)
{
    ASSERT(n_threads >= 1 && n_threads <= LIMIT_SIGNER_THREADS);
    struct signer_pool *p = NEW(struct signer_pool);
    if (p == NULL) {
        return err_set(info, E_NOMEM, "signer: out of memory");
    }
    (void)pthread_mutex_init(&p->lock, NULL); /* neither can fail with default attributes */
    (void)pthread_cond_init(&p->work, NULL);
    list_init(&p->waiting);
    enum err e = start_threads(p, n_threads, info);
    if (e != OK) {
        signer_pool_free(p);
        return e;
    }
    *ret = p;
    return OK;
}

void signer_pool_free(struct signer_pool *p)
{
    struct list *n;
    if (p == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&p->lock);
    p->is_ending = true;
    (void)pthread_cond_broadcast(&p->work);
    (void)pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->n_threads; i++) {
        (void)pthread_join(p->thread[i], NULL);
    }
    while ((n = list_pop(&p->waiting)) != NULL) {
        struct signer_job *j = LIST_OF(n, struct signer_job, waiting);
        j->err = err_set(&j->info, E_DRAINING, "the signer is ending");
        mailbox_post(j->home, &j->done);
    }
    (void)pthread_cond_destroy(&p->work);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

enum err signer_begin(struct signer_pool *p, struct signer_job *job)
{
    enum err e = OK;
    ASSERT(job->done.run != NULL && job->home != NULL && (job->work != NULL || job->key != NULL));
    job->cert = NULL;
    (void)pthread_mutex_lock(&p->lock);
    if (p->is_ending) {
        e = E_DRAINING;
    } else if (p->n_waiting >= LIMIT_SIGNER_QUEUE) {
        e = E_QUEUE_FULL;
    } else {
        list_add_tail(&p->waiting, &job->waiting);
        p->n_waiting++;
        (void)pthread_cond_signal(&p->work);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return e;
}

enum err signer_finish(struct signer_job *job, struct cert **ret, struct err_info *info)
{
    if (job->err != OK) {
        return err_set(info, job->err, "%s", err_why(&job->info, job->err));
    }
    ASSERT(job->cert != NULL || job->work != NULL);
    *ret = TAKE(job->cert);
    return OK;
}
