/* SPDX-License-Identifier: Apache-2.0 */
#include "dps/program.h"

int main(int argc, char **argv)
{
    return server_main(dps_program(), argc, argv);
}
