/* SPDX-License-Identifier: Apache-2.0 */
/*
 * enroll-tool: burns the identity into a unit, once per unit, on the factory line. One file per command.
 *
 * Exit status  0 done; 1 failed; 2 the command line is not valid; 3 refused: the serial was used before, an identity is there, or the
 *              quota does not allow it.
 * Secrets      group keys come from files, never from the command line; private keys are made here and go only into the identity.
 */
#ifndef ENROLL_TOOL_TOOL_H
#define ENROLL_TOOL_TOOL_H

#include "base/buf.h"
#include "base/cli.h"

extern const struct cli_command tool_burn, tool_ca_create, tool_ca_delegate, tool_verify,
    tool_ledger_list, tool_station_bind, tool_quota_sign, tool_quota_show;
int tool_status(enum err e);
/* The station folder of the options or the default of this user; heap. NULL: cannot be told (message printed). */
char *tool_station(const struct cli_args *a);
/* The office's certificate in the station's folder, which must be the one of this hash (hex): E_SIGNATURE. */
struct cert;
MUST_USE enum err tool_office(const char *station, const char *sha256, struct cert **ret,
                              struct err_info *info);
/* The quota in this file, NULL: the station's quota.json; its signature is checked. */
struct quota;
MUST_USE enum err tool_quota(const char *station, const char *file, const struct cert *office,
                             struct quota *ret, struct err_info *info);
MUST_USE enum err tool_read(const char *path, size_t max, struct buf *ret, struct err_info *info);

#endif
