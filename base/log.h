/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured log: an event name and typed fields, no prose.
 *
 *   LOG_INFO("dps.assigned", L_STR("registration", rid), L_SPAN("hub", host), L_U64("elapsed_ms", ms));
 *
 * One event is one line on standard error (logfmt, or JSON by option). Bytes of peers are escaped:
 * control characters, quotes, bidi and non-UTF-8 never reach the line raw. There is no field type
 * for secrets. Events are named in docs/man/berth-log.5; renaming one is a user-visible change.
 *
 * Threads     any; a line is one write(2).
 * Limits      LIMIT_LOG_LINE bytes, longer fields are cut and marked with "..."; per event name a
 *             rate (LIMIT_LOG_RATE a second) beyond which lines are counted, and the count is
 *             told by "log.suppressed" later. Errors of class BUG are never suppressed.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/clock.h"
#include "base/err.h"
#include "base/span.h"

enum log_level { LOG_L_DEBUG, LOG_L_INFO, LOG_L_WARN, LOG_L_ERROR };
enum log_format { LOG_F_LOGFMT, LOG_F_JSON };
enum log_type { LOG_T_SPAN, LOG_T_U64, LOG_T_I64, LOG_T_ERR, LOG_T_BOOL };

struct log_field {
    const char *name;
    enum log_type type;
    union {
        struct span span;
        uint64_t u64;
        int64_t i64;
        enum err err;
        bool flag;
    } v;
};

#define L_SPAN(k, s) ((struct log_field){.name = (k), .type = LOG_T_SPAN, .v.span = (s)})
#define L_STR(k, s) L_SPAN(k, span_str(s))
#define L_U64(k, n) ((struct log_field){.name = (k), .type = LOG_T_U64, .v.u64 = (uint64_t)(n)})
#define L_I64(k, n) ((struct log_field){.name = (k), .type = LOG_T_I64, .v.i64 = (int64_t)(n)})
#define L_BOOL(k, b) ((struct log_field){.name = (k), .type = LOG_T_BOOL, .v.flag = (b)})
/* Writes err=E_NAME; pair it with L_WHY. */
#define L_ERR(e) ((struct log_field){.name = "err", .type = LOG_T_ERR, .v.err = (e)})
#define L_WHY(info, e) L_STR("why", err_why((info), (e)))

#define LOG_AT(level, event, ...)                                                                  \
    do {                                                                                           \
        if (log_enabled(level)) {                                                                  \
            const struct log_field log_f_[] = {__VA_ARGS__};                                       \
            log_event((level), (event), log_f_, ARRAY_LEN(log_f_));                                \
        }                                                                                          \
    } while (0)
#define LOG_DEBUG(...) LOG_AT(LOG_L_DEBUG, __VA_ARGS__)
#define LOG_INFO(...) LOG_AT(LOG_L_INFO, __VA_ARGS__)
#define LOG_WARN(...) LOG_AT(LOG_L_WARN, __VA_ARGS__)
#define LOG_ERROR(...) LOG_AT(LOG_L_ERROR, __VA_ARGS__)

/* Call once, early; program is copied into each line. */
void log_setup(const char *program, enum log_level min, enum log_format format);
bool log_enabled(enum log_level level);
/* event is a literal: it is kept. */
void log_event(enum log_level level, const char *event, const struct log_field *f, size_t n);
/* Tests: lines go to fn instead of standard error (NULL puts it back). */
typedef void (*log_sink_fn)(void *arg, struct span line);
void log_set_sink(log_sink_fn fn, void *arg);
/* Tests: this clock instead of the system's (NULL puts it back). */
void log_set_clock(const struct clock *c);
/* "debug", "info", "warn", "error"; false when unknown. */
bool log_level_parse(struct span s, enum log_level *ret);

#endif
