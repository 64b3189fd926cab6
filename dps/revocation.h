/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One act that cuts a device off everywhere: for one that was stolen (threat D10).
 *
 *   in one transaction: its individual enrollment is disabled, or a disabled one is made that beats its group;
 *                       a call is owed to each hub that has the device, or may get it from an operation under way
 *   then:               dps/leftover.h sends those calls, again after any crash, and writes down what each hub said
 *
 * The same call again is harmless, and asks the hubs again. Certificates that were issued to the device serve nowhere from then on (its
 * hub refuses the device, the DPS its renewal); those whose time is not over are told, since others may know their CA.
 *
 * Order       the calls carry a sequence behind that of every operation of the device so far: an older create that comes late is
 *             refused by the hub, and one that comes first is undone. A device that is not there yet is looked for until the operation
 *             under way has ended.
 * Ownership   struct revocation_wish owns what enrollment_input_done() and the arena end.
 * Threads     wish, told: the worker's; tx: the writer.
 * Errors      E_ARG, E_ID: the id. E_NOT_FOUND: of revocation_write, never revoked.
 * Limits      hubs: at most three for one device. REVOCATION_CERTS certificates are told.
 * Spec        docs/protocol/dps-service-rest.md C8.
 */
#ifndef DPS_REVOCATION_H
#define DPS_REVOCATION_H

#include "dps/enrollment.h"
#include "dps/revocation_sql.h"
#include "dps/rule.h"

#define REVOCATION_CERTS 16u

struct revocation_wish {
    struct enr_input made; /* the individual enrollment, when there is none */
};
/* rid is copied. */
MUST_USE enum err revocation_read(struct dps *d, struct span rid, struct revocation_wish *ret,
                                  struct err_info *info);
void revocation_wish_done(struct revocation_wish *w);
MUST_USE enum err revocation_tx(struct store_tx *tx, struct dps *d, const struct revocation_wish *w,
                                struct err_info *info);
/* A hub's word, by the call that was owed. */
MUST_USE enum err revocation_tx_told(struct store_tx *tx, const struct left_row *left,
                                     enum revocation_state state, unsigned http_status);
/* v refuses a device whose own enrollment is disabled: the log and `berth dps explain` say that too, and that it was revoked. The device
 * hears what it would else (docs/protocol/dps-device.md 7, D25). */
void revocation_note(struct db *db, struct arena *a, const struct enr_row *own, struct verdict *v);
/* Everything that is known, as JSON. now_us: certificates that ended are left out. */
MUST_USE enum err revocation_write(struct db *db, struct span fold, int64_t now_us, struct buf *b);

#endif
