/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest struct server_program, for tests of the frame: a few routes, two policies, an echo in place of MQTT. The test
 * program starts itself again with "mini-server" as its first argument and is then this server.
 */
#ifndef SERVER_TESTS_MINI_H
#define SERVER_TESTS_MINI_H

#include "server/server.h"

enum { MINI_READ = 1, MINI_WRITE = 2, MINI_DEVICE = 8, MINI_ADMIN = 16 };
extern const struct server_program mini_program;

#endif
