/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env.json: where the servers of a sandbox (or of any installation that writes such a file) are, and with what credentials a client
 * comes. Written by `berth sandbox up`.
 *
 *   {"idScope":"...","dpsHost":"...","httpsPort":443,"mqttsPort":8883,"caFile":"ca.pem","dpsServiceConnectionString":"...",
 *    "hubs":[{"serviceConnectionString":"..."}]}
 *
 * Ownership   results are the caller's.
 * Errors      E_NOT_FOUND no such file; E_JSON, E_ARG it is no JSON object, with its name in info.
 * Secrets     the file's text is wiped; the tree holds connection strings.
 * Threads     any; blocks on the disk.
 */
#ifndef CLIENT_ENV_H
#define CLIENT_ENV_H

#include "wire/json.h"

MUST_USE enum err env_load(const char *file, struct json **ret, struct err_info *info);
/* The servers' CA: a relative name stands beside the file. Heap, NULL when memory is short. */
char *env_ca_file(const struct json *env, const char *file);
/* "httpsPort", "mqttsPort"; 0: it names none. */
uint16_t env_port(const struct json *env, const char *name);

#endif
