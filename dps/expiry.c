/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/expiry.h"

#include <stdio.h>

#include "certs/leaf.h"

#define MAX_GROUPS (2u * LIMIT_DPS_GROUPS)
#define MAX_COUNT 1000000u

static int64_t end_of(struct span der)
{
    int64_t begin_s, end_s;
    return der.n != 0 && leaf_dates(der, &begin_s, &end_s) == OK ? end_s * 1000000 : 0;
}

enum err dps_expiry_tx_note(struct store_tx *tx, const struct enr_row *row, bool had_end)
{
    bool has_end = row->kind == ENR_INDIVIDUAL && row->att == ATT_CERT;
    if (has_end) {
        return sql_end_put(tx->db, row->id, MAX(end_of(row->cert[0]), end_of(row->cert[1])));
    }
    return had_end ? sql_end_del(tx->db, row->id) : OK;
}

static enum err add_group(void *arg, const struct enr_row *row)
{
    static const char *const slots[2] = {"primary", "secondary"};
    for (unsigned i = 0; row->att == ATT_CERT && i < 2; i++) {
        char name[LIMIT_ID + 16];
        if (row->cert[i].n != 0) {
            (void)snprintf(name, sizeof(name), "%.*s/%s", SPAN_ARG(row->fold), slots[i]);
            expiry_add(arg, "group", span_str(name), span_str(name), end_of(row->cert[i]));
        }
    }
    return OK;
}

enum err dps_expiries(struct db *db, struct expiry_list *l)
{
    char next[LIMIT_ID + 1];
    int64_t until_us = 0, n = 0;
    enum err e = sql_enr_page(db, ENR_GROUP, SPAN_NONE, MAX_GROUPS, add_group, l);
    if (e != OK || (e = sql_end_count(db, expiry_warn_until_us(l), MAX_COUNT, &n)) != OK) {
        return e;
    }
    expiry_count(l, "enrollment", (uint64_t)n);
    e = sql_end_next(db, expiry_now_us(l), next, sizeof(next), &until_us);
    if (e == OK) {
        expiry_add(l, "enrollment", SPAN_NONE, span_str(next), until_us);
    }
    return e == E_NOT_FOUND ? OK : e;
}
