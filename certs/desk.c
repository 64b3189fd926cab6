/* SPDX-License-Identifier: Apache-2.0 */
/* The desk in this process. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/list.h"
#include "certs/desk_int.h"

/* An open key. One in memory stays as it is until its drawer ends, so what has a reference may sign without the lock; one elsewhere
 * signs under it, and is let go of when it does not answer. */
struct drawer {
    struct list link; /* guarded by the desk's lock */
    atomic_uint refs;
    enum desk_kind kind;
    struct span name, source; /* heap */
    pthread_mutex_t lock;     /* of key */
    struct signer_key *key;   /* NULL: not open */
};

struct local {
    struct desk desk;
    const struct keyring *keyring;
    struct hard_keys *hard;
    pthread_mutex_t lock; /* of the list; nothing else is taken inside */
    struct list drawers;  /* one reference each; the one used last is last */
    size_t n;
};

static struct local *as_local(struct desk *d)
{
    return CONTAINER_OF(d, struct local, desk);
}

/* --- drawers -------------------------------------------------------------------------------------- */

static void drawer_unref(struct drawer *w)
{
    if (w == NULL || atomic_fetch_sub(&w->refs, 1) != 1) {
        return;
    }
    signer_key_free(w->key);
    (void)pthread_mutex_destroy(&w->lock);
    free((void *)(uintptr_t)w->name.p);
    free((void *)(uintptr_t)w->source.p);
    free(w);
}

static inline void drawer_unref_p(struct drawer **w)
{
    drawer_unref(*w);
}

static struct drawer *drawer_new(const struct desk_key *k)
{
    struct drawer *w = NEW(struct drawer);
    if (w == NULL) {
        return NULL;
    }
    char *name = span_dup(k->name), *source = span_dup(k->source);
    atomic_init(&w->refs, 1);
    w->kind = k->kind;
    w->name = span_of(name, k->name.n);
    w->source = span_of(source, k->source.n);
    (void)pthread_mutex_init(&w->lock, NULL); /* cannot fail with default attributes */
    if (name == NULL || source == NULL) {
        drawer_unref(w);
        return NULL;
    }
    return w;
}

static void out(struct local *d, struct drawer *w)
{
    list_del(&w->link);
    d->n--;
    drawer_unref(w);
}

/* Another state of the same CA's key is forgotten: who signs with it has a reference. */
static struct drawer *find(struct local *d, const struct desk_key *k)
{
    LIST_EACH_SAFE (n, next, &d->drawers) {
        struct drawer *w = LIST_OF(n, struct drawer, link);
        if (!span_eq(w->name, k->name)) {
            continue;
        }
        if (w->kind == k->kind && span_eq(w->source, k->source)) {
            list_del(&w->link);
            list_add_tail(&d->drawers, &w->link);
            return w;
        }
        out(d, w);
    }
    return NULL;
}

static struct drawer *drawer_of(struct local *d, const struct desk_key *k)
{
    (void)pthread_mutex_lock(&d->lock);
    struct drawer *w = find(d, k);
    if (w == NULL && (w = drawer_new(k)) != NULL) {
        if (d->n == LIMIT_ISSUING_CAS) {
            out(d, LIST_OF(d->drawers.next, struct drawer, link));
        }
        list_add_tail(&d->drawers, &w->link);
        d->n++;
    }
    if (w != NULL) {
        atomic_fetch_add(&w->refs, 1);
    }
    (void)pthread_mutex_unlock(&d->lock);
    return w;
}

/* --- keys ------------------------------------------------------------------------------------------- */

static struct seal_place key_place(struct span name)
{
    return (struct seal_place){"issuing_ca", "source", name};
}

static enum err seal(struct local *d, struct span name, const struct signer_key *key,
                     struct buf *ret)
{
    struct buf der = BUF_INIT(SEAL_BLOB_MAX);
    (void)buf_reserve(&der, SEAL_BLOB_MAX); /* at once, so that no copy stays behind */
    enum err e = signer_key_to_der(key, &der);
    if (e == OK) {
        e = keyring_seal_blob(d->keyring, key_place(name), buf_span(&der), ret);
    }
    if (der.p != NULL) {
        mem_wipe(der.p, der.cap);
    }
    buf_done(&der);
    return e;
}

static enum err open_sealed(struct local *d, const struct desk_key *k, struct signer_key **ret,
                            struct err_info *info)
{
    struct buf der = BUF_INIT(SEAL_BLOB_MAX);
    enum err e = keyring_unseal_blob(d->keyring, key_place(k->name), k->source, &der);
    if (e == OK) {
        e = signer_key_from_der(buf_span(&der), ret, info);
    } else if (e != E_NOMEM) {
        e = err_set(info, E_CONFIG, "the sealed key does not open with this master key");
    }
    if (der.p != NULL) {
        mem_wipe(der.p, der.cap);
    }
    buf_done(&der);
    return e;
}

static enum err open_key(struct local *d, const struct desk_key *k, struct signer_key **ret,
                         struct err_info *info)
{
    switch (k->kind) {
    case DESK_SEALED:
        return open_sealed(d, k, ret, info);
    case DESK_PKCS11:
        return hard_pkcs11_open(d->hard, k->source, ret, info);
    case DESK_TPM:
        return hard_tpm_open(k->source, ret, info);
    case DESK_KINDS:
        break;
    }
    return E_BUG;
}

/* --- work ------------------------------------------------------------------------------------------- */

static enum err self_sign(const struct desk_make *rq, const struct signer_key *key, struct buf *ret,
                          struct err_info *info)
{
    AUTO(cert_free_p) struct cert *root = NULL;
    const struct cert_request root_rq = {
        .profile = PROFILE_ROOT_CA,
        .cn = rq->cn,
        .organization = rq->organization,
        .not_before_us = rq->not_before_us,
        .not_after_us = rq->not_after_us,
    };
    enum err e = signer_issue_now(key, NULL, NULL, NULL, &root_rq, &root, info);
    if (e == OK) {
        buf_add(ret, cert_der(root));
        e = buf_err(ret);
    }
    return e;
}

static enum err local_make(struct desk *desk, const struct desk_make *rq, struct desk_made *ret,
                           struct err_info *info)
{
    AUTO(signer_key_free_p) struct signer_key *key = NULL;
    struct local *d = as_local(desk);
    bool is_new = rq->key.kind == DESK_SEALED && rq->key.source.n == 0;
    enum err e = is_new ? signer_key_generate(rq->type, &key) : open_key(d, &rq->key, &key, info);
    if (e == OK) {
        e = signer_make_csr(key, rq->cn, &ret->csr, info);
    }
    if (e == OK && is_new) {
        e = seal(d, rq->key.name, key, &ret->source);
    }
    if (e == OK && rq->is_self_signed) {
        e = self_sign(rq, key, &ret->root, info);
    }
    return e;
}

static enum err key_ready(struct local *d, struct drawer *w, const struct cert *ca,
                          struct err_info *info)
{
    const struct desk_key k = {w->kind, w->name, w->source};
    enum err e = w->key == NULL ? open_key(d, &k, &w->key, info) : OK;
    if (e == OK && !signer_key_fits(w->key, ca)) {
        e = err_set(info, E_CONFIG, "the key is not the one of the CA's certificate");
    }
    return e;
}

static enum err sign(struct local *d, struct drawer *w, const struct desk_issue *rq,
                     const struct csr *csr, struct cert **ret, struct err_info *info)
{
    bool is_here = w->kind == DESK_SEALED;
    (void)pthread_mutex_lock(&w->lock);
    enum err e = key_ready(d, w, rq->ca, info);
    if (e == OK && !is_here) {
        e = signer_issue_now(w->key, rq->ca, csr, NULL, &rq->rq, ret, info);
    }
    if ((e == E_AGAIN || e == E_CONFIG) && !is_here) { /* opened anew by the next */
        signer_key_free(w->key);
        w->key = NULL;
    }
    (void)pthread_mutex_unlock(&w->lock);
    return e == OK && is_here ? signer_issue_now(w->key, rq->ca, csr, NULL, &rq->rq, ret, info) : e;
}

static enum err local_issue(struct desk *desk, const struct desk_issue *rq, struct cert **ret,
                            struct err_info *info)
{
    AUTO(drawer_unref_p) struct drawer *w = drawer_of(as_local(desk), &rq->key);
    AUTO(csr_free_p) struct csr *read = NULL;
    enum err e = w == NULL ? E_NOMEM : OK;
    if (e == OK && rq->known == NULL) {
        e = csr_from_der(rq->csr, &read, info);
    }
    return e != OK ? e
                   : sign(as_local(desk), w, rq, rq->known != NULL ? rq->known : read, ret, info);
}

/* --- life ------------------------------------------------------------------------------------------- */

static void local_end(struct desk *desk)
{
    struct local *d = as_local(desk);
    while (!list_empty(&d->drawers)) {
        out(d, LIST_OF(d->drawers.next, struct drawer, link));
    }
    hard_keys_free(d->hard);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

enum err desk_local_new(const struct keyring *keyring, const char *pkcs11_module,
                        const char *pkcs11_pin_file, struct desk **ret)
{
    struct local *d = NEW(struct local);
    if (d == NULL) {
        return E_NOMEM;
    }
    d->desk = (struct desk){.make = local_make, .issue = local_issue, .end = local_end};
    d->keyring = keyring;
    (void)pthread_mutex_init(&d->lock, NULL);
    list_init(&d->drawers);
    enum err e = hard_keys_new(pkcs11_module, pkcs11_pin_file, &d->hard);
    if (e != OK) {
        local_end(&d->desk);
        return e;
    }
    *ret = &d->desk;
    return OK;
}

void desk_free(struct desk *d)
{
    if (d != NULL) {
        d->end(d);
    }
}

void desk_made_done(struct desk_made *m)
{
    buf_done(&m->source);
    buf_done(&m->csr);
    buf_done(&m->root);
}

enum err desk_make(struct desk *d, const struct desk_make *rq, struct desk_made *ret,
                   struct err_info *info)
{
    struct desk_made made = DESK_MADE_INIT;
    enum err e = d->make(d, rq, &made, info);
    if (e != OK) {
        desk_made_done(&made);
        return e;
    }
    *ret = made;
    return OK;
}

enum err desk_issue(struct desk *d, const struct desk_issue *rq, struct cert **ret,
                    struct err_info *info)
{
    ASSERT(rq->rq.profile == PROFILE_DEVICE);
    return d->issue(d, rq, ret, info);
}
