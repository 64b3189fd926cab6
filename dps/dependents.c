/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/dependents.h"

#include "base/text.h"
#include "dps/enrollment.h"
#include "dps/registration.h"
#include "server/trust.h"
#include "wire/json.h"

#define MAX_GROUPS (2u * LIMIT_DPS_GROUPS)

enum err dependents_tx_note(struct store_tx *tx, struct span fold, int64_t enrollment,
                            enum enr_att att, const uint8_t anchor[CERT_SHA256])
{
    if (anchor != NULL) {
        return sql_anchor_put(tx->db, fold, span_of(anchor, CERT_SHA256), enrollment);
    }
    /* With another attestation the record's own says that it no longer counts. */
    return att == ATT_CERT || att == ATT_CA ? sql_anchor_del(tx->db, fold) : OK;
}

/* --- the certificate among the others ----------------------------------------------------------------- */

struct known_ca {
    struct cert *cert;
    char name[LIMIT_ADMIN_NAME + 1];
    bool is_verified;
};
struct known {
    struct known_ca ca[LIMIT_CA_CERTS];
    size_t n;
    const struct known_ca *self;
};

static void known_done(struct known *k)
{
    for (size_t i = 0; i < k->n; i++) {
        cert_free(k->ca[i].cert);
    }
}

static enum err add_known(void *arg, struct span name, bool is_verified, struct cert *c)
{
    struct known *k = arg;
    ASSERT(k->n < LIMIT_CA_CERTS);
    struct known_ca *ca = &k->ca[k->n++];
    (void)span_to_cstr(name, ca->name, sizeof(ca->name)); /* a name fits */
    ca->is_verified = is_verified;
    ca->cert = cert_ref(c);
    return OK;
}

static bool is_same(const struct cert *a, const struct cert *b)
{
    return span_eq(span_of(cert_sha256(a), CERT_SHA256), span_of(cert_sha256(b), CERT_SHA256));
}

/* Does what this CA admits also end at another verified one: its own issuer, or another certificate of its key? */
static bool stands_in(const struct known_ca *other, const struct known_ca *self)
{
    return other != self && other->is_verified &&
           (cert_same_key(other->cert, self->cert) || cert_issued_by(self->cert, other->cert));
}

/* A group's certificate: does the way up from it end here? A verified CA between them ends it there. */
static bool stands_below(const struct known *k, const struct cert *c)
{
    if (is_same(c, k->self->cert)) {
        return true;
    }
    for (size_t i = 0; i < k->n; i++) {
        if (&k->ca[i] != k->self && k->ca[i].is_verified &&
            (is_same(c, k->ca[i].cert) || cert_issued_by(c, k->ca[i].cert))) {
            return false;
        }
    }
    if (cert_issued_by(c, k->self->cert)) {
        return true;
    }
    for (size_t i = 0; i < k->n; i++) {
        if (&k->ca[i] != k->self && cert_issued_by(c, k->ca[i].cert) &&
            cert_issued_by(k->ca[i].cert, k->self->cert)) {
            return true;
        }
    }
    return false;
}

/* --- groups ---------------------------------------------------------------------------------------------- */

struct counts {
    int64_t enrollment[MAX_GROUPS];
    int64_t n[MAX_GROUPS];
    size_t n_groups;
    int64_t individuals, all;
};

static enum err add_count(void *arg, int64_t enrollment, enum enr_kind kind, int64_t n)
{
    struct counts *c = arg;
    c->all += n;
    if (kind != ENR_GROUP) {
        c->individuals += n;
    } else if (c->n_groups < MAX_GROUPS) {
        c->enrollment[c->n_groups] = enrollment;
        c->n[c->n_groups++] = n;
    }
    return OK;
}

struct groups {
    struct db *db;
    const struct known *known;
    struct counts *counts;
    struct buf *b;
    size_t n;
};

static const char *how(const struct known *k, const struct enr_row *row)
{
    for (unsigned i = 0; i < 2; i++) {
        AUTO(cert_free_p) struct cert *c = NULL;
        if (row->ca[i].n != 0 && span_is_nocase(row->ca[i], k->self->name)) {
            return "caReferences";
        }
        if (row->att == ATT_CERT && row->cert[i].n != 0 &&
            cert_from_der(row->cert[i], &c, NULL) == OK && stands_below(k, c)) {
            return "signingCertificates";
        }
    }
    return NULL;
}

static enum err add_group(void *arg, const struct enr_row *row)
{
    struct groups *g = arg;
    int64_t n = 0;
    for (size_t i = 0; i < g->counts->n_groups; i++) {
        n = g->counts->enrollment[i] == row->id ? g->counts->n[i] : n;
    }
    const char *by = how(g->known, row);
    if (by == NULL && n == 0) {
        return OK;
    }
    /* Those of a group for TPMs keep no anchor: all of them count. */
    if (row->att == ATT_TPM_CA) {
        enum err e = sql_reg_count(g->db, row->id, LIMIT_DEPENDENTS_COUNT + 1, &n);
        if (e != OK) {
            return e;
        }
        g->counts->all += n;
    }
    buf_add_str(g->b, g->n++ == 0 ? "" : ",");
    buf_add_str(g->b, "{\"enrollmentGroupId\":");
    json_write_str(g->b, row->name);
    buf_addf(g->b, ",\"provisioningStatus\":\"%s\",\"by\":\"%s\",\"registrations\":%lld}",
             row->is_enabled ? "enabled" : "disabled", by != NULL ? by : "registrations",
             (long long)n);
    return buf_err(g->b);
}

/* --- registrations ----------------------------------------------------------------------------------------- */

struct rows {
    struct buf *b;
    uint64_t n, top;
    int64_t last_enrollment;
    char last_fold[LIMIT_ID + 1];
    bool has_more;
};

static void add_member(struct buf *b, const char *name, struct span v)
{
    if (v.n != 0) {
        buf_addf(b, ",\"%s\":", name);
        json_write_str(b, v);
    }
}

static enum err add_row(void *arg, const struct anchor_row *row)
{
    struct rows *r = arg;
    if (r->n == r->top) {
        r->has_more = true;
        return E_LIMIT;
    }
    buf_add_str(r->b, r->n++ == 0 ? "{\"registrationId\":" : ",{\"registrationId\":");
    json_write_str(r->b, row->rid);
    add_member(r->b, "enrollmentGroupId", row->group_id);
    add_member(r->b, "deviceId", row->device_id);
    add_member(r->b, "assignedHub", row->hub);
    buf_addf(r->b, ",\"status\":\"%s\"}", reg_status_words[row->status]);
    r->last_enrollment = row->enrollment;
    return span_to_cstr(row->fold, r->last_fold, sizeof(r->last_fold)) ? buf_err(r->b) : E_CORRUPT;
}

static enum err write_rows(struct db *db, const struct known *k, const struct dependents_page *page,
                           struct buf *b)
{
    struct rows r = {.b = b, .top = page->top};
    buf_add_str(b, ",\"value\":[");
    enum err e =
        sql_anchor_page(db, span_of(cert_sha256(k->self->cert), CERT_SHA256),
                        page->after_enrollment, page->after_fold, page->top + 1, add_row, &r);
    if (e != OK && e != E_LIMIT) {
        return e;
    }
    buf_add_str(b, "],\"nextLink\":");
    if (r.has_more) {
        buf_addf(b,
                 "\"/admin/certificates/%s/dependents?api-version=" SERVER_ADMIN_VERSION
                 "&top=%llu&after=%lld.%s\"}",
                 k->self->name, (unsigned long long)page->top, (long long)r.last_enrollment,
                 r.last_fold);
    } else {
        buf_add_str(b, "null}");
    }
    return buf_err(b);
}

/* --- all --------------------------------------------------------------------------------------------------- */

static enum err write_all(struct db *db, const struct known *k, const struct dependents_page *page,
                          struct buf *b)
{
    AUTO(mem_free_p) struct counts *counts = NEW(struct counts);
    struct span sha256 = span_of(cert_sha256(k->self->cert), CERT_SHA256);
    struct groups groups = {db, k, counts, b, 0};
    enum err e = counts != NULL ? OK : E_NOMEM;
    const char *sep = "";
    if (e != OK ||
        (e = sql_anchor_count(db, sha256, LIMIT_DEPENDENTS_COUNT + 1, add_count, counts)) != OK) {
        return e;
    }
    buf_addf(b, "{\"name\":\"%s\",\"isVerified\":%s,\"admittedStillBy\":[", k->self->name,
             k->self->is_verified ? "true" : "false");
    for (size_t i = 0; i < k->n; i++) {
        if (stands_in(&k->ca[i], k->self)) {
            buf_addf(b, "%s\"%s\"", sep, k->ca[i].name);
            sep = ",";
        }
    }
    buf_add_str(b, "],\"groups\":[");
    if ((e = sql_enr_page(db, ENR_GROUP, SPAN_NONE, MAX_GROUPS, add_group, &groups)) != OK) {
        return e;
    }
    bool is_exact = counts->all <= (int64_t)LIMIT_DEPENDENTS_COUNT;
    buf_addf(b, "],\"individualRegistrations\":%lld,\"registrations\":%lld,\"isExact\":%s",
             (long long)counts->individuals, (long long)counts->all, is_exact ? "true" : "false");
    return write_rows(db, k, page, b);
}

enum err dependents_read(struct db *db, struct span name, const struct dependents_page *page,
                         struct buf *b)
{
    struct known k = {.n = 0};
    enum err e = trust_each(db, add_known, &k);
    for (size_t i = 0; e == OK && i < k.n; i++) {
        k.self = span_is_nocase(name, k.ca[i].name) ? &k.ca[i] : k.self;
    }
    if (e == OK) {
        e = k.self != NULL ? write_all(db, &k, page, b) : E_NOT_FOUND;
    }
    known_done(&k);
    return e;
}
