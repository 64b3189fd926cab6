/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define US_PER_S 1000000
#define S_PER_DAY 86400

static int64_t system_wall_us(void *arg)
{
    struct timespec t;
    (void)arg;
    ASSERT(clock_gettime(CLOCK_REALTIME, &t) == 0);
    return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

static uint64_t system_mono_ms(void *arg)
{
    struct timespec t;
    (void)arg;
    ASSERT(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

const struct clock *clock_system(void)
{
    static const struct clock c = {system_wall_us, system_mono_ms, NULL};
    return &c;
}

void random_bytes(void *p, size_t n)
{
    uint8_t *at = p;
    while (n != 0) {
        ssize_t got = getrandom(at, MIN(n, 256), 0);
        if (got < 0) {
            ASSERT(errno == EINTR);
            continue;
        }
        at += got;
        n -= (size_t)got;
    }
}

uint64_t random_below(uint64_t bound)
{
    ASSERT(bound != 0);
    /* Numbers under 2^64 mod bound would make the low results likelier: draw again. */
    uint64_t skip = (0 - bound) % bound;
    uint64_t v;
    do {
        random_bytes(&v, sizeof(v));
    } while (v < skip);
    return v % bound;
}

/* --- civil dates ---------------------------------------------------------------------------- */

struct civil {
    int year;
    int month; /* 1..12 */
    int day;   /* 1..31 */
    int hour, minute, second;
    int us;
    int weekday; /* 0 is Sunday */
};

/* Proleptic Gregorian calendar in eras of 400 years that begin on 1 March, so that the leap day is
 * the last of its year. 719468 days lie between 0000-03-01 and 1970-01-01. */
static int64_t days_from_civil(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void civil_from_days(int64_t days, struct civil *c)
{
    c->weekday = (int)(((days + 4) % 7 + 7) % 7); /* 1970-01-01 was a Thursday */
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    c->day = (int)(doy - (153 * mp + 2) / 5 + 1);
    c->month = (int)(mp < 10 ? mp + 3 : mp - 9);
    c->year = (int)(yoe + era * 400 + (c->month <= 2));
}

/* The texts have four digits for the year: years 1 to 9999, others become the nearest end. */
static struct civil civil_of(int64_t wall_us)
{
    int64_t first = days_from_civil(1, 1, 1) * S_PER_DAY * US_PER_S;
    int64_t last = days_from_civil(10000, 1, 1) * S_PER_DAY * US_PER_S - 1;
    int64_t us = MAX(first, MIN(last, wall_us));
    int64_t s = us / US_PER_S - (us % US_PER_S < 0);
    int64_t days = s / S_PER_DAY - (s % S_PER_DAY < 0);
    int64_t in_day = s - days * S_PER_DAY;
    struct civil c;
    civil_from_days(days, &c);
    c.us = (int)(us - s * US_PER_S);
    c.hour = (int)(in_day / 3600);
    c.minute = (int)(in_day / 60 % 60);
    c.second = (int)(in_day % 60);
    return c;
}

/* --- texts ---------------------------------------------------------------------------------- */

static char *put_digits(char *at, int v, int width)
{
    for (int i = width; i-- > 0;) {
        at[i] = (char)('0' + v % 10);
        v /= 10;
    }
    return at + width;
}

static char *put_text(char *at, const char *s)
{
    size_t n = strlen(s);
    memcpy(at, s, n + 1);
    return at + n;
}

static char *put_time(char *at, const struct civil *c)
{
    at = put_digits(at, c->hour, 2);
    at = put_digits(put_text(at, ":"), c->minute, 2);
    return put_digits(put_text(at, ":"), c->second, 2);
}

void time_iso7(int64_t wall_us, char dst[TIME_ISO_SIZE])
{
    struct civil c = civil_of(wall_us);
    char *at = put_digits(dst, c.year, 4);
    at = put_digits(put_text(at, "-"), c.month, 2);
    at = put_digits(put_text(at, "-"), c.day, 2);
    at = put_time(put_text(at, "T"), &c);
    at = put_digits(put_text(at, "."), c.us, 6);
    (void)put_text(at, "0Z");
}

void time_rfc1123(int64_t wall_us, char dst[TIME_ISO_SIZE])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct civil c = civil_of(wall_us);
    char *at = put_text(put_text(dst, days[c.weekday]), ", ");
    at = put_digits(at, c.day, 2);
    at = put_text(put_text(put_text(at, " "), months[c.month - 1]), " ");
    at = put_digits(at, c.year, 4);
    at = put_time(put_text(at, " "), &c);
    (void)put_text(at, " GMT");
}

void time_tracking(int64_t wall_us, char dst[TIME_ISO_SIZE])
{
    struct civil c = civil_of(wall_us);
    char *at = put_digits(dst, c.month, 2);
    at = put_digits(put_text(at, "/"), c.day, 2);
    at = put_digits(put_text(at, "/"), c.year, 4);
    at = put_time(put_text(at, " "), &c);
    *at = '\0';
}

/* --- parsing -------------------------------------------------------------------------------- */

static bool take_char(struct span *s, const char *any_of)
{
    if (s->n == 0 || s->p[0] == 0 || strchr(any_of, s->p[0]) == NULL) {
        return false;
    }
    *s = span_from(*s, 1);
    return true;
}

static bool take_number(struct span *s, size_t width, int low, int high, int *ret)
{
    uint64_t v;
    if (s->n < width || !span_to_u64(span_sub(*s, 0, width), &v) || v < (uint64_t)low ||
        v > (uint64_t)high) {
        return false;
    }
    *s = span_from(*s, width);
    *ret = (int)v;
    return true;
}

/* One to nine digits after the point; what is finer than a microsecond is cut off. */
static bool take_fraction(struct span *s, int *ret_us)
{
    int us = 0;
    size_t n = 0;
    for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++) {
        if (n < 6) {
            us = us * 10 + (s->p[n] - '0');
        }
    }
    if (n == 0 || n > 9) {
        return false;
    }
    for (size_t i = n; i < 6; i++) {
        us *= 10;
    }
    *s = span_from(*s, n);
    *ret_us = us;
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && is_leap);
}

/* "Z" or "+hh:mm": minutes east of Greenwich. */
static bool take_zone(struct span *s, int *ret_minutes)
{
    int sign = s->n != 0 && s->p[0] == '-' ? -1 : 1;
    int hours;
    int minutes;
    if (take_char(s, "Zz")) {
        *ret_minutes = 0;
        return true;
    }
    if (!take_char(s, "+-") || !take_number(s, 2, 0, 23, &hours) || !take_char(s, ":") ||
        !take_number(s, 2, 0, 59, &minutes)) {
        return false;
    }
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

enum err time_parse_iso(struct span s, int64_t *ret_wall_us)
{
    struct civil c = {0};
    int zone;
    bool ok = take_number(&s, 4, 1, 9999, &c.year) && take_char(&s, "-") &&
              take_number(&s, 2, 1, 12, &c.month) && take_char(&s, "-") &&
              take_number(&s, 2, 1, 31, &c.day) && take_char(&s, "Tt") &&
              take_number(&s, 2, 0, 23, &c.hour) && take_char(&s, ":") &&
              take_number(&s, 2, 0, 59, &c.minute) && take_char(&s, ":") &&
              take_number(&s, 2, 0, 59, &c.second);
    if (!ok || c.day > days_in_month(c.year, c.month)) {
        return E_MALFORMED;
    }
    if (take_char(&s, ".") && !take_fraction(&s, &c.us)) {
        return E_MALFORMED;
    }
    if (!take_zone(&s, &zone) || s.n != 0) {
        return E_MALFORMED;
    }
    int64_t in_day = c.hour * 3600 + c.minute * 60 + c.second - zone * 60;
    int64_t seconds = days_from_civil(c.year, c.month, c.day) * S_PER_DAY + in_day;
    if (seconds < days_from_civil(1, 1, 1) * S_PER_DAY ||
        seconds >= days_from_civil(10000, 1, 1) * S_PER_DAY) {
        return E_MALFORMED; /* the offset leads out of what the texts can say */
    }
    *ret_wall_us = seconds * US_PER_S + c.us;
    return OK;
}

void guid_new(char dst[GUID_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t b[16];
    random_bytes(b, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 4122 4.4: version 4 */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* and its variant */
    for (size_t i = 0; i < sizeof(b); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *dst++ = '-';
        }
        *dst++ = digits[b[i] >> 4];
        *dst++ = digits[b[i] & 15];
    }
    *dst = '\0';
}
