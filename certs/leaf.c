/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/leaf.h"

#include "base/limits.h"
#include "base/rd.h"

enum {
    DER_INTEGER = 0x02,
    DER_OID = 0x06,
    DER_UTF8 = 0x0c,
    DER_PRINTABLE = 0x13,
    DER_IA5 = 0x16,
    DER_UTC_TIME = 0x17,
    DER_GENERALIZED_TIME = 0x18,
    DER_SEQUENCE = 0x30,
    DER_SET = 0x31,
    DER_VERSION = 0xa0,
};

/* One element; its tag and content. Definite lengths of at most two bytes: LIMIT_CERT_DER is below 64 KiB. */
static struct span read_any(struct rd *r, uint8_t *ret_tag)
{
    *ret_tag = rd_u8(r);
    size_t n = rd_u8(r);
    if (n == 0x81) {
        n = rd_u8(r);
    } else if (n == 0x82) {
        n = rd_be16(r);
    } else {
        rd_require(r, n < 0x80);
    }
    return rd_bytes(r, n);
}

static struct span read_tag(struct rd *r, uint8_t want)
{
    uint8_t tag;
    struct span s = read_any(r, &tag);
    rd_require(r, tag == want);
    return s;
}

static int64_t two(struct rd *r)
{
    uint8_t a = rd_u8(r), b = rd_u8(r);
    rd_require(r, a >= '0' && a <= '9' && b >= '0' && b <= '9');
    return (a - '0') * 10 + (b - '0');
}

/* Days since 1970 of a date of the proleptic Gregorian calendar. */
static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2 ? 1 : 0;
    int64_t era = y / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* RFC 5280 4.1.2.5: YYMMDDHHMMSSZ (50 and above is 19xx) or YYYYMMDDHHMMSSZ. */
static int64_t read_time(struct rd *outer)
{
    uint8_t tag;
    struct rd r = rd_init(read_any(outer, &tag));
    rd_require(outer, tag == DER_UTC_TIME || tag == DER_GENERALIZED_TIME);
    int64_t y = two(&r);
    y = tag == DER_GENERALIZED_TIME ? y * 100 + two(&r) : y + (y >= 50 ? 1900 : 2000);
    int64_t m = two(&r), d = two(&r), hh = two(&r), mm = two(&r), ss = two(&r);
    rd_require(&r, rd_u8(&r) == 'Z');
    rd_require(&r, m >= 1 && m <= 12 && d >= 1 && d <= 31 && hh <= 23 && mm <= 59 && ss <= 60);
    rd_require(outer, rd_end(&r) == OK);
    return days_of(y, m, d) * 86400 + hh * 3600 + mm * 60 + ss;
}

static bool is_text(uint8_t tag)
{
    return tag == DER_UTF8 || tag == DER_PRINTABLE || tag == DER_IA5;
}

/* Several CNs are refused: which one names the device would be a matter of taste. */
static enum err read_cn(struct span name, struct span *ret, struct err_info *info)
{
    static const uint8_t id_at_cn[] = {0x55, 0x04, 0x03};
    struct rd rdns = rd_init(name);
    struct span cn = SPAN_NONE;
    unsigned n = 0;
    while (rd_err(&rdns) == OK && rdns.n != 0) {
        struct rd set = rd_init(read_tag(&rdns, DER_SET));
        while (rd_err(&rdns) == OK && rd_err(&set) == OK && set.n != 0) {
            uint8_t tag;
            struct rd pair = rd_init(read_tag(&set, DER_SEQUENCE));
            struct span oid = read_tag(&pair, DER_OID);
            struct span value = read_any(&pair, &tag);
            rd_require(&set, rd_end(&pair) == OK);
            if (span_eq(oid, span_of(id_at_cn, sizeof(id_at_cn)))) {
                n++;
                rd_require(&set, is_text(tag) && span_is_utf8(value) && value.n >= 1 &&
                                     value.n <= LIMIT_X509_RID);
                cn = value;
            }
        }
        rd_require(&rdns, rd_err(&set) == OK);
    }
    if (rd_err(&rdns) != OK || n != 1) {
        return err_set(info, E_CERT,
                       "the subject has no CN, several, or one that is no plain text");
    }
    *ret = cn;
    return OK;
}

/* Up to the subject: dates and the subject's bytes. */
static enum err read_head(struct span der, struct leaf *ret, struct span *ret_subject)
{
    struct rd file = rd_init(der);
    struct rd cert = rd_init(read_tag(&file, DER_SEQUENCE));
    struct rd tbs = rd_init(read_tag(&cert, DER_SEQUENCE));
    if (tbs.n != 0 && tbs.p[0] == DER_VERSION) {
        (void)read_tag(&tbs, DER_VERSION);
    }
    (void)read_tag(&tbs, DER_INTEGER);  /* serialNumber */
    (void)read_tag(&tbs, DER_SEQUENCE); /* signature */
    (void)read_tag(&tbs, DER_SEQUENCE); /* issuer */
    struct rd validity = rd_init(read_tag(&tbs, DER_SEQUENCE));
    ret->not_before_s = read_time(&validity);
    ret->not_after_s = read_time(&validity);
    *ret_subject = read_tag(&tbs, DER_SEQUENCE);
    bool ok =
        rd_err(&file) == OK && rd_err(&cert) == OK && rd_err(&tbs) == OK && rd_end(&validity) == OK;
    return ok ? OK : E_CERT;
}

enum err leaf_read(struct span der, struct leaf *ret, struct err_info *info)
{
    struct leaf l = {0};
    struct span subject;
    if (read_head(der, &l, &subject) != OK) {
        return err_set(info, E_CERT, "certificate cannot be read");
    }
    enum err e = read_cn(subject, &l.cn, info);
    if (e == OK) {
        *ret = l;
    }
    return e;
}

enum err leaf_dates(struct span der, int64_t *ret_not_before_s, int64_t *ret_not_after_s)
{
    struct leaf l = {0};
    struct span subject;
    enum err e = read_head(der, &l, &subject);
    if (e == OK) {
        *ret_not_before_s = l.not_before_s;
        *ret_not_after_s = l.not_after_s;
    }
    return e;
}
