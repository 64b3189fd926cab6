/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame that berth-dps and berth-hub share: command line, configuration, data folder, stores, worker
 * threads with their listeners, signals, readiness, drain, reload, metrics. A program is a struct
 * server_program and calls server_main().
 *
 * Threads     main: configuration, signals (signalfd). N workers: loop, listeners (SO_REUSEPORT), TLS context, HTTP server,
 *             reader of the registry database. The registry writer. One egress thread. A program may have more
 *             (the hub's log writer), started in init.
 * Life        start: lock the data folder, open stores, init(), workers, listeners, "ready" (sd_notify; --ready-fd writes
 *             one line "ready\n" and closes). SIGTERM/SIGINT: drain (stop listening, answer what is under way, close links
 *             over drain-seconds with jitter), flush stores, exit 0. SIGHUP: configuration and certificates are checked
 *             whole, then swapped; a bad file is refused with a log line and nothing changes.
 * Options     --config FILE --data-dir DIR --set section.name=value --init (makes names, master key, first policies, writes
 *             DATA/init.json 0600 and exits) --check-config --dump-config --ready-fd N --version --help; from tables.
 * Ownership   struct server lives from server_main's start to its end. Nothing is global: all hangs off it.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "base/conf.h"
#include "certs/keyring.h"
#include "net/conn.h"
#include "net/egress.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/ws.h"
#include "store/store.h"

struct server;
struct worker;
struct expiry_list;

/* What every server configures; a program's own struct begins with it. */
struct server_conf {
    char *data_dir;
    char *
        names; /* host names and addresses of this instance, comma separated; the first is the name told to others */
    char *listen;                    /* addresses, comma separated */
    uint64_t https_port, mqtts_port; /* 443, 8883; 0 switches off */
    char *tls_cert, *tls_key;
    char *egress_ca;       /* CA file for outgoing HTTPS; NULL: the system's */
    bool private_webhooks; /* may reach loopback, link-local and private addresses (threat E1) */
    uint64_t workers;      /* 0: one per core */
    char *
        metrics_listen; /* "127.0.0.1:9100"; port 0: any, told in ready line and status file; empty: off */
    char *log_level, *log_format;
    uint64_t drain_s;
    uint64_t disk_reserve;
    uint64_t max_connections, max_unauthenticated, max_unauthenticated_per_source;
    uint64_t token_skew_s;
    bool
        allow_auto_verify; /* "isVerified": true in a PUT of a CA certificate skips the proof (C2 rule 6) */
    uint64_t certificate_warning_days; /* server/expiry.h */
};
/* The rows of server_conf, for the program's table (offsets from its start). */
extern const struct conf_row server_conf_rows[];
extern const size_t n_server_conf_rows;

struct right_def {
    const char *name; /* "RegistryWrite" */
    uint32_t bit;
    uint32_t implies; /* bits that come with it */
    bool hidden;      /* not shown in the text form */
};
struct policy_def { /* made by --init */
    const char *name;
    const char *rights;
};

/* How a route authenticates (http_route.auth). AUTH_NONE and AUTH_ADMIN are judged by the server itself; AUTH_SERVICE and
 * AUTH_DEVICE (and what a program adds from AUTH_PROGRAM up) by the program's admit hook. AUTH_ADMIN: api-version
 * SERVER_ADMIN_VERSION and a policy with the program's admin_right; the handler uses server/admin.h. */
enum server_auth { AUTH_NONE, AUTH_SERVICE, AUTH_ADMIN, AUTH_DEVICE, AUTH_PROGRAM };
#define SERVER_ADMIN_VERSION "2026-11-01-berth"

struct server_program {
    const char *name; /* "berth-hub" */
    const char *config_path;
    const char *default_data_dir;
    const struct conf_row *rows; /* own rows; server_conf_rows are added */
    size_t n_rows;
    size_t conf_size; /* of the program's struct, which begins with struct server_conf */
    const struct store_module *module; /* own tables, slot 1 (server's own is slot 0) */
    const struct right_def *rights;
    size_t n_rights;
    uint32_t admin_right; /* bit that opens /admin */
    const struct policy_def *policies;
    size_t n_policies;
    const struct http_route *routes; /* own; the admin plane's are added */
    size_t n_routes;
    /* The error face: answers rq for e (JSON body of the program's form, x-ms-request-id, Retry-After...). */
    void (*refuse)(struct http_rq *rq, enum err e, const struct err_info *info);
    /* Program's part of admission: called for each request after the path matched; checks api-version rules of its planes
     * and authenticates by auth kind. May use server/authn.h. Not called for AUTH_ADMIN routes. OK on a route other than
     * AUTH_NONE ends the connection's budget of unauthenticated work. */
    enum err (*admit)(struct http_rq *rq, struct err_info *info);
    /* AUTH_DEVICE routes: admit looks at the form alone, the handler at the credential, and it calls conn_mark_authenticated(). */
    bool devices_prove_later;
    /* A new MQTT stream (8883, or WebSocket sub-protocol mqtt on 443). */
    void (*on_mqtt)(struct worker *w, struct stream *s);
    /* WebSocket on 443: path match and protocol choice; *ret_kind is given back to on_ws. */
    enum err (*admit_ws)(struct worker *w, struct http_rq *rq, struct span *ret_protocol,
                         void **ret_kind, struct err_info *info);
    void (*on_ws)(struct worker *w, struct stream *s, void *kind);
    /* Life. init runs on main after the stores are open, before workers; worker_init on each worker's thread before it listens. */
    enum err (*init)(struct server *s, struct err_info *info);
    enum err (*worker_init)(struct worker *w, struct err_info *info);
    /* After all workers run: durable work is driven on (open intents). On worker w's thread. May be NULL. */
    void (*worker_ready)(struct worker *w);
    /* Drain on the worker's thread: close links gently until deadline_ms (mono). */
    void (*worker_drain)(struct worker *w, uint64_t deadline_ms);
    /* True while the worker has links or work that must end first. */
    bool (*worker_busy)(struct worker *w);
    void (*worker_done)(struct worker *w);
    /* Main; workers are gone, stores still open. After an init that failed as well. */
    void (*done)(struct server *s);
    /* Extra members of init.json (program's names), appended as ", \"k\": v". */
    enum err (*init_names)(struct server *s, struct buf *json, struct err_info *info);
    /* A policy (its keys, rights, existence) changed; called on each worker after the commit, within the turn that hears of it.
     * Several changes may come as one call. End what policy_still_good() no longer covers. May be NULL. */
    void (*on_policy_change)(struct worker *w);
    /* A trusted CA certificate came, went, or lost its verification; trust_epoch() has grown. Same rules. */
    void (*on_trust_change)(struct worker *w);
    /* On the writer: does something of the program name this CA certificate (without case)? OK: free to go; E_CONFLICT: in
     * use (409). Asked before a delete. May be NULL. */
    enum err (*cert_in_use)(struct store_tx *tx, struct span name);
    /* On a scan thread: adds what else ends some day (server/expiry.h). May be NULL. */
    enum err (*expiries)(struct db *db, struct expiry_list *l);
    /* May CA certificates of TPM makers be kept here (server/trust.h)? */
    bool takes_ek_roots;
    /* Stores and threads of the program's own accept work? False makes /readyz and /healthz say so. Main; may be NULL. */
    bool (*is_healthy)(struct server *s, struct err_info *info);
    /* Reload: the new configuration was checked; the program takes over what may change at run time. */
    void (*reload)(struct server *s, const void *new_conf);
};

int server_main(const struct server_program *p, int argc, char **argv);

/* --- what programs reach ------------------------------------------------------------------- */
const struct server_program *server_program(const struct server *s);
const void *server_conf(const struct server *s); /* the program's struct */
const struct server_conf *server_base_conf(const struct server *s);
const struct clock *server_clock(const struct server *s);
struct store *server_store(struct server *s);
struct keyring *server_keyring(struct server *s);
struct egress *server_egress(struct server *s);
enum server_pool { POOL_HUBS, POOL_WEBHOOKS };
/* egress_send, but E_DRAINING once the server drains: use this one, the egress ends before the workers do. */
MUST_USE enum err server_egress_send(struct server *s, struct egress_rq *rq);
unsigned server_n_workers(const struct server *s);
struct worker *server_worker(struct server *s, unsigned i);
void server_set_user(struct server *s, void *user);
void *server_user(struct server *s);
/* Is it one of the instance's names? Without case, without port. */
bool server_has_name(const struct server *s, struct span host);
struct span server_first_name(const struct server *s);
bool server_is_draining(const struct server *s);
/* False from the moment when the wall clock jumped against the monotonic one, for a while: what destroys by time (retention, expiry)
 * waits. Any thread. */
bool server_clock_is_steady(const struct server *s);
/* Seconds since 1970 as steady time has counted them: a wall clock that jumped moves it only once the clock counts as steady again. For
 * what belongs to a day. Any thread. */
int64_t server_calendar_s(const struct server *s);

struct server *worker_server(const struct worker *w);
struct loop *worker_loop(const struct worker *w);
unsigned worker_index(const struct worker *w);
struct db *worker_db(struct worker *w); /* reader; this thread only */
void worker_set_user(struct worker *w, void *user);
void *worker_user(struct worker *w);
struct worker *worker_of_rq(struct http_rq *rq);
/* In admit_ws only, which then returns E_AGAIN: the connection goes to another worker with its request unread and is served
 * there as if it had come there. */
void worker_move_rq(struct worker *w, struct http_rq *rq, unsigned to);
/* Of the loop running on this thread. */
struct worker *worker_of_loop(struct loop *l);

/* Runs fn(worker, arg) on every worker's thread, by mailbox; the copies of arg are refcounted by the caller. Any thread. */
struct worker_cast {
    void (*fn)(struct worker *w, struct worker_cast *c);
    void (*free)(struct worker_cast *c); /* after the last worker; any thread */
    _Atomic unsigned left;               /* the server's */
};
/* E_NOMEM: nothing was posted. */
MUST_USE enum err server_cast(struct server *s, struct worker_cast *c);

#endif
