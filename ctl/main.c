/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ctl.h"

int main(int argc, char **argv)
{
    return cli_main("berth", ctl_command_at, argc, argv);
}
