/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/issuer.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"

#define ROW_ARENA (192u << 10)

struct issuer {
    struct list link; /* guarded by issuers.lock */
    atomic_uint refs;
    struct dps *dps;
    struct arena arena;
    struct issuer_row row; /* in the arena */
    struct cert *cert[LIMIT_CHAIN_CERTS];
    size_t n_certs;
    struct span chain;
};

struct issuers {
    struct dps *dps;
    struct desk *desk;
    pthread_mutex_t lock; /* of the list; nothing else is taken inside */
    struct list loaded;   /* one reference each */
};

/* --- life ---------------------------------------------------------------------------------------- */

enum err issuers_new(struct dps *d, struct issuers **ret)
{
    const struct dps_conf *conf = server_conf(d->server);
    struct issuers *is = NEW(struct issuers);
    if (is == NULL) {
        return E_NOMEM;
    }
    is->dps = d;
    (void)pthread_mutex_init(&is->lock, NULL); /* cannot fail with default attributes */
    list_init(&is->loaded);
    enum err e = conf->signer != NULL
                     ? desk_far_new(conf->signer, &is->desk)
                     : desk_local_new(server_keyring(d->server), conf->pkcs11_module,
                                      conf->pkcs11_pin_file, &is->desk);
    if (e != OK) {
        issuers_free(is);
        return e;
    }
    *ret = is;
    return OK;
}

void issuers_free(struct issuers *is)
{
    struct list *n;
    if (is == NULL) {
        return;
    }
    while ((n = list_pop(&is->loaded)) != NULL) {
        issuer_unref(LIST_OF(n, struct issuer, link));
    }
    desk_free(is->desk);
    (void)pthread_mutex_destroy(&is->lock);
    free(is);
}

struct issuer *issuer_ref(struct issuer *is)
{
    atomic_fetch_add(&is->refs, 1);
    return is;
}

void issuer_unref(struct issuer *is)
{
    if (is == NULL || atomic_fetch_sub(&is->refs, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < is->n_certs; i++) {
        cert_free(is->cert[i]);
    }
    arena_done(&is->arena);
    free(is);
}

struct span issuer_name(const struct issuer *is)
{
    return is->row.name;
}
struct span issuer_chain(const struct issuer *is)
{
    return is->chain;
}
const struct cert *issuer_cert(const struct issuer *is)
{
    return is->cert[0];
}

enum err issuer_pool(struct dps_worker *dw, struct signer_pool **ret, struct err_info *info)
{
    if (dw->signers == NULL) {
        enum err e = signer_pool_new(dps_conf_of(dw)->issuer_threads, &dw->signers, info);
        if (e != OK) {
            return e;
        }
    }
    *ret = dw->signers;
    return OK;
}

/* --- loading --------------------------------------------------------------------------------------- */

/* A root that peers must have already is not sent: it would prove nothing (RFC 8446 4.4.2). */
static void cut_root(struct issuer *is)
{
    size_t last = is->n_certs - 1;
    is->chain = is->row.chain;
    if (last > 0 && cert_is_self_issued(is->cert[last])) {
        is->chain.n -= cert_der(is->cert[last]).n;
    }
}

/* is->row is borrowed for the call. */
static enum err fill(struct issuer *is, struct err_info *info)
{
    struct issuer_row *r = &is->row;
    struct span *all[] = {&r->name, &r->fold, &r->source, &r->csr, &r->chain};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        *all[i] = arena_span(&is->arena, *all[i]);
        if (all[i]->p == NULL) {
            return E_NOMEM;
        }
    }
    enum err e = cert_list_from_der(r->chain, is->cert, LIMIT_CHAIN_CERTS, &is->n_certs, info);
    if (e != OK) {
        return e == E_NOMEM ? e : E_CORRUPT;
    }
    cut_root(is);
    return OK;
}

static enum err issuer_load(struct dps *d, const struct issuer_row *row, struct issuer **ret,
                            struct err_info *info)
{
    struct issuer *is = NEW(struct issuer);
    if (is == NULL) {
        return E_NOMEM;
    }
    is->dps = d;
    atomic_init(&is->refs, 1);
    is->arena = (struct arena)ARENA_INIT(ROW_ARENA);
    is->row = *row;
    enum err e = fill(is, info);
    if (e != OK) {
        issuer_unref(is);
        return e;
    }
    *ret = is;
    return OK;
}

/* The loaded one of that row; an older state of it is forgotten (who signs with it has a reference). */
static struct issuer *find(struct issuers *all, const struct issuer_row *row)
{
    struct list *n = all->loaded.next;
    while (n != &all->loaded) {
        struct issuer *is = LIST_OF(n, struct issuer, link);
        n = n->next;
        if (!span_eq(is->row.fold, row->fold)) {
            continue;
        }
        if (is->row.id == row->id && is->row.etag == row->etag) {
            return issuer_ref(is);
        }
        list_del(&is->link);
        issuer_unref(is);
    }
    return NULL;
}

enum err issuer_get(struct dps *d, struct db *db, struct span name, struct issuer **ret,
                    struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(ROW_ARENA);
    struct issuers *all = d->issuers;
    struct issuer_row row;
    struct issuer *is = NULL;
    char *fold = arena_str(&a, name);
    if (fold == NULL) {
        return E_NOMEM;
    }
    text_lower(fold, name.n);
    enum err e = sql_issuer_get(db, &a, span_of(fold, name.n), &row);
    if (e == E_NOT_FOUND) {
        return err_set(info, e, "there is no certificate authority \"%.*s\"", SPAN_ARG(name));
    }
    if (e == OK && row.chain.n == 0) {
        return err_set(info, E_STATE,
                       "certificate authority \"%.*s\" waits for its own certificate",
                       SPAN_ARG(name));
    }
    if (e != OK) {
        return e;
    }
    (void)pthread_mutex_lock(&all->lock);
    if ((is = find(all, &row)) == NULL && (e = issuer_load(d, &row, &is, info)) == OK) {
        list_add_tail(&all->loaded, &issuer_ref(is)->link);
    }
    (void)pthread_mutex_unlock(&all->lock);
    if (e == OK) {
        *ret = is;
    }
    return e;
}

/* --- signing ---------------------------------------------------------------------------------------- */

struct desk *issuers_desk(struct dps *d)
{
    return d->issuers->desk;
}

enum err issuer_sign(struct issuer *is, const struct csr *csr, struct span csr_der,
                     const struct cert_request *rq, struct cert **ret, struct err_info *info)
{
    const struct desk_issue ask = {
        .key = {is->row.kind, is->row.fold, is->row.source},
        .ca = is->cert[0],
        .csr = csr_der,
        .known = csr,
        .rq = *rq,
    };
    return desk_issue(issuers_desk(is->dps), &ask, ret, info);
}
