/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all commands, in the order of --help. */
#include "ctl/ctl.h"

#define COMMAND(x) extern const struct ctl_command x;
#include "ctl/commands.def"
#undef COMMAND

const struct ctl_command *const ctl_commands[] = {
#define COMMAND(x) &x,
#include "ctl/commands.def"
#undef COMMAND
    NULL,
};
