/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --init. init.json is on disk before the commit that makes its keys count: a crash between leaves a folder that is not
 * initialised, and the next --init replaces the file. The other order could leave keys that nobody has seen.
 */
#include "server/server_int.h"

#include <stdlib.h>

#include "base/fs.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/policy.h"
#include "server/server_sql.h"
#include "wire/json.h"

#define NEW_KEY_BYTES 32u
#define INIT_JSON_MAX (256u << 10)

struct new_policy {
    struct policy_row row;
    struct secret key[2];
};

struct init_op {
    struct store_op op;
    const struct keyring *keyring;
    struct new_policy *policies;
    size_t n;
};

static enum err init_tx(struct store_tx *tx, struct store_op *op)
{
    struct init_op *o = CONTAINER_OF(op, struct init_op, op);
    enum err e = OK;
    for (size_t i = 0; e == OK && i < o->n; i++) {
        struct policy_row row = o->policies[i].row; /* the tx may run twice */
        row.key[0].n = row.key[1].n = 0;
        e = policy_tx_insert(tx, o->keyring, &row, o->policies[i].key);
    }
    const struct audit_entry a = {SPAN_LIT("(init)"), SPAN_LIT("local"), SPAN_LIT("initialise"),
                                  SPAN_LIT("OK")};
    if (e != OK || (e = audit_tx_add(tx, &a)) != OK) {
        return e;
    }
    return sql_state_set(tx->db, STATE_INITIALISED, 1);
}

static enum err make_policies(struct server *s, struct new_policy *np, struct err_info *info)
{
    const struct server_program *p = s->program;
    for (size_t i = 0; i < p->n_policies; i++) {
        const struct policy_def *def = &p->policies[i];
        enum err e = rights_parse(p, span_str(def->rights), &np[i].row.given, info);
        ASSERT(e == OK &&
               span_to_cstr(span_str(def->name), np[i].row.name, sizeof(np[i].row.name)));
        for (unsigned k = 0; k < 2; k++) {
            if ((e = secret_random(&np[i].key[k], NEW_KEY_BYTES)) != OK) {
                return e;
            }
        }
    }
    return OK;
}

static void add_policy_json(const struct server_program *p, const struct new_policy *np,
                            struct buf *b)
{
    AUTO(buf_done) struct buf rights = BUF_INIT(1024);
    rights_text(p, np->row.given, &rights);
    buf_addf(b, "{\"name\":\"%s\",\"rights\":", np->row.name);
    json_write_str(b, buf_span(&rights));
    buf_add_str(b, ",\"primaryKey\":\"");
    base64_add(b, secret_span(&np->key[0]));
    buf_add_str(b, "\",\"secondaryKey\":\"");
    base64_add(b, secret_span(&np->key[1]));
    buf_add_str(b, "\"}");
}

static enum err write_init_json(struct server *s, const struct new_policy *np,
                                struct err_info *info)
{
    const struct server_program *p = s->program;
    struct buf b = BUF_INIT(INIT_JSON_MAX);
    AUTO(mem_free_p) char *path = fs_join(server_base_conf(s)->data_dir, "init.json");
    enum err e = path != NULL ? OK : E_NOMEM;
    /* Reserved at once: a growing buffer would leave copies of the keys behind. */
    if (e == OK && buf_reserve(&b, 64u << 10) == NULL) {
        e = buf_err(&b);
    }
    buf_addf(&b, "{\"program\":\"%s\",\"hostName\":", p->name);
    json_write_str(&b, server_first_name(s));
    buf_add_str(&b, ",\"policies\":[");
    for (size_t i = 0; i < p->n_policies; i++) {
        if (i != 0) {
            buf_add_u8(&b, ',');
        }
        add_policy_json(p, &np[i], &b);
    }
    buf_add_u8(&b, ']');
    if (e == OK && p->init_names != NULL) {
        e = p->init_names(s, &b, info);
    }
    buf_add_str(&b, "}\n");
    e = e != OK ? e : buf_err(&b);
    if (e == OK) {
        e = fs_write_atomic(path, buf_span(&b), 0600, info);
    }
    mem_wipe(b.p, b.cap);
    buf_done(&b);
    return e;
}

static enum err make_instance(struct server *s, struct err_info *info)
{
    size_t n = s->program->n_policies;
    struct new_policy *np = mem_new(MAX(n, 1u) * sizeof(*np));
    if (np == NULL) {
        return E_NOMEM;
    }
    struct init_op op = {.keyring = s->keyring, .policies = np, .n = n};
    op.op.tx = init_tx;
    enum err e;
    if ((e = make_policies(s, np, info)) == OK && (e = write_init_json(s, np, info)) == OK) {
        e = server_write_now(s, &op.op);
    }
    mem_wipe(np, n * sizeof(*np));
    free(np);
    return e;
}

enum err server_init_instance(struct server *s, bool *ret_made, struct err_info *info)
{
    struct db *db = NULL;
    int64_t done = 0;
    enum err e;
    if ((e = server_open_data(s, true, info)) == OK &&
        (e = store_reader_open(s->store, &db, info)) == OK) {
        e = sql_state_get(db, STATE_INITIALISED, &done);
        store_reader_close(db);
    }
    if (e == OK && done == 0) {
        e = make_instance(s, info);
        *ret_made = e == OK;
    }
    server_close_data(s);
    return e;
}
