/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the certificates end that stand inside enrollments and groups, for the warnings of server/expiry.h. Groups are told one by one;
 * of individual enrollments their number, and the one that ends next.
 *
 * Of an individual enrollment the later of its two certificates counts: as long as one is good the device comes in.
 */
#ifndef DPS_EXPIRY_H
#define DPS_EXPIRY_H

#include "dps/dps_sql.h"
#include "server/expiry.h"

/* On the writer, whenever an enrollment is stored. had_end: it had certificates before. */
MUST_USE enum err dps_expiry_tx_note(struct store_tx *tx, const struct enr_row *row, bool had_end);
/* server_program.expiries */
MUST_USE enum err dps_expiries(struct db *db, struct expiry_list *l);

#endif
