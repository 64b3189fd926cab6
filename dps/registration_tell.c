/* SPDX-License-Identifier: Apache-2.0 */
/* What devices and administrators are told of a registration; what a device asks. */
#include <stdio.h>

#include "base/log.h"
#include "base/text.h"
#include "certs/signer.h"
#include "dps/enrollment.h"
#include "dps/registration.h"
#include "dps/trust_bundle.h"
#include "wire/json.h"

/* --- etags ------------------------------------------------------------------------------------- */

void dps_etag_text(uint64_t etag, char dst[DPS_ETAG_SIZE])
{
    char plain[40];
    AUTO(buf_done) struct buf b = BUF_INIT(DPS_ETAG_SIZE);
    int n = snprintf(plain, sizeof(plain), "\"%08x-0000-0100-0000-%08x0000\"",
                     (unsigned)(etag >> 32), (unsigned)(etag & UINT32_MAX));
    base64_add(&b, span_of(plain, (size_t)n));
    if (buf_err(&b) != OK || !span_to_cstr(buf_span(&b), dst, DPS_ETAG_SIZE)) {
        dst[0] = '\0'; /* no memory: an etag that matches nothing */
    }
}

static bool read_hex(struct span s, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *ret = v;
    return true;
}

uint64_t dps_etag_read(struct span text)
{
    uint8_t raw[DPS_ETAG_SIZE];
    char again[DPS_ETAG_SIZE];
    size_t n = sizeof(raw);
    uint64_t high, low;
    if (base64_decode_to(text, raw, &n) != OK || n != 38 || !read_hex(span_of(raw + 1, 8), &high) ||
        !read_hex(span_of(raw + 25, 8), &low)) {
        return 0;
    }
    uint64_t v = high << 32 | low;
    dps_etag_text(v, again);
    return span_is(text, again) ? v : 0;
}

/* --- what is told -------------------------------------------------------------------------------- */

const char *const reg_status_words[REG_STATUSES] = {
    [REG_UNASSIGNED] = "unassigned", [REG_ASSIGNING] = "assigning", [REG_ASSIGNED] = "assigned",
    [REG_FAILED] = "failed",         [REG_DISABLED] = "disabled",
};
static const char *const substatus_words[REG_SUBSTATUSES] = {
    [SUB_NONE] = "",
    [SUB_INITIAL] = "initialAssignment",
    [SUB_MIGRATED] = "deviceDataMigrated",
    [SUB_RESET] = "deviceDataReset",
    [SUB_BACK] = "reprovisionedToInitialAssignment",
};

static void add_str(struct buf *b, const char *name, struct span v)
{
    buf_addf(b, ",\"%s\":", name);
    json_write_str(b, v);
}

static void add_time(struct buf *b, const char *name, int64_t us)
{
    char iso[TIME_ISO_SIZE];
    time_iso7(us, iso);
    buf_addf(b, ",\"%s\":\"%s\"", name, iso);
}

enum err registration_read_more(struct db *db, struct arena *a, const struct reg_row *row,
                                struct reg_more *storage, const struct reg_more **ret)
{
    *ret = NULL;
    if ((row->op_flags & REG_F_MORE) == 0) {
        return OK;
    }
    enum err e = sql_more_get(db, a, row->fold, storage);
    if (e == OK) {
        *ret = storage;
    }
    return e == E_NOT_FOUND ? OK : e;
}

enum err registration_read_told(struct db *db, struct arena *a, const struct reg_row *row,
                                struct reg_more *storage, const struct reg_more **ret)
{
    struct span bundle = SPAN_NONE;
    enum err e = registration_read_more(db, a, row, storage, ret);
    if (e != OK || row->status != REG_ASSIGNED || (row->op_flags & REG_F_TRUST_BUNDLE) == 0 ||
        (e = trust_bundle_tell(db, a, row->enrollment, &bundle)) != OK || bundle.n == 0) {
        return e;
    }
    if (*ret == NULL) {
        *storage = (struct reg_more){.csr_form = 0};
        *ret = storage;
    }
    storage->trust_bundle = bundle;
    return OK;
}

/* A device with a TPM fails without its key: it stands in every answer that says assigned (dps-tpm.md 5). */
static void write_attestation(struct buf *b, const struct reg_row *row, const struct reg_more *more)
{
    const char *sep = "";
    buf_addf(b, "{\"%s\":{", enrollment_att_word(row->att));
    if (row->group_id.n != 0) {
        buf_add_str(b, "\"enrollmentGroupId\":");
        json_write_str(b, row->group_id);
        sep = ",";
    }
    if (row->status == REG_ASSIGNED && more != NULL && more->tpm_blob.n != 0) {
        buf_addf(b, "%s\"authenticationKey\":\"", sep);
        base64_add(b, more->tpm_blob);
        buf_add_u8(b, '"');
    }
    buf_add_u8(b, '}');
}

/* docs/protocol/dps-device.md 10: one PEM text, or an array of base64 without armour. */
static void add_certificates(struct buf *b, const struct reg_more *more)
{
    AUTO(buf_done) struct buf pem = BUF_INIT(DPS_ANSWER_MAX);
    struct span rest = more->chain, der;
    bool is_array = more->csr_form == 2;
    const char *comma = "";
    buf_add_str(b, is_array ? ",\"issuedCertificateChain\":[" : ",\"issuedClientCertificate\":");
    while ((der = cert_cut_der(&rest)).n != 0) {
        if (is_array) {
            buf_addf(b, "%s\"", comma);
            base64_add(b, der);
            buf_add_u8(b, '"');
            comma = ",";
        } else {
            cert_der_add_pem(der, &pem);
        }
    }
    if (is_array) {
        buf_add_u8(b, ']');
    } else {
        json_write_str(b, buf_span(&pem));
    }
}

void registration_write_state(struct buf *b, const struct reg_row *row, const struct reg_more *more)
{
    char etag[DPS_ETAG_SIZE];
    dps_etag_text(row->etag, etag);
    write_attestation(b, row, more);
    add_str(b, "registrationId", row->rid);
    add_time(b, "createdDateTimeUtc", row->created_us);
    if (row->status == REG_ASSIGNED) {
        add_str(b, "assignedHub", row->hub);
        add_str(b, "deviceId", row->device_id);
    }
    buf_addf(b, ",\"status\":\"%s\"", reg_status_words[row->status]);
    if (row->status == REG_ASSIGNED && row->substatus != SUB_NONE) {
        buf_addf(b, ",\"substatus\":\"%s\"", substatus_words[row->substatus]);
    }
    if (row->status == REG_FAILED) {
        buf_addf(b, ",\"errorCode\":%u", row->error_code);
        add_str(b, "errorMessage", row->error_text);
    }
    if (row->status == REG_ASSIGNED && more != NULL && more->answer.n != 0) {
        buf_add_str(b, ",\"payload\":");
        buf_add(b, more->answer);
    }
    if (row->status == REG_ASSIGNED && more != NULL && more->chain.n != 0) {
        add_certificates(b, more);
    }
    if (row->status == REG_ASSIGNED && more != NULL && more->trust_bundle.n != 0) {
        buf_add_str(b, ",\"trustBundle\":");
        buf_add(b, more->trust_bundle);
    }
    add_time(b, "lastUpdatedDateTimeUtc", row->updated_us);
    buf_addf(b, ",\"etag\":\"%s\"}", etag);
}

void registration_write_assigning(struct buf *b, struct span op_id)
{
    buf_addf(b, "{\"operationId\":\"%.*s\",\"status\":\"assigning\"}", SPAN_ARG(op_id));
}

void registration_write_answer(struct buf *b, const struct reg_row *row,
                               const struct reg_more *more)
{
    buf_addf(b, "{\"operationId\":\"%.*s\",\"status\":\"%s\",\"registrationState\":",
             SPAN_ARG(row->op_id), reg_status_words[row->status]);
    if (row->status == REG_ASSIGNING) {
        buf_add_str(b, "{\"registrationId\":");
        json_write_str(b, row->rid);
        buf_add_str(b, ",\"status\":\"assigning\"}");
    } else {
        registration_write_state(b, row, more);
    }
    buf_add_u8(b, '}');
}

enum err registration_poll(struct dps_worker *dw, struct arena *a, struct span fold,
                           struct span op_id, bool is_enabled, struct buf *b, bool *ret_final)
{
    struct reg_row row;
    struct reg_more storage;
    const struct reg_more *more = NULL;
    struct span body = SPAN_NONE;
    struct db *db = worker_db(dw->w);
    enum err e = sql_reg_get(db, a, fold, &row);
    if (e != OK) {
        return e; /* with its record an operation is forgotten */
    }
    bool is_last = span_eq(row.op_id, op_id);
    if ((e = is_last ? registration_read_told(db, a, &row, &storage, &more)
                     : sql_past_get(db, a, op_id, fold, &body)) != OK) {
        return e;
    }
    if (is_enabled && !is_last) {
        buf_add(b, body);
    } else {
        row.op_id = op_id;
        row.status = is_enabled ? row.status : REG_DISABLED;
        registration_write_answer(b, &row, more);
    }
    *ret_final = !is_last || row.status != REG_ASSIGNING;
    return buf_err(b);
}

int64_t registration_begun_us(struct span op_id)
{
    int64_t t = 0;
    struct span hex = span_sub(op_id, 2, 12);
    for (size_t i = 0; i < hex.n; i++) {
        uint8_t c = hex.p[i];
        bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && (c < 'a' || c > 'f')) {
            return 0;
        }
        t = t << 4 | (int64_t)(is_digit ? c - '0' : c - 'a' + 10);
    }
    return hex.n == 12 ? (t >> 16) * 1000000 + ((t & 0xffff) * 1000000 >> 16) : 0;
}

enum rule registration_poll_refused(enum err e, struct verdict *v)
{
    if (e == E_NOT_FOUND) {
        return verdict_refuse(v, RULE_OPERATION, "the operation is not known");
    }
    return verdict_fail(v, e);
}

/* --- what is asked ------------------------------------------------------------------------------- */

bool registration_is_sticky(struct span api_version)
{
    return api_version.n >= 10 &&
           span_cmp(span_sub(api_version, 0, 10), SPAN_LIT("2018-04-01")) <= 0;
}

/* The payload as text: it goes into the database and to a webhook, not through another tree. */
static enum err read_payload(struct arena *a, const struct json *body, struct span *ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(2 * LIMIT_DPS_BODY);
    const struct json *p = json_get(body, "payload");
    if (p == NULL || json_is(p, JSON_T_NULL)) {
        return OK;
    }
    json_write(&b, p);
    if (buf_err(&b) != OK) {
        return buf_err(&b);
    }
    *ret = arena_span(a, buf_span(&b));
    return ret->p != NULL ? OK : E_NOMEM;
}

/* Which of the two contracts (dps-device.md 10) is said by the member that is there. What cannot be decoded is no error of the body: the
 * registration begins, and fails. */
static enum err read_csr(struct arena *a, const struct json *body, struct registration_body *r)
{
    static const struct {
        const char *member;
        unsigned form;
    } forms[] = {{"csr", 2}, {"clientCertificateCsr", 1}};
    AUTO(buf_done) struct buf der = BUF_INIT(LIMIT_CERT_DER);
    for (size_t i = 0; i < ARRAY_LEN(forms) && !r->wants_certificate; i++) {
        const struct json *csr = json_get(body, forms[i].member);
        if (csr == NULL || json_is(csr, JSON_T_NULL)) {
            continue;
        }
        r->wants_certificate = true;
        r->csr_form = forms[i].form;
        enum err e = csr_text_to_der(json_str(csr), &der, NULL);
        if (e == OK && (r->csr = arena_span(a, buf_span(&der))).p == NULL) {
            e = E_NOMEM;
        }
        if (e == E_NOMEM) {
            return e;
        }
    }
    return OK;
}

/* A hint: what cannot be read is left out, and the device is not refused for it. */
static enum err read_latencies(struct arena *a, const struct json *body, struct span rid,
                               const struct latencies **ret)
{
    struct err_info info = {0};
    const struct json *o = json_get(json_get(json_get(body, "payload"), "berth"), "latencyMs");
    struct latencies *l = arena_new(a, struct latencies);
    if (o == NULL || l == NULL) {
        return o == NULL ? OK : E_NOMEM;
    }
    enum err e = settings_read_latencies(o, "payload.berth.latencyMs", a, l, &info);
    if (e == OK) {
        *ret = l;
    } else if (e == E_ARG) {
        LOG_INFO("dps.latencies_ignored", L_SPAN("registration", rid), L_WHY(&info, e));
        e = OK;
    }
    return e;
}

static enum rule body_refused(struct verdict *v, enum err e)
{
    if (err_class(e) == ERR_T_LOCAL) {
        return verdict_fail(v, e);
    }
    verdict_fact(v, "detail", span_str(err_why(&v->info, e)));
    (void)verdict_refuse(v, RULE_BODY_JSON, NULL);
    v->err = e; /* the device is told which */
    return v->rule;
}

enum rule registration_body_read(struct arena *a, struct span body, struct span rid,
                                 struct registration_body *ret, struct verdict *v)
{
    AUTO(json_free_p) struct json *j = NULL;
    struct registration_body r = {.has_tpm = false};
    struct span id = SPAN_NONE;
    enum err e;
    /* One SDK sends nothing, or blanks, when it has no payload. */
    if (span_trim(body).n == 0) {
        *ret = r;
        return RULE_OK;
    }
    if ((e = json_read_object(body, LIMIT_DPS_BODY, &j, &v->info)) != OK ||
        (e = json_get_str(j, "registrationId", JSON_F_OPT, &id, &v->info)) != OK) {
        return body_refused(v, e);
    }
    verdict_keep(v, RULE_BODY_JSON);
    if (id.n != 0 && !span_eq_nocase(id, rid)) {
        verdict_fact(v, "presented", id);
        return verdict_refuse(v, RULE_BODY_ID,
                              "registrationId of the body is not that of the request");
    }
    verdict_keep(v, RULE_BODY_ID);
    const struct json *tpm = json_get(j, "tpm");
    r.has_tpm = tpm != NULL && !json_is(tpm, JSON_T_NULL);
    if ((e = read_payload(a, j, &r.payload)) != OK || (e = read_csr(a, j, &r)) != OK ||
        (e = read_latencies(a, j, rid, &r.latencies)) != OK) {
        return verdict_fail(v, e);
    }
    *ret = r;
    return RULE_OK;
}
