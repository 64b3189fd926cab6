/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an unlocked data folder to "ready", and back. The steps up are a list with the steps down in the opposite order, so
 * that a start that fails half way ends what it began.
 */
#include "server/server_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "certs/verdicts.h"
#include "server/server_sql.h"

#define DRAIN_POLL_MS 20u
#define EGRESS_GRACE_MS 1000u

/* --- data folder ------------------------------------------------------------------------------ */

static enum err join(const struct server *s, const char *name, char **ret)
{
    *ret = fs_join(server_base_conf(s)->data_dir, name);
    return *ret != NULL ? OK : E_NOMEM;
}

enum err server_open_data(struct server *s, bool create, struct err_info *info)
{
    const struct server_conf *c = server_base_conf(s);
    AUTO(mem_free_p) char *key_path = NULL;
    AUTO(mem_free_p) char *db_path = NULL;
    enum err e;
    if ((e = join(s, "master.key", &key_path)) != OK ||
        (e = join(s, "registry.db", &db_path)) != OK) {
        return e;
    }
    if (!create && !fs_exists(key_path)) {
        return err_set(info, E_CONFIG, "\"%s\" is not initialised: run %s --init first",
                       c->data_dir, s->program->name);
    }
    if ((e = fs_private_dir(c->data_dir, info)) != OK ||
        (e = fs_lock_dir(c->data_dir, &s->lock_fd, info)) != OK ||
        (e = keyring_open(key_path, create, &s->keyring, info)) != OK) {
        return e;
    }
    if ((e = server_backup_gate(s, db_path, info)) != OK) {
        return e;
    }
    const struct store_module *modules[] = {&server_store_module, s->program->module};
    const struct store_config sc = {
        .path = db_path,
        .modules = modules,
        .n_modules = s->program->module != NULL ? 2 : 1,
        .clock = s->clock,
        .reserve_bytes = c->disk_reserve,
        .scan_threads = 2,
    };
    return store_open(&sc, &s->store, info);
}

void server_close_data(struct server *s)
{
    if (s->store != NULL) {
        store_drain(s->store);
        store_close(s->store);
        s->store = NULL;
    }
    keyring_free(s->keyring);
    s->keyring = NULL;
    if (s->lock_fd >= 0) {
        (void)close(s->lock_fd);
        s->lock_fd = -1;
    }
}

/* A master key that does not open the database would only be seen as refused tokens, one by one. */
static enum err require_master_key(const struct server *s, struct db *db, struct err_info *info)
{
    struct policy_row *rows = mem_new(LIMIT_POLICIES * sizeof(*rows));
    AUTO(secret_done) struct secret key = {.n = 0};
    size_t n = 0;
    if (rows == NULL) {
        return E_NOMEM;
    }
    enum err e = sql_policy_all(db, rows, &n);
    if (e == OK && n > 0) {
        e = keyring_unseal(s->keyring, sql_policy_place(&rows[0], 0),
                           span_of(rows[0].key[0].b, rows[0].key[0].n), &key);
        if (e == E_CORRUPT) {
            e = err_set(info, E_CONFIG,
                        "the master key in \"%s\" does not open this database: put the one back "
                        "that belongs to it",
                        server_base_conf(s)->data_dir);
        }
    }
    free(rows);
    return e;
}

static enum err require_initialised(struct server *s, struct err_info *info)
{
    struct db *db;
    int64_t done = 0;
    enum err e = store_reader_open(s->store, &db, info);
    if (e != OK) {
        return e;
    }
    e = sql_state_get(db, STATE_INITIALISED, &done);
    if (e == OK && done != 0) {
        e = require_master_key(s, db, info);
    }
    store_reader_close(db);
    if (e == OK && done == 0) {
        return err_set(info, E_CONFIG, "\"%s\" is not initialised: run %s --init first",
                       server_base_conf(s)->data_dir, s->program->name);
    }
    return e;
}

/* --- routes, egress --------------------------------------------------------------------------- */

static enum err merge_routes(struct server *s)
{
    const struct server_program *p = s->program;
    const struct {
        const struct http_route *rows;
        size_t n;
    } parts[] = {
        {p->routes, p->n_routes},
        {admin_cert_routes, n_admin_cert_routes},
        {admin_policy_routes, n_admin_policy_routes},
        {admin_audit_routes, n_admin_audit_routes},
        {admin_clock_routes, n_admin_clock_routes},
    };
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        n += parts[i].n;
    }
    if ((s->routes = mem_new(n * sizeof(*s->routes))) == NULL) {
        return E_NOMEM;
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        for (size_t k = 0; k < parts[i].n; k++) {
            s->routes[s->n_routes++] = parts[i].rows[k];
        }
    }
    return OK;
}

static enum err open_egress(struct server *s, struct err_info *info)
{
    const char *ca = server_base_conf(s)->egress_ca;
    const struct egress_pool_conf pools[] = {
        [POOL_HUBS] = {"hubs", ca, 16, 4096, 1u << 20, true},
        [POOL_WEBHOOKS] = {"webhooks", ca, 8, 1024, LIMIT_DPS_BODY,
                           server_base_conf(s)->private_webhooks},
    };
    return egress_new(pools, ARRAY_LEN(pools), &s->egress, info);
}

/* --- signals ---------------------------------------------------------------------------------- */

static void finish_drain(struct server *s)
{
    timer_stop(s->loop, &s->drain_timer);
    atomic_store(&s->is_stopping, true);
    loop_stop(s->loop);
}

static void drain_poll(struct timer *t)
{
    struct server *s = CONTAINER_OF(t, struct server, drain_timer);
    bool is_late = loop_now_ms(s->loop) >= s->drain_deadline_ms;
    if (workers_idle(s) || is_late) {
        LOG_INFO("server.drained", L_BOOL("in_time", !is_late));
        finish_drain(s);
        return;
    }
    timer_set(s->loop, &s->drain_timer, DRAIN_POLL_MS, drain_poll);
}

static void begin_drain(struct server *s, uint32_t signo)
{
    if (server_is_draining(s)) {
        LOG_WARN("server.drain.cut-short", L_U64("signal", signo));
        finish_drain(s);
        return;
    }
    uint64_t drain_s = server_base_conf(s)->drain_s;
    LOG_INFO("server.draining", L_U64("signal", signo), L_U64("seconds", drain_s));
    atomic_store(&s->is_draining, true);
    (void)sd_notify(0, "STOPPING=1");
    s->drain_deadline_ms = loop_now_ms(s->loop) + drain_s * 1000u;
    workers_drain(s, s->drain_deadline_ms);
    timer_set(s->loop, &s->drain_timer, 0, drain_poll);
}

static void reload(struct server *s)
{
    if (server_is_draining(s)) {
        return;
    }
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                     (unsigned long long)clock_mono_ms(s->clock) * 1000u);
    server_reload(s);
    (void)sd_notify(0, "READY=1");
}

static void on_signal(struct watch *w, uint32_t events UNUSED)
{
    struct server *s = CONTAINER_OF(w, struct server, signal_watch);
    struct signalfd_siginfo si;
    while (read(s->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
        if (si.ssi_signo == SIGHUP) {
            reload(s);
        } else {
            begin_drain(s, si.ssi_signo);
        }
    }
}

/* Before any thread exists, so that all inherit the mask. */
static enum err open_signals(struct server *s, struct err_info *info)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    int rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (rc != 0 || (s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0) {
        return err_set(info, E_SYS, "cannot watch signals");
    }
    return loop_watch(s->loop, &s->signal_watch, s->signal_fd, EPOLLIN, on_signal);
}

/* --- readiness -------------------------------------------------------------------------------- */

static void feed_watchdog(struct timer *t)
{
    struct server *s = CONTAINER_OF(t, struct server, watchdog_timer);
    (void)sd_notify(0, "WATCHDOG=1");
    timer_set(s->loop, &s->watchdog_timer, s->watchdog_ms, feed_watchdog);
}

static enum err write_status(struct server *s, struct err_info *info)
{
    AUTO(mem_free_p) char *path = NULL;
    AUTO(buf_done) struct buf b = BUF_INIT(1024);
    const struct server_conf *c = server_base_conf(s);
    enum err e = join(s, "status.json", &path);
    if (e != OK) {
        return e;
    }
    const char *address = metrics_address(s);
    buf_addf(&b, "{\"pid\":%ld,\"httpsPort\":%u,\"mqttsPort\":%u,\"metrics\":", (long)getpid(),
             (unsigned)c->https_port, (unsigned)c->mqtts_port);
    if (address[0] != '\0') {
        buf_addf(&b, "\"http://%s/metrics\"}\n", address);
    } else {
        buf_add_str(&b, "null}\n");
    }
    if ((e = buf_err(&b)) != OK) {
        return e;
    }
    return fs_write_atomic(path, buf_span(&b), 0600, info);
}

static void remove_status(const struct server *s)
{
    AUTO(mem_free_p) char *path = NULL;
    if (join(s, "status.json", &path) == OK) {
        (void)unlink(path);
    }
}

static enum err tell_ready(struct server *s, struct err_info *info)
{
    uint64_t usec = 0;
    atomic_store(&s->is_ready, true);
    enum err e = write_status(s, info);
    if (e != OK) {
        return e;
    }
    LOG_INFO("server.ready", L_SPAN("name", server_first_name(s)), L_U64("workers", s->n_workers),
             L_STR("metrics", metrics_address(s)), L_STR("version", PACKAGE_VERSION));
    (void)sd_notify(0, "READY=1");
    if (sd_watchdog_enabled(0, &usec) > 0) {
        s->watchdog_ms = MAX(usec / 2000u, 1u);
        timer_set(s->loop, &s->watchdog_timer, s->watchdog_ms, feed_watchdog);
    }
    if (s->opt.ready_fd >= 0) {
        ssize_t n = write(s->opt.ready_fd, "ready\n", 6);
        if (n != 6) {
            LOG_WARN("server.ready-fd.failed", L_U64("fd", s->opt.ready_fd));
        }
        (void)close(s->opt.ready_fd);
        s->opt.ready_fd = -1;
    }
    return OK;
}

/* --- life ------------------------------------------------------------------------------------- */

static enum err start(struct server *s, struct err_info *info)
{
    enum err e;
    if ((e = loop_new(MAIN_LOOP_INDEX, s->clock, &s->loop)) != OK ||
        (e = open_signals(s, info)) != OK || (e = server_open_data(s, false, info)) != OK ||
        (e = require_initialised(s, info)) != OK || (e = merge_routes(s)) != OK ||
        (e = metrics_new(s, &s->metrics)) != OK || (e = open_egress(s, info)) != OK ||
        (e = clock_watch_start(s, info)) != OK ||
        (e = verdicts_new(LIMIT_CHAIN_CACHE, &s->verdicts)) != OK) {
        return e;
    }
    return OK;
}

static enum err serve(struct server *s, struct err_info *info)
{
    enum err e;
    if ((e = workers_start(s, info)) != OK || (e = metrics_listen(s, info)) != OK ||
        (e = expiry_start(s)) != OK) {
        return e;
    }
    workers_ready(s);
    if ((e = tell_ready(s, info)) != OK) {
        return e;
    }
    loop_run(s->loop);
    return OK;
}

/* The egress ends first (its results go home to loops that still run), then the writer (same),
 * then the loops. */
static void stop(struct server *s)
{
    atomic_store(&s->is_ready, false);
    atomic_store(&s->is_draining, true);
    bool has_threads = s->n_workers != 0 && s->workers[s->n_workers - 1]->phase == WORKER_RUNNING;
    if (has_threads) {
        server_barrier(s);
    }
    if (s->egress != NULL) {
        egress_free(s->egress, EGRESS_GRACE_MS);
        s->egress = NULL;
    }
    clock_watch_stop(s);
    expiry_stop(s);
    if (s->store != NULL) {
        store_drain(s->store);
    }
    if (has_threads) {
        server_barrier(s);
    }
    workers_stop(s);
}

enum err server_life_run(struct server *s, struct err_info *info)
{
    enum err e = start(s, info);
    bool has_begun = e == OK, has_served = false;
    if (has_begun && (s->program->init == NULL || (e = s->program->init(s, info)) == OK)) {
        has_served = true;
        e = serve(s, info);
    }
    metrics_stop(s);
    stop(s);
    if (has_begun && s->program->done != NULL) {
        s->program->done(s);
    }
    if (has_served) {
        remove_status(s);
    }
    server_close_data(s);
    metrics_free(s->metrics);
    verdicts_free(s->verdicts);
    if (s->loop != NULL) {
        loop_turn(s->loop, 0); /* results that came home meanwhile */
        clock_watch_free(s);
        expiry_free(s);
        if (s->signal_watch.active) {
            loop_unwatch(s->loop, &s->signal_watch);
        }
        loop_free(s->loop);
    }
    if (s->signal_fd >= 0) {
        (void)close(s->signal_fd);
    }
    LOG_INFO("server.stopped");
    return e;
}
