/* SPDX-License-Identifier: Apache-2.0 */
/* berth-dps as a program of the frame: wiring, configuration, life cycle. Apart from main(), so that tests can run it. */
#ifndef DPS_PROGRAM_H
#define DPS_PROGRAM_H

#include "dps/dps.h"

const struct server_program *dps_program(void);

#endif
