/* SPDX-License-Identifier: Apache-2.0 */
/* Modules: part of hub/hub_sql.h. */
#include "hub/hub_sql_int.h"

enum err hub_sql_module_by_name(struct db *db, struct arena *a, struct span device_id,
                                struct span module_id, struct device *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_MODULE_BY_NAME);
    q_text(&q, 1, device_id);
    q_text(&q, 2, module_id);
    enum err e = sql_one_row(&q);
    return e != OK ? e : sql_take_device(&q, a, ret);
}

enum err hub_sql_identity_by_name(struct db *db, struct arena *a, struct span device_id,
                                  struct span module_id, struct device *ret)
{
    struct device d;
    if (module_id.n == 0) {
        return hub_sql_device_by_id(db, a, device_id, ret);
    }
    enum err e = hub_sql_module_by_name(db, a, device_id, module_id, ret);
    if (e == E_NOT_FOUND && (e = hub_sql_device_by_id(db, a, device_id, &d)) == OK) {
        e = E_NO_MODULE;
    }
    return e;
}

enum err hub_sql_module_list(struct db *db, int64_t device, hub_sql_device_fn fn, void *arg)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_MODULE_LIST);
    q_i64(&q, 1, device);
    while (q_step(&q)) {
        struct device d;
        enum err e = sql_take_device(&q, NULL, &d);
        if (e == OK) {
            sql_take_seen(&q, &d);
            e = fn(arg, &d);
        }
        if (e != OK) {
            return e;
        }
    }
    return q_err(&q);
}

enum err hub_sql_module_count(struct db *db, int64_t device, uint64_t *ret)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_MODULE_COUNT);
    q_i64(&q, 1, device);
    enum err e = sql_one_row(&q);
    if (e == OK) {
        *ret = (uint64_t)q_col_i64(&q, 0);
    }
    return e;
}

enum err hub_sql_module_identities(struct db *db, int64_t device, int64_t ret[LIMIT_MODULES],
                                   size_t *ret_n)
{
    AUTO(q_end) struct q q = q_begin(db, &hub_module, SQL_MODULE_IDENTITIES);
    size_t n = 0;
    q_i64(&q, 1, device);
    while (n < LIMIT_MODULES && q_step(&q)) {
        ret[n++] = q_col_i64(&q, 0);
    }
    enum err e = q_err(&q);
    if (e == OK) {
        *ret_n = n;
    }
    return e;
}
