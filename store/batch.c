/* SPDX-License-Identifier: Apache-2.0 */
#include "store/batch.h"

#include "base/log.h"
#include "store/disk.h"

/* --- the file after a failed sync ---------------------------------------------------------- */

static enum err reopen(struct batch *b, struct err_info *info)
{
    enum err e = lite_writer_open(&b->w, b->cfg->path, b->cfg->vfs, info);

    if (e != OK) {
        return e;
    }
    e = db_new(b->w.h, b->cfg->modules, b->cfg->n_modules, false, &b->db, info);
    if (e != OK) {
        lite_writer_close(&b->w);
    }
    return e;
}

void batch_recover(struct batch *b)
{
    uint64_t now = clock_mono_ms(clock_system());
    struct err_info info = {.err = OK};
    enum err e = OK;

    if (b->tried_ms != 0 && now - b->tried_ms < DISK_POLL_MS - 50) {
        return;
    }
    if (b->w.h != NULL) {
        db_free(b->db); /* its statements hold the connection */
        b->db = NULL;
        e = lite_writer_cut(&b->w, &info);
    }
    if (e == OK) {
        e = reopen(b, &info);
    }
    if (e != OK) {
        b->tried_ms = now == 0 ? 1 : now;
        LOG_ERROR("store.reopen_failed", L_STR("database", b->cfg->path), L_ERR(e),
                  L_WHY(&info, e));
        return;
    }
    b->tried_ms = 0;
    b->is_broken = false;
    atomic_fetch_add(&b->reopened, 1);
    LOG_WARN("store.reopened", L_STR("database", b->cfg->path));
}

/* --- one transaction ----------------------------------------------------------------------- */

void store_tx_notify(struct store_tx *tx, struct store_notice *n)
{
    n->next = NULL;
    *tx->notices_tail = n;
    tx->notices_tail = &n->next;
}

static void drop_notices(struct store_notice *n)
{
    while (n != NULL) {
        struct store_notice *next = n->next;
        n->drop(n);
        n = next;
    }
}

/* Runs one operation in its savepoint. Afterwards lite_in_tx() says whether the transaction lives.
 */
static void run_op(struct batch *b, struct store_tx *tx, struct store_op *op)
{
    struct lite_writer *w = &b->w;
    enum err e = lite_do(w, LITE_SAVE);

    tx->notices = NULL;
    tx->notices_tail = &tx->notices;
    if (e == OK) {
        e = op->tx(tx, op);
        if (e == OK && lite_in_tx(w)) {
            e = lite_do(w, LITE_RELEASE);
        }
        if (e != OK && lite_in_tx(w) &&
            (lite_do(w, LITE_UNDO) != OK || lite_do(w, LITE_RELEASE) != OK)) {
            (void)!lite_do(w, LITE_ROLLBACK); /* what it did cannot be told from the rest */
        }
    }
    if (e == OK && !lite_in_tx(w)) {
        e = E_DB; /* it hid the error that ended the transaction */
    }
    op->result = e;
    if (e == OK) {
        op->notices = tx->notices;
    } else {
        drop_notices(tx->notices);
        op->notices = NULL;
    }
}

static void forget(struct store_op *op)
{
    drop_notices(op->notices);
    op->notices = NULL;
}

static void set_all(struct store_op *ops, enum err e)
{
    for (struct store_op *op = ops; op != NULL; op = op->next) {
        if (!op->refused) {
            forget(op);
            op->result = e;
        }
    }
}

/* Runs the operations from `from` up to `end` in one transaction. LITE_FAILED: nothing of it is
 * there; *ret_err says why when it was not one operation's fault. */
static enum lite_outcome run_tx(struct batch *b, struct store_op *from, struct store_op *end,
                                enum err *ret_err)
{
    struct store_tx tx = {.db = b->db, .now_us = clock_wall_us(b->cfg->clock)};
    struct err_info info = {.err = OK};
    enum lite_outcome outcome;
    int64_t t0;

    if ((*ret_err = lite_do(&b->w, LITE_BEGIN)) != OK) {
        return LITE_FAILED;
    }
    for (struct store_op *op = from; op != end; op = op->next) {
        if (op->refused) {
            continue;
        }
        run_op(b, &tx, op);
        if (!lite_in_tx(&b->w)) {
            *ret_err = op->result;
            return LITE_FAILED;
        }
    }
    t0 = clock_wall_us(clock_system());
    outcome = lite_commit(&b->w, ret_err, &info);
    atomic_fetch_add(&b->sync_us, (uint64_t)MAX(0, clock_wall_us(clock_system()) - t0));
    if (outcome == LITE_DONE) {
        atomic_fetch_add(&b->commits, 1);
    } else {
        atomic_fetch_add(&b->failed_commits, 1);
        LOG_ERROR("store.commit_failed", L_STR("database", b->cfg->path), L_ERR(*ret_err),
                  L_BOOL("in_doubt", outcome == LITE_IN_DOUBT), L_WHY(&info, *ret_err));
    }
    return outcome;
}

/* The batch died as a whole: each operation gets a transaction, and so a verdict, of its own. */
static void run_alone(struct batch *b, struct store_op *ops)
{
    for (struct store_op *op = ops; op != NULL; op = op->next) {
        enum err e = OK;
        enum lite_outcome outcome;

        if (op->refused) {
            continue;
        }
        forget(op);
        if (b->is_broken) { /* an operation before it was left in doubt */
            batch_recover(b);
        }
        if (b->is_broken) {
            op->result = E_IO;
            continue;
        }
        outcome = run_tx(b, op, op->next, &e);
        if (outcome == LITE_DONE) {
            continue;
        }
        forget(op);
        op->result = outcome == LITE_FAILED ? e : E_UNKNOWN;
        b->is_broken = outcome == LITE_IN_DOUBT;
    }
}

void batch_run(struct batch *b, struct store_op *ops)
{
    enum err e = OK;

    if (b->is_broken) {
        batch_recover(b);
    }
    if (b->is_broken) {
        set_all(ops, E_IO);
        return;
    }
    switch (run_tx(b, ops, NULL, &e)) {
    case LITE_DONE:
        return;
    case LITE_IN_DOUBT:
        set_all(ops, E_UNKNOWN); /* also refusals: they may rest on what is in doubt */
        b->is_broken = true;
        return;
    case LITE_FAILED:
        break;
    }
    if (ops->next == NULL || e == E_BUSY) { /* locked by another process: each would wait in vain */
        set_all(ops, e);
        return;
    }
    if (e == E_DISK_FULL) {
        (void)!lite_checkpoint(b->w.h, true, NULL); /* an empty WAL makes room; best effort */
    }
    run_alone(b, ops);
}

/* --- life ---------------------------------------------------------------------------------- */

enum err batch_open(struct batch *b, const struct store_config *cfg, uint64_t *ret_boot,
                    struct err_info *info)
{
    enum err e;

    b->cfg = cfg;
    if ((e = lite_create_file(cfg->path, info)) != OK ||
        (e = lite_writer_open(&b->w, cfg->path, cfg->vfs, info)) != OK ||
        (e = db_migrate(b->w.h, cfg->modules, cfg->n_modules, info)) != OK ||
        (e = db_count_boot(b->w.h, ret_boot, info)) != OK ||
        (e = db_new(b->w.h, cfg->modules, cfg->n_modules, false, &b->db, info)) != OK) {
        batch_close(b);
    }
    return e;
}

void batch_close(struct batch *b)
{
    if (b->w.h != NULL && !b->is_broken) {
        (void)!lite_checkpoint(b->w.h, true, NULL); /* spares the next start; else it does it */
    }
    db_free(b->db);
    b->db = NULL;
    lite_writer_close(&b->w);
}

void batch_tidy(struct batch *b)
{
    struct err_info info = {.err = OK};
    enum err e;

    if (b->is_broken) {
        batch_recover(b);
    } else if ((e = lite_writer_tidy(&b->w, &info)) != OK) {
        LOG_ERROR("store.checkpoint_failed", L_STR("database", b->cfg->path), L_ERR(e),
                  L_WHY(&info, e));
    }
}
