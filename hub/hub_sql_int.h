/* SPDX-License-Identifier: Apache-2.0 */
/* Insides of hub_sql*.c: the numbers of the statements, and how a row of device is read. */
#ifndef HUB_HUB_SQL_INT_H
#define HUB_HUB_SQL_INT_H

#include "hub/hub_sql.h"

enum {
#define SQL(name, text) name,
#include "hub/sql.def"
#undef SQL
    SQL_COUNT
};

/* One row, or E_NOT_FOUND. */
MUST_USE enum err sql_one_row(struct q *q);
/* IDENTITY_COLS. a NULL: spans are borrowed from the row. */
MUST_USE enum err sql_take_device(struct q *q, struct arena *a, struct device *ret);
/* The two columns behind them in lists. */
void sql_take_seen(struct q *q, struct device *d);

#endif
