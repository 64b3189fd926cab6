/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of struct server and struct worker, for the files of this folder only; programs use server.h.
 *
 * Threads     struct server: fields without a remark are written by main before the workers start and only read afterwards.
 *             struct worker: its own thread, but for `casts` (mailbox), the atomics and what main reads after joining.
 */
#ifndef SERVER_SERVER_INT_H
#define SERVER_SERVER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/metrics.h"
#include "server/server.h"

#define SERVER_MAX_LISTEN 16u /* addresses of the option listen */
#define SERVER_MAX_NAMES 32u
#define SERVER_MAX_WORKERS 64u
#define SERVER_MAX_METRICS 256u
#define SERVER_MAX_EXTRA 8u
#define MAIN_LOOP_INDEX 255u

struct options {
    char *config; /* --config; NULL: the program's default, if it is there */
    char *data_dir;
    char **set; /* borrowed from argv */
    size_t n_set;
    int ready_fd; /* -1: none */
    char *backup; /* folder to make; NULL: no */
    bool init, check_config, dump_config, restored;
};

struct policy_set;
struct trust_set;
struct metrics;

/* What a worker tells about itself once a second, read by main. */
struct worker_stats {
    _Atomic uint64_t turned_ms; /* heartbeat: mono time of the last tick */
    _Atomic uint64_t http_requests, http_refused, http_open, http_bad_heads, http_timeouts;
    _Atomic uint64_t http_status[6];
    _Atomic uint64_t accepted, handshake_ok, handshake_failed, handshake_timeout, refused_budget;
    _Atomic uint64_t conns_open, conns_unauthenticated, conns_waiting;
    _Atomic uint64_t timers;
};

enum worker_phase { WORKER_STARTING, WORKER_RUNNING, WORKER_FAILED };

struct worker {
    struct server *s;
    unsigned index;
    pthread_t thread;
    bool has_thread;
    struct loop *loop;
    struct db *db;
    struct http_server *http;
    struct listener *listeners[2 * SERVER_MAX_LISTEN];
    size_t n_listeners;
    struct policy_set *policies;
    struct trust_set *trust;
    struct crypto_lib *crypto; /* of its TLS and of the certificates that it judges */
    uint64_t told_policy_epoch, told_trust_epoch; /* what the program's hooks have heard */
    struct timer tick;
    struct timer drain_poll;
    uint64_t drain_deadline_ms;
    uint64_t drain_http_ms;
    bool http_drained;
    bool is_ending;        /* new streams are refused */
    _Atomic bool is_idle;  /* while draining: nothing is under way here any more */
    struct msg change_msg; /* policies or trust changed; posted at most once at a time */
    _Atomic bool change_posted;
    unsigned pending_ops;   /* admin writes under way */
    struct msg control_msg; /* drain, ready, stop: one after the other, main waits between them */
    _Atomic int64_t *counters; /* SERVER_MAX_METRICS, on cache lines of its own */
    struct worker_stats stats;
    void *user;
    /* Start and reload: guarded by server.lock. */
    enum worker_phase phase;
    enum err start_err;
    struct err_info start_info;
    struct tls_ctx *tls;
    struct tls_ctx *new_tls; /* during a reload */
};

struct server {
    const struct server_program *program;
    const struct clock *clock;
    struct options opt;
    struct conf_row *rows;
    size_t n_rows;
    char *config_path; /* NULL: defaults only */
    _Atomic(void *) conf;
    char *names[SERVER_MAX_NAMES];
    size_t n_names;
    char *listen[SERVER_MAX_LISTEN];
    size_t n_listen;
    int lock_fd;
    struct keyring *keyring;
    struct store *store;
    struct egress *egress;
    struct http_route *routes;
    size_t n_routes;
    struct verdicts *verdicts; /* on chains, of all workers */
    struct worker **workers;
    unsigned n_workers;
    void *user;
    pthread_mutex_t
        lock; /* start of workers, waiting for operations; nothing else is taken inside */
    pthread_cond_t changed;
    unsigned barrier_left;              /* guarded by lock */
    const struct server_conf *new_conf; /* during a reload */

    _Atomic bool is_ready, is_draining, is_stopping;
    _Atomic uint64_t policy_epoch, trust_epoch;
    _Atomic int64_t token_floor_s;
    _Atomic bool clock_is_steady, clock_is_watched;
    _Atomic int64_t clock_seen_ms;    /* wall minus monotonic clock, at the last look */
    _Atomic int64_t clock_trusted_ms; /* the same when it was steady last */

    /* main's loop */
    struct loop *loop;
    int signal_fd;
    struct watch signal_watch;
    struct timer clock_timer, watchdog_timer, drain_timer;
    uint64_t watchdog_ms;
    uint64_t drain_deadline_ms;
    struct metrics *metrics;
    struct clock_watch *clock_watch;
    struct expiry_watch *expiry;
};

/* --- server.c ------------------------------------------------------------------------------- */
/* Runs one write from main and waits for it. Never on a loop of a worker. */
MUST_USE enum err server_write_now(struct server *s, struct store_op *op);
/* Waits until every worker has run all that was posted to it before. Main only. */
void server_barrier(struct server *s);

/* --- server_opts.c -------------------------------------------------------------------------- */
/* E_AGAIN: --help or --version was answered, exit 0. E_ARG: told on standard error, exit 2. */
MUST_USE enum err options_read(const struct server_program *p, int argc, char **argv,
                               struct options *ret);
void options_done(struct options *o);

/* --- server_conf.c -------------------------------------------------------------------------- */
MUST_USE enum err server_rows_new(const struct server_program *p, struct conf_row **ret,
                                  size_t *ret_n);
/* File, then --set, then --data-dir; checked as far as it can be without touching the world. ret is heap. */
MUST_USE enum err server_conf_read(struct server *s, void **ret, struct err_info *info);
void server_conf_free(struct server *s, void *conf);
/* Names and listen addresses of conf into s. */
MUST_USE enum err server_conf_split(struct server *s, const struct server_conf *c,
                                    struct err_info *info);
unsigned server_conf_workers(const struct server_conf *c);
/* SIGHUP. */
void server_reload(struct server *s);

/* --- policy_tx.c ---------------------------------------------------------------------------- */
struct policy_row;
/* Inserts the row with both keys sealed and numbered; sets id, etag, generations. */
MUST_USE enum err policy_tx_insert(struct store_tx *tx, const struct keyring *k,
                                   struct policy_row *row, const struct secret key[2]);
/* Seals a new key into row and numbers it; the row must have its id. */
MUST_USE enum err policy_tx_set_key(struct store_tx *tx, const struct keyring *k,
                                    struct policy_row *row, unsigned which,
                                    const struct secret *key);
/* After the commit: the epoch grows and every worker hears of it. */
MUST_USE enum err policy_tx_changed(struct store_tx *tx, struct server *s);
MUST_USE enum err trust_tx_changed(struct store_tx *tx, struct server *s);

/* --- server_init.c -------------------------------------------------------------------------- */
MUST_USE enum err server_init_instance(struct server *s, bool *ret_made, struct err_info *info);

/* --- server_life.c -------------------------------------------------------------------------- */
/* Folder, lock, master key, database. */
MUST_USE enum err server_open_data(struct server *s, bool create, struct err_info *info);
void server_close_data(struct server *s);
MUST_USE enum err server_life_run(struct server *s, struct err_info *info);

/* --- worker.c ------------------------------------------------------------------------------- */
MUST_USE enum err workers_start(struct server *s, struct err_info *info);
/* Worker's thread: stops accepting; the last figures are kept. */
void worker_close_listeners(struct worker *w);

/* --- worker_steps.c ------------------------------------------------------------------------- */
void workers_ready(struct server *s);
/* Listeners of every worker; by workers_start, when all are set up. */
MUST_USE enum err workers_listen(struct server *s, struct err_info *info);
void workers_drain(struct server *s, uint64_t deadline_ms);
bool workers_idle(const struct server *s);
/* Ends their threads and what they hold. */
void workers_stop(struct server *s);
/* Ends a stream that nobody has taken. */
void server_refuse_stream(struct stream *st, enum err why);
/* Tells each worker that an epoch has grown. Any thread; never allocates. */
void workers_tell_change(struct server *s);
/* Every worker makes a TLS context of c; all are taken, or none. */
MUST_USE enum err workers_reload_tls(struct server *s, const struct server_conf *c,
                                     struct err_info *info);
/* Worker's thread. ret stays as it is when nothing is served by TLS. */
MUST_USE enum err worker_listen(struct worker *w, struct err_info *info);
MUST_USE enum err worker_make_tls(struct worker *w, const struct server_conf *c,
                                  struct tls_ctx **ret, struct err_info *info);

/* --- metrics.c ------------------------------------------------------------------------------ */
MUST_USE enum err metrics_new(struct server *s, struct metrics **ret);
void metrics_free(struct metrics *m);
MUST_USE enum err metrics_listen(struct server *s, struct err_info *info);
/* "host:port" as bound; empty when off. */
const char *metrics_address(const struct server *s);
void metrics_stop(struct server *s);
void worker_publish_stats(struct worker *w);

/* --- clockwatch.c --------------------------------------------------------------------------- */
MUST_USE enum err clock_watch_start(struct server *s, struct err_info *info);
void clock_watch_stop(struct server *s);
void clock_watch_free(struct server *s); /* the store is closed, main's mailbox was run */
/* An administrator says that the clock is right. Any thread. */
void clock_watch_accept(struct server *s);

/* --- expiry.c ------------------------------------------------------------------------------- */
MUST_USE enum err expiry_start(struct server *s);
void expiry_stop(struct server *s);
void expiry_free(struct server *s); /* as clock_watch_free */
void expiry_metrics(struct server *s, struct buf *b);

/* --- routes of the administration plane ------------------------------------------------------- */
extern const struct http_route admin_cert_routes[];
extern const size_t n_admin_cert_routes;
extern const struct http_route admin_policy_routes[];
extern const size_t n_admin_policy_routes;
extern const struct http_route admin_audit_routes[];
extern const size_t n_admin_audit_routes;
extern const struct http_route admin_clock_routes[];
extern const size_t n_admin_clock_routes;
/* Judges an AUTH_ADMIN request. */
MUST_USE enum err admin_admit(struct http_rq *rq, struct err_info *info);

/* --- per worker snapshots ---------------------------------------------------------------------- */
void policy_set_free(struct policy_set *p);
void trust_set_free(struct trust_set *t);

/* --- server_backup.c --- */
/* dir must not exist. */
MUST_USE enum err server_backup(struct server *s, const char *dir, struct err_info *info);
/* E_CONFIG: the registry is a backup, and --restored was not said. Before the store is opened. */
MUST_USE enum err server_backup_gate(struct server *s, const char *db_path, struct err_info *info);

#endif
