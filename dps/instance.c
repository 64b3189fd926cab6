/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/instance.h"

#include <pthread.h>
#include <stdio.h>

#include "dps/snapshot.h"

static const struct seal_place page_key_place = {
    "setting", "value", {(const uint8_t *)SETTING_PAGE_KEY, sizeof(SETTING_PAGE_KEY) - 1}};

struct make_op {
    struct store_op op;
    struct span scope, page_key; /* used where none is stored */
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool is_done; /* guarded by lock */
};

static enum err put_if_absent(struct store_tx *tx, struct arena *a, const char *name,
                              struct span value)
{
    struct span old;
    enum err e = sql_setting_get(tx->db, a, name, &old);
    return e == E_NOT_FOUND ? sql_setting_put(tx->db, name, value) : e;
}

static enum err make_tx(struct store_tx *tx, struct store_op *op)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(4096);
    struct make_op *o = CONTAINER_OF(op, struct make_op, op);
    enum err e = put_if_absent(tx, &a, SETTING_ID_SCOPE, o->scope);
    return e != OK ? e : put_if_absent(tx, &a, SETTING_PAGE_KEY, o->page_key);
}

static void make_done(struct msg *m)
{
    struct make_op *o = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct make_op, op);
    (void)pthread_mutex_lock(&o->lock);
    o->is_done = true;
    (void)pthread_cond_signal(&o->done);
    (void)pthread_mutex_unlock(&o->lock);
}

static enum err make(struct store *s, struct span scope, struct span page_key)
{
    struct make_op o = {.scope = scope,
                        .page_key = page_key,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .done = PTHREAD_COND_INITIALIZER};
    o.op.tx = make_tx;
    o.op.msg.run = make_done;
    enum err e = store_submit(s, &o.op);
    if (e != OK) {
        return e;
    }
    (void)pthread_mutex_lock(&o.lock);
    while (!o.is_done) {
        (void)pthread_cond_wait(&o.done, &o.lock);
    }
    (void)pthread_mutex_unlock(&o.lock);
    (void)pthread_cond_destroy(&o.done);
    (void)pthread_mutex_destroy(&o.lock);
    return o.op.result;
}

static enum err make_missing(struct dps *d)
{
    AUTO(secret_done) struct secret key = {.n = 0};
    AUTO(buf_done) struct buf sealed = BUF_INIT(SECRET_MAX + SEAL_OVERHEAD);
    char scope[DPS_SCOPE_SIZE];
    uint32_t r;
    enum err e;
    random_bytes(&r, sizeof(r));
    (void)snprintf(scope, sizeof(scope), "0ne%08X", r);
    if ((e = secret_random(&key, 32)) != OK ||
        (e = keyring_seal(server_keyring(d->server), page_key_place, secret_span(&key), &sealed)) !=
            OK) {
        return e;
    }
    return make(server_store(d->server), span_str(scope), buf_span(&sealed));
}

static enum err read_both(struct dps *d, struct db *db)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(4096);
    struct span scope, key;
    enum err e;
    if ((e = sql_setting_get(db, &a, SETTING_ID_SCOPE, &scope)) != OK ||
        (e = sql_setting_get(db, &a, SETTING_PAGE_KEY, &key)) != OK) {
        return e;
    }
    if (!span_to_cstr(scope, d->id_scope, sizeof(d->id_scope))) {
        return E_CORRUPT;
    }
    return keyring_unseal(server_keyring(d->server), page_key_place, key, &d->page_key);
}

enum err instance_load(struct dps *d, struct err_info *info)
{
    struct db *db = NULL;
    enum err e = store_reader_open(server_store(d->server), &db, info);
    if (e != OK) {
        return e;
    }
    e = read_both(d, db);
    if (e == E_NOT_FOUND && (e = make_missing(d)) == OK) {
        e = read_both(d, db);
    }
    store_reader_close(db);
    return e == OK ? OK : err_set(info, e, "cannot read the id scope of the instance");
}
