/* SPDX-License-Identifier: Apache-2.0 */
#include "server/policy.h"

#include <stdlib.h>

#include "server/authn.h"
#include "server/server_int.h"
#include "server/server_sql.h"

/* --- rights ------------------------------------------------------------------------------------- */

static const struct right_def *find_right(const struct server_program *p, struct span word)
{
    for (size_t i = 0; i < p->n_rights; i++) {
        if (span_is(word, p->rights[i].name)) {
            return &p->rights[i];
        }
    }
    return NULL;
}

enum err rights_parse(const struct server_program *p, struct span text, uint32_t *ret_given,
                      struct err_info *info)
{
    uint32_t given = 0;
    struct span rest = text;
    do {
        struct span word = span_trim(span_cut(&rest, ','));
        const struct right_def *r = find_right(p, word);
        if (r == NULL) {
            return err_set(info, E_ARG,
                           word.n == 0 ? "rights: an empty word%.*s"
                                       : "rights: unknown word \"%.*s\"",
                           SPAN_ARG(span_sub(word, 0, 64)));
        }
        given |= r->bit;
    } while (rest.p != NULL);
    *ret_given = given;
    return OK;
}

uint32_t rights_closure(const struct server_program *p, uint32_t given)
{
    uint32_t all = given;
    uint32_t before;
    do {
        before = all;
        for (size_t i = 0; i < p->n_rights; i++) {
            if ((all & p->rights[i].bit) != 0) {
                all |= p->rights[i].implies;
            }
        }
    } while (all != before);
    return all;
}

static void add_rights(const struct server_program *p, uint32_t given, bool with_hidden,
                       struct buf *ret)
{
    bool is_first = true;
    for (size_t i = 0; i < p->n_rights; i++) {
        const struct right_def *r = &p->rights[i];
        if ((given & r->bit) == 0 || (r->hidden && !with_hidden)) {
            continue;
        }
        if (!is_first) {
            buf_add_str(ret, ", ");
        }
        is_first = false;
        buf_add_str(ret, r->name);
    }
}

void rights_text(const struct server_program *p, uint32_t given, struct buf *ret)
{
    add_rights(p, given, false, ret);
}

void rights_text_all(const struct server_program *p, uint32_t given, struct buf *ret)
{
    add_rights(p, given, true, ret);
}

/* --- the worker's snapshot ------------------------------------------------------------------------ */

struct policy_set {
    uint64_t epoch;
    size_t n;
    struct policy_row rows[LIMIT_POLICIES];
};

void policy_set_free(struct policy_set *p)
{
    free(p);
}

/* The epoch is read before the rows: rows newer than their epoch are only read once more. */
static enum err snapshot(struct worker *w, const struct policy_set **ret, struct err_info *info)
{
    uint64_t epoch = atomic_load(&w->s->policy_epoch);
    if (w->policies == NULL) {
        if ((w->policies = NEW(struct policy_set)) == NULL) {
            return E_NOMEM;
        }
    }
    if (w->policies->epoch != epoch) {
        enum err e = sql_policy_all(w->db, w->policies->rows, &w->policies->n);
        if (e != OK) {
            w->policies->epoch = 0; /* half read: never used */
            return err_set(info, e, "cannot read the policies");
        }
        w->policies->epoch = epoch;
    }
    *ret = w->policies;
    return OK;
}

static const struct policy_row *find_row(const struct policy_set *set, struct span name)
{
    for (size_t i = 0; i < set->n; i++) {
        if (span_is(name, set->rows[i].name)) {
            return &set->rows[i];
        }
    }
    return NULL;
}

enum err policy_check(struct worker *w, const struct sas_token *tok, struct policy_use *ret,
                      struct err_info *info)
{
    static const struct policy_row nobody; /* empty keys: same work, never a match */
    const struct policy_set *set = NULL;
    unsigned which;
    enum err e = snapshot(w, &set, info);
    if (e != OK) {
        return e;
    }
    const struct policy_row *row = find_row(set, sas_skn(tok));
    bool is_known = row != NULL;
    row = is_known ? row : &nobody;
    e = authn_token_keys(w, tok, sql_policy_place(row, 0), span_of(row->key[0].b, row->key[0].n),
                         sql_policy_place(row, 1), span_of(row->key[1].b, row->key[1].n), &which,
                         info);
    if (e != OK || !is_known) {
        if (!is_known) {
            (void)err_set(info, E_SIGNATURE, "no policy \"%s\"", tok->skn);
        }
        return e != OK ? e : E_UNAUTHORIZED;
    }
    *ret = (struct policy_use){.id = row->id,
                               .key_gen = row->key[which].gen,
                               .rights = rights_closure(w->s->program, row->given)};
    return OK;
}

bool policy_still_good(struct worker *w, const struct policy_use *use, uint32_t right)
{
    const struct policy_set *set;
    if (snapshot(w, &set, NULL) != OK) {
        return false;
    }
    for (size_t i = 0; i < set->n; i++) {
        const struct policy_row *r = &set->rows[i];
        if (r->id == use->id) {
            return (r->key[0].gen == use->key_gen || r->key[1].gen == use->key_gen) &&
                   (rights_closure(w->s->program, r->given) & right) == right;
        }
    }
    return false;
}
