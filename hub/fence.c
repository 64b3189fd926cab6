/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/fence.h"

#include "hub/hub_sql.h"

static struct span scope_of(struct span owner)
{
    return span_cut(&owner, '/');
}

static int64_t ago(const struct store_tx *tx, int64_t s)
{
    return tx->now_us - s * 1000000;
}

enum err fence_tx_check(struct store_tx *tx, struct span id, struct span owner, int64_t sequence,
                        struct err_info *info)
{
    int64_t newest = 0;
    if (sequence == 0) {
        return OK;
    }
    enum err e = hub_sql_fence_get(tx->db, id, scope_of(owner), ago(tx, FENCE_KEPT_S), &newest);
    if (e == E_NOT_FOUND) {
        return OK;
    }
    return e == OK && sequence < newest
               ? err_set(info, E_ETAG,
                         "a later operation was on device \"%.*s\", which is not here any more",
                         SPAN_ARG(id))
               : e;
}

static enum err put(struct store_tx *tx, struct span id, struct span owner, int64_t sequence)
{
    const struct fence_row row = {id, scope_of(owner), sequence, tx->now_us};
    enum err e = hub_sql_fence_trim(tx->db, 0, ago(tx, FENCE_KEPT_S));
    e = e != OK ? e : hub_sql_fence_trim(tx->db, FENCES_MAX, ago(tx, FENCE_LEAST_S));
    return e != OK ? e : hub_sql_fence_put(tx->db, &row);
}

enum err fence_tx_put(struct store_tx *tx, struct span id, struct span owner, int64_t sequence,
                      struct err_info *info)
{
    bool is_full = false;
    if (sequence == 0) {
        return OK;
    }
    enum err e = put(tx, id, owner, sequence);
    e = e != OK ? e : hub_sql_fence_is_over(tx->db, FENCES_MAX, &is_full);
    return e == OK && is_full
               ? err_set(info, E_BUSY, "too many devices were deleted within %d s", FENCE_LEAST_S)
               : e;
}

enum err fence_tx_deleted(struct store_tx *tx, struct arena *a, const struct device *row)
{
    struct device_op op;
    if (row->owner.n == 0) {
        return OK;
    }
    enum err e = hub_sql_device_op_get(tx->db, a, row->identity, &op);
    /* The next number, so that the operation itself, repeated late, is older. */
    return e != OK || op.sequence == 0
               ? e
               : put(tx, row->id, row->owner, MIN(op.sequence, tx->now_us - 1) + 1);
}
