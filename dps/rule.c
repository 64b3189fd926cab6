/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/rule.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/text.h"
#include "wire/json.h"

#define FACT_MAX 200u /* bytes of one */

static const struct rule_def defs[RULES] = {
#define RULE(id, word, err, kind, code, check, mend) [id] = {word, err, kind, code, check, mend},
#include "dps/rule.def"
#undef RULE
};

const struct rule_def *rule_def(enum rule r)
{
    ASSERT(r > RULE_OK && r < RULES);
    return &defs[r];
}

enum rule rule_of_word(struct span word)
{
    for (unsigned r = RULE_OK + 1; r < RULES; r++) {
        if (span_is(word, defs[r].word)) {
            return (enum rule)r;
        }
    }
    return RULE_OK;
}

unsigned rule_code(enum rule r)
{
    return r == RULE_OK ? 0 : rule_def(r)->code;
}

enum rule verdict_refuse(struct verdict *v, enum rule r, const char *fmt, ...)
{
    const struct rule_def *d = rule_def(r);
    v->rule = r;
    v->err = d->err;
    if (fmt != NULL) {
        char text[sizeof(v->info.why)];
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        (void)err_set(&v->info, d->kind, "%s", text);
    }
    v->info.err = d->kind;
    return r;
}

enum rule verdict_fail(struct verdict *v, enum err e)
{
    if (e == OK) {
        return RULE_OK;
    }
    v->rule = RULE_FAILURE;
    v->err = e;
    if (v->info.why[0] == '\0') {
        (void)err_set(&v->info, e, "%s", err_text(e));
    }
    v->info.err = e;
    return RULE_FAILURE;
}

void verdict_keep(struct verdict *v, enum rule r)
{
    v->kept |= UINT64_C(1) << r;
}

/* Peers choose these bytes: what is not ASCII text becomes '?', as in every reason. */
void verdict_fact(struct verdict *v, const char *name, struct span value)
{
    char text[FACT_MAX];
    AUTO(buf_done) struct buf b = BUF_INIT(VERDICT_FACTS);
    size_t n = MIN(value.n, sizeof(text));
    for (size_t i = 0; i < n; i++) {
        text[i] = value.p[i] >= 0x20 && value.p[i] < 0x7f ? (char)value.p[i] : '?';
    }
    buf_addf(&b, "%s\"%s\":", v->n_facts != 0 ? "," : "", name);
    json_write_str(&b, span_of(text, n));
    if (buf_err(&b) == OK && b.n <= sizeof(v->facts) - v->n_facts) {
        memcpy(v->facts + v->n_facts, b.p, b.n);
        v->n_facts = (uint16_t)(v->n_facts + b.n);
    }
}

void verdict_fact_time(struct verdict *v, const char *name, int64_t wall_s)
{
    char iso[TIME_ISO_SIZE];
    if (wall_s < 0 || wall_s > INT64_C(253402300799)) { /* up to the year 9999 */
        verdict_fact(v, name, wall_s < 0 ? SPAN_LIT("before 1970") : SPAN_LIT("never"));
        return;
    }
    time_iso7(wall_s * 1000000, iso);
    iso[19] = 'Z'; /* whole seconds */
    iso[20] = '\0';
    verdict_fact(v, name, span_str(iso));
}

void verdict_fact_hex(struct verdict *v, const char *name, struct span bytes)
{
    char hex[2 * 32 + 1];
    hex_to_cstr(span_sub(bytes, 0, 32), false, hex);
    verdict_fact(v, name, span_str(hex));
}

void verdict_fact_u64(struct verdict *v, const char *name, uint64_t n)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    verdict_fact(v, name, span_str(text));
}

enum err verdict_err(const struct verdict *v)
{
    return v->rule == RULE_OK ? OK : v->err;
}
