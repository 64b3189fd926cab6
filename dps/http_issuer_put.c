/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes of /admin/certificateAuthorities/{name}.
 *
 *   PUT: handler reads -> signer pool makes or opens the key, makes the request and a self-signed root (issuer_op_work) -> home -> writer
 */
#include "dps/http_issuers.h"
#include "server/admin.h"

#define CA_ARENA (256u << 10)
#define DAY_US (86400LL * 1000000)
#define ROOT_DAYS 3650
#define ROOT_DAYS_MAX 36500

struct issuer_op {
    struct admin_op op;
    struct dps_worker *dw;
    struct arena arena;
    struct issuer_row row; /* what shall be; source, csr, chain as far as they are known yet */
    bool has_key;          /* a key was named: it replaces what was there */
    enum key_type type;    /* DESK_SEALED */
    struct span cn, organization;
    bool is_self_signed;
    int64_t days;
    uint64_t read_etag; /* 0: there was none */
    struct signer_job job;
    struct arena out; /* of the tx */
    struct issuer_row now;
};

static struct issuer_op *as_issuer_op(struct admin_op *op)
{
    return CONTAINER_OF(op, struct issuer_op, op);
}

static void issuer_op_done(struct admin_op *op)
{
    arena_done(&as_issuer_op(op)->arena);
    arena_done(&as_issuer_op(op)->out);
}

static struct issuer_op *issuer_op_new(struct http_rq *rq)
{
    struct issuer_op *o = admin_op_new(rq, sizeof(*o));
    struct span name, fold;
    if (o == NULL) {
        return NULL;
    }
    o->dw = dps_worker_of(worker_of_rq(rq));
    o->arena = (struct arena)ARENA_INIT(CA_ARENA);
    o->out = (struct arena)ARENA_INIT(CA_ARENA);
    o->op.done = issuer_op_done;
    if (!http_issuer_name(rq, &o->arena, &name, &fold)) {
        admin_op_forget(&o->op);
        return NULL;
    }
    o->row.fold = fold;
    o->row.name = arena_span(&o->arena, name);
    if (o->row.name.p == NULL) {
        admin_op_drop(rq, &o->op, E_NOMEM, NULL);
        return NULL;
    }
    return o;
}

static enum err keep(struct issuer_op *o, struct span from, struct span *to)
{
    *to = arena_span(&o->arena, from);
    return to->p != NULL ? OK : E_NOMEM;
}

/* {"kind":"file","type":"P-256"}, {"kind":"pkcs11","uri":"..."}, {"kind":"tpm","handle":"..."} or {"kind":"tpm","pem":"..."} */
static enum err read_key(struct issuer_op *o, const struct json *key, struct err_info *info)
{
    static const char *const known[] = {"kind", "type", "uri", "handle", "pem", NULL};
    struct span uri = SPAN_NONE, at = SPAN_NONE, pem = SPAN_NONE;
    size_t kind = 0, type = KEY_P256;
    enum err e;
    if ((e = admin_members(key, "properties.key", known, info)) != OK ||
        (e = json_get_word(key, "kind", JSON_F_NEED, issuer_kind_words, DESK_KINDS, &kind, info)) !=
            OK ||
        (e = json_get_word(key, "type", JSON_F_OPT, key_type_words, KEY_TYPES, &type, info)) !=
            OK ||
        (e = json_get_str(key, "uri", JSON_F_OPT, &uri, info)) != OK ||
        (e = json_get_str(key, "handle", JSON_F_OPT, &at, info)) != OK ||
        (e = json_get_str(key, "pem", JSON_F_OPT, &pem, info)) != OK) {
        return e;
    }
    o->has_key = true;
    o->row.kind = (enum desk_kind)kind;
    o->type = (enum key_type)type;
    bool wanted[DESK_KINDS] = {[DESK_SEALED] = uri.n + at.n + pem.n == 0,
                               [DESK_PKCS11] = uri.n != 0 && at.n + pem.n == 0,
                               [DESK_TPM] = uri.n == 0 && (at.n == 0) != (pem.n == 0)};
    if (!wanted[kind]) {
        return err_set(info, E_ARG,
                       "properties.key: pkcs11 wants uri, tpm one of handle and pem, file neither");
    }
    if (kind == DESK_SEALED) {
        return OK;
    }
    struct span source = kind == DESK_PKCS11 ? uri : at.n != 0 ? at : pem;
    e = kind == DESK_PKCS11 ? hard_pkcs11_check(source, info) : hard_tpm_check(source, info);
    return e != OK ? e : keep(o, source, &o->row.source);
}

static enum err read_chain(struct issuer_op *o, struct span pem, int64_t now_us,
                           struct err_info *info)
{
    AUTO(buf_done) struct buf ders = BUF_INIT(LIMIT_CHAIN_CERTS * LIMIT_CERT_DER);
    struct cert *c[LIMIT_CHAIN_CERTS] = {NULL};
    size_t n = 0;
    enum err e = cert_list_from_pem(pem, c, LIMIT_CHAIN_CERTS, &n, info);
    for (size_t i = 0; e == OK && i < n; i++) {
        if (!cert_is_ca(c[i])) {
            e = err_set(info, E_CERT, "properties.certificate: number %zu is no CA", i);
        } else if (cert_not_after_us(c[i]) <= now_us) {
            e = err_set(info, E_CERT, "properties.certificate: number %zu has expired", i);
        } else if (i != 0 && !cert_issued_by(c[i - 1], c[i])) {
            e = err_set(info, E_CERT,
                        "properties.certificate: number %zu did not issue the one before it", i);
        } else {
            e = cert_check_strength(c[i], info);
        }
        buf_add(&ders, cert_der(c[i]));
    }
    for (size_t i = 0; i < n; i++) {
        cert_free(c[i]);
    }
    if (e == OK && (e = buf_err(&ders)) == OK) {
        e = keep(o, buf_span(&ders), &o->row.chain);
    }
    return e;
}

static enum err read_properties(struct issuer_op *o, const struct json *body, int64_t now_us,
                                struct err_info *info)
{
    static const char *const known[] = {"key",
                                        "certificate",
                                        "commonName",
                                        "organization",
                                        "selfSigned",
                                        "validityDays",
                                        "state",
                                        "subject",
                                        "expiry",
                                        "thumbprint",
                                        "certificateSigningRequest",
                                        "created",
                                        "updated",
                                        NULL};
    struct json *props = NULL, *key = NULL;
    struct span chain = SPAN_NONE, cn = o->row.name, org = SPAN_NONE;
    enum err e;
    o->days = ROOT_DAYS;
    if ((e = json_get_object(body, "properties", JSON_F_NEED, &props, info)) != OK ||
        (e = admin_members(props, "properties", known, info)) != OK ||
        (e = json_get_object(props, "key", JSON_F_OPT, &key, info)) != OK ||
        (e = json_get_str(props, "certificate", JSON_F_OPT, &chain, info)) != OK ||
        (e = json_get_str(props, "commonName", JSON_F_OPT, &cn, info)) != OK ||
        (e = json_get_str(props, "organization", JSON_F_OPT, &org, info)) != OK ||
        (e = json_get_bool(props, "selfSigned", JSON_F_OPT, &o->is_self_signed, info)) != OK ||
        (e = json_get_int(props, "validityDays", JSON_F_OPT, 1, ROOT_DAYS_MAX, &o->days, info)) !=
            OK ||
        (key != NULL && (e = read_key(o, key, info)) != OK) || (e = keep(o, cn, &o->cn)) != OK ||
        (e = keep(o, org, &o->organization)) != OK) {
        return e;
    }
    if (o->is_self_signed && chain.n != 0) {
        return err_set(info, E_ARG, "properties: selfSigned and certificate exclude each other");
    }
    return chain.n != 0 ? read_chain(o, chain, now_us, info) : OK;
}

/* What an update leaves out is taken from the row as it is now; the transaction sees to it that it still is. */
static enum err take_old(struct issuer_op *o, struct db *db, struct err_info *info)
{
    struct issuer_row old;
    enum err e = sql_issuer_get(db, &o->arena, o->row.fold, &old);
    bool exists = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    if ((e = admin_match_put(&o->op.match, exists, exists ? old.etag : 0)) != OK) {
        return e;
    }
    if (!exists && !o->has_key) {
        return err_set(info, E_ARG_NULL, "properties.key is missing");
    }
    if (exists) {
        o->read_etag = old.etag;
        o->row.id = old.id;
        o->row.name = old.name;
        o->row.created_us = old.created_us;
    }
    if (!o->has_key) {
        o->row.kind = old.kind;
        o->row.source = old.source;
        o->row.csr = old.csr;
        o->row.chain = o->row.chain.n != 0 ? o->row.chain : old.chain;
    }
    return OK;
}

/* --- on a thread of the pool --- */

static enum err issuer_op_work(struct signer_job *job, struct err_info *info)
{
    struct issuer_op *o = CONTAINER_OF(job, struct issuer_op, job);
    int64_t now_us = clock_wall_us(server_clock(o->dw->dps->server));
    const struct desk_make rq = {
        .key = {o->row.kind, o->row.fold, o->row.source},
        .type = o->type,
        .cn = o->cn,
        .organization = o->organization,
        .is_self_signed = o->is_self_signed,
        .not_before_us = now_us - ISSUE_BACKDATE_US,
        .not_after_us = now_us + o->days * DAY_US,
    };
    struct desk_made made;
    if (!o->has_key && !o->is_self_signed) {
        return OK;
    }
    enum err e = desk_make(issuers_desk(o->dw->dps), &rq, &made, info);
    if (e != OK) {
        return e;
    }
    if (o->has_key) {
        e = keep(o, buf_span(&made.csr), &o->row.csr);
    }
    if (e == OK && o->has_key && o->row.kind == DESK_SEALED) {
        e = keep(o, buf_span(&made.source), &o->row.source);
    }
    if (e == OK && o->is_self_signed) {
        e = keep(o, buf_span(&made.root), &o->row.chain);
    }
    desk_made_done(&made);
    return e;
}

/* --- home again --- */

static enum err check_fit(const struct issuer_op *o, struct err_info *info)
{
    AUTO(csr_free_p) struct csr *csr = NULL;
    AUTO(cert_free_p) struct cert *first = NULL;
    struct span rest = o->row.chain;
    enum err e;
    if (rest.n == 0) {
        return OK;
    }
    if ((e = csr_from_der(o->row.csr, &csr, info)) != OK ||
        (e = cert_from_der(cert_cut_der(&rest), &first, info)) != OK) {
        return e;
    }
    return csr_fits(csr, first)
               ? OK
               : err_set(info, E_CERT, "properties.certificate: its key is not the CA's key");
}

static enum err issuer_put_tx(struct store_tx *tx, struct admin_op *op)
{
    struct issuer_op *o = as_issuer_op(op);
    struct issuer_row row = o->row, old;
    int64_t n = 0;
    arena_done(&o->out);
    o->out = (struct arena)ARENA_INIT(CA_ARENA);
    enum err e = sql_issuer_get(tx->db, &o->out, row.fold, &old);
    bool exists = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    if ((e = admin_match_put(&op->match, exists, exists ? old.etag : 0)) != OK) {
        return e;
    }
    if (exists && old.etag != o->read_etag) {
        return E_ETAG; /* made from another state of it */
    }
    if (!exists && (e = sql_issuer_count(tx->db, &n)) == OK && n >= (int64_t)LIMIT_ISSUING_CAS) {
        return err_set(&op->info, E_LIMIT, "at most %u certificate authorities", LIMIT_ISSUING_CAS);
    }
    op->created = !exists;
    row.id = exists ? old.id : 0;
    row.created_us = exists ? old.created_us : tx->now_us;
    row.updated_us = tx->now_us;
    if (e != OK || (e = admin_tx_next(tx, &row.etag)) != OK) {
        return e;
    }
    o->now = row;
    return sql_issuer_put(tx->db, &o->now);
}

static void issuer_put_answer(struct http_rq *rq, struct admin_op *op)
{
    AUTO(buf_done) struct buf b = BUF_INIT(CA_JSON_MAX);
    const struct issuer_op *o = as_issuer_op(op);
    enum err e = http_issuer_add(&b, &o->now);
    if (e != OK) {
        dps_refuse(rq, e, NULL);
        return;
    }
    const char *location =
        op->created ? arena_printf(http_rq_arena(rq), "/admin/certificateAuthorities/%.*s",
                                   SPAN_ARG(o->now.name))
                    : NULL;
    admin_answer_json(rq, op->created ? 201 : 200, o->now.etag, location, buf_span(&b));
}

/* What is wrong with a token or a TPM is the administrator's to mend: told in words, not as our own trouble. */
static enum err as_told(enum err e)
{
    return e == E_AGAIN || e == E_CONFIG || e == E_PERM ? E_STATE : e;
}

static void issuer_op_home(struct msg *m)
{
    struct issuer_op *o =
        CONTAINER_OF(CONTAINER_OF(m, struct signer_job, done), struct issuer_op, job);
    struct http_rq *rq = http_rq_of(worker_loop(o->dw->w), o->op.rq);
    struct err_info info = {0};
    struct cert *none = NULL;
    o->dw->n_pending--;
    enum err e = signer_finish(&o->job, &none, &info);
    if (e == OK) {
        e = check_fit(o, &info);
    }
    if (rq == NULL) {
        admin_op_forget(&o->op); /* nobody waits: nothing is written */
        return;
    }
    if (e != OK) {
        admin_op_drop(rq, &o->op, as_told(e), &info);
        return;
    }
    admin_submit(rq, &o->op);
}

void http_issuer_put(struct http_rq *rq)
{
    static const char *const known[] = {"properties", "id", "name", "etag", "type", NULL};
    AUTO(json_free_p) struct json *body = NULL;
    struct err_info info = {0};
    struct signer_pool *pool = NULL;
    struct issuer_op *o = issuer_op_new(rq);
    if (o == NULL) {
        return;
    }
    if (!admin_body(rq, known, false, &body)) {
        admin_op_forget(&o->op);
        return;
    }
    enum err e = read_properties(o, body, loop_wall_us(worker_loop(o->dw->w)), &info);
    o->op.tx = issuer_put_tx;
    o->op.answer = issuer_put_answer;
    o->job.work = issuer_op_work;
    o->job.home = loop_mailbox(worker_loop(o->dw->w));
    o->job.done.run = issuer_op_home;
    if (e != OK || (e = take_old(o, worker_db(o->dw->w), &info)) != OK ||
        (e = issuer_pool(o->dw, &pool, &info)) != OK || (e = signer_begin(pool, &o->job)) != OK) {
        admin_op_drop(rq, &o->op, e, &info);
        return;
    }
    o->dw->n_pending++;
}

static enum err issuer_delete_tx(struct store_tx *tx, struct admin_op *op)
{
    struct issuer_op *o = as_issuer_op(op);
    struct issuer_row old;
    bool is_used = false;
    arena_done(&o->out);
    o->out = (struct arena)ARENA_INIT(CA_ARENA);
    enum err e = sql_issuer_get(tx->db, &o->out, o->row.fold, &old);
    bool exists = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    if ((e = admin_match_change(&op->match, exists, exists ? old.etag : 0)) != OK ||
        (e = sql_use_any(tx->db, USE_ISSUER, o->row.fold, &is_used)) != OK) {
        return e;
    }
    return is_used
               ? err_set(&op->info, E_CONFLICT, "an enrollment names this certificate authority")
               : sql_issuer_del(tx->db, old.id);
}

void http_issuer_delete(struct http_rq *rq)
{
    struct issuer_op *o = issuer_op_new(rq);
    if (o != NULL) {
        o->op.tx = issuer_delete_tx;
        o->op.answer = admin_answer_deleted;
        o->op.is_urgent = true;
        admin_submit(rq, &o->op);
    }
}
