/* SPDX-License-Identifier: Apache-2.0 */
/* What reaches workers from other threads: casts, the steps that main leads and waits for, changes of policies and trust. */
#include "server/server_int.h"

#include <stdlib.h>

#define DRAIN_POLL_MS 20u
#define DRAIN_ANSWER_MS 500u

/* --- casts ------------------------------------------------------------------------------------ */

struct cast_node {
    struct msg msg;
    struct worker *w;
    struct cast_block *block;
};
struct cast_block {
    struct worker_cast *cast;
    struct cast_node nodes[];
};

static void cast_run(struct msg *m)
{
    struct cast_node *n = CONTAINER_OF(m, struct cast_node, msg);
    struct cast_block *block = n->block;
    struct worker_cast *c = block->cast;
    c->fn(n->w, c);
    if (atomic_fetch_sub(&c->left, 1) == 1) {
        if (c->free != NULL) {
            c->free(c);
        }
        free(block);
    }
}

enum err server_cast(struct server *s, struct worker_cast *c)
{
    struct cast_block *b = mem_new(sizeof(*b) + s->n_workers * sizeof(b->nodes[0]));
    if (b == NULL) {
        return E_NOMEM;
    }
    b->cast = c;
    atomic_store(&c->left, s->n_workers);
    /* The block may be gone as soon as the last node is posted. */
    unsigned n = s->n_workers;
    for (unsigned i = 0; i < n; i++) {
        b->nodes[i] = (struct cast_node){{NULL, cast_run}, s->workers[i], b};
        loop_post(s->workers[i]->loop, &b->nodes[i].msg);
    }
    return OK;
}

/* --- steps that main leads and waits for ------------------------------------------------------- */

static void step_done(struct worker *w)
{
    struct server *s = w->s;
    (void)pthread_mutex_lock(&s->lock);
    s->barrier_left--;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

static void workers_run(struct server *s, msg_fn fn)
{
    (void)pthread_mutex_lock(&s->lock);
    s->barrier_left = s->n_workers;
    (void)pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->n_workers; i++) {
        s->workers[i]->control_msg.run = fn;
        loop_post(s->workers[i]->loop, &s->workers[i]->control_msg);
    }
    (void)pthread_mutex_lock(&s->lock);
    while (s->barrier_left != 0) {
        (void)pthread_cond_wait(&s->changed, &s->lock);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

static void step_barrier(struct msg *m)
{
    step_done(CONTAINER_OF(m, struct worker, control_msg));
}

void server_barrier(struct server *s)
{
    workers_run(s, step_barrier);
}

static void step_ready(struct msg *m)
{
    struct worker *w = CONTAINER_OF(m, struct worker, control_msg);
    if (w->s->program->worker_ready != NULL) {
        w->s->program->worker_ready(w);
    }
    step_done(w);
}

void workers_ready(struct server *s)
{
    workers_run(s, step_ready);
}

static enum err first_failure(const struct server *s, struct err_info *info)
{
    for (unsigned i = 0; i < s->n_workers; i++) {
        if (s->workers[i]->start_err != OK) {
            if (info != NULL) {
                *info = s->workers[i]->start_info;
            }
            return s->workers[i]->start_err;
        }
    }
    return OK;
}

static void step_listen(struct msg *m)
{
    struct worker *w = CONTAINER_OF(m, struct worker, control_msg);
    w->start_info = (struct err_info){0};
    w->start_err = worker_listen(w, &w->start_info);
    step_done(w);
}

/* Only when every worker is set up: what one takes in may be another's work. */
enum err workers_listen(struct server *s, struct err_info *info)
{
    workers_run(s, step_listen);
    return first_failure(s, info);
}

/* A TLS context belongs to the thread that made it (its library context keeps thread data), so each
 * worker makes its own; none is used until all are good. */
static void step_make_tls(struct msg *m)
{
    struct worker *w = CONTAINER_OF(m, struct worker, control_msg);
    w->start_info = (struct err_info){0};
    w->start_err = worker_make_tls(w, w->s->new_conf, &w->new_tls, &w->start_info);
    step_done(w);
}

static void step_swap_tls(struct msg *m)
{
    struct worker *w = CONTAINER_OF(m, struct worker, control_msg);
    struct tls_ctx *old = w->tls;
    w->tls = TAKE(w->new_tls);
    for (size_t i = 0; i < w->n_listeners; i++) {
        listener_set_tls(w->listeners[i], w->tls);
    }
    tls_ctx_unref(old);
    step_done(w);
}

static void step_drop_tls(struct msg *m)
{
    struct worker *w = CONTAINER_OF(m, struct worker, control_msg);
    tls_ctx_unref(w->new_tls);
    w->new_tls = NULL;
    step_done(w);
}

enum err workers_reload_tls(struct server *s, const struct server_conf *c, struct err_info *info)
{
    s->new_conf = c;
    workers_run(s, step_make_tls);
    enum err e = first_failure(s, info);
    workers_run(s, e == OK ? step_swap_tls : step_drop_tls);
    s->new_conf = NULL;
    return e;
}

/* --- changes of policies and trust ------------------------------------------------------------- */

static void change_run(struct msg *m)
{
    struct worker *w = CONTAINER_OF(m, struct worker, change_msg);
    const struct server_program *p = w->s->program;
    /* Before the epochs are read: a change after this line posts again. */
    atomic_store(&w->change_posted, false);
    uint64_t policy = atomic_load(&w->s->policy_epoch);
    uint64_t trust = atomic_load(&w->s->trust_epoch);
    if (policy != w->told_policy_epoch) {
        w->told_policy_epoch = policy;
        if (p->on_policy_change != NULL) {
            p->on_policy_change(w);
        }
    }
    if (trust != w->told_trust_epoch) {
        w->told_trust_epoch = trust;
        if (p->on_trust_change != NULL) {
            p->on_trust_change(w);
        }
    }
}

void workers_tell_change(struct server *s)
{
    for (unsigned i = 0; i < s->n_workers; i++) {
        struct worker *w = s->workers[i];
        if (!atomic_exchange(&w->change_posted, true)) {
            w->change_msg.run = change_run;
            loop_post(w->loop, &w->change_msg);
        }
    }
}

/* --- drain ---------------------------------------------------------------------------- */

static bool worker_has_work(struct worker *w)
{
    struct http_stats st;
    http_stats(w->http, &st);
    return st.open != 0 || w->pending_ops != 0 ||
           (w->s->program->worker_busy != NULL && w->s->program->worker_busy(w));
}

/* What is under way gets a moment to be answered; then what still waits hears 503. */
static void drain_http(struct worker *w)
{
    uint64_t now_ms = loop_now_ms(w->loop);
    if (!w->http_drained && (now_ms >= w->drain_http_ms || now_ms >= w->drain_deadline_ms)) {
        w->http_drained = true;
        http_server_drain(w->http);
    }
}

static void drain_poll(struct timer *t)
{
    struct worker *w = CONTAINER_OF(t, struct worker, drain_poll);
    drain_http(w);
    atomic_store(&w->is_idle, !worker_has_work(w));
    timer_set(w->loop, &w->drain_poll, DRAIN_POLL_MS, drain_poll);
}

static void step_drain(struct msg *m)
{
    struct worker *w = CONTAINER_OF(m, struct worker, control_msg);
    worker_close_listeners(w);
    w->drain_http_ms = loop_now_ms(w->loop) + DRAIN_ANSWER_MS;
    if (w->s->program->worker_drain != NULL) {
        w->s->program->worker_drain(w, w->drain_deadline_ms);
    }
    timer_set(w->loop, &w->drain_poll, 0, drain_poll);
    step_done(w);
}

void workers_drain(struct server *s, uint64_t deadline_ms)
{
    for (unsigned i = 0; i < s->n_workers; i++) {
        s->workers[i]->drain_deadline_ms = deadline_ms;
    }
    workers_run(s, step_drain);
}

bool workers_idle(const struct server *s)
{
    for (unsigned i = 0; i < s->n_workers; i++) {
        if (!atomic_load(&s->workers[i]->is_idle)) {
            return false;
        }
    }
    return true;
}
