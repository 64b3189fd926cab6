/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/work.h"

#include <stdlib.h>

#include "hub/directory.h"
#include "hub/hub_sql.h"
#include "hub/registry_int.h"
#include "hub/streams.h"

void *work_new(struct worker *w, size_t size)
{
    ASSERT(size >= sizeof(struct work));
    struct work *k = mem_new(size);
    if (k != NULL) {
        k->w = w;
        k->in = k->prep = k->left = (struct arena)ARENA_INIT(LIMIT_HUB_WORK);
    }
    return k;
}

void work_end(struct work *k)
{
    arena_done(&k->in);
    arena_done(&k->prep);
    arena_done(&k->left);
    free(k);
}

void work_drop(struct work *k)
{
    if (k->free != NULL) {
        k->free(k);
    } else {
        work_end(k);
    }
}

/* arena_done leaves the cap as it is but is not promised to: say it. */
static void arena_empty(struct arena *a)
{
    arena_done(a);
    *a = (struct arena)ARENA_INIT(LIMIT_HUB_WORK);
}

static enum err run_tx(struct store_tx *tx, struct store_op *op)
{
    struct work *k = CONTAINER_OF(op, struct work, op);
    arena_empty(&k->left);
    k->info = (struct err_info){0};
    return k->tx(tx, k);
}

static enum err submit(struct work *k)
{
    if (k->tries++ > LIMIT_HUB_RETRIES) {
        return err_set(&k->info, E_BUSY, "changed by others %u times while it was prepared",
                       LIMIT_HUB_RETRIES);
    }
    arena_empty(&k->prep);
    enum err e;
    if (k->prepare != NULL && (e = k->prepare(k)) != OK) {
        return e;
    }
    k->op.bytes = (uint32_t)MIN(sizeof *k + k->in.used + k->prep.used, (size_t)UINT32_MAX);
    return store_submit(server_store(worker_server(k->w)), &k->op);
}

static void come_home(struct msg *m)
{
    struct work *k = CONTAINER_OF(m, struct work, op.msg);
    enum err e = k->op.result;
    if (e == E_STALE) {
        e = submit(k);
        if (e == OK) {
            return;
        }
    }
    registry_worker_of(k->w)->pending--;
    if (k->finish != NULL) {
        k->finish(k, e);
    }
    work_drop(k);
}

enum err work_begin(struct work *k, struct err_info *info)
{
    ASSERT(k->tx != NULL && k->free != NULL);
    k->op.msg.run = come_home;
    k->op.home = loop_mailbox(worker_loop(k->w));
    k->op.tx = run_tx;
    enum err e = submit(k);
    if (e != OK) {
        if (info != NULL) {
            *info = k->info;
        }
        work_drop(k);
        return e;
    }
    registry_worker_of(k->w)->pending++;
    return OK;
}

/* --- notices ------------------------------------------------------------------------------- */

static void tell(const struct change_notice *c, int64_t identity)
{
    directory_notify(c->hub->directory, identity, (enum dir_change)c->change);
    streams_device_changed(c->hub, identity);
}

static void run_change(struct store_notice *n)
{
    const struct change_notice *c = CONTAINER_OF(n, struct change_notice, notice);
    tell(c, c->identity);
    for (size_t i = 0; i < c->n_modules; i++) {
        tell(c, c->modules[i]);
    }
}

static void drop_change(struct store_notice *n)
{
    (void)n; /* lives in its work */
}

enum err change_notify(struct store_tx *tx, struct change_notice *n, struct hub *hub,
                       int64_t identity, int change)
{
    *n = (struct change_notice){.notice = {.run = run_change, .drop = drop_change},
                                .hub = hub,
                                .identity = identity,
                                .change = change};
    if (change == DIR_GONE) {
        enum err e = hub_sql_module_identities(tx->db, identity, n->modules, &n->n_modules);
        if (e != OK) {
            return e;
        }
    }
    store_tx_notify(tx, &n->notice);
    return OK;
}
