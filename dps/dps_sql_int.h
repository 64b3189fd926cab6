/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of the statements, for the typed files alone. Threads: none of its own. */
#ifndef DPS_DPS_SQL_INT_H
#define DPS_DPS_SQL_INT_H

enum sql_id {
#define SQL(name, text) name,
#include "dps/sql.def"
#undef SQL
    SQL_COUNT
};

#endif
