/* SPDX-License-Identifier: Apache-2.0 */
#include "server/policy.h"

#include <stdlib.h>

#include "server/server_int.h"
#include "server/server_sql.h"

static enum err seal_key(const struct keyring *k, struct policy_row *row, unsigned which,
                         const struct secret *key)
{
    AUTO(buf_done) struct buf sealed = BUF_INIT(SEALED_KEY_MAX);
    enum err e = keyring_seal(k, sql_policy_place(row, which), secret_span(key), &sealed);
    if (e == OK) {
        memcpy(row->key[which].b, sealed.p, sealed.n);
        row->key[which].n = sealed.n;
    }
    return e;
}

enum err policy_tx_set_key(struct store_tx *tx, const struct keyring *k, struct policy_row *row,
                           unsigned which, const struct secret *key)
{
    enum err e = sql_counter_next(tx->db, &row->key[which].gen);
    return e != OK ? e : seal_key(k, row, which, key);
}

/* The seal is bound to the row's id, so the row comes first. */
enum err policy_tx_insert(struct store_tx *tx, const struct keyring *k, struct policy_row *row,
                          const struct secret key[2])
{
    enum err e;
    if ((e = sql_counter_next(tx->db, &row->etag)) != OK ||
        (e = sql_policy_add(tx->db, row)) != OK ||
        (e = policy_tx_set_key(tx, k, row, 0, &key[0])) != OK ||
        (e = policy_tx_set_key(tx, k, row, 1, &key[1])) != OK) {
        return e;
    }
    return sql_policy_set(tx->db, row);
}

/* --- telling ------------------------------------------------------------------------------------ */

struct change_notice {
    struct store_notice notice;
    struct server *s;
    _Atomic uint64_t *epoch;
};

static void change_run(struct store_notice *n)
{
    struct change_notice *c = CONTAINER_OF(n, struct change_notice, notice);
    atomic_fetch_add(c->epoch, 1);
    workers_tell_change(c->s);
    free(c);
}

static void change_drop(struct store_notice *n)
{
    free(CONTAINER_OF(n, struct change_notice, notice));
}

static enum err tell(struct store_tx *tx, struct server *s, _Atomic uint64_t *epoch)
{
    struct change_notice *c = NEW(struct change_notice);
    if (c == NULL) {
        return E_NOMEM;
    }
    c->notice.run = change_run;
    c->notice.drop = change_drop;
    c->s = s;
    c->epoch = epoch;
    store_tx_notify(tx, &c->notice);
    return OK;
}

enum err policy_tx_changed(struct store_tx *tx, struct server *s)
{
    return tell(tx, s, &s->policy_epoch);
}

enum err trust_tx_changed(struct store_tx *tx, struct server *s)
{
    return tell(tx, s, &s->trust_epoch);
}
