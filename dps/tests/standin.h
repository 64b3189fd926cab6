/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DPS_TESTS_STANDIN_H
#define DPS_TESTS_STANDIN_H

#include "server/server.h"

extern const struct server_program standin_program; /* one worker: its memory is not locked */

#endif
