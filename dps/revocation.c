/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/revocation.h"

#include "base/text.h"
#include "dps/hublink.h"
#include "dps/issuance_sql.h"
#include "server/admin.h"

static const char *const state_words[REVOCATION_STATES] = {
    [REVOCATION_PENDING] = "pending",   [REVOCATION_DONE] = "disabled",
    [REVOCATION_ABSENT] = "absent",     [REVOCATION_REFUSED] = "refused",
    [REVOCATION_UNLINKED] = "unlinked",
};

/* --- on the worker --------------------------------------------------------------------------------- */

/* Keys that nobody knows: disabled as it is, it admits nobody anyway. */
enum err revocation_read(struct dps *d, struct span rid, struct revocation_wish *ret,
                         struct err_info *info)
{
    AUTO(json_free_p) struct json *body = json_new_object();
    struct json *att = json_new_object();
    enum err e = body == NULL || att == NULL ? E_NOMEM : OK;
    if (e != OK) {
        json_free(att);
        return e;
    }
    if ((e = json_set(body, "attestation", att)) != OK ||
        (e = json_set_str(att, "type", SPAN_LIT("symmetricKey"))) != OK ||
        (e = json_set_str(body, "registrationId", rid)) != OK ||
        (e = json_set_str(body, "provisioningStatus", SPAN_LIT("disabled"))) != OK ||
        (e = enrollment_read(body, ENR_INDIVIDUAL, rid, &ret->made, info)) != OK) {
        return e;
    }
    return enrollment_seal(server_keyring(d->server), &ret->made);
}

void revocation_wish_done(struct revocation_wish *w)
{
    enrollment_input_done(&w->made);
}

/* --- on the writer --------------------------------------------------------------------------------- */

static enum err disable(struct store_tx *tx, struct arena *a, struct enr_row *row)
{
    AUTO(json_free_p) struct json *doc = NULL;
    AUTO(buf_done) struct buf b = BUF_INIT(2 * LIMIT_DPS_BODY);
    enum err e;
    if (!row->is_enabled) {
        return OK;
    }
    if ((e = json_read_object(row->doc, 2 * LIMIT_DPS_BODY, &doc, NULL)) != OK ||
        (e = json_set_str(doc, "provisioningStatus", SPAN_LIT("disabled"))) != OK) {
        return e;
    }
    json_write(&b, doc);
    row->doc = arena_span(a, buf_span(&b));
    row->is_enabled = false;
    row->updated_us = tx->now_us;
    if (buf_err(&b) != OK || row->doc.p == NULL) {
        return E_NOMEM;
    }
    e = admin_tx_next(tx, &row->etag);
    return e != OK ? e : sql_enr_put(tx->db, row);
}

static enum err close_door(struct store_tx *tx, struct dps *d, struct arena *a,
                           const struct revocation_wish *w, bool *ret_made, struct err_info *info)
{
    static const struct enr_match none = {.kind = ENR_MATCH_NONE};
    struct enr_row row;
    enum err e = sql_enr_get(tx->db, a, ENR_INDIVIDUAL, w->made.row.fold, &row);
    *ret_made = e == E_NOT_FOUND;
    if (e == OK) {
        return disable(tx, a, &row);
    }
    return e == E_NOT_FOUND ? enrollment_tx_put(tx, d, &w->made, &none, true, a, &row, info) : e;
}

struct owe {
    struct store_tx *tx;
    struct span fold, owner;
    int64_t sequence;
};

static enum err owe_hub(const struct owe *o, struct span hub, struct span device_id)
{
    const struct left_row left = {.what = LEFT_DISABLE,
                                  .rid = o->fold,
                                  .hub = hub,
                                  .device_id = device_id,
                                  .owner = o->owner,
                                  .sequence = o->sequence};
    const struct revocation_hub_row row = {
        .fold = o->fold, .hub = hub, .device_id = device_id, .state = REVOCATION_PENDING};
    enum err e = sql_revocation_hub_put(o->tx->db, &row);
    return e != OK ? e : sql_left_add(o->tx->db, &left);
}

/* Where it is, where it goes, and where it came from. */
static enum err owe_hubs(struct store_tx *tx, struct dps *d, struct arena *a, struct span fold)
{
    AUTO(buf_done) struct buf owner = BUF_INIT(LIMIT_OWNER);
    struct reg_row reg;
    struct enr_row enr;
    enum err e = sql_reg_get(tx->db, a, fold, &reg);
    if (e != OK) {
        return e == E_NOT_FOUND ? OK : e; /* it never registered */
    }
    if ((e = sql_enr_by_id(tx->db, a, reg.enrollment, &enr)) != OK) {
        return e;
    }
    hublink_add_owner(&owner, d->id_scope, &enr, false);
    if (buf_err(&owner) != OK) {
        return buf_err(&owner);
    }
    const struct owe o = {tx, fold, buf_span(&owner), MAX(tx->now_us, reg.updated_us + 1)};
    bool is_open = reg.op_open != OP_CLOSED && reg.op_hub.n != 0 && reg.op_device_id.n != 0;
    bool is_elsewhere = is_open && (!span_eq_nocase(reg.op_hub, reg.hub) ||
                                    !span_eq(reg.op_device_id, reg.device_id));
    if (reg.hub.n != 0 && (e = owe_hub(&o, reg.hub, reg.device_id)) != OK) {
        return e;
    }
    if (is_elsewhere && (e = owe_hub(&o, reg.op_hub, reg.op_device_id)) != OK) {
        return e;
    }
    return reg.op_open != OP_CLOSED && reg.op_from.n != 0 && !span_eq_nocase(reg.op_from, reg.hub)
               ? owe_hub(&o, reg.op_from, reg.device_id)
               : OK;
}

enum err revocation_tx(struct store_tx *tx, struct dps *d, const struct revocation_wish *w,
                       struct err_info *info)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(2 * ENR_ARENA);
    struct revocation_row row, old;
    struct span fold = w->made.row.fold;
    bool was_made;
    enum err e = close_door(tx, d, &a, w, &was_made, info);
    if (e != OK || ((e = sql_revocation_get(tx->db, &a, fold, &old)) != OK && e != E_NOT_FOUND)) {
        return e;
    }
    row = (struct revocation_row){.fold = fold,
                                  .rid = w->made.row.name,
                                  .at_us = tx->now_us,
                                  .was_made = was_made || (e == OK && old.was_made)};
    if ((e = sql_revocation_put(tx->db, &row)) != OK ||
        (e = sql_revocation_hub_del_of(tx->db, fold)) != OK) {
        return e;
    }
    return owe_hubs(tx, d, &a, fold);
}

enum err revocation_tx_told(struct store_tx *tx, const struct left_row *left,
                            enum revocation_state state, unsigned http_status)
{
    const struct revocation_hub_row row = {.fold = left->rid,
                                           .hub = left->hub,
                                           .device_id = left->device_id,
                                           .state = state,
                                           .http_status = http_status};
    return sql_revocation_hub_put(tx->db, &row);
}

/* --- what is told ------------------------------------------------------------------------------------ */

struct tell {
    struct buf *b;
    int64_t now_us;
    unsigned n, n_pending;
};

static enum err tell_hub(void *arg, const struct revocation_hub_row *row)
{
    struct tell *t = arg;
    buf_add_str(t->b, t->n++ == 0 ? "{\"hub\":" : ",{\"hub\":");
    json_write_str(t->b, row->hub);
    buf_add_str(t->b, ",\"deviceId\":");
    json_write_str(t->b, row->device_id);
    buf_addf(t->b, ",\"state\":\"%s\"", state_words[row->state]);
    if (row->state == REVOCATION_REFUSED) {
        buf_addf(t->b, ",\"httpStatus\":%u", row->http_status);
    }
    buf_add_u8(t->b, '}');
    t->n_pending += row->state == REVOCATION_PENDING;
    return buf_err(t->b);
}

static enum err tell_cert(void *arg, const struct issued_row *row)
{
    struct tell *t = arg;
    char iso[TIME_ISO_SIZE];
    if (row->not_after_us <= t->now_us) {
        return OK;
    }
    time_iso7(row->not_after_us, iso);
    buf_add_str(t->b, t->n++ == 0 ? "{\"serialNumber\":" : ",{\"serialNumber\":");
    json_write_str(t->b, row->serial);
    buf_add_str(t->b, ",\"certificateAuthorityName\":");
    json_write_str(t->b, row->ca);
    buf_addf(t->b, ",\"notAfterUtc\":\"%s\"}", iso);
    return t->n >= REVOCATION_CERTS ? E_LIMIT : buf_err(t->b);
}

void revocation_note(struct db *db, struct arena *a, const struct enr_row *own, struct verdict *v)
{
    struct revocation_row row;
    struct err_info before = v->info;
    enum err heard = verdict_err(v);
    if (sql_revocation_get(db, a, own->fold, &row) == OK && row.was_made) {
        (void)verdict_refuse(
            v, RULE_ENROLLMENT_DISABLED,
            "the device was revoked: a disabled enrollment of its own beats its group");
        v->err = heard;
        return;
    }
    (void)err_set(&v->info, before.err, "%.240s, and that enrollment is disabled", before.why);
}

enum err revocation_write(struct db *db, struct span fold, int64_t now_us, struct buf *b)
{
    AUTO(arena_done) struct arena a = ARENA_INIT(4096);
    struct revocation_row row;
    struct tell hubs = {.b = b}, certs = {.b = b, .now_us = now_us};
    char iso[TIME_ISO_SIZE];
    enum err e = sql_revocation_get(db, &a, fold, &row);
    if (e != OK) {
        return e;
    }
    time_iso7(row.at_us, iso);
    buf_add_str(b, "{\"registrationId\":");
    json_write_str(b, row.rid);
    buf_addf(b, ",\"revokedAtUtc\":\"%s\",\"enrollment\":\"%s\",\"hubs\":[", iso,
             row.was_made ? "made" : "disabled");
    if ((e = sql_revocation_hub_each(db, fold, tell_hub, &hubs)) != OK) {
        return e;
    }
    buf_add_str(b, "],\"certificates\":[");
    e = sql_issued_page(db, 0, fold, 1000, tell_cert, &certs);
    if (e != OK && e != E_LIMIT) {
        return e;
    }
    buf_addf(b, "],\"state\":\"%s\"}", hubs.n_pending != 0 ? "pending" : "complete");
    return buf_err(b);
}
