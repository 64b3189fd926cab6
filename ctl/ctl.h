/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `berth`, the administrators' command line: a table of commands, and what they share.
 *
 * Exit status  as base/cli.h; 3: refused by the server.
 * Output       for people on a terminal; with --json one JSON value (or JSON lines for streams) on standard output and nothing else.
 *              Bytes from devices never reach a terminal raw: cli_print_safe escapes them (threat N13).
 * Secrets      never on the command line: --env FILE (what the sandbox wrote), --connection-string-file FILE, or the environment
 *              variable BERTH_CONNECTION_STRING_FILE naming a file.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include "base/cli.h"
#include "client/service.h"

/* A command in commands.def; options is an array, words how many stand behind the name. */
#define CTL_COMMAND(var, name, usage, help, options, words, run)                                   \
    const struct cli_command var = {name,  usage, help, options, ARRAY_LEN(options),               \
                                    words, words, run};
/* The i-th, NULL behind the last. */
const struct cli_command *ctl_command_at(size_t i);
const struct cli_command *ctl_rest_command(size_t i);

/* --- where to ---------------------------------------------------------------------------- */
#define CTL_CONNECT_OPTIONS                                                                        \
    {"env", "FILE", "Endpoints and credentials as `berth sandbox up` wrote them."},                \
        {"connection-string-file", "FILE", "File with a service connection string."},              \
        {"ca-file", "FILE", "CA certificates of the server; the system's when not given."},        \
        {"https-port", "PORT", "Port of the service when it is not 443."},                         \
    {                                                                                              \
        "json", NULL, "Machine-readable output."                                                   \
    }
#define CTL_HUB_OPTION                                                                             \
    {                                                                                              \
        "hub", "N", "Which hub of the environment file, from 1 (1)."                               \
    }
enum ctl_plane { CTL_DPS, CTL_HUB };
/* hub: index in env.json, from 0. */
MUST_USE enum err ctl_connect(const struct cli_args *a, enum ctl_plane plane, unsigned hub,
                              struct service **ret, struct err_info *info);
/* The environment's proxy, read once by the main thread; without one a struct that names none. A sandbox's own work uses none. */
MUST_USE enum err ctl_proxy(const struct proxy **ret, struct err_info *info);
/* CA certificates for connections of our own, by the same options; *ret NULL: the system's. Heap. */
MUST_USE enum err ctl_ca_file(const struct cli_args *a, char **ret, struct err_info *info);
MUST_USE enum err ctl_env_hubs(const struct cli_args *a, size_t *ret, struct err_info *info);
/* Does one call and prints the answer's JSON, or `done` when it has none. */
int ctl_call(struct service *s, const struct service_call *c, const struct cli_args *a,
             const char *done);
void ctl_print_json(FILE *out, const struct json *j);
/* Text over several lines, at blanks. */
void ctl_print_wrapped(const char *first, const char *indent, struct span text);
/* What the DPS stores of one device: members enrollment, registration, hub. */
void ctl_print_device_state(const struct json *j);
/* Same call, answer kept; EXIT_DONE or the status to exit with (message printed). */
int ctl_ask(struct service *s, const struct service_call *c, struct service_answer *ret);
/* A paged query: one JSON object a line. */
int ctl_print_pages(struct service *s, struct service_call *c, const struct cli_args *a);
/* A key goes into a file that only its owner reads; never to the terminal. */
MUST_USE enum err ctl_save_key(struct span key, const char *file, struct err_info *info);
MUST_USE enum err ctl_read_file(const char *path, struct buf *ret, struct err_info *info);
/* The same; "-" is standard input, a file or a pipe. The caller wipes ret. */
MUST_USE enum err ctl_read_file_or_stdin(const char *path, struct buf *ret, struct err_info *info);

/* --- tpm_cmd.c --------------------------------------------------------------------------------------- */
/* Fills an attestation of type tpm from --endorsement-key or --tpm-info, and --tpm-ca, whichever were given. */
MUST_USE enum err ctl_tpm_attestation(const struct cli_args *a, struct json *att,
                                      struct err_info *info);

#endif
