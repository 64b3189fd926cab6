/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all commands, in the order of --help: those with code of their own, then the plain REST calls. */
#include "ctl/ctl.h"

#define COMMAND(x) extern const struct cli_command x;
#include "ctl/commands.def"
#undef COMMAND

const struct cli_command *ctl_command_at(size_t i)
{
    static const struct cli_command *const list[] = {
#define COMMAND(x) &x,
#include "ctl/commands.def"
#undef COMMAND
    };
    return i < ARRAY_LEN(list) ? list[i] : ctl_rest_command(i - ARRAY_LEN(list));
}
