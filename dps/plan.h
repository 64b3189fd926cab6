/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a registration does, once the allocation has named a hub: kept, made, moved, or refused. A pure function of the record, the
 * enrollment's policy (in op_flags) and the allocation's answer.
 *
 *   no hub yet             made at the hub that was picked                                          initialAssignment
 *   the same one picked    PUT again; reset by policy                                               as it was
 *   another one picked     never: as above · migrate, reset: probed, frozen, (twin,) made           deviceDataMigrated, deviceDataReset;
 *                                                                                                   back at the first: reprovisioned...
 *   not linked any more    made anew where it was picked: its twin cannot be reached · never: 400210
 *
 * Threads     any; called on the writer.
 * Spec        docs/protocol/dps-service-rest.md B4, B5; docs/protocol/dps-device.md 9.
 */
#ifndef DPS_PLAN_H
#define DPS_PLAN_H

#include "dps/dps_sql.h"
#include "dps/rule.h"

struct plan_in {
    struct span pick; /* host; empty: none, and rule and text say why */
    enum rule rule;
    struct span text;
    bool may_stay;         /* the lack of a hub is no failure for a device that has one */
    bool is_linked;        /* row->hub still is */
    struct span device_id; /* that the enrollment wants; empty: the registration id */
};
/* Sets status, the op members and, on failure, the error of row; its op_id, op_cred and flags stand. The rule by which it failed. */
enum rule plan_make(struct reg_row *row, const struct plan_in *in);
/* The registration is refused. When an earlier move left its hub unsettled the operation goes on for that alone. */
void plan_end(struct reg_row *row, enum reg_status status, enum rule rule, struct span text);
/*
 * The steps left when the result of `done` is committed: those behind it. A probe, which commits nothing, is not asked again once the
 * old hub has frozen the device: after a kill it would give up a move whose device the new hub may have made already.
 */
unsigned plan_left(unsigned todo, unsigned done);
/* Does the device leave op_from (a hub, or its name there) in this operation? */
bool plan_moves(const struct reg_row *row);

#endif
