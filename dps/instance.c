/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/instance.h"

#include <pthread.h>
#include <stdio.h>

#include "dps/snapshot.h"

/* The instance's own secrets, each sealed in the setting of its name. */
static const char *const key_names[] = {SETTING_PAGE_KEY, SETTING_WEBHOOK_KEY};
#define KEYS ARRAY_LEN(key_names)

static struct seal_place key_place(unsigned i)
{
    return (struct seal_place){"setting", "value", span_str(key_names[i])};
}

struct make_op {
    struct store_op op;
    struct span scope, key[KEYS]; /* used where none is stored */
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
    for (unsigned i = 0; e == OK && i < KEYS; i++) {
        e = put_if_absent(tx, &a, key_names[i], o->key[i]);
    }
    return e;
}

static void make_done(struct msg *m)
{
    struct make_op *o = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct make_op, op);
    (void)pthread_mutex_lock(&o->lock);
    o->is_done = true;
    (void)pthread_cond_signal(&o->done);
    (void)pthread_mutex_unlock(&o->lock);
}

static enum err make(struct store *s, struct span scope, const struct span key[KEYS])
{
    struct make_op o = {
        .scope = scope, .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    memcpy(o.key, key, sizeof(o.key));
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

static enum err new_key(const struct keyring *k, unsigned i, struct buf *ret)
{
    AUTO(secret_done) struct secret key = {.n = 0};
    enum err e = secret_random(&key, 32);
    return e != OK ? e : keyring_seal(k, key_place(i), secret_span(&key), ret);
}

static enum err make_missing(struct dps *d)
{
    struct buf sealed[KEYS];
    struct span key[KEYS];
    char scope[DPS_SCOPE_SIZE];
    uint32_t r;
    enum err e = OK;
    random_bytes(&r, sizeof(r));
    (void)snprintf(scope, sizeof(scope), "0ne%08X", r);
    for (unsigned i = 0; i < KEYS; i++) {
        sealed[i] = (struct buf)BUF_INIT(SECRET_MAX + SEAL_OVERHEAD);
        e = e == OK ? new_key(server_keyring(d->server), i, &sealed[i]) : e;
        key[i] = buf_span(&sealed[i]);
    }
    if (e == OK) {
        e = make(server_store(d->server), span_str(scope), key);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        buf_done(&sealed[i]);
    }
    return e;
}

static enum err read_key(struct dps *d, struct db *db, unsigned i, struct secret *ret)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(4096);
    struct span key;
    enum err e = sql_setting_get(db, &a, key_names[i], &key);
    return e != OK ? e : keyring_unseal(server_keyring(d->server), key_place(i), key, ret);
}

/* E_NOT_FOUND: the instance is new, or older than one of its keys. */
static enum err read_all(struct dps *d, struct db *db)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(4096);
    struct span scope;
    enum err e;
    if ((e = sql_setting_get(db, &a, SETTING_ID_SCOPE, &scope)) != OK ||
        (e = read_key(d, db, 0, &d->page_key)) != OK ||
        (e = read_key(d, db, 1, &d->webhook_key)) != OK) {
        return e;
    }
    return span_to_cstr(scope, d->id_scope, sizeof(d->id_scope)) ? OK : E_CORRUPT;
}

enum err instance_load(struct dps *d, struct err_info *info)
{
    struct db *db = NULL;
    enum err e = store_reader_open(server_store(d->server), &db, info);
    if (e != OK) {
        return e;
    }
    e = read_all(d, db);
    if (e == E_NOT_FOUND && (e = make_missing(d)) == OK) {
        e = read_all(d, db);
    }
    store_reader_close(db);
    return e == OK ? OK : err_set(info, e, "cannot read the id scope of the instance");
}
