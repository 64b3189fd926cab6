/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a device was refused: one rule of dps/rule.def, and what was found.
 *
 * Functions that judge a device return enum rule: RULE_OK, or the rule that it broke, so that no refusal can go without its name (an
 * enum err in its place does not compile). They note in the verdict which rules were kept, too: that is the list of checks of a dry run.
 *
 * Ownership   struct verdict is the caller's, plain memory, zeroed at the start.
 * Limits      VERDICT_FACTS bytes of facts; a fact that does not fit is left out.
 * Threads     any; one verdict has one owner.
 */
#ifndef DPS_RULE_H
#define DPS_RULE_H

#include "base/buf.h"
#include "base/err.h"

enum rule {
    RULE_OK = 0,
#define RULE(id, word, err, kind, code, check, mend) id,
#include "dps/rule.def"
#undef RULE
    RULES
};
_Static_assert(RULES <= 64, "one bit each in struct verdict");

struct rule_def {
    const char *word;
    enum err err, kind;
    unsigned code;
    const char *check, *mend;
};
/* Not for RULE_OK. */
const struct rule_def *rule_def(enum rule r);
/* RULE_OK: no such word. */
enum rule rule_of_word(struct span word);
/* errorCode of a registration that failed by it. */
unsigned rule_code(enum rule r);

#define VERDICT_FACTS 640u
struct verdict {
    enum rule rule;
    enum err err; /* what the endpoint makes an answer of; the rule's, unless set to a nearer one */
    unsigned retry_s;     /* when to come back; 0: nothing said */
    uint64_t kept;        /* bit r: looked at, and kept */
    struct err_info info; /* for the log: why; err is the rule's kind */
    /* JSON members without braces: "presented":"dev-2","now":"..." */
    uint16_t n_facts;
    char facts[VERDICT_FACTS];
};
/* All return the rule that they set. fmt: the reason for the log; NULL leaves info->why as it is. */
enum rule verdict_refuse(struct verdict *v, enum rule r, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Not the device's fault. why stays when there is one. OK gives RULE_OK. */
enum rule verdict_fail(struct verdict *v, enum err e);
void verdict_keep(struct verdict *v, enum rule r);
/* A fact for the mending text. Bytes that are not printable are escaped. */
void verdict_fact(struct verdict *v, const char *name, struct span value);
void verdict_fact_time(struct verdict *v, const char *name, int64_t wall_s);
void verdict_fact_hex(struct verdict *v, const char *name, struct span bytes);
void verdict_fact_u64(struct verdict *v, const char *name, uint64_t n);
/* What the endpoint answers. OK for RULE_OK. */
enum err verdict_err(const struct verdict *v);

#endif
