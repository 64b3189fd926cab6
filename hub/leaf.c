/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/leaf.h"

#include "base/rd.h"

enum {
    DER_INTEGER = 0x02,
    DER_UTC_TIME = 0x17,
    DER_GENERALIZED_TIME = 0x18,
    DER_SEQUENCE = 0x30,
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

enum err leaf_dates(struct span der, int64_t *ret_not_before_s, int64_t *ret_not_after_s)
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
    int64_t from = read_time(&validity), to = read_time(&validity);
    if (rd_err(&file) != OK || rd_err(&cert) != OK || rd_err(&tbs) != OK ||
        rd_end(&validity) != OK) {
        return E_CERT;
    }
    *ret_not_before_s = from;
    *ret_not_after_s = to;
    return OK;
}
