/* SPDX-License-Identifier: Apache-2.0 */
#include "enroll-tool/quota.h"

#include <stdlib.h>

#include "base/text.h"
#include "certs/statement.h"
#include "wire/json.h"

#define MARK ",\"signature\":\""

void quota_done(struct quota *q)
{
    free(q->id);
    free(q->station);
    *q = (struct quota){0};
}

static void add_time(struct buf *b, const char *before, int64_t us)
{
    char text[TIME_ISO_SIZE];
    time_iso7(us, text);
    buf_addf(b, "%s\"%s\"", before, text);
}

enum err quota_write(const struct quota *q, const struct signer_key *office, struct buf *ret,
                     struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(QUOTA_LINE);
    AUTO(buf_done) struct buf sig = BUF_INIT(QUOTA_LINE);
    buf_add_str(&b, "{\"berthQuota\":1,\"id\":");
    json_write_str(&b, span_str(q->id));
    buf_add_str(&b, ",\"station\":");
    json_write_str(&b, span_str(q->station));
    buf_addf(&b, ",\"units\":%llu", (unsigned long long)q->units);
    add_time(&b, ",\"notBefore\":", q->not_before_us);
    add_time(&b, ",\"notAfter\":", q->not_after_us);
    enum err e = buf_err(&b);
    if (e != OK || (e = statement_sign(office, buf_span(&b), &sig, info)) != OK) {
        return e;
    }
    buf_add_str(&b, MARK);
    base64_add(&b, buf_span(&sig));
    buf_add_str(&b, "\"}\n");
    if ((e = buf_err(&b)) == OK) {
        buf_add(ret, buf_span(&b));
    }
    return e != OK ? e : buf_err(ret);
}

static enum err read_time(const struct json *j, const char *name, int64_t *ret,
                          struct err_info *info)
{
    struct span text;
    enum err e = json_get_str(j, name, JSON_F_NEED, &text, info);
    return e != OK ? e : time_parse_iso(text, ret);
}

enum err quota_parse(struct span line, struct quota *ret, struct err_info *info)
{
    AUTO(json_free_p) struct json *j = NULL;
    int64_t version = 0, units = 0;
    struct span id, station;
    struct quota q = {0};
    enum err e = json_read_object(line, QUOTA_LINE, &j, info);
    if (e == E_NOMEM) {
        return e;
    }
    if (e != OK || (e = json_get_int(j, "berthQuota", JSON_F_NEED, 1, 1, &version, info)) != OK ||
        (e = json_get_str(j, "id", JSON_F_NEED, &id, info)) != OK ||
        (e = json_get_str(j, "station", JSON_F_NEED, &station, info)) != OK ||
        (e = json_get_int(j, "units", JSON_F_NEED, 1, QUOTA_UNITS_MAX, &units, info)) != OK ||
        (e = read_time(j, "notBefore", &q.not_before_us, info)) != OK ||
        (e = read_time(j, "notAfter", &q.not_after_us, info)) != OK || id.n == 0 ||
        id.n > LIMIT_ID || !id_registration_ok(station) || station.n > LIMIT_X509_RID) {
        return err_set(info, E_MALFORMED, "this is no quota that this version knows");
    }
    q.units = (uint64_t)units;
    q.id = span_dup(id);
    q.station = span_dup(station);
    if (q.id == NULL || q.station == NULL) {
        quota_done(&q);
        return E_NOMEM;
    }
    *ret = q;
    return OK;
}

enum err quota_read(struct span text, const struct cert *office, struct quota *ret,
                    struct err_info *info)
{
    uint8_t sig[QUOTA_LINE];
    size_t n = sizeof(sig), at = 0;
    struct span line = span_sub(text, 0, span_find(text, '\n'));
    const struct span m = SPAN_LIT(MARK);
    while (at + m.n < line.n && !span_starts(span_from(line, at), m)) {
        at++;
    }
    struct span rest = span_from(line, MIN(at + m.n, line.n));
    if (line.n > QUOTA_LINE || rest.n < 3 ||
        !span_eq(span_from(rest, rest.n - 2), SPAN_LIT("\"}")) ||
        base64_decode_to(span_sub(rest, 0, rest.n - 2), sig, &n) != OK) {
        return err_set(info, E_MALFORMED, "this is no signed quota");
    }
    enum err e = statement_check(office, span_sub(line, 0, at), span_of(sig, n), info);
    if (e == E_SIGNATURE) {
        return err_set(info, e, "the quota was changed, or another office has signed it");
    }
    return e != OK ? e : quota_parse(line, ret, info);
}

enum err quota_may_burn(const struct quota *q, const char *station, uint64_t used, int64_t now_us,
                        struct err_info *info)
{
    char text[TIME_ISO_SIZE];
    if (!span_is(span_str(q->station), station)) {
        return err_set(info, E_SCOPE, "the quota is for station '%s'; this is '%s'", q->station,
                       station);
    }
    if (now_us < q->not_before_us || now_us >= q->not_after_us) {
        time_iso7(now_us < q->not_before_us ? q->not_before_us : q->not_after_us, text);
        return err_set(info, E_EXPIRED, "quota '%s' %s %s", q->id,
                       now_us < q->not_before_us ? "begins" : "ended", text);
    }
    if (used >= q->units) {
        return err_set(info, E_QUOTA, "quota '%s' of %llu units is used up", q->id,
                       (unsigned long long)q->units);
    }
    return OK;
}
