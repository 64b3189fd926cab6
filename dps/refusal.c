/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/refusal.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/map.h"
#include "base/text.h"
#include "dps/dps_sql.h"
#include "server/metrics.h"

#define PEER_MAX 64u
#define TRANSPORT_MAX 16u
#define VERSION_MAX 32u

struct entry {
    struct store_op op;
    struct refusals *r;
    struct map_node node; /* by key, while it waits */
    struct list link;     /* in r->known or r->strangers, the oldest first */
    bool is_known;
    enum rule rule;
    uint64_t count;
    int64_t first_us, last_us;
    char key[LIMIT_ID + 2]; /* fold, and the rule in one byte */
    size_t fold_n;
    char rid[LIMIT_ID + 1], peer[PEER_MAX], transport[TRANSPORT_MAX], version[VERSION_MAX];
    char why[sizeof(((struct err_info *)NULL)->why)];
    char facts[VERDICT_FACTS];
    size_t n_facts;
};
_Static_assert(RULES < 256, "one byte of the key");

struct refusals {
    struct dps_worker *dw;
    struct map entries;
    struct list known, strangers;
    size_t n_strangers, n_writing;
    struct timer flush;
};

static struct loop *loop_of(const struct refusals *r)
{
    return worker_loop(r->dw->w);
}

/* Peers choose some of these bytes: only ASCII text is kept. */
static void cut(struct span s, char *dst, size_t n)
{
    n = MIN(s.n, n - 1);
    for (size_t i = 0; i < n; i++) {
        dst[i] = s.p[i] >= 0x20 && s.p[i] < 0x7f ? (char)s.p[i] : '?';
    }
    dst[n] = '\0';
}

/* --- entries ---------------------------------------------------------------------------------------- */

static void entry_out(struct entry *en)
{
    struct refusals *r = en->r;
    map_del(&r->entries, &en->node);
    list_del(&en->link);
    r->n_strangers -= en->is_known ? 0 : 1;
}

static void drop(struct refusals *r, struct entry *en)
{
    metric_add(r->dw->w, DPS_M_REFUSALS_NOT_KEPT, 1);
    free(en);
}

/* Room for one more of that kind? Strangers make way for those we know. */
static bool has_room(struct refusals *r, bool is_known)
{
    if (!is_known) {
        return r->n_strangers < REFUSAL_STRANGERS && r->entries.count < REFUSAL_ENTRIES;
    }
    if (r->entries.count >= REFUSAL_ENTRIES && r->n_strangers != 0) {
        struct entry *oldest = LIST_OF(r->strangers.next, struct entry, link);
        entry_out(oldest);
        drop(r, oldest);
    }
    return r->entries.count < REFUSAL_ENTRIES;
}

static bool entry_in(struct entry *en)
{
    struct refusals *r = en->r;
    en->node.key = span_of(en->key, en->fold_n + 1);
    if (!has_room(r, en->is_known) || map_add(&r->entries, &en->node) != OK) {
        return false;
    }
    list_add_tail(en->is_known ? &r->known : &r->strangers, &en->link);
    r->n_strangers += en->is_known ? 0 : 1;
    return true;
}

/* --- to the writer ------------------------------------------------------------------------------------ */

static enum err write_tx(struct store_tx *tx, struct store_op *op)
{
    const struct entry *en = CONTAINER_OF(op, struct entry, op);
    const struct refusal_row row = {
        .fold = span_of(en->key, en->fold_n),
        .rule = span_str(rule_def(en->rule)->word),
        .rid = span_str(en->rid),
        .is_known = en->is_known,
        .count = (int64_t)en->count,
        .first_us = en->first_us,
        .last_us = en->last_us,
        .peer = span_str(en->peer),
        .transport = span_str(en->transport),
        .api_version = span_str(en->version),
        .why = span_str(en->why),
        .facts = span_of(en->facts, en->n_facts),
    };
    enum err e = sql_refusal_add(tx->db, &row);
    return e != OK
               ? e
               : sql_refusal_trim(tx->db, en->is_known,
                                  en->is_known ? LIMIT_DPS_REFUSALS : LIMIT_DPS_REFUSALS_STRANGERS);
}

static void flush(struct timer *t);

static void flush_later(struct refusals *r)
{
    if (!timer_is_set(&r->flush) && r->entries.count != 0) {
        timer_set(loop_of(r), &r->flush, REFUSAL_FLUSH_MS, flush);
    }
}

/* Back among those that wait; what was refused meanwhile is added up. */
static void entry_back(struct entry *en)
{
    struct refusals *r = en->r;
    struct map_node *n = map_get(&r->entries, span_of(en->key, en->fold_n + 1));
    if (n != NULL) {
        struct entry *later = CONTAINER_OF(n, struct entry, node);
        later->count += en->count;
        later->first_us = MIN(later->first_us, en->first_us);
        free(en);
    } else if (!entry_in(en)) {
        drop(r, en);
    }
}

static void written(struct msg *m)
{
    struct entry *en = CONTAINER_OF(CONTAINER_OF(m, struct store_op, msg), struct entry, op);
    struct refusals *r = en->r;
    r->n_writing--;
    r->dw->n_pending--;
    if (en->op.result == OK) {
        free(en);
    } else {
        LOG_WARN("dps.refusal_not_stored", L_STR("registration", en->rid), L_ERR(en->op.result));
        entry_back(en);
    }
    flush_later(r);
}

/* False: not now. */
static bool entry_write(struct entry *en)
{
    struct refusals *r = en->r;
    entry_out(en);
    en->op = (struct store_op){.tx = write_tx, .home = loop_mailbox(loop_of(r)), .bulk = true};
    en->op.msg.run = written;
    en->op.bytes = sizeof(*en);
    if (store_submit(server_store(r->dw->dps->server), &en->op) != OK) {
        entry_back(en);
        return false;
    }
    r->n_writing++;
    r->dw->n_pending++;
    return true;
}

static void write_some(struct refusals *r, size_t most)
{
    struct list *const from[] = {&r->known, &r->strangers};
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        while (r->n_writing < most && from[i]->next != from[i]) {
            if (!entry_write(LIST_OF(from[i]->next, struct entry, link))) {
                return;
            }
        }
    }
}

static void flush(struct timer *t)
{
    struct refusals *r = CONTAINER_OF(t, struct refusals, flush);
    write_some(r, REFUSAL_WRITES);
    flush_later(r);
}

/* --- noting --------------------------------------------------------------------------------------------- */

static void fill(struct entry *en, const struct refusal_from *from, const struct verdict *v)
{
    cut(from->rid, en->rid, sizeof(en->rid));
    cut(from->peer, en->peer, sizeof(en->peer));
    cut(from->transport, en->transport, sizeof(en->transport));
    cut(from->api_version, en->version, sizeof(en->version));
    cut(span_str(v->info.why), en->why, sizeof(en->why));
    memcpy(en->facts, v->facts, v->n_facts);
    en->n_facts = v->n_facts;
}

static struct entry *entry_new(struct refusals *r, const char *key, size_t fold_n, enum rule rule)
{
    struct entry *en = NEW(struct entry);
    bool is_known = false;
    if (en == NULL ||
        sql_refusal_is_known(worker_db(r->dw->w), span_of(key, fold_n), &is_known) != OK) {
        free(en);
        return NULL;
    }
    en->r = r;
    en->is_known = is_known;
    en->rule = rule;
    en->fold_n = fold_n;
    memcpy(en->key, key, fold_n + 1);
    if (!entry_in(en)) {
        free(en);
        return NULL;
    }
    return en;
}

void refusal_note(struct dps_worker *dw, const struct refusal_from *from, const struct verdict *v)
{
    struct refusals *r = dw->refusals;
    struct refusal_from whose = *from;
    char key[LIMIT_ID + 2];
    if (v->rule == RULE_OK || v->rule == RULE_BACKLOG || v->err == E_DRAINING) {
        return;
    }
    if (!id_registration_ok(whose.rid)) {
        whose.rid = SPAN_LIT(REFUSAL_NO_ID);
    }
    memcpy(key, whose.rid.p, whose.rid.n);
    text_lower(key, whose.rid.n);
    key[whose.rid.n] = (char)v->rule;
    int64_t now_us = loop_wall_us(loop_of(r));
    struct map_node *n = map_get(&r->entries, span_of(key, whose.rid.n + 1));
    struct entry *en =
        n != NULL ? CONTAINER_OF(n, struct entry, node) : entry_new(r, key, whose.rid.n, v->rule);
    if (en == NULL) {
        metric_add(dw->w, DPS_M_REFUSALS_NOT_KEPT, 1);
        return;
    }
    en->first_us = en->count == 0 ? now_us : en->first_us;
    en->last_us = now_us;
    en->count++;
    fill(en, &whose, v);
    flush_later(r);
}

void refusal_note_end(struct dps_worker *dw, const struct refusal_from *from, enum rule rule,
                      struct span why)
{
    struct verdict v = {.rule = RULE_OK};
    (void)verdict_refuse(&v, rule, "%.*s", SPAN_ARG(why));
    refusal_note(dw, from, &v);
}

/* --- life ------------------------------------------------------------------------------------------------- */

enum err refusals_new(struct dps_worker *dw, struct refusals **ret)
{
    struct refusals *r = NEW(struct refusals);
    if (r == NULL) {
        return E_NOMEM;
    }
    r->dw = dw;
    map_init(&r->entries);
    list_init(&r->known);
    list_init(&r->strangers);
    *ret = r;
    return OK;
}

void refusals_drain(struct refusals *r)
{
    timer_stop(loop_of(r), &r->flush);
    write_some(r, SIZE_MAX);
}

void refusals_free(struct refusals *r)
{
    if (r == NULL) {
        return;
    }
    struct map_cursor c = {0, NULL};
    struct map_node *n;
    while ((n = map_next(&r->entries, &c)) != NULL) {
        struct entry *en = CONTAINER_OF(n, struct entry, node);
        entry_out(en);
        free(en);
    }
    map_done(&r->entries);
    free(r);
}
