/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/enrollment.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "dps/expiry.h"
#include "dps/issuance.h"
#include "dps/registration.h"
#include "dps/snapshot.h"
#include "dps/trust_bundle.h"
#include "server/admin.h"
#include "server/trust.h"

#define SWEEP_ROWS 200u

/* --- on the writer -------------------------------------------------------------------------------- */

static bool is_stale(const struct enr_match *m, uint64_t etag)
{
    return m->kind == ENR_MATCH_ETAG && m->etag != etag;
}

/* dps-service-rest.md A4 */
static enum err match_put(const struct enr_match *m, bool may_create, bool exists, uint64_t etag)
{
    if (!exists) {
        return m->kind == ENR_MATCH_NONE && may_create ? OK : E_NOT_FOUND;
    }
    return m->kind == ENR_MATCH_NONE ? E_EXISTS : is_stale(m, etag) ? E_ETAG : OK;
}

static enum err check_group_limit(struct store_tx *tx, const struct enr_row *new,
                                  const struct enr_row *old, struct err_info *info)
{
    bool symmetric = new->att == ATT_SYMMETRIC;
    int64_t n = 0;
    if (new->kind != ENR_GROUP || (old != NULL && (old->att == ATT_SYMMETRIC) == symmetric)) {
        return OK;
    }
    enum err e = sql_enr_count(tx->db, ENR_GROUP, symmetric, &n);
    if (e == OK && n >= (int64_t)LIMIT_DPS_GROUPS) {
        e = err_set(info, E_LIMIT, "Enrollment group limit reached: %u of this kind of attestation",
                    LIMIT_DPS_GROUPS);
    }
    return e;
}

typedef enum err (*name_fn)(struct store_tx *tx, struct arena *a, enum use_what what,
                            struct span fold, void *arg);
/* check_name's */
struct name_check {
    bool is_tpm; /* CA certificates are EK roots */
    struct err_info *info;
};

static enum err one_name(struct store_tx *tx, struct arena *a, enum use_what what, struct span name,
                         name_fn fn, void *arg)
{
    if (name.n == 0) {
        return OK;
    }
    char *fold = arena_str(a, name);
    if (fold == NULL) {
        return E_NOMEM;
    }
    text_lower(fold, name.n);
    return fn(tx, a, what, span_of(fold, name.n), arg);
}

/* Each hub, certificate, issuing CA and trust bundle that the row names, folded. */
static enum err each_name(struct store_tx *tx, struct arena *a, const struct enr_row *r, name_fn fn,
                          void *arg)
{
    struct issue_profile profile = {.ca = SPAN_NONE};
    struct span rest = r->hubs;
    enum err e = r->issuance.n != 0 ? issuance_read_text(r->issuance, a, &profile, NULL) : OK;
    if (e != OK || (e = one_name(tx, a, USE_ISSUER, profile.ca, fn, arg)) != OK ||
        (e = one_name(tx, a, USE_TRUST_BUNDLE, r->trust_bundle, fn, arg)) != OK ||
        (e = one_name(tx, a, USE_CA, r->ca[0], fn, arg)) != OK ||
        (e = one_name(tx, a, USE_CA, r->ca[1], fn, arg)) != OK) {
        return e;
    }
    e = one_name(tx, a, USE_HUB, r->hub_host, fn, arg);
    while (e == OK && rest.n != 0) {
        e = one_name(tx, a, USE_HUB, span_cut(&rest, ','), fn, arg);
    }
    return e;
}

static enum err check_name(struct store_tx *tx, struct arena *a, enum use_what what,
                           struct span fold, void *arg)
{
    static const char *const kinds[] = {
        [USE_HUB] = "a linked hub",
        [USE_CA] = "a verified CA certificate",
        [USE_ISSUER] = "an issuing CA (" ISSUANCE_MEMBER ".certificateAuthorityName)",
        [USE_TRUST_BUNDLE] = "a trust bundle (" TRUST_BUNDLE_MEMBER ")",
    };
    const struct name_check *c = arg;
    struct hub_row hub;
    struct issuer_row issuer;
    struct trust_bundle_row bundle;
    enum err e = OK;
    switch (what) {
    case USE_HUB:
        e = sql_hub_get(tx->db, a, fold, &hub);
        break;
    case USE_CA:
        e = c->is_tpm ? trust_tx_is_ek_root(tx, fold) : trust_tx_is_verified(tx, fold);
        break;
    case USE_ISSUER:
        e = sql_issuer_get(tx->db, a, fold, &issuer);
        break;
    case USE_TRUST_BUNDLE:
        e = sql_trust_bundle_get(tx->db, a, fold, &bundle);
        break;
    }
    if (e == E_NOT_FOUND || e == E_STATE) {
        e = err_set(c->info, E_ARG, "\"%.*s\" is not %s", SPAN_ARG(fold),
                    what == USE_CA && c->is_tpm ? "a CA certificate with usage endorsementKey"
                                                : kinds[what]);
    }
    return e;
}

static enum err use_add(struct store_tx *tx, struct arena *a UNUSED, enum use_what what,
                        struct span fold, void *arg)
{
    return sql_use_add(tx->db, what, fold, *(const int64_t *)arg);
}

static enum err use_del(struct store_tx *tx, struct arena *a UNUSED, enum use_what what,
                        struct span fold, void *arg)
{
    return sql_use_del(tx->db, what, fold, *(const int64_t *)arg);
}

static enum err keep_cert(const struct enr_input *in, const struct enr_row *old, unsigned i,
                          struct enr_row *row, struct err_info *info)
{
    uint8_t digest[32];
    char hex[65] = "";
    if (!in->keeps_cert[i]) {
        return OK;
    }
    if (old != NULL && old->cert[i].n != 0) {
        sha256(old->cert[i], digest);
        hex_to_cstr(span_of(digest, sizeof(digest)), true, hex);
    }
    if (hex[0] == '\0' ||
        (in->keeps_sha256[i].n != 0 && !span_is_nocase(in->keeps_sha256[i], hex))) {
        return err_set(info, E_ARG,
                       "x509: a certificate is missing, and the one described is not stored");
    }
    row->cert[i] = old->cert[i];
    return OK;
}

/* What an update leaves out stays: keys (dps-service-rest.md B2) and certificates that are only described. */
static enum err keep_secrets(const struct enr_input *in, const struct enr_row *old,
                             struct enr_row *row, struct err_info *info)
{
    enum err e;
    if (row->att == ATT_SYMMETRIC && !in->has_keys && old != NULL && old->att == ATT_SYMMETRIC) {
        row->key[0] = old->key[0];
        row->key[1] = old->key[1];
    }
    if ((e = keep_cert(in, old, 0, row, info)) != OK) {
        return e;
    }
    return keep_cert(in, old, 1, row, info);
}

static enum err check_webhook(struct store_tx *tx, const struct enr_input *in, struct arena *a,
                              struct err_info *info)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct webhook_conf c = {.allow_http = false};
    struct span text = SPAN_NONE;
    if (!in->has_http_webhook) {
        return OK;
    }
    enum err e = sql_setting_get(tx->db, a, SETTING_WEBHOOK, &text);
    if (e == OK && (e = json_read(text, LIMIT_ADMIN_BODY, &j, NULL)) == OK) {
        e = settings_read_webhook(j, a, &c, NULL);
    }
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    return c.allow_http ? OK
                        : err_set(info, E_ARG,
                                  "customAllocationDefinition: webhookUrl is an https address "
                                  "without credentials, apiVersion is given");
}

enum err enrollment_tx_put(struct store_tx *tx, struct dps *d, const struct enr_input *in,
                           const struct enr_match *match, bool may_create, struct arena *out,
                           struct enr_row *ret, struct err_info *info)
{
    struct enr_row row = in->row, old;
    enum err e = sql_enr_get(tx->db, out, row.kind, row.fold, &old);
    bool exists = e == OK;
    if (e != OK && e != E_NOT_FOUND) {
        return e;
    }
    const struct enr_row *before = exists ? &old : NULL;
    struct name_check check = {row.att == ATT_TPM || row.att == ATT_TPM_CA, info};
    if ((e = match_put(match, may_create, exists, exists ? old.etag : 0)) != OK ||
        (e = check_group_limit(tx, &row, before, info)) != OK ||
        (e = each_name(tx, out, &row, check_name, &check)) != OK ||
        (e = check_webhook(tx, in, out, info)) != OK ||
        (e = keep_secrets(in, before, &row, info)) != OK ||
        (e = admin_tx_next(tx, &row.etag)) != OK) {
        return e;
    }
    row.id = exists ? old.id : 0;
    row.created_us = exists ? old.created_us : tx->now_us;
    row.updated_us = tx->now_us;
    if (exists && (e = each_name(tx, out, &old, use_del, &old.id)) != OK) {
        return e;
    }
    if ((e = sql_enr_put(tx->db, &row)) != OK ||
        (e = each_name(tx, out, &row, use_add, &row.id)) != OK ||
        (e = dps_expiry_tx_note(tx, &row, exists && old.att == ATT_CERT)) != OK ||
        (row.kind == ENR_GROUP && (e = dps_tx_changed(tx, d)) != OK)) {
        return e;
    }
    *ret = row;
    return OK;
}

enum err enrollment_tx_delete(struct store_tx *tx, struct dps *d, enum enr_kind kind,
                              struct span fold, const struct enr_match *match)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(ENR_ARENA);
    struct enr_row old;
    struct reg_row reg;
    enum err e = sql_enr_get(tx->db, &a, kind, fold, &old);
    if (e != OK) {
        return e;
    }
    if (is_stale(match, old.etag)) {
        return E_ETAG;
    }
    if ((e = registration_tx_release(tx, d, &old, NULL)) != OK) {
        return e;
    }
    if (kind == ENR_INDIVIDUAL) {
        e = sql_reg_get(tx->db, &a, fold, &reg);
        if (e == OK && reg.enrollment == old.id) {
            e = sql_reg_del(tx->db, fold);
        }
        e = e == E_NOT_FOUND ? OK : e;
    } else if ((e = sql_dead_add(tx->db, old.id)) == OK) {
        e = dps_tx_changed(tx, d);
    }
    if (e != OK || (e = each_name(tx, &a, &old, use_del, &old.id)) != OK) {
        return e;
    }
    return sql_enr_del(tx->db, old.id);
}

/* --- records of deleted groups ------------------------------------------------------------------------ */

enum err enrollment_tx_sweep(struct store_tx *tx, bool *ret_more)
{
    int64_t id, n = 0;
    enum err e = sql_dead_first(tx->db, &id);
    if (e == E_NOT_FOUND) {
        *ret_more = false;
        return OK;
    }
    if (e != OK || (e = sql_reg_del_of(tx->db, id, SWEEP_ROWS, &n)) != OK) {
        return e;
    }
    *ret_more = true;
    return n < (int64_t)SWEEP_ROWS ? sql_dead_del(tx->db, id) : OK;
}

struct sweep_op {
    struct store_op op;
    struct dps_worker *dw;
    bool more;
};

static enum err sweep_tx(struct store_tx *tx, struct store_op *op)
{
    return enrollment_tx_sweep(tx, &CONTAINER_OF(op, struct sweep_op, op)->more);
}

static void sweep_submit(struct sweep_op *o);

static void sweep_home(struct msg *m)
{
    struct sweep_op *o = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct sweep_op, op);
    o->dw->n_pending--;
    if (o->op.result == OK && o->more && !o->dw->is_draining) {
        sweep_submit(o);
        return;
    }
    if (o->op.result != OK) {
        LOG_WARN("dps.sweep_failed",
                 L_ERR(o->op.result)); /* the next start, or the next deletion, goes on */
    }
    free(o);
}

static void sweep_submit(struct sweep_op *o)
{
    o->op = (struct store_op){.tx = sweep_tx, .bulk = true};
    o->op.home = loop_mailbox(worker_loop(o->dw->w));
    o->op.msg.run = sweep_home;
    if (store_submit(server_store(o->dw->dps->server), &o->op) != OK) {
        free(o);
        return;
    }
    o->dw->n_pending++;
}

void enrollment_sweep(struct dps_worker *dw)
{
    struct sweep_op *o = NEW(struct sweep_op);
    if (o != NULL) {
        o->dw = dw;
        sweep_submit(o);
    }
}

/* --- what is told ----------------------------------------------------------------------------------------- */

static void add_time(struct buf *b, const char *name, int64_t us)
{
    char iso[TIME_ISO_SIZE];
    time_iso7(us, iso);
    buf_addf(b, ",\"%s\":\"%s\"", name, iso);
}

static void write_state(struct buf *b, const struct enr_row *row, const struct enr_state *s)
{
    buf_add_str(b, ",\"registrationState\":");
    if (s->reg != NULL) {
        registration_write_state(b, s->reg, s->more);
        return;
    }
    buf_add_str(b, "{\"registrationId\":");
    json_write_str(b, row->name);
    buf_add_str(b, ",\"status\":\"unassigned\"}");
}

static enum err write_object(struct buf *b, const struct enr_row *row, const struct keyring *k)
{
    buf_addf(b, "{\"%s\":", enrollment_id_member(row->kind));
    json_write_str(b, row->name);
    buf_add_str(b, ",\"attestation\":");
    enum err e = enrollment_write_attestation(b, row, k);
    if (e != OK) {
        return e;
    }
    if (row->doc.n < 2) {
        return E_CORRUPT;
    }
    if (row->doc.n > 2) {
        buf_add_u8(b, ',');
        buf_add(b, span_sub(row->doc, 1, row->doc.n - 2));
    }
    if ((row->reprovision & REPRO_GIVEN) == 0) {
        buf_add_str(
            b, ",\"reprovisionPolicy\":{\"updateHubAssignment\":true,\"migrateDeviceData\":true}");
    }
    add_time(b, "createdDateTimeUtc", row->created_us);
    add_time(b, "lastUpdatedDateTimeUtc", row->updated_us);
    return buf_err(b);
}

enum err enrollment_write(struct buf *b, const struct enr_row *row, const struct keyring *k,
                          const struct enr_state *state)
{
    char etag[DPS_ETAG_SIZE];
    enum err e = write_object(b, row, k);
    if (e != OK) {
        return e;
    }
    dps_etag_text(row->etag, etag);
    buf_addf(b, ",\"etag\":\"%s\"", etag);
    if (state != NULL) {
        write_state(b, row, state);
    }
    buf_add_u8(b, '}');
    return buf_err(b);
}

enum err enrollment_write_plain(struct buf *b, const struct enr_row *row)
{
    char etag[DPS_ETAG_SIZE];
    uint8_t plain[DPS_ETAG_SIZE];
    size_t n = sizeof(plain);
    enum err e = write_object(b, row, NULL);
    dps_etag_text(row->etag, etag);
    if (e != OK || (e = base64_decode_to(span_str(etag), plain, &n)) != OK) {
        return e;
    }
    buf_add_str(b, ",\"etag\":");
    json_write_str(b, span_of(plain, n));
    buf_add_u8(b, '}');
    return buf_err(b);
}
