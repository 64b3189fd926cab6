/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/log.h"

/* --- what programs reach ---------------------------------------------------------------------- */

const struct server_program *server_program(const struct server *s)
{
    return s->program;
}

const void *server_conf(const struct server *s)
{
    return atomic_load_explicit(&s->conf, memory_order_acquire);
}

const struct server_conf *server_base_conf(const struct server *s)
{
    return server_conf(s);
}

const struct clock *server_clock(const struct server *s)
{
    return s->clock;
}

struct store *server_store(struct server *s)
{
    return s->store;
}

struct keyring *server_keyring(struct server *s)
{
    return s->keyring;
}

struct egress *server_egress(struct server *s)
{
    return s->egress;
}

enum err server_egress_send(struct server *s, struct egress_rq *rq)
{
    return server_is_draining(s) ? E_DRAINING : egress_send(s->egress, rq);
}

/* Known before they are made: a program's init lays out what each of them will have. */
unsigned server_n_workers(const struct server *s)
{
    return s->n_workers != 0 ? s->n_workers : server_conf_workers(server_base_conf(s));
}

struct worker *server_worker(struct server *s, unsigned i)
{
    ASSERT(i < s->n_workers);
    return s->workers[i];
}

void server_set_user(struct server *s, void *user)
{
    s->user = user;
}

void *server_user(struct server *s)
{
    return s->user;
}

/* "host:443" and "[::1]:443" lose their port; a bare IPv6 address keeps its colons. */
static struct span without_port(struct span host)
{
    if (host.n != 0 && host.p[0] == '[') {
        size_t end = span_find(host, ']');
        return span_sub(host, 1, end - 1);
    }
    size_t colon = span_find(host, ':');
    if (colon != host.n && span_find(span_from(host, colon + 1), ':') == host.n - colon - 1) {
        return span_sub(host, 0, colon);
    }
    return host;
}

bool server_has_name(const struct server *s, struct span host)
{
    struct span bare = without_port(host);
    for (size_t i = 0; i < s->n_names; i++) {
        if (span_is_nocase(bare, s->names[i])) {
            return true;
        }
    }
    return false;
}

struct span server_first_name(const struct server *s)
{
    return span_str(s->names[0]);
}

bool server_is_draining(const struct server *s)
{
    return atomic_load(&s->is_draining);
}

/* --- writes that main waits for --------------------------------------------------------------- */

struct waited_op {
    struct store_op op;
    struct store_op *inner;
    struct server *s;
    bool is_done; /* guarded by server.lock */
};

static enum err waited_tx(struct store_tx *tx, struct store_op *op)
{
    struct waited_op *w = CONTAINER_OF(op, struct waited_op, op);
    return w->inner->tx(tx, w->inner);
}

static void waited_run(struct msg *m)
{
    struct waited_op *w = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct waited_op, op);
    struct server *s = w->s;
    (void)pthread_mutex_lock(&s->lock);
    w->is_done = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

enum err server_write_now(struct server *s, struct store_op *op)
{
    struct waited_op w = {.inner = op, .s = s};
    w.op.tx = waited_tx;
    w.op.urgent = op->urgent;
    w.op.msg.run = waited_run;
    enum err e = store_submit(s->store, &w.op);
    if (e != OK) {
        return e;
    }
    (void)pthread_mutex_lock(&s->lock);
    while (!w.is_done) {
        (void)pthread_cond_wait(&s->changed, &s->lock);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return w.op.result;
}

/* --- main ------------------------------------------------------------------------------------- */

/* Nothing of a server may end in a core file or a world-readable one (threat S6). */
static void harden_process(void)
{
    struct rlimit files;
    const struct rlimit none = {0, 0};

    (void)umask(077);
    (void)setrlimit(RLIMIT_CORE, &none);
#if !defined(BERTH_SANITIZED)
    /* The leak checker of sanitizer builds must be able to trace its own process. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)signal(SIGPIPE, SIG_IGN);
}

static struct server *server_new(const struct server_program *p)
{
    struct server *s = NEW(struct server);
    if (s == NULL) {
        return NULL;
    }
    s->program = p;
    s->clock = clock_system();
    s->lock_fd = -1;
    s->signal_fd = -1;
    s->opt.ready_fd = -1;
    atomic_init(&s->policy_epoch, 1);
    atomic_init(&s->trust_epoch, 1);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->changed, NULL);
    return s;
}

static void server_free(struct server *s)
{
    for (size_t i = 0; i < s->n_names; i++) {
        free(s->names[i]);
    }
    for (size_t i = 0; i < s->n_listen; i++) {
        free(s->listen[i]);
    }
    server_conf_free(s, atomic_load(&s->conf));
    free(s->routes);
    free(s->rows);
    options_done(&s->opt);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static enum err check_config(struct server *s, struct err_info *info)
{
    const struct server_conf *c = server_base_conf(s);
    if (c->tls_cert == NULL || c->tls_key == NULL) {
        return OK;
    }
    const struct tls_server_conf t = {c->tls_cert, c->tls_key};
    struct tls_ctx *tls;
    enum err e = tls_server_new(&t, &tls, info);
    if (e == OK) {
        tls_ctx_unref(tls);
    }
    return e;
}

static int say(const struct server *s, const char *what, enum err e, const struct err_info *info)
{
    fprintf(stderr, "%s: %s: %s\n", s->program->name, what, err_why(info, e));
    return 1;
}

static void setup_log(const struct server *s)
{
    const struct server_conf *c = server_base_conf(s);
    enum log_level level = LOG_L_INFO;
    (void)log_level_parse(span_str(c->log_level), &level); /* checked before */
    log_setup(s->program->name, level,
              span_is(span_str(c->log_format), "json") ? LOG_F_JSON : LOG_F_LOGFMT);
}

static int run_init(struct server *s)
{
    struct err_info info = {0};
    bool made = false;
    enum err e = server_init_instance(s, &made, &info);
    if (e != OK) {
        return say(s, "cannot initialise", e, &info);
    }
    const char *dir = server_base_conf(s)->data_dir;
    if (made) {
        printf("%s: initialised \"%s\"; names and first keys are in \"%s/init.json\": "
               "take them over, then delete that file\n",
               s->program->name, dir, dir);
    } else {
        printf("%s: \"%s\" is initialised already; nothing changed\n", s->program->name, dir);
    }
    return 0;
}

static int run_backup(struct server *s)
{
    struct err_info info = {0};
    enum err e = server_backup(s, s->opt.backup, &info);
    if (e != OK) {
        return say(s, "cannot back up", e, &info);
    }
    printf("%s: the registry is in \"%s\"; master.key is not\n", s->program->name, s->opt.backup);
    return 0;
}

static int run(struct server *s)
{
    struct err_info info = {0};
    void *conf;
    enum err e;
    if ((e = server_rows_new(s->program, &s->rows, &s->n_rows)) != OK ||
        (e = server_conf_read(s, &conf, &info)) != OK) {
        return say(s, "configuration", e, &info);
    }
    atomic_store(&s->conf, conf);
    if (s->opt.dump_config) {
        conf_dump(s->rows, s->n_rows, conf, stdout);
        return 0;
    }
    if ((e = server_conf_split(s, conf, &info)) != OK) {
        return say(s, "configuration", e, &info);
    }
    if (s->opt.check_config) {
        if ((e = check_config(s, &info)) != OK) {
            return say(s, "configuration", e, &info);
        }
        printf("%s: configuration is good\n", s->program->name);
        return 0;
    }
    setup_log(s);
    if (s->opt.init) {
        return run_init(s);
    }
    if (s->opt.backup != NULL) {
        return run_backup(s);
    }
    if ((e = server_life_run(s, &info)) != OK) {
        LOG_ERROR("server.failed", L_ERR(e), L_WHY(&info, e));
        return 1;
    }
    return 0;
}

int server_main(const struct server_program *p, int argc, char **argv)
{
    ASSERT(p->n_policies <= LIMIT_POLICIES);
    harden_process();
    struct server *s = server_new(p);
    if (s == NULL) {
        fprintf(stderr, "%s: out of memory\n", p->name);
        return 1;
    }
    enum err e = options_read(p, argc, argv, &s->opt);
    int rc = e == OK ? run(s) : e == E_AGAIN ? 0 : 2;
    server_free(s);
    return rc;
}
