/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/limits.h"

#define FIELD_MAX 1024u /* bytes of one value in the line, escapes included */
#define TAIL_ROOM 24u   /* for what ends every line, also a full one */
#define BUCKETS 256u

/* How many lines of one event name this second had. */
struct bucket {
    const char *event;
    uint64_t second;
    uint64_t lines;
    uint64_t suppressed; /* not yet told */
};

static const char *const levels[] = {
    [LOG_L_DEBUG] = "debug",
    [LOG_L_INFO] = "info",
    [LOG_L_WARN] = "warn",
    [LOG_L_ERROR] = "error",
};

static atomic_int min_level = LOG_L_INFO;

/* Everything below: under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char program_name[32] = "berth";
static enum log_format line_format = LOG_F_LOGFMT;
static log_sink_fn sink;
static void *sink_arg;
static const struct clock *clock_used;
static struct bucket buckets[BUCKETS];
static struct bucket other_events = {.event = "(others)"}; /* when the table is full */
static unsigned n_pending;                                 /* buckets with something untold */

/* --- one line -------------------------------------------------------------------------------- */

struct line {
    uint8_t b[LIMIT_LOG_LINE];
    size_t n;
    enum log_format format;
    bool is_cut; /* a field found no room */
};

static bool put_within(struct line *l, struct span s, size_t end)
{
    if (l->n > end || s.n > end - l->n) {
        return false;
    }
    if (s.n != 0) {
        memcpy(l->b + l->n, s.p, s.n);
        l->n += s.n;
    }
    return true;
}

static bool put(struct line *l, struct span s)
{
    return put_within(l, s, sizeof(l->b) - TAIL_ROOM);
}

/* Characters that change how the text around them is shown, or end a line. */
static bool is_deceptive(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        {0x00, 0x1f},       /* C0 */
        {0x7f, 0x9f},       /* DEL, C1 */
        {0x061c, 0x061c},   /* Arabic letter mark */
        {0x200b, 0x200f},   /* zero width, direction marks */
        {0x2028, 0x202e},   /* separators, bidi embeddings and overrides */
        {0x2060, 0x206f},   /* invisible operators, bidi isolates */
        {0xfeff, 0xfeff},   /* byte order mark */
        {0xfff9, 0xfffb},   /* interlinear annotation */
        {0xe0000, 0xe007f}, /* tags */
    };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        if (c >= ranges[i].first && c <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

static uint32_t code_point(struct span utf8)
{
    static const uint8_t lead_bits[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = utf8.p[0] & lead_bits[utf8.n];
    for (size_t i = 1; i < utf8.n; i++) {
        c = c << 6 | (utf8.p[i] & 0x3fu);
    }
    return c;
}

#define ESCAPE_SIZE 16

static void escape_unit(char *out, size_t n, uint32_t c, bool is_json)
{
    if (c == '\n' || c == '\r' || c == '\t') {
        (void)snprintf(out, n, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    } else if (c < 0x80 && !is_json) {
        (void)snprintf(out, n, "\\x%02x", c);
    } else if (c <= 0xffff) {
        (void)snprintf(out, n, "\\u%04x", c);
    } else { /* JSON has no other way than the two halves of UTF-16; RFC 8259 7 */
        c -= 0x10000;
        (void)snprintf(out, n, "\\u%04x\\u%04x", 0xd800 | (c >> 10), 0xdc00 | (c & 0x3ff));
    }
}

/* The first character of s as it stands in the line; returns how many bytes of s that is. */
static size_t escape_char(struct span s, bool is_json, char out[ESCAPE_SIZE])
{
    size_t n = span_utf8_len(s);
    if (n == 0) {
        /* Not UTF-8. JSON cannot say which byte it was. */
        if (is_json) {
            (void)snprintf(out, ESCAPE_SIZE, "\\ufffd");
        } else {
            (void)snprintf(out, ESCAPE_SIZE, "\\x%02x", s.p[0]);
        }
        return 1;
    }
    uint32_t c = code_point(span_sub(s, 0, n));
    if (is_deceptive(c)) {
        escape_unit(out, ESCAPE_SIZE, c, is_json);
        return n;
    }
    char *at = out;
    if (c == '"' || c == '\\') {
        *at++ = '\\';
    }
    memcpy(at, s.p, n);
    at[n] = '\0';
    return n;
}

static bool is_bare(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool is_alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!is_alnum && (c == 0 || strchr("-_./:@+,%~", c) == NULL)) {
            return false;
        }
    }
    return s.n != 0;
}

static bool put_string(struct line *l, struct span s)
{
    bool is_quoted = l->format == LOG_F_JSON || !is_bare(s);
    size_t end = MIN(l->n + FIELD_MAX, sizeof(l->b) - TAIL_ROOM);
    if (end < l->n + 8) {
        return false; /* not even room for the marks of a cut value */
    }
    end -= 4; /* dots and a quote */
    if (is_quoted) {
        (void)put(l, SPAN_LIT("\""));
    }
    while (s.n != 0) {
        char text[ESCAPE_SIZE];
        size_t n = escape_char(s, l->format == LOG_F_JSON, text);
        if (!put_within(l, span_str(text), end)) {
            (void)put(l, SPAN_LIT("..."));
            break;
        }
        s = span_from(s, n);
    }
    if (is_quoted) {
        (void)put(l, SPAN_LIT("\""));
    }
    return true;
}

static bool put_number(struct line *l, const struct log_field *f)
{
    char text[24];
    if (f->type == LOG_T_U64) {
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)f->v.u64);
    } else {
        (void)snprintf(text, sizeof(text), "%lld", (long long)f->v.i64);
    }
    return put(l, span_str(text));
}

static bool put_value(struct line *l, const struct log_field *f)
{
    switch (f->type) {
    case LOG_T_SPAN:
        return put_string(l, f->v.span);
    case LOG_T_U64:
    case LOG_T_I64:
        return put_number(l, f);
    case LOG_T_ERR:
        return put_string(l, span_str(err_name(f->v.err)));
    case LOG_T_BOOL:
        return put(l, span_str(f->v.flag ? "true" : "false"));
    }
    ASSERT(false);
}

static void put_field(struct line *l, const struct log_field *f)
{
    size_t before = l->n;
    bool is_json = l->format == LOG_F_JSON;
    bool ok = is_json ? put(l, before == 0 ? SPAN_LIT("{\"") : SPAN_LIT(",\""))
                      : put(l, before == 0 ? SPAN_NONE : SPAN_LIT(" "));
    ok = ok && put(l, span_str(f->name)) && put(l, is_json ? SPAN_LIT("\":") : SPAN_LIT("="));
    if (!ok || !put_value(l, f)) {
        l->n = before; /* a field is there whole, or cut and marked, or not at all */
        l->is_cut = true;
    }
}

static void end_line(struct line *l)
{
    bool is_json = l->format == LOG_F_JSON;
    if (l->is_cut) {
        struct span mark = is_json ? SPAN_LIT(",\"log_cut\":true") : SPAN_LIT(" log_cut=true");
        ASSERT(put_within(l, mark, sizeof(l->b)));
    }
    ASSERT(put_within(l, is_json ? SPAN_LIT("}\n") : SPAN_LIT("\n"), sizeof(l->b)));
}

/* --- who may speak --------------------------------------------------------------------------- */

static struct bucket *bucket_of(const char *event)
{
    uint32_t h = 2166136261u; /* FNV-1a: event names are ours, nobody aims at them */
    for (const char *c = event; *c != '\0'; c++) {
        h = (h ^ (uint8_t)*c) * 16777619u;
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct bucket *b = &buckets[(h + i) % BUCKETS];
        if (b->event == NULL) {
            b->event = event;
        }
        if (b->event == event || strcmp(b->event, event) == 0) {
            return b;
        }
    }
    return &other_events;
}

static bool admit(const char *event, uint64_t second, bool always)
{
    struct bucket *b = bucket_of(event);
    if (b->second != second) {
        b->second = second;
        b->lines = 0;
    }
    if (b->lines < LIMIT_LOG_RATE || always) {
        b->lines++;
        return true;
    }
    n_pending += b->suppressed == 0;
    b->suppressed++;
    return false;
}

/* One bucket whose second is over and that has something to tell; event NULL when there is none. */
static struct bucket take_pending(uint64_t second)
{
    for (unsigned i = 0; n_pending != 0 && i <= BUCKETS; i++) {
        struct bucket *b = i < BUCKETS ? &buckets[i] : &other_events;
        if (b->suppressed != 0 && b->second != second) {
            struct bucket told = *b;
            b->suppressed = 0;
            n_pending--;
            return told;
        }
    }
    return (struct bucket){0};
}

/* --- out ------------------------------------------------------------------------------------- */

static void write_line(const struct line *l)
{
    pthread_mutex_lock(&lock);
    log_sink_fn fn = sink;
    if (fn != NULL) {
        fn(sink_arg, span_of(l->b, l->n)); /* under the lock: the test that takes it back waits */
    }
    pthread_mutex_unlock(&lock);
    for (size_t at = 0; fn == NULL && at < l->n;) {
        ssize_t n = write(STDERR_FILENO, l->b + at, l->n - at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; /* there is nobody to tell that the log is gone */
        }
        at += (size_t)n;
    }
}

static void emit(enum log_level level, const char *event, int64_t wall_us,
                 const struct log_field *f, size_t n)
{
    struct line l;
    char now[TIME_ISO_SIZE];
    char program[sizeof(program_name)];
    l.n = 0;
    l.is_cut = false;
    pthread_mutex_lock(&lock);
    l.format = line_format;
    memcpy(program, program_name, sizeof(program));
    pthread_mutex_unlock(&lock);
    time_iso7(wall_us, now);
    const struct log_field head[] = {
        L_STR("ts", now),
        L_STR("level", levels[level]),
        L_STR("program", program),
        L_STR("event", event),
    };
    for (size_t i = 0; i < ARRAY_LEN(head); i++) {
        put_field(&l, &head[i]);
    }
    for (size_t i = 0; i < n; i++) {
        put_field(&l, &f[i]);
    }
    end_line(&l);
    write_line(&l);
}

static bool has_bug(const struct log_field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (f[i].type == LOG_T_ERR && err_class(f[i].v.err) == ERR_T_BUG) {
            return true;
        }
    }
    return false;
}

void log_event(enum log_level level, const char *event, const struct log_field *f, size_t n)
{
    ASSERT((unsigned)level < ARRAY_LEN(levels));
    if (!log_enabled(level)) {
        return;
    }
    pthread_mutex_lock(&lock);
    const struct clock *c = clock_used != NULL ? clock_used : clock_system();
    uint64_t second = clock_mono_ms(c) / 1000;
    int64_t wall_us = clock_wall_us(c);
    struct bucket pending = take_pending(second);
    bool is_admitted = admit(event, second, has_bug(f, n));
    pthread_mutex_unlock(&lock);
    if (pending.event != NULL) {
        const struct log_field told[] = {
            L_STR("name", pending.event),
            L_U64("count", pending.suppressed),
        };
        emit(LOG_L_WARN, "log.suppressed", wall_us, told, ARRAY_LEN(told));
    }
    if (is_admitted) {
        emit(level, event, wall_us, f, n);
    }
}

/* --- set-up ---------------------------------------------------------------------------------- */

void log_setup(const char *program, enum log_level min, enum log_format format)
{
    pthread_mutex_lock(&lock);
    (void)snprintf(program_name, sizeof(program_name), "%s", program);
    line_format = format;
    pthread_mutex_unlock(&lock);
    atomic_store(&min_level, (int)min);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&min_level, memory_order_relaxed);
}

void log_set_sink(log_sink_fn fn, void *arg)
{
    pthread_mutex_lock(&lock);
    sink = fn;
    sink_arg = arg;
    pthread_mutex_unlock(&lock);
}

void log_set_clock(const struct clock *c)
{
    pthread_mutex_lock(&lock);
    clock_used = c;
    pthread_mutex_unlock(&lock);
}

bool log_level_parse(struct span s, enum log_level *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (span_is(s, levels[i])) {
            *ret = (enum log_level)i;
            return true;
        }
    }
    return false;
}
