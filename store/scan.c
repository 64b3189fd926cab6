/* SPDX-License-Identifier: Apache-2.0 */
#include "store/scan.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/limits.h"
#include "store/db.h"
#include "store/lite.h"

/* Virtual machine steps between two looks at the clock: some ten microseconds. */
#define STEPS_PER_LOOK 2000

struct scanner {
    struct scan_pool *pool;
    struct db *db;
    uint64_t deadline_ms;
    pthread_t thread;
    bool started;
};

struct scan_pool {
    const struct clock *clock;
    pthread_mutex_t mu;
    pthread_cond_t work;
    pthread_cond_t idle;
    struct store_scan *head, **tail; /* from here on under mu */
    size_t n_waiting, n_running;
    bool draining, stopping;
    size_t n;
    struct scanner scanner[LIMIT_STORE_SCAN_THREADS];
};

static int is_late(void *arg)
{
    const struct scanner *s = arg;

    return clock_mono_ms(s->pool->clock) >= s->deadline_ms; /* not 0: SQLITE_INTERRUPT */
}

static enum err run_scan(struct scanner *s, struct store_scan *scan)
{
    enum err e;

    s->deadline_ms = scan->deadline_ms;
    if (is_late(s) != 0) {
        return E_TIMEOUT; /* waited too long */
    }
    if ((e = lite_exec(s->db->h, "BEGIN", NULL)) != OK) {
        return e;
    }
    sqlite3_progress_handler(s->db->h, STEPS_PER_LOOK, is_late, s);
    e = scan->run(s->db, scan);
    sqlite3_progress_handler(s->db->h, 0, NULL, NULL);
    if (sqlite3_get_autocommit(s->db->h) == 0) {
        (void)!lite_exec(s->db->h, "ROLLBACK",
                         NULL); /* of a reading transaction: nothing is lost */
    }
    return e;
}

static void finish_scan(struct store_scan *scan)
{
    if (scan->home != NULL) {
        mailbox_post(scan->home, &scan->msg);
    } else {
        scan->msg.run(&scan->msg);
    }
}

static void *scanner_main(void *arg)
{
    struct scanner *s = arg;
    struct scan_pool *p = s->pool;

    (void)pthread_mutex_lock(&p->mu);
    for (;;) {
        struct store_scan *scan = p->head;
        if (scan == NULL && p->stopping) {
            break;
        }
        if (scan == NULL) {
            (void)pthread_cond_wait(&p->work, &p->mu);
            continue;
        }
        p->head = scan->next;
        p->tail = p->head == NULL ? &p->head : p->tail;
        p->n_waiting--;
        p->n_running++;
        (void)pthread_mutex_unlock(&p->mu);
        scan->result = run_scan(s, scan);
        finish_scan(scan);
        (void)pthread_mutex_lock(&p->mu);
        p->n_running--;
        if (p->head == NULL && p->n_running == 0) {
            (void)pthread_cond_broadcast(&p->idle);
        }
    }
    (void)pthread_mutex_unlock(&p->mu);
    return NULL;
}

AUTO_FREE_FN(struct scan_pool, scan_pool_free)

enum err scan_pool_new(const struct store_config *cfg, struct scan_pool **ret,
                       struct err_info *info)
{
    AUTO(scan_pool_free_p) struct scan_pool *p = NULL;
    enum err e;

    if (cfg->scan_threads == 0 || cfg->scan_threads > LIMIT_STORE_SCAN_THREADS) {
        return err_set(info, E_CONFIG, "scan threads: 1 to %u", LIMIT_STORE_SCAN_THREADS);
    }
    if ((p = NEW(struct scan_pool)) == NULL) {
        return err_set(info, E_NOMEM, "no memory for scan threads");
    }
    (void)pthread_mutex_init(&p->mu, NULL); /* cannot fail with default attributes */
    (void)pthread_cond_init(&p->work, NULL);
    (void)pthread_cond_init(&p->idle, NULL);
    p->clock = cfg->clock;
    p->tail = &p->head;
    for (unsigned i = 0; i < cfg->scan_threads; i++) {
        struct scanner *s = &p->scanner[p->n++];
        s->pool = p;
        if ((e = db_open_reader(cfg->path, cfg->vfs, cfg->modules, cfg->n_modules, &s->db, info)) !=
            OK) {
            return e;
        }
        if ((e = lite_thread_start(&s->thread, "store-scan", scanner_main, s)) != OK) {
            return err_set(info, e, "cannot start a scan thread");
        }
        s->started = true;
    }
    *ret = TAKE(p);
    return OK;
}

enum err scan_pool_add(struct scan_pool *p, struct store_scan *scan)
{
    enum err e = OK;

    scan->next = NULL;
    (void)pthread_mutex_lock(&p->mu);
    if (p->draining) {
        e = E_DRAINING;
    } else if (p->n_waiting >= LIMIT_STORE_SCANS) {
        e = E_BUSY;
    } else {
        *p->tail = scan;
        p->tail = &scan->next;
        p->n_waiting++;
        (void)pthread_cond_signal(&p->work);
    }
    (void)pthread_mutex_unlock(&p->mu);
    return e;
}

void scan_pool_drain(struct scan_pool *p)
{
    (void)pthread_mutex_lock(&p->mu);
    p->draining = true;
    while (p->head != NULL || p->n_running != 0) {
        (void)pthread_cond_wait(&p->idle, &p->mu);
    }
    (void)pthread_mutex_unlock(&p->mu);
}

void scan_pool_free(struct scan_pool *p)
{
    if (p == NULL) {
        return;
    }
    scan_pool_drain(p);
    (void)pthread_mutex_lock(&p->mu);
    p->stopping = true;
    (void)pthread_cond_broadcast(&p->work);
    (void)pthread_mutex_unlock(&p->mu);
    for (size_t i = 0; i < p->n; i++) {
        if (p->scanner[i].started) {
            (void)pthread_join(p->scanner[i].thread, NULL); /* cannot fail: it was started */
        }
        db_free(p->scanner[i].db);
    }
    (void)pthread_cond_destroy(&p->idle);
    (void)pthread_cond_destroy(&p->work);
    (void)pthread_mutex_destroy(&p->mu);
    free(p);
}
